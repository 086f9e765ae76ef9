//! The connector against its contract: the suites of both roles, the types matrix, and the faults that files have.
//! Real files in temporary folders, through the boundary.

#![expect(
    clippy::unwrap_used,
    reason = "a test ends at its first surprise, helpers included"
)]

#[path = "acceptance/clearing.rs"]
mod clearing;
#[path = "acceptance/faults.rs"]
mod faults;
#[path = "acceptance/growth.rs"]
mod growth;
#[path = "acceptance/harness.rs"]
mod harness;
#[path = "acceptance/matrix.rs"]
mod matrix;
#[path = "acceptance/reading.rs"]
mod reading;
#[path = "acceptance/writing.rs"]
mod writing;

use std::fmt::Write as _;
use std::sync::Arc;

use whimbrel_files::{SinkConfig, SourceConfig};
use whimbrel_plugin_api::acceptance::{ExpectedCollection, SinkCase, SourceCase, sink, source};
use whimbrel_plugin_api::serde_json::json;
use whimbrel_plugin_api::{Field, RecordType, config, docs};

use harness::plugin;

/// One test for each form, since most of their time is waiting for the disk.
fn sink_keeps_its_contract(format: &'static str, compression: &'static str) {
    let folder = Arc::new(tempfile::tempdir().unwrap());
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    let targets = Arc::clone(&folder);
    let config = move |name: &str| json!({ "path": targets.path().join(name), "format": format, "compression": compression });
    let case = SinkCase::new(config)
        .with_bad_config(json!({ "path": "x", "level": 20 }))
        .with_bad_config(json!({ "path": "x", "format": "csv" }))
        .with_unreachable(json!({ "path": file }))
        .with_unreachable(json!({ "path": file.join("below") }));
    sink::run(plugin(), case).assert();
}

#[test]
fn ndjson_sink_keeps_its_contract() {
    sink_keeps_its_contract("ndjson", "none");
}

#[test]
fn compressed_ndjson_sink_keeps_its_contract() {
    sink_keeps_its_contract("ndjson", "zstd");
}

#[test]
fn array_sink_keeps_its_contract() {
    sink_keeps_its_contract("json", "none");
}

#[test]
fn compressed_array_sink_keeps_its_contract() {
    sink_keeps_its_contract("json", "zstd");
}

#[test]
fn source_keeps_its_contract() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    let mut users = String::new();
    for id in 0..57 {
        let note = if id % 3 == 0 { ",\"note\":null" } else { "" };
        writeln!(users, "{{\"id\":{id},\"name\":\"user {id} ü\"{note}}}").unwrap();
    }
    write("users.ndjson", &users);
    write(
        "array.json",
        &format!("[\n{}\n]", users.trim_end().replace('\n', " ,\n")),
    );
    write("sequence.json", &users.replace('}', "\n}").replace("}\n", "}"));
    let compressed = zstd::encode_all(users.as_bytes(), 3).unwrap();
    std::fs::write(folder.path().join("packed.jsonl.zst"), compressed).unwrap();
    write("mixed.jsonl", "1\n\"x\"\n{\"a\":1}\n[2]\n\nnull\n");
    write("broken.jsonl", "{\"a\":1}\n{\"a\":\n{\"a\":2}\n{\"a\":3");
    write("empty.ndjson", "");
    write("notes.txt", "not read");
    let fields = vec![
        Field::required("id", RecordType::INT64),
        Field::required("name", RecordType::Text),
        Field::new("note", RecordType::Json),
    ];
    let like_users = |name: &str| ExpectedCollection::new(name, 57).with_fields(fields.clone());
    let case = SourceCase::new(json!({ "path": folder.path(), "key": { "users": ["id"] } }))
        .with(like_users("users").with_key(["id"]))
        .with(like_users("array").with_key(Vec::<String>::new()))
        .with(like_users("sequence"))
        .with(like_users("packed"))
        .with(ExpectedCollection::new("mixed", 5).with_fields(vec![Field::new("value", RecordType::Variant)]))
        .with(ExpectedCollection::new("broken", 2).with_rejected(2))
        .with(ExpectedCollection::new("empty", 0).with_fields(Vec::new()))
        .with_bad_config(json!({ "path": "x", "inference": { "sample": 0 } }))
        .with_bad_config(json!({ "path": "x", "inference": "some" }))
        .with_bad_config(json!({ "path": "x", "fields_max": 0 }))
        .with_bad_config(json!({ "path": "x", "line_bytes_max": 3 }))
        .with_unreachable(json!({ "path": folder.path().join("missing") }))
        .with_unreachable(json!({ "path": folder.path(), "key": { "missing": ["id"] } }));
    source::run(plugin(), case).assert();
}

#[test]
fn the_readme_has_the_config_tables_of_the_schemas() {
    let readme = include_str!("../README.md");
    for (section, table) in [
        (
            "source-config",
            docs::config_table(&config::schema::<SourceConfig>()),
        ),
        ("sink-config", docs::config_table(&config::schema::<SinkConfig>())),
    ] {
        let written = docs::section(readme, section).unwrap();
        assert!(
            written.trim() == table.trim(),
            "put this between the marks `{section}`:\n{table}"
        );
    }
}
