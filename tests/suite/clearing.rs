//! `whimbrel clear` beside everything else that a job does: what it keeps out and what keeps it out, and what was known of the sink before
//! it, which nobody goes on with. By the built program, as a person uses it.
//!
//! Not here: copies that were cleared on their way, for every sink (`exactly_once/clears.rs`).

use std::path::{Path, PathBuf};

use rustix::process::{Signal, kill_process};
use serde_json::{Value, json};

use crate::migration::sql;
use crate::postgres::{Server, Version};
use crate::postgres_job::{Job, database, files};
use crate::program::{Answer, Stage};
use crate::running::{Running, wait_until};
use crate::scripted_job::{COMMITTED, SINK_CALLS, ScriptedJob, calls, committed, misbehave};
use crate::tcp_proxy::{Direction, Effect, Proxy, When};

/// Records of a job whose comparison is killed: enough that it has noted how far it is.
const MANY_RECORDS: u64 = 30_000;
/// Octets of each of as many records of a source whose connection falls silent: together more than lie unseen between the program and
/// the server.
const SILENT_PAD: u64 = 320;

fn clear(stage: &Stage, arguments: &[&str]) -> Answer {
    stage.run(&[&["clear", "job.yaml", "--yes", "--json"], arguments].concat())
}

fn runs(stage: &Stage) -> Vec<Value> {
    let runs = stage.run(&["runs", "--json"]).expect(0).json();
    runs["runs"].as_array().unwrap().clone()
}

/// Command and state of the newest run.
fn newest(stage: &Stage) -> (String, String) {
    let run = runs(stage).swap_remove(0);
    let text = |key: &str| run[key].as_str().unwrap().to_owned();
    (text("command"), text("state"))
}

fn ended(command: &str, state: &str) -> (String, String) {
    (command.to_owned(), state.to_owned())
}

fn codes(report: &Value) -> Vec<&str> {
    let findings = report["findings"].as_array().into_iter().flatten();
    findings.map(|found| found["code"].as_str().unwrap()).collect()
}

/// Runs a command that is killed at `site` with everything that belongs to it.
fn killed_at(site: &str, stage: &Stage, arguments: &[&str]) {
    let variables = [("WHIMBREL_CRASH_AT", site), ("WHIMBREL_CRASH_ALL", "1")];
    let answer = stage.run_with(arguments, &variables);
    assert_eq!(answer.code, -1, "{arguments:?}: {}{}", answer.out, answer.err);
}

/// The answer of a command, once a worker that has lost its supervisor is gone.
fn once_free(stage: &Stage, arguments: &[&str]) -> Answer {
    let mut answer = None;
    wait_until("the worker is gone", || {
        let last = answer.insert(stage.run(arguments));
        !last.out.contains("run.already_running")
    });
    answer.unwrap()
}

/// A job of [`MANY_RECORDS`] from a file into a database file.
fn stage_of_many(verification: &str) -> Stage {
    let stage = Stage::new();
    let people: String = (1..=MANY_RECORDS)
        .map(|id| format!("{{\"id\":{id},\"name\":\"n {id}\"}}\n"))
        .collect();
    stage.write("people.ndjson", people);
    Job::new(
        files("people.ndjson"),
        json!({ "plugin": "turso", "config": { "url": "file:app.db" } }),
    )
    .set("/name", json!("cleared"))
    .set("/collections", json!([{ "source": "people", "key": ["id"] }]))
    .set("/verification", json!(verification))
    .write(&stage);
    stage
}

const COMPREHENSIVE: [&str; 5] = [
    "verify",
    "job.yaml",
    "--verification-level",
    "comprehensive",
    "--json",
];

#[test]
fn a_sink_is_not_cleared_while_a_run_of_the_job_writes() {
    let stage = ScriptedJob::new()
        .set("/limits", json!({ "batch_records": 10 }))
        .sink("misbehave", misbehave("write", 7, 1, "hang"))
        .stage();
    let mut running = Running::start(&stage, &[]);
    let started = running.until_named("started");
    wait_until("the sink hangs", || calls(&stage, SINK_CALLS, "write").len() >= 7);
    let error = clear(&stage, &[]).expect(3).error();
    assert_eq!(error["code"], "run.already_running");
    let run = started["run_id"].as_str().unwrap();
    assert!(error["message"].as_str().unwrap().contains(run), "{error}");
    assert_eq!(calls(&stage, SINK_CALLS, "clear"), [] as [Value; 0]);
    running.kill();
}

