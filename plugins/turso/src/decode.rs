//! From values of the database to the columns of a batch; the way back of `encode`.
//!
//! A value that is none of the column's record type is refused and leaves a null in its place, so that the caller can
//! put the record aside and go on. Columns of which nothing is remembered and that hold several kinds of value
//! become `variant`.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use rusqlite::types::ValueRef;
use whimbrel_plugin_api::Result;
use whimbrel_plugin_api::arrow_array::builder::{
    BinaryBuilder, BooleanBuilder, Float32Builder, Float64Builder, Int8Builder, Int16Builder, Int32Builder,
    Int64Builder, StringBuilder,
};
use whimbrel_plugin_api::arrow_array::cast::AsArray as _;
use whimbrel_plugin_api::arrow_array::{Array as _, ArrayRef, ListArray, StructArray};
use whimbrel_plugin_api::arrow_schema::DataType;
use whimbrel_plugin_api::json_form::JsonDecoder;
use whimbrel_plugin_api::record_type::RecordType;
use whimbrel_plugin_api::text_form::TextDecoder;

use crate::encode::without_raw_json;
use crate::type_mapping::Form;

/// Octets of text and the like that a builder reserves per batch at first.
const BYTES_RESERVED: usize = 64 * 1024;

/// Builds one column.
pub(crate) enum Decoder {
    Bool(BooleanBuilder),
    Int8(Int8Builder),
    Int16(Int16Builder),
    Int32(Int32Builder),
    Int64(Int64Builder),
    Float32(Float32Builder),
    Float64(Float64Builder),
    Bytes(BinaryBuilder),
    Text(TextDecoder),
    /// The decoder, and the type that the column is to have.
    Json(JsonDecoder, DataType),
    /// Values of several kinds, as JSON.
    Mixed(StringBuilder),
}

impl Decoder {
    /// A decoder of columns that were written as `record_type`.
    pub(crate) fn new(record_type: &RecordType, capacity: usize) -> Result<Self> {
        Ok(match Form::of(record_type) {
            Form::AsIs | Form::Canonical => Self::Text(TextDecoder::new(record_type, capacity)?),
            Form::Json => Self::json(record_type, capacity)?,
            Form::Plain => match record_type {
                RecordType::Bool => Self::Bool(BooleanBuilder::with_capacity(capacity)),
                RecordType::Int { bits: 8 } => Self::Int8(Int8Builder::with_capacity(capacity)),
                RecordType::Int { bits: 16 } => Self::Int16(Int16Builder::with_capacity(capacity)),
                RecordType::Int { bits: 32 } => Self::Int32(Int32Builder::with_capacity(capacity)),
                RecordType::Int { .. } => Self::Int64(Int64Builder::with_capacity(capacity)),
                RecordType::Float { bits: 32 } => Self::Float32(Float32Builder::with_capacity(capacity)),
                RecordType::Float { .. } => Self::Float64(Float64Builder::with_capacity(capacity)),
                _ => Self::Bytes(BinaryBuilder::with_capacity(capacity, BYTES_RESERVED)),
            },
        })
    }

    /// A decoder of the JSON form, as nested columns and members of the rest column have it.
    pub(crate) fn json(record_type: &RecordType, capacity: usize) -> Result<Self> {
        Ok(Self::Json(
            JsonDecoder::new(&without_raw_json(record_type), capacity)?,
            record_type.to_arrow(),
        ))
    }

    /// A decoder of columns that hold values of several kinds.
    pub(crate) fn mixed(capacity: usize) -> Self {
        Self::Mixed(StringBuilder::with_capacity(capacity, BYTES_RESERVED))
    }

    /// Adds a null.
    pub(crate) fn push_null(&mut self) {
        match self {
            Self::Bool(builder) => builder.append_null(),
            Self::Int8(builder) => builder.append_null(),
            Self::Int16(builder) => builder.append_null(),
            Self::Int32(builder) => builder.append_null(),
            Self::Int64(builder) => builder.append_null(),
            Self::Float32(builder) => builder.append_null(),
            Self::Float64(builder) => builder.append_null(),
            Self::Bytes(builder) => builder.append_null(),
            Self::Text(decoder) => decoder.push_null(),
            Self::Json(decoder, _) => decoder.push_null(),
            Self::Mixed(builder) => builder.append_null(),
        }
    }

