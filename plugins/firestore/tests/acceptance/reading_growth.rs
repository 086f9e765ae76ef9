//! Samples: fields that no document of the sample has, values that do not fit, both on the last page.
//! Nothing is lost and nothing silent in either case.

use whimbrel_plugin_api::acceptance::Value;
use whimbrel_plugin_api::record_type::{Field, RecordType};
use whimbrel_plugin_api::serde_json::{Value as Json, json};
use whimbrel_plugin_api::{CollectionsRequest, ReadRequest, Schema, Source as _};

use crate::grpc_layer::Method;
use crate::reading_place::{Place, in_batches, numbered, read_to_end};

fn sample() -> Json {
    json!({ "inference": { "sample": 3 }, "page_documents_max": 5 })
}

fn number(value: i64) -> Json {
    json!({ "integerValue": value.to_string() })
}

#[test]
fn a_field_on_the_last_page_becomes_a_column_and_nothing_is_lost() {
    let Some(place) = Place::new() else { return };
    place.put_numbered(numbered("users", 20));
    place.put([
        (
            "users/00017".to_owned(),
            json!({ "n": number(17), "late": { "stringValue": "x" } }),
        ),
        (
            "users/00018".to_owned(),
            json!({ "n": number(18), "later": { "booleanValue": true }, "late": { "nullValue": null } }),
        ),
        (
            "users/00019".to_owned(),
            json!({ "late": { "stringValue": "y" } }),
        ),
    ]);
    for records_max in [1, 4, 17, 18, 100] {
        let reading = place.read(sample(), &in_batches("users", records_max)).unwrap();
        let ids: Vec<String> = numbered("users", 20)
            .iter()
            .map(|path| path[6..].to_owned())
            .collect();
        assert_eq!(reading.ids(), ids, "{records_max}");
        assert!(reading.rejected.is_empty());
        let [first, second] = &reading.schemas[..] else {
            panic!("{} schemas", reading.schemas.len())
        };
        let names = |schema: &Schema| -> Vec<String> {
            schema.fields.iter().map(|field| field.name.clone()).collect()
        };
        assert_eq!(names(first), ["__id__", "n"]);
        assert_eq!(names(second), ["__id__", "n", "late", "later"]);
        assert_eq!((second.version, second.presence), (first.version + 1, true));
        let last = &reading.records[19];
        assert_eq!(
            (&last["n"], &last["late"], &last["later"]),
            (&Value::Absent, &Value::text("y"), &Value::Absent)
        );
        assert_eq!(reading.records[18]["late"], Value::Null);
        // Sequence numbers and cursors do not mind.
        for (sequence, batch) in (0..).zip(&reading.batches) {
            assert_eq!(batch.facts.sequence, sequence);
        }
    }
}

#[test]
fn all_streams_of_a_source_look_for_new_fields_once() {
    let Some(place) = Place::new() else { return };
    place.put_numbered(numbered("users", 20));
    place.put([("users/00019".to_owned(), json!({ "late": number(1) }))]);
    let mut source = place.source(sample());
    source.collections(&CollectionsRequest::named("users")).unwrap();
    let request = in_batches("users", 50);
    read_to_end(source.read(&request).unwrap()).unwrap();
    place.layer.reset_counts();
    let reading = read_to_end(source.read(&request).unwrap()).unwrap();
    assert_eq!(reading.schemas.len(), 2);
    // Four full pages, and what is known of the end.
    assert_eq!(place.layer.counts().calls(Method::RunQuery), 5);
}

#[test]
fn a_value_of_another_type_is_rejected_with_its_path_and_data() {
    let Some(place) = Place::new() else { return };
    place.put_numbered((0..20).map(|number| format!("users/a/orders/{number:05}")));
    place.put([
        (
            "users/a/orders/00010".to_owned(),
            json!({ "n": { "stringValue": "secret" } }),
        ),
        (
            "users/a/orders/00019".to_owned(),
            json!({ "n": { "doubleValue": 0.5 } }),
        ),
    ]);
    for records_max in [1, 7, 100] {
        let reading = place
            .read(sample(), &in_batches("users/*/orders", records_max))
            .unwrap();
        assert_eq!(reading.records.len(), 18);
        let paths: Vec<&str> = reading.rejected.iter().map(|one| one.record.as_str()).collect();
        assert_eq!(paths, ["users/a/orders/00010", "users/a/orders/00019"]);
        let first = &reading.rejected[0];
        assert!(first.code.starts_with("firestore."), "{}", first.code);
        assert!(
            !first.message.contains("secret") && first.message.contains("`n`"),
            "{}",
            first.message
        );
        let data: Json = first.data.as_ref().unwrap().parse().unwrap();
        assert_eq!(data, json!({ "n": "secret" }));
        // The last record is a rejected one: the last cursor is behind it.
        let rest = ReadRequest {
            cursor: reading.cursor.clone(),
            ..in_batches("users/*/orders", records_max)
        };
        let rest = place.read(sample(), &rest).unwrap();
        let is_told = records_max != 100;
        assert!(rest.records.is_empty() && (rest.rejected.is_empty() || is_told));
    }
}

#[test]
fn rejected_records_do_not_count_towards_a_limit() {
    let Some(place) = Place::new() else { return };
    place.put_numbered(numbered("users", 20));
    let misfits = [4, 5, 6, 9].map(|id| (format!("users/{id:05}"), json!({ "n": { "booleanValue": true } })));
    place.put(misfits);
    for limit in [4, 5, 8, 16] {
        let request = ReadRequest {
            limit: Some(limit),
            ..ReadRequest::all("users")
        };
        let reading = place.read(sample(), &request).unwrap();
        assert_eq!(reading.records.len() as u64, limit);
        assert_eq!(reading.snapshots().len(), 1);
    }
}

#[test]
fn what_is_expected_is_delivered_without_a_look() {
    let Some(place) = Place::new() else { return };
    place.put([
        (
            "users/a".to_owned(),
            json!({ "born": { "stringValue": "2024-02-29" }, "more": number(1) }),
        ),
        ("users/b".to_owned(), json!({ "born": { "nullValue": null } })),
        ("users/c".to_owned(), json!({ "born": { "stringValue": "soon" } })),
    ]);
    let expected = Schema::new(vec![
        Field::required("__id__", RecordType::Text),
        Field::new("born", RecordType::Date),
    ]);
    let request = ReadRequest {
        expected: Some(expected.clone()),
        ..ReadRequest::all("users")
    };
    let reading = place.read(json!({}), &request).unwrap();
    assert_eq!(reading.schemas[0].fields, expected.fields);
    assert_eq!(reading.ids(), ["a", "b"]);
    assert_eq!(reading.rejected[0].record, "users/c");
    assert_eq!(place.layer.counts().calls(Method::RunQuery), 1);
    // A collection without a document is empty, not missing, if somebody knows its schema.
    let request = ReadRequest {
        collection: "nobody".to_owned(),
        ..request
    };
    assert_eq!(place.read(json!({}), &request).unwrap().records.len(), 0);
}
