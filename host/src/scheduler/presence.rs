//! What other processes see of a daemon: a file that says who it is and what it will do, and a lock that it holds while it
//! lives. One daemon for each working folder.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use whimbrel_plugin_api::{Error, ErrorKind};

use crate::state::Process;
use crate::workspace::{fault, is_locked, lock, open_private, write_whole};

/// Held by the daemon while it lives.
const LOCK_FILE: &str = "daemon.lock";
/// What it says of itself.
const STATUS_FILE: &str = "daemon.json";

/// A schedule and when it is due.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
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
    /// What was wrong with the files when it last looked at them; it goes on with what they said before.
    #[serde(default)]
    pub faults: Vec<Error>,
    /// What it will do.
    pub schedules: Vec<NextTime>,
    /// The runs that go on, by schedule, with the number of their process.
    #[serde(default)]
    pub running: Vec<(String, u32)>,
}

/// The daemon that lives in `working_dir`, if there is one.
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
    _lock: File,
}

impl Presence {
    /// Takes the place in `working_dir`, which is made if it is not there.
    ///
    /// # Errors
    /// `schedule.daemon_running` if another daemon has it; `workspace.*`.
    pub fn take(working_dir: &Path) -> Result<Self, Error> {
        std::fs::create_dir_all(working_dir).map_err(|error| fault(working_dir, &error))?;
        let path = working_dir.join(LOCK_FILE);
        let file = open_private(&path, true).map_err(|error| fault(&path, &error))?;
        match lock(&file) {
            Ok(()) => Ok(Self {
                folder: working_dir.to_owned(),
                _lock: file,
            }),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                let who = seen(working_dir).map_or_else(
                    || "another daemon".to_owned(),
                    |seen| {
                        format!(
                            "another daemon, process {} on `{}`,",
                            seen.process.pid, seen.process.host
                        )
                    },
                );
                let text = format!("{who} runs in `{}`", working_dir.display());
                Err(
                    Error::new(ErrorKind::Exists, "schedule.daemon_running", text).with_help(
                        "end it by `whimbrel daemon stop`, or reload its files by `whimbrel daemon reload`",
                    ),
                )
            }
            Err(error) => Err(fault(&path, &error)),
        }
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
