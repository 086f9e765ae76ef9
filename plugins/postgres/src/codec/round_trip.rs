//! Whatever goes out comes back, whatever comes in is taken or refused, and a row at fault leaves no trace.
//!
//! Values are made from a seed, which a failure prints.

use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};
use proptest::sample::select;
use whimbrel_plugin_api::acceptance::Value;
use whimbrel_plugin_api::acceptance::records::{array, values};
use whimbrel_plugin_api::arrow_array::{Array as _, ArrayRef};
use whimbrel_plugin_api::arrow_buffer::i256;
use whimbrel_plugin_api::record_type::{Field, RecordType};

use super::{HEADER, RowDecoder, RowEncoder, TRAILER, Wire, WireColumn};

/// Splitmix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    /// From `least` to `most`, often at an end.
    fn within(&mut self, least: i64, most: i64) -> i64 {
        match self.below(8) {
            0 => least,
            1 => most,
            2 => 0_i64.clamp(least, most),
            _ => {
                let span = most.wrapping_sub(least).cast_unsigned();
                let step = if span == u64::MAX {
                    self.next()
                } else {
                    self.below(span + 1)
                };
                least.wrapping_add_unsigned(step)
            }
        }
    }
}

fn wire_array(element: Wire) -> Wire {
    Wire::Array {
        element_oid: 25,
        element: Box::new(element),
    }
}

fn structure() -> RecordType {
    RecordType::Struct {
        fields: vec![
            Field::new("name \"x\"", RecordType::Text),
            Field::new("count", RecordType::INT64),
            Field::new("json", RecordType::Json),
            Field::new("mixed", RecordType::list(RecordType::Variant)),
            Field::new("at", RecordType::TimestampTz),
            Field::new("octets", RecordType::Bytes),
            Field::new("ratio", RecordType::FLOAT64),
        ],
    }
}

/// Every way that there is.
fn ways() -> Vec<(RecordType, Wire)> {
    let int = |bits| RecordType::Int { bits };
    let decimal = |precision, scale| RecordType::Decimal { precision, scale };
    let opaque = || RecordType::Opaque { name: "inet".into() };
    let mut ways = vec![
        (RecordType::Bool, Wire::Bool),
        (RecordType::Float { bits: 32 }, Wire::Float4),
        (RecordType::Float { bits: 32 }, Wire::Float8),
        (RecordType::FLOAT64, Wire::Float8),
        (RecordType::Numeric, Wire::Numeric),
        (RecordType::Bytes, Wire::Bytea),
        (RecordType::Date, Wire::Date),
        (RecordType::Time, Wire::Time),
        (RecordType::TimeTz, Wire::TimeTz),
        (RecordType::TimeTz, Wire::Text),
        (RecordType::TimestampTz, Wire::TimestampTz),
        (RecordType::Timestamp, Wire::Timestamp),
        (RecordType::Interval, Wire::Interval),
        (RecordType::Uuid, Wire::Uuid),
        (RecordType::Uuid, Wire::Text),
        (RecordType::Geopoint, Wire::Point),
        (RecordType::Vector, wire_array(Wire::Float8)),
        (RecordType::list(RecordType::Text), wire_array(Wire::Text)),
        (RecordType::list(RecordType::Json), wire_array(Wire::Jsonb)),
        (RecordType::list(RecordType::Numeric), wire_array(Wire::Numeric)),
        (RecordType::list(RecordType::Interval), wire_array(Wire::Interval)),
        (RecordType::list(RecordType::Uuid), wire_array(Wire::Uuid)),
        (RecordType::list(RecordType::Bool), wire_array(Wire::Bool)),
    ];
    for texts in [
        RecordType::Text,
        RecordType::Json,
        RecordType::Variant,
        RecordType::Reference,
        opaque(),
    ] {
        ways.push((texts, Wire::Text));
    }
    ways.extend([RecordType::Json, RecordType::Variant].map(|json| (json, Wire::Jsonb)));
    for (bits, wires) in [
        (8, vec![Wire::Int2, Wire::Int4, Wire::Int8, Wire::Numeric]),
        (16, vec![Wire::Int2, Wire::Int4, Wire::Int8, Wire::Numeric]),
        (32, vec![Wire::Int4, Wire::Int8, Wire::Numeric]),
        (64, vec![Wire::Int8, Wire::Numeric]),
    ] {
        ways.extend(wires.into_iter().map(|wire| (int(bits), wire)));
    }
    for (precision, scale) in [
        (1, 0),
        (1, 1),
        (5, 3),
        (12, 2),
        (16, 6),
        (20, 0),
        (38, 0),
        (38, 10),
        (38, 37),
        (38, 38),
        (39, 1),
        (60, 7),
        (76, 0),
        (76, 38),
        (76, 75),
        (76, 76),
    ] {
        ways.push((decimal(precision, scale), Wire::Numeric));
    }
    for nested in [
        structure(),
        RecordType::list(structure()),
        RecordType::list(RecordType::list(RecordType::Uuid)),
        RecordType::Vector,
        RecordType::Geopoint,
    ] {
        ways.push((nested.clone(), Wire::Text));
        ways.push((nested, Wire::Jsonb));
    }
    ways
}

