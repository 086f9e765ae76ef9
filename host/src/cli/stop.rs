//! `whimbrel stop [RUN]`: ends a run from outside, from any terminal of its host.
//!
//! Asking is a signal to the process that supervises the run: it commits what is open and ends. In an emergency whoever does not heed
//! that is killed, whatever hangs, and the end is written down here if nobody else is left to do so. Only the very processes that
//! were written down are signalled. Neighbour: `supervisor`, which heeds the signal.

use std::time::{Duration, Instant};

use clap::Args;
use rustix::process::Signal;
use serde::Serialize;
use whimbrel_plugin_api::{Error, ErrorKind};

use super::output::{print, print_aside, print_json};
use super::remembered::{PlaceArgs, Remembered};
use super::resumable;
use super::tasks::refuse;
use super::{Exit, Global};
use crate::config::render;
use crate::events::Failure;
use crate::report::figures::{count, printable, seconds};
use crate::state::{Liveness, Process, RunEnd, RunRecord, RunState, started_by};
use crate::status::write_stopped;

/// A run that is asked to end has this long, unless the command line says otherwise: ten seconds to commit what is open, ten
/// to tell people, and some to write its reports.
const TIMEOUT_SECS: u64 = 30;
/// In an emergency a run that was asked to end has so long before its worker is killed: commits that go well take less, and what hangs
/// has no use for more.
const ASK_GRACE: Duration = Duration::from_secs(5);
/// So long after the beginning its supervisor is killed, too, which has had time to write down the end of a worker that was killed.
const SUPERVISOR_GRACE: Duration = Duration::from_secs(12);
/// So long after the beginning every writer is gone, or the kernel itself holds it.
const EMERGENCY_MAX: Duration = Duration::from_secs(15);
/// How often it is looked at whether a run has ended; nobody tells of that across processes.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);
/// Runs that are looked through for the one that goes on.
const RUNNING_MAX: u32 = 10_000;
/// Runs that are named if several go on.
const NAMED_MAX: usize = 5;
/// The code for a run that was ended from outside before it could write down its end.
const STOPPED: &str = "run.stopped";

/// Which run, and how.
#[derive(Args)]
pub struct StopArgs {
    /// The run, or how its id begins; the one that goes on if none is named.
    #[arg(value_name = "RUN")]
    pub run: Option<String>,
    /// Kill whatever has not ended after 5 s; every writer is gone within 15 s.
    #[arg(long, conflicts_with = "timeout")]
    pub emergency: bool,
    /// Seconds to wait for the end of a run that was asked to end; it goes on ending after that.
    #[arg(long, value_name = "SECS", default_value_t = TIMEOUT_SECS, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub timeout: u64,
    /// Where it is.
    #[command(flatten)]
    pub place: PlaceArgs,
}

/// What had to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum How {
    /// It was asked, and ended by itself.
    Asked,
    /// Its worker was killed, and its supervisor ended by itself.
    WorkerKilled,
    /// Both were killed.
    Killed,
}

impl How {
    fn words(self) -> &'static str {
        match self {
            Self::Asked => "it was asked to end and did",
            Self::WorkerKilled => "its worker did not end by itself and was killed",
            Self::Killed => "it did not end by itself and was killed, worker and supervisor",
        }
    }
}

/// A run that has ended.
#[derive(Serialize)]
struct Stopped {
    command: &'static str,
    how: How,
    seconds: f64,
    /// The command that goes on with it, if it can be gone on with.
    #[serde(skip_serializing_if = "Option::is_none")]
    resume: Option<String>,
    run: RunRecord,
}

/// A run that has not ended, or cannot be ended.
#[derive(Serialize)]
struct NotStopped<'a> {
    command: &'static str,
    outcome: &'static str,
    exit_code: u8,
    errors: &'a [Error],
}

/// Ends it.
pub fn stop(global: &Global, args: &StopArgs) -> Exit {
    let found = Remembered::open(&args.place)
        .and_then(|remembered| find(&remembered, args.run.as_deref()).map(|run| (remembered, run)));
    let (remembered, run) = match found {
        Ok(found) => found,
        Err(error) => return refuse(global, "stop", None, &[error]),
    };
    match end(&remembered, run, args) {
        Ok(stopped) => {
            if global.json {
                print_json(&stopped);
            } else {
                print(&text(&stopped));
            }
            Exit::Done
        }
        Err(error) => {
            let errors = [error];
            if global.json {
                print_json(&NotStopped {
                    command: "stop",
                    outcome: "failed",
                    exit_code: Exit::Failed.number(),
                    errors: &errors,
                });
            } else {
                print_aside(&render(&errors));
            }
            Exit::Failed
        }
    }
}

