//! `whimbrel verify`: its flags, its folders, two at once, after a kill, and again and again.
//! By the built program, as a person uses it; repairs are in `repair`.

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::migration::sql;
use crate::program::{Answer, Stage};
use crate::running::{Running, json_file};

/// Records of the larger collection.
const RECORDS: u64 = 2_000;

/// A job of two collections that was run.
fn stage_with(records: u64, verification: &str) -> Stage {
    let stage = Stage::new();
    std::fs::create_dir(stage.path("in")).unwrap();
    let lines = |count: u64| -> String {
        (1..=count)
            .map(|id| format!("{{\"id\":{id},\"name\":\"n {id}\"}}\n"))
            .collect()
    };
    stage.write("in/people.ndjson", lines(records));
    stage.write("in/places.ndjson", lines(10));
    let job = json!({
        "name": "verified",
        "source": { "plugin": "files", "config": { "path": "in" } },
        "sink": { "plugin": "turso", "config": { "url": "file:app.db" } },
        "collections": [{ "source": "people", "key": ["id"] }, { "source": "places", "key": ["id"] }],
        "verification": verification,
    });
    stage.write("job.yaml", job.to_string());
    stage.run(&["run", "job.yaml", "--json"]).expect(0);
    stage
}

fn stage() -> Stage {
    stage_with(RECORDS, "none")
}

fn verify(stage: &Stage, arguments: &[&str]) -> Answer {
    stage.run(&[&["verify", "job.yaml", "--json"], arguments].concat())
}

fn change(stage: &Stage, statement: &str) {
    sql(&stage.path("app.db"), statement);
}

/// Level and comparison of each collection.
fn seen(report: &Value) -> Vec<(String, String, String)> {
    let text = |result: &Value, key: &str| result[key].as_str().unwrap().to_owned();
    let results = report["verification"].as_array().unwrap().iter();
    results
        .map(|result| {
            (
                text(result, "source"),
                text(result, "level"),
                text(result, "comparison"),
            )
        })
        .collect()
}

fn codes(report: &Value) -> Vec<&str> {
    let findings = report["findings"].as_array().unwrap().iter();
    findings.filter_map(|finding| finding["code"].as_str()).collect()
}

#[test]
fn a_verification_has_a_folder_of_its_own_with_its_report() {
    let stage = stage();
    let report = verify(&stage, &[]).expect(0).json();
    let all = stage.verifications();
    assert_eq!(all.len(), 1);
    let kept = json_file(&all[0].join("verification-report.json"));
    assert_eq!(kept, report);
    let result = json_file(&all[0].join("verification-results/people.json"));
    assert_eq!(result["source_count"], RECORDS);
    let mode = |path: &PathBuf| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&all[0]), 0o700);
    assert_eq!(mode(&all[0].join("verification-report.json")), 0o600);
    verify(&stage, &[]).expect(0);
    assert_eq!(stage.verifications().len(), 2);
    assert!(
        !stage.path(".whimbrel/verification/verified/verify").exists(),
        "nothing is left to go on with"
    );
}

#[test]
fn the_level_is_the_flags_or_the_jobs_and_standard_for_a_job_without() {
    let level = |stage: &Stage, flags: &[&str]| seen(&verify(stage, flags).expect(0).json())[0].1.clone();
    let stage = stage();
    assert_eq!(level(&stage, &[]), "standard");
    assert_eq!(level(&stage, &["--no-auto-verification"]), "standard");
    for named in ["basic", "standard", "comprehensive"] {
        assert_eq!(level(&stage, &["--verification-level", named]), named);
    }
    let refused = verify(&stage, &["--verification-level", "thorough"]).expect(2);
    assert_eq!(refused.error()["code"], "config.bad_value", "{}", refused.out);
}

/// What `verify` says of `people` at the level `basic`.
#[track_caller]
fn basic(stage: &Stage, code: i32) -> Value {
    let report = verify(stage, &["--verification-level", "basic"])
        .expect(code)
        .json();
    report["verification"][0].clone()
}

