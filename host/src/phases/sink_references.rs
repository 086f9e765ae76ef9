//! Looks, after the copy, for records of the sink that point to others which are not there.
//!
//! As [`super::references`] does before a run, but through the sink's reader, with the collections' names there. What the source
//! had already is not held against the copy; an orphan that the sink alone has lost its parent on the way. Neighbour:
//! [`crate::verification::orphans`] does the looking.

mod chosen;

pub use chosen::readings;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use whimbrel_plugin_api::source::{Item, ReadRequest};
use whimbrel_plugin_api::{Batch, Collection, Error, ErrorKind};

use super::references::{KEY_BYTES_MAX, SourceReading, take};
use crate::control::Stop;
use crate::events::{Emitter, Event, Failure, Orphan, ReferenceResult, ReferenceState, VerificationResult};
use crate::loader::observe::OpenedSource;
use crate::plan::PlannedCollection;
use crate::plan::cost::Units;
use crate::transform::Transforms;
use crate::verification::orphans::{self, Reading, SHOWN_MAX, Sought};
use chosen::{in_source, references, taken_over};

/// Orphans of the sink that are told apart by digest, about 40 octets each; of further ones only the number is compared.
const TOLD_APART_MAX: usize = 1_000_000;
/// Of these, so many are kept with their labels, to name those that the sink alone has.
const LABELLED_MAX: usize = 10_000;

/// What the search needs.
pub struct SinkSearch<'a> {
    /// The collections, each at its own level.
    pub collections: &'a [PlannedCollection],
    /// The sink's own description of them, by name there.
    pub described: &'a BTreeMap<String, Collection>,
    /// The names of those for which the sink bills what is read.
    pub billed: &'a BTreeSet<String>,
    /// How their records compare with those of the source.
    pub compared: &'a [VerificationResult],
    /// What was found of the references in the source, in its names, if that was looked for.
    pub known: &'a [ReferenceResult],
    /// Whether the job wants orphans to be looked for.
    pub is_wanted: bool,
    /// The loaded transforms.
    pub transforms: &'a Transforms,
    /// Where events go.
    pub emitter: &'a Emitter,
    /// Ends everything.
    pub stop: &'a Stop,
}

/// Looks at all references between collections that are verified at `standard` or above. The source is read again only for
/// references of which the sink has orphans and the source may have had some that are not known one by one; not if it bills that.
///
/// # Errors
/// What either side or a transform brings.
pub fn run(
    search: &SinkSearch<'_>,
    source: &mut OpenedSource,
    reader: &mut OpenedSource,
) -> Result<Vec<ReferenceResult>, Failure> {
    let is_enforced = |result: &ReferenceResult| is_enforced(search, result);
    let (mut results, mut sought) = references(search.collections, search.is_wanted, &is_enforced);
    sought.retain(|(number, of)| {
        let Some(taken) = taken_over(search, of) else {
            return true;
        };
        results[*number] = taken;
        false
    });
    if !sought.is_empty() {
        look(search, source, reader, &sought, &mut results)?;
    }
    Ok(results)
}

/// Whether the sink itself holds every record to the reference.
fn is_enforced(search: &SinkSearch<'_>, result: &ReferenceResult) -> bool {
    let there = search.described.get(&result.collection);
    there.is_some_and(|there| {
        there.references.iter().any(|known| {
            let points_there = known.to_fields.is_empty() || known.to_fields == result.to_fields;
            known.is_enforced
                && known.fields == result.fields
                && known.collection == result.parent
                && points_there
        })
    })
}

/// Orphans of one reference, as they are told apart.
#[derive(Default)]
struct Told {
    /// How many have this digest, and a label if it is one of the first.
    orphans: HashMap<u128, (u64, Option<Orphan>)>,
}

impl Told {
    fn add(&mut self, orphan: &Orphan) {
        let is_full = self.orphans.len() >= TOLD_APART_MAX;
        let is_labelled = self.orphans.len() < LABELLED_MAX;
        let digest = digest(orphan);
        match self.orphans.get_mut(&digest) {
            Some((count, _)) => *count += 1,
            None if is_full => {}
            None => {
                self.orphans
                    .insert(digest, (1, is_labelled.then(|| orphan.clone())));
            }
        }
    }

    /// Takes away one that the source has as well.
    fn take(&mut self, orphan: &Orphan) {
        if let Some((count, _)) = self.orphans.get_mut(&digest(orphan)) {
            *count = count.saturating_sub(1);
        }
    }

