//! The schema file beside a data file: what JSON cannot say of a collection, so that reading back is exact.
//!
//! `orders.schema.json` belongs to `orders.ndjson` (or `.json`, `.zst`, ...). It holds the true name, the types, key and
//! references. Written by the sink, read by the source; stored samples of each version are read in the tests.

use std::fs;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use whimbrel_plugin_api::collection::Reference;
use whimbrel_plugin_api::{Collection, Error, ErrorKind, Result, Schema};

use crate::error::io_error;

/// What the name of a schema file ends in.
pub(crate) const SUFFIX: &str = ".schema.json";
/// The version that this plugin writes, and the highest that it reads.
const VERSION: u32 = 1;
/// What the file begins with; other files of that name are nobody's business of ours.
const MARK: &str = "\"whimbrel_schema_file\"";
/// Octets of a schema file at most: 100,000 fields with names of 150 octets.
const BYTES_MAX: u64 = 32 * 1024 * 1024;

/// The content. Unknown members are ignored, so that a later version may add some.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct SchemaFile {
    /// The version of this format; first, since it marks the file.
    whimbrel_schema_file: u32,
    /// The collection's true name.
    pub(crate) collection: String,
    /// Records in the data file when it was finished.
    pub(crate) record_count: u64,
    /// Octets of the data file when it was finished.
    pub(crate) size_bytes: u64,
    #[serde(default)]
    pub(crate) key: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) references: Vec<Reference>,
    pub(crate) schema: Schema,
}

impl SchemaFile {
    /// Of a collection that nothing was written of yet.
    pub(crate) fn new(collection: &Collection) -> Self {
        Self {
            whimbrel_schema_file: VERSION,
            collection: collection.name.clone(),
            record_count: 0,
            size_bytes: 0,
            key: collection.key.clone(),
            references: collection.references.clone(),
            schema: collection.schema.clone(),
        }
    }

    /// Reads `path`; `None` if there is none, or it is another program's file.
    pub(crate) fn read(path: &Path) -> Result<Option<Self>> {
        let file = match fs::File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(io_error("read", path, &error)),
        };
        let mut octets = Vec::new();
        file.take(BYTES_MAX + 1)
            .read_to_end(&mut octets)
            .map_err(|error| io_error("read", path, &error))?;
        let begins = octets.strip_prefix(b"{").unwrap_or_default().trim_ascii_start();
        if !begins.starts_with(MARK.as_bytes()) {
            return Ok(None);
        }
        if octets.len() as u64 > BYTES_MAX {
            return Err(damaged(path, "it is longer than 32 MiB"));
        }
        #[derive(Deserialize)]
        struct Version {
            whimbrel_schema_file: u32,
        }
        let broken =
            |error: serde_json::Error| damaged(path, &format!("its JSON breaks at line {}", error.line()));
        let version: Version = serde_json::from_slice(&octets).map_err(broken)?;
        if version.whimbrel_schema_file > VERSION {
            return Err(Error::new(
                ErrorKind::Unsupported,
                "files.newer_schema_file",
                format!(
                    "`{}` has version {}, this plugin reads up to {VERSION}",
                    path.display(),
                    version.whimbrel_schema_file
                ),
            )
            .with_help("read it with the version of whimbrel that wrote it, or a newer one"));
        }
        let content: Self = serde_json::from_slice(&octets).map_err(broken)?;
        content.schema.validate()?;
        Ok(Some(content))
    }

    /// Writes `path` anew: whoever reads it sees the old content or the new. Durable once the folder is synced.
    pub(crate) fn write(&self, path: &Path) -> Result<()> {
        replace(path, self.text()?.as_bytes(), fs::File::sync_all)
    }

    /// As `write`, for a load that starts again after a loss of power anyway.
    pub(crate) fn write_unsynced(&self, path: &Path) -> Result<()> {
        replace(path, self.text()?.as_bytes(), |_| Ok(()))
    }

    fn text(&self) -> Result<String> {
        serde_json::to_string_pretty(self)
            .map_err(|error| Error::internal("a schema file could not be written as JSON").with_cause(&error))
    }
}

