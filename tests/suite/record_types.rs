//! Every record type with its edge values through both sinks and back: exact, or a loss that was declared beforehand.
//!
//! The expected matrix is committed (`fixtures/record-types/matrix.txt`): a new loss, or one that has gone, fails here.
//! `UPDATE_EXPECT=1` rewrites it.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use expect_test::expect_file;
use serde_json::value::RawValue;

use crate::program::{Stage, repository};

type Record = BTreeMap<String, Box<RawValue>>;

fn records(text: &str) -> Vec<Record> {
    text.lines()
        .map(|line| serde_json::from_str(line).expect("a line of NDJSON"))
        .collect()
}

fn fields() -> Vec<(String, String)> {
    let path = repository().join("tests/fixtures/record-types/source/every_type.schema.json");
    let schema: serde_json::Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let named = |field: &serde_json::Value| {
        let mut of = field.as_object().unwrap().clone();
        let name = of.remove("name").unwrap().as_str().unwrap().to_owned();
        let kind = of.remove("type").unwrap().as_str().unwrap().to_owned();
        (name, kind)
    };
    schema["schema"]["fields"]
        .as_array()
        .unwrap()
        .iter()
        .map(named)
        .collect()
}

/// Runs a job that must verify, and returns the declared losses by field.
fn migrate(stage: &Stage, name: &str, source: &str, sink: &str) -> BTreeMap<String, Vec<String>> {
    let job = format!(
        "name: {name}\nsource: {source}\nsink: {sink}\ncollections: [{{ source: every_type, key: [id] }}]\n"
    );
    let file = format!("{name}.yaml");
    stage.write(&file, job);
    let report = stage.run(&["run", &file, "--json"]).expect(0).json();
    assert_eq!(report["rejected_count"], 0, "{report}");
    let mut losses: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for loss in report["collections"][0]["losses"].as_array().unwrap() {
        let name = loss["loss"]["loss"].as_str().unwrap().to_owned();
        losses
            .entry(loss["field"].as_str().unwrap().to_owned())
            .or_default()
            .push(name);
    }
    losses
}

fn value<'a>(record: &'a Record, field: &str) -> &'a str {
    record.get(field).map_or("absent", |raw| raw.get())
}

#[test]
fn every_record_type_is_exact_or_loses_what_is_declared() {
    let stage = Stage::new();
    std::fs::create_dir(stage.path("source")).unwrap();
    for name in ["every_type.ndjson", "every_type.schema.json"] {
        stage.copy(
            &format!("tests/fixtures/record-types/source/{name}"),
            &format!("source/{name}"),
        );
    }
    let source = "{ plugin: files, config: { path: source } }";
    let database = "{ plugin: turso, config: { url: \"file:types.db\" } }";
    let into_files = migrate(
        &stage,
        "files",
        source,
        "{ plugin: files, config: { path: copy } }",
    );
    let into_database = migrate(&stage, "database", source, database);
    migrate(
        &stage,
        "back",
        database,
        "{ plugin: files, config: { path: back } }",
    );

    let read = |path: &str| records(&std::fs::read_to_string(stage.path(path)).unwrap());
    let (original, copy, back) = (
        read("source/every_type.ndjson"),
        read("copy/every_type.ndjson"),
        read("back/every_type.ndjson"),
    );
    assert_eq!((copy.len(), back.len()), (original.len(), original.len()));

    let mut matrix = String::new();
    for (field, kind) in fields() {
        let mut line = |sink: &str, losses: &BTreeMap<String, Vec<String>>, arrived: &[Record]| {
            let declared = losses
                .get(&field)
                .map_or_else(|| "exact".to_owned(), |losses| losses.join(", "));
            writeln!(matrix, "{kind:14} {field:14} {sink:6} {declared}").unwrap();
            for (number, (before, after)) in original.iter().zip(arrived).enumerate() {
                let (before, after) = (value(before, &field), value(after, &field));
                if before != after {
                    let declared = losses.get(&field).map(Vec::as_slice).unwrap_or_default();
                    assert!(
                        !declared.is_empty(),
                        "{sink}: `{field}` of record {number} changed undeclared"
                    );
                    if before == "absent"
                        && after == "null"
                        && declared.iter().any(|loss| loss == "absent_to_null")
                    {
                        continue;
                    }
                    writeln!(matrix, "    record {number}: {before} became {after}").unwrap();
                }
            }
        };
        line("files", &into_files, &copy);
        line("turso", &into_database, &back);
    }
    expect_file![repository().join("tests/fixtures/record-types/matrix.txt")].assert_eq(&matrix);
}
