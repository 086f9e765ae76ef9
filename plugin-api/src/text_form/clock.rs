//! Times of day, offsets and timestamps, in microseconds.
//!
//! A time is `HH:MM:SS` or `HH:MM:SS.ffffff`: no fraction if it is zero, else six digits. A timestamp always
//! has six digits, so that texts of the years 0000 to 9999 sort as the instants do:
//! `YYYY-MM-DDTHH:MM:SS.ffffff`, followed by `Z` if it is an instant. Read back are also fractions of one to
//! nine digits (beyond the sixth only zeros), a space in place of `T`, and for instants any offset, which is
//! subtracted. A leap second `:60` is refused: it has no value of its own. Neighbour: `civil` has the dates.

use crate::error::Result;
use crate::record_type::RecordType;

use super::ascii::{Ascii, Reader, Sink};
use super::bad_value;
use super::civil::{INFINITY, NEGATIVE_INFINITY, push_civil, read_civil};

const SECOND_MICROS: i64 = 1_000_000;
const DAY_MICROS: i64 = 86_400 * SECOND_MICROS;

/// Appends a time of day, in microseconds since midnight; 86,400,000,000 is `24:00:00`. A value outside 0 to
/// 86,400,000,000 is written with a sign or with more hours, and refused by [`parse_time`].
pub fn write_time(micros: i64, out: &mut String) {
    put_time(micros, out);
}

/// Reads a time of day into microseconds since midnight, 0 to 86,400,000,000.
///
/// # Errors
/// `text_form.bad_value` if it is not `HH:MM:SS` with an optional fraction, at most `24:00:00`.
pub fn parse_time(text: &str) -> Result<i64> {
    read_time(text).ok_or_else(|| bad_value(&RecordType::Time))
}

/// Appends a timestamp without a zone, in microseconds since 1970-01-01T00:00:00; `i64::MAX` and `i64::MIN`
/// are `infinity` and `-infinity`.
pub fn write_timestamp(micros: i64, out: &mut String) {
    put_timestamp(micros, false, out);
}

/// Appends an instant as [`write_timestamp`] does, with `Z` behind it.
pub fn write_timestamp_tz(micros: i64, out: &mut String) {
    put_timestamp(micros, true, out);
}

/// Reads a timestamp without a zone into microseconds since 1970-01-01T00:00:00.
///
/// # Errors
/// `text_form.bad_value` if it is no such text, has a zone, or lies beyond the range.
pub fn parse_timestamp(text: &str) -> Result<i64> {
    read_timestamp(text, false).ok_or_else(|| bad_value(&RecordType::Timestamp))
}

/// Reads an instant into microseconds since 1970-01-01T00:00:00Z.
///
/// # Errors
/// `text_form.bad_value` if it is no such text, has neither `Z` nor an offset, or lies beyond the range.
pub fn parse_timestamp_tz(text: &str) -> Result<i64> {
    read_timestamp(text, true).ok_or_else(|| bad_value(&RecordType::TimestampTz))
}

pub(crate) fn put_time(micros: i64, out: &mut impl Sink) {
    let mut ascii = Ascii::new();
    if micros < 0 {
        ascii.push(b'-');
    }
    push_clock(micros.unsigned_abs(), false, &mut ascii);
    out.ascii(ascii.as_slice());
}

pub(crate) fn read_time(text: &str) -> Option<i64> {
    let mut reader = Reader::new(text.as_bytes());
    let micros = read_clock(&mut reader)?;
    reader.is_at_end().then_some(micros)
}

/// Whether `text` is a time of day with an offset, `HH:MM:SS[.ffffff]+HH:MM[:SS]`.
pub(crate) fn is_time_tz(text: &str) -> bool {
    let mut reader = Reader::new(text.as_bytes());
    read_clock(&mut reader)
        .and_then(|_| read_offset(&mut reader))
        .is_some()
        && reader.is_at_end()
}

