//! Records as plain values: what the suites compare, and the way to and from Arrow arrays.
//!
//! Slow and simple on purpose, and not what any connector uses: a second opinion on what a batch holds.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use arrow_array::builder::{BinaryBuilder, FixedSizeBinaryBuilder};
use arrow_array::cast::AsArray as _;
use arrow_array::types::{
    Date32Type, Decimal128Type, Decimal256Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type,
    Int64Type, Time64MicrosecondType, TimestampMicrosecondType,
};
use arrow_array::{
    Array, ArrayRef, ArrowPrimitiveType, BooleanArray, ListArray, PrimitiveArray, RecordBatch,
    RecordBatchOptions, StringArray, StructArray,
};
use arrow_buffer::{NullBuffer, OffsetBuffer, i256};
use arrow_schema::DataType;

use crate::batch::Batch;
use crate::error::{Error, Result};
use crate::record_type::{Field, RecordType, Schema};

/// One value. Equal means the same to a person who looks closely: -0.0 is not 0.0, every NaN is one NaN.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Value {
    /// The record does not have the field.
    Absent,
    /// Null.
    Null,
    /// `bool`.
    Bool(bool),
    /// `int`, and the numbers behind `date`, `time` and `timestamp`.
    Int(i64),
    /// `float`, as bits; made by [`Value::float`].
    Float(u64),
    /// `decimal`, without its point.
    Decimal(i256),
    /// Everything that travels as text.
    Text(String),
    /// `bytes` and `uuid`.
    Bytes(Vec<u8>),
    /// `list` and `vector`.
    List(Vec<Value>),
    /// `struct`, `interval` and `geopoint`, in the order of their members.
    Struct(Vec<Value>),
}

/// One record, by field.
pub type Record = BTreeMap<String, Value>;

impl Value {
    /// A float.
    pub fn float(number: f64) -> Self {
        Self::Float(if number.is_nan() {
            f64::NAN.to_bits()
        } else {
            number.to_bits()
        })
    }

    /// A text.
    pub fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }

    fn is_null(&self) -> bool {
        matches!(self, Self::Null | Self::Absent)
    }
}

/// Characters of a value in a message.
const SHOWN_CHARACTERS_MAX: usize = 80;

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent => f.write_str("absent"),
            Self::Null => f.write_str("null"),
            Self::Bool(value) => write!(f, "{value}"),
            Self::Int(value) => write!(f, "{value}"),
            Self::Float(bits) => write!(f, "{:?}", f64::from_bits(*bits)),
            Self::Decimal(value) => write!(f, "decimal {value}"),
            Self::Text(text) => {
                let shown: String = text.chars().take(SHOWN_CHARACTERS_MAX).collect();
                write!(f, "{shown:?}")?;
                if shown.len() < text.len() {
                    write!(f, ".. ({} octets)", text.len())
                } else {
                    Ok(())
                }
            }
            Self::Bytes(octets) => write!(f, "{} octets", octets.len()),
            Self::List(items) => f.debug_list().entries(items).finish(),
            Self::Struct(members) => f.debug_set().entries(members).finish(),
        }
    }
}

/// The records of a batch.
pub fn records(batch: &Batch) -> Vec<Record> {
    let fields = &batch.schema.fields;
    let columns: Vec<Vec<Value>> = fields
        .iter()
        .zip(batch.records.columns())
        .map(|(field, column)| values(&field.record_type, column))
        .collect();
    let presence = if batch.schema.presence {
        batch.records.columns().last()
    } else {
        None
    };
    (0..batch.record_count())
        .map(|row| {
            let bits = presence.map(|column| column.as_binary::<i32>().value(row));
            let value = |index: usize| match bits {
                Some(bits)
                    if bits
                        .get(index / 8)
                        .is_none_or(|octet| octet >> (index % 8) & 1 == 0) =>
                {
                    Value::Absent
                }
                _ => columns[index][row].clone(),
            };
            fields
                .iter()
                .enumerate()
                .map(|(index, field)| (field.name.clone(), value(index)))
                .collect()
        })
        .collect()
}

/// A batch of `records`; a field that a record does not name is absent.
pub fn batch(schema: &Arc<Schema>, records: &[Record]) -> Result<Batch> {
    let absent = Value::Absent;
    let of = |record: &'_ Record, field: &Field| record.get(&field.name).unwrap_or(&absent).clone();
    let mut columns = Vec::with_capacity(schema.fields.len() + 1);
    for field in &schema.fields {
        let column: Vec<Value> = records.iter().map(|record| of(record, field)).collect();
        columns.push(array(&field.record_type, &column)?);
    }
    if schema.presence {
        let mut bits = BinaryBuilder::new();
        for record in records {
            let mut octets = vec![0_u8; schema.fields.len().div_ceil(8)];
            for (index, field) in schema.fields.iter().enumerate() {
                if of(record, field) != Value::Absent {
                    octets[index / 8] |= 1 << (index % 8);
                }
            }
            bits.append_value(octets);
        }
        columns.push(Arc::new(bits.finish()));
    }
    let options = RecordBatchOptions::new().with_row_count(Some(records.len()));
    let columns = RecordBatch::try_new_with_options(schema.to_arrow(), columns, &options)?;
    Batch::new(Arc::clone(schema), columns)
}

