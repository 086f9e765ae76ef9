//! Which numbers survive as what.
//!
//! Firestore has 64-bit integers and doubles. A number from elsewhere becomes one of them only if the same digits come back;
//! else it is a text, or refused where a text would be something else. Neighbours: `cell` and `json_value` ask before they
//! store, `fill` and `variant` write the digits.

use std::fmt::Write as _;

/// A number as Firestore has it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Number {
    Integer(i64),
    Double(f64),
}

/// How the values of a decimal type are stored, all of them alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DecimalForm {
    /// Without digits after the point, and within 64 bits.
    Integer,
    /// With digits that every double keeps.
    Double,
    /// The digits.
    Text,
}

/// Decimals of so many digits become a double and come back by its shortest digits (`DBL_DIG` of C).
const DOUBLE_DIGITS: u8 = 15;
/// Decimals of so many digits are all within 64 bits.
const INTEGER_DIGITS: u8 = 18;

impl DecimalForm {
    /// The form of `decimal(precision, scale)`.
    pub(super) const fn of(precision: u8, scale: i8) -> Self {
        match (precision, scale) {
            (..=INTEGER_DIGITS, 0) => Self::Integer,
            (..=DOUBLE_DIGITS, _) => Self::Double,
            _ => Self::Text,
        }
    }
}

/// The names of what is no number.
const NAN: &str = "NaN";
const INFINITY: &str = "Infinity";
const NEGATIVE_INFINITY: &str = "-Infinity";

/// Appends the shortest digits of a double in plain notation, always with a point: `10.0`, `0.000001`; `NaN`, `Infinity`,
/// `-Infinity`.
pub(super) fn put_double(number: f64, out: &mut String) {
    if number.is_nan() {
        return out.push_str(NAN);
    }
    if number.is_infinite() {
        return out.push_str(if number > 0.0 { INFINITY } else { NEGATIVE_INFINITY });
    }
    let start = out.len();
    put_digits(number, out);
    if !out[start..].contains('.') {
        out.push_str(".0");
    }
}

/// Appends a finite double as a JSON number: with a point, or with an exponent if it is large or small.
pub(super) fn put_json_number(number: f64, out: &mut String) {
    if is_written_plain(number) {
        put_double(number, out);
    } else {
        put_exponent(number, out);
    }
}

/// Appends a double as the text form of floats has it: `1`, `1e300`, `-0`, `NaN`.
pub(super) fn put_float_text(number: f64, out: &mut String) {
    if number.is_finite() && !is_written_plain(number) {
        return put_exponent(number, out);
    }
    let start = out.len();
    put_double(number, out);
    if out[start..].ends_with(".0") {
        out.truncate(out.len() - 2);
    }
}

/// Whether the text form has no exponent.
fn is_written_plain(number: f64) -> bool {
    number == 0.0 || (1e-5..1e16).contains(&number.abs())
}

fn put_exponent(number: f64, out: &mut String) {
    write!(out, "{number:e}").expect("writing to a string does not fail");
}

/// Reads a float from its text form; `None` if it is none.
pub(super) fn parse_float_text(text: &str) -> Option<f64> {
    match text {
        NAN => Some(f64::NAN),
        INFINITY => Some(f64::INFINITY),
        NEGATIVE_INFINITY => Some(f64::NEG_INFINITY),
        _ => is_plain_number(text)
            .then(|| text.parse::<f64>().ok())
            .flatten()
            .filter(|number| number.is_finite()),
    }
}

/// Whether the point and the digits of a double stay what they are in a store that keeps JSON numbers as decimals: not -0.0,
/// nothing large or small enough to be written with an exponent anywhere.
pub(super) fn is_plain_in_json(number: f64) -> bool {
    let size = number.abs();
    (number == 0.0 && number.is_sign_positive()) || (1e-6..1e15).contains(&size)
}

