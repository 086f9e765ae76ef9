//! What Firestore bills against what the plan had said, within two in a hundred.
//!
//! Reads are counted between whimbrel and the emulator, by the service's rules, in the answers themselves (`harness/grpc_layer`).
//! The same formula against a source that bills by script, to the unit: `reading_cost`. Of a source the database is read, of a sink
//! it is asked what is there, what records would replace, and what was written.

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

#[test]
fn the_part_of_a_quota_that_is_used_is_that_of_the_job_unless_the_plugins_own_config_has_one() {
    let Some(billed) = Billed::new() else { return };
    let job = billed
        .job()
        .set("/collections", json!([{ "source": "logs" }]))
        .set("/source/config/quota", json!({ "reads_per_day": 10_000 }));
    let own = job.clone().set("/source/config/quota/safety_factor", json!(1.0));
    let plan = |job: &Job, variables: &[(&str, &str)], exit: i32| {
        let stage = Stage::new();
        job.write(&stage);
        let plan = report_of(stage.run_with(&["plan", "job.yaml", "--json"], variables), exit);
        assert_eq!(plan.to_string().contains("plan.over_quota"), exit == 2, "{plan}");
        plan["estimate"]["cost"]["units_max"].clone()
    };
    assert_eq!(plan(&job, &[], 0), 8_000);
    for name in [
        "MIGRATION_QUOTA_SAFETY",
        "MIGRATION_FIRESTORE_QUOTA_SAFETY_FACTOR",
    ] {
        assert_eq!(plan(&job, &[(name, "0.01")], 2), 100, "{name}");
        assert_eq!(plan(&own, &[(name, "0.01")], 0), 10_000, "{name}");
    }
    assert_eq!(plan(&job.set("/limits/quota_safety", json!(0.02)), &[], 2), 200);
}

/// Reads for the checkpoint of a part that the source might have made of its documents and has not.
const PART_READS: u64 = 2;

/// Documents of the source of a sink.
const SINK_DOCUMENTS: usize = 1_200;

/// A database that bills what a sink asks it, beside the one that it is filled from.
struct BilledSink {
    emulator: Emulator,
    layer: Layer,
    from: String,
    into: String,
}

impl BilledSink {
    fn new() -> Option<Self> {
        let emulator = Emulator::shared()?;
        let billed = Self {
            layer: Layer::before(emulator.host()),
            from: emulator.project("sinkfrom"),
            into: emulator.project("sinkinto"),
            emulator,
        };
        billed.put(
            &billed.from,
            (0..SINK_DOCUMENTS).map(|n| format!("people/{n:05}")),
        );
        Some(billed)
    }

    /// Writes documents, each with the number that its id ends with.
    fn put(&self, project: &str, paths: impl Iterator<Item = String>) {
        let write = |path: String| {
            let digits = path.trim_start_matches(|letter: char| !letter.is_ascii_digit());
            let number: u64 = digits.rsplit('/').next().unwrap().parse().unwrap();
            let fields = json!({ "number": { "integerValue": number.to_string() } });
            json!({ "update": { "name": document_name(project, &path), "fields": fields } })
        };
        let writes: Vec<Value> = paths.map(write).collect();
        for some in writes.chunks(WRITES_MAX) {
            self.emulator.commit(project, &json!(some).to_string());
        }
    }

    /// An empty database takes the place of the one that was filled.
    fn emptied(&mut self) {
        self.into = self.emulator.project("sinkinto");
    }

    fn job(&self) -> Job {
        let source = json!({ "project": self.from, "host": self.emulator.host() });
        let sink = json!({
            "project": self.into,
            "host": self.layer.host(),
            "price_per_100k_reads": 0.03,
        });
        Job::new(
            json!({ "plugin": "firestore", "config": source }),
            json!({ "plugin": "firestore", "config": sink }),
        )
        .set(
            "/collections",
            json!([{ "source": "people", "version": "number" }]),
        )
    }

