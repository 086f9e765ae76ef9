//! What a YAML scalar means: the core schema of YAML 1.2, as a JSON value.
//!
//! `yes`, `no`, `on`, `off`, `1_000`, `12:30:00` and dates are text here; `null`, `~` and nothing are null. Numbers
//! that JSON cannot hold exactly are refused rather than rounded.

use granit_parser::{ScalarStyle, Tag};
use serde_json::{Number, Value};

/// The tags that may be written.
pub(crate) const KNOWN_TAGS: &str = "!!bool, !!float, !!int, !!map, !!null, !!seq, !!str";

/// The largest whole number below which every whole number is a float, too: 2^53.
const EXACT_FLOAT_MAX: f64 = 9_007_199_254_740_992.0;

/// Why a scalar has no value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ScalarFault {
    /// The tag is none of [`KNOWN_TAGS`].
    UnknownTag,
    /// The text is not what its tag says.
    TagMismatch,
    /// Infinite, not a number, or of a size that would be rounded.
    UnfitNumber,
}

/// The value of a scalar.
pub(crate) fn resolve(text: &str, style: ScalarStyle, tag: Option<&Tag>) -> Result<Value, ScalarFault> {
    let Some(tag) = tag else {
        return if style == ScalarStyle::Plain {
            plain(text)
        } else {
            Ok(Value::from(text))
        };
    };
    let value = match tag.core_suffix() {
        // `!` alone: not to be interpreted.
        None if tag.parts() == ("", "!") || tag.parts() == ("!", "") => return Ok(Value::from(text)),
        None => return Err(ScalarFault::UnknownTag),
        Some("str") => return Ok(Value::from(text)),
        Some(_) => plain(text)?,
    };
    let fits = match tag.core_suffix() {
        Some("null") => value.is_null(),
        Some("bool") => value.is_boolean(),
        Some("int") => value.is_i64() || value.is_u64(),
        Some("float") => value.is_number(),
        _ => false,
    };
    if fits {
        Ok(value)
    } else {
        Err(ScalarFault::TagMismatch)
    }
}

fn plain(text: &str) -> Result<Value, ScalarFault> {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Ok(Value::Null),
        "true" | "True" | "TRUE" => return Ok(Value::Bool(true)),
        "false" | "False" | "FALSE" => return Ok(Value::Bool(false)),
        ".nan" | ".NaN" | ".NAN" => return Err(ScalarFault::UnfitNumber),
        _ => {}
    }
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    if matches!(unsigned, ".inf" | ".Inf" | ".INF") {
        return Err(ScalarFault::UnfitNumber);
    }
    if let Some(digits) = text.strip_prefix("0x")
        && is_all(digits, |b| b.is_ascii_hexdigit())
    {
        return whole(u64::from_str_radix(digits, 16).ok());
    }
    if let Some(digits) = text.strip_prefix("0o")
        && is_all(digits, |b| matches!(b, b'0'..=b'7'))
    {
        return whole(u64::from_str_radix(digits, 8).ok());
    }
    if is_all(unsigned, |b| b.is_ascii_digit()) {
        return match text.strip_prefix('-') {
            Some(_) => whole(text.parse::<i64>().ok()),
            None => whole(unsigned.parse::<u64>().ok()),
        };
    }
    if is_float(unsigned) {
        return float(text.parse().map_err(|_| ScalarFault::UnfitNumber)?);
    }
    Ok(Value::from(text))
}

fn is_all(text: &str, test: impl Fn(u8) -> bool) -> bool {
    !text.is_empty() && text.bytes().all(test)
}

/// `(\.[0-9]+ | [0-9]+(\.[0-9]*)?) ([eE][-+]?[0-9]+)?`, YAML 1.2.2 section 10.3.2.
fn is_float(unsigned: &str) -> bool {
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (unsigned, None),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    let exponent_fits = exponent.is_none_or(|text| {
        is_all(text.strip_prefix(['-', '+']).unwrap_or(text), |b| {
            b.is_ascii_digit()
        })
    });
    digits(whole) && digits(fraction) && !(whole.is_empty() && fraction.is_empty()) && exponent_fits
}

