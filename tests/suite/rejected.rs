//! Rejected records from their refusal to their end: kept before the commit that leaves them out, seen, corrected, sent again or discarded.
//! As a person would do it, by the built program, and looked at with Python's own SQLite. FAULTS D1.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::migration::sql;
use crate::postgres::servers;
use crate::postgres_job::database;
use crate::program::{Answer, Stage};
use crate::scripted_job::lines;

/// Records of the source.
const RECORDS: u64 = 1_000;
/// Each of these is one that the sink refuses.
const POISON_INTERVAL: u64 = 100;
/// The only one, where there is one.
const ONE_POISON: u64 = 500;

fn is_poison(id: u64) -> bool {
    id.is_multiple_of(POISON_INTERVAL)
}

/// A job into a table whose constraint refuses one record of a hundred.
fn stage(policy: &str) -> Stage {
    let stage = Stage::new();
    let people: String = (1..=RECORDS)
        .map(|id| {
            let age = if is_poison(id) { -7 } else { 7 };
            format!("{{\"id\":{id},\"age\":{age},\"name\":\"n\\u0000 {id}\",\"big\":9007199254740993}}\n")
        })
        .collect();
    stage.write("people.ndjson", people);
    let job = json!({
        "name": "poison",
        "source": { "plugin": "files", "config": { "path": "people.ndjson" } },
        "sink": { "plugin": "turso", "config": { "url": "file:app.db" } },
        "collections": [{ "source": "people", "key": ["id"] }],
        "import": { "max_errors": 1_000, "on_conflict": policy, "batch_size": 70, "checkpoint_interval": 200 },
    });
    stage.write("job.yaml", job.to_string());
    sql(
        &stage.path("app.db"),
        "CREATE TABLE people (id INTEGER PRIMARY KEY, age INTEGER CHECK (age >= 0), name TEXT, big INTEGER)",
    );
    stage
}

fn count(stage: &Stage, of: &str) -> u64 {
    let rows = sql(&stage.path("app.db"), &format!("SELECT count(*) FROM {of}"));
    rows.trim_matches(['[', ']', '(', ')', ',']).parse().unwrap()
}

fn rejected(stage: &Stage, arguments: &[&str]) -> Answer {
    stage.run(&[&["rejected"], arguments, &["--json"]].concat())
}

fn listed(stage: &Stage, arguments: &[&str]) -> Vec<Value> {
    let list = rejected(stage, &[&["list", "--limit", "1000"], arguments].concat()).expect(0);
    let list = list.json();
    let records = list["records"].as_array().unwrap().clone();
    assert_eq!(list["totalErrors"], records.len());
    records
}

fn states(stage: &Stage) -> BTreeSet<String> {
    let records = listed(stage, &[]).into_iter();
    records
        .map(|record| record["state"].as_str().unwrap().to_owned())
        .collect()
}

/// One record of a thousand, in the middle of a single batch, that a check of the sink's table refuses.
fn stage_with_one_poison(sink: &Value) -> Stage {
    let stage = Stage::new();
    let people: String = (1..=RECORDS)
        .map(|id| {
            let age = if id == ONE_POISON { -7 } else { 7 };
            format!("{{\"id\":{id},\"age\":{age},\"name\":\"n {id}\"}}\n")
        })
        .collect();
    stage.write("people.ndjson", people);
    let job = json!({
        "name": "one-poison",
        "source": { "plugin": "files", "config": { "path": "people.ndjson" } },
        "sink": sink,
        "collections": [{ "source": "people", "key": ["id"] }],
        "import": { "max_errors": 1, "batch_size": RECORDS },
    });
    stage.write("job.yaml", job.to_string());
    stage
}

fn assert_one_is_rejected(stage: &Stage) {
    let report = stage.run(&["run", "job.yaml", "--json"]).expect(0).json();
    let people = &report["collections"][0];
    assert_eq!(
        (
            &people["read_count"],
            &people["written_count"],
            &report["rejected_count"]
        ),
        (&json!(RECORDS), &json!(RECORDS - 1), &json!(1)),
        "{report}"
    );
    assert_eq!(listed(stage, &[]).len(), 1);
    let shown = rejected(stage, &["show", "1"]).expect(0).json();
    let data: Value = serde_json::from_str(shown["data"].as_str().unwrap()).unwrap();
    let name = format!("n {ONE_POISON}");
    assert_eq!(data, json!({ "id": ONE_POISON, "age": -7, "name": name }));
}

