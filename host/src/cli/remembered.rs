//! Where `runs`, `status` and `rejected` find what was written down, and which run a person means.
//! They read only: no working folder is made for them.

use std::path::PathBuf;

use chrono::{DateTime, Utc};
use clap::Args;
use whimbrel_plugin_api::Error;

use crate::config::Variables;
use crate::state::{RunFilter, RunId, RunRecord, RunState, SqliteStore, StateStore};
use crate::workspace::Workspace;

/// The variable that names the working folder.
const VARIABLE: &str = "MIGRATION_WORKING_DIR";
/// Runs that are named when a run is not found, or several are.
const NAMED_MAX: u32 = 5;
/// Runs that are going on at once: far more than a working folder ever has.
const RUNNING_MAX: u32 = 10_000;

/// Names the working folder.
#[derive(Args, Debug, Clone)]
pub struct PlaceArgs {
    /// The working folder; `.whimbrel` in the current one unless named here or by MIGRATION_WORKING_DIR.
    #[arg(long, value_name = "FOLDER")]
    pub working_dir: Option<PathBuf>,
}

/// What was written down in one working folder.
pub struct Remembered {
    /// The folder.
    pub workspace: Workspace,
    store: Option<SqliteStore>,
}

impl Remembered {
    /// Opens what there is.
    ///
    /// # Errors
    /// What is wrong with the state; that there is none is no error.
    pub fn open(args: &PlaceArgs) -> Result<Self, Error> {
        let folder = Self::named_folder(args);
        Self::at(Workspace::of_job("job.yaml".as_ref(), folder.as_deref()))
    }

    /// The working folder that a flag or a variable names.
    pub fn named_folder(args: &PlaceArgs) -> Option<PathBuf> {
        let named = args.working_dir.clone();
        named.or_else(|| Variables::of_process().filled(VARIABLE).map(PathBuf::from))
    }

    /// Opens what there is in `workspace`.
    ///
    /// # Errors
    /// As [`Remembered::open`].
    pub fn at(workspace: Workspace) -> Result<Self, Error> {
        let store = SqliteStore::open_existing(&workspace.state_db())?;
        Ok(Self { workspace, store })
    }

    /// The newest runs, each in the state in which it is now.
    ///
    /// # Errors
    /// What is wrong with the state.
    pub fn runs(
        &self,
        job: Option<&str>,
        state: Option<RunState>,
        limit: u32,
    ) -> Result<Vec<RunRecord>, Error> {
        let filter = |state, limit| RunFilter {
            job: job.map(str::to_owned),
            state,
            limit,
            ..RunFilter::default()
        };
        let mut runs = self.select(&filter(state, limit))?;
        if matches!(state, Some(RunState::Running | RunState::Crashed)) {
            // A run whose process has gone is still written down as running.
            let mut all = self.select(&filter(Some(RunState::Running), RUNNING_MAX))?;
            all.extend(runs.into_iter().filter(|run| run.state == RunState::Crashed));
            all.retain(|run| state == Some(run.state));
            all.sort_by(|a, b| (b.started_at, &b.id).cmp(&(a.started_at, &a.id)));
            all.dedup_by(|a, b| a.id == b.id);
            all.truncate(limit as usize);
            runs = all;
        }
        Ok(runs)
    }

    /// The run that `text` begins the id of; the newest one if there is no `text`.
    ///
    /// # Errors
    /// `run.none`, `run.id`, `run.unknown`, `run.ambiguous`.
    pub fn run(&self, text: Option<&str>) -> Result<RunRecord, Error> {
        let Some(text) = text else {
            return self.runs(None, None, 1)?.pop().ok_or_else(|| self.none());
        };
        if !RunId::can_begin_with(text) {
            return Err(RunId::parse(text).err().unwrap_or_else(|| self.none()));
        }
        let mut found = self.select(&RunFilter {
            prefix: Some(text.to_owned()),
            limit: NAMED_MAX + 1,
            ..RunFilter::default()
        })?;
        match (found.pop(), found.len()) {
            (Some(run), 0) => Ok(run),
            (Some(last), _) => {
                found.push(last);
                let message = format!("the ids of several runs begin with `{text}`");
                Err(Error::config("run.ambiguous", message)
                    .with_help(format!("give more of it: {}", ids(&found))))
            }
            (None, _) => {
                let latest = self.runs(None, None, NAMED_MAX)?;
                if latest.is_empty() {
                    return Err(self.none());
                }
                let message = format!("there is no run whose id begins with `{text}`");
                Err(Error::not_found("run.unknown", message)
                    .with_help(format!("the latest ones are {}", ids(&latest))))
            }
        }
    }

    /// The store, for a run that was found in it.
    ///
    /// # Errors
    /// `run.none` if nothing was written down here.
    pub fn store(&self) -> Result<&dyn StateStore, Error> {
        match &self.store {
            Some(store) => Ok(store),
            None => Err(self.none()),
        }
    }

    /// Runs as `filter` asks, each in the state in which it is now.
    ///
    /// # Errors
    /// What is wrong with the state.
    pub fn select(&self, filter: &RunFilter) -> Result<Vec<RunRecord>, Error> {
        let mut runs = match &self.store {
            Some(store) => store.runs(filter)?,
            None => Vec::new(),
        };
        for run in &mut runs {
            run.state = run.state_now();
        }
        Ok(runs)
    }

    /// Nothing is known here.
    pub fn none(&self) -> Error {
        let message = format!("no run is known in `{}`", self.workspace.root().display());
        Error::not_found("run.none", message).with_help(
            "`whimbrel run JOB` makes one; the working folder of another job is named with `--working-dir`",
        )
    }
}

