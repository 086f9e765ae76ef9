//! `whimbrel resume [RUN]`, and `whimbrel run JOB --resume`: go on with a copy that was broken off.
//!
//! Here: which run is meant, its job with the flags that it had, and what is known of its copy. Where it goes on is said by the sink, to
//! the worker. Neighbours: `resumable` chooses, `kept_flags` has the flags, `run` does the rest.

use std::path::{Path, PathBuf};

use clap::Args;
use whimbrel_plugin_api::{Error, Finding};

use super::job_flags::JobFlags;
use super::kept_flags::KeptFlags;
use super::refused_before::refused_before;
use super::remembered::{PlaceArgs, Remembered};
use super::resumable::{self, Wanted};
use super::run::{Beginning, PhaseName, run_prepared};
use super::tasks::{prepare, refuse};
use super::{EventForm, Exit, Global, JobArgs};
use crate::checkpoint::ResumeOptions;
use crate::config::{LoadedJob, Variables, load_job};
use crate::events::{Phase, RefusedBefore};
use crate::orchestrator::{RunOptions, VerifyOptions};
use crate::state::{RunOrigin, RunRecord};
use crate::status::RunCheckpoint;
use crate::workspace::Workspace;

/// The command, in reports.
const TITLE: &str = "resume";

/// What `resume` takes.
#[derive(Args)]
pub struct ResumeArgs {
    /// The run, or how its id begins; the newest one that can be resumed if none is named.
    run: Option<String>,
    /// Go on with the newest run of this job file; if RUN is named too, its job file is here now.
    #[arg(long, value_name = "JOB")]
    job: Option<PathBuf>,
    /// Go on though the job, the source or a plugin is not as it was when the copy began.
    #[arg(long)]
    accept_changes: bool,
    /// Go on from where the sink is, though more of it was seen before: the sink was restored.
    #[arg(long)]
    accept_sink_cursor: bool,
    /// Take the place of a run whose process lives and has given no sign of life for a minute.
    #[arg(long)]
    take_over: bool,
    /// Hold this `migration-checkpoint.json` against the sink, in place of what is remembered here.
    #[arg(long, value_name = "FILE")]
    checkpoint_file: Option<PathBuf>,
    /// Leave these phases out, separated by commas.
    #[arg(long, value_name = "PHASES", value_enum, value_delimiter = ',')]
    skip_phases: Vec<PhaseName>,
    /// Also list the values of fields that differ between both sides, in the run's files and reports.
    #[arg(long)]
    show_values: bool,
    #[command(flatten)]
    flags: JobFlags,
    /// Print everything that happens while it happens, one object a line, in place of the report; the last line is the
    /// report.
    #[arg(long, value_name = "FORM", value_enum)]
    events: Option<EventForm>,
    /// Write everything that happens to this file while it happens, one JSON object a line.
    #[arg(long, value_name = "FILE")]
    events_file: Option<PathBuf>,
}

/// What somebody wants to go on with, and how.
pub struct Wish<'a> {
    /// The run, by how its id begins.
    pub run: Option<&'a str>,
    /// The job file.
    pub job: Option<&'a Path>,
    /// What is laid over the flags that the run had.
    pub flags: &'a JobFlags,
    /// Go on though something is not as it was.
    pub accepts_changes: bool,
    /// Go on though the sink has less than was seen.
    pub accepts_sink_cursor: bool,
    /// Replace a run whose process says nothing.
    pub takes_over: bool,
    /// The file that is held against the sink.
    pub checkpoint_file: Option<&'a Path>,
    /// Phases that are left out.
    pub skip_phases: Vec<Phase>,
    /// Whether values that differ are listed.
    pub shows_values: bool,
    /// What the events go to.
    pub events: Option<EventForm>,
    /// And the file.
    pub events_file: Option<&'a Path>,
    /// If no run of the job is remembered: go by what the sink alone has.
    pub asks_sink: bool,
}

/// Goes on with a run.
pub fn resume(global: &Global, args: &ResumeArgs) -> Exit {
    go_on(
        global,
        &Wish {
            run: args.run.as_deref(),
            job: args.job.as_deref(),
            flags: &args.flags,
            accepts_changes: args.accept_changes,
            accepts_sink_cursor: args.accept_sink_cursor,
            takes_over: args.take_over,
            checkpoint_file: args.checkpoint_file.as_deref(),
            skip_phases: args.skip_phases.iter().map(|name| Phase::from(*name)).collect(),
            shows_values: args.show_values,
            events: args.events,
            events_file: args.events_file.as_deref(),
            asks_sink: false,
        },
    )
}

