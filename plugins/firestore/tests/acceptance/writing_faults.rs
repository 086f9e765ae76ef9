//! Faults of the service while documents are written, by the script of the layer: every record ends up in its document once, or is
//! rejected with the reason, or the error is said.

use std::time::Duration;

use gcloud_sdk::tonic::Code;
use whimbrel_plugin_api::acceptance::{Record, Value};
use whimbrel_plugin_api::error::ErrorScope;
use whimbrel_plugin_api::record_type::{Field, RecordType};
use whimbrel_plugin_api::serde_json::json;
use whimbrel_plugin_api::sink::{Checkpoint, Committed, LaneId};
use whimbrel_plugin_api::{Collection, ConflictPolicy, ErrorKind, Sink as _};

use crate::grpc_layer::{Answer, End, Failure, Method, Which};
use crate::writing_place::{
    Place, batch_of, each_idempotent, idempotent, int, keyed, next, record, taken, text, transact, with,
    written,
};

fn items() -> Collection {
    let fields = vec![
        Field::required("__id__", RecordType::Text),
        Field::new("n", RecordType::INT64),
        Field::new("x", RecordType::FLOAT64),
    ];
    keyed("items", fields)
}

fn item(number: i64) -> Record {
    let x = if number % 2 == 0 { f64::NAN } else { -0.0 };
    record([
        ("__id__", text(&format!("{number:04}"))),
        ("n", int(number)),
        ("x", Value::float(x)),
    ])
}

fn some(count: i64) -> Vec<Record> {
    (0..count).map(item).collect()
}

/// Every document of the first `count` is there as it should be, but those of `without`.
fn holds(place: &Place, count: i64, without: &[i64]) {
    let documents = place.documents("items");
    let expected: Vec<i64> = (0..count).filter(|number| !without.contains(number)).collect();
    let found: Vec<i64> = documents
        .values()
        .map(|fields| fields["n"]["integerValue"].as_str().unwrap().parse().unwrap())
        .collect();
    assert_eq!(found, expected);
}

#[test]
fn of_500_writes_the_3_that_failed_are_sent_again_and_no_other() {
    let Some(place) = Place::new(idempotent()[0].clone()) else {
        return;
    };
    let failing = [3, 77, 499];
    for (code, times) in [
        (Code::Aborted, 2),
        (Code::Unavailable, 1),
        (Code::ResourceExhausted, 1),
    ] {
        place.emulator.clear(&place.project);
        let rule = Answer::fail_writes(code, failing.map(Which::Index)).times(1);
        let again =
            Answer::fail_writes(code, [Which::Index(0), Which::Index(1), Which::Index(2)]).times(times - 1);
        place.layer.forget_script();
        place.layer.script(Method::BatchWrite, [rule]);
        if times > 1 {
            place.layer.script(Method::BatchWrite, [again]);
        }
        let fate = place.write(&items(), &[some(500)], ConflictPolicy::Overwrite);
        assert_eq!((fate.accepted, fate.codes()), (500, vec![]), "{code:?}");
        holds(&place, 500, &[]);
        let counts = place.layer.counts();
        for number in 0..500 {
            let expected = if failing.contains(&(number as usize)) {
                times + 1
            } else {
                1
            };
            assert_eq!(
                counts.sent(&format!("items/{number:04}")),
                expected,
                "{code:?} {number}"
            );
        }
    }
}

#[test]
fn of_500_writes_the_3_that_are_refused_are_rejected_and_no_other() {
    let Some(place) = Place::new(idempotent()[0].clone()) else {
        return;
    };
    let failing = ["items/0003", "items/0077", "items/0499"].map(|path| Which::Document(path.to_owned()));
    place.layer.script(
        Method::BatchWrite,
        [Answer::fail_writes(Code::InvalidArgument, failing).always()],
    );
    let fate = place.write(&items(), &[some(500)], ConflictPolicy::Overwrite);
    assert_eq!(fate.accepted, 497);
    assert_eq!(fate.codes(), [3, 77, 499].map(|row| (row, "firestore.refused")));
    holds(&place, 500, &[3, 77, 499]);
    assert_eq!(place.layer.counts().sent_below("items"), (500, 1));
}

