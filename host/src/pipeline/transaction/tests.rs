//! Transactions over sinks that are made up: one that judges late, one whose answer is lost, one that changes its mind.
//! Not here: what a batch goes through before it comes to a transaction, and real sinks.

use std::io::Write;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};

use arrow_array::{Int64Array, RecordBatch};
use whimbrel_plugin_api::sink::{Checkpoint, Committed, LaneClaim, LaneId, LaneState, PrepareRequest};
use whimbrel_plugin_api::{
    Collection, ConflictPolicy, ErrorKind, Field, Receipt, RecordType, Result, Schema, Sink,
};

use super::*;
use crate::barrier::Barrier;
use crate::checkpoint;
use crate::control::Stop;
use crate::events::{Emitter, Phase};
use crate::loader::observe::CallLog;
use crate::pipeline::breaker::Breaker;
use crate::pipeline::budget::Budget;
use crate::pipeline::concurrency::Concurrency;
use crate::pipeline::held_back::HeldBack;
use crate::pipeline::link::{LinkItem, link};
use crate::pipeline::pause::Pause;
use crate::pipeline::writer::{self, Lane};
use crate::pipeline::{Counters, Outcomes};

/// Judges the first write at once and all others when it is flushed; refuses the records in `refused`, counted over all.
#[derive(Default)]
struct Deferring {
    refused: Vec<u64>,
    written: u64,
    deferred: u64,
}

fn rejected(row: u64) -> RejectedRecord {
    RejectedRecord {
        record: format!("record {row}"),
        row: Some(row),
        code: "a.refused".to_owned(),
        message: "refused".to_owned(),
        data: None,
    }
}

impl Sink for Deferring {
    fn prepare(&mut self, _: &PrepareRequest) -> Result<PrepareReport> {
        Ok(PrepareReport::default())
    }

    fn alter(&mut self, _: &AlterRequest) -> Result<PrepareReport> {
        Ok(PrepareReport::default())
    }

    fn begin(&mut self, _: &LaneId) -> Result<()> {
        Ok(())
    }

    fn write(&mut self, _: &str, batch: &Batch, _: ConflictPolicy) -> Result<Receipt> {
        let count = batch.record_count() as u64;
        self.written += count;
        if self.written == count {
            return Ok(Receipt::all(count));
        }
        self.deferred += count;
        Ok(Receipt {
            deferred: count,
            ..Receipt::default()
        })
    }

    fn flush(&mut self) -> Result<Receipt> {
        Ok(Receipt {
            accepted: self.deferred - self.refused.len() as u64,
            rejected: self.refused.iter().copied().map(rejected).collect(),
            ..Receipt::default()
        })
    }

    fn commit(&mut self, checkpoint: &Checkpoint) -> Result<Committed> {
        Ok(Committed::Committed {
            seq: checkpoint.seq + 1,
        })
    }

    fn abort(&mut self) -> Result<()> {
        Ok(())
    }
}

/// Makes its first commit and loses the answer; then its disk is full until somebody has looked at its lane twice.
struct Lossy {
    lane: LaneState,
    commits: Arc<AtomicU64>,
    looks: u32,
}

impl Sink for Lossy {
    fn prepare(&mut self, _: &PrepareRequest) -> Result<PrepareReport> {
        Ok(PrepareReport::default())
    }

    fn alter(&mut self, _: &AlterRequest) -> Result<PrepareReport> {
        Ok(PrepareReport::default())
    }

    fn take_over(&mut self, claims: &[LaneClaim]) -> Result<Vec<LaneState>> {
        self.looks += 1;
        if self.looks <= 2 {
            let full = Error::new(ErrorKind::Unavailable, "a.full", "the disk is full");
            return Err(full.with_pause());
        }
        self.lane = LaneState::taken_over(Some(&self.lane), &claims[0])?;
        Ok(vec![self.lane.clone()])
    }

    fn begin(&mut self, _: &LaneId) -> Result<()> {
        Ok(())
    }

    fn write(&mut self, _: &str, batch: &Batch, _: ConflictPolicy) -> Result<Receipt> {
        Ok(Receipt::all(batch.record_count() as u64))
    }

    fn commit(&mut self, checkpoint: &Checkpoint) -> Result<Committed> {
        self.commits.fetch_add(1, Ordering::SeqCst);
        self.lane = self.lane.committed(checkpoint).unwrap();
        Ok(Committed::Unknown)
    }

    fn abort(&mut self) -> Result<()> {
        Ok(())
    }
}

/// What was told.
#[derive(Clone, Default)]
struct Told(Arc<Mutex<Vec<Event>>>);

