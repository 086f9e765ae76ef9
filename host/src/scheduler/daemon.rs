//! The loop of the daemon: waits for times, signals and ends of runs, and says what happens.
//!
//! A hang-up signal makes it read its files again: all of them are taken over, or, if anything in them is wrong, nothing is and it goes
//! on as before. An interrupt or a wish to end is handed on to the runs, which end in good order first.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

use chrono::{DateTime, Days, Utc};
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, unbounded};
use rustix::process::Signal;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use whimbrel_plugin_api::{Error, ErrorKind};

use super::clock::Clock;
use super::event::DaemonEvent;
use super::firing::Launch;
use super::log_files::{log_folder, remove_old, stem};
use super::presence::{LastOutcome, NextTime, Presence, Seen};
use crate::config::{Schedule, Schedules, Variables, load_schedules};
use crate::state::{Process, now};
use crate::workspace::fault;

/// The time of day may be set, so that it is looked at so often.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);

/// What comes to the daemon from outside.
enum Message {
    Signal(i32),
    Ended(String, std::io::Result<ExitStatus>),
}

/// A run that goes on.
struct Running {
    process: Process,
    due: DateTime<Utc>,
}

/// A daemon that has its place.
pub struct Daemon<'a> {
    schedules: Schedules,
    presence: Presence,
    /// The file that the daemon was started from, which runs are started from as well.
    program: PathBuf,
    /// Arguments for all commands, which its runs get too.
    arguments: Vec<String>,
    variables: &'a Variables,
    started: DateTime<Utc>,
    loaded: DateTime<Utc>,
    look_count: u64,
    faults: Vec<Error>,
    clock: Clock,
    running: BTreeMap<String, Running>,
    last: BTreeMap<String, LastOutcome>,
    is_ending: bool,
    tell: &'a mut dyn FnMut(&DaemonEvent),
}

impl<'a> Daemon<'a> {
    /// A daemon of `schedules`, which tells what happens to `tell`.
    ///
    /// # Errors
    /// Those of [`Presence::take`]; `schedule.not_started` if the system does not say which program this is.
    pub fn new(
        schedules: Schedules,
        arguments: Vec<String>,
        variables: &'a Variables,
        tell: &'a mut dyn FnMut(&DaemonEvent),
    ) -> Result<Self, Error> {
        let program = std::env::current_exe().map_err(|error| {
            let text = "the daemon cannot find the program that runs are started from";
            Error::new(ErrorKind::Unavailable, "schedule.not_started", text).with_cause(&error)
        })?;
        let presence = Presence::take(&schedules.settings, &schedules.working_dir)?;
        let started = now();
        Ok(Self {
            clock: Clock::new(&schedules.list, started, None),
            schedules,
            presence,
            program,
            arguments,
            variables,
            started,
            loaded: started,
            look_count: 1,
            faults: Vec::new(),
            running: BTreeMap::new(),
            last: BTreeMap::new(),
            is_ending: false,
            tell,
        })
    }

