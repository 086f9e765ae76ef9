//! Whatever goes in comes out: the edges of each type, and generated batches of generated schemas, through the boundary.
//! Losses are those that were declared.

use proptest::prelude::*;
use whimbrel_plugin_api::acceptance::values::edge_cases;
use whimbrel_plugin_api::acceptance::{Record, Value};
use whimbrel_plugin_api::record_type::{Field, RecordType, Schema};
use whimbrel_plugin_api::{Collection, ConflictPolicy, ReadRequest};

use crate::harness::{File, record};

/// What the declared losses make of a value: those of floats, and only in a column of their own.
fn after_losses(record_type: &RecordType, value: &Value) -> Value {
    let is = |number: f64| *value == Value::float(number);
    match record_type {
        RecordType::Float { .. } if is(f64::NAN) => Value::Null,
        RecordType::Float { .. } if is(-0.0) => Value::float(0.0),
        _ => value.clone(),
    }
}

fn lossy(schema: &Schema, record: &Record) -> Record {
    let lost = |field: &Field| {
        (
            field.name.clone(),
            after_losses(&field.record_type, &record[&field.name]),
        )
    };
    schema.fields.iter().map(lost).collect()
}

#[test]
fn edge_values_of_every_type_come_back_but_for_the_declared_losses() {
    for edge in edge_cases() {
        let collection = Collection::new("t", (*edge.schema()).clone()).with_key(["id"]);
        let file = File::new();
        let records = edge.records();
        let receipt = file.write(&collection, &records, ConflictPolicy::Overwrite);
        assert_eq!(receipt.rejected, [], "{}", edge.record_type);
        let wanted: Vec<Record> = records
            .iter()
            .map(|record| lossy(&collection.schema, record))
            .collect();
        assert_eq!(file.read("t"), wanted, "{}", edge.record_type);
        // The same as a member of the rest column, where nothing is lost at all.
        let twin = Field::new("VALUE", edge.record_type.clone());
        let mut collection = collection;
        collection.schema.fields.push(twin);
        let with_twin = |mut record: Record| {
            let value = record["value"].clone();
            record.insert("VALUE".to_owned(), value);
            record
        };
        let records: Vec<Record> = records.into_iter().map(with_twin).collect();
        let file = File::new();
        let receipt = file.write(&collection, &records, ConflictPolicy::Overwrite);
        assert_eq!(receipt.rejected, [], "{} in the rest column", edge.record_type);
        let wanted: Vec<Record> = records
            .iter()
            .map(|record| {
                let mut wanted = lossy(&collection.schema, record);
                wanted.insert("VALUE".to_owned(), record["VALUE"].clone());
                wanted
            })
            .collect();
        assert_eq!(file.read("t"), wanted, "{} in the rest column", edge.record_type);
    }
}

/// Shows that the declared losses are those of the file format and not ours.
#[test]
fn the_database_itself_loses_nan_and_negative_zero_and_keeps_infinities() {
    let file = File::new();
    let sql = file.sql();
    sql.execute_batch("CREATE TABLE t(a REAL)").unwrap();
    for number in [
        f64::NAN,
        -0.0,
        f64::INFINITY,
        f64::NEG_INFINITY,
        f64::MIN_POSITIVE,
        5e-324,
    ] {
        sql.execute("INSERT INTO t VALUES (?1)", [number]).unwrap();
    }
    let mut statement = sql.prepare("SELECT a FROM t ORDER BY rowid").unwrap();
    let found: Vec<Option<u64>> = statement
        .query_map([], |row| row.get::<_, Option<f64>>(0))
        .unwrap()
        .map(|number| number.unwrap().map(f64::to_bits))
        .collect();
    let wanted = [
        None,
        Some(0.0),
        Some(f64::INFINITY),
        Some(f64::NEG_INFINITY),
        Some(f64::MIN_POSITIVE),
        Some(5e-324),
    ];
    assert_eq!(found, wanted.map(|number| number.map(f64::to_bits)));
}

