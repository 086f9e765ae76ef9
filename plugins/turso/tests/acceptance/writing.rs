//! What becomes of records: policies, rejected records, transactions, and other users of the file.
//! A commit is whole, and nothing else stays.

use whimbrel_plugin_api::acceptance::{Record, Value};
use whimbrel_plugin_api::record_type::{Field, RecordType, Schema};
use whimbrel_plugin_api::sink::{Checkpoint, Committed, LaneId};
use whimbrel_plugin_api::{Collection, ConflictPolicy, ErrorKind, ErrorScope, Sink as _, Source as _};

use crate::harness::{File, batch_of, prepared, record, rejected, sorted, todo, todos, write};

#[test]
fn a_key_that_comes_twice_is_rejected_the_second_time_under_fail() {
    let file = File::new();
    let receipt = file.write(
        &todos(),
        &[todo(1, "first"), todo(2, "b"), todo(1, "second")],
        ConflictPolicy::Fail,
    );
    assert_eq!(
        (receipt.accepted, rejected(&receipt)),
        (2, vec![(2, "turso.exists")])
    );
    assert_eq!(receipt.rejected[0].record, "1");
    assert!(!receipt.rejected[0].message.contains("second"));
    assert_eq!(sorted(file.read("todos")), [todo(1, "first"), todo(2, "b")]);
}

#[test]
fn removing_a_record_deletes_and_changes_no_other_one() {
    for action in ["CASCADE", "SET NULL", "SET DEFAULT"] {
        let file = File::new();
        file.execute(&format!(
            "CREATE TABLE todos(id INTEGER PRIMARY KEY, title TEXT NOT NULL, done INT);
             CREATE TABLE notes(id INTEGER PRIMARY KEY, todo INT DEFAULT 2 REFERENCES todos ON DELETE {action});
             INSERT INTO todos VALUES(1, 'a', 1), (2, 'b', 1); INSERT INTO notes VALUES(1, 1), (2, 2)"
        ));
        let mut sink = file.sink();
        prepared(&mut sink, &todos());
        sink.begin(&LaneId::default()).unwrap();
        let key = batch_of(&todos(), &[todo(1, "a")]);
        assert_eq!(sink.remove("todos", &key).unwrap(), 1);
        sink.commit(&Checkpoint::default()).unwrap();
        assert_eq!(file.one::<i64>("SELECT count(*) FROM todos"), 1);
        let notes = "SELECT group_concat(id || '-' || todo, ' ') FROM (SELECT * FROM notes ORDER BY id)";
        assert_eq!(file.one::<String>(notes), "1-1 2-2", "{action}");
    }
}

#[test]
fn overwriting_keeps_columns_that_the_job_does_not_know() {
    let file = File::new();
    file.execute("CREATE TABLE todos(id INTEGER PRIMARY KEY, title TEXT, done INT, mine TEXT DEFAULT 'd'); INSERT INTO todos VALUES(1, 'a', 1, 'kept')");
    let receipt = file.write(&todos(), &[todo(1, "new")], ConflictPolicy::Overwrite);
    assert_eq!((receipt.accepted, receipt.skipped), (1, 0));
    assert_eq!(
        file.one::<String>("SELECT title || mine || ifnull(done, 'null') FROM todos"),
        "newkeptnull"
    );
}

#[test]
fn records_that_cannot_be_stored_are_named_and_leave_no_trace() {
    let file = File::new();
    file.execute(
        "CREATE TABLE todos(id TEXT PRIMARY KEY, title TEXT UNIQUE NOT NULL, n INTEGER CHECK(n > 0), f REAL NOT NULL);
         CREATE TABLE seen(id TEXT);
         CREATE TRIGGER watch AFTER INSERT ON todos BEGIN INSERT INTO seen VALUES (new.id); END;
         CREATE TRIGGER refuse BEFORE INSERT ON todos WHEN new.title = 'refuse' BEGIN SELECT raise(ABORT, 'secret'); END;
         CREATE TRIGGER ignore BEFORE INSERT ON todos WHEN new.title = 'ignore' BEGIN SELECT raise(IGNORE); END;",
    );
    let fields = vec![
        Field::new("id", RecordType::Text),
        Field::new("title", RecordType::Text),
        Field::new("n", RecordType::INT64),
        Field::required("f", RecordType::FLOAT64),
    ];
    let collection = Collection::new("todos", Schema::new(fields)).with_key(["id"]);
    let row = |id: Value, title: Value, n: i64, f: f64| {
        record([
            ("id", id),
            ("title", title),
            ("n", Value::Int(n)),
            ("f", Value::float(f)),
        ])
    };
    let text = Value::text;
    let records = [
        row(text("a"), text("one"), 1, 1.0),
        row(text("b"), text("one"), 1, 1.0),
        row(text("c"), Value::Null, 1, 1.0),
        row(text("d"), text("two"), -1, 1.0),
        row(Value::Null, text("three"), 1, 1.0),
        row(text("f"), text("refuse"), 1, 1.0),
        row(text("g"), text("ignore"), 1, 1.0),
        row(text("h"), text("four"), 1, f64::NAN),
        row(text("i"), text("five"), 1, 1.0),
    ];
    let receipt = file.write(&collection, &records, ConflictPolicy::Overwrite);
    let wanted = vec![
        (1, "turso.unique"),
        (2, "turso.null_in_required"),
        (3, "turso.check_failed"),
        (4, "turso.null_in_key"),
        (5, "turso.trigger_refused"),
        (6, "turso.trigger_refused"),
        (7, "turso.null_in_required"),
    ];
    assert_eq!((receipt.accepted, rejected(&receipt)), (2, wanted));
    assert!(
        receipt
            .rejected
            .iter()
            .all(|rejected| !rejected.message.contains("secret"))
    );
    assert_eq!(receipt.rejected[3].record, "row 4 of its batch");
    assert_eq!(file.one::<String>("SELECT group_concat(id) FROM todos"), "a,i");
    assert_eq!(file.one::<String>("SELECT group_concat(id) FROM seen"), "a,i");
}

