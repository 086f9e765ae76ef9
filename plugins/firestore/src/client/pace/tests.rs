//! Rates, measured on tokio's clock, which stands still and is moved: hours pass at once.
//! Not here: who shares a pace (`pace_book`).

use tokio::time::advance;

use super::*;

/// How many permits of `each` at a time are given within `seconds`, none of them complained about.
async fn given(pace: &Pace, each: u32, seconds: u64) -> f64 {
    let end = Instant::now() + Duration::from_secs(seconds);
    let mut given = 0;
    while tokio::time::timeout_at(end, pace.take(each)).await.is_ok() && Instant::now() < end {
        given += each;
        pace.succeeded(each);
        // What is not limited would give for ever: half of its time something else happens.
        if pace.limit_per_sec.is_none() && !pace.has_ramp {
            advance(Duration::from_millis(1)).await;
        }
    }
    f64::from(given)
}

fn assert_about(given: f64, expected: f64) {
    assert!(
        (given - expected).abs() <= expected * 0.02,
        "{given} in place of {expected}"
    );
}

#[tokio::test(start_paused = true)]
async fn without_a_limit_nobody_waits() {
    let pace = Pace::new(None, false);
    let begun = Instant::now();
    for _ in 0..1_000 {
        pace.take(100_000).await;
    }
    assert_eq!(begun.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_quota_is_kept_to_whatever_is_taken_at_once() {
    for each in [1, 7, 100, 500] {
        let pace = Pace::new(Some(100.0), false);
        assert_about(given(&pace, each, 1_000).await, 100_000.0);
    }
}

#[tokio::test(start_paused = true)]
async fn those_who_wait_side_by_side_share_the_quota() {
    let pace = Pace::new(Some(200.0), false);
    let all = futures_util::future::join_all((0..8).map(|_| given(&pace, 50, 500))).await;
    assert_about(all.iter().sum(), 100_000.0);
}

#[tokio::test(start_paused = true)]
async fn an_idle_hour_is_not_made_up_for() {
    let pace = Pace::new(Some(100.0), false);
    pace.take(1).await;
    advance(Duration::from_secs(3_600)).await;
    assert_about(given(&pace, 10, 100).await, 10_000.0);
}

#[tokio::test(start_paused = true)]
async fn writing_begins_slowly_and_grows_by_half_every_five_minutes() {
    let pace = Pace::new(None, true);
    for rate in [500.0, 750.0, 1_125.0, 1_687.5] {
        assert_about(given(&pace, 50, 300).await, rate * 300.0);
    }
    // A quota below it counts.
    let pace = Pace::new(Some(600.0), true);
    for rate in [500.0, 600.0, 600.0] {
        assert_about(given(&pace, 50, 300).await, rate * 300.0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_complaint_halves_the_rate_once_for_all_that_fail_together() {
    let pace = Pace::new(Some(1_000.0), false);
    pace.take(1).await;
    let rate = || pace.rate(&pace.state(), Instant::now()).unwrap();
    for _ in 0..64 {
        pace.slow_down(None);
    }
    assert_about(rate(), 500.0);
    for _ in 0..20 {
        advance(SLOW_DOWN_EVERY).await;
        pace.slow_down(None);
    }
    assert_about(rate(), RATE_MIN_PER_SEC);
}

#[tokio::test(start_paused = true)]
async fn the_rate_climbs_back_to_its_limit_and_no_further() {
    let pace = Pace::new(Some(1_000.0), false);
    pace.take(1).await;
    pace.slow_down(None);
    let first = given(&pace, 10, 1).await;
    assert!((500.0..600.0).contains(&first), "{first}");
    let second = given(&pace, 10, 1).await;
    assert!(second > first, "{second} after {first}");
    given(&pace, 10, 20).await;
    assert_about(given(&pace, 10, 100).await, 100_000.0);
    assert_eq!(pace.state().slowed_per_sec, None);
}

#[tokio::test(start_paused = true)]
async fn without_a_limit_half_of_what_was_taken_is_the_new_rate() {
    let pace = Pace::new(None, false);
    // One permit in each millisecond.
    given(&pace, 1, 3).await;
    pace.slow_down(None);
    let slowed = pace.state().slowed_per_sec.unwrap();
    assert!((450.0..550.0).contains(&slowed), "{slowed}");
    // It goes on to climb, so that one bad moment does not slow down hours.
    given(&pace, 10, 120).await;
    let climbed = pace.state().slowed_per_sec.unwrap_or(RATE_MAX_PER_SEC);
    assert!(climbed > 10_000.0, "{climbed}");
}

#[tokio::test(start_paused = true)]
async fn nothing_is_given_before_the_time_that_the_service_asks_for() {
    let pace = Pace::new(None, false);
    pace.take(1).await;
    let begun = Instant::now();
    pace.slow_down(Some(Duration::from_secs(30)));
    // A shorter time that is asked for later takes nothing back.
    pace.slow_down(Some(Duration::from_secs(1)));
    pace.take(1).await;
    assert!(
        begun.elapsed() >= Duration::from_secs(30),
        "{:?}",
        begun.elapsed()
    );
    assert!(begun.elapsed() < Duration::from_secs(31), "{:?}", begun.elapsed());
}
