//! Writing: what lies on the disk after each step, and after a step that failed.
//! Nothing unfinished may have a final name.

use std::fs;

use whimbrel_plugin_api::acceptance::{Record, Value};
use whimbrel_plugin_api::serde_json::{self, Value as Json, json};
use whimbrel_plugin_api::sink::{LaneId, PrepareRequest};
use whimbrel_plugin_api::{
    Batch, Collection, CollectionsRequest, ConflictPolicy, ErrorKind, ErrorScope, Field, FindingLevel,
    RecordType, Schema, Sink as _, Source as _,
};

use crate::harness::{
    batch_of, begin, collection, commit, load, names, open_sink, prepare, read, source, write,
};

fn things(name: &str) -> Collection {
    Collection::new(
        name,
        Schema::new(vec![
            Field::required("id", RecordType::INT64),
            Field::new("text", RecordType::Text),
        ]),
    )
    .with_key(["id"])
}

fn some(ids: std::ops::Range<i64>) -> Batch {
    let record = |id| {
        Record::from([
            ("id".to_owned(), Value::Int(id)),
            ("text".to_owned(), Value::text("ü".repeat(40))),
        ])
    };
    batch_of(&things("").schema, &ids.map(record).collect::<Vec<_>>())
}

fn ids(source: &mut dyn whimbrel_plugin_api::Source, name: &str) -> Vec<i64> {
    let id = |record: &Record| match record["id"] {
        Value::Int(id) => id,
        ref other => panic!("{other:?}"),
    };
    read(source, name).unwrap().records().iter().map(id).collect()
}

#[test]
fn finished_files_are_what_they_are_called() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    for (format, compression) in [
        ("ndjson", "none"),
        ("json", "none"),
        ("ndjson", "zstd"),
        ("json", "zstd"),
    ] {
        let config = json!({ "path": at(&format!("{format}-{compression}")), "format": format, "compression": compression });
        load(&config, &things("a/b"), &[some(0..1), some(1..3)]);
        load(
            &json!({ "path": at(&format!("{format}-{compression}-none")), "format": format, "compression": compression }),
            &things("e"),
            &[],
        );
    }
    assert_eq!(names(&at("ndjson-none")), ["a%2Fb.ndjson", "a%2Fb.schema.json"]);
    let text = fs::read_to_string(at("ndjson-none/a%2Fb.ndjson")).unwrap();
    assert_eq!(text.lines().count(), 3);
    assert!(
        text.lines()
            .all(|line| serde_json::from_str::<Json>(line).is_ok())
    );
    let array = fs::read_to_string(at("json-none/a%2Fb.json")).unwrap();
    assert!(
        array.starts_with("[\n{") && array.ends_with("}\n]\n") && array.lines().count() == 5,
        "{array}"
    );
    assert_eq!(serde_json::from_str::<Vec<Json>>(&array).unwrap().len(), 3);
    let unpacked = |path: &str| zstd::decode_all(fs::File::open(at(path)).unwrap()).unwrap();
    assert_eq!(unpacked("ndjson-zstd/a%2Fb.ndjson.zst"), text.as_bytes());
    assert_eq!(unpacked("json-zstd/a%2Fb.json.zst"), array.as_bytes());
    assert_eq!(fs::read(at("ndjson-none-none/e.ndjson")).unwrap(), b"");
    assert_eq!(fs::read(at("json-none-none/e.json")).unwrap(), b"[]\n");
    assert_eq!(unpacked("ndjson-zstd-none/e.ndjson.zst"), b"");
    assert_eq!(unpacked("json-zstd-none/e.json.zst"), b"[]\n");
}

