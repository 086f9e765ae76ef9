//! Plugins that misbehave, in runs of the built program: the right code, plugin and call are named, nothing is half
//! written, `--json` stays JSON, and the exit status is never 0. FAULTS P1, P2, P3, P5, P7, P8.

use std::io::BufRead as _;
use std::path::Path;
use std::process::Stdio;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::program::{Answer, Stage};
use crate::running::{Running, side_by_side, wait_until};
use crate::scripted_job::{self, ScriptedJob};

/// Records of a scripted source, and how many a batch holds.
const RECORDS: usize = 1_000;
const BATCH: usize = 100;
/// The first commit of a run is that of its own lane, before any record; this is the first with records.
const DATA_COMMIT: u32 = 2;

/// A job from the scripted source to the scripted sink; `source` and `sink` are misbehaviours.
fn job(source: &Value, sink: &Value, more: &str) -> String {
    let config = |misbehave: &Value, extra: Value| {
        let mut config = json!({ "records": RECORDS, "misbehave": misbehave });
        config
            .as_object_mut()
            .unwrap()
            .extend(extra.as_object().unwrap().clone());
        config
    };
    let job = json!({
        "name": "scripted",
        "source": { "plugin": "scripted", "config": config(source, json!({ "store": "source" })) },
        "sink": { "plugin": "scripted", "config": config(sink, json!({ "store": "sink", "committed_path": "committed.ndjson" })) },
    });
    let limits =
        format!("limits: {{ batch_records: {BATCH}, call_timeout_secs: 2, partitions_parallel: 1 }}\n");
    // JSON is YAML, and the outer braces are not wanted where more keys follow.
    let text = job.to_string();
    format!("{}\n{limits}{more}", members(&text))
}

fn members(object: &str) -> String {
    let value: Value = serde_json::from_str(object).unwrap();
    value
        .as_object()
        .unwrap()
        .iter()
        .map(|(name, value)| format!("{name}: {value}\n"))
        .collect()
}

fn run(source: &Value, sink: &Value) -> (Stage, Answer) {
    let stage = Stage::new();
    stage.write("job.yaml", job(source, sink, ""));
    let answer = stage.run(&["run", "job.yaml", "--json"]);
    (stage, answer)
}

/// As [`run`], and nothing is tried again.
fn run_once(source: &Value, sink: &Value) -> (Stage, Answer) {
    let stage = Stage::new();
    stage.write("job.yaml", job(source, sink, "import: { max_retries: 0 }\n"));
    let answer = stage.run(&["run", "job.yaml", "--json"]);
    (stage, answer)
}

fn misbehaving(call: &str, at: u32, how: &str) -> Value {
    json!([{ "call": call, "at": at, "how": how }])
}

fn committed(path: &Path) -> usize {
    std::fs::read_to_string(path).map_or(0, |text| text.lines().count())
}

/// The failure must be attributed, and what is durable must be whole batches.
#[track_caller]
fn assert_fails(stage: &Stage, answer: &Answer, role: &str, call: &str, codes: &[&str]) -> Value {
    assert!(
        answer.code > 0,
        "{role} {call}: exit {}\n{}",
        answer.code,
        answer.out
    );
    let error = answer.error();
    let code = error["code"].as_str().unwrap_or_default();
    assert!(codes.contains(&code), "{role} {call}: {error}");
    assert_eq!(error["plugin"], "scripted", "{role} {call}: {error}");
    assert_eq!(error["role"], role, "{role} {call}: {error}");
    assert_eq!(error["call"], call, "{role} {call}: {error}");
    assert_eq!(
        committed(&stage.path("committed.ndjson")) % BATCH,
        0,
        "{role} {call}: a batch is half written"
    );
    error
}

const SOURCE_CALLS: [&str; 7] = [
    "open",
    "check",
    "collections",
    "open_snapshot",
    "partitions",
    "read",
    "next",
];
const SINK_CALLS: [&str; 8] = [
    "open",
    "check",
    "prepare",
    "take_over",
    "begin",
    "write",
    "commit",
    "add_constraints",
];

