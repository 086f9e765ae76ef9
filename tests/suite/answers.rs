//! What programs get from whimbrel: the stream of events in its order, JSON from every command, and the records that a run
//! refused. Nothing asks a person where there is no terminal.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Stdio;

use serde_json::{Value, json};

use crate::program::Stage;
use crate::running::{End, Running};
use crate::scripted_job::{ScriptedJob, lines, misbehave};

const PHASES: [&str; 6] = [
    "pre_validation",
    "extraction",
    "transformation",
    "import",
    "verification",
    "post_migration",
];

fn names(events: &[Value]) -> Vec<&str> {
    events
        .iter()
        .map(|event| event["event"].as_str().unwrap())
        .collect()
}

/// What holds for the stream of any run that was begun.
fn assert_in_order(end: &End) {
    let names = names(&end.events);
    assert_eq!(
        (names[0], names[names.len() - 1]),
        ("started", "report"),
        "{names:?}"
    );
    assert_eq!(names.iter().filter(|name| **name == "started").count(), 1);
    let (_, events) = end.events.split_last().unwrap();
    for (number, event) in events.iter().enumerate() {
        assert_eq!(event["seq"], number + 1, "{event}");
        assert!(event["at"].as_str().unwrap().ends_with('Z'), "{event}");
    }
    assert!(
        events
            .windows(2)
            .all(|pair| pair[0]["at"].as_str() <= pair[1]["at"].as_str())
    );
    // Each phase begins before it ends, and they end in their order.
    let ended: Vec<&str> = phases(end, "phase_ended");
    let known: Vec<&str> = PHASES.into_iter().filter(|phase| ended.contains(phase)).collect();
    assert_eq!(ended, known, "each once, in their order");
    let place = |name: &str, phase: &str| {
        events
            .iter()
            .position(|event| event["event"] == name && event["phase"] == phase)
    };
    for phase in phases(end, "phase_started") {
        assert!(
            place("phase_started", phase) < place("phase_ended", phase),
            "{phase}"
        );
    }
    let finished = events
        .iter()
        .position(|event| event["event"] == "finished")
        .unwrap();
    assert!(
        events[finished..]
            .iter()
            .all(|event| ["finished", "hook_ended"].contains(&event["event"].as_str().unwrap())),
        "nothing but hooks comes after the end: {:?}",
        &names[finished..]
    );
}

fn phases<'e>(end: &'e End, name: &str) -> Vec<&'e str> {
    end.named(name)
        .into_iter()
        .map(|event| event["phase"].as_str().unwrap())
        .collect()
}

#[test]
fn the_events_of_a_run_are_one_ordered_stream() {
    let job = ScriptedJob::new()
        .source("records", json!(3_000))
        .set("/import/max_errors", json!(10))
        .set(
            "/hooks/after_success",
            json!([{ "command": { "run": ["true"] } }]),
        )
        .set("/verification", json!("none"))
        .sink("misbehave", misbehave("write", 3, 2, "reject"));
    let stage = job.stage();
    let end = Running::start(&stage, &["--events-file", "events.ndjson"]).finish();
    assert_in_order(&end);
    // What a notifier can be told of is there: started, progress, phases, errors, and the end.
    let told: BTreeSet<&str> = names(&end.events).into_iter().collect();
    for name in [
        "started",
        "progress",
        "phase_started",
        "phase_ended",
        "rejected",
        "committed",
        "finished",
        "hook_ended",
    ] {
        assert!(told.contains(name), "{name}: {told:?}");
    }
    let written: u64 = end
        .named("committed")
        .iter()
        .map(|event| event["record_count"].as_u64().unwrap())
        .sum();
    let report = end.report();
    assert_eq!(report["collections"][0]["written_count"], written);
    assert_eq!(
        end.named("rejected").len() as u64,
        report["rejected_count"].as_u64().unwrap()
    );
    let last = end.named("progress").pop().unwrap();
    assert_eq!(
        (&last["written_count"], &last["rejected_count"]),
        (&json!(written), &json!(2))
    );
    // The file has the same, but for the report, which is no event.
    assert_eq!(
        lines(&stage.path("events.ndjson")),
        end.events[..end.events.len() - 1]
    );
    assert!(
        !end.err.contains("run: "),
        "progress is not told twice: {}",
        end.err
    );
}

