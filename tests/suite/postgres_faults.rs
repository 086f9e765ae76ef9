//! Connections that are cut, slow and lost while a job reads or writes PostgreSQL, and poolers. FAULTS R1, S1,
//! S3, S5, S7.
//!
//! psql counts what arrived. Neighbours: `postgres_refusals`, for what is found beforehand, and `postgres_repair`, for what
//! somebody has to repair.

use std::io::Write as _;
use std::process::Stdio;

use serde_json::{Value, json};

use crate::postgres::{Database, PgBouncer, PoolMode, Server, Version, servers};
use crate::postgres_job::{
    Job, PARTS, count, database, ended, report_of, row_count, told, whole_parts, write_docs, write_parts,
};
use crate::program::Stage;
use crate::running::{Running, side_by_side, wait_until};
use crate::tcp_proxy::{Direction, Effect, Line, Proxy, When};

/// Records of a job whose connection is cut: more octets than lie between the program and the server unseen.
const RECORDS: u64 = 6_000;
/// Octets of the text of each.
const PAD: usize = 1_000;
/// So slow that each part takes a second, and most of a run is left after its first commit.
const SLOW: Line = Line {
    latency: std::time::Duration::ZERO,
    up_bytes_per_second: Some(1_000_000),
    down_bytes_per_second: None,
    is_dead: false,
    refuses: false,
};

/// A job into `there` over `proxy`, which is tried again at once.
fn job_over(proxy: &Proxy, there: &Database) -> Job {
    Job::docs_into(&there.endpoint().at_port(proxy.port()).url(there.name()))
        .set("/import/retry_delay_ms", json!(10))
}

/// The same in parts, each a transaction.
fn parts_over(proxy: &Proxy, there: &Database) -> Job {
    Job::parts_into(&there.endpoint().at_port(proxy.port()).url(there.name()))
}

/// The first error of a report is the plugin's, of a connection that is gone.
#[track_caller]
fn assert_clear(report: &Value) {
    let code = report["errors"][0]["code"].as_str().unwrap();
    assert!(
        [
            "postgres.connection_lost",
            "postgres.unreachable",
            "postgres.starting"
        ]
        .contains(&code),
        "{}",
        told(report)
    );
    assert_eq!(report["outcome"], "failed");
}

/// A table that notes every insertion elsewhere.
const NOTING: &str = "CREATE TABLE docs (id bigint PRIMARY KEY, name text, n float8, pad text);
    CREATE TABLE noted (id bigint);
    CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS
      'BEGIN INSERT INTO noted VALUES (NEW.id); RETURN NEW; END';
    CREATE TRIGGER note AFTER INSERT ON docs FOR EACH ROW EXECUTE FUNCTION note();";

/// All records are there once, as both sides say, and the sums are those of the source.
fn assert_whole(there: &Database, report: &Value) {
    assert_eq!(report["outcome"], "done", "{report}");
    assert_eq!(report["rejected_count"], 0);
    assert_eq!(report["collections"][0]["written_count"], RECORDS);
    assert_eq!(report["verification"][0]["comparison"], "equal", "{report}");
    assert_eq!(count(there, "docs"), (RECORDS, RECORDS));
    let sums = there.sql("SELECT sum(id), sum(length(pad)), sum(n) FROM docs");
    let ids = RECORDS * (RECORDS - 1) / 2;
    let halves = ids + RECORDS / 2;
    assert_eq!(sums, format!("{ids}|{}|{halves}", RECORDS * PAD as u64));
}

#[test]
fn s1_a_connection_reset_in_mid_copy_sends_every_batch_once() {
    for server in servers() {
        for is_noted in [false, true] {
            let there = server.database();
            let proxy = Proxy::to_port(server.endpoint().port());
            if is_noted {
                there.sql(NOTING);
            }
            for bytes in [300_000, 2_000_000] {
                proxy.plan(When::Carried(Direction::Up, bytes), Effect::Reset);
            }
            let stage = Stage::new();
            write_docs(&stage, RECORDS, PAD);
            job_over(&proxy, &there).write(&stage);
            let end = ended(Running::start(&stage, &[]).finish(), 0);
            assert_eq!(proxy.fault_count(), 2, "both cuts have happened");
            let retries = end.named("retrying");
            assert!(!retries.is_empty());
            for retry in retries {
                assert_eq!(retry["code"], "postgres.connection_lost", "{retry}");
            }
            assert_whole(&there, end.report());
            if is_noted {
                assert_eq!(count(&there, "noted"), (RECORDS, RECORDS));
            }
        }
    }
}

