//! Every record compared where one end is Firestore: the source's documents are read once and cost what the plan says, and a
//! repair writes to a project what it lacks and nothing else.
//!
//! Reads and writes are counted between whimbrel and the emulator (`harness/grpc_layer`). Neighbours: `firestore_cost` has the
//! other levels, `corruptions` all kinds of damage.

use serde_json::{Value, json};

use crate::firestore::{Emulator, document_name};
use crate::firestore_cost::{close, units};
use crate::grpc_layer::Layer;
use crate::postgres::{Server, Version};
use crate::postgres_job::{Job, database, report_of};
use crate::program::Stage;

/// Documents of `users`, and twice as many of `users/*/orders`.
const USERS: usize = 250;
/// Documents that a commit of the emulator takes.
const WRITES_MAX: usize = 500;
/// Documents of a page.
const PAGE_DOCUMENTS: usize = 100;
/// Documents of the sink that is repaired.
const PEOPLE: usize = 300;

/// The fields of a document with so many types as tables can have; one of them is null, lacking, or there.
fn fields(number: usize) -> Value {
    let mut fields = json!({
        "number": { "integerValue": number.to_string() },
        "ratio": { "doubleValue": number as f64 / 3.0 },
        "name": { "stringValue": format!("Straße {number}") },
        "at": { "timestampValue": format!("2024-02-29T12:00:{:02}.000009Z", number % 60) },
        "is": { "booleanValue": number.is_multiple_of(2) },
        "octets": { "bytesValue": "AP8Q" },
        "list": { "arrayValue": { "values": [{ "stringValue": "x" }, { "nullValue": null }] } },
        "inner": { "mapValue": { "fields": { "n": { "integerValue": "1" } } } },
    });
    match number % 3 {
        0 => fields["maybe"] = json!({ "nullValue": null }),
        1 => fields["maybe"] = json!({ "stringValue": "" }),
        _ => {}
    }
    fields
}

fn fill(emulator: &Emulator, project: &str) {
    let users = (0..USERS).map(|n| format!("users/{n}"));
    let orders = (0..2 * USERS).map(|n| format!("users/{}/orders/{n}", n % USERS));
    let write = |(number, path): (usize, String)| json!({ "update": { "name": document_name(project, &path), "fields": fields(number) } });
    let writes: Vec<Value> = users.chain(orders).enumerate().map(write).collect();
    for some in writes.chunks(WRITES_MAX) {
        emulator.commit(project, &json!(some).to_string());
    }
}

/// All records of all collections were compared and none differs.
#[track_caller]
fn assert_equal(report: &Value, counts: &[usize]) {
    let results = report["verification"].as_array().unwrap();
    assert_eq!(results.len(), counts.len());
    for (result, count) in results.iter().zip(counts) {
        assert_eq!(result["comparison"], "equal", "{result:#}");
        assert_eq!(result["level"], "comprehensive", "{result:#}");
        assert_eq!(result["every_record"], true, "{result:#}");
        assert_eq!(result["compared_count"], *count, "{result:#}");
        let root = |place: &str| result["digests"][place]["root"].as_str().unwrap().to_owned();
        assert_eq!(root("transformed"), root("read_back"), "{result:#}");
    }
}

#[test]
fn a_comprehensive_run_reads_its_documents_once_and_takes_the_reads_of_its_plan() {
    let (Some(emulator), Some(server)) = (Emulator::shared(), Server::shared(Version::V18)) else {
        return;
    };
    let layer = Layer::before(emulator.host());
    let project = emulator.project("proof");
    fill(&emulator, &project);
    let there = server.database();
    let source = json!({
        "project": project,
        "host": layer.host(),
        "page_documents_max": PAGE_DOCUMENTS,
        "price_per_100k_reads": 0.06,
    });
    let collections = [("users", "users"), ("users/*/orders", "orders")]
        .map(|(source, sink)| json!({ "source": source, "sink": sink }));
    let stage = Stage::new();
    Job::new(
        json!({ "plugin": "firestore", "config": source }),
        database(&there.url()),
    )
    .set("/collections", json!(collections))
    .set("/verification", json!("comprehensive"))
    .write(&stage);
    let counted = |command: &[&str]| {
        layer.reset_counts();
        let report = report_of(stage.run(command), 0);
        (report, layer.counts().reads())
    };
    let (plan, planned) = counted(&["plan", "job.yaml", "--json"]);
    let (report, taken) = counted(&["run", "job.yaml", "--json"]);
    assert_equal(&report, &[USERS, 2 * USERS]);
    let cost = &plan["estimate"]["cost"];
    close("the plan", cost, "planned_units", planned);
    close("the run", cost, "run_units", taken);
    assert_eq!(report["cost"]["run_units"], cost["run_units"], "{cost:#}");
    for collection in ["users", "users/*/orders"] {
        assert_eq!(units(cost, collection, "verification_units"), 0, "{cost:#}");
    }
    // A later comparison has to read them, and finds the same.
    let (again, read) = counted(&["verify", "job.yaml", "--json"]);
    assert_equal(&again, &[USERS, 2 * USERS]);
    assert!(read >= 3 * USERS as u64, "{read} reads");
}

