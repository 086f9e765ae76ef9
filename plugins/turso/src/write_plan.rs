//! How batches of one schema go into one table: where each field goes, and the statements for it.
//!
//! Neighbours: `prepare` makes the [`Target`], `write` carries a plan out.

use std::collections::{BTreeSet, HashMap};
use std::fmt::Write as _;

use whimbrel_plugin_api::record_type::Schema;
use whimbrel_plugin_api::{ConflictPolicy, Error, ErrorKind, ErrorScope, Result};

use crate::column_memory::Remembered;
use crate::names::{REST_COLUMN, quote};

/// Where a collection goes, as `prepare` has decided.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub(crate) table: String,
    pub(crate) fields: Vec<Remembered>,
    /// Names of the key fields.
    pub(crate) key: Vec<String>,
    /// Whether the table has a rest column, and every field that is known to be in it.
    pub(crate) has_rest: bool,
    pub(crate) rest_fields: BTreeSet<String>,
}

/// How batches of one schema go into one table under one policy.
pub(crate) struct WritePlan {
    /// The table, quoted.
    pub(crate) table: String,
    pub(crate) policy: ConflictPolicy,
    /// Fields with a column of their own: place in the schema, column.
    pub(crate) columns: Vec<(usize, String)>,
    /// Fields in the rest column.
    pub(crate) rest: Vec<usize>,
    /// Whether the rest column is written.
    pub(crate) has_rest: bool,
    /// Whether stored records may have members of the rest column that these batches do not have.
    pub(crate) has_partial_rest: bool,
    /// The key: places in `columns`.
    pub(crate) key: Vec<usize>,
    /// The statement for a record that may be new.
    pub(crate) insert: String,
    /// A record that is there already may need no change, as it is nothing but its key.
    pub(crate) may_change_nothing: bool,
    /// Statements that change only what a record has, by presence mask.
    pub(crate) merges: HashMap<Vec<u8>, String>,
}

impl WritePlan {
    /// # Errors
    /// `turso.unknown_field` if the table was not prepared for a field, `plugin.unsupported` for policies that are not
    /// among the capabilities.
    pub(crate) fn new(
        collection: &str,
        target: &Target,
        schema: &Schema,
        policy: ConflictPolicy,
    ) -> Result<Self> {
        let refuse = |code, message| {
            Err(Error::new(ErrorKind::InvalidData, code, message)
                .with_help("prepare the collection with this schema first")
                .with_scope(ErrorScope::Write))
        };
        let (mut columns, mut rest) = (Vec::new(), Vec::new());
        for (index, field) in schema.fields.iter().enumerate() {
            match target
                .fields
                .iter()
                .find(|stored| stored.field.name == field.name)
            {
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
                        format!(
                            "the table of `{collection}` was not prepared for the field `{}`",
                            field.name
                        ),
                    );
                }
            }
        }
        let mut key = Vec::with_capacity(target.key.len());
        for name in &target.key {
            match columns
                .iter()
                .position(|(index, _)| schema.fields[*index].name == *name)
            {
                Some(place) => key.push(place),
                None => {
                    return refuse(
                        "turso.key_missing",
                        format!("a batch of `{collection}` lacks the key field `{name}`"),
                    );
                }
            }
        }
        match policy {
            ConflictPolicy::KeepNewest | ConflictPolicy::KeepOldest => {
                return Err(Error::unsupported("write with this policy"));
            }
            ConflictPolicy::Merge if key.is_empty() => {
                return refuse(
                    "turso.merge_without_key",
                    format!("`{collection}` has no key to merge by"),
                );
            }
            _ => {}
        }
        let is_known_here = |name: &String| {
            rest.iter()
                .any(|index: &usize| schema.fields[*index].name == *name)
        };
        let has_partial_rest = !rest.is_empty() && !target.rest_fields.iter().all(is_known_here);
        let mut plan = Self {
            table: quote(&target.table),
            policy,
            // A table of nothing but the rest column needs a value to insert.
            has_rest: target.has_rest && (!rest.is_empty() || columns.is_empty()),
            has_partial_rest,
            columns,
            rest,
            key,
            insert: String::new(),
            may_change_nothing: false,
            merges: HashMap::new(),
        };
        plan.insert = plan.insert_statement();
        plan.may_change_nothing = plan.insert.ends_with("DO NOTHING");
        Ok(plan)
    }

    fn stored_columns(&self) -> impl Iterator<Item = &str> {
        self.columns
            .iter()
            .map(|(_, column)| column.as_str())
            .chain(self.has_rest.then_some(REST_COLUMN))
    }

    /// The columns of the key.
    pub(crate) fn key_columns(&self) -> impl Iterator<Item = &str> {
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

    /// Changes the columns at `places`, and the rest column if it is written, of the record with a key.
    pub(crate) fn update_statement(&self, places: &[usize]) -> String {
        let columns = places.iter().map(|place| self.columns[*place].1.as_str());
        let columns = columns.chain(self.has_rest.then_some(REST_COLUMN));
        let mut set: Vec<String> = columns.map(|column| format!("{} = ?", quote(column))).collect();
        if set.is_empty() {
            // Nothing to change; the statement still tells whether the record is there.
            set.extend(
                self.key_columns()
                    .take(1)
                    .map(|column| format!("{0} = {0}", quote(column))),
            );
        }
        format!(
            "UPDATE {} SET {} WHERE {}",
            self.table,
            set.join(", "),
            self.key_condition()
        )
    }

    /// The rest column of the record with a key.
    pub(crate) fn rest_statement(&self) -> String {
        format!(
            "SELECT {} FROM {} WHERE {}",
            quote(REST_COLUMN),
            self.table,
            self.key_condition()
        )
    }

    fn key_condition(&self) -> String {
        let conditions: Vec<String> = self
            .key_columns()
            .map(|column| format!("{} = ?", quote(column)))
            .collect();
        conditions.join(" AND ")
    }
}
