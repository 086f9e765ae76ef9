//! Numbers brought to fewer digits: exactly, or as the job says that they may be rounded.
//!
//! [`rescale`] works on unscaled decimals of up to 38 digits, [`round_text`] on a number of any length as text, and
//! [`round_float`] on floats. With no rounding given, all three refuse what they would have to change.

use crate::config::Rounding;

/// Digits before the point of the longest number that any type but `numeric` holds; also bounds what an exponent
/// may blow up.
const WHOLE_DIGITS_MAX: i64 = 80;
/// Digits after the point that are looked at.
const FRACTION_DIGITS_MAX: i64 = 20_000;

/// Whether a magnitude is to be raised by one, given the part that was cut off.
fn raises(rounding: Rounding, is_negative: bool, is_odd: bool, cut: Cut) -> bool {
    match rounding {
        Rounding::TowardZero => false,
        Rounding::Floor => is_negative && cut != Cut::Nothing,
        Rounding::Ceiling => !is_negative && cut != Cut::Nothing,
        Rounding::HalfUp => cut >= Cut::Half,
        Rounding::HalfEven => cut == Cut::More || cut == Cut::Half && is_odd,
    }
}

/// How much was cut off, against one half of the last digit that is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Cut {
    Nothing,
    Less,
    Half,
    More,
}

/// `value` with scale `from`, as the same number with scale `to`; `None` if it does not fit or would be changed.
pub(crate) fn rescale(value: i128, from: i8, to: i8, rounding: Option<Rounding>) -> Option<i128> {
    let power = 10_i128.checked_pow(u32::from(from.abs_diff(to)));
    if to >= from {
        return if value == 0 {
            Some(0)
        } else {
            value.checked_mul(power?)
        };
    }
    let Some(power) = power else {
        // More digits go than any value has, so that less than a half is cut off.
        return match (value, rounding) {
            (0, _) => Some(0),
            (_, None) => None,
            (_, Some(rounding)) => {
                let raised = i128::from(raises(rounding, value < 0, false, Cut::Less));
                Some(if value < 0 { -raised } else { raised })
            }
        };
    };
    let (kept, rest) = (value / power, value % power);
    if rest == 0 {
        return Some(kept);
    }
    let doubled = rest.unsigned_abs() * 2;
    let cut = match doubled.cmp(&power.unsigned_abs()) {
        std::cmp::Ordering::Less => Cut::Less,
        std::cmp::Ordering::Equal => Cut::Half,
        std::cmp::Ordering::Greater => Cut::More,
    };
    let step = i128::from(raises(rounding?, value < 0, kept % 2 != 0, cut));
    Some(if value < 0 { kept - step } else { kept + step })
}

/// A whole number, as asked; `None` if it is none and none was asked for. NaN and infinities come back as they are.
pub(crate) fn round_float(value: f64, rounding: Option<Rounding>) -> Option<f64> {
    let kept = value.trunc();
    match rounding {
        _ if kept == value || !value.is_finite() => Some(value),
        None => None,
        Some(Rounding::HalfEven) => Some(value.round_ties_even()),
        Some(Rounding::HalfUp) => Some(value.round()),
        Some(Rounding::TowardZero) => Some(kept),
        Some(Rounding::Floor) => Some(value.floor()),
        Some(Rounding::Ceiling) => Some(value.ceil()),
    }
}

