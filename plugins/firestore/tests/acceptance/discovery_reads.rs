//! What discovery asks for and what is billed of it, as the layer counts it.
//! Neighbour: `discovery_answers`, what is found.

use std::sync::Arc;

use whimbrel_plugin_api::abi::source::ForeignSource;
use whimbrel_plugin_api::serde_json::json;
use whimbrel_plugin_api::source::CountRequest;
use whimbrel_plugin_api::{Collection, CollectionsRequest, Item, ReadRequest, Source as _};

use crate::discovery_place::{Listener, Place, all, description_units, named};
use crate::grpc_layer::{Answer, End, Method};

/// What is remembered of a collection that is not there, and a request that does not find it.
const MISSING_READS: u64 = 2;

/// Requests beside those for pages: one that fixes the instant.
const OTHER_CALLS_MAX: u64 = 1;

/// 1,500 users, of whom every third is missing, each with two orders below; 600 shops with one order each, all missing.
fn fill(place: &Place) {
    let fields = json!({ "n": { "integerValue": "1" } });
    let users = (0..1_500)
        .filter(|user| user % 3 > 0)
        .map(|user| format!("users/{user:04}"));
    let orders = (0..3_000).map(|order| format!("users/{:04}/orders/{order}", order / 2));
    let shops = (0..600).map(|shop| format!("shops/{shop:03}/orders/1"));
    let carts = (0..400).map(|cart| format!("users/{cart:04}/carts/1/orders/1"));
    place.put_all(users.chain(orders).chain(shops).chain(carts), &fields);
}

const DOCUMENTS: u64 = 1_000 + 3_000 + 600 + 400;

/// Records of a collection, read to the end.
fn read(source: &mut ForeignSource, collection: &Collection) -> u64 {
    let mut stream = source.read(&ReadRequest::all(&collection.name)).unwrap();
    let mut records = 0;
    loop {
        match stream.next().unwrap() {
            Item::Batch(batch) => records += batch.record_count() as u64,
            Item::End => return records,
            _ => {}
        }
    }
}

#[test]
fn all_collections_are_found_by_pages_alone_and_every_read_is_told() {
    let Some(place) = Place::new() else { return };
    fill(&place);
    let listener = Arc::new(Listener::default());
    let mut source = place.source_for(json!({}), Arc::clone(&listener));
    let collections = all(&mut source);
    let counts = place.layer.counts();
    // 5,000 documents in pages of 1,000, the last of which is full.
    let calls: u64 = counts.calls.values().sum();
    assert!(calls <= 6 + OTHER_CALLS_MAX, "{counts:?}");
    assert_eq!(counts.calls(Method::RunQuery), calls);
    assert_eq!(description_units(&collections), counts.reads());
    assert!(counts.reads() <= DOCUMENTS + 1 + OTHER_CALLS_MAX);
    let progress = listener.progress.lock().unwrap();
    assert!(progress.iter().all(|(what, ..)| what == "documents looked at"));
    assert_eq!(
        progress.last(),
        Some(&("documents looked at".to_owned(), DOCUMENTS, Some(DOCUMENTS)))
    );
    assert!(progress.len() > 4);
}

#[test]
fn names_alone_are_asked_for_alone() {
    let Some(place) = Place::new() else { return };
    fill(&place);
    for settings in [json!({}), json!({ "inference": { "sample": 7 } })] {
        let mut source = place.source(settings.clone());
        place.layer.reset_counts();
        let collections = named(&mut source, &["users", "users/*/orders", "never", "**/orders"]);
        assert_eq!(collections.len(), 3);
        let counts = place.layer.counts();
        assert_eq!(
            description_units(&collections) + MISSING_READS,
            counts.reads(),
            "{settings} {counts:?}"
        );
        assert_eq!(counts.calls(Method::ListCollectionIds), 0);
        assert_eq!(counts.calls(Method::BatchGetDocuments), 1);
    }
    let mut source = place.source(json!({}));
    place.layer.reset_counts();
    let request = CollectionsRequest {
        names: vec!["users".to_owned(), "never".to_owned()],
        schemas: false,
    };
    assert_eq!(source.collections(&request).unwrap().len(), 1);
    assert!(place.layer.counts().reads() <= 2 + OTHER_CALLS_MAX);
}

/// What a reading of all takes stands in the answer, pages that find nothing and documents of other collections included.
#[test]
fn reading_takes_as_many_reads_as_were_told() {
    let Some(place) = Place::new() else { return };
    fill(&place);
    let mut source = place.source(json!({}));
    let found = all(&mut source);
    read_all(&place, &mut source, &found);
    let mut wanted: Vec<&str> = found.iter().map(|collection| collection.name.as_str()).collect();
    wanted.push("**/orders");
    for settings in [
        json!({}),
        json!({ "inference": { "sample": 7 }, "page_documents_max": 300 }),
    ] {
        let mut source = place.source(settings);
        let found = named(&mut source, &wanted);
        assert_eq!(found.len(), wanted.len());
        read_all(&place, &mut source, &found);
    }
}

fn read_all(place: &Place, source: &mut ForeignSource, collections: &[Collection]) {
    for collection in collections {
        place.layer.reset_counts();
        let records = read(source, collection);
        let told = collection.cost.as_ref().unwrap().read_units;
        assert_eq!(
            place.layer.counts().reads(),
            told,
            "`{}`, {records} records",
            collection.name
        );
        if collection.estimate.exact {
            assert_eq!(
                collection.estimate.record_count,
                Some(records),
                "{}",
                collection.name
            );
        }
    }
}

#[test]
fn what_cannot_be_counted_alone_has_no_price_of_counting() {
    let Some(place) = Place::new() else { return };
    fill(&place);
    for settings in [json!({}), json!({ "inference": { "sample": 7 } })] {
        let mut source = place.source(settings);
        let found = named(
            &mut source,
            &[
                "users",
                "users/*/orders",
                "users/*/carts/*/orders",
                "shops/*/orders",
                "**/orders",
            ],
        );
        for collection in &found {
            place.layer.reset_counts();
            let request = CountRequest {
                collection: collection.name.clone(),
                snapshot: None,
            };
            let counted = source.count(&request).unwrap();
            let told = collection.cost.as_ref().unwrap().count_units;
            assert_eq!(place.layer.counts().reads(), told, "{}", collection.name);
            assert_eq!(counted.is_some(), told > 0, "{}", collection.name);
            if let Some(counted) = counted {
                assert_eq!(
                    collection.estimate.record_count,
                    Some(counted),
                    "{}",
                    collection.name
                );
            }
        }
    }
}

#[test]
fn a_connection_that_breaks_in_the_middle_changes_nothing() {
    let Some(place) = Place::new() else { return };
    fill(&place);
    let expected = all(&mut place.source(json!({})));
    let mut source = place.source(json!({}));
    place.layer.script(
        Method::RunQuery,
        [Answer::Forward, Answer::cut_after(300, End::Reset)],
    );
    let found = all(&mut source);
    assert_eq!(place.layer.left(), 0);
    for (found, expected) in found.iter().zip(&expected) {
        assert_eq!((&found.name, &found.schema), (&expected.name, &expected.schema));
        assert_eq!(
            (&found.estimate, &found.references),
            (&expected.estimate, &expected.references)
        );
    }
    assert_eq!(found.len(), expected.len());
}
