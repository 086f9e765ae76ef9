//! Requests that ask for documents in the order of their names.
//!
//! Only names bound and order a query, so that no index but the one that always is there is needed, and a page starts at a
//! name, never at an offset, which would be billed. Neighbour: `scan`, which sends them one after another.

use gcloud_sdk::google::firestore::v1::structured_query::{
    CollectionSelector, Direction, FieldReference, Order, Projection,
};
use gcloud_sdk::google::firestore::v1::value::ValueType;
use gcloud_sdk::google::firestore::v1::{
    Cursor, RunAggregationQueryRequest, RunQueryRequest, StructuredAggregationQuery, StructuredQuery, Value,
    run_aggregation_query_request, run_query_request, structured_aggregation_query,
};
use gcloud_sdk::prost_types::Timestamp;
use structured_aggregation_query::aggregation::{Count, Operator};

use whimbrel_plugin_api::{LogLevel, Result, Services};

use crate::client::Client;
use crate::config::FirestoreConfig;
use crate::path::{OWN_COLLECTION, Pattern, Root};

use super::scan::{Scan, Scope};
use super::snapshot;

/// What a query calls the name of a document.
const NAME_FIELD: &str = "__name__";
/// The id that the service orders before all others: ids of this form are numbers, which come first, and it is the least.
const ID_MIN: &str = "__id-9223372036854775808__";
/// What [`crate::client::Client::count`] looks for in the answer.
const COUNT_ALIAS: &str = "count";

/// Where a page begins.
#[derive(Debug, Clone, Copy)]
pub(super) enum Start<'path> {
    /// Where the scan does.
    First,
    /// Behind this path.
    After(&'path str),
}

impl Scope {
    /// Whether its query also finds documents that are none of it.
    pub(super) fn is_filtered(&self) -> bool {
        matches!(self, Self::Collection(Pattern::Nested(ids)) if ids.len() > 1)
    }

    /// Whether the document at `path` is one of it.
    pub(super) fn contains(&self, path: &str) -> bool {
        match self {
            Self::Everything => true,
            Self::Collection(pattern) => pattern.contains(path),
        }
    }

    fn selector(&self) -> CollectionSelector {
        let (collection_id, all_descendants) = match self {
            Self::Everything => (String::new(), true),
            Self::Collection(Pattern::Nested(ids)) if ids.len() == 1 => (ids[0].clone(), false),
            Self::Collection(pattern) => (pattern.collection_id().to_owned(), true),
        };
        CollectionSelector {
            collection_id,
            all_descendants,
        }
    }

    /// The paths between which all of its documents are, if its query would find others too.
    fn range(&self) -> Option<(String, String)> {
        let Self::Collection(Pattern::Nested(ids)) = self else {
            return None;
        };
        let first = ids.first().filter(|_| ids.len() > 1)?;
        // No collection id comes between one and the same with a NUL behind it.
        Some((format!("{first}/{ID_MIN}"), format!("{first}\0/{ID_MIN}")))
    }
}

/// One page of `scan`: at most `limit` documents.
pub(super) fn page(
    root: &Root,
    scan: &Scan,
    start: Start<'_>,
    limit: u32,
    read_time: Option<Timestamp>,
) -> RunQueryRequest {
    let mut query = structured(root, &scan.scope, scan.from.as_deref(), scan.to.as_deref(), start);
    query.select = scan.fields.as_deref().map(projection);
    query.limit = Some(i32::try_from(limit).unwrap_or(i32::MAX));
    RunQueryRequest {
        parent: root.name().to_owned(),
        query_type: Some(run_query_request::QueryType::StructuredQuery(query)),
        consistency_selector: read_time.map(run_query_request::ConsistencySelector::ReadTime),
        ..RunQueryRequest::default()
    }
}

