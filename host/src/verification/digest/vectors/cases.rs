//! The records of the vectors: every type with its edges, absent and null, each loss, keys, and whole collections.
//! The JSON of a value is that of the plugin API's `json_form`.

use whimbrel_plugin_api::capability::{Loss, TimeUnit};
use whimbrel_plugin_api::collection::FieldLoss;
use whimbrel_plugin_api::{Field, RecordType, Schema};

use crate::verification::digest::Recipe;

/// A record, by a recipe.
pub(super) struct Case {
    pub(super) name: &'static str,
    pub(super) recipe: Recipe,
    pub(super) record: &'static str,
}

/// Records of one collection.
pub(super) struct CollectionCase {
    pub(super) name: &'static str,
    pub(super) recipe: Recipe,
    pub(super) records: Vec<String>,
}

/// Each loss once.
pub(super) fn losses_in_all() -> [Loss; 12] {
    [
        Loss::TruncateTimestamp {
            unit: TimeUnit::Milliseconds,
        },
        Loss::NegativeZeroToZero,
        Loss::NanToNull,
        Loss::InfinityToNull,
        Loss::FloatFromDecimal,
        Loss::AbsentToNull,
        Loss::NulRemoved,
        Loss::LoneSurrogateReplaced,
        Loss::JsonNormalised,
        Loss::TypeNameDropped,
        Loss::EmptyTextToNull,
        Loss::JsonNullToNull,
    ]
}

const INT64: RecordType = RecordType::INT64;
const FLOAT64: RecordType = RecordType::FLOAT64;

fn recipe(fields: Vec<Field>, key: &[&str], losses: &[Loss]) -> Recipe {
    let loss = |loss: &Loss| FieldLoss {
        field: "v".to_owned(),
        loss: *loss,
    };
    Recipe {
        schema: Schema::new(fields),
        key: key.iter().map(|name| (*name).to_owned()).collect(),
        losses: losses.iter().map(loss).collect(),
    }
}

/// One field called `v`.
fn one(name: &'static str, record_type: RecordType, record: &'static str) -> Case {
    lossy(name, record_type, &[], record)
}

fn lossy(name: &'static str, record_type: RecordType, losses: &[Loss], record: &'static str) -> Case {
    Case {
        name,
        recipe: recipe(vec![Field::new("v", record_type)], &[], losses),
        record,
    }
}

/// As [`one`], with a field that is never null: its `null` is the JSON one.
fn json_null(name: &'static str, losses: &[Loss]) -> Case {
    Case {
        name,
        recipe: recipe(vec![Field::required("v", RecordType::Json)], &[], losses),
        record: r#"{"v":null}"#,
    }
}

fn int(bits: u8) -> RecordType {
    RecordType::Int { bits }
}

fn decimal(precision: u8, scale: i8) -> RecordType {
    RecordType::Decimal { precision, scale }
}

pub(super) fn cases() -> Vec<Case> {
    let mut cases = numbers();
    cases.extend(floats_and_times());
    cases.extend(texts());
    cases.extend(json());
    cases.extend(nested());
    cases.extend(losses());
    cases.extend(losses_of_other_types());
    cases.extend(records());
    cases
}

