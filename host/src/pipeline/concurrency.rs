//! How many transactions may be under way at once, over all sessions of the sink: fewer when it asks to slow down, then slowly
//! more again.
//!
//! Halved by each round of such answers and raised by one after some commits, so that a quota that nobody knows is found and
//! kept to. With no such answer it stands in nobody's way. Neighbours: `transaction` enters and leaves, `retries` brings the
//! answers.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use whimbrel_plugin_api::ErrorKind;

use crate::control::Stop;
use crate::events::{Emitter, Event, Failure};

/// Commits after which one transaction more may be under way: about ten seconds of one lane at the usual interval of checkpoints.
const COMMITS_PER_STEP: u32 = 10;
/// The least time between two lines of the log about it.
const LOG_INTERVAL: Duration = Duration::from_secs(1);
/// How often somebody who waits looks whether the run ends.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);
/// The longest time that a sink's wish for silence is heard, as for any other wait between two tries.
const SILENCE_MAX: Duration = Duration::from_secs(60);

/// Shared by all writers of a run.
pub struct Concurrency {
    rate: Mutex<Rate>,
    left: Condvar,
    emitter: Emitter,
    sink: String,
}

/// A transaction that is under way; it leaves when this is dropped.
pub struct Permit {
    of: Arc<Concurrency>,
    /// How often the number had been halved when it entered: what was begun before does not halve it once more.
    halvings: u64,
    is_inside: bool,
}

impl Concurrency {
    /// At most `maximum` transactions of the sink called `sink`, and all of them to begin with.
    pub fn new(maximum: usize, sink: &str, emitter: &Emitter) -> Arc<Self> {
        Arc::new(Self {
            rate: Mutex::new(Rate::new(maximum)),
            left: Condvar::new(),
            emitter: emitter.clone(),
            sink: sink.to_owned(),
        })
    }

    /// Waits until one more transaction may begin; `None` if the run ends before that.
    pub fn enter(self: &Arc<Self>, stop: &Stop) -> Option<Permit> {
        let halvings = self.wait(stop)?;
        Some(Permit {
            of: Arc::clone(self),
            halvings,
            is_inside: true,
        })
    }

    fn wait(&self, stop: &Stop) -> Option<u64> {
        let mut rate = self.rate();
        loop {
            if stop.is_raised() {
                return None;
            }
            let patience = match rate.enter(Instant::now()) {
                Entry::Granted { halvings } => return Some(halvings),
                Entry::Full => LOOK_INTERVAL,
                Entry::After(silence) => silence.min(LOOK_INTERVAL),
            };
            (rate, _) = self
                .left
                .wait_timeout(rate, patience)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn rate(&self) -> MutexGuard<'_, Rate> {
        self.rate.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, news: Option<News>) {
        if let Some(news) = news {
            self.emitter.emit(&Event::Log {
                plugin: self.sink.clone(),
                level: if news.is_less { "warn" } else { "info" }.to_owned(),
                message: news.message(),
            });
        }
    }
}

impl Permit {
    /// The transaction has failed; fewer may be under way if the sink has asked to slow down.
    pub fn failed(&mut self, failure: &Failure) {
        if failure.error.kind != ErrorKind::RateLimited {
            return;
        }
        let silence = Duration::from_millis(failure.error.retry_after_ms.unwrap_or(0)).min(SILENCE_MAX);
        let news = {
            let mut rate = self.of.rate();
            self.halvings = rate.limited(self.halvings, silence, Instant::now());
            rate.news(Instant::now())
        };
        self.of.tell(news);
    }

    /// Leaves and enters again, for another try of what has failed: those that wait come first if there are fewer places than
    /// before. Nothing may be open meanwhile. False if the run ends before that.
    pub fn again(&mut self, stop: &Stop) -> bool {
        self.leave();
        let Some(halvings) = self.of.wait(stop) else {
            return false;
        };
        self.halvings = halvings;
        self.is_inside = true;
        true
    }

    /// The transaction is durable.
    pub fn committed(self) {
        let news = {
            let mut rate = self.of.rate();
            rate.committed();
            rate.news(Instant::now())
        };
        self.of.tell(news);
    }

