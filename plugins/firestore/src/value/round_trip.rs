//! Whatever goes in comes out: columns through documents, and documents through columns.
//! Tests of this folder alone; the samples are in `samples`.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use gcloud_sdk::google::firestore::v1::Value as Stored;
use gcloud_sdk::prost::Message as _;
use proptest::prelude::*;
use whimbrel_plugin_api::acceptance::losses::apply;
use whimbrel_plugin_api::acceptance::records::{batch, records};
use whimbrel_plugin_api::acceptance::values::edge_cases;
use whimbrel_plugin_api::acceptance::{Record, Value};
use whimbrel_plugin_api::{Batch, Field, RecordType, Schema};

use crate::error::RowFault;
use crate::path::{ID_FIELD, Pattern, Root};

use super::samples::{any_type, any_value, field_values, nullable, scalar_types};
use super::{Decoder, Encoder, Place, Seen, is_native, losses, type_table};

type Fields = HashMap<String, Stored>;

fn root() -> Root {
    Root::new("p", "d")
}

fn place(key: &str) -> Place {
    Place {
        pattern: Pattern::parse("c").unwrap(),
        key: vec![key.to_owned()],
    }
}

/// The documents of a batch, and what was rejected.
fn encoded(batch: &Batch, key: &str) -> Vec<Result<(String, Fields), RowFault>> {
    let encoder = Encoder::new(batch, &place(key), &root()).unwrap();
    (0..batch.record_count())
        .map(|row| Ok((encoder.path(row)?, encoder.fields(row)?)))
        .collect()
}

/// Documents read with a schema, through the octets in which they travel.
fn decoded(schema: &Arc<Schema>, documents: &[(String, Fields)]) -> Batch {
    let mut decoder = Decoder::new(schema, &Pattern::parse("c").unwrap(), &root(), false).unwrap();
    for (path, fields) in documents {
        let travelled = fields.iter().map(|(name, value)| {
            let octets = value.encode_to_vec();
            (name.clone(), Stored::decode(octets.as_slice()).unwrap())
        });
        decoder.push(path, &travelled.collect()).unwrap();
    }
    assert_eq!(decoder.len(), documents.len());
    Batch::new(Arc::clone(schema), decoder.finish().unwrap()).unwrap()
}

fn after_losses(schema: &Schema, record: &Record) -> Record {
    let lost = |field: &Field| {
        let losses = losses(&field.record_type);
        (
            field.name.clone(),
            apply(&losses, &field.record_type, &record[&field.name]),
        )
    };
    schema.fields.iter().map(lost).collect()
}

/// What is rejected.
const REJECTED: [(&str, &str); 3] = [
    ("json", "large number"),
    ("json", "lone surrogate"),
    ("variant", "large number"),
];

#[test]
fn every_edge_value_comes_back_but_for_declared_losses_and_listed_rejections() {
    let mut rejected = Vec::new();
    for case in edge_cases() {
        let (schema, all) = (case.schema(), case.records());
        let documents = encoded(&case.batch().unwrap(), "id");
        let mut kept = Vec::new();
        let mut written = Vec::new();
        for ((document, record), (label, _)) in documents.into_iter().zip(&all).zip(&case.values) {
            match document {
                Ok(document) => {
                    kept.push(document);
                    written.push(after_losses(&schema, record));
                }
                Err(fault) => {
                    assert_eq!(fault.code, "firestore.bad_value");
                    rejected.push((case.record_type.to_string(), (*label).to_owned()));
                }
            }
        }
        let read = records(&decoded(&schema, &kept));
        let read: Vec<Record> = read.iter().map(|record| after_losses(&schema, record)).collect();
        assert_eq!(read, written, "{}", case.record_type);
    }
    let listed: Vec<(String, String)> = REJECTED
        .iter()
        .map(|(record_type, value)| ((*record_type).to_owned(), (*value).to_owned()))
        .collect();
    assert_eq!(rejected, listed);
}

/// A schema of generated types and rows for it; with presence, some fields are not there.
fn columns() -> impl Strategy<Value = (Arc<Schema>, Vec<Record>)> {
    let types = proptest::collection::vec((any_type(), any::<bool>()), 1..5);
    (types, any::<bool>()).prop_flat_map(|(types, presence)| {
        let mut fields = vec![Field::required("id", RecordType::INT64)];
        fields.extend(
            types
                .into_iter()
                .enumerate()
                .map(|(index, (record_type, nullable))| Field {
                    nullable,
                    ..Field::new(format!("f{index}"), record_type)
                }),
        );
        let value = move |field: &Field| {
            let value = nullable(&field.record_type, field.nullable);
            if presence && field.nullable && field.name != "id" {
                prop_oneof![3 => value, 1 => Just(Value::Absent)].boxed()
            } else {
                value
            }
        };
        let row: Vec<_> = fields.iter().map(value).collect();
        let mut schema = Schema::new(fields);
        schema.presence = presence;
        let schema = Arc::new(schema);
        proptest::collection::vec(row, 0..6).prop_map(move |rows| {
            let names = || schema.fields.iter().map(|field| field.name.clone());
            let rows = rows.into_iter().map(|row| names().zip(row).collect()).collect();
            (Arc::clone(&schema), rows)
        })
    })
}

