//! Casts: values at the edges one by one, and the rule that what converts comes back, for every pair of types.
//!
//! `from_text`, `numbers`, `times` and `nested` have the values, `pairs` the rule; its table is what the README's table says in words.

#[path = "casts/from_text.rs"]
mod from_text;
#[path = "casts/nested.rs"]
mod nested;
#[path = "casts/numbers.rs"]
mod numbers;
#[path = "casts/pairs.rs"]
mod pairs;
#[path = "casts/times.rs"]
mod times;

use std::sync::Arc;

use whimbrel_plugin_api::acceptance::records::{Record, Value as Plain, batch};
use whimbrel_plugin_api::serde_json::{Value, json};
use whimbrel_plugin_api::services::Services;
use whimbrel_plugin_api::{
    Collection, Field, OpenTransform as _, RecordType, Schema, Transform as _, config,
};
use whimbrel_reshape::{Reshape, TypeText};

use crate::harness::run;

fn type_of(text: &str) -> RecordType {
    let TypeText(record_type) = whimbrel_plugin_api::serde_json::from_value(json!(text)).unwrap();
    record_type
}

/// Casts the JSON value `from_json` and gives the JSON that comes out, or `rejected`.
fn cast(from: &str, to: &str, settings: &Value, from_json: &str) -> String {
    let mut cast = json!({ "field": "v", "to": to });
    for (key, value) in settings.as_object().unwrap() {
        cast[key] = value.clone();
    }
    let outcome = run(
        &json!([{ "cast": cast }]),
        vec![Field::new("v", type_of(from))],
        &[&format!(r#"{{"v":{from_json}}}"#)],
    );
    match outcome.lines.first() {
        Some(line) => line[5..line.len() - 1].to_owned(),
        None => {
            assert_eq!(outcome.codes(), [(0, "reshape.not_convertible")]);
            let message = &outcome.rejected[0].message;
            assert!(
                message.contains("`v`") && message.contains(&type_of(to).to_string()),
                "{message}"
            );
            "rejected".to_owned()
        }
    }
}

const REJECTED: &str = "rejected";

#[test]
fn null_stays_null_and_failure_becomes_null_if_asked() {
    let text = || vec![Field::new("v", RecordType::Text)];
    let steps = json!([{ "cast": { "field": "v", "to": "int64", "on_failure": "null" } }]);
    let outcome = run(&steps, text(), &[r#"{"v":null}"#, r#"{"v":"x"}"#, r#"{"v":"1"}"#]);
    assert_eq!(outcome.lines, [r#"{"v":null}"#, r#"{"v":null}"#, r#"{"v":1}"#]);
    let steps = json!([{ "cast": { "field": "v", "to": "int64" } }]);
    let required = vec![Field::required("v", RecordType::Text)];
    let outcome = run(&steps, required, &[r#"{"v":"x"}"#, r#"{"v":"1"}"#]);
    assert_eq!(outcome.fields(), "v: int64");
    assert_eq!(outcome.codes(), [(0, "reshape.not_convertible")]);
}

#[test]
fn untouched_columns_are_not_copied() {
    let schema = Arc::new(Schema::new(vec![
        Field::new("a", RecordType::Text),
        Field::new("b", RecordType::Text),
    ]));
    let rows: Vec<Record> = ["1", "2"]
        .iter()
        .map(|text| {
            Record::from([
                ("a".to_owned(), Plain::text(*text)),
                ("b".to_owned(), Plain::text(*text)),
            ])
        })
        .collect();
    let input = batch(&schema, &rows).unwrap();
    let steps = json!({ "steps": [{ "cast": { "field": "a", "to": "int64" } }, { "rename": { "b": "c" } }, { "trim": ["c"] }] });
    let mut transform = Reshape::open(config::parse(steps).unwrap(), Services::detached()).unwrap();
    transform.plan(&Collection::new("c", (*schema).clone())).unwrap();
    let output = transform.apply(&input).unwrap().outputs.remove(0).1;
    assert!(Arc::ptr_eq(output.records.column(1), input.records.column(1)));
}
