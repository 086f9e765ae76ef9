//! `whimbrel verify JOB`: compares both sides of a job, at any time; with `--repair` copies again what differs, with `--watch` compares
//! again and again.
//!
//! Here: the flags, and one comparison from its job to its report. Neighbours: `place` is where it keeps what it needs, `past_runs` what
//! runs have left out, `repair` and `watch` do more than compare; what is shared with other tasks is in `tasks`.

mod past_runs;
pub(super) mod place;
mod repair;
mod watch;

use clap::Args;
use serde::Serialize;
use whimbrel_plugin_api::Error;

use super::certificate::Certifying;
use super::event_output::EventOutput;
use super::output::print_line;
use super::tasks::{Follower, Prepared, execute, look, prepare, refuse, report_of, say};
use super::{Exit, Global, JobArgs};
use crate::config::VerificationLevel;
use crate::events::{Event, FoundBy, RefusedBefore};
use crate::orchestrator::{RunOptions, VerifyOptions};
use crate::report::TaskReport;
use crate::state::RunId;
use crate::supervisor::TaskKind;
use crate::workspace::{VerificationFolder, Workspace, fault, file_names, write_all_whole, write_whole};
use place::{Place, Whose};

/// Seconds between two comparisons unless said otherwise.
const INTERVAL_SECS: u64 = 10;

/// What `verify` takes.
#[derive(Args)]
pub struct VerifyArgs {
    #[command(flatten)]
    job: JobArgs,
    /// Compare only this collection, in its name in the source; may be given several times.
    #[arg(long, value_name = "NAME")]
    collection: Vec<String>,
    /// Also list the values of fields that differ.
    #[arg(long)]
    show_values: bool,
    /// Do not go on with a comparison that was interrupted.
    #[arg(long)]
    anew: bool,
    /// Compare every record, copy those again that are missing or differ, remove those that only the sink has, and compare once
    /// more. Asks first.
    #[arg(long, conflicts_with = "watch")]
    repair: bool,
    /// With `--repair`: agree beforehand.
    #[arg(long, requires = "repair")]
    yes: bool,
    /// With `--repair`: also remove what only the sink has where that is more than half of a collection, or the source has no
    /// records.
    #[arg(long, requires = "repair")]
    remove_most: bool,
    /// Compare again and again until a signal ends it, with one line for each comparison.
    #[arg(long, conflicts_with_all = ["events", "events_file"])]
    watch: bool,
    /// With `--watch`: seconds between two comparisons.
    #[arg(long, value_name = "SECONDS", requires = "watch", default_value_t = INTERVAL_SECS,
          value_parser = clap::value_parser!(u64).range(1..=86_400))]
    interval: u64,
    /// With `--watch`: end with 0 once both sides are equal.
    #[arg(long, requires = "watch")]
    until_equal: bool,
}

/// Compares both sides of a job.
pub fn verify(global: &Global, args: &VerifyArgs) -> Exit {
    if args.watch {
        return watch::watch(global, args);
    }
    if args.repair {
        return repair::repair(global, args);
    }
    match compare(global, args, "verify", None) {
        Ok(compared) => tell(global, args, &compared),
        Err(exit) => exit,
    }
}

/// A comparison that came to an end, good or bad.
struct Compared {
    report: TaskReport,
    exit: Exit,
    folder: VerificationFolder,
}

/// Compares once, in a folder of its own or in that of an earlier one, which then is no longer there.
fn compare(
    global: &Global,
    args: &VerifyArgs,
    title: &str,
    earlier: Option<&VerificationFolder>,
) -> Result<Compared, Exit> {
    let prepared = prepare(global, &args.job, title, |loaded| {
        if args.repair {
            // What a repair would find: it compares every record.
            loaded.job.verification = VerificationLevel::Comprehensive;
        }
        Ok(())
    })?;
    let begun = Comparing::begin(&prepared, args, earlier)
        .and_then(|comparing| EventOutput::create(&args.job).map(|events| (comparing, events)));
    let (comparing, events) =
        begun.map_err(|error| refuse(global, title, Some(&prepared.loaded), &[error]))?;
    let options = comparing.options(args, false);
    comparing.execute(global, title, args, prepared, options, events, None)
}

/// Prints the end of a comparison.
fn tell(global: &Global, args: &VerifyArgs, compared: &Compared) -> Exit {
    if args.job.events.is_some() {
        print_line(&serde_json::json!({ "event": "report", "report": compared.report }));
        return compared.exit;
    }
    let mut look = look(&args.job);
    look.results_folder = Some(compared.folder.results());
    say(global, &compared.report, compared.exit, &look)
}

/// A comparison while it goes on: its folder, and its claim on the place where it keeps what it needs.
struct Comparing {
    id: RunId,
    folder: VerificationFolder,
    place: Place,
    refused: Vec<RefusedBefore>,
    certifying: Option<Certifying>,
}

/// Tells the certificate that is to be made of events.
struct Noting<'a>(&'a mut Certifying);

impl Follower for Noting<'_> {
    fn follow(&mut self, event: &Event) -> Result<(), Error> {
        self.0.follow(event);
        Ok(())
    }
}

