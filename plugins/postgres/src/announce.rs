//! Which tables are collections, and what is said of them before they are read.
//! Neighbours: `catalog` finds the tables, `source` answers with what is said here.

use std::collections::HashMap;

use whimbrel_plugin_api::collection::{Estimate, Reference};
use whimbrel_plugin_api::record_type::RecordType;
use whimbrel_plugin_api::{Collection, Error, ErrorKind, Finding, Result};

use crate::catalog::{self, ForeignKey, Table, TableKind, Wanted};
use crate::client::Client;
use crate::config::{PostgresConfig, RowSecurity};
use crate::connection::Connection;
use crate::memory::Memory;
use crate::names::TableName;
use crate::read::{Stored, describe};
use crate::supabase::SYSTEM_SCHEMAS;

/// The code of tables that may not be read.
pub(crate) const NO_SELECT: &str = "postgres.no_select";
/// The code of tables of which records may be hidden.
const ROW_SECURITY: &str = "postgres.row_security";
/// Names of columns that hold when a record was changed last.
const CHANGE_TIMES: [&str; 3] = ["updated_at", "modified_at", "changed_at"];
/// Tables of one kind that a finding names one by one.
const FINDINGS_MAX: usize = 20;

/// The tables that are collections, and those of `names` beside them that could be: views, and tables of other schemas.
pub(crate) async fn tables(
    client: &Client,
    connection: &mut Connection,
    names: &[String],
) -> Result<Vec<Table>> {
    let config = client.config();
    let mut tables = match &config.schemas {
        Some(schemas) => catalog::load(connection, Wanted::Schemas(schemas)).await?,
        None => {
            let mut but = vec![config.state_schema.clone()];
            if client.address().is_supabase {
                but.extend(SYSTEM_SCHEMAS.map(str::to_owned));
            }
            catalog::load(connection, Wanted::AllBut(&but)).await?
        }
    };
    tables.retain(|table| is_readable(table, &config.state_schema) && (config.views || is_table(table)));
    let named: Vec<TableName> = names
        .iter()
        .filter_map(|name| TableName::of_collection(name, &config.schema))
        .filter(|name| tables.iter().all(|table| table.name != *name))
        .collect();
    if !named.is_empty() {
        let more = catalog::load(connection, Wanted::Tables(&named)).await?;
        tables.extend(
            more.into_iter()
                .filter(|table| is_readable(table, &config.state_schema)),
        );
    }
    Ok(tables)
}

/// Whether the table may be a collection: no part of another one, and not the database's own or whimbrel's.
pub(crate) fn is_readable(table: &Table, state_schema: &str) -> bool {
    let schema = table.name.schema.as_str();
    !table.is_partition
        && !schema.starts_with("pg_")
        && schema != "information_schema"
        && schema != state_schema
}

fn is_table(table: &Table) -> bool {
    matches!(table.kind, TableKind::Table | TableKind::Partitioned)
}

/// What a person does who wants a table to be read.
pub(crate) fn grant(table: &Table) -> String {
    format!(
        "GRANT SELECT ON {} to whoever connects, or exclude it",
        table.name.sql()
    )
}

/// That the table of `collection` is not read, since not all of it would be.
pub(crate) fn hidden(collection: &str) -> Error {
    Error::new(
        ErrorKind::Permission,
        ROW_SECURITY,
        format!("row-level security of `{collection}` hides records from whoever connects"),
    )
    .with_help(
        "connect as the owner of the table, or as a role with BYPASSRLS; with `row_security: visible_only` the records that may be \
         seen are copied, and no others",
    )
}

/// What should be known before the tables are read.
pub(crate) fn findings(tables: &[Table], config: &PostgresConfig) -> Vec<Finding> {
    let default_schema = config.schema.as_str();
    let unreadable = tables.iter().filter(|table| !table.may_select).map(|table| {
        let name = table.name.collection(default_schema);
        let message = format!("`{name}` is left out: whoever connects may not read it");
        Finding::warning(NO_SELECT, message)
            .with_help(grant(table))
            .with_collection(name)
    });
    let filtered = tables
        .iter()
        .filter(|table| table.may_select && table.has_row_security)
        .map(|table| {
            let name = table.name.collection(default_schema);
            let (message, help) = match config.row_security {
                RowSecurity::Refuse => {
                    let Error { message, help, .. } = hidden(&name);
                    (
                        format!("{message}, so that it is not read"),
                        help.unwrap_or_default(),
                    )
                }
                RowSecurity::VisibleOnly => (
                    format!("row-level security of `{name}` may hide records from whoever connects"),
                    "connect as the owner of the table, or as a role with BYPASSRLS".to_owned(),
                ),
            };
            Finding::warning(ROW_SECURITY, message)
                .with_help(help)
                .with_collection(name)
        });
    unreadable
        .take(FINDINGS_MAX)
        .chain(filtered.take(FINDINGS_MAX))
        .collect()
}

/// The tables that may be read as collections.
pub(crate) fn collections(tables: &[Table], memory: &Memory, config: &PostgresConfig) -> Vec<Collection> {
    let stored: HashMap<&TableName, Stored> = tables
        .iter()
        .filter(|table| table.may_select)
        .map(|table| {
            let remembered = memory.get(&table.name).map_or(&[][..], Vec::as_slice);
            (
                &table.name,
                describe(table, remembered, None, config.type_settings()),
            )
        })
        .collect();
    tables
        .iter()
        .filter_map(|table| stored.get(&table.name))
        .map(|this| Collection {
            references: this
                .table
                .foreign_keys
                .iter()
                .filter_map(|foreign_key| reference(this, foreign_key, &stored, &config.schema))
                .collect(),
            estimate: Estimate {
                record_count: this.table.record_estimate,
                size_bytes: Some(this.table.size_bytes),
                exact: false,
            },
            cursor_fields: cursor_fields(this),
            hides_records: this.table.has_row_security,
            // Without a key a record is found by its place or its number.
            within_snapshot: this.key_columns().is_empty(),
            ..Collection::new(this.table.name.collection(&config.schema), this.schema())
                .with_key(this.key.clone())
        })
        .collect()
}

/// `None` for a foreign key to what is no collection.
fn reference(
    from: &Stored,
    foreign_key: &ForeignKey,
    stored: &HashMap<&TableName, Stored>,
    default_schema: &str,
) -> Option<Reference> {
    let to = stored.get(&foreign_key.to)?;
    let fields = |of: &Stored, columns: &[String]| -> Option<Vec<String>> {
        let field = |column: &String| of.field_of(column).map(|stored| stored.field.name.clone());
        columns.iter().map(field).collect()
    };
    Some(Reference {
        fields: fields(from, &foreign_key.columns)?,
        collection: to.table.name.collection(default_schema),
        to_fields: fields(to, &foreign_key.to_columns)?,
        // Records that row-level security hides are there, but not for us.
        is_enforced: foreign_key.is_validated && !to.table.has_row_security,
    })
}

fn cursor_fields(stored: &Stored) -> Vec<String> {
    let fields = stored.fields.iter().map(|stored| &stored.field);
    let is_change_time = |name: &str| CHANGE_TIMES.contains(&name);
    fields
        .filter(|field| field.record_type == RecordType::TimestampTz && is_change_time(&field.name))
        .map(|field| field.name.clone())
        .collect()
}
