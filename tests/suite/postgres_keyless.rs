//! Tables without a key that are copied in part when the program is killed: their parts and cursors hold within one snapshot only. Whatever
//! becomes of such a table, no record of it is there twice and none is missing where the run says that it is done. FAULTS K1, K2.
//!
//! Neighbours: `exactly_once`, for collections in the middle of which a run goes on.

use serde_json::{Value, json};

use crate::postgres::{Database, servers};
use crate::postgres_job::{Job, count, database, report_of, row_count, told};
use crate::program::{Answer, Stage};
use crate::running::wait_until;

/// Records of each table: several commits.
const RECORDS: u64 = 3_000;
/// Records of a commit.
const COMMIT_RECORDS: u64 = 500;

/// `log` has no key, `docs` has one; `log` comes first.
const TABLES: &str = "CREATE TABLE log (id bigint NOT NULL, pad text);
    INSERT INTO log SELECT i, repeat(md5(i::text), 10) FROM generate_series(1, 3000) i;
    CREATE TABLE docs (id bigint PRIMARY KEY, pad text);
    INSERT INTO docs SELECT i, repeat(md5(i::text), 10) FROM generate_series(1, 3000) i;";

/// A job from one database into another one; `log` is a rule of it.
fn stage(from: &Database, there: &Database, log: Value) -> Stage {
    let stage = Stage::new();
    Job::new(database(&from.url()), database(&there.url()))
        .set("/collections", json!([log, { "source": "docs" }]))
        .set(
            "/import",
            json!({ "checkpoint_interval": COMMIT_RECORDS, "checkpoint_interval_ms": 0 }),
        )
        .set(
            "/limits",
            json!({ "batch_records": COMMIT_RECORDS, "collections_parallel": 1, "worker_restarts": 0 }),
        )
        .write(&stage);
    stage
}

/// The answer of a command, once a worker that has lost its supervisor is gone.
fn once_free(stage: &Stage, arguments: &[&str], variables: &[(&str, &str)]) -> Answer {
    let mut answer = None;
    wait_until("the worker is gone", || {
        let last = answer.insert(stage.run_with(arguments, variables));
        !last.out.contains("run.already_running") && !last.err.contains("run.already_running")
    });
    answer.unwrap()
}

fn resumed(stage: &Stage) -> Answer {
    once_free(stage, &["resume", "--json"], &[])
}

#[track_caller]
fn killed(stage: &Stage, arguments: &[&str], at: &str) {
    let variables = [("WHIMBREL_CRASH_AT", at), ("WHIMBREL_CRASH_ALL", "1")];
    let answer = once_free(stage, arguments, &variables);
    assert!(answer.code < 0, "{}\n{}", answer.out, answer.err);
}

/// What is promised of `log` and of `docs`.
fn promised(report: &Value) -> [&str; 2] {
    ["log", "docs"].map(|name| {
        let all = report["guarantees"].as_array().unwrap();
        let one = all.iter().find(|one| one["collection"] == name).unwrap();
        one["guarantee"].as_str().unwrap()
    })
}

/// Both tables are there, each record once, as their source has them.
#[track_caller]
fn assert_whole(from: &Database, there: &Database, report: &Value) {
    for verified in report["verification"].as_array().unwrap() {
        assert_eq!(verified["comparison"], "equal", "{verified}");
    }
    for table in ["log", "docs"] {
        assert_eq!(count(there, table), (RECORDS, RECORDS), "{table}");
        let hash = format!("SELECT md5(string_agg(t::text, ',' ORDER BY id)) FROM {table} t");
        assert_eq!(there.sql(&hash), from.sql(&hash));
    }
}

#[test]
fn a_table_without_a_key_is_copied_again_where_the_job_gives_it_one() {
    for server in servers() {
        let (from, there) = (server.database(), server.database());
        from.sql(TABLES);
        let stage = stage(&from, &there, json!({ "source": "log", "key": ["id"] }));
        let plan = report_of(stage.run(&["plan", "job.yaml", "--json"]), 0);
        assert_eq!(promised(&plan), ["idempotent", "exactly_once"]);
        killed(&stage, &["run", "job.yaml"], "committed:4");
        let written = row_count(&there, "log");
        assert!((COMMIT_RECORDS..RECORDS).contains(&written), "{written}");
        // It is killed while it copies the table again, and once it goes on with the other one.
        killed(&stage, &["resume"], "committed:3");
        killed(&stage, &["resume"], "committed:10");
        assert_eq!(count(&there, "log"), (RECORDS, RECORDS));
        assert!((COMMIT_RECORDS..RECORDS).contains(&row_count(&there, "docs")));
        let report = report_of(resumed(&stage), 0);
        assert_whole(&from, &there, &report);
    }
}

