//! Empties tables, all in one transaction, and touches nothing else.
//!
//! By `DELETE` and not by `TRUNCATE`: that would lock out everybody who reads, refuse where a foreign key of any other table
//! points here even if no record does, and pass by the triggers that watch deletions.

use whimbrel_plugin_api::{Error, ErrorKind, ErrorScope, Result};

use crate::catalog::{self, Table, TableKind, Wanted};
use crate::connection::Connection;
use crate::names::{TableName, quote};
use crate::prepare::{SessionFacts, column_list, from_table, session_facts};

/// Empties the tables of `collections` in this order; answers how many records each had.
///
/// # Errors
/// Of scope write, with nothing changed: a collection that does not exist, a missing right, records elsewhere that would
/// be deleted or changed along; and what the database reports.
pub(crate) async fn clear(
    connection: &mut Connection,
    default_schema: &str,
    collections: &[String],
) -> Result<Vec<Option<u64>>> {
    if collections.is_empty() {
        return Ok(Vec::new());
    }
    connection.begin("ISOLATION LEVEL READ COMMITTED").await?;
    match within(connection, default_schema, collections).await {
        Ok(removed) => {
            connection.run("COMMIT").await?;
            Ok(removed)
        }
        Err(error) => {
            // The connection may be what failed; the error says so.
            drop(connection.run("ROLLBACK").await);
            Err(error)
        }
    }
}

async fn within(
    connection: &mut Connection,
    default_schema: &str,
    collections: &[String],
) -> Result<Vec<Option<u64>>> {
    let mut names = Vec::with_capacity(collections.len());
    for collection in collections {
        let name = TableName::of_collection(collection, default_schema);
        names.push(name.ok_or_else(|| no_collection(collection))?);
    }
    let found = catalog::load(connection, Wanted::Tables(&names)).await?;
    let session = session_facts(connection).await?;
    let mut tables = Vec::with_capacity(names.len());
    for (name, collection) in names.iter().zip(collections) {
        let table = found.iter().find(|table| table.name == *name);
        let table = table.ok_or_else(|| no_collection(collection))?;
        check(table, &session)?;
        tables.push(table);
    }
    let keys = incoming(connection, &tables).await?;
    refuse_side_effects(connection, &tables, &keys).await?;
    let removed = if goes_against(&tables, &keys) {
        at_once(connection, &tables).await?
    } else {
        let mut removed = Vec::with_capacity(tables.len());
        for table in &tables {
            removed.push(Some(
                connection
                    .run(&format!("DELETE FROM {}", from_table(table)))
                    .await?,
            ));
        }
        removed
    };
    for table in tables.iter().filter(|table| !table.triggers.is_empty()) {
        let left = format!("SELECT EXISTS (SELECT 1 FROM {})", from_table(table));
        if connection.value(&left).await?.as_deref() == Some("t") {
            let message = format!(
                "a trigger of {} keeps records from being deleted",
                table.name.sql()
            );
            return Err(refused(ErrorKind::Permission, "postgres.not_cleared", message)
                .with_help("disable the trigger, or empty the table by hand"));
        }
    }
    Ok(removed)
}

fn no_collection(collection: &str) -> Error {
    Error::no_collection(collection).with_scope(ErrorScope::Write)
}

fn refused(kind: ErrorKind, code: &str, message: String) -> Error {
    Error::new(kind, code, message).with_scope(ErrorScope::Write)
}

fn check(table: &Table, session: &SessionFacts) -> Result<()> {
    let name = table.name.sql();
    if !matches!(table.kind, TableKind::Table | TableKind::Partitioned) {
        let message = format!("{name} is no table");
        return Err(refused(ErrorKind::Unsupported, "postgres.not_a_table", message));
    }
    if !table.may_delete || !table.may_select {
        let message = format!("`{}` has no right to delete from {name}", session.user);
        let grant = format!("`GRANT SELECT, DELETE ON {name} TO {}`", quote(&session.user));
        return Err(refused(ErrorKind::Permission, "postgres.right_missing", message).with_help(grant));
    }
    if table.has_row_security {
        let message = format!(
            "row-level security hides records of {name} from `{}`",
            session.user
        );
        return Err(refused(ErrorKind::Permission, "postgres.row_security", message)
            .with_help("connect as the table's owner or as a role with BYPASSRLS"));
    }
    Ok(())
}

