//! Dates and times on the wire: counted from 2000-01-01, with the infinities at the ends of the integers.
//!
//! Arrow counts from 1970-01-01 and has the infinities at the same ends. What only one side can say is refused.
//! Source of the limits: `datatype/timestamp.h` (`IS_VALID_DATE`, `IS_VALID_TIMESTAMP`, `TZDISP_LIMIT`).

use whimbrel_plugin_api::text_form::parse_time;

/// Days from 1970-01-01 to 2000-01-01.
const EPOCH_DAYS: i32 = 10_957;
/// The same in microseconds.
const EPOCH_MICROS: i64 = 946_684_800_000_000;
/// 4714-11-24 BC, the first day of the Julian count, in days since 2000-01-01.
const DATE_MIN: i32 = -2_451_545;
/// The day behind the last one.
const DATE_END: i32 = 2_145_031_949;
/// The first microsecond of 4714-11-24 BC, counted from 2000-01-01.
const TIMESTAMP_MIN: i64 = -211_813_488_000_000_000;
/// The first microsecond of the year 294277.
const TIMESTAMP_END: i64 = 9_223_371_331_200_000_000;
/// 24:00:00, which is a time of day.
pub(super) const TIME_MAX: i64 = 86_400_000_000;
/// Offsets stay below sixteen hours.
const OFFSET_END_SECS: i32 = 16 * 3_600;

/// The server's count of a day; `None` if it has no such day.
pub(super) fn date_to_wire(days: i32) -> Option<i32> {
    if days == i32::MAX || days == i32::MIN {
        return Some(days);
    }
    days.checked_sub(EPOCH_DAYS)
        .filter(|days| (DATE_MIN..DATE_END).contains(days))
}

/// Arrow's count of a day; `None` if that is none or one of its infinities.
pub(super) fn date_from_wire(days: i32) -> Option<i32> {
    if days == i32::MAX || days == i32::MIN {
        return Some(days);
    }
    days.checked_add(EPOCH_DAYS).filter(|days| *days != i32::MAX)
}

/// The server's count of an instant; `None` if it has no such instant.
pub(super) fn timestamp_to_wire(micros: i64) -> Option<i64> {
    if micros == i64::MAX || micros == i64::MIN {
        return Some(micros);
    }
    micros
        .checked_sub(EPOCH_MICROS)
        .filter(|micros| (TIMESTAMP_MIN..TIMESTAMP_END).contains(micros))
}

/// Arrow's count of an instant; `None` if that is none or one of its infinities.
pub(super) fn timestamp_from_wire(micros: i64) -> Option<i64> {
    if micros == i64::MAX || micros == i64::MIN {
        return Some(micros);
    }
    micros
        .checked_add(EPOCH_MICROS)
        .filter(|micros| *micros != i64::MAX)
}

/// Whether it is a time of day.
pub(super) const fn is_time(micros: i64) -> bool {
    micros >= 0 && micros <= TIME_MAX
}

/// Reads `HH:MM:SS[.ffffff]+HH:MM[:SS]` into microseconds and the seconds that the zone lies west of Greenwich, as the
/// server counts; `None` if it is no such text or beyond the server's range.
pub(super) fn read_time_tz(text: &str) -> Option<(i64, i32)> {
    let sign = text.rfind(['+', '-'])?;
    let micros = parse_time(text.get(..sign)?).ok()?;
    let offset = read_offset(text.get(sign + 1..)?)?;
    let is_east = text.as_bytes()[sign] == b'+';
    Some((micros, if is_east { -offset } else { offset }))
}

fn read_offset(text: &str) -> Option<i32> {
    let part = |from: usize| {
        let digits = text.get(from..from + 2)?;
        let is_last = text.len() == from + 2;
        let ends = is_last || text.as_bytes().get(from + 2) == Some(&b':');
        let is_digits = digits.bytes().all(|octet| octet.is_ascii_digit());
        (ends && is_digits).then(|| digits.parse::<i32>().ok()).flatten()
    };
    let seconds = match text.len() {
        5 => 0,
        8 => part(6)?,
        _ => return None,
    };
    let (hours, minutes) = (part(0)?, part(3)?);
    let offset = hours * 3_600 + minutes * 60 + seconds;
    (minutes < 60 && seconds < 60 && offset < OFFSET_END_SECS).then_some(offset)
}

