//! Reading what is well-formed, strange or broken.
//! What cannot be read is rejected with its place.

use std::fs;
use std::io::Write as _;

use whimbrel_plugin_api::acceptance::Value;
use whimbrel_plugin_api::serde_json::json;
use whimbrel_plugin_api::source::BatchBounds;
use whimbrel_plugin_api::{CollectionsRequest, FindingLevel, PartitionsRequest, ReadRequest, Source as _};

use crate::harness::{Host, collection, open_source, plugin, read, read_text, source, to_end};

#[test]
fn records_are_found_however_the_file_is_laid_out() {
    let packed = zstd::encode_all(&b"{\"a\":1}\n{\"a\":2}"[..], 1).unwrap();
    // Two frames one behind the other are one file.
    let twice = [
        zstd::encode_all(&b"[{\"a\""[..], 1).unwrap(),
        zstd::encode_all(&b":1},{\"a\":2}]"[..], 1).unwrap(),
    ]
    .concat();
    let cases: [(&str, &[u8]); 11] = [
        ("x.ndjson", b"{\"a\":1}\n{\"a\":2}\n"),
        ("x.jsonl", b"\xEF\xBB\xBF{\"a\":1}\r\n\r\n  {\"a\":2}  \r\n"),
        ("x.json", b"[{\"a\":1},{\"a\":2}]"),
        ("x.json", b"\xEF\xBB\xBF [\n  {\"a\": 1},\n  {\"a\": 2}\n]\n"),
        ("x.json", b"{\"a\":1}\n{\"a\":2}"),
        ("x.json", b"{\n\"a\":1\n}\n{\n\"a\":2}"),
        ("x.json", b"{\"a\":1}{\"a\":2}"),
        ("x.data", b"{\"a\":1}\n{\"a\":2}"),
        ("x.ndjson.zst", &packed),
        ("x.ndjson", &packed),
        ("x.json.zst", &twice),
    ];
    for (name, text) in cases {
        let reading = read_text(name, text).unwrap();
        assert_eq!(reading.types(), ["a: int64"], "{name} {text:?}");
        let values: Vec<_> = reading
            .records()
            .iter()
            .map(|record| record["a"].clone())
            .collect();
        assert_eq!(values, [Value::Int(1), Value::Int(2)], "{name}");
    }
    for (name, text) in [
        ("x.ndjson", ""),
        ("x.json", "[]"),
        ("x.json", " \n"),
        ("x.jsonl.zst", ""),
        ("x.json", "\u{feff}"),
    ] {
        let reading = read_text(name, text).unwrap();
        assert!(
            reading.schema.fields.is_empty() && reading.batches.is_empty() && reading.rejected.is_empty(),
            "{name}"
        );
    }
}

#[test]
fn each_broken_record_is_rejected_with_its_place_and_the_others_are_read() {
    let deep = format!("{{\"a\":{}{}}}", "[".repeat(200), "]".repeat(200));
    let mut text = Vec::new();
    for line in [
        &b"{\"a\":1}"[..],
        b"{\"a\":}",
        b"{\"a\":2,\"a\":3}",
        b"{\"a\":\"\\ud800\"}",
        b"{\"a\":\"\xff\"}",
        deep.as_bytes(),
        b"  {\"b\" 1}",
        b"{\"a\":\"tab\there\"}",
        b"{\"a\":4}",
        b"{\"a\":5",
    ] {
        text.extend_from_slice(line);
        text.push(b'\n');
    }
    text.pop();
    let reading = read_text("x.ndjson", &text).unwrap();
    assert_eq!(reading.types(), ["a: int64"]);
    assert_eq!(reading.records().len(), 2);
    assert_eq!(
        reading.rejections(),
        [
            ("x.ndjson:2:6", "files.malformed_line"),
            ("x.ndjson:3:1", "files.duplicate_member"),
            ("x.ndjson:4:7", "files.lone_surrogate"),
            ("x.ndjson:5:7", "files.not_utf8"),
            ("x.ndjson:6:134", "files.nested_too_deep"),
            ("x.ndjson:7:8", "files.malformed_line"),
            ("x.ndjson:8:10", "files.malformed_line"),
            ("x.ndjson:10:7", "files.malformed_line"),
        ]
    );
    assert_eq!(reading.rejected[0].data.as_deref(), Some("{\"a\":}"));
    assert_eq!(
        reading.rejected[7].message,
        "a record ends in the middle of a value"
    );
}

