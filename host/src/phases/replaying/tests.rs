//! Replays into a made-up sink that keeps lanes by the rules of the plugin API.
//! It refuses negative numbers, in one of several ways.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::{Arc, Mutex};

use arrow_array::cast::AsArray as _;
use arrow_array::types::Int64Type;
use arrow_array::{Int64Array, RecordBatch};
use serde_json::json;
use whimbrel_plugin_api::sink::{
    AlterRequest, Checkpoint, Committed, LaneClaim, LaneId, LaneState, PrepareReport, PrepareRequest, Receipt,
};
use whimbrel_plugin_api::source::RejectedRecord;
use whimbrel_plugin_api::{
    Batch, Collection, ConflictPolicy, Cursor, Error, ErrorScope, Field, RecordType, Result, Schema, Sink,
};

use super::records::transformed;
use super::{Replay, ReplayOptions, ReplayRecord, Replayed, UNFIT};
use crate::barrier::Barrier;
use crate::config::{Job, TransformJob, VerificationLevel};
use crate::control::Stop;
use crate::events::{Emitter, Event, Phase, RefusedAgain};
use crate::loader::observe::{CallLog, OpenedSink};
use crate::phases::rewriting::{Deed, Judged, Mark, Piece, Rewriting};
use crate::plan::PlannedCollection;
use crate::transform::{Chain, Transforms};

/// How the sink refuses a negative number, and how it answers commits.
#[derive(Clone, Copy, Default, PartialEq)]
enum Manner {
    /// In the receipt of the write.
    #[default]
    AtOnce,
    /// When it is flushed.
    Deferred,
    /// The whole write fails.
    Whole,
    /// The first commit is made, and its answer lost.
    LosesAnswer,
    /// The first commit is not made.
    NotCommitted,
}

#[derive(Default)]
struct Store {
    manner: Manner,
    lane: Option<LaneState>,
    open: Vec<i64>,
    bad: Vec<u64>,
    written: u64,
    durable: Vec<i64>,
    commits: u64,
}

#[derive(Clone, Default)]
struct Fussy(Arc<Mutex<Store>>);

fn refusal(row: u64) -> RejectedRecord {
    RejectedRecord {
        record: "x".into(),
        row: Some(row),
        code: "a.negative".into(),
        message: "it is negative".into(),
        data: None,
    }
}

impl Sink for Fussy {
    fn prepare(&mut self, _: &PrepareRequest) -> Result<PrepareReport> {
        Ok(PrepareReport::default())
    }

    fn alter(&mut self, _: &AlterRequest) -> Result<PrepareReport> {
        Ok(PrepareReport::default())
    }

    fn take_over(&mut self, claims: &[LaneClaim]) -> Result<Vec<LaneState>> {
        let mut store = self.0.lock().unwrap();
        let mut states = Vec::new();
        for claim in claims {
            let state = LaneState::taken_over(store.lane.as_ref(), claim)?;
            store.lane = Some(state.clone());
            states.push(state);
        }
        Ok(states)
    }

    fn begin(&mut self, _: &LaneId) -> Result<()> {
        let mut store = self.0.lock().unwrap();
        (store.open, store.bad, store.written) = (Vec::new(), Vec::new(), 0);
        Ok(())
    }

    fn write(&mut self, _: &str, batch: &Batch, _: ConflictPolicy) -> Result<Receipt> {
        let mut store = self.0.lock().unwrap();
        let numbers = batch.records.column(0).as_primitive::<Int64Type>();
        let is_bad = |row: &usize| numbers.value(*row) < 0;
        let (bad, good): (Vec<usize>, Vec<usize>) = (0..numbers.len()).partition(is_bad);
        if store.manner == Manner::Whole && !bad.is_empty() {
            return Err(
                Error::invalid_data("a.whole", "some number is negative").with_scope(ErrorScope::Transaction)
            );
        }
        store.open.extend(good.iter().map(|row| numbers.value(*row)));
        let first = store.written;
        store.written += numbers.len() as u64;
        if store.manner == Manner::Deferred {
            store.bad.extend(bad.iter().map(|row| first + *row as u64));
            return Ok(Receipt {
                deferred: numbers.len() as u64,
                ..Receipt::default()
            });
        }
        Ok(Receipt {
            accepted: good.len() as u64,
            rejected: bad.iter().map(|row| refusal(*row as u64)).collect(),
            ..Receipt::default()
        })
    }

