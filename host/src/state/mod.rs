//! What the host remembers between processes: jobs, runs, what happened in them, records that were refused.
//!
//! [`StateStore`] is the one trait; [`SqliteStore`] keeps it in a file of the working folder. [`open_run`] lets one
//! run of a job in at a time, and a [`Recorder`] writes down its events. The truth about what was committed is in the
//! sink, never here. Neighbours: `events` is what is recorded, `workspace` says where the file is, `cli` shows it.

#[cfg(test)]
mod fixtures;
mod guard;
mod moment;
mod process;
mod recorder;
mod run;
mod run_id;
mod selection;
mod sqlite;
mod store;

pub use guard::{Refusal, RunGuard, open_run};
pub use moment::now;
pub use process::{Liveness, Process, started_by};
pub use recorder::Recorder;
pub use run::{
    CLEAR, Counts, FirstFailure, HEARTBEAT_LOST, Hold, JobSeen, NO_OVERRIDES, NewRun, PluginVersion, RunEnd,
    RunOrigin, RunRecord, RunState,
};
pub use run_id::RunId;
pub use sqlite::SqliteStore;
pub use store::{
    Durable, EventRecord, LaneFound, News, PhaseStep, Rejected, RejectedChange, RejectedFilter, RejectedPage,
    RejectedState, RunFilter, StateStore,
};
