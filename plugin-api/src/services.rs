//! What the host offers to a plugin while it works: log, progress, cancellation and shared permits.
//!
//! A [`Services`] value is cheap to clone and may be used from any thread of the plugin. Everything that a plugin
//! would print belongs in [`Services::log`].

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::task::Waker;
use std::time::Duration;

use crate::error::{Error, Result};

/// How important a line of the log is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u32)]
pub enum LogLevel {
    /// Something failed.
    Error = 1,
    /// Somebody should look.
    Warn = 2,
    /// Good to know.
    Info = 3,
    /// For finding faults.
    Debug = 4,
}

/// What the other side of [`Services`] does; the ABI and the tests implement it.
pub trait HostServices: Send + Sync {
    /// Keeps one line.
    fn log(&self, level: LogLevel, message: &str);
    /// Takes note of work done that is not visible in batches, in units of the plugin's choice.
    fn progress(&self, what: &str, done: u64, total: Option<u64>);
    /// Blocks until `permits` of the named quota may be used, and returns whether they were granted.
    fn acquire(&self, quota: &str, permits: u64) -> bool;
    /// Takes note that calls of the object wait of their own will for `time` from now on.
    fn waits(&self, _time: Duration) {}
}

/// The host, as a plugin sees it.
#[derive(Clone)]
pub struct Services {
    host: Arc<dyn HostServices>,
    cancel: CancelToken,
}

impl Services {
    /// Joins the host's side with the token that ends this object's calls.
    pub fn new(host: Arc<dyn HostServices>, cancel: CancelToken) -> Self {
        Self { host, cancel }
    }

    /// Services of no host at all: logs are dropped, every permit is granted. For tests.
    pub fn detached() -> Self {
        struct Nobody;
        impl HostServices for Nobody {
            fn log(&self, _: LogLevel, _: &str) {}
            fn progress(&self, _: &str, _: u64, _: Option<u64>) {}
            fn acquire(&self, _: &str, _: u64) -> bool {
                true
            }
        }
        Self::new(Arc::new(Nobody), CancelToken::new())
    }

    /// Keeps one line in the run's log, under the plugin's name. No record values and no secrets.
    pub fn log(&self, level: LogLevel, message: impl AsRef<str>) {
        self.host.log(level, message.as_ref());
    }

    /// Tells of work that is not visible in batches, such as reading ahead.
    pub fn progress(&self, what: &str, done: u64, total: Option<u64>) {
        self.host.progress(what, done, total);
    }

    /// Waits for `permits` of a quota that partitions and hosts share.
    ///
    /// # Errors
    /// `plugin.cancelled` if the run ends first.
    pub fn acquire(&self, quota: &str, permits: u64) -> Result<()> {
        self.cancel.check()?;
        if self.host.acquire(quota, permits) {
            Ok(())
        } else {
            Err(Error::cancelled())
        }
    }

    /// Says that calls of this object wait of their own will for `time` from now on, as for a rate that they keep to: what a call
    /// may last begins anew after that. Say it before each wait, and of a wait of more than a minute in parts, since a host need
    /// not believe in longer ones. It returns at once. Hosts before 0.1.2 keep it as a line of the log.
    pub fn waits(&self, time: Duration) {
        self.host.waits(time);
    }

    /// The token that ends this object's calls.
    pub fn cancel_token(&self) -> &CancelToken {
        &self.cancel
    }

    /// `Err(plugin.cancelled)` once the host wants the call to end. Ask in every long loop.
    pub fn check_cancelled(&self) -> Result<()> {
        self.cancel.check()
    }
}

/// A flag that is raised once and can be waited for, from threads and from futures.
#[derive(Clone, Default)]
pub struct CancelToken(Arc<CancelState>);

#[derive(Default)]
struct CancelState {
    raised: AtomicBool,
    waiting: Mutex<Vec<Waker>>,
    changed: Condvar,
}

impl CancelToken {
    /// A token that is not raised.
    pub fn new() -> Self {
        Self::default()
    }

    /// Raises the flag; all that wait go on. Again: no effect.
    pub fn cancel(&self) {
        self.0.raised.store(true, Ordering::SeqCst);
        let wakers = std::mem::take(&mut *self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner));
        self.0.changed.notify_all();
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Whether the flag is raised.
    pub fn is_cancelled(&self) -> bool {
        self.0.raised.load(Ordering::SeqCst)
    }

    /// `Err(plugin.cancelled)` if the flag is raised.
    pub fn check(&self) -> Result<()> {
        if self.is_cancelled() {
            Err(Error::cancelled())
        } else {
            Ok(())
        }
    }

    /// Blocks for at most `timeout`; returns whether the flag is raised.
    pub fn wait(&self, timeout: Duration) -> bool {
        let guard = self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let _guard = self
            .0
            .changed
            .wait_timeout_while(guard, timeout, |_| !self.is_cancelled())
            .unwrap_or_else(PoisonError::into_inner);
        self.is_cancelled()
    }

    /// A future that is ready once the flag is raised.
    pub fn cancelled(&self) -> impl Future<Output = ()> + Send + use<> {
        let state = Arc::clone(&self.0);
        std::future::poll_fn(move |context| {
            let mut waiting = state.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            if state.raised.load(Ordering::SeqCst) {
                return std::task::Poll::Ready(());
            }
            if !waiting.iter().any(|waker| waker.will_wake(context.waker())) {
                waiting.push(context.waker().clone());
            }
            std::task::Poll::Pending
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_waiting_thread_goes_on_when_the_token_is_raised() {
        let token = CancelToken::new();
        assert!(!token.wait(Duration::from_millis(1)));
        let other = token.clone();
        let waiter = std::thread::spawn(move || other.wait(Duration::from_secs(60)));
        token.cancel();
        assert!(waiter.join().unwrap());
        assert_eq!(token.check().unwrap_err().code, "plugin.cancelled");
    }
}