/// Goes on as `wish` says.
pub fn go_on(global: &Global, wish: &Wish<'_>) -> Exit {
    let found = match find(wish) {
        Ok(found) => found,
        Err(faults) => return refuse(global, TITLE, None, &faults),
    };
    let args = JobArgs {
        job: found.job.clone(),
        flags: found.flags.clone(),
        events: wish.events,
        events_file: wish.events_file.map(Path::to_owned),
    };
    let prepared = match prepare(global, &args, TITLE, |loaded| found.check(loaded)) {
        Ok(prepared) => prepared,
        Err(exit) => return exit,
    };
    let options = RunOptions {
        skip_phases: wish.skip_phases.clone(),
        resume: Some(ResumeOptions {
            resumes: found.resumes.clone(),
            accepts_changes: wish.accepts_changes,
            accepts_sink_cursor: wish.accepts_sink_cursor,
            known_seqs: found.known.seqs(),
            refused: found.refused,
        }),
        verify: VerifyOptions {
            shows_values: wish.shows_values,
            ..VerifyOptions::default()
        },
        ..RunOptions::default()
    };
    let mut before = found.known;
    before.begun_by = Some(found.resumes);
    if wish.accepts_sink_cursor {
        // What was seen before is not in the sink any more.
        before.collections.clear();
        before.record_count = 0;
    }
    let beginning = Beginning {
        options,
        origin: found.origin,
        flags: found.flags,
        earlier: found.kept,
        before: Some(before),
        findings: found.findings,
        takes_over: wish.takes_over,
    };
    run_prepared(global, &args, TITLE, prepared, beginning)
}

/// What is known before anything is touched.
struct Found {
    job: PathBuf,
    /// The name that the job must have; none if no run of it is remembered.
    job_name: Option<String>,
    /// The flags of the run with those of the wish over them.
    flags: JobFlags,
    kept: KeptFlags,
    origin: RunOrigin,
    /// The run that began the copy, for the sink; empty if the sink alone knows.
    resumes: String,
    known: RunCheckpoint,
    refused: Vec<RefusedBefore>,
    findings: Vec<Finding>,
    /// The job of the file that is held against the sink.
    file_job: Option<String>,
}

impl Found {
    /// Whether the job that was loaded is the one that is gone on with.
    fn check(&self, loaded: &LoadedJob) -> Result<(), Error> {
        let name = &loaded.job.name;
        if let Some(was) = self.job_name.as_ref().filter(|was| *was != name) {
            let message = format!(
                "job file `{}` is job `{name}` now, and the run that is to be resumed was of job `{was}`",
                loaded.path.display()
            );
            return Err(Error::config("resume.other_job", message)
                .with_help("name the file of that job with `--job`, or give the job its name back"));
        }
        match &self.file_job {
            Some(of_file) if of_file != name => {
                Err(other_run(&format!("is of job `{of_file}`, not of `{name}`")))
            }
            _ => Ok(()),
        }
    }
}

fn other_run(what: &str) -> Error {
    Error::config("checkpoint.other_run", format!("the checkpoint file {what}")).with_help(
        "name the file of the run that is resumed, or leave `--checkpoint-file` out: the sink itself knows",
    )
}

fn find(wish: &Wish<'_>) -> Result<Found, Vec<Error>> {
    let file = match wish.checkpoint_file {
        Some(path) => Some(RunCheckpoint::read(path).map_err(|error| vec![error])?),
        None => None,
    };
    let (remembered, name, faults) = place(wish).map_err(|error| vec![error])?;
    let path = wish.job.map(absolute);
    let is_of_job =
        |run: &RunRecord| Some(&run.job.path) == path.as_ref() || Some(&run.job.name) == name.as_ref();
    let wanted = Wanted {
        run: wish.run,
        of_job: path.is_some().then_some(&is_of_job),
        takes_over: wish.takes_over,
    };
    let chosen = resumable::choose(&remembered, &wanted).map_err(|error| vec![error])?;
    match (chosen, path) {
        (Some(chain), path) => of_chain(wish, &remembered, &chain, path, file),
        (None, Some(path)) if wish.asks_sink => Ok(of_sink(wish, path, file)),
        // Nothing was found where nobody could say whether that is the place.
        (None, _) if !faults.is_empty() => Err(faults),
        (None, _) => Err(vec![remembered.none()]),
    }
}

/// Where runs are remembered, the name of the job if one is named, and what is wrong with its file: it may lack the flags that are
/// remembered there.
fn place(wish: &Wish<'_>) -> Result<(Remembered, Option<String>, Vec<Error>), Error> {
    let here = PlaceArgs {
        working_dir: wish.flags.working_dir.clone(),
    };
    let Some(job) = wish.job else {
        return Ok((Remembered::open(&here)?, None, Vec::new()));
    };
    match load_job(job, &wish.flags.overrides(), &Variables::of_process()) {
        Ok(loaded) => {
            let workspace = Workspace::of_job(job, Some(&loaded.working_dir));
            Ok((Remembered::at(workspace)?, Some(loaded.job.name), Vec::new()))
        }
        Err(faults) => {
            let remembered = match Remembered::named_folder(&here) {
                Some(folder) => Remembered::at(Workspace::of_job(job, Some(&folder)))?,
                None => Remembered::at(Workspace::of_job(job, None))?,
            };
            Ok((remembered, None, faults))
        }
    }
}

