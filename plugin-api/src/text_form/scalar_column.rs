//! A growing column of a scalar type, fed with text, that can be cut back to an earlier length.
//!
//! Arrow's own builders cannot be cut back, and a decoder of whole records must undo the fields of a record
//! whose later field is at fault; so the parts of the array are kept as plain vectors, which become the array
//! without a copy. Users: [`super::TextDecoder`] and the columns of [`crate::json_form`].

use std::sync::Arc;

use arrow_array::types::{
    ArrowPrimitiveType, Date32Type, Decimal128Type, Decimal256Type, Float32Type, Float64Type, Int8Type,
    Int16Type, Int32Type, Int64Type, Time64MicrosecondType, TimestampMicrosecondType,
};
use arrow_array::{
    ArrayRef, BinaryArray, BooleanArray, FixedSizeBinaryArray, PrimitiveArray, StringArray, StructArray,
};
use arrow_buffer::{BooleanBufferBuilder, Buffer, NullBuffer, NullBufferBuilder, ScalarBuffer, i256};
use arrow_schema::{ArrowError, DataType};

use crate::record_type::RecordType;

use super::civil::read_date;
use super::clock::{is_time_tz, read_time, read_timestamp};
use super::decimal::{read_decimal128, read_decimal256};
use super::interval::read_interval;
use super::number::{is_numeric, read_float};
use super::octet_runs::{OctetRuns, Refusal, take};
use super::octets::{read_hex, read_uuid};

/// A column of one scalar type.
#[derive(Debug)]
pub(crate) struct ScalarColumn {
    values: Values,
    nulls: NullBufferBuilder,
    /// The physical type, for the arrays that need it.
    data_type: DataType,
}

#[derive(Debug)]
enum Values {
    Bool(BooleanBufferBuilder),
    Int8(Vec<i8>),
    Int16(Vec<i16>),
    Int32(Vec<i32>),
    Int64(Vec<i64>),
    Float32(Vec<f32>),
    Float64(Vec<f64>),
    Decimal128(Vec<i128>, u8, i8),
    Decimal256(Vec<i256>, u8, i8),
    Text(OctetRuns),
    /// Text that must pass a check, such as `numeric`.
    CheckedText(OctetRuns, fn(&str) -> bool),
    Bytes(OctetRuns),
    Date(Vec<i32>),
    Time(Vec<i64>),
    Timestamp {
        values: Vec<i64>,
        is_instant: bool,
    },
    Interval {
        months: Vec<i32>,
        days: Vec<i32>,
        micros: Vec<i64>,
    },
    Uuid(Vec<u8>),
}

impl ScalarColumn {
    /// An empty column of `record_type`, which is not one that holds other values, with room for `capacity`
    /// rows.
    pub(crate) fn new(record_type: &RecordType, capacity: usize) -> Self {
        Self {
            values: Values::new(record_type, capacity),
            nulls: NullBufferBuilder::new(capacity),
            data_type: record_type.to_arrow(),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.nulls.len()
    }

    pub(crate) fn push_null(&mut self) {
        self.values.push_default();
        self.nulls.append_null();
    }

    /// Takes the value that `text` stands for in the text form.
    pub(crate) fn push_text(&mut self, text: &str) -> Result<(), Refusal> {
        self.values.push_text(text)?;
        self.nulls.append_non_null();
        Ok(())
    }

    /// Takes a truth value; a bad value in a column of another type.
    pub(crate) fn push_bool(&mut self, value: bool) -> Result<(), Refusal> {
        let Values::Bool(values) = &mut self.values else {
            return Err(Refusal::BadValue);
        };
        values.append(value);
        self.nulls.append_non_null();
        Ok(())
    }

    /// Takes the octets that `append` puts behind the given ones; a bad value in a column of another type
    /// than bytes.
    pub(crate) fn push_octets(
        &mut self,
        append: impl FnOnce(&mut Vec<u8>) -> Option<()>,
    ) -> Result<(), Refusal> {
        let Values::Bytes(octets) = &mut self.values else {
            return Err(Refusal::BadValue);
        };
        octets.push(append)?;
        self.nulls.append_non_null();
        Ok(())
    }

    /// Forgets all rows from `len` on.
    pub(crate) fn truncate(&mut self, len: usize) {
        if len < self.len() {
            self.values.truncate(len);
            self.nulls.truncate(len);
        }
    }

    /// OctetRuns in use, without what is reserved.
    pub(crate) fn bytes(&self) -> usize {
        self.values.bytes() + self.len() / 8
    }

    /// The array so far; the column is then empty and has room for as much again.
    pub(crate) fn finish(&mut self) -> Result<ArrayRef, ArrowError> {
        let nulls = self.nulls.finish();
        self.values.finish(nulls, &self.data_type)
    }
}

impl Values {
    fn new(record_type: &RecordType, capacity: usize) -> Self {
        match record_type {
            RecordType::Bool => Self::Bool(BooleanBufferBuilder::new(capacity)),
            RecordType::Int { bits: 8 } => Self::Int8(Vec::with_capacity(capacity)),
            RecordType::Int { bits: 16 } => Self::Int16(Vec::with_capacity(capacity)),
            RecordType::Int { bits: 32 } => Self::Int32(Vec::with_capacity(capacity)),
            RecordType::Int { .. } => Self::Int64(Vec::with_capacity(capacity)),
            RecordType::Float { bits: 32 } => Self::Float32(Vec::with_capacity(capacity)),
            RecordType::Float { .. } => Self::Float64(Vec::with_capacity(capacity)),
            RecordType::Decimal { precision, scale } if *precision <= 38 => {
                Self::Decimal128(Vec::with_capacity(capacity), *precision, *scale)
            }
            RecordType::Decimal { precision, scale } => {
                Self::Decimal256(Vec::with_capacity(capacity), *precision, *scale)
            }
            RecordType::Numeric => Self::CheckedText(OctetRuns::new(capacity), is_numeric),
            RecordType::TimeTz => Self::CheckedText(OctetRuns::new(capacity), is_time_tz),
            RecordType::Bytes => Self::Bytes(OctetRuns::new(capacity)),
            RecordType::Date => Self::Date(Vec::with_capacity(capacity)),
            RecordType::Time => Self::Time(Vec::with_capacity(capacity)),
            RecordType::TimestampTz | RecordType::Timestamp => Self::Timestamp {
                values: Vec::with_capacity(capacity),
                is_instant: *record_type == RecordType::TimestampTz,
            },
            RecordType::Interval => Self::Interval {
                months: Vec::with_capacity(capacity),
                days: Vec::with_capacity(capacity),
                micros: Vec::with_capacity(capacity),
            },
            RecordType::Uuid => Self::Uuid(Vec::with_capacity(capacity * 16)),
            _ => Self::Text(OctetRuns::new(capacity)),
        }
    }

