//! JSON text taken apart without losing anything: slices of the text stand for values, and text that is not valid
//! Unicode is seen.
//!
//! JavaScript strings may hold half of a surrogate pair. JSON spells it as an escape (`\ud83d`), which no Rust string
//! can hold, so each function here says whether it met one. Nothing here decides what happens then (`grouping`).

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;

use serde::Deserializer as _;
use serde::de::{MapAccess, Visitor};
use serde_json::value::RawValue;

/// What stands for half of a surrogate pair.
const REPLACEMENT: &str = "\u{FFFD}";

/// Text in which a half of a surrogate pair may have been replaced.
#[derive(Debug, PartialEq, Eq)]
pub struct Text<'a> {
    /// The text.
    pub text: Cow<'a, str>,
    /// Whether a half was replaced by U+FFFD.
    pub replaced: bool,
}

/// Whether the whole of `text` is one JSON value.
pub fn is_json(text: &str) -> bool {
    serde_json::from_str::<&RawValue>(text).is_ok()
}

/// The members of a JSON object, in order, as raw names (with quotes) and raw values. Repeated names are kept.
pub fn members(object: &str) -> serde_json::Result<Vec<(&str, &str)>> {
    struct Members;
    impl<'de> Visitor<'de> for Members {
        type Value = Vec<(&'de str, &'de str)>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut members = Vec::new();
            while let Some((name, value)) = map.next_entry::<&RawValue, &RawValue>()? {
                members.push((name.get(), value.get()));
            }
            Ok(members)
        }
    }
    let mut deserializer = serde_json::Deserializer::from_str(object);
    let members = deserializer.deserialize_map(Members)?;
    deserializer.end()?;
    Ok(members)
}

/// The elements of a JSON array, in order.
pub fn elements(array: &str) -> serde_json::Result<Vec<&str>> {
    let elements: Vec<&RawValue> = serde_json::from_str(array)?;
    Ok(elements.into_iter().map(RawValue::get).collect())
}

/// The members of a JSON object with their names decoded; `None` if it is no object or a name stands twice.
pub fn distinct_members(object: &str) -> Option<Vec<(Text<'_>, &str)>> {
    let members = members(object).ok()?;
    let mut seen = HashSet::with_capacity(members.len());
    let decoded: Vec<_> = members
        .into_iter()
        .map(|(name, value)| (text(name), value))
        .collect();
    decoded
        .iter()
        .all(|(name, _)| seen.insert(name.text.as_ref()))
        .then_some(decoded)
}

/// Decodes a raw JSON string; halves of surrogate pairs become U+FFFD.
pub fn text(raw: &str) -> Text<'_> {
    decode(raw, |_, out| out.push_str(REPLACEMENT))
}

/// Decodes a raw JSON string that may itself hold JSON text; halves of surrogate pairs become the escapes that mean
/// the same there.
///
/// `None` if the result would not mean the same: a half after an odd number of backslashes was never valid JSON, but
/// its escape could be.
pub fn text_as_json(raw: &str) -> Option<Text<'_>> {
    let mut is_faithful = true;
    let decoded = decode(raw, |half, out| {
        is_faithful &= out.bytes().rev().take_while(|octet| *octet == b'\\').count() % 2 == 0;
        out.push_str(&format!("\\u{half:04x}"));
    });
    is_faithful.then_some(decoded)
}

/// Decodes a raw JSON string; `write` gets each half and the output so far, to which it adds.
fn decode<'a>(raw: &'a str, mut write: impl FnMut(u32, &mut String)) -> Text<'a> {
    let inside = raw.get(1..raw.len().saturating_sub(1)).unwrap_or_default();
    let whole = |text| Text {
        text,
        replaced: false,
    };
    if !inside.contains('\\') {
        return whole(Cow::Borrowed(inside));
    }
    match String::from_utf8(octets(raw)) {
        Ok(text) => whole(Cow::Owned(text)),
        Err(error) => {
            let mut out = String::with_capacity(error.as_bytes().len() + 16);
            let mut rest = error.as_bytes();
            while !rest.is_empty() {
                let valid = rest.utf8_chunks().next().map_or("", |chunk| chunk.valid());
                out.push_str(valid);
                rest = &rest[valid.len()..];
                // A half is three octets, ED A0..BF 80..BF (Unicode, table 3-6, without the exception for ED).
                if let [first, second, third, after @ ..] = rest {
                    let half = u32::from(first & 0x0F) << 12
                        | u32::from(second & 0x3F) << 6
                        | u32::from(third & 0x3F);
                    write(half, &mut out);
                    rest = after;
                } else {
                    rest = &[];
                }
            }
            Text {
                text: Cow::Owned(out),
                replaced: true,
            }
        }
    }
}

/// The octets of a raw JSON string, halves of surrogate pairs in the generalised UTF-8 that serde_json documents for
/// byte strings.
fn octets(raw: &str) -> Vec<u8> {
    struct Octets;
    impl Visitor<'_> for Octets {
        type Value = Vec<u8>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a string")
        }

        fn visit_bytes<E: serde::de::Error>(self, octets: &[u8]) -> Result<Vec<u8>, E> {
            Ok(octets.to_vec())
        }
    }
    let decoded = serde_json::Deserializer::from_str(raw).deserialize_bytes(Octets);
    decoded.expect("the string was validated as part of its document")
}

