//! Repairs from a made-up source into a made-up sink in memory, by a list of differences as a comparison writes it.
//! The sink refuses a record whose parent it does not have, and to remove one that others refer to.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex};

use arrow_array::cast::AsArray as _;
use arrow_array::types::Int64Type;
use arrow_array::{Array as _, ArrayRef, Int64Array, RecordBatch, StringArray};
use serde_json::json;
use whimbrel_plugin_api::capability::{Loss, SinkCapabilities, SourceCapabilities};
use whimbrel_plugin_api::collection::{CollectionsRequest, FieldLoss};
use whimbrel_plugin_api::sink::{
    AlterRequest, Checkpoint, Committed, LaneClaim, LaneId, LaneState, PrepareReport, PrepareRequest, Receipt,
};
use whimbrel_plugin_api::source::{Item, ReadRequest, RecordStream, RejectedRecord};
use whimbrel_plugin_api::{
    Batch, Collection, ConflictPolicy, Error, Field, RecordType, Result, Schema, Sink, Source,
};

use super::{Agreed, Repair, Repaired, Told, run};
use crate::config::{Job, VerificationLevel};
use crate::control::Stop;
use crate::events::{Comparison, Emitter, Event, Mismatch, MismatchKind, RepairResult, VerificationResult};
use crate::loader::observe::{CallLog, OpenedSink, OpenedSource};
use crate::plan::PlannedCollection;
use crate::transform::Transforms;

/// Records by id, each with its parent.
type Records = BTreeMap<i64, Option<i64>>;

fn schema() -> Schema {
    Schema::new(vec![
        Field::required("id", RecordType::INT64),
        Field::new("parent", RecordType::INT64),
    ])
}

fn batch(records: &Records) -> Batch {
    let schema = schema();
    let ids = Int64Array::from_iter_values(records.keys().copied());
    let parents = Int64Array::from_iter(records.values().copied());
    let columns = RecordBatch::try_new(schema.to_arrow(), vec![Arc::new(ids), Arc::new(parents)]).unwrap();
    Batch::new(Arc::new(schema), columns).unwrap()
}

/// How often it was asked for what.
#[derive(Default)]
struct Asked {
    lookups: u64,
    scans: u64,
    /// Whether it brings a record that cannot be delivered.
    rejects: bool,
    /// Records that cannot be read, each with what is given of it.
    spoilt: BTreeMap<i64, Option<String>>,
    /// Whether records have a field that is not in the schema as it is described.
    has_more: bool,
    is_undescribed: bool,
}

impl Asked {
    /// What a stream brings of `records`.
    fn deliver(&self, request: &ReadRequest, records: &Records) -> Box<dyn RecordStream> {
        let mut rejected: Vec<RejectedRecord> = Vec::new();
        let mut whole = records.clone();
        for (id, data) in &self.spoilt {
            if whole.remove(id).is_some() {
                let data = data.clone();
                rejected.push(RejectedRecord { data, ..torn() });
            }
        }
        if self.rejects {
            rejected.push(torn());
        }
        let expected = request.expected.as_ref();
        let has_more = expected.is_none_or(|expected| expected.index_of("mine").is_some());
        let batch = match self.has_more && has_more {
            true => with_more(&whole),
            false => batch(&whole),
        };
        let items = [
            Item::Schema(Arc::clone(&batch.schema)),
            Item::Rejected(rejected),
            Item::Batch(batch),
        ];
        Box::new(Items(items.into_iter().collect()))
    }
}

/// The same with a field that nobody has described.
fn with_more(records: &Records) -> Batch {
    let mut schema = schema();
    schema.fields.push(Field::new("mine", RecordType::Text));
    let mine: ArrayRef = Arc::new(StringArray::from(vec!["a"; records.len()]));
    let plain = batch(records).records;
    let columns = plain.columns().iter().cloned().chain([mine]).collect();
    let columns = RecordBatch::try_new(schema.to_arrow(), columns).unwrap();
    Batch::new(Arc::new(schema), columns).unwrap()
}

#[derive(Clone)]
struct MemorySource(Arc<Mutex<(Records, Asked)>>);

impl Source for MemorySource {
    fn collections(&mut self, _: &CollectionsRequest) -> Result<Vec<Collection>> {
        let asked = &self.0.lock().unwrap().1;
        let is_described = asked.has_more && !asked.is_undescribed;
        let described = Collection::new("c", schema()).with_key(["id"]);
        Ok(is_described.then_some(described).into_iter().collect())
    }

