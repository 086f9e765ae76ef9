//! Fields that are first seen in mid-run: a column each, or the rest column.
//! The catalog is compared, not what the sink says of it.

use whimbrel_plugin_api::acceptance::{Record, Value};
use whimbrel_plugin_api::record_type::{Field, RecordType};
use whimbrel_plugin_api::sink::{AlterRequest, LaneId};
use whimbrel_plugin_api::{Collection, Sink as _};

use crate::preparing_place::{Place, blockers, codes, each, prepare, relations, todos, write};

/// `todos` with two more fields.
fn wider() -> Collection {
    let mut wider = todos();
    wider.schema.version += 1;
    wider.schema.fields.push(Field::required("due", RecordType::Date));
    wider.schema.fields.push(Field::new("mixed", RecordType::Variant));
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

fn table(place: &Place) -> String {
    relations(place)
        .into_iter()
        .find(|line| line.starts_with("public|todos|r|"))
        .unwrap()
}

#[test]
fn new_fields_get_columns_or_go_into_the_rest() {
    for (overflow, columns, remembered) in [
        (false, "due date, mixed jsonb", vec!["mixed|mixed"]),
        (true, "_whimbrel_rest json", vec!["due|-", "mixed|-"]),
    ] {
        each(|place| {
            let mut sink = place.prepared(&[todos()]);
            let first = sink.alter(&change(&wider(), overflow)).unwrap();
            assert_eq!(codes(&first.findings), Vec::<&str>::new());
            assert_eq!(
                table(place),
                format!("public|todos|r|id bigint NOT NULL, title text NOT NULL, done boolean, {columns}")
            );
            assert_eq!(
                place.lines("SELECT field_name, column_name FROM whimbrel.columns ORDER BY 1"),
                remembered
            );
            // Again changes nothing, neither in this session nor in another one.
            for sink in [&mut sink, &mut place.prepared(&[todos()])] {
                let again = sink.alter(&change(&wider(), overflow)).unwrap();
                assert_eq!((again.ddl, again.collections[0].fields.len()), (Vec::new(), 5));
            }
            // The next run finds it all.
            assert_eq!(prepare(place, &[wider()]).ddl, Vec::<String>::new());
        });
    }
}

#[test]
fn batches_of_both_schemas_are_written() {
    each(|place| {
        let mut sink = place.prepared(&[todos()]);
        let named = |values: &[(&str, Value)]| -> Record {
            values
                .iter()
                .map(|(name, value)| ((*name).to_owned(), value.clone()))
                .collect()
        };
        let old = |id| {
            named(&[
                ("id", Value::Int(id)),
                ("title", Value::text("old")),
                ("done", Value::Null),
            ])
        };
        let new = named(&[
            ("id", Value::Int(2)),
            ("title", Value::text("new")),
            ("done", Value::Null),
            ("due", Value::Int(7)),
            ("mixed", Value::text("1")),
        ]);
        write(&mut sink, &todos(), &[old(1)]);
        sink.alter(&change(&wider(), false)).unwrap();
        write(&mut sink, &wider(), &[new]);
        write(&mut sink, &todos(), &[old(3)]);
        assert_eq!(
            place.lines("SELECT id, title, done, due, mixed FROM todos ORDER BY id"),
            ["1|old|-|-|-", "2|new|-|1970-01-08|1", "3|old|-|-|-"]
        );
    });
}

#[test]
fn a_type_that_changes_is_a_blocker_and_changes_nothing() {
    each(|place| {
        let mut sink = place.prepared(&[todos()]);
        let before = relations(place);
        let mut changed = wider();
        changed.schema.fields[2].record_type = RecordType::Date;
        let report = sink.alter(&change(&changed, false)).unwrap();
        assert_eq!(
            blockers(&report.findings).collect::<Vec<_>>(),
            ["postgres.column_type"]
        );
        assert_eq!(relations(place), before);
    });
}

#[test]
fn remembered_types_may_widen_but_not_change() {
    let of = |record_type: &RecordType| {
        let mut collection = todos();
        collection
            .schema
            .fields
            .push(Field::new("x", record_type.clone()));
        collection
    };
    let (list, variant) = (
        RecordType::list(RecordType::list(RecordType::Text)),
        RecordType::Variant,
    );
    for (old, new, wanted) in [
        (&list, &variant, Vec::new()),
        (&variant, &list, vec!["postgres.type_changed"]),
        (&variant, &variant, Vec::new()),
    ] {
        each(|place| {
            prepare(place, &[of(old)]);
            place.execute("INSERT INTO todos VALUES (1, 'a')");
            assert_eq!(
                blockers(&prepare(place, &[of(new)]).findings).collect::<Vec<_>>(),
                wanted,
                "{old} {new}"
            );
            let now = if wanted.is_empty() { new } else { old };
            assert_eq!(
                place.lines("SELECT record_type FROM whimbrel.columns"),
                [whimbrel_plugin_api::serde_json::to_string(now).unwrap()]
            );
        });
    }
}

#[test]
fn nothing_is_altered_with_a_transaction_open() {
    each(|place| {
        let mut sink = place.prepared(&[todos()]);
        sink.begin(&LaneId::default()).unwrap();
        assert_eq!(
            sink.alter(&change(&wider(), false)).unwrap_err().code,
            "plugin.internal"
        );
        sink.abort().unwrap();
        sink.alter(&change(&wider(), false)).unwrap();
    });
}
