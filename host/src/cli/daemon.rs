//! `whimbrel daemon`: the process that runs the jobs of a settings file when they are due.
//!
//! The work is in [`crate::scheduler`]; here is how it is started, seen, told to read its files again, and ended.

use std::fs::File;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
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
use crate::scheduler::{
    Daemon, DaemonEvent, LastOutcome, Living, NextTime, Seen, daemon_running, find, seen,
};
use crate::supervisor::this_program;
use crate::workspace::{Workspace, fault, open_private};

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
    working_dir: Option<&'a Path>,
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
            if start.no_detach {
                stay(global, schedules, &variables).map_err(|error| vec![error])
            } else {
                detach(global, &args.settings, &schedules, &variables)
            }
        }),
        DaemonCommand::Stop(_) => {
            found(args, &variables).and_then(|living| stop(global, &living).map_err(|error| vec![error]))
        }
        DaemonCommand::Status(_) => find(&args.settings, &variables).map(|living| {
            say_status(global, title, living.as_ref());
            Exit::Done
        }),
        DaemonCommand::Reload(_) => found(args, &variables).and_then(|living| reload(global, &living)),
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
fn detach(
    global: &Global,
    settings: &Path,
    schedules: &Schedules,
    variables: &Variables,
) -> Result<Exit, Vec<Error>> {
    if let Some(living) = find(settings, variables)? {
        return Err(vec![daemon_running(&living.folder)]);
    }
    bring_up(global, settings, &schedules.working_dir).map_err(|error| vec![error])
}

fn bring_up(global: &Global, settings: &Path, folder: &Path) -> Result<Exit, Error> {
    Workspace::of_job(settings, Some(folder)).create()?;
    let path = folder.join(LOG_FILE);
    let log = open_private(&path, true).map_err(|error| fault(&path, &error))?;
    let not_started = |kind, text: &str| Error::new(kind, "schedule.not_started", text);
    let mut process = start_detached(global, settings, log).map_err(|error| {
        not_started(ErrorKind::Unavailable, "the daemon could not be started").with_cause(&error)
    })?;
    let pid = process.id();
    let help = format!("`{}` has what it said", path.display());
    let begun = Instant::now();
    while begun.elapsed() < WAIT_MAX {
        if let Some(seen) = seen(folder).filter(|seen| seen.process.pid == pid) {
            let folder = folder.to_owned();
            say_status(global, "daemon start", Some(&Living { folder, seen }));
            return Ok(Exit::Done);
        }
        // Of a process that cannot be asked about, its place still tells.
        if let Ok(Some(status)) = process.try_wait() {
            let text = format!("the daemon, process {pid}, has ended at once: {status}");
            return Err(not_started(ErrorKind::Unavailable, &text).with_help(help));
        }
        std::thread::sleep(LOOK_INTERVAL);
    }
    let text = format!("the daemon, process {pid}, has not come up");
    Err(not_started(ErrorKind::Timeout, &text).with_help(help))
}

fn start_detached(global: &Global, settings: &Path, log: File) -> std::io::Result<Child> {
    let mut command = Command::new(this_program()?);
    for folder in &global.plugin_dir {
        command.arg("--plugin-dir").arg(folder);
    }
    command
        .args(["--json", "daemon", "start", "--no-detach", "--settings"])
        .arg(settings)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .process_group(0)
        .spawn()
}

/// The daemon of the settings file. It may run although its files are wrong by now.
fn found(args: &DaemonArgs, variables: &Variables) -> Result<Living, Vec<Error>> {
    find(&args.settings, variables)?.ok_or_else(|| {
        let text = format!("no daemon of `{}` runs", args.settings.display());
        vec![no_daemon(text).with_help("`whimbrel daemon start` starts one")]
    })
}

fn no_daemon(text: String) -> Error {
    Error::new(ErrorKind::NotFound, "schedule.no_daemon", text)
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

fn stop(global: &Global, living: &Living) -> Result<Exit, Error> {
    let Living { folder, seen: before } = living;
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

/// Asks for a reload and waits for its outcome. The daemon alone judges its files: what they refer to is seen from where it runs.
fn reload(global: &Global, living: &Living) -> Result<Exit, Vec<Error>> {
    let Living { folder, seen: before } = living;
    let pid = before.process.pid;
    if before.is_ending {
        let text = format!("the daemon, process {pid}, ends and reads its files no more");
        return Err(vec![Error::new(ErrorKind::Unavailable, "schedule.ending", text)]);
    }
    signal(before, Signal::HUP).map_err(|error| vec![error])?;
    let begun = Instant::now();
    while begun.elapsed() < WAIT_MAX {
        match seen(folder).filter(|now| now.process == before.process) {
            None => {
                let text = format!("the daemon, process {pid}, has ended meanwhile");
                return Err(vec![no_daemon(text)]);
            }
            Some(now) if now.look_count == before.look_count => std::thread::sleep(LOOK_INTERVAL),
            Some(now) if !now.faults.is_empty() => return Err(now.faults),
            Some(seen) => {
                let folder = folder.clone();
                say_status(global, "daemon reload", Some(&Living { folder, seen }));
                return Ok(Exit::Done);
            }
        }
    }
    let text = format!("the daemon, process {pid}, has not answered");
    Err(vec![Error::new(ErrorKind::Timeout, "schedule.no_answer", text)])
}

fn say_status(global: &Global, title: &str, living: Option<&Living>) {
    if global.json {
        print_json(&StatusJson {
            command: title,
            is_running: living.is_some(),
            working_dir: living.map(|living| living.folder.as_path()),
            daemon: living.map(|living| &living.seen),
        });
        return;
    }
    let Some(Living { folder, seen }) = living else {
        print("no daemon runs\n");
        return;
    };
    let shown = |path: &Path| printable(&path.display().to_string());
    print(&format!(
        "daemon: process {} on {}, since {}, files read {}\nsettings: {}\nworking folder: {}\n",
        seen.process.pid,
        seen.process.host,
        seen.started,
        seen.loaded,
        shown(&seen.settings),
        shown(folder),
    ));
    if seen.is_ending {
        print("it ends as soon as its runs have\n");
    }
    let mut table = PlainTable::new(&["schedule", "job", "cron", "time zone", "next", "now", "last"]);
    for one in &seen.schedules {
        let running = seen.running.iter().find(|(name, _)| *name == one.schedule);
        table.row([
            one.schedule.clone(),
            shown(&one.job),
            one.cron.clone(),
            one.time_zone.clone(),
            one.next
                .map_or_else(|| "never".to_owned(), |next| next.to_string()),
            running.map_or_else(String::new, |(_, pid)| format!("runs as process {pid}")),
            last_words(one),
        ]);
    }
    print(&table.text(&[]));
    if !seen.faults.is_empty() {
        print("the files are wrong by now, the daemon goes on with what they said before:\n");
        print(&render(&seen.faults));
    }
}

/// What came of a schedule the last time, in a few words.
fn last_words(one: &NextTime) -> String {
    match &one.last {
        None => String::new(),
        Some(LastOutcome::Ended { at, exit_code, .. }) => format!("exit code {exit_code}, {at}"),
        Some(LastOutcome::Failed { at, error, .. }) => {
            let (message, code) = (printable(&error.message), printable(&error.code));
            format!("failed, {at}: {message} [{code}]")
        }
    }
}
