//! The table `_whimbrel_columns`: which field stands in which column, and of what record type it is.
//!
//! A database column knows four kinds of value; the record types are more. What the sink wrote is remembered here, so
//! that reading gives the same schema again. What no longer fits the table (dropped, other column types) is
//! ignored, never believed.

use rusqlite::Connection;
use whimbrel_plugin_api::record_type::{Field, RecordType};
use whimbrel_plugin_api::{Error, Result};

use crate::error::Doing as _;
use crate::names::REST_COLUMN;
use crate::schema::Table;

/// The table's name.
pub(crate) const TABLE: &str = "_whimbrel_columns";

/// What makes the table.
pub(crate) const DDL: &str = "CREATE TABLE IF NOT EXISTS \"_whimbrel_columns\" (\"table_name\" TEXT NOT NULL, \
    \"field_name\" TEXT NOT NULL, \"position\" INTEGER NOT NULL, \"column_name\" TEXT NOT NULL, \
    \"record_type\" TEXT NOT NULL, \"is_nullable\" INTEGER NOT NULL, PRIMARY KEY (\"table_name\", \"field_name\"))";

/// A field and the column that holds it; `_whimbrel_rest` holds several.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Remembered {
    pub(crate) field: Field,
    pub(crate) column: String,
}

impl Remembered {
    /// Whether the value is a member of the rest column.
    pub(crate) fn is_in_rest(&self) -> bool {
        self.column == REST_COLUMN
    }
}

/// What is remembered of `table` and still true of it, in the order of the schema that was written.
pub(crate) fn load(connection: &Connection, table: &Table) -> Result<Vec<Remembered>> {
    let doing = "read the remembered columns";
    let is_there: bool = connection
        .query_row(
            "SELECT EXISTS(SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?1)",
            [TABLE],
            |row| row.get(0),
        )
        .doing(doing)?;
    if !is_there {
        return Ok(Vec::new());
    }
    let mut statement = connection
        .prepare_cached(
            "SELECT m.\"field_name\", m.\"column_name\", m.\"record_type\", m.\"is_nullable\" FROM \"_whimbrel_columns\" AS m \
             WHERE m.\"table_name\" = ?1 ORDER BY m.\"position\", m.\"field_name\"",
        )
        .doing(doing)?;
    let rows = statement
        .query_map([&table.name], |row| {
            Ok((
                row.get::<_, String>(0)?,
                row.get::<_, String>(1)?,
                row.get::<_, String>(2)?,
                row.get::<_, bool>(3)?,
            ))
        })
        .doing(doing)?;
    let mut remembered = Vec::new();
    for row in rows {
        let (name, column, record_type, is_nullable) = row.doing(doing)?;
        // Somebody else's text, or the type of a later version: as if nothing were remembered.
        let Ok(record_type) = serde_json::from_str::<RecordType>(&record_type) else {
            continue;
        };
        let found = Remembered {
            field: Field {
                name,
                record_type,
                nullable: is_nullable,
            },
            column,
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
pub(crate) fn store(connection: &Connection, table: &str, fields: &[Remembered]) -> Result<()> {
    let doing = "remember the columns";
    let mut statement = connection
        .prepare_cached(
            "INSERT INTO \"_whimbrel_columns\" VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT (\"table_name\", \"field_name\") \
             DO UPDATE SET \"position\" = excluded.\"position\", \"column_name\" = excluded.\"column_name\", \
             \"record_type\" = excluded.\"record_type\", \"is_nullable\" = excluded.\"is_nullable\"",
        )
        .doing(doing)?;
    for (position, remembered) in fields.iter().enumerate() {
        let record_type = serde_json::to_string(&remembered.field.record_type)
            .map_err(|error| Error::internal("a record type could not be written").with_cause(&error))?;
        statement
            .execute((
                table,
                &remembered.field.name,
                position,
                &remembered.column,
                record_type,
                remembered.field.nullable,
            ))
            .doing(doing)?;
    }
    Ok(())
}

/// Forgets a table that is about to be made anew.
pub(crate) fn forget(connection: &Connection, table: &str) -> Result<()> {
    connection
        .execute(
            "DELETE FROM \"_whimbrel_columns\" WHERE \"table_name\" = ?1",
            [table],
        )
        .doing("remember the columns")
        .map(|_| ())
}