pub(crate) fn put_timestamp(micros: i64, is_instant: bool, out: &mut impl Sink) {
    match micros {
        i64::MAX => return out.text(INFINITY),
        i64::MIN => return out.text(NEGATIVE_INFINITY),
        _ => {}
    }
    let mut ascii = Ascii::new();
    push_civil(micros.div_euclid(DAY_MICROS), &mut ascii);
    ascii.push(b'T');
    push_clock(micros.rem_euclid(DAY_MICROS).unsigned_abs(), true, &mut ascii);
    if is_instant {
        ascii.push(b'Z');
    }
    out.ascii(ascii.as_slice());
}

pub(crate) fn read_timestamp(text: &str, is_instant: bool) -> Option<i64> {
    match text {
        INFINITY => return Some(i64::MAX),
        NEGATIVE_INFINITY => return Some(i64::MIN),
        _ => {}
    }
    let mut reader = Reader::new(text.as_bytes());
    let days = read_civil(&mut reader)?;
    if !reader.eat(b'T') {
        reader.expect(b' ')?;
    }
    let clock = read_clock(&mut reader)?;
    if clock == DAY_MICROS {
        return None;
    }
    let offset = if !is_instant || reader.eat(b'Z') {
        0
    } else {
        read_offset(&mut reader)?
    };
    // Years have at most seven digits, so the sum is far inside `i128`.
    let micros = i128::from(days) * i128::from(DAY_MICROS) + i128::from(clock) - i128::from(offset);
    let micros = i64::try_from(micros).ok()?;
    // The two ends are taken by the infinities.
    (reader.is_at_end() && micros != i64::MAX && micros != i64::MIN).then_some(micros)
}

fn push_clock(micros: u64, has_fraction_always: bool, out: &mut Ascii) {
    let (seconds, fraction) = (micros / 1_000_000, micros % 1_000_000);
    out.padded(seconds / 3_600, 2);
    out.push(b':');
    out.padded(seconds / 60 % 60, 2);
    out.push(b':');
    out.padded(seconds % 60, 2);
    if has_fraction_always || fraction != 0 {
        out.push(b'.');
        out.padded(fraction, 6);
    }
}

/// Reads `HH:MM:SS` with an optional fraction, at most `24:00:00`; microseconds since midnight.
fn read_clock(reader: &mut Reader<'_>) -> Option<i64> {
    let hours = reader.two_digits()?;
    reader.expect(b':')?;
    let minutes = reader.two_digits()?;
    reader.expect(b':')?;
    let seconds = reader.two_digits()?;
    let fraction = reader.fraction_micros()?;
    let micros = (hours * 3_600 + minutes * 60 + seconds) * SECOND_MICROS + fraction;
    (minutes < 60 && seconds < 60 && micros <= DAY_MICROS).then_some(micros)
}

