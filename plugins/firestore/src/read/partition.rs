//! How a collection is divided: ranges of names.
//!
//! Where to divide is asked of the service if it knows, else found out by discovery. The bounds are kept in the descriptor, so a
//! range means the same in a later process, and the outer ranges are open, so that what comes later belongs to one of them.
//! A range of keys, which a reader may ask for, is a range of names as well.

use std::cmp::Ordering;

use gcloud_sdk::google::firestore::v1::value::ValueType;
use gcloud_sdk::google::firestore::v1::{
    Cursor as QueryCursor, PartitionQueryRequest, partition_query_request,
};
use gcloud_sdk::prost_types::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use whimbrel_plugin_api::collection::Estimate;
use whimbrel_plugin_api::source::Predicate;
use whimbrel_plugin_api::{Cursor, Error, Partition, Result};

use crate::client::Client;
use crate::discovery::Discovered;
use crate::error::SNAPSHOT_EXPIRED;
use crate::path::{self, Pattern};

use super::query;

/// Documents that a part should have at least: below, dividing costs more requests than it saves time.
const PART_DOCUMENTS_MIN: u64 = 2_000;
/// Parts that a collection is divided into at most.
const PARTS_MAX: u32 = 256;
/// The form of descriptors that is written and read here.
const VERSION: u32 = 1;

/// A range of names: from one path on, to before another.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Range {
    pub(super) from: Option<String>,
    pub(super) to: Option<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Form {
    firestore: u32,
    from: Option<String>,
    to: Option<String>,
}

impl Range {
    /// The range that a descriptor means; everything without one.
    ///
    /// # Errors
    /// `firestore.bad_partition` for octets that are no descriptor of this plugin.
    pub(super) fn of(partition: Option<&Partition>) -> Result<Self> {
        let Some(descriptor) = partition.map(|partition| &partition.descriptor) else {
            return Ok(Self::default());
        };
        if descriptor.is_start() {
            return Ok(Self::default());
        }
        let form = serde_json::from_slice::<Form>(&descriptor.0).ok();
        let form = form.filter(|form| {
            let bounds = form.from.iter().chain(&form.to);
            form.firestore == VERSION && bounds.into_iter().all(|path| is_document(path))
        });
        let form = form.ok_or_else(|| {
            Error::invalid_data(
                "firestore.bad_partition",
                "the partition is not one of this plugin",
            )
            .with_help("divide and read the collection anew")
        })?;
        Ok(Self {
            from: form.from,
            to: form.to,
        })
    }

    /// The records of `pattern` whose keys are in a range.
    ///
    /// # Errors
    /// `plugin.unsupported` for a key that is not in the names of the documents, and for ranges of fields;
    /// `firestore.bad_key_range` for a bound that is no key.
    pub(super) fn matching(predicate: &Predicate, pattern: &Pattern, key: &[String]) -> Result<Self> {
        let Predicate::KeyRange { from, to } = predicate else {
            return Err(Error::unsupported("read a range of a field"));
        };
        if key != pattern.key() {
            return Err(Error::unsupported(
                "read a range of a key that is not in the names of the documents",
            ));
        }
        let bound = |bound: &Option<Json>| bound.as_ref().map(|bound| key_path(pattern, bound)).transpose();
        Ok(Self {
            from: bound(from)?,
            to: bound(to)?,
        })
    }

    /// What is in both.
    pub(super) fn and(self, other: Self) -> Self {
        let join = |left: Option<String>, right: Option<String>, wanted| match (left, right) {
            (Some(left), Some(right)) if path::compare(&left, &right) == wanted => Some(left),
            (left, right) => right.or(left),
        };
        Self {
            from: join(self.from, other.from, Ordering::Greater),
            to: join(self.to, other.to, Ordering::Less),
        }
    }

    /// Whether nothing can be in it.
    pub(super) fn is_empty(&self) -> bool {
        match (&self.from, &self.to) {
            (Some(from), Some(to)) => path::compare(from, to).is_ge(),
            _ => false,
        }
    }

    fn label(&self) -> String {
        match (&self.from, &self.to) {
            (None, None) => "all".to_owned(),
            (None, Some(to)) => format!("before `{to}`"),
            (Some(from), None) => format!("from `{from}`"),
            (Some(from), Some(to)) => format!("from `{from}` to before `{to}`"),
        }
    }

    fn into_partition(self, estimate: Estimate) -> Result<Partition> {
        let label = self.label();
        let form = Form {
            firestore: VERSION,
            from: self.from,
            to: self.to,
        };
        let descriptor = serde_json::to_vec(&form)
            .map_err(|error| Error::internal("a partition could not be written").with_cause(&error))?;
        Ok(Partition {
            descriptor: Cursor(descriptor),
            label,
            estimate,
        })
    }
}