fn text(random: &mut Random) -> String {
    const PARTS: [&str; 9] = ["a", "ü", "🦆", "\"", "\\", "\n", "\u{1}", "\u{feff}", " \\u0000 "];
    (0..random.below(6))
        .map(|_| PARTS[random.below(PARTS.len() as u64) as usize])
        .collect()
}

fn json(random: &mut Random) -> String {
    const VALUES: [&str; 7] = [
        "null",
        " {\"b\" : [1, 2.50],\"a\":\"\\u00e4\\\\u0000\"} ",
        "[]",
        "12345678901234567890",
        "\"\\ud83e\\udd86\"",
        "true",
        "-0.0",
    ];
    VALUES[random.below(VALUES.len() as u64) as usize].to_owned()
}

fn digits(random: &mut Random, most: u64) -> String {
    let count = random.below(most + 1);
    (0..count)
        .map(|_| char::from(b'0' + (random.below(14) % 10) as u8))
        .collect()
}

/// As the server writes it: without zeros in front, with all that are shown behind the point.
fn numeric(random: &mut Random) -> String {
    if random.below(6) == 0 {
        let special = ["NaN", "Infinity", "-Infinity"][random.below(3) as usize];
        return special.to_owned();
    }
    let whole = digits(random, 30);
    let whole = whole.trim_start_matches('0');
    let whole = if whole.is_empty() { "0" } else { whole };
    let fraction = digits(random, 30);
    let number = match fraction.is_empty() {
        true => whole.to_owned(),
        false => format!("{whole}.{fraction}"),
    };
    let is_zero = number.bytes().all(|octet| matches!(octet, b'0' | b'.'));
    if !is_zero && random.below(2) == 0 {
        format!("-{number}")
    } else {
        number
    }
}

fn float(random: &mut Random) -> f64 {
    match random.below(8) {
        0 => -0.0,
        1 => f64::NAN,
        2 => f64::INFINITY,
        3 => f64::NEG_INFINITY,
        4 => 0.1,
        5 => f64::from_bits(1),
        _ => f64::from_bits(random.next()),
    }
}

fn decimal(random: &mut Random, precision: u8) -> i256 {
    let count = random.below(u64::from(precision) + 1);
    let number = (0..count).fold(i256::ZERO, |number, _| {
        number
            .wrapping_mul(i256::from(10))
            .wrapping_add(i256::from((random.below(14) % 10) as i64))
    });
    if random.below(2) == 0 {
        number.wrapping_neg()
    } else {
        number
    }
}

