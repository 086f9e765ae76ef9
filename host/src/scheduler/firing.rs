//! Starts the run of a schedule as a process of its own, whose output goes to files.
//! Neighbour: `daemon`, which is told of its end.

use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use chrono::{DateTime, Utc};
use whimbrel_plugin_api::{Error, ErrorKind};

use super::log_files::{Logs, log_folder};
use crate::config::Schedule;
use crate::supervisor::this_program;
use crate::workspace::{fault, make_folder, open_private};

/// What all runs of a daemon are started with.
pub(super) struct Launch<'a> {
    /// The file that the daemon was started from; an upgrade may have put a new program there.
    pub(super) program: &'a Path,
    /// Arguments for all commands.
    pub(super) arguments: &'a [String],
    pub(super) settings: &'a Path,
    pub(super) working_dir: &'a Path,
}

impl Launch<'_> {
    /// Starts the run that `schedule` was due for at `time`.
    pub(super) fn start(&self, schedule: &Schedule, time: DateTime<Utc>) -> Result<(Child, Logs), Error> {
        let folder = log_folder(self.working_dir);
        make_folder(&folder)?;
        let logs = Logs::of(&folder, &schedule.name, time);
        let open = |path: &Path| open_private(path, true).map_err(|error| fault(path, &error));
        let (stdout, stderr) = (open(&logs.stdout)?, open(&logs.stderr)?);
        let spawn = |program: &Path| {
            let mut command = Command::new(program);
            command
                .args(self.arguments)
                .arg("run")
                .arg(&schedule.job)
                .arg("--settings")
                .arg(self.settings)
                .stdin(Stdio::null())
                .stdout(stdout.try_clone()?)
                .stderr(stderr.try_clone()?)
                // A signal of the terminal reaches the daemon alone, which asks its runs to end: the second signal that reaches a
                // run ends it at once.
                .process_group(0)
                .spawn()
        };
        let child = match spawn(self.program) {
            // Nothing is there any more, or not at this moment of an upgrade: the program of the daemon does as well.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                this_program().and_then(|program| spawn(&program))
            }
            other => other,
        };
        let child = child.map_err(|error| {
            let text = format!("the run of schedule `{}` could not be started", schedule.name);
            Error::new(ErrorKind::Unavailable, "schedule.not_started", text).with_cause(&error)
        })?;
        Ok((child, logs))
    }
}
