//! Decimals of a fixed precision and scale: always exactly `scale` digits after the point.
//!
//! Nothing is rounded: a number with more digits after the point is read only if they are zeros, and one with
//! more digits in all than the precision is refused. Exponents are read and never written. The arithmetic is
//! on magnitudes of up to 256 bits in chunks of nineteen digits, since Arrow's own formatting allocates.

use arrow_buffer::i256;

use super::ascii::{Ascii, Sink};
use super::number::split_number;

/// 10^19, the largest power of ten in 64 bits.
const CHUNK: u64 = 10_000_000_000_000_000_000;
const CHUNK_DIGITS: usize = 19;
/// Five chunks are 95 digits; 2^256 has 78.
const CHUNKS_MAX: usize = 5;
/// Digits in the low part of a [`Magnitude`], and the most that an `i128` always holds.
const LOW_DIGITS: usize = 38;
const LOW_LIMIT: u128 = 10_u128.pow(LOW_DIGITS as u32);

pub(crate) fn put_decimal128(value: i128, scale: i8, out: &mut impl Sink) {
    let magnitude = value.unsigned_abs();
    // Most decimals fit 64 bits, where a division costs a tenth.
    if let Ok(small) = u64::try_from(magnitude) {
        let mut digits = Ascii::new();
        digits.padded(small, 1);
        return put_digits(value < 0, digits.as_slice(), scale, out);
    }
    let chunk = u128::from(CHUNK);
    let chunks = [
        (magnitude % chunk) as u64,
        (magnitude / chunk % chunk) as u64,
        (magnitude / chunk / chunk) as u64,
    ];
    put_chunks(value < 0, &chunks, scale, out);
}

pub(crate) fn put_decimal256(value: i256, scale: i8, out: &mut impl Sink) {
    // Two's complement: the magnitude of the lowest value is its own wrapped negative, read without a sign.
    let is_negative = value.is_negative();
    let magnitude = if is_negative { value.wrapping_neg() } else { value };
    let (low, high) = magnitude.to_parts();
    let high = high as u128;
    let mut limbs = [low as u64, (low >> 64) as u64, high as u64, (high >> 64) as u64];
    let mut chunks = [0; CHUNKS_MAX];
    for chunk in &mut chunks {
        *chunk = divide(&mut limbs);
    }
    put_chunks(is_negative, &chunks, scale, out);
}

/// Reads a decimal of at most 38 digits into its unscaled value.
pub(crate) fn read_decimal128(text: &str, precision: u8, scale: i8) -> Option<i128> {
    let magnitude = read_magnitude(text, precision, scale)?;
    if magnitude.high != 0 {
        return None;
    }
    let value = i128::try_from(magnitude.low).ok()?;
    Some(if magnitude.is_negative { -value } else { value })
}

/// Reads a decimal of at most 76 digits into its unscaled value.
pub(crate) fn read_decimal256(text: &str, precision: u8, scale: i8) -> Option<i256> {
    let magnitude = read_magnitude(text, precision, scale)?;
    let part = |value: u128| i128::try_from(value).ok().map(i256::from_i128);
    let value = part(magnitude.high)?
        .wrapping_mul(part(LOW_LIMIT)?)
        .wrapping_add(part(magnitude.low)?);
    Some(if magnitude.is_negative {
        value.wrapping_neg()
    } else {
        value
    })
}

/// `high * 10^38 + low`, both below 10^38.
struct Magnitude {
    is_negative: bool,
    high: u128,
    low: u128,
}

fn read_magnitude(text: &str, precision: u8, scale: i8) -> Option<Magnitude> {
    let written = split_number(text)?;
    let len = written.whole.len() + written.fraction.len();
    let digit = |index: usize| match written.whole.get(index) {
        Some(digit) => *digit,
        None => written.fraction[index - written.whole.len()],
    };
    // Zeros at either end carry no value, so any number of them is read.
    let Some(first) = (0..len).find(|index| digit(*index) != b'0') else {
        return Some(Magnitude {
            is_negative: false,
            high: 0,
            low: 0,
        });
    };
    let last = (first..len).rfind(|index| digit(*index) != b'0').unwrap_or(first);
    let significant = last - first + 1;
    let trailing = i64::try_from(len - 1 - last).ok()?;
    let shift = trailing + written.exponent - i64::try_from(written.fraction.len()).ok()? + i64::from(scale);
    // A negative shift would cut off digits.
    let shift = usize::try_from(shift).ok()?;
    let total = significant.checked_add(shift)?;
    if total > usize::from(precision) || total > 2 * LOW_DIGITS {
        return None;
    }
    let (mut high, mut low) = (0_u128, 0_u128);
    for place in 0..total {
        let value = if place < significant {
            u128::from(digit(first + place) - b'0')
        } else {
            0
        };
        let part = if total - place > LOW_DIGITS {
            &mut high
        } else {
            &mut low
        };
        *part = *part * 10 + value;
    }
    Some(Magnitude {
        is_negative: written.is_negative,
        high,
        low,
    })
}