/// A foreign key that points to one of the tables.
struct Incoming {
    from: TableName,
    from_oid: u32,
    to_oid: u32,
    columns: Vec<String>,
    /// Whether deleting a record changes or deletes those that point to it.
    has_side_effects: bool,
}

async fn incoming(connection: &mut Connection, tables: &[&Table]) -> Result<Vec<Incoming>> {
    let oids: Vec<String> = tables.iter().map(|table| table.oid.to_string()).collect();
    let sql = format!(
        "SELECT n.nspname, c.relname, k.conrelid, k.confrelid, k.confdeltype::text, (SELECT json_agg(a.attname ORDER BY u.place)::text \
         FROM unnest(k.conkey) WITH ORDINALITY AS u(attnum, place) \
         JOIN pg_catalog.pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = u.attnum) \
         FROM pg_catalog.pg_constraint k JOIN pg_catalog.pg_class c ON c.oid = k.conrelid \
         JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
         WHERE k.contype = 'f' AND k.confrelid IN ({}) ORDER BY k.oid",
        oids.join(", ")
    );
    let of = |row: Vec<Option<String>>| {
        let [schema, name, from_oid, to_oid, action, columns] = <[Option<String>; 6]>::try_from(row).ok()?;
        Some(Incoming {
            from: TableName {
                schema: schema?,
                name: name?,
            },
            from_oid: from_oid?.parse().ok()?,
            to_oid: to_oid?.parse().ok()?,
            columns: serde_json::from_str(&columns?).ok()?,
            has_side_effects: matches!(action.as_deref(), Some("c" | "n" | "d")),
        })
    };
    Ok(connection.rows(&sql).await?.into_iter().filter_map(of).collect())
}

/// Refuses if records of other tables would go along.
async fn refuse_side_effects(
    connection: &mut Connection,
    tables: &[&Table],
    keys: &[Incoming],
) -> Result<()> {
    let is_elsewhere =
        |key: &&Incoming| key.has_side_effects && tables.iter().all(|table| table.oid != key.from_oid);
    for key in keys.iter().filter(is_elsewhere) {
        let points: Vec<String> = key
            .columns
            .iter()
            .map(|column| format!("{} IS NOT NULL", quote(column)))
            .collect();
        let sql = format!(
            "SELECT EXISTS (SELECT 1 FROM {} WHERE {})",
            key.from.sql(),
            points.join(" AND ")
        );
        if connection.value(&sql).await?.as_deref() == Some("t") {
            let message = format!(
                "records of {} point here by ({}) and would be deleted or changed along",
                key.from.sql(),
                column_list(&key.columns)
            );
            return Err(refused(ErrorKind::Integrity, "postgres.would_cascade", message)
                .with_help("clear that table as well, or drop its foreign key"));
        }
    }
    Ok(())
}

/// Whether a table is pointed to by one that comes later.
fn goes_against(tables: &[&Table], keys: &[Incoming]) -> bool {
    let place = |oid: u32| tables.iter().position(|table| table.oid == oid);
    keys.iter()
        .any(|key| matches!((place(key.from_oid), place(key.to_oid)), (Some(from), Some(to)) if from > to))
}

/// Empties tables that point to each other in a ring: foreign keys are looked at when the whole statement is done.
async fn at_once(connection: &mut Connection, tables: &[&Table]) -> Result<Vec<Option<u64>>> {
    let deletes: Vec<String> = tables
        .iter()
        .enumerate()
        .map(|(index, table)| format!("d{index} AS (DELETE FROM {} RETURNING 1)", from_table(table)))
        .collect();
    let counts: Vec<String> = (0..tables.len())
        .map(|index| format!("(SELECT count(*) FROM d{index})"))
        .collect();
    let sql = format!("WITH {} SELECT {}", deletes.join(", "), counts.join(", "));
    let row = connection.rows(&sql).await?.pop().unwrap_or_default();
    Ok(row.into_iter().map(|count| count?.parse().ok()).collect())
}