    fn flush(&mut self) -> Result<Receipt> {
        let store = self.0.lock().unwrap();
        Ok(Receipt {
            accepted: store.open.len() as u64,
            rejected: store.bad.iter().map(|row| refusal(*row)).collect(),
            ..Receipt::default()
        })
    }

    fn commit(&mut self, checkpoint: &Checkpoint) -> Result<Committed> {
        let mut store = self.0.lock().unwrap();
        store.commits += 1;
        if store.manner == Manner::NotCommitted && store.commits == 1 {
            return Ok(Committed::NotCommitted);
        }
        let Some(next) = store.lane.as_ref().and_then(|lane| lane.committed(checkpoint)) else {
            return Ok(Committed::Fenced);
        };
        let seq = next.seq;
        store.lane = Some(next);
        let open = std::mem::take(&mut store.open);
        store.durable.extend(open);
        if store.manner == Manner::LosesAnswer && store.commits == 1 {
            return Ok(Committed::Unknown);
        }
        Ok(Committed::Committed { seq })
    }

    fn abort(&mut self) -> Result<()> {
        self.0.lock().unwrap().open.clear();
        Ok(())
    }
}

#[derive(Clone, Default)]
struct Told(Arc<Mutex<Vec<Event>>>);

impl Write for Told {
    fn write(&mut self, octets: &[u8]) -> std::io::Result<usize> {
        if let Ok(event @ Event::Replayed { .. }) = serde_json::from_slice(octets) {
            self.0.lock().unwrap().push(event);
        }
        Ok(octets.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn planned() -> PlannedCollection {
    let fields = vec![Field::required("id", RecordType::INT64)];
    let mut collection = Collection::new("c", Schema::new(fields));
    collection.key = vec!["id".into()];
    PlannedCollection {
        source: collection.clone(),
        transforms: Arc::from([]),
        sink: collection,
        policy: ConflictPolicy::Fail,
        verification: VerificationLevel::None,
        limit: None,
        waits_for: Vec::new(),
        held_back: Vec::new(),
        left_out: Vec::new(),
    }
}

fn record(number: u64, stage: Phase, data: &str) -> ReplayRecord {
    ReplayRecord {
        number,
        collection: "c".into(),
        stage,
        data: data.into(),
        is_edited: false,
    }
}

/// Replays `records`; answers the counts and what was told.
fn replay(sink: &Fussy, records: Vec<ReplayRecord>) -> (Replayed, Vec<u64>, Vec<RefusedAgain>) {
    let (counts, events) = told_by(sink, "r", records);
    let (mut all_taken, mut all_refused) = (Vec::new(), Vec::new());
    for event in events {
        if let Event::Replayed { taken, refused, .. } = event {
            all_taken.extend(taken);
            all_refused.extend(refused);
        }
    }
    all_taken.sort_unstable();
    all_refused.sort_by_key(|one| one.number);
    (counts, all_taken, all_refused)
}

/// Replays `records`, which `run` has refused; answers the counts and the events.
fn told_by(sink: &Fussy, run: &str, records: Vec<ReplayRecord>) -> (Replayed, Vec<Event>) {
    let told = Told::default();
    let emitter = Emitter::new(Box::new(told.clone()));
    let job = json!({ "name": "j", "source": { "plugin": "p" }, "sink": { "plugin": "p" },
                      "import": { "retry_delay_ms": 1 } });
    let job: Job = serde_json::from_value(job).unwrap();
    let options = ReplayOptions {
        refused_by: run.into(),
        records,
    };
    let (transforms, stop, barrier) = (Transforms::default(), Stop::default(), Barrier::default());
    let replay = Replay {
        job: &job,
        options: &options,
        transforms: &transforms,
        emitter: &emitter,
        stop: &stop,
        barrier: &barrier,
    };
    let calls = CallLog::new(emitter.clone(), None);
    let mut opened = OpenedSink::of_host("fussy", Box::new(sink.clone()), &calls);
    let counts = super::run(&replay, &[planned()], &mut opened).unwrap();
    let events = std::mem::take(&mut *told.0.lock().unwrap());
    (counts, events)
}

fn sink(manner: Manner) -> Fussy {
    let sink = Fussy::default();
    sink.0.lock().unwrap().manner = manner;
    sink
}

fn durable(sink: &Fussy) -> Vec<i64> {
    let mut durable = sink.0.lock().unwrap().durable.clone();
    durable.sort_unstable();
    durable
}

fn mixed() -> Vec<ReplayRecord> {
    vec![
        record(1, Phase::Import, "{\"id\":1}"),
        record(2, Phase::Import, "{\"id\":-2}"),
        record(3, Phase::Extraction, "{\"id\":3}"),
        record(4, Phase::Transformation, "{\"id\":-4}"),
        record(5, Phase::Extraction, "{\"id\":\"secret\"}"),
        record(6, Phase::Import, "{\"id\":6,\"more\":1}"),
        record(7, Phase::Import, "{\"id\":7}"),
    ]
}

#[test]
fn each_record_is_judged_on_its_own_however_the_sink_says_it() {
    for manner in [Manner::AtOnce, Manner::Deferred, Manner::Whole] {
        let sink = sink(manner);
        let (counts, taken, refused) = replay(&sink, mixed());
        assert_eq!(counts, Replayed { taken: 3, refused: 4 });
        assert_eq!(taken, [1, 3, 7]);
        let numbers: Vec<u64> = refused.iter().map(|one| one.number).collect();
        assert_eq!(numbers, [2, 4, 5, 6]);
        let expected = if manner == Manner::Whole {
            "a.whole"
        } else {
            "a.negative"
        };
        let codes: Vec<&str> = refused.iter().map(|one| one.code.as_str()).collect();
        assert_eq!(codes, [expected, expected, UNFIT, UNFIT]);
        assert!(refused[2].message.contains("`id`") && !refused[2].message.contains("secret"));
        assert!(refused[3].message.contains("`more`"), "{}", refused[3].message);
        assert_eq!(durable(&sink), [1, 3, 7]);
    }
}

#[test]
fn a_commit_that_was_not_made_is_made_again_and_one_whose_answer_was_lost_is_not() {
    for (manner, commits) in [(Manner::NotCommitted, 2), (Manner::LosesAnswer, 1)] {
        let sink = sink(manner);
        let (counts, taken, _) = replay(&sink, vec![record(1, Phase::Import, "{\"id\":1}")]);
        assert_eq!((counts.taken, taken), (1, vec![1]));
        assert_eq!(durable(&sink), [1]);
        assert_eq!(sink.0.lock().unwrap().commits, commits);
    }
}

#[test]
fn what_the_last_commit_of_a_replay_took_is_known_to_the_next_one_and_to_no_other_run() {
    let sink = sink(Manner::AtOnce);
    let two = || {
        vec![
            record(1, Phase::Import, "{\"id\":1}"),
            record(2, Phase::Import, "{\"id\":2}"),
        ]
    };
    replay(&sink, two());
    let mut three = two();
    three.push(record(3, Phase::Import, "{\"id\":3}"));
    let (counts, taken, _) = replay(&sink, three);
    assert_eq!((counts.taken, taken), (3, vec![1, 2, 3]));
    assert_eq!(durable(&sink), [1, 2, 3], "1 and 2 were sent once");
    // The same numbers of another run are other records.
    let lane = sink.0.lock().unwrap().lane.clone().unwrap();
    assert_eq!(lane.extensions["replayed"], "r 3");
    sink.0
        .lock()
        .unwrap()
        .lane
        .as_mut()
        .unwrap()
        .extensions
        .insert("replayed".into(), "other 1 2".into());
    let (counts, _, _) = replay(&sink, two());
    assert_eq!(counts.taken, 2);
    assert_eq!(durable(&sink), [1, 1, 2, 2, 3]);
}

/// What replaying `records`, which `run` has refused, tells of earlier replays, and the mark that it leaves.
fn known_to(sink: &Fussy, run: &str, records: Vec<ReplayRecord>) -> (BTreeMap<String, Vec<u64>>, String) {
    let mut known = BTreeMap::new();
    for event in told_by(sink, run, records).1 {
        if let Event::Replayed { known: more, .. } = event {
            known.extend(more);
        }
    }
    let lane = sink.0.lock().unwrap().lane.clone().unwrap();
    (known, lane.extensions["replayed"].clone())
}

#[test]
fn the_mark_of_a_replay_that_was_broken_off_stays_until_it_is_told_whatever_is_sent_next() {
    let sink = sink(Manner::AtOnce);
    let good = |number: u64| record(number, Phase::Import, &format!("{{\"id\":{number}}}"));
    replay(&sink, vec![good(1), good(2)]);
    // One that commits nothing leaves it as it is.
    let mark = || BTreeMap::from([("r".to_owned(), vec![1, 2])]);
    let bad = record(9, Phase::Import, "{\"id\":-9}");
    assert_eq!(known_to(&sink, "r", vec![bad]), (mark(), "r 1 2".to_owned()));
    // One that commits others, also those of another run, has told of it before.
    assert_eq!(known_to(&sink, "q", vec![good(3)]), (mark(), "q 3".to_owned()));
    let mark = BTreeMap::from([("q".to_owned(), vec![3])]);
    assert_eq!(known_to(&sink, "r", vec![good(4)]), (mark, "r 4".to_owned()));
    assert_eq!(durable(&sink), [1, 2, 3, 4]);
}

/// Rows with these numbers of records and these ids.
fn piece(rows: &[(u64, i64)]) -> Piece {
    let schema = Arc::new(planned().source.schema);
    let ids = Int64Array::from_iter_values(rows.iter().map(|(_, id)| *id));
    let records = RecordBatch::try_new(schema.to_arrow(), vec![Arc::new(ids)]).unwrap();
    Piece {
        numbers: rows.iter().map(|(number, _)| *number).collect(),
        batch: Batch::new(schema, records).unwrap(),
    }
}

#[test]
fn a_record_of_several_rows_is_taken_with_all_of_them_or_not_at_all() {
    let sink = sink(Manner::Whole);
    let job = json!({ "name": "j", "source": { "plugin": "p" }, "sink": { "plugin": "p" } });
    let job: Job = serde_json::from_value(job).unwrap();
    let (planned, stop) = (planned(), Stop::default());
    let calls = CallLog::new(Emitter::new(Box::new(Told::default())), None);
    let mut opened = OpenedSink::of_host("fussy", Box::new(sink.clone()), &calls);
    let (mut rewriting, _) = Rewriting::begin(&job, &planned, b"replay", &stop, &mut opened).unwrap();
    let mut send = |pieces: &[Piece]| {
        let mut settled = Vec::new();
        let mark = |taken: &[u64]| Mark {
            cursor: Cursor(vec![1]),
            extension: Some(("replayed", format!("{taken:?}"))),
        };
        let mut settle = |judged: Judged| {
            let refused: Vec<u64> = judged.refused.into_keys().collect();
            settled.push((judged.taken.into_iter().collect::<Vec<u64>>(), refused));
            Ok(())
        };
        rewriting
            .send(Deed::Write(planned.policy), pieces, &mark, &mut settle)
            .unwrap();
        settled
    };
    // Of records 1 and 4 a good row comes before the bad one, in one piece and in two; the rows of 3 are all good.
    let pieces = [
        piece(&[(1, 11), (1, -12), (2, 21), (3, 31)]),
        piece(&[(3, 32), (4, 41)]),
        piece(&[(4, -42)]),
    ];
    let alone: [(Vec<u64>, Vec<u64>); 4] = [
        (vec![], vec![1]),
        (vec![2], vec![]),
        (vec![3], vec![]),
        (vec![], vec![4]),
    ];
    assert_eq!(send(&pieces), alone);
    assert_eq!(durable(&sink), [21, 31, 32]);
    let mark = || sink.0.lock().unwrap().lane.clone().unwrap().extensions["replayed"].clone();
    assert_eq!(mark(), "[3]", "of the last commit");
    assert_eq!(send(&[piece(&[(5, 51), (5, -52)])]), [(vec![], vec![5])]);
    assert_eq!((durable(&sink).len(), mark()), (3, "[3]".to_owned()));
}

#[test]
fn what_one_of_several_transforms_refused_is_not_changed_twice() {
    let mut planned = planned();
    let step: TransformJob = serde_json::from_value(json!({ "plugin": "t" })).unwrap();
    planned.transforms = Arc::from([step.clone(), step]);
    let mut judged = Judged::default();
    let mut chain = Chain::open(&Transforms::default(), &[]).unwrap();
    let mut rows = Vec::new();
    let mut refused = record(4, Phase::Transformation, "{\"id\":4}");
    transformed(&planned, &mut chain, &refused, &mut rows, &mut judged).unwrap();
    assert_eq!((judged.refused[&4].0.as_str(), rows.len()), (UNFIT, 0));
    refused.is_edited = true;
    transformed(&planned, &mut chain, &refused, &mut rows, &mut Judged::default()).unwrap();
    assert_eq!(rows.len(), 1);
}

#[test]
fn records_of_a_collection_that_is_not_copied_any_more_are_told() {
    let sink = sink(Manner::AtOnce);
    let mut gone = record(4, Phase::Import, "{}");
    gone.collection = "gone".into();
    let (counts, taken, refused) = replay(&sink, vec![gone]);
    assert_eq!((counts, taken.len()), (Replayed { taken: 0, refused: 1 }, 0));
    assert_eq!(
        (refused[0].number, refused[0].code.as_str()),
        (4, "rejected.collection_gone")
    );
}
