//! What people are told of runs of the built program, and that no notifier changes how a run ends.
//!
//! What arrives is read from the file of the `file` notifier or of the scripted one, never from whimbrel's own word.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::program::{Stage, repository};
use crate::running::{Running, children, is_alive, json_file, latest_run, wait_until};
use crate::scripted_job::{ScriptedJob, lines, misbehave};

/// Where the `file` notifier writes.
const TOLD: &str = "notifications.ndjson";
/// Where the scripted notifier writes.
const SCRIPTED_TOLD: &str = "told.ndjson";
/// What waits after a run has at most so long.
const DRAIN: Duration = Duration::from_secs(10);
/// A machine that is busy with other tests may take so much longer.
const LEEWAY: Duration = Duration::from_secs(60);

fn file_notifier() -> Value {
    json!({ "plugin": "file", "config": { "path": TOLD } })
}

/// A scripted notifier; `script` is how it misbehaves, `more` are further keys of its config.
fn scripted_notifier(script: Value, more: Value) -> Value {
    let mut config = json!({ "store": "notifier", "notified_path": SCRIPTED_TOLD, "misbehave": script });
    let members = config.as_object_mut().unwrap();
    members.extend(more.as_object().unwrap().clone());
    json!({ "plugin": "scripted", "config": config })
}

fn job(notifiers: Value) -> ScriptedJob {
    ScriptedJob::new().set("/notifiers", notifiers)
}

/// The events that stand in a file of notifications, in its order.
fn told(stage: &Stage, file: &str) -> Vec<String> {
    lines(&stage.path(file))
        .iter()
        .map(|line| line["event"].as_str().unwrap().to_owned())
        .collect()
}

fn undelivered(stage: &Stage) -> PathBuf {
    latest_run(stage, ".whimbrel").join("undelivered-notifications.json")
}

/// The code of each warning of the notifiers in a report.
fn warnings(report: &Value) -> Vec<&str> {
    let findings = report["findings"].as_array().unwrap();
    let of_notifiers = findings.iter().filter(|found| found["role"] == "notifier");
    of_notifiers
        .map(|found| {
            assert_eq!(found["level"], "warning", "{found}");
            found["code"].as_str().unwrap()
        })
        .collect()
}

#[test]
fn a_good_run_is_told_from_start_to_end_once_and_in_order() {
    let stage = job(json!([file_notifier()])).stage();
    let report = stage.run(&["run", "job.yaml", "--json"]).expect(0).json();
    assert_eq!(warnings(&report), [""; 0]);
    assert_eq!(told(&stage, TOLD), ["started", "completed"]);
    let lines = lines(&stage.path(TOLD));
    let facts = &lines[1]["facts"];
    let run = latest_run(&stage, ".whimbrel");
    assert_eq!(facts["job"], "scripted");
    assert_eq!(facts["run"], run.file_name().unwrap().to_str().unwrap());
    assert_eq!(facts["records_written"], "100");
    assert_eq!(facts["records_rejected"], "0");
    assert!(facts["duration_secs"].as_str().unwrap().parse::<f64>().unwrap() >= 0.0);
    let html = std::fs::canonicalize(facts["report"].as_str().unwrap()).unwrap();
    assert_eq!(html, std::fs::canonicalize(run.join("report.html")).unwrap());
    assert!(!undelivered(&stage).exists());
    let notifier = json!({ "role": "notifier", "name": "file", "version": report["plugins"][0]["version"] });
    assert!(
        report["plugins"].as_array().unwrap().contains(&notifier),
        "{report}"
    );
}

#[test]
fn a_run_that_fails_or_crashes_is_told_with_its_reason() {
    for (how, code) in [("error", "scripted.error"), ("segfault", "plugin.crashed")] {
        let stage = job(json!([file_notifier()]))
            .source("misbehave", misbehave("next", 1, 0, how))
            .stage();
        stage.run(&["run", "job.yaml", "--json"]).expect(1);
        assert_eq!(told(&stage, TOLD), ["started", "failed"], "{how}");
        let last = &lines(&stage.path(TOLD))[1];
        assert_eq!(last["severity"], "error", "{how}");
        assert!(last["body"].as_str().unwrap().contains(code), "{how}: {last}");
    }
}

