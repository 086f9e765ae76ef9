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
use whimbrel_plugin_api::acceptance::{ExpectedCollection, SinkCase, SourceCase, sink, source};
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
        .with_bad_config(json!({ "url": "https://db.example.org?authToken=x" }))
        .with_unreachable(config(&folder.path().join("missing.db")))
        .with_unreachable(config(&not_a_database));
    source::run(plugin(), case).assert();
}
