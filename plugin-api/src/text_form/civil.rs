//! Dates: days since 1970-01-01 in the proleptic Gregorian calendar, as `YYYY-MM-DD`.
//!
//! The arithmetic is Howard Hinnant's `days_from_civil` and `civil_from_days`
//! (<https://howardhinnant.github.io/date_algorithms.html>), widened to `i64` so that every `i32` day has a
//! date; no calendar crate covers them all. Years outside 0000 to 9999 are written as ISO 8601 expanded
//! years, `+12345-01-01` and `-0001-01-01` (year 0 is the year before year 1). Neighbour: `clock` puts times
//! behind dates.

use crate::error::Result;

use super::ascii::{Ascii, Reader, Sink};
use super::bad_value;
use crate::record_type::RecordType;

/// The text of the highest value of a date or timestamp, which stands for "later than any".
pub(crate) const INFINITY: &str = "infinity";
/// The text of the lowest value of a date or timestamp, which stands for "earlier than any".
pub(crate) const NEGATIVE_INFINITY: &str = "-infinity";

/// Days from 1970-01-01 to a date of the proleptic Gregorian calendar. `month` is 1 to 12 and `day` 1 to 31;
/// a day that the month does not have runs over into the next month. Source: Hinnant, `days_from_civil`.
/// Exact while `year` is within plus or minus 10^15.
pub const fn days_from_civil(year: i64, month: u32, day: u32) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let month_from_march = (month as i64 + 9) % 12;
    let day_of_year = (153 * month_from_march + 2) / 5 + day as i64 - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// Year, month (1 to 12) and day (1 to 31) of a day counted from 1970-01-01. Source: Hinnant,
/// `civil_from_days`. Exact while `days` is within plus or minus 10^17.
pub const fn civil_from_days(days: i64) -> (i64, u32, u32) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = (day_of_year - (153 * month_from_march + 2) / 5 + 1) as u32;
    let month = if month_from_march < 10 {
        month_from_march + 3
    } else {
        month_from_march - 9
    } as u32;
    let year = year_of_era + era * 400;
    (if month <= 2 { year + 1 } else { year }, month, day)
}

/// Appends the text of a date, in days since 1970-01-01; `i32::MAX` and `i32::MIN` are `infinity` and
/// `-infinity`.
pub fn write_date(days: i32, out: &mut String) {
    put_date(days, out);
}

/// Reads a date into days since 1970-01-01.
///
/// # Errors
/// `text_form.bad_value` if it is not `YYYY-MM-DD` with an optional expanded year, `infinity` or `-infinity`,
/// if there is no such day, or if it lies beyond the range.
pub fn parse_date(text: &str) -> Result<i32> {
    read_date(text).ok_or_else(|| bad_value(&RecordType::Date))
}

pub(crate) fn put_date(days: i32, out: &mut impl Sink) {
    match days {
        i32::MAX => out.text(INFINITY),
        i32::MIN => out.text(NEGATIVE_INFINITY),
        _ => {
            let mut ascii = Ascii::new();
            push_civil(i64::from(days), &mut ascii);
            out.ascii(ascii.as_slice());
        }
    }
}

pub(crate) fn read_date(text: &str) -> Option<i32> {
    match text {
        INFINITY => return Some(i32::MAX),
        NEGATIVE_INFINITY => return Some(i32::MIN),
        _ => {}
    }
    let mut reader = Reader::new(text.as_bytes());
    let days = i32::try_from(read_civil(&mut reader)?).ok()?;
    // The two ends are taken by the infinities.
    (reader.is_at_end() && days != i32::MAX && days != i32::MIN).then_some(days)
}

/// Appends the date of a finite day.
pub(crate) fn push_civil(days: i64, out: &mut Ascii) {
    let (year, month, day) = civil_from_days(days);
    match year {
        0..=9_999 => {}
        _ if year < 0 => out.push(b'-'),
        _ => out.push(b'+'),
    }
    out.padded(year.unsigned_abs(), 4);
    out.push(b'-');
    out.padded(u64::from(month), 2);
    out.push(b'-');
    out.padded(u64::from(day), 2);
}

/// Reads a date and leaves what follows; `None` if there is no such day. A year without a sign has exactly
/// four digits, so that `20240-01-01` is not mistaken for an expanded year.
pub(crate) fn read_civil(reader: &mut Reader<'_>) -> Option<i64> {
    let year = match reader.sign() {
        None => reader.two_digits()? * 100 + reader.two_digits()?,
        Some(is_negative) => {
            let year = reader.number(4)?;
            // The years of an `i32` day have seven digits; more would only reach the limits of the formula.
            if year > 9_999_999 {
                return None;
            }
            if is_negative { -year } else { year }
        }
    };
    reader.expect(b'-')?;
    let month = reader.two_digits()? as u32;
    reader.expect(b'-')?;
    let day = reader.two_digits()? as u32;
    ((1..=12).contains(&month) && (1..=days_in_month(year, month)).contains(&day))
        .then(|| days_from_civil(year, month, day))
}

const fn days_in_month(year: i64, month: u32) -> u32 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        _ => 31,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(days: i32) -> String {
        let mut out = String::new();
        write_date(days, &mut out);
        out
    }

    #[test]
    fn known_days_have_their_dates() {
        for (days, date) in [
            (0, "1970-01-01"),
            (-1, "1969-12-31"),
            (11_016, "2000-02-29"),
            (19_782, "2024-02-29"),
            (-719_162, "0001-01-01"),
            (-719_528, "0000-01-01"),
            (-719_529, "-0001-12-31"),
            (2_932_896, "9999-12-31"),
            (2_932_897, "+10000-01-01"),
            (i32::MAX - 1, "+5881580-07-10"),
            (i32::MIN + 1, "-5877641-06-24"),
            (i32::MAX, "infinity"),
            (i32::MIN, "-infinity"),
        ] {
            assert_eq!(text(days), date);
            assert_eq!(parse_date(date).unwrap(), days, "{date}");
        }
    }

    #[test]
    fn every_day_of_eight_centuries_follows_the_one_before() {
        let mut expected = (1600_i64, 1_u32, 1_u32);
        for days in days_from_civil(1600, 1, 1)..days_from_civil(2401, 1, 1) {
            assert_eq!(civil_from_days(days), expected);
            assert_eq!(days_from_civil(expected.0, expected.1, expected.2), days);
            let (year, month, day) = expected;
            expected = if day < days_in_month(year, month) {
                (year, month, day + 1)
            } else if month < 12 {
                (year, month + 1, 1)
            } else {
                (year + 1, 1, 1)
            };
        }
    }

    #[test]
    fn days_that_do_not_exist_are_refused() {
        for bad in [
            "",
            "2023-02-29",
            "1900-02-29",
            "2024-13-01",
            "2024-00-01",
            "2024-01-00",
            "2024-04-31",
            "2024-1-01",
            "20240-01-01",
            "+5881580-07-11",
            "-5877641-06-23",
            "+99999999999999999999-01-01",
            "2024-01-01 ",
            " 2024-01-01",
            "2024-01-01T",
            "Infinity",
            "२०२४-01-01",
        ] {
            let error = parse_date(bad).unwrap_err();
            assert_eq!(error.code, "text_form.bad_value", "{bad}");
        }
    }
}
