//! The part of the executive summary that says what was verified, and what was found.
//!
//! Never a value, even if somebody has asked for values: the page is passed on. Neighbours: `executive_summary` has the page,
//! `proof` the words that all reports share.

use super::FinalReport;
use super::figures::{count, counted};
use super::markdown::{code, message, shortened};
use super::proof::{
    certificate, classes, levels, repair_figures, rule_place, rule_state, short, sink_orphans, slowest,
    speed, touched, unreadable_in_source, violations, whose,
};
use super::summary_tables::{comparison, is_sure_to_be_equal, kind_name};
use crate::events::{MismatchKind, RuleState, RunSummary, VerificationResult};

/// Differences that the page names of each collection.
const MISMATCHES_MAX: usize = 3;
/// Collections whose digests the page has.
const DIGESTS_MAX: usize = 5;

/// What was compared, and what was found.
pub(super) fn proof(report: &FinalReport) -> String {
    let summary = &report.task.summary;
    if summary.verification.is_empty() {
        return match report.task.command.as_str() {
            "check" => String::new(),
            _ => format!(
                "## Verification\n\nBoth sides were **not compared**.\n{}",
                rules(summary)
            ),
        };
    }
    let mut text = overview(summary);
    text.push_str(&differences(summary));
    text.push_str(&remarks(summary));
    text.push_str(&rules(summary));
    text.push_str(&orphans(summary));
    text.push_str(&repaired(summary));
    text.push_str(&digests(summary));
    text
}

fn overview(summary: &RunSummary) -> String {
    let results = &summary.verification;
    let compared: u64 = results.iter().map(|result| result.compared_count).sum();
    let equal = results
        .iter()
        .filter(|result| is_sure_to_be_equal(result))
        .count();
    let every = if results.iter().all(|result| result.every_record) {
        "every record, every field"
    } else {
        "a part of the records"
    };
    format!(
        "## Verification\n\n{} of {} are equal; {} compared ({every}). Level: {}.\n",
        count(equal as u64),
        counted(results.len() as u64, "collection"),
        counted(compared, "record"),
        levels(results),
    )
}

fn differences(summary: &RunSummary) -> String {
    let unlike = |result: &&VerificationResult| !is_sure_to_be_equal(result);
    let unlike: Vec<&VerificationResult> = summary.verification.iter().filter(unlike).collect();
    let lines: Vec<String> = unlike
        .iter()
        .map(|result| {
            let classes = match classes(result) {
                classes if classes.is_empty() => String::new(),
                classes => format!(" ({classes})"),
            };
            let mut line = format!(
                "- {}: {} in the source, {} in the sink, {}{classes}.",
                code(&result.source),
                count(result.source_count),
                count(result.sink_count),
                comparison(result)
            );
            if let Some(file) = &result.mismatches_file {
                line.push_str(&format!(
                    " All of them: {}.",
                    code(&format!("verification-results/{file}"))
                ));
            }
            line
        })
        .collect();
    if lines.is_empty() {
        return String::new();
    }
    let first: Vec<String> = unlike.iter().flat_map(|result| named(result)).collect();
    let first = match first.is_empty() {
        true => String::new(),
        false => format!("\nThe first of them:\n\n{}", shortened(first)),
    };
    format!("\n{}{first}", shortened(lines))
}

/// The first differences of a collection.
fn named(result: &VerificationResult) -> Vec<String> {
    let shown = result.mismatches.iter().take(MISMATCHES_MAX);
    shown
        .map(|mismatch| {
            let fields: Vec<String> = mismatch.fields.iter().map(|field| code(field)).collect();
            let fields = match fields.is_empty() {
                true => String::new(),
                false => format!(", fields {}", fields.join(", ")),
            };
            let record = match mismatch.kind {
                // What differs is no record then, and said in words.
                MismatchKind::Schema | MismatchKind::Count => message(&mismatch.record),
                _ => code(&mismatch.record),
            };
            format!(
                "- {}, {}: {record}{fields}",
                code(&result.source),
                kind_name(mismatch.kind)
            )
        })
        .collect()
}

