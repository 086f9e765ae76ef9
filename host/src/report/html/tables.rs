//! The tables of the page: collections, differences, rejected records, declared losses.
//! Each has a limit and says how many it leaves out; what is not well comes first.

use std::collections::HashMap;

use maud::{Markup, html};

use super::super::FinalReport;
use super::super::figures::{bytes, count};
use super::super::proof::classes;
use super::super::summary_tables::{comparison, is_sure_to_be_equal, kind_name, more_mismatches, value};
use super::sections::{named, worded};
use crate::events::{CollectionResult, Mismatch, VerificationResult};

/// Lines of a table; more make a page slow to open and are looked for with other means.
const ROWS_MAX: usize = 500;
/// Rejected records that the page shows.
const REJECTED_MAX: usize = 50;
/// Differences that the page shows for each collection.
const MISMATCHES_MAX: usize = 10;

type Verified<'a> = HashMap<&'a str, &'a VerificationResult>;

/// The collections with what became of them.
pub fn collections(report: &FinalReport) -> Markup {
    let all = &report.task.summary.collections;
    if all.is_empty() {
        return html! {};
    }
    let verified: Verified<'_> = report
        .task
        .summary
        .verification
        .iter()
        .map(|result| (result.source.as_str(), result))
        .collect();
    let is_run = report.task.is_run();
    let is_unwell = |collection: &&CollectionResult| {
        (is_run && !collection.complete)
            || collection.rejected_count > 0
            || verified
                .get(collection.source.as_str())
                .is_some_and(|result| !is_sure_to_be_equal(result))
    };
    let (unwell, well): (Vec<_>, Vec<_>) = all.iter().partition(is_unwell);
    let left_out = all.len().saturating_sub(ROWS_MAX);
    let shown = Shown {
        is_run,
        skipped: all.iter().any(|collection| collection.skipped_count > 0),
        filtered: all.iter().any(|collection| collection.filtered_count > 0),
        verified: &verified,
    };
    html! {
        section.long {
            h2 { "Collections" }
            div.scroll {
                table {
                    thead {
                        tr {
                            th { "Collection" } th { "Into" }
                            @if is_run {
                                th.number { "Read" } th.number { "Written" } @if shown.skipped { th.number { "Skipped" } }
                                @if shown.filtered { th.number { "Filtered" } }

                                th.number { "Rejected" } th.number { "Size" } th { "Complete" }
                            } @else { th.number { "Records" } th { "Key" } }
                            @if !verified.is_empty() { th.number { "Source" } th.number { "Sink" } th { "Verified" } }
                        }
                    }
                    tbody {
                        @for collection in unwell.into_iter().chain(well).take(ROWS_MAX) {
                            (row(collection, &shown))
                        }
                    }
                    @if is_run && all.len() > 1 { (sums(all, &shown)) }
                }
            }
            (more(left_out as u64))
        }
    }
}

/// Which columns say something.
struct Shown<'a> {
    is_run: bool,
    skipped: bool,
    filtered: bool,
    verified: &'a Verified<'a>,
}

fn row(collection: &CollectionResult, shown: &Shown<'_>) -> Markup {
    html! {
        tr {
            td { (named(&collection.source)) }
            td { (named(&collection.sink)) }
            @if shown.is_run {
                td.number { (count(collection.read_count)) }
                td.number { (count(collection.written_count)) }
                @if shown.skipped { td.number { (count(collection.skipped_count)) } }
                @if shown.filtered { td.number { (count(collection.filtered_count)) } }
                td.number { (count(collection.rejected_count)) }
                td.number { (bytes(collection.read_bytes)) }
                td { (badge(collection.complete, "yes", "no")) }
            } @else {
                td.number { (collection.estimate.map_or_else(|| "?".to_owned(), count)) }
                td { (named(&collection.key.join(", "))) }
            }
            @if !shown.verified.is_empty() {
                @match shown.verified.get(collection.source.as_str()) {
                    Some(result) => {
                        td.number { (count(result.source_count)) }
                        td.number { (count(result.sink_count)) }
                        td { (judgement(result)) }
                    }
                    None => { td.number { "-" } td.number { "-" } td { span."badge mixed" { "not compared" } } }
                }
            }
        }
    }
}

fn sums(all: &[CollectionResult], shown: &Shown<'_>) -> Markup {
    let sum = |number: fn(&CollectionResult) -> u64| -> u64 { all.iter().map(number).sum() };
    html! {
        tfoot {
            tr {
                td { (count(all.len() as u64)) " collections" } td {}
                td.number { (count(sum(|collection| collection.read_count))) }
                td.number { (count(sum(|collection| collection.written_count))) }
                @if shown.skipped { td.number { (count(sum(|collection| collection.skipped_count))) } }
                @if shown.filtered { td.number { (count(sum(|collection| collection.filtered_count))) } }
                td.number { (count(sum(|collection| collection.rejected_count))) }
                td.number { (bytes(sum(|collection| collection.read_bytes))) }
                td {}
                @if !shown.verified.is_empty() {
                    td.number { (count(shown.verified.values().map(|result| result.source_count).sum())) }
                    td.number { (count(shown.verified.values().map(|result| result.sink_count).sum())) }
                    td {}
                }
            }
        }
    }
}

fn judgement(result: &VerificationResult) -> Markup {
    let tone = match (is_sure_to_be_equal(result), result.mismatch_count) {
        (true, _) => "badge good",
        (false, 0) => "badge mixed",
        (false, _) => "badge bad",
    };
    html! { span class=(tone) { (comparison(result)) } }
}

