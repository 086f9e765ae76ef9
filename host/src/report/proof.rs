//! What a verification has shown besides the first differences: how much was compared, losses, digests, rules, references within
//! the sink, repairs, speed by key, the certificate. In words for a terminal; the pages use the same words.
//!
//! Names, keys and counts only. Neighbour: `summary_tables` has the table and the differences themselves.

use std::collections::BTreeMap;

use super::figures::{count, counted, printable};
use crate::config::VerificationLevel;
use crate::events::{
    CertificateNote, CollectionDigests, MismatchKind, ReadLatency, ReferenceResult, RepairResult, RuleMoment,
    RuleResult, RuleState, RunSummary, VerificationResult,
};

/// Collections that one kind of line names; the report has all.
const LINES_MAX: usize = 5;
/// Records that a rule or a repair names.
const RECORDS_SHOWN_MAX: usize = 5;
/// Hexadecimal digits of a digest that are shown: enough to see that two are not the same.
const DIGEST_CHARS: usize = 16;

/// The name of a level in job files.
pub const fn level_name(level: VerificationLevel) -> &'static str {
    match level {
        VerificationLevel::None => "none",
        VerificationLevel::Basic => "basic",
        VerificationLevel::Standard => "standard",
        VerificationLevel::Comprehensive => "comprehensive",
    }
}

/// `comprehensive`, or `comprehensive (2 collections), standard (1 collection)`.
pub fn levels(results: &[VerificationResult]) -> String {
    let mut counts: BTreeMap<u8, (&str, u64)> = BTreeMap::new();
    for result in results {
        // The deepest first.
        let place = match result.level {
            VerificationLevel::Comprehensive => 0,
            VerificationLevel::Standard => 1,
            VerificationLevel::Basic => 2,
            VerificationLevel::None => 3,
        };
        counts.entry(place).or_insert((level_name(result.level), 0)).1 += 1;
    }
    match counts.len() {
        1 => counts.into_values().map(|(name, _)| name.to_owned()).collect(),
        _ => {
            let each = counts
                .into_values()
                .map(|(name, number)| format!("{name} ({})", counted(number, "collection")));
            each.collect::<Vec<_>>().join(", ")
        }
    }
}

/// How many of the listed differences are of each kind: `1 missing, 2 different`. Empty if there are none; those that changed
/// since are no differences.
pub fn classes(result: &VerificationResult) -> String {
    let mut counts: BTreeMap<MismatchKind, u64> = BTreeMap::new();
    let listed = result.mismatches.iter().map(|mismatch| mismatch.kind);
    for kind in listed.filter(|kind| *kind != MismatchKind::ChangedSince) {
        *counts.entry(kind).or_default() += 1;
    }
    let total: u64 = counts.values().sum();
    let each: Vec<String> = counts
        .into_iter()
        .map(|(kind, number)| format!("{} {}", count(number), super::summary_tables::kind_name(kind)))
        .collect();
    let of = match total < result.mismatch_count && !each.is_empty() {
        true => format!("of the first {}: ", count(total)),
        false => String::new(),
    };
    format!("{of}{}", each.join(", "))
}

/// The declared losses that touched records: `price: float_from_decimal 12, ..`.
pub fn touched(result: &VerificationResult, name: impl Fn(&str) -> String) -> String {
    let each = result.losses.iter().map(|loss| {
        format!(
            "{}: {} {}",
            name(&loss.field),
            loss.loss.name(),
            count(loss.record_count)
        )
    });
    each.collect::<Vec<_>>().join(", ")
}

/// The beginning of a digest.
pub fn short(digest: &str) -> String {
    printable(&digest.chars().take(DIGEST_CHARS).collect::<String>())
}

/// The places of a collection's digests, with the names that reports give them.
pub fn places(digests: &CollectionDigests) -> Vec<(&'static str, &crate::events::PlaceDigest)> {
    let all = [
        ("extracted", &digests.extracted),
        ("transformed", &digests.transformed),
        ("read back", &digests.read_back),
    ];
    all.into_iter()
        .filter_map(|(name, place)| place.as_ref().map(|place| (name, place)))
        .collect()
}

/// `half in 0.41 ms, 95 % in 1.2 ms, 99 % in 2 ms (20 records)`.
pub fn speed(latency: &ReadLatency) -> String {
    format!(
        "half in {} ms, 95 % in {} ms, 99 % in {} ms ({})",
        latency.p50_ms,
        latency.p95_ms,
        latency.p99_ms,
        counted(latency.sample_count, "record")
    )
}

