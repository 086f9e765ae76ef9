//! One connection: statements in the simple protocol, COPY out and COPY in.
//!
//! Nothing here is prepared and nothing is kept in the session beyond a transaction, so that a pooler which hands out
//! another server connection for each transaction can stand in between. Values are written into statements by `names`.
//!
//! The driver loses count of the server's answers when a COPY out cannot start, when a COPY in is dropped or given up
//! after the server had failed it, and when a call is dropped half-way. A connection on which that happened would hand
//! the answer of one statement to the next, so it counts as spoilt: every later call fails with `postgres.spoilt`.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::BoxStream;
use futures_util::{Stream, StreamExt as _, TryStreamExt as _};
use sqlx::postgres::{PgConnection, PgDatabaseError, PgRow, PgSeverity};
use sqlx::{AssertSqlSafe, Column as _, Connection as _, Either, Row as _, ValueRef as _};
use tokio::sync::OwnedSemaphorePermit;
use whimbrel_plugin_api::{Error, ErrorKind, ErrorScope};

use crate::error::Fault;
use crate::names::copied_table;

/// How long a goodbye may take.
const GOODBYE_LIMIT: Duration = Duration::from_secs(2);

/// A row of a text query: one text per column, `None` for null.
pub(crate) type Row = Vec<Option<String>>;

/// An open connection.
pub(crate) struct Connection {
    inner: PgConnection,
    /// A call is under way, or was given up half-way and the next answer may not be the one that is waited for.
    is_busy: bool,
    settings: Arc<Settings>,
    /// Its place among the connections that the role may hold.
    _permit: OwnedSemaphorePermit,
}

/// The `SET LOCAL` statements that follow each `BEGIN`, each with its semicolon.
#[derive(Debug, Default)]
pub(crate) struct Settings {
    /// Of transactions that only read.
    pub(crate) reading: String,
    /// Of all others.
    pub(crate) writing: String,
}

impl Connection {
    pub(crate) fn new(inner: PgConnection, settings: Arc<Settings>, permit: OwnedSemaphorePermit) -> Self {
        Self {
            inner,
            is_busy: false,
            settings,
            _permit: permit,
        }
    }

    /// Whether the connection can no longer be used: close it and open another one.
    pub(crate) fn is_spoilt(&self) -> bool {
        self.is_busy
    }

    /// Starts a transaction; `modes` as they follow `BEGIN`, such as `ISOLATION LEVEL REPEATABLE READ, READ ONLY` or
    /// nothing. The time-outs of the config hold within it, and values are written as texts in the same way everywhere.
    pub(crate) async fn begin(&mut self, modes: &str) -> Result<(), Fault> {
        let settings = if modes.contains("READ ONLY") {
            &self.settings.reading
        } else {
            &self.settings.writing
        };
        let sql = format!("BEGIN {modes}; {settings}");
        self.run(&sql).await.map(drop)
    }

    /// Starts a transaction that writes, with a first statement of its own, as one message.
    pub(crate) async fn begin_with(&mut self, statement: &str) -> Result<(), Fault> {
        let sql = format!("BEGIN; {} {statement}", self.settings.writing);
        self.run(&sql).await.map(drop)
    }

    /// A whole transaction as one message, with the rows of its queries: nothing that happens here can leave it open. After an
    /// error of the database it is to be rolled back.
    pub(crate) async fn transaction(&mut self, statements: &str) -> Result<Vec<Row>, Fault> {
        let sql = format!(
            "BEGIN ISOLATION LEVEL READ COMMITTED; {} {statements} COMMIT",
            self.settings.writing
        );
        self.rows(&sql).await
    }

    /// Runs one or several statements without parameters and answers how many rows they changed.
    ///
    /// Several statements outside of a transaction are one transaction. After an error of the database the connection
    /// is usable, though an open transaction is not.
    pub(crate) async fn run(&mut self, sql: &str) -> Result<u64, Fault> {
        self.run_steps(sql, &mut 0).await
    }

    /// [`Connection::run`] that counts the statements which have come to their end.
    pub(crate) async fn run_steps(&mut self, sql: &str, ended: &mut usize) -> Result<u64, Fault> {
        self.enter(sql)?;
        let mut answers = sqlx::raw_sql(AssertSqlSafe(sql)).fetch_many(&mut self.inner);
        let mut changed = 0;
        let outcome = loop {
            match answers.try_next().await {
                Ok(Some(Either::Left(done))) => {
                    changed += done.rows_affected();
                    *ended += 1;
                }
                Ok(Some(Either::Right(_))) => {}
                Ok(None) => break Ok(changed),
                Err(error) => break Err(error),
            }
        };
        drop(answers);
        self.leave(outcome)
    }

