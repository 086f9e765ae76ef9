//! The words of notifications: titles of one line, plain bodies, facts by name. No record values.
//! Neighbour: `notices`, which says when.

use std::collections::BTreeMap;

use whimbrel_plugin_api::notifier::Severity;

use crate::config::ToldEvent;
use crate::events::{Comparison, Failure, Outcome, RunSummary};

/// Letters of the longest title and octets of the longest body; what notifiers keep on a phone and in a mail.
const TITLE_LETTERS_MAX: usize = 150;
const BODY_BYTES_MAX: usize = 8 * 1024;
/// Collections and failures that a body names.
const LINES_MAX: usize = 20;

/// How a run ended, as it is told.
pub(super) struct Ending {
    pub(super) event: ToldEvent,
    pub(super) severity: Severity,
    /// What comes after the job's name in the title.
    pub(super) title: String,
    pub(super) body: String,
    pub(super) facts: BTreeMap<String, String>,
}

/// The command that goes back to what was before.
pub(super) const ROLLBACK: &str = "rollback";

/// How `command` ended by itself.
pub(super) fn ending(command: &str, outcome: &Outcome) -> Ending {
    let summary = outcome.summary();
    let (severity, end, failures): (_, _, &[Failure]) = match outcome {
        Outcome::Done { .. } if summary.rejected_count > 0 => {
            (Severity::Warning, "completed with rejected records", &[])
        }
        Outcome::Done { .. } => (Severity::Info, "completed", &[]),
        Outcome::Differences { .. } => (Severity::Error, "both sides differ", &[]),
        Outcome::Unverified { failure, .. } => (
            Severity::Warning,
            "complete, but could not be verified",
            std::slice::from_ref(failure),
        ),
        Outcome::Refused { failures, .. } => (Severity::Error, "refused", failures),
        Outcome::Failed { failure, .. } => (Severity::Error, "failed", std::slice::from_ref(failure)),
        Outcome::Cancelled { .. } => (Severity::Warning, "cancelled", &[]),
    };
    let body = [
        failures_text(failures),
        counts_text(summary),
        differences_text(summary),
    ]
    .into_iter()
    .filter(|part| !part.is_empty())
    .collect::<Vec<_>>()
    .join("\n");
    let is_done = matches!(outcome, Outcome::Done { .. });
    of_command(command, is_done, severity, end, body, facts(summary))
}

/// How `command` ended when its worker was lost, or was not even begun.
pub(super) fn failed(command: &str, failures: &[Failure]) -> Ending {
    let body = failures_text(failures);
    of_command(command, false, Severity::Error, "failed", body, BTreeMap::new())
}

fn of_command(
    command: &str,
    is_done: bool,
    severity: Severity,
    end: &str,
    body: String,
    facts: BTreeMap<String, String>,
) -> Ending {
    let is_rollback = command == ROLLBACK;
    Ending {
        event: match (is_done, is_rollback) {
            (true, true) => ToldEvent::RollbackCompleted,
            (true, false) => ToldEvent::Completed,
            (false, _) => ToldEvent::Failed,
        },
        // A way back that does not work is what somebody must act on now.
        severity: if is_rollback && !is_done {
            Severity::Critical
        } else {
            severity
        },
        title: format!("{command} {end}"),
        body,
        facts,
    }
}

fn facts(summary: &RunSummary) -> BTreeMap<String, String> {
    let sum = |count: fn(&crate::events::CollectionResult) -> u64| {
        summary.collections.iter().map(count).sum::<u64>().to_string()
    };
    let mut facts = BTreeMap::from([
        ("collections".to_owned(), summary.collections.len().to_string()),
        ("records_read".to_owned(), sum(|one| one.read_count)),
        ("records_rejected".to_owned(), summary.rejected_count.to_string()),
        ("records_written".to_owned(), sum(|one| one.written_count)),
    ]);
    if !summary.verification.is_empty() {
        let mismatches: u64 = summary.verification.iter().map(|one| one.mismatch_count).sum();
        facts.insert("mismatches".to_owned(), mismatches.to_string());
    }
    facts
}

/// `orders: 12 written, 3 rejected`, a line each.
fn counts_text(summary: &RunSummary) -> String {
    lines(&summary.collections, "collections", |one| {
        let mut line = format!("{}: {} written", one.source, one.written_count);
        if one.rejected_count > 0 {
            line.push_str(&format!(", {} rejected", one.rejected_count));
        }
        if !one.complete {
            line.push_str(", not complete");
        }
        line
    })
}

fn differences_text(summary: &RunSummary) -> String {
    let different: Vec<_> = summary
        .verification
        .iter()
        .filter(|one| one.comparison == Comparison::Different)
        .collect();
    lines(&different, "collections", |one| {
        let (mismatches, source, sink) = (one.mismatch_count, one.source_count, one.sink_count);
        format!(
            "{}: {mismatches} mismatches ({source} records in the source, {sink} in the sink)",
            one.source
        )
    })
}

/// Each with its place, help and code.
fn failures_text(failures: &[Failure]) -> String {
    lines(failures, "failures", failure_text)
}

/// What went wrong, where, and what can be done.
pub(super) fn failure_text(failure: &Failure) -> String {
    let mut text = failure.error.message.clone();
    if let (Some(call), Some(plugin)) = (&failure.call, &failure.plugin) {
        text.push_str(&format!("\n  in: `{call}` of `{plugin}`"));
    }
    if let Some(phase) = failure.phase {
        text.push_str(&format!("\n  phase: {}", phase.name()));
    }
    if let Some(help) = &failure.error.help {
        text.push_str(&format!("\n  help: {help}"));
    }
    text.push_str(&format!("\n  code: {}", failure.error.code));
    text
}

fn lines<T>(all: &[T], noun: &str, line: impl Fn(&T) -> String) -> String {
    let mut lines: Vec<String> = all.iter().take(LINES_MAX).map(line).collect();
    if all.len() > LINES_MAX {
        lines.push(format!("and {} more {noun}", all.len() - LINES_MAX));
    }
    lines.join("\n")
}

/// One line, not too long.
pub(super) fn title(text: &str) -> String {
    let line: String = text
        .chars()
        .map(|letter| if letter.is_control() { ' ' } else { letter })
        .take(TITLE_LETTERS_MAX + 1)
        .collect();
    match line.char_indices().nth(TITLE_LETTERS_MAX) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

/// Not too long.
pub(super) fn body(mut text: String) -> String {
    if text.len() > BODY_BYTES_MAX {
        let end = (0..=BODY_BYTES_MAX).rev().find(|end| text.is_char_boundary(*end));
        text.truncate(end.unwrap_or_default());
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_cut_between_letters() {
        assert_eq!(title("a\nb\u{1b}c"), "a b c");
        let long = title(&"é".repeat(1_000));
        assert_eq!((long.chars().count(), long.ends_with("é…")), (151, true));
        assert_eq!(title(&"é".repeat(150)), "é".repeat(150));
        let long = body("é".repeat(BODY_BYTES_MAX));
        assert!(long.len() <= BODY_BYTES_MAX + 3 && long.ends_with("é…"));
        assert_eq!(body("short".to_owned()), "short");
    }

    #[test]
    fn a_long_list_says_how_much_is_left_out() {
        let text = lines(&[(); 25], "collections", |()| "x".to_owned());
        assert_eq!(text.lines().count(), 21);
        assert!(text.ends_with("and 5 more collections"));
    }
}