/// The values of a column.
pub fn values(record_type: &RecordType, column: &dyn Array) -> Vec<Value> {
    let known = (0..column.len()).map(|row| value(record_type, column, row));
    known
        .enumerate()
        .map(|(row, value)| if column.is_null(row) { Value::Null } else { value })
        .collect()
}

fn value(record_type: &RecordType, column: &dyn Array, row: usize) -> Value {
    match column.data_type() {
        DataType::Boolean => Value::Bool(column.as_boolean().value(row)),
        DataType::Int8 => Value::Int(column.as_primitive::<Int8Type>().value(row).into()),
        DataType::Int16 => Value::Int(column.as_primitive::<Int16Type>().value(row).into()),
        DataType::Int32 => Value::Int(column.as_primitive::<Int32Type>().value(row).into()),
        DataType::Int64 => Value::Int(column.as_primitive::<Int64Type>().value(row)),
        DataType::Float32 => Value::float(column.as_primitive::<Float32Type>().value(row).into()),
        DataType::Float64 => Value::float(column.as_primitive::<Float64Type>().value(row)),
        DataType::Decimal128(..) => Value::Decimal(i256::from_i128(
            column.as_primitive::<Decimal128Type>().value(row),
        )),
        DataType::Decimal256(..) => Value::Decimal(column.as_primitive::<Decimal256Type>().value(row)),
        DataType::Date32 => Value::Int(column.as_primitive::<Date32Type>().value(row).into()),
        DataType::Time64(_) => Value::Int(column.as_primitive::<Time64MicrosecondType>().value(row)),
        DataType::Timestamp(..) => Value::Int(column.as_primitive::<TimestampMicrosecondType>().value(row)),
        DataType::Binary => Value::Bytes(column.as_binary::<i32>().value(row).to_vec()),
        DataType::FixedSizeBinary(_) => Value::Bytes(column.as_fixed_size_binary().value(row).to_vec()),
        DataType::List(_) => Value::List(values(
            &item_type(record_type),
            &column.as_list::<i32>().value(row),
        )),
        DataType::Struct(_) => {
            let member_types = member_types(record_type);
            let columns = column.as_struct().columns().iter().zip(&member_types);
            Value::Struct(
                columns
                    .map(|(column, of)| values(of, &column.slice(row, 1)).remove(0))
                    .collect(),
            )
        }
        _ => Value::text(column.as_string::<i32>().value(row)),
    }
}

fn item_type(record_type: &RecordType) -> RecordType {
    match record_type {
        RecordType::List { item } => (**item).clone(),
        _ => RecordType::FLOAT64,
    }
}

fn member_types(record_type: &RecordType) -> Vec<RecordType> {
    match record_type {
        RecordType::Struct { fields } => fields.iter().map(|field| field.record_type.clone()).collect(),
        RecordType::Interval => vec![
            RecordType::Int { bits: 32 },
            RecordType::Int { bits: 32 },
            RecordType::INT64,
        ],
        _ => vec![RecordType::FLOAT64; 2],
    }
}

