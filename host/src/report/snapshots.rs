//! A copy that was read at several snapshots of the source, in words: there is no single moment of the source that was copied.
//! Neighbours: [`crate::events::SnapshotsRead`], which names them; `summary` and `executive_summary` show the lines.

use whimbrel_plugin_api::Finding;

use super::figures::printable;
use crate::events::{CollectionResult, RunSummary};

/// Collections that are named.
const NAMED_MAX: usize = 10;

/// The collections of a copy from several snapshots with these in words, those first that are of several themselves.
pub(super) fn copied(summary: &RunSummary) -> Vec<(&str, String)> {
    let named = summary.collections.iter().filter(|of| !of.snapshots.is_empty());
    let mut named: Vec<&CollectionResult> = named.collect();
    named.sort_by_key(|of| of.snapshots.are_no_several());
    let in_words = named
        .into_iter()
        .map(|of| (of.source.as_str(), of.snapshots.in_words()));
    in_words.collect()
}

/// The same for a terminal, under `heading`.
pub(super) fn snapshots_text(summary: &RunSummary, heading: &str) -> String {
    let copied = copied(summary);
    if copied.is_empty() {
        return String::new();
    }
    let mut text = format!("{heading}\n");
    for (name, read) in copied.iter().take(NAMED_MAX) {
        text.push_str(&format!("  {}: {}\n", printable(name), printable(read)));
    }
    if copied.len() > NAMED_MAX {
        text.push_str(&format!("  and {} more\n", copied.len() - NAMED_MAX));
    }
    text.push_str("  what was changed between them is in one part of the copy and not in another\n");
    text
}

/// Whether both sides were compared over records that were not all read at one snapshot of the source.
pub(super) fn are_compared(summary: &RunSummary) -> bool {
    let mut digests = summary.verification.iter().filter_map(|of| of.digests.as_ref());
    digests.any(|digests| digests.snapshots.are_several())
}

/// That a copy is of several snapshots, if it is.
pub fn several_snapshots(summary: &RunSummary) -> Option<Finding> {
    let copied = copied(summary);
    if copied.is_empty() {
        return None;
    }
    let named = copied.iter().take(NAMED_MAX);
    let named: Vec<String> = named.map(|(name, read)| format!("`{name}`: {read}")).collect();
    let more = match copied.len() - named.len() {
        0 => String::new(),
        more => format!("; and {more} more"),
    };
    let message = format!(
        "the copy is of several snapshots of the source, so that what was changed between them is in one part of it and not in \
         another: {}{more}",
        named.join("; ")
    );
    Some(Finding::warning("run.several_snapshots", message).with_help(
        "begin anew with `whimbrel run` if all of it has to be of one moment; a comparison shows what differs from now",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::CollectionResult;

    fn summary(snapshots: &[&[&str]]) -> RunSummary {
        let collections = (0..).zip(snapshots).map(|(number, names)| {
            let mut result = CollectionResult {
                source: format!("c{number}"),
                ..CollectionResult::default()
            };
            names.iter().for_each(|name| {
                result.snapshots.note(name);
            });
            result
        });
        RunSummary {
            collections: collections.collect(),
            ..RunSummary::default()
        }
    }

    #[test]
    fn a_copy_of_several_snapshots_is_told_with_all_of_them() {
        let none = summary(&[&[], &[]]);
        assert_eq!(several_snapshots(&none), None);
        assert_eq!(snapshots_text(&none, "read:"), "");
        let two = summary(&[&["a"], &["a", "b"], &[]]);
        let finding = several_snapshots(&two).unwrap();
        assert_eq!(finding.code, "run.several_snapshots");
        let told = "in another: `c1`: 2 snapshots of the source (`a`, `b`); `c0`: snapshot `a` of the source";
        assert!(finding.message.ends_with(told), "{}", finding.message);
        assert_eq!(
            snapshots_text(&two, "read:"),
            "read:\n  c1: 2 snapshots of the source (`a`, `b`)\n  c0: snapshot `a` of the source\n  what was changed between them is \
             in one part of the copy and not in another\n"
        );
        let names: &[&str] = &["a", "b"];
        let many = summary(&[names; 12]);
        assert!(
            several_snapshots(&many)
                .unwrap()
                .message
                .ends_with("; and 2 more")
        );
        assert!(snapshots_text(&many, "read:").contains("  and 2 more\n"));
    }

    #[test]
    fn a_comparison_is_of_several_snapshots_only_if_its_digests_are() {
        let mut compared = summary(&[&["a", "b"]]);
        let result = crate::events::VerificationResult::begun("c0", "c0", Default::default());
        compared.verification = vec![result];
        assert!(!are_compared(&compared));
        let mut digests = crate::events::CollectionDigests::default();
        digests.snapshots.note("a");
        compared.verification[0].digests = Some(digests.clone());
        assert!(!are_compared(&compared));
        digests.snapshots.note("b");
        compared.verification[0].digests = Some(digests);
        assert!(are_compared(&compared));
    }
}