#[test]
fn d1_one_poison_record_in_a_batch_of_a_thousand_is_rejected_with_its_data_by_a_libsql_file() {
    let stage = stage_with_one_poison(&json!({ "plugin": "turso", "config": { "url": "file:app.db" } }));
    sql(
        &stage.path("app.db"),
        "CREATE TABLE people (id INTEGER PRIMARY KEY, age INTEGER CHECK (age >= 0), name TEXT)",
    );
    assert_one_is_rejected(&stage);
    assert_eq!(count(&stage, "people WHERE name = 'n ' || id"), RECORDS - 1);
    assert_eq!(count(&stage, &format!("people WHERE id = {ONE_POISON}")), 0);
}

#[test]
fn d1_one_poison_record_in_a_batch_of_a_thousand_is_rejected_with_its_data_by_postgres() {
    for server in servers() {
        let there = server.database();
        there.sql("CREATE TABLE people (id bigint PRIMARY KEY, age bigint CHECK (age >= 0), name text)");
        assert_one_is_rejected(&stage_with_one_poison(&database(&there.url())));
        let stored = there.sql("SELECT count(*), sum(id) FROM people WHERE name = 'n ' || id");
        let sum = RECORDS * (RECORDS + 1) / 2 - ONE_POISON;
        assert_eq!(stored.trim(), format!("{}|{sum}", RECORDS - 1));
    }
}

#[test]
fn one_record_of_a_hundred_is_rejected_with_its_data_and_arrives_once_it_is_corrected() {
    let stage = stage("overwrite");
    let report = stage.run(&["run", "job.yaml", "--json"]).expect(0).json();
    assert_eq!(report["rejected_count"], RECORDS / POISON_INTERVAL, "{report}");
    assert_eq!(count(&stage, "people"), RECORDS - RECORDS / POISON_INTERVAL);
    let records = listed(&stage, &[]);
    let mut ids = BTreeSet::new();
    for (record, number) in records.iter().zip(1..) {
        assert_eq!(record["number"], number);
        assert_eq!(
            (&record["stage"], &record["state"]),
            (&json!("import"), &json!("new"))
        );
        assert!(record["commit_seq"].as_u64().unwrap() >= 1, "{record}");
        assert!(!record["message"].as_str().unwrap().is_empty());
        assert!(record.get("data").is_none(), "values are not listed");
        let shown = rejected(&stage, &["show", &number.to_string()]).expect(0).json();
        let data: Value = serde_json::from_str(shown["data"].as_str().unwrap()).unwrap();
        let id = data["id"].as_u64().unwrap();
        assert!(is_poison(id), "{data}");
        assert_eq!(data["name"], format!("n\u{0} {id}"));
        assert_eq!(data["big"], 9_007_199_254_740_993_u64);
        ids.insert(id);
        let set = ["edit", &number.to_string(), "--set", &format!("age={id}")].map(str::to_owned);
        let set: Vec<&str> = set.iter().map(String::as_str).collect();
        assert_eq!(rejected(&stage, &set).expect(0).json()["state"], "edited");
    }
    assert_eq!(ids.len() as u64, RECORDS / POISON_INTERVAL);
    assert_eq!(states(&stage), BTreeSet::from(["edited".to_owned()]));

    let one = rejected(&stage, &["replay", "3", "5"]).expect(0).json();
    assert_eq!(
        (&one["taken_count"], &one["refused_count"]),
        (&json!(2), &json!(0)),
        "{one}"
    );
    assert_eq!(listed(&stage, &["--state", "replayed"]).len(), 2);
    let rest = rejected(&stage, &["replay", "--all"]).expect(0).json();
    assert_eq!(rest["taken_count"], RECORDS / POISON_INTERVAL - 2, "{rest}");
    assert_eq!(count(&stage, "people"), RECORDS, "the sink is whole");
    assert_eq!(
        count(
            &stage,
            "people WHERE id % 100 = 0 AND age = id AND big = 9007199254740993"
        ),
        RECORDS / POISON_INTERVAL
    );
    assert_eq!(states(&stage), BTreeSet::from(["replayed".to_owned()]));
    // Each replay is a run of its own among the runs, and refused nothing by itself.
    let runs = stage.run(&["runs", "--json"]).expect(0).json();
    let commands: Vec<&str> = runs["runs"]
        .as_array()
        .unwrap()
        .iter()
        .map(|run| run["command"].as_str().unwrap())
        .collect();
    assert_eq!(commands, ["replay", "replay", "run"]);
    let again = rejected(&stage, &["edit", "3", "--set", "age=1"]);
    assert_eq!(again.expect(2).error()["code"], "rejected.settled");
}

