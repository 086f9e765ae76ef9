//! Values at the edges of every record type: what a sink must store exactly, lose as declared, or refuse aloud.
//!
//! Each has a name for messages, and each type an ordinary value and null.

use std::sync::Arc;

use arrow_buffer::i256;

use super::records::{Record, Value, batch};
use crate::batch::Batch;
use crate::error::Result;
use crate::record_type::{Field, RecordType, Schema};

/// Microseconds of 0001-01-01 and of the last instant of year 9999.
const YEAR_1_MICROS: i64 = -62_135_596_800_000_000;
const YEAR_9999_MICROS: i64 = 253_402_300_799_999_999;
/// Days of 0001-01-01 and 9999-12-31.
const YEAR_1_DAYS: i64 = -719_162;
const YEAR_9999_DAYS: i64 = 2_932_896;
/// Octets of the long text; more than one page, socket buffer or 16-bit length holds.
const LONG_TEXT_BYTES: usize = 300_000;

/// A record type with its edge values, each under a name for messages.
#[derive(Debug, Clone)]
pub struct EdgeCase {
    /// The type; nullable.
    pub record_type: RecordType,
    /// Name and value. The first is an ordinary one, the last is null.
    pub values: Vec<(&'static str, Value)>,
}

impl EdgeCase {
    fn new(record_type: RecordType, mut values: Vec<(&'static str, Value)>) -> Self {
        values.push(("null", Value::Null));
        Self { record_type, values }
    }

    /// A short name that is also a fair collection name, such as `decimal_38_10`.
    pub fn name(&self) -> String {
        let text = self.record_type.to_string();
        let mut name = String::new();
        for character in text.chars() {
            match character {
                'a'..='z' | '0'..='9' | '_' => name.push(character),
                _ if !name.ends_with('_') => name.push('_'),
                _ => {}
            }
        }
        name.trim_end_matches('_').to_owned()
    }

    /// A key field `id` (int64) and the field `value`.
    pub fn schema(&self) -> Arc<Schema> {
        Arc::new(Schema::new(vec![
            Field::required("id", RecordType::INT64),
            Field::new("value", self.record_type.clone()),
        ]))
    }

    /// One record per value, `id` counting from 0.
    pub fn records(&self) -> Vec<Record> {
        let record = |(id, (_, value)): (usize, &(&str, Value))| {
            Record::from([
                ("id".to_owned(), Value::Int(id as i64)),
                ("value".to_owned(), value.clone()),
            ])
        };
        self.values.iter().enumerate().map(record).collect()
    }

    /// All records as one batch.
    pub fn batch(&self) -> Result<Batch> {
        batch(&self.schema(), &self.records())
    }
}

/// Edge values of every record type of the closed list.
pub fn edge_cases() -> Vec<EdgeCase> {
    let mut cases = Vec::new();
    numbers(&mut cases);
    texts(&mut cases);
    times(&mut cases);
    nested(&mut cases);
    cases
}

fn numbers(cases: &mut Vec<EdgeCase>) {
    let int = Value::Int;
    let float = Value::float;
    cases.push(EdgeCase::new(
        RecordType::Bool,
        vec![("true", Value::Bool(true)), ("false", Value::Bool(false))],
    ));
    for bits in [8_u8, 16, 32, 64] {
        let max = i64::MAX >> (64 - bits);
        let values = vec![
            ("one", int(1)),
            ("zero", int(0)),
            ("least", int(-max - 1)),
            ("most", int(max)),
        ];
        cases.push(EdgeCase::new(RecordType::Int { bits }, values));
    }
    let special = |rest: Vec<(&'static str, Value)>| {
        let mut values = vec![
            ("one and a half", float(1.5)),
            ("zero", float(0.0)),
            ("negative zero", float(-0.0)),
            ("not a number", float(f64::NAN)),
            ("infinity", float(f64::INFINITY)),
            ("negative infinity", float(f64::NEG_INFINITY)),
            ("whole number", float(16_777_216.0)),
        ];
        values.extend(rest);
        values
    };
    let float32 = |number: f32| Value::float(f64::from(number));
    let small = [
        ("most", float32(f32::MAX)),
        ("least step", float32(f32::from_bits(1))),
        ("a tenth", float32(0.1)),
    ];
    cases.push(EdgeCase::new(
        RecordType::Float { bits: 32 },
        special(small.to_vec()),
    ));
    let large = [
        ("most", float(f64::MAX)),
        ("least step", float(5e-324)),
        ("a tenth", float(0.1)),
        ("three tenths of sums", float(0.1 + 0.2)),
        ("2^53 + 2", float(9_007_199_254_740_994.0)),
        ("beyond 64 bits", float(1e300)),
    ];
    cases.push(EdgeCase::new(RecordType::FLOAT64, special(large.to_vec())));
    for (precision, scale) in [(12, 2), (20, 0), (38, 10), (76, 38)] {
        let most = i256::from(10)
            .wrapping_pow(u32::from(precision))
            .wrapping_sub(i256::ONE);
        let decimal = |number: i256| Value::Decimal(number);
        let values = vec![
            ("ordinary", decimal(i256::from(1_050))),
            ("zero", decimal(i256::ZERO)),
            ("least step", decimal(i256::ONE)),
            ("negative", decimal(i256::from(-1))),
            ("most", decimal(most)),
            ("least", decimal(most.wrapping_neg())),
        ];
        cases.push(EdgeCase::new(
            RecordType::Decimal {
                precision,
                scale: i8::try_from(scale).unwrap_or(0),
            },
            values,
        ));
    }
    let numeric = [
        ("ordinary", "10.50"),
        (
            "long",
            "12345678901234567890123456789012345678901234567890.12345678901234567890",
        ),
        ("small", "0.000000000000000000000000000000000000000001"),
        ("negative", "-1"),
        ("2^63", "9223372036854775808"),
        ("not a number", "NaN"),
        ("infinity", "Infinity"),
        ("negative infinity", "-Infinity"),
    ];
    cases.push(EdgeCase::new(RecordType::Numeric, as_texts(&numeric)));
}

fn as_texts(values: &[(&'static str, &str)]) -> Vec<(&'static str, Value)> {
    values
        .iter()
        .map(|(name, text)| (*name, Value::text(*text)))
        .collect()
}

fn texts(cases: &mut Vec<EdgeCase>) {
    let mut text = as_texts(&[
        ("ordinary", "plain"),
        ("empty", ""),
        ("space", " "),
        ("outer space", "  both ends \t\n"),
        ("line ends", "a\r\nb\rc\n"),
        ("quotes", "it's \"quoted\" \\ and; -- `not` a statement"),
        ("statement", "'); DROP TABLE records; --"),
        ("emoji", "🦆👩‍👩‍👧‍👦 and 𝄞"),
        ("combining", "e\u{301} against \u{e9}"),
        ("right to left", "שלום \u{202e}abc"),
        ("controls", "\u{1}\u{7f}\u{85}\u{feff}"),
        ("nul", "before\0after"),
        ("like a number", "007"),
        ("like a float", "1e5"),
        ("like null", "NULL"),
        ("like a backslash null", "\\N"),
        ("last character", "\u{10ffff}"),
    ]);
    text.push(("long", Value::Text("ü".repeat(LONG_TEXT_BYTES / 2))));
    cases.push(EdgeCase::new(RecordType::Text, text));
    let octets = |octets: &[u8]| Value::Bytes(octets.to_vec());
    let all: Vec<u8> = (0..=255).collect();
    let bytes = vec![
        ("ordinary", octets(b"\x01\x02")),
        ("empty", octets(b"")),
        ("zero", octets(b"\0")),
        ("not text", octets(b"\xff\xfe\xc0\x80")),
        ("like text", octets(b"plain")),
        ("every octet", octets(&all)),
        ("long", Value::Bytes(all.repeat(LONG_TEXT_BYTES / 256))),
    ];
    cases.push(EdgeCase::new(RecordType::Bytes, bytes));
    let uuid = vec![
        (
            "ordinary",
            octets(b"\x12\x3e\x45\x67\xe8\x9b\x12\xd3\xa4\x56\x42\x66\x14\x17\x40\x00"),
        ),
        ("nil", octets(&[0; 16])),
        ("max", octets(&[255; 16])),
    ];
    cases.push(EdgeCase::new(RecordType::Uuid, uuid));
    let json = [
        ("object", r#"{"b":1,"a":[true,null,"x"]}"#),
        ("white space", "{ \"b\" : 1 }"),
        ("json null", "null"),
        ("text", "\"a\""),
        ("large number", "12345678901234567890123"),
        ("spelling", "1.0"),
        ("exponent", "[1E+2,-0.0]"),
        ("unicode", r#"{"ä":"\u00e4🦆"}"#),
        ("lone surrogate", r#""\ud800""#),
        ("nul", r#""a\u0000b""#),
        ("repeated member", r#"{"a":1,"a":2}"#),
        ("empty", "{}"),
    ];
    cases.push(EdgeCase::new(RecordType::Json, as_texts(&json)));
    let variant = [
        ("number", "1"),
        ("text", "\"1\""),
        ("bool", "true"),
        ("list", r#"[1,"a",null]"#),
        ("object", r#"{"a":{"b":[]}}"#),
        ("large number", "12345678901234567890123"),
    ];
    cases.push(EdgeCase::new(RecordType::Variant, as_texts(&variant)));
    let reference = [
        ("ordinary", "users/42"),
        ("deep", "a/b/c/ü d"),
        ("quoted", "a'b\"c"),
    ];
    cases.push(EdgeCase::new(RecordType::Reference, as_texts(&reference)));
    let inet = [
        ("ordinary", "192.0.2.1/24"),
        ("six", "2001:db8::1"),
        ("empty", ""),
    ];
    cases.push(EdgeCase::new(
        RecordType::Opaque {
            name: "inet".to_owned(),
        },
        as_texts(&inet),
    ));
}

fn times(cases: &mut Vec<EdgeCase>) {
    let int = Value::Int;
    let dates = vec![
        ("ordinary", int(19_782)),
        ("epoch", int(0)),
        ("before the epoch", int(-1)),
        ("year 1", int(YEAR_1_DAYS)),
        ("year 9999", int(YEAR_9999_DAYS)),
        ("leap day", int(19_782 - 20 + 39)),
        ("infinity", int(i32::MAX.into())),
        ("negative infinity", int(i32::MIN.into())),
    ];
    cases.push(EdgeCase::new(RecordType::Date, dates));
    let time = vec![
        ("ordinary", int(45_296_000_000)),
        ("midnight", int(0)),
        ("microseconds", int(45_296_123_456)),
        ("milliseconds", int(45_296_120_000)),
        ("last microsecond", int(86_399_999_999)),
        ("24:00", int(86_400_000_000)),
    ];
    cases.push(EdgeCase::new(RecordType::Time, time));
    let time_tz = [
        ("ordinary", "12:34:56+02:00"),
        ("microseconds", "12:34:56.123456-05:30"),
        ("utc", "00:00:00+00:00"),
        ("seconds of offset", "12:00:00+01:02:03"),
    ];
    cases.push(EdgeCase::new(RecordType::TimeTz, as_texts(&time_tz)));
    let instants = vec![
        ("ordinary", int(1_709_210_096_000_000)),
        ("epoch", int(0)),
        ("microseconds", int(1_709_210_096_123_456)),
        ("before the epoch", int(-1)),
        ("year 1", int(YEAR_1_MICROS)),
        ("year 9999", int(YEAR_9999_MICROS)),
        ("infinity", int(i64::MAX)),
        ("negative infinity", int(i64::MIN)),
    ];
    cases.push(EdgeCase::new(RecordType::TimestampTz, instants.clone()));
    cases.push(EdgeCase::new(RecordType::Timestamp, instants));
    let interval = |months, days, micros| Value::Struct(vec![int(months), int(days), int(micros)]);
    let intervals = vec![
        ("ordinary", interval(1, 2, 3)),
        ("zero", interval(0, 0, 0)),
        ("mixed signs", interval(-14, 40, -86_400_000_001)),
        ("most", interval(i32::MAX.into(), i32::MAX.into(), i64::MAX)),
        ("least", interval(i32::MIN.into(), i32::MIN.into(), i64::MIN)),
    ];
    cases.push(EdgeCase::new(RecordType::Interval, intervals));
}

fn nested(cases: &mut Vec<EdgeCase>) {
    let text = |text: &str| Value::text(text);
    let list = Value::List;
    let lists = vec![
        ("ordinary", list(vec![text("a"), text("b")])),
        ("empty", list(Vec::new())),
        ("with null", list(vec![Value::Null, text(""), text("\"x\",{}\\")])),
    ];
    cases.push(EdgeCase::new(RecordType::list(RecordType::Text), lists));
    let members = vec![
        Field::new("name", RecordType::Text),
        Field::new("count", RecordType::INT64),
        Field::new("sub \"x\"", RecordType::list(RecordType::FLOAT64)),
    ];
    let structure = |name, count, rest| Value::Struct(vec![name, count, rest]);
    let structures = vec![
        (
            "ordinary",
            structure(text("a"), Value::Int(1), list(vec![Value::float(0.5)])),
        ),
        ("members null", structure(Value::Null, Value::Null, Value::Null)),
        (
            "largest",
            structure(
                text("ü'"),
                Value::Int(i64::MAX),
                list(vec![Value::float(0.1), Value::Null]),
            ),
        ),
    ];
    let structure_type = RecordType::Struct { fields: members };
    cases.push(EdgeCase::new(structure_type.clone(), structures.clone()));
    let rows = structures.into_iter().map(|(_, value)| value).collect();
    let list_of_structures = vec![
        ("ordinary", list(rows)),
        ("empty", list(Vec::new())),
        ("null inside", list(vec![Value::Null])),
    ];
    cases.push(EdgeCase::new(
        RecordType::list(structure_type),
        list_of_structures,
    ));
    let instants = vec![(
        "ordinary",
        list(vec![Value::Int(1_709_210_096_123_456), Value::Null]),
    )];
    cases.push(EdgeCase::new(RecordType::list(RecordType::TimestampTz), instants));
    let floats = |numbers: &[f64]| numbers.iter().copied().map(Value::float).collect::<Vec<_>>();
    let points = vec![
        ("ordinary", Value::Struct(floats(&[48.2, 16.37]))),
        ("south pole", Value::Struct(floats(&[-90.0, 180.0]))),
        ("origin", Value::Struct(floats(&[0.0, 0.0]))),
        ("negative zero", Value::Struct(floats(&[-0.0, -0.0]))),
    ];
    cases.push(EdgeCase::new(RecordType::Geopoint, points));
    let vectors = vec![
        ("ordinary", list(floats(&[0.1, -2.0, 3e-30]))),
        ("empty", list(Vec::new())),
        ("special", list(floats(&[f64::NAN, f64::INFINITY, -0.0]))),
        ("long", list(floats(&[0.25; 1_536]))),
    ];
    cases.push(EdgeCase::new(RecordType::Vector, vectors));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::acceptance::records::records;
    use std::collections::BTreeSet;

    #[test]
    fn every_edge_value_survives_arrow_and_every_name_is_used_once() {
        let cases = edge_cases();
        let names: BTreeSet<String> = cases.iter().map(EdgeCase::name).collect();
        assert_eq!(names.len(), cases.len());
        for case in &cases {
            assert_eq!(
                records(&case.batch().unwrap()),
                case.records(),
                "{}",
                case.record_type
            );
            let labels: BTreeSet<&str> = case.values.iter().map(|(name, _)| *name).collect();
            assert_eq!(labels.len(), case.values.len(), "{}", case.record_type);
        }
    }

    #[test]
    fn every_record_type_has_edge_values() {
        let mut kinds: BTreeSet<String> = BTreeSet::new();
        for case in edge_cases() {
            let text = serde_json::to_value(&case.record_type).unwrap();
            kinds.insert(text["type"].as_str().unwrap().to_owned());
        }
        let all = [
            "bool",
            "bytes",
            "date",
            "decimal",
            "float",
            "geopoint",
            "int",
            "interval",
            "json",
            "list",
            "numeric",
            "opaque",
            "reference",
            "struct",
            "text",
            "time",
            "time_tz",
            "timestamp",
            "timestamp_tz",
            "uuid",
            "variant",
            "vector",
        ];
        assert!(kinds.iter().map(String::as_str).eq(all), "{kinds:?}");
    }

    #[test]
    fn absent_is_not_null() {
        let schema = Arc::new(Schema {
            presence: true,
            ..(*edge_cases()[0].schema()).clone()
        });
        let rows = [
            Record::from([
                ("id".to_owned(), Value::Int(1)),
                ("value".to_owned(), Value::Absent),
            ]),
            Record::from([
                ("id".to_owned(), Value::Int(2)),
                ("value".to_owned(), Value::Null),
            ]),
        ];
        assert_eq!(records(&batch(&schema, &rows).unwrap()), rows);
    }
}
