//! `whimbrel check JOB`: looks at both systems and says what a run would do.
//! Everything that it shares with its like is in `tasks`.

use super::tasks::run_task;
use super::{Exit, Global, JobArgs};
use crate::supervisor::TaskKind;

/// Looks at both systems and says what a run would do.
pub fn check(global: &Global, args: &JobArgs) -> Exit {
    run_task(global, args, "check", |job| TaskKind::Check { job })
}
