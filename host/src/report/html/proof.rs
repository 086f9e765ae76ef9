//! What a verification has shown: collection by collection, digests, rules, references within the sink, repairs.
//! Keys and names; values only in the table of differences, and only if somebody asked for them.

use maud::{Markup, html};

use super::super::FinalReport;
use super::super::figures::{count, counted};
use super::super::proof::{
    certificate, level_name, places, repair_figures, rule_place, rule_state, short, sink_orphans, speed,
    touched, violations, whose,
};
use super::super::summary_tables::is_sure_to_be_equal;
use super::sections::{named, worded};
use crate::events::{RuleState, VerificationResult};

/// Lines of a table.
const ROWS_MAX: usize = 500;
/// Records that a rule, a reference or a repair names.
const RECORDS_MAX: usize = 10;

/// Level, counts, losses, what changed meanwhile and speed of each collection, those first that are not surely equal; then the
/// certificate.
pub fn verification(report: &FinalReport) -> Markup {
    let summary = &report.task.summary;
    let results = &summary.verification;
    if results.is_empty() {
        return html! {};
    }
    let (well, unwell): (Vec<&VerificationResult>, Vec<_>) =
        results.iter().partition(|result| is_sure_to_be_equal(result));
    let has_losses = results.iter().any(|result| result.equal_after_loss_count > 0);
    let has_changes = results.iter().any(|result| result.changed_since_count > 0);
    let has_unreadable = results.iter().any(|result| result.source_unreadable_count > 0);
    let has_speed = results.iter().any(|result| result.latency.is_some());
    html! {
        section.long {
            h2 { "Verification" }
            div.scroll {
                table {
                    thead {
                        tr {
                            th { "Collection" } th { "Level" } th.number { "Compared" }
                            @if has_losses { th { "Equal after a declared loss" } }
                            @if has_changes { th.number { "Changed since" } }
                            @if has_unreadable { th.number { "Unreadable in the source" } th.number { "Left out by no copy" } }
                            @if has_speed { th { "Read by key" } }
                        }
                    }
                    tbody {
                        @for result in unwell.into_iter().chain(well).take(ROWS_MAX) {
                            tr {
                                td { (named(&result.source)) }
                                td.short { (level_name(result.level)) }
                                td.number { (count(result.compared_count)) }
                                @if has_losses {
                                    td {
                                        @if result.equal_after_loss_count > 0 {
                                            (count(result.equal_after_loss_count)) " ("
                                            (named(&touched(result, str::to_owned))) ")"
                                        }
                                    }
                                }
                                @if has_changes { td.number { (count(result.changed_since_count)) } }
                                @if has_unreadable {
                                    td.number { (count(result.source_unreadable_count)) }
                                    td.number { (count(result.source_unchecked_count)) }
                                }
                                @if has_speed { td { @if let Some(latency) = &result.latency { (speed(latency)) } } }
                            }
                        }
                    }
                }
            }
            (more(results.len().saturating_sub(ROWS_MAX)))
            @if has_changes {
                p.note { "What changed in the source while both sides were compared is neither equal nor different." }
            }
            @if has_unreadable {
                p.note {
                    "Of records that the source could not deliver or a transform refused, and that no copy has left out, nobody can say whether \
                     the sink is right to lack them."
                }
            }
            @if let Some(note) = &summary.certificate {
                p.note { "Certificate: " (named(&certificate(note, str::to_owned, str::to_owned))) }
            }
        }
    }
}

/// The digests, by their beginnings.
pub fn digests(report: &FinalReport) -> Markup {
    let results = &report.task.summary.verification;
    let with_digests: Vec<_> = results
        .iter()
        .filter_map(|result| result.digests.as_ref().map(|digests| (result, digests)))
        .collect();
    if with_digests.is_empty() {
        return html! {};
    }
    html! {
        section.long {
            h2 { "Digests" }
            p.note {
                "One for all records of a collection at a place, whatever their order; the whole of each is in "
                code { "final-migration-report.json" } "."
            }
            div.scroll {
                table {
                    thead { tr { th { "Collection" } th { "Place" } th.number { "Records" } th { "Begins with" } } }
                    tbody {
                        @for (result, digests) in with_digests.iter().take(ROWS_MAX) {
                            @for (name, place) in places(digests) {
                                tr {
                                    td { (named(&result.source)) }
                                    td { (name) }
                                    td.number { (count(place.record_count)) }
                                    td { code { (short(&place.root)) } }
                                }
                            }
                        }
                    }
                }
            }
            (more(with_digests.len().saturating_sub(ROWS_MAX)))
        }
    }
}

