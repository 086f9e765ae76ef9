//! `whimbrel verify JOB --repair`: copies again what differs and compares once more. It writes, so it is a run in the state, refused while
//! another one of the job goes on. Neighbours: [`super`] compares without it, `orchestrator::repair` does the work.

use std::collections::BTreeMap;
use std::io::IsTerminal as _;

use whimbrel_plugin_api::Error;

use super::{Compared, Comparing, VerifyArgs, compare, tell};
use crate::cli::confirm::ask;
use crate::cli::event_output::EventOutput;
use crate::cli::exclusive_run::{ExclusiveRun, end_of};
use crate::cli::made_from;
use crate::cli::output::print_aside;
use crate::cli::tasks::{Prepared, prepare, refuse};
use crate::cli::{Exit, Global};
use crate::config::VerificationLevel;
use crate::phases::repairing::{Agreed, listed};
use crate::report::figures::count;
use crate::state::{RunEnd, RunState};
use crate::workspace::Workspace;

/// The command, among the runs and in reports.
const TITLE: &str = "repair";

/// Repairs, once somebody agrees.
pub(super) fn repair(global: &Global, args: &VerifyArgs) -> Exit {
    let agreed = match args.yes {
        true => Ok(None),
        false => agree(global, args).map(Some),
    };
    match agreed.and_then(|agreed| repaired(global, args, agreed)) {
        Ok(compared) => tell(global, args, &compared),
        Err(exit) => exit,
    }
}

/// What may be done, by the collection's name in the sink.
type Agreement = BTreeMap<String, Agreed>;

/// Says what would be done and asks; the exit code if nothing is to be done. More than was said is not done.
fn agree(global: &Global, args: &VerifyArgs) -> Result<Agreement, Exit> {
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
    let wanted = wanted(&compared).map_err(|error| refuse(global, TITLE, None, &[error]))?;
    match ask(&question(&wanted), "--yes") {
        Ok(true) => Ok(wanted),
        // Who reads JSON is told what was found, and that is all that was done.
        Ok(false) if global.json || args.job.events.is_some() => Err(tell(global, args, &compared)),
        Ok(false) => {
            print_aside("nothing was repaired\n");
            Err(compared.exit)
        }
        Err(error) => Err(refuse(global, TITLE, None, &[error])),
    }
}

/// What a repair would do by the differences that were found.
fn wanted(compared: &Compared) -> Result<Agreement, Error> {
    let mut wanted = Agreement::new();
    let report = &compared.report;
    for result in &report.summary.verification {
        let Some(file) = &result.mismatches_file else {
            continue;
        };
        let listed = listed(&compared.folder.results().join(file))?;
        let keeps = report.keeps_stored.contains(&result.sink);
        let agreed = Agreed {
            copied_count: listed.to_copy(keeps),
            removed_count: if keeps { 0 } else { listed.extra_count },
        };
        wanted.insert(result.sink.clone(), agreed);
    }
    Ok(wanted)
}

fn question(wanted: &Agreement) -> String {
    let mut question = String::from("records of the sink that a repair would change, at most:\n");
    for (sink, agreed) in wanted {
        let (copied, removed) = (count(agreed.copied_count), count(agreed.removed_count));
        question.push_str(&format!("  {sink}: {copied} copied again, {removed} removed\n"));
    }
    question.push_str("copy again what is missing or differs, and remove what only the sink has?");
    question
}

fn repaired(global: &Global, args: &VerifyArgs, agreed: Option<Agreement>) -> Result<Compared, Exit> {
    let prepared = prepare(global, &args.job, TITLE, |loaded| {
        // Only differences that are all known, one by one, can be healed.
        loaded.job.verification = VerificationLevel::Comprehensive;
        Ok(())
    })?;
    let begun =
        begin(&prepared, args).and_then(|begun| EventOutput::create(&args.job).map(|events| (begun, events)));
    let ((mut repairing, comparing), events) =
        begun.map_err(|error| refuse(global, TITLE, Some(&prepared.loaded), &[error]))?;
    let mut options = comparing.options(args, true);
    options.verify.agreed = agreed;
    made_from::tell(&mut options, &prepared);
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
            if let Err(error) = repairing.finish(end_of(&compared.report, compared.exit)) {
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

/// Begins the run that a repair is, with the comparison that it begins with.
fn begin(prepared: &Prepared, args: &VerifyArgs) -> Result<(ExclusiveRun, Comparing), Error> {
    let loaded = &prepared.loaded;
    let workspace = Workspace::of_job(&loaded.path, Some(&loaded.working_dir));
    let comparing = Comparing::begin(prepared, args, None)?;
    let folder = comparing.folder.folder();
    let begun = ExclusiveRun::begin(prepared, &workspace, comparing.id.clone(), TITLE, folder);
    if begun.is_err() {
        // Nothing was compared; an empty folder tells nothing.
        drop(std::fs::remove_dir_all(comparing.folder.folder()));
    }
    Ok((begun?, comparing))
}
