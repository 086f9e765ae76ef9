//! Time zones: from local times to instants and back, in microseconds.
//!
//! An offset is arithmetic; a named zone asks the IANA database that is built in. Infinities stay what they are. What
//! lies outside the years of the calendar crate (about 262,000 either way) has no named zone and does not convert.

use chrono::{DateTime, MappedLocalTime, Offset as _, TimeZone as _};
use chrono_tz::Tz;

use whimbrel_plugin_api::Result;

use crate::config::Ambiguous;
use crate::reading::{shorten, wrong};

const SECOND_MICROS: i64 = 1_000_000;

/// A zone, and what becomes of local times that it has twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Zone {
    rules: Rules,
    ambiguous: Ambiguous,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rules {
    /// Seconds east of UTC.
    Fixed(i64),
    Named(Tz),
}

impl Zone {
    /// Reads `UTC`, an offset or a name.
    pub(crate) fn parse(text: &str, ambiguous: Ambiguous, place: &str) -> Result<Self> {
        let rules = match text {
            "UTC" | "Z" => Some(Rules::Fixed(0)),
            _ => offset(text)
                .map(Rules::Fixed)
                .or_else(|| text.parse::<Tz>().ok().map(Rules::Named)),
        };
        rules.map(|rules| Self { rules, ambiguous }).ok_or_else(|| {
            wrong(
                "unknown_zone",
                format!(
                    "unknown time zone `{}` (valid: UTC, an offset such as +02:00, an IANA name such as Europe/Berlin)",
                    shorten(text)
                ),
                place,
            )
        })
    }

    /// The instant of a local time; `None` if the zone skips it, has it twice and may not choose, or it is out of range.
    pub(crate) fn to_instant(self, local_micros: i64) -> Option<i64> {
        if is_infinite(local_micros) {
            return Some(local_micros);
        }
        let offset = match self.rules {
            Rules::Fixed(seconds) => seconds,
            Rules::Named(zone) => {
                let local = DateTime::from_timestamp_micros(local_micros)?.naive_utc();
                match (zone.offset_from_local_datetime(&local), self.ambiguous) {
                    (MappedLocalTime::Single(offset), _)
                    | (MappedLocalTime::Ambiguous(offset, _), Ambiguous::Earlier)
                    | (MappedLocalTime::Ambiguous(_, offset), Ambiguous::Later) => seconds_of(offset),
                    _ => return None,
                }
            }
        };
        finite(local_micros.checked_sub(offset * SECOND_MICROS)?)
    }

    /// The local time of an instant; `None` if it is out of range.
    pub(crate) fn to_local(self, micros: i64) -> Option<i64> {
        if is_infinite(micros) {
            return Some(micros);
        }
        finite(micros.checked_add(self.offset_at(micros)? * SECOND_MICROS)?)
    }

    /// Seconds east of UTC at an instant.
    pub(crate) fn offset_at(self, micros: i64) -> Option<i64> {
        match self.rules {
            Rules::Fixed(seconds) => Some(seconds),
            Rules::Named(zone) => {
                let instant = DateTime::from_timestamp_micros(micros)?.naive_utc();
                Some(seconds_of(zone.offset_from_utc_datetime(&instant)))
            }
        }
    }
}

/// Whether a timestamp is one of the infinities.
pub(crate) const fn is_infinite(micros: i64) -> bool {
    micros == i64::MAX || micros == i64::MIN
}

/// A computed timestamp, unless it fell on an infinity.
pub(crate) fn finite(micros: i64) -> Option<i64> {
    (!is_infinite(micros)).then_some(micros)
}

fn seconds_of(offset: chrono_tz::TzOffset) -> i64 {
    i64::from(offset.fix().local_minus_utc())
}

/// Seconds of `+HH:MM`.
fn offset(text: &str) -> Option<i64> {
    let (sign, rest) = match text.split_at_checked(1)? {
        ("+", rest) => (1, rest),
        ("-", rest) => (-1, rest),
        _ => return None,
    };
    let (hours, minutes) = rest.split_once(':')?;
    let part = |text: &str, limit: i64| {
        let is_written_well = text.len() == 2 && text.bytes().all(|octet| octet.is_ascii_digit());
        text.parse::<i64>()
            .ok()
            .filter(|value| is_written_well && *value < limit)
    };
    let (hours, minutes) = (part(hours, 24)?, part(minutes, 60)?);
    Some(sign * (hours * 3_600 + minutes * 60))
}

#[cfg(test)]
mod tests {
    use super::*;

    use whimbrel_plugin_api::text_form::{parse_timestamp, parse_timestamp_tz};

    fn zone(text: &str, ambiguous: Ambiguous) -> Zone {
        Zone::parse(text, ambiguous, "config").unwrap()
    }

    #[test]
    fn a_local_time_that_is_skipped_or_twice_converts_only_as_said() {
        let local = |text: &str| parse_timestamp(text).unwrap();
        let instant = |text: &str| Some(parse_timestamp_tz(text).unwrap());
        let berlin = |ambiguous| zone("Europe/Berlin", ambiguous);
        let skipped = local("2024-03-31T02:30:00");
        let twice = local("2024-10-27T02:30:00");
        for ambiguous in [Ambiguous::Reject, Ambiguous::Earlier, Ambiguous::Later] {
            assert_eq!(berlin(ambiguous).to_instant(skipped), None);
        }
        assert_eq!(berlin(Ambiguous::Reject).to_instant(twice), None);
        assert_eq!(
            berlin(Ambiguous::Earlier).to_instant(twice),
            instant("2024-10-27T00:30:00Z")
        );
        assert_eq!(
            berlin(Ambiguous::Later).to_instant(twice),
            instant("2024-10-27T01:30:00Z")
        );
        let summer = local("2024-07-01T12:00:00");
        assert_eq!(
            berlin(Ambiguous::Reject).to_instant(summer),
            instant("2024-07-01T10:00:00Z")
        );
        assert_eq!(
            berlin(Ambiguous::Reject).to_local(summer - 7_200_000_000),
            Some(summer)
        );
    }

    #[test]
    fn infinities_stay_and_nothing_else_becomes_one() {
        for name in ["UTC", "+02:00", "-12:30", "Asia/Kathmandu"] {
            let zone = zone(name, Ambiguous::Reject);
            for end in [i64::MAX, i64::MIN] {
                assert_eq!(zone.to_local(end), Some(end));
                assert_eq!(zone.to_instant(end), Some(end));
            }
        }
        assert_eq!(zone("+02:00", Ambiguous::Reject).to_local(i64::MAX - 1), None);
        assert_eq!(zone("+02:00", Ambiguous::Reject).to_instant(i64::MIN + 1), None);
    }

    #[test]
    fn what_is_no_zone_is_refused() {
        for bad in [
            "",
            "+2",
            "+24:00",
            "+02:60",
            "+2:00",
            "02:00",
            "Mars/Olympus",
            "utc",
        ] {
            let error = Zone::parse(bad, Ambiguous::Reject, "config.x").unwrap_err();
            assert_eq!(error.code, "reshape.unknown_zone", "{bad}");
        }
    }
}
