//! The summary for people at a terminal: what moved, what is not as it should be, the verdict, where to read on.
//! Names and keys may be shown, values never. The tables are in `summary_tables`.

use std::collections::BTreeMap;
use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};

use super::cost::{cost_line, sink_cost_line};
use super::figures::{bytes, count, counted, printable, rate, record_label, seconds};
use super::next_steps::{RESULTS_FOLDER, next_steps_with};
use super::orphans::orphans_text;
use super::proof::{classes, proof_text, repaired_text, rules_text, sink_orphans_text, unreadable_in_source};
use super::snapshots::snapshots_text;
use super::summary_tables::{mismatches, table};
use super::{TaskReport, Tone, tone, verdict};
use crate::events::{Failure, VerificationResult};

/// Rejected records that the text lists.
const REJECTED_SHOWN_MAX: usize = 10;
/// Collections that a line about losses names.
const LOSS_COLLECTIONS_MAX: usize = 3;

/// What a summary may use, and what it can point to.
#[derive(Debug, Clone, Default)]
pub struct Look {
    /// Whether a person looks at it: colours are used and long names cut.
    pub terminal: bool,
    /// The run's report for a browser, if there is one.
    pub html_report: Option<PathBuf>,
    /// The run, if it is kept.
    pub run_id: Option<String>,
    /// The job file, as it was named.
    pub job_file: String,
    /// Where differences are listed, if not beside the report for a browser.
    pub results_folder: Option<PathBuf>,
}

impl Look {
    /// For standard output as it is: a terminal that nobody asked to be without colours, or something else.
    pub fn of_stdout(job_file: &str) -> Self {
        let is_set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let is_dumb = std::env::var_os("TERM").is_some_and(|value| value == "dumb");
        Self {
            terminal: std::io::stdout().is_terminal() && !is_set("NO_COLOR") && !is_dumb,
            job_file: job_file.to_owned(),
            ..Self::default()
        }
    }

    fn paint(&self, codes: &str, text: &str) -> String {
        if self.terminal {
            format!("\u{1b}[{codes}m{text}\u{1b}[0m")
        } else {
            text.to_owned()
        }
    }

    fn heading(&self, text: &str) -> String {
        self.paint("1", text)
    }

    /// The file that lists all differences of a collection, as a person would type it.
    fn list_of(&self, result: &VerificationResult) -> Option<String> {
        let name = result.mismatches_file.as_deref()?;
        Some(from_here(&self.results()?.join(name)).display().to_string())
    }

    /// The folder of the lists of differences, if they are kept.
    fn results(&self) -> Option<PathBuf> {
        let beside = |page: &PathBuf| page.with_file_name(RESULTS_FOLDER);
        let named = self.results_folder.clone();
        named.or_else(|| self.html_report.as_ref().map(beside))
    }
}

/// The summary.
pub fn text(report: &TaskReport, look: &Look) -> String {
    let mut parts = vec![
        plugins(report),
        table(report, look.terminal),
        statements(report, look),
        losses(report, look),
        snapshots_text(&report.summary, &look.heading("read at several snapshots:")),
        orphans(report, look),
        rejected(report, look),
        differences(report, look),
        rules_text(&report.summary, &look.heading("rules:")),
        sink_orphans_text(&report.summary, &look.heading("orphans in the sink:")),
        repaired_text(&report.summary, &look.heading("repaired:")),
        proof_text(&report.summary, &look.heading("verification:")),
        phases(report),
        cost(report),
    ];
    parts.push(format!("{}\n", last_line(report, look)));
    parts.push(steps(report, look));
    parts.retain(|part| !part.is_empty());
    let mut text = parts.join("\n");
    if let Some(path) = &look.html_report {
        text.push_str(&format!("report: {}\n", from_here(path).display()));
    }
    text
}

/// A path as a person would type it in the folder that they are in.
fn from_here(path: &Path) -> &Path {
    let here = std::env::current_dir();
    here.ok()
        .and_then(|here| path.strip_prefix(here).ok())
        .unwrap_or(path)
}

