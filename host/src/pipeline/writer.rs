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
use whimbrel_plugin_api::sink::{AlterRequest, LaneId, LaneState};
use whimbrel_plugin_api::source::RejectedRecord;
use whimbrel_plugin_api::{Batch, Collection, ConflictPolicy, Cursor, Error, FindingLevel, Schema};

use super::budget::{Budget, Share};
use super::counters::Counters;
use super::held_back::HeldBack;
use super::link::LinkItem;
use super::outcomes::Outcomes;
use super::pause::Pause;
use super::transaction::{Failed, Transaction, TransactionRules, Written};
use crate::control::{Cause, Stop};
use crate::events::{Emitter, Event, Failure, Phase};
use crate::loader::observe::OpenedSink;

/// How long a writer waits for the lane whose transaction is open while others have work.
const LANE_PATIENCE: Duration = Duration::from_millis(20);
/// How long a writer without any work waits before it looks again.
const IDLE_WAIT: Duration = Duration::from_millis(5);

/// One partition on its way into the sink.
pub struct Lane {
    /// Its name in the sink.
    pub id: LaneId,
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
    /// Where everybody waits for a repair.
    pub pause: Arc<Pause>,
    /// How a spoilt session is replaced; without it nothing is tried again after such an error.
    pub reopen: Option<Arc<Reopen>>,
}

/// A lane on its way.
pub(super) struct LaneProgress {
    pub(super) lane: Lane,
    pub(super) state: LaneState,
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
    writer.transaction.undo();
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
            // Lanes are taken over between transactions, or the fence would be part of one.
            while more && self.transaction.lane().is_none() {
                match self.arriving.try_recv() {
                    Ok(lane) => self.add(lane)?,
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
                    Ok(lane) => self.add(lane)?,
                    Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {}
                }
                continue;
            };
            if let Err(failure) = self.step(index) {
                self.fail(index, failure)?;
            }
        }
    }

    fn add(&mut self, lane: Lane) -> Result<(), Failure> {
        let state = self.transaction.take_over(&lane.id)?;
        self.lanes.push(LaneProgress {
            lane,
            state,
            ended: false,
        });
        Ok(())
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
            Ok(LinkItem::Batch(batch, share)) => self.write_batch(index, batch, share),
            Ok(LinkItem::Grown(schema)) => self.grow(index, &schema),
            Ok(LinkItem::Rejected(records)) => self.reject(index, records),
            Ok(LinkItem::End { cursor }) => self.end(index, cursor),
            Err(RecvTimeoutError::Timeout) => {
                let others = self.lanes.iter().enumerate().any(|(other, progress)| {
                    other != index && !progress.ended && !progress.lane.link.is_empty()
                });
                if others
                    || !self.arriving.is_empty()
                    || self.transaction.is_old()
                    || self.budget.is_contended()
                {
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
                    self.transaction.undo();
                    return Ok(());
                }
                Err(Error::internal("a reader ended without saying why").into())
            }
        }
    }

    fn write_batch(&mut self, index: usize, batch: Batch, share: Share) -> Result<(), Failure> {
        let batch = self.lanes[index].lane.held_back.apply(batch)?;
        self.transaction.write(index, &self.lanes[index], batch, share)?;
        self.check_rejected()?;
        if self.transaction.is_due() || self.budget.is_contended() {
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
            _ => Ok(()),
        }
    }

    /// Keeps records that did not get as far as the sink.
    fn reject(&mut self, index: usize, records: Vec<RejectedRecord>) -> Result<(), Failure> {
        self.transaction.announce(&self.lanes[index], records)
    }

    fn end(&mut self, index: usize, cursor: Cursor) -> Result<(), Failure> {
        self.transaction.move_to(index, &self.lanes[index], cursor)?;
        self.commit(true)?;
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
            cursor,
        } = self.transaction.commit(&self.lanes[index], done)?;
        let progress = &mut self.lanes[index];
        progress.state.seq = seq;
        progress.state.record_count += records;
        progress.state.cursor = cursor;
        if self.context.announces_commits {
            self.context.emitter.emit(&Event::Committed {
                collection: progress.lane.source_name.clone(),
                partition: progress.lane.partition.clone(),
                seq,
                cursor: progress.state.cursor.clone(),
                record_count: records,
                done,
            });
        }
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
        let is_fatal = ["run.fenced", "run.too_many_rejected", "run.commit_unknown"]
            .contains(&failure.error.code.as_str());
        // What somebody has to repair stands in the way of the other collections as well.
        let is_fatal = is_fatal || failure.error.pauses;
        if !self.context.continues_on_error || is_fatal || self.context.stop.is_raised() {
            return Err(failure);
        }
        self.transaction.undo();
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
            Some(Cause::Asked) => self.commit(false),
            _ => Ok(()),
        }
    }
}

/// Turns how a commit ended into a failure, if it is one.
pub(super) fn commit_failure(failed: Failed) -> Failure {
    use whimbrel_plugin_api::ErrorKind;
    let (kind, code, message) = match failed {
        Failed::Fenced => (
            ErrorKind::Integrity,
            "run.fenced",
            "another run has taken over; nothing of the last transaction was written",
        ),
        Failed::NotCommitted => (
            ErrorKind::Unavailable,
            "run.not_committed",
            "the sink did not commit the last transaction",
        ),
        Failed::Unknown => (
            ErrorKind::Unavailable,
            "run.commit_unknown",
            "the sink's answer to the last commit was lost; it may or may not have been written",
        ),
    };
    Error::new(kind, code, message).into()
}
