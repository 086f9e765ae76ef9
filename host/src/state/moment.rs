//! Times as the store keeps them: whole milliseconds since 1970, UTC.
//! What is finer is cut, so that a time reads back as it was stored.

use chrono::{DateTime, SubsecRound as _, Utc};

/// Now, as exact as it is stored.
pub(super) fn now() -> DateTime<Utc> {
    Utc::now().trunc_subsecs(3)
}

/// The time `millis` after 1970 began; times out of reach of the calendar become its ends.
pub(super) fn from_millis(millis: i64) -> DateTime<Utc> {
    DateTime::from_timestamp_millis(millis).unwrap_or(if millis < 0 {
        DateTime::<Utc>::MIN_UTC
    } else {
        DateTime::<Utc>::MAX_UTC
    })
}