    fn counted(&self, stage: &Stage, command: &str, exit: i32) -> (Value, u64) {
        self.layer.reset_counts();
        let report = report_of(stage.run(&[command, "job.yaml", "--json"]), exit);
        (report, self.layer.counts().reads())
    }

    /// Plans and runs `job`, which ends with `exit`, and holds the reads of both against what the plan had said; its cost.
    #[track_caller]
    fn as_planned(&self, job: &Job, exit: i32) -> Value {
        let stage = Stage::new();
        job.write(&stage);
        let (plan, planned) = self.counted(&stage, "plan", 0);
        let (report, taken) = self.counted(&stage, "run", exit);
        let cost = plan["estimate"]["sink_cost"].clone();
        assert_eq!(cost["planned_units"], planned, "{cost:#}");
        let said = cost["run_units"].as_u64().unwrap();
        if said.abs_diff(taken) > PART_READS {
            close("the run", &cost, "run_units", taken);
        }
        assert_eq!(report["sink_cost"]["run_units"], cost["run_units"], "{cost:#}");
        assert_eq!(cost["unit"], "document reads");
        let usd = cost["usd"].as_f64().unwrap();
        let wanted = cost["run_units"].as_f64().unwrap() * 0.03 / 100_000.0;
        assert!((usd - wanted).abs() < 1e-9, "{usd} {wanted}");
        cost
    }

    /// What is read back of the copy, at least.
    #[track_caller]
    fn assert_units(&self, cost: &Value, member: &str, from: usize, to: usize) {
        let units = units(cost, "people", member);
        assert!(
            (from as u64..to as u64).contains(&units),
            "{member} {units}: {cost:#}"
        );
    }
}

#[test]
fn a_sink_takes_the_reads_of_its_plan_at_each_level_when_it_is_filled_and_filled_again() {
    let Some(mut billed) = BilledSink::new() else {
        return;
    };
    for (level, from, to) in [
        ("none", 0, 1),
        ("basic", 2, 20),
        ("standard", SINK_DOCUMENTS, SINK_DOCUMENTS + 50),
        ("comprehensive", SINK_DOCUMENTS, SINK_DOCUMENTS + 410),
    ] {
        billed.emptied();
        let job = billed.job().set("/verification", json!(level));
        let empty = billed.as_planned(&job, 0);
        billed.assert_units(&empty, "verification_units", from, to);
        assert_eq!(empty["is_at_least"], false, "{empty:#}");
        let filled = billed.as_planned(&job, 0);
        billed.assert_units(&filled, "verification_units", from, to);
        // Nothing is looked at before it is replaced.
        billed.assert_units(&filled, "copy_units", 1, 10);
    }
}

#[test]
fn policies_that_look_take_the_reads_of_their_plan() {
    let Some(mut billed) = BilledSink::new() else {
        return;
    };
    for (policy, exit) in [("skip", 0), ("keep-newest", 0), ("keep-oldest", 0), ("fail", 0)] {
        for there in [0, SINK_DOCUMENTS / 4] {
            billed.emptied();
            let into = billed.into.clone();
            billed.put(&into, (0..there).map(|n| format!("people/{n:05}")));
            let job = billed
                .job()
                .set("/import/on_conflict", json!(policy))
                .set("/import/max_errors", json!(SINK_DOCUMENTS))
                .set("/import/breaker/rate", json!(1))
                .set("/verification", json!("standard"));
            let cost = billed.as_planned(&job, if there == 0 { 0 } else { exit });
            billed.assert_units(&cost, "copy_units", SINK_DOCUMENTS, SINK_DOCUMENTS + 10);
            assert_eq!(cost["is_at_least"], there > 0, "{cost:#}");
        }
    }
}

