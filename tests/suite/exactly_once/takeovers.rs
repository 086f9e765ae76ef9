//! A run is stopped, another one takes its lanes and ends, the first one goes on: it ends with exit code 7 and changes nothing.
//! FAULTS K4.
//!
//! The second run has a working folder of its own, as on another host, so that only the sink stands between them.

use rustix::process::Signal;
use serde_json::{Value, json};

use super::targets::{LibsqlFile, LibsqlServer, Postgres, Target, ThroughLayer};
use super::{assert_whole, job_of, stage_for};
use crate::postgres_job::{files, report_of, told};
use crate::program::Stage;
use crate::running::{End, Running};

/// A run of `stage` that stands still right after its first commit of records, with all others before it.
pub(super) fn stopped(stage: &Stage) -> Running {
    let running = Running::start_with(stage, &[], &[("WHIMBREL_STOP_AT", "committed")]);
    running.stopped_worker();
    running.signal(Signal::STOP);
    running
}

/// Lets it go on to its end.
pub(super) fn go_on(running: Running) -> End {
    rustix::process::kill_process(running.worker(), Signal::CONT).unwrap();
    running.signal(Signal::CONT);
    running.finish()
}

/// Two folders with one job of many transactions, of ten records each. Both read the files of the first.
pub(super) fn stages(target: &dyn Target) -> (Stage, Stage) {
    let (first, second) = (stage_for(target), Stage::new());
    let source = files(&first.path("in").display().to_string());
    for stage in [&first, &second] {
        write_job(stage, source.clone(), target);
    }
    (first, second)
}

fn write_job(stage: &Stage, source: Value, target: &dyn Target) {
    job_of(source, target)
        .set("/limits/batch_records", json!(10))
        .set("/import/batch_size", json!(10))
        .set("/import/checkpoint_interval", json!(10))
        .write(stage);
}

fn the_old_run_is_fenced(target: &mut dyn Target) {
    target.reset();
    let (old, new) = stages(target);
    let running = stopped(&old);
    // By the sink alone: this folder knows of no run.
    let report = report_of(new.run(&["run", "job.yaml", "--resume", "--json"]), 0);
    assert_whole(target, &report, "after the take-over");
    let end = go_on(running);
    assert_eq!(end.code, 7, "{}{}", told(end.report()), end.err);
    let codes: Vec<&Value> = end.report()["errors"]
        .as_array()
        .unwrap()
        .iter()
        .map(|error| &error["code"])
        .collect();
    assert!(codes.contains(&&json!("run.fenced")), "{codes:?}");
    target.assert_written_once("after the old run went on");
}

#[test]
fn k4_a_stopped_run_that_goes_on_after_a_take_over_changes_nothing_in_postgres() {
    if let Some(mut target) = Postgres::new() {
        the_old_run_is_fenced(&mut target);
    }
}

#[test]
fn k4_a_stopped_run_that_goes_on_after_a_take_over_changes_nothing_in_a_libsql_server() {
    if let Some(mut target) = LibsqlServer::new() {
        the_old_run_is_fenced(&mut target);
    }
}

#[test]
fn k4_a_stopped_run_that_goes_on_after_a_take_over_changes_nothing_in_firestore() {
    if let Some(mut target) = ThroughLayer::new() {
        the_old_run_is_fenced(&mut target);
    }
}

#[test]
fn k4_the_holder_of_a_libsql_file_is_named_and_nothing_is_taken_from_it() {
    let mut target = LibsqlFile::new();
    target.reset();
    let (old, new) = stages(&target);
    let running = stopped(&old);
    let holder = running.worker().as_raw_nonzero().to_string();
    let answer = new.run(&["run", "job.yaml", "--resume", "--json"]);
    assert_ne!(answer.code, 0, "{}", answer.out);
    let report = answer.json();
    // It may have been stopped within a transaction, which locks the file, or between two.
    let code = report["errors"][0]["code"].as_str().unwrap();
    assert!(
        ["run.lane_held", "turso.busy"].contains(&code),
        "{}",
        told(&report)
    );
    let message = report["errors"][0]["message"].as_str().unwrap();
    assert!(message.contains(&holder), "{message} names process {holder}");
    let end = go_on(running);
    assert_eq!(end.code, 0, "{}{}", told(end.report()), end.err);
    assert_whole(&target, end.report(), "after the refusal");
}