fn ends(random: &mut Random, least: i64, most: i64, infinities: [i64; 2]) -> Value {
    Value::Int(match random.below(8) {
        0 => infinities[0],
        1 => infinities[1],
        _ => random.within(least, most),
    })
}

/// A value that both sides can hold.
fn value(record_type: &RecordType, random: &mut Random) -> Value {
    match record_type {
        RecordType::Bool => Value::Bool(random.below(2) == 0),
        RecordType::Int { bits } => {
            let most = i64::MAX >> (64 - bits);
            Value::Int(random.within(-most - 1, most))
        }
        RecordType::Float { bits: 32 } => Value::float(f64::from(float(random) as f32)),
        RecordType::Float { .. } => Value::float(float(random)),
        RecordType::Decimal { precision, .. } => Value::Decimal(decimal(random, *precision)),
        RecordType::Numeric => Value::Text(numeric(random)),
        RecordType::Json | RecordType::Variant => Value::Text(json(random)),
        RecordType::Text | RecordType::Reference | RecordType::Opaque { .. } => Value::Text(text(random)),
        RecordType::Bytes => Value::Bytes((0..random.below(9)).map(|_| random.next() as u8).collect()),
        RecordType::Date => {
            let infinities = [i32::MIN.into(), i32::MAX.into()];
            ends(random, -2_440_588, 2_145_042_905, infinities)
        }
        RecordType::Time => Value::Int(random.within(0, 86_400_000_000)),
        RecordType::TimeTz => {
            let texts = ["00:00:00+00:00", "24:00:00-15:59:59", "12:34:56.000001+05:30"];
            Value::text(texts[random.below(3) as usize])
        }
        RecordType::TimestampTz | RecordType::Timestamp => {
            let (least, most) = (-210_866_803_200_000_000, i64::MAX - 1);
            ends(random, least, most, [i64::MIN, i64::MAX])
        }
        RecordType::Interval => {
            let part = i64::from(i32::MAX);
            Value::Struct(vec![
                Value::Int(random.within(-part - 1, part)),
                Value::Int(random.within(-part - 1, part)),
                Value::Int(random.within(i64::MIN, i64::MAX)),
            ])
        }
        RecordType::Uuid => Value::Bytes((0..16).map(|_| random.next() as u8).collect()),
        RecordType::List { item } => {
            Value::List((0..random.below(4)).map(|_| nullable(item, random)).collect())
        }
        RecordType::Vector => Value::List(
            (0..random.below(4))
                .map(|_| Value::float(float(random)))
                .collect(),
        ),
        RecordType::Geopoint => Value::Struct(vec![Value::float(float(random)), Value::float(float(random))]),
        RecordType::Struct { fields } => {
            let members = fields.iter().map(|field| nullable(&field.record_type, random));
            Value::Struct(members.collect())
        }
    }
}

fn nullable(record_type: &RecordType, random: &mut Random) -> Value {
    if random.below(5) == 0 {
        Value::Null
    } else {
        value(record_type, random)
    }
}

fn column(record_type: &RecordType, wire: &Wire) -> WireColumn {
    WireColumn {
        name: "value".to_owned(),
        record_type: record_type.clone(),
        wire: wire.clone(),
        removes_nul: false,
    }
}

fn encoded(columns: &[WireColumn], arrays: &[ArrayRef]) -> Vec<Vec<u8>> {
    let encoder = RowEncoder::new(columns, arrays).unwrap();
    let row = |row| {
        let mut out = Vec::new();
        encoder.write(row, &mut out).unwrap();
        out
    };
    (0..arrays[0].len()).map(row).collect()
}

