//! How often people are told of what happens all the time: progress and repeated errors.
//! Times are lengths since the task began, so a clock that is set changes nothing.

use std::collections::HashMap;
use std::time::Duration;

/// Progress is told at most so often, and then only of a tenth that was not told.
const STEP_INTERVAL: Duration = Duration::from_secs(30);
/// Progress towards a number that nobody knows is told so often.
const UNKNOWN_INTERVAL: Duration = Duration::from_secs(300);

/// How far a run is, all collections together.
#[derive(Default)]
pub(super) struct ProgressPace {
    /// Records of each collection, if known.
    totals: HashMap<String, Option<u64>>,
    /// Of each collection, those that are written or rejected.
    done: HashMap<String, u64>,
    told_tenth: u64,
    told_at: Duration,
}

/// How far a run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct HowFar {
    pub(super) done: u64,
    pub(super) total: Option<u64>,
}

impl HowFar {
    /// Whole percent, below 100: that it is over is said by another event.
    pub(super) fn percent(self) -> Option<u64> {
        let total = self.total.filter(|total| *total > 0)?;
        let percent = u128::from(self.done) * 100 / u128::from(total);
        Some(u64::try_from(percent).unwrap_or(99).min(99))
    }
}

impl ProgressPace {
    /// A collection will be copied.
    pub(super) fn plan(&mut self, collection: &str, record_count: Option<u64>) {
        self.totals.insert(collection.to_owned(), record_count);
    }

    /// Takes note of where a collection is; gives what is due to be told.
    pub(super) fn note(&mut self, collection: &str, done: u64, elapsed: Duration) -> Option<HowFar> {
        self.done.insert(collection.to_owned(), done);
        let far = HowFar {
            done: self.done.values().sum(),
            total: self.totals.values().copied().sum(),
        };
        let since = elapsed.saturating_sub(self.told_at);
        match far.percent() {
            Some(percent) if percent / 10 > self.told_tenth && since >= STEP_INTERVAL => {
                self.told_tenth = percent / 10;
            }
            None if since >= UNKNOWN_INTERVAL => {}
            _ => return None,
        }
        self.told_at = elapsed;
        Some(far)
    }
}

/// Counts what repeats itself: due at the first, and then at each tenfold.
#[derive(Default)]
pub(super) struct ErrorPace {
    told: u64,
}

impl ErrorPace {
    /// Whether `count` is due to be told.
    pub(super) fn is_due(&mut self, count: u64) -> bool {
        if count == 0 || (self.told > 0 && count / 10 < self.told) {
            return false;
        }
        // From 37 at once, the next is at 100 and not at 370.
        self.told = 10_u64.pow(count.ilog10());
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_told_by_tenths_and_not_more_often_than_its_interval() {
        let mut pace = ProgressPace::default();
        pace.plan("a", Some(500));
        pace.plan("b", Some(500));
        let mut told = Vec::new();
        // A record a second, evenly, and then all at once.
        for second in 1..=400 {
            let far = pace.note("a", second, Duration::from_secs(second));
            told.extend(far.and_then(HowFar::percent));
        }
        assert_eq!(told, [10, 20, 30, 40]);
        let at = |pace: &mut ProgressPace, done, second| pace.note("b", done, Duration::from_secs(second));
        assert_eq!(at(&mut pace, 300, 401), None);
        assert_eq!(at(&mut pace, 300, 429), None);
        assert_eq!(at(&mut pace, 300, 430).and_then(HowFar::percent), Some(70));
        assert_eq!(at(&mut pace, 300, 900), None);
        assert_eq!(at(&mut pace, 9_000, 901).and_then(HowFar::percent), Some(99));
        assert_eq!(at(&mut pace, 9_000, 1_000), None);
    }

    #[test]
    fn a_run_that_is_over_soon_tells_no_progress() {
        let mut pace = ProgressPace::default();
        pace.plan("a", Some(100));
        for done in 0..=100 {
            assert_eq!(pace.note("a", done, Duration::from_millis(290 * done)), None);
        }
    }

    #[test]
    fn without_a_total_the_count_is_told_now_and_then() {
        let mut pace = ProgressPace::default();
        pace.plan("a", Some(100));
        pace.plan("b", None);
        let told: Vec<u64> = (0..=3_600)
            .filter_map(|second| pace.note("b", second, Duration::from_secs(second)))
            .map(|far| far.done)
            .collect();
        assert_eq!(told, (1..=12).map(|count| count * 300).collect::<Vec<_>>());
    }

    #[test]
    fn what_repeats_itself_is_told_at_each_tenfold() {
        let mut pace = ErrorPace::default();
        let told: Vec<u64> = (0..=1_000_000).filter(|count| pace.is_due(*count)).collect();
        assert_eq!(told, [1, 10, 100, 1_000, 10_000, 100_000, 1_000_000]);
        let mut pace = ErrorPace::default();
        assert!(pace.is_due(37) && !pace.is_due(99) && pace.is_due(100) && !pace.is_due(100));
    }
}
