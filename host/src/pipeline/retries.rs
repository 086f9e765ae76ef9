//! How a transaction is tried again: after an error that may pass, and after the repair that an error asks for.
//!
//! Either way it is undone first and written again as a whole, in a new session if the old one is spoilt. Neighbours:
//! `transaction` is what is written, `pause` waits for the repair.

use std::time::{Duration, Instant};

use whimbrel_plugin_api::error::ErrorScope;

use super::pause::is_passing;
use super::totals::Totals;
use super::transaction::Transaction;
use super::writer::LaneProgress;
use crate::events::{Event, Failure};
use crate::loader::observe::OpenedSink;

/// The longest time between two tries.
const RETRY_DELAY_MAX: Duration = Duration::from_secs(60);

impl Transaction<'_> {
    /// A call between transactions, which waits for a repair if it needs one.
    pub(super) fn between<T>(
        &mut self,
        mut call: impl FnMut(&mut OpenedSink) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let context = self.context;
        if context.pause.is_held() {
            context.pause.wait()?;
        }
        let mut attempt = || {
            self.renew()?;
            call(self.sink).inspect_err(|failure| self.is_spoilt = is_of_session(failure))
        };
        match attempt() {
            Err(failure) if context.pause.is_for(&failure) && self.can_go_on(&failure) => {
                context.pause.hold(failure, || {
                    self.renew()?;
                    call(self.sink).inspect_err(|failure| self.is_spoilt = is_of_session(failure))
                })
            }
            outcome => outcome,
        }
    }

    /// Runs `action`; if it fails in a way that may pass, undoes the transaction and writes all of it again first.
    pub(super) fn with_retries<T>(
        &mut self,
        progress: &LaneProgress,
        mut action: impl FnMut(&mut Self) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let mut tries = 0;
        let mut outcome = self.sit_out(progress).and_then(|()| action(self));
        loop {
            let failure = match outcome {
                Ok(done) => return Ok(done),
                Err(failure) if self.context.pause.is_for(&failure) && self.can_go_on(&failure) => {
                    match self.hold(progress, failure, &mut action) {
                        // Something else, which may pass.
                        Err(other) if !other.error.pauses && self.may_pass(&other, tries) => other,
                        ended => return ended,
                    }
                }
                Err(failure) if self.may_pass(&failure, tries) => failure,
                Err(failure) => return Err(failure),
            };
            tries += 1;
            let delay = self.delay(tries, &failure);
            self.context.emitter.emit(&Event::Retrying {
                collection: progress.lane.source_name.clone(),
                attempt: tries,
                delay_ms: delay.as_millis() as u64,
                code: failure.error.code.clone(),
                message: failure.error.message.clone(),
            });
            if self.context.stop.wait(delay) {
                return Err(failure);
            }
            self.is_spoilt |= is_of_session(&failure);
            outcome = self.again(progress).and_then(|()| action(self));
        }
    }

    /// Waits for the repair that `failure` asks for, with nothing open, and writes all of it again to see whether it came.
    fn hold<T>(
        &mut self,
        progress: &LaneProgress,
        failure: Failure,
        action: &mut impl FnMut(&mut Self) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        drop(self.sink.abort());
        self.is_spoilt |= is_of_session(&failure);
        let context = self.context;
        context.pause.hold(failure, || {
            let outcome = self.again(progress).and_then(|()| action(self));
            if let Err(failure) = &outcome {
                drop(self.sink.abort());
                self.is_spoilt |= is_of_session(failure);
            }
            outcome
        })
    }

    /// While another writer waits for a repair, nothing stays open here either.
    fn sit_out(&mut self, progress: &LaneProgress) -> Result<(), Failure> {
        let context = self.context;
        if !context.pause.is_held() || !context.rules.is_transactional {
            return Ok(());
        }
        drop(self.sink.abort());
        context.pause.wait()?;
        self.again(progress)
    }

    /// Whether what `failure` has spoilt can be made anew.
    fn can_go_on(&self, failure: &Failure) -> bool {
        self.context.rules.is_transactional && (!is_of_session(failure) || self.context.reopen.is_some())
    }

    fn may_pass(&self, failure: &Failure, tries: u32) -> bool {
        tries < self.context.rules.retries_max
            && is_passing(failure)
            && self.can_go_on(failure)
            && !self.context.stop.is_raised()
    }

    /// Exponential with full jitter, never less than the sink asks for.
    fn delay(&self, tries: u32, failure: &Failure) -> Duration {
        let base = self.context.rules.retry_delay;
        let ceiling = base
            .saturating_mul(1u32.checked_shl(tries - 1).unwrap_or(u32::MAX))
            .min(RETRY_DELAY_MAX);
        let jittered = ceiling.mul_f64(fastrand::f64());
        let asked = Duration::from_millis(failure.error.retry_after_ms.unwrap_or(0));
        jittered.max(asked).min(RETRY_DELAY_MAX)
    }

    /// A new transaction with everything that the failed one held.
    fn again(&mut self, progress: &LaneProgress) -> Result<(), Failure> {
        let Some(mut lost) = self.open.take() else {
            drop(self.sink.abort());
            return self.renew();
        };
        drop(self.sink.abort());
        let begun = self.renew().and_then(|()| self.sink.begin(&progress.lane.id));
        lost.totals = Totals::again(lost.totals.told);
        lost.since = Instant::now();
        let kept = std::mem::take(&mut lost.kept);
        self.open = Some(lost);
        let mut written = begun;
        for (batch, _) in &kept {
            written = written.and_then(|()| self.put(progress, batch));
        }
        if let Some(open) = &mut self.open {
            open.kept = kept;
        }
        written
    }

    /// Replaces the session if `failure` has spoilt it and another can be opened.
    pub(super) fn renew_if_spoilt(&mut self, failure: &Failure) -> Result<(), Failure> {
        self.is_spoilt |= is_of_session(failure);
        self.renew()
    }

    fn renew(&mut self) -> Result<(), Failure> {
        if let Some(reopen) = self.context.reopen.as_ref().filter(|_| self.is_spoilt) {
            *self.sink = reopen()?;
            self.is_spoilt = false;
        }
        Ok(())
    }
}

fn is_of_session(failure: &Failure) -> bool {
    failure.error.scope == ErrorScope::Session
}
