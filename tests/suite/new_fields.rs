//! Fields that turn up in the middle of a run, from files into a database: each policy, with transforms and parts.
//! What arrived is compared with the file by Python, which shares no code with whimbrel.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::program::{Answer, Stage};

/// The first record with fields that the sample lacks.
const FIRST: u64 = 12_000;
const RECORDS: u64 = 15_000;

/// Compares each value of the file with the table, wherever it is kept; prints what is found, column by column.
const COMPARE: &str = r#"
import json, sqlite3, sys
file, database, kind = sys.argv[1:4]
table = sqlite3.connect(database)
table.row_factory = sqlite3.Row
rows = {row["id"]: row for row in table.execute("SELECT * FROM things")}
names = {"name": "title"} if kind == "renamed" else {}
columns, rest, count = {}, {}, 0
for line in open(file):
    record = json.loads(line)
    count += 1
    row = rows[record["id"]]
    members = json.loads(row["_whimbrel_rest"] or "{}")
    absent = set(members.pop("$absent", []))
    known = set(row.keys()) - {"_whimbrel_rest"}
    for field, value in record.items():
        field = names.get(field, field)
        assert field not in absent, (record["id"], field)
        if field in known:
            stored = row[field]
            columns[field] = columns.get(field, 0) + 1
        else:
            stored = members.pop(field)
            rest[field] = rest.get(field, 0) + 1
        # Lists, objects and values of several kinds are kept as JSON, numbers above 2^63 as text.
        if field in ("mixed", "tags") and stored is not None:
            stored = json.loads(stored)
        if field == "big" and stored is not None:
            stored = int(stored)
        assert stored == value and (stored is None) == (value is None), (record["id"], field, stored, value)
    lacking = {field for field in known if field not in {names.get(it, it) for it in record}}
    assert all(row[field] is None for field in lacking), record["id"]
    assert not members, (record["id"], members)
assert count == len(rows), (count, len(rows))
print(json.dumps({"records": count, "columns": columns, "rest": rest}))
"#;

fn things(filler: &str) -> String {
    let mut text = String::new();
    for id in 1..=RECORDS {
        write!(text, "{{\"id\":{id},\"name\":\"thing {id}\"").unwrap();
        if id % 5 == 0 {
            let note = if id % 2 == 0 { "\"n\"" } else { "null" };
            write!(text, ",\"note\":{note}").unwrap();
        }
        if id >= FIRST && (id - FIRST).is_multiple_of(7) {
            let score = if id % 2 == 0 {
                format!("{}.25", id)
            } else {
                id.to_string()
            };
            let mixed = match id % 6 {
                0 => id.to_string(),
                1 => format!("\"text {id}\""),
                2 => "true".to_owned(),
                3 => format!("{{\"k\":[{id}]}}"),
                4 => "null".to_owned(),
                _ => "1.5".to_owned(),
            };
            write!(
                text,
                ",\"email\":\"{id}@example.org\",\"score\":{score},\"mixed\":{mixed},\"tags\":[\"ü\",{id}]"
            )
            .unwrap();
        }
        if id == FIRST + 1001 {
            text.push_str(",\"last\":null,\"big\":18446744073709551615");
        }
        text.push('}');
        text.push_str(filler);
        text.push('\n');
    }
    text
}

fn job(policy: &str) -> Value {
    json!({
        "name": "new-fields",
        "source": { "plugin": "files", "config": {
            "path": "./things.ndjson", "inference": { "sample": 1000 }, "key": { "things": ["id"] }
        } },
        "sink": { "plugin": "turso", "config": { "url": "file:app.db" } },
        "import": { "on_new_field": policy },
    })
}

fn stage(job: &Value, filler: &str) -> Stage {
    let stage = Stage::new();
    stage.write("things.ndjson", things(filler));
    stage.write("job.yaml", job.to_string());
    stage
}

