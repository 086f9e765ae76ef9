//! Vectors to Arrow arrays, without a copy of what they hold.
//!
//! Neighbour: `column` fills them from the wire.

use std::sync::Arc;

use whimbrel_plugin_api::arrow_array::builder::StringBuilder;
use whimbrel_plugin_api::arrow_array::cast::AsArray as _;
use whimbrel_plugin_api::arrow_array::types::ArrowPrimitiveType;
use whimbrel_plugin_api::arrow_array::{
    Array as _, ArrayRef, ListArray, PrimitiveArray, StringArray, StructArray,
};
use whimbrel_plugin_api::arrow_buffer::{Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use whimbrel_plugin_api::arrow_schema::DataType;
use whimbrel_plugin_api::{Error, Result};

use super::Stop;

/// Values of no fixed length, one behind the other.
pub(super) struct Runs {
    pub(super) ends: Vec<i32>,
    pub(super) data: Vec<u8>,
}

impl Runs {
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            ends: Vec::with_capacity(capacity),
            data: Vec::new(),
        }
    }

    pub(super) fn push(&mut self, octets: &[u8]) -> Result<(), Stop> {
        self.data.extend_from_slice(octets);
        self.end()
    }

    /// Ends a value where the octets end.
    pub(super) fn end(&mut self) -> Result<(), Stop> {
        self.ends
            .push(i32::try_from(self.data.len()).map_err(|_| Stop::Full)?);
        Ok(())
    }

    pub(super) fn push_empty(&mut self) {
        self.ends.push(self.ends.last().copied().unwrap_or(0));
    }

    pub(super) fn truncate(&mut self, len: usize) {
        self.ends.truncate(len);
        self.data.truncate(last_end(&self.ends));
    }

    pub(super) fn finish(&mut self) -> (OffsetBuffer<i32>, Buffer) {
        (offsets(&mut self.ends), Buffer::from(taken(&mut self.data)))
    }
}

/// Texts, one behind the other. They are copied into their array by a builder, which costs less than a second look at
/// whether they are UTF-8.
pub(super) struct Texts {
    ends: Vec<i32>,
    data: String,
}

impl Texts {
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            ends: Vec::with_capacity(capacity),
            data: String::new(),
        }
    }

    pub(super) fn push(&mut self, text: &str) -> Result<(), Stop> {
        self.data.push_str(text);
        self.ends
            .push(i32::try_from(self.data.len()).map_err(|_| Stop::Full)?);
        Ok(())
    }

    pub(super) fn push_empty(&mut self) {
        self.ends.push(self.ends.last().copied().unwrap_or(0));
    }

    pub(super) fn truncate(&mut self, len: usize) {
        self.ends.truncate(len);
        self.data.truncate(last_end(&self.ends));
    }

    pub(super) fn finish(&mut self, nulls: Option<&NullBuffer>) -> StringArray {
        let mut builder = StringBuilder::with_capacity(self.ends.len(), self.data.len());
        let mut rest = self.data.as_str();
        let mut start = 0;
        for (row, end) in self.ends.iter().enumerate() {
            // Ends never go back.
            let (text, behind) = rest.split_at((end - start).unsigned_abs() as usize);
            if nulls.is_some_and(|nulls| nulls.is_null(row)) {
                builder.append_null();
            } else {
                builder.append_value(text);
            }
            (rest, start) = (behind, *end);
        }
        self.ends.clear();
        self.data.clear();
        self.data.shrink_to(RESERVED_BYTES_MAX);
        builder.finish()
    }
}

pub(super) fn last_end(ends: &[i32]) -> usize {
    // Ends are made from lengths, so they are never negative.
    ends.last().map_or(0, |end| usize::try_from(*end).unwrap_or(0))
}

pub(super) fn offsets(ends: &mut Vec<i32>) -> OffsetBuffer<i32> {
    let mut offsets = Vec::with_capacity(ends.len() + 1);
    offsets.push(0);
    offsets.append(ends);
    OffsetBuffer::new(ScalarBuffer::from(offsets))
}

/// Octets reserved at most for the next batch after the last one; a single huge batch sets no standard.
const RESERVED_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Takes the values and leaves room for about as many. What was reserved in vain is given back, since whoever holds the
/// array is charged for it.
pub(super) fn taken<T>(values: &mut Vec<T>) -> Vec<T> {
    let reserved = values.len().min(RESERVED_BYTES_MAX / size_of::<T>().max(1));
    let mut taken = std::mem::replace(values, Vec::with_capacity(reserved));
    if taken.capacity() - taken.len() > taken.len() / 4 {
        taken.shrink_to_fit();
    }
    taken
}

pub(super) fn primitive<T: ArrowPrimitiveType>(
    values: &mut Vec<T::Native>,
    nulls: Option<NullBuffer>,
    data_type: &DataType,
) -> Result<ArrayRef> {
    let array = PrimitiveArray::<T>::try_new(ScalarBuffer::from(taken(values)), nulls)?;
    Ok(Arc::new(array.with_data_type(data_type.clone())))
}

pub(super) fn structure(
    parts: Vec<ArrayRef>,
    nulls: Option<NullBuffer>,
    data_type: &DataType,
) -> Result<ArrayRef> {
    let DataType::Struct(fields) = data_type else {
        return Err(Error::internal("a struct is no struct"));
    };
    Ok(Arc::new(StructArray::try_new(fields.clone(), parts, nulls)?))
}

/// The same values under a type that says something else of its members.
pub(super) fn retyped(array: &ArrayRef, data_type: &DataType) -> Result<ArrayRef> {
    Ok(match data_type {
        _ if array.data_type() == data_type => Arc::clone(array),
        DataType::List(field) => {
            let (_, offsets, items, nulls) = array.as_list::<i32>().clone().into_parts();
            let items = retyped(&items, field.data_type())?;
            Arc::new(ListArray::try_new(Arc::clone(field), offsets, items, nulls)?)
        }
        DataType::Struct(fields) if !fields.is_empty() => {
            let (_, members, nulls) = array.as_struct().clone().into_parts();
            let members = members.iter().zip(fields);
            let members = members.map(|(member, field)| retyped(member, field.data_type()));
            structure(members.collect::<Result<_>>()?, nulls, data_type)?
        }
        _ => Arc::clone(array),
    })
}
