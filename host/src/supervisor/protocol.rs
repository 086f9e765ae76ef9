//! What the supervisor tells its worker: one task, then commands, one JSON object a line on standard input.
//!
//! The task may hold secrets of the job, which is why it does not travel by arguments or environment.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use whimbrel_plugin_api::Error;
use whimbrel_plugin_api::manifest::Role;
use whimbrel_plugin_api::notifier::Notification;

use crate::config::{Job, NotifierJob};
use crate::orchestrator::RunOptions;

/// What a worker is to do.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Task {
    /// The libraries to load, by role.
    pub plugins: Vec<PluginFile>,
    /// What then.
    pub kind: TaskKind,
    /// A call into a plugin may take so long, in seconds.
    pub call_timeout_secs: u64,
    /// Whether the worker waits for a second [`Command::Proceed`] between pre-validation and the first write.
    #[serde(default)]
    pub holds_before_writing: bool,
    /// Where the calls into plugins are kept for the supervisor, if not as events.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub call_board: Option<PathBuf>,
}

/// A library to load.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PluginFile {
    /// The role that it is to play.
    pub role: Role,
    /// The name that the job uses.
    pub name: String,
    /// The file.
    pub path: PathBuf,
}

/// The kinds of task.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum TaskKind {
    /// Only load, and say what the plugins say of themselves.
    Describe,
    /// Look at both systems and make the plan.
    Check {
        /// The job.
        job: Box<Job>,
    },
    /// Validate, copy, verify.
    Run {
        /// The job.
        job: Box<Job>,
        /// What else.
        options: RunOptions,
    },
    /// As `Check`, and measure how fast the source is read.
    Plan {
        /// The job.
        job: Box<Job>,
    },
    /// Send rejected records of an earlier run again.
    Replay {
        /// The job.
        job: Box<Job>,
        /// Which records, and what else.
        options: RunOptions,
    },
    /// Count the records of both sides.
    Stats {
        /// The job.
        job: Box<Job>,
    },
    /// Remove the records of the job's collections from the sink.
    Clear {
        /// The job.
        job: Box<Job>,
        /// What else.
        options: RunOptions,
    },
    /// Compare.
    Verify {
        /// The job.
        job: Box<Job>,
        /// What else.
        options: RunOptions,
    },
    /// Send the notifications that come as commands, until the commands end.
    Notify {
        /// Who sends them; their configs are complete.
        notifiers: Vec<NotifierJob>,
        /// Whether each is first asked what would stop a message. A worker that takes the place of another one does not.
        checks: bool,
    },
}

/// What the supervisor says later.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "snake_case")]
pub enum Command {
    /// The plugins' configs fit their schemas; go on. Said again before the first write, if the task waits there.
    Proceed {
        /// The job, if the plugins' own variables have completed it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        job: Option<Box<Job>>,
    },
    /// Send this.
    Notify {
        /// The place of the notifier in the task.
        notifier: usize,
        /// What it is to tell.
        notification: Box<Notification>,
    },
    /// What the worker has said before [`crate::events::Event::Barrier`] number `number` is durable, or nothing is any more.
    Passed {
        /// The number.
        number: u64,
        /// Why nothing is.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        failure: Option<Box<Error>>,
    },
    /// The run is over: what waits for another try has little time left.
    Hurry,
    /// Commit what is open and end.
    Cancel,
}
