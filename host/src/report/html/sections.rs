//! The parts of the page in words: how it ended, key figures, failures, next steps, what else was said.
//! Names from outside stand in `bdi`, so that their direction of writing stays theirs.

use maud::{Markup, html};

use super::super::cost::usd;
use super::super::figures::{bytes, count, counted, printable, rate, seconds, sentence};
use super::super::summary_tables::is_sure_to_be_equal;
use super::super::{FinalReport, NOTES_MAX, Tone};
use crate::events::{CollectionResult, Failure, Phase};

/// Failures that the page shows.
const FAILURES_MAX: usize = 50;

/// Text from outside.
pub fn named(text: &str) -> Markup {
    html! { bdi { (printable(text)) } }
}

/// Text with objects in backticks, which become code.
pub fn worded(text: &str) -> Markup {
    let text = printable(text);
    let parts: Vec<&str> = text.split('`').collect();
    if parts.len().is_multiple_of(2) {
        return html! { bdi { (text) } };
    }
    html! {
        bdi {
            @for (index, part) in parts.iter().enumerate() {
                @if index % 2 == 0 { (part) } @else { code { (part) } }
            }
        }
    }
}

/// The head: verdict, run, times.
pub fn opening(report: &FinalReport) -> Markup {
    let facts = &report.facts;
    html! {
        header {
            @let day = if facts.started_at.date_naive() == facts.ended_at.date_naive() { "" } else { "%Y-%m-%d " };
            h1 { (named(&report.verdict)) }
            p.sub {
                "Run " code { (facts.run_id) } " of " code { (named(&facts.job_file)) }
                ", " (facts.started_at.format("%Y-%m-%d %H:%M:%S")) " to " (facts.ended_at.format(&format!("{day}%H:%M:%S UTC")))
                @if !facts.started_by.is_empty() { ", started by " (named(&facts.started_by)) }
                @if !facts.mode.is_empty() { ", mode " (facts.mode) }
                ", exit code " (report.task.exit_code)
            }
        }
    }
}

/// A tile: its number, what it counts, whether it is an alarm and how grave.
struct Tile {
    figure: String,
    name: String,
    alarm: Option<Tone>,
}

impl Tile {
    fn new(figure: impl Into<String>, name: impl Into<String>) -> Self {
        Self {
            figure: figure.into(),
            name: name.into(),
            alarm: None,
        }
    }

    fn alarm_if(mut self, is_alarm: bool, tone: Tone) -> Self {
        self.alarm = is_alarm.then_some(tone);
        self
    }
}

/// The key figures.
pub fn tiles(report: &FinalReport) -> Markup {
    let mut tiles = vec![Tile::new(seconds(report.facts.elapsed_secs), "from start to end")];
    if report.task.is_run() {
        tiles.extend(copying(report));
    }
    tiles.extend(verification(report));
    html! {
        div.tiles {
            @for tile in &tiles {
                div class=(tile.alarm.map_or_else(|| "tile".to_owned(), |tone| format!("tile alarm {}", tone.name()))) {
                    b { (tile.figure) }
                    span { (tile.name) }
                }
            }
        }
    }
}

fn copying(report: &FinalReport) -> Vec<Tile> {
    let summary = &report.task.summary;
    let sum = |number: fn(&CollectionResult) -> u64| -> u64 { summary.collections.iter().map(number).sum() };
    let written = sum(|collection| collection.written_count);
    let total = summary.collections.len();
    let complete = summary
        .collections
        .iter()
        .filter(|collection| collection.complete)
        .count();
    let mut tiles = vec![
        Tile::new(
            count(written),
            format!(
                "of {} written",
                counted(sum(|collection| collection.read_count), "record")
            ),
        ),
        Tile::new(
            count(complete as u64),
            format!("of {} complete", counted(total as u64, "collection")),
        )
        .alarm_if(complete < total, Tone::Bad),
    ];
    if let Some(import) = summary
        .phases
        .iter()
        .find(|phase| phase.phase == Phase::Import && phase.seconds > 0.0)
    {
        tiles.push(Tile::new(
            rate(written as f64 / import.seconds),
            "records written",
        ));
    }
    tiles.push(Tile::new(bytes(sum(|collection| collection.read_bytes)), "read"));
    tiles.push(
        Tile::new(count(summary.rejected_count), "rejected")
            .alarm_if(summary.rejected_count > 0, Tone::Mixed),
    );
    if report.facts.retry_count > 0 {
        tiles.push(Tile::new(
            count(report.facts.retry_count),
            "transactions tried again",
        ));
    }
    if let Some(cost) = &summary.cost {
        let name = format!("{}, estimated before ({})", printable(&cost.unit), usd(cost.usd));
        tiles.push(Tile::new(count(cost.run_units), name));
    }
    if let Some(cost) = &summary.sink_cost {
        let unit = printable(&cost.unit);
        let name = format!("{unit} of the sink, estimated before ({})", usd(cost.usd));
        let least = if cost.is_at_least { "at least " } else { "" };
        tiles.push(Tile::new(format!("{least}{}", count(cost.run_units)), name));
    }
    if summary.memory_peak_bytes > 0 {
        tiles.push(Tile::new(bytes(summary.memory_peak_bytes), "peak memory"));
    }
    tiles
}

fn verification(report: &FinalReport) -> Option<Tile> {
    let results = &report.task.summary.verification;
    if results.is_empty() {
        return report
            .task
            .is_run()
            .then(|| Tile::new("no", "verified").alarm_if(true, Tone::Mixed));
    }
    let equal = results
        .iter()
        .filter(|result| is_sure_to_be_equal(result))
        .count();
    let name = format!(
        "of {} verified equal",
        counted(results.len() as u64, "collection")
    );
    let differs = results.iter().any(|result| result.mismatch_count > 0);
    let tone = if differs { Tone::Bad } else { Tone::Mixed };
    Some(Tile::new(count(equal as u64), name).alarm_if(equal < results.len(), tone))
}