/// Appends the number `text` with at most `scale` digits after its point and without an exponent; `None` if it is no
/// finite number, is longer than any, or would be changed and no rounding is given.
pub(crate) fn round_text(text: &str, scale: i8, rounding: Option<Rounding>, out: &mut String) -> Option<()> {
    let number = Written::split(text)?;
    // Digits of the mantissa before the point, once the exponent has moved it.
    let point = number.whole.len() as i64 + number.exponent;
    let total = (number.whole.len() + number.fraction.len()) as i64;
    let digit = |at: i64| number.digit(at);
    let first = (0..total).find(|at| digit(*at) != b'0').unwrap_or(total);
    if first == total {
        out.push('0');
        return Some(());
    }
    if point - first > WHOLE_DIGITS_MAX || total - point > FRACTION_DIGITS_MAX {
        return None;
    }
    // Digits from `first` up to `end` are kept; `end` may lie before `first`, or behind the last digit.
    let end = point + i64::from(scale);
    let is_cut = (end.max(first)..total).any(|at| digit(at) != b'0');
    let half = if !is_cut {
        Cut::Nothing
    } else if end < first {
        Cut::Less
    } else {
        let rest_is_zero = (end + 1..total).all(|at| digit(at) == b'0');
        match digit(end) {
            b'5' if rest_is_zero => Cut::Half,
            b'5'..=b'9' => Cut::More,
            _ => Cut::Less,
        }
    };
    let is_odd = end > first && digit(end - 1) % 2 == 1;
    let raise = is_cut && raises(rounding?, number.is_negative, is_odd, half);
    let mut digits: Vec<u8> = (first.min(point).min(end)..end)
        .map(|at| if (0..total).contains(&at) { digit(at) } else { b'0' })
        .collect();
    if raise {
        raise_last(&mut digits);
    }
    let fraction = usize::try_from(scale).ok()?;
    if digits.len() < fraction {
        let missing = fraction - digits.len();
        digits.splice(0..0, std::iter::repeat_n(b'0', missing));
    }
    let (whole, fraction) = digits.split_at(digits.len() - fraction);
    if number.is_negative {
        out.push('-');
    }
    let zero: &[u8] = b"0";
    out.push_str(std::str::from_utf8(if whole.is_empty() { zero } else { whole }).ok()?);
    if !fraction.is_empty() {
        out.push('.');
        out.push_str(std::str::from_utf8(fraction).ok()?);
    }
    Some(())
}

/// Whether two texts are the same finite number, however it is written.
pub(crate) fn is_same_number(left: &str, right: &str) -> bool {
    let significant = |text| {
        let number = Written::split(text)?;
        let total = (number.whole.len() + number.fraction.len()) as i64;
        let first = (0..total).find(|at| number.digit(*at) != b'0').unwrap_or(total);
        let end = (first..total)
            .rev()
            .find(|at| number.digit(*at) != b'0')
            .map_or(first, |at| at + 1);
        // Of zero neither the point nor the sign counts.
        let point = if first == total {
            0
        } else {
            number.whole.len() as i64 + number.exponent - first
        };
        let is_negative = number.is_negative && first < total;
        Some((number, first, end, point, is_negative))
    };
    match (significant(left), significant(right)) {
        (
            Some((left, start, end, point, sign)),
            Some((right, other_start, other_end, other_point, other_sign)),
        ) => {
            sign == other_sign
                && point == other_point
                && end - start == other_end - other_start
                && (0..end - start).all(|at| left.digit(start + at) == right.digit(other_start + at))
        }
        _ => false,
    }
}

/// Adds one to the last digit, and a digit in front if all were nines.
fn raise_last(digits: &mut Vec<u8>) {
    for digit in digits.iter_mut().rev() {
        if *digit < b'9' {
            *digit += 1;
            return;
        }
        *digit = b'0';
    }
    digits.insert(0, b'1');
}

/// A number taken apart.
struct Written<'t> {
    is_negative: bool,
    whole: &'t [u8],
    fraction: &'t [u8],
    exponent: i64,
}

impl<'t> Written<'t> {
    fn split(text: &'t str) -> Option<Self> {
        let (is_negative, rest) = match text.as_bytes() {
            [b'-', ..] => (true, &text[1..]),
            [b'+', ..] => (false, &text[1..]),
            _ => (false, text),
        };
        let (mantissa, exponent) = match rest.split_once(['e', 'E']) {
            Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
            None => (rest, 0),
        };
        let (whole, fraction) = match mantissa.split_once('.') {
            Some((_, "")) => return None,
            Some((whole, fraction)) => (whole, fraction),
            None => (mantissa, ""),
        };
        let is_digits = |text: &str| text.bytes().all(|octet| octet.is_ascii_digit());
        if whole.is_empty() || !is_digits(whole) || !is_digits(fraction) {
            return None;
        }
        Some(Self {
            is_negative,
            whole: whole.as_bytes(),
            fraction: fraction.as_bytes(),
            exponent: i64::from(exponent),
        })
    }

