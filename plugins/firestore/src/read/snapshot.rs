//! As of when documents are read: tokens, how long an instant can be read, and what happens after that.
//!
//! A token is a read time as text, to the microsecond, so that it means the same in another process. The service keeps what was
//! there for an hour; with point-in-time recovery for seven days, but then whole minutes only. An instant comes from the
//! service's own clock; how old it is, is measured here from when it was told, and by the machine's clock if another process
//! was told. Neighbour: `fetch`, which asks before each request.

use std::str::FromStr as _;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use gcloud_sdk::prost_types::Timestamp;
use gcloud_sdk::tonic::Status;
use whimbrel_plugin_api::{Error, ErrorKind, LogLevel, Result, Services};

use crate::client::{self, Client};
use crate::config::{FirestoreConfig, OnSnapshotExpiry};
use crate::error::{Fault, SNAPSHOT_EXPIRED, SNAPSHOT_EXPIRED_HELP};

use super::query;

/// Seconds of a minute, the grain of point-in-time recovery.
const MINUTE_SECS: i64 = 60;
/// Nanoseconds of a microsecond, the grain of read times.
const MICRO_NANOS: i32 = 1_000;

/// An instant that is given again rather than a new one fixed, if it is not older than this: what was found out at it and
/// what is read then fit together.
const FRESH_MAX: Duration = Duration::from_secs(10 * 60);

/// An instant of the service, and when it was told.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Fixed {
    pub(crate) at: Timestamp,
    pub(crate) told: Instant,
}

impl Fixed {
    /// Whether it still stands for the present, and can be read for most of the time that one can.
    pub(crate) fn is_fresh(&self, config: &FirestoreConfig, now: Instant) -> bool {
        let fresh_max = match config.point_in_time_recovery {
            true => FRESH_MAX,
            false => FRESH_MAX.min(lifetime(config) / 4),
        };
        now.saturating_duration_since(self.told) < fresh_max
    }
}

/// The present by the service's own clock, at the grain in which it can be read again: a whole minute if it is to be `kept_on` by
/// point-in-time recovery. The next one is waited for, since all that was written before the call is to be seen. Costs a read,
/// and another one after waiting; answers with the number of reads.
pub(crate) async fn fix(client: &Client, services: &Services, kept_on: bool) -> Result<(Fixed, u64)> {
    let mut attempts = client.attempts();
    let mut awaited = None;
    let mut reads = 0;
    loop {
        let now = match present(client).await {
            Ok(now) => now,
            Err(fault) => {
                attempts.after(fault).await?;
                continue;
            }
        };
        reads += 1;
        let at = if kept_on {
            *awaited.get_or_insert_with(|| next_minute(now))
        } else {
            to_micros(now)
        };
        let left = until(at, now);
        if left.is_zero() {
            let told = Instant::now();
            return Ok((Fixed { at, told }, reads));
        }
        services.log(
            LogLevel::Info,
            format!("what is there at {at} is read: {} s to wait", left.as_secs() + 1),
        );
        client::sleep(services, left).await;
    }
}

/// When the service answers: a query whose answer does not matter.
async fn present(client: &Client) -> Result<Timestamp, Fault> {
    client.reads().take(1).await;
    let mut answers = client.run_query(query::least(client.root())).await?;
    let mut latest = None;
    while let Some(answer) = answers.message().await? {
        latest = answer.read_time.or(latest);
    }
    latest.ok_or_else(|| Status::internal("the answer to a query has no read time").into())
}

/// The first whole minute that is not before `now`.
fn next_minute(now: Timestamp) -> Timestamp {
    let over = now.seconds.rem_euclid(MINUTE_SECS);
    let is_whole = over == 0 && now.nanos == 0;
    Timestamp {
        seconds: now.seconds - over + if is_whole { 0 } else { MINUTE_SECS },
        nanos: 0,
    }
}

/// How long it is from `now` to `at`; nothing if that is over.
fn until(at: Timestamp, now: Timestamp) -> Duration {
    let nanos = i128::from(at.seconds - now.seconds) * 1_000_000_000 + i128::from(at.nanos - now.nanos);
    Duration::from_nanos(nanos.max(0).try_into().unwrap_or(u64::MAX))
}

/// What can be named as read time of `at`: whole microseconds.
pub(super) fn to_micros(at: Timestamp) -> Timestamp {
    Timestamp {
        seconds: at.seconds,
        nanos: at.nanos - at.nanos % MICRO_NANOS,
    }
}

/// The token of an instant.
pub(crate) fn to_token(at: Timestamp) -> String {
    at.to_string()
}

/// The instant that a token means.
///
/// # Errors
/// `firestore.bad_snapshot` for a text that is no token of this plugin.
pub(crate) fn from_token(token: &str) -> Result<Timestamp> {
    let at = Timestamp::from_str(token).ok();
    // What is written otherwise was not written here.
    at.filter(|at| to_token(*at) == token).ok_or_else(|| {
        Error::invalid_data("firestore.bad_snapshot", "the snapshot is not one of this plugin")
            .with_help("start anew with a snapshot of now")
    })
}

