//! Puts values of documents into columns.
//!
//! A column takes what `cell` stores for its record type, and nothing else: no integer as a double, no text as a timestamp
//! but those that the service has no timestamp for. So two stored values never read alike, and a field that changes its
//! type is seen. On a failure the column may hold a part of the value; whoever started the record cuts it back.

use std::fmt::Write as _;

use gcloud_sdk::google::firestore::v1::value::ValueType;
use gcloud_sdk::google::firestore::v1::{MapValue, Value};
use whimbrel_plugin_api::text_form::{TextDecoder, parse_timestamp_tz};

use crate::path::Root;

use super::column::{Column, Member, Values};
use super::document_id::{document_name, put_reference};
use super::instant;
use super::kinds::vector_items;
use super::numbers::{self, DecimalForm};
use super::runs::{Ends, Runs, TooLarge};
use super::variant::{Json, put_json};

/// Why a column does not take a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// It is none that is stored for the column's type.
    Value,
    /// The column's offsets cannot count further.
    TooLarge,
}

impl From<TooLarge> for Refusal {
    fn from(_: TooLarge) -> Self {
        Self::TooLarge
    }
}

/// What is needed besides the value.
#[derive(Debug)]
pub(super) struct Filler<'f> {
    pub(super) root: &'f Root,
    /// Where texts are made.
    pub(super) scratch: &'f mut String,
}

impl Filler<'_> {
    /// Adds a value, which may be null.
    pub(super) fn push(&mut self, column: &mut Column, value: &Value) -> Result<(), Refusal> {
        let Some(value_type) = &value.value_type else {
            return Err(Refusal::Value);
        };
        if matches!(value_type, ValueType::NullValue(_)) {
            column.push_null();
            return Ok(());
        }
        match (&mut column.values, value_type) {
            (Values::Variant(runs), _) => self.put_json(runs, value, Json::Tagged)?,
            (Values::Json(runs), _) => self.put_json(runs, value, Json::Plain)?,
            (Values::Bool(values), ValueType::BooleanValue(value)) => values.append(*value),
            (Values::Int8(values), ValueType::IntegerValue(number)) => values.push(narrowed(*number)?),
            (Values::Int16(values), ValueType::IntegerValue(number)) => values.push(narrowed(*number)?),
            (Values::Int32(values), ValueType::IntegerValue(number)) => values.push(narrowed(*number)?),
            (Values::Int64(values), ValueType::IntegerValue(number)) => values.push(*number),
            (Values::Float32(values), ValueType::DoubleValue(number)) => values.push(float32(*number)?),
            (Values::Float64(values), ValueType::DoubleValue(number)) => values.push(*number),
            (Values::Decimal(decoder, form), value) => self.decimal(decoder, *form, value)?,
            (Values::Numeric(decoder), value) => self.numeric(decoder, value)?,
            (Values::Text(runs), ValueType::StringValue(text)) => runs.push(text.as_bytes())?,
            (Values::Canonical(decoder), ValueType::StringValue(text)) => push_text(decoder, text)?,
            (Values::Bytes(runs), ValueType::BytesValue(octets)) => runs.push(octets)?,
            (Values::Instant(values), value) => values.push(instant_of(value)?),
            (Values::Reference(runs), value) => self.reference(runs, value)?,
            (Values::Geopoint { lat, lng }, ValueType::GeoPointValue(point)) => {
                lat.push(point.latitude);
                lng.push(point.longitude);
            }
            (Values::Vector { ends, items }, ValueType::MapValue(map)) => vector(ends, items, map)?,
            // What stands for a vector without numbers.
            (Values::Vector { ends, items }, ValueType::ArrayValue(array)) if array.values.is_empty() => {
                ends.push(items.len())?;
            }
            (Values::List { ends, item }, ValueType::ArrayValue(array)) => {
                for value in &array.values {
                    self.push(item, value)?;
                }
                ends.push(item.len())?;
            }
            (Values::Struct(members), ValueType::MapValue(map)) => self.members(members, map)?,
            _ => return Err(Refusal::Value),
        }
        column.end();
        Ok(())
    }

    /// Adds a value where none may be missing. The one null that is a value is that of JSON.
    pub(super) fn push_required(&mut self, column: &mut Column, value: &Value) -> Result<(), Refusal> {
        if !matches!(value.value_type, Some(ValueType::NullValue(_))) {
            return self.push(column, value);
        }
        let (Values::Json(runs) | Values::Variant(runs)) = &mut column.values else {
            return Err(Refusal::Value);
        };
        runs.push(b"null")?;
        column.end();
        Ok(())
    }

    fn put_json(&mut self, runs: &mut Runs, value: &Value, json: Json) -> Result<(), Refusal> {
        put_json(value, json, self.root, self.scratch, runs.open()).ok_or(Refusal::Value)?;
        Ok(runs.end()?)
    }

    fn decimal(
        &mut self,
        decoder: &mut TextDecoder,
        form: DecimalForm,
        value: &ValueType,
    ) -> Result<(), Refusal> {
        match (form, value) {
            (DecimalForm::Integer, ValueType::IntegerValue(number)) => self.push_integer(decoder, *number),
            (DecimalForm::Double, ValueType::DoubleValue(number)) if !is_negative_zero(*number) => {
                self.push_double(decoder, *number)
            }
            (DecimalForm::Text, ValueType::StringValue(text)) => push_text(decoder, text),
            _ => Err(Refusal::Value),
        }
    }

    fn numeric(&mut self, decoder: &mut TextDecoder, value: &ValueType) -> Result<(), Refusal> {
        match value {
            ValueType::IntegerValue(number) => self.push_integer(decoder, *number),
            ValueType::DoubleValue(number) if !is_negative_zero(*number) => {
                self.push_double(decoder, *number)
            }
            // A text that is there in place of a number was none that Firestore has.
            ValueType::StringValue(text) if numbers::of_numeric(text, self.scratch).is_none() => {
                push_text(decoder, text)
            }
            _ => Err(Refusal::Value),
        }
    }

    fn push_integer(&mut self, decoder: &mut TextDecoder, number: i64) -> Result<(), Refusal> {
        self.scratch.clear();
        write!(self.scratch, "{number}").expect("writing to a string does not fail");
        push_text(decoder, self.scratch)
    }

    fn push_double(&mut self, decoder: &mut TextDecoder, number: f64) -> Result<(), Refusal> {
        self.scratch.clear();
        numbers::put_double(number, self.scratch);
        push_text(decoder, self.scratch)
    }

    fn reference(&mut self, runs: &mut Runs, value: &ValueType) -> Result<(), Refusal> {
        match value {
            ValueType::ReferenceValue(name) => Ok(runs.push(put_reference(name, self.root).as_bytes())?),
            // A text that names a document would have been stored as a reference.
            ValueType::StringValue(text) if document_name(text, self.root).is_none() => {
                Ok(runs.push(text.as_bytes())?)
            }
            _ => Err(Refusal::Value),
        }
    }

    /// A map with exactly these members.
    fn members(&mut self, members: &mut [Member], map: &MapValue) -> Result<(), Refusal> {
        if map.fields.len() != members.len() {
            return Err(Refusal::Value);
        }
        for member in members {
            let value = map.fields.get(&member.name).ok_or(Refusal::Value)?;
            if member.nullable {
                self.push(&mut member.column, value)?;
            } else {
                self.push_required(&mut member.column, value)?;
            }
        }
        Ok(())
    }
}

