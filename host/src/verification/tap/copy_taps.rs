//! All taps of a copy: which collections have some, which partitions have ended, and whether that is all of them.
//!
//! Parts that end are merged here, once each; what happens for each batch is in `part`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use whimbrel_plugin_api::{Collection, Cursor, Error, Partition};

use super::part::{Made, Maker, Refused, Tap};
use crate::events::{Emitter, Event, LossCount, PartitionDigest};
use crate::verification::bucket::{Bucket, Buckets};
use crate::verification::digest::Recipe;
use crate::verification::full::{SideDigests, Tapped};
use crate::verification::pairs::PairFile;

/// The folder of all taps within that of comparisons. No collection's folder begins with a dot.
pub const TAP_FOLDER: &str = ".tap";
/// The folder is for its owner alone.
const FOLDER_MODE: u32 = 0o700;

/// A collection whose records become digests while they are copied.
pub struct Tappable<'a> {
    /// Its number in the plan.
    pub collection: usize,
    /// As the source has it.
    pub source: &'a Collection,
    /// As the sink was asked to hold it, with all declared losses.
    pub sink: &'a Collection,
    /// Whether transforms change its records on the way.
    pub is_transformed: bool,
}

/// The taps of one copy. Cheap to clone; the last one removes their files.
#[derive(Clone)]
pub struct Taps(Arc<Shared>);

/// What one partition is shown to.
pub struct Tapping {
    /// Sees what the source delivers, in the thread that reads.
    pub reading: Tap,
    /// Sees what transforms make of it, in the thread that transforms; none if there are none.
    pub transforming: Option<Tap>,
}

/// Where on its way a record becomes a digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum At {
    /// As the source delivers it.
    Extracted,
    /// As the sink is given it. Of a collection that nothing changes this is the only place.
    Transformed,
}

/// What the taps of a copy share.
pub(super) struct Shared {
    folder: PathBuf,
    emitter: Emitter,
    can_resume: bool,
    collections: BTreeMap<usize, OneCollection>,
}

struct OneCollection {
    name: String,
    /// None if what holds for the sink holds for the source as well.
    extracted: Option<Recipe>,
    transformed: Recipe,
    is_transformed: bool,
    is_given_up: AtomicBool,
    parts: Mutex<Parts>,
}

/// The partitions of one collection.
#[derive(Default)]
struct Parts {
    /// All of them; none before the collection was divided.
    all: Option<Vec<Partition>>,
    begun: BTreeSet<usize>,
    refused: Refused,
    extracted: Ended,
    transformed: Ended,
}

/// The partitions that have ended at one place, added up.
#[derive(Default)]
struct Ended {
    buckets: Option<Buckets>,
    totals: BTreeMap<usize, Bucket>,
    losses: Vec<LossCount>,
    lossy_record_count: u64,
}

