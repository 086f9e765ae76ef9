//! One lane as the host knows it: which epoch it holds, what is durable, and what the next commit must say.
//!
//! A state machine without I/O. Whoever drives it makes the calls it asks for and tells it the answers; calls out of order are
//! refused. The order that it holds to: refused records durable, sink commit, host state, source told. A commit whose outcome is
//! unknown is never sent again: the lane is claimed anew, and its seq says what happened.

use whimbrel_plugin_api::sink::{Checkpoint, Committed, LaneClaim, LaneId, LaneState};
use whimbrel_plugin_api::{Cursor, Error, ErrorKind};

#[cfg(test)]
use super::simulation::Mutant;

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lane {
    /// What is durable, as far as is known, under the epoch that is held.
    state: LaneState,
    begun_by: String,
    standing: Standing,
    /// What is durable in the sink and in the host's state, but not told to the source yet.
    saved: Option<Cursor>,
    /// What the simulation has this lane do wrong, in order to see that it is noticed.
    #[cfg(test)]
    pub(super) mutant: Option<Mutant>,
}

/// Where the lane stands between two calls.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Standing {
    /// Not claimed yet.
    Unclaimed,
    /// Held; nothing is open.
    Idle,
    /// A transaction is open; `kept` once the records that it leaves out are durable elsewhere.
    Open { kept: bool },
    /// This checkpoint was sent and not answered.
    Committing(Checkpoint),
    /// The answer was lost: only the sink knows.
    Doubtful(Checkpoint),
    /// Durable in the sink, not in the host's state yet.
    Unsaved,
    /// Another run holds it; for ever.
    Fenced,
}

/// What the answer to a commit means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// It is durable as this commit of the lane.
    Durable(u64),
    /// It is not, and may be written again as a whole.
    Again,
    /// Nobody knows: claim the lane anew with [`Lane::claim`].
    Doubtful,
    /// Another run holds the lane: end, and write nothing more.
    Fenced,
}

/// What a lane that was claimed anew after a lost answer says of that commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reclaimed {
    /// It was made, as this commit of the lane.
    Durable(u64),
    /// It was not, and may be written again as a whole.
    Again,
}

impl Lane {
    /// A lane of the run `begun_by`, or of one that resumes it. Empty: of whichever run there is.
    pub fn new(id: LaneId, begun_by: impl Into<String>) -> Self {
        Self {
            state: LaneState::unknown(id),
            begun_by: begun_by.into(),
            standing: Standing::Unclaimed,
            saved: None,
            #[cfg(test)]
            mutant: None,
        }
    }

    /// The claim to send to the sink: the first one; one that finds out about a commit; or one of a lane that is held, beside
    /// claims of others that are to be granted only if it still is.
    pub fn claim(&self) -> LaneClaim {
        let held = match self.standing {
            Standing::Unclaimed => None,
            #[cfg(test)]
            Standing::Doubtful(_) if self.mutant == Some(Mutant::ReclaimUnheld) => None,
            _ => Some(self.state.epoch),
        };
        LaneClaim {
            lane: self.state.lane.clone(),
            begun_by: self.begun_by.clone(),
            held,
        }
    }

    /// As [`Lane::claim`], for a run that begins anew what another one has begun: granted only while the lane is held.
    pub fn claim_anew(&self, begun_by: impl Into<String>) -> LaneClaim {
        LaneClaim {
            begun_by: begun_by.into(),
            ..self.claim()
        }
    }

    /// The sink has granted the first claim.
    ///
    /// # Errors
    /// `run.lane_order` if it was claimed before, `run.wrong_lane` if the sink speaks of another one.
    pub fn claimed(&mut self, state: LaneState) -> Result<(), Error> {
        if self.standing != Standing::Unclaimed {
            return Err(self.out_of_order("claimed"));
        }
        self.accept(state)?;
        self.standing = Standing::Idle;
        Ok(())
    }

