//! What an operator does with a job: names environments and parameters, chooses collections, decides conflicts, lets hooks
//! run, counts and clears. As a person would, by the built program, and looked at with Python's own SQLite.

use serde_json::{Value, json};

use crate::migration::sql;
use crate::program::Stage;
use crate::running::{Running, latest_run};
use crate::scripted_job::{SINK_CALLS, ScriptedJob, calls, committed, misbehave};

fn database(file: &str) -> Value {
    json!({ "plugin": "turso", "config": { "url": format!("file:{file}") } })
}

/// A database that is made by others.
fn make(stage: &Stage, file: &str, statements: &[&str]) {
    for statement in statements {
        sql(&stage.path(file), statement);
    }
}

fn codes(report: &Value) -> Vec<&str> {
    let errors = report["errors"].as_array().unwrap();
    errors
        .iter()
        .map(|error| error["code"].as_str().unwrap())
        .collect()
}

#[test]
fn a_staging_copy_is_made_between_two_environments_by_name() {
    let stage = Stage::new();
    let settings = json!({ "environments": {
        "production": database("production.db"),
        "staging": database("staging.db"),
    } });
    stage.write("whimbrel.yaml", settings.to_string());
    let job = json!({ "name": "copy", "source": { "environment": "staging" }, "sink": { "environment": "production" } });
    stage.write("job.yaml", job.to_string());
    make(
        &stage,
        "production.db",
        &[
            "CREATE TABLE people (id INTEGER PRIMARY KEY, name TEXT NOT NULL)",
            "CREATE TABLE posts (id INTEGER PRIMARY KEY, person INTEGER REFERENCES people(id), body TEXT)",
            "INSERT INTO people VALUES (1, 'Ann'), (2, 'Bo')",
            "INSERT INTO posts VALUES (10, 1, 'first'), (11, 2, NULL)",
        ],
    );
    let before = std::fs::read(stage.path("production.db")).unwrap();
    // The flags choose the other way round than the job, which would write into production.
    let report = stage
        .run(&[
            "run",
            "job.yaml",
            "--source",
            "production",
            "--sink",
            "staging",
            "--json",
        ])
        .expect(0)
        .json();
    assert_eq!(report["verification"].as_array().unwrap().len(), 2);
    assert_eq!(std::fs::read(stage.path("production.db")).unwrap(), before);
    for table in ["people", "posts"] {
        let all = format!("SELECT * FROM {table} ORDER BY id");
        assert_eq!(
            sql(&stage.path("staging.db"), &all),
            sql(&stage.path("production.db"), &all)
        );
    }
    let unknown = stage
        .run(&["run", "job.yaml", "--target", "stagging", "--json"])
        .expect(2);
    let error = unknown.error();
    assert_eq!(error["code"], "config.unknown_environment");
    assert!(
        error["message"].as_str().unwrap().contains("production, staging"),
        "{error}"
    );
    assert!(error["help"].as_str().unwrap().contains("`staging`"), "{error}");
}

#[test]
fn a_job_runs_for_each_user_by_its_parameter() {
    let stage = Stage::new();
    let job = json!({
        "name": "per-user",
        "parameters": { "user": { "pattern": "[0-9]+" }, "table": { "default": "notes" } },
        "source": { "plugin": "files", "config": { "path": "users/${param:user}.ndjson" } },
        "sink": database("user-${param:user}.db"),
        "collections": [{ "source": "${param:user}", "sink": "${param:table}", "key": ["id"] }],
    });
    stage.write("job.yaml", job.to_string());
    std::fs::create_dir(stage.path("users")).unwrap();
    for (user, count) in [(42, 3), (7, 5)] {
        let lines: String = (0..count).map(|id| format!("{{\"id\":{id}}}\n")).collect();
        stage.write(&format!("users/{user}.ndjson"), lines);
    }
    stage.run(&["run", "job.yaml", "--set", "user=42"]).expect(0);
    stage
        .run(&["run", "job.yaml", "--set", "user=7", "--set", "table=others"])
        .expect(0);
    assert_eq!(
        sql(&stage.path("user-42.db"), "SELECT count(*) FROM notes"),
        "[(3,)]"
    );
    assert_eq!(
        sql(&stage.path("user-7.db"), "SELECT count(*) FROM others"),
        "[(5,)]"
    );
    for (flags, code) in [
        (&[][..], "config.missing_parameter"),
        (&["--set", "user=ann"], "config.bad_parameter"),
        (&["--set", "user=7", "--set", "usr=1"], "config.unknown_parameter"),
    ] {
        let refused = stage
            .run(&[&["run", "job.yaml", "--json"], flags].concat())
            .expect(2);
        assert_eq!(refused.error()["code"], code, "{flags:?}");
    }
}

