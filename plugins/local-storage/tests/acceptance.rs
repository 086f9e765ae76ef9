//! The plugin through the boundary, as a host uses it: the API's own suite, the four forms, everything that can be wrong
//! with a file, and the export of a real browser. `rebuild` reads random exports and puts every value together again.

#![expect(
    clippy::unwrap_used,
    reason = "a test ends at the first thing that is not as it should be"
)]

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use serde_json::{Value as Json, json};
use whimbrel_local_storage::{LocalStorageConfig, WhimbrelPlugin};
use whimbrel_plugin_api::abi::Validation;
use whimbrel_plugin_api::abi::root_module::local;
use whimbrel_plugin_api::acceptance::records::{Record, Value, records};
use whimbrel_plugin_api::acceptance::{self, ExpectedCollection, SourceCase};
use whimbrel_plugin_api::services::{HostServices, LogLevel};
use whimbrel_plugin_api::source::{CountRequest, Predicate};
use whimbrel_plugin_api::{
    Collection, CollectionsRequest, Cursor, Error, ErrorKind, Finding, FindingLevel, Item, ReadRequest,
    RejectedRecord, Source,
};

mod rebuild;

struct Nobody;

impl HostServices for Nobody {
    fn log(&self, _: LogLevel, _: &str) {}
    fn progress(&self, _: &str, _: u64, _: Option<u64>) {}
    fn acquire(&self, _: &str, _: u64) -> bool {
        true
    }
}

fn try_open(config: &Json) -> Result<Box<dyn Source>, Error> {
    Ok(Box::new(local::<WhimbrelPlugin>().open_source(
        config,
        Arc::new(Nobody),
        Validation::Full,
    )?))
}

/// An export file of its own with its config; removed when dropped.
struct Export {
    _folder: tempfile::TempDir,
    config: Json,
}

fn export(content: impl AsRef<[u8]>, config: Json) -> Export {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("export.json");
    std::fs::write(&path, content).unwrap();
    let mut config = config;
    config["path"] = json!(path);
    Export {
        _folder: folder,
        config,
    }
}

impl Export {
    fn open(&self) -> Box<dyn Source> {
        try_open(&self.config).unwrap()
    }

    fn everything(&self) -> BTreeMap<String, Read> {
        everything(&mut *self.open())
    }

    /// Why it cannot be read, with the name of the temporary folder removed from the place.
    fn error(&self) -> Error {
        let error = self.open().collections(&all()).unwrap_err();
        let folder = format!("{}/", self._folder.path().display());
        Error {
            place: error.place.map(|place| place.replace(&folder, "")),
            ..error
        }
    }

    fn findings(&self) -> Vec<Finding> {
        self.open().check().unwrap()
    }
}

/// All that a stream delivered.
struct Read {
    collection: Collection,
    records: Vec<Record>,
    rejected: Vec<RejectedRecord>,
}

fn all() -> CollectionsRequest {
    CollectionsRequest {
        names: Vec::new(),
        schemas: true,
    }
}

fn everything(source: &mut dyn Source) -> BTreeMap<String, Read> {
    let collections = source.collections(&all()).unwrap();
    let read = |collection: Collection| {
        let (records, rejected, _) = read(source, &ReadRequest::all(&collection.name));
        (
            collection.name.clone(),
            Read {
                collection,
                records,
                rejected,
            },
        )
    };
    collections.into_iter().map(read).collect()
}

/// Records, rejected records, and the cursor after each batch.
fn read(source: &mut dyn Source, request: &ReadRequest) -> (Vec<Record>, Vec<RejectedRecord>, Vec<Cursor>) {
    let mut stream = source.read(request).unwrap();
    let (mut all, mut rejected, mut cursors) = (Vec::new(), Vec::new(), Vec::new());
    loop {
        match stream.next().unwrap() {
            Item::Batch(batch) => {
                all.extend(records(&batch));
                cursors.push(batch.facts.cursor);
            }
            Item::Rejected(records) => rejected.extend(records),
            Item::End => return (all, rejected, cursors),
            _ => {}
        }
    }
}

