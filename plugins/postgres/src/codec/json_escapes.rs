//! What JSON may say and `jsonb` cannot keep: the character NUL and halves of surrogate pairs, both as escapes.
//!
//! Only escapes are looked at. Whether a text is JSON at all the database finds out, since it reads every value anyway.

/// What stands in the escapes of a JSON text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Escapes {
    /// Nothing that would be refused.
    Fine,
    /// `\u0000`.
    Nul,
    /// `\ud800` to `\udfff` without its partner.
    LoneSurrogate,
}

/// The octets of `\u0000`.
const ESCAPE_BYTES: usize = 6;

/// Looks through the escapes of `json`.
pub(super) fn escapes(json: &[u8]) -> Escapes {
    let mut found = Escapes::Fine;
    let mut rest = json;
    while let Some(at) = rest.iter().position(|octet| *octet == b'\\') {
        rest = &rest[at..];
        let taken = match unit(rest) {
            Some(0) => {
                found = Escapes::Nul;
                ESCAPE_BYTES
            }
            Some(0xd800..=0xdbff) => match rest.get(ESCAPE_BYTES..).and_then(unit) {
                Some(0xdc00..=0xdfff) => 2 * ESCAPE_BYTES,
                _ => return Escapes::LoneSurrogate,
            },
            Some(0xdc00..=0xdfff) => return Escapes::LoneSurrogate,
            Some(_) => ESCAPE_BYTES,
            // Any other escape is a backslash and one octet.
            None => 2,
        };
        rest = rest.get(taken..).unwrap_or_default();
    }
    found
}

/// Appends `json` without its escapes of the character NUL.
pub(super) fn put_without_nul(json: &[u8], out: &mut Vec<u8>) {
    let mut rest = json;
    while let Some(at) = rest.iter().position(|octet| *octet == b'\\') {
        out.extend_from_slice(&rest[..at]);
        rest = &rest[at..];
        let taken = match unit(rest) {
            Some(0) => {
                rest = &rest[ESCAPE_BYTES..];
                continue;
            }
            Some(_) => ESCAPE_BYTES,
            None => rest.len().min(2),
        };
        out.extend_from_slice(&rest[..taken]);
        rest = &rest[taken..];
    }
    out.extend_from_slice(rest);
}

/// The number of the escape `\uXXXX` at the start of `text`.
fn unit(text: &[u8]) -> Option<u32> {
    let digits = text.strip_prefix(b"\\u")?.get(..4)?;
    digits.iter().try_fold(0, |number, digit| {
        Some(number * 16 + char::from(*digit).to_digit(16)?)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_jsonb_refuses_is_found() {
        for (json, found) in [
            (r#""plain""#, Escapes::Fine),
            (r#""\\u0000 \" \u00e4 \n""#, Escapes::Fine),
            (r#""\ud83e\udd86""#, Escapes::Fine),
            (r#""\u0000""#, Escapes::Nul),
            (r#"{"\\\u0000":1}"#, Escapes::Nul),
            (r#""\ud800""#, Escapes::LoneSurrogate),
            (r#""\uDFFF""#, Escapes::LoneSurrogate),
            (r#""\ud800\ud800""#, Escapes::LoneSurrogate),
            (r#""\u0000\ud800x""#, Escapes::LoneSurrogate),
            (r"\", Escapes::Fine),
            (r"\u00", Escapes::Fine),
        ] {
            assert_eq!(escapes(json.as_bytes()), found, "{json}");
        }
    }

    #[test]
    fn only_escapes_of_nul_are_removed() {
        for (json, without) in [
            (r#""a\u0000b\\u0000\u0001\u0000""#, r#""ab\\u0000\u0001""#),
            (r"\u0000", ""),
            (r"\", r"\"),
            (r"x\u00", r"x\u00"),
        ] {
            let mut out = Vec::new();
            put_without_nul(json.as_bytes(), &mut out);
            assert_eq!(out, without.as_bytes());
        }
    }
}
