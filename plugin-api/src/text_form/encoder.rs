//! From an array of a scalar type to texts, one row at a time.
//!
//! The array is looked at once, when the encoder is made; after that a value is written without an allocation
//! and without a failure. Values that their type does not allow (a time past 24:00, a decimal over its
//! precision) come from unvalidated arrays; they are written in full, and the decoder refuses them.

use arrow_array::cast::AsArray as _;
use arrow_array::types::{
    Date32Type, Decimal128Type, Decimal256Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type,
    Int64Type, Time64MicrosecondType, TimestampMicrosecondType,
};
use arrow_array::{
    Array as _, ArrayRef, BinaryArray, BooleanArray, FixedSizeBinaryArray, PrimitiveArray, StringArray,
};
use arrow_buffer::NullBuffer;

use crate::error::Result;
use crate::record_type::RecordType;

use super::ascii::{Ascii, Sink};
use super::civil::put_date;
use super::clock::{put_time, put_timestamp};
use super::decimal::{put_decimal128, put_decimal256};
use super::interval::put_interval;
use super::number::put_float;
use super::octets::{put_hex, put_uuid};
use super::{check_array, check_scalar};

/// Writes the values of one column as text.
///
/// | type | text |
/// |---|---|
/// | bool, int | `true`, `false`; digits with `-` if negative |
/// | float | shortest that reads back as the same bits: `0.1`, `1`, `-0`, `5e-324`; `NaN`, `Infinity`, `-Infinity` |
/// | decimal(p, s) | digits with exactly `s` of them after the point |
/// | numeric, text, time with zone, json, reference, opaque, variant | as they are |
/// | bytes; uuid | lower-case hexadecimal; hyphenated |
/// | date | `2024-02-29`, `+12345-01-01`, `-0001-01-01`, `infinity`, `-infinity` |
/// | time | `12:34:56` or `12:34:56.000001`, up to `24:00:00` |
/// | timestamp with zone; without | `2024-02-29T12:34:56.000001Z`; the same without `Z`; infinities as for a date |
/// | interval | `P14M-3DT-0.000001S`: months, days, seconds, each with its own sign |
///
/// ```
/// use std::sync::Arc;
/// use arrow_array::{ArrayRef, Date32Array};
/// # use whimbrel_plugin_api::{record_type::RecordType, text_form::TextEncoder};
/// let days: ArrayRef = Arc::new(Date32Array::from(vec![Some(19_782), None]));
/// let encoder = TextEncoder::new(&RecordType::Date, &days)?;
/// let mut text = String::new();
/// encoder.write(0, &mut text);
/// assert_eq!(text, "2024-02-29");
/// assert!(encoder.is_null(1));
/// # Ok::<(), whimbrel_plugin_api::error::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct TextEncoder {
    values: Values,
    nulls: Option<NullBuffer>,
    len: usize,
}

#[derive(Debug, Clone)]
enum Values {
    Bool(BooleanArray),
    Int8(PrimitiveArray<Int8Type>),
    Int16(PrimitiveArray<Int16Type>),
    Int32(PrimitiveArray<Int32Type>),
    Int64(PrimitiveArray<Int64Type>),
    Float32(PrimitiveArray<Float32Type>),
    Float64(PrimitiveArray<Float64Type>),
    Decimal128(PrimitiveArray<Decimal128Type>, i8),
    Decimal256(PrimitiveArray<Decimal256Type>, i8),
    Text(StringArray),
    Bytes(BinaryArray),
    Date(PrimitiveArray<Date32Type>),
    Time(PrimitiveArray<Time64MicrosecondType>),
    Timestamp {
        values: PrimitiveArray<TimestampMicrosecondType>,
        is_instant: bool,
    },
    Interval {
        months: PrimitiveArray<Int32Type>,
        days: PrimitiveArray<Int32Type>,
        micros: PrimitiveArray<Int64Type>,
    },
    Uuid(FixedSizeBinaryArray),
}

impl TextEncoder {
    /// An encoder of `array`, a column of `record_type`.
    ///
    /// # Errors
    /// `text_form.nested_type` for list, struct, geopoint and vector, `schema.bad_type` for parameters
    /// outside the closed list, `plugin.internal` if the array is not the physical type of `record_type`.
    pub fn new(record_type: &RecordType, array: &ArrayRef) -> Result<Self> {
        check_scalar(record_type)?;
        check_array(record_type, array)?;
        Ok(Self {
            values: Values::new(record_type, array),
            nulls: array.nulls().cloned(),
            len: array.len(),
        })
    }

