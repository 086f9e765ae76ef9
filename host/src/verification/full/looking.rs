//! The records at fault on their way to the list: put in order, looked at some at a time, judged.
//!
//! Memory is bounded by the number of those that are looked at together. Nothing is read again of what `compare` says already of a
//! difference. Neighbours: `compare` brings the differences,
//! `second_look` looks, `suspect` judges, `listing` keeps what comes of it.

use std::collections::BTreeMap;

use whimbrel_plugin_api::Error;

use super::listing::{Listing, note};
use super::second_look::BothSides;
use super::suspect::{Rules, Suspect, Verdict};
use crate::events::{Failure, MismatchKind};
use crate::verification::pairs::{Difference, Place, Tally};

/// Differences that are put in order at one time, about 160 octets each. In the order of their places the records of a batch
/// are read at once.
pub(super) const DIFFERENCES_MAX: usize = 200_000;
/// Records that are looked at together.
const SUSPECTS_MAX: usize = 10_000;
/// Octets that what is known of these may take.
const SUSPECT_BYTES_MAX: usize = 32 * 1024 * 1024;
/// Octets that are kept of a record beside its fields: keys, labels and places.
const SUSPECT_BYTES: usize = 2 * 1024;
/// Octets that are kept of a field: its digest on both sides.
const FIELD_BYTES: usize = 32;
/// Octets that its values may take, if they are to be shown.
const VALUES_BYTES: usize = 1_024;

/// What was counted while records at fault were looked at.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Counts {
    pub(super) tally: Tally,
    /// Records that the sink lacks.
    pub(super) missing: u64,
    /// Records of the sink that could not be read and are listed by their key.
    pub(super) unreadable: u64,
    /// Records that are not equal though a declared loss touches them.
    pub(super) lossy: u64,
    /// Records that differed at first and are alike now: somebody has written to the sink meanwhile.
    pub(super) settled: u64,
    /// How many records the sink has got by that; less than none if it has lost some.
    pub(super) settled_more: i64,
}

/// Records at fault on their way to the list.
pub(super) struct Looking<'a, 'l> {
    pub(super) sides: BothSides<'a>,
    pub(super) rules: Rules<'a>,
    pub(super) suspects_max: usize,
    pub(super) listing: &'a mut Listing<'l>,
    pub(super) counts: Counts,
    /// Labels of records of the sink that could not be read and are not listed yet, each with the number of those that have it.
    pub(super) unnamed: BTreeMap<String, u64>,
}

/// As many of each as there are.
pub(super) fn unnamed(labels: &[String]) -> BTreeMap<String, u64> {
    let mut unnamed = BTreeMap::new();
    for label in labels {
        *unnamed.entry(label.clone()).or_default() += 1;
    }
    unnamed
}

impl Looking<'_, '_> {
    /// Looks at all of `found` and lists what differs.
    ///
    /// # Errors
    /// What a side brings, or a transform; `verification.work_file`, `workspace.unwritable`.
    pub(super) fn look(&mut self, mut found: Vec<Difference>) -> Result<(), Failure> {
        found.sort_by_key(|difference| (order(difference), difference.key));
        for some in found.chunks(self.suspects_max) {
            let mut suspects = Vec::with_capacity(some.len());
            for difference in some {
                suspects.push(Suspect::new(*difference, difference.source_record));
            }
            self.sides.look_again(&mut suspects)?;
            for suspect in &suspects {
                self.list(suspect)?;
            }
        }
        Ok(())
    }

    /// Lists those of the `unreadable_count` records of the sink that are not listed by their keys already, and answers what was
    /// counted.
    ///
    /// # Errors
    /// `workspace.unwritable`, `workspace.disk_full`.
    pub(super) fn end(self, unreadable_count: u64) -> Result<Counts, Error> {
        let mut left = unreadable_count.saturating_sub(self.counts.unreadable);
        for (label, count) in self.unnamed {
            for _ in 0..count.min(left) {
                let unreadable = note(MismatchKind::Unreadable, label.clone(), Vec::new());
                self.listing.add(unreadable, None)?;
                left -= 1;
            }
        }
        if left > 0 {
            let text = format!("{left} further records");
            self.listing
                .add(note(MismatchKind::Unreadable, text, Vec::new()), None)?;
        }
        Ok(self.counts)
    }

    fn list(&mut self, suspect: &Suspect) -> Result<(), Error> {
        let verdict = suspect.verdict(&self.rules);
        self.counts.lossy += suspect.lossy_count(&verdict);
        if verdict == Verdict::Equal && !self.rules.is_sample {
            let now = suspect.sink_now.as_ref().map_or(0, |seen| seen.copies);
            self.counts.settled += 1;
            self.counts.settled_more += now.cast_signed() - suspect.difference.sink_count.cast_signed();
        }
        if let Verdict::Differs { kind, .. } = verdict {
            self.counts.missing += u64::from(kind == MismatchKind::Missing);
            let is_of_sink = suspect.sink_now.is_none();
            if kind == MismatchKind::Unreadable && is_of_sink {
                self.counts.unreadable += 1;
                for label in &suspect.sink_labels {
                    if let Some(count) = self.unnamed.get_mut(label) {
                        *count = count.saturating_sub(1);
                    }
                }
            }
        }
        match suspect.mismatch(&verdict, &self.rules) {
            Some(mismatch) => self.listing.add(mismatch, suspect.sink_key.as_ref()),
            None => Ok(()),
        }
    }
}

/// By the side that has it and its place there, so that a list reads the same each time.
fn order(difference: &Difference) -> (bool, Option<Place>) {
    match difference.source {
        Some(place) => (false, Some(place)),
        None => (true, difference.sink),
    }
}

/// How many records with `field_count` fields are looked at together.
pub(super) fn suspects_max(field_count: usize, shows_values: bool) -> usize {
    let of_field = if shows_values {
        FIELD_BYTES + VALUES_BYTES
    } else {
        FIELD_BYTES
    };
    let bytes = SUSPECT_BYTES + of_field * field_count;
    (SUSPECT_BYTES_MAX / bytes).clamp(1, SUSPECTS_MAX)
}
