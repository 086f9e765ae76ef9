//! Numbers from the server: as text, as decimals of a fixed scale, as integers.
//!
//! Neighbour: `write` is the way back.

use whimbrel_plugin_api::arrow_buffer::i256;

use super::limbs::{divide, multiply_add};
use super::{
    HEAD_BYTES, LIMB_GROUPS_MAX, NAN, NEGATIVE, NEGATIVE_INFINITY, NumericFault, POSITIVE, POSITIVE_INFINITY,
    SHOWN_MAX,
};

use NumericFault::{Malformed, NotANumber, OutOfRange};

/// A number as it came from the server.
#[derive(Debug, Clone, Copy)]
pub(in super::super) struct Numeric<'row> {
    weight: i16,
    sign: u16,
    shown: u16,
    /// Two octets each, 0 to 9,999.
    groups: &'row [u8],
}

impl<'row> Numeric<'row> {
    /// Reads the value of a field.
    pub(in super::super) fn read(octets: &'row [u8]) -> Result<Self, NumericFault> {
        let (head, groups) = octets.split_at_checked(HEAD_BYTES).ok_or(Malformed)?;
        let part = |index: usize| u16::from_be_bytes([head[index], head[index + 1]]);
        let number = Self {
            weight: part(2).cast_signed(),
            sign: part(4),
            shown: part(6),
            groups,
        };
        let is_known = matches!(
            number.sign,
            POSITIVE | NEGATIVE | NAN | POSITIVE_INFINITY | NEGATIVE_INFINITY
        );
        let is_whole = groups.len() == usize::from(part(0)) * 2;
        let in_range = number.iter().all(|group| group <= 9_999);
        // A special value has no groups, and none shows more digits than there can be.
        let is_plain = !number.is_special() || groups.is_empty();
        if !(is_known && is_whole && in_range && is_plain && i64::from(number.shown) <= SHOWN_MAX) {
            return Err(Malformed);
        }
        Ok(number)
    }

    fn is_special(&self) -> bool {
        matches!(self.sign, NAN | POSITIVE_INFINITY | NEGATIVE_INFINITY)
    }

