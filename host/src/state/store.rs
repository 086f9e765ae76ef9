//! What every store of state does, whatever keeps it.
//!
//! Calls block; none may be made from inside an async runtime. Each call is one transaction: all of it is durable
//! when it returns, or nothing happened.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use whimbrel_plugin_api::Error;

use super::guard::Refusal;
use super::process::Process;
use super::run::{Counts, NewRun, PluginVersion, RunEnd, RunRecord, RunState};
use super::run_id::RunId;

/// Something that happened in a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct EventRecord {
    /// Its place among the events of the run, from 1, without gaps among those that are stored.
    pub seq: u64,
    /// When.
    pub at: DateTime<Utc>,
    /// The name of its kind, as in the stream.
    pub kind: String,
    /// The event as JSON.
    pub body: String,
}

/// What may become of a rejected record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RejectedState {
    /// Nobody has done anything about it.
    New,
    /// Somebody decided to do without it.
    Discarded,
    /// It was sent again and taken.
    Replayed,
}

impl RejectedState {
    /// Its name in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Discarded => "discarded",
            Self::Replayed => "replayed",
        }
    }

    /// The one called `name`.
    pub fn of_name(name: &str) -> Option<Self> {
        [Self::New, Self::Discarded, Self::Replayed]
            .into_iter()
            .find(|state| state.name() == name)
    }
}

/// A record that was refused. Its data is a record's values: shown only to those who ask for it.
#[derive(Clone, PartialEq, Eq, Serialize)]
pub struct Rejected {
    /// Its place among those of the run, from 1.
    pub number: u64,
    /// The collection, in the source.
    pub collection: String,
    /// Its key as text, or its place in the input.
    pub record: String,
    /// The stable code of the reason.
    pub code: String,
    /// The reason, without values.
    pub message: String,
    /// The data as far as it could be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data: Option<String>,
    /// When.
    pub at: DateTime<Utc>,
    /// What became of it.
    pub state: RejectedState,
}

impl std::fmt::Debug for Rejected {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rejected")
            .field("number", &self.number)
            .field("collection", &self.collection)
            .field("code", &self.code)
            .finish_non_exhaustive()
    }
}

/// What a run has to tell since the last time.
#[derive(Debug, Clone)]
pub struct News {
    /// What happened, in order.
    pub events: Vec<EventRecord>,
    /// What was refused.
    pub rejected: Vec<Rejected>,
    /// Records until now.
    pub counts: Counts,
    /// The plugins that are known until now.
    pub plugins: Vec<PluginVersion>,
    /// Now: the run lives.
    pub heartbeat_at: DateTime<Utc>,
}

/// Which runs.
#[derive(Debug, Clone, Default)]
pub struct RunFilter {
    /// Of this job.
    pub job: Option<String>,
    /// In this state, as it was written down.
    pub state: Option<RunState>,
    /// Whose id begins so.
    pub prefix: Option<String>,
    /// At most so many, the newest first.
    pub limit: u32,
}

/// Which rejected records of a run.
#[derive(Debug, Clone, Default)]
pub struct RejectedFilter {
    /// Of this collection.
    pub collection: Option<String>,
    /// After this number.
    pub after: u64,
    /// At most so many, in order.
    pub limit: u32,
    /// Whether with their data.
    pub with_data: bool,
}

/// Some rejected records.
#[derive(Debug, Clone)]
pub struct RejectedPage {
    /// How many there are in all, of the collection if one was named.
    pub total: u64,
    /// Those asked for.
    pub records: Vec<Rejected>,
}

/// Remembers runs. Shared by threads; one call runs at a time.
pub trait StateStore: Send + Sync {
    /// Lets a run begin, and notes its job; called by [`super::open_run`].
    ///
    /// If the run is exclusive, running ones of its job are looked at in the same transaction: one that is held is the
    /// reason to refuse, others become [`RunState::Crashed`]. Of any number of callers at once, one succeeds.
    ///
    /// # Errors
    /// [`Refusal::AlreadyRunning`], or what is wrong with the store.
    fn begin_run(&self, run: &NewRun) -> Result<(), Refusal>;

    /// Notes the process that works for the holder. Until it ends too, the run is held.
    ///
    /// # Errors
    /// `run.fenced` if the run no longer counts as running.
    fn note_worker(&self, run: &RunId, worker: &Process) -> Result<(), Error>;

    /// Writes down what happened, all of it or nothing. What is there already, by its number, stays as it is, so that a
    /// caller who does not know how the last call ended may repeat it.
    ///
    /// # Errors
    /// `run.fenced` if the run no longer counts as running: another one took its place, and this one must end.
    fn record(&self, run: &RunId, news: &News) -> Result<(), Error>;

    /// Ends a run. Ending one that has ended is no error and changes nothing.
    ///
    /// # Errors
    /// `run.fenced` if it counts as crashed.
    fn end_run(&self, run: &RunId, end: &RunEnd) -> Result<(), Error>;

    /// Runs, the newest first.
    ///
    /// # Errors
    /// What is wrong with the store.
    fn runs(&self, filter: &RunFilter) -> Result<Vec<RunRecord>, Error>;

    /// The events of a run after number `after`, in order, at most `limit`.
    ///
    /// # Errors
    /// What is wrong with the store.
    fn events(&self, run: &RunId, after: u64, limit: u32) -> Result<Vec<EventRecord>, Error>;

    /// Rejected records of a run.
    ///
    /// # Errors
    /// What is wrong with the store.
    fn rejected(&self, run: &RunId, filter: &RejectedFilter) -> Result<RejectedPage, Error>;
}
