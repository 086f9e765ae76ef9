//! The calls into plugins that have begun and not returned: put on the board, timed, attributed.
//!
//! A crash of the worker is explained by them, a hang is the one that runs too long, and an error carries plugin, role
//! and call. Neighbours: `observe` runs every call through here, `call_board` is what a supervisor can read.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use whimbrel_plugin_api::abi::object::Canceller;
use whimbrel_plugin_api::manifest::Role;
use whimbrel_plugin_api::{Error, ErrorKind, Result};

use super::call_board::CallBoard;
use crate::events::{Emitter, Event, Failure};

/// The longest wait that is believed in at once, so that a plugin that miscounts does not hang for ever.
const ANNOUNCED_MAX: Duration = Duration::from_secs(10 * 60);

/// All calls that have begun and not returned.
pub struct CallLog {
    pub(super) emitter: Emitter,
    board: Option<CallBoard>,
    next_id: AtomicU64,
    in_flight: Mutex<BTreeMap<u64, InFlight>>,
    transaction_limit: Mutex<Option<Duration>>,
}

/// A call that has begun and not returned.
#[derive(Clone)]
pub struct InFlight {
    /// The plugin.
    pub plugin: Arc<str>,
    /// Its role.
    pub role: Role,
    /// The call.
    pub call: &'static str,
    /// When it began.
    pub since: Instant,
    /// Ends it, if the object is open already.
    pub canceller: Option<Canceller>,
    timed_out: Arc<Mutex<Option<Limit>>>,
    waiting: Waiting,
}

/// Until when the calls of one opened object wait of their own will, as it has said.
#[derive(Clone, Default)]
pub(super) struct Waiting(Arc<Mutex<Option<Instant>>>);

impl Waiting {
    /// They wait for `time` from now on.
    pub(super) fn announce(&self, time: Duration) {
        let until = Instant::now() + time.min(ANNOUNCED_MAX);
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Others of them may wait for longer.
        *known = Some(known.map_or(until, |known| known.max(until)));
    }

    fn until(&self) -> Option<Instant> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How long a call may last, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    /// So long.
    pub time: Duration,
    /// Whether it is the transaction's limit rather than that of every call.
    pub is_of_transaction: bool,
}

impl Limit {
    /// The error of a call that was ended by it.
    fn error(self) -> Error {
        let millis = self.time.as_millis();
        let (code, message, help) = if self.is_of_transaction {
            (
                "run.transaction_timeout",
                format!("the call took longer than the {millis} ms of a transaction and was cancelled"),
                "`import.transaction_timeout_ms` of the job allows more time",
            )
        } else {
            (
                "plugin.call_timeout",
                "the call took too long and was cancelled".to_owned(),
                "`limits.call_timeout_secs` of the job allows more time",
            )
        };
        Error::new(ErrorKind::Timeout, code, message).with_help(help)
    }
}

impl InFlight {
    /// Whether it belongs to the writing of a transaction.
    fn is_of_transaction(&self) -> bool {
        self.role == Role::Sink && matches!(self.call, "begin" | "write" | "flush" | "commit")
    }

    /// How long it works since it began, or since the end of the last wait that was announced.
    fn worked(&self) -> Duration {
        let from = self
            .waiting
            .until()
            .map_or(self.since, |until| until.max(self.since));
        Instant::now().saturating_duration_since(from)
    }
}

impl CallLog {
    /// A log that puts calls on `board`. Those that find no room there, or no board, are announced on `emitter`.
    pub fn new(emitter: Emitter, board: Option<CallBoard>) -> Arc<Self> {
        Arc::new(Self {
            emitter,
            board,
            next_id: AtomicU64::new(1),
            in_flight: Mutex::default(),
            transaction_limit: Mutex::new(None),
        })
    }

    /// Calls that write may last so long from now on, if that is less than others may.
    pub fn limit_transactions(&self, time: Duration) {
        *self
            .transaction_limit
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = Some(time);
    }

    /// The calls that last longer than they may, waits that they have announced apart; others may last `time`.
    pub fn overdue(&self, time: Duration) -> Vec<(u64, InFlight, Limit)> {
        let transaction = *self
            .transaction_limit
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let in_flight = self.in_flight.lock().unwrap_or_else(PoisonError::into_inner);
        in_flight
            .iter()
            .filter_map(|(id, call)| {
                let limit = match transaction.filter(|limit| call.is_of_transaction() && *limit < time) {
                    Some(time) => Limit {
                        time,
                        is_of_transaction: true,
                    },
                    None => Limit {
                        time,
                        is_of_transaction: false,
                    },
                };
                (call.worked() > limit.time).then(|| (*id, call.clone(), limit))
            })
            .collect()
    }

    /// Asks the call to end because its time is up; its error, or that of the object's next call, then says so. Nothing
    /// happens if it has returned meanwhile.
    pub fn time_out(&self, call_id: u64, limit: Limit) {
        let in_flight = self.in_flight.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(call) = in_flight.get(&call_id) {
            *call.timed_out.lock().unwrap_or_else(PoisonError::into_inner) = Some(limit);
            if let Some(canceller) = &call.canceller {
                canceller.cancel();
            }
        }
    }