#[test]
fn s1_a_sink_that_stays_away_leaves_whole_transactions_and_a_clear_error() {
    let Some(server) = Server::shared(Version::V15) else {
        return;
    };
    let there = server.database();
    let proxy = Proxy::to_port(server.endpoint().port());
    let stage = Stage::new();
    write_parts(&stage);
    parts_over(&proxy, &there)
        .set("/import/max_retries", json!(2))
        .set("/import/pause_max_ms", json!(0))
        .write(&stage);
    proxy.set(SLOW);
    let mut running = Running::start(&stage, &[]);
    running.until_named("committed");
    proxy.set(Line {
        refuses: true,
        ..Line::default()
    });
    proxy.cut_all();
    let end = ended(running.finish(), 3);
    assert_clear(end.report());
    let whole = whole_parts(&there, Some(end.report()));
    assert!((1..PARTS).contains(&whole), "{whole}");
}

/// A table of [`RECORDS`] records, of six million octets.
fn fill_docs(from: &Database) {
    from.sql(&format!(
        "CREATE TABLE docs (id bigint PRIMARY KEY, pad text); \
         INSERT INTO docs SELECT i, repeat(md5(i::text), 30) FROM generate_series(1, {RECORDS}) i"
    ));
}

/// Both sides have the same records, each once.
#[track_caller]
fn assert_copied(from: &Database, there: &Database, report: &Value) {
    assert_eq!(report["verification"][0]["comparison"], "equal", "{report}");
    assert_eq!(count(there, "docs"), (RECORDS, RECORDS));
    let hash = "SELECT md5(string_agg(t::text, ',' ORDER BY id)) FROM docs t";
    assert_eq!(there.sql(hash), from.sql(hash));
}

#[test]
fn s1_r1_a_source_connection_reset_in_mid_copy_is_read_on_under_the_same_snapshot() {
    for server in servers() {
        let (from, there) = (server.database(), server.database());
        fill_docs(&from);
        let proxy = Proxy::to_port(server.endpoint().port());
        for bytes in [1_000_000, 3_000_000] {
            proxy.plan(When::Carried(Direction::Down, bytes), Effect::Reset);
        }
        let stage = Stage::new();
        let url = server.endpoint().at_port(proxy.port()).url(from.name());
        Job::new(database(&url), database(&there.url()))
            .set("/import/retry_delay_ms", json!(10))
            .set("/limits/batch_records", json!(500))
            .write(&stage);
        let end = ended(Running::start(&stage, &[]).finish(), 0);
        assert_eq!(proxy.fault_count(), 2, "both cuts have happened");
        let retries = end.named("retrying");
        assert!(!retries.is_empty());
        for retry in retries {
            assert_eq!(
                (&retry["role"], &retry["code"]),
                (&json!("source"), &json!("postgres.connection_lost")),
                "{retry}"
            );
        }
        let report = end.report();
        assert_eq!(
            report["collections"][0]["read_count"], RECORDS,
            "none is counted twice"
        );
        assert_eq!(report["collections"][0]["written_count"], RECORDS);
        assert_copied(&from, &there, report);
    }
}

#[test]
fn r1_a_source_that_stays_away_leaves_whole_transactions_and_a_clear_error() {
    for server in servers() {
        let (from, there) = (server.database(), server.database());
        fill_docs(&from);
        let proxy = Proxy::to_port(server.endpoint().port());
        let stage = Stage::new();
        let url = server.endpoint().at_port(proxy.port()).url(from.name());
        Job::new(database(&url), database(&there.url()))
            .set("/import/retry_delay_ms", json!(10))
            .set("/import/max_retries", json!(2))
            .set("/import/checkpoint_interval", json!(500))
            .set("/import/checkpoint_interval_ms", json!(0))
            .set("/limits/batch_records", json!(500))
            .write(&stage);
        proxy.set(Line {
            down_bytes_per_second: Some(1_000_000),
            ..Line::default()
        });
        let mut running = Running::start(&stage, &[]);
        running.until(|event| event["event"] == "committed" && event["record_count"] != 0);
        proxy.set(Line {
            refuses: true,
            ..Line::default()
        });
        proxy.cut_all();
        let end = ended(running.finish(), 3);
        assert_clear(end.report());
        let rows = row_count(&there, "docs");
        assert!((1..RECORDS).contains(&rows), "{rows}");
        assert_eq!(
            end.report()["collections"][0]["written_count"],
            rows,
            "what is said to be written is there"
        );
        // Once it is back, the rest comes.
        proxy.set(Line::default());
        let report = report_of(stage.run(&["resume", "--json"]), 0);
        assert_copied(&from, &there, &report);
    }
}

