//! Carries out declared losses on values, so that what was written and what was read back can be compared.
//!
//! A loss is applied to both sides: what it takes away does not count. Written apart from the host's own code for the
//! same list, as a second opinion. The meaning of each entry stands at [`Loss`].

use std::collections::BTreeMap;

use serde_json::value::RawValue;

use super::records::Value;
use crate::capability::{Loss, TimeUnit};
use crate::record_type::RecordType;

/// `value` of `record_type` after all `losses`.
pub fn apply(losses: &[Loss], record_type: &RecordType, value: &Value) -> Value {
    losses
        .iter()
        .fold(value.clone(), |value, loss| lose(*loss, record_type, value))
}

fn lose(loss: Loss, record_type: &RecordType, value: Value) -> Value {
    match (record_type, value) {
        (_, Value::Absent) if loss == Loss::AbsentToNull => Value::Null,
        (RecordType::List { item }, Value::List(items)) => {
            Value::List(items.into_iter().map(|value| lose(loss, item, value)).collect())
        }
        (RecordType::Struct { fields }, Value::Struct(members)) => {
            let pairs = fields.iter().zip(members);
            Value::Struct(
                pairs
                    .map(|(field, value)| lose(loss, &field.record_type, value))
                    .collect(),
            )
        }
        (RecordType::Vector, Value::List(numbers)) => floats(loss, numbers).map_or(Value::Null, Value::List),
        (RecordType::Geopoint, Value::Struct(numbers)) => {
            floats(loss, numbers).map_or(Value::Null, Value::Struct)
        }
        (_, value) => leaf(loss, record_type, value),
    }
}

/// Floats that cannot be null one by one: where one would become null, all do.
fn floats(loss: Loss, numbers: Vec<Value>) -> Option<Vec<Value>> {
    let lost: Vec<Value> = numbers
        .into_iter()
        .map(|number| leaf(loss, &RecordType::FLOAT64, number))
        .collect();
    (!lost.contains(&Value::Null)).then_some(lost)
}

fn leaf(loss: Loss, record_type: &RecordType, value: Value) -> Value {
    match (loss, record_type, value) {
        (Loss::TruncateTimestamp { unit }, of, Value::Int(number))
            if is_clock(of) && !is_infinite(of, number) =>
        {
            let step = micros(unit);
            Value::Int(number.div_euclid(step) * step)
        }
        (Loss::TruncateTimestamp { unit }, RecordType::TimeTz, Value::Text(text)) => {
            Value::Text(cut_fraction(&text, unit))
        }
        (Loss::NegativeZeroToZero, _, Value::Float(bits)) if f64::from_bits(bits) == 0.0 => Value::float(0.0),
        (Loss::NanToNull, _, Value::Float(bits)) if f64::from_bits(bits).is_nan() => Value::Null,
        (Loss::NanToNull, RecordType::Numeric, Value::Text(text)) if text == "NaN" => Value::Null,
        (Loss::InfinityToNull, _, Value::Float(bits)) if f64::from_bits(bits).is_infinite() => Value::Null,
        (Loss::InfinityToNull, of, Value::Int(number)) if is_infinite(of, number) => Value::Null,
        (Loss::InfinityToNull, RecordType::Numeric, Value::Text(text)) if text.ends_with("Infinity") => {
            Value::Null
        }
        (Loss::FloatFromDecimal, RecordType::Decimal { scale, .. }, Value::Decimal(number)) => {
            nearest_float(&format!("{number}e-{scale}"))
        }
        (Loss::FloatFromDecimal, RecordType::Numeric, Value::Text(text)) => nearest_float(&text),
        (Loss::NulRemoved, _, Value::Text(text)) => Value::Text(text.replace('\0', "")),
        (Loss::LoneSurrogateReplaced, RecordType::Json | RecordType::Variant, Value::Text(text)) => {
            Value::Text(replace_lone_surrogates(&text))
        }
        (Loss::JsonNormalised, RecordType::Json | RecordType::Variant, Value::Text(text)) => {
            Value::Text(normalised(&text).unwrap_or(text))
        }
        (Loss::EmptyTextToNull, _, Value::Text(text)) if text.is_empty() => Value::Null,
        (Loss::JsonNullToNull, RecordType::Json | RecordType::Variant, Value::Text(text))
            if text.trim_ascii() == "null" =>
        {
            Value::Null
        }
        (_, _, value) => value,
    }
}