impl Taps {
    /// Of `collections`, with their files in `folder`. `can_resume` says whether the source reads on at any of its cursors.
    pub fn new<'a>(
        folder: &Path,
        can_resume: bool,
        collections: impl IntoIterator<Item = Tappable<'a>>,
        emitter: &Emitter,
    ) -> Self {
        let shared = Shared {
            folder: folder.join(TAP_FOLDER),
            emitter: emitter.clone(),
            can_resume,
            collections: collections
                .into_iter()
                .map(|tappable| (tappable.collection, OneCollection::of(&tappable)))
                .collect(),
        };
        // Of a copy that was killed.
        shared.remove(&shared.folder);
        Self(Arc::new(shared))
    }

    /// Says that `collection` is divided into `partitions`: its digests are whole when each of these was read to its end.
    pub fn divided<'a>(&self, collection: usize, partitions: impl IntoIterator<Item = &'a Partition>) {
        if let Some(of) = self.0.collections.get(&collection) {
            of.parts().all = Some(partitions.into_iter().cloned().collect());
        }
    }

    /// Opens the taps of one partition that is read from `from` on. None if nobody wants its digests, or if they could not be
    /// those of all its records.
    pub fn open(&self, collection: usize, partition: &Partition, from: &Cursor) -> Option<Tapping> {
        let of = self.0.collections.get(&collection)?;
        if of.is_given_up() {
            return None;
        }
        let part = {
            let mut parts = of.parts();
            let all = parts.all.as_deref().unwrap_or_default();
            let part = all
                .iter()
                .position(|known| known.descriptor == partition.descriptor);
            part.filter(|part| from.is_start() && parts.begun.insert(*part))
        };
        let Some(part) = part else {
            // An earlier run has copied the beginning, or records come a second time.
            of.is_given_up.store(true, Ordering::Relaxed);
            return None;
        };
        match of.makers(&self.0.folder_of(collection, part)) {
            Ok((reading, transforming)) => {
                let tap = |makers| Tap::new(Arc::clone(&self.0), collection, part, self.0.can_resume, makers);
                Some(Tapping {
                    reading: tap(reading),
                    transforming: transforming.map(tap),
                })
            }
            Err(error) => {
                self.0.give_up(collection, &error);
                None
            }
        }
    }

    /// The digests of `collection`, if they are those of all records that were read, of which there are `read_count`.
    pub fn take(&self, collection: usize, read_count: Option<u64>) -> Option<Tapped> {
        let of = self.0.collections.get(&collection)?;
        if of.is_given_up() {
            return None;
        }
        let parts = std::mem::take(&mut *of.parts());
        let all = parts.all?;
        let mut transformed = parts.transformed.into_side(&all, &parts.refused)?;
        let extracted = match &of.extracted {
            Some(_) => parts.extracted.into_side(&all, &parts.refused)?,
            None => SideDigests {
                buckets: transformed.buckets.clone(),
                partitions: transformed.partitions.clone(),
                parts: transformed.parts.clone(),
                unreadable: transformed.unreadable.clone(),
                unreadable_count: transformed.unreadable_count,
                snapshots: transformed.snapshots.clone(),
                ..SideDigests::default()
            },
        };
        if read_count != Some(extracted.buckets.total().count) {
            return None;
        }
        let files = (0..all.len()).map(|part| PairFile::open(&file(&self.0.folder_of(collection, part))));
        match files.collect::<Result<Vec<_>, Error>>() {
            Ok(files) => {
                let kept: u64 = files.iter().map(PairFile::record_count).sum();
                transformed.files = files;
                (kept == transformed.buckets.total().count).then_some(Tapped {
                    extracted,
                    transformed,
                })
            }
            Err(error) => {
                self.0.give_up(collection, &error);
                None
            }
        }
    }
}

impl Shared {
    /// Nothing is made of this collection any more. The first one who says so is heard.
    pub(super) fn give_up(&self, collection: usize, why: &Error) {
        let Some(of) = self.collections.get(&collection) else {
            return;
        };
        if !of.is_given_up.swap(true, Ordering::Relaxed) {
            // The room is free before the next thing is written.
            let parts = of.parts().begun.clone();
            parts
                .into_iter()
                .for_each(|part| self.remove(&self.folder_of(collection, part)));
            self.say(format!(
                "`{}` is read again when it is compared, since its digests could not be kept: {}",
                of.name, why.message
            ));
        }
    }

    pub(super) fn is_given_up(&self, collection: usize) -> bool {
        let of = self.collections.get(&collection);
        of.is_none_or(OneCollection::is_given_up)
    }

    /// A part has come to its end at the places of what was `made`.
    pub(super) fn ended(&self, collection: usize, part: usize, refused: Refused, made: Vec<Made>) {
        if let Some(of) = self.collections.get(&collection) {
            let mut parts = of.parts();
            parts.refused.merge(refused);
            for made in made {
                match made.at {
                    At::Extracted => parts.extracted.add(part, made),
                    At::Transformed => parts.transformed.add(part, made),
                }
            }
        }
    }

    /// Where a part keeps its files, if it keeps any.
    pub(super) fn folder_of(&self, collection: usize, part: usize) -> PathBuf {
        self.folder.join(format!("{collection}-{part}"))
    }

