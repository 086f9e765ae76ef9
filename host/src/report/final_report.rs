//! Everything about a run after its end: what `final-migration-report.json` holds, and what the pages are made from.
//!
//! Made from the events that an observer gathered ([`RunFacts`]) and the task's own report. No record values.

use chrono::{DateTime, Utc};
use serde::Serialize;
use whimbrel_plugin_api::FindingLevel;

use super::next_steps::{FailedPhase, NextStep, failed_phases, next_steps};
use super::series::Series;
use super::{TaskReport, verdict};
use crate::events::{Failure, Phase, PhaseOutcome};

/// The version of this form. Members are added without a change of it, and none is ever taken away.
const FORMAT: u32 = 1;
/// Collections that a report names when there is room for the most needed only.
const SHORT_COLLECTIONS_MAX: usize = 100;
/// Findings and hooks that are kept; what a run says beyond that is in its log.
pub const NOTES_MAX: usize = 200;

/// What is known of a run besides how its task ended.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RunFacts {
    /// The run.
    pub run_id: String,
    /// The job file as it was named.
    pub job_file: String,
    /// `full` or `test`.
    pub mode: String,
    /// Who started it: user and host.
    pub started_by: String,
    /// When it began.
    pub started_at: DateTime<Utc>,
    /// When it ended.
    pub ended_at: DateTime<Utc>,
    /// Seconds between, by a clock that nobody sets.
    pub elapsed_secs: f64,
    /// When each phase began and how long it took.
    pub timeline: Vec<PhaseSpan>,
    /// How it went over time.
    pub series: Series,
    /// Transactions that were tried again.
    pub retry_count: u64,
    /// Collections that failed while others went on.
    pub failed_collections: Vec<FailedCollection>,
    /// What the hooks did.
    pub hooks: Vec<HookResult>,
    /// Whether `migration-log.json` has everything; not after the disk was full.
    pub log_complete: bool,
}

/// A phase in time.
#[derive(Debug, Clone, PartialEq, Serialize, serde::Deserialize)]
pub struct PhaseSpan {
    /// Which one.
    pub phase: Phase,
    /// How it ended; none while it goes on, or if the worker was lost in it.
    pub outcome: Option<PhaseOutcome>,
    /// Seconds from the start of the run to its own.
    pub started_secs: f64,
    /// Seconds that it took, or has taken until now.
    pub seconds: f64,
    /// Records that passed.
    pub record_count: u64,
}

/// A collection that failed while others went on.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FailedCollection {
    /// In the source.
    pub collection: String,
    /// Why.
    pub failure: Failure,
}

/// What a hook did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HookResult {
    /// What it was.
    pub hook: String,
    /// Whether it did what it should.
    pub ok: bool,
    /// What it said.
    pub message: String,
}

/// Everything about a run after its end.
#[derive(Debug, Clone, Serialize)]
pub struct FinalReport {
    /// The version of this form.
    pub format: u32,
    /// The version of the program.
    pub whimbrel_version: &'static str,
    /// How it ended, in one sentence.
    pub verdict: String,
    /// The run.
    #[serde(flatten)]
    pub facts: RunFacts,
    /// How the task ended.
    #[serde(flatten)]
    pub task: TaskReport,
    /// The phases that failed, with what to do.
    pub failed_phases: Vec<FailedPhase>,
    /// What to do now.
    pub next_steps: Vec<NextStep>,
}

impl FinalReport {
    /// Puts together what is known.
    pub fn new(facts: RunFacts, task: &TaskReport) -> Self {
        Self {
            format: FORMAT,
            whimbrel_version: env!("CARGO_PKG_VERSION"),
            verdict: verdict(task),
            failed_phases: failed_phases(task),
            next_steps: next_steps(task, &facts.job_file, &facts.run_id),
            facts,
            task: task.clone(),
        }
    }

    /// The same with only what is needed most, for a disk that is full.
    pub fn shortened(mut self) -> Self {
        self.facts.series = Series::default();
        let is_blocker = |found: &crate::events::FoundBy| found.finding.level == FindingLevel::Blocker;
        self.task.summary.findings.retain(is_blocker);
        self.facts.failed_collections.truncate(SHORT_COLLECTIONS_MAX);
        self.task.summary.collections.truncate(SHORT_COLLECTIONS_MAX);
        self.task.summary.guarantees.truncate(SHORT_COLLECTIONS_MAX);
        for collection in &mut self.task.summary.collections {
            collection.losses.clear();
        }
        self.task.summary.verification.truncate(SHORT_COLLECTIONS_MAX);
        for result in &mut self.task.summary.verification {
            result.mismatches.clear();
            result.losses.clear();
            result.digests = None;
        }
        let summary = &mut self.task.summary;
        for references in [&mut summary.references, &mut summary.sink_references] {
            references.truncate(SHORT_COLLECTIONS_MAX);
            for reference in references {
                reference.orphans.clear();
            }
        }
        summary.rules.truncate(SHORT_COLLECTIONS_MAX);
        for rule in &mut summary.rules {
            rule.violations.clear();
        }
        summary.repaired.truncate(SHORT_COLLECTIONS_MAX);
        for repair in &mut summary.repaired {
            repair.left.clear();
        }
        self.task.summary.rejected.clear();
        self.task.summary.ddl.clear();
        self
    }
}
