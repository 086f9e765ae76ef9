//! A run as it is remembered, from its beginning to its end.
//! What happened in it on the way is in its events.

use std::path::PathBuf;

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use whimbrel_plugin_api::Error;
use whimbrel_plugin_api::manifest::Role;

use super::moment::now;
use super::process::{Liveness, Process, started_by};
use super::run_id::RunId;
use crate::events::{Failure, Outcome, RunSummary};

/// The lease of a run: so long after its last sign of life it is lost if its process cannot be looked at, and may be replaced by whoever
/// asks for that if its process lives. Signs of life are written each five seconds, so a dozen are missing.
pub const HEARTBEAT_LOST: TimeDelta = TimeDelta::seconds(60);

/// The command of a run that empties the sink of its job.
pub const CLEAR: &str = "clear";

/// The overrides of a run whose command line said nothing.
pub const NO_OVERRIDES: &str = "{}";

/// How a run is or ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunState {
    /// It goes on.
    Running,
    /// All was done, and what was compared is equal.
    Done,
    /// Both sides differ.
    Differences,
    /// The comparison could not be made.
    Unverified,
    /// It was not begun, since something stands in the way.
    Refused,
    /// It failed.
    Failed,
    /// Somebody asked it to end.
    Cancelled,
    /// Its process ended without a word, or the worker did.
    Crashed,
}

impl RunState {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Running,
        Self::Done,
        Self::Differences,
        Self::Unverified,
        Self::Refused,
        Self::Failed,
        Self::Cancelled,
        Self::Crashed,
    ];

    /// Its name in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Done => "done",
            Self::Differences => "differences",
            Self::Unverified => "unverified",
            Self::Refused => "refused",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Crashed => "crashed",
        }
    }

    /// The one called `name`.
    pub fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.name() == name)
    }
}

/// A job file as it was when a run began.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobSeen {
    /// The job's name.
    pub name: String,
    /// Where its file was.
    pub path: PathBuf,
    /// The digest of its file, in hexadecimal digits.
    pub sha256: String,
}

/// Who holds a run that is written down as running.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hold {
    /// Nobody: it has ended, or its processes are gone.
    Free,
    /// A process that gives signs of life, or that cannot be looked at and has given one within the lease.
    Kept,
    /// A process that lives and has given no sign of life for longer than the lease: it is stopped, or it hangs.
    Stale,
}

/// A run that is about to begin.
#[derive(Debug, Clone)]
pub struct NewRun {
    /// Its name.
    pub id: RunId,
    /// Its job.
    pub job: JobSeen,
    /// `run`, `check` and so on.
    pub command: String,
    /// `full` or `test`.
    pub mode: String,
    /// When.
    pub started_at: DateTime<Utc>,
    /// The user and the host.
    pub started_by: String,
    /// Who runs it.
    pub holder: Process,
    /// The folder with its files.
    pub folder: PathBuf,
    /// Whether it writes, so that no other one of its job may at the same time.
    pub is_exclusive: bool,
    /// Whether it replaces a run of its job whose process lives and has given no sign of life for longer than the lease.
    pub takes_over: bool,
    /// What it goes on with.
    pub origin: RunOrigin,
    /// JSON of what the command line laid over the job, without secrets.
    pub overrides: String,
}

/// The copy that a run goes on with.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct RunOrigin {
    /// The run that it goes on with; empty if the sink alone knew of one, none if it begins a copy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resumes: Option<String>,
    /// The run that began the copy, if that is known and another one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub begun_by: Option<String>,
}

impl NewRun {
    /// A run that this process begins now.
    pub fn of_this_process(
        id: RunId,
        job: JobSeen,
        command: &str,
        mode: &str,
        folder: PathBuf,
        is_exclusive: bool,
    ) -> Self {
        Self {
            id,
            job,
            command: command.to_owned(),
            mode: mode.to_owned(),
            started_at: now(),
            started_by: started_by(),
            holder: Process::this(),
            folder,
            is_exclusive,
            takes_over: false,
            origin: RunOrigin::default(),
            overrides: NO_OVERRIDES.to_owned(),
        }
    }
}

