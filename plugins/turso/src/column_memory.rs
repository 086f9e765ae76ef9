//! The table `_whimbrel_columns`: which field stands in which column, and of what record type it is.
//!
//! A database column knows four kinds of value; the record types are more. What the sink wrote is remembered here, so
//! that reading gives the same schema again. What no longer fits the table (dropped, other column types) is
//! ignored, never believed.

use rusqlite::types::Value;
use whimbrel_plugin_api::record_type::{Field, RecordType};
use whimbrel_plugin_api::{Error, Result};

use crate::database::{self, Database, Statement, flag, integer, text};
use crate::names::REST_COLUMN;
use crate::schema::Table;

/// The table's name.
pub(crate) const TABLE: &str = "_whimbrel_columns";

/// What makes the table.
pub(crate) const DDL: &str = "CREATE TABLE IF NOT EXISTS \"_whimbrel_columns\" (\"table_name\" TEXT NOT NULL, \
    \"field_name\" TEXT NOT NULL, \"position\" INTEGER NOT NULL, \"column_name\" TEXT NOT NULL, \
    \"record_type\" TEXT NOT NULL, \"is_nullable\" INTEGER NOT NULL, PRIMARY KEY (\"table_name\", \"field_name\"))";

/// What `is_nullable` says of a field that a record may not have at all: such fields are told from null in the rest
/// column. A field that is nullable and no more has 1.
const NULL_OR_ABSENT: i64 = 2;

/// A field and the column that holds it; `_whimbrel_rest` holds several.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Remembered {
    pub(crate) field: Field,
    pub(crate) column: String,
    /// Whether the rest column tells records without the field from those with null there.
    pub(crate) may_be_absent: bool,
}

impl Remembered {
    /// Whether the value is a member of the rest column.
    pub(crate) fn is_in_rest(&self) -> bool {
        self.column == REST_COLUMN
    }
}

/// What is remembered of `table` and still true of it, in the order of the schema that was written.
pub(crate) fn load(database: &dyn Database, table: &Table) -> Result<Vec<Remembered>> {
    let doing = "read the remembered columns";
    let is_there = database::first(
        database,
        doing,
        "SELECT EXISTS(SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?1)",
        &[Value::Text(TABLE.to_owned())],
        |row| flag(row, 0),
    )?;
    if is_there != Some(true) {
        return Ok(Vec::new());
    }
    let rows = database::rows(
        database,
        doing,
        "SELECT m.\"field_name\", m.\"column_name\", m.\"record_type\", m.\"is_nullable\" FROM \"_whimbrel_columns\" AS m \
         WHERE m.\"table_name\" = ?1 ORDER BY m.\"position\", m.\"field_name\"",
        &[Value::Text(table.name.clone())],
        |row| Ok((text(row, 0)?, text(row, 1)?, text(row, 2)?, integer(row, 3)?)),
    )?;
    let mut remembered = Vec::new();
    for (name, column, record_type, nullable) in rows {
        // Somebody else's text, or the type of a later version: as if nothing were remembered.
        let Ok(record_type) = serde_json::from_str::<RecordType>(&record_type) else {
            continue;
        };
        let found = Remembered {
            field: Field {
                name,
                record_type,
                nullable: nullable != 0,
            },
            column,
            may_be_absent: nullable == NULL_OR_ABSENT,
        };
        let fits = table
            .column(&found.column)
            .is_some_and(|column| found.is_in_rest() || column.affinity.keeps(&found.field.record_type));
        if fits && found.field.record_type.validate().is_ok() {
            remembered.push(found);
        }
    }
    Ok(remembered)
}

/// Remembers the fields of a table; what was known of other fields stays.
pub(crate) fn store(table: &str, fields: &[Remembered]) -> Result<Vec<Statement>> {
    let statement = |(position, remembered): (usize, &Remembered)| {
        let record_type = serde_json::to_string(&remembered.field.record_type)
            .map_err(|error| Error::internal("a record type could not be written").with_cause(&error))?;
        let nullable = match (remembered.field.nullable, remembered.may_be_absent) {
            (_, true) => NULL_OR_ABSENT,
            (nullable, false) => nullable.into(),
        };
        Ok(Statement {
            sql: "INSERT INTO \"_whimbrel_columns\" VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT (\"table_name\", \"field_name\") \
                  DO UPDATE SET \"position\" = excluded.\"position\", \"column_name\" = excluded.\"column_name\", \
                  \"record_type\" = excluded.\"record_type\", \"is_nullable\" = excluded.\"is_nullable\""
                .to_owned(),
            values: vec![
                Value::Text(table.to_owned()),
                Value::Text(remembered.field.name.clone()),
                Value::Integer(position.try_into().unwrap_or(i64::MAX)),
                Value::Text(remembered.column.clone()),
                Value::Text(record_type),
                Value::Integer(nullable),
            ],
        })
    };
    fields.iter().enumerate().map(statement).collect()
}

/// Forgets a table that is about to be made anew.
pub(crate) fn forget(table: &str) -> Statement {
    Statement {
        sql: "DELETE FROM \"_whimbrel_columns\" WHERE \"table_name\" = ?1".to_owned(),
        values: vec![Value::Text(table.to_owned())],
    }
}
