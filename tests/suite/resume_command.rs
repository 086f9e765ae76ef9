//! `whimbrel resume` as its users have it: which run is meant, what it is told, what it refuses, and what it says.
//!
//! Runs are ended early by a scripted sink or are killed by their test. Not here: that every record arrives once, whatever ends a run.

use serde_json::{Value, json};

use crate::migration::sql;
use crate::program::{Answer, Stage};
use crate::running::{Running, is_alive, json_file, latest_run, wait_until};
use crate::scripted_job::{COMMITTED, SINK_CALLS, ScriptedJob, calls, committed, lines, misbehave};

/// A job that makes twenty of its hundred records durable and fails at the next ten, as often as it is begun.
fn failing() -> ScriptedJob {
    commits_often().sink("misbehave", misbehave("write", 3, 0, "error"))
}

/// Each ten records are read, written and made durable by themselves, one partition after the other.
fn commits_often() -> ScriptedJob {
    let import =
        json!({ "batch_size": 10, "checkpoint_interval": 10, "checkpoint_interval_ms": 0, "max_retries": 0 });
    ScriptedJob::new()
        .set("/import", import)
        .set(
            "/limits",
            json!({ "batch_records": 10, "partitions_parallel": 1 }),
        )
        .sink("lanes_path", json!("lanes.ndjson"))
}

/// The same with nothing wrong.
fn repaired() -> ScriptedJob {
    failing().sink("misbehave", json!([]))
}

/// The id of a run that has just failed.
fn failed_run(stage: &Stage, arguments: &[&str]) -> String {
    stage
        .run(&[&["run", "job.yaml", "--json"], arguments].concat())
        .expect(1);
    newest(stage)
}

/// Kills a run, and waits for its worker: until it has ended too, it holds the job.
fn kill_both(running: &mut Running) {
    let worker = running.worker();
    running.kill();
    wait_until("the worker has ended", || !is_alive(worker));
}

fn newest(stage: &Stage) -> String {
    let folder = latest_run(stage, ".whimbrel");
    folder.file_name().unwrap().to_str().unwrap().to_owned()
}

fn runs(stage: &Stage) -> Vec<Value> {
    let runs = stage.run(&["runs", "--json"]).expect(0).json();
    runs["runs"].as_array().unwrap().clone()
}

#[track_caller]
fn refused(answer: Answer, code: &str, exit_code: i32) -> Value {
    let answer = answer.expect(exit_code);
    let error = answer.error();
    assert_eq!(error["code"], code, "{error}");
    assert!(error["help"].is_string(), "{error}");
    error
}

fn text<'a>(value: &'a Value, member: &str) -> &'a str {
    value[member].as_str().unwrap_or_else(|| panic!("{value}"))
}

#[test]
fn where_nothing_was_run_nothing_can_be_resumed() {
    let stage = repaired().stage();
    refused(stage.run(&["resume", "--json"]), "run.none", 2);
    refused(
        stage.run(&["resume", "--job", "job.yaml", "--json"]),
        "run.none",
        2,
    );
    refused(stage.run(&["resume", "2026", "--json"]), "run.none", 2);
    refused(
        stage.run(&["resume", "--job", "jop.yaml", "--json"]),
        "config.file_missing",
        2,
    );
    assert!(!stage.path(".whimbrel").exists(), "nothing was made");
}

#[test]
fn a_run_that_is_done_has_nothing_to_resume() {
    let stage = repaired().stage();
    stage.run(&["run", "job.yaml"]).expect(0);
    let done = newest(&stage);
    for arguments in [
        &["resume"][..],
        &["resume", &done],
        &["resume", &done[..8]],
        &["resume", "--job", "job.yaml"],
        &["run", "job.yaml", "--resume"],
    ] {
        let answer = stage.run(&[arguments, &["--json"]].concat());
        refused(answer, "resume.nothing_to_do", 2);
    }
    assert_eq!(runs(&stage).len(), 1, "no run was begun");
    assert_eq!(runs(&stage)[0].get("resume_command"), None);
}