/// Adds the value that a part of a path stands for.
pub(super) fn push_part(column: &mut Column, part: &str) -> Result<(), Refusal> {
    match &mut column.values {
        Values::Text(runs) => runs.push(part.as_bytes())?,
        Values::Canonical(decoder) => push_text(decoder, part)?,
        _ => return Err(Refusal::Value),
    }
    column.end();
    Ok(())
}

fn narrowed<T: TryFrom<i64>>(number: i64) -> Result<T, Refusal> {
    T::try_from(number).map_err(|_| Refusal::Value)
}

fn float32(number: f64) -> Result<f32, Refusal> {
    let narrow = number as f32;
    if number.is_nan() || f64::from(narrow) == number {
        Ok(narrow)
    } else {
        Err(Refusal::Value)
    }
}

fn is_negative_zero(number: f64) -> bool {
    number == 0.0 && number.is_sign_negative()
}

fn push_text(decoder: &mut TextDecoder, text: &str) -> Result<(), Refusal> {
    decoder.push(text).map_err(|error| match error.code.as_str() {
        "text_form.too_large" => Refusal::TooLarge,
        _ => Refusal::Value,
    })
}

/// The microseconds of an instant: a timestamp, or the text of one that the service does not have.
fn instant_of(value: &ValueType) -> Result<i64, Refusal> {
    let micros = match value {
        ValueType::TimestampValue(timestamp) => instant::to_micros(timestamp),
        ValueType::StringValue(text) => parse_timestamp_tz(text)
            .ok()
            .filter(|micros| instant::from_micros(*micros).is_none()),
        _ => None,
    };
    micros.ok_or(Refusal::Value)
}

fn vector(ends: &mut Ends, items: &mut Vec<f64>, map: &MapValue) -> Result<(), Refusal> {
    for value in vector_items(map).ok_or(Refusal::Value)? {
        if let Some(ValueType::DoubleValue(number)) = value.value_type {
            items.push(number);
        }
    }
    Ok(ends.push(items.len())?)
}
