//! The open transaction of one sink session, written again as a whole when an error may pass.
//!
//! Its batches are kept until the commit, so that nothing has to be read twice and refused records can be told apart; their
//! size is bounded, since the transaction is committed before it grows larger. Never tried again: a commit whose outcome is unknown, a fence, and
//! anything into a sink that cannot undo. Neighbours: `writer` decides when it is committed, `totals` adds up what the sink
//! says of its records, `pause` waits where only somebody's repair helps.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use whimbrel_plugin_api::error::ErrorScope;
use whimbrel_plugin_api::sink::{AlterRequest, Checkpoint, Committed, LaneId, LaneState, PrepareReport};
use whimbrel_plugin_api::source::RejectedRecord;
use whimbrel_plugin_api::{Batch, Cursor};

use super::budget::Share;
use super::totals::Totals;
use super::writer::{LaneProgress, WriterContext, commit_failure};
use crate::events::Failure;
use crate::loader::observe::OpenedSink;
use crate::verification::left_out;

/// A transaction is not committed before this age, unless it is large, so that small batches do not cost one each.
const COMMIT_AGE: Duration = Duration::from_secs(1);
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

pub(super) struct Open {
    lane: usize,
    pub(super) since: Instant,
    pub(super) kept: Vec<(Batch, Share)>,
    /// Batches before those that are kept: judged at once by a sink that can undo nothing, so that nobody needs them again.
    let_go: usize,
    pub(super) totals: Totals,
    bytes: u64,
    cursor: Cursor,
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

    /// Takes a lane over; nothing may be open.
    pub(super) fn take_over(&mut self, lane: &LaneId) -> Result<LaneState, Failure> {
        let states = self.between(|sink| sink.take_over(std::slice::from_ref(lane)))?;
        let first = states.into_iter().next();
        Ok(first.unwrap_or_else(|| LaneState::unknown(lane.clone())))
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
        COMMIT_AGE.min(self.context.rules.timeout / 2)
    }

    /// Whether it holds enough to be committed.
    pub(super) fn is_due(&self) -> bool {
        let Some(open) = &self.open else {
            return false;
        };
        let is_full = open.totals.count() >= self.context.rules.commit_records
            && open.since.elapsed() >= self.age_max();
        is_full
            || open.totals.commit_due
            || open.bytes >= COMMIT_BYTES
            || open.since.elapsed() >= self.context.rules.timeout / 2
    }

    /// Rejected records that were not told yet.
    pub(super) fn rejected_count(&self) -> u64 {
        self.open.as_ref().map_or(0, |open| {
            open.totals.rejected.len().saturating_sub(open.totals.told) as u64
        })
    }

    /// Announces what the sink has refused, once, and judges whether it is too much.
    ///
    /// # Errors
    /// `run.too_many_rejected`.
    pub(super) fn tell_rejected(&mut self, progress: &LaneProgress) -> Result<(), Failure> {
        let records = self
            .open
            .as_mut()
            .map_or_else(Vec::new, |open| open.totals.take_untold());
        self.announce(progress, records)
    }

