//! How a transaction is tried again: after an error that may pass, and after the repair that an error asks for.
//!
//! Either way it is undone first and written again as a whole, in a new session if the old one is spoilt. A sink that learns of refused
//! records at its commit only says no to it and refuses them the next time: such tries are as many as it takes. Neighbours:
//! `transaction` is what is written, `pause` waits for the repair.

use std::time::{Duration, Instant};

use whimbrel_plugin_api::Error;
use whimbrel_plugin_api::error::ErrorScope;

use super::backoff as waiting;
use super::commit::NOT_COMMITTED;
use super::concurrency::Permit;
use super::pause::is_passing;
use super::transaction::{Open, Transaction};
use super::writer::LaneProgress;
use crate::events::{Event, Failure};
use crate::loader::observe::OpenedSink;

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
        progress: &mut LaneProgress,
        mut action: impl FnMut(&mut Self, &mut LaneProgress) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let (mut tries, mut most) = (0, 0);
        let mut outcome = self.sit_out(progress).and_then(|()| action(self, progress));
        loop {
            let failure = match outcome {
                Ok(done) => return Ok(done),
                Err(failure) if self.context.pause.is_for(&failure) && self.can_go_on(&failure) => {
                    match self.hold(progress, failure, &mut action) {
                        // Something else, which may pass.
                        Err(other) if !other.error.pauses && self.may_go_on(&other, tries) => other,
                        ended => return ended,
                    }
                }
                Err(failure) if self.may_go_on(&failure, tries) => failure,
                Err(failure) => return Err(failure),
            };
            most = most.max(self.refused_count());
            let is_last = !self.may_pass(&failure, tries);
            if !is_last {
                tries += 1;
                self.wait_for_try(progress, tries, &failure)?;
            }
            self.is_spoilt |= is_of_session(&failure);
            let mut again = self.again(progress);
            if again.is_ok() && is_not_committed(&failure) {
                again = self.flush(progress);
                if self.refused_count() > most {
                    // The sink has found at the commit what it does not take: that is no failed try.
                    tries = 0;
                } else if is_last {
                    return again.and(Err(failure));
                }
            }
            outcome = again.and_then(|()| action(self, progress));
        }
    }

    /// Tells of try number `tries` after the first one, and waits until it is time for it.
    ///
    /// # Errors
    /// `failure`, if the run ends meanwhile.
    fn wait_for_try(
        &mut self,
        progress: &LaneProgress,
        tries: u32,
        failure: &Failure,
    ) -> Result<(), Failure> {
        if let Some(permit) = self.permit() {
            permit.failed(failure);
        }
        let delay = self.delay(tries, failure);
        self.context.emitter.emit(&Event::Retrying {
            role: None,
            collection: progress.lane.source_name.clone(),
            attempt: tries,
            delay_ms: delay.as_millis() as u64,
            code: failure.error.code.clone(),
            message: failure.error.message.clone(),
        });
        match self.context.stop.wait(delay) {
            true => Err(failure.clone()),
            false => Ok(()),
        }
    }

    /// Waits for the repair that `failure` asks for, with nothing open, and writes all of it again to see whether it came.
    fn hold<T>(
        &mut self,
        progress: &mut LaneProgress,
        failure: Failure,
        action: &mut impl FnMut(&mut Self, &mut LaneProgress) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        drop(self.sink.abort());
        self.is_spoilt |= is_of_session(&failure);
        self.leave();
        let context = self.context;
        context.pause.hold(failure, || {
            let outcome = self.again(progress).and_then(|()| action(self, progress));
            if let Err(failure) = &outcome {
                drop(self.sink.abort());
                self.is_spoilt |= is_of_session(failure);
            }
            outcome
        })
    }

    /// While another writer waits for a repair, nothing stays open here either.
    fn sit_out(&mut self, progress: &mut LaneProgress) -> Result<(), Failure> {
        let context = self.context;
        if !context.pause.is_held() || !context.rules.is_transactional {
            return Ok(());
        }
        drop(self.sink.abort());
        self.leave();
        context.pause.wait()?;
        self.again(progress)
    }

    /// Whether what `failure` has spoilt can be made anew.
    fn can_go_on(&self, failure: &Failure) -> bool {
        self.context.rules.is_transactional && (!is_of_session(failure) || self.context.reopen.is_some())
    }

    fn may_pass(&self, failure: &Failure, tries: u32) -> bool {
        tries < self.context.rules.retries_max && self.may_help(failure)
    }

    /// Whether trying again may help, however often it was done.
    fn may_help(&self, failure: &Failure) -> bool {
        is_passing(failure) && self.can_go_on(failure) && !self.context.stop.is_raised()
    }

    /// Whether another try may help; after the last one, writing again shows whether the sink now refuses what kept it from committing.
    fn may_go_on(&self, failure: &Failure, tries: u32) -> bool {
        self.may_pass(failure, tries) || (is_not_committed(failure) && self.may_help(failure))
    }

    /// How many records the sink has refused in this try.
    fn refused_count(&self) -> usize {
        self.open.as_ref().map_or(0, |open| open.totals.rejected.len())
    }

    pub(super) fn delay(&self, tries: u32, failure: &Failure) -> Duration {
        backoff(self.context.rules.retry_delay, tries, failure)
    }

    /// A new transaction with everything that the failed one held.
    fn again(&mut self, progress: &mut LaneProgress) -> Result<(), Failure> {
        let Some(mut lost) = self.open.take() else {
            drop(self.sink.abort());
            return self.renew();
        };
        drop(self.sink.abort());
        if !self.enter_again(&mut lost) {
            self.open = Some(lost);
            return Err(Error::cancelled().into());
        }
        let begun = self.renew().and_then(|()| self.begin_lane(progress));
        lost.totals = std::mem::take(&mut lost.totals).again();
        lost.since = Instant::now();
        let kept = std::mem::take(&mut lost.kept);
        self.open = Some(lost);
        let mut written = begun;
        for kept in &kept {
            written = written.and_then(|()| self.put(progress, &kept.batch, &kept.whole));
        }
        if let Some(open) = &mut self.open {
            open.kept = kept;
        }
        written
    }

    fn permit(&mut self) -> Option<&mut Permit> {
        self.open.as_mut().and_then(|open| open.permit.as_mut())
    }

    /// Who waits for a repair is not under way.
    pub(super) fn leave(&mut self) {
        if let Some(open) = &mut self.open {
            open.permit = None;
        }
    }

    /// Waits for a place among those that may be under way; false if the run ends first.
    fn enter_again(&self, lost: &mut Open) -> bool {
        let (concurrency, stop) = (&self.context.concurrency, &self.context.stop);
        match &mut lost.permit {
            Some(permit) => permit.again(stop),
            none => {
                *none = concurrency.enter(stop);
                none.is_some()
            }
        }
    }

    /// Replaces the session if `failure` has spoilt it and another can be opened.
    pub(super) fn renew_if_spoilt(&mut self, failure: &Failure) -> Result<(), Failure> {
        self.is_spoilt |= is_of_session(failure);
        self.renew()
    }

    pub(super) fn renew(&mut self) -> Result<(), Failure> {
        if let Some(reopen) = self.context.reopen.as_ref().filter(|_| self.is_spoilt) {
            *self.sink = reopen()?;
            self.is_spoilt = false;
        }
        Ok(())
    }
}

/// How long to wait before try number `tries` after the first, given what failed.
pub fn backoff(base: Duration, tries: u32, failure: &Failure) -> Duration {
    waiting::delay(base, tries, failure.error.retry_after_ms, fastrand::f64())
}

fn is_not_committed(failure: &Failure) -> bool {
    failure.error.code == NOT_COMMITTED
}

fn is_of_session(failure: &Failure) -> bool {
    failure.error.scope == ErrorScope::Session
}
