//! The four forms of export: the same records from each, one origin chosen, and what is no local storage.
//! Not here: files that cannot be read (`files`).

use serde_json::json;
use whimbrel_plugin_api::{ErrorKind, FindingLevel};

use crate::harness::{export, fields, lines};

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
