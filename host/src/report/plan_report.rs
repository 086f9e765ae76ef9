//! The plan of a run in words and as JSON: what would be done, how long it would take, what it would cost, and what stands
//! in the way.
//!
//! Times come from measured rates: the last run of the same job that wrote anything, or a trial that only read. Nothing
//! is guessed: without a rate or a count there is no time.

use serde::Serialize;

use super::TaskReport;
use super::cost::{cost_table, sink_cost_table};
use super::figures::{bytes, count, printable, seconds as duration};
use super::guarantees::guarantees_text;
use super::orphans::orphans_text;
use super::plain_table::PlainTable;
use crate::events::{CostEstimate, SinkCostEstimate};

/// A plan.
#[derive(Debug, Clone, Serialize)]
pub struct PlanReport {
    /// What was found out.
    #[serde(flatten)]
    pub task: TaskReport,
    /// How much it is and how long it would take.
    pub estimate: PlanEstimate,
}

/// How much it is and how long it would take.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct PlanEstimate {
    /// Records of all collections; `None` if one of them does not know.
    pub record_count: Option<u64>,
    /// Octets of all collections as the source counts them; `None` if one of them does not know.
    pub size_bytes: Option<u64>,
    /// Records a second that the time was made with.
    pub records_per_second: Option<f64>,
    /// What the rate was measured on: a run, or the trial.
    pub basis: Option<String>,
    /// Seconds from the first to the last record.
    pub seconds: Option<f64>,
    /// The time that the platform allows, if it was given.
    pub time_limit_secs: Option<u64>,
    /// Whether the estimated time is beyond it.
    pub exceeds_time_limit: bool,
    /// What reading costs; `None` if the source bills nothing.
    pub cost: Option<CostEstimate>,
    /// What asking the sink costs besides writing; absent if the sink bills nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sink_cost: Option<SinkCostEstimate>,
}

/// A rate that was measured in an earlier run.
#[derive(Debug, Clone, PartialEq)]
pub struct PastRate {
    /// The run.
    pub run_id: String,
    /// Records written.
    pub record_count: u64,
    /// Seconds that it took.
    pub seconds: f64,
}

impl PlanReport {
    /// Puts together what was found out and what was measured.
    pub fn new(mut task: TaskReport, past: Option<&PastRate>, time_limit_secs: Option<u64>) -> Self {
        let all = |of: fn(&crate::events::CollectionResult) -> Option<u64>| {
            task.summary
                .collections
                .iter()
                .map(of)
                .try_fold(0_u64, |sum, value| value.map(|value| sum.saturating_add(value)))
        };
        let record_count = all(|collection| collection.estimate);
        let trial = task
            .summary
            .rate
            .as_ref()
            .filter(|rate| rate.record_count > 0 && rate.seconds > 0.0);
        let (rate, basis) = match (
            past.filter(|past| past.record_count > 0 && past.seconds > 0.0),
            trial,
        ) {
            (Some(past), _) => (
                Some(past.record_count as f64 / past.seconds),
                Some(format!("run {}", past.run_id)),
            ),
            (None, Some(trial)) => (
                Some(trial.record_count as f64 / trial.seconds),
                Some(format!(
                    "reading {} records of {}",
                    trial.record_count, trial.collection
                )),
            ),
            (None, None) => (None, None),
        };
        let seconds = rate.zip(record_count).map(|(rate, count)| count as f64 / rate);
        let exceeds_time_limit = seconds
            .zip(time_limit_secs)
            .is_some_and(|(seconds, limit)| seconds > limit as f64);
        let cost = task.summary.cost.take();
        let sink_cost = task.summary.sink_cost.take();
        Self {
            estimate: PlanEstimate {
                record_count,
                size_bytes: all(|collection| collection.estimate_bytes),
                records_per_second: rate,
                basis,
                seconds,
                time_limit_secs,
                exceeds_time_limit,
                cost,
                sink_cost,
            },
            task,
        }
    }
}

