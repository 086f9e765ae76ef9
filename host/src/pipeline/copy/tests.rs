//! Copies with taps: however a collection is divided and its records are batched, the digests are those of its records, and
//! what was not read to its end by this copy alone has none.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow_array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray};
use whimbrel_plugin_api::capability::Loss;
use whimbrel_plugin_api::collection::{CollectionsRequest, FieldLoss};
use whimbrel_plugin_api::error::ErrorScope;
use whimbrel_plugin_api::source::{Item, RecordStream, RejectedRecord};
use whimbrel_plugin_api::{
    Batch, Cursor, Error, ErrorKind, Field, RecordType, Schema, Source, sink::LaneId, sink::LaneState,
};

use super::*;
use crate::barrier::Barrier;
use crate::checkpoint;
use crate::control::Stop;
use crate::events::Emitter;
use crate::loader::observe::CallLog;
use crate::pipeline::breaker::Breaker;
use crate::pipeline::concurrency::Concurrency;
use crate::pipeline::counters::Counters;
use crate::pipeline::outcomes::Outcomes;
use crate::pipeline::pause::Pause;
use crate::pipeline::staging::Discard;
use crate::pipeline::transaction::TransactionRules;
use crate::verification::bucket::{Bucket, Buckets};
use crate::verification::digest::{Digester, Pair, Recipe};
use crate::verification::full::Tapped;
use crate::verification::pairs::PairFile;
use crate::verification::tap::Tappable;

/// Collections of each copy.
const COLLECTIONS: usize = 2;

/// A source of numbered records.
#[derive(Clone)]
struct Numbers {
    schema: Arc<Schema>,
    records: RecordBatch,
    per_batch: usize,
    /// Fails once, for now, before the record of this number.
    away_at: Option<Arc<std::sync::atomic::AtomicUsize>>,
    /// From the record of this number on there is a field more.
    grows_at: Option<usize>,
    /// Refuses a record before each batch.
    refuses: bool,
}

fn number(cursor: &Cursor) -> Option<usize> {
    let octets: [u8; 8] = cursor.0.as_slice().try_into().ok()?;
    Some(usize::from_le_bytes(octets))
}

fn cursor(number: usize) -> Cursor {
    Cursor(number.to_le_bytes().to_vec())
}

/// The records from one number to another, as a partition.
fn part(from: usize, to: usize) -> Partition {
    Partition {
        descriptor: Cursor([cursor(from).0, cursor(to).0].concat()),
        label: format!("{from}..{to}"),
        estimate: Default::default(),
    }
}

impl Source for Numbers {
    fn collections(&mut self, _: &CollectionsRequest) -> Result<Vec<Collection>, Error> {
        Ok(Vec::new())
    }

    fn read(&mut self, request: &ReadRequest) -> Result<Box<dyn RecordStream>, Error> {
        let descriptor = request.partition.as_ref().map(|part| part.descriptor.0.clone());
        let bound = |at: std::ops::Range<usize>| {
            let octets = descriptor.as_ref().and_then(|octets| octets.get(at));
            octets.and_then(|octets| number(&Cursor(octets.to_vec())))
        };
        let end = bound(8..16).unwrap_or(self.records.num_rows());
        let from = number(&request.cursor).or(bound(0..8)).unwrap_or(0);
        let limit = request.limit.map_or(usize::MAX, |limit| limit as usize);
        Ok(Box::new(Reading {
            of: self.clone(),
            next: from,
            end: end.min(from.saturating_add(limit)),
            waiting: vec![Item::Schema(Arc::clone(&self.schema))],
        }))
    }
}

struct Reading {
    of: Numbers,
    next: usize,
    end: usize,
    waiting: Vec<Item>,
}

