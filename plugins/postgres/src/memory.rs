//! The table `columns` in the schema of whimbrel's own: what a table cannot say of itself.
//!
//! A column of the database says its type, which for most record types is enough. Where it is not (a variant in a `jsonb`
//! column, an `int8` in a `smallint`, a field in the rest column), a row is kept here, so that reading gives the schema
//! that was written. What no longer fits the table is ignored, never believed. Neighbours: `prepare` stores, the
//! source loads.

use std::collections::{BTreeMap, HashMap};

use whimbrel_plugin_api::record_type::{Field, RecordType};
use whimbrel_plugin_api::{Error, Result};

use crate::catalog::Table;
use crate::connection::{Connection, Row};
use crate::error::Fault;
use crate::names::{TableName, literal};
use crate::type_mapping::{self, TypeSettings};

/// The table's name within the schema of whimbrel's own.
const TABLE: &str = "columns";
/// Rows of one `INSERT`, so that a statement does not grow without bound.
const ROWS_PER_STATEMENT: usize = 500;

/// One field of which something is remembered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Remembered {
    pub(crate) field: Field,
    /// `None` if the value is a member of the rest column.
    pub(crate) column: Option<String>,
    /// Whether the rest column tells records without the field from those with null there.
    pub(crate) may_be_absent: bool,
    /// Where the field stood in the schema that was written, from 0.
    pub(crate) position: usize,
}

/// What is remembered of each table, in the order of the fields.
pub(crate) type Memory = HashMap<TableName, Vec<Remembered>>;

/// The table's full name.
pub(crate) fn table(state_schema: &str) -> TableName {
    TableName {
        schema: state_schema.to_owned(),
        name: TABLE.to_owned(),
    }
}

/// Statements that make the schema of whimbrel's own.
pub(crate) fn schema_ddl(state_schema: &str) -> Vec<String> {
    let schema = crate::names::quote(state_schema);
    vec![
        format!("CREATE SCHEMA IF NOT EXISTS {schema}"),
        format!("REVOKE ALL ON SCHEMA {schema} FROM PUBLIC"),
    ]
}

/// Statements that make the table, and its schema if that is missing too.
pub(crate) fn ddl(state_schema: &str, has_schema: bool) -> Vec<String> {
    let table = table(state_schema).sql();
    let mut ddl = match has_schema {
        true => Vec::new(),
        false => schema_ddl(state_schema),
    };
    ddl.push(format!(
        "CREATE TABLE IF NOT EXISTS {table} (\n  table_schema text NOT NULL,\n  table_name text NOT NULL,\n  field_name text NOT NULL,\n  \
         position integer NOT NULL,\n  column_name text,\n  record_type text NOT NULL,\n  is_nullable boolean NOT NULL,\n  \
         may_be_absent boolean NOT NULL,\n  PRIMARY KEY (table_schema, table_name, field_name)\n)"
    ));
    ddl.push(format!("REVOKE ALL ON TABLE {table} FROM PUBLIC"));
    ddl
}

/// What there is of the table, and what whoever connects may do with it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct State {
    pub(crate) exists: bool,
    pub(crate) may_load: bool,
    pub(crate) may_store: bool,
}

/// Looks for the table.
pub(crate) async fn state(connection: &mut Connection, state_schema: &str) -> Result<State, Fault> {
    let sql = format!(
        "SELECT has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT'), has_schema_privilege(n.oid, 'USAGE') \
         AND has_table_privilege(c.oid, 'SELECT') AND has_table_privilege(c.oid, 'INSERT') AND has_table_privilege(c.oid, 'UPDATE') \
         AND has_table_privilege(c.oid, 'DELETE') FROM pg_catalog.pg_class c \
         JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = {} AND c.relname = {} AND c.relkind = 'r'",
        literal(state_schema),
        literal(TABLE)
    );
    let rows = connection.rows(&sql).await?;
    let Some(row) = rows.first() else {
        return Ok(State::default());
    };
    let may = |index: usize| row.get(index).is_some_and(|may| may.as_deref() == Some("t"));
    Ok(State {
        exists: true,
        may_load: may(0),
        may_store: may(1),
    })
}