    /// The rows of one query, as texts. Of several statements: the rows of all of them.
    pub(crate) async fn rows(&mut self, sql: &str) -> Result<Vec<Row>, Fault> {
        self.enter(sql)?;
        let mut answers = sqlx::raw_sql(AssertSqlSafe(sql)).fetch(&mut self.inner);
        let mut rows = Vec::new();
        let outcome = loop {
            match answers.try_next().await {
                Ok(Some(row)) => match texts(&row) {
                    Ok(row) => rows.push(row),
                    Err(error) => break Err(error),
                },
                Ok(None) => break Ok(rows),
                Err(error) => break Err(error),
            }
        };
        drop(answers);
        self.leave(outcome)
    }

    /// The columns of the first row of a query, each with the number of its type; none if there is no row.
    pub(crate) async fn columns(&mut self, sql: &str) -> Result<Vec<(String, u32)>, Fault> {
        self.enter(sql)?;
        let row = sqlx::raw_sql(AssertSqlSafe(sql))
            .fetch_optional(&mut self.inner)
            .await;
        let columns = row.map(|row| row.map_or_else(Vec::new, |row| typed_columns(&row)));
        self.leave(columns)
    }

    /// The first column of the first row, if there is a row and it is not null.
    pub(crate) async fn value(&mut self, sql: &str) -> Result<Option<String>, Fault> {
        Ok(self.rows(sql).await?.into_iter().flatten().next().flatten())
    }

    /// Starts `COPY .. TO STDOUT`; each item is the octets of one message, which is one row, the header before the first
    /// row and the trailer after the last one.
    ///
    /// If it cannot start, the connection is spoilt. It is also spoilt if the stream is dropped before its end: there is
    /// no other way to stop the server short of closing the connection. After an error of the database within the stream
    /// it is usable.
    pub(crate) async fn copy_out(&mut self, sql: &str) -> Result<BoxStream<'_, Result<Bytes, Fault>>, Fault> {
        self.enter(sql)?;
        let inner = self.inner.copy_out_raw(sql).await.map_err(Fault::of)?;
        Ok(CopyOut {
            inner,
            is_busy: &mut self.is_busy,
        }
        .boxed())
    }

    /// Starts `COPY .. FROM STDIN`. If it cannot start, the connection is as usable as after [`Connection::run`].
    pub(crate) async fn copy_in(&mut self, sql: &str) -> Result<CopyIn<'_>, Fault> {
        self.enter(sql)?;
        match self.inner.copy_in_raw(sql).await {
            Ok(inner) => Ok(CopyIn {
                inner,
                is_busy: &mut self.is_busy,
                table: copied_table(sql),
            }),
            Err(error) => {
                self.is_busy = spoils(&error);
                Err(Fault::of(error))
            }
        }
    }

    /// Says goodbye; what fails then does not matter. A spoilt connection is cut off, and its open transaction with it.
    pub(crate) async fn close(self) {
        let saying = async {
            if self.is_busy {
                self.inner.close_hard().await
            } else {
                self.inner.close().await
            }
        };
        // A server that takes nothing in is not waited for.
        drop(tokio::time::timeout(GOODBYE_LIMIT, saying).await);
    }

    fn enter(&mut self, sql: &str) -> Result<(), Fault> {
        // To the server the statement would end there.
        if sql.contains('\0') {
            let error = Error::invalid_data(
                "postgres.nul_in_text",
                "a text has a NUL character, which PostgreSQL cannot hold",
            );
            return Err(Fault::of_error(error.with_scope(ErrorScope::Write)));
        }
        if std::mem::replace(&mut self.is_busy, true) {
            return Err(Fault::of_error(Error::new(
                ErrorKind::Unavailable,
                "postgres.spoilt",
                "an earlier call on this connection was given up half-way",
            )));
        }
        Ok(())
    }

    fn leave<T>(&mut self, outcome: Result<T, sqlx::Error>) -> Result<T, Fault> {
        self.is_busy = outcome.as_ref().is_err_and(spoils);
        outcome.map_err(Fault::of)
    }
}

