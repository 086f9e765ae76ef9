//! The working half: loads plugins, runs one task, and says how it ended.
//!
//! Events go to the standard output that the supervisor gave; that descriptor is set aside before any plugin is loaded,
//! so that what plugins print lands in the log and never between events.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender};
use whimbrel_plugin_api::manifest::Role;
use whimbrel_plugin_api::{Error, ErrorKind};

use super::protocol::{Command, Task, TaskKind};
use crate::config::Job;
use crate::control::Stop;
use crate::events::{Emitter, Event, Failure, Outcome, RunSummary};
use crate::loader::library::load;
use crate::loader::observe::{CallLog, Opener};
use crate::orchestrator::{self, Opened, TaskContext};

/// How often the worker says that it is alive, and looks for calls that take too long.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// After its time a call is cancelled, and has so long to return before the task is given up.
const CANCEL_GRACE: Duration = Duration::from_secs(3);

/// Runs the task that stands on standard input.
pub fn worker_main() -> ExitCode {
    let started = Instant::now();
    let Ok(events) = take_stdout() else {
        // Without a place for events nothing can be said but by the status.
        return ExitCode::FAILURE;
    };
    let emitter = Emitter::new(Box::new(events));
    let Some((task, commands)) = read_task() else {
        let error = Error::internal("the worker was started without a task");
        finish(&emitter, failed(error.into()));
        return ExitCode::FAILURE;
    };
    let stop = Stop::default();
    let calls = CallLog::new(emitter.clone());
    watch(&emitter, &calls, Duration::from_secs(task.call_timeout_secs));
    let outcome = run(task, &commands, &emitter, &calls, &stop, started);
    finish(&emitter, outcome);
    ExitCode::SUCCESS
}

fn finish(emitter: &Emitter, outcome: Outcome) {
    emitter.emit(&Event::Finished {
        outcome: Box::new(outcome),
    });
}

fn failed(failure: Failure) -> Outcome {
    Outcome::Failed {
        summary: RunSummary::default(),
        failure,
    }
}

/// The event descriptor; from here on standard output is standard error.
fn take_stdout() -> rustix::io::Result<File> {
    let events = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdout(), 3)?;
    rustix::stdio::dup2_stdout(rustix::stdio::stderr())?;
    Ok(File::from(events))
}

/// The task and the commands that follow it. The end of the input means that the supervisor is gone.
fn read_task() -> Option<(Task, Receiver<Command>)> {
    let mut input = BufReader::new(std::io::stdin());
    let mut line = Vec::new();
    input.read_until(b'\n', &mut line).ok()?;
    let task = serde_json::from_slice(&line).ok()?;
    let (sender, receiver) = crossbeam_channel::unbounded();
    std::thread::spawn(move || read_commands(input, &sender));
    Some((task, receiver))
}

fn read_commands(input: impl std::io::BufRead, sender: &Sender<Command>) {
    for line in input.split(b'\n') {
        let Some(command) = line.ok().and_then(|line| serde_json::from_slice(&line).ok()) else {
            break;
        };
        if sender.send(command).is_err() {
            break;
        }
    }
    // The channel closes here, which the receiver takes for the end of the supervisor.
}

/// Says that the worker is alive, and ends the process if a call hangs and does not heed its cancellation.
fn watch(emitter: &Emitter, calls: &std::sync::Arc<CallLog>, call_timeout: Duration) {
    let (emitter, calls) = (emitter.clone(), std::sync::Arc::clone(calls));
    std::thread::spawn(move || {
        loop {
            std::thread::park_timeout(HEARTBEAT);
            emitter.emit(&Event::Heartbeat);
            for (call_id, call) in calls.longer_than(call_timeout) {
                call.time_out();
                let given_up = Instant::now() + CANCEL_GRACE;
                while calls.is_running(call_id) && Instant::now() < given_up {
                    std::thread::park_timeout(Duration::from_millis(10));
                }
                if calls.is_running(call_id) {
                    let error = Error::new(
                        ErrorKind::Timeout,
                        "plugin.hang",
                        format!(
                            "the call did not return within {} s and did not heed its cancellation; the worker was killed",
                            call_timeout.as_secs()
                        ),
                    )
                    .with_help("`limits.call_timeout_secs` of the job allows more time");
                    finish(
                        &emitter,
                        failed(Failure::from(error).at_call(&call.plugin, call.role, call.call)),
                    );
                    // The hanging thread cannot be ended; the supervisor kills the process if this does not.
                    std::process::exit(1);
                }
            }
        }
    });
}

