//! A sink that is cleared in the middle of a copy: nobody goes on with that copy, whether it was killed or still writes, and the next one is
//! whole. Also after a clearing that was killed itself.
//!
//! Of `host/src/crash_site.rs` the sites of `clear` are gone through. Neighbour: `tests/suite/clearing.rs` has what needs one sink only.

use serde_json::{Value, json};

use super::takeovers::{go_on, stages, stopped};
use super::targets::{LibsqlFile, LibsqlServer, Postgres, Target, ThroughLayer};
use super::{COLLECTIONS, RECORDS, job_for, stage_for, was_killed};
use crate::postgres_job::{report_of, told};
use crate::program::{Answer, Stage};
use crate::running::wait_until;

/// The answer of a command, once the worker of a run that was killed has followed its supervisor into death.
fn once_free(stage: &Stage, arguments: &[&str], variables: &[(&str, &str)]) -> Answer {
    let mut answer = None;
    wait_until("the worker is gone", || {
        let last = answer.insert(stage.run_with(&[arguments, &["--json"]].concat(), variables));
        !last.out.contains("run.already_running")
    });
    answer.unwrap()
}

/// Kills the worker of a run of `stage` in the middle of its copy; answers its id. The state knows of commits then.
fn killed(stage: &Stage) -> String {
    let variables = [("WHIMBREL_CRASH_AT", "committed:5")];
    let answer = stage.run_with(&["run", "job.yaml", "--json"], &variables);
    assert_eq!(
        answer.json()["outcome"],
        "crashed",
        "{}{}",
        answer.out,
        answer.err
    );
    let run = runs(stage).swap_remove(0);
    run["id"].as_str().unwrap().to_owned()
}

fn runs(stage: &Stage) -> Vec<Value> {
    let runs = stage.run(&["runs", "--json"]).expect(0).json();
    runs["runs"].as_array().unwrap().clone()
}

/// A folder whose job compares nothing, so that nothing but the copy itself could notice that records lack.
fn stage_without_verification(target: &dyn Target) -> Stage {
    let stage = stage_for(target);
    job_for(target).set("/verification", json!("none")).write(&stage);
    stage
}

fn sink_counts(stage: &Stage) -> Vec<u64> {
    let report = stage.run(&["stats", "job.yaml", "--json"]).expect(0).json();
    let stats = report["stats"].as_array().unwrap().iter();
    stats.map(|one| one["sink_count"].as_u64().unwrap_or(0)).collect()
}

#[track_caller]
fn refused(answer: Answer, code: &str, when: &str) {
    let answer = answer.expect(2);
    let error = answer.error();
    assert_eq!(error["code"], code, "{when}: {error}");
    assert!(
        error["help"].as_str().unwrap().contains("whimbrel run"),
        "{when}: {error}"
    );
}

/// Nothing goes on with `run`, however it is asked for, and nothing is said to; a new run copies all.
#[track_caller]
fn only_a_new_run_helps(stage: &Stage, run: &str, when: &str) {
    for one in runs(stage) {
        assert_eq!(one.get("resume_command"), None, "{when}: {one}");
    }
    let status = stage.run(&["status", run, "--json"]).expect(0).json();
    assert_eq!(status.get("resume_command"), None, "{when}: {status}");
    for arguments in [
        &["resume"][..],
        &["resume", run],
        &["run", "job.yaml", "--resume"],
    ] {
        refused(once_free(stage, arguments, &[]), "resume.nothing_to_do", when);
    }
    let report = report_of(
        once_free(
            stage,
            &["run", "job.yaml", "--verification-level", "comprehensive"],
            &[],
        ),
        0,
    );
    assert_eq!(
        report["verification"][0]["comparison"], "equal",
        "{when}: {report}"
    );
    assert_eq!(sink_counts(stage), [RECORDS; COLLECTIONS.len()], "{when}");
}

fn a_copy_that_was_cleared_is_not_gone_on_with(target: &mut dyn Target) {
    target.reset();
    let stage = stage_without_verification(target);
    let run = killed(&stage);
    let cleared = report_of(once_free(&stage, &["clear", "job.yaml", "--yes"], &[]), 0);
    let removed = cleared["cleared"].as_array().unwrap().iter();
    let removed: u64 = removed.map(|one| one["removed_count"].as_u64().unwrap()).sum();
    assert!(removed > 0 && removed < 2 * RECORDS, "{cleared}");
    assert_eq!(sink_counts(&stage), [0; COLLECTIONS.len()]);
    let newest = runs(&stage).swap_remove(0);
    assert_eq!(
        (&newest["command"], &newest["state"]),
        (&json!("clear"), &json!("done"))
    );
    only_a_new_run_helps(&stage, &run, "after a clearing");
}

