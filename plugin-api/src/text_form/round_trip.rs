//! Every scalar type there and back, at random and at the edges, and texts that are none.
//!
//! Arrays come from [`super::samples`], texts from patterns that look like values of some type.

use std::sync::Arc;

use arrow_array::{Array as _, ArrayRef, Int64Array, StringArray};
use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};

use crate::error::{ErrorKind, ErrorScope};
use crate::record_type::{Field, RecordType};

use super::samples::{Random, array, record_types, scalar_types};
use super::{TextDecoder, TextEncoder};

/// The texts of an array; `None` for null.
fn texts(record_type: &RecordType, array: &ArrayRef) -> Vec<Option<String>> {
    let encoder = TextEncoder::new(record_type, array).unwrap();
    assert_eq!(encoder.len(), array.len());
    let text = |row| {
        let mut text = String::new();
        encoder.write(row, &mut text);
        (!encoder.is_null(row)).then_some(text)
    };
    (0..array.len()).map(text).collect()
}

fn decoded(record_type: &RecordType, texts: &[Option<&str>]) -> ArrayRef {
    let mut decoder = TextDecoder::new(record_type, 0).unwrap();
    for text in texts {
        match text {
            Some(text) => decoder.push(text).unwrap(),
            None => decoder.push_null(),
        }
    }
    decoder.finish().unwrap()
}

proptest! {
    #[test]
    fn every_array_comes_back(record_type in scalar_types(), rows in 0_usize..20, seed in any::<u64>()) {
        let array = array(&record_type, true, rows + 3, &mut Random(seed)).slice(1, rows);
        let texts = texts(&record_type, &array);
        let texts: Vec<Option<&str>> = texts.iter().map(Option::as_deref).collect();
        prop_assert_eq!(&decoded(&record_type, &texts), &array);
    }

    #[test]
    fn any_text_is_read_or_refused_and_what_is_read_has_one_canonical_text(
        record_type in scalar_types(),
        text in "(\\PC{0,12}|[-+0-9.eE:TZPMDS ]{0,30}|[-+]?[0-9]{1,40}(\\.[0-9]{1,40})?(e[-+]?[0-9]{1,3})?)",
    ) {
        let mut decoder = TextDecoder::new(&record_type, 1).unwrap();
        match decoder.push(&text) {
            Ok(()) => {
                let first = decoder.finish().unwrap();
                let canonical = texts(&record_type, &first);
                let again = decoded(&record_type, &[canonical[0].as_deref()]);
                prop_assert_eq!(&again, &first);
                prop_assert_eq!(texts(&record_type, &again), canonical);
            }
            Err(error) => {
                prop_assert_eq!(error.kind, ErrorKind::InvalidData);
                prop_assert_eq!(error.code, "text_form.bad_value");
                prop_assert_eq!(error.scope, ErrorScope::Rows);
                prop_assert_eq!(decoder.len(), 0);
            }
        }
    }

    #[test]
    fn every_type_is_taken_by_the_text_form_or_refused_as_nested(record_type in record_types()) {
        let array = array(&record_type, true, 2, &mut Random(1));
        let refused = TextEncoder::new(&record_type, &array).err().map(|error| error.code);
        let is_nested = matches!(
            record_type,
            RecordType::List { .. } | RecordType::Struct { .. } | RecordType::Geopoint | RecordType::Vector
        );
        prop_assert_eq!(refused.as_deref(), is_nested.then_some("text_form.nested_type"));
        prop_assert!(TextDecoder::new(&record_type, 0).is_err() == is_nested);
    }
}

