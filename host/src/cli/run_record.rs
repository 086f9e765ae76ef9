//! What is kept of a run while it goes on and after its end: its place in the state, the files of its folder, its hooks.
//!
//! One run of a job at a time begins here. A disk or a database that fails ends the run in good order; its last state is
//! still written if there is any way. Neighbours: `tasks` tells of events, `state` and `status` keep them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest as _, Sha256};
use whimbrel_plugin_api::{Error, Finding};

use super::Exit;
use super::certificate::Certifying;
use super::hooks::{self, HookFacts};
use super::job_flags::JobFlags;
use super::kept_flags::KeptFlags;
use super::resumable;
use super::run::Beginning;
use super::tasks::{Executed, Follower};
use crate::certificate::GoesOn;
use crate::config::{Hook, Hooks, LoadedJob, Mode, Secrets};
use crate::events::{Event, FoundBy, Phase};
use crate::report::{Ending, TaskReport};
use crate::state::{
    JobSeen, NewRun, Process, Recorder, RunEnd, RunId, RunState, SqliteStore, StateStore, open_run,
    started_by,
};
use crate::status::RunFiles;
use crate::supervisor::Ended;
use crate::workspace::{RunFolder, Workspace};

/// A run that is being kept.
pub struct RunRecord {
    id: RunId,
    job: String,
    command: String,
    mode: &'static str,
    store: Arc<dyn StateStore>,
    recorder: Option<Recorder>,
    files: Option<RunFiles>,
    folder: PathBuf,
    html_report: PathBuf,
    run_folder: RunFolder,
    staging_folder: PathBuf,
    hooks: Hooks,
    runs_hooks: bool,
    job_folder: PathBuf,
    secrets: Secrets,
    flags: JobFlags,
    kept: KeptFlags,
    findings: Vec<Finding>,
    certifying: Option<Certifying>,
}

impl RunRecord {
    /// Begins a run of `loaded` by the command `title`. One that writes is refused while another one of its job goes on.
    ///
    /// # Errors
    /// `run.already_running`, and whatever is wrong with the working folder or the state in it.
    pub fn begin(loaded: &LoadedJob, title: &str, beginning: &Beginning) -> Result<Self, Error> {
        let options = &beginning.options;
        let writes = !options.dry_run;
        let workspace = Workspace::of_job(&loaded.path, Some(&loaded.working_dir));
        workspace.create()?;
        let store: Arc<dyn StateStore> = Arc::new(SqliteStore::open(&workspace.state_db())?);
        let id = RunId::new();
        let run_folder = workspace.run(id.as_str())?;
        let mode = match loaded.job.mode {
            Mode::Full => "full",
            Mode::Test => "test",
        };
        let seen = JobSeen {
            name: loaded.job.name.clone(),
            path: std::path::absolute(&loaded.path).unwrap_or_else(|_| loaded.path.clone()),
            sha256: sha256(&loaded.path),
        };
        let command = if writes { title } else { "dry-run" };
        let folder = run_folder.folder().to_owned();
        let mut findings = beginning.findings.clone();
        if command == "run" {
            findings.extend(resumable::unfinished(
                store.as_ref(),
                &workspace,
                &loaded.job.name,
            )?);
        }
        let mut kept = KeptFlags::begin(&beginning.flags, &beginning.earlier);
        kept.accepts_sink_cursor = options
            .resume
            .as_ref()
            .is_some_and(|resume| resume.accepts_sink_cursor);
        let new = NewRun {
            takes_over: beginning.takes_over,
            origin: beginning.origin.clone(),
            overrides: kept.to_json(loaded),
            ..NewRun::of_this_process(id.clone(), seen, command, mode, folder.clone(), writes)
        };
        let guard = open_run(&store, &new)?;
        let files = RunFiles::create_after(&workspace, id.as_str(), &loaded.path, beginning.before.clone())?;
        Ok(Self {
            job: loaded.job.name.clone(),
            command: command.to_owned(),
            mode,
            store,
            recorder: Some(Recorder::start(guard)?),
            files: Some(files),
            html_report: run_folder.html_report(),
            run_folder,
            folder: std::path::absolute(&folder).unwrap_or(folder),
            staging_folder: absolute(&workspace.staging(&loaded.job.name)),
            hooks: loaded.job.hooks.clone(),
            runs_hooks: writes && !options.skip_phases.contains(&Phase::PostMigration),
            job_folder: loaded.folder.clone(),
            secrets: loaded.secrets.clone(),
            flags: beginning.flags.clone(),
            kept,
            findings,
            certifying: None,
            id,
        })
    }

    /// Has what the run comes to certified.
    pub fn certify(&mut self, certifying: Option<Certifying>) {
        self.certifying = certifying;
    }