    /// Runs schedules until a signal ends it; answers that signal.
    ///
    /// # Errors
    /// If signals cannot be caught, or the first status cannot be written.
    pub fn run(mut self) -> Result<i32, Error> {
        let (sender, messages) = unbounded();
        catch(sender.clone())?;
        self.presence.tell(&self.seen())?;
        (self.tell)(&DaemonEvent::Started {
            pid: std::process::id(),
            schedule_count: self.schedules.list.len(),
        });
        loop {
            self.fire(&sender);
            match messages.recv_timeout(LOOK_INTERVAL) {
                Ok(Message::Signal(SIGHUP)) => self.reload(),
                Ok(Message::Signal(signal)) => {
                    self.end(&messages);
                    return Ok(signal);
                }
                Ok(Message::Ended(schedule, status)) => self.ended(schedule, status),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(Error::internal("nobody can tell the daemon anything any more"));
                }
            }
        }
    }

    fn fire(&mut self, ends: &Sender<Message>) {
        let time = now();
        if self.clock.set_right(time) {
            self.write();
        }
        for (schedule, due) in self.clock.due(time) {
            if self.running.contains_key(&schedule.name) {
                let schedule = schedule.name;
                self.say(&DaemonEvent::Skipped { schedule, due });
            } else {
                self.start(&schedule, due, ends);
            }
        }
    }

    fn start(&mut self, schedule: &Schedule, due: DateTime<Utc>, ends: &Sender<Message>) {
        let launch = Launch {
            program: &self.program,
            arguments: &self.arguments,
            settings: &self.schedules.settings,
            working_dir: &self.schedules.working_dir,
        };
        let name = schedule.name.clone();
        match launch.start(schedule, due) {
            Ok((mut child, logs)) => {
                let pid = child.id();
                let process = Process::of(pid);
                self.running.insert(name.clone(), Running { process, due });
                let (ends, ended) = (ends.clone(), name.clone());
                std::thread::spawn(move || {
                    // A daemon that has ended need not be told.
                    drop(ends.send(Message::Ended(ended, child.wait())));
                });
                self.say(&DaemonEvent::Fired {
                    schedule: name,
                    due,
                    pid,
                    log: logs.stdout,
                });
            }
            Err(error) => self.failed(name, due, error),
        }
        self.remove_old_logs();
    }

    /// Removes what runs have printed whose time is over.
    fn remove_old_logs(&mut self) {
        let folder = log_folder(&self.schedules.working_dir);
        let before = now() - Days::new(self.schedules.log_days.into());
        let running = self.running.iter();
        let kept = running.map(|(name, running)| stem(name, running.due)).collect();
        if let Err(error) = remove_old(&folder, before, &kept) {
            (self.tell)(&DaemonEvent::Failed {
                schedule: None,
                error: fault(&folder, &error),
            });
        }
    }

    fn ended(&mut self, schedule: String, status: std::io::Result<ExitStatus>) {
        use std::os::unix::process::ExitStatusExt as _;
        let at = now();
        let due = self.running.remove(&schedule).map_or(at, |running| running.due);
        let code = |status: ExitStatus| status.code().or(status.signal().map(|signal| 128 + signal));
        match status {
            Ok(status) => {
                let exit_code = code(status).unwrap_or(1);
                let outcome = LastOutcome::Ended { due, at, exit_code };
                self.last.insert(schedule.clone(), outcome);
                self.say(&DaemonEvent::Ended { schedule, exit_code });
            }
            Err(error) => {
                let text = "the end of a run could not be waited for";
                self.failed(schedule, due, Error::internal(text).with_cause(&error));
            }
        }
    }

    /// Takes note of a run that could not be started, or of which nobody knows how it ended.
    fn failed(&mut self, schedule: String, due: DateTime<Utc>, error: Error) {
        let outcome = LastOutcome::Failed {
            due,
            at: now(),
            error: error.clone(),
        };
        self.last.insert(schedule.clone(), outcome);
        self.say(&DaemonEvent::Failed {
            schedule: Some(schedule),
            error,
        });
    }

    /// Takes over what the files say now, as a whole or not at all.
    fn reload(&mut self) {
        let loaded = load_schedules(&self.schedules.settings, self.variables).and_then(|schedules| {
            if schedules.working_dir == self.schedules.working_dir {
                return Ok(schedules);
            }
            let text =
                "the settings name another `working_dir`, and the daemon has its place in the one before";
            Err(vec![
                Error::config("schedule.moved", text).with_help("end the daemon and start it again"),
            ])
        });
        self.look_count += 1;
        match loaded {
            Ok(schedules) => {
                self.clock = Clock::new(&schedules.list, now(), Some(&self.clock));
                self.schedules = schedules;
                self.loaded = now();
                self.faults.clear();
                let list = &self.schedules.list;
                self.last
                    .retain(|name, _| list.iter().any(|schedule| schedule.name == *name));
                self.say(&DaemonEvent::Reloaded {
                    schedule_count: self.schedules.list.len(),
                });
            }
            Err(errors) => {
                self.faults.clone_from(&errors);
                self.say(&DaemonEvent::Kept { errors });
            }
        }
    }

    /// Asks all runs to end, and waits for them.
    fn end(&mut self, messages: &Receiver<Message>) {
        self.is_ending = true;
        self.say(&DaemonEvent::Stopping {
            running_count: self.running.len(),
        });
        self.ask_to_end();
        while !self.running.is_empty() {
            match messages.recv() {
                Ok(Message::Ended(schedule, status)) => self.ended(schedule, status),
                // Who asks twice means it: a run that is asked twice ends at once.
                Ok(Message::Signal(SIGINT | SIGTERM)) => self.ask_to_end(),
                Ok(Message::Signal(_)) => {}
                Err(_) => return,
            }
        }
    }

    fn ask_to_end(&mut self) {
        for (schedule, running) in &self.running {
            if let Err(errno) = running.process.signal(Signal::TERM) {
                let text = format!("the run of schedule `{schedule}` could not be asked to end");
                (self.tell)(&DaemonEvent::Failed {
                    schedule: Some(schedule.clone()),
                    error: Error::new(ErrorKind::Permission, "schedule.not_ended", text).with_cause(&errno),
                });
            }
        }
    }

    /// Tells what has happened. What others see of it is there before, since who is told may look.
    fn say(&mut self, event: &DaemonEvent) {
        self.write();
        (self.tell)(event);
    }

    fn write(&mut self) {
        if let Err(error) = self.presence.tell(&self.seen()) {
            (self.tell)(&DaemonEvent::Failed {
                schedule: None,
                error,
            });
        }
    }

    fn seen(&self) -> Seen {
        let next = |(schedule, next): (&Schedule, Option<DateTime<Utc>>)| NextTime {
            schedule: schedule.name.clone(),
            job: schedule.job.clone(),
            cron: schedule.pattern.clone(),
            time_zone: schedule.zone.name().to_owned(),
            next,
            last: self.last.get(&schedule.name).cloned(),
        };
        let running = self.running.iter();
        Seen {
            process: Process::this(),
            settings: self.schedules.settings.clone(),
            started: self.started,
            loaded: self.loaded,
            look_count: self.look_count,
            faults: self.faults.clone(),
            is_ending: self.is_ending,
            schedules: self.clock.entries().map(next).collect(),
            running: running
                .map(|(name, running)| (name.clone(), running.process.pid))
                .collect(),
        }
    }
}

/// Hands signals on to the loop.
fn catch(messages: Sender<Message>) -> Result<(), Error> {
    let mut signals = signal_hook::iterator::Signals::new([SIGHUP, SIGINT, SIGTERM]).map_err(|error| {
        Error::new(
            ErrorKind::Unavailable,
            "schedule.signals",
            "signals could not be caught",
        )
        .with_cause(&error)
    })?;
    std::thread::spawn(move || {
        for signal in &mut signals {
            if messages.send(Message::Signal(signal)).is_err() {
                return;
            }
        }
    });
    Ok(())
}