/// How long the sink is slow, seconds; the ten minutes of FAULTS are `WHIMBREL_SLOW_SECS=600`.
fn slow_seconds() -> u64 {
    let given = std::env::var("WHIMBREL_SLOW_SECS").ok();
    given.and_then(|text| text.parse().ok()).unwrap_or(5)
}

#[test]
fn s3_a_sink_that_takes_a_kilobyte_a_second_stops_the_reading_and_not_the_source() {
    // Of its own: while a session cannot send what it has, the whole server drops no database.
    let Some(server) = Server::own(Version::V18, &[]) else {
        return;
    };
    let (from, there) = (server.database(), server.database());
    // As text, so that the server cannot keep it small.
    let rows = 40_000;
    from.sql(&format!(
        "CREATE TABLE docs (id bigint PRIMARY KEY, pad text); \
         INSERT INTO docs SELECT i, repeat(md5(i::text), 100) FROM generate_series(1, {rows}) i"
    ));
    let source_proxy = Proxy::to_port(server.endpoint().port());
    let sink_proxy = Proxy::to_port(server.endpoint().port());
    let url =
        |proxy: &Proxy, database: &Database| server.endpoint().at_port(proxy.port()).url(database.name());
    let stage = Stage::new();
    Job::new(
        database(&url(&source_proxy, &from)),
        database(&url(&sink_proxy, &there)),
    )
    .set("/limits/memory_mb", json!(32))
    .set(
        "/import/transaction_timeout_ms",
        json!(1_000 * slow_seconds() + 120_000),
    )
    .set("/limits/call_timeout_secs", json!(slow_seconds() + 120))
    // What is read again afterwards is read over further connections.
    .set("/verification", json!("none"))
    .write(&stage);
    let mut running = Running::start(&stage, &[]);
    running.until(|event| event["event"] == "phase_started" && event["phase"] == "import");
    let written = sink_proxy.carried_bytes(Direction::Up);
    wait_until("records go to the sink", || {
        sink_proxy.carried_bytes(Direction::Up) > written + 100_000
    });
    sink_proxy.set(Line {
        up_bytes_per_second: Some(1_000),
        ..Line::default()
    });
    // What the program and the sockets hold is full first; then nothing more is read.
    let until = std::time::Instant::now() + std::time::Duration::from_secs(slow_seconds());
    let mut read = 0;
    while let Some(left) = until.checked_duration_since(std::time::Instant::now()) {
        std::thread::park_timeout(left.min(std::time::Duration::from_millis(100)));
        read = source_proxy.carried_bytes(Direction::Down);
    }
    assert!(
        read < 110 << 20,
        "{read} octets were read for a sink that takes none"
    );
    let connected = from.sql("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state = 'active' AND query LIKE 'COPY%'");
    assert!(connected != "0", "the source has been let go");
    let opened = source_proxy.accepted_count();
    sink_proxy.set(Line::default());
    let end = ended(running.finish(), 0);
    assert!(end.named("retrying").is_empty(), "{:?}", end.named("retrying"));
    assert_eq!(
        source_proxy.accepted_count(),
        opened,
        "it was read on where it stood"
    );
    assert_eq!(count(&there, "docs"), (rows, rows));
    let sums = "SELECT sum(hashtext(pad)), sum(length(pad)) FROM docs";
    assert_eq!(there.sql(sums), from.sql(sums));
    let peak = end.report()["memory_peak_bytes"].as_u64().unwrap() >> 20;
    assert!(peak < 32 + 96, "{peak} MiB");
}

/// Makes the database refuse the insertion of record 77 with an SQLSTATE, the first `times` times.
fn refuse(there: &Database, sqlstate: &str, times: u64) {
    there.sql(NOTING);
    there.sql(&format!(
        "CREATE SEQUENCE tries;
         CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
           IF NEW.id = 77 AND nextval('tries') <= {times} THEN RAISE EXCEPTION 'not now' USING ERRCODE = '{sqlstate}'; END IF;
           RETURN NEW; END $$;
         CREATE TRIGGER refuse BEFORE INSERT ON docs FOR EACH ROW EXECUTE FUNCTION refuse();"
    ));
}