#[test]
fn what_is_no_copy_is_not_resumed() {
    let stage = failing().stage();
    stage.run(&["run", "job.yaml", "--dry-run"]).expect(0);
    let dry = newest(&stage);
    refused(stage.run(&["resume", &dry, "--json"]), "resume.no_copy", 2);
    refused(stage.run(&["resume", "--json"]), "run.none", 2);
}

#[test]
fn a_run_that_goes_on_is_not_resumed_and_says_who_holds_it() {
    let stage = repaired()
        .sink("misbehave", misbehave("write", 7, 1, "hang"))
        .stage();
    let mut running = Running::start(&stage, &[]);
    let started = running.until_named("started");
    let id = text(&started, "run_id").to_owned();
    running.until_named("committed");
    for arguments in [
        &["resume"][..],
        &["resume", &id],
        &["resume", "--job", "job.yaml"],
        &["run", "job.yaml", "--resume"],
    ] {
        let answer = stage.run(&[arguments, &["--json"]].concat());
        let error = refused(answer, "run.already_running", 3);
        assert!(text(&error, "message").contains(&id), "{error}");
    }
    running.kill();
    assert_eq!(runs(&stage).len(), 1);
}

#[test]
fn a_failed_run_says_first_how_to_go_on_and_so_do_the_lists() {
    let stage = failing().stage();
    let out = stage.run(&["run", "job.yaml"]).expect(1).out;
    let id = newest(&stage);
    let first = out
        .lines()
        .skip_while(|line| !line.contains("next:"))
        .nth(1)
        .unwrap();
    assert_eq!(first.trim(), format!("whimbrel resume {id}"), "{out}");
    let report = json_file(&latest_run(&stage, ".whimbrel").join("final-migration-report.json"));
    assert_eq!(
        report["next_steps"][0]["command"],
        format!("whimbrel resume {id}")
    );
    assert_eq!(runs(&stage)[0]["resume_command"], format!("whimbrel resume {id}"));
    let status = stage.run(&["status", "--json"]).expect(0).json();
    assert_eq!(status["resume_command"], format!("whimbrel resume {id}"));
    let status = stage.run(&["status"]).expect(0).out;
    assert!(status.contains(&format!("`whimbrel resume {id}`")), "{status}");
    let listed = stage.run(&["runs"]).expect(0).out;
    assert!(
        listed.contains(&format!("can be resumed: `whimbrel resume {id}`")),
        "{listed}"
    );
    let elsewhere = stage.path(".whimbrel");
    let elsewhere = elsewhere.to_str().unwrap();
    let away = Stage::new();
    let listed = away.run(&["runs", "--working-dir", elsewhere]).expect(0).out;
    assert!(
        listed.contains(&format!("whimbrel resume {id} --working-dir {elsewhere}")),
        "{listed}"
    );
}

#[test]
fn a_run_that_begins_anew_says_what_could_be_resumed() {
    let stage = failing().stage();
    let first = failed_run(&stage, &[]);
    let again = stage.run(&["run", "job.yaml", "--json"]).expect(1).json();
    let finding = &again["findings"][0];
    assert_eq!(
        (text(finding, "code"), text(finding, "level")),
        ("run.unfinished", "warning")
    );
    assert!(text(finding, "message").contains(&first), "{finding}");
    assert_eq!(
        text(finding, "help"),
        format!("`whimbrel resume {first}` goes on with it")
    );
    let second = newest(&stage);
    let said = stage.run(&["run", "job.yaml"]).expect(1).err;
    assert!(
        said.contains(&format!("`whimbrel resume {second}` goes on with it")),
        "{said}"
    );
    let resumable: Vec<Value> = runs(&stage)
        .into_iter()
        .filter(|run| run.get("resume_command").is_some())
        .collect();
    assert_eq!(resumable.len(), 1, "of a job the newest one");
    assert_eq!(text(&resumable[0], "id"), newest(&stage));
}

