//! From lines of JSON objects to record batches, in one pass over the text.
//!
//! A line is read straight into the columns. If any field of it is at fault, all columns are cut back to the
//! rows before, so that a batch never holds a part of a record.

use std::fmt;
use std::sync::Arc;

use arrow_array::{ArrayRef, BinaryArray, RecordBatch, RecordBatchOptions};
use arrow_buffer::{Buffer, OffsetBuffer};
use arrow_schema::SchemaRef;
use serde::de::{Deserializer as _, MapAccess, SeqAccess, Visitor};

use crate::error::{Error, Result};
use crate::record_type::Schema;

use super::column::Column;
use super::fault::{Context, FaultKind};
use super::keys::Keys;
use super::seed::read_members;

/// What happens to a key that the schema does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum UnknownKeys {
    /// The record is refused, so that nothing is dropped silently.
    #[default]
    Fail,
    /// Key and value are passed over, checked for syntax only.
    Ignore,
}

/// Builds record batches from JSON objects, one a line. See [`super::JsonEncoder`] for the JSON of each type,
/// and [`super::JsonDecoder`] for how strictly it is read.
///
/// A field that the object does not have becomes null and, if the schema has a presence mask, is marked as
/// absent. A key that stands twice is an error.
///
/// ```
/// # use whimbrel_plugin_api::{json_form::RowDecoder, record_type::{Field, RecordType, Schema}};
/// let schema = Schema::new(vec![Field::required("id", RecordType::INT64), Field::new("tags", RecordType::Json)]);
/// let mut decoder = RowDecoder::new(&schema, 1_000)?;
/// decoder.push_line(r#"{"id":9007199254740993,"tags":["a"]}"#)?;
/// assert!(decoder.push_line(r#"{"id":1.5}"#).is_err());
/// assert_eq!(decoder.finish()?.num_rows(), 1);
/// # Ok::<(), whimbrel_plugin_api::error::Error>(())
/// ```
#[derive(Debug)]
pub struct RowDecoder {
    schema: SchemaRef,
    keys: Keys,
    columns: Vec<Column>,
    presence: Option<Presence>,
    row_count: usize,
    unknown_keys: UnknownKeys,
}

impl RowDecoder {
    /// An empty decoder for records of `schema`, with room for `capacity` of them.
    ///
    /// # Errors
    /// What [`Schema::validate`] refuses.
    pub fn new(schema: &Schema, capacity: usize) -> Result<Self> {
        schema.validate()?;
        Ok(Self {
            schema: schema.to_arrow(),
            keys: Keys::new(schema.fields.iter().map(|field| field.name.as_str())),
            columns: schema
                .fields
                .iter()
                .map(|field| Column::new(field, capacity))
                .collect(),
            presence: schema
                .presence
                .then(|| Presence::new(schema.fields.len(), capacity)),
            row_count: 0,
            unknown_keys: UnknownKeys::default(),
        })
    }

    /// Says what happens to keys that the schema does not have, also within structs; [`UnknownKeys::Fail`]
    /// unless said.
    #[must_use]
    pub const fn with_unknown_keys(mut self, unknown_keys: UnknownKeys) -> Self {
        self.unknown_keys = unknown_keys;
        self
    }

    /// Adds the record that stands as one JSON object in `line`. Space around it does no harm.
    ///
    /// # Errors
    /// `json_form.bad_json` if it is not one JSON value, `json_form.not_an_object`, and for a field (named by
    /// its path in the message) `json_form.bad_value`, `json_form.null`, `json_form.missing_field`,
    /// `json_form.unknown_key`, `json_form.key_twice`, or `json_form.too_large` past 2^31 octets or items of
    /// one column in one batch. The records before stay, nothing of this one does.
    pub fn push_line(&mut self, line: &str) -> Result<()> {
        let mut context = Context::new(self.unknown_keys);
        let mut deserializer = serde_json::Deserializer::from_str(line);
        let outcome = deserializer
            .deserialize_any(RowVisitor {
                decoder: self,
                context: &mut context,
            })
            .and_then(|()| deserializer.end());
        match outcome {
            Ok(()) => {
                self.row_count += 1;
                Ok(())
            }
            Err(error) => {
                self.cut_back();
                Err(context.into_error(&error))
            }
        }
    }

    /// As [`Self::push_line`], for octets that may not be UTF-8.
    ///
    /// # Errors
    /// Also `json_form.not_utf8`.
    pub fn push_line_bytes(&mut self, line: &[u8]) -> Result<()> {
        match std::str::from_utf8(line) {
            Ok(line) => self.push_line(line),
            Err(error) => {
                Err(Error::invalid_data("json_form.not_utf8", "a line is not UTF-8").with_cause(&error))
            }
        }
    }

