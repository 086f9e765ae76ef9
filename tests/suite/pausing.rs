//! A sink that only a person can mend: the run waits with one alert and few probes, and goes on after the repair. FAULTS S4.
//!
//! The scripted sink is full while a file is there. What it was asked and what it made durable is read from its own files.

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::program::Stage;
use crate::running::{End, Running, json_file, latest_run, side_by_side, wait_until};
use crate::scripted_job::{SINK_CALLS, SOURCE_CALLS, ScriptedJob, calls, committed, lines, misbehave};

/// While it is there, the sink is full.
const FULL: &str = "full";
/// Where the `file` notifier writes.
const TOLD: &str = "notifications.ndjson";

/// Three collections, over several sessions of the sink.
fn job() -> ScriptedJob {
    ScriptedJob::new()
        .source("collections", json!(["a", "b", "c"]))
        .source("records", json!(1_000))
        .sink("full_while", json!(FULL))
        .set("/limits/batch_records", json!(100))
        .set(
            "/notifiers",
            json!([{ "plugin": "file", "config": { "path": TOLD } }]),
        )
}

/// When the sink becomes full.
#[derive(Clone, Copy, PartialEq)]
enum Since {
    /// Before the run makes the checkpoint durable with which it begins.
    Start,
    /// Before it makes the first record durable.
    Records,
}

/// A run into a sink that is full.
fn full(job: &ScriptedJob, since: Since) -> (Stage, Running) {
    // Time enough to make it full before anything is read.
    let stage = job
        .clone()
        .source("slow_ms", json!(2_000))
        .source("misbehave", misbehave("read", 1, 6, "slow"))
        .stage();
    if since == Since::Start {
        stage.write(FULL, "");
    }
    let mut running = Running::start(&stage, &[]);
    if since == Since::Records {
        running.until_named("lane_taken");
        stage.write(FULL, "");
    }
    (stage, running)
}

/// The warnings among the notifications.
fn alerts(stage: &Stage) -> Vec<Value> {
    let mut told = lines(&stage.path(TOLD));
    told.retain(|line| line["severity"] == "warning");
    told
}

fn status(stage: &Stage) -> Value {
    json_file(&latest_run(stage, ".whimbrel").join("migration-status.json"))
}

fn all_of_each() -> std::collections::BTreeMap<String, usize> {
    ["a", "b", "c"].map(|name| (name.to_owned(), 1_000)).into()
}

#[test]
fn s4_a_run_pauses_with_one_alert_and_goes_on_after_the_repair() {
    side_by_side([Since::Start, Since::Records], pauses_and_goes_on);
}

fn pauses_and_goes_on(since: Since) {
    let (stage, mut running) = full(&job(), since);
    let paused = running.until_named("paused");
    assert_eq!(
        (&paused["role"], &paused["code"], &paused["help"]),
        (&json!("sink"), &json!("scripted.full"), &json!("make room"))
    );
    wait_until("the status says so", || !status(&stage)["paused"].is_null());
    let told = &status(&stage)["paused"];
    assert_eq!(
        (&told["code"], &told["since"]),
        (&json!("scripted.full"), &paused["since"])
    );
    let shown = stage.run(&["status"]).expect(0).out;
    assert!(
        shown.contains("paused") && shown.contains("[scripted.full]") && shown.contains("make room"),
        "{shown}"
    );
    // The first probe finds it as it was.
    let begun = calls(&stage, SINK_CALLS, "begin").len();
    wait_until("a probe", || calls(&stage, SINK_CALLS, "begin").len() > begun);
    assert!(committed(&stage).is_empty());
    std::fs::remove_file(stage.path(FULL)).unwrap();
    let end = running.finish().expect(0);
    assert_eq!(committed(&stage), all_of_each());
    let count = |name: &str| end.named(name).len();
    assert_eq!(
        (count("paused"), count("resumed"), count("retrying")),
        (1, 1, 0),
        "no try is spent"
    );
    assert!(status(&stage)["paused"].is_null());
    let alerts = alerts(&stage);
    assert_eq!(alerts.len(), 1, "{alerts:?}");
    assert!(
        alerts[0]["title"].as_str().unwrap().contains("paused"),
        "{alerts:?}"
    );
    assert!(
        alerts[0]["body"].as_str().unwrap().contains("make room"),
        "{alerts:?}"
    );
}

