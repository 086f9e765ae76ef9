//! What a plan says of the collection: key, references, cursor fields, losses, estimates, and what is warned of.
//! What a plan refuses is in `wrong_configs.rs`.

use std::sync::Arc;

use whimbrel_plugin_api::abi::Validation;
use whimbrel_plugin_api::collection::{FieldLoss, Reference};
use whimbrel_plugin_api::serde_json::{Value, json};
use whimbrel_plugin_api::{Collection, Field, Loss, RecordType, Schema, Transform as _};

use crate::harness::{Listening, plugin};

fn orders() -> Collection {
    let fields = ["id", "customer", "shop", "updated", "note"];
    let fields = fields
        .iter()
        .map(|name| Field::new(*name, RecordType::Text))
        .collect();
    let mut collection = Collection::new("orders", Schema::new(fields))
        .with_key(["id"])
        .with_record_count(10);
    collection.estimate.exact = true;
    collection.references = vec![
        Reference {
            fields: vec!["customer".to_owned(), "shop".to_owned()],
            collection: "customers".to_owned(),
            to_fields: vec!["id".to_owned(), "shop".to_owned()],
            is_enforced: false,
        },
        Reference {
            fields: vec!["shop".to_owned()],
            collection: "shops".to_owned(),
            ..Reference::default()
        },
    ];
    collection.cursor_fields = vec!["updated".to_owned()];
    let loss = |field: &str| FieldLoss {
        field: field.to_owned(),
        loss: Loss::EmptyTextToNull,
    };
    collection.losses = vec![loss("note"), loss("updated")];
    collection
}

/// The collection that comes out, and what was logged.
fn planned(steps: &Value) -> (Collection, Vec<String>) {
    let host = Arc::new(Listening::default());
    let config = json!({ "steps": steps });
    let mut transform = plugin()
        .open_transform(&config, Arc::<Listening>::clone(&host), Validation::Full)
        .unwrap();
    let mut plan = transform.plan(&orders()).unwrap();
    assert_eq!(plan.outputs.len(), 1);
    (plan.outputs.remove(0), host.lines())
}

#[test]
fn everything_follows_a_new_name() {
    let names = json!({ "id": "order_id", "customer": "customer_id", "shop": "shop_id", "updated": "changed", "note": "remark" });
    let (collection, log) = planned(&json!([{ "rename": names }]));
    assert_eq!(collection.key, ["order_id"]);
    assert_eq!(collection.references[0].fields, ["customer_id", "shop_id"]);
    assert_eq!(collection.references[0].to_fields, ["id", "shop"]);
    assert_eq!(collection.cursor_fields, ["changed"]);
    assert_eq!(collection.losses[0].field, "remark");
    assert!(collection.estimate.exact && log.is_empty());
}

#[test]
fn a_reference_goes_with_its_field_and_is_warned_of() {
    let (collection, log) = planned(&json!([{ "drop": ["customer", "updated", "note"] }]));
    assert_eq!(collection.references.len(), 1);
    assert_eq!(collection.references[0].collection, "shops");
    assert!(collection.cursor_fields.is_empty() && collection.losses.is_empty());
    assert_eq!(
        log,
        ["collection `orders`: the reference to `customers` is not kept, since its field `customer` is not"]
    );
    let (collection, log) = planned(&json!([{ "set": { "shop": "here" } }]));
    assert!(collection.references.is_empty());
    assert_eq!(log.len(), 2);
}

#[test]
fn a_changed_key_or_reference_is_warned_of() {
    let (collection, log) =
        planned(&json!([{ "trim": ["id"] }, { "cast": { "fields": ["shop", "note"], "to": "int64" } }]));
    assert_eq!(collection.key, ["id"]);
    assert_eq!(collection.references.len(), 2);
    assert_eq!(collection.losses.len(), 1);
    assert_eq!(
        log,
        [
            "collection `orders`: `config.steps[0].trim[0]` changes the key field `id`: two keys may become one",
            "collection `orders`: `config.steps[1].cast` changes the field `shop` of the reference to `customers`, whose key \
             must be changed alike",
            "collection `orders`: `config.steps[1].cast` changes the field `shop` of the reference to `shops`, whose key must \
             be changed alike",
        ]
    );
}

#[test]
fn a_filter_leaves_an_unknown_number() {
    let (collection, _) = planned(&json!([{ "filter": { "where": { "field": "note", "op": "not_null" } } }]));
    assert_eq!(collection.estimate.record_count, Some(10));
    assert!(!collection.estimate.exact);
}

#[test]
fn nullability_follows_the_steps() {
    let (collection, _) = planned(&json!([
        { "default": { "note": "-", "shop": "-" } },
        { "normalise": { "fields": ["shop"], "empty_to_null": true } },
        { "set": { "copy": { "from": "note" } } },
    ]));
    let nullable = |name: &str| {
        let index = collection.schema.index_of(name).unwrap();
        collection.schema.fields[index].nullable
    };
    assert_eq!(
        ["note", "shop", "copy", "customer"].map(nullable),
        [false, true, false, true]
    );
}