    fn leave(&mut self) {
        if std::mem::take(&mut self.is_inside) {
            self.of.rate().leave();
            self.of.left.notify_all();
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.leave();
    }
}

/// The number and what changes it; asks no clock.
#[derive(Debug)]
struct Rate {
    maximum: usize,
    allowed: usize,
    under_way: usize,
    /// Since the number has changed.
    commits: u32,
    halvings: u64,
    silent_until: Option<Instant>,
    told: Option<Instant>,
    told_allowed: usize,
}

#[derive(Debug, PartialEq, Eq)]
enum Entry {
    Granted { halvings: u64 },
    Full,
    After(Duration),
}

/// The number has changed.
#[derive(Debug, PartialEq, Eq)]
struct News {
    is_less: bool,
    allowed: usize,
    maximum: usize,
    silence: Option<Duration>,
}

impl Rate {
    fn new(maximum: usize) -> Self {
        let maximum = maximum.max(1);
        Self {
            maximum,
            allowed: maximum,
            under_way: 0,
            commits: 0,
            halvings: 0,
            silent_until: None,
            told: None,
            told_allowed: maximum,
        }
    }

    fn enter(&mut self, now: Instant) -> Entry {
        if self.under_way >= self.allowed {
            return Entry::Full;
        }
        if let Some(silence) = self.silence(now) {
            return Entry::After(silence);
        }
        self.under_way += 1;
        Entry::Granted {
            halvings: self.halvings,
        }
    }

    fn leave(&mut self) {
        self.under_way = self.under_way.saturating_sub(1);
    }

    /// The answer to a transaction that entered after so many halvings; their number now.
    fn limited(&mut self, halvings: u64, silence: Duration, now: Instant) -> u64 {
        self.commits = 0;
        let until = now + silence;
        self.silent_until = Some(self.silent_until.map_or(until, |known| known.max(until)));
        // Those that were under way together are one round, and count once.
        if halvings == self.halvings {
            self.allowed = (self.allowed / 2).max(1);
            self.halvings += 1;
        }
        self.halvings
    }

    fn committed(&mut self) {
        if self.allowed == self.maximum {
            return;
        }
        self.commits += 1;
        if self.commits >= COMMITS_PER_STEP {
            self.commits = 0;
            self.allowed += 1;
        }
    }

    fn silence(&self, now: Instant) -> Option<Duration> {
        let left = self.silent_until?.saturating_duration_since(now);
        (!left.is_zero()).then_some(left)
    }

