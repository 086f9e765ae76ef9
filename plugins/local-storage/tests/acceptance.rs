//! The plugin through the boundary, as a host uses it: the API's own suite, the four forms, everything that can be wrong
//! with a file, the export of a real browser, and the profiles of two. `rebuild` reads random exports and puts every value
//! together again.

#![expect(
    clippy::unwrap_used,
    reason = "a test ends at the first thing that is not as it should be"
)]

#[path = "../../../tests/harness/browser.rs"]
mod browser;
#[path = "acceptance/chromium.rs"]
mod chromium;
#[path = "acceptance/files.rs"]
mod files;
#[path = "acceptance/firefox.rs"]
mod firefox;
#[path = "acceptance/forms.rs"]
mod forms;
#[path = "acceptance/grouping.rs"]
mod grouping;
#[path = "acceptance/harness.rs"]
mod harness;
#[path = "acceptance/live_browser.rs"]
mod live_browser;
#[path = "acceptance/profile.rs"]
mod profile;
#[path = "acceptance/reading.rs"]
mod reading;
#[path = "acceptance/real_export.rs"]
mod real_export;
#[path = "acceptance/rebuild.rs"]
mod rebuild;
#[path = "acceptance/refusals.rs"]
mod refusals;

use serde_json::{Value as Json, json};
use whimbrel_local_storage::{LocalStorageConfig, WhimbrelPlugin};
use whimbrel_plugin_api::abi::root_module::local;
use whimbrel_plugin_api::acceptance::{self, ExpectedCollection, SourceCase};

use harness::export;

#[test]
fn the_suite_of_the_api_passes() {
    let list: Vec<Json> = (0..23)
        .map(|id| json!({"id": id, "text": "x".repeat(id * 40)}))
        .collect();
    let content = json!({
        "todos": Json::Array(list).to_string(),
        "note:1": r#"{"title":"a","tags":[1,2]}"#,
        "note:2": r#"{"title":null}"#,
        "theme": "dark",
    });
    // Two broken entries: a key that stands twice and half of a surrogate pair.
    let content = content
        .to_string()
        .replacen('{', r#"{"cut":"\ud83d","theme":"light","#, 1);
    let file = export(content, json!({}));
    let case = SourceCase::new(file.config.clone())
        .with(
            ExpectedCollection::new("_values", 1)
                .with_rejected(2)
                .with_key(["_key"]),
        )
        .with(ExpectedCollection::new("note", 2).with_key(["_key", "_id"]))
        .with(ExpectedCollection::new("todos", 23).with_key(["_key", "_id"]))
        .with_bad_config(json!({}))
        .with_bad_config(json!({"path": ""}))
        .with_bad_config(json!({"path": "x", "format": "xml"}))
        .with_bad_config(json!({"path": "x", "size_bytes_max": 0}))
        .with_unreachable(json!({"path": "/no/such/file.json"}));
    let report = acceptance::source::run(local::<WhimbrelPlugin>(), case);
    report.assert();
    // A skipped check is a documented lack: none of these is offered.
    let lacks = [
        "snapshot_reads_the_same",
        "changes_are_followed",
        "key_range_is_exact_or_refused",
        "partitions_are_disjoint_and_complete",
        "lookup_finds_the_keys",
        "query_is_offered_if_declared",
        "query_selects_what_it_should",
        "query_refuses_what_is_no_reading_statement",
        "cancel_ends_a_blocked_read",
    ];
    assert_eq!(report.skipped(), lacks);
}

#[test]
fn the_readme_has_the_config_table_of_the_schema() {
    let table =
        whimbrel_plugin_api::docs::config_table(&whimbrel_plugin_api::config::schema::<LocalStorageConfig>());
    let readme = include_str!("../README.md");
    let written = whimbrel_plugin_api::docs::section(readme, "config").unwrap();
    assert!(
        written == table.trim_end(),
        "the table in README.md is not that of the schema, which is:\n{table}"
    );
}
