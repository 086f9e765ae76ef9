//! Drives the phases of a task. The only loop over phases; it names no plugin and writes no record.
//! Neighbours: [`crate::supervisor`] starts it in the worker, [`crate::phases`] do the parts.

mod comparison;
mod context;
mod copy_phases;
mod ending;
mod in_place;
mod look;
mod repair;
mod replay;
mod run;
mod validation;

pub use crate::checkpoint::ResumeOptions;
pub use crate::events::RefusedBefore;
pub use crate::phases::replaying::{ReplayOptions, ReplayRecord};
pub use context::{Opened, RunOptions, TaskContext, VerifyOptions};
pub use look::{check, clear, plan, stats, verify};
pub use replay::replay;
pub use run::run;