#[test]
fn a_record_that_is_refused_again_keeps_its_place_and_discarded_ones_are_sent_no_more() {
    let stage = stage("overwrite");
    stage.run(&["run", "job.yaml"]).expect(0);
    rejected(&stage, &["edit", "1", "--set", "age=1"]).expect(0);
    rejected(&stage, &["edit", "2", "--set", "age=\"old\""]).expect(0);
    rejected(&stage, &["edit", "3", "--set", "age=-1", "--unset", "name"]).expect(0);
    let replayed = rejected(&stage, &["replay", "1", "2", "3", "4"]).expect(1).json();
    assert_eq!(
        (&replayed["taken_count"], &replayed["refused_count"]),
        (&json!(1), &json!(3)),
        "{replayed}"
    );
    let refused = replayed["refused"].as_array().unwrap();
    let unfit = refused.iter().find(|one| one["number"] == 2).unwrap();
    assert_eq!(unfit["code"], "rejected.unfit_data");
    let message = unfit["message"].as_str().unwrap();
    assert!(message.contains("`age`") && !message.contains("old"), "{message}");
    let state_of = |number: usize| listed(&stage, &[])[number - 1]["state"].clone();
    assert_eq!(
        [1, 2, 3, 4].map(state_of),
        ["replayed", "edited", "edited", "new"].map(Value::from)
    );
    assert_eq!(count(&stage, "people"), RECORDS - RECORDS / POISON_INTERVAL + 1);

    let discarded = rejected(&stage, &["discard", "4", "5"]).expect(0).json();
    assert_eq!(discarded["discarded_count"], 2);
    for arguments in [
        &["edit", "4", "--set", "age=1"][..],
        &["replay", "4"],
        &["discard", "1"],
    ] {
        assert_eq!(
            rejected(&stage, arguments).expect(2).error()["code"],
            "rejected.settled",
            "{arguments:?}"
        );
    }
    assert_eq!(
        rejected(&stage, &["replay", "11"]).expect(2).error()["code"],
        "rejected.unknown"
    );
    let all = rejected(&stage, &["discard", "--all", "--collection", "people"])
        .expect(0)
        .json();
    assert_eq!(all["discarded_count"], 7);
    let none = rejected(&stage, &["replay", "--all"]).expect(0).json();
    assert_eq!(none["taken_count"], 0);
    assert_eq!(count(&stage, "people"), RECORDS - RECORDS / POISON_INTERVAL + 1);
    rejected(&stage, &["export", "--file", "out.ndjson"]).expect(0);
    let exported = lines(&stage.path("out.ndjson"));
    assert_eq!(exported.len(), 10);
    assert_eq!(
        (&exported[0]["state"], &exported[3]["state"]),
        (&json!("replayed"), &json!("discarded"))
    );
    assert!(exported[0]["data"].as_str().unwrap().contains("\"age\":-7"));
    assert!(exported[0]["edited"].as_str().unwrap().contains("\"age\":1"));
    assert!(exported[3].get("edited").is_none());
}

#[test]
fn what_the_source_and_a_transform_refused_takes_their_way_again() {
    for staging in ["memory", "disk"] {
        what_was_refused_takes_its_way_again(staging);
    }
}