impl RecordStream for Reading {
    fn next(&mut self) -> Result<Item, Error> {
        if let Some(item) = self.waiting.pop() {
            return Ok(item);
        }
        if self.next >= self.end {
            return Ok(Item::End);
        }
        let to = self.end.min(self.next + self.of.per_batch);
        let is_away = |at: &Arc<std::sync::atomic::AtomicUsize>| {
            let due = at.load(Ordering::SeqCst);
            (self.next..to).contains(&due) && at.swap(usize::MAX, Ordering::SeqCst) == due
        };
        if self.of.away_at.as_ref().is_some_and(is_away) {
            let away = Error::new(ErrorKind::Unavailable, "a.away", "away");
            return Err(away.with_scope(ErrorScope::Transaction));
        }
        let records = self.of.records.slice(self.next, to - self.next);
        let batch = if self.of.grows_at.is_some_and(|at| at < to) {
            let mut grown = (*self.of.schema).clone();
            grown.fields.push(Field::new("new", RecordType::INT64));
            grown.version += 1;
            let mut columns = records.columns().to_vec();
            columns.push(Arc::new(Int64Array::from(vec![1; to - self.next])));
            let grown = Arc::new(grown);
            let records = RecordBatch::try_new(grown.to_arrow(), columns).unwrap();
            self.of.grows_at = None;
            self.of.schema = Arc::clone(&grown);
            self.end = to;
            self.waiting
                .push(Item::Batch(Batch::new(Arc::clone(&grown), records)?));
            self.next = to;
            return Ok(Item::Schema(grown));
        } else {
            Batch::new(Arc::clone(&self.of.schema), records)?
        };
        let refused = self.next;
        self.next = to;
        let batch = Item::Batch(batch.with_cursor(cursor(to)));
        if !self.of.refuses {
            return Ok(batch);
        }
        self.waiting.push(batch);
        Ok(Item::Rejected(vec![RejectedRecord {
            record: format!("bad {refused}"),
            row: None,
            code: "a.bad".to_owned(),
            message: "bad".to_owned(),
            data: None,
        }]))
    }
}

/// Records whose values repeat, of which some lose something.
fn numbers(count: usize) -> Numbers {
    let schema = Arc::new(Schema::new(vec![
        Field::required("id", RecordType::INT64),
        Field::new("name", RecordType::Text),
        Field::new("score", RecordType::FLOAT64),
    ]));
    let ids = Int64Array::from_iter_values(0..count as i64);
    let names =
        StringArray::from_iter((0..count).map(|id| (id % 7 != 3).then(|| format!("name {}", id % 5))));
    let score = |id: usize| match id % 6 {
        2 => None,
        4 => Some(-0.0),
        _ => Some(id as f64 / 8.0),
    };
    let scores = Float64Array::from_iter((0..count).map(score));
    let columns: Vec<ArrayRef> = vec![Arc::new(ids), Arc::new(names), Arc::new(scores)];
    Numbers {
        records: RecordBatch::try_new(schema.to_arrow(), columns).unwrap(),
        schema,
        per_batch: 100,
        away_at: None,
        grows_at: None,
        refuses: false,
    }
}

/// What is copied, and how.
struct Course {
    source: Numbers,
    /// Both collections in these parts.
    parts: Vec<Partition>,
    losses: Vec<FieldLoss>,
    key: Vec<String>,
    limit: Option<u64>,
    /// Where the first part is gone on with.
    from: Cursor,
    readers: usize,
    can_resume: bool,
}

impl Course {
    fn of(source: Numbers, parts: Vec<Partition>) -> Self {
        Self {
            source,
            parts,
            losses: Vec::new(),
            key: vec!["id".to_owned()],
            limit: None,
            from: Cursor::start(),
            readers: 2,
            can_resume: true,
        }
    }

    fn lossy(source: Numbers, parts: Vec<Partition>) -> Self {
        let loss = FieldLoss {
            field: "score".to_owned(),
            loss: Loss::NegativeZeroToZero,
        };
        Self {
            losses: vec![loss],
            ..Self::of(source, parts)
        }
    }

    fn collection(&self, is_sink: bool) -> Collection {
        let mut collection = Collection::new("c", (*self.source.schema).clone());
        collection.key.clone_from(&self.key);
        if is_sink {
            collection.losses.clone_from(&self.losses);
        }
        collection
    }

    fn tasks(&self) -> Vec<CopyTask> {
        let collections = 0..COLLECTIONS;
        let of_one = |collection| {
            self.parts.iter().enumerate().map(move |(number, partition)| {
                let mut state = LaneState::default();
                if number == 0 {
                    state.cursor = self.from.clone();
                }
                let mut machine = checkpoint::Lane::new(LaneId::default(), "");
                machine.claimed(state).unwrap();
                CopyTask {
                    collection,
                    source_name: "c".to_owned(),
                    into: Arc::new(self.collection(true)),
                    from: Arc::new(self.collection(false)),
                    transforms: Arc::default(),
                    limit: self.limit,
                    partition: partition.clone(),
                    machine,
                    policy: ConflictPolicy::Append,
                    waits_for: Arc::default(),
                    held_back: HeldBack::Nothing,
                }
            })
        };
        collections.flat_map(of_one).collect()
    }

    fn taps(&self, folder: &Path) -> Taps {
        self.telling_taps(folder, &Emitter::new(Box::new(std::io::sink())))
    }