    fn read(&mut self, request: &ReadRequest) -> Result<Box<dyn RecordStream>> {
        let mut inner = self.0.lock().unwrap();
        inner.1.scans += 1;
        Ok(inner.1.deliver(request, &inner.0))
    }

    fn lookup(&mut self, request: &ReadRequest, keys: &Batch) -> Result<Box<dyn RecordStream>> {
        let mut inner = self.0.lock().unwrap();
        inner.1.lookups += 1;
        assert_eq!(keys.schema.fields[0].name, "id");
        let ids = keys.records.column(0).as_primitive::<Int64Type>();
        let found = (0..ids.len())
            .filter_map(|row| Some((ids.value(row), *inner.0.get(&ids.value(row))?)))
            .collect();
        Ok(inner.1.deliver(request, &found))
    }
}

/// A stream of these.
struct Items(VecDeque<Item>);

impl RecordStream for Items {
    fn next(&mut self) -> Result<Item> {
        Ok(self.0.pop_front().unwrap_or(Item::End))
    }
}

/// A record that cannot be delivered.
fn torn() -> RejectedRecord {
    RejectedRecord {
        record: "x".into(),
        row: None,
        code: "a.torn".into(),
        message: "it is torn".into(),
        data: None,
    }
}

#[derive(Default)]
struct Store {
    lane: Option<LaneState>,
    durable: Records,
    open: Records,
    commits: u64,
    /// So many commits are made before writing fails, if it does.
    fails_at: Option<u64>,
    /// By which policies records were written.
    policies: BTreeSet<&'static str>,
    spoilt: BTreeMap<i64, Option<String>>,
    has_more: bool,
    is_undescribed: bool,
}

#[derive(Clone, Default)]
struct MemorySink(Arc<Mutex<Store>>);

impl Sink for MemorySink {
    fn prepare(&mut self, _: &PrepareRequest) -> Result<PrepareReport> {
        Ok(PrepareReport::default())
    }

    fn alter(&mut self, _: &AlterRequest) -> Result<PrepareReport> {
        Ok(PrepareReport::default())
    }

    fn take_over(&mut self, claims: &[LaneClaim]) -> Result<Vec<LaneState>> {
        let mut store = self.0.lock().unwrap();
        let claim = &claims[0];
        assert_eq!(claim.lane.partition.0, b"repair");
        let state = LaneState::taken_over(store.lane.as_ref(), claim)?;
        store.lane = Some(state.clone());
        Ok(vec![state])
    }

    fn begin(&mut self, _: &LaneId) -> Result<()> {
        let mut store = self.0.lock().unwrap();
        store.open = store.durable.clone();
        Ok(())
    }

    fn write(&mut self, _: &str, batch: &Batch, policy: ConflictPolicy) -> Result<Receipt> {
        let mut store = self.0.lock().unwrap();
        if store.fails_at == Some(store.commits) {
            return Err(Error::new(
                whimbrel_plugin_api::ErrorKind::Permission,
                "a.closed",
                "it is closed",
            ));
        }
        store.policies.insert(match policy {
            ConflictPolicy::Overwrite => "overwrite",
            ConflictPolicy::Merge => "merge",
            ConflictPolicy::Skip => "skip",
            _ => "another one",
        });
        let ids = batch.records.column(0).as_primitive::<Int64Type>();
        let parents = batch.records.column(1).as_primitive::<Int64Type>();
        let mut receipt = Receipt::default();
        for row in 0..ids.len() {
            let parent = (!parents.is_null(row)).then(|| parents.value(row));
            if parent.is_some_and(|parent| !store.open.contains_key(&parent)) {
                receipt.rejected.push(RejectedRecord {
                    record: "x".into(),
                    row: Some(row as u64),
                    code: "a.orphan".into(),
                    message: "its parent is not there".into(),
                    data: None,
                });
                continue;
            }
            store.open.insert(ids.value(row), parent);
            receipt.accepted += 1;
        }
        Ok(receipt)
    }