#[test]
fn a_run_whose_source_is_refused_is_told_too() {
    let stage = job(json!([file_notifier()])).source("recrods", json!(7)).stage();
    stage.run(&["run", "job.yaml", "--json"]).expect(2);
    assert_eq!(told(&stage, TOLD), ["started", "failed"]);
    let last = &lines(&stage.path(TOLD))[1];
    assert!(
        last["body"].as_str().unwrap().contains("config.unknown_key"),
        "{last}"
    );
}

#[test]
fn each_notifier_gets_its_events_from_its_severity_on() {
    let notifier = |path: &str, more: Value| {
        let mut notifier = json!({ "plugin": "file", "config": { "path": path } });
        notifier
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        notifier
    };
    let stage = job(json!([
        notifier(
            "phases.ndjson",
            json!({ "events": ["phase_changed", "completed"] })
        ),
        notifier("grave.ndjson", json!({ "min_severity": "error" })),
        notifier(
            "warned.ndjson",
            json!({ "events": ["error_added", "completed"], "min_severity": "warning" })
        ),
    ]))
    .sink("misbehave", misbehave("write", 1, 1, "reject"))
    .set("/import", json!({ "max_errors": 1 }))
    .set("/verification", json!("none"))
    .stage();
    stage.run(&["run", "job.yaml", "--json"]).expect(0);
    let phases = told(&stage, "phases.ndjson");
    assert_eq!(phases.first().unwrap(), "phase_changed");
    assert_eq!(phases.last().unwrap(), "completed");
    assert!(phases.len() > 3, "{phases:?}");
    assert_eq!(told(&stage, "grave.ndjson"), [""; 0]);
    assert_eq!(told(&stage, "warned.ndjson"), ["error_added", "completed"]);
}

#[test]
fn neither_dry_runs_nor_commands_that_look_tell_anybody() {
    let stage = job(json!([file_notifier()])).stage();
    for arguments in [
        &["run", "job.yaml", "--dry-run"][..],
        &["run", "job.yaml", "--validate-only"],
        &["check", "job.yaml"],
    ] {
        stage.run(arguments).expect(0);
        assert!(!stage.path(TOLD).exists(), "{arguments:?}");
    }
}

#[test]
fn h4_a_wrong_config_of_a_notifier_is_refused_with_its_place_before_anything_happens() {
    let stage = Stage::new();
    stage.write(
        "job.yaml",
        "name: x\nsource: { plugin: scripted }\nsink: { plugin: scripted, config: { committed_path: c.ndjson } }\n\
         notifiers:\n  - { plugin: file, config: { path: a } }\n  - plugin: file\n    config:\n      paht: b\n",
    );
    for arguments in [
        &["run", "job.yaml", "--json"][..],
        &["run", "job.yaml", "--json", "--dry-run"],
        &["check", "job.yaml", "--json"],
    ] {
        let answer = stage.run(arguments).expect(2).json();
        let errors = answer["errors"].as_array().unwrap();
        let found = errors
            .iter()
            .find(|error| error["code"] == "config.unknown_key")
            .unwrap();
        assert_eq!(found["place"], "job.yaml:8:7", "{found}");
        assert!(
            found["message"]
                .as_str()
                .unwrap()
                .contains("`notifiers[1].config`"),
            "{found}"
        );
    }
    let names: Vec<_> = std::fs::read_dir(stage.path("")).unwrap().collect();
    assert_eq!(names.len(), 1, "{names:?}");
}

#[test]
fn what_a_notifier_finds_by_looking_is_a_warning() {
    let notifier = json!({ "plugin": "file", "config": { "path": "no-such-folder/n.ndjson" } });
    let stage = job(json!([notifier])).stage();
    let answer = stage.run(&["run", "job.yaml", "--json"]).expect(0);
    let report = answer.json();
    assert_eq!(report["outcome"], "done");
    let codes = warnings(&report);
    assert!(codes.contains(&"file.no_folder"), "{codes:?}");
    assert!(codes.contains(&"notify.undelivered"), "{codes:?}");
    let text = stage.run(&["run", "job.yaml"]).expect(0);
    assert!(text.err.contains("code: notify.undelivered"), "{}", text.err);
    let file = undelivered(&stage);
    assert_eq!(
        std::fs::metadata(&file).unwrap().permissions().mode() & 0o777,
        0o600
    );
    let kept = json_file(&file);
    let events: Vec<&str> = kept["undelivered"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| {
            assert_eq!(one["failure"]["code"], "file.no_folder", "{one}");
            one["notification"]["event"].as_str().unwrap()
        })
        .collect();
    assert_eq!(events, ["started", "completed"]);
}

