//! No room left in the working folder: the run ends in good order and says so, its last state can be read, and the sink holds
//! whole transactions only. FAULTS H2.
//!
//! The room is a file system in memory of a few megabytes. It takes root, or a user who may make a mount namespace; without
//! either the test says so loudly, and fails where `WHIMBREL_REQUIRE` wants it.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::program::{Answer, Stage, program};
use crate::running::{Running, json_file};
use crate::scripted_job::{COMMITTED, ScriptedJob, lines, misbehave};

/// How a command comes to have a small file system of its own.
struct SmallDisk;

impl SmallDisk {
    /// The small disk, if it can be had here.
    fn find() -> Option<Self> {
        let status = Self::command(Path::new("/tmp"), 64, "true").status();
        if status.is_ok_and(|status| status.success()) {
            return Some(Self);
        }
        let required = std::env::var("WHIMBREL_REQUIRE").unwrap_or_default();
        let is_required = required
            .split(',')
            .any(|name| matches!(name.trim(), "all" | "mount"));
        assert!(
            !is_required,
            "a mount namespace is required and cannot be made here: run the tests as root"
        );
        eprintln!("NOT TESTED: `unshare --mount` is not permitted here; run the tests as root");
        None
    }

    /// `script` in a shell that sees `size_kib` of room at `folder`, which is gone once it ends.
    fn command(folder: &Path, size_kib: u64, script: &str) -> Command {
        let mut command = Command::new("unshare");
        let mount = format!("mount -t tmpfs -o size={size_kib}k tmpfs \"$0\" && {script}");
        command
            .args(["--map-root-user", "--mount", "sh", "-ec", &mount])
            .arg(folder);
        command
    }
}

