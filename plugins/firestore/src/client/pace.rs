//! A rate that is kept to: the quota's, the ramp-up's, and less than either after the service asked to slow down.
//!
//! Permits are taken on credit: whoever finds none owed goes on at once and leaves its permits to be earned back before the
//! next one, so that a request of 500 documents passes at any rate and the rate holds all the same. Nothing here reads the
//! wall clock.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use whimbrel_plugin_api::Services;

use super::paced::sleep;
use crate::config::in_a_second;

/// The rate that a ramp-up begins with, its growth, and how often it grows: the 500/50/5 rule of the service.
const RAMP_FIRST_PER_SEC: f64 = 500.0;
const RAMP_GROWTH: f64 = 1.5;
const RAMP_STEP: Duration = Duration::from_secs(5 * 60);
/// Many requests under way fail together: the rate is halved once for all of them.
const SLOW_DOWN_EVERY: Duration = Duration::from_secs(1);
/// It is not halved below this, so that the work goes on.
const RATE_MIN_PER_SEC: f64 = 10.0;
/// After a second without complaint the rate grows by a tenth, and at least by this much.
const CLIMB_MIN_PER_SEC: f64 = 50.0;
const CLIMB_SHARE: f64 = 0.1;
/// A rate above what one process reaches is none.
const RATE_MAX_PER_SEC: f64 = 1_000_000.0;
/// No wait is longer before the rate is looked at again: it may have climbed.
const WAIT_MAX: Duration = Duration::from_secs(1);

/// Permits at a rate that changes.
#[derive(Debug)]
pub(crate) struct Pace {
    limit_per_sec: Option<f64>,
    has_ramp: bool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// When the first permit was taken: the ramp begins here.
    began: Option<Instant>,
    /// Permits taken and not yet earned.
    owed: f64,
    /// When `owed` was true.
    counted: Option<Instant>,
    /// The rate since the service asked to slow down.
    slowed_per_sec: Option<f64>,
    slowed_at: Option<Instant>,
    /// Up to when that rate has climbed, or when it began to.
    climbed_at: Option<Instant>,
    not_before: Option<Instant>,
    measured: Measured,
}

/// What was taken in this second and in the one before.
#[derive(Debug, Default)]
struct Measured {
    since: Option<Instant>,
    now: f64,
    before: f64,
}

impl Pace {
    /// A pace with the limit of a quota and perhaps a ramp-up; with neither it is as fast as can be.
    pub(super) fn new(limit_per_sec: Option<f64>, has_ramp: bool) -> Self {
        Self {
            limit_per_sec,
            has_ramp,
            state: Mutex::default(),
        }
    }

    /// Waits until `permits` may be used.
    pub(super) async fn take(&self, permits: u32, services: &Services) {
        while let Some(wait) = self.try_take(permits, Instant::now()) {
            sleep(services, wait).await;
        }
    }

    /// `permits` that were taken turn out not to be needed.
    pub(super) fn give_back(&self, permits: u32) {
        let mut state = self.state();
        let permits = f64::from(permits);
        state.owed = (state.owed - permits).max(0.0);
        state.measured.now = (state.measured.now - permits).max(0.0);
    }

    /// How many of `most` one request may ask for: what the quota allows in a second.
    pub(super) fn at_once(&self, most: u32) -> u32 {
        in_a_second(self.limit_per_sec, most)
    }

    /// The service asked to slow down: half the rate from now on, and nothing before `retry_after` has passed.
    pub(super) fn slow_down(&self, retry_after: Option<Duration>) {
        let now = Instant::now();
        let mut state = self.state();
        if let Some(asked) = retry_after {
            let until = now + asked;
            state.not_before = Some(state.not_before.map_or(until, |other| other.max(until)));
        }
        state.climbed_at = Some(now);
        if state.slowed_at.is_some_and(|at| now - at < SLOW_DOWN_EVERY) {
            return;
        }
        let rate = self
            .rate(&state, now)
            .unwrap_or_else(|| state.measured.per_sec(now));
        state.slowed_per_sec = Some((rate / 2.0).max(RATE_MIN_PER_SEC));
        state.slowed_at = Some(now);
    }

