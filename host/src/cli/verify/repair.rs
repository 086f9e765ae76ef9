//! `whimbrel verify JOB --repair`: copies again what differs and compares once more. It writes, so it is a run in the state, refused while
//! another one of the job goes on. Neighbours: [`super`] compares without it, `orchestrator::repair` does the work.

use std::io::IsTerminal as _;
use std::sync::Arc;

use whimbrel_plugin_api::Error;

use super::{Compared, Comparing, VerifyArgs, compare, tell};
use crate::cli::confirm::ask;
use crate::cli::event_output::EventOutput;
use crate::cli::made_from::made_from;
use crate::cli::output::print_aside;
use crate::cli::run_record::sha256;
use crate::cli::tasks::{Follower, Prepared, prepare, refuse};
use crate::cli::{Exit, Global};
use crate::config::{Mode, VerificationLevel};
use crate::events::Event;
use crate::report::TaskReport;
use crate::report::figures::count;
use crate::state::{
    JobSeen, NewRun, Process, Recorder, RunEnd, RunId, RunState, SqliteStore, StateStore, open_run,
};
use crate::workspace::Workspace;

/// The command, among the runs and in reports.
const TITLE: &str = "repair";

/// Repairs, once somebody agrees.
pub(super) fn repair(global: &Global, args: &VerifyArgs) -> Exit {
    if !args.yes
        && let Err(exit) = agree(global, args)
    {
        return exit;
    }
    match repaired(global, args) {
        Ok(compared) => tell(global, args, &compared),
        Err(exit) => exit,
    }
}

/// Says what would be done and asks; the exit code if nothing is to be done.
fn agree(global: &Global, args: &VerifyArgs) -> Result<(), Exit> {
    if !std::io::stdin().is_terminal() || !std::io::stderr().is_terminal() {
        // Nobody could answer, so nothing is compared for it.
        return match ask("", "--yes") {
            Err(error) => Err(refuse(global, TITLE, None, &[error])),
            Ok(_) => Err(Exit::Config),
        };
    }
    let compared = compare(global, args, "verify", None)?;
    if compared.exit != Exit::Differences {
        return Err(tell(global, args, &compared));
    }
    match ask(&question(&compared.report), "--yes") {
        Ok(true) => Ok(()),
        Ok(false) => {
            print_aside("nothing was repaired\n");
            Err(compared.exit)
        }
        Err(error) => Err(refuse(global, TITLE, None, &[error])),
    }
}

fn question(report: &TaskReport) -> String {
    let mut question = String::from("differences that would be repaired in the sink:\n");
    let differing = report.summary.verification.iter();
    for result in differing.filter(|result| result.mismatch_count > 0) {
        question.push_str(&format!("  {}: {}\n", result.sink, count(result.mismatch_count)));
    }
    question.push_str("copy again what is missing or differs, and remove what only the sink has?");
    question
}

fn repaired(global: &Global, args: &VerifyArgs) -> Result<Compared, Exit> {
    let prepared = prepare(global, &args.job, TITLE, |loaded| {
        // Only differences that are all known, one by one, can be healed.
        loaded.job.verification = VerificationLevel::Comprehensive;
        Ok(())
    })?;
    let begun = Repairing::begin(&prepared, args)
        .and_then(|begun| EventOutput::create(&args.job).map(|events| (begun, events)));
    let ((mut repairing, comparing), events) =
        begun.map_err(|error| refuse(global, TITLE, Some(&prepared.loaded), &[error]))?;
    let mut options = comparing.options(args, true);
    options.made_from = made_from(&prepared);
    let ended = comparing.execute(
        global,
        TITLE,
        args,
        prepared,
        options,
        events,
        Some(&mut repairing),
    );
    match ended {
        Ok(mut compared) => {
            if let Err(error) = repairing.finish(end_of(&compared)) {
                compared.report.errors.push(error.into());
                if compared.exit == Exit::Done {
                    compared.exit = Exit::Environment;
                    compared.report.exit_code = compared.exit.number();
                }
            }
            Ok(compared)
        }
        Err(exit) => {
            // It was said already why nothing was done.
            drop(repairing.finish(RunEnd::new(RunState::Refused, exit.number(), None)));
            Err(exit)
        }
    }
}

fn end_of(compared: &Compared) -> RunEnd {
    let state = match compared.report.outcome {
        "done" => RunState::Done,
        "differences" => RunState::Differences,
        "unverified" => RunState::Unverified,
        "refused" => RunState::Refused,
        "cancelled" => RunState::Cancelled,
        "crashed" => RunState::Crashed,
        _ => RunState::Failed,
    };
    let failure = compared.report.errors.first().map(|failure| &failure.error);
    RunEnd::new(state, compared.exit.number(), failure)
}

/// The run that a repair is, for the state.
struct Repairing {
    id: RunId,
    store: Arc<dyn StateStore>,
    recorder: Option<Recorder>,
}

impl Repairing {
    /// Begins it, with the comparison that it is.
    fn begin(prepared: &Prepared, args: &VerifyArgs) -> Result<(Self, Comparing), Error> {
        let loaded = &prepared.loaded;
        let workspace = Workspace::of_job(&loaded.path, Some(&loaded.working_dir));
        let comparing = Comparing::begin(prepared, args, None)?;
        let begun = Self::begin_run(prepared, &workspace, &comparing);
        if begun.is_err() {
            // Nothing was compared; an empty folder tells nothing.
            drop(std::fs::remove_dir_all(comparing.folder.folder()));
        }
        Ok((begun?, comparing))
    }

    fn begin_run(prepared: &Prepared, workspace: &Workspace, comparing: &Comparing) -> Result<Self, Error> {
        let loaded = &prepared.loaded;
        let store: Arc<dyn StateStore> = Arc::new(SqliteStore::open(&workspace.state_db())?);
        let seen = JobSeen {
            name: loaded.job.name.clone(),
            path: std::path::absolute(&loaded.path).unwrap_or_else(|_| loaded.path.clone()),
            sha256: sha256(&loaded.path),
        };
        let mode = match loaded.job.mode {
            Mode::Full => "full",
            Mode::Test => "test",
        };
        let id = comparing.id.clone();
        let folder = comparing.folder.folder();
        let folder = std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned());
        let new = NewRun::of_this_process(id.clone(), seen, TITLE, mode, folder, true);
        let guard = open_run(&store, &new)?;
        Ok(Self {
            id,
            store,
            recorder: Some(Recorder::start(guard)?),
        })
    }

    fn finish(mut self, end: RunEnd) -> Result<(), Error> {
        match self.recorder.take() {
            Some(recorder) => recorder.finish(end),
            None => Ok(()),
        }
    }
}

impl Follower for Repairing {
    fn follow(&mut self, event: &Event) -> Result<(), Error> {
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
