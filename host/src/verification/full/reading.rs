//! Reads one side of a collection into files of digests, several parts at once, and goes on where it was killed.
//!
//! `part` reads one part on a thread of its own; what is durable of all of them is in `progress`. What cannot be gone on with
//! is read anew: files that are damaged, and parts or cursors that the system no longer knows. Neighbour: `both` reads two.

mod extracted;
mod part;
#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use whimbrel_plugin_api::capability::SourceCapabilities;
use whimbrel_plugin_api::partition::PartitionsRequest;
use whimbrel_plugin_api::source::ReadRequest;
use whimbrel_plugin_api::{Collection, Field, Partition};

use super::progress::{self, Keeper, PartProgress};
use crate::config::TransformJob;
use crate::control::Stop;
use crate::events::{Failure, LossCount, PartitionDigest, SnapshotsRead};
use crate::loader::observe::OpenedSource;
use crate::transform::Transforms;
use crate::verification::bucket::Buckets;
use crate::verification::digest::Recipe;
use crate::verification::pairs::PairFile;
use crate::workspace::make_folder;
pub use extracted::Extracted;
use part::{PartRead, Trouble};

/// What is read of a side, and how.
pub struct SideRead<'a> {
    /// What is asked of the system, but for the part and the cursor.
    pub request: ReadRequest,
    /// How its records become digests.
    pub recipe: Recipe,
    /// The collection as the system has it, with the transforms that its records go through first; none for a sink.
    pub transformed: Option<(&'a Collection, &'a Transforms, &'a [TransformJob])>,
    /// How its records become digests before they go through anything, where that is wanted and makes others.
    pub extracted: Option<Recipe>,
    /// Parts that are read at the same time.
    pub partitions_parallel: u32,
    /// What the system can do.
    pub can: &'a SourceCapabilities,
    /// The folder of the files. What is there of an earlier, like reading is gone on with.
    pub folder: &'a Path,
}

/// A side that was read to its end.
#[derive(Debug, Default)]
pub struct SideDigests {
    /// The files, one for each part.
    pub files: Vec<PairFile>,
    /// All digests, added up.
    pub buckets: Buckets,
    /// The parts, in the order of the files.
    pub partitions: Vec<PartitionDigest>,
    /// The same of what the system gave, where that was asked for and was seen whole.
    pub extracted: Option<Extracted>,
    /// What the declared losses have touched.
    pub losses: Vec<LossCount>,
    /// Records with at least one such value.
    pub lossy_record_count: u64,
    /// The parts themselves, likewise; fewer if they are not known, and then their batches cannot be read again by place.
    pub parts: Vec<Partition>,
    /// Records that could not be read, by label; the first of them (1,000 a part at most).
    pub unreadable: Vec<String>,
    /// How many could not be read.
    pub unreadable_count: u64,
    /// How many a transform refused.
    pub refused_count: u64,
    /// Fields of the recipe that this side lacks.
    pub missing_fields: Vec<String>,
    /// Fields of this side that the recipe lacks.
    pub new_fields: Vec<Field>,
    /// The snapshots at which it was read.
    pub snapshots: SnapshotsRead,
}

/// How often it is made durable how far a reading is.
struct MarkEvery {
    /// After so many records of a part.
    record_count: u64,
    /// And after so much time.
    time: Duration,
    /// A part with fewer records is read again sooner than it is marked at its end.
    part_records_min: u64,
}

/// What is lost by a kill is read again in a few seconds, and syncing takes less than a hundredth of the time. To mark a part
/// takes several syncs; a job may have thousands of small collections.
const MARK_EVERY: MarkEvery = MarkEvery {
    record_count: 1_000_000,
    time: Duration::from_secs(2),
    part_records_min: 10_000,
};

/// Reads a side. `progress` is told how many records came since it was last told; those that an earlier reading has kept are
/// told as well.
///
/// # Errors
/// What the system or a transform brings; `verification.work_file`.
pub(super) fn read(
    side: &mut OpenedSource,
    what: &SideRead<'_>,
    stop: &Stop,
    progress: &(dyn Fn(u64) + Sync),
) -> Result<SideDigests, Failure> {
    read_marking(side, what, stop, progress, &MARK_EVERY)
}

fn read_marking(
    side: &mut OpenedSource,
    what: &SideRead<'_>,
    stop: &Stop,
    progress: &(dyn Fn(u64) + Sync),
    mark_every: &MarkEvery,
) -> Result<SideDigests, Failure> {
    make_folder(what.folder)?;
    let likeness = progress::likeness(what)?;
    if let Some(parts) = progress::load(what.folder, &likeness)? {
        let keeper = Keeper::going_on(what.folder, likeness.clone(), parts.clone());
        match read_parts(side, what, parts, &keeper, stop, progress, mark_every) {
            Err(Trouble::Outdated(_)) => {}
            outcome => return outcome.map_err(Trouble::into_failure),
        }
    }
    let partitions = partitions(side, what)?;
    let keeper = Keeper::begin(what.folder, likeness, partitions.clone())?;
    let parts = partitions.into_iter().map(PartProgress::begun).collect();
    read_parts(side, what, parts, &keeper, stop, progress, mark_every).map_err(Trouble::into_failure)
}

