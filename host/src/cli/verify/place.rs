//! Where a comparison keeps what it needs to go on after a kill, who may use that now, and whether what an earlier one has left there
//! still fits.
//!
//! Runs of a job have a folder of their own: one of them goes on at a time, which the state sees to. Neighbours: `workspace` has the
//! paths, [`crate::verification::full`] what is in the folder.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use whimbrel_plugin_api::{Error, ErrorKind, Finding};

use super::past_runs;
use crate::cli::made_from::made_from;
use crate::cli::tasks::Prepared;
use crate::report::TaskReport;
use crate::state::now;
use crate::workspace::{Workspace, fault, lock, make_folder, open_private, write_whole};

/// What was read longer ago says too little about what is there now.
const LEFT_OVER_AGE_MAX: TimeDelta = TimeDelta::hours(24);
/// How a moment is shown.
const MOMENT_FORMAT: &str = "%Y-%m-%d %H:%M:%S UTC";
/// Octets of a process id in the lock file; a longer one is none.
const PID_BYTES_MAX: u64 = 20;

/// Whose comparison it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whose {
    /// That of `verify`.
    Command,
    /// That of a run.
    Run,
}

impl Whose {
    fn name(self) -> &'static str {
        match self {
            Self::Command => "verify",
            Self::Run => "run",
        }
    }
}

/// What is known of the comparison that a folder was made for.
#[derive(Debug, Serialize, Deserialize)]
struct Begun {
    /// What was compared, as a digest.
    made_from: String,
    /// When its first record was read, or a little earlier.
    begun_at: DateTime<Utc>,
}

/// The place of a comparison that goes on.
#[derive(Debug)]
pub struct Place {
    /// The folder for a comprehensive comparison, an absolute path.
    pub work_folder: PathBuf,
    /// What is to be said of what an earlier comparison has left.
    pub finding: Option<Finding>,
    begun_file: PathBuf,
    /// Held for as long as the comparison goes on.
    _lock: Option<File>,
}

impl Place {
    /// Claims the place. What an earlier comparison has left there stays if it can be gone on with, unless `anew`.
    ///
    /// # Errors
    /// `verification.already_running` if another process has it; `workspace.disk_full` or `workspace.unwritable`.
    pub fn claim(
        workspace: &Workspace,
        prepared: &Prepared,
        whose: Whose,
        anew: bool,
    ) -> Result<Self, Error> {
        let job = &prepared.loaded.job.name;
        let written_last = match whose {
            Whose::Command => past_runs::written_last(workspace, job)?,
            // It is the one that writes, and begins anew unless it goes on with the same copy.
            Whose::Run => None,
        };
        let digest = digest(prepared, written_last.as_deref());
        Self::claim_at(workspace, job, &digest, whose, anew, now())
    }

    fn claim_at(
        workspace: &Workspace,
        job: &str,
        made_from: &str,
        whose: Whose,
        anew: bool,
        at: DateTime<Utc>,
    ) -> Result<Self, Error> {
        workspace.create()?;
        let folder = absolute(&workspace.verification(job));
        make_folder(&folder)?;
        let lock = match whose {
            Whose::Command => Some(hold(&folder.join("lock"), job)?),
            Whose::Run => None,
        };
        let mut place = Self {
            work_folder: folder.join(whose.name()),
            finding: None,
            begun_file: folder.join(format!("{}.json", whose.name())),
            _lock: lock,
        };
        let goes_on = !anew && place.look(made_from, at);
        if !goes_on {
            place.clear()?;
            let begun = Begun {
                made_from: made_from.to_owned(),
                begun_at: at,
            };
            let text = serde_json::to_vec(&begun).map_err(|error| Error::internal(error.to_string()))?;
            write_whole(&place.begun_file, &text).map_err(|error| fault(&place.begun_file, &error))?;
        }
        make_folder(&place.work_folder)?;
        Ok(place)
    }

