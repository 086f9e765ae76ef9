//! Constants of a job as columns of a record type, and the names of fields that a job may use.
//! Neighbours: `filling` and `judge` use both.

use std::sync::Arc;

use serde_json::Value;

use whimbrel_plugin_api::arrow_array::{ArrayRef, UInt32Array};
use whimbrel_plugin_api::arrow_select::take::take;
use whimbrel_plugin_api::json_form::JsonDecoder;
use whimbrel_plugin_api::{RecordType, Result, Schema};

use crate::reading::wrong;

/// Names that a message lists.
const NAMES_LISTED_MAX: usize = 20;

/// The position of the field `name`.
///
/// # Errors
/// `reshape.no_field`, with the names that there are at this step.
pub(crate) fn field_index(schema: &Schema, name: &str, place: &str) -> Result<usize> {
    schema.index_of(name).ok_or_else(|| {
        let names: Vec<&str> = schema.fields.iter().map(|field| field.name.as_str()).collect();
        let shown = names
            .iter()
            .take(NAMES_LISTED_MAX)
            .copied()
            .collect::<Vec<_>>()
            .join(", ");
        let rest = match names.len().saturating_sub(NAMES_LISTED_MAX) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        wrong(
            "no_field",
            format!("there is no field `{name}` at this step"),
            place,
        )
        .with_help(format!("fields here: {shown}{rest}"))
    })
}

/// Values, written as JSON writes the type, as one column; none of them null.
pub(crate) fn constants(record_type: &RecordType, values: &[Value], place: &str) -> Result<ArrayRef> {
    let mut decoder = JsonDecoder::new(record_type, values.len())?;
    for value in values {
        if value.is_null() || decoder.push_raw(&value.to_string()).is_err() {
            return Err(wrong(
                "bad_constant",
                format!("the constant is no value of the type `{record_type}`"),
                place,
            )
            .with_help(example(record_type)));
        }
    }
    decoder.finish()
}

/// A column of one null.
pub(crate) fn null(record_type: &RecordType) -> Result<ArrayRef> {
    let mut decoder = JsonDecoder::new(record_type, 1)?;
    decoder.push_null();
    decoder.finish()
}

/// The type that a constant has by itself, if it has one.
pub(crate) fn type_of(value: &Value) -> Option<RecordType> {
    match value {
        Value::Bool(_) => Some(RecordType::Bool),
        Value::Number(number) if number.is_i64() => Some(RecordType::INT64),
        Value::Number(number) if number.is_f64() => Some(RecordType::FLOAT64),
        Value::String(_) => Some(RecordType::Text),
        _ => None,
    }
}

/// The one value of a column, `len` times.
pub(crate) fn repeat(one: &ArrayRef, len: usize) -> Result<ArrayRef> {
    if len == 1 {
        return Ok(Arc::clone(one));
    }
    Ok(take(one, &UInt32Array::from(vec![0; len]), None)?)
}

fn example(record_type: &RecordType) -> String {
    let written = match record_type {
        RecordType::Bool => "true or false",
        RecordType::Int { .. } => "a whole number within its range, such as 5",
        RecordType::Float { .. } => "a number, such as 0.5",
        RecordType::Decimal { .. } | RecordType::Numeric => {
            "a number or a text with digits, such as \"0.50\""
        }
        RecordType::Bytes => "a text with base64",
        RecordType::Date => "a text such as \"2024-02-29\"",
        RecordType::Time => "a text such as \"12:34:56\"",
        RecordType::Timestamp => "a text such as \"2024-02-29T12:34:56\"",
        RecordType::TimestampTz => "a text such as \"2024-02-29T12:34:56Z\"",
        RecordType::List { .. } | RecordType::Vector => "a list",
        RecordType::Struct { .. } | RecordType::Geopoint => "an object with its members",
        RecordType::Json | RecordType::Variant => "any value but null",
        _ => "a text",
    };
    format!("write {written}")
}
