//! The open transaction of one sink session, written again as a whole when an error may pass.
//!
//! Its batches are kept until the commit, so that nothing has to be read twice and refused records can be told apart; their
//! size is bounded, since the transaction is committed before it grows larger. A commit whose answer was lost is not sent again: the lane is
//! claimed anew and says what happened. Never tried again: a fence, and anything into a sink that cannot undo. Neighbours: `writer`
//! decides when it is committed, `totals` adds up what the sink says of its records, `commit` ends it, `pause` waits where only
//! somebody's repair helps.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use whimbrel_plugin_api::sink::{AlterRequest, PrepareReport};
use whimbrel_plugin_api::source::RejectedRecord;
use whimbrel_plugin_api::{Batch, Cursor, Error};

use super::budget::Share;
use super::concurrency::Permit;
use super::link::Passed;
use super::outcomes::{NO_COMMIT, Refusal};
use super::refused::Refused;
use super::totals::Totals;
use super::writer::{LaneProgress, WriterContext};
use crate::crash_site;
use crate::events::{Event, Failure, Phase};
use crate::loader::observe::OpenedSink;

/// A transaction of so many octets is committed whatever its age: they are all kept in memory until then.
const COMMIT_BYTES: u64 = 32 * 1024 * 1024;

/// When transactions end and how often they are tried.
#[derive(Debug, Clone, Copy)]
pub struct TransactionRules {
    /// Records per write.
    pub batch_records: usize,
    /// Whether a sink that defers its judgement gets whole batches.
    pub widens: bool,
    /// Records after which a transaction is committed once it is old enough.
    pub commit_records: u64,
    /// A transaction is not committed before this age, unless it is large, so that small batches do not cost one each.
    pub commit_age: Duration,
    /// A transaction is committed before half of this time has passed.
    pub timeout: Duration,
    /// Tries after the first one.
    pub retries_max: u32,
    /// Time before the first of them.
    pub retry_delay: Duration,
    /// Whether `abort` undoes all that was written since `begin`.
    pub is_transactional: bool,
    /// Whether the sink keeps the checkpoints of its lanes.
    pub keeps_lanes: bool,
}

/// A batch that can be written again.
pub(super) struct Kept {
    pub(super) batch: Batch,
    /// The same records with the fields that another pass sets.
    pub(super) whole: Batch,
    _share: Share,
}

pub(super) struct Open {
    lane: usize,
    pub(super) since: Instant,
    pub(super) kept: Vec<Kept>,
    /// Batches before those that are kept: judged at once by a sink that can undo nothing, so that nobody needs them again.
    let_go: usize,
    pub(super) totals: Totals,
    /// Records that did not come as far as the sink, whose place is before `cursor`.
    pub(super) carried: Vec<(Phase, RejectedRecord)>,
    /// Of these, told already.
    pub(super) carried_told: usize,
    bytes: u64,
    pub(super) cursor: Cursor,
    /// What has passed up to there.
    pub(super) passed: Passed,
    /// Its place among those that may be under way; none while somebody repairs the sink.
    pub(super) permit: Option<Permit>,
    /// How many of its records the breaker has taken note of as rejected; `None` if of none of them at all.
    pub(super) noted: Option<u64>,
}

/// See the module.
pub(super) struct Transaction<'a> {
    pub(super) sink: &'a mut OpenedSink,
    pub(super) context: &'a WriterContext,
    pub(super) open: Option<Open>,
    /// Whether the sink has deferred its judgement: such a one wants large writes.
    defers: bool,
    /// Whether the session has to be replaced before its next use.
    pub(super) is_spoilt: bool,
}

impl<'a> Transaction<'a> {
    pub(super) fn new(sink: &'a mut OpenedSink, context: &'a WriterContext) -> Self {
        Self {
            sink,
            context,
            open: None,
            defers: false,
            is_spoilt: false,
        }
    }

    /// The number of the lane that it belongs to, if one is open.
    pub(super) fn lane(&self) -> Option<usize> {
        self.open.as_ref().map(|open| open.lane)
    }

    /// Follows a change of schema; nothing may be open.
    pub(super) fn alter(&mut self, request: &AlterRequest) -> Result<PrepareReport, Failure> {
        self.between(|sink| sink.alter(request))
    }

    /// Whether it has been open for long enough to be committed when nothing comes.
    pub(super) fn is_old(&self) -> bool {
        self.open
            .as_ref()
            .is_some_and(|open| open.since.elapsed() >= self.age_max())
    }

    fn age_max(&self) -> Duration {
        self.context.rules.commit_age.min(self.context.rules.timeout / 2)
    }

