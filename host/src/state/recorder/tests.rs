//! Records the events of made-up runs into stores that are slow or fail.
//! What is to be there afterwards is asked of the store itself.

use super::*;
use crate::events::{CollectionResult, Event, Outcome, Phase, RunSummary};
use crate::state::fixtures::{Place, new_run, run};
use crate::state::process::Process;
use crate::state::store::Durable;
use crate::state::{
    LaneFound, NewRun, PhaseStep, Refusal, RejectedChange, RejectedFilter, RejectedPage, RunFilter, RunId,
    RunRecord, RunState, StateStore, open_run,
};
use std::sync::atomic::{AtomicUsize, Ordering};
use whimbrel_plugin_api::source::RejectedRecord;

fn log(number: usize) -> Event {
    Event::Log {
        plugin: "p".into(),
        level: "info".into(),
        message: format!("line {number}, as long as lines of a log often are, with a name and a count"),
    }
}

fn rejected(number: usize) -> Event {
    Event::Rejected {
        collection: if number.is_multiple_of(2) { "even" } else { "odd" }.into(),
        record: RejectedRecord {
            record: number.to_string(),
            row: Some(1),
            code: "a.bad".into(),
            message: "field `x` is no number".into(),
            data: Some(format!("{{\"x\":\"secret {number}\"}}")),
        },
        stage: Phase::Import,
        partition: "all".into(),
        seq: number as u64,
        digest: None,
    }
}

fn finished(summary: RunSummary) -> Event {
    Event::Finished {
        outcome: Box::new(Outcome::Done { summary }),
    }
}

fn all() -> RejectedFilter {
    RejectedFilter {
        limit: 1000,
        with_data: true,
        ..RejectedFilter::default()
    }
}

#[test]
fn events_counts_and_rejected_records_are_there_after_the_end() {
    let place = Place::new();
    let store = place.open();
    let guard = open_run(&store, &new_run("a")).unwrap();
    let id = guard.id().clone();
    let mut recorder = Recorder::start(guard).unwrap();
    recorder
        .observe(&Event::PhaseStarted { phase: Phase::Import })
        .unwrap();
    for number in 1..=5 {
        recorder.observe(&rejected(number)).unwrap();
        recorder.observe(&Event::Heartbeat { memory_bytes: 0 }).unwrap();
    }
    let summary = RunSummary {
        collections: vec![CollectionResult {
            read_count: 9,
            written_count: 4,
            skipped_count: 2,
            rejected_count: 5,
            ..CollectionResult::default()
        }],
        ..RunSummary::default()
    };
    recorder.observe(&finished(summary)).unwrap();
    recorder.finish(RunEnd::new(RunState::Done, 0, None)).unwrap();

    let kinds: Vec<(u64, String)> = store
        .events(&id, 0, 100)
        .unwrap()
        .into_iter()
        .map(|event| (event.seq, event.kind))
        .collect();
    assert_eq!(
        kinds,
        [(1, "phase_started".to_owned()), (2, "finished".to_owned())]
    );
    let page = store.rejected(&id, &all()).unwrap();
    assert_eq!(page.total, 5);
    let numbers: Vec<u64> = page.records.iter().map(|record| record.number).collect();
    assert_eq!(numbers, [1, 2, 3, 4, 5]);
    assert_eq!(page.records[2].data.as_deref(), Some("{\"x\":\"secret 3\"}"));
    let even = RejectedFilter {
        collection: Some("even".into()),
        after: 2,
        limit: 1,
        ..RejectedFilter::default()
    };
    let page = store.rejected(&id, &even).unwrap();
    assert_eq!(
        (page.total, page.records.len(), page.records[0].number),
        (2, 1, 4)
    );
    assert_eq!(page.records[0].data, None);
    assert!(!format!("{:?}", page.records).contains("secret"));
    let ended = run(&store, &id);
    assert_eq!((ended.state, ended.exit_code), (RunState::Done, Some(0)));
    let counts = ended.counts;
    assert_eq!(
        (
            counts.read_count,
            counts.written_count,
            counts.skipped_count,
            counts.rejected_count
        ),
        (9, 4, 2, 5)
    );
}

/// A store that passes calls on, until it is told to fail; then `failures` calls in a row fail.
struct Failing {
    inner: Arc<dyn StateStore>,
    code: &'static str,
    failures: AtomicUsize,
}

impl Failing {
    fn check(&self) -> Result<(), Error> {
        let left = self.failures.load(Ordering::SeqCst);
        if left == 0 {
            return Ok(());
        }
        self.failures.store(left - 1, Ordering::SeqCst);
        Err(Error::new(ErrorKind::Unavailable, self.code, "made up"))
    }
}

