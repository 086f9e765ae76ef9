//! The table of records that point to others that the source does not have.
//! Keys and names of fields only, no other values.

use maud::{Markup, html};

use super::super::FinalReport;
use super::super::figures::count;
use super::super::orphans::{missing_keys, with_orphans};
use super::sections::named;

/// References that the page shows.
const REFERENCES_MAX: usize = 100;
/// Orphans of each that the page shows.
const ORPHANS_MAX: usize = 10;

/// The references that have orphans, each with the first of them.
pub fn orphans(report: &FinalReport) -> Markup {
    let found = with_orphans(&report.task.summary);
    if found.is_empty() {
        return html! {};
    }
    html! {
        section.long {
            h2 { "Orphans" }
            p.note { "Records that point to others that the source does not have, found before the run." }
            div.scroll {
                table {
                    thead {
                        tr {
                            th { "Collection" } th { "Fields" } th { "To" } th.number { "Orphans" } th.number { "Records" }
                            th.number { "Missing keys" }
                        }
                    }
                    tbody {
                        @for reference in found.iter().take(REFERENCES_MAX) {
                            tr {
                                td { (named(&reference.collection)) }
                                td { (named(&reference.fields.join(", "))) }
                                td { (named(&reference.parent)) }
                                td.number { (count(reference.orphan_count)) }
                                td.number { (count(reference.record_count)) }
                                td.number { (missing_keys(reference)) }
                            }
                            @for orphan in reference.orphans.iter().take(ORPHANS_MAX) {
                                tr {
                                    td colspan="3" { code { (named(&orphan.record)) } }
                                    td colspan="3" { code { (named(&orphan.missing)) } }
                                }
                            }
                        }
                    }
                }
            }
            @let left_out = found.len().saturating_sub(REFERENCES_MAX);
            @if left_out > 0 { p.note { (count(left_out as u64)) " more references are in " code { "final-migration-report.json" } "." } }
            @if let Some(file) = &report.task.summary.orphans_file {
                p.note { "All orphans are in " code { (named(file)) } " in this folder." }
            }
        }
    }
}
