//! `whimbrel run JOB`: copies the collections of a job and verifies them.
//!
//! Everything that it shares with its like is in `tasks`; what is kept of a run, and its hooks, is in `run_record`; going on with an
//! earlier run is in `resume`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use whimbrel_plugin_api::{Error, Finding};

use super::certificate::Certifying;
use super::event_output::EventOutput;
use super::job_flags::JobFlags;
use super::kept_flags::KeptFlags;
use super::made_from;
use super::notifying::{self, Notifying};
use super::resume::{Wish, go_on};
use super::run_record::RunRecord;
use super::tasks::{Follower, Prepared, execute, look, prepare, refuse, report_of, run_task, say, warn};
use super::verify::place::{self, Place, Whose};
use super::{Exit, Global, JobArgs};
use crate::config::Origin;
use crate::events::{Event, Phase};
use crate::orchestrator::{RunOptions, VerifyOptions};
use crate::state::RunOrigin;
use crate::status::RunCheckpoint;
use crate::supervisor::TaskKind;
use crate::workspace::Workspace;

/// What `run` takes.
#[derive(Args)]
pub struct RunArgs {
    #[command(flatten)]
    job: JobArgs,
    /// Leave these phases out, separated by commas.
    #[arg(long, value_name = "PHASES", value_enum, value_delimiter = ',')]
    skip_phases: Vec<PhaseName>,
    /// Read and transform everything, and write nothing.
    #[arg(long)]
    dry_run: bool,
    /// Only look at both systems and say whether a run could begin.
    #[arg(long, conflicts_with_all = ["dry_run", "skip_phases"])]
    validate_only: bool,
    /// Read the source again even if an earlier run has left what it would read.
    #[arg(long)]
    read_anew: bool,
    /// Go on with the newest run of this job; if none is remembered here, with what the sink has of one.
    #[arg(long, conflicts_with_all = ["dry_run", "validate_only", "read_anew"])]
    resume: bool,
    /// With `--resume`: go on though the job, the source or a plugin is not as it was when the copy began.
    #[arg(long, requires = "resume")]
    accept_changes: bool,
    /// With `--resume`: go on from where the sink is, though more of it was seen before: the sink was restored.
    #[arg(long, requires = "resume")]
    accept_sink_cursor: bool,
    /// With `--resume`: hold this `migration-checkpoint.json` against the sink, in place of what is remembered here.
    #[arg(long, value_name = "FILE", requires = "resume")]
    checkpoint_file: Option<PathBuf>,
    /// Take the place of a run of the job whose process lives and has given no sign of life for a minute.
    #[arg(long)]
    take_over: bool,
    /// Also list the values of fields that differ between both sides, in the run's files and reports.
    #[arg(long)]
    show_values: bool,
    /// Also show what plugins log for finding faults.
    #[arg(short, long)]
    verbose: bool,
}

/// The phases by name.
#[derive(Clone, Copy, ValueEnum)]
pub enum PhaseName {
    /// Looking at both systems.
    #[value(name = "pre_validation", alias = "pre-validation")]
    PreValidation,
    /// Reading the source.
    Extraction,
    /// Changing records on the way.
    Transformation,
    /// Writing the sink.
    Import,
    /// Comparing both sides.
    Verification,
    /// Tidying up and hooks.
    #[value(name = "post_migration", alias = "post-migration")]
    PostMigration,
}

impl From<PhaseName> for Phase {
    fn from(name: PhaseName) -> Self {
        match name {
            PhaseName::PreValidation => Self::PreValidation,
            PhaseName::Extraction => Self::Extraction,
            PhaseName::Transformation => Self::Transformation,
            PhaseName::Import => Self::Import,
            PhaseName::Verification => Self::Verification,
            PhaseName::PostMigration => Self::PostMigration,
        }
    }
}

/// Copies the collections of a job and verifies them.
pub fn run(global: &Global, args: &RunArgs) -> Exit {
    if args.validate_only {
        return run_task(global, &args.job, "check", |job| TaskKind::Check { job });
    }
    let skip_phases = args.skip_phases.iter().map(|name| Phase::from(*name)).collect();
    if args.resume {
        let wish = Wish {
            run: None,
            job: Some(&args.job.job),
            flags: &args.job.flags,
            accepts_changes: args.accept_changes,
            accepts_sink_cursor: args.accept_sink_cursor,
            takes_over: args.take_over,
            checkpoint_file: args.checkpoint_file.as_deref(),
            skip_phases,
            shows_values: args.show_values,
            events: args.job.events,
            events_file: args.job.events_file.as_deref(),
            asks_sink: true,
        };
        return go_on(global, &wish);
    }
    let prepared = match prepare(global, &args.job, "run", |_| Ok(())) {
        Ok(prepared) => prepared,
        Err(exit) => return exit,
    };
    let options = RunOptions {
        skip_phases,
        dry_run: args.dry_run,
        reads_anew: args.read_anew,
        verify: VerifyOptions {
            shows_values: args.show_values,
            ..VerifyOptions::default()
        },
        ..RunOptions::default()
    };
    let title = if args.dry_run { "dry-run" } else { "run" };
    let beginning = Beginning {
        options,
        flags: args.job.flags.clone(),
        takes_over: args.take_over,
        ..Beginning::default()
    };
    run_prepared(global, &args.job, title, prepared, beginning)
}

