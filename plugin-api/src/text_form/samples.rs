//! Record types and arrays made at random for tests, leaning towards the edges of each type.
//!
//! Everything follows from a seed that proptest draws, prints and shrinks together with the type and the
//! number of rows. Users: the round trips of this module and of [`crate::json_form`].

use std::sync::Arc;

use arrow_array::types::{
    Date32Type, Decimal128Type, Decimal256Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type,
    Int64Type, Time64MicrosecondType, TimestampMicrosecondType,
};
use arrow_array::{
    ArrayRef, ArrowPrimitiveType, BinaryArray, BooleanArray, FixedSizeBinaryArray, ListArray, PrimitiveArray,
    StringArray, StructArray,
};
use arrow_buffer::{BooleanBuffer, NullBuffer, OffsetBuffer, ScalarBuffer, i256};
use arrow_schema::DataType;
use proptest::prelude::{Just, Strategy, any, prop, prop_oneof};

use crate::record_type::{Field, RecordType};

/// SplitMix64 (Steele, Lea, Flood 2014): small, and good enough to hit every branch.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    pub(crate) fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }

    pub(crate) fn one_in(&mut self, count: usize) -> bool {
        self.below(count) == 0
    }

    pub(crate) fn pick<T: Clone>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())].clone()
    }

    /// A number whose length in bits is as random as its bits.
    fn int(&mut self) -> i64 {
        let edges = [
            0,
            1,
            -1,
            i64::MAX,
            i64::MIN,
            i64::MAX - 1,
            i64::MIN + 1,
            (1 << 53) + 1,
            -(1 << 53) - 1,
        ];
        if self.one_in(4) {
            return self.pick(&edges);
        }
        let shift = self.below(64);
        (self.next() as i64) >> shift
    }

    pub(crate) fn text(&mut self) -> String {
        let pieces = [
            "\0",
            "\"",
            "\\",
            "/",
            "\n",
            "\r\n",
            "\t",
            "\u{7f}",
            "\u{85}",
            "\u{2028}",
            "é",
            "東京",
            "😀",
            "\u{10ffff}",
            "\u{e000}",
            "\u{fffd}",
            "\u{feff}",
            "null",
            "{",
            "NaN",
            " ",
        ];
        let mut text = String::new();
        for _ in 0..self.below(6) {
            match self.below(3) {
                0 => text.push_str(self.pick(&pieces)),
                1 => text.push(char::from(self.below(128) as u8)),
                _ => text.extend(char::from_u32(self.below(0x11_0000) as u32)),
            }
        }
        text
    }

    /// JSON as it comes back from a line: no space around it, no line breaks.
    fn json(&mut self, may_be_null: bool) -> String {
        let texts = [
            r#"{"a":[1, 2.50,null],"a":1}"#,
            "{}",
            "[]",
            "[[[[]]]]",
            "true",
            "false",
            "0",
            "-0",
            "-0.0",
            "1e400",
            "1E-7",
            "123456789012345678901234567890.10",
            r#""""#,
            r#""null""#,
            r#""\u0000\ud83d\ude00 \/""#,
            "\"😀\u{2028}\"",
            r#"{"":{"":null}}"#,
            "[null]",
            "{ \"a\" :\t1 }",
        ];
        if may_be_null && self.one_in(5) {
            return "null".to_owned();
        }
        if self.one_in(3) {
            return serde_json::to_string(&self.text()).unwrap();
        }
        self.pick(&texts).to_owned()
    }

    fn decimal(&mut self, precision: u8) -> String {
        let digits: String = match self.below(4) {
            0 => "9".repeat(precision.into()),
            1 => "0".to_owned(),
            _ => (0..=self.below(precision.into()))
                .map(|_| char::from(b'0' + self.below(10) as u8))
                .collect(),
        };
        let sign = if self.one_in(2) { "-" } else { "" };
        format!("{sign}{digits}")
    }
}

