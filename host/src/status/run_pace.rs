//! How fast a run is and how far: sums over its collections, the rate of late, the samples for curves.
//! A part of [`RunState`]; nothing here reads an event.

use super::run_state::{Moment, RunState};
use super::run_status::Totals;
use crate::report::{Sample, thousandths};

/// The rate of late is that of so many seconds.
const RATE_SECS: f64 = 10.0;
/// Looks at the count that are closer together than this are one.
const RATE_STEP_SECS: f64 = 0.5;

impl RunState {
    /// Looks at how far it is, for the curves and the rate of late. To be called with each status.
    pub fn tick(&mut self, now: Moment) {
        let totals = self.sums();
        let is_apart = |(at_secs, _): &(f64, u64)| now.elapsed_secs - at_secs >= RATE_STEP_SECS;
        if self.written_of_late.back().is_none_or(is_apart) {
            self.written_of_late
                .push_back((now.elapsed_secs, totals.written_count));
        }
        while self
            .written_of_late
            .front()
            .is_some_and(|(at_secs, _)| now.elapsed_secs - at_secs > RATE_SECS)
        {
            self.written_of_late.pop_front();
        }
        if self.series.is_due(now.elapsed_secs) {
            self.sample(&totals, now);
        }
    }

    pub(super) fn sample(&mut self, totals: &Totals, now: Moment) {
        self.series.add(Sample {
            at_secs: thousandths(now.elapsed_secs),
            read_count: totals.read_count,
            written_count: totals.written_count,
            rejected_count: totals.rejected_count,
            retry_count: self.status.retry_count,
            read_bytes: totals.read_bytes,
            verified_count: totals.verified_count,
            memory_bytes: self.status.memory_bytes.unwrap_or(0),
        });
    }

    pub(super) fn sums(&self) -> Totals {
        let mut totals = Totals {
            expected_count: Some(0),
            ..Totals::default()
        };
        for collection in &self.status.collections {
            totals.expected_count = totals
                .expected_count
                .zip(collection.expected_count)
                .map(|(sum, count)| sum + count);
            totals.read_count += collection.read_count;
            totals.written_count += collection.written_count;
            totals.rejected_count += collection.rejected_count;
            totals.read_bytes += collection.read_bytes;
            totals.verified_count += collection.verified_count;
        }
        if self.status.collections.is_empty() {
            totals.expected_count = None;
        }
        totals
    }

    pub(super) fn totals(&self) -> Totals {
        let mut totals = self.sums();
        let percent = |part: u64, whole: u64| (whole > 0).then(|| percent(part, whole));
        let settled = totals.written_count + totals.rejected_count;
        totals.success_percent = percent(totals.written_count, settled);
        totals.progress_percent = totals
            .expected_count
            .and_then(|expected| percent(settled.min(expected), expected));
        if self.status.ended_at.is_some() {
            return totals;
        }
        if let (Some(first), Some(last)) = (self.written_of_late.front(), self.written_of_late.back())
            && last.0 > first.0
        {
            totals.written_per_sec = thousandths(last.1.saturating_sub(first.1) as f64 / (last.0 - first.0));
        }
        if let Some(expected) = totals.expected_count
            && totals.written_per_sec > 0.0
        {
            let left = expected.saturating_sub(settled) as f64 / totals.written_per_sec;
            totals.left_secs = Some(left.round());
        }
        totals
    }
}

fn percent(part: u64, whole: u64) -> f64 {
    // Never 100 before everything is there.
    (part as f64 * 1_000.0 / whole as f64).floor() / 10.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_said_to_be_whole_before_it_is() {
        assert_eq!(percent(999_999, 1_000_000), 99.9);
        assert_eq!(percent(7, 7), 100.0);
    }
}
