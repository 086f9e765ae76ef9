//! The transform against its contract: the suite, each operation, the matrix of casts, wrong configs and the README.
//! Everything goes through the boundary, as in a run.

#![expect(
    clippy::unwrap_used,
    reason = "a test ends at its first surprise, helpers included"
)]

#[path = "acceptance/casts.rs"]
mod casts;
#[path = "acceptance/harness.rs"]
mod harness;
#[path = "acceptance/operations.rs"]
mod operations;
#[path = "acceptance/planning.rs"]
mod planning;
#[path = "acceptance/readme.rs"]
mod readme;
#[path = "acceptance/wrong_configs.rs"]
mod wrong_configs;
#[path = "acceptance/yaml.rs"]
mod yaml;

use whimbrel_plugin_api::acceptance::{TransformCase, transform};
use whimbrel_plugin_api::serde_json::json;
use whimbrel_plugin_api::{Collection, Field, RecordType, Schema};

use harness::{batches_of, plugin};

/// Records with fields absent, null, empty, and values that do not convert.
const LINES: [&str; 7] = [
    r#"{"id":1,"name":"  Ada ","total":"12.50","born":"10.12.1815","address":{"city":"London","geo":{"lat":51.5,"lng":-0.1}},"tags":["a"],"more":{"x":1,"y":["z"]},"status":"paid"}"#,
    r#"{"id":2,"name":"","total":"twelve","born":"1815-12-10","address":null,"tags":null,"more":{"x":"one"},"status":"paid"}"#,
    r#"{"id":3,"name":null,"total":"-0.01","born":"2024-02-29","more":null,"status":"open"}"#,
    r#"{"id":4,"total":null,"status":"paid"}"#,
    r#"{"id":5,"name":"😀\u0000","total":"9999999999.99","born":"2023-02-29","address":{"city":null,"geo":null},"status":"paid"}"#,
    r#"{"id":6,"name":"é","total":"10000000000.00","status":null}"#,
    r#"{"id":7,"name":"é","total":"1e2","born":"01.01.0001","more":{},"status":"PAID"}"#,
];

fn schema(presence: bool) -> Schema {
    let geo = RecordType::Struct {
        fields: vec![
            Field::new("lat", RecordType::FLOAT64),
            Field::new("lng", RecordType::FLOAT64),
        ],
    };
    let address = RecordType::Struct {
        fields: vec![Field::new("city", RecordType::Text), Field::new("geo", geo)],
    };
    Schema {
        version: 3,
        presence,
        fields: vec![
            Field::required("id", RecordType::INT64),
            Field::new("name", RecordType::Text),
            Field::new("total", RecordType::Text),
            Field::new("born", RecordType::Text),
            Field::new("address", address),
            Field::new("tags", RecordType::list(RecordType::Text)),
            Field::new("more", RecordType::Json),
            Field::new("status", RecordType::Text),
        ],
    }
}

fn program() -> whimbrel_plugin_api::serde_json::Value {
    json!({
        "rule": { "any": [{ "field": "name", "op": "not_null" }, { "field": "total", "op": "matches", "value": "^1" }] },
        "steps": [
            { "rename": { "born": "birthday", "id": "number" } },
            { "trim": ["name"] },
            { "normalise": { "fields": ["name"], "case": "lower", "unicode": "nfc", "empty_to_null": true } },
            { "cast": { "field": "total", "to": "decimal(12, 2)" } },
            { "dates": { "fields": ["birthday"], "formats": ["%Y-%m-%d", "%d.%m.%Y"], "to": "date", "on_failure": "null" } },
            { "flatten": { "field": "address" } },
            { "flatten": { "field": "more", "paths": [{ "path": "/x", "to": "more_x", "type": "int64" }] } },
            { "default": { "name": "nobody" } },
            { "set": { "source": "old", "copy": { "from": "total" } } },
            { "filter": { "where": { "not": { "field": "status", "op": "equals", "value": "open" } } } },
            { "drop": ["tags", "status"] },
        ]
    })
}

#[test]
fn the_contract_is_kept() {
    for presence in [false, true] {
        let schema = schema(presence);
        let batches = batches_of(&schema, &[&LINES[..3], &LINES[3..], &[]]);
        let case = TransformCase::new(
            program(),
            Collection::new("people", schema).with_key(["id"]),
            batches,
        )
        .with_bad_config(json!({ "steps": [{ "trim": [] }] }))
        .with_bad_config(json!({ "steps": [{}] }))
        .with_bad_config(json!({ "steps": {} }))
        .with_bad_config(json!({ "rule": { "field": "x" } }));
        let report = transform::run(plugin(), case);
        report.assert();
        assert!(report.skipped().is_empty(), "{:?}", report.skipped());
    }
}

#[test]
fn nothing_to_do_is_fine() {
    let schema = schema(true);
    let batches = batches_of(&schema, &[&LINES]);
    let case = TransformCase::new(json!({}), Collection::new("people", schema), batches);
    transform::run(plugin(), case).assert();
}