#[test]
fn a_sink_that_sends_records_as_they_come_looks_at_versions_alone() {
    let Some(mut billed) = BilledSink::new() else {
        return;
    };
    for (policy, looks) in [("skip", 0), ("keep-newest", SINK_DOCUMENTS)] {
        billed.emptied();
        let job = billed
            .job()
            .set("/sink/config/writing", json!({ "guarantee": "idempotent" }))
            .set("/import/on_conflict", json!(policy))
            .set("/verification", json!("none"));
        for _ in ["empty", "filled"] {
            let cost = billed.as_planned(&job, 0);
            billed.assert_units(&cost, "copy_units", looks, looks + 10);
        }
    }
}

#[test]
fn nested_collections_that_refer_to_others_are_read_back_once() {
    let Some(billed) = BilledSink::new() else { return };
    billed.put(
        &billed.from,
        (0..900).map(|n| format!("people/{:05}/orders/{n}", n / 2)),
    );
    let rules = json!([{ "source": "people" }, { "source": "people/*/orders" }]);
    for level in ["standard", "basic"] {
        let job = billed
            .job()
            .set("/collections", rules.clone())
            .set("/verification", json!(level));
        let cost = billed.as_planned(&job, 0);
        let orders = units(&cost, "people/*/orders", "verification_units");
        // Among others of their name they cannot be counted.
        assert!((900..950).contains(&orders), "{cost:#}");
    }
}

#[test]
fn types_that_are_remembered_and_records_of_files_take_the_reads_of_their_plan() {
    let Some(billed) = BilledSink::new() else { return };
    let source = json!({ "plugin": "files", "config": { "path": "people.ndjson" } });
    let stage = Stage::new();
    let person = |n: usize| format!("{{\"id\":\"p{n}\",\"number\":{n}}}\n");
    stage.write(
        "people.ndjson",
        (0..SINK_DOCUMENTS).map(person).collect::<String>(),
    );
    billed
        .job()
        .set("/source", source)
        .set("/collections", json!([{ "source": "people", "key": ["id"] }]))
        .write(&stage);
    for _ in ["empty", "filled"] {
        let (plan, planned) = billed.counted(&stage, "plan", 0);
        let (report, taken) = billed.counted(&stage, "run", 0);
        let cost = &plan["estimate"]["sink_cost"];
        assert_eq!(cost["planned_units"], planned, "{cost:#}");
        close("the run", &report["sink_cost"], "run_units", taken);
    }
}

#[test]
fn a_sink_with_other_records_takes_at_least_the_reads_of_its_plan() {
    let Some(billed) = BilledSink::new() else { return };
    let into = billed.into.clone();
    billed.put(&into, (0..500).map(|n| format!("people/x{n}")));
    let stage = Stage::new();
    billed.job().write(&stage);
    let (plan, _) = billed.counted(&stage, "plan", 0);
    let (_, taken) = billed.counted(&stage, "run", 4);
    let cost = &plan["estimate"]["sink_cost"];
    assert_eq!(cost["is_at_least"], true, "{cost:#}");
    let said = cost["run_units"].as_u64().unwrap();
    assert!((said + 450..said + 550).contains(&taken), "{said} {taken}");
    let text = stage.run(&["plan", "job.yaml"]).expect(0).out;
    assert!(
        text.contains("document reads of the sink, without retries"),
        "{text}"
    );
    assert!(text.contains("the run: at least "), "{text}");
}

#[test]
fn a_run_that_would_read_more_of_the_sink_than_is_allowed_is_refused() {
    let Some(billed) = BilledSink::new() else { return };
    let quota = |reads: u64| json!({ "reads_per_day": reads, "safety_factor": 1.0 });
    let stage = Stage::new();
    billed.job().set("/sink/config/quota", quota(1_000)).write(&stage);
    for command in ["plan", "run"] {
        let (report, _) = billed.counted(&stage, command, 2);
        assert_eq!(report["errors"][0]["code"], "plan.over_quota", "{report:#}");
    }
    assert_eq!(billed.layer.counts().applied_below("people"), (0, 0));
    billed.job().set("/sink/config/quota", quota(2_000)).write(&stage);
    billed.counted(&stage, "run", 0);
}
