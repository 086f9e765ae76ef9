//! An instant that the service no longer has, said by the service itself, wherever one is named: looks, counts, parts, fields that turn
//! up late, records that are looked up. The run ends, or goes on with what is there now, and only that answer is taken for it.
//! Neighbour: `reading_instants`, instants of which the plugin knows that they are over.

use gcloud_sdk::tonic::Code;
use whimbrel_plugin_api::abi::source::ForeignSource;
use whimbrel_plugin_api::partition::PartitionsRequest;
use whimbrel_plugin_api::serde_json::{Value as Json, json};
use whimbrel_plugin_api::source::CountRequest;
use whimbrel_plugin_api::{CollectionsRequest, Error, LogLevel, ReadRequest, Source as _};

use crate::grpc_layer::{Answer, End, Failure, Method, Rule};
use crate::reading_place::{Place, in_batches, numbered, read_to_end};

/// What the service says of an instant that it no longer has.
const TOO_OLD: &str = "The requested 'read_time' is too old.";

fn too_old() -> Rule {
    Answer::refuse(Failure::of(Code::FailedPrecondition).saying(TOO_OLD)).into()
}

fn settings(on_expiry: &str) -> Json {
    json!({ "on_snapshot_expiry": on_expiry, "inference": { "sample": 3 }, "page_documents_max": 100 })
}

/// Twenty documents, of which the last has a field more.
fn fill(place: &Place) {
    place.put_numbered(numbered("users", 20));
    let fields = json!({ "n": { "integerValue": "19" }, "late": { "stringValue": "x" } });
    place.put([("users/00019".to_owned(), fields)]);
}

fn assert_expired(error: &Error) {
    assert_eq!(error.code, "firestore.snapshot_expired");
    let help = error.help.as_deref().unwrap();
    assert!(
        help.contains("on_snapshot_expiry: continue") && help.contains("whimbrel resume"),
        "{help}"
    );
}

/// One source for each way to go on, after a look at `users`.
fn looked_at(place: &Place, on_expiry: &str) -> ForeignSource {
    let mut source = place.source(settings(on_expiry));
    source.collections(&CollectionsRequest::named("users")).unwrap();
    source
}

#[test]
fn a_look_goes_on_at_another_instant_and_its_counts_are_estimates() {
    let Some(place) = Place::new() else { return };
    fill(&place);
    for request in [CollectionsRequest::named("users"), CollectionsRequest::default()] {
        // The first query fixes the instant.
        let script = || {
            place
                .layer
                .script(Method::RunQuery, [Answer::Forward.into(), too_old()])
        };
        script();
        let error = place.source(settings("fail")).collections(&request).unwrap_err();
        assert_expired(&error);
        assert_eq!(place.layer.left(), 0);
        script();
        let mut source = place.source(settings("continue"));
        let collections = source.collections(&request).unwrap();
        assert_eq!(place.layer.left(), 0);
        let [users] = &collections[..] else {
            panic!("{collections:?}")
        };
        assert_eq!(
            (users.estimate.record_count, users.estimate.exact),
            (Some(20), false)
        );
        // The instant that is over is given to nobody, although it is young.
        let snapshot = source.open_snapshot().unwrap();
        let request = ReadRequest {
            snapshot: snapshot.clone(),
            ..in_batches("users", 7)
        };
        let reading = read_to_end(source.read(&request).unwrap()).unwrap();
        assert_eq!(reading.snapshots(), [snapshot.unwrap()]);
    }
    assert!(!place.listener.lines(LogLevel::Warn).is_empty());
}

#[test]
fn a_sample_is_counted_as_of_now_if_its_instant_is_over() {
    let Some(place) = Place::new() else { return };
    fill(&place);
    let named = CollectionsRequest::named("users");
    place.layer.script(Method::RunAggregationQuery, [too_old()]);
    assert_expired(&place.source(settings("fail")).collections(&named).unwrap_err());
    let mut source = place.source(settings("continue"));
    place.layer.script(Method::RunAggregationQuery, [too_old()]);
    let collections = source.collections(&named).unwrap();
    assert_eq!(collections[0].estimate.record_count, Some(20));
    place.layer.script(Method::RunAggregationQuery, [too_old()]);
    let request = CountRequest {
        collection: "users".to_owned(),
        snapshot: source.open_snapshot().unwrap(),
    };
    assert_eq!(source.count(&request).unwrap(), Some(20));
    assert_eq!(place.layer.left(), 0);
}

