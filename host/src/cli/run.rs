//! `whimbrel run JOB`: copies the collections of a job and verifies them.
//! Everything that it shares with its like is in `tasks`.

use super::tasks::run_task;
use super::{Exit, Global, JobArgs};
use crate::supervisor::TaskKind;

/// Copies the collections of a job and verifies them.
pub fn run(global: &Global, args: &JobArgs) -> Exit {
    run_task(global, args, "run", |job| TaskKind::Run { job })
}