/// The run that is meant, which goes on and can be ended from here.
fn find(remembered: &Remembered, named: Option<&str>) -> Result<RunRecord, Error> {
    let run = match named {
        Some(named) => remembered.run(Some(named))?,
        None => the_one(remembered.runs(None, Some(RunState::Running), RUNNING_MAX)?)?,
    };
    if run.state != RunState::Running {
        let message = format!("run `{}` does not go on: it is {}", run.id, run.state.name());
        return Err(Error::not_found("run.not_running", message).with_help(format!(
            "nothing was done; `whimbrel status {}` says how it ended",
            run.id
        )));
    }
    if run.holder.liveness() == Liveness::Unknown {
        let message = format!(
            "run `{}` is held by process {} on `{}`, which cannot be reached from here",
            run.id, run.holder.pid, run.holder.host
        );
        let help = "stop it on that host, in the container in which it was started";
        return Err(Error::config("run.elsewhere", message).with_help(help));
    }
    Ok(run)
}

fn the_one(mut running: Vec<RunRecord>) -> Result<RunRecord, Error> {
    match (running.pop(), running.len()) {
        (Some(run), 0) => Ok(run),
        (Some(run), _) => {
            running.push(run);
            let named = running.iter().take(NAMED_MAX);
            let named: Vec<String> = named
                .map(|run| format!("`{}` of job `{}`", run.id, run.job.name))
                .collect();
            Err(
                Error::config("run.ambiguous", format!("{} runs go on", running.len()))
                    .with_help(format!("name one of them: {}", named.join(", "))),
            )
        }
        (None, _) => Err(Error::not_found("run.none_running", "no run goes on")
            .with_help("the working folder of another job is named with `--working-dir`")),
    }
}

/// A run that is being ended.
struct Ending<'a> {
    remembered: &'a Remembered,
    run: RunRecord,
    begun: Instant,
}

fn end(remembered: &Remembered, run: RunRecord, args: &StopArgs) -> Result<Stopped, Error> {
    let mut ending = Ending {
        remembered,
        run,
        begun: Instant::now(),
    };
    let how = if args.emergency {
        ending.at_once()?
    } else {
        ending.in_good_order(Duration::from_secs(args.timeout))?
    };
    ending.write_down(how)?;
    Ok(Stopped {
        command: "stop",
        how,
        seconds: ending.begun.elapsed().as_secs_f64(),
        resume: resume(remembered, &ending.run)?,
        run: ending.run,
    })
}

/// The command that goes on with a run that has ended, if that can be gone on with. `whimbrel status` says the same.
fn resume(remembered: &Remembered, run: &RunRecord) -> Result<Option<String>, Error> {
    let can_be_resumed = run.can_be_resumed() && resumable::all(remembered)?.contains(&run.id);
    Ok(can_be_resumed.then(|| resumable::command(&remembered.workspace, &run.id)))
}