/// What is remembered of these tables and still true of them.
pub(crate) async fn load(
    connection: &mut Connection,
    state_schema: &str,
    tables: &[Table],
    types: TypeSettings,
) -> Result<Memory, Fault> {
    if tables.is_empty() || !state(connection, state_schema).await?.may_load {
        return Ok(Memory::new());
    }
    let names: Vec<String> = tables
        .iter()
        .map(|table| format!("({}, {})", literal(&table.name.schema), literal(&table.name.name)))
        .collect();
    let sql = format!(
        "SELECT table_schema, table_name, field_name, position, column_name, record_type, is_nullable, may_be_absent FROM {} \
         WHERE (table_schema, table_name) IN ({}) ORDER BY table_schema, table_name, position, field_name",
        table(state_schema).sql(),
        names.join(", ")
    );
    let known: BTreeMap<&TableName, &Table> = tables.iter().map(|table| (&table.name, table)).collect();
    let mut memory = Memory::new();
    for row in connection.rows(&sql).await? {
        let Some((name, remembered)) = of_row(row) else {
            continue;
        };
        if known
            .get(&name)
            .is_some_and(|table| is_true_of(table, &remembered, types))
        {
            memory.entry(name).or_default().push(remembered);
        }
    }
    Ok(memory)
}

/// `None` for somebody else's text, or a type of a later version: as if nothing were remembered.
fn of_row(row: Row) -> Option<(TableName, Remembered)> {
    let [
        schema,
        name,
        field,
        position,
        column,
        record_type,
        is_nullable,
        may_be_absent,
    ] = <[Option<String>; 8]>::try_from(row).ok()?;
    let record_type: RecordType = serde_json::from_str(&record_type?).ok()?;
    record_type.validate().ok()?;
    let table = TableName {
        schema: schema?,
        name: name?,
    };
    let remembered = Remembered {
        field: Field {
            name: field?,
            record_type,
            nullable: is_nullable? == "t",
        },
        column,
        may_be_absent: may_be_absent? == "t",
        position: position?.parse().ok()?,
    };
    Some((table, remembered))
}

fn is_true_of(table: &Table, remembered: &Remembered, types: TypeSettings) -> bool {
    let has_rest = || table.column(crate::rest::REST_COLUMN).is_some();
    match &remembered.column {
        None => has_rest(),
        Some(column) => {
            let column = table.column(column);
            let holds = |column| type_mapping::writing(&remembered.field.record_type, column, types).is_ok();
            column.is_some_and(holds) && (!remembered.may_be_absent || has_rest())
        }
    }
}

/// Statements that remember these fields of a table. What was known of other fields stays.
pub(crate) fn store(state_schema: &str, of: &TableName, fields: &[&Remembered]) -> Result<Vec<String>> {
    let row = |remembered: &&Remembered| {
        let record_type = serde_json::to_string(&remembered.field.record_type)
            .map_err(|error| Error::internal("a record type could not be written").with_cause(&error))?;
        let column = remembered
            .column
            .as_deref()
            .map_or_else(|| "NULL".to_owned(), literal);
        Ok(format!(
            "({}, {}, {}, {}, {column}, {}, {}, {})",
            literal(&of.schema),
            literal(&of.name),
            literal(&remembered.field.name),
            remembered.position,
            literal(&record_type),
            remembered.field.nullable,
            remembered.may_be_absent
        ))
    };
    let statement = |fields: &[&Remembered]| {
        let rows = fields.iter().map(row).collect::<Result<Vec<_>>>()?;
        Ok(format!(
            "INSERT INTO {} (table_schema, table_name, field_name, position, column_name, record_type, is_nullable, may_be_absent) \
             VALUES {} ON CONFLICT (table_schema, table_name, field_name) DO UPDATE SET position = excluded.position, \
             column_name = excluded.column_name, record_type = excluded.record_type, is_nullable = excluded.is_nullable, \
             may_be_absent = excluded.may_be_absent",
            table(state_schema).sql(),
            rows.join(", ")
        ))
    };
    fields.chunks(ROWS_PER_STATEMENT).map(statement).collect()
}

/// Forgets a table that is about to be made anew.
pub(crate) fn forget(state_schema: &str, of: &TableName) -> String {
    format!(
        "DELETE FROM {} WHERE table_schema = {} AND table_name = {}",
        table(state_schema).sql(),
        literal(&of.schema),
        literal(&of.name)
    )
}
