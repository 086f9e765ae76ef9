//! Values of every type, made from a seed.
//! Neighbour: `round_trip`, which has the columns and the way there and back.

use whimbrel_plugin_api::acceptance::Value;
use whimbrel_plugin_api::arrow_buffer::i256;
use whimbrel_plugin_api::record_type::RecordType;

/// Splitmix64.
pub(super) struct Random(pub(super) u64);

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
pub(super) fn value(record_type: &RecordType, random: &mut Random) -> Value {
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

pub(super) fn nullable(record_type: &RecordType, random: &mut Random) -> Value {
    if random.below(5) == 0 {
        Value::Null
    } else {
        value(record_type, random)
    }
}
