//! What Firestore bills against what the plan had said, within two in a hundred.
//!
//! Reads are counted between whimbrel and the emulator, by the service's rules, in the answers themselves (`harness/grpc_layer`).
//! The same formula against a source that bills by script, to the unit: `reading_cost`.

use serde_json::{Value, json};

use crate::firestore::{Emulator, document_name};
use crate::grpc_layer::Layer;
use crate::postgres_job::{Job, report_of};
use crate::program::Stage;

/// Documents that a commit of the emulator takes.
const WRITES_MAX: usize = 500;

/// Documents of a page; one of the collections fills its pages to the last document.
const PAGE_DOCUMENTS: usize = 100;

/// A database that bills, and what counts it.
struct Billed {
    /// Forgets the project in the end.
    _emulator: Emulator,
    layer: Layer,
    project: String,
}

impl Billed {
    /// Six collections, among them some of one name in several places, and documents whose parents are missing.
    fn new() -> Option<Self> {
        let emulator = Emulator::shared()?;
        let layer = Layer::before(emulator.host());
        let project = emulator.project("billed");
        let mut paths = Vec::new();
        paths.extend((0..300).map(|n| format!("users/{n}")));
        paths.extend((0..2 * PAGE_DOCUMENTS).map(|n| format!("logs/{n:04}")));
        paths.extend((0..620).map(|n| format!("users/{}/orders/{n}", n / 2)));
        paths.extend((0..330).map(|n| format!("users/{}/orders/{n}/items/a", n / 2)));
        paths.extend((0..120).map(|n| format!("shops/{n}/orders/1")));
        paths.extend((0..80).map(|n| format!("users/{n}/years/2024/orders/{n}")));
        let write = |(number, path): (usize, &String)| {
            let name = document_name(&project, path);
            let number = number.to_string();
            json!({ "update": { "name": name, "fields": { "number": { "integerValue": number } } } })
        };
        let writes: Vec<Value> = paths.iter().enumerate().map(write).collect();
        for some in writes.chunks(WRITES_MAX) {
            emulator.commit(&project, &json!(some).to_string());
        }
        Some(Self {
            _emulator: emulator,
            layer,
            project,
        })
    }

    /// From the database into a file of one.
    fn job(&self) -> Job {
        let source = json!({
            "project": self.project,
            "host": self.layer.host(),
            "page_documents_max": PAGE_DOCUMENTS,
            "price_per_100k_reads": 0.06,
        });
        let sink = json!({ "plugin": "turso", "config": { "url": "file:copy.db" } });
        Job::new(json!({ "plugin": "firestore", "config": source }), sink)
    }

    /// What a command says, and the reads that it took.
    fn counted(&self, stage: &Stage, command: &str) -> (Value, u64) {
        self.layer.reset_counts();
        let report = report_of(stage.run(&[command, "job.yaml", "--json"]), 0);
        (report, self.layer.counts().reads())
    }

    /// Plans and runs `job`, and holds the reads of both against what the plan had said; its cost.
    #[track_caller]
    fn as_planned(&self, job: &Job) -> Value {
        let stage = Stage::new();
        job.write(&stage);
        let (plan, planned) = self.counted(&stage, "plan");
        let (report, taken) = self.counted(&stage, "run");
        let cost = plan["estimate"]["cost"].clone();
        close("the plan", &cost, "planned_units", planned);
        close("the run", &cost, "run_units", taken);
        assert_eq!(report["cost"]["run_units"], cost["run_units"], "{cost:#}");
        assert_eq!(cost["unit"], "document reads");
        let usd = cost["usd"].as_f64().unwrap();
        let wanted = cost["run_units"].as_f64().unwrap() * 0.06 / 100_000.0;
        assert!((usd - wanted).abs() < 1e-9, "{usd} {wanted}");
        cost
    }
}

/// Whether the reads that were said are within two in a hundred of those that were `counted`.
#[track_caller]
pub fn close(who: &str, cost: &Value, member: &str, counted: u64) {
    let said = cost[member].as_u64().unwrap();
    assert!(
        said.abs_diff(counted) * 100 <= counted * 2,
        "{who} was said to take {said} reads and took {counted}: {cost:#}"
    );
}

/// A member of the cost of one collection.
pub fn units(cost: &Value, collection: &str, member: &str) -> u64 {
    let collections = cost["collections"].as_array().unwrap();
    let one = collections.iter().find(|one| one["collection"] == collection);
    one.unwrap_or_else(|| panic!("no {collection}: {cost:#}"))[member]
        .as_u64()
        .unwrap()
}

#[test]
fn all_collections_take_the_reads_of_their_plan_at_each_level() {
    let Some(billed) = Billed::new() else { return };
    for level in ["standard", "basic", "none"] {
        let cost = billed.as_planned(&billed.job().set("/verification", json!(level)));
        assert_eq!(cost["collections"].as_array().unwrap().len(), 6, "{cost:#}");
        // An empty page follows full ones.
        assert_eq!(units(&cost, "logs", "copy_units"), 201);
    }
}

#[test]
fn a_nested_collection_alone_takes_the_reads_of_its_plan() {
    let Some(billed) = Billed::new() else { return };
    for (collection, documents) in [
        ("users/*/orders/*/items", 330),
        ("users/*/orders", 620),
        ("logs", 200),
    ] {
        for level in ["standard", "basic"] {
            let job = billed
                .job()
                .set("/collections", json!([{ "source": collection, "sink": "copy" }]))
                .set("/verification", json!(level));
            let cost = billed.as_planned(&job);
            assert_eq!(cost["other_units"], 0);
            let copy_units = units(&cost, collection, "copy_units");
            assert!(copy_units >= documents, "{cost:#}");
        }
    }
}

#[test]
fn collections_of_patterns_take_the_reads_of_their_plan() {
    let Some(billed) = Billed::new() else { return };
    let named = billed.as_planned(&billed.job().set("/include", json!(["users/*/orders"])));
    assert_eq!(named["collections"].as_array().unwrap().len(), 1);
    let cost = billed.as_planned(&billed.job().set("/include", json!(["users/*"])));
    assert_eq!(cost["collections"].as_array().unwrap().len(), 3);
    let excluding = billed.as_planned(&billed.job().set("/exclude", json!(["users*", "shops*"])));
    assert_eq!(excluding["collections"].as_array().unwrap().len(), 1);
}

#[test]
fn samples_and_stages_take_the_reads_of_their_plan() {
    let Some(billed) = Billed::new() else { return };
    // How soon the records of a sample come among those of other collections of their name, nobody knows beforehand.
    let sample = billed
        .job()
        .set("/exclude", json!(["users/*/years/*"]))
        .set("/mode", json!("test"))
        .set("/sample_records", json!(50));
    let cost = billed.as_planned(&sample);
    assert!(units(&cost, "logs", "copy_units") <= 51, "{cost:#}");
    let staged = billed.as_planned(&billed.job().set("/staging", json!("disk")));
    assert_eq!(units(&staged, "users", "verification_units"), 0);
    for level in ["standard", "basic"] {
        let inferred = billed
            .job()
            .set("/source/config/inference", json!({ "sample": 100 }))
            .set("/verification", json!(level));
        billed.as_planned(&inferred);
    }
}