    /// Announces records that did not get into the sink, and judges whether they are too many.
    ///
    /// # Errors
    /// `run.too_many_rejected`.
    pub(super) fn announce(
        &self,
        progress: &LaneProgress,
        records: Vec<RejectedRecord>,
    ) -> Result<(), Failure> {
        let lane = &progress.lane;
        let outcomes = &self.context.outcomes;
        let told = outcomes.reject(&self.context.emitter, &lane.source_name, records);
        self.context
            .counters
            .of(lane.collection)
            .rejected
            .fetch_add(told, Ordering::Relaxed);
        match outcomes.too_many(self.rejected_count()) {
            Some(error) => Err(error.into()),
            None => Ok(()),
        }
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
            // Of a record that is refused later, the batch says which one it is.
            if self.context.rules.is_transactional || self.defers {
                open.kept.push((batch, share));
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
            let_go: 0,
            totals: Totals::default(),
            bytes: 0,
            cursor: progress.state.cursor.clone(),
        });
        Ok(())
    }

    pub(super) fn put(&mut self, progress: &LaneProgress, batch: &Batch) -> Result<(), Failure> {
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
            if !receipt.rejected.is_empty() {
                let rows = receipt.rejected.iter().filter_map(|record| record.row);
                let rows = rows.map(|row| row + first as u64);
                open.totals
                    .left_out
                    .extend(left_out::digests(&lane.into, batch, rows));
            }
            open.totals.add_write(receipt, first, length);
            first += length;
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

    /// Has the sink judge what it has deferred, so that it is known what the commit leaves out.
    fn flush(&mut self, progress: &LaneProgress) -> Result<(), Failure> {
        if let Some(open) = &mut self.open
            && open.totals.deferred > 0
        {
            let receipt = self.sink.flush()?;
            for (batch, row) in open.totals.add_flush(receipt) {
                let kept = batch.checked_sub(open.let_go).and_then(|at| open.kept.get(at));
                if let Some((batch, _)) = kept {
                    let digests = left_out::digests(&progress.lane.into, batch, [row]);
                    open.totals.left_out.extend(digests);
                }
            }
        }
        Ok(())
    }

    fn try_commit(&mut self, progress: &LaneProgress, done: bool) -> Result<Written, Failure> {
        self.flush(progress)?;
        // Rejected records are known before the commit that leaves them out, and never too many for it.
        self.tell_rejected(progress)?;
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
                let outcomes = &self.context.outcomes;
                outcomes.leave_out(progress.lane.collection, &open.totals.left_out);
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
mod tests {
    use std::sync::Arc;

    use arrow_array::{Int64Array, RecordBatch};
    use whimbrel_plugin_api::sink::PrepareRequest;
    use whimbrel_plugin_api::{Collection, ConflictPolicy, Field, Receipt, RecordType, Result, Schema, Sink};

    use super::*;
    use crate::control::Stop;
    use crate::events::{Emitter, Phase};
    use crate::loader::observe::CallLog;
    use crate::pipeline::budget::Budget;
    use crate::pipeline::held_back::HeldBack;
    use crate::pipeline::link::{LinkItem, link};
    use crate::pipeline::pause::Pause;
    use crate::pipeline::writer::{self, Lane};
    use crate::pipeline::{Counters, Outcomes};

    /// Judges the first write at once and all others when it is flushed; refuses the records in `refused`, counted over all.
    #[derive(Default)]
    struct Deferring {
        refused: Vec<u64>,
        written: u64,
        deferred: u64,
    }

    fn rejected(row: u64) -> RejectedRecord {
        RejectedRecord {
            record: format!("record {row}"),
            row: Some(row),
            code: "a.refused".to_owned(),
            message: "refused".to_owned(),
            data: None,
        }
    }

    impl Sink for Deferring {
        fn prepare(&mut self, _: &PrepareRequest) -> Result<PrepareReport> {
            Ok(PrepareReport::default())
        }

        fn alter(&mut self, _: &AlterRequest) -> Result<PrepareReport> {
            Ok(PrepareReport::default())
        }

        fn begin(&mut self, _: &LaneId) -> Result<()> {
            Ok(())
        }

        fn write(&mut self, _: &str, batch: &Batch, _: ConflictPolicy) -> Result<Receipt> {
            let count = batch.record_count() as u64;
            self.written += count;
            if self.written == count {
                return Ok(Receipt::all(count));
            }
            self.deferred += count;
            Ok(Receipt {
                deferred: count,
                ..Receipt::default()
            })
        }

        fn flush(&mut self) -> Result<Receipt> {
            Ok(Receipt {
                accepted: self.deferred - self.refused.len() as u64,
                rejected: self.refused.iter().copied().map(rejected).collect(),
                ..Receipt::default()
            })
        }

        fn commit(&mut self, checkpoint: &Checkpoint) -> Result<Committed> {
            Ok(Committed::Committed {
                seq: checkpoint.seq + 1,
            })
        }

        fn abort(&mut self) -> Result<()> {
            Ok(())
        }
    }

    fn schema() -> Schema {
        Schema::new(vec![Field::required("id", RecordType::INT64)])
    }

    fn batch(ids: std::ops::Range<i64>) -> Batch {
        let schema = Arc::new(schema());
        let column = Arc::new(Int64Array::from_iter_values(ids));
        let records = RecordBatch::try_new(schema.to_arrow(), vec![column]).unwrap();
        Batch::new(schema, records).unwrap()
    }

    fn context(outcomes: &Arc<Outcomes>) -> WriterContext {
        let (emitter, stop) = (Emitter::new(Box::new(std::io::sink())), Stop::default());
        WriterContext {
            counters: Counters::new(vec!["a".to_owned()], Instant::now()),
            pause: Arc::new(Pause::new(&emitter, &stop, Duration::from_secs(1))),
            emitter,
            stop,
            phase: Phase::Import,
            announces_commits: false,
            rules: TransactionRules {
                batch_records: 100,
                widens: true,
                commit_records: u64::MAX,
                timeout: Duration::from_secs(60),
                retries_max: 0,
                retry_delay: Duration::ZERO,
                is_transactional: false,
            },
            overflows: false,
            continues_on_error: false,
            outcomes: Arc::clone(outcomes),
            reopen: None,
        }
    }

    #[test]
    fn what_a_sink_refuses_later_is_left_out_of_the_comparison_though_it_can_undo_nothing() {
        let outcomes = Arc::new(Outcomes::new(10));
        let context = context(&outcomes);
        let log = CallLog::new(context.emitter.clone(), None);
        let into = Arc::new(Collection::new("a", schema()).with_key(["id"]));
        let sink = Deferring {
            refused: vec![3, 5],
            ..Deferring::default()
        };
        let mut sink = OpenedSink::of_host("deferring", Box::new(sink), &log);
        let (budget, stop) = (Budget::new(1_000), Stop::default());
        let (records, from) = link(8);
        for ids in [10..12, 20..22, 30..33] {
            let share = budget.take(1, &stop).unwrap();
            assert!(records.send(LinkItem::Batch(batch(ids), share)).is_ok());
        }
        let cursor = Cursor::start();
        assert!(records.send(LinkItem::End { cursor }).is_ok());
        let (lanes, arriving) = crossbeam_channel::unbounded();
        let lane = Lane {
            id: LaneId::default(),
            collection: 0,
            source_name: "a".to_owned(),
            partition: "all".to_owned(),
            into: Arc::clone(&into),
            policy: ConflictPolicy::Overwrite,
            held_back: HeldBack::Nothing,
            link: from,
        };
        assert!(lanes.send(lane).is_ok());
        drop(lanes);
        writer::write(&mut sink, &arriving, &budget, &context).unwrap();
        // Rows 3 and 5 of all that was written.
        let mut wanted = left_out::LeftOut::default();
        for digest in left_out::digests(&into, &batch(0..40), [21, 31]) {
            wanted.add(digest);
        }
        assert_eq!(outcomes.left_out()[&0], wanted);
        assert_eq!((outcomes.rejected().0, budget.spent_bytes()), (2, 0));
    }
}
