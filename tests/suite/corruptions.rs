//! Two hundred corruptions at once between any two connectors: each is found by its key and field, and nothing else is.
//!
//! A clean and a corrupted version of the same records are written into each system; the corrupted one is copied on, and the copy is
//! compared with the clean one. So everything is in the sink as its own connector writes it. `WHIMBREL_SEED` chooses the records.

use std::collections::BTreeSet;
use std::path::PathBuf;

use serde_json::{Map, Value, json};

use crate::firestore::{Emulator, document_name};
use crate::postgres::{Database, Server, Version};
use crate::program::{Stage, repository};

/// Records of the clean version; each is corrupted in one way at most.
const RECORDS: usize = 400;
/// Records of each field whose value is changed.
const CHANGED_OF_FIELD: usize = 4;
/// Records of each other kind of corruption.
const OF_KIND: usize = 6;
/// Records that are lost, and as many that are extra.
const LOST: usize = 15;
/// Connectors that can be both ends.
const CONNECTORS: [&str; 4] = ["files", "turso", "postgres", "firestore"];
/// The columns, with all types, are those of this fixture.
const SCHEMA: &str = "tests/fixtures/record-types/source/every_type.schema.json";

/// A difference as the list of the program has it: kind, record, fields.
type Found = (String, String, Vec<String>);

/// Numbers from a seed, by the xorshift of Marsaglia.
struct Chance(u64);

impl Chance {
    /// From `WHIMBREL_SEED`, or another one each time; it is printed.
    fn seeded() -> Self {
        let given = std::env::var("WHIMBREL_SEED")
            .ok()
            .and_then(|text| text.parse().ok());
        let seed = given.unwrap_or_else(|| {
            let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
            now.map_or(1, |now| now.as_nanos() as u64)
        });
        println!("WHIMBREL_SEED={seed}");
        Self(seed | 1)
    }

    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % end as u64) as usize
    }
}

/// The value of `field` in record `id`, or another one of the same type.
fn value(field: &str, id: usize, other: bool) -> Value {
    let number = if other { id + 40_000 } else { id };
    let small = (number + usize::from(other)) % 100;
    match field {
        "id" => json!(id),
        "bool" => json!(id.is_multiple_of(2) != other),
        "int8" | "int16" => json!(small),
        "int32" | "int64" => json!(number),
        "float32" => json!(number as f64 + 0.5),
        "float64" => json!(1.0 + number as f64 / 65_536.0),
        "decimal_12_2" => json!(format!("{number}.25")),
        "decimal_76_30" | "numeric" => json!(format!("{number}.000000000000000000000000000001")),
        "unsigned" => json!(format!("1844674407370{number:07}")),
        "text" => json!(format!("Straße {number} naïve")),
        "bytes" => json!(["AP8Q", "AQID"][usize::from(other)]),
        "date" => json!(format!("20{small:02}-01-02")),
        "time" => json!(format!("10:{:02}:00.000001", small % 60)),
        "time_tz" => json!(format!("10:{:02}:00.000001+02:00", small % 60)),
        "timestamp_tz" => json!(format!("20{small:02}-03-04T05:06:07.000009Z")),
        "timestamp" => json!(format!("20{small:02}-03-04T05:06:07.000009")),
        "interval" => json!(format!("P{}M2DT3.000000S", small % 12 + 1)),
        "uuid" => json!(format!("00000000-0000-4000-8000-{number:012}")),
        "json" => json!({ "a": number, "b": [1, { "c": null }] }),
        "list" => json!(["x", format!("{number}"), null]),
        "struct" => json!({ "a": number, "b": [1.5, null] }),
        "geopoint" => json!({ "lat": small as f64 / 2.0, "lng": -1.5 }),
        "reference" => json!(format!("users/{number}")),
        "vector" => json!([1.5, number as f64]),
        "opaque" => json!(format!("10.0.{}.{}", usize::from(other), id % 250)),
        "named" => json!(format!("n {number}")),
        "variant" => match id % 3 {
            0 => json!(number),
            1 => json!(format!("{number}")),
            _ => json!([number, true]),
        },
        other => panic!("the field `{other}` has no values here"),
    }
}