#[test]
fn p1_a_panic_in_any_call_is_a_typed_error_with_message_and_place() {
    let calls = SOURCE_CALLS
        .map(|call| ("source", call))
        .into_iter()
        .chain(SINK_CALLS.map(|call| ("sink", call)));
    let calls = calls.chain([("sink", "finalize"), ("sink", "reader")]);
    let calls = calls.map(|(role, call)| (role, call, 1));
    for (role, call, at) in calls.chain([("sink", "commit", DATA_COMMIT)]) {
        let script = misbehaving(call, at, "panic");
        let none = json!([]);
        let (stage, answer) = if role == "source" {
            run(&script, &none)
        } else {
            run(&none, &script)
        };
        let error = assert_fails(&stage, &answer, role, call, &["plugin.panic"]);
        assert!(
            error["place"].as_str().unwrap_or_default().contains(".rs:"),
            "{error}"
        );
        assert!(
            error["message"]
                .as_str()
                .unwrap()
                .contains(&format!("panicked in `{call}`")),
            "{error}"
        );
        assert_eq!(answer.code, if call == "reader" { 5 } else { 1 }, "{role} {call}");
    }
}

#[test]
fn p1_an_error_of_a_call_keeps_its_code_and_names_the_call() {
    for (role, call, at) in [
        ("source", "next", 2),
        ("sink", "write", 2),
        ("sink", "commit", 1),
        ("sink", "commit", DATA_COMMIT),
    ] {
        let script = misbehaving(call, at, "error");
        let none = json!([]);
        let (stage, answer) = if role == "source" {
            run_once(&script, &none)
        } else {
            run_once(&none, &script)
        };
        assert_fails(&stage, &answer, role, call, &["scripted.error"]);
    }
    let (stage, answer) = run_once(&json!([]), &misbehaving("write", 3, "error_half_way"));
    assert_fails(
        &stage,
        &answer,
        "sink",
        "write",
        &["scripted.error", "scripted.unavailable", "scripted.half_way"],
    );
}

#[test]
fn p2_a_crash_ends_the_run_as_crashed_with_the_signal_named() {
    for (how, code, words) in [
        ("segfault", "plugin.crashed", "SIGSEGV"),
        ("abort", "plugin.crashed", "SIGABRT"),
        ("stack_overflow", "plugin.crashed", "SIGABRT"),
        ("exit0", "plugin.exited", "exit status 0"),
    ] {
        for (role, call, at) in [
            ("source", "next", 4),
            ("sink", "write", 3),
            ("sink", "commit", 1),
            ("sink", "commit", DATA_COMMIT),
            ("source", "open", 1),
        ] {
            let script = misbehaving(call, at, how);
            let none = json!([]);
            let text = if role == "source" {
                job(&script, &none, "")
            } else {
                job(&none, &script, "")
            };
            let stage = Stage::new();
            // That a worker is started again is shown elsewhere.
            stage.write(
                "job.yaml",
                text.replace("limits: {", "limits: { worker_restarts: 0,"),
            );
            let answer = stage.run(&["run", "job.yaml", "--json"]);
            assert!(answer.code > 0, "{how} in {call}: exit {}", answer.code);
            assert_eq!(answer.json()["outcome"], "crashed", "{how} in {call}");
            let error = answer.error();
            assert_eq!(error["code"], code, "{how} in {call}: {error}");
            let message = error["message"].as_str().unwrap();
            assert!(message.contains(words), "{how} in {call}: {message}");
            assert!(
                message.contains(&format!("`{call}` of {role} `scripted`")),
                "{how} in {call}: {message}"
            );
            assert_eq!(
                committed(&stage.path("committed.ndjson")) % BATCH,
                0,
                "{how} in {call}"
            );
        }
    }
}

#[test]
fn p3_a_call_that_hangs_is_cancelled_then_killed() {
    let heeding = misbehaving("next", 3, "hang");
    let (stage, answer) = run(&heeding, &json!([]));
    assert_fails(&stage, &answer, "source", "next", &["plugin.call_timeout"]);

    let stage = Stage::new();
    let text = job(&json!([]), &misbehaving("write", 2, "hang"), "");
    stage.write(
        "job.yaml",
        text.replace(
            "\"records\":1000",
            "\"hang_ignores_cancel\":true,\"records\":1000",
        ),
    );
    let answer = stage.run(&["run", "job.yaml", "--json"]);
    assert_fails(&stage, &answer, "sink", "write", &["plugin.hang"]);
}

