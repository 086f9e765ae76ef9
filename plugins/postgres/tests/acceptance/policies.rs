//! What becomes of records whose key is there already, or comes twice: each policy on a real table, against a table of
//! expected rows.

use whimbrel_plugin_api::acceptance::{Record, Value};
use whimbrel_plugin_api::record_type::{Field, RecordType, Schema};
use whimbrel_plugin_api::{Collection, ConflictPolicy};

use crate::writing_place::{Fate, each, int, keyed, record, text, transact};

/// `items`: id (key), v (version), a.
fn items() -> Collection {
    let fields = vec![
        Field::required("id", RecordType::INT64),
        Field::new("v", RecordType::INT64),
        Field::new("a", RecordType::Text),
    ];
    let mut items = keyed("items", fields);
    items.cursor_fields = vec!["v".to_owned()];
    items
}

fn item(id: i64, v: Option<i64>, a: &str) -> Record {
    record([("id", int(id)), ("v", v.map_or(Value::Null, int)), ("a", text(a))])
}

const STORED: &str = "CREATE TABLE items(id bigint PRIMARY KEY, v bigint, a text, mine text DEFAULT 'd');
    INSERT INTO items VALUES (1, 5, 'old1', 'kept'), (2, 5, 'old2', 'kept'), (3, NULL, 'old3', 'kept'), (9, 9, 'old9', 'kept');";

/// Two writes of one transaction. Of the keys, 1, 2 and 3 are stored; 4 comes twice in one write, 5 twice over both, 1 twice
/// too.
fn writes() -> [Vec<Record>; 2] {
    [
        vec![
            item(1, Some(6), "new1"),
            item(2, Some(5), "new2"),
            item(4, Some(2), "first4"),
            item(4, Some(2), "second4"),
            item(5, Some(7), "first5"),
        ],
        vec![
            item(3, Some(1), "new3"),
            item(5, None, "second5"),
            item(1, Some(4), "again1"),
            item(6, Some(1), "new6"),
        ],
    ]
}