fn ids(runs: &[RunRecord]) -> String {
    let mut ids: Vec<String> = runs
        .iter()
        .take(NAMED_MAX as usize)
        .map(|run| format!("`{}`", run.id))
        .collect();
    if runs.len() > NAMED_MAX as usize {
        ids.push("and more".to_owned());
    }
    ids.join(", ")
}

/// How long a run took, or takes until now; none if its end is not known.
pub fn length_secs(run: &RunRecord, now: DateTime<Utc>) -> Option<f64> {
    let end = match (run.ended_at, run.state) {
        (Some(ended_at), _) => ended_at,
        (None, RunState::Running) => now,
        (None, _) => return None,
    };
    Some((end - run.started_at).num_milliseconds().max(0) as f64 / 1000.0)
}

/// A time, to the second.
pub fn moment(time: DateTime<Utc>) -> String {
    time.format("%Y-%m-%d %H:%M:%S UTC").to_string()
}

#[cfg(test)]
pub(crate) mod fixtures {
    //! A working folder with made-up runs, for the tests of the commands that read it.

    use super::{PlaceArgs, Remembered};
    use crate::state::{JobSeen, NewRun, Process, RunId, SqliteStore, StateStore as _};
    use chrono::{DateTime, TimeDelta};
    use tempfile::TempDir;

    /// The folder, with one run for each of `jobs`, a day apart, none of which goes on.
    pub(crate) fn folder(jobs: &[&str]) -> (TempDir, Vec<RunId>) {
        let folder = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(&folder.path().join("state.db")).unwrap();
        let mut ids = Vec::new();
        for (day, job) in (0..).zip(jobs) {
            let started_at = DateTime::from_timestamp(1_795_000_000, 0).unwrap() + TimeDelta::days(day);
            let id = RunId::at(started_at, 0xabc);
            let seen = JobSeen {
                name: (*job).to_owned(),
                path: format!("/{job}.yaml").into(),
                sha256: "0".into(),
            };
            let this = Process::this();
            let run = NewRun {
                started_at,
                started_by: "ann@mail".into(),
                holder: Process {
                    started_ticks: this.started_ticks - 1,
                    ..this
                },
                ..NewRun::of_this_process(id.clone(), seen, "run", "full", "/f".into(), true)
            };
            store.begin_run(&run).unwrap();
            ids.push(id);
        }
        (folder, ids)
    }

    /// What the commands see of it.
    pub(crate) fn open(folder: &TempDir) -> Remembered {
        Remembered::open(&PlaceArgs {
            working_dir: Some(folder.path().to_owned()),
        })
        .unwrap()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::RunEnd;

    #[test]
    fn a_run_is_found_by_how_its_id_begins() {
        let (folder, ids) = fixtures::folder(&["a", "b", "c"]);
        let remembered = fixtures::open(&folder);
        assert_eq!(remembered.run(None).unwrap().id, ids[2], "the newest");
        assert_eq!(remembered.run(Some(ids[0].as_str())).unwrap().id, ids[0]);
        assert_eq!(remembered.run(Some(&ids[1].as_str()[..8])).unwrap().id, ids[1]);
        let error = remembered.run(Some("202611")).unwrap_err();
        assert_eq!(error.code, "run.ambiguous");
        let help = error.help.unwrap();
        assert!(ids.iter().all(|id| help.contains(id.as_str())), "{help}");
        let error = remembered.run(Some("2025")).unwrap_err();
        assert_eq!(error.code, "run.unknown");
        assert!(error.help.unwrap().contains(ids[2].as_str()));
        for bad in ["", "nightly", "%", "../x"] {
            assert_eq!(remembered.run(Some(bad)).unwrap_err().code, "run.id", "{bad}");
        }
    }

    #[test]
    fn a_run_whose_process_has_gone_is_listed_as_crashed() {
        let (folder, ids) = fixtures::folder(&["a", "b", "b"]);
        let remembered = fixtures::open(&folder);
        let store = remembered.store().unwrap();
        store
            .end_run(&ids[0], &RunEnd::new(RunState::Done, 0, None))
            .unwrap();
        let listed = |job, state, limit| -> Vec<RunId> {
            let runs = remembered.runs(job, state, limit).unwrap();
            runs.into_iter().map(|run| run.id).collect()
        };
        let newest_first: Vec<RunId> = ids.iter().rev().cloned().collect();
        assert_eq!(listed(None, None, 10), newest_first);
        assert_eq!(listed(None, Some(RunState::Crashed), 10), newest_first[..2]);
        assert_eq!(listed(None, Some(RunState::Crashed), 1), newest_first[..1]);
        assert_eq!(listed(Some("b"), None, 10), newest_first[..2]);
        assert!(listed(None, Some(RunState::Running), 10).is_empty());
        assert_eq!(listed(None, Some(RunState::Done), 10), ids[..1]);
        let crashed = remembered.run(None).unwrap();
        assert_eq!(
            (crashed.state, length_secs(&crashed, Utc::now())),
            (RunState::Crashed, None)
        );
    }

    #[test]
    fn a_folder_without_state_has_no_runs_and_gets_none() {
        let folder = tempfile::tempdir().unwrap();
        let remembered = fixtures::open(&folder);
        assert!(remembered.runs(None, None, 10).unwrap().is_empty());
        assert_eq!(remembered.run(None).unwrap_err().code, "run.none");
        assert_eq!(remembered.run(Some("2026")).unwrap_err().code, "run.none");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