#[test]
fn a_table_without_any_key_is_never_copied_twice_and_the_others_go_on() {
    for server in servers() {
        let (from, there) = (server.database(), server.database());
        from.sql(TABLES);
        let stage = stage(&from, &there, json!({ "source": "log" }));
        let plan = report_of(stage.run(&["plan", "job.yaml", "--json"]), 0);
        assert_eq!(promised(&plan), ["at_most_once", "exactly_once"]);
        killed(&stage, &["run", "job.yaml"], "committed:4");
        let written = row_count(&there, "log");
        assert!((COMMIT_RECORDS..RECORDS).contains(&written), "{written}");
        for _ in 0..2 {
            let report = report_of(resumed(&stage), 1);
            let errors = report["errors"].as_array().unwrap();
            assert_eq!(errors.len(), 1, "{}", told(&report));
            assert_eq!(errors[0]["code"], "resume.snapshot_ended");
            let help = errors[0]["help"].as_str().unwrap();
            assert!(help.contains("empty `log`") && help.contains("resume"), "{help}");
            assert_eq!(row_count(&there, "log"), written, "nothing is written to it");
            assert_eq!(
                count(&there, "docs"),
                (RECORDS, RECORDS),
                "the other one is complete"
            );
        }
        // Somebody has emptied it: it is copied from its start, also after another kill and another emptying.
        there.sql("TRUNCATE log");
        killed(&stage, &["resume"], "committed:3");
        let report = report_of(resumed(&stage), 1);
        assert_eq!(report["errors"][0]["code"], "resume.snapshot_ended");
        there.sql("TRUNCATE log");
        let report = report_of(resumed(&stage), 0);
        assert_whole(&from, &there, &report);
    }
}

#[test]
fn a_table_without_a_key_of_which_nothing_was_written_begins_as_if_for_the_first_time() {
    for server in servers() {
        let (from, there) = (server.database(), server.database());
        from.sql(TABLES);
        let stage = stage(&from, &there, json!({ "source": "log" }));
        killed(&stage, &["run", "job.yaml"], "lanes_claimed:1");
        killed(&stage, &["resume"], "manifest_committed:1");
        let report = report_of(resumed(&stage), 0);
        assert_whole(&from, &there, &report);
        // From what is staged, a run goes on in the middle of it.
        let there = server.database();
        let staged = self::stage(&from, &there, json!({ "source": "log" }));
        let job = std::fs::read_to_string(staged.path("job.yaml")).unwrap();
        let mut job: Value = serde_json::from_str(&job).unwrap();
        job["staging"] = json!("disk");
        staged.write("job.yaml", job.to_string());
        let plan = report_of(staged.run(&["plan", "job.yaml", "--json"]), 0);
        assert_eq!(promised(&plan), ["exactly_once", "exactly_once"]);
        killed(&staged, &["run", "job.yaml"], "committed:4");
        let report = report_of(staged.run(&["resume", "--json"]), 0);
        assert_whole(&from, &there, &report);
    }
}

#[test]
fn a_part_that_was_written_by_another_key_is_never_copied_again_beside_itself() {
    for server in servers() {
        let (from, there) = (server.database(), server.database());
        from.sql(TABLES);
        from.sql("ALTER TABLE log ALTER pad SET NOT NULL");
        let stage = stage(&from, &there, json!({ "source": "log", "key": ["id"] }));
        killed(&stage, &["run", "job.yaml"], "committed:4");
        let written = row_count(&there, "log");
        assert!((COMMIT_RECORDS..RECORDS).contains(&written), "{written}");
        // By the new key none of the records that are there would be found again.
        from.sql("UPDATE log SET pad = 'n' || pad");
        there.sql("ALTER TABLE log DROP CONSTRAINT log_pkey, ADD PRIMARY KEY (pad)");
        let job = std::fs::read_to_string(stage.path("job.yaml")).unwrap();
        let mut job: Value = serde_json::from_str(&job).unwrap();
        job["collections"][0]["key"] = json!(["pad"]);
        stage.write("job.yaml", job.to_string());
        // Refused, it stays refused: that the job was resumed with the new key does not make it that of the part.
        for _ in 0..2 {
            let report = report_of(
                once_free(&stage, &["resume", "--accept-changes", "--json"], &[]),
                1,
            );
            let errors = report["errors"].as_array().unwrap();
            assert_eq!(errors.len(), 1, "{}", told(&report));
            assert_eq!(errors[0]["code"], "resume.snapshot_ended");
            assert_eq!(row_count(&there, "log"), written, "nothing is written to it");
        }
        there.sql("TRUNCATE log");
        // Begun by the new key, it is repeated by that.
        killed(&stage, &["resume", "--accept-changes"], "committed:3");
        let report = report_of(
            once_free(&stage, &["resume", "--accept-changes", "--json"], &[]),
            0,
        );
        assert_whole(&from, &there, &report);
    }
}
