//! The connector against its contract: the suites of both roles on real files, and what no suite knows of.
//! Real databases in temporary folders, through the boundary.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends here")]

#[path = "acceptance/absent.rs"]
mod absent;
#[path = "acceptance/altering.rs"]
mod altering;
#[path = "acceptance/documents.rs"]
mod documents;
#[path = "acceptance/harness.rs"]
mod harness;
#[path = "acceptance/lanes.rs"]
mod lanes;
#[path = "acceptance/preparing.rs"]
mod preparing;
#[path = "acceptance/reading.rs"]
mod reading;
#[path = "acceptance/round_trip.rs"]
mod round_trip;
#[path = "lanes/rules.rs"]
mod rules;
#[path = "acceptance/writing.rs"]
mod writing;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use whimbrel_plugin_api::abi::ForeignPlugin;
use whimbrel_plugin_api::abi::root_module::local;
use whimbrel_plugin_api::acceptance::{
    ExpectedCollection, Record, SinkCase, SourceCase, Value, sink, source,
};
use whimbrel_plugin_api::record_type::{Field, RecordType};
use whimbrel_plugin_api::serde_json::{Value as Json, json};
use whimbrel_turso::WhimbrelPlugin;

fn plugin() -> ForeignPlugin {
    local::<WhimbrelPlugin>()
}

fn file(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!("{name}.db"))
}

fn config(path: &Path) -> Json {
    json!({ "url": path.to_str().unwrap() })
}

#[test]
fn sink_keeps_its_contract() {
    let folder = Arc::new(tempfile::tempdir().unwrap());
    let targets = Arc::clone(&folder);
    let case = SinkCase::new(move |name| config(&file(targets.path(), name)))
        .with_bad_config(json!({ "url": "http://db.example.org" }))
        .with_bad_config(json!({ "url": "" }))
        .with_unreachable(config(&folder.path().join("no_such_folder/app.db")));
    sink::run(plugin(), case).assert();
}

const TABLES: &str = "
CREATE TABLE users(id INTEGER PRIMARY KEY, name TEXT NOT NULL, score REAL, avatar BLOB, anything);
CREATE TABLE orders(user INTEGER REFERENCES users(id), code TEXT, PRIMARY KEY(user, code)) WITHOUT ROWID;
CREATE TABLE log(line TEXT);
CREATE TABLE loose(id TEXT PRIMARY KEY, n NUMERIC);
CREATE TABLE empty(a INTEGER, b TEXT, c REAL, d BLOB, e);
CREATE VIEW seen AS SELECT id FROM users;
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 57)
INSERT INTO users SELECT i * 3, 'user ' || i, i / 4.0, zeroblob(i), CASE i % 3 WHEN 0 THEN i WHEN 1 THEN 't' || i END FROM n;
INSERT INTO orders SELECT id, 'c' || id FROM users WHERE id % 2 = 0;
INSERT INTO log SELECT name FROM users;
INSERT INTO loose SELECT 'k' || id, id FROM users;
INSERT INTO loose VALUES (NULL, 1), (NULL, 2.5);
";

/// A record of `users`, as a statement selects it.
fn user(id: i64, name: &str, score: f64, anything: Value) -> Record {
    Record::from([
        ("id".to_owned(), Value::Int(id)),
        ("name".to_owned(), Value::text(name)),
        ("score".to_owned(), Value::float(score)),
        ("some;thing".to_owned(), anything),
    ])
}

#[test]
fn source_keeps_its_contract() {
    let folder = tempfile::tempdir().unwrap();
    let path = file(folder.path(), "source");
    rusqlite::Connection::open(&path)
        .unwrap()
        .execute_batch(TABLES)
        .unwrap();
    let not_a_database = folder.path().join("text.db");
    std::fs::write(&not_a_database, "hello ".repeat(1_000)).unwrap();
    let fields = vec![
        Field::required("id", RecordType::INT64),
        Field::required("name", RecordType::Text),
        Field::new("score", RecordType::FLOAT64),
        Field::new("avatar", RecordType::Bytes),
        Field::new("anything", RecordType::Variant),
    ];
    let case = SourceCase::new(config(&path))
        .with(
            ExpectedCollection::new("users", 57)
                .with_key(["id"])
                .with_fields(fields),
        )
        .with(ExpectedCollection::new("orders", 28).with_key(["user", "code"]))
        .with(ExpectedCollection::new("log", 57).with_key(Vec::<String>::new()))
        .with(ExpectedCollection::new("loose", 59).with_key(Vec::<String>::new()))
        .with(ExpectedCollection::new("empty", 0))
        .with_query(
            "SELECT id, name, score, anything AS \"some;thing\" FROM users WHERE id > 162 ORDER BY id -- the last three",
            ["id", "name", "score", "some;thing"],
            vec![
                user(165, "user 55", 13.75, Value::text("\"t55\"")),
                user(168, "user 56", 14.0, Value::Null),
                user(171, "user 57", 14.25, Value::text("57")),
            ],
        )
        .with_query(
            "WITH big AS (SELECT id FROM users WHERE id > 1000) SELECT * FROM big;",
            ["id"],
            Vec::new(),
        )
        .with_query(
            "VALUES ('a;b)')",
            ["column1"],
            vec![Record::from([("column1".to_owned(), Value::text("a;b)"))])],
        )
        .with_refused_statement("DELETE FROM users")
        .with_refused_statement("DELETE FROM users RETURNING id")
        .with_refused_statement("SELECT 1; DELETE FROM users")
        .with_refused_statement("SELECT 1); DELETE FROM users; SELECT * FROM (SELECT 1")
        .with_refused_statement("PRAGMA user_version = 7")
        .with_refused_statement("PRAGMA journal_mode = WAL")
        .with_refused_statement("ATTACH 'other.db' AS other")
        .with_refused_statement("SELECT missing FROM users")
        .with_refused_statement("SELECT id FROM users WHERE id = ?")
        .with_bad_config(json!({ "url": "https://db.example.org?authToken=x" }))
        .with_unreachable(config(&folder.path().join("missing.db")))
        .with_unreachable(config(&not_a_database));
    source::run(plugin(), case).assert();
}
