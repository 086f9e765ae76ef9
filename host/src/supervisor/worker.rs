//! The working half: loads plugins, runs one task, and says how it ended.
//!
//! Events go to the standard output that the supervisor gave; that descriptor is set aside before any plugin is loaded,
//! so that what plugins print lands in the log and never between events.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender};
use serde_json::Value;
use whimbrel_plugin_api::manifest::Role;
use whimbrel_plugin_api::{Error, ErrorKind};

use super::notify_worker::{self, NotifierSending};
use super::protocol::{Command, Task, TaskKind};
use crate::barrier::Barrier;
use crate::canonical_json::canonical_json;
use crate::config::{Job, Side, is_same_place, lasting, source_as_written, system_named};
use crate::control::Stop;
use crate::events::{Emitter, Event, Failure, Outcome, RunSummary};
use crate::loader::call_board::CallBoard;
use crate::loader::library::load;
use crate::loader::observe::{CallLog, Opener};
use crate::orchestrator::{self, Opened, RunOptions, TaskContext};
use crate::pipeline::breaker::Breaker;
use crate::pipeline::budget::Budget;
use crate::pipeline::pause::Pause;
use crate::transform::Transforms;

/// How often the worker says that it is alive, and looks for calls that take too long.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// After its time a call is cancelled, and has so long to return before the task is given up.
const CANCEL_GRACE: Duration = Duration::from_secs(3);

/// So long after a wish to end may writers take to commit what is open. Then their calls are cancelled too, so that the task ends
/// with a report before the supervisor ends the process, which it does after 10 s.
const COMMIT_GRACE: Duration = Duration::from_secs(8);
/// How often calls are looked for that follow a cancelled one.
const CANCEL_INTERVAL: Duration = Duration::from_millis(100);

/// Part of the memory budget that records on their way may take; the rest is for plugins and the program itself.
const LINK_SHARE: u64 = 4;
/// The system that the source's config names, among what a copy is made from; its digest is as short as the others there.
const SOURCE_SYSTEM: &str = "source system";
/// What the config of the source is called among them.
const SOURCE: &str = "source";