    /// The sink has granted a further claim of a lane that is held and idle.
    ///
    /// # Errors
    /// `run.lane_order` if it is not; `run.wrong_lane` if the sink speaks of another one; `run.lane_moved` if the lane has
    /// neither begun anew nor stayed as it was.
    pub fn renewed(&mut self, state: LaneState) -> Result<(), Error> {
        if self.standing != Standing::Idle {
            return Err(self.out_of_order("renewed"));
        }
        // A sink without lanes answers the start each time.
        let may_begin = state.epoch == 0 || state.begun_by != self.state.begun_by;
        let began_anew = may_begin && state.seq == 0 && state.cursor.is_start() && !state.done;
        let stayed = state.seq == self.state.seq && state.cursor == self.state.cursor;
        if state.lane == self.state.lane && !began_anew && !stayed {
            return Err(lane_moved(format!(
                "the sink says that {} commits of the lane are durable, where this run knows of {}",
                state.seq, self.state.seq
            )));
        }
        self.accept(state)
    }

    /// The sink has granted the claim that was to find out about the last commit.
    ///
    /// # Errors
    /// `run.lane_order` if nothing was in doubt; `run.wrong_lane` if the sink speaks of another one; `run.lane_moved` if neither
    /// outcome fits: somebody changed the lane or restored the sink; `run.commit_unknown` if the sink raised no epoch, so that
    /// the commit may still be made.
    pub fn reclaimed(&mut self, state: LaneState) -> Result<Reclaimed, Error> {
        let Standing::Doubtful(sent) = &self.standing else {
            return Err(self.out_of_order("reclaimed"));
        };
        let sent = sent.clone();
        let seq = state.seq;
        if state.lane == sent.lane && state.epoch <= sent.epoch {
            return Err(Error::new(
                ErrorKind::Integrity,
                "run.commit_unknown",
                "the answer to a commit was lost, and the sink has no fence by which to find out about it",
            )
            .with_help("look what the sink holds before the job is run again"));
        }
        if seq == sent.seq + 1 && state.cursor == sent.cursor && state.done == sent.done {
            self.accept(state)?;
            self.standing = Standing::Unsaved;
            return Ok(Reclaimed::Durable(seq));
        }
        if seq == sent.seq {
            self.accept(state)?;
            self.standing = Standing::Idle;
            return Ok(Reclaimed::Again);
        }
        Err(lane_moved(format!(
            "the sink says that {seq} commits of the lane are durable, where {} or {} are possible",
            sent.seq,
            sent.seq + 1
        )))
    }

    /// Somebody else has it; nothing may be written any more.
    pub fn fenced(&mut self) {
        self.standing = Standing::Fenced;
        // What the source may let go of is the other run's to say.
        self.saved = None;
    }

    fn accept(&mut self, state: LaneState) -> Result<(), Error> {
        if state.lane != self.state.lane {
            return Err(Error::new(
                ErrorKind::Internal,
                "run.wrong_lane",
                "the sink answers for another lane than was claimed",
            ));
        }
        self.begun_by.clone_from(&state.begun_by);
        self.state = state;
        Ok(())
    }

    /// A transaction is opened.
    ///
    /// # Errors
    /// `run.lane_order` unless the lane is held and nothing is open.
    pub fn begin(&mut self) -> Result<(), Error> {
        match self.standing {
            Standing::Idle => {
                self.standing = Standing::Open { kept: false };
                Ok(())
            }
            _ => Err(self.out_of_order("begin")),
        }
    }

    /// The transaction that was open is undone, or was never begun.
    pub fn undone(&mut self) {
        if matches!(self.standing, Standing::Open { .. }) {
            self.standing = Standing::Idle;
        }
    }

    /// The records that the open transaction leaves out are durable elsewhere, or there are none.
    pub fn refused_are_kept(&mut self) {
        if let Standing::Open { kept } = &mut self.standing {
            *kept = true;
        }
    }

