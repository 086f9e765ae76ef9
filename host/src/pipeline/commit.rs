//! The end of a transaction: what it leaves out is durable first, then its records together with the lane's checkpoint.
//!
//! If the answer is lost, nothing is sent again: the lane is claimed anew, over another session if need be, and its seq says whether the
//! commit was made. Neighbours: `transaction` is what is committed, [`crate::checkpoint::Lane`] holds the order of the steps.

use whimbrel_plugin_api::error::ErrorScope;
use whimbrel_plugin_api::manifest::Role;
use whimbrel_plugin_api::sink::{Committed, LaneClaim, LaneState};
use whimbrel_plugin_api::{Error, ErrorKind};

use super::link::Passed;
use super::transaction::Transaction;
use super::writer::LaneProgress;
use crate::checkpoint::{Answer, LaneCounts, Reclaimed, lane_snapshots, snapshots_extension};
use crate::crash_site;
use crate::events::Failure;

/// What a commit made durable.
pub(super) struct Written {
    pub(super) seq: u64,
    pub(super) records: u64,
    pub(super) skipped: u64,
}

impl Transaction<'_> {
    /// Commits. Afterwards nothing is open, whatever the outcome.
    pub(super) fn commit(&mut self, progress: &mut LaneProgress, done: bool) -> Result<Written, Failure> {
        let outcome = self.with_retries(progress, |transaction, progress| {
            transaction.try_commit(progress, done)
        });
        if outcome.is_err() && self.open.take().is_some() {
            progress.lane.machine.undone();
            // The failure that led here says more than a failing abort could.
            drop(self.sink.abort());
        }
        outcome
    }

    fn try_commit(&mut self, progress: &mut LaneProgress, done: bool) -> Result<Written, Failure> {
        self.flush(progress)?;
        crash_site::reach("flushed");
        // What is known to be rejected and arrives after all would be taken for missing for ever.
        let takes_back = self.take_back(progress);
        let leaves_out = takes_back || self.leaves_out();
        // Rejected records are known before the commit that leaves them out, and never too many for it.
        self.tell_rejected(progress)?;
        self.note(done)?;
        if leaves_out {
            let (emitter, stop) = (&self.context.emitter, &self.context.stop);
            self.context.barrier.pass(emitter, stop).inspect_err(|error| {
                // Without a place for what is left out nothing may be committed, however often it is tried.
                stop.fail(error.clone().into());
            })?;
        }
        progress.lane.machine.refused_are_kept();
        crash_site::reach("refused_kept");
        let Some(open) = &self.open else {
            return Ok(Written {
                seq: progress.lane.machine.state().seq,
                records: 0,
                skipped: 0,
            });
        };
        let (records, skipped) = (open.totals.records, open.totals.skipped);
        let rejected = (open.totals.rejected.len() + open.carried.len()) as u64;
        let counts = counts_at(progress, open.passed, skipped, rejected);
        let counters = self.context.counters.of(progress.lane.collection);
        let machine = &mut progress.lane.machine;
        let mut snapshots = lane_snapshots(&machine.state().extensions);
        snapshots.merge(&counters.snapshots_at(open.passed.snapshots));
        let mut checkpoint = machine.checkpoint(open.cursor.clone(), done, records)?;
        checkpoint.extensions = counts.to_extensions();
        checkpoint.extensions.extend(snapshots_extension(&snapshots));
        crash_site::reach("commit_sent");
        let sent = self.sink.commit(&checkpoint);
        crash_site::reach("committed");
        let answer = match &sent {
            Ok(outcome) => machine.answered(*outcome)?,
            Err(failure) => machine.answered(commit_meaning(failure))?,
        };
        let seq = match answer {
            Answer::Durable(seq) => seq,
            Answer::Again => return Err(of_transaction(sent.err(), not_committed())),
            Answer::Fenced => return Err(sent.err().unwrap_or_else(|| Error::fenced().into())),
            Answer::Doubtful => {
                let lost = sent.err();
                match self.find_out(progress, lost.clone())? {
                    Reclaimed::Durable(seq) => seq,
                    // Whether it may be written again is for what went wrong to say.
                    Reclaimed::Again => return Err(of_transaction(lost, not_committed())),
                }
            }
        };
        self.is_durable(progress, counts);
        Ok(Written {
            seq,
            records,
            skipped,
        })
    }

    /// Has the breaker take note of the transaction, of each record once whatever number of tries it takes. A sink may find at a commit
    /// what it rejects in the next try.
    fn note(&mut self, done: bool) -> Result<(), Failure> {
        let Some(open) = self.open.as_mut() else {
            return Ok(());
        };
        let breaker = &self.context.breaker;
        let rejected = open.totals.rejected.len() as u64;
        let before = open.noted.replace(open.noted.unwrap_or(0).max(rejected));
        let error = match before {
            Some(before) if rejected > before => breaker.revise(rejected - before),
            Some(_) => None,
            None => {
                let noted = breaker.note(open.totals.records, rejected);
                noted.or(if done { breaker.settle() } else { None })
            }
        };
        match error {
            Some(error) => Err(error.into()),
            None => Ok(()),
        }
    }

    fn leaves_out(&self) -> bool {
        self.open
            .as_ref()
            .is_some_and(|open| !open.totals.rejected.is_empty() || !open.carried.is_empty())
    }

    fn is_durable(&mut self, progress: &mut LaneProgress, counts: LaneCounts) {
        if let Some(open) = self.open.take() {
            let outcomes = &self.context.outcomes;
            outcomes.leave_out(progress.lane.collection, &open.totals.left_out);
            progress.passed = open.passed;
            if let Some(permit) = open.permit {
                permit.committed();
            }
        }
        progress.counts = counts;
    }

    /// The outcome of a commit whose answer was lost.
    fn find_out(&mut self, progress: &mut LaneProgress, lost: Option<Failure>) -> Result<Reclaimed, Failure> {
        if !self.context.rules.keeps_lanes {
            return Err(unknown(lost));
        }
        self.is_spoilt |= lost
            .as_ref()
            .is_some_and(|failure| failure.error.scope == ErrorScope::Session);
        let claim = progress.lane.machine.claim();
        let mut tries = 0;
        loop {
            let failure = match self.ask(&claim) {
                Ok(states) => {
                    let state = states.into_iter().next().ok_or_else(|| {
                        Failure::from(Error::internal("the sink was asked for a lane and answers none"))
                    })?;
                    let found = progress.lane.machine.reclaimed(state)?;
                    if let Reclaimed::Again = found {
                        // Whatever the lost session had open is not ours any more.
                        drop(self.sink.abort());
                    }
                    return Ok(found);
                }
                Err(failure) if failure.error.code == "run.fenced" => {
                    progress.lane.machine.fenced();
                    return Err(failure);
                }
                Err(failure) => failure,
            };
            tries += 1;
            // A pause that was given up is not begun again.
            let may_pass = tries <= self.context.rules.retries_max
                && failure.error.kind.is_transient()
                && !self.context.pause.is_for(&failure);
            if !may_pass || self.context.stop.wait(self.delay(tries, &failure)) {
                return Err(unknown(Some(failure)));
            }
        }
    }

    /// Claims the lane anew; waits for a repair if the sink needs one, as everybody else does then.
    fn ask(&mut self, claim: &LaneClaim) -> Result<Vec<LaneState>, Failure> {
        let attempt = |transaction: &mut Self| {
            transaction
                .renew()
                .and_then(|()| transaction.sink.take_over(std::slice::from_ref(claim)))
                .inspect_err(|failure| {
                    transaction.is_spoilt |= failure.error.scope == ErrorScope::Session;
                })
        };
        let pause = &self.context.pause;
        match attempt(self) {
            Err(failure) if pause.is_for(&failure) => {
                // Whoever probes may need the place.
                self.leave();
                pause.hold(failure, || attempt(self))
            }
            outcome => outcome,
        }
    }
}

