//! Commits that the service refuses although they passed the rules: divided, each part guarded likewise, until they are small enough or
//! the records at fault are found. Neighbours: `writing_large` for what is divided beforehand, `writing_faults` for records that are
//! sent by themselves.

use gcloud_sdk::tonic::Code;
use whimbrel_plugin_api::abi::sink::ForeignSink;
use whimbrel_plugin_api::acceptance::Record;
use whimbrel_plugin_api::record_type::{Field, RecordType};
use whimbrel_plugin_api::serde_json::json;
use whimbrel_plugin_api::sink::{Committed, LaneId, LaneState};
use whimbrel_plugin_api::{Collection, ConflictPolicy, ErrorKind, Sink as _};

use crate::grpc_layer::{Answer, Failure, Method};
use crate::writing_place::{Fate, Place, int, keyed, next, record, taken, text, written};

const POLICIES: [ConflictPolicy; 5] = [
    ConflictPolicy::Overwrite,
    ConflictPolicy::Merge,
    ConflictPolicy::Skip,
    ConflictPolicy::Fail,
    ConflictPolicy::KeepNewest,
];

/// What the service says of requests that are too much at once.
const TOO_MUCH: [&str; 3] = [
    "Transaction too big. Decrease transaction size.",
    "maximum 500 writes allowed per request",
    "Request payload size exceeds the limit: 11534336 bytes.",
];

fn items() -> Collection {
    let fields = vec![
        Field::required("__id__", RecordType::Text),
        Field::new("n", RecordType::INT64),
    ];
    let mut items = keyed("items", fields);
    items.cursor_fields = vec!["n".to_owned()];
    items
}

fn item(number: i64) -> Record {
    record([("__id__", text(&format!("{number:04}"))), ("n", int(number))])
}

fn some(count: i64) -> Vec<Record> {
    (0..count).map(item).collect()
}

fn begun(place: &Place) -> (ForeignSink, LaneState) {
    let mut sink = place.prepared(&[&items()]);
    let state = taken(&mut sink, &LaneId::default());
    place.layer.reset_counts();
    (sink, state)
}

/// One transaction, whose outcome is not judged.
fn tried(
    sink: &mut ForeignSink,
    state: &LaneState,
    records: Vec<Record>,
    policy: ConflictPolicy,
) -> (Fate, Committed) {
    sink.begin(&state.lane).unwrap();
    let fate = written(sink, &items(), &[records], policy);
    let outcome = sink.commit(&next(state, fate.accepted)).unwrap();
    (fate, outcome)
}

/// The service refuses each request with one of these documents.
fn refuse(place: &Place, paths: &[&str]) {
    for path in paths {
        let rule = Answer::refuse(Code::InvalidArgument).about(path);
        place.layer.script(Method::Commit, [rule.always()]);
    }
}

/// Every request that wrote anything changed the lane as well.
fn assert_guarded(place: &Place) {
    let requests = place.layer.counts().write_requests;
    let is_guarded = |paths: &Vec<String>| paths[0].starts_with("_whimbrel/");
    assert!(requests.iter().all(is_guarded), "{}", requests.len());
}

const FIRST: Committed = Committed::Committed { seq: 1 };