impl StateStore for Failing {
    fn begin_run(&self, run: &NewRun) -> Result<(), Refusal> {
        self.inner.begin_run(run)
    }
    fn note_worker(&self, run: &RunId, worker: &Process) -> Result<(), Error> {
        self.inner.note_worker(run, worker)
    }
    fn record(&self, run: &RunId, news: &News) -> Result<(), Error> {
        self.check()?;
        self.inner.record(run, news)
    }
    fn end_run(&self, run: &RunId, end: &RunEnd) -> Result<(), Error> {
        self.check()?;
        self.inner.end_run(run, end)
    }
    fn runs(&self, filter: &RunFilter) -> Result<Vec<RunRecord>, Error> {
        self.inner.runs(filter)
    }
    fn events(&self, run: &RunId, after: u64, limit: u32) -> Result<Vec<EventRecord>, Error> {
        self.inner.events(run, after, limit)
    }
    fn rejected(&self, run: &RunId, filter: &RejectedFilter) -> Result<RejectedPage, Error> {
        self.inner.rejected(run, filter)
    }
    fn change_rejected(&self, run: &RunId, changes: &[RejectedChange]) -> Result<u64, Error> {
        self.inner.change_rejected(run, changes)
    }
    fn newest_with_rejected(&self) -> Result<Option<RunId>, Error> {
        self.inner.newest_with_rejected()
    }
    fn lanes_found(&self, run: &RunId) -> Result<Vec<LaneFound>, Error> {
        self.inner.lanes_found(run)
    }
    fn begun_anew(&self, run: &RunId) -> Result<Vec<String>, Error> {
        self.inner.begun_anew(run)
    }
    fn phase_steps(&self, run: &RunId) -> Result<Vec<PhaseStep>, Error> {
        self.inner.phase_steps(run)
    }
    fn note_overrides(&self, run: &RunId, overrides: &str) -> Result<(), Error> {
        self.inner.note_overrides(run, overrides)
    }
    fn durable(&self, run: &RunId) -> Result<Vec<Durable>, Error> {
        self.inner.durable(run)
    }
}

fn failing(place: &Place, code: &'static str, failures: usize) -> (Arc<dyn StateStore>, Recorder, RunId) {
    let store: Arc<dyn StateStore> = Arc::new(Failing {
        inner: place.open(),
        code,
        failures: AtomicUsize::new(failures),
    });
    let guard = open_run(&store, &new_run("a")).unwrap();
    let id = guard.id().clone();
    (store, Recorder::start(guard).unwrap(), id)
}

fn first_error(recorder: &mut Recorder) -> Error {
    loop {
        if let Err(error) = recorder.observe(&log(0)) {
            return error;
        }
        std::thread::yield_now();
    }
}

#[test]
fn a_store_that_fails_is_told_at_the_next_event_and_the_end_is_written_once_it_can_be() {
    let place = Place::new();
    let (store, mut recorder, id) = failing(&place, "workspace.disk_full", 1);
    assert_eq!(first_error(&mut recorder).code, "workspace.disk_full");
    assert_eq!(
        recorder.observe(&log(1)).unwrap_err().code,
        "workspace.disk_full",
        "said again"
    );
    let end = RunEnd::new(
        RunState::Failed,
        3,
        Some(&Error::config("workspace.disk_full", "x")),
    );
    assert_eq!(recorder.finish(end).unwrap_err().code, "workspace.disk_full");
    let ended = run(&store, &id);
    assert_eq!((ended.state, ended.exit_code), (RunState::Failed, Some(3)));
    assert!(
        !store.events(&id, 0, 10).unwrap().is_empty(),
        "what failed at first was written at the end"
    );
}

#[test]
fn the_end_is_written_even_if_what_waited_is_not() {
    let place = Place::new();
    let (store, mut recorder, id) = failing(&place, "workspace.disk_full", 2);
    assert_eq!(first_error(&mut recorder).code, "workspace.disk_full");
    let end = RunEnd::new(RunState::Failed, 3, None);
    assert_eq!(recorder.finish(end).unwrap_err().code, "workspace.disk_full");
    assert_eq!(run(&store, &id).exit_code, Some(3));
    assert!(store.events(&id, 0, 10).unwrap().is_empty());
}

#[test]
fn what_was_observed_is_durable_once_that_was_asked_for() {
    let place = Place::new();
    let store = place.open();
    let guard = open_run(&store, &new_run("a")).unwrap();
    let id = guard.id().clone();
    let mut recorder = Recorder::start(guard).unwrap();
    for number in 1..=20 {
        recorder.observe(&rejected(number)).unwrap();
        recorder.make_durable().unwrap();
        // Over another connection, which sees what is committed.
        assert_eq!(place.open().rejected(&id, &all()).unwrap().total, number as u64);
    }
    recorder.finish(RunEnd::new(RunState::Done, 0, None)).unwrap();
}

#[test]
fn a_store_that_fails_makes_nothing_durable_and_says_so_each_time() {
    let place = Place::new();
    let (store, mut recorder, id) = failing(&place, "workspace.disk_full", 1);
    recorder.observe(&rejected(1)).unwrap();
    for _ in 0..2 {
        assert_eq!(recorder.make_durable().unwrap_err().code, "workspace.disk_full");
    }
    assert_eq!(store.rejected(&id, &all()).unwrap().total, 0);
    let ended = recorder.finish(RunEnd::new(RunState::Failed, 3, None));
    assert_eq!(ended.unwrap_err().code, "workspace.disk_full");
}

