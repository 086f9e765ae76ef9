//! From JSON values to an array of any record type.
//!
//! What a [`super::JsonEncoder`] wrote comes back exactly. For whole records, [`super::RowDecoder`] reads all
//! fields of a line in one pass.

use arrow_array::ArrayRef;
use serde::de::{DeserializeSeed as _, Deserializer};

use crate::error::{Error, Result};
use crate::record_type::{Field, RecordType};

use super::column::Column;
use super::fault::Context;
use super::row_decoder::UnknownKeys;
use super::seed::Seed;

/// Builds one column from JSON values. See [`super::JsonEncoder`] for the JSON of each type.
///
/// Strict: an integer is written without point and exponent and within range; a key of a struct that its type
/// does not have, or that stands twice, is an error; a missing member is null. Besides what the encoder
/// writes it reads numbers for decimal and numeric (exactly, or not at all) and any JSON number for a float,
/// rounded to the nearest.
#[derive(Debug)]
pub struct JsonDecoder {
    column: Column,
    unknown_keys: UnknownKeys,
}

impl JsonDecoder {
    /// An empty decoder for a column of `record_type` that may be null, with room for `capacity` rows.
    ///
    /// # Errors
    /// `schema.bad_type` for parameters outside the closed list.
    pub fn new(record_type: &RecordType, capacity: usize) -> Result<Self> {
        record_type.validate()?;
        Ok(Self {
            column: Column::new(&Field::new("", record_type.clone()), capacity),
            unknown_keys: UnknownKeys::Fail,
        })
    }

    /// Says what happens to keys that a struct does not have; [`UnknownKeys::Fail`] unless said.
    #[must_use]
    pub const fn with_unknown_keys(mut self, unknown_keys: UnknownKeys) -> Self {
        self.unknown_keys = unknown_keys;
        self
    }

    /// Adds a null.
    pub fn push_null(&mut self) {
        self.column.push_null();
    }

    /// Adds the value that stands as JSON in `raw`, such as a `RawValue` or one line; `null` adds a null.
    ///
    /// # Errors
    /// `json_form.bad_json` if it is not one JSON value, `json_form.bad_value`, `json_form.null`,
    /// `json_form.missing_field`, `json_form.unknown_key` and `json_form.key_twice` if it is no value of the
    /// type, `json_form.too_large` past 2^31 octets or items in one batch. None adds a row.
    pub fn push_raw(&mut self, raw: &str) -> Result<()> {
        let mut context = Context::new(self.unknown_keys);
        let mut deserializer = serde_json::Deserializer::from_str(raw);
        self.push_within(&mut deserializer, &mut context)
            .and_then(|()| {
                deserializer.end().inspect_err(|_| {
                    self.column.truncate(self.column.len() - 1);
                })
            })
            .map_err(|error| context.into_error(&error))
    }

    /// Adds the value that comes next from `deserializer`, which is one of `serde_json` over a `&str` or
    /// `&[u8]`: numbers and json values are taken as slices of the text, and no other deserializer has one.
    ///
    /// # Errors
    /// The deserializer's error, with a message that names the type and never the value. No row is then
    /// added.
    pub fn push_from<'de, D: Deserializer<'de>>(&mut self, deserializer: D) -> Result<(), D::Error> {
        self.push_within(deserializer, &mut Context::new(self.unknown_keys))
    }

    fn push_within<'de, D: Deserializer<'de>>(
        &mut self,
        deserializer: D,
        context: &mut Context,
    ) -> Result<(), D::Error> {
        let len = self.column.len();
        let column = &mut self.column;
        Seed { column, context }
            .deserialize(deserializer)
            .inspect_err(|_| self.column.truncate(len))
    }

    /// Forgets all rows from `len` on, as a caller does whose record turned out to be at fault in another field.
    pub fn truncate(&mut self, len: usize) {
        self.column.truncate(len);
    }

    /// How many rows have been added since the last [`Self::finish`].
    pub fn len(&self) -> usize {
        self.column.len()
    }

    /// Whether no row has been added since the last [`Self::finish`].
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Octets that the rows so far take up, about.
    pub fn bytes(&self) -> usize {
        self.column.bytes()
    }

    /// The rows so far as an array of the physical type of the record type; the decoder is then empty.
    ///
    /// # Errors
    /// `plugin.internal` if Arrow refuses the parts, which would be a defect here.
    pub fn finish(&mut self) -> Result<ArrayRef> {
        self.column.finish().map_err(Error::from)
    }
}
