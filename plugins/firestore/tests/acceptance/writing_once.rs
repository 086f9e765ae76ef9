//! Records and their checkpoint by one request: whatever becomes of the request or of its answer, each record is written once.
//! Not here: transactions that do not fit into one request (`writing_large`), or that the service refuses (`writing_refused`).

use std::time::Duration;

use gcloud_sdk::tonic::Code;
use whimbrel_plugin_api::abi::sink::ForeignSink;
use whimbrel_plugin_api::acceptance::Record;
use whimbrel_plugin_api::error::ErrorScope;
use whimbrel_plugin_api::record_type::{Field, RecordType};
use whimbrel_plugin_api::serde_json::json;
use whimbrel_plugin_api::sink::{Committed, LaneClaim, LaneId, LaneState};
use whimbrel_plugin_api::{Collection, ConflictPolicy, ErrorKind, Sink as _};

use crate::grpc_layer::{Answer, End, Failure, Method, Rule};
use crate::writing_place::{
    Fate, Place, batch_of, claim, each, idempotent, int, keyed, next, record, taken, text, written,
};

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

/// A session that has the lane, with nothing counted yet.
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

const FIRST: Committed = Committed::Committed { seq: 1 };

#[test]
fn nothing_is_sent_before_the_commit_and_all_by_one_request() {
    let Some(place) = Place::new(json!({})) else {
        return;
    };
    let (mut sink, state) = begun(&place);
    for is_kept in [false, true] {
        sink.begin(&state.lane).unwrap();
        let fate = written(
            &mut sink,
            &items(),
            &[some(300), some(301)[300..].to_vec()],
            ConflictPolicy::Overwrite,
        );
        assert_eq!(fate.accepted, 301);
        assert!(place.layer.counts().write_requests.is_empty());
        if is_kept {
            assert_eq!(sink.commit(&next(&state, 301)).unwrap(), FIRST);
        } else {
            sink.abort().unwrap();
        }
    }
    let counts = place.layer.counts();
    assert_eq!(
        (counts.write_requests.len(), counts.write_requests[0].len()),
        (1, 302)
    );
    assert_eq!(place.documents("items").len(), 301);
    assert_eq!(
        taken(&mut sink, &state.lane),
        LaneState {
            epoch: 2,
            ..state.committed(&next(&state, 301)).unwrap()
        }
    );
}

#[test]
fn s2_a_lost_request_or_answer_leaves_each_record_written_once() {
    let Some(place) = Place::new(json!({})) else {
        return;
    };
    let slower = Failure::of(Code::ResourceExhausted).retry_after(Duration::from_millis(50));
    for policy in [
        ConflictPolicy::Overwrite,
        ConflictPolicy::Merge,
        ConflictPolicy::Fail,
        ConflictPolicy::KeepNewest,
    ] {
        for answers in [
            vec![Answer::lose(Code::Unavailable)],
            vec![Answer::lose(Code::DeadlineExceeded)],
            vec![Answer::lose(Code::Internal)],
            vec![Answer::lose(Code::Cancelled)],
            vec![Answer::lose(Code::Aborted)],
            vec![Answer::lose(End::Closed)],
            vec![Answer::refuse(Code::Unavailable), Answer::lose(End::Reset)],
            vec![Answer::refuse(End::Closed)],
            vec![Answer::refuse(Code::Aborted), Answer::refuse(slower.clone())],
        ] {
            let shown = format!("{policy:?} and {answers:?}");
            place.emulator.clear(&place.project);
            place.layer.forget_script();
            let (mut sink, state) = begun(&place);
            let rules: Vec<Rule> = answers.into_iter().map(|answer| answer.about("items")).collect();
            place.layer.script(Method::Commit, rules);
            let (fate, outcome) = tried(&mut sink, &state, some(20), policy);
            assert_eq!(
                (fate.accepted, fate.skipped, fate.codes(), outcome),
                (20, 0, vec![], FIRST),
                "{shown}"
            );
            let counts = place.layer.counts();
            assert_eq!(counts.applied_below("items"), (20, 1), "{shown}");
            assert_eq!((counts.early, place.layer.left()), (0, 0), "{shown}");
            // The session goes on with what the service has.
            let state = state.committed(&next(&state, 20)).unwrap();
            let (_, outcome) = tried(&mut sink, &state, vec![item(99)], policy);
            assert_eq!(outcome, Committed::Committed { seq: 2 }, "{shown}");
            assert_eq!(taken(&mut sink, &state.lane).seq, 2, "{shown}");
        }
    }
}

