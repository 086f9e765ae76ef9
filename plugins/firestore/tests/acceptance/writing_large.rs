//! Transactions that do not fit into one request: when the host is asked to commit, and that each record is written once all the
//! same, also if the run ends between two requests of one commit.

use gcloud_sdk::tonic::Code;
use whimbrel_plugin_api::abi::sink::ForeignSink;
use whimbrel_plugin_api::acceptance::Record;
use whimbrel_plugin_api::record_type::{Field, RecordType};
use whimbrel_plugin_api::serde_json::json;
use whimbrel_plugin_api::sink::{Committed, LaneId, LaneState};
use whimbrel_plugin_api::{Collection, ConflictPolicy, Sink as _};

use crate::grpc_layer::{Answer, Method};
use crate::writing_place::{Fate, Place, batch_of, claim, int, keyed, next, record, taken, text, written};

fn items() -> Collection {
    let fields = vec![
        Field::required("__id__", RecordType::Text),
        Field::new("n", RecordType::INT64),
        Field::new("j", RecordType::Json),
        Field::new("pad", RecordType::Text),
    ];
    let mut items = keyed("items", fields);
    items.cursor_fields = vec!["n".to_owned()];
    items
}

fn item(number: i64, pad: usize) -> Record {
    record([
        ("__id__", text(&format!("{number:04}"))),
        ("n", int(number)),
        // Its members have no order on their way.
        ("j", text(r#"{"a":1,"b":[{"c":1,"d":2}],"e":null,"f":"x"}"#)),
        ("pad", text(&"x".repeat(pad))),
    ])
}

fn some(range: std::ops::Range<i64>) -> Vec<Record> {
    range.map(|number| item(number, 10)).collect()
}

fn begun(place: &Place) -> (ForeignSink, LaneState) {
    let mut sink = place.prepared(&[&items()]);
    let state = taken(&mut sink, &LaneId::default());
    (sink, state)
}

/// Begins and writes.
fn wrote(sink: &mut ForeignSink, records: Vec<Record>, policy: ConflictPolicy) -> Fate {
    sink.begin(&LaneId::default()).unwrap();
    written(sink, &items(), &[records], policy)
}

#[test]
fn a_commit_is_asked_for_before_the_next_write_might_not_fit() {
    let Some(place) = Place::new(json!({})) else {
        return;
    };
    let (mut sink, state) = begun(&place);
    for (writes, expected) in [
        (vec![some(0..100); 5], vec![false, false, false, true, true]),
        (vec![some(0..249); 2], vec![false, true]),
        (vec![some(0..500)], vec![true]),
        (
            vec![vec![item(0, 950_000)]; 4],
            // The emulator takes less than four of them.
            vec![false, false, true, true],
        ),
    ] {
        sink.begin(&state.lane).unwrap();
        let due = writes.into_iter().map(|records| {
            let batch = batch_of(&items(), &records);
            sink.write("items", &batch, ConflictPolicy::Overwrite)
                .unwrap()
                .commit_due
        });
        assert_eq!(due.collect::<Vec<_>>(), expected);
        sink.abort().unwrap();
    }
}

#[test]
fn more_than_one_request_holds_is_written_by_several_each_guarded() {
    for (settings, requests) in [
        (json!({}), 3),
        (json!({ "writes_max": 100 }), 14),
        (json!({ "writes_max": 1, "bytes_max": 65_536 }), 1_301),
    ] {
        let Some(place) = Place::new(settings.clone()) else {
            return;
        };
        // One record a request takes its time.
        let count = if requests > 1_000 { 50 } else { 1_300 };
        let (mut sink, state) = begun(&place);
        wrote(&mut sink, some(0..count), ConflictPolicy::Overwrite);
        place.layer.reset_counts();
        let mut checkpoint = next(&state, count.unsigned_abs());
        checkpoint.done = true;
        assert_eq!(sink.commit(&checkpoint).unwrap(), Committed::Committed { seq: 1 });
        let counts = place.layer.counts();
        assert_eq!(
            counts.applied_below("items"),
            (usize::try_from(count).unwrap(), 1)
        );
        let expected = if requests > 1_000 { 51 } else { requests };
        assert_eq!(counts.write_requests.len(), expected, "{settings}");
        let has_lane = |paths: &Vec<String>| paths.iter().any(|path| path.starts_with("_whimbrel/"));
        assert!(counts.write_requests.iter().all(has_lane));
        assert_eq!(
            taken(&mut sink, &state.lane),
            LaneState {
                epoch: 2,
                ..state.committed(&checkpoint).unwrap()
            }
        );
    }
}

#[test]
fn documents_that_are_larger_than_a_request_should_be_travel_alone() {
    let Some(place) = Place::new(json!({ "bytes_max": 65_536 })) else {
        return;
    };
    let (mut sink, state) = begun(&place);
    let records = (0..4).map(|number| item(number, if number % 2 == 0 { 10 } else { 500_000 }));
    wrote(&mut sink, records.collect(), ConflictPolicy::Overwrite);
    assert_eq!(
        sink.commit(&next(&state, 4)).unwrap(),
        Committed::Committed { seq: 1 }
    );
    assert_eq!(place.layer.counts().applied_below("items"), (4, 1));
}

#[test]
fn a_commit_that_broke_off_in_the_middle_goes_on_there() {
    let Some(place) = Place::new(json!({ "writes_max": 100 })) else {
        return;
    };
    for policy in [
        ConflictPolicy::Overwrite,
        ConflictPolicy::Merge,
        ConflictPolicy::Skip,
        ConflictPolicy::Fail,
        ConflictPolicy::KeepNewest,
    ] {
        place.emulator.clear(&place.project);
        let (mut old, state) = begun(&place);
        wrote(&mut old, some(0..400), policy);
        place.layer.reset_counts();
        place.layer.script(
            Method::Commit,
            [
                Answer::Forward.times(1),
                Answer::lose(Code::Unavailable).times(1),
                Answer::refuse(Code::PermissionDenied).times(1),
            ],
        );
        assert!(old.commit(&next(&state, 400)).is_err());
        assert_eq!(place.documents("items").len(), 198);
        // The other run takes over, with other sizes of writes; the old one is late.
        let mut new = place.prepared(&[&items()]);
        let taken_over = taken(&mut new, &state.lane);
        assert_eq!((taken_over.seq, taken_over.cursor.is_start()), (0, true));
        old.abort().unwrap();
        wrote(&mut old, some(0..400), policy);
        assert_eq!(old.commit(&next(&state, 400)).unwrap(), Committed::Fenced);
        new.begin(&state.lane).unwrap();
        let writes = [some(0..150), some(150..400)];
        let fate = written(&mut new, &items(), &writes, policy);
        assert_eq!(
            (fate.accepted, fate.skipped, fate.codes()),
            (400, 0, vec![]),
            "{policy:?}"
        );
        assert_eq!(
            new.commit(&next(&taken_over, 400)).unwrap(),
            Committed::Committed { seq: 1 }
        );
        assert_eq!(
            place.layer.counts().applied_below("items"),
            (400, 1),
            "{policy:?}"
        );
        assert_eq!(place.layer.left(), 0);
    }
}

#[test]
fn records_that_changed_after_a_commit_broke_off_are_written_as_they_are_then() {
    let Some(place) = Place::new(json!({ "writes_max": 100 })) else {
        return;
    };
    let (mut sink, state) = begun(&place);
    wrote(&mut sink, some(0..300), ConflictPolicy::Overwrite);
    let refused = Answer::refuse(Code::PermissionDenied);
    place
        .layer
        .script(Method::Commit, [Answer::Forward.into(), refused.times(1)]);
    assert!(sink.commit(&next(&state, 300)).is_err());
    sink.abort().unwrap();
    let mut records = some(0..300);
    records[7].insert("n".to_owned(), int(-7));
    wrote(&mut sink, records, ConflictPolicy::Overwrite);
    assert_eq!(
        sink.commit(&next(&state, 300)).unwrap(),
        Committed::Committed { seq: 1 }
    );
    assert_eq!(
        place.fields("items/0007").unwrap()["n"],
        json!({ "integerValue": "-7" })
    );
    assert_eq!(place.documents("items").len(), 300);
    // A lane that starts anew knows nothing of it.
    let anew = whimbrel_plugin_api::sink::LaneClaim {
        begun_by: "run 2".to_owned(),
        ..claim(&state.lane)
    };
    assert_eq!(sink.take_over(&[anew]).unwrap()[0].seq, 0);
}