fn what_was_refused_takes_its_way_again(staging: &str) {
    let stage = Stage::new();
    stage.write(
        "orders.ndjson",
        "{\"id\":1,\"amount\":\"12\"}\n{\"id\":2,\"amount\":\"twelve\"}\n{\"id\":3,\"amo\n{\"id\":4,\"amount\":\"4\"}\n",
    );
    let job = json!({
        "name": "orders",
        "source": { "plugin": "files", "config": { "path": "orders.ndjson" } },
        "transforms": [{ "plugin": "reshape", "config": { "steps": [{ "cast": { "field": "amount", "to": "int64" } }] } }],
        "sink": { "plugin": "turso", "config": { "url": "file:app.db" } },
        "collections": [{ "source": "orders", "key": ["id"] }],
        "import": { "max_errors": 10 },
        "staging": staging,
        "verification": "none",
    });
    stage.write("job.yaml", job.to_string());
    let report = stage.run(&["run", "job.yaml", "--json"]).expect(0).json();
    assert_eq!(report["rejected_count"], 2, "{staging}: {report}");
    let number_of = |phase: &str| {
        let records = listed(&stage, &["--stage", phase]);
        assert_eq!(records.len(), 1, "{staging}, {phase}: {records:?}");
        records[0]["number"].to_string()
    };
    let (read, changed) = (number_of("extraction"), number_of("transformation"));
    // The line is no JSON: it is said for the record, and nothing is sent.
    let cut = rejected(&stage, &["replay", &read, &changed]).expect(1).json();
    let codes: BTreeSet<&str> = cut["refused"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["code"].as_str().unwrap())
        .collect();
    assert!(codes.contains("rejected.unfit_data") && codes.len() == 2, "{cut}");
    let field = rejected(&stage, &["edit", &read, "--set", "amount=\"3\""]);
    assert_eq!(field.expect(2).error()["code"], "rejected.not_an_object");
    stage.write("whole.json", "{\"id\": 3, \"amount\": \"3\"}\n");
    rejected(&stage, &["edit", &read, "--file", "whole.json"]).expect(0);
    rejected(&stage, &["edit", &changed, "--set", "amount=\"12\""]).expect(0);
    let replayed = rejected(&stage, &["replay", "--all"]).expect(0).json();
    assert_eq!(replayed["taken_count"], 2, "{replayed}");
    assert_eq!(
        sql(&stage.path("app.db"), "SELECT id, amount FROM orders ORDER BY id"),
        "[(1, 12), (2, 12), (3, 3), (4, 4)]"
    );
}

/// Has the state refuse something, as a full or broken disk would.
fn break_state(stage: &Stage, statement: &str) {
    let trigger = format!(
        "CREATE TRIGGER broken BEFORE {statement} ON rejected_record BEGIN SELECT raise(ABORT, 'made up'); END"
    );
    sql(&stage.path(".whimbrel/state.db"), &trigger);
}

#[test]
fn records_that_cannot_be_kept_keep_the_commit_from_being_made() {
    let stage = stage("overwrite");
    // A run of another job makes the state.
    stage.write("other.ndjson", "{\"id\":1}\n");
    let other = json!({
        "name": "other",
        "source": { "plugin": "files", "config": { "path": "other.ndjson" } },
        "sink": { "plugin": "turso", "config": { "url": "file:other.db" } },
    });
    stage.write("other.yaml", other.to_string());
    stage.run(&["run", "other.yaml"]).expect(0);
    break_state(&stage, "INSERT");
    let ended = stage.run(&["run", "job.yaml", "--json"]);
    assert_eq!(ended.code, 3, "{}\n{}", ended.out, ended.err);
    assert!(
        ended.error()["code"].as_str().unwrap().starts_with("state."),
        "{}",
        ended.out
    );
    assert_eq!(
        count(&stage, "people"),
        0,
        "the first commit leaves records out, and they were not kept"
    );
}

#[test]
fn what_was_taken_before_the_state_knew_of_it_is_not_sent_twice() {
    // With this policy a record that is sent twice would be refused.
    let stage = stage("fail");
    stage.run(&["run", "job.yaml"]).expect(0);
    rejected(&stage, &["edit", "1", "--set", "age=1"]).expect(0);
    rejected(&stage, &["edit", "2", "--set", "age=2"]).expect(0);
    break_state(&stage, "UPDATE");
    let lost = rejected(&stage, &["replay", "1"]);
    assert_eq!(lost.code, 3, "{}\n{}", lost.out, lost.err);
    assert_eq!(count(&stage, "people WHERE age = 1"), 1, "it was taken");
    assert_eq!(
        listed(&stage, &["--state", "replayed"]).len(),
        0,
        "and nobody knows"
    );
    sql(&stage.path(".whimbrel/state.db"), "DROP TRIGGER broken");
    let again = rejected(&stage, &["replay", "1", "2"]).expect(0).json();
    assert_eq!(again["taken_count"], 2, "{again}");
    assert_eq!(count(&stage, "people WHERE age IN (1, 2)"), 2);
    assert_eq!(listed(&stage, &["--state", "replayed"]).len(), 2);
}

