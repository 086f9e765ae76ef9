//! Runs, stores and processes for the tests of this folder.
//! Every store has a folder of its own, gone with the test.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use tempfile::TempDir;

use super::{JobSeen, NewRun, Process, RunFilter, RunId, RunRecord, SqliteStore, StateStore};

/// A folder with room for a store.
pub(super) struct Place(TempDir);

impl Place {
    pub(super) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(super) fn path(&self) -> PathBuf {
        self.0.path().join("state.db")
    }

    pub(super) fn open(&self) -> Arc<dyn StateStore> {
        open(&self.path())
    }
}

/// A connection of its own.
pub(super) fn open(path: &Path) -> Arc<dyn StateStore> {
    Arc::new(SqliteStore::open(path).unwrap())
}

/// A process that does nothing until it is killed, at the latest with the test.
pub(super) struct Sleeper(Child);

impl Sleeper {
    pub(super) fn start() -> Self {
        let mut command = Command::new("sleep");
        Self(
            command
                .arg("1000")
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap(),
        )
    }

    pub(super) fn process(&self) -> Process {
        Process::of(self.0.id())
    }

    /// Kills it, without asking for its status.
    pub(super) fn kill(&mut self) {
        self.0.kill().unwrap();
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// An exclusive run of `job` by this process.
pub(super) fn new_run(job: &str) -> NewRun {
    let seen = JobSeen {
        name: job.to_owned(),
        path: format!("/jobs/{job}.yaml").into(),
        sha256: "00".repeat(32),
    };
    NewRun::of_this_process(RunId::new(), seen, "run", "full", "/jobs/.whimbrel".into(), true)
}

/// The run called `id` as it is remembered.
pub(super) fn run(store: &Arc<dyn StateStore>, id: &RunId) -> RunRecord {
    let filter = RunFilter {
        prefix: Some(id.to_string()),
        limit: 2,
        ..RunFilter::default()
    };
    let mut runs = store.runs(&filter).unwrap();
    assert_eq!(runs.len(), 1, "{id}");
    runs.remove(0)
}
