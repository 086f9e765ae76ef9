//! The loop of the daemon: waits for times, signals and ends of runs, and says what happens.
//!
//! A hang-up signal makes it read its files again: all of them are taken over, or, if anything in them is wrong, nothing is and it goes
//! on as before. An interrupt or a wish to end is handed on to the runs, which end in good order first.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

use chrono::{DateTime, Utc};
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, unbounded};
use rustix::process::Signal;
use serde::Serialize;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use whimbrel_plugin_api::{Error, ErrorKind};

use super::clock::Clock;
use super::firing;
use super::presence::{NextTime, Presence, Seen};
use crate::config::{Schedule, Schedules, Variables, load_schedules};
use crate::state::{Process, now};

/// The time of day may be set, so that it is looked at so often.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);

/// What a daemon tells.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum DaemonEvent {
    /// It runs.
    Started {
        /// Its process.
        pid: u32,
        /// Schedules that it has.
        schedule_count: usize,
    },
    /// It has taken over what its files say now.
    Reloaded {
        /// Schedules that it has.
        schedule_count: usize,
    },
    /// Its files are wrong; it goes on with what they said before.
    Kept {
        /// What is wrong.
        errors: Vec<Error>,
    },
    /// A run was started.
    Fired {
        /// The schedule.
        schedule: String,
        /// When it was due.
        due: DateTime<Utc>,
        /// The run's process.
        pid: u32,
        /// Where its output goes.
        log: PathBuf,
    },
    /// A schedule was due whose last run still goes on, so that nothing was started.
    Skipped {
        /// The schedule.
        schedule: String,
        /// When it was due.
        due: DateTime<Utc>,
    },
    /// A run could not be started, or the daemon could not write down what it does.
    Failed {
        /// The schedule, if it is about one.
        #[serde(skip_serializing_if = "Option::is_none")]
        schedule: Option<String>,
        /// Why.
        error: Error,
    },
    /// A run has ended.
    Ended {
        /// The schedule.
        schedule: String,
        /// Its exit code; 128 and the number of a signal that ended it.
        exit_code: i32,
    },
    /// It ends, once its runs have.
    Stopping {
        /// Runs that go on.
        running_count: usize,
    },
}

/// What comes to the daemon from outside.
enum Message {
    Signal(i32),
    Ended(String, std::io::Result<ExitStatus>),
}

/// A daemon that has its place.
pub struct Daemon<'a> {
    schedules: Schedules,
    presence: Presence,
    /// Arguments for all commands, which its runs get too.
    arguments: Vec<String>,
    variables: &'a Variables,
    started: DateTime<Utc>,
    loaded: DateTime<Utc>,
    faults: Vec<Error>,
    clock: Clock,
    running: BTreeMap<String, Process>,
    tell: &'a mut dyn FnMut(&DaemonEvent),
}

impl<'a> Daemon<'a> {
    /// A daemon of `schedules`, which tells what happens to `tell`.
    ///
    /// # Errors
    /// Those of [`Presence::take`].
    pub fn new(
        schedules: Schedules,
        arguments: Vec<String>,
        variables: &'a Variables,
        tell: &'a mut dyn FnMut(&DaemonEvent),
    ) -> Result<Self, Error> {
        let presence = Presence::take(&schedules.working_dir)?;
        let started = now();
        Ok(Self {
            clock: Clock::new(&schedules.list, started, None),
            schedules,
            presence,
            arguments,
            variables,
            started,
            loaded: started,
            faults: Vec::new(),
            running: BTreeMap::new(),
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
        for (schedule, due) in self.clock.due(now()) {
            if self.running.contains_key(&schedule.name) {
                let schedule = schedule.name;
                (self.tell)(&DaemonEvent::Skipped { schedule, due });
            } else {
                self.start(&schedule, due, ends);
            }
            self.write();
        }
    }

    fn start(&mut self, schedule: &Schedule, due: DateTime<Utc>, ends: &Sender<Message>) {
        let Schedules {
            settings,
            working_dir,
            ..
        } = &self.schedules;
        let name = schedule.name.clone();
        match firing::start(schedule, due, settings, &self.arguments, working_dir) {
            Ok((mut child, logs)) => {
                let pid = child.id();
                self.running.insert(name.clone(), Process::of(pid));
                let (ends, ended) = (ends.clone(), name.clone());
                std::thread::spawn(move || {
                    // A daemon that has ended need not be told.
                    drop(ends.send(Message::Ended(ended, child.wait())));
                });
                (self.tell)(&DaemonEvent::Fired {
                    schedule: name,
                    due,
                    pid,
                    log: logs.stdout,
                });
            }
            Err(error) => (self.tell)(&DaemonEvent::Failed {
                schedule: Some(name),
                error,
            }),
        }
    }

    fn ended(&mut self, schedule: String, status: std::io::Result<ExitStatus>) {
        use std::os::unix::process::ExitStatusExt as _;
        self.running.remove(&schedule);
        let code = |status: ExitStatus| status.code().or(status.signal().map(|signal| 128 + signal));
        (self.tell)(&match status {
            Ok(status) => DaemonEvent::Ended {
                schedule,
                exit_code: code(status).unwrap_or(1),
            },
            Err(error) => DaemonEvent::Failed {
                schedule: Some(schedule),
                error: Error::internal("the end of a run could not be waited for").with_cause(&error),
            },
        });
        self.write();
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
        match loaded {
            Ok(schedules) => {
                self.clock = Clock::new(&schedules.list, now(), Some(&self.clock));
                self.schedules = schedules;
                self.loaded = now();
                self.faults.clear();
                (self.tell)(&DaemonEvent::Reloaded {
                    schedule_count: self.schedules.list.len(),
                });
            }
            Err(errors) => {
                self.faults.clone_from(&errors);
                (self.tell)(&DaemonEvent::Kept { errors });
            }
        }
        self.write();
    }

    /// Asks all runs to end, and waits for them.
    fn end(&mut self, messages: &Receiver<Message>) {
        (self.tell)(&DaemonEvent::Stopping {
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
        for (schedule, process) in &self.running {
            if let Err(errno) = process.signal(Signal::TERM) {
                let text = format!("the run of schedule `{schedule}` could not be asked to end");
                (self.tell)(&DaemonEvent::Failed {
                    schedule: Some(schedule.clone()),
                    error: Error::new(ErrorKind::Permission, "schedule.not_ended", text).with_cause(&errno),
                });
            }
        }
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
        };
        let running = self.running.iter();
        Seen {
            process: Process::this(),
            settings: self.schedules.settings.clone(),
            started: self.started,
            loaded: self.loaded,
            faults: self.faults.clone(),
            schedules: self.clock.entries().map(next).collect(),
            running: running
                .map(|(name, process)| (name.clone(), process.pid))
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