/// Where and when a rule was looked at: `after, sink, users`.
pub fn rule_place(rule: &RuleResult, name: impl Fn(&str) -> String) -> String {
    let moment = match rule.moment {
        RuleMoment::Before => "before",
        RuleMoment::After => "after",
    };
    let mut parts = vec![moment.to_owned()];
    parts.extend(rule.role.map(|role| role.name().to_owned()));
    parts.extend(rule.collection.as_deref().map(name));
    parts.join(", ")
}

/// What became of a rule, in a word.
pub const fn rule_state(state: RuleState) -> &'static str {
    match state {
        RuleState::Held => "held",
        RuleState::Broken => "broken",
        RuleState::Unchecked => "not checked",
    }
}

/// `3 of 100 records`, `3 records`.
pub fn violations(rule: &RuleResult) -> String {
    match rule.record_count {
        Some(records) => format!(
            "{} of {}",
            count(rule.violation_count),
            counted(records, "record")
        ),
        None => counted(rule.violation_count, "record"),
    }
}

/// `3 copied again, 1 removed, 2 left`.
pub fn repair_figures(repair: &RepairResult) -> String {
    let mut parts = vec![
        format!("{} copied again", count(repair.copied_count)),
        format!("{} removed", count(repair.removed_count)),
    ];
    if !repair.left.is_empty() {
        parts.push(format!("{} left as they are", count(repair.left.len() as u64)));
    }
    parts.join(", ")
}

/// What became of the certificate, in a sentence. `name` makes a file's name harmless, `words` a reason.
pub fn certificate(
    note: &CertificateNote,
    name: impl Fn(&str) -> String,
    words: impl Fn(&str) -> String,
) -> String {
    let reason = note
        .reason
        .as_deref()
        .map_or_else(String::new, |reason| format!(" ({})", words(reason)));
    match &note.file {
        Some(file) if note.is_signed => format!("{}, signed", name(file)),
        Some(file) => format!("{}, not signed{reason}", name(file)),
        None => format!("none{reason}"),
    }
}

/// The references within the sink that have orphans, those with orphans of its own first.
pub fn sink_orphans(summary: &RunSummary) -> Vec<&ReferenceResult> {
    let mut found: Vec<&ReferenceResult> = summary
        .sink_references
        .iter()
        .filter(|reference| reference.orphan_count > 0)
        .collect();
    found.sort_by_key(|reference| reference.sink_only_count == 0);
    found
}

/// The section of a terminal's summary; empty if nothing was compared.
pub fn proof_text(summary: &RunSummary, heading: &str) -> String {
    let results = &summary.verification;
    if results.is_empty() {
        return String::new();
    }
    let compared: u64 = results.iter().map(|result| result.compared_count).sum();
    let mut text = format!(
        "{heading} {}; {} compared\n",
        levels(results),
        counted(compared, "record")
    );
    for line in lines(results, losses_line) {
        text.push_str(&format!("  equal after a declared loss: {line}\n"));
    }
    for line in lines(results, changed_line) {
        text.push_str(&format!(
            "  changed in the source meanwhile, neither equal nor different: {line}\n"
        ));
    }
    for line in lines(results, digest_line) {
        text.push_str(&format!("  digest of {line}\n"));
    }
    if let Some((result, latency)) = slowest(results) {
        let is_only = results.iter().filter(|result| result.latency.is_some()).count() == 1;
        let which = if is_only { "" } else { "slowest is " };
        text.push_str(&format!(
            "  read by key, {which}{}: {}\n",
            printable(&result.sink),
            speed(latency)
        ));
    }
    if let Some(note) = &summary.certificate {
        text.push_str(&format!(
            "  certificate: {}\n",
            certificate(note, printable, printable)
        ));
    }
    text
}

/// The collection whose records take longest to be read by key.
pub fn slowest(results: &[VerificationResult]) -> Option<(&VerificationResult, &ReadLatency)> {
    let timed = results
        .iter()
        .filter_map(|result| result.latency.as_ref().map(|latency| (result, latency)));
    timed.max_by(|(_, one), (_, other)| one.p99_ms.total_cmp(&other.p99_ms))
}

/// What `line` says of the first collections, and how many more it could say something of.
fn lines(
    results: &[VerificationResult],
    line: impl Fn(&VerificationResult) -> Option<String>,
) -> Vec<String> {
    let mut all = results.iter().filter_map(line);
    let mut lines: Vec<String> = all.by_ref().take(LINES_MAX).collect();
    let more = all.count() as u64;
    if more > 0 {
        lines.push(format!("{} more", counted(more, "collection")));
    }
    lines
}

fn losses_line(result: &VerificationResult) -> Option<String> {
    (result.equal_after_loss_count > 0).then(|| {
        format!(
            "{} of {} ({})",
            counted(result.equal_after_loss_count, "record"),
            printable(&result.source),
            touched(result, printable)
        )
    })
}