/// What becomes of the notifications of a notifier that misbehaves, beside one that does not.
struct Bad {
    script: Value,
    more: Value,
    delivered: &'static [&'static str],
}

#[test]
fn no_misbehaviour_of_a_notifier_changes_the_end_of_a_run() {
    let bad = |script, delivered| Bad {
        script,
        more: json!({}),
        delivered,
    };
    let both = &["started", "completed"][..];
    let cases = [
        bad(misbehave("send", 1, 0, "panic"), &[]),
        bad(misbehave("send", 1, 1, "panic"), &["completed"]),
        bad(misbehave("send", 1, 0, "segfault"), &[]),
        bad(misbehave("send", 1, 0, "exit0"), &[]),
        bad(misbehave("send", 1, 0, "error"), &[]),
        bad(misbehave("send", 1, 2, "transient_error"), both),
        bad(misbehave("check", 1, 0, "segfault"), both),
        bad(misbehave("check", 1, 0, "panic"), both),
        bad(misbehave("open", 1, 0, "segfault"), &[]),
        bad(misbehave("open", 1, 1, "transient_error"), both),
        bad(misbehave("close", 1, 0, "segfault"), both),
        bad(misbehave("close", 1, 0, "hang"), both),
    ];
    for Bad {
        script,
        more,
        delivered,
    } in cases
    {
        let stage = job(json!([scripted_notifier(script.clone(), more), file_notifier()])).stage();
        let begun = Instant::now();
        let report = stage.run(&["run", "job.yaml", "--json"]).expect(0).json();
        assert!(
            begun.elapsed() < DRAIN + LEEWAY,
            "{script}: {:?}",
            begun.elapsed()
        );
        assert_eq!(report["outcome"], "done", "{script}");
        assert_eq!(told(&stage, SCRIPTED_TOLD), delivered, "{script}");
        assert_eq!(told(&stage, TOLD), both, "{script}: the other notifier");
        let is_told_of = warnings(&report).contains(&"notify.undelivered");
        assert_eq!(
            is_told_of,
            delivered.len() < 2,
            "{script}: {}",
            report["findings"]
        );
        assert_eq!(undelivered(&stage).exists(), delivered.len() < 2, "{script}");
    }
}

/// A job with a notifier that never answers, beside one that does.
fn hanging(ignores_cancel: bool) -> Stage {
    let hangs = scripted_notifier(
        misbehave("send", 1, 0, "hang"),
        json!({ "hang_ignores_cancel": ignores_cancel }),
    );
    job(json!([hangs, file_notifier()])).stage()
}

#[test]
fn a_notifier_that_hangs_costs_a_run_no_more_than_the_time_for_what_waits() {
    let run = |ignores_cancel| {
        let stage = hanging(ignores_cancel);
        let begun = Instant::now();
        let report = stage.run(&["run", "job.yaml", "--json"]).expect(0).json();
        assert!(begun.elapsed() >= DRAIN, "{:?}", begun.elapsed());
        assert!(begun.elapsed() < DRAIN + LEEWAY, "{:?}", begun.elapsed());
        assert_eq!(report["outcome"], "done");
        assert_eq!(warnings(&report), ["notify.undelivered"]);
        assert_eq!(told(&stage, TOLD), ["started", "completed"]);
        let kept = json_file(&undelivered(&stage));
        assert_eq!(kept["undelivered"].as_array().unwrap().len(), 2);
    };
    std::thread::scope(|scope| {
        scope.spawn(|| run(false));
        scope.spawn(|| run(true));
    });
}

