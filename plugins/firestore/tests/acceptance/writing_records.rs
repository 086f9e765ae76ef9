//! Where records go: nested collections, keys of several fields, groups, references, documents below missing ones; and in which
//! order the rejected are counted.

use whimbrel_plugin_api::acceptance::Value;
use whimbrel_plugin_api::record_type::{Field, RecordType, Schema};
use whimbrel_plugin_api::serde_json::json;
use whimbrel_plugin_api::{Collection, ConflictPolicy};

use crate::emulator::document_name;
use crate::writing_place::{each, int, keyed, record, text};

fn key_field(name: &str) -> Field {
    Field::required(name, RecordType::Text)
}

#[test]
fn documents_are_written_below_missing_parents() {
    each(|place| {
        let fields = ["__shops_id__", "__orders_id__", "__id__"].map(key_field);
        let lines = Collection::new("shops/*/orders/*/lines", Schema::new(fields.into())).with_key([
            "__shops_id__",
            "__orders_id__",
            "__id__",
        ]);
        let line = |shop: &str, order: &str, id: &str| {
            record([
                ("__shops_id__", text(shop)),
                ("__orders_id__", text(order)),
                ("__id__", text(id)),
            ])
        };
        let records = vec![
            line("a", "1", "x"),
            line("a", "1", "ü 🐦"),
            line("a", "..", "x"),
            line("b", "*", "x"),
        ];
        let fate = place.write(&lines, &[records], ConflictPolicy::Overwrite);
        assert_eq!((fate.accepted, fate.codes()), (3, vec![(2, "firestore.bad_id")]));
        let documents = place.documents("lines");
        let paths: Vec<&str> = documents.keys().map(String::as_str).collect();
        assert_eq!(
            paths,
            [
                "shops/a/orders/1/lines/x",
                "shops/a/orders/1/lines/ü 🐦",
                "shops/b/orders/*/lines/x"
            ]
        );
        // What is in the path is not in the document as well.
        assert!(documents.values().all(|fields| *fields == json!({})));
        assert!(place.documents("shops").is_empty() && place.documents("orders").is_empty());
    });
}

#[test]
fn a_key_of_several_fields_makes_one_id_and_stays_in_the_document() {
    each(|place| {
        let fields = vec![
            Field::new("number", RecordType::INT64),
            Field::new("code", RecordType::Text),
        ];
        let parts = Collection::new("parts", Schema::new(fields)).with_key(["code", "number"]);
        let part = |number: Value, code: Value| record([("number", number), ("code", code)]);
        let first = vec![
            part(int(7), text("a:b/c%d")),
            part(int(7), Value::Null),
            part(Value::Null, text("x")),
        ];
        let second = vec![part(int(-1), text("..")), part(int(8), Value::Null)];
        let fate = place.write(&parts, &[first, second], ConflictPolicy::Overwrite);
        let null = "firestore.key_null";
        assert_eq!(
            (fate.accepted, fate.codes()),
            (2, vec![(1, null), (2, null), (4, null)])
        );
        let documents = place.documents("parts");
        assert_eq!(
            documents.into_iter().collect::<Vec<_>>(),
            [
                (
                    "parts/..:-1".to_owned(),
                    json!({ "number": { "integerValue": "-1" }, "code": { "stringValue": ".." } })
                ),
                (
                    "parts/a%3Ab%2Fc%25d:7".to_owned(),
                    json!({ "number": { "integerValue": "7" }, "code": { "stringValue": "a:b/c%d" } })
                ),
            ]
        );
    });
}

