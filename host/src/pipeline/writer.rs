//! Writes the lanes of one sink session: a transaction at a time, each of one lane.
//!
//! A transaction is kept open until it holds enough or is old enough, so that small batches do not cost a commit each.
//! A lane that has nothing to say lets another one go on after a moment. Order, never changed: sink commit, then the
//! source is told.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, TryRecvError};
use whimbrel_plugin_api::sink::{Checkpoint, Committed, LaneId, LaneState};
use whimbrel_plugin_api::source::RejectedRecord;
use whimbrel_plugin_api::{Batch, ConflictPolicy, Cursor, Error, ErrorKind};

use super::counters::Counters;
use super::link::LinkItem;
use crate::control::{Cause, Stop};
use crate::events::{Emitter, Event, Failure, Phase};
use crate::loader::observe::OpenedSink;

/// A transaction is committed once it holds so many records and is as old as `COMMIT_AGE`.
const COMMIT_RECORDS: u64 = 1_000;
/// See `COMMIT_RECORDS`.
const COMMIT_AGE: Duration = Duration::from_secs(1);
/// A transaction of so many octets is committed whatever its age, to bound what the sink must keep.
const COMMIT_BYTES: u64 = 256 * 1024 * 1024;
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
    /// The collection in the sink.
    pub sink_name: String,
    /// What happens to records that the sink has already.
    pub policy: ConflictPolicy,
    /// Where its batches come from.
    pub link: Receiver<LinkItem>,
}

/// What all writers of a run share.
#[derive(Clone)]
pub struct WriterContext {
    /// What passed.
    pub counters: Arc<Counters>,
    /// Where events go.
    pub emitter: Emitter,
    /// Ends everything.
    pub stop: Stop,
    /// Rejected records up to this number do not end the run.
    pub errors_max: u64,
    /// Rejected records so far, over all collections.
    pub rejected_total: Arc<std::sync::atomic::AtomicU64>,
    /// Where the first rejected records are kept for the summary.
    pub rejected_first: Arc<std::sync::Mutex<Vec<(String, RejectedRecord)>>>,
}

/// Rejected records that are kept for the summary.
pub const REJECTED_SHOWN_MAX: usize = 50;

struct LaneProgress {
    lane: Lane,
    state: LaneState,
    ended: bool,
}

struct Open {
    lane: usize,
    since: Instant,
    records: u64,
    skipped: u64,
    rejected: u64,
    bytes: u64,
    cursor: Cursor,
}

/// Writes all lanes that arrive on `lanes` until the channel is closed and each of them has ended.
///
/// # Errors
/// What the sink brings. An open transaction is undone.
pub fn write(sink: &mut OpenedSink, lanes: &Receiver<Lane>, context: &WriterContext) -> Result<(), Failure> {
    let mut writer = Writer {
        sink,
        context,
        lanes: Vec::new(),
        open: None,
    };
    let outcome = writer
        .run(lanes)
        .map_err(|failure| failure.in_phase(Phase::Import));
    if writer.open.take().is_some() {
        // The failure that led here says more than a failing abort could.
        drop(writer.sink.abort());
    }
    outcome
}

struct Writer<'a> {
    sink: &'a mut OpenedSink,
    context: &'a WriterContext,
    lanes: Vec<LaneProgress>,
    open: Option<Open>,
}

