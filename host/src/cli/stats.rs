//! `whimbrel stats JOB`: counts the records of both sides, collection by collection, and says which are in step.
//! Everything that it shares with its like is in `tasks`.

use super::tasks::{look, say_as, task_report};
use super::{Exit, Global, JobArgs};
use crate::report;
use crate::supervisor::TaskKind;

/// Counts the records of both sides.
pub fn stats(global: &Global, args: &JobArgs) -> Exit {
    match task_report(global, args, "stats", |job| TaskKind::Stats { job }) {
        Ok((report, exit)) => say_as(global, &report, exit, &look(args), report::stats_text),
        Err(exit) => exit,
    }
}
