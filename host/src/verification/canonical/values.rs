//! The typed values of a column: its array, looked at once for a batch.
//! Neighbour: `super` writes their forms.

use arrow_array::cast::AsArray as _;
use arrow_array::types::{
    Date32Type, Decimal128Type, Decimal256Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type,
    Int64Type, Time64MicrosecondType, TimestampMicrosecondType,
};
use arrow_array::{ArrayRef, BinaryArray, BooleanArray, FixedSizeBinaryArray, StringArray};
use whimbrel_plugin_api::RecordType;
use whimbrel_plugin_api::arrow_buffer::{OffsetBuffer, ScalarBuffer, i256};

use super::{ColumnEncoder, FieldLosses, TAG_TIME, TAG_TIMESTAMP, TAG_TIMESTAMP_TZ};

/// The values of a column, looked at once, so that no value asks again what it is.
pub(super) enum Values {
    Bool(BooleanArray),
    Int8(ScalarBuffer<i8>),
    Int16(ScalarBuffer<i16>),
    Int32(ScalarBuffer<i32>),
    Int64(ScalarBuffer<i64>),
    Float32(ScalarBuffer<f32>),
    Float64(ScalarBuffer<f64>),
    Decimal128(ScalarBuffer<i128>, i8),
    Decimal256(ScalarBuffer<i256>, i8),
    Numeric(StringArray),
    Text(StringArray),
    Bytes(BinaryArray),
    Date(ScalarBuffer<i32>),
    /// Microseconds, and the tag that says of what.
    Micros(ScalarBuffer<i64>, u8),
    Interval {
        months: ScalarBuffer<i32>,
        days: ScalarBuffer<i32>,
        micros: ScalarBuffer<i64>,
    },
    Uuid(FixedSizeBinaryArray),
    Json(StringArray),
    List {
        offsets: OffsetBuffer<i32>,
        item: Box<ColumnEncoder>,
    },
    Struct(Vec<ColumnEncoder>),
}

impl Values {
    pub(super) fn new(record_type: &RecordType, array: &ArrayRef, losses: FieldLosses) -> Self {
        match record_type {
            RecordType::Bool => Self::Bool(array.as_boolean().clone()),
            RecordType::Int { bits: 8 } => Self::Int8(array.as_primitive::<Int8Type>().values().clone()),
            RecordType::Int { bits: 16 } => Self::Int16(array.as_primitive::<Int16Type>().values().clone()),
            RecordType::Int { bits: 32 } => Self::Int32(array.as_primitive::<Int32Type>().values().clone()),
            RecordType::Int { .. } => Self::Int64(array.as_primitive::<Int64Type>().values().clone()),
            RecordType::Float { bits: 32 } => {
                Self::Float32(array.as_primitive::<Float32Type>().values().clone())
            }
            RecordType::Float { .. } => Self::Float64(array.as_primitive::<Float64Type>().values().clone()),
            RecordType::Decimal { precision, scale } if *precision <= 38 => {
                Self::Decimal128(array.as_primitive::<Decimal128Type>().values().clone(), *scale)
            }
            RecordType::Decimal { scale, .. } => {
                Self::Decimal256(array.as_primitive::<Decimal256Type>().values().clone(), *scale)
            }
            RecordType::Numeric => Self::Numeric(array.as_string().clone()),
            RecordType::Text | RecordType::Reference | RecordType::Opaque { .. } | RecordType::TimeTz => {
                Self::Text(array.as_string().clone())
            }
            RecordType::Bytes => Self::Bytes(array.as_binary().clone()),
            RecordType::Date => Self::Date(array.as_primitive::<Date32Type>().values().clone()),
            RecordType::Time => Self::Micros(
                array.as_primitive::<Time64MicrosecondType>().values().clone(),
                TAG_TIME,
            ),
            RecordType::TimestampTz => Self::Micros(timestamps(array), TAG_TIMESTAMP_TZ),
            RecordType::Timestamp => Self::Micros(timestamps(array), TAG_TIMESTAMP),
            RecordType::Interval => {
                let parts = array.as_struct();
                Self::Interval {
                    months: parts.column(0).as_primitive::<Int32Type>().values().clone(),
                    days: parts.column(1).as_primitive::<Int32Type>().values().clone(),
                    micros: parts.column(2).as_primitive::<Int64Type>().values().clone(),
                }
            }
            RecordType::Uuid => Self::Uuid(array.as_fixed_size_binary().clone()),
            RecordType::Json | RecordType::Variant => Self::Json(array.as_string().clone()),
            RecordType::List { item } => Self::list(item, array, losses),
            RecordType::Vector => Self::list(&RecordType::FLOAT64, array, losses),
            RecordType::Struct { fields } => {
                Self::members(fields.iter().map(|field| &field.record_type), array, losses)
            }
            RecordType::Geopoint => Self::members([&RecordType::FLOAT64; 2], array, losses),
        }
    }

    fn list(item: &RecordType, array: &ArrayRef, losses: FieldLosses) -> Self {
        let list = array.as_list::<i32>();
        Self::List {
            offsets: list.offsets().clone(),
            item: Box::new(ColumnEncoder::new(item, list.values(), losses)),
        }
    }

    fn members<'a>(
        types: impl IntoIterator<Item = &'a RecordType>,
        array: &ArrayRef,
        losses: FieldLosses,
    ) -> Self {
        let columns = types.into_iter().zip(array.as_struct().columns());
        Self::Struct(
            columns
                .map(|(member, column)| ColumnEncoder::new(member, column, losses))
                .collect(),
        )
    }
}

fn timestamps(array: &ArrayRef) -> ScalarBuffer<i64> {
    array.as_primitive::<TimestampMicrosecondType>().values().clone()
}
