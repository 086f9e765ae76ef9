//! What `migration-status.json` says: what is happening now, true at its `updated_at`.
//!
//! Read by people, by `whimbrel status` and by other programs; members are added and none is taken away.
//! [`super::RunState`] keeps it up to date, [`super::RunFiles`] writes it.

use std::path::Path;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use whimbrel_plugin_api::manifest::Role;
use whimbrel_plugin_api::{Error, ErrorKind};

use crate::events::{Comparison, Failure, Phase};
use crate::report::PhaseSpan;
use crate::workspace::RunFolder;

/// The version of this form.
pub const FORMAT: u32 = 1;
/// The state of a run that has not ended.
pub const RUNNING: &str = "running";
/// The state of a run that nobody watches any more and that has not ended. Never in the file: nobody is left to write it.
pub const KILLED: &str = "killed";

/// What is happening now.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunStatus {
    /// The version of this form.
    pub format: u32,
    /// The run.
    pub run_id: String,
    /// `run`, `check` or `verify`.
    pub command: String,
    /// The job.
    pub job: String,
    /// The job file as it was named.
    pub job_file: String,
    /// `full` or `test`.
    pub mode: String,
    /// Who started it: user and host.
    pub started_by: String,
    /// `running`, or how it ended: `done`, `differences`, `unverified`, `refused`, `failed`, `cancelled`, `crashed`.
    pub state: String,
    /// The process that watches the run, and holds a lock (flock) on its log. If `state` is `running` and nobody holds it,
    /// the run was killed.
    pub pid: u32,
    /// When it began.
    pub started_at: DateTime<Utc>,
    /// When all of this was true.
    pub updated_at: DateTime<Utc>,
    /// When it ended.
    pub ended_at: Option<DateTime<Utc>>,
    /// Seconds since the start, by a clock that nobody sets.
    pub elapsed_secs: f64,
    /// The phase that goes on; of several the last one in their order.
    pub phase: Option<Phase>,
    /// The phases that were entered.
    pub phases: Vec<PhaseSpan>,
    /// All collections together.
    pub totals: Totals,
    /// Each collection, in the order of the plan.
    pub collections: Vec<CollectionStatus>,
    /// Transactions that were tried again.
    pub retry_count: u64,
    /// The last of them.
    pub last_retry: Option<LastRetry>,
    /// What the run waits for, while it does.
    #[serde(default)]
    pub paused: Option<PausedStatus>,
    /// Resident memory of the worker, octets.
    pub memory_bytes: Option<u64>,
    /// What went wrong.
    pub errors: Vec<Failure>,
    /// The exit code, after the end.
    pub exit_code: Option<u8>,
}

/// All collections together.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Totals {
    /// Records expected; none if one collection's are unknown.
    pub expected_count: Option<u64>,
    /// Records read.
    pub read_count: u64,
    /// Records durable in the sink.
    pub written_count: u64,
    /// Records refused by either side.
    pub rejected_count: u64,
    /// Octets read.
    pub read_bytes: u64,
    /// Records whose comparison is done.
    pub verified_count: u64,
    /// Records that became durable each second, of late.
    pub written_per_sec: f64,
    /// Written or rejected of those expected, in hundredths.
    pub progress_percent: Option<f64>,
    /// Written of those written or rejected, in hundredths.
    pub success_percent: Option<f64>,
    /// Seconds that the rest will take at this rate.
    pub left_secs: Option<f64>,
}

/// How far a collection is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CollectionState {
    /// Nothing was read yet.
    Waiting,
    /// It is being copied.
    Copying,
    /// Every partition was read to its end and committed.
    Complete,
    /// The run ended before it was complete.
    Incomplete,
    /// It failed, and the others went on.
    Failed,
}

/// One collection.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CollectionStatus {
    /// In the source.
    pub source: String,
    /// In the sink.
    pub sink: String,
    /// How far it is.
    pub state: CollectionState,
    /// Records expected, if known.
    pub expected_count: Option<u64>,
    /// Records read.
    pub read_count: u64,
    /// Records durable in the sink.
    pub written_count: u64,
    /// Records refused by either side.
    pub rejected_count: u64,
    /// Octets read.
    pub read_bytes: u64,
    /// Records whose comparison is done.
    pub verified_count: u64,
    /// How its comparison ended.
    pub comparison: Option<Comparison>,
}

impl CollectionStatus {
    /// A collection of which nothing was read yet.
    pub fn waiting(source: &str, sink: &str, expected_count: Option<u64>) -> Self {
        Self {
            source: source.to_owned(),
            sink: sink.to_owned(),
            state: CollectionState::Waiting,
            expected_count,
            read_count: 0,
            written_count: 0,
            rejected_count: 0,
            read_bytes: 0,
            verified_count: 0,
            comparison: None,
        }
    }
}

/// The last transaction that was tried again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastRetry {
    /// In the source.
    pub collection: String,
    /// Which try, from 1.
    pub attempt: u32,
    /// The code of the error.
    pub code: String,
    /// The error.
    pub message: String,
    /// When.
    pub at: DateTime<Utc>,
}

/// A repair that the run waits for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PausedStatus {
    /// The role that needs it, or none for the host itself.
    pub role: Option<Role>,
    /// The code of the error.
    pub code: String,
    /// The error.
    pub message: String,
    /// What to do, if known.
    pub help: Option<String>,
    /// Since when, RFC 3339.
    pub since: String,
}

impl RunStatus {
    /// Reads the status of a run. If nobody watches it any more and it has not ended, its state is `killed`.
    ///
    /// # Errors
    /// `status.missing` if there is none, `status.unreadable` if it is not one of ours.
    pub fn read(run: &RunFolder) -> Result<Self, Error> {
        // Asked first: a run that ends in between has written its end before it lets go.
        let is_watched = run.is_watched();
        let mut status = Self::read_file(&run.status())?;
        if status.state == RUNNING && !is_watched {
            KILLED.clone_into(&mut status.state);
        }
        Ok(status)
    }

    fn read_file(path: &Path) -> Result<Self, Error> {
        let text = std::fs::read(path).map_err(|error| {
            Error::not_found("status.missing", format!("`{}` cannot be read", path.display()))
                .with_help("`whimbrel runs` lists the runs of a working folder")
                .with_cause(&error)
        })?;
        serde_json::from_slice(&text).map_err(|error| {
            Error::new(
                ErrorKind::Integrity,
                "status.unreadable",
                format!("`{}` is not the status of a run", path.display()),
            )
            .with_cause(&error)
        })
    }
}
