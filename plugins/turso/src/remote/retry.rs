//! How often and how soon something is tried again: bounded, with pauses that grow and vary, ended by the host.
//!
//! Whether trying again is right is for the callers to know: `session` for transactions, `database` for questions.

use std::hash::{BuildHasher as _, RandomState};
use std::time::{Duration, Instant};

use whimbrel_plugin_api::{Error, Result, Services};

/// Tries of one thing, the first included.
pub(super) const ATTEMPTS_MAX: u32 = 6;
/// The first pause.
const PAUSE_FIRST: Duration = Duration::from_millis(50);
/// No pause is longer, unless the server asks for it.
const PAUSE_MAX: Duration = Duration::from_secs(2);
/// The longest pause that a server may ask for.
const PAUSE_ASKED_MAX: Duration = Duration::from_secs(30);

/// Tries of one thing.
pub(super) struct Attempts {
    made: u32,
    /// Tries go on until then, even if there were enough.
    patience: Instant,
}

impl Attempts {
    /// At least `patience` long, unless the outcome comes first.
    pub(super) fn new(patience: Duration) -> Self {
        Self {
            made: 1,
            patience: Instant::now() + patience,
        }
    }

    /// Waits before the next try after `error`.
    ///
    /// # Errors
    /// `error` itself if it would be no use or there were enough tries, `plugin.cancelled` if the host ends the wait.
    pub(super) fn pause(&mut self, services: &Services, error: Error) -> Result<()> {
        let is_patient = Instant::now() < self.patience;
        if !error.kind.is_transient() || (self.made >= ATTEMPTS_MAX && !is_patient) {
            return Err(error);
        }
        let pause = match error.retry_after_ms {
            Some(millis) => Duration::from_millis(millis).min(PAUSE_ASKED_MAX),
            None => jittered((PAUSE_FIRST * 2_u32.pow(self.made.min(10))).min(PAUSE_MAX)),
        };
        self.made = self.made.saturating_add(1);
        match services.cancel_token().wait(pause) {
            true => Err(Error::cancelled()),
            false => Ok(()),
        }
    }
}

/// Between half of a pause and all of it, so that writers that met once do not meet again.
fn jittered(pause: Duration) -> Duration {
    let half = pause / 2;
    let share = RandomState::new().hash_one(()) % 1_000;
    half + half * u32::try_from(share).unwrap_or(0) / 1_000
}

#[cfg(test)]
mod tests {
    use super::*;
    use whimbrel_plugin_api::ErrorKind;

    #[test]
    fn tries_end_after_a_number_and_at_once_where_they_are_no_use() {
        let services = Services::detached();
        let busy = || Error::new(ErrorKind::Unavailable, "turso.busy", "busy").with_retry_after_ms(0);
        let mut attempts = Attempts::new(Duration::ZERO);
        for _ in 1..ATTEMPTS_MAX {
            attempts.pause(&services, busy()).unwrap();
        }
        assert_eq!(attempts.pause(&services, busy()).unwrap_err().code, "turso.busy");
        let refused = Error::new(ErrorKind::Permission, "turso.forbidden", "no");
        assert!(
            Attempts::new(Duration::from_secs(3_600))
                .pause(&services, refused)
                .is_err()
        );
    }

    #[test]
    fn a_host_that_ends_the_run_ends_the_wait() {
        let services = Services::detached();
        services.cancel_token().cancel();
        let busy = Error::new(ErrorKind::Unavailable, "turso.busy", "busy").with_retry_after_ms(20_000);
        let outcome = Attempts::new(Duration::ZERO).pause(&services, busy);
        assert_eq!(outcome.unwrap_err().code, "plugin.cancelled");
    }

    #[test]
    fn pauses_vary_within_their_bounds() {
        for _ in 0..100 {
            let pause = jittered(PAUSE_MAX);
            assert!(pause >= PAUSE_MAX / 2 && pause <= PAUSE_MAX);
        }
    }
}
