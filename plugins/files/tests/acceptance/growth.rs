//! Fields that no record of the sample has: what comes of them, wherever a stream begins.
//! Read with `inference: full` the same file holds the same.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use whimbrel_plugin_api::abi::Validation;
use whimbrel_plugin_api::abi::source::ForeignSource;
use whimbrel_plugin_api::acceptance::records::records;
use whimbrel_plugin_api::acceptance::{Record, Value};
use whimbrel_plugin_api::serde_json::json;
use whimbrel_plugin_api::source::BatchBounds;
use whimbrel_plugin_api::{Cursor, Item, PartitionsRequest, ReadRequest, Schema, Source as _};

use crate::harness::{Host, collection, open_source, plugin, read, source, to_end};

fn sampled(path: &Path, sample: u64) -> ForeignSource {
    open_source(&json!({ "path": path, "inference": { "sample": sample } })).unwrap()
}

fn in_batches_of(records_max: usize) -> ReadRequest {
    ReadRequest {
        batch: BatchBounds {
            records_max,
            ..BatchBounds::default()
        },
        ..ReadRequest::all("x")
    }
}

/// A stream as it came: how many records lie between schemas, and the records without what they lack.
#[derive(Debug, Default, PartialEq)]
struct Course {
    schemas: Vec<Vec<String>>,
    counts: Vec<usize>,
    records: Vec<Record>,
    rejected: Vec<(String, String)>,
    cursors: Vec<Cursor>,
}

fn types(schema: &Schema) -> Vec<String> {
    let nullable = |field: &whimbrel_plugin_api::Field| if field.nullable { "?" } else { "" };
    let text = |field: &whimbrel_plugin_api::Field| {
        format!("{}: {}{}", field.name, field.record_type, nullable(field))
    };
    schema.fields.iter().map(text).collect()
}

fn follow(source: &mut ForeignSource, request: &ReadRequest) -> whimbrel_plugin_api::Result<Course> {
    let mut stream = source.read(request)?;
    let mut course = Course::default();
    let mut current = Arc::new(Schema::default());
    let mut sequence = 0;
    loop {
        match stream.next()? {
            Item::Schema(schema) => {
                assert!(course.schemas.is_empty() || schema.version > current.version);
                course.schemas.push(types(&schema));
                course.counts.push(0);
                current = schema;
            }
            Item::Batch(batch) => {
                assert_eq!(
                    *batch.schema, *current,
                    "a batch follows the schema that was announced last"
                );
                assert_eq!(batch.facts.sequence, sequence);
                sequence += 1;
                *course.counts.last_mut().unwrap() += batch.record_count();
                for mut record in records(&batch) {
                    record.retain(|_, value| *value != Value::Absent);
                    course.records.push(record);
                }
                course.cursors.push(batch.facts.cursor);
            }
            Item::Rejected(rejected) => course
                .rejected
                .extend(rejected.into_iter().map(|it| (it.record, it.code))),
            Item::Heartbeat { cursor } => course.cursors.push(cursor),
            Item::End => return Ok(course),
            other => panic!("no file has this: {other:?}"),
        }
    }
}

#[test]
fn a_later_field_gets_the_type_that_the_whole_file_gives_it() {
    let lines = [
        r#"{"id":1,"a":"x"}"#,
        r#"{"id":2}"#,
        r#"{"id":3,"new":1}"#,
        r#"{"id":4,"mixed":true}"#,
        r#"{"id":5,"new":null,"a":null}"#,
        r#"{"id":6,"new":2.5,"mixed":"x","doc":{"k":[1]}}"#,
        r#"{"n\u0065w":7,"id":7,"gone":null}"#,
    ];
    let packed = |text: String| zstd::encode_all(text.as_bytes(), 1).unwrap();
    let folder = tempfile::tempdir().unwrap();
    for (name, octets) in [
        ("x.ndjson", lines.join("\n").into_bytes()),
        ("x.json", format!("[{}]", lines.join(",\n")).into_bytes()),
        (
            "x.json",
            lines.join(" ").replace("{\"id\"", "{\n\"id\"").into_bytes(),
        ),
        ("x.ndjson.zst", packed(lines.join("\n"))),
    ] {
        let path = folder.path().join(name);
        fs::write(&path, octets).unwrap();
        let mut source = sampled(&path, 2);
        assert_eq!(
            types(&collection(&mut source, "x").schema),
            ["id: int64?", "a: text?"]
        );
        for records_max in [1, 3, 100] {
            let course = follow(&mut source, &in_batches_of(records_max)).unwrap();
            assert_eq!(
                course.schemas,
                [
                    vec!["id: int64?", "a: text?"],
                    vec![
                        "id: int64?",
                        "a: text?",
                        "new: float64?",
                        "mixed: variant?",
                        "doc: json?",
                        "gone: json?"
                    ],
                ],
                "{name}"
            );
            assert_eq!(course.counts, [2, 5], "{name}");
            let records = &course.records;
            assert_eq!(records[0].len(), 2);
            assert_eq!(records[1].keys().collect::<Vec<_>>(), ["id"]);
            assert_eq!(records[2]["new"], Value::Float(1.0_f64.to_bits()));
            assert_eq!(records[4].get("new"), Some(&Value::Null));
            assert_eq!(records[4].get("mixed"), None);
            assert_eq!(records[5]["mixed"], Value::text("\"x\""));
            assert_eq!(records[5]["doc"], Value::text("{\"k\":[1]}"));
            assert_eq!(records[6]["new"], Value::Float(7.0_f64.to_bits()));
            assert_eq!(records[6]["gone"], Value::Null);
            // From each cursor the rest comes, beginning with the schema that the reader counts on.
            for (done, cursor) in course.cursors.iter().enumerate() {
                let first = 1 + done * records_max;
                let request = ReadRequest {
                    cursor: cursor.clone(),
                    expected: Some(collection(&mut source, "x").schema),
                    ..in_batches_of(records_max)
                };
                let rest = follow(&mut sampled(&path, 2), &request).unwrap();
                assert_eq!(rest.schemas[0], ["id: int64?", "a: text?"]);
                let left = 7 - rest.records.len();
                assert!(left >= first.min(7), "{name} {records_max} {done}");
                assert_eq!(
                    rest.records,
                    course.records[left..],
                    "{name} {records_max} {done}"
                );
                assert_eq!(rest.cursors, course.cursors[done + 1..]);
            }
        }
    }
}

