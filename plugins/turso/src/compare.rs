//! What an existing table cannot take of a collection, as findings.
//!
//! Nothing is altered: whoever owns the table decides. Neighbour: `prepare`, which asks for tables that are there.

use whimbrel_plugin_api::Finding;
use whimbrel_plugin_api::record_type::RecordType;

use crate::column_memory::Remembered;
use crate::names::same;
use crate::schema::{Column, Table};
use crate::type_mapping::StorageClass;

/// An existing table beside what is to go into it.
pub(crate) struct Comparison<'plan> {
    pub(crate) table: &'plan Table,
    /// Where each field is to go.
    pub(crate) fields: &'plan [Remembered],
    /// Where fields went before.
    pub(crate) previous: &'plan [Remembered],
    /// Names of the key fields.
    pub(crate) key: &'plan [String],
    /// Whether the table has no records.
    pub(crate) is_empty: bool,
    /// Nothing at first.
    pub(crate) findings: Vec<Finding>,
}

impl Comparison<'_> {
    /// What the table cannot take.
    pub(crate) fn findings(mut self) -> Vec<Finding> {
        self.compare();
        self.findings
    }

    fn block(&mut self, code: &str, message: impl Into<String>, help: &str) {
        self.findings
            .push(Finding::blocker(code, message).with_help(help));
    }

    fn compare(&mut self) {
        let (table, fields) = (self.table, self.fields);
        for field in fields {
            match table.column(&field.column) {
                Some(column) => self.compare_column(column, field),
                None => self.block(
                    "turso.column_missing",
                    format!(
                        "the table `{}` has no column `{}` for the field `{}`",
                        table.name,
                        field.column,
                        field.field.name.replace('\0', "\u{2400}")
                    ),
                    "add the column, leave the field out, or use another table",
                ),
            }
        }
        let is_written = |column: &Column| fields.iter().any(|field| same(&field.column, &column.name));
        let numbers_itself = |column: &Column| {
            table
                .row_number_column()
                .is_some_and(|own| same(&own.name, &column.name))
        };
        for column in table
            .columns
            .iter()
            .filter(|column| column.is_not_null && !column.has_default)
        {
            if !is_written(column) && !column.is_generated && !numbers_itself(column) {
                self.block(
                    "turso.required_column",
                    format!(
                        "the column `{}` of `{}` takes no null, and no field goes there",
                        column.name, table.name
                    ),
                    "give the column a default, or map a field to it",
                );
            }
        }
        self.compare_key();
    }

    fn compare_column(&mut self, column: &Column, field: &Remembered) {
        let place = format!("the column `{}` of `{}`", column.name, self.table.name);
        if column.is_generated {
            self.block(
                "turso.generated_column",
                format!("{place} is computed by the database"),
                "leave the field out",
            );
        } else if !field.is_in_rest() && !column.affinity.keeps(&field.field.record_type) {
            self.block(
                "turso.narrower_type",
                format!(
                    "{place} is `{}`, which changes values of the type `{}`",
                    column.declared, field.field.record_type
                ),
                "declare the column otherwise, or use another table",
            );
        } else if let Some(previous) = self
            .previous
            .iter()
            .find(|previous| previous.field.name == field.field.name)
            && !self.is_empty
            && !is_wider(&previous.field.record_type, &field.field.record_type)
        {
            let message = format!(
                "{place} holds values of the type `{}`, not `{}`",
                previous.field.record_type, field.field.record_type
            );
            self.block(
                "turso.type_changed",
                message,
                "empty or drop the table, or use another one",
            );
        }
        if column.is_not_null && field.field.nullable && !field.is_in_rest() {
            self.findings.push(Finding::warning(
                "turso.stricter_column",
                format!("{place} takes no null: records without a value there will be rejected"),
            ));
        }
    }

    fn compare_key(&mut self) {
        let (table, fields) = (self.table, self.fields);
        let is_written = |column: &Column| fields.iter().any(|field| same(&field.column, &column.name));
        let column_of = |name: &String| {
            fields
                .iter()
                .find(|field| field.field.name == *name)
                .map(|field| field.column.as_str())
        };
        let key: Vec<&str> = self.key.iter().filter_map(column_of).collect();
        let table_key: Vec<&str> = table.key().iter().map(|column| column.name.as_str()).collect();
        if key.is_empty() && !table.key().is_empty() && table.key().into_iter().all(is_written) {
            let message = format!(
                "the table `{}` has the key `{}`, the collection has none",
                table.name,
                table_key.join(", ")
            );
            self.block("turso.other_key", message, "name the table's key in `key`");
        } else if !key.is_empty() && !table.is_unique(&key) {
            let has = if table_key.is_empty() {
                "no key".to_owned()
            } else {
                format!("the key `{}`", table_key.join(", "))
            };
            let message = format!(
                "the table `{}` has {has}, the collection has `{}`",
                table.name,
                key.join(", ")
            );
            self.block(
                "turso.other_key",
                message,
                "correct `key`, or make a unique index over these columns",
            );
        }
    }
}

/// Whether stored values of `old` are values of `new` as they stand.
fn is_wider(old: &RecordType, new: &RecordType) -> bool {
    match (old, new) {
        (RecordType::Int { bits: old }, RecordType::Int { bits: new })
        | (RecordType::Float { bits: old }, RecordType::Float { bits: new }) => old <= new,
        (
            RecordType::Decimal {
                precision: old,
                scale: a,
            },
            RecordType::Decimal {
                precision: new,
                scale: b,
            },
        ) => a == b && old <= new,
        (RecordType::Decimal { .. }, RecordType::Numeric) => true,
        (old, RecordType::Text) => StorageClass::of(old) == StorageClass::Text,
        (old, new) => old == new,
    }
}
