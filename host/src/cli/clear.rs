//! `whimbrel clear JOB`: removes the records of a job's collections from its sink, those that refer to others first.
//!
//! Says what would go and asks, unless `--yes` has answered. Nothing else is touched: tables stay, other collections too.

use clap::Args;

use super::confirm::ask;
use super::output::print_aside;
use super::tasks::{look, refuse, say, say_as, task_report};
use super::{Exit, Global, JobArgs};
use crate::report;
use crate::supervisor::TaskKind;

/// What `clear` takes.
#[derive(Args)]
pub struct ClearArgs {
    #[command(flatten)]
    job: JobArgs,
    /// Agree beforehand.
    #[arg(long)]
    yes: bool,
}

/// Removes the records.
pub fn clear(global: &Global, args: &ClearArgs) -> Exit {
    if !args.yes {
        let (report, exit) = match task_report(global, &args.job, "clear", |job| TaskKind::Stats { job }) {
            Ok(counted) => counted,
            Err(exit) => return exit,
        };
        if exit != Exit::Done {
            return say(global, &report, exit, &look(&args.job));
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
            Ok(true) => {}
            Ok(false) => {
                print_aside("nothing was removed\n");
                return Exit::Failed;
            }
            Err(error) => return refuse(global, "clear", None, &[error]),
        }
    }
    match task_report(global, &args.job, "clear", |job| TaskKind::Clear { job }) {
        Ok((report, exit)) => say_as(global, &report, exit, &look(&args.job), report::cleared_text),
        Err(exit) => exit,
    }
}
