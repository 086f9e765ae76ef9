//! The stream over a table: a task with a connection of its own that fills batches ahead of the host.
//!
//! The task reads, decodes and waits until the host has taken what is ready, so that memory stays bounded and the server
//! waits too. It ends with the stream, and when the host cancels.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::StreamExt as _;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use whimbrel_plugin_api::record_type::Schema;
use whimbrel_plugin_api::source::BatchBounds;
use whimbrel_plugin_api::{Error, Item, ReadRequest, RecordStream, Result};

use crate::client::Client;
use crate::codec::{HEADER, TRAILER};
use crate::connection::{Connection, Spare};
use crate::error::Fault;
use crate::names::quote;
use crate::rest::REST_COLUMN;

use super::answer::of_statement;
use super::batching::{Assembly, Layout};
use super::partition::Part;
use super::position::{Position, lost};
use super::query::Query;
use super::stored::{Stored, StoredField};

/// Batches that wait for the host while the next one is filled.
const BATCHES_AHEAD: usize = 1;
/// Keys that one statement looks up.
const KEYS_PER_STATEMENT: usize = 1_000;

/// What a stream reads: statements one after the other, and what to make of their rows.
pub(crate) struct Scan {
    course: Course,
    query: Query,
    layout: Layout,
    bounds: BatchBounds,
    snapshot: Option<String>,
    /// How a fault of a statement is told.
    error_of: fn(Fault) -> Error,
}

/// Which statements there are.
enum Course {
    /// What lies behind a position; at most so many records.
    Range {
        after: Option<Position>,
        limit: Option<u64>,
    },
    /// One for each chunk of keys.
    Lookup(Vec<String>),
}

impl Scan {
    /// Reads the part of a table that `request` asks for. `file` is the number of its file.
    ///
    /// # Errors
    /// For fields, ranges, parts and cursors that are none of this table, see [`Query`].
    pub(crate) fn new(stored: &Stored, request: &ReadRequest, file: u32, removes_nul: bool) -> Result<Self> {
        let mut scan = Self::prepare(stored, request, file, removes_nul)?;
        let after = match request.cursor.is_start() {
            true => None,
            false => Some(Position::from_cursor(&request.cursor)?),
        };
        if request.snapshot.is_none() && after.as_ref().is_some_and(|after| !after.is_key()) {
            return Err(lost("the table is read at no snapshot"));
        }
        // A cursor that is none of this table is refused here, before the stream.
        scan.query.copy(after.as_ref(), None)?;
        scan.course = Course::Range {
            after,
            limit: request.limit,
        };
        Ok(scan)
    }

    /// Reads the records with the given keys, rows of `VALUES`.
    ///
    /// # Errors
    /// As [`Scan::new`].
    pub(crate) fn lookup(
        stored: &Stored,
        request: &ReadRequest,
        keys: &[String],
        removes_nul: bool,
    ) -> Result<Self> {
        let mut scan = Self::prepare(stored, request, 0, removes_nul)?;
        let statements = keys
            .chunks(KEYS_PER_STATEMENT)
            .map(|keys| scan.query.lookup(stored, keys));
        scan.course = Course::Lookup(statements.collect());
        Ok(scan)
    }

    fn prepare(stored: &Stored, request: &ReadRequest, file: u32, removes_nul: bool) -> Result<Self> {
        let schema = stored.delivered(&request.columns, request.expected.as_ref())?;
        let fields: Vec<&StoredField> = schema
            .fields
            .iter()
            .filter_map(|field| stored.field(&field.name))
            .collect();
        let rest =
            Layout::has_rest(&schema, &fields).then(|| format!("t.{}::pg_catalog.text", quote(REST_COLUMN)));
        let mut query = Query::new(stored, &fields, rest, file, request.snapshot.as_deref());
        query.within(&Part::of(request.partition.as_ref())?, stored)?;
        if let Some(predicate) = &request.predicate {
            query.matching(predicate, stored)?;
        }
        let layout = Layout::new(schema, &fields, query.value_count(), removes_nul);
        Ok(Self {
            course: Course::Lookup(Vec::new()),
            query,
            layout,
            bounds: request.batch,
            snapshot: request.snapshot.clone(),
            error_of: Error::from,
        })
    }

    /// Reads what `statement` selects, one field for each of its columns.
    ///
    /// # Errors
    /// If the fields make no schema, as when two have the same name.
    pub(crate) fn statement(
        statement: &str,
        fields: &[StoredField],
        bounds: BatchBounds,
        removes_nul: bool,
    ) -> Result<Self> {
        let schema = Schema::new(fields.iter().map(|stored| stored.field.clone()).collect());
        schema.validate()?;
        let fields: Vec<&StoredField> = fields.iter().collect();
        let query = Query::of_statement(statement, &fields);
        Ok(Self {
            course: Course::Lookup(vec![query.copy(None, None)?]),
            layout: Layout::new(schema, &fields, query.value_count(), removes_nul),
            query,
            bounds,
            snapshot: None,
            error_of: of_statement,
        })
    }

