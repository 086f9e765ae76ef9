//! Requests under way at the same time: so many, of so many octets, here and in all sessions, and never two with the same document.
//!
//! Each is carried out by a task of its own on the plugin's runtime. Whoever writes a document again waits until the earlier write
//! has ended, so that the last one wins. Neighbours: `send` is the task, `session` launches.

use std::collections::HashSet;
use std::pin::pin;
use std::time::Duration;

use tokio::sync::{AcquireError, Semaphore, SemaphorePermit, watch};
use tokio::task::JoinSet;
use whimbrel_plugin_api::{Error, Result, Services};

use super::judged::Judged;
use super::request::Request;
use super::send::Sender;
use crate::client::Client;
use crate::config::WriteRequest;

/// Octets of the requests under way together: each is there up to three times while it is sent, in every session. Requests of small
/// documents, 500 each, never come near it.
const BYTES_MAX: usize = 8 * 1024 * 1024;
/// The same for all sessions of the process, in KiB. Whoever has none waits for requests of the others, which end by themselves.
const PROCESS_KIB_MAX: u32 = 16 * 1024;
/// The host is told of a wait for them in parts of this length, since nobody knows how long it is.
const TOLD_EVERY: Duration = Duration::from_secs(2);

static PROCESS_KIB: Semaphore = Semaphore::const_new(PROCESS_KIB_MAX as usize);

/// What a task leaves.
struct Landed {
    keys: HashSet<u64>,
    bytes: usize,
    judged: Judged,
    outcome: Result<()>,
}

/// Requests under way. Its futures must run within the plugin's runtime.
pub(super) struct Flight {
    client: Client,
    mode: WriteRequest,
    in_flight_max: usize,
    tasks: JoinSet<Landed>,
    /// The documents of all of them.
    keys: HashSet<u64>,
    /// Octets of all of them.
    bytes: usize,
    judged: Judged,
    stop: watch::Sender<bool>,
}

impl Flight {
    pub(super) fn new(client: Client, mode: WriteRequest, in_flight_max: u32) -> Self {
        Self {
            client,
            mode,
            in_flight_max: usize::try_from(in_flight_max).unwrap_or(usize::MAX).max(1),
            tasks: JoinSet::new(),
            keys: HashSet::new(),
            bytes: 0,
            judged: Judged::default(),
            stop: watch::Sender::new(false),
        }
    }

    /// Sends a request as soon as there is room for it and none of its documents is under way. One that is larger than all may be
    /// goes alone.
    ///
    /// # Errors
    /// That of an earlier request.
    pub(super) async fn launch(&mut self, mut request: Request) -> Result<()> {
        while let Some(landed) = self.tasks.try_join_next() {
            self.take_in(landed)?;
        }
        let bytes = request.encoded.len();
        while self.tasks.len() >= self.in_flight_max
            || self.bytes + bytes > BYTES_MAX
            || !self.keys.is_disjoint(&request.keys)
        {
            let Some(landed) = self.tasks.join_next().await else {
                // What is under way has ended, whatever keys and octets say.
                self.keys.clear();
                self.bytes = 0;
                break;
            };
            self.take_in(landed)?;
        }
        let kib = u32::try_from(bytes / 1024).unwrap_or(u32::MAX);
        // It is never closed, so an error, which has no share, is none.
        let share = room(
            &PROCESS_KIB,
            kib.clamp(1, PROCESS_KIB_MAX),
            self.client.services(),
        )
        .await;
        self.bytes += bytes;
        let keys = std::mem::take(&mut request.keys);
        self.keys.extend(&keys);
        let sender = Sender {
            client: self.client.clone(),
            mode: self.mode,
            stop: self.stop.subscribe(),
        };
        self.tasks.spawn(async move {
            let (judged, outcome) = sender.send(request).await;
            drop(share);
            Landed {
                keys,
                bytes,
                judged,
                outcome,
            }
        });
        Ok(())
    }

    /// Waits for all.
    ///
    /// # Errors
    /// The first one of theirs; those that are still under way are then stopped, but not waited for.
    pub(super) async fn land(&mut self) -> Result<()> {
        while let Some(landed) = self.tasks.join_next().await {
            self.take_in(landed)?;
        }
        Ok(())
    }

    /// What is known of the writes since this was last asked.
    pub(super) fn take_judged(&mut self) -> Judged {
        std::mem::take(&mut self.judged)
    }

    /// Takes back what [`Flight::take_judged`] gave.
    pub(super) fn give_back(&mut self, judged: Judged) {
        self.judged.add(judged);
    }

    /// Sends nothing further. Attempts under way are not cut off: the service may carry them out all the same, and nothing else is to
    /// be written before that is known.
    pub(super) fn stop(&self) {
        self.stop.send_replace(true);
    }

    /// Waits until all have stopped, and forgets them.
    pub(super) async fn clear(&mut self) {
        self.stop();
        // Whether they succeeded no longer matters.
        while self.tasks.join_next().await.is_some() {}
        self.keys.clear();
        self.bytes = 0;
        self.judged = Judged::default();
        self.stop = watch::Sender::new(false);
    }

    fn take_in(&mut self, landed: Result<Landed, tokio::task::JoinError>) -> Result<()> {
        let outcome = match landed {
            Ok(landed) => {
                for key in &landed.keys {
                    self.keys.remove(key);
                }
                self.bytes = self.bytes.saturating_sub(landed.bytes);
                self.judged.add(landed.judged);
                landed.outcome
            }
            Err(error) => Err(Error::internal("a request ended without a word").with_cause(&error)),
        };
        if outcome.is_err() {
            self.stop();
        }
        outcome
    }
}

/// Waits for room among all sessions, and tells the host so: whoever keeps to a bound of ours is not to be taken for one that hangs.
async fn room<'a>(
    of: &'a Semaphore,
    kib: u32,
    services: &Services,
) -> Result<SemaphorePermit<'a>, AcquireError> {
    if let Ok(share) = of.try_acquire_many(kib) {
        return Ok(share);
    }
    // One place in the queue, whatever is told meanwhile.
    let mut share = pin!(of.acquire_many(kib));
    loop {
        services.waits(TOLD_EVERY);
        if let Ok(share) = tokio::time::timeout(TOLD_EVERY, &mut share).await {
            return share;
        }
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        self.stop();
        // They end with the attempt that is under way.
        self.tasks.detach_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use whimbrel_plugin_api::LogLevel;
    use whimbrel_plugin_api::services::{CancelToken, HostServices};

    use super::*;

    /// The waits that it was told of.
    #[derive(Default)]
    struct Host(Mutex<Vec<Duration>>);

    impl HostServices for Host {
        fn log(&self, _: LogLevel, _: &str) {}

        fn progress(&self, _: &str, _: u64, _: Option<u64>) {}

        fn acquire(&self, _: &str, _: u64) -> bool {
            true
        }

        fn waits(&self, time: Duration) {
            self.0.lock().unwrap().push(time);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_host_hears_of_a_wait_for_room_in_the_process() {
        let host = Arc::new(Host::default());
        let services = Services::new(Arc::clone(&host) as _, CancelToken::new());
        let all = Semaphore::new(8);
        let others = room(&all, 8, &services).await.unwrap();
        assert!(host.0.lock().unwrap().is_empty());
        let release = async {
            tokio::time::sleep(Duration::from_secs(61)).await;
            drop(others);
        };
        let (share, ()) = tokio::join!(room(&all, 4, &services), release);
        drop(share.unwrap());
        let told: Duration = host.0.lock().unwrap().iter().sum();
        assert!(told >= Duration::from_secs(61), "{told:?}");
    }
}
