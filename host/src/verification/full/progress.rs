//! How far the reading of a side is, in a file that is whole at every moment.
//!
//! The file is a line with the BLAKE3 of what follows, and JSON. It is for the reading that has written it alone: one of
//! something else, one of another version, or one that is damaged is as good as none. Neighbours: `reading` asks for it,
//! [`crate::verification::pairs`] are the files whose marks are in it.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use whimbrel_plugin_api::{Cursor, Error, Field, Partition};

use super::reading::SideRead;
use crate::crash_site;
use crate::events::{LossCount, SnapshotsRead};
use crate::verification::pairs::{PairMark, fault};
use crate::workspace::write_whole;

/// Grows with each change to this file, to files of pairs, or to how records become digests.
const FORMAT: u32 = 3;
/// The name of the file.
const NAME: &str = "progress.json";

/// The first line, with its end.
const CHECK_BYTES: usize = 64 + 1;

/// What is known of one part.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct PartProgress {
    /// The part itself, so that it is the same one when it is gone on with.
    pub(super) partition: Partition,
    /// How far its file is durable.
    pub(super) mark: PairMark,
    /// Where to go on after that.
    pub(super) cursor: Cursor,
    /// Nothing is left of it.
    pub(super) is_done: bool,
    /// Records up to the mark that could not be read: the first of them.
    pub(super) unreadable: Vec<String>,
    /// How many they are.
    pub(super) unreadable_count: u64,
    /// Records up to the mark that a transform refused.
    pub(super) refused_count: u64,
    /// What the declared losses have touched up to the mark.
    pub(super) losses: Vec<LossCount>,
    /// Records with at least one such value.
    pub(super) lossy_record_count: u64,
    /// Fields of the recipe that the part lacks, once its schema is known.
    pub(super) missing_fields: Option<Vec<String>>,
    /// Fields of the part that the recipe lacks.
    pub(super) new_fields: Vec<Field>,
    /// The snapshots at which it was read.
    pub(super) snapshots: SnapshotsRead,
}

impl PartProgress {
    /// Of a part of which nothing was read.
    pub(super) fn begun(partition: Partition) -> Self {
        Self {
            partition,
            mark: PairMark::default(),
            cursor: Cursor::start(),
            is_done: false,
            unreadable: Vec::new(),
            unreadable_count: 0,
            refused_count: 0,
            losses: Vec::new(),
            lossy_record_count: 0,
            missing_fields: None,
            new_fields: Vec::new(),
            snapshots: SnapshotsRead::default(),
        }
    }
}

#[derive(Serialize, Deserialize)]
struct Content {
    likeness: String,
    parts: Vec<PartProgress>,
}

/// A digest of what is read and how. The snapshot makes no difference: one that is gone on with has another one, and what
/// differs is looked at a second time anyway. Neither does how much there is.
pub(super) fn likeness(what: &SideRead<'_>) -> Result<String, Error> {
    let mut request = what.request.clone();
    request.snapshot = None;
    let recipe = &what.recipe;
    let transformed = what
        .transformed
        .map(|(collection, _, jobs)| (&collection.name, &collection.schema, &collection.key, jobs));
    let described = (
        (FORMAT, what.can.resume),
        request,
        (&recipe.schema, &recipe.key, &recipe.losses),
        transformed,
    );
    let octets = serde_json::to_vec(&described).map_err(|error| Error::internal(error.to_string()))?;
    Ok(blake3::hash(&octets).to_hex().to_string())
}

/// The line that vouches for `json`.
fn check_line(json: &[u8]) -> [u8; CHECK_BYTES] {
    let mut line = [b'\n'; CHECK_BYTES];
    line[..64].copy_from_slice(blake3::hash(json).to_hex().as_bytes());
    line
}

/// The parts of an earlier reading in `folder` that is like this one, if there was one.
///
/// # Errors
/// `verification.work_file` if the file is there and cannot be read.
pub(super) fn load(folder: &Path, likeness: &str) -> Result<Option<Vec<PartProgress>>, Error> {
    let path = folder.join(NAME);
    let octets = match fs::read(&path) {
        Ok(octets) => octets,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(fault(&path, &error)),
    };
    let content = octets.split_first_chunk::<CHECK_BYTES>();
    let content = content.filter(|(check, json)| **check == check_line(json));
    let content = content.and_then(|(_, json)| serde_json::from_slice::<Content>(json).ok());
    Ok(content
        .filter(|content| content.likeness == likeness)
        .map(|content| content.parts))
}

/// Keeps the file of a reading that is under way. Threads share it.
pub(super) struct Keeper {
    path: PathBuf,
    content: Mutex<Content>,
}

impl Keeper {
    /// For a reading in `folder` that goes on with `parts`.
    pub(super) fn going_on(folder: &Path, likeness: String, parts: Vec<PartProgress>) -> Self {
        Self {
            path: folder.join(NAME),
            content: Mutex::new(Content { likeness, parts }),
        }
    }

    /// For a reading in `folder` that begins with `parts`. What an earlier one has left there is gone for good before
    /// anything of this one is written, since it would vouch for files that are no longer its own.
    ///
    /// # Errors
    /// `verification.work_file`.
    pub(super) fn begin(folder: &Path, likeness: String, parts: Vec<Partition>) -> Result<Self, Error> {
        let parts = parts.into_iter().map(PartProgress::begun).collect();
        let keeper = Self::going_on(folder, likeness, parts);
        match fs::remove_file(&keeper.path) {
            Ok(()) => {
                let synced = File::open(folder).and_then(|folder| folder.sync_all());
                synced.map_err(|error| fault(folder, &error))?;
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(fault(&keeper.path, &error)),
        }
        Ok(keeper)
    }

    /// Makes durable how far the part called `number` is; its files are durable up to its mark.
    ///
    /// # Errors
    /// `verification.work_file`; `workspace.disk_full`.
    pub(super) fn mark(&self, number: usize, part: &PartProgress) -> Result<(), Error> {
        let mut content = self.content.lock().unwrap_or_else(PoisonError::into_inner);
        content.parts[number] = part.clone();
        let json = serde_json::to_vec(&*content).map_err(|error| Error::internal(error.to_string()))?;
        let mut octets = check_line(&json).to_vec();
        octets.extend_from_slice(&json);
        write_whole(&self.path, &octets).map_err(|error| fault(&self.path, &error))?;
        drop(content);
        crash_site::reach("verification_marked");
        Ok(())
    }
}
