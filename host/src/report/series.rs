//! How a run went over time: totals at moments about a second apart, never more than a few hundred of them.
//!
//! Totals and not rates are kept, so that a point may be left out and the rest is still right.

use serde::ser::{SerializeSeq, SerializeStruct};
use serde::{Serialize, Serializer};

/// Points that are kept; when there are as many, every second one is let go.
pub const POINTS_MAX: usize = 600;
/// Seconds between points at the beginning of a run.
const INTERVAL_SECS: f64 = 1.0;

/// A part of the interval after which a sample is due: looks come about each second, and one a little early is better
/// than one a whole look late.
const EARLY: f64 = 0.75;

/// Totals at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Sample {
    /// Seconds since the start.
    pub at_secs: f64,
    /// Records read until then.
    pub read_count: u64,
    /// Records durable in the sink until then.
    pub written_count: u64,
    /// Records refused until then.
    pub rejected_count: u64,
    /// Transactions that were tried again until then.
    pub retry_count: u64,
    /// Octets read until then.
    pub read_bytes: u64,
    /// Records looked at for verification until then.
    pub verified_count: u64,
    /// Resident memory of the worker then, octets; 0 if not known.
    pub memory_bytes: u64,
}

/// What happened between two samples.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Rate {
    /// Seconds since the start, at the end of the interval.
    pub at_secs: f64,
    /// Records read a second.
    pub read_per_sec: f64,
    /// Records written a second.
    pub written_per_sec: f64,
    /// Octets read a second.
    pub read_bytes_per_sec: f64,
    /// Records looked at for verification a second.
    pub verified_per_sec: f64,
    /// Records rejected in the interval.
    pub rejected_count: u64,
    /// Transactions tried again in the interval.
    pub retry_count: u64,
}

/// The samples of a run, in the order of time.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    interval_secs: f64,
    samples: Vec<Sample>,
}

impl Default for Series {
    fn default() -> Self {
        Self {
            interval_secs: INTERVAL_SECS,
            samples: Vec::new(),
        }
    }
}

impl Series {
    /// Whether a sample is wanted at `at_secs`.
    pub fn is_due(&self, at_secs: f64) -> bool {
        self.samples
            .last()
            .is_none_or(|last| at_secs - last.at_secs >= self.interval_secs * EARLY)
    }

    /// Adds a sample, due or not; one that is not later than the last takes its place.
    pub fn add(&mut self, sample: Sample) {
        if let Some(last) = self.samples.last_mut()
            && sample.at_secs <= last.at_secs
        {
            *last = Sample {
                at_secs: last.at_secs,
                ..sample
            };
            return;
        }
        if self.samples.len() == POINTS_MAX {
            self.halve();
        }
        self.samples.push(sample);
    }

    /// Every second one goes; of the memory of two the greater stays, for a peak is what one looks for.
    fn halve(&mut self) {
        self.samples = self
            .samples
            .chunks(2)
            .map(|two| {
                let last = two[two.len() - 1];
                Sample {
                    memory_bytes: two[0].memory_bytes.max(last.memory_bytes),
                    ..last
                }
            })
            .collect();
        self.interval_secs *= 2.0;
    }

    /// The samples.
    pub fn samples(&self) -> &[Sample] {
        &self.samples
    }

    /// Seconds between samples now.
    pub fn interval_secs(&self) -> f64 {
        self.interval_secs
    }

    /// What happened between each two samples; from the start to the first one too.
    pub fn rates(&self) -> Vec<Rate> {
        let mut before = Sample::default();
        let mut rates = Vec::with_capacity(self.samples.len());
        for sample in &self.samples {
            let seconds = sample.at_secs - before.at_secs;
            if seconds > 0.0 {
                // Counters of a run that was taken over may begin anew.
                let grown = |now: u64, then: u64| now.saturating_sub(then);
                let per_sec = |now: u64, then: u64| grown(now, then) as f64 / seconds;
                rates.push(Rate {
                    at_secs: sample.at_secs,
                    read_per_sec: per_sec(sample.read_count, before.read_count),
                    written_per_sec: per_sec(sample.written_count, before.written_count),
                    read_bytes_per_sec: per_sec(sample.read_bytes, before.read_bytes),
                    verified_per_sec: per_sec(sample.verified_count, before.verified_count),
                    rejected_count: grown(sample.rejected_count, before.rejected_count),
                    retry_count: grown(sample.retry_count, before.retry_count),
                });
            }
            before = *sample;
        }
        rates
    }
}

/// `{interval_secs, samples, rates}`.
impl Serialize for Series {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut object = serializer.serialize_struct("Series", 3)?;
        object.serialize_field("interval_secs", &self.interval_secs)?;
        object.serialize_field("samples", &self.samples)?;
        object.serialize_field("rates", &Rounded(self.rates()))?;
        object.end()
    }
}

/// Rates with three digits behind the point: more would pretend.
struct Rounded(Vec<Rate>);

impl Serialize for Rounded {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut list = serializer.serialize_seq(Some(self.0.len()))?;
        for rate in &self.0 {
            list.serialize_element(&Rate {
                read_per_sec: thousandths(rate.read_per_sec),
                written_per_sec: thousandths(rate.written_per_sec),
                read_bytes_per_sec: thousandths(rate.read_bytes_per_sec),
                verified_per_sec: thousandths(rate.verified_per_sec),
                ..*rate
            })?;
        }
        list.end()
    }
}

/// A number with three digits behind the point.
pub fn thousandths(value: f64) -> f64 {
    (value * 1_000.0).round() / 1_000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn steady(seconds: u32) -> Series {
        let mut series = Series::default();
        for second in 0..=seconds {
            let at_secs = f64::from(second);
            if series.is_due(at_secs) {
                series.add(Sample {
                    at_secs,
                    read_count: u64::from(second) * 100,
                    written_count: u64::from(second) * 100,
                    memory_bytes: if second == 123 { 999 } else { 10 },
                    ..Sample::default()
                });
            }
        }
        series
    }

    #[test]
    fn a_long_run_keeps_few_points_and_the_same_rates() {
        let series = steady(100_000);
        assert!(series.samples().len() <= POINTS_MAX);
        assert!(
            series.samples().len() > POINTS_MAX / 3,
            "{}",
            series.samples().len()
        );
        assert_eq!(series.interval_secs(), 256.0);
        for rate in &series.rates()[1..] {
            assert!((rate.written_per_sec - 100.0).abs() < 0.001, "{rate:?}");
        }
        let peak = series.samples().iter().map(|sample| sample.memory_bytes).max();
        assert_eq!(peak, Some(999), "a peak is not thinned out");
        let order = series
            .samples()
            .windows(2)
            .all(|two| two[0].at_secs < two[1].at_secs);
        assert!(order);
    }

    #[test]
    fn a_clock_that_stands_still_gives_no_endless_rate() {
        let mut series = Series::default();
        for read_count in [5, 9] {
            series.add(Sample {
                at_secs: 1.0,
                read_count,
                ..Sample::default()
            });
        }
        assert_eq!(series.samples().len(), 1);
        assert_eq!(series.rates()[0].read_per_sec, 9.0);
    }

    #[test]
    fn counters_that_fall_give_no_rate_below_zero() {
        let mut series = steady(3);
        series.add(Sample {
            at_secs: 4.0,
            ..Sample::default()
        });
        assert_eq!(series.rates().last().unwrap().read_per_sec, 0.0);
    }
}
