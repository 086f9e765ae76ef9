//! A scanner of JSON text that builds nothing: where a value ends, of which kind it is, and what is wrong with it.
//!
//! It reads untrusted octets, so it neither recurses nor allocates. The grammar is RFC 8259; beyond it nesting over
//! [`NESTING_MAX`] is a fault, and so is a lone surrogate where a text would be read (what lies deeper stays JSON and keeps
//! it). Whether the octets are UTF-8 is the caller's question. Neighbours: [`crate::number`] (kinds of numbers), [`crate::inference`] and [`crate::framing`] (the users).

use crate::kinds::Kinds;
use crate::number;

/// How deep arrays and objects may nest: the limit of serde_json and of most readers of JSON.
pub(crate) const NESTING_MAX: u32 = 128;

/// What is wrong with a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It ends in the middle of a value.
    Incomplete,
    /// It is not JSON; the text says what was expected.
    Malformed(&'static str),
    /// An escape in a text or name of the record's own names half of a surrogate pair, which no text can hold.
    LoneSurrogate,
    /// Arrays and objects nest deeper than [`NESTING_MAX`].
    TooDeep,
    /// The octets are not UTF-8.
    NotUtf8,
}

impl Fault {
    /// The code of a record that is rejected for it, and why in words.
    pub(crate) fn described(self) -> (&'static str, String) {
        match self {
            Self::Incomplete => (
                "files.malformed_line",
                "a record ends in the middle of a value".to_owned(),
            ),
            Self::Malformed(expected) => (
                "files.malformed_line",
                format!("a record is not JSON: expected {expected}"),
            ),
            Self::NotUtf8 => ("files.not_utf8", "a record is not UTF-8".to_owned()),
            Self::LoneSurrogate => (
                "files.lone_surrogate",
                "an escape in a record names half of a surrogate pair".to_owned(),
            ),
            Self::TooDeep => (
                "files.nested_too_deep",
                format!("a record is nested deeper than {NESTING_MAX} levels"),
            ),
        }
    }
}

/// A fault and its place, an index into the octets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ScanError {
    pub(crate) at: usize,
    pub(crate) fault: Fault,
}

/// The answer of every function here.
pub(crate) type Scan<T> = Result<T, ScanError>;

fn fail<T>(at: usize, fault: Fault) -> Scan<T> {
    Err(ScanError { at, fault })
}

fn malformed<T>(at: usize, expected: &'static str) -> Scan<T> {
    fail(at, Fault::Malformed(expected))
}

/// A string in quotes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Quoted {
    /// Index after the closing quote.
    pub(crate) end: usize,
    /// Whether there are escapes inside.
    pub(crate) is_escaped: bool,
}

/// Scans a record (one whole value with nothing after it). Each member of an object is handed to `visit` with its
/// name as written, whether that has escapes, and its kind. Returns the kind of the record itself.
pub(crate) fn record<'text>(
    octets: &'text [u8],
    mut visit: impl FnMut(&'text [u8], bool, Kinds),
) -> Scan<Kinds> {
    let at = skip_space(octets, 0);
    if octets.get(at) != Some(&b'{') {
        let (end, kinds) = value(octets, at)?;
        return at_end(octets, end).map(|()| kinds);
    }
    let mut at = skip_space(octets, at + 1);
    if octet(octets, at)? == b'}' {
        return at_end(octets, at + 1).map(|()| Kinds::OBJECT);
    }
    loop {
        let start = at;
        let name = member_name(octets, at, true)?;
        at = skip_space(octets, name.colon + 1);
        let (end, kinds) = value(octets, at)?;
        visit(
            &octets[start + 1..name.quoted.end - 1],
            name.quoted.is_escaped,
            kinds,
        );
        at = skip_space(octets, end);
        match octet(octets, at)? {
            b',' => at = skip_space(octets, at + 1),
            b'}' => return at_end(octets, at + 1).map(|()| Kinds::OBJECT),
            _ => return malformed(at, "`,` or `}`"),
        }
    }
}

fn at_end(octets: &[u8], at: usize) -> Scan<()> {
    let at = skip_space(octets, at);
    if at == octets.len() {
        Ok(())
    } else {
        malformed(at, "the end of the record")
    }
}

