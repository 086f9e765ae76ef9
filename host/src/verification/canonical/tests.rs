//! The canonical form by example and by properties: what is the same value has one form, what is another has another, and a
//! form ends where the next one begins.
//!
//! `super::super::digest::vectors` holds the forms themselves to what `docs/digest.md` says.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow_array::{
    Decimal128Array, Decimal256Array, Float32Array, Float64Array, Int8Array, Int16Array, Int32Array,
    Int64Array, StringArray, TimestampMicrosecondArray,
};
use proptest::prelude::*;
use whimbrel_plugin_api::arrow_buffer::i256;

use super::*;

fn encode(record_type: &RecordType, array: &ArrayRef, losses: FieldLosses) -> Result<(Vec<u8>, Touched)> {
    let mut encoded = Encoded::default();
    ColumnEncoder::new(record_type, array, losses).encode(0, true, &mut encoded)?;
    let touched = encoded.take_touched();
    Ok((encoded.octets, touched))
}

fn encoded(record_type: &RecordType, array: ArrayRef, losses: FieldLosses) -> Vec<u8> {
    encode(record_type, &array, losses).unwrap().0
}

fn plain(record_type: &RecordType, array: ArrayRef) -> Vec<u8> {
    encoded(record_type, array, FieldLosses::NONE)
}

fn of_text(record_type: &RecordType, text: &str, losses: FieldLosses) -> Result<Vec<u8>> {
    let array: ArrayRef = Arc::new(StringArray::from(vec![text]));
    Ok(encode(record_type, &array, losses)?.0)
}

fn json(text: &str) -> Vec<u8> {
    of_text(&RecordType::Json, text, FieldLosses::NONE).unwrap()
}

fn numeric(text: &str) -> Vec<u8> {
    of_text(&RecordType::Numeric, text, FieldLosses::NONE).unwrap()
}

fn int(value: i64) -> Vec<u8> {
    plain(&RecordType::INT64, Arc::new(Int64Array::from(vec![value])))
}

fn decimal(value: i128, scale: i8) -> Vec<u8> {
    let array = Decimal128Array::from(vec![value])
        .with_precision_and_scale(38, scale)
        .unwrap();
    plain(&RecordType::Decimal { precision: 38, scale }, Arc::new(array))
}

fn wide_decimal(value: i256, scale: i8) -> Vec<u8> {
    let array = Decimal256Array::from(vec![value])
        .with_precision_and_scale(76, scale)
        .unwrap();
    plain(&RecordType::Decimal { precision: 76, scale }, Arc::new(array))
}

fn float(value: f64) -> Vec<u8> {
    plain(&RecordType::FLOAT64, Arc::new(Float64Array::from(vec![value])))
}

/// The octets of the form that `form` begins with: what a reader would take. Written anew, after the specification.
fn length(form: &[u8]) -> usize {
    let count = |at: usize| u32::from_be_bytes(*form[at..].first_chunk().unwrap()) as usize;
    let several = |from: usize, count: usize| (0..count).fold(from, |at, _| at + length(&form[at..]));
    match form[0] {
        TAG_NULL | TAG_ABSENT => 1,
        TAG_BOOL => 2,
        TAG_NUMBER => 1 + number_length(&form[1..]),
        TAG_DATE => 5,
        TAG_FLOAT | TAG_TIME | TAG_TIMESTAMP | TAG_TIMESTAMP_TZ => 9,
        TAG_TEXT | TAG_BYTES => 5 + count(1),
        TAG_INTERVAL | TAG_UUID => 17,
        TAG_JSON => 1 + json_length(&form[1..]),
        TAG_LIST | TAG_STRUCT => several(5, count(1)),
        other => panic!("no form begins with {other}"),
    }
}

fn number_length(form: &[u8]) -> usize {
    match form[0] {
        0 | 1 => 13,
        2 | 3 => 9 + u32::from_be_bytes(*form[5..].first_chunk().unwrap()) as usize,
        _ => 1,
    }
}

fn json_length(form: &[u8]) -> usize {
    let count = |at: usize| u32::from_be_bytes(*form[at..].first_chunk().unwrap()) as usize;
    match form[0] {
        b'n' => 1,
        b'b' => 2,
        b's' => 5 + count(1),
        b'#' => 1 + number_length(&form[1..]),
        b'[' => (0..count(1)).fold(5, |at, _| at + json_length(&form[at..])),
        b'{' => (0..count(1)).fold(5, |at, _| {
            let value = at + 4 + count(at);
            value + json_length(&form[value..])
        }),
        other => panic!("no JSON form begins with {other}"),
    }
}

