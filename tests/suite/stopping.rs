//! Runs that are ended, replaced or started again from outside: `stop`, an emergency, a holder that says nothing, a worker that is killed,
//! a terminal that closes. FAULTS K3, K4, K5, K7, H3, T1, as far as the host goes; what a sink's lanes do about it is in
//! `exactly_once`.
//!
//! The state of other hosts is made up by writing into the state's file with Python's own SQLite.

use std::cell::Cell;
use std::process::{Child, Command, Stdio};

use rustix::process::{Signal, kill_process};
use serde_json::{Value, json};

use crate::program::{Stage, program};
use crate::running::{Running, is_alive, json_file, wait_until};
use crate::scripted_job::{COMMITTED, SINK_CALLS, ScriptedJob, calls, committed, misbehave};

/// Records of the source.
const RECORDS: usize = 1_000;
/// Of these, committed before the source hangs.
const BEFORE_HANG: usize = 300;

/// Copies in parts of 100 records and one after the other.
fn job() -> ScriptedJob {
    ScriptedJob::new()
        .source("records", json!(RECORDS))
        .set("/limits/batch_records", json!(100))
        .set("/limits/partitions_parallel", json!(1))
}

/// A job whose source hangs after three batches, which are committed by their age.
fn hanging_source() -> ScriptedJob {
    job().source("misbehave", misbehave("next", 5, 1, "hang"))
}

/// A run of [`hanging_source`] that has come to that.
fn hanging(stage: &Stage) -> (Running, String) {
    let mut running = Running::start(stage, &[]);
    let run_id = running.until_named("started")["run_id"]
        .as_str()
        .unwrap()
        .to_owned();
    let sum = Cell::new(0);
    running.until(|event| {
        if event["event"] == "committed" {
            sum.set(sum.get() + event["record_count"].as_u64().unwrap());
        }
        sum.get() == BEFORE_HANG as u64
    });
    (running, run_id)
}

/// A run whose sink hangs in its first write, and does not heed that it is cancelled.
fn hanging_sink() -> (Stage, Running, String) {
    let stage = job()
        .sink("misbehave", misbehave("write", 1, 0, "hang"))
        .sink("hang_ignores_cancel", json!(true))
        .stage();
    let mut running = Running::start(&stage, &[]);
    let run_id = running.until_named("started")["run_id"]
        .as_str()
        .unwrap()
        .to_owned();
    wait_until("the sink hangs", || {
        !calls(&stage, SINK_CALLS, "write").is_empty()
    });
    (stage, running, run_id)
}

/// Python that changes `holder`, the process of the only run.
fn change_holder(stage: &Stage, change: &str) {
    let script = format!(
        "import sqlite3,sys,json\n\
         c=sqlite3.connect(sys.argv[1],timeout=30)\n\
         holder=json.loads(c.execute('SELECT holder FROM run').fetchone()[0])\n\
         {change}\n\
         c.execute('UPDATE run SET holder=?, worker=NULL',(json.dumps(holder),))\n\
         c.commit()"
    );
    let path = stage.path(".whimbrel/state.db");
    let status = Command::new("python3").args(["-c", &script]).arg(path).status();
    assert!(status.unwrap().success());
}

#[test]
fn k5_a_run_is_stopped_from_another_terminal_and_keeps_what_was_committed() {
    let stage = hanging_source().stage();
    let (running, run_id) = hanging(&stage);
    let told = stage.run(&["stop", "--json"]).expect(0).json();
    assert_eq!(
        (&told["how"], &told["run"]["id"], &told["run"]["state"]),
        (&json!("asked"), &json!(run_id), &json!("cancelled")),
        "{told}"
    );
    assert_eq!(told["run"]["written_count"], BEFORE_HANG, "{told}");
    assert_eq!(told["resume"], format!("whimbrel resume {run_id}"));
    let end = running.finish().expect(143);
    assert_eq!(end.report()["outcome"], "cancelled");
    assert_eq!(committed(&stage)["records"], BEFORE_HANG);

    let error = stage.run(&["stop", "--json"]).expect(2).error();
    assert_eq!(error["code"], "run.none_running");
    let answer = stage.run(&["stop", &run_id]).expect(2);
    assert!(answer.err.contains("it is cancelled"), "{}", answer.err);
    assert_eq!(stage.run(&["stop", "2001"]).expect(2).out, "");
}

