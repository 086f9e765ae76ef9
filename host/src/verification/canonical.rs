//! The canonical form of a value: the same octets for the same value, whatever system it comes from.
//!
//! Type-tagged and length-prefixed; one exact class for integers and decimals (1 = 1.00); floats by their bits with one
//! NaN; JSON by value with sorted members; absent apart from null unless a loss says otherwise. `docs/digest.md` is the
//! specification, octet by octet. Source: DESIGN 8. Neighbours: `losses` says what is left out of a form, `digest` hashes it.

mod json;
mod number;
#[cfg(test)]
mod tests;
mod values;

use std::fmt::Write as _;

use arrow_array::{Array as _, ArrayRef};
use whimbrel_plugin_api::arrow_buffer::NullBuffer;
use whimbrel_plugin_api::{Error, RecordType, Result};

use super::losses::{FieldLosses, Touched};
use values::Values;

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

/// The one NaN.
const NAN_BITS: u64 = 0x7ff8_0000_0000_0000;

/// The forms of values, one behind the other. Kept from record to record, so that no memory is asked for.
#[derive(Debug, Default)]
pub struct Encoded {
    octets: Vec<u8>,
    touched: Touched,
    nesting: json::Nesting,
    text: String,
}

impl Encoded {
    /// Forgets all of it.
    pub fn clear(&mut self) {
        self.octets.clear();
        self.touched = Touched::default();
    }

    /// The octets so far.
    pub fn octets(&self) -> &[u8] {
        &self.octets
    }

    /// The losses that have changed a value since this was last asked.
    pub fn take_touched(&mut self) -> Touched {
        std::mem::take(&mut self.touched)
    }

    /// Appends the form of a field that a record does not have: absent, or null if that is a declared loss.
    #[inline]
    pub fn put_missing(&mut self, losses: FieldLosses) {
        if losses.absent_to_null {
            self.put_null_for(Touched::ABSENT);
        } else {
            self.octets.push(TAG_ABSENT);
        }
    }

    fn put_null_for(&mut self, loss: Touched) {
        self.octets.push(TAG_NULL);
        self.touched.add(loss);
    }

    #[inline]
    fn put_fixed<const N: usize>(&mut self, tag: u8, octets: [u8; N]) {
        self.octets.push(tag);
        self.octets.extend_from_slice(&octets);
    }

    #[inline]
    fn put_sized(&mut self, tag: u8, octets: &[u8]) {
        let mut head = [tag, 0, 0, 0, 0];
        put_len(octets.len(), &mut head[1..]);
        self.octets.extend_from_slice(&head);
        self.octets.extend_from_slice(octets);
    }
}

/// Writes a length or count as four octets. Arrow's own offsets have 31 bits, so that it always has room.
#[inline]
fn put_len(len: usize, out: &mut [u8]) {
    out.copy_from_slice(&(len as u32).to_be_bytes());
}

fn bad_value(what: &str) -> Error {
    Error::invalid_data("verification.bad_value", format!("a value is not a valid {what}"))
}

/// Writes the canonical form of values of one column.
pub struct ColumnEncoder {
    losses: FieldLosses,
    nulls: Option<NullBuffer>,
    values: Values,
}

impl ColumnEncoder {
    /// An encoder for `array`, which holds values of `record_type`.
    pub fn new(record_type: &RecordType, array: &ArrayRef, losses: FieldLosses) -> Self {
        Self {
            losses,
            nulls: array.nulls().filter(|nulls| nulls.null_count() > 0).cloned(),
            values: Values::new(record_type, array, losses),
        }
    }

    /// Appends the canonical form of the value in `row`; `present` is false if the record does not have the field.
    ///
    /// # Errors
    /// `verification.bad_value` for JSON or decimal text that is none.
    #[inline]
    pub fn encode(&self, row: usize, present: bool, encoded: &mut Encoded) -> Result<()> {
        if !present {
            encoded.put_missing(self.losses);
        } else if self.is_null(row) {
            encoded.octets.push(TAG_NULL);
        } else {
            return self.encode_value(row, encoded);
        }
        Ok(())
    }

