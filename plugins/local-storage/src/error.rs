//! The errors of this plugin, each with its stable code, and places in the export file.
//!
//! Messages name keys of the config, collections and counts; values of the export never appear.

use std::fmt;

use whimbrel_plugin_api::{Error, ErrorKind};

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
            Error::not_found("local_storage.file_missing", format!("there is no file `{path}`"))
                .with_help("a relative path starts at the folder of the job file")
        }
        std::io::ErrorKind::PermissionDenied => Error::new(
            ErrorKind::Permission,
            "local_storage.file_unreadable",
            format!("the file `{path}` may not be read"),
        ),
        _ => Error::new(
            ErrorKind::Unavailable,
            "local_storage.file_unreadable",
            format!("the file `{path}` cannot be read"),
        ),
    };
    error.with_place("config.path").with_cause(cause)
}

/// The path names something else than a file.
pub fn not_a_file(path: &str) -> Error {
    Error::config("local_storage.not_a_file", format!("`{path}` is not a file")).with_place("config.path")
}

/// The file has more octets than the config allows.
pub fn too_large(path: &str, size_bytes_max: u64) -> Error {
    Error::config(
        "local_storage.file_too_large",
        format!("the file `{path}` is larger than `size_bytes_max`, {size_bytes_max} octets"),
    )
    .with_help("raise `size_bytes_max`; the file is held in memory")
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

/// The origin asked for is not in the file.
pub fn origin_missing(wanted: &str, present: &[&str]) -> Error {
    // So many are named; a list of all could be long.
    const NAMED_MAX: usize = 5;
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
        format!("the file has no origin `{wanted}` (origins: {named})"),
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
