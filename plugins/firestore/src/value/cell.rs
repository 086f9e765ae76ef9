//! From the values of one column to values of documents.
//!
//! A [`Cell`] is made once per column and batch; after that a row costs its value and nothing else. Which record type is
//! stored as what stands in `table`, in words; `fill` is the way back.

use std::collections::HashMap;

use arrow_array::cast::AsArray as _;
use arrow_array::types::{
    Decimal128Type, Float32Type, Int8Type, Int16Type, Int32Type, Int64Type, TimestampMicrosecondType,
};
use arrow_array::{
    Array as _, ArrayRef, BinaryArray, BooleanArray, Float64Array, PrimitiveArray, StringArray,
};
use arrow_buffer::{NullBuffer, OffsetBuffer};
use gcloud_sdk::google::firestore::v1::value::ValueType;
use gcloud_sdk::google::firestore::v1::{ArrayValue, MapValue, Value};
use gcloud_sdk::google::r#type::LatLng;
use whimbrel_plugin_api::text_form::{TextEncoder, write_timestamp_tz};
use whimbrel_plugin_api::{RecordType, Result};

use crate::path::Root;

use super::document_id::{is_reserved, stored_name};
use super::instant;
use super::json_value::read_json;
use super::kinds::{TYPE_MEMBER, VECTOR_MEMBER, VECTOR_TYPE};
use super::numbers::{self, DecimalForm, Number};
use super::unfit::Unfit;
use super::variant::Json;

/// A column, or one within a column.
#[derive(Debug)]
pub(super) struct Cell {
    nulls: Option<NullBuffer>,
    values: Values,
}

#[derive(Debug)]
enum Values {
    Bool(BooleanArray),
    Int8(PrimitiveArray<Int8Type>),
    Int16(PrimitiveArray<Int16Type>),
    Int32(PrimitiveArray<Int32Type>),
    Int64(PrimitiveArray<Int64Type>),
    Float32(PrimitiveArray<Float32Type>),
    Float64(Float64Array),
    /// A decimal of few digits, as an integer, or divided by this power of ten as a double.
    Integer(PrimitiveArray<Decimal128Type>),
    Double(PrimitiveArray<Decimal128Type>, f64),
    Numeric(StringArray),
    Text(StringArray),
    Canonical(TextEncoder),
    Bytes(BinaryArray),
    Instant(PrimitiveArray<TimestampMicrosecondType>),
    Reference(StringArray),
    Json(StringArray, Json),
    Geopoint(Float64Array, Float64Array),
    Vector(OffsetBuffer<i32>, Float64Array),
    List {
        offsets: OffsetBuffer<i32>,
        item: Box<Cell>,
    },
    /// Each member with its name.
    Struct(Vec<(String, Cell)>),
}

impl Cell {
    /// The view of `array`, which holds values of `record_type`.
    ///
    /// # Errors
    /// `plugin.internal` if the array is not the physical type of `record_type`.
    pub(super) fn new(record_type: &RecordType, array: &ArrayRef) -> Result<Self> {
        Ok(Self {
            nulls: array.nulls().cloned(),
            values: Values::new(record_type, array)?,
        })
    }

    pub(super) fn is_null(&self, row: usize) -> bool {
        self.nulls.as_ref().is_some_and(|nulls| nulls.is_null(row))
    }

    /// Whether the value of `row` is this text.
    pub(super) fn is_text(&self, row: usize, text: &str) -> bool {
        !self.is_null(row) && matches!(&self.values, Values::Text(values) if values.value(row) == text)
    }

