//! The octets of this source's cursors and partition descriptors: where to go on, and in which state of the file.
//!
//! Both hold the file's length and time of change, so that a file that is no longer the same is noticed and never read
//! on from a place that means something else.

use whimbrel_plugin_api::{Cursor, Error, Result};

use crate::format::Identity;
use crate::inference::Shape;

/// The first octet of both; another number is another form.
const VERSION: u8 = 1;
/// Two octets, then four numbers of eight.
const LENGTH: usize = 34;

/// A part of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) identity: Identity,
    /// How records become columns, so that a reader need not look through the file again.
    pub(crate) shape: Shape,
    /// Whether the types rest on a sample; then each record is held against them.
    pub(crate) is_sample: bool,
    pub(crate) start: u64,
    pub(crate) end: u64,
}

/// Behind a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mark {
    pub(crate) identity: Identity,
    /// Whether the record is an element of an array.
    pub(crate) is_array: bool,
    /// After decompression.
    pub(crate) offset: u64,
}

impl Part {
    pub(crate) fn encode(self) -> Cursor {
        let shape = match self.shape {
            Shape::Columns => 0,
            Shape::Value => 1,
            Shape::Document => 2,
        };
        encode(
            shape | u8::from(self.is_sample) << 4,
            [
                self.identity.size_bytes,
                self.identity.changed_ns,
                self.start,
                self.end,
            ],
        )
    }

    pub(crate) fn decode(cursor: &Cursor) -> Result<Self> {
        let (flags, [size_bytes, changed_ns, start, end]) = decode(cursor)?;
        let shape = match flags & 15 {
            0 => Shape::Columns,
            1 => Shape::Value,
            2 => Shape::Document,
            _ => return Err(invalid()),
        };
        Ok(Self {
            identity: Identity {
                size_bytes,
                changed_ns,
            },
            shape,
            is_sample: flags & 16 != 0,
            start,
            end,
        })
    }
}

impl Mark {
    pub(crate) fn encode(self) -> Cursor {
        encode(
            u8::from(self.is_array),
            [self.identity.size_bytes, self.identity.changed_ns, self.offset, 0],
        )
    }

    pub(crate) fn decode(cursor: &Cursor) -> Result<Self> {
        let (flags, [size_bytes, changed_ns, offset, _]) = decode(cursor)?;
        Ok(Self {
            identity: Identity {
                size_bytes,
                changed_ns,
            },
            is_array: flags & 1 != 0,
            offset,
        })
    }
}

fn encode(flags: u8, numbers: [u64; 4]) -> Cursor {
    let mut octets = Vec::with_capacity(LENGTH);
    octets.extend_from_slice(&[VERSION, flags]);
    numbers
        .iter()
        .for_each(|number| octets.extend_from_slice(&number.to_le_bytes()));
    Cursor(octets)
}

fn decode(cursor: &Cursor) -> Result<(u8, [u64; 4])> {
    match cursor.0.split_first_chunk::<2>() {
        Some(([VERSION, flags], rest)) if rest.len() == LENGTH - 2 => {
            let mut numbers = [0; 4];
            for (number, octets) in numbers.iter_mut().zip(rest.chunks_exact(8)) {
                *number = u64::from_le_bytes(octets.try_into().map_err(|_| invalid())?);
            }
            Ok((*flags, numbers))
        }
        _ => Err(invalid()),
    }
}

fn invalid() -> Error {
    Error::invalid_data(
        "files.invalid_cursor",
        "a cursor or partition was not made by this version of the plugin",
    )
    .with_help("start the run anew")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn octets_come_back_and_others_are_refused() {
        let identity = Identity {
            size_bytes: u64::MAX,
            changed_ns: 7,
        };
        for shape in [Shape::Columns, Shape::Value, Shape::Document] {
            for is_sample in [false, true] {
                let part = Part {
                    identity,
                    shape,
                    is_sample,
                    start: 3,
                    end: 1 << 60,
                };
                assert_eq!(Part::decode(&part.encode()).unwrap(), part);
            }
        }
        let mark = Mark {
            identity,
            is_array: true,
            offset: 9,
        };
        assert_eq!(Mark::decode(&mark.encode()).unwrap(), mark);
        for bad in [vec![], vec![1], vec![2; LENGTH], vec![1; LENGTH + 1]] {
            assert_eq!(
                Mark::decode(&Cursor(bad)).unwrap_err().code,
                "files.invalid_cursor"
            );
        }
    }
}
