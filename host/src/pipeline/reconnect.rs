//! Reading that survives failures that pass: the stream is opened again after the last cursor, under the same snapshot, and nothing
//! is passed on twice.
//!
//! A source whose object is spoilt is opened anew, once for all streams that have lost it. Not taken up again is what cannot be
//! continued exactly: a source that knows no cursors, or that says for good that it cannot go on, as when its snapshot is gone;
//! that fails, and a resumed run sees to it. Neighbours: `reader` reads it, `retries` is the like for transactions.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use whimbrel_plugin_api::Cursor;
use whimbrel_plugin_api::error::ErrorScope;
use whimbrel_plugin_api::manifest::Role;
use whimbrel_plugin_api::source::{Item, ReadRequest, RejectedRecord};

use super::backoff;
use super::pause::{Pause, is_passing};
use crate::control::Stop;
use crate::events::{Emitter, Event, Failure};
use crate::loader::observe::{OpenedSource, OpenedStream};

/// Rejected records after a cursor that are remembered, to be left out when they come again; a stream with more of them is not
/// taken up again before its next cursor.
const REMEMBERED_MAX: usize = 100_000;

/// How the code of a source's error ends that says: the snapshot is gone, which no other try brings back, although a run that begins
/// anew gets another one.
const GONE_SUFFIX: &str = ".snapshot_gone";

/// What a reader reads.
pub trait ItemStream {
    /// The next item.
    ///
    /// # Errors
    /// What the source brings.
    fn next_item(&mut self) -> Result<Item, Failure>;

    /// Whether it was taken up again, so that it may tell of its schema from the beginning.
    fn is_taken_up(&self) -> bool {
        false
    }
}

impl ItemStream for OpenedStream {
    fn next_item(&mut self) -> Result<Item, Failure> {
        Self::next_item(self)
    }
}

/// Opens the source once more, for streams whose source is spoilt.
pub type OpenAnew<'a> = dyn Fn() -> Result<OpenedSource, Failure> + Send + Sync + 'a;

/// The source of a copy, which all its streams share.
pub struct SharedSource<'a> {
    state: Mutex<State<'a>>,
    anew: Option<&'a OpenAnew<'a>>,
}

struct State<'a> {
    /// Lives as long as the copy, since the snapshot may be its own.
    first: &'a mut OpenedSource,
    /// What is read in its place since it was spoilt.
    further: Option<OpenedSource>,
    generation: u64,
}

impl<'a> SharedSource<'a> {
    /// Shares `source`; without `anew` it is not replaced when it is spoilt.
    pub fn new(source: &'a mut OpenedSource, anew: Option<&'a OpenAnew<'a>>) -> Self {
        Self {
            state: Mutex::new(State {
                first: source,
                further: None,
                generation: 0,
            }),
            anew,
        }
    }

    fn state(&self) -> MutexGuard<'_, State<'a>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens a stream, and says of which source it is.
    fn read(&self, request: &ReadRequest) -> (u64, Result<OpenedStream, Failure>) {
        let mut state = self.state();
        let generation = state.generation;
        let State { first, further, .. } = &mut *state;
        (generation, further.as_mut().unwrap_or(first).read(request))
    }

    /// Replaces the source number `spoilt`, unless somebody else has.
    fn renew(&self, spoilt: u64) -> Result<(), Failure> {
        let mut state = self.state();
        if let Some(anew) = self.anew.filter(|_| state.generation == spoilt) {
            state.further = Some(anew()?);
            state.generation += 1;
        }
        Ok(())
    }
}

/// How all streams of a copy are read.
pub struct ReadingContext {
    /// Whether the source says of itself that a stream can be taken up at any cursor.
    pub can_resume: bool,
    /// Tries after a failure that may pass, counted anew when a cursor was reached.
    pub retries_max: u32,
    /// Time before the first of them.
    pub retry_delay: Duration,
    /// Where events go.
    pub emitter: Emitter,
    /// Ends everything.
    pub stop: Stop,
    /// Where everybody waits for a repair.
    pub pause: Arc<Pause>,
}

