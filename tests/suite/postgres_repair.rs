//! A PostgreSQL sink that needs somebody: its disk is full, it takes no writes, it has no connection left. FAULTS S4.
//!
//! The run pauses, tells it, leaves the server alone meanwhile, and goes on after the repair. The full disk is a file system in
//! memory that only the server sees. Neighbour: `postgres_faults`, for what passes by itself.

use serde_json::{Value, json};

use crate::postgres::{Database, PORTER, Server, Version};
use crate::postgres_job::{Job, PARTS, ended, whole_parts, write_parts};
use crate::program::Stage;
use crate::running::{End, Running, json_file, latest_run, side_by_side, wait_until};
use crate::scripted_job::lines;
use crate::tcp_proxy::{Line, Proxy};

/// So slow that each part takes a second, and most of a run is left after its first commit.
const SLOW: Line = Line {
    latency: std::time::Duration::ZERO,
    up_bytes_per_second: Some(1_000_000),
    down_bytes_per_second: None,
    is_dead: false,
    refuses: false,
};
/// Where the notifier writes.
const TOLD: &str = "told.ndjson";
/// More probes than this in the first seconds of a pause would be a storm: they come after 1, 2, 4 and 8 seconds.
const PROBES_MAX: usize = 5;

/// A server of its own, a database in it, and a run that has written a part of its records over a slow line.
struct Scene {
    stage: Stage,
    proxy: Proxy,
    there: Database,
    server: Server,
}

impl Scene {
    fn new(server: Server, prepare: &str) -> Self {
        let there = server.database();
        there.sql(prepare);
        let proxy = Proxy::to_port(server.endpoint().port());
        let stage = Stage::new();
        write_parts(&stage);
        Self {
            stage,
            proxy,
            there,
            server,
        }
    }

    fn job(&self) -> Job {
        let url = self
            .there
            .endpoint()
            .at_port(self.proxy.port())
            .password_url(self.there.name());
        Job::parts_into(&url).set(
            "/notifiers",
            json!([{ "plugin": "file", "config": { "path": TOLD } }]),
        )
    }

    /// Starts the run and reads on to its first commit.
    fn begin(&self) -> Running {
        self.proxy.set(SLOW);
        let mut running = Running::start(&self.stage, &[]);
        running.until_named("committed");
        running
    }

    /// The run pauses with `code` and says so everywhere.
    #[track_caller]
    fn assert_paused(&self, running: &mut Running, code: &str) {
        self.proxy.set(Line::default());
        let paused = running.until_named("paused");
        assert_eq!(paused["code"], code, "{paused}");
        assert!(
            !paused["help"].as_str().unwrap_or_default().is_empty(),
            "{paused}"
        );
        let file = latest_run(&self.stage, ".whimbrel").join("migration-status.json");
        wait_until("the status says so", || {
            json_file(&file)["paused"]["code"] == code
        });
        let told = self.stage.run(&["status"]).expect(0);
        assert!(told.out.contains("paused"), "{}", told.out);
        wait_until("it is told", || {
            let all = lines(&self.stage.path(TOLD));
            all.iter().any(|line| line.to_string().contains(code))
        });
    }

    /// The run went on and everything is there once.
    #[track_caller]
    fn assert_whole(&self, end: &End) {
        assert_eq!(end.named("paused").len(), 1, "{:?}", end.named("paused"));
        assert_eq!(end.named("resumed").len(), 1);
        assert_eq!(whole_parts(&self.there, Some(end.report())), PARTS);
        for result in end.report()["verification"].as_array().unwrap() {
            assert_eq!(result["comparison"], "equal", "{result}");
        }
    }

    /// Whole transactions are there, and not all of them.
    #[track_caller]
    fn assert_partial(&self, report: Option<&Value>) {
        let whole = whole_parts(&self.there, report);
        assert!((1..PARTS).contains(&whole), "{whole}");
    }
}

/// How often the server has said `words`.
fn said(server: &Server, words: &str) -> usize {
    server.log().matches(words).count()
}

