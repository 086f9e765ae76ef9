//! The open transaction of one sink session, written again as a whole when an error may pass.
//!
//! Its batches are kept until the commit, so that nothing has to be read twice; their size is bounded, since the
//! transaction is committed before it grows larger. Never tried again: a commit whose outcome is unknown, a fence, and
//! anything into a sink that cannot undo. Neighbour: `writer` decides when it is committed.

use std::time::{Duration, Instant};

use whimbrel_plugin_api::error::ErrorScope;
use whimbrel_plugin_api::sink::{
    AlterRequest, Checkpoint, Committed, LaneId, LaneState, PrepareReport, Receipt,
};
use whimbrel_plugin_api::source::RejectedRecord;
use whimbrel_plugin_api::{Batch, Cursor};

use super::budget::Share;
use super::writer::{LaneProgress, WriterContext, commit_failure};
use crate::events::{Event, Failure};
use crate::loader::observe::OpenedSink;

/// A transaction is not committed before this age, unless it is large, so that small batches do not cost one each.
const COMMIT_AGE: Duration = Duration::from_secs(1);
/// A transaction of so many octets is committed whatever its age: they are all kept in memory until then.
const COMMIT_BYTES: u64 = 32 * 1024 * 1024;
/// The longest time between two tries.
const RETRY_DELAY_MAX: Duration = Duration::from_secs(60);

/// When transactions end and how often they are tried.
#[derive(Debug, Clone, Copy)]
pub struct TransactionRules {
    /// Records per write.
    pub batch_records: usize,
    /// Records after which a transaction is committed once it is old enough.
    pub commit_records: u64,
    /// A transaction is committed before half of this time has passed.
    pub timeout: Duration,
    /// Tries after the first one.
    pub retries_max: u32,
    /// Time before the first of them.
    pub retry_delay: Duration,
    /// Whether `abort` undoes all that was written since `begin`.
    pub is_transactional: bool,
}

/// A commit that has not succeeded.
pub(super) enum Failed {
    Fenced,
    NotCommitted,
    Unknown,
}

/// What a commit made durable.
pub(super) struct Written {
    pub(super) seq: u64,
    pub(super) records: u64,
    pub(super) skipped: u64,
    pub(super) cursor: Cursor,
}

struct Open {
    lane: usize,
    since: Instant,
    kept: Vec<(Batch, Share)>,
    totals: Totals,
    bytes: u64,
    cursor: Cursor,
}

#[derive(Default)]
struct Totals {
    records: u64,
    skipped: u64,
    rejected: Vec<RejectedRecord>,
    /// Whether the sink would rather commit than take more.
    commit_due: bool,
    /// Of `rejected`, those that were taken already, before a try that failed.
    told: usize,
}

/// See the module.
pub(super) struct Transaction<'a> {
    sink: &'a mut OpenedSink,
    context: &'a WriterContext,
    open: Option<Open>,
}

impl<'a> Transaction<'a> {
    pub(super) fn new(sink: &'a mut OpenedSink, context: &'a WriterContext) -> Self {
        Self {
            sink,
            context,
            open: None,
        }
    }

    /// The number of the lane that it belongs to, if one is open.
    pub(super) fn lane(&self) -> Option<usize> {
        self.open.as_ref().map(|open| open.lane)
    }

    pub(super) fn take_over(&mut self, lanes: &[LaneId]) -> Result<Vec<LaneState>, Failure> {
        self.sink.take_over(lanes)
    }

    /// Follows a change of schema; nothing may be open.
    pub(super) fn alter(&mut self, request: &AlterRequest) -> Result<PrepareReport, Failure> {
        self.sink.alter(request)
    }

    /// Whether it has been open for long enough to be committed when nothing comes.
    pub(super) fn is_old(&self) -> bool {
        self.open
            .as_ref()
            .is_some_and(|open| open.since.elapsed() >= self.age_max())
    }

    fn age_max(&self) -> Duration {
        COMMIT_AGE.min(self.context.rules.timeout / 2)
    }

    /// Whether it holds enough to be committed.
    pub(super) fn is_due(&self) -> bool {
        let Some(open) = &self.open else {
            return false;
        };
        let records = open.totals.records + open.totals.rejected.len() as u64;
        let is_full = records >= self.context.rules.commit_records && open.since.elapsed() >= self.age_max();
        is_full
            || open.totals.commit_due
            || open.bytes >= COMMIT_BYTES
            || open.since.elapsed() >= self.context.rules.timeout / 2
    }

