//! `whimbrel verify JOB`: compares both sides of a job.
//! Everything that it shares with its like is in `tasks`.

use super::tasks::run_task;
use super::{Exit, Global, JobArgs};
use crate::supervisor::TaskKind;

/// Compares both sides of a job.
pub fn verify(global: &Global, args: &JobArgs) -> Exit {
    run_task(global, args, "verify", |job| TaskKind::Verify { job })
}
