//! Every record type through files and back, by the other role: what the sink writes, the source reads.
//! The README says the same, and is compared.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use proptest::prelude::*;
use whimbrel_plugin_api::acceptance::losses::apply;
use whimbrel_plugin_api::acceptance::values::edge_cases;
use whimbrel_plugin_api::acceptance::{Record, Value};
use whimbrel_plugin_api::docs;
use whimbrel_plugin_api::manifest::Role;
use whimbrel_plugin_api::serde_json::{self, Value as Json, json};
use whimbrel_plugin_api::{Batch, Collection, Field, Loss, RecordType, Schema};

use crate::harness::{batch_of, collection, load, plugin, read, read_text, source};

const FORMS: [(&str, &str); 4] = [
    ("ndjson", "none"),
    ("ndjson", "zstd"),
    ("json", "none"),
    ("json", "zstd"),
];

#[test]
fn every_edge_value_of_every_type_comes_back() {
    for (format, compression) in FORMS {
        let folder = tempfile::tempdir().unwrap();
        for edge in edge_cases() {
            let written = Collection::new(edge.name(), (*edge.schema()).clone()).with_key(["id"]);
            let config = json!({ "path": folder.path().join(edge.name()), "format": format, "compression": compression });
            load(&config, &written, &[edge.batch().unwrap()]);
            let mut source = source(&folder.path().join(edge.name()));
            let announced = collection(&mut source, &written.name);
            assert_eq!(
                (&announced.schema, &announced.key),
                (&written.schema, &written.key),
                "{}",
                edge.record_type
            );
            let found = read(&mut source, &written.name).unwrap();
            assert!(
                found.rejected.is_empty(),
                "{}: {:?}",
                edge.record_type,
                found.rejected
            );
            for (record, (name, value)) in found.records().iter().zip(&edge.values) {
                let expected = apply(&[Loss::JsonNullToNull], &edge.record_type, value);
                assert_eq!(
                    record["value"], expected,
                    "{} {name}, {format}, {compression}",
                    edge.record_type
                );
            }
            assert_eq!(found.records().len(), edge.values.len());
        }
    }
}

#[test]
fn a_json_null_is_kept_where_null_is_not_allowed() {
    let schema = Schema::new(vec![
        Field::required("a", RecordType::Json),
        Field::required("b", RecordType::Variant),
    ]);
    let record = Record::from(["a", "b"].map(|name| (name.to_owned(), Value::text("null"))));
    let folder = tempfile::tempdir().unwrap();
    load(
        &json!({ "path": folder.path() }),
        &Collection::new("x", schema.clone()),
        &[batch_of(&schema, std::slice::from_ref(&record))],
    );
    assert_eq!(read(&mut source(folder.path()), "x").unwrap().records(), [record]);
}

/// The committed matrix: README, between the marks `types`.
#[test]
fn the_readme_has_the_types_matrix() {
    let mut table = "| type | in a file | lost |\n|---|---|---|\n".to_owned();
    let mappings = plugin().describe(Role::Sink).unwrap().type_mappings;
    for mapping in &mappings {
        let losses: Vec<&str> = mapping.losses.iter().map(|loss| loss.name()).collect();
        let losses = if losses.is_empty() {
            "nothing".to_owned()
        } else {
            losses.join(", ")
        };
        writeln!(
            table,
            "| {} | {} | {losses} |",
            mapping.record_type, mapping.stored_as
        )
        .unwrap();
    }
    let written = docs::section(include_str!("../../README.md"), "types").unwrap();
    assert!(
        written.trim() == table.trim(),
        "put this between the marks `types`:\n{table}"
    );
    assert_eq!(plugin().describe(Role::Source).unwrap().type_mappings, mappings);
}

fn scalar() -> impl Strategy<Value = Json> {
    prop_oneof![
        Just(Json::Null),
        any::<bool>().prop_map(Json::from),
        any::<i64>().prop_map(Json::from),
        any::<u64>().prop_map(Json::from),
        (-1000_i64..1000).prop_map(Json::from),
        any::<f64>()
            .prop_filter("finite", |number| number.is_finite())
            .prop_map(Json::from),
        ".{0,12}".prop_map(Json::from),
    ]
}

fn value() -> impl Strategy<Value = Json> {
    scalar().prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Json::from),
            proptest::collection::btree_map(".{0,4}", inner, 0..4)
                .prop_map(|members| Json::Object(members.into_iter().collect())),
        ]
    })
}

/// Documents whose fields mostly agree on a type, sometimes not, and are sometimes absent.
fn documents() -> impl Strategy<Value = Vec<BTreeMap<String, Json>>> {
    let of_one_type = prop_oneof![
        any::<i32>().prop_map(Json::from).boxed(),
        any::<u64>().prop_map(Json::from).boxed(),
        ".{0,8}".prop_map(Json::from).boxed(),
    ];
    let document = proptest::collection::btree_map(
        "[abcdé\"\\\\ \n]{0,2}",
        prop_oneof![4 => of_one_type.boxed(), 1 => value().boxed()],
        0..6,
    );
    proptest::collection::vec(document, 0..30)
}

/// What a field of an inferred type says, as JSON text in the one way in which serde_json writes it.
fn said(field: &Field, value: &Value) -> String {
    match (&field.record_type, value) {
        (RecordType::Json | RecordType::Variant | RecordType::Numeric, Value::Text(text)) => text.clone(),
        (_, Value::Null) => "null".to_owned(),
        (_, Value::Bool(value)) => value.to_string(),
        (_, Value::Int(value)) => value.to_string(),
        (_, Value::Float(bits)) => Json::from(f64::from_bits(*bits)).to_string(),
        (_, Value::Decimal(number)) => number.to_string(),
        (_, Value::Text(text)) => Json::from(text.as_str()).to_string(),
        (_, other) => panic!("no document has this: {other:?}"),
    }
}

/// As `said`, of what was put into the document. A float column holds integers too, as floats.
fn meant(field: &Field, value: &Json) -> String {
    match value.as_i64() {
        Some(number) if field.record_type == RecordType::FLOAT64 => Json::from(number as f64).to_string(),
        _ => value.to_string(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn documents_are_read_as_they_were_and_survive_writing(documents in documents(), form in 0_usize..4) {
        let text: String = documents.iter().map(|it| serde_json::to_string(it).unwrap() + "\n").collect();
        let first = read_text("x.ndjson", &text).unwrap();
        prop_assert!(first.rejected.is_empty(), "{:?}", first.rejected);
        let records = first.records();
        prop_assert_eq!(records.len(), documents.len());
        for (record, document) in records.iter().zip(&documents) {
            for field in &first.schema.fields {
                let found = &record[&field.name];
                match document.get(&field.name) {
                    None => prop_assert_eq!(found, &Value::Absent),
                    Some(value) => prop_assert_eq!(said(field, found), meant(field, value), "{}", field.record_type),
                }
            }
            prop_assert!(document.keys().all(|name| record.contains_key(name)));
        }
        let folder = tempfile::tempdir().unwrap();
        let (format, compression) = FORMS[form];
        let config = json!({ "path": folder.path(), "format": format, "compression": compression, "level": 1 });
        let batches: Vec<Batch> = first.batches.clone();
        load(&config, &Collection::new("x", (*first.schema).clone()), &batches);
        let second = read(&mut source(folder.path()), "x").unwrap();
        prop_assert_eq!(&second.schema, &first.schema);
        prop_assert_eq!(second.records(), records);
    }
}