#[test]
fn a_killed_run_is_resumed_with_the_flags_that_it_had() {
    let stage = commits_often()
        .set(
            "/parameters",
            json!({ "text": { "default": "none" }, "hidden": { "default": "none" } }),
        )
        .source("says", json!("${param:text}"))
        .sink("secret", json!("${param:hidden}"))
        .sink("misbehave", misbehave("write", 3, 0, "hang"))
        .stage();
    let given = [
        "--set",
        "text=kept-value",
        "--set",
        "hidden=planted-secret",
        "--max-errors",
        "20",
    ];
    let mut running = Running::start(&stage, &given);
    running.until_named("committed");
    let checkpoint = latest_run(&stage, ".whimbrel").join("migration-checkpoint.json");
    // It hangs from there on, so the file comes to say so.
    wait_until("twenty records are written down", || {
        json_file(&checkpoint)["record_count"] == 20
    });
    kill_both(&mut running);
    let killed = newest(&stage);
    for file in ["state.db", "state.db-wal"] {
        let octets = std::fs::read(stage.path(".whimbrel").join(file)).unwrap_or_default();
        let holds = |text: &str| octets.windows(text.len()).any(|window| window == text.as_bytes());
        assert!(!holds("planted-secret"), "{file}");
    }
    let error = refused(stage.run(&["resume", "--json"]), "resume.value_needed", 2);
    assert!(text(&error, "message").contains("`hidden`"), "{error}");
    assert!(text(&error, "help").contains("--set hidden=VALUE"), "{error}");
    assert_eq!(runs(&stage).len(), 1, "nothing was begun");
    std::fs::write(stage.path(SINK_CALLS), "").unwrap();
    let goes_on = [
        "resume",
        &killed[..15],
        "--set",
        "hidden=planted-secret",
        "--events",
        "json",
    ];
    let mut resuming = Running::spawn(stage.command(&goes_on), stage.path("stderr.txt"));
    resuming.until_named("committed");
    kill_both(&mut resuming);
    let resumed = &runs(&stage)[0];
    assert_eq!(text(resumed, "command"), "resume");
    assert_eq!(
        (text(resumed, "resumes"), text(resumed, "begun_by")),
        (&*killed, &*killed)
    );
    assert_eq!(text(resumed, "state"), "crashed");
    let resumed = text(resumed, "id");
    let status = stage.run(&["status", &killed, "--json"]).expect(0).json();
    assert_eq!(text(&status, "resumed_by"), resumed);
    let checkpoint = json_file(&latest_run(&stage, ".whimbrel").join("migration-checkpoint.json"));
    assert_eq!(text(&checkpoint, "begun_by"), killed);
    assert!(checkpoint["record_count"].as_u64().unwrap() >= 20, "{checkpoint}");
    let kept = sqlite(&stage, "select group_concat(overrides) from run");
    assert!(
        kept.contains("text=kept-value") && kept.contains("\"max_errors\":\"20\""),
        "{kept}"
    );
    assert!(!kept.contains("planted-secret"), "{kept}");
}

#[test]
fn a_resumed_run_copies_what_is_missing_and_shows_the_whole() {
    let stage = failing().stage();
    let first = failed_run(&stage, &[]);
    let before = committed(&stage)["records"];
    assert_eq!(before, 20);
    repaired().write(&stage);
    let report = stage.run(&["resume", "--json"]).expect(0).json();
    assert_eq!(
        (text(&report, "command"), text(&report, "outcome")),
        ("resume", "done")
    );
    assert_eq!(committed(&stage)["records"], 100, "each once");
    let checkpoint = json_file(&latest_run(&stage, ".whimbrel").join("migration-checkpoint.json"));
    assert_eq!(checkpoint["record_count"], 100, "{checkpoint}");
    assert_eq!(text(&checkpoint, "begun_by"), first);
    refused(
        stage.run(&["resume", &first, "--json"]),
        "resume.nothing_to_do",
        2,
    );
}