#[test]
fn collections_are_chosen_by_patterns_and_cut_to_samples() {
    let job = ScriptedJob::new()
        .source("collections", json!(["user", "user_old", "post", "post_draft"]))
        .source("records", json!(250));
    let arrived = |arguments: &[&str]| {
        let stage = job.stage();
        stage.run(&[&["run", "job.yaml"], arguments].concat()).expect(0);
        committed(&stage).into_iter().collect::<Vec<_>>()
    };
    let of = |names: &[&str], count: usize| {
        names
            .iter()
            .map(|name| ((*name).to_owned(), count))
            .collect::<Vec<_>>()
    };
    assert_eq!(arrived(&["--include", "user*"]), of(&["user", "user_old"], 250));
    assert_eq!(arrived(&["--exclude", "*_*"]), of(&["post", "user"], 250));
    assert_eq!(
        arrived(&["--include", "post*", "--include", "user", "--exclude", "*draft"]),
        of(&["post", "user"], 250)
    );
    // A sample has a hundred records of each collection unless the job says otherwise.
    assert_eq!(
        arrived(&["--mode", "test", "--include", "post"]),
        of(&["post"], 100)
    );
    let stage = job.stage();
    let none = stage
        .run(&["run", "job.yaml", "--include", "nobody*", "--json"])
        .expect(2);
    assert_eq!(none.error()["code"], "plan.nothing_to_copy");
    assert!(none.error()["message"].as_str().unwrap().contains("post_draft"));
}

#[test]
fn a_record_that_is_there_already_is_treated_as_the_policy_says() {
    let expected = [
        ("skip", 0, "[(1, 'old', 'kept'), (2, 'new', 'n')]"),
        ("overwrite", 0, "[(1, 'new', None), (2, 'new', 'n')]"),
        ("merge", 0, "[(1, 'new', 'kept'), (2, 'new', 'n')]"),
        ("fail", 1, "[(1, 'old', 'kept')]"),
        ("keep-newest", 2, "[(1, 'old', 'kept')]"),
    ];
    for (policy, exit, rows) in expected {
        let stage = Stage::new();
        stage.write(
            "people.ndjson",
            "{\"id\":1,\"name\":\"new\"}\n{\"id\":2,\"name\":\"new\",\"note\":\"n\"}\n",
        );
        let job = json!({
            "name": "conflict",
            "source": { "plugin": "files", "config": { "path": "people.ndjson" } },
            "sink": database("app.db"),
            "collections": [{ "source": "people", "key": ["id"] }],
            // What is there after a merge is on neither side.
            "verification": "none",
        });
        stage.write("job.yaml", job.to_string());
        make(
            &stage,
            "app.db",
            &[
                "CREATE TABLE people (id INTEGER PRIMARY KEY, name TEXT, note TEXT)",
                "INSERT INTO people VALUES (1, 'old', 'kept')",
            ],
        );
        let report = stage
            .run(&["run", "job.yaml", "--on-conflict", policy, "--json"])
            .expect(exit)
            .json();
        assert_eq!(
            sql(&stage.path("app.db"), "SELECT id, name, note FROM people"),
            rows,
            "{policy}"
        );
        match policy {
            "fail" => assert_eq!(codes(&report), ["run.too_many_rejected"]),
            "keep-newest" => {
                assert_eq!(codes(&report), ["plan.policy_unsupported"]);
                let message = report["errors"][0]["message"].as_str().unwrap();
                assert!(
                    message.contains("overwrite") && message.contains("skip"),
                    "{message}"
                );
            }
            "skip" => assert_eq!(report["collections"][0]["skipped_count"], 1),
            _ => {}
        }
    }
}