/// The number that comes back as exactly `text` of a numeric column; `None` if the text itself is to be stored.
pub(super) fn of_numeric(text: &str, scratch: &mut String) -> Option<Number> {
    scratch.clear();
    if text.contains('.') || matches!(text, NAN | INFINITY | NEGATIVE_INFINITY) {
        let number = parse_float_text(text)?;
        put_double(number, scratch);
        let is_negative_zero = number == 0.0 && number.is_sign_negative();
        return (scratch == text && !is_negative_zero).then_some(Number::Double(number));
    }
    let number = text.parse::<i64>().ok()?;
    write!(scratch, "{number}").expect("writing to a string does not fail");
    (scratch == text).then_some(Number::Integer(number))
}

/// The number that a JSON number stands for, if Firestore has it: an integer of 64 bits, or a double with the same digits.
pub(super) fn of_json(text: &str, scratch: &mut String) -> Option<Number> {
    let is_whole = !text.bytes().any(|octet| matches!(octet, b'.' | b'e' | b'E'));
    if is_whole
        && text != "-0"
        && let Ok(number) = text.parse::<i64>()
    {
        return Some(Number::Integer(number));
    }
    let number = text.parse::<f64>().ok().filter(|number| number.is_finite())?;
    if has_few_digits(text) && number != 0.0 && (1e-290..1e290).contains(&number.abs()) {
        return Some(Number::Double(number));
    }
    scratch.clear();
    put_digits(number, scratch);
    (Digits::of(text) == Digits::of(scratch)).then_some(Number::Double(number))
}

/// Whether there are at most as many digits as every double keeps.
fn has_few_digits(text: &str) -> bool {
    text.bytes()
        .take_while(|octet| !matches!(octet, b'e' | b'E'))
        .filter(u8::is_ascii_digit)
        .count()
        <= usize::from(DOUBLE_DIGITS)
}

/// `[+-]digits[.digits][(e|E)[+-]digits]`, which is less than Rust reads.
fn is_plain_number(text: &str) -> bool {
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    unsigned.starts_with(|first: char| first.is_ascii_digit())
        && unsigned.ends_with(|last: char| last.is_ascii_digit())
        && unsigned
            .bytes()
            .all(|octet| matches!(octet, b'0'..=b'9' | b'.' | b'e' | b'E' | b'+' | b'-'))
}

fn put_digits(number: f64, out: &mut String) {
    write!(out, "{number}").expect("writing to a string does not fail");
}

/// A number by its value: digits without outer zeros, and the power of ten of the last one.
#[derive(PartialEq, Eq)]
struct Digits {
    is_negative: bool,
    digits: Vec<u8>,
    exponent: i64,
}