/// The names of the fields, the key first.
fn fields() -> Vec<String> {
    let schema: Value = serde_json::from_slice(&std::fs::read(repository().join(SCHEMA)).unwrap()).unwrap();
    let fields = schema["schema"]["fields"].as_array().unwrap().iter();
    fields
        .map(|field| field["name"].as_str().unwrap().to_owned())
        .collect()
}

fn record(fields: &[String], id: usize) -> Map<String, Value> {
    let member = |field: &String| (field.clone(), value(field, id, false));
    fields.iter().map(member).collect()
}

/// What is done to the records, and what is to be found of it.
struct Corruption {
    clean: Vec<Map<String, Value>>,
    corrupt: Vec<Map<String, Value>>,
    found: BTreeSet<Found>,
    /// To be found unless it is a declared loss of the pair that absent becomes null.
    found_with_presence: BTreeSet<Found>,
    /// Records of the sink that get a field of their own there, where a system can have such.
    found_in_documents: BTreeSet<Found>,
    /// Records that are not touched yet.
    left: Vec<usize>,
}

impl Corruption {
    fn new(chance: &mut Chance) -> Self {
        let fields = fields();
        let clean: Vec<_> = (0..RECORDS).map(|id| record(&fields, id)).collect();
        let mut left: Vec<usize> = (0..RECORDS).collect();
        for index in (1..RECORDS).rev() {
            left.swap(index, chance.below(index + 1));
        }
        let mut corruption = Self {
            corrupt: clean.clone(),
            clean,
            found: BTreeSet::new(),
            found_with_presence: BTreeSet::new(),
            found_in_documents: BTreeSet::new(),
            left,
        };
        corruption.change_every_field(&fields[1..]);
        corruption.change_in_telling_ways();
        corruption.null_and_nothing();
        corruption.lose_and_add(&fields);
        for _ in 0..OF_KIND {
            let record = format!("id={}", corruption.next());
            let found = ("different".to_owned(), record, vec!["admin".to_owned()]);
            corruption.found_in_documents.insert(found);
        }
        corruption
    }

    fn next(&mut self) -> usize {
        self.left.pop().expect("there are more records than corruptions")
    }

    fn expect(&mut self, kind: &str, id: usize, fields: &[&str]) {
        let fields = fields.iter().map(|field| (*field).to_owned()).collect();
        self.found.insert((kind.to_owned(), format!("id={id}"), fields));
    }

    fn change(&mut self, field: &str, changed: impl Fn(&Value) -> Value) {
        let id = self.next();
        let changed = changed(&self.clean[id][field]);
        assert_ne!(changed, self.clean[id][field]);
        self.corrupt[id].insert(field.to_owned(), changed);
        self.expect("different", id, &[field]);
    }

    fn change_every_field(&mut self, fields: &[String]) {
        for field in fields {
            for _ in 0..CHANGED_OF_FIELD {
                let id = *self.left.last().expect("records are left");
                self.change(field, |_| value(field, id, true));
            }
        }
    }

    fn change_in_telling_ways(&mut self) {
        fn text(of: &Value) -> &str {
            of.as_str().unwrap()
        }
        for _ in 0..OF_KIND {
            // Cut short, in other letters, with a space behind.
            self.change("text", |of| json!(text(of)[..text(of).len() - 1]));
            self.change("text", |of| json!(text(of).to_uppercase()));
            self.change("text", |of| json!(format!("{} ", text(of))));
            // An hour, as by a lost time zone.
            self.change("timestamp_tz", |of| json!(text(of).replace("T05", "T06")));
            self.change("float64", |of| {
                json!(f64::from_bits(of.as_f64().unwrap().to_bits() + 1))
            });
            self.change("list", |of| json!([of[1], of[0], of[2]]));
        }
        for _ in 0..OF_KIND {
            let (one, other) = (self.next(), self.next());
            for (of, from) in [(one, other), (other, one)] {
                let theirs = self.clean[from]["text"].clone();
                self.corrupt[of].insert("text".to_owned(), theirs);
                self.expect("different", of, &["text"]);
            }
        }
    }

