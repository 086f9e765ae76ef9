//! Instants: what is written after a snapshot does not show, cursors keep theirs, and what happens when one is over.
//! Both ways: the run ends, or the rest is read as it then is.

use whimbrel_plugin_api::serde_json::json;
use whimbrel_plugin_api::source::CountRequest;
use whimbrel_plugin_api::{CollectionsRequest, ErrorKind, LogLevel, ReadRequest, Source as _};

use crate::grpc_layer::Method;
use crate::reading_place::{Place, in_batches, numbered, read_item, read_to_end};

/// A snapshot that was taken before this machine's hour began, as another process would hand it on.
fn old_snapshot() -> String {
    "2001-01-01T00:00:00.000001Z".to_owned()
}

#[test]
fn what_is_written_after_the_snapshot_does_not_show() {
    let Some(place) = Place::new() else { return };
    place.put_numbered(numbered("users", 10));
    let mut source = place.source(json!({ "page_documents_max": 3 }));
    let collections = source.collections(&CollectionsRequest::default()).unwrap();
    assert_eq!(collections[0].estimate.record_count, Some(10));
    let snapshot = source.open_snapshot().unwrap();
    // Documents in between, behind, gone, and changed.
    place.put_numbered(["users/000001x".to_owned(), "users/9".to_owned()]);
    place.emulator.delete(&place.project, "users/00005");
    place.put([(
        "users/00007".to_owned(),
        json!({ "n": { "stringValue": "seven" } }),
    )]);

    let request = ReadRequest {
        snapshot: snapshot.clone(),
        ..in_batches("users", 4)
    };
    let reading = read_to_end(source.read(&request).unwrap()).unwrap();
    assert_eq!(
        reading.ids(),
        numbered("users", 10)
            .iter()
            .map(|path| &path[6..])
            .collect::<Vec<_>>()
    );
    assert!(reading.rejected.is_empty() && reading.schemas.len() == 1);
    assert_eq!(reading.snapshots(), [snapshot.clone().unwrap()]);
    // What was found out and what is read are of one instant; asking again gives the same.
    assert_eq!(source.open_snapshot().unwrap(), snapshot);
    let count = |source: &mut dyn whimbrel_plugin_api::Source, snapshot| {
        let request = CountRequest {
            collection: "users".to_owned(),
            snapshot,
        };
        source.count(&request).unwrap()
    };
    assert_eq!(count(&mut source, snapshot.clone()), Some(10));
    assert_eq!(count(&mut source, None), Some(11));
    // A cursor goes on as of what it began with.
    let rest = ReadRequest {
        cursor: reading.batches[0].facts.cursor.clone(),
        expected: Some((*reading.schemas[0]).clone()),
        ..in_batches("users", 4)
    };
    let rest = place.read(json!({}), &rest).unwrap();
    assert_eq!(rest.records, reading.records[4..]);
    source.close_snapshot(&snapshot.unwrap()).unwrap();
}

#[test]
fn without_a_snapshot_all_pages_are_of_the_instant_of_the_first() {
    let Some(place) = Place::new() else { return };
    place.put_numbered(numbered("users", 60));
    let mut source = place.source(json!({ "page_documents_max": 1 }));
    source.collections(&CollectionsRequest::named("users")).unwrap();
    place.put_numbered(["users/00000a".to_owned()]);
    let mut stream = source.read(&in_batches("users", 1)).unwrap();
    let mut reading = Default::default();
    // The schema and the first record.
    read_item(&mut *stream, &mut reading).unwrap();
    read_item(&mut *stream, &mut reading).unwrap();
    place.put_numbered(["users/00059a".to_owned()]);
    while read_item(&mut *stream, &mut reading).unwrap() {}
    assert_eq!(reading.records.len(), 61);
    assert_eq!(reading.snapshots().len(), 1);
}

#[test]
fn an_instant_that_is_over_ends_the_read_and_says_so() {
    let Some(place) = Place::new() else { return };
    place.put_numbered(numbered("users", 10));
    let mut source = place.source(json!({}));
    source.collections(&CollectionsRequest::named("users")).unwrap();
    place.layer.reset_counts();
    let request = ReadRequest {
        snapshot: Some(old_snapshot()),
        ..ReadRequest::all("users")
    };
    let error = read_to_end(source.read(&request).unwrap()).err().unwrap();
    assert_eq!(
        (error.code.as_str(), error.kind),
        ("firestore.snapshot_expired", ErrorKind::Integrity)
    );
    assert!(error.help.unwrap().contains("on_snapshot_expiry"));
    // Nothing was asked of the service.
    assert_eq!(place.layer.counts().calls(Method::RunQuery), 0);
}

#[test]
fn after_an_instant_that_is_over_the_rest_is_read_as_it_is_now() {
    let Some(place) = Place::new() else { return };
    place.put_numbered(numbered("users", 10));
    let settings = json!({ "on_snapshot_expiry": "continue", "page_documents_max": 2 });
    let first = place.read(settings.clone(), &in_batches("users", 4)).unwrap();
    place.put_numbered(["users/00003a".to_owned(), "users/00000a".to_owned()]);
    // The cursor of a process of long ago, four documents in.
    let cursor = String::from_utf8(first.batches[0].facts.cursor.0.clone()).unwrap();
    let told = first.batches[0].facts.snapshot.as_deref().unwrap();
    let cursor = cursor.replace(told, &old_snapshot());
    assert!(cursor.contains(&old_snapshot()));
    let request = ReadRequest {
        cursor: whimbrel_plugin_api::Cursor(cursor.into_bytes()),
        snapshot: Some(old_snapshot()),
        ..in_batches("users", 3)
    };
    let rest = place.read(settings, &request).unwrap();
    assert_eq!(
        rest.ids(),
        ["00003a", "00004", "00005", "00006", "00007", "00008", "00009"]
    );
    // One instant again, another one, said once.
    assert_eq!(rest.snapshots().len(), 1);
    assert!(rest.snapshots()[0] > first.snapshots()[0]);
    let warnings = place.listener.lines(LogLevel::Warn);
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].contains("2001-01-01"), "{warnings:?}");
}

#[test]
fn with_point_in_time_recovery_snapshots_are_whole_minutes() {
    let Some(place) = Place::new() else { return };
    place.put_numbered(numbered("users", 1));
    let settings = json!({ "point_in_time_recovery": true });
    let snapshot = place.source(settings.clone()).open_snapshot().unwrap();
    let snapshot = snapshot.unwrap();
    assert!(snapshot.ends_with(":00Z"), "{snapshot}");
    // What was written a moment before is seen, so the minute is one that was waited for.
    let request = ReadRequest {
        snapshot: Some(snapshot),
        ..ReadRequest::all("users")
    };
    assert_eq!(place.read(settings, &request).unwrap().ids().len(), 1);
    // Whole minutes are kept on for days, so it is the service that says what is too old.
    let mut source = place.source(json!({ "point_in_time_recovery": true }));
    place.layer.reset_counts();
    let request = ReadRequest {
        snapshot: Some("2001-01-01T00:00:00Z".to_owned()),
        expected: Some(Default::default()),
        ..ReadRequest::all("users")
    };
    let error = read_to_end(source.read(&request).unwrap()).err().unwrap();
    assert_eq!(error.code, "firestore.snapshot_expired");
    assert_eq!(place.layer.counts().calls(Method::RunQuery), 1);
}
