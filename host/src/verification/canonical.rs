//! The canonical form of a value: the same octets for the same value, whatever system it comes from.
//!
//! Type-tagged and length-prefixed; one exact class for integers and decimals (1 = 1.00); floats by their bits with one
//! NaN; JSON by value with sorted members; absent apart from null unless a loss says otherwise. Source: DESIGN 8.

use arrow_array::cast::AsArray as _;
use arrow_array::types::{
    Date32Type, Decimal128Type, Decimal256Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type,
    Int64Type, Time64MicrosecondType, TimestampMicrosecondType,
};
use arrow_array::{Array, ArrayRef};
use serde_json::Value;
use whimbrel_plugin_api::{Error, RecordType, Result};

use super::losses::FieldLosses;

const TAG_NULL: u8 = 0;
const TAG_ABSENT: u8 = 1;
const TAG_BOOL: u8 = 2;
const TAG_NUMBER: u8 = 3;
const TAG_FLOAT: u8 = 4;
const TAG_TEXT: u8 = 5;
const TAG_BYTES: u8 = 6;
const TAG_DATE: u8 = 7;
const TAG_TIME: u8 = 8;
const TAG_TIMESTAMP_TZ: u8 = 9;
const TAG_TIMESTAMP: u8 = 10;
const TAG_INTERVAL: u8 = 11;
const TAG_UUID: u8 = 12;
const TAG_JSON: u8 = 13;
const TAG_LIST: u8 = 14;
const TAG_STRUCT: u8 = 15;

/// Writes the canonical form of values of one column.
pub struct ColumnEncoder {
    record_type: RecordType,
    losses: FieldLosses,
    array: ArrayRef,
    children: Vec<ColumnEncoder>,
}

impl ColumnEncoder {
    /// An encoder for `array`, which holds values of `record_type`.
    pub fn new(record_type: &RecordType, array: &ArrayRef, losses: FieldLosses) -> Self {
        let children = match record_type {
            RecordType::List { item } => vec![Self::new(item, array.as_list::<i32>().values(), losses)],
            RecordType::Vector => vec![Self::new(
                &RecordType::FLOAT64,
                array.as_list::<i32>().values(),
                losses,
            )],
            RecordType::Struct { fields } => fields
                .iter()
                .zip(array.as_struct().columns())
                .map(|(field, column)| Self::new(&field.record_type, column, losses))
                .collect(),
            RecordType::Geopoint => array
                .as_struct()
                .columns()
                .iter()
                .map(|column| Self::new(&RecordType::FLOAT64, column, losses))
                .collect(),
            _ => Vec::new(),
        };
        Self {
            record_type: record_type.clone(),
            losses,
            array: array.clone(),
            children,
        }
    }

    /// Appends the canonical form of a field that a batch does not have at all: absent, or null if that is a declared loss.
    pub fn encode_missing(losses: FieldLosses, out: &mut Vec<u8>) {
        out.push(if losses.absent_to_null {
            TAG_NULL
        } else {
            TAG_ABSENT
        });
    }

    /// Appends the canonical form of the value in `row`; `present` is false if the record does not have the field.
    ///
    /// # Errors
    /// `verification.bad_value` for JSON or decimal text that is none.
    pub fn encode(&self, row: usize, present: bool, out: &mut Vec<u8>) -> Result<()> {
        if !present && !self.losses.absent_to_null {
            out.push(TAG_ABSENT);
            return Ok(());
        }
        if !present || self.array.is_null(row) {
            out.push(TAG_NULL);
            return Ok(());
        }
        self.encode_value(row, out)
    }