#[test]
fn elements_of_an_array_are_rejected_one_by_one_while_the_array_is_whole() {
    let reading = read_text(
        "x.json",
        "[{\"a\":1},\n {\"a\":nul},\n {\"a\":\n\"\\udc00\"}, {\"a\":2}]",
    )
    .unwrap();
    assert_eq!(reading.records().len(), 2);
    assert_eq!(
        reading.rejections(),
        [
            ("x.json:2:7", "files.malformed_line"),
            ("x.json:4:2", "files.lone_surrogate")
        ]
    );
    for (text, place) in [
        ("[{\"a\":1},\n{\"a\":2}", "x.json:2:8"),
        ("[1 2]", "x.json:1:4"),
        ("[1,]", "x.json:1:4"),
    ] {
        let error = read_text("x.json", text).unwrap_err();
        assert_eq!(
            (error.code.as_str(), error.place.as_deref()),
            ("files.malformed_file", Some(place)),
            "{text}"
        );
        assert!(error.help.is_some());
    }
}

#[test]
fn a_line_that_is_too_long_is_rejected_with_its_beginning() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.ndjson");
    fs::write(&path, format!("1\n\"{}\"\n2\n", "é".repeat(300_000))).unwrap();
    let mut source = open_source(&json!({ "path": path, "line_bytes_max": 1024 })).unwrap();
    let reading = read(&mut source, "x").unwrap();
    assert_eq!(reading.records().len(), 2);
    assert_eq!(reading.rejections(), [("x.ndjson:2:1", "files.line_too_long")]);
    let kept = reading.rejected[0].data.as_ref().unwrap();
    assert!(kept.len() <= 4100 && kept.starts_with("\"éé"), "{}", kept.len());
    assert_eq!(collection(&mut source, "x").estimate.record_count, Some(3));
}

#[test]
fn rejected_records_at_the_end_still_move_the_cursor() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.ndjson");
    fs::write(&path, "{\"a\":1}\n{\n{\n").unwrap();
    let mut source = source(&path);
    let request = ReadRequest {
        batch: BatchBounds {
            records_max: 1,
            ..BatchBounds::default()
        },
        ..ReadRequest::all("x")
    };
    let reading = to_end(&mut *source.read(&request).unwrap()).unwrap();
    assert_eq!((reading.rejected.len(), reading.heartbeats.len()), (2, 1));
    let rest = ReadRequest {
        cursor: reading.heartbeats[0].clone(),
        ..request
    };
    let rest = to_end(&mut *source.read(&rest).unwrap()).unwrap();
    assert!(rest.batches.is_empty() && rest.rejected.is_empty());
}

