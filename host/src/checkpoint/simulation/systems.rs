//! The systems around a run, as they truly are: the sink by its own rules, the store of refused records, the host's state, and
//! what the source was told. Each says when it sees something that must not be.
//!
//! Neighbours: `network` carries the calls to the sink, `process` makes them.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use whimbrel_plugin_api::sink::{Checkpoint, Committed, LaneClaim, LaneId, LaneState};
use whimbrel_plugin_api::{Cursor, Error};

use super::mutant::ANY;
use super::process::the_run_lane;

/// What was seen that must not be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A record is neither in the sink nor kept as refused.
    Lost,
    /// A record is there twice, or both written and refused, or a commit has the number of another one.
    Twice,
    /// A commit of a run that had been fenced off was made.
    FencedWrote,
    /// A run that had been fenced off got the lane back.
    FencedTookBack,
    /// A run was told that it is fenced off, and is not.
    FencedWithoutCause,
    /// The host's state knows of a commit that was not made.
    HostAhead,
    /// The source was told of records that are not durable in the sink and in the host's state.
    ToldEarly,
    /// The lanes of a finished copy are not as they should be.
    Unfinished,
    /// A call was refused that had to be possible, or nothing went on.
    Stuck,
}

/// What must not be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Violation {
    pub(super) kind: Kind,
    pub(super) what: String,
}

impl Violation {
    pub(super) fn new(kind: Kind, what: impl Into<String>) -> Self {
        Self {
            kind,
            what: what.into(),
        }
    }
}

/// Who makes a call.
pub(super) type ProcessId = usize;
/// A record of the source: its number.
pub(super) type Record = u8;

/// The rows of one transaction with its checkpoint.
#[derive(Debug, Clone)]
pub(super) struct Commit {
    pub(super) process: ProcessId,
    pub(super) checkpoint: Checkpoint,
    pub(super) rows: Vec<Record>,
}

/// The sink: rows, lanes, and who truly holds each of them.
#[derive(Default)]
pub(super) struct Sink {
    lanes: HashMap<LaneId, LaneState>,
    holders: HashMap<LaneId, ProcessId>,
    /// Who has learnt that it holds a lane, with the last epoch that it knows of.
    learnt: HashMap<(LaneId, ProcessId), u64>,
    /// Who had learnt so and has lost it.
    fenced: HashSet<(LaneId, ProcessId)>,
    /// Epochs that were granted to somebody who had lost the lane. Wrong only once he learns of it: a first claim may be
    /// under way for long.
    taken_back: HashSet<(LaneId, u64)>,
    /// By the copy that wrote it, since another copy of the same records is another version of them.
    rows: BTreeMap<(String, Record), u32>,
    /// Every commit that was made: lane, copy, number.
    made: HashMap<(LaneId, String, u64), Cursor>,
}

impl Sink {
    pub(super) fn take_over(
        &mut self,
        process: ProcessId,
        claims: &[LaneClaim],
    ) -> Result<Vec<LaneState>, Error> {
        let granted = claims
            .iter()
            .map(|claim| LaneState::taken_over(self.lanes.get(&claim.lane), claim))
            .collect::<Result<Vec<_>, _>>()?;
        for state in &granted {
            self.lanes.insert(state.lane.clone(), state.clone());
            if self.fenced.contains(&(state.lane.clone(), process)) {
                self.taken_back.insert((state.lane.clone(), state.epoch));
            }
            let before = self.holders.insert(state.lane.clone(), process);
            let lost = before
                .filter(|before| *before != process)
                .map(|before| (state.lane.clone(), before));
            self.fenced
                .extend(lost.filter(|lost| self.learnt.contains_key(lost)));
        }
        Ok(granted)
    }

    /// `process` has learnt that it holds the lanes.
    pub(super) fn knows(&mut self, process: ProcessId, lanes: &[LaneState]) -> Result<(), Violation> {
        for state in lanes {
            if self.taken_back.contains(&(state.lane.clone(), state.epoch)) {
                let what = format!("process {process} has a lane again that it had lost");
                return Err(Violation::new(Kind::FencedTookBack, what));
            }
            self.learnt.insert((state.lane.clone(), process), state.epoch);
        }
        Ok(())
    }

    /// Whether `process` holds the lane and knows the epoch. One whose claim was granted unheard has fenced itself off.
    pub(super) fn holds(&self, lane: &LaneId, process: ProcessId) -> bool {
        let known = self.learnt.get(&(lane.clone(), process));
        let stored = self.lanes.get(lane).map(|state| &state.epoch);
        self.holders.get(lane) == Some(&process) && stored == known
    }

    pub(super) fn lane(&self, lane: &LaneId) -> Option<&LaneState> {
        self.lanes.get(lane)
    }

    /// How often the copy wrote the record.
    pub(super) fn count(&self, copy: &str, record: Record) -> u32 {
        self.rows
            .get(&(copy.to_owned(), record))
            .copied()
            .unwrap_or_default()
    }

    /// The cursor of a commit that was made.
    pub(super) fn made(&self, lane: &LaneId, copy: &str, seq: u64) -> Option<&Cursor> {
        self.made.get(&(lane.clone(), copy.to_owned(), seq))
    }

