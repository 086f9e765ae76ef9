//! Parts: together each document once, by whatever the bounds were found; cursors and ranges of keys within them.
//! PartitionQuery is answered by the layer, since the emulator has none.

use whimbrel_plugin_api::serde_json::{Value as Json, json};
use whimbrel_plugin_api::source::Predicate;
use whimbrel_plugin_api::{
    CollectionsRequest, Cursor, Partition, PartitionsRequest, ReadRequest, Source as _,
};

use crate::grpc_layer::{Answer, Method};
use crate::reading_place::{Place, in_batches, numbered};

fn divided(
    place: &Place,
    collection: &str,
    settings: Json,
    wanted: u32,
    is_looked_at: bool,
) -> Vec<Partition> {
    let mut source = place.source(settings);
    if is_looked_at {
        source
            .collections(&CollectionsRequest::named(collection))
            .unwrap();
    }
    let request = PartitionsRequest {
        collection: collection.to_owned(),
        snapshot: source.open_snapshot().unwrap(),
        wanted,
    };
    source.partitions(&request).unwrap()
}

fn part(collection: &str, partition: &Partition) -> ReadRequest {
    ReadRequest {
        partition: Some(partition.clone()),
        ..in_batches(collection, 1_000)
    }
}

/// Each document once: in this order, since parts are in the order of names.
fn ensure_complete(place: &Place, collection: &str, parts: &[Partition]) {
    let whole = place.read(json!({}), &ReadRequest::all(collection)).unwrap();
    let mut together = Vec::new();
    for partition in parts {
        let reading = place.read(json!({}), &part(collection, partition)).unwrap();
        assert!(!reading.records.is_empty(), "{} is empty", partition.label);
        together.extend(reading.records);
    }
    assert_eq!(together, whole.records);
}

#[test]
fn parts_by_what_discovery_found_give_each_document_once() {
    let Some(place) = Place::new() else { return };
    place.put_numbered(numbered("users", 4_100));
    let parts = divided(&place, "users", json!({}), 4, true);
    assert_eq!(parts.len(), 2);
    ensure_complete(&place, "users", &parts);
    for partition in &parts {
        let records = partition.estimate.record_count.unwrap();
        assert_eq!(records, 2_050);
    }
    // A later process takes the same parts; what came in the meantime is in one of them.
    place.put_numbered(["users/!first".to_owned(), "users/~last".to_owned()]);
    let counts = parts.iter().map(|partition| {
        place
            .read(json!({}), &part("users", partition))
            .unwrap()
            .records
            .len()
    });
    assert_eq!(counts.sum::<usize>(), 4_102);
    // Nobody has looked, and the emulator proposes no bounds.
    assert_eq!(divided(&place, "users", json!({}), 2, false).len(), 1);
}

#[test]
fn parts_by_what_the_service_proposes_give_each_document_once() {
    let Some(place) = Place::new() else { return };
    place.put_numbered((0..600).map(|number| format!("users/{:04}/orders/{number}", number % 7 * 100)));
    place.put_numbered((0..90).map(|number| format!("shops/{number}/orders/1")));
    place
        .layer
        .script(Method::PartitionQuery, [Answer::Divide.always()]);
    for (collection, wanted) in [("users/*/orders", 5), ("**/orders", 7), ("**/orders", 2)] {
        let parts = divided(&place, collection, json!({}), wanted, false);
        assert!(
            parts.len() > 1 && parts.len() <= wanted as usize,
            "{collection}: {}",
            parts.len()
        );
        ensure_complete(&place, collection, &parts);
    }
}

#[test]
fn every_cursor_goes_on_behind_its_batch_in_another_process() {
    let Some(place) = Place::new() else { return };
    place.put_numbered((0..24).map(|number| format!("users/{:02}/orders/{}", number / 6, number % 6)));
    place
        .layer
        .script(Method::PartitionQuery, [Answer::Divide.always()]);
    let parts = divided(&place, "users/*/orders", json!({}), 3, false);
    let whole = Partition::whole();
    for partition in parts.iter().chain([&whole]) {
        let request = ReadRequest {
            batch: in_batches("", 5).batch,
            ..part("users/*/orders", partition)
        };
        let reading = place.read(json!({}), &request).unwrap();
        let mut read = 0;
        for batch in &reading.batches {
            read += batch.record_count();
            let rest = ReadRequest {
                cursor: batch.facts.cursor.clone(),
                ..request.clone()
            };
            let rest = place.read(json!({ "page_documents_max": 4 }), &rest).unwrap();
            assert_eq!(rest.records, reading.records[read..]);
        }
    }
}

#[test]
fn cursors_and_parts_of_others_are_refused() {
    let Some(place) = Place::new() else { return };
    place.put_numbered(numbered("users", 2));
    let foreign = || Cursor(b"k\0\0\0\x01".to_vec());
    let of_cursor = ReadRequest {
        cursor: foreign(),
        ..ReadRequest::all("users")
    };
    let of_part = ReadRequest {
        partition: Some(Partition {
            descriptor: foreign(),
            ..Partition::whole()
        }),
        ..ReadRequest::all("users")
    };
    let of_snapshot = ReadRequest {
        snapshot: Some("00000003-0000001B-1".to_owned()),
        ..ReadRequest::all("users")
    };
    let cases = [
        (of_cursor, "firestore.bad_cursor"),
        (of_part, "firestore.bad_partition"),
        (of_snapshot, "firestore.bad_snapshot"),
    ];
    for (request, code) in cases {
        let outcome = place.read(json!({}), &request);
        assert_eq!(outcome.err().map(|error| error.code).as_deref(), Some(code));
    }
}

#[test]
fn a_range_of_keys_is_read_alone() {
    let Some(place) = Place::new() else { return };
    place.put_numbered((0..20).map(|number| format!("users/{:02}/orders/{}", number / 4, number % 4)));
    let range = |from: Json, to: Json| {
        let request = ReadRequest {
            predicate: Some(Predicate::KeyRange {
                from: Some(from),
                to: Some(to),
            }),
            ..ReadRequest::all("users/*/orders")
        };
        place
            .read(json!({}), &request)
            .map(|reading| reading.records.len())
    };
    assert_eq!(range(json!(["01", "2"]), json!(["03", "1"])).unwrap(), 2 + 4 + 1);
    assert_eq!(range(json!(["01"]), json!(["03"])).unwrap(), 8);
    assert_eq!(range(json!(["03"]), json!(["01"])).unwrap(), 0);
    assert_eq!(
        range(json!([7]), json!(["01"])).unwrap_err().code,
        "firestore.bad_key_range"
    );
    let of_field = ReadRequest {
        predicate: Some(Predicate::CursorRange {
            field: "n".to_owned(),
            from: None,
            to: None,
        }),
        ..ReadRequest::all("users/*/orders")
    };
    let outcome = place.read(json!({}), &of_field);
    assert_eq!(
        outcome.err().map(|error| error.code).as_deref(),
        Some("plugin.unsupported")
    );
}
