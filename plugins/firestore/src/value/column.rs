//! A growing column of any record type that can be cut back to an earlier length.
//!
//! A document is taken field by field, and a field that does not fit must leave nothing of the others behind; Arrow's own
//! builders cannot be cut back, so values are kept in plain vectors, which become the array without a copy. Types that are a
//! text to Firestore are kept by the decoder of the text form. Neighbours: `fill` puts values into columns, `runs` keeps what
//! has a length of its own.

use std::sync::Arc;

use arrow_array::types::{
    ArrowPrimitiveType, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type,
    TimestampMicrosecondType,
};
use arrow_array::{ArrayRef, BinaryArray, BooleanArray, ListArray, PrimitiveArray, StringArray, StructArray};
use arrow_buffer::{BooleanBufferBuilder, NullBuffer, NullBufferBuilder, ScalarBuffer};
use arrow_schema::{ArrowError, DataType};
use whimbrel_plugin_api::text_form::TextDecoder;
use whimbrel_plugin_api::{Error, Field, RecordType, Result};

use super::numbers::DecimalForm;
use super::runs::{Ends, Runs, take};

/// A column of one record type.
#[derive(Debug)]
pub(super) struct Column {
    pub(super) values: Values,
    nulls: NullBufferBuilder,
    data_type: DataType,
}

/// The values of a column, by how Firestore has them.
#[derive(Debug)]
pub(super) enum Values {
    Bool(BooleanBufferBuilder),
    Int8(Vec<i8>),
    Int16(Vec<i16>),
    Int32(Vec<i32>),
    Int64(Vec<i64>),
    Float32(Vec<f32>),
    Float64(Vec<f64>),
    Decimal(TextDecoder, DecimalForm),
    Numeric(TextDecoder),
    /// Text that is taken as it is.
    Text(Runs),
    /// Text in the text form of a type that Firestore lacks.
    Canonical(TextDecoder),
    Bytes(Runs),
    Instant(Vec<i64>),
    Reference(Runs),
    Json(Runs),
    Variant(Runs),
    Geopoint {
        lat: Vec<f64>,
        lng: Vec<f64>,
    },
    Vector {
        ends: Ends,
        items: Vec<f64>,
    },
    List {
        ends: Ends,
        item: Box<Column>,
    },
    Struct(Vec<Member>),
}

/// A member of a struct.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) name: String,
    pub(super) nullable: bool,
    pub(super) column: Column,
}

impl Column {
    /// An empty column of `record_type`, which has been validated.
    pub(super) fn new(record_type: &RecordType) -> Result<Self> {
        Ok(Self {
            values: Values::new(record_type)?,
            nulls: NullBufferBuilder::new(0),
            data_type: record_type.to_arrow(),
        })
    }

    /// An empty column of `record_type` that is fed with its text form, as parts of a path are.
    pub(super) fn of_texts(record_type: &RecordType) -> Result<Self> {
        Ok(Self {
            values: match record_type {
                RecordType::Text => Values::Text(Runs::default()),
                _ => Values::Canonical(TextDecoder::new(record_type, 0)?),
            },
            nulls: NullBufferBuilder::new(0),
            data_type: record_type.to_arrow(),
        })
    }

    pub(super) fn len(&self) -> usize {
        self.nulls.len()
    }

    /// Ends a value that has been put into `values`.
    pub(super) fn end(&mut self) {
        self.nulls.append_non_null();
    }

    /// Adds a null, also where none may be: below a null struct, and for rows that will be cut off.
    pub(super) fn push_null(&mut self) {
        self.nulls.append_null();
        match &mut self.values {
            Values::Bool(values) => values.append(false),
            Values::Int8(values) => values.push(0),
            Values::Int16(values) => values.push(0),
            Values::Int32(values) => values.push(0),
            Values::Int64(values) | Values::Instant(values) => values.push(0),
            Values::Float32(values) => values.push(0.0),
            Values::Float64(values) => values.push(0.0),
            Values::Decimal(decoder, _) | Values::Numeric(decoder) | Values::Canonical(decoder) => {
                decoder.push_null();
            }
            Values::Text(runs)
            | Values::Bytes(runs)
            | Values::Reference(runs)
            | Values::Json(runs)
            | Values::Variant(runs) => runs.push_empty(),
            Values::Geopoint { lat, lng } => {
                lat.push(0.0);
                lng.push(0.0);
            }
            Values::Vector { ends, .. } | Values::List { ends, .. } => ends.push_empty(),
            Values::Struct(members) => members.iter_mut().for_each(|member| member.column.push_null()),
        }
    }