#[test]
fn s5_a_serialization_failure_or_deadlock_repeats_the_whole_transaction() {
    for server in servers() {
        for sqlstate in ["40001", "40P01"] {
            let there = server.database();
            refuse(&there, sqlstate, 1);
            let stage = Stage::new();
            write_docs(&stage, RECORDS, PAD);
            Job::docs_into(&there.url())
                .set("/import/retry_delay_ms", json!(10))
                .write(&stage);
            let end = ended(Running::start(&stage, &[]).finish(), 0);
            assert_eq!(
                end.named("retrying").len(),
                1,
                "{sqlstate}: {:?}",
                end.named("retrying")
            );
            assert_eq!(there.sql("SELECT last_value FROM tries"), "2", "tried once more");
            assert_whole(&there, end.report());
            assert_eq!(count(&there, "noted"), (RECORDS, RECORDS));
        }
    }
}

#[test]
fn s5_tries_are_bounded() {
    let Some(server) = Server::shared(Version::V15) else {
        return;
    };
    let there = server.database();
    refuse(&there, "40001", 1_000_000);
    let stage = Stage::new();
    write_docs(&stage, 200, 10);
    Job::docs_into(&there.url())
        .set("/import/retry_delay_ms", json!(1))
        .set("/import/max_retries", json!(3))
        .write(&stage);
    let end = ended(Running::start(&stage, &[]).finish(), 3);
    assert_eq!(end.named("retrying").len(), 3);
    let error = &end.report()["errors"][0];
    assert_eq!(error["code"], "postgres.serialization", "{error}");
    assert_eq!(row_count(&there, "docs"), 0);
    assert_eq!(row_count(&there, "noted"), 0);
}

#[test]
fn s5_a_deadlock_with_another_session_is_survived() {
    let Some(server) = Server::shared(Version::V15) else {
        return;
    };
    let there = server.database();
    there.sql(NOTING);
    // Record 77 wants `gate` once, after the transaction has written to `docs` and as soon as the other session, which has `gate`, waits
    // for `docs`. A session looks for a deadlock once, when it has waited for so long; so it is the run that loses.
    there.sql(&format!(
        "CREATE TABLE gate (); CREATE SEQUENCE tries;
         CREATE FUNCTION pass() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
           IF NEW.id = 77 AND nextval('tries') = 1 THEN
             WHILE NOT EXISTS (SELECT FROM pg_locks WHERE NOT granted AND relation = 'docs'::regclass) LOOP
               PERFORM pg_sleep(0.02); END LOOP;
             LOCK TABLE gate;
           END IF;
           RETURN NEW; END $$;
         CREATE TRIGGER pass AFTER INSERT ON docs FOR EACH ROW EXECUTE FUNCTION pass();
         ALTER DATABASE {} SET deadlock_timeout = '200ms';",
        there.name()
    ));
    let mut other = there
        .endpoint()
        .psql(there.name())
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut say = other.stdin.take().unwrap();
    writeln!(say, "SET deadlock_timeout = '100s'; BEGIN; LOCK TABLE gate;").unwrap();
    wait_until("the other session has the gate", || {
        there.sql("SELECT count(*) FROM pg_locks WHERE granted AND relation = 'gate'::regclass") == "1"
    });
    let stage = Stage::new();
    write_docs(&stage, RECORDS, PAD);
    Job::docs_into(&there.url())
        .set("/import/retry_delay_ms", json!(10))
        .write(&stage);
    let running = Running::start(&stage, &[]);
    wait_until("the run has come to record 77", || {
        there.sql("SELECT is_called FROM tries") == "t"
    });
    writeln!(say, "LOCK TABLE docs; COMMIT;").unwrap();
    let end = ended(running.finish(), 0);
    drop(say);
    assert!(other.wait().unwrap().success());
    let retries = end.named("retrying");
    assert_eq!(retries.len(), 1, "{retries:?}");
    assert_whole(&there, end.report());
    assert_eq!(count(&there, "noted"), (RECORDS, RECORDS));
}

