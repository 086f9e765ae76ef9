//! The type of a field of numbers: the narrowest in which no number is rounded and -0 stays apart from 0.
//!
//! Numbers are judged by their JSON text; a number that was read as a float first would be rounded already.

use whimbrel_plugin_api::RecordType;

/// Integers up to here are exact as 64-bit floats: 2^53.
const FLOAT_INTEGER_MAX: u64 = 1 << 53;
/// Every integer of 64 bits, with or without sign.
const UNSIGNED: RecordType = RecordType::Decimal {
    precision: 20,
    scale: 0,
};
/// What was seen of the numbers of one field.
#[derive(Debug, Clone, Copy, Default)]
pub struct Numbers {
    pub count: usize,
    /// Beyond 2^53, so not exact as a float.
    wide: bool,
    /// Beyond 63 bits and a sign.
    unsigned: bool,
    /// Beyond 64 bits altogether.
    huge: bool,
    /// Written with a point or an exponent.
    fractional: bool,
    /// So written, and rounded if read as a float.
    rounded: bool,
    negative_zero: bool,
}

impl Numbers {
    pub fn look_at(&mut self, raw: &str) {
        self.count += 1;
        let digits = raw.strip_prefix('-').unwrap_or(raw);
        if raw.starts_with('-') && is_zero(digits) {
            self.negative_zero = true;
        } else if digits.contains(['.', 'e', 'E']) {
            self.fractional = true;
            self.rounded |= !is_exact_float(raw);
        } else {
            self.wide |= digits
                .parse::<u64>()
                .map_or(true, |value| value > FLOAT_INTEGER_MAX);
            if raw.parse::<i64>().is_err() {
                self.unsigned = true;
                self.huge |= raw.parse::<u64>().is_err();
            }
        }
    }

    /// The narrowest type that holds every number as it is.
    pub fn record_type(self) -> RecordType {
        let is_float = self.fractional || self.negative_zero;
        let is_float_exact = !self.rounded && !self.wide;
        match self {
            _ if is_float && is_float_exact => RecordType::FLOAT64,
            // Exact decimals have no -0.
            _ if self.negative_zero => RecordType::Variant,
            _ if self.huge || is_float => RecordType::Numeric,
            _ if self.unsigned => UNSIGNED,
            _ => RecordType::INT64,
        }
    }
}

/// Whether a JSON number without sign is zero, whatever its exponent.
fn is_zero(digits: &str) -> bool {
    let mantissa = digits.split(['e', 'E']).next().unwrap_or_default();
    mantissa.bytes().all(|octet| matches!(octet, b'0' | b'.'))
}

/// Whether the shortest text of the nearest 64-bit float is, as a decimal, the same number.
fn is_exact_float(raw: &str) -> bool {
    let Ok(float) = raw.parse::<f64>() else {
        return false;
    };
    // `{:e}` writes the shortest digits that read back as the same float.
    float.is_finite() && decimal(raw) == decimal(&format!("{float:e}"))
}

/// A decimal number as sign, digits without zeros at either end, and the power of ten of the last digit; `None` if
/// the exponent is beyond any float.
fn decimal(raw: &str) -> Option<(bool, String, i64)> {
    let (is_negative, text) = raw.strip_prefix('-').map_or((false, raw), |text| (true, text));
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i64>().ok()?),
        None => (text, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{whole}{fraction}");
    let significant = digits.trim_end_matches('0');
    let dropped = digits.len() - significant.len();
    let significant = significant.trim_start_matches('0');
    if significant.is_empty() {
        return Some((false, String::new(), 0));
    }
    let power = exponent
        .checked_sub(i64::try_from(fraction.len()).ok()?)?
        .checked_add(i64::try_from(dropped).ok()?)?;
    Some((is_negative, significant.to_owned(), power))
}
