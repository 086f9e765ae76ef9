//! Where a read stands: the key, the place in the file, or the number of the last record, and the cursor made of it.
//!
//! Keys mean the same for ever. A place in the file holds while nothing moves the record, so such a cursor carries the
//! number of the file and the snapshot that was read, and is refused elsewhere; likewise the number of a record.

use whimbrel_plugin_api::{Cursor, Error, ErrorKind, Result};

use crate::codec::Wire;

/// What a cursor over keys begins with.
const BY_KEY: u8 = b'k';
/// What a cursor over places in the file begins with.
const BY_PLACE: u8 = b'c';
/// What a cursor over numbers of records begins with.
const BY_NUMBER: u8 = b'n';

/// The last record read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Position {
    /// The texts of its key. `shape` tells this key from another one that the table had once.
    Key { shape: u32, values: Vec<String> },
    /// Its place in the file called `file`.
    Place {
        file: u32,
        block: u32,
        item: u16,
        snapshot: String,
    },
    /// How many records were read, in the order in which the database gives them.
    Number { count: u64, snapshot: String },
}

impl Position {
    /// Whether it means the same at every instant.
    pub(super) fn is_key(&self) -> bool {
        matches!(self, Self::Key { .. })
    }

    /// The position as a cursor.
    pub(super) fn to_cursor(&self) -> Cursor {
        let mut octets = Vec::with_capacity(32);
        match self {
            Self::Key { shape, values } => {
                octets.push(BY_KEY);
                octets.extend(shape.to_be_bytes());
                for value in values {
                    // A value of the database has at most 2^30 octets.
                    octets.extend((value.len() as u32).to_be_bytes());
                    octets.extend_from_slice(value.as_bytes());
                }
            }
            Self::Place {
                file,
                block,
                item,
                snapshot,
            } => {
                octets.push(BY_PLACE);
                octets.extend(file.to_be_bytes());
                octets.extend(block.to_be_bytes());
                octets.extend(item.to_be_bytes());
                octets.extend_from_slice(snapshot.as_bytes());
            }
            Self::Number { count, snapshot } => {
                octets.push(BY_NUMBER);
                octets.extend(count.to_be_bytes());
                octets.extend_from_slice(snapshot.as_bytes());
            }
        }
        Cursor(octets)
    }

    /// The position of a cursor that [`Self::to_cursor`] made.
    ///
    /// # Errors
    /// `postgres.bad_cursor` for any other octets.
    pub(super) fn from_cursor(cursor: &Cursor) -> Result<Self> {
        Self::read(&cursor.0).ok_or_else(|| {
            Error::invalid_data("postgres.bad_cursor", "the cursor is not one of this plugin")
                .with_help("read the collection from its start")
        })
    }

    fn read(octets: &[u8]) -> Option<Self> {
        let (kind, rest) = octets.split_first()?;
        let text = |octets: &[u8]| String::from_utf8(octets.to_vec()).ok();
        match *kind {
            BY_KEY => {
                let (shape, mut rest) = rest.split_first_chunk::<4>()?;
                let mut values = Vec::new();
                while let Some((length, tail)) = rest.split_first_chunk::<4>() {
                    let (value, tail) = tail.split_at_checked(u32::from_be_bytes(*length) as usize)?;
                    values.push(text(value)?);
                    rest = tail;
                }
                (rest.is_empty() && !values.is_empty()).then_some(Self::Key {
                    shape: u32::from_be_bytes(*shape),
                    values,
                })
            }
            BY_PLACE => {
                let (file, rest) = rest.split_first_chunk::<4>()?;
                let (block, rest) = rest.split_first_chunk::<4>()?;
                let (item, snapshot) = rest.split_first_chunk::<2>()?;
                Some(Self::Place {
                    file: u32::from_be_bytes(*file),
                    block: u32::from_be_bytes(*block),
                    item: u16::from_be_bytes(*item),
                    snapshot: text(snapshot)?,
                })
            }
            BY_NUMBER => {
                let (count, snapshot) = rest.split_first_chunk::<8>()?;
                Some(Self::Number {
                    count: u64::from_be_bytes(*count),
                    snapshot: text(snapshot)?,
                })
            }
            _ => None,
        }
    }
}

/// The error for a place that no longer holds.
pub(super) fn lost(what: &str) -> Error {
    Error::new(
        ErrorKind::Integrity,
        "postgres.cursor_lost",
        format!("{what}, so that a record without a key can no longer be found by its place"),
    )
    .with_help("read the collection from its start, or give the table a primary key")
}