fn plugins(report: &TaskReport) -> String {
    report
        .plugins
        .iter()
        .map(|plugin| format!("{:9} {} {}\n", plugin.role.name(), plugin.name, plugin.version))
        .collect()
}

fn statements(report: &TaskReport, look: &Look) -> String {
    if report.summary.ddl.is_empty() || report.command != "check" {
        return String::new();
    }
    let lines: String = report
        .summary
        .ddl
        .iter()
        .map(|statement| format!("  {statement}\n"))
        .collect();
    format!("{}\n{lines}", look.heading("the sink would run:"))
}

/// Records that point to nothing, with the file that lists all of them.
fn orphans(report: &TaskReport, look: &Look) -> String {
    let file = look
        .html_report
        .as_ref()
        .zip(report.summary.orphans_file.as_ref());
    let file = file.map(|(page, name)| from_here(&page.with_file_name(name)).display().to_string());
    orphans_text(&report.summary, &look.heading("orphans:"), file.as_deref())
}

/// One line for each kind of loss: a job of a hundred tables has the same few everywhere.
fn losses(report: &TaskReport, look: &Look) -> String {
    let mut by_loss: BTreeMap<&str, BTreeMap<&str, u64>> = BTreeMap::new();
    for collection in &report.summary.collections {
        for loss in &collection.losses {
            let collections = by_loss.entry(loss.loss.name()).or_default();
            *collections.entry(&collection.source).or_default() += 1;
        }
    }
    if by_loss.is_empty() {
        return String::new();
    }
    let mut text = format!("{}\n", look.heading("declared losses:"));
    for (loss, collections) in by_loss {
        let names: Vec<String> = collections
            .keys()
            .take(LOSS_COLLECTIONS_MAX)
            .map(|name| printable(name))
            .collect();
        let more = match collections.len().saturating_sub(names.len()) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        text.push_str(&format!(
            "  {loss}: {} of {}{more}\n",
            counted(collections.values().sum(), "field"),
            names.join(", ")
        ));
    }
    text
}

fn rejected(report: &TaskReport, look: &Look) -> String {
    let total = report.summary.rejected_count;
    if total == 0 {
        return String::new();
    }
    let heading = format!("rejected records ({}):", count(total));
    let mut text = format!("{}\n", look.paint("1;33", &heading));
    let shown = report.summary.rejected.iter().take(REJECTED_SHOWN_MAX);
    let mut shown_count = 0;
    for (collection, record) in shown {
        shown_count += 1;
        text.push_str(&format!(
            "  {}, {}: {} [{}]\n",
            printable(collection),
            record_label(&record.record),
            printable(&record.message),
            printable(&record.code)
        ));
    }
    let more = total.saturating_sub(shown_count);
    if more > 0 {
        let how = match &look.run_id {
            Some(run_id) => format!("`whimbrel rejected list {run_id}` lists all"),
            None => "`--json` lists up to 50".to_owned(),
        };
        text.push_str(&format!("  and {} more ({how})\n", count(more)));
    }
    text
}

fn differences(report: &TaskReport, look: &Look) -> String {
    let mut text = String::new();
    for result in &report.summary.verification {
        if result.mismatch_count > 0 {
            let heading = match classes(result) {
                classes if classes.is_empty() => format!("differences in {}:", printable(&result.source)),
                classes => format!("differences in {} ({classes}):", printable(&result.source)),
            };
            text.push_str(&format!("{}\n", look.paint("1;31", &heading)));
            text.push_str(&mismatches(result, look.list_of(result).as_deref()));
        } else if result.changed_since_count > 0 {
            let heading = format!("changed meanwhile in {}:", printable(&result.source));
            text.push_str(&format!("{}\n", look.paint("1;33", &heading)));
            text.push_str(&mismatches(result, look.list_of(result).as_deref()));
        }
    }
    for result in &report.summary.verification {
        for remark in remarks(result) {
            text.push_str(&format!("{}: {remark}\n", printable(&result.source)));
        }
    }
    text
}

