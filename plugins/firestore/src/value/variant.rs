//! The JSON of values whose type differs between records.
//!
//! What JSON has a value for is that value: integers as they are, doubles with a point, members sorted by name, so that equal
//! maps are equal texts. What it has none for, and numbers that a store of JSON might change, are objects
//! `{"$type": name, "value": ..}` with the JSON form of a value of that type; a map that has a member `$type` of its own is
//! within such an object. `ABI.md` has the rule. Neighbour: `json_value` is the way back.

use std::collections::HashMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use gcloud_sdk::google::firestore::v1::value::ValueType;
use gcloud_sdk::google::firestore::v1::{MapValue, Value};

use crate::path::Root;

use super::document_id::put_reference;
use super::instant;
use super::kinds::vector_items;
use super::numbers::{is_plain_in_json, put_double, put_float_text, put_json_number};

/// Which values there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Json {
    /// Those of JSON.
    Plain,
    /// Those of JSON, and the others as tagged objects.
    Tagged,
}

/// The members of a tagged object.
pub(super) const TAG: &str = "$type";
pub(super) const TAGGED: &str = "value";

/// The names of the types that stand in tagged objects.
pub(super) const FLOAT64: &str = "float64";
pub(super) const TIMESTAMP_TZ: &str = "timestamp_tz";
pub(super) const BYTES: &str = "bytes";
pub(super) const GEOPOINT: &str = "geopoint";
pub(super) const REFERENCE: &str = "reference";
pub(super) const VECTOR: &str = "vector";
/// A map whose members include [`TAG`].
pub(super) const OBJECT: &str = "object";

/// Members up to this number are sorted without an allocation.
const SORTED_IN_PLACE_MAX: usize = 16;

/// Appends a value as JSON; `None` if it has none, and `out` then holds a part of it. `scratch` is where texts are made. How deep
/// values nest is bounded by the decoder of messages, which they come from.
pub(super) fn put_json(
    value: &Value,
    json: Json,
    root: &Root,
    scratch: &mut String,
    out: &mut Vec<u8>,
) -> Option<()> {
    Writer { json, root, scratch }.value(value, out)
}

/// A whole document as JSON with tagged objects, for people: a value of a kind that is not known here is a tagged object
/// without one.
pub(crate) fn json_text(fields: &HashMap<String, Value>, root: &Root) -> String {
    let mut scratch = String::new();
    let mut out = Vec::new();
    let mut fields: Vec<_> = fields.iter().collect();
    fields.sort_unstable_by_key(|(name, _)| *name);
    for (name, value) in fields {
        out.push(if out.is_empty() { b'{' } else { b',' });
        let start = out.len();
        let written = string(name, &mut out).and_then(|()| {
            out.push(b':');
            put_json(value, Json::Tagged, root, &mut scratch, &mut out)
        });
        if written.is_none() {
            out.truncate(start);
            // A name is always written; its value is what failed.
            let _: Option<()> = string(name, &mut out);
            out.extend_from_slice(b":{\"$type\":\"unknown\",\"value\":null}");
        }
    }
    if out.is_empty() {
        out.push(b'{');
    }
    out.push(b'}');
    String::from_utf8_lossy(&out).into_owned()
}

struct Writer<'w> {
    json: Json,
    root: &'w Root,
    scratch: &'w mut String,
}