    fn telling_taps(&self, folder: &Path, emitter: &Emitter) -> Taps {
        let (source, sink) = (self.collection(false), self.collection(true));
        let tappable = |collection| Tappable {
            collection,
            source: &source,
            sink: &sink,
            is_transformed: false,
        };
        let taps = Taps::new(folder, self.can_resume, (0..COLLECTIONS).map(tappable), emitter);
        (0..COLLECTIONS).for_each(|collection| taps.divided(collection, &self.parts));
        taps
    }

    /// Copies into nothing; how many records of each collection were read.
    fn copy(&self, taps: Option<&Taps>) -> Vec<u64> {
        let (emitter, stop) = (Emitter::new(Box::new(std::io::sink())), Stop::default());
        let pause = Arc::new(Pause::new(&emitter, &stop, Duration::ZERO));
        let tasks = self.tasks();
        let counters = Counters::new(vec!["c".to_owned(); COLLECTIONS], Instant::now());
        for collection in 0..COLLECTIONS {
            let total = &counters.of(collection).partitions_total;
            total.store(self.parts.len() as u64, Ordering::Relaxed);
        }
        let settings = Settings {
            snapshot: None,
            readers: self.readers,
            collections_parallel: COLLECTIONS,
            transforms: Transforms::default(),
            on_new_field: NewFieldPolicy::Evolve,
            budget: Budget::new(1 << 24),
            link_batches: 2,
            batch: BatchBounds::default(),
            open_source: None,
            reading: ReadingContext {
                can_resume: true,
                retries_max: 1,
                retry_delay: Duration::ZERO,
                emitter: emitter.clone(),
                stop: stop.clone(),
                pause: Arc::clone(&pause),
            },
            taps: taps.cloned(),
        };
        let context = WriterContext {
            counters: Arc::clone(&counters),
            outcomes: Arc::new(Outcomes::new(u64::MAX)),
            pause,
            barrier: Barrier::default(),
            breaker: Arc::new(Breaker::new(crate::config::BreakerPolicy {
                rate: 1.0,
                ..Default::default()
            })),
            concurrency: Concurrency::new(1, "nothing", &emitter),
            emitter: emitter.clone(),
            stop: stop.clone(),
            phase: Phase::Import,
            announces_commits: false,
            rules: TransactionRules {
                batch_records: 1_000,
                widens: true,
                commit_records: 1_000,
                commit_age: Duration::from_secs(60),
                timeout: Duration::from_secs(60),
                retries_max: 0,
                retry_delay: Duration::ZERO,
                is_transactional: false,
                keeps_lanes: false,
            },
            overflows: false,
            continues_on_error: false,
            reopen: None,
        };
        let calls = CallLog::new(emitter, None);
        let mut source = OpenedSource::of_host("numbers", Box::new(self.source.clone()), &calls);
        let mut sinks = vec![OpenedSink::of_host("nothing", Box::new(Discard), &calls)];
        copy(&mut source, &mut sinks, &tasks, &settings, &context);
        assert!(stop.cause().is_none(), "the copy failed");
        let read = |collection| counters.of(collection).read.load(Ordering::Relaxed);
        (0..COLLECTIONS).map(read).collect()
    }

    /// Copies with taps, and takes what these have made of each collection.
    fn tapped(&self, folder: &Path) -> (Taps, Vec<Option<Tapped>>) {
        let taps = self.taps(folder);
        let read = self.copy(Some(&taps));
        let tapped = (0..COLLECTIONS).map(|collection| taps.take(collection, Some(read[collection])));
        let tapped = tapped.collect();
        (taps, tapped)
    }

    /// The digests of the first `count` records, made at once.
    fn at_once(&self, is_sink: bool, count: usize) -> Vec<Pair> {
        let recipe = Recipe::of(&self.collection(is_sink));
        let records = self.source.records.slice(0, count);
        let batch = Batch::new(Arc::clone(&self.source.schema), records).unwrap();
        let mut pairs = Vec::new();
        Digester::new(recipe).digest(&batch, &mut pairs).unwrap();
        pairs
    }
}

fn buckets(pairs: &[Pair]) -> Buckets {
    let mut buckets = Buckets::default();
    pairs.iter().for_each(|pair| buckets.add(*pair));
    buckets
}

fn kept(files: &[PairFile]) -> Vec<Pair> {
    let mut pairs = Vec::new();
    for file in files {
        file.scan(&mut |_, pair| {
            pairs.push(pair);
            Ok(())
        })
        .unwrap();
    }
    pairs
}

