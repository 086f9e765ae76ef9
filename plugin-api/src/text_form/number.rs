//! Floats and the grammar of numbers.
//!
//! A float is written as the shortest decimal number that reads back as the same bits: plain from 1e-5 up to
//! 1e16, with an exponent outside (`5e-324`), an integral one without a point (`1`, `-0`), and `NaN`,
//! `Infinity`, `-Infinity`. All NaNs are one. The digits are those of `serde_json`, which this crate has
//! anyway; a test pins the layout. Neighbour: `decimal` gives exact numbers their value.

use serde_json::ser::{CompactFormatter, Formatter};

use super::ascii::{Reader, Sink};

pub(crate) const NAN: &str = "NaN";
pub(crate) const POSITIVE_INFINITY: &str = "Infinity";
pub(crate) const NEGATIVE_INFINITY: &str = "-Infinity";

/// A number as it was written: `[+-]digits[.digits][(e|E)[+-]digits]`, digits required where the grammar has
/// them.
pub(crate) struct Written<'t> {
    pub(crate) is_negative: bool,
    pub(crate) whole: &'t [u8],
    pub(crate) fraction: &'t [u8],
    /// Saturates at plus or minus [`EXPONENT_MAX`].
    pub(crate) exponent: i64,
}

/// Beyond this an exponent makes no difference: no number of ours has a billion digits.
const EXPONENT_MAX: i64 = 1_000_000_000;

/// Takes a number apart; `None` if it is none.
pub(crate) fn split_number(text: &str) -> Option<Written<'_>> {
    let mut reader = Reader::new(text.as_bytes());
    let is_negative = reader.sign().unwrap_or(false);
    let whole = reader.digits();
    let has_point = reader.eat(b'.');
    let fraction = if has_point { reader.digits() } else { &[] };
    if whole.is_empty() || has_point && fraction.is_empty() {
        return None;
    }
    let mut exponent = 0;
    if reader.eat(b'e') || reader.eat(b'E') {
        let is_exponent_negative = reader.sign().unwrap_or(false);
        let digits = reader.digits();
        if digits.is_empty() {
            return None;
        }
        for digit in digits {
            exponent = (exponent * 10 + i64::from(digit - b'0')).min(EXPONENT_MAX);
        }
        if is_exponent_negative {
            exponent = -exponent;
        }
    }
    reader.is_at_end().then_some(Written {
        is_negative,
        whole,
        fraction,
        exponent,
    })
}

/// Whether `text` is a value of the type `numeric`.
pub(crate) fn is_numeric(text: &str) -> bool {
    is_special(text) || split_number(text).is_some()
}

/// Whether `text` names a value that is not a number.
pub(crate) fn is_special(text: &str) -> bool {
    matches!(text, NAN | POSITIVE_INFINITY | NEGATIVE_INFINITY)
}

/// The name of a value that is not a number, or `None` if it is one.
pub(crate) const fn special(value: f64) -> Option<&'static str> {
    if value.is_nan() {
        Some(NAN)
    } else if value.is_infinite() {
        Some(if value > 0.0 {
            POSITIVE_INFINITY
        } else {
            NEGATIVE_INFINITY
        })
    } else {
        None
    }
}

/// A float of either width.
pub(crate) trait Float: Copy + Into<f64> + std::str::FromStr {
    /// The one NaN.
    const ONE_NAN: Self;
    /// Writes a finite value as a JSON number, with a point if it has no exponent.
    fn write_json(self, out: &mut &mut [u8]) -> std::io::Result<()>;
}

impl Float for f32 {
    const ONE_NAN: Self = Self::NAN;

    fn write_json(self, out: &mut &mut [u8]) -> std::io::Result<()> {
        CompactFormatter.write_f32(out, self)
    }
}

impl Float for f64 {
    const ONE_NAN: Self = Self::NAN;

    fn write_json(self, out: &mut &mut [u8]) -> std::io::Result<()> {
        CompactFormatter.write_f64(out, self)
    }
}

/// Appends the text form of a float.
pub(crate) fn put_float<F: Float>(value: F, out: &mut impl Sink) {
    if let Some(name) = special(value.into()) {
        return out.text(name);
    }
    with_json_float(value, |text| {
        out.ascii(text.strip_suffix(b".0").unwrap_or(text));
    });
}