/// See the module.
pub struct ReconnectingStream<'a, 's> {
    source: &'a SharedSource<'s>,
    context: &'a ReadingContext,
    /// What was asked for; its cursor and limit are those of what is left.
    request: ReadRequest,
    stream: OpenedStream,
    /// Which source the stream is of.
    generation: u64,
    /// Batches were passed on after which no cursor is known.
    is_adrift: bool,
    is_taken_up: bool,
    /// Tries since something was passed on.
    tries: u32,
    sequence: u64,
    /// Rejected records that this stream has brought since the cursor, and how often.
    since: HashMap<Identity, u32>,
    /// Those that the streams before have brought since then, and that this one has not brought again yet.
    owed: HashMap<Identity, u32>,
    /// Both.
    remembered_count: usize,
}

/// Tells a rejected record from others.
type Identity = [u8; 16];

fn identity(record: &RejectedRecord) -> Identity {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&(record.record.len() as u64).to_be_bytes());
    hasher.update(record.record.as_bytes());
    hasher.update(record.code.as_bytes());
    let mut identity = Identity::default();
    hasher.finalize_xof().fill(&mut identity);
    identity
}

impl<'a, 's> ReconnectingStream<'a, 's> {
    /// Opens what `request` asks for, from its cursor on.
    ///
    /// # Errors
    /// What the source brings for good, or for too long.
    pub fn open(
        source: &'a SharedSource<'s>,
        request: ReadRequest,
        context: &'a ReadingContext,
    ) -> Result<Self, Failure> {
        let mut tries = 0;
        let (generation, stream) = match source.read(&request) {
            (generation, Ok(stream)) => (generation, stream),
            (generation, Err(failure)) => {
                let mut opening = Opening {
                    source,
                    context,
                    request: &request,
                    generation,
                    tries: &mut tries,
                };
                let stream = opening.after(failure)?;
                (opening.generation, stream)
            }
        };
        Ok(Self {
            source,
            context,
            request,
            stream,
            generation,
            is_adrift: false,
            is_taken_up: false,
            tries: 0,
            sequence: 0,
            since: HashMap::new(),
            owed: HashMap::new(),
            remembered_count: 0,
        })
    }

    /// Opens the stream again at the last cursor, if it can be gone on with there.
    fn take_up(&mut self, failure: Failure) -> Result<(), Failure> {
        if self.is_adrift || self.remembered_count > REMEMBERED_MAX {
            return Err(failure);
        }
        let mut opening = Opening {
            source: self.source,
            context: self.context,
            request: &self.request,
            generation: self.generation,
            tries: &mut self.tries,
        };
        self.stream = opening.after(failure)?;
        self.generation = opening.generation;
        self.is_taken_up = true;
        for (identity, count) in self.since.drain() {
            *self.owed.entry(identity).or_default() += count;
        }
        Ok(())
    }

    /// Notes what is passed on; nothing is left of it if it was passed on before.
    fn pass(&mut self, item: Item) -> Option<Item> {
        match item {
            Item::Batch(mut batch) => {
                self.move_to(&batch.facts.cursor, batch.record_count() as u64);
                batch.facts.sequence = self.sequence;
                self.sequence += 1;
                Some(Item::Batch(batch))
            }
            Item::Heartbeat { cursor } => {
                if !cursor.is_start() {
                    self.move_to(&cursor, 0);
                }
                Some(Item::Heartbeat { cursor })
            }
            Item::Rejected(mut records) => {
                records.retain(|record| self.is_new(record));
                (!records.is_empty()).then_some(Item::Rejected(records))
            }
            other => Some(other),
        }
    }

    /// `record_count` records up to `cursor` were passed on, and the rejected ones since the cursor before.
    fn move_to(&mut self, cursor: &Cursor, record_count: u64) {
        self.is_adrift = cursor.is_start() || !self.context.can_resume;
        if self.request.cursor != *cursor {
            self.tries = 0;
        }
        self.request.cursor = cursor.clone();
        let rejected: u64 = self.since.drain().map(|(_, count)| u64::from(count)).sum();
        // Those before a cursor come before it.
        self.owed.clear();
        self.remembered_count = 0;
        if let Some(limit) = &mut self.request.limit {
            *limit = limit.saturating_sub(record_count.saturating_add(rejected));
        }
    }