#[test]
fn records_that_the_service_refuses_are_found_within_guarded_commits() {
    for policy in POLICIES {
        let Some(place) = Place::new(json!({})) else {
            return;
        };
        let (mut sink, state) = begun(&place);
        refuse(&place, &["items/0003", "items/0004", "items/0044", "items/0049"]);
        let (fate, outcome) = tried(&mut sink, &state, some(50), policy);
        // They are found at the commit, and nothing may be committed that leaves out what nobody was told of.
        assert_eq!((fate.accepted, outcome), (50, Committed::NotCommitted));
        assert_eq!(taken(&mut place.sink(), &state.lane).record_count, 0);
        sink.abort().unwrap();
        let state = taken(&mut sink, &state.lane);
        let (fate, outcome) = tried(&mut sink, &state, some(50), policy);
        assert_eq!(
            (fate.accepted, fate.skipped, outcome),
            (46, 0, FIRST),
            "{policy:?}"
        );
        assert_eq!(
            fate.codes(),
            [3, 4, 44, 49].map(|row| (row, "firestore.refused")),
            "{policy:?}"
        );
        assert_eq!(place.layer.counts().applied_below("items"), (46, 1), "{policy:?}");
        assert_guarded(&place);
        assert_eq!(place.layer.counts().calls(Method::BatchWrite), 0);
        // What was refused once is tried again by the next transaction.
        place.layer.forget_script();
        let state = state.committed(&next(&state, 46)).unwrap();
        let (fate, outcome) = tried(&mut sink, &state, vec![item(3)], policy);
        assert_eq!(
            (fate.accepted, outcome),
            (1, Committed::Committed { seq: 2 }),
            "{policy:?}"
        );
    }
}

#[test]
fn all_records_may_be_refused() {
    let Some(place) = Place::new(json!({})) else {
        return;
    };
    let (mut sink, state) = begun(&place);
    refuse(&place, &["items"]);
    let (_, outcome) = tried(&mut sink, &state, some(20), ConflictPolicy::Overwrite);
    assert_eq!(outcome, Committed::NotCommitted);
    sink.abort().unwrap();
    let (fate, outcome) = tried(&mut sink, &state, some(20), ConflictPolicy::Overwrite);
    assert_eq!((fate.rejected.len(), outcome), (20, FIRST));
    assert!(place.documents("items").is_empty());
}

#[test]
fn a_run_that_ends_while_records_at_fault_are_sought_goes_on_with_what_is_there() {
    for policy in POLICIES {
        let Some(place) = Place::new(json!({})) else {
            return;
        };
        let (mut sink, state) = begun(&place);
        refuse(&place, &["items/0003", "items/0044"]);
        let (_, outcome) = tried(&mut sink, &state, some(50), policy);
        assert_eq!(outcome, Committed::NotCommitted);
        // Another process knows nothing of what was found.
        drop(sink);
        let mut sink = place.prepared(&[&items()]);
        let state = taken(&mut sink, &state.lane);
        let (fate, outcome) = tried(&mut sink, &state, some(50), policy);
        assert_eq!(
            (fate.accepted, fate.skipped, outcome),
            (50, 0, Committed::NotCommitted),
            "{policy:?}"
        );
        sink.abort().unwrap();
        let (fate, outcome) = tried(&mut sink, &state, some(50), policy);
        assert_eq!(
            (fate.accepted, fate.skipped, fate.codes(), outcome),
            (
                48,
                0,
                vec![(3, "firestore.refused"), (44, "firestore.refused")],
                FIRST
            ),
            "{policy:?}"
        );
        assert_eq!(place.documents("items").len(), 48);
        assert_guarded(&place);
    }
}

#[test]
fn a_commit_that_is_too_large_is_divided_and_the_next_ones_are_smaller() {
    for message in TOO_MUCH {
        let Some(place) = Place::new(json!({})) else {
            return;
        };
        let (mut sink, state) = begun(&place);
        let too_much = Failure::of(Code::InvalidArgument).saying(message);
        let refused = Answer::refuse(too_much).about("items").times(2);
        place.layer.script(Method::Commit, [refused]);
        let (fate, outcome) = tried(&mut sink, &state, some(400), ConflictPolicy::Fail);
        assert_eq!((fate.accepted, fate.codes(), outcome), (400, vec![], FIRST));
        let counts = place.layer.counts();
        assert_eq!(counts.applied_below("items"), (400, 1), "{message}");
        let sizes: Vec<usize> = counts.write_requests.iter().map(Vec::len).collect();
        assert_eq!(&sizes[..2], [401, 201], "{message}");
        assert!(sizes[2..].iter().all(|size| *size <= 101), "{sizes:?}");
        assert_guarded(&place);
        assert_eq!(place.layer.left(), 0);
        // The session has learnt it.
        place.layer.reset_counts();
        let state = state.committed(&next(&state, 400)).unwrap();
        let records = (400..600).map(item).collect();
        let (_, outcome) = tried(&mut sink, &state, records, ConflictPolicy::Fail);
        assert_eq!(outcome, Committed::Committed { seq: 2 });
        let requests = place.layer.counts().write_requests;
        assert!(
            requests.iter().all(|paths| paths.len() <= 101),
            "{}",
            requests.len()
        );
    }
}

