//! The source's opaque resume point within a partition.
//!
//! The host stores and hands back these octets and never looks inside. An empty cursor is the start.

use serde::{Deserialize, Serialize};

/// Opaque octets of the source; serialised as lower-case hexadecimal text.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Cursor(pub Vec<u8>);

impl Cursor {
    /// The start of a partition.
    pub const fn start() -> Self {
        Self(Vec::new())
    }

    /// Whether this is the start.
    pub fn is_start(&self) -> bool {
        self.0.is_empty()
    }
}

impl From<Cursor> for String {
    fn from(cursor: Cursor) -> Self {
        use std::fmt::Write as _;
        let mut text = Self::with_capacity(cursor.0.len() * 2);
        for octet in cursor.0 {
            write!(text, "{octet:02x}").expect("writing to a string does not fail");
        }
        text
    }
}

impl TryFrom<String> for Cursor {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let digits = text.as_bytes();
        if !digits.len().is_multiple_of(2) {
            return Err("a cursor has an odd number of digits".to_owned());
        }
        let value = |digit: u8| {
            (digit as char)
                .to_digit(16)
                .ok_or("a cursor has a digit that is not hexadecimal")
        };
        digits
            .chunks_exact(2)
            .map(|pair| Ok((value(pair[0])? * 16 + value(pair[1])?) as u8))
            .collect::<Result<_, &str>>()
            .map(Cursor)
            .map_err(str::to_owned)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn octets_survive_as_hexadecimal_text() {
        let cursor = Cursor((0..=255).collect());
        let text = serde_json::to_string(&cursor).unwrap();
        assert!(text.starts_with("\"000102"));
        assert_eq!(serde_json::from_str::<Cursor>(&text).unwrap(), cursor);
        for bad in ["\"0\"", "\"zz\"", "\"é0\""] {
            serde_json::from_str::<Cursor>(bad).unwrap_err();
        }
    }
}
