//! Puts the records of a batch into their table, one prepared statement per collection, policy and schema.
//!
//! One record is one statement: several per statement were measured and are no faster. The database undoes a statement
//! that fails, and only that, so a record that cannot be stored leaves no trace and needs no savepoint. Neighbours:
//! `encode` makes the values, `sink` owns the transaction.

use std::collections::HashMap;
use std::fmt::Write as _;

use rusqlite::types::ValueRef;
use rusqlite::{CachedStatement, Connection, OptionalExtension as _};
use whimbrel_plugin_api::record_type::Schema;
use whimbrel_plugin_api::source::RejectedRecord;
use whimbrel_plugin_api::text_form::TextEncoder;
use whimbrel_plugin_api::{Batch, ConflictPolicy, Error, ErrorKind, ErrorScope, Receipt, Result, Services};

use crate::column_memory::Remembered;
use crate::encode::{Bound, Encoder, Presence, Scratch};
use crate::error::{Doing as _, RowFault};
use crate::names::{REST_COLUMN, quote};
use crate::rest::{self, RestEncoder};

/// Records between two looks at whether the host has cancelled.
const CANCEL_EVERY: usize = 1_024;

/// Where a collection goes, as `prepare` has decided.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub(crate) table: String,
    pub(crate) fields: Vec<Remembered>,
    /// Names of the key fields.
    pub(crate) key: Vec<String>,
    pub(crate) has_rest: bool,
}

/// How batches of one schema go into one table under one policy.
pub(crate) struct Plan {
    table: String,
    policy: ConflictPolicy,
    /// Fields with a column of their own: place in the schema, column.
    columns: Vec<(usize, String)>,
    /// Fields in the rest column.
    rest: Vec<usize>,
    has_rest: bool,
    /// The key: places in `columns`.
    key: Vec<usize>,
    insert: String,
    /// A record that is there already may need no change, as it is nothing but its key.
    may_change_nothing: bool,
    /// Statements that change only what a record has, by presence mask.
    merges: HashMap<Vec<u8>, String>,
}

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

impl Plan {
    /// # Errors
    /// `turso.unknown_field` if the table was not prepared for a field, `plugin.unsupported` for policies that are not
    /// among the capabilities.
    pub(crate) fn new(collection: &str, target: &Target, schema: &Schema, policy: ConflictPolicy) -> Result<Self> {
        let refuse = |code, message| {
            Err(Error::new(ErrorKind::InvalidData, code, message)
                .with_help("prepare the collection with this schema first")
                .with_scope(ErrorScope::Write))
        };
        let (mut columns, mut rest) = (Vec::new(), Vec::new());
        for (index, field) in schema.fields.iter().enumerate() {
            match target.fields.iter().find(|stored| stored.field.name == field.name) {
                Some(stored) if stored.field.record_type != field.record_type => {
                    return refuse(
                        "turso.changed_field",
                        format!(
                            "the field `{}` of `{collection}` is `{}`, its column was prepared for `{}`",
                            field.name, field.record_type, stored.field.record_type
                        ),
                    );
                }
                Some(stored) if stored.is_in_rest() => rest.push(index),
                Some(stored) => columns.push((index, stored.column.clone())),
                None => {
                    return refuse(
                        "turso.unknown_field",
                        format!("the table of `{collection}` was not prepared for the field `{}`", field.name),
                    );
                }
            }
        }
        let mut key = Vec::with_capacity(target.key.len());
        for name in &target.key {
            match columns.iter().position(|(index, _)| schema.fields[*index].name == *name) {
                Some(place) => key.push(place),
                None => return refuse("turso.key_missing", format!("a batch of `{collection}` lacks the key field `{name}`")),
            }
        }
        match policy {
            ConflictPolicy::KeepNewest | ConflictPolicy::KeepOldest => {
                return Err(Error::unsupported("write with this policy"));
            }
            ConflictPolicy::Merge if key.is_empty() => {
                return refuse("turso.merge_without_key", format!("`{collection}` has no key to merge by"));
            }
            _ => {}
        }
        let mut plan = Self {
            table: quote(&target.table),
            policy,
            columns,
            rest,
            has_rest: target.has_rest,
            key,
            insert: String::new(),
            may_change_nothing: false,
            merges: HashMap::new(),
        };
        plan.insert = plan.insert_statement();
        plan.may_change_nothing = plan.insert.ends_with("DO NOTHING");
        Ok(plan)
    }