    /// Whether what is there can be gone on with; says so, or why not, if anything is there.
    fn look(&mut self, made_from: &str, at: DateTime<Utc>) -> bool {
        let Some(left_at) = newest(&self.work_folder) else {
            return false;
        };
        let shown = left_at.format(MOMENT_FORMAT);
        let begun = fs::read(&self.begun_file).ok();
        let begun: Option<Begun> = begun.and_then(|text| serde_json::from_slice(&text).ok());
        let (goes_on, finding) = match begun {
            Some(begun) if begun.made_from != made_from => (
                false,
                Finding::info(
                    "verification.begins_anew",
                    format!(
                        "a comparison that was interrupted at {shown} is not gone on with: the job, a plugin or the sink is not as it was"
                    ),
                ),
            ),
            // A clock that was set back must not make what is old young again.
            Some(begun) if (at - begun.begun_at).abs() > LEFT_OVER_AGE_MAX => (
                false,
                Finding::info(
                    "verification.begins_anew",
                    format!(
                        "a comparison that was interrupted at {shown} is not gone on with: it was begun more than {} hours ago",
                        LEFT_OVER_AGE_MAX.num_hours()
                    ),
                ),
            ),
            Some(_) => (
                true,
                Finding::info(
                    "verification.goes_on",
                    format!("goes on with a comparison that was interrupted at {shown}"),
                )
                .with_help("`whimbrel verify JOB --anew` reads everything again"),
            ),
            None => (
                false,
                Finding::info(
                    "verification.begins_anew",
                    format!(
                        "a comparison that was interrupted at {shown} is not gone on with: nothing says of what it was"
                    ),
                ),
            ),
        };
        self.finding = Some(finding);
        goes_on
    }

    fn clear(&self) -> Result<(), Error> {
        let removed = match fs::remove_dir_all(&self.work_folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        };
        removed.map_err(|error| fault(&self.work_folder, &error))
    }

    /// The comparison came to its end: nothing of it is gone on with.
    pub fn finish(self) {
        // What cannot be removed is looked at, and removed, by the next one; its room is not lost for ever.
        drop(fs::remove_file(&self.begun_file));
        drop(self.clear());
    }
}

/// Whether what a task was to compare is compared, so that nothing of it is to be gone on with.
pub fn is_over(report: &TaskReport) -> bool {
    matches!(report.outcome, "done" | "differences")
}

/// What a comparison depends on: the job, its sides and their plugins, and what has written to the sink.
fn digest(prepared: &Prepared, written_last: Option<&str>) -> String {
    let sink = prepared.loaded.shown().pointer("/sink/config").cloned();
    let text = serde_json::json!([made_from(prepared), sink, written_last]).to_string();
    blake3::hash(text.as_bytes()).to_hex().to_string()
}

/// When something was written last into the folder; none if nothing is in it.
fn newest(folder: &Path) -> Option<DateTime<Utc>> {
    let mut newest: Option<SystemTime> = None;
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            if entry.file_name().as_encoded_bytes().starts_with(b".") {
                // What a copy has noted, and files that are half written.
                continue;
            }
            let Ok(facts) = entry.metadata() else { continue };
            if facts.is_dir() {
                folders.push(entry.path());
            } else if let Ok(at) = facts.modified() {
                newest = newest.max(Some(at));
            }
        }
    }
    newest.map(DateTime::from)
}

/// Marks the lock file as that of this process.
fn hold(path: &Path, job: &str) -> Result<File, Error> {
    let mut file = open_private(path, true).map_err(|error| fault(path, &error))?;
    if let Err(error) = lock(&file) {
        return Err(match error.kind() {
            io::ErrorKind::WouldBlock => already_running(path, job),
            _ => fault(path, &error),
        });
    }
    file.set_len(0)
        .and_then(|()| file.write_all(std::process::id().to_string().as_bytes()))
        .map_err(|error| fault(path, &error))?;
    Ok(file)
}