/// One schema per record type, so that each is met often.
fn one_column(record_type: RecordType) -> impl Strategy<Value = (Arc<Schema>, Vec<Record>)> {
    let schema = Arc::new(Schema::new(vec![
        Field::required("id", RecordType::INT64),
        Field::new("value", record_type.clone()),
    ]));
    proptest::collection::vec(nullable(&record_type, true), 0..8).prop_map(move |values| {
        let record = |(id, value): (usize, Value)| {
            Record::from([
                ("id".to_owned(), Value::Int(id as i64)),
                ("value".to_owned(), value),
            ])
        };
        (
            Arc::clone(&schema),
            values.into_iter().enumerate().map(record).collect(),
        )
    })
}

fn comes_back((schema, rows): (Arc<Schema>, Vec<Record>)) -> Result<(), TestCaseError> {
    let batch = batch(&schema, &rows).unwrap();
    let documents: Result<Vec<_>, RowFault> = encoded(&batch, "id").into_iter().collect();
    let documents = documents.map_err(|fault| TestCaseError::fail(fault.message))?;
    let mut seen: BTreeMap<&str, Seen> = BTreeMap::new();
    for (name, value) in documents.iter().flat_map(|(_, fields)| fields) {
        seen.entry(name).or_default().add(value);
    }
    for field in &schema.fields {
        if let Some(seen) = seen.get(field.name.as_str()) {
            prop_assert!(
                seen.fits(&field.record_type),
                "{} does not fit {}",
                seen.names(),
                field.record_type
            );
        }
    }
    let lossy = |record: &Record| after_losses(&schema, record);
    let read = records(&decoded(&schema, &documents));
    prop_assert_eq!(
        read.iter().map(lossy).collect::<Vec<_>>(),
        rows.iter().map(lossy).collect::<Vec<_>>()
    );
    Ok(())
}

proptest! {
    #[test]
    fn columns_come_back_through_documents(case in columns()) {
        comes_back(case)?;
    }

    #[test]
    fn documents_come_back_through_the_columns_that_are_inferred(
        fields in proptest::collection::vec(field_values(6), 1..5)
    ) {
        documents_come_back(&fields)?;
    }

    #[test]
    fn any_value_comes_back_through_a_variant(value in any_value()) {
        let schema = schema_of([("v", RecordType::Variant)]);
        let documents = [("c/x".to_owned(), Fields::from([("v".to_owned(), value)]))];
        same_documents(&schema, &documents)?;
        let text = &records(&decoded(&schema, &documents))[0]["v"];
        if let Value::Text(text) = text {
            prop_assert!(has_plain_numbers(text), "{text}");
        }
    }
}

#[test]
fn columns_of_each_type_come_back_through_documents() {
    for record_type in scalar_types() {
        let name = record_type.to_string();
        let config = ProptestConfig {
            test_name: Some("columns_of_each_type_come_back_through_documents"),
            source_file: Some(file!()),
            // For each of some thirty types.
            cases: 64,
            ..ProptestConfig::default()
        };
        let mut runner = proptest::test_runner::TestRunner::new(config);
        if let Err(failure) = runner.run(&one_column(record_type), comes_back) {
            panic!("{name}: {failure}");
        }
    }
}

fn schema_of<const N: usize>(fields: [(&str, RecordType); N]) -> Arc<Schema> {
    let mut all = vec![Field::required(ID_FIELD, RecordType::Text)];
    all.extend(fields.map(|(name, record_type)| Field::new(name, record_type)));
    let mut schema = Schema::new(all);
    schema.presence = true;
    Arc::new(schema)
}

/// Documents are the same after they were columns. Messages are compared by their octets, for NaN.
fn same_documents(schema: &Arc<Schema>, documents: &[(String, Fields)]) -> Result<(), TestCaseError> {
    let again: Result<Vec<_>, RowFault> = encoded(&decoded(schema, documents), ID_FIELD)
        .into_iter()
        .collect();
    let again = again.map_err(|fault| TestCaseError::fail(fault.message))?;
    prop_assert_eq!(
        format!("{:?}", sorted(&again)),
        format!("{:?}", sorted(documents))
    );
    Ok(())
}