    /// Adds a value, or a null if the value does not fit; answers whether it does.
    pub(crate) fn push(&mut self, value: ValueRef<'_>) -> bool {
        let fits = self.try_push(value).is_some();
        if !fits {
            self.push_null();
        }
        fits
    }

    /// Adds the value that stands as JSON in `raw`.
    pub(crate) fn push_json(&mut self, raw: &str) -> bool {
        self.push(ValueRef::Text(raw.as_bytes()))
    }

    fn try_push(&mut self, value: ValueRef<'_>) -> Option<()> {
        if matches!(value, ValueRef::Null) {
            self.push_null();
            return Some(());
        }
        match (self, value) {
            (Self::Bool(builder), ValueRef::Integer(number @ (0 | 1))) => builder.append_value(number == 1),
            (Self::Int8(builder), ValueRef::Integer(number)) => builder.append_value(number.try_into().ok()?),
            (Self::Int16(builder), ValueRef::Integer(number)) => {
                builder.append_value(number.try_into().ok()?)
            }
            (Self::Int32(builder), ValueRef::Integer(number)) => {
                builder.append_value(number.try_into().ok()?)
            }
            (Self::Int64(builder), ValueRef::Integer(number)) => builder.append_value(number),
            (Self::Float32(builder), value) => {
                let number = float(value)?;
                let narrow = number as f32;
                if f64::from(narrow) != number {
                    return None;
                }
                builder.append_value(narrow);
            }
            (Self::Float64(builder), value) => builder.append_value(float(value)?),
            (Self::Bytes(builder), ValueRef::Blob(octets)) => builder.append_value(octets),
            (Self::Text(decoder), ValueRef::Text(text)) => decoder.push(str::from_utf8(text).ok()?).ok()?,
            (Self::Json(decoder, _), ValueRef::Text(text)) => {
                decoder.push_raw(str::from_utf8(text).ok()?).ok()?
            }
            (Self::Mixed(builder), value) => builder.append_value(mixed(value)?),
            _ => return None,
        }
        Some(())
    }

    /// The column; the decoder is then empty.
    pub(crate) fn finish(&mut self) -> Result<ArrayRef> {
        Ok(match self {
            Self::Bool(builder) => Arc::new(builder.finish()),
            Self::Int8(builder) => Arc::new(builder.finish()),
            Self::Int16(builder) => Arc::new(builder.finish()),
            Self::Int32(builder) => Arc::new(builder.finish()),
            Self::Int64(builder) => Arc::new(builder.finish()),
            Self::Float32(builder) => Arc::new(builder.finish()),
            Self::Float64(builder) => Arc::new(builder.finish()),
            Self::Bytes(builder) => Arc::new(builder.finish()),
            Self::Text(decoder) => decoder.finish()?,
            Self::Json(decoder, data_type) => retyped(&decoder.finish()?, data_type)?,
            Self::Mixed(builder) => Arc::new(builder.finish()),
        })
    }
}

/// A float, also from an integer that is the same number: columns without a float type keep whole floats so.
fn float(value: ValueRef<'_>) -> Option<f64> {
    match value {
        ValueRef::Real(number) => Some(number),
        ValueRef::Integer(number) if i128::from(number) == (number as f64) as i128 => Some(number as f64),
        _ => None,
    }
}