#[test]
fn a_request_that_is_refused_is_divided_until_the_record_at_fault_is_found() {
    each_idempotent(|place| {
        for path in ["items/0000", "items/0123"] {
            let rule = Answer::refuse(Code::InvalidArgument).about(path);
            place.layer.script(place.method(), [rule.times(u64::MAX)]);
        }
        let fate = place.write(
            &items(),
            &[some(200), some(201)[200..].to_vec()],
            ConflictPolicy::Overwrite,
        );
        assert_eq!(fate.accepted, 199);
        let codes = [(0, "firestore.refused"), (123, "firestore.refused")];
        assert_eq!(fate.codes(), codes);
        assert_eq!(fate.rejected[&123].1, "items/0123");
        holds(place, 201, &[0, 123]);
        assert_eq!(place.layer.counts().applied_below("items"), (199, 1));
    });
}

#[test]
fn in_a_commit_existing_documents_are_found_by_one_look() {
    let Some(place) = Place::new(idempotent()[1].clone()) else {
        return;
    };
    place.write(&items(), &[some(100)], ConflictPolicy::Overwrite);
    let fate = place.write(&items(), &[some(300)], ConflictPolicy::Skip);
    assert_eq!((fate.accepted, fate.skipped), (300, 100));
    holds(&place, 300, &[]);
    let counts = place.layer.counts();
    assert_eq!(
        (
            place.requests().len() as u64,
            counts.calls(Method::BatchGetDocuments)
        ),
        // The other look and two further commits are those of the checkpoint.
        (2, 2)
    );
    let fate = place.write(&items(), &[some(301)], ConflictPolicy::Fail);
    assert_eq!((fate.accepted, fate.rejected.len()), (1, 300));
    assert!(fate.codes().iter().all(|(_, code)| *code == "firestore.exists"));
}

#[test]
fn a_lost_answer_makes_no_record_exist_already() {
    each_idempotent(|place| {
        for policy in [
            ConflictPolicy::Overwrite,
            ConflictPolicy::Merge,
            ConflictPolicy::Fail,
            ConflictPolicy::Skip,
        ] {
            for lost in [
                Answer::lose(Code::Unavailable),
                Answer::lose(Code::DeadlineExceeded),
                Answer::lose(End::Closed),
            ] {
                let shown = format!("{policy:?} with {} and {lost:?}", place.way());
                place.emulator.clear(&place.project);
                let mine = json!({ "n": { "integerValue": "7" }, "x": { "doubleValue": 1.0 } });
                place.put(&[("items/0007", mine.clone())]);
                let mut sink = place.prepared(&[&items()]);
                place.layer.forget_script();
                place.layer.script(place.method(), [lost.times(1).about("items")]);
                place.layer.reset_counts();
                let fate = transact(&mut sink, &items(), &[some(50)], policy);
                holds(place, 50, &[]);
                let (rejected, skipped) = match policy {
                    ConflictPolicy::Fail => (vec![(7, "firestore.exists")], 0),
                    ConflictPolicy::Skip => (vec![], 1),
                    _ => (vec![], 0),
                };
                assert_eq!((fate.codes(), fate.skipped), (rejected, skipped), "{shown}");
                assert_eq!(fate.accepted, 50 - fate.rejected.len() as u64, "{shown}");
                let stays = matches!(policy, ConflictPolicy::Fail | ConflictPolicy::Skip);
                assert_eq!(place.fields("items/0007").unwrap() == mine, stays, "{shown}");
                assert_eq!(place.layer.left(), 0, "{shown}");
            }
        }
    });
}

