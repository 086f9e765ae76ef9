//! Writes down the events of a run while it goes on, on a thread of its own, so that a slow disk does not hold the run.
//!
//! Batches are short: what a crash of the supervisor loses is a fifth of a second. A store that fails is told at the
//! next event; the end of the run is tried all the same.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use whimbrel_plugin_api::{Error, ErrorKind};

use super::guard::RunGuard;
use super::moment::now;
use super::run::{Counts, PluginVersion, RunEnd};
use super::selection::{Kept, LANE_TAKEN, Selection};
use super::store::{EventRecord, News, Rejected};

/// One transaction takes at most so many events.
const BATCH_EVENTS_MAX: usize = 500;
/// An event waits at most so long for its transaction.
const BATCH_AGE_MAX: Duration = Duration::from_millis(200);
/// A run without events says so often that it lives; a twelfth of the time after which it would count as lost.
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(5);
/// Events that wait for the thread.
const QUEUE_EVENTS_MAX: usize = 4096;
/// With a full queue the run is held up so long before the store counts as failed.
const QUEUE_WAIT: Duration = Duration::from_secs(20);
/// Who waits until everything is durable does so for this long: a full queue and a busy store, each as long as it may take.
const DURABLE_WAIT: Duration = Duration::from_secs(60);
/// A store that others keep busy is asked so often; each time waits by itself.
const BUSY_ATTEMPTS: u32 = 3;

enum Message {
    Kept(Kept),
    Plugins(Vec<PluginVersion>),
    /// Everything before it is to be durable; who waits is told.
    MakeDurable(Sender<Result<(), Error>>),
    Finish(RunEnd),
}

/// What both halves look at.
#[derive(Default)]
struct Shared {
    failure: Mutex<Option<Error>>,
    /// Progress that is not kept as an event still counts.
    counts: Mutex<Counts>,
}

impl Shared {
    fn failure(&self) -> MutexGuard<'_, Option<Error>> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Records one run.
pub struct Recorder {
    selection: Selection,
    sender: Option<Sender<Message>>,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<Result<(), Error>>>,
}

impl Recorder {
    /// Begins to record the run of `guard`.
    ///
    /// # Errors
    /// `state.thread` if there can be no thread.
    pub fn start(guard: RunGuard) -> Result<Self, Error> {
        let (sender, messages) = crossbeam_channel::bounded(QUEUE_EVENTS_MAX);
        let shared = Arc::new(Shared::default());
        let writer = Writer::new(guard, Arc::clone(&shared));
        let thread = std::thread::Builder::new()
            .name("recorder".to_owned())
            .spawn(move || writer.run(&messages))
            .map_err(|error| {
                let message = "the thread that records the run could not be started";
                Error::new(ErrorKind::Unavailable, "state.thread", message).with_cause(&error)
            })?;
        Ok(Self {
            selection: Selection::new(),
            sender: Some(sender),
            shared,
            thread: Some(thread),
        })
    }

    /// Takes note of an event. Returns at once, unless the store lags far behind.
    ///
    /// # Errors
    /// What went wrong with the store since; `run.fenced` among it. Said each time from then on.
    pub fn observe(&mut self, event: &crate::events::Event) -> Result<(), Error> {
        let plugins_before = self.selection.plugins().len();
        let kept = self.selection.keep(event, Instant::now());
        if let Some(error) = self.shared.failure().clone() {
            // The end is tried all the same, and says how much was done.
            *self.shared.counts() = self.selection.counts();
            return Err(error);
        }
        if self.selection.plugins().len() > plugins_before {
            self.send(Message::Plugins(self.selection.plugins().to_vec()))?;
        }
        *self.shared.counts() = self.selection.counts();
        match kept {
            Kept::Nothing => Ok(()),
            kept => self.send(Message::Kept(kept)),
        }
    }

    /// Writes down all that was observed so far; it is durable when this returns.
    ///
    /// # Errors
    /// What went wrong with the store, now or before.
    pub fn make_durable(&mut self) -> Result<(), Error> {
        let (told, durable) = crossbeam_channel::bounded(1);
        self.send(Message::MakeDurable(told))?;
        match durable.recv_timeout(DURABLE_WAIT) {
            Ok(outcome) => outcome,
            Err(RecvTimeoutError::Timeout) => Err(slow(DURABLE_WAIT)),
            Err(RecvTimeoutError::Disconnected) => Err(lost()),
        }
    }

    fn send(&self, message: Message) -> Result<(), Error> {
        let sent = self
            .sender
            .as_ref()
            .map(|sender| sender.send_timeout(message, QUEUE_WAIT));
        match sent {
            Some(Ok(())) => Ok(()),
            _ => Err(slow(QUEUE_WAIT)),
        }
    }

    /// Writes nothing more before the end, because of `error`: room that was kept for the end is for the end alone.
    pub fn give_up(&self, error: &Error) {
        self.shared.failure().get_or_insert_with(|| error.clone());
    }

    /// Writes down what waits, then the end. Ends the recording, whatever comes of it.
    ///
    /// # Errors
    /// What went wrong with the store, now or before; the end may be written down all the same.
    pub fn finish(mut self, end: RunEnd) -> Result<(), Error> {
        self.send(Message::Finish(end))?;
        self.join().unwrap_or_else(|| Err(lost()))
    }