#[test]
fn s4_few_calls_are_made_and_little_is_read_while_a_run_is_paused() {
    let job = job()
        .source("records", json!(50_000))
        .set("/import/pause_max_ms", json!(3_500));
    side_by_side([Since::Start, Since::Records], |since| {
        let (stage, running) = full(&job, since);
        assert_few_calls(&stage, &running.finish().expect(3), since);
    });
}

fn assert_few_calls(stage: &Stage, end: &End, since: Since) {
    let error = &end.report()["errors"][0];
    assert_eq!(error["code"], "scripted.full");
    let causes = error["causes"].as_array().unwrap();
    let last = causes.last().unwrap().as_str().unwrap();
    assert!(last.starts_with("the run was paused for"), "{error}");
    assert_eq!((end.named("paused").len(), end.named("resumed").len()), (1, 0));
    assert!(committed(stage).is_empty());
    // There is one probe after 1 s, one 2 s later, and one when the time is up.
    if since == Since::Start {
        let commits = calls(stage, SINK_CALLS, "commit").len();
        assert!((3..=4).contains(&commits), "{commits}");
        assert_eq!(calls(stage, SINK_CALLS, "write").len(), 0);
    } else {
        // Each session has tried once before.
        let writes = calls(stage, SINK_CALLS, "write").len();
        assert!((4..=7).contains(&writes), "{writes}");
    }
    // Of 1,500 batches, those that may wait.
    let batches = calls(stage, SOURCE_CALLS, "next").len();
    assert!(batches < 60, "{batches}");
    assert_eq!(alerts(stage).len(), 1, "the failure is told as an error");
}

#[test]
fn s4_a_signal_ends_a_paused_run_at_once() {
    for since in [Since::Start, Since::Records] {
        let (stage, mut running) = full(&job(), since);
        running.until_named("paused");
        running.signal(Signal::INT);
        let end = running.finish().expect(130);
        assert_eq!(end.report()["outcome"], "cancelled");
        assert!(committed(&stage).is_empty());
        assert_eq!(status(&stage)["paused"], Value::Null);
    }
}

#[test]
fn s4_every_record_is_there_once_whenever_the_sink_is_full() {
    let whole = |job: ScriptedJob, what: &str| {
        let stage = job.stage();
        let end = Running::start(&stage, &[]).finish().expect(0);
        assert_eq!(committed(&stage), all_of_each(), "{what}");
        let count = |name: &str| end.named(name).len();
        assert_eq!((count("paused"), count("resumed")), (1, 1), "{what}");
        assert_eq!(count("retrying"), 0, "{what}");
    };
    // Both sides of the first probe. The first commit is that of the run's own lane, and so is the last one after six with records.
    let at_once = [
        ("take_over", 1),
        ("begin", 1),
        ("write", 1),
        ("commit", 1),
        ("commit", 2),
        ("commit", 8),
        ("add_constraints", 1),
    ];
    let deferred = [("write", 2), ("flush", 2)];
    let cases = at_once.map(|(call, at)| (call, at, false)).into_iter();
    let cases = cases.chain(deferred.map(|(call, at)| (call, at, true)));
    side_by_side(cases, |(call, at, defers)| {
        let job = job()
            .sink("defers", json!(defers))
            .sink("misbehave", misbehave(call, at, 2, "full"));
        whole(job, &format!("{call} {at}, defers: {defers}"));
    });
}

#[test]
fn s4_a_job_that_does_not_want_to_wait_fails_at_once() {
    let job = job()
        .set("/import/pause_max_ms", json!(0))
        .set("/import/max_retries", json!(0));
    for since in [Since::Start, Since::Records] {
        let (_stage, running) = full(&job, since);
        let end = running.finish().expect(3);
        assert_eq!(end.report()["errors"][0]["code"], "scripted.full");
        assert!(end.named("paused").is_empty());
    }
}