impl Digits {
    fn of(text: &str) -> Option<Self> {
        let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
        let (is_negative, mantissa) = match mantissa.strip_prefix('-') {
            Some(mantissa) => (true, mantissa),
            None => (false, mantissa),
        };
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let mut exponent = exponent.parse::<i64>().ok()? - i64::try_from(fraction.len()).ok()?;
        let mut digits: Vec<u8> = whole.bytes().chain(fraction.bytes()).collect();
        while digits.last() == Some(&b'0') {
            digits.pop();
            exponent += 1;
        }
        let zeros = digits.iter().take_while(|digit| **digit == b'0').count();
        digits.drain(..zeros);
        if digits.is_empty() {
            exponent = 0;
        }
        Some(Self {
            is_negative,
            digits,
            exponent,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_numeric_is_a_number_only_if_its_text_comes_back() {
        let mut scratch = String::new();
        for (text, expected) in [
            ("0", Some(Number::Integer(0))),
            ("-1", Some(Number::Integer(-1))),
            ("9223372036854775807", Some(Number::Integer(i64::MAX))),
            ("-9223372036854775808", Some(Number::Integer(i64::MIN))),
            ("9223372036854775808", None),
            ("007", None),
            ("+1", None),
            ("-0", None),
            ("1e5", None),
            ("10.0", Some(Number::Double(10.0))),
            ("10.5", Some(Number::Double(10.5))),
            ("10.50", None),
            ("0.0", Some(Number::Double(0.0))),
            ("-0.0", None),
            ("0.1", Some(Number::Double(0.1))),
            ("0.10000000000000000555", None),
            ("0.000001", Some(Number::Double(1e-6))),
            ("1.5e3", None),
            ("Infinity", Some(Number::Double(f64::INFINITY))),
            ("-Infinity", Some(Number::Double(f64::NEG_INFINITY))),
            ("inf", None),
        ] {
            assert_eq!(of_numeric(text, &mut scratch), expected, "{text}");
        }
        assert!(matches!(of_numeric("NaN", &mut scratch), Some(Number::Double(number)) if number.is_nan()));
        for number in [1e300, 5e-324, f64::MAX, f64::MIN_POSITIVE, 0.1 + 0.2] {
            let mut text = String::new();
            put_double(number, &mut text);
            assert_eq!(
                of_numeric(&text, &mut scratch),
                Some(Number::Double(number)),
                "{text}"
            );
        }
    }

    #[test]
    fn a_json_number_survives_or_is_none() {
        let mut scratch = String::new();
        for (text, expected) in [
            ("1", Some(Number::Integer(1))),
            ("-9223372036854775808", Some(Number::Integer(i64::MIN))),
            ("9223372036854775808", None),
            ("18446744073709551616", None),
            ("100000000000000000000", Some(Number::Double(1e20))),
            ("12345678901234567890123", None),
            ("1.0", Some(Number::Double(1.0))),
            ("1E+2", Some(Number::Double(100.0))),
            ("0.1", Some(Number::Double(0.1))),
            ("0.10", Some(Number::Double(0.1))),
            ("0.1000000000000000055511151231257827", None),
            ("9007199254740993.0", None),
            (
                "9007199254740992.0",
                Some(Number::Double(9_007_199_254_740_992.0)),
            ),
            ("1e300", Some(Number::Double(1e300))),
            ("1e400", None),
            ("1e-400", None),
            ("5e-324", Some(Number::Double(5e-324))),
            ("4e-324", None),
            ("0e5", Some(Number::Double(0.0))),
            ("0.0", Some(Number::Double(0.0))),
        ] {
            assert_eq!(of_json(text, &mut scratch), expected, "{text}");
        }
        for text in ["-0", "-0.0"] {
            let number = of_json(text, &mut scratch);
            assert!(
                matches!(number, Some(Number::Double(zero)) if zero.is_sign_negative()),
                "{text}"
            );
        }
    }

    #[test]
    fn doubles_have_the_texts_of_floats() {
        for (number, text) in [
            (0.0, "0"),
            (-0.0, "-0"),
            (1.5, "1.5"),
            (1e-5, "0.00001"),
            (1e-6, "1e-6"),
            (1e15, "1000000000000000"),
            (1e16, "1e16"),
            (1e300, "1e300"),
            (5e-324, "5e-324"),
            (f64::MAX, "1.7976931348623157e308"),
            (f64::NEG_INFINITY, "-Infinity"),
        ] {
            let mut out = String::new();
            put_float_text(number, &mut out);
            assert_eq!(out, text);
            assert_eq!(parse_float_text(text).unwrap().to_bits(), number.to_bits());
        }
        for bad in [
            "", "inf", "nan", "infinity", "1e", ".5", "5.", "1e400", "0x1", "1_0", " 1",
        ] {
            assert_eq!(parse_float_text(bad), None, "{bad}");
        }
    }

    #[test]
    fn decimals_are_numbers_as_long_as_their_digits_survive() {
        for (precision, scale, form) in [
            (1, 0, DecimalForm::Integer),
            (18, 0, DecimalForm::Integer),
            (19, 0, DecimalForm::Text),
            (15, 2, DecimalForm::Double),
            (15, 15, DecimalForm::Double),
            (16, 2, DecimalForm::Text),
            (38, 10, DecimalForm::Text),
        ] {
            assert_eq!(DecimalForm::of(precision, scale), form);
        }
    }
}