#[test]
fn nothing_unfinished_has_a_final_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("new/deeper");
    let mut sink = open_sink(&json!({ "path": path })).unwrap();
    let dry = PrepareRequest {
        collections: vec![things("a")],
        dry: true,
        ..PrepareRequest::default()
    };
    let report = sink.prepare(&dry).unwrap();
    assert_eq!(report.ddl.len(), 3, "{:?}", report.ddl);
    assert!(!folder.path().join("new").exists());
    prepare(&mut sink, &[things("a"), things("b")]);
    let unfinished = [
        ".whimbrel-load.json",
        "a.ndjson.partial",
        "a.schema.json.partial",
        "b.ndjson.partial",
        "b.schema.json.partial",
    ];
    for _ in 0..2 {
        begin(&mut sink);
        write(&mut sink, "a", &some(0..5));
        assert_eq!(names(&path), unfinished);
        commit(&mut sink);
        assert_eq!(names(&path), unfinished);
    }
    assert!(
        source(&path)
            .collections(&CollectionsRequest::default())
            .unwrap()
            .is_empty()
    );
    sink.finalize().unwrap();
    assert_eq!(
        names(&path),
        ["a.ndjson", "a.schema.json", "b.ndjson", "b.schema.json"]
    );
    sink.finalize().expect("again changes nothing");
    assert_eq!(ids(&mut source(&path), "a").len(), 10);
    assert!(ids(&mut source(&path), "b").is_empty());
}