/// Parts of `count` records, divided anywhere.
fn divided(count: usize, random: &mut fastrand::Rng) -> Vec<Partition> {
    let mut bounds: Vec<usize> = (0..random.usize(0..5)).map(|_| random.usize(0..=count)).collect();
    bounds.extend([0, count]);
    bounds.sort_unstable();
    bounds.dedup();
    match bounds.as_slice() {
        [_] => vec![part(0, 0)],
        several => several.windows(2).map(|of| part(of[0], of[1])).collect(),
    }
}

fn seed() -> u64 {
    let given = std::env::var("WHIMBREL_SEED")
        .ok()
        .and_then(|text| text.parse().ok());
    let seed = given.unwrap_or_else(|| fastrand::u64(..));
    println!("WHIMBREL_SEED={seed}");
    seed
}

#[test]
fn digests_do_not_depend_on_how_records_are_divided_and_batched() {
    let mut random = fastrand::Rng::with_seed(seed());
    let folder = tempfile::tempdir().unwrap();
    for round in 0..40 {
        let count = random.usize(0..700);
        let mut source = numbers(count);
        source.per_batch = random.usize(1..300);
        let parts = divided(count, &mut random);
        let mut course = match round % 2 {
            0 => Course::of(source, parts),
            _ => Course::lossy(source, parts),
        };
        course.readers = random.usize(1..4);
        if random.bool() {
            course.key = Vec::new();
        }
        let (_taps, tapped) = course.tapped(folder.path());
        let (exact, lossy) = (course.at_once(false, count), course.at_once(true, count));
        for tapped in tapped {
            let Tapped {
                extracted,
                transformed,
            } = tapped.unwrap();
            assert_eq!(extracted.buckets, buckets(&exact));
            assert_eq!(transformed.buckets, buckets(&lossy));
            assert_eq!(kept(&transformed.files), lossy);
            assert_eq!(transformed.parts, course.parts);
            for side in [&extracted, &transformed] {
                let labels: Vec<_> = side.partitions.iter().map(|one| &one.partition).collect();
                assert_eq!(
                    labels,
                    course.parts.iter().map(|part| &part.label).collect::<Vec<_>>()
                );
                let total: u64 = side.partitions.iter().map(|one| one.record_count).sum();
                assert_eq!(total, count as u64);
            }
            let negative_zeros = (0..count).filter(|id| id % 6 == 4).count() as u64;
            let wanted = if course.losses.is_empty() {
                0
            } else {
                negative_zeros
            };
            assert_eq!(transformed.lossy_record_count, wanted);
            assert_eq!(
                transformed
                    .losses
                    .iter()
                    .map(|loss| loss.record_count)
                    .sum::<u64>(),
                wanted
            );
        }
    }
}

#[test]
fn each_batch_is_read_again_from_the_cursor_before_it() {
    let folder = tempfile::tempdir().unwrap();
    for (can_resume, known) in [(true, true), (false, false)] {
        let mut course = Course::of(numbers(250), vec![part(0, 130), part(130, 250)]);
        course.can_resume = can_resume;
        let (_taps, tapped) = course.tapped(folder.path());
        let tapped = tapped.into_iter().next().flatten().unwrap();
        let places: Vec<_> = [(0, 5), (0, 110), (1, 3)]
            .map(|(file, position)| tapped.transformed.files[file].batch_of(position).unwrap())
            .into_iter()
            .map(|place| (place.first, place.record_count, place.cursor))
            .collect();
        let start = Some(Cursor::start());
        let second = known.then(|| cursor(100));
        assert_eq!(
            places,
            [(0, 100, start.clone()), (100, 30, second), (0, 100, start)]
        );
    }
}

#[test]
fn a_stream_that_is_taken_up_again_shows_each_record_once() {
    let folder = tempfile::tempdir().unwrap();
    let mut source = numbers(500);
    source.away_at = Some(Arc::new(std::sync::atomic::AtomicUsize::new(333)));
    let course = Course::lossy(source, vec![part(0, 250), part(250, 500)]);
    let (_taps, tapped) = course.tapped(folder.path());
    for tapped in tapped {
        let tapped = tapped.unwrap();
        assert_eq!(tapped.extracted.buckets, buckets(&course.at_once(false, 500)));
        assert_eq!(kept(&tapped.transformed.files), course.at_once(true, 500));
    }
}

#[test]
fn a_sample_has_the_digests_of_the_sample() {
    let folder = tempfile::tempdir().unwrap();
    let mut course = Course::of(numbers(500), vec![part(0, 500)]);
    course.limit = Some(130);
    let (_taps, tapped) = course.tapped(folder.path());
    let tapped = tapped.into_iter().next().flatten().unwrap();
    assert_eq!(tapped.transformed.buckets, buckets(&course.at_once(true, 130)));
}

