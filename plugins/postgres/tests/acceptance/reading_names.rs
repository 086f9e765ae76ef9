//! Names that try to be something else, and what is announced of tables.
//! References, estimates and views among them, and tables that are altered or dropped after the plan.

use whimbrel_plugin_api::acceptance::Value;
use whimbrel_plugin_api::collection::Reference;
use whimbrel_plugin_api::serde_json::json;
use whimbrel_plugin_api::{CollectionsRequest, ErrorKind, ReadRequest, Source as _};

use crate::reading_place::{places, record};

fn long() -> String {
    "ü".repeat(31) + "x"
}

#[test]
fn hostile_names_are_names() {
    let names = [
        "plain".to_owned(),
        "\"; DROP TABLE plain; --".to_owned(),
        "O'Brien \\ 'x'".to_owned(),
        "😀 $1 %s".to_owned(),
        "select".to_owned(),
        "Case".to_owned(),
        "case".to_owned(),
        "a.b".to_owned(),
        long(),
    ];
    assert_eq!(names[8].len(), 63);
    let quote = |name: &String| format!("\"{}\"", name.replace('"', "\"\""));
    let mut tables = String::new();
    for (number, name) in names.iter().enumerate() {
        let name = quote(name);
        tables.push_str(&format!(
            "CREATE TABLE {name}({name} text PRIMARY KEY, \"t\" int, \"t.{number}\" int); \
             INSERT INTO {name} VALUES ('{number}''', 1, 2);"
        ));
    }
    for place in places(&tables) {
        let found = place.collections();
        assert_eq!(found.len(), names.len());
        for (number, name) in names.iter().enumerate() {
            let collection = if name.contains(['.', '"']) {
                quote(name)
            } else {
                name.clone()
            };
            assert!(
                found
                    .iter()
                    .any(|found| found.name == collection && found.key == [name.clone()]),
                "{name}"
            );
            let records = place.read(&collection);
            let expected = record([
                (name, Value::text(format!("{number}'"))),
                ("t", Value::Int(1)),
                (&format!("t.{number}"), Value::Int(2)),
            ]);
            assert_eq!(records, [expected]);
        }
    }
}

const SHOP: &str = r#"
CREATE SCHEMA crm; CREATE SCHEMA hidden; CREATE SCHEMA whimbrel; CREATE TABLE whimbrel.lanes(id int);
CREATE TABLE crm.customers(id int, shop text, note text, PRIMARY KEY (shop, id), UNIQUE (id));
CREATE TABLE orders(id int PRIMARY KEY, customer int REFERENCES crm.customers(id), shop text, again int REFERENCES orders,
  updated_at timestamptz, created_at timestamptz, secret int REFERENCES orders,
  FOREIGN KEY (shop, customer) REFERENCES crm.customers(shop, id));
CREATE TABLE unsure(order_id int); ALTER TABLE unsure ADD CONSTRAINT c FOREIGN KEY (order_id) REFERENCES orders NOT VALID;
CREATE VIEW open_orders AS SELECT * FROM orders; CREATE MATERIALIZED VIEW totals AS SELECT count(*) AS n FROM orders;
INSERT INTO crm.customers VALUES (1, 'a'), (2, 'b'); INSERT INTO orders VALUES (1, 1, 'a', 1), (2, 2, 'b', 1);
REFRESH MATERIALIZED VIEW totals; ANALYZE orders;
"#;

#[test]
fn keys_references_and_estimates_are_announced() {
    for place in places(SHOP) {
        let found = place.collections();
        let names: Vec<&str> = found.iter().map(|found| found.name.as_str()).collect();
        assert_eq!(names, ["crm.customers", "orders", "unsure"]);
        assert_eq!(found[0].key, ["shop", "id"]);
        let reference = |fields: &[&str], collection: &str, to: &[&str], is_enforced| Reference {
            fields: fields.iter().map(|field| (*field).to_owned()).collect(),
            collection: collection.to_owned(),
            to_fields: to.iter().map(|field| (*field).to_owned()).collect(),
            is_enforced,
        };
        let mut references = found[1].references.clone();
        references.sort_by_key(|reference| reference.fields.clone());
        assert_eq!(
            references,
            [
                reference(&["again"], "orders", &["id"], true),
                reference(&["customer"], "crm.customers", &["id"], true),
                reference(&["secret"], "orders", &["id"], true),
                reference(&["shop", "customer"], "crm.customers", &["shop", "id"], true),
            ]
        );
        assert_eq!(
            found[2].references,
            [reference(&["order_id"], "orders", &["id"], false)]
        );
        assert_eq!(found[1].cursor_fields, ["updated_at"]);
        assert_eq!(found[1].estimate.record_count, Some(2));
        assert!(!found[1].estimate.exact && found[1].estimate.size_bytes > Some(0));
    }
}

#[test]
fn views_are_collections_if_wanted_or_named() {
    for place in places(SHOP) {
        assert_eq!(place.collection("open_orders").key, Vec::<String>::new());
        assert_eq!(place.read("open_orders").len(), 2);
        assert_eq!(place.read("totals"), [record([("n", Value::Int(2))])]);
        let gone = CollectionsRequest::named("whimbrel.lanes");
        assert_eq!(place.source().collections(&gone).unwrap(), []);
        let place = place
            .with("views", json!(true))
            .with("schemas", json!(["public"]));
        let found = place.collections();
        let names: Vec<&str> = found.iter().map(|found| found.name.as_str()).collect();
        assert_eq!(names, ["open_orders", "orders", "totals", "unsure"]);
        // What is no collection is no target of a reference.
        assert_eq!(
            found[1]
                .references
                .iter()
                .filter(|found| found.collection == "crm.customers")
                .count(),
            0
        );
    }
}

#[test]
fn what_is_gone_or_changed_since_the_plan_is_said() {
    for place in places(SHOP) {
        let mut source = place.source();
        let planned = place.collection("orders").schema;
        let request = ReadRequest {
            expected: Some(planned),
            ..ReadRequest::all("orders")
        };
        place
            .database
            .sql("ALTER TABLE orders DROP COLUMN secret CASCADE");
        let refused = |error: whimbrel_plugin_api::Result<_>| {
            error
                .map(|_: Box<dyn whimbrel_plugin_api::RecordStream>| ())
                .unwrap_err()
        };
        let error = refused(source.read(&request));
        assert_eq!(
            (error.kind, error.code.as_str()),
            (ErrorKind::NotFound, "schema.no_field")
        );
        place.database.sql("DROP TABLE unsure, orders CASCADE");
        let error = refused(source.read(&request));
        assert_eq!(
            (error.kind, error.code.as_str()),
            (ErrorKind::NotFound, "source.no_collection")
        );
        assert!(error.message.contains("orders"));
    }
}