#[test]
fn a_field_that_only_a_document_of_the_sink_has_shows_against_a_certificate() {
    let Some(emulator) = Emulator::shared() else {
        return;
    };
    let project = emulator.project("against");
    let stage = Stage::new();
    let person = |n: usize| format!("{{\"id\":\"p{n}\",\"name\":\"n {n}\"}}\n");
    stage.write("people.ndjson", (0..20).map(person).collect::<String>());
    let sink = json!({ "plugin": "firestore", "config": { "project": project, "host": emulator.host() } });
    Job::new(crate::postgres_job::files("people.ndjson"), sink)
        .set("/collections", json!([{ "source": "people", "key": ["id"] }]))
        .set("/verification", json!("comprehensive"))
        .write(&stage);
    let run = report_of(stage.run(&["run", "job.yaml", "--json"]), 0);
    assert_equal(&run, &[20]);
    let certificate = ".whimbrel/latest/migration-certificate.json";
    let against = [
        "certificate",
        "verify",
        certificate,
        "--against",
        "job.yaml",
        "--json",
    ];
    let held = stage.run(&against).expect(0).json();
    assert_eq!(held["sink"][0]["record_count"], 20, "{held}");
    let wider = r#"{"id":{"stringValue":"p8"},"name":{"stringValue":"n 8"},"admin":{"booleanValue":true}}"#;
    emulator.put(&project, "people/p8", wider);
    let changed = stage.run(&against).expect(4).json();
    assert_eq!(changed["sink"][0]["state"], "failed", "{changed}");
}

#[test]
fn a_repair_into_firestore_writes_what_differs_and_nothing_else() {
    let Some(emulator) = Emulator::shared() else {
        return;
    };
    let layer = Layer::before(emulator.host());
    let project = emulator.project("repair");
    let stage = Stage::new();
    let person = |n: usize| format!("{{\"id\":\"p{n}\",\"age\":{},\"name\":\"n {n}\"}}\n", n % 90);
    stage.write("people.ndjson", (0..PEOPLE).map(person).collect::<String>());
    let sink = json!({ "plugin": "firestore", "config": { "project": project, "host": layer.host() } });
    Job::new(crate::postgres_job::files("people.ndjson"), sink)
        .set("/collections", json!([{ "source": "people", "key": ["id"] }]))
        .set("/verification", json!("comprehensive"))
        .write(&stage);
    let run = report_of(stage.run(&["run", "job.yaml", "--json"]), 0);
    assert_equal(&run, &[PEOPLE]);
    let whole = emulator.get(&project, "people/p8").unwrap();
    assert!(whole.contains("n 8"), "{whole}");
    let damaged = r#"{"id":{"stringValue":"p8"},"name":{"stringValue":"mole"}}"#;
    emulator.put(&project, "people/p8", damaged);
    emulator.delete(&project, "people/p9");
    // One that lacks fields which every record of the source has.
    emulator.put(&project, "people/zz", r#"{"id":{"stringValue":"zz"}}"#);
    let found = report_of(stage.run(&["verify", "job.yaml", "--json"]), 4);
    let kind = |one: &Value| json!([one["kind"], one["record"], one["fields"]]);
    let mut kinds: Vec<Value> = found["verification"][0]["mismatches"]
        .as_array()
        .unwrap()
        .iter()
        .map(kind)
        .collect();
    kinds.sort_by_key(ToString::to_string);
    assert_eq!(
        kinds,
        [
            json!(["different", "id=p8", ["age", "name"]]),
            json!(["extra", "id=zz", null]),
            json!(["missing", "id=p9", null]),
        ]
    );
    layer.reset_counts();
    let report = report_of(
        stage.run(&["verify", "job.yaml", "--repair", "--yes", "--json"]),
        0,
    );
    let repaired = &report["repaired"][0];
    assert_eq!(
        (&repaired["copied_count"], &repaired["removed_count"]),
        (&json!(2), &json!(1)),
        "{repaired}"
    );
    assert_equal(&report, &[PEOPLE]);
    assert_eq!(layer.counts().applied_below("people"), (3, 1));
    let name = |path: &str| emulator.get(&project, path).map(|text| text.contains("\"n "));
    assert_eq!(name("people/p8"), Some(true));
    assert_eq!(name("people/p9"), Some(true));
    assert_eq!(name("people/zz"), None);
    let verified = report_of(stage.run(&["verify", "job.yaml", "--json"]), 0);
    assert_equal(&verified, &[PEOPLE]);
}
