//! A replay while it goes on: a run of its own, in rounds of records that one worker gets at a time.
//!
//! What the sink has taken is written down as the worker says so, before its next transaction. Neighbour: `replay`, the command.

use std::sync::Arc;

use whimbrel_plugin_api::Error;

use super::made::{Made, NOT_COMMITTED};
use super::members::Members;
use super::selection::record;
use crate::cli::event_output::EventOutput;
use crate::cli::output::print_aside;
use crate::cli::tasks::{Executed, Follower, Prepared, execute, report_of};
use crate::cli::{Exit, Global};
use crate::config::{LoadedJob, Mode};
use crate::events::{Event, Failure, Outcome, RefusedAgain};
use crate::orchestrator::{ReplayOptions, ReplayRecord, RunOptions};
use crate::phases::replaying::UNFIT;
use crate::report;
use crate::state::{
    JobSeen, NewRun, Process, Recorder, RejectedChange, RunEnd, RunId, RunRecord, RunState, StateStore,
    open_run,
};
use crate::supervisor::{Ended, TaskKind};

/// The command, among the runs and in reports.
pub(super) const TITLE: &str = "replay";
/// Records that one worker gets, and octets of their data: both pass a pipe and wait in memory.
const ROUND_RECORDS_MAX: usize = 10_000;
const ROUND_BYTES_MAX: usize = 64 * 1024 * 1024;

/// How the rounds ended.
pub(super) enum Rounds {
    /// All of them were done.
    Done,
    /// One of them ended early; what there was to say has been said if there is no failure.
    Ended {
        exit: Exit,
        end: RunEnd,
        failures: Vec<Failure>,
    },
}

/// A replay while it goes on.
pub(super) struct Replaying {
    pub(super) id: RunId,
    pub(super) refused_by: RunId,
    pub(super) job: String,
    store: Arc<dyn StateStore>,
    made: Made,
    recorder: Option<Recorder>,
    pub(super) taken: u64,
    pub(super) refused: Vec<RefusedAgain>,
}

impl Replaying {
    pub(super) fn begin(
        run: &RunRecord,
        loaded: &LoadedJob,
        store: Arc<dyn StateStore>,
        made: Made,
    ) -> Result<Self, Error> {
        let id = RunId::new();
        let mode = match loaded.job.mode {
            Mode::Full => "full",
            Mode::Test => "test",
        };
        let seen = JobSeen {
            path: std::path::absolute(&loaded.path).unwrap_or_else(|_| loaded.path.clone()),
            ..run.job.clone()
        };
        let new = NewRun::of_this_process(id.clone(), seen, TITLE, mode, run.folder.clone(), true);
        let guard = open_run(&store, &new)?;
        Ok(Self {
            id,
            refused_by: run.id.clone(),
            job: run.job.name.clone(),
            store,
            made,
            recorder: Some(Recorder::start(guard)?),
            taken: 0,
            refused: Vec::new(),
        })
    }

    pub(super) fn rounds(
        &mut self,
        global: &Global,
        prepared: Prepared,
        mut events: EventOutput,
        numbers: &[u64],
    ) -> Rounds {
        let Prepared {
            mut loaded,
            variables,
            plugins,
            versions,
        } = prepared;
        let mut left = numbers;
        while !left.is_empty() {
            let options = match self.round(&mut left) {
                Ok(options) => options,
                Err(error) => return self.broken(&loaded, error),
            };
            if options.records.is_empty() {
                continue;
            }
            let kind = TaskKind::Replay {
                job: Box::new(loaded.job.clone()),
                options: RunOptions {
                    run_id: self.id.to_string(),
                    replay: Some(options),
                    ..RunOptions::default()
                },
            };
            let prepared = Prepared {
                loaded,
                variables: variables.clone(),
                plugins: plugins.clone(),
                versions: versions.clone(),
            };
            let executed = match execute(global, TITLE, prepared, kind, false, events, vec![self]) {
                Ok(executed) => executed,
                Err(exit) => return said(exit),
            };
            if let Some(ended) = ended(global, &executed) {
                return ended;
            }
            Executed { loaded, events, .. } = executed;
        }
        Rounds::Done
    }

    /// The records of the next round. Those that cannot be sent are told of at once.
    fn round(&mut self, left: &mut &[u64]) -> Result<ReplayOptions, Error> {
        let (mut records, mut bytes) = (Vec::new(), 0);
        let mut left_out = Vec::new();
        while let Some((number, rest)) = left.split_first() {
            if records.len() >= ROUND_RECORDS_MAX || bytes >= ROUND_BYTES_MAX {
                break;
            }
            *left = rest;
            let record = record(&*self.store, &self.refused_by, *number, true)?;
            if record.state.is_settled() {
                continue;
            }
            if let Err(why) = self.made.judge(&record) {
                left_out.push(RefusedAgain {
                    number: *number,
                    code: NOT_COMMITTED.to_owned(),
                    message: why,
                });
                continue;
            }
            let is_edited = record.edited.is_some();
            let data = record.edited.or(record.data).unwrap_or_default();
            if let Err(error) = Members::of(&data) {
                left_out.push(RefusedAgain {
                    number: *number,
                    code: UNFIT.to_owned(),
                    message: if data.is_empty() {
                        "nothing could be read of it".to_owned()
                    } else {
                        error.message
                    },
                });
                continue;
            }
            bytes += data.len();
            records.push(ReplayRecord {
                number: *number,
                collection: record.collection,
                stage: record.stage,
                data,
                is_edited,
            });
        }
        self.refused.extend(left_out);
        Ok(ReplayOptions {
            refused_by: self.refused_by.to_string(),
            records,
        })
    }

