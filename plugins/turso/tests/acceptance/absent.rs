//! Absent apart from null: kept in the rest column, by every policy, or given up as declared.
//! Other programs see null in the columns, and the names of what is absent beside them.

use std::sync::Arc;

use whimbrel_plugin_api::acceptance::{Record, Value};
use whimbrel_plugin_api::arrow_array::{BinaryArray, RecordBatch};
use whimbrel_plugin_api::record_type::{Field, RecordType, Schema};
use whimbrel_plugin_api::sink::LaneId;
use whimbrel_plugin_api::{Batch, Collection, ConflictPolicy, Loss, ReadRequest, Sink as _};

use super::harness::{File, batch_of, prepared, record, rejected, sorted, todo, todos};

/// `t`: id (key), a, b, and `$absent`, a field of an unlucky name; records may lack all but the key.
fn sparse() -> Collection {
    let fields = vec![
        Field::required("id", RecordType::INT64),
        Field::new("a", RecordType::Text),
        Field::new("b", RecordType::INT64),
        Field::new("$absent", RecordType::Json),
    ];
    let schema = Schema {
        presence: true,
        ..Schema::new(fields)
    };
    Collection::new("t", schema).with_key(["id"])
}

fn row(id: i64, a: Value, b: Value, c: Value) -> Record {
    record([("id", Value::Int(id)), ("a", a), ("b", b), ("$absent", c)])
}

fn three() -> Vec<Record> {
    vec![
        row(1, Value::Absent, Value::Null, Value::text("[]")),
        row(2, Value::text(""), Value::Absent, Value::Absent),
        row(3, Value::Null, Value::Int(0), Value::Null),
    ]
}

fn losses(file: &File) -> Vec<Vec<Loss>> {
    let report = file.prepare(&[sparse()]);
    report.collections[0]
        .fields
        .iter()
        .map(|field| field.losses.clone())
        .collect()
}