#[test]
fn a_stopped_export_is_not_said_to_be_resumable() {
    let stage = hanging_source().stage();
    let start = || {
        let arguments = ["export", "job.yaml", "--to", "out", "--events", "json"];
        let mut running = Running::spawn(stage.command(&arguments), stage.path("stderr.txt"));
        running.until_named("started");
        running
    };
    let running = start();
    let told = stage.run(&["stop", "--json"]).expect(0).json();
    assert_eq!(told["run"]["command"], "export", "{told}");
    assert_eq!(told["resume"], Value::Null, "{told}");
    running.finish().expect(143);
    let running = start();
    let text = stage.run(&["stop"]).expect(0).out;
    assert!(!text.contains("resume"), "{text}");
    running.finish().expect(143);
}

#[test]
fn the_command_that_goes_on_with_a_stopped_run_can_be_pasted() {
    let stage = hanging_source().stage();
    let mut running = Running::start(&stage, &["--working-dir", "my work"]);
    running.until_named("committed");
    let told = stage
        .run(&["stop", "--working-dir", "my work", "--json"])
        .expect(0)
        .json();
    let run_id = told["run"]["id"].as_str().unwrap();
    assert_eq!(
        told["resume"],
        format!("whimbrel resume {run_id} --working-dir 'my work'")
    );
    running.finish().expect(143);
}

#[test]
fn several_runs_that_go_on_are_named_and_the_one_that_is_meant_ends() {
    let stage = hanging_source().stage();
    let other = hanging_source()
        .set("/name", json!("other"))
        .sink("committed_path", json!("other.ndjson"));
    let (first, first_id) = hanging(&stage);
    other.write(&stage);
    let (second, second_id) = hanging(&stage);
    let error = stage.run(&["stop", "--json"]).expect(2).error();
    assert_eq!(error["code"], "run.ambiguous");
    let help = error["help"].as_str().unwrap();
    assert!(help.contains(&first_id) && help.contains(&second_id), "{help}");
    let text = stage.run(&["stop", &second_id]).expect(0).out;
    assert!(
        text.contains(&format!("go on with `whimbrel resume {second_id}`")),
        "{text}"
    );
    second.finish().expect(143);
    assert!(is_alive(first.pid()), "the other one goes on");
    stage.run(&["stop"]).expect(0);
    first.finish().expect(143);
}

#[test]
fn k7_an_emergency_stop_ends_a_run_whose_sink_hangs() {
    let (stage, running, run_id) = hanging_sink();
    let worker = running.worker();
    let told = stage
        .run(&["stop", &run_id, "--emergency", "--json"])
        .expect(0)
        .json();
    assert_eq!(told["how"], "worker_killed", "{told}");
    assert!(!is_alive(worker) && !is_alive(running.pid()));
    assert!(told["run"]["ended_at"].is_string(), "{told}");
    running.finish().expect(143);
    assert!(committed(&stage).is_empty());
    job().write(&stage);
    stage.run(&["run", "job.yaml"]).expect(0);
    assert_eq!(committed(&stage)["records"], RECORDS);
}

#[test]
fn k7_an_emergency_stop_ends_a_run_that_is_frozen_and_writes_down_its_end() {
    let (stage, running, run_id) = hanging_sink();
    let worker = running.worker();
    for pid in [running.pid(), worker] {
        kill_process(pid, Signal::STOP).unwrap();
    }
    let told = stage.run(&["stop", "--emergency", "--json"]).expect(0).json();
    assert_eq!(told["how"], "killed", "{told}");
    assert!(!is_alive(worker));
    assert_eq!(
        (
            &told["run"]["state"],
            &told["run"]["exit_code"],
            &told["run"]["failure"]["code"]
        ),
        (&json!("cancelled"), &json!(137), &json!("run.stopped")),
        "{told}"
    );
    assert_eq!(running.finish().code, -1, "SIGKILL");
    let folder = stage.path(".whimbrel/runs").join(&run_id);
    let status = json_file(&folder.join("migration-status.json"));
    assert_eq!(
        (&status["state"], &status["exit_code"]),
        (&json!("cancelled"), &json!(137))
    );
    assert_eq!(status["errors"][0]["code"], "run.stopped");
    let report = json_file(&folder.join("final-migration-report.json"));
    assert_eq!(
        (&report["outcome"], &report["run_id"]),
        (&json!("cancelled"), &json!(run_id))
    );
    assert!(folder.join("report.html").exists());
    job().write(&stage);
    stage.run(&["run", "job.yaml"]).expect(0);
}

