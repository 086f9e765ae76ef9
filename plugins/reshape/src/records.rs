//! The records of one batch on their way through the steps: columns, which fields are there, which rows are left.
//!
//! A record that is rejected leaves at once, so that each is rejected once and by the first step that cannot take it.
//! Row numbers of the batch that came in are kept beside the columns as soon as they differ.

use std::sync::Arc;

use whimbrel_plugin_api::arrow_array::builder::BinaryBuilder;
use whimbrel_plugin_api::arrow_array::cast::AsArray as _;
use whimbrel_plugin_api::arrow_array::{
    ArrayRef, BinaryArray, BooleanArray, RecordBatch, RecordBatchOptions,
};
use whimbrel_plugin_api::arrow_buffer::BooleanBuffer;
use whimbrel_plugin_api::arrow_select::filter::{FilterBuilder, FilterPredicate};
use whimbrel_plugin_api::{Batch, Result, Schema};

/// In which records a field is there.
#[derive(Debug, Clone)]
pub(crate) enum Present {
    /// Where it was when the records came in, by the position that it had then.
    AsInput(usize),
    /// In all.
    Always,
    /// Where the bits say so.
    Bits(BooleanBuffer),
}

/// Why records are rejected: code and message, made when the step was planned.
#[derive(Debug, Clone)]
pub(crate) struct Fault {
    pub(crate) code: &'static str,
    pub(crate) message: Arc<str>,
}

/// A record that was rejected: its row in the batch that came in.
#[derive(Debug, Clone)]
pub(crate) struct Rejection {
    pub(crate) row: usize,
    pub(crate) fault: Fault,
}

/// The records of one batch.
#[derive(Debug)]
pub(crate) struct Records {
    pub(crate) columns: Vec<ArrayRef>,
    pub(crate) present: Vec<Present>,
    pub(crate) rejected: Vec<Rejection>,
    pub(crate) filtered: u64,
    masks: Option<BinaryArray>,
    /// Rows of the batch that came in; `None` while all are left.
    rows: Option<Vec<usize>>,
    count: usize,
}

impl Records {
    /// The records of `batch`.
    pub(crate) fn new(batch: &Batch) -> Self {
        let mut columns = batch.records.columns().to_vec();
        let masks = if batch.schema.presence {
            columns.pop().map(|masks| masks.as_binary().clone())
        } else {
            None
        };
        Self {
            present: (0..columns.len()).map(Present::AsInput).collect(),
            columns,
            rejected: Vec::new(),
            filtered: 0,
            masks,
            rows: None,
            count: batch.record_count(),
        }
    }

    /// How many are left.
    pub(crate) const fn len(&self) -> usize {
        self.count
    }

    /// What is known of a field that is there only in some records: nothing, if the schema cannot say so.
    pub(crate) fn present_where(&self, bits: BooleanBuffer) -> Present {
        if self.masks.is_some() {
            Present::Bits(bits)
        } else {
            Present::Always
        }
    }

    /// Puts a column in the place of another or, at the end, behind the last.
    pub(crate) fn put(&mut self, at: usize, array: ArrayRef, present: Present) {
        if at < self.columns.len() {
            self.columns[at] = array;
            self.present[at] = present;
        } else {
            self.columns.push(array);
            self.present.push(present);
        }
    }

    /// Which records have the field; `None` if all do.
    pub(crate) fn presence(&self, column: usize) -> Option<BooleanBuffer> {
        match &self.present[column] {
            Present::Always => None,
            Present::Bits(bits) => Some(bits.clone()),
            Present::AsInput(field) => self.masks.as_ref().map(|masks| {
                BooleanBuffer::collect_bool(self.count, |row| {
                    let mask = masks.value(row);
                    mask.get(field / 8)
                        .is_some_and(|octet| octet >> (field % 8) & 1 == 1)
                })
            }),
        }
    }

    /// Rejects the records in `rows`.
    pub(crate) fn reject(&mut self, rows: &[usize], fault: &Fault) -> Result<()> {
        if rows.is_empty() {
            return Ok(());
        }
        self.reject_all(&[(rows, fault)])
    }

    /// Rejects records for several faults at once; a row stands under one of them only.
    pub(crate) fn reject_all<Rows: AsRef<[usize]>>(&mut self, faults: &[(Rows, &Fault)]) -> Result<()> {
        if faults.iter().all(|(rows, _)| rows.as_ref().is_empty()) {
            return Ok(());
        }
        let mut kept = vec![true; self.count];
        for (rows, fault) in faults {
            for row in rows.as_ref() {
                kept[*row] = false;
                self.rejected.push(Rejection {
                    row: self.rows.as_ref().map_or(*row, |rows| rows[*row]),
                    fault: (*fault).clone(),
                });
            }
        }
        self.keep(&BooleanBuffer::from(kept))
    }

    /// Drops the records for which `kept` is false, and counts them.
    pub(crate) fn filter(&mut self, kept: &BooleanBuffer) -> Result<()> {
        let dropped = self.count - kept.count_set_bits();
        self.filtered += dropped as u64;
        if dropped == 0 { Ok(()) } else { self.keep(kept) }
    }

    fn keep(&mut self, kept: &BooleanBuffer) -> Result<()> {
        let kept = BooleanArray::new(kept.clone(), None);
        let predicate = FilterBuilder::new(&kept).optimize().build();
        for column in &mut self.columns {
            *column = predicate.filter(column)?;
        }
        if let Some(masks) = &mut self.masks {
            *masks = predicate.filter(masks)?.as_binary().clone();
        }
        for present in &mut self.present {
            if let Present::Bits(bits) = present {
                *bits = filter_bits(bits, &predicate)?;
            }
        }
        let left = kept.values().set_indices();
        self.rows = Some(match &self.rows {
            Some(rows) => left.map(|row| rows[row]).collect(),
            None => left.collect(),
        });
        self.count = predicate.count();
        Ok(())
    }

    /// The batch that goes on, of `schema`.
    pub(crate) fn finish(
        &self,
        schema: &Arc<Schema>,
        arrow: &whimbrel_plugin_api::arrow_schema::SchemaRef,
    ) -> Result<Batch> {
        let mut columns = self.columns.clone();
        if let Some(masks) = &self.masks {
            let is_unchanged =
                |(at, present): (usize, &Present)| matches!(present, Present::AsInput(field) if *field == at);
            let masks = if self.present.iter().enumerate().all(is_unchanged) {
                masks.clone()
            } else {
                self.new_masks()
            };
            columns.push(Arc::new(masks));
        }
        let options = RecordBatchOptions::new().with_row_count(Some(self.count));
        let records = RecordBatch::try_new_with_options(Arc::clone(arrow), columns, &options)?;
        Batch::new(Arc::clone(schema), records)
    }

    fn new_masks(&self) -> BinaryArray {
        let width = self.columns.len().div_ceil(8);
        let mut octets = vec![0_u8; width * self.count];
        for column in 0..self.columns.len() {
            let bits = self.presence(column);
            for row in 0..self.count {
                if bits.as_ref().is_none_or(|bits| bits.value(row)) {
                    octets[row * width + column / 8] |= 1 << (column % 8);
                }
            }
        }
        let mut masks = BinaryBuilder::with_capacity(self.count, octets.len());
        for row in 0..self.count {
            masks.append_value(&octets[row * width..(row + 1) * width]);
        }
        masks.finish()
    }
}

fn filter_bits(bits: &BooleanBuffer, predicate: &FilterPredicate) -> Result<BooleanBuffer> {
    let array = BooleanArray::new(bits.clone(), None);
    Ok(predicate.filter(&array)?.as_boolean().values().clone())
}