/// Whether a path can be that of a document.
pub(super) fn is_document(path: &str) -> bool {
    let count = path.split('/').count();
    count.is_multiple_of(2) && path.split('/').all(|segment| !segment.is_empty())
}

/// The path that a key, or the first of its values, stands for.
fn key_path(pattern: &Pattern, key: &Json) -> Result<String> {
    let values: Option<Vec<&str>> = key
        .as_array()
        .map(|values| values.iter().map(Json::as_str).collect())
        .unwrap_or_default();
    let path = values.and_then(|values| match pattern {
        Pattern::Group(_) => <[&str; 1]>::try_from(values).ok().map(|[path]| path.to_owned()),
        Pattern::Nested(ids) => {
            let is_key = !values.is_empty()
                && values.len() <= ids.len()
                && values.iter().all(|value| !value.contains('/'));
            let segments = ids.iter().zip(values).map(|(id, value)| format!("{id}/{value}"));
            is_key.then(|| segments.collect::<Vec<_>>().join("/"))
        }
    });
    path.filter(|path| is_document(path)).ok_or_else(|| {
        Error::invalid_data(
            "firestore.bad_key_range",
            format!("a bound of the range is no key of `{pattern}`"),
        )
        .with_help(format!(
            "a key has the ids of {} as texts",
            pattern.key().join(", ")
        ))
    })
}

/// Divides a collection into about `wanted` parts. `found` is what discovery knows of it.
pub(crate) async fn divide(
    client: &Client,
    pattern: &Pattern,
    found: Option<&Discovered>,
    wanted: u32,
    read_time: Option<Timestamp>,
) -> Result<Vec<Partition>> {
    let record_count = found.and_then(|found| found.record_count);
    let whole = Partition {
        estimate: Estimate {
            record_count,
            size_bytes: found.and_then(|found| found.size_bytes),
            exact: false,
        },
        ..Partition::whole()
    };
    let most = record_count.map_or(u64::from(PARTS_MAX), |records| records / PART_DOCUMENTS_MIN);
    let count = u64::from(wanted.min(PARTS_MAX)).min(most);
    if count < 2 {
        return Ok(vec![whole]);
    }
    let bounds = match service_bounds(client, pattern, count, read_time).await {
        // Bounds divide what is read as of any instant; whether this one can be read is for the reading to say.
        Err(error) if error.code == SNAPSHOT_EXPIRED => service_bounds(client, pattern, count, None).await,
        bounds => bounds,
    };
    let bounds = match bounds? {
        bounds if bounds.is_empty() => found.map(|found| found.bounds.clone()).unwrap_or_default(),
        bounds => bounds,
    };
    let ranges = ranges(&thinned(bounds, count));
    if ranges.len() < 2 {
        return Ok(vec![whole]);
    }
    let share = ranges.len() as u64;
    let estimate = Estimate {
        record_count: whole.estimate.record_count.map(|records| records / share),
        size_bytes: whole.estimate.size_bytes.map(|bytes| bytes / share),
        exact: false,
    };
    ranges
        .into_iter()
        .map(|range| range.into_partition(estimate))
        .collect()
}

/// Bounds that the service proposes, in order; none where it does not know.
async fn service_bounds(
    client: &Client,
    pattern: &Pattern,
    count: u64,
    read_time: Option<Timestamp>,
) -> Result<Vec<String>> {
    let request = PartitionQueryRequest {
        parent: client.root().name().to_owned(),
        partition_count: i64::try_from(count - 1).unwrap_or(i64::MAX),
        query_type: Some(partition_query_request::QueryType::StructuredQuery(query::group(
            pattern.collection_id(),
        ))),
        consistency_selector: read_time.map(partition_query_request::ConsistencySelector::ReadTime),
        ..PartitionQueryRequest::default()
    };
    let cursors = client.partition_query(request).await?.unwrap_or_default();
    // The whole group was divided: bounds among the documents of other collections divide nothing here.
    let paths = cursors.into_iter().filter_map(|cursor| path_of(client, cursor));
    Ok(paths.filter(|path| pattern.contains(path)).collect())
}

fn path_of(client: &Client, cursor: QueryCursor) -> Option<String> {
    match cursor.values.into_iter().next()?.value_type? {
        ValueType::ReferenceValue(name) => client.root().path(&name).map(str::to_owned),
        _ => None,
    }
}

