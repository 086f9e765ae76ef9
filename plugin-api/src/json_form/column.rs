//! A growing column of any record type, fed with JSON values, that can be cut back to an earlier length.
//!
//! How a type is written in JSON is decided here once ([`Way`]), as is what a null means. The values
//! themselves are read by [`super::seed`]; scalar ones are kept by [`crate::text_form`].

use std::borrow::Cow;
use std::sync::Arc;

use arrow_array::{ArrayRef, ListArray, StructArray};
use arrow_buffer::NullBufferBuilder;
use arrow_schema::{ArrowError, DataType, FieldRef, Fields};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use crate::record_type::{Field, RecordType};
use crate::text_form::{Ends, Refusal, ScalarColumn, is_special};

use super::keys::Keys;

/// A column of one record type.
#[derive(Debug)]
pub(super) struct Column {
    pub(super) record_type: RecordType,
    pub(super) nullable: bool,
    pub(super) data: Data,
}

#[derive(Debug)]
pub(super) enum Data {
    Scalar(Way, ScalarColumn),
    List(ListColumn),
    Struct(StructColumn),
}

/// How a scalar stands in JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// `true` or `false`.
    Bool,
    /// An integer.
    Int,
    /// A number, or a string that names what is none.
    Float,
    /// A string with the text form, or a number.
    Exact,
    /// A string with the text form.
    Text,
    /// A string with base64.
    Base64,
    /// Any JSON value, as it is written.
    Raw,
}

#[derive(Debug)]
pub(super) struct ListColumn {
    pub(super) item: Box<Column>,
    ends: Ends,
    nulls: NullBufferBuilder,
    field: FieldRef,
}

#[derive(Debug)]
pub(super) struct StructColumn {
    pub(super) keys: Keys,
    pub(super) members: Vec<Column>,
    nulls: NullBufferBuilder,
    fields: Fields,
}

impl Column {
    /// An empty column for the values of `field`, whose type has been validated.
    pub(super) fn new(field: &Field, capacity: usize) -> Self {
        Self {
            data: Data::new(&field.record_type, capacity),
            record_type: field.record_type.clone(),
            nullable: field.nullable,
        }
    }

    pub(super) fn len(&self) -> usize {
        match &self.data {
            Data::Scalar(_, values) => values.len(),
            Data::List(list) => list.nulls.len(),
            Data::Struct(members) => members.nulls.len(),
        }
    }

    /// Adds a null, also where none may be: below a null struct, and for rows that will be cut off.
    pub(super) fn push_null(&mut self) {
        match &mut self.data {
            Data::Scalar(_, values) => values.push_null(),
            Data::List(list) => {
                list.ends.push_empty();
                list.nulls.append_null();
            }
            Data::Struct(column) => {
                column.members.iter_mut().for_each(Self::push_null);
                column.nulls.append_null();
            }
        }
    }

    pub(super) fn truncate(&mut self, len: usize) {
        match &mut self.data {
            Data::Scalar(_, values) => values.truncate(len),
            Data::List(list) => {
                list.ends.truncate(len);
                list.nulls.truncate(len);
                // Also if the list itself is not longer: a list that failed half way left items behind.
                list.item.truncate(list.ends.last());
            }
            Data::Struct(column) => {
                column.members.iter_mut().for_each(|member| member.truncate(len));
                column.nulls.truncate(len);
            }
        }
    }

    /// Octets in use, without what is reserved.
    pub(super) fn bytes(&self) -> usize {
        match &self.data {
            Data::Scalar(_, values) => values.bytes(),
            Data::List(list) => list.item.bytes() + list.ends.bytes() + list.nulls.len() / 8,
            Data::Struct(column) => {
                column.members.iter().map(Self::bytes).sum::<usize>() + column.nulls.len() / 8
            }
        }
    }

    /// The array so far; the column is then empty.
    pub(super) fn finish(&mut self) -> Result<ArrayRef, ArrowError> {
        match &mut self.data {
            Data::Scalar(_, values) => values.finish(),
            Data::List(list) => {
                let (items, nulls) = (list.item.finish()?, list.nulls.finish());
                let list = ListArray::try_new(Arc::clone(&list.field), list.ends.finish(), items, nulls)?;
                Ok(Arc::new(list))
            }
            Data::Struct(column) => {
                let len = column.nulls.len();
                let nulls = column.nulls.finish();
                if column.members.is_empty() {
                    return Ok(Arc::new(StructArray::new_empty_fields(len, nulls)));
                }
                let members = column.members.iter_mut().map(Self::finish);
                let members = members.collect::<Result<Vec<_>, _>>()?;
                Ok(Arc::new(StructArray::try_new(
                    column.fields.clone(),
                    members,
                    nulls,
                )?))
            }
        }
    }
}