#[test]
fn a_null_key_is_never_numbered_by_the_database() {
    let fields = vec![Field::new("id", RecordType::INT64)];
    let collection = Collection::new("t", Schema::new(fields)).with_key(["id"]);
    let file = File::new();
    let rows = [
        record([("id", Value::Null)]),
        record([("id", Value::Int(i64::MIN))]),
    ];
    for policy in [
        ConflictPolicy::Overwrite,
        ConflictPolicy::Skip,
        ConflictPolicy::Fail,
        ConflictPolicy::Append,
    ] {
        assert_eq!(
            rejected(&file.write(&collection, &rows[..1], policy)),
            [(0, "turso.null_in_key")]
        );
    }
    // A record that is nothing but its key needs no change when it comes again.
    for _ in 0..2 {
        let receipt = file.write(&collection, &rows[1..], ConflictPolicy::Overwrite);
        assert_eq!((receipt.accepted, receipt.skipped), (1, 0));
    }
    assert_eq!(file.read("t"), rows[1..]);
}

#[test]
fn declared_conflict_clauses_do_not_drop_or_replace_records() {
    for clause in ["REPLACE", "IGNORE", "ROLLBACK", "FAIL"] {
        let file = File::new();
        file.execute(&format!(
            "CREATE TABLE todos(id INTEGER PRIMARY KEY ON CONFLICT {clause}, title TEXT NOT NULL ON CONFLICT {clause}, done INT)"
        ));
        let records = [todo(1, "stays"), todo(1, "comes"), todo(2, "after")];
        let receipt = file.write(&todos(), &records, ConflictPolicy::Fail);
        assert_eq!(
            (receipt.accepted, rejected(&receipt)),
            (2, vec![(1, "turso.exists")]),
            "{clause}"
        );
        assert_eq!(
            sorted(file.read("todos")),
            [todo(1, "stays"), todo(2, "after")],
            "{clause}"
        );
    }
}

#[test]
fn a_trigger_that_undoes_the_transaction_ends_it() {
    let file = File::new();
    file.prepare(&[todos()]);
    file.execute(
        "CREATE TRIGGER undo BEFORE INSERT ON todos WHEN new.id = 2 BEGIN SELECT raise(ROLLBACK, 'no'); END",
    );
    let mut sink = file.sink();
    prepared(&mut sink, &todos());
    sink.begin(&LaneId::default()).unwrap();
    let records = [todo(1, "a"), todo(2, "b"), todo(3, "c")];
    let error = sink
        .write("todos", &batch_of(&todos(), &records), ConflictPolicy::Overwrite)
        .unwrap_err();
    assert_eq!(
        (error.code.as_str(), error.scope),
        ("turso.transaction_lost", ErrorScope::Transaction)
    );
    assert_eq!(
        sink.commit(&Checkpoint::default()).unwrap_err().code,
        "turso.no_transaction"
    );
    assert_eq!(file.one::<i64>("SELECT count(*) FROM todos"), 0);
}

fn present(id: i64, title: Value, extra: Value) -> Record {
    record([
        ("id", Value::Int(id)),
        ("title", title),
        ("TITLE", extra.clone()),
        ("Title", extra),
    ])
}

fn with_presence() -> Collection {
    let fields = vec![
        Field::required("id", RecordType::INT64),
        Field::new("title", RecordType::Text),
        Field::new("TITLE", RecordType::Text),
        Field::new("Title", RecordType::Text),
    ];
    let mut collection = Collection::new("t", Schema::new(fields)).with_key(["id"]);
    collection.schema.presence = true;
    collection
}

