//! The byte budget that all links of a run draw on: reading stops while it is spent.
//!
//! A batch that is larger than the whole budget is let through alone, so that nothing waits for ever.

use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use arrow_array::{Array as _, RecordBatch};
use arrow_data::ArrayData;

use crate::control::Stop;

/// How often a waiting reader looks whether the run ends.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// Octets that the arrays of `records` keep in memory. Buffers that several of them share count once, whole.
pub fn held_bytes(records: &RecordBatch) -> u64 {
    let mut seen = HashSet::new();
    let mut bytes = 0;
    let mut waiting: Vec<ArrayData> = records.columns().iter().map(|column| column.to_data()).collect();
    while let Some(data) = waiting.pop() {
        let nulls = data.nulls().map(|nulls| nulls.inner().inner());
        for buffer in data.buffers().iter().chain(nulls) {
            if seen.insert(buffer.data_ptr()) {
                bytes += buffer.capacity() as u64;
            }
        }
        waiting.extend(data.child_data().iter().cloned());
    }
    bytes
}

/// The budget. Cheap to clone.
#[derive(Clone)]
pub struct Budget(Arc<State>);

struct State {
    bytes_max: u64,
    spent: Mutex<u64>,
    returned: Condvar,
    waiting: AtomicUsize,
}

/// Octets taken from the budget, given back when dropped.
pub struct Share {
    budget: Budget,
    bytes: u64,
}

impl Budget {
    /// Whether somebody waits for octets to be given back.
    pub fn is_contended(&self) -> bool {
        self.0.waiting.load(Ordering::SeqCst) > 0
    }

    /// Octets that are spent.
    pub fn spent_bytes(&self) -> u64 {
        *self.0.spent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A budget of `bytes_max` octets.
    pub fn new(bytes_max: u64) -> Self {
        Self(Arc::new(State {
            bytes_max,
            spent: Mutex::new(0),
            returned: Condvar::new(),
            waiting: AtomicUsize::new(0),
        }))
    }

    /// Waits until `bytes` fit; `None` if the run ends first.
    pub fn take(&self, bytes: u64, stop: &Stop) -> Option<Share> {
        let mut spent = self.0.spent.lock().unwrap_or_else(PoisonError::into_inner);
        let mut waits = None;
        while *spent > 0 && *spent + bytes > self.0.bytes_max {
            if stop.is_raised() {
                return None;
            }
            waits.get_or_insert_with(|| Waiting::new(&self.0.waiting));
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

/// Counts somebody who waits, for as long as it lives.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Share {
    /// Takes or gives back the difference to `bytes` without waiting: what is there already must be counted, and it is at
    /// most one batch for each stage.
    pub fn resize(&mut self, bytes: u64) {
        let state = &self.budget.0;
        let mut spent = state.spent.lock().unwrap_or_else(PoisonError::into_inner);
        *spent = (*spent - self.bytes) + bytes;
        self.bytes = bytes;
        state.returned.notify_all();
    }

    /// A further share of the same budget, taken without waiting.
    pub fn another(&self, bytes: u64) -> Self {
        let mut share = Self {
            budget: self.budget.clone(),
            bytes: 0,
        };
        share.resize(bytes);
        share
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
    fn shared_buffers_count_once() {
        use arrow_array::{ArrayRef, Int64Array, StringArray};
        let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(0..1_000));
        let texts: ArrayRef = Arc::new(StringArray::from_iter_values((0..1_000).map(|n| n.to_string())));
        let columns = |columns: Vec<(&str, ArrayRef)>| RecordBatch::try_from_iter(columns).unwrap();
        let one = held_bytes(&columns(vec![("a", Arc::clone(&numbers))]));
        assert!((8_000..10_000).contains(&one), "{one}");
        let same = columns(vec![("a", numbers.slice(0, 500)), ("b", numbers.slice(500, 500))]);
        assert_eq!(held_bytes(&same), one);
        let two = held_bytes(&columns(vec![("a", numbers), ("b", texts)]));
        assert!(two > one + 6_000, "{two}");
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