fn numbers() -> Vec<Case> {
    use RecordType::Numeric;
    vec![
        one("bool false", RecordType::Bool, r#"{"v":false}"#),
        one("bool true", RecordType::Bool, r#"{"v":true}"#),
        one("int zero", INT64, r#"{"v":0}"#),
        one("int one", INT64, r#"{"v":1}"#),
        one("int with zeros at its end", INT64, r#"{"v":-1200}"#),
        one("int largest", INT64, r#"{"v":9223372036854775807}"#),
        one("int smallest", INT64, r#"{"v":-9223372036854775808}"#),
        one("int of 8 bits, smallest", int(8), r#"{"v":-128}"#),
        one("int of 16 bits, largest", int(16), r#"{"v":32767}"#),
        one("int of 32 bits, smallest", int(32), r#"{"v":-2147483648}"#),
        one("decimal one", decimal(12, 2), r#"{"v":"1.00"}"#),
        one("decimal zero", decimal(12, 2), r#"{"v":"0.00"}"#),
        one(
            "decimal with a fraction",
            decimal(12, 2),
            r#"{"v":"-1234567890.12"}"#,
        ),
        one(
            "decimal of 38 digits",
            decimal(38, 10),
            r#"{"v":"1234567890123456789012345678.0123456789"}"#,
        ),
        one(
            "decimal of 76 digits",
            decimal(76, 0),
            r#"{"v":"-9999999999999999999999999999999999999999999999999999999999999999999999999999"}"#,
        ),
        one("numeric one", Numeric, r#"{"v":"1.000"}"#),
        one("numeric minus zero", Numeric, r#"{"v":"-0.00"}"#),
        one("numeric with an exponent", Numeric, r#"{"v":"1e30"}"#),
        one(
            "numeric written out",
            Numeric,
            r#"{"v":"1000000000000000000000000000000"}"#,
        ),
        one("numeric of 2^64 - 1", Numeric, r#"{"v":"18446744073709551615"}"#),
        one("numeric of 2^64", Numeric, r#"{"v":"18446744073709551616"}"#),
        one(
            "numeric of many digits",
            Numeric,
            r#"{"v":"-12345678901234567890123456789012345678901234567890.000123400"}"#,
        ),
        one("numeric smallest exponent", Numeric, r#"{"v":"1e-1000000"}"#),
        one("numeric NaN", Numeric, r#"{"v":"NaN"}"#),
        one("numeric infinity", Numeric, r#"{"v":"Infinity"}"#),
        one("numeric minus infinity", Numeric, r#"{"v":"-Infinity"}"#),
    ]
}

fn floats_and_times() -> Vec<Case> {
    use RecordType::{Date, Interval, Time, Timestamp, TimestampTz, Uuid};
    vec![
        one("float one", FLOAT64, r#"{"v":1.0}"#),
        one("float zero", FLOAT64, r#"{"v":0.0}"#),
        one("float minus zero", FLOAT64, r#"{"v":-0.0}"#),
        one("float a tenth", FLOAT64, r#"{"v":0.1}"#),
        one("float smallest", FLOAT64, r#"{"v":5e-324}"#),
        one("float largest", FLOAT64, r#"{"v":1.7976931348623157e308}"#),
        one("float NaN", FLOAT64, r#"{"v":"NaN"}"#),
        one("float infinity", FLOAT64, r#"{"v":"Infinity"}"#),
        one("float minus infinity", FLOAT64, r#"{"v":"-Infinity"}"#),
        one(
            "float of 32 bits, a tenth",
            RecordType::Float { bits: 32 },
            r#"{"v":0.1}"#,
        ),
        one("date", Date, r#"{"v":"2024-02-29"}"#),
        one("date before 1970", Date, r#"{"v":"-0001-12-31"}"#),
        one("date infinity", Date, r#"{"v":"infinity"}"#),
        one("date minus infinity", Date, r#"{"v":"-infinity"}"#),
        one("time", Time, r#"{"v":"12:34:56.000001"}"#),
        one("time at the end of the day", Time, r#"{"v":"24:00:00"}"#),
        one("time with zone", RecordType::TimeTz, r#"{"v":"12:34:56+02:00"}"#),
        one("instant", TimestampTz, r#"{"v":"2024-02-29T12:34:56.000001Z"}"#),
        one(
            "instant before 1970",
            TimestampTz,
            r#"{"v":"1969-12-31T23:59:59.999999Z"}"#,
        ),
        one("instant infinity", TimestampTz, r#"{"v":"infinity"}"#),
        one("timestamp", Timestamp, r#"{"v":"2024-02-29T12:34:56.000001"}"#),
        one("timestamp minus infinity", Timestamp, r#"{"v":"-infinity"}"#),
        one("interval", Interval, r#"{"v":"P14M-3DT-0.000001S"}"#),
        one("uuid", Uuid, r#"{"v":"00112233-4455-6677-8899-aabbccddeeff"}"#),
    ]
}

fn texts() -> Vec<Case> {
    use RecordType::{Bytes, Text};
    vec![
        one("text", Text, r#"{"v":"whimbrel"}"#),
        one("text empty", Text, r#"{"v":""}"#),
        one("text with an emoji", Text, r#"{"v":"naïve 東京 😀"}"#),
        one("text composed", Text, "{\"v\":\"\u{e9}\"}"),
        one("text decomposed", Text, "{\"v\":\"e\u{301}\"}"),
        one("text with NUL", Text, r#"{"v":"a\u0000b"}"#),
        one("text with a space at its end", Text, r#"{"v":"a "}"#),
        one("text null", Text, r#"{"v":null}"#),
        one("text absent", Text, "{}"),
        one("bytes", Bytes, r#"{"v":"AP8Q"}"#),
        one("bytes empty", Bytes, r#"{"v":""}"#),
        one("reference", RecordType::Reference, r#"{"v":"people/7"}"#),
        one(
            "opaque",
            RecordType::Opaque {
                name: "inet".to_owned(),
            },
            r#"{"v":"10.0.0.0/8"}"#,
        ),
    ]
}

fn json() -> Vec<Case> {
    use RecordType::{Json, Variant};
    vec![
        json_null("json null", &[]),
        one("json missing", Json, r#"{"v":null}"#),
        one("json true", Json, r#"{"v":true}"#),
        one("json text", Json, r#"{"v":"a\"\u00e9\ud83d\ude00\u0000"}"#),
        one("json half of a pair", Json, r#"{"v":"\ud83d"}"#),
        one("json above 2^53", Json, r#"{"v":9007199254740993}"#),
        one("json number spelled out", Json, r#"{"v":-1.500e+3}"#),
        one("json minus zero", Json, r#"{"v":-0.0}"#),
        one(
            "json long number",
            Json,
            r#"{"v":123456789012345678901234567890.5}"#,
        ),
        one("json empty array", Json, r#"{"v":[]}"#),
        one("json empty object", Json, r#"{"v":{}}"#),
        one(
            "json members out of order",
            Json,
            r#"{"v":{"b":[1,2.0,null],"a":{"z":false,"é":"x","":0}}}"#,
        ),
        one("json member twice", Json, r#"{"v":{"a":1,"b":2,"a":3}}"#),
        one(
            "variant",
            Variant,
            r#"{"v":{"$type":"timestamp_tz","value":"2024-12-31T23:59:59.999999Z"}}"#,
        ),
    ]
}

fn nested() -> Vec<Case> {
    vec![
        one("list", RecordType::list(RecordType::INT64), r#"{"v":[1,null,3]}"#),
        one("list empty", RecordType::list(RecordType::Text), r#"{"v":[]}"#),
        one(
            "list of lists",
            RecordType::list(RecordType::list(RecordType::Text)),
            r#"{"v":[["a"],[],["b","c"]]}"#,
        ),
        one(
            "struct",
            RecordType::Struct {
                fields: vec![
                    Field::new("b", RecordType::INT64),
                    Field::new("a", RecordType::list(RecordType::Bool)),
                ],
            },
            r#"{"v":{"a":[true],"b":null}}"#,
        ),
        one(
            "geopoint",
            RecordType::Geopoint,
            r#"{"v":{"lat":48.5,"lng":-0.0}}"#,
        ),
        one("vector", RecordType::Vector, r#"{"v":[0.5,-1.5]}"#),
    ]
}

fn losses() -> Vec<Case> {
    use RecordType::{Date, Json, Numeric, Time, Timestamp, TimestampTz};
    let seconds = Loss::TruncateTimestamp {
        unit: TimeUnit::Seconds,
    };
    let millis = Loss::TruncateTimestamp {
        unit: TimeUnit::Milliseconds,
    };
    vec![
        lossy(
            "instant cut",
            TimestampTz,
            &[seconds],
            r#"{"v":"1969-12-31T23:59:59.999999Z"}"#,
        ),
        lossy(
            "timestamp cut",
            Timestamp,
            &[millis],
            r#"{"v":"2024-02-29T12:34:56.789012"}"#,
        ),
        lossy("time cut", Time, &[millis, seconds], r#"{"v":"12:34:56.789012"}"#),
        lossy(
            "instant infinity not cut",
            TimestampTz,
            &[seconds],
            r#"{"v":"infinity"}"#,
        ),
        lossy(
            "minus zero lost",
            FLOAT64,
            &[Loss::NegativeZeroToZero],
            r#"{"v":-0.0}"#,
        ),
        lossy(
            "minus zero lost in json",
            Json,
            &[Loss::NegativeZeroToZero],
            r#"{"v":[-0,-1]}"#,
        ),
        lossy("NaN lost", FLOAT64, &[Loss::NanToNull], r#"{"v":"NaN"}"#),
        lossy("numeric NaN lost", Numeric, &[Loss::NanToNull], r#"{"v":"NaN"}"#),
        lossy(
            "infinity lost",
            FLOAT64,
            &[Loss::InfinityToNull],
            r#"{"v":"-Infinity"}"#,
        ),
        lossy(
            "numeric infinity lost",
            Numeric,
            &[Loss::InfinityToNull],
            r#"{"v":"Infinity"}"#,
        ),
        lossy(
            "date infinity lost",
            Date,
            &[Loss::InfinityToNull],
            r#"{"v":"infinity"}"#,
        ),
    ]
}

fn losses_of_other_types() -> Vec<Case> {
    use RecordType::{Json, Numeric, Text};
    let float = Loss::FloatFromDecimal;
    vec![
        lossy("decimal as float", decimal(12, 2), &[float], r#"{"v":"-0.10"}"#),
        lossy(
            "numeric as float",
            Numeric,
            &[float],
            r#"{"v":"9007199254740993"}"#,
        ),
        lossy("numeric NaN as float", Numeric, &[float], r#"{"v":"NaN"}"#),
        lossy("absence lost", Text, &[Loss::AbsentToNull], "{}"),
        lossy("NUL lost", Text, &[Loss::NulRemoved], r#"{"v":"a\u0000b"}"#),
        lossy(
            "NUL lost in json",
            Json,
            &[Loss::NulRemoved],
            r#"{"v":{"a\u0000":"\u0000b","a":1}}"#,
        ),
        lossy("empty text lost", Text, &[Loss::EmptyTextToNull], r#"{"v":""}"#),
        json_null("json null lost", &[Loss::JsonNullToNull]),
        lossy(
            "json null within json kept",
            Json,
            &[Loss::JsonNullToNull],
            r#"{"v":[null]}"#,
        ),
        lossy(
            "json normalised",
            Json,
            &[Loss::JsonNormalised],
            r#"{"v":{"b":1.0,"a":[]}}"#,
        ),
        lossy(
            "surrogate replaced before",
            Text,
            &[Loss::LoneSurrogateReplaced],
            r#"{"v":"�"}"#,
        ),
        lossy(
            "type name dropped",
            RecordType::Opaque {
                name: "inet".to_owned(),
            },
            &[Loss::TypeNameDropped],
            r#"{"v":"10.0.0.0/8"}"#,
        ),
        lossy(
            "losses reach into lists",
            RecordType::list(FLOAT64),
            &[Loss::NanToNull, Loss::NegativeZeroToZero],
            r#"{"v":["NaN",-0.0,1.0]}"#,
        ),
    ]
}

fn person() -> Vec<Field> {
    vec![
        Field::new("id", RecordType::INT64),
        Field::new("name", RecordType::Text),
        Field::new("v", RecordType::FLOAT64),
        Field::new("born", RecordType::Date),
    ]
}

fn records() -> Vec<Case> {
    let record = r#"{"id":7,"name":"Ada","v":-0.0,"born":"1815-12-10"}"#;
    let case = |name, key: &[&str], losses: &[Loss], record| Case {
        name,
        recipe: recipe(person(), key, losses),
        record,
    };
    vec![
        case("record without a key", &[], &[], record),
        case("record with a key", &["id"], &[], record),
        case("record with a key of two fields", &["name", "id"], &[], record),
        case("record with a loss", &["id"], &[Loss::NegativeZeroToZero], record),
        case(
            "record with absent and null",
            &["id"],
            &[],
            r#"{"id":7,"name":null}"#,
        ),
        case("key with a loss", &["v"], &[Loss::NegativeZeroToZero], record),
    ]
}

pub(super) fn collections() -> Vec<CollectionCase> {
    let record = |id: u32| {
        format!(
            r#"{{"id":{id},"name":"name {}","v":{}.5,"born":"2000-01-01"}}"#,
            id % 10,
            id
        )
    };
    vec![
        CollectionCase {
            name: "nothing",
            recipe: recipe(person(), &["id"], &[]),
            records: Vec::new(),
        },
        CollectionCase {
            name: "with a key",
            recipe: recipe(person(), &["id"], &[]),
            records: (0..50).map(record).collect(),
        },
        CollectionCase {
            name: "without a key, some twice",
            recipe: recipe(person(), &[], &[]),
            records: (0..50).map(|number| record(number % 20)).collect(),
        },
    ]
}
