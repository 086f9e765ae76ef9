//! What the receipts of one open transaction add up to.
//!
//! Rows of rejected records are rows of their batch, however the batch was cut for the sink and whoever judged it: `write`
//! counts within its own records, `flush` over all records since `begin`. Neighbour: `transaction`, which asks the sink.

use whimbrel_plugin_api::sink::Receipt;
use whimbrel_plugin_api::{Batch, Collection};

use super::refused::{self, Refused};
use crate::verification::side::Digest;

/// See the module.
#[derive(Default)]
pub(super) struct Totals {
    /// Records that the sink has accepted.
    pub(super) records: u64,
    /// Of these, left as they were by policy.
    pub(super) skipped: u64,
    /// Records that it has refused.
    pub(super) rejected: Vec<Refused>,
    /// Records that it has taken and not judged.
    pub(super) deferred: u64,
    /// By what those are known in a comparison.
    pub(super) left_out: Vec<Digest>,
    /// Whether the sink would rather commit than take more.
    pub(super) commit_due: bool,
    /// Of `rejected`, those that were told already, before a try that failed.
    pub(super) told: usize,
    /// For each batch, how many records were written before it.
    firsts: Vec<u64>,
    written: u64,
}

impl Totals {
    /// Those of a transaction that is written again; `told` rejected records are known to those who want to know.
    pub(super) fn again(told: usize) -> Self {
        Self {
            told,
            ..Self::default()
        }
    }

    /// A batch will be written.
    pub(super) fn begin_batch(&mut self) {
        self.firsts.push(self.written);
    }

    /// `count` records of the batch were written, the first of them in row `first`.
    pub(super) fn add_write(&mut self, receipt: Receipt, first: usize, count: usize) {
        self.written += count as u64;
        self.deferred += receipt.deferred;
        self.add(receipt, |row| row + first as u64);
    }

    /// What was deferred is judged; answers batch and row of each rejected record.
    pub(super) fn add_flush(&mut self, receipt: Receipt) -> Vec<(usize, u64)> {
        let firsts = std::mem::take(&mut self.firsts);
        let place = |row: u64| {
            let batch = firsts.partition_point(|first| *first <= row).saturating_sub(1);
            (batch, row - firsts.get(batch).unwrap_or(&0))
        };
        let rejected = receipt.rejected.iter();
        let places = rejected.filter_map(|record| record.row.map(place)).collect();
        self.add(receipt, |row| place(row).1);
        self.firsts = firsts;
        self.deferred = 0;
        places
    }

    fn add(&mut self, receipt: Receipt, row: impl Fn(u64) -> u64) {
        self.records += receipt.accepted;
        self.skipped += receipt.skipped;
        self.commit_due |= receipt.commit_due;
        let rejected = receipt.rejected.into_iter().map(|mut record| {
            record.row = record.row.map(&row);
            Refused::from(record)
        });
        self.rejected.extend(rejected);
    }

    /// Adds what is kept of the records that were refused since there were `before` of them, all of which are rows of `batch`. `whole` is
    /// that batch before fields were held back from it.
    pub(super) fn complete(&mut self, before: usize, collection: &Collection, batch: &Batch, whole: &Batch) {
        let refused = self.rejected.get_mut(before..).unwrap_or_default();
        refused::complete(collection, batch, whole, refused);
        self.left_out.extend(refused.iter().filter_map(|one| one.digest));
    }

    /// The same after [`Totals::add_flush`] has answered `places`; `batch` finds a batch by its number, as it was written and whole.
    pub(super) fn complete_flushed<'b>(
        &mut self,
        before: usize,
        places: &[(usize, u64)],
        collection: &Collection,
        batch: impl Fn(usize) -> Option<(&'b Batch, &'b Batch)>,
    ) {
        let refused = self.rejected.get_mut(before..).unwrap_or_default();
        let placed = refused.iter_mut().filter(|one| one.record.row.is_some());
        for (one, (number, _)) in placed.zip(places) {
            if let Some((batch, whole)) = batch(*number) {
                refused::complete(collection, batch, whole, std::slice::from_mut(one));
                self.left_out.extend(one.digest);
            }
        }
    }

    /// Records that were written, whatever became of them.
    pub(super) fn count(&self) -> u64 {
        self.written
    }

    /// Takes the rejected records that were not told yet.
    pub(super) fn take_untold(&mut self) -> Vec<Refused> {
        let told = self.told.min(self.rejected.len());
        self.told = self.rejected.len();
        self.rejected[told..].to_vec()
    }
}

#[cfg(test)]
mod tests {
    use whimbrel_plugin_api::source::RejectedRecord;

    use super::*;

    fn rejecting(rows: &[u64], accepted: u64, deferred: u64) -> Receipt {
        let rejected = rows.iter().map(|row| RejectedRecord {
            record: format!("number {row}"),
            row: Some(*row),
            code: "a.b".into(),
            message: "m".into(),
            data: None,
        });
        Receipt {
            accepted,
            rejected: rejected.collect(),
            deferred,
            ..Receipt::default()
        }
    }

    fn rows(totals: &Totals) -> Vec<u64> {
        totals.rejected.iter().filter_map(|record| record.row).collect()
    }

    #[test]
    fn rows_are_those_of_the_batch_whoever_judges() {
        let mut totals = Totals::default();
        // Three batches of 5, 0 and 4 records, cut into writes of 3.
        totals.begin_batch();
        totals.add_write(rejecting(&[2], 2, 0), 0, 3);
        totals.add_write(rejecting(&[1], 0, 1), 3, 2);
        totals.begin_batch();
        totals.begin_batch();
        totals.add_write(rejecting(&[], 0, 3), 0, 3);
        totals.add_write(rejecting(&[], 0, 1), 3, 1);
        assert_eq!(
            (totals.records, totals.deferred, totals.count(), rows(&totals)),
            (2, 5, 9, vec![2, 4])
        );
        let places = totals.add_flush(rejecting(&[3, 5, 8], 2, 0));
        assert_eq!(places, [(0, 3), (2, 0), (2, 3)]);
        assert_eq!(
            (totals.records, totals.deferred, rows(&totals)),
            (4, 0, vec![2, 4, 3, 0, 3])
        );
    }

    #[test]
    fn what_was_told_before_is_not_told_again() {
        let mut totals = Totals::default();
        totals.begin_batch();
        totals.add_write(rejecting(&[0, 1], 1, 0), 0, 3);
        assert_eq!(totals.take_untold().len(), 2);
        assert_eq!(totals.take_untold().len(), 0);
        let mut again = Totals::again(totals.told);
        again.begin_batch();
        again.add_write(rejecting(&[0, 1, 2], 0, 0), 0, 3);
        assert_eq!(again.take_untold().len(), 1);
        assert_eq!(Totals::again(7).take_untold().len(), 0);
    }
}