    /// `permits` were used and nobody complained: the rate climbs again, up to its limit.
    pub(super) fn succeeded(&self, permits: u32) {
        let now = Instant::now();
        let mut state = self.state();
        let Some(rate) = state.slowed_per_sec else {
            return;
        };
        // Neither a request of many documents nor an idle hour is more than the time and the permits that were used in it.
        let passed = state.climbed_at.map_or(Duration::ZERO, |at| now - at);
        let secs = (f64::from(permits) / rate).min(passed.as_secs_f64());
        state.climbed_at = Some(now);
        let climbed = rate + (rate * CLIMB_SHARE).max(CLIMB_MIN_PER_SEC) * secs;
        let top = self.allowed(&state, now).unwrap_or(RATE_MAX_PER_SEC);
        state.slowed_per_sec = (climbed < top).then_some(climbed);
    }

    /// Whether the service asked to slow down and the rate has not climbed back since.
    #[cfg(test)]
    pub(super) fn is_slowed(&self) -> bool {
        self.state().slowed_per_sec.is_some()
    }

    /// Takes the permits, or says how long to wait before asking again.
    fn try_take(&self, permits: u32, now: Instant) -> Option<Duration> {
        let mut state = self.state();
        if let Some(wait) = state.not_before.and_then(|at| at.checked_duration_since(now))
            && !wait.is_zero()
        {
            return Some(wait);
        }
        state.not_before = None;
        state.began.get_or_insert(now);
        let rate = self.rate(&state, now);
        let since = state.counted.map_or(Duration::ZERO, |counted| now - counted);
        state.counted = Some(now);
        match rate {
            None => state.owed = 0.0,
            Some(rate) => {
                state.owed = (state.owed - rate * since.as_secs_f64()).max(0.0);
                if state.owed > 0.0 {
                    return Some(
                        Duration::from_secs_f64(state.owed / rate).clamp(Duration::from_millis(1), WAIT_MAX),
                    );
                }
            }
        }
        state.owed += f64::from(permits);
        state.measured.add(permits, now);
        None
    }

    /// The rate that holds now; `None` for no limit.
    fn rate(&self, state: &State, now: Instant) -> Option<f64> {
        [self.allowed(state, now), state.slowed_per_sec]
            .into_iter()
            .flatten()
            .reduce(f64::min)
    }

    /// The rate that quota and ramp-up allow.
    fn allowed(&self, state: &State, now: Instant) -> Option<f64> {
        let ramp = self.has_ramp.then(|| {
            let passed = state.began.map_or(Duration::ZERO, |began| now - began);
            let steps = passed.div_duration_f64(RAMP_STEP).floor();
            RAMP_FIRST_PER_SEC * RAMP_GROWTH.powf(steps)
        });
        [self.limit_per_sec, ramp].into_iter().flatten().reduce(f64::min)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // What is kept here is numbers, so a panic elsewhere leaves nothing half done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Measured {
    const WINDOW: Duration = Duration::from_secs(1);

    fn add(&mut self, permits: u32, now: Instant) {
        self.advance(now);
        self.now += f64::from(permits);
    }

    /// About what was taken in the last second.
    fn per_sec(&mut self, now: Instant) -> f64 {
        self.advance(now);
        self.now.max(self.before)
    }

    fn advance(&mut self, now: Instant) {
        let since = *self.since.get_or_insert(now);
        let windows = (now - since).div_duration_f64(Self::WINDOW);
        if windows >= 1.0 {
            self.before = if windows < 2.0 { self.now } else { 0.0 };
            self.now = 0.0;
            self.since = Some(now);
        }
    }
}

#[cfg(test)]
mod tests;
