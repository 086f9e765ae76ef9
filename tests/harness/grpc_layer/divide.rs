//! `PartitionQuery` as the service answers it: cursors that divide a query, on pages that are in no order.
//!
//! The emulator has no such call, so the layer asks it for all names and chooses among them. What the service refuses is refused here:
//! a query that is not of all collections of one id, or that has an order other than by name, a filter or a limit.

use std::collections::VecDeque;

use bytes::Bytes;
use gcloud_sdk::google::firestore::v1::partition_query_request::{ConsistencySelector, QueryType};
use gcloud_sdk::google::firestore::v1::structured_query::{FieldReference, Projection};
use gcloud_sdk::google::firestore::v1::{
    Cursor, PartitionQueryRequest, PartitionQueryResponse, RunQueryRequest, RunQueryResponse,
    StructuredQuery, Value, run_query_request, value,
};
use gcloud_sdk::prost::Message as _;
use gcloud_sdk::tonic::Code;
use http::request::Parts;

use super::call::whole;
use super::messages::{Request, decoded};
use super::script::End;
use super::serve::{Gone, Upstream};

/// Where queries are run.
const RUN_QUERY: &str = "/google.firestore.v1.Firestore/RunQuery";
/// The field that all orders end with.
const NAME_FIELD: &str = "__name__";

/// The answer, or what the service would refuse the request with.
pub(super) async fn divided(
    upstream: &Upstream,
    head: &Parts,
    request: &Request,
) -> Result<Result<Bytes, End>, Gone> {
    let request: PartitionQueryRequest = decoded(&request.message);
    let Some(QueryType::StructuredQuery(query)) = &request.query_type else {
        return Ok(Err(Code::InvalidArgument.into()));
    };
    if !is_allowed(query) || request.partition_count < 1 {
        return Ok(Err(Code::InvalidArgument.into()));
    }
    let names = run_query(&request, query).encode_to_vec().into();
    let answered = whole(upstream, head, RUN_QUERY, &names).await?;
    if !answered.is_ok() {
        return Ok(Err(Code::InvalidArgument.into()));
    }
    let documents = answered.messages.iter().filter_map(|message| {
        let response: RunQueryResponse = decoded(message);
        response.document.map(|document| document.name)
    });
    let names: Vec<String> = documents.collect();
    Ok(Ok(page(&request, &names).encode_to_vec().into()))
}

fn is_allowed(query: &StructuredQuery) -> bool {
    let is_group =
        matches!(&query.from[..], [from] if from.all_descendants && !from.collection_id.is_empty());
    let is_by_name = matches!(&query.order_by[..], [order]
        if order.direction <= 1 && order.field.as_ref().is_some_and(|field| field.field_path == NAME_FIELD));
    let is_whole = query.r#where.is_none()
        && query.limit.is_none()
        && query.offset == 0
        && query.start_at.is_none()
        && query.end_at.is_none();
    is_group && is_by_name && is_whole
}

fn run_query(request: &PartitionQueryRequest, query: &StructuredQuery) -> RunQueryRequest {
    let name = FieldReference {
        field_path: NAME_FIELD.to_owned(),
    };
    let query = StructuredQuery {
        select: Some(Projection { fields: vec![name] }),
        ..query.clone()
    };
    RunQueryRequest {
        parent: request.parent.clone(),
        query_type: Some(run_query_request::QueryType::StructuredQuery(query)),
        consistency_selector: request
            .consistency_selector
            .map(|ConsistencySelector::ReadTime(time)| {
                run_query_request::ConsistencySelector::ReadTime(time)
            }),
        ..Default::default()
    }
}

/// The page that is asked for: those of even number first, each page sorted.
fn page(request: &PartitionQueryRequest, names: &[String]) -> PartitionQueryResponse {
    let wanted = usize::try_from(request.partition_count).unwrap_or_default();
    let count = wanted.min(names.len().saturating_sub(1));
    let chosen: Vec<&String> = (1..=count)
        .map(|part| &names[part * names.len() / (count + 1)])
        .collect();
    let even = chosen.iter().step_by(2);
    let odd = chosen.iter().skip(1).step_by(2);
    let done: usize = request.page_token.parse().unwrap_or_default();
    let mut rest: VecDeque<&&String> = even.chain(odd).skip(done).collect();
    // The service decides on the size of a page; here there are always several, which is what readers must bear.
    let most = chosen.len().div_ceil(2).max(1);
    let size = match usize::try_from(request.page_size) {
        Ok(size) if size > 0 => size.min(most),
        _ => most,
    };
    let now: Vec<&&String> = rest.drain(..size.min(rest.len())).collect();
    let next_page_token = match rest.is_empty() {
        true => String::new(),
        false => (done + now.len()).to_string(),
    };
    PartitionQueryResponse {
        partitions: now.into_iter().map(|name| cursor(name)).collect(),
        next_page_token,
    }
}

fn cursor(name: &str) -> Cursor {
    Cursor {
        values: vec![Value {
            value_type: Some(value::ValueType::ReferenceValue(name.to_owned())),
        }],
        before: true,
    }
}