    fn say(&self, message: String) {
        self.emitter.emit(&Event::Log {
            plugin: "verification".to_owned(),
            level: "warn".to_owned(),
            message,
        });
    }

    fn remove(&self, folder: &Path) {
        match std::fs::remove_dir_all(folder) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                self.say(format!("digests of a copy could not be removed: {error}"));
            }
            Ok(()) | Err(_) => {}
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.remove(&self.folder);
    }
}

impl OneCollection {
    fn of(tappable: &Tappable<'_>) -> Self {
        let extracted = Recipe::of(tappable.source).exact();
        let transformed = Recipe::of(tappable.sink);
        let is_same = !tappable.is_transformed && is_same(&extracted, &transformed);
        Self {
            name: tappable.source.name.clone(),
            extracted: (!is_same).then_some(extracted),
            transformed,
            is_transformed: tappable.is_transformed,
            is_given_up: AtomicBool::new(false),
            parts: Mutex::default(),
        }
    }

    fn parts(&self) -> MutexGuard<'_, Parts> {
        self.parts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_given_up(&self) -> bool {
        self.is_given_up.load(Ordering::Relaxed)
    }

    /// What makes digests of one part: where it is read, and where it is transformed.
    fn makers(&self, folder: &Path) -> Result<(Vec<Maker>, Option<Vec<Maker>>), Error> {
        DirBuilder::new()
            .recursive(true)
            .mode(FOLDER_MODE)
            .create(folder)
            .map_err(|error| {
                Error::internal(format!("the folder `{}` could not be made", folder.display()))
                    .with_cause(&error)
            })?;
        let exact = self.extracted.iter();
        let mut reading: Vec<Maker> = exact
            .map(|recipe| Maker::new(At::Extracted, recipe.clone()))
            .collect();
        let lossy = Maker::keeping(At::Transformed, self.transformed.clone(), &file(folder))?;
        if self.is_transformed {
            return Ok((reading, Some(vec![lossy])));
        }
        reading.push(lossy);
        Ok((reading, None))
    }
}

/// The file of a part's pairs.
fn file(folder: &Path) -> PathBuf {
    folder.join("pairs")
}

/// Whether two recipes make the same digests of the same records. Whether a field may be null is no part of them.
pub(in crate::verification) fn is_same(one: &Recipe, other: &Recipe) -> bool {
    let fields = |recipe: &Recipe| -> Vec<_> {
        let fields = recipe.schema.fields.iter();
        fields
            .map(|field| (field.name.clone(), field.record_type.clone()))
            .collect()
    };
    one.key == other.key
        && one.losses == other.losses
        && one.schema.presence == other.schema.presence
        && fields(one) == fields(other)
}

impl Ended {
    fn add(&mut self, part: usize, made: Made) {
        self.totals.insert(part, made.buckets.total());
        match &mut self.buckets {
            Some(buckets) => buckets.merge(&made.buckets),
            None => self.buckets = Some(made.buckets),
        }
        self.lossy_record_count += made.lossy_record_count;
        for loss in made.losses {
            let known = self
                .losses
                .iter_mut()
                .find(|known| known.field == loss.field && known.loss == loss.loss);
            match known {
                Some(known) => known.record_count += loss.record_count,
                None => self.losses.push(loss),
            }
        }
    }

    /// As one side; none if a part is missing.
    fn into_side(self, all: &[Partition], refused: &Refused) -> Option<SideDigests> {
        let partition = |(part, partition): (usize, &Partition)| -> Option<PartitionDigest> {
            Some(self.totals.get(&part)?.of_partition(&partition.label))
        };
        let partitions = all.iter().enumerate().map(partition).collect::<Option<_>>()?;
        Some(SideDigests {
            buckets: self.buckets.unwrap_or_default(),
            partitions,
            losses: self.losses,
            lossy_record_count: self.lossy_record_count,
            parts: all.to_vec(),
            unreadable: refused.labels.clone(),
            unreadable_count: refused.count,
            snapshots: refused.snapshots.clone(),
            ..SideDigests::default()
        })
    }
}
