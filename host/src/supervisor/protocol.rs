//! What the supervisor tells its worker: one task, then commands, one JSON object a line on standard input.
//!
//! The task may hold secrets of the job, which is why it does not travel by arguments or environment.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use whimbrel_plugin_api::manifest::Role;

use crate::config::Job;

/// What a worker is to do.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Task {
    /// The libraries to load, by role.
    pub plugins: Vec<PluginFile>,
    /// What then.
    pub kind: TaskKind,
    /// A call into a plugin may take so long, in seconds.
    pub call_timeout_secs: u64,
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
    },
    /// Compare.
    Verify {
        /// The job.
        job: Box<Job>,
    },
}

/// What the supervisor says later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "snake_case")]
pub enum Command {
    /// The plugins' configs fit their schemas; go on.
    Proceed,
    /// Commit what is open and end.
    Cancel,
}