fn a_clearing_that_was_killed_is_made_good(target: &mut dyn Target) {
    for site in ["run_lane_held", "lanes_emptied", "cleared"] {
        target.reset();
        let stage = stage_without_verification(target);
        let run = killed(&stage);
        let variables = [("WHIMBREL_CRASH_AT", site), ("WHIMBREL_CRASH_ALL", "1")];
        let answer = once_free(&stage, &["clear", "job.yaml", "--yes"], &variables);
        assert!(was_killed(&answer), "{site}: {}{}", answer.out, answer.err);
        if site == "run_lane_held" {
            // Lanes and records still stand, and who knows the run can go on with it.
            let report = report_of(once_free(&stage, &["resume", &run], &[]), 0);
            assert_eq!(report["outcome"], "done", "{report}");
            assert_eq!(sink_counts(&stage), [RECORDS; COLLECTIONS.len()]);
            continue;
        }
        let mut newest = Value::Null;
        wait_until("the worker is gone", || {
            newest = runs(&stage).swap_remove(0);
            newest["state"] != "running"
        });
        assert_eq!(
            (&newest["command"], &newest["state"]),
            (&json!("clear"), &json!("crashed")),
            "{site}"
        );
        // The sink says so itself, as it does to other hosts.
        refused(
            once_free(&stage, &["resume", &run], &[]),
            "resume.nothing_in_sink",
            site,
        );
        report_of(once_free(&stage, &["clear", "job.yaml", "--yes"], &[]), 0);
        assert_eq!(sink_counts(&stage), [0; COLLECTIONS.len()], "{site}");
        only_a_new_run_helps(&stage, &run, site);
    }
}

/// A run that was stopped and goes on after somebody has cleared its sink from another folder.
fn a_run_that_still_writes_is_fenced(target: &mut dyn Target) {
    target.reset();
    let (old, new) = stages(target);
    let running = stopped(&old);
    report_of(new.run(&["clear", "job.yaml", "--yes", "--json"]), 0);
    assert_eq!(sink_counts(&new), [0; COLLECTIONS.len()]);
    let end = go_on(running);
    assert_eq!(end.code, 7, "{}{}", told(end.report()), end.err);
    assert!(
        told(end.report()).contains("run.fenced"),
        "{}",
        told(end.report())
    );
    assert_eq!(
        sink_counts(&new),
        [0; COLLECTIONS.len()],
        "after the old run went on"
    );
    let run = runs(&old).swap_remove(0);
    let run = run["id"].as_str().unwrap();
    refused(
        once_free(&old, &["resume", run], &[]),
        "resume.nothing_in_sink",
        "by another folder",
    );
}

fn all(target: &mut dyn Target) {
    a_copy_that_was_cleared_is_not_gone_on_with(target);
    a_clearing_that_was_killed_is_made_good(target);
}

#[test]
fn a_copy_into_postgres_that_was_cleared_is_begun_anew_or_not_at_all() {
    if let Some(mut target) = Postgres::new() {
        all(&mut target);
    }
}

#[test]
fn a_copy_into_a_libsql_file_that_was_cleared_is_begun_anew_or_not_at_all() {
    all(&mut LibsqlFile::new());
}

#[test]
fn a_copy_into_a_libsql_server_that_was_cleared_is_begun_anew_or_not_at_all() {
    if let Some(mut target) = LibsqlServer::new() {
        all(&mut target);
    }
}

#[test]
fn a_copy_into_firestore_that_was_cleared_is_begun_anew_or_not_at_all() {
    if let Some(mut target) = ThroughLayer::new() {
        all(&mut target);
    }
}

#[test]
fn a_stopped_run_that_goes_on_after_a_clearing_leaves_postgres_empty() {
    if let Some(mut target) = Postgres::new() {
        a_run_that_still_writes_is_fenced(&mut target);
    }
}

#[test]
fn a_stopped_run_that_goes_on_after_a_clearing_leaves_a_libsql_server_empty() {
    if let Some(mut target) = LibsqlServer::new() {
        a_run_that_still_writes_is_fenced(&mut target);
    }
}

#[test]
fn a_stopped_run_that_goes_on_after_a_clearing_leaves_firestore_empty() {
    if let Some(mut target) = ThroughLayer::new() {
        a_run_that_still_writes_is_fenced(&mut target);
    }
}

#[test]
fn a_libsql_file_that_somebody_writes_is_not_cleared() {
    let mut target = LibsqlFile::new();
    target.reset();
    let (old, new) = stages(&target);
    let running = stopped(&old);
    let answer = new.run(&["clear", "job.yaml", "--yes", "--json"]);
    assert_ne!(answer.code, 0, "{}", answer.out);
    let report = answer.json();
    let code = report["errors"][0]["code"].as_str().unwrap();
    assert!(
        ["run.lane_held", "turso.busy"].contains(&code),
        "{}",
        told(&report)
    );
    let end = go_on(running);
    assert_eq!(end.code, 0, "{}{}", told(end.report()), end.err);
    super::assert_whole(&target, end.report(), "after the refusal");
}
