//! Writes the lanes of one sink session: a transaction at a time, each of one lane.
//!
//! A transaction is kept open until it holds enough or is old enough, so that small batches do not cost a commit each.
//! A lane that has nothing to say lets another one go on after a moment. Neighbours: `transaction` is what is open,
//! tried again if that may help; `outcomes` keeps what all writers have met with.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, TryRecvError, never};
use whimbrel_plugin_api::collection::FieldLoss;
use whimbrel_plugin_api::sink::AlterRequest;
use whimbrel_plugin_api::source::RejectedRecord;
use whimbrel_plugin_api::{Batch, Collection, ConflictPolicy, Cursor, Error, FindingLevel, Schema};

use super::breaker::{BREAKER_OPEN, Breaker};
use super::budget::{Budget, Share};
use super::commit::Written;
use super::concurrency::Concurrency;
use super::counters::Counters;
use super::held_back::HeldBack;
use super::link::{LinkItem, Passed};
use super::outcomes::Outcomes;
use super::pause::Pause;
use super::transaction::{Transaction, TransactionRules};
use crate::barrier::Barrier;
use crate::checkpoint::{self, LaneCounts};
use crate::control::{Cause, Stop};
use crate::crash_site;
use crate::events::{Emitter, Event, Failure, Phase};
use crate::loader::observe::OpenedSink;

/// How long a writer waits for the lane whose transaction is open while others have work.
const LANE_PATIENCE: Duration = Duration::from_millis(20);
/// How long a writer without any work waits before it looks again.
const IDLE_WAIT: Duration = Duration::from_millis(5);

/// What ends the run, whatever becomes of other collections.
const FATAL_CODES: [&str; 6] = [
    "run.fenced",
    "run.lane_held",
    "run.lane_moved",
    "run.too_many_rejected",
    BREAKER_OPEN,
    "run.commit_unknown",
];

/// One partition on its way into the sink.
pub struct Lane {
    /// What is durable of it, and under which epoch it is held.
    pub machine: checkpoint::Lane,
    /// The collection's number in the plan.
    pub collection: usize,
    /// The collection in the source, for reports.
    pub source_name: String,
    /// The partition, for reports.
    pub partition: String,
    /// The collection as the sink was prepared to hold it.
    pub into: Arc<Collection>,
    /// What happens to records that the sink has already.
    pub policy: ConflictPolicy,
    /// Fields that this pass leaves to another one, or that it is about.
    pub held_back: HeldBack,
    /// Where its batches come from.
    pub link: Receiver<LinkItem>,
}

/// Opens a further session of the sink, in place of one that an error has spoilt.
pub type Reopen = dyn Fn() -> Result<OpenedSink, Failure> + Send + Sync;

/// What all writers of a run share.
#[derive(Clone)]
pub struct WriterContext {
    /// What passed.
    pub counters: Arc<Counters>,
    /// Where events go.
    pub emitter: Emitter,
    /// Ends everything.
    pub stop: Stop,
    /// The phase that failures belong to.
    pub phase: Phase,
    /// Whether commits are announced.
    pub announces_commits: bool,
    /// When transactions end and how often they are tried.
    pub rules: TransactionRules,
    /// Whether new fields go where the sink keeps what has no place of its own.
    pub overflows: bool,
    /// Whether other collections go on when one fails.
    pub continues_on_error: bool,
    /// Rejected records and failed collections.
    pub outcomes: Arc<Outcomes>,
    /// Ends the run when too many of its last records are refused.
    pub breaker: Arc<Breaker>,
    /// How many transactions may be under way.
    pub concurrency: Arc<Concurrency>,
    /// Where everybody waits for a repair.
    pub pause: Arc<Pause>,
    /// Passed before a commit that leaves records out.
    pub barrier: Barrier,
    /// How a spoilt session is replaced; without it nothing is tried again after such an error.
    pub reopen: Option<Arc<Reopen>>,
}

/// A lane on its way.
pub(super) struct LaneProgress {
    pub(super) lane: Lane,
    /// Of the whole partition, as far as it is durable.
    pub(super) counts: LaneCounts,
    /// Of this reading of it, as far as it is durable.
    pub(super) passed: Passed,
    /// Records that did not come as far as the sink; they belong to what comes next.
    pub(super) waiting_rejected: Vec<(Phase, RejectedRecord)>,
    ended: bool,
}

/// Writes all lanes that arrive on `lanes` until the channel is closed and each of them has ended.
///
/// # Errors
/// What the sink brings. An open transaction is undone.
pub fn write(
    sink: &mut OpenedSink,
    lanes: &Receiver<Lane>,
    budget: &Budget,
    context: &WriterContext,
) -> Result<(), Failure> {
    let mut writer = Writer {
        transaction: Transaction::new(sink, context),
        budget,
        context,
        arriving: lanes,
        lanes: Vec::new(),
    };
    let outcome = writer.run().map_err(|failure| failure.in_phase(context.phase));
    let Writer {
        transaction, lanes, ..
    } = &mut writer;
    transaction.undo(lanes);
    outcome
}

