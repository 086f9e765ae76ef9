//! What a stage says of itself: which collections and partitions it holds, and what it was made from.
//!
//! Written last and whole, so a stage with a manifest is complete. A stage that was made from something else is not used.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;

use serde::{Deserialize, Serialize};
use whimbrel_plugin_api::source::RejectedRecord;
use whimbrel_plugin_api::{Collection, Cursor, Error, ErrorKind};

use crate::events::SnapshotsRead;

/// The name of the manifest in its folder.
const FILE_NAME: &str = "stage.json";
/// The form of manifest and files that this version writes and reads.
const FORMAT: u32 = 2;

/// A complete stage.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct StageManifest {
    /// The form.
    pub format: u32,
    /// Of no other stage, not even of one that is made from the same: what was read from a stage goes on in that one alone.
    pub id: String,
    /// The digest of everything that decides what is read: the source and its config, the chosen collections, the mode. Of a
    /// stage that transforms have filled: the stage before it and the transforms.
    pub made_from: String,
    /// The run that made it.
    pub run_id: String,
    /// When it was complete, RFC 3339.
    pub at: String,
    /// What it holds, in the order of the plan.
    pub collections: Vec<StagedCollection>,
    /// Records that could not be read.
    pub rejected_count: u64,
    /// The first of them, without their data.
    pub rejected: Vec<(String, RejectedRecord)>,
}

/// One collection of a stage.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StagedCollection {
    /// As the stage before had it, its schema that of the files.
    pub collection: Collection,
    /// Its partitions.
    pub partitions: Vec<StagedPartition>,
    /// Records that were left out on purpose while it was filled.
    pub filtered_count: u64,
    /// Records that were refused while it was filled.
    pub rejected_count: u64,
    /// The snapshots of the source at which its records were read, if the source has said so.
    #[serde(default)]
    pub snapshots: SnapshotsRead,
}

impl StagedCollection {
    /// Records in all partitions.
    pub fn record_count(&self) -> u64 {
        self.partitions
            .iter()
            .map(|partition| partition.record_count)
            .sum()
    }
}

/// One partition of a stage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StagedPartition {
    /// The descriptor that the source gave it.
    pub descriptor: Cursor,
    /// How a person reads it.
    pub label: String,
    /// The file in the stage's folder; none if the partition has no records.
    pub file: Option<String>,
    /// Records.
    pub record_count: u64,
    /// Octets of the file.
    pub size_bytes: u64,
}

impl StageManifest {
    /// Reads the manifest in `folder`; `None` if there is none that this version can use.
    pub fn read(folder: &Path) -> Option<Self> {
        let text = std::fs::read(folder.join(FILE_NAME)).ok()?;
        let manifest: Self = serde_json::from_slice(&text).ok()?;
        let is_whole = manifest.collections.iter().all(|staged| {
            staged.partitions.iter().all(|partition| {
                partition.file.as_ref().is_none_or(|file| {
                    std::fs::metadata(folder.join(file))
                        .is_ok_and(|facts| facts.len() == partition.size_bytes)
                })
            })
        });
        (manifest.format == FORMAT && is_whole).then_some(manifest)
    }

    /// Writes it into `folder`, whole or not at all.
    ///
    /// # Errors
    /// `staging.unwritable`.
    pub fn write(mut self, folder: &Path) -> Result<Self, Error> {
        self.format = FORMAT;
        let text = serde_json::to_vec_pretty(&self)
            .map_err(|error| Error::internal("a stage could not be described").with_cause(&error))?;
        let partial = folder.join(format!("{FILE_NAME}.partial"));
        let write = || -> std::io::Result<()> {
            let mut file = File::create(&partial)?;
            file.write_all(&text)?;
            file.sync_all()?;
            std::fs::rename(&partial, folder.join(FILE_NAME))?;
            File::open(folder)?.sync_all()
        };
        write().map_err(|error| unwritable(folder, &error))?;
        Ok(self)
    }

    /// An id that no other stage has, for one that the run `run_id` makes.
    pub fn new_id(run_id: &str) -> String {
        format!("{run_id}-{:016x}", fastrand::u64(..))
    }

    /// Records in all.
    pub fn record_count(&self) -> u64 {
        self.collections.iter().map(StagedCollection::record_count).sum()
    }
}

/// A stage cannot be written.
pub(super) fn unwritable(folder: &Path, error: &std::io::Error) -> Error {
    let is_full = matches!(
        error.kind(),
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded
    );
    let (code, what) = if is_full {
        ("staging.disk_full", "there is no room left for staged records in")
    } else {
        ("staging.unwritable", "staged records cannot be written to")
    };
    Error::new(
        ErrorKind::Unavailable,
        code,
        format!("{what} `{}`", folder.display()),
    )
    .with_help("make room there, or choose another folder with `--working-dir`")
    .with_cause(error)
}

/// A cursor or a partition is none of this stage: what was read of another one cannot be gone on with here.
pub(super) fn other_stage(collection: &str, what: &str) -> Error {
    Error::new(
        ErrorKind::Integrity,
        "staging.other_stage",
        format!("{what} of `{collection}` is not of the records that are staged now"),
    )
    .with_help("begin anew with `whimbrel run`")
}

/// A stage cannot be read.
pub(super) fn unreadable(file: &Path, error: &dyn std::error::Error) -> Error {
    Error::new(
        ErrorKind::Integrity,
        "staging.unreadable",
        format!("the staged records in `{}` cannot be read", file.display()),
    )
    .with_help("run again with `--read-anew`, which reads the source once more")
    .with_cause(error)
}