/// What the lane says of its records once this commit is durable.
fn counts_at(progress: &LaneProgress, passed: Passed, skipped: u64, rejected: u64) -> LaneCounts {
    let (before, begun) = (progress.counts, progress.passed);
    LaneCounts {
        read: before.read + passed.read.saturating_sub(begun.read),
        filtered: before.filtered + passed.filtered.saturating_sub(begun.filtered),
        skipped: before.skipped + skipped,
        rejected: before.rejected + rejected,
    }
}

/// What an error in the place of an answer says of the commit.
pub fn commit_meaning(failure: &Failure) -> Committed {
    match failure.error.scope {
        _ if failure.error.code == "run.fenced" => Committed::Fenced,
        ErrorScope::Transaction => Committed::NotCommitted,
        // What fails without saying that the transaction is gone may have been written.
        _ => Committed::Unknown,
    }
}

/// The code of an error that says: nothing of the transaction is there, and it may be written again.
pub(super) const NOT_COMMITTED: &str = "run.not_committed";

fn not_committed() -> Error {
    Error::new(
        ErrorKind::Unavailable,
        NOT_COMMITTED,
        "the sink did not commit the last transaction",
    )
}

/// `given`, or `instead`, as an error that leaves nothing of the transaction.
fn of_transaction(given: Option<Failure>, instead: Error) -> Failure {
    let mut failure = given.unwrap_or_else(|| instead.into());
    failure.error.scope = ErrorScope::Transaction;
    failure
}

/// Nobody can say what became of the commit, now.
fn unknown(lost: Option<Failure>) -> Failure {
    let mut unknown = Failure::from(Error::new(
        ErrorKind::Unavailable,
        "run.commit_unknown",
        "the sink's answer to the last commit was lost; it may or may not have been written",
    ));
    let Some(failure) = lost else {
        return unknown;
    };
    // Our own deadline has its own code, by which people find what hung; so has what never passes.
    if failure.error.code == "plugin.call_timeout" || !failure.error.kind.is_transient() {
        return failure;
    }
    unknown.error.causes.push(failure.error.message.clone());
    let role = failure.role.unwrap_or(Role::Sink);
    match (&failure.plugin, &failure.call) {
        (Some(plugin), Some(call)) => unknown.at_call(plugin, role, call),
        _ => unknown,
    }
}
