//! Each source goes on at the cursor that the sink has: killed after some commits, resumed, and each record was written once.
//!
//! The sink is a libSQL file that notes its writes; the sources are filled by the program itself. FAULTS K2.

use serde_json::{Value, json};

use super::targets::{LibsqlFile, LibsqlServer, Postgres, Target, ThroughLayer};
use super::{assert_whole, job_of, resume, stage_for, was_killed};
use crate::postgres_job::report_of;
use crate::program::Stage;

/// Which commits end the first run, counted over both collections.
const COMMITS: [u32; 3] = [1, 5, 9];

/// Fills `source`, then copies it into a file and is killed on the way.
fn resumes_in_mid_collection(source: &dyn Target) {
    let filling = stage_for(source);
    report_of(filling.run(&["run", "job.yaml", "--json"]), 0);
    resumes_from(source.side(), &mut LibsqlFile::new());
}

fn resumes_from(source: Value, target: &mut LibsqlFile) {
    for commit in COMMITS {
        target.reset();
        let stage = Stage::new();
        job_of(source.clone(), target)
            .set("/limits/partitions_parallel", json!(3))
            .write(&stage);
        let at = format!("committed:{commit}");
        let variables = [("WHIMBREL_CRASH_AT", at.as_str()), ("WHIMBREL_CRASH_ALL", "1")];
        let answer = stage.run_with(&["run", "job.yaml", "--json"], &variables);
        assert!(was_killed(&answer), "{at}: {}{}", answer.out, answer.err);
        let report = resume(&stage);
        assert_whole(target, &report, &at);
    }
}

#[test]
fn k2_postgres_is_read_on_from_the_cursor() {
    if let Some(source) = Postgres::new() {
        resumes_in_mid_collection(&source);
    }
}

#[test]
fn k2_a_libsql_file_is_read_on_from_the_cursor() {
    resumes_in_mid_collection(&LibsqlFile::new());
}

#[test]
fn k2_a_libsql_server_is_read_on_from_the_cursor() {
    if let Some(source) = LibsqlServer::new() {
        resumes_in_mid_collection(&source);
    }
}

#[test]
fn k2_firestore_is_read_on_from_the_cursor() {
    if let Some(source) = ThroughLayer::new() {
        resumes_in_mid_collection(&source);
    }
}