/// The smallest query that there is, for the time at which it is answered.
pub(super) fn least(root: &Root) -> RunQueryRequest {
    let mut query = structured(
        root,
        &Scope::Collection(Pattern::Nested(vec![OWN_COLLECTION.to_owned()])),
        None,
        None,
        Start::First,
    );
    query.select = Some(projection(&[]));
    query.limit = Some(1);
    RunQueryRequest {
        parent: root.name().to_owned(),
        query_type: Some(run_query_request::QueryType::StructuredQuery(query)),
        ..RunQueryRequest::default()
    }
}

/// Counts what the query of `scope` finds as of `read_time`: all of it, and documents of other collections if the scope is a
/// nested collection and its group has others in the range of its first segment. What is there now is counted if the instant can
/// no longer be read and `config` says so.
pub(crate) async fn count_kept(
    client: &Client,
    config: &FirestoreConfig,
    services: &Services,
    scope: &Scope,
    read_time: Option<Timestamp>,
) -> Result<u64> {
    match count(client, scope, read_time).await {
        Err(error) if snapshot::is_gone_on_after(config, &error) => {
            services.log(
                LogLevel::Warn,
                "what was there when the snapshot was taken can no longer be counted: documents are counted as they are now",
            );
            count(client, scope, None).await
        }
        counted => counted,
    }
}

async fn count(client: &Client, scope: &Scope, read_time: Option<Timestamp>) -> Result<u64> {
    client.reads().take(1).await;
    client.count(counting(client.root(), scope, read_time)).await
}

fn counting(root: &Root, scope: &Scope, read_time: Option<Timestamp>) -> RunAggregationQueryRequest {
    let query = StructuredAggregationQuery {
        aggregations: vec![structured_aggregation_query::Aggregation {
            alias: COUNT_ALIAS.to_owned(),
            operator: Some(Operator::Count(Count { up_to: None })),
        }],
        query_type: Some(structured_aggregation_query::QueryType::StructuredQuery(
            structured(root, scope, None, None, Start::First),
        )),
    };
    RunAggregationQueryRequest {
        parent: root.name().to_owned(),
        query_type: Some(run_aggregation_query_request::QueryType::StructuredAggregationQuery(query)),
        consistency_selector: read_time.map(run_aggregation_query_request::ConsistencySelector::ReadTime),
        ..RunAggregationQueryRequest::default()
    }
}

/// All documents of the group that `collection_id` names, ordered by name.
pub(super) fn group(collection_id: &str) -> StructuredQuery {
    StructuredQuery {
        from: vec![CollectionSelector {
            collection_id: collection_id.to_owned(),
            all_descendants: true,
        }],
        order_by: by_name(),
        ..StructuredQuery::default()
    }
}

fn structured(
    root: &Root,
    scope: &Scope,
    from: Option<&str>,
    to: Option<&str>,
    start: Start<'_>,
) -> StructuredQuery {
    let (lower, upper) = scope.range().unzip();
    let start_at = match start {
        Start::After(path) => Some(cursor(root, path, false)),
        Start::First => from.or(lower.as_deref()).map(|path| cursor(root, path, true)),
    };
    StructuredQuery {
        from: vec![scope.selector()],
        order_by: by_name(),
        start_at,
        end_at: to.or(upper.as_deref()).map(|path| cursor(root, path, true)),
        ..StructuredQuery::default()
    }
}

/// The place right before the document at `path`, or else right behind it.
fn cursor(root: &Root, path: &str, before: bool) -> Cursor {
    let reference = Value {
        value_type: Some(ValueType::ReferenceValue(root.document(path))),
    };
    Cursor {
        values: vec![reference],
        before,
    }
}

fn by_name() -> Vec<Order> {
    vec![Order {
        field: Some(FieldReference {
            field_path: NAME_FIELD.to_owned(),
        }),
        direction: Direction::Ascending.into(),
    }]
}

/// Only these fields; only the name if there are none.
fn projection(fields: &[String]) -> Projection {
    let mut paths: Vec<String> = fields.iter().map(|field| field_path(field)).collect();
    if paths.is_empty() {
        paths.push(NAME_FIELD.to_owned());
    }
    Projection {
        fields: paths
            .into_iter()
            .map(|field_path| FieldReference { field_path })
            .collect(),
    }
}

