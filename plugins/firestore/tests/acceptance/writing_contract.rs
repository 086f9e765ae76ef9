//! The suite of the sink role, with either kind of request.
//! Each of its checks has a project of its own.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use whimbrel_firestore::WhimbrelPlugin;
use whimbrel_plugin_api::abi::root_module::local;
use whimbrel_plugin_api::acceptance::{SinkCase, sink};
use whimbrel_plugin_api::serde_json::{Value as Json, json};

use crate::emulator::Emulator;

fn keeps_its_contract(request: &'static str) {
    let Some(emulator) = Emulator::shared() else {
        return;
    };
    let emulator = Arc::new(emulator);
    let projects: Mutex<HashMap<String, String>> = Mutex::default();
    let target = move |name: &str| -> Json {
        let mut projects = projects.lock().unwrap();
        let new = || emulator.project("sink");
        let project = projects.entry(name.to_owned()).or_insert_with(new);
        json!({ "project": project, "host": emulator.host(), "writing": { "request": request } })
    };
    let mut case = SinkCase::new(target)
        .with_refused_name("a/b")
        .with_refused_name("..")
        .with_bad_config(json!({ "project": "a", "host": "127.0.0.1:1", "writing": { "request": "post" } }))
        .with_unreachable(json!({ "project": "a", "host": "127.0.0.1:1", "retries_max": 0 }));
    for (record_type, value) in REJECTED {
        case = case.with_rejected_value(record_type, value);
    }
    sink::run(local::<WhimbrelPlugin>(), case).assert();
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
fn sink_keeps_its_contract_with_batch_write() {
    keeps_its_contract("batch_write");
}

#[test]
fn sink_keeps_its_contract_with_commit() {
    keeps_its_contract("commit");
}
