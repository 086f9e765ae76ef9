//! Every record type with its edge values through every ordered pair of connectors: exact, or a loss that was declared
//! beforehand.
//!
//! The expected matrix is committed (`fixtures/record-types/matrix.txt`): a new loss, or one that has gone, fails here. So does
//! the documents' table (`host/docs/record-types.md`) if it is not what the plugins declare. `UPDATE_EXPECT=1` rewrites both.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use expect_test::expect_file;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::firestore::Emulator;
use crate::postgres::{Database, Server, Version};
use crate::program::{Stage, repository};

type Record = BTreeMap<String, Box<RawValue>>;
type Losses = BTreeMap<String, Vec<String>>;

const FIXTURE: &str = "tests/fixtures/record-types/source";

/// What a browser may hold under one prefix, as its export has it: JSON whose kinds differ between records, and edge values.
const BROWSER: &[&str] = &[
    r#"{"id":1,"flag":true,"number":9223372036854775807,"float":1.7976931348623157e308,"text":"naïve 東京 😀 \"q\" \\","mixed":1,"nested":{"a":[1,2.50,null],"b":9007199254740993},"sparse":null}"#,
    r#"{"id":2,"flag":false,"number":-9223372036854775808,"float":-0.5,"text":"","mixed":"one","nested":[[1],[]],"sparse":""}"#,
    r#"{"id":3,"flag":null,"number":0,"float":5e-324,"text":null,"mixed":{"deep":[true]},"nested":null}"#,
];

/// A system under test: how a job names it, and its collection there.
struct Place {
    name: &'static str,
    config: String,
    collection: &'static str,
}

/// Records that a sink may reject with a reason; the matrix names each.
const REJECTED_MAX: usize = 5;
/// The connectors that can be written to.
const SINKS: [&str; 4] = ["files", "turso", "postgres", "firestore"];

struct Places {
    stage: Stage,
    database: Database,
    emulator: Emulator,
    runs: u32,
}

impl Places {
    /// A fresh place of `connector` to write to. Each has tables or folders of its own.
    fn fresh(&mut self, connector: &'static str) -> Place {
        self.runs += 1;
        let number = self.runs;
        let config = match connector {
            "files" => format!("{{ plugin: files, config: {{ path: copy{number} }} }}"),
            "turso" => format!("{{ plugin: turso, config: {{ url: \"file:types{number}.db\" }} }}"),
            "firestore" => format!(
                "{{ plugin: firestore, config: {{ host: \"{}\", project: {} }} }}",
                self.emulator.host(),
                self.emulator.project("types")
            ),
            _ => {
                self.database.sql(&format!("CREATE SCHEMA s{number}"));
                format!(
                    "{{ plugin: postgres, config: {{ url: \"{}\", schema: s{number}, state_schema: whimbrel{number}, nul: remove }} }}",
                    self.database.url()
                )
            }
        };
        Place {
            name: connector,
            config,
            collection: "every_type",
        }
    }

    /// Runs a job that must verify and reject nothing, and returns the losses that were declared, by field.
    fn migrate(&mut self, from: &Place, to: &Place) -> Losses {
        let (losses, rejected) = self.migrate_but_for_rejected(from, to);
        assert!(rejected.is_empty(), "{} -> {}: {rejected:?}", from.name, to.name);
        losses
    }

    /// Runs a job that must verify, and returns the losses that were declared, by field, and why records were rejected.
    fn migrate_but_for_rejected(&mut self, from: &Place, to: &Place) -> (Losses, Vec<String>) {
        self.runs += 1;
        let name = format!("{}-{}-{}", from.name, to.name, self.runs);
        let job = format!(
            "name: {name}\nsource: {}\nsink: {}\ncollections: [{{ source: {}, sink: every_type, key: [id] }}]\n\
             import: {{ max_errors: {REJECTED_MAX} }}\nverification: comprehensive\n",
            from.config, to.config, from.collection
        );
        let file = format!("{name}.yaml");
        self.stage.write(&file, job);
        let report = self.stage.run(&["run", &file, "--json"]).expect(0).json();
        let rejected: Vec<String> = report["rejected"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|rejected| rejected[1]["code"].as_str().unwrap().to_owned())
            .collect();
        assert_eq!(report["rejected_count"], rejected.len(), "{report}");
        let mut losses = Losses::new();
        for loss in report["collections"][0]["losses"].as_array().unwrap() {
            losses
                .entry(loss["field"].as_str().unwrap().to_owned())
                .or_default()
                .push(loss["loss"]["loss"].as_str().unwrap().to_owned());
        }
        (losses, rejected)
    }