/// Every scalar type, with random parameters where it has any.
pub(crate) fn scalar_types() -> impl Strategy<Value = RecordType> {
    let decimal = (1_u8..=76)
        .prop_flat_map(|precision| (Just(precision), 0..=precision as i8))
        .prop_map(|(precision, scale)| RecordType::Decimal { precision, scale });
    prop_oneof![
        4 => prop::sample::select(vec![8, 16, 32, 64]).prop_map(|bits| RecordType::Int { bits }),
        2 => prop::sample::select(vec![32, 64]).prop_map(|bits| RecordType::Float { bits }),
        4 => decimal,
        15 => prop::sample::select(vec![
            RecordType::Bool,
            RecordType::Numeric,
            RecordType::Text,
            RecordType::Bytes,
            RecordType::Date,
            RecordType::Time,
            RecordType::TimeTz,
            RecordType::TimestampTz,
            RecordType::Timestamp,
            RecordType::Interval,
            RecordType::Uuid,
            RecordType::Json,
            RecordType::Reference,
            RecordType::Opaque { name: "inet".to_owned() },
            RecordType::Variant,
        ]),
    ]
}

/// Every type, nested up to three levels.
pub(crate) fn record_types() -> impl Strategy<Value = RecordType> {
    let leaf =
        prop_oneof![5 => scalar_types(), 1 => Just(RecordType::Geopoint), 1 => Just(RecordType::Vector)];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            inner.clone().prop_map(RecordType::list),
            fields(inner, 0..4).prop_map(|fields| RecordType::Struct { fields }),
        ]
    })
}

/// Fields with names that need escaping now and then.
pub(crate) fn fields(
    types: impl Strategy<Value = RecordType>,
    count: std::ops::Range<usize>,
) -> impl Strategy<Value = Vec<Field>> {
    prop::collection::vec((types, any::<bool>()), count).prop_map(|types| {
        let names = [
            "",
            "a",
            "\"quoted\\\"",
            "ключ",
            "line\nbreak",
            "a.b",
            "\0",
            "😀",
            "i",
        ];
        let named = types.into_iter().zip(names);
        named
            .map(|((record_type, nullable), name)| Field {
                name: name.to_owned(),
                record_type,
                nullable,
            })
            .collect()
    })
}

/// An array of `record_type`; below a null stands anything.
pub(crate) fn array(record_type: &RecordType, nullable: bool, rows: usize, random: &mut Random) -> ArrayRef {
    let nulls = nullable.then(|| {
        let density = 2 + random.below(4);
        NullBuffer::new(BooleanBuffer::collect_bool(rows, |_| !random.one_in(density)))
    });
    let ints = |random: &mut Random| (0..rows).map(|_| random.int()).collect::<Vec<_>>();
    match record_type {
        RecordType::Bool => Arc::new(BooleanArray::new(
            BooleanBuffer::collect_bool(rows, |_| random.one_in(2)),
            nulls,
        )),
        RecordType::Int { bits: 8 } => primitive::<Int8Type>(ints(random), |int| int as i8, nulls),
        RecordType::Int { bits: 16 } => primitive::<Int16Type>(ints(random), |int| int as i16, nulls),
        RecordType::Int { bits: 32 } => primitive::<Int32Type>(ints(random), |int| int as i32, nulls),
        RecordType::Int { .. } => primitive::<Int64Type>(ints(random), |int| int, nulls),
        RecordType::Float { bits: 32 } => primitive::<Float32Type>(ints(random), float32, nulls),
        RecordType::Float { .. } => primitive::<Float64Type>(ints(random), float64, nulls),
        RecordType::Decimal { precision, scale } => decimals(*precision, *scale, rows, nulls, random),
        RecordType::Bytes => {
            let octets: Vec<Vec<u8>> = (0..rows).map(|_| random.text().into_bytes()).collect();
            let octets = BinaryArray::from_iter_values(octets);
            let (offsets, data, _) = octets.into_parts();
            Arc::new(BinaryArray::new(offsets, data, nulls))
        }
        RecordType::Date => primitive::<Date32Type>(ints(random), |int| int as i32, nulls),
        RecordType::Time => {
            primitive::<Time64MicrosecondType>(ints(random), |int| int.rem_euclid(86_400_000_001), nulls)
        }
        RecordType::Timestamp | RecordType::TimestampTz => {
            let values = PrimitiveArray::<TimestampMicrosecondType>::new(ints(random).into(), nulls);
            let zone = (*record_type == RecordType::TimestampTz).then_some("UTC");
            Arc::new(values.with_timezone_opt(zone))
        }
        RecordType::Interval => {
            let parts = [
                RecordType::Int { bits: 32 },
                RecordType::Int { bits: 32 },
                RecordType::INT64,
            ];
            let parts = parts
                .iter()
                .map(|part| array(part, false, rows, random))
                .collect();
            structure(record_type, parts, rows, nulls)
        }
        RecordType::Uuid => {
            let octets: Vec<u8> = (0..rows * 16).map(|_| random.next() as u8).collect();
            Arc::new(FixedSizeBinaryArray::new(16, octets.into(), nulls))
        }
        RecordType::List { item } => lists(record_type, item, true, rows, nulls, random),
        RecordType::Vector => lists(record_type, &RecordType::FLOAT64, false, rows, nulls, random),
        RecordType::Struct { fields } => {
            let members = fields
                .iter()
                .map(|field| array(&field.record_type, field.nullable, rows, random));
            let members = members.collect();
            structure(record_type, members, rows, nulls)
        }
        RecordType::Geopoint => {
            let members = (0..2)
                .map(|_| array(&RecordType::FLOAT64, false, rows, random))
                .collect();
            structure(record_type, members, rows, nulls)
        }
        _ => {
            let texts: Vec<String> = (0..rows).map(|_| text(record_type, nullable, random)).collect();
            let (offsets, data, _) = StringArray::from_iter_values(texts).into_parts();
            Arc::new(StringArray::new(offsets, data, nulls))
        }
    }
}