    /// The calls that run longer than `limit`.
    pub fn longer_than(&self, limit: Duration) -> Vec<(u64, InFlight)> {
        let in_flight = self.in_flight.lock().unwrap_or_else(PoisonError::into_inner);
        in_flight
            .iter()
            .filter(|(_, call)| call.since.elapsed() > limit)
            .map(|(id, call)| (*id, call.clone()))
            .collect()
    }

    /// Whether the call has not returned.
    pub fn is_running(&self, call_id: u64) -> bool {
        self.in_flight
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .contains_key(&call_id)
    }
}

/// Announces the calls of one opened object.
#[derive(Clone)]
pub(super) struct CallSite {
    pub(super) log: Arc<CallLog>,
    pub(super) plugin: Arc<str>,
    pub(super) role: Role,
    pub(super) canceller: Option<Canceller>,
    /// Set for good once a call was ended by its limit: a cancelled object refuses all further calls.
    pub(super) timed_out: Arc<Mutex<Option<Limit>>>,
    pub(super) waiting: Waiting,
}

impl CallSite {
    pub(super) fn run<R>(&self, call: &'static str, body: impl FnOnce() -> Result<R>) -> Result<R, Failure> {
        let call_id = self.log.next_id.fetch_add(1, Ordering::Relaxed);
        let begun = InFlight {
            plugin: Arc::clone(&self.plugin),
            role: self.role,
            call,
            since: Instant::now(),
            canceller: self.canceller.clone(),
            timed_out: Arc::clone(&self.timed_out),
            waiting: self.waiting.clone(),
        };
        self.log
            .in_flight
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(call_id, begun);
        let board = self.log.board.as_ref();
        let slot = board.and_then(|board| {
            let slot = board.begin(call_id, &self.plugin, self.role, call)?;
            Some((board, slot))
        });
        if slot.is_none() {
            self.log.emitter.emit(&Event::CallStarted {
                call_id,
                plugin: self.plugin.to_string(),
                role: self.role,
                call: call.to_owned(),
            });
        }
        let outcome = body();
        self.log
            .in_flight
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&call_id);
        match slot {
            Some((board, slot)) => board.end(slot),
            None => self.log.emitter.emit(&Event::CallEnded { call_id }),
        }
        outcome.map_err(|error| {
            let limit = *self.timed_out.lock().unwrap_or_else(PoisonError::into_inner);
            let error = match limit {
                Some(limit) if error.kind == ErrorKind::Cancelled => limit.error(),
                _ => error,
            };
            Failure::from(error).at_call(&self.plugin, self.role, call)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn site(role: Role) -> CallSite {
        CallSite {
            log: CallLog::new(Emitter::new(Box::new(std::io::sink())), None),
            plugin: "a".into(),
            role,
            canceller: None,
            timed_out: Arc::default(),
            waiting: Waiting::default(),
        }
    }

    /// The limits that the one call under way is beyond, if each call may last no time at all, and each of a transaction `time`.
    fn overdue(site: &CallSite, time: Duration) -> Vec<bool> {
        let begun = Instant::now();
        // A clock may stand still for a moment.
        while begun.elapsed().is_zero() {}
        site.log.limit_transactions(time);
        let calls = site.log.overdue(Duration::from_nanos(1));
        calls
            .iter()
            .map(|(_, _, limit)| limit.is_of_transaction)
            .collect()
    }

    #[test]
    fn the_time_of_a_wait_that_was_announced_is_none_of_the_call() {
        for (role, call, is_of_transaction) in [
            (Role::Source, "next", false),
            (Role::Sink, "prepare", false),
            (Role::Sink, "commit", true),
        ] {
            let site = site(role);
            let outcome = site.run(call, || {
                assert_eq!(overdue(&site, Duration::ZERO), [is_of_transaction], "{call}");
                site.waiting.announce(Duration::from_secs(60));
                assert_eq!(overdue(&site, Duration::ZERO), [false; 0], "{call}");
                // A shorter one beside it takes nothing back.
                site.waiting.announce(Duration::ZERO);
                assert_eq!(overdue(&site, Duration::ZERO), [false; 0], "{call}");
                Ok(())
            });
            outcome.unwrap();
        }
    }

    #[test]
    fn after_a_wait_a_call_may_last_as_long_as_any_other() {
        let site = site(Role::Sink);
        site.waiting.announce(Duration::ZERO);
        let outcome = site.run("commit", || {
            assert_eq!(overdue(&site, Duration::ZERO), [true]);
            site.waiting.announce(Duration::ZERO);
            assert_eq!(overdue(&site, Duration::ZERO), [true]);
            assert_eq!(overdue(&site, Duration::MAX), [false]);
            Ok(())
        });
        outcome.unwrap();
    }

    #[test]
    fn nobody_waits_for_ever() {
        let waiting = Waiting::default();
        waiting.announce(Duration::MAX);
        assert!(waiting.until().unwrap() <= Instant::now() + ANNOUNCED_MAX);
    }
}