/// Records of a run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Read from the source.
    pub read_count: u64,
    /// Durable in the sink.
    pub written_count: u64,
    /// Of these, left as they were by policy.
    pub skipped_count: u64,
    /// Refused by either side.
    pub rejected_count: u64,
}

impl Counts {
    /// Those of a run that has ended.
    pub fn of_summary(summary: &RunSummary) -> Self {
        let mut counts = Self::default();
        for collection in &summary.collections {
            counts.read_count += collection.read_count;
            counts.written_count += collection.written_count;
            counts.skipped_count += collection.skipped_count;
            counts.rejected_count += collection.rejected_count;
        }
        // What was refused before it belonged to a collection of the plan is in the sum alone.
        counts.rejected_count = counts.rejected_count.max(summary.rejected_count);
        counts
    }
}

/// The first failure of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FirstFailure {
    /// Its stable name.
    pub code: String,
    /// What went wrong.
    pub message: String,
}

impl From<&Error> for FirstFailure {
    fn from(error: &Error) -> Self {
        Self {
            code: error.code.clone(),
            message: error.message.clone(),
        }
    }
}

/// A plugin that took part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PluginVersion {
    /// As what.
    pub role: Role,
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunEnd {
    /// As what.
    pub state: RunState,
    /// The exit code of the program.
    pub exit_code: u8,
    /// When.
    pub ended_at: DateTime<Utc>,
    /// Why, if something failed.
    pub failure: Option<FirstFailure>,
}

impl RunEnd {
    /// An end now.
    pub fn new(state: RunState, exit_code: u8, failure: Option<&Error>) -> Self {
        Self {
            state,
            exit_code,
            ended_at: now(),
            failure: failure.map(FirstFailure::from),
        }
    }

    /// The end that a worker told.
    pub fn of_outcome(outcome: &Outcome, exit_code: u8) -> Self {
        let (state, failure) = match outcome {
            Outcome::Done { .. } => (RunState::Done, None),
            Outcome::Differences { .. } => (RunState::Differences, None),
            Outcome::Unverified { failure, .. } => (RunState::Unverified, Some(failure)),
            Outcome::Refused { failures, .. } => (RunState::Refused, failures.first()),
            Outcome::Failed { failure, .. } => (RunState::Failed, Some(failure)),
            Outcome::Cancelled { .. } => (RunState::Cancelled, None),
        };
        Self::new(state, exit_code, failure.map(|failure| &failure.error))
    }

    /// The end of a run whose worker was lost.
    pub fn of_lost(failure: &Failure, exit_code: u8) -> Self {
        Self::new(RunState::Crashed, exit_code, Some(&failure.error))
    }
}

/// A run as it is remembered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RunRecord {
    /// Its name.
    pub id: RunId,
    /// Its job.
    pub job: JobSeen,
    /// `run`, `check` and so on.
    pub command: String,
    /// `full` or `test`.
    pub mode: String,
    /// How it ended, or that it goes on, as far as was written down.
    pub state: RunState,
    /// The exit code of the program; none if it is not known.
    pub exit_code: Option<u8>,
    /// When it began.
    pub started_at: DateTime<Utc>,
    /// When it ended; none if it goes on or that is not known.
    pub ended_at: Option<DateTime<Utc>>,
    /// Its last sign of life.
    pub heartbeat_at: DateTime<Utc>,
    /// The user and the host.
    pub started_by: String,
    /// Who runs it.
    pub holder: Process,
    /// The process that works for the holder, once it is known.
    pub worker: Option<Process>,
    /// The folder with its files.
    pub folder: PathBuf,
    /// Whether it keeps other runs of its job out.
    pub is_exclusive: bool,
    /// What it goes on with.
    #[serde(flatten)]
    pub origin: RunOrigin,
    /// JSON of what the command line laid over the job, without secrets.
    #[serde(skip)]
    pub overrides: String,
    /// Records.
    #[serde(flatten)]
    pub counts: Counts,
    /// The first failure.
    pub failure: Option<FirstFailure>,
    /// The plugins that took part.
    pub plugins: Vec<PluginVersion>,
}

