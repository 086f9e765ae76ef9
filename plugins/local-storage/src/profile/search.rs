//! What a path leads to: an export file, or local storage in the folders of a browser, from whichever of them it is.
//!
//! Only names and kinds of files are looked at here, and the first octets of a file.

use std::fs::File;
use std::io::{ErrorKind, Read as _};
use std::path::{Path, PathBuf};

use whimbrel_plugin_api::Result;

use super::shown;
use crate::config::Format;
use crate::error;

/// How a SQLite file begins (the SQLite file format, 1.3).
const SQLITE_MAGIC: &[u8] = b"SQLite format 3\0";
/// The file of one origin.
pub const DATABASE: &str = "data.sqlite";

/// Local storage of a browser.
#[derive(Debug, PartialEq, Eq)]
pub enum Found {
    /// The folder of the LevelDB.
    Chromium { leveldb: PathBuf },
    /// The files `data.sqlite`, sorted.
    Firefox { databases: Vec<PathBuf> },
}

/// What the path is; `None` for an export file.
pub fn search(path: &str, format: Format) -> Result<Option<Found>> {
    let unreadable = |cause: std::io::Error| error::unreadable(path, &cause);
    let place = Path::new(path);
    let metadata = std::fs::metadata(place).map_err(unreadable)?;
    let (wants_chromium, wants_firefox) = match format {
        Format::Auto => (true, true),
        Format::Chromium => (true, false),
        Format::Firefox => (false, true),
        Format::Flat | Format::PerOrigin | Format::Pairs | Format::StorageState => return Ok(None),
    };
    if metadata.is_file() {
        let is_database = wants_firefox
            && (is_sqlite(place).map_err(unreadable)?
                || place.file_name().is_some_and(|name| name == DATABASE));
        return match format {
            _ if is_database => Ok(Some(Found::Firefox {
                databases: vec![place.to_owned()],
            })),
            Format::Auto => Ok(None),
            _ => Err(error::no_profile(path, format.name())),
        };
    }
    if !metadata.is_dir() {
        return Err(error::not_a_file(path));
    }
    if wants_chromium && let Some(leveldb) = chromium(place)? {
        return Ok(Some(Found::Chromium { leveldb }));
    }
    if wants_firefox && let Some(databases) = firefox(place)? {
        return Ok(Some(Found::Firefox { databases }));
    }
    if wants_chromium && has_any(place, &["Local State", "Preferences", "First Run"])
        || wants_firefox && has_any(place, &["prefs.js", "storage", ".metadata-v2", "times.json"])
    {
        return Err(error::no_local_storage(path));
    }
    Err(error::no_profile(path, format.name()))
}

fn is_sqlite(path: &Path) -> std::io::Result<bool> {
    let mut begin = Vec::new();
    File::open(path)?
        .take(SQLITE_MAGIC.len() as u64)
        .read_to_end(&mut begin)?;
    Ok(begin == SQLITE_MAGIC)
}

fn has_any(folder: &Path, names: &[&str]) -> bool {
    names.iter().any(|name| folder.join(name).exists())
}

/// The LevelDB at, or below, the folder `leveldb`, `Local Storage`, a profile, or the user data.
fn chromium(folder: &Path) -> Result<Option<PathBuf>> {
    let candidates = [
        folder.to_owned(),
        folder.join("leveldb"),
        folder.join("Local Storage/leveldb"),
    ];
    for candidate in candidates {
        if is_file(&candidate.join("CURRENT"))? {
            return Ok(Some(candidate));
        }
    }
    let mut profiles = Vec::new();
    for profile in folders(folder)? {
        if is_file(&profile.join("Local Storage/leveldb/CURRENT"))? {
            profiles.push(profile);
        }
    }
    match &profiles[..] {
        [] => Ok(None),
        [profile] => Ok(Some(profile.join("Local Storage/leveldb"))),
        several => {
            let names: Vec<String> = several
                .iter()
                .filter_map(|profile| profile.file_name())
                .map(|name| name.to_string_lossy().into_owned())
                .collect();
            Err(error::several_profiles(&shown(folder), &names))
        }
    }
}

/// The databases at, or below, the folder `ls`, an origin, `default`, `storage`, or a profile.
fn firefox(folder: &Path) -> Result<Option<Vec<PathBuf>>> {
    for candidate in [folder.join(DATABASE), folder.join("ls").join(DATABASE)] {
        if is_file(&candidate)? {
            return Ok(Some(vec![candidate]));
        }
    }
    for candidate in [
        folder.join("storage/default"),
        folder.join("default"),
        folder.to_owned(),
    ] {
        if !candidate.is_dir() {
            continue;
        }
        let mut databases = Vec::new();
        for origin in folders(&candidate)? {
            let database = origin.join("ls").join(DATABASE);
            if is_file(&database)? {
                databases.push(database);
            }
        }
        if !databases.is_empty() {
            return Ok(Some(databases));
        }
    }
    Ok(None)
}

/// The folders in a folder, sorted.
fn folders(folder: &Path) -> Result<Vec<PathBuf>> {
    let unreadable = |cause: std::io::Error| error::unreadable(&shown(folder), &cause);
    let mut folders = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        if path.is_dir() {
            folders.push(path);
        }
    }
    folders.sort();
    Ok(folders)
}

/// Whether a file is there. One that may not be looked at is an error, since it could be the one that is wanted.
fn is_file(path: &Path) -> Result<bool> {
    match std::fs::metadata(path) {
        Ok(metadata) => Ok(metadata.is_file()),
        Err(cause) if matches!(cause.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(false),
        Err(cause) => Err(error::unreadable(&shown(path), &cause)),
    }
}
