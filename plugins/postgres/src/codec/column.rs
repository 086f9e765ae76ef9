//! Columns that grow by values from the wire and can be cut back to an earlier length.
//!
//! Arrow's own builders cannot be cut back, and a row must leave no trace if one of its later values is refused; so the
//! parts of an array are plain vectors, which become the array without a copy. Neighbour: `decode` takes rows apart.

use std::sync::Arc;

use whimbrel_plugin_api::arrow_array::types::{
    Date32Type, Decimal128Type, Decimal256Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type,
    Int64Type, Time64MicrosecondType, TimestampMicrosecondType,
};
use whimbrel_plugin_api::arrow_array::{
    Array as _, ArrayRef, BinaryArray, BooleanArray, FixedSizeBinaryArray, ListArray, StringArray,
};
use whimbrel_plugin_api::arrow_buffer::{BooleanBufferBuilder, Buffer, NullBuffer, NullBufferBuilder, i256};
use whimbrel_plugin_api::arrow_schema::{DataType, FieldRef};
use whimbrel_plugin_api::json_form::JsonDecoder;
use whimbrel_plugin_api::record_type::RecordType;
use whimbrel_plugin_api::{Error, Result};

use super::arrays::{Runs, Texts, last_end, offsets, primitive, retyped, structure, taken};
use super::incoming::{
    TextWire, WrittenWire, fixed, jsonb_text, narrow, push_array, push_written, read_text, read_uuid,
    text_of, text_wire,
};
use super::integer::IntWire;
use super::numeric::Numeric;
use super::{Refusal, Stop, Wire, clock, without_raw_json};

/// A growing column.
pub(super) struct Column {
    data: Data,
    nulls: NullBufferBuilder,
    data_type: DataType,
}

enum Data {
    Bool(BooleanBufferBuilder),
    Int8(Vec<i8>, IntWire),
    Int16(Vec<i16>, IntWire),
    Int32(Vec<i32>, IntWire),
    Int64(Vec<i64>, IntWire),
    Float32(Vec<f32>),
    /// From eight octets, if nothing is lost.
    Float32Of8(Vec<f32>),
    Float64(Vec<f64>),
    Float64Of4(Vec<f64>),
    Decimal128(Vec<i128>, u8, u8),
    Decimal256(Vec<i256>, u8, u8),
    Text(Texts, TextWire),
    Written(Runs, WrittenWire),
    Bytes(Runs),
    Date(Vec<i32>),
    Time(Vec<i64>),
    Timestamp(Vec<i64>),
    Interval {
        months: Vec<i32>,
        days: Vec<i32>,
        micros: Vec<i64>,
    },
    Uuid(Vec<[u8; 16]>),
    UuidOfText(Vec<[u8; 16]>),
    Point {
        lat: Vec<f64>,
        lng: Vec<f64>,
    },
    List {
        ends: Vec<i32>,
        items: Box<Column>,
        field: FieldRef,
    },
    /// The JSON form; whether it comes as `jsonb`.
    Form(Box<JsonDecoder>, bool),
}

impl Column {
    /// An empty column of `record_type` with room for `capacity` values that come over `wire`.
    pub(super) fn new(record_type: &RecordType, wire: &Wire, capacity: usize) -> Result<Self> {
        Ok(Self {
            data: Data::new(record_type, wire, capacity)?,
            nulls: NullBufferBuilder::new(capacity),
            data_type: record_type.to_arrow(),
        })
    }

    /// Takes a value, or a null. After a failure the column is to be cut back.
    #[inline]
    pub(super) fn push(&mut self, field: Option<&[u8]>) -> Result<(), Stop> {
        match field {
            Some(octets) => {
                self.data.push(octets)?;
                self.nulls.append_non_null();
            }
            None => {
                self.data.push_default();
                self.nulls.append_null();
            }
        }
        Ok(())
    }

    /// Forgets all values from `len` on, and what a value that failed has left behind.
    pub(super) fn truncate(&mut self, len: usize) {
        self.data.truncate(len);
        if len < self.nulls.len() {
            self.nulls.truncate(len);
        }
    }

    /// Octets that have grown on the way: digits of numbers, values out of JSON.
    pub(super) fn written_bytes(&self) -> usize {
        match &self.data {
            Data::Written(runs, _) => runs.data.len(),
            Data::List { items, .. } => items.written_bytes(),
            Data::Form(decoder, _) => decoder.bytes(),
            _ => 0,
        }
    }

