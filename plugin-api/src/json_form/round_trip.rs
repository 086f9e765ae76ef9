//! Every type there and back as JSON, alone and as whole records, and texts that are no values.
//!
//! Arrays and schemas come from [`crate::text_form::samples`]; edges and messages are written out.

use std::sync::Arc;

use arrow_array::cast::AsArray as _;
use arrow_array::{
    Array as _, ArrayRef, BinaryArray, BooleanArray, Float64Array, Int64Array, ListArray, RecordBatch,
    RecordBatchOptions, StringArray,
};
use arrow_schema::DataType;
use arrow_select::nullif::nullif;
use proptest::prelude::{Strategy, any, prop, prop_assert_eq, proptest};

use crate::record_type::{Field, RecordType, Schema};
use crate::text_form::samples::{Random, array, fields, record_types};

use super::{JsonDecoder, JsonEncoder, JsonNull, RowDecoder, RowEncoder, UnknownKeys};

fn written(record_type: &RecordType, array: &ArrayRef) -> Vec<String> {
    let encoder = JsonEncoder::new(record_type, array).unwrap();
    let write = |row| {
        let mut out = Vec::new();
        encoder.write(row, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    };
    (0..encoder.len()).map(write).collect()
}

fn read(record_type: &RecordType, texts: &[impl AsRef<str>]) -> ArrayRef {
    let mut decoder = JsonDecoder::new(record_type, texts.len()).unwrap();
    for text in texts {
        decoder.push_raw(text.as_ref()).unwrap();
    }
    decoder.finish().unwrap()
}

/// The code of the error for one value.
fn refusal(record_type: &RecordType, text: &str) -> Option<String> {
    let mut decoder = JsonDecoder::new(record_type, 1).unwrap();
    let error = decoder.push_raw(text).err()?;
    assert!(decoder.is_empty() && decoder.bytes() == 0, "{text}");
    Some(error.code)
}

fn lines(schema: &Schema, records: &RecordBatch) -> Vec<String> {
    let encoder = RowEncoder::new(schema, records).unwrap();
    let write = |row| {
        let mut out = Vec::new();
        encoder.write_line(row, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    };
    (0..encoder.len()).map(write).collect()
}

fn schemas() -> impl Strategy<Value = Schema> {
    (fields(record_types(), 0..9), any::<bool>()).prop_map(|(fields, presence)| Schema {
        presence,
        ..Schema::new(fields)
    })
}

/// A batch of `schema`; fields that may be null are absent now and then if it has a presence mask.
fn records(schema: &Schema, rows: usize, random: &mut Random) -> RecordBatch {
    let mut masks = vec![vec![0_u8; schema.fields.len().div_ceil(8)]; rows];
    let mut columns: Vec<ArrayRef> = Vec::new();
    for (index, field) in schema.fields.iter().enumerate() {
        let values = array(&field.record_type, field.nullable, rows, random);
        let may_miss = schema.presence && field.nullable;
        let absent: Vec<bool> = (0..rows).map(|_| may_miss && random.one_in(3)).collect();
        for (mask, absent) in masks.iter_mut().zip(&absent) {
            mask[index / 8] |= u8::from(!absent) << (index % 8);
        }
        columns.push(if may_miss {
            nullif(&values, &BooleanArray::from(absent)).unwrap()
        } else {
            values
        });
    }
    if schema.presence {
        columns.push(Arc::new(BinaryArray::from_iter_values(masks)));
    }
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    RecordBatch::try_new_with_options(schema.to_arrow(), columns, &options).unwrap()
}

/// Changes a few characters of a text.
fn damage(text: &str, random: &mut Random) -> String {
    let mut text: Vec<char> = text.chars().collect();
    for _ in 0..=random.below(3) {
        let place = random.below(text.len() + 1);
        match random.below(3) {
            0 if place < text.len() => drop(text.remove(place)),
            1 if place < text.len() => {
                text[place] = random.pick(&['"', '0', '{', ']', ',', '\\', '\0', 'x', '-'])
            }
            _ => text.insert(
                place,
                random.pick(&['"', '9', '}', '[', ':', 'e', '.', 'n', '😀']),
            ),
        }
    }
    text.into_iter().collect()
}

proptest! {
    #[test]
    fn every_array_comes_back(record_type in record_types(), rows in 0_usize..12, seed in any::<u64>()) {
        let array = array(&record_type, true, rows + 3, &mut Random(seed)).slice(2, rows);
        let texts = written(&record_type, &array);
        for text in &texts {
            prop_assert_eq!(text.lines().count(), 1);
        }
        prop_assert_eq!(&read(&record_type, &texts), &array);
    }

    #[test]
    fn every_batch_comes_back(schema in schemas(), rows in 0_usize..12, seed in any::<u64>()) {
        let records = records(&schema, rows, &mut Random(seed));
        let mut decoder = RowDecoder::new(&schema, 4).unwrap();
        for line in lines(&schema, &records) {
            decoder.push_line(&line).unwrap();
        }
        prop_assert_eq!(decoder.finish().unwrap(), records);
    }

    #[test]
    fn records_that_are_refused_leave_nothing_behind(
        schema in schemas(),
        rows in 1_usize..12,
        seed in any::<u64>(),
        ignore in any::<bool>(),
    ) {
        let random = &mut Random(seed);
        let policy = if ignore { UnknownKeys::Ignore } else { UnknownKeys::Fail };
        let mut decoder = RowDecoder::new(&schema, 0).unwrap().with_unknown_keys(policy);
        let mut accepted = Vec::new();
        for line in lines(&schema, &records(&schema, rows, random)) {
            for line in [damage(&line, random), line] {
                let before = (decoder.len(), decoder.bytes());
                match decoder.push_line(&line) {
                    Ok(()) => accepted.push(line),
                    Err(_) => prop_assert_eq!((decoder.len(), decoder.bytes()), before),
                }
            }
        }
        let mut clean = RowDecoder::new(&schema, 0).unwrap().with_unknown_keys(policy);
        for line in &accepted {
            clean.push_line(line).unwrap();
        }
        prop_assert_eq!(decoder.finish().unwrap(), clean.finish().unwrap());
    }

    #[test]
    fn no_text_makes_a_decoder_panic(
        record_type in record_types(),
        text in "(\\PC{0,20}|[\\[\\]{}\",:0-9a-z.\\\\ -]{0,40})",
        octets in prop::collection::vec(any::<u8>(), 0..40),
    ) {
        let mut column = JsonDecoder::new(&record_type, 0).unwrap();
        let is_pushed = column.push_raw(&text).is_ok();
        prop_assert_eq!(column.finish().unwrap().len(), usize::from(is_pushed));
        let mut rows = RowDecoder::new(&Schema::new(vec![Field::new("a", record_type)]), 0).unwrap();
        let pushed_count = [
            rows.push_line(&text).is_ok(),
            rows.push_line(&format!("{{\"a\":{text}}}")).is_ok(),
            rows.push_line_bytes(&octets).is_ok(),
        ];
        let pushed_count = pushed_count.into_iter().filter(|is_pushed| *is_pushed).count();
        prop_assert_eq!(rows.finish().unwrap().num_rows(), pushed_count);
    }
}

#[test]
fn edges_have_their_json() {
    let point = RecordType::Struct {
        fields: vec![
            Field::new("a", RecordType::INT64),
            Field::required("b", RecordType::list(RecordType::Text)),
        ],
    };
    let cases: &[(RecordType, &[&str])] = &[
        (RecordType::Bool, &["true", "false", "null"]),
        (RecordType::Int { bits: 8 }, &["-128", "127"]),
        (
            RecordType::INT64,
            &[
                "9007199254740993",
                "-9223372036854775808",
                "9223372036854775807",
                "null",
            ],
        ),
        (
            RecordType::FLOAT64,
            &[
                "1.0",
                "-0.0",
                "5e-324",
                "1e16",
                "\"NaN\"",
                "\"Infinity\"",
                "\"-Infinity\"",
                "0.1",
            ],
        ),
        (RecordType::Float { bits: 32 }, &["0.1", "1e-45", "3.4028235e38"]),
        (
            RecordType::Decimal {
                precision: 76,
                scale: 2,
            },
            &["\"0.05\"", "\"-1.50\""],
        ),
        (RecordType::Numeric, &["\"NaN\"", "\"1e400\"", "\"0.10\""]),
        (
            RecordType::Text,
            &[
                "\"\"",
                "null",
                "\"\\u0000\\\"\\\\\\n\u{7f}\u{2028}\u{10ffff}\"",
                "\"null\"",
            ],
        ),
        (RecordType::Bytes, &["\"\"", "\"AP8=\"", "\"AAEC\""]),
        (RecordType::Date, &["\"2024-02-29\"", "\"infinity\""]),
        (RecordType::TimestampTz, &["\"1969-12-31T23:59:59.999999Z\""]),
        (RecordType::Interval, &["\"P14M-3DT-0.000001S\"", "null"]),
        (RecordType::Uuid, &["\"00112233-4455-6677-8899-aabbccddeeff\""]),
        (
            RecordType::Json,
            &["{ \"b\":1.50,\"b\":[null] }", "\"x\"", "1e400"],
        ),
        (RecordType::Variant, &["{\"$type\":\"bytes\"}"]),
        (
            RecordType::Opaque {
                name: "inet".to_owned(),
            },
            &["\"::1/128\""],
        ),
        (
            RecordType::Geopoint,
            &[
                "{\"lat\":-90.0,\"lng\":180.0}",
                "null",
                "{\"lat\":\"NaN\",\"lng\":-0.0}",
            ],
        ),
        (RecordType::Vector, &["[]", "[1.0,\"NaN\",5e-324]", "null"]),
        (
            RecordType::list(point),
            &[
                "null",
                "[]",
                "[null,{\"a\":null,\"b\":[]},{\"a\":9007199254740993,\"b\":[\"\",null,\"x\"]}]",
            ],
        ),
    ];
    for (record_type, texts) in cases {
        let array = read(record_type, texts);
        assert_eq!(array.data_type(), &record_type.to_arrow());
        assert_eq!(written(record_type, &array), *texts, "{record_type}");
    }
}

#[test]
fn other_spellings_are_read_exactly() {
    let decimal = RecordType::Decimal {
        precision: 20,
        scale: 2,
    };
    let cases: &[(RecordType, &str, &str)] = &[
        (RecordType::FLOAT64, "1", "1.0"),
        (RecordType::FLOAT64, "-0", "-0.0"),
        (RecordType::FLOAT64, " 1E2 ", "100.0"),
        (RecordType::FLOAT64, "\"N\\u0061N\"", "\"NaN\""),
        (
            decimal.clone(),
            "12345678901234567.25",
            "\"12345678901234567.25\"",
        ),
        (decimal.clone(), "1e2", "\"100.00\""),
        (decimal, "\"\\u0031.5\"", "\"1.50\""),
        (RecordType::Numeric, "0.1000", "\"0.1000\""),
        (RecordType::INT64, "-0", "0"),
        (
            RecordType::TimestampTz,
            "\"2024-01-01T02:00:00+02:00\"",
            "\"2024-01-01T00:00:00.000000Z\"",
        ),
        (
            RecordType::Geopoint,
            "{\"lng\":1,\"lat\":2}",
            "{\"lat\":2.0,\"lng\":1.0}",
        ),
        (RecordType::Json, " \n{\"a\":1}\t", "{\"a\":1}"),
    ];
    for (record_type, text, canonical) in cases {
        assert_eq!(
            written(record_type, &read(record_type, &[text])),
            [*canonical],
            "{record_type} {text}"
        );
    }
}

#[test]
fn values_outside_the_type_are_refused() {
    let required = RecordType::Struct {
        fields: vec![Field::required("a", RecordType::INT64)],
    };
    let cases: &[(RecordType, &str, &[&str])] = &[
        (RecordType::Bool, "bad_value", &["0", "\"true\"", "[]", "{}"]),
        (
            RecordType::INT64,
            "bad_value",
            &["1.0", "1e3", "9223372036854775808", "\"1\"", "true", "[1]", "{}"],
        ),
        (RecordType::Int { bits: 8 }, "bad_value", &["128"]),
        (
            RecordType::FLOAT64,
            "bad_value",
            &["1e309", "\"1.5\"", "\"nan\"", "true", "[]"],
        ),
        (
            RecordType::Decimal {
                precision: 4,
                scale: 2,
            },
            "bad_value",
            &["1.005", "100", "\"NaN\"", "true", "\"\""],
        ),
        (RecordType::Numeric, "bad_value", &["\"abc\"", "true", "{}"]),
        (
            RecordType::Text,
            "bad_value",
            &["1", "-1", "1.5", "true", "[]", "{}"],
        ),
        (
            RecordType::Bytes,
            "bad_value",
            &["\"AP8\"", "\"*\"", "\"AP9=\"", "1"],
        ),
        (RecordType::Date, "bad_value", &["\"2023-02-29\"", "20230228"]),
        (
            RecordType::list(RecordType::Bool),
            "bad_value",
            &["{}", "true", "[1]"],
        ),
        (RecordType::Vector, "null", &["[null]"]),
        (RecordType::Vector, "bad_value", &["[\"x\"]"]),
        (RecordType::Geopoint, "missing_field", &["{}", "{\"lat\":1}"]),
        (
            RecordType::Geopoint,
            "unknown_key",
            &["{\"lat\":1,\"lng\":1,\"alt\":1}"],
        ),
        (RecordType::Geopoint, "null", &["{\"lat\":null,\"lng\":1}"]),
        (required.clone(), "key_twice", &["{\"a\":1,\"a\":1}"]),
        (required, "bad_value", &["[]", "1", "\"\""]),
        (
            RecordType::Json,
            "bad_json",
            &["", "{", "{]", "01", "nul", "\"\u{1}\"", "1 2", "'a'", "NaN"],
        ),
        (RecordType::INT64, "bad_json", &["", "1 2", "+1", "01", "- 1"]),
        (
            RecordType::Text,
            "bad_json",
            &["\"\\ud800\"", "\"a", "\"a\" b", "\"\\x\""],
        ),
    ];
    for (record_type, code, texts) in cases {
        for text in *texts {
            let expected = format!("json_form.{code}");
            assert_eq!(refusal(record_type, text), Some(expected), "{record_type} {text}");
        }
    }
}

#[test]
fn messages_name_path_and_type_and_never_the_value() {
    let line = Field::new(
        "lines",
        RecordType::list(RecordType::Struct {
            fields: vec![Field::new("price", RecordType::INT64)],
        }),
    );
    let mut decoder = RowDecoder::new(&Schema::new(vec![line]), 1).unwrap();
    let mut message = |text: &str| decoder.push_line(text).unwrap_err().message;
    assert_eq!(
        message(r#"{"lines":[{"price":1},{"price":"secret"}]}"#),
        "`lines[].price`: a JSON value is not a value of the type `int64`"
    );
    assert_eq!(
        message(r#"{"lines":[{"cost":1}]}"#),
        "`lines[].cost`: a key is not in the schema"
    );
    assert_eq!(
        message(r#"{"lines":1,"lines":2}"#),
        "`lines`: a JSON value is not a value of the type `list(struct(price: int64))`"
    );
    assert_eq!(
        message(r#"{"lines":null,"lines":null}"#),
        "`lines`: a key stands twice in one object"
    );
    assert_eq!(message("[\"secret\"]"), "a record is not a JSON object");
    let long = format!("{{\"{}\":1}}", "é".repeat(5_000));
    assert!(message(&long).len() < 300);
    for text in [
        "{\"lines\":secret}",
        "{\"lines\":[{\"price\":1secret}]}",
        "secret",
    ] {
        let error = decoder.push_line(text).unwrap_err();
        assert_eq!(error.code, "json_form.bad_json");
        assert!(!format!("{error:?}").contains("secret"), "{error:?}");
    }
}

#[test]
fn a_field_that_is_not_there_is_null_and_marked_as_absent() {
    let mut schema = Schema::new(
        (0..9)
            .map(|index| Field::new(format!("f{index}"), RecordType::INT64))
            .collect(),
    );
    schema.presence = true;
    let texts = [
        r#"{"f8":8,"f0":null}"#,
        "{}",
        r#"{"f1":1,"f2":2,"f3":3,"f4":4,"f5":5,"f6":6,"f7":7}"#,
    ];
    let mut decoder = RowDecoder::new(&schema, 0).unwrap();
    for text in texts {
        decoder.push_line(text).unwrap();
        decoder.push_line(r#"{"f1":1,"f0":"x"}"#).unwrap_err();
    }
    let records = decoder.finish().unwrap();
    let masks: Vec<&[u8]> = (0..3)
        .map(|row| {
            records
                .column(9)
                .as_any()
                .downcast_ref::<BinaryArray>()
                .unwrap()
                .value(row)
        })
        .collect();
    assert_eq!(masks, [[0b0000_0001, 1], [0, 0], [0b1111_1110, 0]]);
    assert_eq!(records.column(0).null_count(), 3);
    assert_eq!(
        lines(&schema, &records),
        [r#"{"f0":null,"f8":8}"#, texts[1], texts[2]]
    );
}

#[test]
fn unknown_keys_are_refused_unless_they_are_to_be_ignored() {
    let inner = RecordType::Struct {
        fields: vec![Field::new("b", RecordType::Bool)],
    };
    let schema = Schema::new(vec![Field::new("a", inner)]);
    let text = r#"{"x":[{"y":1}],"a":{"z":null,"b":true},"x":2}"#;
    assert_eq!(
        RowDecoder::new(&schema, 0)
            .unwrap()
            .push_line(text)
            .unwrap_err()
            .code,
        "json_form.unknown_key"
    );
    let mut decoder = RowDecoder::new(&schema, 0)
        .unwrap()
        .with_unknown_keys(UnknownKeys::Ignore);
    decoder.push_line(text).unwrap();
    assert_eq!(
        decoder.push_line(r#"{"x":[}"#).unwrap_err().code,
        "json_form.bad_json"
    );
    assert_eq!(
        lines(&schema, &decoder.finish().unwrap()),
        [r#"{"a":{"b":true}}"#]
    );
}

#[test]
fn a_decoder_goes_on_after_finish() {
    let schema = Schema::new(vec![Field::new("a", RecordType::list(RecordType::Text))]);
    let mut decoder = RowDecoder::new(&schema, 1).unwrap();
    for text in [r#"{"a":["x","y"]}"#, r#"{"a":[]}"#, r#"{"a":null}"#] {
        decoder.push_line(text).unwrap();
        assert_eq!(decoder.len(), 1);
        assert_eq!(lines(&schema, &decoder.finish().unwrap()), [text]);
        assert!(decoder.is_empty() && decoder.bytes() == 0);
    }
    assert_eq!(decoder.finish().unwrap().num_rows(), 0);
}

#[test]
fn bytes_grow_with_what_is_held() {
    let schema = Schema::new(vec![Field::new("a", RecordType::Json)]);
    let mut decoder = RowDecoder::new(&schema, 1).unwrap();
    let text = format!("{{\"a\":\"{}\"}}", "x".repeat(10_000));
    for count in 1..=10 {
        decoder.push_line(&text).unwrap();
        assert!((count * 10_000..count * 10_100).contains(&decoder.bytes()));
    }
}

#[test]
fn octets_that_are_not_utf8_are_refused() {
    let mut decoder = RowDecoder::new(&Schema::new(vec![Field::new("a", RecordType::Text)]), 1).unwrap();
    assert_eq!(
        decoder.push_line_bytes(b"{\"a\":\"\xff\"}").unwrap_err().code,
        "json_form.not_utf8"
    );
    decoder.push_line_bytes(b"{\"a\":\"\xc3\xa9\"}\r\n").unwrap();
    assert_eq!(decoder.len(), 1);
}

#[test]
fn a_json_null_is_kept_where_null_cannot_mean_anything_else() {
    let values: ArrayRef = Arc::new(StringArray::from(vec!["1", " null\n"]));
    let encoder = JsonEncoder::new(&RecordType::Json, &values).unwrap();
    let mut out = b"before".to_vec();
    let error = encoder.write(1, &mut out).unwrap_err();
    assert_eq!(
        (error.code.as_str(), error.rows.as_slice()),
        ("json_form.json_null", [1].as_slice())
    );
    assert_eq!(out, b"before");
    encoder
        .with_json_null(JsonNull::AsNull)
        .write(1, &mut out)
        .unwrap();
    assert_eq!(out, b"before null ");

    let lists = read(&RecordType::list(RecordType::Text), &[r#"["1","null"]"#]);
    let (_, offsets, items, _) = lists.as_list::<i32>().clone().into_parts();
    let list_type = RecordType::list(RecordType::Json);
    let DataType::List(item) = list_type.to_arrow() else {
        panic!("a list travels as a list");
    };
    let lists: ArrayRef = Arc::new(ListArray::new(item, offsets, items, None));
    let mut out = b"before".to_vec();
    JsonEncoder::new(&list_type, &lists)
        .unwrap()
        .write(0, &mut out)
        .unwrap_err();
    assert_eq!(out, b"before");

    let schema = Schema::new(vec![Field::required("a", RecordType::Json)]);
    let records = RecordBatch::try_new(schema.to_arrow(), vec![values]).unwrap();
    let texts = lines(&schema, &records);
    assert_eq!(texts[1], "{\"a\": null }");
    let mut decoder = RowDecoder::new(&schema, 1).unwrap();
    decoder.push_line(&texts[1]).unwrap();
    assert_eq!(
        decoder.push_line("{}").unwrap_err().code,
        "json_form.missing_field"
    );
    let records = decoder.finish().unwrap();
    assert_eq!(
        records
            .column(0)
            .as_any()
            .downcast_ref::<StringArray>()
            .unwrap()
            .value(0),
        "null"
    );
}

#[test]
fn a_json_value_stays_on_one_line_and_is_checked() {
    let values: ArrayRef = Arc::new(StringArray::from(vec![
        "{\r\n  \"a\": \"\\n\"\n}",
        "{",
        "",
        "1,\"b\":2",
    ]));
    let schema = Schema::new(vec![
        Field::new("first", RecordType::INT64),
        Field::new("a", RecordType::Json),
    ]);
    let first: ArrayRef = Arc::new(Int64Array::from(vec![1; 4]));
    let records = RecordBatch::try_new(schema.to_arrow(), vec![first, values]).unwrap();
    let encoder = RowEncoder::new(&schema, &records).unwrap();
    let mut out = Vec::new();
    encoder.write_line(0, &mut out).unwrap();
    assert_eq!(out, b"{\"first\":1,\"a\":{    \"a\": \"\\n\" }}");
    for row in 1..4 {
        out.clear();
        let error = encoder.write_line(row, &mut out).unwrap_err();
        assert_eq!(error.code, "json_form.invalid_json");
        assert_eq!(error.message, "`a`: a value of a JSON column is not valid JSON");
        assert_eq!((error.rows, out.len()), (vec![row as u64], 0));
    }
}

#[test]
fn every_nan_is_written_the_same() {
    let values = [0x7ff8_0000_0000_0001, 0xfff0_0000_0000_0001].map(f64::from_bits);
    let array: ArrayRef = Arc::new(Float64Array::from(values.to_vec()));
    assert_eq!(written(&RecordType::FLOAT64, &array), ["\"NaN\"", "\"NaN\""]);
}

#[test]
fn a_value_is_read_from_the_middle_of_a_stream() {
    let mut decoder = JsonDecoder::new(&RecordType::list(RecordType::INT64), 0).unwrap();
    let mut stream = serde_json::Deserializer::from_str("[1][2,\"secret\"] [3]");
    decoder.push_from(&mut stream).unwrap();
    let error = decoder.push_from(&mut stream).unwrap_err();
    assert!(!error.to_string().contains("secret"));
    assert_eq!(decoder.len(), 1);
    assert_eq!(
        written(&RecordType::list(RecordType::INT64), &decoder.finish().unwrap()),
        ["[1]"]
    );
}

#[test]
fn a_value_as_deep_as_types_may_be_is_read() {
    let mut record_type = RecordType::INT64;
    for _ in 0..100 {
        record_type = RecordType::list(record_type);
    }
    let text = format!("{}1{}", "[".repeat(100), "]".repeat(100));
    assert_eq!(written(&record_type, &read(&record_type, &[&text])), [text]);
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    assert_eq!(refusal(&RecordType::Json, &deep), None);
    assert_eq!(
        refusal(&RecordType::list(RecordType::Bool), &deep).as_deref(),
        Some("json_form.bad_value")
    );
}

#[test]
fn a_batch_that_is_not_of_the_schema_is_refused() {
    let schema = Schema {
        presence: true,
        ..Schema::new(vec![Field::new("a", RecordType::Text)])
    };
    let values: ArrayRef = Arc::new(StringArray::from(vec!["x"]));
    let without = Schema::new(schema.fields.clone());
    let records = RecordBatch::try_new(without.to_arrow(), vec![Arc::clone(&values)]).unwrap();
    RowEncoder::new(&schema, &records).unwrap_err();
    let short: ArrayRef = Arc::new(BinaryArray::from_iter_values([b""]));
    let records = RecordBatch::try_new(schema.to_arrow(), vec![values, short]).unwrap();
    RowEncoder::new(&schema, &records).unwrap_err();
    RowEncoder::new(
        &Schema::new(vec![
            Field::new("a", RecordType::INT64),
            Field::new("b", RecordType::Bytes),
        ]),
        &records,
    )
    .unwrap_err();
}
