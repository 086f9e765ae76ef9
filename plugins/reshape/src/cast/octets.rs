//! Octets to texts and identifiers, and back.
//! Hexadecimal digits are what the canonical text of bytes has; base64 and UTF-8 are asked for by `format`.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use whimbrel_plugin_api::arrow_array::builder::{BinaryBuilder, FixedSizeBinaryBuilder};
use whimbrel_plugin_api::arrow_array::cast::AsArray as _;
use whimbrel_plugin_api::arrow_array::{Array as _, ArrayRef};
use whimbrel_plugin_api::text_form::TextEncoder;
use whimbrel_plugin_api::{RecordType, Result};

use crate::columns::{Converted, TextColumn, nulls_at};
use crate::reading::wrong;

use super::Settings;

/// How octets convert.
#[derive(Debug, Clone)]
pub(super) enum OctetWay {
    ToText(Encoding),
    FromText(Encoding),
    UuidToBytes,
    BytesToUuid,
}

/// How octets stand in text.
#[derive(Debug, Clone, Copy)]
pub(super) enum Encoding {
    Hex,
    Base64,
    Utf8,
}

impl OctetWay {
    /// Between text and octets, in the format of the settings.
    pub(super) fn text(to_bytes: bool, settings: &Settings<'_>) -> Result<Self> {
        let encoding = match settings.format {
            None | Some("hex") => Encoding::Hex,
            Some("base64") => Encoding::Base64,
            Some("utf8") => Encoding::Utf8,
            Some(_) => {
                return Err(wrong(
                    "bad_format",
                    "the format of bytes in text is unknown (valid: hex, base64, utf8)",
                    &settings.key("format"),
                ));
            }
        };
        Ok(if to_bytes {
            Self::FromText(encoding)
        } else {
            Self::ToText(encoding)
        })
    }

    pub(super) fn run(&self, array: &ArrayRef) -> Result<Converted> {
        match self {
            Self::ToText(encoding) => encoding.write(array),
            Self::FromText(encoding) => Ok(encoding.read(array)),
            Self::UuidToBytes => {
                let uuids = array.as_fixed_size_binary();
                let mut bytes = BinaryBuilder::with_capacity(array.len(), array.len() * 16);
                for row in 0..array.len() {
                    bytes.append_option(array.is_valid(row).then(|| uuids.value(row)));
                }
                Ok(Converted::whole(Arc::new(bytes.finish())))
            }
            Self::BytesToUuid => {
                let octets = array.as_binary::<i32>();
                let mut uuids = FixedSizeBinaryBuilder::with_capacity(array.len(), 16);
                let mut failed = Vec::new();
                for row in 0..array.len() {
                    if array.is_valid(row) && octets.value(row).len() == 16 {
                        uuids.append_value(octets.value(row))?;
                    } else {
                        uuids.append_null();
                        if array.is_valid(row) {
                            failed.push(row);
                        }
                    }
                }
                Ok(Converted {
                    array: Arc::new(uuids.finish()),
                    failed,
                })
            }
        }
    }
}

impl Encoding {
    fn write(self, array: &ArrayRef) -> Result<Converted> {
        let octets = array.as_binary::<i32>();
        let hex = TextEncoder::new(&RecordType::Bytes, array)?;
        let mut column = TextColumn::new(array.len(), octets.values().len() * 2);
        let mut failed = Vec::new();
        for row in 0..array.len() {
            match self {
                _ if array.is_null(row) => {}
                Self::Hex => hex.write(row, column.text()),
                Self::Base64 => BASE64.encode_string(octets.value(row), column.text()),
                Self::Utf8 => match std::str::from_utf8(octets.value(row)) {
                    Ok(text) => column.text().push_str(text),
                    Err(_) => failed.push(row),
                },
            }
            column.end()?;
        }
        Ok(Converted {
            array: column.finish(nulls_at(array.nulls(), &failed, array.len()))?,
            failed,
        })
    }

    fn read(self, array: &ArrayRef) -> Converted {
        let texts = array.as_string::<i32>();
        let mut bytes = BinaryBuilder::with_capacity(array.len(), texts.values().len());
        let mut failed = Vec::new();
        let mut scratch = Vec::new();
        for row in 0..array.len() {
            if array.is_null(row) {
                bytes.append_null();
                continue;
            }
            let text = texts.value(row);
            scratch.clear();
            let is_read = match self {
                Self::Hex => read_hex(text, &mut scratch).is_some(),
                Self::Base64 => BASE64.decode_vec(text, &mut scratch).is_ok(),
                Self::Utf8 => {
                    scratch.extend_from_slice(text.as_bytes());
                    true
                }
            };
            if is_read {
                bytes.append_value(&scratch);
            } else {
                bytes.append_null();
                failed.push(row);
            }
        }
        Converted {
            array: Arc::new(bytes.finish()),
            failed,
        }
    }
}

fn read_hex(text: &str, octets: &mut Vec<u8>) -> Option<()> {
    let digit = |octet: u8| char::from(octet).to_digit(16);
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    for [high, low] in pairs {
        octets.push((digit(*high)? * 16 + digit(*low)?) as u8);
    }
    rest.is_empty().then_some(())
}