/// A column of `values`.
///
/// # Errors
/// `plugin.internal` if a value does not belong to the type.
pub fn array(record_type: &RecordType, values: &[Value]) -> Result<ArrayRef> {
    let data_type = record_type.to_arrow();
    Ok(match &data_type {
        DataType::Boolean => Arc::new(
            each(record_type, values, |value| match value {
                Value::Bool(value) => Some(*value),
                _ => None,
            })?
            .into_iter()
            .collect::<BooleanArray>(),
        ),
        DataType::Int8 => integers::<Int8Type>(record_type, values)?,
        DataType::Int16 => integers::<Int16Type>(record_type, values)?,
        DataType::Int32 => integers::<Int32Type>(record_type, values)?,
        DataType::Int64 => integers::<Int64Type>(record_type, values)?,
        DataType::Date32 => integers::<Date32Type>(record_type, values)?,
        DataType::Time64(_) => integers::<Time64MicrosecondType>(record_type, values)?,
        DataType::Timestamp(_, zone) => {
            let plain = integers::<TimestampMicrosecondType>(record_type, values)?;
            Arc::new(
                plain
                    .as_primitive::<TimestampMicrosecondType>()
                    .clone()
                    .with_timezone_opt(zone.clone()),
            )
        }
        DataType::Float32 => primitive::<Float32Type>(record_type, values, |value| match value {
            Value::Float(bits) => Some(f64::from_bits(*bits) as f32),
            _ => None,
        })?,
        DataType::Float64 => primitive::<Float64Type>(record_type, values, |value| match value {
            Value::Float(bits) => Some(f64::from_bits(*bits)),
            _ => None,
        })?,
        DataType::Decimal128(precision, scale) => {
            let plain = each(record_type, values, |value| match value {
                Value::Decimal(number) => number.to_i128(),
                _ => None,
            })?;
            Arc::new(
                PrimitiveArray::<Decimal128Type>::from_iter(plain)
                    .with_precision_and_scale(*precision, *scale)?,
            )
        }
        DataType::Decimal256(precision, scale) => {
            let plain = each(record_type, values, |value| match value {
                Value::Decimal(number) => Some(*number),
                _ => None,
            })?;
            Arc::new(
                PrimitiveArray::<Decimal256Type>::from_iter(plain)
                    .with_precision_and_scale(*precision, *scale)?,
            )
        }
        DataType::Binary => {
            let mut builder = BinaryBuilder::new();
            each(record_type, values, octets)?
                .into_iter()
                .for_each(|value| builder.append_option(value));
            Arc::new(builder.finish())
        }
        DataType::FixedSizeBinary(width) => {
            let mut builder = FixedSizeBinaryBuilder::new(*width);
            for value in each(record_type, values, octets)? {
                match value {
                    Some(value) => builder.append_value(value)?,
                    None => builder.append_null(),
                }
            }
            Arc::new(builder.finish())
        }
        DataType::List(item) => {
            let lists = each(record_type, values, |value| match value {
                Value::List(items) => Some(items.as_slice()),
                _ => None,
            })?;
            let nulls: NullBuffer = lists.iter().map(Option::is_some).collect();
            let offsets = OffsetBuffer::from_lengths(lists.iter().map(|list| list.map_or(0, <[Value]>::len)));
            let flat: Vec<Value> = lists.into_iter().flatten().flatten().cloned().collect();
            let items = array(&item_type(record_type), &flat)?;
            Arc::new(ListArray::try_new(Arc::clone(item), offsets, items, Some(nulls))?)
        }
        DataType::Struct(members) => {
            let structs = each(record_type, values, |value| match value {
                Value::Struct(members) => Some(members.as_slice()),
                _ => None,
            })?;
            let nulls: NullBuffer = structs.iter().map(Option::is_some).collect();
            let column = |(index, of): (usize, &RecordType)| {
                let values: Vec<Value> = structs
                    .iter()
                    .map(|members| members.map_or(Value::Null, |members| members[index].clone()))
                    .collect();
                array(of, &values)
            };
            let columns = member_types(record_type)
                .iter()
                .enumerate()
                .map(column)
                .collect::<Result<Vec<_>>>()?;
            Arc::new(StructArray::try_new(members.clone(), columns, Some(nulls))?)
        }
        _ => Arc::new(
            each(record_type, values, |value| match value {
                Value::Text(text) => Some(text.as_str()),
                _ => None,
            })?
            .into_iter()
            .collect::<StringArray>(),
        ),
    })
}

fn octets(value: &Value) -> Option<&[u8]> {
    match value {
        Value::Bytes(octets) => Some(octets),
        _ => None,
    }
}

/// The inner form of each value; `None` for null.
fn each<'v, T>(
    record_type: &RecordType,
    values: &'v [Value],
    of: impl Fn(&'v Value) -> Option<T>,
) -> Result<Vec<Option<T>>> {
    values
        .iter()
        .map(|value| match of(value) {
            None if !value.is_null() => Err(Error::internal(format!(
                "a value does not belong to the type `{record_type}`"
            ))),
            inner => Ok(inner),
        })
        .collect()
}

fn primitive<'v, T: ArrowPrimitiveType>(
    record_type: &RecordType,
    values: &'v [Value],
    of: impl Fn(&'v Value) -> Option<T::Native>,
) -> Result<ArrayRef> {
    Ok(Arc::new(
        each(record_type, values, of)?
            .into_iter()
            .collect::<PrimitiveArray<T>>(),
    ))
}

fn integers<T: ArrowPrimitiveType<Native: TryFrom<i64>>>(
    record_type: &RecordType,
    values: &[Value],
) -> Result<ArrayRef> {
    primitive::<T>(record_type, values, |value| match value {
        Value::Int(number) => T::Native::try_from(*number).ok(),
        _ => None,
    })
}
