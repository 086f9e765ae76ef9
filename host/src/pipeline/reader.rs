//! Reads one stream to its end and pushes its batches into a link.
//! It waits for the byte budget and for its writer, never for longer than the run lasts.

use std::sync::atomic::Ordering;

use crossbeam_channel::{SendTimeoutError, Sender};
use std::time::Duration;
use whimbrel_plugin_api::source::Item;
use whimbrel_plugin_api::{Cursor, Error, ErrorKind};

use super::budget::Budget;
use super::counters::CollectionCounters;
use super::link::LinkItem;
use crate::control::Stop;
use crate::events::{Failure, Phase};
use crate::loader::observe::OpenedStream;

/// How often a reader that waits for its writer looks whether the run ends.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// Reads `stream` until it ends, fails, or the run stops.
///
/// # Errors
/// What the stream brings, and `source.unexpected_item` for items that belong to change streams.
pub fn read(
    mut stream: OpenedStream,
    link: &Sender<LinkItem>,
    counters: &CollectionCounters,
    budget: &Budget,
    stop: &Stop,
) -> Result<(), Failure> {
    let mut cursor = Cursor::start();
    while !stop.is_raised() {
        let item = match stream
            .next_item()
            .map_err(|failure| failure.in_phase(Phase::Extraction))?
        {
            Item::Schema(_) => continue,
            Item::Heartbeat { cursor: at } => {
                cursor = at;
                continue;
            }
            Item::Batch(batch) => {
                counters
                    .read
                    .fetch_add(batch.record_count() as u64, Ordering::Relaxed);
                counters.bytes.fetch_add(batch.facts.bytes, Ordering::Relaxed);
                cursor = batch.facts.cursor.clone();
                // What the maker says may be wrong; what is held in memory is counted here.
                let held = batch.records.get_array_memory_size() as u64;
                let Some(share) = budget.take(held, stop) else {
                    return Ok(());
                };
                LinkItem::Batch(batch, share)
            }
            Item::Rejected(records) => LinkItem::Rejected(records),
            Item::End => {
                push(link, LinkItem::End { cursor }, stop);
                return Ok(());
            }
            Item::TransactionEnd { .. } | Item::Truncate { .. } => {
                let error = Error::new(
                    ErrorKind::InvalidData,
                    "source.unexpected_item",
                    "the stream of a copy delivered an item of a change stream",
                );
                return Err(Failure::from(error).in_phase(Phase::Extraction));
            }
        };
        if !push(link, item, stop) {
            return Ok(());
        }
    }
    Ok(())
}

/// Waits for room in the link; false if the run ends first.
fn push(link: &Sender<LinkItem>, item: LinkItem, stop: &Stop) -> bool {
    let mut item = item;
    loop {
        match link.send_timeout(item, LOOK_INTERVAL) {
            Ok(()) => return true,
            Err(SendTimeoutError::Disconnected(_)) => return false,
            Err(SendTimeoutError::Timeout(back)) => {
                if stop.is_raised() {
                    return false;
                }
                item = back;
            }
        }
    }
}