    fn broken(&self, loaded: &LoadedJob, error: Error) -> Rounds {
        let error = loaded.secrets.scrub_error(error);
        let exit = Exit::Environment;
        Rounds::Ended {
            exit,
            end: RunEnd::new(RunState::Failed, exit.number(), Some(&error)),
            failures: vec![error.into()],
        }
    }

    /// Ends the run in the state.
    pub(super) fn finish(&mut self, ended: &Rounds) -> Result<Exit, Error> {
        let exit = match ended {
            Rounds::Done if self.refused.is_empty() => Exit::Done,
            Rounds::Done => Exit::Failed,
            Rounds::Ended { exit, .. } => *exit,
        };
        let end = match ended {
            Rounds::Done => RunEnd::new(RunState::Done, exit.number(), None),
            Rounds::Ended { end, .. } => end.clone(),
        };
        match self.recorder.take() {
            Some(recorder) => recorder.finish(end).map(|()| exit),
            None => Ok(exit),
        }
    }
}

/// What was said by whoever ended it.
fn said(exit: Exit) -> Rounds {
    Rounds::Ended {
        exit,
        end: RunEnd::new(RunState::Refused, exit.number(), None),
        failures: Vec::new(),
    }
}

/// How a round ended, unless all of it was done.
fn ended(global: &Global, executed: &Executed) -> Option<Rounds> {
    let Executed {
        supervised, loaded, ..
    } = executed;
    let exit = Exit::of(supervised);
    if let Some(trouble) = &supervised.trouble {
        return Some(Rounds::Ended {
            exit,
            end: RunEnd::new(RunState::Failed, exit.number(), Some(trouble)),
            failures: vec![trouble.clone().into()],
        });
    }
    let end = match &supervised.ended {
        Ended::Outcome(outcome) if matches!(**outcome, Outcome::Done { .. }) => return None,
        Ended::Outcome(outcome) => {
            RunEnd::of_outcome(&loaded.secrets.scrub_all((**outcome).clone()), exit.number())
        }
        Ended::Lost(failure) => {
            RunEnd::of_lost(&loaded.secrets.scrub_all((**failure).clone()), exit.number())
        }
        Ended::Config(_) => RunEnd::new(RunState::Refused, exit.number(), None),
    };
    let failures = match report_of(global, TITLE, executed) {
        Ok((report, _)) => {
            let findings = report::troubles(&report);
            if report.errors.is_empty() && !global.json {
                print_aside(&findings);
            }
            report.errors
        }
        // It has said what is wrong with the job.
        Err(exit) => return Some(said(exit)),
    };
    let failures = if failures.is_empty() {
        vec![Error::cancelled().into()]
    } else {
        failures
    };
    Some(Rounds::Ended { exit, end, failures })
}

impl Follower for Replaying {
    fn follow(&mut self, event: &Event) -> Result<(), Error> {
        if let Event::Replayed {
            taken,
            refused,
            known,
        } = event
        {
            // Of replays that were broken off; what is settled already stays as it is.
            for (refused_by, numbers) in known {
                let run = RunId::parse(refused_by)?;
                let numbers = numbers.iter().copied();
                let changes: Vec<RejectedChange> = numbers
                    .map(|number| RejectedChange::Replayed { number })
                    .collect();
                self.store.change_rejected(&run, &changes)?;
            }
            let replayed = taken
                .iter()
                .map(|number| RejectedChange::Replayed { number: *number });
            // Data that is none of its collection is not why the record was refused.
            let again = refused.iter().filter(|again| again.code != UNFIT);
            let again = again.map(|again| RejectedChange::RefusedAgain {
                number: again.number,
                code: again.code.clone(),
                message: again.message.clone(),
            });
            let changes: Vec<RejectedChange> = replayed.chain(again).collect();
            self.store.change_rejected(&self.refused_by, &changes)?;
            self.taken += taken.len() as u64;
            self.refused.extend(refused.iter().cloned());
        }
        self.recorder
            .as_mut()
            .map_or(Ok(()), |recorder| recorder.observe(event))
    }

    fn make_durable(&mut self) -> Result<(), Error> {
        self.recorder.as_mut().map_or(Ok(()), Recorder::make_durable)
    }

    fn worker_started(&mut self, pid: u32) {
        // The holder is known; the worker only makes a stale run easier to recognise.
        drop(self.store.note_worker(&self.id, &Process::of(pid)));
    }
}
