//! The files of a folder as collections: which are read, under which names, and what stands in the way.
//!
//! Names alone decide what is read, but for schema files, which say so themselves. Neighbours: [`crate::format`] (one
//! file), [`crate::schema_file`], [`crate::load`] (files that are being written).

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use whimbrel_plugin_api::{Error, ErrorKind, Finding, Result};

use crate::error::io_error;
use crate::format::DataFile;
use crate::load::Load;
use crate::schema_file::{self, SchemaFile};

/// What a folder, or a lone file, has to offer.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    /// By name of the collection.
    pub(crate) files: BTreeMap<String, DataFile>,
    /// Files that are not read, and names that two files share.
    pub(crate) findings: Vec<Finding>,
}

/// Looks at `path`, which is a folder or a file.
pub(crate) fn list(path: &Path) -> Result<Listing> {
    let facts = fs::metadata(path).map_err(|error| io_error("read", path, &error))?;
    let mut listing = Listing::default();
    if !facts.is_dir() {
        let name = path
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or_default();
        let fallback = || {
            path.file_stem()
                .map(|stem| stem.to_string_lossy().into_owned())
                .unwrap_or_default()
        };
        let stem = data_stem(name).map_or_else(fallback, str::to_owned);
        listing.add(DataFile::open(path.to_owned(), name, &stem)?);
        return Ok(listing);
    }
    let load = Load::read(path)?;
    if let Some(load) = load.as_ref().filter(|load| load.is_finishing) {
        return Err(unfinished(path, load));
    }
    let mut others = 0_u64;
    let mut entries = Vec::new();
    for entry in fs::read_dir(path).map_err(|error| io_error("read", path, &error))? {
        entries.push(entry.map_err(|error| io_error("read", path, &error))?.path());
    }
    // Folders answer in any order; findings and errors must not depend on it.
    entries.sort();
    for entry in entries {
        let name = entry.file_name().and_then(|name| name.to_str());
        let Some(name) = name.filter(|name| !name.starts_with('.')) else {
            others += 1;
            continue;
        };
        match data_stem(name) {
            Some(stem) if entry.is_file() && !is_schema_file(&entry, name)? => {
                listing.add(DataFile::open(entry.clone(), name, stem)?);
            }
            Some(_) if entry.is_file() => {}
            _ => others += 1,
        }
    }
    if others > 0 {
        listing.findings.push(Finding::info(
            "files.not_read",
            format!("{others} other entries of `{}` are not read (files read: .ndjson, .jsonl, .json, each also .zst)", path.display()),
        ));
    }
    Ok(listing)
}

/// What a load that is under way has committed, and for everything else what is there.
pub(crate) fn list_with_load(path: &Path) -> Result<Listing> {
    let mut listing = list(path)?;
    let load = Load::read(path)?.filter(|load| load.has_commits);
    for target in load.into_iter().flat_map(|load| load.targets) {
        let partial = path.join(target.partial_name());
        let schema_file = SchemaFile::read(&path.join(target.partial_schema_name()))?;
        listing.files.insert(
            target.collection.clone(),
            DataFile {
                collection: target.collection.clone(),
                path: partial,
                is_named_zstd: target.is_zstd(),
                is_named_lines: target.is_lines(),
                schema_file,
                committed_bytes: Some(target.committed_bytes),
            },
        );
    }
    Ok(listing)
}

fn unfinished(path: &Path, load: &Load) -> Error {
    let names: Vec<String> = load
        .targets
        .iter()
        .take(5)
        .map(|target| format!("`{}`", target.collection))
        .collect();
    Error::new(
        ErrorKind::Integrity,
        "files.unfinished",
        format!(
            "a load into `{}` was cut off while its files got their final names (collections: {})",
            path.display(),
            names.join(", ")
        ),
    )
    .with_help("run the job that wrote into this folder again; it finishes the names first")
}

impl Listing {
    fn add(&mut self, file: DataFile) {
        if let Some(other) = self.files.get(&file.collection) {
            self.findings.push(
                Finding::blocker(
                    "files.collection_twice",
                    format!(
                        "two files hold the collection `{}`: `{}` and `{}`",
                        file.collection,
                        other.path.display(),
                        file.path.display()
                    ),
                )
                .with_help("move one of them away")
                .with_collection(&file.collection),
            );
            return;
        }
        self.files.insert(file.collection.clone(), file);
    }

    /// Refuses to go on where one name has two files.
    pub(crate) fn refuse_twice(&self) -> Result<()> {
        match self
            .findings
            .iter()
            .find(|finding| finding.code == "files.collection_twice")
        {
            Some(finding) => Err(Error::config(&finding.code, &finding.message)
                .with_help(finding.help.clone().unwrap_or_default())),
            None => Ok(()),
        }
    }
}

/// The name of a data file without its endings; `None` if it is no data file.
pub(crate) fn data_stem(name: &str) -> Option<&str> {
    let name = name.strip_suffix(".zst").unwrap_or(name);
    [".ndjson", ".jsonl", ".json"]
        .iter()
        .find_map(|ending| name.strip_suffix(ending))
        .filter(|stem| !stem.is_empty())
}

/// Whether this is a schema file of ours, and not data that happen to be called so.
fn is_schema_file(path: &Path, name: &str) -> Result<bool> {
    Ok(name.ends_with(schema_file::SUFFIX) && SchemaFile::read(path)?.is_some())
}

/// Whether any data file of the collection with this stem is in `folder`; endings in lower case.
pub(crate) fn data_files(folder: &Path, stem: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for ending in [".ndjson", ".jsonl", ".json"] {
        for compression in ["", ".zst"] {
            let path = folder.join(format!("{stem}{ending}{compression}"));
            if path.is_file() {
                found.push(path);
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_what_is_data() {
        for (name, stem) in [
            ("a.ndjson", Some("a")),
            ("a.b.jsonl.zst", Some("a.b")),
            ("a.json", Some("a")),
            ("a.zst", None),
            ("a.ndjson.partial", None),
            (".json", None),
            ("a.csv", None),
            ("a.schema.json~", None),
        ] {
            assert_eq!(data_stem(name), stem, "{name}");
        }
    }
}
