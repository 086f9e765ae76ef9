//! The digests of a comprehensive verification, computed a second time by others: `harness/digests.py`, written after
//! `host/docs/digest.md`, reads the same data with nothing of whimbrel's and must come to the same sums.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::migration::sql;
use crate::program::{Stage, repository};

/// Records of the table that is compared as a whole: some in every third bucket, and a few seconds for an interpreter.
const RECORDS: usize = 2_000;

/// What `harness/digests.py` prints.
fn second_implementation(arguments: &[&str]) -> String {
    let python = std::env::var_os("WHIMBREL_PYTHON").unwrap_or_else(|| "python3".into());
    let output = Command::new(python)
        .arg(repository().join("tests/harness/digests.py"))
        .args(arguments)
        .output()
        .expect("Python starts");
    let out = String::from_utf8(output.stdout).expect("Python prints UTF-8");
    assert!(
        output.status.success(),
        "{arguments:?}\n{out}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    out
}

fn totals(arguments: &[&str]) -> Value {
    serde_json::from_str(&second_implementation(arguments)).expect("Python prints JSON")
}

fn of_table(database: &Path, table: &str, recipe: &Value) -> Value {
    totals(&["table", database.to_str().unwrap(), table, &recipe.to_string()])
}

/// The sums of one place as whimbrel says them.
#[track_caller]
fn said(result: &Value, place: &str) -> Value {
    let digest = &result["digests"][place];
    assert!(digest.is_object(), "no digest `{place}`: {result}");
    json!({
        "record_count": digest["record_count"],
        "sum": digest["sum"],
        "xor": digest["xor"],
        "root": digest["root"],
    })
}

/// The comparison of the only collection, by a run and by `verify` after it.
fn copy_and_verify(stage: &Stage) -> [Value; 2] {
    let level = ["--verification-level", "comprehensive", "--json"];
    ["run", "verify"].map(|command| {
        let mut arguments = vec![command, "job.yaml"];
        arguments.extend(level);
        let report = stage.run(&arguments).expect(0).json();
        let result = report["verification"][0].clone();
        assert_eq!(result["comparison"], "equal", "{command}: {result}");
        assert_eq!(result["every_record"], true, "{command}");
        result
    })
}

#[test]
fn the_second_implementation_agrees_on_all_vectors() {
    let path = repository().join("tests/fixtures/digest-vectors.json");
    let vectors: Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    let count = ["vectors", "collections"]
        .map(|part| vectors[part].as_array().unwrap().len())
        .iter()
        .sum::<usize>();
    let said = second_implementation(&["vectors", path.to_str().unwrap()]);
    assert_eq!(said.trim(), format!("{count} of {count} agree"));
}

#[test]
fn the_second_implementation_sees_a_changed_vector() {
    let path = repository().join("tests/fixtures/digest-vectors.json");
    let text = std::fs::read_to_string(&path).unwrap();
    let stage = Stage::new();
    let changed = stage.write("changed.json", text.replacen(r#"{\"v\":1}"#, r#"{\"v\":2}"#, 1));
    let python = std::env::var_os("WHIMBREL_PYTHON").unwrap_or_else(|| "python3".into());
    let output = Command::new(python)
        .arg(repository().join("tests/harness/digests.py"))
        .arg("vectors")
        .arg(changed)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stdout).starts_with("int one: "));
}

#[test]
fn a_whole_table_has_the_digests_that_others_compute_from_it() {
    let stage = Stage::new();
    let source = stage.path("source.db");
    sql(
        &source,
        "CREATE TABLE parts(id INTEGER NOT NULL, part TEXT NOT NULL, note TEXT, total INTEGER, weight REAL, mark BLOB, \
         PRIMARY KEY (part, id))",
    );
    // Nulls, empty and long texts of several scripts, integers of every size and sign, floats, octets.
    let row = "id, 'part ' || (id % 7), \
         CASE id % 5 WHEN 0 THEN NULL WHEN 1 THEN '' ELSE 'naïve 東京 😀 ' || replace(hex(zeroblob(id % 900)), '0', 'é ') END, \
         9223372036854775807 / (id + 1) * (1 - id % 2 * 2), id * 3 + 0.25, cast('mark' || id AS BLOB)";
    sql(
        &source,
        &format!(
            "INSERT INTO parts WITH RECURSIVE ids(id) AS (SELECT 0 UNION ALL SELECT id + 1 FROM ids WHERE id < {RECORDS} - 1) \
             SELECT {row} FROM ids"
        ),
    );
    let job = json!({
        "name": "digests",
        "source": { "plugin": "turso", "config": { "url": "file:source.db" } },
        "sink": { "plugin": "turso", "config": { "url": "file:copy.db" } },
    });
    stage.write("job.yaml", job.to_string());
    let fields = json!([
        { "name": "id", "type": "int", "bits": 64 },
        { "name": "part", "type": "text" },
        { "name": "note", "type": "text" },
        { "name": "total", "type": "int", "bits": 64 },
        { "name": "weight", "type": "float", "bits": 64 },
        { "name": "mark", "type": "bytes" },
    ]);
    let recipe = json!({ "fields": fields, "key": ["part", "id"], "losses": [] });
    let results = copy_and_verify(&stage);
    let (of_source, of_copy) = (
        of_table(&source, "parts", &recipe),
        of_table(&stage.path("copy.db"), "parts", &recipe),
    );
    assert_eq!(of_source["record_count"], RECORDS);
    assert_eq!(of_source, of_copy);
    for result in results {
        assert_eq!(result["digests"]["key"], recipe["key"]);
        for place in ["extracted", "transformed", "read_back"] {
            assert_eq!(said(&result, place), of_source, "{place}");
        }
    }
}

#[test]
fn every_record_type_has_the_digests_that_others_compute_from_it() {
    let stage = Stage::new();
    let folder = "tests/fixtures/record-types/source";
    std::fs::create_dir(stage.path("in")).unwrap();
    let lines = stage.copy(&format!("{folder}/every_type.ndjson"), "in/every_type.ndjson");
    let schema = stage.copy(
        &format!("{folder}/every_type.schema.json"),
        "in/every_type.schema.json",
    );
    let job = json!({
        "name": "digests",
        "source": { "plugin": "files", "config": { "path": "in" } },
        "sink": { "plugin": "turso", "config": { "url": "file:copy.db" } },
        "collections": [{ "source": "every_type", "key": ["id"] }],
    });
    stage.write("job.yaml", job.to_string());
    let schema: Value = serde_json::from_str(&std::fs::read_to_string(schema).unwrap()).unwrap();
    let exact = json!({ "fields": schema["schema"]["fields"], "key": ["id"], "losses": [] });
    let losses: Vec<Value> = ["float32", "float64"]
        .iter()
        .flat_map(|field| ["nan_to_null", "negative_zero_to_zero"].map(|loss| (field, loss)))
        .map(|(field, loss)| json!({ "field": field, "loss": { "loss": loss } }))
        .collect();
    let lossy = json!({ "fields": schema["schema"]["fields"], "key": ["id"], "losses": losses });
    let of_lines = |recipe: &Value| totals(&["lines", lines.to_str().unwrap(), &recipe.to_string()]);
    let results = copy_and_verify(&stage);
    let of_copy = of_table(&stage.path("copy.db"), "every_type", &lossy);
    assert_ne!(of_lines(&exact), of_lines(&lossy));
    for result in results {
        assert_eq!(said(&result, "extracted"), of_lines(&exact));
        assert_eq!(said(&result, "transformed"), of_lines(&lossy));
        assert_eq!(said(&result, "read_back"), of_copy);
        assert_eq!(said(&result, "transformed"), of_copy);
    }
}
