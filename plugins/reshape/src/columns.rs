//! Columns under construction: texts one after the other, and values that may not convert.
//!
//! [`Converted`] is what every conversion gives: as many rows as came in, null where one failed. Neighbours: `cast`,
//! `text_step` and `flatten` build columns with these, `records` rejects the rows that failed.

use std::sync::Arc;

use whimbrel_plugin_api::arrow_array::types::ArrowPrimitiveType;
use whimbrel_plugin_api::arrow_array::{Array as _, ArrayRef, PrimitiveArray, StringArray};
use whimbrel_plugin_api::arrow_buffer::{BooleanBuffer, Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use whimbrel_plugin_api::{Error, Result};

/// A converted column.
#[derive(Debug, Clone)]
pub(crate) struct Converted {
    pub(crate) array: ArrayRef,
    /// The rows that did not convert, in order. They are null in `array`.
    pub(crate) failed: Vec<usize>,
}

impl Converted {
    /// A column all of whose rows converted.
    pub(crate) const fn whole(array: ArrayRef) -> Self {
        Self {
            array,
            failed: Vec::new(),
        }
    }
}

/// A growing text column.
#[derive(Debug)]
pub(crate) struct TextColumn {
    text: String,
    ends: Vec<i32>,
}

impl TextColumn {
    /// With room for `rows` of `bytes` in all.
    pub(crate) fn new(rows: usize, bytes: usize) -> Self {
        let mut ends = Vec::with_capacity(rows + 1);
        ends.push(0);
        Self {
            text: String::with_capacity(bytes),
            ends,
        }
    }

    /// The text so far, to which the next value is appended before [`Self::end`].
    pub(crate) const fn text(&mut self) -> &mut String {
        &mut self.text
    }

    /// Takes back what was appended since the last row ended.
    pub(crate) fn cut(&mut self) {
        let end = self.ends.last().copied().unwrap_or(0);
        self.text.truncate(usize::try_from(end).unwrap_or(0));
    }

    /// Ends a row.
    pub(crate) fn end(&mut self) -> Result<()> {
        let end = i32::try_from(self.text.len()).map_err(|_| {
            Error::invalid_data(
                "reshape.too_large",
                "a text column of one batch would hold more than 2 GiB",
            )
            .with_help("make batches smaller")
        })?;
        self.ends.push(end);
        Ok(())
    }

    /// The column, null where `nulls` says so.
    pub(crate) fn finish(self, nulls: Option<NullBuffer>) -> Result<ArrayRef> {
        let offsets = OffsetBuffer::new(ScalarBuffer::from(self.ends));
        let array = StringArray::try_new(offsets, Buffer::from_vec(self.text.into_bytes()), nulls)?;
        Ok(Arc::new(array))
    }
}

/// `nulls` with further nulls at `rows`.
pub(crate) fn nulls_at(nulls: Option<&NullBuffer>, rows: &[usize], len: usize) -> Option<NullBuffer> {
    if rows.is_empty() {
        return nulls.cloned();
    }
    let mut bits = match nulls {
        Some(nulls) => nulls.inner().iter().collect::<Vec<bool>>(),
        None => vec![true; len],
    };
    for row in rows {
        bits[*row] = false;
    }
    Some(NullBuffer::new(BooleanBuffer::from(bits)))
}

/// Each value through `convert`, which says `None` for one that does not convert.
pub(crate) fn map_values<From: ArrowPrimitiveType, To: ArrowPrimitiveType>(
    array: &PrimitiveArray<From>,
    convert: impl Fn(From::Native) -> Option<To::Native>,
) -> (PrimitiveArray<To>, Vec<usize>) {
    let nulls = array.nulls();
    let mut failed = Vec::new();
    let values: Vec<To::Native> = array
        .values()
        .iter()
        .enumerate()
        .map(|(row, value)| match convert(*value) {
            Some(converted) => converted,
            None => {
                // What stands below a null has no meaning.
                if nulls.is_none_or(|nulls| nulls.is_valid(row)) {
                    failed.push(row);
                }
                To::Native::default()
            }
        })
        .collect();
    let nulls = nulls_at(nulls, &failed, array.len());
    (PrimitiveArray::new(values.into(), nulls), failed)
}
