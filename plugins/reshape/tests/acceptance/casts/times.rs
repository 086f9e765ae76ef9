//! Dates and times, with and without a zone, and the formats that they are written in.
//!
//! Neighbour: `from_text` has the other texts.

use whimbrel_plugin_api::serde_json::json;

use super::{REJECTED, cast};

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
