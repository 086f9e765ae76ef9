//! The supervising half: starts the worker, reads its events and its plugins' output, and judges its end.
//! It loads no library and trusts no exit status.

use std::collections::VecDeque;
use std::io::Write as _;
use std::path::Path;
use std::process::{Child, ChildStdin, ExitStatus};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError};
use whimbrel_plugin_api::{Error, ErrorKind};

use super::calls::RunningCalls;
use super::process::{self, EXIT_GRACE, OUTPUT_LINES_KEPT, SILENCE_MAX, wait_until};
use super::protocol::{Command, Task, TaskKind};
use crate::config::Job;
use crate::events::{Event, Failure, Outcome, Phase, PhaseOutcome};
use crate::loader::call_board::BoardReader;

/// After the first signal a worker has so long to commit what is open.
const DRAIN_GRACE: Duration = Duration::from_secs(10);

/// Who follows the events.
pub trait Observer {
    /// The worker has loaded everything and says what the plugins are; an error keeps the task from going on.
    ///
    /// # Errors
    /// All faults of the plugins' configs.
    ///
    /// The job is answered if the plugins' own variables have completed it.
    fn loaded(&mut self, events: &[Event]) -> Result<Option<Box<Job>>, Vec<Error>>;

    /// The worker process is there.
    fn worker_started(&mut self, _pid: u32) {}

    /// The task holds before its first write, having found nothing in the way. An error ends it.
    ///
    /// # Errors
    /// Why nothing may be written.
    fn before_writing(&mut self) -> Result<(), Error> {
        Ok(())
    }

    /// One event. An error ends the task as a signal would: what is open is committed.
    ///
    /// # Errors
    /// What keeps the observer from taking note of what happens.
    fn observe(&mut self, event: &Event) -> Result<(), Error>;

    /// A line that a plugin printed.
    fn plugin_output(&mut self, line: &str);
}

/// How the task ended.
#[derive(Debug)]
pub enum Ended {
    /// The worker said so itself.
    Outcome(Box<Outcome>),
    /// The plugins' configs are wrong; nothing was opened.
    Config(Vec<Error>),
    /// The worker was killed, crashed, hung or ended without a word.
    Lost(Box<Failure>),
}

/// What became of a task.
#[derive(Debug)]
pub struct Supervised {
    /// How it ended.
    pub ended: Ended,
    /// The signal that a person sent, if any.
    pub signal: Option<i32>,
    /// What kept the observer from taking note of the task, for which it was ended.
    pub trouble: Option<Error>,
}

enum Message {
    Event(Box<Event>),
    Output(String),
    Signal(i32),
    EventsEnded,
    OutputEnded,
}

/// Runs `task` in a worker whose working folder is `folder`.
///
/// # Errors
/// `host.worker_start` if no process can be started.
pub fn supervise(task: &Task, folder: &Path, observer: &mut dyn Observer) -> Result<Supervised, Error> {
    let mut child = process::start(folder)?;
    let pipes = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let (Some(stdin), Some(stdout), Some(stderr)) = pipes else {
        return Err(Error::internal("a worker was started without its pipes"));
    };
    let (sender, messages) = crossbeam_channel::bounded(1024);
    let (events, output, signals) = (sender.clone(), sender.clone(), sender);
    let handle = catch_signals(signals).map_err(|error| process::start_fault(&error))?;
    std::thread::spawn(move || {
        process::each_event(stdout, |event| {
            events.send(Message::Event(Box::new(event))).is_ok()
        });
        drop(events.send(Message::EventsEnded));
    });
    std::thread::spawn(move || {
        process::each_line(stderr, |line| output.send(Message::Output(line)).is_ok());
        drop(output.send(Message::OutputEnded));
    });
    let mut supervision = Supervision {
        child,
        stdin: Arc::new(Mutex::new(Some(stdin))),
        calls: RunningCalls::default(),
        board: BoardReader::create().ok(),
        last_output: VecDeque::new(),
        signal: None,
        drain_until: None,
        trouble: None,
        task,
        observer,
    };
    supervision.observer.worker_started(supervision.child.id());
    supervision.send_task(task)?;
    let ended = supervision.run(&messages);
    handle.close();
    Ok(Supervised {
        ended,
        signal: supervision.signal,
        trouble: supervision.trouble,
    })
}

