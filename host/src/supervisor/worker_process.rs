//! The process that works on a task, seen from the supervisor: its commands, what comes out of it, how its end is explained.
//! Neighbours: `supervise`, which decides what is said to it and whether another one takes its place; `process`, what all workers share.

use std::collections::{BTreeSet, VecDeque};
use std::io::Write as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Child, ChildStdin, ExitStatus};
use std::time::Instant;

use crossbeam_channel::Sender;
use serde::Serialize;
use whimbrel_plugin_api::{Error, ErrorKind};

use super::calls::RunningCalls;
use super::process::{self, EXIT_GRACE, OUTPUT_LINES_KEPT, SILENCE_MAX, wait_until};
use super::protocol::Task;
use crate::events::{Event, Failure};
use crate::loader::call_board::BoardReader;

/// What the supervisor hears.
pub(super) enum Message {
    Event(Box<Event>),
    Output(String),
    Signal(i32),
    EventsEnded,
    OutputEnded,
}

/// What was said, and the number of the worker that said it; a signal comes from none.
pub(super) type Said = (u32, Message);

/// One such process.
pub(super) struct WorkerProcess {
    /// Which one of the task, from 0.
    number: u32,
    child: Child,
    stdin: Option<ChildStdin>,
    calls: RunningCalls,
    /// Where the worker keeps its calls; without it they come as events.
    board: Option<BoardReader>,
    last_output: VecDeque<String>,
    died_of: Option<i32>,
}

impl WorkerProcess {
    /// Starts worker number `number` in `folder`; what it says goes to `sender`. It waits for its task.
    ///
    /// # Errors
    /// `host.worker_start` if no process can be started.
    pub(super) fn start(folder: &Path, number: u32, sender: &Sender<Said>) -> Result<Self, Error> {
        let mut child = process::start(folder)?;
        let pipes = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (Some(stdin), Some(stdout), Some(stderr)) = pipes else {
            process::kill(&mut child);
            return Err(Error::internal("a worker was started without its pipes"));
        };
        let (events, output) = (sender.clone(), sender.clone());
        std::thread::spawn(move || {
            process::each_event(stdout, |event| {
                events.send((number, Message::Event(Box::new(event)))).is_ok()
            });
            drop(events.send((number, Message::EventsEnded)));
        });
        std::thread::spawn(move || {
            process::each_line(stderr, |line| {
                output.send((number, Message::Output(line))).is_ok()
            });
            drop(output.send((number, Message::OutputEnded)));
        });
        Ok(Self {
            number,
            child,
            stdin: Some(stdin),
            calls: RunningCalls::default(),
            board: BoardReader::create().ok(),
            last_output: VecDeque::new(),
            died_of: None,
        })
    }

    /// Which one of the task, from 0.
    pub(super) fn number(&self) -> u32 {
        self.number
    }

    /// Its process.
    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Tells it what to do.
    pub(super) fn send_task(&mut self, task: &Task) {
        let task = Task {
            call_board: self.board.as_ref().map(BoardReader::path),
            ..task.clone()
        };
        self.send(&task);
    }

    /// Says something to it. A worker that no longer reads is dead or dying; its end is judged where its events end.
    pub(super) fn send<T: Serialize>(&mut self, value: &T) {
        if let Some(stdin) = &mut self.stdin
            && let Ok(mut line) = serde_json::to_vec(value)
        {
            line.push(b'\n');
            if stdin.write_all(&line).is_ok() {
                drop(stdin.flush());
            }
        }
    }

    /// Takes note of an event.
    pub(super) fn note(&mut self, event: &Event) {
        self.calls.observe(event);
    }

    /// Takes note of what a plugin printed.
    pub(super) fn note_output(&mut self, line: String) {
        if self.last_output.len() == OUTPUT_LINES_KEPT {
            self.last_output.pop_front();
        }
        self.last_output.push_back(line);
    }

    /// It has said its last; plugins' threads may keep it, so it is killed after a moment.
    pub(super) fn let_end(&mut self) {
        self.stdin = None;
        if wait_until(&mut self.child, Instant::now() + EXIT_GRACE).is_none() {
            self.kill();
        }
    }

    /// Ends it at once.
    pub(super) fn kill(&mut self) {
        process::kill(&mut self.child);
    }

    /// Collects the status of one whose events have ended without a last one, which may still be about to end.
    pub(super) fn collect(&mut self) -> Option<ExitStatus> {
        let status = match wait_until(&mut self.child, Instant::now() + EXIT_GRACE) {
            Some(status) => Some(status),
            None => {
                self.kill();
                self.child.try_wait().ok().flatten()
            }
        };
        self.died_of = status.and_then(|status| status.signal());
        status
    }

    /// The signal that has ended it.
    pub(super) fn died_of(&self) -> Option<i32> {
        self.died_of
    }

    /// The calls that were running when it ended, each once.
    pub(super) fn calls_at_end(&self) -> BTreeSet<String> {
        self.calls.each().into_iter().collect()
    }

    /// Why one is lost that ended with `status` and without a last event.
    pub(super) fn crash(&mut self, status: Option<ExitStatus>) -> Failure {
        let running = self.running();
        let (code, how) = process::how_it_ended(status);
        self.failure(code, format!("the worker process {how}; running then: {running}"))
    }

    /// Why one is lost that said nothing for too long.
    pub(super) fn silence(&mut self) -> Failure {
        let running = self.running();
        self.failure(
            "plugin.silent",
            format!(
                "the worker process said nothing for {} s and was killed; running then: {running}",
                SILENCE_MAX.as_secs()
            ),
        )
    }

    fn running(&mut self) -> String {
        if let Some(board) = &self.board {
            self.calls.add_board(board.calls());
        }
        self.calls.describe()
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
}
