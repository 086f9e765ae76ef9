//! Which record type can hold a number of a JSON text without rounding it.
//!
//! A float is exact here if the shortest text that reads back as that float is numerically what was written.
//! Neighbour: [`crate::scan`], which calls this for each number of a record's own members.

use std::io::Write as _;

use crate::kinds::Kinds;
use crate::scan::{Fault, Scan, ScanError};

/// Digits before the point that Postgres `numeric`, the widest of the systems, can hold. Source: its manual, 8.1.2.
const DIGITS_BEFORE_POINT_MAX: i64 = 131_072;
/// Digits after the point, from the same place.
const DIGITS_AFTER_POINT_MAX: i64 = 16_383;
/// Decimal digits that survive text -> f64 -> text for every value (`f64::DIGITS`).
const DIGITS_SAFE: usize = f64::DIGITS as usize;
/// Decimal digits of the longest shortest text of an f64.
const DIGITS_SHORTEST_MAX: usize = 17;
/// Decimal exponents between which every f64 has its full precision; narrower than the true range of -307 to 308.
const EXPONENTS_SAFE: std::ops::RangeInclusive<i64> = -300..=300;
/// The largest integer up to which each integer is a float.
const INT_53_MAX: u128 = 1 << 53;

/// The parts of a number, as indexes.
struct Parts {
    integer: (usize, usize),
    fraction: (usize, usize),
    /// The written exponent, at most this far from zero: 2^40.
    exponent: i64,
    is_negative: bool,
    is_integer: bool,
    end: usize,
}

/// Index after the number at `at`.
pub(crate) fn skip(octets: &[u8], at: usize) -> Scan<usize> {
    parts(octets, at).map(|parts| parts.end)
}

/// Index after the number at `at`, and its kind.
pub(crate) fn classify(octets: &[u8], at: usize) -> Scan<(usize, Kinds)> {
    let parts = parts(octets, at)?;
    let kinds = if parts.is_integer {
        integer(octets, &parts)
    } else {
        fractional(octets, at, &parts)
    };
    Ok((parts.end, kinds))
}

#[inline]
fn parts(octets: &[u8], start: usize) -> Scan<Parts> {
    let expected = |at: usize, what| ScanError {
        at,
        fault: if at >= octets.len() {
            Fault::Incomplete
        } else {
            Fault::Malformed(what)
        },
    };
    let mut at = start;
    let is_negative = octets.get(at) == Some(&b'-');
    at += usize::from(is_negative);
    let integer_start = at;
    at = digits_end(octets, at);
    if at == integer_start {
        return Err(expected(at, "a digit"));
    }
    if octets[integer_start] == b'0' && at > integer_start + 1 {
        return Err(expected(integer_start, "no zero before other digits"));
    }
    let integer = (integer_start, at);
    let mut fraction = (at, at);
    let mut is_integer = true;
    if octets.get(at) == Some(&b'.') {
        is_integer = false;
        fraction = (at + 1, digits_end(octets, at + 1));
        at = fraction.1;
        if fraction.0 == fraction.1 {
            return Err(expected(at, "a digit"));
        }
    }
    let mut exponent = 0_i64;
    if let Some(b'e' | b'E') = octets.get(at) {
        is_integer = false;
        at += 1;
        let is_minus = octets.get(at) == Some(&b'-');
        at += usize::from(matches!(octets.get(at), Some(b'+' | b'-')));
        let exponent_start = at;
        while let Some(digit @ b'0'..=b'9') = octets.get(at) {
            exponent = (exponent * 10 + i64::from(digit - b'0')).min(1 << 40);
            at += 1;
        }
        if at == exponent_start {
            return Err(expected(at, "a digit"));
        }
        if is_minus {
            exponent = -exponent;
        }
    }
    Ok(Parts {
        integer,
        fraction,
        exponent,
        is_negative,
        is_integer,
        end: at,
    })
}

#[inline]
fn digits_end(octets: &[u8], mut at: usize) -> usize {
    while let Some(b'0'..=b'9') = octets.get(at) {
        at += 1;
    }
    at
}