/// What is to be known of a comparison besides what differs.
fn remarks(result: &VerificationResult) -> Vec<String> {
    let mut remarks = Vec::new();
    let records = |number| counted(number, "record");
    if result.duplicate_key_count > 0 {
        remarks.push(format!(
            "{} of the source share their key with another; the last one counts",
            records(result.duplicate_key_count)
        ));
    }
    if result.is_count_open {
        let text = "the numbers of records say nothing: the source has too many keys to count all that share one; `comprehensive` does";
        remarks.push(text.to_owned());
    }
    if result.settled_count > 0 {
        remarks.push(format!(
            "{} differed at first and were alike a moment later; the sink was written to meanwhile",
            records(result.settled_count)
        ));
    }
    if result.source_unreadable_count > 0 {
        remarks.push(unreadable_in_source(result));
    }
    if result.left_out_count > 0 {
        remarks.push(format!(
            "compared without {} that the sink has refused",
            records(result.left_out_count)
        ));
    }
    remarks
}

fn phases(report: &TaskReport) -> String {
    let parts: Vec<String> = report
        .summary
        .phases
        .iter()
        .filter(|phase| phase.seconds > 0.0)
        .map(|phase| format!("{} {}", phase.phase.name(), seconds(phase.seconds)))
        .collect();
    if parts.is_empty() {
        return String::new();
    }
    let memory = match report.summary.memory_peak_bytes {
        0 => String::new(),
        peak => format!("; peak memory {}", bytes(peak)),
    };
    let first = report
        .summary
        .first_commit_ms
        .map_or_else(String::new, |ms| format!("; first commit after {} ms", count(ms)));
    format!("{}{memory}{first}\n", parts.join(", "))
}

/// What the source and the sink bill, as it was estimated before the copy.
fn cost(report: &TaskReport) -> String {
    let summary = &report.summary;
    if !report.is_run() {
        return String::new();
    }
    let of_source = summary.cost.as_ref().map(cost_line);
    let of_sink = summary.sink_cost.as_ref().map(sink_cost_line);
    let of_source = of_source.map(|line| format!("estimated before the copy: {line}\n"));
    let of_sink = of_sink.map(|line| format!("estimated before the copy, of the sink: {line}\n"));
    of_source.into_iter().chain(of_sink).collect()
}

fn last_line(report: &TaskReport, look: &Look) -> String {
    let codes = match tone(report) {
        Tone::Good => "1;32",
        Tone::Mixed => "1;33",
        Tone::Bad => "1;31",
    };
    let written: u64 = report
        .summary
        .collections
        .iter()
        .map(|collection| collection.written_count)
        .sum();
    let copying = report
        .summary
        .phases
        .iter()
        .find(|phase| phase.phase == crate::events::Phase::Import)
        .map(|phase| phase.seconds)
        .filter(|seconds| *seconds > 0.0);
    let figures = match copying {
        Some(copying) if report.copies() => {
            let mut figures = format!(
                " ({} of {} written",
                counted(written, "record"),
                counted(report.summary.collections.len() as u64, "collection")
            );
            // What an earlier run has written took its time, not this one's.
            if report.command != "resume" {
                figures.push_str(&format!(", {}", rate(written as f64 / copying)));
            }
            figures + ")"
        }
        _ => String::new(),
    };
    format!("{}{figures}", look.paint(codes, &verdict(report)))
}

/// What to do now, unless all is well: then the report says it.
fn steps(report: &TaskReport, look: &Look) -> String {
    if tone(report) == Tone::Good {
        return String::new();
    }
    let run_id = look.run_id.as_deref().unwrap_or("RUN");
    let results = look.results().map_or_else(
        || RESULTS_FOLDER.to_owned(),
        |folder| from_here(&folder).display().to_string(),
    );
    next_steps_with(report, &look.job_file, run_id, &results)
        .iter()
        .map(|step| {
            let command = step
                .command
                .as_ref()
                .map_or_else(String::new, |command| format!("\n        {command}"));
            format!("  next: {}{command}\n", step.text)
        })
        .collect()
}