#[test]
fn merging_changes_only_the_fields_that_a_record_has() {
    let file = File::new();
    let text = Value::text;
    file.write(
        &with_presence(),
        &[
            present(1, text("a"), text("b")),
            present(2, text("c"), Value::Null),
        ],
        ConflictPolicy::Overwrite,
    );
    let coming = [
        record([
            ("id", Value::Int(1)),
            ("title", Value::Absent),
            ("TITLE", text("new")),
            ("Title", Value::Absent),
        ]),
        record([
            ("id", Value::Int(2)),
            ("title", Value::Absent),
            ("TITLE", Value::Absent),
            ("Title", text("x")),
        ]),
        record([
            ("id", Value::Int(3)),
            ("title", text("third")),
            ("TITLE", Value::Absent),
            ("Title", Value::Absent),
        ]),
        record([
            ("id", Value::Int(1)),
            ("title", Value::Null),
            ("TITLE", Value::Absent),
            ("Title", Value::Absent),
        ]),
    ];
    let receipt = file.write(&with_presence(), &coming, ConflictPolicy::Merge);
    assert_eq!((receipt.accepted, receipt.rejected.len()), (4, 0));
    let row = |id, title, upper, mixed| {
        record([
            ("id", Value::Int(id)),
            ("title", title),
            ("TITLE", upper),
            ("Title", mixed),
        ])
    };
    let wanted = [
        row(1, Value::Null, text("new"), text("b")),
        row(2, text("c"), Value::Null, text("x")),
        row(3, text("third"), Value::Absent, Value::Absent),
    ];
    assert_eq!(sorted(file.read("t")), sorted(wanted.to_vec()));
}

#[test]
fn fields_of_the_rest_column_that_a_job_does_not_know_stay() {
    let mut collection = with_presence();
    collection.schema.presence = false;
    for policy in [ConflictPolicy::Overwrite, ConflictPolicy::Merge] {
        let file = File::new();
        let text = Value::text;
        file.write(
            &collection,
            &[present(1, text("a"), text("b"))],
            ConflictPolicy::Overwrite,
        );
        for narrow in [vec!["id", "title"], vec!["id", "title", "TITLE"]] {
            let mut known = collection.clone();
            known
                .schema
                .fields
                .retain(|field| narrow.contains(&field.name.as_str()));
            let row = [
                present(1, text("new"), text("new")),
                present(2, text("new"), text("new")),
            ];
            let receipt = file.write(&known, &row, policy);
            assert_eq!(receipt.accepted, 2);
            let upper = if narrow.len() == 3 { "new" } else { "b" };
            let stored = file
                .read("t")
                .into_iter()
                .find(|record| record["id"] == Value::Int(1))
                .unwrap();
            let wanted = [
                ("id", Value::Int(1)),
                ("title", text("new")),
                ("TITLE", text(upper)),
                ("Title", text("b")),
            ];
            assert_eq!(stored, record(wanted), "{policy:?} {narrow:?}");
        }
    }
}

#[test]
fn nothing_is_there_until_commit_and_nothing_stays_without() {
    let file = File::new();
    let mut sink = file.sink();
    prepared(&mut sink, &todos());
    sink.begin(&LaneId::default()).unwrap();
    sink.write(
        "todos",
        &batch_of(&todos(), &[todo(1, "a")]),
        ConflictPolicy::Overwrite,
    )
    .unwrap();
    assert_eq!(file.one::<i64>("SELECT count(*) FROM todos"), 0);
    drop(sink);
    assert_eq!(file.one::<i64>("SELECT count(*) FROM todos"), 0);
}

/// A process that dies leaves the file, its log and nothing else: that is what is copied here.
#[test]
fn a_crash_keeps_what_was_committed_and_nothing_else() {
    let file = File::new();
    let mut sink = file.sink();
    prepared(&mut sink, &todos());
    write(
        &mut sink,
        &todos(),
        &[todo(1, "committed")],
        ConflictPolicy::Overwrite,
    );
    sink.begin(&LaneId::default()).unwrap();
    let many: Vec<Record> = (2..20_000)
        .map(|id| todo(id, "not committed, and long enough to leave the cache"))
        .collect();
    for _ in 0..4 {
        sink.write("todos", &batch_of(&todos(), &many), ConflictPolicy::Overwrite)
            .unwrap();
    }
    let copy = File::new();
    for ending in ["", "-wal"] {
        let name = |path: &std::path::Path| format!("{}{ending}", path.display());
        std::fs::copy(name(&file.path), name(&copy.path)).unwrap();
    }
    assert_eq!(copy.read("todos"), [todo(1, "committed")]);
    assert_eq!(copy.one::<String>("PRAGMA integrity_check"), "ok");
}

