//! The files that the output of scheduled runs goes to: how they are called, and which of them have had their time.
//! Neighbour: `firing` opens them, `daemon` has old ones removed.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use chrono::{DateTime, NaiveDateTime, Utc};

/// How the time in a name is written.
const STAMP: &str = "%Y%m%dT%H%M%SZ";
/// What a name ends with.
const ENDS: [&str; 2] = ["-stdout.log", "-stderr.log"];

/// The files of one run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Logs {
    pub(super) stdout: PathBuf,
    pub(super) stderr: PathBuf,
}

/// The folder of all of them, within that of the daemon.
pub(super) fn log_folder(working_dir: &Path) -> PathBuf {
    working_dir.join("logs").join("scheduled")
}

/// What the names of a run's files begin with.
pub(super) fn stem(schedule: &str, due: DateTime<Utc>) -> String {
    format!("{schedule}-{}", due.format(STAMP))
}

impl Logs {
    pub(super) fn of(folder: &Path, schedule: &str, due: DateTime<Utc>) -> Self {
        let stem = stem(schedule, due);
        let [stdout, stderr] = ENDS.map(|end| folder.join(format!("{stem}{end}")));
        Self { stdout, stderr }
    }
}

/// Removes the files of runs that were due before `before`, but for those whose names begin with one of `kept`. Files that are not
/// called as those of a run are left alone.
///
/// # Errors
/// Those of the folder, and the first one of a file that could not be removed.
pub(super) fn remove_old(folder: &Path, before: DateTime<Utc>, kept: &BTreeSet<String>) -> io::Result<()> {
    let mut outcome = Ok(());
    let entries = match fs::read_dir(folder) {
        // No run could be started yet.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name();
        let stem = name
            .to_str()
            .and_then(|name| ENDS.iter().find_map(|end| name.strip_suffix(end)));
        let Some(stem) = stem.filter(|stem| is_older(stem, before) && !kept.contains(*stem)) else {
            continue;
        };
        match fs::remove_file(entry.path()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound && outcome.is_ok() => {
                let text = format!("the output of `{stem}` could not be removed: {error}");
                outcome = Err(io::Error::new(error.kind(), text));
            }
            Ok(()) | Err(_) => {}
        }
    }
    outcome
}

fn is_older(stem: &str, before: DateTime<Utc>) -> bool {
    let stamp = stem.rsplit_once('-').map(|(_, stamp)| stamp);
    let due = stamp.and_then(|stamp| NaiveDateTime::parse_from_str(stamp, STAMP).ok());
    due.is_some_and(|due| due.and_utc() < before)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_runs_go_when_their_time_is_over_and_no_others() {
        let folder = tempfile::tempdir().unwrap();
        let at = |text: &str| text.parse::<DateTime<Utc>>().unwrap();
        let old = at("2026-08-01T02:30:00Z");
        let logs = |name: &str, due| Logs::of(folder.path(), name, due);
        let removed = [logs("night-ly", old), logs("gone", old)];
        let stays = [
            logs("night-ly", at("2026-08-23T02:30:00Z")),
            logs("runs-still", old),
        ];
        for logs in removed.iter().chain(&stays) {
            fs::write(&logs.stdout, "x").unwrap();
            fs::write(&logs.stderr, "x").unwrap();
        }
        let others = [
            "notes.log",
            "a-20260801T023000Z.log",
            "a-20261301T023000Z-stdout.log",
        ];
        for name in others {
            fs::write(folder.path().join(name), "x").unwrap();
        }
        let kept = BTreeSet::from([stem("runs-still", old)]);
        remove_old(folder.path(), at("2026-08-23T00:00:00Z"), &kept).unwrap();
        for logs in &removed {
            assert!(!logs.stdout.exists() && !logs.stderr.exists(), "{logs:?}");
        }
        for logs in &stays {
            assert!(logs.stdout.exists() && logs.stderr.exists(), "{logs:?}");
        }
        assert!(others.iter().all(|name| folder.path().join(name).exists()));
        assert_eq!(
            stays[0].stdout.file_name().unwrap(),
            "night-ly-20260823T023000Z-stdout.log"
        );
        remove_old(&folder.path().join("none"), old, &kept).unwrap();
    }
}
