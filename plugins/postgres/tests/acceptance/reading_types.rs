//! What each type of the database is read as, value by value, and which values are rejected.
//! Also what a reader that counts on other types gets.

use whimbrel_plugin_api::acceptance::Value;
use whimbrel_plugin_api::record_type::RecordType;
use whimbrel_plugin_api::serde_json::json;
use whimbrel_plugin_api::{ReadRequest, Schema};

use crate::reading_place::{Place, places};

const TYPES: &str = "
CREATE TYPE mood AS ENUM ('sad', 'o''k', 'NaN');
CREATE TYPE pair AS (a int, b text);
CREATE DOMAIN price AS numeric(12, 2) CHECK (VALUE IS NULL OR VALUE > 0); CREATE DOMAIN small_price AS price;
CREATE DOMAIN label AS text;
";

fn opaque(name: &str) -> RecordType {
    RecordType::Opaque {
        name: name.to_owned(),
    }
}

fn decimal(precision: u8, scale: i8) -> RecordType {
    RecordType::Decimal { precision, scale }
}

fn text(text: &str) -> Value {
    Value::text(text)
}

fn number(digits: i64) -> Value {
    Value::Decimal(digits.into())
}

/// Type, literal, record type, value.
fn cases() -> Vec<(&'static str, &'static str, RecordType, Value)> {
    let list = RecordType::list;
    let int = |bits| RecordType::Int { bits };
    let far = i64::from(i32::MAX);
    vec![
        ("boolean", "true", RecordType::Bool, Value::Bool(true)),
        ("smallint", "-32768", int(16), Value::Int(-32_768)),
        ("integer", "2147483647", int(32), Value::Int(far)),
        ("bigint", "-9223372036854775808", int(64), Value::Int(i64::MIN)),
        ("oid", "4294967295", int(64), Value::Int(4_294_967_295)),
        (
            "real",
            "'NaN'",
            RecordType::Float { bits: 32 },
            Value::float(f64::NAN),
        ),
        ("float8", "'-0'", RecordType::FLOAT64, Value::float(-0.0)),
        (
            "float8",
            "'-Infinity'",
            RecordType::FLOAT64,
            Value::float(f64::NEG_INFINITY),
        ),
        ("numeric(12, 2)", "-12345.5", decimal(12, 2), number(-1_234_550)),
        ("numeric(3, 3)", "0.001", decimal(3, 3), number(1)),
        ("price", "0.10", decimal(12, 2), number(10)),
        (
            "small_price",
            "9999999999.99",
            decimal(12, 2),
            number(999_999_999_999),
        ),
        ("numeric", "'NaN'", RecordType::Numeric, text("NaN")),
        ("numeric", "1.50", RecordType::Numeric, text("1.50")),
        ("numeric(4, -2)", "12345", RecordType::Numeric, text("12300")),
        (
            "text",
            "'naïve 😀 \u{1}'",
            RecordType::Text,
            text("naïve 😀 \u{1}"),
        ),
        ("varchar(3)", "'abc'", RecordType::Text, text("abc")),
        ("char(4)", "'ab'", RecordType::Text, text("ab  ")),
        ("name", "'n'", RecordType::Text, text("n")),
        ("label", "''", RecordType::Text, text("")),
        (
            "bytea",
            "'\\x00ff'",
            RecordType::Bytes,
            Value::Bytes(vec![0, 255]),
        ),
        (
            "uuid",
            "'00112233-4455-6677-8899-aabbccddeeff'",
            RecordType::Uuid,
            uuid(),
        ),
        ("date", "'1970-01-02'", RecordType::Date, Value::Int(1)),
        ("date", "'0044-03-15 BC'", RecordType::Date, Value::Int(-735_160)),
        ("date", "'infinity'", RecordType::Date, Value::Int(far)),
        (
            "date",
            "'-infinity'",
            RecordType::Date,
            Value::Int(i32::MIN.into()),
        ),
        (
            "date",
            "'5874897-12-31'",
            RecordType::Date,
            Value::Int(2_145_042_905),
        ),
        ("time", "'24:00:00'", RecordType::Time, Value::Int(86_400_000_000)),
        (
            "timetz",
            "'04:05:06.789-08:30'",
            RecordType::TimeTz,
            text("04:05:06.789000-08:30"),
        ),
        (
            "timestamp",
            "'1969-12-31 23:59:59.999999'",
            RecordType::Timestamp,
            Value::Int(-1),
        ),
        (
            "timestamp",
            "'infinity'",
            RecordType::Timestamp,
            Value::Int(i64::MAX),
        ),
        (
            "timestamp",
            "'0001-01-01 BC'",
            RecordType::Timestamp,
            Value::Int(-62_167_219_200_000_000),
        ),
        (
            "timestamptz",
            "'2024-02-29 12:00:00.5+02'",
            RecordType::TimestampTz,
            Value::Int(1_709_200_800_500_000),
        ),
        (
            "timestamptz",
            "'-infinity'",
            RecordType::TimestampTz,
            Value::Int(i64::MIN),
        ),
        (
            "interval",
            "'1 year 2 mons -3 days 04:00:00.000001'",
            RecordType::Interval,
            Value::Struct(vec![Value::Int(14), Value::Int(-3), Value::Int(14_400_000_001)]),
        ),
        (
            "json",
            "'{\"b\": 1.50, \"b\": 2}'",
            RecordType::Json,
            text("{\"b\": 1.50, \"b\": 2}"),
        ),
        (
            "jsonb",
            "'{\"b\":9007199254740993}'",
            RecordType::Json,
            text("{\"b\": 9007199254740993}"),
        ),
        ("mood", "'o''k'", opaque("public.mood"), text("o'k")),
        (
            "int[]",
            "'{1,NULL,3}'",
            list(int(32)),
            Value::List(vec![Value::Int(1), Value::Null, Value::Int(3)]),
        ),
        ("text[]", "'{}'", list(RecordType::Text), Value::List(vec![])),
        (
            "mood[]",
            "'{sad}'",
            list(opaque("public.mood")),
            Value::List(vec![text("sad")]),
        ),
        (
            "numeric(5, 1)[]",
            "'{1.5}'",
            list(decimal(5, 1)),
            Value::List(vec![number(15)]),
        ),
        (
            "price[]",
            "'{1.5}'",
            list(decimal(12, 2)),
            Value::List(vec![number(150)]),
        ),
        (
            "int[][]",
            "'{{1,2},{3,4}}'",
            opaque("integer[]"),
            text("{{1,2},{3,4}}"),
        ),
        (
            "pair",
            "ROW(1, 'a b')",
            opaque("public.pair"),
            text("(1,\"a b\")"),
        ),
        ("int4range", "'[1,5)'", opaque("int4range"), text("[1,5)")),
        (
            "tstzrange",
            "'[2024-01-01 00:00:00+02,)'",
            opaque("tstzrange"),
            text("[\"2023-12-31 22:00:00+00\",)"),
        ),
        ("inet", "'10.0.0.1/8'", opaque("inet"), text("10.0.0.1/8")),
        ("bit(3)", "B'101'", opaque("bit(3)"), text("101")),
        ("xml", "'<a>1</a>'", opaque("xml"), text("<a>1</a>")),
        ("point", "'(1,2)'", opaque("point"), text("(1,2)")),
        ("tsvector", "'a:1 b'", opaque("tsvector"), text("'a':1 'b'")),
        (
            "pair[]",
            "ARRAY[ROW(1, 'x')::pair]",
            opaque("public.pair[]"),
            text("{\"(1,x)\"}"),
        ),
    ]
}

