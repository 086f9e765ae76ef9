//! Emptying collections: whose files go, whose stay, and when nothing does.
//! That others' records stay is part of the suite of every sink.

use std::fs;
use std::path::Path;

use whimbrel_plugin_api::acceptance::{Record, Value};
use whimbrel_plugin_api::serde_json::json;
use whimbrel_plugin_api::sink::ClearRequest;
use whimbrel_plugin_api::{Collection, Error, ErrorKind, Field, RecordType, Schema, Sink as _};

use crate::harness::{batch_of, begin, commit, load, names, open_sink, prepare, write};

fn things(name: &str) -> Collection {
    Collection::new(name, Schema::new(vec![Field::new("id", RecordType::INT64)]))
}

fn clear(folder: &Path, collections: &[&str]) -> Result<Vec<Option<u64>>, Error> {
    let mut sink = open_sink(&json!({ "path": folder })).unwrap();
    let report = sink.clear(&ClearRequest {
        collections: collections.iter().map(|&name| name.to_owned()).collect(),
    })?;
    Ok(report.removed)
}

fn fill(folder: &Path, name: &str, layout: (&str, &str)) {
    let config = json!({ "path": folder, "format": layout.0, "compression": layout.1 });
    let records: Vec<_> = (0..3)
        .map(|id| Record::from([("id".to_owned(), Value::Int(id))]))
        .collect();
    load(
        &config,
        &things(name),
        &[batch_of(&things(name).schema, &records)],
    );
}

#[test]
fn the_files_of_the_named_collections_go_in_every_layout() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    for (name, layout) in [
        ("a/b", ("ndjson", "none")),
        ("b", ("json", "none")),
        ("c", ("ndjson", "zstd")),
        ("d", ("json", "zstd")),
        ("kept", ("ndjson", "none")),
    ] {
        fill(at, name, layout);
    }
    // Somebody else's: data without a schema file, a name that is no data, a schema file of another program.
    fs::write(at.join("found.jsonl"), "{\"x\":1}\n").unwrap();
    fs::write(at.join("notes.txt"), "a").unwrap();
    fs::write(at.join("foreign.ndjson"), "{}\n").unwrap();
    fs::write(at.join("foreign.schema.json"), "{\"type\":\"object\"}").unwrap();
    // Longer than its schema file says.
    fill(at, "edited", ("ndjson", "none"));
    fs::write(at.join("edited.ndjson"), "{}\n").unwrap();

    let removed = clear(at, &["d", "a/b", "c", "b", "found", "foreign", "edited", "never"]).unwrap();
    let three = Some(3);
    assert_eq!(removed, [three, three, three, three, None, None, None, Some(0)]);
    assert_eq!(
        names(at),
        [
            "foreign.schema.json",
            "kept.ndjson",
            "kept.schema.json",
            "notes.txt"
        ]
    );
    assert_eq!(clear(at, &["a/b"]).unwrap(), [Some(0)], "again changes nothing");
    assert!(clear(at, &[]).unwrap().is_empty());
    assert_eq!(names(at).len(), 4);
    let missing = at.join("missing");
    assert_eq!(clear(&missing, &["a"]).unwrap(), [Some(0)]);
    assert!(!missing.exists());
    let file = clear(&at.join("notes.txt"), &["notes"]).unwrap_err();
    assert_eq!(file.code, "files.not_a_folder");
}

#[test]
fn nothing_is_removed_while_a_load_has_not_ended() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    fill(at, "old", ("ndjson", "none"));
    let mut sink = open_sink(&json!({ "path": at })).unwrap();
    prepare(&mut sink, &[things("new")]);
    let before = names(at);
    let refused = |outcome: Result<Vec<Option<u64>>, Error>| {
        let error = outcome.unwrap_err();
        assert_eq!(
            (error.code.as_str(), error.kind),
            ("files.load_under_way", ErrorKind::Exists)
        );
        assert!(error.help.is_some());
    };
    refused(clear(at, &["old"]));
    begin(&mut sink);
    write(&mut sink, "new", &batch_of(&things("new").schema, &[]));
    commit(&mut sink);
    refused(clear(at, &["old"]));
    assert_eq!(names(at), before);
    // Names that were being changed when it was cut off belong to the load, too.
    let record = at.join(".whimbrel-load.json");
    let text = fs::read_to_string(&record).unwrap();
    fs::write(
        &record,
        text.replace("\"is_finishing\":false", "\"is_finishing\":true"),
    )
    .unwrap();
    refused(clear(at, &["old"]));
    fs::write(&record, text).unwrap();
    sink.finalize().unwrap();
    assert_eq!(clear(at, &["old"]).unwrap(), [Some(3)]);
    assert_eq!(names(at), ["new.ndjson", "new.schema.json"]);
}

#[test]
fn two_files_of_one_collection_are_refused_before_one_of_them_goes() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["a.ndjson", "a.json", "b.ndjson"] {
        fs::write(folder.path().join(name), "{}\n").unwrap();
    }
    let error = clear(folder.path(), &["b", "a"]).unwrap_err();
    assert_eq!(error.code, "files.collection_twice");
    assert_eq!(names(folder.path()).len(), 3);
}
