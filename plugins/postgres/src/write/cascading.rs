//! Records that would be deleted or changed along with those that are removed, by foreign keys of their tables: `ON DELETE CASCADE`,
//! `SET NULL`, `SET DEFAULT`. Whoever removes a record means that one alone, so it is refused.
//!
//! Neighbour: `removing` asks before it removes anything.

use whimbrel_plugin_api::{Error, ErrorKind, ErrorScope};

use crate::catalog::Table;
use crate::connection::Connection;
use crate::error::Fault;
use crate::names::{TableName, quote};
use crate::prepare::column_list;
use crate::read::table_of;

/// A foreign key by which records go along.
struct Pointing {
    from: TableName,
    /// What a query reads of it.
    rows: String,
    columns: Vec<String>,
    to_columns: Vec<String>,
    is_same_table: bool,
    /// Whether whoever connects sees all of its records.
    is_seen: bool,
}

/// Why the records of `table` whose columns `key` have one of the `values` are not removed; none if nothing would go along. Each
/// of the values is a row as it stands in `VALUES`. The records are locked, so that nothing points to them anew until the end
/// of the transaction.
pub(super) async fn refusal(
    connection: &mut Connection,
    table: &Table,
    key: &[String],
    values: &[String],
) -> Result<Option<Error>, Fault> {
    let all = pointing(connection, table).await?;
    if all.is_empty() || values.is_empty() {
        return Ok(None);
    }
    let target = table_of(table);
    let wanted = |alias: &str| {
        let names: Vec<String> = key
            .iter()
            .map(|name| format!("{alias}.{}", quote(name)))
            .collect();
        format!("({}) IN (VALUES {})", names.join(", "), values.join(", "))
    };
    if table.may_update {
        let sql = format!("SELECT 1 FROM {target} p WHERE {} FOR UPDATE", wanted("p"));
        connection.run(&sql).await?;
    }
    for one in &all {
        if !one.is_seen {
            return Ok(Some(unseen(one)));
        }
        let pairs = one.columns.iter().zip(&one.to_columns);
        let points: Vec<String> = pairs
            .map(|(column, to)| format!("c.{} = p.{}", quote(column), quote(to)))
            .collect();
        // What is removed itself does not go along.
        let others = match one.is_same_table {
            true => format!(" AND NOT ({})", wanted("c")),
            false => String::new(),
        };
        let sql = format!(
            "SELECT EXISTS (SELECT 1 FROM {} c JOIN {target} p ON {} WHERE {}{others})",
            one.rows,
            points.join(" AND "),
            wanted("p")
        );
        if connection.value(&sql).await?.as_deref() == Some("t") {
            return Ok(Some(goes_along(one)));
        }
    }
    Ok(None)
}

/// The foreign keys that point to the table, or to a part of it, and take records along.
async fn pointing(connection: &mut Connection, table: &Table) -> Result<Vec<Pointing>, Fault> {
    let names = |columns: &str, of: &str| {
        format!(
            "(SELECT json_agg(a.attname ORDER BY u.place)::text FROM unnest({columns}) WITH ORDINALITY AS u(attnum, place) \
             JOIN pg_catalog.pg_attribute a ON a.attrelid = {of} AND a.attnum = u.attnum)"
        )
    };
    let oid = table.oid;
    let sql = format!(
        "SELECT n.nspname, c.relname, c.relkind = 'p', {}, {}, k.conrelid = {oid}, \
         has_table_privilege(k.conrelid, 'SELECT') AND has_schema_privilege(n.oid, 'USAGE') AND NOT row_security_active(k.conrelid) \
         FROM pg_catalog.pg_constraint k JOIN pg_catalog.pg_class c ON c.oid = k.conrelid \
         JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
         WHERE k.contype = 'f' AND k.confdeltype IN ('c', 'n', 'd') AND (k.confrelid = {oid} \
         OR k.confrelid IN (SELECT t.relid FROM pg_catalog.pg_partition_tree({oid}) t)) ORDER BY k.oid",
        names("k.conkey", "k.conrelid"),
        names("k.confkey", "k.confrelid"),
    );
    let of = |row: Vec<Option<String>>| {
        let [schema, name, is_divided, columns, to_columns, is_same, is_seen] =
            <[Option<String>; 7]>::try_from(row).ok()?;
        let from = TableName {
            schema: schema?,
            name: name?,
        };
        let is = |flag: Option<String>| flag.as_deref() == Some("t");
        let rows = match is(is_divided) {
            true => from.sql(),
            // Tables that inherit from it have no part in its foreign keys.
            false => format!("ONLY {}", from.sql()),
        };
        Some(Pointing {
            from,
            rows,
            columns: serde_json::from_str(&columns?).ok()?,
            to_columns: serde_json::from_str(&to_columns?).ok()?,
            is_same_table: is(is_same),
            is_seen: is(is_seen),
        })
    };
    let rows = connection.rows(&sql).await?;
    let count = rows.len();
    let all: Vec<Pointing> = rows.into_iter().filter_map(of).collect();
    if all.len() < count {
        let error = Error::internal("a foreign key is described in a form that is not known");
        return Err(Fault::of_error(error));
    }
    Ok(all)
}

fn goes_along(one: &Pointing) -> Error {
    refused(format!(
        "records of {} point to it by ({}) and would be deleted or changed along",
        one.from.sql(),
        column_list(&one.columns)
    ))
    .with_help("remove these first, or let them point elsewhere")
}

fn unseen(one: &Pointing) -> Error {
    refused(format!(
        "records of {} that point to it by ({}) would be deleted or changed along, and cannot be seen here",
        one.from.sql(),
        column_list(&one.columns)
    ))
    .with_help("connect as a role that sees all records of that table")
}

fn refused(message: String) -> Error {
    Error::new(ErrorKind::Integrity, "postgres.remove_cascades", message).with_scope(ErrorScope::Write)
}
