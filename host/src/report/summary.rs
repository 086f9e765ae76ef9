//! The summary for people: tables to standard output, what went wrong in the form of every other error.
//! Names and keys may be shown, values never.

use comfy_table::{CellAlignment, Table, presets};

use super::TaskReport;
use crate::events::{Comparison, Failure, MismatchKind, Phase, VerificationResult};

/// Differences that the text lists per collection; the JSON has more.
const MISMATCHES_SHOWN_MAX: usize = 5;
/// Rejected records that the text lists.
const REJECTED_SHOWN_MAX: usize = 10;

/// The summary.
pub fn text(report: &TaskReport) -> String {
    let mut text = String::new();
    for plugin in &report.plugins {
        text.push_str(&format!(
            "{:7} {} {}\n",
            plugin.role.name(),
            plugin.name,
            plugin.version
        ));
    }
    if !report.summary.collections.is_empty() {
        text.push_str(&collections(report));
    }
    if !report.summary.ddl.is_empty() && report.command == "check" {
        text.push_str("\nthe sink would run:\n");
        report
            .summary
            .ddl
            .iter()
            .for_each(|statement| text.push_str(&format!("  {statement}\n")));
    }
    text.push_str(&losses(report));
    text.push_str(&rejected(report));
    if !report.summary.verification.is_empty() {
        text.push_str(&verification(report));
    }
    if !report.summary.phases.is_empty() {
        text.push_str(&phases(report));
    }
    text.push_str(&format!("\n{}\n", verdict(report)));
    text
}

fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(header);
    table
}

fn align_right(table: &mut Table, columns: impl IntoIterator<Item = usize>) {
    for index in columns {
        if let Some(column) = table.column_mut(index) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
}

fn collections(report: &TaskReport) -> String {
    let is_run = report.command == "run";
    let header: &[&str] = if is_run {
        &[
            "COLLECTION",
            "INTO",
            "READ",
            "WRITTEN",
            "SKIPPED",
            "REJECTED",
            "COMPLETE",
        ]
    } else {
        &["COLLECTION", "INTO", "RECORDS", "KEY"]
    };
    let mut table = table(header);
    for collection in &report.summary.collections {
        let names = [printable(&collection.source), printable(&collection.sink)];
        let rest: Vec<String> = if is_run {
            vec![
                collection.read_count.to_string(),
                collection.written_count.to_string(),
                collection.skipped_count.to_string(),
                collection.rejected_count.to_string(),
                if collection.complete { "yes" } else { "no" }.to_owned(),
            ]
        } else {
            let records = collection
                .estimate
                .map_or_else(|| "?".to_owned(), |count| count.to_string());
            vec![records, printable(&collection.key.join(", "))]
        };
        table.add_row(names.into_iter().chain(rest));
    }
    align_right(&mut table, 2..if is_run { 6 } else { 3 });
    format!("\n{table}\n")
}

fn losses(report: &TaskReport) -> String {
    let mut lines: Vec<String> = Vec::new();
    for collection in &report.summary.collections {
        let mut by_loss: std::collections::BTreeMap<&str, usize> = std::collections::BTreeMap::new();
        for loss in &collection.losses {
            *by_loss.entry(loss.loss.name()).or_default() += 1;
        }
        for (loss, fields) in by_loss {
            lines.push(format!(
                "  {}: {loss} ({fields} field{})\n",
                printable(&collection.source),
                plural(fields)
            ));
        }
    }
    if lines.is_empty() {
        String::new()
    } else {
        format!("\ndeclared losses:\n{}", lines.concat())
    }
}

fn plural(count: usize) -> &'static str {
    if count == 1 { "" } else { "s" }
}

fn rejected(report: &TaskReport) -> String {
    if report.summary.rejected_count == 0 {
        return String::new();
    }
    let mut text = format!("\nrejected records ({}):\n", report.summary.rejected_count);
    for (collection, record) in report.summary.rejected.iter().take(REJECTED_SHOWN_MAX) {
        let (collection, id) = (printable(collection), printable(&record.record));
        text.push_str(&format!(
            "  {collection}, {id}: {} [{}]\n",
            record.message, record.code
        ));
    }
    let more = (report.summary.rejected_count as usize).saturating_sub(REJECTED_SHOWN_MAX);
    if more > 0 {
        text.push_str(&format!("  and {more} more (`--json` lists up to 50)\n"));
    }
    text
}