    /// Rejected records that were not taken yet.
    pub(super) fn rejected_count(&self) -> u64 {
        self.open
            .as_ref()
            .map_or(0, |open| (open.totals.rejected.len() - open.totals.told) as u64)
    }

    /// Takes the rejected records that were not taken yet.
    pub(super) fn take_rejected(&mut self) -> Vec<RejectedRecord> {
        self.open.as_mut().map_or_else(Vec::new, |open| {
            let new = open.totals.rejected[open.totals.told..].to_vec();
            open.totals.told = open.totals.rejected.len();
            new
        })
    }

    /// Writes a batch of lane number `index`, opening a transaction if there is none.
    pub(super) fn write(
        &mut self,
        index: usize,
        progress: &LaneProgress,
        batch: Batch,
        share: Share,
    ) -> Result<(), Failure> {
        self.with_retries(progress, |transaction| {
            transaction.begin(index, progress)?;
            transaction.put(progress, &batch)
        })?;
        if let Some(open) = &mut self.open {
            open.bytes += batch.facts.bytes;
            open.cursor = batch.facts.cursor.clone();
            if self.context.rules.is_transactional && self.context.rules.retries_max > 0 {
                open.kept.push((batch, share));
            }
        }
        Ok(())
    }

    /// Moves on without records, so that the end of a partition is committed as well.
    pub(super) fn move_to(
        &mut self,
        index: usize,
        progress: &LaneProgress,
        cursor: Cursor,
    ) -> Result<(), Failure> {
        self.with_retries(progress, |transaction| transaction.begin(index, progress))?;
        if let Some(open) = &mut self.open {
            open.cursor = cursor;
        }
        Ok(())
    }

    fn begin(&mut self, index: usize, progress: &LaneProgress) -> Result<(), Failure> {
        if self.open.is_some() {
            return Ok(());
        }
        self.sink.begin(&progress.lane.id)?;
        self.open = Some(Open {
            lane: index,
            since: Instant::now(),
            kept: Vec::new(),
            totals: Totals::default(),
            bytes: 0,
            cursor: progress.state.cursor.clone(),
        });
        Ok(())
    }

    fn put(&mut self, progress: &LaneProgress, batch: &Batch) -> Result<(), Failure> {
        let Some(open) = &mut self.open else {
            return Ok(());
        };
        let lane = &progress.lane;
        let size = self.context.rules.batch_records.max(1);
        let count = batch.record_count();
        let mut first = 0;
        while first < count {
            let length = size.min(count - first);
            let receipt = if length == count {
                self.sink.write(&lane.into.name, batch, lane.policy)?
            } else {
                self.sink
                    .write(&lane.into.name, &part(batch, first, length), lane.policy)?
            };
            open.totals.add(receipt, first as u64);
            first += length;
        }
        Ok(())
    }

