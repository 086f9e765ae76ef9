//! From an array of any record type to JSON values, one row at a time.
//!
//! The array is looked at once, when the encoder is made; names of struct members are escaped then. Scalars
//! with a plain text form go through [`TextEncoder`], so both forms agree.

use arrow_array::cast::AsArray as _;
use arrow_array::types::{Float32Type, Float64Type};
use arrow_array::{Array as _, ArrayRef, BinaryArray, PrimitiveArray, StringArray, StructArray};
use arrow_buffer::{NullBuffer, OffsetBuffer};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::de::IgnoredAny;

use crate::error::{Error, ErrorScope, Result};
use crate::record_type::{Field, RecordType};
use crate::text_form::{Float, Sink as _, TextEncoder, check_array, special, with_json_float};

use super::column::geopoint_members;

/// What happens to the JSON `null` in a json or variant column that may be null: in JSON it cannot be told
/// from a missing value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum JsonNull {
    /// Writing it is an error, so that nothing is lost silently.
    #[default]
    Refuse,
    /// It is written as `null` and reads back as a missing value: a declared loss of the caller.
    AsNull,
}

/// Writes the values of one column as JSON.
///
/// | type | JSON |
/// |---|---|
/// | bool, int | `true`, `false`; an integer, also beyond 2^53 |
/// | float | shortest number that reads back as the same bits (`1.0`, `-0.0`), or `"NaN"`, `"Infinity"`, `"-Infinity"` |
/// | decimal, numeric | the text form as a string, since many readers would round a number |
/// | bytes | base64 (RFC 4648, with padding) as a string |
/// | json, variant | the value itself |
/// | list, vector | an array, null items as `null` |
/// | struct, geopoint | an object (`{"lat":..,"lng":..}`), null members as `null` |
/// | any other | the text form (see [`TextEncoder`]) as a string |
///
/// A json value keeps its text, but for what JSON does not count: line breaks between tokens become spaces,
/// so that a record stays on one line, and space around the value is dropped when it is read. The JSON `null`
/// in a column that may be null cannot be told from a missing value: see [`JsonNull`].
///
/// ```
/// use std::sync::Arc;
/// use arrow_array::{ArrayRef, Float64Array};
/// # use whimbrel_plugin_api::{json_form::JsonEncoder, record_type::RecordType};
/// let floats: ArrayRef = Arc::new(Float64Array::from(vec![Some(-0.0), None]));
/// let encoder = JsonEncoder::new(&RecordType::FLOAT64, &floats)?;
/// let mut json = Vec::new();
/// encoder.write(0, &mut json)?;
/// json.push(b' ');
/// encoder.write(1, &mut json)?;
/// assert_eq!(json, b"-0.0 null");
/// # Ok::<(), whimbrel_plugin_api::error::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct JsonEncoder {
    node: Node,
    len: usize,
    json_null: JsonNull,
}

/// A column, or one within a column.
#[derive(Debug, Clone)]
pub(super) struct Node {
    values: Values,
    nulls: Option<NullBuffer>,
    nullable: bool,
}

#[derive(Debug, Clone)]
enum Values {
    /// The text form as it is: bool, int.
    Bare(TextEncoder),
    /// The text form in quotes, with nothing to escape.
    Quoted(TextEncoder),
    Float32(PrimitiveArray<Float32Type>),
    Float64(PrimitiveArray<Float64Type>),
    Text(StringArray),
    Base64(BinaryArray),
    /// JSON as it is.
    Raw(StringArray),
    List {
        offsets: OffsetBuffer<i32>,
        item: Box<Node>,
    },
    /// Each member behind its name, which is escaped, quoted and followed by a colon.
    Struct(Vec<(Box<[u8]>, Node)>),
}

impl JsonEncoder {
    /// An encoder of `array`, a column of `record_type` that may be null.
    ///
    /// # Errors
    /// `schema.bad_type` for parameters outside the closed list, `plugin.internal` if the array is not the
    /// physical type of `record_type`.
    pub fn new(record_type: &RecordType, array: &ArrayRef) -> Result<Self> {
        check_array(record_type, array)?;
        Ok(Self {
            node: Node::new(record_type, true, array)?,
            len: array.len(),
            json_null: JsonNull::default(),
        })
    }

    /// Says what happens to the JSON `null`; [`JsonNull::Refuse`] unless said.
    #[must_use]
    pub const fn with_json_null(mut self, json_null: JsonNull) -> Self {
        self.json_null = json_null;
        self
    }

    /// How many rows the column has.
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether the column has no rows.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Appends the value of `row` as JSON on one line; `null` if it is null.
    ///
    /// # Errors
    /// `json_form.invalid_json` if a json or variant value is not JSON, `json_form.json_null` as [`JsonNull`]
    /// says; both name the row. Nothing is then appended.
    ///
    /// # Panics
    /// If `row` is not below the number of rows.
    pub fn write(&self, row: usize, out: &mut Vec<u8>) -> Result<()> {
        let before = out.len();
        self.node.write(row, self.json_null, out).map_err(|error| {
            out.truncate(before);
            error.with_rows(vec![row as u64])
        })
    }
}

impl Node {
    /// The view of `array`, which has been checked against `record_type`.
    pub(super) fn new(record_type: &RecordType, nullable: bool, array: &ArrayRef) -> Result<Self> {
        Ok(Self {
            values: Values::new(record_type, array)?,
            nulls: array.nulls().cloned(),
            nullable,
        })
    }

