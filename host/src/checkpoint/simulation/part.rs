//! One lane as a run drives it, with the same [`Lane`] as production.
//!
//! What to do next is drawn, also what is out of order: that the lane refuses it is what keeps the order. Neighbour: `process`,
//! which has several of these.

use std::ops::Range;

use whimbrel_plugin_api::sink::Committed;
use whimbrel_plugin_api::{Cursor, Error};

use super::network::{Answer, CallId, Request};
use super::systems::{Commit, ProcessId, Record, Violation};
use super::world::World;
use crate::checkpoint::{Answer as Meaning, Lane, Reclaimed};

/// Records of one write at most.
const WRITE_RECORDS_MAX: u8 = 3;

/// What a step came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Went {
    /// Something was done.
    On,
    /// Nothing can be done before somebody else does something.
    Nowhere,
    /// The lane is another run's.
    Fenced,
    /// The lane refuses an answer: this run ends.
    Failed(String),
}

/// What can be tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Try {
    Hear,
    Save,
    Tell,
    Begin,
    Write,
    Keep,
    Commit,
    Reclaim,
}

const TRIES: [Try; 8] = [
    Try::Hear,
    Try::Save,
    Try::Tell,
    Try::Begin,
    Try::Write,
    Try::Keep,
    Try::Commit,
    Try::Reclaim,
];

/// See the module.
pub(super) struct Part {
    pub(super) lane: Lane,
    /// What is committed to the run's own lane, which has no records: cursor and whether it is the last.
    pub(super) to_commit: Option<(Cursor, bool)>,
    /// Records of the partition.
    range: Range<Record>,
    /// Up to where the source was read, up to where that went into the last commit, and up to where it is durable.
    read_to: Record,
    sent_to: Record,
    durable_to: Record,
    is_open: bool,
    is_kept: bool,
    rows: Vec<Record>,
    refused: Vec<Record>,
    call: Option<CallId>,
}

impl Part {
    /// The run's own lane, not claimed yet.
    pub(super) fn of_run(lane: Lane) -> Self {
        Self::new(lane, 0..0)
    }

    /// A lane that was claimed, with the records of its partition.
    pub(super) fn new(lane: Lane, range: Range<Record>) -> Self {
        let from = lane.state().cursor.0.first().copied().unwrap_or(range.start);
        Self {
            lane,
            to_commit: None,
            range,
            read_to: from,
            sent_to: from,
            durable_to: from,
            is_open: false,
            is_kept: false,
            rows: Vec::new(),
            refused: Vec::new(),
            call: None,
        }
    }

    fn is_of_run(&self) -> bool {
        self.lane.id().collection.is_empty()
    }

    /// Whether nothing is left to do.
    pub(super) fn is_finished(&self) -> bool {
        // A lane that may begin is idle; what it has to tell, it has told.
        let has_more = match self.is_of_run() {
            true => self.to_commit.is_some(),
            false => !self.lane.state().done,
        };
        let mut lane = self.lane.clone();
        !has_more
            && self.call.is_none()
            && !self.is_open
            && lane.begin().is_ok()
            && lane.take_acknowledgeable().is_none()
    }

    /// Does one thing, or finds that nothing can be done.
    pub(super) fn step(&mut self, process: ProcessId, world: &mut World) -> Result<Went, Violation> {
        if self.is_open && world.random.u32(0..20) == 0 {
            world.note(|| format!("process {process} undoes {:?}", self.name()));
            self.lane.undone();
            self.written_again();
            return Ok(Went::On);
        }
        let mut tries = TRIES;
        world.random.shuffle(&mut tries);
        for one in tries {
            let went = self.try_one(one, process, world)?;
            if went != Went::Nowhere {
                return Ok(went);
            }
        }
        Ok(Went::Nowhere)
    }

    fn name(&self) -> &[u8] {
        &self.lane.id().partition.0
    }

    fn try_one(&mut self, one: Try, process: ProcessId, world: &mut World) -> Result<Went, Violation> {
        let has_more = self.to_commit.is_some() || !(self.is_of_run() || self.lane.state().done);
        let did = match one {
            Try::Hear => match self.call.and_then(|call| world.network.answer(call)) {
                Some(answer) => {
                    self.call = None;
                    return self.hear(answer, process, world);
                }
                None => false,
            },
            Try::Save => {
                let mut saved = self.lane.clone();
                let may = saved.saved().is_ok();
                if may {
                    world.note(|| {
                        format!(
                            "process {process} saves {:?} seq {}",
                            self.name(),
                            saved.state().seq
                        )
                    });
                    world.host.save(&world.sink, saved.state())?;
                    self.lane = saved;
                }
                may
            }
            Try::Tell => match self.lane.take_acknowledgeable() {
                Some(cursor) if !self.is_of_run() => {
                    world.host.tell(&world.sink, self.lane.state(), &cursor)?;
                    true
                }
                told => told.is_some(),
            },
            Try::Begin => {
                let begins = has_more && !self.is_open && self.call.is_none() && self.lane.begin().is_ok();
                self.is_open |= begins;
                begins
            }
            Try::Write => self.write(process, world),
            Try::Keep => self.keep(process, world),
            Try::Commit => return self.commit(process, world),
            Try::Reclaim => {
                let doubts = self.lane.is_doubtful() && self.call.is_none();
                if doubts {
                    let claim = Request::TakeOver(process, vec![self.lane.claim()]);
                    self.call = Some(world.send(claim)?);
                    world.tally.reclaims += 1;
                }
                doubts
            }
        };
        Ok(if did { Went::On } else { Went::Nowhere })
    }