#[test]
fn a_field_that_turns_up_late_is_looked_for_as_of_now_if_the_instant_is_over() {
    let Some(place) = Place::new() else { return };
    fill(&place);
    // All records come with the first query, the second one is the look for fields.
    let script = || {
        place
            .layer
            .script(Method::RunQuery, [Answer::Forward.into(), too_old()])
    };
    let mut source = looked_at(&place, "fail");
    script();
    let request = in_batches("users", 100);
    let outcome = read_to_end(source.read(&request).unwrap());
    assert_expired(&outcome.err().unwrap());
    assert_eq!(place.layer.left(), 0);

    let mut source = looked_at(&place, "continue");
    script();
    let reading = read_to_end(source.read(&request).unwrap()).unwrap();
    assert_eq!(place.layer.left(), 0);
    assert_eq!(reading.records.len(), 20);
    assert!(reading.rejected.is_empty());
    let [_, grown] = &reading.schemas[..] else {
        panic!("{} schemas", reading.schemas.len())
    };
    assert!(grown.index_of("late").is_some());
}

#[test]
fn records_are_looked_up_as_they_are_now_if_the_instant_is_over() {
    let Some(place) = Place::new() else { return };
    place.put_numbered(numbered("users", 20));
    let mut keys_source = looked_at(&place, "fail");
    let some = ReadRequest {
        columns: vec!["__id__".to_owned()],
        limit: Some(3),
        ..in_batches("users", 100)
    };
    let keys = read_to_end(keys_source.read(&some).unwrap()).unwrap();
    let keys = keys.batches[0].clone();
    for (on_expiry, found) in [("fail", None), ("continue", Some(3))] {
        let mut source = looked_at(&place, on_expiry);
        let request = ReadRequest {
            snapshot: source.open_snapshot().unwrap(),
            ..in_batches("users", 100)
        };
        place.layer.script(Method::BatchGetDocuments, [too_old()]);
        let reading = read_to_end(source.lookup(&request, &keys).unwrap());
        assert_eq!(place.layer.left(), 0, "{on_expiry}");
        match (reading, found) {
            (Ok(reading), Some(found)) => {
                assert_eq!(reading.records.len(), found);
                assert!(reading.snapshots()[0] > request.snapshot.unwrap());
            }
            (Err(error), None) => assert_expired(&error),
            (outcome, _) => panic!("{on_expiry}: {:?}", outcome.err()),
        }
    }
}

#[test]
fn parts_are_those_of_now_if_the_instant_is_over() {
    let Some(place) = Place::new() else { return };
    place.put_numbered(numbered("users", 4_000));
    let mut source = looked_at(&place, "fail");
    place
        .layer
        .script(Method::PartitionQuery, [too_old(), Answer::Divide.into()]);
    let request = PartitionsRequest {
        collection: "users".to_owned(),
        snapshot: source.open_snapshot().unwrap(),
        wanted: 2,
    };
    assert_eq!(source.partitions(&request).unwrap().len(), 2);
    assert_eq!(place.layer.left(), 0);
}

#[test]
fn another_answer_that_speaks_of_age_is_no_lost_instant() {
    let Some(place) = Place::new() else { return };
    place.put_numbered(numbered("users", 20));
    for (code, text, expected) in [
        (
            Code::FailedPrecondition,
            "The query requires an index. The one that there is, is too old.",
            "firestore.index_missing",
        ),
        (
            Code::InvalidArgument,
            "The requested 'read_time' cannot be before database creation time.",
            "firestore.invalid_request",
        ),
        (
            Code::InvalidArgument,
            "the page token is too old",
            "firestore.invalid_request",
        ),
    ] {
        let mut source = looked_at(&place, "continue");
        let refusal = Answer::Refuse(End::Status(Failure::of(code).saying(text)));
        place.layer.script(Method::RunQuery, [refusal]);
        let request = ReadRequest {
            snapshot: source.open_snapshot().unwrap(),
            ..in_batches("users", 100)
        };
        let outcome = read_to_end(source.read(&request).unwrap());
        assert_eq!(outcome.err().unwrap().code, expected, "{text}");
        assert_eq!(place.layer.left(), 0);
    }
}
