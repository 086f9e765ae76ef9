//! A run that waits for somebody's repair: a full disk, a system that takes no writes, one that has no connection left.
//!
//! Whoever meets with such an error first probes at growing intervals, alone; all others wait without an open transaction.
//! Nothing is lost meanwhile: readers wait for the byte budget. Neighbours: `transaction` undoes and writes again.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use chrono::{SecondsFormat, Utc};
use whimbrel_plugin_api::Error;

use crate::control::Stop;
use crate::events::{Emitter, Event, Failure};

/// The time before the first probe; each further one comes after twice the time.
const PROBE_INTERVAL_MIN: Duration = Duration::from_secs(1);
/// The longest time between two probes: a repair is noticed within half a minute, and a system in need is left alone.
const PROBE_INTERVAL_MAX: Duration = Duration::from_secs(30);
/// How often somebody who waits for another one's probe looks whether the run ends.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// Failures after which the same must not be tried again, whatever their kind: our own deadline (the plugin hangs, and
/// would again), and commits that another run has fenced or whose outcome nobody knows.
const NEVER_AGAIN: [&str; 3] = ["plugin.call_timeout", "run.fenced", "run.commit_unknown"];

/// Whether the same may succeed later.
pub fn is_passing(failure: &Failure) -> bool {
    failure.error.kind.is_transient() && !NEVER_AGAIN.contains(&failure.error.code.as_str())
}

/// The one pause of a run, shared by all who call its systems.
pub struct Pause {
    emitter: Emitter,
    stop: Stop,
    longest: Duration,
    is_held: AtomicBool,
    /// What it is for; kept after it was given up, so that nobody begins another one while the run ends.
    cause: Mutex<Option<Cause>>,
    changed: Condvar,
}

#[derive(Clone)]
struct Cause {
    failure: Box<Failure>,
    is_given_up: bool,
}

impl Pause {
    /// One that gives up after `longest`; with none, nobody ever pauses.
    pub fn new(emitter: &Emitter, stop: &Stop, longest: Duration) -> Self {
        Self {
            emitter: emitter.clone(),
            stop: stop.clone(),
            longest,
            is_held: AtomicBool::new(false),
            cause: Mutex::default(),
            changed: Condvar::new(),
        }
    }

    /// Whether `failure` begins one.
    pub fn is_for(&self, failure: &Failure) -> bool {
        failure.error.pauses && !self.longest.is_zero() && !self.stop.is_raised()
    }

    /// Whether somebody probes, for whom all others wait.
    pub fn is_held(&self) -> bool {
        self.is_held.load(Ordering::SeqCst)
    }

    /// Does `attempt`, again and again while it needs a repair.
    ///
    /// # Errors
    /// What `attempt` brings if it does not pause, or if the pause was given up or ended by the run's end.
    pub fn around<T>(&self, mut attempt: impl FnMut() -> Result<T, Failure>) -> Result<T, Failure> {
        match attempt() {
            Err(failure) if self.is_for(&failure) => self.hold(failure, attempt),
            outcome => outcome,
        }
    }

    /// Waits for the repair that `failure` asks for: until `probe`, which does again what failed, has succeeded.
    ///
    /// # Errors
    /// `failure` if the pause was given up or ended by the run's end; what `probe` brings, if it is no matter of time.
    pub fn hold<T>(
        &self,
        failure: Failure,
        mut probe: impl FnMut() -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let mut failure = failure;
        loop {
            if self.begin(&failure) {
                return self.probe(failure, probe);
            }
            self.wait()?;
            match probe() {
                Err(again) if self.is_for(&again) => failure = again,
                outcome => return outcome,
            }
        }
    }

    /// Waits while somebody else probes.
    ///
    /// # Errors
    /// What the pause was for, if it was given up; that the call is cancelled, if the run ends.
    pub fn wait(&self) -> Result<(), Failure> {
        let mut cause = self.cause();
        loop {
            match &*cause {
                Some(cause) if cause.is_given_up => return Err((*cause.failure).clone()),
                _ if self.stop.is_raised() => return Err(Error::cancelled().into()),
                None => return Ok(()),
                Some(_) => {}
            }
            (cause, _) = self
                .changed
                .wait_timeout(cause, LOOK_INTERVAL)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn cause(&self) -> MutexGuard<'_, Option<Cause>> {
        self.cause.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the caller the one who probes; false if somebody else is or was it.
    fn begin(&self, failure: &Failure) -> bool {
        let mut cause = self.cause();
        if cause.is_some() {
            return false;
        }
        *cause = Some(Cause {
            failure: Box::new(failure.clone()),
            is_given_up: false,
        });
        self.is_held.store(true, Ordering::SeqCst);
        self.emitter.emit(&Event::Paused {
            role: failure.role,
            code: failure.error.code.clone(),
            message: failure.error.message.clone(),
            help: failure.error.help.clone(),
            since: Utc::now().to_rfc3339_opts(SecondsFormat::Secs, true),
        });
        true
    }

    fn probe<T>(
        &self,
        failure: Failure,
        mut probe: impl FnMut() -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let begun = Instant::now();
        let end = Ending(self);
        let mut interval = PROBE_INTERVAL_MIN;
        loop {
            let left = self.longest.saturating_sub(begun.elapsed());
            if self.stop.wait(interval.min(left)) {
                return Err(failure);
            }
            match probe() {
                Ok(done) => {
                    // Said before anybody else goes on, who might pause again.
                    self.emitter.emit(&Event::Resumed {
                        paused_ms: begun.elapsed().as_millis() as u64,
                    });
                    drop(end);
                    return Ok(done);
                }
                // A system that is being repaired may be away for a while as well.
                Err(again) if again.error.pauses || is_passing(&again) => {}
                Err(other) => return Err(other),
            }
            if begun.elapsed() >= self.longest {
                return Err(self.give_up(failure, begun.elapsed()));
            }
            interval = (interval * 2).min(PROBE_INTERVAL_MAX);
        }
    }

    fn give_up(&self, mut failure: Failure, after: Duration) -> Failure {
        let seconds = after.as_secs_f64();
        failure.error.causes.push(format!(
            "the run was paused for {seconds:.1} s and nobody repaired it"
        ));
        if let Some(cause) = &mut *self.cause() {
            *cause.failure = failure.clone();
            cause.is_given_up = true;
        }
        failure
    }
}

/// Lets the others go on, however the probing ends.
struct Ending<'a>(&'a Pause);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        let mut cause = self.0.cause();
        cause.take_if(|cause| !cause.is_given_up);
        self.0.is_held.store(false, Ordering::SeqCst);
        drop(cause);
        self.0.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::Arc;
    use std::sync::atomic::AtomicU32;

