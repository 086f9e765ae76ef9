//! Words an outcome: the JSON object of `--json`, the summary for people, and what went wrong.
//! Reads outcomes only; it asks no system and no plugin.

mod summary;
mod task_report;

pub use summary::{text, troubles};
pub use task_report::{Ending, PluginUsed, TaskReport};
