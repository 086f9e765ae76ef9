//! Reading transactions, and one instant shared by several connections.
//!
//! A snapshot lives as long as the transaction that exported it, so the source keeps that transaction's connection until it
//! is closed. The name of a snapshot is all that another connection to the same database needs, from whatever process.
//! `TRUNCATE` and rewrites of a table are seen at once even by older snapshots, as an empty table; so a table whose file
//! is not the one that the snapshot knows is refused.

use std::collections::HashMap;

use whimbrel_plugin_api::{Error, ErrorKind, Result};

use crate::catalog::{Table, TableKind};
use crate::client::Client;
use crate::connection::Connection;
use crate::error::Fault;

const MODES: &str = "ISOLATION LEVEL REPEATABLE READ, READ ONLY";
/// The code of a database, or something in front of it, that exports no snapshot.
pub(crate) const NO_SNAPSHOT: &str = "postgres.no_snapshot";
/// What the database says to a name of no snapshot: `invalid_parameter_value`, since version 17 `undefined_object`; and to
/// one whose transaction is just ending: `object_not_in_prerequisite_state`.
const UNKNOWN: [&str; 3] = ["22023", "42704", "55000"];

/// The transactions that keep snapshots alive, by the names of these.
#[derive(Default)]
pub(crate) struct Keeper(HashMap<String, Connection>);

impl Keeper {
    /// Exports a snapshot of now.
    ///
    /// # Errors
    /// `postgres.no_snapshot` if the database, or something in front of it, does not export one.
    pub(crate) async fn open(&mut self, client: &Client) -> Result<String> {
        let mut connection = client.connect().await?;
        connection.begin(MODES).await?;
        let name = match connection.value("SELECT pg_catalog.pg_export_snapshot()").await {
            Ok(name) => name,
            Err(fault) if fault.sqlstate.is_some() => {
                connection.close().await;
                return Err(no_snapshot(&fault));
            }
            Err(fault) => return Err(fault.into()),
        };
        let name = name.ok_or_else(|| Error::internal("the exported snapshot has no name"))?;
        self.0.insert(name.clone(), connection);
        Ok(name)
    }

    /// Lets a snapshot go; one that is not known here is none of ours.
    ///
    /// The server notices the end of a connection when it comes to it; only the end of the transaction is answered once
    /// the snapshot is gone.
    pub(crate) async fn close(&mut self, name: &str) {
        if let Some(mut connection) = self.0.remove(name) {
            // Where this fails the connection is broken, and the snapshot ends with it.
            drop(connection.run("ROLLBACK").await);
            connection.close().await;
        }
    }
}

fn no_snapshot(fault: &Fault) -> Error {
    let state = fault.sqlstate.as_deref().unwrap_or_default();
    Error::new(
        ErrorKind::Unsupported,
        NO_SNAPSHOT,
        format!(
            "the database exports no snapshot (SQLSTATE {state}), so the tables cannot be read at one instant"
        ),
    )
    .with_help("connect to the server itself or to a pooler in session or transaction mode")
}

/// Begins a transaction that reads, at the snapshot if there is one.
///
/// # Errors
/// `postgres.snapshot_gone` if the snapshot is not, or no longer, one of this database.
pub(crate) async fn begin(connection: &mut Connection, snapshot: Option<&str>) -> Result<()> {
    connection.begin(MODES).await?;
    if let Some(name) = snapshot {
        let is_name = !name.is_empty()
            && name
                .bytes()
                .all(|octet| octet.is_ascii_hexdigit() || octet == b'-');
        if !is_name {
            return Err(gone());
        }
        let sql = format!("SET TRANSACTION SNAPSHOT '{name}'");
        connection
            .run(&sql)
            .await
            .map_err(|fault| match fault.sqlstate.as_deref() {
                Some(state) if UNKNOWN.contains(&state) => gone(),
                _ => fault.into(),
            })?;
    }
    Ok(())
}

fn gone() -> Error {
    Error::new(
        ErrorKind::Unavailable,
        "postgres.snapshot_gone",
        "the snapshot of the database is gone, so the rest cannot be read as of the same instant",
    )
    .with_help("start anew with a snapshot of now; it ends with the connection that opened it, and holds for one server")
}

/// Holds the table as it is until the end of the transaction, makes sure that its files are still those that the
/// transaction sees, and answers the number of its own file; 0 if it has none.
///
/// # Errors
/// `source.no_collection` if it was dropped, `postgres.table_rewritten` if it was emptied or rewritten.
pub(crate) async fn ensure_unchanged(
    connection: &mut Connection,
    table: &Table,
    collection: &str,
) -> Result<u32> {
    let only = match table.kind {
        TableKind::Table => Some("ONLY "),
        TableKind::Partitioned => Some(""),
        // A materialized view cannot be locked; of the others nobody can tell.
        TableKind::MaterializedView => None,
        TableKind::View | TableKind::Foreign => return Ok(0),
    };
    if let Some(only) = only {
        let lock = format!("LOCK TABLE {only}{} IN ACCESS SHARE MODE", table.name.sql());
        connection
            .run(&lock)
            .await
            .map_err(|fault| match fault.sqlstate.as_deref() {
                Some("42P01" | "3F000") => Error::no_collection(collection),
                _ => fault.into(),
            })?;
    }
    let oid = table.oid;
    let sql = format!(
        "SELECT coalesce(pg_catalog.pg_relation_filenode({oid}), 0), pg_catalog.count(*) FILTER (WHERE c.relfilenode <> 0 \
         AND c.relfilenode IS DISTINCT FROM pg_catalog.pg_relation_filenode(c.oid)) FROM pg_catalog.pg_class c \
         WHERE c.oid IN (SELECT {oid}::pg_catalog.oid UNION SELECT t.relid FROM pg_catalog.pg_partition_tree({oid}) t)"
    );
    let mut row = connection.rows(&sql).await?.into_iter().flatten().flatten();
    let (Some(file), Some(changed)) = (row.next().and_then(|file| file.parse().ok()), row.next()) else {
        return Err(Error::internal(
            "the number of a table's file has an unexpected form",
        ));
    };
    if changed != "0" {
        let message =
            format!("the table of `{collection}` was emptied or rewritten since the snapshot was taken");
        return Err(
            Error::new(ErrorKind::Integrity, "postgres.table_rewritten", message)
                .with_help("start anew, so that the table is read as it is now"),
        );
    }
    Ok(file)
}
