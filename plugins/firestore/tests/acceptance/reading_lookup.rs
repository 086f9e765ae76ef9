//! Looking up by key, counting, and collections that are not there.
//! Against the emulator, nested collections and groups included.

use std::sync::Arc;

use gcloud_sdk::tonic::Code;
use whimbrel_plugin_api::acceptance::records::batch;
use whimbrel_plugin_api::acceptance::{Record, Value};
use whimbrel_plugin_api::record_type::{Field, RecordType};
use whimbrel_plugin_api::serde_json::json;
use whimbrel_plugin_api::source::CountRequest;
use whimbrel_plugin_api::{Batch, CollectionsRequest, ErrorKind, ReadRequest, Schema, Source as _};

use crate::grpc_layer::{Answer, Method};
use crate::reading_place::{Place, numbered, read_to_end};

fn keys(fields: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> Batch {
    let schema = fields.iter().map(|name| Field::required(*name, RecordType::Text));
    let schema = Arc::new(Schema::new(schema.collect()));
    let rows: Vec<Record> = rows
        .into_iter()
        .map(|row| {
            fields
                .iter()
                .map(|name| (*name).to_owned())
                .zip(row.into_iter().map(Value::text))
                .collect()
        })
        .collect();
    batch(&schema, &rows).unwrap()
}

#[test]
fn records_are_found_by_their_keys_in_groups() {
    let Some(place) = Place::new() else { return };
    let paths: Vec<String> = (0..700)
        .map(|number| format!("users/{}/orders/{number}", number % 3))
        .collect();
    place.put_numbered(paths);
    let mut source = place.source(json!({}));
    source
        .collections(&CollectionsRequest::named("users/*/orders"))
        .unwrap();
    // Half of them are there; some stand twice, or can be no key at all.
    let mut rows: Vec<Vec<String>> = (0..1_400)
        .step_by(2)
        .map(|number| vec![(number % 3).to_string(), number.to_string()])
        .collect();
    rows.push(rows[0].clone());
    rows.push(vec!["a/b".to_owned(), "1".to_owned()]);
    rows.push(vec![String::new(), "1".to_owned()]);
    let keys = keys(&["__users_id__", "__id__"], rows);
    place.layer.reset_counts();
    place.layer.script(
        Method::BatchGetDocuments,
        [
            Answer::cut_after(100, Code::Unavailable),
            Answer::refuse(Code::ResourceExhausted),
        ],
    );
    let request = ReadRequest::all("users/*/orders");
    let mut found = read_to_end(source.lookup(&request, &keys).unwrap()).unwrap();
    found.records.sort_by_key(|record| match record["n"] {
        Value::Int(number) => number,
        _ => panic!("`n` is no number"),
    });
    let numbers: Vec<Value> = found.records.iter().map(|record| record["n"].clone()).collect();
    assert_eq!(numbers, (0..700).step_by(2).map(Value::Int).collect::<Vec<_>>());
    assert_eq!(place.layer.counts().calls(Method::BatchGetDocuments), 3 + 2);

    let some = ReadRequest {
        columns: vec!["n".to_owned()],
        ..request.clone()
    };
    let one = self::keys(
        &["__id__", "__users_id__"],
        [vec!["4".to_owned(), "1".to_owned()]],
    );
    let found = read_to_end(source.lookup(&some, &one).unwrap()).unwrap();
    assert_eq!(found.records, [Record::from([("n".to_owned(), Value::Int(4))])]);
    let without = self::keys(&["__id__"], [vec!["4".to_owned()]]);
    let error = source.lookup(&request, &without).err().unwrap();
    assert_eq!(error.code, "firestore.bad_keys");
}

#[test]
fn records_of_a_group_are_found_by_their_paths() {
    let Some(place) = Place::new() else { return };
    place.put_numbered(["orders/1", "users/a/orders/1", "users/a/carts/1"].map(str::to_owned));
    let keys = keys(
        &["__path__"],
        ["users/a/orders/1", "users/a/carts/1", "orders/9", "orders", ""].map(|path| vec![path.to_owned()]),
    );
    let mut source = place.source(json!({}));
    let found = read_to_end(source.lookup(&ReadRequest::all("**/orders"), &keys).unwrap()).unwrap();
    assert_eq!(found.texts("__path__"), ["users/a/orders/1"]);
}

#[test]
fn a_count_is_exact_or_not_given() {
    let Some(place) = Place::new() else { return };
    place.put_numbered(numbered("users", 12));
    place.put_numbered((0..5).map(|number| format!("users/x/orders/{number}")));
    place.put_numbered((0..4).map(|number| format!("users/x/carts/{number}")));
    place.put_numbered(["users/x/bags/1/carts/1".to_owned()]);
    let mut source = place.source(json!({}));
    let mut count = |collection: &str, at_snapshot: bool| {
        let snapshot = source.open_snapshot().unwrap().filter(|_| at_snapshot);
        source
            .count(&CountRequest {
                collection: collection.to_owned(),
                snapshot,
            })
            .unwrap()
    };
    assert_eq!(count("users", true), Some(12));
    assert_eq!(count("**/carts", false), Some(5));
    // Nobody knows yet whether there are namesakes.
    assert_eq!(count("users/*/orders", true), None);
    let mut source = place.source(json!({}));
    source.collections(&CollectionsRequest::default()).unwrap();
    let snapshot = source.open_snapshot().unwrap();
    place.layer.reset_counts();
    for (collection, counted) in [
        ("users/*/orders", 5),
        ("users/*/carts", 4),
        ("users/*/bags/*/carts", 1),
    ] {
        let request = CountRequest {
            collection: collection.to_owned(),
            snapshot: snapshot.clone(),
        };
        assert_eq!(source.count(&request).unwrap(), Some(counted), "{collection}");
    }
    // One was counted by the service, the others were counted when they were looked at.
    assert_eq!(place.layer.counts().calls(Method::RunAggregationQuery), 1);
    let now = CountRequest {
        collection: "users/*/carts".to_owned(),
        snapshot: None,
    };
    assert_eq!(source.count(&now).unwrap(), None);
}

#[test]
fn a_collection_that_is_not_there_is_said_with_those_that_are_known() {
    let Some(place) = Place::new() else { return };
    place.put_numbered(["users/a".to_owned(), "users/a/orders/1".to_owned()]);
    let mut source = place.source(json!({}));
    let error = source.read(&ReadRequest::all("user")).err().unwrap();
    assert_eq!(
        (error.code.as_str(), error.kind),
        ("source.no_collection", ErrorKind::NotFound)
    );
    assert_eq!(error.help, None);
    source.collections(&CollectionsRequest::default()).unwrap();
    let error = source.read(&ReadRequest::all("user")).err().unwrap();
    assert_eq!(error.help.as_deref(), Some("there are `users`, `users/*/orders`"));
    let error = source.read(&ReadRequest::all("users/a")).err().unwrap();
    assert_eq!(error.code, "firestore.bad_collection");
}

#[test]
fn opening_asks_nothing() {
    let Some(place) = Place::new() else { return };
    drop(place.source(json!({})));
    assert_eq!(place.layer.counts().connections, 0);
}
