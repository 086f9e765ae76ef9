//! Requests to one database, each with a deadline, counted and at the pace that the quota allows.
//!
//! `channel` connects, `credentials` finds out as whom, `attempts` bounds retries, `pace` keeps to rates, which
//! `pace_book` shares and `paced` tells the host of. What a request means is known to `read`, `discovery` and `write`. A [`Client`] is cheap to clone; clones share connection and pace.

mod attempts;
mod channel;
mod credentials;
mod pace;
mod pace_book;
mod paced;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use gcloud_sdk::google::firestore::admin::v1::{Database, GetDatabaseRequest};
use gcloud_sdk::google::firestore::v1::firestore_client::FirestoreClient;
use gcloud_sdk::google::firestore::v1::list_collection_ids_request::ConsistencySelector;
use gcloud_sdk::google::firestore::v1::value::ValueType;
use gcloud_sdk::google::firestore::v1::{
    BatchGetDocumentsRequest, BatchGetDocumentsResponse, BatchWriteRequest, BatchWriteResponse,
    CommitRequest, CommitResponse, Cursor, ListCollectionIdsRequest, PartitionQueryRequest,
    RunAggregationQueryRequest, RunQueryRequest, RunQueryResponse,
};
use gcloud_sdk::prost_types::Timestamp;
use gcloud_sdk::tonic::{Code, Request, Status, Streaming};
use gcloud_sdk::{GoogleAuthMiddleware, RequestTimeouts};
use whimbrel_plugin_api::{Result, Services};

pub(crate) use attempts::Attempts;
use pace_book::Paces;
pub(crate) use paced::{Paced, sleep};

use crate::config::FirestoreConfig;
use crate::error::{Class, Fault};
use crate::path::Root;

/// Ids of collections in one answer.
const COLLECTION_IDS_PER_PAGE: i32 = 300;
/// What the one aggregation of a counting request is called.
const COUNT_ALIAS: &str = "count";

/// Requests to one database.
#[derive(Clone)]
pub(crate) struct Client(Arc<Shared>);

#[derive(Clone)]
struct Shared {
    root: Root,
    is_emulator: bool,
    service: channel::Service,
    request_timeout: Duration,
    retries_max: u32,
    paces: Arc<Paces>,
    services: Services,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Client").field(&self.0.root.database()).finish()
    }
}

impl Client {
    /// Connects lazily: nothing is sent before the first request.
    ///
    /// # Errors
    /// `firestore.no_credentials`, `firestore.loose_key_file`, `firestore.bad_key_file`, `firestore.no_project`, `firestore.bad_host`,
    /// `firestore.two_places`.
    pub(crate) async fn open(config: &FirestoreConfig, services: &Services) -> Result<Self> {
        services.check_cancelled()?;
        let identity = credentials::find(config).await?;
        let project = config.project(identity.project.as_deref())?;
        let root = Root::new(&project, config.database()?);
        Ok(Self(Arc::new(Shared {
            service: channel::service(config, &root, identity.headers)?,
            is_emulator: config.emulator().is_some(),
            request_timeout: config.request_timeout(),
            retries_max: config.retries_max,
            paces: pace_book::paces(config, &root),
            services: services.clone(),
            root,
        })))
    }

    /// Where its documents are.
    pub(crate) fn root(&self) -> &Root {
        &self.0.root
    }

    /// Whether it is an emulator, which has other limits and no pace.
    pub(crate) fn is_emulator(&self) -> bool {
        self.0.is_emulator
    }

    /// A new bound for the retries of one piece of work.
    pub(crate) fn attempts(&self) -> Attempts {
        Attempts::new(self.0.retries_max, self.0.services.clone())
    }

    /// What the host offers to the object that has this client.
    pub(crate) fn services(&self) -> &Services {
        &self.0.services
    }

    /// The same client, whose retries have another bound.
    pub(crate) fn with_retries_max(&self, retries_max: u32) -> Self {
        Self(Arc::new(Shared {
            retries_max,
            ..Shared::clone(&self.0)
        }))
    }

