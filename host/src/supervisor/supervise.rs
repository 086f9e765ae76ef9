//! The supervising half: starts the worker, reads its events and its plugins' output, and judges its end.
//! It loads no library and trusts no exit status.

use std::path::Path;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use whimbrel_plugin_api::Error;

use super::process::{self, SILENCE_MAX};
use super::protocol::{Command, Task, TaskKind};
use super::restart::Restarts;
use super::worker_process::{Message, Said, WorkerProcess};
use crate::config::Job;
use crate::events::{Event, Failure, Outcome, Phase, PhaseOutcome};

/// After the first signal a worker has so long to commit what is open.
const DRAIN_GRACE: Duration = Duration::from_secs(10);
/// The code for a run whose place another one has taken. It may commit nothing more, not even what is open.
const FENCED: &str = "run.fenced";

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

    /// Makes durable what was observed so far; without a state there is nothing to do.
    ///
    /// # Errors
    /// What keeps it from becoming durable.
    fn make_durable(&mut self) -> Result<(), Error> {
        Ok(())
    }

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

/// Messages that wait to be heard.
const SAID_MAX: usize = 1_024;

/// Runs `task` in a worker whose working folder is `folder`, and in further ones if a signal ends it.
///
/// # Errors
/// `host.worker_start` if no process can be started.
pub fn supervise(task: &Task, folder: &Path, observer: &mut dyn Observer) -> Result<Supervised, Error> {
    let (sender, messages) = crossbeam_channel::bounded(SAID_MAX);
    let worker = WorkerProcess::start(folder, 0, &sender)?;
    let signals = sender.clone();
    let handle = process::catch_signals(move |signal| signals.send((0, Message::Signal(signal))).is_ok())?;
    let mut supervision = Supervision {
        worker,
        signal: None,
        drain_until: None,
        trouble: None,
        proceed: None,
        restarts: Restarts::of(task),
        task,
        observer,
    };
    supervision.set_to_work(task);
    let ended = loop {
        let ended = supervision.run(&messages);
        let replaced = supervision
            .wait_to_restart(ended, &messages)
            .and_then(|lost| supervision.replace(folder, &sender, lost));
        if let Err(ended) = replaced {
            break ended;
        }
    };
    handle.close();
    Ok(Supervised {
        ended: supervision.end(ended),
        signal: supervision.signal,
        trouble: supervision.trouble,
    })
}

struct Supervision<'a> {
    worker: WorkerProcess,
    signal: Option<i32>,
    drain_until: Option<Instant>,
    trouble: Option<Error>,
    /// What the first worker was told once its plugins were known; the others are told the same.
    proceed: Option<Command>,
    restarts: Restarts,
    task: &'a Task,
    observer: &'a mut dyn Observer,
}

