//! Where everything is: the working folder of a job, and in it one folder for each run.
//!
//! `docs/reports.md` describes the files for their readers. Folders are for their owner only.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, symlink};
use std::path::{Path, PathBuf};

use whimbrel_plugin_api::Error;

use super::{fault, is_locked, write_whole};

/// The name of the working folder beside the job file.
const DEFAULT_NAME: &str = ".whimbrel";
/// What was certified, in the folder of a run or of a verification.
pub const CERTIFICATE_FILE: &str = "migration-certificate.json";
/// Owner alone.
const FOLDER_MODE: u32 = 0o700;
/// Letters of a run's id.
const RUN_ID_CHARS_MAX: usize = 100;

/// The working folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Workspace {
    root: PathBuf,
}

impl Workspace {
    /// The working folder of the job in `job_file`: `working_dir` if one is named, else `.whimbrel` beside the file.
    pub fn of_job(job_file: &Path, working_dir: Option<&Path>) -> Self {
        let root = match working_dir {
            Some(folder) => folder.to_owned(),
            None => job_file.parent().unwrap_or(Path::new("")).join(DEFAULT_NAME),
        };
        Self { root }
    }

    /// The folder itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The database of jobs, runs, events and rejected records.
    pub fn state_db(&self) -> PathBuf {
        self.root.join("state.db")
    }

    /// Where the records of `job` wait between phases. The name of a job is safe as a file name.
    pub fn staging(&self, job: &str) -> PathBuf {
        self.root.join("staging").join(job)
    }

    /// The folder that has one folder for each run.
    pub fn runs(&self) -> PathBuf {
        self.root.join("runs")
    }

    /// Where comparisons of `job` keep what they need to go on after a kill. The name of a job is safe as a file name.
    pub fn verification(&self, job: &str) -> PathBuf {
        self.root.join("verification").join(job)
    }

    /// Makes the folder of a comparison that is no part of a run.
    ///
    /// # Errors
    /// `workspace.run_id`, `workspace.disk_full` or `workspace.unwritable`, the latter also if it is there already.
    pub fn create_verification(&self, id: &str) -> Result<VerificationFolder, Error> {
        safe_id(id)?;
        self.create()?;
        let all = self.root.join("verifications");
        make_folder(&all)?;
        let folder = VerificationFolder { folder: all.join(id) };
        let mut builder = DirBuilder::new();
        builder
            .mode(FOLDER_MODE)
            .create(&folder.folder)
            .map_err(|error| fault(&folder.folder, &error))?;
        make_folder(&folder.results())?;
        Ok(folder)
    }

    /// A link to the folder of the newest run.
    pub fn latest(&self) -> PathBuf {
        self.root.join("latest")
    }

    /// Makes the folder, if it is not there.
    ///
    /// # Errors
    /// `workspace.disk_full` or `workspace.unwritable`.
    pub fn create(&self) -> Result<(), Error> {
        let is_new = !self.root.exists();
        make_folder(&self.root)?;
        if is_new {
            // It stands beside a job file, which is often in a repository; what is in here never belongs there.
            let ignore = self.root.join(".gitignore");
            write_whole(&ignore, b"*\n").map_err(|error| fault(&ignore, &error))?;
        }
        Ok(())
    }

    /// Makes the folder of a new run and points `latest` to it.
    ///
    /// # Errors
    /// `workspace.run_id`, `workspace.disk_full` or `workspace.unwritable`, the latter also if the run is there already.
    pub fn create_run(&self, run_id: &str) -> Result<RunFolder, Error> {
        let run = self.run(run_id)?;
        self.create()?;
        make_folder(&self.runs())?;
        if let Some(before) = self.latest_run().filter(|before| !before.is_watched()) {
            // A run that was killed could not let its reserve go; one that cannot be deleted only takes up room.
            drop(fs::remove_file(before.reserve()));
        }
        let mut builder = DirBuilder::new();
        builder
            .mode(FOLDER_MODE)
            .create(&run.folder)
            .map_err(|error| fault(&run.folder, &error))?;
        make_folder(&run.verification_results())?;
        self.point_to(run_id)
            .map_err(|error| fault(&self.latest(), &error))?;
        Ok(run)
    }

    fn point_to(&self, run_id: &str) -> io::Result<()> {
        let beside = self.root.join(format!(".latest.{run_id}"));
        symlink(Path::new("runs").join(run_id), &beside)?;
        fs::rename(&beside, self.latest()).inspect_err(|_| drop(fs::remove_file(&beside)))
    }

    /// The folder of the run called `run_id`, whether it is there or not.
    ///
    /// # Errors
    /// `workspace.run_id` if that cannot be the id of a run.
    pub fn run(&self, run_id: &str) -> Result<RunFolder, Error> {
        safe_id(run_id)?;
        Ok(RunFolder {
            folder: self.runs().join(run_id),
        })
    }

    /// The folder of the newest run, if there has been one.
    pub fn latest_run(&self) -> Option<RunFolder> {
        let target = fs::read_link(self.latest()).ok()?;
        let folder = self.run(target.file_name()?.to_str()?).ok()?;
        folder.folder.is_dir().then_some(folder)
    }
}

/// Whether `id` can be the id of a run, so that it leads out of no folder.
fn safe_id(id: &str) -> Result<(), Error> {
    let is_safe = |char: char| char.is_ascii_alphanumeric() || matches!(char, '.' | '_' | '-');
    let is_id =
        !id.is_empty() && id.len() <= RUN_ID_CHARS_MAX && !id.starts_with('.') && id.chars().all(is_safe);
    if is_id {
        return Ok(());
    }
    Err(Error::config("workspace.run_id", "that is not the id of a run")
        .with_help("an id is made of letters, digits, `.`, `_` and `-`; `whimbrel runs` lists them"))
}