    fn iter(&self) -> impl DoubleEndedIterator<Item = u16> + use<'row> {
        self.groups
            .chunks_exact(2)
            .map(|group| u16::from_be_bytes([group[0], group[1]]))
    }

    /// Appends the text of the record type `numeric`, with all digits that are to be shown.
    pub(in super::super) fn write_text(&self, out: &mut Vec<u8>) -> Result<(), NumericFault> {
        match self.sign {
            NAN => out.extend_from_slice(b"NaN"),
            POSITIVE_INFINITY => out.extend_from_slice(b"Infinity"),
            NEGATIVE_INFINITY => out.extend_from_slice(b"-Infinity"),
            _ => {
                self.check_shown()?;
                if self.sign == NEGATIVE && !self.groups.is_empty() {
                    out.push(b'-');
                }
                self.write_whole(out);
                self.write_fraction(out);
            }
        }
        Ok(())
    }

    /// Digits behind those that are shown would be cut off unseen; no server sends any.
    fn check_shown(&self) -> Result<(), NumericFault> {
        let lowest = i64::from(self.weight) - self.groups.len() as i64 / 2 + 1;
        let beyond = -lowest * 4 - i64::from(self.shown);
        if beyond <= 0 {
            return Ok(());
        }
        let last = self.iter().next_back().unwrap_or(0);
        let is_zero = beyond < 4 && u64::from(last).is_multiple_of(10_u64.pow(beyond as u32));
        if is_zero { Ok(()) } else { Err(Malformed) }
    }

    fn write_whole(&self, out: &mut Vec<u8>) {
        if self.weight < 0 || self.groups.is_empty() {
            out.push(b'0');
            return;
        }
        let count = usize::from(self.weight.unsigned_abs()) + 1;
        let mut groups = self.iter();
        let start = out.len();
        for _ in 0..count {
            out.extend_from_slice(&group_ascii(groups.next().unwrap_or(0)));
        }
        // Zeros before the first digit are not written, but for the one before the point.
        let zeros = out[start..].iter().take_while(|digit| **digit == b'0').count();
        let zeros = zeros.min(out.len() - start - 1);
        out.drain(start..start + zeros);
    }

    fn write_fraction(&self, out: &mut Vec<u8>) {
        if self.shown == 0 {
            return;
        }
        out.push(b'.');
        let end = out.len() + usize::from(self.shown);
        let mut groups = self
            .iter()
            .skip(usize::try_from(i32::from(self.weight) + 1).unwrap_or(0));
        // Groups between the point and the first group with digits.
        let mut leading = if self.groups.is_empty() {
            0
        } else {
            usize::try_from(-1 - i32::from(self.weight)).unwrap_or(0)
        };
        while out.len() < end {
            let group = if leading > 0 {
                leading -= 1;
                0
            } else {
                groups.next().unwrap_or(0)
            };
            let ascii = group_ascii(group);
            out.extend_from_slice(&ascii[..(end - out.len()).min(4)]);
        }
    }

    /// As a decimal of 128 bits.
    pub(in super::super) fn to_decimal128(self, precision: u8, scale: u8) -> Result<i128, NumericFault> {
        // Up to four groups before and behind the point together, as most numbers have, fit 64 bits.
        let count = self.groups.len() / 2;
        let shift = self.shift(count, scale);
        if count <= 4 && (-3..=18).contains(&shift) && !self.is_special() {
            let digits = self
                .iter()
                .fold(0_u64, |number, group| number * 10_000 + u64::from(group));
            let power = 10_u64.pow(shift.unsigned_abs() as u32);
            if shift < 0 && !digits.is_multiple_of(power) {
                return Err(OutOfRange);
            }
            let number = match shift {
                0.. => i128::from(digits) * i128::from(power),
                _ => i128::from(digits / power),
            };
            return if number < 10_i128.pow(u32::from(precision.min(38))) {
                Ok(if self.sign == NEGATIVE { -number } else { number })
            } else {
                Err(OutOfRange)
            };
        }
        let limbs = self.limbs(precision, scale)?;
        let magnitude = u128::from(limbs[0]) | u128::from(limbs[1]) << 64;
        // At most 38 digits, which `limbs` has seen to.
        let number = i128::try_from(magnitude).map_err(|_| OutOfRange)?;
        Ok(if self.sign == NEGATIVE { -number } else { number })
    }

    /// As a decimal of 256 bits.
    pub(in super::super) fn to_decimal256(self, precision: u8, scale: u8) -> Result<i256, NumericFault> {
        let limbs = self.limbs(precision, scale)?;
        let half = |low: u64, high: u64| u128::from(low) | u128::from(high) << 64;
        let number = i256::from_parts(half(limbs[0], limbs[1]), half(limbs[2], limbs[3]).cast_signed());
        Ok(if self.sign == NEGATIVE {
            number.wrapping_neg()
        } else {
            number
        })
    }

    /// As an integer.
    pub(in super::super) fn to_int(self) -> Result<i64, NumericFault> {
        self.to_decimal128(38, 0)
            .and_then(|number| i64::try_from(number).map_err(|_| OutOfRange))
    }

    /// The power of ten by which the number made of `count` groups is to be multiplied for `scale`.
    fn shift(&self, count: usize, scale: u8) -> i64 {
        (i64::from(self.weight) - count as i64 + 1) * 4 + i64::from(scale)
    }

    /// The magnitude times `10^scale`, of at most `precision` digits.
    fn limbs(&self, precision: u8, scale: u8) -> Result<[u64; 5], NumericFault> {
        if self.is_special() {
            return Err(NotANumber);
        }
        let leading = self.iter().take_while(|group| *group == 0).count();
        let trailing = self.iter().rev().take_while(|group| *group == 0).count();
        let count = self.groups.len() / 2;
        if leading == count {
            return Ok([0; 5]);
        }
        let used = count - leading - trailing;
        let shift = self.shift(count - trailing, scale);
        let first = self.iter().nth(leading).unwrap_or(0);
        let digits = i64::from(first.checked_ilog10().unwrap_or(0) + 1) + 4 * (used as i64 - 1) + shift;
        if used > LIMB_GROUPS_MAX || digits > i64::from(precision) || shift < -3 {
            return Err(OutOfRange);
        }
        let mut limbs = [0; 5];
        for group in self.iter().skip(leading).take(used) {
            multiply_add(&mut limbs, 10_000, u64::from(group));
        }
        for _ in 0..shift {
            multiply_add(&mut limbs, 10, 0);
        }
        // Digits below the scale are only dropped if they are zeros.
        if shift < 0 && divide(&mut limbs, 10_u64.pow(shift.unsigned_abs() as u32)) != 0 {
            return Err(OutOfRange);
        }
        Ok(limbs)
    }
}

fn group_ascii(group: u16) -> [u8; 4] {
    [group / 1_000, group / 100 % 10, group / 10 % 10, group % 10].map(|digit| b'0' + digit as u8)
}
