//! Records that point to others that the source does not have: in words, for the summary, the plan and the pages.
//! Keys are shown, other values never.

use super::figures::{count, counted, printable};
use crate::events::{ReferenceResult, RunSummary};

/// Orphans of one reference that the text lists.
const SHOWN_MAX: usize = 5;

/// The references of which there are orphans.
pub fn with_orphans(summary: &RunSummary) -> Vec<&ReferenceResult> {
    let references = summary.references.iter();
    references
        .filter(|reference| reference.orphan_count > 0)
        .collect()
}

/// How many keys are missing.
pub fn missing_keys(reference: &ReferenceResult) -> String {
    let least = if reference.missing_keys_counted {
        ""
    } else {
        "at least "
    };
    format!("{least}{}", count(reference.missing_key_count))
}

/// A list for people; empty if there are none. `file` is where all of them are.
pub fn orphans_text(summary: &RunSummary, heading: &str, file: Option<&str>) -> String {
    let found = with_orphans(summary);
    if found.is_empty() {
        return String::new();
    }
    let mut text = format!("{heading}\n");
    for reference in found {
        text.push_str(&format!(
            "  {} ({}) to {}: {} of {}, {} missing\n",
            printable(&reference.collection),
            printable(&reference.fields.join(", ")),
            printable(&reference.parent),
            count(reference.orphan_count),
            counted(reference.record_count, "record"),
            match reference.missing_key_count {
                1 if reference.missing_keys_counted => "1 key".to_owned(),
                _ => format!("{} keys", missing_keys(reference)),
            }
        ));
        for orphan in reference.orphans.iter().take(SHOWN_MAX) {
            text.push_str(&format!(
                "    {} points to {}\n",
                printable(&orphan.record),
                printable(&orphan.missing)
            ));
        }
        let shown = reference.orphans.len().min(SHOWN_MAX) as u64;
        if reference.orphan_count > shown {
            text.push_str(&format!(
                "    and {} more\n",
                count(reference.orphan_count - shown)
            ));
        }
    }
    if let Some(file) = file {
        text.push_str(&format!("  all of them: {file}\n"));
    }
    text
}
