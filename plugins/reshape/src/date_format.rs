//! Dates and times as people write them: named formats, Unix times and patterns, read and written.
//!
//! Patterns are those of the crate `chrono`. A pattern is tried on a sample when the job is read, so that one that cannot
//! say a whole date is refused before the run. Stricter than the crate: a year has all its digits, nothing finer
//! than a microsecond is cut off, and second 60 is no time. Neighbours: `zone`, and `cast/moments` which runs columns.

use std::fmt::Write as _;

use chrono::format::{Item, Numeric, Parsed, StrftimeItems, parse};
use chrono::{DateTime, FixedOffset, NaiveDate, NaiveTime, Timelike as _};

use whimbrel_plugin_api::Result;
use whimbrel_plugin_api::text_form::parse_timestamp_tz;

use crate::reading::wrong;

pub(crate) const SECOND_MICROS: i64 = 1_000_000;
pub(crate) const DAY_MICROS: i64 = 86_400 * SECOND_MICROS;

/// Any instant with six digits of fraction: every part of it differs, so that a pattern that mixes two up shows.
const SAMPLE_MICROS: i64 = 981_173_106_789_012;

/// How dates and times stand in text.
#[derive(Debug, Clone)]
pub(crate) enum DateFormat {
    /// RFC 3339.
    Rfc3339,
    /// RFC 2822, as mail has it.
    Rfc2822,
    /// Seconds since 1970 in units of 10^-`digits`.
    Unix { digits: u32 },
    /// A pattern of `chrono`.
    Pattern(Pattern),
}

/// A pattern, with what it says.
#[derive(Debug, Clone)]
pub(crate) struct Pattern {
    items: Vec<Item<'static>>,
    has_year: bool,
    has_date: bool,
    has_time: bool,
    has_offset: bool,
}

/// What a text said: a local time, and the offset if it had one. Without a date, micros since midnight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Moment {
    pub(crate) local_micros: i64,
    /// Seconds east of UTC.
    pub(crate) offset: Option<i64>,
}

impl DateFormat {
    /// Reads the name of a format or a pattern.
    pub(crate) fn parse(text: &str, place: &str) -> Result<Self> {
        Ok(match text {
            "rfc3339" => Self::Rfc3339,
            "rfc2822" => Self::Rfc2822,
            "unix_s" => Self::Unix { digits: 0 },
            "unix_ms" => Self::Unix { digits: 3 },
            "unix_us" => Self::Unix { digits: 6 },
            _ => Self::Pattern(Pattern::parse(text, place)?),
        })
    }

    pub(crate) fn has_date(&self) -> bool {
        !matches!(self, Self::Pattern(pattern) if !pattern.has_date)
    }

    pub(crate) fn has_time(&self) -> bool {
        !matches!(self, Self::Pattern(pattern) if !pattern.has_time)
    }

    /// Whether it names an instant by itself.
    pub(crate) fn has_offset(&self) -> bool {
        !matches!(self, Self::Pattern(pattern) if !pattern.has_offset)
    }

    /// Reads one text; `None` if it is not in this format.
    pub(crate) fn read(&self, text: &str) -> Option<Moment> {
        match self {
            // Looked at first, since the error of a text in another format would cost more than reading it.
            Self::Rfc3339 if matches!(text.as_bytes().get(10), Some(b'T' | b' ')) => {
                Some(Moment::instant(parse_timestamp_tz(text).ok()?))
            }
            Self::Rfc3339 => None,
            Self::Rfc2822 => {
                let moment = DateTime::parse_from_rfc2822(text).ok()?;
                whole_micros(moment.time())?;
                Some(Moment::instant(moment.timestamp_micros()))
            }
            Self::Unix { digits } => unix_micros(text, *digits).map(Moment::instant),
            Self::Pattern(pattern) => pattern.read(text),
        }
    }

