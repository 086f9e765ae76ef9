//! What the database cannot store is a fault, is cut, or loses what it may lose; a fault leaves no octet.
//! Neighbour: `round_trip`, which has the columns and the way there and back.

use whimbrel_plugin_api::acceptance::Value;
use whimbrel_plugin_api::acceptance::records::array;
use whimbrel_plugin_api::record_type::{Field, RecordType};

use super::super::{RowEncoder, Wire, WireColumn};
use super::{column, wire_array};

/// Encodes one value beside a number; the code of the fault, if there is one.
fn fault_of(
    record_type: &RecordType,
    wire: &Wire,
    value: Value,
    removes_nul: bool,
) -> Result<Vec<u8>, &'static str> {
    let columns = [
        column(&RecordType::INT64, &Wire::Int8),
        WireColumn {
            removes_nul,
            ..column(record_type, wire)
        },
    ];
    let arrays = [
        array(&RecordType::INT64, &[Value::Int(1)]).unwrap(),
        array(record_type, &[value]).unwrap(),
    ];
    let encoder = RowEncoder::new(&columns, &arrays).unwrap();
    let mut out = b"before".to_vec();
    match encoder.write(0, &mut out) {
        Ok(()) => Ok(out[6 + 2 + 12 + 4..].to_vec()),
        Err(fault) => {
            assert_eq!(fault.column, 1);
            assert_eq!(out, b"before");
            Err(fault.code)
        }
    }
}

#[test]
fn what_the_database_cannot_store_is_a_fault_and_leaves_no_octet() {
    let list = |item: Value| Value::List(vec![item]);
    let day = i64::from(i32::MAX) - 1;
    let structure = RecordType::Struct {
        fields: vec![Field::new("a", RecordType::Text)],
    };
    for (record_type, wire, value, code) in [
        (
            RecordType::Text,
            Wire::Text,
            Value::text("a\0b"),
            "postgres.nul_in_text",
        ),
        (
            RecordType::list(RecordType::Text),
            wire_array(Wire::Text),
            list(Value::text("\0")),
            "postgres.nul_in_text",
        ),
        (
            RecordType::Json,
            Wire::Jsonb,
            Value::text(r#""\u0000""#),
            "postgres.nul_in_text",
        ),
        (
            structure,
            Wire::Jsonb,
            Value::Struct(vec![Value::text("\0")]),
            "postgres.nul_in_text",
        ),
        (
            RecordType::Json,
            Wire::Jsonb,
            Value::text(r#""\ud800""#),
            "postgres.lone_surrogate",
        ),
        (
            RecordType::INT64,
            Wire::Int4,
            Value::Int(1 << 31),
            "postgres.out_of_range",
        ),
        (
            RecordType::INT64,
            Wire::Oid,
            Value::Int(-1),
            "postgres.out_of_range",
        ),
        (
            RecordType::Date,
            Wire::Date,
            Value::Int(day),
            "postgres.out_of_range",
        ),
        (
            RecordType::TimestampTz,
            Wire::TimestampTz,
            Value::Int(i64::MIN + 1),
            "postgres.out_of_range",
        ),
        (
            RecordType::Time,
            Wire::Time,
            Value::Int(86_400_000_001),
            "postgres.out_of_range",
        ),
        (
            RecordType::TimeTz,
            Wire::TimeTz,
            Value::text("12:00:00+16:00"),
            "postgres.bad_value",
        ),
        (
            RecordType::Numeric,
            Wire::Numeric,
            Value::text("1e-16384"),
            "postgres.out_of_range",
        ),
        (
            RecordType::Numeric,
            Wire::Numeric,
            Value::text("1e131072"),
            "postgres.out_of_range",
        ),
        (
            RecordType::Numeric,
            Wire::Numeric,
            Value::text("1."),
            "postgres.bad_value",
        ),
    ] {
        assert_eq!(
            fault_of(&record_type, &wire, value, false),
            Err(code),
            "{record_type}"
        );
    }
}

#[test]
fn nul_is_removed_where_that_is_asked_for_and_stays_in_json_that_is_kept_to_the_letter() {
    let json = |text: &str| Value::text(text);
    assert_eq!(
        fault_of(&RecordType::Text, &Wire::Text, json("\0a\0b\0"), true),
        Ok(b"ab".to_vec())
    );
    assert_eq!(
        fault_of(&RecordType::Json, &Wire::Jsonb, json(r#""\\u0000a\u0000""#), true),
        Ok(b"\x01\"\\\\u0000a\"".to_vec())
    );
    assert_eq!(
        fault_of(&RecordType::Json, &Wire::Text, json(r#""\u0000\ud800""#), false),
        Ok(br#""\u0000\ud800""#.to_vec())
    );
    let structure = RecordType::Struct {
        fields: vec![Field::new("a", RecordType::Text)],
    };
    let value = || Value::Struct(vec![Value::text("\0a")]);
    assert_eq!(
        fault_of(&structure, &Wire::Jsonb, value(), true),
        Ok(b"\x01{\"a\":\"a\"}".to_vec())
    );
    assert_eq!(
        fault_of(&structure, &Wire::Text, value(), false),
        Ok(br#"{"a":"\u0000a"}"#.to_vec())
    );
}

#[test]
fn texts_that_the_server_would_cut_are_refused() {
    let put = |text: &str, removes_nul| {
        let wire = Wire::TextUpTo { characters: 3 };
        fault_of(&RecordType::Text, &wire, Value::text(text), removes_nul)
    };
    assert_eq!(put("äöü", false), Ok("äöü".into()));
    assert_eq!(put("abc ", false), Err("postgres.text_too_long"));
    assert_eq!(put("a\0bc", true), Ok("abc".into()));
    assert_eq!(put("a\0b", false), Err("postgres.nul_in_text"));
}

#[test]
fn times_are_cut_towards_the_past_before_the_server_would_round_them() {
    let cut = |unit_micros, of| Wire::Cut {
        unit_micros,
        of: Box::new(of),
    };
    for (record_type, of, value, wanted) in [
        (RecordType::TimestampTz, Wire::TimestampTz, -1, -1_000),
        (RecordType::Timestamp, Wire::Timestamp, 1_999, 1_000),
        (RecordType::Timestamp, Wire::Timestamp, i64::MAX, i64::MAX),
        (RecordType::Timestamp, Wire::Timestamp, i64::MIN, i64::MIN),
        (RecordType::Time, Wire::Time, 86_399_999_999, 86_399_999_000),
    ] {
        assert_eq!(
            fault_of(&record_type, &cut(1_000, of.clone()), Value::Int(value), false),
            fault_of(&record_type, &of, Value::Int(wanted), false),
            "{record_type}"
        );
    }
}