    fn remove(&mut self, _: &str, keys: &Batch) -> Result<u64> {
        let mut store = self.0.lock().unwrap();
        let ids = keys.records.column(0).as_primitive::<Int64Type>();
        let mut count = 0;
        for row in 0..ids.len() {
            let id = ids.value(row);
            if store.open.values().any(|parent| *parent == Some(id)) {
                return Err(Error::new(
                    whimbrel_plugin_api::ErrorKind::Integrity,
                    "a.child",
                    "others refer to it",
                ));
            }
            count += u64::from(store.open.remove(&id).is_some());
        }
        Ok(count)
    }

    fn reader(&mut self) -> Result<Box<dyn Source>> {
        let store = self.0.lock().unwrap();
        let asked = Asked {
            spoilt: store.spoilt.clone(),
            has_more: store.has_more,
            is_undescribed: store.is_undescribed,
            ..Asked::default()
        };
        let records = (store.durable.clone(), asked);
        Ok(Box::new(MemorySource(Arc::new(Mutex::new(records)))))
    }

    fn commit(&mut self, checkpoint: &Checkpoint) -> Result<Committed> {
        let mut store = self.0.lock().unwrap();
        let Some(next) = store.lane.as_ref().and_then(|lane| lane.committed(checkpoint)) else {
            return Ok(Committed::Fenced);
        };
        let seq = next.seq;
        store.lane = Some(next);
        store.durable = std::mem::take(&mut store.open);
        store.commits += 1;
        Ok(Committed::Committed { seq })
    }

    fn abort(&mut self) -> Result<()> {
        self.0.lock().unwrap().open.clear();
        Ok(())
    }
}

fn planned() -> PlannedCollection {
    let mut collection = Collection::new("c", schema());
    collection.key = vec!["id".into()];
    PlannedCollection {
        source: collection.clone(),
        transforms: Arc::from([]),
        sink: collection,
        policy: ConflictPolicy::Fail,
        verification: VerificationLevel::Comprehensive,
        limit: None,
        waits_for: Vec::new(),
        held_back: Vec::new(),
        left_out: Vec::new(),
    }
}

/// What both sides can do.
fn able() -> (SourceCapabilities, SinkCapabilities) {
    let source = SourceCapabilities {
        lookup: true,
        ..SourceCapabilities::default()
    };
    let sink = SinkCapabilities {
        upsert: true,
        remove: true,
        policies: vec![
            ConflictPolicy::Overwrite,
            ConflictPolicy::Merge,
            ConflictPolicy::Skip,
        ],
        ..SinkCapabilities::default()
    };
    (source, sink)
}

struct Scene {
    source: MemorySource,
    sink: MemorySink,
    planned: PlannedCollection,
    able: (SourceCapabilities, SinkCapabilities),
    sink_looks_up: bool,
    removes_most: bool,
    source_unreadable_count: u64,
    told: Buffer,
    on_conflict: &'static str,
    agreed: Option<BTreeMap<String, Agreed>>,
}