    pub(super) fn write(&self, row: usize, json_null: JsonNull, out: &mut Vec<u8>) -> Result<()> {
        if self.nulls.as_ref().is_some_and(|nulls| nulls.is_null(row)) {
            out.text("null");
            return Ok(());
        }
        match &self.values {
            Values::Bare(values) => values.write_to(row, out),
            Values::Quoted(values) => {
                out.push(b'"');
                values.write_to(row, out);
                out.push(b'"');
            }
            Values::Float32(values) => put_float(values.value(row), out),
            Values::Float64(values) => put_float(values.value(row), out),
            Values::Text(values) => put_string(values.value(row), out)?,
            Values::Base64(values) => put_base64(values.value(row), out)?,
            Values::Raw(values) => put_raw(values.value(row), self.nullable, json_null, out)?,
            Values::List { offsets, item } => {
                out.push(b'[');
                // Offsets of a valid array are never negative.
                let (start, end) = (offsets[row] as usize, offsets[row + 1] as usize);
                for index in start..end {
                    if index > start {
                        out.push(b',');
                    }
                    item.write(index, json_null, out)?;
                }
                out.push(b']');
            }
            Values::Struct(members) => {
                out.push(b'{');
                for (index, (key, member)) in members.iter().enumerate() {
                    if index > 0 {
                        out.push(b',');
                    }
                    out.extend_from_slice(key);
                    member.write(row, json_null, out)?;
                }
                out.push(b'}');
            }
        }
        Ok(())
    }
}

impl Values {
    fn new(record_type: &RecordType, array: &ArrayRef) -> Result<Self> {
        Ok(match record_type {
            RecordType::Bool | RecordType::Int { .. } => Self::Bare(TextEncoder::new(record_type, array)?),
            RecordType::Decimal { .. }
            | RecordType::Date
            | RecordType::Time
            | RecordType::TimestampTz
            | RecordType::Timestamp
            | RecordType::Interval
            | RecordType::Uuid => Self::Quoted(TextEncoder::new(record_type, array)?),
            RecordType::Float { bits: 32 } => Self::Float32(array.as_primitive().clone()),
            RecordType::Float { .. } => Self::Float64(array.as_primitive().clone()),
            RecordType::Bytes => Self::Base64(array.as_binary().clone()),
            RecordType::Json | RecordType::Variant => Self::Raw(array.as_string().clone()),
            RecordType::Numeric
            | RecordType::Text
            | RecordType::TimeTz
            | RecordType::Reference
            | RecordType::Opaque { .. } => Self::Text(array.as_string().clone()),
            RecordType::List { item } => Self::list(item, true, array)?,
            RecordType::Vector => Self::list(&RecordType::FLOAT64, false, array)?,
            RecordType::Struct { fields } => Self::structure(fields, array.as_struct())?,
            RecordType::Geopoint => Self::structure(&geopoint_members(), array.as_struct())?,
        })
    }

    fn list(item: &RecordType, nullable: bool, array: &ArrayRef) -> Result<Self> {
        let lists = array.as_list::<i32>();
        Ok(Self::List {
            offsets: lists.offsets().clone(),
            item: Box::new(Node::new(item, nullable, lists.values())?),
        })
    }

    fn structure(members: &[Field], array: &StructArray) -> Result<Self> {
        let members = members.iter().zip(array.columns()).map(|(member, column)| {
            let node = Node::new(&member.record_type, member.nullable, column)?;
            Ok((escaped_key(&member.name)?, node))
        });
        members.collect::<Result<_>>().map(Self::Struct)
    }
}

/// A name as it stands in an object: escaped, quoted and followed by a colon.
pub(super) fn escaped_key(name: &str) -> Result<Box<[u8]>> {
    let mut key = Vec::with_capacity(name.len() + 3);
    put_string(name, &mut key)?;
    key.push(b':');
    Ok(key.into())
}

fn put_float<F: Float>(value: F, out: &mut Vec<u8>) {
    match special(value.into()) {
        Some(name) => {
            out.push(b'"');
            out.text(name);
            out.push(b'"');
        }
        None => with_json_float(value, |text| out.ascii(text)),
    }
}

fn put_string(text: &str, out: &mut Vec<u8>) -> Result<()> {
    serde_json::to_writer(out, text)
        .map_err(|error| Error::internal("a text could not be written as JSON").with_cause(&error))
}

fn put_base64(octets: &[u8], out: &mut Vec<u8>) -> Result<()> {
    out.push(b'"');
    let start = out.len();
    out.resize(start + octets.len().div_ceil(3) * 4, 0);
    BASE64
        .encode_slice(octets, &mut out[start..])
        .map_err(|error| Error::internal("octets could not be written as base64").with_cause(&error))?;
    out.push(b'"');
    Ok(())
}

fn put_raw(text: &str, nullable: bool, json_null: JsonNull, out: &mut Vec<u8>) -> Result<()> {
    if serde_json::from_str::<IgnoredAny>(text).is_err() {
        return Err(Error::invalid_data(
            "json_form.invalid_json",
            "a value of a JSON column is not valid JSON",
        )
        .with_scope(ErrorScope::Rows));
    }
    if nullable && json_null == JsonNull::Refuse && text.trim_ascii() == "null" {
        return Err(Error::invalid_data(
            "json_form.json_null",
            "a JSON `null` in a column that may be null would read back as a missing value",
        )
        .with_help("accept it as a declared loss"));
    }
    let start = out.len();
    out.text(text);
    // Strings of valid JSON hold no raw line break, so these are space between tokens.
    for octet in &mut out[start..] {
        if matches!(*octet, b'\n' | b'\r') {
            *octet = b' ';
        }
    }
    Ok(())
}
