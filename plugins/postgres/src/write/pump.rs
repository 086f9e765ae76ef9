//! One COPY into the database, beside the thread that encodes the rows: a task owns the connection until the COPY has
//! ended, octets come to it over a short channel, and the buffers come back to be filled again.
//!
//! So encoding and sending overlap, and who encodes faster than the server takes waits. Neighbour: [`super::Writer`].

use std::future::Future;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use whimbrel_plugin_api::{Error, Result};

use crate::client::Client;
use crate::codec::{HEADER, TRAILER};
use crate::connection::Connection;
use crate::error::Fault;

/// Octets that are sent together.
pub(super) const CHUNK_BYTES: usize = 256 * 1024;
/// The largest buffer that is kept to be filled again.
const BUFFER_BYTES_MAX: usize = 4 * CHUNK_BYTES;
/// Chunks that wait to be sent.
const CHUNKS_WAITING_MAX: usize = 4;

enum Order {
    Send(Vec<u8>),
    Finish,
}

/// A COPY under way.
pub(super) struct Pump {
    orders: mpsc::Sender<Order>,
    empty: mpsc::Receiver<Vec<u8>>,
    task: JoinHandle<(Connection, Result<u64, Fault>)>,
}

impl Pump {
    /// Runs the statements of `opening`, if any, and then `copy`.
    pub(super) fn start(client: &Client, connection: Connection, opening: String, copy: String) -> Self {
        let (orders, taken) = mpsc::channel(CHUNKS_WAITING_MAX);
        let (given_back, empty) = mpsc::channel(CHUNKS_WAITING_MAX + 2);
        Self {
            orders,
            empty,
            task: client.spawn(run(connection, opening, copy, taken, given_back)),
        }
    }

    /// Hands over `chunk` and puts an empty buffer in its place. Answers whether the COPY still takes octets; if not,
    /// [`Pump::finish`] says why.
    ///
    /// # Errors
    /// That the host cancelled.
    pub(super) fn send(&mut self, client: &Client, chunk: &mut Vec<u8>) -> Result<bool> {
        let next = self
            .empty
            .try_recv()
            .unwrap_or_else(|_| Vec::with_capacity(CHUNK_BYTES + CHUNK_BYTES / 4));
        let full = std::mem::replace(chunk, next);
        match self.orders.try_send(Order::Send(full)) {
            Ok(()) => Ok(true),
            Err(mpsc::error::TrySendError::Closed(_)) => Ok(false),
            Err(mpsc::error::TrySendError::Full(order)) => {
                client.block_on(async { Ok(self.orders.send(order).await.is_ok()) })
            }
        }
    }

    /// Ends the COPY; gives the connection back, with the count of stored rows or what went wrong.
    ///
    /// # Errors
    /// That the host cancelled; the connection is cut off then.
    pub(super) fn finish(self, client: &Client) -> Result<(Connection, Result<u64, Fault>)> {
        let orders = self.orders.clone();
        self.end(client, async move {
            // Where nobody takes orders any more, the task has ended with an error.
            drop(orders.send(Order::Finish).await);
        })
    }

    /// Gives the COPY up; its transaction has failed then.
    ///
    /// # Errors
    /// As [`Pump::finish`].
    pub(super) fn give_up(mut self, client: &Client) -> Result<Connection> {
        // The task sees that nobody is left to order anything.
        self.orders = mpsc::channel(1).0;
        self.end(client, async {}).map(|(connection, _)| connection)
    }

    fn end(
        mut self,
        client: &Client,
        last_order: impl Future<Output = ()>,
    ) -> Result<(Connection, Result<u64, Fault>)> {
        client.block_on(async {
            last_order.await;
            (&mut self.task)
                .await
                .map_err(|error| Error::internal("the task of a COPY ended early").with_cause(&error))
        })
    }
}

impl Drop for Pump {
    /// Drops the connection unless it was given back, and with it what runs on the server.
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn run(
    mut connection: Connection,
    opening: String,
    copy: String,
    orders: mpsc::Receiver<Order>,
    given_back: mpsc::Sender<Vec<u8>>,
) -> (Connection, Result<u64, Fault>) {
    let outcome = transfer(&mut connection, &opening, &copy, orders, given_back).await;
    (connection, outcome)
}

async fn transfer(
    connection: &mut Connection,
    opening: &str,
    copy: &str,
    mut orders: mpsc::Receiver<Order>,
    given_back: mpsc::Sender<Vec<u8>>,
) -> Result<u64, Fault> {
    if !opening.is_empty() {
        connection.run(opening).await?;
    }
    let mut copy = connection.copy_in(copy).await?;
    copy.send(HEADER).await?;
    loop {
        match orders.recv().await {
            Some(Order::Send(mut octets)) => {
                copy.send(&octets).await?;
                octets.clear();
                // One too many is let go, and so is one that a large record has stretched.
                if octets.capacity() <= BUFFER_BYTES_MAX {
                    drop(given_back.try_send(octets));
                }
            }
            Some(Order::Finish) => {
                copy.send(TRAILER).await?;
                return copy.finish().await;
            }
            None => {
                copy.abort().await?;
                return Err(Fault::of_error(Error::internal("a COPY was given up")));
            }
        }
    }
}
