//! Kills of copies of which the sink refuses one record of a hundred: in three parts, through transforms, in memory and staged on disk. Each
//! record is written once or refused once; where the stage is gone, nothing is gone on with by guesses. FAULTS K1, K2, D1.
//!
//! Neighbour: `sites` kills copies of which nothing is refused, at each place there is.

use std::collections::BTreeSet;
use std::process::Command;

use serde_json::{Value, json};

use super::targets::{Postgres, Target};
use super::{COLLECTIONS, job_for, resume, stage_for, was_killed};
use crate::program::{Answer, Stage};
use crate::running::wait_until;
use crate::scripted_job::ScriptedJob;

/// Records of each collection in the source.
const READ: u64 = 300;
/// Those that a transform leaves in.
const TRANSFORMED: u64 = 290;
/// Those of them that the sink refuses.
const POISON: [u64; 3] = [7, 107, 207];

/// Carries SQL out in the sink by Python's own SQLite; answers the first row of a query.
fn sqlite(stage: &Stage, script: &str, query: &str) -> Vec<u64> {
    let program = "import sqlite3,sys,json\n\
                   c=sqlite3.connect(sys.argv[1],timeout=30)\n\
                   c.executescript(sys.argv[2])\n\
                   print(json.dumps(c.execute(sys.argv[3]).fetchone()))";
    let database = stage.path("app.db");
    let output = Command::new("python3")
        .args(["-c", program])
        .arg(&database)
        .args([script, query])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// A folder with a job in parts, and a sink that refuses the poison and notes what it writes.
fn stage(staging: &str) -> Stage {
    let steps = json!([
        { "filter": { "where": { "field": "id", "op": "less", "value": TRANSFORMED } } },
        { "rename": { "score": "points" } },
    ]);
    let job = ScriptedJob::new()
        .source("collections", json!(COLLECTIONS))
        .source("records", json!(READ))
        .source("calls_path", Value::Null)
        .into_database("app.db")
        .set("/staging", json!(staging))
        .set(
            "/transforms",
            json!([{ "plugin": "reshape", "config": { "steps": steps } }]),
        )
        .set(
            "/limits",
            json!({ "batch_records": 20, "partitions_parallel": 3, "worker_restarts": 0 }),
        )
        .set(
            "/import",
            json!({
                "max_errors": 10, "batch_size": 20, "checkpoint_interval": 40, "checkpoint_interval_ms": 0, "retry_delay_ms": 10,
            }),
        );
    let stage = job.stage();
    let of_one = |name: &&str| {
        let note = |event: &str| {
            format!(
                "CREATE TRIGGER note_{name}_{event} AFTER {event} ON {name} BEGIN INSERT INTO noted VALUES ('{name}', NEW.id); END;"
            )
        };
        format!(
            "CREATE TABLE {name} (id INTEGER PRIMARY KEY CHECK (id % 100 <> 7), name TEXT, points REAL); {} {}",
            note("INSERT"),
            note("UPDATE")
        )
    };
    let tables: String = COLLECTIONS.iter().map(of_one).collect();
    sqlite(
        &stage,
        &format!("CREATE TABLE noted (of TEXT, id INTEGER); {tables}"),
        "SELECT 1",
    );
    stage
}

/// Runs the job until it comes to `at`, where it and its worker are killed.
fn killed(stage: &Stage, at: &str) {
    let variables = [("WHIMBREL_CRASH_AT", at), ("WHIMBREL_CRASH_ALL", "1")];
    let answer = stage.run_with(&["run", "job.yaml", "--json"], &variables);
    assert!(was_killed(&answer), "{at}: {}{}", answer.out, answer.err);
}

/// Resumes once the worker has followed its supervisor into death.
fn resumed(stage: &Stage) -> Answer {
    let mut answer = None;
    wait_until("the worker is gone", || {
        let last = answer.insert(stage.run(&["resume", "--json"]));
        !last.out.contains("run.already_running")
    });
    answer.unwrap()
}

/// The report tells of the whole copy, whoever has copied which part of it.
#[track_caller]
fn assert_told(report: &Value, read: u64, written: u64, when: &str) {
    assert_eq!(report["outcome"], "done", "{when}: {report}");
    let poison = POISON.len() as u64;
    assert_eq!(
        report["rejected_count"],
        poison * COLLECTIONS.len() as u64,
        "{when}: {report}"
    );
    for collection in report["collections"].as_array().unwrap() {
        let counts = ["read_count", "written_count", "rejected_count"];
        assert_eq!(
            counts.map(|of| collection[of].as_u64().unwrap()),
            [read, written, poison],
            "{when}: {collection}"
        );
        assert_eq!(collection["complete"], true, "{when}: {collection}");
    }
    assert_eq!(
        report["verification"][0]["comparison"], "equal",
        "{when}: {report}"
    );
}

/// The runs of the job have kept the poison, and nothing else.
#[track_caller]
fn assert_kept(stage: &Stage, when: &str) {
    let runs = stage.run(&["runs", "--json"]).expect(0).json();
    let mut kept = BTreeSet::new();
    for run in runs["runs"].as_array().unwrap() {
        let id = run["id"].as_str().unwrap();
        let list = stage.run(&["rejected", "list", "--run", id, "--json"]);
        for record in list.expect(0).json()["records"].as_array().unwrap() {
            let collection = record["collection"].as_str().unwrap();
            kept.insert(format!("{collection} {}", record["record"].as_str().unwrap()));
        }
    }
    let wanted = COLLECTIONS
        .iter()
        .flat_map(|name| POISON.map(|id| format!("{name} {id}")));
    assert_eq!(kept, wanted.collect(), "{when}");
}

/// Records of all collections in the sink, different ones, and writes of them.
fn counted(stage: &Stage) -> [u64; 3] {
    let all: Vec<String> = COLLECTIONS
        .iter()
        .map(|name| format!("SELECT '{name}' AS of, id FROM {name}"))
        .collect();
    let query = format!(
        "SELECT count(*), count(DISTINCT of || id), (SELECT count(*) FROM noted) FROM ({})",
        all.join(" UNION ALL ")
    );
    sqlite(stage, "", &query).try_into().unwrap()
}

const WRITTEN: u64 = TRANSFORMED - POISON.len() as u64;
const WRITTEN_IN_ALL: u64 = WRITTEN * COLLECTIONS.len() as u64;

fn is_whole_after(staging: &str, sites: &[&str]) {
    for at in sites {
        let stage = stage(staging);
        killed(&stage, at);
        let report = resume(&stage);
        let when = format!("{staging}, {at}");
        assert_told(&report, READ, WRITTEN, &when);
        assert_eq!(counted(&stage), [WRITTEN_IN_ALL; 3], "{when}");
        assert_kept(&stage, &when);
    }
}

#[test]
fn a_killed_copy_in_parts_writes_or_refuses_each_record_once() {
    is_whole_after("memory", &["refused_kept:2", "commit_sent:5", "committed:9"]);
}

#[test]
fn a_killed_staged_copy_writes_or_refuses_each_record_once() {
    // Extraction and transformation come to the places of a commit as well, about eighteen times each.
    is_whole_after("disk", &["refused_kept:40", "committed:46", "state_saved:50"]);
}

#[test]
fn a_killed_staged_copy_without_its_stage_is_begun_anew_and_loses_nothing() {
    let mut refused_count = 0;
    for at in [
        "manifest_committed:1",
        "committed:46",
        "copied:1",
        "run_lane_done:1",
    ] {
        let stage = stage("disk");
        killed(&stage, at);
        std::fs::remove_dir_all(stage.path(".whimbrel/staging")).unwrap();
        let mut answer = resumed(&stage);
        if answer.code == 2 {
            assert_eq!(answer.error()["code"], "resume.other_stage", "{at}");
            refused_count += 1;
            answer = stage.run(&["run", "job.yaml", "--json"]);
        }
        let report = answer.expect(0).json();
        assert_told(&report, READ, WRITTEN, at);
        let [records, different, writes] = counted(&stage);
        assert_eq!((records, different), (WRITTEN_IN_ALL, WRITTEN_IN_ALL), "{at}");
        // What is begun anew is written over.
        assert!(writes >= WRITTEN_IN_ALL, "{at}");
        assert_kept(&stage, at);
    }
    // Not where all was durable, nor where chance had the run killed before its import.
    assert!(refused_count >= 2, "{refused_count}");
}

#[test]
fn a_killed_copy_into_postgres_writes_or_refuses_each_record_once() {
    let Some(mut target) = Postgres::new() else {
        return;
    };
    target.refuse_poison();
    for at in ["refused_kept:2", "committed:3", "state_saved:5"] {
        target.reset();
        let stage = stage_for(&target);
        job_for(&target)
            .set("/import/max_errors", json!(10))
            .write(&stage);
        killed(&stage, at);
        let report = resume(&stage);
        let records = super::RECORDS - POISON.len() as u64;
        assert_told(&report, super::RECORDS, records, at);
        target.assert_written_once_but(&POISON, at);
        assert_kept(&stage, at);
    }
}