    fn encode_value(&self, row: usize, out: &mut Vec<u8>) -> Result<()> {
        let array = self.array.as_ref();
        match &self.record_type {
            RecordType::Bool => out.extend([TAG_BOOL, u8::from(array.as_boolean().value(row))]),
            RecordType::Int { bits } => {
                let value = match bits {
                    8 => i64::from(array.as_primitive::<Int8Type>().value(row)),
                    16 => i64::from(array.as_primitive::<Int16Type>().value(row)),
                    32 => i64::from(array.as_primitive::<Int32Type>().value(row)),
                    _ => array.as_primitive::<Int64Type>().value(row),
                };
                number(&value.to_string(), out)?;
            }
            RecordType::Float { bits: 32 } => {
                self.float(array.as_primitive::<Float32Type>().value(row).into(), out)
            }
            RecordType::Float { .. } => self.float(array.as_primitive::<Float64Type>().value(row), out),
            RecordType::Decimal { precision, .. } => {
                let text = if *precision <= 38 {
                    array.as_primitive::<Decimal128Type>().value_as_string(row)
                } else {
                    array.as_primitive::<Decimal256Type>().value_as_string(row)
                };
                self.decimal(&text, out)?;
            }
            RecordType::Numeric => self.decimal(array.as_string::<i32>().value(row), out)?,
            RecordType::Text | RecordType::Reference | RecordType::Opaque { .. } | RecordType::TimeTz => {
                self.text(array.as_string::<i32>().value(row), out);
            }
            RecordType::Bytes => sized(TAG_BYTES, array.as_binary::<i32>().value(row), out),
            RecordType::Date => {
                let day = array.as_primitive::<Date32Type>().value(row);
                if self.losses.infinity_to_null && (day == i32::MAX || day == i32::MIN) {
                    out.push(TAG_NULL);
                } else {
                    out.push(TAG_DATE);
                    out.extend(day.to_be_bytes());
                }
            }
            RecordType::Time => self.time(
                TAG_TIME,
                array.as_primitive::<Time64MicrosecondType>().value(row),
                out,
            ),
            RecordType::TimestampTz => {
                self.time(
                    TAG_TIMESTAMP_TZ,
                    array.as_primitive::<TimestampMicrosecondType>().value(row),
                    out,
                );
            }
            RecordType::Timestamp => {
                self.time(
                    TAG_TIMESTAMP,
                    array.as_primitive::<TimestampMicrosecondType>().value(row),
                    out,
                );
            }
            RecordType::Interval => {
                let parts = array.as_struct();
                out.push(TAG_INTERVAL);
                out.extend(
                    parts
                        .column(0)
                        .as_primitive::<Int32Type>()
                        .value(row)
                        .to_be_bytes(),
                );
                out.extend(
                    parts
                        .column(1)
                        .as_primitive::<Int32Type>()
                        .value(row)
                        .to_be_bytes(),
                );
                out.extend(
                    parts
                        .column(2)
                        .as_primitive::<Int64Type>()
                        .value(row)
                        .to_be_bytes(),
                );
            }
            RecordType::Uuid => {
                out.push(TAG_UUID);
                out.extend(array.as_fixed_size_binary().value(row));
            }
            RecordType::Json | RecordType::Variant => {
                let text = array.as_string::<i32>().value(row);
                if self.losses.json_null_to_null && text.trim_ascii() == "null" {
                    out.push(TAG_NULL);
                } else {
                    json_text(text, self.losses, out)?;
                }
            }
            RecordType::List { .. } | RecordType::Vector => {
                let list = array.as_list::<i32>();
                let (from, to) = (
                    list.value_offsets()[row] as usize,
                    list.value_offsets()[row + 1] as usize,
                );
                out.push(TAG_LIST);
                out.extend(((to - from) as u64).to_be_bytes());
                for item in from..to {
                    self.children[0].encode(item, true, out)?;
                }
            }
            RecordType::Struct { .. } | RecordType::Geopoint => {
                out.push(TAG_STRUCT);
                out.extend((self.children.len() as u64).to_be_bytes());
                for child in &self.children {
                    child.encode(row, true, out)?;
                }
            }
        }
        Ok(())
    }

    fn float(&self, value: f64, out: &mut Vec<u8>) {
        if (value.is_nan() && self.losses.nan_to_null)
            || (value.is_infinite() && self.losses.infinity_to_null)
        {
            out.push(TAG_NULL);
            return;
        }
        let value = if value.is_nan() {
            f64::NAN
        } else if value == 0.0 && self.losses.negative_zero {
            0.0
        } else {
            value
        };
        out.push(TAG_FLOAT);
        out.extend(value.to_bits().to_be_bytes());
    }

    fn decimal(&self, text: &str, out: &mut Vec<u8>) -> Result<()> {
        match text {
            "NaN" if self.losses.nan_to_null => out.push(TAG_NULL),
            "Infinity" | "-Infinity" if self.losses.infinity_to_null => out.push(TAG_NULL),
            "NaN" | "Infinity" | "-Infinity" => sized(TAG_NUMBER, text.as_bytes(), out),
            _ if self.losses.float_from_decimal => {
                let value = text.parse().map_err(|_| bad_value("decimal"))?;
                self.float(value, out);
            }
            _ => number(text, out)?,
        }
        Ok(())
    }

    fn text(&self, text: &str, out: &mut Vec<u8>) {
        if text.is_empty() && self.losses.empty_to_null {
            out.push(TAG_NULL);
        } else if self.losses.nul_removed && text.contains('\0') {
            sized(TAG_TEXT, text.replace('\0', "").as_bytes(), out);
        } else {
            sized(TAG_TEXT, text.as_bytes(), out);
        }
    }

