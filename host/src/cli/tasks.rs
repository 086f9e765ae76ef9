//! What all tasks of a job have in common: load the job, find its plugins, supervise, say how it ended.
//! Neighbours: `run` adds what is kept of a run, `supervisor` does the work, `report` words its end, `exit_code` picks
//! the code.

use std::path::Path;

use serde::Serialize;
use whimbrel_plugin_api::manifest::Role;
use whimbrel_plugin_api::{Error, Finding};

use super::certificate;
use super::event_output::EventOutput;
use super::notifying;
use super::output::{print, print_aside, print_json, print_line};
use super::{Exit, Global, JobArgs};
use crate::config::{Job, LoadedJob, Secrets, Variables, load_job, plugin_config, render};
use crate::events::{Event, Failure};
use crate::loader::{Registry, search};
use crate::report::{self, Ending, Look, PluginUsed, TaskReport};
use crate::status::Progress;
use crate::supervisor::{Ended, Observer, PluginFile, Supervised, Task, TaskKind, supervise};

/// The plugins of the searched folders.
pub fn registry(global: &Global) -> Registry {
    Registry::scan(&search::folders(
        &global.plugin_dir,
        &search::Surroundings::of_process(),
    ))
}

/// Somebody who follows a task besides progress and the event output.
pub trait Follower {
    /// Takes note of an event, which holds no secret any more.
    ///
    /// # Errors
    /// Why the task must not go on.
    fn follow(&mut self, event: &Event) -> Result<(), Error>;

    /// The plugins' own settings are in the job now, so all of its secrets are known.
    ///
    /// # Errors
    /// Why the task must not go on.
    fn job_is_complete(&mut self, _loaded: &LoadedJob) -> Result<(), Error> {
        Ok(())
    }

    /// Makes durable what it has taken note of.
    ///
    /// # Errors
    /// What keeps it from becoming durable.
    fn make_durable(&mut self) -> Result<(), Error> {
        Ok(())
    }

    /// Takes note of a line that a plugin printed.
    fn plugin_output(&mut self, _line: &str) {}

    /// What is done before the first write; only asked if the task holds there.
    ///
    /// # Errors
    /// Why nothing may be written.
    fn before_writing(&mut self, _events: &mut dyn FnMut(&Event)) -> Result<(), Error> {
        Ok(())
    }

    /// The worker process is there.
    fn worker_started(&mut self, _pid: u32) {}

    /// Events of its own since the last time, for all who follow; they hold no secret.
    fn take_events(&mut self) -> Vec<Event> {
        Vec::new()
    }
}

/// A job that is ready to be worked on.
pub struct Prepared {
    /// The job.
    pub loaded: LoadedJob,
    /// The variables that it was loaded with.
    pub variables: Variables,
    /// The libraries that it needs.
    pub plugins: Vec<PluginFile>,
    /// What these are, as far as their files say.
    pub versions: Vec<PluginUsed>,
}

/// Loads the job, lets `alter` change it, and finds its plugins, or says what is wrong.
///
/// # Errors
/// The exit code, once everything has been said.
pub fn prepare(
    global: &Global,
    args: &JobArgs,
    title: &str,
    alter: impl FnOnce(&mut LoadedJob) -> Result<(), Error>,
) -> Result<Prepared, Exit> {
    let variables = Variables::of_process();
    let mut loaded = load_job(&args.job, &args.flags.overrides(), &variables)
        .map_err(|faults| refuse(global, title, None, &faults))?;
    for finding in &loaded.findings {
        if !global.json {
            warn(finding);
        }
    }
    alter(&mut loaded).map_err(|error| refuse(global, title, Some(&loaded), &[error]))?;
    let (plugins, versions) = plugin_files(&loaded, &registry(global))
        .map_err(|faults| refuse(global, title, Some(&loaded), &faults))?;
    Ok(Prepared {
        loaded,
        variables,
        plugins,
        versions,
    })
}

/// Prints a finding of loading a job.
pub fn warn(finding: &Finding) {
    print_aside(&report::finding(finding));
}

