//! Firestore behind a line and a service that fail by script, read and written by the built program. FAULTS F1, F2, F3, R1.
//!
//! The layer of `harness/grpc_layer.rs` spoils and counts calls; the emulator says over REST what has arrived. Neighbours:
//! Parts: by what goes wrong. Here: the scene that they share. Neighbours: `firestore_refusals` for what is refused and rejected, `firestore_values` for values and names, `firestore_job` for whole copies.

mod silence;
mod single_writes;
mod slowing_down;
mod stopping;
mod unknown_outcomes;

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::firestore::{Emulator, document_name};
use crate::grpc_layer::{Layer, Method, Rule, Which};
use crate::postgres_job::{Job, files, noise, report_of};
use crate::program::Stage;

/// Documents that are read in most tests: several pages of [`PAGE`].
const DOCUMENTS: u64 = 400;
/// Documents of a page.
const PAGE: u64 = 100;
/// Octets of the text of a record that is written.
const PAD: usize = 100;

/// A way in which the sink writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// Records and checkpoint by one guarded request, which is usual.
    Once,
    /// Records as they come, and the checkpoint after them.
    Idempotent,
}

/// All of them.
const WAYS: [Way; 2] = [Way::Once, Way::Idempotent];

impl Way {
    /// The member `writing` of the sink's config, with `more` in it.
    fn writing(self, more: Value) -> Value {
        let mut writing = more;
        if self == Self::Idempotent {
            writing["guarantee"] = json!("idempotent");
        }
        writing
    }

    /// The call that carries records.
    fn method(self) -> Method {
        match self {
            Self::Once => Method::Commit,
            Self::Idempotent => Method::BatchWrite,
        }
    }
}

/// A project behind a layer, and a folder to run the program in.
pub struct Scene {
    pub emulator: Emulator,
    pub layer: Layer,
    pub project: String,
    pub stage: Stage,
}

impl Scene {
    /// `None` where there is no emulator, which is said.
    pub fn new() -> Option<Self> {
        let emulator = Emulator::shared()?;
        Some(Self {
            layer: Layer::before(emulator.host()),
            project: emulator.project("faults"),
            emulator,
            stage: Stage::new(),
        })
    }

    /// The side of a job that is its project, over the layer. A request is sent again for what the layer does to it, and not because
    /// the emulator is slow for once; tests of a service that says nothing have less patience.
    pub fn side(&self) -> Value {
        let config = json!({
            "project": self.project,
            "host": self.layer.host(),
            "request_timeout_ms": 20_000,
            "page_documents_max": PAGE,
        });
        json!({ "plugin": "firestore", "config": config })
    }

    /// The side of a job that is another project, without a layer.
    pub fn direct(&self, project: &str) -> Value {
        json!({ "plugin": "firestore", "config": { "project": project, "host": self.emulator.host() } })
    }

    /// From `docs.ndjson` into the collection `docs` of its project.
    pub fn docs_in(&self) -> Job {
        Job::new(files("docs.ndjson"), self.side())
            .set("/name", json!("firestore-test"))
            .set("/collections", json!([{ "source": "docs", "key": ["id"] }]))
            .set("/import/retry_delay_ms", json!(10))
    }

    /// From its collection `users` into another project.
    pub fn users_into(&self, project: &str) -> Job {
        Job::new(self.side(), self.direct(project))
            .set("/name", json!("firestore-test"))
            .set("/collections", json!([{ "source": "users" }]))
    }

    /// Fills `users` past the layer.
    pub fn fill_users(&self, count: u64) {
        let numbers: Vec<u64> = (0..count).collect();
        for part in numbers.chunks(500) {
            let writes: Vec<Value> = part
                .iter()
                .map(|number| {
                    let name = document_name(&self.project, &format!("users/{number:05}"));
                    let fields = json!({
                        "n": { "integerValue": number.to_string() },
                        "text": { "stringValue": noise(*number, PAD) },
                    });
                    json!({ "update": { "name": name, "fields": fields } })
                })
                .collect();
            self.emulator.commit(&self.project, &json!(writes).to_string());
        }
    }

    /// Adds rules for the requests that bring records of `docs`, whatever the way.
    fn script_docs(&self, way: Way, rules: impl IntoIterator<Item = impl Into<Rule>>) {
        let rules = rules.into_iter().map(|rule| rule.into().about("docs"));
        self.layer.script(way.method(), rules);
    }

    /// The fields of all documents of a collection, by path.
    pub fn documents(&self, project: &str, collection: &str) -> BTreeMap<String, Value> {
        let query = json!({ "from": [{ "collectionId": collection, "allDescendants": true }] });
        let answer = self.emulator.run_query(project, &query.to_string());
        let results: Vec<Value> = serde_json::from_str(&answer).unwrap();
        let documents = results.into_iter().filter_map(|mut result| {
            let name = result["document"]["name"].as_str()?;
            let path = name.split_once("/documents/")?.1.to_owned();
            Some((path, result["document"]["fields"].take()))
        });
        documents.collect()
    }

    /// The run that `job` makes; it must end with `exit`.
    #[track_caller]
    pub fn run(&self, job: &Job, exit: i32) -> Value {
        job.write(&self.stage);
        report_of(self.stage.run(&["run", "job.yaml", "--json"]), exit)
    }

    /// All records of `docs.ndjson` are there once and as they were, and the report says the same.
    #[track_caller]
    fn assert_docs(&self, report: &Value, count: u64) {
        assert_eq!(report["outcome"], "done", "{report}");
        assert_eq!(report["rejected_count"], 0, "{}", report["rejected"]);
        assert_eq!(report["collections"][0]["written_count"], count);
        assert_eq!(report["verification"][0]["comparison"], "equal", "{report}");
        let there = self.documents(&self.project, "docs");
        assert_eq!(there.len() as u64, count);
        for id in 0..count {
            assert_eq!(there[&format!("docs/{id}")], doc(id), "{id}");
        }
    }

    /// The copy of `users` is equal, and the report says so.
    #[track_caller]
    fn assert_users(&self, report: &Value, copy: &str) {
        assert_eq!(report["outcome"], "done", "{report}");
        assert_eq!(report["rejected_count"], 0, "{}", report["rejected"]);
        assert_eq!(report["verification"][0]["comparison"], "equal", "{report}");
        let original = self.documents(&self.project, "users");
        assert_eq!(report["collections"][0]["written_count"], original.len());
        assert!(original == self.documents(copy, "users"), "the copy is not equal");
    }

    /// Every rule of the script was used.
    #[track_caller]
    pub fn assert_played(&self) {
        assert_eq!(self.layer.left(), 0, "{:?}", self.layer.counts().calls);
    }
}

/// The document reads that the plan announced.
fn planned(report: &Value) -> u64 {
    let units = report["cost"]["run_units"].as_u64();
    units.unwrap_or_else(|| panic!("no cost: {}", report["cost"]))
}

/// A record of `docs.ndjson` as a document; see `write_docs`.
fn doc(id: u64) -> Value {
    json!({
        "id": { "integerValue": id.to_string() },
        "name": { "stringValue": format!("name {id}") },
        "n": { "doubleValue": id as f64 + 0.5 },
        "pad": { "stringValue": noise(id, PAD) },
    })
}

fn documents(ids: impl IntoIterator<Item = u64>) -> Vec<Which> {
    let paths = ids.into_iter().map(|id| Which::Document(format!("docs/{id}")));
    paths.collect()
}