impl Data {
    fn new(record_type: &RecordType, capacity: usize) -> Self {
        match record_type {
            RecordType::List { item } => {
                Self::list(record_type, &Field::new("item", (**item).clone()), capacity)
            }
            RecordType::Vector => Self::list(
                record_type,
                &Field::required("item", RecordType::FLOAT64),
                capacity,
            ),
            RecordType::Struct { fields } => Self::structure(record_type, fields, capacity),
            RecordType::Geopoint => Self::structure(record_type, &geopoint_members(), capacity),
            _ => Self::Scalar(Way::of(record_type), ScalarColumn::new(record_type, capacity)),
        }
    }

    fn list(record_type: &RecordType, item: &Field, capacity: usize) -> Self {
        let field = match record_type.to_arrow() {
            DataType::List(field) => field,
            // No other type comes here; were it one, Arrow would refuse the array.
            _ => Arc::new(item.to_arrow()),
        };
        Self::List(ListColumn {
            item: Box::new(Column::new(item, capacity)),
            ends: Ends::new(capacity),
            nulls: NullBufferBuilder::new(capacity),
            field,
        })
    }

    fn structure(record_type: &RecordType, members: &[Field], capacity: usize) -> Self {
        let fields = match record_type.to_arrow() {
            DataType::Struct(fields) => fields,
            _ => members.iter().map(Field::to_arrow).collect(),
        };
        Self::Struct(StructColumn {
            keys: Keys::new(members.iter().map(|member| member.name.as_str())),
            members: members
                .iter()
                .map(|member| Column::new(member, capacity))
                .collect(),
            nulls: NullBufferBuilder::new(capacity),
            fields,
        })
    }
}

impl ListColumn {
    /// Ends a list whose items have been added.
    pub(super) fn end(&mut self) -> Result<(), Refusal> {
        self.ends.push(self.item.len())?;
        self.nulls.append_non_null();
        Ok(())
    }
}

impl StructColumn {
    /// Ends a struct whose members have all been added.
    pub(super) fn end(&mut self) {
        self.nulls.append_non_null();
    }
}

impl Way {
    /// How the scalar `record_type` stands in JSON.
    pub(super) const fn of(record_type: &RecordType) -> Self {
        match record_type {
            RecordType::Bool => Self::Bool,
            RecordType::Int { .. } => Self::Int,
            RecordType::Float { .. } => Self::Float,
            RecordType::Decimal { .. } | RecordType::Numeric => Self::Exact,
            RecordType::Bytes => Self::Base64,
            RecordType::Json | RecordType::Variant => Self::Raw,
            _ => Self::Text,
        }
    }

    /// Whether values are read as a slice of the JSON text: numbers, since `serde_json` would round them, and
    /// JSON.
    pub(super) const fn is_sliced(self) -> bool {
        matches!(self, Self::Int | Self::Float | Self::Exact | Self::Raw)
    }
}

/// Takes a string into a scalar column of `way`, which is not one of those that are sliced.
pub(super) fn push_string(way: Way, values: &mut ScalarColumn, text: &str) -> Result<(), Refusal> {
    match way {
        Way::Text => values.push_text(text),
        Way::Base64 => values.push_octets(|octets| BASE64.decode_vec(text, octets).ok()),
        _ => Err(Refusal::BadValue),
    }
}

/// Takes a slice of JSON text, which is not null, into a scalar column of `way`, which is one that is sliced.
pub(super) fn push_slice(way: Way, values: &mut ScalarColumn, slice: &str) -> Result<(), Refusal> {
    let is_number = slice.starts_with(|first: char| first == '-' || first.is_ascii_digit());
    match way {
        Way::Raw => values.push_text(slice),
        // The parser of integers takes no point and no exponent.
        Way::Int | Way::Float | Way::Exact if is_number => values.push_text(slice),
        Way::Float => match unquote(slice) {
            Some(name) if is_special(&name) => values.push_text(&name),
            _ => Err(Refusal::BadValue),
        },
        Way::Exact => values.push_text(&unquote(slice).ok_or(Refusal::BadValue)?),
        _ => Err(Refusal::BadValue),
    }
}

/// The text of a JSON string; `None` if the slice is another value.
fn unquote(slice: &str) -> Option<Cow<'_, str>> {
    let inner = slice.strip_prefix('"')?.strip_suffix('"')?;
    if inner.contains('\\') {
        return serde_json::from_str(slice).ok().map(Cow::Owned);
    }
    Some(Cow::Borrowed(inner))
}

/// The members of a geopoint.
pub(super) fn geopoint_members() -> [Field; 2] {
    ["lat", "lng"].map(|name| Field::required(name, RecordType::FLOAT64))
}
