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
    let at_once = client.reads().at_once(u32::MAX) as usize;
    for some in names.chunks(at_once) {
        look_at(client, some, mask.as_ref(), &mut found).await?;
    }
    Ok(())
}

/// The same of as many as one request may ask for.
async fn look_at(
    client: &Client,
    names: &[String],
    mask: Option<&Vec<String>>,
    found: &mut impl FnMut(Document),
) -> Result<()> {
    let mut left: HashSet<String> = names.iter().cloned().collect();
    let mut attempts = client.attempts();
    while !left.is_empty() {
        let count = u32::try_from(left.len()).unwrap_or(u32::MAX);
        client.reads().take(count).await;
        match try_look(client, &mut left, mask, found).await {
            // A name without an answer has no document.
            Ok(()) => {
                client.reads().succeeded(count);
                return Ok(());
            }
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
    use whimbrel_plugin_api::Services;
    use whimbrel_plugin_api::runtime::Runtime;

    use super::*;
    use crate::emulator::Emulator;

    /// A client that may read so much in a second.
    fn client(emulator: &Emulator, project: &str, reads_per_second: u32, services: &Services) -> Client {
        let config = serde_json::json!({
            "project": project,
            "host": emulator.host(),
            "quota": { "reads_per_second": reads_per_second, "safety_factor": 1.0 },
        });
        let config = serde_json::from_value(config).unwrap();
        let opening = Client::open(&config, services);
        Runtime::get().unwrap().block_on(services, opening).unwrap()
    }

    #[test]
    fn a_rate_that_was_slowed_climbs_again_while_nothing_but_looks_is_done() {
        let Some(emulator) = Emulator::shared() else {
            return;
        };
        let services = Services::detached();
        // Half of it is less than the least rate, from which it climbs within a moment.
        let client = client(&emulator, &emulator.project("looks"), 11, &services);
        client.reads().slow_down(None);
        assert!(client.reads().is_slowed());
        let looks = async {
            for number in 0..3 {
                let names = (0..2).map(|place| client.root().document(&format!("a/{number}-{place}")));
                look(&client, names.collect(), None, drop).await?;
            }
            Ok(())
        };
        Runtime::get().unwrap().block_on(&services, looks).unwrap();
        assert!(!client.reads().is_slowed());
    }

    #[test]
    fn a_look_at_more_than_may_be_read_in_a_second_finds_all() {
        let Some(emulator) = Emulator::shared() else {
            return;
        };
        let services = Services::detached();
        let project = emulator.project("looks");
        let client = client(&emulator, &project, 20, &services);
        let name = |number: u32| client.root().document(&format!("a/{number}"));
        let writes: Vec<_> = (0..45)
            .map(|number| serde_json::json!({ "update": { "name": name(number), "fields": {} } }))
            .collect();
        emulator.commit(&project, &serde_json::json!(writes).to_string());
        let mut found = 0;
        let looking = look(&client, (0..50).map(name).collect(), None, |_| found += 1);
        Runtime::get().unwrap().block_on(&services, looking).unwrap();
        assert_eq!(found, 45);
    }

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
