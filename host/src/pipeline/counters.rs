//! What passed, per collection: counted by readers and writers, read by a ticker that makes progress events.
//! Nothing is decided by them.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::checkpoint::LaneCounts;
use crate::events::{Emitter, Event, SnapshotsRead};

/// The counters of one collection.
#[derive(Debug, Default)]
pub struct CollectionCounters {
    /// Records read.
    pub read: AtomicU64,
    /// Octets read.
    pub bytes: AtomicU64,
    /// Records that came out of transforms.
    pub transformed: AtomicU64,
    /// Records that transforms left out on purpose.
    pub filtered: AtomicU64,
    /// Time spent in transforms, all threads together, nanoseconds.
    pub transform_nanos: AtomicU64,
    /// Records durable in the sink.
    pub written: AtomicU64,
    /// Of these, left as they were by policy.
    pub skipped: AtomicU64,
    /// Records refused by either side.
    pub rejected: AtomicU64,
    /// Partitions that it was divided into; 0 before that.
    pub partitions_total: AtomicU64,
    /// Of these, read to their end and committed.
    pub partitions_done: AtomicU64,
    /// The snapshots at which records were read.
    snapshots: Mutex<SnapshotsRead>,
}

impl CollectionCounters {
    /// Adds what an earlier run of the copy has done of a partition.
    pub fn restore(&self, counts: LaneCounts, written: u64, done: bool) {
        let add = |to: &AtomicU64, count: u64| to.fetch_add(count, Ordering::Relaxed);
        add(&self.read, counts.read);
        add(&self.filtered, counts.filtered);
        add(&self.skipped, counts.skipped);
        add(&self.rejected, counts.rejected);
        add(&self.written, written);
        add(&self.transformed, counts.read.saturating_sub(counts.filtered));
        add(&self.partitions_done, u64::from(done));
    }

    /// Takes note of the snapshots that an earlier run of the copy, or an earlier phase, has read.
    pub fn restore_snapshots(&self, read: &SnapshotsRead) {
        self.lock_snapshots().merge(read);
    }

    /// Takes note of the snapshot that a batch names; answers its place among those of the collection, below 64.
    pub fn note_snapshot(&self, name: &str) -> usize {
        self.lock_snapshots().note(name)
    }

    /// The snapshots at which records were read.
    pub fn snapshots(&self) -> SnapshotsRead {
        self.lock_snapshots().clone()
    }

    /// Of these, the ones whose places are bits of `places`.
    pub fn snapshots_at(&self, places: u64) -> SnapshotsRead {
        let mut found = SnapshotsRead::default();
        for (place, name) in self.lock_snapshots().names().iter().enumerate() {
            if places & (1 << place) != 0 {
                found.note(name);
            }
        }
        found
    }

    fn lock_snapshots(&self) -> MutexGuard<'_, SnapshotsRead> {
        self.snapshots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether every partition was read to its end and committed.
    pub fn is_complete(&self) -> bool {
        let total = self.partitions_total.load(Ordering::Relaxed);
        total > 0 && self.partitions_done.load(Ordering::Relaxed) == total
    }
}

/// The counters of a run, by the collections' order in the plan.
pub struct Counters {
    started: Instant,
    first_commit_ms: AtomicU64,
    names: Vec<String>,
    collections: Vec<CollectionCounters>,
    /// Whether what is written goes to a stage rather than to the sink.
    is_staging: bool,
    /// How often a partition or a collection has ended, for those who wait for it.
    ended: Mutex<u64>,
    one_ended: Condvar,
}

/// `first_commit_ms` before the first commit.
const NEVER: u64 = u64::MAX;

impl Counters {
    /// Counters for collections called `names` in the source; times count from `started`.
    pub fn new(names: Vec<String>, started: Instant) -> Arc<Self> {
        Arc::new(Self {
            started,
            first_commit_ms: AtomicU64::new(NEVER),
            collections: names.iter().map(|_| CollectionCounters::default()).collect(),
            names,
            is_staging: false,
            ended: Mutex::default(),
            one_ended: Condvar::new(),
        })
    }

    /// Counters of so many collections that nobody is told of.
    pub fn silent(collection_count: usize) -> Arc<Self> {
        Arc::new(Self {
            started: Instant::now(),
            // As if the first commit had been told.
            first_commit_ms: AtomicU64::new(0),
            names: Vec::new(),
            collections: (0..collection_count)
                .map(|_| CollectionCounters::default())
                .collect(),
            is_staging: false,
            ended: Mutex::default(),
            one_ended: Condvar::new(),
        })
    }

    /// As [`Counters::new`], for records that go to a stage: none of them is announced as written.
    pub fn staging(names: Vec<String>, started: Instant) -> Arc<Self> {
        Arc::new(Self {
            is_staging: true,
            ..Arc::into_inner(Self::new(names, started)).expect("nobody else has it yet")
        })
    }

    /// A partition of collection number `index` was read to its end and committed.
    pub fn partition_ended(&self, index: usize) {
        self.of(index).partitions_done.fetch_add(1, Ordering::Relaxed);
        self.something_ended();
    }

