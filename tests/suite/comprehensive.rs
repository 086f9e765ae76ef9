//! Comprehensive comparisons by the built program: a copy is equal, corruptions by SQLite itself are each found by their key
//! and field and nothing else is, and a comparison that was killed goes on. Single kinds of difference are unit tests.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::program::{Answer, Stage};

/// Makes a database of all that SQLite can hold: a table, one with a key of two fields, and one without a key.
const MAKE: &str = r#"
import random, sqlite3, sys
path, count = sys.argv[1], int(sys.argv[2])
base = sqlite3.connect(path)
base.execute("CREATE TABLE things (id INTEGER PRIMARY KEY, name TEXT, score REAL, data BLOB, size INTEGER, note TEXT)")
base.execute("CREATE TABLE parts (a TEXT, b INTEGER, v TEXT, PRIMARY KEY (a, b))")
base.execute("CREATE TABLE loose (v TEXT, n INTEGER)")
draw = random.Random(7)
def thing(id):
    note = [None, "", "ä ß 漢字", "it's \"so\"\nand so", "   "][id % 5]
    return (id, f"Thing {id}", draw.uniform(-1e6, 1e6), draw.randbytes(id % 40), (1 << 53) + id, note)
base.executemany("INSERT INTO things VALUES (?, ?, ?, ?, ?, ?)", (thing(id) for id in range(1, count + 1)))
base.executemany("INSERT INTO parts VALUES (?, ?, ?)", ((f"k{n % 10}", n, f"v{n}") for n in range(500)))
base.executemany("INSERT INTO loose VALUES (?, ?)", ((f"v{n % 100}", n % 100) for n in range(250)))
base.commit()
"#;

/// Corrupts a copy in `sys.argv[2]` places drawn by `sys.argv[3]`, each record once, and prints what must be found.
const CORRUPT: &str = r#"
import json, math, random, sqlite3, struct, sys
path, count, seed = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
draw = random.Random(seed)
base = sqlite3.connect(path)
ids = [id for id, in base.execute("SELECT id FROM things ORDER BY id")]
draw.shuffle(ids)
found = []
def put(field, id, value):
    base.execute(f"UPDATE things SET {field} = ? WHERE id = ?", (value, id))
def old(field, id):
    return base.execute(f"SELECT {field} FROM things WHERE id = ?", (id,)).fetchone()[0]
def last_bit(value):
    return struct.unpack("<d", struct.pack("<Q", struct.unpack("<Q", struct.pack("<d", value))[0] ^ 1))[0]
def differ(id, field, value):
    put(field, id, value)
    found.append(["different", f"id={id}", [field]])
def corrupt(kind, id):
    if kind == 0: differ(id, "name", old("name", id)[:-1])
    elif kind == 1: differ(id, "name", old("name", id).lower())
    elif kind == 2: differ(id, "name", old("name", id) + " ")
    elif kind == 3: differ(id, "score", last_bit(old("score", id)))
    elif kind == 4: differ(id, "size", old("size", id) + 1)
    elif kind == 5: differ(id, "data", old("data", id) + b"\0")
    elif kind == 6: differ(id, "note", "" if old("note", id) is None else None)
    elif kind == 7:
        base.execute("DELETE FROM things WHERE id = ?", (id,))
        found.append(["missing", f"id={id}", []])
    elif kind == 8:
        base.execute("INSERT INTO things SELECT id + 1000000, name, score, data, size, note FROM things WHERE id = ?", (id,))
        found.append(["extra", f"id={id + 1000000}", []])
    elif kind == 9:
        other = ids.pop()
        left, right = old("name", id), old("name", other)
        differ(id, "name", right)
        differ(other, "name", left)
    elif kind == 10:
        differ(id, "data", None)
for number in range(count):
    corrupt(number % 11, ids.pop())
base.execute("UPDATE parts SET v = 'else' WHERE a = 'k3' AND b = 13")
base.execute("DELETE FROM loose WHERE rowid = (SELECT rowid FROM loose WHERE n = 5 LIMIT 1)")
base.commit()
print(json.dumps(found))
"#;

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