/// Documents with their fields, and the members of maps, in the order of names.
fn sorted(documents: &[(String, Fields)]) -> Vec<(String, BTreeMap<String, String>)> {
    fn text(value: &Stored) -> String {
        use gcloud_sdk::google::firestore::v1::value::ValueType;
        match value.value_type.as_ref().unwrap() {
            ValueType::MapValue(map) => {
                let members: BTreeMap<&String, String> = map
                    .fields
                    .iter()
                    .map(|(name, value)| (name, text(value)))
                    .collect();
                format!("map {members:?}")
            }
            ValueType::ArrayValue(array) => {
                format!("array {:?}", array.values.iter().map(text).collect::<Vec<_>>())
            }
            other => format!("{other:?}"),
        }
    }
    let document = |(path, fields): &(String, Fields)| {
        let fields = fields.iter().map(|(name, value)| (name.clone(), text(value)));
        (path.clone(), fields.collect())
    };
    documents.iter().map(document).collect()
}

fn documents_come_back(fields: &[Vec<Option<Stored>>]) -> Result<(), TestCaseError> {
    let mut documents: Vec<(String, Fields)> = (0..fields[0].len())
        .map(|row| (format!("c/d{row}"), Fields::new()))
        .collect();
    let mut schema = Schema::new(vec![Field::required(ID_FIELD, RecordType::Text)]);
    schema.presence = true;
    for (index, values) in fields.iter().enumerate() {
        let name = format!("f{index}");
        let mut seen = Seen::default();
        for (document, value) in documents.iter_mut().zip(values) {
            if let Some(value) = value {
                seen.add(value);
                document.1.insert(name.clone(), value.clone());
            }
        }
        let record_type = seen.record_type();
        prop_assert!(is_native(&record_type), "{record_type}");
        prop_assert!(seen.fits(&record_type), "{record_type}");
        schema.fields.push(Field::new(name, record_type));
    }
    let schema = Arc::new(schema);
    same_documents(&schema, &documents)?;
    // What was stored again is inferred again.
    let again = encoded(&decoded(&schema, &documents), ID_FIELD);
    for field in &schema.fields[1..] {
        let mut seen = Seen::default();
        let values = again
            .iter()
            .filter_map(|document| document.as_ref().unwrap().1.get(&field.name));
        values.for_each(|value| seen.add(value));
        prop_assert_eq!(&seen.record_type(), &field.record_type);
    }
    Ok(())
}

/// Whether a store that keeps JSON numbers as decimals keeps the spelling of all that stand in a JSON text: no exponent, no
/// negative zero.
fn has_plain_numbers(json: &str) -> bool {
    let mut outside = String::new();
    let mut is_inside = false;
    let mut characters = json.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' if is_inside => drop(characters.next()),
            '"' => is_inside = !is_inside,
            _ if is_inside => {}
            _ => outside.push(character),
        }
    }
    outside
        .split(|character: char| !(character.is_ascii_alphanumeric() || "+-.".contains(character)))
        .filter(|word| word.starts_with(|first: char| first == '-' || first.is_ascii_digit()))
        .all(|number| {
            let is_zero = number.starts_with('-') && number.bytes().all(|octet| b"-0.".contains(&octet));
            !number.contains(['e', 'E']) && !is_zero
        })
}

#[test]
fn each_of_many_fields_is_there_or_not_for_itself() {
    let mut fields = vec![Field::required("id", RecordType::INT64)];
    fields.extend((0..20).map(|index| Field::new(format!("f{index}"), RecordType::INT64)));
    let mut schema = Schema::new(fields);
    schema.presence = true;
    let schema = Arc::new(schema);
    let rows: Vec<Record> = (0..20)
        .map(|there| {
            let mut row = Record::from([("id".to_owned(), Value::Int(there))]);
            row.extend((0..20).map(|index| {
                let value = if index == there {
                    Value::Int(index)
                } else {
                    Value::Absent
                };
                (format!("f{index}"), value)
            }));
            row
        })
        .collect();
    let documents: Vec<_> = encoded(&batch(&schema, &rows).unwrap(), "id")
        .into_iter()
        .map(Result::unwrap)
        .collect();
    for (index, (_, fields)) in documents.iter().enumerate() {
        let mut names: Vec<&String> = fields.keys().collect();
        names.sort();
        assert_eq!(names, [&format!("f{index}"), "id"]);
    }
    assert_eq!(records(&decoded(&schema, &documents)), rows);
}

#[test]
fn the_table_has_every_type_once() {
    let table = type_table();
    let types: Vec<RecordType> = table.iter().map(|mapping| mapping.record_type.clone()).collect();
    assert_eq!(types, RecordType::one_of_each());
    assert!(table.iter().all(|mapping| !mapping.stored_as.is_empty()));
}
