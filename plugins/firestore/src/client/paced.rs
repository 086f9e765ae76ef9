//! A pace as one opened object uses it: the host is told of each wait, since it cancels calls that take too long, and a call that
//! keeps to a rate is none of these.
//!
//! Neighbours: `pace` has the rate, which many objects share, `attempts` waits between tries.

use std::time::Duration;

use whimbrel_plugin_api::Services;

use super::pace::Pace;

/// The host is told of a longer wait in parts of this length.
const TOLD_MAX: Duration = Duration::from_secs(60);

/// See the module.
#[derive(Clone, Copy)]
pub(crate) struct Paced<'a> {
    pub(super) pace: &'a Pace,
    pub(super) services: &'a Services,
}

impl Paced<'_> {
    /// Waits until `permits` may be used.
    pub(crate) async fn take(self, permits: u32) {
        self.pace.take(permits, self.services).await;
    }

    /// `permits` that were taken turn out not to be needed.
    pub(crate) fn give_back(self, permits: u32) {
        self.pace.give_back(permits);
    }

    /// How many of `most` one request may ask for, so that the quota of a second is not used up twice.
    pub(crate) fn at_once(self, most: u32) -> u32 {
        self.pace.at_once(most)
    }

    /// The service asked to slow down: half the rate from now on, and nothing before `retry_after` has passed.
    pub(crate) fn slow_down(self, retry_after: Option<Duration>) {
        self.pace.slow_down(retry_after);
    }

    /// `permits` were used and nobody complained: the rate climbs again, up to its limit.
    pub(crate) fn succeeded(self, permits: u32) {
        self.pace.succeeded(permits);
    }

    /// Whether the service asked to slow down and the rate has not climbed back since.
    #[cfg(test)]
    pub(crate) fn is_slowed(self) -> bool {
        self.pace.is_slowed()
    }
}

/// Waits, and tells the host that it is of our own will.
pub(crate) async fn sleep(services: &Services, time: Duration) {
    let mut left = time;
    while !left.is_zero() {
        let part = left.min(TOLD_MAX);
        services.waits(part);
        tokio::time::sleep(part).await;
        left -= part;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use tokio::time::Instant;
    use whimbrel_plugin_api::LogLevel;
    use whimbrel_plugin_api::services::{CancelToken, HostServices};

    use super::*;

    /// A host that cancels calls which say nothing for longer than a limit: the end of each wait that it was told of.
    #[derive(Default)]
    struct Host(Mutex<Vec<(Instant, Instant)>>);

    impl HostServices for Host {
        fn log(&self, _: LogLevel, _: &str) {}

        fn progress(&self, _: &str, _: u64, _: Option<u64>) {}

        fn acquire(&self, _: &str, _: u64) -> bool {
            true
        }

        fn waits(&self, time: Duration) {
            let now = Instant::now();
            self.0.lock().unwrap().push((now, now + time));
        }
    }

    impl Host {
        /// How long nothing was said between `begun` and now.
        fn silence(&self, begun: Instant) -> Duration {
            let (mut silent, mut at) = (Duration::ZERO, begun);
            for (told, until) in self.0.lock().unwrap().iter() {
                silent = silent.max(told.saturating_duration_since(at));
                at = at.max(*until);
            }
            silent.max(Instant::now().saturating_duration_since(at))
        }
    }

    /// More than the clock of the tests is inexact.
    const NOTHING: Duration = Duration::from_millis(5);

    #[tokio::test(start_paused = true)]
    async fn the_host_hears_of_every_wait_for_a_rate_and_for_the_service() {
        let host = Arc::new(Host::default());
        let services = Services::new(Arc::clone(&host) as _, CancelToken::new());
        let pace = Pace::new(Some(8.0), false);
        let paced = Paced {
            pace: &pace,
            services: &services,
        };
        let begun = Instant::now();
        // A request of 500 documents leaves the next one to wait for more than a minute.
        for _ in 0..3 {
            paced.take(500).await;
        }
        assert!(
            begun.elapsed() >= Duration::from_secs(120),
            "{:?}",
            begun.elapsed()
        );
        paced.slow_down(Some(Duration::from_secs(600)));
        paced.take(1).await;
        assert!(
            begun.elapsed() >= Duration::from_secs(720),
            "{:?}",
            begun.elapsed()
        );
        assert!(host.silence(begun) < NOTHING, "{:?}", host.silence(begun));
        let longest = |(told, until): &(Instant, Instant)| *until - *told;
        let longest = host.0.lock().unwrap().iter().map(longest).max();
        assert!(longest <= Some(TOLD_MAX), "{longest:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn the_host_hears_of_every_wait_between_tries() {
        let host = Arc::new(Host::default());
        let services = Services::new(Arc::clone(&host) as _, CancelToken::new());
        let mut attempts = super::super::Attempts::new(8, services);
        let begun = Instant::now();
        for asked in [None, Some(90)] {
            let mut fault = crate::error::Fault::from(gcloud_sdk::tonic::Status::resource_exhausted(""));
            fault.retry_after = asked.map(Duration::from_secs);
            attempts.after(fault).await.unwrap();
        }
        assert!(
            begun.elapsed() >= Duration::from_secs(90),
            "{:?}",
            begun.elapsed()
        );
        assert!(host.silence(begun) < NOTHING, "{:?}", host.silence(begun));
    }
}
