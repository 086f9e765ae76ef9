//! Rows of binary COPY to batches: which columns are read, what is taken from the rest column, what is rejected.
//!
//! A row with a value that its field cannot hold does not end the read: its record is delivered as rejected, before the
//! batch in whose place it stood.

use std::sync::Arc;

use arrow_array::builder::BinaryBuilder;
use arrow_array::{ArrayRef, BooleanArray, RecordBatch, RecordBatchOptions};
use whimbrel_plugin_api::json_form::JsonDecoder;
use whimbrel_plugin_api::record_type::Schema;
use whimbrel_plugin_api::source::BatchBounds;
use whimbrel_plugin_api::{Batch, Error, RejectedRecord, Result};
use whimbrel_plugin_api::{arrow_array, arrow_select};

use crate::codec::{RowDecoder, RowFault, WireColumn};
use crate::rest::{Members, member_name, member_type};

use super::position::values;
use super::stored::{Origin, StoredField};

/// How rows become records.
#[derive(Debug, Clone)]
pub(super) struct Layout {
    pub(super) schema: Arc<Schema>,
    /// The columns that rows begin with.
    columns: Vec<WireColumn>,
    /// Where each field of `schema` comes from.
    slots: Vec<Slot>,
    /// Values that a row has; those behind the columns are not for the decoder.
    value_count: usize,
    /// The rest column is the first value behind the columns.
    has_rest: bool,
}

#[derive(Debug, Clone)]
enum Slot {
    /// A column, by its place among the columns.
    Column(usize),
    /// A member of the rest column, by its name there.
    Member(String),
}

impl Layout {
    /// Rows with a column for each of `fields` that has one, then the rest column if [`Layout::has_rest`] says so, then
    /// others, up to `value_count`.
    pub(super) fn new(
        schema: Schema,
        fields: &[&StoredField],
        value_count: usize,
        removes_nul: bool,
    ) -> Self {
        let mut columns = Vec::with_capacity(fields.len());
        let slots = fields
            .iter()
            .map(|stored| match &stored.origin {
                Origin::Column(_, reading) => {
                    columns.push(WireColumn {
                        name: stored.field.name.clone(),
                        record_type: stored.field.record_type.clone(),
                        wire: reading.wire.clone(),
                        removes_nul,
                    });
                    Slot::Column(columns.len() - 1)
                }
                Origin::Rest => Slot::Member(member_name(&stored.field.name).into_owned()),
            })
            .collect();
        Self {
            has_rest: Self::has_rest(&schema, fields),
            schema: Arc::new(schema),
            columns,
            slots,
            value_count,
        }
    }

    /// Whether the rest column is read.
    pub(super) fn has_rest(schema: &Schema, fields: &[&StoredField]) -> bool {
        schema.presence || fields.iter().any(|stored| matches!(stored.origin, Origin::Rest))
    }
}

/// A batch in the making.
pub(super) struct Assembly {
    layout: Layout,
    bounds: BatchBounds,
    decoder: RowDecoder,
    /// One for each field; of use for members only.
    members: Vec<Option<JsonDecoder>>,
    /// Per record, which fields it has; made only if the schema says so.
    presence: BinaryBuilder,
    /// Per row that the decoder took, whether its members fit too; made only if the rest column is read.
    fits: Vec<bool>,
    /// The row as the decoder wants it, if that is not how it comes.
    row: Vec<u8>,
    rejected: Vec<RejectedRecord>,
}

impl Assembly {
    pub(super) fn new(layout: Layout, bounds: BatchBounds) -> Result<Self> {
        let fields = layout.schema.fields.iter().zip(&layout.slots);
        let members = fields.map(|(field, slot)| match slot {
            Slot::Column(_) => Ok(None),
            Slot::Member(_) => JsonDecoder::new(&member_type(&field.record_type), 0).map(Some),
        });
        Ok(Self {
            members: members.collect::<Result<_>>()?,
            decoder: RowDecoder::new(&layout.columns)?,
            layout,
            bounds,
            presence: BinaryBuilder::new(),
            fits: Vec::new(),
            row: Vec::new(),
            rejected: Vec::new(),
        })
    }

    /// Whether the batch must be sent before a row of `bytes` octets is taken: a record above the bound travels alone.
    pub(super) fn is_full(&self, bytes: usize) -> bool {
        let rows = self.decoder.row_count();
        if rows + self.rejected.len() >= self.bounds.records_max.max(1) {
            return true;
        }
        rows > 0 && self.bytes() + bytes > self.bounds.bytes_max
    }

    fn bytes(&self) -> usize {
        let members: usize = self.members.iter().flatten().map(JsonDecoder::bytes).sum();
        self.decoder.size_bytes() + members
    }