fn text(record_type: &RecordType, nullable: bool, random: &mut Random) -> String {
    match record_type {
        RecordType::Numeric => {
            let digits = random.decimal(76);
            random
                .pick(&["NaN", "Infinity", "-Infinity", "1.50", "1e-400", "+0.0", &digits])
                .to_owned()
        }
        RecordType::TimeTz => random
            .pick(&["00:00:00+00:00", "24:00:00-15:59:59", "12:34:56.000001+05:30"])
            .to_owned(),
        RecordType::Json | RecordType::Variant => random.json(!nullable),
        _ => random.text(),
    }
}

fn float32(int: i64) -> f32 {
    let value = f32::from_bits(int as u32);
    if value.is_nan() { f32::NAN } else { value }
}

fn float64(int: i64) -> f64 {
    let value = f64::from_bits(int as u64);
    if value.is_nan() { f64::NAN } else { value }
}

fn primitive<T: ArrowPrimitiveType>(
    ints: Vec<i64>,
    convert: impl Fn(i64) -> T::Native,
    nulls: Option<NullBuffer>,
) -> ArrayRef {
    let values: Vec<T::Native> = ints.into_iter().map(convert).collect();
    Arc::new(PrimitiveArray::<T>::new(ScalarBuffer::from(values), nulls))
}

fn decimals(
    precision: u8,
    scale: i8,
    rows: usize,
    nulls: Option<NullBuffer>,
    random: &mut Random,
) -> ArrayRef {
    let texts = (0..rows).map(|_| random.decimal(precision));
    if precision <= 38 {
        let values: Vec<i128> = texts.map(|text| text.parse().unwrap()).collect();
        let values = PrimitiveArray::<Decimal128Type>::new(values.into(), nulls);
        return Arc::new(values.with_precision_and_scale(precision, scale).unwrap());
    }
    let values: Vec<i256> = texts.map(|text| text.parse().unwrap()).collect();
    let values = PrimitiveArray::<Decimal256Type>::new(values.into(), nulls);
    Arc::new(values.with_precision_and_scale(precision, scale).unwrap())
}

fn lists(
    record_type: &RecordType,
    item: &RecordType,
    nullable: bool,
    rows: usize,
    nulls: Option<NullBuffer>,
    random: &mut Random,
) -> ArrayRef {
    let DataType::List(field) = record_type.to_arrow() else {
        panic!("`{record_type}` is no list");
    };
    let offsets = OffsetBuffer::<i32>::from_lengths((0..rows).map(|_| random.below(4)).collect::<Vec<_>>());
    let items = array(item, nullable, offsets[rows] as usize, random);
    Arc::new(ListArray::new(field, offsets, items, nulls))
}

fn structure(
    record_type: &RecordType,
    members: Vec<ArrayRef>,
    rows: usize,
    nulls: Option<NullBuffer>,
) -> ArrayRef {
    let DataType::Struct(fields) = record_type.to_arrow() else {
        panic!("`{record_type}` is no struct");
    };
    if members.is_empty() {
        return Arc::new(StructArray::new_empty_fields(rows, nulls));
    }
    Arc::new(StructArray::new(fields, members, nulls))
}