#[test]
fn ten_megabytes_empty_texts_and_nul_survive() {
    let fields = vec![
        Field::required("id", RecordType::INT64),
        Field::new("text", RecordType::Text),
        Field::new("bytes", RecordType::Bytes),
        Field::new("json", RecordType::Json),
    ];
    let collection = Collection::new("t", Schema::new(fields)).with_key(["id"]);
    let large = "ü\0".repeat(10 * 1024 * 1024 / 3);
    let row = |id, text, bytes, json| {
        record([
            ("id", Value::Int(id)),
            ("text", text),
            ("bytes", bytes),
            ("json", json),
        ])
    };
    let rows = [
        row(
            1,
            Value::text(&large),
            Value::Bytes(large.clone().into_bytes()),
            Value::text("null"),
        ),
        row(
            2,
            Value::text(""),
            Value::Bytes(vec![]),
            Value::text(" {\"b\": 1.0,\n\"a\":1e2, \"a\": \"\\ud800\"} "),
        ),
        row(3, Value::Null, Value::Null, Value::Null),
    ];
    let file = File::new();
    file.write(&collection, &rows, ConflictPolicy::Overwrite);
    assert_eq!(file.read("t"), rows);
    assert_eq!(
        file.one::<i64>("SELECT octet_length(text) FROM t WHERE id = 1"),
        large.len() as i64
    );
}

fn scalar() -> BoxedStrategy<RecordType> {
    let types = [
        RecordType::Bool,
        RecordType::Int { bits: 8 },
        RecordType::Int { bits: 16 },
        RecordType::Int { bits: 32 },
        RecordType::INT64,
        RecordType::Float { bits: 32 },
        RecordType::FLOAT64,
        RecordType::Decimal {
            precision: 38,
            scale: 6,
        },
        RecordType::Decimal {
            precision: 60,
            scale: 0,
        },
        RecordType::Numeric,
        RecordType::Text,
        RecordType::Bytes,
        RecordType::Date,
        RecordType::Time,
        RecordType::TimeTz,
        RecordType::TimestampTz,
        RecordType::Timestamp,
        RecordType::Interval,
        RecordType::Uuid,
        RecordType::Json,
        RecordType::Geopoint,
        RecordType::Reference,
        RecordType::Vector,
        RecordType::Opaque {
            name: "inet".to_owned(),
        },
        RecordType::Variant,
    ];
    proptest::sample::select(types.to_vec()).boxed()
}

fn any_type() -> BoxedStrategy<RecordType> {
    scalar()
        .prop_recursive(2, 6, 3, |inner| {
            let members =
                proptest::collection::vec((inner.clone(), any::<bool>()), 1..3).prop_map(|members| {
                    RecordType::Struct {
                        fields: members
                            .into_iter()
                            .enumerate()
                            .map(|(index, (record_type, nullable))| Field {
                                nullable,
                                ..Field::new(format!("m{index}"), record_type)
                            })
                            .collect(),
                    }
                });
            prop_oneof![inner.prop_map(RecordType::list), members]
        })
        .boxed()
}

fn json() -> BoxedStrategy<String> {
    let leaf = prop_oneof![
        Just("null".to_owned()),
        Just(" true ".to_owned()),
        any::<i64>().prop_map(|number| number.to_string()),
        "[1-9][0-9]{0,30}\\.[0-9]{1,5}",
        any::<String>().prop_map(|text| serde_json::to_string(&text).unwrap()),
    ];
    leaf.prop_recursive(2, 8, 3, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..3)
                .prop_map(|items| format!("[{}]", items.join(", "))),
            proptest::collection::vec(inner, 0..3).prop_map(|items| format!(
                "{{\n{}}}",
                items
                    .iter()
                    .map(|item| format!("\"k\":{item}"))
                    .collect::<Vec<_>>()
                    .join(",")
            )),
        ]
    })
    .boxed()
}