    /// Those that are left, the first of them by label.
    fn left(self) -> (u64, Vec<Orphan>) {
        let left = || self.orphans.values().filter(|(count, _)| *count > 0);
        let mut labels: Vec<Orphan> = left().filter_map(|(_, label)| label.clone()).collect();
        labels.sort_by(|one, other| (&one.record, &one.missing).cmp(&(&other.record, &other.missing)));
        labels.truncate(SHOWN_MAX);
        (left().map(|(count, _)| *count).sum(), labels)
    }
}

fn digest(orphan: &Orphan) -> u128 {
    let mut hasher = blake3::Hasher::new();
    for text in [&orphan.record, &orphan.missing] {
        hasher.update(&(text.len() as u64).to_be_bytes());
        hasher.update(text.as_bytes());
    }
    let mut digest = [0; 16];
    hasher.finalize_xof().fill(&mut digest);
    u128::from_be_bytes(digest)
}

fn look(
    search: &SinkSearch<'_>,
    source: &mut OpenedSource,
    reader: &mut OpenedSource,
    sought: &[(usize, Sought)],
    results: &mut [ReferenceResult],
) -> Result<(), Failure> {
    let all: Vec<Sought> = sought.iter().map(|(_, of)| of.clone()).collect();
    let mut told: Vec<Told> = all.iter().map(|_| Told::default()).collect();
    let mut reading = SinkReading {
        search,
        reader,
        missing: BTreeSet::new(),
    };
    let found = orphans::find(&all, KEY_BYTES_MAX, &mut reading, &mut |of, orphan| {
        if let Some(place) = all.iter().position(|one| one == of) {
            told[place].add(orphan);
        }
    })?;
    let missing = reading.missing;
    let mut doubtful = Vec::new();
    for ((place, (number, of)), found) in sought.iter().enumerate().zip(found) {
        let result = &mut results[*number];
        take(result, found);
        let lacks = [of.child, of.parent]
            .into_iter()
            .find(|side| missing.contains(side));
        if let Some(lacks) = lacks {
            // That a collection is missing is a difference of its own, and its children would all be orphans.
            let name = &search.collections[lacks].sink.name;
            *result = ReferenceResult {
                collection: result.collection.clone(),
                fields: result.fields.clone(),
                parent: result.parent.clone(),
                to_fields: result.to_fields.clone(),
                reason: Some(format!("the sink has no collection `{name}`")),
                ..ReferenceResult::default()
            };
            continue;
        }
        if result.orphan_count == 0 {
            continue;
        }
        if had_none(search, of) {
            result.sink_only_count = result.orphan_count;
        } else if !is_settled(search, of, &mut told[place], result) {
            doubtful.push(place);
        }
    }
    if doubtful.is_empty() {
        return Ok(());
    }
    let in_source = take_those_of_source(search, source, &all, &doubtful, &mut told)?;
    for (place, source_count) in doubtful.into_iter().zip(in_source) {
        let result = &mut results[sought[place].0];
        let (left, first) = std::mem::take(&mut told[place]).left();
        // Beyond what is told apart only the numbers speak.
        result.sink_only_count = left.max(result.orphan_count.saturating_sub(source_count));
        if !first.is_empty() {
            result.orphans = first;
        }
    }
    Ok(())
}

/// What was found of this reference in the source.
fn known<'a>(search: &SinkSearch<'a>, of: &Sought) -> Option<&'a ReferenceResult> {
    in_source(search.collections, search.known, of)
}

/// Whether what was found in the source before the copy says how many of these orphans the sink alone has, so that the source
/// need not be read again: all of its orphans were kept, or it bills each look, and then the numbers have to do.
fn is_settled(search: &SinkSearch<'_>, of: &Sought, told: &mut Told, result: &mut ReferenceResult) -> bool {
    let searched = known(search, of).filter(|known| known.state == ReferenceState::Searched);
    let Some(known) = searched else {
        return false;
    };
    if known.orphans.len() as u64 == known.orphan_count {
        for orphan in &known.orphans {
            told.take(orphan);
        }
        let (left, first) = std::mem::take(told).left();
        result.sink_only_count = left;
        if !first.is_empty() {
            result.orphans = first;
        }
        return true;
    }
    let bills = |number: usize| search.collections[number].source.cost.is_some();
    if bills(of.child) || bills(of.parent) {
        result.sink_only_count = result.orphan_count.saturating_sub(known.orphan_count);
        return true;
    }
    false
}