    fn time(&self, tag: u8, micros: i64, out: &mut Vec<u8>) {
        let infinite = tag != TAG_TIME && (micros == i64::MAX || micros == i64::MIN);
        if infinite && self.losses.infinity_to_null {
            out.push(TAG_NULL);
            return;
        }
        let unit = self.losses.time_unit_micros;
        let micros = if infinite || unit == 1 {
            micros
        } else {
            micros.div_euclid(unit).saturating_mul(unit)
        };
        out.push(tag);
        out.extend(micros.to_be_bytes());
    }
}

fn sized(tag: u8, octets: &[u8], out: &mut Vec<u8>) {
    out.push(tag);
    out.extend((octets.len() as u64).to_be_bytes());
    out.extend(octets);
}

fn bad_value(what: &str) -> Error {
    Error::invalid_data("verification.bad_value", format!("a value is not a valid {what}"))
}

/// Exponents beyond this are not numbers that any system here can hold.
const EXPONENT_MAX: i64 = 1_000_000;

/// Writes a decimal number as sign, digits without zeros at either end, and exponent, so that 1 = 1.00 = 1e0.
fn number(text: &str, out: &mut Vec<u8>) -> Result<()> {
    let (negative, rest) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    let (mantissa, exponent) = match rest.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (
            mantissa,
            exponent.parse::<i64>().map_err(|_| bad_value("number"))?,
        ),
        None => (rest, 0),
    };
    if exponent.abs() > EXPONENT_MAX {
        return Err(bad_value("number"));
    }
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let is_digits = |part: &str| part.bytes().all(|digit| digit.is_ascii_digit());
    if !is_digits(whole) || !is_digits(fraction) || (whole.is_empty() && fraction.is_empty()) {
        return Err(bad_value("number"));
    }
    let mut digits: Vec<u8> = whole
        .bytes()
        .chain(fraction.bytes())
        .skip_while(|digit| *digit == b'0')
        .collect();
    let mut exponent = exponent - fraction.len() as i64;
    while digits.last() == Some(&b'0') {
        digits.pop();
        exponent += 1;
    }
    if digits.is_empty() {
        exponent = 0;
    }
    out.push(TAG_NUMBER);
    out.extend(((digits.len() + 9) as u64).to_be_bytes());
    out.push(u8::from(negative && !digits.is_empty()));
    out.extend(exponent.to_be_bytes());
    out.extend(digits);
    Ok(())
}

/// JSON by value. Numbers are read from their text, so that integers above 2^53 keep every digit.
fn json_text(text: &str, losses: FieldLosses, out: &mut Vec<u8>) -> Result<()> {
    let raw: &serde_json::value::RawValue = serde_json::from_str(text).map_err(|_| bad_value("json"))?;
    json_raw(raw, losses, out)
}

fn json_raw(raw: &serde_json::value::RawValue, losses: FieldLosses, out: &mut Vec<u8>) -> Result<()> {
    use serde_json::value::RawValue;
    use std::collections::BTreeMap;
    let text = raw.get();
    out.push(TAG_JSON);
    match text.as_bytes().first() {
        Some(b'{') => {
            let members: BTreeMap<String, &RawValue> =
                serde_json::from_str(text).map_err(|_| bad_value("json"))?;
            // Removing characters may make two names one; the later member is the one that stays.
            let members: BTreeMap<String, &RawValue> = members
                .into_iter()
                .map(|(name, member)| (without_nul(name, losses), member))
                .collect();
            out.push(b'{');
            out.extend((members.len() as u64).to_be_bytes());
            for (name, member) in members {
                sized(TAG_TEXT, name.as_bytes(), out);
                json_raw(member, losses, out)?;
            }
        }
        Some(b'[') => {
            let items: Vec<&RawValue> = serde_json::from_str(text).map_err(|_| bad_value("json"))?;
            out.push(b'[');
            out.extend((items.len() as u64).to_be_bytes());
            for item in items {
                json_raw(item, losses, out)?;
            }
        }
        Some(b'-' | b'0'..=b'9') => {
            out.push(b'#');
            number(text, out)?;
            let has_sign = text.starts_with('-') && !losses.negative_zero;
            if has_sign && text.parse::<f64>().is_ok_and(|value| value == 0.0) {
                out.push(b'-');
            }
        }
        _ => match serde_json::from_str(text).map_err(|_| bad_value("json"))? {
            Value::Null => out.push(b'n'),
            Value::Bool(value) => out.extend([b'b', u8::from(value)]),
            Value::String(value) => sized(b's', without_nul(value, losses).as_bytes(), out),
            Value::Number(_) | Value::Array(_) | Value::Object(_) => return Err(bad_value("json")),
        },
    }
    Ok(())
}