    /// What the transaction must be told before.
    pub(crate) fn preparation(&self) -> &'static str {
        self.query.preparation()
    }

    async fn run(self, mut connection: Connection, spare: Option<Spare>, items: mpsc::Sender<Result<Item>>) {
        let outcome = match self.send_all(&mut connection, &items).await {
            Ok(()) => Ok(Item::End),
            Err(Stop::Failed(error)) => Err(error),
            // Nobody waits for anything any more.
            Err(Stop::Unwanted) => return connection.close().await,
        };
        match spare {
            Some(spare) if outcome.is_ok() && connection.run("COMMIT").await.is_ok() => {
                spare.give_back(connection).await;
            }
            _ => connection.close().await,
        }
        drop(items.send(outcome).await);
    }

    async fn send_all(
        &self,
        connection: &mut Connection,
        items: &mpsc::Sender<Result<Item>>,
    ) -> Result<(), Stop> {
        let mut assembly = Assembly::new(self.layout.clone(), self.bounds)?;
        let mut progress = Progress::default();
        match &self.course {
            Course::Lookup(statements) => {
                for statement in statements {
                    self.copy(statement, connection, &mut assembly, &mut progress, items)
                        .await?;
                }
            }
            Course::Range { after, limit } => {
                if let Some(Position::Number { count, .. }) = after {
                    progress.read = *count;
                }
                let mut after = after.clone();
                loop {
                    // Rejected records do not count, so others may have to be fetched in their place.
                    let left = limit.map(|limit| limit - progress.accepted);
                    if left == Some(0) {
                        break;
                    }
                    let statement = self.query.copy(after.as_ref(), left)?;
                    let count = self
                        .copy(&statement, connection, &mut assembly, &mut progress, items)
                        .await?;
                    if left.is_none_or(|left| count < left) {
                        break;
                    }
                    after = Some(self.position(&progress)?);
                }
            }
        }
        self.send(&mut assembly, &mut progress, items).await
    }

    /// Runs one COPY and answers how many rows it gave.
    async fn copy(
        &self,
        statement: &str,
        connection: &mut Connection,
        assembly: &mut Assembly,
        progress: &mut Progress,
        items: &mpsc::Sender<Result<Item>>,
    ) -> Result<u64, Stop> {
        let mut rows = connection.copy_out(statement).await.map_err(self.error_of)?;
        let read_before = progress.read;
        let mut is_first = true;
        while let Some(message) = rows.next().await {
            let mut row = message.map_err(self.error_of)?;
            if std::mem::take(&mut is_first) {
                if !row.starts_with(HEADER) {
                    return Err(Error::internal("the database sent no binary COPY").into());
                }
                row = row.slice(HEADER.len()..);
            }
            if row.is_empty() || *row == *TRAILER {
                continue;
            }
            if assembly.is_full(row.len()) {
                self.send(assembly, progress, items).await?;
            }
            progress.read += 1;
            let count = progress.read;
            if assembly.push(&row, |row| self.label(row, count))? {
                progress.accepted += 1;
            }
            progress.last = row;
        }
        Ok(progress.read - read_before)
    }

    async fn send(
        &self,
        assembly: &mut Assembly,
        progress: &mut Progress,
        items: &mpsc::Sender<Result<Item>>,
    ) -> Result<(), Stop> {
        let (rejected, batch) = assembly.finish()?;
        if !rejected.is_empty() {
            items.send(Ok(Item::Rejected(rejected))).await?;
        }
        if let Some(mut batch) = batch {
            if matches!(self.course, Course::Range { .. }) {
                batch.facts.cursor = self.position(progress)?.to_cursor();
            }
            batch.facts.snapshot.clone_from(&self.snapshot);
            batch.facts.sequence = progress.sequence;
            progress.sequence += 1;
            items.send(Ok(Item::Batch(batch))).await?;
        }
        Ok(())
    }

    fn position(&self, progress: &Progress) -> Result<Position> {
        let position = self.query.position(&progress.last, progress.read);
        position.ok_or_else(|| Error::internal("the key of a row has an unexpected form"))
    }

    /// How a person finds the record.
    fn label(&self, row: &[u8], count: u64) -> String {
        match self.query.position(row, count) {
            Some(Position::Key { values, .. }) => values.join(", "),
            Some(Position::Place { block, item, .. }) => format!("row ({block},{item})"),
            Some(Position::Number { .. }) | None => format!("record number {count}"),
        }
    }
}

/// How far a stream is.
#[derive(Default)]
struct Progress {
    /// Rows that were read, rejected ones among them.
    read: u64,
    /// Rows that were not rejected.
    accepted: u64,
    sequence: u64,
    /// The last one.
    last: Bytes,
}

/// Why a task ends early.
enum Stop {
    Failed(Error),
    /// The stream is gone.
    Unwanted,
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

impl<T> From<mpsc::error::SendError<T>> for Stop {
    fn from(_: mpsc::error::SendError<T>) -> Self {
        Self::Unwanted
    }
}

/// A stream over one table.
pub(crate) struct TableStream {
    client: Client,
    schema: Option<Arc<Schema>>,
    items: mpsc::Receiver<Result<Item>>,
    task: AbortHandle,
}

impl TableStream {
    /// Starts to read on `connection`, whose transaction is open and prepared. Read to its end it goes to `spare`.
    pub(crate) fn start(client: Client, connection: Connection, scan: Scan, spare: Option<Spare>) -> Self {
        let schema = Arc::clone(&scan.layout.schema);
        let (sender, items) = mpsc::channel(BATCHES_AHEAD);
        let cancelled = client.services().cancel_token().cancelled();
        let task = client.spawn(async move {
            tokio::select! {
                biased;
                () = scan.run(connection, spare, sender) => {}
                () = cancelled => {}
            }
        });
        Self {
            client,
            schema: Some(schema),
            items,
            task: task.abort_handle(),
        }
    }
}

impl RecordStream for TableStream {
    fn next(&mut self) -> Result<Item> {
        if let Some(schema) = self.schema.take() {
            return Ok(Item::Schema(schema));
        }
        let items = &mut self.items;
        self.client.block_on(async {
            let ended = || Error::internal("the task that reads ended without a word");
            items.recv().await.ok_or_else(ended)?
        })
    }
}

impl Drop for TableStream {
    fn drop(&mut self) {
        self.task.abort();
    }
}