impl Supervision<'_> {
    /// The next message, unless it is that of a former worker.
    fn receive(&self, messages: &Receiver<Said>, wait: Duration) -> Result<Message, RecvTimeoutError> {
        let until = Instant::now() + wait;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let (worker, message) = messages.recv_timeout(left)?;
            if worker == self.worker.number() || matches!(message, Message::Signal(_)) {
                return Ok(message);
            }
        }
    }

    /// How the task ended; or, once the time has come to start another worker in the place of a lost one, why that was lost.
    fn wait_to_restart(&mut self, ended: Ended, messages: &Receiver<Said>) -> Result<Box<Failure>, Ended> {
        let failure = match ended {
            Ended::Lost(failure) => failure,
            Ended::Outcome(outcome) => return Err(self.restarts.judge(outcome)),
            Ended::Config(faults) => return Err(Ended::Config(faults)),
        };
        let may = self.signal.is_none() && self.trouble.is_none();
        let calls = self.worker.calls_at_end();
        let restart = may
            .then(|| self.restarts.after(&failure, self.worker.died_of(), calls))
            .flatten();
        let Some(restart) = restart else {
            return Err(self.restarts.last_words(failure));
        };
        self.tell(&Event::WorkerRestarted {
            attempt: restart.attempt,
            code: failure.error.code.clone(),
            message: failure.error.message.clone(),
            delay_ms: u64::try_from(restart.delay.as_millis()).unwrap_or(u64::MAX),
        });
        let until = Instant::now() + restart.delay;
        while self.signal.is_none() && self.trouble.is_none() {
            match self.receive(messages, until.saturating_duration_since(Instant::now())) {
                Ok(Message::Signal(signal)) => self.signal = Some(signal),
                Ok(_) => {}
                Err(RecvTimeoutError::Timeout) => return Ok(failure),
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        Err(Ended::Lost(failure))
    }

    /// Starts another worker in the place of one that was `lost`.
    fn replace(&mut self, folder: &Path, sender: &Sender<Said>, mut lost: Box<Failure>) -> Result<(), Ended> {
        match WorkerProcess::start(folder, self.worker.number() + 1, sender) {
            Ok(worker) => self.worker = worker,
            Err(error) => {
                lost.error.causes.push(error.to_string());
                return Err(Ended::Lost(lost));
            }
        }
        let task = self.restarts.task(self.task);
        self.set_to_work(&task);
        Ok(())
    }

    /// The observer knows of the worker before that knows what to do: whoever ends a run from outside finds all who work on it.
    fn set_to_work(&mut self, task: &Task) {
        self.observer.worker_started(self.worker.pid());
        self.worker.send_task(task);
    }

    /// A run that another one has replaced ends for that, whatever became of its worker.
    fn end(&self, ended: Ended) -> Ended {
        match (&self.trouble, ended) {
            (Some(trouble), Ended::Lost(_)) if trouble.code == FENCED => {
                Ended::Lost(Box::new(trouble.clone().into()))
            }
            (_, ended) => ended,
        }
    }

    fn run(&mut self, messages: &Receiver<Said>) -> Ended {
        let mut loaded: Vec<Event> = Vec::new();
        let mut outcome: Option<Box<Outcome>> = None;
        let mut last_event = Instant::now();
        let (mut events_open, mut output_open) = (true, true);
        while events_open || (output_open && outcome.is_none()) {
            let wait = self.wait_for(last_event);
            match self.receive(messages, wait) {
                Ok(Message::Event(event)) => {
                    last_event = Instant::now();
                    self.worker.note(&event);
                    self.restarts.observe(&event);
                    match *event {
                        Event::PluginLoaded { .. } => {
                            loaded.push(*event);
                            let are_all = loaded.len() == self.task.plugins.len();
                            if are_all
                                && !matches!(self.task.kind, TaskKind::Describe)
                                && let Err(faults) = self.let_proceed(&loaded)
                            {
                                self.worker.kill();
                                return Ended::Config(faults);
                            }
                        }
                        Event::Finished { outcome: ref told } => {
                            outcome = Some(told.clone());
                            if !self.restarts.is_in_vain(told) {
                                self.tell(&event);
                            }
                        }
                        Event::Barrier { number } => self.answer_barrier(number),
                        ref other => self.tell(other),
                    }
                    if outcome.is_some() {
                        break;
                    }
                }
                Ok(Message::Output(line)) => self.keep_output(line),
                Ok(Message::Signal(signal)) => {
                    if self.signal.is_some() {
                        self.worker.kill();
                    } else {
                        self.signal = Some(signal);
                        self.drain();
                    }
                }
                Ok(Message::EventsEnded) => events_open = false,
                Ok(Message::OutputEnded) => output_open = false,
                Err(RecvTimeoutError::Timeout) => {
                    if self.drain_until.is_some_and(|until| Instant::now() >= until) {
                        self.worker.kill();
                        self.drain_until = None;
                    } else if last_event.elapsed() >= SILENCE_MAX {
                        self.worker.kill();
                        return Ended::Lost(Box::new(self.worker.silence()));
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
                self.worker.let_end();
                Ended::Outcome(outcome)
            }
            None => self.judge(messages),
        }
    }

    /// Has the plugins looked at, unless they are known, and lets the worker go on.
    fn let_proceed(&mut self, loaded: &[Event]) -> Result<(), Vec<Error>> {
        let proceed = match self.proceed.take() {
            Some(proceed) => proceed,
            None => Command::Proceed {
                job: self.observer.loaded(loaded)?,
            },
        };
        self.worker.send(&proceed);
        self.proceed = Some(proceed);
        Ok(())
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
                self.worker.send(&Command::Proceed { job: None });
            }
        }
        if let Err(error) = seen {
            self.give_up(error);
        }
    }

    /// The worker commits only once what it has said is durable, and learns if it never will be.
    fn answer_barrier(&mut self, number: u64) {
        let durable = match &self.trouble {
            Some(trouble) => Err(trouble.clone()),
            None => self.observer.make_durable(),
        };
        let failure = durable.err().map(Box::new);
        self.worker.send(&Command::Passed {
            number,
            failure: failure.clone(),
        });
        if let Some(error) = failure {
            self.give_up(*error);
        }
    }

    /// Ends the task because of `error`, the first one of its kind.
    fn give_up(&mut self, error: Error) {
        if self.trouble.is_some() {
            return;
        }
        if error.code == FENCED {
            self.worker.kill();
        } else {
            self.drain();
        }
        self.trouble = Some(error);
    }

    /// Asks the worker to commit what is open and end, within its time.
    fn drain(&mut self) {
        self.drain_until = Some(Instant::now() + DRAIN_GRACE);
        self.worker.send(&Command::Cancel);
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
        self.worker.note_output(line);
    }

    /// The events ended without a last one.
    fn judge(&mut self, messages: &Receiver<Said>) -> Ended {
        let status = self.worker.collect();
        // What the dying process printed may still be on its way.
        while let Ok(message) = self.receive(messages, Duration::from_millis(200)) {
            match message {
                Message::Output(line) => self.keep_output(line),
                Message::OutputEnded => break,
                Message::Signal(signal) => drop(self.signal.get_or_insert(signal)),
                Message::Event(_) | Message::EventsEnded => {}
            }
        }
        Ended::Lost(Box::new(self.worker.crash(status)))
    }
}