#[test]
fn the_stream_is_in_order_also_when_a_run_fails_is_refused_or_crashes() {
    let failing = ScriptedJob::new().sink("misbehave", misbehave("write", 1, 0, "error"));
    let end = Running::start(&failing.stage(), &[]).finish().expect(1);
    assert_in_order(&end);
    assert_eq!(end.named("finished")[0]["outcome"]["outcome"], "failed");

    let refused = ScriptedJob::new().set("/include", json!(["nobody"]));
    let end = Running::start(&refused.stage(), &[]).finish().expect(2);
    assert_in_order(&end);
    assert_eq!(end.report()["outcome"], "refused");

    let crashing = ScriptedJob::new().source("misbehave", misbehave("next", 2, 0, "abort"));
    let end = Running::start(&crashing.stage(), &[]).finish().expect(1);
    // A worker that crashed has no last word; the report has.
    assert!(end.named("finished").is_empty());
    assert_eq!(end.report()["outcome"], "crashed");
    assert_eq!(end.report()["errors"][0]["code"], "plugin.crashed");
}

/// A job with a source of three records, of which one has no number where one is wanted.
fn reshaping() -> Stage {
    let stage = Stage::new();
    stage.write(
        "orders.ndjson",
        "{\"id\":1,\"total\":\" 12 \",\"at\":\"03.04.2025\"}\n{\"id\":2,\"total\":\"twelve\",\"at\":\"2025-04-03\"}\n{\"id\":3,\"total\":\"7\",\"at\":\"soon\"}\n",
    );
    let steps = json!([
        { "trim": ["total"] },
        { "cast": { "field": "total", "to": "int64" } },
        { "dates": { "fields": ["at"], "formats": ["%d.%m.%Y", "%Y-%m-%d"], "to": "date" } },
        { "rename": { "total": "amount" } },
    ]);
    let job = json!({
        "name": "reshaping",
        "source": { "plugin": "files", "config": { "path": "orders.ndjson" } },
        "sink": { "plugin": "scripted", "config": { "store": "sink", "committed_path": "committed.ndjson" } },
        "collections": [{ "source": "orders", "key": ["id"] }],
        "transforms": [{ "plugin": "reshape", "config": { "steps": steps } }],
        "import": { "max_errors": 2 },
    });
    stage.write("job.yaml", job.to_string());
    stage
}

