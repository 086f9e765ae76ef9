//! Discovery on the emulator, from the inside: what no collection says of itself beyond the plugin, such as bounds, orphans and reads.
//!
//! Each test has a project of its own. What the program is told is tested from outside (`tests/discovery.rs`).

use gcloud_sdk::prost_types::Timestamp;
use serde_json::{Value as Json, json};
use whimbrel_plugin_api::runtime::Runtime;
use whimbrel_plugin_api::{CollectionsRequest, Field, RecordType, Result, Services};

use super::{Discovered, discover, grow};
use crate::client::Client;
use crate::config::FirestoreConfig;
use crate::emulator::Emulator;
use crate::memory::{self, Remembered};
use crate::path::Pattern;

/// Writes of one commit.
const WRITES_MAX: usize = 500;

struct Bench {
    emulator: Emulator,
    project: String,
    config: FirestoreConfig,
    services: Services,
    client: Client,
}

impl Bench {
    fn new() -> Option<Self> {
        Self::with(json!({}))
    }

    /// A new project, and a client with these settings.
    fn with(mut settings: Json) -> Option<Self> {
        let emulator = Emulator::shared()?;
        let project = emulator.project("discovery");
        settings["project"] = json!(project);
        settings["host"] = json!(emulator.host());
        let config: FirestoreConfig = serde_json::from_value(settings).unwrap();
        let services = Services::detached();
        let client = Runtime::get()
            .unwrap()
            .block_on(&services, Client::open(&config, &services))
            .unwrap();
        Some(Self {
            emulator,
            project,
            config,
            services,
            client,
        })
    }

    /// Writes documents, all with the same fields.
    fn put_all(&self, paths: impl IntoIterator<Item = String>, fields: &Json) -> Timestamp {
        let root = self.client.root();
        let writes: Vec<Json> = paths
            .into_iter()
            .map(|path| json!({ "update": { "name": root.document(&path), "fields": fields } }))
            .collect();
        let mut time = String::new();
        for some in writes.chunks(WRITES_MAX) {
            let answer = self.emulator.commit(&self.project, &json!(some).to_string());
            let answer: Json = serde_json::from_str(&answer).unwrap();
            time = answer["commitTime"].as_str().unwrap().to_owned();
        }
        time.parse().unwrap()
    }

    fn put(&self, path: &str, fields: Json) -> Timestamp {
        self.put_all([path.to_owned()], &fields)
    }

    fn ask(&self, names: &[&str], schemas: bool, read_time: Timestamp) -> Result<Vec<Discovered>> {
        let request = CollectionsRequest {
            names: names.iter().map(|name| (*name).to_owned()).collect(),
            schemas,
        };
        let asked = discover(&self.client, &self.config, &self.services, &request, read_time);
        Runtime::get()?.block_on(&self.services, asked)
    }

    fn all(&self, read_time: Timestamp) -> Vec<Discovered> {
        self.ask(&[], true, read_time).unwrap()
    }

    fn named(&self, name: &str, read_time: Timestamp) -> Discovered {
        self.ask(&[name], true, read_time).unwrap().remove(0)
    }

    fn run<T>(&self, future: impl Future<Output = Result<T>>) -> T {
        Runtime::get().unwrap().block_on(&self.services, future).unwrap()
    }

    /// What the emulator itself counts in a root collection, or with `everywhere` in all of that id.
    fn count(&self, id: &str, everywhere: bool, read_time: Timestamp) -> u64 {
        let query = json!({ "from": [{ "collectionId": id, "allDescendants": everywhere }] });
        self.emulator
            .count(&self.project, &query.to_string(), Some(&read_time.to_string()))
    }
}

fn integer(number: i64) -> Json {
    json!({ "integerValue": number.to_string() })
}

fn text(text: &str) -> Json {
    json!({ "stringValue": text })
}

fn names(found: &[Discovered]) -> Vec<String> {
    found.iter().map(|found| found.pattern.to_string()).collect()
}

fn fields(found: &Discovered) -> Vec<String> {
    let described = |field: &Field| {
        let null = if field.nullable { "?" } else { "" };
        format!("{}: {}{null}", field.name, field.record_type)
    };
    found.schema.fields.iter().map(described).collect()
}

