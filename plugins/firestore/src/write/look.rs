//! Documents looked up by name before something is decided about their writes, and whether two are the same.
//! Neighbour: `stored` decides.

use std::collections::{HashMap, HashSet};

use gcloud_sdk::google::firestore::v1::batch_get_documents_response::Result as Answer;
use gcloud_sdk::google::firestore::v1::value::ValueType;
use gcloud_sdk::google::firestore::v1::{BatchGetDocumentsRequest, Document, DocumentMask, Value};
use whimbrel_plugin_api::Result;

use crate::client::Client;
use crate::error::{Class, Fault};

/// Gets the documents called `names` (full names), only the fields of `mask` (field paths) if there is one, and hands each that
/// is there to `found`.
pub(super) async fn look(
    client: &Client,
    names: Vec<String>,
    mask: Option<Vec<String>>,
    mut found: impl FnMut(Document),
) -> Result<()> {
    let mut left: HashSet<String> = names.into_iter().collect();
    let mut attempts = client.attempts();
    while !left.is_empty() {
        client
            .reads()
            .take(u32::try_from(left.len()).unwrap_or(u32::MAX))
            .await;
        match try_look(client, &mut left, mask.as_ref(), &mut found).await {
            // A name without an answer has no document.
            Ok(()) => return Ok(()),
            Err(fault) => {
                if fault.class == Class::RateLimited {
                    client.reads().slow_down(fault.retry_after);
                }
                attempts.after(fault).await?;
            }
        }
    }
    Ok(())
}

async fn try_look(
    client: &Client,
    left: &mut HashSet<String>,
    mask: Option<&Vec<String>>,
    found: &mut impl FnMut(Document),
) -> Result<(), Fault> {
    let request = BatchGetDocumentsRequest {
        database: client.root().database().to_owned(),
        documents: left.iter().cloned().collect(),
        mask: mask.map(|paths| DocumentMask {
            field_paths: paths.clone(),
        }),
        ..BatchGetDocumentsRequest::default()
    };
    let mut answers = client.batch_get(request).await?;
    while let Some(answer) = answers.message().await? {
        match answer.result {
            Some(Answer::Found(document)) if left.remove(&document.name) => found(document),
            Some(Answer::Missing(name)) => drop(left.remove(&name)),
            _ => {}
        }
    }
    Ok(())
}

/// Whether two documents hold the same, every number to its last bit.
pub(super) fn is_same(left: &HashMap<String, Value>, right: &HashMap<String, Value>) -> bool {
    left.len() == right.len()
        && left
            .iter()
            .all(|(name, value)| right.get(name).is_some_and(|other| is_same_value(value, other)))
}

fn is_same_value(left: &Value, right: &Value) -> bool {
    match (&left.value_type, &right.value_type) {
        (Some(ValueType::DoubleValue(left)), Some(ValueType::DoubleValue(right))) => {
            left.to_bits() == right.to_bits() || (left.is_nan() && right.is_nan())
        }
        (Some(ValueType::ArrayValue(left)), Some(ValueType::ArrayValue(right))) => {
            left.values.len() == right.values.len()
                && left
                    .values
                    .iter()
                    .zip(&right.values)
                    .all(|(left, right)| is_same_value(left, right))
        }
        (Some(ValueType::MapValue(left)), Some(ValueType::MapValue(right))) => {
            is_same(&left.fields, &right.fields)
        }
        (left, right) => left == right,
    }
}

#[cfg(test)]
mod tests {
    use gcloud_sdk::google::firestore::v1::MapValue;

    use super::*;

    #[test]
    fn documents_are_the_same_to_the_last_bit() {
        let double = |number: f64| Value {
            value_type: Some(ValueType::DoubleValue(number)),
        };
        let map = |value: Value| Value {
            value_type: Some(ValueType::MapValue(MapValue {
                fields: [("a".to_owned(), value)].into(),
            })),
        };
        assert!(is_same_value(&map(double(f64::NAN)), &map(double(-f64::NAN))));
        assert!(!is_same_value(&double(0.0), &double(-0.0)));
        assert!(!is_same_value(&map(double(1.0)), &double(1.0)));
        let fields = |names: &[&str]| -> HashMap<String, Value> {
            names
                .iter()
                .map(|name| ((*name).to_owned(), double(1.0)))
                .collect()
        };
        assert!(is_same(&fields(&["a", "b"]), &fields(&["b", "a"])));
        assert!(!is_same(&fields(&["a", "b"]), &fields(&["a"])));
        assert!(!is_same(&fields(&["a"]), &fields(&["b"])));
    }
}
