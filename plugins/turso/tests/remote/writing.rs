//! What becomes of records on a server: the same as in a file, record by record.
//! What a batch of several statements must do where one statement would be enough.

use whimbrel_plugin_api::acceptance::{Record, Value};
use whimbrel_plugin_api::record_type::{Field, RecordType, Schema};
use whimbrel_plugin_api::sink::{AlterRequest, ClearRequest, LaneId};
use whimbrel_plugin_api::{Collection, ConflictPolicy, ReadRequest, Sink as _};

use crate::harness::{
    batch_of, commit, config, numbered, open_sink, open_source, prepared, read, rejected, sorted, todo,
    todos, write, write_all,
};
use crate::sqld::{Sqld, tools};

/// Tables that refuse records in every way.
const STRICT: [&str; 6] = [
    "CREATE TABLE todos(id INTEGER PRIMARY KEY, title TEXT NOT NULL UNIQUE, done INTEGER CHECK (done < 2))",
    "CREATE TABLE watched(id INTEGER PRIMARY KEY, title TEXT NOT NULL, done INTEGER)",
    "CREATE TRIGGER refuses BEFORE INSERT ON watched WHEN NEW.title = 'refused' BEGIN SELECT RAISE(ABORT, 'UNIQUE constraint failed: refused'); END",
    "CREATE TRIGGER drops BEFORE INSERT ON watched WHEN NEW.title = 'dropped' BEGIN SELECT RAISE(IGNORE); END",
    "CREATE TRIGGER undoes BEFORE INSERT ON watched WHEN NEW.title = 'undone' BEGIN SELECT RAISE(ROLLBACK, 'x'); END",
    "INSERT INTO todos VALUES (7, 'taken', 0)",
];

#[test]
fn removing_a_record_deletes_and_changes_no_other_one() {
    let Some(tools) = tools() else { return };
    let server = Sqld::start(&tools);
    for action in ["CASCADE", "SET NULL", "SET DEFAULT"] {
        let table = format!(
            "CREATE TABLE notes(id INTEGER PRIMARY KEY, todo INT DEFAULT 2 REFERENCES todos ON DELETE {action})"
        );
        let statements = [
            "DROP TABLE IF EXISTS notes",
            "DROP TABLE IF EXISTS todos",
            "CREATE TABLE todos(id INTEGER PRIMARY KEY, title TEXT NOT NULL, done INTEGER)",
            &table,
            "INSERT INTO todos VALUES (1, 'a', 1), (2, 'b', 1)",
            "INSERT INTO notes VALUES (1, 1), (2, 2)",
        ];
        assert!(!server.sql(&statements).contains("\"error\""));
        let (mut sink, _) = open_sink(&config(&server, &server.url()));
        prepared(&mut sink, &[todos()]);
        sink.begin(&LaneId::default()).unwrap();
        let key = batch_of(&todos(), &[todo(1, "a")]);
        assert_eq!(sink.remove("todos", &key).unwrap(), 1);
        commit(&mut sink);
        let mut source = open_source(&config(&server, &server.url()));
        let (notes, _) = read(&mut source, &ReadRequest::all("notes")).unwrap();
        let pointing: Vec<Value> = sorted(notes)
            .into_iter()
            .map(|note| note["todo"].clone())
            .collect();
        assert_eq!(pointing, [Value::Int(1), Value::Int(2)], "{action}");
    }
}

#[test]
fn records_that_are_refused_are_so_alone() {
    let Some(tools) = tools() else { return };
    let server = Sqld::start(&tools);
    assert!(!server.sql(&STRICT).contains("\"error\""));
    let mut todos = todos();
    todos.schema.fields[1].nullable = true;
    todos.schema.fields[2].record_type = RecordType::INT64;
    let (mut sink, _) = open_sink(&config(&server, &server.url()));
    prepared(&mut sink, std::slice::from_ref(&todos));
    // Enough for several statements, refused ones in the first, in the middle and at the end.
    let mut records = numbered(100, 3_100);
    let mut spoil = |row: usize, field: &str, value: Value| records[row].insert(field.to_owned(), value);
    spoil(0, "id", Value::Int(7));
    spoil(1, "title", Value::text("taken"));
    spoil(1_500, "title", Value::Null);
    spoil(1_501, "done", Value::Int(3));
    spoil(2_999, "id", Value::Int(102));
    let receipt = write_all(&mut sink, &todos, &records, ConflictPolicy::Fail);
    assert_eq!(
        rejected(&receipt),
        [
            (0, "turso.exists"),
            (1, "turso.unique"),
            (1_500, "turso.null_in_required"),
            (1_501, "turso.check_failed"),
            (2_999, "turso.exists"),
        ]
    );
    assert_eq!(receipt.accepted, 2_995);
    assert_eq!(
        receipt.rejected[1].message,
        "another record has the same value where values must be unique (`todos.title`)"
    );
    let again = write_all(&mut sink, &todos, &numbered(99, 102), ConflictPolicy::Skip);
    // 99 and 100 are new, 101 was refused before: its title was taken.
    assert_eq!((again.accepted, again.skipped), (3, 0));
    let again = write_all(&mut sink, &todos, &numbered(99, 103), ConflictPolicy::Skip);
    assert_eq!((again.accepted, again.skipped), (4, 4));
    assert_eq!(server.hashes(&["todos"])["todos"].record_count, 2_995 + 1 + 3);
}