/// What was told, a line per event.
#[derive(Clone, Default)]
struct Buffer(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Buffer {
    fn write(&mut self, octets: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend(octets);
        Ok(octets.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Scene {
    fn new(source: Records, sink: Records) -> Self {
        let scene = Self {
            source: MemorySource(Arc::new(Mutex::new((source, Asked::default())))),
            sink: MemorySink::default(),
            planned: planned(),
            able: able(),
            sink_looks_up: true,
            removes_most: false,
            source_unreadable_count: 0,
            told: Buffer::default(),
            on_conflict: "overwrite",
            agreed: None,
        };
        scene.sink.0.lock().unwrap().durable = sink;
        scene
    }

    fn found(&self, file: Option<&str>) -> VerificationResult {
        let mut found = VerificationResult::begun("c", "c", VerificationLevel::Comprehensive);
        found.comparison = Comparison::Different;
        found.mismatch_count = 1;
        found.source_count = self.source.0.lock().unwrap().0.len() as u64;
        found.sink_count = self.durable().len() as u64;
        found.source_unreadable_count = self.source_unreadable_count;
        found.mismatches_file = file.map(str::to_owned);
        found
    }

    fn repair(&self, folder: &Path, found: &VerificationResult) -> RepairResult {
        let repaired = self.repaired(folder, found);
        assert!(repaired.failure.is_none(), "{:?}", repaired.failure);
        repaired.results.into_iter().next().unwrap()
    }

    fn repaired(&self, folder: &Path, found: &VerificationResult) -> Repaired {
        let emitter = Emitter::new(Box::new(std::io::sink()));
        let told = Emitter::new(Box::new(self.told.clone()));
        let job = json!({ "name": "j", "source": { "plugin": "p" }, "sink": { "plugin": "p" },
                          "import": { "retry_delay_ms": 1, "on_conflict": self.on_conflict } });
        let job: Job = serde_json::from_value(job).unwrap();
        let (transforms, stop) = (Transforms::default(), Stop::default());
        let repair = Repair {
            job: &job,
            intended: &job,
            run_id: "one",
            transforms: &transforms,
            stop: &stop,
            told: Told::to(&told),
            source_can: &self.able.0,
            sink_can: &self.able.1,
            sink_reads: &SourceCapabilities {
                lookup: self.sink_looks_up,
                ..SourceCapabilities::default()
            },
            results_folder: folder,
            removes_most: self.removes_most,
            agreed: self.agreed.as_ref(),
        };
        let calls = CallLog::new(emitter, None);
        let mut source = OpenedSource::of_host("memory", Box::new(self.source.clone()), &calls);
        let mut sink = OpenedSink::of_host("memory", Box::new(self.sink.clone()), &calls);
        let collections = std::slice::from_ref(&self.planned);
        run(
            &repair,
            collections,
            std::slice::from_ref(found),
            &mut source,
            &mut sink,
        )
    }

    /// Repairs what `lines` list.
    fn listed(&self, lines: &str) -> RepairResult {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("c.ndjson"), lines).unwrap();
        self.repair(folder.path(), &self.found(Some("c.ndjson")))
    }

    /// What was kept when `lines` were repaired, in the order of the ids.
    fn kept(&self, lines: &str) -> Vec<String> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("c.ndjson"), lines).unwrap();
        self.repair(folder.path(), &self.found(Some("c.ndjson")));
        let path = folder.path().join("records").join("c.ndjson");
        let Ok(text) = std::fs::read_to_string(&path) else {
            return Vec::new();
        };
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
        let mut kept: Vec<String> = text.lines().map(str::to_owned).collect();
        kept.sort();
        kept
    }

    fn durable(&self) -> Records {
        self.sink.0.lock().unwrap().durable.clone()
    }
}

fn line(kind: &str, id: i64) -> String {
    format!("{{\"kind\":\"{kind}\",\"record\":\"id={id}\",\"key\":{{\"id\":{id}}},\"fields\":[]}}\n")
}

/// 3,000 records, each with its predecessor as parent; a hundred are missing, a hundred differ, and a chain of ten is extra.
fn damaged() -> (Records, Records, String) {
    let source: Records = (1..=3_000).map(|id| (id, (id > 1).then_some(id - 1))).collect();
    let mut sink = source.clone();
    let mut lines = String::new();
    for number in 0..100 {
        let (missing, different) = (3_000 - number * 7, 5 + number * 11);
        sink.remove(&missing);
        lines.push_str(&line("missing", missing));
        sink.insert(different, None);
        lines.push_str(&line("different", different));
    }
    for id in 5_000..5_010 {
        sink.insert(id, Some(if id == 5_000 { 1 } else { id - 1 }));
        lines.push_str(&line("extra", id));
    }
    lines.push_str(&line("changed_since", 2));
    (source, sink, lines)
}

#[test]
fn what_is_missing_or_differs_is_copied_and_what_only_the_sink_has_is_removed() {
    for lookup in [true, false] {
        let (source, sink, lines) = damaged();
        let mut scene = Scene::new(source.clone(), sink);
        scene.able.0.lookup = lookup;
        let result = scene.listed(&lines);
        assert_eq!(
            (result.copied_count, result.removed_count),
            (200, 10),
            "{result:?}"
        );
        assert!(result.left.is_empty(), "{:?}", result.left);
        assert_eq!(scene.durable(), source);
        let asked = &scene.source.0.lock().unwrap().1;
        assert_eq!(asked.scans == 0, lookup);
        assert_eq!(asked.lookups > 0, lookup);
    }
}

#[test]
fn each_transaction_is_told_with_what_was_healed_until_then() {
    let (source, sink, lines) = damaged();
    let scene = Scene::new(source, sink);
    scene.listed(&lines);
    let told = String::from_utf8(scene.told.0.lock().unwrap().clone()).unwrap();
    let sums: Vec<u64> = told
        .lines()
        .map(|line| match serde_json::from_str(line).unwrap() {
            Event::Progress {
                collection,
                written_count,
                ..
            } if collection == "c" => written_count,
            other => panic!("{other:?}"),
        })
        .collect();
    let commits = scene.sink.0.lock().unwrap().commits;
    assert_eq!(
        (sums.len() as u64, sums.last()),
        (commits, Some(&210)),
        "{sums:?}"
    );
    assert!(sums.is_sorted(), "{sums:?}");
}

#[test]
fn records_that_refer_to_later_ones_are_tried_again() {
    // Each is listed before its parent.
    let source: Records = (1..=4).map(|id| (id, (id < 4).then_some(id + 1))).collect();
    let scene = Scene::new(source.clone(), Records::new());
    let lines: String = (1..=4).map(|id| line("missing", id)).collect();
    let result = scene.listed(&lines);
    assert_eq!((result.copied_count, result.left.len()), (4, 0), "{result:?}");
    assert_eq!(scene.durable(), source);
}

#[test]
fn what_the_source_has_now_counts() {
    // 1 was removed from the source since, 2 was added to it.
    let scene = Scene::new(
        Records::from([(2, None)]),
        Records::from([(1, Some(7)), (2, None)]),
    );
    let result = scene.listed(&(line("different", 1) + &line("extra", 2)));
    assert_eq!((result.copied_count, result.removed_count), (0, 0));
    let left: Vec<&str> = result.left.iter().map(|(record, _)| record.as_str()).collect();
    assert_eq!(left, ["id=1"]);
    assert_eq!(scene.durable().len(), 2);
}

#[test]
fn what_cannot_be_healed_is_said() {
    let orphan = Records::from([(1, Some(9))]);
    let scene = Scene::new(orphan, Records::from([(5, None)]));
    let lines = line("missing", 1)
        + "{\"kind\":\"unreadable\",\"record\":\"id=3\"}\n"
        + "{\"kind\":\"missing\",\"record\":\"id=4\",\"key\":{\"id\":\"four\"}}\n";
    let left = scene.listed(&lines).left;
    let left: BTreeMap<&str, &str> = left
        .iter()
        .map(|(what, why)| (what.as_str(), why.as_str()))
        .collect();
    assert_eq!(left["id=1"], "its parent is not there (a.orphan)");
    assert_eq!(left["id=3"], "its key is not known");
    assert!(left["id=4"].contains("the source does not have it"), "{left:?}");

    let mut scene = scene;
    scene.able.1.remove = false;
    let left = scene.listed(&line("extra", 5)).left;
    assert_eq!(left.len(), 1);
    assert!(
        left[0].0.ends_with(": 1") && left[0].1.contains("removes no single records"),
        "{left:?}"
    );
    scene.able.1.upsert = false;
    let left = scene.listed(&line("missing", 1)).left;
    assert!(left[0].1.contains("replaces no records"), "{left:?}");

    scene.planned.sink.key.clear();
    let left = scene.listed(&line("missing", 1)).left;
    assert!(left[0].1.contains("no key"), "{left:?}");
    let nowhere = Path::new("nowhere");
    scene.planned = planned();
    let left = scene.repair(nowhere, &scene.found(None)).left;
    assert!(left[0].1.contains("not listed"), "{left:?}");
    assert_eq!(scene.durable(), Records::from([(5, None)]), "nothing was written");
    assert_eq!(scene.sink.0.lock().unwrap().commits, 0);
}

#[test]
fn a_list_that_no_comparison_wrote_is_refused_without_its_content() {
    let scene = Scene::new(Records::new(), Records::new());
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("c.ndjson"), "{\"kind\":\"secret\"\n").unwrap();
    let collection = &scene.planned.sink;
    let mut at_fault = super::at_fault::AtFault::at(&folder.path().join("c.ndjson"), collection).unwrap();
    let error = at_fault.next(10, |_| true).unwrap_err();
    assert_eq!(error.code, "verification.bad_results");
    assert!(!error.message.contains("secret"), "{}", error.message);
}

