//! Which collections there are, how they are called, and what asking costs.
//! Neighbour: `on_emulator`, which makes the databases. Not here: what requests are sent (`tests/acceptance`).

use gcloud_sdk::prost_types::Timestamp;
use serde_json::{Value as Json, json};

use super::{Bench, fields, integer, is_complete, names};

#[test]
fn collections_are_found_at_any_depth_and_below_missing_documents() {
    let Some(bench) = Bench::new() else { return };
    let paths = [
        "users/ann",
        "users/ann/orders/1",
        "users/ann/orders/1/items/a",
        "users/ann/orders/1/items/a/notes/x",
        // A missing user, a missing order below it.
        "users/ghost/orders/2",
        "users/ghost/orders/3/items/b",
        "users/ghost/orders/3/items/b/notes/y",
        // Missing on two levels, and a collection that is nowhere else.
        "users/ghost/orders/4/items/c/notes/z",
        "lost/1/found/2/again/3/deep/4",
        // Between a document and what is below it, as plain texts are ordered.
        "users/ann-",
    ];
    let read_time = bench.put_all(paths.map(str::to_owned), &json!({ "n": integer(1) }));
    let found = bench.all(read_time);
    let seen: Vec<_> = found
        .iter()
        .map(|found| {
            let count = found.record_count.unwrap();
            (found.pattern.to_string(), count, found.orphan_count.unwrap())
        })
        .collect();
    let expected = [
        ("lost/*/found/*/again/*/deep", 1, 1),
        ("users", 2, 0),
        ("users/*/orders", 2, 1),
        ("users/*/orders/*/items", 2, 1),
        ("users/*/orders/*/items/*/notes", 3, 1),
    ];
    assert_eq!(
        seen,
        expected.map(|(name, records, orphans)| (name.to_owned(), records, orphans))
    );
    for found in &found {
        let id = found.pattern.collection_id();
        let counted = bench.count(id, found.pattern.parent().is_some(), read_time);
        assert_eq!(found.record_count, Some(counted), "{}", found.pattern);
        assert!(is_complete(found) && found.is_count_exact);
    }
    let total: u64 = found.iter().map(|found| found.reads).sum();
    assert_eq!(total, 10);
    assert_eq!(
        found[4].key,
        ["__users_id__", "__orders_id__", "__items_id__", "__id__"]
    );
    assert_eq!(
        fields(&found[2]),
        ["__users_id__: text", "__id__: text", "n: int64"]
    );
}

#[test]
fn nothing_is_an_empty_answer() {
    let Some(bench) = Bench::new() else { return };
    let read_time = bench.put("gone/1", json!({}));
    assert_eq!(names(&bench.all(read_time)), ["gone"]);
    let answer: Json = serde_json::from_str(&bench.emulator.delete(&bench.project, "gone/1")).unwrap();
    let later: Timestamp = answer["commitTime"].as_str().unwrap().parse().unwrap();
    assert!(bench.all(later).is_empty());
    assert!(
        bench
            .ask(&["gone", "never", "**/gone"], true, later)
            .unwrap()
            .is_empty()
    );
    // As of then it is still there.
    assert_eq!(
        names(&bench.ask(&["gone", "never"], true, read_time).unwrap()),
        ["gone"]
    );
}

