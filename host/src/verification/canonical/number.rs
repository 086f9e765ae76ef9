//! The one class of exact numbers: integers and decimals of every width, so that 1 = 1.00 = 1e0.
//!
//! A number is a mantissa without zeros at its end, times a power of ten. Mantissas below 2^64 are eight octets, longer ones
//! their digits. Neighbours: `super` calls it for columns, `json` for the numbers in JSON.

use std::io::Write as _;

use whimbrel_plugin_api::Result;
use whimbrel_plugin_api::arrow_buffer::i256;

use super::{bad_value, put_len};

/// The first octet of a number: the sign, and whether the mantissa is written in digits.
const NEGATIVE: u8 = 1;
const DIGITS: u8 = 2;
/// What is no number, in place of that octet; nothing follows.
pub(super) const NAN: u8 = 0x10;
pub(super) const INFINITY: u8 = 0x11;
pub(super) const NEGATIVE_INFINITY: u8 = 0x12;

/// Exponents beyond this are not numbers that any system here can hold.
const EXPONENT_MAX: i64 = 1_000_000;

/// Writes `value`.
#[inline]
pub(super) fn put_int(value: i64, out: &mut Vec<u8>) {
    put_short(value < 0, value.unsigned_abs(), 0, out);
}

/// Writes `value` times ten to the power of minus `scale`.
#[inline]
pub(super) fn put_decimal128(value: i128, scale: i8, out: &mut Vec<u8>) {
    let magnitude = value.unsigned_abs();
    match u64::try_from(magnitude) {
        Ok(mantissa) => put_short(value < 0, mantissa, -i32::from(scale), out),
        Err(_) => put_long(value < 0, magnitude, -i32::from(scale), out),
    }
}

/// Writes `value` times ten to the power of minus `scale`.
pub(super) fn put_decimal256(value: i256, scale: i8, out: &mut Vec<u8>) -> Result<()> {
    if let Some(value) = value.to_i128() {
        put_decimal128(value, scale, out);
        return Ok(());
    }
    put_text(&format!("{value}e-{scale}"), false, out)
}

#[inline]
fn put_short(is_negative: bool, mut mantissa: u64, mut exponent: i32, out: &mut Vec<u8>) {
    // What is odd has no zero at its end.
    while mantissa & 1 == 0 && mantissa != 0 && mantissa.is_multiple_of(10) {
        mantissa /= 10;
        exponent += 1;
    }
    put_parts(is_negative && mantissa != 0, mantissa, exponent, out);
}

#[inline]
fn put_parts(is_negative: bool, mantissa: u64, exponent: i32, out: &mut Vec<u8>) {
    let exponent = if mantissa == 0 { 0 } else { exponent };
    let mut octets = [0; 13];
    octets[0] = u8::from(is_negative) * NEGATIVE;
    octets[1..5].copy_from_slice(&exponent.to_be_bytes());
    octets[5..].copy_from_slice(&mantissa.to_be_bytes());
    out.extend_from_slice(&octets);
}

fn put_long(is_negative: bool, mut mantissa: u128, mut exponent: i32, out: &mut Vec<u8>) {
    while mantissa & 1 == 0 && mantissa.is_multiple_of(10) {
        mantissa /= 10;
        exponent += 1;
    }
    if let Ok(mantissa) = u64::try_from(mantissa) {
        put_parts(is_negative, mantissa, exponent, out);
        return;
    }
    let at = begin_digits(is_negative, exponent, out);
    write!(out, "{mantissa}").expect("memory takes what is written to it");
    end_digits(at, out);
}

fn begin_digits(is_negative: bool, exponent: i32, out: &mut Vec<u8>) -> usize {
    out.push(DIGITS | (u8::from(is_negative) * NEGATIVE));
    out.extend_from_slice(&exponent.to_be_bytes());
    out.extend_from_slice(&[0; 4]);
    out.len()
}

fn end_digits(at: usize, out: &mut [u8]) {
    put_len(out.len() - at, &mut out[at - 4..at]);
}

/// Writes the number that `text` spells: sign, digits with a point among them, exponent. A zero keeps its sign only if it
/// `keeps_negative_zero`.
pub(super) fn put_text(text: &str, keeps_negative_zero: bool, out: &mut Vec<u8>) -> Result<()> {
    let Spelled {
        is_negative,
        whole,
        fraction,
        mut exponent,
    } = spelled(text).ok_or_else(|| bad_value("number"))?;
    let mut mantissa = Some(0_u64);
    // Zeros count once another digit comes behind them.
    let mut zeros = 0_u32;
    for digit in whole.iter().chain(fraction) {
        if *digit == b'0' {
            zeros += 1;
            continue;
        }
        mantissa = mantissa.and_then(|mantissa| appended(mantissa, zeros, *digit));
        zeros = 0;
        if mantissa.is_none() {
            break;
        }
    }
    if let Some(mantissa) = mantissa {
        exponent += i64::from(zeros);
        let is_negative = is_negative && (mantissa != 0 || keeps_negative_zero);
        let exponent = if mantissa == 0 { 0 } else { narrowed(exponent)? };
        put_parts(is_negative, mantissa, exponent, out);
        return Ok(());
    }
    let before = out.len();
    let at = begin_digits(is_negative, 0, out);
    let digits = whole.iter().chain(fraction).skip_while(|digit| **digit == b'0');
    out.extend(digits);
    while out.last() == Some(&b'0') {
        out.pop();
        exponent += 1;
    }
    out[before + 1..before + 5].copy_from_slice(&narrowed(exponent)?.to_be_bytes());
    end_digits(at, out);
    Ok(())
}

/// `mantissa` with so many zeros and `digit` behind it; `None` if that is 2^64 or more.
#[inline]
fn appended(mantissa: u64, zeros: u32, digit: u8) -> Option<u64> {
    let factor = if mantissa == 0 {
        1
    } else {
        10_u64.checked_pow(zeros + 1)?
    };
    mantissa.checked_mul(factor)?.checked_add(u64::from(digit - b'0'))
}

fn narrowed(exponent: i64) -> Result<i32> {
    i32::try_from(exponent).map_err(|_| bad_value("number"))
}

/// The parts of a number's text.
struct Spelled<'a> {
    is_negative: bool,
    whole: &'a [u8],
    fraction: &'a [u8],
    /// Of the last digit.
    exponent: i64,
}

fn spelled(text: &str) -> Option<Spelled<'_>> {
    let (is_negative, rest) = match text.as_bytes() {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        rest => (false, rest),
    };
    let digits = |from: &[u8]| from.iter().take_while(|octet| octet.is_ascii_digit()).count();
    let (whole, rest) = rest.split_at(digits(rest));
    let (fraction, rest) = match rest {
        [b'.', rest @ ..] => rest.split_at(digits(rest)),
        rest => (&rest[..0], rest),
    };
    let exponent = match rest {
        [] => 0,
        [b'e' | b'E', rest @ ..] => std::str::from_utf8(rest).ok()?.parse::<i64>().ok()?,
        _ => return None,
    };
    if (whole.is_empty() && fraction.is_empty()) || exponent.unsigned_abs() > EXPONENT_MAX.unsigned_abs() {
        return None;
    }
    Some(Spelled {
        is_negative,
        whole,
        fraction,
        exponent: exponent - fraction.len() as i64,
    })
}