/// Runs the task that stands on standard input.
pub fn worker_main() -> ExitCode {
    let started = Instant::now();
    let Ok(events) = take_stdout() else {
        // Without a place for events nothing can be said but by the status.
        return ExitCode::FAILURE;
    };
    let emitter = Emitter::new(Box::new(events));
    let Some((task, commands, barrier)) = read_task() else {
        let error = Error::internal("the worker was started without a task");
        finish(&emitter, failed(error.into()));
        return ExitCode::FAILURE;
    };
    let stop = Stop::default();
    // Without the board every call is an event, which is slower and says the same.
    let board = task
        .call_board
        .as_deref()
        .and_then(|path| CallBoard::open(path).ok());
    let calls = CallLog::new(emitter.clone(), board);
    watch(&emitter, &calls, Duration::from_secs(task.call_timeout_secs));
    let outcome = run(task, &commands, barrier, &emitter, &calls, &stop, started);
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
fn read_task() -> Option<(Task, Receiver<Command>, Barrier)> {
    let mut input = BufReader::new(std::io::stdin());
    let mut line = Vec::new();
    input.read_until(b'\n', &mut line).ok()?;
    let task = serde_json::from_slice(&line).ok()?;
    let (sender, receiver) = crossbeam_channel::unbounded();
    let barrier = Barrier::answered();
    let answered = barrier.clone();
    std::thread::spawn(move || {
        read_commands(input, &sender, &answered);
        answered.close();
    });
    Some((task, receiver, barrier))
}

/// Answers of the barrier do not wait behind other commands: while the task ends, nobody takes these any more.
fn read_commands(input: impl std::io::BufRead, sender: &Sender<Command>, barrier: &Barrier) {
    for line in input.split(b'\n') {
        let Some(command) = line.ok().and_then(|line| serde_json::from_slice(&line).ok()) else {
            break;
        };
        if let Command::Passed { number, failure } = command {
            match failure {
                None => barrier.passed(number),
                Some(error) => barrier.refuse(*error),
            }
            continue;
        }
        if sender.send(command).is_err() {
            break;
        }
    }
    // The channel closes here, which the receiver takes for the end of the supervisor.
}

/// Says that the worker is alive, and ends the process if a call hangs and does not heed its cancellation.
fn watch(emitter: &Emitter, calls: &Arc<CallLog>, call_timeout: Duration) {
    let (emitter, calls) = (emitter.clone(), Arc::clone(calls));
    std::thread::spawn(move || {
        loop {
            std::thread::park_timeout(HEARTBEAT);
            emitter.emit(&Event::Heartbeat {
                memory_bytes: crate::phases::post_migration::memory_bytes(),
            });
            for (call_id, call, limit) in calls.overdue(call_timeout) {
                calls.time_out(call_id, limit);
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
                            limit.time.as_secs_f64()
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
    barrier: Barrier,
    emitter: &Emitter,
    calls: &Arc<CallLog>,
    stop: &Stop,
    started: Instant,
) -> Outcome {
    let openers = match load_all(&task, emitter, calls) {
        Ok(openers) => openers,
        Err(failure) => return failed(*failure),
    };
    let (kind, job, options) = match task.kind {
        TaskKind::Describe => {
            return Outcome::Done {
                summary: RunSummary::default(),
            };
        }
        TaskKind::Notify { notifiers, checks } => {
            let jobs = notifiers.into_iter().enumerate().filter_map(|(number, job)| {
                let of_job =
                    |(role, opener, _): &&Loaded| *role == Role::Notifier && opener.name() == job.plugin;
                let opener = openers.iter().find(of_job)?.1.clone();
                Some(NotifierSending::new(number, opener, job.config, emitter.clone()))
            });
            notify_worker::send_all(jobs.collect(), checks, commands);
            return Outcome::Done {
                summary: RunSummary::default(),
            };
        }
        TaskKind::Check { job } => (orchestrator::check as Kind, job, RunOptions::default()),
        TaskKind::Plan { job } => (orchestrator::plan as Kind, job, RunOptions::default()),
        TaskKind::Run { job, options } => (orchestrator::run as Kind, job, options),
        TaskKind::Verify { job, options } => (orchestrator::verify as Kind, job, options),
        TaskKind::Replay { job, options } => (orchestrator::replay as Kind, job, options),
        TaskKind::Stats { job } => (orchestrator::stats as Kind, job, RunOptions::default()),
        TaskKind::Clear { job, options } => (orchestrator::clear as Kind, job, options),
    };
    let Ok(Command::Proceed { job: completed }) = commands.recv() else {
        return Outcome::Cancelled {
            summary: RunSummary::default(),
        };
    };
    let job = completed.unwrap_or(job);
    let gate = obey(commands.clone(), stop.clone(), calls);
    let parts = Parts {
        openers,
        job: *job,
        options,
        barrier,
        gate: task.holds_before_writing.then_some(gate),
    };
    match context(parts, emitter, calls, stop, started) {
        Ok(context) => {
            calls.limit_transactions(Duration::from_millis(context.job.import.transaction_timeout_ms));
            look_after(&context);
            kind(context)
        }
        Err(error) => failed(error.into()),
    }
}

/// A library that was loaded for a role, and what it says of itself.
type Loaded = (Role, Opener, whimbrel_plugin_api::export::Description);

/// Loads the libraries of the task and says what they are.
fn load_all(task: &Task, emitter: &Emitter, calls: &Arc<CallLog>) -> Result<Vec<Loaded>, Box<Failure>> {
    let mut openers = Vec::new();
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
                return Err(Box::new(
                    Failure::from(error).at_call(&file.name, file.role, "load"),
                ));
            }
        };
        let version = loaded.manifest.version.to_string();
        let opener = Opener::new(loaded, Arc::clone(calls));
        let description = opener.describe(file.role).map_err(Box::new)?;
        emitter.emit(&Event::PluginLoaded {
            role: file.role,
            name: opener.name().to_owned(),
            version,
            description: Box::new(description.clone()),
        });
        openers.push((file.role, opener, description));
    }
    Ok(openers)
}

type Kind = fn(TaskContext) -> Outcome;

/// Cancels the calls under way, of sources or of all.
fn cancel(calls: &CallLog, sources_only: bool) {
    for (_, call) in calls.longer_than(Duration::ZERO) {
        if (call.role == Role::Source || !sources_only)
            && let Some(canceller) = &call.canceller
        {
            canceller.cancel();
        }
    }
}

/// Ends the task when the supervisor says so, or is gone. What it answers opens at the next `Proceed`.
fn obey(commands: Receiver<Command>, stop: Stop, calls: &Arc<CallLog>) -> Receiver<()> {
    let calls = Arc::clone(calls);
    let (open, gate) = crossbeam_channel::bounded(1);
    std::thread::spawn(move || {
        loop {
            match commands.recv() {
                Ok(Command::Notify { .. } | Command::Hurry | Command::Passed { .. }) => {}
                // One that nobody waits for finds the channel full, which is as well.
                Ok(Command::Proceed { .. }) => drop(open.try_send(())),
                Ok(Command::Cancel) | Err(_) => {
                    stop.ask();
                    // Whoever waits at the gate learns that it will not open.
                    drop(open);
                    // Whoever waits in a plugin for something that may never come is woken; writers go on, to commit.
                    cancel(&calls, true);
                    let until = Instant::now() + COMMIT_GRACE;
                    while let Some(left) = until.checked_duration_since(Instant::now()) {
                        std::thread::park_timeout(left);
                    }
                    // Further calls may follow the one that was cancelled; the process ends when there are none.
                    loop {
                        cancel(&calls, false);
                        std::thread::park_timeout(CANCEL_INTERVAL);
                    }
                }
            }
        }
    });
    gate
}

/// Says now and then what the worker takes up, for as long as the process lives.
fn look_after(context: &TaskContext) {
    let (emitter, budget) = (context.emitter.clone(), context.budget.clone());
    let interval = Duration::from_millis(context.job.limits.health_check_interval_ms);
    std::thread::spawn(move || {
        let never = Stop::default();
        loop {
            emitter.emit(&Event::Health {
                memory_bytes: crate::phases::post_migration::memory_bytes(),
                waiting_bytes: budget.spent_bytes(),
            });
            never.wait(interval);
        }
    });
}

struct Parts {
    openers: Vec<Loaded>,
    job: Job,
    options: RunOptions,
    barrier: Barrier,
    gate: Option<Receiver<()>>,
}

fn context(
    parts: Parts,
    emitter: &Emitter,
    calls: &Arc<CallLog>,
    stop: &Stop,
    started: Instant,
) -> Result<TaskContext, Error> {
    let Parts {
        openers,
        job,
        options,
        barrier,
        gate,
    } = parts;
    let of = |role: Role| {
        openers
            .iter()
            .find(|(known, _, _)| *known == role)
            .map(|(_, opener, description)| (opener.clone(), description.clone()))
            .ok_or_else(|| Error::internal(format!("the task names no {role}")))
    };
    let (source, source_says) = of(Role::Source)?;
    let (sink, sink_says) = of(Role::Sink)?;
    let transforms = openers
        .iter()
        .filter(|(role, _, _)| *role == Role::Transform)
        .map(|(_, opener, _)| (opener.name().to_owned(), opener.clone()));
    let source_version = format!("{} {}", source.name(), source.version());
    let is_in_place = is_same_place(
        &Side {
            plugin: &job.source.plugin,
            schema: &source_says.config_schema,
            config: &job.source.config,
        },
        &Side {
            plugin: &job.sink.plugin,
            schema: &sink_says.config_schema,
            config: &job.sink.config,
        },
    );
    let source_lasting = lasting(&source_says.config_schema, &job.source.config);
    let mut options = options;
    if !options.made_from.is_empty() {
        // What the plugins' own variables have added is in the job by now.
        let schema = &source_says.config_schema;
        let named = system_named(schema, &source_lasting);
        let digest = blake3::hash(canonical_json(&named).as_bytes()).to_hex();
        options
            .made_from
            .insert(SOURCE_SYSTEM.to_owned(), digest[..16].to_owned());
        if let Value::Object(written) = &options.source_written {
            let written = Value::Object(lasting(schema, written));
            let counts_as = source_as_written(&job.source.plugin, &written);
            options.made_from.insert(SOURCE.to_owned(), counts_as);
        }
    }
    let mut sink_capabilities = sink_says.sink.unwrap_or_default();
    sink_capabilities.lanes &= job.import.checkpoints;
    Ok(TaskContext {
        breaker: Arc::new(Breaker::new(job.import.breaker)),
        budget: Budget::new(u64::from(job.limits.memory_mb) * 1024 * 1024 / LINK_SHARE),
        pause: Arc::new(Pause::new(
            emitter,
            stop,
            Duration::from_millis(job.import.pause_max_ms),
        )),
        job,
        options,
        is_in_place,
        gate,
        barrier,
        calls: Arc::clone(calls),
        plugins: Opened {
            source,
            source_capabilities: source_says.source.unwrap_or_default(),
            sink,
            sink_capabilities,
            transforms: Transforms::new(transforms),
            source_version,
            source_lasting,
        },
        emitter: emitter.clone(),
        stop: stop.clone(),
        started,
        summary: RunSummary::default(),
    })
}