#[test]
fn s7_a_server_that_restarts_in_mid_run_gets_everything_once() {
    side_by_side(Version::ALL, |version| {
        for is_kill in [false, true] {
            let Some(mut server) = Server::own(version, &[]) else {
                return;
            };
            let there = server.database();
            let proxy = Proxy::to_port(server.endpoint().port());
            proxy.set(SLOW);
            let stage = Stage::new();
            write_parts(&stage);
            parts_over(&proxy, &there)
                .set("/import/retry_delay_ms", json!(500))
                .write(&stage);
            let mut running = Running::start(&stage, &[]);
            running.until_named("committed");
            if is_kill {
                server.kill();
            } else {
                server.stop_fast();
            }
            server.start();
            proxy.set(Line::default());
            let end = ended(running.finish(), 0);
            // A server that says itself that it is stopping is waited for, one that is not there is tried again.
            let hits = end.named("retrying").len() + end.named("paused").len();
            assert!(hits > 0, "it was not hit");
            assert_eq!(whole_parts(&there, Some(end.report())), PARTS);
            for result in end.report()["verification"].as_array().unwrap() {
                assert_eq!(result["comparison"], "equal", "{result}");
            }
        }
    });
}

#[test]
fn s7_a_server_that_stops_for_good_leaves_whole_transactions_and_a_clear_error() {
    side_by_side(Version::ALL, |version| {
        let Some(mut server) = Server::own(version, &[]) else {
            return;
        };
        let there = server.database();
        let proxy = Proxy::to_port(server.endpoint().port());
        proxy.set(SLOW);
        let stage = Stage::new();
        write_parts(&stage);
        let job = parts_over(&proxy, &there);
        job.clone()
            .set("/import/max_retries", json!(2))
            .set("/import/pause_max_ms", json!(0))
            .write(&stage);
        let mut running = Running::start(&stage, &[]);
        running.until_named("committed");
        server.stop_fast();
        let end = ended(running.finish(), 3);
        assert_clear(end.report());
        server.start();
        let whole = whole_parts(&there, Some(end.report()));
        assert!((1..PARTS).contains(&whole), "{whole}");
        // The next run brings the rest.
        proxy.set(Line::default());
        job.set("/import/on_conflict", json!("overwrite")).write(&stage);
        let report = report_of(stage.run(&["run", "job.yaml", "--json"]), 0);
        assert_eq!(whole_parts(&there, Some(&report)), PARTS);
    });
}

#[test]
fn a_pooler_in_transaction_mode_serves_both_sides() {
    for server in servers() {
        let Some(pooler) = PgBouncer::in_front_of(server.endpoint(), PoolMode::Transaction) else {
            return;
        };
        let (from, there) = (server.database(), server.database());
        from.sql(
            "CREATE TABLE parents (id bigint PRIMARY KEY, name text);
             CREATE TABLE docs (id bigint PRIMARY KEY, parent bigint REFERENCES parents, at timestamptz, j jsonb, n numeric(12,2), a int[]);
             INSERT INTO parents SELECT i, 'p' || i FROM generate_series(1, 1000) i;
             INSERT INTO docs SELECT i, 1 + i % 1000, timestamptz '2020-01-01 00:00Z' + i * interval '1 s',
               jsonb_build_object('i', i), i / 100.0, ARRAY[i, NULL] FROM generate_series(1, 20000) i;",
        );
        let stage = Stage::new();
        let side = |database_name: &str| database(&pooler.endpoint().url(database_name));
        Job::new(side(from.name()), side(there.name())).write(&stage);
        let report = report_of(stage.run(&["run", "job.yaml", "--json"]), 0);
        for result in report["verification"].as_array().unwrap() {
            assert_eq!(result["comparison"], "equal", "{result}");
        }
        for table in ["parents", "docs"] {
            let hash = format!("SELECT count(*), md5(string_agg(t::text, ',' ORDER BY id)) FROM {table} t");
            assert_eq!(there.sql(&hash), from.sql(&hash), "{table}");
        }
        // Merged over once more, through the pooler as well.
        Job::new(side(from.name()), side(there.name()))
            .set("/import/on_conflict", json!("merge"))
            .write(&stage);
        report_of(stage.run(&["run", "job.yaml", "--json"]), 0);
        assert_eq!(count(&there, "docs"), (20_000, 20_000));
        // Nothing was left in a session that others use after us.
        for database_name in [from.name(), there.name()] {
            let left = pooler.endpoint().sql(
                database_name,
                "SELECT count(*) FROM pg_prepared_statements; SELECT count(*) FROM pg_class WHERE relpersistence = 't'; \
                 SHOW extra_float_digits; SHOW statement_timeout; SHOW default_transaction_read_only",
            );
            assert_eq!(left, "0\n0\n1\n0\noff");
        }
    }
}
