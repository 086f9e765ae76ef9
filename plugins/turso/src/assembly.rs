//! A batch in the making: which columns are read, how each value is decoded, and what becomes of misfits.
//!
//! Neighbours: `query` is the statement that gives the rows, `decode` builds the columns, `read` sends the batches.

use std::sync::Arc;

use rusqlite::types::ValueRef;
use whimbrel_plugin_api::arrow_array::builder::BinaryBuilder;
use whimbrel_plugin_api::arrow_array::{ArrayRef, BooleanArray, RecordBatch, RecordBatchOptions};
use whimbrel_plugin_api::arrow_select::filter::filter;
use whimbrel_plugin_api::record_type::{RecordType, Schema};
use whimbrel_plugin_api::source::{BatchBounds, Predicate};
use whimbrel_plugin_api::{Batch, Error, RejectedRecord, Result};

use crate::catalog::{Origin, Stored};
use crate::database::Cells;
use crate::decode::Decoder;
use crate::names::REST_COLUMN;
use crate::query::Query;
use crate::rest::{self, Members};

/// Octets that a value takes up beside its text: offset, length or the number itself.
const VALUE_BYTES: usize = 8;

/// What is read of a table.
pub(crate) struct Reading {
    pub(crate) query: Query,
    pub(crate) schema: Arc<Schema>,
    /// How each field of `schema` is decoded.
    slots: Vec<Slot>,
    /// The columns of the query that fields come from; the rest column is the last, if it is read.
    has_rest: bool,
    key: Vec<String>,
}

#[derive(Clone)]
enum Slot {
    /// A column of its own, by its place in the query.
    Column(usize, Kind),
    /// A member of the rest column, by its name there.
    Member(String),
}

#[derive(Clone, Copy)]
enum Kind {
    Typed,
    Mixed,
}

impl Reading {
    /// Reads the fields of `schema` from the table.
    ///
    /// # Errors
    /// `schema.no_field` for a field that the table does not have, and those of [`Query::new`].
    pub(crate) fn new(stored: &Stored, schema: Schema, predicate: Option<&Predicate>) -> Result<Self> {
        let mut columns: Vec<String> = Vec::new();
        let mut slots = Vec::with_capacity(schema.fields.len());
        for field in &schema.fields {
            let Some(found) = stored.field(&field.name) else {
                let message = format!(
                    "the table `{}` has no column for the field `{}`",
                    stored.table.name, field.name
                );
                return Err(Error::not_found("schema.no_field", message));
            };
            let is_mixed = found.origin == Origin::Found && field.record_type == RecordType::Variant;
            slots.push(if found.origin == Origin::Rest {
                Slot::Member(rest::member_name(&field.name).into_owned())
            } else {
                columns.push(found.column.clone());
                Slot::Column(
                    columns.len() - 1,
                    if is_mixed { Kind::Mixed } else { Kind::Typed },
                )
            });
        }
        let has_rest = schema.presence || slots.iter().any(|slot| matches!(slot, Slot::Member(_)));
        columns.extend(has_rest.then(|| REST_COLUMN.to_owned()));
        Ok(Self {
            query: Query::new(stored, &columns, predicate)?,
            schema: Arc::new(schema),
            slots,
            has_rest,
            key: stored.key_columns().into_iter().map(str::to_owned).collect(),
        })
    }

    /// Reads what a statement selects, which has a column for each field.
    pub(crate) fn of_answer(schema: Schema) -> Self {
        let kind = |record_type: &RecordType| match record_type {
            RecordType::Variant => Kind::Mixed,
            _ => Kind::Typed,
        };
        let slots = schema.fields.iter().enumerate();
        Self {
            query: Query::of_answer(schema.fields.len()),
            slots: slots
                .map(|(column, field)| Slot::Column(column, kind(&field.record_type)))
                .collect(),
            schema: Arc::new(schema),
            has_rest: false,
            key: Vec::new(),
        }
    }

    /// The columns of the key.
    pub(crate) fn key(&self) -> Vec<&str> {
        self.key.iter().map(String::as_str).collect()
    }
}

/// Records of one batch in the making.
pub(crate) struct Assembly<'reading> {
    reading: &'reading Reading,
    decoders: Vec<Decoder>,
    bounds: BatchBounds,
    bytes: usize,
    /// Per record, whether all its values fit.
    fits: Vec<bool>,
    /// Per record, which fields it has; made only if the schema says so.
    presence: BinaryBuilder,
}

