//! A certificate for a terminal: what it says, collection by collection, and what the checks came to.
//! Neighbours: `markdown` and `page` say the same for other readers; `figures` spells numbers.

use super::body::{Body, CollectionSection, Verdict};
use super::check::{CheckState, Checked};
use super::file::CertificateFile;
use crate::report::PlainTable;
use crate::report::figures::{count, counted, printable};

/// Lines of a table of collections; the file has them all.
const ROWS_MAX: usize = 200;
/// Digits of a digest where there is room for a few; enough to tell two apart by eye.
const DIGITS_SHOWN: usize = 16;

/// The certificate.
pub fn text(file: &CertificateFile, checked: &Checked) -> String {
    let body = &file.certificate;
    let facts: String = facts(body)
        .into_iter()
        .map(|(name, value)| format!("{name:<10} {}\n", printable(&value)))
        .collect();
    let mut parts = vec![
        format!("{}\n", printable(&title(body))),
        facts,
        collections(body),
        digests(body),
    ];
    parts.push(lines(exceptions(body)));
    parts.push(checks(checked));
    parts.retain(|part| !part.is_empty());
    parts.join("\n")
}

/// What the checks came to.
pub fn checks(checked: &Checked) -> String {
    checked
        .checks
        .iter()
        .map(|check| {
            format!(
                "{:<10} {}: {}\n",
                check.name,
                check.state.word(),
                printable(&check.message)
            )
        })
        .collect()
}

/// The first line everywhere.
pub(super) fn title(body: &Body) -> String {
    format!("certificate of {}: {}", body.job.name, body.verdict.words())
}

/// Whether somebody may lean on it, in a few words.
pub(super) fn standing(checked: &Checked) -> &'static str {
    match (checked.state(), checked.integrity_only) {
        (CheckState::Failed, _) => "does not hold",
        (CheckState::Unchecked, _) => "cannot be relied on",
        (_, true) => "integrity only",
        (_, false) => "holds",
    }
}

/// What is known besides the collections.
pub(super) fn facts(body: &Body) -> Vec<(&'static str, String)> {
    let mut facts = vec![
        ("run", format!("{} ({})", body.run.id, body.run.command)),
        ("begun", body.run.begun_at.clone()),
        ("verified", body.run.verified_at.clone()),
    ];
    facts.extend(body.run.gone_on_in_words().map(|words| ("read", words)));
    facts.extend([
        ("whimbrel", body.whimbrel_version.clone()),
        ("job file", format!("sha256 {}", body.job.sha256)),
    ]);
    for plugin in &body.plugins {
        let name = match plugin.role.as_str() {
            "source" => "source",
            "sink" => "sink",
            _ => "transform",
        };
        let value = format!("{} {}, sha256 {}", plugin.name, plugin.version, plugin.sha256);
        facts.push((name, value));
    }
    facts.push(("root", body.root.clone()));
    facts
}

/// The collections that are shown, those that are not equal first, and how many are not.
pub(super) fn shown(body: &Body, rows_max: usize) -> (Vec<&CollectionSection>, u64) {
    let (equal, other): (Vec<_>, Vec<_>) = body
        .collections
        .iter()
        .partition(|collection| collection.verdict == Verdict::Equal);
    let left_out = body.collections.len().saturating_sub(rows_max) as u64;
    (other.into_iter().chain(equal).take(rows_max).collect(), left_out)
}

/// What a collection came to, in a few words.
pub(super) fn came_to(collection: &CollectionSection) -> String {
    match collection.verdict {
        Verdict::Equal => "equal".to_owned(),
        Verdict::Undecided => format!("{} changed since", count(collection.changed_since_count)),
        Verdict::Different => counted(collection.mismatch_count, "difference"),
    }
}

fn collections(body: &Body) -> String {
    let mut table = PlainTable::new(&["COLLECTION", "INTO", "SOURCE", "SINK", "COMPARED", "VERDICT"]);
    let (shown, left_out) = shown(body, ROWS_MAX);
    for collection in shown {
        table.row([
            printable(&collection.source),
            printable(&collection.sink),
            count(collection.source_count),
            count(collection.sink_count),
            count(collection.compared_count),
            came_to(collection),
        ]);
    }
    format!("{}{}", table.text(&[2, 3, 4]), more(left_out))
}

