//! The session over which lanes are claimed and the run's own lane is committed: tried again as a transaction is, over another session if
//! need be.
//!
//! A checkpoint whose answer was lost is not sent again before its lane has said that it was not made. Neighbour: the rest of
//! `lanes`, which says what is claimed.

use std::time::Duration;

use whimbrel_plugin_api::sink::{LaneClaim, LaneState};
use whimbrel_plugin_api::{Cursor, Error, ErrorKind, ErrorScope};

use crate::checkpoint::{Answer, Lane, Reclaimed};
use crate::config::Job;
use crate::events::Failure;
use crate::loader::observe::OpenedSink;
use crate::phases::copying::Scene;
use crate::pipeline::writer::Reopen;
use crate::pipeline::{backoff, commit_meaning, is_passing};

/// See the module.
pub(in crate::phases) struct Holder<'a> {
    pub(in crate::phases) sink: &'a mut OpenedSink,
    pub(in crate::phases) reopen: &'a Reopen,
}

impl Holder<'_> {
    pub(super) fn take_over(
        &mut self,
        scene: &Scene<'_>,
        claims: &[LaneClaim],
    ) -> Result<Vec<LaneState>, Failure> {
        self.persist(scene, |sink| sink.take_over(claims))
    }

    /// Does `call`, again over another session if need be, as often as a transaction is tried; waits for a repair if it needs one.
    pub(super) fn persist<T>(
        &mut self,
        scene: &Scene<'_>,
        mut call: impl FnMut(&mut OpenedSink) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let reopen = self.reopen;
        let mut is_spoilt = false;
        let mut attempt = || {
            if is_spoilt {
                *self.sink = reopen()?;
                is_spoilt = false;
            }
            call(self.sink).inspect_err(|failure| is_spoilt = failure.error.scope == ErrorScope::Session)
        };
        let mut tries = 0;
        loop {
            let failure = match scene.pause.around(&mut attempt) {
                Ok(done) => return Ok(done),
                Err(failure) => failure,
            };
            tries += 1;
            // A pause that was given up is not begun again.
            let is_final = scene.pause.is_for(&failure) || !is_passing(&failure);
            if tries > scene.job.import.max_retries || is_final {
                return Err(failure);
            }
            if scene.stop.wait(retry_delay(scene.job, tries, &failure)) {
                return Err(failure);
            }
        }
    }

    /// Makes a checkpoint without records durable.
    pub(super) fn commit(
        &mut self,
        scene: &Scene<'_>,
        lane: &mut Lane,
        cursor: Cursor,
        done: bool,
    ) -> Result<(), Failure> {
        let reopen = self.reopen;
        self.persist(scene, |sink| {
            // An earlier try lost its answer, and the lane could not be asked then.
            if lane.is_doubtful() && find_out(sink, lane)? {
                return Ok(lane.saved()?);
            }
            lane.begin()?;
            lane.refused_are_kept();
            let checkpoint = lane.checkpoint(cursor.clone(), done, 0)?;
            let sent = sink.begin(lane.id()).and_then(|()| sink.commit(&checkpoint));
            let answer = lane.answered(match &sent {
                Ok(outcome) => *outcome,
                Err(failure) => commit_meaning(failure),
            })?;
            match answer {
                Answer::Durable(_) => return Ok(lane.saved()?),
                Answer::Fenced => return Err(sent.err().unwrap_or_else(|| Error::fenced().into())),
                Answer::Again => drop(sink.abort()),
                Answer::Doubtful
                    if sent
                        .as_ref()
                        .is_err_and(|failure| !failure.error.kind.is_transient()) => {}
                Answer::Doubtful => {
                    *sink = reopen().map_err(|failure| scoped(failure, ErrorScope::Session))?;
                    if find_out(sink, lane)? {
                        return Ok(lane.saved()?);
                    }
                }
            }
            let failure = sent.err().unwrap_or_else(|| not_committed().into());
            Err(scoped(failure, ErrorScope::Transaction))
        })
    }
}

/// Whether a commit whose answer was lost was made, as its lane says.
fn find_out(sink: &mut OpenedSink, lane: &mut Lane) -> Result<bool, Failure> {
    let states = sink
        .take_over(&[lane.claim()])
        .map_err(|failure| scoped(failure, ErrorScope::Session))?;
    Ok(matches!(lane.reclaimed(one(states)?)?, Reclaimed::Durable(_)))
}

/// `failure`, after which so much is not to be used any more.
fn scoped(mut failure: Failure, scope: ErrorScope) -> Failure {
    failure.error.scope = scope;
    failure
}

fn retry_delay(job: &Job, tries: u32, failure: &Failure) -> Duration {
    backoff(Duration::from_millis(job.import.retry_delay_ms), tries, failure)
}

pub(in crate::phases) fn one(states: Vec<LaneState>) -> Result<LaneState, Error> {
    states
        .into_iter()
        .next()
        .ok_or_else(|| Error::internal("the sink was asked for a lane and answers none"))
}

fn not_committed() -> Error {
    Error::new(
        ErrorKind::Unavailable,
        "run.not_committed",
        "the sink did not commit the checkpoint of the run",
    )
}
