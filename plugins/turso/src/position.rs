//! Where a read stands: the values that order the table, and the cursor made of them.
//!
//! Row numbers of a table without an integer key may be given anew when the file is compacted, so a cursor over them
//! carries the number that the file counts up with each change of its layout.

use rusqlite::types::Value;
use whimbrel_plugin_api::{Cursor, Error, Result};

/// What a cursor over row numbers begins with.
const BY_ROW_NUMBER: u8 = b'r';
/// What a cursor over keys begins with.
const BY_KEY: u8 = b'k';

/// The values of the last record read, in the order of the query.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Position {
    pub(crate) by_key: bool,
    /// The file's layout number, if the position holds only while it stays.
    pub(crate) layout: Option<i64>,
    pub(crate) values: Vec<Value>,
}

impl Position {
    /// The position as a cursor.
    pub(crate) fn to_cursor(&self) -> Cursor {
        let mut octets = vec![if self.by_key { BY_KEY } else { BY_ROW_NUMBER }];
        let layout = self.layout.map_or(Value::Null, Value::Integer);
        for value in std::iter::once(&layout).chain(&self.values) {
            match value {
                Value::Null => octets.push(b'n'),
                Value::Integer(number) => {
                    octets.push(b'i');
                    octets.extend(number.to_be_bytes());
                }
                Value::Real(number) => {
                    octets.push(b'f');
                    octets.extend(number.to_bits().to_be_bytes());
                }
                Value::Text(text) => push_run(&mut octets, b't', text.as_bytes()),
                Value::Blob(blob) => push_run(&mut octets, b'b', blob),
            }
        }
        Cursor(octets)
    }

    /// The position of a cursor that [`Self::to_cursor`] made.
    ///
    /// # Errors
    /// `turso.bad_cursor` for any other octets.
    pub(crate) fn from_cursor(cursor: &Cursor) -> Result<Self> {
        Self::read(&cursor.0).ok_or_else(|| {
            Error::invalid_data("turso.bad_cursor", "the cursor is not one of this plugin")
                .with_help("read the collection from its start")
        })
    }

    fn read(octets: &[u8]) -> Option<Self> {
        let (kind, mut rest) = octets.split_first()?;
        let mut values = Vec::new();
        while let Some((tag, tail)) = rest.split_first() {
            let (value, tail) = match tag {
                b'n' => (Value::Null, tail),
                b'i' => {
                    let (number, tail) = tail.split_first_chunk::<8>()?;
                    (Value::Integer(i64::from_be_bytes(*number)), tail)
                }
                b'f' => {
                    let (number, tail) = tail.split_first_chunk::<8>()?;
                    (Value::Real(f64::from_bits(u64::from_be_bytes(*number))), tail)
                }
                b't' | b'b' => {
                    let (length, tail) = tail.split_first_chunk::<4>()?;
                    let (run, tail) = tail.split_at_checked(u32::from_be_bytes(*length) as usize)?;
                    let run = run.to_vec();
                    (
                        if *tag == b't' {
                            Value::Text(String::from_utf8(run).ok()?)
                        } else {
                            Value::Blob(run)
                        },
                        tail,
                    )
                }
                _ => return None,
            };
            values.push(value);
            rest = tail;
        }
        let layout = match values.first()? {
            Value::Null => None,
            Value::Integer(number) => Some(*number),
            _ => return None,
        };
        values.remove(0);
        let by_key = match *kind {
            BY_KEY => true,
            BY_ROW_NUMBER if matches!(values.as_slice(), [Value::Integer(_)]) => false,
            _ => return None,
        };
        Some(Self {
            by_key,
            layout,
            values,
        })
    }
}

fn push_run(octets: &mut Vec<u8>, tag: u8, run: &[u8]) {
    octets.push(tag);
    // A value of the database has at most 2^30 octets.
    octets.extend((run.len() as u32).to_be_bytes());
    octets.extend_from_slice(run);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_survive_as_cursors_and_anything_else_is_refused() {
        let position = Position {
            by_key: true,
            layout: Some(-7),
            values: vec![
                Value::Integer(i64::MIN),
                Value::Real(-0.5),
                Value::Text("a\0ü".into()),
                Value::Blob(vec![0, 255]),
                Value::Null,
            ],
        };
        let cursor = position.to_cursor();
        assert_eq!(Position::from_cursor(&cursor).unwrap(), position);
        for length in 0..cursor.0.len() {
            // A cut at the border of two values is a shorter position, never a panic.
            if let Ok(shorter) = Position::from_cursor(&Cursor(cursor.0[..length].to_vec())) {
                assert!(shorter.values.len() < position.values.len());
            }
        }
        for bad in [
            &b"r"[..],
            b"rn",
            b"rnn",
            b"rni",
            b"x",
            b"kz",
            b"knt\xff\xff\xff\xffa",
        ] {
            assert_eq!(
                Position::from_cursor(&Cursor(bad.to_vec())).unwrap_err().code,
                "turso.bad_cursor"
            );
        }
    }
}