#[test]
fn the_level_basic_compares_ten_records_by_their_keys() {
    let stage = stage();
    let equal = basic(&stage, 0);
    assert_eq!(
        (&equal["compared_count"], &equal["every_record"]),
        (&json!(10), &json!(false))
    );
    for (statement, mismatch) in [
        (
            "UPDATE people SET name = 'x' WHERE id = 3",
            json!({ "kind": "different", "record": "id=3", "fields": ["name"] }),
        ),
        // As many as before.
        (
            "UPDATE people SET id = 99999 WHERE id = 5",
            json!({ "kind": "missing", "record": "id=5" }),
        ),
    ] {
        let before = std::fs::read(stage.path("app.db")).unwrap();
        change(&stage, statement);
        let result = basic(&stage, 4);
        assert_eq!(result["mismatches"], json!([mismatch]), "{result}");
        std::fs::write(stage.path("app.db"), before).unwrap();
    }
    // Further on nobody looks.
    change(&stage, "UPDATE people SET name = 'x' WHERE id = 500");
    basic(&stage, 0);
}

#[test]
fn a_sink_that_cannot_be_asked_for_a_record_is_read_for_the_ten() {
    let stage = Stage::new();
    std::fs::create_dir(stage.path("in")).unwrap();
    let lines = |name: &str| -> String {
        (1..=40)
            .map(|id| format!("{{\"id\":{id},\"name\":\"{name} {id}\"}}\n"))
            .collect()
    };
    stage.write("in/people.ndjson", lines("n"));
    let job = json!({
        "name": "verified",
        "source": { "plugin": "files", "config": { "path": "in" } },
        "sink": { "plugin": "files", "config": { "path": "out" } },
        "collections": [{ "source": "people", "key": ["id"] }],
        "verification": "basic",
    });
    stage.write("job.yaml", job.to_string());
    let report = stage.run(&["run", "job.yaml", "--json"]).expect(0).json();
    assert_eq!(report["verification"][0]["compared_count"], 10, "{report}");
    stage.write("in/people.ndjson", lines("m"));
    let result = basic(&stage, 4);
    assert_eq!(result["mismatch_count"], 10, "{result}");
}

#[test]
fn only_the_named_collections_are_compared() {
    let stage = stage();
    change(&stage, "DELETE FROM places WHERE id = 3");
    let equal = |name: &str| (name.to_owned(), "standard".to_owned(), "equal".to_owned());
    let report = verify(&stage, &["--collection", "people"]).expect(0).json();
    assert_eq!(seen(&report), [equal("people")]);
    let report = verify(&stage, &["--collection", "people", "--collection", "places"])
        .expect(4)
        .json();
    assert_eq!(seen(&report).len(), 2);
    let refused = verify(&stage, &["--collection", "poeple"]).expect(2).json();
    let error = &refused["errors"][0]["error"];
    let error = if error.is_null() {
        &refused["errors"][0]
    } else {
        error
    };
    assert_eq!(error["code"], "verification.unknown_collection", "{refused}");
    assert!(
        error["help"].as_str().unwrap().contains("people, places"),
        "{error}"
    );
}

#[test]
fn values_are_listed_if_they_are_asked_for_and_only_then() {
    let stage = stage();
    change(&stage, "UPDATE people SET name = 'other' WHERE id = 5");
    for (flags, shows) in [(&[][..], false), (&["--show-values"][..], true)] {
        let flags = [&["--verification-level", "comprehensive"], flags].concat();
        let answer = verify(&stage, &flags).expect(4);
        let report = answer.json();
        assert_eq!(
            report["verification"][0]["mismatches"][0]["fields"],
            json!(["name"])
        );
        let newest = stage.verifications().pop().unwrap();
        let listed = newest.join("verification-results/people.ndjson");
        let mode = std::fs::metadata(&listed).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let listed = std::fs::read_to_string(listed).unwrap();
        for text in [&answer.out, &listed] {
            assert_eq!(text.contains("n 5") && text.contains("other"), shows, "{text}");
        }
        let line: Value = serde_json::from_str(listed.lines().next().unwrap()).unwrap();
        assert_eq!(line["key"], json!({ "id": 5 }));
    }
    // A run compares in the same way, in its own folder.
    let flags = [
        "--skip-phases",
        "extraction,transformation,import",
        "--verification-level",
        "comprehensive",
    ];
    let run = [&["run", "job.yaml", "--json", "--show-values"][..], &flags].concat();
    let report = stage.run(&run).expect(4).json();
    let values = &report["verification"][0]["mismatches"][0]["values"];
    assert_eq!(
        values,
        &json!([{ "field": "name", "source": "n 5", "sink": "other" }])
    );
    assert!(
        stage
            .path(".whimbrel/latest/verification-results/people.ndjson")
            .exists()
    );
}