#[test]
fn a_run_that_was_resumed_stands_for_the_newest_one_of_its_copy() {
    let stage = failing().stage();
    let first = failed_run(&stage, &[]);
    stage.run(&["resume", &first]).expect(1);
    let second = newest(&stage);
    repaired().write(&stage);
    let answer = stage.run(&["resume", &first, "--json"]).expect(0);
    let finding = &answer.json()["findings"][0];
    assert_eq!(text(finding, "code"), "resume.newest");
    assert!(text(finding, "message").contains(&second), "{finding}");
    let third = &runs(&stage)[0];
    assert_eq!(
        (text(third, "resumes"), text(third, "begun_by")),
        (&*second, &*first)
    );
    assert_eq!(committed(&stage)["records"], 100, "each once");
}

#[test]
fn k8_without_any_state_the_sink_says_how_to_go_on() {
    let stage = failing().stage();
    let first = failed_run(&stage, &[]);
    let file = latest_run(&stage, ".whimbrel").join("migration-checkpoint.json");
    std::fs::copy(file, stage.path("checkpoint.json")).unwrap();
    for (flags, begun_by) in [
        (&[][..], ""),
        (&["--checkpoint-file", "checkpoint.json"], &*first),
    ] {
        std::fs::remove_dir_all(stage.path(".whimbrel")).unwrap();
        stage
            .run(&[&["run", "job.yaml", "--resume"], flags].concat())
            .expect(1);
        let checkpoint = json_file(&latest_run(&stage, ".whimbrel").join("migration-checkpoint.json"));
        assert_eq!(text(&checkpoint, "begun_by"), begun_by);
    }
    std::fs::remove_dir_all(stage.path(".whimbrel")).unwrap();
    stage.run(&["run", "job.yaml", "--resume"]).expect(1);
    repaired().write(&stage);
    // The run that went by the sink is itself gone on with.
    stage.run(&["resume"]).expect(0);
    assert_eq!(committed(&stage)["records"], 100, "each once");
    let listed = runs(&stage);
    let ids = (text(&listed[1], "resumes"), text(&listed[0], "resumes"));
    assert_eq!(ids, ("", text(&listed[1], "id")));
    let shown = stage.run(&["runs"]).expect(0).out;
    assert!(shown.contains("what the sink has"), "{shown}");
}

#[test]
fn a_changed_job_is_refused_with_the_difference_unless_that_is_accepted() {
    let stage = failing().stage();
    failed_run(&stage, &[]);
    let before = committed(&stage)["records"];
    let rules = json!([{ "source": "records", "key": ["id"] }]);
    repaired().set("/collections", rules).write(&stage);
    let error = stage.run(&["resume", "--json"]).expect(2).error();
    assert!(text(&error, "code").starts_with("resume."), "{error}");
    assert!(text(&error, "message").contains("collections"), "{error}");
    assert!(text(&error, "help").contains("--accept-changes"), "{error}");
    assert_eq!(committed(&stage)["records"], before, "nothing was written");
    stage.run(&["resume", "--accept-changes"]).expect(0);
    assert_eq!(committed(&stage)["records"], 100, "each once");
}

#[test]
fn a_sink_that_was_restored_is_noticed_and_gone_on_with_if_that_is_accepted() {
    let stage = failing().stage();
    failed_run(&stage, &[]);
    let files = ["lanes.ndjson", COMMITTED];
    let saved = files.map(|file| std::fs::read(stage.path(file)).unwrap());
    stage.run(&["resume"]).expect(1);
    for (file, content) in files.iter().zip(&saved) {
        stage.write(file, content);
    }
    let answer = stage.run(&["resume", "--json"]).expect(2);
    let error = answer.error();
    assert!(text(&error, "code").starts_with("resume."), "{error}");
    assert!(text(&error, "help").contains("--accept-sink-cursor"), "{error}");
    assert_eq!(committed(&stage)["records"], 20, "nothing was written");
    // It fails once more, and what it has made durable is less than was seen before the sink was restored.
    stage.run(&["resume", "--accept-sink-cursor"]).expect(1);
    repaired().write(&stage);
    stage.run(&["resume"]).expect(0);
    assert_eq!(committed(&stage)["records"], 100, "each once");
}