#[test]
fn a_lost_answer_is_not_taken_for_a_newer_version() {
    each_idempotent(|place| {
        let mut versioned = items();
        versioned.cursor_fields = vec!["n".to_owned()];
        place.write(&versioned, &[some(10)], ConflictPolicy::Overwrite);
        let newer = |number: i64| {
            let mut newer = item(number);
            newer.insert("n".to_owned(), int(number + 100));
            newer
        };
        place
            .layer
            .script(place.method(), [Answer::lose(Code::Unavailable).about("items")]);
        let coming: Vec<Record> = (5..15).map(newer).chain([item(1)]).collect();
        let mut sink = place.prepared(&[&versioned]);
        place
            .layer
            .script(place.method(), [Answer::lose(Code::Unavailable).about("items")]);
        let fate = transact(&mut sink, &versioned, &[coming], ConflictPolicy::KeepNewest);
        assert_eq!((fate.accepted, fate.skipped, fate.codes()), (11, 1, vec![]));
        assert_eq!(place.documents("items").len(), 15);
        assert_eq!(
            place.fields("items/0007").unwrap()["n"],
            json!({ "integerValue": "107" })
        );
    });
}

#[test]
fn requests_wait_as_long_as_the_service_asks() {
    each_idempotent(|place| {
        let mut sink = place.prepared(&[&items()]);
        let slower = Failure::of(Code::ResourceExhausted).retry_after(Duration::from_millis(50));
        place.layer.script(
            place.method(),
            [
                Answer::refuse(slower).about("items"),
                Answer::refuse(Code::Aborted).about("items"),
                Answer::refuse(End::Reset).about("items"),
            ],
        );
        // Few, since the pace goes down to half with each of these answers.
        let fate = transact(&mut sink, &items(), &[some(5)], ConflictPolicy::Overwrite);
        assert_eq!(fate.accepted, 5);
        holds(place, 5, &[]);
        let counts = place.layer.counts();
        assert_eq!((counts.early, place.layer.left()), (0, 0));
        assert_eq!(counts.applied_below("items"), (5, 1));
    });
}

#[test]
fn what_does_not_pass_ends_the_transaction_and_the_session_can_go_on() {
    each_idempotent(|place| {
        let mut sink = place.prepared(&[&items()]);
        for (answer, kind, scope) in [
            (
                Answer::refuse(Code::Unavailable),
                ErrorKind::Unavailable,
                ErrorScope::Transaction,
            ),
            (
                Answer::refuse(Code::PermissionDenied),
                ErrorKind::Permission,
                ErrorScope::Session,
            ),
            (
                Answer::refuse(Code::Unauthenticated),
                ErrorKind::Unauthenticated,
                ErrorScope::Session,
            ),
        ] {
            place
                .layer
                .script(place.method(), [answer.always().about("items")]);
            sink.begin(&LaneId::default()).unwrap();
            let batch = batch_of(&items(), &some(20));
            assert_eq!(
                sink.write("items", &batch, ConflictPolicy::Overwrite)
                    .unwrap()
                    .deferred,
                20
            );
            let error = sink.flush().unwrap_err();
            assert_eq!((error.kind, error.scope), (kind, scope));
            let again = sink
                .write("items", &batch, ConflictPolicy::Overwrite)
                .unwrap_err();
            assert_eq!(again, error);
            assert_eq!(sink.flush().unwrap_err(), error);
            assert_eq!(sink.commit(&Checkpoint::default()).unwrap_err(), error);
            sink.abort().unwrap();
            assert!(place.documents("items").is_empty());
            place.layer.forget_script();
        }
        let fate = transact(&mut sink, &items(), &[some(20)], ConflictPolicy::Overwrite);
        assert_eq!(fate.accepted, 20);
        holds(place, 20, &[]);
    });
}