    /// Appends a moment; `None` if the format cannot write it.
    pub(crate) fn write(&self, moment: Moment, out: &mut String) -> Option<()> {
        let offset = moment.offset.unwrap_or(0);
        let micros = moment.local_micros.checked_sub(offset * SECOND_MICROS)?;
        match self {
            Self::Unix { digits } => write!(out, "{}", unix_of(micros, *digits)?).ok(),
            Self::Rfc2822 => {
                let text = moment_with_offset(micros, offset)?.to_rfc2822();
                // The format has no fraction of a second.
                (micros % SECOND_MICROS == 0).then(|| out.push_str(&text))
            }
            Self::Rfc3339 => {
                let moment = moment_with_offset(micros, offset)?;
                let text = moment.to_rfc3339_opts(chrono::SecondsFormat::AutoSi, true);
                out.push_str(&text);
                Some(())
            }
            Self::Pattern(pattern) => {
                let moment = moment_with_offset(micros, offset)?;
                write!(out, "{}", moment.format_with_items(pattern.items.iter())).ok()
            }
        }
    }
}

impl Moment {
    pub(crate) const fn instant(micros: i64) -> Self {
        Self {
            local_micros: micros,
            offset: Some(0),
        }
    }
}

impl Pattern {
    fn parse(text: &str, place: &str) -> Result<Self> {
        let refuse = |what: &str| {
            Err(wrong("bad_format", what, place).with_help(
                "valid: rfc3339, rfc2822, unix_s, unix_ms, unix_us, or a pattern such as %Y-%m-%d, %d.%m.%Y %H:%M, %Y-%m-%dT%H:%M:%S%.f%:z",
            ))
        };
        let Ok(items) = StrftimeItems::new(text).parse_to_owned() else {
            return refuse("the pattern has a part that is not known");
        };
        if !text.contains('%') {
            return refuse("the format is neither a known name nor a pattern");
        }
        let is_unusable = |item: &Item<'_>| {
            matches!(item, Item::Numeric(Numeric::Timestamp, _))
                || matches!(item, Item::Fixed(chrono::format::Fixed::TimezoneName))
        };
        if items.iter().any(is_unusable) {
            return refuse("`%s` and `%Z` are not read: use `unix_s`, or `%z` for an offset");
        }
        let mut pattern = Self {
            has_year: items
                .iter()
                .any(|item| matches!(item, Item::Numeric(Numeric::Year, _))),
            items,
            has_date: false,
            has_time: false,
            has_offset: false,
        };
        match pattern.try_on_sample() {
            Some(parsed) => {
                pattern.has_date = parsed.to_naive_date().is_ok();
                pattern.has_time = parsed.to_naive_time().is_ok();
                pattern.has_offset = parsed.to_fixed_offset().is_ok();
                if !pattern.has_time && (parsed.hour_mod_12().is_some() || parsed.minute().is_some()) {
                    return refuse("the pattern has only a part of the time of day");
                }
                if !pattern.has_date
                    && (parsed.month().is_some() || parsed.day().is_some() || pattern.has_year)
                {
                    return refuse("the pattern has only a part of the date");
                }
                if pattern.has_date || pattern.has_time {
                    Ok(pattern)
                } else {
                    refuse("the pattern names neither a date nor a time of day")
                }
            }
            None => refuse("the pattern cannot read what it writes"),
        }
    }

    fn try_on_sample(&self) -> Option<Parsed> {
        let mut text = String::new();
        let sample = moment_with_offset(SAMPLE_MICROS, 3_600)?;
        write!(text, "{}", sample.format_with_items(self.items.iter())).ok()?;
        let mut parsed = Parsed::new();
        parse(&mut parsed, &text, self.items.iter()).ok()?;
        Some(parsed)
    }

    fn read(&self, text: &str) -> Option<Moment> {
        let mut parsed = Parsed::new();
        parse(&mut parsed, text, self.items.iter()).ok()?;
        let offset = if self.has_offset {
            Some(i64::from(parsed.to_fixed_offset().ok()?.local_minus_utc()))
        } else {
            None
        };
        let time = if self.has_time {
            whole_micros(parsed.to_naive_time().ok()?)?
        } else {
            0
        };
        let days = if self.has_date {
            let date = parsed.to_naive_date().ok()?;
            if self.has_year && !has_whole_year(text, date) {
                return None;
            }
            i64::from(date.to_epoch_days())
        } else {
            0
        };
        Some(Moment {
            local_micros: days * DAY_MICROS + time,
            offset,
        })
    }
}

