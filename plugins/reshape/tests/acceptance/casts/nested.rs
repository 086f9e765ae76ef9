//! JSON and variants are unpacked, also into lists.
//!
//! Neighbour: `pairs` has all types with all others.

use whimbrel_plugin_api::serde_json::json;

use super::{REJECTED, cast};

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
