//! Numbers to the server: from integers, decimals of a fixed scale, and text.
//!
//! Groups without digits are left out at both ends, as the server leaves them out. Neighbour: `read` is the way back.

use whimbrel_plugin_api::arrow_buffer::i256;

use super::limbs::{divide, multiply_add};
use super::{
    HEAD_BYTES, LIMB_GROUPS_MAX, NAN, NEGATIVE, NEGATIVE_INFINITY, NumericFault, POSITIVE, POSITIVE_INFINITY,
    SHOWN_MAX,
};

use NumericFault::{Malformed, OutOfRange};

/// What the server sends as the digits of an infinity.
const INFINITY_SHOWN: u16 = 0x20;
/// The largest weight: 131,072 digits before the point.
const WEIGHT_MAX: i64 = 0x7fff;
/// Four groups at a time are taken from limbs.
const CHUNK: u64 = 10_000_000_000_000_000;
const CHUNK_GROUPS: usize = 4;

/// Appends an integer.
pub(in super::super) fn put_int(value: i64, out: &mut Vec<u8>) {
    put_small(value < 0, value.unsigned_abs(), 0, out);
}

/// Appends `value / 10^scale`, shown with `scale` digits behind the point.
pub(in super::super) fn put_decimal128(value: i128, scale: u8, out: &mut Vec<u8>) {
    let magnitude = value.unsigned_abs();
    let aligned = u64::try_from(magnitude)
        .ok()
        .and_then(|magnitude| magnitude.checked_mul(10_u64.pow(padding(scale))));
    match aligned {
        Some(aligned) => put_small(value < 0, aligned, scale, out),
        None => put_limbs(
            value < 0,
            [magnitude as u64, (magnitude >> 64) as u64, 0, 0, 0],
            scale,
            out,
        ),
    }
}

/// Appends `value / 10^scale`, shown with `scale` digits behind the point.
pub(in super::super) fn put_decimal256(value: i256, scale: u8, out: &mut Vec<u8>) {
    // Two's complement: the magnitude of the lowest value is its own wrapped negative, read without a sign.
    let is_negative = value.is_negative();
    let (low, high) = if is_negative { value.wrapping_neg() } else { value }.to_parts();
    let high = high.cast_unsigned();
    let limbs = [
        low as u64,
        (low >> 64) as u64,
        high as u64,
        (high >> 64) as u64,
        0,
    ];
    put_limbs(is_negative, limbs, scale, out);
}

/// Appends the number that `text` is, shown with as many digits behind the point as it has there. Exponents are read.
pub(in super::super) fn put_text(text: &str, out: &mut Vec<u8>) -> Result<(), NumericFault> {
    let special = match text {
        "NaN" => Some((NAN, 0)),
        "Infinity" => Some((POSITIVE_INFINITY, INFINITY_SHOWN)),
        "-Infinity" => Some((NEGATIVE_INFINITY, INFINITY_SHOWN)),
        _ => None,
    };
    if let Some((sign, shown)) = special {
        put_head(0, 0, sign, shown, out);
        return Ok(());
    }
    let written = Written::of(text).ok_or(Malformed)?;
    let shown = (written.fraction.len() as i64 - written.exponent).max(0);
    if shown > SHOWN_MAX {
        return Err(OutOfRange);
    }
    let len = written.whole.len() + written.fraction.len();
    let Some(first) = (0..len).find(|place| written.digit(*place) != 0) else {
        put_head(0, 0, POSITIVE, shown as u16, out);
        return Ok(());
    };
    // The power of ten of the first digit, which says the group that it is in and its place there.
    let power = written.whole.len() as i64 - 1 - first as i64 + written.exponent;
    let weight = power.div_euclid(4);
    if weight > WEIGHT_MAX {
        return Err(OutOfRange);
    }
    let head = out.len();
    put_head(0, 0, POSITIVE, 0, out);
    let mut place = first as i64 - (3 - power.rem_euclid(4));
    let (mut count, mut kept) = (0_usize, 0_usize);
    while place < len as i64 {
        let mut group = 0;
        for digit in place..place + 4 {
            let value = usize::try_from(digit)
                .ok()
                .filter(|digit| *digit >= first && *digit < len);
            group = group * 10 + value.map_or(0, |digit| u16::from(written.digit(digit)));
        }
        out.extend_from_slice(&group.to_be_bytes());
        count += 1;
        if group != 0 {
            kept = count;
        }
        place += 4;
    }
    out.truncate(head + HEAD_BYTES + 2 * kept);
    let sign = if written.is_negative { NEGATIVE } else { POSITIVE };
    let Ok(kept) = u16::try_from(kept) else {
        out.truncate(head);
        return Err(OutOfRange);
    };
    let head = &mut out[head..head + HEAD_BYTES];
    head.copy_from_slice(&head_octets(kept, weight as i16, sign, shown as u16));
    Ok(())
}

/// A number as it was written: `[+-]digits[.digits][(e|E)[+-]digits]`.
struct Written<'t> {
    is_negative: bool,
    whole: &'t [u8],
    fraction: &'t [u8],
    exponent: i64,
}

impl<'t> Written<'t> {
    fn of(text: &'t str) -> Option<Self> {
        let (is_negative, text) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text.strip_prefix('+').unwrap_or(text)),
        };
        let (mantissa, exponent) = match text.split_once(['e', 'E']) {
            None => (text, 0),
            Some((mantissa, exponent)) => (mantissa, read_exponent(exponent)?),
        };
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, "0"));
        let is_digits = |part: &str| !part.is_empty() && part.bytes().all(|octet| octet.is_ascii_digit());
        if !is_digits(whole) || !is_digits(fraction) {
            return None;
        }
        let has_point = whole.len() < mantissa.len();
        Some(Self {
            is_negative,
            whole: whole.as_bytes(),
            fraction: if has_point { fraction.as_bytes() } else { &[] },
            exponent,
        })
    }

    /// The digit at `place`, counted over both parts.
    fn digit(&self, place: usize) -> u8 {
        let digit = match self.whole.get(place) {
            Some(digit) => digit,
            None => &self.fraction[place - self.whole.len()],
        };
        digit - b'0'
    }
}

