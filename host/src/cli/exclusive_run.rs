//! A run that writes to the sink and copies nothing, such as a repair or a clearing: no other run of its job goes on beside it, and its end is
//! kept.
//!
//! Here is its place in the state. Neighbours: `run_record` keeps far more of a run that copies, `rejected` replays in rounds.

use std::path::Path;
use std::sync::Arc;

use whimbrel_plugin_api::Error;

use super::Exit;
use super::run_record::sha256;
use super::tasks::{Follower, Prepared};
use crate::config::Mode;
use crate::events::Event;
use crate::report::TaskReport;
use crate::state::{
    JobSeen, NewRun, Process, Recorder, RunEnd, RunId, RunState, SqliteStore, StateStore, open_run,
};
use crate::workspace::Workspace;

/// See the module.
pub(super) struct ExclusiveRun {
    id: RunId,
    store: Arc<dyn StateStore>,
    recorder: Option<Recorder>,
}

impl ExclusiveRun {
    /// Begins run `id` of `command`, whose files are in `folder`.
    ///
    /// # Errors
    /// `run.already_running`, and whatever is wrong with the state.
    pub(super) fn begin(
        prepared: &Prepared,
        workspace: &Workspace,
        id: RunId,
        command: &str,
        folder: &Path,
    ) -> Result<Self, Error> {
        let loaded = &prepared.loaded;
        let store: Arc<dyn StateStore> = Arc::new(SqliteStore::open(&workspace.state_db())?);
        let absolute = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let seen = JobSeen {
            name: loaded.job.name.clone(),
            path: absolute(&loaded.path),
            sha256: sha256(&loaded.path),
        };
        let mode = match loaded.job.mode {
            Mode::Full => "full",
            Mode::Test => "test",
        };
        let new = NewRun::of_this_process(id.clone(), seen, command, mode, absolute(folder), true);
        let guard = open_run(&store, &new)?;
        Ok(Self {
            id,
            store,
            recorder: Some(Recorder::start(guard)?),
        })
    }

    /// Its name.
    pub(super) fn id(&self) -> &RunId {
        &self.id
    }

    /// Writes down how it ended.
    ///
    /// # Errors
    /// What is wrong with the state.
    pub(super) fn finish(mut self, end: RunEnd) -> Result<(), Error> {
        match self.recorder.take() {
            Some(recorder) => recorder.finish(end),
            None => Ok(()),
        }
    }
}

impl Follower for ExclusiveRun {
    fn follow(&mut self, event: &Event) -> Result<(), Error> {
        self.recorder
            .as_mut()
            .map_or(Ok(()), |recorder| recorder.observe(event))
    }

    fn make_durable(&mut self) -> Result<(), Error> {
        self.recorder.as_mut().map_or(Ok(()), Recorder::make_durable)
    }

    fn worker_started(&mut self, pid: u32) {
        // The holder is known; the worker only makes a stale run easier to recognise.
        drop(self.store.note_worker(&self.id, &Process::of(pid)));
    }
}

/// The end that `report` tells of.
pub(super) fn end_of(report: &TaskReport, exit: Exit) -> RunEnd {
    let state = match report.outcome {
        "done" => RunState::Done,
        "differences" => RunState::Differences,
        "unverified" => RunState::Unverified,
        "refused" => RunState::Refused,
        "cancelled" => RunState::Cancelled,
        "crashed" => RunState::Crashed,
        _ => RunState::Failed,
    };
    let failure = report.errors.first().map(|failure| &failure.error);
    RunEnd::new(state, exit.number(), failure)
}
