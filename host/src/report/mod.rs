//! Words an outcome: the JSON object of `--json`, the summary for people, the report files of a run.
//! Reads outcomes and gathered events only; it asks no system and no plugin.

mod cost;
mod counts;
mod executive_proof;
mod executive_summary;
pub mod figures;
mod final_report;
#[cfg(test)]
pub(crate) mod fixtures;
mod guarantees;
mod html;
mod markdown;
mod next_steps;
mod orphans;
mod plain_table;
mod plan_report;
mod proof;
mod remedies;
mod series;
mod snapshots;
mod summary;
mod summary_tables;
mod task_report;
mod verdict;
mod warnings;

pub use counts::{cleared_text, stats_text};
pub use executive_summary::executive_summary;
pub use final_report::{FailedCollection, FinalReport, HookResult, NOTES_MAX, PhaseSpan, RunFacts};
pub use html::html;
pub use markdown::{code as markdown_code, plain as markdown_text};
pub use next_steps::{FailedPhase, NextStep, failed_phases, next_steps, quoted};
pub use plain_table::PlainTable;
pub use plan_report::{PastRate, PlanEstimate, PlanReport, plan_text};
pub use series::{POINTS_MAX, Rate, Sample, Series, thousandths};
pub use snapshots::several_snapshots;
pub use summary::{Look, text, troubles};
pub use summary_tables::is_sure_to_be_equal;
pub use task_report::{Ending, PluginUsed, TaskReport};
pub use verdict::{Tone, tone, verdict};
pub use warnings::finding;