#[test]
fn what_a_killed_replay_took_is_settled_by_the_next_one_whatever_that_sends() {
    let stage = stage("fail");
    stage.run(&["run", "job.yaml"]).expect(0);
    for number in ["1", "2", "3"] {
        rejected(&stage, &["edit", number, "--set", &format!("age={number}")]).expect(0);
    }
    let killed = stage.run_with(
        &["rejected", "replay", "1", "2", "--json"],
        &[("WHIMBREL_CRASH_AT", "committed:1"), ("WHIMBREL_CRASH_ALL", "1")],
    );
    assert!(killed.code < 0, "{}", killed.out);
    assert_eq!(count(&stage, "people WHERE age IN (1, 2)"), 2, "they were taken");
    assert_eq!(
        listed(&stage, &["--state", "replayed"]).len(),
        0,
        "and nobody knows"
    );
    // Its commit takes the place of the one that names the first two.
    let other = rejected(&stage, &["replay", "3"]).expect(0).json();
    assert_eq!(other["taken_count"], 1, "{other}");
    assert_eq!(listed(&stage, &["--state", "replayed"]).len(), 3);
    assert_eq!(count(&stage, "people WHERE age IN (1, 2, 3)"), 3);
}

#[test]
fn records_of_a_commit_that_was_never_made_are_not_sent() {
    let stage = stage("overwrite");
    let job = std::fs::read_to_string(stage.path("job.yaml")).unwrap();
    let mut job: Value = serde_json::from_str(&job).unwrap();
    job["import"]["checkpoint_interval_ms"] = json!(0);
    // What is corrected here differs from the source.
    job["verification"] = json!("none");
    job["limits"] = json!({ "batch_records": 200, "worker_restarts": 0 });
    stage.write("job.yaml", job.to_string());
    let variables = [
        ("WHIMBREL_CRASH_AT", "commit_sent:2"),
        ("WHIMBREL_CRASH_ALL", "1"),
    ];
    let killed = stage.run_with(&["run", "job.yaml"], &variables);
    assert!(killed.code < 0, "{}", killed.err);
    let kept = listed(&stage, &[]);
    let of_commit = |seq: u64| kept.iter().filter(move |record| record["commit_seq"] == seq);
    let (made, lost) = (of_commit(1).count(), of_commit(2).count());
    assert!(made > 0 && lost > 0, "{kept:?}");
    // All of them would be taken now.
    for record in &kept {
        let number = record["number"].to_string();
        rejected(&stage, &["edit", &number, "--set", "age=1"]).expect(0);
    }
    let replayed = rejected(&stage, &["replay", "--all"]).expect(1).json();
    assert_eq!(replayed["taken_count"], made, "{replayed}");
    let refused = replayed["refused"].as_array().unwrap();
    assert_eq!(refused.len(), lost);
    for one in refused {
        assert_eq!(one["code"], "rejected.not_committed");
        assert!(one["message"].as_str().unwrap().contains("resume"), "{one}");
    }
    let run = replayed["run"].as_str().unwrap();
    stage.run(&["resume"]).expect(0);
    // The run that went on has met them again, and they are in its own list.
    let again = rejected(&stage, &["replay", "--all", "--run", run])
        .expect(1)
        .json();
    assert_eq!(
        (&again["taken_count"], again["refused"].as_array().unwrap().len()),
        (&json!(0), lost)
    );
    assert!(
        again["refused"][0]["message"]
            .as_str()
            .unwrap()
            .contains("has met the record again")
    );
    assert_eq!(
        count(&stage, "people"),
        RECORDS - RECORDS / POISON_INTERVAL + made as u64
    );
}

#[test]
fn a_collection_without_a_key_stands_in_no_other_ones_way() {
    for server in servers() {
        let there = server.database();
        there.sql("CREATE TABLE people (id bigint PRIMARY KEY, age bigint CHECK (age >= 0), name text)");
        let stage = stage_with_one_poison(&database(&there.url()));
        stage.write("log.ndjson", "{\"line\":\"a\"}\n{\"line\":\"b\"}\n");
        let job = json!({
            "name": "one-poison",
            "source": { "plugin": "files", "config": { "path": "." } },
            "sink": database(&there.url()),
            "collections": [{ "source": "people", "key": ["id"] }, { "source": "log" }],
            "import": { "max_errors": 1, "batch_size": RECORDS },
        });
        stage.write("job.yaml", job.to_string());
        stage.run(&["run", "job.yaml"]).expect(0);
        rejected(&stage, &["edit", "1", "--set", "age=1"]).expect(0);
        let replayed = rejected(&stage, &["replay", "--all"]).expect(0).json();
        assert_eq!(replayed["taken_count"], 1, "{replayed}");
        assert_eq!(
            there.sql("SELECT count(*) FROM people").trim(),
            RECORDS.to_string()
        );
        assert_eq!(there.sql("SELECT count(*) FROM log").trim(), "2");
    }
}