fn whole<N: Into<Number>>(number: Option<N>) -> Result<Value, ScalarFault> {
    number
        .map(|number| Value::Number(number.into()))
        .ok_or(ScalarFault::UnfitNumber)
}

/// A float without a fraction becomes a whole number: JSON Schema and serde disagree on whether `1e3` is one.
fn float(number: f64) -> Result<Value, ScalarFault> {
    let negative_zero = number == 0.0 && number.is_sign_negative();
    if number.fract() == 0.0 && number.abs() < EXACT_FLOAT_MAX && !negative_zero {
        return Ok(Value::from(number as i64));
    }
    Number::from_f64(number)
        .map(Value::Number)
        .ok_or(ScalarFault::UnfitNumber)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn plain_scalars_mean_what_yaml_1_2_says() {
        for (text, value) in [
            ("", json!(null)),
            ("~", json!(null)),
            ("null", json!(null)),
            ("nUll", json!("nUll")),
            ("true", json!(true)),
            ("False", json!(false)),
            ("yes", json!("yes")),
            ("no", json!("no")),
            ("on", json!("on")),
            ("off", json!("off")),
            ("y", json!("y")),
            ("12", json!(12)),
            ("+12", json!(12)),
            ("-0", json!(0)),
            ("007", json!(7)),
            ("0o17", json!(15)),
            ("0xfF", json!(255)),
            ("0b11", json!("0b11")),
            ("1_000", json!("1_000")),
            ("12:30:00", json!("12:30:00")),
            ("2024-01-01", json!("2024-01-01")),
            ("18446744073709551615", json!(u64::MAX)),
            ("-9223372036854775808", json!(i64::MIN)),
            ("1.5", json!(1.5)),
            (".5", json!(0.5)),
            ("5.", json!(5)),
            ("1e3", json!(1000)),
            ("-2.5e-3", json!(-0.0025)),
            ("-0.0", json!(-0.0)),
            (".", json!(".")),
            ("-", json!("-")),
            ("e5", json!("e5")),
            ("1e", json!("1e")),
            ("1.2.3", json!("1.2.3")),
            ("inf", json!("inf")),
            ("nan", json!("nan")),
            ("infinity", json!("infinity")),
        ] {
            assert_eq!(resolve(text, ScalarStyle::Plain, None), Ok(value), "{text}");
        }
        for text in [
            ".nan",
            "-.inf",
            "1e999",
            "18446744073709551616",
            "-9223372036854775809",
            "0x10000000000000000",
        ] {
            assert_eq!(
                resolve(text, ScalarStyle::Plain, None),
                Err(ScalarFault::UnfitNumber),
                "{text}"
            );
        }
        assert_eq!(resolve("12", ScalarStyle::SingleQuoted, None), Ok(json!("12")));
    }

    #[test]
    fn tags_of_the_core_schema_are_obeyed_and_others_refused() {
        let core = |suffix: &str| Tag::new("tag:yaml.org,2002:", suffix);
        let plain = |text, tag: &Tag| resolve(text, ScalarStyle::Plain, Some(tag));
        assert_eq!(plain("12", &core("str")), Ok(json!("12")));
        assert_eq!(
            resolve("12", ScalarStyle::DoubleQuoted, Some(&core("int"))),
            Ok(json!(12))
        );
        assert_eq!(plain("2", &core("float")), Ok(json!(2)));
        assert_eq!(plain("x", &core("int")), Err(ScalarFault::TagMismatch));
        assert_eq!(plain("x", &core("map")), Err(ScalarFault::TagMismatch));
        assert_eq!(plain("eA==", &core("binary")), Err(ScalarFault::UnknownTag));
        assert_eq!(plain("x", &Tag::new("!", "secret")), Err(ScalarFault::UnknownTag));
    }
}
