//! The task that fetches the pages of a scan ahead of whoever takes the documents.
//!
//! What waits to be taken is bounded in octets; a document that is larger than the bound waits alone. What arrives together is
//! handed over together. A request that fails, falls silent or is cut goes on after the last document that arrived.
//! Neighbour: `scan`, the other end.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use futures_util::{FutureExt as _, StreamExt as _};
use gcloud_sdk::google::firestore::v1::{Document, RunQueryResponse};
use gcloud_sdk::prost::Message as _;
use gcloud_sdk::prost_types::Timestamp;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use whimbrel_plugin_api::{Error, Result, Services};

use crate::client::{Attempts, Client};
use crate::error::{Class, Fault};

use super::query::{self, Start};
use super::scan::Scan;
use super::snapshot::{self, AsOf};

/// Octets of documents that wait to be taken: enough to keep a connection busy while a batch is made.
const AHEAD_BYTES_MAX: u32 = 8 * 1024 * 1024;
/// Octets and documents that are handed over at once; a part of the former, so that taking and fetching overlap.
const CHUNK_BYTES_MAX: u32 = 1024 * 1024;
const CHUNK_DOCUMENTS_MAX: usize = 256;
/// What a document and each of its fields take beside their octets, about.
const DOCUMENT_BYTES: usize = 128;
const FIELD_BYTES: usize = 96;
/// Documents of a page at least where a query finds others too, so that a small limit does not mean many requests.
const FILTERED_PAGE_MIN: u64 = 20;

/// Documents that arrived together.
#[derive(Debug, Default)]
pub(super) struct Chunk {
    pub(super) documents: VecDeque<(String, Document)>,
    /// As of when they were read.
    pub(super) read_time: Option<Timestamp>,
    /// Their place among what waits; free again when the chunk is taken.
    permit: Option<OwnedSemaphorePermit>,
}

/// Sends the requests of one scan.
pub(super) struct Fetcher {
    client: Client,
    scan: Scan,
    services: Services,
    as_of: AsOf,
    attempts: Attempts,
    /// Documents that may still be handed over.
    left: u64,
    /// The last document that arrived; empty before the first.
    after: String,
    chunk: Chunk,
    room: Arc<Semaphore>,
    reads: Arc<AtomicU64>,
    chunks: mpsc::UnboundedSender<Result<Option<Chunk>>>,
}

/// Why fetching ends early.
enum Stop {
    Failed(Error),
    /// Nobody takes the documents any more.
    Unwanted,
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

/// Why a request ends early.
enum Broken {
    Fault(Fault),
    Stop(Stop),
}

impl From<Fault> for Broken {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl From<Stop> for Broken {
    fn from(stop: Stop) -> Self {
        Self::Stop(stop)
    }
}

impl From<Error> for Broken {
    fn from(error: Error) -> Self {
        Self::Stop(Stop::Failed(error))
    }
}

impl Fetcher {
    pub(super) fn new(
        client: Client,
        mut scan: Scan,
        services: Services,
        as_of: AsOf,
        reads: Arc<AtomicU64>,
        chunks: mpsc::UnboundedSender<Result<Option<Chunk>>>,
    ) -> Self {
        Self {
            attempts: client.attempts(),
            left: scan.limit.unwrap_or(u64::MAX),
            after: scan.after.take().unwrap_or_default(),
            client,
            scan,
            services,
            as_of,
            chunk: Chunk::default(),
            room: Arc::new(Semaphore::new(AHEAD_BYTES_MAX as usize)),
            reads,
            chunks,
        }
    }

    /// Fetches to the end, an error, or until nobody listens.
    pub(super) async fn run(mut self) {
        let outcome = match self.fetch_pages().await.and_then(|()| self.hand_over()) {
            Ok(()) => Ok(None),
            // What arrived before the error is handed over before it.
            Err(Stop::Failed(error)) => self.hand_over().ok().map_or(Ok(None), |()| Err(error)),
            Err(Stop::Unwanted) => return,
        };
        // Nobody may be there to hear it.
        drop(self.chunks.send(outcome));
    }

    async fn fetch_pages(&mut self) -> Result<(), Stop> {
        while self.left > 0 {
            let limit = self.page_limit();
            if self.fetch_page(limit).await? < limit {
                break;
            }
        }
        Ok(())
    }

    fn page_limit(&self) -> u32 {
        let wanted = if self.scan.scope.is_filtered() {
            self.left.max(FILTERED_PAGE_MIN)
        } else {
            self.left
        };
        let page_max = self.client.reads().at_once(self.scan.page_documents_max.max(1));
        u32::try_from(wanted).map_or(page_max, |wanted| wanted.min(page_max))
    }

    /// Fetches one page, in as many requests as it takes, and answers how many documents it has.
    async fn fetch_page(&mut self, limit: u32) -> Result<u32, Stop> {
        let mut count = 0;
        while count < limit {
            let fault = match self.request(limit, &mut count).await {
                Ok(()) => break,
                Err(Broken::Stop(stop)) => return Err(stop),
                Err(Broken::Fault(fault)) => fault,
            };
            self.hand_over()?;
            if fault.is_snapshot_lost() && self.as_of.refused(&self.services)? {
                continue;
            }
            if fault.class == Class::RateLimited {
                self.client.reads().slow_down(fault.retry_after);
            }
            self.attempts.after(fault).await?;
        }
        if count == 0 {
            self.reads.fetch_add(1, Ordering::Relaxed);
        }
        self.attempts.reset();
        self.client.reads().succeeded(count.max(1));
        Ok(count)
    }