    /// The value of `row`.
    ///
    /// # Errors
    /// Why Firestore has no such value.
    pub(super) fn value(&self, row: usize, root: &Root) -> Result<Value, Unfit> {
        if self.is_null(row) {
            return Ok(null());
        }
        Ok(value(match &self.values {
            Values::Bool(values) => ValueType::BooleanValue(values.value(row)),
            Values::Int8(values) => ValueType::IntegerValue(values.value(row).into()),
            Values::Int16(values) => ValueType::IntegerValue(values.value(row).into()),
            Values::Int32(values) => ValueType::IntegerValue(values.value(row).into()),
            Values::Int64(values) => ValueType::IntegerValue(values.value(row)),
            Values::Float32(values) => ValueType::DoubleValue(values.value(row).into()),
            Values::Float64(values) => ValueType::DoubleValue(values.value(row)),
            // What passes the precision comes from arrays that were not validated.
            Values::Integer(values) => {
                ValueType::IntegerValue(i64::try_from(values.value(row)).map_err(|_| Unfit::NUMBER)?)
            }
            // Both are exact as doubles, so their quotient is the double next to the decimal.
            Values::Double(values, divisor) => ValueType::DoubleValue(values.value(row) as f64 / divisor),
            Values::Numeric(values) => numeric(values.value(row)),
            Values::Text(values) => ValueType::StringValue(values.value(row).to_owned()),
            Values::Canonical(values) => {
                let mut text = String::new();
                values.write(row, &mut text);
                ValueType::StringValue(text)
            }
            Values::Bytes(values) => ValueType::BytesValue(values.value(row).to_vec()),
            Values::Instant(values) => instant_of(values.value(row)),
            Values::Reference(values) => reference(values.value(row), root)?,
            Values::Json(values, json) => {
                return read_json(values.value(row), *json, root, &mut String::new());
            }
            Values::Geopoint(lat, lng) => return geopoint(lat.value(row), lng.value(row)),
            Values::Vector(offsets, items) => {
                let (start, end) = run(offsets, row);
                if start == end {
                    // The service refuses a vector without numbers.
                    return Ok(value(ValueType::ArrayValue(ArrayValue::default())));
                }
                return Ok(vector(items.values()[start..end].to_vec()));
            }
            Values::List { offsets, item } => {
                let (start, end) = run(offsets, row);
                let items = (start..end).map(|index| match item.value(index, root)? {
                    Value {
                        value_type: Some(ValueType::ArrayValue(_)),
                    } => Err(Unfit::ARRAY_IN_ARRAY),
                    value => Ok(value),
                });
                let values = items.collect::<Result<_, Unfit>>()?;
                ValueType::ArrayValue(ArrayValue { values })
            }
            Values::Struct(members) => {
                let mut fields = HashMap::with_capacity(members.len());
                for (name, member) in members {
                    if name.is_empty() || is_reserved(name) {
                        return Err(Unfit::MEMBER_NAME);
                    }
                    fields.insert(name.clone(), member.value(row, root)?);
                }
                ValueType::MapValue(MapValue { fields })
            }
        }))
    }
}

