//! A source that changes while it is compared: what was changed between the first look and the second one is neither equal nor
//! different. FAULTS R3.
//!
//! The test holds the sink's table behind a [`Gate`] and lets everything through but its reading, so that the source is changed
//! when all of it has been read and nothing of the sink has. Not here: what two looks mean in each case (unit tests of the host).

use std::io::Write as _;
use std::process::{Child, ChildStdin, Stdio};

use serde_json::{Value, json};

use crate::postgres::{Database, Server, Version};
use crate::postgres_job::{Job, database};
use crate::program::Stage;
use crate::running::{End, Running, wait_until};

/// Records of the source.
const RECORDS: u64 = 2_000;

/// Locks that somebody waits for on the sink's table, or has, of a mode.
const LOCKS: &str =
    "FROM pg_locks l JOIN pg_stat_activity a USING (pid) WHERE l.relation = 'things'::regclass";

/// A session that has the sink's table for itself, or waits for it.
struct Holder {
    psql: Child,
    say: ChildStdin,
}

impl Holder {
    fn asking(there: &Database) -> Self {
        let mut psql = there
            .endpoint()
            .psql(there.name())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut say = psql.stdin.take().unwrap();
        writeln!(say, "BEGIN; LOCK TABLE things IN ACCESS EXCLUSIVE MODE;").unwrap();
        Self { psql, say }
    }

    fn leave(self) {
        let Self { mut psql, mut say } = self;
        writeln!(say, "COMMIT;").unwrap();
        drop(say);
        assert!(psql.wait().unwrap().success());
    }
}

/// Stands before the sink's table: whoever wants to look at it waits, since even its size takes a lock.
struct Gate<'d> {
    there: &'d Database,
    holder: Holder,
}

impl<'d> Gate<'d> {
    fn shut(there: &'d Database) -> Self {
        let gate = Self {
            there,
            holder: Holder::asking(there),
        };
        gate.wait_for_holder("granted");
        gate
    }

    fn wait_for_holder(&self, state: &str) {
        let query = format!("SELECT count(*) {LOCKS} AND {state} AND mode = 'AccessExclusiveLock'");
        wait_until(&format!("a lock of the table is {state}"), || {
            self.there.sql(&query) == "1"
        });
    }

    /// What somebody waits with.
    fn waiting(&self) -> String {
        let query = format!("SELECT a.query {LOCKS} AND NOT granted AND mode = 'AccessShareLock' LIMIT 1");
        let mut found = String::new();
        wait_until("somebody comes to the table", || {
            found = self.there.sql(&query);
            !found.is_empty()
        });
        found
    }

    /// Lets those through who wait. Locks are given in the order in which they were asked for, so the next holder comes right
    /// behind them.
    fn pass(&mut self) {
        let next = Holder::asking(self.there);
        self.wait_for_holder("NOT granted");
        std::mem::replace(&mut self.holder, next).leave();
        self.wait_for_holder("granted");
    }

    /// Lets everybody through up to the first one who is about to read the records.
    fn hold_reading(&mut self) {
        while !self.waiting().starts_with("LOCK TABLE") {
            self.pass();
        }
    }

    fn open(self) {
        self.holder.leave();
    }
}

/// A source and its copy.
struct Scene {
    stage: Stage,
    from: Database,
    into: Database,
}

impl Scene {
    fn new(version: Version) -> Option<Self> {
        let server = Server::shared(version)?;
        let scene = Self {
            stage: Stage::new(),
            from: server.database(),
            into: server.database(),
        };
        scene.from.sql(&format!(
            "CREATE TABLE things (id bigint PRIMARY KEY, name text);
             INSERT INTO things SELECT n, 'n ' || n FROM generate_series(1, {RECORDS}) n"
        ));
        Job::new(database(&scene.from.url()), database(&scene.into.url())).write(&scene.stage);
        scene.stage.run(&["run", "job.yaml", "--json"]).expect(0);
        Some(scene)
    }

    /// Compares every record, and carries out `statements` in the source when it has been read to its end once.
    fn compared_while(&self, statements: &str) -> End {
        let mut gate = Gate::shut(&self.into);
        let arguments = [
            "verify",
            "job.yaml",
            "--events",
            "json",
            "--verification-level",
            "comprehensive",
        ];
        let mut running = Running::spawn(self.stage.command(&arguments), self.stage.path("stderr.txt"));
        running.until_named("phase_started");
        gate.hold_reading();
        running.until(|event| event["event"] == "verification_progress" && event["record_count"] == RECORDS);
        self.from.sql(statements);
        gate.open();
        running.finish()
    }
}

/// Kinds and records of all that is listed.
fn listed(end: &End) -> Vec<Value> {
    let mismatches = end.report()["verification"][0]["mismatches"].as_array().unwrap();
    let mut listed: Vec<Value> = mismatches
        .iter()
        .map(|one| json!([one["kind"], one["record"]]))
        .collect();
    listed.sort_by_key(ToString::to_string);
    listed
}

/// Record 8 is ahead of the sink and goes on, 9 is ahead of it and then gone, 10 is changed after all was equal.
const AHEAD: &str = "UPDATE things SET name = 'ahead' WHERE id IN (8, 9)";
const MEANWHILE: &str = "UPDATE things SET name = 'further' WHERE id = 8; DELETE FROM things WHERE id = 9; \
                         UPDATE things SET name = 'late' WHERE id = 10";

#[test]
fn r3_what_the_source_has_changed_meanwhile_is_apart_from_what_differs() {
    let Some(scene) = Scene::new(Version::V18) else {
        return;
    };
    scene.from.sql(AHEAD);
    scene.into.sql("UPDATE things SET name = 'damaged' WHERE id = 7");
    let end = scene.compared_while(MEANWHILE).expect(4);
    assert_eq!(
        listed(&end),
        [
            json!(["changed_since", "id=8"]),
            json!(["changed_since", "id=9"]),
            json!(["different", "id=7"]),
        ]
    );
    let result = &end.report()["verification"][0];
    assert_eq!(result["mismatch_count"], 1, "{result}");
    assert_eq!(result["changed_since_count"], 2, "{result}");
    assert_eq!(result["mismatches"][0]["fields"], json!(["name"]), "{result}");
}

#[test]
fn r3_where_nothing_else_differs_the_source_is_not_called_equal() {
    let Some(scene) = Scene::new(Version::V15) else {
        return;
    };
    scene.from.sql(AHEAD);
    let end = scene.compared_while(MEANWHILE).expect(5);
    assert_eq!(
        listed(&end),
        [json!(["changed_since", "id=8"]), json!(["changed_since", "id=9"])]
    );
    let report = end.report();
    assert_eq!(
        report["errors"][0]["code"], "verification.changed_since",
        "{report}"
    );
    assert_eq!(report["verification"][0]["mismatch_count"], 0, "{report}");
    assert_eq!(report["verification"][0]["changed_since_count"], 2, "{report}");
    assert_eq!(report["verification"][0]["comparison"], "undecided", "{report}");
    // What is left of it is a difference when nobody changes anything more.
    let arguments = [
        "verify",
        "job.yaml",
        "--json",
        "--verification-level",
        "comprehensive",
    ];
    let after = scene.stage.run(&arguments).expect(4).json();
    assert_eq!(after["verification"][0]["mismatch_count"], 3, "{after}");
}