/// Whether JSON text has an escape that is half of a surrogate pair, in any string or name within it.
pub fn has_lone_half(json: &str) -> bool {
    lone_halves(json).next().is_some()
}

/// JSON text with each such escape replaced by that of U+FFFD.
pub fn without_lone_halves(json: &str) -> Text<'_> {
    let mut out = String::new();
    let mut copied = 0;
    for at in lone_halves(json) {
        out.push_str(&json[copied..at]);
        out.push_str("\\ufffd");
        copied = at + ESCAPE;
    }
    if copied == 0 {
        return Text {
            text: Cow::Borrowed(json),
            replaced: false,
        };
    }
    out.push_str(&json[copied..]);
    Text {
        text: Cow::Owned(out),
        replaced: true,
    }
}

/// Octets of `\uXXXX`.
const ESCAPE: usize = 6;

/// Where the escapes begin that are halves of surrogate pairs.
fn lone_halves(json: &str) -> impl Iterator<Item = usize> {
    let mut at = 0;
    std::iter::from_fn(move || {
        loop {
            at += json.get(at..)?.find('\\')?;
            let start = at;
            match unit(json, at) {
                Some(0xD800..=0xDBFF) if matches!(unit(json, at + ESCAPE), Some(0xDC00..=0xDFFF)) => {
                    at += 2 * ESCAPE
                }
                Some(0xD800..=0xDFFF) => {
                    at += ESCAPE;
                    return Some(start);
                }
                Some(_) => at += ESCAPE,
                // The backslash and what it stands before, which is ASCII in valid JSON.
                None => at += 2,
            }
        }
    })
}

/// The UTF-16 unit that the escape at `at` stands for, if one stands there.
fn unit(json: &str, at: usize) -> Option<u32> {
    let digits = json.get(at..at + ESCAPE)?.strip_prefix("\\u")?;
    u32::from_str_radix(digits, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_decode_and_halves_are_seen() {
        for (raw, expected, replaced) in [
            (r#""""#, "", false),
            (r#""plain 鳥""#, "plain 鳥", false),
            (r#""a\n\u00e9\\\/\"""#, "a\né\\/\"", false),
            (r#""\ud83d\udc26""#, "🐦", false),
            (r#""cut \ud83d""#, "cut \u{FFFD}", true),
            (r#""\udc26\ud83d x""#, "\u{FFFD}\u{FFFD} x", true),
            (r#""\ud83dé\ud83d\udc26\udc26""#, "\u{FFFD}é🐦\u{FFFD}", true),
            (r#""\u0000""#, "\0", false),
        ] {
            assert_eq!(
                text(raw),
                Text {
                    text: Cow::Borrowed(expected),
                    replaced
                },
                "{raw}"
            );
        }
    }

    #[test]
    fn a_half_within_json_text_becomes_its_escape() {
        let inner = text_as_json(r#""{\"t\":\"cut \ud83d\"}""#).unwrap();
        assert_eq!(inner.text, r#"{"t":"cut \ud83d"}"#);
        assert!(inner.replaced && is_json(&inner.text));
        // The half stands after a backslash: as an escape it would turn invalid JSON into valid JSON.
        assert_eq!(text_as_json(r#""[\"\\\ud83d\"]""#), None);
        assert!(text_as_json(r#""[\"\\\\\ud83d\"]""#).is_some());
    }

    #[test]
    fn lone_halves_in_json_text_are_found_and_pairs_are_not() {
        for (json, expected) in [
            (r#"{"a":"\ud83d\udc26"}"#, r#"{"a":"\ud83d\udc26"}"#),
            (r#"{"a":"\ud83d"}"#, r#"{"a":"\ufffd"}"#),
            (r#"{"\uDC26":1}"#, r#"{"\ufffd":1}"#),
            (r#"["\\ud83d"]"#, r#"["\\ud83d"]"#),
            (
                r#"["\\\ud83d","\ud83d\ud83d\udc26"]"#,
                r#"["\\\ufffd","\ufffd\ud83d\udc26"]"#,
            ),
            (r#""\ud83d\n""#, r#""\ufffd\n""#),
            ("[]", "[]"),
        ] {
            assert_eq!(without_lone_halves(json).text, expected);
            assert_eq!(has_lone_half(json), json != expected, "{json}");
        }
    }

    #[test]
    fn members_keep_order_text_and_repetition() {
        let object = r#" { "b" : 1.50 , "\u0061":[ 1 ], "b":null } "#;
        assert_eq!(
            members(object).unwrap(),
            [(r#""b""#, "1.50"), (r#""\u0061""#, "[ 1 ]"), (r#""b""#, "null")]
        );
        assert!(distinct_members(object).is_none());
        assert!(members("[]").is_err() && members("{} x").is_err() && members(r#"{"a":1"#).is_err());
        assert_eq!(elements("[1, [2] ,{}]").unwrap(), ["1", "[2]", "{}"]);
    }

    #[test]
    fn nesting_does_not_use_the_stack() {
        let deep = format!("{}{}", "[".repeat(1_000_000), "]".repeat(1_000_000));
        assert!(is_json(&deep));
    }
}
