//! `whimbrel daemon`: the process that runs the jobs of a settings file when they are due.
//!
//! The work is in [`crate::scheduler`]; here is how it is started, seen, told to read its files again, and ended.

use std::fs::File;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use clap::{Args, Subcommand};
use rustix::process::Signal;
use serde::Serialize;
use whimbrel_plugin_api::{Error, ErrorKind};

use super::output::{print, print_aside, print_json, print_line};
use super::tasks::refuse;
use super::{Exit, Global};
use crate::config::{SETTINGS_FILE, Schedules, Variables, load_schedules, render};
use crate::report::PlainTable;
use crate::report::figures::printable;
use crate::scheduler::{Daemon, DaemonEvent, Seen, seen};
use crate::workspace::{fault, open_private};

/// What a daemon in the background is given to come up, and one that is asked to end to do so beyond the drain of its runs.
const WAIT_MAX: Duration = Duration::from_secs(30);
/// How often it is looked at; nobody tells of it across processes.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);
/// Where a daemon in the background writes.
const LOG_FILE: &str = "daemon.log";

/// What is done with the daemon.
#[derive(Subcommand)]
pub enum DaemonCommand {
    /// Run the jobs of the settings file when they are due, in the background.
    Start(StartArgs),
    /// End the daemon; its runs end in good order first and can be resumed.
    Stop(DaemonArgs),
    /// Say what the daemon will do and what it is doing.
    Status(DaemonArgs),
    /// Have the daemon read its files again; if anything in them is wrong, it goes on as before.
    Reload(DaemonArgs),
}

/// How the daemon is started.
#[derive(Args)]
pub struct StartArgs {
    #[command(flatten)]
    daemon: DaemonArgs,
    /// Stay in the foreground and say there what happens, one JSON object a line with `--json`.
    #[arg(long)]
    no_detach: bool,
}

/// Which daemon.
#[derive(Args)]
pub struct DaemonArgs {
    /// The settings file with the schedules.
    #[arg(long, value_name = "FILE", default_value = SETTINGS_FILE)]
    settings: PathBuf,
}

#[derive(Serialize)]
struct StatusJson<'a> {
    command: &'a str,
    is_running: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    daemon: Option<&'a Seen>,
}

/// Does what is asked.
pub fn daemon(global: &Global, command: &DaemonCommand) -> Exit {
    let (title, args) = match command {
        DaemonCommand::Start(args) => ("daemon start", &args.daemon),
        DaemonCommand::Stop(args) => ("daemon stop", args),
        DaemonCommand::Status(args) => ("daemon status", args),
        DaemonCommand::Reload(args) => ("daemon reload", args),
    };
    let variables = Variables::of_process();
    let done = match command {
        DaemonCommand::Start(start) => load_schedules(&args.settings, &variables).and_then(|schedules| {
            let begun = if start.no_detach {
                stay(global, schedules, &variables)
            } else {
                detach(global, &args.settings, &schedules)
            };
            begun.map_err(|error| vec![error])
        }),
        DaemonCommand::Stop(_) => {
            found(args).and_then(|(folder, seen)| stop(global, &folder, &seen).map_err(|error| vec![error]))
        }
        DaemonCommand::Status(_) => Ok(status(global, title, args)),
        DaemonCommand::Reload(_) => found(args).and_then(|(folder, seen)| reload(global, &folder, &seen)),
    };
    done.unwrap_or_else(|faults| refuse(global, title, None, &faults))
}

/// Runs as the daemon until a signal ends it.
fn stay(global: &Global, schedules: Schedules, variables: &Variables) -> Result<Exit, Error> {
    let json = global.json;
    let mut tell = |event: &DaemonEvent| {
        if json {
            match serde_json::to_value(event) {
                Ok(value) => print_line(&value),
                Err(error) => print_aside(&format!("an event could not be written as JSON: {error}\n")),
            }
        } else {
            print(&format!("{}\n", words(event)));
        }
    };
    let mut arguments = Vec::new();
    for folder in &global.plugin_dir {
        arguments.extend(["--plugin-dir".to_owned(), folder.display().to_string()]);
    }
    let daemon = Daemon::new(schedules, arguments, variables, &mut tell)?;
    daemon.run().map(Exit::Signal)
}

