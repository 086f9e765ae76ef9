//! Puts the records of a batch into their table, one prepared statement per collection, policy and schema.
//!
//! One record is one statement: several per statement were measured and are no faster. The database undoes a statement
//! that fails, and only that, so a record that cannot be stored leaves no trace and needs no savepoint. Neighbours:
//! `encode` makes the values, `sink` owns the transaction.

use std::collections::HashMap;
use std::fmt::Write as _;

use rusqlite::types::ValueRef;
use rusqlite::{CachedStatement, Connection};
use whimbrel_plugin_api::source::RejectedRecord;
use whimbrel_plugin_api::text_form::TextEncoder;
use whimbrel_plugin_api::{Batch, ConflictPolicy, Error, ErrorKind, Receipt, Result, Services};

use crate::encode::{Bound, Encoder, Presence, Scratch};
use crate::error::{Doing as _, RowFault};
use crate::names::REST_COLUMN;
use crate::rest::{self, RestEncoder};
use crate::write_plan::WritePlan;

/// Records between two looks at whether the host has cancelled.
const CANCEL_EVERY: usize = 1_024;

enum Stored {
    Written,
    Skipped,
}

enum Fault {
    Row(RowFault),
    All(rusqlite::Error),
}

impl From<RowFault> for Fault {
    fn from(fault: RowFault) -> Self {
        Self::Row(fault)
    }
}

impl From<rusqlite::Error> for Fault {
    fn from(error: rusqlite::Error) -> Self {
        RowFault::of(&error).map_or(Self::All(error), Self::Row)
    }
}

impl WritePlan {
    /// Stores the records of a batch.
    ///
    /// # Errors
    /// What concerns more than single records; the transaction is then to be undone.
    pub(crate) fn write(
        &mut self,
        connection: &Connection,
        services: &Services,
        batch: &Batch,
    ) -> Result<Receipt> {
        let values = Values::new(self, batch)?;
        let mut statement = connection.prepare_cached(&self.insert).doing("write a batch")?;
        let is_merge = match self.policy {
            ConflictPolicy::Merge => values.presence.is_partial() || self.has_partial_rest,
            ConflictPolicy::Overwrite => !self.key.is_empty() && self.has_partial_rest,
            _ => false,
        };
        let mut merges = std::mem::take(&mut self.merges);
        let mut scratch = Scratch::default();
        let mut rest = Vec::new();
        let mut receipt = Receipt::default();
        let mut names = None;
        for row in 0..batch.record_count() {
            if row % CANCEL_EVERY == 0 {
                services.check_cancelled()?;
            }
            let outcome = values.check_key(self, row).map_err(Fault::Row).and_then(|()| {
                values.rest.write(row, &values.presence, &mut rest)?;
                if is_merge && self.merge(connection, &values, row, &rest, &mut scratch, &mut merges)? {
                    return Ok(Stored::Written);
                }
                self.insert(&mut statement, &values, row, &rest, &mut scratch)
            });
            match outcome {
                Ok(stored) => {
                    receipt.accepted += 1;
                    receipt.skipped += u64::from(matches!(stored, Stored::Skipped));
                }
                Err(Fault::Row(fault)) => {
                    let names = names.get_or_insert_with(|| KeyNames::new(self, batch));
                    receipt.rejected.push(names.rejected(row, fault));
                }
                Err(Fault::All(error)) => return Err(crate::error::error(&error, "write a batch")),
            }
            // A trigger may undo the whole transaction; going on would then write outside of one.
            if receipt
                .rejected
                .last()
                .is_some_and(|last| last.row == Some(row as u64))
                && connection.is_autocommit()
            {
                return Err(Error::new(
                    ErrorKind::Integrity,
                    "turso.transaction_lost",
                    "a trigger of the table undid the whole transaction",
                ));
            }
        }
        self.merges = merges;
        Ok(receipt)
    }

    fn insert(
        &self,
        statement: &mut CachedStatement<'_>,
        values: &Values,
        row: usize,
        rest: &[u8],
        scratch: &mut Scratch,
    ) -> Result<Stored, Fault> {
        for (place, encoder) in values.encoders.iter().enumerate() {
            let value = values.value(encoder, row, self.columns[place].0, scratch)?;
            statement.raw_bind_parameter(place + 1, Bound(value))?;
        }
        if self.has_rest {
            for index in &self.rest {
                values.check_present(row, *index)?;
            }
            statement.raw_bind_parameter(values.encoders.len() + 1, Bound(rest_value(rest)))?;
        }
        match statement.raw_execute()? {
            0 if self.policy == ConflictPolicy::Skip => Ok(Stored::Skipped),
            0 if !self.may_change_nothing => Err(RowFault::new(
                "turso.trigger_refused",
                "a trigger of the table dropped the record",
            )
            .into()),
            _ => Ok(Stored::Written),
        }
    }