    fn write(&mut self, process: ProcessId, world: &mut World) -> bool {
        let left = self.range.end.saturating_sub(self.read_to);
        if !self.is_open || self.is_kept || left == 0 {
            return false;
        }
        let count = world.random.u8(1..=WRITE_RECORDS_MAX).min(left);
        for record in self.read_to..self.read_to + count {
            match world.refuses(record) {
                true => self.refused.push(record),
                false => self.rows.push(record),
            }
        }
        self.read_to += count;
        let (rows, refused) = (&self.rows, &self.refused);
        world.note(|| {
            format!(
                "process {process} writes {:?} {rows:?}, refused {refused:?}",
                self.name()
            )
        });
        true
    }

    /// Whether the open transaction could be ended here.
    fn may_end(&self) -> bool {
        self.is_open && (self.is_of_run() || self.read_to > self.durable_to || self.read_to >= self.range.end)
    }

    fn keep(&mut self, process: ProcessId, world: &mut World) -> bool {
        if !self.may_end() || self.is_kept {
            return false;
        }
        if !self.is_of_run() {
            world.host.keep(self.lane.state(), self.refused.iter().copied());
            let refused = &self.refused;
            world.note(|| format!("process {process} keeps {:?} refused {refused:?}", self.name()));
        }
        self.lane.refused_are_kept();
        self.is_kept = true;
        true
    }

    fn commit(&mut self, process: ProcessId, world: &mut World) -> Result<Went, Violation> {
        if !self.may_end() {
            return Ok(Went::Nowhere);
        }
        let (cursor, done) = match &self.to_commit {
            Some(of_run) => of_run.clone(),
            None => {
                let is_at_end = self.read_to >= self.range.end;
                // That the end was reached may be found out by a read that brings nothing.
                let is_known = self.read_to == self.durable_to || world.random.bool();
                (Cursor(vec![self.read_to]), is_at_end && is_known)
            }
        };
        let Ok(checkpoint) = self.lane.checkpoint(cursor, done, self.rows.len() as u64) else {
            return Ok(Went::Nowhere);
        };
        let commit = Commit {
            process,
            checkpoint,
            rows: std::mem::take(&mut self.rows),
        };
        (self.is_open, self.is_kept) = (false, false);
        self.refused.clear();
        self.sent_to = self.read_to;
        self.call = Some(world.send(Request::Commit(Box::new(commit)))?);
        Ok(Went::On)
    }

    fn hear(&mut self, answer: Answer, process: ProcessId, world: &mut World) -> Result<Went, Violation> {
        world.note(|| {
            format!(
                "process {process} hears {:?} {}",
                self.name(),
                super::network::heard(&answer)
            )
        });
        if self.lane.is_doubtful() {
            return self.hear_claim(answer, process, world);
        }
        let outcome = match answer {
            Answer::Committed(outcome) => outcome,
            _ => Committed::Unknown,
        };
        match self.lane.answered(outcome) {
            Ok(Meaning::Durable(_)) => self.is_durable(),
            Ok(Meaning::Again) => self.written_again(),
            Ok(Meaning::Doubtful) => {}
            Ok(Meaning::Fenced) => return Ok(Went::Fenced),
            Err(error) => return Ok(failed(&error)),
        }
        Ok(Went::On)
    }

    fn hear_claim(
        &mut self,
        answer: Answer,
        process: ProcessId,
        world: &mut World,
    ) -> Result<Went, Violation> {
        let state = match answer {
            Answer::Granted(states) => {
                world.sink.knows(process, &states)?;
                states.into_iter().next()
            }
            Answer::Refused(_) => {
                self.lane.fenced();
                return Ok(Went::Fenced);
            }
            // The lane stays in doubt and is claimed again, which fails if this claim was granted unheard.
            _ => return Ok(Went::On),
        };
        let Some(state) = state else {
            return Ok(Went::Failed("no lane is granted".to_owned()));
        };
        world.host.found(&state);
        match self.lane.reclaimed(state) {
            Ok(Reclaimed::Durable(_)) => self.is_durable(),
            Ok(Reclaimed::Again) => self.written_again(),
            Err(error) => return Ok(failed(&error)),
        }
        Ok(Went::On)
    }

    fn is_durable(&mut self) {
        self.durable_to = self.sent_to;
        self.to_commit = None;
    }

    /// What was read since the last commit is read and written again.
    fn written_again(&mut self) {
        self.read_to = self.durable_to;
        (self.is_open, self.is_kept) = (false, false);
        self.rows.clear();
        self.refused.clear();
    }
}

fn failed(error: &Error) -> Went {
    Went::Failed(error.code.to_string())
}