#[test]
fn numbers_keep_every_digit() {
    let reading = read_text(
        "x.ndjson",
        concat!(
            r#"{"i":9223372036854775807,"u":18446744073709551615,"f":-0.0,"n":0.1000000000000000055511151231257827,"#,
            r#""m":9007199254740993,"v":-0.0,"h":1e400,"t":"x","z":1e999999}"#,
            "\n",
            r#"{"i":-9223372036854775808,"u":-1,"f":5e-324,"n":1,"m":0.5,"v":9007199254740993,"h":-1,"t":7,"z":0}"#,
            "\n",
        ),
    )
    .unwrap();
    assert_eq!(
        reading.types(),
        [
            "i: int64",
            "u: decimal(20, 0)",
            "f: float64",
            "n: numeric",
            "m: numeric",
            "v: variant",
            "h: numeric",
            "t: variant",
            "z: variant"
        ]
    );
    let records = reading.records();
    let shown = |row: usize| {
        reading
            .schema
            .fields
            .iter()
            .map(|field| format!("{:?}", records[row][&field.name]))
            .collect::<Vec<_>>()
            .join(" ")
    };
    assert_eq!(
        shown(0),
        "9223372036854775807 decimal 18446744073709551615 -0.0 \"0.1000000000000000055511151231257827\" \
         \"9007199254740993\" \"-0.0\" \"1e400\" \"\\\"x\\\"\" \"1e999999\""
    );
    assert_eq!(
        shown(1),
        "-9223372036854775808 decimal -1 5e-324 \"1\" \"0.5\" \"9007199254740993\" \"-1\" \"7\" \"0\""
    );
}

#[test]
fn hostile_texts_and_names_come_through() {
    let name = "\"; DROP TABLE x; --\0é😀".repeat(5);
    let text = format!("nul\0 {}", "long ü ".repeat(1_500_000));
    let document = json!({ name.as_str(): text, "Case": 1, "case": 2, "": 3, "select": "" });
    let reading = read_text("x.ndjson", document.to_string()).unwrap();
    let record = reading.records().remove(0);
    assert_eq!(record[&name], Value::Text(text));
    assert_eq!(
        (&record["Case"], &record["case"], &record[""]),
        (&Value::Int(1), &Value::Int(2), &Value::Int(3))
    );
    assert_eq!(record["select"], Value::text(""));
}

#[test]
fn a_lone_surrogate_below_the_top_stays_in_its_json() {
    let reading = read_text("x.ndjson", "{\"a\":[\"\\ud800\"]}").unwrap();
    assert_eq!(reading.records()[0]["a"], Value::text("[\"\\ud800\"]"));
}

#[test]
fn what_the_inference_did_not_count_is_not_read() {
    let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.ndjson");
    fs::write(
        &path,
        format!("{{\"a\":1}}\n{{\"a\":\"\\udead\"}}\n{{\"a\":{deep}}}\n{{\"a\":\"x\"}}\n"),
    )
    .unwrap();
    let mut source = source(&path);
    assert_eq!(collection(&mut source, "x").estimate.record_count, Some(4));
    let reading = read(&mut source, "x").unwrap();
    assert_eq!(
        (reading.types(), reading.records().len()),
        (vec!["a: variant".to_owned()], 2)
    );
    assert_eq!(
        reading.rejections(),
        [
            ("x.ndjson:2:7", "files.lone_surrogate"),
            ("x.ndjson:3:134", "files.nested_too_deep")
        ]
    );
}

#[test]
fn random_keys_and_the_reserved_one_make_documents_and_somebody_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.ndjson");
    for (text, config) in [
        (
            "{\"a\":1}\n{\"b\":1}\n{\"c\":1,\"c\":2}\n".to_owned(),
            json!({ "path": path, "fields_max": 2 }),
        ),
        ("{\"__presence\":1}\n".repeat(3), json!({ "path": path })),
    ] {
        fs::write(&path, &text).unwrap();
        let host = std::sync::Arc::new(Host::default());
        let validation = whimbrel_plugin_api::abi::Validation::Full;
        let mut source = plugin().open_source(&config, host.clone(), validation).unwrap();
        let findings = source.check().unwrap();
        let codes: Vec<_> = findings.iter().map(|it| (it.level, it.code.as_str())).collect();
        assert_eq!(codes, [(FindingLevel::Warning, "files.document")]);
        assert_eq!(collection(&mut source, "x").estimate.record_count, Some(3));
        let log = host.0.lock().unwrap().clone();
        assert!(
            log.iter()
                .any(|line| line.starts_with("Warn `x` is read as one json field")),
            "{log:?}"
        );
        let reading = read(&mut source, "x").unwrap();
        assert_eq!(reading.types(), ["document: json"]);
        let documents: Vec<_> = reading
            .records()
            .iter()
            .map(|record| record["document"].clone())
            .collect();
        assert_eq!(documents, text.lines().map(Value::text).collect::<Vec<_>>());
    }
}

