//! How much goes into the next request of a commit, and how long it goes on looking for records that the service refuses.
//!
//! The host cancels a commit that takes too long, and what a session has found is lost with it. So a search ends in time, with what was
//! found by then: the next try leaves that out and goes on from there. Neighbour: `lane_commit`, which divides.

use std::time::Duration;

use tokio::time::Instant;

/// Requests that one commit has refused before it ends, so that the host, which waits for it, gets to know what was found by then.
const REFUSALS_MAX: usize = 1_000;
/// The same in time: a third of what the host grants a call if nobody says otherwise, since a request may take its time.
const SEARCH_MAX: Duration = Duration::from_secs(10);

/// See the module.
#[derive(Debug, Clone, Copy)]
pub(super) struct Portion {
    /// Records at most: halved where they are refused, doubled where they are taken.
    pub(super) count_max: usize,
    /// Whether the checkpoint may go with the last of them.
    pub(super) takes_last: bool,
    /// Octets of records at most as they were known when the commit began.
    pub(super) bytes_max_before: usize,
    /// Requests that were refused by now.
    refusals: usize,
    begun: Instant,
}

impl Portion {
    /// All that fits.
    pub(super) fn whole(bytes_max: usize) -> Self {
        Self {
            count_max: usize::MAX,
            takes_last: true,
            bytes_max_before: bytes_max,
            refusals: 0,
            begun: Instant::now(),
        }
    }

    /// A request with `count` records was refused.
    pub(super) fn refused(&mut self, count: usize) {
        self.refusals += 1;
        self.count_max = (count / 2).max(1);
    }

    /// A request was taken; `takes_last`: whether the checkpoint may go with the last one.
    pub(super) fn taken(&mut self, takes_last: bool) {
        self.count_max = self.count_max.saturating_mul(2);
        self.takes_last = takes_last;
    }

    /// Whether so many requests were refused that the host is to know what was found.
    pub(super) fn is_spent(&self) -> bool {
        self.refusals >= REFUSALS_MAX
    }

    /// Whether the search has gone on for so long that the host is to know what was found, if anything was.
    pub(super) fn is_late(&self) -> bool {
        self.begun.elapsed() >= SEARCH_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_search_ends_by_its_time_and_by_its_count() {
        let mut portion = Portion::whole(usize::MAX);
        tokio::time::advance(SEARCH_MAX - Duration::from_millis(1)).await;
        for _ in 1..REFUSALS_MAX {
            portion.refused(8);
        }
        assert!(!portion.is_late() && !portion.is_spent());
        portion.refused(8);
        tokio::time::advance(Duration::from_millis(1)).await;
        assert!(portion.is_late() && portion.is_spent());
    }

    #[test]
    fn what_is_refused_is_halved_and_what_is_taken_is_doubled() {
        let mut portion = Portion::whole(usize::MAX);
        let mut sizes = Vec::new();
        for count in [9, 4, 2, 1] {
            portion.refused(count);
            sizes.push(portion.count_max);
        }
        portion.taken(false);
        sizes.push(portion.count_max);
        assert_eq!(sizes, [4, 2, 1, 1, 2]);
        assert!(!portion.takes_last);
    }
}