#[test]
fn what_runs_have_rejected_is_left_out() {
    let stage = stage();
    change(&stage, "DROP TABLE people");
    change(
        &stage,
        "CREATE TABLE people (id INTEGER PRIMARY KEY, name TEXT CHECK (name <> 'n 7'))",
    );
    let report = stage
        .run(&["run", "job.yaml", "--json", "--max-errors", "5"])
        .expect(0)
        .json();
    assert_eq!(report["rejected_count"], 1);
    for level in ["standard", "comprehensive"] {
        let report = verify(&stage, &["--verification-level", level]).expect(0).json();
        assert_eq!(report["verification"][0]["left_out_count"], 1, "{level}");
    }
    change(&stage, "DELETE FROM people WHERE id IN (8, 9)");
    for level in ["standard", "comprehensive"] {
        let report = verify(&stage, &["--verification-level", level]).expect(4).json();
        let mismatches = report["verification"][0]["mismatches"].as_array().unwrap();
        let missing = mismatches.iter().filter(|one| one["kind"] == "missing");
        let records: Vec<&str> = missing.map(|one| one["record"].as_str().unwrap()).collect();
        assert_eq!(records, ["id=8", "id=9"], "{level}");
    }
    // One that was sent again and taken is compared like any other.
    change(&stage, "DROP TABLE people");
    change(&stage, "CREATE TABLE people (id INTEGER PRIMARY KEY, name TEXT)");
    stage.run(&["rejected", "replay", "--all", "--json"]).expect(0);
    let report = verify(&stage, &["--verification-level", "comprehensive"])
        .expect(4)
        .json();
    assert_eq!(report["verification"][0]["left_out_count"], 0);
    assert_eq!(report["verification"][0]["mismatch_count"], RECORDS - 1);
}

#[test]
fn a_second_verification_of_a_job_is_refused_while_one_goes_on() {
    let stage = stage();
    let command = stage.command(&["verify", "job.yaml", "--events", "json"]);
    let mut first = Running::spawn(command, stage.path("stderr.txt"));
    first.until(|event| event["event"] == "phase_started" && event["phase"] == "verification");
    first.signal(Signal::STOP);
    let refused = verify(&stage, &[]).expect(3);
    let error = refused.error();
    assert_eq!(error["code"], "verification.already_running");
    let pid = format!("process {}", first.pid().as_raw_nonzero());
    assert!(error["message"].as_str().unwrap().contains(&pid), "{error}");
    first.signal(Signal::CONT);
    let first = first.finish().expect(0);
    assert_eq!(first.report()["outcome"], "done");
    verify(&stage, &[]).expect(0);
    assert_eq!(
        stage.verifications().len(),
        2,
        "the refused one has left no folder"
    );
}

/// Kills a comprehensive verification that has noted how far it is.
fn killed_in_the_middle(stage: &Stage) {
    let arguments = ["verify", "job.yaml", "--verification-level", "comprehensive"];
    let variables = [
        ("WHIMBREL_CRASH_AT", "verification_marked"),
        ("WHIMBREL_CRASH_ALL", "1"),
    ];
    let killed = stage.run_with(&arguments, &variables);
    assert_eq!(killed.code, -1, "{}\n{}", killed.out, killed.err);
}

#[test]
fn a_killed_verification_is_gone_on_with_unless_told_otherwise() {
    const RECORDS: u64 = 30_000;
    let stage = stage_with(RECORDS, "none");
    let comprehensive = ["--verification-level", "comprehensive"];
    killed_in_the_middle(&stage);
    let report = verify(&stage, &comprehensive).expect(0).json();
    assert!(
        codes(&report).contains(&"verification.goes_on"),
        "{}",
        report["findings"]
    );
    assert_eq!(report["verification"][0]["compared_count"], RECORDS);
    killed_in_the_middle(&stage);
    let report = verify(&stage, &[&comprehensive[..], &["--anew"]].concat())
        .expect(0)
        .json();
    assert!(
        !codes(&report).contains(&"verification.goes_on"),
        "{}",
        report["findings"]
    );
    // What a run has written since is not in what was read before.
    killed_in_the_middle(&stage);
    change(&stage, "DELETE FROM people WHERE id = 29999");
    stage
        .run(&["run", "job.yaml", "--json", "--on-conflict", "overwrite"])
        .expect(0);
    let report = verify(&stage, &comprehensive).expect(0).json();
    assert!(
        codes(&report).contains(&"verification.begins_anew"),
        "{}",
        report["findings"]
    );
}