fn taken(seq: u64) -> Event {
    Event::LaneTaken {
        collection: "odd".into(),
        partition: "all".into(),
        seq,
        cursor: whimbrel_plugin_api::Cursor::start(),
        record_count: 0,
        done: false,
    }
}

#[test]
fn what_was_refused_for_a_commit_that_was_not_made_is_taken_away_when_the_lane_is_taken_again() {
    let place = Place::new();
    let store = place.open();
    let guard = open_run(&store, &new_run("a")).unwrap();
    let id = guard.id().clone();
    let mut recorder = Recorder::start(guard).unwrap();
    for number in 1..=5 {
        recorder.observe(&rejected(number)).unwrap();
    }
    recorder.make_durable().unwrap();
    recorder.observe(&rejected(7)).unwrap();
    // The worker begins again: of `odd`, 5 and 7 were for commits that the sink does not have, one written down, one not.
    recorder.observe(&taken(3)).unwrap();
    recorder.observe(&rejected(9)).unwrap();
    recorder.finish(RunEnd::new(RunState::Done, 0, None)).unwrap();
    let page = store.rejected(&id, &all()).unwrap();
    let seqs: Vec<u64> = page.records.iter().map(|record| record.seq).collect();
    assert_eq!(seqs, [1, 2, 3, 4, 9]);
    let found = store.lanes_found(&id).unwrap();
    assert_eq!(
        (found.len(), found[0].partition.as_str(), found[0].seq),
        (1, "all", 3)
    );
}

#[test]
fn a_busy_store_is_asked_again() {
    let place = Place::new();
    let (store, mut recorder, id) = failing(&place, "state.busy", 2);
    recorder.observe(&log(1)).unwrap();
    recorder.finish(RunEnd::new(RunState::Done, 0, None)).unwrap();
    assert_eq!(store.events(&id, 0, 10).unwrap().len(), 1);
    let (_store, mut recorder, _) = failing(&Place::new(), "state.busy", usize::MAX);
    assert_eq!(first_error(&mut recorder).code, "state.busy");
}

#[test]
fn a_recorder_that_is_dropped_writes_what_it_had() {
    let place = Place::new();
    let store = place.open();
    let guard = open_run(&store, &new_run("a")).unwrap();
    let id = guard.id().clone();
    let mut recorder = Recorder::start(guard).unwrap();
    recorder.observe(&log(1)).unwrap();
    drop(recorder);
    assert_eq!(store.events(&id, 0, 10).unwrap().len(), 1);
    assert_eq!(run(&store, &id).failure.unwrap().code, "run.abandoned");
}

#[test]
fn events_are_written_while_the_run_goes_on() {
    let place = Place::new();
    let store = place.open();
    let guard = open_run(&store, &new_run("a")).unwrap();
    let id = guard.id().clone();
    let mut recorder = Recorder::start(guard).unwrap();
    recorder.observe(&log(1)).unwrap();
    let started = Instant::now();
    while store.events(&id, 0, 10).unwrap().is_empty() {
        assert!(started.elapsed() < Duration::from_secs(20), "nothing was written");
        std::thread::yield_now();
    }
    recorder.finish(RunEnd::new(RunState::Done, 0, None)).unwrap();
}

#[test]
fn progress_that_is_not_kept_still_counts() {
    let place = Place::new();
    let store = place.open();
    let guard = open_run(&store, &new_run("a")).unwrap();
    let id = guard.id().clone();
    let mut recorder = Recorder::start(guard).unwrap();
    for read_count in 1..=100 {
        let progress = Event::Progress {
            collection: "c".into(),
            read_count,
            written_count: 0,
            rejected_count: 0,
            read_bytes: 0,
        };
        recorder.observe(&progress).unwrap();
    }
    drop(recorder);
    assert_eq!(run(&store, &id).counts.read_count, 100);
    assert!(store.events(&id, 0, 200).unwrap().len() < 100);
}

#[test]
fn a_hundred_thousand_events_are_all_kept() {
    const EVENTS: usize = 100_000;
    let place = Place::new();
    let store = place.open();
    let guard = open_run(&store, &new_run("a")).unwrap();
    let id = guard.id().clone();
    let mut recorder = Recorder::start(guard).unwrap();
    let started = Instant::now();
    for number in 0..EVENTS {
        recorder.observe(&log(number)).unwrap();
    }
    recorder.finish(RunEnd::new(RunState::Done, 0, None)).unwrap();
    let seconds = started.elapsed().as_secs_f64();
    println!(
        "{EVENTS} events in {seconds:.2} s, {:.0} a second",
        EVENTS as f64 / seconds
    );
    let last = store.events(&id, EVENTS as u64 - 1, 10).unwrap();
    assert_eq!(last.len(), 1);
    assert!(last[0].body.contains("line 99999,"), "{}", last[0].body);
}
