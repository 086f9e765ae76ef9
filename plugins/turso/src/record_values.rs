//! The records of a batch as values for statements, whatever carries the statements out.
//!
//! Neighbours: `encode` makes single values, `rest` the rest column; `write` uses this on a file, `remote` on a server.

use std::fmt::Write as _;

use rusqlite::types::ValueRef;
use whimbrel_plugin_api::source::RejectedRecord;
use whimbrel_plugin_api::text_form::TextEncoder;
use whimbrel_plugin_api::{Batch, ConflictPolicy, Result};

use crate::encode::{Encoder, Presence, Scratch};
use crate::error::RowFault;
use crate::names::REST_COLUMN;
use crate::rest::{Overlay, RestEncoder};
use crate::write_plan::WritePlan;

pub(crate) fn rest_value(rest: &[u8]) -> ValueRef<'_> {
    if rest.is_empty() {
        ValueRef::Null
    } else {
        ValueRef::Text(rest)
    }
}

/// The columns of one batch, ready to be bound.
pub(crate) struct Values {
    pub(crate) encoders: Vec<Encoder>,
    /// Per encoder, whether the field is never null.
    is_required: Vec<bool>,
    pub(crate) rest: RestEncoder,
    /// Names of all fields, and of those in the rest column.
    names: Vec<String>,
    rest_names: Vec<String>,
    pub(crate) presence: Presence,
}

impl Values {
    pub(crate) fn new(plan: &WritePlan, batch: &Batch) -> Result<Self> {
        let fields = &batch.schema.fields;
        let columns = batch.records.columns();
        let encoders = plan
            .columns
            .iter()
            .map(|(index, _)| Encoder::new(&fields[*index].record_type, &columns[*index]));
        Ok(Self {
            encoders: encoders.collect::<Result<_>>()?,
            is_required: fields.iter().map(|field| !field.nullable).collect(),
            rest: RestEncoder::new(
                plan.rest
                    .iter()
                    .map(|index| (*index, &fields[*index], &columns[*index])),
                plan.may_be_absent.iter().map(|index| (*index, &fields[*index])),
            )?,
            names: fields.iter().map(|field| field.name.clone()).collect(),
            rest_names: plan
                .rest
                .iter()
                .map(|index| fields[*index].name.clone())
                .collect(),
            presence: Presence::of(batch),
        })
    }

    /// Whether stored records must be looked at before they are changed.
    pub(crate) fn looks_first(&self, plan: &WritePlan) -> bool {
        match plan.policy {
            ConflictPolicy::Merge => {
                self.presence.is_partial() || plan.has_partial_rest || (plan.has_rest && plan.has_absent)
            }
            ConflictPolicy::Overwrite => !plan.key.is_empty() && plan.has_partial_rest,
            _ => false,
        }
    }

    /// The columns that a record which is there already gets anew: places in the plan. Under `merge` a record brings the
    /// fields that it has, under `overwrite` all fields of its schema.
    pub(crate) fn brought(&self, plan: &WritePlan, row: usize) -> Vec<usize> {
        let is_brought = |index: usize| plan.policy != ConflictPolicy::Merge || self.presence.has(row, index);
        (0..plan.columns.len())
            .filter(|place| !plan.key.contains(place) && is_brought(plan.columns[*place].0))
            .collect()
    }

    /// The rest of a record that is there already, of what is stored and what comes.
    pub(crate) fn merged_rest(
        &self,
        plan: &WritePlan,
        row: usize,
        stored: Option<&str>,
        coming: &[u8],
    ) -> Result<String, RowFault> {
        let is_merge = plan.policy == ConflictPolicy::Merge;
        let is_decided = |name: &str| {
            let index = self.names.iter().position(|known| known == name);
            index.is_some_and(|index| !is_merge || self.presence.has(row, index))
        };
        let overlay = Overlay {
            replaced: if is_merge { &[] } else { &self.rest_names },
            is_decided: &is_decided,
            takes_absent: !is_merge,
        };
        overlay.apply(stored.unwrap_or("{}"), coming).ok_or_else(|| {
            RowFault::new(
                "turso.damaged_rest",
                format!("the stored `{REST_COLUMN}` is not what whimbrel writes there"),
            )
        })
    }

    /// A null in a key: an integer key would be numbered by the database instead of being refused.
    pub(crate) fn check_key(&self, plan: &WritePlan, row: usize) -> Result<(), RowFault> {
        let is_missing = |place: &usize| {
            self.encoders[*place].is_null(row) || !self.presence.has(row, plan.columns[*place].0)
        };
        match plan.key.iter().find(|place| is_missing(place)) {
            None => Ok(()),
            Some(place) => Err(RowFault::new(
                "turso.null_in_key",
                format!("the key field in `{}` has no value", plan.columns[*place].1),
            )),
        }
    }

    /// The value of a field, or null if the record does not have it.
    pub(crate) fn value<'value>(
        &'value self,
        encoder: &'value Encoder,
        row: usize,
        index: usize,
        scratch: &'value mut Scratch,
    ) -> Result<ValueRef<'value>, RowFault> {
        if self.presence.has(row, index) {
            return encoder.value(row, scratch);
        }
        self.check_present(row, index).map(|()| ValueRef::Null)
    }

    pub(crate) fn check_present(&self, row: usize, index: usize) -> Result<(), RowFault> {
        if self.is_required[index] && !self.presence.has(row, index) {
            return Err(RowFault::new(
                "turso.absent_in_required",
                "the record lacks a field that takes no null",
            ));
        }
        Ok(())
    }
}

/// Names records by their keys, for those that were rejected.
pub(crate) struct KeyNames(Vec<TextEncoder>);

impl KeyNames {
    pub(crate) fn new(plan: &WritePlan, batch: &Batch) -> Self {
        let encoders = plan.key.iter().map(|place| {
            let index = plan.columns[*place].0;
            TextEncoder::new(
                &batch.schema.fields[index].record_type,
                batch.records.column(index),
            )
            .ok()
        });
        Self(encoders.collect::<Option<_>>().unwrap_or_default())
    }

    pub(crate) fn rejected(&self, row: usize, fault: RowFault) -> RejectedRecord {
        let mut record = String::new();
        for encoder in &self.0 {
            if !record.is_empty() {
                record.push_str(", ");
            }
            encoder.write(row, &mut record);
        }
        if record.is_empty() {
            write!(record, "row {row} of its batch").expect("writing to a string does not fail");
        }
        RejectedRecord {
            record,
            row: Some(row as u64),
            code: fault.code,
            message: fault.message,
            data: None,
        }
    }
}