proptest! {
    #[test]
    fn every_value_comes_back_over_every_wire(way in select(ways()), rows in 0_usize..12, seed in any::<u64>()) {
        let (record_type, wire) = way;
        let mut random = Random(seed);
        let made: Vec<Value> = (0..rows + 3).map(|_| nullable(&record_type, &mut random)).collect();
        // A slice, so that offsets into arrays are taken into account.
        let source = array(&record_type, &made).unwrap().slice(1, rows);
        let columns = [column(&record_type, &wire)];
        let mut decoder = RowDecoder::new(&columns).unwrap();
        for row in encoded(&columns, std::slice::from_ref(&source)) {
            prop_assert_eq!(decoder.push(&row).unwrap(), Ok(()));
        }
        prop_assert_eq!(decoder.row_count(), rows);
        let back = decoder.finish().unwrap();
        prop_assert_eq!(back[0].data_type(), source.data_type());
        prop_assert_eq!(values(&record_type, &back[0]), values(&record_type, &source));
        prop_assert_eq!(decoder.row_count(), 0);
    }

    #[test]
    fn hostile_octets_are_taken_or_refused(
        way in select(ways()),
        mut octets in proptest::collection::vec(any::<u8>(), 0..80),
        has_frame in any::<bool>(),
    ) {
        let columns = [column(&way.0, &way.1)];
        if has_frame && octets.len() >= 6 {
            let length = (octets.len() - 6) as i32;
            octets[..2].copy_from_slice(&1_i16.to_be_bytes());
            octets[2..6].copy_from_slice(&length.to_be_bytes());
        }
        let mut decoder = RowDecoder::new(&columns).unwrap();
        let is_taken = matches!(decoder.push(&octets), Ok(Ok(())));
        prop_assert_eq!(decoder.row_count(), usize::from(is_taken));
        let arrays = decoder.finish().unwrap();
        prop_assert_eq!(arrays[0].len(), usize::from(is_taken));
    }

    #[test]
    fn a_row_cut_short_or_changed_in_one_octet_leaves_no_trace_or_is_a_row(
        way in select(ways()),
        seed in any::<u64>(),
        at in any::<usize>(),
        change in 1_u8..,
    ) {
        let mut random = Random(seed);
        let (record_type, wire) = way;
        let columns = [column(&RecordType::INT64, &Wire::Int8), column(&record_type, &wire)];
        let source = array(&record_type, &[value(&record_type, &mut random)]).unwrap();
        let first = array(&RecordType::INT64, &[Value::Int(1)]).unwrap();
        let row = encoded(&columns, &[first, source]).remove(0);
        let at = at % row.len();
        let mut decoder = RowDecoder::new(&columns).unwrap();
        prop_assert!(decoder.push(&row[..at]).is_err());
        let mut changed = row.clone();
        changed[at] ^= change;
        let is_taken = matches!(decoder.push(&changed), Ok(Ok(())));
        changed.push(0);
        prop_assert!(!matches!(decoder.push(&changed), Ok(Ok(()))));
        prop_assert_eq!(decoder.push(&row).unwrap(), Ok(()));
        let arrays = decoder.finish().unwrap();
        prop_assert_eq!(arrays[0].len(), 1 + usize::from(is_taken));
        prop_assert_eq!(arrays[1].len(), 1 + usize::from(is_taken));
        let last = arrays[1].slice(arrays[1].len() - 1, 1);
        let mut again = RowDecoder::new(&columns).unwrap();
        prop_assert_eq!(again.push(&row).unwrap(), Ok(()));
        prop_assert_eq!(values(&record_type, &last), values(&record_type, &again.finish().unwrap()[1]));
    }
}

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

/// Pushes one value in a row of its own; the code of the fault.
fn refusal(record_type: &RecordType, wire: &Wire, octets: &[u8]) -> Result<Value, &'static str> {
    let mut row = vec![0, 1];
    row.extend((octets.len() as i32).to_be_bytes());
    row.extend(octets);
    let mut decoder = RowDecoder::new(&[column(record_type, wire)]).unwrap();
    match decoder.push(&row) {
        Ok(Ok(())) => Ok(values(record_type, &decoder.finish().unwrap()[0]).remove(0)),
        Ok(Err(fault)) => Err(fault.code),
        Err(_) => Err("malformed"),
    }
}