    /// Whether a rejected record was not passed on yet.
    fn is_new(&mut self, record: &RejectedRecord) -> bool {
        let identity = identity(record);
        *self.since.entry(identity).or_default() += 1;
        if let Some(count) = self.owed.get_mut(&identity) {
            *count -= 1;
            if *count == 0 {
                self.owed.remove(&identity);
            }
            return false;
        }
        self.remembered_count += 1;
        true
    }
}

impl ItemStream for ReconnectingStream<'_, '_> {
    fn next_item(&mut self) -> Result<Item, Failure> {
        loop {
            match self.stream.next_item() {
                Ok(item) => {
                    if let Some(item) = self.pass(item) {
                        return Ok(item);
                    }
                }
                // There would be nothing to ask for.
                Err(failure) if self.request.limit == Some(0) && is_passing(&failure) => {
                    return Ok(Item::End);
                }
                Err(failure) => self.take_up(failure)?,
            }
        }
    }

    fn is_taken_up(&self) -> bool {
        self.is_taken_up
    }
}

/// The opening of a stream until it has succeeded.
struct Opening<'o, 's> {
    source: &'o SharedSource<'s>,
    context: &'o ReadingContext,
    request: &'o ReadRequest,
    generation: u64,
    tries: &'o mut u32,
}

impl Opening<'_, '_> {
    /// Opens a stream in place of what `failure` has ended, as often as may be.
    fn after(&mut self, failure: Failure) -> Result<OpenedStream, Failure> {
        let context = self.context;
        let mut failure = failure;
        loop {
            let is_spoilt = is_of_session(&failure);
            if is_spoilt && self.source.anew.is_none() {
                return Err(failure);
            }
            let outcome = if context.pause.is_for(&failure) {
                let mut is_spoilt = is_spoilt;
                let held = context.pause.hold(failure, || {
                    self.open(is_spoilt)
                        .inspect_err(|again| is_spoilt = is_of_session(again))
                });
                match held {
                    // Nobody has repaired it in time.
                    Err(failure) if failure.error.pauses => return Err(failure),
                    outcome => outcome,
                }
            } else if may_pass(&failure) && *self.tries < context.retries_max {
                self.wait(failure)?;
                self.open(is_spoilt)
            } else {
                return Err(failure);
            };
            match outcome {
                Ok(stream) => return Ok(stream),
                Err(again) => failure = again,
            }
        }
    }

    fn open(&mut self, is_spoilt: bool) -> Result<OpenedStream, Failure> {
        if is_spoilt {
            self.source.renew(self.generation)?;
        }
        let (generation, stream) = self.source.read(self.request);
        self.generation = generation;
        stream
    }

    /// Announces the next try and waits until it may be made.
    fn wait(&mut self, failure: Failure) -> Result<(), Failure> {
        let context = self.context;
        *self.tries += 1;
        let asked = failure.error.retry_after_ms;
        let delay = backoff::delay(context.retry_delay, *self.tries, asked, fastrand::f64());
        context.emitter.emit(&Event::Retrying {
            role: Some(Role::Source),
            collection: self.request.collection.clone(),
            attempt: *self.tries,
            delay_ms: delay.as_millis() as u64,
            code: failure.error.code.clone(),
            message: failure.error.message.clone(),
        });
        match context.stop.wait(delay) {
            true => Err(failure),
            false => Ok(()),
        }
    }
}

fn may_pass(failure: &Failure) -> bool {
    is_passing(failure) && !failure.error.code.ends_with(GONE_SUFFIX)
}

fn is_of_session(failure: &Failure) -> bool {
    failure.error.scope == ErrorScope::Session
}

#[cfg(test)]
mod tests;