impl Ending<'_> {
    /// Asks it to end and waits for that.
    fn in_good_order(&mut self, timeout: Duration) -> Result<How, Error> {
        self.signal(&self.run.holder, Signal::TERM)?;
        if self.is_gone_by(self.begun + timeout, |_| Ok(()))? {
            return Ok(How::Asked);
        }
        let message = format!(
            "run `{}` was asked to end and has not ended within {} s",
            self.run.id,
            timeout.as_secs()
        );
        let help = format!(
            "it may still do so; `whimbrel stop {} --emergency` does not wait for that",
            self.run.id
        );
        Err(Error::new(ErrorKind::Timeout, "run.still_running", message).with_help(help))
    }

    /// Asks it to end, and kills who does not.
    fn at_once(&mut self) -> Result<How, Error> {
        self.signal(&self.run.holder, Signal::TERM)?;
        if self.is_gone_by(self.begun + ASK_GRACE, |_| Ok(()))? {
            return Ok(How::Asked);
        }
        // One that was started in the meantime is killed as well.
        let kill_worker = |ending: &Self| match &ending.run.worker {
            Some(worker) => ending.signal(worker, Signal::KILL),
            None => Ok(()),
        };
        if self.is_gone_by(self.begun + SUPERVISOR_GRACE, kill_worker)? {
            return Ok(How::WorkerKilled);
        }
        self.signal(&self.run.holder, Signal::KILL)?;
        if self.is_gone_by(self.begun + EMERGENCY_MAX, kill_worker)? {
            return Ok(How::Killed);
        }
        let message = format!(
            "run `{}` was killed and its processes have not ended within {} s",
            self.run.id,
            EMERGENCY_MAX.as_secs()
        );
        let help =
            "they wait in the kernel, as for a disk or a file system of the network that does not answer";
        Err(Error::new(ErrorKind::Timeout, "run.still_running", message).with_help(help))
    }

    /// Waits until none of its processes is there, or `deadline`; does something each time before it waits.
    fn is_gone_by(
        &mut self,
        deadline: Instant,
        each_time: impl Fn(&Self) -> Result<(), Error>,
    ) -> Result<bool, Error> {
        loop {
            self.run = self.remembered.run(Some(self.run.id.as_str()))?;
            let lives = |process: &Process| process.liveness() == Liveness::Alive;
            if !lives(&self.run.holder) && !self.run.worker.as_ref().is_some_and(lives) {
                return Ok(true);
            }
            each_time(self)?;
            if Instant::now() >= deadline {
                return Ok(false);
            }
            std::thread::sleep(LOOK_INTERVAL);
        }
    }

    /// Signals a process of the run, if it is there.
    fn signal(&self, process: &Process, signal: Signal) -> Result<(), Error> {
        process.signal(signal).map(drop).map_err(|error| {
            let message = format!(
                "process {} of run `{}` could not be signalled",
                process.pid, self.run.id
            );
            Error::new(ErrorKind::Permission, "run.signal", message)
                .with_help(format!("the run was started by `{}`", self.run.started_by))
                .with_cause(&std::io::Error::from(error))
        })
    }

    /// Writes down the end of a run that could not do so itself, in the state and in the files of its folder.
    fn write_down(&mut self, how: How) -> Result<(), Error> {
        // Read once more: the last words of the supervisor come before its end.
        self.run = self.remembered.run(Some(self.run.id.as_str()))?;
        let has_no_end = self.run.state == RunState::Crashed && self.run.ended_at.is_none();
        // One that was replaced keeps that as its reason.
        if !has_no_end || self.run.failure.is_some() {
            return Ok(());
        }
        let signal = match how {
            How::Asked => Signal::TERM,
            How::WorkerKilled | How::Killed => Signal::KILL,
        };
        let exit = Exit::Signal(signal.as_raw());
        let message = format!(
            "the run was stopped by `{}` and could not write down its end",
            started_by()
        );
        let mut error = Error::new(ErrorKind::Cancelled, STOPPED, message);
        if let Some(command) = resume(self.remembered, &self.run)? {
            error = error.with_help(format!("go on with `{command}`"));
        }
        let end = RunEnd::new(RunState::Cancelled, exit.number(), Some(&error));
        self.remembered.store()?.end_run(&self.run.id, &end)?;
        let folder = self.remembered.workspace.run(self.run.id.as_str())?;
        write_stopped(&folder, &Failure::from(error), &self.run.plugins, exit.number())?;
        self.run = self.remembered.run(Some(self.run.id.as_str()))?;
        Ok(())
    }
}

fn text(stopped: &Stopped) -> String {
    let run = &stopped.run;
    let mut text = format!(
        "run {} of {}: {} after {}; {}\n  {} records written, {} rejected\n",
        run.id,
        printable(&run.job.name),
        run.state.name(),
        seconds(stopped.seconds),
        stopped.how.words(),
        count(run.counts.written_count),
        count(run.counts.rejected_count),
    );
    if let Some(failure) = &run.failure {
        text.push_str(&format!(
            "  {} [{}]\n",
            printable(&failure.message),
            printable(&failure.code)
        ));
    }
    if let Some(resume) = &stopped.resume {
        text.push_str(&format!("  go on with `{}`\n", printable(resume)));
    }
    text
}
