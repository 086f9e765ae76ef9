//! Values at random for the tests of this folder: of each record type, and of documents.
//! Neighbour: `round_trip`, which sends them both ways.

use std::collections::HashMap;

use arrow_buffer::i256;
use gcloud_sdk::google::firestore::v1::value::ValueType;
use gcloud_sdk::google::firestore::v1::{ArrayValue, MapValue, Value as Stored};
use gcloud_sdk::google::r#type::LatLng;
use gcloud_sdk::prost_types::Timestamp;
use proptest::prelude::*;
use whimbrel_plugin_api::acceptance::Value;
use whimbrel_plugin_api::{Field, RecordType};

use super::cell::{null, value, vector};

/// A double of any kind, with those that trip others.
pub(super) fn double() -> BoxedStrategy<f64> {
    prop_oneof![
        4 => proptest::num::f64::ANY,
        2 => (-1_000_000_i32..1_000_000).prop_map(|number| f64::from(number) / 100.0),
        1 => any::<i32>().prop_map(f64::from),
        2 => proptest::sample::select(vec![
            -0.0, 0.0, f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 5e-324, f64::MIN_POSITIVE, f64::MAX, 1e300, 1e15, 1e14,
            1e-6, 9e-7, 1e-5, 0.1, 0.30000000000000004, 9_007_199_254_740_993.0, 10.0,
        ]),
    ]
    .boxed()
}

fn integer() -> BoxedStrategy<i64> {
    prop_oneof![
        any::<i64>(),
        -200_i64..200,
        proptest::sample::select(vec![i64::MIN, i64::MAX, 0, -1, 1 << 53, (1 << 53) + 1]),
    ]
    .boxed()
}

fn text() -> BoxedStrategy<String> {
    prop_oneof![
        any::<String>(),
        "[a-z]{0,6}",
        proptest::sample::select(vec![
            "",
            "null",
            "007",
            "$type",
            "1.0",
            "infinity",
            "2024-12-31",
            "users/ann",
            "a\0b",
            "🦆 \"\\\u{7f}",
            "__x__",
        ])
        .prop_map(str::to_owned),
    ]
    .boxed()
}

/// Every record type that is no list and no struct, decimals of each form among them.
pub(super) fn scalar_types() -> Vec<RecordType> {
    let decimal = |precision, scale| RecordType::Decimal { precision, scale };
    let mut types: Vec<RecordType> = RecordType::one_of_each()
        .into_iter()
        .filter(|record_type| !matches!(record_type, RecordType::List { .. } | RecordType::Struct { .. }))
        .collect();
    types.extend([
        decimal(9, 0),
        decimal(18, 0),
        decimal(19, 0),
        decimal(15, 2),
        decimal(15, 15),
        decimal(16, 2),
        decimal(76, 38),
    ]);
    types
}

/// Any record type that documents can hold: no list directly within a list.
pub(super) fn any_type() -> BoxedStrategy<RecordType> {
    let scalar = proptest::sample::select(scalar_types());
    scalar
        .prop_recursive(3, 8, 3, |inner| {
            let members =
                proptest::collection::vec((inner.clone(), any::<bool>()), 1..4).prop_map(|members| {
                    let field = |(index, (record_type, nullable))| Field {
                        nullable,
                        ..Field::new(format!("m{index}"), record_type)
                    };
                    RecordType::Struct {
                        fields: members.into_iter().enumerate().map(field).collect(),
                    }
                });
            let item = inner.prop_filter("an array directly within an array", |item| {
                !matches!(
                    item,
                    RecordType::List { .. } | RecordType::Vector | RecordType::Json | RecordType::Variant
                )
            });
            prop_oneof![item.prop_map(RecordType::list), members]
        })
        .boxed()
}