    /// What is to be said now, if anything; what changes too quickly is said with the next change.
    fn news(&mut self, now: Instant) -> Option<News> {
        let is_early = self
            .told
            .is_some_and(|told| now.saturating_duration_since(told) < LOG_INTERVAL);
        if is_early || self.allowed == self.told_allowed {
            return None;
        }
        let news = News {
            is_less: self.allowed < self.told_allowed,
            allowed: self.allowed,
            maximum: self.maximum,
            silence: self.silence(now),
        };
        self.told = Some(now);
        self.told_allowed = self.allowed;
        Some(news)
    }
}

impl News {
    fn message(&self) -> String {
        let Self { allowed, maximum, .. } = self;
        let silence = self.silence.map_or_else(String::new, |silence| {
            format!(", the next one after {} ms", silence.as_millis())
        });
        if self.is_less {
            format!("the sink asks to slow down: {allowed} of {maximum} transactions at once{silence}")
        } else {
            format!("the sink keeps up: {allowed} of {maximum} transactions at once")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use whimbrel_plugin_api::Error;

    const NO_SILENCE: Duration = Duration::ZERO;

    fn granted(rate: &mut Rate, now: Instant) -> u64 {
        match rate.enter(now) {
            Entry::Granted { halvings } => halvings,
            other => panic!("{other:?}"),
        }
    }

    fn commit(rate: &mut Rate, times: u32) {
        (0..times).for_each(|_| rate.committed());
    }

    #[test]
    fn each_round_of_answers_halves_it_down_to_one() {
        let (mut rate, now) = (Rate::new(8), Instant::now());
        let round: Vec<u64> = (0..8).map(|_| granted(&mut rate, now)).collect();
        assert_eq!(rate.enter(now), Entry::Full);
        for halvings in round {
            assert_eq!(rate.limited(halvings, NO_SILENCE, now), 1);
        }
        assert_eq!(rate.allowed, 4, "one round counts once");
        for (halvings, wanted) in [(1, 2), (2, 1), (3, 1), (4, 1)] {
            rate.limited(halvings, NO_SILENCE, now);
            assert_eq!(rate.allowed, wanted);
        }
    }

    #[test]
    fn commits_raise_it_one_by_one_up_to_the_maximum() {
        let (mut rate, now) = (Rate::new(4), Instant::now());
        rate.limited(0, NO_SILENCE, now);
        rate.limited(1, NO_SILENCE, now);
        assert_eq!(rate.allowed, 1);
        commit(&mut rate, COMMITS_PER_STEP - 1);
        assert_eq!(rate.allowed, 1);
        commit(&mut rate, 1);
        assert_eq!(rate.allowed, 2);
        commit(&mut rate, COMMITS_PER_STEP - 1);
        rate.limited(2, NO_SILENCE, now);
        commit(&mut rate, COMMITS_PER_STEP - 1);
        assert_eq!(rate.allowed, 1, "an answer takes back what was earned");
        commit(&mut rate, 100 * COMMITS_PER_STEP);
        assert_eq!(rate.allowed, 4);
    }

    #[test]
    fn nothing_begins_before_the_silence_that_the_sink_asks_for_is_over() {
        let (mut rate, now) = (Rate::new(4), Instant::now());
        let second = Duration::from_secs(1);
        rate.limited(0, 3 * second, now);
        // A shorter wish does not shorten it.
        rate.limited(0, second, now);
        assert_eq!(rate.enter(now + second), Entry::After(2 * second));
        assert_eq!(granted(&mut rate, now + 3 * second), 1);
    }

    #[test]
    fn the_log_has_a_line_for_a_change_and_at_most_one_a_second() {
        let (mut rate, now) = (Rate::new(8), Instant::now());
        assert_eq!(rate.news(now), None);
        rate.limited(0, Duration::from_secs(2), now);
        let news = rate.news(now).unwrap();
        assert_eq!(
            news.message(),
            "the sink asks to slow down: 4 of 8 transactions at once, the next one after 2000 ms"
        );
        assert_eq!(rate.news(now + 2 * LOG_INTERVAL), None, "nothing is new");
        let then = now + 2 * LOG_INTERVAL;
        rate.limited(1, NO_SILENCE, then);
        assert!(rate.news(then).is_some());
        rate.limited(2, NO_SILENCE, then);
        assert_eq!(rate.news(then + LOG_INTERVAL / 2), None);
        // What was left out is said with the next look.
        commit(&mut rate, 3 * COMMITS_PER_STEP);
        let news = rate.news(then + LOG_INTERVAL).unwrap();
        assert_eq!(news.message(), "the sink keeps up: 4 of 8 transactions at once");
    }

    #[test]
    fn a_maximum_of_none_is_one() {
        let mut rate = Rate::new(0);
        granted(&mut rate, Instant::now());
        assert_eq!(rate.enter(Instant::now()), Entry::Full);
    }

    fn concurrency(maximum: usize) -> Arc<Concurrency> {
        Concurrency::new(maximum, "sink", &Emitter::new(Box::new(std::io::sink())))
    }

    fn limited() -> Failure {
        Failure::from(Error::new(ErrorKind::RateLimited, "a.quota", "slow down"))
    }

    #[test]
    fn a_place_is_free_again_when_its_permit_is_gone_however_it_goes() {
        let (concurrency, stop) = (concurrency(1), Stop::default());
        concurrency.enter(&stop).unwrap().committed();
        drop(concurrency.enter(&stop).unwrap());
        let mut permit = concurrency.enter(&stop).unwrap();
        permit.failed(&limited());
        assert!(permit.again(&stop));
        drop(permit);
        assert_eq!(concurrency.rate().under_way, 0);
    }

    #[test]
    fn only_answers_about_a_quota_slow_it_down() {
        let (concurrency, stop) = (concurrency(4), Stop::default());
        let mut permit = concurrency.enter(&stop).unwrap();
        permit.failed(&Error::new(ErrorKind::Unavailable, "a.away", "away").into());
        assert_eq!(concurrency.rate().allowed, 4);
        permit.failed(&limited());
        assert_eq!(concurrency.rate().allowed, 2);
        // The same transaction, tried again since.
        permit.failed(&limited());
        assert_eq!(concurrency.rate().allowed, 1);
    }

    #[test]
    fn no_more_than_allowed_are_under_way_and_all_get_their_turn() {
        let (concurrency, stop) = (concurrency(4), Stop::default());
        let mut first = concurrency.enter(&stop).unwrap();
        first.failed(&limited());
        drop(first);
        let (entered, most) = (Mutex::new(0_usize), Mutex::new(0_usize));
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..50 {
                        let permit = concurrency.enter(&stop).unwrap();
                        *entered.lock().unwrap() += 1;
                        let under_way = concurrency.rate().under_way;
                        let mut most = most.lock().unwrap();
                        *most = most.max(under_way);
                        drop(permit);
                    }
                });
            }
        });
        assert_eq!(*entered.lock().unwrap(), 400);
        assert!(*most.lock().unwrap() <= 2);
    }

    #[test]
    fn the_end_of_the_run_ends_the_wait() {
        let (concurrency, stop) = (concurrency(1), Stop::default());
        let held = concurrency.enter(&stop).unwrap();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| concurrency.enter(&stop).is_none());
            stop.ask();
            assert!(waiting.join().unwrap());
        });
        drop(held);
        assert_eq!(concurrency.rate().under_way, 0);
    }
}