#[test]
fn a_record_that_does_not_fit_the_sample_ends_the_run() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.ndjson");
    let outcome = |text: &str, sample: u64| {
        fs::write(&path, text).unwrap();
        let mut source = open_source(&json!({ "path": path, "inference": { "sample": sample } })).unwrap();
        assert_eq!(collection(&mut source, "x").estimate.exact, sample > 9);
        let partition = source
            .partitions(&PartitionsRequest {
                collection: "x".into(),
                ..Default::default()
            })
            .unwrap()
            .remove(0);
        let request = ReadRequest {
            expected: Some(collection(&mut source, "x").schema),
            partition: Some(partition),
            ..ReadRequest::all("x")
        };
        let mut elsewhere = open_source(&json!({ "path": path, "inference": { "sample": sample } })).unwrap();
        to_end(&mut *elsewhere.read(&request)?)
    };
    let good = outcome("{\"a\":1}\n{}\n{\"a\":null}\n{\"a\":-3}\n", 1).unwrap();
    assert_eq!(
        (good.types(), good.records().len()),
        (vec!["a: int64?".to_owned()], 4)
    );
    for (late, place, what) in [
        (
            "{\"a\":1.5}",
            "x.ndjson:2:1",
            "the field `a` is `int64` in the sample, here it is float",
        ),
        (
            "[1]",
            "x.ndjson:2:1",
            "the sample has `object` as records, this one is array",
        ),
    ] {
        let text = format!("{{\"a\":1}}\n{late}\n");
        let error = outcome(&text, 1).unwrap_err();
        assert_eq!(
            (error.code.as_str(), error.place.as_deref()),
            ("files.does_not_fit_sample", Some(place))
        );
        assert!(error.message.ends_with(what), "{}", error.message);
        assert!(error.help.unwrap().contains("inference: full"));
        outcome(&text, 10).expect("a sample of everything is not a sample");
    }
}

#[test]
fn damaged_compression_is_named_and_what_was_read_before_was_good() {
    let text: String = (0..50_000)
        .map(|id| {
            format!(
                "{{\"id\":{id},\"noise\":\"{:x}\"}}\n",
                (id as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15)
            )
        })
        .collect();
    let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
    encoder.include_checksum(true).unwrap();
    encoder.write_all(text.as_bytes()).unwrap();
    let packed = encoder.finish().unwrap();
    assert_eq!(
        read_text("x.ndjson.zst", &packed).unwrap().records().len(),
        50_000
    );
    for cut in [packed.len() / 3, packed.len() - 1] {
        assert_eq!(
            read_text("x.ndjson.zst", &packed[..cut]).unwrap_err().code,
            "files.zstd_truncated",
            "{cut}"
        );
    }
    for at in [packed.len() / 2, packed.len() - 2] {
        let mut flipped = packed.clone();
        flipped[at] ^= 0x10;
        let error = read_text("x.ndjson.zst", &flipped).unwrap_err();
        assert_eq!(error.code, "files.zstd_corrupt", "{at}");
        assert!(error.message.contains("x.ndjson.zst"));
    }
    assert_eq!(
        read_text("x.ndjson.zst", "{\"a\":1}").unwrap_err().code,
        "files.not_zstd"
    );
}