impl Writer<'_> {
    fn value(&mut self, value: &Value, out: &mut Vec<u8>) -> Option<()> {
        match value.value_type.as_ref()? {
            ValueType::NullValue(_) => out.extend_from_slice(b"null"),
            ValueType::BooleanValue(value) => {
                out.extend_from_slice(if *value { b"true" } else { b"false" });
            }
            ValueType::IntegerValue(number) => serde_json::to_writer(out, number).ok()?,
            ValueType::DoubleValue(number) => self.double(*number, out)?,
            ValueType::StringValue(text) => string(text, out)?,
            ValueType::ArrayValue(array) => {
                out.push(b'[');
                for (index, item) in array.values.iter().enumerate() {
                    if index > 0 {
                        out.push(b',');
                    }
                    self.value(item, out)?;
                }
                out.push(b']');
            }
            ValueType::MapValue(map) => match self.json {
                Json::Plain => self.map(map, out)?,
                Json::Tagged => self.tagged_map(map, out)?,
            },
            _ if self.json == Json::Plain => return None,
            ValueType::TimestampValue(timestamp) => {
                if !instant::is_valid(timestamp) {
                    return None;
                }
                self.scratch.clear();
                instant::put(timestamp, self.scratch);
                self.tagged_text(TIMESTAMP_TZ, out)?;
            }
            ValueType::BytesValue(octets) => {
                open_tag(BYTES, out);
                base64(octets, out)?;
                out.push(b'}');
            }
            ValueType::ReferenceValue(name) => {
                open_tag(REFERENCE, out);
                string(put_reference(name, self.root), out)?;
                out.push(b'}');
            }
            ValueType::GeoPointValue(point) => {
                open_tag(GEOPOINT, out);
                out.extend_from_slice(b"{\"lat\":");
                self.number(point.latitude, out);
                out.extend_from_slice(b",\"lng\":");
                self.number(point.longitude, out);
                out.extend_from_slice(b"}}");
            }
            _ => return None,
        }
        Some(())
    }

    fn double(&mut self, number: f64, out: &mut Vec<u8>) -> Option<()> {
        match self.json {
            Json::Plain if !number.is_finite() => return None,
            Json::Plain => {
                self.scratch.clear();
                put_json_number(number, self.scratch);
                out.extend_from_slice(self.scratch.as_bytes());
            }
            Json::Tagged if is_plain_in_json(number) => self.number(number, out),
            Json::Tagged => {
                self.scratch.clear();
                put_float_text(number, self.scratch);
                self.tagged_text(FLOAT64, out)?;
            }
        }
        Some(())
    }

    /// A double where nothing else can be: a number with a point, or a string if a store of JSON might change it.
    fn number(&mut self, number: f64, out: &mut Vec<u8>) {
        self.scratch.clear();
        if is_plain_in_json(number) {
            put_double(number, self.scratch);
            out.extend_from_slice(self.scratch.as_bytes());
        } else {
            put_float_text(number, self.scratch);
            // The text form of floats has nothing to escape.
            out.push(b'"');
            out.extend_from_slice(self.scratch.as_bytes());
            out.push(b'"');
        }
    }

    /// A tagged object with the text in `scratch`.
    fn tagged_text(&mut self, name: &str, out: &mut Vec<u8>) -> Option<()> {
        open_tag(name, out);
        string(self.scratch, out)?;
        out.push(b'}');
        Some(())
    }

    fn tagged_map(&mut self, map: &MapValue, out: &mut Vec<u8>) -> Option<()> {
        if let Some(items) = vector_items(map) {
            open_tag(VECTOR, out);
            out.push(b'[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                let Some(ValueType::DoubleValue(number)) = item.value_type else {
                    return None;
                };
                self.number(number, out);
            }
            out.extend_from_slice(b"]}");
            return Some(());
        }
        if !map.fields.contains_key(TAG) {
            return self.map(map, out);
        }
        open_tag(OBJECT, out);
        self.map(map, out)?;
        out.push(b'}');
        Some(())
    }

    /// The members in the order of their names.
    fn map(&mut self, map: &MapValue, out: &mut Vec<u8>) -> Option<()> {
        let mut few = [None; SORTED_IN_PLACE_MAX];
        if let Some(few) = few.get_mut(..map.fields.len()) {
            few.iter_mut()
                .zip(&map.fields)
                .for_each(|(place, member)| *place = Some(member));
            few.sort_unstable_by_key(|member| member.map(|(name, _)| name));
            return self.members(few.iter().flatten().copied(), out);
        }
        let mut members: Vec<_> = map.fields.iter().collect();
        members.sort_unstable_by_key(|(name, _)| *name);
        self.members(members.into_iter(), out)
    }

    fn members<'m>(
        &mut self,
        members: impl Iterator<Item = (&'m String, &'m Value)>,
        out: &mut Vec<u8>,
    ) -> Option<()> {
        out.push(b'{');
        for (index, (name, value)) in members.enumerate() {
            if index > 0 {
                out.push(b',');
            }
            string(name, out)?;
            out.push(b':');
            self.value(value, out)?;
        }
        out.push(b'}');
        Some(())
    }
}

/// Begins a tagged object, up to its value.
fn open_tag(name: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"$type\":\"");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\",\"value\":");
}

fn string(text: &str, out: &mut Vec<u8>) -> Option<()> {
    serde_json::to_writer(out, text).ok()
}

fn base64(octets: &[u8], out: &mut Vec<u8>) -> Option<()> {
    out.push(b'"');
    let start = out.len();
    out.resize(start + octets.len().div_ceil(3) * 4, 0);
    BASE64.encode_slice(octets, &mut out[start..]).ok()?;
    out.push(b'"');
    Some(())
}