    /// Whether it holds enough to be committed.
    pub(super) fn is_due(&self) -> bool {
        let Some(open) = self.open.as_ref().filter(|open| !open.passed.more) else {
            return false;
        };
        let is_full = open.totals.count() >= self.context.rules.commit_records
            && open.since.elapsed() >= self.age_max();
        is_full
            || open.totals.commit_due
            || open.bytes >= COMMIT_BYTES
            || open.since.elapsed() >= self.context.rules.timeout / 2
    }

    /// Whether it ends within what was made of the same records, where there is no cursor.
    pub(super) fn is_between_cursors(&self) -> bool {
        self.open.as_ref().is_some_and(|open| open.passed.more)
    }

    /// Rejected records that were not told yet.
    pub(super) fn rejected_count(&self) -> u64 {
        self.open.as_ref().map_or(0, |open| {
            let carried = open.carried.len().saturating_sub(open.carried_told);
            (open.totals.untold_count() + carried) as u64
        })
    }

    /// Announces what this transaction leaves out, once, and judges whether it is too much.
    ///
    /// # Errors
    /// `run.too_many_rejected`.
    pub(super) fn tell_rejected(&mut self, progress: &LaneProgress) -> Result<(), Failure> {
        let Some(open) = &mut self.open else {
            return Ok(());
        };
        let carried = open.carried.split_off(open.carried_told.min(open.carried.len()));
        open.carried.extend(carried.iter().cloned());
        open.carried_told = open.carried.len();
        let refused = open.totals.take_untold();
        for (stage, record) in carried {
            self.announce(progress, stage, vec![record]);
        }
        self.announce(progress, self.context.phase, refused);
        match self.context.outcomes.too_many(0) {
            Some(error) => Err(error.into()),
            None => Ok(()),
        }
    }

    /// If this try takes a record that an earlier one has refused, says that what was announced for the next commit of the lane is
    /// void; what is refused now is announced anew after it. Answers whether it did.
    pub(super) fn take_back(&mut self, progress: &LaneProgress) -> bool {
        let Some(open) = self.open.as_mut().filter(|_| self.context.phase == Phase::Import) else {
            return false;
        };
        let mut back = open.totals.take_back();
        if back.is_empty() {
            return false;
        }
        let carried = open.carried.iter().take(open.carried_told);
        back.extend(carried.map(|(_, record)| Refused::from(record.clone())));
        open.carried_told = 0;
        let lane = &progress.lane;
        let state = lane.machine.state();
        self.context.emitter.emit(&Event::LaneTaken {
            collection: lane.source_name.clone(),
            partition: lane.partition.clone(),
            seq: state.seq,
            cursor: state.cursor.clone(),
            record_count: if lane.held_back.is_second_pass() {
                0
            } else {
                state.record_count
            },
            done: state.done,
        });
        let of = (lane.collection, lane.source_name.as_str());
        let count = self.context.outcomes.take_back(of, &back);
        let counters = self.context.counters.of(lane.collection);
        counters.rejected.fetch_sub(count, Ordering::Relaxed);
        true
    }

    /// Announces what waits for a transaction that will not come, and says that it is too much.
    ///
    /// # Errors
    /// `run.too_many_rejected`.
    pub(super) fn tell_waiting(&mut self, progress: &mut LaneProgress) -> Result<(), Failure> {
        self.tell_rejected(progress)?;
        for (stage, record) in std::mem::take(&mut progress.waiting_rejected) {
            self.announce(progress, stage, vec![record]);
        }
        match self.context.outcomes.too_many(0) {
            Some(error) => Err(error.into()),
            None => Ok(()),
        }
    }

    fn announce(&self, progress: &LaneProgress, stage: Phase, records: Vec<impl Into<Refused>>) {
        if records.is_empty() {
            return;
        }
        let lane = &progress.lane;
        // On the way into a stage the lane is none of the sink's, whose own lane of this name begins at its start: these records are
        // left out whatever that one has reached.
        let seq = match self.context.phase {
            Phase::Import => lane.machine.state().seq + 1,
            _ => NO_COMMIT,
        };
        let refusal = Refusal {
            stage,
            partition: lane.partition.clone(),
            seq,
        };
        let (outcomes, emitter) = (&self.context.outcomes, &self.context.emitter);
        let told = outcomes.reject(emitter, (lane.collection, &lane.source_name), &refusal, records);
        self.context
            .counters
            .of(lane.collection)
            .rejected
            .fetch_add(told, Ordering::Relaxed);
    }

    /// The error that ends the run if the open transaction has too many refused records among its own.
    pub(super) fn trips_breaker(&self) -> Option<Error> {
        let open = self.open.as_ref()?;
        let accepted = open.totals.records + open.totals.deferred;
        self.context
            .breaker
            .look(accepted, open.totals.rejected.len() as u64)
    }