/// Reads `+HH:MM` or `+HH:MM:SS` with either sign; microseconds east of UTC.
fn read_offset(reader: &mut Reader<'_>) -> Option<i64> {
    let is_negative = reader.sign()?;
    let hours = reader.two_digits()?;
    reader.expect(b':')?;
    let minutes = reader.two_digits()?;
    let seconds = if reader.eat(b':') { reader.two_digits()? } else { 0 };
    if hours > 23 || minutes > 59 || seconds > 59 {
        return None;
    }
    let micros = (hours * 3_600 + minutes * 60 + seconds) * SECOND_MICROS;
    Some(if is_negative { -micros } else { micros })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time_text(micros: i64) -> String {
        let mut out = String::new();
        write_time(micros, &mut out);
        out
    }

    fn timestamp_text(micros: i64) -> String {
        let mut out = String::new();
        write_timestamp_tz(micros, &mut out);
        out
    }

    #[test]
    fn known_times_have_their_text() {
        for (micros, text) in [
            (0, "00:00:00"),
            (1, "00:00:00.000001"),
            (86_399_999_999, "23:59:59.999999"),
            (86_400_000_000, "24:00:00"),
            (45_296_500_000, "12:34:56.500000"),
        ] {
            assert_eq!(time_text(micros), text);
            assert_eq!(parse_time(text).unwrap(), micros);
        }
        assert_eq!(parse_time("12:34:56.5").unwrap(), 45_296_500_000);
    }

    #[test]
    fn a_time_outside_the_day_is_written_apart_and_not_read_back() {
        for (micros, text) in [
            (-1, "-00:00:00.000001"),
            (86_400_000_001, "24:00:00.000001"),
            (i64::MIN, "-2562047788:00:54.775808"),
        ] {
            assert_eq!(time_text(micros), text);
            parse_time(text).unwrap_err();
        }
    }

    #[test]
    fn known_instants_have_their_text() {
        for (micros, text) in [
            (0, "1970-01-01T00:00:00.000000Z"),
            (-1, "1969-12-31T23:59:59.999999Z"),
            (1_709_210_096_000_001, "2024-02-29T12:34:56.000001Z"),
            (-62_135_596_800_000_000, "0001-01-01T00:00:00.000000Z"),
            (253_402_300_799_999_999, "9999-12-31T23:59:59.999999Z"),
            (i64::MIN + 1, "-290308-12-21T19:59:05.224193Z"),
            (i64::MAX - 1, "+294247-01-10T04:00:54.775806Z"),
            (i64::MAX, "infinity"),
            (i64::MIN, "-infinity"),
        ] {
            assert_eq!(timestamp_text(micros), text);
            assert_eq!(parse_timestamp_tz(text).unwrap(), micros);
        }
    }

    #[test]
    fn an_offset_is_subtracted() {
        let noon = parse_timestamp_tz("2024-02-29T12:00:00Z").unwrap();
        for text in [
            "2024-02-29T14:00:00+02:00",
            "2024-02-29 12:00:00.000Z",
            "2024-02-29T06:30:00-05:30",
            "2024-03-01T00:00:00+12:00",
            "2024-02-29T12:19:32.000000000+00:19:32",
        ] {
            assert_eq!(parse_timestamp_tz(text).unwrap(), noon, "{text}");
        }
    }

    #[test]
    fn malformed_timestamps_are_refused() {
        for bad in [
            "",
            "2024-02-29",
            "2024-02-29T12:00:00",
            "2024-02-29T24:00:00Z",
            "2024-02-29T12:60:00Z",
            "2024-02-29T23:59:60Z",
            "2024-02-29T12:00:00.Z",
            "2024-02-29T12:00:00.1234567Z",
            "2024-02-29T12:00:00z",
            "2024-02-29T12:00:00+2",
            "2024-02-29T12:00:00+24:00",
            "2024-02-29T12:00:00ZZ",
            "+294247-01-10T04:00:54.775807Z",
            "-290308-12-21T19:59:05.224192Z",
            "+9999999-01-01T00:00:00Z",
        ] {
            assert_eq!(
                parse_timestamp_tz(bad).unwrap_err().code,
                "text_form.bad_value",
                "{bad}"
            );
        }
        parse_timestamp("2024-02-29T12:00:00Z").unwrap_err();
        parse_timestamp("2024-02-29T12:00:00+00:00").unwrap_err();
        assert_eq!(
            parse_timestamp("2024-02-29T12:00:00").unwrap(),
            parse_timestamp_tz("2024-02-29T12:00:00Z").unwrap()
        );
    }

    #[test]
    fn a_time_with_an_offset_is_recognised() {
        for good in ["00:00:00+00:00", "24:00:00-15:59:59", "12:34:56.000001+05:30"] {
            assert!(is_time_tz(good), "{good}");
        }
        for bad in [
            "12:00:00",
            "12:00:00Z",
            "12:00:00+5",
            "12:00:00+05:30:",
            "25:00:00+00:00",
            "12:00+00:00",
        ] {
            assert!(!is_time_tz(bad), "{bad}");
        }
    }
}