/// Makes a folder for its owner only, with those above it, if it is not there.
///
/// # Errors
/// `workspace.disk_full` or `workspace.unwritable`.
pub fn make_folder(path: &Path) -> Result<(), Error> {
    let mut builder = DirBuilder::new();
    builder
        .recursive(true)
        .mode(FOLDER_MODE)
        .create(path)
        .map_err(|error| fault(path, &error))
}

/// The folder of one run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunFolder {
    folder: PathBuf,
}

impl RunFolder {
    /// The folder itself.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// What is happening now.
    pub fn status(&self) -> PathBuf {
        self.folder.join("migration-status.json")
    }

    /// What happened, one JSON object a line.
    pub fn log(&self) -> PathBuf {
        self.folder.join("migration-log.json")
    }

    /// What is durable in the sink, for people.
    pub fn checkpoint(&self) -> PathBuf {
        self.folder.join("migration-checkpoint.json")
    }

    /// Whether a process watches this run now. It holds the log; whatever ends it lets go.
    pub fn is_watched(&self) -> bool {
        is_locked(&self.log())
    }

    /// Everything about the run after its end.
    pub fn final_report(&self) -> PathBuf {
        self.folder.join("final-migration-report.json")
    }

    /// One page for those who decide.
    pub fn executive_summary(&self) -> PathBuf {
        self.folder.join("migration-executive-summary.md")
    }

    /// The report for a browser.
    pub fn html_report(&self) -> PathBuf {
        self.folder.join("report.html")
    }

    /// One file for each collection that was compared.
    pub fn verification_results(&self) -> PathBuf {
        self.folder.join("verification-results")
    }

    /// The records that point to others that the source does not have, one JSON object a line.
    pub fn orphans(&self) -> PathBuf {
        self.folder.join("orphans.ndjson")
    }

    /// What could not be told, for whom, and why.
    pub fn undelivered_notifications(&self) -> PathBuf {
        self.folder.join("undelivered-notifications.json")
    }

    /// Room for the last files when the disk is full.
    pub fn reserve(&self) -> PathBuf {
        self.folder.join(".reserve")
    }
}

/// The folder of a comparison that is no part of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerificationFolder {
    folder: PathBuf,
}

impl VerificationFolder {
    /// The folder itself.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// One file for each collection that differs, with all its differences.
    pub fn results(&self) -> PathBuf {
        self.folder.join("verification-results")
    }

    /// The same for the comparison that came before a repair.
    pub fn results_before_repair(&self) -> PathBuf {
        self.folder.join("before-repair")
    }

    /// Everything about it after its end.
    pub fn report(&self) -> PathBuf {
        self.folder.join("verification-report.json")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn it_is_beside_the_job_file_unless_named() {
        let of = |job: &str| Workspace::of_job(Path::new(job), None).root;
        assert_eq!(of("job.yaml"), Path::new(".whimbrel"));
        assert_eq!(of("a/job.yaml"), Path::new("a/.whimbrel"));
        let named = Workspace::of_job(Path::new("a/job.yaml"), Some(Path::new("w")));
        assert_eq!(named.state_db(), Path::new("w/state.db"));
        assert_eq!(named.staging("nightly"), Path::new("w/staging/nightly"));
        assert_eq!(named.verification("nightly"), Path::new("w/verification/nightly"));
    }

    #[test]
    fn folders_are_for_their_owner_and_latest_is_the_newest() {
        let folder = tempfile::tempdir().unwrap();
        let workspace = Workspace::of_job(&folder.path().join("a/b/job.yaml"), None);
        assert_eq!(workspace.latest_run(), None);
        let first = workspace.create_run("r-1").unwrap();
        assert_eq!(workspace.latest_run(), Some(first.clone()));
        let second = workspace.create_run("r-2").unwrap();
        assert_eq!(workspace.latest_run(), Some(second));
        assert_eq!(
            fs::read_link(workspace.latest()).unwrap(),
            Path::new("runs/r-2"),
            "relative, so that the folder can be moved"
        );
        for path in [
            workspace.root(),
            &workspace.runs(),
            first.folder(),
            &first.verification_results(),
        ] {
            assert_eq!(mode(path), 0o700, "{}", path.display());
        }
        assert_eq!(
            fs::read_to_string(workspace.root().join(".gitignore")).unwrap(),
            "*\n"
        );
        assert_eq!(
            workspace.create_run("r-1").unwrap_err().code,
            "workspace.unwritable"
        );
        let verification = workspace.create_verification("v-1").unwrap();
        for path in [verification.folder(), &verification.results()] {
            assert_eq!(mode(path), 0o700, "{}", path.display());
        }
        for (id, code) in [("v-1", "workspace.unwritable"), ("../v", "workspace.run_id")] {
            assert_eq!(workspace.create_verification(id).unwrap_err().code, code);
        }
    }

    #[test]
    fn an_id_cannot_lead_out_of_the_folder() {
        let workspace = Workspace::of_job(Path::new("job.yaml"), None);
        for bad in [
            "",
            "..",
            ".hidden",
            "a/b",
            "../x",
            "a\0b",
            "a b",
            "é",
            &"x".repeat(101),
        ] {
            assert_eq!(
                workspace.run(bad).unwrap_err().code,
                "workspace.run_id",
                "{bad:?}"
            );
        }
        workspace.run("20261121T050346Z-k3").unwrap();
    }
}