fn read_exponent(text: &str) -> Option<i64> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|octet| octet.is_ascii_digit()) {
        return None;
    }
    // Nothing is lost by a limit that lies far beyond every number that can be kept.
    let magnitude = digits.parse().unwrap_or(i64::MAX).min(1_000_000_000);
    Some(if text.starts_with('-') {
        -magnitude
    } else {
        magnitude
    })
}

/// How many zeros complete the last group behind the point.
fn padding(scale: u8) -> u32 {
    (4 - u32::from(scale) % 4) % 4
}

fn put_head(groups: u16, weight: i16, sign: u16, shown: u16, out: &mut Vec<u8>) {
    out.extend_from_slice(&head_octets(groups, weight, sign, shown));
}

fn head_octets(groups: u16, weight: i16, sign: u16, shown: u16) -> [u8; HEAD_BYTES] {
    let [a, b] = groups.to_be_bytes();
    let [c, d] = weight.to_be_bytes();
    let [e, f] = sign.to_be_bytes();
    let [g, h] = shown.to_be_bytes();
    [a, b, c, d, e, f, g, h]
}

/// Appends a number whose last group behind the point is complete.
fn put_small(is_negative: bool, aligned: u64, scale: u8, out: &mut Vec<u8>) {
    // Five groups: 2^64 has twenty digits.
    let mut groups = [0_u16; 5];
    let mut rest = aligned;
    let mut first = groups.len();
    while rest != 0 {
        first -= 1;
        groups[first] = (rest % 10_000) as u16;
        rest /= 10_000;
    }
    put_groups(is_negative, &groups[first..], scale, out);
}

/// Appends `limbs / 10^scale`; the limbs, lowest first, leave room for three more digits.
fn put_limbs(is_negative: bool, mut limbs: [u64; 5], scale: u8, out: &mut Vec<u8>) {
    multiply_add(&mut limbs, 10_u64.pow(padding(scale)), 0);
    let mut groups = [0_u16; LIMB_GROUPS_MAX + 1];
    let mut first = groups.len();
    while limbs.iter().any(|limb| *limb != 0) {
        let mut chunk = divide(&mut limbs, CHUNK);
        for _ in 0..CHUNK_GROUPS.min(first) {
            first -= 1;
            groups[first] = (chunk % 10_000) as u16;
            chunk /= 10_000;
        }
    }
    let zeros = groups[first..].iter().take_while(|group| **group == 0).count();
    put_groups(is_negative, &groups[first + zeros..], scale, out);
}

/// Appends groups without zeros at the front; those at the end are left out, as the server leaves them out.
fn put_groups(is_negative: bool, groups: &[u16], scale: u8, out: &mut Vec<u8>) {
    let behind_point = i16::from(scale.div_ceil(4));
    let Some(last) = groups.iter().rposition(|group| *group != 0) else {
        return put_head(0, 0, POSITIVE, u16::from(scale), out);
    };
    // At most 25 groups.
    let weight = groups.len() as i16 - 1 - behind_point;
    let sign = if is_negative { NEGATIVE } else { POSITIVE };
    put_head(last as u16 + 1, weight, sign, u16::from(scale), out);
    for group in &groups[..=last] {
        out.extend_from_slice(&group.to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::super::Numeric;
    use super::*;

    fn canonical(text: &str) -> Result<String, NumericFault> {
        let mut octets = Vec::new();
        put_text(text, &mut octets)?;
        let mut out = Vec::new();
        Numeric::read(&octets)?.write_text(&mut out)?;
        Ok(String::from_utf8(out).unwrap())
    }

    #[test]
    fn a_number_keeps_the_digits_that_it_is_written_with() {
        for (text, wanted) in [
            ("1.50", "1.50"),
            ("+001.50e2", "150"),
            ("1.5e-3", "0.0015"),
            ("100e-2", "1.00"),
            ("-0", "0"),
            ("-0.00", "0.00"),
            ("0e5", "0"),
            ("0e-3", "0.000"),
            ("12345.6789012", "12345.6789012"),
            ("0.000000010", "0.000000010"),
            ("1E4", "10000"),
        ] {
            assert_eq!(canonical(text).as_deref(), Ok(wanted), "{text}");
        }
    }

    #[test]
    fn the_largest_and_the_finest_numbers_are_kept() {
        let most = "9".repeat(131_072);
        assert_eq!(canonical(&most).as_deref(), Ok(most.as_str()));
        assert_eq!(canonical(&format!("{most}9")), Err(OutOfRange));
        let least = format!("0.{}1", "0".repeat(16_382));
        assert_eq!(canonical("1e-16383").as_deref(), Ok(least.as_str()));
        assert_eq!(canonical("0e-16384"), Err(OutOfRange));
        assert_eq!(canonical("1e999999999999999999999"), Err(OutOfRange));
    }

    #[test]
    fn what_is_no_number_is_refused() {
        for bad in [
            "", "-", "+", ".", "1.", ".5", "1e", "1e+", "e5", "1 ", "1.2.3", "nan", "inf", "--1", "1e5.0",
            "\u{661}",
        ] {
            assert_eq!(canonical(bad), Err(Malformed), "{bad}");
        }
    }
}
