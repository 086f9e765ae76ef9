//! Drives the phases of a task. The only loop over phases; it names no plugin and writes no record.
//! Neighbours: [`crate::supervisor`] starts it in the worker, [`crate::phases`] do the parts.

mod context;
mod copy_phases;
mod ending;
mod look;
mod run;
mod validation;

pub use context::{Opened, RunOptions, TaskContext};
pub use look::{check, clear, plan, stats, verify};
pub use run::run;