fn of_chain(
    wish: &Wish<'_>,
    remembered: &Remembered,
    chain: &[RunRecord],
    path: Option<PathBuf>,
    file: Option<RunCheckpoint>,
) -> Result<Found, Vec<Error>> {
    let one = |error: Error| vec![error];
    let Some(last) = chain.last() else {
        return Err(vec![remembered.none()]);
    };
    let kept = KeptFlags::of_json(&last.overrides).map_err(one)?;
    let mut flags = wish.flags.clone().over(kept.flags.clone());
    flags.working_dir = Some(remembered.workspace.root().to_owned());
    let missing = kept.missing(&flags);
    if !missing.is_empty() {
        return Err(missing.iter().map(|name| value_needed(last, name)).collect());
    }
    let store = remembered.store().map_err(one)?;
    let known = match file {
        Some(file) if file.job != last.job.name => {
            return Err(vec![other_run(&format!(
                "is of job `{}`, not of `{}`",
                file.job, last.job.name
            ))]);
        }
        Some(file) if !chain.iter().any(|run| run.id.as_str() == file.run_id) => {
            return Err(vec![other_run(&format!(
                "is of run `{}`, and not of the copy of run `{}`",
                file.run_id, last.id
            ))]);
        }
        Some(file) => file,
        None => resumable::durable(store, &remembered.workspace, chain).map_err(one)?,
    };
    let begun_by = last.chain().to_owned();
    let first = chain.iter().find(|run| run.id.as_str() == begun_by);
    // It went by what the sink alone knew, and so does everything that follows it.
    let is_of_sink = first.is_some_and(|run| run.origin.resumes.as_deref() == Some(""));
    Ok(Found {
        job: from_here(&path.unwrap_or_else(|| last.job.path.clone())),
        job_name: Some(last.job.name.clone()),
        flags,
        kept,
        origin: RunOrigin {
            resumes: Some(last.id.to_string()),
            begun_by: Some(begun_by.clone()),
        },
        resumes: if is_of_sink { String::new() } else { begun_by },
        known,
        refused: refused_before(store, chain).map_err(one)?,
        findings: moved_on(wish, last).into_iter().collect(),
        file_job: None,
    })
}

/// The run that was named is not the newest one of its copy.
fn moved_on(wish: &Wish<'_>, last: &RunRecord) -> Option<Finding> {
    let named = wish.run.filter(|named| !last.id.as_str().starts_with(*named))?;
    let message = format!(
        "run `{named}` was resumed before; run `{}`, the newest one of its copy, is gone on with",
        last.id
    );
    Some(Finding::info("resume.newest", message))
}

fn value_needed(run: &RunRecord, name: &str) -> Error {
    let message = format!(
        "run `{}` was given a value for parameter `{name}` that is not kept: it is a secret, or the run ended before that was known",
        run.id
    );
    Error::config("resume.value_needed", message).with_help(format!("give it again: `--set {name}=VALUE`"))
}

/// No run of the job is remembered: another host made it, or the state was lost.
fn of_sink(wish: &Wish<'_>, path: PathBuf, file: Option<RunCheckpoint>) -> Found {
    let begun_by = file.as_ref().map(|file| match &file.begun_by {
        Some(begun_by) => begun_by.clone(),
        None => file.run_id.clone(),
    });
    let resumes = begun_by.unwrap_or_default();
    Found {
        job: path,
        job_name: None,
        flags: wish.flags.clone(),
        kept: KeptFlags::default(),
        origin: RunOrigin {
            resumes: Some(file.as_ref().map_or_else(String::new, |file| file.run_id.clone())),
            begun_by: Some(resumes.clone()).filter(|id| !id.is_empty()),
        },
        resumes,
        file_job: file.as_ref().map(|file| file.job.clone()),
        known: file.unwrap_or_else(|| RunCheckpoint::new("", crate::state::now())),
        refused: Vec::new(),
        findings: Vec::new(),
    }
}

/// As it is typed in the current folder: this is how it is shown.
fn from_here(path: &Path) -> PathBuf {
    let here = std::env::current_dir().ok();
    let inside = here.as_deref().and_then(|here| path.strip_prefix(here).ok());
    inside.unwrap_or(path).to_owned()
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}