    /// Wakes those who wait for an end: of a partition, or of a collection that has failed.
    pub fn something_ended(&self) {
        *self.ended.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.one_ended.notify_all();
    }

    /// How often something has ended so far.
    pub fn ended(&self) -> u64 {
        *self.ended.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until something ends after `seen`, but not longer than `time`.
    pub fn wait_for_end(&self, seen: u64, time: Duration) {
        let ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        drop(
            self.one_ended
                .wait_timeout_while(ended, time, |ended| *ended <= seen)
                .unwrap_or_else(PoisonError::into_inner),
        );
    }

    /// Takes over what an earlier phase has counted: of extraction what was read, of transformation what came out.
    pub fn follow(&self, extraction: &Self, transformation: Option<&Self>) {
        let set =
            |to: &AtomicU64, from: &AtomicU64| to.store(from.load(Ordering::Relaxed), Ordering::Relaxed);
        let add = |to: &AtomicU64, from: &AtomicU64| {
            to.fetch_add(from.load(Ordering::Relaxed), Ordering::Relaxed);
        };
        for (index, own) in self.collections.iter().enumerate() {
            let read = extraction.of(index);
            set(&own.read, &read.read);
            set(&own.bytes, &read.bytes);
            own.restore_snapshots(&read.snapshots());
            add(&own.rejected, &read.rejected);
            if let Some(changed) = transformation.map(|counters| counters.of(index)) {
                set(&own.transformed, &changed.transformed);
                set(&own.filtered, &changed.filtered);
                set(&own.transform_nanos, &changed.transform_nanos);
                add(&own.rejected, &changed.rejected);
            }
        }
    }

    /// Whether what is written goes to a stage rather than to the sink.
    pub fn is_staging(&self) -> bool {
        self.is_staging
    }

    /// How many collections are counted.
    pub fn len(&self) -> usize {
        self.collections.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.collections.is_empty()
    }

    /// The counters of collection number `index`.
    pub fn of(&self, index: usize) -> &CollectionCounters {
        &self.collections[index]
    }

    /// Takes note of a commit; the first one is announced.
    pub fn committed(&self, emitter: &Emitter) {
        if self.is_staging {
            return;
        }
        let elapsed_ms = self.started.elapsed().as_millis() as u64;
        let first =
            self.first_commit_ms
                .compare_exchange(NEVER, elapsed_ms, Ordering::Relaxed, Ordering::Relaxed);
        if first.is_ok() {
            emitter.emit(&Event::FirstCommit { elapsed_ms });
        }
    }

    /// Milliseconds from the start to the first commit.
    pub fn first_commit_ms(&self) -> Option<u64> {
        Some(self.first_commit_ms.load(Ordering::Relaxed)).filter(|millis| *millis != NEVER)
    }

    /// Announces how far each collection is that has begun.
    pub fn announce(&self, emitter: &Emitter) {
        for (name, counters) in self.names.iter().zip(&self.collections) {
            let read_count = counters.read.load(Ordering::Relaxed);
            if read_count > 0 || counters.partitions_done.load(Ordering::Relaxed) > 0 {
                emitter.emit(&Event::Progress {
                    collection: name.clone(),
                    read_count,
                    written_count: if self.is_staging {
                        0
                    } else {
                        counters.written.load(Ordering::Relaxed)
                    },
                    rejected_count: counters.rejected.load(Ordering::Relaxed),
                    read_bytes: counters.bytes.load(Ordering::Relaxed),
                });
            }
        }
    }

    /// Records read in all.
    pub fn read_total(&self) -> u64 {
        self.sum(|counters| &counters.read)
    }

    /// Records that came out of transforms in all.
    pub fn transformed_total(&self) -> u64 {
        self.sum(|counters| &counters.transformed)
    }

    /// Time spent in transforms, seconds, all threads together.
    pub fn transform_seconds(&self) -> f64 {
        self.sum(|counters| &counters.transform_nanos) as f64 / 1e9
    }

    fn sum(&self, of: impl Fn(&CollectionCounters) -> &AtomicU64) -> u64 {
        self.collections
            .iter()
            .map(|counters| of(counters).load(Ordering::Relaxed))
            .sum()
    }

    /// Records written in all.
    pub fn written_total(&self) -> u64 {
        self.sum(|counters| &counters.written)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_waits_for_an_end_is_woken_by_it_even_if_it_came_before() {
        let counters = Counters::silent(1);
        let seen = counters.ended();
        counters.partition_ended(0);
        // An hour, if it were missed.
        counters.wait_for_end(seen, Duration::from_secs(3_600));
        let seen = counters.ended();
        std::thread::scope(|scope| {
            scope.spawn(|| counters.something_ended());
            counters.wait_for_end(seen, Duration::from_secs(3_600));
        });
        assert_eq!(counters.ended(), 2);
        assert_eq!(counters.of(0).partitions_done.load(Ordering::Relaxed), 1);
    }
}