    fn null_and_nothing(&mut self) {
        for number in 0..OF_KIND {
            let id = self.next();
            let sides = [&mut self.clean[id], &mut self.corrupt[id]];
            for (side, value) in sides.into_iter().zip([json!(""), Value::Null]) {
                side.insert("text".to_owned(), value);
            }
            if number.is_multiple_of(2) {
                self.swap_versions(id);
            }
            self.expect("different", id, &["text"]);
            let id = self.next();
            self.clean[id].insert("named".to_owned(), Value::Null);
            self.corrupt[id].remove("named");
            if number.is_multiple_of(2) {
                self.swap_versions(id);
            }
            let (kind, record) = ("different".to_owned(), format!("id={id}"));
            self.found_with_presence
                .insert((kind, record, vec!["named".to_owned()]));
        }
    }

    fn swap_versions(&mut self, id: usize) {
        std::mem::swap(&mut self.clean[id], &mut self.corrupt[id]);
    }

    fn lose_and_add(&mut self, fields: &[String]) {
        let lost: BTreeSet<usize> = (0..LOST).map(|_| self.next()).collect();
        for id in &lost {
            self.expect("missing", *id, &[]);
        }
        let mut number = 0..;
        self.corrupt.retain(|_| !lost.contains(&number.next().unwrap()));
        for id in RECORDS..RECORDS + LOST {
            self.corrupt.push(record(fields, id));
            self.expect("extra", id, &[]);
        }
    }
}

/// Systems of the test, each with many places.
struct Systems {
    stage: Stage,
    database: Database,
    emulator: Emulator,
    places: u32,
}

impl Systems {
    /// How a job names a fresh place of a connector.
    fn fresh(&mut self, connector: &str) -> String {
        self.places += 1;
        let number = self.places;
        match connector {
            "files" => format!("{{ plugin: files, config: {{ path: copy{number} }} }}"),
            "turso" => format!("{{ plugin: turso, config: {{ url: \"file:copy{number}.db\" }} }}"),
            "firestore" => format!(
                "{{ plugin: firestore, config: {{ host: \"{}\", project: {} }} }}",
                self.emulator.host(),
                self.emulator.project("corrupt")
            ),
            _ => {
                self.database.sql(&format!("CREATE SCHEMA c{number}"));
                format!(
                    "{{ plugin: postgres, config: {{ url: \"{}\", schema: c{number}, state_schema: whimbrel{number} }} }}",
                    self.database.url()
                )
            }
        }
    }

    /// Files with `records`.
    fn files(&self, folder: &str, records: &[Map<String, Value>]) -> String {
        std::fs::create_dir(self.stage.path(folder)).unwrap();
        self.stage
            .copy(SCHEMA, &format!("{folder}/every_type.schema.json"));
        let lines: String = records
            .iter()
            .map(|record| format!("{}\n", json!(record)))
            .collect();
        self.stage.write(&format!("{folder}/every_type.ndjson"), lines);
        format!("{{ plugin: files, config: {{ path: {folder} }} }}")
    }

    fn job(&mut self, source: &str, sink: &str) -> String {
        self.places += 1;
        let (name, file) = (format!("job{}", self.places), format!("job{}.yaml", self.places));
        self.stage.write(
            &file,
            format!(
                "name: {name}\nsource: {source}\nsink: {sink}\n\
                 collections: [{{ source: every_type, key: [id] }}]\nverification: comprehensive\n"
            ),
        );
        file
    }

    /// Copies all, and sees that the copy is found to be one.
    fn copied(&mut self, source: &str, connector: &str) -> String {
        let sink = self.fresh(connector);
        let job = self.job(source, &sink);
        let report = self.stage.run(&["run", &job, "--json"]).expect(0).json();
        let result = &report["verification"][0];
        assert_eq!(
            (
                &result["comparison"],
                &result["every_record"],
                &result["source_count"]
            ),
            (&json!("equal"), &json!(true), &result["sink_count"]),
            "{report:#}"
        );
        sink
    }