/// A source with records 1 to 30, and a sink that has those and `extra_count` more, which are listed.
fn with_extra(extra_count: i64) -> (Scene, String) {
    let source: Records = (1..=30).map(|id| (id, None)).collect();
    let mut sink = source.clone();
    let mut lines = String::new();
    for id in 100..100 + extra_count {
        sink.insert(id, None);
        lines.push_str(&line("extra", id));
    }
    (Scene::new(source, sink), lines)
}

/// That nothing is removed by a repair, and the reason that is given.
fn stays(scene: &Scene, lines: &str) -> String {
    let before = scene.durable();
    let result = scene.listed(lines);
    assert_eq!(result.removed_count, 0, "{result:?}");
    assert_eq!(scene.durable(), before);
    assert_eq!(result.left.len(), 1, "{result:?}");
    let (what, why) = result.left[0].clone();
    let count = lines.lines().count();
    assert_eq!(what, format!("records that only the sink has: {count}"));
    why
}

#[test]
fn what_a_source_cannot_deliver_is_not_removed_from_the_sink() {
    let (mut scene, lines) = with_extra(3);
    scene.source_unreadable_count = 2;
    scene.removes_most = true;
    let why = stays(&scene, &lines);
    assert!(
        why.starts_with("the source has 2 records that cannot be read"),
        "{why}"
    );
    scene.source_unreadable_count = 0;
    assert_eq!(scene.listed(&lines).removed_count, 3);
}