    /// Writes a batch of lane number `index`, opening a transaction if there is none.
    pub(super) fn write(
        &mut self,
        index: usize,
        progress: &mut LaneProgress,
        (batch, whole): (Batch, Batch),
        share: Share,
        passed: Passed,
    ) -> Result<(), Failure> {
        self.with_retries(progress, |transaction, progress| {
            transaction.begin(index, progress)?;
            transaction.put(progress, &batch, &whole)
        })?;
        crash_site::reach("written");
        if let Some(open) = &mut self.open {
            open.bytes += batch.facts.bytes;
            open.cursor = batch.facts.cursor.clone();
            open.passed = passed;
            if !passed.more {
                open.carried.append(&mut progress.waiting_rejected);
            }
            // Of a record that is refused later, the batch says which one it is.
            if self.context.rules.is_transactional || self.defers {
                open.kept.push(Kept {
                    batch,
                    whole,
                    _share: share,
                });
            } else {
                open.let_go += 1;
            }
        }
        Ok(())
    }

    /// Moves on without records, so that the end of a partition is committed as well.
    pub(super) fn move_to(
        &mut self,
        index: usize,
        progress: &mut LaneProgress,
        cursor: Cursor,
        passed: Passed,
    ) -> Result<(), Failure> {
        self.with_retries(progress, |transaction, progress| {
            transaction.begin(index, progress)
        })?;
        if let Some(open) = &mut self.open {
            open.cursor = cursor;
            open.passed = passed;
            open.carried.append(&mut progress.waiting_rejected);
        }
        Ok(())
    }

    fn begin(&mut self, index: usize, progress: &mut LaneProgress) -> Result<(), Failure> {
        if self.open.is_some() {
            return Ok(());
        }
        let permit = self.context.concurrency.enter(&self.context.stop);
        if permit.is_none() {
            return Err(Error::cancelled().into());
        }
        self.begin_lane(progress)?;
        self.open = Some(Open {
            lane: index,
            since: Instant::now(),
            kept: Vec::new(),
            let_go: 0,
            totals: Totals::default(),
            carried: Vec::new(),
            carried_told: 0,
            bytes: 0,
            cursor: progress.lane.machine.state().cursor.clone(),
            passed: progress.passed,
            permit,
            noted: None,
        });
        crash_site::reach("begun");
        Ok(())
    }

    /// Opens the transaction at the sink.
    pub(super) fn begin_lane(&mut self, progress: &mut LaneProgress) -> Result<(), Failure> {
        let machine = &mut progress.lane.machine;
        machine.undone();
        machine.begin()?;
        self.sink.begin(machine.id()).inspect_err(|_| machine.undone())
    }

    pub(super) fn put(
        &mut self,
        progress: &LaneProgress,
        batch: &Batch,
        whole: &Batch,
    ) -> Result<(), Failure> {
        let Some(open) = &mut self.open else {
            return Ok(());
        };
        open.totals.begin_batch();
        let lane = &progress.lane;
        let rules = &self.context.rules;
        let count = batch.record_count();
        let mut first = 0;
        while first < count {
            let size = if self.defers && rules.widens {
                usize::MAX
            } else {
                rules.batch_records.max(1)
            };
            let length = size.min(count - first);
            let receipt = if length == count {
                self.sink.write(&lane.into.name, batch, lane.policy)?
            } else {
                self.sink
                    .write(&lane.into.name, &part(batch, first, length), lane.policy)?
            };
            self.defers |= receipt.deferred > 0;
            let before = open.totals.rejected.len();
            open.totals.add_write(receipt, first, length);
            open.totals.complete(before, &lane.into, batch, whole);
            first += length;
        }
        Ok(())
    }

    /// Has the sink judge what it has deferred, so that it is known what the commit leaves out.
    pub(super) fn flush(&mut self, progress: &LaneProgress) -> Result<(), Failure> {
        if let Some(open) = &mut self.open
            && open.totals.deferred > 0
        {
            let receipt = self.sink.flush()?;
            let before = open.totals.rejected.len();
            let places = open.totals.add_flush(receipt);
            let (kept, let_go) = (&open.kept, open.let_go);
            open.totals
                .complete_flushed(before, &places, &progress.lane.into, |number| {
                    let kept = number.checked_sub(let_go).and_then(|at| kept.get(at));
                    kept.map(|kept| (&kept.batch, &kept.whole))
                });
        }
        Ok(())
    }

    /// Undoes what is open, if anything is.
    pub(super) fn undo(&mut self, lanes: &mut [LaneProgress]) {
        if let Some(open) = self.open.take() {
            if let Some(progress) = lanes.get_mut(open.lane) {
                progress.lane.machine.undone();
            }
            // The failure that led here says more than a failing abort could.
            drop(self.sink.abort());
        }
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

#[cfg(test)]
mod tests;
