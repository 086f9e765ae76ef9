//! Every type to every other and back, with the edge values of each.
//!
//! Nobody lists the values here: `acceptance::values` has them for all plugins.

use std::sync::Arc;

use expect_test::expect;
use whimbrel_plugin_api::abi::Validation;
use whimbrel_plugin_api::acceptance::records::{Record, Value as Plain, records};
use whimbrel_plugin_api::acceptance::values::edge_cases;
use whimbrel_plugin_api::serde_json::json;
use whimbrel_plugin_api::services::Services;
use whimbrel_plugin_api::{Batch, Collection, OpenTransform as _, RecordType, Transform as _, config};
use whimbrel_reshape::Reshape;

use crate::harness::{Listening, plugin};

/// Casts a column of the edge values of a type; the records that came out, by `id`. `None` if there is no such cast.
fn cast_column(input: &Batch, to: &RecordType) -> Option<Batch> {
    let steps = json!({ "steps": [{ "cast": { "field": "value", "to": to.to_string() } }] });
    let config = config::parse(steps.clone()).unwrap();
    let collection = Collection::new("c", (*input.schema).clone());
    match Reshape::open(config, Services::detached())
        .unwrap()
        .plan(&collection)
    {
        Ok(_) => {}
        Err(error) if error.code == "reshape.cast_unsupported" => return None,
        // A setting is needed.
        Err(error) => {
            assert!(
                ["reshape.no_zone", "reshape.bad_format"].contains(&error.code.as_str()),
                "{error:?}"
            );
            return None;
        }
    }
    let host = Arc::new(Listening::default());
    let mut transform = plugin().open_transform(&steps, host, Validation::Full).unwrap();
    transform.plan(&collection).unwrap();
    let mut applied = transform.apply(input).unwrap();
    assert_eq!(
        applied.outputs[0].1.record_count() + applied.rejected.len(),
        input.record_count()
    );
    Some(applied.outputs.remove(0).1)
}

/// What may differ on the way back, type by type: the value is the same to a person, its spelling or sign is not.
fn may_differ(from: &RecordType, to: &RecordType, before: &Plain) -> bool {
    let is_negative_zero = *before == Plain::float(-0.0);
    match (from, to) {
        // Zero has one sign in exact numbers.
        (RecordType::Float { .. }, RecordType::Int { .. } | RecordType::Decimal { .. }) => is_negative_zero,
        // Texts keep their spelling.
        (RecordType::Numeric, _) => !matches!(to, RecordType::Text | RecordType::Json),
        (RecordType::Text | RecordType::Reference | RecordType::Opaque { .. } | RecordType::TimeTz, _) => {
            !matches!(
                to,
                RecordType::Text | RecordType::Reference | RecordType::Opaque { .. }
            )
        }
        // A JSON null is a missing value everywhere else, and JSON has white space.
        (RecordType::Json | RecordType::Variant, _) => true,
        // Lists and structs go by JSON; its null is a missing value.
        (RecordType::List { .. } | RecordType::Struct { .. }, _) => false,
        _ => false,
    }
}

#[test]
fn what_converts_comes_back() {
    let mut pairs = Vec::new();
    for case in edge_cases() {
        let input = case.batch().unwrap();
        let before = records(&input);
        let mut targets = Vec::new();
        for to in RecordType::one_of_each() {
            let Some(there) = cast_column(&input, &to) else {
                continue;
            };
            targets.push(to.to_string());
            let Some(back) = cast_column(&there, &case.record_type) else {
                continue;
            };
            let after = records(&back);
            assert!(
                after.len() == there.record_count(),
                "{} -> {to}: not all of what converted comes back",
                case.record_type
            );
            for record in &after {
                let Plain::Int(id) = record["id"] else {
                    panic!("no id")
                };
                let original: &Record = &before[usize::try_from(id).unwrap()];
                assert!(
                    *record == *original || may_differ(&case.record_type, &to, &original["value"]),
                    "{} -> {to} -> back: {:?} became {:?}",
                    case.record_type,
                    original["value"],
                    record["value"]
                );
            }
        }
        pairs.push(format!("{}: {}", case.record_type, targets.join(" ")));
    }
    expect![[r#"
        bool: bool int8 int16 int32 int64 text json variant
        int8: bool int8 int16 int32 int64 float32 float64 decimal(38, 10) numeric text json reference opaque(inet) variant
        int16: bool int8 int16 int32 int64 float32 float64 decimal(38, 10) numeric text json reference opaque(inet) variant
        int32: bool int8 int16 int32 int64 float32 float64 decimal(38, 10) numeric text json reference opaque(inet) variant
        int64: bool int8 int16 int32 int64 float32 float64 decimal(38, 10) numeric text json reference opaque(inet) variant
        float32: int8 int16 int32 int64 float32 float64 decimal(38, 10) numeric text json variant
        float64: int8 int16 int32 int64 float32 float64 decimal(38, 10) numeric text json variant
        decimal(12, 2): int8 int16 int32 int64 float32 float64 decimal(38, 10) numeric text json
        decimal(20, 0): int8 int16 int32 int64 float32 float64 decimal(38, 10) numeric text json
        decimal(38, 10): int8 int16 int32 int64 float32 float64 decimal(38, 10) numeric text json
        decimal(76, 38): int8 int16 int32 int64 float32 float64 decimal(38, 10) numeric text json
        numeric: int8 int16 int32 int64 float32 float64 decimal(38, 10) numeric text json
        text: bool int8 int16 int32 int64 float32 float64 decimal(38, 10) numeric text bytes date time time_tz timestamp_tz timestamp interval uuid json list(text) struct(a: int64) geopoint reference vector opaque(inet) variant
        bytes: text bytes uuid json
        uuid: text bytes uuid json reference opaque(inet)
        json: bool int8 int16 int32 int64 float32 float64 decimal(38, 10) numeric text bytes date time time_tz timestamp_tz timestamp interval uuid json list(text) struct(a: int64) geopoint reference vector opaque(inet) variant
        variant: bool int8 int16 int32 int64 float32 float64 decimal(38, 10) numeric text date time time_tz timestamp_tz timestamp interval uuid json list(text) struct(a: int64) geopoint reference vector opaque(inet) variant
        reference: bool int8 int16 int32 int64 float32 float64 decimal(38, 10) numeric text bytes date time time_tz timestamp_tz timestamp interval uuid json reference opaque(inet)
        opaque(inet): bool int8 int16 int32 int64 float32 float64 decimal(38, 10) numeric text bytes date time time_tz timestamp_tz timestamp interval uuid json reference opaque(inet)
        date: text date timestamp json
        time: text time json
        time_tz: text time_tz json
        timestamp_tz: text timestamp_tz json
        timestamp: text date timestamp json
        interval: text interval json
        list(text): text json list(text) vector
        struct(name: text, count: int64, sub "x": list(float64)): text json struct(a: int64) geopoint
        list(struct(name: text, count: int64, sub "x": list(float64))): text json list(text) vector
        list(timestamp_tz): text json list(text) vector
        geopoint: text json struct(a: int64) geopoint
        vector: text json list(text) vector
    "#]].assert_eq(&format!("{}\n", pairs.join("\n")));
}
