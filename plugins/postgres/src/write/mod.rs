//! Brings batches into tables, one transaction at a time, over one connection.
//!
//! Into a table that was empty, rows are copied straight; all others go into a staging table of the transaction and from there by
//! one statement that follows the policy (`statement`). Either way a COPY stays open over the calls of `write` (`pump`), so
//! that which records are refused is known at `flush` (`judging`); if some are, `pieces` finds them. `removing` takes records away, `ending` has the ways
//! out of a transaction. `layout` says which column goes where, `rows` makes the octets, `rejected` the reasons. Who is
//! written, and when, is the sink's matter.

mod cascading;
mod ending;
mod judging;
mod layout;
mod pieces;
mod pump;
mod rejected;
mod removing;
mod rows;
mod statement;

use std::collections::HashSet;
use std::sync::Arc;

use whimbrel_plugin_api::sink::LaneId;
use whimbrel_plugin_api::{Batch, ConflictPolicy, Error, ErrorKind, ErrorScope, Receipt, Result};

use crate::client::Client;
use crate::connection::Connection;
use crate::error::Fault;
use crate::lanes::LaneKey;
use crate::names::TableName;
use crate::target::Target;
use crate::type_mapping::TypeSettings;
use layout::Layout;
use pump::{CHUNK_BYTES, Pump};
use rejected::Labels;
use rows::{Rows, Way};

/// Octets of Arrow arrays after which a transaction wants to be committed. They are kept until it is flushed, and a commit
/// costs no more than some milliseconds.
const COMMIT_DUE_BYTES: u64 = 32 * 1024 * 1024;

/// Makes the server look every second whether we are still there while it works on a statement: a run that was cancelled must not
/// go on there. Servers before 14, and those on Windows, do not know how.
const GUARD: &str = "SELECT set_config('client_connection_check_interval', '1s', true) \
    WHERE current_setting('client_connection_check_interval', true) IS NOT NULL AND version() !~* 'visual c|mingw';";

/// One writing session.
pub(crate) struct Writer {
    client: Client,
    settings: TypeSettings,
    /// Between two uses; a COPY under way has it.
    connection: Option<Connection>,
    open: Option<Open>,
    /// Tables that had a record twice: nothing is copied straight into them any more.
    merged: HashSet<TableName>,
}

/// The open transaction.
#[derive(Default)]
struct Open {
    /// Records written since its start, the rejected among them.
    record_count: u64,
    size_bytes: u64,
    load: Option<Load>,
    /// What is known of records that were deferred.
    judged: Receipt,
    is_guarded: bool,
    /// Whether the savepoint of a COPY is still there.
    is_saved: bool,
}

/// Records on their way into one table.
struct Load {
    layout: Arc<Layout>,
    way: Way,
    /// What was written, in order.
    parts: Vec<Part>,
    row_count: u64,
    chunk: Vec<u8>,
    pump: Pump,
    /// Nothing more can be sent.
    is_broken: bool,
}

/// A batch.
struct Part {
    batch: Batch,
    /// The number of its first record in the transaction.
    first: u64,
    /// How many of its records were sent.
    sent: u64,
}

impl Writer {
    /// Connects when it is first needed.
    pub(crate) fn new(client: Client, settings: TypeSettings) -> Self {
        Self {
            client,
            settings,
            connection: None,
            open: None,
            merged: HashSet::new(),
        }
    }

    /// Opens a transaction of this lane, by which it is found until its end.
    ///
    /// # Errors
    /// Of scope session if there is no connection to be had.
    pub(crate) fn begin(&mut self, lane: &LaneId) -> Result<()> {
        if self.open.is_some() {
            return Err(Error::internal("a transaction is open already"));
        }
        // What lay idle may have been ended by the server; nothing is lost by that.
        let is_used = self.connection.is_some();
        let hold = LaneKey::new(&self.client.config().state_schema, lane).hold_statement();
        let outcome = self.try_begin(&hold)?;
        if is_used && outcome.is_err() && self.connection.is_none() {
            self.try_begin(&hold)?.map_err(|fault| self.end_by(fault))?;
        } else {
            outcome.map_err(|fault| self.end_by(fault))?;
        }
        self.open = Some(Open::default());
        Ok(())
    }

    fn try_begin(&mut self, hold: &str) -> Result<Result<(), Fault>> {
        if self.connection.is_none() {
            let connection = self.client.block_on(async { self.client.connect().await })?;
            self.connection = Some(connection);
        }
        self.on(async |connection| connection.begin_with(hold).await)
    }

    /// Takes a batch into the transaction. Records that can be sent are deferred; the others are rejected at once.
    ///
    /// # Errors
    /// Of scope write if the batch does not fit the table, without effect; of scope transaction or session if the
    /// transaction is gone.
    pub(crate) fn write(
        &mut self,
        collection: &str,
        target: &Arc<Target>,
        batch: &Batch,
        policy: ConflictPolicy,
    ) -> Result<Receipt> {
        let Some(open) = &self.open else {
            return Err(no_transaction());
        };
        let fits = |load: &&Load| load.layout.serves(target, &batch.schema, policy) && !load.is_broken;
        if open.load.as_ref().filter(fits).is_none() {
            let layout = Layout::new(collection, target, &batch.schema, policy, self.settings)?;
            self.settle()?;
            self.start(Arc::new(layout))?;
        }
        let outcome = self.feed(batch);
        if outcome.is_err() {
            self.lose();
        }
        let is_broken = |load: &Load| load.is_broken;
        if self
            .open
            .as_ref()
            .and_then(|open| open.load.as_ref())
            .is_some_and(is_broken)
        {
            self.settle()?;
        }
        outcome
    }

