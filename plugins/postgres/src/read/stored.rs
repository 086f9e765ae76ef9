//! What a table gives as fields: its columns, what is remembered of them, and the members of the rest column.
//! Neighbours: `catalog` knows the table, `memory` what was written there, `query` and `batching` follow what is said here.

use whimbrel_plugin_api::record_type::{Field, Schema};
use whimbrel_plugin_api::{Error, Result};

use crate::catalog::{Column, Table};
use crate::memory::Remembered;
use crate::rest::REST_COLUMN;
use crate::type_mapping::{Reading, TypeSettings, reading};

/// A table as it is read.
#[derive(Debug, Clone)]
pub(crate) struct Stored {
    pub(crate) table: Table,
    pub(crate) fields: Vec<StoredField>,
    /// The fields that tell records apart, in order; empty if there is no key.
    pub(crate) key: Vec<String>,
}

/// A field and where its values come from.
#[derive(Debug, Clone)]
pub(crate) struct StoredField {
    pub(crate) field: Field,
    pub(crate) origin: Origin,
    /// Whether the rest column tells records without the field from those with null there.
    pub(crate) may_be_absent: bool,
}

/// Where values come from.
#[derive(Debug, Clone)]
pub(crate) enum Origin {
    /// A column.
    Column(Box<Column>, Reading),
    /// A member of the rest column.
    Rest,
}

/// What `table` gives. `remembered` is what was written there once; the types of `expected` are delivered if the columns
/// can hold them.
pub(crate) fn describe(
    table: &Table,
    remembered: &[Remembered],
    expected: Option<&Schema>,
    settings: TypeSettings,
) -> Stored {
    let has_rest = table.column(REST_COLUMN).is_some();
    let known = |column: &Column| {
        remembered
            .iter()
            .find(|known| known.column.as_deref() == Some(&column.name))
    };
    let mut fields: Vec<StoredField> = table
        .columns
        .iter()
        // The rest column is one of ours only if something is known of it.
        .filter(|column| column.name != REST_COLUMN || remembered.is_empty())
        .map(|column| {
            let known = known(column);
            let name = known.map_or(&column.name, |known| &known.field.name);
            let wanted = expected
                .and_then(|schema| {
                    schema
                        .index_of(name)
                        .map(|index| &schema.fields[index].record_type)
                })
                .or(known.map(|known| &known.field.record_type));
            let reading = reading(column, wanted, settings);
            StoredField {
                field: Field {
                    name: name.clone(),
                    record_type: reading.record_type.clone(),
                    nullable: !column.is_not_null,
                },
                origin: Origin::Column(Box::new(column.clone()), reading),
                may_be_absent: has_rest && known.is_some_and(|known| known.may_be_absent),
            }
        })
        .collect();
    let mut members: Vec<&Remembered> = remembered
        .iter()
        .filter(|known| known.column.is_none() && has_rest)
        .collect();
    members.sort_by_key(|known| known.position);
    for known in members {
        let stored = StoredField {
            field: known.field.clone(),
            origin: Origin::Rest,
            may_be_absent: known.may_be_absent,
        };
        fields.insert(known.position.min(fields.len()), stored);
    }
    let key = key_columns(table)
        .iter()
        .filter_map(|column| field_of_column(&fields, column))
        .map(|stored| stored.field.name.clone())
        .collect();
    Stored {
        table: table.clone(),
        fields,
        key,
    }
}

/// What an answer with these columns gives.
pub(crate) fn describe_answer(columns: &[Column], settings: TypeSettings) -> Vec<StoredField> {
    let field = |column: &Column| {
        let reading = reading(column, None, settings);
        StoredField {
            field: Field::new(&column.name, reading.record_type.clone()),
            origin: Origin::Column(Box::new(column.clone()), reading),
            may_be_absent: false,
        }
    };
    columns.iter().map(field).collect()
}

/// The primary key, or else the first of the shortest unique keys without nulls.
fn key_columns(table: &Table) -> &[String] {
    if !table.primary_key.is_empty() {
        return &table.primary_key;
    }
    let is_never_null = |key: &&Vec<String>| {
        key.iter()
            .all(|name| table.column(name).is_some_and(|column| column.is_not_null))
    };
    table
        .unique_keys
        .iter()
        .filter(is_never_null)
        .min_by_key(|key| key.len())
        .map_or(&[], Vec::as_slice)
}

fn field_of_column<'f>(fields: &'f [StoredField], name: &str) -> Option<&'f StoredField> {
    fields
        .iter()
        .find(|stored| matches!(&stored.origin, Origin::Column(column, _) if column.name == name))
}

impl Stored {
    /// All fields as a schema.
    pub(crate) fn schema(&self) -> Schema {
        Schema {
            presence: self.fields.iter().any(|stored| stored.may_be_absent),
            ..Schema::new(self.fields.iter().map(|stored| stored.field.clone()).collect())
        }
    }

    /// The schema that a read delivers: the fields called `columns`, or all of `expected`, or all.
    ///
    /// # Errors
    /// `schema.no_field` for a field that is not there, `postgres.type_changed` for one that can no longer be read as the
    /// reader counts on.
    pub(crate) fn delivered(&self, columns: &[String], expected: Option<&Schema>) -> Result<Schema> {
        let all = self.schema();
        let names: Vec<String> = match expected {
            Some(expected) if columns.is_empty() => {
                expected.fields.iter().map(|field| field.name.clone()).collect()
            }
            _ => columns.to_vec(),
        };
        // Without any name `select` would give them all, but a schema without fields is one.
        let mut schema = if names.is_empty() && expected.is_some_and(|expected| expected.fields.is_empty()) {
            Schema {
                fields: Vec::new(),
                ..all
            }
        } else {
            all.select(&names)?
        };
        let Some(expected) = expected else {
            return Ok(schema);
        };
        for field in &schema.fields {
            let Some(wanted) = expected
                .index_of(&field.name)
                .map(|index| &expected.fields[index])
            else {
                continue;
            };
            if wanted.record_type != field.record_type {
                let message = format!(
                    "the field `{}` of `{}` is `{}` now, the reader counts on `{}`",
                    field.name, self.table.name.name, field.record_type, wanted.record_type
                );
                return Err(Error::invalid_data("postgres.type_changed", message)
                    .with_help("plan the run anew, so that it sees the table as it is"));
            }
        }
        schema.version = expected.version;
        schema.presence &= expected.presence;
        Ok(schema)
    }

    /// The field called `name`.
    pub(crate) fn field(&self, name: &str) -> Option<&StoredField> {
        self.fields.iter().find(|stored| stored.field.name == name)
    }

    /// The field of a column.
    pub(crate) fn field_of(&self, column: &str) -> Option<&StoredField> {
        field_of_column(&self.fields, column)
    }

    /// The columns of the key, with how they are read.
    pub(crate) fn key_columns(&self) -> Vec<(&StoredField, &Column, &Reading)> {
        self.key
            .iter()
            .filter_map(|name| self.field(name))
            .filter_map(|stored| match &stored.origin {
                Origin::Column(column, reading) => Some((stored, column.as_ref(), reading)),
                Origin::Rest => None,
            })
            .collect()
    }
}
