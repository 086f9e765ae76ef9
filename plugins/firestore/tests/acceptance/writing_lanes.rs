//! Lanes: who may write is decided by the documents that keep them, in both guarantees, and whoever was replaced writes nothing.
//! Neighbour: `writing_once` for the records that a commit brings along.

use std::collections::HashMap;

use gcloud_sdk::tonic::Code;
use whimbrel_plugin_api::acceptance::Record;
use whimbrel_plugin_api::collection::CollectionsRequest;
use whimbrel_plugin_api::record_type::{Field, RecordType};
use whimbrel_plugin_api::serde_json::{Value as Json, json};
use whimbrel_plugin_api::sink::{Checkpoint, Committed, LaneClaim, LaneId, LaneState};
use whimbrel_plugin_api::{Collection, ConflictPolicy, Cursor, ErrorKind, Sink as _};

use crate::grpc_layer::{Answer, End, Method};
use crate::writing_place::{
    Place, claim, each, idempotent, int, keyed, next, record, taken, text, transact, written,
};

fn items() -> Collection {
    let fields = vec![
        Field::required("__id__", RecordType::Text),
        Field::new("n", RecordType::INT64),
    ];
    keyed("items", fields)
}

fn item(number: i64) -> Record {
    record([("__id__", text(&format!("{number:04}"))), ("n", int(number))])
}

fn lane(name: &str) -> LaneId {
    LaneId {
        job: "a job".to_owned(),
        source: "a source".to_owned(),
        collection: name.to_owned(),
        partition: Cursor(vec![0, 255, 1]),
    }
}

/// The documents of lanes.
fn documents(place: &Place) -> Vec<Json> {
    let found = place.documents("_whimbrel").into_iter();
    let lanes = found.filter(|(path, _)| path.starts_with("_whimbrel/lane:"));
    lanes.map(|(_, fields)| fields).collect()
}

/// One step of a random history, on the sink and by the rules.
fn step(place: &Place, sink: &mut impl whimbrel_plugin_api::Sink, model: &mut HashMap<LaneId, LaneState>) {
    let any = |choices: &[&str]| choices[fastrand::usize(..choices.len())].to_owned();
    let id = lane(&any(&["a", "b", "c"]));
    let stored = model.get(&id).cloned();
    let epoch = stored.as_ref().map_or(0, |state| state.epoch);
    if fastrand::bool() {
        let claim = LaneClaim {
            lane: id.clone(),
            begun_by: any(&["", "run 1", "run 2"]),
            held: [None, Some(epoch), Some(epoch + 1)][fastrand::usize(..3)],
        };
        let expected = LaneState::taken_over(stored.as_ref(), &claim);
        match sink.take_over(&[claim]) {
            Ok(states) => {
                assert_eq!(states, [expected.unwrap()]);
                model.insert(id, states[0].clone());
            }
            Err(error) => assert_eq!(error, expected.unwrap_err()),
        }
        return;
    }
    let mut state = stored.clone().unwrap_or_else(|| LaneState::unknown(id.clone()));
    state.epoch += u64::from(fastrand::u8(..4) == 0);
    state.seq += u64::from(fastrand::u8(..4) == 0);
    let mut checkpoint = next(&state, fastrand::u64(..9));
    checkpoint.done = fastrand::bool();
    checkpoint.extensions = [("digest`.".to_owned(), any(&["", "\u{0}\"ü"]))].into();
    let expected = stored.and_then(|stored| stored.committed(&checkpoint));
    sink.begin(&id).unwrap();
    let number = fastrand::i64(..1_000);
    let batch = crate::writing_place::batch_of(&items(), &[item(number)]);
    place.layer.reset_counts();
    sink.write("items", &batch, ConflictPolicy::Overwrite).unwrap();
    sink.flush().unwrap();
    let outcome = sink.commit(&checkpoint).unwrap();
    let applied = place.layer.counts().applied(&format!("items/{number:04}"));
    match expected {
        Some(state) => {
            assert_eq!((outcome, applied), (Committed::Committed { seq: state.seq }, 1));
            model.insert(id, state);
        }
        None => {
            assert_eq!(outcome, Committed::Fenced);
            let is_sent_at_once = place.writing["guarantee"] == "idempotent";
            assert_eq!(applied, u64::from(is_sent_at_once));
        }
    }
}

#[test]
fn lanes_follow_the_rules_whatever_session_asks() {
    each(|place| {
        let given = std::env::var("WHIMBREL_SEED").ok();
        let seed = given.map_or_else(|| fastrand::u64(..), |seed| seed.parse().unwrap());
        println!("WHIMBREL_SEED={seed}");
        fastrand::seed(seed);
        let mut model = HashMap::new();
        let mut sessions = [place.prepared(&[&items()]), place.prepared(&[&items()])];
        for _ in 0..60 {
            let session = fastrand::usize(..2);
            step(place, &mut sessions[session], &mut model);
        }
        for (id, state) in &model {
            let expected = LaneState {
                epoch: state.epoch + 1,
                ..state.clone()
            };
            assert_eq!(taken(&mut sessions[0], id), expected);
        }
        assert_eq!(documents(place).len(), model.len());
    });
}