    /// Forgets all rows from `len` on, and what a value that failed half way left behind.
    pub(super) fn truncate(&mut self, len: usize) {
        if len < self.nulls.len() {
            self.nulls.truncate(len);
        }
        match &mut self.values {
            Values::Bool(values) => values.truncate(len),
            Values::Int8(values) => values.truncate(len),
            Values::Int16(values) => values.truncate(len),
            Values::Int32(values) => values.truncate(len),
            Values::Int64(values) | Values::Instant(values) => values.truncate(len),
            Values::Float32(values) => values.truncate(len),
            Values::Float64(values) => values.truncate(len),
            Values::Decimal(decoder, _) | Values::Numeric(decoder) | Values::Canonical(decoder) => {
                decoder.truncate(len);
            }
            Values::Text(runs)
            | Values::Bytes(runs)
            | Values::Reference(runs)
            | Values::Json(runs)
            | Values::Variant(runs) => runs.truncate(len),
            Values::Geopoint { lat, lng } => {
                lat.truncate(len);
                lng.truncate(len);
            }
            Values::Vector { ends, items } => {
                ends.truncate(len);
                items.truncate(ends.last());
            }
            Values::List { ends, item } => {
                ends.truncate(len);
                item.truncate(ends.last());
            }
            Values::Struct(members) => members.iter_mut().for_each(|member| member.column.truncate(len)),
        }
    }

    /// Octets in use, without what is reserved.
    pub(super) fn bytes(&self) -> usize {
        let values = match &self.values {
            Values::Bool(values) => values.len() / 8,
            Values::Int8(values) => values.len(),
            Values::Int16(values) => values.len() * 2,
            Values::Int32(values) => values.len() * 4,
            Values::Int64(values) | Values::Instant(values) => values.len() * 8,
            Values::Float32(values) => values.len() * 4,
            Values::Float64(values) => values.len() * 8,
            Values::Decimal(decoder, _) | Values::Numeric(decoder) | Values::Canonical(decoder) => {
                decoder.bytes()
            }
            Values::Text(runs)
            | Values::Bytes(runs)
            | Values::Reference(runs)
            | Values::Json(runs)
            | Values::Variant(runs) => runs.bytes(),
            Values::Geopoint { lat, .. } => lat.len() * 16,
            Values::Vector { ends, items } => ends.bytes() + items.len() * 8,
            Values::List { ends, item } => ends.bytes() + item.bytes(),
            Values::Struct(members) => members.iter().map(|member| member.column.bytes()).sum(),
        };
        values + self.len() / 8
    }

    /// The array so far; the column is then empty.
    pub(super) fn finish(&mut self) -> Result<ArrayRef> {
        let len = self.nulls.len();
        let nulls = self.nulls.finish();
        self.values.finish(len, nulls, &self.data_type)
    }
}

impl Values {
    fn new(record_type: &RecordType) -> Result<Self> {
        Ok(match record_type {
            RecordType::Bool => Self::Bool(BooleanBufferBuilder::new(0)),
            RecordType::Int { bits: 8 } => Self::Int8(Vec::new()),
            RecordType::Int { bits: 16 } => Self::Int16(Vec::new()),
            RecordType::Int { bits: 32 } => Self::Int32(Vec::new()),
            RecordType::Int { .. } => Self::Int64(Vec::new()),
            RecordType::Float { bits: 32 } => Self::Float32(Vec::new()),
            RecordType::Float { .. } => Self::Float64(Vec::new()),
            RecordType::Decimal { precision, scale } => Self::Decimal(
                TextDecoder::new(record_type, 0)?,
                DecimalForm::of(*precision, *scale),
            ),
            RecordType::Numeric => Self::Numeric(TextDecoder::new(record_type, 0)?),
            RecordType::Text | RecordType::Opaque { .. } => Self::Text(Runs::default()),
            RecordType::Date
            | RecordType::Time
            | RecordType::TimeTz
            | RecordType::Timestamp
            | RecordType::Interval
            | RecordType::Uuid => Self::Canonical(TextDecoder::new(record_type, 0)?),
            RecordType::Bytes => Self::Bytes(Runs::default()),
            RecordType::TimestampTz => Self::Instant(Vec::new()),
            RecordType::Reference => Self::Reference(Runs::default()),
            RecordType::Json => Self::Json(Runs::default()),
            RecordType::Variant => Self::Variant(Runs::default()),
            RecordType::Geopoint => Self::Geopoint {
                lat: Vec::new(),
                lng: Vec::new(),
            },
            RecordType::Vector => Self::Vector {
                ends: Ends::default(),
                items: Vec::new(),
            },
            RecordType::List { item } => Self::List {
                ends: Ends::default(),
                item: Box::new(Column::new(item)?),
            },
            RecordType::Struct { fields } => {
                Self::Struct(fields.iter().map(Member::new).collect::<Result<_>>()?)
            }
        })
    }