#[test]
fn declared_losses_reach_into_json() {
    let json = |text: &str, losses: FieldLosses| of_text(&RecordType::Json, text, losses).unwrap();
    let exact = FieldLosses::NONE;
    assert_ne!(json("[-0.0]", exact), json("[0.0]", exact));
    assert_ne!(
        json(r#"{"a\u0000":"b\u0000"}"#, exact),
        json(r#"{"a":"b"}"#, exact)
    );
    let lossy = FieldLosses {
        negative_zero: true,
        nul_removed: true,
        ..exact
    };
    assert_eq!(json("[-0.0,-0]", lossy), json("[0.0,0]", lossy));
    assert_eq!(
        json(r#"{"a\u0000":"b\u0000"}"#, lossy),
        json(r#"{"a":"b"}"#, lossy)
    );
    assert_ne!(json("[-1]", lossy), json("[1]", lossy));
    // Two names that become one: the later one in the text stays, as with names that were one from the start.
    assert_eq!(json(r#"{"a\u0000":1,"a":2}"#, lossy), json(r#"{"a":2}"#, lossy));
    assert_eq!(json(r#"{"a":1,"a\u0000":2}"#, lossy), json(r#"{"a":2}"#, lossy));
}

#[test]
fn integers_and_decimals_are_one_class() {
    let hundred = int(100);
    assert_eq!(decimal(10_000, 2), hundred);
    assert_eq!(wide_decimal(i256::from_i128(100_000), 3), hundred);
    assert_eq!(
        plain(&RecordType::Int { bits: 8 }, Arc::new(Int8Array::from(vec![100]))),
        hundred
    );
    assert_eq!(
        plain(
            &RecordType::Int { bits: 16 },
            Arc::new(Int16Array::from(vec![100]))
        ),
        hundred
    );
    assert_eq!(
        plain(
            &RecordType::Int { bits: 32 },
            Arc::new(Int32Array::from(vec![100]))
        ),
        hundred
    );
    for text in [
        "100", "100.00", "1e2", "0100", "+100", "100.", "10000E-2", "0.1e+3",
    ] {
        assert_eq!(numeric(text), hundred, "{text}");
    }
    for text in ["-100", "1000", "10", "0", "NaN", "Infinity", "-Infinity"] {
        assert_ne!(numeric(text), hundred, "{text}");
    }
    assert_eq!(numeric("-0.00"), int(0));
    assert_eq!(decimal(0, 2), int(0));
    assert_eq!(wide_decimal(i256::ZERO, 30), int(0));
    assert_eq!(numeric("0e5"), int(0));
    assert_ne!(float(100.0), hundred);
}

#[test]
fn text_that_is_no_number_is_refused() {
    let bad = [
        "",
        "+",
        "-",
        ".",
        "e1",
        "1e",
        "1e1.5",
        "1 ",
        " 1",
        "1,5",
        "0x10",
        "1.2.3",
        "--1",
        "nan",
        "1e1000001",
        "1e99999999999999999999",
        "\u{661}",
    ];
    for text in bad {
        let error = of_text(&RecordType::Numeric, text, FieldLosses::NONE).unwrap_err();
        assert_eq!(error.code, "verification.bad_value", "{text}");
    }
}

#[test]
fn mantissas_around_two_to_the_64_have_one_form_each() {
    let limit = i128::from(u64::MAX);
    for value in [limit - 1, limit, limit + 1, limit * 10, (limit + 1) * 1_000] {
        for scale in [0, 1, 3, 18] {
            let text = format!("{value}e-{scale}");
            assert_eq!(decimal(value, scale), numeric(&text), "{text}");
            assert_eq!(
                wide_decimal(i256::from_i128(value), scale),
                numeric(&text),
                "{text}"
            );
            assert_eq!(
                wide_decimal(i256::from_i128(-value), scale),
                numeric(&format!("-{text}"))
            );
            assert_eq!(
                decimal(value, scale),
                numeric(&format!("000{value}000.000e-{}", scale + 3)),
                "{text}"
            );
        }
    }
    let widest = "9".repeat(76);
    assert_eq!(
        wide_decimal(i256::from_string(&widest).unwrap(), 0),
        numeric(&widest)
    );
    assert_eq!(
        wide_decimal(i256::from_string(&widest).unwrap(), 76),
        numeric(&format!("0.{widest}"))
    );
}

#[test]
fn floats_differ_by_their_last_bit_and_by_the_sign_of_zero() {
    assert_ne!(float(0.1), float(f64::from_bits(0.1f64.to_bits() + 1)));
    assert_ne!(float(0.0), float(-0.0));
    assert_eq!(float(f64::NAN), float(-f64::NAN));
    let short: ArrayRef = Arc::new(Float32Array::from(vec![0.1]));
    assert_eq!(
        plain(&RecordType::Float { bits: 32 }, short),
        float(f64::from(0.1_f32))
    );
    let lossy = FieldLosses {
        negative_zero: true,
        nan_to_null: true,
        ..FieldLosses::NONE
    };
    let negative: ArrayRef = Arc::new(Float64Array::from(vec![-0.0]));
    assert_eq!(encoded(&RecordType::FLOAT64, negative, lossy), float(0.0));
    let nan: ArrayRef = Arc::new(Float64Array::from(vec![f64::NAN]));
    assert_eq!(encoded(&RecordType::FLOAT64, nan, lossy), [TAG_NULL]);
}

#[test]
fn json_is_compared_by_value_without_rounding() {
    assert_eq!(
        json(r#"{"a":1,"b":[1.0, "x"]}"#),
        json(" { \"b\" : [1,\"\\u0078\"]\t,\r\n \"a\":1 } ")
    );
    assert_ne!(json("9007199254740993"), json("9007199254740992"));
    assert_ne!(json("[1,2]"), json("[2,1]"));
    assert_ne!(json(r#"{"a":null}"#), json("{}"));
    assert_ne!(json("[]"), json("{}"));
    assert_ne!(json("-0"), json("0"));
    assert_eq!(json("-0"), json("-0.0e1"));
    assert_ne!(json("\"1\""), json("1"));
    assert_eq!(json(r#"{"a":1,"b":2,"a":3}"#), json(r#"{"b":2,"a":3}"#));
    assert_eq!(
        json(r#"{"a":1,"a":2,"a":[{"b":1,"b":2}]}"#),
        json(r#"{"a":[{"b":2}]}"#)
    );
    assert_eq!(
        json(r#""\ud83d\ude00\/\b\f\n\r\t\"\\""#),
        json("\"😀/\\u0008\\u000c\\u000A\\u000d\\u0009\\u0022\\u005c\"")
    );
    // Halves of pairs are characters of their own, and not those that replace them.
    assert_ne!(json(r#""\ud83d""#), json("\"\u{fffd}\""));
    assert_ne!(json(r#""\ud83d""#), json(r#""\ude00""#));
    assert_ne!(json(r#""\ude00\ud83d""#), json(r#""\ud83d\ude00""#));
    assert_eq!(json(r#""\ud83dA""#), json(r#""\ud83d\u0041""#));
}

#[test]
fn json_of_any_depth_is_read() {
    let depth = 200_000;
    let nested = |inner: &str| format!("{}{inner}{}", "[".repeat(depth), "]".repeat(depth));
    assert_ne!(json(&nested("1")), json(&nested("2")));
    assert_eq!(json(&nested("1")).len(), 1 + 5 * depth + 14);
    let open = of_text(&RecordType::Json, &"[".repeat(depth), FieldLosses::NONE);
    assert_eq!(open.unwrap_err().code, "verification.bad_value");
}

#[test]
fn text_that_is_no_json_is_refused_and_does_no_harm_to_the_next() {
    let bad = [
        "",
        " ",
        "{",
        "[",
        "}",
        "]",
        "[1,]",
        "[,1]",
        "{\"a\"}",
        "{\"a\":}",
        "{\"a\":1,}",
        "{a:1}",
        "{1:1}",
        "[1}",
        "{\"a\":1]",
        "1 2",
        "[1] x",
        "01",
        "-",
        "+1",
        "1.",
        ".5",
        "1e",
        "1e+",
        "-01",
        "tru",
        "True",
        "nul",
        "NaN",
        "\"",
        "\"a",
        "\"\\x\"",
        "\"\\u12\"",
        "\"\\u12g4\"",
        "\"\n\"",
        "'a'",
        "\u{feff}1",
        "[1 2]",
        "{\"a\":1 \"b\":2}",
        "{\"a\" 1}",
        "\"\\ud800\\u12\"",
        "1e1000001",
    ];
    let mut texts = Vec::new();
    for text in bad {
        texts.push(text);
        texts.push(r#"{"b":[1,{"d":1,"c":2}],"a":2}"#);
    }
    let array: ArrayRef = Arc::new(StringArray::from(texts));
    let encoder = ColumnEncoder::new(&RecordType::Json, &array, FieldLosses::NONE);
    let mut work = Encoded::default();
    for row in (0..array.len()).step_by(2) {
        let error = encoder.encode(row, true, &mut work).unwrap_err();
        assert_eq!(error.code, "verification.bad_value", "{}", bad[row / 2]);
        work.clear();
        encoder.encode(row + 1, true, &mut work).unwrap();
        assert_eq!(work.octets(), json(r#"{"a":2,"b":[1,{"c":2,"d":1}]}"#));
        work.clear();
    }
}

#[test]
fn values_of_neighbouring_fields_do_not_run_together() {
    let text = |value: &str| of_text(&RecordType::Text, value, FieldLosses::NONE).unwrap();
    let joined = |a: &str, b: &str| [text(a), text(b)].concat();
    assert_ne!(joined("ab", "c"), joined("a", "bc"));
    assert_ne!(text(""), [TAG_NULL]);
}

#[test]
fn an_absent_field_is_not_null_unless_declared() {
    let array: ArrayRef = Arc::new(StringArray::from(vec![None::<&str>]));
    let absent = |losses| {
        let mut encoded = Encoded::default();
        ColumnEncoder::new(&RecordType::Text, &array, losses)
            .encode(0, false, &mut encoded)
            .unwrap();
        (encoded.take_touched(), encoded.octets)
    };
    assert_eq!(absent(FieldLosses::NONE), (Touched::default(), vec![TAG_ABSENT]));
    let lossy = FieldLosses {
        absent_to_null: true,
        ..FieldLosses::NONE
    };
    assert_eq!(absent(lossy), (Touched::ABSENT, vec![TAG_NULL]));
}

#[test]
fn a_loss_says_whether_it_has_changed_the_value() {
    let text = |text: &str| -> ArrayRef { Arc::new(StringArray::from(vec![text])) };
    let float = |value: f64| -> ArrayRef { Arc::new(Float64Array::from(vec![value])) };
    let instant = |micros: i64| -> ArrayRef { Arc::new(TimestampMicrosecondArray::from(vec![micros])) };
    let all = FieldLosses {
        time_unit_micros: 1_000,
        negative_zero: true,
        nan_to_null: true,
        infinity_to_null: true,
        float_from_decimal: true,
        absent_to_null: true,
        nul_removed: true,
        empty_to_null: true,
        json_null_to_null: true,
    };
    let none = Touched::default();
    let cases = [
        (RecordType::Text, text(""), Touched::EMPTY),
        (RecordType::Text, text("a"), none),
        (RecordType::Text, text("a\0"), Touched::NUL),
        (RecordType::Json, text(" null"), Touched::JSON_NULL),
        (RecordType::Json, text("[null]"), none),
        (RecordType::Json, text(r#"{"\u0000":1}"#), Touched::NUL),
        (RecordType::Json, text("[-0]"), Touched::NEGATIVE_ZERO),
        (RecordType::Json, text("[-1, 0]"), none),
        (RecordType::FLOAT64, float(-0.0), Touched::NEGATIVE_ZERO),
        (RecordType::FLOAT64, float(0.0), none),
        (RecordType::FLOAT64, float(f64::NAN), Touched::NAN),
        (RecordType::FLOAT64, float(f64::NEG_INFINITY), Touched::INFINITY),
        (RecordType::Numeric, text("NaN"), Touched::NAN),
        (RecordType::Numeric, text("-Infinity"), Touched::INFINITY),
        (RecordType::Numeric, text("0.10"), none),
        (RecordType::Numeric, text("9007199254740993"), Touched::FLOAT),
        (RecordType::Timestamp, instant(1_000), none),
        (RecordType::Timestamp, instant(-1), Touched::TIME),
        (RecordType::Timestamp, instant(i64::MAX), Touched::INFINITY),
    ];
    for (record_type, array, touched) in cases {
        let (_, found) = encode(&record_type, &array, all).unwrap();
        assert_eq!(found, touched, "{record_type} {array:?}");
        let (_, found) = encode(&record_type, &array, FieldLosses::NONE).unwrap();
        assert!(found.is_none());
    }
    let mut encoded = Encoded::default();
    let encoder = ColumnEncoder::new(&RecordType::Text, &text(""), all);
    encoder.encode(0, true, &mut encoded).unwrap();
    encoded.clear();
    assert!(encoded.take_touched().is_none());
    // Towards the past, also before 1970.
    let (cut, _) = encode(&RecordType::Timestamp, &instant(-1), all).unwrap();
    assert_eq!(cut, plain(&RecordType::Timestamp, instant(-1_000)));
}

#[test]
fn decimals_become_the_float_that_is_nearest() {
    let losses = FieldLosses {
        float_from_decimal: true,
        ..FieldLosses::NONE
    };
    for text in [
        "0.1",
        "-123.450",
        "9007199254740993",
        "1e30",
        "0.30000000000000004",
        "1e-400",
        "123456789012345678901234567890",
    ] {
        assert_eq!(
            of_text(&RecordType::Numeric, text, losses).unwrap(),
            float(text.parse().unwrap()),
            "{text}"
        );
    }
    for (text, value) in [
        ("NaN", f64::NAN),
        ("Infinity", f64::INFINITY),
        ("-Infinity", f64::NEG_INFINITY),
    ] {
        assert_eq!(of_text(&RecordType::Numeric, text, losses).unwrap(), float(value));
    }
    let array = Decimal128Array::from(vec![12_345])
        .with_precision_and_scale(10, 3)
        .unwrap();
    let decimal = RecordType::Decimal {
        precision: 10,
        scale: 3,
    };
    assert_eq!(encoded(&decimal, Arc::new(array), losses), float(12.345));
    let array = Decimal256Array::from(vec![i256::from_i128(-5)])
        .with_precision_and_scale(76, 1)
        .unwrap();
    let decimal = RecordType::Decimal {
        precision: 76,
        scale: 1,
    };
    assert_eq!(encoded(&decimal, Arc::new(array), losses), float(-0.5));
}

/// A JSON value whose equality is that of its form: numbers are integers in quotes, spelled in some way where they are written.
#[derive(Debug, Clone, PartialEq)]
enum Tree {
    Null,
    Bool(bool),
    Int(i64),
    Text(String),
    List(Vec<Tree>),
    Object(BTreeMap<String, Tree>),
}

fn trees() -> impl Strategy<Value = Tree> {
    let leaf = prop_oneof![
        Just(Tree::Null),
        any::<bool>().prop_map(Tree::Bool),
        (-3_i64..3).prop_map(Tree::Int),
        any::<i64>().prop_map(Tree::Int),
        "[ab\"\\\\\u{0}\u{e9}\u{1f600}\n]{0,3}".prop_map(Tree::Text),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Tree::List),
            proptest::collection::btree_map("[ab\u{e9}\"]{0,2}", inner, 0..4).prop_map(Tree::Object),
        ]
    })
}

/// Writes `tree` in one of the many ways that JSON allows, chosen by `random`.
fn spell(tree: &Tree, random: &mut fastrand::Rng, out: &mut String) {
    let space = |random: &mut fastrand::Rng, out: &mut String| {
        out.push_str(["", "", " ", "\n", "\t \r"][random.usize(..5)]);
    };
    space(random, out);
    match tree {
        Tree::Null => out.push_str("null"),
        Tree::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
        Tree::Int(value) => match random.usize(..4) {
            0 => out.push_str(&format!("{value}.000")),
            1 => out.push_str(&format!("{value}e+0")),
            2 if *value != 0 => out.push_str(&format!("{value}00.0E-02")),
            _ => out.push_str(&value.to_string()),
        },
        Tree::Text(text) => spell_text(text, random, out),
        Tree::List(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                out.push_str(if index > 0 { "," } else { "" });
                spell(item, random, out);
            }
            space(random, out);
            out.push(']');
        }
        Tree::Object(members) => {
            let mut members: Vec<_> = members.iter().collect();
            random.shuffle(&mut members);
            out.push('{');
            for (index, (name, member)) in members.into_iter().enumerate() {
                out.push_str(if index > 0 { "," } else { "" });
                if random.bool() {
                    // An earlier member of the same name counts for nothing.
                    spell_text(name, random, out);
                    out.push_str(":[{\"x\":1}],");
                }
                space(random, out);
                spell_text(name, random, out);
                space(random, out);
                out.push(':');
                spell(member, random, out);
            }
            space(random, out);
            out.push('}');
        }
    }
    space(random, out);
}

fn spell_text(text: &str, random: &mut fastrand::Rng, out: &mut String) {
    out.push('"');
    for character in text.chars() {
        if random.bool() || character < ' ' || character == '"' || character == '\\' {
            for unit in character.encode_utf16(&mut [0; 2]) {
                out.push_str(&format!("\\u{unit:04x}"));
            }
        } else {
            out.push(character);
        }
    }
    out.push('"');
}

fn spelled(tree: &Tree, seed: u64) -> String {
    let mut text = String::new();
    spell(tree, &mut fastrand::Rng::with_seed(seed), &mut text);
    text
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(1_000) })]

    #[test]
    fn a_number_has_one_form_in_every_type(value in any::<i64>(), zeros in 0_u32..12, scale in 0_i8..12) {
        let form = decimal(value.into(), scale);
        let longer = i128::from(value) * 10_i128.pow(zeros);
        let longer_scale = scale + zeros as i8;
        prop_assert_eq!(&decimal(longer, longer_scale), &form);
        prop_assert_eq!(&wide_decimal(i256::from_i128(longer), longer_scale), &form);
        prop_assert_eq!(&numeric(&format!("{value}e-{scale}")), &form);
        prop_assert_eq!(&numeric(&format!("{longer}e-{longer_scale}")), &form);
        prop_assert_eq!(&numeric(&Decimal128Array::from(vec![longer])
            .with_precision_and_scale(38, longer_scale).unwrap().value_as_string(0)), &form);
        if scale == 0 {
            prop_assert_eq!(&int(value), &form);
        }
        if value != 0 {
            // Behind the tag a number within JSON is the same.
            prop_assert_eq!(&json(&format!("{value}e-{scale}"))[2..], &form[1..]);
        }
        prop_assert_eq!(length(&form), form.len());
    }

    #[test]
    fn numbers_that_differ_have_forms_that_differ(a in any::<i128>(), b in any::<i128>(), small in -200_i128..200, near in -3_i128..3) {
        // Half of the range of an i128, so that both fit into 38 digits.
        let a = a >> 2;
        for (a, b) in [(a, b >> 2), (a, a + near), (small, small + near), (small * 10, small + near)] {
            prop_assert_eq!(a == b, wide_decimal(i256::from_i128(a), 3) == numeric(&format!("{b}e-3")));
            prop_assert_eq!(a == b, wide_decimal(i256::from_i128(a), 0) == wide_decimal(i256::from_i128(b), 0));
        }
    }

    #[test]
    fn json_has_one_form_however_it_is_spelled(tree in trees(), seed in any::<u64>()) {
        let form = json(&spelled(&tree, seed));
        prop_assert_eq!(&json(&spelled(&tree, seed ^ 1)), &form);
        prop_assert_eq!(length(&form), form.len());
    }

    #[test]
    fn json_that_differs_has_forms_that_differ(a in trees(), b in trees(), seed in any::<u64>()) {
        prop_assert_eq!(a == b, json(&spelled(&a, seed)) == json(&spelled(&b, seed)));
    }

    #[test]
    fn texts_that_are_json_are_those_that_serde_takes(text in "[\\[\\]{}\",:0-2eE.+\\-tn \\\\u]{0,8}") {
        let known = serde_json::from_str::<serde::de::IgnoredAny>(&text).is_ok();
        let ours = of_text(&RecordType::Json, &text, FieldLosses::NONE);
        prop_assert_eq!(ours.is_ok(), known, "{:?}", text);
    }

    #[test]
    fn floats_are_told_apart_by_their_bits(a in any::<u64>(), b in any::<u64>()) {
        let (a, b) = (f64::from_bits(a), f64::from_bits(b));
        prop_assert_eq!(float(a), float(a));
        prop_assert_eq!(float(a) == float(b), a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan()));
    }
}
