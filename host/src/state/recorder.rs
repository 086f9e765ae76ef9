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
use super::selection::{BEGUN_ANEW, Kept, LANE_TAKEN, Selection};
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
            Kept::Event { kind, body } => self.add_event(kind, body),
            Kept::Anew { body, collection } => {
                self.add_event(BEGUN_ANEW.to_owned(), body);
                self.news
                    .rejected
                    .retain(|rejected| rejected.collection != collection);
            }
            Kept::Found { body, lane } => {
                self.add_event(LANE_TAKEN.to_owned(), body);
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

    fn add_event(&mut self, kind: String, body: String) {
        self.seq += 1;
        self.news.events.push(EventRecord {
            seq: self.seq,
            at: now(),
            kind,
            body,
        });
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
mod tests;