impl Write for Told {
    fn write(&mut self, octets: &[u8]) -> std::io::Result<usize> {
        self.0
            .lock()
            .unwrap()
            .push(serde_json::from_slice(octets).unwrap());
        Ok(octets.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// The lane as it is held before the first commit.
fn held() -> LaneState {
    LaneState {
        epoch: 1,
        ..LaneState::default()
    }
}

/// Writes three records in one transaction that is tried again, with a pause of ten minutes at most.
fn write_three(sink: impl Sink + 'static, context: &mut WriterContext) {
    context.rules.retries_max = 1;
    try_three(sink, context).unwrap();
}

/// The same with the tries that the rules allow.
fn try_three(sink: impl Sink + 'static, context: &mut WriterContext) -> std::result::Result<(), Failure> {
    context.rules.is_transactional = true;
    context.rules.keeps_lanes = true;
    context.pause = Arc::new(Pause::new(
        &context.emitter,
        &context.stop,
        Duration::from_secs(600),
    ));
    let log = CallLog::new(Emitter::new(Box::new(std::io::sink())), None);
    let mut sink = OpenedSink::of_host("made_up", Box::new(sink), &log);
    let (budget, stop) = (Budget::new(1_000), Stop::default());
    let (records, from) = link(8);
    let share = budget.take(1, &stop).unwrap();
    let passed = Passed::default();
    assert!(records.send(LinkItem::Batch(batch(0..3), share, passed)).is_ok());
    let cursor = Cursor::start();
    assert!(records.send(LinkItem::End { cursor, passed }).is_ok());
    let (lanes, arriving) = crossbeam_channel::unbounded();
    let mut machine = checkpoint::Lane::new(LaneId::default(), "");
    machine.claimed(held()).unwrap();
    let lane = Lane {
        machine,
        collection: 0,
        source_name: "a".to_owned(),
        partition: "all".to_owned(),
        into: Arc::new(Collection::new("a", schema()).with_key(["id"])),
        policy: ConflictPolicy::Overwrite,
        held_back: HeldBack::Nothing,
        link: from,
    };
    assert!(lanes.send(lane).is_ok());
    drop(lanes);
    writer::write(&mut sink, &arriving, &budget, context).map(drop)
}

#[test]
fn whoever_finds_out_about_a_lost_answer_waits_for_a_repair() {
    let outcomes = Arc::new(Outcomes::new(0));
    let commits = Arc::<AtomicU64>::default();
    let sink = Lossy {
        lane: held(),
        commits: Arc::clone(&commits),
        looks: 0,
    };
    let mut context = context(&outcomes);
    let told = Told::default();
    context.emitter = Emitter::new(Box::new(told.clone()));
    write_three(sink, &mut context);
    assert_eq!(
        commits.load(Ordering::SeqCst),
        1,
        "it was made, and is not sent again"
    );
    let told = told.0.lock().unwrap();
    let paused = told
        .iter()
        .filter(|event| matches!(event, Event::Paused { code, .. } if code == "a.full"));
    assert_eq!(paused.count(), 1);
    assert!(told.iter().any(|event| matches!(event, Event::Resumed { .. })));
}

/// Refuses some rows in its first try, whose commit is not made, and others in the second.
struct Fickle {
    lane: LaneState,
    tries: Vec<Vec<u64>>,
}

impl Sink for Fickle {
    fn prepare(&mut self, _: &PrepareRequest) -> Result<PrepareReport> {
        Ok(PrepareReport::default())
    }

    fn alter(&mut self, _: &AlterRequest) -> Result<PrepareReport> {
        Ok(PrepareReport::default())
    }

    fn begin(&mut self, _: &LaneId) -> Result<()> {
        Ok(())
    }

    fn write(&mut self, _: &str, batch: &Batch, _: ConflictPolicy) -> Result<Receipt> {
        let refused = self.tries.remove(0);
        Ok(Receipt {
            accepted: batch.record_count() as u64 - refused.len() as u64,
            rejected: refused.into_iter().map(rejected).collect(),
            ..Receipt::default()
        })
    }

    fn commit(&mut self, checkpoint: &Checkpoint) -> Result<Committed> {
        if self.tries.len() == 1 {
            return Ok(Committed::NotCommitted);
        }
        self.lane = self.lane.committed(checkpoint).unwrap();
        Ok(Committed::Committed { seq: self.lane.seq })
    }

    fn abort(&mut self) -> Result<()> {
        Ok(())
    }
}

#[test]
fn a_record_that_arrives_with_a_repeated_transaction_is_rejected_no_more() {
    for (second, left) in [
        (vec![], vec![]),
        (vec![2], vec!["record 2"]),
        (vec![0, 2], vec!["record 0", "record 2"]),
    ] {
        let outcomes = Arc::new(Outcomes::new(10));
        let mut context = context(&outcomes);
        let told = Told::default();
        context.emitter = Emitter::new(Box::new(told.clone()));
        let sink = Fickle {
            lane: held(),
            tries: vec![vec![0, 1], second],
        };
        write_three(sink, &mut context);
        let (count, shown) = outcomes.rejected();
        assert_eq!(count, left.len() as u64);
        let shown: Vec<&str> = shown.iter().map(|(_, record)| record.record.as_str()).collect();
        assert_eq!(shown, left);
        let counted = context.counters.of(0).rejected.load(Ordering::Relaxed);
        assert_eq!(counted, count);
        // What the state keeps: all that is told and not taken away by what comes after.
        let mut kept: Vec<String> = Vec::new();
        for event in told.0.lock().unwrap().iter() {
            match event {
                Event::Rejected { record, seq: 1, .. } => kept.push(record.record.clone()),
                Event::LaneTaken { seq: 0, .. } => kept.clear(),
                _ => {}
            }
        }
        assert_eq!(kept, left);
        let mut wanted = crate::verification::LeftOut::default();
        let rows = (0..3).filter(|row| left.contains(&format!("record {row}").as_str()));
        let into = Collection::new("a", schema()).with_key(["id"]);
        for digest in crate::verification::left_out::digests(&into, &batch(0..3), rows) {
            wanted.add(digest);
        }
        assert_eq!(outcomes.left_out().remove(&0).unwrap_or_default(), wanted);
    }
}

/// Finds at each commit one record more that it does not take, and refuses the known ones when they are written again.
struct Finding {
    lane: LaneState,
    known: u64,
    all: u64,
    commits: Arc<AtomicU64>,
}

impl Sink for Finding {
    fn prepare(&mut self, _: &PrepareRequest) -> Result<PrepareReport> {
        Ok(PrepareReport::default())
    }

    fn alter(&mut self, _: &AlterRequest) -> Result<PrepareReport> {
        Ok(PrepareReport::default())
    }

    fn begin(&mut self, _: &LaneId) -> Result<()> {
        Ok(())
    }

    fn write(&mut self, _: &str, batch: &Batch, _: ConflictPolicy) -> Result<Receipt> {
        Ok(Receipt {
            accepted: batch.record_count() as u64 - self.known,
            rejected: (0..self.known).map(rejected).collect(),
            ..Receipt::default()
        })
    }

    fn commit(&mut self, checkpoint: &Checkpoint) -> Result<Committed> {
        self.commits.fetch_add(1, Ordering::SeqCst);
        if self.known < self.all {
            self.known += 1;
            return Ok(Committed::NotCommitted);
        }
        self.lane = self.lane.committed(checkpoint).unwrap();
        Ok(Committed::Committed { seq: self.lane.seq })
    }

    fn abort(&mut self) -> Result<()> {
        Ok(())
    }
}

#[test]
fn records_that_are_found_at_commits_use_up_no_tries() {
    for retries_max in [0, 1] {
        let outcomes = Arc::new(Outcomes::new(10));
        let commits = Arc::<AtomicU64>::default();
        let sink = Finding {
            lane: held(),
            known: 0,
            all: 3,
            commits: Arc::clone(&commits),
        };
        let mut context = context(&outcomes);
        context.rules.retries_max = retries_max;
        try_three(sink, &mut context).unwrap();
        assert_eq!((outcomes.rejected().0, commits.load(Ordering::SeqCst)), (3, 4));
    }
}

#[test]
fn a_sink_that_only_says_no_to_commits_uses_up_its_tries() {
    for (retries_max, wanted) in [(0, 1), (2, 3)] {
        let outcomes = Arc::new(Outcomes::new(10));
        let commits = Arc::<AtomicU64>::default();
        // It never refuses more than the one record of its first try.
        let sink = Stubborn(Arc::clone(&commits));
        let mut context = context(&outcomes);
        context.rules.retries_max = retries_max;
        let failure = try_three(sink, &mut context).unwrap_err();
        assert_eq!(failure.error.code, "run.not_committed");
        assert_eq!(commits.load(Ordering::SeqCst), wanted);
    }
}

/// Refuses one record and never commits.
struct Stubborn(Arc<AtomicU64>);

impl Sink for Stubborn {
    fn prepare(&mut self, _: &PrepareRequest) -> Result<PrepareReport> {
        Ok(PrepareReport::default())
    }

    fn alter(&mut self, _: &AlterRequest) -> Result<PrepareReport> {
        Ok(PrepareReport::default())
    }

    fn begin(&mut self, _: &LaneId) -> Result<()> {
        Ok(())
    }

    fn write(&mut self, _: &str, batch: &Batch, _: ConflictPolicy) -> Result<Receipt> {
        Ok(Receipt {
            accepted: batch.record_count() as u64 - 1,
            rejected: vec![rejected(0)],
            ..Receipt::default()
        })
    }

    fn commit(&mut self, _: &Checkpoint) -> Result<Committed> {
        self.0.fetch_add(1, Ordering::SeqCst);
        Ok(Committed::NotCommitted)
    }

    fn abort(&mut self) -> Result<()> {
        Ok(())
    }
}

#[test]
fn the_breaker_sees_records_that_are_found_at_a_commit() {
    let outcomes = Arc::new(Outcomes::new(10));
    let commits = Arc::<AtomicU64>::default();
    let sink = Finding {
        lane: held(),
        known: 0,
        all: 3,
        commits: Arc::clone(&commits),
    };
    let mut context = context(&outcomes);
    context.breaker = Arc::new(Breaker::new(crate::config::BreakerPolicy {
        rate: 0.5,
        records_min: 3,
        window: 3,
    }));
    context.rules.retries_max = 5;
    let failure = try_three(sink, &mut context).unwrap_err();
    assert_eq!(failure.error.code, "run.breaker_open");
    // Two of three are known after two commits.
    assert_eq!(commits.load(Ordering::SeqCst), 2);
}

fn schema() -> Schema {
    Schema::new(vec![Field::required("id", RecordType::INT64)])
}

fn batch(ids: std::ops::Range<i64>) -> Batch {
    let schema = Arc::new(schema());
    let column = Arc::new(Int64Array::from_iter_values(ids));
    let records = RecordBatch::try_new(schema.to_arrow(), vec![column]).unwrap();
    Batch::new(schema, records).unwrap()
}

fn context(outcomes: &Arc<Outcomes>) -> WriterContext {
    let (emitter, stop) = (Emitter::new(Box::new(std::io::sink())), Stop::default());
    WriterContext {
        counters: Counters::new(vec!["a".to_owned()], Instant::now()),
        pause: Arc::new(Pause::new(&emitter, &stop, Duration::from_secs(1))),
        barrier: Barrier::default(),
        breaker: Arc::new(Breaker::new(crate::config::BreakerPolicy {
            rate: 1.0,
            ..Default::default()
        })),
        concurrency: Concurrency::new(1, "deferring", &emitter),
        emitter,
        stop,
        phase: Phase::Import,
        announces_commits: false,
        rules: TransactionRules {
            batch_records: 100,
            widens: true,
            commit_records: u64::MAX,
            commit_age: Duration::ZERO,
            timeout: Duration::from_secs(60),
            retries_max: 0,
            retry_delay: Duration::ZERO,
            is_transactional: false,
            keeps_lanes: false,
        },
        overflows: false,
        continues_on_error: false,
        outcomes: Arc::clone(outcomes),
        reopen: None,
    }
}

#[test]
fn what_a_sink_refuses_later_is_left_out_of_the_comparison_though_it_can_undo_nothing() {
    let outcomes = Arc::new(Outcomes::new(10));
    let context = context(&outcomes);
    let log = CallLog::new(context.emitter.clone(), None);
    let into = Arc::new(Collection::new("a", schema()).with_key(["id"]));
    let sink = Deferring {
        refused: vec![3, 5],
        ..Deferring::default()
    };
    let mut sink = OpenedSink::of_host("deferring", Box::new(sink), &log);
    let (budget, stop) = (Budget::new(1_000), Stop::default());
    let (records, from) = link(8);
    for ids in [10..12, 20..22, 30..33] {
        let share = budget.take(1, &stop).unwrap();
        assert!(
            records
                .send(LinkItem::Batch(batch(ids), share, Passed::default()))
                .is_ok()
        );
    }
    let cursor = Cursor::start();
    let passed = Passed::default();
    assert!(records.send(LinkItem::End { cursor, passed }).is_ok());
    let (lanes, arriving) = crossbeam_channel::unbounded();
    let mut machine = checkpoint::Lane::new(LaneId::default(), "");
    machine.claimed(LaneState::default()).unwrap();
    let lane = Lane {
        machine,
        collection: 0,
        source_name: "a".to_owned(),
        partition: "all".to_owned(),
        into: Arc::clone(&into),
        policy: ConflictPolicy::Overwrite,
        held_back: HeldBack::Nothing,
        link: from,
    };
    assert!(lanes.send(lane).is_ok());
    drop(lanes);
    writer::write(&mut sink, &arriving, &budget, &context).unwrap();
    // Rows 3 and 5 of all that was written.
    let mut wanted = crate::verification::LeftOut::default();
    for digest in crate::verification::left_out::digests(&into, &batch(0..40), [21, 31]) {
        wanted.add(digest);
    }
    assert_eq!(outcomes.left_out()[&0], wanted);
    assert_eq!((outcomes.rejected().0, budget.spent_bytes()), (2, 0));
}