/// Whether it is known that the source has no orphan of this reference.
fn had_none(search: &SinkSearch<'_>, of: &Sought) -> bool {
    let (child, parent) = (&search.collections[of.child], &search.collections[of.parent]);
    match known(search, of) {
        Some(known) => match known.state {
            ReferenceState::Guaranteed => true,
            ReferenceState::Searched => known.orphan_count == 0,
            ReferenceState::Skipped => false,
        },
        // A source that holds its records to a reference says so each time that it is asked.
        None => child.sink.references.iter().any(|reference| {
            reference.is_enforced
                && reference.fields == of.fields
                && reference.collection == parent.sink.name
                && reference.to_fields == of.to_fields
        }),
    }
}

/// Looks for orphans of the `doubtful` ones of `all` in the source and takes those away from what is `told` of the sink.
/// Answers how many the source has of each.
fn take_those_of_source(
    search: &SinkSearch<'_>,
    source: &mut OpenedSource,
    all: &[Sought],
    doubtful: &[usize],
    told: &mut [Told],
) -> Result<Vec<u64>, Failure> {
    let some: Vec<Sought> = doubtful.iter().map(|place| all[*place].clone()).collect();
    let mut reading = SourceReading {
        transforms: search.transforms,
        emitter: search.emitter,
        stop: search.stop,
        collections: search.collections,
        source,
        // As it is now, like the comparison of the records.
        snapshot: None,
        units: Units::new(),
    };
    let found = orphans::find(&some, KEY_BYTES_MAX, &mut reading, &mut |of, orphan| {
        if let Some(place) = some.iter().position(|one| one == of) {
            told[doubtful[place]].take(orphan);
        }
    })?;
    Ok(found.into_iter().map(|found| found.orphan_count).collect())
}

/// Reads collections of the sink.
struct SinkReading<'a> {
    search: &'a SinkSearch<'a>,
    reader: &'a mut OpenedSource,
    /// Collections that the sink lacks.
    missing: BTreeSet<usize>,
}

impl Reading for SinkReading<'_> {
    fn read(
        &mut self,
        collection: usize,
        fields: &[String],
        each: &mut dyn FnMut(&Batch) -> Result<bool, Failure>,
    ) -> Result<(), Failure> {
        let planned = &self.search.collections[collection];
        let opened = self.reader.read(&ReadRequest {
            columns: fields.to_vec(),
            expected: Some(planned.sink.schema.clone()),
            ..ReadRequest::all(&planned.sink.name)
        });
        let mut stream = match opened {
            Ok(stream) => stream,
            Err(failure) if failure.error.kind == ErrorKind::NotFound => {
                self.missing.insert(collection);
                return Ok(());
            }
            Err(failure) => return Err(failure),
        };
        let mut record_count = 0;
        loop {
            if self.search.stop.is_raised() {
                return Err(Error::cancelled().into());
            }
            match stream.next_item()? {
                Item::Batch(batch) => {
                    record_count += batch.record_count() as u64;
                    if !each(&batch)? {
                        return Ok(());
                    }
                    self.search.emitter.emit(&Event::OrphanSearch {
                        collection: planned.source.name.clone(),
                        record_count,
                    });
                }
                Item::End => return Ok(()),
                _ => {}
            }
        }
    }

    fn key(&self, collection: usize) -> &[String] {
        &self.search.collections[collection].sink.key
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn orphan(record: &str, missing: &str) -> Orphan {
        Orphan {
            record: record.to_owned(),
            missing: missing.to_owned(),
        }
    }

    #[test]
    fn what_the_source_had_as_well_is_taken_away_one_for_one() {
        let mut told = Told::default();
        for (record, missing) in [
            ("id=3", "to=9"),
            ("id=2", "to=8"),
            ("id=1", "to=9"),
            ("id=1", "to=9"),
        ] {
            told.add(&orphan(record, missing));
        }
        // One that the sink does not have changes nothing, nor does another parent of the same record.
        for (record, missing) in [
            ("id=1", "to=9"),
            ("id=7", "to=9"),
            ("id=3", "to=8"),
            ("id=2", "to=8"),
        ] {
            told.take(&orphan(record, missing));
        }
        assert_eq!(
            told.left(),
            (2, vec![orphan("id=1", "to=9"), orphan("id=3", "to=9")])
        );
    }

    #[test]
    fn more_than_can_be_named_are_counted() {
        let mut told = Told::default();
        for number in 0..LABELLED_MAX + 10 {
            told.add(&orphan(&format!("id={number:06}"), "to=1"));
        }
        let (count, first) = told.left();
        assert_eq!((count, first.len()), ((LABELLED_MAX + 10) as u64, SHOWN_MAX));
        assert_eq!(first[0].record, "id=000000");
    }
}