/// How old an instant is by this machine's clock, of which another process was told.
pub(crate) fn age(at: Timestamp) -> Duration {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let at = Duration::new(
        at.seconds.try_into().unwrap_or(0),
        at.nanos.try_into().unwrap_or(0),
    );
    since_epoch.saturating_sub(at)
}

/// Whether `error` says that an instant can no longer be read, and the present is to be read then.
pub(crate) fn is_gone_on_after(config: &FirestoreConfig, error: &Error) -> bool {
    error.code == SNAPSHOT_EXPIRED && config.on_snapshot_expiry == OnSnapshotExpiry::Continue
}

/// How long an instant can be read without point-in-time recovery.
fn lifetime(config: &FirestoreConfig) -> Duration {
    Duration::from_secs(config.snapshot_secs_max.into())
}

/// As of when a scan reads.
#[derive(Debug, Clone)]
pub(super) struct AsOf {
    read_time: Option<Timestamp>,
    keeping: Option<Keeping>,
}

/// What an instant is kept to.
#[derive(Debug, Clone)]
struct Keeping {
    /// How long an instant can be read.
    lifetime: Duration,
    on_expiry: OnSnapshotExpiry,
    /// When this one no longer can; not known before there is one, and not with point-in-time recovery.
    expires: Option<Instant>,
    /// The request under way named none, so its answers tell.
    is_open: bool,
    has_warned: bool,
}

impl AsOf {
    /// Exactly this instant, or none at all: each request sees the present.
    pub(super) fn given(read_time: Option<Timestamp>) -> Self {
        Self {
            read_time,
            keeping: None,
        }
    }

    /// One instant for all pages: this one, which is so old, or that of the first page.
    pub(super) fn kept(
        config: &FirestoreConfig,
        snapshot: Option<(Timestamp, Duration)>,
        now: Instant,
    ) -> Self {
        let lifetime = lifetime(config);
        let is_kept_on =
            |at: Timestamp| config.point_in_time_recovery && at.nanos == 0 && at.seconds % MINUTE_SECS == 0;
        let expires = snapshot
            .filter(|(at, _)| !is_kept_on(*at))
            .map(|(_, age)| now + lifetime.saturating_sub(age));
        Self {
            read_time: snapshot.map(|(at, _)| at),
            keeping: Some(Keeping {
                lifetime,
                on_expiry: config.on_snapshot_expiry,
                expires,
                is_open: false,
                has_warned: false,
            }),
        }
    }

    /// What the next request names.
    ///
    /// # Errors
    /// `firestore.snapshot_expired` if the instant can no longer be read and the rest is not to be read as of another.
    pub(super) fn read_time(&mut self, now: Instant, services: &Services) -> Result<Option<Timestamp>> {
        let expires = self.keeping.as_ref().and_then(|keeping| keeping.expires);
        if expires.is_some_and(|expires| expires <= now) {
            self.expire(services)?;
        }
        if let Some(keeping) = &mut self.keeping {
            keeping.is_open = self.read_time.is_none();
        }
        Ok(self.read_time)
    }

    /// The service answered as of `read_time`.
    pub(super) fn answered(&mut self, read_time: Timestamp, now: Instant) {
        if let Some(keeping) = self.keeping.as_mut().filter(|keeping| keeping.is_open) {
            // Of several the last holds: what came before it has not changed in between.
            self.read_time = Some(read_time);
            keeping.expires = Some(now + keeping.lifetime);
        }
    }

    /// A further scan goes on where one ended that read as of `read_time`.
    pub(super) fn go_on_at(&mut self, read_time: Timestamp, now: Instant) {
        if self.read_time != Some(read_time)
            && let Some(keeping) = &mut self.keeping
        {
            self.read_time = Some(read_time);
            keeping.expires = Some(now + keeping.lifetime);
        }
    }

    /// The service refused the instant as too old; whether there is another one to go on with.
    pub(super) fn refused(&mut self, services: &Services) -> Result<bool> {
        if self.keeping.is_none() || self.read_time.is_none() {
            return Ok(false);
        }
        self.expire(services).map(|()| true)
    }

    /// The instant that is kept to; none before the first answer.
    pub(super) fn at(&self) -> Option<Timestamp> {
        self.read_time
    }

    fn expire(&mut self, services: &Services) -> Result<()> {
        let (Some(keeping), Some(at)) = (&mut self.keeping, self.read_time) else {
            return Ok(());
        };
        if keeping.on_expiry == OnSnapshotExpiry::Fail {
            return Err(expired(at));
        }
        if !keeping.has_warned {
            services.log(
                LogLevel::Warn,
                format!("what was there at {at} can no longer be read: the rest of a collection is read as it is now"),
            );
            keeping.has_warned = true;
        }
        self.read_time = None;
        keeping.expires = None;
        Ok(())
    }
}