/// What went wrong, one block each.
pub fn troubles(report: &TaskReport) -> String {
    report.errors.iter().map(trouble).collect::<Vec<_>>().join("\n")
}

fn trouble(failure: &Failure) -> String {
    let error = &failure.error;
    let mut text = format!("{}\n", printable(&error.message));
    if let (Some(plugin), Some(role)) = (&failure.plugin, failure.role) {
        // What a check has found has no call; which side it is of matters where both have the same plugin.
        let call = failure.call.as_ref().map(|call| format!("`{call}` of "));
        text.push_str(&format!("  in: {}{role} `{plugin}`\n", call.unwrap_or_default()));
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::fixtures;
    use expect_test::expect;

    fn look() -> Look {
        Look {
            html_report: Some(PathBuf::from(".whimbrel/runs/r-1/report.html")),
            run_id: Some("r-1".to_owned()),
            job_file: "job.yaml".to_owned(),
            ..Look::default()
        }
    }

    #[test]
    fn a_success_is_short() {
        expect![[r#"
            source    heron 1.2.0
            sink      curlew 0.9.1

            COLLECTION     INTO      READ  WRITTEN  VERIFIED
            Orders         orders  12,000   12,000  equal, every record
            users          users      340      340  equal, every record
            2 collections          12,340   12,340  all equal

            declared losses:
              float_from_decimal: 1 field of Orders

            verification: standard; 12,340 records compared

            pre_validation 0.30 s, extraction 4.00 s, import 4.00 s, verification 1.50 s; peak memory 64 MiB; first commit after 41 ms

            shop: done and verified (12,340 records of 2 collections written, 3,085/s)
            report: .whimbrel/runs/r-1/report.html
        "#]].assert_eq(&text(&fixtures::done(), &look()));
    }

    #[test]
    fn a_failure_says_what_to_do() {
        expect![[r#"
            source    heron 1.2.0
            sink      curlew 0.9.1

            COLLECTION     INTO     READ  WRITTEN  REJECTED  COMPLETE
            Orders         orders  5,000    4,000         0  no
            users          users      40       38         2  yes
            2 collections          5,040    4,038         2  1 of 2

            declared losses:
              float_from_decimal: 1 field of Orders

            rejected records (2):
              users, u-7: the field `email` may not be null [sink.not_null]
              users, u-9: the field `email` may not be null [sink.not_null]

            pre_validation 0.30 s, extraction 2.00 s, import 2.00 s; peak memory 64 MiB; first commit after 41 ms

            shop: failed; what was committed stays (4,038 records of 2 collections written, 2,019/s)

              next: once the cause is removed, go on with the run where the sink has it
                    whimbrel resume r-1
              next: look at the rejected records, which are kept with their reasons
                    whimbrel rejected list r-1
              next: import: look whether the system is up, can be reached from here, and has room on its disk; then go on with the run
                    whimbrel resume r-1
            report: .whimbrel/runs/r-1/report.html
        "#]].assert_eq(&text(&fixtures::failed(), &look()));
    }

    #[test]
    fn differences_are_listed() {
        expect![[r#"
            source    heron 1.2.0
            sink      curlew 0.9.1

            COLLECTION     INTO      READ  WRITTEN  VERIFIED
            Orders         orders  12,000   12,000  equal, every record
            users          users      340      340  2 differences
            2 collections          12,340   12,340  1 different

            declared losses:
              float_from_decimal: 1 field of Orders

            differences in users (1 missing, 1 different):
              missing: u-12
              different: u-40 (fields: email, name)

            verification: standard; 12,340 records compared

            pre_validation 0.30 s, extraction 4.00 s, import 4.00 s, verification 1.50 s; peak memory 64 MiB; first commit after 41 ms

            shop: the sides differ (12,340 records of 2 collections written, 3,085/s)

              next: see the values of the fields that differ, if you may
                    whimbrel verify job.yaml --verification-level comprehensive --show-values
              next: copy again what differs, and compare once more
                    whimbrel verify job.yaml --repair
              next: verification: look at the differences listed: an application that still writes, a record changed by hand, or a lossy type; then compare again
                    whimbrel verify job.yaml
            report: .whimbrel/runs/r-1/report.html
        "#]].assert_eq(&text(&fixtures::differences(), &look()));
    }

    #[test]
    fn a_proof_is_shown_with_all_that_belongs_to_it() {
        expect![[r#"
            source    heron 1.2.0
            sink      curlew 0.9.1

            COLLECTION     INTO      READ  WRITTEN  VERIFIED
            Orders         orders  12,000   12,000  equal, every record
            users          users      340      340  equal, every record
            2 collections          12,340   12,340  all equal

            declared losses:
              float_from_decimal: 1 field of Orders

            rules:
              1 rule held

            orphans in the sink:
              orders (user) to users: 1 of 12,000 records, as in the source
                id=7 points to user=u-12

            repaired:
              users: 3 copied again, 1 removed

            verification: comprehensive; 12,340 records compared
              equal after a declared loss: 1,200 records of Orders (price: float_from_decimal 1,200)
              digest of Orders: 0123456701234567
              digest of users: fedcba98fedcba98
              read by key, slowest is users: half in 0.41 ms, 95 % in 1.2 ms, 99 % in 2 ms (200 records)
              certificate: migration-certificate.json, signed

            pre_validation 0.30 s, extraction 4.00 s, import 4.00 s, verification 1.50 s; peak memory 64 MiB; first commit after 41 ms

            shop: done and verified (12,340 records of 2 collections written, 3,085/s)
            report: .whimbrel/runs/r-1/report.html
        "#]].assert_eq(&text(&fixtures::proven(), &look()));
    }

    #[test]
    fn what_differs_is_shown_with_its_kinds_its_values_and_its_list() {
        expect![[r#"
            source    heron 1.2.0
            sink      curlew 0.9.1

            COLLECTION     INTO      READ  WRITTEN  VERIFIED
            Orders         orders  12,000   12,000  equal, every record
            users          users      340      340  70 differences, 1 changed since
            2 collections          12,340   12,340  1 different

            declared losses:
              float_from_decimal: 1 field of Orders

            differences in users (of the first 2: 1 missing, 1 different):
              missing: u-12
              different: u-40 (fields: email, name)
                email: a@b.example in the source, nothing in the sink
              changed since: u-77
              and 68 more
              all of them: .whimbrel/runs/r-1/verification-results/users.ndjson

            rules:
              broken: has an email (after, sink, users): 2 of 340 records
                u-3
                u-5
              not checked: sums (after): the sink takes no `query`
              1 rule held

            orphans in the sink:
              orders (user) to users: 3 of 12,000 records, none of them in the source
                id=7 points to user=u-12
                and 2 more

            repaired:
              users: 3 copied again, 1 removed, 1 left as they are
                u-40: the sink refuses it

            verification: comprehensive; 12,340 records compared
              equal after a declared loss: 1,200 records of Orders (price: float_from_decimal 1,200)
              changed in the source meanwhile, neither equal nor different: 1 record of users
              digest of Orders: 0123456701234567
              digest of users: fedcba98fedcba98
              read by key, slowest is users: half in 0.41 ms, 95 % in 1.2 ms, 99 % in 2 ms (200 records)
              certificate: none (the sides differ)

            pre_validation 0.30 s, extraction 4.00 s, import 4.00 s, verification 1.50 s; peak memory 64 MiB; first commit after 41 ms

            shop: the sides differ (12,340 records of 2 collections written, 3,085/s)

              next: read the list of all differences: `.whimbrel/runs/r-1/verification-results/users.ndjson`
              next: look which records the sink has refused or lost: others point to them
              next: correct the records that break the rules, or the rules
              next: copy again what differs, and compare once more
                    whimbrel verify job.yaml --repair
              next: verification: look at the differences listed: an application that still writes, a record changed by hand, or a lossy type; then compare again
                    whimbrel verify job.yaml
            report: .whimbrel/runs/r-1/report.html
        "#]].assert_eq(&text(&fixtures::disproven(), &look()));
    }

    #[test]
    fn what_changed_meanwhile_is_not_called_equal() {
        let shown = text(&fixtures::changed_since(), &look());
        assert!(
            !shown.contains("all equal") && !shown.contains("users      340      340  equal"),
            "{shown}"
        );
        expect![[r#"
            source    heron 1.2.0
            sink      curlew 0.9.1

            COLLECTION     INTO      READ  WRITTEN  VERIFIED
            Orders         orders  12,000   12,000  equal, every record
            users          users      340      340  2 changed since
            2 collections          12,340   12,340  1 unsure

            declared losses:
              float_from_decimal: 1 field of Orders

            changed meanwhile in users:
              changed since: u-1
              changed since: u-2

            verification: standard; 12,340 records compared
              changed in the source meanwhile, neither equal nor different: 2 records of users

            pre_validation 0.30 s, extraction 4.00 s, import 4.00 s, verification 1.50 s; peak memory 64 MiB; first commit after 41 ms

            shop: not sure, records changed while both sides were compared (12,340 records of 2 collections written, 3,085/s)

              next: verification: see to it that nobody writes to the source for a while; then compare again
                    whimbrel verify job.yaml
            report: .whimbrel/runs/r-1/report.html
        "#]].assert_eq(&shown);
    }

    #[test]
    fn nothing_from_outside_steers_the_terminal() {
        for report in [fixtures::hostile(), fixtures::crashed()] {
            let shown = text(&report, &look()) + &troubles(&report);
            assert!(
                shown
                    .chars()
                    .all(|char| char == '\n' || (!char.is_control() && char != '\u{202e}')),
                "{shown:?}"
            );
        }
    }

    #[test]
    fn of_two_sides_with_one_plugin_it_is_said_which_one_it_is() {
        let mut report = fixtures::failed();
        let failure = &mut report.errors[0];
        failure.plugin = Some("files".to_owned());
        failure.role = Some(whimbrel_plugin_api::manifest::Role::Sink);
        failure.call = None;
        assert!(troubles(&report).contains("\n  in: sink `files`\n"));
        report.errors[0].call = Some("check".to_owned());
        assert!(troubles(&report).contains("\n  in: `check` of sink `files`\n"));
    }

    #[test]
    fn colours_are_for_terminals() {
        let plain = text(&fixtures::failed(), &look());
        assert!(!plain.contains('\u{1b}'));
        let terminal = Look {
            terminal: true,
            ..look()
        };
        let painted = text(&fixtures::failed(), &terminal);
        assert!(painted.contains("\u{1b}[1;31mshop: failed"), "{painted}");
    }

    #[test]
    fn many_collections_fill_no_screen() {
        let mut report = fixtures::done();
        let one = report.summary.collections[1].clone();
        report.summary.verification.clear();
        report.summary.collections = (0..5_000)
            .map(|number| crate::events::CollectionResult {
                source: format!("c{number}"),
                sink: format!("c{number}"),
                complete: number != 4_321,
                ..one.clone()
            })
            .collect();
        let shown = text(&report, &look());
        assert!(shown.lines().count() < 70, "{}", shown.lines().count());
        assert!(shown.contains("c4321 "), "what is not well is shown");
        assert!(shown.contains("4,960 more"), "{shown}");
        assert!(shown.contains("1,700,000"), "the sum is of all");
    }
}