/// Whether every document was looked at.
fn is_complete(found: &Discovered) -> bool {
    found.size_bytes.is_some()
}

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
fn fields_have_the_narrowest_types_that_hold_all_of_them() {
    let Some(bench) = Bench::new() else { return };
    let none = json!({ "nullValue": "NULL_VALUE" });
    let list = |values: &[Json]| json!({ "arrayValue": { "values": values } });
    bench.put(
        "c/1",
        json!({ "mixed": integer(1), "number": integer(1), "nothing": none, "empty": list(&[]), "maybe": none,
            "list": list(&[]), "map": { "mapValue": { "fields": { "a": integer(1) } } } }),
    );
    bench.put(
        "c/2",
        json!({ "mixed": text("x"), "number": { "doubleValue": 1.5 }, "nothing": none, "empty": list(&[]),
            "maybe": text(""), "list": list(&[integer(1), none.clone()]), "map": { "mapValue": {} }, "Twin": integer(1), "twin": text("") }),
    );
    let read_time = bench.put(
        "c/3",
        json!({ "mixed": { "booleanValue": true }, "number": integer(2), "nothing": none, "empty": list(&[]),
            "maybe": none, "list": list(&[integer(2)]), "map": { "mapValue": {} }, "late": integer(1) }),
    );
    let found = bench.all(read_time).remove(0);
    let expected = [
        "__id__: text",
        "empty: variant",
        "list: list(int64)",
        "map: variant",
        "maybe: text?",
        "mixed: variant",
        "nothing: variant?",
        "number: numeric",
        "Twin: int64?",
        "twin: text?",
        "late: int64?",
    ];
    assert_eq!(fields(&found), expected);
    assert!(found.schema.presence);
    found.schema.validate().unwrap();
    // A null is no lack: without the fields that some documents lack there is no presence.
    bench.put_all(["c/2", "c/3"].map(str::to_owned), &json!({ "a": none }));
    let read_time = bench.put("c/1", json!({ "a": integer(1) }));
    let found = bench.all(read_time).remove(0);
    assert_eq!(fields(&found), ["__id__: text", "a: int64?"]);
    assert!(!found.schema.presence);
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
fn bounds_divide_a_collection_evenly() {
    let Some(bench) = Bench::with(json!({ "page_documents_max": 400 })) else {
        return;
    };
    let mut paths: Vec<String> = (0..1_300)
        .map(|number| format!("many/{:04}", number * 7 % 1_300))
        .collect();
    paths.extend((0..600).map(|number| format!("many/0000/below/{number:03}")));
    let read_time = bench.put_all(paths, &json!({}));
    let by_scan = bench.all(read_time);
    assert_eq!(names(&by_scan), ["many", "many/*/below"]);
    for found in [&by_scan[0], &bench.named("many", read_time)] {
        let expected: Vec<String> = (1..=324).map(|part| format!("many/{:04}", part * 4)).collect();
        assert_eq!(found.bounds, expected);
    }
    assert_eq!(by_scan[1].bounds.len(), 299);
    assert_eq!(by_scan[1].bounds[0], "many/0000/below/002");
    // 1,300 and 600 in pages of 400.
    assert_eq!((by_scan[0].read_units, by_scan[0].count_units), (1_300, 2));
    assert_eq!((by_scan[1].read_units, by_scan[1].count_units), (600, 1));
    assert_eq!(by_scan.iter().map(|found| found.reads).sum::<u64>(), 1_900);
    assert!(by_scan[0].size_bytes.unwrap() > 1_300 * 50);
}

#[test]
fn a_sample_looks_at_no_more_than_it_says() {
    let Some(bench) = Bench::with(json!({ "inference": { "sample": 5 } })) else {
        return;
    };
    bench.put_all(
        (0..12).map(|number| format!("c/{number:02}")),
        &json!({ "a": integer(1) }),
    );
    bench.put_all(
        (0..3).map(|number| format!("few/{number}")),
        &json!({ "a": integer(1) }),
    );
    let read_time = bench.put_all(
        (0..5).map(|number| format!("five/{number}")),
        &json!({ "a": integer(1) }),
    );
    let found = bench.named("c", read_time);
    assert_eq!(fields(&found), ["__id__: text", "a: int64?"]);
    assert!(found.schema.presence && !is_complete(&found));
    assert_eq!((found.record_count, found.is_count_exact), (Some(12), true));
    assert_eq!((found.size_bytes, found.bounds.len()), (None, 0));
    // Five documents, a count, and what is remembered.
    assert_eq!((found.reads, found.read_units), (7, 12));
    for (name, records, reads) in [("few", 3, 4), ("five", 5, 7)] {
        let found = bench.named(name, read_time);
        assert!(is_complete(&found), "{name}");
        assert_eq!(fields(&found), ["__id__: text", "a: int64"], "{name}");
        assert_eq!(
            (found.record_count, found.reads),
            (Some(records), reads),
            "{name}"
        );
        assert!(!found.schema.presence, "{name}");
    }
    // To find all of them, all documents are read, and so nothing is unknown.
    let all = bench.all(read_time);
    assert!(all.iter().all(is_complete));
    assert_eq!(all.iter().map(|found| found.reads).sum::<u64>(), 20);
}

#[test]
fn a_sample_of_a_nested_collection_knows_its_number_only_if_nothing_else_is_met() {
    let Some(bench) = Bench::with(json!({ "inference": { "sample": 5 } })) else {
        return;
    };
    let alone = (0..5).map(|number| format!("a/x/orders/{number}"));
    let many = (0..9).map(|number| format!("b/x/orders/{number}"));
    let shared = (0..5).map(|number| format!("c/x/orders/{number}"));
    let other = ["c/y/z/z/orders/1".to_owned()];
    let read_time = bench.put_all(alone.chain(many).chain(shared).chain(other), &json!({}));
    let seen: Vec<_> = ["a", "b", "c"]
        .iter()
        .map(|root| {
            let found = bench.named(&format!("{root}/*/orders"), read_time);
            let count = (found.record_count.unwrap(), found.is_count_exact);
            (is_complete(&found), count, found.read_units, found.count_units)
        })
        .collect();
    let expected = [
        (true, (5, true), 5, 1),
        (false, (9, false), 9, 0),
        (false, (6, false), 6, 0),
    ];
    assert_eq!(seen, expected);
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
fn what_cannot_be_columns_is_refused_by_name() {
    let Some(bench) = Bench::new() else { return };
    bench.put("fine/1", json!({ "a": integer(1) }));
    let read_time = bench.put("odd/1", json!({ "__presence": integer(1) }));
    let error = bench.ask(&[], true, read_time).unwrap_err();
    assert_eq!(error.code, "firestore.reserved_field");
    assert!(error.message.contains("`odd`"), "{error}");
    assert_eq!(bench.named("fine", read_time).record_count, Some(1));
    assert_eq!(names(&bench.ask(&[], false, read_time).unwrap()), ["fine", "odd"]);
}

fn remembered(fields: Vec<Field>, key: &[&str]) -> Remembered {
    Remembered {
        fields,
        key: key.iter().map(|name| (*name).to_owned()).collect(),
        presence: false,
    }
}

#[test]
fn what_a_sink_remembers_is_read_while_it_fits() {
    let Some(bench) = Bench::new() else { return };
    let own = remembered(
        vec![
            Field::required("id", RecordType::INT64),
            Field::new("day", RecordType::Date),
            Field::new("note", RecordType::Text),
        ],
        &["id"],
    );
    let other = remembered(vec![Field::new("day", RecordType::Uuid)], &["gone"]);
    bench.run(memory::store(&bench.client, "events", &own));
    bench.run(memory::store(&bench.client, "b/*/c", &other));
    let named = [
        "events".to_owned(),
        "nothing".to_owned(),
        "b/*/c".to_owned(),
        "events".to_owned(),
    ];
    let loaded = bench.run(memory::load(&bench.client, &named, None));
    assert_eq!(loaded.len(), 2);
    assert_eq!((&loaded["events"], &loaded["b/*/c"]), (&own, &other));

    let document = |id: i64, day: &str| json!({ "note": text("x"), "day": text(day), "id": integer(id), "extra": integer(1) });
    bench.put("events/1", document(1, "2024-02-29"));
    bench.put("b/1/c/1", json!({ "day": integer(1) }));
    let read_time = bench.put("events/2", document(2, "1999-12-31"));
    let expected = ["id: int64", "day: date?", "note: text?", "extra: int64"];
    for found in [&bench.all(read_time)[1], &bench.named("events", read_time)] {
        assert_eq!(fields(found), expected);
        assert_eq!(found.key, ["id"]);
        assert!(!found.schema.presence);
    }
    let nested = &bench.all(read_time)[0];
    assert_eq!(fields(nested), ["__b_id__: text", "__id__: text", "day: int64"]);
    assert_eq!(nested.key, ["__b_id__", "__id__"]);
    // The documents of whimbrel's own are read with all others, and are none of the answer.
    assert_eq!(names(&bench.all(read_time)), ["b/*/c", "events"]);
    assert_eq!(
        bench.all(read_time).iter().map(|found| found.reads).sum::<u64>(),
        5
    );
    assert!(
        bench
            .ask(&["_whimbrel", "**/_whimbrel"], true, read_time)
            .unwrap()
            .is_empty()
    );

    // Somebody else writes: the key no longer holds, nor does the day.
    let read_time = bench.put(
        "events/3",
        json!({ "day": integer(7), "id": { "nullValue": "NULL_VALUE" } }),
    );
    let found = bench.named("events", read_time);
    assert_eq!(found.key, ["__id__"]);
    assert_eq!(
        fields(&found),
        [
            "__id__: text",
            "id: int64?",
            "day: variant",
            "note: text?",
            "extra: int64?"
        ]
    );
    assert!(found.schema.presence);

    bench.run(memory::forget(&bench.client, &named));
    assert!(bench.run(memory::load(&bench.client, &named, None)).is_empty());
}

#[test]
fn a_sample_believes_what_is_remembered_while_it_fits() {
    let Some(bench) = Bench::with(json!({ "inference": { "sample": 2 } })) else {
        return;
    };
    let own = remembered(
        vec![
            Field::required("id", RecordType::INT64),
            Field::required("day", RecordType::Date),
        ],
        &["id"],
    );
    bench.run(memory::store(&bench.client, "events", &own));
    let document = |id: i64| json!({ "day": text("2024-02-29"), "id": integer(id) });
    for id in 1..4 {
        bench.put(&format!("events/{id}"), document(id));
    }
    let read_time = bench.put("events/4", document(4));
    let found = bench.named("events", read_time);
    assert_eq!(fields(&found), ["id: int64", "day: date"]);
    assert!(!is_complete(&found) && !found.schema.presence);
    // Another one has more: what the rest has is not known.
    let read_time = bench.put(
        "events/0",
        json!({ "day": text("2024-02-29"), "id": integer(0), "more": integer(0) }),
    );
    let found = bench.named("events", read_time);
    assert_eq!(fields(&found), ["id: int64", "day: date", "more: int64?"]);
    assert!(found.schema.presence);
}

#[test]
fn fields_that_a_sample_lacks_are_found_with_types_that_all_fit() {
    let Some(bench) = Bench::with(json!({ "inference": { "sample": 1 } })) else {
        return;
    };
    bench.put("c/1", json!({ "a": integer(1) }));
    bench.put("c/2", json!({ "b": integer(1), "z": integer(1) }));
    bench.put("c/3", json!({ "b": { "doubleValue": 1.5 }, "c": text("") }));
    let read_time = bench.put("c/4", json!({ "a": integer(2) }));
    let found = bench.named("c", read_time);
    assert_eq!(fields(&found), ["__id__: text", "a: int64?"]);
    let pattern = Pattern::parse("c").unwrap();
    let grown = |schema| {
        bench.run(grow(
            &bench.client,
            &bench.config,
            &bench.services,
            &pattern,
            schema,
            Some(read_time),
        ))
    };
    let schema = grown(&found.schema);
    assert_eq!((schema.version, schema.presence), (1, true));
    let added: Vec<_> = schema.fields[2..]
        .iter()
        .map(|field| format!("{}: {}", field.name, field.record_type))
        .collect();
    assert_eq!(added, ["b: numeric", "z: int64", "c: text"]);
    assert!(schema.fields[2..].iter().all(|field| field.nullable));
    // Again there is nothing to add.
    assert_eq!(grown(&schema), schema);
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