/// Where a job uses a plugin: as what, which one, and the place of its use.
pub fn uses(job: &Job) -> Vec<(Role, &str, String)> {
    let mut uses = vec![
        (Role::Source, job.source.plugin.as_str(), "/source".to_owned()),
        (Role::Sink, job.sink.plugin.as_str(), "/sink".to_owned()),
    ];
    let listed = |index: usize| format!("/transforms/{index}");
    for (index, transform) in job.transforms.iter().enumerate() {
        uses.push((Role::Transform, &transform.plugin, listed(index)));
    }
    for (number, rule) in job.collections.iter().flatten().enumerate() {
        for (index, transform) in rule.transforms.iter().enumerate() {
            let place = format!("/collections/{number}{}", listed(index));
            uses.push((Role::Transform, &transform.plugin, place));
        }
    }
    for (index, rule) in job.rules.iter().enumerate() {
        if let Some(plugin) = &rule.plugin {
            uses.push((Role::Transform, plugin, format!("/rules/{index}")));
        }
    }
    for (index, notifier) in job.notifiers.iter().enumerate() {
        uses.push((Role::Notifier, &notifier.plugin, format!("/notifiers/{index}")));
    }
    uses
}

/// The libraries for the roles that move records; each is loaded once for a role.
fn plugin_files(
    loaded: &LoadedJob,
    registry: &Registry,
) -> Result<(Vec<PluginFile>, Vec<PluginUsed>), Vec<Error>> {
    let mut faults = Vec::new();
    let mut versions = Vec::new();
    let mut plugins: Vec<PluginFile> = Vec::new();
    for (role, plugin, place) in uses(&loaded.job) {
        match registry.find(plugin, Some(role)) {
            Ok((path, manifest)) => {
                let is_known = plugins
                    .iter()
                    .any(|known| known.role == role && known.name == plugin);
                if !is_known {
                    versions.push(PluginUsed {
                        role,
                        name: plugin.to_owned(),
                        version: manifest.version.to_string(),
                        lacks_lanes: false,
                    });
                    plugins.push(PluginFile {
                        role,
                        name: plugin.to_owned(),
                        path: path.to_owned(),
                    });
                }
            }
            Err(error) => faults.push(error.with_place(loaded.place(&format!("{place}/plugin")))),
        }
    }
    if faults.is_empty() {
        Ok((plugins, versions))
    } else {
        Err(faults)
    }
}

/// What became of a task that was begun.
pub struct Executed {
    /// How it ended.
    pub supervised: Supervised,
    /// The plugins that took part.
    pub plugins: Vec<PluginUsed>,
    /// The job, with what the plugins' own variables have added.
    pub loaded: LoadedJob,
    /// Where events go.
    pub events: EventOutput,
}

/// Works on a job.
///
/// # Errors
/// The exit code, once everything has been said.
pub fn execute(
    global: &Global,
    title: &str,
    prepared: Prepared,
    kind: TaskKind,
    holds_before_writing: bool,
    events: EventOutput,
    followers: Vec<&mut dyn Follower>,
) -> Result<Executed, Exit> {
    let Prepared {
        loaded,
        variables,
        plugins,
        ..
    } = prepared;
    let task = Task {
        plugins: plugins
            .into_iter()
            .filter(|file| file.role != Role::Notifier)
            .collect(),
        kind,
        call_timeout_secs: loaded.job.limits.call_timeout_secs.into(),
        holds_before_writing,
        call_board: None,
    };
    let folder = loaded.folder.clone();
    let mut observer = TaskObserver {
        secrets: loaded.secrets.clone(),
        loaded,
        variables,
        progress: Progress::new(title, global.json || events.is_on_stdout()),
        quiet: global.json,
        plugins: Vec::new(),
        events,
        followers,
    };
    let folder = if folder.as_os_str().is_empty() {
        Path::new(".")
    } else {
        &folder
    };
    let supervised = supervise(&task, folder, &mut observer);
    observer.progress.end();
    let TaskObserver {
        loaded,
        plugins,
        events,
        ..
    } = observer;
    match supervised {
        Ok(supervised) => Ok(Executed {
            supervised,
            plugins,
            loaded,
            events,
        }),
        Err(error) => Err(refuse(global, title, Some(&loaded), &[error])),
    }
}

/// Runs a task of which nothing is kept, from its file to its exit code.
pub fn run_task(global: &Global, args: &JobArgs, title: &str, kind: fn(Box<Job>) -> TaskKind) -> Exit {
    match task_report(global, args, title, kind) {
        Ok((report, exit)) => say(global, &report, exit, &look(args)),
        Err(exit) => exit,
    }
}