    /// How many rows the column has.
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether the column has no rows.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether the value of `row` is null.
    ///
    /// # Panics
    /// If `row` is not below the number of rows.
    pub fn is_null(&self, row: usize) -> bool {
        self.nulls.as_ref().is_some_and(|nulls| nulls.is_null(row))
    }

    /// Appends the text of the value of `row` to `out`; nothing if it is null, since null has no text.
    ///
    /// # Panics
    /// If `row` is not below the number of rows.
    pub fn write(&self, row: usize, out: &mut String) {
        self.write_to(row, out);
    }

    /// As [`Self::write`], to any sink.
    pub(crate) fn write_to(&self, row: usize, out: &mut impl Sink) {
        if self.is_null(row) {
            return;
        }
        match &self.values {
            Values::Bool(values) => out.text(if values.value(row) { "true" } else { "false" }),
            Values::Int8(values) => put_int(i64::from(values.value(row)), out),
            Values::Int16(values) => put_int(i64::from(values.value(row)), out),
            Values::Int32(values) => put_int(i64::from(values.value(row)), out),
            Values::Int64(values) => put_int(values.value(row), out),
            Values::Float32(values) => put_float(values.value(row), out),
            Values::Float64(values) => put_float(values.value(row), out),
            Values::Decimal128(values, scale) => put_decimal128(values.value(row), *scale, out),
            Values::Decimal256(values, scale) => put_decimal256(values.value(row), *scale, out),
            Values::Text(values) => out.text(values.value(row)),
            Values::Bytes(values) => put_hex(values.value(row), out),
            Values::Date(values) => put_date(values.value(row), out),
            Values::Time(values) => put_time(values.value(row), out),
            Values::Timestamp { values, is_instant } => put_timestamp(values.value(row), *is_instant, out),
            Values::Interval { months, days, micros } => {
                put_interval((months.value(row), days.value(row), micros.value(row)), out);
            }
            Values::Uuid(values) => put_uuid(values.value(row), out),
        }
    }
}

impl Values {
    /// The typed view of `array`, which has been checked against `record_type`.
    fn new(record_type: &RecordType, array: &ArrayRef) -> Self {
        match record_type {
            RecordType::Bool => Self::Bool(array.as_boolean().clone()),
            RecordType::Int { bits: 8 } => Self::Int8(array.as_primitive().clone()),
            RecordType::Int { bits: 16 } => Self::Int16(array.as_primitive().clone()),
            RecordType::Int { bits: 32 } => Self::Int32(array.as_primitive().clone()),
            RecordType::Int { .. } => Self::Int64(array.as_primitive().clone()),
            RecordType::Float { bits: 32 } => Self::Float32(array.as_primitive().clone()),
            RecordType::Float { .. } => Self::Float64(array.as_primitive().clone()),
            RecordType::Decimal { precision, scale } if *precision <= 38 => {
                Self::Decimal128(array.as_primitive().clone(), *scale)
            }
            RecordType::Decimal { scale, .. } => Self::Decimal256(array.as_primitive().clone(), *scale),
            RecordType::Bytes => Self::Bytes(array.as_binary().clone()),
            RecordType::Date => Self::Date(array.as_primitive().clone()),
            RecordType::Time => Self::Time(array.as_primitive().clone()),
            RecordType::TimestampTz | RecordType::Timestamp => Self::Timestamp {
                values: array.as_primitive().clone(),
                is_instant: *record_type == RecordType::TimestampTz,
            },
            RecordType::Interval => {
                let parts = array.as_struct();
                Self::Interval {
                    months: parts.column(0).as_primitive().clone(),
                    days: parts.column(1).as_primitive().clone(),
                    micros: parts.column(2).as_primitive().clone(),
                }
            }
            RecordType::Uuid => Self::Uuid(array.as_fixed_size_binary().clone()),
            _ => Self::Text(array.as_string().clone()),
        }
    }
}

fn put_int(value: i64, out: &mut impl Sink) {
    let mut ascii = Ascii::new();
    ascii.signed(value);
    out.ascii(ascii.as_slice());
}
