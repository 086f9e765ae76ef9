//! The time of day, and times as the store keeps them: whole milliseconds since 1970, UTC.
//!
//! Everything that decides by the time of day asks [`now`], so that a test can set the clock of a program that is running. What waits
//! for a time to pass uses the monotonic clock, which nobody sets. What is finer than a millisecond is cut, so that a time reads
//! back as it was stored.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use chrono::{DateTime, SubsecRound as _, TimeDelta, Utc};

/// For tests: names a file with a number of milliseconds that are added to the time of day. It is read at each look at the
/// clock. No file, or no number in it, adds nothing.
const CLOCK_FILE_VARIABLE: &str = "WHIMBREL_CLOCK_FILE";

/// The file, if one is named; the variables of a process do not change.
static CLOCK_FILE: OnceLock<Option<PathBuf>> = OnceLock::new();

/// Now, as exact as it is stored.
pub fn now() -> DateTime<Utc> {
    let file = CLOCK_FILE.get_or_init(|| std::env::var_os(CLOCK_FILE_VARIABLE).map(PathBuf::from));
    shifted(Utc::now(), file.as_deref())
}

fn shifted(time: DateTime<Utc>, clock_file: Option<&Path>) -> DateTime<Utc> {
    let offset_ms = clock_file
        .and_then(|path| std::fs::read_to_string(path).ok())
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or(0);
    TimeDelta::try_milliseconds(offset_ms)
        .and_then(|offset| time.checked_add_signed(offset))
        .unwrap_or(time)
        .trunc_subsecs(3)
}

/// The time `millis` after 1970 began; times out of reach of the calendar become its ends.
pub(super) fn from_millis(millis: i64) -> DateTime<Utc> {
    DateTime::from_timestamp_millis(millis).unwrap_or(if millis < 0 {
        DateTime::<Utc>::MIN_UTC
    } else {
        DateTime::<Utc>::MAX_UTC
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_moves_the_clock_and_anything_else_in_it_does_not() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("clock");
        let time = DateTime::from_timestamp_millis(1_795_000_000_123).unwrap();
        let moved_ms = |text: &str| {
            std::fs::write(&file, text).unwrap();
            (shifted(time, Some(&file)) - time).num_milliseconds()
        };
        assert_eq!(moved_ms("61000\n"), 61_000);
        assert_eq!(moved_ms("-3600000"), -3_600_000);
        for nothing in ["", "soon", "1e3", "9223372036854775807", "99999999999999999999"] {
            assert_eq!(moved_ms(nothing), 0, "{nothing}");
        }
        assert_eq!(shifted(time, None), time);
        assert_eq!(shifted(time, Some(&folder.path().join("none"))), time);
    }
}