#[test]
fn k7_a_worker_that_hangs_and_outlives_its_supervisor_is_ended_too() {
    let (stage, mut running, _) = hanging_sink();
    let worker = running.worker();
    running.kill();
    let error = stage.run(&["stop", "--timeout", "1", "--json"]).expect(1).error();
    assert_eq!(error["code"], "run.still_running");
    assert!(error["help"].as_str().unwrap().contains("--emergency"), "{error}");
    assert!(is_alive(worker));
    let told = stage.run(&["stop", "--emergency", "--json"]).expect(0).json();
    assert!(!is_alive(worker));
    assert_eq!(told["run"]["failure"]["code"], "run.stopped", "{told}");
}

/// A process that does nothing; gone with the test.
struct Sleeper(Child);

impl Drop for Sleeper {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

#[test]
fn a_process_that_got_the_number_of_a_run_later_is_left_alone() {
    let stage = hanging_source().stage();
    let (running, run_id) = hanging(&stage);
    let mut command = Command::new("sleep");
    let mut other = Sleeper(command.arg("1000").stdout(Stdio::null()).spawn().unwrap());
    change_holder(&stage, &format!("holder['pid']={}", other.0.id()));
    for arguments in [
        &["stop", "--json"][..],
        &["stop", &run_id, "--emergency", "--json"],
    ] {
        let error = stage.run(arguments).expect(2).error();
        assert!(
            ["run.none_running", "run.not_running"].contains(&error["code"].as_str().unwrap()),
            "{error}"
        );
    }
    assert!(other.0.try_wait().unwrap().is_none());
    let told = stage.run(&["status", &run_id, "--json"]).expect(0).json();
    assert_eq!(told["run"]["state"], "crashed");
    assert!(is_alive(running.pid()));
}

#[test]
fn h3_a_run_of_another_host_is_not_stopped_and_its_host_is_named() {
    let stage = hanging_source().stage();
    let (running, run_id) = hanging(&stage);
    change_holder(&stage, "holder.update(host='elsewhere',boot='other pid:[1]')");
    for arguments in [
        &["stop", "--json"][..],
        &["stop", &run_id, "--emergency", "--json"],
    ] {
        let error = stage.run(arguments).expect(2).error();
        assert_eq!(error["code"], "run.elsewhere");
        assert!(
            error["message"].as_str().unwrap().contains("on `elsewhere`"),
            "{error}"
        );
    }
    assert!(is_alive(running.pid()));
}

#[test]
fn k4_a_frozen_run_is_replaced_by_one_that_takes_over_and_ends_fenced_when_it_wakes() {
    let stage = hanging_source().stage();
    let (running, first_id) = hanging(&stage);
    let worker = running.worker();
    for pid in [running.pid(), worker] {
        kill_process(pid, Signal::STOP).unwrap();
    }
    job().sink("committed_path", json!("second.ndjson")).write(&stage);
    let clock = stage.write("clock", "120000");
    let later = [("WHIMBREL_CLOCK_FILE", clock.to_str().unwrap())];

    let error = stage
        .run(&["run", "job.yaml", "--take-over", "--json"])
        .expect(3)
        .error();
    assert_eq!(error["code"], "run.already_running", "its lease has not run out");
    let error = stage
        .run_with(&["run", "job.yaml", "--json"], &later)
        .expect(3)
        .error();
    let help = error["help"].as_str().unwrap();
    assert!(
        help.contains("--take-over") && help.contains("no sign of life"),
        "{help}"
    );
    let second = stage.run_with(&["run", "job.yaml", "--take-over", "--json"], &later);
    assert_eq!(second.expect(0).json()["outcome"], "done");

    for pid in [worker, running.pid()] {
        kill_process(pid, Signal::CONT).unwrap();
    }
    let end = running.finish().expect(7);
    assert_eq!(
        end.report()["errors"][0]["code"],
        "run.fenced",
        "{}",
        end.report()
    );
    assert!(!is_alive(worker));
    assert_eq!(
        committed(&stage)["records"],
        BEFORE_HANG,
        "it has written nothing more"
    );
    let told = stage.run(&["status", &first_id, "--json"]).expect(0).json();
    assert_eq!(
        (&told["run"]["state"], &told["run"]["failure"]["code"]),
        (&json!("crashed"), &json!("run.fenced"))
    );
}

#[test]
fn h3_a_run_that_gives_signs_of_life_is_not_replaced_even_by_a_wrong_clock() {
    let stage = hanging_source().stage();
    let (running, _) = hanging(&stage);
    let clock = stage.write("clock", "120000");
    let later = [("WHIMBREL_CLOCK_FILE", clock.to_str().unwrap())];
    let second = stage.run_with(&["run", "job.yaml", "--take-over", "--json"], &later);
    assert_eq!(second.expect(3).error()["code"], "run.already_running");
    stage.run(&["stop"]).expect(0);
    running.finish().expect(143);
}

#[test]
fn t1_a_clock_that_is_set_forward_in_mid_run_ends_nothing() {
    let stage = job()
        .source("misbehave", misbehave("next", 3, 5, "slow"))
        .source("slow_ms", json!(300))
        .stage();
    let clock = stage.write("clock", "0");
    let mut running = Running::start_with(&stage, &[], &[("WHIMBREL_CLOCK_FILE", clock.to_str().unwrap())]);
    let run_id = running.until_named("started")["run_id"]
        .as_str()
        .unwrap()
        .to_owned();
    running.until_named("progress");
    stage.write("clock", "3600000");
    running.finish().expect(0);
    assert_eq!(committed(&stage)["records"], RECORDS);
    let told = stage.run(&["status", &run_id, "--json"]).expect(0).json();
    assert_eq!(told["run"]["state"], "done");
    let hour = |name: &str| {
        told["run"][name].as_str().unwrap()[11..13]
            .parse::<u32>()
            .unwrap()
    };
    assert_ne!(hour("started_at"), hour("ended_at"), "the clock was set: {told}");
}

#[test]
fn k5_a_terminal_that_closes_ends_a_run_as_a_wish_to_end_does() {
    let stage = hanging_source().stage();
    let (running, _) = hanging(&stage);
    running.signal(Signal::HUP);
    let end = running.finish().expect(129);
    assert_eq!(end.report()["outcome"], "cancelled");
    assert_eq!(committed(&stage)["records"], BEFORE_HANG);
}

#[test]
fn k5_a_run_that_was_told_to_ignore_the_end_of_its_terminal_does() {
    let stage = job()
        .source("misbehave", misbehave("next", 3, 5, "slow"))
        .source("slow_ms", json!(300))
        .stage();
    // As `nohup` starts it.
    let mut command = Command::new("sh");
    command
        .args(["-c", "trap '' HUP; exec \"$0\" run job.yaml --events json"])
        .arg(program())
        .current_dir(stage.path(""))
        .stdin(Stdio::null());
    let mut running = Running::spawn(command, stage.path("stderr.txt"));
    running.until_named("progress");
    running.signal(Signal::HUP);
    running.finish().expect(0);
    assert_eq!(committed(&stage)["records"], RECORDS);
}

/// Two collections into a database file, whose sink keeps lanes.
fn into_database() -> ScriptedJob {
    job()
        .source("collections", json!(["a", "b"]))
        .source("misbehave", misbehave("next", 4, 0, "slow"))
        .source("slow_ms", json!(200))
        .set("/import/transaction_timeout_ms", json!(100))
        .into_database("app.db")
}

/// The ids in both tables, in order, by Python's own SQLite.
fn ids(stage: &Stage) -> Value {
    let script = "import sqlite3,sys,json\n\
                  c=sqlite3.connect(sys.argv[1])\n\
                  print(json.dumps([[i for (i,) in c.execute('SELECT id FROM \"%s\" ORDER BY id'%t)] for t in 'ab']))";
    let output = Command::new("python3")
        .args(["-c", script])
        .arg(stage.path("app.db"))
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn k3_a_worker_that_is_killed_is_replaced_and_the_run_goes_on_to_its_end() {
    let stage = into_database().stage();
    // Each worker stands still after its first commit, so that none has ended before it is killed.
    let stops = [("WHIMBREL_STOP_AT", "committed")];
    let mut running = Running::start_with(&stage, &[], &stops);
    for attempt in 1..=2 {
        kill_process(running.stopped_worker(), Signal::KILL).unwrap();
        let restarted = running.until_named("worker_restarted");
        assert_eq!(restarted["attempt"], attempt);
        assert_eq!(restarted["code"], "plugin.crashed");
        assert!(
            restarted["message"].as_str().unwrap().contains("SIGKILL"),
            "{restarted}"
        );
    }
    kill_process(running.stopped_worker(), Signal::CONT).unwrap();
    let end = running.finish().expect(0);
    let report = end.report();
    assert_eq!(
        (&report["outcome"], &report["exit_code"]),
        (&json!("done"), &json!(0))
    );
    let all: Vec<usize> = (0..RECORDS).collect();
    assert_eq!(ids(&stage), json!([all, all]));
    for collection in report["collections"].as_array().unwrap() {
        assert_eq!(collection["written_count"], RECORDS, "{collection}");
    }
    let folder = crate::running::latest_run(&stage, ".whimbrel");
    let status = json_file(&folder.join("migration-status.json"));
    assert_eq!(status["totals"]["written_count"], 2 * RECORDS, "counted once");
    let log = std::fs::read_to_string(folder.join("migration-log.json")).unwrap();
    assert_eq!(log.matches("\"event\":\"worker_restarted\"").count(), 2);
    let runs = stage.run(&["runs", "--json"]).expect(0).json();
    let runs = runs["runs"].as_array().unwrap();
    assert_eq!(runs.len(), 1, "one run, whatever its workers");
    assert_eq!(runs[0]["written_count"], 2 * RECORDS);
}

#[test]
fn k3_a_signal_during_the_pause_before_a_restart_ends_the_run() {
    let stage = into_database().stage();
    let mut running = Running::start(&stage, &[]);
    running.until_named("committed");
    kill_process(running.worker(), Signal::KILL).unwrap();
    running.until_named("worker_restarted");
    running.signal(Signal::TERM);
    let end = running.finish().expect(143);
    assert!(end.named("finished").is_empty(), "no other worker was at work");
}

#[test]
fn k3_a_job_without_restarts_ends_as_crashed_and_is_resumed() {
    let stage = into_database().set("/limits/worker_restarts", json!(0)).stage();
    let mut running = Running::start(&stage, &[]);
    running.until_named("committed");
    kill_process(running.worker(), Signal::KILL).unwrap();
    let end = running.finish().expect(1);
    assert!(end.named("worker_restarted").is_empty());
    assert_eq!(end.report()["outcome"], "crashed");
    stage.run(&["resume"]).expect(0);
    let all: Vec<usize> = (0..RECORDS).collect();
    assert_eq!(ids(&stage), json!([all, all]));
}

#[test]
fn k3_a_call_that_crashes_every_worker_ends_the_run_after_three() {
    let stage = into_database()
        .set("/limits/worker_restarts", json!(10))
        .source("misbehave", misbehave("next", 4, 0, "segfault"))
        .stage();
    let end = Running::start(&stage, &[]).finish().expect(1);
    assert_eq!(end.named("worker_restarted").len(), 2);
    let report = end.report();
    assert_eq!(report["outcome"], "crashed");
    // A write of the other plugin may have been under way as well: all calls that were running are named.
    let error = &report["errors"][0];
    assert_eq!(error["code"], "plugin.crashed", "{report}");
    let message = error["message"].as_str().unwrap();
    assert!(message.contains("`next` of source `scripted`"), "{report}");
}

#[test]
fn k3_without_anything_in_the_sink_to_go_on_with_the_first_loss_is_told() {
    // Its lanes are in the memory of the worker. The first commit is that of the run's own lane.
    let stage = job()
        .sink("misbehave", misbehave("commit", 3, 1, "abort"))
        .set("/import/checkpoint_interval", json!(200))
        .set("/import/checkpoint_interval_ms", json!(0))
        .stage();
    let end = Running::start(&stage, &[]).finish().expect(1);
    assert_eq!(end.named("worker_restarted").len(), 1);
    let error = &end.report()["errors"][0];
    assert_eq!(
        (&error["code"], &error["call"]),
        (&json!("plugin.crashed"), &json!("commit")),
        "{error}"
    );
    assert!(
        std::fs::read_to_string(stage.path(COMMITTED))
            .unwrap()
            .lines()
            .count()
            < RECORDS
    );
}
