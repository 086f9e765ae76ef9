//! The suite of the source role.
//! Its collections are nested, below missing parents, of mixed types and with hostile ids.

use whimbrel_firestore::WhimbrelPlugin;
use whimbrel_plugin_api::abi::root_module::local;
use whimbrel_plugin_api::acceptance::{ExpectedCollection, SourceCase, source};
use whimbrel_plugin_api::record_type::{Field, RecordType};
use whimbrel_plugin_api::serde_json::{Value as Json, json};

use crate::grpc_layer::{Answer, End, Method};
use crate::reading_place::{Place, numbered};

fn user(number: usize) -> Json {
    let mut fields = json!({
        "name": { "stringValue": format!("user {number} 🐦 \0") },
        "age": { "integerValue": number.to_string() },
        "score": { "doubleValue": number as f64 / 4.0 },
        "seen": { "timestampValue": "2024-12-31T23:59:59.999999Z" },
        "avatar": { "bytesValue": "AAH/" },
        "home": { "geoPointValue": { "latitude": 52.5, "longitude": -13.25 } },
        "tags": { "arrayValue": { "values": [{ "stringValue": "a" }, { "nullValue": null }] } },
        "more": { "mapValue": { "fields": { "deep": { "booleanValue": true } } } },
    });
    if number.is_multiple_of(3) {
        fields["mixed"] = json!({ "booleanValue": true });
    }
    if number.is_multiple_of(4) {
        fields["mixed"] = json!({ "stringValue": "x" });
    }
    fields
}

#[test]
fn source_keeps_its_contract() {
    let Some(place) = Place::new() else { return };
    let users = numbered("users", 57);
    place.put(
        users
            .iter()
            .enumerate()
            .map(|(number, path)| (path.clone(), user(number))),
    );
    // Half of the parents are missing.
    let orders = (0..31).map(|number| format!("users/{:05}/orders/{}", number * 4, number % 2));
    place.put_numbered(orders);
    let hostile = [
        "a b",
        "ünïcode",
        "🐦",
        "%2F",
        "\"quoted\"",
        "`tick`",
        ".hidden",
        "*",
        "**",
        "{}",
        "\\",
    ];
    place.put_numbered(hostile.map(|id| format!("shops/nowhere/orders/{id}")));
    place.put_numbered((0..23).map(|number| format!("users/00001/orders/none/items/{number}")));
    place.put([("empty/nothing".to_owned(), json!({}))]);

    let text = |name: &str| Field::required(name, RecordType::Text);
    let fields = vec![
        text("__users_id__"),
        text("__orders_id__"),
        text("__id__"),
        Field::required("n", RecordType::INT64),
    ];
    let silent = Place::new().unwrap();
    silent
        .layer
        .script(Method::RunQuery, [Answer::refuse(End::Silence).always()]);
    let case = SourceCase::new(place.config(json!({})))
        .with(ExpectedCollection::new("users", 57).with_key(["__id__"]))
        .with(ExpectedCollection::new("users/*/orders", 31).with_key(["__users_id__", "__id__"]))
        .with(ExpectedCollection::new("shops/*/orders", 11).with_key(["__shops_id__", "__id__"]))
        .with(
            ExpectedCollection::new("users/*/orders/*/items", 23)
                .with_key(["__users_id__", "__orders_id__", "__id__"])
                .with_fields(fields),
        )
        .with(ExpectedCollection::new("empty", 1))
        .with_bad_config(json!({ "project": "p", "host": "" }))
        .with_bad_config(json!({ "project": "p", "host": "127.0.0.1:1", "page_documents_max": "many" }))
        .with_unreachable(json!({
            "project": "p", "host": "127.0.0.1:1", "connect_timeout_ms": 500, "retries_max": 1
        }))
        .with_blocking(silent.config(json!({})), "users");
    source::run(local::<WhimbrelPlugin>(), case).assert();
}