    /// Whether there is no value in `row`.
    #[inline]
    pub fn is_null(&self, row: usize) -> bool {
        self.nulls.as_ref().is_some_and(|nulls| nulls.is_null(row))
    }

    #[inline]
    fn encode_value(&self, row: usize, encoded: &mut Encoded) -> Result<()> {
        match &self.values {
            Values::Bool(values) => encoded.put_fixed(TAG_BOOL, [u8::from(values.value(row))]),
            Values::Int8(values) => put_int(values[row].into(), encoded),
            Values::Int16(values) => put_int(values[row].into(), encoded),
            Values::Int32(values) => put_int(values[row].into(), encoded),
            Values::Int64(values) => put_int(values[row], encoded),
            Values::Float32(values) => self.float(values[row].into(), encoded),
            Values::Float64(values) => self.float(values[row], encoded),
            Values::Decimal128(values, scale) if !self.losses.float_from_decimal => {
                encoded.octets.push(TAG_NUMBER);
                number::put_decimal128(values[row], *scale, &mut encoded.octets);
            }
            Values::Decimal128(values, scale) => self.rounded(values[row], *scale, encoded)?,
            Values::Decimal256(values, scale) if !self.losses.float_from_decimal => {
                encoded.octets.push(TAG_NUMBER);
                number::put_decimal256(values[row], *scale, &mut encoded.octets)?;
            }
            Values::Decimal256(values, scale) => self.rounded(values[row], *scale, encoded)?,
            Values::Numeric(values) => self.numeric(values.value(row), encoded)?,
            Values::Text(values) => self.text(values.value(row), encoded),
            Values::Bytes(values) => encoded.put_sized(TAG_BYTES, values.value(row)),
            Values::Date(values) => self.date(values[row], encoded),
            Values::Micros(values, tag) => self.micros(*tag, values[row], encoded),
            Values::Interval { months, days, micros } => {
                encoded.put_fixed(TAG_INTERVAL, months[row].to_be_bytes());
                encoded.octets.extend_from_slice(&days[row].to_be_bytes());
                encoded.octets.extend_from_slice(&micros[row].to_be_bytes());
            }
            Values::Uuid(values) => {
                encoded.octets.push(TAG_UUID);
                encoded.octets.extend_from_slice(values.value(row));
            }
            Values::Json(values) => self.json(values.value(row), encoded)?,
            Values::List { offsets, item } => {
                let (from, to) = (offsets[row] as usize, offsets[row + 1] as usize);
                encoded.put_count(TAG_LIST, to - from);
                for row in from..to {
                    item.encode(row, true, encoded)?;
                }
            }
            Values::Struct(members) => {
                encoded.put_count(TAG_STRUCT, members.len());
                for member in members {
                    member.encode(row, true, encoded)?;
                }
            }
        }
        Ok(())
    }

    #[inline]
    fn float(&self, value: f64, encoded: &mut Encoded) {
        let mut bits = value.to_bits();
        if value.is_nan() {
            if self.losses.nan_to_null {
                return encoded.put_null_for(Touched::NAN);
            }
            bits = NAN_BITS;
        } else if value.is_infinite() && self.losses.infinity_to_null {
            return encoded.put_null_for(Touched::INFINITY);
        } else if self.losses.negative_zero && bits == (-0.0_f64).to_bits() {
            encoded.touched.add(Touched::NEGATIVE_ZERO);
            bits = 0;
        }
        encoded.put_fixed(TAG_FLOAT, bits.to_be_bytes());
    }

    fn numeric(&self, text: &str, encoded: &mut Encoded) -> Result<()> {
        let (special, value) = match text {
            "NaN" => (number::NAN, f64::NAN),
            "Infinity" => (number::INFINITY, f64::INFINITY),
            "-Infinity" => (number::NEGATIVE_INFINITY, f64::NEG_INFINITY),
            _ if self.losses.float_from_decimal => return self.rounded_text(text, encoded),
            _ => {
                encoded.octets.push(TAG_NUMBER);
                return number::put_text(text, false, &mut encoded.octets);
            }
        };
        let becomes_null = if value.is_nan() {
            self.losses.nan_to_null
        } else {
            self.losses.infinity_to_null
        };
        if becomes_null || self.losses.float_from_decimal {
            self.float(value, encoded);
        } else {
            encoded.put_fixed(TAG_NUMBER, [special]);
        }
        Ok(())
    }

