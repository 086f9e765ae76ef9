//! Reading that goes on after the source was away: under the same snapshot, at the last cursor, each record once. FAULTS R1, S7.
//!
//! A scripted source fails at each of its calls in turn; connections to PostgreSQL are cut by the proxy while it is read. What
//! arrived is read from the sink's own file, which a record that comes twice spoils. Neighbour: `postgres_faults`, for the sink.

use serde_json::json;

use crate::postgres::{Database, Server, servers};
use crate::postgres_job::{Job, database, ended, told};
use crate::program::Stage;
use crate::running::{End, Running, wait_until};
use crate::scripted_job::{COMMITTED, SOURCE_CALLS, ScriptedJob, calls, committed, misbehave};
use crate::tcp_proxy::{Direction, Effect, Line, Proxy, When};

/// Records of a scripted collection, in batches of ten.
const RECORDS: usize = 100;
/// Records of a table: more octets than lie between the program and the server unseen.
const ROWS: usize = 10_000;

fn job() -> ScriptedJob {
    ScriptedJob::new()
        .source("records", json!(RECORDS))
        .set("/limits/batch_records", json!(10))
        .set("/limits/partitions_parallel", json!(2))
        .set("/import/retry_delay_ms", json!(1))
        .set("/import/on_orphan", json!("skip"))
        .set("/verification", json!("none"))
}

fn retries_of_reading(end: &End) -> usize {
    let retries = end.named("retrying");
    assert!(
        retries.iter().all(|retry| retry["role"] == "source"),
        "{retries:?}"
    );
    retries.len()
}

#[test]
fn r1_whichever_call_of_the_source_fails_for_now_every_record_arrives_once() {
    // Two partitions: each a schema, five batches and the end.
    for (call, last) in [("read", 2), ("next", 14)] {
        for at in 1..=last {
            let stage = job()
                .source("misbehave", misbehave(call, at, 1, "transient_error"))
                .stage();
            let end = ended(Running::start(&stage, &[]).finish(), 0);
            assert_eq!(
                committed(&stage),
                [("records".to_owned(), RECORDS)].into(),
                "{call} {at}"
            );
            assert_eq!(retries_of_reading(&end), 1, "{call} {at}");
            assert_eq!(
                end.report()["collections"][0]["read_count"],
                RECORDS,
                "{call} {at}"
            );
            assert_eq!(calls(&stage, SOURCE_CALLS, "open_snapshot").len(), 1);
        }
    }
}

#[test]
fn r1_a_source_that_stays_away_is_given_up_after_the_tries_of_the_job() {
    let stage = job()
        .set("/import/max_retries", json!(3))
        .set("/limits/partitions_parallel", json!(1))
        .source("misbehave", misbehave("next", 4, 0, "transient_error"))
        .stage();
    let end = ended(Running::start(&stage, &[]).finish(), 3);
    assert!(
        told(end.report()).starts_with("scripted.unavailable: "),
        "{}",
        told(end.report())
    );
    assert_eq!(retries_of_reading(&end), 3);
    assert!(committed(&stage).values().sum::<usize>() <= 20);
}

#[test]
fn r1_an_error_for_good_is_not_tried_again() {
    let stage = job()
        .source("misbehave", misbehave("next", 4, 1, "error"))
        .stage();
    let end = ended(Running::start(&stage, &[]).finish(), 1);
    assert!(
        told(end.report()).starts_with("scripted.error: "),
        "{}",
        told(end.report())
    );
    assert_eq!(retries_of_reading(&end), 0);
}

/// From a table over a proxy into the scripted sink, each record of which is noted; the database goes when it is dropped.
fn table_over(proxy: &Proxy, server: &Server) -> (Stage, Database) {
    let from = server.database();
    from.sql(&format!(
        "CREATE TABLE docs (id bigint PRIMARY KEY, pad text); \
         INSERT INTO docs SELECT i, repeat(md5(i::text), 30) FROM generate_series(1, {ROWS}) i; ANALYZE docs"
    ));
    let url = server.endpoint().at_port(proxy.port()).url(from.name());
    let sink = json!({ "plugin": "scripted", "config": { "store": "sink", "committed_path": COMMITTED } });
    let stage = Stage::new();
    Job::new(database(&url), sink)
        .set("/limits/batch_records", json!(500))
        .set("/import/retry_delay_ms", json!(10))
        .set("/verification", json!("none"))
        .write(&stage);
    (stage, from)
}

#[test]
fn r1_a_connection_that_is_reset_while_a_table_is_read_costs_no_record() {
    for server in servers() {
        for bytes in [400_000, 3_000_000] {
            let proxy = Proxy::to_port(server.endpoint().port());
            let (stage, _from) = table_over(&proxy, &server);
            proxy.plan(When::Carried(Direction::Down, bytes), Effect::Reset);
            let end = ended(Running::start(&stage, &[]).finish(), 0);
            assert_eq!(proxy.fault_count(), 1, "the cut has happened");
            assert_eq!(committed(&stage), [("docs".to_owned(), ROWS)].into(), "{bytes}");
            assert!(retries_of_reading(&end) >= 1, "{bytes}");
        }
    }
}

#[test]
fn s7_a_source_whose_snapshot_is_gone_is_not_read_on_under_another() {
    let slow = Line {
        down_bytes_per_second: Some(1_000_000),
        ..Line::default()
    };
    let away = Line {
        refuses: true,
        ..Line::default()
    };
    for server in servers() {
        let proxy = Proxy::to_port(server.endpoint().port());
        let (stage, from) = table_over(&proxy, &server);
        proxy.set(slow);
        let variables = [("MIGRATION_MAX_RETRIES", "100"), ("MIGRATION_RETRY_DELAY", "20")];
        let mut running = Running::start_with(&stage, &[], &variables);
        running.until_named("committed");
        // Also the connection that holds the snapshot; nobody comes back before the server has noticed.
        proxy.set(away);
        proxy.cut_all();
        let name = from.name().to_owned();
        let connections = format!("SELECT count(*) FROM pg_stat_activity WHERE datname = '{name}'");
        wait_until("the server has let go", || server.sql(&connections) == "0");
        proxy.set(Line::default());
        let end = ended(running.finish(), 3);
        let said = told(end.report());
        assert!(said.starts_with("postgres.snapshot_gone: "), "{said}");
        assert!(retries_of_reading(&end) >= 1);
        // What is there is there once.
        let there = committed(&stage).values().sum::<usize>();
        assert!((1..ROWS).contains(&there), "{there}");
    }
}
