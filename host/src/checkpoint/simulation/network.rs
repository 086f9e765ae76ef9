//! The calls to the sink on their way: answered, lost, late, or come twice.
//!
//! A call that is on its way stays so when its caller ends or gives up, and is carried out all the same, be it after others have
//! taken over.

use std::collections::BTreeMap;

use whimbrel_plugin_api::Error;
use whimbrel_plugin_api::sink::{Committed, LaneClaim, LaneState};

use super::systems::{Commit, ProcessId, Sink, Violation};

/// Of a hundred calls that meet a fault, how many meet which one; the rest is lost on its way.
const FAULTS: [(Fate, u32); 5] = [
    (Fate::AnswerLost, 25),
    (Fate::LateAndGivenUp, 25),
    (Fate::Late, 15),
    (Fate::Twice, 10),
    (Fate::NotDone, 10),
];

/// What is asked of the sink.
#[derive(Debug, Clone)]
pub(super) enum Request {
    TakeOver(ProcessId, Vec<LaneClaim>),
    Commit(Box<Commit>),
}

/// What the caller hears.
#[derive(Debug, Clone)]
pub(super) enum Answer {
    Granted(Vec<LaneState>),
    Refused(Error),
    Committed(Committed),
    /// Nothing, and no more will come.
    Lost,
}

/// What becomes of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Answered,
    RequestLost,
    AnswerLost,
    /// Carried out later; the caller waits.
    Late,
    /// Carried out later, when the caller has given up.
    LateAndGivenUp,
    /// Carried out at once and once more later.
    Twice,
    /// The sink says that it did nothing, truthfully.
    NotDone,
}

/// The number of a call.
pub(super) type CallId = u64;

/// See the module.
#[derive(Default)]
pub(super) struct Network {
    /// Of a hundred calls, how many meet a fault.
    pub(super) faults: u32,
    next: CallId,
    on_their_way: Vec<(Request, Option<CallId>)>,
    answers: BTreeMap<CallId, Answer>,
}

impl Network {
    pub(super) fn new(faults: u32) -> Self {
        Self {
            faults,
            ..Self::default()
        }
    }

    /// Sends a request; its answer comes by the number.
    pub(super) fn send(
        &mut self,
        sink: &mut Sink,
        random: &mut fastrand::Rng,
        request: Request,
    ) -> Result<(CallId, String), Violation> {
        self.next += 1;
        let id = self.next;
        let fate = self.fate(random);
        match fate {
            Fate::RequestLost => drop(self.answers.insert(id, Answer::Lost)),
            Fate::Late => self.on_their_way.push((request, Some(id))),
            Fate::LateAndGivenUp => {
                self.on_their_way.push((request, None));
                self.answers.insert(id, Answer::Lost);
            }
            Fate::NotDone if matches!(request, Request::Commit(_)) => {
                self.answers
                    .insert(id, Answer::Committed(Committed::NotCommitted));
            }
            Fate::NotDone => drop(self.answers.insert(id, Answer::Lost)),
            Fate::Answered | Fate::AnswerLost | Fate::Twice => {
                let answer = carry_out(sink, &request)?;
                let heard = if fate == Fate::AnswerLost {
                    Answer::Lost
                } else {
                    answer
                };
                self.answers.insert(id, heard);
                if fate == Fate::Twice {
                    self.on_their_way.push((request, None));
                }
            }
        }
        Ok((id, format!("{fate:?}")))
    }

    fn fate(&self, random: &mut fastrand::Rng) -> Fate {
        if random.u32(0..100) >= self.faults {
            return Fate::Answered;
        }
        let mut number = random.u32(0..100);
        for (fate, share) in FAULTS {
            if number < share {
                return fate;
            }
            number -= share;
        }
        Fate::RequestLost
    }

    /// The answer to a call, once it is there.
    pub(super) fn answer(&mut self, id: CallId) -> Option<Answer> {
        self.answers.remove(&id)
    }

    /// Calls that are on their way.
    pub(super) fn on_their_way(&self) -> usize {
        self.on_their_way.len()
    }

    /// One of them arrives.
    pub(super) fn arrive(&mut self, sink: &mut Sink, number: usize) -> Result<String, Violation> {
        let (request, id) = self.on_their_way.swap_remove(number);
        let answer = carry_out(sink, &request)?;
        let text = format!("late: {} -> {}", described(&request), heard(&answer));
        if let Some(id) = id {
            self.answers.insert(id, answer);
        }
        Ok(text)
    }
}

fn carry_out(sink: &mut Sink, request: &Request) -> Result<Answer, Violation> {
    Ok(match request {
        Request::TakeOver(process, claims) => match sink.take_over(*process, claims) {
            Ok(granted) => Answer::Granted(granted),
            Err(error) => Answer::Refused(error),
        },
        Request::Commit(commit) => Answer::Committed(sink.commit(commit)?),
    })
}

/// A request in a few words.
pub(super) fn described(request: &Request) -> String {
    match request {
        Request::TakeOver(process, claims) => {
            let claim = |claim: &LaneClaim| {
                let held = claim.held.map(|held| format!(" held {held}")).unwrap_or_default();
                format!("{:?} by `{}`{held}", claim.lane.partition.0, claim.begun_by)
            };
            let claims: Vec<String> = claims.iter().map(claim).collect();
            format!("process {process} takes over {}", claims.join(", "))
        }
        Request::Commit(commit) => {
            let of = &commit.checkpoint;
            format!(
                "process {} commits {:?} epoch {} seq {} cursor {:?}{} rows {:?}",
                commit.process,
                of.lane.partition.0,
                of.epoch as i64,
                of.seq as i64,
                of.cursor.0.first(),
                if of.done { " done" } else { "" },
                commit.rows
            )
        }
    }
}

/// An answer in a few words.
pub(super) fn heard(answer: &Answer) -> String {
    match answer {
        Answer::Granted(states) => {
            let state = |state: &LaneState| format!("epoch {} seq {}", state.epoch, state.seq);
            let states: Vec<String> = states.iter().map(state).collect();
            format!("granted {}", states.join(", "))
        }
        Answer::Refused(error) => format!("refused {}", error.code),
        Answer::Committed(committed) => format!("{committed:?}"),
        Answer::Lost => "nothing".to_owned(),
    }
}
