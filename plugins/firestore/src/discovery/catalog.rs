//! What was found out, as the program wants to hear it: collections with keys, references, estimates and costs.
//!
//! Neighbours: `look` finds out, `crate::cost` prices, `source` answers.

use std::collections::HashMap;

use whimbrel_plugin_api::collection::{Estimate, Reference};
use whimbrel_plugin_api::{Collection, RecordType, Schema};

use super::Discovered;
use crate::config::FirestoreConfig;
use crate::cost;
use crate::path::Pattern;

/// The collections of one answer. `instant_reads` is what fixing the read time took before they were looked at.
pub(crate) fn announce(
    found: &[Discovered],
    config: &FirestoreConfig,
    instant_reads: u64,
) -> Vec<Collection> {
    let by_pattern: HashMap<&Pattern, &Discovered> =
        found.iter().map(|found| (&found.pattern, found)).collect();
    let mut collections: Vec<Collection> = found
        .iter()
        .map(|found| {
            let parent = found.pattern.parent();
            let parent = parent.and_then(|parent| by_pattern.get(&parent).copied());
            Collection {
                key: found.key.clone(),
                references: parent
                    .and_then(|parent| reference(found, parent))
                    .into_iter()
                    .collect(),
                estimate: Estimate {
                    record_count: found.record_count,
                    size_bytes: found.size_bytes,
                    exact: found.record_count.is_some() && found.is_count_exact,
                },
                // Of what was not even counted nobody knows.
                cost: found.record_count.map(|_| cost::cost(found, config)),
                ..Collection::new(found.pattern.to_string(), Schema::clone(&found.schema))
            }
        })
        .collect();
    if let Some(cost) = collections.first_mut().and_then(|first| first.cost.as_mut()) {
        cost.description_units += instant_reads;
    }
    collections
}

/// What says in `child` to which record of `parent` it belongs: the key but for its own id, if the parent is told apart by
/// values of the same kind.
fn reference(child: &Discovered, parent: &Discovered) -> Option<Reference> {
    let (_, pointing) = child.key.split_last()?;
    let is_alike = !pointing.is_empty()
        && pointing.len() == parent.key.len()
        && pointing.iter().zip(&parent.key).all(|(from, to)| {
            let from = record_type(child, from);
            from.is_some() && from == record_type(parent, to)
        });
    is_alike.then(|| Reference {
        fields: pointing.to_vec(),
        collection: parent.pattern.to_string(),
        to_fields: parent.key.clone(),
        is_enforced: child.orphan_count == Some(0),
    })
}

fn record_type<'found>(found: &'found Discovered, field: &str) -> Option<&'found RecordType> {
    let index = found.schema.index_of(field)?;
    Some(&found.schema.fields[index].record_type)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use whimbrel_plugin_api::Field;

    use super::*;

    fn found(name: &str, key: &[(&str, RecordType)], orphan_count: Option<u64>) -> Discovered {
        let fields = key
            .iter()
            .map(|(name, record_type)| Field::required(*name, record_type.clone()))
            .collect();
        Discovered {
            pattern: Pattern::parse(name).unwrap(),
            schema: Arc::new(Schema::new(fields)),
            key: key.iter().map(|(name, _)| (*name).to_owned()).collect(),
            record_count: Some(2_000),
            is_count_exact: true,
            size_bytes: Some(9),
            orphan_count,
            bounds: Vec::new(),
            reads: 2_001,
            read_units: 2_001,
            has_moved: false,
            count_units: 2,
        }
    }

    fn config() -> FirestoreConfig {
        serde_json::from_value(serde_json::json!({ "price_per_100k_reads": 0.03 })).unwrap()
    }

    const USERS_ID: &str = "__users_id__";

    #[test]
    fn children_point_to_parents_that_are_of_the_answer() {
        let text = || RecordType::Text;
        let users = found("users", &[("__id__", text())], Some(0));
        let orders = found(
            "users/*/orders",
            &[(USERS_ID, text()), ("__id__", text())],
            Some(0),
        );
        let lost = found(
            "users/*/orders/*/items",
            &[(USERS_ID, text()), ("__orders_id__", text()), ("__id__", text())],
            Some(3),
        );
        let group = found("**/orders", &[("__path__", text())], None);
        let collections = announce(
            &[users.clone(), orders.clone(), lost.clone(), group],
            &config(),
            1,
        );
        assert!(collections[0].references.is_empty() && collections[3].references.is_empty());
        let expected = Reference {
            fields: vec![USERS_ID.to_owned()],
            collection: "users".to_owned(),
            to_fields: vec!["__id__".to_owned()],
            is_enforced: true,
        };
        assert_eq!(collections[1].references, [expected]);
        let expected = Reference {
            fields: vec![USERS_ID.to_owned(), "__orders_id__".to_owned()],
            collection: "users/*/orders".to_owned(),
            to_fields: vec![USERS_ID.to_owned(), "__id__".to_owned()],
            is_enforced: false,
        };
        assert_eq!(collections[2].references, [expected]);
        // Without its parent it points nowhere.
        assert!(announce(&[users, lost], &config(), 0)[1].references.is_empty());
    }

    #[test]
    fn keys_of_unlike_types_are_no_reference() {
        let users = found("users", &[("id", RecordType::INT64)], Some(0));
        let orders = |record_type: RecordType| {
            let key = [("user", record_type), ("nr", RecordType::INT64)];
            found("users/*/orders", &key, None)
        };
        let reference = |child| {
            announce(&[users.clone(), child], &config(), 0)[1]
                .references
                .clone()
        };
        let own = reference(orders(RecordType::INT64));
        assert_eq!(
            (&own[0].fields, &own[0].to_fields),
            (&vec!["user".to_owned()], &vec!["id".to_owned()])
        );
        assert!(!own[0].is_enforced);
        assert!(reference(orders(RecordType::Text)).is_empty());
    }

    #[test]
    fn an_answer_says_how_much_there_is_and_what_it_costs() {
        let users = found("users", &[("__id__", RecordType::Text)], Some(0));
        let mut sampled = found("many", &[("__id__", RecordType::Text)], None);
        (sampled.is_count_exact, sampled.size_bytes) = (false, None);
        let mut named = found("named", &[], None);
        named.record_count = None;
        let collections = announce(&[users, sampled, named], &config(), 1);
        let estimate = Estimate {
            record_count: Some(2_000),
            size_bytes: Some(9),
            exact: true,
        };
        assert_eq!(collections[0].estimate, estimate);
        assert!(!collections[1].estimate.exact);
        assert_eq!(collections[2].cost, None);
        let cost = collections[0].cost.as_ref().unwrap();
        // The read that fixed the instant is in it, once.
        assert_eq!(
            (cost.description_units, cost.read_units, cost.count_units),
            (2_002, 2_001, 2)
        );
        assert_eq!(cost.unit, "document reads");
        assert!((cost.usd_per_million - 0.3).abs() < 1e-12);
        assert_eq!(collections[1].cost.as_ref().unwrap().description_units, 2_001);
    }
}
