//! What every store of state does, whatever keeps it.
//!
//! Calls block; none may be made from inside an async runtime. Each call is one transaction: all of it is durable
//! when it returns, or nothing happened.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use whimbrel_plugin_api::{Cursor, Error};

use super::guard::Refusal;
use super::process::Process;
use super::run::{Counts, NewRun, PluginVersion, RunEnd, RunRecord, RunState};
use super::run_id::RunId;
use crate::events::Phase;

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
    /// Somebody has corrected its data; it waits to be sent again.
    Edited,
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
            Self::Edited => "edited",
            Self::Discarded => "discarded",
            Self::Replayed => "replayed",
        }
    }

    /// All of them.
    pub const ALL: [Self; 4] = [Self::New, Self::Edited, Self::Discarded, Self::Replayed];

    /// The one called `name`.
    pub fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.name() == name)
    }

    /// Whether nothing is to be done about it any more.
    pub const fn is_settled(self) -> bool {
        matches!(self, Self::Discarded | Self::Replayed)
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
    /// The data as somebody has corrected it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub edited: Option<String>,
    /// The phase that refused it. After import the data is as the sink has it, before that as the source has it.
    pub stage: Phase,
    /// The partition, as a person reads it.
    pub partition: String,
    /// The commit of the partition's lane that leaves it out, if that was made; 0 if it was left out of a stage, whatever was committed.
    #[serde(rename = "commit_seq")]
    pub seq: u64,
    /// By what a comparison knows it, in hexadecimal digits; none unless the sink refused it.
    #[serde(skip)]
    pub digest: Option<String>,
    /// When.
    pub at: DateTime<Utc>,
    /// What became of it.
    pub state: RejectedState,
}

impl Rejected {
    /// Whether it was left out of a commit that comes after those which the lane has.
    pub fn is_beyond(&self, lane: &LaneFound) -> bool {
        self.seq > lane.seq && self.collection == lane.collection && self.partition == lane.partition
    }
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

/// The lane of a partition, and how many commits it had when a run began to write it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LaneFound {
    /// The collection, in the source.
    pub collection: String,
    /// The partition, as a person reads it.
    pub partition: String,
    /// The commits.
    pub seq: u64,
}

/// Something that is done about a rejected record. One that is settled already stays as it is.
#[derive(Clone, PartialEq, Eq)]
pub enum RejectedChange {
    /// Its data was corrected.
    Edited {
        /// Its number.
        number: u64,
        /// The whole record.
        data: String,
    },
    /// Somebody decided to do without it.
    Discarded {
        /// Its number.
        number: u64,
    },
    /// It was sent again and taken.
    Replayed {
        /// Its number.
        number: u64,
    },
    /// It was sent again and refused.
    RefusedAgain {
        /// Its number.
        number: u64,
        /// The stable code of the reason.
        code: String,
        /// The reason, without values.
        message: String,
    },
}

/// A step of a run through its phases.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PhaseStep {
    /// It began.
    Started(Phase),
    /// It ended, well or not, or was passed over.
    Ended(Phase),
}

/// What a run has to tell since the last time.
#[derive(Debug, Clone)]
pub struct News {
    /// What happened, in order. A `lane_taken` among them takes away what the run has refused for later commits of the lane, a
    /// `begun_anew` what it has refused of the collection.
    pub events: Vec<EventRecord>,
    /// What was refused since.
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
    /// Of the copy that the run with this id began: it, and those that go on with it.
    pub chain: Option<String>,
    /// At most so many, the newest first.
    pub limit: u32,
}

/// What one run made durable of a partition, as far as its events say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Durable {
    /// The collection, in the source.
    pub collection: String,
    /// The label of the partition.
    pub partition: String,
    /// The sink's count of commits after the last one.
    pub seq: u64,
    /// Where the source goes on after it.
    pub cursor: Cursor,
    /// Records that the run made durable.
    pub record_count: u64,
    /// Whether the partition is complete.
    pub done: bool,
    /// When the last one became durable.
    pub at: DateTime<Utc>,
}

/// Which rejected records of a run.
#[derive(Debug, Clone, Default)]
pub struct RejectedFilter {
    /// Of this collection.
    pub collection: Option<String>,
    /// In this state.
    pub state: Option<RejectedState>,
    /// Refused by this phase.
    pub stage: Option<Phase>,
    /// With this code.
    pub code: Option<String>,
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
    /// How many the filter lets through in all.
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

    /// Notes what the command line laid over the job, once it is known what of it is secret.
    ///
    /// # Errors
    /// `run.fenced` if the run no longer counts as running.
    fn note_overrides(&self, run: &RunId, overrides: &str) -> Result<(), Error>;

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

    /// What a run made durable, a line for each partition, as far as its events say: they may lack the last ones.
    ///
    /// # Errors
    /// What is wrong with the store.
    fn durable(&self, run: &RunId) -> Result<Vec<Durable>, Error>;

    /// Rejected records of a run.
    ///
    /// # Errors
    /// What is wrong with the store.
    fn rejected(&self, run: &RunId, filter: &RejectedFilter) -> Result<RejectedPage, Error>;

    /// Does something about rejected records of a run; says how many were not settled yet and have changed.
    ///
    /// # Errors
    /// What is wrong with the store.
    fn change_rejected(&self, run: &RunId, changes: &[RejectedChange]) -> Result<u64, Error>;

    /// The newest run that has rejected records, if there is one.
    ///
    /// # Errors
    /// What is wrong with the store.
    fn newest_with_rejected(&self) -> Result<Option<RunId>, Error>;

    /// The lanes that a run has taken over, in order.
    ///
    /// # Errors
    /// What is wrong with the store.
    fn lanes_found(&self, run: &RunId) -> Result<Vec<LaneFound>, Error>;

    /// The collections that a run has copied again from their start although it went on with others.
    ///
    /// # Errors
    /// What is wrong with the store.
    fn begun_anew(&self, run: &RunId) -> Result<Vec<String>, Error>;

    /// The beginnings and ends of the phases of a run, in order.
    ///
    /// # Errors
    /// What is wrong with the store.
    fn phase_steps(&self, run: &RunId) -> Result<Vec<PhaseStep>, Error>;
}