/// Divides a little-endian number by [`CHUNK`] in place and hands back the remainder.
fn divide(limbs: &mut [u64; 4]) -> u64 {
    let mut remainder = 0;
    for limb in limbs.iter_mut().rev() {
        let value = u128::from(remainder) << 64 | u128::from(*limb);
        *limb = (value / u128::from(CHUNK)) as u64;
        remainder = (value % u128::from(CHUNK)) as u64;
    }
    remainder
}

/// Writes chunks of nineteen digits, the lowest first.
fn put_chunks(is_negative: bool, chunks: &[u64], scale: i8, out: &mut impl Sink) {
    let mut digits = Ascii::new();
    let highest = chunks.iter().rposition(|chunk| *chunk != 0).unwrap_or(0);
    for (index, chunk) in chunks[..=highest].iter().enumerate().rev() {
        digits.padded(*chunk, if index == highest { 1 } else { CHUNK_DIGITS });
    }
    put_digits(is_negative, digits.as_slice(), scale, out);
}

/// Writes the digits of an unscaled value with the point where the scale has it.
fn put_digits(is_negative: bool, digits: &[u8], scale: i8, out: &mut impl Sink) {
    // Record types have no negative scale.
    let scale = usize::try_from(scale).unwrap_or(0);
    let mut ascii = Ascii::new();
    if is_negative {
        ascii.push(b'-');
    }
    let whole = digits.len().saturating_sub(scale);
    if whole == 0 {
        ascii.push(b'0');
    } else {
        ascii.extend(&digits[..whole]);
    }
    if scale > 0 {
        ascii.push(b'.');
        ascii.zeros(scale.saturating_sub(digits.len()));
        ascii.extend(&digits[whole..]);
    }
    out.ascii(ascii.as_slice());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text128(value: i128, scale: i8) -> String {
        let mut out = String::new();
        put_decimal128(value, scale, &mut out);
        out
    }

    fn text256(value: &str, scale: i8) -> String {
        let mut out = String::new();
        put_decimal256(value.parse().unwrap(), scale, &mut out);
        out
    }

    #[test]
    fn there_are_always_as_many_digits_after_the_point_as_the_scale() {
        for (value, scale, text) in [
            (0, 0, "0"),
            (0, 2, "0.00"),
            (5, 2, "0.05"),
            (-5, 2, "-0.05"),
            (150, 2, "1.50"),
            (-12_345, 5, "-0.12345"),
            (7, 38, "0.00000000000000000000000000000000000007"),
            (i128::from(u64::MAX), 0, "18446744073709551615"),
            (i128::from(u64::MAX) + 1, 3, "18446744073709551.616"),
            (10_i128.pow(37), 0, "10000000000000000000000000000000000000"),
            (
                -(10_i128.pow(38) - 1),
                38,
                "-0.99999999999999999999999999999999999999",
            ),
        ] {
            assert_eq!(text128(value, scale), text);
            assert_eq!(read_decimal128(text, 38, scale), Some(value));
            assert_eq!(text256(&value.to_string(), scale), text);
            assert_eq!(read_decimal256(text, 76, scale), Some(i256::from_i128(value)));
        }
    }

    #[test]
    fn seventy_six_digits_come_back() {
        let nines = "9".repeat(76);
        let mixed = "1234567890".repeat(8)[..76].to_owned();
        let sparse = format!("1{}", "0".repeat(75));
        for digits in [&nines, &mixed, &sparse] {
            for sign in ["", "-"] {
                let whole = format!("{sign}{digits}");
                assert_eq!(text256(&whole, 0), whole);
                assert_eq!(read_decimal256(&whole, 76, 0), Some(whole.parse().unwrap()));
                let fraction = format!("{sign}0.{digits}");
                assert_eq!(text256(&whole, 76), fraction);
                assert_eq!(read_decimal256(&fraction, 76, 76), Some(whole.parse().unwrap()));
            }
        }
        assert_eq!(read_decimal256(&format!("{nines}9"), 76, 0), None);
        assert_eq!(read_decimal128(&"9".repeat(39), 38, 0), None);
    }

    #[test]
    fn values_beyond_the_precision_are_written_whole() {
        assert_eq!(text128(i128::MIN, 0), i128::MIN.to_string());
        for value in [i256::MIN, i256::MAX] {
            assert_eq!(text256(&value.to_string(), 0), value.to_string());
        }
    }

    #[test]
    fn nothing_is_rounded() {
        for (text, value) in [
            ("1.5", Some(150)),
            ("1.50000000000000000000000000000000000000000000000000", Some(150)),
            ("00000000000000000000000000000000000000000000000001", Some(100)),
            ("+1", Some(100)),
            ("-0", Some(0)),
            ("15e-1", Some(150)),
            ("0.0015E3", Some(150)),
            ("0e999999999999999999999", Some(0)),
            ("99.99", Some(9_999)),
            ("1.505", None),
            ("1e-3", None),
            ("100", None),
            ("1e2", None),
            ("1e999999999999999999999", None),
            ("1e-999999999999999999999", None),
            ("NaN", None),
            ("", None),
            (".5", None),
            ("1.", None),
            ("1,5", None),
        ] {
            assert_eq!(read_decimal128(text, 4, 2), value, "{text}");
            assert_eq!(read_decimal256(text, 4, 2), value.map(i256::from_i128), "{text}");
        }
    }
}