    /// How many records have been added since the last [`Self::finish`].
    pub const fn len(&self) -> usize {
        self.row_count
    }

    /// Whether no record has been added since the last [`Self::finish`].
    pub const fn is_empty(&self) -> bool {
        self.row_count == 0
    }

    /// Octets that the records so far take up, about, by which a caller may bound its batches. Costs a few
    /// nanoseconds a column.
    pub fn bytes(&self) -> usize {
        let presence = self.presence.as_ref().map_or(0, |presence| presence.masks.len());
        self.columns.iter().map(Column::bytes).sum::<usize>() + presence
    }

    /// The records so far, with the columns of the schema in its order and then `__presence` if it has one;
    /// the decoder is then empty.
    ///
    /// # Errors
    /// `plugin.internal` if Arrow refuses the columns, which would be a defect here.
    pub fn finish(&mut self) -> Result<RecordBatch> {
        let rows = std::mem::take(&mut self.row_count);
        let mut columns = Vec::with_capacity(self.columns.len() + 1);
        for column in &mut self.columns {
            columns.push(column.finish()?);
        }
        if let Some(presence) = &mut self.presence {
            columns.push(presence.finish(rows)?);
        }
        // A schema without fields has rows all the same.
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        Ok(RecordBatch::try_new_with_options(
            Arc::clone(&self.schema),
            columns,
            &options,
        )?)
    }

    /// Forgets what a record that failed left in the columns.
    fn cut_back(&mut self) {
        for column in &mut self.columns {
            column.truncate(self.row_count);
        }
        if let Some(presence) = &mut self.presence {
            presence.masks.truncate(self.row_count * presence.width);
        }
    }
}

/// The presence masks of the records so far.
#[derive(Debug)]
struct Presence {
    /// Octets of one mask.
    width: usize,
    /// A mask with the bit of every field set.
    full: Box<[u8]>,
    masks: Vec<u8>,
}

impl Presence {
    fn new(field_count: usize, capacity: usize) -> Self {
        let mut full = vec![0; field_count.div_ceil(8)];
        for field in 0..field_count {
            full[field / 8] |= 1 << (field % 8);
        }
        Self {
            width: full.len(),
            masks: Vec::with_capacity(capacity * full.len()),
            full: full.into(),
        }
    }

    fn finish(&mut self, rows: usize) -> Result<ArrayRef> {
        let masks = Buffer::from(std::mem::take(&mut self.masks));
        let offsets = OffsetBuffer::from_lengths(std::iter::repeat_n(self.width, rows));
        Ok(Arc::new(BinaryArray::try_new(offsets, masks, None)?))
    }
}

struct RowVisitor<'c> {
    decoder: &'c mut RowDecoder,
    context: &'c mut Context,
}

impl RowVisitor<'_> {
    fn refuse<E: serde::de::Error>(self) -> E {
        self.context.fail(FaultKind::NotAnObject)
    }
}

impl<'de> Visitor<'de> for RowVisitor<'_> {
    type Value = ();

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<(), A::Error> {
        let RowDecoder {
            keys,
            columns,
            presence,
            row_count,
            ..
        } = self.decoder;
        match presence {
            None => read_members(keys, columns, *row_count, map, self.context, |_| {}),
            Some(Presence { width, full, masks }) => {
                masks.extend_from_slice(full);
                let mask = *row_count * *width;
                read_members(keys, columns, *row_count, map, self.context, |field| {
                    masks[mask + field / 8] &= !(1 << (field % 8));
                })
            }
        }
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<(), E> {
        Err(self.refuse())
    }

    fn visit_bool<E: serde::de::Error>(self, _: bool) -> Result<(), E> {
        Err(self.refuse())
    }

    fn visit_i64<E: serde::de::Error>(self, _: i64) -> Result<(), E> {
        Err(self.refuse())
    }

    fn visit_u64<E: serde::de::Error>(self, _: u64) -> Result<(), E> {
        Err(self.refuse())
    }

    fn visit_f64<E: serde::de::Error>(self, _: f64) -> Result<(), E> {
        Err(self.refuse())
    }

    fn visit_str<E: serde::de::Error>(self, _: &str) -> Result<(), E> {
        Err(self.refuse())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, _: A) -> Result<(), A::Error> {
        Err(self.refuse())
    }
}
