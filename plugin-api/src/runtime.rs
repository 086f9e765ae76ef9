//! A plugin's own tokio runtime, with a `block_on` that ends when the host cancels. Feature `tokio`.
//!
//! Calls of the plugin API are synchronous; a plugin with an async client makes one [`Runtime`] on first use and
//! keeps it. No future and no tokio type crosses the boundary.

use std::future::Future;
use std::sync::OnceLock;
use std::time::Duration;

use crate::error::{Error, ErrorKind, Result};
use crate::services::Services;

/// Threads of a plugin's runtime. Two, since a plugin mostly waits for one system.
const WORKER_THREADS: usize = 2;

/// The one runtime of this library.
pub struct Runtime(tokio::runtime::Runtime);

impl Runtime {
    /// The library's runtime, made on first use.
    ///
    /// # Errors
    /// `plugin.runtime` if the system gives no threads.
    pub fn get() -> Result<&'static Self> {
        static RUNTIME: OnceLock<Runtime> = OnceLock::new();
        if let Some(runtime) = RUNTIME.get() {
            return Ok(runtime);
        }
        let made = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(WORKER_THREADS)
            .thread_name("whimbrel-plugin")
            .enable_all()
            .build()
            .map_err(|error| {
                Error::new(
                    ErrorKind::Unavailable,
                    "plugin.runtime",
                    "no tokio runtime could be started",
                )
                .with_cause(&error)
            })?;
        Ok(RUNTIME.get_or_init(|| Self(made)))
    }

    /// Runs `future` beside the calling thread. It ends by itself: the host does not know of it.
    pub fn spawn<T: Send + 'static>(
        &self,
        future: impl Future<Output = T> + Send + 'static,
    ) -> tokio::task::JoinHandle<T> {
        self.0.spawn(future)
    }

    /// Runs `future` to its end on the calling thread, or until the host cancels.
    ///
    /// # Errors
    /// `plugin.cancelled`; otherwise what the future returns. The future is dropped on cancellation.
    pub fn block_on<T>(&self, services: &Services, future: impl Future<Output = Result<T>>) -> Result<T> {
        let cancelled = services.cancel_token().cancelled();
        self.0.block_on(async {
            tokio::select! {
                biased;
                () = cancelled => Err(Error::cancelled()),
                outcome = future => outcome,
            }
        })
    }

    /// As [`Runtime::block_on`], and at most `timeout` long.
    ///
    /// # Errors
    /// `plugin.timeout` (kind timeout) after that time.
    pub fn block_on_for<T>(
        &self,
        services: &Services,
        timeout: Duration,
        future: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        self.block_on(services, async {
            tokio::time::timeout(timeout, future).await.unwrap_or_else(|_| {
                Err(Error::new(
                    ErrorKind::Timeout,
                    "plugin.timeout",
                    format!("no answer within {} s", timeout.as_secs()),
                ))
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_future_that_never_ends_ends_on_cancel() {
        let services = Services::detached();
        let token = services.cancel_token().clone();
        let (started, wait) = std::sync::mpsc::channel();
        let call = std::thread::spawn(move || {
            Runtime::get()?.block_on(&services, async move {
                started.send(()).map_err(|_| Error::internal("nobody waits"))?;
                std::future::pending::<Result<()>>().await
            })
        });
        wait.recv().unwrap();
        token.cancel();
        assert_eq!(call.join().unwrap().unwrap_err().kind, ErrorKind::Cancelled);
    }
}