    fn push_text(&mut self, text: &str) -> Result<(), Refusal> {
        match self {
            Self::Bool(values) => values.append(match text {
                "true" => true,
                "false" => false,
                _ => return Err(Refusal::BadValue),
            }),
            Self::Int8(values) => push(values, text.parse().ok())?,
            Self::Int16(values) => push(values, text.parse().ok())?,
            Self::Int32(values) => push(values, text.parse().ok())?,
            Self::Int64(values) => push(values, text.parse().ok())?,
            Self::Float32(values) => push(values, read_float(text))?,
            Self::Float64(values) => push(values, read_float(text))?,
            Self::Decimal128(values, precision, scale) => {
                push(values, read_decimal128(text, *precision, *scale))?
            }
            Self::Decimal256(values, precision, scale) => {
                push(values, read_decimal256(text, *precision, *scale))?
            }
            Self::CheckedText(_, is_valid) if !is_valid(text) => return Err(Refusal::BadValue),
            Self::Text(octets) | Self::CheckedText(octets, _) => octets.push(|data| {
                data.extend_from_slice(text.as_bytes());
                Some(())
            })?,
            Self::Bytes(octets) => octets.push(|data| read_hex(text, data))?,
            Self::Date(values) => push(values, read_date(text))?,
            Self::Time(values) => push(values, read_time(text))?,
            Self::Timestamp { values, is_instant } => push(values, read_timestamp(text, *is_instant))?,
            Self::Interval { months, days, micros } => {
                let parts = read_interval(text).ok_or(Refusal::BadValue)?;
                months.push(parts.0);
                days.push(parts.1);
                micros.push(parts.2);
            }
            Self::Uuid(values) => values.extend_from_slice(&read_uuid(text).ok_or(Refusal::BadValue)?),
        }
        Ok(())
    }

    /// What stands where a null is.
    fn push_default(&mut self) {
        match self {
            Self::Bool(values) => values.append(false),
            Self::Int8(values) => values.push(0),
            Self::Int16(values) => values.push(0),
            Self::Int32(values) | Self::Date(values) => values.push(0),
            Self::Int64(values) | Self::Time(values) | Self::Timestamp { values, .. } => values.push(0),
            Self::Float32(values) => values.push(0.0),
            Self::Float64(values) => values.push(0.0),
            Self::Decimal128(values, ..) => values.push(0),
            Self::Decimal256(values, ..) => values.push(i256::ZERO),
            Self::Text(octets) | Self::CheckedText(octets, _) | Self::Bytes(octets) => {
                octets.push_empty();
            }
            Self::Interval { months, days, micros } => {
                months.push(0);
                days.push(0);
                micros.push(0);
            }
            Self::Uuid(values) => values.extend_from_slice(&[0; 16]),
        }
    }