fn integer(octets: &[u8], parts: &Parts) -> Kinds {
    let digits = &octets[parts.integer.0..parts.integer.1];
    if parts.is_negative && digits == b"0" {
        return Kinds::NEGATIVE_ZERO;
    }
    match digits.len() {
        0..=15 => Kinds::INT_53,
        16..=20 => {
            let magnitude = digits
                .iter()
                .fold(0_u128, |sum, digit| sum * 10 + u128::from(digit - b'0'));
            let int_64_max = i64::MAX as u128 + u128::from(parts.is_negative);
            match magnitude {
                _ if magnitude <= INT_53_MAX => Kinds::INT_53,
                _ if magnitude <= int_64_max => Kinds::INT_64,
                _ if !parts.is_negative && magnitude <= u128::from(u64::MAX) => Kinds::UNSIGNED_64,
                _ => Kinds::DECIMAL,
            }
        }
        count if count as i64 <= DIGITS_BEFORE_POINT_MAX => Kinds::DECIMAL,
        _ => Kinds::HUGE,
    }
}

fn fractional(octets: &[u8], start: usize, parts: &Parts) -> Kinds {
    let Some(written) = Decimal::of(octets, parts) else {
        return if parts.is_negative {
            Kinds::NEGATIVE_ZERO
        } else {
            Kinds::FLOAT
        };
    };
    if written.count <= DIGITS_SAFE && EXPONENTS_SAFE.contains(&written.exponent) {
        return Kinds::FLOAT;
    }
    if written.count <= DIGITS_SHORTEST_MAX && is_shortest(&octets[start..parts.end], &written) {
        return Kinds::FLOAT;
    }
    // Digits behind the point as written, since a `numeric` keeps trailing zeros.
    let behind_point = (parts.fraction.1 - parts.fraction.0) as i64 - parts.exponent;
    if written.exponent < DIGITS_BEFORE_POINT_MAX && behind_point <= DIGITS_AFTER_POINT_MAX {
        Kinds::DECIMAL
    } else {
        Kinds::HUGE
    }
}

/// Whether `text` reads as a float whose shortest text is numerically `written`.
fn is_shortest(text: &[u8], written: &Decimal) -> bool {
    let value = std::str::from_utf8(text)
        .ok()
        .and_then(|text| text.parse::<f64>().ok());
    let Some(value) = value.filter(|value| value.is_finite() && *value != 0.0) else {
        return false;
    };
    // `{:e}` prints the shortest digits, at most 17 of them: `-1.2345678901234567e-308` is 24 octets.
    let mut room = [0_u8; 32];
    let mut rest = &mut room[..];
    if write!(rest, "{value:e}").is_err() {
        return false;
    }
    let left = rest.len();
    let shortest = &room[..room.len() - left];
    parts(shortest, 0)
        .ok()
        .and_then(|parts| Decimal::of(shortest, &parts))
        .is_some_and(|shortest| shortest == *written)
}

/// The significant digits of a number, and the power of ten of the first; never zero.
#[derive(PartialEq, Eq)]
struct Decimal {
    digits: [u8; DIGITS_SHORTEST_MAX],
    /// How many there are in all, also when there are more than `digits` holds.
    count: usize,
    exponent: i64,
}

