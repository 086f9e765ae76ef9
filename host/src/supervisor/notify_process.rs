//! The process that sends notifications, seen from the supervisor: its commands, what comes out of it, how it ends.
//! Neighbour: `notifying`, which decides what is said to it and when it is replaced.

use std::collections::VecDeque;
use std::io::Write as _;
use std::path::Path;
use std::process::Child;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender};
use serde::Serialize;
use whimbrel_plugin_api::{Error, ErrorKind};

use super::calls::RunningCalls;
use super::process::{self, EXIT_GRACE, OUTPUT_LINES_KEPT, SILENCE_MAX, how_it_ended, kill, wait_until};
use super::protocol::{Command, Task};
use crate::events::{Event, Failure, Outcome};

/// Events and lines that wait to be heard.
const SAID_MAX: usize = 1_024;

/// What comes out of the process.
pub(super) enum Said {
    Event(Box<Event>),
    Output(String),
    EventsEnded,
}

/// One such process. It is killed when this is dropped.
pub(super) struct NotifyProcess {
    child: Child,
    /// Whether the process is waited for already.
    is_over: bool,
    commands: Option<Sender<Vec<u8>>>,
    said: Receiver<Said>,
    calls: RunningCalls,
    last_output: VecDeque<String>,
    last_event: Instant,
}

impl NotifyProcess {
    /// Starts it with `task`.
    ///
    /// # Errors
    /// `host.worker_start` if no process can be started.
    pub(super) fn start(task: &Task, folder: &Path) -> Result<Self, Error> {
        let mut child = process::start(folder)?;
        let pipes = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (Some(mut stdin), Some(stdout), Some(stderr)) = pipes else {
            kill(&mut child);
            return Err(Error::internal("a worker was started without its pipes"));
        };
        // At most one notification for each notifier is on its way, so this is short. Its thread may wait for the process.
        let (commands, lines) = crossbeam_channel::unbounded::<Vec<u8>>();
        std::thread::spawn(move || {
            for line in lines {
                // A worker that no longer reads is dead or dying; its end is judged where its events end.
                if stdin.write_all(&line).and_then(|()| stdin.flush()).is_err() {
                    return;
                }
            }
        });
        let (sender, said) = crossbeam_channel::bounded(SAID_MAX);
        let output = sender.clone();
        std::thread::spawn(move || {
            process::each_event(stdout, |event| sender.send(Said::Event(Box::new(event))).is_ok());
            drop(sender.send(Said::EventsEnded));
        });
        std::thread::spawn(move || {
            process::each_line(stderr, |line| output.send(Said::Output(line)).is_ok());
        });
        let started = Self {
            child,
            is_over: false,
            commands: Some(commands),
            said,
            calls: RunningCalls::default(),
            last_output: VecDeque::new(),
            last_event: Instant::now(),
        };
        started.write(task);
        Ok(started)
    }

    /// What comes out of it.
    pub(super) fn said(&self) -> Receiver<Said> {
        self.said.clone()
    }

    /// Says something to it. Never waits.
    pub(super) fn command(&self, command: &Command) {
        self.write(command);
    }

    fn write<T: Serialize>(&self, value: &T) {
        if let Some(commands) = &self.commands
            && let Ok(mut line) = serde_json::to_vec(value)
        {
            line.push(b'\n');
            drop(commands.send(line));
        }
    }

    /// Takes note of an event. A last one that was not asked for is answered with the reason.
    pub(super) fn note(&mut self, event: &Event) -> Option<Failure> {
        self.last_event = Instant::now();
        self.calls.observe(event);
        match event {
            Event::Finished { outcome } => match &**outcome {
                Outcome::Failed { failure, .. } => Some(failure.clone()),
                _ => Some(self.failure("plugin.exited", "the worker that notifies has ended".to_owned())),
            },
            _ => None,
        }
    }

    /// Takes note of what a plugin printed.
    pub(super) fn note_output(&mut self, line: &str) {
        if self.last_output.len() == OUTPUT_LINES_KEPT {
            self.last_output.pop_front();
        }
        self.last_output.push_back(line.to_owned());
    }

    /// For how long it has said nothing.
    pub(super) fn silence(&self) -> Duration {
        self.last_event.elapsed()
    }

    /// Why a silent one is lost.
    pub(super) fn silent(&self) -> Failure {
        let message = format!(
            "the worker that notifies said nothing for {} s and was killed; running then: {}",
            SILENCE_MAX.as_secs(),
            self.calls.describe()
        );
        self.failure("plugin.silent", message)
    }

    /// Why one is lost whose events have ended without a last one.
    pub(super) fn judge(&mut self) -> Failure {
        let status = wait_until(&mut self.child, Instant::now() + EXIT_GRACE);
        self.is_over = status.is_some();
        let (code, how) = how_it_ended(status);
        let running = self.calls.describe();
        self.failure(
            code,
            format!("the worker that notifies {how}; running then: {running}"),
        )
    }

    fn failure(&self, code: &str, message: String) -> Failure {
        let mut error = Error::new(ErrorKind::Internal, code, message);
        error
            .causes
            .extend(self.last_output.iter().map(|line| format!("printed: {line}")));
        let failure = Failure::from(error);
        match self.calls.last() {
            Some(last) => failure.at_call(&last.plugin, last.role, &last.call),
            None => failure,
        }
    }

    /// Lets it end by itself until `until`, and kills it then.
    pub(super) fn end(mut self, until: Instant) {
        self.commands = None;
        let until = until.min(Instant::now() + EXIT_GRACE);
        self.is_over = wait_until(&mut self.child, until).is_some();
    }
}

impl Drop for NotifyProcess {
    fn drop(&mut self) {
        if !self.is_over {
            kill(&mut self.child);
        }
    }
}
