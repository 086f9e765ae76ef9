//! Records that a run has sent before their checkpoint, and the session or the run ended then: whoever goes on takes them for the run's
//! own where the lane cannot exclude it, and only there. Neighbour: `writing_once` for records that go with their checkpoint.

use gcloud_sdk::tonic::Code;
use whimbrel_plugin_api::abi::sink::ForeignSink;
use whimbrel_plugin_api::acceptance::Record;
use whimbrel_plugin_api::record_type::{Field, RecordType};
use whimbrel_plugin_api::serde_json::json;
use whimbrel_plugin_api::sink::{Committed, LaneClaim, LaneId, LaneState};
use whimbrel_plugin_api::{Collection, ConflictPolicy, Sink as _};

use crate::grpc_layer::{Answer, Method};
use crate::writing_place::{
    Fate, Place, claim, each_idempotent, int, keyed, next, record, taken, text, written,
};

/// The policies that tell documents of the run from those of others.
const TELLING: [ConflictPolicy; 4] = [
    ConflictPolicy::Fail,
    ConflictPolicy::Skip,
    ConflictPolicy::KeepNewest,
    ConflictPolicy::KeepOldest,
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

fn some(range: std::ops::Range<i64>) -> Vec<Record> {
    range.map(item).collect()
}

/// Takes the lane over for `run`, with a session of its own.
fn begun(place: &Place, run: &str) -> (ForeignSink, LaneState) {
    let mut sink = place.prepared(&[&items()]);
    let claim = LaneClaim {
        begun_by: run.to_owned(),
        ..claim(&LaneId::default())
    };
    let state = sink.take_over(&[claim]).unwrap().remove(0);
    (sink, state)
}

/// One transaction up to its commit.
fn sent(sink: &mut ForeignSink, range: std::ops::Range<i64>, policy: ConflictPolicy) -> Fate {
    sink.begin(&LaneId::default()).unwrap();
    written(sink, &items(), &[some(range)], policy)
}

/// Documents of others that are what the records are.
fn put_same(place: &Place, range: std::ops::Range<i64>) {
    for number in range {
        let fields = json!({ "n": { "integerValue": number.to_string() } });
        place.put(&[(&format!("items/{number:04}"), fields)]);
    }
}

/// What is left out is not the run's own.
fn left_out(fate: &Fate) -> u64 {
    fate.skipped + fate.rejected.len() as u64
}

#[test]
fn another_session_of_the_same_run_finds_what_the_one_before_it_has_sent() {
    each_idempotent(|place| {
        for policy in TELLING {
            place.emulator.clear(&place.project);
            let (mut first, state) = begun(place, "run 1");
            assert_eq!(left_out(&sent(&mut first, 0..20, policy)), 0);
            // The lane stays as it is: nobody takes it over again.
            drop(first);
            let mut second = place.prepared(&[&items()]);
            let fate = sent(&mut second, 0..20, policy);
            assert_eq!(
                (fate.accepted, left_out(&fate)),
                (20, 0),
                "{policy:?} with {}",
                place.way()
            );
            let outcome = second.commit(&next(&state, 20)).unwrap();
            assert_eq!(outcome, Committed::Committed { seq: 1 });
        }
    });
}

#[test]
fn after_a_checkpoint_nothing_is_the_runs_own_until_something_is_sent() {
    each_idempotent(|place| {
        for policy in TELLING {
            place.emulator.clear(&place.project);
            put_same(place, 20..25);
            let (mut sink, state) = begun(place, "run 1");
            assert_eq!(left_out(&sent(&mut sink, 0..20, policy)), 0);
            sink.commit(&next(&state, 20)).unwrap();
            drop(sink);
            // It goes on under a later epoch, as after a crash.
            for is_first in [true, false] {
                let (mut sink, state) = begun(place, "run 1");
                assert_eq!((state.seq, state.epoch > 1), (1, true));
                let fate = sent(&mut sink, 20..30, policy);
                let expected = if is_first { 5 } else { 0 };
                assert_eq!(left_out(&fate), expected, "{policy:?} with {}", place.way());
            }
        }
    });
}

#[test]
fn a_lane_says_that_records_are_sent_before_they_are_and_once() {
    each_idempotent(|place| {
        let (mut sink, mut state) = begun(place, "run 1");
        for (policy, expected) in [
            // It does not matter whose a document is.
            (ConflictPolicy::Overwrite, 0),
            (ConflictPolicy::Fail, 1),
            (ConflictPolicy::KeepNewest, 1),
        ] {
            for _ in 0..2 {
                place.layer.reset_counts();
                let first = i64::try_from(state.seq).unwrap() * 20;
                assert_eq!(left_out(&sent(&mut sink, first..first + 20, policy)), 0);
                let requests = place.layer.counts().write_requests;
                let notes = requests.iter().filter(|paths| paths[0].starts_with("_whimbrel/"));
                assert_eq!((notes.count(), requests.len()), (expected, expected + 1));
                if expected > 0 {
                    assert!(requests[0][0].starts_with("_whimbrel/"), "{requests:?}");
                }
                let checkpoint = next(&state, 20);
                sink.commit(&checkpoint).unwrap();
                state = state.committed(&checkpoint).unwrap();
            }
        }
    });
}

#[test]
fn whoever_goes_on_with_smaller_transactions_finds_its_own_records_to_the_end() {
    for writing in [
        json!({ "writes_max": 100 }),
        json!({ "guarantee": "idempotent", "request": "batch_write" }),
        json!({ "guarantee": "idempotent", "request": "commit" }),
    ] {
        let Some(place) = Place::new(writing) else { return };
        for policy in TELLING {
            let shown = format!("{policy:?} with {}", place.way());
            place.emulator.clear(&place.project);
            place.layer.forget_script();
            place.layer.reset_counts();
            let (mut sink, state) = begun(&place, "run 1");
            sent(&mut sink, 0..150, policy);
            if place.method() == Method::Commit && place.writing["guarantee"] != "idempotent" {
                // What is ahead of the checkpoint is there, and nothing else.
                let rules = [Answer::Forward, Answer::refuse(Code::PermissionDenied)];
                place.layer.script(Method::Commit, rules);
                assert!(sink.commit(&next(&state, 150)).is_err(), "{shown}");
            }
            drop(sink);
            let (mut sink, mut state) = begun(&place, "run 1");
            for first in [0, 50, 100] {
                let fate = sent(&mut sink, first..first + 50, policy);
                assert_eq!((fate.accepted, left_out(&fate)), (50, 0), "{first}: {shown}");
                let checkpoint = next(&state, 50);
                sink.commit(&checkpoint).unwrap();
                state = state.committed(&checkpoint).unwrap();
            }
            assert_eq!(place.layer.counts().applied_below("items"), (150, 1), "{shown}");
        }
    }
}

#[test]
fn a_note_whose_answer_is_lost_is_no_reason_for_doubt() {
    each_idempotent(|place| {
        for answer in [
            Answer::lose(Code::Unavailable),
            Answer::refuse(Code::Unavailable),
            Answer::refuse(Code::Aborted),
        ] {
            place.emulator.clear(&place.project);
            put_same(place, 0..5);
            let (mut sink, state) = begun(place, "run 1");
            let shown = format!("{answer:?} with {}", place.way());
            place.layer.script(Method::Commit, [answer.about("_whimbrel")]);
            let fate = sent(&mut sink, 0..20, ConflictPolicy::Fail);
            assert_eq!((fate.accepted, fate.rejected.len()), (15, 5), "{shown}");
            assert_eq!(place.layer.left(), 0, "{shown}");
            let outcome = sink.commit(&next(&state, 15)).unwrap();
            assert_eq!(outcome, Committed::Committed { seq: 1 }, "{shown}");
        }
    });
}

#[test]
fn a_run_that_goes_on_with_another_policy_finds_its_own_records() {
    each_idempotent(|place| {
        let (mut sink, _) = begun(place, "run 1");
        sent(&mut sink, 0..20, ConflictPolicy::Overwrite);
        drop(sink);
        let (mut sink, _) = begun(place, "run 1");
        let fate = sent(&mut sink, 0..20, ConflictPolicy::Fail);
        assert_eq!((fate.accepted, fate.rejected.len()), (20, 0), "{}", place.way());
    });
}

#[test]
fn a_run_that_changes_its_guarantee_finds_its_own_records() {
    let Some(mut place) = Place::new(json!({ "guarantee": "idempotent" })) else {
        return;
    };
    let (mut sink, _) = begun(&place, "run 1");
    sent(&mut sink, 0..20, ConflictPolicy::Fail);
    drop(sink);
    place.writing = json!({ "guarantee": "exactly_once" });
    let (mut sink, state) = begun(&place, "run 1");
    let fate = sent(&mut sink, 0..25, ConflictPolicy::Fail);
    assert_eq!((fate.accepted, fate.rejected.len()), (25, 0));
    let outcome = sink.commit(&next(&state, 25)).unwrap();
    assert_eq!(outcome, Committed::Committed { seq: 1 });
    assert_eq!(place.layer.counts().applied_below("items"), (25, 1));
}

#[test]
fn what_a_session_took_for_that_of_others_before_it_knew_better_is_judged_again() {
    let Some(place) = Place::new(json!({ "writes_max": 100 })) else {
        return;
    };
    // One session knows the lane as it was before another one broke off in the middle of its commit.
    let mut late = place.prepared(&[&items()]);
    let (mut sink, state) = begun(&place, "run 1");
    late.begin(&state.lane).unwrap();
    late.abort().unwrap();
    sent(&mut sink, 0..150, ConflictPolicy::Fail);
    let refused = Answer::refuse(Code::PermissionDenied);
    place
        .layer
        .script(Method::Commit, [Answer::Forward.into(), refused.times(1)]);
    assert!(sink.commit(&next(&state, 150)).is_err());
    let state = taken(&mut place.sink(), &state.lane);
    assert_eq!(sent(&mut late, 0..150, ConflictPolicy::Fail).rejected.len(), 99);
    let outcome = late.commit(&next(&state, 51)).unwrap();
    assert_eq!(outcome, Committed::NotCommitted);
    let fate = sent(&mut late, 0..150, ConflictPolicy::Fail);
    assert_eq!((fate.accepted, fate.rejected.len()), (150, 0));
    let outcome = late.commit(&next(&state, 150)).unwrap();
    assert_eq!(outcome, Committed::Committed { seq: 1 });
    assert_eq!(place.layer.counts().applied_below("items"), (150, 1));
}
