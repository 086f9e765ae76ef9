//! Words an outcome: the JSON object of `--json`, the summary for people, and what went wrong.

mod summary;
mod task_report;

pub use summary::{text, troubles};
pub use task_report::{Ending, PluginUsed, TaskReport};
