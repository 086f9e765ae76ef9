//! Starts the run of a schedule as a process of its own, whose output goes to files.
//! Neighbour: `daemon`, which is told of its end.

use std::fs::{DirBuilder, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use chrono::{DateTime, Utc};
use whimbrel_plugin_api::{Error, ErrorKind};

use crate::config::Schedule;
use crate::workspace::fault;

/// The files that a run's output goes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Logs {
    pub(super) stdout: PathBuf,
    pub(super) stderr: PathBuf,
}

/// Starts the run that `schedule` was due for at `time`, with `arguments` for all commands.
pub(super) fn start(
    schedule: &Schedule,
    time: DateTime<Utc>,
    settings: &Path,
    arguments: &[String],
    working_dir: &Path,
) -> Result<(Child, Logs), Error> {
    let folder = working_dir.join("logs").join("scheduled");
    let unwritable = |error: &io::Error| fault(&folder, error);
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&folder)
        .map_err(|error| unwritable(&error))?;
    let stem = format!("{}-{}", schedule.name, time.format("%Y%m%dT%H%M%SZ"));
    let logs = Logs {
        stdout: folder.join(format!("{stem}-stdout.log")),
        stderr: folder.join(format!("{stem}-stderr.log")),
    };
    let open = |path: &Path| {
        let mut options = OpenOptions::new();
        options.create(true).append(true).mode(0o600).open(path)
    };
    let stdout = open(&logs.stdout).map_err(|error| unwritable(&error))?;
    let stderr = open(&logs.stderr).map_err(|error| unwritable(&error))?;
    let child = std::env::current_exe().and_then(|program| {
        Command::new(program)
            .args(arguments)
            .arg("run")
            .arg(&schedule.job)
            .arg("--settings")
            .arg(settings)
            .stdin(Stdio::null())
            .stdout(stdout)
            .stderr(stderr)
            .spawn()
    });
    let child = child.map_err(|error| {
        let text = format!("the run of schedule `{}` could not be started", schedule.name);
        Error::new(ErrorKind::Unavailable, "schedule.not_started", text).with_cause(&error)
    })?;
    Ok((child, logs))
}