/// Runs `job.yaml` with `size_kib` of room in its working folder, and copies what it has left there to `kept`.
fn run(stage: &Stage, size_kib: u64, before: &str) -> Answer {
    let working = stage.path("small");
    std::fs::create_dir_all(&working).unwrap();
    let script = format!(
        "{before}\nset +e; \"$PROGRAM\" run job.yaml --working-dir \"$0\" --json; code=$?; cp -a \"$0/.\" kept; exit $code"
    );
    let output = SmallDisk::command(&working, size_kib, &script)
        .env("PROGRAM", program())
        .current_dir(stage.path(""))
        .output()
        .unwrap();
    Answer {
        code: output.status.code().unwrap_or(-1),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

fn kept_run(stage: &Stage) -> PathBuf {
    let kept = stage.path("kept");
    let latest = std::fs::read_link(kept.join("latest")).unwrap();
    kept.join(latest)
}

/// Every transaction of the sink is there as a whole: each has a hundred records, the last one of a part what is left.
fn assert_whole_transactions(stage: &Stage, report: &Value) {
    let durable = lines(&stage.path(COMMITTED)).len() as u64;
    let said: u64 = report["collections"]
        .as_array()
        .unwrap()
        .iter()
        .map(|collection| collection["written_count"].as_u64().unwrap())
        .sum();
    assert_eq!(durable, said, "what is said to be written is there");
    assert_eq!(durable % 100, 0, "whole batches only");
}

/// The run ended for want of room and has said so everywhere.
#[track_caller]
fn assert_ended_in_good_order(stage: &Stage, answer: Answer, codes: &[&str]) -> Value {
    let answer = answer.expect(3);
    let report = answer.json();
    assert_eq!(report["outcome"], "failed");
    let error = report["errors"]
        .as_array()
        .unwrap()
        .iter()
        .find(|error| codes.contains(&error["code"].as_str().unwrap()))
        .unwrap_or_else(|| panic!("{}", report["errors"]));
    let message = error["message"].as_str().unwrap();
    assert!(message.contains("/small"), "the folder is named: {message}");
    assert!(
        error["help"].as_str().unwrap().contains("--working-dir"),
        "{error}"
    );
    let folder = kept_run(stage);
    let status = json_file(&folder.join("migration-status.json"));
    assert_eq!(
        (&status["state"], &status["exit_code"]),
        (&json!("failed"), &json!(3))
    );
    assert!(!status["ended_at"].is_null());
    json_file(&folder.join("migration-checkpoint.json"));
    assert_eq!(
        json_file(&folder.join("final-migration-report.json"))["outcome"],
        "failed"
    );
    let log = std::fs::read_to_string(folder.join("migration-log.json")).unwrap();
    assert!(log.ends_with('\n'), "the log ends with a whole line");
    let told = stage
        .run(&["status", "--working-dir", "kept", "--json"])
        .expect(0)
        .json();
    assert_eq!(told["run"]["state"], "failed", "{told}");
    report
}

/// Batches of a hundred records, one transaction at a time.
fn job() -> ScriptedJob {
    ScriptedJob::new()
        .source("records", json!(40_000))
        .source("calls_path", Value::Null)
        .sink("calls_path", Value::Null)
        .set("/limits/batch_records", json!(100))
}

#[test]
fn h2_a_log_that_fills_the_disk_ends_the_run_in_good_order() {
    if SmallDisk::find().is_none() {
        return;
    }
    let stage = job()
        .set("/import/batch_size", json!(10))
        .sink("says", json!("long ".repeat(800)))
        .sink("misbehave", misbehave("write", 1, 0, "print_stderr"))
        .stage();
    // One of them is the reserve for the last files.
    let answer = run(&stage, 3 * 1024, ":");
    let report = assert_ended_in_good_order(&stage, answer, &["workspace.disk_full"]);
    assert_whole_transactions(&stage, &report);
}

#[test]
fn h2_a_state_that_fills_the_disk_ends_the_run_in_good_order() {
    if SmallDisk::find().is_none() {
        return;
    }
    let stage = job()
        .set("/import/batch_size", json!(2))
        .set("/import/max_errors", json!(1_000_000))
        .set("/import/breaker", json!({ "rate": 1.0 }))
        .sink("misbehave", misbehave("write", 1, 0, "reject"))
        .stage();
    let answer = run(&stage, 3 * 1024, ":");
    assert_ended_in_good_order(&stage, answer, &["workspace.disk_full"]);
    // Every second record is refused.
    assert_eq!(lines(&stage.path(COMMITTED)).len() % 50, 0);
}

#[test]
fn h2_staged_records_that_fill_the_disk_end_the_run_before_the_sink_is_touched() {
    if SmallDisk::find().is_none() {
        return;
    }
    let stage = job()
        .source("text_bytes", json!(200))
        .set("/staging", json!("disk"))
        .stage();
    let answer = run(&stage, 4 * 1024, ":");
    let report = assert_ended_in_good_order(&stage, answer, &["staging.disk_full", "workspace.disk_full"]);
    assert_eq!(report["phases"][1]["outcome"], "failed");
    assert!(!stage.path(COMMITTED).exists());
    assert!(!stage.path("kept/staging/scripted/extracted/stage.json").exists());
}

#[test]
fn s4_a_database_on_a_full_disk_pauses_the_run_until_there_is_room() {
    if SmallDisk::find().is_none() {
        return;
    }
    let stage = ScriptedJob::new()
        .source("records", json!(60_000))
        .source("text_bytes", json!(200))
        .source("calls_path", Value::Null)
        .into_database("small/app.db")
        .stage();
    let small = stage.path("small");
    std::fs::create_dir(&small).unwrap();
    let script = "head -c 37000000 /dev/zero > \"$0/else\"; exec \"$PROGRAM\" run job.yaml --events json";
    let mut command = SmallDisk::command(&small, 40 * 1024, script);
    command.env("PROGRAM", program()).current_dir(stage.path(""));
    let mut running = Running::spawn(command, stage.path("stderr.txt"));
    let paused = running.until_named("paused");
    assert_eq!(paused["code"], "turso.disk_full");
    // The disk is there for the run alone.
    let root = format!("/proc/{}/root", running.pid().as_raw_nonzero());
    let there = Path::new(&root).join(small.strip_prefix("/").unwrap());
    std::fs::remove_file(there.join("else")).unwrap();
    let end = running.finish().expect(0);
    let count = |name: &str| end.named(name).len();
    assert_eq!((count("paused"), count("resumed"), count("retrying")), (1, 1, 0));
    let compared = &end.report()["verification"][0];
    assert_eq!(
        (&compared["comparison"], &compared["sink_count"]),
        (&json!("equal"), &json!(60_000))
    );
}

#[test]
fn h2_a_run_without_room_for_its_first_files_is_refused() {
    if SmallDisk::find().is_none() {
        return;
    }
    let stage = job().stage();
    let answer = run(&stage, 256, "head -c 200000 /dev/zero > \"$0/else\"").expect(3);
    assert_eq!(answer.json()["outcome"], "refused");
    let error = answer.error();
    assert_eq!(error["code"], "workspace.disk_full");
    assert!(error["message"].as_str().unwrap().contains("/small"), "{error}");
    assert!(!stage.path(COMMITTED).exists());
}