    /// Takes a row and answers whether it was accepted; `label` names its record if it has to be rejected.
    ///
    /// # Errors
    /// Octets that are no row.
    pub(super) fn push(&mut self, row: &[u8], label: impl FnOnce(&[u8]) -> String) -> Result<bool> {
        let fault = if self.layout.value_count == self.layout.columns.len() {
            self.decoder.push(row)?
        } else {
            let length = self.layout.columns.len();
            let end = 2 + values(row)
                .take(length)
                .map(|value| 4 + value.map_or(0, <[u8]>::len))
                .sum::<usize>();
            self.row.clear();
            // A table has at most 1,600 columns.
            self.row.extend((length as u16).to_be_bytes());
            self.row.extend_from_slice(row.get(2..end).ok_or_else(no_row)?);
            self.decoder.push(&self.row)?
        };
        let fault = match fault {
            Ok(()) if self.layout.has_rest => self.push_members(row)?,
            Ok(()) => None,
            Err(fault) => Some((fault.code, self.named(&fault))),
        };
        let is_accepted = fault.is_none();
        if let Some((code, message)) = fault {
            self.rejected.push(RejectedRecord {
                record: label(row),
                row: None,
                code: code.to_owned(),
                message,
                data: None,
            });
        }
        Ok(is_accepted)
    }

    fn named(&self, fault: &RowFault) -> String {
        let mut message = fault.message.clone();
        if let Some(column) = self.layout.columns.get(fault.column)
            && !message.contains(&column.name)
        {
            message = format!("{message} (field `{}`)", column.name);
        }
        match fault.help() {
            Some(help) => format!("{message}; {help}"),
            None => message,
        }
    }

    /// Takes what the rest column says of the record, and answers why it does not fit if it does not.
    fn push_members(&mut self, row: &[u8]) -> Result<Option<(&'static str, String)>> {
        let rest = values(row).nth(self.layout.columns.len()).ok_or_else(no_row)?;
        let members = match rest {
            None => Some(Members::default()),
            Some(octets) => str::from_utf8(octets).ok().and_then(Members::read),
        };
        let mut misfit = None;
        let fields = self.layout.schema.fields.iter().zip(&self.layout.slots);
        for ((field, slot), decoder) in fields.zip(&mut self.members) {
            let (Slot::Member(name), Some(decoder)) = (slot, decoder) else {
                continue;
            };
            let value = members.as_ref().and_then(|members| members.value(name));
            let fits = match value {
                Some(raw) => decoder.push_raw(raw).is_ok(),
                None => false,
            };
            if !fits {
                decoder.push_null();
                if value.is_some() || !field.nullable {
                    misfit.get_or_insert_with(|| {
                        let (name, record_type) = (&field.name, &field.record_type);
                        format!("`_whimbrel_rest` has no `{record_type}` for the field `{name}`")
                    });
                }
            }
        }
        let absent = members.as_ref().and_then(Members::absent);
        if self.layout.schema.presence {
            self.presence
                .append_value(mask(&self.layout.schema, absent.iter().flatten()));
        }
        if absent.is_none() {
            misfit = Some("`_whimbrel_rest` is not as it was written".to_owned());
        }
        self.fits.push(misfit.is_none());
        Ok(misfit.map(|message| ("postgres.bad_rest", message)))
    }

    /// The rejected records and the batch of the others, as far as there are any.
    pub(super) fn finish(&mut self) -> Result<(Vec<RejectedRecord>, Option<Batch>)> {
        let rejected = std::mem::take(&mut self.rejected);
        let row_count = self.decoder.row_count();
        if row_count == 0 {
            return Ok((rejected, None));
        }
        let columns = self.decoder.finish()?;
        let mut arrays: Vec<ArrayRef> = Vec::with_capacity(self.layout.slots.len());
        for (slot, member) in self.layout.slots.iter().zip(&mut self.members) {
            arrays.push(match (slot, member) {
                (Slot::Column(index), _) => columns.get(*index).cloned().ok_or_else(no_row)?,
                (Slot::Member(_), Some(member)) => member.finish()?,
                (Slot::Member(_), None) => return Err(no_row()),
            });
        }
        if self.layout.schema.presence {
            arrays.push(Arc::new(self.presence.finish()));
        }
        let fits = std::mem::take(&mut self.fits);
        let record_count = if self.layout.has_rest {
            let count = fits.iter().filter(|fits| **fits).count();
            if count < fits.len() {
                let mask = BooleanArray::from(fits);
                arrays = arrays
                    .iter()
                    .map(|array| arrow_select::filter::filter(array, &mask))
                    .collect::<std::result::Result<_, _>>()?;
            }
            count
        } else {
            row_count
        };
        if record_count == 0 {
            return Ok((rejected, None));
        }
        let options = RecordBatchOptions::new().with_row_count(Some(record_count));
        let records = RecordBatch::try_new_with_options(self.layout.schema.to_arrow(), arrays, &options)?;
        Ok((
            rejected,
            Some(Batch::new(Arc::clone(&self.layout.schema), records)?),
        ))
    }
}

/// One bit per field, set if the record has it.
fn mask<'a>(schema: &Schema, absent: impl Iterator<Item = &'a std::borrow::Cow<'a, str>>) -> Vec<u8> {
    let fields = &schema.fields;
    let mut mask = vec![u8::MAX; fields.len().div_ceil(8)];
    for name in absent {
        if let Some(index) = fields.iter().position(|field| field.name == **name) {
            mask[index / 8] &= !(1 << (index % 8));
        }
    }
    if let Some(last) = mask.last_mut() {
        // Bits behind the last field stay empty.
        *last &= u8::MAX >> ((8 - fields.len() % 8) % 8);
    }
    mask
}

fn no_row() -> Error {
    Error::internal("the database sent a row of another form than was asked for")
}
