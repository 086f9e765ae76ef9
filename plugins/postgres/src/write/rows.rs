//! The records of a batch as rows of binary COPY, for the table itself or for the staging table.
//!
//! What the codec does not know of is added here as further columns: the rest column, the presence mask, the record's
//! number in the transaction. Records that cannot be written at all are told apart before any of their octets are.

use std::collections::HashMap;
use std::sync::Arc;

use arrow_array::builder::{BinaryBuilder, StringBuilder};
use arrow_array::cast::AsArray as _;
use arrow_array::{Array as _, ArrayRef, BinaryArray, Int64Array};
use whimbrel_plugin_api::{Batch, Error, Result, arrow_array};

use super::layout::Layout;
use crate::codec::{RowEncoder, RowFault};
use crate::rest::RestEncoder;

/// Where rows go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// Straight into the table.
    Direct,
    /// Into the staging table.
    Staged,
}

/// The records of one batch, ready to be written.
pub(super) struct Rows<'batch> {
    layout: &'batch Layout,
    encoder: RowEncoder,
    key: Vec<(&'batch ArrayRef, usize)>,
    /// Fields that take no null: places in the schema.
    required: Vec<usize>,
    presence: Presence<'batch>,
    /// Records whose rest has no form.
    restless: HashMap<usize, RowFault>,
}

impl<'batch> Rows<'batch> {
    /// `first` is the number of the batch's first record in the transaction.
    pub(super) fn new(layout: &'batch Layout, batch: &'batch Batch, first: u64, way: Way) -> Result<Self> {
        let presence = Presence::of(batch);
        let mut arrays: Vec<ArrayRef> = layout
            .columns
            .iter()
            .map(|column| batch.records.column(column.index).clone())
            .collect();
        let mut restless = HashMap::new();
        if layout.target.has_rest {
            arrays.push(rests(layout, batch, &presence, &mut restless)?);
        }
        let wires = match way {
            Way::Direct => layout.wires(),
            Way::Staged => {
                if layout.is_masked() {
                    arrays.push(presence.masks(layout.schema.fields.len(), batch.record_count()));
                }
                let numbers = first..first + batch.record_count() as u64;
                arrays.push(Arc::new(Int64Array::from_iter_values(
                    numbers.map(u64::cast_signed),
                )));
                layout.staged_wires()
            }
        };
        let key = layout.key.iter().map(|place| layout.columns[*place].index);
        let fields = layout.schema.fields.iter().enumerate();
        Ok(Self {
            layout,
            encoder: RowEncoder::new(&wires, &arrays)?,
            key: key.map(|index| (batch.records.column(index), index)).collect(),
            required: match presence.0 {
                Some(_) => fields
                    .filter(|(_, field)| !field.nullable)
                    .map(|(index, _)| index)
                    .collect(),
                None => Vec::new(),
            },
            presence,
            restless,
        })
    }

    /// Appends the row to `out`; on a fault nothing is appended.
    pub(super) fn write(&mut self, row: usize, out: &mut Vec<u8>) -> Result<(), RowFault> {
        for (place, (values, index)) in self.key.iter().enumerate() {
            if values.is_null(row) || !self.presence.has(row, *index) {
                let column = self.layout.key[place];
                return Err(RowFault {
                    column,
                    code: "postgres.null_in_key",
                    message: format!(
                        "the key field `{}` has no value",
                        self.layout.columns[column].wire.name
                    ),
                });
            }
        }
        for index in &self.required {
            if !self.presence.has(row, *index) {
                let name = &self.layout.schema.fields[*index].name;
                return Err(RowFault {
                    column: *index,
                    code: "postgres.absent_in_required",
                    message: format!("the record lacks the field `{name}`, which takes no null"),
                });
            }
        }
        if !self.restless.is_empty()
            && let Some(fault) = self.restless.remove(&row)
        {
            return Err(fault);
        }
        self.encoder.write(row, out)
    }
}

/// The rest column of a batch.
fn rests(
    layout: &Layout,
    batch: &Batch,
    presence: &Presence<'_>,
    restless: &mut HashMap<usize, RowFault>,
) -> Result<ArrayRef> {
    let fields = &layout.schema.fields;
    let members = layout.members.iter();
    let encoder = RestEncoder::new(
        members.map(|index| (*index, &fields[*index], batch.records.column(*index))),
        layout.may_be_absent.iter().map(|index| (*index, &fields[*index])),
    )?;
    let mut rests = StringBuilder::new();
    let mut rest = Vec::new();
    for row in 0..batch.record_count() {
        match encoder.write(row, |index| presence.has(row, index), &mut rest) {
            Ok(()) if rest.is_empty() => rests.append_null(),
            Ok(()) => rests.append_value(
                str::from_utf8(&rest)
                    .map_err(|error| Error::internal("a rest is no text").with_cause(&error))?,
            ),
            Err(fault) => {
                restless.insert(row, fault);
                rests.append_null();
            }
        }
    }
    Ok(Arc::new(rests.finish()))
}

/// Which fields each record has; without a column for it, every record has every field.
struct Presence<'batch>(Option<&'batch BinaryArray>);

impl<'batch> Presence<'batch> {
    fn of(batch: &'batch Batch) -> Self {
        let column = batch.records.columns().get(batch.schema.fields.len());
        Self(
            column
                .filter(|_| batch.schema.presence)
                .map(|column| column.as_binary()),
        )
    }

    /// Whether the record has the field at `index`. A mask that is too short has no further fields.
    fn has(&self, row: usize, index: usize) -> bool {
        self.0.is_none_or(|masks| {
            let octet = masks.value(row).get(index / 8);
            octet.is_some_and(|octet| octet & (1 << (index % 8)) != 0)
        })
    }

    /// The masks, each with a bit for each field: the database refuses to look beyond their ends.
    fn masks(&self, field_count: usize, record_count: usize) -> ArrayRef {
        let length = field_count.div_ceil(8);
        let mut masks = BinaryBuilder::new();
        for row in 0..record_count {
            let mut mask = self
                .0
                .map_or(vec![0xff; length], |masks| masks.value(row).to_vec());
            mask.resize(length, 0);
            masks.append_value(&mask);
        }
        Arc::new(masks.finish())
    }
}