/// The plan for people.
pub fn plan_text(report: &PlanReport) -> String {
    let summary = &report.task.summary;
    let mut text = String::new();
    for plugin in &report.task.plugins {
        text.push_str(&format!(
            "{:9} {} {}\n",
            plugin.role.name(),
            plugin.name,
            plugin.version
        ));
    }
    let mut rows = PlainTable::new(&["#", "COLLECTION", "INTO", "RECORDS", "SIZE", "KEY"]);
    let known = |value: Option<u64>, word: fn(u64) -> String| value.map_or_else(|| "?".to_owned(), word);
    for (index, collection) in summary.collections.iter().enumerate() {
        rows.row([
            (index + 1).to_string(),
            printable(&collection.source),
            printable(&collection.sink),
            known(collection.estimate, count),
            known(collection.estimate_bytes, bytes),
            printable(&collection.key.join(", ")),
        ]);
    }
    text.push_str(&format!("\n{}\n", rows.text(&[0, 3, 4])));
    text.push_str(&ddl(report));
    text.push_str(&losses(report));
    let guarantees = guarantees_text(summary);
    if !guarantees.is_empty() {
        text.push_str(&format!("{guarantees}\n"));
    }
    text.push_str(&findings(report));
    let orphans = orphans_text(summary, "orphans:", None);
    if !orphans.is_empty() {
        text.push_str(&format!("{orphans}\n"));
    }
    if let Some(cost) = &report.estimate.cost {
        text.push_str(&cost_table(cost));
    }
    if let Some(cost) = &report.estimate.sink_cost {
        text.push_str(&sink_cost_table(cost));
    }
    text.push_str(&estimate(&report.estimate));
    let verdict = if report.task.errors.is_empty() {
        "nothing stands in the way"
    } else {
        "the run cannot proceed"
    };
    text.push_str(&format!("{}: {verdict}\n", printable(&report.task.job)));
    text
}

fn ddl(report: &PlanReport) -> String {
    let statements = &report.task.summary.ddl;
    if statements.is_empty() {
        return said_of_plan(report, "the sink has all that is needed\n\n");
    }
    let mut text = String::from("the sink would run:\n");
    for statement in statements {
        text.push_str(&format!("  {}\n", statement.replace('\n', "\n  ")));
    }
    text + "\n"
}

fn losses(report: &PlanReport) -> String {
    let mut text = String::new();
    for collection in &report.task.summary.collections {
        for loss in &collection.losses {
            text.push_str(&format!(
                "  {}.{}: {}\n",
                printable(&collection.source),
                printable(&loss.field),
                loss.loss.name()
            ));
        }
    }
    if text.is_empty() {
        said_of_plan(report, "no losses are declared\n\n")
    } else {
        format!("declared losses:\n{text}\n")
    }
}

/// What is true of a plan; one that was refused before there were collections in it says nothing.
fn said_of_plan(report: &PlanReport, sentence: &str) -> String {
    let is_empty = report.task.summary.collections.is_empty() && !report.task.errors.is_empty();
    if is_empty {
        String::new()
    } else {
        sentence.to_owned()
    }
}

fn findings(report: &PlanReport) -> String {
    let mut text = String::new();
    for found in &report.task.summary.findings {
        let who = found.role.map_or("plan", |role| role.name());
        text.push_str(&format!(
            "  {who}: {} [{}]\n",
            printable(&found.finding.message),
            found.finding.code
        ));
        if let Some(help) = &found.finding.help {
            text.push_str(&format!("    help: {}\n", printable(help)));
        }
    }
    if text.is_empty() {
        text
    } else {
        format!("findings:\n{text}\n")
    }
}

fn estimate(estimate: &PlanEstimate) -> String {
    let mut text = match (estimate.seconds, estimate.records_per_second, &estimate.basis) {
        (Some(seconds), Some(rate), Some(basis)) => format!(
            "estimated time: {} at {rate:.0} records a second, measured by {basis}\n",
            duration(seconds)
        ),
        (None, Some(rate), Some(basis)) => format!(
            "estimated time: unknown, since not every collection knows its records; measured {rate:.0} records a \
             second by {basis}\n"
        ),
        _ => "estimated time: unknown, nothing was measured yet\n".to_owned(),
    };
    if let Some(limit) = estimate.time_limit_secs.filter(|_| estimate.exceeds_time_limit) {
        text.push_str(&format!(
            "  that is beyond the time limit of {limit} s: divide the job by `include`, or run it elsewhere\n"
        ));
    }
    text + "\n"
}