    /// Runs `action`; if it fails in a way that may pass, undoes the transaction and writes all of it again first.
    fn with_retries<T>(
        &mut self,
        progress: &LaneProgress,
        mut action: impl FnMut(&mut Self) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let mut tries = 0;
        let mut outcome = action(self);
        loop {
            let failure = match outcome {
                Ok(done) => return Ok(done),
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
            outcome = self.again(progress, &failure).and_then(|()| action(self));
        }
    }

    fn may_pass(&self, failure: &Failure, tries: u32) -> bool {
        let rules = &self.context.rules;
        let is_spoilt = failure.error.scope == ErrorScope::Session;
        rules.is_transactional
            && tries < rules.retries_max
            && failure.error.kind.is_transient()
            // Our own deadline: the plugin hangs, and would again.
            && failure.error.code != "plugin.call_timeout"
            && !["run.fenced", "run.commit_unknown"].contains(&failure.error.code.as_str())
            && (!is_spoilt || self.context.reopen.is_some())
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
    fn again(&mut self, progress: &LaneProgress, failure: &Failure) -> Result<(), Failure> {
        let Some(mut lost) = self.open.take() else {
            drop(self.sink.abort());
            return self.renew_if_spoilt(failure);
        };
        drop(self.sink.abort());
        let begun = self
            .renew_if_spoilt(failure)
            .and_then(|()| self.sink.begin(&progress.lane.id));
        let told = lost.totals.told;
        lost.totals = Totals::default();
        lost.since = Instant::now();
        let kept = std::mem::take(&mut lost.kept);
        self.open = Some(lost);
        let mut written = begun;
        for (batch, _) in &kept {
            written = written.and_then(|()| self.put(progress, batch));
        }
        if let Some(open) = &mut self.open {
            open.kept = kept;
            open.totals.told = told.min(open.totals.rejected.len());
        }
        written
    }

    /// Replaces the session if `failure` has spoilt it and another can be opened.
    pub(super) fn renew_if_spoilt(&mut self, failure: &Failure) -> Result<(), Failure> {
        if failure.error.scope == ErrorScope::Session
            && let Some(reopen) = &self.context.reopen
        {
            *self.sink = reopen()?;
        }
        Ok(())
    }

    /// Commits. Afterwards nothing is open, whatever the outcome.
    pub(super) fn commit(&mut self, progress: &LaneProgress, done: bool) -> Result<Written, Failure> {
        let outcome = self.with_retries(progress, |transaction| transaction.try_commit(progress, done));
        if outcome.is_err() {
            self.undo();
        }
        outcome
    }

    fn try_commit(&mut self, progress: &LaneProgress, done: bool) -> Result<Written, Failure> {
        let Some(open) = &self.open else {
            return Ok(Written {
                seq: progress.state.seq,
                records: 0,
                skipped: 0,
                cursor: progress.state.cursor.clone(),
            });
        };
        let checkpoint = Checkpoint {
            lane: progress.lane.id.clone(),
            epoch: progress.state.epoch,
            seq: progress.state.seq,
            cursor: open.cursor.clone(),
            done,
            record_count: open.totals.records,
            ..Checkpoint::default()
        };
        let failed = match self.sink.commit(&checkpoint) {
            Ok(Committed::Committed { seq }) => {
                let written = Written {
                    seq,
                    records: open.totals.records,
                    skipped: open.totals.skipped,
                    cursor: open.cursor.clone(),
                };
                self.open = None;
                return Ok(written);
            }
            Ok(Committed::NotCommitted) => Failed::NotCommitted,
            Ok(Committed::Fenced) => Failed::Fenced,
            Ok(Committed::Unknown) => Failed::Unknown,
            // What fails without saying that the transaction is gone may have been written.
            Err(failure)
                if failure.error.kind.is_transient() && failure.error.scope != ErrorScope::Transaction =>
            {
                let mut unknown = commit_failure(Failed::Unknown);
                unknown.error.causes.push(failure.error.message.clone());
                let role = failure.role.unwrap_or(whimbrel_plugin_api::manifest::Role::Sink);
                return Err(match (&failure.plugin, &failure.call) {
                    // Our own deadline has its own code, by which people find what hung.
                    _ if failure.error.code == "plugin.call_timeout" => failure,
                    (Some(plugin), Some(call)) => unknown.at_call(plugin, role, call),
                    _ => unknown,
                });
            }
            Err(failure) => return Err(failure),
        };
        let mut failure = commit_failure(failed);
        failure.error.scope = ErrorScope::Transaction;
        Err(failure)
    }

    /// Undoes what is open, if anything is.
    pub(super) fn undo(&mut self) {
        if self.open.take().is_some() {
            // The failure that led here says more than a failing abort could.
            drop(self.sink.abort());
        }
    }
}

impl Totals {
    fn add(&mut self, receipt: Receipt, first_row: u64) {
        self.records += receipt.accepted;
        self.skipped += receipt.skipped;
        self.commit_due |= receipt.commit_due;
        self.rejected
            .extend(receipt.rejected.into_iter().map(|mut record| {
                record.row = record.row.map(|row| row + first_row);
                record
            }));
    }
}

/// Some records of a batch, without copying them.
fn part(batch: &Batch, first: usize, length: usize) -> Batch {
    let mut facts = batch.facts.clone();
    facts.bytes = facts.bytes * length as u64 / batch.record_count().max(1) as u64;
    Batch {
        schema: std::sync::Arc::clone(&batch.schema),
        records: batch.records.slice(first, length),
        facts,
    }
}