#[test]
fn records_that_a_run_refused_can_be_listed_shown_and_exported() {
    let stage = reshaping();
    let report = stage.run(&["run", "job.yaml", "--json"]).expect(0).json();
    assert_eq!(report["rejected_count"], 2);
    let arrived = lines(&stage.path("committed.ndjson"));
    assert_eq!(arrived.len(), 1);
    assert_eq!(
        (&arrived[0]["record"]["id"], &arrived[0]["record"]["amount"]),
        (&json!(1), &json!(12))
    );

    let list = stage.run(&["rejected", "list", "--json"]).expect(0);
    assert!(
        !list.out.contains("twelve"),
        "values are not listed: {}",
        list.out
    );
    let list = list.json();
    let rejected = list["records"].as_array().unwrap();
    assert_eq!(rejected.len(), 2);
    let codes: BTreeSet<&str> = rejected.iter().map(|one| one["code"].as_str().unwrap()).collect();
    assert!(codes.iter().all(|code| code.starts_with("reshape.")), "{codes:?}");
    let run_id = stage.run(&["runs", "--json"]).expect(0).json()["runs"][0]["id"]
        .as_str()
        .unwrap()
        .to_owned();
    let shown: String = ["1", "2"]
        .map(|number| {
            stage
                .run(&["rejected", "show", number, "--run", &run_id])
                .expect(0)
                .out
        })
        .concat();
    assert!(shown.contains("twelve") && shown.contains("soon"), "{shown}");
    stage
        .run(&["rejected", "export", "--file", "rejected.ndjson", "--json"])
        .expect(0)
        .json();
    let exported = lines(&stage.path("rejected.ndjson"));
    assert_eq!(exported.len(), 2);
    assert!(
        exported.iter().any(|line| line.to_string().contains("twelve")),
        "{exported:?}"
    );
    let mode = std::fs::metadata(stage.path("rejected.ndjson"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600, "values are for their owner alone");
    let missing = stage.run(&["rejected", "show", "9", "--run", &run_id, "--json"]);
    assert_ne!(missing.code, 0);
    missing.json();
}

/// Every command with what it takes, its answer in JSON, and its exit code. None may be left out.
const COMMANDS: [(&[&str], i32); 36] = [
    (&["run", "job.yaml"], 0),
    (&["check", "job.yaml"], 0),
    (&["plan", "job.yaml"], 0),
    (&["verify", "job.yaml"], 4),
    (&["stats", "job.yaml"], 0),
    (&["clear", "job.yaml"], 2),
    (&["clear", "job.yaml", "--yes"], 0),
    (&["export", "job.yaml", "--to", "out"], 0),
    (&["import", "job.yaml", "--from", "out"], 0),
    (&["runs"], 0),
    (&["status"], 0),
    (&["resume"], 2),
    (&["resume", "missing"], 2),
    (&["stop"], 2),
    (&["stop", "missing"], 2),
    (&["rejected", "list"], 0),
    (&["rejected", "show", "1"], 2),
    (&["rejected", "edit", "1", "--set", "id=1"], 2),
    (&["rejected", "replay", "--all"], 0),
    (&["rejected", "discard", "--all"], 0),
    (&["rejected", "export", "--file", "rejected.ndjson"], 0),
    (&["plugin", "list"], 0),
    (&["plugin", "info", "scripted"], 0),
    (&["config", "show", "job.yaml"], 0),
    (&["schema"], 0),
    (&["schema", "settings"], 0),
    (
        &[
            "init",
            "--source-plugin",
            "files",
            "--sink-plugin",
            "turso",
            "--output",
            "new.yaml",
        ],
        0,
    ),
    (&["init"], 2),
    (&["completions", "bash"], 0),
    (&["man"], 0),
    (&["run", "missing.yaml"], 2),
    (&["status", "missing"], 2),
    (&["daemon", "status"], 2),
    (&["daemon", "start"], 2),
    (&["certificate", "show", "missing.json"], 2),
    (&["certificate", "verify", "missing.json"], 2),
];

#[test]
fn every_command_answers_in_json_and_asks_nobody_where_there_is_no_terminal() {
    let stage = ScriptedJob::new().stage();
    let help = stage.run(&["--help"]).expect(0).out;
    let commands = help
        .split_once("Commands:")
        .unwrap()
        .1
        .split_once("Options:")
        .unwrap()
        .0;
    let known: BTreeSet<&str> = commands
        .lines()
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    let tried: BTreeSet<&str> = COMMANDS
        .iter()
        .map(|(arguments, _)| arguments[0])
        .chain(["help"])
        .collect();
    assert_eq!(known, tried);
    for (arguments, exit) in COMMANDS {
        let mut command = stage.command(&[arguments, &["--json"]].concat());
        // A pipe that stays open: who waits for an answer waits for ever.
        let child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut child = child;
        let input = child.stdin.take();
        let output = child.wait_with_output().unwrap();
        drop(input);
        let (out, err) = (
            String::from_utf8(output.stdout).unwrap(),
            String::from_utf8_lossy(&output.stderr),
        );
        assert_eq!(output.status.code(), Some(exit), "{arguments:?}\n{out}\n{err}");
        let answer: Value =
            serde_json::from_str(&out).unwrap_or_else(|error| panic!("{arguments:?}: {error}\n{out}\n{err}"));
        assert!(answer.is_object(), "{arguments:?}: {answer}");
        if exit == 2 {
            assert!(answer["errors"][0]["code"].is_string(), "{arguments:?}: {answer}");
            assert_eq!(answer["exit_code"], 2, "{arguments:?}: {answer}");
        }
    }
}

#[test]
fn every_error_has_a_severity_in_json_in_the_log_and_in_the_report() {
    let stage = ScriptedJob::new()
        .sink("misbehave", misbehave("commit", 1, 1, "error"))
        .set("/import/max_retries", json!(0))
        .stage();
    let end = stage.run(&["run", "job.yaml", "--json"]).expect(1).json();
    let severity = end["errors"][0]["severity"].clone();
    assert!(severity.is_string(), "{end}");
    let folder = stage.path(".whimbrel/latest");
    let kept: Value =
        serde_json::from_slice(&std::fs::read(folder.join("final-migration-report.json")).unwrap()).unwrap();
    assert_eq!(kept["errors"][0]["severity"], severity, "{kept}");
    let log = lines(&folder.join("migration-log.json"));
    let failures = log.iter().filter(|line| line["event"] == "finished");
    let logged: Vec<&Value> = failures
        .map(|line| &line["outcome"]["failure"]["severity"])
        .collect();
    assert_eq!(logged, [&severity], "{log:?}");
    stage.write("job.yaml", "name: 1");
    let refused = stage.run(&["run", "job.yaml", "--json"]).expect(2);
    assert_eq!(refused.error()["severity"], "high", "{}", refused.out);
}