fn catch_signals(
    sender: crossbeam_channel::Sender<Message>,
) -> std::io::Result<signal_hook::iterator::Handle> {
    use signal_hook::consts::{SIGINT, SIGTERM};
    let mut signals = signal_hook::iterator::Signals::new([SIGINT, SIGTERM])?;
    let handle = signals.handle();
    std::thread::spawn(move || {
        for signal in &mut signals {
            if sender.send(Message::Signal(signal)).is_err() {
                return;
            }
        }
    });
    Ok(handle)
}

struct Supervision<'a> {
    child: Child,
    stdin: Arc<Mutex<Option<ChildStdin>>>,
    calls: RunningCalls,
    /// Where the worker keeps its calls; without it they come as events.
    board: Option<BoardReader>,
    last_output: VecDeque<String>,
    signal: Option<i32>,
    drain_until: Option<Instant>,
    trouble: Option<Error>,
    task: &'a Task,
    observer: &'a mut dyn Observer,
}

impl Supervision<'_> {
    fn send_task(&mut self, task: &Task) -> Result<(), Error> {
        let task = Task {
            call_board: self.board.as_ref().map(BoardReader::path),
            ..task.clone()
        };
        let mut line = serde_json::to_vec(&task)
            .map_err(|error| Error::internal("the task could not be written").with_cause(&error))?;
        line.push(b'\n');
        self.send(&line);
        Ok(())
    }

    fn command(&self, command: &Command) {
        if let Ok(mut line) = serde_json::to_vec(command) {
            line.push(b'\n');
            self.send(&line);
        }
    }

    /// A worker that no longer reads is dead or dying; its end is judged where its events end.
    fn send(&self, line: &[u8]) {
        if let Some(stdin) = self.stdin.lock().unwrap_or_else(PoisonError::into_inner).as_mut()
            && stdin.write_all(line).is_ok()
        {
            drop(stdin.flush());
        }
    }

    fn run(&mut self, messages: &Receiver<Message>) -> Ended {
        let mut loaded: Vec<Event> = Vec::new();
        let mut outcome: Option<Box<Outcome>> = None;
        let mut last_event = Instant::now();
        let (mut events_open, mut output_open) = (true, true);
        while events_open || (output_open && outcome.is_none()) {
            let wait = self.wait_for(last_event);
            match messages.recv_timeout(wait) {
                Ok(Message::Event(event)) => {
                    last_event = Instant::now();
                    self.calls.observe(&event);
                    match *event {
                        Event::PluginLoaded { .. } => {
                            loaded.push(*event);
                            if loaded.len() == self.task.plugins.len()
                                && !matches!(self.task.kind, TaskKind::Describe)
                            {
                                match self.observer.loaded(&loaded) {
                                    Ok(job) => self.command(&Command::Proceed { job }),
                                    Err(faults) => {
                                        self.kill();
                                        return Ended::Config(faults);
                                    }
                                }
                            }
                        }
                        Event::Finished { outcome: ref told } => {
                            outcome = Some(told.clone());
                            self.tell(&event);
                        }
                        ref other => self.tell(other),
                    }
                    if outcome.is_some() {
                        break;
                    }
                }
                Ok(Message::Output(line)) => self.keep_output(line),
                Ok(Message::Signal(signal)) => {
                    if self.signal.is_some() {
                        self.kill();
                    } else {
                        self.signal = Some(signal);
                        self.drain();
                    }
                }
                Ok(Message::EventsEnded) => events_open = false,
                Ok(Message::OutputEnded) => output_open = false,
                Err(RecvTimeoutError::Timeout) => {
                    if self.drain_until.is_some_and(|until| Instant::now() >= until) {
                        self.kill();
                        self.drain_until = None;
                    } else if last_event.elapsed() >= SILENCE_MAX {
                        self.kill();
                        return Ended::Lost(Box::new(self.silence()));
                    }
                }
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        if let Task {
            kind: TaskKind::Describe,
            ..
        } = self.task
            && outcome.is_some()
        {
            // A description is its own purpose.
            drop(self.observer.loaded(&loaded));
        }
        match outcome {
            Some(outcome) => {
                self.let_end();
                Ended::Outcome(outcome)
            }
            None => self.judge(messages),
        }
    }

    /// Lets the observer see an event. What it cannot take note of must not go on.
    fn tell(&mut self, event: &Event) {
        let mut seen = self.observer.observe(event);
        let is_before_writing = matches!(
            event,
            Event::PhaseEnded(report) if report.phase == Phase::PreValidation && report.outcome == PhaseOutcome::Done
        );
        if is_before_writing && self.task.holds_before_writing && seen.is_ok() && self.trouble.is_none() {
            seen = self.observer.before_writing();
            if seen.is_ok() {
                self.command(&Command::Proceed { job: None });
            }
        }
        if let Err(error) = seen
            && self.trouble.is_none()
        {
            self.trouble = Some(error);
            self.drain();
        }
    }

    /// Asks the worker to commit what is open and end, within its time.
    fn drain(&mut self) {
        self.drain_until = Some(Instant::now() + DRAIN_GRACE);
        self.command(&Command::Cancel);
    }

    fn wait_for(&self, last_event: Instant) -> Duration {
        let silence = SILENCE_MAX.saturating_sub(last_event.elapsed());
        match self.drain_until {
            Some(until) => silence.min(until.saturating_duration_since(Instant::now())),
            None => silence,
        }
    }

    fn keep_output(&mut self, line: String) {
        self.observer.plugin_output(&line);
        if self.last_output.len() == OUTPUT_LINES_KEPT {
            self.last_output.pop_front();
        }
        self.last_output.push_back(line);
    }

    /// The worker has said its last; plugins' threads may keep it, so it is killed after a moment.
    fn let_end(&mut self) {
        *self.stdin.lock().unwrap_or_else(PoisonError::into_inner) = None;
        if wait_until(&mut self.child, Instant::now() + EXIT_GRACE).is_none() {
            self.kill();
        }
    }

    fn kill(&mut self) {
        process::kill(&mut self.child);
    }

    /// The events ended without a last one.
    fn judge(&mut self, messages: &Receiver<Message>) -> Ended {
        let status = match wait_until(&mut self.child, Instant::now() + EXIT_GRACE) {
            Some(status) => Some(status),
            None => {
                self.kill();
                self.child.try_wait().ok().flatten()
            }
        };
        // What the dying process printed may still be on its way.
        while let Ok(message) = messages.recv_timeout(Duration::from_millis(200)) {
            match message {
                Message::Output(line) => self.keep_output(line),
                Message::OutputEnded => break,
                Message::Event(_) | Message::Signal(_) | Message::EventsEnded => {}
            }
        }
        Ended::Lost(Box::new(self.crash(status)))
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

    fn read_board(&mut self) {
        if let Some(board) = &self.board {
            self.calls.add_board(board.calls());
        }
    }

    fn crash(&mut self, status: Option<ExitStatus>) -> Failure {
        self.read_board();
        let running = self.calls.describe();
        let (code, how) = process::how_it_ended(status);
        self.failure(code, format!("the worker process {how}; running then: {running}"))
    }

    fn silence(&mut self) -> Failure {
        self.read_board();
        let running = self.calls.describe();
        self.failure(
            "plugin.silent",
            format!(
                "the worker process said nothing for {} s and was killed; running then: {running}",
                SILENCE_MAX.as_secs()
            ),
        )
    }
}
