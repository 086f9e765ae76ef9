//! Fields that are first seen in mid-run: a column each, or the rest column.
//! And a collection that is emptied.

use whimbrel_plugin_api::acceptance::{Record, Value};
use whimbrel_plugin_api::record_type::{Field, RecordType};
use whimbrel_plugin_api::sink::{AlterRequest, Checkpoint, LaneId, PrepareReport};
use whimbrel_plugin_api::{Collection, ConflictPolicy, FindingLevel, Sink as _};

use super::harness::{File, batch_of, prepared, record, sorted, todo, todos, write};

/// `todos` with two more fields.
fn wider() -> Collection {
    let mut wider = todos();
    wider.schema.version += 1;
    wider.schema.fields.push(Field::required("due", RecordType::Date));
    wider.schema.fields.push(Field::new("TITLE", RecordType::Variant));
    wider
}

fn change(to: &Collection, overflow: bool) -> AlterRequest {
    AlterRequest {
        collection: "todos".to_owned(),
        old: todos().schema,
        new: to.schema.clone(),
        overflow,
    }
}

fn due(id: i64) -> Record {
    let mut record = todo(id, "later");
    record.insert("due".to_owned(), Value::Int(id));
    record.insert("TITLE".to_owned(), Value::text("7"));
    record
}

fn blockers(report: &PrepareReport) -> Vec<&str> {
    let blockers = report
        .findings
        .iter()
        .filter(|finding| finding.level == FindingLevel::Blocker);
    blockers.map(|finding| finding.code.as_str()).collect()
}

#[test]
fn new_fields_get_columns_or_go_into_the_rest_and_old_batches_still_come() {
    for (overflow, columns) in [
        (false, "id,title,done,due,_whimbrel_rest"),
        (true, "id,title,done,_whimbrel_rest"),
    ] {
        let file = File::new();
        let mut sink = file.sink();
        prepared(&mut sink, &todos());
        write(
            &mut sink,
            &todos(),
            &[todo(1, "first")],
            ConflictPolicy::Overwrite,
        );
        let report = sink.alter(&change(&wider(), overflow)).unwrap();
        assert_eq!(blockers(&report), Vec::<&str>::new());
        assert_eq!(report.ddl.len(), if overflow { 1 } else { 2 }, "{:?}", report.ddl);
        write(&mut sink, &wider(), &[due(2)], ConflictPolicy::Overwrite);
        write(
            &mut sink,
            &todos(),
            &[todo(3, "old schema")],
            ConflictPolicy::Overwrite,
        );
        assert_eq!(
            sink.alter(&change(&wider(), overflow)).unwrap().ddl,
            Vec::<String>::new(),
            "again changes nothing"
        );
        sink.finalize().unwrap();
        let found: String = file.one("SELECT group_concat(name) FROM pragma_table_xinfo('todos')");
        assert_eq!(found, columns);
        let without = |id, title: &str| {
            let mut record = todo(id, title);
            record.insert("due".to_owned(), Value::Null);
            record.insert("TITLE".to_owned(), Value::Null);
            record
        };
        let wanted = vec![without(1, "first"), due(2), without(3, "old schema")];
        assert_eq!(sorted(file.read("todos")), sorted(wanted));
        // The next run finds it all.
        assert_eq!(file.prepare(&[wider()]).ddl, Vec::<String>::new());
    }
}

#[test]
fn records_that_begin_to_lack_fields_are_told_from_then_on() {
    let file = File::new();
    let mut sink = file.sink();
    prepared(&mut sink, &todos());
    write(
        &mut sink,
        &todos(),
        &[todo(1, "whole")],
        ConflictPolicy::Overwrite,
    );
    let mut sparse = todos();
    sparse.schema.presence = true;
    sink.alter(&change(&sparse, false)).unwrap();
    let lacking = record([
        ("id", Value::Int(2)),
        ("title", Value::text("x")),
        ("done", Value::Absent),
    ]);
    write(
        &mut sink,
        &sparse,
        std::slice::from_ref(&lacking),
        ConflictPolicy::Overwrite,
    );
    assert_eq!(
        sorted(file.read("todos")),
        sorted(vec![todo(1, "whole"), lacking])
    );
}

#[test]
fn a_type_that_changes_is_a_blocker_and_changes_nothing() {
    let file = File::new();
    let mut sink = file.sink();
    prepared(&mut sink, &todos());
    write(
        &mut sink,
        &todos(),
        &[todo(1, "first")],
        ConflictPolicy::Overwrite,
    );
    let mut changed = wider();
    changed.schema.fields[2].record_type = RecordType::Text;
    let report = sink.alter(&change(&changed, false)).unwrap();
    assert_eq!(blockers(&report), ["turso.narrower_type"]);
    write(
        &mut sink,
        &todos(),
        &[todo(2, "second")],
        ConflictPolicy::Overwrite,
    );
    assert_eq!(
        sorted(file.read("todos")),
        sorted(vec![todo(1, "first"), todo(2, "second")])
    );
}

#[test]
fn nothing_is_altered_with_a_transaction_open() {
    let file = File::new();
    let mut sink = file.sink();
    prepared(&mut sink, &todos());
    sink.begin(&LaneId::default()).unwrap();
    assert_eq!(
        sink.alter(&change(&wider(), false)).unwrap_err().code,
        "plugin.internal"
    );
    let batch = batch_of(&todos(), &[todo(1, "still")]);
    sink.write("todos", &batch, ConflictPolicy::Overwrite).unwrap();
    sink.commit(&Checkpoint::default()).unwrap();
    assert_eq!(file.read("todos"), [todo(1, "still")]);
}

#[test]
fn clearing_takes_the_records_and_leaves_the_tables() {
    let file = File::new();
    file.write(&todos(), &[todo(1, "a"), todo(2, "b")], ConflictPolicy::Overwrite);
    let mut sink = file.sink();
    let request = |name: &str| whimbrel_plugin_api::sink::ClearRequest {
        collections: vec![name.to_owned()],
    };
    assert_eq!(
        sink.clear(&request("nope")).unwrap_err().code,
        "source.no_collection"
    );
    assert_eq!(sink.clear(&request("todos")).unwrap().removed, [Some(2)]);
    assert_eq!(file.read("todos"), []);
    assert_eq!(file.collections()[0].schema, todos().schema);
}
