//! What `run`, `check` and `verify` have in common: load the job, find its plugins, supervise, say how it ended.
//! Neighbours: `supervisor` does the work, `report` words its end, `exit_code` picks the code.

use std::path::Path;

use serde::Serialize;
use whimbrel_plugin_api::Error;
use whimbrel_plugin_api::manifest::Role;

use super::event_file::EventFile;
use super::output::{print, print_aside, print_json};
use super::{Exit, Global, JobArgs};
use crate::config::{LoadedJob, load_job, plugin_config, render};
use crate::events::{Event, Failure};
use crate::loader::{Registry, search};
use crate::report::{self, Ending, PluginUsed, TaskReport};
use crate::status::Progress;
use crate::supervisor::{Ended, Observer, PluginFile, Supervised, Task, TaskKind, supervise};

/// The plugins of the searched folders.
pub fn registry(global: &Global) -> Registry {
    Registry::scan(&search::folders(
        &global.plugin_dir,
        &search::Surroundings::of_process(),
    ))
}

/// Runs a task of a job from its file to its exit code.
pub fn run_task(
    global: &Global,
    args: &JobArgs,
    title: &str,
    kind: fn(Box<crate::config::Job>) -> TaskKind,
) -> Exit {
    let loaded = match load_job(&args.job) {
        Ok(loaded) => loaded,
        Err(faults) => return refuse(global, title, None, &faults),
    };
    let registry = registry(global);
    let task = match task(&loaded, &registry, kind) {
        Ok(task) => task,
        Err(faults) => return refuse(global, title, Some(&loaded), &faults),
    };
    let events = match EventFile::create(args.events_file.as_deref()) {
        Ok(events) => events,
        Err(error) => return refuse(global, title, Some(&loaded), &[error]),
    };
    let mut observer = TaskObserver {
        loaded: &loaded,
        progress: Progress::new(title, global.json),
        plugins: Vec::new(),
        events,
    };
    let folder = if loaded.folder.as_os_str().is_empty() {
        Path::new(".")
    } else {
        &loaded.folder
    };
    let supervised = match supervise(&task, folder, &mut observer) {
        Ok(supervised) => supervised,
        Err(error) => return refuse(global, title, Some(&loaded), &[error]),
    };
    observer.progress.end();
    let plugins = observer.plugins;
    say(global, title, &loaded, plugins, &supervised)
}

fn task(
    loaded: &LoadedJob,
    registry: &Registry,
    kind: fn(Box<crate::config::Job>) -> TaskKind,
) -> Result<Task, Vec<Error>> {
    let job = &loaded.job;
    let mut faults = Vec::new();
    let mut plugins = Vec::new();
    for (role, plugin, pointer) in [
        (Role::Source, &job.source.plugin, "/source/plugin"),
        (Role::Sink, &job.sink.plugin, "/sink/plugin"),
    ] {
        match registry.find(plugin, Some(role)) {
            Ok((path, _)) => plugins.push(PluginFile {
                role,
                name: plugin.clone(),
                path: path.to_owned(),
            }),
            Err(error) => faults.push(error.with_place(format!(
                "{}:{}",
                loaded.path.display(),
                loaded.spans.value(pointer)
            ))),
        }
    }
    if !faults.is_empty() {
        return Err(faults);
    }
    Ok(Task {
        plugins,
        kind: kind(Box::new(job.clone())),
        call_timeout_secs: job.limits.call_timeout_secs.into(),
    })
}

struct TaskObserver<'a> {
    loaded: &'a LoadedJob,
    progress: Progress,
    plugins: Vec<PluginUsed>,
    events: EventFile,
}

impl Observer for TaskObserver<'_> {
    fn loaded(&mut self, events: &[Event]) -> Result<(), Vec<Error>> {
        let mut faults = Vec::new();
        for event in events {
            self.events.add(event);
            if let Event::PluginLoaded {
                role,
                name,
                version,
                description,
            } = event
            {
                self.plugins.push(PluginUsed {
                    role: *role,
                    name: name.clone(),
                    version: version.clone(),
                });
                let pointer = format!("/{}/config", role.name());
                faults.extend(plugin_config::validate(
                    &description.config_schema,
                    self.loaded,
                    &pointer,
                ));
            }
        }
        if faults.is_empty() { Ok(()) } else { Err(faults) }
    }

    fn observe(&mut self, event: &Event) {
        self.events.add(event);
        self.progress.observe(event);
    }

    fn plugin_output(&mut self, line: &str) {
        self.progress.plugin_output(line);
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

fn refuse(global: &Global, title: &str, loaded: Option<&LoadedJob>, faults: &[Error]) -> Exit {
    let is_environment = faults.iter().all(|fault| fault.code == "host.worker_start");
    let exit = if is_environment {
        Exit::Environment
    } else {
        Exit::Config
    };
    if global.json {
        print_json(&RefusedJson {
            command: title,
            outcome: "refused",
            exit_code: exit.number(),
            job: loaded.map(|loaded| loaded.job.name.as_str()),
            errors: faults,
        });
    } else {
        print_aside(&render(faults));
    }
    exit
}

fn say(
    global: &Global,
    title: &str,
    loaded: &LoadedJob,
    plugins: Vec<PluginUsed>,
    supervised: &Supervised,
) -> Exit {
    let ending = match &supervised.ended {
        Ended::Config(faults) => return refuse(global, title, Some(loaded), faults),
        Ended::Outcome(outcome) => Ending::Outcome(outcome),
        Ended::Lost(failure) => Ending::Lost(failure),
    };
    let exit = Exit::of(supervised);
    let mut report = TaskReport::new(title, &loaded.job, plugins, ending, exit.number());
    report
        .errors
        .iter_mut()
        .for_each(|failure| place_in_job(failure, loaded));
    if global.json {
        print_json(&report);
    } else {
        print(&report::text(&report));
        let troubles = report::troubles(&report);
        if !troubles.is_empty() {
            print_aside(&troubles);
        }
    }
    exit
}

/// A plugin names a place in its own config (`config.url`); a person looks for it in the job file.
fn place_in_job(failure: &mut Failure, loaded: &LoadedJob) {
    let Some(role) = failure.role else {
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
    let pointer = format!("/{}/{}", role.name(), place.replace('.', "/"));
    failure.error.place = Some(format!(
        "{}:{}",
        loaded.path.display(),
        loaded.spans.value(&pointer)
    ));
}
