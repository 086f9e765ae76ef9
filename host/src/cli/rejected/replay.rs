//! `whimbrel rejected replay`: sends rejected records again, as they were or as they were corrected.
//!
//! Here: which records, which job, and what is said at the end. Neighbours: `replaying` is the run that sends them, `selection` chooses.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use serde::Serialize;
use whimbrel_plugin_api::Error;

use super::OfRun;
use super::made::Made;
use super::replaying::{Replaying, Rounds, TITLE};
use super::selection::SelectionArgs;
use crate::cli::event_output::EventOutput;
use crate::cli::job_flags::JobFlags;
use crate::cli::kept_flags::KeptFlags;
use crate::cli::output::{print, print_aside, print_json};
use crate::cli::remembered::{PlaceArgs, Remembered};
use crate::cli::tasks::{prepare, refuse};
use crate::cli::{Exit, Global, JobArgs};
use crate::config::{LoadedJob, render};
use crate::events::{Failure, RefusedAgain};
use crate::report::figures::{count, counted, printable};
use crate::state::{RunId, RunRecord, SqliteStore, StateStore};

/// Records that are listed with the reason why they were refused again.
const SHOWN_MAX: usize = 50;

/// Which ones, and where to.
#[derive(Args)]
pub struct ReplayArgs {
    #[command(flatten)]
    selection: SelectionArgs,
    #[command(flatten)]
    run: OfRun,
    /// The job file, if it is not where it was.
    #[arg(long, value_name = "JOB")]
    job: Option<PathBuf>,
    #[command(flatten)]
    flags: JobFlags,
}

/// Sends them again.
pub fn replay(global: &Global, args: &ReplayArgs) -> Exit {
    match begin(args) {
        Ok(begun) => send(global, args, begun),
        Err(error) => refuse(global, TITLE, None, &[error]),
    }
}

/// What is known before the job is loaded.
struct Begun {
    run: RunRecord,
    numbers: Vec<u64>,
    job: JobArgs,
    store: Arc<dyn StateStore>,
    made: Made,
}

fn begin(args: &ReplayArgs) -> Result<Begun, Error> {
    let remembered = Remembered::open(&PlaceArgs {
        working_dir: args.flags.working_dir.clone(),
    })?;
    let run = args.run.find(&remembered)?;
    let numbers = args.selection.find(remembered.store()?, &run.id)?;
    let made = Made::of(&remembered, &run)?;
    // The job is what it was for the run, and flags that are given here come first.
    let kept = KeptFlags::of_json(&run.overrides)?;
    let mut flags = args.flags.clone().over(kept.flags.clone());
    if let Some(name) = kept.missing(&flags).first() {
        let message = format!(
            "the value that run `{}` had for the parameter `{name}` is not kept",
            run.id
        );
        return Err(Error::config("rejected.value_needed", message)
            .with_help(format!("give it again: `--set {name}=VALUE`")));
    }
    let root = remembered.workspace.root();
    flags.working_dir = Some(std::path::absolute(root).unwrap_or_else(|_| root.to_owned()));
    let store = SqliteStore::open(&remembered.workspace.state_db())?;
    Ok(Begun {
        numbers,
        job: JobArgs {
            job: args.job.clone().unwrap_or_else(|| run.job.path.clone()),
            flags,
            events: None,
            events_file: None,
        },
        store: Arc::new(store),
        made,
        run,
    })
}

fn send(global: &Global, args: &ReplayArgs, begun: Begun) -> Exit {
    let Begun {
        run,
        numbers,
        job,
        store,
        made,
    } = begun;
    let prepared = match prepare(global, &job, TITLE, |loaded| is_of(loaded, &run)) {
        Ok(prepared) => prepared,
        Err(exit) => return exit,
    };
    let begun = Replaying::begin(&run, &prepared.loaded, store, made)
        .and_then(|replaying| EventOutput::create(&job).map(|events| (replaying, events)));
    let (mut replaying, events) = match begun {
        Ok(begun) => begun,
        Err(error) => return refuse(global, TITLE, Some(&prepared.loaded), &[error]),
    };
    let ended = replaying.rounds(global, prepared, events, &numbers);
    let exit = replaying.finish(&ended);
    say(global, args, &replaying, ended, exit)
}

fn is_of(loaded: &LoadedJob, run: &RunRecord) -> Result<(), Error> {
    if loaded.job.name == run.job.name {
        return Ok(());
    }
    let message = format!(
        "job file `{}` is job `{}`, and the records were refused by a run of job `{}`",
        loaded.path.display(),
        loaded.job.name,
        run.job.name
    );
    Err(Error::config("rejected.other_job", message).with_help("name the file of that job with `--job`"))
}

/// Says what became of the records.
fn say(
    global: &Global,
    args: &ReplayArgs,
    replaying: &Replaying,
    ended: Rounds,
    exit: Result<Exit, Error>,
) -> Exit {
    let mut failures = match ended {
        Rounds::Done => Vec::new(),
        // It has been said already.
        Rounds::Ended { exit, failures, .. } if failures.is_empty() => return exit,
        Rounds::Ended { failures, .. } => failures,
    };
    let exit = exit.unwrap_or_else(|error| {
        if !failures.iter().any(|known| known.error.code == error.code) {
            failures.push(error.into());
        }
        Exit::Environment
    });
    if global.json {
        print_json(&ReplayJson {
            command: TITLE,
            outcome: if failures.is_empty() { "done" } else { "failed" },
            exit_code: exit.number(),
            run: &replaying.refused_by,
            replay_run: &replaying.id,
            job: &replaying.job,
            taken_count: replaying.taken,
            refused_count: replaying.refused.len() as u64,
            refused: &replaying.refused[..replaying.refused.len().min(SHOWN_MAX)],
            errors: &failures,
        });
        return exit;
    }
    print(&text(args, replaying));
    for failure in &failures {
        print_aside(&render(std::slice::from_ref(&failure.error)));
    }
    exit
}

fn text(args: &ReplayArgs, replaying: &Replaying) -> String {
    let whose = format!("of run {} of {}", replaying.refused_by, printable(&replaying.job));
    let chosen = replaying.taken + replaying.refused.len() as u64;
    if chosen == 0 {
        let what = if args.selection.all {
            "none is open"
        } else {
            "none was sent"
        };
        return format!("rejected records {whose}: {what}\n");
    }
    let mut text = format!(
        "rejected records {whose}: {} taken, {} refused again\n",
        count(replaying.taken),
        count(replaying.refused.len() as u64)
    );
    for refused in replaying.refused.iter().take(SHOWN_MAX) {
        text.push_str(&format!(
            "  {}: {} ({})\n",
            refused.number,
            printable(&refused.message),
            printable(&refused.code)
        ));
    }
    if replaying.refused.len() > SHOWN_MAX {
        let what = counted((replaying.refused.len() - SHOWN_MAX) as u64, "further record");
        text.push_str(&format!("  and {what}\n"));
    }
    if !replaying.refused.is_empty() {
        text.push_str("`whimbrel rejected edit NUMBER` corrects a record, `discard` does without it\n");
    }
    text
}

#[derive(Serialize)]
struct ReplayJson<'a> {
    command: &'a str,
    outcome: &'a str,
    exit_code: u8,
    run: &'a RunId,
    replay_run: &'a RunId,
    job: &'a str,
    taken_count: u64,
    refused_count: u64,
    refused: &'a [RefusedAgain],
    errors: &'a [Failure],
}
