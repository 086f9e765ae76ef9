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
    /// Whether the table has a rest column, and every field of which it is known to say something.
    pub(crate) has_rest: bool,
    pub(crate) rest_fields: BTreeSet<String>,
    /// Whether the rest column marks records that lack fields.
    pub(crate) has_absent: bool,
    /// Whether triggers run with every record.
    pub(crate) has_triggers: bool,
}

/// How batches of one schema go into one table under one policy.
pub(crate) struct WritePlan {
    /// The table, as it is and quoted.
    pub(crate) table_name: String,
    pub(crate) table: String,
    pub(crate) policy: ConflictPolicy,
    /// Fields with a column of their own: place in the schema, column.
    pub(crate) columns: Vec<(usize, String)>,
    /// Fields in the rest column.
    pub(crate) rest: Vec<usize>,
    /// Whether the rest column is written.
    pub(crate) has_rest: bool,
    /// Whether the rest column of stored records may say something of fields that these batches do not have.
    pub(crate) has_partial_rest: bool,
    /// Whether the rest column marks records that lack fields, and which fields: places in the schema.
    pub(crate) has_absent: bool,
    pub(crate) may_be_absent: Vec<usize>,
    pub(crate) has_triggers: bool,
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
        // A table of nothing but the rest column needs a value to insert.
        let has_rest = target.has_rest && (!rest.is_empty() || columns.is_empty() || target.has_absent);
        let is_marked = |name: &str| {
            let mut stored = target.fields.iter();
            stored.any(|stored| stored.field.name == name && stored.may_be_absent)
        };
        let marked = schema
            .fields
            .iter()
            .enumerate()
            .filter(|(_, field)| is_marked(&field.name));
        let may_be_absent = marked.map(|(index, _)| index).collect();
        let is_known_here = |name: &String| schema.index_of(name).is_some();
        let mut plan = Self {
            table_name: target.table.clone(),
            table: quote(&target.table),
            policy,
            has_rest,
            has_partial_rest: has_rest && !target.rest_fields.iter().all(is_known_here),
            has_absent: target.has_absent,
            may_be_absent,
            has_triggers: target.has_triggers,
            columns,
            rest,
            key,
            insert: String::new(),
            may_change_nothing: false,
            merges: HashMap::new(),
        };
        plan.insert = plan.insert_statement(1);
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

    /// Whether `columns`, as a message of the database lists them, are those of the key.
    pub(crate) fn is_key(&self, columns: &str) -> bool {
        let mut named: Vec<&str> = columns.split(", ").collect();
        let mut key: Vec<String> = self
            .key_columns()
            .map(|column| self.named_in_messages(column))
            .collect();
        named.sort_unstable();
        key.sort_unstable();
        named == key || columns == key.join(", ")
    }

    /// Whether `columns`, as a message of the database lists them, are columns of this table.
    pub(crate) fn names_columns(&self, columns: &str) -> bool {
        let known: Vec<String> = self
            .stored_columns()
            .map(|column| self.named_in_messages(column))
            .collect();
        columns
            .split(", ")
            .all(|column| known.iter().any(|known| known == column))
    }

    fn named_in_messages(&self, column: &str) -> String {
        format!("{}.{column}", self.table_name)
    }

    /// Values of one record in the statement for new ones.
    pub(crate) fn value_count(&self) -> usize {
        self.stored_columns().count()
    }

    /// The statement for `record_count` records that may be new. `OR ABORT`, so that a conflict clause in the table's
    /// declaration cannot replace or drop records silently.
    pub(crate) fn insert_statement(&self, record_count: usize) -> String {
        let columns: Vec<String> = self.stored_columns().map(quote).collect();
        let marks = format!("({})", vec!["?"; columns.len()].join(", "));
        let mut sql = format!(
            "INSERT OR ABORT INTO {} ({}) VALUES {}",
            self.table,
            columns.join(", "),
            vec![marks.as_str(); record_count].join(", ")
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

    /// Whether there is a record with a key, with its rest column if the table has one.
    pub(crate) fn stored_statement(&self) -> String {
        if self.has_rest {
            return self.rest_statement();
        }
        format!("SELECT NULL FROM {} WHERE {}", self.table, self.key_condition())
    }

    fn key_condition(&self) -> String {
        let conditions: Vec<String> = self
            .key_columns()
            .map(|column| format!("{} = ?", quote(column)))
            .collect();
        conditions.join(" AND ")
    }
}