    fn digit(&self, at: i64) -> u8 {
        let at = usize::try_from(at).unwrap_or(usize::MAX);
        let behind = || self.fraction.get(at - self.whole.len());
        *self
            .whole
            .get(at)
            .or_else(|| if at >= self.whole.len() { behind() } else { None })
            .unwrap_or(&b'0')
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use proptest::prelude::*;

    const ALL: [Rounding; 5] = [
        Rounding::HalfEven,
        Rounding::HalfUp,
        Rounding::TowardZero,
        Rounding::Floor,
        Rounding::Ceiling,
    ];

    fn rounded(text: &str, scale: i8, rounding: Option<Rounding>) -> Option<String> {
        let mut out = String::new();
        round_text(text, scale, rounding, &mut out).map(|()| out)
    }

    #[test]
    fn halves_go_where_each_rounding_says() {
        // In the order of `ALL`.
        for (text, expected) in [
            ("2.5", ["2", "3", "2", "2", "3"]),
            ("3.5", ["4", "4", "3", "3", "4"]),
            ("-2.5", ["-2", "-3", "-2", "-3", "-2"]),
            ("-0.5", ["-0", "-1", "-0", "-1", "-0"]),
            ("0.5", ["0", "1", "0", "0", "1"]),
            ("2.50001", ["3", "3", "2", "2", "3"]),
            ("9.99", ["10", "10", "9", "9", "10"]),
            ("0.001", ["0", "0", "0", "0", "1"]),
            ("1e-30", ["0", "0", "0", "0", "1"]),
        ] {
            for (rounding, expected) in ALL.into_iter().zip(expected) {
                assert_eq!(
                    rounded(text, 0, Some(rounding)).as_deref(),
                    Some(expected),
                    "{text} {rounding:?}"
                );
            }
            assert_eq!(rounded(text, 0, None), None, "{text}");
        }
    }

    #[test]
    fn exact_numbers_pass_and_others_do_not() {
        for (text, scale, expected) in [
            ("12", 2, Some("12.00")),
            ("1.20", 1, Some("1.2")),
            ("1.2e1", 0, Some("12")),
            ("120e-1", 0, Some("12")),
            ("0.05", 2, Some("0.05")),
            ("5e-2", 3, Some("0.050")),
            ("-0.0", 1, Some("0")),
            ("007", 0, Some("7")),
            ("1.25", 1, None),
            ("1e100", 0, None),
            ("1e-2000000000", 0, None),
            ("1e99999999999", 0, None),
            ("NaN", 0, None),
            ("", 0, None),
            (".5", 1, None),
            ("5.", 1, None),
            ("1_0", 0, None),
        ] {
            assert_eq!(rounded(text, scale, None).as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn one_number_has_many_spellings() {
        for (left, right) in [
            ("1.50", "+1.5"),
            ("0.001", "1e-3"),
            ("1000", "1E3"),
            ("-0", "0.0"),
            ("00", "0e9"),
        ] {
            assert!(is_same_number(left, right), "{left} {right}");
        }
        for (left, right) in [
            ("1", "-1"),
            ("1", "10"),
            ("12", "1.2"),
            ("0.1", "0.11"),
            ("x", "x"),
            ("NaN", "NaN"),
        ] {
            assert!(!is_same_number(left, right), "{left} {right}");
        }
    }

    proptest! {
        #[test]
        fn text_and_integer_round_alike(value in -10_i128.pow(30)..10_i128.pow(30), from in 0_i8..30, to in 0_i8..30, which in 0_usize..6) {
            let rounding = ALL.get(which).copied();
            let digits = format!("{:0width$}", value.unsigned_abs(), width = from as usize + 1);
            let (whole, fraction) = digits.split_at(digits.len() - from as usize);
            let sign = if value < 0 { "-" } else { "" };
            let text = format!("{sign}{whole}.{fraction}");
            let text = text.trim_end_matches('.');
            // 0 has no digits after its point; every other result has `to` of them.
            let by_text = rounded(text, to, rounding).and_then(|text| text.replace('.', "").parse::<i128>().ok());
            prop_assert_eq!(by_text, rescale(value, from, to, rounding));
        }
    }
}
