//! A bound for the retries of one piece of work, with waits that grow and jitter.
//!
//! The waits end with the call: whoever awaits them does so within `Runtime::block_on`, which the host can cancel, or in a task that
//! ends with its object. The host is told of them (`paced`).

use std::time::Duration;

use whimbrel_plugin_api::{Result, Services};

use super::paced::sleep;
use crate::error::{Class, Fault};

/// The first wait is at most this long.
const WAIT_FIRST: Duration = Duration::from_millis(200);
/// No wait is longer, unless the service asks for it.
const WAIT_MAX: Duration = Duration::from_secs(30);

/// How often something may still be tried.
pub(crate) struct Attempts {
    retries_max: u32,
    retries: u32,
    services: Services,
}

impl Attempts {
    pub(super) fn new(retries_max: u32, services: Services) -> Self {
        Self {
            retries_max,
            retries: 0,
            services,
        }
    }

    /// Waits as long as the fault, or the number of tries so far, asks for.
    ///
    /// # Errors
    /// The fault as an error, at once, if it is permanent or no try is left.
    pub(crate) async fn after(&mut self, fault: Fault) -> Result<()> {
        if fault.class == Class::Permanent || self.retries >= self.retries_max {
            return Err(fault.into());
        }
        // Full jitter: those that failed together do not come back together.
        let jitter = wait_max(self.retries).mul_f64(fastrand::f64());
        self.retries += 1;
        let wait = fault.retry_after.map_or(jitter, |asked| asked + jitter);
        sleep(&self.services, wait).await;
        Ok(())
    }

    /// Starts to count anew, after something has succeeded.
    pub(crate) fn reset(&mut self) {
        self.retries = 0;
    }
}

/// The longest wait after so many retries: doubled each time.
fn wait_max(retries: u32) -> Duration {
    2_u32
        .checked_pow(retries)
        .and_then(|factor| WAIT_FIRST.checked_mul(factor))
        .map_or(WAIT_MAX, |wait| wait.min(WAIT_MAX))
}

#[cfg(test)]
mod tests {
    use gcloud_sdk::tonic::Status;
    use tokio::time::Instant;

    use super::*;

    fn bounded(retries_max: u32) -> Attempts {
        Attempts::new(retries_max, Services::detached())
    }

    fn unavailable() -> Fault {
        Fault::from(Status::unavailable(""))
    }

    #[tokio::test(start_paused = true)]
    async fn tries_are_bounded_and_counted_anew_after_a_success() {
        let mut attempts = bounded(3);
        for _ in 0..2 {
            for _ in 0..3 {
                attempts.after(unavailable()).await.unwrap();
            }
            let error = attempts.after(unavailable()).await.unwrap_err();
            assert_eq!(error.code, "firestore.unavailable");
            attempts.reset();
        }
        assert!(bounded(0).after(unavailable()).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn what_will_fail_again_is_not_tried_again() {
        let begun = Instant::now();
        let denied = Fault::from(Status::permission_denied(""));
        assert_eq!(
            bounded(9).after(denied).await.unwrap_err().code,
            "firestore.permission_denied"
        );
        assert_eq!(begun.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_grows_up_to_its_limit_and_is_never_shorter_than_asked() {
        assert_eq!(wait_max(0), Duration::from_millis(200));
        assert_eq!(wait_max(3), Duration::from_millis(1_600));
        for retries in [8, 31, 32, u32::MAX] {
            assert_eq!(wait_max(retries), WAIT_MAX);
        }
        let mut attempts = bounded(100);
        for retries in 0..100 {
            let begun = Instant::now();
            attempts.after(unavailable()).await.unwrap();
            // The clock of the tests goes in whole milliseconds.
            assert!(begun.elapsed() <= wait_max(retries) + Duration::from_millis(1));
        }
        let asked = Duration::from_secs(90);
        let begun = Instant::now();
        let mut fault = Fault::from(Status::resource_exhausted(""));
        fault.retry_after = Some(asked);
        bounded(1).after(fault).await.unwrap();
        assert!(begun.elapsed() >= asked);
    }
}