#[test]
fn a_signal_ends_the_waiting_and_leaves_the_end_of_the_run_as_it_was() {
    let stage = hanging(true);
    let mut running = Running::start(&stage, &[]);
    running.until_named("finished");
    let begun = Instant::now();
    wait_until("the run has ended", || {
        running.signal(Signal::TERM);
        !is_alive(running.pid())
    });
    // It did not wait for them to the end.
    let waited_max = DRAIN - Duration::from_secs(1);
    assert!(begun.elapsed() < waited_max, "{:?}", begun.elapsed());
    let end = running.finish().expect(0);
    assert_eq!(warnings(end.report()), ["notify.undelivered"]);
    assert_eq!(told(&stage, TOLD).first().unwrap(), "started");
}

#[test]
fn a_call_that_hangs_is_ended_by_the_time_limit_of_the_job_and_tried_again() {
    for ignores in [false, true] {
        // In a worker that takes the place of another one the count of calls begins anew.
        let more = json!({ "hang_ignores_cancel": ignores });
        let stage = job(json!([
            scripted_notifier(misbehave("send", 2, 1, "hang"), more),
            file_notifier()
        ]))
        .set("/limits", json!({ "call_timeout_secs": 1 }))
        .stage();
        let report = stage.run(&["run", "job.yaml", "--json"]).expect(0).json();
        assert_eq!(warnings(&report), [""; 0], "ignores: {ignores}");
        assert_eq!(told(&stage, SCRIPTED_TOLD), ["started", "completed"]);
        assert_eq!(told(&stage, TOLD), ["started", "completed"]);
    }
}

#[test]
fn a_bad_run_keeps_its_own_exit_code() {
    let stage = job(json!([scripted_notifier(
        misbehave("send", 1, 0, "segfault"),
        json!({})
    )]))
    .sink("misbehave", misbehave("commit", 1, 0, "fenced"))
    .stage();
    stage.run(&["run", "job.yaml", "--json"]).expect(7);
}

/// Processes under `run` that have loaded the library of the `file` notifier.
fn notifying_worker(run: Pid) -> Option<Pid> {
    children(run).into_iter().find(|child| {
        let maps = std::fs::read_to_string(format!("/proc/{}/maps", child.as_raw_nonzero()));
        maps.is_ok_and(|maps| maps.contains("libwhimbrel_file.so"))
    })
}

/// A job whose hook waits before the first write until [`gate`] is dropped.
fn gated(notifiers: Value) -> Stage {
    let stage = job(notifiers)
        .set(
            "/hooks",
            json!({ "before": [{ "command": { "run": ["cat", "gate"] } }] }),
        )
        .stage();
    let made = std::process::Command::new("mkfifo")
        .arg(stage.path("gate"))
        .status()
        .unwrap();
    assert!(made.success());
    stage
}

/// Waits until the run of a [`gated`] job is at its hook, and keeps it there.
fn gate(stage: &Stage) -> std::fs::File {
    // Opening a pipe to write waits for somebody who reads.
    std::fs::File::options()
        .write(true)
        .open(stage.path("gate"))
        .unwrap()
}

#[test]
fn a_worker_that_is_killed_in_mid_run_is_replaced_and_everything_arrives_once() {
    let mut notifier = file_notifier();
    notifier["events"] = json!(["started", "phase_changed", "completed"]);
    let stage = gated(json!([notifier]));
    let running = Running::start(&stage, &[]);
    let gate = gate(&stage);
    wait_until("the start was told", || {
        told(&stage, TOLD).iter().any(|event| event == "started")
    });
    let worker = notifying_worker(running.pid()).unwrap();
    kill_process(worker, Signal::KILL).unwrap();
    wait_until("another worker is there", || {
        notifying_worker(running.pid()).is_some_and(|other| other != worker)
    });
    drop(gate);
    let end = running.finish().expect(0);
    assert_eq!(warnings(end.report()), [""; 0]);
    let all = told(&stage, TOLD);
    assert_eq!(
        all.iter().filter(|event| *event == "started").count(),
        1,
        "{all:?}"
    );
    assert_eq!(all.last().unwrap(), "completed", "{all:?}");
    let lines = lines(&stage.path(TOLD));
    let keys: std::collections::BTreeSet<&str> = lines
        .iter()
        .map(|line| line["dedupe_key"].as_str().unwrap())
        .collect();
    assert_eq!(keys.len(), lines.len(), "{keys:?}");
    let phases = end.named("phase_started").len();
    assert_eq!(all.len(), phases + 2, "{all:?}");
    assert_eq!(end.named("delivered").len(), phases + 2);
}