fn already_running(path: &Path, job: &str) -> Error {
    let mut pid = String::new();
    let read = File::open(path).and_then(|file| file.take(PID_BYTES_MAX).read_to_string(&mut pid));
    let who = match pid.parse::<u32>() {
        Ok(pid) if read.is_ok() => format!("process {pid}"),
        // It has locked the file and not said yet who it is.
        _ => "another process".to_owned(),
    };
    Error::new(
        ErrorKind::Exists,
        "verification.already_running",
        format!("job `{job}` is already being verified by {who}"),
    )
    .with_help("wait for its end, or end that process")
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    fn workspace() -> (tempfile::TempDir, Workspace) {
        let folder = tempfile::tempdir().unwrap();
        let workspace = Workspace::of_job(&folder.path().join("job.yaml"), None);
        (folder, workspace)
    }

    fn at(hours: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_800_000_000, 0).unwrap() + TimeDelta::hours(hours)
    }

    fn claim(workspace: &Workspace, made_from: &str, whose: Whose, anew: bool, hours: i64) -> Place {
        Place::claim_at(workspace, "nightly", made_from, whose, anew, at(hours)).unwrap()
    }

    fn code(place: &Place) -> Option<&str> {
        place.finding.as_ref().map(|finding| finding.code.as_str())
    }

    #[test]
    fn what_was_left_is_gone_on_with_while_it_fits() {
        let (_folder, workspace) = workspace();
        let goes_on = Some("verification.goes_on");
        let anew = Some("verification.begins_anew");
        // What the second comparison is made from, whether it is to begin anew, hours later; what is said, and whether it goes on.
        for (made_from, is_anew, hours, said, stays) in [
            ("a", false, 0, goes_on, true),
            ("a", false, 24, goes_on, true),
            ("a", false, 25, anew, false),
            ("a", false, -25, anew, false),
            ("b", false, 0, anew, false),
            ("a", true, 0, None, false),
        ] {
            for whose in [Whose::Command, Whose::Run] {
                let first = claim(&workspace, "a", whose, true, 0);
                assert_eq!(code(&first), None);
                let kept = first.work_folder.join("users");
                fs::create_dir(&kept).unwrap();
                fs::write(kept.join("pairs"), "x").unwrap();
                drop(first);
                let second = claim(&workspace, made_from, whose, is_anew, hours);
                assert_eq!(code(&second), said, "{made_from} {is_anew} {hours}");
                assert_eq!(kept.exists(), stays, "{made_from} {is_anew} {hours}");
                drop(second);
                // Its age counts from its beginning, however often it was gone on with.
                let third = claim(&workspace, made_from, whose, false, hours + 1);
                let is_too_old = stays && hours == 24;
                assert_eq!(
                    kept.exists(),
                    stays && !is_too_old,
                    "{made_from} {is_anew} {hours}"
                );
                third.finish();
                assert!(!kept.exists());
            }
        }
    }

    #[test]
    fn a_comparison_of_which_nothing_is_known_is_not_gone_on_with() {
        let (_folder, workspace) = workspace();
        let first = claim(&workspace, "a", Whose::Command, false, 0);
        fs::write(first.work_folder.join("pairs"), "x").unwrap();
        fs::write(&first.begun_file, "{").unwrap();
        drop(first);
        let second = claim(&workspace, "a", Whose::Command, false, 0);
        assert_eq!(code(&second), Some("verification.begins_anew"));
        assert!(newest(&second.work_folder).is_none());
    }

    #[test]
    fn one_at_a_time_and_a_run_beside_it() {
        let (_folder, workspace) = workspace();
        let first = claim(&workspace, "a", Whose::Command, false, 0);
        let refused = Place::claim_at(&workspace, "nightly", "a", Whose::Command, false, at(0)).unwrap_err();
        assert_eq!(refused.code, "verification.already_running");
        let pid = format!("process {}", std::process::id());
        assert!(refused.message.ends_with(&pid), "{}", refused.message);
        let run = claim(&workspace, "a", Whose::Run, false, 0);
        assert_ne!(run.work_folder, first.work_folder);
        let other = Place::claim_at(&workspace, "weekly", "a", Whose::Command, false, at(0)).unwrap();
        for folder in [&first.work_folder, &run.work_folder, &other.work_folder] {
            assert!(folder.is_absolute());
            let mode = fs::metadata(folder).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o700);
        }
        first.finish();
        claim(&workspace, "a", Whose::Command, false, 0);
    }
}
