//! Requests and answers of Firestore, as far as rules and counts need them.
//!
//! Neighbours: `count` keeps what is found here, `script` asks what a request is about.

use bytes::Bytes;
use gcloud_sdk::google::firestore::v1::batch_get_documents_response::Result as Got;
use gcloud_sdk::google::firestore::v1::{
    BatchGetDocumentsRequest, BatchGetDocumentsResponse, BatchWriteRequest, BatchWriteResponse,
    CommitRequest, ListCollectionIdsRequest, ListDocumentsRequest, ListDocumentsResponse,
    PartitionQueryRequest, RunAggregationQueryRequest, RunAggregationQueryResponse, RunQueryRequest,
    RunQueryResponse, StructuredQuery, Value, Write, partition_query_request, run_aggregation_query_request,
    run_query_request, structured_aggregation_query, value, write,
};
use gcloud_sdk::google::rpc::Status;
use gcloud_sdk::prost::Message;

use super::count::{Counts, path_of};
use super::script::{Failure, Method, Which};

/// Index entries that an aggregation counts for one document read.
const ENTRIES_PER_READ: u64 = 1_000;

/// A request that has arrived.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) method: Method,
    /// Octets of the message.
    pub(super) bytes: usize,
    /// The full names of the documents that it writes or gets, or of the collections that it reads.
    pub(super) names: Vec<String>,
    pub(super) message: Bytes,
}

impl Request {
    pub(super) fn read(method: Method, message: Bytes) -> Self {
        Self {
            method,
            bytes: message.len(),
            names: names(method, &message),
            message,
        }
    }

    pub(super) fn is_write(&self) -> bool {
        matches!(self.method, Method::BatchWrite | Method::Commit)
    }

    /// Whether a name has `path` among its segments.
    pub(super) fn is_about(&self, path: &str) -> bool {
        let wanted = format!("/{path}/");
        self.names
            .iter()
            .any(|name| format!("/{}/", path_of(name)).contains(&wanted))
    }

    /// Whether it has that write.
    pub(super) fn has(&self, which: &Which) -> bool {
        match which {
            Which::Index(index) => *index < self.names.len(),
            Which::Document(path) => self.names.iter().any(|name| path_of(name) == path),
        }
    }
}

/// # Panics
/// If it is no such message: the layer and whoever calls it disagree about the service.
pub(super) fn decoded<M: Message + Default>(message: &Bytes) -> M {
    M::decode(message.clone()).expect("a message of the generated client")
}

fn names(method: Method, message: &Bytes) -> Vec<String> {
    match method {
        Method::BatchWrite => written(&decoded::<BatchWriteRequest>(message).writes),
        Method::Commit => written(&decoded::<CommitRequest>(message).writes),
        Method::BatchGetDocuments => decoded::<BatchGetDocumentsRequest>(message).documents,
        Method::ListDocuments => {
            let request: ListDocumentsRequest = decoded(message);
            vec![format!("{}/{}", request.parent, request.collection_id)]
        }
        Method::ListCollectionIds => vec![decoded::<ListCollectionIdsRequest>(message).parent],
        Method::RunQuery => {
            let request: RunQueryRequest = decoded(message);
            let query = request
                .query_type
                .map(|run_query_request::QueryType::StructuredQuery(query)| query);
            queried(&request.parent, query)
        }
        Method::RunAggregationQuery => {
            let request: RunAggregationQueryRequest = decoded(message);
            let query = request.query_type.and_then(
                |run_aggregation_query_request::QueryType::StructuredAggregationQuery(query)| {
                    query
                        .query_type
                        .map(|structured_aggregation_query::QueryType::StructuredQuery(query)| query)
                },
            );
            queried(&request.parent, query)
        }
        Method::PartitionQuery => {
            let request: PartitionQueryRequest = decoded(message);
            let query = request
                .query_type
                .map(|partition_query_request::QueryType::StructuredQuery(query)| query);
            queried(&request.parent, query)
        }
        Method::Other => Vec::new(),
    }
}

fn queried(parent: &str, query: Option<StructuredQuery>) -> Vec<String> {
    let from = query.map(|query| query.from).unwrap_or_default();
    let ids = from.into_iter().map(|selector| selector.collection_id);
    ids.map(|id| format!("{parent}/{id}")).collect()
}