#[test]
fn all_claims_of_a_call_are_granted_or_none() {
    each(|place| {
        let mut sink = place.sink();
        let first = taken(&mut sink, &lane("a"));
        let stale = LaneClaim {
            held: Some(7),
            ..claim(&lane("a"))
        };
        let error = sink.take_over(&[claim(&lane("b")), stale]).unwrap_err();
        assert_eq!(
            (error.kind, error.code.as_str()),
            (ErrorKind::Integrity, "run.fenced")
        );
        assert_eq!(documents(place).len(), 1);
        let held = LaneClaim {
            held: Some(first.epoch),
            ..claim(&lane("a"))
        };
        let states = sink.take_over(&[held, claim(&lane("b"))]).unwrap();
        assert_eq!(states.iter().map(|state| state.epoch).collect::<Vec<_>>(), [2, 1]);
        // The same lane twice is granted once.
        let states = sink.take_over(&[claim(&lane("a")), claim(&lane("a"))]).unwrap();
        assert_eq!((states[0].epoch, &states[0]), (3, &states[1]));
        assert!(sink.take_over(&[]).unwrap().is_empty());
    });
}

#[test]
fn whoever_was_replaced_commits_nothing() {
    each(|place| {
        let is_kept = place.writing["guarantee"] == "exactly_once";
        for is_replaced_before_writing in [false, true] {
            place.emulator.clear(&place.project);
            let mut old = place.prepared(&[&items()]);
            let state = taken(&mut old, &lane("a"));
            if is_replaced_before_writing {
                taken(&mut place.sink(), &lane("a"));
            }
            old.begin(&state.lane).unwrap();
            let records: Vec<Record> = (0..20).map(item).collect();
            written(&mut old, &items(), &[records], ConflictPolicy::Overwrite);
            let before = match is_replaced_before_writing {
                true => documents(place),
                false => {
                    taken(&mut place.sink(), &lane("a"));
                    documents(place)
                }
            };
            assert_eq!(old.commit(&next(&state, 20)).unwrap(), Committed::Fenced);
            assert_eq!(place.documents("items").len(), if is_kept { 0 } else { 20 });
            assert_eq!(documents(place), before);
            old.abort().unwrap();
            assert_eq!(taken(&mut old, &lane("a")).seq, 0);
        }
    });
}

#[test]
fn a_lane_that_nobody_took_over_is_nobodys() {
    each(|place| {
        let mut sink = place.prepared(&[&items()]);
        sink.begin(&LaneId::default()).unwrap();
        assert_eq!(sink.commit(&Checkpoint::default()).unwrap(), Committed::Fenced);
        assert!(documents(place).is_empty());
    });
}

#[test]
fn sessions_of_a_run_write_lanes_that_one_of_them_took_over() {
    each(|place| {
        let mut first = place.prepared(&[&items()]);
        let mut second = place.prepared(&[&items()]);
        let mut state = taken(&mut first, &lane("a"));
        for number in 0..6 {
            let sink = if number % 2 == 0 { &mut second } else { &mut first };
            sink.begin(&state.lane).unwrap();
            written(sink, &items(), &[vec![item(number)]], ConflictPolicy::Overwrite);
            let checkpoint = next(&state, 1);
            let seq = state.seq + 1;
            assert_eq!(sink.commit(&checkpoint).unwrap(), Committed::Committed { seq });
            state = state.committed(&checkpoint).unwrap();
            if number == 3 {
                // What the other one knows is out of date then.
                state = taken(&mut first, &lane("a"));
            }
        }
        assert_eq!((state.epoch, state.seq, state.record_count), (2, 6, 6));
        assert_eq!(place.documents("items").len(), 6);
        assert_eq!(place.layer.counts().applied_below("items"), (6, 1));
    });
}

#[test]
fn many_lanes_are_taken_over_by_few_requests() {
    let Some(place) = Place::new(json!({})) else {
        return;
    };
    let claims: Vec<LaneClaim> = (0..1_200)
        .map(|number| claim(&lane(&number.to_string())))
        .collect();
    for epoch in 1..=2 {
        place.layer.reset_counts();
        let states = place.sink().take_over(&claims).unwrap();
        assert!(
            states
                .iter()
                .zip(&claims)
                .all(|(state, claim)| state.lane == claim.lane)
        );
        assert!(states.iter().all(|state| state.epoch == epoch && state.seq == 0));
        let counts = place.layer.counts();
        assert_eq!(
            (
                counts.calls(Method::Commit),
                counts.calls(Method::BatchGetDocuments)
            ),
            (3, 4)
        );
    }
    assert_eq!(documents(&place).len(), 1_200);
}