    /// Changes what the record brings, if its key is there; answers whether it is. Under `merge` a record brings the
    /// fields that it has, under `overwrite` all fields of its schema.
    fn merge(
        &self,
        connection: &Connection,
        values: &Values,
        row: usize,
        rest: &[u8],
        scratch: &mut Scratch,
        merges: &mut HashMap<Vec<u8>, String>,
    ) -> Result<bool, Fault> {
        let keeps_absent = self.policy == ConflictPolicy::Merge;
        let is_brought = |index: usize| !keeps_absent || values.presence.has(row, index);
        let brought: Vec<usize> = (0..self.columns.len())
            .filter(|place| !self.key.contains(place) && is_brought(self.columns[*place].0))
            .collect();
        let mask = values
            .presence
            .mask(row)
            .filter(|_| keeps_absent)
            .unwrap_or_default();
        if !merges.contains_key(mask) {
            merges.insert(mask.to_vec(), self.update_statement(&brought));
        }
        let merged = if self.has_rest {
            self.merged_rest(connection, values, row, rest, scratch)?
        } else {
            None
        };
        let mut statement = connection.prepare_cached(&merges[mask])?;
        let mut parameter = 0;
        for place in &brought {
            parameter += 1;
            let value = values.value(&values.encoders[*place], row, self.columns[*place].0, scratch)?;
            statement.raw_bind_parameter(parameter, Bound(value))?;
        }
        if self.has_rest {
            parameter += 1;
            let rest = merged.as_deref().map_or(rest, str::as_bytes);
            statement.raw_bind_parameter(parameter, Bound(rest_value(rest)))?;
        }
        for place in &self.key {
            parameter += 1;
            let value = values.encoders[*place].value(row, scratch)?;
            statement.raw_bind_parameter(parameter, Bound(value))?;
        }
        Ok(statement.raw_execute()? > 0)
    }

    /// The stored rest of the record with what it brings now; `None` if nothing is stored.
    fn merged_rest(
        &self,
        connection: &Connection,
        values: &Values,
        row: usize,
        rest: &[u8],
        scratch: &mut Scratch,
    ) -> Result<Option<String>, Fault> {
        let mut statement = connection.prepare_cached(&self.rest_statement())?;
        for (index, place) in self.key.iter().enumerate() {
            let value = values.encoders[*place].value(row, scratch)?;
            statement.raw_bind_parameter(index + 1, Bound(value))?;
        }
        let mut rows = statement.raw_query();
        let stored: Option<String> = rows
            .next()?
            .map(|row| row.get::<_, Option<String>>(0))
            .transpose()?
            .flatten();
        let Some(stored) = stored else {
            return Ok(None);
        };
        let replaced: &[String] = if self.policy == ConflictPolicy::Merge {
            &[]
        } else {
            &values.rest_names
        };
        let merged = rest::overlay(&stored, rest, replaced);
        merged.map(Some).ok_or_else(|| {
            let message = format!("the stored `{REST_COLUMN}` is no JSON object");
            RowFault::new("turso.damaged_rest", message).into()
        })
    }
}

fn rest_value(rest: &[u8]) -> ValueRef<'_> {
    if rest.is_empty() {
        ValueRef::Null
    } else {
        ValueRef::Text(rest)
    }
}

/// The columns of one batch, ready to be bound.
struct Values {
    encoders: Vec<Encoder>,
    /// Per encoder, whether the field is never null.
    is_required: Vec<bool>,
    rest: RestEncoder,
    /// Names of the fields in the rest column.
    rest_names: Vec<String>,
    presence: Presence,
}

impl Values {
    fn new(plan: &WritePlan, batch: &Batch) -> Result<Self> {
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
            )?,
            rest_names: plan
                .rest
                .iter()
                .map(|index| fields[*index].name.clone())
                .collect(),
            presence: Presence::of(batch),
        })
    }

    /// A null in a key: an integer key would be numbered by the database instead of being refused.
    fn check_key(&self, plan: &WritePlan, row: usize) -> Result<(), RowFault> {
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
    fn value<'value>(
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

    fn check_present(&self, row: usize, index: usize) -> Result<(), RowFault> {
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
struct KeyNames(Vec<TextEncoder>);

impl KeyNames {
    fn new(plan: &WritePlan, batch: &Batch) -> Self {
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

    fn rejected(&self, row: usize, fault: RowFault) -> RejectedRecord {
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