    /// The policy that the plan carries out.
    pub(crate) fn policy(&self) -> ConflictPolicy {
        self.policy
    }

    fn stored_columns(&self) -> impl Iterator<Item = &str> {
        self.columns.iter().map(|(_, column)| column.as_str()).chain(self.has_rest.then_some(REST_COLUMN))
    }

    fn key_columns(&self) -> impl Iterator<Item = &str> {
        self.key.iter().map(|place| self.columns[*place].1.as_str())
    }

    /// `OR ABORT`, so that a conflict clause in the table's declaration cannot replace or drop records silently.
    fn insert_statement(&self) -> String {
        let columns: Vec<String> = self.stored_columns().map(quote).collect();
        let mut sql = format!(
            "INSERT OR ABORT INTO {} ({}) VALUES ({})",
            self.table,
            columns.join(", "),
            vec!["?"; columns.len()].join(", ")
        );
        if self.key.is_empty() || matches!(self.policy, ConflictPolicy::Fail | ConflictPolicy::Append) {
            return sql;
        }
        let key: Vec<String> = self.key_columns().map(quote).collect();
        let changed: Vec<String> = columns
            .iter()
            .filter(|column| !key.contains(column))
            .map(|column| format!("{column} = excluded.{column}"))
            .collect();
        write!(sql, " ON CONFLICT ({})", key.join(", ")).expect("writing to a string does not fail");
        if changed.is_empty() || self.policy == ConflictPolicy::Skip {
            sql.push_str(" DO NOTHING");
        } else {
            write!(sql, " DO UPDATE SET {}", changed.join(", ")).expect("writing to a string does not fail");
        }
        sql
    }

    /// Stores the records of a batch.
    ///
    /// # Errors
    /// What concerns more than single records; the transaction is then to be undone.
    pub(crate) fn write(&mut self, connection: &Connection, services: &Services, batch: &Batch) -> Result<Receipt> {
        let values = Values::new(self, batch)?;
        let mut statement = connection.prepare_cached(&self.insert).doing("write a batch")?;
        let is_merge = self.policy == ConflictPolicy::Merge && values.presence.is_partial();
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
            if receipt.rejected.last().is_some_and(|last| last.row == Some(row as u64)) && connection.is_autocommit() {
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
            0 if !self.may_change_nothing => {
                Err(RowFault::new("turso.trigger_refused", "a trigger of the table dropped the record").into())
            }
            _ => Ok(Stored::Written),
        }
    }