#[test]
fn a_worker_whose_run_is_killed_ends_by_itself() {
    let stage = gated(json!([file_notifier()]));
    let mut running = Running::start(&stage, &[]);
    // The hook, which outlives the run, ends with it.
    let _gate = gate(&stage);
    wait_until("the start was told", || !told(&stage, TOLD).is_empty());
    let worker = notifying_worker(running.pid()).unwrap();
    running.kill();
    wait_until("the worker has ended", || !is_alive(worker));
}

#[test]
fn secrets_of_a_notifier_reach_no_file_and_no_text() {
    let secret = "tok-5eCr3t-planted";
    let script = json!([
        { "call": "check", "how": "error" },
        { "call": "send", "at": 1, "how": "print_stderr" },
        { "call": "send", "at": 2, "how": "error" },
        { "call": "send", "at": 3, "how": "panic" },
    ]);
    let mut notifier = scripted_notifier(script, json!({ "secret": "${env:PLANTED}", "says": "openly" }));
    notifier["events"] = json!(["started", "phase_changed", "completed"]);
    let stage = job(json!([notifier])).stage();
    let end = Running::start_with(&stage, &[], &[("PLANTED", secret)])
        .finish()
        .expect(0);
    let report = end.report();
    assert!(report.to_string().contains("openly: ***"), "{report}");
    assert!(
        end.events
            .iter()
            .any(|event| event.to_string().contains("openly: ***"))
    );
    assert!(!end.events.iter().any(|event| event.to_string().contains(secret)));
    assert!(!end.err.contains(secret), "{}", end.err);
    let mut seen = 0;
    each_file(&stage.path(""), &mut |path, octets| {
        let has = octets.windows(secret.len()).any(|part| part == secret.as_bytes());
        assert!(!has, "{}", path.display());
        seen += usize::from(path.ends_with("undelivered-notifications.json"));
    });
    assert_eq!(seen, 1, "what was not delivered was looked at");
}

fn each_file(folder: &Path, look: &mut dyn FnMut(&Path, &[u8])) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_symlink() {
            continue;
        }
        if path.is_dir() {
            each_file(&path, look);
        } else {
            look(&path, &std::fs::read(&path).unwrap());
        }
    }
}

#[test]
fn the_example_of_the_documentation_does_what_is_said_there() {
    let page = std::fs::read_to_string(repository().join("host/docs/notifications.md")).unwrap();
    let example = page
        .split("<!-- example:begin -->\n```yaml\n")
        .nth(1)
        .and_then(|rest| rest.split("```\n<!-- example:end -->").next())
        .unwrap();
    let stage = Stage::new();
    stage.write("job.yaml", example);
    stage.write("orders.ndjson", "{\"id\":1}\n{\"id\":2}\n");
    stage.run(&["run", "job.yaml"]).expect(0);
    let all = told(&stage, "notifications.ndjson");
    assert_eq!(all.first().unwrap(), "started");
    assert_eq!(all.last().unwrap(), "completed");
    assert!(all.iter().any(|event| event == "phase_changed"), "{all:?}");
    assert!(!stage.path("look-at-this.txt").exists());
    stage.write("orders.ndjson", "{\"id\":1}\n{\"id\":");
    let answer = stage.run(&["run", "job.yaml"]);
    assert_ne!(answer.code, 0);
    let text = std::fs::read_to_string(stage.path("look-at-this.txt")).unwrap();
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(text.contains("\terror\tfailed\tnightly: run "), "{text}");
}

#[test]
fn plugin_info_says_what_a_notifier_can_do() {
    let text = Stage::new().run(&["plugin", "info", "file"]).expect(0).out;
    assert!(text.contains("\n## notifier\n\ndedupes: true\n"), "{text}");
    assert!(text.contains("text_bytes_max: 1048576\n"), "{text}");
}
