//! Sinks that judge records when they are flushed: nothing is committed before it is known what the commit leaves out.
//!
//! What was durable is read from the scripted sink's own file, what it was asked from its file of calls. Ledger R6.4.

use serde_json::{Value, json};

use crate::program::Stage;
use crate::running::Running;
use crate::scripted_job::{
    COMMITTED, SINK_CALLS, ScriptedJob, calls, committed, data_commits, lines, misbehave,
};

const RECORDS: u64 = 1_000;

/// A thousand records in batches of 200, in one partition, into a sink that defers and refuses some.
fn job(refused: &[u64], max_errors: u64) -> ScriptedJob {
    ScriptedJob::new()
        .source("records", json!(RECORDS))
        .sink("defers", json!(true))
        .sink("refused_ids", json!(refused))
        .set("/import/max_errors", json!(max_errors))
        .set("/limits/partitions_parallel", json!(1))
        .set("/limits/batch_records", json!(200))
        .set("/verification", json!("none"))
}

fn write_sizes(stage: &Stage) -> Vec<u64> {
    let writes = calls(stage, SINK_CALLS, "write");
    writes
        .iter()
        .map(|about| about["record_count"].as_u64().unwrap())
        .collect()
}

/// The ids that are durable, each once.
fn ids(stage: &Stage) -> Vec<u64> {
    let mut ids: Vec<u64> = lines(&stage.path(COMMITTED))
        .iter()
        .map(|line| line["record"]["id"].as_u64().unwrap())
        .collect();
    ids.sort_unstable();
    ids
}

fn all_but(refused: &[u64]) -> Vec<u64> {
    (0..RECORDS).filter(|id| !refused.contains(id)).collect()
}

/// The rejected records of a report: their rows.
fn rows(report: &Value) -> Vec<u64> {
    let rejected = report["rejected"].as_array().unwrap();
    rejected.iter().map(|of| of[1]["row"].as_u64().unwrap()).collect()
}

#[test]
fn rejected_records_are_left_out_with_the_rows_of_their_batches() {
    for staging in ["memory", "disk"] {
        let refused = [3, 500, 999];
        // Progress is shown many times while the sink judges.
        let stage = job(&refused, 3)
            .set("/staging", json!(staging))
            .sink("misbehave", misbehave("flush", 1, 0, "slow"))
            .sink("slow_ms", json!(400))
            .stage();
        let end = Running::start(&stage, &[]).finish().expect(0);
        let report = end.report();
        assert_eq!(ids(&stage), all_but(&refused), "{staging}");
        assert_eq!(rows(report), [3, 100, 199], "{staging}");
        let collection = &report["collections"][0];
        assert_eq!(
            (
                &collection["read_count"],
                &collection["written_count"],
                &collection["rejected_count"]
            ),
            (&json!(1_000), &json!(997), &json!(3)),
            "{staging}"
        );
        // The first write tells that the sink defers; from then on batches go over as they were read.
        assert_eq!(write_sizes(&stage), [100, 100, 200, 200, 200, 200], "{staging}");
        let (mut durable, mut shown) = (0, 0);
        for event in &end.events {
            match event["event"].as_str().unwrap() {
                "committed" => durable += event["record_count"].as_u64().unwrap(),
                "progress" => shown = event["written_count"].as_u64().unwrap(),
                _ => {}
            }
            assert!(shown <= durable, "{staging}: {event}");
        }
        assert_eq!(durable, 997, "{staging}");
    }
}

#[test]
fn d2_nothing_is_committed_with_more_rejected_records_than_allowed() {
    let stage = job(&[5, 6], 1).stage();
    let end = Running::start(&stage, &[]).finish().expect(1);
    assert_eq!(end.report()["errors"][0]["code"], "run.too_many_rejected");
    assert_eq!(end.report()["rejected_count"], 2);
    assert_eq!(ids(&stage), [] as [u64; 0]);
    assert_eq!(data_commits(&stage).len(), 0);
}

#[test]
fn a_flush_that_fails_for_now_is_tried_again_with_all_batches() {
    let refused = [0, 777];
    let stage = job(&refused, 2)
        .set("/import/retry_delay_ms", json!(1))
        .sink("misbehave", misbehave("flush", 1, 2, "transient_error"))
        .stage();
    let end = Running::start(&stage, &[]).finish().expect(0);
    assert_eq!(ids(&stage), all_but(&refused));
    assert_eq!(committed(&stage)["records"], 998);
    assert_eq!(end.named("retrying").len(), 2);
    assert_eq!(end.named("rejected").len(), 2, "each is told once");
    assert_eq!(rows(end.report()), [0, 177]);
    assert_eq!(data_commits(&stage).len(), 1);
}

#[test]
fn a_commit_that_fails_for_now_is_tried_again_with_another_judgement() {
    let refused = [250];
    let stage = job(&refused, 1)
        .set("/import/retry_delay_ms", json!(1))
        // The first commit is that of the run's own lane.
        .sink("misbehave", misbehave("commit", 2, 1, "transient_error"))
        .stage();
    let end = Running::start(&stage, &[]).finish().expect(0);
    assert_eq!(ids(&stage), all_but(&refused));
    assert_eq!(data_commits(&stage).len(), 2);
    assert_eq!(calls(&stage, SINK_CALLS, "flush").len(), 2);
    assert_eq!(end.named("rejected").len(), 1, "it is told once");
}

#[test]
fn a_job_that_says_how_large_a_write_is_is_obeyed() {
    let stage = job(&[], 0).set("/import/batch_size", json!(80)).stage();
    stage.run(&["run", "job.yaml"]).expect(0);
    assert_eq!(write_sizes(&stage), [80, 80, 40].repeat(5));
    assert_eq!(ids(&stage), all_but(&[]));
}

#[test]
fn p7_a_flush_that_lies_ends_the_run_before_its_commit() {
    let stage = job(&[], 0)
        .sink("misbehave", misbehave("flush", 1, 0, "wrong_receipt"))
        .stage();
    let answer = stage.run(&["run", "job.yaml", "--json"]).expect(1);
    let error = answer.error();
    assert_eq!(
        (&error["code"], &error["call"]),
        (&json!("plugin.wrong_receipt"), &json!("flush"))
    );
    assert_eq!(ids(&stage), [] as [u64; 0]);
}

#[test]
fn what_the_sink_has_refused_is_no_difference() {
    for (defers, level) in [(true, "standard"), (false, "standard"), (true, "basic")] {
        let what = format!("{defers} {level}");
        let refused = [3, 500, 999];
        let stage = job(&refused, 3)
            .sink("defers", json!(defers))
            .set("/verification", json!(level))
            .stage();
        let end = Running::start(&stage, &[]).finish().expect(0);
        let report = end.report();
        assert_eq!(report["outcome"], "done", "{what}");
        assert_eq!(report["rejected_count"], 3, "{what}");
        let compared = &report["verification"][0];
        assert_eq!(compared["comparison"], "equal", "{what}: {compared}");
        assert_eq!(
            [
                &compared["source_count"],
                &compared["sink_count"],
                &compared["left_out_count"]
            ],
            [1_000, 997, 3],
            "{what}"
        );
    }
}

#[test]
fn what_the_sink_has_lost_besides_is_a_difference() {
    let stage = job(&[3], 1)
        .set("/verification", json!("standard"))
        .sink("misbehave", misbehave("flush", 1, 1, "lose_records"))
        .stage();
    let end = Running::start(&stage, &[]).finish().expect(4);
    assert_eq!(end.report()["verification"][0]["comparison"], "different");
}
