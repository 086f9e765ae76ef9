//! Puts the records of a batch into their table of a file, one prepared statement per collection, policy and schema.
//!
//! One record is one statement: several per statement were measured and are no faster. The database undoes a statement
//! that fails, and only that, so a record that cannot be stored leaves no trace and needs no savepoint. Neighbours:
//! `record_values` makes the values, `local` owns the transaction.

use std::collections::HashMap;

use rusqlite::{CachedStatement, Connection};
use whimbrel_plugin_api::{Batch, ConflictPolicy, Error, ErrorKind, Receipt, Result, Services};

use crate::encode::{Bound, Scratch};
use crate::error::{Doing as _, RowFault};
use crate::record_values::{KeyNames, Values, rest_value};
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
        let looks_first = values.looks_first(self);
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
                if looks_first && self.merge(connection, &values, row, &rest, &mut scratch, &mut merges)? {
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

    /// Changes what the record brings, if its key is there; answers whether it is.
    fn merge(
        &self,
        connection: &Connection,
        values: &Values,
        row: usize,
        rest: &[u8],
        scratch: &mut Scratch,
        merges: &mut HashMap<Vec<u8>, String>,
    ) -> Result<bool, Fault> {
        let brought = values.brought(self, row);
        let keeps_absent = self.policy == ConflictPolicy::Merge;
        let mask = values
            .presence
            .mask(row)
            .filter(|_| keeps_absent)
            .unwrap_or_default();
        if !merges.contains_key(mask) {
            merges.insert(mask.to_vec(), self.update_statement(&brought));
        }
        let merged = if self.has_rest {
            let stored = self.stored_rest(connection, values, row, scratch)?;
            values.merged_rest(self, row, stored.as_deref(), rest)?
        } else {
            String::new()
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
            statement.raw_bind_parameter(parameter, Bound(rest_value(merged.as_bytes())))?;
        }
        for place in &self.key {
            parameter += 1;
            let value = values.encoders[*place].value(row, scratch)?;
            statement.raw_bind_parameter(parameter, Bound(value))?;
        }
        Ok(statement.raw_execute()? > 0)
    }

    /// The rest that is stored for the record, if any.
    fn stored_rest(
        &self,
        connection: &Connection,
        values: &Values,
        row: usize,
        scratch: &mut Scratch,
    ) -> Result<Option<String>, Fault> {
        let mut statement = connection.prepare_cached(&self.rest_statement())?;
        for (index, place) in self.key.iter().enumerate() {
            let value = values.encoders[*place].value(row, scratch)?;
            statement.raw_bind_parameter(index + 1, Bound(value))?;
        }
        let mut rows = statement.raw_query();
        let stored = rows
            .next()?
            .map(|row| row.get::<_, Option<String>>(0))
            .transpose()?;
        Ok(stored.flatten())
    }
}