#[test]
fn a_source_without_records_empties_no_sink_unless_that_is_wanted() {
    let (mut scene, lines) = with_extra(3);
    scene.source.0.lock().unwrap().0.clear();
    let why = stays(&scene, &lines);
    assert!(
        why.contains("no records") && why.contains("`--remove-most`"),
        "{why}"
    );
    scene.removes_most = true;
    assert_eq!(scene.listed(&lines).removed_count, 3);
}

#[test]
fn most_of_a_collection_is_not_removed_unless_that_is_wanted() {
    // 30 of 60 are half of them.
    let (scene, lines) = with_extra(30);
    assert_eq!(scene.listed(&lines).removed_count, 30);
    let (mut scene, lines) = with_extra(31);
    let why = stays(&scene, &lines);
    assert!(
        why.contains("more than half of the 61 records") && why.contains("`--remove-most`"),
        "{why}"
    );
    scene.removes_most = true;
    assert_eq!(scene.listed(&lines).removed_count, 31);
    // Of few records nothing is said.
    let few = Scene::new(
        Records::from([(1, None)]),
        (1..=11).map(|id| (id, None)).collect(),
    );
    let lines: String = (2..=11).map(|id| line("extra", id)).collect();
    assert_eq!(few.listed(&lines).removed_count, 10);
}

#[test]
fn what_is_replaced_or_removed_is_kept_as_the_sink_had_it() {
    for looks_up in [true, false] {
        let source = Records::from([(1, None), (2, None), (3, None), (4, None), (5, None)]);
        // 3 is missing by now, but was put there again by somebody.
        let sink = Records::from([(1, None), (2, Some(1)), (3, Some(1)), (5, None), (8, Some(1))]);
        let mut scene = Scene::new(source, sink);
        scene.sink_looks_up = looks_up;
        let lines = line("different", 2)
            + &line("missing", 3)
            + &line("missing", 4)
            + &line("changed_since", 5)
            + &line("extra", 8);
        let kept = scene.kept(&lines);
        let expected = [2, 3, 8].map(|id| format!("{{\"id\":{id},\"parent\":1}}"));
        assert_eq!(kept, expected, "{looks_up}");
    }
    // What stays need not be kept.
    let (mut scene, lines) = with_extra(3);
    scene.source_unreadable_count = 1;
    assert_eq!(scene.kept(&lines), [""; 0]);
}

/// In each of the three ways in which records are found in the source.
fn in_each_way(scene: &mut Scene, each: &mut dyn FnMut(&Scene)) {
    each(scene);
    scene.planned.sink.losses.push(FieldLoss {
        field: "id".into(),
        loss: Loss::AbsentToNull,
    });
    each(scene);
    scene.able.0.lookup = false;
    each(scene);
}

#[test]
fn a_source_that_cannot_say_by_now_what_it_has_removes_nothing() {
    let (mut scene, lines) = with_extra(3);
    scene.source.0.lock().unwrap().1.rejects = true;
    in_each_way(&mut scene, &mut |scene| {
        let result = scene.listed(&lines);
        assert_eq!((result.removed_count, result.left.len()), (0, 3), "{result:?}");
        assert!(result.left[0].1.contains("cannot say by now"), "{result:?}");
    });
}