#[test]
fn a_kill_between_write_and_commit_leaves_what_was_committed() {
    for (format, compression) in [
        ("ndjson", "none"),
        ("json", "none"),
        ("ndjson", "zstd"),
        ("json", "zstd"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let config = json!({ "path": folder.path(), "format": format, "compression": compression });
        let mut first = open_sink(&config).unwrap();
        prepare(&mut first, &[things("a"), things("b")]);
        begin(&mut first);
        write(&mut first, "a", &some(0..3));
        commit(&mut first);
        begin(&mut first);
        // Enough to reach the disk before the commit.
        write(&mut first, "a", &some(100..20_100));
        write(&mut first, "b", &some(100..20_100));
        // Nothing of the session runs any more, as after SIGKILL.
        std::mem::forget(first);

        let mut second = open_sink(&config).unwrap();
        assert_eq!(
            ids(&mut *second.reader().unwrap(), "a"),
            [0, 1, 2],
            "{format} {compression}"
        );
        assert!(ids(&mut *second.reader().unwrap(), "b").is_empty());
        begin(&mut second);
        write(&mut second, "a", &some(3..5));
        commit(&mut second);
        assert_eq!(
            ids(&mut *second.reader().unwrap(), "a"),
            [0, 1, 2, 3, 4],
            "{format} {compression}"
        );
        second.finalize().unwrap();
        assert_eq!(
            ids(&mut source(folder.path()), "a"),
            [0, 1, 2, 3, 4],
            "{format} {compression}"
        );
        assert!(ids(&mut source(folder.path()), "b").is_empty());
    }
}

#[test]
fn abort_and_close_take_back_what_was_not_committed() {
    for (format, compression) in [
        ("ndjson", "none"),
        ("json", "none"),
        ("ndjson", "zstd"),
        ("json", "zstd"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let config = json!({ "path": folder.path(), "format": format, "compression": compression });
        let mut sink = open_sink(&config).unwrap();
        prepare(&mut sink, &[things("a")]);
        for (batch, keeps) in [
            (some(30..40), false),
            (some(0..3), true),
            (some(50..20_000), false),
            (some(3..4), true),
        ] {
            begin(&mut sink);
            write(&mut sink, "a", &batch);
            if keeps {
                commit(&mut sink)
            } else {
                sink.abort().unwrap()
            }
        }
        begin(&mut sink);
        write(&mut sink, "a", &some(70..90));
        drop(sink);
        let mut sink = open_sink(&config).unwrap();
        assert_eq!(ids(&mut *sink.reader().unwrap(), "a"), [0, 1, 2, 3]);
        sink.finalize().unwrap();
        assert_eq!(ids(&mut source(folder.path()), "a"), [0, 1, 2, 3]);
        assert_eq!(
            collection(&mut source(folder.path()), "a").estimate.record_count,
            Some(4)
        );
    }
}

#[test]
fn a_load_that_starts_again_starts_from_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let config = json!({ "path": folder.path() });
    let mut sink = open_sink(&config).unwrap();
    prepare(&mut sink, &[things("a"), things("gone")]);
    begin(&mut sink);
    write(&mut sink, "a", &some(0..3));
    commit(&mut sink);
    drop(sink);
    load(&config, &things("a"), &[some(7..9)]);
    assert_eq!(ids(&mut source(folder.path()), "a"), [7, 8]);
    assert_eq!(names(folder.path()), ["a.ndjson", "a.schema.json"]);
}

#[test]
fn a_finish_that_was_cut_off_is_noticed_and_completed() {
    let folder = tempfile::tempdir().unwrap();
    let config = json!({ "path": folder.path() });
    let mut sink = open_sink(&config).unwrap();
    prepare(&mut sink, &[things("a"), things("b")]);
    begin(&mut sink);
    write(&mut sink, "a", &some(0..3));
    write(&mut sink, "b", &some(0..2));
    commit(&mut sink);
    drop(sink);
    // As if the process died after the first of four renames.
    let record = folder.path().join(".whimbrel-load.json");
    let text = fs::read_to_string(&record)
        .unwrap()
        .replace("\"is_finishing\":false", "\"is_finishing\":true");
    fs::write(&record, text).unwrap();
    fs::rename(
        folder.path().join("a.ndjson.partial"),
        folder.path().join("a.ndjson"),
    )
    .unwrap();
    let error = source(folder.path())
        .collections(&CollectionsRequest::default())
        .unwrap_err();
    assert_eq!(error.code, "files.unfinished");
    let findings = source(folder.path()).check().unwrap();
    assert_eq!(
        (findings[0].level, findings[0].code.as_str()),
        (FindingLevel::Blocker, "files.unfinished")
    );
    let mut sink = open_sink(&config).unwrap();
    prepare(&mut sink, &[things("c")]);
    sink.finalize().unwrap();
    assert_eq!(ids(&mut source(folder.path()), "a"), [0, 1, 2]);
    assert_eq!(ids(&mut source(folder.path()), "b"), [0, 1]);
}

#[test]
fn what_is_there_is_kept_or_replaced_in_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let config = json!({ "path": folder.path() });
    load(&config, &things("a"), &[some(0..3)]);
    fs::write(folder.path().join("b.json"), "[{\"id\":1}]").unwrap();
    fs::write(folder.path().join("c.jsonl"), "\n").unwrap();
    let all = [things("a"), things("b"), things("c")];

    let mut sink = open_sink(&config).unwrap();
    let report = prepare(&mut sink, &all);
    let said: Vec<_> = report
        .collections
        .iter()
        .map(|it| (it.existed, it.record_count))
        .collect();
    assert_eq!(said, [(true, Some(3)), (true, None), (true, Some(0))]);
    begin(&mut sink);
    write(&mut sink, "c", &some(0..1));
    for name in ["a", "b"] {
        let error = sink
            .write(name, &some(9..10), ConflictPolicy::Append)
            .unwrap_err();
        assert_eq!(
            (error.code.as_str(), error.kind, error.scope),
            ("files.exists", ErrorKind::Exists, ErrorScope::Write)
        );
    }
    commit(&mut sink);
    sink.finalize().unwrap();
    assert_eq!(ids(&mut source(folder.path()), "a"), [0, 1, 2]);
    assert_eq!(
        names(folder.path()),
        ["a.ndjson", "a.schema.json", "b.json", "c.ndjson", "c.schema.json"]
    );

    let config =
        json!({ "path": folder.path(), "existing": "replace", "format": "json", "compression": "zstd" });
    let mut sink = open_sink(&config).unwrap();
    let report = prepare(&mut sink, &all[..2]);
    let said: Vec<_> = report
        .collections
        .iter()
        .map(|it| (it.existed, it.record_count))
        .collect();
    assert_eq!(
        said,
        [(true, Some(0)), (true, Some(0))],
        "nothing is in the way of a whole replacement"
    );
    assert!(
        report
            .findings
            .iter()
            .all(|finding| finding.code == "files.replaced")
    );
    assert_eq!(
        ids(&mut *sink.reader().unwrap(), "a"),
        [0, 1, 2],
        "nothing is committed yet"
    );
    begin(&mut sink);
    write(&mut sink, "a", &some(5..6));
    commit(&mut sink);
    assert_eq!(
        ids(&mut source(folder.path()), "a"),
        [0, 1, 2],
        "until the end the old file is there"
    );
    assert_eq!(ids(&mut *sink.reader().unwrap(), "a"), [5]);
    sink.finalize().unwrap();
    assert_eq!(ids(&mut source(folder.path()), "a"), [5]);
    assert!(ids(&mut source(folder.path()), "b").is_empty());
    assert_eq!(
        names(folder.path()),
        [
            "a.json.zst",
            "a.schema.json",
            "b.json.zst",
            "b.schema.json",
            "c.ndjson",
            "c.schema.json"
        ]
    );
}