/// A database and a job that copies it into another one.
fn stage(count: u32) -> Stage {
    let stage = Stage::new();
    python(MAKE, &["from.db", &count.to_string()], &stage.path("."));
    let job = json!({
        "name": "proof",
        "source": { "plugin": "turso", "config": { "url": "file:from.db" } },
        "sink": { "plugin": "turso", "config": { "url": "file:into.db" } },
    });
    stage.write("job.yaml", job.to_string());
    stage
}

fn run(stage: &Stage) -> Value {
    stage
        .run(&[
            "run",
            "job.yaml",
            "--json",
            "--verification-level",
            "comprehensive",
        ])
        .expect(0)
        .json()
}

fn verify(stage: &Stage, variables: &[(&str, &str)]) -> Answer {
    let arguments = [
        "verify",
        "job.yaml",
        "--json",
        "--verification-level",
        "comprehensive",
    ];
    stage.run_with(&arguments, variables)
}

/// The seed of what is drawn at random.
fn seed() -> String {
    let seed = std::env::var("WHIMBREL_SEED").unwrap_or_else(|_| "20261121".to_owned());
    println!("WHIMBREL_SEED={seed}");
    seed
}

#[track_caller]
fn assert_equal(report: &Value) {
    let results = report["verification"].as_array().unwrap();
    assert!(!results.is_empty());
    for result in results {
        assert_eq!(result["comparison"], "equal", "{result}");
        assert_eq!(result["level"], "comprehensive", "{result}");
        assert_eq!(result["every_record"], true, "{result}");
        assert_eq!(result["compared_count"], result["source_count"], "{result}");
        let digests = &result["digests"];
        let (given, stored) = (&digests["transformed"], &digests["read_back"]);
        for sum in ["record_count", "sum", "xor", "root"] {
            assert_eq!(given[sum], stored[sum], "{result}");
        }
        assert_eq!(result["mismatches_file"], Value::Null, "{result}");
    }
}

/// What a report says of a collection.
fn result<'r>(report: &'r Value, collection: &str) -> &'r Value {
    let results = report["verification"].as_array().unwrap();
    let found = results.iter().find(|result| result["source"] == collection);
    found.unwrap_or_else(|| panic!("{collection} in {report}"))
}

/// The lists of differences of all comparisons so far.
fn lists(stage: &Stage, file: &str) -> Vec<PathBuf> {
    let folders = stage.verifications().into_iter();
    folders
        .map(|folder| folder.join("verification-results").join(file))
        .filter(|path| path.exists())
        .collect()
}

/// All that is listed in the newest list, as kind, record and fields, in order.
fn listed(stage: &Stage, file: &str) -> Vec<Value> {
    let newest = lists(stage, file).pop().unwrap();
    let text = std::fs::read_to_string(newest).unwrap();
    let line = |line: &str| -> Value {
        let line: Value = serde_json::from_str(line).unwrap();
        let fields = line["fields"].as_array().cloned().unwrap_or_default();
        json!([line["kind"], line["record"], fields])
    };
    sorted(text.lines().map(line).collect())
}

fn sorted(mut values: Vec<Value>) -> Vec<Value> {
    values.sort_by_key(ToString::to_string);
    values
}

