//! What has become of the writes of one or several requests.
//! Neighbours: `send` and `stored` judge, `flight` adds up, `session` makes receipts of it.

use whimbrel_plugin_api::source::RejectedRecord;

use super::policy::Meaning;
use super::request::Item;
use crate::error::RowFault;

/// What has become of writes.
#[derive(Debug, Default)]
pub(super) struct Judged {
    /// Those that are done, the skipped among them.
    pub(super) accepted: u64,
    pub(super) skipped: u64,
    /// By their numbers in the transaction.
    pub(super) rejected: Vec<RejectedRecord>,
    /// Writes that were sent, each as often as it was.
    pub(super) sent: u64,
    /// Requests that carried them.
    pub(super) request_count: u64,
}

impl Judged {
    pub(super) fn add(&mut self, other: Self) {
        self.accepted += other.accepted;
        self.skipped += other.skipped;
        self.rejected.extend(other.rejected);
        self.sent += other.sent;
        self.request_count += other.request_count;
    }

    pub(super) fn reject(&mut self, item: &Item, fault: RowFault) {
        self.rejected.push(RejectedRecord {
            record: item.path.clone(),
            row: Some(item.number),
            code: fault.code.to_owned(),
            message: fault.message,
            data: None,
        });
    }

    /// The document is there and stays.
    pub(super) fn skip(&mut self) {
        self.accepted += 1;
        self.skipped += 1;
    }

    /// A document is there that is none of ours.
    pub(super) fn leave(&mut self, item: &Item) {
        match item.policy.existing() {
            Meaning::Rejected(reason) => self.reject(item, reason),
            _ => self.skip(),
        }
    }
}