    /// Takes note of an earlier comparison that the run goes on with.
    pub fn goes_on(&mut self, earlier: Option<GoesOn>) {
        if let Some(certifying) = &mut self.certifying {
            certifying.goes_on(earlier);
        }
    }

    /// The run.
    pub fn run_id(&self) -> &str {
        self.id.as_str()
    }

    /// Where its report for a browser will be.
    pub fn html_report(&self) -> PathBuf {
        self.html_report.clone()
    }

    /// Where the job's records wait between phases.
    pub fn staging_folder(&self) -> PathBuf {
        self.staging_folder.clone()
    }

    /// Where records are listed that point to nothing. Absolute, since the worker is at home in another folder.
    pub fn orphans_file(&self) -> PathBuf {
        let path = self.run_folder.orphans();
        std::path::absolute(&path).unwrap_or(path)
    }

    /// Where differences between both sides are listed, absolute for the same reason.
    pub fn verification_results(&self) -> PathBuf {
        absolute(&self.run_folder.verification_results())
    }

    /// Its folder.
    pub fn folder(&self) -> &RunFolder {
        &self.run_folder
    }

    /// Says that the run begins; answers what it said.
    ///
    /// # Errors
    /// What is wrong with the state or the folder.
    pub fn announce(&mut self, events: &mut super::event_output::EventOutput) -> Result<Event, Error> {
        let event = Event::Started {
            run_id: self.id.to_string(),
            command: self.command.clone(),
            job: self.job.clone(),
            mode: self.mode.to_owned(),
            started_by: started_by(),
        };
        events.add(&event);
        self.follow(&event)?;
        for finding in self.findings.clone() {
            let found = Event::Found { role: None, finding };
            events.add(&found);
            self.follow(&found)?;
        }
        Ok(event)
    }

    /// What was found before the run began.
    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }

    /// Adds to that.
    pub fn find(&mut self, finding: Option<Finding>) {
        self.findings.extend(finding);
    }

    /// Puts that into `report`; for a worker that was lost it is completed from events, which have it too.
    pub fn complete(&mut self, executed: &Executed, report: &mut TaskReport) {
        if matches!(executed.supervised.ended, Ended::Outcome(_)) {
            let findings = self
                .findings
                .drain(..)
                .map(|finding| FoundBy { role: None, finding });
            report.summary.findings.splice(0..0, findings);
        }
    }

    /// The run was begun and came to nothing, which has been said.
    pub fn abandon(mut self, executed: Option<&Executed>, exit: Exit) {
        let faults: Vec<Error> = match executed.map(|executed| &executed.supervised.ended) {
            Some(Ended::Config(faults)) => faults
                .iter()
                .map(|fault| self.secrets.scrub_error(fault.clone()))
                .collect(),
            _ => vec![Error::config(
                "run.refused",
                "the job or its environment was refused",
            )],
        };
        // It was said already why; a state or a folder that cannot be written adds nothing to it.
        if let (Some(files), Some(executed)) = (self.files.take(), executed) {
            let (job, plugins) = (&executed.loaded.job, executed.plugins.clone());
            let ending = Ending::Refused(&faults);
            let mut report = TaskReport::new(&self.command, job, plugins, ending, exit.number());
            files.complete(&mut report);
            drop(files.finish(&report));
        }
        if let Some(recorder) = self.recorder.take() {
            drop(recorder.finish(RunEnd::new(RunState::Refused, exit.number(), faults.first())));
        }
    }

    /// Runs the hooks that follow and writes the end of the run into state and files; answers the exit code of it all.
    pub fn finish(mut self, executed: &mut Executed, report: &mut TaskReport, exit: Exit) -> Exit {
        // Before the hooks, which may want to send it somewhere.
        let certified = self.issue_certificate(report);
        if self.runs_hooks {
            let hooks = if exit == Exit::Done {
                std::mem::take(&mut self.hooks.after_success)
            } else {
                std::mem::take(&mut self.hooks.after_failure)
            };
            let facts = self.facts(Some((report.outcome, exit)));
            for hook in &hooks {
                if let Err(error) = self.run_hook(hook, &facts, &mut |event| executed.events.add(event)) {
                    report.errors.push(error.into());
                }
            }
        }
        let trouble = executed.supervised.trouble.as_ref();
        let mut end = match &executed.supervised.ended {
            Ended::Outcome(outcome) => {
                RunEnd::of_outcome(&self.secrets.scrub_all((**outcome).clone()), exit.number())
            }
            Ended::Lost(failure) => {
                RunEnd::of_lost(&self.secrets.scrub_all((**failure).clone()), exit.number())
            }
            Ended::Config(_) => RunEnd::new(RunState::Refused, exit.number(), None),
        };
        if let Some(trouble) = trouble {
            end = RunEnd::new(RunState::Failed, exit.number(), Some(trouble));
        }
        let mut problems = Vec::from_iter(certified.err());
        if let Some(files) = self.files.take() {
            files.complete(report);
            if let Some(trouble) = trouble
                && !report.errors.iter().any(|known| known.error.code == trouble.code)
            {
                report.add_fault(trouble.clone().into());
            }
            problems.extend(files.finish(report).err());
        }
        if let Some(recorder) = self.recorder.take() {
            problems.extend(recorder.finish(end).err());
        }
        // What ended the run is said already.
        problems.retain(|problem| trouble.is_none_or(|trouble| trouble.code != problem.code));
        let has_problem = !problems.is_empty();
        report.errors.extend(problems.into_iter().map(Into::into));
        if has_problem && exit == Exit::Done {
            report.exit_code = Exit::Environment.number();
            return Exit::Environment;
        }
        exit
    }

    fn issue_certificate(&mut self, report: &mut TaskReport) -> Result<(), Error> {
        let Some(certifying) = self.certifying.take().filter(|_| self.command != "dry-run") else {
            return Ok(());
        };
        certifying.issue(self.run_folder.folder(), self.id.as_str(), report)
    }

    fn facts(&self, end: Option<(&str, Exit)>) -> HookFacts {
        let text = |path: &Path| path.display().to_string();
        let mut variables = vec![
            ("WHIMBREL_RUN_ID", self.id.to_string()),
            ("WHIMBREL_JOB", self.job.clone()),
            ("WHIMBREL_RUN_FOLDER", text(&self.folder)),
        ];
        if let Some((outcome, exit)) = end {
            variables.push(("WHIMBREL_OUTCOME", outcome.to_owned()));
            variables.push(("WHIMBREL_EXIT_CODE", exit.number().to_string()));
        }
        HookFacts { variables }
    }

    fn run_hook(
        &mut self,
        hook: &Hook,
        facts: &HookFacts,
        events: &mut dyn FnMut(&Event),
    ) -> Result<(), Error> {
        let result = hooks::run(hook, &self.job_folder, facts);
        let outcome = result.outcome.map_err(|error| self.secrets.scrub_error(error));
        let message = match &outcome {
            Ok(()) => result.output.trim_end().to_owned(),
            Err(error) => format!("{}: {}", error.message, result.output.trim_end()),
        };
        let event = Event::HookEnded {
            hook: self.secrets.scrub(&result.name).into_owned(),
            ok: outcome.is_ok(),
            message: self.secrets.scrub(&message).into_owned(),
        };
        events(&event);
        self.follow(&event)?;
        outcome
    }
}