#[test]
fn nothing_else_of_the_job_is_done_while_its_sink_is_cleared_and_a_stopped_clearing_is_not_resumed() {
    let scripted = ScriptedJob::new()
        .set("/limits", json!({ "batch_records": 10 }))
        .sink("lanes_path", json!("lanes.ndjson"));
    let stage = scripted.stage();
    stage.run(&["run", "job.yaml"]).expect(0);
    // The first call asks whether it can be cleared at all.
    let hanging = scripted
        .clone()
        .sink("misbehave", misbehave("clear", 2, 0, "hang"));
    hanging.write(&stage);
    let command = stage.command(&["clear", "job.yaml", "--yes", "--events", "json"]);
    let clearing = Running::spawn(command, stage.path("stderr.txt"));
    wait_until("the sink hangs", || calls(&stage, SINK_CALLS, "clear").len() == 2);
    assert_eq!(newest(&stage), ended("clear", "running"));
    let run = runs(&stage).swap_remove(0);
    let run = run["id"].as_str().unwrap();
    for arguments in [
        &["run", "job.yaml"][..],
        &["clear", "job.yaml", "--yes"],
        &["verify", "job.yaml", "--repair", "--yes"],
        &["verify", "job.yaml"],
        &["resume"],
    ] {
        let answer = stage.run(&[arguments, &["--json"]].concat()).expect(3);
        let code = answer.error()["code"].clone();
        let wanted = match arguments[0] {
            "run" | "resume" => "run.already_running",
            _ => "verification.already_running",
        };
        assert_eq!(code, wanted, "{arguments:?}: {}", answer.out);
    }
    let status = stage.run(&["status", run, "--json"]).expect(0).json();
    assert_eq!(status["run"]["command"], "clear");
    let stopped = stage.run(&["stop", "--json"]).expect(0).json();
    assert_eq!(stopped["run"]["state"], "cancelled", "{stopped}");
    assert_eq!(stopped.get("resume"), None, "{stopped}");
    let end = clearing.finish().expect(143);
    assert_eq!(end.report()["outcome"], "cancelled");
    // What it was to remove may be gone, so nothing before it is gone on with.
    let error = stage.run(&["resume", "--json"]).expect(2).error();
    assert_eq!(error["code"], "resume.nothing_to_do", "{error}");
    scripted.write(&stage);
    clear(&stage, &[]).expect(0);
    assert_eq!(newest(&stage), ended("clear", "done"));
    stage.run(&["verify", "job.yaml", "--json"]).expect(4);
}

#[test]
fn a_sink_is_not_cleared_while_both_sides_are_compared() {
    let stage = stage_of_many("none");
    stage.run(&["run", "job.yaml", "--json"]).expect(0);
    let command = stage.command(&["verify", "job.yaml", "--events", "json"]);
    let mut verifying = Running::spawn(command, stage.path("stderr.txt"));
    verifying.until(|event| event["event"] == "phase_started" && event["phase"] == "verification");
    verifying.signal(Signal::STOP);
    let error = clear(&stage, &[]).expect(3).error();
    assert_eq!(error["code"], "verification.already_running", "{error}");
    assert_eq!(
        newest(&stage),
        ended("run", "done"),
        "what is refused before it begins is no run"
    );
    verifying.signal(Signal::CONT);
    verifying.finish().expect(0);
}

#[test]
fn a_sink_that_cannot_be_cleared_keeps_its_copy_and_that_is_gone_on_with() {
    let often = ScriptedJob::new()
        .set("/limits", json!({ "batch_records": 10, "partitions_parallel": 1 }))
        .set(
            "/import",
            json!({ "batch_size": 10, "checkpoint_interval": 10, "checkpoint_interval_ms": 0, "max_retries": 0 }),
        )
        .sink("lanes_path", json!("lanes.ndjson"));
    let failing = often.clone().sink("misbehave", misbehave("write", 3, 0, "error"));
    let stage = failing.stage();
    stage.run(&["run", "job.yaml", "--json"]).expect(1);
    often
        .clone()
        .sink("misbehave", misbehave("clear", 1, 0, "error"))
        .write(&stage);
    let answer = clear(&stage, &[]);
    assert_eq!(answer.error()["code"], "scripted.error", "{}", answer.out);
    assert_eq!(answer.json()["outcome"], "refused");
    assert_eq!(newest(&stage), ended("clear", "refused"));
    assert!(runs(&stage)[1]["resume_command"].is_string());
    // The rules of resuming hold the job against the one that was begun.
    failing.sink("misbehave", json!([])).write(&stage);
    stage.run(&["resume", "--json", "--accept-changes"]).expect(0);
    assert_eq!(committed(&stage)["records"], 100);
}

