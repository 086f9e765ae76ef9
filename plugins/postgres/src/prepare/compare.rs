//! What an existing table cannot take of a collection, as findings, each with a statement that would help.
//!
//! Nothing is altered: whoever owns the table decides. Neighbour: `prepare`, which asks for tables that are there.

use std::collections::BTreeMap;

use whimbrel_plugin_api::record_type::RecordType;
use whimbrel_plugin_api::{ErrorKind, Finding};

use super::Settings;
use super::ddl::column_list;
use super::place::{Place, Placed, new_type, shown};
use crate::catalog::{Column, Identity, Table, TableKind};
use crate::names::quote;
use crate::rest::REST_COLUMN;
use crate::type_mapping;

/// An existing table beside what is to go into it.
pub(crate) struct Comparison<'a> {
    pub(crate) table: &'a Table,
    pub(crate) place: &'a Place<'a>,
    pub(crate) settings: &'a Settings,
    /// The names by which the database knows opaque types.
    pub(crate) types: &'a BTreeMap<String, String>,
    /// Who is connected.
    pub(crate) user: &'a str,
    /// Whether the table surely has no records.
    pub(crate) is_empty: bool,
}

impl Comparison<'_> {
    /// What the table cannot take.
    pub(crate) fn findings(&self) -> Vec<Finding> {
        if let Some(finding) = self.kind() {
            return vec![finding];
        }
        let mut findings = self.rights();
        let fields = self.place.fields.iter();
        findings.extend(fields.flat_map(|placed| self.field(placed)));
        findings.extend(self.rest());
        findings.extend(self.required_columns());
        findings.extend(self.key());
        findings.extend(self.triggers());
        findings.extend(self.row_security());
        findings
    }

    fn name(&self) -> String {
        self.table.name.sql()
    }

    fn kind(&self) -> Option<Finding> {
        let what = match self.table.kind {
            TableKind::Table | TableKind::Partitioned => return None,
            TableKind::View => "a view",
            TableKind::MaterializedView => "a materialized view",
            TableKind::Foreign => "a foreign table",
        };
        let message = format!("{} is {what}, which is not written", self.name());
        Some(
            Finding::blocker("postgres.not_a_table", message)
                .with_help("name the collection otherwise in the sink, or leave it out"),
        )
    }

    fn rights(&self) -> Vec<Finding> {
        let table = self.table;
        let has_key = !self.place.collection.key.is_empty();
        let needed = [
            ("INSERT", table.may_insert, true),
            ("SELECT", table.may_select, has_key),
            ("UPDATE", table.may_update, has_key),
        ];
        let missing: Vec<&str> = needed
            .into_iter()
            .filter(|(_, may, is_needed)| *is_needed && !may)
            .map(|(right, ..)| right)
            .collect();
        if missing.is_empty() {
            return Vec::new();
        }
        let message = format!(
            "`{}` has no right to {} on {}",
            self.user,
            missing.join(", "),
            self.name()
        );
        let grant = format!(
            "GRANT {} ON {} TO {}",
            missing.join(", "),
            self.name(),
            quote(self.user)
        );
        let finding = Finding::blocker("postgres.right_missing", message).with_help(format!("`{grant}`"));
        vec![Finding {
            kind: Some(ErrorKind::Permission),
            ..finding
        }]
    }

    fn field(&self, placed: &Placed) -> Vec<Finding> {
        let Some(name) = &placed.column else {
            return Vec::new();
        };
        match self.table.column(name) {
            Some(column) => self.column(column, placed),
            None => {
                let message = format!("{} has no column {}", self.name(), quote(name));
                let stored_as = new_type(&placed.field.record_type, self.types, self.settings);
                let add = format!(
                    "ALTER TABLE {} ADD COLUMN {} {stored_as}",
                    self.name(),
                    quote(name)
                );
                vec![
                    Finding::blocker("postgres.column_missing", message)
                        .with_help(format!("`{add}`; or leave the field out")),
                ]
            }
        }
    }

    fn column(&self, column: &Column, placed: &Placed) -> Vec<Finding> {
        let mut findings = Vec::new();
        let place = format!("the column {} of {}", quote(&column.name), self.name());
        let field = &placed.field;
        if column.is_generated {
            findings.push(
                Finding::blocker(
                    "postgres.generated_column",
                    format!("{place} is computed by the database"),
                )
                .with_help(format!("leave the field `{}` out", shown(&field.name))),
            );
        } else if let Err(misfit) = type_mapping::writing(&field.record_type, column, self.settings.types) {
            let change = format!(
                "ALTER TABLE {} ALTER COLUMN {} TYPE {}",
                self.name(),
                quote(&column.name),
                new_type(&field.record_type, self.types, self.settings)
            );
            let message = format!("{}: {}", self.name(), misfit.message);
            findings.push(match misfit.refusing {
                Some(_) => Finding::warning(misfit.code, message).with_help(format!("`{change}`")),
                None => Finding::blocker(misfit.code, message)
                    .with_help(format!("`{change}`; or convert the field")),
            });
        } else if let Some(previous) = self
            .place
            .previous
            .iter()
            .find(|previous| previous.field.name == field.name)
            && !self.is_empty
            && !is_wider(&previous.field.record_type, &field.record_type)
        {
            let message = format!(
                "{place} was filled with values of the type `{}`, not `{}`",
                previous.field.record_type, field.record_type
            );
            findings.push(
                Finding::blocker("postgres.type_changed", message)
                    .with_help("empty or drop the table, or use another one"),
            );
        }
        if column.is_not_null && field.nullable && !self.place.is_key(&field.name) {
            let drop = format!(
                "ALTER TABLE {} ALTER COLUMN {} DROP NOT NULL",
                self.name(),
                quote(&column.name)
            );
            findings.push(
                Finding::warning(
                    "postgres.stricter_column",
                    format!("{place} takes no null: records without a value there will be rejected"),
                )
                .with_help(format!("`{drop}`")),
            );
        }
        findings
    }

    fn rest(&self) -> Option<Finding> {
        let lost: Vec<String> = self
            .place
            .fields
            .iter()
            .filter(|placed| placed.column.is_none())
            .map(|placed| format!("`{}`", shown(&placed.field.name)))
            .collect();
        let add = format!(
            "ALTER TABLE {} ADD COLUMN {} json",
            self.name(),
            quote(REST_COLUMN)
        );
        match self.table.column(REST_COLUMN) {
            Some(column) if column.pg_type.name == "json" && !column.is_not_null => None,
            Some(column) => Some(
                Finding::blocker(
                    "postgres.bad_rest_column",
                    format!(
                        "the column `{REST_COLUMN}` of {} is `{}`, not a `json` that takes null",
                        self.name(),
                        column.pg_type.formatted
                    ),
                )
                .with_help("rename that column, or use another table"),
            ),
            // The column may be on its way.
            None if lost.is_empty() || self.place.has_rest => None,
            None => Some(
                Finding::blocker(
                    "postgres.no_rest_column",
                    format!(
                        "{} has no column `{REST_COLUMN}` for the fields {}, which can have none of their own",
                        self.name(),
                        lost.join(", ")
                    ),
                )
                .with_help(format!("`{add}`; or leave the fields out")),
            ),
        }
    }

    fn is_written(&self, column: &str) -> bool {
        let mut fields = self.place.fields.iter();
        fields.any(|placed| placed.column.as_deref() == Some(column))
    }

    fn required_columns(&self) -> Vec<Finding> {
        let has_no_value = |column: &&Column| {
            column.is_not_null
                && !column.has_default
                && !column.is_generated
                && column.identity == Identity::None
                && column.name != REST_COLUMN
                && !self.is_written(&column.name)
        };
        let finding = |column: &Column| {
            let message = format!(
                "the column {} of {} takes no null, and no field goes there",
                quote(&column.name),
                self.name()
            );
            let default = format!(
                "ALTER TABLE {} ALTER COLUMN {} SET DEFAULT ..",
                self.name(),
                quote(&column.name)
            );
            Finding::blocker("postgres.required_column", message)
                .with_help(format!("`{default}`; or map a field to it"))
        };
        self.table
            .columns
            .iter()
            .filter(has_no_value)
            .map(finding)
            .collect()
    }

    fn key(&self) -> Option<Finding> {
        let key = self.place.key_columns();
        let own = &self.table.primary_key;
        let own_text = if own.is_empty() {
            "no primary key".to_owned()
        } else {
            format!("the primary key ({})", column_list(own))
        };
        if key.is_empty() {
            let is_filled = !own.is_empty() && own.iter().all(|column| self.is_written(column));
            return (is_filled && self.place.collection.key.is_empty()).then(|| {
                let message = format!("{} has {own_text}, the collection has no key", self.name());
                Finding::blocker("postgres.other_key", message).with_help("name the table's key in `key`")
            });
        }
        let is_key = |unique: &Vec<String>| {
            unique.len() == key.len() && unique.iter().all(|column| key.contains(&column.as_str()))
        };
        if self.table.unique_keys.iter().any(is_key) {
            return None;
        }
        let message = format!(
            "{} has {own_text} and no unique index over the key ({})",
            self.name(),
            column_list(&key)
        );
        let index = format!("CREATE UNIQUE INDEX ON {} ({})", self.name(), column_list(&key));
        Some(
            Finding::blocker("postgres.no_unique_key", message)
                .with_help(format!("`{index}`; or correct `key`")),
        )
    }

    fn triggers(&self) -> Option<Finding> {
        let names: Vec<String> = self.table.triggers.iter().map(|name| quote(name)).collect();
        (!names.is_empty()).then(|| {
            let message = format!("{} has triggers, which will run: {}", self.name(), names.join(", "));
            Finding::warning("postgres.triggers", message)
                .with_help("what they change is not part of the migration and may show up as mismatches; they also slow the import down")
        })
    }

    fn row_security(&self) -> Option<Finding> {
        self.table.has_row_security.then(|| {
            let message = format!(
                "row-level security of {} holds for `{}`: records may be refused, and records that are there may not be seen",
                self.name(),
                self.user
            );
            Finding::warning("postgres.row_security", message)
                .with_help("write as the table's owner or as a role with BYPASSRLS; on Supabase that is `postgres`")
        })
    }
}

/// Whether stored values of `old` are values of `new` as they stand.
pub(crate) fn is_wider(old: &RecordType, new: &RecordType) -> bool {
    let is_json = |record_type: &RecordType| {
        matches!(
            record_type,
            RecordType::List { .. } | RecordType::Struct { .. } | RecordType::Json | RecordType::Variant
        )
    };
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
        (RecordType::Decimal { .. }, RecordType::Numeric) | (RecordType::Reference, RecordType::Text) => true,
        (old, RecordType::Json | RecordType::Variant) if is_json(old) => true,
        (old, new) => old == new,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_may_widen_but_not_change() {
        let text = RecordType::list(RecordType::Text);
        assert!(is_wider(&RecordType::Int { bits: 8 }, &RecordType::INT64));
        assert!(!is_wider(&RecordType::INT64, &RecordType::Int { bits: 8 }));
        assert!(is_wider(&text, &RecordType::Variant));
        assert!(!is_wider(&RecordType::Variant, &text));
        assert!(!is_wider(&RecordType::Text, &RecordType::Reference));
    }
}
