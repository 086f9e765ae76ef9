//! Timestamps of the service as microseconds and as text.
//!
//! The service keeps instants of the years 1 to 9999. Its messages have nanoseconds; what it stores has microseconds, so a
//! timestamp with more digits is rare, and only a variant holds it, with all nine of them.

use gcloud_sdk::prost_types::Timestamp;
use whimbrel_plugin_api::text_form::{parse_timestamp_tz, write_timestamp_tz};

const SECOND_MICROS: i64 = 1_000_000;
const SECOND_NANOS: i32 = 1_000_000_000;
const MICRO_NANOS: i32 = 1_000;
/// 0001-01-01T00:00:00Z, and the second after 9999-12-31T23:59:59Z. Source: the service's documentation of its types.
const FIRST_SECOND: i64 = -62_135_596_800;
const END_SECOND: i64 = 253_402_300_800;

/// Whether the service has this timestamp.
pub(super) fn is_valid(timestamp: &Timestamp) -> bool {
    (FIRST_SECOND..END_SECOND).contains(&timestamp.seconds) && (0..SECOND_NANOS).contains(&timestamp.nanos)
}

/// Microseconds since 1970; `None` if it has digits below them, or is none of the service's.
pub(super) fn to_micros(timestamp: &Timestamp) -> Option<i64> {
    let is_exact = timestamp.nanos % MICRO_NANOS == 0;
    (is_exact && is_valid(timestamp))
        .then(|| timestamp.seconds * SECOND_MICROS + i64::from(timestamp.nanos / MICRO_NANOS))
}

/// The timestamp of an instant; `None` for the infinities and other years.
pub(super) fn from_micros(micros: i64) -> Option<Timestamp> {
    let timestamp = Timestamp {
        seconds: micros.div_euclid(SECOND_MICROS),
        // The remainder is below a million.
        nanos: i32::try_from(micros.rem_euclid(SECOND_MICROS)).ok()? * MICRO_NANOS,
    };
    is_valid(&timestamp).then_some(timestamp)
}

/// Appends `2024-12-31T23:59:59.999999Z`, with nine digits if there are some below the microsecond. The timestamp is valid.
pub(super) fn put(timestamp: &Timestamp, out: &mut String) {
    let below = timestamp.nanos % MICRO_NANOS;
    let micros = timestamp.seconds * SECOND_MICROS + i64::from(timestamp.nanos / MICRO_NANOS);
    write_timestamp_tz(micros, out);
    if below != 0 {
        // The text ends in six digits and `Z`.
        out.truncate(out.len() - 1);
        for digit in [below / 100, below / 10 % 10, below % 10] {
            // A digit is below ten.
            out.push(char::from(b'0' + u8::try_from(digit).unwrap_or(0)));
        }
        out.push('Z');
    }
}

/// Reads what [`put`] wrote, and any other text of an instant; `None` for what the service does not have.
pub(super) fn parse(text: &str) -> Option<Timestamp> {
    let mut below = 0;
    let cut;
    let mut text = text;
    // Nine digits and `Z`: the text form of an instant has six.
    if let Some((head, fraction)) = text.strip_suffix('Z').and_then(|text| text.split_once('.'))
        && fraction.len() == 9
        && fraction.bytes().all(|digit| digit.is_ascii_digit())
    {
        below = fraction[6..].parse::<i32>().ok()?;
        cut = format!("{head}.{}Z", &fraction[..6]);
        text = &cut;
    }
    let mut timestamp = from_micros(parse_timestamp_tz(text).ok()?)?;
    timestamp.nanos += below;
    Some(timestamp)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_digit_of_a_timestamp_survives() {
        for (seconds, nanos, expected) in [
            (0, 0, "1970-01-01T00:00:00.000000Z"),
            (-1, 999_999_999, "1969-12-31T23:59:59.999999999Z"),
            (1_735_689_599, 999_999_000, "2024-12-31T23:59:59.999999Z"),
            (1_735_689_599, 1, "2024-12-31T23:59:59.000000001Z"),
            (FIRST_SECOND, 0, "0001-01-01T00:00:00.000000Z"),
            (END_SECOND - 1, 999_999_999, "9999-12-31T23:59:59.999999999Z"),
        ] {
            let timestamp = Timestamp { seconds, nanos };
            let mut text = String::new();
            put(&timestamp, &mut text);
            assert_eq!(text, expected);
            assert_eq!(parse(&text), Some(timestamp), "{text}");
            let micros = to_micros(&timestamp);
            assert_eq!(micros.is_some(), nanos % 1_000 == 0);
            if let Some(micros) = micros {
                assert_eq!(from_micros(micros), Some(timestamp));
            }
        }
    }

    #[test]
    fn instants_that_the_service_lacks_are_none() {
        for seconds in [FIRST_SECOND - 1, END_SECOND, i64::MIN, i64::MAX] {
            assert_eq!(to_micros(&Timestamp { seconds, nanos: 0 }), None);
        }
        assert_eq!(
            to_micros(&Timestamp {
                seconds: 0,
                nanos: -1_000
            }),
            None
        );
        for micros in [
            i64::MIN,
            i64::MAX,
            FIRST_SECOND * SECOND_MICROS - 1,
            END_SECOND * SECOND_MICROS,
        ] {
            assert_eq!(from_micros(micros), None, "{micros}");
        }
        for text in [
            "infinity",
            "",
            "2024-12-31",
            "+10000-01-01T00:00:00Z",
            "2024-12-31T23:59:59.00000000aZ",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