struct Writer<'a> {
    transaction: Transaction<'a>,
    budget: &'a Budget,
    context: &'a WriterContext,
    arriving: &'a Receiver<Lane>,
    lanes: Vec<LaneProgress>,
}

impl Writer<'_> {
    fn run(&mut self) -> Result<(), Failure> {
        let mut more = true;
        loop {
            while more {
                match self.arriving.try_recv() {
                    Ok(lane) => self.add(lane),
                    Err(TryRecvError::Empty) => break,
                    Err(TryRecvError::Disconnected) => more = false,
                }
            }
            if self.context.stop.is_raised() {
                return self.drain();
            }
            let Some(index) = self.pick() else {
                if !more {
                    return Ok(());
                }
                match self.arriving.recv_timeout(IDLE_WAIT) {
                    Ok(lane) => self.add(lane),
                    Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {}
                }
                continue;
            };
            if let Err(failure) = self.step(index) {
                self.fail(index, failure)?;
            }
        }
    }

    fn add(&mut self, lane: Lane) {
        self.lanes.push(LaneProgress {
            counts: LaneCounts::of(&lane.machine.state().extensions),
            passed: Passed::default(),
            waiting_rejected: Vec::new(),
            lane,
            ended: false,
        });
    }

    /// The lane to go on with: the one whose transaction is open, then one that has work, then any that has not ended.
    fn pick(&self) -> Option<usize> {
        if let Some(open) = self.transaction.lane() {
            return Some(open);
        }
        self.lanes
            .iter()
            .position(|progress| !progress.ended && !progress.lane.link.is_empty())
            .or_else(|| self.lanes.iter().position(|progress| !progress.ended))
    }

    fn step(&mut self, index: usize) -> Result<(), Failure> {
        let wait = if self.transaction.lane().is_some() {
            LANE_PATIENCE
        } else {
            IDLE_WAIT
        };
        match self.lanes[index].lane.link.recv_timeout(wait) {
            Ok(LinkItem::Batch(batch, share, passed)) => self.write_batch(index, batch, share, passed),
            Ok(LinkItem::Grown(schema)) => self.grow(index, &schema),
            Ok(LinkItem::Rejected(stage, records)) => self.reject(index, stage, records),
            Ok(LinkItem::End { cursor, passed }) => self.end(index, cursor, passed),
            Err(RecvTimeoutError::Timeout) => {
                let others = self.lanes.iter().enumerate().any(|(other, progress)| {
                    other != index && !progress.ended && !progress.lane.link.is_empty()
                });
                let has_reason = others || self.transaction.is_old() || self.budget.is_contended();
                if has_reason && !self.transaction.is_between_cursors() {
                    self.commit(false)
                } else {
                    Ok(())
                }
            }
            Err(RecvTimeoutError::Disconnected) => {
                // The reader is gone without an end: it failed, and has said so, or the run stops.
                self.lanes[index].ended = true;
                let collection = self.lanes[index].lane.collection;
                if self.context.stop.is_raised() {
                    return Ok(());
                }
                if self.context.outcomes.has_failed(collection) {
                    self.transaction.undo(&mut self.lanes);
                    return Ok(());
                }
                Err(Error::internal("a reader ended without saying why").into())
            }
        }
    }

    fn write_batch(
        &mut self,
        index: usize,
        batch: Batch,
        share: Share,
        passed: Passed,
    ) -> Result<(), Failure> {
        let held_back = &self.lanes[index].lane.held_back;
        let whole = batch.clone();
        let batch = held_back.apply(batch)?;
        let whole = if held_back.is_second_pass() {
            // Other rows than those that are written.
            batch.clone()
        } else {
            whole
        };
        self.transaction
            .write(index, &mut self.lanes[index], (batch, whole), share, passed)?;
        self.check_rejected()?;
        let is_contended = self.budget.is_contended() && !self.transaction.is_between_cursors();
        if self.transaction.is_due() || is_contended {
            self.commit(false)?;
        }
        Ok(())
    }

    /// The source has new fields: the sink makes room before the first record that may have them.
    fn grow(&mut self, index: usize, schema: &Schema) -> Result<(), Failure> {
        self.commit(false)?;
        let lane = &mut self.lanes[index].lane;
        let mut into = (*lane.into).clone();
        let old = std::mem::replace(&mut into.schema, schema.clone());
        for field in &mut into.schema.fields {
            field.nullable &= !into.key.contains(&field.name);
        }
        // Another partition may have brought further fields, for which batches in other sessions come.
        let mut into = self.context.outcomes.grow(lane.collection, &into)?;
        let report = self.transaction.alter(&AlterRequest {
            collection: into.name.clone(),
            old,
            new: into.schema.clone(),
            overflow: self.context.overflows,
        })?;
        if let Some(blocker) = report
            .findings
            .iter()
            .find(|finding| finding.level == FindingLevel::Blocker)
        {
            return Err(Error::config(&blocker.code, &blocker.message).into());
        }
        for prepared in report.collections {
            for field in prepared.fields {
                let losses = field.losses.into_iter().map(|loss| FieldLoss {
                    field: field.name.clone(),
                    loss,
                });
                for loss in losses {
                    if !into.losses.contains(&loss) {
                        into.losses.push(loss);
                    }
                }
            }
        }
        lane.into = Arc::new(self.context.outcomes.grow(lane.collection, &into)?);
        Ok(())
    }

    /// More rejected records than allowed end the run, which then knows all of them.
    fn check_rejected(&mut self) -> Result<(), Failure> {
        let pending = self.transaction.rejected_count();
        match (self.transaction.lane(), self.context.outcomes.too_many(pending)) {
            (Some(index), Some(_)) => self.transaction.tell_rejected(&self.lanes[index]),
            (Some(index), None) => match self.transaction.trips_breaker() {
                None => Ok(()),
                Some(error) => {
                    self.transaction.tell_rejected(&self.lanes[index])?;
                    Err(error.into())
                }
            },
            (None, _) => Ok(()),
        }
    }

    /// Keeps records that did not get as far as the sink.
    fn reject(&mut self, index: usize, stage: Phase, records: Vec<RejectedRecord>) -> Result<(), Failure> {
        let breaker = &self.context.breaker;
        breaker.hold(records.len() as u64);
        let progress = &mut self.lanes[index];
        // With nothing between them they wait for no batch that could come at any moment.
        let is_stream_of_them = progress.waiting_rejected.len() as u64 >= breaker.patience();
        let pending = progress.waiting_rejected.len() + records.len();
        let records = records.into_iter().map(|record| (stage, record));
        progress.waiting_rejected.extend(records);
        if self.context.outcomes.too_many(pending as u64).is_some() {
            // They are the last ones of the run, which then knows all of them.
            return self.transaction.tell_waiting(&mut self.lanes[index]);
        }
        if is_stream_of_them && let Some(error) = self.context.breaker.look(0, 0) {
            self.transaction.tell_waiting(&mut self.lanes[index])?;
            return Err(error.into());
        }
        Ok(())
    }

    fn end(&mut self, index: usize, cursor: Cursor, passed: Passed) -> Result<(), Failure> {
        self.transaction
            .move_to(index, &mut self.lanes[index], cursor, passed)?;
        self.commit(true)?;
        crash_site::reach("partition_done");
        self.lanes[index].ended = true;
        let lane = &self.lanes[index].lane;
        self.context.counters.partition_ended(lane.collection);
        Ok(())
    }

    fn commit(&mut self, done: bool) -> Result<(), Failure> {
        let Some(index) = self.transaction.lane() else {
            return Ok(());
        };
        let Written {
            seq,
            records,
            skipped,
        } = self.transaction.commit(&mut self.lanes[index], done)?;
        let progress = &mut self.lanes[index];
        if self.context.announces_commits {
            self.context.emitter.emit(&Event::Committed {
                collection: progress.lane.source_name.clone(),
                partition: progress.lane.partition.clone(),
                seq,
                cursor: progress.lane.machine.state().cursor.clone(),
                record_count: records,
                done,
            });
        }
        // The host's own record of it is a cache: the sink is asked by whoever resumes.
        progress.lane.machine.saved()?;
        crash_site::reach("state_saved");
        // Progress never says more than what was announced as durable.
        let counters = self.context.counters.of(progress.lane.collection);
        counters.written.fetch_add(records, Ordering::Relaxed);
        counters.skipped.fetch_add(skipped, Ordering::Relaxed);
        if records > 0 {
            self.context.counters.committed(&self.context.emitter);
        }
        Ok(())
    }

    /// A collection has failed: the run ends, or goes on with the others.
    fn fail(&mut self, index: usize, failure: Failure) -> Result<(), Failure> {
        let is_fatal = FATAL_CODES.contains(&failure.error.code.as_str());
        // What somebody has to repair stands in the way of the other collections as well.
        let is_fatal = is_fatal || failure.error.pauses;
        if !self.context.continues_on_error || is_fatal || self.context.stop.is_raised() {
            return Err(failure);
        }
        self.transaction.undo(&mut self.lanes);
        self.transaction.renew_if_spoilt(&failure)?;
        let collection = self.lanes[index].lane.collection;
        let name = self.lanes[index].lane.source_name.clone();
        self.context
            .outcomes
            .fail(&self.context.emitter, collection, &name, failure);
        self.context.counters.something_ended();
        for progress in &mut self.lanes {
            if progress.lane.collection == collection {
                progress.ended = true;
                // Its readers find nobody who listens, and end.
                progress.lane.link = never();
            }
        }
        Ok(())
    }

    /// The run ends: what is open is committed if somebody asked for the end, and undone after a failure.
    fn drain(&mut self) -> Result<(), Failure> {
        match self.context.stop.cause() {
            Some(Cause::Asked) if !self.transaction.is_between_cursors() => self.commit(false),
            _ => Ok(()),
        }
    }
}
