//! Parts and resumption: each record once, wherever a read stops and however the key is ordered.
//! Keys of many types and collations, tables without a key, ranges that a job asks for.

use std::collections::BTreeSet;

use whimbrel_plugin_api::acceptance::records::records;
use whimbrel_plugin_api::acceptance::{Record, Value};
use whimbrel_plugin_api::serde_json::json;
use whimbrel_plugin_api::source::Predicate;
use whimbrel_plugin_api::{Cursor, Item, Partition, ReadRequest, Source as _};

use crate::reading_place::{Place, in_batches, partitions, places, read_from, values};

/// Tables whose keys are ordered in ways that are easy to get wrong; each of 120 records.
const TABLES: &str = r#"
CREATE TYPE mood AS ENUM ('z', 'a', 'M');
CREATE DOMAIN code AS text COLLATE "en-x-icu";
CREATE COLLATION loose (provider = icu, locale = 'und-u-ks-level1', deterministic = false);
CREATE TABLE by_icu(k text COLLATE "de-x-icu" PRIMARY KEY);
CREATE TABLE by_domain(k code PRIMARY KEY);
CREATE TABLE by_loose(k text COLLATE loose PRIMARY KEY);
CREATE TABLE by_c(k text COLLATE "C" PRIMARY KEY);
CREATE TABLE by_uuid(k uuid PRIMARY KEY, n int);
CREATE TABLE by_time(k timestamptz PRIMARY KEY);
CREATE TABLE by_day(k date PRIMARY KEY);
CREATE TABLE by_number(k numeric(20, 4) PRIMARY KEY);
CREATE TABLE by_free_number(k numeric PRIMARY KEY);
CREATE TABLE by_float(k float8 PRIMARY KEY);
CREATE TABLE by_bytes(k bytea PRIMARY KEY);
CREATE TABLE by_padded(k char(5) PRIMARY KEY);
CREATE TABLE by_inet(k inet PRIMARY KEY);
CREATE TABLE by_range(k int4range PRIMARY KEY);
CREATE TABLE by_several(a mood NOT NULL, b bool NOT NULL, c smallint NOT NULL, d text NOT NULL, PRIMARY KEY (d, a, b, c));
CREATE TABLE by_array(k int[] PRIMARY KEY);
CREATE TABLE by_place(k int);
INSERT INTO by_icu SELECT chr(64 + i % 60) || repeat('ä', i % 3) || i FROM generate_series(1, 120) i;
INSERT INTO by_domain SELECT (CASE i % 3 WHEN 0 THEN '-' WHEN 1 THEN 'a' ELSE 'Á' END) || ' ' || i FROM generate_series(1, 120) i;
INSERT INTO by_loose SELECT (CASE i % 2 WHEN 0 THEN 'É' ELSE 'e' END) || i FROM generate_series(1, 120) i;
INSERT INTO by_c SELECT chr(i) || '''\' FROM generate_series(1, 120) i;
INSERT INTO by_uuid SELECT md5(i::text)::uuid, i FROM generate_series(1, 120) i;
INSERT INTO by_time SELECT '2000-01-01'::timestamptz + (i * i - 5000) * interval '997 hours 1 us' FROM generate_series(1, 118) i;
INSERT INTO by_time VALUES ('infinity'), ('-infinity');
INSERT INTO by_day SELECT '0001-03-01'::date - (i * 11 - 600) FROM generate_series(1, 119) i; INSERT INTO by_day VALUES ('infinity');
INSERT INTO by_number SELECT (i - 60) * 1234567.0001 FROM generate_series(1, 120) i;
INSERT INTO by_free_number SELECT ('1e' || (i - 60))::numeric FROM generate_series(1, 119) i; INSERT INTO by_free_number VALUES ('NaN');
INSERT INTO by_float SELECT (i - 60) / 7.0 FROM generate_series(1, 119) i; INSERT INTO by_float VALUES ('NaN');
INSERT INTO by_bytes SELECT decode(md5(i::text), 'hex') FROM generate_series(1, 120) i;
INSERT INTO by_padded SELECT lpad(i::text, i % 5 + 1, 'x') FROM generate_series(10, 200) i ON CONFLICT DO NOTHING;
DELETE FROM by_padded WHERE k NOT IN (SELECT k FROM by_padded ORDER BY k LIMIT 60);
INSERT INTO by_padded SELECT 'p' || i FROM generate_series(1, 60) i;
INSERT INTO by_inet SELECT ('10.' || i % 7 || '.0.' || i)::inet FROM generate_series(1, 120) i;
INSERT INTO by_range SELECT int4range(i % 11, i + 20) FROM generate_series(1, 120) i;
INSERT INTO by_several SELECT (ARRAY['z', 'a', 'M'])[1 + i % 3]::mood, i % 2 = 0, i - 60, 'group ' || i % 4 FROM generate_series(1, 120) i;
INSERT INTO by_array SELECT ARRAY[i % 13, i] FROM generate_series(1, 120) i;
INSERT INTO by_place SELECT i FROM generate_series(1, 120) i; DELETE FROM by_place WHERE k % 3 = 0; VACUUM by_place;
INSERT INTO by_place SELECT -i FROM generate_series(1, 40) i;
"#;

const NAMES: [&str; 17] = [
    "by_icu",
    "by_domain",
    "by_loose",
    "by_c",
    "by_uuid",
    "by_time",
    "by_day",
    "by_number",
    "by_free_number",
    "by_float",
    "by_bytes",
    "by_padded",
    "by_inet",
    "by_range",
    "by_several",
    "by_array",
    "by_place",
];

fn counted(records: &[Record]) -> BTreeSet<&Record> {
    records.iter().collect()
}

#[test]
fn each_record_comes_once_however_the_key_is_ordered_and_wherever_a_read_goes_on() {
    for place in places(TABLES) {
        for name in NAMES {
            let all = place.read(name);
            assert_eq!(counted(&all).len(), 120, "{name}");
            let mut keeper = place.source();
            let snapshot = keeper.open_snapshot().unwrap();
            let at = |request| ReadRequest {
                snapshot: snapshot.clone(),
                ..request
            };
            let reading = place.read_with(&at(in_batches(name, 17))).unwrap();
            assert_eq!(
                reading.records, all,
                "{name}: the order does not depend on the batches"
            );
            for (count, cursor) in reading.cursors.iter().step_by(3) {
                let rest = place.read_with(&at(behind(name, cursor))).unwrap();
                assert_eq!(rest.records, all[*count..], "{name} behind record {count}");
            }
        }
    }
}

fn behind(name: &str, cursor: &Cursor) -> ReadRequest {
    ReadRequest {
        cursor: cursor.clone(),
        ..ReadRequest::all(name)
    }
}

#[test]
fn a_read_goes_on_behind_every_single_record() {
    for place in places(TABLES) {
        for name in ["by_several", "by_place", "by_loose"] {
            let mut keeper = place.source();
            let snapshot = keeper.open_snapshot().unwrap();
            let at = |request| ReadRequest {
                snapshot: snapshot.clone(),
                ..request
            };
            let reading = place.read_with(&at(in_batches(name, 1))).unwrap();
            assert_eq!(reading.cursors.len(), 120);
            // Also without the key among the columns.
            let request = ReadRequest {
                columns: if name == "by_several" {
                    vec!["b".to_owned()]
                } else {
                    Vec::new()
                },
                ..in_batches(name, 1)
            };
            let narrow = place.read_with(&at(request)).unwrap();
            assert_eq!(narrow.cursors, reading.cursors, "{name}");
            for (count, cursor) in reading.cursors.iter().rev().take(12).chain(&reading.cursors[..3]) {
                let rest = place.read_with(&at(behind(name, cursor))).unwrap();
                assert_eq!(
                    rest.records,
                    reading.records[*count..],
                    "{name} behind record {count}"
                );
            }
        }
    }
}

/// As many octets as make a table worth dividing.
const LARGE: &str = r#"
CREATE TABLE by_id(id bigint PRIMARY KEY, pad text);
INSERT INTO by_id SELECT i * 10, repeat(md5(i::text), 12) FROM generate_series(1, 60000) i;
CREATE TABLE by_word(k text COLLATE "en-x-icu" NOT NULL UNIQUE, pad text);
INSERT INTO by_word SELECT (CASE i % 3 WHEN 0 THEN '-' WHEN 1 THEN 'a' ELSE 'Á' END) || md5(i::text), repeat(md5(i::text), 12) FROM generate_series(1, 60000) i;
CREATE TABLE by_group(g text, n int, pad text, PRIMARY KEY (g, n));
INSERT INTO by_group SELECT 'group ' || i % 3, i, repeat(md5(i::text), 12) FROM generate_series(1, 60000) i;
CREATE TABLE no_key(n int, pad text);
INSERT INTO no_key SELECT i, repeat(md5(i::text), 12) FROM generate_series(1, 60000) i;
CREATE TABLE parted(id int PRIMARY KEY, pad text) PARTITION BY HASH (id);
CREATE TABLE parted_0 PARTITION OF parted FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE parted_1 PARTITION OF parted FOR VALUES WITH (MODULUS 2, REMAINDER 1);
INSERT INTO parted SELECT i, repeat(md5(i::text), 12) FROM generate_series(1, 60000) i;
"#;

/// The table and one of its fields that tells records apart.
const DIVIDED: [(&str, &str); 5] = [
    ("by_id", "id"),
    ("by_word", "k"),
    ("by_group", "n"),
    ("no_key", "n"),
    ("parted", "id"),
];

fn read_part(
    place: &Place,
    (name, field): (&str, &str),
    partition: &Partition,
    snapshot: Option<&str>,
) -> Vec<Value> {
    let request = ReadRequest {
        partition: Some(partition.clone()),
        snapshot: snapshot.map(str::to_owned),
        columns: vec![field.to_owned()],
        ..ReadRequest::all(name)
    };
    values(&place.read_with(&request).unwrap().records, field)
}

#[test]
fn parts_hold_each_record_once_and_are_about_equal() {
    for place in places(LARGE) {
        let mut keeper = place.source();
        let snapshot = keeper.open_snapshot().unwrap();
        for (name, field) in DIVIDED {
            // Ranges of keys mean the same at every instant.
            let snapshot = snapshot.as_deref().filter(|_| name == "no_key");
            let parts = place.partitions(name, 3, snapshot);
            assert_eq!(parts.len(), 3, "{name}");
            // Their estimates may differ, since a vacuum may come in between.
            let meaning = |parts: &[Partition]| -> Vec<_> {
                let parts = parts.iter();
                parts
                    .map(|part| (part.descriptor.clone(), part.label.clone()))
                    .collect()
            };
            assert_eq!(
                meaning(&parts),
                meaning(&place.partitions(name, 3, snapshot)),
                "{name}: the same each time"
            );
            let mut seen = BTreeSet::new();
            let mut count = 0;
            for part in &parts {
                let found = read_part(&place, (name, field), part, snapshot);
                assert!(
                    (10_000..30_000).contains(&found.len()),
                    "{name}: {} in {}",
                    found.len(),
                    part.label
                );
                count += found.len();
                seen.extend(found);
            }
            assert_eq!((count, seen.len()), (60_000, 60_000), "{name}");
        }
    }
}

#[test]
fn key_ranges_take_what_comes_later_and_ranges_of_blocks_are_refused_elsewhere() {
    for place in places(LARGE) {
        let parts = place.partitions("by_id", 3, None);
        let mut keeper = place.source();
        let of_blocks = keeper.open_snapshot().unwrap().unwrap();
        let blocks = partitions(&mut keeper, "no_key", 3, Some(&of_blocks));
        place
            .database
            .sql("INSERT INTO by_id VALUES (-5, 'x'), (999999999, 'y'), (300005, 'z')");
        let found: Vec<Value> = parts
            .iter()
            .flat_map(|part| read_part(&place, ("by_id", "id"), part, None))
            .collect();
        assert_eq!(found.len(), 60_003);
        assert_eq!(found.iter().collect::<BTreeSet<_>>().len(), 60_003);
        let mut source = place.source();
        let another = source.open_snapshot().unwrap();
        let block_at = |snapshot| ReadRequest {
            partition: Some(blocks[1].clone()),
            snapshot,
            ..ReadRequest::all("no_key")
        };
        for snapshot in [another, None] {
            assert_eq!(
                place.read_with(&block_at(snapshot)).unwrap_err().code,
                "postgres.partition_lost"
            );
        }
        let within = block_at(Some(of_blocks));
        assert_eq!(read_from(&mut keeper, &within).unwrap().rejected, []);
        // A cursor of another key, and one of another table.
        let cursor = place
            .read_with(&in_batches("by_group", 100))
            .unwrap()
            .cursors
            .remove(0)
            .1;
        place
            .database
            .sql("ALTER TABLE by_group DROP CONSTRAINT by_group_pkey, ADD PRIMARY KEY (n, g)");
        for name in ["by_group", "by_id", "no_key"] {
            assert_eq!(
                place.read_with(&behind(name, &cursor)).unwrap_err().code,
                "postgres.bad_cursor"
            );
        }
    }
}

#[test]
fn a_table_without_a_key_is_read_at_one_instant_also_where_there_is_no_snapshot() {
    for place in places(LARGE) {
        assert!(place.collection("no_key").within_snapshot);
        assert!(!place.collection("by_id").within_snapshot);
        let parts = place.partitions("no_key", 3, None);
        assert_eq!(
            parts.len(),
            1,
            "no range of its file is read at an instant of its own"
        );
        let mut source = place.source();
        let request = ReadRequest {
            partition: Some(parts[0].clone()),
            columns: vec!["n".to_owned()],
            ..in_batches("no_key", 100)
        };
        let mut stream = source.read(&request).unwrap();
        let mut found = Vec::new();
        let mut cursor = Cursor::start();
        loop {
            match stream.next().unwrap() {
                Item::Batch(batch) => {
                    found.extend(values(&records(&batch), "n"));
                    if cursor.is_start() {
                        // The first records move behind all others, and those become fewer.
                        place.database.sql(
                            "UPDATE no_key SET n = -n WHERE n <= 1000; DELETE FROM no_key WHERE n > 59000",
                        );
                        cursor = batch.facts.cursor;
                    }
                }
                Item::End => break,
                _ => {}
            }
        }
        let expected: BTreeSet<Value> = (1..=60_000).map(Value::Int).collect();
        assert_eq!(found.len(), 60_000, "as of one instant");
        assert_eq!(found.into_iter().collect::<BTreeSet<_>>(), expected);
        // Going on would be at another one.
        assert_eq!(
            place.read_with(&behind("no_key", &cursor)).unwrap_err().code,
            "postgres.cursor_lost"
        );
    }
}

#[test]
fn ranges_are_exact_whatever_the_type() {
    for place in places(TABLES) {
        let all = place.read("by_day");
        let key = |from: &str, to: &str| ReadRequest {
            predicate: Some(Predicate::KeyRange {
                from: Some(json!([from])),
                to: Some(json!([to])),
            }),
            ..ReadRequest::all("by_day")
        };
        let found = place
            .read_with(&key("-0001-01-01", "0001-01-01"))
            .unwrap()
            .records;
        let within =
            |record: &&Record| matches!(record["k"], Value::Int(day) if (-719_893..-719_162).contains(&day));
        let expected: Vec<Record> = all.iter().filter(within).cloned().collect();
        assert!(expected.len() > 20);
        assert_eq!(found, expected);
        // Both ends of a range of cursor values belong to it.
        let request = ReadRequest {
            predicate: Some(Predicate::CursorRange {
                field: "k".to_owned(),
                from: Some(json!("0.0000")),
                to: Some(json!("1234567.0001")),
            }),
            ..ReadRequest::all("by_number")
        };
        let found = place.read_with(&request);
        assert_eq!(
            found.map(|found| found.records.len()).map_err(|error| error.code),
            Ok(2)
        );
        for bad in [
            json!([]),
            json!(["a", "b"]),
            json!({}),
            json!(["x"]),
            json!([null]),
        ] {
            let request = ReadRequest {
                predicate: Some(Predicate::KeyRange {
                    from: Some(bad),
                    to: None,
                }),
                ..ReadRequest::all("by_day")
            };
            assert_eq!(place.read_with(&request).unwrap_err().code, "postgres.bad_range");
        }
    }
}
