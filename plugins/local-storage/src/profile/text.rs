//! What a profile holds, as the text of an export of the form `per-origin`.
//!
//! The rest of the plugin reads that text as if a page had written it, so that keys become collections, and halves of
//! surrogate pairs (escapes here, as `JSON.stringify` writes them) are rejected or replaced, by one set of rules.

use std::fmt::Write as _;

use whimbrel_plugin_api::Result;

use crate::config::LocalStorageConfig;
use crate::error;

/// The text while it grows, origin by origin.
pub struct ExportText<'a> {
    config: &'a LocalStorageConfig,
    text: String,
    origin: Option<String>,
    is_wanted: bool,
    has_entry: bool,
    /// Entries of all origins, chosen or not.
    pub entry_count: usize,
}

impl<'a> ExportText<'a> {
    pub fn new(config: &'a LocalStorageConfig) -> Self {
        Self {
            config,
            text: "{".to_owned(),
            origin: None,
            is_wanted: false,
            has_entry: false,
            entry_count: 0,
        }
    }

    /// What follows belongs to this origin. Origins that were not asked for stay without entries.
    pub fn origin(&mut self, name: &str) {
        if self.origin.as_deref() == Some(name) {
            return;
        }
        if self.origin.is_some() {
            self.text.push_str("\n},\n");
        }
        write_string(&mut self.text, &units_of(name));
        self.text.push_str(":{");
        self.is_wanted = self.config.wants(name);
        self.has_entry = false;
        self.origin = Some(name.to_owned());
    }

    /// Adds an entry, as UTF-16 units.
    pub fn entry(&mut self, key: &[u16], value: &[u16]) -> Result<()> {
        self.entry_count += 1;
        if !self.is_wanted {
            return Ok(());
        }
        self.text.push_str(if self.has_entry { ",\n" } else { "\n" });
        self.has_entry = true;
        write_string(&mut self.text, key);
        self.text.push(':');
        write_string(&mut self.text, value);
        if self.text.len() as u64 > self.config.size_bytes_max {
            return Err(error::too_large(&self.config.path, self.config.size_bytes_max));
        }
        Ok(())
    }

    pub fn finish(mut self) -> String {
        self.text
            .push_str(if self.origin.is_some() { "\n}}" } else { "}" });
        self.text
    }
}

/// The UTF-16 units of text.
pub fn units_of(text: &str) -> Vec<u16> {
    text.encode_utf16().collect()
}

/// The UTF-16 units of octets in UTF-16LE; `None` if half of one is missing.
pub fn units_of_utf16(octets: &[u8]) -> Option<Vec<u16>> {
    let (pairs, rest) = octets.as_chunks::<2>();
    rest.is_empty()
        .then(|| pairs.iter().map(|pair| u16::from_le_bytes(*pair)).collect())
}

/// The UTF-16 units of octets in UTF-8, in which halves of surrogate pairs may stand for themselves (ED A0..BF 80..BF,
/// as SQLite writes them); `None` if anything else is wrong.
pub fn units_of_utf8(octets: &[u8]) -> Option<Vec<u16>> {
    let mut units = Vec::with_capacity(octets.len());
    let mut rest = octets;
    while !rest.is_empty() {
        let valid = rest.utf8_chunks().next().map_or("", |chunk| chunk.valid());
        units.extend(valid.encode_utf16());
        rest = match &rest[valid.len()..] {
            [0xED, second @ 0xA0..=0xBF, third @ 0x80..=0xBF, after @ ..] => {
                units.push(0xD000 | u16::from(second & 0x3F) << 6 | u16::from(third & 0x3F));
                after
            }
            [] => &[],
            _ => return None,
        };
    }
    Some(units)
}

/// Writes a JSON string.
fn write_string(out: &mut String, units: &[u16]) {
    out.push('"');
    for unit in char::decode_utf16(units.iter().copied()) {
        match unit {
            Ok(character @ ('"' | '\\')) => {
                out.push('\\');
                out.push(character);
            }
            Ok(character @ '\0'..='\u{1f}') => escape(out, character as u16),
            Ok(character) => out.push(character),
            Err(half) => escape(out, half.unpaired_surrogate()),
        }
    }
    out.push('"');
}

fn escape(out: &mut String, unit: u16) {
    write!(out, "\\u{unit:04x}").expect("a String takes all that is written");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_in_utf8_are_kept_and_other_faults_are_seen() {
        assert_eq!(units_of_utf8("é鳥🐦".as_bytes()).unwrap(), units_of("é鳥🐦"));
        assert_eq!(
            units_of_utf8(b"a\xED\xA0\xBDb\xED\xB0\xA6").unwrap(),
            [0x61, 0xD83D, 0x62, 0xDC26]
        );
        for wrong in [&b"\xFF"[..], b"a\xED", b"\xED\xA0", b"\xC3", b"\xED\xA0\xC0"] {
            assert_eq!(units_of_utf8(wrong), None, "{wrong:x?}");
        }
        assert_eq!(units_of_utf16(b"a\0\x3D\xD8").unwrap(), [0x61, 0xD83D]);
        assert_eq!(units_of_utf16(b"a\0b"), None);
    }

    #[test]
    fn the_text_is_json_that_keeps_every_unit() {
        let config = LocalStorageConfig::of_path("x");
        let mut text = ExportText::new(&config);
        text.origin("http://a");
        text.entry(&units_of("k\"\\\0\u{1f}\u{7f}"), &[0xD83D]).unwrap();
        text.origin("http://a");
        text.entry(&units_of(""), &[0xDC26, 0xD83D, 0xDC26]).unwrap();
        text.origin("http://b");
        assert_eq!(
            text.finish(),
            "{\"http://a\":{\n\"k\\\"\\\\\\u0000\\u001f\u{7f}\":\"\\ud83d\",\n\"\":\"\\udc26🐦\"\n},\n\"http://b\":{\n}}"
        );
        assert_eq!(ExportText::new(&config).finish(), "{}");
    }
}