#[test]
fn what_the_source_could_not_read_is_counted() {
    let folder = tempfile::tempdir().unwrap();
    let mut source = numbers(500);
    source.refuses = true;
    let course = Course::of(source, vec![part(0, 250), part(250, 500)]);
    let (_taps, tapped) = course.tapped(folder.path());
    let tapped = tapped.into_iter().next().flatten().unwrap();
    for side in [&tapped.extracted, &tapped.transformed] {
        let mut labels = side.unreadable.clone();
        labels.sort_unstable();
        let wanted = ["bad 0", "bad 100", "bad 200", "bad 250", "bad 350", "bad 450"];
        assert_eq!(
            (labels, side.unreadable_count),
            (wanted.map(str::to_owned).to_vec(), 6)
        );
    }
}

#[test]
fn records_with_fields_that_were_not_planned_have_no_digests() {
    let folder = tempfile::tempdir().unwrap();
    let mut source = numbers(500);
    source.grows_at = Some(150);
    let course = Course::of(source, vec![part(0, 500)]);
    let (_taps, tapped) = course.tapped(folder.path());
    assert!(tapped.iter().all(Option::is_none));
}

#[test]
fn a_partition_that_is_gone_on_with_has_no_digests() {
    let folder = tempfile::tempdir().unwrap();
    let mut course = Course::of(numbers(500), vec![part(0, 250), part(250, 500)]);
    course.from = cursor(100);
    let (_taps, tapped) = course.tapped(folder.path());
    assert!(tapped.iter().all(Option::is_none));
}

#[test]
fn partitions_that_are_missing_or_come_twice_leave_no_digests() {
    let folder = tempfile::tempdir().unwrap();
    let mut course = Course::of(numbers(500), vec![part(0, 250), part(250, 500)]);
    let taps = course.taps(folder.path());
    // An earlier run has copied the other one.
    course.parts.truncate(1);
    let read = course.copy(Some(&taps));
    assert!(taps.take(0, Some(read[0])).is_none());
    let course = Course::of(numbers(500), vec![part(0, 500)]);
    let taps = course.taps(folder.path());
    course.copy(Some(&taps));
    let read = course.copy(Some(&taps));
    assert!(taps.take(0, Some(read[0])).is_none());
}

#[test]
fn digests_that_are_not_those_of_all_that_was_counted_are_not_given() {
    let folder = tempfile::tempdir().unwrap();
    let course = Course::of(numbers(500), vec![part(0, 500)]);
    for (counted, is_given) in [(None, false), (Some(499), false), (Some(500), true)] {
        let taps = course.taps(folder.path());
        course.copy(Some(&taps));
        assert_eq!(taps.take(0, counted).is_some(), is_given, "{counted:?}");
    }
}

/// Keeps what is told.
#[derive(Clone, Default)]
struct Told(Arc<std::sync::Mutex<Vec<u8>>>);

impl std::io::Write for Told {
    fn write(&mut self, octets: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(octets);
        Ok(octets.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_file_that_cannot_be_written_costs_the_digests_and_not_the_copy() {
    let folder = tempfile::tempdir().unwrap();
    // The place of the folder is taken.
    let taken = folder.path().join("taken");
    std::fs::write(&taken, "").unwrap();
    let course = Course::of(numbers(500), vec![part(0, 250), part(250, 500)]);
    let told = Told::default();
    let taps = course.telling_taps(&taken, &Emitter::new(Box::new(told.clone())));
    let read = course.copy(Some(&taps));
    assert_eq!(read, [500, 500]);
    assert!(taps.take(0, Some(500)).is_none());
    let told = String::from_utf8(told.0.lock().unwrap().clone()).unwrap();
    let given_up = told.lines().filter(|line| line.contains("is read again")).count();
    assert_eq!(given_up, COLLECTIONS, "once for each collection: {told}");
}

#[test]
fn files_are_for_their_owner_and_gone_with_the_taps() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let course = Course::of(numbers(500), vec![part(0, 500)]);
    let (taps, tapped) = course.tapped(folder.path());
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let tap = folder.path().join(".tap");
    assert_eq!(mode(&tap), 0o700);
    for entry in std::fs::read_dir(tap.join("0-0")).unwrap() {
        assert_eq!(mode(&entry.unwrap().path()), 0o600);
    }
    drop((taps, tapped));
    assert!(!tap.exists());
}

#[test]
fn a_copy_without_taps_makes_no_digests() {
    let folder = tempfile::tempdir().unwrap();
    let course = Course::of(numbers(500), vec![part(0, 500)]);
    assert_eq!(course.copy(None), [500, 500]);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    assert_eq!(buckets(&[]).total(), Bucket::default());
}