#[test]
fn a_second_writer_waits_its_time_and_is_told_so() {
    let file = File::new();
    file.prepare(&[todos()]);
    let other = file.sql();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let blocker = &file.sink().check().unwrap()[0];
    assert_eq!(blocker.code, "turso.busy");
    let mut sink = file.sink();
    prepared(&mut sink, &todos());
    let error = sink.begin(&LaneId::default()).unwrap_err();
    assert_eq!(
        (error.kind, error.code.as_str()),
        (ErrorKind::Unavailable, "turso.busy")
    );
    assert_eq!(error.scope, ErrorScope::Transaction);
    other.execute_batch("ROLLBACK").unwrap();
    write(&mut sink, &todos(), &[todo(1, "a")], ConflictPolicy::Overwrite);
    assert!(file.sink().check().unwrap().is_empty());
}

#[test]
fn after_finalize_the_file_alone_is_whole() {
    let file = File::new();
    let mut sink = file.sink();
    prepared(&mut sink, &todos());
    write(&mut sink, &todos(), &[todo(1, "a")], ConflictPolicy::Overwrite);
    sink.finalize().unwrap();
    let copy = File::new();
    std::fs::copy(&file.path, &copy.path).unwrap();
    assert_eq!(copy.read("todos"), [todo(1, "a")]);
}

#[test]
fn orphans_are_told_after_the_load_and_parents_may_come_later() {
    let file = File::new();
    file.execute("CREATE TABLE lists(id INTEGER PRIMARY KEY); CREATE TABLE todos(id INTEGER PRIMARY KEY REFERENCES lists(id), title TEXT, done INT)");
    let mut sink = file.sink();
    prepared(&mut sink, &todos());
    write(
        &mut sink,
        &todos(),
        &[todo(1, "a"), todo(2, "b")],
        ConflictPolicy::Overwrite,
    );
    file.sql().execute_batch("INSERT INTO lists VALUES (1)").unwrap();
    let findings = sink.add_constraints().unwrap();
    assert_eq!((findings[0].code.as_str(), findings.len()), ("turso.orphans", 1));
    assert!(findings[0].message.starts_with("1 records"));
}

#[test]
fn calls_out_of_order_are_errors_and_leave_the_session_usable() {
    let file = File::new();
    let mut sink = file.sink();
    let batch = batch_of(&todos(), &[todo(1, "a")]);
    assert_eq!(
        sink.write("todos", &batch, ConflictPolicy::Overwrite)
            .unwrap_err()
            .code,
        "turso.no_transaction"
    );
    prepared(&mut sink, &todos());
    assert_eq!(
        sink.commit(&Checkpoint::default()).unwrap_err().code,
        "turso.no_transaction"
    );
    sink.begin(&LaneId::default()).unwrap();
    assert_eq!(
        sink.begin(&LaneId::default()).unwrap_err().scope,
        ErrorScope::Write
    );
    let mut other = todos();
    other.schema.fields.push(Field::new("unknown", RecordType::Text));
    let error = sink
        .write("todos", &batch_of(&other, &[]), ConflictPolicy::Overwrite)
        .unwrap_err();
    assert_eq!(
        (error.code.as_str(), error.scope),
        ("turso.unknown_field", ErrorScope::Write)
    );
    let mut changed = todos();
    changed.schema.fields[1].record_type = RecordType::INT64;
    let error = sink
        .write("todos", &batch_of(&changed, &[]), ConflictPolicy::Overwrite)
        .unwrap_err();
    assert_eq!(
        (error.code.as_str(), error.scope),
        ("turso.changed_field", ErrorScope::Write)
    );
    let receipt = sink.write("todos", &batch, ConflictPolicy::Overwrite).unwrap();
    assert_eq!(receipt.accepted, 1);
    let checkpoint = Checkpoint {
        seq: 41,
        ..Checkpoint::default()
    };
    assert_eq!(
        sink.commit(&checkpoint).unwrap(),
        Committed::Committed { seq: 42 }
    );
    assert_eq!(file.read("todos"), [todo(1, "a")]);
}

#[test]
fn a_folder_that_is_not_there_or_a_file_that_is_no_database_is_found() {
    let file = File::new();
    std::fs::write(&file.path, "no database ".repeat(1_000)).unwrap();
    assert_eq!(file.sink().check().unwrap()[0].code, "turso.not_a_database");
    assert_eq!(file.source().check().unwrap()[0].code, "turso.not_a_database");
    let missing = file.path.join("folder/app.db");
    let missing = File::new().with("url", missing.to_str().unwrap());
    assert_eq!(missing.sink().check().unwrap()[0].code, "turso.folder_missing");
    assert_eq!(missing.source().check().unwrap()[0].code, "turso.file_missing");
}