fn uuid() -> Value {
    Value::Bytes((0..16u8).map(|nibble| nibble * 17).collect())
}

#[test]
fn every_type_is_read_with_its_values_and_its_nulls() {
    let cases = cases();
    let columns: Vec<String> = cases
        .iter()
        .enumerate()
        .map(|(number, (pg_type, ..))| format!("c{number} {pg_type}"))
        .collect();
    let literals: Vec<&str> = cases.iter().map(|(_, literal, ..)| *literal).collect();
    // What the server is set to must not show in what is read.
    let tables = format!(
        "{TYPES} CREATE TABLE things({}); INSERT INTO things VALUES ({}); INSERT INTO things DEFAULT VALUES; \
         DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET DateStyle = ''German''', current_database()); \
         EXECUTE format('ALTER DATABASE %I SET TimeZone = ''Asia/Tokyo''', current_database()); \
         EXECUTE format('ALTER DATABASE %I SET extra_float_digits = -5', current_database()); END $$;",
        columns.join(", "),
        literals.join(", ")
    );
    for place in places(&tables) {
        let collection = place.collection("things");
        let records = place.read("things");
        assert_eq!(records.len(), 2);
        for (number, (pg_type, literal, record_type, value)) in cases.iter().enumerate() {
            let field = format!("c{number}");
            assert_eq!(
                &collection.schema.fields[number].record_type, record_type,
                "{pg_type}"
            );
            assert_eq!(&records[0][&field], value, "{pg_type} {literal}");
            assert_eq!(records[1][&field], Value::Null, "{pg_type}");
        }
    }
}

