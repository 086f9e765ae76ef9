//! Where a comparison keeps what it needs to go on after a kill, who may use that now, and whether what an earlier one has left there
//! still fits.
//!
//! The place is claimed before the plugins are loaded. Whether what is there fits is known only once they are, since they may fill in where
//! both systems are. Runs of a job have a folder of their own: one of them goes on at a time, which the state sees to. Neighbours: `workspace` has the
//! paths, [`crate::verification::full`] what is in the folder.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use whimbrel_plugin_api::{Error, ErrorKind, Finding};

use super::past_runs;
use crate::certificate::GoesOn;
use crate::cli::made_from::made_from;
use crate::cli::tasks::{Follower, Prepared, warn};
use crate::config::LoadedJob;
use crate::events::Event;
use crate::report::TaskReport;
use crate::state::now;
use crate::workspace::{Workspace, fault, lock, make_folder, open_private, write_whole};

/// What was read longer ago says too little about what is there now. Not less: to read large sides takes hours by itself, what is changed
/// in a part after it was read is not seen then either, and to read the sink's parts again would cost what going on saves. What was read
/// when is said instead, in the report and in the certificate.
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
    /// What was compared, as a digest under `salt`.
    made_from: String,
    /// Random, and nowhere else: passwords are among what was compared, and the digest is to say nothing of them by itself.
    #[serde(default)]
    salt: String,
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
    /// The earlier comparison that is gone on with; known once the job is complete.
    pub goes_on: Option<GoesOn>,
    begun_file: PathBuf,
    whose: Whose,
    /// What the comparison depends on besides the job, as text.
    facts: String,
    anew: bool,
    /// Nobody is told on standard error.
    is_quiet: bool,
    /// What is still to be told as an event.
    untold: Option<Finding>,
    /// Held for as long as the comparison goes on.
    _lock: Option<File>,
}

impl Place {
    /// Claims the place. What an earlier comparison has left there is looked at once the job is complete, and stays if it can be gone on
    /// with, unless `anew` or somebody has written to the sink since. A run that goes on with a copy has that compared which its copy has
    /// written: runs of `own_copy`, named by the run that began it, are not somebody.
    ///
    /// # Errors
    /// `verification.already_running` if another process has it; `workspace.disk_full` or `workspace.unwritable`.
    pub fn claim(
        workspace: &Workspace,
        prepared: &Prepared,
        whose: Whose,
        anew: bool,
        own_copy: Option<&str>,
    ) -> Result<Self, Error> {
        let job = &prepared.loaded.job.name;
        let written_last = past_runs::written_last(workspace, job, own_copy)?;
        let facts = serde_json::json!([made_from(prepared), written_last]).to_string();
        Self::hold_at(workspace, job, facts, whose, anew)
    }

    fn hold_at(
        workspace: &Workspace,
        job: &str,
        facts: String,
        whose: Whose,
        anew: bool,
    ) -> Result<Self, Error> {
        workspace.create()?;
        let folder = absolute(&workspace.verification(job));
        make_folder(&folder)?;
        let lock = match whose {
            Whose::Command => Some(hold(&folder.join("lock"), job)?),
            Whose::Run => None,
        };
        Ok(Self {
            work_folder: folder.join(whose.name()),
            finding: None,
            goes_on: None,
            begun_file: folder.join(format!("{}.json", whose.name())),
            whose,
            facts,
            anew,
            is_quiet: true,
            untold: None,
            _lock: lock,
        })
    }

    /// Has what is found of an earlier comparison said on standard error as soon as it is known.
    pub fn say_aloud(&mut self) {
        self.is_quiet = false;
    }

    /// Keeps what is there if it is of the comparison that begins with `job`, complete as it is now; else removes it.
    fn settle(&mut self, job: &str, at: DateTime<Utc>) -> Result<(), Error> {
        let compared = format!("{}{job}", self.facts);
        self.goes_on = None;
        let goes_on = !self.anew && self.look(&compared, at);
        if !goes_on {
            self.clear()?;
            let salt = format!("{:032x}{:032x}", fastrand::u128(..), fastrand::u128(..));
            let begun = Begun {
                made_from: digest(&salt, &compared),
                salt,
                begun_at: at,
            };
            let text = serde_json::to_vec(&begun).map_err(|error| Error::internal(error.to_string()))?;
            write_whole(&self.begun_file, &text).map_err(|error| fault(&self.begun_file, &error))?;
        }
        make_folder(&self.work_folder)
    }