#[test]
fn s2_a_request_that_arrives_late_changes_nothing() {
    let Some(mut place) = Place::new(json!({})) else {
        return;
    };
    place.request_timeout_ms = 300;
    let (mut sink, state) = begun(&place);
    let late = Answer::Delay(Duration::from_millis(900)).about("items");
    place.layer.script(Method::Commit, [late]);
    let (_, outcome) = tried(&mut sink, &state, some(20), ConflictPolicy::Overwrite);
    assert_eq!(outcome, FIRST);
    let state = state.committed(&next(&state, 20)).unwrap();
    // The late one is under way now, or comes after this.
    let newer = |number: i64| record([("__id__", text(&format!("{number:04}"))), ("n", int(-number))]);
    let (_, outcome) = tried(
        &mut sink,
        &state,
        (0..20).map(newer).collect(),
        ConflictPolicy::Overwrite,
    );
    assert_eq!(outcome, Committed::Committed { seq: 2 });
    drop(sink);
    // A call that follows it on the way to the emulator: then it has been answered.
    let after = Answer::Delay(Duration::from_secs(2)).about("_whimbrel");
    place.layer.script(Method::BatchGetDocuments, [after]);
    place.request_timeout_ms = 60_000;
    assert_eq!(taken(&mut place.sink(), &state.lane).seq, 2);
    assert_eq!(place.layer.counts().applied_below("items"), (20, 2));
    assert_eq!(
        place.fields("items/0007").unwrap()["n"],
        json!({ "integerValue": "-7" })
    );
}

#[test]
fn s2_an_outcome_that_cannot_be_found_out_is_said_and_the_lane_tells_it_later() {
    let Some(mut place) = Place::new(json!({})) else {
        return;
    };
    place.retries_max = 1;
    for is_applied in [false, true] {
        place.emulator.clear(&place.project);
        let (mut sink, state) = begun(&place);
        if is_applied {
            place
                .layer
                .script(Method::Commit, [Answer::lose(Code::Unavailable).about("items")]);
            place.layer.script(
                Method::BatchGetDocuments,
                [Answer::refuse(Code::Unavailable).always()],
            );
        } else {
            place
                .layer
                .script(Method::Commit, [Answer::refuse(Code::Unavailable).always()]);
        }
        let (_, outcome) = tried(&mut sink, &state, some(20), ConflictPolicy::Overwrite);
        assert_eq!(outcome, Committed::Unknown);
        place.layer.forget_script();
        let held = LaneClaim {
            held: Some(state.epoch),
            ..claim(&state.lane)
        };
        let state = sink.take_over(&[held]).unwrap().remove(0);
        assert_eq!((state.epoch, state.seq), (2, u64::from(is_applied)));
        if !is_applied {
            let (_, outcome) = tried(&mut sink, &state, some(20), ConflictPolicy::Overwrite);
            assert_eq!(outcome, FIRST);
        }
        assert_eq!(place.layer.counts().applied_below("items"), (20, 1));
    }
}

#[test]
fn what_certainly_does_not_pass_ends_the_transaction_with_its_reason() {
    let Some(mut place) = Place::new(json!({})) else {
        return;
    };
    place.retries_max = 1;
    let (mut sink, state) = begun(&place);
    for (code, kind) in [
        (Code::Aborted, ErrorKind::Unavailable),
        (Code::ResourceExhausted, ErrorKind::RateLimited),
        (Code::PermissionDenied, ErrorKind::Permission),
    ] {
        place
            .layer
            .script(Method::Commit, [Answer::refuse(code).always()]);
        sink.begin(&state.lane).unwrap();
        written(&mut sink, &items(), &[some(5)], ConflictPolicy::Overwrite);
        let error = sink.commit(&next(&state, 5)).unwrap_err();
        // Of the session, it would leave the host in doubt whether the commit was made, and the reason would be lost over that.
        assert_eq!(
            (error.kind, error.scope),
            (kind, ErrorScope::Transaction),
            "{code:?}"
        );
        sink.abort().unwrap();
        place.layer.forget_script();
    }
    let (_, outcome) = tried(&mut sink, &state, some(5), ConflictPolicy::Overwrite);
    assert_eq!(outcome, FIRST);
    assert_eq!(place.layer.counts().applied_below("items"), (5, 1));
}

