//! Documents one after another, in the order of their names.
//!
//! Each page starts after the last document of the one before, so a broken stream costs nothing but a further request. The
//! next pages are fetched while the caller is busy, within a bound of octets. Neighbours: `fetch` is the task that sends
//! the requests, `query` makes them, `snapshot` says as of when.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use gcloud_sdk::google::firestore::v1::Document;
use gcloud_sdk::prost_types::Timestamp;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use whimbrel_plugin_api::{Error, Result, Services};

use crate::client::Client;
use crate::config::FirestoreConfig;
use crate::path::Pattern;

use super::fetch::{Chunk, Fetcher};
use super::snapshot::AsOf;

/// What is read.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Scope {
    /// Every document of the database, also below missing ones.
    Everything,
    /// The documents of a collection.
    Collection(Pattern),
}

/// A reading of documents.
#[derive(Debug, Clone)]
pub(crate) struct Scan {
    pub(crate) scope: Scope,
    /// From this path on, if it is there.
    pub(crate) from: Option<String>,
    /// Up to before this path.
    pub(crate) to: Option<String>,
    /// Only behind this path, from which an earlier reading goes on.
    pub(crate) after: Option<String>,
    /// Only these fields; all if `None`, none but the name if empty.
    pub(crate) fields: Option<Vec<String>>,
    /// At most so many documents.
    pub(crate) limit: Option<u64>,
    /// The instant; without one, that of the first page holds for none of the others.
    pub(crate) read_time: Option<Timestamp>,
    /// Documents of one request.
    pub(crate) page_documents_max: u32,
}

/// Documents of a [`Scan`], fetched ahead.
#[derive(Debug)]
pub(crate) struct Documents {
    chunks: mpsc::UnboundedReceiver<Result<Option<Chunk>>>,
    /// The chunk under way; its place among what is fetched ahead is free once it is taken.
    documents: VecDeque<(String, Document)>,
    read_time: Option<Timestamp>,
    is_at_end: bool,
    reads: Arc<AtomicU64>,
    task: AbortHandle,
}

impl Documents {
    /// Starts to fetch. Must be called within the plugin's runtime.
    pub(crate) fn open(client: &Client, scan: Scan, services: &Services) -> Self {
        let as_of = AsOf::given(scan.read_time);
        Self::open_as_of(client, scan, services, as_of)
    }

    /// As [`Self::open`], for reads that may take longer than the scan's instant lasts: what happens then is for `config` to say. How
    /// old the instant is by now, the service says.
    pub(crate) fn open_kept(
        client: &Client,
        config: &FirestoreConfig,
        scan: Scan,
        services: &Services,
    ) -> Self {
        let snapshot = scan.read_time.map(|at| (at, Duration::ZERO));
        let as_of = AsOf::kept(config, snapshot, Instant::now());
        Self::open_as_of(client, scan, services, as_of)
    }

    /// As [`Self::open`], with an instant that is kept to as [`AsOf`] says; that of the scan does not count.
    pub(super) fn open_as_of(client: &Client, scan: Scan, services: &Services, as_of: AsOf) -> Self {
        let (sender, chunks) = mpsc::unbounded_channel();
        let reads = Arc::new(AtomicU64::new(0));
        let last_word = sender.clone();
        let fetcher = Fetcher::new(
            client.clone(),
            scan,
            services.clone(),
            as_of,
            Arc::clone(&reads),
            sender,
        );
        let cancelled = services.cancel_token().cancelled();
        let task = tokio::spawn(async move {
            tokio::select! {
                biased;
                // Nobody may be there to hear it.
                () = cancelled => drop(last_word.send(Err(Error::cancelled()))),
                () = fetcher.run() => {}
            }
        });
        Self {
            chunks,
            documents: VecDeque::new(),
            read_time: None,
            is_at_end: false,
            reads,
            task: task.abort_handle(),
        }
    }

    /// The next document with its path; `None` at the end.
    pub(crate) async fn next(&mut self) -> Result<Option<(String, Document)>> {
        loop {
            if let Some(document) = self.documents.pop_front() {
                return Ok(Some(document));
            }
            if self.is_at_end {
                return Ok(None);
            }
            let ended = || Error::internal("the task that reads ended without a word");
            match self.chunks.recv().await.ok_or_else(ended)?? {
                Some(chunk) => {
                    self.read_time = chunk.read_time;
                    self.documents = chunk.documents;
                }
                None => self.is_at_end = true,
            }
        }
    }

    /// Document reads so far, as the service bills them: one for each document, and one for a request without any.
    pub(crate) fn reads(&self) -> u64 {
        self.reads.load(Ordering::Relaxed)
    }

    /// As of when the last document was read, if the service said so.
    pub(crate) fn read_time(&self) -> Option<Timestamp> {
        self.read_time
    }
}

impl Drop for Documents {
    fn drop(&mut self) {
        self.task.abort();
    }
}