/// At most `count - 1` of the bounds, evenly chosen, in order.
fn thinned(mut bounds: Vec<String>, count: u64) -> Vec<String> {
    bounds.sort_by(|left, right| path::compare(left, right));
    bounds.dedup();
    let wanted = usize::try_from(count.saturating_sub(1)).unwrap_or(usize::MAX);
    let all = bounds.len();
    if all <= wanted {
        return bounds;
    }
    (1..=wanted)
        .map(|number| bounds[number * (all + 1) / (wanted + 1) - 1].clone())
        .collect()
}

/// The ranges between the bounds and beyond them.
fn ranges(bounds: &[String]) -> Vec<Range> {
    let froms = std::iter::once(None).chain(bounds.iter().cloned().map(Some));
    let tos = bounds.iter().cloned().map(Some).chain(std::iter::once(None));
    froms.zip(tos).map(|(from, to)| Range { from, to }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn partition(descriptor: &str) -> Partition {
        Partition {
            descriptor: Cursor(descriptor.into()),
            ..Partition::whole()
        }
    }

    #[test]
    fn descriptors_keep_their_meaning_and_others_are_refused() {
        let paths = vec!["users/b".to_owned(), "users/ö/orders/1".to_owned()];
        let ranges = ranges(&paths);
        assert_eq!(ranges.len(), 3);
        assert_eq!((&ranges[0].from, &ranges[2].to), (&None, &None));
        for range in ranges {
            let made = range.clone().into_partition(Estimate::default()).unwrap();
            assert_eq!(Range::of(Some(&made)).unwrap(), range);
        }
        let stored = r#"{"firestore":1,"from":"users/b","to":null}"#;
        assert_eq!(
            Range::of(Some(&partition(stored))).unwrap().from.as_deref(),
            Some("users/b")
        );
        assert_eq!(Range::of(None).unwrap(), Range::default());
        assert_eq!(Range::of(Some(&Partition::whole())).unwrap(), Range::default());
        for bad in [
            "{}",
            r#"{"firestore":2,"from":null,"to":null}"#,
            r#"{"firestore":1,"from":"users","to":null}"#,
            "x",
        ] {
            assert_eq!(
                Range::of(Some(&partition(bad))).unwrap_err().code,
                "firestore.bad_partition",
                "{bad}"
            );
        }
    }

    #[test]
    fn bounds_are_ordered_as_documents_are_and_evenly_chosen() {
        let unordered = ["b/1", "a/2", "a-/1", "a/10", "a/2", "c/1", "d/1"].map(str::to_owned);
        assert_eq!(thinned(unordered.to_vec(), 3), ["a/2", "b/1"]);
        assert_eq!(
            thinned(unordered.to_vec(), 9),
            ["a/10", "a/2", "a-/1", "b/1", "c/1", "d/1"]
        );
        assert_eq!(thinned(Vec::new(), 4), Vec::<String>::new());
        let many: Vec<String> = (0..99).map(|number| format!("a/{number:02}")).collect();
        assert_eq!(thinned(many, 4), ["a/24", "a/49", "a/74"]);
    }

    #[test]
    fn a_range_of_keys_is_a_range_of_names() {
        let orders = Pattern::parse("users/*/orders").unwrap();
        let range = |from: Json, to: Json| {
            let predicate = Predicate::KeyRange {
                from: Some(from),
                to: Some(to),
            };
            Range::matching(&predicate, &orders, &orders.key())
        };
        let some = range(json!(["ann", "7"]), json!(["bob"])).unwrap();
        assert_eq!(
            (some.from.as_deref(), some.to.as_deref()),
            (Some("users/ann/orders/7"), Some("users/bob"))
        );
        for bad in [
            json!([]),
            json!("ann"),
            json!([1]),
            json!(["a/b"]),
            json!([""]),
            json!(["a", "b", "c"]),
        ] {
            let error = range(bad.clone(), json!(["z"])).unwrap_err();
            assert_eq!(error.code, "firestore.bad_key_range", "{bad}");
        }
        let other = Predicate::KeyRange { from: None, to: None };
        assert_eq!(
            Range::matching(&other, &orders, &["id".to_owned()])
                .unwrap_err()
                .code,
            "plugin.unsupported"
        );
    }

    #[test]
    fn of_two_ranges_the_narrower_bounds_hold() {
        let range = |from: &str, to: &str| Range {
            from: (!from.is_empty()).then(|| from.to_owned()),
            to: (!to.is_empty()).then(|| to.to_owned()),
        };
        assert_eq!(range("a/1", "a/5").and(range("a/2", "")), range("a/2", "a/5"));
        assert_eq!(range("a/3", "").and(range("a/2", "a/9")), range("a/3", "a/9"));
        assert_eq!(range("", "a/4").and(range("", "a/3")), range("", "a/3"));
        assert!(range("a/1", "a/3").and(range("a/4", "")).is_empty());
        assert!(!range("", "").is_empty());
    }
}