#[test]
fn names_that_would_share_a_file_are_refused_with_both() {
    let folder = tempfile::tempdir().unwrap();
    let config = json!({ "path": folder.path() });
    let blockers = |collections: &[Collection]| {
        let report = prepare(&mut open_sink(&config).unwrap(), collections);
        let blockers = report
            .findings
            .into_iter()
            .filter(|finding| finding.level == FindingLevel::Blocker);
        blockers
            .map(|finding| (finding.code, finding.message))
            .collect::<Vec<_>>()
    };
    let found = blockers(&[things("Ab"), things("aB")]);
    assert_eq!(found[0].0, "files.name_collision");
    assert!(
        found[0].1.contains("`Ab`") && found[0].1.contains("`aB`"),
        "{}",
        found[0].1
    );
    assert!(names(folder.path()).is_empty(), "a refusal changes nothing");
    fs::write(folder.path().join("x.schema.json"), "{\"$schema\":\"...\"}").unwrap();
    assert_eq!(blockers(&[things("x")])[0].0, "files.foreign_schema_file");
    // A name that ends as schema files do, written as JSON, is not taken for one.
    let json = json!({ "path": folder.path().join("json"), "format": "json" });
    let mut sink = open_sink(&json).unwrap();
    prepare(&mut sink, &[things("a"), things("a.schema")]);
    begin(&mut sink);
    write(&mut sink, "a", &some(0..1));
    write(&mut sink, "a.schema", &some(5..6));
    commit(&mut sink);
    sink.finalize().unwrap();
    assert_eq!(ids(&mut source(&folder.path().join("json")), "a"), [0]);
    assert_eq!(ids(&mut source(&folder.path().join("json")), "a.schema"), [5]);
}

#[test]
fn calls_out_of_order_are_refused_and_do_no_harm() {
    let folder = tempfile::tempdir().unwrap();
    let config = json!({ "path": folder.path() });
    let mut sink = open_sink(&config).unwrap();
    sink.begin(&LaneId::default()).unwrap_err();
    prepare(&mut sink, &[things("a")]);
    sink.write("a", &some(0..1), ConflictPolicy::Append).unwrap_err();
    begin(&mut sink);
    sink.begin(&LaneId::default()).unwrap_err();
    let error = sink
        .write("a", &some(0..1), ConflictPolicy::Overwrite)
        .unwrap_err();
    assert_eq!(
        (error.kind, error.scope),
        (ErrorKind::Unsupported, ErrorScope::Write)
    );
    let other = Schema::new(vec![Field::new("id", RecordType::Text)]);
    let error = sink
        .write("a", &batch_of(&other, &[]), ConflictPolicy::Append)
        .unwrap_err();
    assert_eq!(error.scope, ErrorScope::Write);
    sink.finalize().unwrap_err();
    write(&mut sink, "a", &some(4..5));
    commit(&mut sink);
    sink.finalize().unwrap();
    assert_eq!(ids(&mut source(folder.path()), "a"), [4]);
}