    /// Judges all records that were deferred. Their numbers in the receipt count from the start of the transaction.
    ///
    /// # Errors
    /// Of scope transaction or session: the transaction is gone.
    pub(crate) fn flush(&mut self) -> Result<Receipt> {
        self.settle()?;
        Ok(self
            .open
            .as_mut()
            .map(|open| std::mem::take(&mut open.judged))
            .unwrap_or_default())
    }

    /// Opens a COPY for records of this layout.
    fn start(&mut self, layout: Arc<Layout>) -> Result<()> {
        let target = &layout.target;
        let has_nothing_to_meet =
            target.was_empty || layout.key.is_empty() || layout.policy == ConflictPolicy::Append;
        let way = match target.takes_copy && has_nothing_to_meet && !self.merged.contains(&target.table) {
            true => Way::Direct,
            false => Way::Staged,
        };
        self.start_by(layout, way, "")
    }

    fn start_by(&mut self, layout: Arc<Layout>, way: Way, before: &str) -> Result<()> {
        let open = self.open.as_mut().ok_or_else(no_transaction)?;
        let connection = self.connection.take().ok_or_else(no_connection)?;
        let mut opening = before.to_owned();
        if before.is_empty() && std::mem::take(&mut open.is_saved) {
            // Else each COPY of the transaction would be in a subtransaction of the one before it.
            opening += "RELEASE SAVEPOINT whimbrel_load;";
        }
        if !std::mem::replace(&mut open.is_guarded, true) {
            opening += GUARD;
        }
        if layout.target.has_deferred_constraints {
            // Else a violation would show in COMMIT, when nothing can be taken apart any more.
            opening += "SET CONSTRAINTS ALL IMMEDIATE;";
        }
        let copy = match way {
            Way::Direct => {
                opening += "SAVEPOINT whimbrel_load;";
                open.is_saved = true;
                layout.copy_statement()
            }
            Way::Staged => {
                opening += &layout.stage_statement();
                layout.stage_copy_statement()
            }
        };
        open.load = Some(Load {
            layout,
            way,
            parts: Vec::new(),
            row_count: 0,
            chunk: Vec::with_capacity(CHUNK_BYTES + CHUNK_BYTES / 4),
            pump: Pump::start(&self.client, connection, opening, copy),
            is_broken: false,
        });
        Ok(())
    }

    /// Sends the records of a batch.
    fn feed(&mut self, batch: &Batch) -> Result<Receipt> {
        let (Some(open), client) = (&mut self.open, &self.client) else {
            return Err(no_transaction());
        };
        let load = open.load.as_mut().ok_or_else(no_transaction)?;
        let mut part = Part {
            batch: batch.clone(),
            first: open.record_count,
            sent: 0,
        };
        let mut receipt = Receipt::default();
        load.send(client, &part, &mut receipt)?;
        part.sent = receipt.deferred;
        load.parts.push(part);
        open.record_count += batch.record_count() as u64;
        open.size_bytes += batch.facts.bytes;
        receipt.commit_due = open.size_bytes >= COMMIT_DUE_BYTES;
        Ok(receipt)
    }

    /// Does something with the connection; it is gone afterwards if it is of no more use.
    ///
    /// # Errors
    /// The outer ones: that the host cancelled, or that there is no connection.
    fn on<T>(
        &mut self,
        work: impl AsyncFnOnce(&mut Connection) -> Result<T, Fault>,
    ) -> Result<Result<T, Fault>> {
        let mut connection = self.connection.take().ok_or_else(no_connection)?;
        let (connection, outcome) = self.client.block_on(async move {
            let outcome = work(&mut connection).await;
            Ok((connection, outcome))
        })?;
        self.connection = Some(connection).filter(|connection| !connection.is_spoilt());
        Ok(outcome)
    }

    /// Lets the connection go, and the transaction with it.
    fn lose(&mut self) {
        self.open = None;
        self.connection = None;
    }
}

impl Load {
    /// Sends the records of a part; `receipt` gets what becomes of them.
    ///
    /// # Errors
    /// That the host cancelled, or that the batch is not what its schema says.
    fn send(&mut self, client: &Client, part: &Part, receipt: &mut Receipt) -> Result<()> {
        let layout = Arc::clone(&self.layout);
        let mut rows = Rows::new(&layout, &part.batch, part.first, self.way)?;
        let mut labels = None;
        for row in 0..part.batch.record_count() {
            if let Err(fault) = rows.write(row, &mut self.chunk) {
                let labels = labels.get_or_insert_with(|| Labels::new(&layout, &part.batch));
                receipt.rejected.push(labels.faulty(row, fault));
                continue;
            }
            receipt.deferred += 1;
            if self.chunk.len() >= CHUNK_BYTES {
                self.ship(client)?;
            }
        }
        self.row_count += receipt.deferred;
        Ok(())
    }

    fn ship(&mut self, client: &Client) -> Result<()> {
        if self.is_broken {
            self.chunk.clear();
        } else if !self.chunk.is_empty() {
            self.is_broken = !self.pump.send(client, &mut self.chunk)?;
        }
        Ok(())
    }
}

fn no_transaction() -> Error {
    Error::internal("no transaction is open").with_scope(ErrorScope::Transaction)
}

fn no_connection() -> Error {
    Error::new(
        ErrorKind::Unavailable,
        "postgres.connection_lost",
        "the connection to the database was lost",
    )
}
