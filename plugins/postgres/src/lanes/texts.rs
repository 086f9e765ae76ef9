//! The parts of a lane as texts that every database can hold, and back.
//!
//! PostgreSQL has no NUL in a text, and a database that is not UTF-8 lacks most letters. What stands for them begins with
//! a backslash, so a backslash is doubled. Names are kept for people, since the digest finds the row; but who began a lane
//! is compared and read back.

use std::collections::BTreeMap;

use whimbrel_plugin_api::{Error, Result};

use crate::names::literal;

/// Octets as they stand in statements.
pub(super) fn bytes(octets: &[u8]) -> String {
    let mut hex = String::with_capacity(octets.len() * 2 + 2);
    hex.push_str("\\x");
    for octet in octets {
        hex.extend(digits(*octet));
    }
    format!("{}::bytea", literal(&hex))
}

/// The two hexadecimal digits of an octet.
fn digits(octet: u8) -> [char; 2] {
    const DIGITS: [u8; 16] = *b"0123456789abcdef";
    [octet >> 4, octet & 15].map(|half| char::from(DIGITS[usize::from(half)]))
}

/// Octets as the server writes them, with `bytea_output = hex`.
pub(super) fn bytes_of(text: &str) -> Result<Vec<u8>> {
    let digit = |octet: u8| {
        char::from(octet)
            .to_digit(16)
            .and_then(|digit| u8::try_from(digit).ok())
    };
    let hex = text.strip_prefix("\\x").map(str::as_bytes);
    let hex = hex.filter(|hex| hex.len() % 2 == 0).ok_or_else(damaged)?;
    let pair = |pair: &[u8]| Some(digit(*pair.first()?)? * 16 + digit(*pair.get(1)?)?);
    hex.chunks(2).map(|two| pair(two).ok_or_else(damaged)).collect()
}

/// `text` as it is kept.
pub(super) fn kept(text: &str, is_utf8: bool) -> String {
    let mut kept = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '\\' => kept.push_str("\\\\"),
            '\0' => kept.extend(letter.escape_unicode()),
            _ if !is_utf8 && !letter.is_ascii() => kept.extend(letter.escape_unicode()),
            _ => kept.push(letter),
        }
    }
    kept
}

/// The text that was [`kept`].
pub(super) fn text_of(kept: &str) -> Result<String> {
    let mut text = String::with_capacity(kept.len());
    let mut rest = kept;
    while let Some((before, behind)) = rest.split_once('\\') {
        text.push_str(before);
        rest = match behind.strip_prefix("u{") {
            Some(coded) => {
                let (number, behind) = coded.split_once('}').ok_or_else(damaged)?;
                let letter = u32::from_str_radix(number, 16).ok().and_then(char::from_u32);
                text.push(letter.ok_or_else(damaged)?);
                behind
            }
            None => {
                text.push('\\');
                behind.strip_prefix('\\').ok_or_else(damaged)?
            }
        };
    }
    text.push_str(rest);
    Ok(text)
}

/// Extensions as JSON of ASCII letters alone.
pub(super) fn extensions_text(extensions: &BTreeMap<String, String>) -> String {
    let json: serde_json::Value = extensions
        .iter()
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    let mut text = String::new();
    for letter in json.to_string().chars() {
        if letter.is_ascii() {
            text.push(letter);
        } else {
            for unit in letter.encode_utf16(&mut [0; 2]) {
                text.push_str("\\u");
                text.extend(unit.to_be_bytes().iter().flat_map(|octet| digits(*octet)));
            }
        }
    }
    text
}

/// The extensions of [`extensions_text`].
pub(super) fn extensions_of(text: &str) -> Result<BTreeMap<String, String>> {
    serde_json::from_str(text).map_err(|error| damaged().with_cause(&error))
}

/// A number of a lane.
pub(super) fn number_of(text: &str) -> Result<u64> {
    text.parse().map_err(|error| damaged().with_cause(&error))
}

/// Somebody else has written there.
pub(super) fn damaged() -> Error {
    Error::new(
        whimbrel_plugin_api::ErrorKind::Integrity,
        "postgres.lane_damaged",
        "a row of the table `lane` is none that whimbrel has written",
    )
    .with_help("see who changed it; without the row the partition is copied anew")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_text_survives_in_every_encoding() {
        for text in [
            "",
            "plain",
            "\\",
            "\\\\u{0}",
            "a\0b",
            "u{41}",
            "\\u{41}",
            "na\u{ef}ve \u{1F426}",
            "'\"$$",
        ] {
            for is_utf8 in [true, false] {
                let kept = kept(text, is_utf8);
                assert!(!kept.contains('\0') && (is_utf8 || kept.is_ascii()), "{kept:?}");
                assert_eq!(text_of(&kept).unwrap(), text);
            }
            let extensions = BTreeMap::from([(text.to_owned(), text.to_owned())]);
            let written = extensions_text(&extensions);
            assert!(written.is_ascii() && !written.contains('\0'));
            assert_eq!(extensions_of(&written).unwrap(), extensions);
        }
        for bad in ["\\", "\\x", "\\u{", "\\u{110000}", "\\u{d800}"] {
            assert_eq!(text_of(bad).unwrap_err().code, "postgres.lane_damaged", "{bad}");
        }
    }

    #[test]
    fn octets_survive() {
        assert_eq!(bytes(&[0, 0xab, 255]), r"E'\\x00abff'::bytea");
        assert_eq!(bytes_of("\\x00abff").unwrap(), [0, 0xab, 255]);
        for bad in ["", "00", "\\x0", "\\x0g", "\\x\u{ef}"] {
            assert_eq!(bytes_of(bad).unwrap_err().code, "postgres.lane_damaged", "{bad}");
        }
    }
}
