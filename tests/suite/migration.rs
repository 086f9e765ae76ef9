//! Whole migrations with the built program: a real browser's export into a database, checked by others' eyes.
//! Values are never taken from whimbrel's own word where another program can read them.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::program::{Stage, repository};

const EXAMPLE: &str = "examples/browser-to-turso";

fn browser_stage() -> Stage {
    let stage = Stage::new();
    stage.copy(&format!("{EXAMPLE}/export.json"), "export.json");
    stage.copy(&format!("{EXAMPLE}/job.yaml"), "job.yaml");
    stage
}

/// Runs a script of the example, which shares no code with whimbrel. Returns what it prints, as an error if it disagrees.
fn script(name: &str, arguments: &[&Path]) -> Result<String, String> {
    let script = repository().join(EXAMPLE).join(name);
    let output = Command::new("python3")
        .arg(script)
        .args(arguments)
        .output()
        .expect("python3 starts");
    let text = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    if output.status.success() {
        Ok(text)
    } else {
        Err(text)
    }
}

/// Counts the database again with Python's own SQLite.
fn recount(arguments: &[&Path]) -> Result<String, String> {
    script("recount.py", arguments)
}

/// What a statement answers, by Python's own SQLite.
pub fn sql(database: &Path, statement: &str) -> String {
    let script = "import sqlite3,sys\nc=sqlite3.connect(sys.argv[1])\nr=c.execute(sys.argv[2]).fetchall()\nc.commit()\nprint(r)";
    let output = Command::new("python3")
        .args(["-c", script])
        .arg(database)
        .arg(statement)
        .output()
        .expect("python3 starts");
    assert!(
        output.status.success(),
        "{statement}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout)
        .expect("Python prints UTF-8")
        .trim()
        .to_owned()
}

#[test]
fn a_browser_export_arrives_whole_and_an_independent_count_agrees() {
    let stage = browser_stage();
    let report = stage.run(&["run", "job.yaml", "--json"]).expect(0).json();
    assert_eq!(report["outcome"], "done");
    assert_eq!(report["rejected_count"], 0);
    for collection in report["collections"].as_array().unwrap() {
        assert_eq!(collection["complete"], true, "{collection}");
        assert_eq!(
            collection["read_count"], collection["written_count"],
            "{collection}"
        );
    }
    for result in report["verification"].as_array().unwrap() {
        assert_eq!(result["comparison"], "equal", "{result}");
        assert_eq!(result["every_record"], true, "{result}");
    }
    let database = stage.path("app.db");
    recount(&[&database, &repository().join(EXAMPLE).join("manifest.json")]).unwrap();
    recount(&[Path::new("--export"), &stage.path("export.json"), &database]).unwrap();
    let values = script("revalue.py", &[&stage.path("export.json"), &database]).unwrap();
    assert!(values.contains("every value of 6446 rows"), "{values}");
    sql(&database, "UPDATE user SET name = name || ' ' WHERE rowid = 7");
    let changed = script("revalue.py", &[&stage.path("export.json"), &database]).unwrap_err();
    assert!(changed.contains("the field 'name'"), "{changed}");
}

#[test]
fn a_second_run_leaves_the_same_database() {
    let stage = browser_stage();
    stage.run(&["run", "job.yaml", "--json"]).expect(0);
    stage.run(&["run", "job.yaml", "--json"]).expect(0);
    recount(&[
        &stage.path("app.db"),
        &repository().join(EXAMPLE).join("manifest.json"),
    ])
    .unwrap();
}

#[test]
fn check_changes_nothing_and_says_what_would_be_done() {
    let stage = browser_stage();
    let report = stage.run(&["check", "job.yaml", "--json"]).expect(0).json();
    assert_eq!(report["outcome"], "done");
    assert!(
        report["ddl"]
            .as_array()
            .unwrap()
            .iter()
            .any(|ddl| ddl.as_str().unwrap().contains("CREATE TABLE"))
    );
    assert!(!stage.path("app.db").exists(), "`check` made the database");
}

#[test]
fn each_of_five_corruptions_is_found_in_its_collection() {
    let stage = browser_stage();
    stage.run(&["run", "job.yaml", "--json"]).expect(0);
    let pristine = std::fs::read(stage.path("app.db")).unwrap();
    let row = "WHERE rowid = (SELECT rowid FROM todos ORDER BY rowid LIMIT 1 OFFSET 17)";
    let column = text_column(&stage.path("app.db"), "todos");
    let corruptions = [
        (
            "a field",
            "todos",
            format!("UPDATE todos SET \"{column}\" = \"{column}\" || ' ' {row}"),
        ),
        ("a lost record", "todos", format!("DELETE FROM todos {row}")),
        (
            "an extra record",
            "user",
            extra_record(&stage.path("app.db"), "user"),
        ),
        (
            "a type",
            "todos",
            format!("UPDATE todos SET \"{column}\" = CAST(\"{column}\" AS BLOB) {row}"),
        ),
        ("a whole table", "contacts", "DROP TABLE contacts".to_owned()),
    ];
    for (what, collection, statement) in corruptions {
        std::fs::write(stage.path("app.db"), &pristine).unwrap();
        sql(&stage.path("app.db"), &statement);
        let report = stage.run(&["verify", "job.yaml", "--json"]).expect(4).json();
        let different: Vec<&str> = report["verification"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|result| result["comparison"] == "different")
            .map(|result| result["source"].as_str().unwrap())
            .collect();
        assert_eq!(different, [collection], "{what}: {statement}");
        let text = stage.run(&["verify", "job.yaml"]).expect(4);
        assert!(
            text.out.contains(&format!("differences in {collection}")),
            "{what}: {}",
            text.out
        );
    }
    std::fs::write(stage.path("app.db"), &pristine).unwrap();
    stage.run(&["verify", "job.yaml", "--json"]).expect(0);
}

/// A column of `table` that holds text in its eighteenth record.
fn text_column(database: &Path, table: &str) -> String {
    let script = "import sqlite3,sys\nc=sqlite3.connect(sys.argv[1]);c.row_factory=sqlite3.Row\n\
                  r=c.execute('SELECT * FROM \"%s\" ORDER BY rowid LIMIT 1 OFFSET 17'%sys.argv[2]).fetchone()\n\
                  print([k for k in r.keys() if isinstance(r[k],str) and k not in ('_key','_id','id')][0])";
    let output = Command::new("python3")
        .args(["-c", script])
        .arg(database)
        .arg(table)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// A statement that doubles the first record of `table` under another key.
fn extra_record(database: &Path, table: &str) -> String {
    let columns = sql(
        database,
        &format!("SELECT group_concat('\"' || name || '\"', ', ') FROM pragma_table_info('{table}')"),
    );
    let columns = columns
        .trim_start_matches("[('")
        .trim_end_matches("',)]")
        .replace("\\'", "'");
    let values = columns.replace("\"_key\"", "\"_key\" || 'x'");
    format!("INSERT INTO \"{table}\" ({columns}) SELECT {values} FROM \"{table}\" LIMIT 1")
}

#[test]
fn collections_are_chosen_renamed_and_keyed_by_the_job() {
    let stage = browser_stage();
    stage.write(
        "some.yaml",
        "name: some\nsource: { plugin: local-storage, config: { path: ./export.json } }\n\
         sink: { plugin: turso, config: { url: \"file:some.db\" } }\n\
         collections:\n  - { source: todos, sink: tasks, key: [id] }\n  - { source: contacts }\n",
    );
    let report = stage.run(&["run", "some.yaml", "--json"]).expect(0).json();
    let names: Vec<(&str, &str)> = report["collections"]
        .as_array()
        .unwrap()
        .iter()
        .map(|collection| {
            (
                collection["source"].as_str().unwrap(),
                collection["sink"].as_str().unwrap(),
            )
        })
        .collect();
    assert_eq!(names, [("todos", "tasks"), ("contacts", "contacts")]);
    assert_eq!(
        sql(
            &stage.path("some.db"),
            "SELECT count(*), count(DISTINCT id) FROM tasks"
        ),
        "[(320, 320)]"
    );
    assert_eq!(
        sql(
            &stage.path("some.db"),
            "SELECT name FROM pragma_table_info('tasks') WHERE pk > 0"
        ),
        "[('id',)]"
    );
}

#[test]
fn a_collection_without_key_is_copied_once_and_refused_the_second_time() {
    let stage = Stage::new();
    stage.write("docs.ndjson", "{\"a\":1}\n{\"a\":2}\n{\"a\":2}\n");
    stage.write(
        "job.yaml",
        "name: keyless\nsource: { plugin: files, config: { path: docs.ndjson } }\n\
         sink: { plugin: turso, config: { url: \"file:app.db\" } }\n",
    );
    stage.run(&["run", "job.yaml", "--json"]).expect(0);
    let again = stage.run(&["run", "job.yaml", "--json"]).expect(2);
    assert_eq!(again.json()["outcome"], "refused");
    assert_eq!(again.error()["code"], "plan.no_key");
    assert_eq!(
        sql(&stage.path("app.db"), "SELECT count(*), sum(a) FROM docs"),
        "[(3, 5)]"
    );
}

#[test]
fn what_is_missing_is_named_with_what_there_is() {
    let stage = browser_stage();
    let job = |name: &str, collections: &str| {
        stage.write(
            name,
            format!(
                "name: x\nsource: {{ plugin: local-storage, config: {{ path: ./export.json }} }}\n\
                 sink: {{ plugin: turso, config: {{ url: \"file:x.db\" }} }}\n{collections}\n"
            ),
        );
        let answer = stage.run(&["run", name, "--json"]).expect(2);
        (
            answer.error()["code"].as_str().unwrap().to_owned(),
            answer.error()["message"].as_str().unwrap().to_owned(),
        )
    };
    let (code, message) = job("a.yaml", "collections: [{ source: todo }]");
    assert_eq!(code, "plan.collection_missing");
    assert!(
        message.contains("`todo`") && message.contains("todos"),
        "{message}"
    );
    let (code, message) = job("b.yaml", "collections: [{ source: todos, key: [nope] }]");
    assert_eq!(code, "plan.key_missing");
    assert!(
        message.contains("`nope`") && message.contains("_key"),
        "{message}"
    );
    assert!(!stage.path("x.db").exists(), "a refused run made the database");
}

#[test]
fn a_missing_export_is_refused_before_anything_is_written() {
    let stage = Stage::new();
    stage.copy(&format!("{EXAMPLE}/job.yaml"), "job.yaml");
    let answer = stage.run(&["run", "job.yaml", "--json"]);
    assert!([2, 3].contains(&answer.code), "{}", answer.out);
    assert!(!stage.path("app.db").exists());
    let text = stage.run(&["run", "job.yaml"]);
    assert!(text.err.contains("code: local_storage."), "{}", text.err);
}

#[test]
fn lone_surrogates_are_rejected_with_their_place_or_replaced_as_declared() {
    let stage = Stage::new();
    stage.copy(&format!("{EXAMPLE}/export-lone-surrogate.json"), "export.json");
    let job = |policy: &str| {
        format!(
            "name: s\nsource: {{ plugin: local-storage, config: {{ path: ./export.json, lone_surrogates: {policy} }} }}\n\
             sink: {{ plugin: turso, config: {{ url: \"file:{policy}.db\" }} }}\nimport: {{ max_errors: 100 }}\n"
        )
    };
    stage.write("reject.yaml", job("reject"));
    stage.write("replace.yaml", job("replace"));
    let rejected = stage.run(&["run", "reject.yaml", "--json"]).expect(0).json();
    assert!(rejected["rejected_count"].as_u64().unwrap() > 0);
    let replaced = stage.run(&["run", "replace.yaml", "--json"]).expect(0).json();
    // Two keys differ in their half only; replaced, they would be one.
    assert_eq!(replaced["rejected_count"], 1);
    assert!(
        replaced["rejected"][0][1]["message"]
            .as_str()
            .unwrap()
            .contains("the key is that of another entry")
    );
    let losses = serde_json::to_string(&replaced["collections"]).unwrap();
    assert!(losses.contains("lone_surrogate_replaced"), "{losses}");
}

#[test]
fn every_form_of_export_can_be_migrated() {
    for form in [
        "export-per-origin.json",
        "export-pairs.json",
        "export-storage-state.json",
    ] {
        let stage = Stage::new();
        stage.copy(&format!("{EXAMPLE}/{form}"), "export.json");
        stage.copy(&format!("{EXAMPLE}/job.yaml"), "job.yaml");
        let report = stage.run(&["run", "job.yaml", "--json"]).expect(0).json();
        let read: u64 = report["collections"]
            .as_array()
            .unwrap()
            .iter()
            .map(|c| c["read_count"].as_u64().unwrap())
            .sum();
        assert!(read > 100, "{form}: {read}");
    }
}

#[test]
fn events_can_be_read_from_a_file_while_the_run_goes_on() {
    let stage = browser_stage();
    stage
        .run(&["run", "job.yaml", "--json", "--events-file", "events.ndjson"])
        .expect(0);
    let text = std::fs::read_to_string(stage.path("events.ndjson")).unwrap();
    let events: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let of = |name: &str| events.iter().filter(|event| event["event"] == name).count();
    assert_eq!(of("plugin_loaded"), 2);
    assert_eq!((of("phase_started"), of("collection_planned")), (5, 28));
    let last = events
        .iter()
        .rfind(|event| event["event"] == "progress" && event["collection"] == "todos")
        .unwrap();
    assert_eq!(
        (&last["written_count"], &last["rejected_count"]),
        (&320.into(), &0.into())
    );
    assert_eq!(events.last().unwrap()["event"], "finished");
    assert_eq!(of("call_started"), 0);
    let refused = stage
        .run(&[
            "run",
            "job.yaml",
            "--json",
            "--events-file",
            "no/such/folder.ndjson",
        ])
        .expect(2);
    assert_eq!(refused.error()["code"], "cli.events_file");
}

#[test]
fn progress_is_plain_without_a_terminal_and_silent_with_json() {
    let stage = browser_stage();
    let json = stage.run(&["run", "job.yaml", "--json"]).expect(0);
    assert_eq!(json.err, "");
    let text = stage.run(&["run", "job.yaml"]).expect(0);
    assert!(!text.err.contains('\u{1b}'), "{:?}", text.err);
    assert!(text.out.contains("done and verified"), "{}", text.out);
    let first: Value = json.json();
    assert!(first["memory_peak_bytes"].as_u64().unwrap() > 0);
}