/// Records that the source could not deliver or that a transform refused, and how many of them nobody knows of.
pub fn unreadable_in_source(result: &VerificationResult) -> String {
    let records = counted(result.source_unreadable_count, "record");
    let known = match result.source_unchecked_count {
        0 => "the copy has left them out".to_owned(),
        unchecked => format!("{} left out by no copy", count(unchecked)),
    };
    format!("compared without {records} that the source could not deliver or a transform refused ({known})")
}

fn changed_line(result: &VerificationResult) -> Option<String> {
    (result.changed_since_count > 0).then(|| {
        let records = counted(result.changed_since_count, "record");
        format!("{records} of {}", printable(&result.source))
    })
}

fn digest_line(result: &VerificationResult) -> Option<String> {
    let digests = result.digests.as_ref()?;
    let place = digests.read_back.as_ref().or(digests.transformed.as_ref())?;
    Some(format!("{}: {}", printable(&result.source), short(&place.root)))
}

/// The rules, those that are broken first; of those that held only the number.
pub fn rules_text(summary: &RunSummary, heading: &str) -> String {
    if summary.rules.is_empty() {
        return String::new();
    }
    let mut text = format!("{heading}\n");
    for rule in summary
        .rules
        .iter()
        .filter(|rule| rule.state == RuleState::Broken)
    {
        text.push_str(&format!(
            "  broken: {} ({}): {}\n",
            printable(&rule.name),
            rule_place(rule, printable),
            violations(rule)
        ));
        for record in rule.violations.iter().take(RECORDS_SHOWN_MAX) {
            text.push_str(&format!("    {}\n", printable(record)));
        }
        let shown = rule.violations.len().min(RECORDS_SHOWN_MAX) as u64;
        if rule.violation_count > shown {
            text.push_str(&format!("    and {} more\n", count(rule.violation_count - shown)));
        }
    }
    for rule in summary
        .rules
        .iter()
        .filter(|rule| rule.state == RuleState::Unchecked)
    {
        let reason = rule.reason.as_deref().unwrap_or("nobody looked");
        text.push_str(&format!(
            "  not checked: {} ({}): {}\n",
            printable(&rule.name),
            rule_place(rule, printable),
            printable(reason)
        ));
    }
    let held = summary.rules.iter().filter(|rule| rule.state == RuleState::Held);
    match held.count() as u64 {
        0 => {}
        held => text.push_str(&format!("  {} held\n", counted(held, "rule"))),
    }
    text
}

/// Records of the sink that point to nothing there.
pub fn sink_orphans_text(summary: &RunSummary, heading: &str) -> String {
    let found = sink_orphans(summary);
    if found.is_empty() {
        return String::new();
    }
    let mut text = format!("{heading}\n");
    for reference in found {
        text.push_str(&format!(
            "  {} ({}) to {}: {} of {}, {}\n",
            printable(&reference.collection),
            printable(&reference.fields.join(", ")),
            printable(&reference.parent),
            count(reference.orphan_count),
            counted(reference.record_count, "record"),
            whose(reference)
        ));
        for orphan in reference.orphans.iter().take(RECORDS_SHOWN_MAX) {
            text.push_str(&format!(
                "    {} points to {}\n",
                printable(&orphan.record),
                printable(&orphan.missing)
            ));
        }
        let shown = reference.orphans.len().min(RECORDS_SHOWN_MAX) as u64;
        if reference.orphan_count > shown {
            text.push_str(&format!(
                "    and {} more\n",
                count(reference.orphan_count - shown)
            ));
        }
    }
    text
}

/// Whether the source has these orphans as well; of what was not looked at in the sink, why.
pub fn whose(reference: &ReferenceResult) -> String {
    match (reference.sink_only_count, &reference.reason) {
        (_, Some(reason)) => reason.clone(),
        (0, _) => "as in the source".to_owned(),
        (only, _) if only == reference.orphan_count => "none of them in the source".to_owned(),
        (only, _) => format!("{} of them not in the source", count(only)),
    }
}

/// What a repair has done.
pub fn repaired_text(summary: &RunSummary, heading: &str) -> String {
    if summary.repaired.is_empty() {
        return String::new();
    }
    let mut text = format!("{heading}\n");
    for repair in &summary.repaired {
        text.push_str(&format!(
            "  {}: {}\n",
            printable(&repair.source),
            repair_figures(repair)
        ));
        for (record, reason) in repair.left.iter().take(RECORDS_SHOWN_MAX) {
            text.push_str(&format!("    {}: {}\n", printable(record), printable(reason)));
        }
        let more = repair.left.len().saturating_sub(RECORDS_SHOWN_MAX) as u64;
        if more > 0 {
            text.push_str(&format!("    and {} more\n", count(more)));
        }
    }
    text
}