#[test]
fn edges_have_their_canonical_text() {
    let int = |bits| RecordType::Int { bits };
    let cases: &[(RecordType, &[&str])] = &[
        (RecordType::Bool, &["true", "false"]),
        (int(8), &["-128", "127", "0"]),
        (int(16), &["-32768", "32767"]),
        (int(32), &["-2147483648", "2147483647"]),
        (
            int(64),
            &["-9223372036854775808", "9223372036854775807", "9007199254740993"],
        ),
        (
            RecordType::FLOAT64,
            &["5e-324", "-0", "0", "NaN", "Infinity", "-Infinity", "0.1", "1e16"],
        ),
        (
            RecordType::Float { bits: 32 },
            &["1e-45", "16777216", "-0", "3.4028235e38"],
        ),
        (
            RecordType::Decimal {
                precision: 20,
                scale: 0,
            },
            &["18446744073709551615"],
        ),
        (RecordType::Numeric, &["NaN", "-Infinity", "1e400", "-000.10"]),
        (RecordType::Text, &["", "\0", "a\u{10ffff}é😀", "null"]),
        (RecordType::Bytes, &["", "00ff"]),
        (
            RecordType::Date,
            &[
                "infinity",
                "-infinity",
                "0001-01-01",
                "9999-12-31",
                "+5881580-07-10",
            ],
        ),
        (RecordType::Time, &["00:00:00", "24:00:00", "23:59:59.999999"]),
        (RecordType::TimeTz, &["24:00:00+15:59:59"]),
        (
            RecordType::TimestampTz,
            &[
                "infinity",
                "-290308-12-21T19:59:05.224193Z",
                "1969-12-31T23:59:59.999999Z",
            ],
        ),
        (
            RecordType::Timestamp,
            &[
                "-infinity",
                "+294247-01-10T04:00:54.775806",
                "0000-01-01T00:00:00.000000",
            ],
        ),
        (
            RecordType::Interval,
            &["P-2147483648M2147483647DT-9223372036854.775808S"],
        ),
        (RecordType::Uuid, &["00000000-0000-0000-0000-0000000000ff"]),
        (RecordType::Json, &["{ }", "null", "not checked"]),
    ];
    for (record_type, canonical) in cases {
        let array = decoded(
            record_type,
            &canonical.iter().copied().map(Some).collect::<Vec<_>>(),
        );
        assert_eq!(array.data_type(), &record_type.to_arrow());
        let texts = texts(record_type, &array);
        assert_eq!(
            texts
                .iter()
                .map(|text| text.as_deref().unwrap())
                .collect::<Vec<_>>(),
            *canonical
        );
    }
}

#[test]
fn values_outside_the_type_are_refused() {
    let cases: &[(RecordType, &[&str])] = &[
        (RecordType::Bool, &["", "TRUE", "1", "t"]),
        (
            RecordType::Int { bits: 8 },
            &["128", "-129", "1.0", "", "1e1", " 1"],
        ),
        (RecordType::INT64, &["9223372036854775808", "1.5"]),
        (RecordType::FLOAT64, &["1e309", "inf", ""]),
        (
            RecordType::Decimal {
                precision: 3,
                scale: 1,
            },
            &["100", "1.55", "NaN"],
        ),
        (RecordType::Numeric, &["", "abc", "1e", "nan"]),
        (RecordType::Bytes, &["0", "\\x00"]),
        (RecordType::TimeTz, &["12:00:00", "12:00:00Z"]),
        (RecordType::Uuid, &["0"]),
    ];
    for (record_type, texts) in cases {
        let mut decoder = TextDecoder::new(record_type, 1).unwrap();
        for text in *texts {
            let error = decoder.push(text).unwrap_err();
            assert_eq!(error.code, "text_form.bad_value", "{record_type} {text}");
            assert_eq!(
                error.message,
                format!("a text is not a value of the type `{record_type}`")
            );
        }
        assert!(decoder.is_empty());
    }
}

#[test]
fn an_empty_text_is_not_null() {
    let array: ArrayRef = Arc::new(StringArray::from(vec![Some(""), None]));
    assert_eq!(texts(&RecordType::Text, &array), [Some(String::new()), None]);
    assert_eq!(&decoded(&RecordType::Text, &[Some(""), None]), &array);
}

#[test]
fn a_refused_value_leaves_nothing_behind() {
    let mut decoder = TextDecoder::new(&RecordType::Bytes, 4).unwrap();
    decoder.push("00").unwrap();
    decoder.push("ffff0g").unwrap_err();
    decoder.push("01").unwrap();
    assert_eq!(decoder.len(), 2);
    assert_eq!(
        texts(&RecordType::Bytes, &decoder.finish().unwrap()),
        [Some("00".into()), Some("01".into())]
    );
    assert_eq!((decoder.len(), decoder.bytes()), (0, 0));
    decoder.push("02").unwrap();
    assert_eq!(
        texts(&RecordType::Bytes, &decoder.finish().unwrap()),
        [Some("02".into())]
    );
}

#[test]
fn an_array_of_another_type_is_refused() {
    let array: ArrayRef = Arc::new(Int64Array::from(vec![1]));
    assert_eq!(
        TextEncoder::new(&RecordType::Text, &array).unwrap_err().kind,
        ErrorKind::Internal
    );
    let bad = RecordType::Int { bits: 7 };
    assert_eq!(
        TextEncoder::new(&bad, &array).unwrap_err().code,
        "schema.bad_type"
    );
    assert_eq!(TextDecoder::new(&bad, 0).unwrap_err().code, "schema.bad_type");
    let nested = RecordType::Struct {
        fields: vec![Field::new("a", RecordType::Bool)],
    };
    assert_eq!(
        TextDecoder::new(&nested, 0).unwrap_err().kind,
        ErrorKind::Unsupported
    );
}
