//! A repair at a terminal asks before it writes, and a no changes nothing.
//!
//! The terminal is a pseudo one, which Python's standard library opens and answers at.

use std::process::Command;

use serde_json::{Value, json};

use crate::migration::sql;
use crate::program::{Stage, program};

/// Runs a program at a terminal, answers its question, prints what it showed and ends with its exit code.
const TERMINAL: &str = "\
import os, pty, sys
answer, arguments = sys.argv[1], sys.argv[2:]
pid, terminal = pty.fork()
if pid == 0:
    os.execv(arguments[0], arguments)
shown, answered = b'', False
while True:
    try:
        part = os.read(terminal, 4096)
    except OSError:
        break
    if not part:
        break
    shown += part
    if not answered and b'[y/N]' in shown:
        os.write(terminal, answer.encode() + b'\\n')
        answered = True
_, status = os.waitpid(pid, 0)
sys.stdout.buffer.write(shown)
sys.exit(os.waitstatus_to_exitcode(status))
";

const VALUES: &str = "SELECT group_concat(id || ':' || name, ' ') FROM (SELECT * FROM people ORDER BY id)";

/// Three records in a database, of which one differs, one is lost and one is extra.
fn damaged() -> Stage {
    let stage = Stage::new();
    stage.write(
        "people.ndjson",
        "{\"id\":1,\"name\":\"a\"}\n{\"id\":2,\"name\":\"b\"}\n{\"id\":3,\"name\":\"c\"}\n",
    );
    // By its level the job itself would look at counts only.
    stage.write(
        "job.yaml",
        "name: asks\nsource: { plugin: files, config: { path: people.ndjson } }\n\
         sink: { plugin: turso, config: { url: \"file:app.db\" } }\n\
         collections: [{ source: people, key: [id] }]\nverification: basic\n",
    );
    stage.run(&["run", "job.yaml", "--json"]).expect(0);
    let database = stage.path("app.db");
    sql(&database, "UPDATE people SET name = 'x' WHERE id = 1");
    sql(&database, "UPDATE people SET id = 4 WHERE id = 3");
    stage
}

/// Repairs at a terminal; the exit code and what was shown.
fn repaired(stage: &Stage, answer: &str) -> (Option<i32>, String) {
    repaired_with(stage, answer, &[])
}

fn repaired_with(stage: &Stage, answer: &str, flags: &[&str]) -> (Option<i32>, String) {
    let output = Command::new("python3")
        .args(["-c", TERMINAL, answer])
        .arg(program())
        .args(["verify", "job.yaml", "--repair"])
        .args(flags)
        .current_dir(stage.path(""))
        .output()
        .unwrap();
    let shown = String::from_utf8_lossy(&output.stdout).into_owned();
    (output.status.code(), shown)
}

#[test]
fn a_no_at_the_terminal_changes_nothing() {
    let stage = damaged();
    let before = sql(&stage.path("app.db"), VALUES);
    let (code, shown) = repaired(&stage, "n");
    assert_eq!(code, Some(4), "{shown}");
    assert!(
        shown.contains("[y/N]") && shown.contains("nothing was repaired"),
        "{shown}"
    );
    assert_eq!(sql(&stage.path("app.db"), VALUES), before);
    let runs = stage.run(&["runs", "--json"]).expect(0).json();
    assert_eq!(runs["runs"].as_array().unwrap().len(), 1, "{runs}");
}

#[test]
fn a_no_tells_whoever_reads_json_what_was_found() {
    let stage = damaged();
    let (code, shown) = repaired_with(&stage, "n", &["--json"]);
    assert_eq!(code, Some(4), "{shown}");
    let begin = shown.find("\n{").expect(&shown);
    let report: Value = serde_json::from_str(&shown[begin..]).expect(&shown);
    assert_eq!(
        (&report["command"], &report["outcome"], &report["exit_code"]),
        (&json!("verify"), &json!("differences"), &json!(4)),
        "{report}"
    );
    assert_eq!(report["repaired"], Value::Null, "{report}");
}

#[test]
fn a_yes_at_the_terminal_heals() {
    let stage = damaged();
    let (code, shown) = repaired(&stage, "y");
    assert_eq!(code, Some(0), "{shown}");
    assert!(
        sql(&stage.path("app.db"), VALUES).contains("1:a 2:b 3:c"),
        "{shown}"
    );
    let runs = stage.run(&["runs", "--json"]).expect(0).json();
    // Two were copied again and one was removed.
    assert_eq!(
        (&runs["runs"][0]["command"], &runs["runs"][0]["written_count"]),
        (&json!("repair"), &json!(3)),
        "{runs}"
    );
}
