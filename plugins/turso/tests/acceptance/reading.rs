//! What is read of files that others have made or edited: inference, misfits, cursors, ranges, lookups.
//! What does not fit is rejected with its key.

use std::sync::Arc;

use whimbrel_plugin_api::acceptance::records::{batch, records};
use whimbrel_plugin_api::acceptance::{Record, Value};
use whimbrel_plugin_api::record_type::{Field, RecordType, Schema};
use whimbrel_plugin_api::serde_json::json;
use whimbrel_plugin_api::source::{BatchBounds, Predicate};
use whimbrel_plugin_api::{Collection, ConflictPolicy, Cursor, ErrorKind, Item, ReadRequest, Source as _};

use crate::harness::{File, read_from, record, sorted, todo, todos};

fn only(file: &File) -> Collection {
    let mut collections = file.collections();
    assert_eq!(collections.len(), 1);
    collections.remove(0)
}

#[test]
fn types_are_those_of_the_values_that_are_there() {
    let file = File::new();
    file.execute(
        "CREATE TABLE t(i INT, f REAL, mixed NUMERIC, wide, text, blob, any, bool BOOLEAN, nix DATE, none BLOB);
         INSERT INTO t VALUES (1, 2, 1, 9007199254740993, 'a', x'00ff', 1, 1, NULL, NULL),
         (9223372036854775807, 0.5, 1.5, 0.5, 'b' || char(0), x'', 'x', 0, NULL, NULL),
         (NULL, NULL, NULL, NULL, '', NULL, x'01', NULL, NULL, NULL), (0, 9e999, 0, 1, 'd', x'01', 0.1, 1, NULL, NULL)",
    );
    let found = only(&file);
    let types: Vec<String> = found
        .schema
        .fields
        .iter()
        .map(|field| format!("{} {}", field.name, field.record_type))
        .collect();
    assert_eq!(
        types,
        [
            "i int64",
            "f float64",
            "mixed float64",
            "wide variant",
            "text text",
            "blob bytes",
            "any variant",
            "bool int64",
            "nix variant",
            "none bytes"
        ]
    );
    let read = file.read("t");
    let column = |name: &str| read.iter().map(|record| record[name].clone()).collect::<Vec<_>>();
    assert_eq!(
        column("f"),
        [
            Value::float(2.0),
            Value::float(0.5),
            Value::Null,
            Value::float(f64::INFINITY)
        ]
    );
    assert_eq!(
        column("wide"),
        [
            Value::text("9007199254740993"),
            Value::text("0.5"),
            Value::Null,
            Value::text("1")
        ]
    );
    assert_eq!(column("text")[1], Value::text("b\0"));
    let tagged = Value::text(r#"{"$type":"bytes","value":"AQ=="}"#);
    assert_eq!(
        column("any"),
        [Value::text("1"), Value::text("\"x\""), tagged, Value::text("0.1")]
    );
}

#[test]
fn references_name_collections_and_fields() {
    let file = File::new().with("table_prefix", "p_");
    file.execute(
        "CREATE TABLE p_a(x INTEGER, y TEXT, PRIMARY KEY(x, y));
         CREATE TABLE p_b(id INTEGER PRIMARY KEY, ax INTEGER, ay TEXT, up INTEGER REFERENCES P_B,
         outside INTEGER REFERENCES elsewhere(id), FOREIGN KEY(ax, ay) REFERENCES p_a(X, y));
         CREATE TABLE elsewhere(id INTEGER PRIMARY KEY)",
    );
    let collections = file.collections();
    assert_eq!(
        collections
            .iter()
            .map(|found| found.name.as_str())
            .collect::<Vec<_>>(),
        ["a", "b"]
    );
    let references: Vec<_> = collections[1]
        .references
        .iter()
        .map(|found| {
            (
                found.fields.join(","),
                found.collection.as_str(),
                found.to_fields.join(","),
            )
        })
        .collect();
    assert_eq!(
        references,
        [
            ("ax,ay".to_owned(), "a", "x,y".to_owned()),
            ("up".to_owned(), "b", String::new())
        ]
    );
}

#[test]
fn edited_values_are_rejected_with_their_key_and_the_rest_is_read() {
    let fields = vec![
        Field::required("id", RecordType::Text),
        Field::new("n", RecordType::Int { bits: 8 }),
        Field::new("at", RecordType::TimestampTz),
        Field::new("list", RecordType::list(RecordType::INT64)),
        Field::required("must", RecordType::Bool),
        Field::new("MUST", RecordType::INT64),
    ];
    let collection = Collection::new("t", Schema::new(fields)).with_key(["id"]);
    let row = |id: usize| {
        record([
            ("id", Value::text(format!("k{id}"))),
            ("n", Value::Int(1)),
            ("at", Value::Int(0)),
            ("list", Value::List(vec![Value::Int(1)])),
            ("must", Value::Bool(true)),
            ("MUST", Value::Int(5)),
        ])
    };
    let rows: Vec<Record> = (0..10).map(row).collect();
    let file = File::new();
    file.write(&collection, &rows, ConflictPolicy::Overwrite);
    file.execute(
        "UPDATE t SET n = 'abc' WHERE id = 'k1'; UPDATE t SET n = 128 WHERE id = 'k2'; UPDATE t SET at = 'today' WHERE id = 'k3';
         UPDATE t SET list = '[1.5]' WHERE id = 'k4'; UPDATE t SET list = '[1' WHERE id = 'k5'; UPDATE t SET must = 2 WHERE id = 'k6';
         UPDATE t SET _whimbrel_rest = '{' WHERE id = 'k7'; UPDATE t SET _whimbrel_rest = '{\"MUST\":\"x\"}' WHERE id = 'k8'",
    );
    for request in [
        ReadRequest::all("t"),
        ReadRequest {
            expected: Some(collection.schema.clone()),
            batch: BatchBounds {
                records_max: 3,
                ..BatchBounds::default()
            },
            ..ReadRequest::all("t")
        },
    ] {
        let (found, rejected) = file.read_with(&request);
        assert_eq!(sorted(found), [row(0), row(9)]);
        let mut keys: Vec<&str> = rejected.iter().map(|rejected| rejected.record.as_str()).collect();
        keys.sort_unstable();
        assert_eq!(keys, ["k1", "k2", "k3", "k4", "k5", "k6", "k7", "k8"]);
        assert!(
            rejected
                .iter()
                .all(|rejected| rejected.code == "turso.value_does_not_fit")
        );
        assert!(rejected.iter().all(|rejected| !rejected.message.contains("abc")));
    }
}

#[test]
fn going_on_after_rejected_records_repeats_and_loses_nothing() {
    let file = File::new();
    let rows: Vec<Record> = (0..20).map(|id| todo(id, "a")).collect();
    file.write(&todos(), &rows, ConflictPolicy::Overwrite);
    file.execute("UPDATE todos SET done = 7 WHERE id IN (2, 3, 6, 7, 8, 19)");
    let request = ReadRequest {
        batch: BatchBounds {
            records_max: 3,
            ..BatchBounds::default()
        },
        ..ReadRequest::all("todos")
    };
    let mut source = file.source();
    let (mut cursor, mut found, mut rejected) = (Cursor::start(), Vec::new(), Vec::new());
    loop {
        let mut stream = source
            .read(&ReadRequest {
                cursor: cursor.clone(),
                ..request.clone()
            })
            .unwrap();
        let mut before = Vec::new();
        let batch = loop {
            match stream.next().unwrap() {
                Item::Batch(batch) => break Some(batch),
                Item::Rejected(more) => before.extend(more.into_iter().map(|rejected| rejected.record)),
                Item::End => break None,
                _ => {}
            }
        };
        rejected.extend(before);
        let Some(batch) = batch else { break };
        found.extend(records(&batch));
        cursor = batch.facts.cursor;
    }
    assert_eq!(
        (found.len(), rejected),
        (14, ["2", "3", "6", "7", "8", "19"].map(str::to_owned).to_vec())
    );
}

#[test]
fn a_cursor_over_row_numbers_is_refused_once_they_may_have_changed() {
    let file = File::new();
    file.execute("CREATE TABLE t(k TEXT PRIMARY KEY); INSERT INTO t VALUES ('a'), ('b'), ('c'), ('d')");
    file.execute("DELETE FROM t WHERE k = 'a'");
    let mut source = file.source();
    let request = ReadRequest {
        batch: BatchBounds {
            records_max: 1,
            ..BatchBounds::default()
        },
        ..ReadRequest::all("t")
    };
    let mut stream = source.read(&request).unwrap();
    let cursor = loop {
        if let Item::Batch(batch) = stream.next().unwrap() {
            break batch.facts.cursor;
        }
    };
    let on = ReadRequest { cursor, ..request };
    assert_eq!(read_from(&mut source, &on).unwrap().0.len(), 2);
    file.execute("VACUUM");
    assert_eq!(read_from(&mut source, &on).unwrap_err().code, "turso.cursor_lost");
    assert_eq!(stream.next().unwrap_err().code, "turso.cursor_lost");
    let bad = ReadRequest {
        cursor: Cursor(vec![1, 2]),
        ..on
    };
    assert_eq!(read_from(&mut source, &bad).unwrap_err().code, "turso.bad_cursor");
}

#[test]
fn ranges_of_keys_are_exact_for_every_kind_of_table() {
    for (ddl, key) in [
        ("CREATE TABLE t(a INTEGER, b TEXT, PRIMARY KEY(a, b))", ["a", "b"]),
        (
            "CREATE TABLE t(a INTEGER, b TEXT, PRIMARY KEY(a DESC, b)) WITHOUT ROWID",
            ["a", "b"],
        ),
        ("CREATE TABLE t(b TEXT, a INTEGER, PRIMARY KEY(b, a))", ["b", "a"]),
    ] {
        let file = File::new();
        file.execute(ddl);
        file.execute("WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 99) INSERT INTO t(a, b) SELECT i / 10, char(97 + i % 10) FROM n");
        let (from, to) = if key[0] == "a" {
            (json!([3, "c"]), json!([5]))
        } else {
            (json!(["c", 3]), json!(["e"]))
        };
        let request = ReadRequest {
            predicate: Some(Predicate::KeyRange {
                from: Some(from),
                to: Some(to),
            }),
            batch: BatchBounds {
                records_max: 7,
                ..BatchBounds::default()
            },
            ..ReadRequest::all("t")
        };
        let (found, _) = file.read_with(&request);
        let wanted: i64 = file.one(if key[0] == "a" {
            "SELECT count(*) FROM t WHERE (a, b) >= (3, 'c') AND a < 5"
        } else {
            "SELECT count(*) FROM t WHERE (b, a) >= ('c', 3) AND b < 'e'"
        });
        assert_eq!(
            (found.len() as i64, wanted),
            (18 - i64::from(key[0] == "b"), found.len() as i64),
            "{ddl}"
        );
    }
}

#[test]
fn a_cursor_range_is_closed_and_refused_where_texts_order_otherwise() {
    let file = File::new();
    file.execute("CREATE TABLE t(id INTEGER PRIMARY KEY, n INT); INSERT INTO t VALUES (1, 5), (2, 6), (3, 7), (4, 8), (5, NULL)");
    let range = |field: &str| ReadRequest {
        predicate: Some(Predicate::CursorRange {
            field: field.to_owned(),
            from: Some(json!(6)),
            to: Some(json!(7)),
        }),
        ..ReadRequest::all("t")
    };
    assert_eq!(file.read_with(&range("n")).0.len(), 2);
    let error = read_from(&mut file.source(), &range("missing")).unwrap_err();
    assert_eq!(error.kind, ErrorKind::NotFound);
    let timed = Field::new("n", RecordType::Timestamp);
    let collection = Collection::new(
        "t",
        Schema::new(vec![Field::required("id", RecordType::INT64), timed]),
    )
    .with_key(["id"]);
    let file = File::new();
    file.write(&collection, &[], ConflictPolicy::Overwrite);
    assert_eq!(
        read_from(&mut file.source(), &range("n")).unwrap_err().kind,
        ErrorKind::Unsupported
    );
}

#[test]
fn lookup_answers_in_batches_and_names_what_does_not_fit() {
    let file = File::new();
    let rows: Vec<Record> = (0..100).map(|id| todo(id, "a")).collect();
    file.write(&todos(), &rows, ConflictPolicy::Overwrite);
    file.execute("UPDATE todos SET done = 'x' WHERE id = 50");
    let schema = Arc::new(Schema::new(vec![Field::required("id", RecordType::INT64)]));
    let keys: Vec<Record> = [99, 50, -1, 3]
        .iter()
        .map(|id| record([("id", Value::Int(*id))]))
        .collect();
    let request = ReadRequest {
        batch: BatchBounds {
            records_max: 1,
            ..BatchBounds::default()
        },
        ..ReadRequest::all("todos")
    };
    let mut stream = file
        .source()
        .lookup(&request, &batch(&schema, &keys).unwrap())
        .unwrap();
    let (mut found, mut rejected) = (Vec::new(), Vec::new());
    loop {
        match stream.next().unwrap() {
            Item::Batch(batch) => found.extend(records(&batch)),
            Item::Rejected(more) => rejected.extend(more.into_iter().map(|rejected| rejected.record)),
            Item::End => break,
            _ => {}
        }
    }
    assert_eq!(
        (found, rejected),
        (vec![todo(99, "a"), todo(3, "a")], vec!["50".to_owned()])
    );
}

#[test]
fn without_memory_the_expected_schema_still_gives_the_types() {
    let fields = vec![
        Field::required("id", RecordType::INT64),
        Field::new(
            "price",
            RecordType::Decimal {
                precision: 9,
                scale: 2,
            },
        ),
        Field::new("day", RecordType::Date),
    ];
    let collection = Collection::new("t", Schema::new(fields)).with_key(["id"]);
    let file = File::new();
    let row = record([
        ("id", Value::Int(1)),
        ("price", Value::Decimal(1_050.into())),
        ("day", Value::Int(19_782)),
    ]);
    file.write(&collection, std::slice::from_ref(&row), ConflictPolicy::Overwrite);
    file.execute("DROP TABLE _whimbrel_columns");
    assert_eq!(file.read("t")[0]["price"], Value::text("10.50"));
    let request = ReadRequest {
        expected: Some(collection.schema),
        ..ReadRequest::all("t")
    };
    assert_eq!(file.read_with(&request), (vec![row], vec![]));
}

#[test]
fn a_column_that_is_gone_is_an_error_and_never_its_name_as_text() {
    let file = File::new();
    file.write(&todos(), &[todo(1, "a")], ConflictPolicy::Overwrite);
    let mut source = file.source();
    let mut stream = source.read(&ReadRequest::all("todos")).unwrap();
    assert!(matches!(stream.next().unwrap(), Item::Schema(_)));
    file.execute("ALTER TABLE todos DROP COLUMN title");
    stream.next().unwrap_err();
    let request = ReadRequest {
        expected: Some(todos().schema),
        ..ReadRequest::all("todos")
    };
    assert_eq!(
        read_from(&mut file.source(), &request).unwrap_err().code,
        "schema.no_field"
    );
}

#[test]
fn a_table_that_hides_its_row_number_is_read_by_key_or_refused() {
    let file = File::new();
    file.execute("CREATE TABLE t(rowid TEXT, oid TEXT, _rowid_ TEXT, PRIMARY KEY(rowid, oid)); INSERT INTO t VALUES ('a', 'b', 'c'), ('a', 'c', 'd')");
    assert_eq!(file.read("t").len(), 2);
    let file = File::new();
    file.execute("CREATE TABLE t(rowid, oid, _rowid_)");
    assert_eq!(
        read_from(&mut file.source(), &ReadRequest::all("t"))
            .unwrap_err()
            .code,
        "turso.no_row_order"
    );
}

#[test]
fn a_large_record_travels_alone() {
    let file = File::new();
    let large = "x".repeat(9 * 1024 * 1024);
    let rows = [todo(1, "a"), todo(2, &large), todo(3, "b"), todo(4, "c")];
    file.write(&todos(), &rows, ConflictPolicy::Overwrite);
    let mut stream = file.source().read(&ReadRequest::all("todos")).unwrap();
    let mut counts = Vec::new();
    loop {
        match stream.next().unwrap() {
            Item::Batch(batch) => counts.push(batch.record_count()),
            Item::End => break,
            _ => {}
        }
    }
    assert_eq!(counts, [1, 1, 2]);
    assert_eq!(sorted(file.read("todos")), rows);
}