/// Replaces the content of `path` in one step, after `sync` of the new content.
pub(crate) fn replace(
    path: &Path,
    octets: &[u8],
    sync: impl FnOnce(&fs::File) -> std::io::Result<()>,
) -> Result<()> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push("~");
    let temporary = PathBuf::from(temporary);
    let write = || {
        let mut file = fs::File::create(&temporary)?;
        file.write_all(octets)?;
        sync(&file)?;
        fs::rename(&temporary, path)
    };
    write().map_err(|error| io_error("write", path, &error))
}

/// Makes renames within `folder` durable.
pub(crate) fn sync_folder(folder: &Path) -> Result<()> {
    let folder = if folder.as_os_str().is_empty() {
        Path::new(".")
    } else {
        folder
    };
    fs::File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(|error| io_error("write into", folder, &error))
}

fn damaged(path: &Path, what: &str) -> Error {
    Error::new(
        ErrorKind::Integrity,
        "files.bad_schema_file",
        format!("the schema file `{}` is damaged: {what}", path.display()),
    )
    .with_help("restore it, or move it away to have the types inferred")
}

#[cfg(test)]
mod tests {
    use whimbrel_plugin_api::{Field, RecordType};

    use super::*;

    /// As version 1 writes it. Never changed: files of this form are on people's disks.
    const VERSION_1: &str = r#"{
  "whimbrel_schema_file": 1,
  "collection": "a/b",
  "record_count": 2,
  "size_bytes": 31,
  "key": [
    "id"
  ],
  "schema": {
    "version": 0,
    "fields": [
      {
        "name": "id",
        "type": "decimal",
        "precision": 20,
        "scale": 0,
        "nullable": false
      },
      {
        "name": "tags",
        "type": "list",
        "item": {
          "type": "opaque",
          "type_name": "inet"
        },
        "nullable": true
      }
    ],
    "presence": true
  }
}"#;

    fn content() -> SchemaFile {
        let mut schema = Schema::new(vec![
            Field::required(
                "id",
                RecordType::Decimal {
                    precision: 20,
                    scale: 0,
                },
            ),
            Field::new(
                "tags",
                RecordType::list(RecordType::Opaque { name: "inet".into() }),
            ),
        ]);
        schema.presence = true;
        SchemaFile {
            record_count: 2,
            size_bytes: 31,
            ..SchemaFile::new(&Collection::new("a/b", schema).with_key(["id"]))
        }
    }

    #[test]
    fn version_1_is_written_and_read_as_ever() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.schema.json");
        content().write(&path).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), VERSION_1);
        assert_eq!(SchemaFile::read(&path).unwrap(), Some(content()));
        assert_eq!(
            fs::read_dir(folder.path()).unwrap().count(),
            1,
            "no temporary file stays behind"
        );
    }

    #[test]
    fn what_is_damaged_or_newer_is_refused_and_what_is_foreign_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.schema.json");
        let code = |text: &str| {
            fs::write(&path, text).unwrap();
            SchemaFile::read(&path).map_err(|error| error.code)
        };
        for cut in [40, VERSION_1.len() / 2, VERSION_1.len() - 1] {
            assert_eq!(
                code(&VERSION_1[..cut]),
                Err("files.bad_schema_file".into()),
                "{cut}"
            );
        }
        let newer = VERSION_1.replace("\"whimbrel_schema_file\": 1", "\"whimbrel_schema_file\": 2");
        assert_eq!(code(&newer), Err("files.newer_schema_file".into()));
        assert_eq!(
            code(&VERSION_1.replace(": 20", ": 99")),
            Err("schema.bad_type".into())
        );
        assert_eq!(
            code(r#"{"$schema":"https://json-schema.org/draft/2020-12/schema"}"#),
            Ok(None)
        );
        assert_eq!(code(""), Ok(None));
        fs::remove_file(&path).unwrap();
        assert_eq!(SchemaFile::read(&path).unwrap(), None);
    }
}