#[test]
fn a_file_that_changes_is_noticed_at_every_step() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.ndjson");
    let write = |records: usize| fs::write(&path, "{\"a\":1}\n".repeat(records)).unwrap();
    let small = ReadRequest {
        batch: BatchBounds {
            records_max: 2,
            ..BatchBounds::default()
        },
        ..ReadRequest::all("x")
    };
    let code = |outcome: whimbrel_plugin_api::Result<crate::harness::Reading>| outcome.unwrap_err().code;

    write(10);
    let mut source = source(&path);
    collection(&mut source, "x");
    write(11);
    assert_eq!(
        code(read(&mut source, "x")),
        "files.changed",
        "between listing and reading"
    );
    collection(&mut source, "x");
    assert_eq!(
        read(&mut source, "x").unwrap().records().len(),
        11,
        "listing again settles it"
    );

    let partition = source
        .partitions(&PartitionsRequest {
            collection: "x".into(),
            ..Default::default()
        })
        .unwrap()
        .remove(0);
    let cursor = to_end(&mut *source.read(&small).unwrap()).unwrap().batches[0]
        .facts
        .cursor
        .clone();
    write(12);
    let mut later = crate::harness::source(&path);
    let by_partition = ReadRequest {
        partition: Some(partition),
        ..small.clone()
    };
    let by_cursor = ReadRequest {
        cursor,
        ..small.clone()
    };
    for request in [by_partition, by_cursor] {
        assert_eq!(later.read(&request).err().unwrap().code, "files.changed");
    }

    let mut stream = later.read(&small).unwrap();
    stream.next().unwrap();
    stream.next().unwrap();
    write(13);
    assert_eq!(code(to_end(&mut *stream)), "files.changed", "while it is read");
}

#[test]
fn a_large_file_is_read_in_parts_that_hold_everything_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.ndjson");
    // Three times 64 MiB and some more, in few records so that the test is quick.
    let filler = " ".repeat(1024 * 1024);
    let mut file = std::io::BufWriter::new(fs::File::create(&path).unwrap());
    for id in 0..200 {
        let broken = if id == 150 { "!" } else { "" };
        writeln!(file, "{{\"id\":{id}{broken}}}{filler}").unwrap();
    }
    drop(file);
    let mut source = source(&path);
    let whole = collection(&mut source, "x");
    let parts = |wanted| PartitionsRequest {
        collection: "x".into(),
        wanted,
        ..Default::default()
    };
    assert_eq!(source.partitions(&parts(1)).unwrap().len(), 1);
    assert_eq!(source.partitions(&parts(2)).unwrap().len(), 2);
    let partitions = source.partitions(&parts(8)).unwrap();
    assert_eq!(partitions.len(), 3);
    let mut ids = Vec::new();
    let mut rejected = Vec::new();
    for partition in partitions {
        let request = ReadRequest {
            partition: Some(partition),
            expected: Some(whole.schema.clone()),
            ..ReadRequest::all("x")
        };
        // Another process: what was found out about the file is not known there.
        let reading = to_end(&mut *crate::harness::source(&path).read(&request).unwrap()).unwrap();
        ids.extend(reading.records().into_iter().map(|record| record["id"].clone()));
        rejected.extend(reading.rejected);
    }
    let expected: Vec<_> = (0..200).filter(|id| *id != 150).map(Value::Int).collect();
    assert_eq!(ids, expected);
    assert_eq!(rejected.len(), 1);
    assert_eq!(
        rejected[0].record, "x.ndjson:151:10",
        "the line is counted from the start of the file"
    );
}

#[test]
fn keys_come_from_the_config_and_must_exist() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("x.ndjson"), "{\"a\":1}\n").unwrap();
    let open = |key| open_source(&json!({ "path": folder.path(), "key": { "x": [key] } })).unwrap();
    assert_eq!(collection(&mut open("a"), "x").key, ["a"]);
    let error = open("b")
        .collections(&CollectionsRequest::named("x"))
        .unwrap_err();
    assert_eq!(
        (error.code.as_str(), error.place.as_deref()),
        ("files.key_field_missing", Some("config.key.x"))
    );
}