impl Decimal {
    fn of(octets: &[u8], parts: &Parts) -> Option<Self> {
        let integer = &octets[parts.integer.0..parts.integer.1];
        let fraction = &octets[parts.fraction.0..parts.fraction.1];
        let mut decimal = Self {
            digits: [0; DIGITS_SHORTEST_MAX],
            count: 0,
            exponent: 0,
        };
        // Digits since the first that is not zero, and how far the last that is not zero was.
        let mut seen = 0;
        for (index, digit) in integer.iter().chain(fraction).enumerate() {
            if seen == 0 {
                if *digit == b'0' {
                    continue;
                }
                decimal.exponent = integer.len() as i64 - 1 - index as i64 + parts.exponent;
            }
            if let Some(place) = decimal.digits.get_mut(seen) {
                *place = digit - b'0';
            }
            seen += 1;
            if *digit != b'0' {
                decimal.count = seen;
            }
        }
        (decimal.count > 0).then_some(decimal)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn kind(text: &str) -> Kinds {
        let (end, kinds) = classify(text.as_bytes(), 0).unwrap();
        assert_eq!(end, text.len());
        kinds
    }

    #[test]
    fn integers_fall_into_the_narrowest_kind_that_holds_them() {
        for (text, expected) in [
            ("0", Kinds::INT_53),
            ("-0", Kinds::NEGATIVE_ZERO),
            ("9007199254740992", Kinds::INT_53),
            ("-9007199254740992", Kinds::INT_53),
            ("9007199254740993", Kinds::INT_64),
            ("9223372036854775807", Kinds::INT_64),
            ("-9223372036854775808", Kinds::INT_64),
            ("-9223372036854775809", Kinds::DECIMAL),
            ("9223372036854775808", Kinds::UNSIGNED_64),
            ("18446744073709551615", Kinds::UNSIGNED_64),
            ("18446744073709551616", Kinds::DECIMAL),
            ("99999999999999999999999", Kinds::DECIMAL),
        ] {
            assert_eq!(kind(text), expected, "{text}");
        }
        assert_eq!(kind(&"9".repeat(131_072)), Kinds::DECIMAL);
        assert_eq!(kind(&"9".repeat(131_073)), Kinds::HUGE);
    }

    #[test]
    fn a_float_is_one_only_if_nothing_is_rounded() {
        for exact in [
            "0.1",
            "1.0",
            "1e2",
            "1E+2",
            "-1.5",
            "0.10",
            "100.00",
            "5e-324",
            "1.7976931348623157e308",
            "1e23",
            "0e9",
            "0.30000000000000004",
            "123456789012345e-5",
            "2.2250738585072014e-308",
            "1e300",
            "1e-300",
            "0.0000001",
        ] {
            assert_eq!(kind(exact), Kinds::FLOAT, "{exact}");
        }
        for rounded in [
            "0.1000000000000000055511151231257827",
            "1e400",
            "-1e400",
            "1e-400",
            "0.30000000000000000001",
            "9007199254740993.0",
            "4e-324",
            "1.00000000000000001",
            "123456789.123456789012",
        ] {
            assert_eq!(kind(rounded), Kinds::DECIMAL, "{rounded}");
        }
        for zero in ["-0.0", "-0e5", "-0.000e-7"] {
            assert_eq!(kind(zero), Kinds::NEGATIVE_ZERO, "{zero}");
        }
        for huge in [
            "1e131072",
            "1e999999999999999999999",
            "1e-16384",
            "1e-99999999999999999999",
        ] {
            assert_eq!(kind(huge), Kinds::HUGE, "{huge}");
        }
        assert_eq!(kind("1e131071"), Kinds::DECIMAL);
        assert_eq!(kind("1e-16383"), Kinds::DECIMAL);
    }

    proptest! {
        #[test]
        fn the_shortest_text_of_every_float_is_a_float(bits in any::<u64>()) {
            let value = f64::from_bits(bits);
            prop_assume!(value.is_finite());
            let expected = if value == 0.0 && value.is_sign_negative() { Kinds::NEGATIVE_ZERO } else { Kinds::FLOAT };
            prop_assert_eq!(kind(&format!("{value:e}")), expected);
        }

        #[test]
        fn a_number_said_to_be_a_float_reads_back_as_written(integer in 0_u64.., fraction in 0_u64.., exponent in -340_i32..340) {
            let text = format!("{integer}.{fraction}e{exponent}");
            let value: f64 = text.parse().unwrap();
            // Compared by a road of its own: the written number in full digits against the shortest text.
            let trimmed = |text: &str| -> (String, i64) {
                let (mantissa, exponent) = text.split_once('e').unwrap();
                let (before, after) = mantissa.split_once('.').unwrap_or((mantissa, ""));
                let digits = format!("{before}{after}");
                let lead = digits.len() - digits.trim_start_matches('0').len();
                (
                    digits.trim_matches('0').to_owned(),
                    exponent.parse::<i64>().unwrap() + before.len() as i64 - lead as i64,
                )
            };
            let is_exact = value.is_finite() && trimmed(&text).0.is_empty()
                || value.is_finite() && value != 0.0 && trimmed(&text) == trimmed(&format!("{value:e}"));
            prop_assert_eq!(kind(&text) == Kinds::FLOAT, is_exact, "{}", text);
        }
    }
}