fn without_nul(text: String, losses: FieldLosses) -> String {
    if losses.nul_removed && text.contains('\0') {
        text.replace('\0', "")
    } else {
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow_array::{Decimal128Array, Float64Array, Int64Array, StringArray};
    use std::sync::Arc;

    fn encoded(record_type: &RecordType, array: ArrayRef, losses: FieldLosses) -> Vec<u8> {
        let mut out = Vec::new();
        ColumnEncoder::new(record_type, &array, losses)
            .encode(0, true, &mut out)
            .unwrap();
        out
    }

    fn plain(record_type: &RecordType, array: ArrayRef) -> Vec<u8> {
        encoded(record_type, array, FieldLosses::default())
    }

    #[test]
    fn declared_losses_reach_into_json() {
        let json = |text: &str, losses: FieldLosses| {
            encoded(&RecordType::Json, Arc::new(StringArray::from(vec![text])), losses)
        };
        let exact = FieldLosses::default();
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
    }

    #[test]
    fn integers_and_decimals_are_one_class() {
        let int = plain(&RecordType::INT64, Arc::new(Int64Array::from(vec![100])));
        let decimal = Decimal128Array::from(vec![10_000])
            .with_precision_and_scale(12, 2)
            .unwrap();
        assert_eq!(
            plain(
                &RecordType::Decimal {
                    precision: 12,
                    scale: 2
                },
                Arc::new(decimal)
            ),
            int
        );
        for text in ["100", "100.00", "1e2", "0100", "+100"] {
            assert_eq!(
                plain(&RecordType::Numeric, Arc::new(StringArray::from(vec![text]))),
                int,
                "{text}"
            );
        }
        for text in ["-100", "1000", "10", "0"] {
            assert_ne!(
                plain(&RecordType::Numeric, Arc::new(StringArray::from(vec![text]))),
                int,
                "{text}"
            );
        }
    }

    #[test]
    fn floats_differ_by_their_last_bit_and_by_the_sign_of_zero() {
        let float = |value: f64| plain(&RecordType::FLOAT64, Arc::new(Float64Array::from(vec![value])));
        assert_ne!(float(0.1), float(f64::from_bits(0.1f64.to_bits() + 1)));
        assert_ne!(float(0.0), float(-0.0));
        assert_eq!(float(f64::NAN), float(-f64::NAN));
        let lossy = FieldLosses {
            negative_zero: true,
            nan_to_null: true,
            ..FieldLosses::default()
        };
        let negative: ArrayRef = Arc::new(Float64Array::from(vec![-0.0]));
        assert_eq!(encoded(&RecordType::FLOAT64, negative, lossy), float(0.0));
        let nan: ArrayRef = Arc::new(Float64Array::from(vec![f64::NAN]));
        assert_eq!(encoded(&RecordType::FLOAT64, nan, lossy), [TAG_NULL]);
    }

    #[test]
    fn json_is_compared_by_value_without_rounding() {
        let json = |text: &str| plain(&RecordType::Json, Arc::new(StringArray::from(vec![text])));
        assert_eq!(
            json(r#"{"a":1,"b":[1.0, "x"]}"#),
            json(r#"{ "b" : [1,"\u0078"], "a":1 }"#)
        );
        assert_ne!(json("9007199254740993"), json("9007199254740992"));
        assert_ne!(json("[1,2]"), json("[2,1]"));
        assert_ne!(json(r#"{"a":null}"#), json("{}"));
        assert_ne!(json("-0"), json("0"));
        assert_ne!(json("\"1\""), json("1"));
    }

    #[test]
    fn values_of_neighbouring_fields_do_not_run_together() {
        let text = |value: &str| plain(&RecordType::Text, Arc::new(StringArray::from(vec![value])));
        let joined = |a: &str, b: &str| [text(a), text(b)].concat();
        assert_ne!(joined("ab", "c"), joined("a", "bc"));
        assert_ne!(text(""), [TAG_NULL]);
    }

    #[test]
    fn an_absent_field_is_not_null_unless_declared() {
        let array: ArrayRef = Arc::new(StringArray::from(vec![None::<&str>]));
        let absent = |losses| {
            let mut out = Vec::new();
            ColumnEncoder::new(&RecordType::Text, &array, losses)
                .encode(0, false, &mut out)
                .unwrap();
            out
        };
        assert_eq!(absent(FieldLosses::default()), [TAG_ABSENT]);
        let lossy = FieldLosses {
            absent_to_null: true,
            ..FieldLosses::default()
        };
        assert_eq!(absent(lossy), [TAG_NULL]);
    }
}
