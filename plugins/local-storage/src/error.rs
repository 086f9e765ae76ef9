//! The errors of this plugin, each with its stable code, and places in the export file. Those of profiles come last.
//!
//! Messages name keys of the config, collections and counts; values of the export never appear.

use std::fmt;
use std::path::Path;

use whimbrel_plugin_api::{Error, ErrorKind};

use crate::config::Format;

/// Line and column of an export file, both from 1; columns count octets, as JSON parsers do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    pub line: u32,
    pub column: u32,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

/// Finds places for offsets that mostly grow, in one walk over the text.
pub struct Places<'a> {
    text: &'a str,
    offset: usize,
    place: Place,
}

impl<'a> Places<'a> {
    pub fn new(text: &'a str) -> Self {
        Self {
            text,
            offset: 0,
            place: Place { line: 1, column: 1 },
        }
    }

    /// The place of the octet at `offset`.
    pub fn at(&mut self, offset: usize) -> Place {
        if offset < self.offset {
            *self = Self::new(self.text);
        }
        let passed = &self.text.as_bytes()[self.offset..offset];
        let breaks = passed.iter().filter(|octet| **octet == b'\n').count();
        self.place = match passed.iter().rposition(|octet| *octet == b'\n') {
            Some(last) => Place {
                line: self.place.line + breaks as u32,
                column: (passed.len() - last) as u32,
            },
            None => Place {
                column: self.place.column + passed.len() as u32,
                ..self.place
            },
        };
        self.offset = offset;
        self.place
    }
}

/// The file cannot be opened or read.
pub fn unreadable(path: &str, cause: &std::io::Error) -> Error {
    let error = match cause.kind() {
        std::io::ErrorKind::NotFound => {
            Error::not_found("local_storage.file_missing", format!("there is no `{path}`"))
                .with_help("a relative path starts at the folder of the job file")
        }
        std::io::ErrorKind::PermissionDenied => Error::new(
            ErrorKind::Permission,
            "local_storage.file_unreadable",
            format!("`{path}` may not be read"),
        )
        .with_help("run as the user to whom it belongs, or give this user the right to read it"),
        _ => Error::new(
            ErrorKind::Unavailable,
            "local_storage.file_unreadable",
            format!("`{path}` cannot be read"),
        ),
    };
    error.with_place("config.path").with_cause(cause)
}

/// The path names something else than a file.
pub fn not_a_file(path: &str) -> Error {
    Error::config("local_storage.not_a_file", format!("`{path}` is not a file"))
        .with_help("a folder can be a browser's profile; then leave `format` out, or set it to `chromium` or `firefox`")
        .with_place("config.path")
}

/// The file, or what a profile holds, has more octets than the config allows.
pub fn too_large(path: &str, size_bytes_max: u64) -> Error {
    Error::config(
        "local_storage.file_too_large",
        format!("what is read of `{path}` is larger than `size_bytes_max`, {size_bytes_max} octets"),
    )
    .with_help("raise `size_bytes_max`; what is read is held in memory")
    .with_place("config.size_bytes_max")
}

/// Something in the file is not as the form wants it.
pub fn bad_file(path: &str, code: &str, message: impl Into<String>, place: Place) -> Error {
    Error::invalid_data(format!("local_storage.{code}"), message).with_place(format!("{path}:{place}"))
}

/// An origin was asked for, and the form has none.
pub fn no_origins(form: &str) -> Error {
    Error::config(
        "local_storage.no_origins",
        format!("an export of the form `{form}` names no origins"),
    )
    .with_help("leave `origin` out")
    .with_place("config.origin")
}

/// What holds the entries, in a sentence.
pub fn holder(form: Format) -> &'static str {
    if form.is_profile() { "profile" } else { "file" }
}

/// The origin asked for is not there.
pub fn origin_missing(wanted: &str, form: Format, present: &[&str]) -> Error {
    // So many are named; a profile can have hundreds.
    const NAMED_MAX: usize = 20;
    let mut named: Vec<String> = present
        .iter()
        .take(NAMED_MAX)
        .map(|origin| format!("`{origin}`"))
        .collect();
    if present.len() > NAMED_MAX {
        named.push(format!("and {} more", present.len() - NAMED_MAX));
    }
    let named = if named.is_empty() {
        "none".to_owned()
    } else {
        named.join(", ")
    };
    Error::not_found(
        "local_storage.origin_missing",
        format!("the {} has no origin `{wanted}` (origins: {named})", holder(form)),
    )
    .with_place("config.origin")
}

/// A collection was asked for that the file does not have.
pub fn collection_missing(name: &str) -> Error {
    Error::not_found(
        "local_storage.collection_missing",
        format!("the export has no collection `{name}`"),
    )
}

/// A column was asked for that the collection does not have.
pub fn column_missing(collection: &str, column: &str) -> Error {
    Error::not_found(
        "local_storage.column_missing",
        format!("the collection `{collection}` has no field `{column}`"),
    )
}

/// A cursor that this source did not give out.
pub fn bad_cursor(collection: &str) -> Error {
    Error::invalid_data(
        "local_storage.bad_cursor",
        format!("the cursor does not belong to the collection `{collection}`"),
    )
}