    /// Gives each of `found` the field that it names, in a place of Firestore.
    fn add_to_documents(&self, place: &str, found: &BTreeSet<Found>) {
        let project = place.split_once("project: ").unwrap().1;
        let project = project.trim_end_matches([' ', '}']);
        let write = |(_, record, fields): &Found| {
            let path = format!("every_type/{}", record.trim_start_matches("id="));
            json!({
                "update": {
                    "name": document_name(project, &path),
                    "fields": { &fields[0]: { "booleanValue": true } },
                },
                "updateMask": { "fieldPaths": fields },
                "currentDocument": { "exists": true },
            })
        };
        let writes: Vec<Value> = found.iter().map(write).collect();
        self.emulator.commit(project, &json!(writes).to_string());
    }

    /// All differences between two places, from the list that the program writes; and whether it is a declared loss that an
    /// absent field becomes null.
    fn differences(&mut self, source: &str, sink: &str) -> (BTreeSet<Found>, bool) {
        let job = self.job(source, sink);
        let report = self.stage.run(&["verify", &job, "--json"]).expect(4).json();
        let result = &report["verification"][0];
        let file = result["mismatches_file"]
            .as_str()
            .unwrap_or_else(|| panic!("{report:#}"));
        let text = std::fs::read_to_string(self.newest_results().join(file)).unwrap();
        let found: Vec<Found> = text
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap())
            .map(|line| {
                let fields = line["fields"].as_array().into_iter().flatten();
                let fields = fields.map(|field| field.as_str().unwrap().to_owned()).collect();
                let text = |key: &str| line[key].as_str().unwrap().to_owned();
                (text("kind"), text("record"), fields)
            })
            .collect();
        assert_eq!(result["mismatch_count"], found.len(), "{report:#}");
        let losses = report["collections"][0]["losses"]
            .as_array()
            .into_iter()
            .flatten();
        let mut losses = losses.filter(|loss| loss["field"] == "named");
        let absent_is_null = losses.any(|loss| loss["loss"]["loss"] == "absent_to_null");
        (found.into_iter().collect(), absent_is_null)
    }

    fn newest_results(&self) -> PathBuf {
        let newest = self.stage.verifications().pop();
        newest.unwrap().join("verification-results")
    }
}

fn found_between(from: &str) {
    let (Some(server), Some(emulator)) = (Server::shared(Version::V18), Emulator::shared()) else {
        return;
    };
    let corruption = Corruption::new(&mut Chance::seeded());
    assert!(
        corruption.found.len() >= 200,
        "{} corruptions",
        corruption.found.len()
    );
    let mut systems = Systems {
        stage: Stage::new(),
        database: server.database(),
        emulator,
        places: 0,
    };
    let mut clean = systems.files("clean", &corruption.clean);
    let mut corrupt = systems.files("corrupt", &corruption.corrupt);
    if from != "files" {
        clean = systems.copied(&clean, from);
        corrupt = systems.copied(&corrupt, from);
    }
    for to in CONNECTORS {
        let sink = systems.copied(&corrupt, to);
        let mut wanted = corruption.found.clone();
        if to == "firestore" {
            systems.add_to_documents(&sink, &corruption.found_in_documents);
            wanted.extend(corruption.found_in_documents.iter().cloned());
        }
        let (found, absent_is_null) = systems.differences(&clean, &sink);
        if !absent_is_null {
            wanted.extend(corruption.found_with_presence.iter().cloned());
        }
        let (missed, made_up): (Vec<_>, Vec<_>) = (
            wanted.difference(&found).collect(),
            found.difference(&wanted).collect(),
        );
        assert!(
            missed.is_empty() && made_up.is_empty(),
            "{from} -> {to}\nnot found: {missed:?}\nfound, and not there: {made_up:?}"
        );
    }
}

#[test]
fn corruptions_of_files_are_found_in_every_sink() {
    found_between("files");
}

#[test]
fn corruptions_of_a_libsql_file_are_found_in_every_sink() {
    found_between("turso");
}

#[test]
fn corruptions_of_postgres_are_found_in_every_sink() {
    found_between("postgres");
}

#[test]
fn corruptions_of_firestore_are_found_in_every_sink() {
    found_between("firestore");
}