/// How the end of a task of `args` is shown.
pub fn look(args: &JobArgs) -> Look {
    Look::of_stdout(&args.job.display().to_string())
}

/// As [`run_task`], up to what there is to say.
///
/// # Errors
/// The exit code, once everything has been said.
pub fn task_report(
    global: &Global,
    args: &JobArgs,
    title: &str,
    kind: fn(Box<Job>) -> TaskKind,
) -> Result<(TaskReport, Exit), Exit> {
    let mut prepared = prepare(global, args, title, |_| Ok(()))?;
    let kind = kind(Box::new(prepared.loaded.job.clone()));
    if matches!(kind, TaskKind::Check { .. } | TaskKind::Plan { .. }) {
        // What would keep a run from beginning is to be known before.
        notifying::configure(global, title, &mut prepared)?;
        certificate::signing_key(&prepared.loaded)
            .map_err(|error| refuse(global, title, Some(&prepared.loaded), &[error]))?;
    }
    let events =
        EventOutput::create(args).map_err(|error| refuse(global, title, Some(&prepared.loaded), &[error]))?;
    let executed = execute(global, title, prepared, kind, false, events, Vec::new())?;
    report_of(global, title, &executed)
}

/// What there is to say of a task that was begun.
///
/// # Errors
/// The exit code, if the job turned out to be wrong and that has been said.
pub fn report_of(global: &Global, title: &str, executed: &Executed) -> Result<(TaskReport, Exit), Exit> {
    let Executed {
        supervised,
        plugins,
        loaded,
        ..
    } = executed;
    let ended = match &supervised.ended {
        Ended::Config(faults) => return Err(refuse(global, title, Some(loaded), faults)),
        Ended::Outcome(outcome) => Ok(loaded.secrets.scrub_all((**outcome).clone())),
        Ended::Lost(failure) => Err(loaded.secrets.scrub_all((**failure).clone())),
    };
    let ending = match &ended {
        Ok(outcome) => Ending::Outcome(outcome),
        Err(failure) => Ending::Lost(failure),
    };
    let exit = Exit::of(supervised);
    let mut report = TaskReport::new(title, &loaded.job, plugins.clone(), ending, exit.number());
    report
        .errors
        .iter_mut()
        .for_each(|failure| place_in_job(failure, loaded));
    Ok((report, exit))
}

/// Prints the end of a task.
pub fn say(global: &Global, report: &TaskReport, exit: Exit, look: &Look) -> Exit {
    say_as(global, report, exit, look, |report| report::text(report, look))
}

/// As [`say`], with words of the command's own if it was done.
pub fn say_as(
    global: &Global,
    report: &TaskReport,
    exit: Exit,
    look: &Look,
    text: impl Fn(&TaskReport) -> String,
) -> Exit {
    if global.json {
        print_json(report);
    } else {
        if report.outcome == "done" {
            print(&text(report));
        } else {
            print(&report::text(report, look));
        }
        let troubles = report::troubles(report);
        if !troubles.is_empty() {
            print_aside(&troubles);
        }
    }
    exit
}

struct TaskObserver<'a> {
    secrets: Secrets,
    loaded: LoadedJob,
    variables: Variables,
    progress: Progress,
    quiet: bool,
    plugins: Vec<PluginUsed>,
    events: EventOutput,
    followers: Vec<&'a mut dyn Follower>,
}

impl TaskObserver<'_> {
    fn tell(&mut self, event: &Event) -> Result<(), Error> {
        self.events.add(event);
        self.progress.observe(event);
        let mut seen = Ok(());
        for follower in &mut self.followers {
            // All of them are told, even if one cannot go on.
            seen = seen.and(follower.follow(event));
        }
        let followers = self.followers.iter_mut();
        let own: Vec<Event> = followers.flat_map(|follower| follower.take_events()).collect();
        for event in &own {
            self.events.add(event);
            self.progress.observe(event);
            for follower in &mut self.followers {
                seen = seen.and(follower.follow(event));
            }
        }
        seen
    }
}