/// Room for one connection that nobody uses at the moment.
#[derive(Clone, Default)]
pub(crate) struct Spare(Arc<Mutex<Option<Connection>>>);

impl Spare {
    /// The connection, which may have been cut off while it waited.
    pub(crate) fn take(&self) -> Option<Connection> {
        self.locked().take()
    }

    /// Keeps the connection, whose transaction has ended; closes it if there is one already.
    pub(crate) async fn give_back(&self, connection: Connection) {
        let left_over = self.locked().replace(connection);
        if let Some(left_over) = left_over {
            left_over.close().await;
        }
    }

    fn locked(&self) -> MutexGuard<'_, Option<Connection>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether the answers to come can no longer be told apart after this error.
fn spoils(error: &sqlx::Error) -> bool {
    match error {
        // Anything above an error ends the session.
        sqlx::Error::Database(error) => error
            .try_downcast_ref::<PgDatabaseError>()
            .is_none_or(|error| error.severity() != PgSeverity::Error),
        _ => true,
    }
}

/// The columns of a row, whatever their types: in the simple protocol all values are texts.
fn texts(row: &PgRow) -> Result<Row, sqlx::Error> {
    (0..row.len())
        .map(|index| {
            let value = row.try_get_raw(index)?;
            if value.is_null() {
                return Ok(None);
            }
            let text = value.as_str().map_err(sqlx::Error::Decode)?;
            Ok(Some(text.to_owned()))
        })
        .collect()
}

/// Names and numbers of types, as the database announces them before the first row.
fn typed_columns(row: &PgRow) -> Vec<(String, u32)> {
    let columns = row.columns().iter();
    // The driver looks no type up here, so that it knows each by its number.
    let typed = columns.map(|column| {
        let oid = column.type_info().oid().map_or(0, |oid| oid.0);
        (column.name().to_owned(), oid)
    });
    typed.collect()
}

/// A `COPY .. TO STDOUT` under way.
struct CopyOut<'c> {
    inner: BoxStream<'c, Result<Bytes, sqlx::Error>>,
    is_busy: &'c mut bool,
}

impl Stream for CopyOut<'_> {
    type Item = Result<Bytes, Fault>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let item = ready!(self.inner.poll_next_unpin(context));
        match &item {
            Some(Ok(_)) => {}
            Some(Err(error)) => *self.is_busy = spoils(error),
            None => *self.is_busy = false,
        }
        Poll::Ready(item.map(|item| item.map_err(Fault::of)))
    }
}

/// A `COPY .. FROM STDIN` under way. Dropping it spoils the connection.
pub(crate) struct CopyIn<'c> {
    inner: sqlx::postgres::PgCopyIn<&'c mut PgConnection>,
    is_busy: &'c mut bool,
    /// As the server calls it when it says which row is at fault.
    table: Option<String>,
}

impl CopyIn<'_> {
    /// Sends octets; they need not end where a row ends. Each call is one message and one flush: a row a call takes three
    /// times as long as 4 KiB a call, and from there to 4 MiB it makes no difference.
    ///
    /// The server may have failed the COPY long before: it then takes what is sent and drops it, and says so only when
    /// [`CopyIn::finish`] asks. An error here is one of the network.
    pub(crate) async fn send(&mut self, octets: &[u8]) -> Result<(), Fault> {
        self.inner.send(octets).await.map(drop).map_err(Fault::of)
    }

    /// Ends it and answers how many rows were stored.
    ///
    /// After an error of the database the connection is usable, though an open transaction is not.
    pub(crate) async fn finish(self) -> Result<u64, Fault> {
        let outcome = self.inner.finish().await;
        *self.is_busy = outcome.as_ref().is_err_and(spoils);
        outcome.map_err(|error| Fault::of_copy(error, self.table.as_deref()))
    }

    /// Makes the server fail it, and with it an open transaction.
    ///
    /// The connection is usable afterwards, unless this answers an error: if the server had failed the COPY by itself
    /// before, that error is answered and the connection is spoilt.
    pub(crate) async fn abort(self) -> Result<(), Fault> {
        let outcome = self.inner.abort("given up").await;
        *self.is_busy = outcome.is_err();
        outcome.map_err(|error| Fault::of_copy(error, self.table.as_deref()))
    }
}

#[cfg(test)]
mod tests;