#[test]
fn key_references_and_counts_are_told_to_the_reader() {
    let folder = tempfile::tempdir().unwrap();
    let mut written = things("a");
    written.references = vec![whimbrel_plugin_api::collection::Reference {
        fields: vec!["text".into()],
        collection: "b".into(),
        ..Default::default()
    }];
    load(&json!({ "path": folder.path() }), &written, &[some(0..3)]);
    let found = collection(&mut source(folder.path()), "a");
    assert_eq!(
        (&found.key, &found.references, &found.schema),
        (&written.key, &written.references, &written.schema)
    );
    assert_eq!(
        (found.estimate.record_count, found.estimate.exact),
        (Some(3), false)
    );
    let data = folder.path().join("a.ndjson");
    let mut text = fs::read_to_string(&data).unwrap();
    text.push_str("{\"id\":\"not a number\"}\n{\"id\":4,\"new\":1}\n{\"id\":5}\n");
    fs::write(&data, text).unwrap();
    let mut edited = source(folder.path());
    assert_eq!(edited.check().unwrap()[0].code, "files.edited");
    let reading = read(&mut edited, "a").unwrap();
    assert_eq!(reading.records().len(), 4);
    assert_eq!(
        reading.rejections(),
        [
            ("a.ndjson:4:1", "json_form.bad_value"),
            ("a.ndjson:5:1", "json_form.unknown_key")
        ]
    );
}

#[test]
fn records_fit_a_file_that_requires_more_or_has_more_fields_than_they() {
    let folder = tempfile::tempdir().unwrap();
    let config = json!({ "path": folder.path() });
    let mut wide = things("a");
    wide.schema.fields.push(Field::new("more", RecordType::Text));
    wide.schema.presence = true;
    let mut narrow = things("a").schema;
    narrow.fields[0].nullable = true;
    narrow.presence = true;
    let record = |id: Value, text: Value| Record::from([("id".to_owned(), id), ("text".to_owned(), text)]);
    let batch = batch_of(
        &narrow,
        &[
            record(Value::Int(1), Value::Absent),
            record(Value::Null, Value::text("no id")),
            record(Value::Absent, Value::text("no id")),
            record(Value::Int(2), Value::Null),
        ],
    );
    let mut sink = open_sink(&config).unwrap();
    prepare(&mut sink, &[wide]);
    begin(&mut sink);
    let receipt = sink.write("a", &batch, ConflictPolicy::Append).unwrap();
    let rejected: Vec<_> = receipt
        .rejected
        .iter()
        .map(|rejected| (rejected.row, rejected.code.as_str()))
        .collect();
    assert_eq!(
        rejected,
        [(Some(1), "files.no_value"), (Some(2), "files.no_value")]
    );
    let mut other = narrow.clone();
    other.fields[1].record_type = RecordType::Json;
    let error = sink
        .write("a", &batch_of(&other, &[]), ConflictPolicy::Append)
        .unwrap_err();
    assert!(error.message.contains("another schema"), "{}", error.message);
    commit(&mut sink);
    sink.finalize().unwrap();
    let found = read(&mut source(folder.path()), "a").unwrap();
    assert!(found.rejected.is_empty());
    let found: Vec<_> = found
        .records()
        .into_iter()
        .map(|record| {
            (
                record["id"].clone(),
                record["text"].clone(),
                record["more"].clone(),
            )
        })
        .collect();
    assert_eq!(
        found,
        [
            (Value::Int(1), Value::Absent, Value::Absent),
            (Value::Int(2), Value::Null, Value::Absent)
        ]
    );
}