/// Scans the value that begins at `at`: index after it, and its kind.
fn value(octets: &[u8], at: usize) -> Scan<(usize, Kinds)> {
    match octet(octets, at)? {
        b'"' => Ok((string(octets, at, true)?.end, Kinds::TEXT)),
        b'-' | b'0'..=b'9' => number::classify(octets, at),
        b'{' => Ok((skip_value(octets, at)?, Kinds::OBJECT)),
        b'[' => Ok((skip_value(octets, at)?, Kinds::ARRAY)),
        b'n' => Ok((literal(octets, at, b"null")?, Kinds::NULL)),
        b't' => Ok((literal(octets, at, b"true")?, Kinds::BOOL)),
        b'f' => Ok((literal(octets, at, b"false")?, Kinds::BOOL)),
        _ => malformed(at, "a value"),
    }
}

/// Index after the value that begins at `at`. A number that touches the end may go on in octets not yet read.
pub(crate) fn skip_value(octets: &[u8], mut at: usize) -> Scan<usize> {
    // One bit per open container, the innermost lowest: 1 is an object.
    let mut objects: u128 = 0;
    let mut depth = 0;
    'value: loop {
        at = skip_space(octets, at);
        match octet(octets, at)? {
            b'"' => at = string(octets, at, false)?.end,
            opening @ (b'{' | b'[') => {
                depth += 1;
                if depth > NESTING_MAX {
                    return fail(at, Fault::TooDeep);
                }
                let is_object = opening == b'{';
                objects = objects << 1 | u128::from(is_object);
                at = skip_space(octets, at + 1);
                match (octet(octets, at)?, is_object) {
                    (b'}', true) | (b']', false) => {
                        at += 1;
                        depth -= 1;
                        objects >>= 1;
                    }
                    (_, true) => {
                        at = member_name(octets, at, false)?.colon + 1;
                        continue 'value;
                    }
                    (_, false) => continue 'value,
                }
            }
            b'-' | b'0'..=b'9' => at = number::skip(octets, at)?,
            b'n' => at = literal(octets, at, b"null")?,
            b't' => at = literal(octets, at, b"true")?,
            b'f' => at = literal(octets, at, b"false")?,
            _ => return malformed(at, "a value"),
        }
        loop {
            if depth == 0 {
                return Ok(at);
            }
            at = skip_space(octets, at);
            match (octet(octets, at)?, objects & 1 == 1) {
                (b',', true) => {
                    at = member_name(octets, skip_space(octets, at + 1), false)?.colon + 1;
                    continue 'value;
                }
                (b',', false) => {
                    at += 1;
                    continue 'value;
                }
                (b'}', true) | (b']', false) => {
                    at += 1;
                    depth -= 1;
                    objects >>= 1;
                }
                (_, true) => return malformed(at, "`,` or `}`"),
                (_, false) => return malformed(at, "`,` or `]`"),
            }
        }
    }
}

/// How long the value is that `octets` begin with, judged by quotes and brackets alone; `None` if it does not end.
/// What is between them is for [`record`] to judge, so that one bad value does not spoil those after it. A number or
/// word that touches the end may go on in octets not yet read.
pub(crate) fn value_end(octets: &[u8]) -> Option<usize> {
    let mut depth = 0_u64;
    let mut at = 0;
    loop {
        match octets.get(at)? {
            b'"' => at = loose_string_end(octets, at)?,
            b'{' | b'[' => {
                depth += 1;
                at += 1;
            }
            b'}' | b']' if depth > 0 => {
                depth -= 1;
                at += 1;
            }
            _ if depth > 0 => {
                at += 1;
                continue;
            }
            _ => {
                let is_end = |octet: &u8| matches!(octet, b'"' | b'{' | b'}' | b'[' | b']' | b',' | 0..=b' ');
                return Some(octets.iter().position(is_end).unwrap_or(octets.len()));
            }
        }
        if depth == 0 {
            return Some(at);
        }
    }
}