/// Hands the JSON number of a finite float to `take`.
pub(crate) fn with_json_float<F: Float>(value: F, take: impl FnOnce(&[u8])) {
    // The longest is a sign, 17 digits, a point, and an exponent with its sign and three digits.
    let mut octets = [0; 32];
    let mut rest = octets.as_mut_slice();
    value.write_json(&mut rest).expect("32 octets hold every float");
    let mut len = 32 - rest.len();
    // Versions of `serde_json` differ in whether they put a plus into an exponent; the canonical text has
    // none.
    if let Some(plus) = octets[..len].iter().position(|octet| *octet == b'+') {
        octets.copy_within(plus + 1..len, plus);
        len -= 1;
    }
    take(&octets[..len]);
}

/// Reads a float, rounding to the nearest; `None` if it is no number or too large for the type.
pub(crate) fn read_float<F: Float>(text: &str) -> Option<F> {
    match text {
        NAN => Some(F::ONE_NAN),
        // Rust reads these two under the same names.
        POSITIVE_INFINITY | NEGATIVE_INFINITY => text.parse().ok(),
        _ => {
            split_number(text)?;
            text.parse::<F>().ok().filter(|value| (*value).into().is_finite())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text<F: Float>(value: F) -> String {
        let mut out = String::new();
        put_float(value, &mut out);
        out
    }

    #[test]
    fn floats_have_a_fixed_layout_and_come_back_bit_by_bit() {
        for (value, expected) in [
            (0.0, "0"),
            (-0.0, "-0"),
            (1.0, "1"),
            (-1.5, "-1.5"),
            (0.1, "0.1"),
            (1e-5, "0.00001"),
            (1e-6, "1e-6"),
            (1e15, "1000000000000000"),
            (1e16, "1e16"),
            (123_456_789_012_345_680.0, "1.2345678901234568e17"),
            (9_007_199_254_740_993.0, "9007199254740992"),
            (5e-324, "5e-324"),
            (f64::MAX, "1.7976931348623157e308"),
            (f64::MIN_POSITIVE, "2.2250738585072014e-308"),
            (f64::INFINITY, "Infinity"),
            (f64::NEG_INFINITY, "-Infinity"),
        ] {
            assert_eq!(text(value), expected);
            assert_eq!(read_float::<f64>(expected).unwrap().to_bits(), value.to_bits());
        }
        assert_eq!(text(0.1_f32), "0.1");
        assert_eq!(text(f32::MAX), "3.4028235e38");
        assert_eq!(text(1e-45_f32), "1e-45");
        assert_eq!(read_float::<f32>("1e-45").unwrap().to_bits(), 1);
    }

    #[test]
    fn every_nan_is_the_same() {
        for bits in [
            0x7ff8_0000_0000_0000,
            0xfff8_0000_0000_0001,
            0x7ff0_0000_0000_0001_u64,
        ] {
            assert_eq!(text(f64::from_bits(bits)), "NaN");
        }
        assert_eq!(read_float::<f64>("NaN").unwrap().to_bits(), f64::NAN.to_bits());
    }

    #[test]
    fn what_is_no_number_is_no_float() {
        for bad in [
            "", "-", ".5", "5.", "1e", "1e+", "e5", "0x1", "inf", "infinity", "nan", "+NaN", "1_000", " 1",
            "1 ", "1,5", "١",
        ] {
            assert!(read_float::<f64>(bad).is_none(), "{bad}");
            assert!(!is_numeric(bad), "{bad}");
        }
    }

    #[test]
    fn a_number_too_large_does_not_become_an_infinity() {
        assert!(read_float::<f64>("1e309").is_none());
        assert!(read_float::<f32>("1e39").is_none());
        assert!(read_float::<f32>("-1e39").is_none());
        assert!(is_numeric("1e309"));
    }

    #[test]
    fn an_exponent_of_any_length_is_read() {
        let written = split_number("1e-99999999999999999999999999").unwrap();
        assert_eq!(written.exponent, -EXPONENT_MAX);
    }
}