/// Rows at the end, accepted, skipped, rows rejected as `postgres.exists`.
type Expected = (ConflictPolicy, [&'static str; 7], u64, u64, &'static [u64]);

const EXPECTED: [Expected; 7] = [
    (
        ConflictPolicy::Skip,
        [
            "1|5|old1|kept",
            "2|5|old2|kept",
            "3|-|old3|kept",
            "4|2|first4|d",
            "5|7|first5|d",
            "6|1|new6|d",
            "9|9|old9|kept",
        ],
        9,
        6,
        &[],
    ),
    (
        ConflictPolicy::Overwrite,
        [
            "1|4|again1|kept",
            "2|5|new2|kept",
            "3|1|new3|kept",
            "4|2|second4|d",
            "5|-|second5|d",
            "6|1|new6|d",
            "9|9|old9|kept",
        ],
        9,
        0,
        &[],
    ),
    (
        ConflictPolicy::Merge,
        [
            "1|4|again1|kept",
            "2|5|new2|kept",
            "3|1|new3|kept",
            "4|2|second4|d",
            "5|-|second5|d",
            "6|1|new6|d",
            "9|9|old9|kept",
        ],
        9,
        0,
        &[],
    ),
    (
        ConflictPolicy::KeepNewest,
        [
            "1|6|new1|kept",
            "2|5|old2|kept",
            "3|1|new3|kept",
            "4|2|first4|d",
            "5|7|first5|d",
            "6|1|new6|d",
            "9|9|old9|kept",
        ],
        9,
        4,
        &[],
    ),
    (
        ConflictPolicy::KeepOldest,
        [
            "1|4|again1|kept",
            "2|5|old2|kept",
            "3|-|old3|kept",
            "4|2|first4|d",
            "5|-|second5|d",
            "6|1|new6|d",
            "9|9|old9|kept",
        ],
        9,
        5,
        &[],
    ),
    (
        ConflictPolicy::Fail,
        [
            "1|5|old1|kept",
            "2|5|old2|kept",
            "3|-|old3|kept",
            "4|2|first4|d",
            "5|7|first5|d",
            "6|1|new6|d",
            "9|9|old9|kept",
        ],
        3,
        0,
        &[0, 1, 3, 5, 6, 7],
    ),
    (
        ConflictPolicy::Append,
        [
            "1|5|old1|kept",
            "2|5|old2|kept",
            "3|-|old3|kept",
            "4|2|first4|d",
            "5|7|first5|d",
            "6|1|new6|d",
            "9|9|old9|kept",
        ],
        3,
        0,
        &[0, 1, 3, 5, 6, 7],
    ),
];

const ALL_ITEMS: &str = "SELECT id, v, a, mine FROM items ORDER BY id";

#[test]
fn each_policy_leaves_the_expected_rows_in_a_table_that_holds_some() {
    each(|place| {
        for (policy, rows, accepted, skipped, existing) in EXPECTED {
            place.execute(&format!("DROP TABLE IF EXISTS items; {STORED}"));
            let fate = place.write(&items(), &writes(), policy);
            assert_eq!(place.lines(ALL_ITEMS), rows, "{policy:?}");
            let codes: Vec<_> = existing.iter().map(|row| (*row, "postgres.exists")).collect();
            assert_eq!(
                (fate.accepted, fate.skipped, fate.codes()),
                (accepted, skipped, codes),
                "{policy:?}"
            );
        }
    });
}

/// What was written before in the same run counts as stored, and the table was empty when the run began.
#[test]
fn each_policy_leaves_the_expected_rows_in_a_table_that_was_empty() {
    each(|place| {
        for (policy, rows, accepted, skipped, existing) in EXPECTED {
            place.execute(
                "DROP TABLE IF EXISTS items; CREATE TABLE items(id bigint PRIMARY KEY, v bigint, a text, mine text DEFAULT 'd')",
            );
            let mut sink = place.prepared(&[&items()]);
            let stored = vec![
                item(1, Some(5), "old1"),
                item(2, Some(5), "old2"),
                item(3, None, "old3"),
                item(9, Some(9), "old9"),
            ];
            let first = transact(&mut sink, &items(), &[stored], policy);
            assert_eq!((first.accepted, first.skipped), (4, 0), "{policy:?}");
            let fate = transact(&mut sink, &items(), &writes(), policy);
            let rows = rows.map(|row| row.replace("kept", "d"));
            assert_eq!(place.lines(ALL_ITEMS), rows, "{policy:?}");
            let codes: Vec<_> = existing.iter().map(|row| (*row, "postgres.exists")).collect();
            assert_eq!(
                (fate.accepted, fate.skipped, fate.codes()),
                (accepted, skipped, codes),
                "{policy:?}"
            );
        }
    });
}

#[test]
fn duplicates_of_a_first_copy_go_by_the_policy() {
    each(|place| {
        let cases: [(ConflictPolicy, &[&str], u64); 6] = [
            (ConflictPolicy::Skip, &["1|1|a", "2|2|b"], 0),
            (ConflictPolicy::Overwrite, &["1|3|c", "2|2|b"], 0),
            (ConflictPolicy::Merge, &["1|3|c", "2|2|b"], 0),
            (ConflictPolicy::KeepNewest, &["1|3|c", "2|2|b"], 0),
            (ConflictPolicy::KeepOldest, &["1|1|a", "2|2|b"], 0),
            (ConflictPolicy::Fail, &["1|1|a", "2|2|b"], 1),
        ];
        for (policy, rows, rejected) in cases {
            place.execute("DROP TABLE IF EXISTS items");
            let records = vec![
                item(1, Some(1), "a"),
                item(2, Some(2), "b"),
                item(1, Some(3), "c"),
            ];
            let fate = place.write(&items(), &[records], policy);
            assert_eq!(
                place.lines("SELECT id, v, a FROM items ORDER BY id"),
                rows,
                "{policy:?}"
            );
            assert_eq!(
                (fate.accepted, fate.rejected.len() as u64),
                (3 - rejected, rejected),
                "{policy:?}"
            );
        }
    });
}

#[test]
fn a_record_that_exists_is_named_by_its_key_and_nothing_else() {
    each(|place| {
        place.execute(STORED);
        let fate = place.write(
            &items(),
            &[vec![item(2, Some(1), "secret")]],
            ConflictPolicy::Fail,
        );
        let rejected = [(0, ("postgres.exists".to_owned(), "2".to_owned()))];
        let expected = Fate {
            rejected: rejected.into_iter().collect(),
            ..Fate::default()
        };
        assert_eq!(fate, expected);
    });
}

/// `sparse`: id (key), a, b; records may lack all but the key.
fn sparse() -> Collection {
    let fields = vec![
        Field::required("id", RecordType::INT64),
        Field::new("a", RecordType::Text),
        Field::new("b", RecordType::INT64),
    ];
    let schema = Schema {
        presence: true,
        ..Schema::new(fields)
    };
    Collection::new("sparse", schema).with_key(["id"])
}

fn row(id: i64, a: Value, b: Value) -> Record {
    record([("id", int(id)), ("a", a), ("b", b)])
}

#[test]
fn merging_changes_only_the_fields_that_a_record_has_one_record_after_the_other() {
    each(|place| {
        place.execute("CREATE TABLE sparse(id bigint PRIMARY KEY, a text, b bigint); INSERT INTO sparse VALUES (1, 'x', 1), (2, 'y', 2), (3, 'z', 3)");
        let writes = [
            vec![
                row(1, Value::Absent, int(10)),
                row(2, Value::Null, Value::Absent),
                row(4, text("new"), Value::Absent),
            ],
            vec![
                row(4, Value::Absent, int(40)),
                row(1, text("later"), Value::Absent),
                row(5, Value::Absent, Value::Absent),
                row(3, Value::Absent, Value::Absent),
            ],
        ];
        let fate = place.write(&sparse(), &writes, ConflictPolicy::Merge);
        assert_eq!((fate.accepted, fate.skipped, fate.codes()), (7, 0, vec![]));
        assert_eq!(
            place.lines("SELECT id, a, b FROM sparse ORDER BY id"),
            ["1|later|10", "2|-|2", "3|z|3", "4|new|40", "5|-|-"]
        );
    });
}

#[test]
fn merging_a_stored_record_twice_in_one_write_keeps_what_each_brings() {
    each(|place| {
        place.execute(
            "CREATE TABLE sparse(id bigint PRIMARY KEY, a text, b bigint); INSERT INTO sparse VALUES (1, 'x', 1)",
        );
        let records = vec![
            row(1, Value::Absent, int(10)),
            row(1, text("later"), Value::Absent),
        ];
        let fate = place.write(&sparse(), &[records], ConflictPolicy::Merge);
        assert_eq!((fate.accepted, fate.skipped, fate.codes()), (2, 0, vec![]));
        assert_eq!(place.lines("SELECT id, a, b FROM sparse"), ["1|later|10"]);
    });
}

/// The members of the rest column, whatever the order in which they stand there.
const RESTS: &str = "SELECT t.id, t.a, t.b, (SELECT string_agg(m.key || ':' || m.value, ' ' ORDER BY m.key) \
    FROM json_each(t._whimbrel_rest) m) FROM sparse t ORDER BY t.id";

#[test]
fn what_is_absent_is_kept_until_it_comes() {
    each(|place| {
        let first = vec![
            row(1, Value::Absent, int(1)),
            row(2, text("y"), Value::Absent),
            row(3, Value::Absent, Value::Absent),
            row(4, text("z"), int(4)),
        ];
        place.write(&sparse(), &[first], ConflictPolicy::Overwrite);
        let before = [
            r#"1|-|1|$absent:["a"]"#,
            r#"2|y|-|$absent:["b"]"#,
            r#"3|-|-|$absent:["a","b"]"#,
            "4|z|4|-",
        ];
        assert_eq!(place.lines(RESTS), before);
        let second = || {
            vec![
                row(1, text("now"), Value::Absent),
                row(2, Value::Null, Value::Absent),
                row(3, Value::Absent, int(3)),
                row(4, Value::Absent, Value::Null),
                row(5, Value::Absent, int(5)),
            ]
        };
        place.write(&sparse(), &[second()], ConflictPolicy::Merge);
        let merged = [
            "1|now|1|-",
            r#"2|-|-|$absent:["b"]"#,
            r#"3|-|3|$absent:["a"]"#,
            "4|z|-|-",
            r#"5|-|5|$absent:["a"]"#,
        ];
        assert_eq!(place.lines(RESTS), merged);
        place.write(&sparse(), &[second()], ConflictPolicy::Overwrite);
        let overwritten = [
            r#"1|now|-|$absent:["b"]"#,
            r#"2|-|-|$absent:["b"]"#,
            r#"3|-|3|$absent:["a"]"#,
            r#"4|-|-|$absent:["a"]"#,
            r#"5|-|5|$absent:["a"]"#,
        ];
        assert_eq!(place.lines(RESTS), overwritten);
    });
}

#[test]
fn a_table_without_key_takes_every_record() {
    each(|place| {
        let mut lines = items();
        lines.key.clear();
        lines.cursor_fields.clear();
        let twice = || vec![item(1, None, "a"), item(1, None, "a")];
        let fate = place.write(&lines, &[twice(), twice()], ConflictPolicy::Append);
        assert_eq!((fate.accepted, fate.skipped, fate.codes()), (4, 0, vec![]));
        assert_eq!(
            place.lines("SELECT count(*), count(DISTINCT (id, a)) FROM items"),
            ["4|1"]
        );
    });
}

#[test]
fn a_table_of_nothing_but_its_key_keeps_one_record_of_each() {
    each(|place| {
        let tags = keyed("tags", vec![Field::required("tag", RecordType::Text)]);
        place.execute("CREATE TABLE tags(tag text PRIMARY KEY); INSERT INTO tags VALUES ('a')");
        for policy in [
            ConflictPolicy::Overwrite,
            ConflictPolicy::Merge,
            ConflictPolicy::Skip,
        ] {
            let tag = |name: &str| record([("tag", text(name))]);
            let fate = place.write(&tags, &[vec![tag("a"), tag("b"), tag("b")]], policy);
            assert_eq!((fate.accepted, fate.codes()), (3, vec![]), "{policy:?}");
            assert_eq!(place.lines("SELECT tag FROM tags ORDER BY tag"), ["a", "b"]);
        }
    });
}

#[test]
fn columns_that_need_a_cast_and_numbered_columns_take_values() {
    each(|place| {
        place.execute(
            "CREATE TYPE mood AS ENUM ('sad', 'ok');
             CREATE TABLE hosts(id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, ip inet, mood mood, doc jsonb);
             INSERT INTO hosts OVERRIDING SYSTEM VALUE VALUES (7, '10.0.0.1', 'sad', NULL)",
        );
        let opaque = |name: &str| RecordType::Opaque {
            name: name.to_owned(),
        };
        let fields = vec![
            Field::required("id", RecordType::INT64),
            Field::new("ip", opaque("inet")),
            Field::new("mood", opaque("mood")),
            Field::new("doc", RecordType::Json),
        ];
        let host = |id: i64, ip: &str, mood: &str| {
            record([
                ("id", int(id)),
                ("ip", text(ip)),
                ("mood", text(mood)),
                ("doc", text(r#"{"n": 9007199254740993}"#)),
            ])
        };
        let records = vec![
            host(7, "10.0.0.2", "ok"),
            host(8, "not an address", "ok"),
            host(9, "fe80::1/64", "sad"),
        ];
        let fate = place.write(&keyed("hosts", fields), &[records], ConflictPolicy::Overwrite);
        assert_eq!(
            (fate.accepted, fate.codes()),
            (2, vec![(1, "postgres.wrong_type")])
        );
        assert_eq!(
            place.lines("SELECT id, ip, mood, doc FROM hosts ORDER BY id"),
            [
                r#"7|10.0.0.2|ok|{"n": 9007199254740993}"#,
                r#"9|fe80::1/64|sad|{"n": 9007199254740993}"#
            ]
        );
    });
}