fn more(left_out: usize) -> Markup {
    html! {
        @if left_out > 0 {
            p.note { (count(left_out as u64)) " more are in " code { "final-migration-report.json" } "." }
        }
    }
}

/// The rules, those that did not hold first.
pub fn rules(report: &FinalReport) -> Markup {
    let rules = &report.task.summary.rules;
    if rules.is_empty() {
        return html! {};
    }
    let (held, unheld): (Vec<_>, Vec<_>) = rules.iter().partition(|rule| rule.state == RuleState::Held);
    html! {
        section.long {
            h2 { "Rules" }
            div.scroll {
                table {
                    thead { tr { th { "Rule" } th { "Where" } th { "State" } th { "Records that break it" } } }
                    tbody {
                        @for rule in unheld.into_iter().chain(held).take(ROWS_MAX) {
                            tr {
                                td { (named(&rule.name)) }
                                td { (named(&rule_place(rule, str::to_owned))) }
                                td {
                                    @let tone = match rule.state {
                                        RuleState::Held => "badge good",
                                        RuleState::Broken => "badge bad",
                                        RuleState::Unchecked => "badge mixed",
                                    };
                                    span class=(tone) { (rule_state(rule.state)) }
                                }
                                td {
                                    @if rule.state == RuleState::Broken { (violations(rule)) }
                                    @if let Some(reason) = &rule.reason { (worded(reason)) }
                                }
                            }
                            @for record in rule.violations.iter().take(RECORDS_MAX) {
                                tr { td {} td colspan="3" { code { (named(record)) } } }
                            }
                        }
                    }
                }
            }
            (more(rules.len().saturating_sub(ROWS_MAX)))
        }
    }
}

/// Records of the sink that point to others which it does not have.
pub fn sink_references(report: &FinalReport) -> Markup {
    let found = sink_orphans(&report.task.summary);
    if found.is_empty() {
        return html! {};
    }
    html! {
        section.long {
            h2 { "Orphans in the sink" }
            p.note { "Records that point to others that the sink does not have. What the source has as well is no difference." }
            div.scroll {
                table {
                    thead {
                        tr {
                            th { "Collection" } th { "Fields" } th { "To" } th.number { "Orphans" } th.number { "Records" }
                            th { "In the source" }
                        }
                    }
                    tbody {
                        @for reference in found.iter().take(ROWS_MAX) {
                            tr {
                                td { (named(&reference.collection)) }
                                td { (named(&reference.fields.join(", "))) }
                                td { (named(&reference.parent)) }
                                td.number { (count(reference.orphan_count)) }
                                td.number { (count(reference.record_count)) }
                                td {
                                    span class=(if reference.sink_only_count > 0 { "badge bad" } else { "badge mixed" }) {
                                        (whose(reference))
                                    }
                                }
                            }
                            @for orphan in reference.orphans.iter().take(RECORDS_MAX) {
                                tr {
                                    td colspan="3" { code { (named(&orphan.record)) } }
                                    td colspan="3" { code { (named(&orphan.missing)) } }
                                }
                            }
                        }
                    }
                }
            }
            (more(found.len().saturating_sub(ROWS_MAX)))
        }
    }
}

/// What a repair has done.
pub fn repaired(report: &FinalReport) -> Markup {
    let repaired = &report.task.summary.repaired;
    if repaired.is_empty() {
        return html! {};
    }
    html! {
        section.long {
            h2 { "Repaired" }
            div.scroll {
                table {
                    thead { tr { th { "Collection" } th { "What was done" } } }
                    tbody {
                        @for repair in repaired.iter().take(ROWS_MAX) {
                            tr { td { (named(&repair.source)) } td { (repair_figures(repair)) } }
                            @for (record, reason) in repair.left.iter().take(RECORDS_MAX) {
                                tr { td { code { (named(record)) } } td { (worded(reason)) } }
                            }
                            @let left_out = repair.left.len().saturating_sub(RECORDS_MAX);
                            @if left_out > 0 {
                                tr { td {} td { "and " (counted(left_out as u64, "record")) " more" } }
                            }
                        }
                    }
                }
            }
            (more(repaired.len().saturating_sub(ROWS_MAX)))
        }
    }
}
