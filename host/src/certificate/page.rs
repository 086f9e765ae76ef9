//! A certificate as one HTML file that works offline and prints, in the style of the reports.
//!
//! No script, nothing fetched. Everything from outside passes the template's escaping; the policy in the head keeps a browser
//! from running anything even if that failed. Neighbour: `text`, which says the same for a terminal.

use maud::{DOCTYPE, Markup, PreEscaped, html as page};

use super::body::{Body, CollectionSection, Verdict};
use super::check::{CheckState, Checked};
use super::file::CertificateFile;
use super::text::{came_to, exceptions, facts, shown, standing, title};
use crate::report::figures::{count, printable, sentence};

const STYLE: &str = include_str!("../report/html/report.css");
/// Style from within; nothing else at all.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'";
/// Lines of a table; more make a page slow to open.
const ROWS_MAX: usize = 500;

/// The page.
pub fn html(file: &CertificateFile, checked: &Checked) -> String {
    let body = &file.certificate;
    let title = sentence(&title(body));
    let markup = page! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(POLICY);
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="referrer" content="no-referrer";
                title { (printable(&title)) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                main class=(tone(checked)) {
                    header {
                        h1 { (named(&title)) }
                        p.sub { "Checked: " span.badge { (standing(checked)) } }
                    }
                    (checks(checked))
                    (about(body))
                    (collections(body))
                    (digests(body))
                    (list(body))
                    footer {
                        "What the checks say holds for the moment at which this page was made; "
                        code { "whimbrel certificate verify" } " makes them again."
                    }
                }
            }
        }
    };
    markup.into_string()
}

fn tone(checked: &Checked) -> &'static str {
    match (checked.state(), checked.integrity_only) {
        (CheckState::Failed, _) => "bad",
        (CheckState::Unchecked, _) | (_, true) => "mixed",
        (_, false) => "good",
    }
}

fn named(text: &str) -> Markup {
    page! { bdi { (printable(text)) } }
}

fn badge(tone: &str, text: &str) -> Markup {
    page! { span class=(format!("badge {tone}")) { (text) } }
}

fn checks(checked: &Checked) -> Markup {
    page! {
        section {
            h2 { "Checks" }
            table {
                tbody {
                    @for check in &checked.checks {
                        @let tone = match check.state {
                            CheckState::Held => "good",
                            CheckState::Open | CheckState::Unchecked => "mixed",
                            CheckState::Failed => "bad",
                        };
                        tr { td.short { (check.name) } td { (badge(tone, check.state.word())) } td { (named(&check.message)) } }
                    }
                }
            }
        }
    }
}

fn about(body: &Body) -> Markup {
    page! {
        section {
            h2 { "What was compared, and by what" }
            table {
                tbody {
                    @for (name, value) in facts(body) { tr { td.short { (name) } td { (named(&value)) } } }
                }
            }
        }
    }
}

fn verdict(collection: &CollectionSection) -> Markup {
    let tone = match collection.verdict {
        Verdict::Equal => "good",
        Verdict::Undecided => "mixed",
        Verdict::Different => "bad",
    };
    badge(tone, &came_to(collection))
}

fn collections(body: &Body) -> Markup {
    let (shown, left_out) = shown(body, ROWS_MAX);
    page! {
        section.long {
            h2 { "Collections" }
            div.scroll {
                table {
                    thead {
                        tr {
                            th { "Collection" } th { "Into" } th { "Key" } th.number { "Source" } th.number { "Sink" }
                            th.number { "Compared" } th { "Verdict" }
                        }
                    }
                    tbody {
                        @for collection in shown {
                            tr {
                                td { (named(&collection.source)) }
                                td { (named(&collection.sink)) }
                                td { (named(&collection.key.join(", "))) }
                                td.number { (count(collection.source_count)) }
                                td.number { (count(collection.sink_count)) }
                                td.number { (count(collection.compared_count)) }
                                td { (verdict(collection)) }
                            }
                        }
                    }
                }
            }
            (more(left_out))
        }
    }
}

fn digests(body: &Body) -> Markup {
    let (shown, left_out) = shown(body, ROWS_MAX);
    page! {
        section.long {
            h2 { "Digests" }
            div.scroll {
                table {
                    thead {
                        tr { th { "Collection" } th { "Place" } th.number { "Records" } th.number { "Parts" } th { "Root" } }
                    }
                    tbody {
                        @for collection in shown {
                            @for (name, place) in collection.digests.named() {
                                @if let Some(place) = place {
                                    tr {
                                        td { (named(&collection.source)) }
                                        td.short { (name) }
                                        td.number { (count(place.record_count)) }
                                        td.number { (count(place.partitions.len() as u64)) }
                                        td { code { (named(&place.root)) } }
                                    }
                                }
                            }
                        }
                    }
                }
            }
            (more(left_out))
        }
    }
}

fn list(body: &Body) -> Markup {
    let lines = exceptions(body);
    let left_out = lines.len().saturating_sub(ROWS_MAX) as u64;
    page! {
        @if !lines.is_empty() {
            section.long {
                h2 { "Exceptions" }
                ul { @for line in lines.iter().take(ROWS_MAX) { li { (named(line)) } } }
                (more(left_out))
            }
        }
    }
}

fn more(left_out: u64) -> Markup {
    page! { @if left_out > 0 { p.note { (count(left_out)) " more are in the certificate." } } }
}

#[cfg(test)]
mod tests;