/// How the octets of a value in a row become the text that the database would write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Octets {
    Text,
    Int2,
    Int4,
    Int8,
    Oid,
    Bool,
    Uuid,
    Bytea,
}

impl Octets {
    /// For values on this wire; `None` if the text is not made here but asked for.
    pub(super) fn of(wire: &Wire) -> Option<Self> {
        match wire {
            Wire::Text => Some(Self::Text),
            Wire::Int2 => Some(Self::Int2),
            Wire::Int4 => Some(Self::Int4),
            Wire::Int8 => Some(Self::Int8),
            Wire::Oid => Some(Self::Oid),
            Wire::Bool => Some(Self::Bool),
            Wire::Uuid => Some(Self::Uuid),
            Wire::Bytea => Some(Self::Bytea),
            _ => None,
        }
    }

    /// The text; `None` for octets of another length than the type has.
    pub(super) fn text(self, octets: &[u8]) -> Option<String> {
        Some(match self {
            Self::Text => str::from_utf8(octets).ok()?.to_owned(),
            Self::Int2 => i16::from_be_bytes(octets.try_into().ok()?).to_string(),
            Self::Int4 => i32::from_be_bytes(octets.try_into().ok()?).to_string(),
            Self::Int8 => i64::from_be_bytes(octets.try_into().ok()?).to_string(),
            Self::Oid => u32::from_be_bytes(octets.try_into().ok()?).to_string(),
            Self::Bool => if octets == [1] { "t" } else { "f" }.to_owned(),
            // Hyphens may be left out.
            Self::Uuid => hex(octets),
            Self::Bytea => format!("\\x{}", hex(octets)),
        })
    }
}

fn hex(octets: &[u8]) -> String {
    String::from(Cursor(octets.to_vec()))
}

/// The values of one row of binary COPY, from `skip` on; `None` in place of null. Ends early at octets that are no row.
pub(super) fn values(row: &[u8]) -> impl Iterator<Item = Option<&[u8]>> {
    let mut rest = row.get(2..).unwrap_or_default();
    std::iter::from_fn(move || {
        let (length, tail) = rest.split_first_chunk::<4>()?;
        let length = i32::from_be_bytes(*length);
        let Ok(length) = usize::try_from(length) else {
            rest = tail;
            return Some(None);
        };
        let (value, tail) = tail.split_at_checked(length)?;
        rest = tail;
        Some(Some(value))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_survive_as_cursors_and_anything_else_is_refused() {
        let positions = [
            Position::Key {
                shape: 7,
                values: vec!["a\u{1}ü".into(), String::new(), "-12".into()],
            },
            Position::Place {
                file: 16_384,
                block: u32::MAX,
                item: 7,
                snapshot: "00000003-00000002-1".into(),
            },
            Position::Number {
                count: 1 << 40,
                snapshot: String::new(),
            },
        ];
        for position in positions {
            let cursor = position.to_cursor();
            assert_eq!(Position::from_cursor(&cursor).unwrap(), position);
            for length in 0..cursor.0.len() {
                // A cut at the border of two values is another position, never a panic.
                if let Ok(other) = Position::from_cursor(&Cursor(cursor.0[..length].to_vec())) {
                    assert_ne!(other, position);
                }
            }
        }
        for bad in [
            &b"k"[..],
            b"k\0\0\0\x01",
            b"x",
            b"c123",
            b"k\0\0\0\x01\xff\xff\xff\xffa",
        ] {
            assert_eq!(
                Position::from_cursor(&Cursor(bad.to_vec())).unwrap_err().code,
                "postgres.bad_cursor"
            );
        }
    }

    #[test]
    fn values_of_a_row_are_found_and_rubbish_ends_them() {
        let row = b"\0\x03\0\0\0\x02hi\xff\xff\xff\xff\0\0\0\x00";
        let found: Vec<_> = values(row).collect();
        assert_eq!(found, [Some(&b"hi"[..]), None, Some(b"")]);
        assert_eq!(values(b"\0\x01\0\0\0\x09hi").count(), 0);
        assert_eq!(values(b"").count(), 0);
        assert_eq!(Octets::Int4.text(&[255, 255, 255, 254]).as_deref(), Some("-2"));
        assert_eq!(Octets::Bytea.text(&[0, 255]).as_deref(), Some("\\x00ff"));
        assert_eq!(Octets::Int8.text(&[0; 4]), None);
    }
}