/// The parts that a side is read in. What is limited is read in one, since the limit is that of all of it.
fn partitions(side: &mut OpenedSource, what: &SideRead<'_>) -> Result<Vec<Partition>, Failure> {
    if !what.can.partitions || what.request.limit.is_some() {
        return Ok(vec![Partition::whole()]);
    }
    side.partitions(&PartitionsRequest {
        collection: what.request.collection.clone(),
        snapshot: what.request.snapshot.clone(),
        wanted: what.partitions_parallel.max(1),
    })
}

/// What the threads of a reading share.
struct Shared<'a, 's> {
    what: &'a SideRead<'a>,
    mark_every: &'a MarkEvery,
    keeper: &'a Keeper,
    stop: &'a Stop,
    progress: &'a (dyn Fn(u64) + Sync),
    /// Streams are opened one after the other.
    side: Mutex<&'s mut OpenedSource>,
    /// A part has failed, so that the others are in vain.
    is_over: AtomicBool,
}

impl Shared<'_, '_> {
    /// Whether nothing more is to be read.
    fn is_raised(&self) -> bool {
        self.stop.is_raised() || self.is_over.load(Ordering::Relaxed)
    }
}

/// What was gathered of all parts.
struct Gathered {
    buckets: Buckets,
    /// None if it is not wanted, or a part has none.
    extracted: Option<Buckets>,
    /// By the number of the part.
    parts: Vec<Option<PartRead>>,
    /// The first thing that went wrong.
    trouble: Option<Trouble>,
}

fn read_parts(
    side: &mut OpenedSource,
    what: &SideRead<'_>,
    parts: Vec<PartProgress>,
    keeper: &Keeper,
    stop: &Stop,
    progress: &(dyn Fn(u64) + Sync),
    mark_every: &MarkEvery,
) -> Result<SideDigests, Trouble> {
    let shared = Shared {
        what,
        mark_every,
        keeper,
        stop,
        progress,
        side: Mutex::new(side),
        is_over: AtomicBool::new(false),
    };
    let gathered = Mutex::new(Gathered {
        buckets: Buckets::default(),
        extracted: what.extracted.as_ref().map(|_| Buckets::default()),
        parts: parts.iter().map(|_| None).collect(),
        trouble: None,
    });
    let next = AtomicUsize::new(0);
    let take_parts = || {
        while !shared.is_over.load(Ordering::Relaxed) {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let Some(begun) = parts.get(number) else {
                return;
            };
            let outcome = part::read(&shared, number, begun.clone());
            let mut gathered = gathered.lock().unwrap_or_else(PoisonError::into_inner);
            match outcome {
                Ok((read, buckets, extracted)) => {
                    gathered.buckets.merge(&buckets);
                    gathered.extracted =
                        gathered
                            .extracted
                            .take()
                            .zip(extracted)
                            .map(|(mut all, of_part)| {
                                all.merge(&of_part);
                                all
                            });
                    gathered.parts[number] = Some(read);
                }
                Err(trouble) => {
                    shared.is_over.store(true, Ordering::Relaxed);
                    gathered.trouble.get_or_insert(trouble);
                }
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..streams(what, parts.len()) {
            scope.spawn(take_parts);
        }
    });
    let gathered = gathered.into_inner().unwrap_or_else(PoisonError::into_inner);
    match gathered.trouble {
        Some(trouble) => Err(trouble),
        None => Ok(joined(gathered)),
    }
}

/// Streams that are read at the same time.
fn streams(what: &SideRead<'_>, part_count: usize) -> usize {
    let streams_max = match what.can.streams_max {
        0 => u32::MAX,
        streams_max => streams_max,
    };
    let wanted = what.partitions_parallel.min(streams_max) as usize;
    wanted.clamp(1, part_count.max(1))
}

fn joined(gathered: Gathered) -> SideDigests {
    let mut all = SideDigests {
        buckets: gathered.buckets,
        ..SideDigests::default()
    };
    let mut extracted = Vec::new();
    let mut missing_fields: Option<Vec<String>> = None;
    for read in gathered.parts.into_iter().flatten() {
        let PartRead {
            file,
            digest,
            extracted: of_part,
            part,
        } = read;
        extracted.extend(of_part);
        all.files.push(file);
        all.partitions.push(digest);
        all.parts.push(part.partition);
        all.unreadable.extend(part.unreadable);
        all.unreadable_count += part.unreadable_count;
        all.refused_count += part.refused_count;
        add_losses(&mut all.losses, part.losses);
        all.lossy_record_count += part.lossy_record_count;
        all.snapshots.merge(&part.snapshots);
        for field in part.new_fields {
            if all.new_fields.iter().all(|known| known.name != field.name) {
                all.new_fields.push(field);
            }
        }
        // A field is missing if no part has it.
        missing_fields = match (missing_fields, part.missing_fields) {
            (Some(mut missing), Some(of_part)) => {
                missing.retain(|name| of_part.contains(name));
                Some(missing)
            }
            (known, of_part) => known.or(of_part),
        };
    }
    all.missing_fields = missing_fields.unwrap_or_default();
    all.extracted = gathered.extracted.map(|buckets| Extracted {
        buckets,
        partitions: extracted,
    });
    all
}

/// Adds `further` to `losses`.
fn add_losses(losses: &mut Vec<LossCount>, further: Vec<LossCount>) {
    for count in further {
        let is_same = |known: &&mut LossCount| known.field == count.field && known.loss == count.loss;
        match losses.iter_mut().find(is_same) {
            Some(known) => known.record_count += count.record_count,
            None => losses.push(count),
        }
    }
}