#[test]
fn what_was_added_to_the_source_meanwhile_stays_in_the_sink_however_it_is_found() {
    let (mut scene, lines) = with_extra(3);
    scene.source.0.lock().unwrap().0.insert(101, None);
    in_each_way(&mut scene, &mut |scene| {
        let extra = [(100, None), (101, None), (102, None)];
        scene.sink.0.lock().unwrap().durable.extend(extra);
        let result = scene.listed(&lines);
        assert_eq!((result.removed_count, result.left.len()), (2, 0), "{result:?}");
        assert!(scene.durable().contains_key(&101), "{:?}", scene.durable());
    });
}

#[test]
fn records_are_healed_by_the_policy_of_the_job() {
    for (policy, written_by, healed) in [
        ("overwrite", "overwrite", (2, 1)),
        ("fail", "overwrite", (2, 1)),
        ("merge", "merge", (2, 1)),
        ("skip", "skip", (1, 0)),
        ("keep-newest", "skip", (1, 0)),
        ("keep-oldest", "skip", (1, 0)),
    ] {
        let source: Records = (1..=30).map(|id| (id, None)).collect();
        let mut sink = source.clone();
        sink.remove(&1);
        sink.insert(2, Some(3));
        sink.insert(99, None);
        let mut scene = Scene::new(source, sink);
        scene.on_conflict = policy;
        let lines = line("missing", 1) + &line("different", 2) + &line("extra", 99);
        let result = scene.listed(&lines);
        let counts = (result.copied_count, result.removed_count);
        assert_eq!(counts, healed, "{policy}: {result:?}");
        let used = scene.sink.0.lock().unwrap().policies.clone();
        assert_eq!(used, BTreeSet::from([written_by]), "{policy}");
        let keeps = healed == (1, 0);
        assert_eq!(scene.durable()[&2], keeps.then_some(3), "{policy}");
        assert_eq!(scene.durable().contains_key(&99), keeps, "{policy}");
        let left: Vec<&str> = result.left.iter().map(|(what, _)| what.as_str()).collect();
        let expected: &[&str] = match keeps {
            true => &["records that differ: 1", "records that only the sink has: 1"],
            false => &[],
        };
        assert_eq!(left, expected, "{policy}");
        let names_it = |(_, why): &(String, String)| why.contains(&format!("`on_conflict: {policy}`"));
        assert!(result.left.iter().all(names_it), "{result:?}");
    }
    // A sink without such a policy gets what is missing all the same.
    let mut scene = Scene::new(Records::from([(1, None)]), Records::new());
    scene.on_conflict = "skip";
    scene.able.1.policies = vec![ConflictPolicy::Overwrite];
    assert_eq!(scene.listed(&line("missing", 1)).copied_count, 1);
}

#[test]
fn what_cannot_be_read_is_kept_as_the_sink_gives_it_or_not_touched() {
    for looks_up in [true, false] {
        let source: Records = (1..=9).map(|id| (id, None)).collect();
        let mut sink: Records = source.keys().map(|id| (*id, Some(1))).collect();
        sink.remove(&9);
        let mut scene = Scene::new(source, sink);
        scene.sink_looks_up = looks_up;
        let spoil = |id: i64, data: Option<&str>| (id, data.map(str::to_owned));
        scene.sink.0.lock().unwrap().spoilt = BTreeMap::from([
            spoil(2, Some("{\"id\":2,\"parent\":\"x\"}")),
            spoil(3, Some("no JSON")),
        ]);
        let lines =
            line("different", 1) + &line("unreadable", 2) + &line("unreadable", 3) + &line("missing", 9);
        let expected = [
            "{\"id\":1,\"parent\":1}",
            "{\"record\":\"x\",\"data\":\"no JSON\"}",
            "{\"record\":\"x\",\"data\":{\"id\":2,\"parent\":\"x\"}}",
        ];
        assert_eq!(scene.kept(&lines), expected, "{looks_up}");
        assert_eq!(scene.durable()[&2], None, "{looks_up}");
        // Nothing is given of these.
        let mut store = scene.sink.0.lock().unwrap();
        store.durable.extend([(4, Some(1)), (5, Some(1))]);
        store.spoilt = BTreeMap::from([spoil(4, None), spoil(5, None)]);
        drop(store);
        let lines = line("different", 6) + &line("unreadable", 4) + &line("extra", 5);
        let result = scene.listed(&lines);
        assert_eq!((result.copied_count, result.removed_count), (1, 0), "{result:?}");
        let left: Vec<&str> = result.left.iter().map(|(what, _)| what.as_str()).collect();
        assert_eq!(left, ["id=4", "id=5"], "{looks_up}");
        assert!(result.left[0].1.contains("could not be kept"), "{result:?}");
        let stored = scene.durable();
        assert_eq!((stored[&4], stored[&5]), (Some(1), Some(1)), "{looks_up}");
    }
}