/// Records as `field=value` lines, absent fields left out.
fn lines(records: &[Record]) -> Vec<String> {
    let line = |record: &Record| {
        let fields = record.iter().filter(|(_, value)| **value != Value::Absent);
        fields
            .map(|(field, value)| format!("{field}={value:?}"))
            .collect::<Vec<_>>()
            .join(" ")
    };
    records.iter().map(line).collect()
}

/// The announced fields as `name type`, `!` for those never null.
fn fields(collection: &Collection) -> Vec<String> {
    let required = |nullable: bool| if nullable { "" } else { "!" };
    let field = |field: &whimbrel_plugin_api::Field| {
        format!("{} {}{}", field.name, field.record_type, required(field.nullable))
    };
    collection.schema.fields.iter().map(field).collect()
}

fn example(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../../examples/browser-to-turso")
        .join(name)
}

// ---------------------------------------------------------------- the contract and the documentation

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

// ---------------------------------------------------------------- the forms

#[test]
fn all_forms_of_one_export_hold_the_same_records() {
    let flat = export(r#"{"a:1":"{\"n\":1}","theme":"dark"}"#, json!({}));
    let expected: Vec<_> = flat
        .everything()
        .into_iter()
        .map(|(name, read)| (name, lines(&read.records)))
        .collect();
    assert_eq!(
        expected,
        [
            (
                "_values".to_owned(),
                vec![r#"_key="theme" value_json=null value_text="dark""#.to_owned()]
            ),
            (
                "a".to_owned(),
                vec![r#"_id="1" _key="a:1" id="1" n=1"#.to_owned()]
            ),
        ]
    );
    for content in [
        r#"[["a:1","{\"n\":1}"],["theme","dark"]]"#,
        r#"[{"key":"a:1","value":"{\"n\":1}"},{"value":"dark","name":"theme"}]"#,
        "\u{FEFF}\n[ [\"a:1\" , \"{\\\"n\\\":1}\"], {\"name\":\"theme\",\"value\":\"dark\"} ]\n",
    ] {
        let read: Vec<_> = export(content, json!({}))
            .everything()
            .into_iter()
            .map(|(name, read)| (name, lines(&read.records)))
            .collect();
        assert_eq!(read, expected, "{content}");
    }
    for content in [
        r#"{"http://a":{"a:1":"{\"n\":1}","theme":"dark"},"http://b":{}}"#,
        r#"{"cookies":[],"origins":[{"origin":"http://a","localStorage":[{"name":"a:1","value":"{\"n\":1}"},{"name":"theme","value":"dark"}]},{"origin":"http://b","localStorage":[]}]}"#,
    ] {
        let everything = export(content, json!({})).everything();
        let with_origin: Vec<String> = everything
            .values()
            .flat_map(|read| lines(&read.records))
            .map(|line| line.replace("_origin=\"http://a\" ", ""))
            .collect();
        let plain: Vec<String> = expected.iter().flat_map(|(_, lines)| lines.clone()).collect();
        assert_eq!(with_origin, plain, "{content}");
        assert_eq!(everything["a"].collection.key, ["_origin", "_key", "_id"]);
        assert_eq!(
            fields(&everything["a"].collection),
            ["_origin text!", "_key text!", "_id text!", "id text!", "n int64"]
        );
        assert_eq!(everything["_values"].collection.key, ["_origin", "_key"]);
    }
}

#[test]
fn an_empty_export_has_no_collections() {
    for content in ["{}", "[]", r#"{"http://a":{}}"#, r#"{"origins":[]}"#] {
        assert!(export(content, json!({})).everything().is_empty(), "{content}");
    }
}

#[test]
fn one_origin_can_be_chosen() {
    let content = r#"{"http://a":{"theme":"dark"},"http://b":{"theme":"light","x":"1"}}"#;
    let everything = export(content, json!({"origin": "http://b"})).everything();
    assert_eq!(
        lines(&everything["_values"].records),
        [
            r#"_key="theme" _origin="http://b" value_json=null value_text="light""#,
            r#"_key="x" _origin="http://b" value_json="1" value_text=null"#
        ]
    );
    let missing = export(content, json!({"origin": "http://c"})).error();
    assert_eq!(
        (missing.kind, missing.code.as_str()),
        (ErrorKind::NotFound, "local_storage.origin_missing")
    );
    assert_eq!(
        missing.message,
        "the file has no origin `http://c` (origins: `http://a`, `http://b`)"
    );
    let none = export(r#"{"a":"b"}"#, json!({"origin": "http://a"})).error();
    assert_eq!(
        (none.kind, none.code.as_str()),
        (ErrorKind::Config, "local_storage.no_origins")
    );
}

#[test]
fn what_is_no_local_storage_is_told() {
    let content = r#"{"cookies":[{"name":"a"},{"name":"b"}],"origins":[
        {"origin":"http://a","localStorage":[{"name":"k","value":"v"}],"indexedDB":[{"name":"db"}],"x":[]}]}"#;
    let findings = export(content, json!({})).findings();
    let told: Vec<_> = findings
        .iter()
        .map(|finding| (finding.level, finding.message.as_str()))
        .collect();
    assert_eq!(
        told,
        [
            (
                FindingLevel::Info,
                "the file also holds 2 of `cookies`, which are not read"
            ),
            (
                FindingLevel::Info,
                "the file also holds 1 of `indexedDB`, which are not read"
            ),
        ]
    );
}

// ---------------------------------------------------------------- files that cannot be read

#[test]
fn what_is_wrong_with_a_file_is_told_with_its_place() {
    for (content, code, place) in [
        ("", "malformed", "1:1"),
        ("{\"a\":\"b\"", "malformed", "1:8"),
        ("{\n \"a\": \"b\",\n \"c\": tru\n}", "malformed", "3:10"),
        ("{\"a\":\"b\"} x", "malformed", "1:11"),
        ("{\"a\":\"\u{1}\"}", "malformed", "1:6"),
        ("{\n \"ä\": \"b\", \"c\": 1\n}", "value_not_text", "2:18"),
        ("{\"a\":null}", "value_not_text", "1:6"),
        ("{\"a\":\"b\",\"c\":{\"d\":\"e\"}}", "value_not_text", "1:14"),
        ("{\"http://a\":{\"k\":\n7}}", "value_not_text", "2:1"),
        ("{\"http://a\":{},\"b\":\"c\"}", "wrong_form", "1:20"),
        ("[[\"a\",1]]", "value_not_text", "1:7"),
        ("[[\"a\",\"b\",\"c\"]]", "bad_pair", "1:2"),
        ("[[1,\"b\"]]", "bad_pair", "1:2"),
        ("[\"a\"]", "wrong_form", "1:2"),
        ("[{\"key\":\"a\"}]", "bad_pair", "1:2"),
        (
            "[{\"key\":\"a\",\"name\":\"a\",\"value\":\"b\"}]",
            "bad_pair",
            "1:13",
        ),
        ("[{\"key\":\"a\",\"value\":\"b\",\"more\":1}]", "bad_pair", "1:25"),
        ("7", "wrong_form", "1:1"),
        ("\"text\"", "wrong_form", "1:1"),
        ("{\"origins\":[{\"localStorage\":[]}]}", "wrong_form", "1:13"),
        (
            "{\"origins\":[{\"origin\":\"a\",\"localStorage\":{}}]}",
            "wrong_form",
            "1:42",
        ),
        (
            "{\"origins\":[{\"origin\":\"a\",\"localStorage\":[{\"name\":\"k\",\"value\":2}]}]}",
            "value_not_text",
            "1:63",
        ),
    ] {
        let file = export(content, json!({}));
        let error = file.error();
        assert_eq!(error.kind, ErrorKind::InvalidData, "{content}");
        assert_eq!(error.code, format!("local_storage.{code}"), "{content}");
        assert_eq!(
            error.place.as_deref(),
            Some(format!("export.json:{place}").as_str()),
            "{content}"
        );
        let findings = file.findings();
        assert_eq!(findings.len(), 1);
        assert_eq!(
            (findings[0].level, &findings[0].code),
            (FindingLevel::Blocker, &error.code)
        );
        assert!(findings[0].message.contains(place), "{}", findings[0].message);
    }
    let error = export(b"{\"a\":\n\"\xff\"}", json!({})).error();
    assert_eq!(
        (error.code.as_str(), error.place.as_deref()),
        ("local_storage.not_utf8", Some("export.json:2:2"))
    );
}

#[test]
fn a_form_that_is_asked_for_must_be_there() {
    for (content, format, code) in [
        ("[]", "flat", "wrong_form"),
        ("{}", "pairs", "wrong_form"),
        ("{\"a\":{}}", "flat", "value_not_text"),
        ("{\"a\":\"b\"}", "per-origin", "wrong_form"),
        ("{\"a\":\"b\"}", "storage-state", "wrong_form"),
    ] {
        let error = export(content, json!({"format": format})).error();
        assert_eq!(
            error.code,
            format!("local_storage.{code}"),
            "{content} as {format}"
        );
    }
    // A flat export may have any key.
    let flat = export(r#"{"origins":"[]"}"#, json!({"format": "flat"})).everything();
    assert_eq!(
        lines(&flat["_values"].records),
        [r#"_key="origins" value_json="[]" value_text=null"#]
    );
}

#[test]
fn files_that_are_missing_too_large_or_no_files_are_blockers() {
    let folder = tempfile::tempdir().unwrap();
    let code = |config: Json| try_open(&config).unwrap().check().unwrap()[0].code.clone();
    assert_eq!(
        code(json!({"path": folder.path().join("none")})),
        "local_storage.file_missing"
    );
    assert_eq!(code(json!({"path": folder.path()})), "local_storage.not_a_file");
    assert_eq!(
        export("{\"a\":\"b\"}", json!({"size_bytes_max": 8})).findings()[0].code,
        "local_storage.file_too_large"
    );
    assert_eq!(
        export("{\"a\":\"b\"}", json!({"size_bytes_max": 9})).findings(),
        []
    );
}

// ---------------------------------------------------------------- grouping

#[test]
fn shapes_become_collections() {
    let content = json!({
        "user:1": r#"{"name":"A","age":1}"#,
        "user/2": r#"{"name":"B"}"#,
        "user:3": "cut {",
        "lone:object": "{}",
        "lone:text": "x",
        "solo:1": "5",
        "flag:a": "on",
        "flag:b": "\"on\"",
        "todos": r#"[{"id":7,"t":"x"},{"id":8,"t":null}]"#,
        "todos:late": r#"{"id":9}"#,
        "mixed": "[1,\"a\",null,{\"n\":1}]",
        "map": r#" {"x":{"n":1},"y":{"n":2.5}} "#,
        "settings": r#"{"theme":"dark","font":{}}"#,
        "https://example.org/": "{}",
        "empty": "[]",
        "nothing": "{}",
        "": "[1]",
        "_values": "[1]",
        "_own:1": "{}",
        "null": "null",
    });
    let everything = export(content.to_string(), json!({})).everything();
    let mut shown = Vec::new();
    for (name, read) in &everything {
        shown.push(format!("{name}: {}", fields(&read.collection).join(", ")));
        shown.extend(lines(&read.records).into_iter().map(|line| format!("  {line}")));
    }
    insta::assert_snapshot!(shown.join("\n"), @r#"
    _values: _key text!, value_json json, value_text text
      _key="" value_json="[1]" value_text=null
      _key="_own:1" value_json="{}" value_text=null
      _key="_values" value_json="[1]" value_text=null
      _key="empty" value_json="[]" value_text=null
      _key="https://example.org/" value_json="{}" value_text=null
      _key="nothing" value_json="{}" value_text=null
      _key="null" value_json=null value_text="null"
      _key="settings" value_json="{\"theme\":\"dark\",\"font\":{}}" value_text=null
      _key="solo:1" value_json="5" value_text=null
    flag: _key text!, _id text!, id text!, _value text, _value_text text
      _id="a" _key="flag:a" _value_text="on" id="a"
      _id="b" _key="flag:b" _value="on" id="b"
    lone: _key text!, _id text!, id text!, _value_text text
      _id="object" _key="lone:object" id="object"
      _id="text" _key="lone:text" _value_text="x" id="text"
    map: _key text!, _id text!, id text!, n float64
      _id="x" _key="map" id="x" n=1.0
      _id="y" _key="map" id="y" n=2.5
    mixed: _key text!, _id text!, id text!, n int64, _value variant
      _id="0" _key="mixed" _value="1" id="0"
      _id="1" _key="mixed" _value="\"a\"" id="1"
      _id="2" _key="mixed" _value=null id="2"
      _id="3" _key="mixed" id="3" n=1
    todos: _key text!, _id text!, id int64!, t text
      _id="0" _key="todos" id=7 t="x"
      _id="1" _key="todos" id=8 t=null
      _id="late" _key="todos:late" id=9
    user: _key text!, _id text!, id text!, name text, age int64, _value_text text
      _id="2" _key="user/2" id="2" name="B"
      _id="1" _key="user:1" age=1 id="1" name="A"
      _id="3" _key="user:3" _value_text="cut {" id="3"
    "#);
}

#[test]
fn own_members_named_like_fields_of_the_source_are_kept() {
    let content = json!({
        "a:1": r#"{"_key":1,"_key_":2,"_id":3,"_value":4,"_origin":5,"_value_text":6,"__presence":7,"ID":8}"#,
        "a:2": "plain",
    });
    let everything = export(content.to_string(), json!({})).everything();
    assert_eq!(
        lines(&everything["a"].records),
        [
            r#"ID=8 __presence_=7 _id="1" _id_=3 _key="a:1" _key_=2 _key__=1 _origin_=5 _value_=4 _value_text_=6 id="1""#,
            r#"_id="2" _key="a:2" _value_text="plain" id="2""#,
        ]
    );
}

#[test]
fn a_member_that_stands_twice_is_not_lost() {
    let content = json!({"a:1": r#" {"x":1,"x":2}"#, "a:2": r#"{"x":3}"#, "m": r#"{"k":{},"k":{}}"#});
    let everything = export(content.to_string(), json!({})).everything();
    assert_eq!(
        lines(&everything["a"].records),
        [
            r#"_id="1" _key="a:1" _value="{\"x\":1,\"x\":2}" id="1""#,
            r#"_id="2" _key="a:2" id="2" x=3"#
        ]
    );
    assert_eq!(
        lines(&everything["_values"].records),
        [r#"_key="m" value_json="{\"k\":{},\"k\":{}}" value_text=null"#]
    );
}

#[test]
fn collections_with_too_many_fields_keep_their_records_whole() {
    let content = json!({"a:1": r#"{"x":1,"y":2}"#, "a:2": r#"{"z":3}"#, "b:1": r#"{"x":1,"y":2}"#});
    let everything = export(content.to_string(), json!({"fields_max": 2})).everything();
    assert_eq!(
        fields(&everything["a"].collection),
        ["_key text!", "_id text!", "id text!", "_value json"]
    );
    assert_eq!(
        everything["a"].records[0]["_value"],
        Value::text(r#"{"x":1,"y":2}"#)
    );
    assert_eq!(
        fields(&everything["b"].collection),
        ["_key text!", "_id text!", "id text!", "x int64", "y int64"]
    );
}

#[test]
fn names_that_differ_in_case_are_told_apart_unless_exact_ones_are_wanted() {
    let content = json!({"note:1": "{}", "Note:1": "{}", "NOTE": "[1]"}).to_string();
    let names = |config: Json| {
        export(&content, config)
            .everything()
            .into_keys()
            .collect::<Vec<_>>()
    };
    assert_eq!(names(json!({})), ["NOTE", "Note_2", "note_3"]);
    assert_eq!(
        names(json!({"collection_names": "exact"})),
        ["NOTE", "Note", "note"]
    );
    let told: Vec<String> = export(&content, json!({}))
        .findings()
        .into_iter()
        .map(|finding| finding.message)
        .collect();
    assert_eq!(
        told,
        [
            "the collection `Note` is called `Note_2`, since another name differs from it in case only",
            "the collection `note` is called `note_3`, since another name differs from it in case only",
        ]
    );
}

#[test]
fn the_order_is_that_of_the_file() {
    let entries: Vec<String> = (0..50)
        .rev()
        .map(|id| format!(r#""n:{id}":"{{\"v\":{id}}}""#))
        .collect();
    let everything = export(format!("{{{}}}", entries.join(",")), json!({})).everything();
    let order: Vec<_> = everything["n"]
        .records
        .iter()
        .map(|record| record["v"].clone())
        .collect();
    assert_eq!(order, (0..50).rev().map(Value::Int).collect::<Vec<_>>());
}

// ---------------------------------------------------------------- what cannot be delivered

#[test]
fn repeated_keys_are_rejected_and_the_first_is_kept() {
    let content = "{\"a:1\":\"{\\\"n\\\":1}\",\n\"theme\":\"dark\",\n \"theme\":\"light\",\"a:1\":\"{}\"}";
    let file = export(content, json!({}));
    let everything = file.everything();
    assert_eq!(
        lines(&everything["_values"].records),
        [r#"_key="theme" value_json=null value_text="dark""#]
    );
    let [rejected] = &everything["_values"].rejected[..] else {
        panic!("one is rejected")
    };
    assert_eq!(rejected.code, "local_storage.key_twice");
    assert!(
        rejected.record.ends_with("export.json:3:2"),
        "{}",
        rejected.record
    );
    assert_eq!(rejected.data.as_deref(), Some(r#""theme": "light""#));
    assert_eq!(everything["a"].rejected.len(), 1);
    assert_eq!(everything["a"].records.len(), 1);
    let told: Vec<_> = file
        .findings()
        .into_iter()
        .map(|finding| (finding.level, finding.code, finding.collection))
        .collect();
    let expected = |collection: &str| {
        (
            FindingLevel::Warning,
            "local_storage.key_twice".to_owned(),
            Some(collection.to_owned()),
        )
    };
    assert_eq!(told, [expected("_values"), expected("a")]);
    // The same key under two origins is two keys.
    let two = export(r#"{"http://a":{"k":"1"},"http://b":{"k":"2"}}"#, json!({})).everything();
    assert_eq!(
        (two["_values"].records.len(), two["_values"].rejected.len()),
        (2, 0)
    );
}

#[test]
fn halves_of_surrogate_pairs_are_rejected_with_their_place() {
    let config = json!({"path": example("export-lone-surrogate.json")});
    let everything = everything(&mut *try_open(&config).unwrap());
    let shown: Vec<String> = everything
        .iter()
        .flat_map(|(name, read)| {
            let records = lines(&read.records)
                .into_iter()
                .map(move |line| format!("{name}: {line}"));
            let rejected = read.rejected.iter().map(move |rejected| {
                let place = rejected.record.rsplit('/').next().unwrap();
                format!("{name}: {} at {place}", rejected.code)
            });
            records.chain(rejected)
        })
        .collect();
    insta::assert_snapshot!(shown.join("\n"), @r#"
    _values: _key="whole pair" value_json=null value_text="🐦"
    _values: _key="plain" value_json=null value_text="no surrogates at all"
    _values: local_storage.lone_surrogate at export-lone-surrogate.json:2:2
    _values: local_storage.lone_surrogate at export-lone-surrogate.json:3:2
    _values: local_storage.lone_surrogate at export-lone-surrogate.json:5:2
    _values: local_storage.lone_surrogate at export-lone-surrogate.json:6:2
    _values: local_storage.lone_surrogate at export-lone-surrogate.json:8:2
    _values: local_storage.lone_surrogate at export-lone-surrogate.json:9:2
    _values: local_storage.lone_surrogate at export-lone-surrogate.json:10:2
    _values: local_storage.lone_surrogate at export-lone-surrogate.json:11:2
    _values: local_storage.lone_surrogate at export-lone-surrogate.json:13:2
    note: _id="1" _key="note:1" id="1" title="whole"
    note: local_storage.lone_surrogate at export-lone-surrogate.json:14:2
    "#);
}

#[test]
fn halves_of_surrogate_pairs_are_replaced_as_a_declared_loss() {
    let config = json!({"path": example("export-lone-surrogate.json"), "lone_surrogates": "replace"});
    let everything = everything(&mut *try_open(&config).unwrap());
    let shown: Vec<String> = everything
        .iter()
        .flat_map(|(name, read)| {
            let losses = read
                .collection
                .losses
                .iter()
                .map(move |loss| format!("{name}: {} {}", loss.field, loss.loss.name()));
            let rejected = read
                .rejected
                .iter()
                .map(move |rejected| format!("{name}: {}", rejected.code));
            losses.chain(rejected).chain(
                lines(&read.records)
                    .into_iter()
                    .map(move |line| format!("{name}: {line}")),
            )
        })
        .collect();
    insta::assert_snapshot!(shown.join("\n"), @r#"
    _values: _key lone_surrogate_replaced
    _values: value_json lone_surrogate_replaced
    _values: value_text lone_surrogate_replaced
    _values: local_storage.lone_surrogate
    _values: _key="value, low half alone" value_json=null value_text="� cut"
    _values: _key="value, half in an object" value_json="{\"text\":\"cut \\ufffd\",\"n\":1}" value_text=null
    _values: _key="whole pair" value_json=null value_text="🐦"
    _values: _key="�:1" value_json="{\"title\":\"half in the prefix\"}" value_text=null
    _values: _key="key �" value_json=null value_text="high half alone in the key"
    _values: _key="plain" value_json=null value_text="no surrogates at all"
    _values: _key="value, escape in its own JSON" value_json="{\"text\":\"cut \\ufffd\",\"n\":1}" value_text=null
    _values: _key="value, high half alone" value_json=null value_text="cut �"
    _values: _key="value, half in a field name" value_json="{\"cut \\ufffd\":1}" value_text=null
    _values: _key="value, halves in wrong order" value_json=null value_text="��"
    note: _key lone_surrogate_replaced
    note: _id lone_surrogate_replaced
    note: id lone_surrogate_replaced
    note: _id="1" _key="note:1" id="1" title="whole"
    note: _id="�" _key="note:�" id="�" title="half in the id"
    "#);
}

#[test]
fn keys_that_become_equal_by_replacement_are_not_merged() {
    let content = r#"{"k \ud83d":"1","k \ud83e":"2","l":"[{\"a\":1},{\"\\ud83d\":1,\"\\ud83e\":2}]"}"#;
    let everything = export(content, json!({"lone_surrogates": "replace"})).everything();
    assert_eq!(
        lines(&everything["_values"].records),
        ["_key=\"k \u{FFFD}\" value_json=\"1\" value_text=null"]
    );
    let codes: Vec<&str> = everything["_values"]
        .rejected
        .iter()
        .map(|rejected| rejected.code.as_str())
        .collect();
    assert_eq!(codes, ["local_storage.lone_surrogate"]);
    // Two members that would become one: the record is kept whole.
    assert_eq!(
        everything["l"].records[1]["_value"],
        Value::text(r#"{"\ufffd":1,"\ufffd":2}"#)
    );
}

// ---------------------------------------------------------------- reading

#[test]
fn a_cursor_of_another_file_or_config_is_refused() {
    let content = r#"{"l":"[1,2,3]"}"#;
    let request = |cursor: Cursor| ReadRequest {
        cursor,
        ..ReadRequest::all("l")
    };
    let limited = ReadRequest {
        limit: Some(1),
        ..ReadRequest::all("l")
    };
    let (_, _, cursors) = read(&mut *export(content, json!({})).open(), &limited);
    let (rest, _, _) = read(
        &mut *export(content, json!({"format": "flat"})).open(),
        &request(cursors[0].clone()),
    );
    assert_eq!(rest.len(), 2);
    let refused = |content: &str, config: Json, cursor: Cursor| {
        export(content, config)
            .open()
            .read(&request(cursor))
            .err()
            .map(|error| error.code)
            .unwrap()
    };
    assert_eq!(
        refused(r#"{"l":"[1,2,3,4]"}"#, json!({}), cursors[0].clone()),
        "local_storage.changed"
    );
    assert_eq!(
        refused(content, json!({"fields_max": 5}), cursors[0].clone()),
        "local_storage.changed"
    );
    assert_eq!(
        refused(content, json!({}), Cursor(vec![1, 2])),
        "local_storage.bad_cursor"
    );
    let mut beyond = cursors[0].clone();
    beyond.0[7] = 9;
    assert_eq!(refused(content, json!({}), beyond), "local_storage.bad_cursor");
}

#[test]
fn a_rejected_record_is_told_once_across_a_resume() {
    let content = r#"{"l":"[1,\"\\ud83d\",2,\"\\ud83d\",\"\\ud83d\"]"}"#;
    let file = export(content, json!({}));
    let mut source = file.open();
    let first = ReadRequest {
        limit: Some(1),
        ..ReadRequest::all("l")
    };
    let (records, rejected, cursors) = read(&mut *source, &first);
    assert_eq!((records.len(), rejected.len()), (1, 1));
    let rest = ReadRequest {
        cursor: cursors[0].clone(),
        ..ReadRequest::all("l")
    };
    let (records, rejected, cursors) = read(&mut *source, &rest);
    assert_eq!((records.len(), rejected.len()), (1, 2));
    assert!(
        rejected[0].record.ends_with("export.json:1:2[3]"),
        "{}",
        rejected[0].record
    );
    let end = ReadRequest {
        cursor: cursors[0].clone(),
        ..ReadRequest::all("l")
    };
    let (records, rejected, _) = read(&mut *source, &end);
    assert_eq!((records.len(), rejected.len()), (0, 0));
    let count = CountRequest {
        collection: "l".to_owned(),
        snapshot: None,
    };
    assert_eq!(source.count(&count).unwrap(), Some(5));
}

#[test]
fn predicates_are_refused_rather_than_ignored() {
    let request = ReadRequest {
        predicate: Some(Predicate::KeyRange { from: None, to: None }),
        ..ReadRequest::all("l")
    };
    let error = export(r#"{"l":"[1]"}"#, json!({}))
        .open()
        .read(&request)
        .err()
        .unwrap();
    assert_eq!(error.kind, ErrorKind::Unsupported);
}

// ---------------------------------------------------------------- a real browser's export

#[test]
fn every_key_of_a_real_export_is_found_again() {
    for (file, entries) in [
        ("export.json", 5_000),
        ("export-per-origin.json", 100),
        ("export-pairs.json", 100),
    ] {
        let text = std::fs::read_to_string(example(file)).unwrap();
        let mut expected: Vec<(String, String)> = match serde_json::from_str(&text).unwrap() {
            Json::Array(pairs) => pairs
                .iter()
                .map(|pair| (String::new(), pair[0].as_str().unwrap().to_owned()))
                .collect(),
            Json::Object(members) => members
                .iter()
                .flat_map(|(name, value)| match value {
                    Json::Object(keys) => keys.keys().map(|key| (name.clone(), key.clone())).collect(),
                    _ => vec![(String::new(), name.clone())],
                })
                .collect(),
            _ => unreachable!(),
        };
        expected.sort();
        assert!(expected.len() >= entries, "{file}");
        let mut found: Vec<(String, String)> = Vec::new();
        for read in everything(&mut *try_open(&json!({"path": example(file)})).unwrap()).into_values() {
            assert!(read.rejected.is_empty());
            assert_eq!(
                read.collection.estimate.record_count,
                Some(read.records.len() as u64)
            );
            for mut record in read.records {
                let mut text = |field: &str| match record.remove(field) {
                    Some(Value::Text(text)) => text,
                    _ => String::new(),
                };
                found.push((text("_origin"), text("_key")));
            }
        }
        found.sort();
        found.dedup();
        assert!(
            found == expected,
            "{file}: {} keys of {}",
            found.len(),
            expected.len()
        );
    }
}

#[test]
fn collections_and_types_of_the_real_export() {
    let mut shown = String::new();
    for file in ["export.json", "export-storage-state.json"] {
        shown.push_str(&format!("{file}\n"));
        let mut source = try_open(&json!({"path": example(file)})).unwrap();
        for collection in source.collections(&all()).unwrap() {
            let count = collection.estimate.record_count.unwrap();
            let presence = if collection.schema.presence {
                ", with presence"
            } else {
                ""
            };
            shown.push_str(&format!("\n{:?}: {count} records{presence}\n", collection.name));
            for field in fields(&collection) {
                shown.push_str(&format!("  {field:?}\n"));
            }
        }
        shown.push('\n');
    }
    insta::assert_snapshot!("real_export", shown);
}
