//! From the columns of a batch to values of the database, without an allocation per value.
//!
//! An [`Encoder`] is made once per column and batch; texts and octets are lent to the database as they lie in the
//! array, canonical texts and JSON are written into a buffer that is used again. `decode` is the way back.

use rusqlite::types::{ToSql, ToSqlOutput, ValueRef};
use whimbrel_plugin_api::arrow_array::cast::AsArray as _;
use whimbrel_plugin_api::arrow_array::types::{
    Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type,
};
use whimbrel_plugin_api::arrow_array::{
    Array, ArrayRef, BinaryArray, BooleanArray, PrimitiveArray, StringArray,
};
use whimbrel_plugin_api::json_form::JsonEncoder;
use whimbrel_plugin_api::record_type::{Field, RecordType};
use whimbrel_plugin_api::text_form::TextEncoder;
use whimbrel_plugin_api::{Batch, Result};

use crate::error::RowFault;
use crate::type_mapping::Form;

/// A value on its way into a statement.
pub(crate) struct Bound<'value>(pub(crate) ValueRef<'value>);

impl ToSql for Bound<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(self.0))
    }
}

/// Where canonical texts and JSON are written before they are bound.
#[derive(Default)]
pub(crate) struct Scratch {
    text: String,
    json: Vec<u8>,
}

/// One column of a batch.
pub(crate) enum Encoder {
    Bool(BooleanArray),
    Int8(PrimitiveArray<Int8Type>),
    Int16(PrimitiveArray<Int16Type>),
    Int32(PrimitiveArray<Int32Type>),
    Int64(PrimitiveArray<Int64Type>),
    Float32(PrimitiveArray<Float32Type>),
    Float64(PrimitiveArray<Float64Type>),
    Text(StringArray),
    Bytes(BinaryArray),
    Canonical(TextEncoder),
    Json(JsonEncoder, ArrayRef),
}

impl Encoder {
    /// The encoder of a column of `record_type`.
    pub(crate) fn new(record_type: &RecordType, array: &ArrayRef) -> Result<Self> {
        Ok(match Form::of(record_type) {
            Form::AsIs => Self::Text(array.as_string().clone()),
            Form::Canonical => Self::Canonical(TextEncoder::new(record_type, array)?),
            Form::Json => Self::Json(
                JsonEncoder::new(&without_raw_json(record_type), array)?,
                array.clone(),
            ),
            Form::Plain => match record_type {
                RecordType::Bool => Self::Bool(array.as_boolean().clone()),
                RecordType::Int { bits: 8 } => Self::Int8(array.as_primitive().clone()),
                RecordType::Int { bits: 16 } => Self::Int16(array.as_primitive().clone()),
                RecordType::Int { bits: 32 } => Self::Int32(array.as_primitive().clone()),
                RecordType::Int { .. } => Self::Int64(array.as_primitive().clone()),
                RecordType::Float { bits: 32 } => Self::Float32(array.as_primitive().clone()),
                RecordType::Float { .. } => Self::Float64(array.as_primitive().clone()),
                _ => Self::Bytes(array.as_binary().clone()),
            },
        })
    }

    /// Whether the value of `row` is null.
    pub(crate) fn is_null(&self, row: usize) -> bool {
        match self {
            Self::Bool(values) => values.is_null(row),
            Self::Int8(values) => values.is_null(row),
            Self::Int16(values) => values.is_null(row),
            Self::Int32(values) => values.is_null(row),
            Self::Int64(values) => values.is_null(row),
            Self::Float32(values) => values.is_null(row),
            Self::Float64(values) => values.is_null(row),
            Self::Text(values) => values.is_null(row),
            Self::Bytes(values) => values.is_null(row),
            Self::Canonical(values) => values.is_null(row),
            Self::Json(_, values) => values.is_null(row),
        }
    }

    /// The value of `row` as the database is to keep it.
    ///
    /// # Errors
    /// The fault of a value that has no JSON form.
    pub(crate) fn value<'value>(
        &'value self,
        row: usize,
        scratch: &'value mut Scratch,
    ) -> Result<ValueRef<'value>, RowFault> {
        if self.is_null(row) {
            return Ok(ValueRef::Null);
        }
        Ok(match self {
            Self::Bool(values) => ValueRef::Integer(values.value(row).into()),
            Self::Int8(values) => ValueRef::Integer(values.value(row).into()),
            Self::Int16(values) => ValueRef::Integer(values.value(row).into()),
            Self::Int32(values) => ValueRef::Integer(values.value(row).into()),
            Self::Int64(values) => ValueRef::Integer(values.value(row)),
            Self::Float32(values) => ValueRef::Real(values.value(row).into()),
            Self::Float64(values) => ValueRef::Real(values.value(row)),
            Self::Text(values) => ValueRef::Text(values.value(row).as_bytes()),
            Self::Bytes(values) => ValueRef::Blob(values.value(row)),
            Self::Canonical(values) => {
                scratch.text.clear();
                values.write(row, &mut scratch.text);
                ValueRef::Text(scratch.text.as_bytes())
            }
            Self::Json(values, _) => {
                scratch.json.clear();
                values
                    .write(row, &mut scratch.json)
                    .map_err(|error| RowFault::new(error.code, error.message))?;
                ValueRef::Text(&scratch.json)
            }
        })
    }
}

/// `record_type` with texts in place of json and variant, which are arrays of the same shape. As JSON strings their
/// texts survive to the letter; as JSON values their white space would not, nor the difference of `null` and missing.
pub(crate) fn without_raw_json(record_type: &RecordType) -> RecordType {
    match record_type {
        RecordType::Json | RecordType::Variant => RecordType::Text,
        RecordType::List { item } => RecordType::list(without_raw_json(item)),
        RecordType::Struct { fields } => RecordType::Struct {
            fields: fields
                .iter()
                .map(|field| Field {
                    record_type: without_raw_json(&field.record_type),
                    ..field.clone()
                })
                .collect(),
        },
        other => other.clone(),
    }
}

/// Which fields each record has.
pub(crate) struct Presence(Option<BinaryArray>);

impl Presence {
    /// The presence column of the batch; without one every record has every field.
    pub(crate) fn of(batch: &Batch) -> Self {
        let column = batch.records.columns().get(batch.schema.fields.len());
        Self(
            column
                .filter(|_| batch.schema.presence)
                .map(|column| column.as_binary().clone()),
        )
    }

    /// Whether records may lack fields.
    pub(crate) fn is_partial(&self) -> bool {
        self.0.is_some()
    }

    /// Whether the record has the field at `index`. A mask that is too short has no further fields.
    pub(crate) fn has(&self, row: usize, index: usize) -> bool {
        self.mask(row).is_none_or(|mask| {
            mask.get(index / 8)
                .is_some_and(|octet| octet & (1 << (index % 8)) != 0)
        })
    }

    /// The mask of a record.
    pub(crate) fn mask(&self, row: usize) -> Option<&[u8]> {
        self.0.as_ref().map(|masks| masks.value(row))
    }
}
