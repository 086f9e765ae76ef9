//! Comprehensive runs: the source is read once, since its digests are made while it is copied, and these are the same that
//! reading it once more makes.
//!
//! What the source was asked for is counted by the scripted source itself. Not here: what differs, and how it is found.

use serde_json::{Value, json};

use crate::program::Stage;
use crate::scripted_job::{SOURCE_CALLS, ScriptedJob, calls, committed, misbehave};

/// Records of each collection.
const RECORDS: u64 = 300;
/// Collections of each job.
const COLLECTIONS: u64 = 2;
/// Parts into which each is divided.
const PARTS: usize = 4;

/// A job that compares every record, from a source that bills.
fn job() -> ScriptedJob {
    ScriptedJob::new()
        .source("collections", json!(["a", "b"]))
        .source("records", json!(RECORDS))
        .source("billed", json!({ "unit": "reads", "usd_per_million": 40.0 }))
        .set("/verification", json!("comprehensive"))
        .set(
            "/limits",
            json!({ "partitions_parallel": PARTS, "batch_records": 20 }),
        )
}

/// The same into a sink that keeps its records for later processes.
fn keeping() -> ScriptedJob {
    job().sink("lanes_path", json!("lanes.ndjson"))
}

/// What a command says, how many streams of the source it opened, and the units that these billed.
fn asked(stage: &Stage, arguments: &[&str], code: i32) -> (Value, usize, u64) {
    let calls_file = stage.path(SOURCE_CALLS);
    if calls_file.exists() {
        std::fs::remove_file(&calls_file).unwrap();
    }
    let report = stage.run(arguments).expect(code).json();
    let streams = calls(stage, SOURCE_CALLS, "read").len();
    let billed = calls(stage, SOURCE_CALLS, "billed");
    let units = billed.iter().map(|about| about["units"].as_u64().unwrap()).sum();
    (report, streams, units)
}

fn run(stage: &Stage) -> (Value, usize, u64) {
    asked(stage, &["run", "job.yaml", "--json"], 0)
}

fn verify(stage: &Stage) -> (Value, usize, u64) {
    asked(stage, &["verify", "job.yaml", "--json"], 0)
}

/// Count, sum, exclusive or and root of one place of the first collection; null if there is none.
fn place(report: &Value, place: &str) -> Value {
    let place = &report["verification"][0]["digests"][place];
    json!([place["record_count"], place["sum"], place["xor"], place["root"]])
}

/// Every record of each collection was compared and is equal; so many each.
#[track_caller]
fn assert_equal(report: &Value, records: u64) {
    let results = report["verification"].as_array().unwrap();
    for result in results {
        assert_eq!(result["comparison"], "equal", "{result:#}");
        assert_eq!(result["level"], "comprehensive", "{result:#}");
        assert_eq!(result["every_record"], true, "{result:#}");
        assert_eq!(result["compared_count"], records, "{result:#}");
        assert_eq!(result["digests"]["transformed"]["record_count"], records);
        assert_eq!(
            result["digests"]["transformed"]["root"], result["digests"]["read_back"]["root"],
            "{result:#}"
        );
    }
    assert_eq!(results.len() as u64, COLLECTIONS);
}

/// Nothing is left of what was kept while records were copied.
#[track_caller]
fn assert_tidy(stage: &Stage) {
    let left = |path: &std::path::Path| {
        let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).collect::<Vec<_>>()
    };
    let mut folders = left(&stage.path(".whimbrel/verification/scripted"));
    while let Some(folder) = folders.pop() {
        assert_ne!(folder.file_name().unwrap(), ".tap");
        assert_ne!(folder.file_name().unwrap(), "pairs");
        folders.extend(left(&folder));
    }
}

#[test]
fn a_comprehensive_run_reads_its_source_once_and_bills_what_its_plan_said() {
    let stage = job().stage();
    let (plan, _, planned) = asked(&stage, &["plan", "job.yaml", "--json"], 0);
    assert_eq!(plan["estimate"]["cost"]["planned_units"], planned);
    let (report, streams, units) = run(&stage);
    assert_equal(&report, RECORDS);
    assert_eq!(streams, PARTS * COLLECTIONS as usize);
    assert_eq!(units, 2 * COLLECTIONS * RECORDS, "described and read");
    assert_eq!(plan["estimate"]["cost"]["run_units"], units);
    assert_eq!(report["cost"]["run_units"], units);
    assert_eq!(report["cost"]["collections"][0]["verification_units"], 0);
    assert_tidy(&stage);
}

/// Runs `job` and verifies it afterwards: of both sides the same digests are made, and so many records were delivered and arrived.
#[track_caller]
fn as_read_again(job: &ScriptedJob, delivered: u64, arrived: u64) {
    let stage = job.stage();
    let (tapped, _, _) = run(&stage);
    assert_equal(&tapped, arrived);
    let (read, streams, _) = verify(&stage);
    assert_equal(&read, arrived);
    assert!(streams > 0, "the source was read");
    for at in ["transformed", "read_back"] {
        assert_eq!(place(&tapped, at), place(&read, at), "{at}");
    }
    let extracted = &tapped["verification"][0]["digests"]["extracted"];
    assert_eq!(extracted["record_count"], delivered);
    let parts = extracted["partitions"].as_array().unwrap();
    let counted: u64 = parts
        .iter()
        .map(|part| part["record_count"].as_u64().unwrap())
        .sum();
    assert_eq!(counted, delivered);
    assert_tidy(&stage);
}

#[test]
fn digests_of_a_copy_are_those_of_reading_again() {
    as_read_again(&keeping(), RECORDS, RECORDS);
}

