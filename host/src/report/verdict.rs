//! How a task ended, in one sentence and in one of three tones.
//! Every report begins with it, so that none says more than another.

use super::TaskReport;
use super::figures::printable;
use super::snapshots::are_compared;
use crate::events::{
    CHANGED_SINCE, Comparison, Phase, ReferenceResult, RuleState, RunSummary, VerificationResult,
};

/// How good the end is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    /// Done, and what was to be compared is equal.
    Good,
    /// Done or ended in good order, but somebody should look.
    Mixed,
    /// Not done.
    Bad,
}

impl Tone {
    /// Its name in pages.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Mixed => "mixed",
            Self::Bad => "bad",
        }
    }
}

/// The tone of a report.
pub fn tone(report: &TaskReport) -> Tone {
    match report.outcome {
        "done" if report.copies() && report.summary.verification.is_empty() => Tone::Mixed,
        "done" if report.summary.rejected_count > 0 => Tone::Mixed,
        "done" if are_compared(&report.summary) => Tone::Mixed,
        "done" => Tone::Good,
        "cancelled" | "unverified" => Tone::Mixed,
        _ => Tone::Bad,
    }
}

/// How it ended, with the job's name.
pub fn verdict(report: &TaskReport) -> String {
    let job = printable(&report.job);
    match (report.outcome, report.command.as_str()) {
        ("done", "check") => format!("{job}: nothing stands in the way"),
        ("done", "dry-run") => format!("{job}: the dry run went through, nothing was written"),
        ("failed" | "crashed" | "cancelled", "dry-run") => {
            format!("{job}: the dry run did not go through, nothing was written")
        }
        ("cancelled", "check" | "plan" | "verify" | "stats") => {
            format!("{job}: ended on request, nothing was written")
        }
        ("crashed", "check" | "plan" | "verify" | "stats") => {
            format!("{job}: the worker was lost, nothing was written")
        }
        ("done", "verify") if are_compared(&report.summary) => {
            format!(
                "{job}: both sides are equal; the source was read at several snapshots, not as of one moment"
            )
        }
        ("done", "verify") => format!("{job}: both sides are equal"),
        ("done", _) if report.summary.verification.is_empty() => format!("{job}: done, not verified"),
        ("done", _) if are_compared(&report.summary) => {
            format!(
                "{job}: done and verified; the source was read at several snapshots, not as of one moment"
            )
        }
        ("done", _) => format!("{job}: done and verified"),
        ("differences", _) => format!("{job}: {}", difference(&report.summary)),
        ("unverified", _) if has_changed_since(report) => {
            format!("{job}: not sure, records changed while both sides were compared")
        }
        ("unverified", _) => format!("{job}: could not be verified"),
        ("refused", _) => format!("{job}: refused, nothing was written"),
        ("cancelled", _) => format!("{job}: ended on request; what was committed stays"),
        ("crashed", _) => format!("{job}: the worker was lost; what was committed stays"),
        _ if !report
            .summary
            .phases
            .iter()
            .any(|phase| phase.phase > Phase::PreValidation) =>
        {
            format!("{job}: failed before anything was written")
        }
        _ => format!("{job}: failed; what was committed stays"),
    }
}

/// Whether records that changed meanwhile are all that keeps a task from being verified.
pub(super) fn has_changed_since(report: &TaskReport) -> bool {
    let mut failures = report.errors.iter();
    failures.any(|failure| failure.error.code == CHANGED_SINCE)
}

/// What is not as it should be. Both sides may be equal, and their records wrong.
fn difference(summary: &RunSummary) -> &'static str {
    let is_different = |result: &VerificationResult| result.comparison == Comparison::Different;
    let has_lost = |reference: &ReferenceResult| reference.sink_only_count > 0;
    if summary.verification.iter().any(is_different) {
        "the sides differ"
    } else if summary.sink_references.iter().any(has_lost) {
        "records of the sink have lost what they point to"
    } else if summary.rules.iter().any(|rule| rule.state == RuleState::Broken) {
        "rules are broken"
    } else {
        "the sides differ"
    }
}
