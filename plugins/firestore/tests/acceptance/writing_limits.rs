//! What cannot be stored is rejected before it is sent, with the reason, and what just can is stored: the limits as the emulator has
//! them.

use whimbrel_plugin_api::acceptance::{Record, Value};
use whimbrel_plugin_api::record_type::{Field, RecordType};
use whimbrel_plugin_api::{Collection, ConflictPolicy};

use crate::writing_place::{each, keyed, record, text};

fn things() -> Collection {
    let fields = vec![
        Field::required("__id__", RecordType::Text),
        Field::new("t", RecordType::Text),
        Field::new("b", RecordType::Bytes),
        Field::new("j", RecordType::Json),
        Field::new("v", RecordType::Vector),
    ];
    let mut things = keyed("things", fields);
    things.schema.presence = true;
    things
}

fn thing(id: &str, field: &str, value: Value) -> Record {
    let mut thing = record([
        ("__id__", text(id)),
        ("t", Value::Absent),
        ("b", Value::Absent),
        ("j", Value::Absent),
        ("v", Value::Absent),
    ]);
    thing.insert(field.to_owned(), value);
    thing
}

fn nested(levels: usize, inner: &str) -> Value {
    let json = format!("{}{inner}{}", r#"{"a":"#.repeat(levels), "}".repeat(levels));
    text(&json)
}

/// Two texts that together make a document of `size` octets with the id `s`.
fn sized(size: usize) -> Record {
    // The name has 7 + 2 + 16, the document 32; each field has its name and one more, and so has each text.
    let rest = size - (25 + 32 + 2 * 2 + 2) - 500_000;
    let mut thing = thing("s", "t", text(&"x".repeat(500_000)));
    thing.insert("j".to_owned(), text(&format!("\"{}\"", "y".repeat(rest))));
    thing
}

#[test]
fn a_document_of_one_mebibyte_is_stored_and_one_octet_more_is_rejected() {
    each(|place| {
        for (size, codes) in [
            (1_048_576, vec![]),
            (1_048_577, vec![(0, "firestore.document_too_large")]),
        ] {
            place.emulator.clear(&place.project);
            let fate = place.write(&things(), &[vec![sized(size)]], ConflictPolicy::Overwrite);
            assert_eq!(fate.codes(), codes, "{size}");
            let sent = usize::from(codes.is_empty());
            assert_eq!(place.layer.counts().sent_below("things").0, sent, "{size}");
            assert_eq!(place.documents("things").len(), sent, "{size}");
        }
        for (size, codes) in [
            (1_048_487, vec![]),
            (1_048_488, vec![(0, "firestore.document_too_large")]),
        ] {
            let bytes = Value::Bytes(vec![7; size]);
            let fate = place.write(
                &things(),
                &[vec![thing("b", "b", bytes)]],
                ConflictPolicy::Overwrite,
            );
            assert_eq!(fate.codes(), codes, "{size}");
        }
    });
}

#[test]
fn what_cannot_be_stored_is_rejected_before_it_is_sent_and_the_others_are_written() {
    each(|place| {
        let plain = |id: &str| thing(id, "t", text("x"));
        let json = |id: &str, json: &str| thing(id, "j", text(json));
        let numbers = |count: usize| Value::List(vec![Value::float(0.5); count]);
        let long = |size: usize| "i".repeat(size);
        let cases = [
            (plain("good"), ""),
            (plain(&long(1_500)), ""),
            (plain(&long(1_501)), "firestore.bad_id"),
            (plain(""), "firestore.bad_id"),
            (plain("."), "firestore.bad_id"),
            (plain(".."), "firestore.bad_id"),
            (plain("a/b"), "firestore.bad_id"),
            (plain("__x__"), "firestore.bad_id"),
            (plain("__x"), ""),
            (thing("depth 20", "j", nested(20, "1")), ""),
            (thing("depth 21", "j", nested(21, "1")), "firestore.too_deep"),
            (json("array in array", "[[1]]"), "firestore.array_in_array"),
            (json("array in map in array", r#"[{"a":[1]}]"#), ""),
            (json("empty key", r#"{"":1}"#), "firestore.bad_field_name"),
            (
                json("reserved", r#"{"a":[{"__b__":1}]}"#),
                "firestore.bad_field_name",
            ),
            (json("nearly reserved", r#"{"__b":1,"b__":2,"___":3}"#), ""),
            (
                json("path 1500", &format!(r#"{{"{}":1}}"#, "n".repeat(1_498))),
                "",
            ),
            (
                json("path 1501", &format!(r#"{{"{}":1}}"#, "n".repeat(1_499))),
                "firestore.bad_field_name",
            ),
            (thing("vector 2048", "v", numbers(2_048)), ""),
            (thing("vector 2049", "v", numbers(2_049)), "firestore.bad_value"),
            (plain("last"), ""),
        ];
        let expected: Vec<(u64, &str)> = cases
            .iter()
            .enumerate()
            .filter(|(_, (_, code))| !code.is_empty())
            .map(|(row, (_, code))| (row as u64, *code))
            .collect();
        let records: Vec<Record> = cases.iter().map(|(record, _)| record.clone()).collect();
        let good = cases.len() - expected.len();
        let fate = place.write(&things(), &[records], ConflictPolicy::Overwrite);
        assert_eq!(fate.codes(), expected);
        assert_eq!(fate.accepted, good as u64);
        assert_eq!(place.documents("things").len(), good);
        let sent = place.layer.counts().sent_below("things");
        assert_eq!((sent, place.requests().len()), ((good, 1), 1));
    });
}
