//! The circuit breaker: ends a run of which too large a part is rejected, before all of it is.
//!
//! It looks at the last records only, so that a source that turns bad late is noticed as well, and at records that are judged:
//! what the sink still ponders says nothing yet. A resumed run begins with an empty window. Neighbours: `outcomes` counts rejected
//! records against `max_errors`, `writer` asks both.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use whimbrel_plugin_api::{Error, ErrorKind};

use crate::config::BreakerPolicy;

/// The code of the error that ends the run.
pub const BREAKER_OPEN: &str = "run.breaker_open";
/// Parts of the window that are told apart, so that neither small receipts nor a large window take up much.
const PARTS_MAX: u64 = 100;

/// Windows of rejected records after which no batch is waited for.
const PATIENCE_WINDOWS: u64 = 10;

/// Shared by all writers of a run; asked once for each receipt, not for each record.
#[derive(Debug)]
pub struct Breaker {
    policy: BreakerPolicy,
    state: Mutex<State>,
}

#[derive(Debug, Clone, Default)]
struct State {
    /// What was judged together, oldest first.
    judged: VecDeque<Judged>,
    /// Rejected before the sink saw them, on the way or by the source, and not in `judged` yet.
    held: u64,
}

/// Records that were judged together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Judged {
    records: u64,
    rejected: u64,
}

impl Breaker {
    /// A closed one.
    pub fn new(policy: BreakerPolicy) -> Self {
        Self {
            policy: BreakerPolicy {
                // A smaller window would never hold enough to say anything.
                window: policy.window.max(policy.records_min),
                ..policy
            },
            state: Mutex::default(),
        }
    }

    /// So many records are judged for good: they are in a transaction that is about to be committed, or refused. The error that
    /// ends the run, if too large a part of the last ones is rejected.
    pub fn note(&self, accepted: u64, rejected: u64) -> Option<Error> {
        let mut state = self.state();
        let held = state.release(self.policy.window, accepted.saturating_add(rejected));
        state.take(self.policy.window, accepted, rejected.saturating_add(held));
        self.verdict(&state)
    }

    /// So many of the records that were noted last as accepted are rejected after all.
    pub fn revise(&self, rejected: u64) -> Option<Error> {
        let mut state = self.state();
        state.turn(rejected);
        self.verdict(&state)
    }

    /// As [`Breaker::note`] for a transaction that is still open and may be written again: nothing is noted. Records that the
    /// sink has not judged yet count as accepted.
    pub fn look(&self, accepted: u64, rejected: u64) -> Option<Error> {
        let mut state = self.state().clone();
        let held = state.release(self.policy.window, accepted.saturating_add(rejected));
        state.take(self.policy.window, accepted, rejected.saturating_add(held));
        self.verdict(&state)
    }

    /// So many records were rejected before the sink saw them. Those around them may wait in an open transaction, so they
    /// count with what is judged next; without anything judged, when they fill the window by themselves.
    pub fn hold(&self, rejected: u64) {
        let mut state = self.state();
        state.held = state.held.saturating_add(rejected);
    }

    /// So many records that were rejected one behind the other, with no batch between them, say enough by themselves: those of one
    /// batch come before it, so a few windows of them must have gone by.
    pub fn patience(&self) -> u64 {
        self.policy.window.saturating_mul(PATIENCE_WINDOWS)
    }