fn run(
    task: Task,
    commands: &Receiver<Command>,
    emitter: &Emitter,
    calls: &std::sync::Arc<CallLog>,
    stop: &Stop,
    started: Instant,
) -> Outcome {
    let mut openers: Vec<(Role, Opener, whimbrel_plugin_api::export::Description)> = Vec::new();
    for file in &task.plugins {
        let loaded = match load(&file.path) {
            Ok(loaded) => loaded,
            Err(mut error) => {
                error.message = format!(
                    "failed to load plugin `{}` from `{}`: {}",
                    file.name,
                    file.path.display(),
                    error.message
                );
                return failed(Failure::from(error).at_call(&file.name, file.role, "load"));
            }
        };
        let version = loaded.manifest.version.to_string();
        let opener = Opener::new(loaded, std::sync::Arc::clone(calls));
        let description = match opener.describe(file.role) {
            Ok(description) => description,
            Err(failure) => return failed(failure),
        };
        emitter.emit(&Event::PluginLoaded {
            role: file.role,
            name: opener.name().to_owned(),
            version,
            description: Box::new(description.clone()),
        });
        openers.push((file.role, opener, description));
    }
    let (kind, job) = match task.kind {
        TaskKind::Describe => {
            return Outcome::Done {
                summary: RunSummary::default(),
            };
        }
        TaskKind::Check { job } => (orchestrator::check as fn(TaskContext) -> Outcome, job),
        TaskKind::Run { job } => (orchestrator::run as fn(TaskContext) -> Outcome, job),
        TaskKind::Verify { job } => (orchestrator::verify as fn(TaskContext) -> Outcome, job),
    };
    if commands.recv() != Ok(Command::Proceed) {
        return Outcome::Cancelled {
            summary: RunSummary::default(),
        };
    }
    obey(commands.clone(), stop.clone(), calls);
    match context(openers, *job, emitter, stop, started) {
        Ok(context) => kind(context),
        Err(error) => failed(error.into()),
    }
}

/// Ends the task when the supervisor says so, or is gone.
fn obey(commands: Receiver<Command>, stop: Stop, calls: &std::sync::Arc<CallLog>) {
    let calls = std::sync::Arc::clone(calls);
    std::thread::spawn(move || {
        loop {
            match commands.recv() {
                Ok(Command::Proceed) => {}
                Ok(Command::Cancel) | Err(_) => {
                    stop.ask();
                    // Whoever waits in a plugin for something that may never come is woken; writers go on, to commit.
                    for (_, call) in calls.longer_than(Duration::ZERO) {
                        if call.role == Role::Source
                            && let Some(canceller) = &call.canceller
                        {
                            canceller.cancel();
                        }
                    }
                    return;
                }
            }
        }
    });
}

fn context(
    openers: Vec<(Role, Opener, whimbrel_plugin_api::export::Description)>,
    job: Job,
    emitter: &Emitter,
    stop: &Stop,
    started: Instant,
) -> Result<TaskContext, Error> {
    let of = |role: Role| {
        openers
            .iter()
            .find(|(known, _, _)| *known == role)
            .map(|(_, opener, description)| (opener.clone(), description.clone()))
            .ok_or_else(|| Error::internal(format!("the task names no {role}")))
    };
    let (source, source_says) = of(Role::Source)?;
    let (sink, sink_says) = of(Role::Sink)?;
    Ok(TaskContext {
        job,
        plugins: Opened {
            source,
            source_capabilities: source_says.source.unwrap_or_default(),
            sink,
            sink_capabilities: sink_says.sink.unwrap_or_default(),
        },
        emitter: emitter.clone(),
        stop: stop.clone(),
        started,
        summary: RunSummary::default(),
    })
}