fn expired(at: Timestamp) -> Error {
    Error::new(
        ErrorKind::Integrity,
        SNAPSHOT_EXPIRED,
        format!("what was there at {at} can no longer be read, and the collection was not read to its end"),
    )
    .with_help(SNAPSHOT_EXPIRED_HELP)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(more: serde_json::Value) -> FirestoreConfig {
        serde_json::from_value(more).unwrap()
    }

    fn at(token: &str) -> Timestamp {
        from_token(token).unwrap()
    }

    #[test]
    fn tokens_are_read_times_to_the_microsecond() {
        for token in [
            "2024-12-31T23:59:59.999999Z",
            "2024-12-31T23:59:00Z",
            "1970-01-01T00:00:00.000001Z",
        ] {
            assert_eq!(to_token(at(token)), token);
        }
        for bad in [
            "",
            "now",
            "2024-12-31",
            "2024-12-31T23:59:59+00:00",
            "00000003-0000001B-1",
        ] {
            assert_eq!(
                from_token(bad).unwrap_err().code,
                "firestore.bad_snapshot",
                "{bad}"
            );
        }
        let fine = Timestamp {
            seconds: 61,
            nanos: 1_999,
        };
        assert_eq!(
            to_micros(fine),
            Timestamp {
                seconds: 61,
                nanos: 1_000
            }
        );
    }

    #[test]
    fn an_instant_is_given_again_only_while_most_of_its_time_is_left() {
        let told = Instant::now();
        let fixed = Fixed {
            at: at("2024-05-05T05:05:05Z"),
            told,
        };
        let is_fresh = |lifetime: u64, secs: u64| {
            let config = config(serde_json::json!({ "snapshot_secs_max": lifetime }));
            fixed.is_fresh(&config, told + Duration::from_secs(secs))
        };
        assert!(is_fresh(3_300, 599) && !is_fresh(3_300, 600));
        assert!(is_fresh(100, 24) && !is_fresh(100, 25));
    }

    #[test]
    fn a_whole_minute_never_lies_before_what_was_written() {
        for (now, minute, left_ms) in [
            ("2024-12-31T23:59:30.500001Z", "2025-01-01T00:00:00Z", 29_500),
            ("2024-12-31T23:59:00.000001Z", "2025-01-01T00:00:00Z", 60_000),
            ("2025-01-01T00:00:00Z", "2025-01-01T00:00:00Z", 0),
        ] {
            let (now, minute) = (at(now), at(minute));
            assert_eq!(next_minute(now), minute);
            assert_eq!(until(minute, now).as_micros().div_ceil(1_000), left_ms);
            assert!(until(now, minute).is_zero());
        }
    }

    #[test]
    fn one_instant_is_kept_to_until_it_expires() {
        let services = Services::detached();
        let start = Instant::now();
        let config = config(serde_json::json!({ "snapshot_secs_max": 100 }));
        let token = at("2024-05-05T05:05:05.000005Z");
        let mut as_of = AsOf::kept(&config, Some((token, Duration::from_secs(40))), start);
        let after = |secs| start + Duration::from_secs(secs);
        assert_eq!(as_of.read_time(after(59), &services).unwrap(), Some(token));
        as_of.answered(at("2030-01-01T00:00:00Z"), after(59));
        assert_eq!(as_of.read_time(after(59), &services).unwrap(), Some(token));
        let error = as_of.read_time(after(60), &services).unwrap_err();
        assert_eq!(
            (error.code.as_str(), error.kind),
            ("firestore.snapshot_expired", ErrorKind::Integrity)
        );
    }

    #[test]
    fn the_first_page_tells_the_instant_of_the_others_and_another_follows_if_that_is_wanted() {
        let services = Services::detached();
        let start = Instant::now();
        let config =
            config(serde_json::json!({ "snapshot_secs_max": 100, "on_snapshot_expiry": "continue" }));
        let mut as_of = AsOf::kept(&config, None, start);
        let after = |secs| start + Duration::from_secs(secs);
        let (first, second, third) = (
            at("2024-05-05T05:05:05Z"),
            at("2024-05-05T05:05:06Z"),
            at("2024-05-05T07:00:00Z"),
        );
        assert_eq!(as_of.read_time(start, &services).unwrap(), None);
        as_of.answered(first, start);
        as_of.answered(second, start);
        assert_eq!(as_of.read_time(after(99), &services).unwrap(), Some(second));
        assert_eq!(as_of.read_time(after(100), &services).unwrap(), None);
        as_of.answered(third, after(101));
        assert_eq!(as_of.read_time(after(200), &services).unwrap(), Some(third));
        assert!(as_of.refused(&services).unwrap());
        assert_eq!(as_of.read_time(after(200), &services).unwrap(), None);
        assert!(!as_of.refused(&services).unwrap());
    }

    #[test]
    fn whole_minutes_are_kept_on_by_point_in_time_recovery() {
        let services = Services::detached();
        let start = Instant::now();
        let config = config(serde_json::json!({ "snapshot_secs_max": 1, "point_in_time_recovery": true }));
        let days = Duration::from_secs(6 * 86_400);
        let minute = at("2024-05-05T05:05:00Z");
        let mut kept_on = AsOf::kept(&config, Some((minute, days)), start);
        assert_eq!(kept_on.read_time(start + days, &services).unwrap(), Some(minute));
        let mut other = AsOf::kept(&config, Some((at("2024-05-05T05:05:01Z"), days)), start);
        assert!(other.read_time(start, &services).is_err());
    }
}