    use whimbrel_plugin_api::ErrorKind;

    use super::*;

    #[derive(Clone, Default)]
    struct Seen(Arc<Mutex<Vec<u8>>>);

    impl Write for Seen {
        fn write(&mut self, octets: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(octets);
            Ok(octets.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    impl Seen {
        fn events(&self) -> Vec<Event> {
            let text = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
            text.lines()
                .map(|line| serde_json::from_str(line).unwrap())
                .collect()
        }
    }

    fn pause(longest: Duration) -> (Pause, Seen, Stop) {
        let (seen, stop) = (Seen::default(), Stop::default());
        let emitter = Emitter::new(Box::new(seen.clone()));
        (Pause::new(&emitter, &stop, longest), seen, stop)
    }

    fn full() -> Failure {
        Error::new(ErrorKind::Unavailable, "a.full", "the disk is full")
            .with_pause()
            .into()
    }

    #[test]
    fn one_probes_and_the_others_wait_for_it() {
        let (pause, seen, _) = pause(Duration::from_secs(60));
        let tries = AtomicU32::new(0);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                // The first probe finds it as it was, the second one repaired.
                let attempt = || match tries.fetch_add(1, Ordering::SeqCst) {
                    0 | 1 => Err(full()),
                    _ => Ok(()),
                };
                pause.around(attempt).unwrap();
            });
            while !pause.is_held() {
                std::thread::yield_now();
            }
            for _ in 0..3 {
                scope.spawn(|| {
                    let mut is_first = true;
                    pause
                        .around(|| {
                            if std::mem::take(&mut is_first) {
                                return Err(full());
                            }
                            assert_eq!(tries.load(Ordering::SeqCst), 3, "nobody else has probed");
                            Ok(())
                        })
                        .unwrap();
                });
            }
        });
        let events = seen.events();
        assert!(
            matches!(
                &events[..],
                [Event::Paused { code, .. }, Event::Resumed { paused_ms: 3_000.. }] if code == "a.full"
            ),
            "{events:?}"
        );
        assert!(!pause.is_held());
    }

    #[test]
    fn giving_up_ends_all_who_wait_with_what_it_was_for() {
        let (pause, seen, _) = pause(Duration::from_millis(200));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let failure = pause.around(|| Err::<(), _>(full())).unwrap_err();
                    assert_eq!(failure.error.code, "a.full");
                    let cause = failure.error.causes.last().unwrap();
                    assert!(cause.starts_with("the run was paused for"), "{cause}");
                });
            }
        });
        assert_eq!(seen.events().len(), 1);
        // Nobody begins another one while the run ends.
        assert_eq!(
            pause.around(|| Err::<(), _>(full())).unwrap_err().error.code,
            "a.full"
        );
        assert_eq!(seen.events().len(), 1);
    }

    #[test]
    fn the_end_of_the_run_ends_it_at_once() {
        let (pause, _, stop) = pause(Duration::from_secs(3_600));
        let failure = pause
            .around(|| {
                if pause.is_held() {
                    stop.ask();
                }
                Err::<(), _>(full())
            })
            .unwrap_err();
        assert_eq!(failure.error.code, "a.full");
        assert!(!pause.is_held());
    }

    #[test]
    fn a_probe_that_finds_something_else_wrong_ends_it() {
        let (held, _, _) = pause(Duration::from_secs(3_600));
        for (kind, code) in [
            (ErrorKind::Internal, "a.b"),
            (ErrorKind::Unavailable, "run.commit_unknown"),
        ] {
            let failure = held
                .around(|| {
                    if held.is_held() {
                        Err::<(), _>(Error::new(kind, code, "x").into())
                    } else {
                        Err(full())
                    }
                })
                .unwrap_err();
            assert_eq!(failure.error.code, code);
            assert!(!held.is_held());
        }
        let (never, seen, _) = pause(Duration::ZERO);
        never.around(|| Err::<(), _>(full())).unwrap_err();
        assert!(seen.events().is_empty());
    }
}