#[test]
fn a_document_that_somebody_else_makes_in_between_is_seen_when_it_is_written_again() {
    let Some(place) = Place::new(json!({})) else {
        return;
    };
    for (policy, rejected, skipped) in [
        (ConflictPolicy::Fail, vec![(3, "firestore.exists")], 0),
        (ConflictPolicy::Skip, vec![], 1),
        (ConflictPolicy::KeepOldest, vec![], 1),
    ] {
        place.emulator.clear(&place.project);
        let (mut sink, state) = begun(&place);
        sink.begin(&state.lane).unwrap();
        let fate = written(&mut sink, &items(), &[some(10)], policy);
        assert_eq!(fate.accepted, 10);
        let theirs = json!({ "n": { "integerValue": "-1" } });
        place.put(&[("items/0003", theirs.clone())]);
        assert_eq!(
            sink.commit(&next(&state, 10)).unwrap(),
            Committed::NotCommitted,
            "{policy:?}"
        );
        assert_eq!(place.documents("items").len(), 1);
        sink.abort().unwrap();
        let (fate, outcome) = tried(&mut sink, &state, some(10), policy);
        assert_eq!(
            (fate.codes(), fate.skipped, outcome),
            (rejected, skipped, FIRST),
            "{policy:?}"
        );
        assert_eq!(place.fields("items/0003").unwrap(), theirs);
        assert_eq!(place.documents("items").len(), 10);
    }
}

#[test]
fn records_that_are_sent_as_they_come_are_followed_by_their_checkpoint() {
    for way in idempotent() {
        let Some(place) = Place::new(way) else { return };
        let (mut sink, state) = begun(&place);
        sink.begin(&state.lane).unwrap();
        written(&mut sink, &items(), &[some(20)], ConflictPolicy::Overwrite);
        assert_eq!(place.documents("items").len(), 20);
        place.layer.reset_counts();
        place
            .layer
            .script(Method::Commit, [Answer::lose(Code::Unavailable)]);
        assert_eq!(sink.commit(&next(&state, 20)).unwrap(), FIRST);
        assert_eq!(place.layer.counts().applied_below("_whimbrel"), (1, 1));
        assert_eq!(taken(&mut sink, &state.lane).record_count, 20);
    }
}

#[test]
fn a_commit_is_of_the_lane_that_was_begun_and_comes_after_everything_was_judged() {
    each(|place| {
        let (mut sink, state) = begun(place);
        sink.begin(&state.lane).unwrap();
        let mut other = next(&state, 0);
        other.lane.job = "another".to_owned();
        assert_eq!(sink.commit(&other).unwrap_err().kind, ErrorKind::Internal);
        assert!(
            sink.take_over(&[claim(&state.lane)]).is_err(),
            "a transaction is open"
        );
        let receipt = sink
            .write("items", &batch_of(&items(), &some(2)), ConflictPolicy::Overwrite)
            .unwrap();
        assert_eq!(receipt.accepted + receipt.deferred, 2);
        assert_eq!(
            sink.commit(&next(&state, 2)).is_err(),
            receipt.deferred > 0,
            "{}",
            place.way()
        );
    });
}

#[test]
fn whoever_goes_on_takes_what_it_finds_for_its_own_and_whoever_begins_anew_does_not() {
    for way in idempotent() {
        let Some(place) = Place::new(way) else { return };
        let of = |run: &str| LaneClaim {
            begun_by: run.to_owned(),
            ..claim(&LaneId::default())
        };
        for (run, expected) in [("run 1", 0), ("run 1", 1), ("run 2", 20)] {
            let mut sink = place.prepared(&[&items()]);
            let state = sink.take_over(&[of(run)]).unwrap().remove(0);
            sink.begin(&state.lane).unwrap();
            let fate = written(&mut sink, &items(), &[some(20)], ConflictPolicy::Fail);
            assert_eq!(fate.rejected.len(), expected, "{run} with {}", place.way());
            // It ends before its commit, and somebody else changes a document.
            drop(sink);
            place.put(&[("items/0007", json!({ "n": { "integerValue": "-7" } }))]);
        }
    }
}

#[test]
fn records_that_were_sent_and_are_written_again_are_not_taken_for_those_of_others() {
    for way in idempotent() {
        let Some(place) = Place::new(way) else { return };
        let (mut sink, state) = begun(&place);
        place.put(&[("items/0007", json!({}))]);
        sink.begin(&state.lane).unwrap();
        let first = written(&mut sink, &items(), &[some(20)], ConflictPolicy::Fail);
        assert_eq!(first.codes(), [(7, "firestore.exists")]);
        sink.abort().unwrap();
        let (fate, outcome) = tried(&mut sink, &state, some(20), ConflictPolicy::Fail);
        assert_eq!((fate, outcome), (first, FIRST), "{}", place.way());
        // What has its checkpoint is there for good.
        let state = state.committed(&next(&state, 19)).unwrap();
        let (fate, _) = tried(&mut sink, &state, some(20), ConflictPolicy::Fail);
        assert_eq!(fate.rejected.len(), 20, "{}", place.way());
    }
}