const fn is_clock(of: &RecordType) -> bool {
    matches!(
        of,
        RecordType::Timestamp | RecordType::TimestampTz | RecordType::Time
    )
}

const fn is_infinite(of: &RecordType, number: i64) -> bool {
    match of {
        RecordType::Timestamp | RecordType::TimestampTz => number == i64::MAX || number == i64::MIN,
        RecordType::Date => number == i32::MAX as i64 || number == i32::MIN as i64,
        _ => false,
    }
}

const fn micros(unit: TimeUnit) -> i64 {
    match unit {
        TimeUnit::Seconds => 1_000_000,
        TimeUnit::Milliseconds => 1_000,
        TimeUnit::Microseconds => 1,
    }
}

/// `12:00:00.123456+02:00` with the digits of `unit` only.
fn cut_fraction(text: &str, unit: TimeUnit) -> String {
    let Some((clock, rest)) = text.split_once('.') else {
        return text.to_owned();
    };
    let end = rest
        .find(|character: char| !character.is_ascii_digit())
        .unwrap_or(rest.len());
    let (digits, zone) = rest.split_at(end);
    let kept = match unit {
        TimeUnit::Seconds => "",
        TimeUnit::Milliseconds => digits.get(..3).unwrap_or(digits),
        TimeUnit::Microseconds => digits,
    };
    let kept = kept.trim_end_matches('0');
    if kept.is_empty() {
        format!("{clock}{zone}")
    } else {
        format!("{clock}.{kept}{zone}")
    }
}

fn nearest_float(text: &str) -> Value {
    text.parse::<f64>()
        .map_or_else(|_| Value::text(text), Value::float)
}

/// JSON text with each `\uD800`..`\uDFFF` that has no partner replaced by `\uFFFD`.
fn replace_lone_surrogates(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    let mut rest = json;
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let unit = |text: &str| {
            let digits = text.strip_prefix("\\u")?.get(..4)?;
            u16::from_str_radix(digits, 16).ok()
        };
        let partner = rest.get(6..).and_then(unit);
        let (taken, replaced) = match unit(rest) {
            Some(0xD800..=0xDBFF) if matches!(partner, Some(0xDC00..=0xDFFF)) => (12, false),
            Some(0xD800..=0xDFFF) => (6, true),
            Some(_) => (6, false),
            // Any other escape is a backslash and one character of one octet.
            None => (rest.len().min(2), false),
        };
        out.push_str(if replaced { "\\uFFFD" } else { &rest[..taken] });
        rest = &rest[taken..];
    }
    out + rest
}

/// JSON by value: members sorted, the last of repeated ones, no white space, numbers in one spelling.
fn normalised(json: &str) -> Option<String> {
    let raw: &RawValue = serde_json::from_str(json).ok()?;
    normalise(raw)
}

fn normalise(raw: &RawValue) -> Option<String> {
    let text = raw.get();
    Some(match text.as_bytes().first()? {
        b'{' => {
            let members: BTreeMap<String, &RawValue> = serde_json::from_str(text).ok()?;
            let written = members.into_iter().map(|(name, value)| {
                Some(format!(
                    "{}:{}",
                    serde_json::to_string(&name).ok()?,
                    normalise(value)?
                ))
            });
            format!("{{{}}}", written.collect::<Option<Vec<_>>>()?.join(","))
        }
        b'[' => {
            let items: Vec<&RawValue> = serde_json::from_str(text).ok()?;
            format!(
                "[{}]",
                items
                    .into_iter()
                    .map(normalise)
                    .collect::<Option<Vec<_>>>()?
                    .join(",")
            )
        }
        b'"' => serde_json::to_string(&serde_json::from_str::<String>(text).ok()?).ok()?,
        b'-' | b'0'..=b'9' => number(text)?,
        _ => text.to_owned(),
    })
}