#[test]
fn a_copy_of_which_one_collection_was_cleared_is_begun_anew_as_a_whole() {
    let stage = ScriptedJob::new()
        .source("collections", json!(["a", "b"]))
        .set(
            "/limits",
            json!({ "batch_records": 10, "collections_parallel": 1, "partitions_parallel": 1, "worker_restarts": 0 }),
        )
        .set(
            "/import",
            json!({ "batch_size": 10, "checkpoint_interval": 10, "checkpoint_interval_ms": 0 }),
        )
        .set("/verification", json!("none"))
        .into_database("app.db")
        .stage();
    // The whole first collection and some of the second one.
    let crash = [("WHIMBREL_CRASH_AT", "committed:15")];
    let report = stage.run_with(&["run", "job.yaml", "--json"], &crash).json();
    assert_eq!(report["outcome"], "crashed", "{report}");
    let run = runs(&stage).swap_remove(0);
    let run = run["id"].as_str().unwrap();
    let there = || {
        let count = |name: &str| sql(&stage.path("app.db"), &format!("SELECT count(*) FROM {name}"));
        [count("a"), count("b")]
    };
    let [a, b] = there();
    assert_eq!(a, "[(100,)]");
    assert_ne!(b, "[(0,)]");
    clear(&stage, &["--include", "a"]).expect(0);
    assert_eq!(
        there(),
        ["[(0,)]".to_owned(), b],
        "only what was named is removed"
    );
    let error = stage.run(&["resume", run, "--json"]).expect(2).error();
    assert_eq!(error["code"], "resume.nothing_to_do", "{error}");
    stage.run(&["run", "job.yaml", "--json"]).expect(0);
    assert_eq!(there(), ["[(100,)]", "[(100,)]"].map(str::to_owned));
}

#[test]
fn a_sink_without_checkpoints_is_cleared_without_making_any() {
    let stage = ScriptedJob::new()
        .set("/import", json!({ "checkpoints": false }))
        .into_database("app.db")
        .stage();
    stage.run(&["run", "job.yaml", "--json"]).expect(0);
    let tables = || {
        sql(
            &stage.path("app.db"),
            "SELECT group_concat(name) FROM sqlite_master WHERE type = 'table'",
        )
    };
    let before = tables();
    clear(&stage, &[]).expect(0);
    assert_eq!(tables(), before);
    assert_eq!(
        sql(&stage.path("app.db"), "SELECT count(*) FROM records"),
        "[(0,)]"
    );
    assert_eq!(newest(&stage), ended("clear", "done"));
    ScriptedJob::new().set("/sink", files("out")).write(&stage);
    stage.run(&["run", "job.yaml", "--json"]).expect(0);
    assert!(stage.path("out/records.ndjson").exists());
    clear(&stage, &[]).expect(0);
    assert!(!stage.path("out/records.ndjson").exists());
    stage.run(&["run", "job.yaml", "--json"]).expect(0);
}

/// Whether the reading of the sink has come to its end, as the comparison in `folder` has noted.
fn has_read_sink(folder: &Path) -> bool {
    let mut folders: Vec<PathBuf> = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.ends_with("sink/progress.json") {
                let text = std::fs::read_to_string(path).unwrap_or_default();
                return text.contains("\"is_done\":true") && !text.contains("\"is_done\":false");
            }
        }
    }
    false
}