#[test]
fn a_document_that_is_too_large_alone_is_rejected() {
    let Some(place) = Place::new(json!({})) else {
        return;
    };
    let (mut sink, state) = begun(&place);
    let too_much = Failure::of(Code::InvalidArgument).saying(TOO_MUCH[0]);
    let refused = Answer::refuse(too_much).about("items/0007").always();
    place.layer.script(Method::Commit, [refused]);
    let (_, outcome) = tried(&mut sink, &state, some(20), ConflictPolicy::Overwrite);
    assert_eq!(outcome, Committed::NotCommitted);
    sink.abort().unwrap();
    let (fate, outcome) = tried(&mut sink, &state, some(20), ConflictPolicy::Overwrite);
    assert_eq!(outcome, FIRST);
    assert_eq!(fate.codes(), [(7, "firestore.document_too_large")]);
    assert_eq!(place.layer.counts().applied_below("items"), (19, 1));
    // It says nothing about what others may be together.
    place.layer.reset_counts();
    let state = state.committed(&next(&state, 19)).unwrap();
    let records = (20..220).map(item).collect();
    let (_, outcome) = tried(&mut sink, &state, records, ConflictPolicy::Overwrite);
    assert_eq!(outcome, Committed::Committed { seq: 2 });
    let requests = place.layer.counts().write_requests;
    let sizes: Vec<usize> = requests.iter().map(Vec::len).collect();
    assert_eq!(sizes, [201]);
}

#[test]
fn a_divided_commit_that_broke_off_goes_on_where_it_was() {
    for policy in POLICIES {
        let Some(place) = Place::new(json!({})) else {
            return;
        };
        let (mut sink, state) = begun(&place);
        let too_much = Failure::of(Code::InvalidArgument).saying(TOO_MUCH[0]);
        place.layer.script(
            Method::Commit,
            [
                Answer::refuse(too_much).about("items").times(1),
                Answer::lose(Code::Unavailable).about("items").times(1),
                Answer::refuse(Code::PermissionDenied).about("items").times(1),
            ],
        );
        sink.begin(&state.lane).unwrap();
        written(&mut sink, &items(), &[some(100)], policy);
        let error = sink.commit(&next(&state, 100)).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Permission);
        assert_eq!(place.documents("items").len(), 50);
        let mut new = place.prepared(&[&items()]);
        let state = taken(&mut new, &state.lane);
        let (fate, outcome) = tried(&mut new, &state, some(100), policy);
        assert_eq!((fate.accepted, fate.skipped, outcome), (100, 0, FIRST));
        assert_eq!(place.layer.counts().applied_below("items"), (100, 1));
    }
}

#[test]
fn a_checkpoint_that_the_service_refuses_is_an_error_that_says_so() {
    let Some(place) = Place::new(json!({})) else {
        return;
    };
    let (mut sink, state) = begun(&place);
    for count in [0, 5] {
        refuse(&place, &["_whimbrel", "items"]);
        sink.begin(&state.lane).unwrap();
        if count > 0 {
            written(&mut sink, &items(), &[some(count)], ConflictPolicy::Overwrite);
            assert_eq!(sink.commit(&next(&state, 5)).unwrap(), Committed::NotCommitted);
            sink.begin(&state.lane).unwrap();
            written(&mut sink, &items(), &[some(count)], ConflictPolicy::Overwrite);
        }
        let error = sink.commit(&next(&state, 0)).unwrap_err();
        assert_eq!(
            (error.kind, error.code.as_str()),
            (ErrorKind::InvalidData, "firestore.invalid_request")
        );
        sink.abort().unwrap();
        place.layer.forget_script();
    }
}