#[test]
fn a_working_folder_that_cannot_be_made_is_said_before_anything() {
    let stage = stage();
    stage.write("file", "");
    let refused = verify(&stage, &["--working-dir", "file/below"]).expect(3);
    assert_eq!(refused.error()["code"], "workspace.unwritable");
    let refused = refused.json();
    assert_eq!(refused["outcome"], "refused");
}

#[test]
fn flags_that_do_not_go_together_are_refused() {
    let stage = stage();
    for flags in [
        &["--yes"][..],
        &["--interval", "5"],
        &["--until-equal"],
        &["--watch", "--repair"],
        &["--watch", "--events", "json"],
        &["--watch", "--events-file", "events.ndjson"],
        &["--watch", "--interval", "0"],
        &["--watch", "--interval", "soon"],
        &["--collection"],
    ] {
        verify(&stage, flags).expect(2);
    }
    assert!(stage.verifications().is_empty());
}

#[test]
fn a_watch_sees_a_difference_vanish() {
    let stage = stage();
    change(&stage, "UPDATE people SET name = 'other' WHERE id = 5");
    let arguments = [
        "verify",
        "job.yaml",
        "--json",
        "--watch",
        "--interval",
        "1",
        "--until-equal",
    ];
    let mut watch = Running::spawn(stage.command(&arguments), stage.path("stderr.txt"));
    let pass = watch.until(|_| true);
    assert_eq!(
        (&pass["number"], &pass["outcome"]),
        (&json!(1), &json!("differences"))
    );
    assert_eq!(
        (&pass["mismatch_count"], &pass["equal_count"]),
        (&json!(1), &json!(1))
    );
    assert_eq!(pass["compared_count"], RECORDS + 10);
    // A source that is away for a moment does not end it.
    std::fs::rename(stage.path("in"), stage.path("away")).unwrap();
    let pass = watch.until(|pass| !pass["errors"].is_null());
    assert_eq!(pass["compared_count"], 0);
    std::fs::rename(stage.path("away"), stage.path("in")).unwrap();
    watch.until(|pass| pass["outcome"] == "differences");
    change(&stage, "UPDATE people SET name = 'n 5' WHERE id = 5");
    let pass = watch.until(|pass| pass["outcome"] == "done");
    assert_eq!(pass["equal_count"], 2);
    assert_eq!(watch.finish().code, 0);
    assert_eq!(
        stage.verifications().len(),
        1,
        "one folder for all of its comparisons"
    );
}

#[test]
fn a_pass_of_a_watch_that_is_refused_is_one_line_as_well() {
    let stage = stage();
    let arguments = ["verify", "job.yaml", "--json", "--watch", "--interval", "1"];
    let mut watch = Running::spawn(stage.command(&arguments), stage.path("stderr.txt"));
    watch.until(|pass| pass["outcome"] == "done");
    stage.write("job.yaml", "name: [");
    let refused = watch.until(|line| line["outcome"] == "refused");
    assert_eq!(
        (&refused["command"], &refused["exit_code"]),
        (&json!("verify"), &json!(2))
    );
    assert_eq!(watch.finish().code, 2);
}

#[test]
fn a_watch_goes_on_until_a_signal_ends_it() {
    let stage = stage();
    for (signal, code) in [(Signal::INT, 130), (Signal::TERM, 143)] {
        let arguments = ["verify", "job.yaml", "--json", "--watch", "--interval", "3600"];
        let mut watch = Running::spawn(stage.command(&arguments), stage.path("stderr.txt"));
        let pass = watch.until(|_| true);
        assert_eq!(pass["outcome"], "done");
        watch.signal(signal);
        assert_eq!(watch.finish().code, code);
    }
}