    /// The array; the column is empty afterwards.
    pub(super) fn finish(&mut self, len: usize) -> Result<ArrayRef> {
        let nulls = self.nulls.finish();
        let array = self.data.finish(nulls, &self.data_type)?;
        if array.len() == len {
            Ok(array)
        } else {
            Err(Error::internal(
                "a column has another number of rows than its batch",
            ))
        }
    }
}

impl Data {
    fn new(record_type: &RecordType, wire: &Wire, capacity: usize) -> Result<Self> {
        Ok(match (record_type, wire) {
            (_, Wire::Cut { of, .. }) => Self::new(record_type, of, capacity)?,
            (RecordType::Bool, Wire::Bool) => Self::Bool(BooleanBufferBuilder::new(capacity)),
            (RecordType::Int { bits: 8 }, wire) => {
                Self::Int8(Vec::with_capacity(capacity), IntWire::of(wire)?)
            }
            (RecordType::Int { bits: 16 }, wire) => {
                Self::Int16(Vec::with_capacity(capacity), IntWire::of(wire)?)
            }
            (RecordType::Int { bits: 32 }, wire) => {
                Self::Int32(Vec::with_capacity(capacity), IntWire::of(wire)?)
            }
            (RecordType::Int { .. }, wire) => Self::Int64(Vec::with_capacity(capacity), IntWire::of(wire)?),
            (RecordType::Float { bits: 32 }, Wire::Float4) => Self::Float32(Vec::with_capacity(capacity)),
            (RecordType::Float { bits: 32 }, Wire::Float8) => Self::Float32Of8(Vec::with_capacity(capacity)),
            (RecordType::Float { .. }, Wire::Float8) => Self::Float64(Vec::with_capacity(capacity)),
            (RecordType::Float { .. }, Wire::Float4) => Self::Float64Of4(Vec::with_capacity(capacity)),
            (RecordType::Decimal { precision, scale }, Wire::Numeric) => {
                let scale = scale.unsigned_abs();
                if *precision <= 38 {
                    Self::Decimal128(Vec::with_capacity(capacity), *precision, scale)
                } else {
                    Self::Decimal256(Vec::with_capacity(capacity), *precision, scale)
                }
            }
            (RecordType::Bytes, Wire::Bytea) => Self::Bytes(Runs::new(capacity)),
            (RecordType::Date, Wire::Date) => Self::Date(Vec::with_capacity(capacity)),
            (RecordType::Time, Wire::Time) => Self::Time(Vec::with_capacity(capacity)),
            (RecordType::TimestampTz, Wire::TimestampTz) | (RecordType::Timestamp, Wire::Timestamp) => {
                Self::Timestamp(Vec::with_capacity(capacity))
            }
            (RecordType::Interval, Wire::Interval) => Self::Interval {
                months: Vec::with_capacity(capacity),
                days: Vec::with_capacity(capacity),
                micros: Vec::with_capacity(capacity),
            },
            (RecordType::Uuid, Wire::Uuid) => Self::Uuid(Vec::with_capacity(capacity)),
            (RecordType::Uuid, Wire::Text) => Self::UuidOfText(Vec::with_capacity(capacity)),
            (RecordType::Geopoint, Wire::Point) => Self::Point {
                lat: Vec::with_capacity(capacity),
                lng: Vec::with_capacity(capacity),
            },
            (RecordType::List { item }, Wire::Array { element, .. }) => {
                Self::list(record_type, item, element)?
            }
            (RecordType::Vector, Wire::Array { element, .. }) => {
                Self::list(record_type, &RecordType::FLOAT64, element)?
            }
            (
                RecordType::Struct { .. }
                | RecordType::List { .. }
                | RecordType::Vector
                | RecordType::Geopoint,
                Wire::Text | Wire::Jsonb,
            ) => Self::Form(
                Box::new(JsonDecoder::new(&without_raw_json(record_type), capacity)?),
                *wire == Wire::Jsonb,
            ),
            (RecordType::Numeric, Wire::Numeric) => Self::Written(Runs::new(capacity), WrittenWire::Numeric),
            (RecordType::TimeTz, Wire::TimeTz) => Self::Written(Runs::new(capacity), WrittenWire::TimeTz),
            _ => Self::Text(Texts::new(capacity), text_wire(record_type, wire)?),
        })
    }

    fn list(record_type: &RecordType, item: &RecordType, element: &Wire) -> Result<Self> {
        let DataType::List(field) = record_type.to_arrow() else {
            return Err(Error::internal("a list is no list"));
        };
        Ok(Self::List {
            ends: Vec::new(),
            items: Box::new(Column::new(item, element, 0)?),
            field,
        })
    }

