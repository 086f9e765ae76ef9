//! What other processes see of a daemon in its working folder: a file that says who it is and what it will do, and a lock that it
//! holds while it lives. One daemon for each working folder and, by its mark (`place`), for each settings file.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use whimbrel_plugin_api::Error;

use super::place::{Mark, daemon_running, hold};
use crate::state::Process;
use crate::workspace::{Workspace, fault, is_locked, open_private, write_whole};

/// Held by the daemon while it lives.
pub(super) const LOCK_FILE: &str = "daemon.lock";
/// What it says of itself.
const STATUS_FILE: &str = "daemon.json";

/// A schedule and when it is due.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NextTime {
    /// The schedule.
    pub schedule: String,
    /// Its job file.
    pub job: PathBuf,
    /// Its pattern.
    pub cron: String,
    /// The time zone of the pattern.
    pub time_zone: String,
    /// The next time; none if there is none.
    pub next: Option<DateTime<Utc>>,
    /// What came of it the last time, since the daemon was started.
    #[serde(default)]
    pub last: Option<LastOutcome>,
}

/// What came of a schedule the last time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum LastOutcome {
    /// Its run has ended.
    Ended {
        /// When it was due.
        due: DateTime<Utc>,
        /// When it had ended.
        at: DateTime<Utc>,
        /// Its exit code; 128 and the number of a signal that ended it.
        exit_code: i32,
    },
    /// No run was started, or nobody knows how it ended.
    Failed {
        /// When it was due.
        due: DateTime<Utc>,
        /// When that was seen.
        at: DateTime<Utc>,
        /// Why.
        error: Error,
    },
}

/// What a daemon says of itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Seen {
    /// The process.
    pub process: Process,
    /// Its settings file.
    pub settings: PathBuf,
    /// Since when it runs.
    pub started: DateTime<Utc>,
    /// When it last took over what its files say.
    pub loaded: DateTime<Utc>,
    /// How often it has looked at its files, whatever came of it.
    #[serde(default)]
    pub look_count: u64,
    /// What was wrong with the files when it last looked at them; it goes on with what they said before.
    #[serde(default)]
    pub faults: Vec<Error>,
    /// What it will do.
    pub schedules: Vec<NextTime>,
    /// Whether it ends as soon as its runs have.
    #[serde(default)]
    pub is_ending: bool,
    /// The runs that go on, by schedule, with the number of their process.
    #[serde(default)]
    pub running: Vec<(String, u32)>,
}

/// The daemon that lives in `working_dir`, if there is one and it says so.
pub fn seen(working_dir: &Path) -> Option<Seen> {
    if !is_locked(&working_dir.join(LOCK_FILE)) {
        return None;
    }
    let octets = std::fs::read(working_dir.join(STATUS_FILE)).ok()?;
    serde_json::from_slice(&octets).ok()
}

/// The place of a daemon, held while this lives.
pub struct Presence {
    folder: PathBuf,
    // Let go before the lock: who finds the mark finds the daemon.
    _mark: Mark,
    _lock: File,
}

impl Presence {
    /// Takes the place of the daemon of `settings`, which is in `working_dir`; the folder is made if it is not there.
    ///
    /// # Errors
    /// `schedule.daemon_running` if another daemon has the folder or the settings, `schedule.hidden`; `workspace.*`.
    pub fn take(settings: &Path, working_dir: &Path) -> Result<Self, Error> {
        Workspace::of_job(settings, Some(working_dir)).create()?;
        let path = working_dir.join(LOCK_FILE);
        let file = open_private(&path, true).map_err(|error| fault(&path, &error))?;
        if !hold(&file).map_err(|error| fault(&path, &error))? {
            return Err(daemon_running(working_dir));
        }
        // What a daemon before this one said is not said by this one.
        let status = working_dir.join(STATUS_FILE);
        match std::fs::remove_file(&status) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(fault(&status, &error)),
            _ => {}
        }
        Ok(Self {
            folder: working_dir.to_owned(),
            _mark: Mark::leave(settings, working_dir)?,
            _lock: file,
        })
    }

    /// Says what the daemon is doing.
    ///
    /// # Errors
    /// `workspace.*`.
    pub fn tell(&self, seen: &Seen) -> Result<(), Error> {
        let path = self.folder.join(STATUS_FILE);
        let octets = serde_json::to_vec_pretty(seen).map_err(|error| {
            Error::internal("the status of the daemon could not be written").with_cause(&error)
        })?;
        write_whole(&path, &octets).map_err(|error| fault(&path, &error))
    }
}