#[test]
fn what_the_source_cannot_deliver_is_no_equality_unless_the_copy_has_left_it_out() {
    let stage = Stage::new();
    std::fs::create_dir(stage.path("in")).unwrap();
    let lines = "{\"id\":1,\"name\":\"a\"}\n{\"id\":2,\"name\n{\"id\":3,\"name\":\"c\"}\n";
    stage.write("in/people.ndjson", lines);
    let job = json!({
        "name": "unreadable",
        "source": { "plugin": "files", "config": { "path": "in" } },
        "sink": { "plugin": "turso", "config": { "url": "file:app.db" } },
        "collections": [{ "source": "people", "key": ["id"] }],
        "import": { "max_errors": 1 },
    });
    stage.write("job.yaml", job.to_string());
    for level in ["basic", "standard", "comprehensive"] {
        let flags = ["--verification-level", level];
        // The run knows of the record, and so does whoever remembers the run.
        stage
            .run(&[&["run", "job.yaml", "--json"][..], &flags].concat())
            .expect(0);
        let report = verify(&stage, &flags).expect(0).json();
        assert_eq!(report["verification"][0]["source_unreadable_count"], 1, "{level}");
        assert!(
            report["verification"][0]["source_unchecked_count"].is_null(),
            "{level}"
        );
        let elsewhere = [&flags[..], &["--working-dir", level]].concat();
        let report = verify(&stage, &elsewhere).expect(5).json();
        assert_eq!(
            report["errors"][0]["code"], "verification.source_unreadable",
            "{report}"
        );
        let result = &report["verification"][0];
        assert_eq!(
            (&result["comparison"], &result["source_unchecked_count"]),
            (&json!("undecided"), &json!(1))
        );
        let shown = stage
            .run(&[&["verify", "job.yaml"][..], &elsewhere].concat())
            .expect(5)
            .out;
        assert!(
            shown.contains("1 record that the source could not deliver"),
            "{shown}"
        );
        assert!(shown.contains("1 unreadable in the source"), "{shown}");
    }
}

#[test]
fn what_a_transform_refuses_is_no_equality_unless_the_copy_has_left_it_out() {
    let stage = Stage::new();
    let amount = |id: u64| {
        if id == 3 {
            "three".to_owned()
        } else {
            id.to_string()
        }
    };
    let lines: String = (1..=20)
        .map(|id| format!("{{\"id\":{id},\"amount\":\"{}\"}}\n", amount(id)))
        .collect();
    stage.write("orders.ndjson", lines);
    let job = json!({
        "name": "refusing",
        "source": { "plugin": "files", "config": { "path": "orders.ndjson" } },
        "transforms": [{ "plugin": "reshape", "config": { "steps": [{ "cast": { "field": "amount", "to": "int64" } }] } }],
        "sink": { "plugin": "turso", "config": { "url": "file:app.db" } },
        "collections": [{ "source": "orders", "key": ["id"] }],
        "import": { "max_errors": 10 },
        "verification": "none",
    });
    stage.write("job.yaml", job.to_string());
    change(
        &stage,
        "CREATE TABLE orders (id INTEGER PRIMARY KEY, amount INTEGER CHECK (amount <> 5))",
    );
    let report = stage.run(&["run", "job.yaml", "--json"]).expect(0).json();
    assert_eq!(report["rejected_count"], 2, "{report}");
    let at = |level: &str, more: &[&str], code: i32| {
        let flags = [&["--verification-level", level][..], more].concat();
        verify(&stage, &flags).expect(code).json()
    };
    for level in ["basic", "standard", "comprehensive"] {
        let report = at(level, &[], 0);
        let result = &report["verification"][0];
        assert_eq!(
            (&result["source_unreadable_count"], &result["left_out_count"]),
            (&json!(1), &json!(1)),
            "{level}: {result}"
        );
    }
    // Beyond the ten that are compared: the refused one does not hide it.
    change(&stage, "DELETE FROM orders WHERE id = 19");
    for level in ["basic", "standard", "comprehensive"] {
        at(level, &[], 4);
    }
    change(&stage, "INSERT INTO orders VALUES (19, 19)");
    // Whoever does not remember the run does not know why the sink lacks the other one.
    stage.write(
        "orders.ndjson",
        "{\"id\":1,\"amount\":\"1\"}\n{\"id\":3,\"amount\":\"three\"}\n",
    );
    change(&stage, "DELETE FROM orders WHERE id > 1");
    for level in ["basic", "standard", "comprehensive"] {
        let report = at(level, &["--working-dir", level], 5);
        assert_eq!(
            report["errors"][0]["code"], "verification.source_unreadable",
            "{level}: {report}"
        );
    }
}