impl RunRecord {
    /// Who holds it.
    pub fn hold(&self, now: DateTime<Utc>) -> Hold {
        if self.state != RunState::Running {
            return Hold::Free;
        }
        let is_stale = self.silence(now) > HEARTBEAT_LOST;
        // A worker outlives its supervisor for as long as it takes to commit what is open.
        let processes = [Some(&self.holder), self.worker.as_ref()].into_iter().flatten();
        let mut hold = Hold::Free;
        for process in processes {
            match process.liveness() {
                Liveness::Alive if is_stale => hold = Hold::Stale,
                Liveness::Unknown if is_stale => {}
                Liveness::Alive | Liveness::Unknown => return Hold::Kept,
                Liveness::Dead => {}
            }
        }
        hold
    }

    /// How long it has given no sign of life.
    pub fn silence(&self, now: DateTime<Utc>) -> TimeDelta {
        (now - self.heartbeat_at).max(TimeDelta::zero())
    }

    /// Whether a process may still be at work on it.
    pub fn is_held(&self, now: DateTime<Utc>) -> bool {
        self.hold(now) != Hold::Free
    }

    /// The run that began the copy: the name of the chain of runs that this one belongs to.
    pub fn chain(&self) -> &str {
        self.origin.begun_by.as_deref().unwrap_or(self.id.as_str())
    }

    /// Whether it is one that another can go on with, however it ended: it copies, and writes.
    pub fn is_copy(&self) -> bool {
        self.is_exclusive && matches!(self.command.as_str(), "run" | "resume")
    }

    /// Whether it has emptied the sink, or was to: what was copied before it is not gone on with.
    pub fn has_cleared(&self) -> bool {
        // One that was refused has removed nothing, and taken no lane.
        self.is_exclusive && self.command == CLEAR && self.state != RunState::Refused
    }

    /// Whether another run can go on where this one ended. What it has copied is known to the sink alone.
    pub fn can_be_resumed(&self) -> bool {
        let ended_early = match self.state_now() {
            RunState::Differences
            | RunState::Unverified
            | RunState::Failed
            | RunState::Cancelled
            | RunState::Crashed => true,
            RunState::Running | RunState::Done | RunState::Refused => false,
        };
        self.is_copy() && ended_early
    }

    /// How it is: one that nobody holds any more has crashed, though nobody could write that down.
    pub fn state_now(&self) -> RunState {
        match self.state {
            RunState::Running if !self.is_held(now()) => RunState::Crashed,
            state => state,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::CollectionResult;

    #[test]
    fn each_state_has_its_own_name() {
        for state in RunState::ALL {
            assert_eq!(RunState::of_name(state.name()), Some(state));
            assert_eq!(serde_json::to_value(state).unwrap(), state.name());
        }
        assert_eq!(RunState::of_name("lost"), None);
    }

    #[test]
    fn counts_are_the_sums_of_the_collections() {
        let collection = CollectionResult {
            read_count: 5,
            written_count: 3,
            skipped_count: 1,
            rejected_count: 2,
            ..CollectionResult::default()
        };
        let summary = RunSummary {
            collections: vec![collection.clone(), collection],
            rejected_count: 5,
            ..RunSummary::default()
        };
        let counts = Counts::of_summary(&summary);
        assert_eq!(
            (
                counts.read_count,
                counts.written_count,
                counts.skipped_count,
                counts.rejected_count
            ),
            (10, 6, 2, 5)
        );
    }

    #[test]
    fn the_end_keeps_state_and_first_failure_of_the_outcome() {
        let failure = |code: &str| Failure::from(Error::config(code, "x"));
        let refused = Outcome::Refused {
            summary: RunSummary::default(),
            failures: vec![failure("a.first"), failure("a.second")],
        };
        let end = RunEnd::of_outcome(&refused, 2);
        assert_eq!((end.state, end.exit_code), (RunState::Refused, 2));
        assert_eq!(end.failure.unwrap().code, "a.first");
        let done = Outcome::Done {
            summary: RunSummary::default(),
        };
        assert_eq!(RunEnd::of_outcome(&done, 0).failure, None);
        assert_eq!(
            RunEnd::of_lost(&failure("plugin.crashed"), 1).state,
            RunState::Crashed
        );
    }
}
