//! `whimbrel plan JOB`: says what a run would do, how long it would take and what stands in the way; changes nothing.
//! The exit code says whether the run can proceed.

use clap::Args;

use super::output::{print, print_aside, print_json};
use super::tasks::task_report;
use super::{Exit, Global, JobArgs};
use crate::config::{Variables, load_job};
use crate::report::{self, PastRate, PlanReport};
use crate::state::{RunFilter, RunState, SqliteStore, StateStore as _};
use crate::supervisor::TaskKind;
use crate::workspace::Workspace;

/// Runs that are looked through for one that has written something.
const RUNS_LOOKED_AT: u32 = 20;

/// What `plan` takes.
#[derive(Args)]
pub struct PlanArgs {
    #[command(flatten)]
    job: JobArgs,
    /// Warn if the run would take longer than the platform allows, in seconds.
    #[arg(long, value_name = "SECONDS")]
    time_limit_secs: Option<u64>,
}

/// Plans.
pub fn plan(global: &Global, args: &PlanArgs) -> Exit {
    let (task, exit) = match task_report(global, &args.job, "plan", |job| TaskKind::Plan { job }) {
        Ok(done) => done,
        Err(exit) => return exit,
    };
    let past = past_rate(&args.job);
    let plan = PlanReport::new(task, past.as_ref(), args.time_limit_secs);
    if global.json {
        print_json(&plan);
    } else {
        print(&report::plan_text(&plan));
        let troubles = report::troubles(&plan.task);
        if !troubles.is_empty() {
            print_aside(&troubles);
        }
    }
    exit
}

/// The rate of the last run of the job that has written something. Without a state there is none.
fn past_rate(args: &JobArgs) -> Option<PastRate> {
    let loaded = load_job(&args.job, &args.flags.overrides(), &Variables::of_process()).ok()?;
    let workspace = Workspace::of_job(&loaded.path, Some(&loaded.working_dir));
    let store = SqliteStore::open_existing(&workspace.state_db()).ok()??;
    let filter = RunFilter {
        job: Some(loaded.job.name),
        state: Some(RunState::Done),
        limit: RUNS_LOOKED_AT,
        ..RunFilter::default()
    };
    let run = store
        .runs(&filter)
        .ok()?
        .into_iter()
        .find(|run| run.command == "run" && run.counts.written_count > 0)?;
    let seconds = (run.ended_at? - run.started_at).as_seconds_f64();
    Some(PastRate {
        run_id: run.id.to_string(),
        record_count: run.counts.written_count,
        seconds,
    })
}
