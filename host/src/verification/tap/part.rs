//! The tap of one partition in one thread: turns each batch into digests and appends them to the partition's file.
//!
//! It holds no lock for a batch; only the beginning and the end of a partition are told to `copy_taps`. What goes wrong ends
//! the digests of the collection, not the copy.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use whimbrel_plugin_api::source::RejectedRecord;
use whimbrel_plugin_api::{Batch, Cursor, Error, ErrorKind};

use super::copy_taps::{At, Shared};
use crate::events::{LossCount, SnapshotsRead};
use crate::verification::bucket::Buckets;
use crate::verification::digest::{Digester, Pair, Recipe};
use crate::verification::pairs::PairWriter;

/// Octets that stay free on the disk: what a run has to write down of itself is worth more than digests.
const FREE_BYTES_MIN: u64 = 256 * 1024 * 1024;
/// How often that is looked at, in octets that were written.
const LOOK_BYTES: u64 = 8 * 1024 * 1024;
/// Octets of a pair on disk.
const PAIR_BYTES: u64 = 32;
/// Labels of records that are kept; further ones are counted.
const LABELS_MAX: usize = 50;

/// See the module.
pub struct Tap {
    shared: Arc<Shared>,
    collection: usize,
    part: usize,
    can_resume: bool,
    /// Where what comes next can be read again, if that is known.
    before: Option<Cursor>,
    refused: Refused,
    /// None once the part has ended, or its collection was given up.
    makers: Vec<Maker>,
}

/// Records that the source could not read, and the snapshots at which it read the others.
#[derive(Debug, Default)]
pub(super) struct Refused {
    pub(super) labels: Vec<String>,
    pub(super) count: u64,
    pub(super) snapshots: SnapshotsRead,
}

impl Refused {
    fn add(&mut self, label: &str) {
        self.count += 1;
        if self.labels.len() < LABELS_MAX {
            self.labels.push(label.to_owned());
        }
    }

    pub(super) fn merge(&mut self, other: Self) {
        self.count += other.count;
        self.snapshots.merge(&other.snapshots);
        let room = LABELS_MAX.saturating_sub(self.labels.len());
        self.labels.extend(other.labels.into_iter().take(room));
    }
}

/// Makes the digests of one place.
pub(super) struct Maker {
    at: At,
    digester: Digester,
    /// Those of one batch; kept for its room.
    pairs: Vec<Pair>,
    buckets: Buckets,
    kept: Option<Kept>,
}

/// Where pairs are kept.
struct Kept {
    path: PathBuf,
    writer: PairWriter,
    /// Octets until the disk is looked at again.
    look_in_bytes: u64,
}

/// What was made of one part at one place.
pub(super) struct Made {
    pub(super) at: At,
    pub(super) buckets: Buckets,
    pub(super) losses: Vec<LossCount>,
    pub(super) lossy_record_count: u64,
}

impl Tap {
    pub(super) fn new(
        shared: Arc<Shared>,
        collection: usize,
        part: usize,
        can_resume: bool,
        makers: Vec<Maker>,
    ) -> Self {
        Self {
            shared,
            collection,
            part,
            can_resume,
            before: Some(Cursor::start()),
            refused: Refused::default(),
            makers,
        }
    }

    /// Takes what came next: `batches` of records after which the source is at `after`.
    pub fn pass(&mut self, batches: &[Batch], after: &Cursor) {
        if self.makers.is_empty() {
            return;
        }
        if self.shared.is_given_up(self.collection) {
            self.makers.clear();
            return;
        }
        for snapshot in batches.iter().filter_map(|batch| batch.facts.snapshot.as_ref()) {
            self.refused.snapshots.note(snapshot);
        }
        let before = self.before.as_ref();
        let mut makers = self.makers.iter_mut();
        if let Err(error) = makers.try_for_each(|maker| maker.add(batches, before)) {
            self.give_up(&error);
            return;
        }
        self.before = (self.can_resume && !after.is_start()).then(|| after.clone());
    }

    /// Takes records that the source could not read.
    pub fn refuse(&mut self, records: &[RejectedRecord]) {
        for record in records {
            self.refused.add(&record.record);
        }
    }

    /// The records have got fields that were not planned, so that no digest would be of a whole record.
    pub fn grow(&mut self) {
        self.give_up(&Error::invalid_data(
            "verification.new_fields",
            "it has got fields that it did not have",
        ));
    }

    /// All records of the part have come.
    pub fn end(&mut self) {
        let mut made = Vec::with_capacity(self.makers.len());
        for maker in std::mem::take(&mut self.makers) {
            match maker.finish() {
                Ok(one) => made.push(one),
                Err(error) => {
                    self.give_up(&error);
                    return;
                }
            }
        }
        if !made.is_empty() {
            let refused = std::mem::take(&mut self.refused);
            self.shared.ended(self.collection, self.part, refused, made);
        }
    }

    fn give_up(&mut self, why: &Error) {
        self.makers.clear();
        self.shared.give_up(self.collection, why);
    }
}

impl Maker {
    /// Adds digests up and keeps none.
    pub(super) fn new(at: At, recipe: Recipe) -> Self {
        Self {
            at,
            digester: Digester::new(recipe),
            pairs: Vec::new(),
            buckets: Buckets::default(),
            kept: None,
        }
    }

    /// Keeps them in a file as well.
    pub(super) fn keeping(at: At, recipe: Recipe, path: &Path) -> Result<Self, Error> {
        let kept = Kept {
            path: path.to_owned(),
            writer: PairWriter::create(path)?,
            look_in_bytes: 0,
        };
        Ok(Self {
            kept: Some(kept),
            ..Self::new(at, recipe)
        })
    }

    fn add(&mut self, batches: &[Batch], before: Option<&Cursor>) -> Result<(), Error> {
        self.pairs.clear();
        for batch in batches {
            self.digester.digest(batch, &mut self.pairs)?;
        }
        for pair in &self.pairs {
            self.buckets.add(*pair);
        }
        match &mut self.kept {
            Some(kept) if !self.pairs.is_empty() => kept.append(before, &self.pairs),
            Some(_) | None => Ok(()),
        }
    }

    fn finish(self) -> Result<Made, Error> {
        if let Some(kept) = self.kept {
            kept.writer.close()?;
        }
        let (losses, lossy_record_count) = self.digester.altered();
        Ok(Made {
            at: self.at,
            buckets: self.buckets,
            losses,
            lossy_record_count,
        })
    }
}

impl Kept {
    fn append(&mut self, before: Option<&Cursor>, pairs: &[Pair]) -> Result<(), Error> {
        let length = pairs.len() as u64 * PAIR_BYTES;
        match self.look_in_bytes.checked_sub(length) {
            Some(left) => self.look_in_bytes = left,
            None => {
                self.has_room()?;
                self.look_in_bytes = LOOK_BYTES;
            }
        }
        self.writer.append(before, pairs)
    }

    /// Whether so much of the disk is free that digests may have a part of it.
    fn has_room(&self) -> Result<(), Error> {
        // A file system that does not say how much is free says so when it is full.
        let Ok(facts) = rustix::fs::statvfs(&self.path) else {
            return Ok(());
        };
        if facts.f_bavail.saturating_mul(facts.f_frsize) < FREE_BYTES_MIN {
            return Err(Error::new(
                ErrorKind::Unavailable,
                "verification.no_room",
                "less than 256 MiB are free beside them",
            ));
        }
        Ok(())
    }
}