/// A value of a record type that Firestore takes.
pub(super) fn of_type(record_type: &RecordType) -> BoxedStrategy<Value> {
    let texts = |pattern: &'static str| pattern.prop_map(Value::text).boxed();
    let int = |range: BoxedStrategy<i64>| range.prop_map(Value::Int).boxed();
    match record_type {
        RecordType::Bool => any::<bool>().prop_map(Value::Bool).boxed(),
        RecordType::Int { bits } => {
            let shift = 64 - *bits;
            integer()
                .prop_map(move |number| Value::Int(number >> shift))
                .boxed()
        }
        RecordType::Float { bits: 32 } => any::<u32>()
            .prop_map(|bits| Value::float(f64::from(f32::from_bits(bits))))
            .boxed(),
        RecordType::Float { .. } => double().prop_map(Value::float).boxed(),
        RecordType::Decimal { precision, .. } => {
            proptest::collection::vec(0_u8..10, 0..=usize::from(*precision))
                .prop_flat_map(|digits| {
                    let number = digits.iter().fold(i256::ZERO, |number, digit| {
                        number
                            .wrapping_mul(i256::from(10))
                            .wrapping_add(i256::from(i32::from(*digit)))
                    });
                    proptest::sample::select(vec![number, number.wrapping_neg()]).prop_map(Value::Decimal)
                })
                .boxed()
        }
        RecordType::Numeric => prop_oneof![
            texts("-?[0-9]{1,40}(\\.[0-9]{1,9})?"),
            texts("-?[1-9][0-9]{0,5}\\.[0-9]{1,3}"),
            texts("[+-]?[0-9]{1,3}(e-?[0-9]{1,3})?"),
            texts("NaN|Infinity|-Infinity|-0|-0\\.0|0\\.0|9223372036854775807|9223372036854775808"),
        ]
        .boxed(),
        RecordType::Text | RecordType::Opaque { .. } => text().prop_map(Value::Text).boxed(),
        RecordType::Reference => prop_oneof![
            texts("[a-z]{1,3}/[a-z]{1,3}(/[a-zü]{1,3}/[a-z.]{1,3})?"),
            texts("projects/q/databases/d/documents/[a-z]/[a-z]"),
            text().prop_map(Value::Text),
        ]
        .boxed(),
        RecordType::Bytes => any::<Vec<u8>>().prop_map(Value::Bytes).boxed(),
        RecordType::Date => any::<i32>().prop_map(|day| Value::Int(day.into())).boxed(),
        RecordType::Time => int((0..=86_400_000_000_i64).boxed()),
        RecordType::TimeTz => {
            texts("(0[0-9]|1[0-9]):[0-5][0-9]:[0-5][0-9](\\.[0-9]{5}[1-9])?[+-]0[0-9]:[0-5][0-9]")
        }
        RecordType::TimestampTz | RecordType::Timestamp => int(prop_oneof![
            any::<i64>(),
            -62_135_596_800_000_002_i64..-62_135_596_799_999_998,
            253_402_300_799_999_998_i64..253_402_300_800_000_002,
            0..2_000_000_000_000_000_i64,
            Just(i64::MAX),
            Just(i64::MIN),
        ]
        .boxed()),
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
        RecordType::Json => json(false).prop_map(Value::text).boxed(),
        RecordType::Variant => json(true).prop_map(Value::text).boxed(),
        RecordType::Geopoint => (prop_oneof![Just(-0.0), -90.0..=90.0_f64], -180.0..=180.0_f64)
            .prop_map(|(lat, lng)| Value::Struct(vec![Value::float(lat), Value::float(lng)]))
            .boxed(),
        RecordType::Vector => proptest::collection::vec(double().prop_map(Value::float), 0..4)
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

/// The same, or null if that may be.
pub(super) fn nullable(record_type: &RecordType, is_nullable: bool) -> BoxedStrategy<Value> {
    if is_nullable {
        prop_oneof![1 => Just(Value::Null), 4 => of_type(record_type)].boxed()
    } else {
        of_type(record_type)
    }
}

/// JSON that Firestore takes, as a variant has it (in the one way that it is written here) or as anybody has it.
fn json(is_variant: bool) -> BoxedStrategy<String> {
    let quoted = text().prop_map(|text| serde_json::to_string(&text).unwrap());
    let number = prop_oneof![
        any::<i64>().prop_map(|number| number.to_string()),
        "-?[1-9][0-9]{0,8}\\.[0-9]{0,3}[1-9]",
    ];
    let leaf = prop_oneof![Just("null".to_owned()), Just("true".to_owned()), number, quoted,];
    let space = if is_variant { "" } else { " \n" };
    let nested = leaf.prop_recursive(3, 12, 4, move |inner| {
        let no_array = inner
            .clone()
            .prop_filter("an array directly within an array", |item| !item.starts_with('['));
        let items = proptest::collection::vec(no_array, 0..4)
            .prop_map(move |items| format!("[{}]", items.join(&format!(",{space}"))));
        let members = proptest::collection::btree_map("[a-z$ü]{1,3}", inner, 0..4).prop_map(move |members| {
            let members = members
                .iter()
                .map(|(name, value)| format!("\"{name}\":{space}{value}"));
            format!("{{{}}}", members.collect::<Vec<_>>().join(&format!("{space},")))
        });
        prop_oneof![items, members]
    });
    // A variant that is null itself is a null.
    nested
        .prop_filter("null", move |json| !is_variant || json != "null")
        .boxed()
}

/// A timestamp of the service's.
fn timestamp() -> BoxedStrategy<Timestamp> {
    let nanos = prop_oneof![4 => (0..1_000_000).prop_map(|micros| micros * 1_000), 1 => 0..1_000_000_000];
    let seconds = prop_oneof![-62_135_596_800_i64..253_402_300_800, 0..2_000_000_000_i64];
    (seconds, nanos)
        .prop_map(|(seconds, nanos)| Timestamp { seconds, nanos })
        .boxed()
}

/// A value of one kind, by the kind's number.
fn scalar(kind: usize) -> BoxedStrategy<Stored> {
    let name = "[a-z]{1,3}/[a-zü]{1,3}".prop_map(|path| format!("projects/p/databases/d/documents/{path}"));
    let other = "[a-z]/[a-z]".prop_map(|path| format!("projects/q/databases/(default)/documents/{path}"));
    match kind {
        0 => Just(ValueType::NullValue(0)).boxed(),
        1 => any::<bool>().prop_map(ValueType::BooleanValue).boxed(),
        2 => integer().prop_map(ValueType::IntegerValue).boxed(),
        3 => double().prop_map(ValueType::DoubleValue).boxed(),
        4 => timestamp().prop_map(ValueType::TimestampValue).boxed(),
        5 => text().prop_map(ValueType::StringValue).boxed(),
        6 => any::<Vec<u8>>().prop_map(ValueType::BytesValue).boxed(),
        7 => prop_oneof![3 => name, 1 => other]
            .prop_map(ValueType::ReferenceValue)
            .boxed(),
        _ => (-90.0..=90.0_f64, -180.0..=180.0_f64)
            .prop_map(|(latitude, longitude)| ValueType::GeoPointValue(LatLng { latitude, longitude }))
            .boxed(),
    }
    .prop_map(value)
    .boxed()
}

/// How many kinds [`scalar`] knows.
const SCALAR_KINDS: usize = 9;

fn array(items: impl Strategy<Value = Stored> + 'static) -> BoxedStrategy<Stored> {
    proptest::collection::vec(items, 0..5)
        .prop_map(|values| value(ValueType::ArrayValue(ArrayValue { values })))
        .boxed()
}

fn map(members: impl Strategy<Value = Stored> + 'static) -> BoxedStrategy<Stored> {
    let names = prop_oneof![
        "[a-z]{1,2}",
        Just("$type".to_owned()),
        Just("value".to_owned()),
        "\\PC{1,4}"
    ];
    proptest::collection::hash_map(names, members, 0..5)
        .prop_map(|fields| value(ValueType::MapValue(MapValue { fields })))
        .boxed()
}

/// A map that looks like a tagged object.
fn like_a_tag() -> BoxedStrategy<Stored> {
    let name = proptest::sample::select(vec![
        "float64",
        "timestamp_tz",
        "bytes",
        "geopoint",
        "reference",
        "vector",
        "object",
        "other",
    ]);
    (name, text())
        .prop_map(|(name, text)| {
            let member = |text: &str| value(ValueType::StringValue(text.to_owned()));
            let fields = HashMap::from([
                ("$type".to_owned(), member(name)),
                ("value".to_owned(), member(&text)),
            ]);
            value(ValueType::MapValue(MapValue { fields }))
        })
        .boxed()
}

/// A value of any kind, nested too.
pub(super) fn any_value() -> BoxedStrategy<Stored> {
    let leaf = (0..SCALAR_KINDS).prop_flat_map(scalar);
    let vectors = proptest::collection::vec(double(), 1..4).prop_map(vector);
    prop_oneof![8 => leaf, 1 => vectors, 1 => like_a_tag()]
        .prop_recursive(4, 20, 5, |inner| {
            let item = inner
                .clone()
                .prop_filter("an array directly within an array", |item| {
                    !matches!(item.value_type, Some(ValueType::ArrayValue(_)))
                });
            prop_oneof![array(item), map(inner)]
        })
        .boxed()
}

/// The values of one field in several documents: mostly of one kind, sometimes of any; `None` where it is not there.
pub(super) fn field_values(count: usize) -> BoxedStrategy<Vec<Option<Stored>>> {
    let of = move |strategy: BoxedStrategy<Stored>| {
        proptest::collection::vec(
            prop_oneof![6 => strategy.prop_map(Some), 1 => Just(Some(null())), 1 => Just(None)],
            count,
        )
    };
    let vectors = proptest::collection::vec(double(), 1..4).prop_map(vector).boxed();
    prop_oneof![
        4 => (0..SCALAR_KINDS).prop_flat_map(move |kind| of(scalar(kind))),
        2 => (0..SCALAR_KINDS).prop_flat_map(move |kind| of(array(prop_oneof![5 => scalar(kind), 1 => scalar(0)]))),
        1 => of(prop_oneof![scalar(2), scalar(3)].boxed()),
        1 => of(vectors),
        2 => of(any_value()),
    ]
    .boxed()
}