    /// The checkpoint that ends the open transaction at `cursor`; it counts as sent from here on.
    ///
    /// # Errors
    /// `run.lane_order` if nothing is open, or the records that it leaves out are not durable yet.
    pub fn checkpoint(&mut self, cursor: Cursor, done: bool, record_count: u64) -> Result<Checkpoint, Error> {
        let is_ready = self.standing == Standing::Open { kept: true };
        #[cfg(test)]
        let is_ready = is_ready
            || (self.mutant == Some(Mutant::RefusedLate) && self.standing == Standing::Open { kept: false });
        if !is_ready {
            return Err(self.out_of_order("checkpoint"));
        }
        #[cfg(test)]
        let cursor = Mutant::cursor(self.mutant, cursor);
        let checkpoint = Checkpoint {
            lane: self.state.lane.clone(),
            epoch: self.state.epoch,
            seq: self.state.seq,
            cursor,
            done,
            record_count,
            ..Checkpoint::default()
        };
        self.standing = Standing::Committing(checkpoint.clone());
        #[cfg(test)]
        let checkpoint = Mutant::checkpoint(self.mutant, checkpoint);
        Ok(checkpoint)
    }

    /// The sink has answered the commit, or its answer was lost.
    ///
    /// # Errors
    /// `run.lane_order` if none was sent; `run.lane_moved` if the number is not the next one.
    pub fn answered(&mut self, outcome: Committed) -> Result<Answer, Error> {
        let Standing::Committing(sent) = &self.standing else {
            return Err(self.out_of_order("answered"));
        };
        let sent = sent.clone();
        match outcome {
            Committed::Committed { seq } if seq == sent.seq + 1 => {
                self.state.seq = seq;
                self.state.cursor = sent.cursor;
                self.state.done = sent.done;
                self.state.record_count += sent.record_count;
                self.standing = Standing::Unsaved;
                Ok(Answer::Durable(seq))
            }
            Committed::Committed { seq } => Err(lane_moved(format!(
                "the sink numbers a commit {seq} that should be {}",
                sent.seq + 1
            ))),
            Committed::NotCommitted => {
                self.standing = Standing::Idle;
                Ok(Answer::Again)
            }
            Committed::Fenced => {
                self.fenced();
                Ok(Answer::Fenced)
            }
            #[cfg(test)]
            Committed::Unknown if self.mutant == Some(Mutant::BlindResend) => {
                self.standing = Standing::Idle;
                Ok(Answer::Again)
            }
            Committed::Unknown => {
                self.standing = Standing::Doubtful(sent);
                Ok(Answer::Doubtful)
            }
        }
    }

    /// What is durable is in the host's state, too: the source may be told.
    ///
    /// # Errors
    /// `run.lane_order` if nothing became durable since the last time.
    pub fn saved(&mut self) -> Result<(), Error> {
        #[cfg(test)]
        if let (Some(Mutant::SavedFirst), Standing::Committing(sent)) = (self.mutant, &self.standing) {
            self.state.seq = sent.seq + 1;
            self.state.cursor = sent.cursor.clone();
            self.saved = Some(sent.cursor.clone());
            return Ok(());
        }
        if self.standing != Standing::Unsaved {
            return Err(self.out_of_order("saved"));
        }
        self.standing = Standing::Idle;
        self.saved = Some(self.state.cursor.clone());
        Ok(())
    }

    /// Up to where the source may let go of its log, once each time.
    pub fn take_acknowledgeable(&mut self) -> Option<Cursor> {
        self.saved.take()
    }

    /// Whether the outcome of the last commit is unknown.
    pub fn is_doubtful(&self) -> bool {
        matches!(self.standing, Standing::Doubtful(_))
    }

    /// The lane's name.
    pub fn id(&self) -> &LaneId {
        &self.state.lane
    }

    /// What is durable, as far as is known.
    pub fn state(&self) -> &LaneState {
        &self.state
    }