#[test]
fn s4_a_full_disk_pauses_the_run_until_there_is_room() {
    side_by_side(Version::ALL, |version| {
        let Some(server) = Server::own_with_small_disk(version, &[], 32) else {
            return;
        };
        let scene = Scene::new(server, "");
        // What is left is less than the records take.
        scene.server.sql(&format!("ALTER DATABASE {} SET default_tablespace = 'small'; GRANT CREATE ON TABLESPACE small TO {PORTER}", scene.there.name()));
        scene.there.sql(
            "CREATE TABLE filler (t text); ALTER TABLE filler ALTER t SET STORAGE PLAIN; \
             INSERT INTO filler SELECT repeat(md5(i::text), 60) FROM generate_series(1, 4 * 128 * 27) i",
        );
        scene.job().write(&scene.stage);
        let mut running = scene.begin();
        scene.assert_paused(&mut running, "postgres.disk_full");
        scene.assert_partial(None);
        scene.there.sql("DROP TABLE filler");
        let end = ended(running.finish(), 0);
        scene.assert_whole(&end);
        let errors = said(&scene.server, "No space left on device");
        assert!((1..=PROBES_MAX).contains(&errors), "{errors} tries");
    });
}

#[test]
fn s4_a_database_that_takes_no_writes_pauses_the_run_until_it_does() {
    side_by_side(Version::ALL, |version| {
        let Some(server) = Server::own(version, &[]) else {
            return;
        };
        let scene = Scene::new(server, "");
        scene.job().write(&scene.stage);
        let mut running = scene.begin();
        scene
            .server
            .sql("ALTER SYSTEM SET default_transaction_read_only = on; SELECT pg_reload_conf()");
        scene.assert_paused(&mut running, "postgres.read_only");
        let reset = "SET default_transaction_read_only = off; ALTER SYSTEM RESET default_transaction_read_only; \
                     SELECT pg_reload_conf()";
        scene.assert_partial(None);
        scene.server.sql(reset);
        let end = ended(running.finish(), 0);
        scene.assert_whole(&end);
        let errors = said(&scene.server, "in a read-only transaction");
        assert!((1..=PROBES_MAX).contains(&errors), "{errors} tries");
    });
}

#[test]
fn s4_a_server_without_a_free_connection_pauses_the_run_until_there_is_one() {
    side_by_side(Version::ALL, |version| {
        let Some(server) = Server::own(version, &[("log_connections", "on")]) else {
            return;
        };
        let scene = Scene::new(server, "");
        scene.job().write(&scene.stage);
        let mut running = scene.begin();
        // Nobody of that name may come in any more, and those who are in lose their place.
        scene
            .server
            .sql(&format!("ALTER ROLE {PORTER} CONNECTION LIMIT 0"));
        scene.server.sql(&format!(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{PORTER}'"
        ));
        scene.assert_paused(&mut running, "postgres.too_many_connections");
        scene
            .server
            .sql(&format!("ALTER ROLE {PORTER} CONNECTION LIMIT -1"));
        let end = ended(running.finish(), 0);
        scene.assert_whole(&end);
        let errors = said(&scene.server, "too many connections for role");
        // Each probe opens a session again, which may take two connections.
        assert!((1..=2 * PROBES_MAX).contains(&errors), "{errors} tries");
    });
}

#[test]
fn s4_a_run_that_nobody_helps_ends_with_whole_transactions_and_what_it_waited_for() {
    let Some(server) = Server::own(Version::V18, &[]) else {
        return;
    };
    let scene = Scene::new(server, "");
    scene
        .job()
        .set("/import/pause_max_ms", json!(1_500))
        .write(&scene.stage);
    let mut running = scene.begin();
    scene
        .server
        .sql("ALTER SYSTEM SET default_transaction_read_only = on; SELECT pg_reload_conf()");
    scene.assert_paused(&mut running, "postgres.read_only");
    let end = ended(running.finish(), 3);
    let report = end.report();
    let error: &Value = &report["errors"][0];
    assert_eq!(error["code"], "postgres.read_only", "{error}");
    assert!(error["causes"].to_string().contains("paused for"), "{error}");
    scene.assert_partial(Some(report));
}

#[test]
fn s4_a_server_without_a_free_connection_is_told_before_the_run() {
    let Some(server) = Server::own(Version::V15, &[]) else {
        return;
    };
    let scene = Scene::new(server, "");
    scene
        .server
        .sql(&format!("ALTER ROLE {PORTER} CONNECTION LIMIT 0"));
    scene.job().write(&scene.stage);
    let answer = scene.stage.run(&["check", "job.yaml", "--json"]).expect(3);
    let error = answer.error();
    assert_eq!(error["code"], "postgres.too_many_connections", "{error}");
    assert_eq!(whole_parts(&scene.there, None), 0);
}