/// What Python's own SQLite says of the state.
fn sqlite(stage: &Stage, statement: &str) -> String {
    crate::migration::sql(&stage.path(".whimbrel/state.db"), statement)
}

#[test]
fn a_job_file_that_is_another_job_now_is_refused() {
    let stage = failing().stage();
    let id = failed_run(&stage, &[]);
    repaired().set("/name", json!("other")).write(&stage);
    let error = refused(stage.run(&["resume", &id, "--json"]), "resume.other_job", 2);
    assert!(text(&error, "message").contains("`other`"), "{error}");
    std::fs::rename(stage.path("job.yaml"), stage.path("moved.yaml")).unwrap();
    refused(stage.run(&["resume", "--json"]), "config.file_missing", 2);
    refused(
        stage.run(&["resume", &id, "--job", "moved.yaml", "--json"]),
        "resume.other_job",
        2,
    );
    assert_eq!(runs(&stage).len(), 1);
}

#[test]
fn h1_a_checkpoint_file_that_is_not_as_it_was_written_is_refused_before_anything_is_touched() {
    let stage = failing().stage();
    let id = failed_run(&stage, &[]);
    let whole = std::fs::read(latest_run(&stage, ".whimbrel").join("migration-checkpoint.json")).unwrap();
    let calls_before = lines(&stage.path(SINK_CALLS)).len();
    let try_with = |content: &[u8]| {
        stage.write("checkpoint.json", content);
        let answer = stage.run(&["resume", &id, "--checkpoint-file", "checkpoint.json", "--json"]);
        answer.error()["code"].as_str().unwrap_or("none").to_owned()
    };
    // Every place is gone through by the unit test; here it is the program that refuses.
    let step = whole.len() / 12;
    for place in (0..whole.len()).step_by(step) {
        let mut flipped = whole.clone();
        flipped[place] ^= 1 << (place % 8);
        assert_eq!(try_with(&flipped), "checkpoint.damaged", "octet {place}");
        assert_eq!(try_with(&whole[..place]), "checkpoint.damaged", "cut to {place}");
    }
    assert_eq!(
        try_with(b"{\"format\": 1, \"run_id\": \"r\"}"),
        "checkpoint.format"
    );
    let gone = stage.run(&["resume", &id, "--checkpoint-file", "gone.json", "--json"]);
    refused(gone, "checkpoint.unreadable", 2);
    let of_run = stage.run(&[
        "run",
        "job.yaml",
        "--resume",
        "--checkpoint-file",
        "gone.json",
        "--json",
    ]);
    refused(of_run, "checkpoint.unreadable", 2);
    assert_eq!(runs(&stage).len(), 1, "no run was begun");
    assert_eq!(
        lines(&stage.path(SINK_CALLS)).len(),
        calls_before,
        "the sink was not asked"
    );
}

#[test]
fn a_checkpoint_file_of_another_run_or_job_is_refused() {
    let stage = failing().stage();
    failed_run(&stage, &[]);
    let first = latest_run(&stage, ".whimbrel").join("migration-checkpoint.json");
    std::fs::copy(first, stage.path("first.json")).unwrap();
    let second = failed_run(&stage, &[]);
    let answer = stage.run(&["resume", &second, "--checkpoint-file", "first.json", "--json"]);
    refused(answer, "checkpoint.other_run", 2);
    failing().set("/name", json!("other")).write(&stage);
    failed_run(&stage, &[]);
    let answer = stage.run(&["resume", "--checkpoint-file", "first.json", "--json"]);
    let error = refused(answer, "checkpoint.other_run", 2);
    assert!(text(&error, "message").contains("`scripted`"), "{error}");
    let lost = Stage::new();
    failing().set("/name", json!("other")).write(&lost);
    lost.write("first.json", std::fs::read(stage.path("first.json")).unwrap());
    let answer = lost.run(&[
        "run",
        "job.yaml",
        "--resume",
        "--checkpoint-file",
        "first.json",
        "--json",
    ]);
    refused(answer, "checkpoint.other_run", 2);
    assert_eq!(lines(&lost.path(SINK_CALLS)).len(), 0, "the sink was not asked");
}