#[test]
fn requests_keep_to_their_limits_and_several_are_under_way() {
    for way in idempotent() {
        let settings = with(with(way, "writes_max", json!(30)), "bytes_max", json!(65_536));
        let Some(place) = Place::new(with(settings, "in_flight_max", json!(3))) else {
            return;
        };
        let mut long = items();
        long.schema.fields.push(Field::new("long", RecordType::Text));
        let records = |range: std::ops::Range<i64>| -> Vec<Record> {
            let long = |number: i64| {
                let mut record = item(number);
                let size = if number < 150 { 10 } else { 5_000 };
                record.insert("long".to_owned(), text(&"x".repeat(size)));
                record
            };
            range.map(long).collect()
        };
        let mut sink = place.prepared(&[&long]);
        place.layer.reset_counts();
        place.layer.script(
            place.method(),
            [Answer::Delay(Duration::from_secs(1)).times(3).about("items")],
        );
        let fate = transact(
            &mut sink,
            &long,
            &[records(0..100), records(100..300)],
            ConflictPolicy::Overwrite,
        );
        assert_eq!(fate.accepted, 300);
        holds(&place, 300, &[]);
        let counts = place.layer.counts();
        assert_eq!(
            (counts.request_writes_max, counts.in_flight_max),
            (30, 3),
            "{}",
            place.way()
        );
        assert!(counts.request_bytes_max <= 65_536, "{}", counts.request_bytes_max);
        assert_eq!(counts.sent_below("items"), (300, 1));
        // 150 small ones of 30, and of the others twelve fit at once.
        assert_eq!(place.requests().len(), 5 + 13, "{}", place.way());
    }
}

#[test]
fn a_document_is_never_under_way_twice_and_its_last_record_wins() {
    each_idempotent(|place| {
        let mut sink = place.prepared(&[&items()]);
        // Whoever would not wait would overtake.
        let slow = Answer::Delay(Duration::from_secs(1)).about("items/0003");
        place.layer.script(place.method(), [slow.times(1)]);
        let again = |number: i64, n: i64| {
            let mut record = item(number);
            record.insert("n".to_owned(), int(n));
            record
        };
        let writes = [
            vec![item(1), again(3, 30), item(2), again(3, 31), item(4)],
            vec![again(3, 32), item(5)],
            vec![again(3, 33), again(3, 3)],
        ];
        place.layer.reset_counts();
        let fate = transact(&mut sink, &items(), &writes, ConflictPolicy::Overwrite);
        assert_eq!(fate.accepted, 9);
        assert_eq!(
            place.fields("items/0003").unwrap()["n"],
            json!({ "integerValue": "3" })
        );
        let counts = place.layer.counts();
        assert_eq!((counts.applied("items/0003"), counts.in_flight_max), (5, 1));
    });
}

#[test]
fn after_an_abort_nothing_further_is_sent_and_another_transaction_can_begin() {
    let Some(place) = Place::new(with(
        with(idempotent()[0].clone(), "writes_max", json!(10)),
        "in_flight_max",
        json!(2),
    )) else {
        return;
    };
    let mut sink = place.prepared(&[&items()]);
    let state = taken(&mut sink, &LaneId::default());
    place.layer.reset_counts();
    place
        .layer
        .script(Method::BatchWrite, [Answer::refuse(Code::Unavailable).always()]);
    sink.begin(&LaneId::default()).unwrap();
    let batch = batch_of(&items(), &some(25));
    assert_eq!(
        sink.write("items", &batch, ConflictPolicy::Overwrite)
            .unwrap()
            .deferred,
        25
    );
    place.layer.wait_until("two requests came", |counts| {
        counts.calls(Method::BatchWrite) >= 2
    });
    sink.abort().unwrap();
    let calls = place.layer.counts().calls(Method::BatchWrite);
    place.layer.forget_script();
    sink.begin(&LaneId::default()).unwrap();
    let fate = written(&mut sink, &items(), &[some(5)], ConflictPolicy::Overwrite);
    assert_eq!(fate.accepted, 5);
    assert_eq!(
        sink.commit(&next(&state, 5)).unwrap(),
        Committed::Committed { seq: 1 }
    );
    holds(&place, 5, &[]);
    assert_eq!(place.layer.counts().calls(Method::BatchWrite), calls + 1);
}
