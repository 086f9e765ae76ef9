//! Which collections there are, and what is said of each.
//! Against the emulator; what it costs is in `discovery_reads`.

use whimbrel_plugin_api::collection::{Estimate, Reference};
use whimbrel_plugin_api::serde_json::json;

use crate::discovery_place::{Place, all, named, names};
use crate::emulator::Node;

/// Of the input of the tests, the part that is not special.
const SCALE: f64 = 0.02;

fn reference(fields: &[&str], collection: &str, to_fields: &[&str], is_enforced: bool) -> Reference {
    let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    Reference {
        fields: owned(fields),
        collection: collection.to_owned(),
        to_fields: owned(to_fields),
        is_enforced,
    }
}

#[test]
fn what_another_client_has_written_is_found_and_counted() {
    let Some((place, node)) = Place::new().zip(Node::shared()) else {
        return;
    };
    let printed = node.seed(&place.emulator, &place.project, SCALE);
    let mut expected: Vec<(String, u64)> = printed
        .lines()
        .map(|line| {
            let (name, count) = line.split_once('\t').unwrap();
            (name.to_owned(), count.parse().unwrap())
        })
        .collect();
    expected.sort();
    let mut source = place.source(json!({}));
    let collections = all(&mut source);
    let mut found: Vec<(String, u64)> = collections
        .iter()
        .map(|collection| (collection.name.clone(), collection.estimate.record_count.unwrap()))
        .collect();
    found.sort();
    assert_eq!(found, expected);
    for collection in &collections {
        collection.schema.validate().unwrap();
        assert!(collection.estimate.exact && collection.estimate.size_bytes > Some(0));
        // Asked for by name, it is the same but for what only a look at everything shows.
        let alone = named(&mut source, &[&collection.name]).remove(0);
        assert_eq!(alone.schema, collection.schema, "{}", collection.name);
        assert_eq!(alone.key, collection.key, "{}", collection.name);
        assert_eq!(alone.estimate, collection.estimate, "{}", collection.name);
        let cost = |collection: &whimbrel_plugin_api::Collection| collection.cost.clone().unwrap();
        assert_eq!(
            (cost(&alone).read_units, cost(&alone).count_units),
            (cost(collection).read_units, cost(collection).count_units),
            "{}",
            collection.name
        );
    }
}

#[test]
fn parents_are_pointed_to_and_missing_ones_are_left_to_the_search() {
    let Some(place) = Place::new() else { return };
    let paths = [
        "users/ann",
        "users/ann/orders/1",
        "users/ann/orders/1/items/1",
        "users/ann/orders/gone/items/2",
        "void/1/things/1",
    ];
    place.put_all(paths.map(str::to_owned), &json!({ "n": { "integerValue": "1" } }));
    let mut source = place.source(json!({}));
    let collections = all(&mut source);
    assert_eq!(
        names(&collections),
        [
            "users",
            "users/*/orders",
            "users/*/orders/*/items",
            "void/*/things"
        ]
    );
    let references: Vec<_> = collections
        .iter()
        .map(|collection| collection.references.clone())
        .collect();
    let users_id = "__users_id__";
    assert_eq!(references[0], []);
    assert_eq!(
        references[1],
        [reference(&[users_id], "users", &["__id__"], true)]
    );
    let orders = reference(
        &[users_id, "__orders_id__"],
        "users/*/orders",
        &[users_id, "__id__"],
        false,
    );
    assert_eq!(references[2], std::slice::from_ref(&orders));
    // No document of its parents is there at all.
    assert_eq!(references[3], []);
    // By name alone nobody has looked for the parents.
    let collections = named(&mut source, &["users/*/orders/*/items", "users/*/orders"]);
    assert_eq!(collections[0].references, []);
    assert_eq!(collections[1].references, [orders]);
    assert!(!collections[1].references[0].is_enforced);
}

#[test]
fn nothing_is_an_empty_answer() {
    let Some(place) = Place::new() else { return };
    let mut source = place.source(json!({}));
    assert_eq!(all(&mut source), []);
    assert_eq!(named(&mut source, &["users", "users/*/orders", "**/orders"]), []);
    assert_eq!(named(&mut source, &["users/ann", "users/*", ""]), []);
}

#[test]
fn what_whimbrel_itself_keeps_is_hidden() {
    let Some(place) = Place::new() else { return };
    let paths = ["_whimbrel/of:a", "_whimbrel/x/y/z", "a/1"];
    place.put_all(paths.map(str::to_owned), &json!({}));
    let mut source = place.source(json!({}));
    assert_eq!(names(&all(&mut source)), ["a"]);
    assert_eq!(named(&mut source, &["_whimbrel", "_whimbrel/*/y"]), []);
}

#[test]
fn a_sample_says_how_much_there_is_all_the_same() {
    let Some(place) = Place::new() else { return };
    let paths = (0..30).map(|number| format!("a/{number:02}"));
    place.put_all(paths, &json!({ "n": { "integerValue": "1" } }));
    let mut source = place.source(json!({ "inference": { "sample": 10 } }));
    let collection = named(&mut source, &["a"]).remove(0);
    let estimate = Estimate {
        record_count: Some(30),
        size_bytes: None,
        exact: true,
    };
    assert_eq!(collection.estimate, estimate);
    assert!(collection.schema.presence && collection.schema.fields[1].nullable);
}
