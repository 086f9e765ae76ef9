//! A link joins a reader to a writer: bounded in batches here, in bytes by the budget.
//!
//! Disk links (`staging: disk`) will be the same two ends over Arrow IPC files.

use crossbeam_channel::{Receiver, Sender};
use whimbrel_plugin_api::source::RejectedRecord;
use whimbrel_plugin_api::{Batch, Cursor};

use super::budget::Share;

/// Batches that may wait in one link. Small: the budget bounds octets, and a reader that is far ahead gains nothing.
pub const LINK_BATCHES_MAX: usize = 4;

/// What passes a link.
pub enum LinkItem {
    /// Records, with their share of the budget.
    Batch(Batch, Share),
    /// Records that the source could not deliver.
    Rejected(Vec<RejectedRecord>),
    /// The partition is read to its end.
    End {
        /// The last cursor.
        cursor: Cursor,
    },
}

/// Both ends of a new link.
pub fn link() -> (Sender<LinkItem>, Receiver<LinkItem>) {
    crossbeam_channel::bounded(LINK_BATCHES_MAX)
}