#[test]
fn p7_nonsense_batches_are_refused_and_not_committed() {
    for how in [
        "wrong_length",
        "wrong_schema",
        "wrong_record_count",
        "null_in_required",
        "not_utf8",
        "schema_twice",
    ] {
        let (stage, answer) = run(&misbehaving("next", 5, how), &json!([]));
        assert_fails(&stage, &answer, "source", "next", &["plugin.invalid_batch"]);
    }
    let (stage, answer) = run(&misbehaving("next", 1, "batch_without_schema"), &json!([]));
    assert_fails(&stage, &answer, "source", "next", &["plugin.invalid_batch"]);
    let (stage, answer) = run(&json!([]), &misbehaving("write", 2, "wrong_receipt"));
    assert_fails(&stage, &answer, "sink", "write", &["plugin.wrong_receipt"]);
}

#[test]
fn records_that_a_plugin_loses_or_doubles_are_found_by_verification() {
    for (role, call, at, how) in [
        ("source", "next", 4, "end_early"),
        // The only commit of a partition.
        ("sink", "commit", DATA_COMMIT, "lost_commit"),
    ] {
        let script = misbehaving(call, at, how);
        let none = json!([]);
        let (_, answer) = if role == "source" {
            run(&script, &none)
        } else {
            run(&none, &script)
        };
        let report = answer.expect(4).json();
        assert_eq!(report["outcome"], "differences", "{how}");
        assert_eq!(report["verification"][0]["source"], "records", "{how}");
    }
}

#[test]
fn a_commit_that_a_sink_loses_is_found_by_the_next_one_in_its_lane() {
    // That of the run's own lane, which has another one at the end.
    let (stage, answer) = run(&json!([]), &misbehaving("commit", 1, "lost_commit"));
    assert_eq!(answer.error()["code"], "run.fenced", "{}", answer.out);
    assert_eq!(answer.code, 7, "{}", answer.out);
    assert_eq!(committed(&stage.path("committed.ndjson")) % BATCH, 0);
}

#[test]
fn p8_what_a_plugin_prints_is_its_log_and_never_an_event() {
    let script = json!([
        { "call": "next", "at": 2, "how": "print_stdout" },
        { "call": "open", "at": 1, "how": "print_stdout" },
        { "call": "next", "at": 3, "how": "print_stderr" },
    ]);
    let (_, answer) = run(&script, &json!([]));
    let report = answer.expect(0).json();
    assert_eq!(report["outcome"], "done");
    let stage = Stage::new();
    stage.write("job.yaml", job(&script, &json!([]), ""));
    let text = stage.run(&["run", "job.yaml"]).expect(0);
    assert!(text.err.contains("plugin output: "), "{}", text.err);
    assert!(!text.out.contains("plugin output"), "{}", text.out);
}

#[test]
fn d2_rejected_records_end_the_run_unless_they_are_allowed() {
    let (stage, answer) = run(&json!([]), &misbehaving("write", 2, "reject"));
    assert_eq!(answer.code, 1, "{}", answer.out);
    assert_eq!(answer.error()["code"], "run.too_many_rejected");
    assert_eq!(committed(&stage.path("committed.ndjson")) % BATCH, 0);

    let stage = Stage::new();
    let text = job(
        &json!([]),
        &misbehaving("write", 2, "reject"),
        "import: { max_errors: 1 }\nverification: none\n",
    );
    stage.write("job.yaml", text);
    let report = stage.run(&["run", "job.yaml", "--json"]).expect(0).json();
    assert_eq!(report["rejected_count"], 1);
    assert_eq!(report["collections"][0]["written_count"], RECORDS - 1);
    assert_eq!(committed(&stage.path("committed.ndjson")), RECORDS - 1);
}

