//! What a load into a folder has committed so far: one small file, replaced as a whole by each commit.
//!
//! While it lies in the folder, data and schema files have `.partial` behind their names; octets behind the committed
//! length count for nothing. [`Load::finish`] gives the final names, and can be repeated after a crash.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use whimbrel_plugin_api::{Error, ErrorKind, Result};

use crate::config::{Compression, SinkFormat};
use crate::error::io_error;
use crate::listing;
use crate::schema_file::{self, replace, sync_folder};

/// Its name in the folder.
pub(crate) const FILE_NAME: &str = ".whimbrel-load.json";
/// What is behind the final names until the end.
const PARTIAL: &str = ".partial";
/// The version that this plugin writes and reads; a load is not carried from one version of whimbrel to the next.
const VERSION: u32 = 1;

/// The content of the file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Load {
    version: u32,
    /// Something is committed; before that, what was in the folder is what a reader finds.
    pub(crate) has_commits: bool,
    /// Everything is written, names are being changed.
    pub(crate) is_finishing: bool,
    /// Collections that were there before and stay as they are.
    pub(crate) refused: Vec<String>,
    pub(crate) targets: Vec<Target>,
}

/// One collection that is being written.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Target {
    pub(crate) collection: String,
    pub(crate) stem: String,
    pub(crate) format: SinkFormat,
    pub(crate) compression: Compression,
    pub(crate) committed_bytes: u64,
    pub(crate) record_count: u64,
}

impl Target {
    pub(crate) fn is_zstd(&self) -> bool {
        self.compression == Compression::Zstd
    }

    pub(crate) fn is_lines(&self) -> bool {
        self.format == SinkFormat::Ndjson
    }

    /// The final name of the data file.
    pub(crate) fn data_name(&self) -> String {
        let ending = if self.is_lines() { "ndjson" } else { "json" };
        let compression = if self.is_zstd() { ".zst" } else { "" };
        format!("{}.{ending}{compression}", self.stem)
    }

    pub(crate) fn partial_name(&self) -> String {
        self.data_name() + PARTIAL
    }

    /// The final name of the schema file.
    pub(crate) fn schema_name(&self) -> String {
        format!("{}{}", self.stem, schema_file::SUFFIX)
    }

    pub(crate) fn partial_schema_name(&self) -> String {
        self.schema_name() + PARTIAL
    }
}

impl Load {
    pub(crate) fn new(targets: Vec<Target>) -> Self {
        Self {
            version: VERSION,
            has_commits: false,
            is_finishing: false,
            refused: Vec::new(),
            targets,
        }
    }

    fn path(folder: &Path) -> PathBuf {
        folder.join(FILE_NAME)
    }

    /// The load that is under way in `folder`, if any.
    pub(crate) fn read(folder: &Path) -> Result<Option<Self>> {
        let path = Self::path(folder);
        let octets = match fs::read(&path) {
            Ok(octets) => octets,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(io_error("read", &path, &error)),
        };
        let damaged = || {
            Error::new(
                ErrorKind::Integrity,
                "files.load_damaged",
                format!("`{}`, the record of a load under way, is damaged or of another version", path.display()),
            )
            .with_help("delete it and the `.partial` files beside it, then run the job again; finished files are not concerned")
        };
        let load: Self = serde_json::from_slice(&octets).map_err(|error| damaged().with_cause(&error))?;
        if load.version == VERSION {
            Ok(Some(load))
        } else {
            Err(damaged())
        }
    }

    /// Makes this the state of `folder`, durably.
    pub(crate) fn write(&self, folder: &Path) -> Result<()> {
        let octets = serde_json::to_vec(self).map_err(|error| {
            Error::internal("the record of a load could not be written as JSON").with_cause(&error)
        })?;
        replace(&Self::path(folder), &octets, fs::File::sync_all)?;
        sync_folder(folder)
    }

    /// Removes what was written and the record of it.
    pub(crate) fn discard(&self, folder: &Path) -> Result<()> {
        for target in &self.targets {
            remove(&folder.join(target.partial_name()))?;
            remove(&folder.join(target.partial_schema_name()))?;
        }
        remove(&Self::path(folder))
    }

    /// Gives every file its final name. Each step may have been done before.
    pub(crate) fn finish(&self, folder: &Path) -> Result<()> {
        for target in &self.targets {
            let data = folder.join(target.data_name());
            for (partial, wanted) in [
                (folder.join(target.partial_name()), data.clone()),
                (
                    folder.join(target.partial_schema_name()),
                    folder.join(target.schema_name()),
                ),
            ] {
                match fs::rename(&partial, &wanted) {
                    Err(error) if error.kind() == std::io::ErrorKind::NotFound && wanted.is_file() => {}
                    outcome => outcome.map_err(|error| io_error("rename", &partial, &error))?,
                }
            }
            // What `existing: replace` replaces may have another layout or compression, and so another name.
            for other in listing::data_files(folder, &target.stem)
                .iter()
                .filter(|other| **other != data)
            {
                remove(other)?;
            }
        }
        sync_folder(folder)?;
        remove(&Self::path(folder))?;
        sync_folder(folder)
    }
}

/// Removes a file that need not be there.
pub(crate) fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(io_error("remove", path, &error)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(stem: &str) -> Target {
        Target {
            collection: stem.to_owned(),
            stem: stem.to_owned(),
            format: SinkFormat::Ndjson,
            compression: Compression::None,
            committed_bytes: 3,
            record_count: 1,
        }
    }

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn finishing_can_be_cut_off_anywhere_and_repeated() {
        // Three things happen in order per target: data renamed, schema renamed, older files removed.
        for done in 0..4 {
            let folder = tempfile::tempdir().unwrap();
            let folder = folder.path();
            let load = Load::new(vec![target("a"), target("b")]);
            for name in ["a", "b"] {
                fs::write(folder.join(format!("{name}.ndjson.partial")), "{}\n").unwrap();
                fs::write(folder.join(format!("{name}.schema.json.partial")), "{}").unwrap();
            }
            fs::write(folder.join("a.json.zst"), "old").unwrap();
            load.write(folder).unwrap();
            if done > 0 {
                fs::rename(folder.join("a.ndjson.partial"), folder.join("a.ndjson")).unwrap();
            }
            if done > 1 {
                fs::rename(folder.join("a.schema.json.partial"), folder.join("a.schema.json")).unwrap();
            }
            if done > 2 {
                fs::remove_file(folder.join("a.json.zst")).unwrap();
            }
            Load::read(folder).unwrap().unwrap().finish(folder).unwrap();
            assert_eq!(
                names(folder),
                ["a.ndjson", "a.schema.json", "b.ndjson", "b.schema.json"],
                "{done}"
            );
        }
    }

    #[test]
    fn a_damaged_record_is_named() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(Load::read(folder.path()).unwrap(), None);
        for text in [
            "",
            "{",
            "{\"version\":2,\"has_commits\":false,\"is_finishing\":false,\"refused\":[],\"targets\":[]}",
        ] {
            fs::write(folder.path().join(FILE_NAME), text).unwrap();
            assert_eq!(Load::read(folder.path()).unwrap_err().code, "files.load_damaged");
        }
    }
}