fn badge(is_good: bool, good: &str, bad: &str) -> Markup {
    html! {
        @if is_good { span."badge good" { (good) } } @else { span."badge bad" { (bad) } }
    }
}

fn more(left_out: u64) -> Markup {
    html! {
        @if left_out > 0 {
            p.note { (count(left_out)) " more are in " code { "final-migration-report.json" } "." }
        }
    }
}

/// What differs, by collection. Keys and names of fields; values only if somebody has asked for them.
pub fn differences(report: &FinalReport) -> Markup {
    let results = &report.task.summary.verification;
    let unlike = |result: &&VerificationResult| result.mismatch_count > 0 || result.changed_since_count > 0;
    let unlike: Vec<&VerificationResult> = results.iter().filter(unlike).collect();
    let doubled: Vec<&VerificationResult> = results
        .iter()
        .filter(|result| result.duplicate_key_count > 0)
        .collect();
    if unlike.is_empty() && doubled.is_empty() {
        return html! {};
    }
    html! {
        section.long {
            h2 { "Differences" }
            div.scroll {
                table {
                    thead { tr { th { "Collection" } th { "Kind" } th { "Record" } th { "Fields" } } }
                    tbody {
                        @for result in unlike.iter().take(ROWS_MAX / MISMATCHES_MAX) { (differing(result)) }
                        @for result in doubled.iter().take(ROWS_MAX) {
                            tr {
                                td { (named(&result.source)) }
                                td { "shared key" }
                                td colspan="2" {
                                    (count(result.duplicate_key_count))
                                    " records of the source share their key with another; the last one counts"
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// The first differences of a collection, and where the others are.
fn differing(result: &VerificationResult) -> Markup {
    let more = more_mismatches(result, MISMATCHES_MAX);
    html! {
        @for mismatch in result.mismatches.iter().take(MISMATCHES_MAX) { (difference(result, mismatch)) }
        @if more > 0 || result.mismatches_file.is_some() {
            tr {
                td { (named(&result.source)) }
                td colspan="3" {
                    @if more > 0 { "and " (count(more)) " more" @if !classes(result).is_empty() { " (" (classes(result)) ")" } }
                    @if let Some(file) = &result.mismatches_file {
                        @if more > 0 { "; " }
                        "all of them: " code { (named(&format!("verification-results/{file}"))) }
                    }
                }
            }
        }
    }
}

fn difference(result: &VerificationResult, mismatch: &Mismatch) -> Markup {
    html! {
        tr {
            td { (named(&result.source)) }
            td { (kind_name(mismatch.kind)) }
            td { code { (named(&mismatch.record)) } }
            td {
                (named(&mismatch.fields.join(", ")))
                @for values in &mismatch.values {
                    div {
                    (named(&values.field)) ": " code { (named(&value(values.source.as_deref()))) } " in the source, "
                    code { (named(&value(values.sink.as_deref()))) } " in the sink"
                    }
                }
            }
        }
    }
}

/// The first rejected records, without their values.
pub fn rejected(report: &FinalReport) -> Markup {
    let summary = &report.task.summary;
    if summary.rejected_count == 0 {
        return html! {};
    }
    let shown = summary.rejected.len().min(REJECTED_MAX);
    html! {
        section.long {
            h2 { "Rejected records" }
            div.scroll {
                table {
                    thead { tr { th { "Collection" } th { "Record" } th { "Reason" } th { "Code" } } }
                    tbody {
                        @for (collection, record) in summary.rejected.iter().take(shown) {
                            tr {
                                td { (named(collection)) }
                                td { code { (named(&record.record)) } }
                                td { (worded(&record.message)) }
                                td { code { (named(&record.code)) } }
                            }
                        }
                    }
                }
            }
            @if summary.rejected_count > shown as u64 {
                p.note {
                    (count(summary.rejected_count - shown as u64)) " more: "
                    code { "whimbrel rejected list " (report.facts.run_id) }
                }
            }
        }
    }
}

/// Declared losses, field by field.
pub fn losses(report: &FinalReport) -> Markup {
    let with_losses: Vec<&CollectionResult> = report
        .task
        .summary
        .collections
        .iter()
        .filter(|collection| !collection.losses.is_empty())
        .collect();
    if with_losses.is_empty() {
        return html! {};
    }
    let left_out = with_losses.len().saturating_sub(ROWS_MAX);
    html! {
        section.long {
            h2 { "Declared losses" }
            p.note { "What the types of the sink cannot hold, known before the run; verification allows for it." }
            div.scroll {
                table {
                    thead { tr { th { "Collection" } th { "Loss" } th { "Fields" } } }
                    tbody {
                        @for collection in with_losses.iter().take(ROWS_MAX) {
                            @for (loss, fields) in by_loss(collection) {
                                tr {
                                    td { (named(&collection.source)) }
                                    td { code { (loss) } }
                                    td { (named(&fields.join(", "))) }
                                }
                            }
                        }
                    }
                }
            }
            (more(left_out as u64))
        }
    }
}

fn by_loss(collection: &CollectionResult) -> std::collections::BTreeMap<&'static str, Vec<&str>> {
    let mut by_loss: std::collections::BTreeMap<&'static str, Vec<&str>> = std::collections::BTreeMap::new();
    for loss in &collection.losses {
        by_loss.entry(loss.loss.name()).or_default().push(&loss.field);
    }
    by_loss
}