#[test]
fn s2_fencing_and_lost_answers_of_a_commit_are_told_apart() {
    // Once at the run's own lane and once at one with records. What the lane says of a lost answer is believed.
    for at in [1, DATA_COMMIT] {
        for (how, code, exit) in [
            ("fenced", "run.fenced", 7),
            ("not_committed", "run.not_committed", 3),
            ("unknown_lost", "run.not_committed", 3),
        ] {
            let (stage, answer) = run_once(&json!([]), &misbehaving("commit", at, how));
            assert_eq!(answer.error()["code"], code, "{how} {at}: {}", answer.out);
            assert_eq!(answer.code, exit, "{how} {at}");
            assert_eq!(committed(&stage.path("committed.ndjson")), 0, "{how} {at}");
        }
    }
    // Nobody says what became of it: of the lanes, only the first two claims are granted.
    let script = json!([
        { "call": "commit", "at": DATA_COMMIT, "how": "unknown_lost" },
        { "call": "take_over", "at": 3, "times": 0, "how": "transient_error" },
    ]);
    let (_, answer) = run_once(&json!([]), &script);
    assert_eq!(answer.error()["code"], "run.commit_unknown", "{}", answer.out);
    assert_eq!(answer.code, 3);
}

#[test]
fn s2_the_lane_says_whether_a_commit_was_made_whose_answer_was_lost() {
    for at in [1, DATA_COMMIT, DATA_COMMIT + 1] {
        for how in ["unknown_lost", "unknown_kept"] {
            let (stage, answer) = run(&json!([]), &misbehaving("commit", at, how));
            let report = answer.expect(0).json();
            assert_eq!(report["verification"][0]["comparison"], "equal", "{how} {at}");
            assert_eq!(
                committed(&stage.path("committed.ndjson")),
                RECORDS,
                "{how} {at}: each is there once"
            );
        }
    }
}

#[test]
fn k5_a_sink_that_does_not_come_to_an_end_is_cancelled_in_time_for_a_report() {
    let cases = [("write", 1), ("commit", 1), ("commit", DATA_COMMIT)];
    side_by_side(cases, |(call, at)| {
        let hang = misbehaving(call, at, "hang");
        let stage = ScriptedJob::new()
            .sink("misbehave", hang)
            .set("/limits/partitions_parallel", json!(1))
            .stage();
        let running = Running::start(&stage, &[]);
        wait_until("the call hangs", || {
            scripted_job::calls(&stage, scripted_job::SINK_CALLS, call).len() >= at as usize
        });
        running.signal(Signal::INT);
        let end = running.finish().expect(130);
        assert_eq!(end.report()["outcome"], "cancelled", "{call}");
        assert_eq!(end.report()["errors"], json!([]), "{call}");
        assert!(scripted_job::committed(&stage).is_empty(), "{call}");
    });
}

#[test]
fn k5_the_first_signal_commits_what_is_open() {
    let stage = Stage::new();
    let text = job(&misbehaving("next", 5, "hang"), &json!([]), "")
        .replace("call_timeout_secs: 2", "call_timeout_secs: 600");
    stage.write("job.yaml", text);
    let mut child = stage
        .command(&["run", "job.yaml"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let pid = rustix::process::Pid::from_child(&child);
    let mut lines = std::io::BufReader::new(child.stderr.take().unwrap()).lines();
    // Three batches are read and the fourth call hangs; the open transaction is committed by its age.
    lines
        .find(|line| line.as_ref().unwrap().starts_with("run: 300 "))
        .unwrap()
        .unwrap();
    rustix::process::kill_process(pid, Signal::TERM).unwrap();
    let status = child.wait().unwrap();
    assert_eq!(status.code(), Some(143));
    assert_eq!(committed(&stage.path("committed.ndjson")), 300);
}

#[test]
fn k5_the_second_signal_ends_at_once() {
    for ignores in [false, true] {
        let stage = ScriptedJob::new()
            .sink("misbehave", misbehaving("write", 1, "hang"))
            .sink("hang_ignores_cancel", json!(ignores))
            .set("/limits/partitions_parallel", json!(1))
            .stage();
        let running = Running::start(&stage, &[]);
        wait_until("the call hangs", || {
            !scripted_job::calls(&stage, scripted_job::SINK_CALLS, "write").is_empty()
        });
        // Two of a kind could be taken for one.
        running.signal(Signal::INT);
        running.signal(Signal::TERM);
        let end = running.finish();
        assert!([130, 143].contains(&end.code), "{}: {}", end.code, end.err);
        // After one alone, a call of the sink that heeds it is cancelled in the end, and the worker has a last word.
        assert!(end.named("finished").is_empty(), "ignores: {ignores}");
        assert!(scripted_job::committed(&stage).is_empty());
    }
}