#[test]
fn references_point_into_the_database_that_is_written() {
    each(|place| {
        let fields = vec![
            key_field("__id__"),
            Field::new("to", RecordType::Reference),
            Field::new("many", RecordType::list(RecordType::Reference)),
        ];
        let links = keyed("links", fields);
        let elsewhere = "projects/other-project/databases/(default)/documents/users/eve";
        let link = |id: &str, to: &str, many: Vec<Value>| {
            record([
                ("__id__", text(id)),
                ("to", text(to)),
                ("many", Value::List(many)),
            ])
        };
        let records = vec![
            link("1", "users/ann", vec![text("users/ann/orders/7"), Value::Null]),
            link("2", elsewhere, vec![]),
            link("3", "no path", vec![]),
            // Read back it would be a path: another value than the one that came.
            link("4", &document_name(&place.project, "users/ann"), vec![]),
            link(
                "5",
                "users/ann",
                vec![text(&document_name(&place.project, "users/ann"))],
            ),
        ];
        let fate = place.write(&links, &[records], ConflictPolicy::Overwrite);
        let bad = "firestore.bad_value";
        assert_eq!((fate.accepted, fate.codes()), (3, vec![(3, bad), (4, bad)]));
        let inside = |path: &str| json!({ "referenceValue": document_name(&place.project, path) });
        let one = place.fields("links/1").unwrap();
        assert_eq!(one["to"], inside("users/ann"));
        let many = json!([inside("users/ann/orders/7"), { "nullValue": null }]);
        assert_eq!(one["many"]["arrayValue"]["values"], many);
        let two = place.fields("links/2").unwrap();
        assert_eq!(two["to"], json!({ "referenceValue": elsewhere }));
        let three = place.fields("links/3").unwrap();
        assert_eq!(three["to"], json!({ "stringValue": "no path" }));
    });
}

#[test]
fn records_of_a_group_go_where_their_paths_say() {
    each(|place| {
        let fields = vec![key_field("__path__"), Field::new("n", RecordType::INT64)];
        let orders = keyed("**/orders", fields);
        let order = |path: &str, n: i64| record([("__path__", text(path)), ("n", int(n))]);
        let records = vec![
            order("orders/1", 1),
            order("users/ann/orders/2", 2),
            order("users/ann/carts/3", 3),
            order("orders", 4),
        ];
        let fate = place.write(&orders, &[records], ConflictPolicy::Overwrite);
        assert_eq!(fate.accepted, 2);
        assert_eq!(fate.codes(), [(2, "firestore.bad_id"), (3, "firestore.bad_id")]);
        let documents = place.documents("orders");
        let paths: Vec<&str> = documents.keys().map(String::as_str).collect();
        assert_eq!(paths, ["orders/1", "users/ann/orders/2"]);
        assert_eq!(documents["orders/1"], json!({ "n": { "integerValue": "1" } }));
        assert!(place.documents("carts").is_empty());
    });
}

#[test]
fn the_path_of_a_document_may_come_as_a_field_and_is_not_stored() {
    each(|place| {
        let users = keyed("users", vec![key_field("__id__"), key_field("__path__")]);
        let user = |id: &str, path: &str| record([("__id__", text(id)), ("__path__", text(path))]);
        let records = vec![user("ann", "users/ann"), user("eve", "users/bob")];
        let fate = place.write(&users, &[records], ConflictPolicy::Overwrite);
        assert_eq!(
            (fate.accepted, fate.codes()),
            (1, vec![(1, "firestore.bad_field_name")])
        );
        assert_eq!(place.fields("users/ann"), Some(json!({})));
    });
}

#[test]
fn rejected_records_are_counted_over_all_writes() {
    each(|place| {
        let users = keyed(
            "users",
            vec![key_field("__id__"), Field::new("n", RecordType::INT64)],
        );
        place.put(&[("users/b", json!({})), ("users/e", json!({}))]);
        let user = |id: &str| record([("__id__", text(id)), ("n", int(1))]);
        let writes = [
            vec![user("a"), user("."), user("b")],
            vec![],
            vec![user("/"), user("c"), user("e"), user("f")],
        ];
        let fate = place.write(&users, &writes, ConflictPolicy::Fail);
        let (bad, exists) = ("firestore.bad_id", "firestore.exists");
        assert_eq!(fate.codes(), [(1, bad), (2, exists), (3, bad), (5, exists)]);
        assert_eq!(fate.accepted, 3);
        assert_eq!(fate.rejected[&2].1, "users/b");
        assert_eq!(fate.rejected[&3].1, "/");
    });
}
