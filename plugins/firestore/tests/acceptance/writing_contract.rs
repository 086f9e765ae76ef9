//! The suite of the sink role, in all ways to write.
//! Each of its checks has a project of its own.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use whimbrel_firestore::WhimbrelPlugin;
use whimbrel_plugin_api::abi::root_module::local;
use whimbrel_plugin_api::acceptance::{Report, SinkCase, sink};
use whimbrel_plugin_api::serde_json::{Value as Json, json};

use crate::emulator::Emulator;
use crate::writing_place::idempotent;

/// The suite's report with these settings of `writing`.
fn report_with(writing: Json) -> Option<Report> {
    let emulator = Arc::new(Emulator::shared()?);
    let projects: Mutex<HashMap<String, String>> = Mutex::default();
    let target = move |name: &str| -> Json {
        let mut projects = projects.lock().unwrap();
        let new = || emulator.project("sink");
        let project = projects.entry(name.to_owned()).or_insert_with(new);
        json!({ "project": project, "host": emulator.host(), "writing": writing })
    };
    let mut case = SinkCase::new(target)
        .with_refused_name("a/b")
        .with_refused_name("..")
        .with_bad_config(json!({ "project": "a", "host": "127.0.0.1:1", "writing": { "request": "post" } }))
        .with_unreachable(json!({ "project": "a", "host": "127.0.0.1:1", "retries_max": 0 }));
    for (record_type, value) in REJECTED {
        case = case.with_rejected_value(record_type, value);
    }
    Some(sink::run(local::<WhimbrelPlugin>(), case))
}

/// Values that Firestore has none for: numbers in JSON that neither an integer nor a double holds, half of a character, a vector
/// with what is not a number.
const REJECTED: [(&str, &str); 4] = [
    ("json", "large number"),
    ("json", "lone surrogate"),
    ("variant", "large number"),
    ("vector", "special"),
];

#[test]
fn sink_keeps_its_contract() {
    if let Some(report) = report_with(json!({})) {
        report.assert();
    }
}

/// What is declared holds for the default: records that are sent as they come cannot be taken back.
const NOT_TAKEN_BACK: [&str; 7] = [
    "abort_leaves_nothing",
    "removed_records_are_back_after_abort",
    "close_without_commit_leaves_nothing",
    "cancelled_session_leaves_nothing",
    "replaced_session_is_fenced",
    "stale_checkpoints_are_fenced",
    "open_transaction_of_a_replaced_session_is_lost",
];

#[test]
fn sink_that_sends_records_as_they_come_keeps_its_contract_but_for_taking_back() {
    for writing in idempotent() {
        if let Some(report) = report_with(writing) {
            let failed = report.failed();
            assert!(
                failed.iter().all(|name| NOT_TAKEN_BACK.contains(name)),
                "{report}"
            );
            assert!(failed.contains(&"abort_leaves_nothing"), "{report}");
        }
    }
}