    fn out_of_order(&self, step: &str) -> Error {
        let standing = match &self.standing {
            Standing::Unclaimed => "unclaimed",
            Standing::Idle => "idle",
            Standing::Open { kept: false } => "open",
            Standing::Open { kept: true } => "ready to be committed",
            Standing::Committing(_) => "being committed",
            Standing::Doubtful(_) => "in doubt",
            Standing::Unsaved => "not saved",
            Standing::Fenced => "fenced off",
        };
        Error::new(
            ErrorKind::Internal,
            "run.lane_order",
            format!("`{step}` is not possible for a lane that is {standing}"),
        )
    }
}

fn lane_moved(message: String) -> Error {
    Error::new(ErrorKind::Integrity, "run.lane_moved", message)
        .with_help("look whether the sink was restored or its checkpoints were changed, then resume")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id() -> LaneId {
        LaneId {
            job: "job".to_owned(),
            source: "source".to_owned(),
            collection: "people".to_owned(),
            partition: Cursor(vec![1]),
        }
    }

    fn state(epoch: u64, seq: u64, cursor: &[u8]) -> LaneState {
        LaneState {
            begun_by: "run".to_owned(),
            epoch,
            seq,
            cursor: Cursor(cursor.to_vec()),
            ..LaneState::unknown(id())
        }
    }

    /// Held under epoch 3, with four commits up to `d`.
    fn held() -> Lane {
        let mut lane = Lane::new(id(), "run");
        lane.claimed(state(3, 4, b"d")).unwrap();
        lane
    }

    fn ready() -> Lane {
        let mut lane = held();
        lane.begin().unwrap();
        lane.refused_are_kept();
        lane
    }

    fn committing() -> Lane {
        let mut lane = ready();
        lane.checkpoint(Cursor(b"e".to_vec()), false, 7).unwrap();
        lane
    }

    fn doubtful() -> Lane {
        let mut lane = committing();
        assert_eq!(lane.answered(Committed::Unknown).unwrap(), Answer::Doubtful);
        lane
    }

    fn unsaved() -> Lane {
        let mut lane = committing();
        lane.answered(Committed::Committed { seq: 5 }).unwrap();
        lane
    }

    /// What each call answers for the lane as it is: its code, or nothing.
    fn refusals(lane: &Lane) -> Vec<&'static str> {
        type Call = fn(&mut Lane) -> Result<(), Error>;
        let calls: [(&str, Call); 7] = [
            ("claimed", |lane| lane.claimed(state(9, 4, b"d"))),
            ("renewed", |lane| lane.renewed(state(9, 4, b"d"))),
            ("reclaimed", |lane| lane.reclaimed(state(9, 4, b"d")).map(drop)),
            ("begin", Lane::begin),
            ("checkpoint", |lane| {
                lane.checkpoint(Cursor::start(), false, 0).map(drop)
            }),
            ("answered", |lane| {
                lane.answered(Committed::NotCommitted).map(drop)
            }),
            ("saved", Lane::saved),
        ];
        let mut refused = Vec::new();
        for (name, call) in calls {
            let mut tried = lane.clone();
            if let Err(error) = call(&mut tried) {
                assert_eq!(error.code, "run.lane_order", "{name}: {error}");
                assert!(
                    error.message.starts_with(&format!("`{name}` is not possible")),
                    "{error}"
                );
                assert_eq!(tried, *lane, "{name} is refused and changes the lane");
                refused.push(name);
            }
        }
        refused
    }

    #[test]
    fn every_call_out_of_order_is_refused_and_changes_nothing() {
        let all = [
            "claimed",
            "renewed",
            "reclaimed",
            "begin",
            "checkpoint",
            "answered",
            "saved",
        ];
        let mut open = held();
        open.begin().unwrap();
        let mut fenced = held();
        fenced.fenced();
        for (lane, possible) in [
            (Lane::new(id(), "run"), &["claimed"][..]),
            (held(), &["renewed", "begin"]),
            (open, &[]),
            (ready(), &["checkpoint"]),
            (committing(), &["answered"]),
            (doubtful(), &["reclaimed"]),
            (unsaved(), &["saved"]),
            (fenced, &[]),
        ] {
            let expected: Vec<_> = all.into_iter().filter(|name| !possible.contains(name)).collect();
            assert_eq!(refusals(&lane), expected, "{lane:?}");
        }
    }

    #[test]
    fn a_commit_goes_through_every_step_once() {
        let mut lane = Lane::new(id(), "run");
        let first = lane.claim();
        assert_eq!(
            (first.lane, first.begun_by.as_str(), first.held),
            (id(), "run", None)
        );
        lane.claimed(state(3, 4, b"d")).unwrap();
        lane.begin().unwrap();
        lane.refused_are_kept();
        let checkpoint = lane.checkpoint(Cursor(b"e".to_vec()), true, 7).unwrap();
        let expected = Checkpoint {
            lane: id(),
            epoch: 3,
            seq: 4,
            cursor: Cursor(b"e".to_vec()),
            done: true,
            record_count: 7,
            ..Checkpoint::default()
        };
        assert_eq!(checkpoint, expected);
        // Sent is not durable.
        assert_eq!((lane.state().seq, lane.state().done), (4, false));
        assert_eq!(lane.take_acknowledgeable(), None);
        assert_eq!(
            lane.answered(Committed::Committed { seq: 5 }).unwrap(),
            Answer::Durable(5)
        );
        let durable = LaneState {
            done: true,
            record_count: 7,
            ..state(3, 5, b"e")
        };
        assert_eq!(*lane.state(), durable);
        // Durable in the sink alone is not yet to be told.
        assert_eq!(lane.take_acknowledgeable(), None);
        lane.saved().unwrap();
        assert_eq!(lane.take_acknowledgeable(), Some(Cursor(b"e".to_vec())));
        assert_eq!(lane.take_acknowledgeable(), None);
        lane.begin().unwrap();
    }

    #[test]
    fn what_was_undone_or_not_committed_begins_again_with_the_same_number() {
        let mut lane = ready();
        lane.undone();
        lane.begin().unwrap();
        // The records that the next try leaves out have to be kept again.
        assert_eq!(
            lane.checkpoint(Cursor::start(), false, 0).unwrap_err().code,
            "run.lane_order"
        );
        lane.refused_are_kept();
        lane.checkpoint(Cursor(b"e".to_vec()), false, 7).unwrap();
        assert_eq!(lane.answered(Committed::NotCommitted).unwrap(), Answer::Again);
        assert_eq!(lane, held());
        // A commit that was sent cannot be undone by saying so.
        for mut lane in [committing(), doubtful(), unsaved()] {
            let before = lane.clone();
            lane.undone();
            lane.refused_are_kept();
            assert_eq!(lane, before);
        }
    }

    #[test]
    fn a_commit_in_doubt_is_decided_by_the_number_that_the_sink_has() {
        let mut lane = doubtful();
        assert!(lane.is_doubtful());
        assert_eq!(lane.claim().held, Some(3));
        assert_eq!(lane.reclaimed(state(4, 5, b"e")).unwrap(), Reclaimed::Durable(5));
        assert_eq!(*lane.state(), state(4, 5, b"e"));
        assert_eq!(lane.take_acknowledgeable(), None);
        lane.saved().unwrap();
        assert_eq!(lane.take_acknowledgeable(), Some(Cursor(b"e".to_vec())));

        let mut lane = doubtful();
        assert_eq!(lane.reclaimed(state(4, 4, b"d")).unwrap(), Reclaimed::Again);
        assert_eq!(lane.take_acknowledgeable(), None);
        lane.begin().unwrap();
        lane.refused_are_kept();
        let again = lane.checkpoint(Cursor(b"e".to_vec()), false, 7).unwrap();
        assert_eq!((again.epoch, again.seq), (4, 4));
    }

    #[test]
    fn a_lane_that_fits_no_outcome_stays_in_doubt() {
        let with = |seq: u64, cursor: &[u8], done: bool| LaneState {
            done,
            ..state(4, seq, cursor)
        };
        for (found, code) in [
            (with(3, b"c", false), "run.lane_moved"),
            (with(6, b"f", false), "run.lane_moved"),
            (with(0, b"", false), "run.lane_moved"),
            (with(5, b"x", false), "run.lane_moved"),
            (with(5, b"e", true), "run.lane_moved"),
            // Without a new epoch the commit may still be on its way.
            (state(3, 4, b"d"), "run.commit_unknown"),
            (LaneState::unknown(id()), "run.commit_unknown"),
            (LaneState::unknown(LaneId::default()), "run.lane_moved"),
            (
                LaneState {
                    lane: LaneId::default(),
                    ..state(4, 4, b"d")
                },
                "run.wrong_lane",
            ),
        ] {
            let mut lane = doubtful();
            let error = lane.reclaimed(found).unwrap_err();
            assert_eq!(error.code, code, "{error}");
            assert_eq!(lane, doubtful());
        }
        let mut lane = committing();
        assert_eq!(
            lane.answered(Committed::Committed { seq: 6 }).unwrap_err().code,
            "run.lane_moved"
        );
        assert_eq!(lane, committing());
    }

    #[test]
    fn fenced_is_for_ever() {
        let mut told = committing();
        assert_eq!(told.answered(Committed::Fenced).unwrap(), Answer::Fenced);
        let mut saved = unsaved();
        saved.saved().unwrap();
        saved.fenced();
        let mut open = ready();
        open.fenced();
        for mut lane in [told, saved, open] {
            lane.undone();
            lane.refused_are_kept();
            assert_eq!(refusals(&lane).len(), 7, "{lane:?}");
            // What the source may let go of is for the other run to say.
            assert_eq!(lane.take_acknowledgeable(), None);
            assert_eq!(lane.claim().held, Some(3));
        }
    }

    #[test]
    fn a_held_lane_is_renewed_as_it_was_or_begun_anew() {
        let mut lane = held();
        assert_eq!(
            (lane.claim().held, lane.claim().begun_by.as_str()),
            (Some(3), "run")
        );
        lane.renewed(state(4, 4, b"d")).unwrap();
        assert_eq!(*lane.state(), state(4, 4, b"d"));

        let claim = lane.claim_anew("other");
        assert_eq!((claim.held, claim.begun_by.as_str()), (Some(4), "other"));
        let anew = LaneState {
            begun_by: "other".to_owned(),
            ..state(5, 0, b"")
        };
        lane.renewed(anew.clone()).unwrap();
        assert_eq!((lane.state(), lane.claim().begun_by.as_str()), (&anew, "other"));

        for moved in [
            state(6, 1, b"a"),
            state(6, 3, b"d"),
            state(6, 4, b"x"),
            state(6, 0, b""),
        ] {
            let mut lane = held();
            assert_eq!(lane.renewed(moved).unwrap_err().code, "run.lane_moved");
            assert_eq!(lane, held());
        }
    }

    #[test]
    fn whose_run_it_is_comes_from_the_sink_if_no_one_is_named() {
        let mut lane = Lane::new(id(), "");
        assert_eq!(lane.claim().begun_by, "");
        lane.claimed(state(3, 4, b"d")).unwrap();
        assert_eq!(lane.claim().begun_by, "run");
        let mut lane = Lane::new(id(), "run");
        let error = lane.claimed(LaneState::unknown(LaneId::default())).unwrap_err();
        assert_eq!(error.code, "run.wrong_lane");
        assert_eq!(lane, Lane::new(id(), "run"));
    }
}
