//! `whimbrel clear JOB`: removes the records of a job's collections from its sink, those that refer to others first.
//!
//! Says what would go and asks, unless `--yes` has answered. Nothing else is touched: tables stay, other collections too. It writes, so
//! it is a run in the state, refused while another one of the job goes on or somebody compares both sides; what was copied or
//! read before is gone on with by nobody. Neighbour: [`crate::phases::clearing`] does the work.

use clap::Args;
use whimbrel_plugin_api::Error;

use super::confirm::ask;
use super::event_output::EventOutput;
use super::exclusive_run::{ExclusiveRun, end_of};
use super::output::{print_aside, print_json, print_line};
use super::tasks::{Prepared, execute, look, prepare, refuse, report_of, say, say_as, task_report};
use super::verify::place::{Place, Whose};
use super::{Exit, Global, JobArgs};
use crate::orchestrator::RunOptions;
use crate::report::{self, TaskReport};
use crate::state::{CLEAR, RunEnd, RunId, RunState};
use crate::supervisor::TaskKind;
use crate::workspace::Workspace;

/// What `clear` takes.
#[derive(Args)]
pub struct ClearArgs {
    #[command(flatten)]
    job: JobArgs,
    /// Agree beforehand.
    #[arg(long)]
    yes: bool,
}

/// Removes the records, once somebody agrees.
pub fn clear(global: &Global, args: &ClearArgs) -> Exit {
    if !args.yes
        && let Err(exit) = agree(global, args)
    {
        return exit;
    }
    match cleared(global, args) {
        Ok((report, exit)) if args.job.events.is_some() => {
            print_line(&serde_json::json!({ "event": "report", "report": report }));
            exit
        }
        Ok((report, exit)) => say_as(global, &report, exit, &look(&args.job), report::cleared_text),
        Err(exit) => exit,
    }
}

/// Says what would go and asks; the exit code if nothing is to go.
fn agree(global: &Global, args: &ClearArgs) -> Result<(), Exit> {
    let (mut report, exit) = task_report(global, &args.job, CLEAR, |job| TaskKind::Stats { job })?;
    if exit != Exit::Done {
        return Err(say(global, &report, exit, &look(&args.job)));
    }
    let mut question = String::from("records that would be removed from the sink:\n");
    for stats in report
        .summary
        .stats
        .iter()
        .filter(|stats| stats.sink_count.is_some())
    {
        question.push_str(&format!("  {}: {}\n", stats.sink, stats.sink_count.unwrap_or(0)));
    }
    question.push_str("remove them?");
    match ask(&question, "--yes") {
        Ok(true) => Ok(()),
        Ok(false) => {
            if global.json {
                report.outcome = "cancelled";
                report.exit_code = Exit::Failed.number();
                print_json(&report);
            } else {
                print_aside("nothing was removed\n");
            }
            Err(Exit::Failed)
        }
        Err(error) => Err(refuse(global, CLEAR, None, &[error])),
    }
}

fn cleared(global: &Global, args: &ClearArgs) -> Result<(TaskReport, Exit), Exit> {
    let prepared = prepare(global, &args.job, CLEAR, |_| Ok(()))?;
    let begun = EventOutput::create(&args.job)
        .and_then(|events| begin(&prepared).map(|(place, run)| (events, place, run)));
    let (events, place, mut run) =
        begun.map_err(|error| refuse(global, CLEAR, Some(&prepared.loaded), &[error]))?;
    let kind = TaskKind::Clear {
        job: Box::new(prepared.loaded.job.clone()),
        options: RunOptions {
            run_id: run.id().to_string(),
            ..RunOptions::default()
        },
    };
    let ended = execute(global, CLEAR, prepared, kind, false, events, vec![&mut run]).and_then(|executed| {
        let (mut report, exit) = report_of(global, CLEAR, &executed)?;
        if let Some(trouble) = executed.supervised.trouble {
            report.add_fault(trouble.into());
        }
        Ok((report, exit))
    });
    // What was read of the sink before is not what is there now.
    place.finish();
    match ended {
        Ok((mut report, mut exit)) => {
            if let Err(error) = run.finish(end(&report, exit)) {
                report.errors.push(error.into());
                if exit == Exit::Done {
                    exit = Exit::Environment;
                    report.exit_code = exit.number();
                }
            }
            Ok((report, exit))
        }
        Err(exit) => {
            // It was said already why nothing was done.
            drop(run.finish(RunEnd::new(RunState::Refused, exit.number(), None)));
            Err(exit)
        }
    }
}

/// Claims the place of comparisons, so that nobody compares what goes away meanwhile, and begins the run.
fn begin(prepared: &Prepared) -> Result<(Place, ExclusiveRun), Error> {
    let loaded = &prepared.loaded;
    let workspace = Workspace::of_job(&loaded.path, Some(&loaded.working_dir));
    let place = Place::claim(&workspace, prepared, Whose::Command, false, None)?;
    let run = ExclusiveRun::begin(prepared, &workspace, RunId::new(), CLEAR, workspace.root())?;
    Ok((place, run))
}

/// How it is remembered: what came to nothing before the sink was touched leaves what was copied before to be gone on with.
fn end(report: &TaskReport, exit: Exit) -> RunEnd {
    let mut end = end_of(report, exit);
    if end.state == RunState::Unverified {
        end.state = RunState::Refused;
    }
    end
}