    fn finish(&mut self, len: usize, nulls: Option<NullBuffer>, data_type: &DataType) -> Result<ArrayRef> {
        Ok(match self {
            Self::Bool(values) => Arc::new(BooleanArray::new(values.finish(), nulls)),
            Self::Int8(values) => primitive::<Int8Type>(values, nulls, data_type)?,
            Self::Int16(values) => primitive::<Int16Type>(values, nulls, data_type)?,
            Self::Int32(values) => primitive::<Int32Type>(values, nulls, data_type)?,
            Self::Int64(values) => primitive::<Int64Type>(values, nulls, data_type)?,
            Self::Instant(values) => primitive::<TimestampMicrosecondType>(values, nulls, data_type)?,
            Self::Float32(values) => primitive::<Float32Type>(values, nulls, data_type)?,
            Self::Float64(values) => primitive::<Float64Type>(values, nulls, data_type)?,
            Self::Decimal(decoder, _) | Self::Numeric(decoder) | Self::Canonical(decoder) => {
                decoder.finish()?
            }
            Self::Text(runs) | Self::Reference(runs) | Self::Json(runs) | Self::Variant(runs) => {
                let (offsets, data) = runs.finish();
                Arc::new(StringArray::try_new(offsets, data, nulls)?)
            }
            Self::Bytes(runs) => {
                let (offsets, data) = runs.finish();
                Arc::new(BinaryArray::try_new(offsets, data, nulls)?)
            }
            Self::Geopoint { lat, lng } => {
                let parts = [lat, lng]
                    .map(|values| primitive::<Float64Type>(values, None, &DataType::Float64))
                    .into_iter()
                    .collect::<Result<_, _>>()?;
                structure(len, parts, nulls, data_type)?
            }
            Self::Vector { ends, items } => {
                let items = primitive::<Float64Type>(items, None, &DataType::Float64)?;
                list(ends, items, nulls, data_type)?
            }
            Self::List { ends, item } => {
                let items = item.finish()?;
                list(ends, items, nulls, data_type)?
            }
            Self::Struct(members) => {
                let members = members.iter_mut().map(|member| member.column.finish());
                structure(len, members.collect::<Result<_>>()?, nulls, data_type)?
            }
        })
    }
}

impl Member {
    fn new(field: &Field) -> Result<Self> {
        Ok(Self {
            name: field.name.clone(),
            nullable: field.nullable,
            column: Column::new(&field.record_type)?,
        })
    }
}

fn primitive<T: ArrowPrimitiveType>(
    values: &mut Vec<T::Native>,
    nulls: Option<NullBuffer>,
    data_type: &DataType,
) -> Result<ArrayRef, ArrowError> {
    let array = PrimitiveArray::<T>::try_new(ScalarBuffer::from(take(values)), nulls)?;
    Ok(Arc::new(array.with_data_type(data_type.clone())))
}

fn list(
    ends: &mut Ends,
    items: ArrayRef,
    nulls: Option<NullBuffer>,
    data_type: &DataType,
) -> Result<ArrayRef> {
    let DataType::List(field) = data_type else {
        return Err(Error::internal("a list travels as a list"));
    };
    let list = ListArray::try_new(Arc::clone(field), ends.finish(), items, nulls)?;
    Ok(Arc::new(list))
}

fn structure(
    len: usize,
    members: Vec<ArrayRef>,
    nulls: Option<NullBuffer>,
    data_type: &DataType,
) -> Result<ArrayRef> {
    let DataType::Struct(fields) = data_type else {
        return Err(Error::internal("a struct travels as a struct"));
    };
    if members.is_empty() {
        return Ok(Arc::new(StructArray::new_empty_fields(len, nulls)));
    }
    Ok(Arc::new(StructArray::try_new(fields.clone(), members, nulls)?))
}