    /// A partition is read to its end, so that nothing is judged that could count with what is held.
    pub fn settle(&self) -> Option<Error> {
        let mut state = self.state();
        let held = std::mem::take(&mut state.held);
        state.take(self.policy.window, 0, held);
        self.verdict(&state)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn verdict(&self, state: &State) -> Option<Error> {
        let Judged { records, rejected } = state.sum();
        if records < self.policy.records_min || records == 0 {
            return None;
        }
        let rate = rejected as f64 / records as f64;
        (rate > self.policy.rate).then(|| {
            Error::new(
                ErrorKind::InvalidData,
                BREAKER_OPEN,
                format!(
                    "{:.1} % of the last {records} records were rejected, {} % are allowed",
                    rate * 100.0,
                    percent(self.policy.rate)
                ),
            )
            .with_help(
                "`whimbrel rejected list` shows them with their reasons; repair what they have in common, then go on with \
                 `whimbrel resume`. `import.breaker` of the job allows more",
            )
        })
    }
}

/// A part as per cent, as a person would write it.
fn percent(part: f64) -> String {
    let text = format!("{:.4}", part * 100.0);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

impl State {
    /// What is held and counts now, with `judged_count` records that are judged.
    fn release(&mut self, window: u64, judged_count: u64) -> u64 {
        match judged_count {
            0 if self.held < window => 0,
            _ => std::mem::take(&mut self.held),
        }
    }

    fn take(&mut self, window: u64, accepted: u64, rejected: u64) {
        let records = accepted.saturating_add(rejected);
        match self.judged.back_mut() {
            Some(newest) if newest.records < window / PARTS_MAX => {
                newest.records += records;
                newest.rejected += rejected;
            }
            _ if records > 0 => self.judged.push_back(Judged { records, rejected }),
            _ => {}
        }
        let mut beyond = self.sum().records.saturating_sub(window);
        while let Some(oldest) = self.judged.front_mut().filter(|_| beyond > 0) {
            if oldest.records > beyond {
                *oldest = oldest.without(beyond);
                return;
            }
            beyond -= oldest.records;
            self.judged.pop_front();
        }
    }

    /// So many accepted ones, the newest first, are rejected. Those that have left the window say nothing any more.
    fn turn(&mut self, mut rejected: u64) {
        for judged in self.judged.iter_mut().rev() {
            let turned = rejected.min(judged.records.saturating_sub(judged.rejected));
            judged.rejected += turned;
            rejected -= turned;
        }
    }

    fn sum(&self) -> Judged {
        let add = |sum: Judged, each: &Judged| Judged {
            records: sum.records.saturating_add(each.records),
            rejected: sum.rejected.saturating_add(each.rejected),
        };
        self.judged.iter().fold(Judged::default(), add)
    }
}

impl Judged {
    /// Without `gone` of its records, which are fewer than it has. Which ones were rejected is not known, so the same part of
    /// those that stay was.
    fn without(self, gone: u64) -> Self {
        let records = self.records - gone;
        let rejected = u128::from(self.rejected) * u128::from(records) / u128::from(self.records.max(1));
        Self {
            records,
            rejected: u64::try_from(rejected).unwrap_or(u64::MAX),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn breaker(rate: f64, records_min: u64, window: u64) -> Breaker {
        Breaker::new(BreakerPolicy {
            rate,
            records_min,
            window,
        })
    }

    #[test]
    fn more_than_the_rate_opens_it_and_exactly_the_rate_does_not() {
        let breaker = breaker(0.1, 50, 1_000);
        assert!(breaker.note(450, 50).is_none());
        let error = breaker.note(89, 11).unwrap();
        assert_eq!(
            (error.code.as_str(), error.kind),
            (BREAKER_OPEN, ErrorKind::InvalidData)
        );
        assert_eq!(
            error.message,
            "10.2 % of the last 600 records were rejected, 10 % are allowed"
        );
        let help = error.help.unwrap();
        for word in ["rejected list", "resume", "import.breaker"] {
            assert!(help.contains(word), "{help}");
        }
    }

    #[test]
    fn accepted_records_that_are_rejected_after_all_count_once() {
        let breaker = breaker(0.1, 50, 1_000);
        assert!(breaker.note(500, 0).is_none());
        assert!(breaker.note(100, 0).is_none());
        assert!(breaker.revise(60).is_none());
        let error = breaker.revise(50).unwrap();
        assert_eq!(
            error.message,
            "18.3 % of the last 600 records were rejected, 10 % are allowed"
        );
        // No more are turned than there are.
        let error = breaker.revise(u64::MAX).unwrap();
        assert_eq!(
            error.message,
            "100.0 % of the last 600 records were rejected, 10 % are allowed"
        );
    }

    #[test]
    fn a_few_records_say_nothing() {
        let breaker = breaker(0.1, 50, 1_000);
        assert!(breaker.note(0, 49).is_none());
        assert!(breaker.note(0, 1).is_some());
    }

    #[test]
    fn a_rate_of_one_never_opens_it() {
        let breaker = breaker(1.0, 1, 10);
        assert!(breaker.note(0, 10_000).is_none());
        breaker.hold(10_000);
        assert!(breaker.settle().is_none());
    }

    #[test]
    fn a_rate_of_nothing_opens_it_with_the_first_after_the_least_number() {
        let breaker = breaker(0.0, 2, 10);
        assert!(breaker.note(1, 0).is_none());
        assert!(breaker.note(0, 1).is_some());
    }

    #[test]
    fn only_the_last_records_count() {
        // A source that turns bad after a long good part.
        let late = breaker(0.1, 50, 1_000);
        assert!(late.note(1_000_000, 0).is_none());
        assert!(late.note(0, 100).is_none());
        assert!(late.note(0, 1).is_some());
        // A bad part that is long past.
        let past = breaker(0.1, 50, 1_000);
        assert!(past.note(900, 100).is_none());
        assert!(past.note(950, 50).is_none());
        assert!(past.note(950, 51).is_none());
    }

    #[test]
    fn of_what_is_partly_in_the_window_the_same_part_counts() {
        let breaker = breaker(0.1, 50, 1_000);
        // As many as 9 %, over a hundred windows at once.
        assert!(breaker.note(91_000, 9_000).is_none());
        let sum = breaker.state().sum();
        assert_eq!((sum.records, sum.rejected), (1_000, 90));
        // Half of it goes.
        assert!(breaker.note(500, 0).is_none());
        let sum = breaker.state().sum();
        assert_eq!((sum.records, sum.rejected), (1_000, 45));
    }

    #[test]
    fn looking_at_an_open_transaction_notes_nothing() {
        let breaker = breaker(0.1, 50, 1_000);
        for _ in 0..100 {
            assert!(breaker.look(91, 9).is_none());
        }
        assert_eq!(breaker.state().sum(), Judged::default());
        assert!(breaker.look(80, 20).is_some());
        // Undone and written again, without what was wrong.
        assert!(breaker.note(100, 0).is_none());
    }

    #[test]
    fn what_was_rejected_before_the_sink_counts_with_what_is_judged_next() {
        let breaker = breaker(0.1, 50, 1_000);
        // The source tells of rejected records while those around them wait for a sink that judges late.
        for _ in 0..9 {
            breaker.hold(100);
            assert!(breaker.look(0, 0).is_none());
            assert!(breaker.look(99_000, 0).is_none());
        }
        assert!(breaker.note(99_100, 0).is_none());
        let sum = breaker.state().sum();
        assert_eq!((sum.records, sum.rejected), (1_000, 9));
        // Nothing but rejected records, so that none is ever judged.
        breaker.hold(999);
        assert!(breaker.look(0, 0).is_none());
        breaker.hold(1);
        assert!(breaker.look(0, 0).is_some());
        assert!(breaker.note(0, 0).is_some());
    }

    #[test]
    fn at_the_end_of_a_partition_what_is_held_counts_by_itself() {
        let few = breaker(0.1, 50, 1_000);
        few.hold(49);
        assert!(few.settle().is_none());
        few.hold(1);
        assert!(few.settle().is_some());
        assert!(breaker(0.1, 50, 1_000).settle().is_none());
    }

    #[test]
    fn a_window_is_never_smaller_than_the_least_number() {
        let breaker = breaker(0.1, 50, 10);
        assert!(breaker.note(0, 50).is_some());
    }

    #[test]
    fn a_large_window_of_small_receipts_takes_up_little() {
        let breaker = breaker(0.1, 50, 100_000);
        for _ in 0..300_000 {
            assert!(breaker.note(1, 0).is_none());
        }
        assert!(breaker.state().judged.len() as u64 <= PARTS_MAX + 1);
        assert_eq!(breaker.state().sum().records, 100_000);
    }

    #[test]
    fn writers_share_it() {
        let breaker = breaker(0.1, 50, 1_000);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..100).for_each(|_| drop(breaker.note(2, 0))));
            }
        });
        assert_eq!(breaker.state().sum().records, 800);
        assert!(breaker.note(0, 100).is_some());
    }
}