    /// One request for what a page still lacks; `count` is how many documents it has.
    async fn request(&mut self, limit: u32, count: &mut u32) -> Result<(), Broken> {
        // What has arrived does not wait with the rest.
        self.hand_over()?;
        // How many documents there are is known afterwards. All that may come are taken before, so that those that read side by side
        // keep to the rate together.
        let asked = limit - *count;
        self.client.reads().take(asked).await;
        let read_time = self.as_of.read_time(Instant::now(), &self.services)?;
        let count_before = *count;
        let outcome = self.answer(asked, read_time, count).await;
        let arrived = *count - count_before;
        // An answer without a document is billed as one.
        self.client
            .reads()
            .give_back(asked.saturating_sub(arrived.max(1)));
        if arrived > 0 {
            // Something has succeeded, so the next fault is a first one.
            self.attempts.reset();
        }
        outcome
    }

    /// The answer to one request for `asked` documents.
    async fn answer(
        &mut self,
        asked: u32,
        read_time: Option<Timestamp>,
        count: &mut u32,
    ) -> Result<(), Broken> {
        let start = match self.after.as_str() {
            "" => Start::First,
            path => Start::After(path),
        };
        let request = query::page(self.client.root(), &self.scan, start, asked, read_time);
        let mut stream = self.client.run_query(request).await?;
        loop {
            let message = match stream.next().now_or_never() {
                Some(message) => message,
                // What has arrived is handed over before more is waited for.
                None => {
                    self.hand_over()?;
                    stream.next().await
                }
            };
            match message {
                None => return Ok(()),
                Some(Ok(response)) => self.take(response, count).await?,
                Some(Err(status)) => return Err(Fault::from(status).into()),
            }
        }
    }

    /// Takes what one message brings.
    async fn take(&mut self, response: RunQueryResponse, count: &mut u32) -> Result<(), Stop> {
        if let Some(read_time) = response.read_time {
            let read_time = snapshot::to_micros(read_time);
            self.as_of.answered(read_time, Instant::now());
            self.chunk.read_time = Some(read_time);
        }
        let Some(document) = response.document else {
            return Ok(());
        };
        *count += 1;
        self.reads.fetch_add(1, Ordering::Relaxed);
        let path = self
            .client
            .root()
            .path(&document.name)
            .ok_or_else(|| Error::internal("the service answered with a document of another database"))?;
        self.after.clear();
        self.after.push_str(path);
        // Documents beyond a limit come with a page that was asked for because of others in it.
        if self.left == 0 || !self.scan.scope.contains(path) {
            return Ok(());
        }
        self.left -= 1;
        let path = path.to_owned();
        self.make_room(weight(&document)).await?;
        self.chunk.documents.push_back((path, document));
        if self.chunk.documents.len() >= CHUNK_DOCUMENTS_MAX || self.chunk.bytes() >= CHUNK_BYTES_MAX {
            self.hand_over()?;
        }
        Ok(())
    }

    /// Waits until `bytes` more may wait to be taken.
    async fn make_room(&mut self, bytes: u32) -> Result<(), Stop> {
        let permit = match Arc::clone(&self.room).try_acquire_many_owned(bytes) {
            Ok(permit) => permit,
            Err(_) => {
                self.hand_over()?;
                let room = Arc::clone(&self.room).acquire_many_owned(bytes);
                tokio::select! {
                    permit = room => permit.map_err(|_| Stop::Unwanted)?,
                    () = self.chunks.closed() => return Err(Stop::Unwanted),
                }
            }
        };
        match &mut self.chunk.permit {
            Some(held) => held.merge(permit),
            none => *none = Some(permit),
        }
        Ok(())
    }

    fn hand_over(&mut self) -> Result<(), Stop> {
        if self.chunk.documents.is_empty() {
            return Ok(());
        }
        let next = Chunk {
            read_time: self.chunk.read_time,
            ..Chunk::default()
        };
        let chunk = std::mem::replace(&mut self.chunk, next);
        self.chunks.send(Ok(Some(chunk))).map_err(|_| Stop::Unwanted)
    }
}

impl Chunk {
    fn bytes(&self) -> u32 {
        self.permit.as_ref().map_or(0, |permit| {
            u32::try_from(permit.num_permits()).unwrap_or(u32::MAX)
        })
    }
}

/// What a document takes in memory, about; a larger one than may wait counts as all of it.
fn weight(document: &Document) -> u32 {
    let bytes = document.encoded_len() + DOCUMENT_BYTES + FIELD_BYTES * document.fields.len();
    u32::try_from(bytes).map_or(AHEAD_BYTES_MAX, |bytes| bytes.min(AHEAD_BYTES_MAX))
}