impl Writer<'_> {
    fn run(&mut self, arriving: &Receiver<Lane>) -> Result<(), Failure> {
        let mut more = true;
        loop {
            while more {
                match arriving.try_recv() {
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
                match arriving.recv_timeout(IDLE_WAIT) {
                    Ok(lane) => self.add(lane)?,
                    Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {}
                }
                continue;
            };
            self.step(index)?;
        }
    }

    fn add(&mut self, lane: Lane) -> Result<(), Failure> {
        let states = self.sink.take_over(std::slice::from_ref(&lane.id))?;
        let state = states
            .into_iter()
            .next()
            .unwrap_or_else(|| LaneState::unknown(lane.id.clone()));
        self.lanes.push(LaneProgress {
            lane,
            state,
            ended: false,
        });
        Ok(())
    }

    /// The lane to go on with: the one whose transaction is open, then one that has work, then any that has not ended.
    fn pick(&self) -> Option<usize> {
        if let Some(open) = &self.open {
            return Some(open.lane);
        }
        let living = |progress: &&LaneProgress| !progress.ended;
        self.lanes
            .iter()
            .position(|progress| !progress.ended && !progress.lane.link.is_empty())
            .or_else(|| self.lanes.iter().position(|progress| living(&progress)))
    }

    fn step(&mut self, index: usize) -> Result<(), Failure> {
        let wait = if self.open.is_some() {
            LANE_PATIENCE
        } else {
            IDLE_WAIT
        };
        match self.lanes[index].lane.link.recv_timeout(wait) {
            Ok(LinkItem::Batch(batch, share)) => {
                self.write_batch(index, &batch)?;
                drop(share);
                self.commit_if_due()
            }
            Ok(LinkItem::Rejected(records)) => self.reject(index, records),
            Ok(LinkItem::End { cursor }) => self.end(index, cursor),
            Err(RecvTimeoutError::Timeout) => {
                let others = self.lanes.iter().enumerate().any(|(other, progress)| {
                    other != index && !progress.ended && !progress.lane.link.is_empty()
                });
                let old = self
                    .open
                    .as_ref()
                    .is_some_and(|open| open.since.elapsed() >= COMMIT_AGE);
                if others || old { self.commit(false) } else { Ok(()) }
            }
            Err(RecvTimeoutError::Disconnected) => {
                // The reader is gone without an end: it failed, and has said so, or the run stops.
                self.lanes[index].ended = true;
                if self.context.stop.is_raised() {
                    return Ok(());
                }
                Err(Error::internal("a reader ended without saying why").into())
            }
        }
    }

    fn write_batch(&mut self, index: usize, batch: &Batch) -> Result<(), Failure> {
        let lane = &self.lanes[index].lane;
        if self.open.is_none() {
            self.sink.begin(&lane.id)?;
            self.open = Some(Open {
                lane: index,
                since: Instant::now(),
                records: 0,
                skipped: 0,
                rejected: 0,
                bytes: 0,
                cursor: Cursor::start(),
            });
        }
        let receipt = self.sink.write(&lane.sink_name, batch, lane.policy)?;
        if let Some(open) = &mut self.open {
            open.records += receipt.accepted;
            open.skipped += receipt.skipped;
            open.rejected += receipt.rejected.len() as u64;
            open.bytes += batch.facts.bytes;
            open.cursor = batch.facts.cursor.clone();
        }
        self.reject(index, receipt.rejected)
    }

    /// Keeps rejected records; more than allowed end the run.
    fn reject(&mut self, index: usize, records: Vec<RejectedRecord>) -> Result<(), Failure> {
        if records.is_empty() {
            return Ok(());
        }
        let lane = &self.lanes[index].lane;
        let count = records.len() as u64;
        self.context
            .counters
            .of(lane.collection)
            .rejected
            .fetch_add(count, Ordering::Relaxed);
        let total = self.context.rejected_total.fetch_add(count, Ordering::SeqCst) + count;
        for record in records {
            let mut shown = self
                .context
                .rejected_first
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner);
            if shown.len() < REJECTED_SHOWN_MAX {
                shown.push((lane.source_name.clone(), record.clone()));
            }
            drop(shown);
            self.context.emitter.emit(&Event::Rejected {
                collection: lane.source_name.clone(),
                record,
            });
        }
        if total > self.context.errors_max {
            let error = Error::new(
                ErrorKind::InvalidData,
                "run.too_many_rejected",
                format!(
                    "{total} records were rejected, {} are allowed",
                    self.context.errors_max
                ),
            )
            .with_help("the summary lists them; `import.max_errors` allows more");
            return Err(error.into());
        }
        Ok(())
    }

    fn commit_if_due(&mut self) -> Result<(), Failure> {
        let due = self.open.as_ref().is_some_and(|open| {
            (open.records + open.rejected >= COMMIT_RECORDS && open.since.elapsed() >= COMMIT_AGE)
                || open.bytes >= COMMIT_BYTES
        });
        if due { self.commit(false) } else { Ok(()) }
    }

    fn end(&mut self, index: usize, cursor: Cursor) -> Result<(), Failure> {
        if let Some(open) = &mut self.open {
            open.cursor = cursor;
            self.commit(true)?;
        }
        self.lanes[index].ended = true;
        let lane = &self.lanes[index].lane;
        self.context
            .counters
            .of(lane.collection)
            .partitions_done
            .fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    fn commit(&mut self, done: bool) -> Result<(), Failure> {
        let Some(open) = &self.open else {
            return Ok(());
        };
        let progress = &mut self.lanes[open.lane];
        let checkpoint = Checkpoint {
            lane: progress.lane.id.clone(),
            epoch: progress.state.epoch,
            seq: progress.state.seq,
            cursor: open.cursor.clone(),
            done,
            record_count: open.records,
            ..Checkpoint::default()
        };
        let committed = self.sink.commit(&checkpoint);
        let Some(open) = self.open.take() else {
            return Ok(());
        };
        match committed? {
            Committed::Committed { seq } => {
                progress.state.seq = seq;
                progress.state.record_count += open.records;
                let counters = self.context.counters.of(progress.lane.collection);
                counters.written.fetch_add(open.records, Ordering::Relaxed);
                counters.skipped.fetch_add(open.skipped, Ordering::Relaxed);
                self.context.counters.committed(&self.context.emitter);
                Ok(())
            }
            Committed::Fenced => Err(Error::new(
                ErrorKind::Integrity,
                "run.fenced",
                "another run has taken over; nothing of the last transaction was written",
            )
            .into()),
            Committed::NotCommitted => Err(Error::new(
                ErrorKind::Unavailable,
                "run.not_committed",
                "the sink did not commit the last transaction",
            )
            .into()),
            Committed::Unknown => Err(Error::new(
                ErrorKind::Unavailable,
                "run.commit_unknown",
                "the sink's answer to the last commit was lost; it may or may not have been written",
            )
            .into()),
        }
    }

    /// The run ends: what is open is committed if somebody asked for the end, and undone after a failure.
    fn drain(&mut self) -> Result<(), Failure> {
        match self.context.stop.cause() {
            Some(Cause::Asked) => self.commit(false),
            _ => Ok(()),
        }
    }
}