fn value(record_type: &RecordType) -> BoxedStrategy<Value> {
    let float = prop_oneof![
        proptest::num::f64::ANY,
        Just(-0.0),
        Just(f64::NAN),
        Just(f64::INFINITY),
        Just(1e15)
    ];
    let text = |pattern: &'static str| pattern.prop_map(Value::text).boxed();
    match record_type {
        RecordType::Bool => any::<bool>().prop_map(Value::Bool).boxed(),
        RecordType::Int { bits } => {
            let shift = 64 - *bits;
            any::<i64>()
                .prop_map(move |number| Value::Int(number >> shift))
                .boxed()
        }
        RecordType::Float { bits: 32 } => any::<u32>()
            .prop_map(|bits| Value::float(f64::from(f32::from_bits(bits))))
            .boxed(),
        RecordType::Float { .. } => float.prop_map(Value::float).boxed(),
        RecordType::Decimal { .. } => any::<i64>()
            .prop_map(|number| Value::Decimal(number.into()))
            .boxed(),
        RecordType::Numeric => text("-?[0-9]{1,40}(\\.[0-9]{1,9})?"),
        RecordType::Text | RecordType::Reference | RecordType::Opaque { .. } => {
            any::<String>().prop_map(Value::text).boxed()
        }
        RecordType::Bytes => any::<Vec<u8>>().prop_map(Value::Bytes).boxed(),
        RecordType::Date => any::<i32>().prop_map(|day| Value::Int(day.into())).boxed(),
        RecordType::Time => (0..=86_400_000_000_i64).prop_map(Value::Int).boxed(),
        RecordType::TimeTz => {
            text("(0[0-9]|1[0-9]):[0-5][0-9]:[0-5][0-9](\\.[0-9]{5}[1-9])?[+-]0[0-9]:[0-5][0-9]")
        }
        RecordType::TimestampTz | RecordType::Timestamp => any::<i64>().prop_map(Value::Int).boxed(),
        RecordType::Interval => (any::<i32>(), any::<i32>(), any::<i64>())
            .prop_map(|(months, days, micros)| {
                Value::Struct(vec![
                    Value::Int(months.into()),
                    Value::Int(days.into()),
                    Value::Int(micros),
                ])
            })
            .boxed(),
        RecordType::Uuid => proptest::collection::vec(any::<u8>(), 16)
            .prop_map(Value::Bytes)
            .boxed(),
        RecordType::Json | RecordType::Variant => json().prop_map(Value::text).boxed(),
        RecordType::Geopoint => (float.clone(), float)
            .prop_map(|(lat, lng)| Value::Struct(vec![Value::float(lat), Value::float(lng)]))
            .boxed(),
        RecordType::Vector => proptest::collection::vec(float.prop_map(Value::float), 0..4)
            .prop_map(Value::List)
            .boxed(),
        RecordType::List { item } => proptest::collection::vec(nullable(item, true), 0..4)
            .prop_map(Value::List)
            .boxed(),
        RecordType::Struct { fields } => fields
            .iter()
            .map(|field| nullable(&field.record_type, field.nullable))
            .collect::<Vec<_>>()
            .prop_map(Value::Struct)
            .boxed(),
    }
}

fn nullable(record_type: &RecordType, is_nullable: bool) -> BoxedStrategy<Value> {
    if is_nullable {
        prop_oneof![1 => Just(Value::Null), 4 => value(record_type)].boxed()
    } else {
        value(record_type)
    }
}

/// Half of the names differ only in case, so that the rest column is used.
fn names(count: usize) -> Vec<String> {
    (0..count)
        .map(|index| {
            if index % 2 == 0 {
                format!("f{index}")
            } else {
                format!("F{}", index - 1)
            }
        })
        .collect()
}

fn case() -> impl Strategy<Value = (Collection, Vec<Record>)> {
    proptest::collection::vec((any_type(), any::<bool>()), 1..6).prop_flat_map(|types| {
        let mut fields = vec![Field::required("id", RecordType::INT64)];
        let named = names(types.len()).into_iter().zip(types);
        // A required float could not be NaN: that is a rejected record, tested elsewhere.
        fields.extend(named.map(|(name, (record_type, nullable))| Field {
            nullable: nullable || matches!(record_type, RecordType::Float { .. }),
            ..Field::new(name, record_type)
        }));
        let row: Vec<_> = fields[1..]
            .iter()
            .map(|field| nullable(&field.record_type, field.nullable))
            .collect();
        let collection = Collection::new("t", Schema::new(fields)).with_key(["id"]);
        let names: Vec<String> = collection.schema.fields[1..]
            .iter()
            .map(|field| field.name.clone())
            .collect();
        let records = proptest::collection::vec(row, 0..8).prop_map(move |rows| {
            rows.into_iter()
                .enumerate()
                .map(|(id, values)| {
                    let mut record: Record = names.iter().cloned().zip(values).collect();
                    record.insert("id".to_owned(), Value::Int(id as i64));
                    record
                })
                .collect::<Vec<_>>()
        });
        (Just(collection), records)
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn generated_batches_come_back((collection, records) in case()) {
        let file = File::new();
        let receipt = file.write(&collection, &records, ConflictPolicy::Overwrite);
        prop_assert_eq!(&receipt.rejected, &[]);
        let is_in_rest = |field: &Field| field.name.starts_with('F');
        let wanted: Vec<Record> = records
            .iter()
            .map(|record| {
                let mut wanted = lossy(&collection.schema, record);
                for field in collection.schema.fields.iter().filter(|field| is_in_rest(field)) {
                    wanted.insert(field.name.clone(), record[&field.name].clone());
                }
                wanted
            })
            .collect();
        prop_assert_eq!(&file.read("t"), &wanted);
        let request = ReadRequest { expected: Some(collection.schema.clone()), ..ReadRequest::all("t") };
        prop_assert_eq!(file.read_with(&request).0, wanted);
    }
}
