//! Keys become collections: the rules of the README, one by one.
//! Random exports are in `rebuild`.

use serde_json::{Value as Json, json};
use whimbrel_plugin_api::acceptance::records::Value;

use crate::harness::{export, fields, lines};

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
