//! The byte budget that all links of a run draw on: reading stops while it is spent.
//!
//! A batch that is larger than the whole budget is let through alone, so that nothing waits for ever.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use crate::control::Stop;

/// How often a waiting reader looks whether the run ends.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// The budget. Cheap to clone.
#[derive(Clone)]
pub struct Budget(Arc<State>);

struct State {
    bytes_max: u64,
    spent: Mutex<u64>,
    returned: Condvar,
}

/// Octets taken from the budget, given back when dropped.
pub struct Share {
    budget: Budget,
    bytes: u64,
}

impl Budget {
    /// A budget of `bytes_max` octets.
    pub fn new(bytes_max: u64) -> Self {
        Self(Arc::new(State {
            bytes_max,
            spent: Mutex::new(0),
            returned: Condvar::new(),
        }))
    }

    /// Waits until `bytes` fit; `None` if the run ends first.
    pub fn take(&self, bytes: u64, stop: &Stop) -> Option<Share> {
        let mut spent = self.0.spent.lock().unwrap_or_else(PoisonError::into_inner);
        while *spent > 0 && *spent + bytes > self.0.bytes_max {
            if stop.is_raised() {
                return None;
            }
            (spent, _) = self
                .0
                .returned
                .wait_timeout(spent, LOOK_INTERVAL)
                .unwrap_or_else(PoisonError::into_inner);
        }
        *spent += bytes;
        Some(Share {
            budget: self.clone(),
            bytes,
        })
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let state = &self.budget.0;
        *state.spent.lock().unwrap_or_else(PoisonError::into_inner) -= self.bytes;
        state.returned.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    #[test]
    fn a_reader_waits_until_a_share_is_given_back() {
        let (budget, stop) = (Budget::new(10), Stop::default());
        let first = budget.take(8, &stop).unwrap();
        let (sender, receiver) = mpsc::channel();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let second = budget.take(5, &stop);
                sender.send(second.is_some()).unwrap();
            });
            assert!(receiver.recv_timeout(Duration::from_millis(50)).is_err());
            drop(first);
            assert!(receiver.recv_timeout(Duration::from_secs(10)).unwrap());
        });
    }

    #[test]
    fn what_is_larger_than_the_budget_goes_alone() {
        let (budget, stop) = (Budget::new(10), Stop::default());
        let large = budget.take(100, &stop).unwrap();
        stop.ask();
        assert!(budget.take(1, &stop).is_none());
        drop(large);
        assert!(budget.take(1, &stop).is_some());
    }
}
