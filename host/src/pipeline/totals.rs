//! What the receipts of one open transaction add up to.
//!
//! Rows of rejected records are rows of their batch, however the batch was cut for the sink and whoever judged it: `write`
//! counts within its own records, `flush` over all records since `begin`. Neighbour: `transaction`, which asks the sink.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};

use whimbrel_plugin_api::sink::Receipt;
use whimbrel_plugin_api::{Batch, Collection};

use super::refused::{self, Refused};
use crate::verification::side::Digest;

/// A rejected record of a transaction, the same in every try of it: a sink may refuse others the next time, or in another order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Which {
    /// The number of its batch and its row there.
    Row(usize, u64),
    /// The sink does not say which: so many of them came before it.
    Unnamed(usize),
}

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
    /// Which records `rejected` are, one for one.
    which: Vec<Which>,
    /// Of these, those that the sink does not name.
    unnamed: usize,
    /// Those that were told already, before tries that failed as well; without their data.
    told: HashMap<Which, Refused>,
    /// For each batch, how many records were written before it.
    firsts: Vec<u64>,
    written: u64,
}

impl Totals {
    /// Those of a transaction that is written again; what these have told is known to those who want to know.
    pub(super) fn again(self) -> Self {
        Self {
            told: self.told,
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
        let batch = self.firsts.len().saturating_sub(1);
        self.add(receipt, |row| (batch, row + first as u64));
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
        self.add(receipt, place);
        self.firsts = firsts;
        self.deferred = 0;
        places
    }

    fn add(&mut self, receipt: Receipt, place: impl Fn(u64) -> (usize, u64)) {
        self.records += receipt.accepted;
        self.skipped += receipt.skipped;
        self.commit_due |= receipt.commit_due;
        for mut record in receipt.rejected {
            self.which.push(match record.row.map(&place) {
                Some((batch, row)) => {
                    record.row = Some(row);
                    Which::Row(batch, row)
                }
                None => {
                    self.unnamed += 1;
                    Which::Unnamed(self.unnamed)
                }
            });
            self.rejected.push(Refused::from(record));
        }
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

    /// How many rejected records were not told yet.
    pub(super) fn untold_count(&self) -> usize {
        self.which
            .iter()
            .filter(|which| !self.told.contains_key(which))
            .count()
    }

    /// Takes the rejected records that were not told yet.
    pub(super) fn take_untold(&mut self) -> Vec<Refused> {
        let all = self.which.iter().zip(&self.rejected);
        let mut untold = Vec::new();
        for (which, refused) in all {
            if let Entry::Vacant(place) = self.told.entry(*which) {
                place.insert(refused.without_data());
                untold.push(refused.clone());
            }
        }
        untold
    }

    /// If a record was told that this try has not refused, takes back all that were told, so that those of this try are told again. Asked
    /// when all records are judged.
    pub(super) fn take_back(&mut self) -> Vec<Refused> {
        let refused: HashSet<&Which> = self.which.iter().collect();
        match self.told.keys().all(|told| refused.contains(told)) {
            true => Vec::new(),
            false => self.told.drain().map(|(_, refused)| refused).collect(),
        }
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
        let mut again = totals.again();
        again.begin_batch();
        again.add_write(rejecting(&[0, 1, 2], 0, 0), 0, 3);
        assert_eq!((again.untold_count(), again.take_untold().len()), (1, 1));
    }

    #[test]
    fn what_a_later_try_takes_is_taken_back_and_the_others_are_told_again() {
        let mut totals = Totals::default();
        totals.begin_batch();
        totals.add_write(rejecting(&[0, 1], 1, 0), 0, 3);
        assert_eq!(totals.take_untold().len(), 2);
        assert!(totals.take_back().is_empty(), "all of them are refused");
        let mut again = totals.again();
        again.begin_batch();
        again.add_write(rejecting(&[1], 2, 0), 0, 3);
        assert!(again.take_untold().is_empty());
        let mut back: Vec<_> = again.take_back().into_iter().map(|one| one.record.row).collect();
        back.sort_unstable();
        assert_eq!(back, [Some(0), Some(1)]);
        let told: Vec<_> = again
            .take_untold()
            .into_iter()
            .map(|one| one.record.row)
            .collect();
        assert_eq!(told, [Some(1)]);
        assert!(again.take_back().is_empty());
    }

    #[test]
    fn a_try_that_refuses_others_tells_those_and_no_record_twice() {
        let mut totals = Totals::default();
        totals.begin_batch();
        totals.begin_batch();
        totals.add_write(rejecting(&[], 0, 20), 0, 20);
        totals.add_flush(rejecting(&[10], 19, 0));
        assert_eq!(totals.take_untold().len(), 1);
        // The next try judges in another order, a row of that number in another batch among them, and one without a place.
        let mut again = totals.again();
        again.begin_batch();
        again.add_write(rejecting(&[10], 10, 0), 0, 11);
        again.begin_batch();
        again.add_write(rejecting(&[], 0, 20), 0, 20);
        let mut receipt = rejecting(&[14, 21], 18, 0);
        receipt.rejected.push(RejectedRecord {
            row: None,
            ..receipt.rejected[0].clone()
        });
        again.add_flush(receipt);
        let told = again.take_untold();
        let rows: Vec<_> = told.iter().map(|record| record.row).collect();
        assert_eq!(rows, [Some(10), Some(3), None]);
        assert_eq!(again.rejected.len(), 4);
        assert!(again.take_untold().is_empty());
    }
}
