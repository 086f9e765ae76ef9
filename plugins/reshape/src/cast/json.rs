//! JSON and variants to typed values, and typed values to JSON.
//! A JSON null is no value of any type but json and variant. Neighbour: `parts` decodes slices of JSON with these, too.

use std::borrow::Cow;
use std::sync::Arc;

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use whimbrel_plugin_api::arrow_array::cast::AsArray as _;
use whimbrel_plugin_api::arrow_array::{Array as _, ArrayRef, StringArray};
use whimbrel_plugin_api::json_form::{JsonDecoder, JsonEncoder, JsonNull, UnknownKeys};
use whimbrel_plugin_api::text_form::TextEncoder;
use whimbrel_plugin_api::{RecordType, Result};

use crate::columns::{Converted, TextColumn, nulls_at};

use super::texts::is_no_fault_of_the_record;

/// How JSON is involved.
#[derive(Debug, Clone)]
pub(super) enum JsonWay {
    /// JSON to a type.
    Decode,
    /// The same, and a tagged object stands for the text in it.
    DecodeVariant,
    /// JSON to text: strings without their quotes, anything else as it is.
    Unquote,
    /// A text that should be JSON.
    Validate,
    /// A type to JSON.
    Encode,
    /// A type to a variant.
    EncodeVariant,
    /// Lists to lists and structs to structs, member by member.
    Through,
}

impl JsonWay {
    pub(super) fn run(&self, from: &RecordType, to: &RecordType, array: &ArrayRef) -> Result<Converted> {
        match self {
            Self::Decode => decode(to, array.as_string(), |raw| raw),
            Self::DecodeVariant => decode(to, array.as_string(), untagged),
            Self::Unquote => unquote(array.as_string()),
            Self::Validate => Ok(validate(array)),
            Self::Encode => encode(from, array),
            Self::EncodeVariant => encode_variant(from, array),
            Self::Through => {
                let json = encode(from, array)?;
                let converted = decode(to, json.array.as_string(), |raw| raw)?;
                // Encoding fails for JSON in members that is none; those rows are null and did not fail in decoding.
                let mut failed = json.failed;
                failed.extend(converted.failed);
                failed.sort_unstable();
                Ok(Converted {
                    array: converted.array,
                    failed,
                })
            }
        }
    }
}

/// A decoder in which a key that a struct does not have fails.
pub(crate) fn new_decoder(to: &RecordType, capacity: usize) -> Result<JsonDecoder> {
    Ok(JsonDecoder::new(to, capacity)?.with_unknown_keys(UnknownKeys::Fail))
}

/// Adds a slice of JSON, or a null if it is no value of the type; whether it was one.
pub(crate) fn decode_slice(decoder: &mut JsonDecoder, slice: &str) -> Result<bool> {
    match decoder.push_raw(slice) {
        Ok(()) => Ok(true),
        Err(error) if is_no_fault_of_the_record(&error) => Err(error),
        Err(_) => {
            decoder.push_null();
            Ok(false)
        }
    }
}

fn decode<'a>(
    to: &RecordType,
    texts: &'a StringArray,
    inner: impl Fn(&'a str) -> &'a str,
) -> Result<Converted> {
    let mut decoder = new_decoder(to, texts.len())?;
    let mut failed = Vec::new();
    for row in 0..texts.len() {
        if texts.is_null(row) {
            decoder.push_null();
        } else if !decode_slice(&mut decoder, inner(texts.value(row)))? {
            failed.push(row);
        }
    }
    Ok(Converted {
        array: decoder.finish()?,
        failed,
    })
}

/// A value that JSON cannot express, as variants have it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Tagged<'a> {
    #[serde(rename = "$type", borrow)]
    _name: Cow<'a, str>,
    #[serde(borrow)]
    value: &'a RawValue,
}

/// The JSON string within a tagged object, or the JSON itself.
pub(crate) fn untagged(raw: &str) -> &str {
    if !raw.trim_ascii_start().starts_with('{') || !raw.contains("$type") {
        return raw;
    }
    serde_json::from_str::<Tagged<'_>>(raw).map_or(raw, |tagged| tagged.value.get())
}

fn unquote(texts: &StringArray) -> Result<Converted> {
    let mut column = TextColumn::new(texts.len(), texts.values().len());
    let mut nulls = Vec::new();
    let mut failed = Vec::new();
    for row in 0..texts.len() {
        if texts.is_valid(row) {
            let raw = untagged(texts.value(row)).trim_ascii();
            if raw == "null" {
                nulls.push(row);
            } else if !raw.starts_with('"') {
                column.text().push_str(raw);
            } else if !raw.contains('\\') && raw.len() >= 2 {
                column.text().push_str(&raw[1..raw.len() - 1]);
            } else {
                match serde_json::from_str::<String>(raw) {
                    Ok(text) => column.text().push_str(&text),
                    Err(_) => failed.push(row),
                }
            }
        }
        column.end()?;
    }
    nulls.extend(&failed);
    Ok(Converted {
        array: column.finish(nulls_at(texts.nulls(), &nulls, texts.len()))?,
        failed,
    })
}

fn validate(array: &ArrayRef) -> Converted {
    let texts = array.as_string::<i32>();
    let is_json = |row: usize| serde_json::from_str::<IgnoredAny>(texts.value(row)).is_ok();
    let failed: Vec<usize> = (0..texts.len())
        .filter(|row| texts.is_valid(*row) && !is_json(*row))
        .collect();
    if failed.is_empty() {
        return Converted::whole(Arc::clone(array));
    }
    let nulls = nulls_at(texts.nulls(), &failed, texts.len());
    let array = StringArray::new(texts.offsets().clone(), texts.values().clone(), nulls);
    Converted {
        array: Arc::new(array),
        failed,
    }
}

fn encode(from: &RecordType, array: &ArrayRef) -> Result<Converted> {
    let encoder = JsonEncoder::new(from, array)?.with_json_null(JsonNull::AsNull);
    write_rows(array, |row, out| encoder.write(row, out).is_ok())
}

fn encode_variant(from: &RecordType, array: &ArrayRef) -> Result<Converted> {
    let encoder = JsonEncoder::new(from, array)?;
    let text = TextEncoder::new(from, array)?;
    let mut special = String::new();
    write_rows(array, |row, out| {
        let start = out.len();
        if encoder.write(row, out).is_err() {
            return false;
        }
        // A float that is no JSON number comes as a string, and a variant tags it.
        if out.get(start) == Some(&b'"') {
            out.truncate(start);
            special.clear();
            text.write(row, &mut special);
            out.extend_from_slice(format!(r#"{{"$type":"{from}","value":"{special}"}}"#).as_bytes());
        }
        true
    })
}

fn write_rows(array: &ArrayRef, mut write: impl FnMut(usize, &mut Vec<u8>) -> bool) -> Result<Converted> {
    let mut column = TextColumn::new(array.len(), array.get_buffer_memory_size());
    let mut scratch = Vec::new();
    let mut failed = Vec::new();
    for row in 0..array.len() {
        if array.is_valid(row) {
            scratch.clear();
            match write(row, &mut scratch).then(|| std::str::from_utf8(&scratch)) {
                Some(Ok(text)) => column.text().push_str(text),
                _ => failed.push(row),
            }
        }
        column.end()?;
    }
    Ok(Converted {
        array: column.finish(nulls_at(array.nulls(), &failed, array.len()))?,
        failed,
    })
}