#[test]
fn a_collection_that_fails_does_not_keep_the_others_back_if_the_job_says_so() {
    // One stream and one session at a time, so the first write is one of the first collection.
    let limits = json!({ "collections_parallel": 1, "partitions_parallel": 1, "connection_pool_size": 1 });
    let job = ScriptedJob::new()
        .source("collections", json!(["a", "b", "c"]))
        .set("/limits", limits)
        .sink("misbehave", misbehave("write", 1, 1, "error"));
    let stage = job.stage();
    let end = Running::start(&stage, &["--continue-on-error"])
        .finish()
        .expect(1);
    let counts: Vec<_> = committed(&stage).into_iter().collect();
    assert_eq!(counts, [("b".to_owned(), 100), ("c".to_owned(), 100)]);
    let failed = end.named("collection_failed");
    assert_eq!(failed.len(), 1);
    assert_eq!(
        (&failed[0]["collection"], &failed[0]["failure"]["code"]),
        (&json!("a"), &json!("scripted.error"))
    );
    let report = end.report();
    assert_eq!(report["outcome"], "failed");
    let message = report["errors"][0]["message"].as_str().unwrap();
    assert!(message.contains("1 of the collections failed (`a`)"), "{message}");
    let complete: Vec<&Value> = report["collections"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| &one["complete"])
        .collect();
    assert_eq!(complete, [false, true, true]);
    let stage = job.stage();
    let text = stage.run(&["run", "job.yaml", "--continue-on-error"]).expect(1);
    assert!(text.err.contains("`a`"), "{}", text.err);

    let stage = job.stage();
    stage.run(&["run", "job.yaml"]).expect(1);
    assert!(
        !committed(&stage).contains_key("c"),
        "without the flag the first failure ends the run"
    );
}

fn shell(script: &str) -> Value {
    json!({ "command": { "run": ["sh", "-ec", script] } })
}

#[test]
fn hooks_run_before_and_after_and_know_the_run() {
    let told = "echo $WHIMBREL_JOB $WHIMBREL_OUTCOME $WHIMBREL_EXIT_CODE $WHIMBREL_RUN_ID >> told";
    let env_file = json!({ "env_file": { "path": "app.env", "set": { "DATABASE": "new", "MODE": "a b" } } });
    let job = ScriptedJob::new()
        .set(
            "/hooks/before",
            json!([shell(
                "test ! -e committed.ndjson; echo before >> told; echo ready"
            )]),
        )
        .set("/hooks/after_success", json!([env_file, shell(told)]))
        .set("/hooks/after_failure", json!([shell(told)]));
    let stage = job.stage();
    stage.write("app.env", "# settings\nDATABASE=old\nOTHER=1\n");
    let end = Running::start(&stage, &[]).finish().expect(0);
    let run_id = end.events[0]["run_id"].as_str().unwrap();
    let lines = std::fs::read_to_string(stage.path("told")).unwrap();
    assert_eq!(lines, format!("before\nscripted done 0 {run_id}\n"));
    assert_eq!(
        std::fs::read_to_string(stage.path("app.env")).unwrap(),
        "# settings\nDATABASE=new\nOTHER=1\nMODE=\"a b\"\n"
    );
    let hooks = end.named("hook_ended");
    assert!(
        hooks.len() == 3 && hooks.iter().all(|hook| hook["ok"] == true),
        "{hooks:?}"
    );
    assert_eq!(hooks[0]["message"], "ready");

    let stage = job.sink("misbehave", misbehave("write", 1, 0, "error")).stage();
    stage.run(&["run", "job.yaml"]).expect(1);
    let lines = std::fs::read_to_string(stage.path("told")).unwrap();
    assert!(lines.starts_with("before\nscripted failed 1 "), "{lines}");
    assert!(
        !stage.path("app.env").exists(),
        "what follows a success has not happened"
    );
}