#[test]
fn absent_is_read_back_absent_and_null_as_null() {
    let file = File::new();
    assert_eq!(losses(&file), vec![Vec::<Loss>::new(); 4]);
    file.write(&sparse(), &three(), ConflictPolicy::Overwrite);
    assert_eq!(sorted(file.read("t")), sorted(three()));
    assert_eq!(file.collections()[0].schema, sparse().schema);
    // Other programs see nulls, and a column that names what is not there.
    let rest: String = file.one("SELECT group_concat(coalesce(_whimbrel_rest, '-'), ' ') FROM t");
    assert_eq!(rest, r#"{"$absent":["a"]} {"$absent":["b","$absent"]} -"#);
    // Who does not ask for presence gets nulls.
    let mut expected = sparse().schema;
    expected.presence = false;
    let request = ReadRequest {
        expected: Some(expected),
        ..ReadRequest::all("t")
    };
    let (found, _) = file.read_with(&request);
    assert!(
        found
            .iter()
            .flat_map(|record| record.values())
            .all(|value| *value != Value::Absent)
    );
}

#[test]
fn a_part_of_the_columns_has_its_own_presence() {
    let file = File::new();
    file.write(&sparse(), &three(), ConflictPolicy::Overwrite);
    let request = ReadRequest {
        columns: vec!["$absent".to_owned(), "a".to_owned()],
        ..ReadRequest::all("t")
    };
    let (found, _) = file.read_with(&request);
    let wanted = |a: Value, c: Value| record([("a", a), ("$absent", c)]);
    assert_eq!(
        sorted(found),
        sorted(vec![
            wanted(Value::Absent, Value::text("[]")),
            wanted(Value::text(""), Value::Absent),
            wanted(Value::Null, Value::Null),
        ])
    );
}

#[test]
fn a_record_that_comes_again_is_absent_where_it_is_now() {
    let file = File::new();
    file.write(&sparse(), &three(), ConflictPolicy::Overwrite);
    let again = [
        row(1, Value::text("now"), Value::Absent, Value::Null),
        row(2, Value::Null, Value::Null, Value::Null),
    ];
    file.write(&sparse(), &again, ConflictPolicy::Overwrite);
    let wanted = vec![again[0].clone(), again[1].clone(), three()[2].clone()];
    assert_eq!(sorted(file.read("t")), sorted(wanted));
}

#[test]
fn merging_brings_only_what_is_there() {
    let file = File::new();
    file.write(&sparse(), &three(), ConflictPolicy::Overwrite);
    let coming = [
        row(1, Value::Null, Value::Absent, Value::Absent),
        row(2, Value::Absent, Value::Int(5), Value::Absent),
        row(3, Value::Absent, Value::Absent, Value::Absent),
        row(4, Value::Absent, Value::Int(6), Value::Null),
    ];
    file.write(&sparse(), &coming, ConflictPolicy::Merge);
    let wanted = vec![
        row(1, Value::Null, Value::Null, Value::text("[]")),
        row(2, Value::text(""), Value::Int(5), Value::Absent),
        three()[2].clone(),
        coming[3].clone(),
    ];
    assert_eq!(sorted(file.read("t")), sorted(wanted));
}

#[test]
fn a_job_that_knows_fewer_fields_leaves_the_others_absent() {
    let mut narrow = sparse();
    narrow
        .schema
        .fields
        .retain(|field| field.name == "id" || field.name == "b");
    for (policy, presence) in [
        (ConflictPolicy::Overwrite, true),
        (ConflictPolicy::Overwrite, false),
        (ConflictPolicy::Merge, true),
        (ConflictPolicy::Merge, false),
    ] {
        let file = File::new();
        file.write(&sparse(), &three(), ConflictPolicy::Overwrite);
        narrow.schema.presence = presence;
        let coming = [record([("id", Value::Int(2)), ("b", Value::Int(7))])];
        file.write(&narrow, &coming, policy);
        let wanted = vec![
            three()[0].clone(),
            row(2, Value::text(""), Value::Int(7), Value::Absent),
            three()[2].clone(),
        ];
        assert_eq!(sorted(file.read("t")), sorted(wanted), "{policy:?} {presence}");
    }
}

#[test]
fn what_cannot_be_kept_is_declared() {
    let declared = vec![
        vec![],
        vec![Loss::AbsentToNull],
        vec![Loss::AbsentToNull],
        vec![Loss::AbsentToNull],
    ];
    let given_up = File::new().with("absent", "null");
    assert_eq!(losses(&given_up), declared);
    // A table of somebody else has no column for it, and gets none.
    let found = File::new();
    found.execute("CREATE TABLE t(id INTEGER PRIMARY KEY, a TEXT, b INTEGER, \"$absent\" TEXT)");
    assert_eq!(losses(&found), declared);
    for file in [given_up, found] {
        file.write(&sparse(), &three(), ConflictPolicy::Overwrite);
        assert!(
            file.read("t")
                .iter()
                .flat_map(|record| record.values())
                .all(|value| *value != Value::Absent)
        );
    }
}

#[test]
fn a_source_that_tells_nothing_of_absence_costs_no_column() {
    let file = File::new();
    file.write(&todos(), &[todo(1, "a")], ConflictPolicy::Overwrite);
    let columns: String = file.one("SELECT group_concat(name) FROM pragma_table_xinfo('todos')");
    assert_eq!(columns, "id,title,done");
}

#[test]
fn a_required_field_that_is_absent_is_refused() {
    let mut required = todos();
    required.schema.presence = true;
    let whole = batch_of(&required, &[todo(1, "masked")]);
    let mut columns = whole.records.columns().to_vec();
    columns[3] = Arc::new(BinaryArray::from(vec![&[0b101_u8][..]]));
    let masked = Batch::new(
        whole.schema.clone(),
        RecordBatch::try_new(whole.records.schema(), columns).unwrap(),
    )
    .unwrap();
    let file = File::new();
    let mut sink = file.sink();
    prepared(&mut sink, &required);
    sink.begin(&LaneId::default()).unwrap();
    let receipt = sink.write("todos", &masked, ConflictPolicy::Overwrite).unwrap();
    assert_eq!(rejected(&receipt), [(0, "turso.absent_in_required")]);
}

#[test]
fn a_damaged_list_is_a_record_that_does_not_fit() {
    let file = File::new();
    file.write(&sparse(), &three(), ConflictPolicy::Overwrite);
    file.execute("UPDATE t SET _whimbrel_rest = '{\"$absent\":3}' WHERE id = 1");
    let (found, rejected) = file.read_with(&ReadRequest::all("t"));
    assert_eq!(found.len(), 2);
    assert_eq!(rejected[0].code, "turso.value_does_not_fit");
}