impl<'reading> Assembly<'reading> {
    /// An empty batch with room for `capacity` records.
    pub(crate) fn new(reading: &'reading Reading, bounds: BatchBounds, capacity: usize) -> Result<Self> {
        let fields = reading.schema.fields.iter().zip(&reading.slots);
        let decoders = fields.map(|(field, slot)| match slot {
            Slot::Column(_, Kind::Typed) => Decoder::new(&field.record_type, capacity),
            Slot::Column(_, Kind::Mixed) => Ok(Decoder::mixed(capacity)),
            Slot::Member(_) => Decoder::json(&field.record_type, capacity),
        });
        Ok(Self {
            decoders: decoders.collect::<Result<_>>()?,
            reading,
            bounds,
            bytes: 0,
            fits: Vec::with_capacity(capacity),
            presence: BinaryBuilder::new(),
        })
    }

    /// Adds a record, unless the batch would grow too large; answers `None` then, else the first field that does not fit.
    pub(crate) fn push(&mut self, row: &dyn Cells) -> Result<Option<Option<usize>>> {
        let column_count = self.reading.query.column_count;
        let mut bytes = 0;
        for column in 0..column_count {
            bytes += VALUE_BYTES
                + match row.cell(column)? {
                    ValueRef::Text(octets) | ValueRef::Blob(octets) => octets.len(),
                    _ => 0,
                };
        }
        if !self.fits.is_empty() && self.bytes + bytes > self.bounds.bytes_max {
            return Ok(None);
        }
        self.bytes += bytes;
        let rest = match self.reading.has_rest {
            true => row.cell(column_count - 1)?,
            false => ValueRef::Null,
        };
        let members = match rest {
            ValueRef::Text(text) => str::from_utf8(text).ok().and_then(Members::read),
            ValueRef::Null => Some(Members::default()),
            _ => None,
        };
        let fields = &self.reading.schema.fields;
        let mut misfit = None;
        for (index, (slot, decoder)) in self.reading.slots.iter().zip(&mut self.decoders).enumerate() {
            let fits = match (slot, &members) {
                (Slot::Column(column, _), _) => {
                    let value = row.cell(*column)?;
                    decoder.push(value) && (value != ValueRef::Null || fields[index].nullable)
                }
                (Slot::Member(name), Some(members)) => match members.value(name) {
                    Some(raw) => decoder.push_json(raw),
                    None => {
                        decoder.push_null();
                        fields[index].nullable
                    }
                },
                (Slot::Member(_), None) => {
                    decoder.push_null();
                    false
                }
            };
            if !fits && misfit.is_none() {
                misfit = Some(index);
            }
        }
        if self.reading.schema.presence && !self.push_presence(members.as_ref()) {
            misfit.get_or_insert(0);
        }
        self.fits.push(misfit.is_none());
        Ok(Some(misfit))
    }

    /// Adds the mask of a record; false if the rest column does not say it as it should.
    fn push_presence(&mut self, members: Option<&Members<'_>>) -> bool {
        let fields = &self.reading.schema.fields;
        let mut mask = vec![u8::MAX; fields.len().div_ceil(8)];
        let absent = members.and_then(Members::absent);
        for name in absent.iter().flatten() {
            if let Some(index) = fields.iter().position(|field| field.name == *name) {
                mask[index / 8] &= !(1 << (index % 8));
            }
        }
        if let Some(last) = mask.last_mut() {
            // Bits behind the last field stay empty.
            *last &= u8::MAX >> ((8 - fields.len() % 8) % 8);
        }
        self.presence.append_value(mask);
        absent.is_some()
    }

    /// How many records were taken, those that do not fit included.
    pub(crate) fn len(&self) -> usize {
        self.fits.len()
    }

    /// The records that fit; `None` if there are none.
    pub(crate) fn finish(mut self) -> Result<Option<Batch>> {
        let record_count = self.fits.iter().filter(|fits| **fits).count();
        if record_count == 0 {
            return Ok(None);
        }
        let mut columns = self
            .decoders
            .iter_mut()
            .map(Decoder::finish)
            .collect::<Result<Vec<_>>>()?;
        if self.reading.schema.presence {
            columns.push(Arc::new(self.presence.finish()) as ArrayRef);
        }
        if record_count < self.fits.len() {
            let mask = BooleanArray::from(self.fits);
            columns = columns
                .iter()
                .map(|column| filter(column, &mask))
                .collect::<Result<_, _>>()?;
        }
        let options = RecordBatchOptions::new().with_row_count(Some(record_count));
        let records = RecordBatch::try_new_with_options(self.reading.schema.to_arrow(), columns, &options)?;
        Batch::new(Arc::clone(&self.reading.schema), records).map(Some)
    }

    /// A record whose field number `field` does not fit.
    pub(crate) fn rejected(&self, record: String, field: usize) -> RejectedRecord {
        let field = &self.reading.schema.fields[field];
        RejectedRecord {
            record,
            row: None,
            code: "turso.value_does_not_fit".to_owned(),
            message: format!(
                "the stored value of the field `{}` is no `{}`",
                field.name, field.record_type
            ),
            data: None,
        }
    }
}