#[test]
fn a_copy_is_equal_and_two_hundred_corruptions_are_each_found_by_key_and_field() {
    let stage = stage(5_000);
    assert_equal(&run(&stage));
    assert_equal(&verify(&stage, &[]).expect(0).json());
    let expected = python(CORRUPT, &["into.db", "200", &seed()], &stage.path("."));
    let expected: Vec<Value> = serde_json::from_str(&expected).unwrap();
    let report = verify(&stage, &[]).expect(4).json();
    let things = result(&report, "things");
    assert_eq!(things["comparison"], "different");
    assert_eq!(things["mismatch_count"], expected.len());
    assert_eq!(things["mismatches"].as_array().unwrap().len(), 50);
    assert_eq!(things["mismatches_file"], "things.ndjson");
    assert_eq!(listed(&stage, "things.ndjson"), sorted(expected));
    assert_eq!(
        listed(&stage, "parts.ndjson"),
        [json!(["different", "a=k3, b=13", ["v"]])]
    );
    let loose = result(&report, "loose");
    assert_eq!(loose["mismatch_count"], 1, "{loose}");
    assert_eq!(loose["mismatches"][0]["kind"], "count", "{loose}");
    assert_eq!(report["outcome"], "differences");
    let work = stage.path(".whimbrel").join("verification").join("proof");
    let left = |path: &Path| std::fs::read_dir(path).map_or(0, Iterator::count);
    for place in ["things", "parts", "loose"] {
        assert_eq!(left(&work.join(place)), 0, "{place}");
    }
}

#[test]
fn documents_arrive_as_they_are_and_renamed_fields_are_named_as_the_sink_has_them() {
    let stage = Stage::new();
    let lines: String = (0..1_000)
        .map(|id| {
            let tags = json!(["a", null, id]);
            let inner = json!({ "deep": { "n": id as f64 / 3.0 }, "t": "2024-02-29T12:00:00Z" });
            let mut record =
                json!({ "id": format!("r{id}"), "name": format!("N{id}"), "tags": tags, "inner": inner });
            match id % 3 {
                0 => record["maybe"] = Value::Null,
                1 => record["maybe"] = json!(id),
                _ => {}
            }
            format!("{record}\n")
        })
        .collect();
    stage.write("docs.ndjson", lines);
    let job = json!({
        "name": "proof",
        "source": { "plugin": "files", "config": { "path": "./docs.ndjson", "key": { "docs": ["id"] } } },
        "sink": { "plugin": "turso", "config": { "url": "file:into.db" } },
        "transforms": [{ "plugin": "reshape", "config": { "steps": [{ "rename": { "name": "title", "id": "code" } }] } }],
    });
    stage.write("job.yaml", job.to_string());
    let report = run(&stage);
    assert_equal(&report);
    let docs = result(&report, "docs");
    assert_eq!(docs["digests"]["key"], json!(["code"]));
    assert_equal(&verify(&stage, &[]).expect(0).json());
    let corrupt = r#"
import sqlite3
base = sqlite3.connect("into.db")
base.execute("UPDATE docs SET tags = '[null, \"a\", 7]' WHERE code = 'r7'")
base.execute("UPDATE docs SET title = 'n8' WHERE code = 'r8'")
base.execute("UPDATE docs SET maybe = NULL WHERE code = 'r10'")
base.execute("UPDATE docs SET _whimbrel_rest = NULL WHERE code = 'r11'")
base.execute("DELETE FROM docs WHERE code = 'r500'")
base.execute("INSERT INTO docs (code, title, tags, inner) VALUES ('zz', 'x', '[]', '{}')")
base.commit()
"#;
    python(corrupt, &[], &stage.path("."));
    verify(&stage, &[]).expect(4);
    assert_eq!(
        listed(&stage, "docs.ndjson"),
        [
            json!(["different", "code=r10", ["maybe"]]),
            json!(["different", "code=r11", ["maybe"]]),
            json!(["different", "code=r7", ["tags"]]),
            json!(["different", "code=r8", ["title"]]),
            json!(["extra", "code=zz", []]),
            json!(["missing", "code=r500", []]),
        ],
        "absent is apart from null"
    );
}

#[test]
fn a_collection_that_the_sink_lacks_is_a_difference_of_the_schema() {
    let stage = stage(50);
    run(&stage);
    let drop = "import sqlite3\nc=sqlite3.connect('into.db')\nc.execute('DROP TABLE parts')\nc.commit()";
    python(drop, &[], &stage.path("."));
    let report = verify(&stage, &[]).expect(4).json();
    let parts = result(&report, "parts");
    assert_eq!(parts["mismatches"][0]["kind"], "schema", "{parts}");
    assert_eq!(parts["mismatch_count"], 1, "{parts}");
}