#[test]
fn a_cursor_may_be_longer_than_a_document() {
    each(|place| {
        let mut sink = place.prepared(&[&items()]);
        let mut state = taken(&mut sink, &lane(""));
        for (size, pages) in [
            (2_500_000, 3),
            (400_000, 0),
            (1_000_000, 2),
            (1_700_000, 2),
            (0, 0),
        ] {
            let cursor = Cursor((0..size).map(|number: u32| number.to_le_bytes()[0] ^ 7).collect());
            sink.begin(&state.lane).unwrap();
            let checkpoint = Checkpoint {
                cursor: cursor.clone(),
                done: size == 0,
                ..next(&state, 0)
            };
            let seq = state.seq + 1;
            assert_eq!(sink.commit(&checkpoint).unwrap(), Committed::Committed { seq });
            state = taken(&mut place.sink(), &lane(""));
            assert!(state.cursor == cursor && state.done == (size == 0), "{size}");
            assert_eq!(documents(place).len(), 1 + pages, "{size}");
        }
        // What one request has no room for.
        let checkpoint = Checkpoint {
            cursor: Cursor(vec![7; 4_000_000]),
            ..next(&state, 0)
        };
        sink.begin(&state.lane).unwrap();
        let error = sink.commit(&checkpoint).unwrap_err();
        assert_eq!(
            (error.kind, error.code.as_str()),
            (ErrorKind::Unsupported, "firestore.checkpoint_too_large")
        );
        sink.abort().unwrap();
        // A lane that starts anew leaves nothing of the old one.
        let checkpoint = Checkpoint {
            cursor: Cursor(vec![7; 2_000_000]),
            ..next(&state, 0)
        };
        sink.begin(&state.lane).unwrap();
        sink.commit(&checkpoint).unwrap();
        assert_eq!(documents(place).len(), 4);
        let anew = LaneClaim {
            begun_by: "run 2".to_owned(),
            ..claim(&lane(""))
        };
        let states = place.sink().take_over(&[anew]).unwrap();
        assert!(states[0].cursor.is_start() && states[0].seq == 0 && states[0].epoch == state.epoch + 1);
        assert_eq!(documents(place).len(), 1);
        let found = sink.reader().unwrap().collections(&CollectionsRequest::default());
        assert!(found.unwrap().is_empty());
    });
}

#[test]
fn taking_over_is_done_once_whatever_becomes_of_its_answer() {
    each(|place| {
        let mut sink = place.sink();
        let mut state = taken(&mut sink, &lane("a"));
        for answer in [
            Answer::lose(Code::Unavailable),
            Answer::lose(Code::DeadlineExceeded),
            Answer::lose(End::Closed),
            Answer::refuse(Code::Aborted),
            Answer::refuse(Code::Unavailable),
            Answer::refuse(End::Reset),
            Answer::refuse(Code::FailedPrecondition),
        ] {
            let shown = format!("{answer:?}");
            place.layer.script(Method::Commit, [answer]);
            let held = LaneClaim {
                held: Some(state.epoch),
                ..claim(&lane("a"))
            };
            let states = sink.take_over(&[held, claim(&lane(&shown))]).unwrap();
            assert_eq!(
                (states[0].epoch, states[1].epoch),
                (state.epoch + 1, 1),
                "{shown}"
            );
            state = states[0].clone();
            assert_eq!(place.layer.left(), 0, "{shown}");
        }
        let (_, times) = place.layer.counts().applied_below("_whimbrel");
        assert_eq!(times, state.epoch);
        // The lane can be written by whoever took it over.
        sink.begin(&state.lane).unwrap();
        assert_eq!(
            sink.commit(&next(&state, 0)).unwrap(),
            Committed::Committed { seq: 1 }
        );
    });
}

#[test]
fn a_checkpoint_that_somebody_changed_is_not_believed() {
    let Some(place) = Place::new(idempotent()[0].clone()) else {
        return;
    };
    let mut sink = place.prepared(&[&items()]);
    transact(&mut sink, &items(), &[vec![item(1)]], ConflictPolicy::Overwrite);
    let documents = place.documents("_whimbrel");
    let path = documents.keys().next().unwrap();
    place.put(&[(path, json!({ "seq": { "integerValue": "1" } }))]);
    let error = place.sink().take_over(&[claim(&LaneId::default())]).unwrap_err();
    assert_eq!(
        (error.kind, error.code.as_str()),
        (ErrorKind::Integrity, "firestore.bad_checkpoint")
    );
    assert!(error.message.contains(path) && error.help.is_some());
}