/// A field as a field path of one segment, quoted.
pub(crate) fn field_path(field: &str) -> String {
    let mut path = String::with_capacity(field.len() + 2);
    path.push('`');
    for character in field.chars() {
        if matches!(character, '`' | '\\') {
            path.push('\\');
        }
        path.push(character);
    }
    path.push('`');
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scan(name: &str) -> Scan {
        Scan {
            scope: Scope::Collection(Pattern::parse(name).unwrap()),
            from: None,
            to: None,
            after: None,
            fields: None,
            limit: None,
            read_time: None,
            page_documents_max: 10,
        }
    }

    fn query(scan: &Scan, start: Start<'_>) -> StructuredQuery {
        let request = page(&Root::new("p", "d"), scan, start, 7, None);
        assert_eq!(request.parent, "projects/p/databases/d/documents");
        match request.query_type {
            Some(run_query_request::QueryType::StructuredQuery(query)) => query,
            None => panic!("the request has no query"),
        }
    }

    fn place(cursor: Option<Cursor>) -> Option<(String, bool)> {
        let cursor = cursor?;
        match cursor.values.into_iter().next()?.value_type? {
            ValueType::ReferenceValue(name) => Some((
                name.strip_prefix("projects/p/databases/d/documents/")?.to_owned(),
                cursor.before,
            )),
            _ => None,
        }
    }

    #[test]
    fn a_root_collection_is_asked_for_alone_and_a_nested_one_within_the_range_of_its_first_segment() {
        let users = query(&scan("users"), Start::First);
        assert_eq!(
            (
                users.from[0].collection_id.as_str(),
                users.from[0].all_descendants
            ),
            ("users", false)
        );
        assert_eq!((place(users.start_at), place(users.end_at)), (None, None));
        assert_eq!((users.limit, users.offset), (Some(7), 0));

        let orders = query(&scan("users/*/orders"), Start::First);
        assert_eq!(
            (
                orders.from[0].collection_id.as_str(),
                orders.from[0].all_descendants
            ),
            ("orders", true)
        );
        assert_eq!(place(orders.start_at), Some((format!("users/{ID_MIN}"), true)));
        assert_eq!(place(orders.end_at), Some((format!("users\0/{ID_MIN}"), true)));

        let group = query(&scan("**/orders"), Start::First);
        assert_eq!(
            (group.from[0].all_descendants, group.start_at, group.end_at),
            (true, None, None)
        );
    }

    #[test]
    fn a_page_starts_behind_the_last_document_and_ends_before_the_end_of_the_part() {
        let mut part = scan("users/*/orders");
        (part.from, part.to) = (Some("users/b/orders/1".into()), Some("users/c/orders/2".into()));
        let first = query(&part, Start::First);
        assert_eq!(place(first.start_at), Some(("users/b/orders/1".into(), true)));
        assert_eq!(place(first.end_at), Some(("users/c/orders/2".into(), true)));
        let next = query(&part, Start::After("users/b/orders/9"));
        assert_eq!(place(next.start_at), Some(("users/b/orders/9".into(), false)));
        assert_eq!(place(next.end_at), Some(("users/c/orders/2".into(), true)));
    }

    #[test]
    fn fields_are_quoted_and_none_means_the_name_alone() {
        let mut some = scan("users");
        some.fields = Some(vec!["a.b".into(), "`\\".into()]);
        let paths = |query: StructuredQuery| -> Vec<String> {
            query
                .select
                .unwrap()
                .fields
                .into_iter()
                .map(|field| field.field_path)
                .collect()
        };
        assert_eq!(paths(query(&some, Start::First)), ["`a.b`", "`\\`\\\\`"]);
        some.fields = Some(Vec::new());
        assert_eq!(paths(query(&some, Start::First)), [NAME_FIELD]);
    }
}
