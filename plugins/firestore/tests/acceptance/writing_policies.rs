//! What becomes of records whose document is there already, or comes twice: each policy against a table of expected documents, in
//! all ways to write.

use whimbrel_plugin_api::acceptance::{Record, Value};
use whimbrel_plugin_api::record_type::{Field, RecordType};
use whimbrel_plugin_api::serde_json::{Value as Json, json};
use whimbrel_plugin_api::sink::LaneId;
use whimbrel_plugin_api::{Collection, ConflictPolicy, ErrorKind, Sink as _};

use crate::writing_place::{Fate, Place, batch_of, each, int, keyed, record, text, ways, with};

/// `items`: id (key), v (version), a, and b that records may lack.
fn items() -> Collection {
    let fields = vec![
        Field::required("__id__", RecordType::Text),
        Field::new("v", RecordType::INT64),
        Field::new("a", RecordType::Text),
        Field::new("b", RecordType::Text),
    ];
    let mut items = keyed("items", fields);
    items.schema.presence = true;
    items.cursor_fields = vec!["v".to_owned()];
    items
}

fn item(id: &str, v: Option<i64>, a: &str) -> Record {
    record([
        ("__id__", text(id)),
        ("v", v.map_or(Value::Null, int)),
        ("a", text(a)),
        ("b", Value::Absent),
    ])
}

fn put_stored(place: &Place) {
    let stored = |v: Option<i64>, a: &str| {
        let v = v.map_or(
            json!({ "nullValue": null }),
            |v| json!({ "integerValue": v.to_string() }),
        );
        json!({ "v": v, "a": { "stringValue": a }, "mine": { "stringValue": "kept" } })
    };
    place.put(&[
        ("items/1", stored(Some(5), "old1")),
        ("items/2", stored(Some(5), "old2")),
        ("items/3", stored(None, "old3")),
        ("items/9", stored(Some(9), "old9")),
    ]);
}

/// Two writes of one transaction. Of the keys, 1, 2 and 3 are stored; 4 comes twice in one write, 5 twice over both, 1 twice
/// too.
fn writes() -> [Vec<Record>; 2] {
    [
        vec![
            item("1", Some(6), "new1"),
            item("2", Some(5), "new2"),
            item("4", Some(2), "first4"),
            item("4", Some(2), "second4"),
            item("5", Some(7), "first5"),
        ],
        vec![
            item("3", Some(1), "new3"),
            item("5", None, "second5"),
            item("1", Some(4), "again1"),
            item("6", Some(1), "new6"),
        ],
    ]
}

