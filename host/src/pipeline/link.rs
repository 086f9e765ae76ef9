//! A link joins two stages of the pipeline in memory: bounded in batches here, in bytes by the budget.
//!
//! With `staging: disk` files of [`super::staging`] stand between the stages instead.

use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, SendTimeoutError, Sender};
use whimbrel_plugin_api::source::RejectedRecord;
use whimbrel_plugin_api::{Batch, Cursor, Schema};

use super::budget::Share;
use crate::control::Stop;
use crate::events::Phase;

/// How often somebody who waits for room looks whether the run ends.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// What passes a link.
pub enum LinkItem {
    /// Records, with their share of the budget, and what has passed of the partition up to their last one.
    Batch(Batch, Share, Passed),
    /// From now on batches follow this schema, which has all fields of the one before and more.
    Grown(Arc<Schema>),
    /// Records that did not come as far as the sink, with the phase that refused them. They belong to what comes next: its cursor is
    /// the first one that is behind them.
    Rejected(Phase, Vec<RejectedRecord>),
    /// The partition is read to its end.
    End {
        /// The last cursor.
        cursor: Cursor,
        /// What has passed of the partition.
        passed: Passed,
    },
}

/// Records of one reading of a partition, from where it began.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Passed {
    /// Read.
    pub read: u64,
    /// Left out on purpose by transforms.
    pub filtered: u64,
    /// The snapshots at which they were read: a bit for the place of each among those of the collection.
    pub snapshots: u64,
    /// Whether further batches come of the same records that were read: until then there is no cursor to commit at.
    pub more: bool,
}

/// Both ends of a new link in which `batches` may wait. Few suffice: the budget bounds octets, and a reader that is far
/// ahead gains nothing.
pub fn link(batches: usize) -> (Sender<LinkItem>, Receiver<LinkItem>) {
    crossbeam_channel::bounded(batches)
}

/// Waits for room in the link; false if the run or the other end ends first.
pub fn push(link: &Sender<LinkItem>, item: LinkItem, stop: &Stop) -> bool {
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