#[test]
fn triggers_refuse_and_drop_single_records_and_undo_whole_transactions() {
    let Some(tools) = tools() else { return };
    let server = Sqld::start(&tools);
    assert!(!server.sql(&STRICT).contains("\"error\""));
    let mut watched = todos();
    watched.name = "watched".to_owned();
    let (mut sink, _) = open_sink(&config(&server, &server.url()));
    prepared(&mut sink, std::slice::from_ref(&watched));
    let records = [todo(1, "a"), todo(2, "refused"), todo(3, "dropped"), todo(4, "b")];
    let receipt = write_all(&mut sink, &watched, &records, ConflictPolicy::Overwrite);
    let codes: Vec<u64> = rejected(&receipt).iter().map(|(row, _)| *row).collect();
    assert_eq!(codes, [1, 2]);
    assert!(
        !format!("{receipt:?}").contains("failed: refused"),
        "a trigger's text is not believed: {receipt:?}"
    );
    sink.begin(&LaneId::default()).unwrap();
    write(&mut sink, &watched, &[todo(5, "c")], ConflictPolicy::Overwrite);
    let batch = crate::harness::batch_of(&watched, &[todo(6, "undone"), todo(7, "d")]);
    let error = sink
        .write("watched", &batch, ConflictPolicy::Overwrite)
        .unwrap_err();
    assert_eq!(error.code, "turso.transaction_lost");
    assert_eq!(server.hashes(&["watched"])["watched"].record_count, 2);
}

/// `t`: id (key), a, b; records may lack a and b.
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
    Collection::new("t", schema).with_key(["id"])
}

fn row(id: i64, a: Value, b: Value) -> Record {
    [
        ("id".to_owned(), Value::Int(id)),
        ("a".to_owned(), a),
        ("b".to_owned(), b),
    ]
    .into()
}

#[test]
fn absent_fields_are_kept_and_merged_as_in_a_file() {
    let Some(tools) = tools() else { return };
    let server = Sqld::start(&tools);
    let config = config(&server, &server.url());
    let (mut sink, _) = open_sink(&config);
    prepared(&mut sink, &[sparse()]);
    let first = [
        row(1, Value::Absent, Value::Null),
        row(2, Value::text("x"), Value::Absent),
        row(3, Value::Null, Value::Int(0)),
    ];
    write_all(&mut sink, &sparse(), &first, ConflictPolicy::Overwrite);
    let coming = [
        row(1, Value::Null, Value::Absent),
        row(2, Value::Absent, Value::Int(5)),
        row(4, Value::Absent, Value::Int(6)),
        // The same key twice in a batch: the later one sees the earlier.
        row(4, Value::text("now"), Value::Absent),
        row(3, Value::Absent, Value::Absent),
    ];
    sink.begin(&LaneId::default()).unwrap();
    let receipt = write(&mut sink, &sparse(), &coming, ConflictPolicy::Merge);
    assert_eq!((receipt.accepted, receipt.rejected.len()), (5, 0));
    commit(&mut sink);
    let wanted = vec![
        row(1, Value::Null, Value::Null),
        row(2, Value::text("x"), Value::Int(5)),
        row(3, Value::Null, Value::Int(0)),
        row(4, Value::text("now"), Value::Int(6)),
    ];
    let (found, _) = read(&mut open_source(&config), &ReadRequest::all("t")).unwrap();
    assert_eq!(sorted(found), sorted(wanted));
}