#[test]
fn a_killed_comparison_that_has_read_the_sink_is_not_gone_on_with_after_a_clearing() {
    let Some(server) = Server::shared(Version::V15) else {
        return;
    };
    let here = server.database();
    here.sql(&format!(
        "CREATE TABLE docs (id bigint PRIMARY KEY, pad text);
         INSERT INTO docs SELECT id, repeat(md5(id::text), {SILENT_PAD} / 32) FROM generate_series(1, {MANY_RECORDS}) AS id"
    ));
    let proxy = Proxy::to_port(server.endpoint().port());
    let stage = Stage::new();
    Job::new(
        database(&here.endpoint().at_port(proxy.port()).url(here.name())),
        json!({ "plugin": "turso", "config": { "url": "file:app.db" } }),
    )
    .set("/collections", json!([{ "source": "docs" }]))
    .set("/verification", json!("none"))
    .write(&stage);
    stage.run(&["run", "job.yaml", "--json"]).expect(0);
    stage.run(&COMPREHENSIVE).expect(0);
    proxy.plan(
        When::Carried(Direction::Down, MANY_RECORDS * SILENT_PAD / 16),
        Effect::BlackHole,
    );
    let command = stage.command(&[&COMPREHENSIVE[..4], &["--events", "json"]].concat());
    let mut verifying = Running::spawn(command, stage.path("stderr.txt"));
    let worker = verifying.worker();
    let folder = stage.path(".whimbrel/verification");
    wait_until("the sink is read and the source silent", || {
        has_read_sink(&folder) && proxy.fault_count() == 1
    });
    verifying.kill();
    kill_process(worker, Signal::KILL).unwrap();
    clear(&stage, &[]).expect(0);
    let report = stage.run(&COMPREHENSIVE).expect(4).json();
    assert!(!codes(&report).contains(&"verification.goes_on"), "{report}");
    assert_eq!(
        report["verification"][0]["mismatch_count"], MANY_RECORDS,
        "{report}"
    );
}

#[test]
fn a_clearing_that_was_killed_leaves_no_comparison_to_go_on_with_either() {
    let stage = stage_of_many("none");
    stage.run(&["run", "job.yaml", "--json"]).expect(0);
    killed_at("verification_marked", &stage, &COMPREHENSIVE);
    killed_at("cleared", &stage, &["clear", "job.yaml", "--yes"]);
    let report = once_free(&stage, &COMPREHENSIVE).expect(4).json();
    assert!(codes(&report).contains(&"verification.begins_anew"), "{report}");
    assert_eq!(
        report["verification"][0]["mismatch_count"], MANY_RECORDS,
        "{report}"
    );
}

#[test]
fn a_killed_comparison_is_not_gone_on_with_after_an_import_or_a_replay() {
    let stage = stage_of_many("none");
    stage.run(&["run", "job.yaml", "--json"]).expect(0);
    stage.write("others.ndjson", "{\"id\":1}\n");
    for arguments in [
        &["import", "job.yaml", "--from", "others.ndjson"][..],
        &["rejected", "replay", "--all"],
    ] {
        killed_at("verification_marked", &stage, &COMPREHENSIVE);
        stage.run(&[arguments, &["--json"]].concat()).expect(0);
        let report = stage.run(&COMPREHENSIVE).expect(0).json();
        assert!(
            codes(&report).contains(&"verification.begins_anew"),
            "{arguments:?}: {report}"
        );
    }
}

#[test]
fn the_comparison_of_a_killed_run_is_not_gone_on_with_after_a_repair() {
    let stage = stage_of_many("comprehensive");
    let killed = || killed_at("verification_marked", &stage, &["run", "job.yaml", "--json"]);
    killed();
    let report = once_free(&stage, &["resume", "--json"]).expect(0).json();
    assert!(codes(&report).contains(&"verification.goes_on"), "{report}");
    killed();
    once_free(&stage, &["verify", "job.yaml", "--repair", "--yes", "--json"]).expect(0);
    sql(&stage.path("app.db"), "DELETE FROM people WHERE id = 7");
    let report = stage.run(&["resume", "--json"]).expect(4).json();
    assert!(codes(&report).contains(&"verification.begins_anew"), "{report}");
    assert_eq!(report["verification"][0]["mismatch_count"], 1, "{report}");
}

