//! The fields of a collection: from its documents, and from what a sink has remembered of it.
//! Neighbour: `on_emulator`, which makes the databases. Not here: what requests are sent (`tests/acceptance`).

use serde_json::{Value as Json, json};
use whimbrel_plugin_api::{Field, RecordType};

use super::{Bench, fields, integer, names, remembered, text};
use crate::memory;

#[test]
fn fields_have_the_narrowest_types_that_hold_all_of_them() {
    let Some(bench) = Bench::new() else { return };
    let none = json!({ "nullValue": "NULL_VALUE" });
    let list = |values: &[Json]| json!({ "arrayValue": { "values": values } });
    bench.put(
        "c/1",
        json!({ "mixed": integer(1), "number": integer(1), "nothing": none, "empty": list(&[]), "maybe": none,
            "list": list(&[]), "map": { "mapValue": { "fields": { "a": integer(1) } } } }),
    );
    bench.put(
        "c/2",
        json!({ "mixed": text("x"), "number": { "doubleValue": 1.5 }, "nothing": none, "empty": list(&[]),
            "maybe": text(""), "list": list(&[integer(1), none.clone()]), "map": { "mapValue": {} }, "Twin": integer(1), "twin": text("") }),
    );
    let read_time = bench.put(
        "c/3",
        json!({ "mixed": { "booleanValue": true }, "number": integer(2), "nothing": none, "empty": list(&[]),
            "maybe": none, "list": list(&[integer(2)]), "map": { "mapValue": {} }, "late": integer(1) }),
    );
    let found = bench.all(read_time).remove(0);
    let expected = [
        "__id__: text",
        "empty: variant",
        "list: list(int64)",
        "map: variant",
        "maybe: text?",
        "mixed: variant",
        "nothing: variant?",
        "number: numeric",
        "Twin: int64?",
        "twin: text?",
        "late: int64?",
    ];
    assert_eq!(fields(&found), expected);
    assert!(found.schema.presence);
    found.schema.validate().unwrap();
    // A null is no lack: without the fields that some documents lack there is no presence.
    bench.put_all(["c/2", "c/3"].map(str::to_owned), &json!({ "a": none }));
    let read_time = bench.put("c/1", json!({ "a": integer(1) }));
    let found = bench.all(read_time).remove(0);
    assert_eq!(fields(&found), ["__id__: text", "a: int64?"]);
    assert!(!found.schema.presence);
}

#[test]
fn what_cannot_be_columns_is_refused_by_name() {
    let Some(bench) = Bench::new() else { return };
    bench.put("fine/1", json!({ "a": integer(1) }));
    let read_time = bench.put("odd/1", json!({ "__presence": integer(1) }));
    let error = bench.ask(&[], true, read_time).unwrap_err();
    assert_eq!(error.code, "firestore.reserved_field");
    assert!(error.message.contains("`odd`"), "{error}");
    assert_eq!(bench.named("fine", read_time).record_count, Some(1));
    assert_eq!(names(&bench.ask(&[], false, read_time).unwrap()), ["fine", "odd"]);
}

#[test]
fn what_a_sink_remembers_is_read_while_it_fits() {
    let Some(bench) = Bench::new() else { return };
    let own = remembered(
        vec![
            Field::required("id", RecordType::INT64),
            Field::new("day", RecordType::Date),
            Field::new("note", RecordType::Text),
        ],
        &["id"],
    );
    let other = remembered(vec![Field::new("day", RecordType::Uuid)], &["gone"]);
    bench.run(memory::store(&bench.client, "events", &own));
    bench.run(memory::store(&bench.client, "b/*/c", &other));
    let named = [
        "events".to_owned(),
        "nothing".to_owned(),
        "b/*/c".to_owned(),
        "events".to_owned(),
    ];
    let loaded = bench.run(memory::load(&bench.client, &named, None));
    assert_eq!(loaded.len(), 2);
    assert_eq!((&loaded["events"], &loaded["b/*/c"]), (&own, &other));

    let document = |id: i64, day: &str| json!({ "note": text("x"), "day": text(day), "id": integer(id), "extra": integer(1) });
    bench.put("events/1", document(1, "2024-02-29"));
    bench.put("b/1/c/1", json!({ "day": integer(1) }));
    let read_time = bench.put("events/2", document(2, "1999-12-31"));
    let expected = ["id: int64", "day: date?", "note: text?", "extra: int64"];
    for found in [&bench.all(read_time)[1], &bench.named("events", read_time)] {
        assert_eq!(fields(found), expected);
        assert_eq!(found.key, ["id"]);
        assert!(!found.schema.presence);
    }
    let nested = &bench.all(read_time)[0];
    assert_eq!(fields(nested), ["__b_id__: text", "__id__: text", "day: int64"]);
    assert_eq!(nested.key, ["__b_id__", "__id__"]);
    // The documents of whimbrel's own are read with all others, and are none of the answer.
    assert_eq!(names(&bench.all(read_time)), ["b/*/c", "events"]);
    assert_eq!(
        bench.all(read_time).iter().map(|found| found.reads).sum::<u64>(),
        5
    );
    assert!(
        bench
            .ask(&["_whimbrel", "**/_whimbrel"], true, read_time)
            .unwrap()
            .is_empty()
    );

    // Somebody else writes: the key no longer holds, nor does the day.
    let read_time = bench.put(
        "events/3",
        json!({ "day": integer(7), "id": { "nullValue": "NULL_VALUE" } }),
    );
    let found = bench.named("events", read_time);
    assert_eq!(found.key, ["__id__"]);
    assert_eq!(
        fields(&found),
        [
            "__id__: text",
            "id: int64?",
            "day: variant",
            "note: text?",
            "extra: int64?"
        ]
    );
    assert!(found.schema.presence);

    bench.run(memory::forget(&bench.client, &named));
    assert!(bench.run(memory::load(&bench.client, &named, None)).is_empty());
}
