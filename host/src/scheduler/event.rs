//! What a daemon tells while it runs, for its log and for whoever reads it as JSON.
//! Not here: the words that a person reads (`cli`).

use std::path::PathBuf;

use chrono::{DateTime, Utc};
use serde::Serialize;
use whimbrel_plugin_api::Error;

/// What a daemon tells.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum DaemonEvent {
    /// It runs.
    Started {
        /// Its process.
        pid: u32,
        /// Schedules that it has.
        schedule_count: usize,
    },
    /// It has taken over what its files say now.
    Reloaded {
        /// Schedules that it has.
        schedule_count: usize,
    },
    /// Its files are wrong; it goes on with what they said before.
    Kept {
        /// What is wrong.
        errors: Vec<Error>,
    },
    /// A run was started.
    Fired {
        /// The schedule.
        schedule: String,
        /// When it was due.
        due: DateTime<Utc>,
        /// The run's process.
        pid: u32,
        /// Where its output goes.
        log: PathBuf,
    },
    /// A schedule was due whose last run still goes on, so that nothing was started.
    Skipped {
        /// The schedule.
        schedule: String,
        /// When it was due.
        due: DateTime<Utc>,
    },
    /// A run could not be started, or the daemon could not write down what it does.
    Failed {
        /// The schedule, if it is about one.
        #[serde(skip_serializing_if = "Option::is_none")]
        schedule: Option<String>,
        /// Why.
        error: Error,
    },
    /// A run has ended.
    Ended {
        /// The schedule.
        schedule: String,
        /// Its exit code; 128 and the number of a signal that ended it.
        exit_code: i32,
    },
    /// It ends, once its runs have.
    Stopping {
        /// Runs that go on.
        running_count: usize,
    },
}