    fn push(&mut self, octets: &[u8]) -> Result<(), Stop> {
        match self {
            Self::Bool(values) => match fixed(octets)? {
                [bit @ (0 | 1)] => values.append(bit == 1),
                _ => return Err(Stop::Malformed),
            },
            Self::Int8(values, wire) => values.push(wire.read(octets)?),
            Self::Int16(values, wire) => values.push(wire.read(octets)?),
            Self::Int32(values, wire) => values.push(wire.read(octets)?),
            Self::Int64(values, wire) => values.push(wire.read(octets)?),
            Self::Float32(values) => values.push(f32::from_be_bytes(fixed(octets)?)),
            Self::Float32Of8(values) => values.push(narrow(f64::from_be_bytes(fixed(octets)?))?),
            Self::Float64(values) => values.push(f64::from_be_bytes(fixed(octets)?)),
            Self::Float64Of4(values) => values.push(f32::from_be_bytes(fixed(octets)?).into()),
            Self::Decimal128(values, precision, scale) => {
                values.push(Numeric::read(octets)?.to_decimal128(*precision, *scale)?);
            }
            Self::Decimal256(values, precision, scale) => {
                values.push(Numeric::read(octets)?.to_decimal256(*precision, *scale)?);
            }
            Self::Text(texts, wire) => texts.push(read_text(*wire, octets)?)?,
            Self::Written(runs, wire) => push_written(runs, *wire, octets)?,
            Self::Bytes(runs) => runs.push(octets)?,
            Self::Date(values) => {
                let days = clock::date_from_wire(i32::from_be_bytes(fixed(octets)?));
                values.push(days.ok_or(Refusal::OutOfRange)?);
            }
            Self::Time(values) => {
                let micros = i64::from_be_bytes(fixed(octets)?);
                if !clock::is_time(micros) {
                    return Err(Stop::Malformed);
                }
                values.push(micros);
            }
            Self::Timestamp(values) => {
                let micros = clock::timestamp_from_wire(i64::from_be_bytes(fixed(octets)?));
                values.push(micros.ok_or(Refusal::OutOfRange)?);
            }
            Self::Interval { months, days, micros } => {
                let all = i128::from_be_bytes(fixed(octets)?);
                micros.push((all >> 64) as i64);
                days.push((all >> 32) as i32);
                months.push(all as i32);
            }
            Self::Uuid(values) => values.push(fixed(octets)?),
            Self::UuidOfText(values) => values.push(read_uuid(octets).ok_or(Refusal::BadValue)?),
            Self::Point { lat, lng } => {
                let all = u128::from_be_bytes(fixed(octets)?);
                lng.push(f64::from_bits((all >> 64) as u64));
                lat.push(f64::from_bits(all as u64));
            }
            Self::List { ends, items, field } => push_array(ends, items, field.is_nullable(), octets)?,
            Self::Form(decoder, is_jsonb) => {
                let json = text_of(if *is_jsonb { jsonb_text(octets)? } else { octets })?;
                decoder.push_raw(json).map_err(|_| Refusal::BadValue)?;
            }
        }
        Ok(())
    }

    /// What stands where a null is.
    fn push_default(&mut self) {
        match self {
            Self::Bool(values) => values.append(false),
            Self::Int8(values, _) => values.push(0),
            Self::Int16(values, _) => values.push(0),
            Self::Int32(values, _) | Self::Date(values) => values.push(0),
            Self::Int64(values, _) | Self::Time(values) | Self::Timestamp(values) => values.push(0),
            Self::Float32(values) | Self::Float32Of8(values) => values.push(0.0),
            Self::Float64(values) | Self::Float64Of4(values) => values.push(0.0),
            Self::Decimal128(values, ..) => values.push(0),
            Self::Decimal256(values, ..) => values.push(i256::ZERO),
            Self::Text(texts, _) => texts.push_empty(),
            Self::Written(runs, _) | Self::Bytes(runs) => runs.push_empty(),
            Self::Interval { months, days, micros } => {
                months.push(0);
                days.push(0);
                micros.push(0);
            }
            Self::Uuid(values) | Self::UuidOfText(values) => values.push([0; 16]),
            Self::Point { lat, lng } => {
                lat.push(0.0);
                lng.push(0.0);
            }
            Self::List { ends, .. } => ends.push(ends.last().copied().unwrap_or(0)),
            Self::Form(decoder, _) => decoder.push_null(),
        }
    }