fn loose_string_end(octets: &[u8], at: usize) -> Option<usize> {
    let mut at = at + 1;
    loop {
        at = plain_end(octets, at);
        match octets.get(at)? {
            b'"' => return Some(at + 1),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
}

struct MemberName {
    quoted: Quoted,
    colon: usize,
}

fn member_name(octets: &[u8], at: usize, is_text: bool) -> Scan<MemberName> {
    if octet(octets, at)? != b'"' {
        return malformed(at, "a member name in quotes");
    }
    let quoted = string(octets, at, is_text)?;
    let colon = skip_space(octets, quoted.end);
    if octet(octets, colon)? != b':' {
        return malformed(colon, "`:`");
    }
    Ok(MemberName { quoted, colon })
}

fn octet(octets: &[u8], at: usize) -> Scan<u8> {
    octets.get(at).copied().ok_or(ScanError {
        at,
        fault: Fault::Incomplete,
    })
}

/// Index of the first octet from `at` on that is not white space.
#[inline]
pub(crate) fn skip_space(octets: &[u8], mut at: usize) -> usize {
    while let Some(b' ' | b'\t' | b'\n' | b'\r') = octets.get(at) {
        at += 1;
    }
    at
}

fn literal(octets: &[u8], at: usize, word: &'static [u8]) -> Scan<usize> {
    let given = &octets[at..octets.len().min(at + word.len())];
    if given == word {
        Ok(at + word.len())
    } else if word.starts_with(given) {
        fail(octets.len(), Fault::Incomplete)
    } else {
        malformed(at, "a value")
    }
}

/// Scans the string whose opening quote is at `at`. Without `is_text` it stays JSON, and half a pair may stay too.
#[inline]
fn string(octets: &[u8], at: usize, is_text: bool) -> Scan<Quoted> {
    let mut at = at + 1;
    let mut is_escaped = false;
    loop {
        at = plain_end(octets, at);
        match octet(octets, at)? {
            b'"' => {
                return Ok(Quoted {
                    end: at + 1,
                    is_escaped,
                });
            }
            b'\\' => {
                is_escaped = true;
                at = escape(octets, at, is_text)?;
            }
            _ => return malformed(at, "no control character inside a string"),
        }
    }
}

/// Index of the first octet from `at` on that is a quote, a backslash or a control character, eight at a time.
#[inline]
fn plain_end(octets: &[u8], mut at: usize) -> usize {
    const ONES: u64 = u64::MAX / 255;
    const HIGH: u64 = ONES << 7;
    // High bit of each octet that is zero; above the lowest such octet there may be false ones, which do no harm.
    const fn zeros(word: u64) -> u64 {
        word.wrapping_sub(ONES) & !word & HIGH
    }
    while let Some(chunk) = octets.get(at..).and_then(|rest| rest.first_chunk::<8>()) {
        let word = u64::from_le_bytes(*chunk);
        let control = word.wrapping_sub(ONES * 0x20) & !word & HIGH;
        let found = zeros(word ^ (ONES * b'"' as u64)) | zeros(word ^ (ONES * b'\\' as u64)) | control;
        if found != 0 {
            return at + found.trailing_zeros() as usize / 8;
        }
        at += 8;
    }
    while let Some(octet) = octets.get(at) {
        if *octet < 0x20 || matches!(octet, b'"' | b'\\') {
            break;
        }
        at += 1;
    }
    at
}

/// Index after the escape whose backslash is at `at`.
fn escape(octets: &[u8], at: usize, is_text: bool) -> Scan<usize> {
    match octet(octets, at + 1)? {
        b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => Ok(at + 2),
        b'u' => match unit(octets, at + 2)? {
            _ if !is_text => Ok(at + 6),
            0xDC00..=0xDFFF => fail(at, Fault::LoneSurrogate),
            0xD800..=0xDBFF => {
                let rest = &octets[at + 6..];
                if rest.is_empty() || rest == b"\\" {
                    return fail(octets.len(), Fault::Incomplete);
                }
                if !rest.starts_with(b"\\u") || !(0xDC00..=0xDFFF).contains(&unit(octets, at + 8)?) {
                    return fail(at, Fault::LoneSurrogate);
                }
                Ok(at + 12)
            }
            _ => Ok(at + 6),
        },
        _ => malformed(at, "a known escape"),
    }
}

/// The four hexadecimal digits at `at`.
fn unit(octets: &[u8], at: usize) -> Scan<u32> {
    let mut unit = 0;
    for index in at..at + 4 {
        let digit = (octet(octets, index)? as char).to_digit(16);
        unit = unit * 16
            + digit.ok_or(ScanError {
                at: index,
                fault: Fault::Malformed("a hexadecimal digit"),
            })?;
    }
    Ok(unit)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn scan(text: &str) -> Scan<Kinds> {
        record(text.as_bytes(), |_, _, _| {})
    }

    #[test]
    fn what_is_json_is_accepted_and_what_is_not_is_refused() {
        for good in [
            "{}",
            " { } ",
            "[]",
            "[[],{}]",
            "null",
            "true",
            "false",
            "0",
            "-0",
            "1.5e-3",
            "\"\"",
            "\"\\u0000\"",
            "\"\\ud83d\\ude00\"",
            "{\"a\":{\"b\":[1,2,{\"c\":null}]},\"d\":\"x\"}",
            "{\"a\\nb\" : 1 , \"c\":[ ] }",
        ] {
            scan(good).unwrap_or_else(|error| panic!("{good}: {error:?}"));
            serde_json::from_str::<serde_json::Value>(good).unwrap();
        }
        for bad in [
            "",
            " ",
            "{",
            "{]",
            "[}",
            "{\"a\"}",
            "{\"a\":}",
            "{\"a\":1,}",
            "[1,]",
            "[,1]",
            "{a:1}",
            "nul",
            "nulL",
            "01",
            "+1",
            "1.",
            ".5",
            "1e",
            "1e+",
            "--1",
            "-",
            "\"",
            "\"a",
            "\"\\x\"",
            "\"\\u12\"",
            "\"\t\"",
            "{} x",
            "{}{}",
            "[1 2]",
            "{\"a\":1 \"b\":2}",
            "'a'",
            "NaN",
            "Infinity",
            "\u{feff}{}",
            "{\"a\":1}]",
        ] {
            assert!(scan(bad).is_err(), "{bad}");
            assert!(serde_json::from_str::<serde_json::Value>(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn half_a_surrogate_pair_is_a_fault_of_its_own() {
        for bad in [
            "\"\\ud800\"",
            "\"\\udc00\"",
            "\"\\ud800\\u0041\"",
            "\"\\ud800x\"",
            "{\"\\udfff\":1}",
            "{\"a\":\"\\udfff\"}",
        ] {
            assert_eq!(scan(bad).unwrap_err().fault, Fault::LoneSurrogate, "{bad}");
        }
        scan("[{\"\\udfff\":\"\\ud800\"}]").expect("what stays JSON keeps it");
    }

    #[test]
    fn depth_has_a_limit_and_costs_no_stack() {
        let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
        scan(&nested(NESTING_MAX as usize)).unwrap();
        let error = scan(&nested(NESTING_MAX as usize + 1)).unwrap_err();
        assert_eq!(error.fault, Fault::TooDeep);
        assert_eq!(scan(&"[".repeat(5_000_000)).unwrap_err().fault, Fault::TooDeep);
    }

    #[test]
    fn every_cut_of_a_value_is_incomplete() {
        let text = r#"{"a\u00e9\ud83d\ude00":[true,null,-1.5e+3,"x"],"b":{"c":false}}"#;
        for cut in 0..text.len() {
            assert_eq!(
                skip_value(&text.as_bytes()[..cut], 0).unwrap_err().fault,
                Fault::Incomplete,
                "{cut}"
            );
        }
        assert_eq!(skip_value(text.as_bytes(), 0).unwrap(), text.len());
    }

    #[test]
    fn members_are_visited_in_order_with_their_kinds() {
        let mut seen = Vec::new();
        let text = r#"{"a":1,"b\n":"x","c":[1],"d":null,"e":1.5,"f":true}"#;
        record(text.as_bytes(), |name, is_escaped, kinds| {
            seen.push((String::from_utf8(name.to_vec()).unwrap(), is_escaped, kinds));
        })
        .unwrap();
        let expected = [
            ("a", false, Kinds::INT_53),
            ("b\\n", true, Kinds::TEXT),
            ("c", false, Kinds::ARRAY),
            ("d", false, Kinds::NULL),
            ("e", false, Kinds::FLOAT),
            ("f", false, Kinds::BOOL),
        ];
        let seen: Vec<_> = seen
            .iter()
            .map(|(name, is_escaped, kinds)| (name.as_str(), *is_escaped, *kinds))
            .collect();
        assert_eq!(seen, expected);
    }

    proptest! {
        #[test]
        fn the_scanner_agrees_with_serde_json(text in r#"[\[\]{}:,"\\ a-c0-3eE.+\-tnurlfs]{0,24}"#) {
            let ours = scan(&text);
            let theirs = serde_json::from_str::<serde::de::IgnoredAny>(&text);
            // serde_json does not look into the escapes of what it ignores.
            let is_surrogate = matches!(ours, Err(ScanError { fault: Fault::LoneSurrogate, .. }));
            prop_assert_eq!(ours.is_ok() || is_surrogate, theirs.is_ok());
        }

        #[test]
        fn any_octets_end_without_panic(octets in proptest::collection::vec(any::<u8>(), 0..64)) {
            let scanned = record(&octets, |_, _, _| {});
            prop_assert!(scanned.is_ok() || scanned.unwrap_err().at <= octets.len() + 6);
        }
    }
}
