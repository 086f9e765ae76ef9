//! The README says what the code says: the keys of the config, how types are stored, and every code of an error or finding.
//! What the sentences of the README promise is in the other tests.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends here")]

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;

use whimbrel_firestore::FirestoreConfig;
use whimbrel_plugin_api::config::schema;
use whimbrel_plugin_api::docs;

const README: &str = include_str!("../README.md");

#[test]
fn the_table_of_the_config_is_that_of_the_fields() {
    let table = docs::config_table(&schema::<FirestoreConfig>());
    let written = docs::section(README, "config").unwrap();
    assert_eq!(written, table.trim_end(), "write this into the README:\n{table}");
}

#[test]
fn the_table_of_types_is_that_of_the_type_mappings() {
    let mut table = "| record type | stored as | lost |\n|---|---|---|\n".to_owned();
    for mapping in whimbrel_firestore::type_table() {
        let lost: Vec<String> = mapping
            .losses
            .iter()
            .map(|loss| format!("`{}`", loss.name()))
            .collect();
        let lost = if lost.is_empty() {
            "nothing".to_owned()
        } else {
            lost.join(", ")
        };
        writeln!(
            table,
            "| `{}` | {} | {lost} |",
            mapping.record_type, mapping.stored_as
        )
        .unwrap();
    }
    let written = docs::section(README, "types").unwrap();
    assert_eq!(written, table.trim_end(), "write this into the README:\n{table}");
}

#[test]
fn every_code_is_in_the_readme_and_no_other() {
    let mut written = BTreeSet::new();
    collect(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut written);
    let mut listed = BTreeSet::new();
    codes_in(README, '`', &mut listed);
    let missing: Vec<_> = written.difference(&listed).collect();
    assert!(missing.is_empty(), "not in the README: {missing:?}");
    let gone: Vec<_> = listed.difference(&written).collect();
    assert!(gone.is_empty(), "in the README only: {gone:?}");
}

/// The codes in all files below `folder`.
fn collect(folder: &Path, codes: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, codes);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            codes_in(&std::fs::read_to_string(&path).unwrap(), '"', codes);
        }
    }
}

/// What is written as `firestore.code` between two `quote`s.
fn codes_in(text: &str, quote: char, codes: &mut BTreeSet<String>) {
    let opening = format!("{quote}firestore.");
    for (start, _) in text.match_indices(&opening) {
        let code = &text[start + 1..];
        let end = code.find(quote).unwrap();
        let is_code = code[..end]
            .chars()
            .all(|letter| letter.is_ascii_lowercase() || "._".contains(letter));
        if is_code {
            codes.insert(code[..end].to_owned());
        }
    }
}