/// Whether the year stands in the text with at least four digits: `24-01-02` is not of the year 24.
fn has_whole_year(text: &str, date: NaiveDate) -> bool {
    use chrono::Datelike as _;
    let mut rest = date.year().unsigned_abs();
    let mut digits = [b'0'; 10];
    let mut first = digits.len();
    while rest > 0 || digits.len() - first < 4 {
        first -= 1;
        digits[first] = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    let wanted = &digits[first..];
    text.as_bytes().windows(wanted.len()).any(|part| part == wanted)
}

/// Microseconds since midnight; `None` for a leap second, and for a fraction that would be cut.
fn whole_micros(time: NaiveTime) -> Option<i64> {
    let nanos = time.nanosecond();
    let is_whole = nanos < 1_000_000_000 && nanos.is_multiple_of(1_000);
    is_whole.then(|| i64::from(time.num_seconds_from_midnight()) * SECOND_MICROS + i64::from(nanos / 1_000))
}

fn moment_with_offset(micros: i64, offset: i64) -> Option<DateTime<FixedOffset>> {
    let offset = FixedOffset::east_opt(i32::try_from(offset).ok()?)?;
    Some(DateTime::from_timestamp_micros(micros)?.with_timezone(&offset))
}

/// Microseconds of a Unix time in units of 10^-`digits` seconds, as a decimal number.
pub(crate) fn unix_micros(text: &str, digits: u32) -> Option<i64> {
    let (is_negative, rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (whole, fraction) = rest.split_once('.').unwrap_or((rest, ""));
    let is_digits = |text: &str| text.bytes().all(|octet| octet.is_ascii_digit());
    let places = 6 - digits as usize;
    if whole.is_empty() || !is_digits(whole) || !is_digits(fraction) || rest.ends_with('.') {
        return None;
    }
    let (kept, beyond) = fraction.split_at(fraction.len().min(places));
    if beyond.bytes().any(|octet| octet != b'0') {
        return None;
    }
    let scaled = unix_scale(whole.parse().ok()?, digits)?;
    let below = kept
        .bytes()
        .chain(std::iter::repeat_n(b'0', places - kept.len()))
        .fold(0, |value, digit| value * 10 + i64::from(digit - b'0'));
    let micros = scaled.checked_add(below)?;
    Some(if is_negative { -micros } else { micros })
}

/// Microseconds of a whole number of units of 10^-`digits` seconds.
pub(crate) fn unix_scale(value: i64, digits: u32) -> Option<i64> {
    value.checked_mul(10_i64.pow(6 - digits))
}

/// An instant as a whole number of units; `None` if it is none.
pub(crate) fn unix_of(micros: i64, digits: u32) -> Option<i64> {
    let unit = 10_i64.pow(6 - digits);
    (micros % unit == 0).then_some(micros / unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn format(text: &str) -> DateFormat {
        DateFormat::parse(text, "config").unwrap()
    }

    fn micros(format_text: &str, text: &str) -> Option<i64> {
        let moment = format(format_text).read(text)?;
        Some(moment.local_micros - moment.offset.unwrap_or(0) * SECOND_MICROS)
    }

    fn at(text: &str) -> Option<i64> {
        Some(parse_timestamp_tz(text).unwrap())
    }

    #[test]
    fn texts_in_a_format_are_read() {
        for (format, text, expected) in [
            ("%Y-%m-%d", "2024-02-29", at("2024-02-29T00:00:00Z")),
            ("%d.%m.%Y", "1.2.2024", at("2024-02-01T00:00:00Z")),
            ("%d.%m.%Y %H:%M", "01.02.0001 23:59", at("0001-02-01T23:59:00Z")),
            ("%m/%d/%y", "12/31/99", at("1999-12-31T00:00:00Z")),
            ("%b %d, %Y", "Feb 29, 2024", at("2024-02-29T00:00:00Z")),
            (
                "%Y-%m-%dT%H:%M:%S%.f%:z",
                "9999-12-31T23:59:59.999999+02:00",
                at("9999-12-31T21:59:59.999999Z"),
            ),
            ("%Y%m%d", "20240229", at("2024-02-29T00:00:00Z")),
            ("%I:%M %p", "11:30 PM", Some(84_600 * SECOND_MICROS)),
            ("rfc3339", "2024-02-29T12:00:00+05:30", at("2024-02-29T06:30:00Z")),
            (
                "rfc2822",
                "Thu, 29 Feb 2024 12:00:00 +0100",
                at("2024-02-29T11:00:00Z"),
            ),
            ("unix_s", "1709208000", at("2024-02-29T12:00:00Z")),
            ("unix_s", "-0.5", Some(-500_000)),
            ("unix_ms", "1709208000123.45", at("2024-02-29T12:00:00.12345Z")),
            ("unix_us", "1", Some(1)),
        ] {
            assert_eq!(micros(format, text), expected, "{format} {text}");
        }
    }

    #[test]
    fn texts_that_would_be_changed_or_guessed_are_not_read() {
        for (format, text) in [
            ("%Y-%m-%d", "24-02-28"),
            ("%Y-%m-%d", "2023-02-29"),
            ("%Y-%m-%d", "2024-02-29x"),
            ("%Y-%m-%d", ""),
            ("%Y-%m-%d", "2024-02-29T00:00:00Z"),
            ("%H:%M:%S", "23:59:60"),
            ("%H:%M:%S", "24:00:00"),
            ("%H:%M:%S%.f", "12:00:00.0000001"),
            ("rfc3339", "2024-02-29"),
            ("rfc3339", "2024-02-29T12:00:00"),
            ("rfc3339", "infinity"),
            ("rfc2822", "Fri, 29 Feb 2024 12:00:00 +0100"),
            ("unix_s", "1.0000001"),
            ("unix_s", "9223372036854775807"),
            ("unix_ms", "1e3"),
            ("unix_ms", "1."),
            ("unix_ms", "--1"),
            ("unix_us", "0.5"),
        ] {
            assert_eq!(micros(format, text), None, "{format} {text}");
        }
    }

    #[test]
    fn a_pattern_that_cannot_say_a_date_is_refused() {
        for bad in [
            "",
            "date",
            "%Q",
            "%d.%m.",
            "%H",
            "%I:%M",
            "%Y",
            "%s",
            "%Z",
            "%Y-%m",
            "100%",
            "%z",
            "%Y-%m-%d %M",
        ] {
            let error = DateFormat::parse(bad, "config.x").unwrap_err();
            assert_eq!(error.code, "reshape.bad_format", "{bad}");
        }
    }

    #[test]
    fn what_is_written_is_what_is_read() {
        for text in [
            "%d.%m.%Y %H:%M:%S%.6f",
            "rfc3339",
            "unix_us",
            "%Y-%m-%d %H:%M:%S%.f %z",
        ] {
            let format = format(text);
            for value in [
                "0001-01-01T00:00:00Z",
                "2024-02-29T23:59:59.999999Z",
                "9999-12-31T23:59:59Z",
            ] {
                let value = at(value).unwrap();
                let mut out = String::new();
                format.write(Moment::instant(value), &mut out).unwrap();
                assert_eq!(micros(text, &out), Some(value), "{text} {out}");
            }
        }
        let mut out = String::new();
        assert_eq!(format("unix_s").write(Moment::instant(1), &mut out), None);
        assert_eq!(format("rfc2822").write(Moment::instant(1), &mut out), None);
    }
}