#[test]
fn what_the_column_cannot_hold_is_a_fault() {
    let decimal = RecordType::Decimal {
        precision: 5,
        scale: 2,
    };
    let numeric = |sign: u16, weight: i16, shown: u16, groups: &[u16]| {
        let mut octets = Vec::new();
        for part in [groups.len() as u16, weight.cast_unsigned(), sign, shown] {
            octets.extend(part.to_be_bytes());
        }
        octets.extend(groups.iter().flat_map(|group| group.to_be_bytes()));
        octets
    };
    let list = RecordType::list(RecordType::INT64);
    let ints = wire_array(Wire::Int8);
    let array = |numbers: &[i32], rest: &[u8]| {
        let mut octets: Vec<u8> = numbers.iter().flat_map(|number| number.to_be_bytes()).collect();
        octets.extend(rest);
        octets
    };
    for (record_type, wire, octets, code) in [
        (
            &decimal,
            &Wire::Numeric,
            numeric(0xc000, 0, 0, &[]),
            "postgres.decimal_nan",
        ),
        (
            &decimal,
            &Wire::Numeric,
            numeric(0xd000, 0, 0, &[]),
            "postgres.decimal_nan",
        ),
        (
            &decimal,
            &Wire::Numeric,
            numeric(0, 0, 2, &[1_000]),
            "postgres.out_of_range",
        ),
        (
            &decimal,
            &Wire::Numeric,
            numeric(0, -1, 3, &[1_230]),
            "postgres.out_of_range",
        ),
        (
            &decimal,
            &Wire::Numeric,
            numeric(0, 0, 8, &[1, 0, 1]),
            "postgres.out_of_range",
        ),
        (
            &decimal,
            &Wire::Numeric,
            numeric(0, 32_767, 0, &[1]),
            "postgres.out_of_range",
        ),
        (&decimal, &Wire::Numeric, numeric(0, 0, 0, &[10_000]), "malformed"),
        (
            &RecordType::Numeric,
            &Wire::Numeric,
            numeric(0, 0, 3, &[1, 1]),
            "malformed",
        ),
        (
            &RecordType::Numeric,
            &Wire::Numeric,
            numeric(0, 0, 0x4000, &[1]),
            "malformed",
        ),
        (
            &RecordType::INT64,
            &Wire::Numeric,
            numeric(0, 0, 1, &[1, 5_000]),
            "postgres.out_of_range",
        ),
        (
            &RecordType::Int { bits: 8 },
            &Wire::Int2,
            128_i16.to_be_bytes().to_vec(),
            "postgres.out_of_range",
        ),
        (
            &RecordType::Float { bits: 32 },
            &Wire::Float8,
            0.1_f64.to_be_bytes().to_vec(),
            "postgres.out_of_range",
        ),
        (&RecordType::Text, &Wire::Text, vec![0xff], "postgres.not_utf8"),
        (&RecordType::Json, &Wire::Jsonb, b"\x02{}".to_vec(), "malformed"),
        (
            &RecordType::Uuid,
            &Wire::Text,
            b"1".to_vec(),
            "postgres.bad_value",
        ),
        (
            &RecordType::Geopoint,
            &Wire::Jsonb,
            b"\x01{}".to_vec(),
            "postgres.bad_value",
        ),
        (&RecordType::Bool, &Wire::Bool, vec![2], "malformed"),
        (&RecordType::Date, &Wire::Date, vec![0; 3], "malformed"),
        (
            &RecordType::Timestamp,
            &Wire::Timestamp,
            (i64::MAX - 1).to_be_bytes().to_vec(),
            "postgres.out_of_range",
        ),
        (
            &list,
            &ints,
            array(&[2, 0, 20, 1, 1, 1, 1], &[]),
            "postgres.array_shape",
        ),
        (
            &list,
            &ints,
            array(&[1, 0, 20, 1, 0, 8], &[0; 8]),
            "postgres.array_shape",
        ),
        (&list, &ints, array(&[1, 0, 20, i32::MAX, 1], &[]), "malformed"),
        (&list, &ints, array(&[1, 0, 20, -1, 1], &[]), "malformed"),
        (&list, &ints, array(&[-1, 0, 20], &[]), "malformed"),
        (
            &RecordType::Vector,
            &wire_array(Wire::Float8),
            array(&[1, 1, 701, 1, 1, -1], &[]),
            "postgres.null_item",
        ),
    ] {
        assert_eq!(
            refusal(record_type, wire, &octets),
            Err(code),
            "{record_type}: {octets:?}"
        );
    }
    assert_eq!(
        refusal(&decimal, &Wire::Numeric, &numeric(0x4000, -1, 3, &[1_200])),
        Ok(Value::Decimal(i256::from(-12)))
    );
    assert_eq!(
        refusal(&list, &ints, &array(&[0, 0, 20], &[])),
        Ok(Value::List(Vec::new()))
    );
}