    fn truncate(&mut self, len: usize) {
        match self {
            Self::Bool(values) if len < values.len() => values.truncate(len),
            Self::Bool(_) => {}
            Self::Int8(values, _) => values.truncate(len),
            Self::Int16(values, _) => values.truncate(len),
            Self::Int32(values, _) | Self::Date(values) => values.truncate(len),
            Self::Int64(values, _) | Self::Time(values) | Self::Timestamp(values) => values.truncate(len),
            Self::Float32(values) | Self::Float32Of8(values) => values.truncate(len),
            Self::Float64(values) | Self::Float64Of4(values) => values.truncate(len),
            Self::Decimal128(values, ..) => values.truncate(len),
            Self::Decimal256(values, ..) => values.truncate(len),
            Self::Text(texts, _) => texts.truncate(len),
            Self::Written(runs, _) | Self::Bytes(runs) => runs.truncate(len),
            Self::Interval { months, days, micros } => {
                months.truncate(len);
                days.truncate(len);
                micros.truncate(len);
            }
            Self::Uuid(values) | Self::UuidOfText(values) => values.truncate(len),
            Self::Point { lat, lng } => {
                lat.truncate(len);
                lng.truncate(len);
            }
            Self::List { ends, items, .. } => {
                ends.truncate(len);
                items.truncate(last_end(ends));
            }
            Self::Form(decoder, _) => decoder.truncate(len),
        }
    }

    fn finish(&mut self, nulls: Option<NullBuffer>, data_type: &DataType) -> Result<ArrayRef> {
        Ok(match self {
            Self::Bool(values) => Arc::new(BooleanArray::new(values.finish(), nulls)),
            Self::Int8(values, _) => primitive::<Int8Type>(values, nulls, data_type)?,
            Self::Int16(values, _) => primitive::<Int16Type>(values, nulls, data_type)?,
            Self::Int32(values, _) => primitive::<Int32Type>(values, nulls, data_type)?,
            Self::Int64(values, _) => primitive::<Int64Type>(values, nulls, data_type)?,
            Self::Float32(values) | Self::Float32Of8(values) => {
                primitive::<Float32Type>(values, nulls, data_type)?
            }
            Self::Float64(values) | Self::Float64Of4(values) => {
                primitive::<Float64Type>(values, nulls, data_type)?
            }
            Self::Decimal128(values, ..) => primitive::<Decimal128Type>(values, nulls, data_type)?,
            Self::Decimal256(values, ..) => primitive::<Decimal256Type>(values, nulls, data_type)?,
            Self::Text(texts, _) => Arc::new(texts.finish(nulls.as_ref())),
            Self::Written(runs, _) => {
                let (offsets, data) = runs.finish();
                Arc::new(StringArray::try_new(offsets, data, nulls)?)
            }
            Self::Bytes(runs) => {
                let (offsets, data) = runs.finish();
                Arc::new(BinaryArray::try_new(offsets, data, nulls)?)
            }
            Self::Date(values) => primitive::<Date32Type>(values, nulls, data_type)?,
            Self::Time(values) => primitive::<Time64MicrosecondType>(values, nulls, data_type)?,
            Self::Timestamp(values) => primitive::<TimestampMicrosecondType>(values, nulls, data_type)?,
            Self::Interval { months, days, micros } => {
                let parts: Vec<ArrayRef> = vec![
                    primitive::<Int32Type>(months, None, &DataType::Int32)?,
                    primitive::<Int32Type>(days, None, &DataType::Int32)?,
                    primitive::<Int64Type>(micros, None, &DataType::Int64)?,
                ];
                structure(parts, nulls, data_type)?
            }
            Self::Uuid(values) | Self::UuidOfText(values) => {
                let octets = Buffer::from(taken(values).into_flattened());
                Arc::new(FixedSizeBinaryArray::try_new(16, octets, nulls)?)
            }
            Self::Point { lat, lng } => {
                let parts: Vec<ArrayRef> = vec![
                    primitive::<Float64Type>(lat, None, &DataType::Float64)?,
                    primitive::<Float64Type>(lng, None, &DataType::Float64)?,
                ];
                structure(parts, nulls, data_type)?
            }
            Self::List { ends, items, field } => {
                let values = items.finish(last_end(ends))?;
                Arc::new(ListArray::try_new(
                    Arc::clone(field),
                    offsets(ends),
                    values,
                    nulls,
                )?)
            }
            Self::Form(decoder, _) => retyped(&decoder.finish()?, data_type)?,
        })
    }
}