fn words(event: &DaemonEvent) -> String {
    match event {
        DaemonEvent::Started { pid, schedule_count } => {
            format!("started as process {pid}, schedules: {schedule_count}")
        }
        DaemonEvent::Reloaded { schedule_count } => format!("reloaded, schedules: {schedule_count}"),
        DaemonEvent::Kept { errors } => {
            format!(
                "the files are wrong, nothing of them was taken over\n{}",
                render(errors).trim_end()
            )
        }
        DaemonEvent::Fired {
            schedule,
            due,
            pid,
            log,
        } => format!(
            "`{schedule}`, due {due}: process {pid}, output in `{}`",
            printable(&log.display().to_string())
        ),
        DaemonEvent::Skipped { schedule, due } => {
            format!("`{schedule}`, due {due}: its last run still goes on, nothing was started")
        }
        DaemonEvent::Failed { error, .. } => render(std::slice::from_ref(error)).trim_end().to_owned(),
        DaemonEvent::Ended { schedule, exit_code } => {
            format!("`{schedule}` ended with exit code {exit_code}")
        }
        DaemonEvent::Stopping { running_count } => format!("ends, runs that end first: {running_count}"),
    }
}

/// Starts the daemon as a process that outlives this one, and waits until it has its place.
fn detach(global: &Global, settings: &Path, schedules: &Schedules) -> Result<Exit, Error> {
    let folder = &schedules.working_dir;
    if let Some(seen) = seen(folder) {
        let text = format!(
            "a daemon runs already, process {} on `{}`",
            seen.process.pid, seen.process.host
        );
        return Err(Error::new(ErrorKind::Exists, "schedule.daemon_running", text)
            .with_help("`whimbrel daemon reload` has it read its files again"));
    }
    std::fs::create_dir_all(folder).map_err(|error| fault(folder, &error))?;
    let path = folder.join(LOG_FILE);
    let log = open_private(&path, true).map_err(|error| fault(&path, &error))?;
    let pid = start_detached(global, settings, log).map_err(|error| {
        Error::new(
            ErrorKind::Unavailable,
            "schedule.not_started",
            "the daemon could not be started",
        )
        .with_cause(&error)
    })?;
    let begun = Instant::now();
    while begun.elapsed() < WAIT_MAX {
        if let Some(seen) = seen(folder).filter(|seen| seen.process.pid == pid) {
            say_status(global, "daemon start", Some(&seen));
            return Ok(Exit::Done);
        }
        std::thread::sleep(LOOK_INTERVAL);
    }
    let text = format!("the daemon, process {pid}, has not come up");
    Err(Error::new(ErrorKind::Timeout, "schedule.not_started", text)
        .with_help(format!("`{}` has what it said", path.display())))
}

fn start_detached(global: &Global, settings: &Path, log: File) -> std::io::Result<u32> {
    let mut command = Command::new(std::env::current_exe()?);
    for folder in &global.plugin_dir {
        command.arg("--plugin-dir").arg(folder);
    }
    let child = command
        .args(["--json", "daemon", "start", "--no-detach", "--settings"])
        .arg(settings)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .process_group(0)
        .spawn()?;
    Ok(child.id())
}

/// The daemon of the settings file, with its folder. It may run although its files are wrong by now.
fn found(args: &DaemonArgs) -> Result<(PathBuf, Seen), Vec<Error>> {
    let folder = crate::config::daemon_folder(&args.settings).map_err(|error| vec![error])?;
    match seen(&folder) {
        Some(seen) => Ok((folder, seen)),
        None => {
            let text = format!("no daemon runs in `{}`", folder.display());
            Err(vec![
                Error::new(ErrorKind::NotFound, "schedule.no_daemon", text)
                    .with_help("`whimbrel daemon start` starts one"),
            ])
        }
    }
}