impl Follower for RunRecord {
    fn job_is_complete(&mut self, loaded: &LoadedJob) -> Result<(), Error> {
        self.kept = self.kept.clone().complete(&self.flags, loaded);
        self.store.note_overrides(&self.id, &self.kept.to_json(loaded))
    }

    fn follow(&mut self, event: &Event) -> Result<(), Error> {
        if let Some(certifying) = &mut self.certifying {
            certifying.follow(event);
        }
        let recorded = self
            .recorder
            .as_mut()
            .map_or(Ok(()), |recorder| recorder.observe(event));
        let noted = self.files.as_mut().map_or(Ok(()), |files| files.observe(event));
        if let (Err(error), Some(recorder)) = (&noted, &self.recorder) {
            // What was freed for the last files would be filled with events at once.
            recorder.give_up(error);
        }
        recorded.and(noted)
    }

    fn make_durable(&mut self) -> Result<(), Error> {
        self.recorder.as_mut().map_or(Ok(()), Recorder::make_durable)
    }

    fn plugin_output(&mut self, line: &str) {
        if let Some(files) = &mut self.files {
            files.plugin_output(line);
        }
    }

    fn worker_started(&mut self, pid: u32) {
        // The holder is known; the worker only makes a stale run easier to recognise.
        drop(self.store.note_worker(&self.id, &Process::of(pid)));
    }

    fn before_writing(&mut self, events: &mut dyn FnMut(&Event)) -> Result<(), Error> {
        let hooks = std::mem::take(&mut self.hooks.before);
        let facts = self.facts(None);
        for hook in &hooks {
            self.run_hook(hook, &facts, events)?;
        }
        Ok(())
    }
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

/// The digest of a file that was read a moment ago; empty if it has gone since.
pub(super) fn sha256(path: &Path) -> String {
    let octets = std::fs::read(path).unwrap_or_default();
    Sha256::digest(&octets)
        .iter()
        .map(|octet| format!("{octet:02x}"))
        .collect()
}
