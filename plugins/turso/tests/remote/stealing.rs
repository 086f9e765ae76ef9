//! S8 and S2: transactions that another writer takes away, and commits whose answer is lost. Every record is there once.
//! The server's patience is five seconds, which is how long the slowest of these wait.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use whimbrel_plugin_api::sink::{Checkpoint, Committed, LaneId};
use whimbrel_plugin_api::{ConflictPolicy, ErrorScope, Sink as _};

use crate::harness::{commit, config, numbered, open_sink, prepared, todos, write, write_all};
use crate::proxy::{Fate, Proxy, delayed};
use crate::sqld::{Sqld, TableHash, tools};

/// What a whole copy of the records hashes to: written in one go, by nobody disturbed.
fn wanted(server: &Sqld, to: i64) -> TableHash {
    let mut whole = todos();
    whole.name = "wanted".to_owned();
    let (mut sink, _) = open_sink(&config(server, &server.url()));
    prepared(&mut sink, std::slice::from_ref(&whole));
    write_all(&mut sink, &whole, &numbered(0, to), ConflictPolicy::Fail);
    server.hashes(&["wanted"])["wanted"].clone()
}

#[test]
fn s8_a_second_writer_that_steals_the_transaction_costs_one_retry_and_no_row() {
    let Some(tools) = tools() else { return };
    let server = Sqld::start_with_tokens(&tools);
    server.sql(&["CREATE TABLE thief(n)"]);
    let (mut sink, host) = open_sink(&config(&server, &server.url()));
    prepared(&mut sink, &[todos()]);
    sink.begin(&LaneId::default()).unwrap();
    let first = write(&mut sink, &todos(), &numbered(0, 700), ConflictPolicy::Fail);
    assert_eq!(first.accepted, 700);
    // The server makes the second writer wait for five seconds, then takes the transaction away from the first.
    let answer = server.sql(&["INSERT INTO thief VALUES (1)"]);
    assert!(!answer.contains("\"error\""), "{answer}");
    // Between two batches..
    let second = write(&mut sink, &todos(), &numbered(700, 1_000), ConflictPolicy::Fail);
    assert_eq!((second.accepted, host.retry_count()), (300, 1));
    assert!(second.commit_due, "a transaction of this age is due");
    // ..and between the last batch and the commit.
    server.sql(&["INSERT INTO thief VALUES (2)"]);
    assert_eq!(commit(&mut sink), Committed::Committed { seq: 1 });
    assert_eq!(host.retry_count(), 2, "{:?}", host.warnings());
    sink.finalize().unwrap();
    let hashes = server.hashes(&["todos", "thief", "_whimbrel_guard"]);
    assert_eq!(hashes["todos"], wanted(&server, 1_000));
    assert_eq!(
        (
            hashes["thief"].record_count,
            hashes["_whimbrel_guard"].record_count
        ),
        (2, 0)
    );
}