#[test]
fn infinities_edges_and_large_values_arrive_as_they_are() {
    let Some(tools) = tools() else { return };
    let server = Sqld::start(&tools);
    let fields = vec![
        Field::required("id", RecordType::INT64),
        Field::new("text", RecordType::Text),
        Field::new("number", RecordType::FLOAT64),
        Field::new("octets", RecordType::Bytes),
    ];
    let edges = Collection::new("edges", Schema::new(fields)).with_key(["id"]);
    let row = |id: i64, text: Value, number: Value, octets: Value| -> Record {
        let values = [
            ("id", Value::Int(id)),
            ("text", text),
            ("number", number),
            ("octets", octets),
        ];
        values
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value))
            .collect()
    };
    let records = vec![
        row(
            i64::MAX,
            Value::text("a\0b"),
            Value::float(f64::INFINITY),
            Value::Bytes(vec![0, 255]),
        ),
        row(
            i64::MIN,
            Value::text(""),
            Value::float(f64::NEG_INFINITY),
            Value::Bytes(Vec::new()),
        ),
        row(
            0,
            Value::text("\u{1f426}\u{10ffff}"),
            Value::float(f64::MIN_POSITIVE),
            Value::Null,
        ),
        row(
            1,
            Value::text("x".repeat(4_000_000)),
            Value::float(5e-324),
            Value::Null,
        ),
        row(2, Value::Null, Value::Null, Value::Bytes(vec![7; 4_000_000])),
        // The server's limit, unless its operator has raised it, is between these.
        row(3, Value::text("x".repeat(11_000_000)), Value::Null, Value::Null),
    ];
    let config = config(&server, &server.url());
    let (mut sink, _) = open_sink(&config);
    prepared(&mut sink, std::slice::from_ref(&edges));
    let receipt = write_all(&mut sink, &edges, &records, ConflictPolicy::Overwrite);
    assert_eq!(rejected(&receipt), [(5, "turso.too_large")]);
    let (found, unread) = read(&mut open_source(&config), &ReadRequest::all("edges")).unwrap();
    assert_eq!(unread, []);
    assert_eq!(sorted(found), sorted(records[..5].to_vec()));
}

#[test]
fn new_fields_get_columns_and_clearing_empties() {
    let Some(tools) = tools() else { return };
    let server = Sqld::start(&tools);
    let config = config(&server, &server.url());
    let (mut sink, _) = open_sink(&config);
    prepared(&mut sink, &[todos()]);
    write_all(
        &mut sink,
        &todos(),
        &[todo(1, "first")],
        ConflictPolicy::Overwrite,
    );
    let mut wider = todos();
    wider.schema.fields.push(Field::new("note", RecordType::Text));
    let request = AlterRequest {
        collection: "todos".to_owned(),
        old: todos().schema,
        new: wider.schema.clone(),
        overflow: false,
    };
    assert_eq!(
        sink.alter(&request).unwrap().ddl,
        ["ALTER TABLE \"todos\" ADD COLUMN \"note\" TEXT"]
    );
    let mut noted = todo(2, "second");
    noted.insert("note".to_owned(), Value::text("new"));
    write_all(
        &mut sink,
        &wider,
        std::slice::from_ref(&noted),
        ConflictPolicy::Overwrite,
    );
    let mut first = todo(1, "first");
    first.insert("note".to_owned(), Value::Null);
    let (found, _) = read(&mut open_source(&config), &ReadRequest::all("todos")).unwrap();
    assert_eq!(sorted(found), sorted(vec![first, noted]));
    let request = ClearRequest {
        collections: vec!["todos".to_owned()],
    };
    assert_eq!(sink.clear(&request).unwrap().removed, [Some(2)]);
    assert_eq!(server.hashes(&["todos"])["todos"].record_count, 0);
}

#[test]
fn children_may_come_before_their_parents_and_orphans_are_counted() {
    let Some(tools) = tools() else { return };
    let server = Sqld::start(&tools);
    server.sql(&[
        "CREATE TABLE people(id INTEGER PRIMARY KEY)",
        "CREATE TABLE todos(id INTEGER PRIMARY KEY, title TEXT NOT NULL, done INTEGER REFERENCES people(id))",
    ]);
    let mut children = todos();
    children.schema.fields[2].record_type = RecordType::INT64;
    let (mut sink, _) = open_sink(&config(&server, &server.url()));
    prepared(&mut sink, std::slice::from_ref(&children));
    let child = |id: i64, parent: i64| {
        let mut child = todo(id, "child");
        child.insert("done".to_owned(), Value::Int(parent));
        child
    };
    write_all(
        &mut sink,
        &children,
        &[child(1, 10), child(2, 20)],
        ConflictPolicy::Overwrite,
    );
    server.sql(&["INSERT INTO people VALUES (10)"]);
    let findings = sink.add_constraints().unwrap();
    assert_eq!(findings.len(), 1);
    assert!(findings[0].message.starts_with("1 records"), "{findings:?}");
}