    pub(super) fn commit(&mut self, commit: &Commit) -> Result<Committed, Violation> {
        let mut checkpoint = commit.checkpoint.clone();
        let Some(stored) = self.lanes.get(&checkpoint.lane) else {
            return Ok(Committed::Fenced);
        };
        if checkpoint.seq == ANY {
            checkpoint.seq = stored.seq;
        }
        if checkpoint.epoch == ANY {
            checkpoint.epoch = stored.epoch;
        }
        let Some(next) = stored.committed(&checkpoint) else {
            return Ok(Committed::Fenced);
        };
        let (lane, process) = (&checkpoint.lane, commit.process);
        if self.holders.get(lane) != Some(&process) {
            let what = format!("a commit of process {process} is made, which had lost the lane");
            return Err(Violation::new(Kind::FencedWrote, what));
        }
        let run = self.lanes.get(&the_run_lane());
        if run.is_some_and(|run| run.begun_by != next.begun_by) {
            let what = format!(
                "a commit of {} is made though another copy was begun",
                next.begun_by
            );
            return Err(Violation::new(Kind::FencedWrote, what));
        }
        for record in &commit.rows {
            let count = self.rows.entry((next.begun_by.clone(), *record)).or_default();
            *count += 1;
            if *count > 1 {
                let what = format!("record {record} is written twice by {}", next.begun_by);
                return Err(Violation::new(Kind::Twice, what));
            }
        }
        let number = (lane.clone(), next.begun_by.clone(), next.seq);
        if self.made.insert(number, next.cursor.clone()).is_some() {
            let what = format!(
                "there are two commits {} of a lane of {}",
                next.seq, next.begun_by
            );
            return Err(Violation::new(Kind::Twice, what));
        }
        let seq = next.seq;
        self.lanes.insert(next.lane.clone(), next);
        Ok(Committed::Committed { seq })
    }
}

/// What the host keeps on its disk. What is here is durable.
#[derive(Default)]
pub(super) struct Host {
    /// Refused records by lane, copy, epoch and number of the commit that leaves them out.
    refused: BTreeMap<(Cursor, String, u64, u64), BTreeSet<Record>>,
    /// What was found when a lane was claimed: lane, copy, epoch, number of commits.
    found: Vec<(Cursor, String, u64, u64)>,
    /// How far each lane of each copy is known to be.
    known: HashMap<(LaneId, String), u64>,
}

impl Host {
    /// Keeps what the commit after `state` leaves out, in place of what was kept for it before.
    pub(super) fn keep(&mut self, state: &LaneState, records: impl IntoIterator<Item = Record>) {
        let key = (
            state.lane.partition.clone(),
            state.begun_by.clone(),
            state.epoch,
            state.seq + 1,
        );
        self.refused.insert(key, records.into_iter().collect());
    }

    /// Notes what a claim found.
    pub(super) fn found(&mut self, state: &LaneState) {
        self.found.push((
            state.lane.partition.clone(),
            state.begun_by.clone(),
            state.epoch,
            state.seq,
        ));
    }

    /// How often the record counts as refused by the copy: its lane has reached the commit, under the epoch that kept it.
    pub(super) fn refused_count(
        &self,
        sink: &Sink,
        lanes: &[LaneId],
        copy: &str,
        record: Record,
        plainly: bool,
    ) -> u32 {
        let counts = |(lane, of, epoch, seq): &(Cursor, String, u64, u64)| {
            let reached = lanes
                .iter()
                .find(|id| id.partition == *lane)
                .and_then(|id| sink.lane(id));
            let later = self
                .found
                .iter()
                .filter(|(at, by, since, _)| at == lane && by == of && since > epoch);
            of == copy
                && reached.is_some_and(|state| state.seq >= *seq)
                && (plainly || later.into_iter().all(|(.., found)| found >= seq))
        };
        let kept = self.refused.iter().filter(|(key, _)| counts(key));
        kept.filter(|(_, records)| records.contains(&record)).count() as u32
    }

    /// Saves how far a lane is.
    pub(super) fn save(&mut self, sink: &Sink, state: &LaneState) -> Result<(), Violation> {
        if sink.made(&state.lane, &state.begun_by, state.seq).is_none() {
            let what = format!(
                "the host's state has commit {} of a lane, the sink does not",
                state.seq
            );
            return Err(Violation::new(Kind::HostAhead, what));
        }
        let known = self
            .known
            .entry((state.lane.clone(), state.begun_by.clone()))
            .or_default();
        // A process that was stopped may be late.
        *known = (*known).max(state.seq);
        Ok(())
    }

    /// The source is told that all up to `cursor` is durable.
    pub(super) fn tell(&self, sink: &Sink, state: &LaneState, cursor: &Cursor) -> Result<(), Violation> {
        let known = self.known.get(&(state.lane.clone(), state.begun_by.clone()));
        let is_durable = (1..=known.copied().unwrap_or_default()).any(|seq| {
            sink.made(&state.lane, &state.begun_by, seq)
                .is_some_and(|made| made.0 >= cursor.0)
        });
        if is_durable {
            return Ok(());
        }
        let what = format!("the source is told of {cursor:?}, which is not durable");
        Err(Violation::new(Kind::ToldEarly, what))
    }
}
