//! Rates, measured on tokio's clock, which stands still and is moved: hours pass at once.
//! Not here: who shares a pace (`pace_book`).

use tokio::time::advance;

use super::*;

/// How many permits of `each` at a time are given within `seconds`, none of them complained about.
async fn given(pace: &Pace, each: u32, seconds: u64) -> f64 {
    let end = Instant::now() + Duration::from_secs(seconds);
    let mut given = 0;
    while tokio::time::timeout_at(end, take(pace, each)).await.is_ok() && Instant::now() < end {
        given += each;
        pace.succeeded(each);
        // What is not limited would give for ever: half of its time something else happens.
        if pace.limit_per_sec.is_none() && !pace.has_ramp {
            advance(Duration::from_millis(1)).await;
        }
    }
    f64::from(given)
}

async fn take(pace: &Pace, permits: u32) {
    pace.take(permits, &Services::detached()).await;
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
        take(&pace, 100_000).await;
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
    take(&pace, 1).await;
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
    take(&pace, 1).await;
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
    take(&pace, 1).await;
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
    take(&pace, 1).await;
    let begun = Instant::now();
    pace.slow_down(Some(Duration::from_secs(30)));
    // A shorter time that is asked for later takes nothing back.
    pace.slow_down(Some(Duration::from_secs(1)));
    take(&pace, 1).await;
    assert!(
        begun.elapsed() >= Duration::from_secs(30),
        "{:?}",
        begun.elapsed()
    );
    assert!(begun.elapsed() < Duration::from_secs(31), "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn the_rate_climbs_by_the_time_that_has_passed_however_large_a_request_was() {
    let pace = Pace::new(None, false);
    let slowed = || pace.state().slowed_per_sec.unwrap();
    // A thousand in one second.
    take(&pace, 1_000).await;
    pace.slow_down(None);
    assert_about(slowed(), 500.0);
    // Many that were under way come back at once.
    for _ in 0..64 {
        pace.succeeded(10_000);
    }
    assert_about(slowed(), 500.0);
    for expected in [550.0, 605.0, 665.5] {
        advance(Duration::from_secs(1)).await;
        for _ in 0..64 {
            pace.succeeded(10_000);
        }
        assert_about(slowed(), expected);
    }
    // Nobody used it for an hour.
    advance(Duration::from_secs(3_600)).await;
    pace.succeeded(67);
    assert_about(slowed(), 665.5 + 6.7);
    // A complaint begins the second anew.
    advance(Duration::from_millis(900)).await;
    pace.slow_down(None);
    let halved = slowed();
    advance(Duration::from_millis(100)).await;
    pace.succeeded(10_000);
    assert_about(slowed(), halved + 5.0);
}

#[tokio::test(start_paused = true)]
async fn what_is_given_back_is_not_waited_for() {
    let pace = Pace::new(Some(100.0), false);
    let begun = Instant::now();
    for _ in 0..100 {
        take(&pace, 100).await;
        pace.give_back(99);
    }
    assert_about(begun.elapsed().as_secs_f64(), 0.99);
    // No more than was taken.
    pace.give_back(u32::MAX);
    take(&pace, 100).await;
    let begun = Instant::now();
    take(&pace, 1).await;
    assert_about(begun.elapsed().as_secs_f64(), 1.0);
}

#[test]
fn one_request_asks_for_what_may_be_used_in_a_second() {
    for (limit, most, expected) in [
        (None, 10_000, 10_000),
        (Some(80.0), 10_000, 80),
        (Some(80.0), 20, 20),
        (Some(0.8), 300, 1),
        (Some(1e12), 10_000, 10_000),
    ] {
        assert_eq!(Pace::new(limit, false).at_once(most), expected, "{limit:?}");
    }
}