/// Appends the text that [`read_time_tz`] reads; `None` if it is no time or no offset.
pub(super) fn write_time_tz(micros: i64, west_secs: i32, out: &mut Vec<u8>) -> Option<()> {
    if !is_time(micros) || west_secs <= -OFFSET_END_SECS || west_secs >= OFFSET_END_SECS {
        return None;
    }
    // Both are in range, so no cast cuts anything off.
    let seconds = (micros / 1_000_000) as u32;
    let fraction = (micros % 1_000_000) as u32;
    put_clock(seconds, true, out);
    if fraction != 0 {
        out.push(b'.');
        for power in [100_000, 10_000, 1_000, 100, 10, 1] {
            out.push(b'0' + (fraction / power % 10) as u8);
        }
    }
    out.push(if west_secs > 0 { b'-' } else { b'+' });
    let offset = west_secs.unsigned_abs();
    put_clock(offset, !offset.is_multiple_of(60), out);
    Some(())
}

fn put_clock(seconds: u32, has_seconds: bool, out: &mut Vec<u8>) {
    let two = |number: u32, out: &mut Vec<u8>| {
        out.extend_from_slice(&[b'0' + (number / 10) as u8, b'0' + (number % 10) as u8]);
    };
    two(seconds / 3_600, out);
    out.push(b':');
    two(seconds / 60 % 60, out);
    if has_seconds {
        out.push(b':');
        two(seconds % 60, out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ends_of_both_ranges_are_met_exactly() {
        assert_eq!(date_to_wire(0), Some(-10_957));
        assert_eq!(date_to_wire(i32::MAX), Some(i32::MAX));
        assert_eq!(date_to_wire(DATE_MIN + EPOCH_DAYS), Some(DATE_MIN));
        assert_eq!(date_to_wire(DATE_MIN + EPOCH_DAYS - 1), None);
        assert_eq!(date_to_wire(i32::MIN + 1), None);
        assert_eq!(date_from_wire(DATE_END - 1), Some(DATE_END - 1 + EPOCH_DAYS));
        assert_eq!(date_from_wire(i32::MAX - EPOCH_DAYS), None);
        assert_eq!(timestamp_to_wire(0), Some(-EPOCH_MICROS));
        assert_eq!(timestamp_to_wire(i64::MIN), Some(i64::MIN));
        assert_eq!(
            timestamp_to_wire(TIMESTAMP_MIN + EPOCH_MICROS),
            Some(TIMESTAMP_MIN)
        );
        assert_eq!(timestamp_to_wire(TIMESTAMP_MIN + EPOCH_MICROS - 1), None);
        assert_eq!(timestamp_to_wire(i64::MIN + 1), None);
        assert_eq!(timestamp_from_wire(i64::MAX - EPOCH_MICROS), None);
        assert_eq!(
            timestamp_from_wire(i64::MAX - EPOCH_MICROS - 1),
            Some(i64::MAX - 1)
        );
    }

    #[test]
    fn times_with_a_zone_are_read_and_written() {
        for (text, micros, west) in [
            ("00:00:00+00:00", 0, 0),
            ("24:00:00-15:59:59", TIME_MAX, 57_599),
            ("12:34:56.000001+05:30", 45_296_000_001, -19_800),
            ("12:00:00+01:02:03", 43_200_000_000, -3_723),
        ] {
            assert_eq!(read_time_tz(text), Some((micros, west)));
            let mut out = Vec::new();
            write_time_tz(micros, west, &mut out).unwrap();
            assert_eq!(out, text.as_bytes());
        }
        for bad in [
            "",
            "+",
            "12:00:00",
            "12:00:00Z",
            "12:00:00+1:00",
            "12:00:00+16:00",
            "12:00:00+00:60",
            "12:00:00+00:00:",
            "12:00:00+00:0ü",
            "24:00:01+00:00",
            "12:00:00++1:00",
        ] {
            assert_eq!(read_time_tz(bad), None, "{bad}");
        }
        assert_eq!(write_time_tz(TIME_MAX + 1, 0, &mut Vec::new()), None);
        assert_eq!(write_time_tz(0, i32::MIN, &mut Vec::new()), None);
    }
}
