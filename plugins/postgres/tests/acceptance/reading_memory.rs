//! What was written once and a column cannot say: remembered types, absent fields, members of the rest column.
//! The tables are made by hand here, so that no mistake of the sink can hide one of the source.

use whimbrel_plugin_api::ReadRequest;
use whimbrel_plugin_api::acceptance::Value;
use whimbrel_plugin_api::record_type::{Field, RecordType};
use whimbrel_plugin_api::serde_json::json;

use crate::postgres::PORTER;
use crate::reading_place::{Place, in_batches, places, record};

const DOCS: &str = r#"
CREATE SCHEMA whimbrel;
CREATE TABLE whimbrel.columns(table_schema text, table_name text, field_name text, position integer, column_name text,
  record_type text, is_nullable boolean, may_be_absent boolean, PRIMARY KEY (table_schema, table_name, field_name));
INSERT INTO whimbrel.columns VALUES
  ('public', 'docs', 'title', 1, 'title', '{"type":"reference"}', true, true),
  ('public', 'docs', 'anything', 2, 'anything', '{"type":"variant"}', true, false),
  ('public', 'docs', 'far away', 3, NULL, '{"type":"int","bits":64}', true, true),
  ('public', 'docs', '$odd', 4, NULL, '{"type":"json"}', false, false),
  ('public', 'docs', 'of another time', 5, 'gone', '{"type":"variant"}', true, false);
CREATE TABLE docs(id int PRIMARY KEY, title text, anything jsonb, last boolean, _whimbrel_rest json);
INSERT INTO docs VALUES
  (1, 't', '{"a": 1}', true, '{"far away": 7, "$$odd": "[1.50]"}'),
  (2, NULL, NULL, NULL, '{"$$odd": "null", "$absent": ["title", "far away", "unknown"]}'),
  (3, NULL, NULL, NULL, '{"far away": "x", "$$odd": "1"}'), (4, 'x', NULL, NULL, NULL), (5, 'x', NULL, NULL, '[]'),
  (6, 'x', NULL, NULL, '{"$$odd": "1", "$absent": 3}'), (7, 'y', NULL, false, '{"$$odd": "1"}');
"#;

#[test]
fn what_was_written_is_read_as_it_was() {
    for place in places(DOCS) {
        let collection = place.collection("docs");
        assert!(collection.schema.presence);
        let fields = [
            Field::required("id", RecordType::Int { bits: 32 }),
            Field::new("title", RecordType::Reference),
            Field::new("anything", RecordType::Variant),
            Field::new("far away", RecordType::INT64),
            Field::required("$odd", RecordType::Json),
            Field::new("last", RecordType::Bool),
        ];
        assert_eq!(collection.schema.fields, fields);
        let full = |id, title, anything, far, odd: &str, last| {
            record([
                ("id", Value::Int(id)),
                ("title", title),
                ("anything", anything),
                ("far away", far),
                ("$odd", Value::text(odd)),
                ("last", last),
            ])
        };
        let expected = [
            full(
                1,
                Value::text("t"),
                Value::text("{\"a\": 1}"),
                Value::Int(7),
                "[1.50]",
                Value::Bool(true),
            ),
            full(2, Value::Absent, Value::Null, Value::Absent, "null", Value::Null),
            full(
                7,
                Value::text("y"),
                Value::Null,
                Value::Null,
                "1",
                Value::Bool(false),
            ),
        ];
        for records in [1, 2, 100] {
            let reading = place.read_with(&in_batches("docs", records)).unwrap();
            assert_eq!(reading.records, expected);
            let rejected = reading.rejected.iter();
            let rejected: Vec<_> = rejected
                .map(|one| (one.record.as_str(), one.code.as_str()))
                .collect();
            assert_eq!(rejected, ["3", "4", "5", "6"].map(|id| (id, "postgres.bad_rest")));
        }
        // A member alone, without the key.
        let request = ReadRequest {
            columns: vec!["far away".to_owned()],
            limit: Some(2),
            ..ReadRequest::all("docs")
        };
        let reading = place.read_with(&request).unwrap();
        assert_eq!(
            reading.records,
            [
                record([("far away", Value::Int(7))]),
                record([("far away", Value::Absent)])
            ]
        );
    }
}

#[test]
fn without_the_memory_a_table_is_what_its_columns_are() {
    for place in places(DOCS) {
        place.database.sql(&format!("GRANT SELECT ON docs TO {PORTER}"));
        let place = Place {
            config: json!({ "url": place.database.password_url() }),
            ..place
        };
        let collection = place.collection("docs");
        let of = |name: &str| {
            let index = collection.schema.index_of(name);
            index.map(|index| collection.schema.fields[index].record_type.clone())
        };
        assert!(!collection.schema.presence);
        assert_eq!(of("title"), Some(RecordType::Text));
        assert_eq!(of("_whimbrel_rest"), Some(RecordType::Json));
        assert_eq!(place.read("docs").len(), 7);
    }
}
