//! Removals on their way into a transaction: a statement a record, as many in a request as fit.
//!
//! Unlike records that are written, none of them is refused by itself. Neighbour: `pieces`, for those.

use std::collections::VecDeque;

use prost::bytes::Bytes;
use whimbrel_plugin_api::{Error, ErrorKind};

use super::fault::sql_error;
use super::guard::Guard;
use super::http::Http;
use super::transaction::{Setback, Transaction, chained, count_within, lost};

/// What is left to do, and what was done.
pub(super) struct Removing {
    queue: VecDeque<Bytes>,
    /// Records that were there.
    pub(super) removed: u64,
}

impl Removing {
    pub(super) fn new(queue: VecDeque<Bytes>) -> Self {
        Self { queue, removed: 0 }
    }

    /// Sends what is left, as far as one request goes; true once nothing is left.
    pub(super) fn advance(
        &mut self,
        transaction: &mut Transaction,
        http: &Http,
        guard: &Guard,
    ) -> Result<bool, Setback> {
        if self.queue.is_empty() {
            return Ok(true);
        }
        transaction.catch_up(http, guard)?;
        let count = count_within(self.queue.iter().map(Bytes::len));
        let statements: Vec<Bytes> = self.queue.iter().take(count).cloned().collect();
        let (answer, first) =
            transaction.send(http, guard, |first| chained(first, statements.into_iter()))?;
        if let Some(error) = (first..first + count).find_map(|step| answer.error(step)) {
            let error = sql_error(error, "remove records");
            transaction.drop_stream();
            return Err(Setback::of(error));
        }
        let changed: Option<Vec<u64>> = (first..first + count).map(|step| answer.changed(step)).collect();
        match changed {
            Some(changed) if !answer.is_autocommit => {
                self.removed += changed.into_iter().sum::<u64>();
                self.queue
                    .drain(..count)
                    .for_each(|statement| transaction.keep(statement));
                Ok(self.queue.is_empty())
            }
            // The last one has ended the transaction, as only a trigger can.
            Some(_) => {
                transaction.drop_stream();
                let message = "a trigger of the table undid the whole transaction";
                let error = Error::new(ErrorKind::Integrity, "turso.transaction_lost", message);
                Err(Setback::Fatal(error))
            }
            None => {
                transaction.drop_stream();
                Err(lost())
            }
        }
    }
}