    /// Whether what is there can be gone on with; says so, or why not, if anything is there.
    fn look(&mut self, compared: &str, at: DateTime<Utc>) -> bool {
        let Some(left_at) = newest(&self.work_folder) else {
            return false;
        };
        let shown = left_at.format(MOMENT_FORMAT);
        let begun = fs::read(&self.begun_file).ok();
        let begun: Option<Begun> = begun.and_then(|text| serde_json::from_slice(&text).ok());
        let (goes_on, finding) = match begun {
            Some(begun) if begun.made_from != digest(&begun.salt, compared) => (
                false,
                Finding::info(
                    "verification.begins_anew",
                    format!(
                        "a comparison that was interrupted at {shown} is not gone on with: the job, a side of it, a plugin or the sink is not as it was"
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
            Some(begun) => {
                self.goes_on = Some(GoesOn {
                    begun_at: begun.begun_at,
                    read_until: left_at,
                    gone_on_at: at,
                });
                let since = begun.begun_at.format(MOMENT_FORMAT);
                (
                    true,
                    Finding::info(
                        "verification.goes_on",
                        format!(
                            "goes on with a comparison that was begun at {since} and interrupted at {shown}: what it had read is not read \
                             again, and what others have changed in that since is not seen"
                        ),
                    )
                    .with_help("`whimbrel verify JOB --anew` reads everything again"),
                )
            }
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

impl Follower for Place {
    fn follow(&mut self, _event: &Event) -> Result<(), Error> {
        Ok(())
    }

    fn job_is_complete(&mut self, loaded: &LoadedJob) -> Result<(), Error> {
        self.settle(&compared(loaded), now())?;
        match (&self.finding, self.whose) {
            (Some(finding), Whose::Command) if !self.is_quiet => warn(finding),
            (finding, Whose::Run) => self.untold.clone_from(finding),
            _ => {}
        }
        Ok(())
    }

    fn take_events(&mut self) -> Vec<Event> {
        let untold = self.untold.take();
        let told = untold.map(|finding| Event::Found { role: None, finding });
        told.into_iter().collect()
    }
}

/// Everything of a complete job that decides what is read from both sides, as it is: a reference may stand for another system than the
/// last time, and a URL with a password in it names a host. Relative paths start at the folder.
fn compared(loaded: &LoadedJob) -> String {
    let job = &loaded.job;
    serde_json::json!([
        loaded.folder,
        job.source,
        job.sink,
        job.collections,
        job.transforms
    ])
    .to_string()
}

fn digest(salt: &str, text: &str) -> String {
    let mut hasher = blake3::Hasher::new_derive_key("whimbrel comparison that is gone on with");
    // The salt comes first, and has a length of its own.
    hasher.update(&(salt.len() as u64).to_be_bytes());
    hasher.update(salt.as_bytes());
    hasher.update(text.as_bytes());
    hasher.finalize().to_hex().to_string()
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
    use crate::config::{Overrides, Variables, load_job};
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
        let mut place = Place::hold_at(workspace, "nightly", "facts".to_owned(), whose, anew).unwrap();
        place.settle(made_from, at(hours)).unwrap();
        place
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
                let since = second
                    .goes_on
                    .as_ref()
                    .map(|earlier| (earlier.begun_at, earlier.gone_on_at));
                assert_eq!(since, stays.then(|| (at(0), at(hours))));
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
        let hold = |job| Place::hold_at(&workspace, job, "facts".to_owned(), Whose::Command, false);
        let refused = hold("nightly").unwrap_err();
        assert_eq!(refused.code, "verification.already_running");
        let pid = format!("process {}", std::process::id());
        assert!(refused.message.ends_with(&pid), "{}", refused.message);
        let run = claim(&workspace, "a", Whose::Run, false, 0);
        assert_ne!(run.work_folder, first.work_folder);
        let other = hold("weekly").unwrap();
        for folder in [&first.work_folder, &run.work_folder] {
            assert!(folder.is_absolute());
            let mode = fs::metadata(folder).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o700);
        }
        assert!(other.work_folder.is_absolute());
        first.finish();
        claim(&workspace, "a", Whose::Command, false, 0);
    }

    #[test]
    fn another_system_behind_the_same_text_is_another_comparison() {
        let (folder, workspace) = workspace();
        let path = folder.path().join("job.yaml");
        let complete = |source: &str, url: &str, filled: Option<&str>| {
            let job = format!(
                "name: nightly\nsource: {{ plugin: p, config: {{ {source} }} }}\nsink: {{ plugin: q }}\n"
            );
            fs::write(&path, job).unwrap();
            let variables = Variables::none().with("PG_URL", url);
            let mut loaded = load_job(&path, &Overrides::default(), &variables).unwrap();
            if let Some(filled) = filled {
                // As a variable of the plugin fills it in.
                let config = &mut loaded.job.source.config;
                config.insert("url".to_owned(), filled.into());
            }
            loaded
        };
        let staging = "postgres://u:secret-word@staging/db";
        let production = "postgres://u:secret-word@production/db";
        let literal = |url: &str| format!("url: \"{url}\"");
        let reference = "url: \"${env:PG_URL}\"";
        for (before, now) in [
            (
                complete(reference, staging, None),
                complete(reference, production, None),
            ),
            (
                complete(&literal(staging), "", None),
                complete(&literal(production), "", None),
            ),
            (
                complete("", "", Some(staging)),
                complete("", "", Some(production)),
            ),
        ] {
            let begin = |loaded: &LoadedJob| {
                let mut place =
                    Place::hold_at(&workspace, "nightly", String::new(), Whose::Command, false).unwrap();
                place.job_is_complete(loaded).unwrap();
                place
            };
            let first = begin(&before);
            fs::write(first.work_folder.join("pairs"), "x").unwrap();
            let kept = fs::read_to_string(&first.begun_file).unwrap();
            drop(first);
            let same = begin(&before);
            assert_eq!(code(&same), Some("verification.goes_on"));
            drop(same);
            let other = begin(&now);
            assert_eq!(code(&other), Some("verification.begins_anew"));
            assert!(newest(&other.work_folder).is_none());
            let mode = fs::metadata(&other.begun_file).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
            assert!(!kept.contains("secret-word"), "{kept}");
            let unsalted = blake3::hash(compared(&before).as_bytes()).to_hex().to_string();
            assert!(!kept.contains(&unsalted));
            other.finish();
        }
    }
}