fn verification(report: &TaskReport) -> String {
    let mut table = table(&["VERIFIED", "SOURCE", "SINK", "COMPARED", "RESULT"]);
    for result in &report.summary.verification {
        let compared = if result.every_record {
            "every record".to_owned()
        } else {
            result.compared_count.to_string()
        };
        let outcome = match result.comparison {
            Comparison::Equal => "equal".to_owned(),
            Comparison::Different => format!("{} differences", result.mismatch_count),
        };
        table.add_row([
            printable(&result.source),
            result.source_count.to_string(),
            result.sink_count.to_string(),
            compared,
            outcome,
        ]);
    }
    align_right(&mut table, 1..3);
    let mut text = format!("\n{table}\n");
    for result in report
        .summary
        .verification
        .iter()
        .filter(|result| result.mismatch_count > 0)
    {
        text.push_str(&mismatches(result));
    }
    for result in report
        .summary
        .verification
        .iter()
        .filter(|result| result.duplicate_key_count > 0)
    {
        text.push_str(&format!(
            "{}: {} records of the source share their key with another; the last one counts\n",
            printable(&result.source),
            result.duplicate_key_count
        ));
    }
    text
}

fn mismatches(result: &VerificationResult) -> String {
    let mut text = format!("differences in {}:\n", printable(&result.source));
    for mismatch in result.mismatches.iter().take(MISMATCHES_SHOWN_MAX) {
        let kind = match mismatch.kind {
            MismatchKind::Schema => "schema",
            MismatchKind::Count => "count",
            MismatchKind::Missing => "missing",
            MismatchKind::Extra => "extra",
            MismatchKind::Different => "different",
            MismatchKind::Unreadable => "unreadable",
        };
        let fields = if mismatch.fields.is_empty() {
            String::new()
        } else {
            format!(" (fields: {})", printable(&mismatch.fields.join(", ")))
        };
        text.push_str(&format!("  {kind}: {}{fields}\n", printable(&mismatch.record)));
    }
    let more = (result.mismatch_count as usize).saturating_sub(MISMATCHES_SHOWN_MAX);
    if more > 0 {
        text.push_str(&format!("  and {more} more (`--json` lists up to 50)\n"));
    }
    text
}

fn phases(report: &TaskReport) -> String {
    let parts: Vec<String> = report
        .summary
        .phases
        .iter()
        .filter(|phase| phase.seconds > 0.0)
        .map(|phase| format!("{} {:.2} s", phase.phase.name(), phase.seconds))
        .collect();
    let memory = report.summary.memory_peak_bytes as f64 / (1024.0 * 1024.0);
    let first = report
        .summary
        .first_commit_ms
        .map_or_else(String::new, |ms| format!("; first commit after {ms} ms"));
    format!("\n{}; peak memory {memory:.0} MiB{first}\n", parts.join(", "))
}

fn verdict(report: &TaskReport) -> String {
    let job = printable(&report.job);
    match (report.outcome, report.command.as_str()) {
        ("done", "check") => format!("{job}: nothing stands in the way"),
        ("done", "verify") => format!("{job}: both sides are equal"),
        ("done", _) if report.summary.verification.is_empty() => format!("{job}: done, not verified"),
        ("done", _) => format!("{job}: done and verified"),
        ("differences", _) => format!("{job}: the sides differ"),
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

/// What went wrong, one block each.
pub fn troubles(report: &TaskReport) -> String {
    report.errors.iter().map(trouble).collect::<Vec<_>>().join("\n")
}

fn trouble(failure: &Failure) -> String {
    let error = &failure.error;
    let mut text = format!("{}\n", printable(&error.message));
    if let (Some(plugin), Some(role), Some(call)) = (&failure.plugin, failure.role, &failure.call) {
        text.push_str(&format!("  in: `{call}` of {role} `{plugin}`\n"));
    }
    if let Some(place) = &error.place {
        text.push_str(&format!("  --> {}\n", printable(place)));
    }
    for cause in &error.causes {
        text.push_str(&format!("  because: {}\n", printable(cause)));
    }
    if let Some(help) = &error.help {
        text.push_str(&format!("  help: {}\n", printable(help)));
    }
    text.push_str(&format!("  code: {}\n", error.code));
    text
}

/// Names come from outside and may hold characters that steer a terminal.
fn printable(text: &str) -> String {
    text.chars()
        .map(|char| if char.is_control() { '\u{fffd}' } else { char })
        .collect()
}