    fn join(&mut self) -> Option<Result<(), Error>> {
        self.sender = None;
        let thread = self.thread.take()?;
        Some(thread.join().unwrap_or_else(|_| Err(lost())))
    }
}

impl Drop for Recorder {
    /// Without [`Recorder::finish`] the run ends as its guard says.
    fn drop(&mut self) {
        // Who drops it is on the way out because of something else.
        drop(self.join());
    }
}

fn slow(waited: Duration) -> Error {
    Error::new(
        ErrorKind::Timeout,
        "state.slow",
        format!(
            "the state of the run could not be written for {} s",
            waited.as_secs()
        ),
    )
    .with_help(
        "look for a full or slow disk under the working folder, or for a program that locks `state.db`",
    )
}

fn lost() -> Error {
    Error::new(
        ErrorKind::Internal,
        "state.recorder",
        "the thread that records the run has ended",
    )
}

/// The thread's half.
struct Writer {
    guard: RunGuard,
    shared: Arc<Shared>,
    news: News,
    seq: u64,
    rejected_number: u64,
    oldest: Option<Instant>,
    last_written: Instant,
}

impl Writer {
    fn new(guard: RunGuard, shared: Arc<Shared>) -> Self {
        Self {
            guard,
            shared,
            news: News {
                events: Vec::new(),
                rejected: Vec::new(),
                counts: Counts::default(),
                plugins: Vec::new(),
                heartbeat_at: now(),
            },
            seq: 0,
            rejected_number: 0,
            oldest: None,
            last_written: Instant::now(),
        }
    }

    fn run(mut self, messages: &Receiver<Message>) -> Result<(), Error> {
        loop {
            match messages.recv_timeout(self.wait()) {
                Ok(Message::Kept(kept)) => {
                    self.add(kept);
                    if !self.is_due() {
                        continue;
                    }
                }
                Ok(Message::Plugins(plugins)) => {
                    self.news.plugins = plugins;
                    continue;
                }
                Ok(Message::MakeDurable(told)) => {
                    // Whoever asked may have given up waiting.
                    drop(told.try_send(self.write_all()));
                    continue;
                }
                Ok(Message::Finish(end)) => return self.finish(&end),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return self.write(),
            }
            // Told at the next event.
            drop(self.write_all());
        }
    }

    /// Writes what waits, unless writing has failed before.
    fn write_all(&mut self) -> Result<(), Error> {
        if let Some(error) = self.shared.failure().clone() {
            return Err(error);
        }
        let written = self.write();
        if let Err(error) = &written {
            *self.shared.failure() = Some(error.clone());
        }
        written
    }

    fn has_failed(&self) -> bool {
        self.shared.failure().is_some()
    }

    fn is_due(&self) -> bool {
        let waiting = self.news.events.len() + self.news.rejected.len();
        waiting >= BATCH_EVENTS_MAX
            || self
                .oldest
                .is_some_and(|oldest| oldest.elapsed() >= BATCH_AGE_MAX)
    }

    fn wait(&self) -> Duration {
        if self.has_failed() {
            // What failed is tried once more at the end; until then there is nothing to be in time for.
            return HEARTBEAT_INTERVAL;
        }
        match self.oldest {
            Some(oldest) => BATCH_AGE_MAX.saturating_sub(oldest.elapsed()),
            None => HEARTBEAT_INTERVAL.saturating_sub(self.last_written.elapsed()),
        }
    }

    fn add(&mut self, kept: Kept) {
        if self.has_failed() {
            return;
        }
        self.oldest.get_or_insert_with(Instant::now);
        match kept {
            Kept::Nothing => {}
            Kept::Event { kind, body } => {
                self.seq += 1;
                self.news.events.push(EventRecord {
                    seq: self.seq,
                    at: now(),
                    kind,
                    body,
                });
            }
            Kept::Found { body, lane } => {
                self.seq += 1;
                self.news.events.push(EventRecord {
                    seq: self.seq,
                    at: now(),
                    kind: LANE_TAKEN.to_owned(),
                    body,
                });
                self.news.rejected.retain(|rejected| !rejected.is_beyond(&lane));
            }
            Kept::Rejected(rejected) => {
                self.rejected_number += 1;
                self.news.rejected.push(Rejected {
                    number: self.rejected_number,
                    at: now(),
                    ..*rejected
                });
            }
        }
    }

    fn write(&mut self) -> Result<(), Error> {
        self.news.heartbeat_at = now();
        self.news.counts = *self.shared.counts();
        let mut attempt = 1;
        loop {
            match self.guard.store().record(self.guard.id(), &self.news) {
                Err(error) if error.code == "state.busy" && attempt < BUSY_ATTEMPTS => attempt += 1,
                Err(error) => return Err(error),
                Ok(()) => break,
            }
        }
        self.news.events.clear();
        self.news.rejected.clear();
        self.oldest = None;
        self.last_written = Instant::now();
        Ok(())
    }

    /// What failed may go well by now: room that was kept for the end has been freed.
    fn finish(&mut self, end: &RunEnd) -> Result<(), Error> {
        let written = self.write();
        let ended = self.guard.end(end);
        let earlier = self.shared.failure().take();
        ended.and(written).and(earlier.map_or(Ok(()), Err))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::{CollectionResult, Event, Outcome, Phase, RunSummary};
    use crate::state::fixtures::{Place, new_run, run};
    use crate::state::process::Process;
    use crate::state::store::Durable;
    use crate::state::{
        LaneFound, NewRun, Refusal, RejectedChange, RejectedFilter, RejectedPage, RunFilter, RunId,
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
}
