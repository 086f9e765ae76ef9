//! A database as the plugin asks it: near (a file, `local`) or far (a server, `remote`).
//!
//! One call asks, [`Database::query_each`]; the functions here make it convenient. Writing is `session`'s matter.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rusqlite::types::{Value, ValueRef};
use whimbrel_plugin_api::{Error, Result};

/// Takes a row of an answer, and says whether it wants more; the number is that of the values that it belongs to.
pub(crate) type EachRow<'each> = dyn FnMut(usize, &dyn Cells) -> Result<ControlFlow<()>> + 'each;

/// The code of an answer that has more octets than the database gives. A smaller page may do.
pub(crate) const TOO_LARGE: &str = "turso.response_too_large";

/// Something that answers questions in SQL.
pub(crate) trait Database: Send {
    /// Asks `sql` with each of the `values` in turn. `doing` completes "could not .." in messages.
    ///
    /// # Errors
    /// [`TOO_LARGE`], after which `page_records_max` is smaller, unless it is 1 already.
    fn query_each(&self, doing: &str, sql: &str, values: &[Vec<Value>], each: &mut EachRow<'_>)
    -> Result<()>;

    /// Names of the columns that `sql` gives, without a look at its rows.
    fn columns(&self, doing: &str, sql: &str) -> Result<Vec<String>>;

    /// Sees to it that nothing changes from here on, as far as that can be had; the database is for reading only.
    fn hold_still(&self) -> Result<()> {
        Ok(())
    }

    /// How many records a statement should ask for at most, if their number is not bounded by what a batch holds.
    fn page_records_max(&self) -> usize {
        usize::MAX
    }
}

/// One database that several streams ask in turn: those that are over sooner than another one would be open.
pub(crate) struct Shared {
    database: Mutex<Box<dyn Database>>,
    has_failed: AtomicBool,
}

impl Shared {
    pub(crate) fn new(database: Box<dyn Database>) -> Arc<Self> {
        Arc::new(Self {
            database: Mutex::new(database),
            has_failed: AtomicBool::new(false),
        })
    }

    /// Whether it has answered by an error, so that another one should be opened.
    pub(crate) fn has_failed(&self) -> bool {
        self.has_failed.load(Ordering::Relaxed)
    }

    fn locked(&self) -> MutexGuard<'_, Box<dyn Database>> {
        // Whoever panicked has changed nothing: it is only read.
        self.database.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Database for Arc<Shared> {
    fn query_each(
        &self,
        doing: &str,
        sql: &str,
        values: &[Vec<Value>],
        each: &mut EachRow<'_>,
    ) -> Result<()> {
        let outcome = self.locked().query_each(doing, sql, values, each);
        self.has_failed.fetch_or(outcome.is_err(), Ordering::Relaxed);
        outcome
    }

    fn columns(&self, doing: &str, sql: &str) -> Result<Vec<String>> {
        self.locked().columns(doing, sql)
    }

    fn page_records_max(&self) -> usize {
        self.locked().page_records_max()
    }
}

/// A row of an answer.
pub(crate) trait Cells {
    /// The value in a column, from 0.
    fn cell(&self, column: usize) -> Result<ValueRef<'_>>;
}

/// A statement that changes something, with its values.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Statement {
    pub(crate) sql: String,
    pub(crate) values: Vec<Value>,
}

impl Statement {
    /// A statement without values.
    pub(crate) fn plain(sql: impl Into<String>) -> Self {
        Self {
            sql: sql.into(),
            values: Vec::new(),
        }
    }
}

/// All rows, each as `read` takes it.
pub(crate) fn rows<T>(
    database: &dyn Database,
    doing: &str,
    sql: &str,
    values: &[Value],
    read: impl Fn(&dyn Cells) -> Result<T>,
) -> Result<Vec<T>> {
    let mut found = Vec::new();
    database.query_each(doing, sql, &[values.to_vec()], &mut |_, cells| {
        found.push(read(cells)?);
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(found)
}

/// The first row, if there is one.
pub(crate) fn first<T>(
    database: &dyn Database,
    doing: &str,
    sql: &str,
    values: &[Value],
    read: impl Fn(&dyn Cells) -> Result<T>,
) -> Result<Option<T>> {
    let mut found = None;
    database.query_each(doing, sql, &[values.to_vec()], &mut |_, cells| {
        found = Some(read(cells)?);
        Ok(ControlFlow::Break(()))
    })?;
    Ok(found)
}

/// The one count that a statement gives.
pub(crate) fn count(database: &dyn Database, doing: &str, sql: &str, values: &[Value]) -> Result<u64> {
    let number = first(database, doing, sql, values, |cells| integer(cells, 0))?;
    number
        .and_then(|number| number.try_into().ok())
        .ok_or_else(|| unexpected("a count"))
}

/// A text.
pub(crate) fn text(cells: &dyn Cells, column: usize) -> Result<String> {
    optional_text(cells, column)?.ok_or_else(|| unexpected("a text"))
}

/// A text or null.
pub(crate) fn optional_text(cells: &dyn Cells, column: usize) -> Result<Option<String>> {
    match cells.cell(column)? {
        ValueRef::Null => Ok(None),
        ValueRef::Text(octets) => String::from_utf8(octets.to_vec())
            .map(Some)
            .map_err(|_| unexpected("a text in UTF-8")),
        _ => Err(unexpected("a text")),
    }
}

/// An integer.
pub(crate) fn integer(cells: &dyn Cells, column: usize) -> Result<i64> {
    match cells.cell(column)? {
        ValueRef::Integer(number) => Ok(number),
        _ => Err(unexpected("an integer")),
    }
}

/// Yes or no; null is no.
pub(crate) fn flag(cells: &dyn Cells, column: usize) -> Result<bool> {
    match cells.cell(column)? {
        ValueRef::Null => Ok(false),
        ValueRef::Integer(number) => Ok(number != 0),
        _ => Err(unexpected("yes or no")),
    }
}

fn unexpected(wanted: &str) -> Error {
    Error::internal(format!("the database's answer is not {wanted}"))
}