#[test]
fn a_fault_in_a_late_column_takes_back_the_early_ones() {
    let columns = [
        column(&structure(), &Wire::Jsonb),
        column(&RecordType::list(RecordType::Text), &wire_array(Wire::Text)),
        column(&RecordType::Numeric, &Wire::Numeric),
        column(&RecordType::Text, &Wire::Text),
    ];
    let mut random = Random(7);
    let good: Vec<ArrayRef> = columns
        .iter()
        .map(|column| array(&column.record_type, &[value(&column.record_type, &mut random)]).unwrap())
        .collect();
    let row = encoded(&columns, &good).remove(0);
    let mut decoder = RowDecoder::new(&columns).unwrap();
    assert_eq!(decoder.push(&row).unwrap(), Ok(()));
    assert!(decoder.push(&row[..row.len() - 1]).is_err());
    let text = columns.len() - 1;
    let mut not_utf8 = encoded(&columns[..text], &good[..text]).remove(0);
    not_utf8[..2].copy_from_slice(&4_i16.to_be_bytes());
    not_utf8.extend([0, 0, 0, 1, 0xff]);
    let fault = decoder.push(&not_utf8).unwrap().unwrap_err();
    assert_eq!((fault.column, fault.code), (3, "postgres.not_utf8"));
    assert!(fault.help().is_some());
    assert_eq!(decoder.push(&row).unwrap(), Ok(()));
    assert!(decoder.size_bytes() >= 2 * row.len());
    let arrays = decoder.finish().unwrap();
    for ((column, array), good) in columns.iter().zip(&arrays).zip(&good) {
        let good = values(&column.record_type, good).remove(0);
        assert_eq!(values(&column.record_type, array), [good.clone(), good]);
    }
}

#[test]
fn columns_and_arrays_that_do_not_match_are_refused() {
    let two = [
        column(&RecordType::INT64, &Wire::Int8),
        column(&RecordType::Text, &Wire::Text),
    ];
    let ints = array(&RecordType::INT64, &[Value::Int(1)]).unwrap();
    let none = array(&RecordType::Text, &[]).unwrap();
    assert!(RowEncoder::new(&two, std::slice::from_ref(&ints)).is_err());
    assert!(RowEncoder::new(&two, &[ints.clone(), none]).is_err());
    assert!(RowEncoder::new(&two, &[ints.clone(), ints.clone()]).is_err());
    let no_way = [column(&RecordType::INT64, &Wire::Text)];
    assert!(RowEncoder::new(&no_way, &[ints]).is_err());
    assert!(RowDecoder::new(&no_way).is_err());
    assert_eq!(HEADER.len(), 19);
    assert_eq!(TRAILER.len(), 2);
}