fn digests(body: &Body) -> String {
    let mut table = PlainTable::new(&["COLLECTION", "PLACE", "RECORDS", "PARTS", "DIGEST"]);
    let (shown, left_out) = shown(body, ROWS_MAX);
    for collection in shown {
        for (name, place) in collection.digests.named() {
            let Some(place) = place else { continue };
            table.row([
                printable(&collection.source),
                name.to_owned(),
                count(place.record_count),
                count(place.partitions.len() as u64),
                format!("{}...", place.root.get(..DIGITS_SHOWN).unwrap_or_default()),
            ]);
        }
    }
    format!("{}{}", table.text(&[2, 3]), more(left_out))
}

fn more(left_out: u64) -> String {
    match left_out {
        0 => String::new(),
        more => format!("and {} more\n", count(more)),
    }
}

/// Whatever is not simply equal, a sentence each, with the names from outside in backticks.
pub(super) fn exceptions(body: &Body) -> Vec<String> {
    let mut lines = Vec::new();
    let records = |number| counted(number, "record");
    for collection in &body.collections {
        let name = &collection.source;
        let mut add = |number: u64, what: &str| {
            if number > 0 {
                lines.push(format!("`{name}`: {} {what}", records(number)));
            }
        };
        add(
            collection.left_out_count,
            "left out, since one side has refused them",
        );
        add(
            collection.source_unreadable_count,
            "that the source could not deliver or a transform refused",
        );
        let codes = collection.rejected_codes.join(", ");
        let why = if codes.is_empty() {
            "rejected while copying".to_owned()
        } else {
            format!("rejected while copying ({codes})")
        };
        add(collection.rejected_count, &why);
        add(
            collection.duplicate_key_count,
            "of the source share their key with another one",
        );
        add(collection.changed_since_count, "changed while they were compared");
        for loss in &collection.losses {
            add(
                loss.record_count,
                &format!(
                    "changed by the declared loss `{}` of field `{}`",
                    loss.loss, loss.field
                ),
            );
        }
        lines.extend(several_snapshots(collection));
    }
    for rule in body.rules.iter().filter(|rule| rule.state != "held") {
        lines.push(format!(
            "rule `{}` ({}): {}, {}",
            rule.name,
            rule.moment,
            rule.state,
            counted(rule.violation_count, "violation")
        ));
    }
    for reference in body
        .references
        .iter()
        .filter(|reference| reference.orphan_count > 0)
    {
        let searched = match reference.state.as_str() {
            "skipped" => " in the source before the copy; the sink was not searched",
            _ => "",
        };
        lines.push(format!(
            "`{}`: {} pointing to nothing in `{}`{searched}",
            reference.collection,
            records(reference.orphan_count),
            reference.parent
        ));
    }
    lines
}

/// That a collection is of no single moment of the source, as far as it is.
fn several_snapshots(collection: &CollectionSection) -> Vec<String> {
    let Some(snapshots) = &collection.snapshots else {
        return Vec::new();
    };
    let line = |what: &str, names: &[String]| match names {
        [] => Vec::new(),
        [only] => vec![format!(
            "`{}`: {what} at snapshot `{only}` of the source, and others at another one",
            collection.source
        )],
        [first, .., last] => vec![format!(
            "`{}`: {what} at {} snapshots of the source, `{first}` to `{last}`, not as of one moment",
            collection.source,
            names.len()
        )],
    };
    let mut lines = line("copied from what was read", &snapshots.copied);
    lines.extend(line("compared with what was read", &snapshots.compared));
    lines
}

fn lines(all: Vec<String>) -> String {
    let left_out = all.len().saturating_sub(ROWS_MAX) as u64;
    let shown: String = all
        .iter()
        .take(ROWS_MAX)
        .map(|line| format!("{}\n", printable(line)))
        .collect();
    format!("{shown}{}", more(left_out))
}

#[cfg(test)]
mod tests;