impl Observer for TaskObserver<'_> {
    fn loaded(&mut self, events: &[Event]) -> Result<Option<Box<Job>>, Vec<Error>> {
        let mut faults = Vec::new();
        let known = self.loaded.findings.len();
        for event in events {
            let Event::PluginLoaded {
                role,
                name,
                version,
                description,
            } = event
            else {
                continue;
            };
            let sink_keeps = description.sink.as_ref().is_some_and(|sink| sink.lanes);
            self.plugins.push(PluginUsed {
                role: *role,
                name: name.clone(),
                version: version.clone(),
                lacks_lanes: *role == Role::Sink && !(sink_keeps && self.loaded.job.import.checkpoints),
            });
            let places: Vec<String> = uses(&self.loaded.job)
                .into_iter()
                .filter(|(used_as, plugin, _)| used_as == role && *plugin == name.as_str())
                .map(|(_, _, place)| format!("{place}/config"))
                .collect();
            for place in places {
                faults.extend(plugin_config::complete(
                    &description.config_schema,
                    &mut self.loaded,
                    &place,
                    &self.variables,
                ));
            }
        }
        if !faults.is_empty() {
            return Err(faults);
        }
        if !self.quiet {
            self.loaded.findings[known..].iter().for_each(warn);
        }
        for follower in &mut self.followers {
            follower
                .job_is_complete(&self.loaded)
                .map_err(|error| vec![error])?;
        }
        for event in events {
            self.tell(event).map_err(|error| vec![error])?;
        }
        Ok(Some(Box::new(self.loaded.job.clone())))
    }

    fn before_writing(&mut self) -> Result<(), Error> {
        let (events, progress) = (&mut self.events, &mut self.progress);
        self.followers.iter_mut().try_for_each(|follower| {
            follower.before_writing(&mut |event| {
                events.add(event);
                progress.observe(event);
            })
        })
    }

    fn worker_started(&mut self, pid: u32) {
        for follower in &mut self.followers {
            follower.worker_started(pid);
        }
    }

    fn observe(&mut self, event: &Event) -> Result<(), Error> {
        if self.secrets.is_empty() {
            self.tell(event)
        } else {
            let scrubbed = self.secrets.scrub_all(event.clone());
            self.tell(&scrubbed)
        }
    }

    fn make_durable(&mut self) -> Result<(), Error> {
        let mut followers = self.followers.iter_mut();
        followers.try_for_each(|follower| follower.make_durable())
    }

    fn plugin_output(&mut self, line: &str) {
        let line = self.secrets.scrub(line);
        self.progress.plugin_output(&line);
        for follower in &mut self.followers {
            follower.plugin_output(&line);
        }
    }
}

/// The JSON of a task that was not begun.
#[derive(Serialize)]
struct RefusedJson<'a> {
    command: &'a str,
    outcome: &'a str,
    exit_code: u8,
    #[serde(skip_serializing_if = "Option::is_none")]
    job: Option<&'a str>,
    errors: &'a [Error],
}

/// Says why a task was not begun.
pub fn refuse(global: &Global, title: &str, loaded: Option<&LoadedJob>, faults: &[Error]) -> Exit {
    let exit = Exit::of_refusal(faults);
    let faults: Vec<Error> = match loaded {
        Some(loaded) => faults
            .iter()
            .map(|fault| loaded.secrets.scrub_error(fault.clone()))
            .collect(),
        None => faults.to_vec(),
    };
    if global.json {
        let refused = RefusedJson {
            command: title,
            outcome: match exit {
                Exit::Failed => "failed",
                _ => "refused",
            },
            exit_code: exit.number(),
            job: loaded.map(|loaded| loaded.job.name.as_str()),
            errors: &faults,
        };
        if global.json_lines {
            print_line(&serde_json::json!(refused));
        } else {
            print_json(&refused);
        }
    } else {
        print_aside(&render(&faults));
    }
    exit
}

/// A plugin names a place in its own config (`config.url`); a person looks for it in the job file.
fn place_in_job(failure: &mut Failure, loaded: &LoadedJob) {
    let (Some(role), Some(plugin)) = (failure.role, failure.plugin.clone()) else {
        return;
    };
    let Some(place) = failure
        .error
        .place
        .as_deref()
        .filter(|place| *place == "config" || place.starts_with("config."))
    else {
        return;
    };
    let own = uses(&loaded.job)
        .into_iter()
        .find(|(used_as, name, _)| *used_as == role && *name == plugin);
    if let Some((_, _, pointer)) = own {
        let inside = place.replace(['.', '['], "/").replace(']', "");
        failure.error.place = Some(loaded.place(&format!("{pointer}/{inside}")));
    }
}