    fn truncate(&mut self, len: usize) {
        match self {
            Self::Bool(values) => values.truncate(len),
            Self::Int8(values) => values.truncate(len),
            Self::Int16(values) => values.truncate(len),
            Self::Int32(values) | Self::Date(values) => values.truncate(len),
            Self::Int64(values) | Self::Time(values) | Self::Timestamp { values, .. } => values.truncate(len),
            Self::Float32(values) => values.truncate(len),
            Self::Float64(values) => values.truncate(len),
            Self::Decimal128(values, ..) => values.truncate(len),
            Self::Decimal256(values, ..) => values.truncate(len),
            Self::Text(octets) | Self::CheckedText(octets, _) | Self::Bytes(octets) => octets.truncate(len),
            Self::Interval { months, days, micros } => {
                months.truncate(len);
                days.truncate(len);
                micros.truncate(len);
            }
            Self::Uuid(values) => values.truncate(len * 16),
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Self::Bool(values) => values.len() / 8,
            Self::Int8(values) => size_of_val(values.as_slice()),
            Self::Int16(values) => size_of_val(values.as_slice()),
            Self::Int32(values) | Self::Date(values) => size_of_val(values.as_slice()),
            Self::Int64(values) | Self::Time(values) | Self::Timestamp { values, .. } => {
                size_of_val(values.as_slice())
            }
            Self::Float32(values) => size_of_val(values.as_slice()),
            Self::Float64(values) => size_of_val(values.as_slice()),
            Self::Decimal128(values, ..) => size_of_val(values.as_slice()),
            Self::Decimal256(values, ..) => size_of_val(values.as_slice()),
            Self::Text(octets) | Self::CheckedText(octets, _) | Self::Bytes(octets) => octets.bytes(),
            Self::Interval { months, .. } => months.len() * 16,
            Self::Uuid(values) => values.len(),
        }
    }

    fn finish(&mut self, nulls: Option<NullBuffer>, data_type: &DataType) -> Result<ArrayRef, ArrowError> {
        Ok(match self {
            Self::Bool(values) => Arc::new(BooleanArray::new(values.finish(), nulls)),
            Self::Int8(values) => primitive::<Int8Type>(values, nulls, data_type)?,
            Self::Int16(values) => primitive::<Int16Type>(values, nulls, data_type)?,
            Self::Int32(values) => primitive::<Int32Type>(values, nulls, data_type)?,
            Self::Int64(values) => primitive::<Int64Type>(values, nulls, data_type)?,
            Self::Float32(values) => primitive::<Float32Type>(values, nulls, data_type)?,
            Self::Float64(values) => primitive::<Float64Type>(values, nulls, data_type)?,
            Self::Decimal128(values, ..) => primitive::<Decimal128Type>(values, nulls, data_type)?,
            Self::Decimal256(values, ..) => primitive::<Decimal256Type>(values, nulls, data_type)?,
            Self::Text(octets) | Self::CheckedText(octets, _) => {
                let (offsets, data) = octets.finish();
                Arc::new(StringArray::try_new(offsets, data, nulls)?)
            }
            Self::Bytes(octets) => {
                let (offsets, data) = octets.finish();
                Arc::new(BinaryArray::try_new(offsets, data, nulls)?)
            }
            Self::Date(values) => primitive::<Date32Type>(values, nulls, data_type)?,
            Self::Time(values) => primitive::<Time64MicrosecondType>(values, nulls, data_type)?,
            Self::Timestamp { values, .. } => {
                primitive::<TimestampMicrosecondType>(values, nulls, data_type)?
            }
            Self::Interval { months, days, micros } => {
                let DataType::Struct(fields) = data_type else {
                    return Err(ArrowError::SchemaError(
                        "an interval travels as a struct".to_owned(),
                    ));
                };
                let parts = vec![
                    primitive::<Int32Type>(months, None, &DataType::Int32)?,
                    primitive::<Int32Type>(days, None, &DataType::Int32)?,
                    primitive::<Int64Type>(micros, None, &DataType::Int64)?,
                ];
                Arc::new(StructArray::try_new(fields.clone(), parts, nulls)?)
            }
            Self::Uuid(values) => {
                let octets = Buffer::from(take(values));
                Arc::new(FixedSizeBinaryArray::try_new(16, octets, nulls)?)
            }
        })
    }
}

fn push<T>(values: &mut Vec<T>, value: Option<T>) -> Result<(), Refusal> {
    values.push(value.ok_or(Refusal::BadValue)?);
    Ok(())
}

fn primitive<T: ArrowPrimitiveType>(
    values: &mut Vec<T::Native>,
    nulls: Option<NullBuffer>,
    data_type: &DataType,
) -> Result<ArrayRef, ArrowError> {
    let array = PrimitiveArray::<T>::try_new(ScalarBuffer::from(take(values)), nulls)?;
    Ok(Arc::new(array.with_data_type(data_type.clone())))
}
