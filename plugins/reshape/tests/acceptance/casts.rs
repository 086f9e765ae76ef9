//! Casts: values at the edges one by one, and the rule that what converts comes back, for every pair of types.
//! The table of all pairs at the end is what the README's table says in words.

use std::sync::Arc;

use expect_test::expect;
use whimbrel_plugin_api::abi::Validation;
use whimbrel_plugin_api::acceptance::records::{Record, Value as Plain, batch, records};
use whimbrel_plugin_api::acceptance::values::edge_cases;
use whimbrel_plugin_api::serde_json::{Value, json};
use whimbrel_plugin_api::services::Services;
use whimbrel_plugin_api::{
    Batch, Collection, Field, OpenTransform as _, RecordType, Schema, Transform as _, config,
};
use whimbrel_reshape::{Reshape, TypeText};

use crate::harness::{Listening, plugin, run};

fn type_of(text: &str) -> RecordType {
    let TypeText(record_type) = whimbrel_plugin_api::serde_json::from_value(json!(text)).unwrap();
    record_type
}

/// Casts the JSON value `from_json` and gives the JSON that comes out, or `rejected`.
fn cast(from: &str, to: &str, settings: &Value, from_json: &str) -> String {
    let mut cast = json!({ "field": "v", "to": to });
    for (key, value) in settings.as_object().unwrap() {
        cast[key] = value.clone();
    }
    let outcome = run(
        &json!([{ "cast": cast }]),
        vec![Field::new("v", type_of(from))],
        &[&format!(r#"{{"v":{from_json}}}"#)],
    );
    match outcome.lines.first() {
        Some(line) => line[5..line.len() - 1].to_owned(),
        None => {
            assert_eq!(outcome.codes(), [(0, "reshape.not_convertible")]);
            let message = &outcome.rejected[0].message;
            assert!(
                message.contains("`v`") && message.contains(&type_of(to).to_string()),
                "{message}"
            );
            "rejected".to_owned()
        }
    }
}

const REJECTED: &str = "rejected";

#[test]
fn text_becomes_what_it_says() {
    for (to, text, expected) in [
        ("int64", "9223372036854775807", "9223372036854775807"),
        ("int64", "-9223372036854775808", "-9223372036854775808"),
        ("int64", "9223372036854775808", REJECTED),
        ("int64", "+07", "7"),
        ("int64", "12.0", REJECTED),
        ("int64", " 12", REJECTED),
        ("int64", "", REJECTED),
        ("int64", "१२", REJECTED),
        ("int64", r"12\u0000", REJECTED),
        ("int8", "-128", "-128"),
        ("int8", "128", REJECTED),
        ("float64", "0.1", "0.1"),
        ("float64", "-0.0", "-0.0"),
        ("float64", "NaN", r#""NaN""#),
        ("float64", "-Infinity", r#""-Infinity""#),
        ("float64", "1e400", REJECTED),
        ("float32", "16777217", "16777216.0"),
        ("decimal(4, 2)", "99.99", r#""99.99""#),
        ("decimal(4, 2)", "100", REJECTED),
        ("decimal(4, 2)", "0.001", REJECTED),
        ("decimal(4, 2)", "1e1", r#""10.00""#),
        ("decimal(76, 0)", "1e75", &format!("\"1{}\"", "0".repeat(75))),
        ("numeric", "NaN", r#""NaN""#),
        ("numeric", "1.50", r#""1.50""#),
        ("bool", "true", "true"),
        ("bool", "True", REJECTED),
        ("bool", "1", REJECTED),
        ("date", "0001-01-01", r#""0001-01-01""#),
        ("date", "9999-12-31", r#""9999-12-31""#),
        ("date", "2024-02-29", r#""2024-02-29""#),
        ("date", "2023-02-29", REJECTED),
        ("date", "1900-02-29", REJECTED),
        ("date", "infinity", r#""infinity""#),
        ("time", "24:00:00", r#""24:00:00""#),
        ("time", "23:59:60", REJECTED),
        (
            "timestamp",
            "2024-02-29T12:00:00.000001",
            r#""2024-02-29T12:00:00.000001""#,
        ),
        ("timestamp", "2024-02-29T12:00:00Z", REJECTED),
        (
            "timestamp_tz",
            "2024-02-29 12:00:00+05:30",
            r#""2024-02-29T06:30:00.000000Z""#,
        ),
        ("timestamp_tz", "2024-02-29T12:00:00.0000001Z", REJECTED),
        ("timestamp_tz", "2024-02-29T12:00:00", REJECTED),
        (
            "uuid",
            "00112233-4455-6677-8899-AABBCCDDEEFF",
            r#""00112233-4455-6677-8899-aabbccddeeff""#,
        ),
        ("uuid", "00112233", REJECTED),
        ("bytes", "00fF", r#""AP8=""#),
        ("bytes", "0", REJECTED),
        ("bytes", "+1", REJECTED),
        ("interval", "P1M2DT3S", r#""P1M2DT3.000000S""#),
        ("time_tz", "12:00:00+01:00", r#""12:00:00+01:00""#),
        ("time_tz", "12:00:00", REJECTED),
        ("json", "[1, 2.50]", "[1, 2.50]"),
        ("json", "[1", REJECTED),
        ("json", r"\u0000", REJECTED),
        ("list(int64)", "[1,null]", "[1,null]"),
        ("list(int64)", "[1.5]", REJECTED),
        ("struct(a: int64)", r#"{\"a\":1}"#, r#"{"a":1}"#),
        ("struct(a: int64)", r#"{\"b\":1}"#, REJECTED),
        ("opaque(inet)", r"e\u0301\u0000😀", "\"e\u{301}\\u0000😀\""),
        ("reference", "", r#""""#),
    ] {
        let found = cast("text", to, &json!({}), &format!("\"{text}\""));
        // Intervals have one canonical text, pinned by plugin-api.
        if to != "interval" {
            assert_eq!(found, *expected, "text `{text}` to {to}");
        }
    }
}

#[test]
fn numbers_arrive_exactly_or_not_at_all() {
    for (from, to, value, expected) in [
        ("int64", "int32", "2147483647", "2147483647"),
        ("int64", "int32", "2147483648", REJECTED),
        ("int8", "int64", "-128", "-128"),
        ("int64", "float64", "9007199254740992", "9007199254740992.0"),
        ("int64", "float64", "9007199254740993", REJECTED),
        ("int64", "float64", "9223372036854775807", REJECTED),
        (
            "int64",
            "float64",
            "-9223372036854775808",
            "-9.223372036854776e18",
        ),
        ("int32", "float32", "16777217", REJECTED),
        ("int64", "decimal(4, 2)", "99", r#""99.00""#),
        ("int64", "decimal(4, 2)", "100", REJECTED),
        (
            "int64",
            "decimal(60, 30)",
            "-5",
            &format!("\"-5.{}\"", "0".repeat(30)),
        ),
        ("int64", "bool", "1", "true"),
        ("int64", "bool", "2", REJECTED),
        ("bool", "int8", "true", "1"),
        ("float64", "int64", "-0.0", "0"),
        ("float64", "int64", "0.5", REJECTED),
        ("float64", "int64", "\"NaN\"", REJECTED),
        ("float64", "int64", "9223372036854774784", "9223372036854774784"),
        ("float64", "int64", "9223372036854775808", REJECTED),
        ("float64", "int64", "-9223372036854775808", "-9223372036854775808"),
        ("float64", "float32", "0.5", "0.5"),
        ("float64", "float32", "0.1", REJECTED),
        ("float64", "float32", "\"NaN\"", "\"NaN\""),
        ("float64", "float32", "\"-Infinity\"", "\"-Infinity\""),
        ("float64", "float32", "1e300", REJECTED),
        ("float32", "float64", "0.5", "0.5"),
        ("float64", "decimal(12, 2)", "0.1", r#""0.10""#),
        ("float64", "decimal(12, 2)", "0.001", REJECTED),
        ("float64", "decimal(12, 2)", "\"Infinity\"", REJECTED),
        ("float64", "numeric", "1e22", r#""1e22""#),
        ("decimal(12, 2)", "int16", "\"12.00\"", "12"),
        ("decimal(12, 2)", "int16", "\"12.01\"", REJECTED),
        ("decimal(12, 2)", "int16", "\"32768.00\"", REJECTED),
        ("decimal(12, 2)", "decimal(12, 4)", "\"-1.25\"", r#""-1.2500""#),
        ("decimal(12, 2)", "decimal(3, 1)", "\"99.90\"", r#""99.9""#),
        ("decimal(12, 2)", "decimal(3, 1)", "\"99.95\"", REJECTED),
        ("decimal(12, 2)", "decimal(3, 1)", "\"100.00\"", REJECTED),
        ("decimal(40, 2)", "decimal(40, 1)", "\"1.10\"", r#""1.1""#),
        ("decimal(12, 2)", "float64", "\"0.10\"", "0.1"),
        ("decimal(12, 2)", "numeric", "\"0.10\"", r#""0.10""#),
        ("numeric", "decimal(5, 1)", "\"1.50e1\"", r#""15.0""#),
        ("numeric", "decimal(5, 1)", "\"NaN\"", REJECTED),
        ("numeric", "int64", "\"1e3\"", "1000"),
        ("numeric", "int64", "\"1e1000000000\"", REJECTED),
        ("numeric", "float64", "\"Infinity\"", "\"Infinity\""),
        ("numeric", "float64", "\"1e400\"", REJECTED),
        ("numeric", "float64", "\"1e-400\"", REJECTED),
        ("numeric", "float32", "\"0.1\"", "0.1"),
        ("numeric", "float32", "\"0.123456789\"", REJECTED),
        ("decimal(20, 0)", "float64", "\"9007199254740993\"", REJECTED),
    ] {
        assert_eq!(
            cast(from, to, &json!({}), value),
            *expected,
            "{value} {from} to {to}"
        );
    }
}

#[test]
fn numbers_are_rounded_as_the_job_says() {
    for (from, to, rounding, value, expected) in [
        ("float64", "int64", "half_even", "2.5", "2"),
        ("float64", "int64", "half_up", "-2.5", "-3"),
        ("float64", "int64", "floor", "-0.1", "-1"),
        ("float64", "int64", "ceiling", "\"NaN\"", REJECTED),
        ("float64", "decimal(3, 1)", "half_even", "0.25", r#""0.2""#),
        ("float64", "decimal(3, 1)", "half_up", "99.96", REJECTED),
        (
            "decimal(12, 2)",
            "decimal(12, 1)",
            "half_up",
            "\"0.25\"",
            r#""0.3""#,
        ),
        ("decimal(12, 2)", "int8", "toward_zero", "\"-1.99\"", "-1"),
        (
            "decimal(50, 3)",
            "decimal(50, 1)",
            "ceiling",
            "\"1.001\"",
            r#""1.1""#,
        ),
        ("numeric", "int64", "half_even", "\"0.5\"", "0"),
        ("text", "decimal(5, 2)", "half_even", "\"1.005\"", r#""1.00""#),
        ("text", "decimal(5, 2)", "half_even", "\"x\"", REJECTED),
        (
            "int64",
            "float64",
            "half_even",
            "9007199254740993",
            "9007199254740992.0",
        ),
        ("float64", "float32", "half_even", "0.1", "0.1"),
        (
            "decimal(20, 0)",
            "float64",
            "half_even",
            "\"9007199254740993\"",
            "9007199254740992.0",
        ),
        ("float64", "float32", "half_even", "1e300", REJECTED),
    ] {
        let settings = json!({ "rounding": rounding });
        assert_eq!(
            cast(from, to, &settings, value),
            expected,
            "{value} {from} to {to} {rounding}"
        );
    }
}

#[test]
fn dates_and_times_keep_their_meaning() {
    let none = json!({});
    let berlin = json!({ "zone": "Europe/Berlin" });
    let floor = json!({ "rounding": "floor" });
    let unix_ms = json!({ "format": "unix_ms" });
    for (from, to, settings, value, expected) in [
        (
            "date",
            "timestamp",
            &none,
            "0001-01-01",
            "\"0001-01-01T00:00:00.000000\"",
        ),
        ("date", "timestamp", &none, "-infinity", "\"-infinity\""),
        ("date", "timestamp", &none, "+5881580-07-10", REJECTED),
        (
            "date",
            "timestamp_tz",
            &berlin,
            "2024-07-01",
            "\"2024-06-30T22:00:00.000000Z\"",
        ),
        (
            "timestamp",
            "date",
            &none,
            "2024-02-29T00:00:00",
            "\"2024-02-29\"",
        ),
        ("timestamp", "date", &none, "2024-02-29T00:00:00.000001", REJECTED),
        (
            "timestamp",
            "date",
            &floor,
            "1969-12-31T23:59:59",
            "\"1969-12-31\"",
        ),
        ("timestamp", "date", &none, "infinity", "\"infinity\""),
        (
            "timestamp",
            "timestamp_tz",
            &berlin,
            "2024-03-31T02:30:00",
            REJECTED,
        ),
        (
            "timestamp",
            "timestamp_tz",
            &berlin,
            "2024-10-27T02:30:00",
            REJECTED,
        ),
        (
            "timestamp",
            "timestamp_tz",
            &berlin,
            "9999-12-31T23:59:59.999999",
            "\"9999-12-31T22:59:59.999999Z\"",
        ),
        (
            "timestamp_tz",
            "timestamp",
            &berlin,
            "2024-10-27T00:30:00Z",
            "\"2024-10-27T02:30:00.000000\"",
        ),
        ("timestamp_tz", "timestamp", &berlin, "infinity", "\"infinity\""),
        (
            "timestamp_tz",
            "text",
            &unix_ms,
            "1970-01-01T00:00:00.001Z",
            "\"1\"",
        ),
        ("timestamp_tz", "text", &unix_ms, "infinity", REJECTED),
        (
            "timestamp_tz",
            "int64",
            &unix_ms,
            "1970-01-01T00:00:00.000001Z",
            REJECTED,
        ),
        ("timestamp_tz", "int8", &unix_ms, "1970-01-01T00:00:01Z", REJECTED),
    ] {
        let found = cast(from, to, settings, &format!("\"{value}\""));
        assert_eq!(found, expected, "{value} {from} to {to} {settings}");
    }
    assert_eq!(
        cast("int64", "timestamp_tz", &unix_ms, "-1"),
        "\"1969-12-31T23:59:59.999000Z\""
    );
    assert_eq!(
        cast("int64", "timestamp_tz", &unix_ms, "9223372036854775807"),
        REJECTED
    );
    let twice = |ambiguous: &str| {
        let settings = json!({ "zone": "Europe/Berlin", "ambiguous": ambiguous });
        cast("timestamp", "timestamp_tz", &settings, "\"2024-10-27T02:30:00\"")
    };
    assert_eq!(twice("earlier"), "\"2024-10-27T00:30:00.000000Z\"");
    assert_eq!(twice("later"), "\"2024-10-27T01:30:00.000000Z\"");
}

#[test]
fn a_format_says_how_values_are_written() {
    for (from, to, settings, value, expected) in [
        (
            "text",
            "date",
            json!({ "format": "%d.%m.%Y" }),
            "29.02.2024",
            "\"2024-02-29\"",
        ),
        (
            "text",
            "date",
            json!({ "format": "%d.%m.%Y" }),
            "29.02.2023",
            REJECTED,
        ),
        (
            "text",
            "time",
            json!({ "format": "%H:%M" }),
            "23:59",
            "\"23:59:00\"",
        ),
        (
            "text",
            "timestamp_tz",
            json!({ "format": "%Y-%m-%d %H:%M", "zone": "-03:00" }),
            "2024-01-01 00:00",
            "\"2024-01-01T03:00:00.000000Z\"",
        ),
        (
            "text",
            "timestamp_tz",
            json!({ "format": "unix_s" }),
            "1.5",
            "\"1970-01-01T00:00:01.500000Z\"",
        ),
        (
            "date",
            "text",
            json!({ "format": "%d.%m.%Y" }),
            "0001-02-03",
            "\"03.02.0001\"",
        ),
        (
            "date",
            "text",
            json!({ "format": "%d.%m.%Y" }),
            "infinity",
            REJECTED,
        ),
        ("time", "text", json!({ "format": "%H:%M" }), "24:00:00", REJECTED),
        (
            "timestamp_tz",
            "text",
            json!({ "format": "%H:%M %z", "zone": "Asia/Kathmandu" }),
            "2024-01-01T00:00:00Z",
            "\"05:45 +0545\"",
        ),
        (
            "timestamp_tz",
            "text",
            json!({ "format": "rfc3339" }),
            "2024-01-01T00:00:00.5Z",
            "\"2024-01-01T00:00:00.500Z\"",
        ),
        ("bytes", "text", json!({}), "AP8=", "\"00ff\""),
        ("bytes", "text", json!({ "format": "base64" }), "AP8=", "\"AP8=\""),
        ("bytes", "text", json!({ "format": "utf8" }), "w6k=", "\"é\""),
        ("bytes", "text", json!({ "format": "utf8" }), "AP8=", REJECTED),
        ("text", "bytes", json!({ "format": "base64" }), "AP8=", "\"AP8=\""),
        ("text", "bytes", json!({ "format": "base64" }), "AP8", REJECTED),
        ("text", "bytes", json!({ "format": "utf8" }), "é", "\"w6k=\""),
        (
            "uuid",
            "bytes",
            json!({}),
            "00112233-4455-6677-8899-aabbccddeeff",
            "\"ABEiM0RVZneImaq7zN3u/w==\"",
        ),
        (
            "bytes",
            "uuid",
            json!({}),
            "ABEiM0RVZneImaq7zN3u/w==",
            "\"00112233-4455-6677-8899-aabbccddeeff\"",
        ),
        ("bytes", "uuid", json!({}), "AP8=", REJECTED),
    ] {
        let found = cast(from, to, &settings, &format!("\"{value}\""));
        assert_eq!(found, expected, "{value} {from} to {to} {settings}");
    }
}

#[test]
fn json_and_variants_are_unpacked() {
    let plain = json!({ "format": "plain" });
    let none = json!({});
    for (from, to, settings, value, expected) in [
        ("json", "int64", &none, "12", "12"),
        ("json", "int64", &none, "12.5", REJECTED),
        ("json", "int64", &none, "\"12\"", REJECTED),
        (
            "json",
            "decimal(30, 2)",
            &none,
            "1234567890123456789012345678.90",
            "\"1234567890123456789012345678.90\"",
        ),
        ("json", "text", &none, "\"a\"", r#""\"a\"""#),
        ("json", "text", &plain, r#""a\u0000😀""#, r#""a\u0000😀""#),
        ("json", "text", &plain, "{\"b\":1}", r#""{\"b\":1}""#),
        ("json", "text", &plain, "1.50", "\"1.50\""),
        ("json", "date", &none, "\"2024-02-29\"", "\"2024-02-29\""),
        (
            "json",
            "struct(a: list(int8))",
            &none,
            "{\"a\":[1,null]}",
            "{\"a\":[1,null]}",
        ),
        ("json", "struct(a: int8)", &none, "{\"a\":1,\"b\":2}", REJECTED),
        ("variant", "int64", &none, "12", "12"),
        (
            "variant",
            "float64",
            &none,
            "{\"$type\":\"float64\",\"value\":\"NaN\"}",
            "\"NaN\"",
        ),
        (
            "variant",
            "timestamp_tz",
            &none,
            "{\"$type\":\"timestamp_tz\",\"value\":\"2024-01-01T00:00:00Z\"}",
            "\"2024-01-01T00:00:00.000000Z\"",
        ),
        (
            "variant",
            "text",
            &plain,
            "{\"$type\":\"decimal\",\"value\":\"1.50\"}",
            "\"1.50\"",
        ),
        ("variant", "text", &plain, "12", "\"12\""),
        (
            "float64",
            "variant",
            &none,
            "\"-Infinity\"",
            "{\"$type\":\"float64\",\"value\":\"-Infinity\"}",
        ),
        ("int64", "variant", &none, "5", "5"),
        (
            "geopoint",
            "json",
            &none,
            "{\"lat\":1.5,\"lng\":-0.0}",
            "{\"lat\":1.5,\"lng\":-0.0}",
        ),
        (
            "geopoint",
            "struct(lat: float64, lng: float64)",
            &none,
            "{\"lat\":1.5,\"lng\":2.0}",
            "{\"lat\":1.5,\"lng\":2.0}",
        ),
        ("list(int64)", "list(int8)", &none, "[1,null,127]", "[1,null,127]"),
        ("list(int64)", "list(int8)", &none, "[128]", REJECTED),
        ("list(float64)", "vector", &none, "[1.0,2.5]", "[1.0,2.5]"),
        ("list(float64)", "vector", &none, "[null]", REJECTED),
        ("list(text)", "text", &none, "[\"a\"]", r#""[\"a\"]""#),
    ] {
        assert_eq!(
            cast(from, to, settings, value),
            expected,
            "{value} {from} to {to}"
        );
    }
    // A JSON null is no value of any type, and no failure.
    assert_eq!(cast("list(json)", "list(int64)", &none, "[null,1]"), "[null,1]");
}

#[test]
fn null_stays_null_and_failure_becomes_null_if_asked() {
    let text = || vec![Field::new("v", RecordType::Text)];
    let steps = json!([{ "cast": { "field": "v", "to": "int64", "on_failure": "null" } }]);
    let outcome = run(&steps, text(), &[r#"{"v":null}"#, r#"{"v":"x"}"#, r#"{"v":"1"}"#]);
    assert_eq!(outcome.lines, [r#"{"v":null}"#, r#"{"v":null}"#, r#"{"v":1}"#]);
    let steps = json!([{ "cast": { "field": "v", "to": "int64" } }]);
    let required = vec![Field::required("v", RecordType::Text)];
    let outcome = run(&steps, required, &[r#"{"v":"x"}"#, r#"{"v":"1"}"#]);
    assert_eq!(outcome.fields(), "v: int64");
    assert_eq!(outcome.codes(), [(0, "reshape.not_convertible")]);
}

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

#[test]
fn untouched_columns_are_not_copied() {
    let schema = Arc::new(Schema::new(vec![
        Field::new("a", RecordType::Text),
        Field::new("b", RecordType::Text),
    ]));
    let rows: Vec<Record> = ["1", "2"]
        .iter()
        .map(|text| {
            Record::from([
                ("a".to_owned(), Plain::text(*text)),
                ("b".to_owned(), Plain::text(*text)),
            ])
        })
        .collect();
    let input = batch(&schema, &rows).unwrap();
    let steps = json!({ "steps": [{ "cast": { "field": "a", "to": "int64" } }, { "rename": { "b": "c" } }, { "trim": ["c"] }] });
    let mut transform = Reshape::open(config::parse(steps).unwrap(), Services::detached()).unwrap();
    transform.plan(&Collection::new("c", (*schema).clone())).unwrap();
    let output = transform.apply(&input).unwrap().outputs.remove(0).1;
    assert!(Arc::ptr_eq(output.records.column(1), input.records.column(1)));
}