/// A cursor of another export, or of the same one under another config.
pub fn changed(path: &str) -> Error {
    Error::new(
        ErrorKind::Integrity,
        "local_storage.changed",
        format!(
            "the file `{path}`, or the config under which it is read, has changed since the cursor was given"
        ),
    )
    .with_help("start from the beginning")
}

/// The folder leads to no local storage, and is no profile by its looks.
pub fn no_profile(path: &str, format: &str) -> Error {
    let what = match format {
        "chromium" => "a profile of Chromium",
        "firefox" => "a profile of Firefox",
        _ => "an export, or a profile of Chromium or Firefox",
    };
    Error::config("local_storage.no_profile", format!("`{path}` is not {what}"))
        .with_help(
            "name the user data folder of Chromium, a profile in it, `Local Storage` or `leveldb`; or a profile of \
             Firefox, an origin in `storage/default`, `ls` or `data.sqlite`",
        )
        .with_place("config.path")
}

/// The profile has no local storage.
pub fn no_local_storage(path: &str) -> Error {
    Error::not_found(
        "local_storage.no_local_storage",
        format!("there is no local storage in `{path}`"),
    )
    .with_help("a browser makes it when the first page uses it; look whether this is the right profile")
    .with_place("config.path")
}

/// The folder holds more than one profile.
pub fn several_profiles(path: &str, names: &[String]) -> Error {
    let named: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    Error::config(
        "local_storage.several_profiles",
        format!("`{path}` holds several profiles ({})", named.join(", ")),
    )
    .with_help("name the folder of one of them")
    .with_place("config.path")
}

/// The browser writes all the time.
pub fn busy(path: &str) -> Error {
    Error::new(
        ErrorKind::Unavailable,
        "local_storage.busy",
        format!("the files in `{path}` changed each time while they were copied"),
    )
    .with_help("close the browser, or wait until it has done its work")
    .with_place("config.path")
}

/// The private copy of a database cannot be made.
pub fn no_copy(cause: &std::io::Error) -> Error {
    Error::new(
        ErrorKind::Unavailable,
        "local_storage.no_copy",
        "a private copy of the profile cannot be made in the folder for temporary files",
    )
    .with_help("the variable TMPDIR names that folder")
    .with_cause(cause)
}

fn damaged(message: String) -> Error {
    Error::new(ErrorKind::Integrity, "local_storage.corrupted", message)
        .with_help("let the browser repair it by opening the profile, or read an export of the page")
        .with_place("config.path")
}

/// A file of a LevelDB is not as it was written.
pub fn corrupted(folder: &Path, file: &str, what: &str) -> Error {
    damaged(format!("in the LevelDB `{}`, {file} {what}", folder.display()))
}

/// A LevelDB cannot be read, although its checksums are right.
pub fn corrupted_leveldb(folder: &Path) -> Error {
    damaged(format!("the LevelDB `{}` is damaged", folder.display()))
}

/// A SQLite file cannot be read.
pub fn corrupted_sqlite(path: &Path) -> Error {
    damaged(format!("the database `{}` is damaged", path.display()))
}

fn unknown(code: &str, path: &Path, what: &str) -> Error {
    Error::new(
        ErrorKind::Unsupported,
        format!("local_storage.{code}"),
        format!("in `{}`, {what}", path.display()),
    )
    .with_help("a newer browser may have changed its files; read an export of the page")
    .with_place("config.path")
}

/// Something is compressed in a way that is not known.
pub fn unknown_compression(path: &Path, what: &str, known: &str) -> Error {
    unknown("unknown_compression", path, &format!("{what} (known: {known})"))
}

/// Firefox stored a value in a way that is not known.
pub fn unknown_conversion(path: &Path, found: i64) -> Error {
    let what = format!("a value has the conversion type {found} (known: 0 (UTF-16), 1 (UTF-8))");
    unknown("unknown_conversion", path, &what)
}

/// Chromium stored a key or value in a way that is not known.
pub fn unknown_encoding(folder: &Path, origin: &str) -> Error {
    let what = format!("an entry of `{origin}` is in no known encoding (known: 0 (UTF-16), 1 (Latin-1))");
    unknown("unknown_encoding", folder, &what)
}

/// The layout of the files is newer than this plugin.
pub fn unknown_version(path: &Path, found: &str) -> Error {
    unknown(
        "unknown_version",
        path,
        &format!("the layout has the version `{found}`"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_found_forwards_and_backwards() {
        let text = "ab\n\ncé d\n";
        let mut places = Places::new(text);
        let all = |places: &mut Places<'_>, offsets: &[usize]| {
            offsets
                .iter()
                .map(|offset| places.at(*offset).to_string())
                .collect::<Vec<_>>()
        };
        assert_eq!(
            all(&mut places, &[0, 1, 2, 3, 4, 7, 8, 10]),
            ["1:1", "1:2", "1:3", "2:1", "3:1", "3:4", "3:5", "4:1"]
        );
        assert_eq!(all(&mut places, &[1, 8]), ["1:2", "3:5"]);
    }
}