    /// The pace of document reads; shared by all clones.
    pub(crate) fn reads(&self) -> Paced<'_> {
        Paced {
            pace: &self.0.paces.reads,
            services: &self.0.services,
        }
    }

    /// The pace of document writes; shared by all clones.
    pub(crate) fn writes(&self) -> Paced<'_> {
        Paced {
            pace: &self.0.paces.writes,
            services: &self.0.services,
        }
    }

    /// What the database is. One attempt; emulators do not know.
    pub(crate) async fn database(&self) -> Result<Database, Fault> {
        let request = GetDatabaseRequest {
            name: self.0.root.database().to_owned(),
        };
        let answer = self
            .0
            .service
            .admin
            .clone()
            .get_database(self.unary(request))
            .await?;
        Ok(answer.into_inner())
    }

    /// One attempt of a query. The caller goes on after the last document that it got.
    pub(crate) async fn run_query(
        &self,
        request: RunQueryRequest,
    ) -> Result<Streaming<RunQueryResponse>, Fault> {
        let answer = self.documents().run_query(self.streamed(request)).await?;
        Ok(answer.into_inner())
    }

    /// One attempt to get documents by name.
    pub(crate) async fn batch_get(
        &self,
        request: BatchGetDocumentsRequest,
    ) -> Result<Streaming<BatchGetDocumentsResponse>, Fault> {
        let answer = self
            .documents()
            .batch_get_documents(self.streamed(request))
            .await?;
        Ok(answer.into_inner())
    }

    /// Counts what a query finds, with retries; the request has one aggregation, called `count`.
    pub(crate) async fn count(&self, request: RunAggregationQueryRequest) -> Result<u64> {
        let mut attempts = self.attempts();
        loop {
            match self.count_once(request.clone()).await {
                Ok(count) => {
                    self.reads().succeeded(1);
                    return Ok(count);
                }
                Err(fault) => self.wait_after(fault, &mut attempts).await?,
            }
        }
    }

    async fn count_once(&self, request: RunAggregationQueryRequest) -> Result<u64, Fault> {
        let answer = self
            .documents()
            .run_aggregation_query(self.streamed(request))
            .await?;
        let mut answers = answer.into_inner();
        let mut counted = None;
        while let Some(answer) = answers.message().await? {
            let value = answer
                .result
                .and_then(|mut result| result.aggregate_fields.remove(COUNT_ALIAS));
            if let Some(ValueType::IntegerValue(count)) = value.and_then(|value| value.value_type) {
                counted = Some(count.unsigned_abs());
            }
        }
        counted.ok_or_else(|| Status::internal("the answer to a count holds none").into())
    }

    /// Ids of the collections below `parent` (a full name; the root's for root collections), all pages, with retries.
    pub(crate) async fn collection_ids(
        &self,
        parent: &str,
        read_time: Option<Timestamp>,
    ) -> Result<Vec<String>> {
        let mut ids = Vec::new();
        let mut page_token = String::new();
        let mut attempts = self.attempts();
        loop {
            let request = ListCollectionIdsRequest {
                parent: parent.to_owned(),
                page_size: COLLECTION_IDS_PER_PAGE,
                page_token: page_token.clone(),
                consistency_selector: read_time.map(ConsistencySelector::ReadTime),
                ..ListCollectionIdsRequest::default()
            };
            match self.documents().list_collection_ids(self.unary(request)).await {
                Ok(answer) => {
                    let page = answer.into_inner();
                    ids.extend(page.collection_ids);
                    if page.next_page_token.is_empty() {
                        return Ok(ids);
                    }
                    page_token = page.next_page_token;
                    attempts.reset();
                }
                Err(status) => self.wait_after(status.into(), &mut attempts).await?,
            }
        }
    }

    /// Cursors that divide a group, unordered as they come, with retries; `None` where the service has no such call.
    pub(crate) async fn partition_query(
        &self,
        request: PartitionQueryRequest,
    ) -> Result<Option<Vec<Cursor>>> {
        let mut cursors = Vec::new();
        let mut next = request;
        let mut attempts = self.attempts();
        loop {
            match self.documents().partition_query(self.unary(next.clone())).await {
                Ok(answer) => {
                    let page = answer.into_inner();
                    cursors.extend(page.partitions);
                    if page.next_page_token.is_empty() {
                        return Ok(Some(cursors));
                    }
                    next.page_token = page.next_page_token;
                    attempts.reset();
                }
                Err(status) if status.code() == Code::Unimplemented => return Ok(None),
                Err(status) => self.wait_after(status.into(), &mut attempts).await?,
            }
        }
    }

    /// One attempt to write documents independently of one another.
    pub(crate) async fn batch_write(&self, request: BatchWriteRequest) -> Result<BatchWriteResponse, Fault> {
        let answer = self.documents().batch_write(self.unary(request)).await?;
        Ok(answer.into_inner())
    }

    /// One attempt to write documents together.
    pub(crate) async fn commit(&self, request: CommitRequest) -> Result<CommitResponse, Fault> {
        let answer = self.documents().commit(self.unary(request)).await?;
        Ok(answer.into_inner())
    }

    fn documents(&self) -> FirestoreClient<GoogleAuthMiddleware> {
        self.0.service.documents.clone()
    }

    /// Waits before the next try of a request that reads; all others wait as well if there are too many of them.
    async fn wait_after(&self, fault: Fault, attempts: &mut Attempts) -> Result<()> {
        if fault.class == Class::RateLimited {
            self.reads().slow_down(fault.retry_after);
        }
        attempts.after(fault).await
    }

    /// A request whose whole answer has a deadline.
    fn unary<M>(&self, message: M) -> Request<M> {
        with_timeouts(message, RequestTimeouts::new().with_total(self.0.request_timeout))
    }

    /// A request whose answer may take its time, but may not be silent for long.
    fn streamed<M>(&self, message: M) -> Request<M> {
        with_timeouts(message, RequestTimeouts::new().with_idle(self.0.request_timeout))
    }
}

fn with_timeouts<M>(message: M, timeouts: RequestTimeouts) -> Request<M> {
    let mut request = Request::new(message);
    request.extensions_mut().insert(timeouts);
    request
}

#[cfg(test)]
mod tests;
