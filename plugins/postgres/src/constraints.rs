//! What follows the load: foreign keys, sequences that would give numbers which are taken, statistics.
//!
//! Nothing here fails a run whose records are committed, short of a lost connection: what the database refuses becomes
//! a finding. Neighbour: `foreign_key` for the first of the three.

mod foreign_key;

use std::collections::HashMap;
use std::sync::Arc;

use whimbrel_plugin_api::{Collection, Finding, Result};

use self::foreign_key::{NewKey, Scene};
use crate::catalog::{self, Table, Wanted};
use crate::connection::{Connection, Row};
use crate::error::Fault;
use crate::names::{TableName, literal, quote};
use crate::prepare::from_table;
use crate::target::Target;

/// The target of each collection.
pub(crate) type Targets = HashMap<String, Arc<Target>>;

/// Adds foreign keys for the references of `collections`, and advances sequences.
///
/// # Errors
/// A lost connection. What the database refuses becomes a finding.
pub(crate) async fn add(
    connection: &mut Connection,
    collections: &[Collection],
    targets: &Targets,
) -> Result<Vec<Finding>> {
    let names: Vec<TableName> = targets.values().map(|target| target.table.clone()).collect();
    if names.is_empty() {
        return Ok(Vec::new());
    }
    let tables = catalog::load(connection, Wanted::Tables(&names)).await?;
    let mut findings = Vec::new();
    for collection in collections {
        let table_of = |target: &&Arc<Target>| tables.iter().find(|table| table.name == target.table);
        let Some((target, table)) = targets
            .get(&collection.name)
            .and_then(|target| Some((target, table_of(&target)?)))
        else {
            continue;
        };
        let mut found = Vec::new();
        let scene = Scene {
            target,
            table,
            targets,
            tables: &tables,
        };
        for reference in &collection.references {
            match NewKey::of(reference, &scene) {
                Ok(key) => found.extend(key.add(connection).await?),
                Err(finding) => found.extend(finding),
            }
        }
        found.extend(advance_sequences(connection, table, target).await?);
        findings.extend(
            found
                .into_iter()
                .map(|finding| finding.with_collection(&collection.name)),
        );
    }
    Ok(findings)
}

/// Refreshes what the database knows of the spread of values in tables that were empty; of others it keeps track itself.
/// Answers what it refused; that is no loss of records.
///
/// # Errors
/// A lost connection.
pub(crate) async fn analyze(connection: &mut Connection, targets: &Targets) -> Result<Vec<Fault>> {
    let mut refused = Vec::new();
    let filled = targets.values().filter(|target| target.was_empty);
    let mut tables: Vec<&TableName> = filled.map(|target| &target.table).collect();
    tables.sort();
    for table in tables {
        if let Err(fault) = in_transaction(connection, &format!("ANALYZE {}", table.sql())).await? {
            refused.push(fault);
        }
    }
    Ok(refused)
}

/// Sees to it that the next number of each sequence is free. Never takes a sequence back.
async fn advance_sequences(
    connection: &mut Connection,
    table: &Table,
    target: &Target,
) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for column in &table.columns {
        let is_written = target
            .columns
            .iter()
            .any(|written| written.column.as_ref() == Some(&column.name));
        let Some(sequence) = column
            .sequence
            .as_ref()
            .filter(|_| is_written && table.may_select)
        else {
            continue;
        };
        let place = format!("the column {} of {}", quote(&column.name), table.name.sql());
        let rights = format!(
            "SELECT has_sequence_privilege({0}, 'UPDATE') AND has_sequence_privilege({0}, 'SELECT')",
            literal(sequence)
        );
        if connection.value(&rights).await?.as_deref() != Some("t") {
            let message = format!(
                "no right to advance the sequence {sequence} of {place}: its next numbers may be taken"
            );
            let grant = format!("GRANT SELECT, UPDATE ON SEQUENCE {sequence} TO CURRENT_USER");
            findings.push(
                Finding::warning("postgres.sequence_right", message).with_help(format!(
                    "as its owner `{grant}`, with the name of the user of this job, then run again"
                )),
            );
            continue;
        }
        // A sequence that goes downwards, or that is used up, is left alone.
        let advance = format!(
            "SELECT setval({}, m.highest) FROM (SELECT max({})::bigint AS highest FROM {}) m, {sequence} s, pg_catalog.pg_sequence q \
             WHERE q.seqrelid = {}::regclass AND q.seqincrement > 0 AND m.highest BETWEEN q.seqmin AND q.seqmax \
             AND (m.highest > s.last_value OR (m.highest = s.last_value AND NOT s.is_called))",
            literal(sequence),
            quote(&column.name),
            from_table(table),
            literal(sequence)
        );
        if let Err(fault) = in_transaction(connection, &advance).await? {
            findings.push(
                Finding::warning(
                    "postgres.sequence",
                    format!(
                        "the sequence of {place} was not advanced: {}",
                        fault.error.message
                    ),
                )
                .with_help(format!(
                    "look at its next number: `SELECT nextval({})`",
                    literal(sequence)
                )),
            );
        }
    }
    Ok(findings)
}

/// Runs a statement in a transaction of its own. The inner error is what the database refused.
async fn in_transaction(connection: &mut Connection, sql: &str) -> Result<Result<Vec<Row>, Fault>> {
    connection.begin("ISOLATION LEVEL READ COMMITTED").await?;
    let rows = match connection.rows(sql).await {
        Ok(rows) => rows,
        Err(fault) if fault.sqlstate.is_some() && !connection.is_spoilt() => {
            connection.run("ROLLBACK").await?;
            return Ok(Err(fault));
        }
        Err(fault) => return Err(fault.into()),
    };
    match connection.run("COMMIT").await {
        Ok(_) => Ok(Ok(rows)),
        Err(fault) if fault.sqlstate.is_some() && !connection.is_spoilt() => Ok(Err(fault)),
        Err(fault) => Err(fault.into()),
    }
}
