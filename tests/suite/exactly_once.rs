//! Killed at every named place and at random moments, then resumed: every record is in the sink, and each was written once.
//! FAULTS K1, K2.
//!
//! The sinks themselves note each write: by triggers where there is SQL, by the gRPC layer before Firestore. `targets` has the
//! four of them, `sites` and `moments` the kills, `poison` kills of copies of which something is refused, `takeovers` two runs at
//! once, `clears` what a clearing leaves of a copy.

mod clears;
mod moments;
mod poison;
mod sites;
mod sources;
mod takeovers;
mod targets;

use serde_json::{Value, json};

use crate::postgres_job::{Job, files, noise, report_of};
use crate::program::{Answer, Stage};
use crate::running::wait_until;
use targets::Target;

/// Records of each of the two collections.
pub const RECORDS: u64 = 240;
/// The collections, each a file, a table and a lane.
pub const COLLECTIONS: [&str; 2] = ["a", "b"];
/// Records of a batch: several of them make a transaction, and several transactions a lane.
const BATCH_RECORDS: u64 = 20;

/// A folder with the source and a job into `target`.
pub fn stage_for(target: &dyn Target) -> Stage {
    let stage = Stage::new();
    std::fs::create_dir(stage.path("in")).unwrap();
    for name in COLLECTIONS {
        let line = |id: u64| {
            format!(
                "{{\"id\":{id},\"name\":\"{name} {id}\",\"pad\":\"{}\"}}\n",
                noise(id, 60)
            )
        };
        stage.write(
            &format!("in/{name}.ndjson"),
            (0..RECORDS).map(line).collect::<String>(),
        );
    }
    job_for(target).write(&stage);
    stage
}

/// The job of [`stage_for`].
pub fn job_for(target: &dyn Target) -> Job {
    job_of(files("in"), target)
}

/// The same from another source.
pub fn job_of(source: Value, target: &dyn Target) -> Job {
    let collections: Vec<Value> = COLLECTIONS
        .iter()
        .map(|name| json!({ "source": name, "key": ["id"] }))
        .collect();
    Job::new(source, target.side())
        .set("/name", json!("exactly-once"))
        .set("/collections", json!(collections))
        .set("/limits/batch_records", json!(BATCH_RECORDS))
        // A worker that is lost ends the run, so that it is the next run that goes on.
        .set("/limits/worker_restarts", json!(0))
        .set("/import/batch_size", json!(BATCH_RECORDS))
        .set("/import/checkpoint_interval", json!(2 * BATCH_RECORDS))
        .set("/import/checkpoint_interval_ms", json!(0))
        .set("/import/retry_delay_ms", json!(10))
}

/// Resumes the newest run, once its worker has followed its supervisor into death; it must end well.
#[track_caller]
pub fn resume(stage: &Stage) -> Value {
    let mut answer = None;
    wait_until("the worker is gone", || {
        let last = answer.insert(stage.run(&["resume", "--json"]));
        !last.out.contains("run.already_running")
    });
    report_of(answer.unwrap(), 0)
}

/// Whether a program was ended by a signal.
pub fn was_killed(answer: &Answer) -> bool {
    answer.code == -1
}

/// Everything has arrived once, and the report of the last run tells of the whole copy.
#[track_caller]
pub fn assert_whole(target: &dyn Target, report: &Value, when: &str) {
    assert_eq!(report["outcome"], "done", "{when}: {report}");
    assert_eq!(report["rejected_count"], 0, "{when}");
    for collection in report["collections"].as_array().unwrap() {
        assert_eq!(collection["written_count"], RECORDS, "{when}: {collection}");
        assert_eq!(collection["read_count"], RECORDS, "{when}: {collection}");
        assert_eq!(collection["complete"], true, "{when}: {collection}");
    }
    assert_eq!(
        report["verification"][0]["comparison"], "equal",
        "{when}: {report}"
    );
    target.assert_written_once(when);
}