    /// The float nearest to `value` times ten to the power of minus `scale`.
    fn rounded(&self, value: impl std::fmt::Display, scale: i8, encoded: &mut Encoded) -> Result<()> {
        let mut text = std::mem::take(&mut encoded.text);
        text.clear();
        write!(text, "{value}e-{scale}").map_err(|_| bad_value("decimal"))?;
        let outcome = self.rounded_text(&text, encoded);
        encoded.text = text;
        outcome
    }

    /// The float nearest to the decimal `text`. It is changed where the shortest text of the float is another number.
    fn rounded_text(&self, text: &str, encoded: &mut Encoded) -> Result<()> {
        let value: f64 = text.parse().map_err(|_| bad_value("decimal"))?;
        let octets = &mut encoded.octets;
        let begun = octets.len();
        number::put_text(text, false, octets)?;
        let behind = octets.len();
        let is_same = number::put_text(&format!("{value:e}"), false, octets).is_ok()
            && octets[begun..behind] == octets[behind..];
        octets.truncate(begun);
        if !is_same {
            encoded.touched.add(Touched::FLOAT);
        }
        self.float(value, encoded);
        Ok(())
    }

    #[inline]
    fn text(&self, text: &str, encoded: &mut Encoded) {
        if text.is_empty() && self.losses.empty_to_null {
            encoded.put_null_for(Touched::EMPTY);
        } else if self.losses.nul_removed && text.contains('\0') {
            encoded.touched.add(Touched::NUL);
            let mut without = std::mem::take(&mut encoded.text);
            without.clear();
            without.extend(text.split('\0'));
            encoded.put_sized(TAG_TEXT, without.as_bytes());
            encoded.text = without;
        } else {
            encoded.put_sized(TAG_TEXT, text.as_bytes());
        }
    }

    #[inline]
    fn date(&self, day: i32, encoded: &mut Encoded) {
        if self.losses.infinity_to_null && (day == i32::MAX || day == i32::MIN) {
            encoded.put_null_for(Touched::INFINITY);
        } else {
            encoded.put_fixed(TAG_DATE, day.to_be_bytes());
        }
    }

    #[inline]
    fn micros(&self, tag: u8, micros: i64, encoded: &mut Encoded) {
        let unit = self.losses.time_unit_micros;
        let is_infinite = tag != TAG_TIME && (micros == i64::MAX || micros == i64::MIN);
        if is_infinite && self.losses.infinity_to_null {
            return encoded.put_null_for(Touched::INFINITY);
        }
        let mut kept = micros;
        if unit != 1 && !is_infinite {
            // Below the first whole unit that there is room for, the first instant stands for it.
            kept = micros.div_euclid(unit).saturating_mul(unit);
            if kept != micros {
                encoded.touched.add(Touched::TIME);
            }
        }
        encoded.put_fixed(tag, kept.to_be_bytes());
    }

    fn json(&self, text: &str, encoded: &mut Encoded) -> Result<()> {
        if self.losses.json_null_to_null && text.trim_ascii() == "null" {
            encoded.put_null_for(Touched::JSON_NULL);
            return Ok(());
        }
        encoded.octets.push(TAG_JSON);
        json::put(text, self.losses, encoded)
    }
}

impl Encoded {
    fn put_count(&mut self, tag: u8, count: usize) {
        let mut head = [tag, 0, 0, 0, 0];
        put_len(count, &mut head[1..]);
        self.octets.extend_from_slice(&head);
    }
}

#[inline]
fn put_int(value: i64, encoded: &mut Encoded) {
    encoded.octets.push(TAG_NUMBER);
    number::put_int(value, &mut encoded.octets);
}
