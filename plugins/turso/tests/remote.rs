//! The connector against a real libSQL server: both suites, and what happens when tokens, wires and other writers are
//! not what they should be. What has arrived is asked of npm `@libsql/client`.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends here")]

#[path = "remote/answers.rs"]
mod answers;
#[path = "remote/harness.rs"]
mod harness;
#[path = "remote/lanes.rs"]
mod lanes;
#[path = "remote/proxy.rs"]
mod proxy;
#[path = "remote/reading.rs"]
mod reading;
#[path = "lanes/rules.rs"]
mod rules;
#[path = "../../../tests/harness/sqld.rs"]
mod sqld;
#[path = "remote/stealing.rs"]
mod stealing;
#[path = "../../../tests/harness/proxy.rs"]
mod tcp_proxy;
#[path = "remote/tls.rs"]
mod tls;
#[path = "remote/writing.rs"]
mod writing;

use std::sync::Mutex;

use whimbrel_plugin_api::abi::root_module::local;
use whimbrel_plugin_api::acceptance::{
    ExpectedCollection, Record, SinkCase, SourceCase, Value, sink, source,
};
use whimbrel_plugin_api::record_type::{Field, RecordType};
use whimbrel_plugin_api::serde_json::{Value as Json, json};
use whimbrel_turso::WhimbrelPlugin;

use crate::sqld::{Sqld, free_address, tools};

/// A refused connection: nobody listens there.
fn nobody() -> Json {
    json!({ "url": format!("http://{}", free_address()) })
}

#[test]
fn sink_keeps_its_contract() {
    let Some(tools) = tools() else { return };
    let server = Sqld::start_with_tokens(&tools);
    let (url, tokens) = (server.url(), server.tokens.clone().unwrap());
    let config = {
        let (url, token) = (url.clone(), tokens.full.clone());
        move |prefix: &str| json!({ "url": url, "auth_token": token, "table_prefix": prefix })
    };
    let read_only = json!({ "url": url, "auth_token": tokens.read_only });
    // A prefix each, none of which begins another.
    let names: Mutex<Vec<String>> = Mutex::default();
    let case = SinkCase::new(move |name| {
        let mut names = names.lock().unwrap();
        let known = names.iter().position(|known| known == name);
        let number = known.unwrap_or_else(|| {
            names.push(name.to_owned());
            names.len() - 1
        });
        config(&format!("t{number}_"))
    })
    .with_bad_config(json!({ "url": "libsql://user:secret@db.example.org" }))
    .with_bad_config(json!({ "url": url, "tls": { "ca_file": "/no/such/file.pem" } }))
    .with_unreachable(nobody())
    .with_unreachable(read_only);
    sink::run(local::<WhimbrelPlugin>(), case).assert();
}

const TABLES: [&str; 8] = [
    "CREATE TABLE users(id INTEGER PRIMARY KEY, name TEXT NOT NULL, score REAL, avatar BLOB, anything)",
    "CREATE TABLE orders(user INTEGER REFERENCES users(id), code TEXT, PRIMARY KEY(user, code)) WITHOUT ROWID",
    "CREATE TABLE log(line TEXT)",
    "CREATE TABLE empty(a INTEGER, b TEXT, c REAL, d BLOB, e)",
    "CREATE VIEW seen AS SELECT id FROM users",
    "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 57) INSERT INTO users \
     SELECT i * 3, 'user ' || i, i / 4.0, zeroblob(i), CASE i % 3 WHEN 0 THEN i WHEN 1 THEN 't' || i END FROM n",
    "INSERT INTO orders SELECT id, 'c' || id FROM users WHERE id % 2 = 0",
    "INSERT INTO log SELECT name FROM users",
];

#[test]
fn source_keeps_its_contract() {
    let Some(tools) = tools() else { return };
    let server = Sqld::start_with_tokens(&tools);
    let answer = server.sql(&TABLES);
    assert!(!answer.contains("\"error\""), "{answer}");
    let tokens = server.tokens.clone().unwrap();
    let fields = vec![
        Field::required("id", RecordType::INT64),
        Field::required("name", RecordType::Text),
        Field::new("score", RecordType::FLOAT64),
        Field::new("avatar", RecordType::Bytes),
        Field::new("anything", RecordType::Variant),
    ];
    // Reading asks for no more than a read-only token.
    let case = SourceCase::new(json!({ "url": server.url(), "auth_token": tokens.read_only }))
        .with(
            ExpectedCollection::new("users", 57)
                .with_key(["id"])
                .with_fields(fields),
        )
        .with(ExpectedCollection::new("orders", 28).with_key(["user", "code"]))
        .with(ExpectedCollection::new("log", 57).with_key(Vec::<String>::new()))
        .with(ExpectedCollection::new("empty", 0))
        .with_query(
            "SELECT id, score FROM users WHERE id > 165 ORDER BY id -- the last two",
            ["id", "score"],
            vec![user(168, 14.0), user(171, 14.25)],
        )
        .with_query(
            "WITH big AS (SELECT id FROM users WHERE id > 1000) SELECT * FROM big;",
            ["id"],
            Vec::new(),
        )
        .with_bad_config(json!({ "url": "http://db.example.org" }))
        .with_unreachable(json!({ "url": server.url(), "auth_token": tokens.expired }))
        .with_unreachable(nobody());
    let case = WRITING.into_iter().fold(case, SourceCase::with_refused_statement);
    source::run(local::<WhimbrelPlugin>(), case).assert();
}

/// Statements that would change something, or are none.
const WRITING: [&str; 6] = [
    "DELETE FROM users",
    "DELETE FROM users RETURNING id",
    "SELECT 1; DELETE FROM users",
    "SELECT 1); DELETE FROM users; SELECT * FROM (SELECT 1",
    "PRAGMA user_version = 7",
    "SELECT missing FROM users",
];

/// A statement is as little able to write where the token may.
#[test]
fn statements_that_write_are_refused_with_the_right_to_write() {
    let Some(tools) = tools() else { return };
    let server = Sqld::start_with_tokens(&tools);
    let answer = server.sql(&TABLES);
    assert!(!answer.contains("\"error\""), "{answer}");
    let tokens = server.tokens.clone().unwrap();
    let config = json!({ "url": server.url(), "auth_token": tokens.full });
    let mut case = SourceCase::new(config)
        .with(ExpectedCollection::new("users", 57))
        .with(ExpectedCollection::new("orders", 28))
        .with(ExpectedCollection::new("log", 57))
        .with(ExpectedCollection::new("empty", 0))
        .with_query(
            "SELECT 1 AS one",
            ["one"],
            vec![Record::from([("one".to_owned(), Value::Int(1))])],
        );
    case.refused_statements = WRITING.map(str::to_owned).to_vec();
    source::run(local::<WhimbrelPlugin>(), case).assert();
}

fn user(id: i64, score: f64) -> Record {
    Record::from([
        ("id".to_owned(), Value::Int(id)),
        ("score".to_owned(), Value::float(score)),
    ])
}
