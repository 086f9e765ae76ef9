//! What cannot be delivered: repeated keys, and text that is not valid Unicode.
//! Rejected with its place, or replaced as a declared loss.

use serde_json::json;
use whimbrel_plugin_api::FindingLevel;
use whimbrel_plugin_api::acceptance::records::Value;

use crate::harness::{everything, example, export, lines, try_open};

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
