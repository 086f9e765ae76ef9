//! Broken streams and refusals: the read goes on after the last document that arrived, within its bounds.
//! The faults come by script from the layer before the emulator.

use std::time::Duration;

use gcloud_sdk::tonic::Code;
use whimbrel_plugin_api::serde_json::{Value as Json, json};
use whimbrel_plugin_api::{CollectionsRequest, ErrorKind, ReadRequest, Source as _};

use crate::grpc_layer::{Answer, End, Failure, Method};
use crate::reading_place::{Place, in_batches, numbered, read_to_end};

/// Reads 60 documents in pages of 25 while `script` holds; ids and reads are as if nothing had happened.
fn goes_on(settings: Json, script: impl IntoIterator<Item = Answer>) {
    let Some(place) = Place::new() else { return };
    place.put_numbered(numbered("users", 60));
    let mut settings = settings;
    settings["page_documents_max"] = json!(25);
    let mut source = place.source(settings);
    source.collections(&CollectionsRequest::named("users")).unwrap();
    place.layer.reset_counts();
    place.layer.script(Method::RunQuery, script);
    let reading = read_to_end(source.read(&in_batches("users", 7)).unwrap()).unwrap();
    let ids: Vec<String> = numbered("users", 60)
        .iter()
        .map(|path| path[6..].to_owned())
        .collect();
    assert_eq!(reading.ids(), ids);
    assert_eq!(place.layer.left(), 0, "not all of the script was used");
    // Nothing that arrived is asked for again.
    assert_eq!(place.layer.counts().reads(), 60);
    assert_eq!(place.layer.counts().early, 0);
}

#[test]
fn a_stream_that_is_cut_goes_on_after_the_last_document() {
    for end in [
        End::Reset,
        End::Closed,
        End::from(Code::Unavailable),
        End::from(Code::Internal),
    ] {
        goes_on(
            json!({}),
            [
                Answer::cut_after(11, end.clone()),
                Answer::cut_after(3, end.clone()),
                Answer::cut_after(11, end),
            ],
        );
    }
}

#[test]
fn a_stream_that_falls_silent_goes_on_after_the_last_document() {
    for end in [End::Silence, End::SilentConnection] {
        goes_on(json!({ "request_timeout_ms": 300 }), [Answer::cut_after(5, end)]);
    }
}

#[test]
fn a_stream_that_is_cut_behind_its_last_document_loses_nothing() {
    goes_on(
        json!({}),
        [
            Answer::cut_after(25, Code::Unavailable),
            Answer::cut_after(25, End::Reset),
        ],
    );
}

#[test]
fn what_is_left_of_a_page_is_asked_for_and_no_more() {
    let Some(place) = Place::new() else { return };
    place.put_numbered(numbered("users", 60));
    let mut source = place.source(json!({}));
    source.collections(&CollectionsRequest::named("users")).unwrap();
    place.layer.reset_counts();
    place
        .layer
        .script(Method::RunQuery, [Answer::cut_after(4, Code::Unavailable)]);
    let request = ReadRequest {
        limit: Some(10),
        ..ReadRequest::all("users")
    };
    let reading = read_to_end(source.read(&request).unwrap()).unwrap();
    assert_eq!(reading.records.len(), 10);
    assert_eq!(place.layer.counts().reads(), 10);
}

#[test]
fn refusals_that_may_pass_are_waited_for() {
    let asked = Failure::of(Code::ResourceExhausted).retry_after(Duration::from_millis(50));
    goes_on(
        json!({}),
        [
            Answer::refuse(Code::Unavailable),
            Answer::refuse(asked.clone()),
            Answer::refuse(Code::Aborted),
            Answer::refuse(Code::DeadlineExceeded),
            Answer::cut_after(2, asked),
        ],
    );
}

#[test]
fn progress_gives_new_tries() {
    let cuts = std::iter::repeat_with(|| Answer::cut_after(1, Code::Unavailable)).take(9);
    goes_on(json!({ "retries_max": 1 }), cuts);
}

#[test]
fn without_progress_the_tries_are_bounded() {
    let Some(place) = Place::new() else { return };
    place.put_numbered(numbered("users", 5));
    let mut source = place.source(json!({ "retries_max": 2 }));
    source.collections(&CollectionsRequest::named("users")).unwrap();
    place.layer.reset_counts();
    place
        .layer
        .script(Method::RunQuery, [Answer::refuse(Code::Unavailable).always()]);
    let error = read_to_end(source.read(&ReadRequest::all("users")).unwrap())
        .err()
        .unwrap();
    assert_eq!(error.kind, ErrorKind::Unavailable);
    assert_eq!(place.layer.counts().calls(Method::RunQuery), 3);
}

#[test]
fn a_refusal_for_good_comes_behind_what_arrived() {
    let Some(place) = Place::new() else { return };
    place.put_numbered(numbered("users", 20));
    let mut source = place.source(json!({}));
    source.collections(&CollectionsRequest::named("users")).unwrap();
    place
        .layer
        .script(Method::RunQuery, [Answer::cut_after(10, Code::PermissionDenied)]);
    let mut stream = source.read(&in_batches("users", 4)).unwrap();
    let mut reading = Default::default();
    let error = loop {
        match crate::reading_place::read_item(&mut *stream, &mut reading) {
            Ok(is_open) => assert!(is_open, "the error is not heard of"),
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind, ErrorKind::Permission);
    assert_eq!(reading.records.len(), 8);
}

#[test]
fn an_emulator_that_goes_and_comes_again_is_read_on() {
    let Some(place) = Place::new() else { return };
    place.put_numbered(numbered("users", 60));
    let mut source = place.source(json!({ "page_documents_max": 25, "retries_max": 100 }));
    source.collections(&CollectionsRequest::named("users")).unwrap();
    place
        .layer
        .script(Method::RunQuery, [Answer::cut_after(20, End::Stopped)]);
    let stream = source.read(&in_batches("users", 7)).unwrap();
    let reading = std::thread::scope(|scope| {
        let reading = scope.spawn(|| read_to_end(stream));
        place.layer.wait_until_stopped();
        place.layer.restart();
        reading.join().unwrap()
    });
    assert_eq!(reading.unwrap().records.len(), 60);
}

#[test]
fn a_service_that_no_longer_has_an_instant_says_so() {
    let Some(place) = Place::new() else { return };
    place.put_numbered(numbered("users", 30));
    let gone = || Failure::of(Code::FailedPrecondition).saying("The requested 'read_time' is too old.");
    for on_expiry in ["fail", "continue"] {
        let mut source = place.source(json!({ "page_documents_max": 10, "on_snapshot_expiry": on_expiry }));
        source.collections(&CollectionsRequest::named("users")).unwrap();
        let request = ReadRequest {
            snapshot: source.open_snapshot().unwrap(),
            ..ReadRequest::all("users")
        };
        place
            .layer
            .script(Method::RunQuery, [Answer::Forward, Answer::refuse(gone())]);
        let outcome = read_to_end(source.read(&request).unwrap());
        match (on_expiry, outcome) {
            ("fail", Err(error)) => assert_eq!(error.code, "firestore.snapshot_expired"),
            ("continue", Ok(reading)) => assert_eq!(reading.records.len(), 30),
            (_, outcome) => panic!("{on_expiry}: {:?}", outcome.map(|reading| reading.records.len())),
        }
    }
}