#[test]
fn a_hook_that_fails_before_a_run_keeps_it_from_writing_and_later_ones_are_reported() {
    let stage = ScriptedJob::new()
        .set("/hooks/before", json!([shell("echo no disk >&2; exit 3")]))
        .stage();
    let end = Running::start(&stage, &[]).finish().expect(3);
    assert_eq!(codes(end.report()), ["hook.failed"]);
    // A worker that nobody tells to end is killed after a while, and has no last word.
    assert_eq!(end.named("finished").len(), 1, "{:?}", end.events);
    assert!(calls(&stage, SINK_CALLS, "begin").is_empty());
    assert!(
        calls(&stage, SINK_CALLS, "prepare")
            .iter()
            .all(|about| about["dry"] == true)
    );
    let log = std::fs::read_to_string(latest_run(&stage, ".whimbrel").join("migration-log.json")).unwrap();
    assert!(log.contains("no disk"), "what it printed is in the log: {log}");

    let stage = ScriptedJob::new()
        .set(
            "/hooks/after_success",
            json!([shell("exit 1"), shell("touch next")]),
        )
        .stage();
    let report = stage.run(&["run", "job.yaml", "--json"]).expect(0).json();
    assert_eq!(codes(&report), ["hook.failed"]);
    assert!(stage.path("next").exists(), "the hooks after it run all the same");
    // Nothing is written by a dry run, so nothing is to be prepared for it.
    let stage = ScriptedJob::new()
        .set("/hooks/before", json!([shell("touch before")]))
        .stage();
    stage.run(&["run", "job.yaml", "--dry-run"]).expect(0);
    assert!(!stage.path("before").exists());
}

#[test]
fn h3_one_run_of_a_job_at_a_time() {
    let hanging = ScriptedJob::new().source("misbehave", misbehave("next", 2, 0, "hang"));
    let stage = hanging.stage();
    let mut running = Running::start(&stage, &[]);
    running.until(|event| event["event"] == "phase_started" && event["phase"] == "import");
    let run_id = running.events[0]["run_id"].as_str().unwrap().to_owned();
    let refused = stage.run(&["run", "job.yaml", "--json"]).expect(3);
    assert_eq!(refused.error()["code"], "run.already_running");
    assert!(
        refused.error()["message"].as_str().unwrap().contains(&run_id),
        "{}",
        refused.out
    );
    let text = stage.run(&["run", "job.yaml"]).expect(3);
    assert!(
        text.err.contains(&run_id) && text.err.contains("code: run.already_running"),
        "{}",
        text.err
    );
    let told = stage.run(&["status", "--json"]).expect(0).json();
    assert_eq!(
        (&told["run"]["state"], &told["run"]["id"]),
        (&json!("running"), &json!(run_id))
    );
    // Another job is another matter, and so is what writes nothing.
    ScriptedJob::new().set("/name", json!("other")).write(&stage);
    stage.run(&["run", "job.yaml"]).expect(0);
    ScriptedJob::new().write(&stage);
    stage.run(&["run", "job.yaml", "--dry-run"]).expect(0);
    stage.run(&["plan", "job.yaml"]).expect(0);
    running.kill();
    stage.run(&["run", "job.yaml"]).expect(0);
}