/// Documents at the end, skipped, records rejected as `firestore.exists`.
type Expected = (ConflictPolicy, [&'static str; 7], u64, &'static [u64]);

const EXPECTED: [Expected; 6] = [
    (
        ConflictPolicy::Skip,
        [
            "1|5|old1|kept",
            "2|5|old2|kept",
            "3|-|old3|kept",
            "4|2|first4|",
            "5|7|first5|",
            "6|1|new6|",
            "9|9|old9|kept",
        ],
        6,
        &[],
    ),
    (
        ConflictPolicy::Fail,
        [
            "1|5|old1|kept",
            "2|5|old2|kept",
            "3|-|old3|kept",
            "4|2|first4|",
            "5|7|first5|",
            "6|1|new6|",
            "9|9|old9|kept",
        ],
        0,
        &[0, 1, 3, 5, 6, 7],
    ),
    (
        ConflictPolicy::Overwrite,
        [
            "1|4|again1|",
            "2|5|new2|",
            "3|1|new3|",
            "4|2|second4|",
            "5|-|second5|",
            "6|1|new6|",
            "9|9|old9|kept",
        ],
        0,
        &[],
    ),
    (
        ConflictPolicy::Merge,
        [
            "1|4|again1|kept",
            "2|5|new2|kept",
            "3|1|new3|kept",
            "4|2|second4|",
            "5|-|second5|",
            "6|1|new6|",
            "9|9|old9|kept",
        ],
        0,
        &[],
    ),
    (
        ConflictPolicy::KeepNewest,
        [
            "1|6|new1|",
            "2|5|old2|kept",
            "3|1|new3|",
            "4|2|first4|",
            "5|7|first5|",
            "6|1|new6|",
            "9|9|old9|kept",
        ],
        4,
        &[],
    ),
    (
        ConflictPolicy::KeepOldest,
        [
            "1|4|again1|",
            "2|5|old2|kept",
            "3|-|old3|kept",
            "4|2|first4|",
            "5|-|second5|",
            "6|1|new6|",
            "9|9|old9|kept",
        ],
        4,
        &[],
    ),
];

fn lines(place: &Place) -> Vec<String> {
    let shown = |fields: &Json, name: &str| match fields.get(name) {
        None => String::new(),
        Some(value) => match value.as_object().unwrap().values().next().unwrap() {
            Json::String(text) => text.clone(),
            _ => "-".to_owned(),
        },
    };
    let documents = place.documents("items");
    let line = |(path, fields): (&String, &Json)| {
        let [v, a, mine] = ["v", "a", "mine"].map(|name| shown(fields, name));
        format!("{}|{v}|{a}|{mine}", path.strip_prefix("items/").unwrap())
    };
    documents.iter().map(line).collect()
}

#[test]
fn each_policy_leaves_the_documents_that_it_should() {
    each(|place| {
        for (policy, expected, skipped, rejected) in EXPECTED {
            place.emulator.clear(&place.project);
            put_stored(place);
            let fate = place.write(&items(), &writes(), policy);
            let shown = format!("{policy:?} with {}", place.way());
            assert_eq!(lines(place), expected, "{shown}");
            assert_eq!(fate.accepted, 9 - rejected.len() as u64, "{shown}");
            assert_eq!(fate.skipped, skipped, "{shown}");
            let codes: Vec<_> = rejected.iter().map(|row| (*row, "firestore.exists")).collect();
            assert_eq!(fate.codes(), codes, "{shown}");
        }
    });
}

#[test]
fn merging_writes_nulls_and_leaves_what_a_record_lacks() {
    each(|place| {
        let kept = json!({ "stringValue": "kept" });
        place.put(&[("items/1", json!({ "v": kept, "a": kept, "b": kept, "a.b": kept }))]);
        let mut odd = items();
        odd.schema.fields.push(Field::new("a.b", RecordType::Text));
        odd.schema.fields.push(Field::new("`\\", RecordType::Text));
        let mut coming = item("1", None, "");
        coming.insert("a".to_owned(), Value::Absent);
        coming.insert("a.b".to_owned(), text("new"));
        coming.insert("`\\".to_owned(), text("new"));
        let bare = record([
            ("__id__", text("2")),
            ("v", Value::Absent),
            ("a", Value::Absent),
            ("b", Value::Absent),
            ("a.b", Value::Absent),
            ("`\\", Value::Absent),
        ]);
        let fate = place.write(&odd, &[vec![coming, bare]], ConflictPolicy::Merge);
        assert_eq!((fate.accepted, fate.codes()), (2, vec![]));
        let new = json!({ "stringValue": "new" });
        let nothing = json!({ "nullValue": null });
        assert_eq!(
            place.fields("items/1").unwrap(),
            json!({ "v": nothing, "a": kept, "b": kept, "a.b": new, "`\\": new })
        );
        assert_eq!(place.fields("items/2").unwrap(), json!({}));
    });
}

#[test]
fn with_on_missing_reject_only_documents_that_are_there_are_changed() {
    for way in ways() {
        for policy in [
            ConflictPolicy::Overwrite,
            ConflictPolicy::Merge,
            ConflictPolicy::KeepNewest,
        ] {
            let Some(place) = Place::new(with(way.clone(), "on_missing", json!("reject"))) else {
                return;
            };
            put_stored(&place);
            let records = vec![
                item("1", Some(6), "new1"),
                item("4", Some(1), "new4"),
                item("2", Some(6), "new2"),
            ];
            let fate = place.write(&items(), &[records], policy);
            let shown = format!("{policy:?} with {way}");
            let missing = ("firestore.missing".to_owned(), "items/4".to_owned());
            let expected = Fate {
                accepted: 2,
                skipped: 0,
                rejected: [(1, missing)].into(),
            };
            assert_eq!(fate, expected, "{shown}");
            let mine = if policy == ConflictPolicy::Merge {
                "kept"
            } else {
                ""
            };
            let [one, two] = [format!("1|6|new1|{mine}"), format!("2|6|new2|{mine}")];
            let lines = lines(&place);
            assert_eq!(lines, [&one, &two, "3|-|old3|kept", "9|9|old9|kept"], "{shown}");
        }
    }
}

#[test]
fn policies_that_cannot_be_followed_are_refused_and_nothing_is_written() {
    let Some(place) = Place::new(json!({ "on_missing": "reject" })) else {
        return;
    };
    let mut without = items();
    without.cursor_fields.clear();
    let mut other = items();
    other.name = "others".to_owned();
    other.cursor_fields = vec!["__id__".to_owned()];
    let mut sink = place.prepared(&[&without, &other]);
    sink.begin(&LaneId::default()).unwrap();
    for (collection, policy, kind, code) in [
        (
            &without,
            ConflictPolicy::Append,
            ErrorKind::Unsupported,
            "plugin.unsupported",
        ),
        (
            &without,
            ConflictPolicy::Skip,
            ErrorKind::Config,
            "firestore.nothing_to_write",
        ),
        (
            &without,
            ConflictPolicy::Fail,
            ErrorKind::Config,
            "firestore.nothing_to_write",
        ),
        (
            &without,
            ConflictPolicy::KeepNewest,
            ErrorKind::InvalidData,
            "firestore.no_version_field",
        ),
        (
            &other,
            ConflictPolicy::KeepOldest,
            ErrorKind::InvalidData,
            "firestore.bad_version_field",
        ),
    ] {
        let batch = batch_of(collection, &[item("1", Some(1), "a")]);
        let error = sink.write(&collection.name, &batch, policy).unwrap_err();
        assert_eq!((error.kind, error.code.as_str()), (kind, code), "{policy:?}");
    }
    assert_eq!(sink.flush().unwrap().accepted, 0);
    assert!(place.documents("items").is_empty() && place.documents("others").is_empty());
}

#[test]
fn versions_of_other_kinds_are_not_guessed_at() {
    each(|place| {
        place.put(&[
            ("items/1", json!({ "v": { "stringValue": "5" } })),
            ("items/2", json!({})),
        ]);
        let records = vec![item("1", Some(6), "new1"), item("2", Some(6), "new2")];
        let fate = place.write(&items(), &[records], ConflictPolicy::KeepNewest);
        assert_eq!((fate.accepted, fate.skipped), (1, 0));
        assert_eq!(fate.codes(), [(0, "firestore.bad_version")]);
        assert_eq!(lines(place), ["1|5||", "2|6|new2|"]);
    });
}