#[test]
fn values_are_listed_only_for_who_asks_for_them() {
    let stage = stage(50);
    run(&stage);
    let corrupt = "import sqlite3\nc=sqlite3.connect('into.db')\n\
                   c.execute(\"UPDATE things SET name = 'mole' WHERE id = 7\")\nc.commit()";
    python(corrupt, &[], &stage.path("."));
    let text = |stage: &Stage| {
        let newest = lists(stage, "things.ndjson").pop().unwrap();
        std::fs::read_to_string(newest).unwrap()
    };
    let answer = verify(&stage, &[]).expect(4);
    assert!(!answer.out.contains("mole") && !text(&stage).contains("mole"));
    let arguments = [
        "verify",
        "job.yaml",
        "--json",
        "--show-values",
        "--verification-level",
        "comprehensive",
    ];
    stage.run(&arguments).expect(4);
    let line: Value = serde_json::from_str(text(&stage).trim()).unwrap();
    let values = json!([{ "field": "name", "source": "Thing 7", "sink": "mole" }]);
    assert_eq!((&line["values"], &line["key"]), (&values, &json!({ "id": 7 })));
}

#[test]
fn a_comparison_that_was_killed_goes_on_and_finds_the_same() {
    let stage = stage(60_000);
    run(&stage);
    let expected = python(CORRUPT, &["into.db", "22", &seed()], &stage.path("."));
    let expected: Vec<Value> = serde_json::from_str(&expected).unwrap();
    let killed = verify(
        &stage,
        &[
            ("WHIMBREL_CRASH_AT", "verification_marked:2"),
            ("WHIMBREL_CRASH_ALL", "1"),
        ],
    );
    assert!(!matches!(killed.code, 0 | 4), "it was killed: {}", killed.err);
    let work = stage.path(".whimbrel").join("verification").join("proof");
    assert!(work.exists(), "what is needed to go on is kept");
    verify(&stage, &[]).expect(4);
    assert_eq!(listed(&stage, "things.ndjson"), sorted(expected));
}

#[test]
fn a_comparison_that_was_killed_is_not_gone_on_with_for_another_database() {
    let stage = stage(60_000);
    let job = json!({
        "name": "proof",
        "source": { "plugin": "turso", "config": { "url": "${env:FROM}" } },
        "sink": { "plugin": "turso", "config": { "url": "file:into.db" } },
    });
    stage.write("job.yaml", job.to_string());
    let level = ["--verification-level", "comprehensive"];
    let run = [&["run", "job.yaml", "--json"][..], &level].concat();
    stage.run_with(&run, &[("FROM", "file:from.db")]).expect(0);
    std::fs::copy(stage.path("from.db"), stage.path("other.db")).unwrap();
    let change = "import sqlite3; base = sqlite3.connect('other.db'); \
                  base.execute(\"UPDATE things SET name = 'other' WHERE id = 7\"); base.commit()";
    python(change, &[], &stage.path("."));
    let killed = verify(
        &stage,
        &[
            ("FROM", "file:from.db"),
            ("WHIMBREL_CRASH_AT", "verification_marked:2"),
            ("WHIMBREL_CRASH_ALL", "1"),
        ],
    );
    assert!(!matches!(killed.code, 0 | 4), "it was killed: {}", killed.err);
    let report = verify(&stage, &[("FROM", "file:other.db")]).expect(4).json();
    let findings = report["findings"].as_array().unwrap();
    let codes: Vec<&str> = findings
        .iter()
        .filter_map(|finding| finding["code"].as_str())
        .collect();
    assert!(codes.contains(&"verification.begins_anew"), "{codes:?}");
    assert_eq!(
        listed(&stage, "things.ndjson"),
        [json!(["different", "id=7", ["name"]])]
    );
}