#[test]
fn k8_a_damaged_state_is_refused_and_says_how_to_go_on_by_the_sink() {
    let stage = failing().stage();
    failed_run(&stage, &[]);
    let state = stage.path(".whimbrel/state.db");
    let whole = std::fs::read(&state).unwrap();
    std::fs::write(&state, &whole[..whole.len() / 2]).unwrap();
    for arguments in [
        &["resume"][..],
        &["run", "job.yaml", "--resume"],
        &["run", "job.yaml"],
    ] {
        let answer = stage.run(&[arguments, &["--json"]].concat());
        let error = refused(answer, "state.damaged", 3);
        assert!(
            text(&error, "help").contains("whimbrel run JOB --resume"),
            "{error}"
        );
    }
    assert_eq!(
        std::fs::read(&state).unwrap(),
        whole[..whole.len() / 2],
        "left as it is"
    );
}

#[test]
fn flags_that_belong_to_resuming_need_it() {
    let stage = repaired().stage();
    for flags in [
        &["--accept-changes"][..],
        &["--accept-sink-cursor"],
        &["--checkpoint-file", "x"],
        &["--resume", "--dry-run"],
        &["--resume", "--validate-only"],
    ] {
        stage.run(&[&["run", "job.yaml"], flags].concat()).expect(2);
    }
    assert!(!stage.path(COMMITTED).exists());
    assert!(calls(&stage, SINK_CALLS, "open").is_empty());
}

/// A job of databases in files, of which the source is what a variable says; a copy of it that was killed.
fn killed_copy() -> Stage {
    let stage = Stage::new();
    let fill = "INSERT INTO things WITH RECURSIVE n(id) AS (SELECT 1 UNION ALL SELECT id + 1 FROM n WHERE id < 500) \
                SELECT id, 'thing ' || id FROM n";
    for database in ["from.db", "other.db"] {
        for statement in ["CREATE TABLE things (id INTEGER PRIMARY KEY, name TEXT)", fill] {
            sql(&stage.path(database), statement);
        }
    }
    let job = json!({
        "name": "killed",
        "source": { "plugin": "turso", "config": { "url": "${env:FROM}" } },
        "sink": { "plugin": "turso", "config": { "url": "file:into.db" } },
        "import": { "batch_size": 50, "checkpoint_interval": 50, "checkpoint_interval_ms": 0 },
        "limits": { "batch_records": 50, "partitions_parallel": 1 },
        "verification": "none",
    });
    stage.write("job.yaml", job.to_string());
    let killed = stage.run_with(
        &["run", "job.yaml", "--json"],
        &[
            ("FROM", "file:from.db"),
            ("WHIMBREL_CRASH_AT", "committed:4"),
            ("WHIMBREL_CRASH_ALL", "1"),
        ],
    );
    assert_ne!(killed.code, 0, "it was killed: {}", killed.err);
    stage
}

#[test]
fn a_copy_is_not_gone_on_with_from_another_database_behind_the_same_reference() {
    let stage = killed_copy();
    let error = refused(
        stage.run_with(&["resume", "--json"], &[("FROM", "file:other.db")]),
        "resume.changed",
        2,
    );
    assert!(text(&error, "message").contains("source system was"), "{error}");
    stage
        .run_with(&["resume", "--json"], &[("FROM", "file:from.db")])
        .expect(0);
}