    /// Changes the fields that the record has, if its key is there; answers whether it is.
    fn merge(
        &self,
        connection: &Connection,
        values: &Values,
        row: usize,
        rest: &[u8],
        scratch: &mut Scratch,
        merges: &mut HashMap<Vec<u8>, String>,
    ) -> Result<bool, Fault> {
        let key: Vec<String> = self.key_columns().map(|column| format!("{} = ?", quote(column))).collect();
        let condition = key.join(" AND ");
        let present: Vec<usize> = (0..self.columns.len())
            .filter(|place| !self.key.contains(place) && values.presence.has(row, self.columns[*place].0))
            .collect();
        let mask = values.presence.mask(row).unwrap_or_default();
        if !merges.contains_key(mask) {
            let columns = present.iter().map(|place| self.columns[*place].1.as_str());
            let mut set: Vec<String> =
                columns.chain(self.has_rest.then_some(REST_COLUMN)).map(|column| format!("{} = ?", quote(column))).collect();
            if set.is_empty() {
                set.extend(self.key_columns().take(1).map(|column| format!("{0} = {0}", quote(column))));
            }
            merges.insert(mask.to_vec(), format!("UPDATE {} SET {} WHERE {condition}", self.table, set.join(", ")));
        }
        let merged = if self.has_rest { self.merged_rest(connection, values, row, rest, &condition, scratch)? } else { None };
        let mut statement = connection.prepare_cached(&merges[mask])?;
        let mut parameter = 0;
        for place in &present {
            parameter += 1;
            let value = values.encoders[*place].value(row, scratch)?;
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

    /// The stored rest of the record with what it brings now.
    fn merged_rest(
        &self,
        connection: &Connection,
        values: &Values,
        row: usize,
        rest: &[u8],
        condition: &str,
        scratch: &mut Scratch,
    ) -> Result<Option<String>, Fault> {
        let sql = format!("SELECT {} FROM {} WHERE {condition}", quote(REST_COLUMN), self.table);
        let mut statement = connection.prepare_cached(&sql)?;
        for (index, place) in self.key.iter().enumerate() {
            let value = values.encoders[*place].value(row, scratch)?;
            statement.raw_bind_parameter(index + 1, Bound(value))?;
        }
        let mut rows = statement.raw_query();
        let stored: Option<String> = rows.next()?.map(|row| row.get(0)).transpose().optional()?.flatten();
        let Some(stored) = stored else {
            return Ok(None);
        };
        rest::overlay(&stored, rest)
            .map(Some)
            .ok_or_else(|| RowFault::new("turso.damaged_rest", format!("the stored `{REST_COLUMN}` is no JSON object")).into())
    }
}

fn rest_value(rest: &[u8]) -> ValueRef<'_> {
    if rest.is_empty() { ValueRef::Null } else { ValueRef::Text(rest) }
}

/// The columns of one batch, ready to be bound.
struct Values {
    encoders: Vec<Encoder>,
    /// Per encoder, whether the field is never null.
    is_required: Vec<bool>,
    rest: RestEncoder,
    presence: Presence,
}

impl Values {
    fn new(plan: &Plan, batch: &Batch) -> Result<Self> {
        let fields = &batch.schema.fields;
        let columns = batch.records.columns();
        let encoders = plan.columns.iter().map(|(index, _)| Encoder::new(&fields[*index].record_type, &columns[*index]));
        Ok(Self {
            encoders: encoders.collect::<Result<_>>()?,
            is_required: fields.iter().map(|field| !field.nullable).collect(),
            rest: RestEncoder::new(plan.rest.iter().map(|index| (*index, &fields[*index], &columns[*index])))?,
            presence: Presence::of(batch),
        })
    }

    /// A null in a key: an integer key would be numbered by the database instead of being refused.
    fn check_key(&self, plan: &Plan, row: usize) -> Result<(), RowFault> {
        let is_missing = |place: &usize| {
            self.encoders[*place].is_null(row) || !self.presence.has(row, plan.columns[*place].0)
        };
        match plan.key.iter().find(|place| is_missing(place)) {
            None => Ok(()),
            Some(place) => {
                Err(RowFault::new("turso.null_in_key", format!("the key field in `{}` has no value", plan.columns[*place].1)))
            }
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
            return Err(RowFault::new("turso.absent_in_required", "the record lacks a field that takes no null"));
        }
        Ok(())
    }
}

/// Names records by their keys, for those that were rejected.
struct KeyNames(Vec<TextEncoder>);

impl KeyNames {
    fn new(plan: &Plan, batch: &Batch) -> Self {
        let encoders = plan.key.iter().map(|place| {
            let index = plan.columns[*place].0;
            TextEncoder::new(&batch.schema.fields[index].record_type, batch.records.column(index)).ok()
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
