//! Why a task ends before its time: the first failure, or somebody's wish.
//!
//! One value shared by all threads of a run; the first cause is kept, later ones follow from it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::events::Failure;

/// The shared flag with its cause.
#[derive(Clone, Default)]
pub struct Stop(Arc<State>);

#[derive(Default)]
struct State {
    raised: AtomicBool,
    cause: Mutex<Option<Cause>>,
    changed: Condvar,
}

/// Why.
#[derive(Debug, Clone)]
pub enum Cause {
    /// Something failed.
    Failed(Box<Failure>),
    /// Somebody asked for it; what is open is committed first.
    Asked,
}

impl Stop {
    /// Whether everything should end.
    pub fn is_raised(&self) -> bool {
        self.0.raised.load(Ordering::SeqCst)
    }

    /// Ends everything because of `failure`, unless it is ending already.
    pub fn fail(&self, failure: Failure) {
        self.raise(Cause::Failed(Box::new(failure)));
    }

    /// Ends everything because somebody asked for it.
    pub fn ask(&self) {
        self.raise(Cause::Asked);
    }

    fn raise(&self, cause: Cause) {
        self.0
            .cause
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get_or_insert(cause);
        self.0.raised.store(true, Ordering::SeqCst);
        self.0.changed.notify_all();
    }

    /// Waits for `time`, or until everything should end; whether it should.
    pub fn wait(&self, time: Duration) -> bool {
        let until = Instant::now() + time;
        let mut cause = self.0.cause.lock().unwrap_or_else(PoisonError::into_inner);
        while cause.is_none() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            (cause, _) = self
                .0
                .changed
                .wait_timeout(cause, left)
                .unwrap_or_else(PoisonError::into_inner);
        }
        true
    }

    /// The first cause.
    pub fn cause(&self) -> Option<Cause> {
        self.0
            .cause
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}