#[test]
fn digests_of_transformed_records_are_those_of_reading_again() {
    let steps = json!([
        { "filter": { "where": { "field": "id", "op": "less", "value": 200 } } },
        { "rename": { "score": "points" } },
    ]);
    let reshape = json!([{ "plugin": "reshape", "config": { "steps": steps } }]);
    as_read_again(&keeping().set("/transforms", reshape), RECORDS, 200);
}

#[test]
fn digests_of_a_sample_are_those_of_reading_again() {
    let sample = keeping()
        .set("/mode", json!("test"))
        .set("/sample_records", json!(70));
    as_read_again(&sample, 70, 70);
}

#[test]
fn however_a_copy_is_divided_and_batched_its_digests_are_the_same() {
    let mut seen = Vec::new();
    for (parts, batch) in [(1, 300), (3, 7), (7, 64)] {
        let limits = json!({ "partitions_parallel": parts, "batch_records": batch });
        let stage = job().set("/limits", limits).stage();
        let (report, streams, _) = run(&stage);
        assert_equal(&report, RECORDS);
        assert_eq!(streams, parts * COLLECTIONS as usize);
        seen.push([place(&report, "extracted"), place(&report, "transformed")]);
    }
    assert!(seen.windows(2).all(|of| of[0] == of[1]), "{seen:#?}");
    // Nothing is lost on the way to this sink.
    assert_eq!(seen[0][0], seen[0][1]);
}

#[test]
fn a_stream_that_is_taken_up_again_is_read_once_all_the_same() {
    let stage = job()
        .source("misbehave", misbehave("next", 11, 2, "transient_error"))
        .set("/import/retry_delay_ms", json!(1))
        .stage();
    let (report, streams, _) = run(&stage);
    assert_equal(&report, RECORDS);
    assert_eq!(streams, PARTS * COLLECTIONS as usize + 2);
}

#[test]
fn a_resumed_run_reads_again_what_an_earlier_one_has_begun_and_is_equal() {
    let import =
        json!({ "batch_size": 20, "checkpoint_interval": 20, "checkpoint_interval_ms": 0, "max_retries": 0 });
    let stage = keeping()
        .set("/import", import)
        .sink("misbehave", misbehave("commit", 6, 0, "error"))
        .stage();
    asked(&stage, &["run", "job.yaml", "--json"], 1);
    assert_tidy(&stage);
    let so_far = committed(&stage);
    let copied: usize = so_far.values().sum();
    assert!(copied > 0 && so_far.len() < COLLECTIONS as usize, "{so_far:?}");
    keeping().write(&stage);
    let (report, _, units) = asked(&stage, &["resume", "--job", "job.yaml", "--json"], 0);
    assert_equal(&report, RECORDS);
    // All are described, the rest is copied, and of a collection that was not whole digests are made by reading it.
    let rest = COLLECTIONS * RECORDS - copied as u64;
    assert_eq!(
        units,
        COLLECTIONS * RECORDS + rest + so_far.len() as u64 * RECORDS
    );
}

#[test]
fn records_that_the_sink_refuses_are_left_out_of_what_was_tapped() {
    let stage = job()
        .sink("refused_ids", json!([3, 200]))
        .set("/import/max_errors", json!(10))
        .stage();
    let (report, streams, _) = run(&stage);
    assert_eq!(streams, PARTS * COLLECTIONS as usize);
    for result in report["verification"].as_array().unwrap() {
        assert_eq!(result["comparison"], "equal", "{result:#}");
        assert_eq!(result["left_out_count"], 2, "{result:#}");
        assert_eq!(result["compared_count"], RECORDS - 2, "{result:#}");
    }
}

#[test]
fn a_circle_of_references_is_tapped_in_its_first_pass() {
    let link = |enforced: bool| {
        let side = if enforced { "enforced" } else { "guaranteed" };
        json!([{ "from": "a", "field": "a_id", "to": "a", "shift": 0, side: true }])
    };
    let stage = job()
        .source("links", link(false))
        .sink("links", link(true))
        .set("/import/on_orphan", json!("skip"))
        .stage();
    let (report, streams, units) = run(&stage);
    assert_equal(&report, RECORDS);
    // The second pass reads one of them again.
    assert_eq!(streams, PARTS * (COLLECTIONS as usize + 1));
    assert_eq!(report["cost"]["run_units"], units);
}

#[test]
fn lower_levels_and_stages_are_not_tapped() {
    for level in ["none", "basic", "standard"] {
        let stage = job().set("/verification", json!(level)).stage();
        let (report, _, _) = run(&stage);
        for result in report["verification"].as_array().into_iter().flatten() {
            assert_eq!(result.get("digests"), None, "{level}");
        }
    }
    let stage = job().set("/staging", json!("disk")).stage();
    let (report, _, units) = run(&stage);
    assert_equal(&report, RECORDS);
    assert_eq!(
        units,
        2 * COLLECTIONS * RECORDS,
        "what was staged is not asked for again"
    );
}

#[test]
fn a_level_of_its_own_taps_one_collection_alone() {
    let rules = json!([
        { "source": "a" },
        { "source": "b", "verification": "comprehensive" },
    ]);
    let stage = job()
        .set("/verification", json!("standard"))
        .set("/collections", rules)
        .stage();
    let (report, streams, units) = run(&stage);
    let levels: Vec<&Value> = report["verification"]
        .as_array()
        .unwrap()
        .iter()
        .map(|result| &result["level"])
        .collect();
    assert_eq!(levels, ["standard", "comprehensive"]);
    // The other one is read again for its comparison.
    assert_eq!(streams, PARTS * COLLECTIONS as usize + 1);
    assert_eq!(report["cost"]["run_units"], units);
}