/// How a run begins, besides its job.
#[derive(Default)]
pub struct Beginning {
    /// What its worker is told.
    pub options: RunOptions,
    /// The copy that it goes on with.
    pub origin: RunOrigin,
    /// What was laid over the job, to be kept for runs that go on with it.
    pub flags: JobFlags,
    /// What is kept of that already.
    pub earlier: KeptFlags,
    /// What is known to be durable.
    pub before: Option<RunCheckpoint>,
    /// What is to be said first.
    pub findings: Vec<Finding>,
    /// Whether it replaces a run whose process says nothing.
    pub takes_over: bool,
}

/// Runs a job that is ready; `title` is the command that a person gave.
pub fn run_prepared(
    global: &Global,
    args: &JobArgs,
    title: &str,
    mut prepared: Prepared,
    beginning: Beginning,
) -> Exit {
    let described = match notifying::configure(global, title, &mut prepared) {
        Ok(described) => described,
        Err(exit) => return exit,
    };
    let begun = Certifying::begin(&prepared).and_then(|certifying| {
        let mut record = RunRecord::begin(&prepared.loaded, title, &beginning)?;
        record.certify(certifying);
        // The file of events is emptied only once the run is claimed: it may be that of the run that goes on.
        let claimed = place_of_comparison(&prepared, &beginning, record.run_id())
            .and_then(|place| EventOutput::create(args).map(|events| (events, place)));
        match claimed {
            Ok((events, place)) => Ok((events, record, place)),
            Err(error) => {
                record.abandon(None, Exit::of_refusal(std::slice::from_ref(&error)));
                Err(error)
            }
        }
    });
    let (mut events, mut record, mut place) = match begun {
        Ok(begun) => begun,
        Err(error) => return refuse(global, title, Some(&prepared.loaded), &[error]),
    };
    let mut options = beginning.options;
    let notifies = !options.dry_run;
    let holds = !prepared.loaded.job.hooks.before.is_empty() && !options.dry_run;
    for finding in record.findings() {
        if !global.json && args.events.is_none() {
            warn(finding);
        }
    }
    made_from::tell(&mut options, &prepared);
    options.run_id = record.run_id().to_owned();
    options.sizes_writes = prepared.loaded.origin("/import/batch_size") != Origin::Default;
    options.staging_folder = record.staging_folder();
    options.orphans_file = Some(record.orphans_file());
    if let Some(place) = &place {
        options.verify.work_folder.clone_from(&place.work_folder);
        options.verify.results_folder = record.verification_results();
    }
    let kind = TaskKind::Run {
        job: Box::new(prepared.loaded.job.clone()),
        options,
    };
    let mut notifying = match begin_to_tell(&prepared, &mut record, &mut events, &described, notifies) {
        Ok(notifying) => notifying,
        Err(error) => return refuse(global, title, Some(&prepared.loaded), &[error]),
    };
    let mut followers: Vec<&mut dyn Follower> = vec![&mut record];
    followers.extend(notifying.as_mut().map(|notifying| notifying as &mut dyn Follower));
    followers.extend(place.as_mut().map(|place| place as &mut dyn Follower));
    let mut executed = match execute(global, title, prepared, kind, holds, events, followers) {
        Ok(executed) => executed,
        Err(exit) => {
            if let Some(notifying) = notifying {
                notifying.abandon(global, None);
            }
            record.abandon(None, exit);
            return exit;
        }
    };
    let (mut report, exit) = match report_of(global, title, &executed) {
        Ok(told) => told,
        Err(exit) => {
            if let Some(notifying) = notifying {
                notifying.abandon(global, Some(&executed.supervised));
            }
            record.abandon(Some(&executed), exit);
            return exit;
        }
    };
    if let Some(mut place) = place {
        record.find(place.finding.take());
        record.goes_on(place.goes_on.take());
        if place::is_over(&report) {
            place.finish();
        }
    }
    record.complete(&executed, &mut report);
    if let Some(notifying) = notifying {
        // A state or a folder that cannot be written is told by the end of the record.
        notifying.finish(global, &mut executed, &mut report, |event| {
            drop(record.follow(event));
        });
    }
    let mut look = look(args);
    look.run_id = Some(record.run_id().to_owned());
    look.html_report = Some(record.html_report());
    let exit = record.finish(&mut executed, &mut report, exit);
    if args.events.is_some() {
        super::output::print_line(&serde_json::json!({ "event": "report", "report": report }));
        return exit;
    }
    say(global, &report, exit, &look)
}

/// Where the run compares both sides; none if it writes nothing. Only one that goes on with a copy goes on with its comparison.
fn place_of_comparison(
    prepared: &Prepared,
    beginning: &Beginning,
    run_id: &str,
) -> Result<Option<Place>, Error> {
    if beginning.options.dry_run {
        return Ok(None);
    }
    let workspace = Workspace::of_job(&prepared.loaded.path, Some(&prepared.loaded.working_dir));
    let is_new = beginning.options.resume.is_none();
    let copy = beginning.origin.begun_by.as_deref().unwrap_or(run_id);
    Place::claim(&workspace, prepared, Whose::Run, is_new, Some(copy)).map(Some)
}

/// Says that the run begins, to all who keep or tell it. Notifiers were `described` before.
fn begin_to_tell(
    prepared: &Prepared,
    record: &mut RunRecord,
    events: &mut EventOutput,
    described: &[Event],
    notifies: bool,
) -> Result<Option<Notifying>, Error> {
    let started = record.announce(events)?;
    for event in described {
        events.add(event);
        record.follow(event)?;
    }
    if !notifies {
        return Ok(None);
    }
    let mut notifying = Notifying::start(prepared, record.folder(), record.run_id(), described)?;
    if let Some(notifying) = &mut notifying {
        notifying.follow(&started)?;
    }
    Ok(notifying)
}