fn python(script: &str, arguments: &[&str], folder: &Path) -> String {
    let output = Command::new("python3")
        .args(["-c", script])
        .args(arguments)
        .current_dir(folder)
        .output()
        .expect("python3 starts");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

fn compared(stage: &Stage, kind: &str) -> Value {
    let text = python(COMPARE, &["things.ndjson", "app.db", kind], &stage.path("."));
    serde_json::from_str(&text).unwrap()
}

/// What must be there of each field.
fn wanted(names: &[&str]) -> Value {
    let later = (RECORDS - FIRST) / 7 + 1;
    let count = |name: &str| match name {
        "id" | "name" | "title" => RECORDS,
        "note" => RECORDS / 5,
        "last" | "big" => 1,
        _ => later,
    };
    names
        .iter()
        .map(|name| ((*name).to_owned(), Value::from(count(name))))
        .collect()
}

const PLANNED: [&str; 3] = ["id", "name", "note"];
const LATER: [&str; 6] = ["email", "score", "mixed", "tags", "last", "big"];

#[track_caller]
fn assert_equal(answer: Answer) {
    let report = answer.expect(0).json();
    assert_eq!(report["collections"][0]["written_count"], RECORDS);
    assert_eq!(report["rejected_count"], 0);
    let result = &report["verification"][0];
    assert_eq!(result["comparison"], "equal", "{result}");
    assert_eq!(result["sink_count"], RECORDS);
}

fn run(stage: &Stage) -> Answer {
    stage.run(&["run", "job.yaml", "--json"])
}

fn verify(stage: &Stage) -> Answer {
    stage.run(&["verify", "job.yaml", "--json"])
}

#[test]
fn evolve_gives_each_new_field_a_column() {
    let stage = stage(&job("evolve"), "");
    let answer = run(&stage);
    let losses = answer.json()["collections"][0]["losses"].to_string();
    assert!(
        losses.contains("absent_to_null") && losses.contains("email"),
        "what earlier records lose is reported: {losses}"
    );
    assert_equal(answer);
    let found = compared(&stage, "plain");
    assert_eq!(found["columns"], wanted(&[&PLANNED[..], &LATER[..]].concat()));
    assert_eq!(found["rest"], json!({}));
    // The table has the columns already.
    assert_equal(run(&stage));
    assert_eq!(compared(&stage, "plain"), found);
}

#[test]
fn overflow_keeps_new_fields_in_the_rest_column() {
    let stage = stage(&job("overflow"), "");
    assert_equal(run(&stage));
    let found = compared(&stage, "plain");
    assert_eq!(found["columns"], wanted(&PLANNED));
    assert_eq!(found["rest"], wanted(&LATER));
    assert_equal(run(&stage));
    assert_eq!(compared(&stage, "plain"), found);
}

#[test]
fn fail_names_the_field_and_leaves_no_column() {
    let stage = stage(&job("fail"), "");
    let report = run(&stage).expect(1).json();
    let error = &report["errors"][0];
    assert_eq!(
        (error["code"].as_str(), error["phase"].as_str()),
        (Some("source.schema_changed"), Some("extraction"))
    );
    let message = error["message"].as_str().unwrap();
    assert!(message.contains("`email` is new"), "{message}");
    assert!(error["help"].as_str().unwrap().contains("on_new_field"));
    let columns = "import sqlite3\nprint([row[1] for row in sqlite3.connect('app.db').execute('PRAGMA table_info(things)')])";
    let columns = python(columns, &[], &stage.path("."));
    assert_eq!(columns.trim(), "['id', 'name', 'note', '_whimbrel_rest']");
}

#[test]
fn verification_on_its_own_looks_at_fields_that_turn_up_later() {
    for policy in ["evolve", "overflow"] {
        let stage = stage(&job(policy), "");
        assert_equal(run(&stage));
        let report = verify(&stage).expect(0).json();
        assert_eq!(report["verification"][0]["comparison"], "equal", "{policy}");
        let change = "import sqlite3\nc=sqlite3.connect('app.db')\n\
             names=[row[1] for row in c.execute('PRAGMA table_info(things)')]\n\
             column='email' if 'email' in names else '_whimbrel_rest'\n\
             c.execute(f\"UPDATE things SET {column}=replace({column},'@example','@sample')\")\nc.commit()";
        python(change, &[], &stage.path("."));
        let report = verify(&stage).expect(4).json();
        let result = &report["verification"][0];
        assert_eq!(result["comparison"], "different", "{policy}");
        assert!(
            result["mismatches"]
                .as_array()
                .unwrap()
                .iter()
                .all(|mismatch| mismatch["fields"] == json!(["email"])),
            "{policy}: {result}"
        );
    }
    // A table that never had a place for them is not equal either.
    let stage = stage(&job("evolve"), "");
    let lines: Vec<String> = things("").lines().take(11_000).map(str::to_owned).collect();
    stage.write("things.ndjson", lines.join("\n"));
    run(&stage).expect(0);
    stage.write("things.ndjson", things(""));
    let report = verify(&stage).expect(4).json();
    assert_eq!(report["verification"][0]["comparison"], "different");
}

#[test]
fn transforms_on_the_way_follow_the_new_fields() {
    for (policy, columns, rest) in [
        (
            "evolve",
            [&["id", "title", "note"][..], &LATER[..]].concat(),
            vec![],
        ),
        ("overflow", vec!["id", "title", "note"], LATER.to_vec()),
    ] {
        let mut job = job(policy);
        job["transforms"] = json!([
            { "plugin": "reshape", "config": { "steps": [{ "rename": { "name": "title" } }, { "trim": ["title"] }] } }
        ]);
        let stage = stage(&job, "");
        assert_equal(run(&stage));
        let found = compared(&stage, "renamed");
        assert_eq!(found["columns"], wanted(&columns), "{policy}");
        assert_eq!(found["rest"], wanted(&rest), "{policy}");
    }
}

#[test]
fn two_parts_of_one_file_bring_the_same_new_fields() {
    let mut job = job("evolve");
    job["limits"] = json!({ "partitions_parallel": 2 });
    // Twice 64 MiB and some more, most of it blank.
    let stage = stage(&job, &" ".repeat(9_400));
    let answer = stage.run(&["run", "job.yaml", "--json", "--events-file", "events.ndjson"]);
    assert_equal(answer);
    let found = compared(&stage, "plain");
    assert_eq!(found["columns"], wanted(&[&PLANNED[..], &LATER[..]].concat()));
    let events = std::fs::read_to_string(stage.path("events.ndjson")).unwrap();
    let parts: std::collections::BTreeSet<String> = events
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .filter(|event| event["event"] == "committed")
        .map(|event| event["partition"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(parts.len(), 2, "{parts:?}");
}

#[test]
fn files_follow_new_fields_as_well() {
    let mut job = job("evolve");
    job["sink"] = json!({ "plugin": "files", "config": { "path": "./copy" } });
    let stage = stage(&job, "");
    assert_equal(run(&stage));
    let same = "import json\nread=lambda name: {r['id']: r for r in map(json.loads, open(name))}\n\
         a, b = read('things.ndjson'), read('copy/things.ndjson')\n\
         for r in b.values():\n    if 'big' in r: r['big'] = int(r['big'])\n\
         assert a == b, [(a[i], b.get(i)) for i in a if a[i] != b.get(i)][:3]\nprint(len(a))";
    assert_eq!(python(same, &[], &stage.path(".")).trim(), RECORDS.to_string());
}

#[test]
fn staging_on_disk_refuses_new_fields_and_says_why() {
    for policy in ["evolve", "overflow"] {
        let mut job = job(policy);
        job["staging"] = json!("disk");
        let stage = stage(&job, "");
        let report = run(&stage).expect(1).json();
        let error = &report["errors"][0];
        assert_eq!(
            (error["code"].as_str(), error["phase"].as_str()),
            (Some("staging.new_field"), Some("extraction"))
        );
        let message = error["message"].as_str().unwrap();
        assert!(
            message.contains("`things`") && message.contains("`email`, `score`"),
            "{message}"
        );
        assert!(error["help"].as_str().unwrap().contains("staging: memory"));
    }
}

#[test]
fn a_dry_run_follows_new_fields_and_writes_nothing() {
    let stage = stage(&job("evolve"), "");
    let report = stage
        .run(&["run", "job.yaml", "--dry-run", "--json"])
        .expect(0)
        .json();
    assert_eq!(report["collections"][0]["read_count"], RECORDS);
    assert!(!stage.path("app.db").exists());
}