#[test]
fn a_writer_that_never_ends_is_waited_for_and_then_passed() {
    let Some(tools) = tools() else { return };
    let server = Sqld::start(&tools);
    let (mut sink, host) = open_sink(&config(&server, &server.url()));
    prepared(&mut sink, &[todos()]);
    let statement = |sql: &str| format!(r#"{{"type":"execute","stmt":{{"sql":"{sql}"}}}}"#);
    let (baton, _) = server.pipeline(None, &statement("BEGIN IMMEDIATE"));
    write_all(&mut sink, &todos(), &numbered(0, 50), ConflictPolicy::Overwrite);
    assert_eq!(host.retry_count(), 0);
    // What the other one does afterwards is not part of anything.
    drop(baton);
    assert_eq!(server.hashes(&["todos"])["todos"], wanted(&server, 50));
}

#[test]
fn s2_a_commit_whose_answer_is_lost_is_found_out() {
    let Some(tools) = tools() else { return };
    let server = Sqld::start(&tools);
    for (name, is_done) in [("after", true), ("before", false)] {
        let mut collection = todos();
        collection.name = name.to_owned();
        let rule = move |number| match (number, is_done) {
            (0, true) => Fate::LoseAnswer,
            (0, false) => Fate::LoseRequest,
            _ => Fate::Pass,
        };
        // The check that stands before a commit is in no request that begins a transaction.
        let proxy = Proxy::start(server.address(), "COMMIT", Box::new(rule_of_commits(rule)));
        let (mut sink, host) = open_sink(&config(&server, &proxy.url()));
        prepared(&mut sink, std::slice::from_ref(&collection));
        for part in 0..3 {
            let records = numbered(part * 100, part * 100 + 100);
            write_all(&mut sink, &collection, &records, ConflictPolicy::Fail);
        }
        assert_eq!(
            host.retry_count(),
            usize::from(!is_done),
            "{name}: {:?}",
            host.warnings()
        );
        assert_eq!(server.hashes(&[name])[name], wanted_once(&server, 300), "{name}");
    }
}

/// Lets pass what makes tables (`CREATE`, and the session's row) and counts the commits of data from 0.
fn rule_of_commits(mut rule: impl FnMut(usize) -> Fate + Send) -> impl FnMut(usize) -> Fate + Send {
    move |number| match number.checked_sub(TABLES_COMMITS) {
        Some(number) => rule(number),
        None => Fate::Pass,
    }
}

/// Commits before the first of data: the tables, and the session's row.
const TABLES_COMMITS: usize = 2;

fn wanted_once(server: &Sqld, to: i64) -> TableHash {
    server.sql(&["DROP TABLE IF EXISTS wanted"]);
    wanted(server, to)
}

#[test]
fn s2_a_commit_that_arrives_late_changes_nothing_any_more() {
    let Some(tools) = tools() else { return };
    let server = Sqld::start(&tools);
    let (fate, go, arrived) = delayed();
    let fate = Mutex::new(Some(fate));
    let proxy = Proxy::start(
        server.address(),
        "COMMIT",
        Box::new(rule_of_commits(move |_| {
            fate.lock().unwrap().take().unwrap_or(Fate::Pass)
        })),
    );
    let (mut sink, host) = open_sink(&config(&server, &proxy.url()));
    prepared(&mut sink, &[todos()]);
    write_all(&mut sink, &todos(), &numbered(0, 100), ConflictPolicy::Fail);
    assert_eq!(host.retry_count(), 1, "{:?}", host.warnings());
    go.send(()).unwrap();
    arrived.recv_timeout(Duration::from_secs(30)).unwrap();
    write_all(&mut sink, &todos(), &numbered(100, 200), ConflictPolicy::Fail);
    assert_eq!(server.hashes(&["todos"])["todos"], wanted(&server, 200));
}

#[test]
fn s2_an_outcome_that_nobody_tells_is_unknown() {
    let Some(tools) = tools() else { return };
    let server = Sqld::start(&tools);
    // From the first commit on the server cannot be reached any more.
    let proxy = Proxy::start(
        server.address(),
        "COMMIT",
        Box::new(rule_of_commits(|number| match number {
            0 => Fate::LoseAnswer,
            _ => Fate::Answer(403),
        })),
    );
    let (mut sink, host) = open_sink(&config(&server, &proxy.url()));
    prepared(&mut sink, &[todos()]);
    sink.begin(&LaneId::default()).unwrap();
    write(&mut sink, &todos(), &numbered(0, 10), ConflictPolicy::Fail);
    assert_eq!(commit(&mut sink), Committed::Unknown);
    assert_eq!(host.retry_count(), 0);
    assert_eq!(server.hashes(&["todos"])["todos"].record_count, 10);
}

#[test]
fn lost_batches_and_busy_servers_are_tried_again_a_limited_number_of_times() {
    let Some(tools) = tools() else { return };
    let server = Sqld::start(&tools);
    let faults = [
        Fate::LoseRequest,
        Fate::LoseAnswer,
        Fate::Answer(503),
        Fate::Answer(429),
    ];
    let faults = Mutex::new(Vec::from(faults));
    let rule = move |_| faults.lock().unwrap().pop().unwrap_or(Fate::Pass);
    let proxy = Proxy::start(server.address(), "number 5", Box::new(rule));
    let (mut sink, host) = open_sink(&config(&server, &proxy.url()));
    prepared(&mut sink, &[todos()]);
    write_all(&mut sink, &todos(), &numbered(0, 10), ConflictPolicy::Fail);
    assert_eq!((host.retry_count(), proxy.seen()), (4, 5));
    assert_eq!(server.hashes(&["todos"])["todos"], wanted(&server, 10));

    let tries = std::sync::Arc::new(AtomicU32::new(0));
    let counted = std::sync::Arc::clone(&tries);
    let rule = move |_| {
        counted.fetch_add(1, Ordering::Relaxed);
        Fate::Answer(503)
    };
    let proxy = Proxy::start(server.address(), "number 15", Box::new(rule));
    let mut config = config(&server, &proxy.url());
    config["busy_timeout_ms"] = 0.into();
    let (mut sink, _) = open_sink(&config);
    prepared(&mut sink, &[todos()]);
    sink.begin(&LaneId::default()).unwrap();
    let batch = crate::harness::batch_of(&todos(), &numbered(10, 20));
    let error = sink.write("todos", &batch, ConflictPolicy::Fail).unwrap_err();
    assert_eq!(
        (error.code.as_str(), error.scope),
        ("turso.server_error", ErrorScope::Transaction)
    );
    assert_eq!(tries.load(Ordering::Relaxed), 6);
    sink.abort().unwrap();
    assert_eq!(server.hashes(&["todos"])["todos"].record_count, 10);
}

#[test]
fn s8_what_another_writer_has_put_in_the_way_is_not_written_over() {
    let Some(tools) = tools() else { return };
    let server = Sqld::start(&tools);
    let (mut sink, _) = open_sink(&config(&server, &server.url()));
    prepared(&mut sink, &[todos()]);
    sink.begin(&LaneId::default()).unwrap();
    write(&mut sink, &todos(), &numbered(0, 10), ConflictPolicy::Fail);
    let answer = server.sql(&["INSERT INTO todos VALUES (3, 'theirs', 1)"]);
    assert!(!answer.contains("\"error\""), "{answer}");
    let error = sink.commit(&Checkpoint::default()).unwrap_err();
    assert_eq!(
        (error.code.as_str(), error.scope),
        ("turso.changed_meanwhile", ErrorScope::Transaction)
    );
    assert_eq!(server.hashes(&["todos"])["todos"].record_count, 1);
    // The whole transaction again says which record it is.
    let receipt = write_all(&mut sink, &todos(), &numbered(0, 10), ConflictPolicy::Fail);
    assert_eq!(crate::harness::rejected(&receipt), [(3, "turso.exists")]);
}