    /// What a place holds, written into files: records by their key.
    fn view(&mut self, place: &Place) -> BTreeMap<String, Record> {
        let files = self.fresh("files");
        let number = self.runs;
        self.migrate(place, &files);
        let text =
            std::fs::read_to_string(self.stage.path(&format!("copy{number}/every_type.ndjson"))).unwrap();
        let records = text.lines().map(|line| {
            let record: Record = serde_json::from_str(line).expect("a line of NDJSON");
            (record["id"].get().to_owned(), record)
        });
        records.collect()
    }

    /// Copies all of one place into another and notes what was declared and what has changed.
    fn compare(&mut self, from: &Place, to: &Place, kinds: &BTreeMap<String, String>, matrix: &mut String) {
        let before = self.view(from);
        let (losses, rejected) = self.migrate_but_for_rejected(from, to);
        let after = self.view(to);
        let missing: Vec<&String> = before.keys().filter(|key| !after.contains_key(*key)).collect();
        assert_eq!(missing.len(), rejected.len(), "{} -> {}", from.name, to.name);
        assert_eq!(
            after.len() + missing.len(),
            before.len(),
            "{} -> {}",
            from.name,
            to.name
        );
        writeln!(matrix, "{} -> {}", from.name, to.name).unwrap();
        for (key, code) in missing.into_iter().zip(&rejected) {
            writeln!(matrix, "  record {key} is rejected: {code}").unwrap();
        }
        for (field, kind) in kinds {
            let declared = losses.get(field).map(Vec::as_slice).unwrap_or_default();
            let said = match declared {
                [] => "exact".to_owned(),
                declared => declared.join(", "),
            };
            writeln!(matrix, "  {field:14} {kind:14} {said}").unwrap();
            for (key, record) in before.iter().filter(|(key, _)| after.contains_key(*key)) {
                let (was, is) = (value(record, field), value(&after[key], field));
                if was == is {
                    continue;
                }
                assert!(
                    !declared.is_empty(),
                    "{} -> {}: `{field}` of record {key} changed undeclared: {was} became {is}",
                    from.name,
                    to.name
                );
                writeln!(matrix, "    record {key}: {was} became {is}").unwrap();
            }
        }
    }
}

fn value<'a>(record: &'a Record, field: &str) -> &'a str {
    record.get(field).map_or("absent", |raw| raw.get())
}

/// The fields of the fixture with their types.
fn kinds() -> BTreeMap<String, String> {
    let path = repository().join(FIXTURE).join("every_type.schema.json");
    let schema: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let fields = schema["schema"]["fields"].as_array().unwrap().iter();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    fields
        .map(|field| (text(&field["name"]), text(&field["type"])))
        .collect()
}

#[test]
fn every_record_type_is_exact_or_loses_what_is_declared_between_any_two_connectors() {
    let (Some(server), Some(emulator)) = (Server::shared(Version::V18), Emulator::shared()) else {
        return;
    };
    let mut places = Places {
        stage: Stage::new(),
        database: server.database(),
        emulator,
        runs: 0,
    };
    std::fs::create_dir(places.stage.path("source")).unwrap();
    for name in ["every_type.ndjson", "every_type.schema.json"] {
        places
            .stage
            .copy(&format!("{FIXTURE}/{name}"), &format!("source/{name}"));
    }
    let mut matrix = String::new();
    let fixture = Place {
        name: "files",
        config: "{ plugin: files, config: { path: source } }".to_owned(),
        collection: "every_type",
    };
    let kinds = kinds();
    for to in SINKS {
        let to = places.fresh(to);
        places.compare(&fixture, &to, &kinds, &mut matrix);
    }
    for from in ["turso", "postgres", "firestore"] {
        let seeded = places.fresh(from);
        places.migrate(&fixture, &seeded);
        for to in SINKS {
            let to = places.fresh(to);
            places.compare(&seeded, &to, &kinds, &mut matrix);
        }
    }
    let export: BTreeMap<String, &str> = BROWSER
        .iter()
        .enumerate()
        .map(|(number, text)| (format!("edge:{number}"), *text))
        .collect();
    places
        .stage
        .write("export.json", serde_json::to_string(&export).unwrap());
    let browser = Place {
        name: "local-storage",
        config: "{ plugin: local-storage, config: { path: export.json } }".to_owned(),
        collection: "edge",
    };
    let fields = [
        "id", "flag", "number", "float", "text", "mixed", "nested", "sparse",
    ];
    let kinds = fields
        .iter()
        .map(|name| ((*name).to_owned(), "inferred".to_owned()))
        .collect();
    for to in SINKS {
        let to = places.fresh(to);
        places.compare(&browser, &to, &kinds, &mut matrix);
    }
    expect_file![repository().join("tests/fixtures/record-types/matrix.txt")].assert_eq(&matrix);
}

