//! `whimbrel run JOB`: copies the collections of a job and verifies them.
//!
//! Everything that it shares with its like is in `tasks`; what is kept of a run, and its hooks, is in `run_record`.

use clap::{Args, ValueEnum};
use whimbrel_plugin_api::Error;

use super::event_output::EventOutput;
use super::notifying::{self, Notifying};
use super::run_record::RunRecord;
use super::tasks::{Follower, Prepared, execute, look, prepare, refuse, report_of, run_task, say};
use super::{Exit, Global, JobArgs};
use crate::config::Origin;
use crate::events::{Event, Phase};
use crate::orchestrator::RunOptions;
use crate::supervisor::TaskKind;

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
    /// Also show what plugins log for finding faults.
    #[arg(short, long)]
    verbose: bool,
}

/// The phases by name.
#[derive(Clone, Copy, ValueEnum)]
enum PhaseName {
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
    let prepared = match prepare(global, &args.job, "run", |_| Ok(())) {
        Ok(prepared) => prepared,
        Err(exit) => return exit,
    };
    let options = RunOptions {
        skip_phases: args.skip_phases.iter().map(|name| Phase::from(*name)).collect(),
        dry_run: args.dry_run,
        reads_anew: args.read_anew,
        ..RunOptions::default()
    };
    let title = if args.dry_run { "dry-run" } else { "run" };
    run_prepared(global, &args.job, title, prepared, options)
}

/// Runs a job that is ready; `title` is the command that a person gave.
pub fn run_prepared(
    global: &Global,
    args: &JobArgs,
    title: &str,
    mut prepared: Prepared,
    mut options: RunOptions,
) -> Exit {
    let described = match notifying::configure(global, title, &mut prepared) {
        Ok(described) => described,
        Err(exit) => return exit,
    };
    let begun = EventOutput::create(args).and_then(|events| {
        RunRecord::begin(&prepared.loaded, title, &options).map(|record| (events, record))
    });
    let (mut events, mut record) = match begun {
        Ok(begun) => begun,
        Err(error) => return refuse(global, title, Some(&prepared.loaded), &[error]),
    };
    let notifies = !options.dry_run;
    let holds = !prepared.loaded.job.hooks.before.is_empty() && !options.dry_run;
    options.run_id = record.run_id().to_owned();
    options.sizes_writes = prepared.loaded.origin("/import/batch_size") != Origin::Default;
    options.staging_folder = record.staging_folder();
    options.orphans_file = Some(record.orphans_file());
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