#[test]
fn rejected_records_that_a_killed_replay_has_sent_are_sent_again_after_a_clearing() {
    let stage = Stage::new();
    stage.write("people.ndjson", "{\"id\":1,\"age\":7}\n{\"id\":2,\"age\":-7}\n");
    Job::new(
        files("people.ndjson"),
        json!({ "plugin": "turso", "config": { "url": "file:app.db" } }),
    )
    .set("/collections", json!([{ "source": "people", "key": ["id"] }]))
    .set("/verification", json!("none"))
    .write(&stage);
    let path = stage.path("app.db");
    sql(
        &path,
        "CREATE TABLE people (id INTEGER PRIMARY KEY, age INTEGER CHECK (age >= 0))",
    );
    let answer = stage.run(&["run", "job.yaml", "--json", "--max-errors", "10"]);
    assert_eq!(answer.json()["rejected_count"], 1, "{}", answer.out);
    stage.run(&["rejected", "edit", "1", "--set", "age=8"]).expect(0);
    let replay = ["rejected", "replay", "--all", "--json"];
    killed_at("committed:1", &stage, &replay);
    assert_eq!(sql(&path, "SELECT id, age FROM people"), "[(1, 7), (2, 8)]");
    once_free(&stage, &["clear", "job.yaml", "--yes", "--json"]).expect(0);
    let replayed = stage.run(&replay).expect(0).json();
    assert_eq!(replayed["taken_count"], 1, "{replayed}");
    assert_eq!(sql(&path, "SELECT id, age FROM people"), "[(2, 8)]");
}

#[test]
fn what_was_cleared_is_written_down_and_said() {
    let stage = ScriptedJob::new()
        .sink("lanes_path", json!("lanes.ndjson"))
        .stage();
    stage.run(&["run", "job.yaml", "--json"]).expect(0);
    assert_eq!(committed(&stage).values().sum::<usize>(), 100);
    let text = stage.run(&["clear", "job.yaml", "--yes"]).expect(0).out;
    assert!(text.contains("scripted: 100 records removed"), "{text}");
    let text = stage.run(&["runs"]).expect(0).out;
    assert!(text.contains("clear") && text.contains("done"), "{text}");
    let text = stage.run(&["status"]).expect(0).out;
    assert!(text.contains("command   clear"), "{text}");
    let events = stage
        .run(&["clear", "job.yaml", "--yes", "--events", "json"])
        .expect(0)
        .out;
    let last: Value = serde_json::from_str(events.lines().last().unwrap()).unwrap();
    assert_eq!(last["event"], "report");
    assert_eq!(last["report"]["cleared"][0]["removed_count"], 0);
    assert!(stage.path(COMMITTED).exists());
}

#[test]
fn a_place_that_is_source_and_sink_is_written_over_with_a_warning_and_never_cleared() {
    let stage = Stage::new();
    stage.write("people.ndjson", "{\"id\":1}\n{\"id\":2}\n");
    let turso = |file: &str| json!({ "plugin": "turso", "config": { "url": file } });
    let job = |source: Value, sink: Value| {
        Job::new(source, sink)
            .set("/name", json!("in-place"))
            .set("/collections", json!([{ "source": "people", "key": ["id"] }]))
    };
    job(files("people.ndjson"), turso("file:app.db")).write(&stage);
    stage.run(&["run", "job.yaml"]).expect(0);
    // Settings that say how is written make no other place of it.
    let itself = job(turso("file:app.db"), turso("file:app.db"));
    itself
        .clone()
        .set("/sink/config/busy_timeout_ms", json!(900))
        .write(&stage);
    let plan = stage.run(&["plan", "job.yaml", "--json"]).expect(0).json();
    assert!(codes(&plan).contains(&"plan.in_place"), "{plan}");
    let error = clear(&stage, &[]).expect(2).error();
    assert_eq!(error["code"], "clear.in_place");
    stage.run(&["run", "job.yaml"]).expect(0);
    let count = || sql(&stage.path("app.db"), "SELECT count(*) FROM people");
    assert_eq!(count(), "[(2,)]");
    // Another collection of the same place is another one.
    itself
        .clone()
        .set("/collections/0/sink", json!("persons"))
        .write(&stage);
    let plan = stage.run(&["plan", "job.yaml", "--json"]).expect(0).json();
    assert!(!codes(&plan).contains(&"plan.in_place"), "{plan}");
    stage.run(&["run", "job.yaml"]).expect(0);
    clear(&stage, &[]).expect(0);
    assert_eq!(count(), "[(2,)]");
    // What one collection is written to, another one is read from.
    itself
        .set(
            "/collections",
            json!([
                { "source": "people", "sink": "kept", "key": ["id"] },
                { "source": "persons", "sink": "people", "key": ["id"] },
            ]),
        )
        .write(&stage);
    assert_eq!(clear(&stage, &[]).expect(2).error()["code"], "clear.in_place");
    assert_eq!(count(), "[(2,)]");
}