impl Values {
    fn new(record_type: &RecordType, array: &ArrayRef) -> Result<Self> {
        Ok(match record_type {
            RecordType::Bool => Self::Bool(array.as_boolean().clone()),
            RecordType::Int { bits: 8 } => Self::Int8(array.as_primitive().clone()),
            RecordType::Int { bits: 16 } => Self::Int16(array.as_primitive().clone()),
            RecordType::Int { bits: 32 } => Self::Int32(array.as_primitive().clone()),
            RecordType::Int { .. } => Self::Int64(array.as_primitive().clone()),
            RecordType::Float { bits: 32 } => Self::Float32(array.as_primitive().clone()),
            RecordType::Float { .. } => Self::Float64(array.as_primitive().clone()),
            RecordType::Decimal { precision, scale } => match DecimalForm::of(*precision, *scale) {
                DecimalForm::Integer => Self::Integer(array.as_primitive().clone()),
                DecimalForm::Double => {
                    Self::Double(array.as_primitive().clone(), 10_f64.powi(i32::from(*scale)))
                }
                DecimalForm::Text => Self::Canonical(TextEncoder::new(record_type, array)?),
            },
            RecordType::Numeric => Self::Numeric(array.as_string().clone()),
            RecordType::Text | RecordType::TimeTz | RecordType::Opaque { .. } => {
                Self::Text(array.as_string().clone())
            }
            RecordType::Date
            | RecordType::Time
            | RecordType::Timestamp
            | RecordType::Interval
            | RecordType::Uuid => Self::Canonical(TextEncoder::new(record_type, array)?),
            RecordType::Bytes => Self::Bytes(array.as_binary().clone()),
            RecordType::TimestampTz => Self::Instant(array.as_primitive().clone()),
            RecordType::Reference => Self::Reference(array.as_string().clone()),
            RecordType::Json => Self::Json(array.as_string().clone(), Json::Plain),
            RecordType::Variant => Self::Json(array.as_string().clone(), Json::Tagged),
            RecordType::Geopoint => {
                let parts = array.as_struct();
                let part = |index: usize| parts.column(index).as_primitive().clone();
                Self::Geopoint(part(0), part(1))
            }
            RecordType::Vector => {
                let lists = array.as_list::<i32>();
                Self::Vector(lists.offsets().clone(), lists.values().as_primitive().clone())
            }
            RecordType::List { item } => {
                let lists = array.as_list::<i32>();
                Self::List {
                    offsets: lists.offsets().clone(),
                    item: Box::new(Cell::new(item, lists.values())?),
                }
            }
            RecordType::Struct { fields } => {
                let members = fields
                    .iter()
                    .zip(array.as_struct().columns())
                    .map(|(field, column)| Ok((field.name.clone(), Cell::new(&field.record_type, column)?)));
                Self::Struct(members.collect::<Result<_>>()?)
            }
        })
    }
}

/// Where a list begins and ends among all items.
fn run(offsets: &OffsetBuffer<i32>, row: usize) -> (usize, usize) {
    // Offsets of a valid array are never negative.
    (offsets[row] as usize, offsets[row + 1] as usize)
}

fn numeric(text: &str) -> ValueType {
    match numbers::of_numeric(text, &mut String::new()) {
        Some(Number::Integer(number)) => ValueType::IntegerValue(number),
        Some(Number::Double(number)) => ValueType::DoubleValue(number),
        None => ValueType::StringValue(text.to_owned()),
    }
}

fn instant_of(micros: i64) -> ValueType {
    match instant::from_micros(micros) {
        Some(timestamp) => ValueType::TimestampValue(timestamp),
        None => {
            let mut text = String::new();
            write_timestamp_tz(micros, &mut text);
            ValueType::StringValue(text)
        }
    }
}

fn reference(text: &str, root: &Root) -> Result<ValueType, Unfit> {
    Ok(match stored_name(text, root)? {
        Some(name) => ValueType::ReferenceValue(name),
        None => ValueType::StringValue(text.to_owned()),
    })
}

/// A value.
pub(super) const fn value(value_type: ValueType) -> Value {
    Value {
        value_type: Some(value_type),
    }
}

/// The null.
pub(super) const fn null() -> Value {
    value(ValueType::NullValue(0))
}

/// A geopoint, if it is one. The sign of -0.0 is lost, as is declared: the message of a geopoint leaves out what is zero.
pub(super) fn geopoint(latitude: f64, longitude: f64) -> Result<Value, Unfit> {
    if !(-90.0..=90.0).contains(&latitude) || !(-180.0..=180.0).contains(&longitude) {
        return Err(Unfit::GEOPOINT);
    }
    Ok(value(ValueType::GeoPointValue(LatLng {
        latitude: latitude + 0.0,
        longitude: longitude + 0.0,
    })))
}

/// A vector, which is a map that says so of itself.
pub(super) fn vector(numbers: Vec<f64>) -> Value {
    let values = numbers
        .into_iter()
        .map(|number| value(ValueType::DoubleValue(number)))
        .collect();
    let fields = HashMap::from([
        (
            TYPE_MEMBER.to_owned(),
            value(ValueType::StringValue(VECTOR_TYPE.to_owned())),
        ),
        (
            VECTOR_MEMBER.to_owned(),
            value(ValueType::ArrayValue(ArrayValue { values })),
        ),
    ]);
    value(ValueType::MapValue(MapValue { fields }))
}