fn signal(seen: &Seen, signal: Signal) -> Result<(), Error> {
    let text = format!(
        "process {} on `{}` could not be signalled",
        seen.process.pid, seen.process.host
    );
    let fault = || Error::new(ErrorKind::Permission, "schedule.not_signalled", text.clone());
    match seen.process.signal(signal) {
        Ok(true) => Ok(()),
        Ok(false) => {
            Err(fault().with_help("it runs on another host or in another container: signal it there"))
        }
        Err(errno) => Err(fault().with_cause(&errno)),
    }
}

fn stop(global: &Global, folder: &Path, before: &Seen) -> Result<Exit, Error> {
    signal(before, Signal::TERM)?;
    let begun = Instant::now();
    while begun.elapsed() < WAIT_MAX {
        if seen(folder).is_none_or(|now| now.process != before.process) {
            say_status(global, "daemon stop", None);
            return Ok(Exit::Done);
        }
        std::thread::sleep(LOOK_INTERVAL);
    }
    let text = format!(
        "the daemon, process {}, is still ending its runs",
        before.process.pid
    );
    Err(Error::new(ErrorKind::Timeout, "schedule.still_ending", text)
        .with_help("it ends when they have; `whimbrel daemon status` shows them"))
}

/// Asks for a reload and waits for its outcome.
fn reload(global: &Global, folder: &Path, before: &Seen) -> Result<Exit, Vec<Error>> {
    // What is wrong is found here as well, and said where it is read.
    let loaded = load_schedules(&before.settings, &Variables::of_process());
    signal(before, Signal::HUP).map_err(|error| vec![error])?;
    loaded?;
    let begun = Instant::now();
    while begun.elapsed() < WAIT_MAX {
        match seen(folder) {
            Some(now) if now.loaded > before.loaded => {
                say_status(global, "daemon reload", Some(&now));
                return Ok(Exit::Done);
            }
            Some(now) if now.faults != before.faults && !now.faults.is_empty() => return Err(now.faults),
            _ => std::thread::sleep(LOOK_INTERVAL),
        }
    }
    let text = format!("the daemon, process {}, has not answered", before.process.pid);
    Err(vec![Error::new(ErrorKind::Timeout, "schedule.no_answer", text)])
}

fn status(global: &Global, title: &str, args: &DaemonArgs) -> Exit {
    match crate::config::daemon_folder(&args.settings) {
        Ok(folder) => {
            let found = seen(&folder);
            say_status(global, title, found.as_ref());
            Exit::Done
        }
        Err(error) => refuse(global, title, None, &[error]),
    }
}

fn say_status(global: &Global, title: &str, seen: Option<&Seen>) {
    if global.json {
        print_json(&StatusJson {
            command: title,
            is_running: seen.is_some(),
            daemon: seen,
        });
        return;
    }
    let Some(seen) = seen else {
        print("no daemon runs\n");
        return;
    };
    print(&format!(
        "daemon: process {} on {}, since {}, files read {}\n",
        seen.process.pid, seen.process.host, seen.started, seen.loaded
    ));
    let mut table = PlainTable::new(&["schedule", "job", "cron", "time zone", "next", "now"]);
    for one in &seen.schedules {
        let running = seen.running.iter().find(|(name, _)| *name == one.schedule);
        table.row([
            one.schedule.clone(),
            printable(&one.job.display().to_string()),
            one.cron.clone(),
            one.time_zone.clone(),
            one.next
                .map_or_else(|| "never".to_owned(), |next| next.to_string()),
            running.map_or_else(String::new, |(_, pid)| format!("runs as process {pid}")),
        ]);
    }
    print(&table.text(&[]));
    if !seen.faults.is_empty() {
        print("the files are wrong by now, the daemon goes on with what they said before:\n");
        print(&render(&seen.faults));
    }
}
