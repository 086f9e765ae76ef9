//! Intervals: months, days and microseconds, kept apart, as an ISO 8601 duration `P14M-3DT-0.000001S`.
//!
//! All three parts are always written, each with its own sign; the seconds have no fraction if it is zero,
//! else six digits. Nothing is carried from one part into another, so every value comes back as it was, and
//! PostgreSQL reads the text as the same interval.

use super::ascii::{Ascii, Reader, Sink};

/// Months, days and microseconds.
pub(crate) type Parts = (i32, i32, i64);

pub(crate) fn put_interval((months, days, micros): Parts, out: &mut impl Sink) {
    let mut ascii = Ascii::new();
    ascii.push(b'P');
    ascii.signed(i64::from(months));
    ascii.push(b'M');
    ascii.signed(i64::from(days));
    ascii.extend(b"DT");
    // The sign belongs to the seconds and their fraction together, and minus half a second has no minus zero.
    if micros < 0 {
        ascii.push(b'-');
    }
    let (seconds, fraction) = (
        micros.unsigned_abs() / 1_000_000,
        micros.unsigned_abs() % 1_000_000,
    );
    ascii.padded(seconds, 1);
    if fraction != 0 {
        ascii.push(b'.');
        ascii.padded(fraction, 6);
    }
    ascii.push(b'S');
    out.ascii(ascii.as_slice());
}

pub(crate) fn read_interval(text: &str) -> Option<Parts> {
    let mut reader = Reader::new(text.as_bytes());
    reader.expect(b'P')?;
    let months = read_whole(&mut reader)?;
    reader.expect(b'M')?;
    let days = read_whole(&mut reader)?;
    reader.expect(b'D')?;
    reader.expect(b'T')?;
    let is_negative = reader.eat(b'-');
    let micros = i128::from(reader.number(1)?) * 1_000_000 + i128::from(reader.fraction_micros()?);
    let micros = i64::try_from(if is_negative { -micros } else { micros }).ok()?;
    reader.expect(b'S')?;
    reader.is_at_end().then_some((months, days, micros))
}

fn read_whole(reader: &mut Reader<'_>) -> Option<i32> {
    let is_negative = reader.eat(b'-');
    let value = reader.number(1)?;
    i32::try_from(if is_negative { -value } else { value }).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_three_parts_come_back_as_they_were() {
        for (parts, text) in [
            ((0, 0, 0), "P0M0DT0S"),
            ((14, -3, -1), "P14M-3DT-0.000001S"),
            ((-1, 40, 90_000_000), "P-1M40DT90S"),
            (
                (i32::MIN, i32::MIN, i64::MIN),
                "P-2147483648M-2147483648DT-9223372036854.775808S",
            ),
            (
                (i32::MAX, i32::MAX, i64::MAX),
                "P2147483647M2147483647DT9223372036854.775807S",
            ),
        ] {
            let mut out = String::new();
            put_interval(parts, &mut out);
            assert_eq!(out, text);
            assert_eq!(read_interval(text), Some(parts));
        }
    }

    #[test]
    fn malformed_intervals_are_refused() {
        for bad in [
            "",
            "P",
            "P1M",
            "P1M1D",
            "P1MT1S",
            "P1M1DT1",
            "P1M1DT.5S",
            "P1M1DT1.0000001S",
            "P1M1DT--1S",
            "P+1M1DT1S",
            "P2147483648M0DT0S",
            "P0M0DT9223372036854.775808S",
            "P0M0DT99999999999999999999S",
            "P0M0DT0S ",
            "1 mon",
        ] {
            assert_eq!(read_interval(bad), None, "{bad}");
        }
    }
}