/// Sign, digits without outer zeros, power of ten. Negative zero is zero, as systems that compare by value have it.
fn number(text: &str) -> Option<String> {
    let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let (sign, mantissa) = mantissa
        .strip_prefix('-')
        .map_or(("", mantissa), |rest| ("-", rest));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let exponent = exponent.parse::<i64>().ok()? - fraction.len() as i64;
    let digits = format!("{whole}{fraction}");
    let digits = digits.trim_start_matches('0');
    let short = digits.trim_end_matches('0');
    if short.is_empty() {
        return Some("0".to_owned());
    }
    Some(format!(
        "{sign}{short}e{}",
        exponent + (digits.len() - short.len()) as i64
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow_buffer::i256;

    fn lost(loss: Loss, record_type: &RecordType, value: Value) -> Value {
        apply(&[loss], record_type, &value)
    }

    #[test]
    fn each_loss_takes_what_it_says_and_no_more() {
        let milliseconds = Loss::TruncateTimestamp {
            unit: TimeUnit::Milliseconds,
        };
        let int = |number| Value::Int(number);
        assert_eq!(lost(milliseconds, &RecordType::Timestamp, int(-1)), int(-1_000));
        assert_eq!(
            lost(milliseconds, &RecordType::TimestampTz, int(i64::MAX)),
            int(i64::MAX)
        );
        assert_eq!(lost(milliseconds, &RecordType::INT64, int(-1)), int(-1));
        let time = |text: &str| Value::text(text);
        assert_eq!(
            lost(milliseconds, &RecordType::TimeTz, time("01:02:03.123456+02:00")),
            time("01:02:03.123+02:00")
        );
        let zero = lost(Loss::NegativeZeroToZero, &RecordType::FLOAT64, Value::float(-0.0));
        assert_eq!(zero, Value::float(0.0));
        assert_ne!(Value::float(-0.0), Value::float(0.0));
        let vector = Value::List(vec![Value::float(1.0), Value::float(f64::NAN)]);
        assert_eq!(
            lost(Loss::NanToNull, &RecordType::Vector, vector.clone()),
            Value::Null
        );
        assert_eq!(
            lost(Loss::InfinityToNull, &RecordType::Vector, vector.clone()),
            vector
        );
        assert_eq!(
            lost(Loss::InfinityToNull, &RecordType::Date, int(i32::MAX.into())),
            Value::Null
        );
        assert_eq!(
            lost(Loss::InfinityToNull, &RecordType::Numeric, time("-Infinity")),
            Value::Null
        );
        let decimal = RecordType::Decimal {
            precision: 5,
            scale: 2,
        };
        assert_eq!(
            lost(Loss::FloatFromDecimal, &decimal, Value::Decimal(i256::from(-125))),
            Value::float(-1.25)
        );
        assert_eq!(
            lost(Loss::NulRemoved, &RecordType::Text, time("a\0b")),
            time("ab")
        );
        assert_eq!(
            lost(
                Loss::EmptyTextToNull,
                &RecordType::list(RecordType::Text),
                Value::List(vec![time("")])
            ),
            Value::List(vec![Value::Null])
        );
        assert_eq!(
            lost(Loss::AbsentToNull, &RecordType::Text, Value::Absent),
            Value::Null
        );
        assert_eq!(
            lost(Loss::NulRemoved, &RecordType::Text, Value::Absent),
            Value::Absent
        );
    }

    #[test]
    fn lone_surrogates_are_found_between_pairs_and_other_escapes() {
        for (given, expected) in [
            (r#""\ud800""#, r#""\uFFFD""#),
            (r#""\ud83d\ude00\udc00x""#, r#""\ud83d\ude00\uFFFDx""#),
            (r#""\\ud800 \n \u00e4""#, r#""\\ud800 \n \u00e4""#),
            (r#""\ud800\ud83d\ude00""#, r#""\uFFFD\ud83d\ude00""#),
        ] {
            assert_eq!(replace_lone_surrogates(given), expected);
        }
    }

    #[test]
    fn json_is_compared_by_value() {
        let same = |left: &str, right: &str| normalised(left) == normalised(right);
        assert!(same(
            r#"{"b": 1.0, "a": [1e2, "\u00e4"]}"#,
            r#"{"a":[100,"ä"],"b":1}"#
        ));
        assert!(same(r#"{"a":1,"a":2}"#, r#"{"a":2}"#));
        assert!(!same("12345678901234567890123", "12345678901234567890124"));
        assert!(!same("[1,2]", "[2,1]"));
        assert!(!same("\"1\"", "1"));
        assert!(same("-0.0", "0"));
    }
}