/// `decimal(38, 10)` and the like, as people write a record type.
fn type_name(record_type: &Value) -> String {
    let name = record_type["type"].as_str().unwrap();
    let number = |key: &str| record_type[key].as_u64().unwrap();
    match name {
        "int" | "float" => format!("{name}{}", number("bits")),
        "decimal" => "decimal(p, s)".to_owned(),
        "list" => "list".to_owned(),
        "struct" => "struct".to_owned(),
        "opaque" => "opaque".to_owned(),
        _ => name.to_owned(),
    }
}

#[test]
fn the_documents_table_of_types_is_what_the_plugins_declare() {
    let stage = Stage::new();
    let plugins = ["files", "firestore", "local-storage", "postgres", "turso"];
    let mut order: Vec<String> = Vec::new();
    let mut cells: BTreeMap<(String, String), String> = BTreeMap::new();
    let mut columns = Vec::new();
    let mut losses = BTreeSet::new();
    for plugin in plugins {
        let info = stage.run(&["plugin", "info", plugin, "--json"]).expect(0).json();
        let roles = info["roles"].as_array().unwrap().iter();
        // What a source reads back is what its own sink has written; a source alone has a column of its own.
        let Some(role) = roles
            .clone()
            .find(|role| role[0] == "sink")
            .or_else(|| roles.clone().find(|role| role[0] == "source"))
        else {
            continue;
        };
        let column = match role[0].as_str().unwrap() {
            "sink" => format!("`{plugin}`"),
            _ => format!("`{plugin}`, read"),
        };
        columns.push(column.clone());
        for mapping in role[1]["type_mappings"].as_array().unwrap() {
            let name = type_name(&mapping["record_type"]);
            if !order.contains(&name) {
                order.push(name.clone());
            }
            let lost: Vec<String> = mapping["losses"]
                .as_array()
                .unwrap()
                .iter()
                .map(|loss| loss["loss"].as_str().unwrap().to_owned())
                .collect();
            losses.extend(lost.iter().cloned());
            let kept = match lost.as_slice() {
                [] => "exact".to_owned(),
                lost => format!("`{}`", lost.join("`, `")),
            };
            let stored = mapping["stored_as"].as_str().unwrap();
            cells.insert((name, column.clone()), format!("{kept}; {stored}"));
        }
    }
    let mut table = format!(
        "| record type | {} |\n|---|{}\n",
        columns.join(" | "),
        "---|".repeat(columns.len())
    );
    for name in &order {
        let row: Vec<&str> = columns
            .iter()
            .map(|column| {
                cells
                    .get(&(name.clone(), column.clone()))
                    .map_or("-", String::as_str)
            })
            .collect();
        writeln!(table, "| `{name}` | {} |", row.join(" | ")).unwrap();
    }
    let path = repository().join("host/docs/record-types.md");
    let page = std::fs::read_to_string(&path).unwrap();
    let (begin, end) = ("<!-- types:begin -->\n", "<!-- types:end -->");
    let (before, rest) = page
        .split_once(begin)
        .expect("the page has a place for the table");
    let (_, after) = rest.split_once(end).expect("the table ends");
    for loss in &losses {
        assert!(
            after.contains(&format!("`{loss}`")),
            "`{loss}` is not explained in record-types.md"
        );
    }
    expect_file![path].assert_eq(&format!("{before}{begin}{table}{end}{after}"));
}
