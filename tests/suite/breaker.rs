//! The circuit breaker: a run of which too large a part is rejected ends early, with its state kept. FAULTS D2.
//!
//! The source or the sink of a scripted job rejects; what the sink made durable is read from its own file. Neighbours: `rejected`,
//! for what becomes of rejected records, and `resume_command`.

use serde_json::{Value, json};

use crate::postgres_job::{report_of, told};
use crate::program::Stage;
use crate::scripted_job::{ScriptedJob, committed, misbehave};

/// Records of the one collection, in batches of ten and transactions of about twenty.
const RECORDS: u64 = 1_000;

/// A job that bears any number of rejected records, and keeps what its sink has for the next process.
fn job() -> ScriptedJob {
    ScriptedJob::new()
        .source("records", json!(RECORDS))
        .sink("lanes_path", json!("lanes.ndjson"))
        .set("/limits/batch_records", json!(10))
        .set("/limits/partitions_parallel", json!(1))
        .set("/import/batch_size", json!(10))
        .set("/import/checkpoint_interval", json!(20))
        .set("/import/checkpoint_interval_ms", json!(0))
        .set("/import/max_errors", json!(RECORDS))
}

/// From the middle on, half of the records.
fn half_of_the_second_half() -> Value {
    json!((RECORDS / 2..RECORDS).step_by(2).collect::<Vec<_>>())
}

fn durable(stage: &Stage) -> u64 {
    committed(stage).values().map(|count| *count as u64).sum()
}

#[test]
fn d2_too_large_a_part_of_rejected_records_ends_the_run_and_its_state_is_kept() {
    for defers in [false, true] {
        let job = job()
            .sink("defers", json!(defers))
            .set("/import/breaker", json!({ "window": 100 }));
        let stage = job.clone().sink("refused_ids", half_of_the_second_half()).stage();
        let report = report_of(stage.run(&["run", "job.yaml", "--json"]), 1);
        let said = told(&report);
        assert!(said.starts_with("run.breaker_open: "), "{said}");
        for word in [
            "% of the last 100 records",
            "10 % are allowed",
            "rejected list",
            "resume",
        ] {
            assert!(said.contains(word), "{word}: {said}");
        }
        assert_eq!(report["outcome"], "failed");
        // The first half is there, and no more than a window and a transaction of the second.
        let written = durable(&stage);
        assert!((480..600).contains(&written), "{written}");
        assert_eq!(report["collections"][0]["written_count"], written, "{report}");
        assert!(report["rejected_count"].as_u64().unwrap() >= 10, "{report}");
        let list = stage.run(&["rejected", "list"]).expect(0).out;
        assert!(list.contains("scripted.rejected"), "{list}");
        // With the sink repaired the rest comes, once; those left out by durable commits stay away.
        job.write(&stage);
        report_of(stage.run(&["resume", "--accept-changes", "--json"]), 0);
        let whole = durable(&stage);
        assert!(whole > written && whole <= RECORDS, "{whole}");
    }
}

#[test]
fn d2_a_resumed_run_begins_with_an_empty_window() {
    let job = job()
        .sink("refused_ids", half_of_the_second_half())
        .set("/import/breaker", json!({ "window": 100, "records_min": 50 }));
    let stage = job.stage();
    report_of(stage.run(&["run", "job.yaml", "--json"]), 1);
    let before = durable(&stage);
    // Nothing is repaired: it gets on by less than the least number of records and is ended again.
    let report = report_of(stage.run(&["resume", "--json"]), 1);
    assert!(
        told(&report).starts_with("run.breaker_open: "),
        "{}",
        told(&report)
    );
    let after = durable(&stage);
    assert!(after > before && after < before + 50, "{before} {after}");
}

#[test]
fn d2_max_errors_counts_if_it_is_exceeded_first() {
    let poisoned = job().sink("refused_ids", half_of_the_second_half());
    for (max_errors, durable_least) in [(0, 480), (3, 480)] {
        let stage = poisoned
            .clone()
            .set("/import/max_errors", json!(max_errors))
            .stage();
        let report = report_of(stage.run(&["run", "job.yaml", "--json"]), 1);
        assert!(
            told(&report).starts_with("run.too_many_rejected: "),
            "{}",
            told(&report)
        );
        assert!((durable_least..=500).contains(&durable(&stage)));
    }
}

#[test]
fn d2_a_small_part_or_a_breaker_that_is_off_ends_nothing() {
    let every_hundredth: Vec<u64> = (0..RECORDS).step_by(100).collect();
    let stage = job().sink("refused_ids", json!(every_hundredth)).stage();
    let report = report_of(stage.run(&["run", "job.yaml", "--json"]), 0);
    assert_eq!(
        (&report["rejected_count"], durable(&stage)),
        (&json!(10), RECORDS - 10)
    );
    let stage = job()
        .sink("refused_ids", half_of_the_second_half())
        .set("/import/breaker", json!({ "rate": 1 }))
        .stage();
    let report = report_of(stage.run(&["run", "job.yaml", "--json"]), 0);
    assert_eq!(
        (&report["rejected_count"], durable(&stage)),
        (&json!(250), RECORDS - 250)
    );
}

#[test]
fn d2_records_that_the_source_rejects_count_as_well() {
    // Each batch of one record from the hundredth on is rejected.
    let stage = job()
        .set("/limits/batch_records", json!(1))
        .set("/verification", json!("none"))
        .source("misbehave", misbehave("next", 102, 300, "reject"))
        .stage();
    let report = report_of(stage.run(&["run", "job.yaml", "--json"]), 1);
    assert!(
        told(&report).starts_with("run.breaker_open: "),
        "{}",
        told(&report)
    );
    assert!(durable(&stage) <= 100, "{}", durable(&stage));
}

#[test]
fn d2_a_source_of_which_nothing_can_be_read_is_not_read_to_its_end() {
    let records = 20_000;
    let stage = job()
        .source("records", json!(records))
        .set("/import/max_errors", json!(records))
        .set("/import/breaker", json!({ "window": 100 }))
        .set("/limits/batch_records", json!(1))
        .set("/verification", json!("none"))
        .source("misbehave", misbehave("next", 2, records + 2, "reject"))
        .stage();
    let report = report_of(stage.run(&["run", "job.yaml", "--json"]), 1);
    let said = told(&report);
    assert!(said.starts_with("run.breaker_open: "), "{said}");
    // Ten windows, and what was on its way by then; all of it is in the list.
    let rejected = report["rejected_count"].as_u64().unwrap();
    assert!((1_000..5_000).contains(&rejected), "{rejected}");
    let listed = stage.run(&["rejected", "list", "--json"]).expect(0).json();
    assert_eq!(listed["totalErrors"], rejected, "{listed}");
}
