//! Removes records by their keys, in the open transaction.
//!
//! Nothing else is: records that would be deleted or changed along keep them (`cascading`). What was deferred before is judged first, so that a record which was just written is found. Keys are written into the
//! statement as literals of their columns' types, as `read::literals` does for look-ups.

use whimbrel_plugin_api::{Batch, Error, ErrorScope, Result};

use super::{Writer, cascading, no_transaction};
use crate::catalog::{self, PgType, Wanted};
use crate::prepare::column_list;
use crate::read::{literal_rows, table_of};
use crate::target::Target;

/// Keys that one statement removes.
const KEYS_PER_STATEMENT: usize = 1_000;

impl Writer {
    /// Answers how many there were.
    ///
    /// # Errors
    /// Of scope write, without effect, if the keys do not fit the table or records of other tables would go along; of scope transaction or session if the transaction is
    /// gone, as when something else points to one of the records.
    pub(crate) fn remove(&mut self, collection: &str, target: &Target, keys: &Batch) -> Result<u64> {
        if self.open.is_none() {
            return Err(no_transaction());
        }
        if target.key.is_empty() {
            return Err(Error::unsupported("remove from a table without a key").with_scope(ErrorScope::Write));
        }
        self.settle()?;
        let wanted = std::slice::from_ref(&target.table);
        let found = self.on(async |connection| catalog::load(connection, Wanted::Tables(wanted)).await)?;
        let mut tables = found.map_err(|fault| self.end_by(fault))?;
        let missing = || Error::no_collection(collection).with_scope(ErrorScope::Write);
        let table = tables.pop().ok_or_else(missing)?;
        let mut columns: Vec<(&str, &PgType)> = Vec::with_capacity(target.key.len());
        let mut names: Vec<String> = Vec::with_capacity(target.key.len());
        for name in &target.key {
            let column = target.column_of(name).and_then(|column| column.column.as_deref());
            let column = column
                .and_then(|column| table.column(column))
                .ok_or_else(missing)?;
            columns.push((name, &column.pg_type));
            names.push(column.name.clone());
        }
        let rows = literal_rows(columns, keys).map_err(|error| error.with_scope(ErrorScope::Write))?;
        let start = format!(
            "DELETE FROM {} WHERE ({}) IN (VALUES ",
            table_of(&table),
            column_list(&names)
        );
        let refusal = self.on(async |connection| {
            for rows in rows.chunks(KEYS_PER_STATEMENT) {
                let refusal = cascading::refusal(connection, &table, &names, rows).await?;
                if refusal.is_some() {
                    return Ok(refusal);
                }
            }
            Ok(None)
        })?;
        if let Some(error) = refusal.map_err(|fault| self.end_by(fault))? {
            return Err(error);
        }
        let removed = self.on(async |connection| {
            let mut removed = 0;
            for rows in rows.chunks(KEYS_PER_STATEMENT) {
                removed += connection.run(&format!("{start}{})", rows.join(", "))).await?;
            }
            Ok(removed)
        })?;
        removed.map_err(|fault| self.end_by(fault))
    }
}