impl Comparing {
    /// Claims the place, makes the folder, and finds out what runs have left out.
    ///
    /// # Errors
    /// What [`Place::claim`] brings, what is wrong with the working folder or with the state in it.
    fn begin(
        prepared: &Prepared,
        args: &VerifyArgs,
        earlier: Option<&VerificationFolder>,
    ) -> Result<Self, Error> {
        let workspace = Workspace::of_job(&prepared.loaded.path, Some(&prepared.loaded.working_dir));
        let certifying = Certifying::begin(prepared)?;
        let place = Place::claim(&workspace, prepared, Whose::Command, args.anew, None)?;
        let refused = past_runs::refused(&workspace, &prepared.loaded.job.name)?;
        let id = RunId::new();
        if let Some(earlier) = earlier {
            // What cannot be removed stays beside the new one, as those of single comparisons do.
            drop(std::fs::remove_dir_all(earlier.folder()));
        }
        let folder = workspace.create_verification(id.as_str())?;
        Ok(Self {
            id,
            folder,
            place,
            refused,
            certifying,
        })
    }

    /// What the worker is told; it writes to the sink only if it `repairs`, whatever else was asked for.
    fn options(&self, args: &VerifyArgs, repairs: bool) -> RunOptions {
        let absolute = |path: std::path::PathBuf| std::path::absolute(&path).unwrap_or(path);
        RunOptions {
            run_id: self.id.to_string(),
            verify: VerifyOptions {
                work_folder: self.place.work_folder.clone(),
                results_folder: absolute(self.folder.results()),
                shows_values: args.show_values,
                is_of_sink_alone: false,
                collections: args.collection.clone(),
                refused: self.refused.clone(),
                before_repair_folder: repairs.then(|| absolute(self.folder.results_before_repair())),
                removes_most: args.remove_most,
                agreed: None,
            },
            ..RunOptions::default()
        }
    }

    /// Lets a worker do it, and keeps its report. What was interrupted stays where it can be gone on with.
    #[expect(
        clippy::too_many_arguments,
        reason = "a task, what it is told, and who follows it"
    )]
    fn execute(
        self,
        global: &Global,
        title: &str,
        args: &VerifyArgs,
        prepared: Prepared,
        options: RunOptions,
        events: EventOutput,
        follower: Option<&mut dyn Follower>,
    ) -> Result<Compared, Exit> {
        let kind = TaskKind::Verify {
            job: Box::new(prepared.loaded.job.clone()),
            options,
        };
        let mut comparing = self;
        if !global.json && args.job.events.is_none() {
            comparing.place.say_aloud();
        }
        let mut noting = comparing.certifying.as_mut().map(Noting);
        let mut followers: Vec<&mut dyn Follower> = vec![&mut comparing.place];
        if let Some(follower) = follower {
            followers.push(follower);
        }
        followers.extend(noting.as_mut().map(|noting| noting as &mut dyn Follower));
        let ended = execute(global, title, prepared, kind, false, events, followers)
            .and_then(|executed| report_of(global, title, &executed));
        match ended {
            Ok((report, exit)) => Ok(comparing.keep(report, exit)),
            Err(exit) => {
                // It was refused and that was said; an empty folder tells nothing. What a repair has kept must not go.
                if !comparing.folder.results_before_repair().exists() {
                    drop(std::fs::remove_dir_all(comparing.folder.folder()));
                }
                Err(exit)
            }
        }
    }

    fn keep(mut self, mut report: TaskReport, mut exit: Exit) -> Compared {
        let finding = self.place.finding.take();
        let found = finding.map(|finding| FoundBy { role: None, finding });
        report.summary.findings.splice(0..0, found);
        let issued = match &mut self.certifying {
            Some(certifying) => certifying.goes_on(self.place.goes_on.take()).issue(
                self.folder.folder(),
                self.id.as_str(),
                &mut report,
            ),
            None => Ok(()),
        };
        for written in [issued, write(&self.folder, &report)] {
            let Err(error) = written else { continue };
            report.errors.push(error.into());
            if exit == Exit::Done {
                exit = Exit::Environment;
                report.exit_code = exit.number();
            }
        }
        if place::is_over(&report) {
            self.place.finish();
        }
        Compared {
            report,
            exit,
            folder: self.folder,
        }
    }
}

/// Writes the report, and a file for each collection that was compared.
fn write(folder: &VerificationFolder, report: &TaskReport) -> Result<(), Error> {
    let results = &report.summary.verification;
    let names = file_names(results.iter().map(|result| result.source.as_str()));
    let files = results.iter().zip(names).map(|(result, name)| {
        let path = folder.results().join(format!("{name}.json"));
        Ok((path, json(result)?))
    });
    let files = files.collect::<Result<Vec<_>, Error>>()?;
    write_all_whole(&files).map_err(|error| fault(&folder.results(), &error))?;
    let path = folder.report();
    write_whole(&path, &json(report)?).map_err(|error| fault(&path, &error))
}

fn json(value: &impl Serialize) -> Result<Vec<u8>, Error> {
    let mut text = serde_json::to_vec_pretty(value)
        .map_err(|error| Error::internal("a report could not be written as JSON").with_cause(&error))?;
    text.push(b'\n');
    Ok(text)
}