fn written(writes: &[Write]) -> Vec<String> {
    let names = writes.iter().map(|write| match &write.operation {
        Some(write::Operation::Update(document)) => document.name.clone(),
        Some(write::Operation::Delete(name)) => name.clone(),
        Some(write::Operation::Transform(transform)) => transform.document.clone(),
        None => String::new(),
    });
    names.collect()
}

/// Documents that a message of an answer carries.
pub(super) fn document_count(method: Method, message: &Bytes) -> u64 {
    match method {
        Method::RunQuery => u64::from(decoded::<RunQueryResponse>(message).document.is_some()),
        Method::BatchGetDocuments => u64::from(matches!(
            decoded::<BatchGetDocumentsResponse>(message).result,
            Some(Got::Found(_))
        )),
        Method::ListDocuments => decoded::<ListDocumentsResponse>(message).documents.len() as u64,
        _ => 0,
    }
}

/// Document reads of a message of an answer; what an answer without any costs is [`least_reads`].
pub(super) fn reads(method: Method, message: &Bytes) -> u64 {
    match method {
        Method::RunQuery => {
            let response: RunQueryResponse = decoded(message);
            u64::from(response.document.is_some())
                + u64::try_from(response.skipped_results).unwrap_or_default()
        }
        Method::BatchGetDocuments => {
            u64::from(decoded::<BatchGetDocumentsResponse>(message).result.is_some())
        }
        Method::RunAggregationQuery => {
            let response: RunAggregationQueryResponse = decoded(message);
            let fields = response.result.map(|result| result.aggregate_fields);
            let counted = fields.unwrap_or_default().into_values().filter_map(entries).max();
            counted.unwrap_or_default().div_ceil(ENTRIES_PER_READ)
        }
        _ => document_count(method, message),
    }
}

/// What a call costs at least.
pub(super) fn least_reads(method: Method) -> u64 {
    match method {
        Method::BatchWrite | Method::Commit | Method::Other => 0,
        _ => 1,
    }
}

fn entries(value: Value) -> Option<u64> {
    match value.value_type {
        Some(value::ValueType::IntegerValue(count)) => u64::try_from(count).ok(),
        _ => None,
    }
}

/// Notes which writes an answer says were carried out.
pub(super) fn note_applied(request: &Request, message: &Bytes, counts: &mut Counts) {
    match request.method {
        Method::Commit => request.names.iter().for_each(|name| counts.applied_one(name)),
        Method::BatchWrite => {
            let response: BatchWriteResponse = decoded(message);
            for (name, status) in request.names.iter().zip(&response.status) {
                if status.code == 0 {
                    counts.applied_one(name);
                }
            }
        }
        _ => {}
    }
}

/// A `BatchWrite` of which some writes fail here.
pub(super) struct Divided {
    /// What is forwarded; nothing if every write fails.
    pub(super) forwarded: Option<Request>,
    statuses: Vec<Option<Status>>,
}

impl Divided {
    pub(super) fn of(request: &Request, failing: &[(Which, Failure)]) -> Self {
        let mut message: BatchWriteRequest = decoded(&request.message);
        let statuses: Vec<Option<Status>> = request
            .names
            .iter()
            .enumerate()
            .map(|(index, name)| {
                let found = failing.iter().find(|(which, _)| match which {
                    Which::Index(wanted) => *wanted == index,
                    Which::Document(path) => path == path_of(name),
                });
                found.map(|(_, failure)| failure.status())
            })
            .collect();
        let mut is_kept = statuses.iter().map(Option::is_none);
        message.writes.retain(|_| is_kept.next().unwrap_or_default());
        let is_empty = message.writes.is_empty();
        Self {
            forwarded: (!is_empty).then(|| Request::read(request.method, message.encode_to_vec().into())),
            statuses,
        }
    }

    /// The answer to the whole request, from that to what was forwarded.
    pub(super) fn whole(&self, message: Option<&Bytes>) -> Bytes {
        let part: BatchWriteResponse = message.map(decoded).unwrap_or_default();
        let mut results = part.write_results.into_iter();
        let mut statuses = part.status.into_iter();
        let mut whole = BatchWriteResponse::default();
        for failed in &self.statuses {
            let (result, status) = match failed {
                Some(status) => (None, Some(status.clone())),
                None => (results.next(), statuses.next()),
            };
            whole.write_results.push(result.unwrap_or_default());
            whole.status.push(status.unwrap_or_default());
        }
        whole.encode_to_vec().into()
    }
}
