//! Readers of events while a task goes on: what a person sees, and the files that tell how far it is.
//! They never steer.

#[cfg(test)]
mod file_faults;
mod file_set;
mod log_line;
mod progress;
mod run_checkpoint;
mod run_end;
mod run_files;
mod run_pace;
mod run_state;
mod run_status;
mod stopped;

pub use progress::Progress;
pub use run_checkpoint::{PartitionCheckpoint, RunCheckpoint};
pub use run_files::RunFiles;
pub use run_state::{Moment, RunState, Urgency};
pub use run_status::{
    CollectionState, CollectionStatus, KILLED, LastRetry, PausedStatus, RUNNING, RunStatus, Totals,
};
pub use stopped::write_stopped;
