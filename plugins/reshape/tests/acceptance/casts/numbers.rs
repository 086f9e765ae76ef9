//! Numbers arrive exactly, rounded if the job says so, or not at all.
//!
//! Numbers in texts are in `from_text`.

use whimbrel_plugin_api::serde_json::json;

use super::{REJECTED, cast};

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