const WRONG: &str = "
CREATE TABLE wrong(id int PRIMARY KEY, price numeric(5, 2), grid int[], at timestamp);
INSERT INTO wrong VALUES (1, 1, '{1}', now()), (2, 'NaN', '{}', NULL), (3, NULL, '{{1,2},{3,4}}', NULL),
  (4, 2, '[0:1]={5,6}', NULL), (5, 3, NULL, '294276-12-31 23:59:59'), (6, 4, NULL, 'infinity');
";

#[test]
fn values_that_a_type_cannot_hold_reject_their_record_alone() {
    for place in places(WRONG) {
        let reading = place.read_with(&ReadRequest::all("wrong")).unwrap();
        let ids: Vec<_> = reading
            .records
            .iter()
            .map(|record| record["id"].clone())
            .collect();
        assert_eq!(ids, [Value::Int(1), Value::Int(6)]);
        let rejected: Vec<_> = reading
            .rejected
            .iter()
            .map(|rejected| (rejected.record.as_str(), rejected.code.as_str()))
            .collect();
        assert_eq!(
            rejected,
            [
                ("2", "postgres.decimal_nan"),
                ("3", "postgres.array_shape"),
                ("4", "postgres.array_shape"),
                ("5", reading.rejected[3].code.as_str())
            ]
        );
        for rejected in &reading.rejected {
            assert!(
                ["price", "grid", "at"]
                    .iter()
                    .any(|field| rejected.message.contains(field)),
                "{rejected:?}"
            );
            assert!(!rejected.message.contains("294276"), "{rejected:?}");
        }
        assert!(reading.rejected[0].message.contains("`numeric: text`"));
        assert!(reading.rejected[1].message.contains("`arrays: text`"));
        // As texts they are all there.
        let place = place.with("arrays", json!("text")).with("numeric", json!("text"));
        let reading = place.read_with(&ReadRequest::all("wrong")).unwrap();
        assert_eq!((reading.records.len(), reading.rejected.len()), (5, 1));
        assert_eq!(reading.records[2]["grid"], text("{{1,2},{3,4}}"));
        assert_eq!(reading.records[1]["price"], text("NaN"));
    }
}

#[test]
fn the_types_that_a_reader_counts_on_are_delivered_or_refused() {
    let tables = "CREATE TABLE t(id bigint PRIMARY KEY, n smallint, doc jsonb, tag text); INSERT INTO t VALUES (1, 2, '[1]', 'x');";
    for place in places(tables) {
        let mut expected: Schema = place.collection("t").schema;
        expected.fields[1].record_type = RecordType::Int { bits: 8 };
        expected.fields[2].record_type = RecordType::Variant;
        expected.fields[3].record_type = RecordType::Reference;
        expected.fields.swap(0, 3);
        let request = ReadRequest {
            expected: Some(expected.clone()),
            ..ReadRequest::all("t")
        };
        let mut stream = whimbrel_plugin_api::Source::read(&mut place.source(), &request).unwrap();
        let whimbrel_plugin_api::Item::Schema(schema) = stream.next().unwrap() else {
            panic!("no schema")
        };
        let of = |schema: &Schema| -> Vec<_> {
            let fields = schema.fields.iter();
            fields
                .map(|field| (field.name.clone(), field.record_type.clone()))
                .collect()
        };
        assert_eq!(of(&schema), of(&expected));
        expected.fields[0].record_type = RecordType::INT64;
        let request = ReadRequest {
            expected: Some(expected),
            ..request
        };
        assert_eq!(refused(&place, &request), "postgres.type_changed");
    }
}

fn refused(place: &Place, request: &ReadRequest) -> String {
    place.read_with(request).unwrap_err().code
}
