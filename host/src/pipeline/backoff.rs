//! The time between two tries: exponential with full jitter, and never less than the other side asks for.
//! Neighbours: `retries` tries transactions again, `reconnect` the reading of a partition.

use std::time::Duration;

/// The longest time between two tries.
const RETRY_DELAY_MAX: Duration = Duration::from_secs(60);

/// The time before try number `tries`, from 1, if the first one comes within `base`, and the other side asks for
/// `retry_after_ms`. `jitter` is from 0 to 1, at random, so that many who failed together do not come back together.
pub fn delay(base: Duration, tries: u32, retry_after_ms: Option<u64>, jitter: f64) -> Duration {
    let factor = 1_u32.checked_shl(tries.saturating_sub(1)).unwrap_or(u32::MAX);
    let ceiling = base.saturating_mul(factor).min(RETRY_DELAY_MAX);
    let asked = Duration::from_millis(retry_after_ms.unwrap_or(0));
    ceiling
        .mul_f64(jitter.clamp(0.0, 1.0))
        .max(asked)
        .min(RETRY_DELAY_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ceiling_doubles_up_to_a_minute() {
        let base = Duration::from_secs(1);
        let ceilings: Vec<u64> = (1..=8)
            .map(|tries| delay(base, tries, None, 1.0).as_secs())
            .collect();
        assert_eq!(ceilings, [1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(delay(base, 1_000, None, 1.0), RETRY_DELAY_MAX);
        assert_eq!(delay(base, 0, None, 1.0), base);
    }

    #[test]
    fn the_jitter_is_full_and_what_the_other_side_asks_for_is_waited_for() {
        let base = Duration::from_secs(4);
        assert_eq!(delay(base, 1, None, 0.0), Duration::ZERO);
        assert_eq!(delay(base, 1, None, 0.25), Duration::from_secs(1));
        assert_eq!(delay(base, 1, Some(3_000), 0.25), Duration::from_secs(3));
        assert_eq!(delay(base, 1, Some(3_000), 1.0), base);
        assert_eq!(delay(base, 1, Some(600_000), 1.0), RETRY_DELAY_MAX);
    }
}