/// What failed, why, and what to do about it.
pub fn failures(report: &FinalReport) -> Markup {
    let errors = &report.task.errors;
    let collections = &report.facts.failed_collections;
    if errors.is_empty() && collections.is_empty() && report.failed_phases.is_empty() {
        return html! {};
    }
    html! {
        section {
            h2 { "What failed" }
            @let is_apart = |failure: &&Failure| !collections.iter().any(|failed| failed.failure == **failure);
            @for failure in errors.iter().filter(is_apart).take(FAILURES_MAX) { (trouble(None, failure)) }
            @for failed in collections.iter().take(FAILURES_MAX) {
                (trouble(Some(&failed.collection), &failed.failure))
            }
            @if !report.failed_phases.is_empty() {
                div.scroll {
                    table {
                        thead { tr { th { "Phase" } th { "What to do" } th { "Then" } } }
                        tbody {
                            @for failed in &report.failed_phases {
                                tr {
                                    td.short { (failed.phase.name()) }
                                    td { (worded(&sentence(failed.remedy))) }
                                    td { (worded(&sentence(failed.then))) }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn trouble(collection: Option<&str>, failure: &Failure) -> Markup {
    let error = &failure.error;
    html! {
        div.trouble {
            p.what {
                @if let Some(collection) = collection { (named(collection)) ": " }
                (worded(&error.message))
            }
            @if let (Some(plugin), Some(role), Some(call)) = (&failure.plugin, failure.role, &failure.call) {
                p { "In " code { (call) } " of " (role.name()) " " (named(plugin)) }
            }
            @if let Some(place) = &error.place { p { "At " code { (named(place)) } } }
            @for cause in &error.causes { p { "Because: " (named(cause)) } }
            @if let Some(help) = &error.help { p { "Help: " (worded(help)) } }
            p { "Code " code { (error.code) } ", kind " (error.kind.name()) }
        }
    }
}

/// What to do now.
pub fn steps(report: &FinalReport) -> Markup {
    html! {
        section {
            h2 { "Next steps" }
            ol {
                @for step in &report.next_steps {
                    li {
                        (worded(&sentence(&step.text)))
                        @if let Some(command) = &step.command { ": " code { (named(command)) } }
                    }
                }
            }
        }
    }
}

/// Findings and hooks.
pub fn notes(report: &FinalReport) -> Markup {
    let (findings, hooks) = (&report.task.summary.findings, &report.facts.hooks);
    if findings.is_empty() && hooks.is_empty() {
        return html! {};
    }
    html! {
        section.long {
            h2 { "Said on the way" }
            div.scroll {
                table {
                    tbody {
                        @for found in findings.iter().take(NOTES_MAX) {
                            @let finding = &found.finding;
                            tr {
                                td.short { (found.role.map_or("host", |role| role.name())) }
                                td { code { (finding.code) } }
                                td {
                                    @if let Some(collection) = &finding.collection { (named(collection)) ": " }
                                    (worded(&finding.message))
                                    @if let Some(help) = &finding.help { " (" (worded(help)) ")" }
                                }
                            }
                        }
                        @for hook in hooks {
                            tr {
                                td { "hook" }
                                td { code { (named(&hook.hook)) } }
                                td {
                                    span class=(if hook.ok { "badge good" } else { "badge bad" }) {
                                        (if hook.ok { "done" } else { "failed" })
                                    }
                                    " " (worded(&hook.message))
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// Where to read on.
pub fn looking_further(report: &FinalReport) -> Markup {
    let run_id = &report.facts.run_id;
    let commands = [
        (format!("whimbrel status {run_id}"), "the state of this run"),
        (
            format!("whimbrel rejected list {run_id}"),
            "the rejected records with their reasons",
        ),
        ("whimbrel runs".to_owned(), "all runs of this working folder"),
    ];
    let files = [
        (
            "final-migration-report.json",
            "everything on this page, and the rest of each list",
        ),
        ("migration-log.json", "what happened, one JSON object a line"),
        (
            "migration-checkpoint.json",
            "what is durable in the sink, by collection and partition",
        ),
        (
            "verification-results/",
            "one file for each collection that was compared, and lists of all differences",
        ),
        ("migration-executive-summary.md", "one page for those who decide"),
    ];
    html! {
        section {
            h2 { "To look further" }
            div.scroll {
                table {
                    tbody {
                        @for (command, what) in &commands { tr { td { code { (command) } } td { (what) } } }
                        @for (file, what) in files { tr { td { code { (file) } } td { (what) } } }
                    }
                }
            }
            @if !report.facts.log_complete {
                p.note { "The disk was full: " code { "migration-log.json" } " ends before the run did." }
            }
        }
    }
}

/// Who made this.
pub fn closing(report: &FinalReport) -> Markup {
    html! {
        footer {
            "whimbrel " (report.whimbrel_version)
            @for plugin in &report.task.plugins {
                ", " (plugin.role.name()) " " (named(&plugin.name)) " " (plugin.version)
            }
            @if has_values(report) {
                ". Values of fields that differ are in this page, since somebody has asked for them."
            } @else { ". Record values are in none of these files." }
        }
    }
}

fn has_values(report: &FinalReport) -> bool {
    let results = report.task.summary.verification.iter();
    let mut listed = results.flat_map(|result| &result.mismatches);
    listed.any(|mismatch| !mismatch.values.is_empty())
}