#[test]
fn fields_that_the_sink_does_not_describe_are_kept_too() {
    for is_described in [true, false] {
        let scene = Scene::new(Records::from([(2, None)]), Records::from([(2, Some(1))]));
        let mut store = scene.sink.0.lock().unwrap();
        store.has_more = true;
        store.is_undescribed = !is_described;
        drop(store);
        let whole = "{\"id\":2,\"parent\":1,\"mine\":\"a\"}";
        assert_eq!(scene.kept(&line("different", 2)), [whole], "{is_described}");
    }
}

#[test]
fn no_more_is_done_than_was_agreed_to() {
    let agreed = |copied_count, removed_count| {
        let agreed = Agreed {
            copied_count,
            removed_count,
        };
        Some(BTreeMap::from([("c".to_owned(), agreed)]))
    };
    let repaired = |agreed| {
        let (mut scene, lines) = with_extra(3);
        scene.sink.0.lock().unwrap().durable.remove(&1);
        scene.agreed = agreed;
        scene.listed(&(lines + &line("missing", 1)))
    };
    let result = repaired(agreed(1, 3));
    assert_eq!((result.copied_count, result.removed_count), (1, 3), "{result:?}");
    let result = repaired(agreed(1, 2));
    assert_eq!((result.copied_count, result.removed_count), (1, 0), "{result:?}");
    let why = &result.left[0].1;
    assert!(why.contains("3 would be removed, and 2 were agreed to"), "{why}");
    for none in [agreed(0, 3), Some(BTreeMap::new())] {
        let result = repaired(none);
        assert_eq!((result.copied_count, result.removed_count), (0, 0), "{result:?}");
        assert!(result.left[0].1.contains("0 were agreed to"), "{result:?}");
    }
}

#[test]
fn what_a_source_may_hide_is_not_removed_from_the_sink() {
    let (mut scene, lines) = with_extra(3);
    scene.planned.source.hides_records = true;
    scene.removes_most = true;
    let why = stays(&scene, &lines);
    assert!(why.contains("the source hides records"), "{why}");
}

#[test]
fn a_repair_that_ends_in_the_middle_says_what_it_has_done() {
    let source: Records = (1..=1_200).map(|id| (id, None)).collect();
    let lines: String = source.keys().map(|id| line("missing", *id)).collect();
    let scene = Scene::new(source, Records::new());
    scene.sink.0.lock().unwrap().fails_at = Some(2);
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("c.ndjson"), lines).unwrap();
    let repaired = scene.repaired(folder.path(), &scene.found(Some("c.ndjson")));
    assert_eq!(repaired.failure.unwrap().error.code, "a.closed");
    assert_eq!(repaired.results[0].copied_count, 1_000);
    assert_eq!(scene.durable().len(), 1_000);
}

#[test]
fn a_sink_without_the_collection_and_one_that_holds_it_otherwise_are_told_apart() {
    let scene = Scene::new(Records::from([(1, None)]), Records::new());
    let mut found = scene.found(None);
    let mismatch = |record: &str, fields: &[&str]| Mismatch {
        kind: MismatchKind::Schema,
        record: record.to_owned(),
        fields: fields.iter().map(|field| (*field).to_owned()).collect(),
        values: Vec::new(),
    };
    found.mismatches = vec![mismatch("the sink has no collection `c`", &[])];
    let left = scene.repair(Path::new("nowhere"), &found).left;
    assert!(
        left[0].1.contains("`whimbrel run` makes and fills it"),
        "{left:?}"
    );
    found.mismatches = vec![mismatch("the sink lacks fields", &["a", "b"])];
    let left = scene.repair(Path::new("nowhere"), &found).left;
    let expected = ("c".to_owned(), "the sink lacks fields: `a`, `b`".to_owned());
    assert_eq!(left, [expected]);
}
