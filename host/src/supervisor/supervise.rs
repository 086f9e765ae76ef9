//! The supervising half: starts the worker, reads its events and its plugins' output, and judges its end.
//! It loads no library and trusts no exit status.

use std::collections::VecDeque;
use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::Path;
use std::process::{Child, ChildStdin, Command as Process, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError};
use whimbrel_plugin_api::{Error, ErrorKind};

use super::calls::RunningCalls;
use super::protocol::{Command, Task, TaskKind};
use crate::events::{Event, Failure, Outcome};

/// A worker that says nothing for so long is killed; it sends a heartbeat each second.
const SILENCE_MAX: Duration = Duration::from_secs(60);
/// After its last event a worker has so long to end by itself.
const EXIT_GRACE: Duration = Duration::from_secs(2);
/// After the first signal a worker has so long to commit what is open.
const DRAIN_GRACE: Duration = Duration::from_secs(10);
/// Lines of plugin output that are kept to explain a crash.
const OUTPUT_LINES_KEPT: usize = 20;
/// A longer line of plugin output is cut.
const OUTPUT_LINE_BYTES_MAX: u64 = 16 * 1024;
/// A longer event is not one of ours.
const EVENT_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// Who follows the events.
pub trait Observer {
    /// The worker has loaded everything and says what the plugins are; an error keeps the task from going on.
    ///
    /// # Errors
    /// All faults of the plugins' configs.
    fn loaded(&mut self, events: &[Event]) -> Result<(), Vec<Error>>;

    /// One event.
    fn observe(&mut self, event: &Event);

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
    let start = |error: std::io::Error| {
        Error::new(
            ErrorKind::Unavailable,
            "host.worker_start",
            "the worker process could not be started",
        )
        .with_cause(&error)
    };
    let program = std::env::current_exe().map_err(start)?;
    let mut child = Process::new(program)
        .arg("worker")
        .current_dir(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // A signal of the terminal reaches the supervisor alone, which decides.
        .process_group(0)
        .spawn()
        .map_err(start)?;
    let pipes = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let (Some(stdin), Some(stdout), Some(stderr)) = pipes else {
        return Err(Error::internal("a worker was started without its pipes"));
    };
    let (sender, messages) = crossbeam_channel::bounded(1024);
    let (events, output, signals) = (sender.clone(), sender.clone(), sender);
    let handle = catch_signals(signals).map_err(start)?;
    std::thread::spawn(move || read_events(stdout, &events));
    std::thread::spawn(move || read_output(stderr, &output));
    let mut supervision = Supervision {
        child,
        stdin: Arc::new(Mutex::new(Some(stdin))),
        calls: RunningCalls::default(),
        last_output: VecDeque::new(),
        signal: None,
        drain_until: None,
        task,
        observer,
    };
    supervision.send_task(task)?;
    let ended = supervision.run(&messages);
    handle.close();
    Ok(Supervised {
        ended,
        signal: supervision.signal,
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

fn read_events(stdout: impl Read, sender: &crossbeam_channel::Sender<Message>) {
    let mut reader = BufReader::new(stdout);
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = reader.by_ref().take(EVENT_BYTES_MAX).read_until(b'\n', &mut line);
        if !matches!(read, Ok(length) if length > 0) {
            break;
        }
        // A line cut by a crash is no event; what it would have said is covered by the crash itself.
        if let Ok(event) = serde_json::from_slice(&line)
            && sender.send(Message::Event(Box::new(event))).is_err()
        {
            return;
        }
    }
    drop(sender.send(Message::EventsEnded));
}

fn read_output(stderr: impl Read, sender: &crossbeam_channel::Sender<Message>) {
    let mut reader = BufReader::new(stderr);
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = reader
            .by_ref()
            .take(OUTPUT_LINE_BYTES_MAX)
            .read_until(b'\n', &mut line);
        if !matches!(read, Ok(length) if length > 0) {
            break;
        }
        let text = String::from_utf8_lossy(&line).trim_end().to_owned();
        if sender.send(Message::Output(text)).is_err() {
            return;
        }
    }
    drop(sender.send(Message::OutputEnded));
}

struct Supervision<'a> {
    child: Child,
    stdin: Arc<Mutex<Option<ChildStdin>>>,
    calls: RunningCalls,
    last_output: VecDeque<String>,
    signal: Option<i32>,
    drain_until: Option<Instant>,
    task: &'a Task,
    observer: &'a mut dyn Observer,
}

impl Supervision<'_> {
    fn send_task(&mut self, task: &Task) -> Result<(), Error> {
        let mut line = serde_json::to_vec(task)
            .map_err(|error| Error::internal("the task could not be written").with_cause(&error))?;
        line.push(b'\n');
        self.send(&line);
        Ok(())
    }

    fn command(&self, command: Command) {
        if let Ok(mut line) = serde_json::to_vec(&command) {
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
                                if let Err(faults) = self.observer.loaded(&loaded) {
                                    self.kill();
                                    return Ended::Config(faults);
                                }
                                self.command(Command::Proceed);
                            }
                        }
                        Event::Finished { outcome: ref told } => {
                            outcome = Some(told.clone());
                            self.observer.observe(&event);
                        }
                        ref other => self.observer.observe(other),
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
                        self.drain_until = Some(Instant::now() + DRAIN_GRACE);
                        self.command(Command::Cancel);
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
        // Both fail only if the process has ended already, which is what is wanted.
        drop(self.child.kill());
        drop(self.child.wait());
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

    fn crash(&self, status: Option<ExitStatus>) -> Failure {
        let running = self.calls.describe();
        let (code, how) = match status.map(|status| (status.signal(), status.code())) {
            Some((Some(signal), _)) => (
                "plugin.crashed",
                format!("was ended by signal {signal} ({})", signal_name(signal)),
            ),
            Some((None, Some(code))) => (
                "plugin.exited",
                format!("ended with exit status {code} without finishing"),
            ),
            _ => ("plugin.crashed", "ended without finishing".to_owned()),
        };
        self.failure(code, format!("the worker process {how}; running then: {running}"))
    }

    fn silence(&self) -> Failure {
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

/// How often a process is asked whether it has ended. There is no waiting with a deadline in the standard library.
const EXIT_LOOK_INTERVAL: Duration = Duration::from_millis(5);

fn wait_until(child: &mut Child, deadline: Instant) -> Option<ExitStatus> {
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Some(status),
            Ok(None) if Instant::now() < deadline => std::thread::park_timeout(EXIT_LOOK_INTERVAL),
            Ok(None) | Err(_) => return None,
        }
    }
}

fn signal_name(signal: i32) -> &'static str {
    signal_hook::low_level::signal_name(signal).unwrap_or("unknown")
}