#[test]
fn a_run_that_is_refused_leaves_the_events_of_the_one_that_goes_on() {
    let hanging = ScriptedJob::new().source("misbehave", misbehave("next", 2, 0, "hang"));
    let stage = hanging.stage();
    let arguments = ["--events-file", "events.ndjson"];
    let mut running = Running::start(&stage, &arguments);
    running.until(|event| event["event"] == "phase_started" && event["phase"] == "import");
    let told = || std::fs::read_to_string(stage.path("events.ndjson")).unwrap();
    let before = told();
    assert!(before.contains("\"phase\":\"import\""), "{before}");
    let refused = stage.run(&[&["run", "job.yaml", "--json"], arguments.as_slice()].concat());
    assert_eq!(refused.expect(3).error()["code"], "run.already_running");
    let after = told();
    assert!(after.starts_with(&before), "{after}");
    running.kill();

    // A file that cannot be made ends a run that has been claimed by then.
    ScriptedJob::new().write(&stage);
    let arguments = [
        "run",
        "job.yaml",
        "--json",
        "--events-file",
        "no/such/events.ndjson",
    ];
    assert_eq!(stage.run(&arguments).expect(2).error()["code"], "cli.events_file");
    let told = stage.run(&["status", "--json"]).expect(0).json();
    assert_eq!(
        (&told["run"]["state"], &told["run"]["exit_code"]),
        (&json!("refused"), &json!(2)),
        "{told}"
    );
    stage.run(&["run", "job.yaml"]).expect(0);
}

#[test]
fn stats_count_both_sides_and_clear_empties_children_first() {
    let job = ScriptedJob::new()
        .source("collections", json!(["parent", "child", "grandchild"]))
        .source("references", json!({ "child": "parent", "grandchild": "child" }))
        .into_database("app.db");
    let stage = job.stage();
    let counts = |stage: &Stage| -> Vec<(Value, Value, Value)> {
        let report = stage.run(&["stats", "job.yaml", "--json"]).expect(0).json();
        let stats = report["stats"].as_array().unwrap().iter();
        stats
            .map(|one| {
                (
                    one["source_count"].clone(),
                    one["sink_count"].clone(),
                    one["in_step"].clone(),
                )
            })
            .collect()
    };
    assert_eq!(counts(&stage), vec![(json!(100), Value::Null, json!(false)); 3]);
    stage.run(&["run", "job.yaml"]).expect(0);
    assert_eq!(counts(&stage), vec![(json!(100), json!(100), json!(true)); 3]);
    sql(&stage.path("app.db"), "DELETE FROM grandchild WHERE id < 40");
    assert_eq!(counts(&stage)[2], (json!(100), json!(60), json!(false)));
    let text = stage.run(&["stats", "job.yaml"]).expect(0);
    assert!(
        text.out.contains("grandchild") && text.out.contains("60"),
        "{}",
        text.out
    );

    // Nobody can be asked here, so nothing goes.
    let refused = stage.run(&["clear", "job.yaml", "--json"]).expect(2);
    assert_eq!(refused.error()["code"], "cli.confirmation_needed");
    assert!(refused.error()["help"].as_str().unwrap().contains("--yes"));
    assert_eq!(counts(&stage)[0].1, json!(100));
    sql(&stage.path("app.db"), "CREATE TABLE bystander (id INTEGER)");
    sql(&stage.path("app.db"), "INSERT INTO bystander VALUES (1)");
    let report = stage
        .run(&["clear", "job.yaml", "--yes", "--json"])
        .expect(0)
        .json();
    let cleared: Vec<(&str, u64)> = report["cleared"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| {
            (
                one["collection"].as_str().unwrap(),
                one["removed_count"].as_u64().unwrap(),
            )
        })
        .collect();
    assert_eq!(cleared, [("grandchild", 60), ("child", 100), ("parent", 100)]);
    assert_eq!(counts(&stage), vec![(json!(100), json!(0), json!(false)); 3]);
    assert_eq!(
        sql(&stage.path("app.db"), "SELECT count(*) FROM bystander"),
        "[(1,)]"
    );
    let only = stage
        .run(&["clear", "job.yaml", "--yes", "--include", "child", "--json"])
        .expect(0)
        .json();
    assert_eq!(only["cleared"].as_array().unwrap().len(), 1);
}