/// A value of any kind as JSON; what JSON cannot express is a tagged object.
fn mixed(value: ValueRef<'_>) -> Option<String> {
    let tagged = |name: &str, text: &str| Some(format!("{{\"$type\":\"{name}\",\"value\":\"{text}\"}}"));
    match value {
        ValueRef::Null => None,
        ValueRef::Integer(number) => Some(number.to_string()),
        ValueRef::Real(number) if number.is_finite() => serde_json::to_string(&number).ok(),
        ValueRef::Real(number) if number > 0.0 => tagged("float64", "Infinity"),
        ValueRef::Real(_) => tagged("float64", "-Infinity"),
        ValueRef::Text(text) => serde_json::to_string(str::from_utf8(text).ok()?).ok(),
        ValueRef::Blob(octets) => tagged("bytes", &BASE64.encode(octets)),
    }
}

/// The same values under a type that differs only in what is said of its members.
fn retyped(array: &ArrayRef, data_type: &DataType) -> Result<ArrayRef> {
    if array.data_type() == data_type {
        return Ok(Arc::clone(array));
    }
    Ok(match data_type {
        DataType::List(item) => {
            let (_, offsets, values, nulls) = array.as_list::<i32>().clone().into_parts();
            let values = retyped(&values, item.data_type())?;
            Arc::new(ListArray::try_new(Arc::clone(item), offsets, values, nulls)?)
        }
        DataType::Struct(fields) if !fields.is_empty() => {
            let (_, columns, nulls) = array.as_struct().clone().into_parts();
            let columns = columns
                .iter()
                .zip(fields)
                .map(|(column, field)| retyped(column, field.data_type()));
            Arc::new(StructArray::try_new(
                fields.clone(),
                columns.collect::<Result<_>>()?,
                nulls,
            )?)
        }
        _ => Arc::clone(array),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_another_kind_are_refused_and_leave_a_null() {
        let text = ValueRef::Text(b"1");
        for (record_type, bad) in [
            (RecordType::Bool, ValueRef::Integer(2)),
            (RecordType::Int { bits: 8 }, ValueRef::Integer(128)),
            (RecordType::INT64, ValueRef::Real(1.0)),
            (RecordType::INT64, text),
            (RecordType::Float { bits: 32 }, ValueRef::Real(0.1)),
            (RecordType::FLOAT64, ValueRef::Integer(i64::MAX)),
            (RecordType::FLOAT64, text),
            (RecordType::Text, ValueRef::Integer(1)),
            (RecordType::Text, ValueRef::Text(&[0xff])),
            (RecordType::Bytes, text),
            (RecordType::Uuid, text),
            (RecordType::Vector, ValueRef::Text(b"[1,")),
        ] {
            let mut decoder = Decoder::new(&record_type, 1).unwrap();
            assert!(!decoder.push(bad), "{record_type}: {bad:?}");
            assert!(decoder.push(ValueRef::Null));
            assert_eq!(decoder.finish().unwrap().null_count(), 2);
        }
    }

    #[test]
    fn whole_floats_that_were_kept_as_integers_are_floats_again() {
        let mut decoder = Decoder::new(&RecordType::FLOAT64, 1).unwrap();
        assert!(decoder.push(ValueRef::Integer(1 << 60)));
        assert!(!decoder.push(ValueRef::Integer((1 << 60) + 1)));
    }

    #[test]
    fn mixed_values_are_json_with_tags_for_the_rest() {
        let mut decoder = Decoder::mixed(1);
        for value in [
            ValueRef::Integer(i64::MIN),
            ValueRef::Real(1.0),
            ValueRef::Real(f64::NEG_INFINITY),
            ValueRef::Text("a\"\0ü".as_bytes()),
            ValueRef::Blob(&[0, 255]),
        ] {
            assert!(decoder.push(value));
        }
        assert!(!decoder.push(ValueRef::Text(&[0xff])));
        let column = decoder.finish().unwrap();
        let texts: Vec<_> = column.as_string::<i32>().iter().flatten().collect();
        assert_eq!(
            texts,
            [
                "-9223372036854775808",
                "1.0",
                "{\"$type\":\"float64\",\"value\":\"-Infinity\"}",
                "\"a\\\"\\u0000ü\"",
                "{\"$type\":\"bytes\",\"value\":\"AP8=\"}",
            ]
        );
    }
}