/// What is no difference but worth a word.
fn remarks(summary: &RunSummary) -> String {
    let results = &summary.verification;
    let mut lines: Vec<String> = Vec::new();
    if let Some(note) = &summary.certificate {
        lines.push(format!("- Certificate: {}.", certificate(note, code, message)));
    }
    lines.extend(
        results
            .iter()
            .filter(|result| result.equal_after_loss_count > 0)
            .map(|result| {
                format!(
                    "- {}: {} equal after a declared loss ({}).",
                    code(&result.source),
                    counted(result.equal_after_loss_count, "record"),
                    touched(result, code)
                )
            }),
    );
    lines.extend(
        results
            .iter()
            .filter(|result| result.source_unreadable_count > 0)
            .map(|result| format!("- {}: {}.", code(&result.source), unreadable_in_source(result))),
    );
    lines.extend(
        results
            .iter()
            .filter(|result| result.changed_since_count > 0)
            .map(|result| {
                format!(
                    "- {}: {} changed in the source while both sides were compared, neither equal nor different.",
                    code(&result.source),
                    counted(result.changed_since_count, "record")
                )
            }),
    );
    lines.extend(
        slowest(results)
            .map(|(result, latency)| format!("- Read by key, {}: {}.", code(&result.sink), speed(latency))),
    );
    match lines.is_empty() {
        true => String::new(),
        false => format!("\n{}", shortened(lines)),
    }
}

fn rules(summary: &RunSummary) -> String {
    if summary.rules.is_empty() {
        return String::new();
    }
    let unheld = summary.rules.iter().filter(|rule| rule.state != RuleState::Held);
    let lines: Vec<String> = unheld
        .map(|rule| {
            let what = match rule.state {
                RuleState::Unchecked => rule
                    .reason
                    .as_deref()
                    .map_or_else(|| "nobody looked".to_owned(), message),
                _ => violations(rule),
            };
            format!(
                "- {} ({}): **{}**, {what}.",
                code(&rule.name),
                rule_place(rule, code),
                rule_state(rule.state)
            )
        })
        .collect();
    let held = summary.rules.len() - lines.len();
    let lines = match lines.is_empty() {
        true => String::new(),
        false => format!("\n{}", shortened(lines)),
    };
    format!(
        "\nRules: {} of {} held.\n{lines}",
        count(held as u64),
        count(summary.rules.len() as u64)
    )
}

fn orphans(summary: &RunSummary) -> String {
    let lines: Vec<String> = sink_orphans(summary)
        .into_iter()
        .map(|reference| {
            format!(
                "- {} ({}) to {}: {} of {}, {}.",
                code(&reference.collection),
                code(&reference.fields.join(", ")),
                code(&reference.parent),
                count(reference.orphan_count),
                counted(reference.record_count, "record"),
                whose(reference)
            )
        })
        .collect();
    match lines.is_empty() {
        true => String::new(),
        false => format!(
            "\nThese records of the sink point to others that it does not have:\n\n{}",
            shortened(lines)
        ),
    }
}

fn repaired(summary: &RunSummary) -> String {
    let lines: Vec<String> = summary
        .repaired
        .iter()
        .map(|repair| format!("- {}: {}.", code(&repair.source), repair_figures(repair)))
        .collect();
    match lines.is_empty() {
        true => String::new(),
        false => format!("\nRepaired:\n\n{}", shortened(lines)),
    }
}

fn digests(summary: &RunSummary) -> String {
    let with_digests: Vec<_> = summary
        .verification
        .iter()
        .filter_map(|result| result.digests.as_ref().map(|digests| (result, digests)))
        .collect();
    if with_digests.is_empty() {
        return String::new();
    }
    let rows: String = with_digests
        .iter()
        .take(DIGESTS_MAX)
        .map(|(result, digests)| {
            let cells: String = [&digests.extracted, &digests.transformed, &digests.read_back]
                .map(|place| {
                    place.as_ref().map_or_else(
                        || " - |".to_owned(),
                        |place| format!(" {} |", code(&short(&place.root))),
                    )
                })
                .concat();
            format!("| {} |{cells}\n", code(&result.source))
        })
        .collect();
    let more = with_digests.len().saturating_sub(DIGESTS_MAX) as u64;
    let more = match more {
        0 => String::new(),
        more => format!("\n{} more in `report.html`.\n", counted(more, "collection")),
    };
    format!("\n| digest | extracted | transformed | read back |\n|---|---|---|---|\n{rows}{more}")
}
