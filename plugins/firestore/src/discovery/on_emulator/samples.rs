//! Bounds of a collection, and what a sample of it knows.
//! Neighbour: `on_emulator`, which makes the databases. Not here: what requests are sent (`tests/acceptance`).

use serde_json::json;
use whimbrel_plugin_api::{Field, RecordType};

use super::super::grow;
use super::{Bench, fields, integer, is_complete, names, remembered, text};
use crate::memory;
use crate::path::Pattern;

#[test]
fn bounds_divide_a_collection_evenly() {
    let Some(bench) = Bench::with(json!({ "page_documents_max": 400 })) else {
        return;
    };
    let mut paths: Vec<String> = (0..1_300)
        .map(|number| format!("many/{:04}", number * 7 % 1_300))
        .collect();
    paths.extend((0..600).map(|number| format!("many/0000/below/{number:03}")));
    let read_time = bench.put_all(paths, &json!({}));
    let by_scan = bench.all(read_time);
    assert_eq!(names(&by_scan), ["many", "many/*/below"]);
    for found in [&by_scan[0], &bench.named("many", read_time)] {
        let expected: Vec<String> = (1..=324).map(|part| format!("many/{:04}", part * 4)).collect();
        assert_eq!(found.bounds, expected);
    }
    assert_eq!(by_scan[1].bounds.len(), 299);
    assert_eq!(by_scan[1].bounds[0], "many/0000/below/002");
    // 1,300 and 600 in pages of 400.
    assert_eq!((by_scan[0].read_units, by_scan[0].count_units), (1_300, 2));
    assert_eq!((by_scan[1].read_units, by_scan[1].count_units), (600, 1));
    assert_eq!(by_scan.iter().map(|found| found.reads).sum::<u64>(), 1_900);
    assert!(by_scan[0].size_bytes.unwrap() > 1_300 * 50);
}

#[test]
fn a_sample_looks_at_no_more_than_it_says() {
    let Some(bench) = Bench::with(json!({ "inference": { "sample": 5 } })) else {
        return;
    };
    bench.put_all(
        (0..12).map(|number| format!("c/{number:02}")),
        &json!({ "a": integer(1) }),
    );
    bench.put_all(
        (0..3).map(|number| format!("few/{number}")),
        &json!({ "a": integer(1) }),
    );
    let read_time = bench.put_all(
        (0..5).map(|number| format!("five/{number}")),
        &json!({ "a": integer(1) }),
    );
    let found = bench.named("c", read_time);
    assert_eq!(fields(&found), ["__id__: text", "a: int64?"]);
    assert!(found.schema.presence && !is_complete(&found));
    assert_eq!((found.record_count, found.is_count_exact), (Some(12), true));
    assert_eq!((found.size_bytes, found.bounds.len()), (None, 0));
    // Five documents, a count, and what is remembered.
    assert_eq!((found.reads, found.read_units), (7, 12));
    for (name, records, reads) in [("few", 3, 4), ("five", 5, 7)] {
        let found = bench.named(name, read_time);
        assert!(is_complete(&found), "{name}");
        assert_eq!(fields(&found), ["__id__: text", "a: int64"], "{name}");
        assert_eq!(
            (found.record_count, found.reads),
            (Some(records), reads),
            "{name}"
        );
        assert!(!found.schema.presence, "{name}");
    }
    // To find all of them, all documents are read, and so nothing is unknown.
    let all = bench.all(read_time);
    assert!(all.iter().all(is_complete));
    assert_eq!(all.iter().map(|found| found.reads).sum::<u64>(), 20);
}

#[test]
fn a_sample_of_a_nested_collection_knows_its_number_only_if_nothing_else_is_met() {
    let Some(bench) = Bench::with(json!({ "inference": { "sample": 5 } })) else {
        return;
    };
    let alone = (0..5).map(|number| format!("a/x/orders/{number}"));
    let many = (0..9).map(|number| format!("b/x/orders/{number}"));
    let shared = (0..5).map(|number| format!("c/x/orders/{number}"));
    let other = ["c/y/z/z/orders/1".to_owned()];
    let read_time = bench.put_all(alone.chain(many).chain(shared).chain(other), &json!({}));
    let seen: Vec<_> = ["a", "b", "c"]
        .iter()
        .map(|root| {
            let found = bench.named(&format!("{root}/*/orders"), read_time);
            let count = (found.record_count.unwrap(), found.is_count_exact);
            (is_complete(&found), count, found.read_units, found.count_units)
        })
        .collect();
    let expected = [
        (true, (5, true), 5, 1),
        (false, (9, false), 9, 0),
        (false, (6, false), 6, 0),
    ];
    assert_eq!(seen, expected);
}

#[test]
fn a_sample_believes_what_is_remembered_while_it_fits() {
    let Some(bench) = Bench::with(json!({ "inference": { "sample": 2 } })) else {
        return;
    };
    let own = remembered(
        vec![
            Field::required("id", RecordType::INT64),
            Field::required("day", RecordType::Date),
        ],
        &["id"],
    );
    bench.run(memory::store(&bench.client, "events", &own));
    let document = |id: i64| json!({ "day": text("2024-02-29"), "id": integer(id) });
    for id in 1..4 {
        bench.put(&format!("events/{id}"), document(id));
    }
    let read_time = bench.put("events/4", document(4));
    let found = bench.named("events", read_time);
    assert_eq!(fields(&found), ["id: int64", "day: date"]);
    assert!(!is_complete(&found) && !found.schema.presence);
    // Another one has more: what the rest has is not known.
    let read_time = bench.put(
        "events/0",
        json!({ "day": text("2024-02-29"), "id": integer(0), "more": integer(0) }),
    );
    let found = bench.named("events", read_time);
    assert_eq!(fields(&found), ["id: int64", "day: date", "more: int64?"]);
    assert!(found.schema.presence);
}

#[test]
fn fields_that_a_sample_lacks_are_found_with_types_that_all_fit() {
    let Some(bench) = Bench::with(json!({ "inference": { "sample": 1 } })) else {
        return;
    };
    bench.put("c/1", json!({ "a": integer(1) }));
    bench.put("c/2", json!({ "b": integer(1), "z": integer(1) }));
    bench.put("c/3", json!({ "b": { "doubleValue": 1.5 }, "c": text("") }));
    let read_time = bench.put("c/4", json!({ "a": integer(2) }));
    let found = bench.named("c", read_time);
    assert_eq!(fields(&found), ["__id__: text", "a: int64?"]);
    let pattern = Pattern::parse("c").unwrap();
    let grown = |schema| {
        bench.run(grow(
            &bench.client,
            &bench.config,
            &bench.services,
            &pattern,
            schema,
            Some(read_time),
        ))
    };
    let schema = grown(&found.schema);
    assert_eq!((schema.version, schema.presence), (1, true));
    let added: Vec<_> = schema.fields[2..]
        .iter()
        .map(|field| format!("{}: {}", field.name, field.record_type))
        .collect();
    assert_eq!(added, ["b: numeric", "z: int64", "c: text"]);
    assert!(schema.fields[2..].iter().all(|field| field.nullable));
    // Again there is nothing to add.
    assert_eq!(grown(&schema), schema);
}