#[test]
fn names_that_look_like_something_else_are_names() {
    let Some(bench) = Bench::new() else { return };
    let collections = [
        "*",
        "**",
        "\"; DROP TABLE x; --",
        "a.b",
        "back`tick",
        "users",
        "Users",
        "USERS",
        "naïve 🐦",
        "%2F",
        " ",
        "_whimbrel2",
    ];
    let fields = json!({ "*": integer(1), "a.b": integer(1), "`": integer(1), "🐦": integer(1), "__almost": integer(1), " ": integer(1),
        "\"; DROP TABLE x; --": integer(1), "\\": integer(1) });
    let paths = collections.iter().map(|id| format!("{id}/*"));
    let nested = collections.iter().map(|id| format!("users/{id}/{id}/*"));
    let read_time = bench.put_all(paths.chain(nested), &fields);
    let found = bench.all(read_time);
    let mut expected: Vec<String> = collections.iter().map(|id| (*id).to_owned()).collect();
    expected.extend(collections.iter().map(|id| format!("users/*/{id}")));
    let mut seen = names(&found);
    seen.sort();
    expected.sort();
    assert_eq!(seen, expected);
    for found in &found {
        found.schema.validate().unwrap();
        assert_eq!(
            found.schema.fields.len(),
            8 + found.key.len(),
            "{}",
            found.pattern
        );
        // Asked for by name, it is the same.
        let named = bench.named(&found.pattern.to_string(), read_time);
        assert_eq!(named.schema, found.schema, "{}", found.pattern);
        assert_eq!(named.record_count, Some(1), "{}", found.pattern);
        assert_eq!(named.orphan_count, None, "{}", found.pattern);
    }
}

#[test]
fn a_group_is_found_only_by_name() {
    let Some(bench) = Bench::with(json!({ "path_field": true })) else {
        return;
    };
    let paths = [
        "orders/1",
        "users/a/orders/2",
        "shops/b/x/c/orders/3",
        "orders/1/items/4",
    ];
    let read_time = bench.put_all(paths.map(str::to_owned), &json!({ "n": integer(1) }));
    let found = bench
        .ask(&["**/orders", "orders", "users/*/orders"], true, read_time)
        .unwrap();
    assert_eq!(names(&found), ["orders", "users/*/orders", "**/orders"]);
    let counts: Vec<_> = found.iter().map(|found| found.record_count.unwrap()).collect();
    assert_eq!(counts, [1, 1, 3]);
    assert_eq!(found[2].key, ["__path__"]);
    assert_eq!(fields(&found[2]), ["__path__: text", "n: int64"]);
    assert_eq!(
        fields(&found[1]),
        ["__users_id__: text", "__id__: text", "__path__: text", "n: int64"]
    );
    assert!(
        !names(&bench.all(read_time))
            .iter()
            .any(|name| name.starts_with("**/"))
    );
}

#[test]
fn names_alone_cost_one_read_each() {
    let Some(bench) = Bench::new() else { return };
    let paths = ["a/1", "a/2", "a/3/b/1", "_whimbrel/x"];
    let read_time = bench.put_all(paths.map(str::to_owned), &json!({ "n": integer(1) }));
    // Nothing is saved by leaving schemas out where every document is read anyway.
    let found = bench.ask(&[], false, read_time).unwrap();
    assert_eq!(names(&found), ["a", "a/*/b"]);
    assert!(
        found
            .iter()
            .all(|found| is_complete(found) && !found.schema.fields.is_empty())
    );
    let named = bench.ask(&["a", "a/*/b", "c"], false, read_time).unwrap();
    assert_eq!(names(&named), ["a", "a/*/b"]);
    assert!(named.iter().all(|found| found.reads == 1));
    assert!(named.iter().all(|found| found.record_count.is_none()));
}

#[test]
fn texts_that_name_no_collection_are_left_out() {
    let Some(bench) = Bench::new() else { return };
    let read_time = bench.put("a/1", json!({}));
    let found = bench
        .ask(&["a/1", "a/*", "", "a//b", "a*", "a", "a"], true, read_time)
        .unwrap();
    assert_eq!(names(&found), ["a"]);
    // A document, and what is remembered: what is asked beside it changes nothing.
    assert_eq!(found[0].reads, 2);
    assert!(bench.ask(&["a/*"], true, read_time).unwrap().is_empty());
}

#[test]
fn a_cancelled_look_ends() {
    let Some(bench) = Bench::new() else { return };
    let read_time = bench.put("a/1", json!({}));
    bench.services.cancel_token().cancel();
    assert_eq!(
        bench.ask(&[], true, read_time).unwrap_err().code,
        "plugin.cancelled"
    );
}