/// Records of which some have fields of their own, and some are broken.
fn random_file(seed: u64) -> String {
    let mut state = seed;
    let mut next = |bound: u64| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % bound
    };
    let values = [
        "1",
        "2.5",
        "null",
        "\"x\"",
        "[]",
        "true",
        "-0",
        "18446744073709551615",
    ];
    let mut text = String::new();
    for id in 0..next(120) + 20 {
        match next(25) {
            0 => text.push_str("{\"id\":\n"),
            1 => writeln!(text, "{{\"once{}\":1,\"once{0}\":2}}", next(3)).unwrap(),
            _ => {
                write!(text, "{{\"id\":{id}").unwrap();
                // Most fields of the sample's own types, so that it fits.
                if next(2) == 0 {
                    write!(text, ",\"a\":{}", next(9)).unwrap();
                }
                if id > 5 && next(6) == 0 {
                    let (name, value) = (next(5), values[next(8) as usize]);
                    write!(text, ",\"f{name}\":{value}").unwrap();
                }
                text.push_str("}\n");
            }
        }
    }
    text
}

#[test]
fn what_is_read_with_a_sample_is_what_is_read_without() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.ndjson");
    let first_seed = std::env::var("SEED").map_or(1, |seed| seed.parse().unwrap());
    for seed in first_seed..first_seed + 60 {
        fs::write(&path, random_file(seed)).unwrap();
        let whole = follow(&mut source(&path), &in_batches_of(1 + seed as usize % 9)).unwrap();
        let course = follow(&mut sampled(&path, 4), &in_batches_of(1 + seed as usize % 9)).unwrap();
        assert_eq!(course.records, whole.records, "SEED={seed}");
        assert_eq!(course.rejected, whole.rejected, "SEED={seed}");
        assert!(course.schemas.len() <= 2, "SEED={seed}");
        let names = |types: &[String]| -> Vec<String> {
            let name = |of: &String| of.trim_end_matches('?').to_owned();
            types.iter().map(name).collect()
        };
        assert_eq!(
            names(course.schemas.last().unwrap()),
            names(&whole.schemas[0]),
            "SEED={seed}"
        );
    }
}

#[test]
fn who_asks_for_some_fields_or_records_meets_no_new_ones() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.ndjson");
    fs::write(
        &path,
        "{\"a\":1,\"b\":2}\n{\"a\":3,\"c\":{}}\n{\"c\":1,\"a\":4,\"b\":5}\n",
    )
    .unwrap();
    for columns in [&["b"][..], &["b", "a"]] {
        let request = ReadRequest {
            columns: columns.iter().map(|&name| name.to_owned()).collect(),
            ..ReadRequest::all("x")
        };
        let course = follow(&mut sampled(&path, 1), &request).unwrap();
        assert_eq!((course.schemas.len(), course.records.len()), (1, 3));
        assert_eq!(course.records[2].len(), columns.len());
        assert!(course.rejected.is_empty());
    }
    let request = ReadRequest {
        limit: Some(1),
        ..ReadRequest::all("x")
    };
    let course = follow(&mut sampled(&path, 1), &request).unwrap();
    assert_eq!((course.schemas.len(), course.records.len()), (1, 1));
    let request = ReadRequest {
        limit: Some(2),
        ..ReadRequest::all("x")
    };
    let course = follow(&mut sampled(&path, 1), &request).unwrap();
    assert_eq!((course.counts, course.records.len()), (vec![1, 1], 2));
}

