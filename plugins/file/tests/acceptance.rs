//! The notifier against its contract: the suite in both formats, and the faults that files have.
//! Real files in temporary folders, through the boundary.

#![expect(
    clippy::unwrap_used,
    reason = "a test ends at its first surprise, helpers included"
)]

#[path = "acceptance/faults.rs"]
mod faults;
#[path = "acceptance/harness.rs"]
mod harness;
#[path = "acceptance/repetition.rs"]
mod repetition;
#[path = "acceptance/sharing.rs"]
mod sharing;

use std::path::PathBuf;

use whimbrel_file::NotifierConfig;
use whimbrel_plugin_api::acceptance::{NotifierCase, notifier};
use whimbrel_plugin_api::serde_json::{Value as Json, json};
use whimbrel_plugin_api::{config, docs};

use harness::{delivered_in_all, plugin};

fn keeps_its_contract(format: &'static str) {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().to_owned();
    let path = {
        let root = root.clone();
        move |target: &str| root.join(target).join("notifications")
    };
    let made = {
        let path = path.clone();
        move |target: &str| -> PathBuf {
            let path = path(target);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            path
        }
    };
    let blocked = made("blocked");
    std::fs::write(&blocked, "").unwrap();
    let holder = std::fs::File::options().append(true).open(&blocked).unwrap();
    holder.lock().unwrap();

    let config = |path: PathBuf| -> Json { json!({ "path": path, "format": format }) };
    let read = path.clone();
    let case = NotifierCase::new(
        move |target| json!({ "path": made(target), "format": format, "readable_by": "group" }),
        move |target| delivered_in_all(&read(target)),
    )
    .with_outage(move |target, out| {
        let folder = path(target).parent().unwrap().to_owned();
        let aside = folder.with_extension("away");
        let (from, to) = if out { (&folder, &aside) } else { (&aside, &folder) };
        std::fs::rename(from, to).unwrap();
    })
    .with_blocking(config(blocked.clone()))
    .with_bad_config(json!({}))
    .with_bad_config(json!({ "path": "" }))
    .with_bad_config(json!({ "path": "folder/" }))
    .with_bad_config(json!({ "path": 7 }))
    .with_bad_config(json!({ "path": "x", "format": "xml" }))
    .with_bad_config(json!({ "path": "x", "readable_by": "0600" }))
    .with_bad_config(json!({ "path": "x", "size_mb_max": 0 }))
    .with_bad_config(json!({ "path": "x", "keep": 100 }))
    .with_unreachable(config(root.join("missing/file")))
    .with_unreachable(config(blocked.join("below")))
    .with_unreachable(config(root.clone()));
    let report = notifier::run(plugin(), case);
    report.assert();
    assert!(report.skipped().is_empty(), "{report}");
}

#[test]
fn ndjson_keeps_its_contract() {
    keeps_its_contract("ndjson");
}

#[test]
fn text_keeps_its_contract() {
    keeps_its_contract("text");
}

#[test]
fn the_readme_has_the_config_table_of_the_schema() {
    let written = docs::section(include_str!("../README.md"), "config").unwrap();
    let table = docs::config_table(&config::schema::<NotifierConfig>());
    assert!(
        written.trim() == table.trim(),
        "put this between the marks `config`:\n{table}"
    );
}