#[test]
fn a_reader_that_knows_the_new_fields_is_told_nothing_new() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.ndjson");
    fs::write(&path, "{\"a\":1}\n{\"a\":3,\"c\":{}}\n").unwrap();
    let mut grown = Schema::default();
    let mut opened = sampled(&path, 1);
    let mut stream = opened.read(&ReadRequest::all("x")).unwrap();
    loop {
        match stream.next().unwrap() {
            Item::Schema(schema) => grown = Schema::clone(&schema),
            Item::End => break,
            _ => {}
        }
    }
    let request = ReadRequest {
        expected: Some(grown.clone()),
        ..ReadRequest::all("x")
    };
    let course = follow(&mut sampled(&path, 1), &request).unwrap();
    assert_eq!(course.schemas, [types(&grown)]);
    assert_eq!(course.records.len(), 2);
}

#[test]
fn parts_of_one_file_agree_on_the_new_fields() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.ndjson");
    // Twice 64 MiB and some more, in few records so that the test is quick.
    let filler = " ".repeat(1024 * 1024);
    let mut text = String::with_capacity(140 << 20);
    for id in 0..132 {
        let new = match id {
            20 => ",\"new\":1",
            120 => ",\"later\":1,\"new\":\"x\"",
            _ => "",
        };
        writeln!(text, "{{\"id\":{id}{new}}}{filler}").unwrap();
    }
    fs::write(&path, text).unwrap();
    let mut source = sampled(&path, 5);
    let planned = collection(&mut source, "x").schema;
    let partitions = source
        .partitions(&PartitionsRequest {
            collection: "x".into(),
            wanted: 2,
            ..Default::default()
        })
        .unwrap();
    assert_eq!(partitions.len(), 2);
    let mut all = Vec::new();
    for partition in partitions {
        let request = ReadRequest {
            partition: Some(partition),
            expected: Some(planned.clone()),
            ..ReadRequest::all("x")
        };
        // Another process each time.
        let course = follow(&mut sampled(&path, 5), &request).unwrap();
        assert_eq!(course.schemas[0], types(&planned));
        assert_eq!(
            course.schemas[1],
            ["id: int64?", "new: variant?", "later: int64?"]
        );
        all.extend(course.records);
    }
    let ids: Vec<_> = all.iter().map(|record| record["id"].clone()).collect();
    assert_eq!(ids, (0..132).map(Value::Int).collect::<Vec<_>>());
    assert_eq!(all[20]["new"], Value::text("1"));
    assert_eq!(all[120]["new"], Value::text("\"x\""));
}

#[test]
fn what_cannot_be_followed_ends_the_stream_with_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.ndjson");
    for (late, fields_max, what) in [
        (
            "{\"b\":1,\"c\":2}",
            2,
            "the records have more than 2 fields between them",
        ),
        ("{\"__presence\":1}", 9, "the field `__presence` is reserved"),
        (
            "{\"b\":1,\"a\":[]}",
            9,
            "the field `a` is `int64` in the sample, here it is array",
        ),
    ] {
        fs::write(&path, format!("{{\"a\":1}}\n{{\"a\":2}}\n{late}\n")).unwrap();
        let mut source =
            open_source(&json!({ "path": path, "inference": { "sample": 1 }, "fields_max": fields_max }))
                .unwrap();
        let mut stream = source.read(&ReadRequest::all("x")).unwrap();
        let mut count = 0;
        let error = loop {
            match stream.next() {
                Ok(Item::Batch(batch)) => count += batch.record_count(),
                Ok(Item::End) => panic!("{late} was read"),
                Ok(_) => {}
                Err(error) => break error,
            }
        };
        assert_eq!(count, 2, "what came before was handed over");
        assert_eq!(
            (error.code.as_str(), error.place.as_deref()),
            ("files.does_not_fit_sample", Some("x.ndjson:3:1"))
        );
        assert!(error.message.ends_with(what), "{}", error.message);
    }
}

#[test]
fn a_file_that_changes_before_it_is_looked_through_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.ndjson");
    let text = "{\"a\":1}\n{\"a\":2}\n{\"a\":3,\"b\":1}\n";
    fs::write(&path, text).unwrap();
    let mut source = sampled(&path, 1);
    let mut stream = source.read(&in_batches_of(2)).unwrap();
    assert!(matches!(stream.next().unwrap(), Item::Schema(_)));
    assert!(matches!(stream.next().unwrap(), Item::Batch(_)));
    fs::write(&path, format!("{text}{{\"b\":\"x\"}}\n")).unwrap();
    assert_eq!(to_end(&mut *stream).unwrap_err().code, "files.changed");
}

#[test]
fn somebody_is_told_once_that_the_file_is_looked_through() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.ndjson");
    fs::write(&path, "{\"a\":1}\n{\"b\":1}\n{\"c\":1}\n").unwrap();
    let host = Arc::new(Host::default());
    let config = json!({ "path": path, "inference": { "sample": 1 } });
    let mut source = plugin()
        .open_source(&config, Arc::clone(&host) as _, Validation::Full)
        .unwrap();
    for _ in 0..2 {
        assert_eq!(read(&mut source, "x").unwrap().types().len(), 3);
    }
    let log = host.0.lock().unwrap();
    assert_eq!(log.len(), 1, "{log:?}");
    assert!(
        log[0].contains("`x`") && log[0].contains("sample lacks"),
        "{log:?}"
    );
}
