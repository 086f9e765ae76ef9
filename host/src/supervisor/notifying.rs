//! The supervising half of notifications: a second worker that sends them, and what is not answered yet.
//!
//! A thread of its own does all of it, so that a run never waits for a notifier. A worker that is lost is replaced a few
//! times and gets again what it has not answered. At the end there is a limited time for what still waits. Neighbours:
//! `notify_worker` is the other half, [`crate::notify::Outbox`] keeps what waits.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, select};
use whimbrel_plugin_api::Error;
use whimbrel_plugin_api::notifier::Notification;

use super::notify_process::{NotifyProcess, Said};
use super::process::SILENCE_MAX;
use super::protocol::{Command, PluginFile, Task, TaskKind};
use crate::config::{NotifierJob, Secrets};
use crate::events::{Event, Failure};
use crate::notify::{Leftovers, Outbox};

/// After the end of a run, what waits has so long to be delivered.
pub const NOTIFICATION_DRAIN: Duration = Duration::from_secs(10);
/// Notifications on their way to the thread, which takes them at once; only a machine that stands still fills this.
const ORDERS_MAX: usize = 1_000;
/// A lost worker is replaced so often.
const RESTARTS_MAX: u32 = 3;
/// The pause before the first replacement is at most so long, before the next twice as long.
const RESTART_PAUSE: Duration = Duration::from_millis(500);
/// A call of a notifier may take so long, if the job does not allow less.
const CALL_SECS_MAX: u64 = 60;
/// Events of the worker that wait until the run takes note of them; what comes then is left out.
const EVENTS_MAX: usize = 1_000;

/// Who is to be told, and by which libraries.
#[derive(Debug)]
pub struct NotifySettings {
    /// The notifiers, whose configs are complete.
    pub notifiers: Vec<NotifierJob>,
    /// Their libraries.
    pub plugins: Vec<PluginFile>,
    /// Where relative paths of their configs start.
    pub folder: PathBuf,
    /// The job's limit for a call, in seconds.
    pub call_timeout_secs: u64,
    /// What must not be told on.
    pub secrets: Secrets,
}

/// Sends the notifications of one run.
pub struct Messenger {
    orders: Sender<Order>,
    events: Arc<Mutex<VecDeque<Event>>>,
    overflow_count: u64,
    thread: JoinHandle<Leftovers>,
}

enum Order {
    Tell {
        notifier: usize,
        notification: Box<Notification>,
    },
    /// Nothing more comes; what waits has until then.
    FinishBy(Instant),
}

impl Messenger {
    /// Starts the worker, without waiting for it.
    ///
    /// # Errors
    /// If not even a thread can be started.
    pub fn start(settings: NotifySettings) -> Result<Self, Error> {
        let (orders, receiver) = crossbeam_channel::bounded(ORDERS_MAX);
        let events = Arc::default();
        let mut sending = Sending::new(settings, Arc::clone(&events));
        let thread = std::thread::Builder::new()
            .name("notifying".to_owned())
            .spawn(move || {
                sending.run(&receiver);
                sending.end()
            })
            .map_err(|error| Error::internal("no thread could be started").with_cause(&error))?;
        Ok(Self {
            orders,
            events,
            overflow_count: 0,
            thread,
        })
    }

    /// Has `notifier` told of it. Never waits.
    pub fn tell(&mut self, notifier: usize, notification: Notification) {
        let order = Order::Tell {
            notifier,
            notification: Box::new(notification),
        };
        if self.orders.try_send(order).is_err() {
            self.overflow_count += 1;
        }
    }

    /// What has happened since the last time, without secrets.
    pub fn take_events(&self) -> Vec<Event> {
        let mut events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *events).into()
    }

    /// Gives what waits `time` to be delivered, ends the worker, and answers what is left. A signal ends the waiting.
    /// Also the last events.
    pub fn finish(self, time: Duration) -> (Leftovers, Vec<Event>) {
        let until = Instant::now() + time;
        // It fails if the thread is gone, which is seen below.
        drop(self.orders.send_timeout(Order::FinishBy(until), time));
        let handle = finish_at_a_signal(self.orders.clone());
        let mut left = self.thread.join().unwrap_or_default();
        if let Some(handle) = handle {
            handle.close();
        }
        left.dropped_count += self.overflow_count;
        let mut events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        let events = std::mem::take(&mut *events).into();
        (left, events)
    }
}

fn finish_at_a_signal(orders: Sender<Order>) -> Option<signal_hook::iterator::Handle> {
    use signal_hook::consts::{SIGINT, SIGTERM};
    // Without it a person waits some seconds longer.
    let mut signals = signal_hook::iterator::Signals::new([SIGINT, SIGTERM]).ok()?;
    let handle = signals.handle();
    std::thread::spawn(move || {
        for _ in &mut signals {
            drop(orders.try_send(Order::FinishBy(Instant::now())));
        }
    });
    Some(handle)
}

/// What the thread works on.
struct Sending {
    task: Task,
    folder: PathBuf,
    secrets: Secrets,
    outbox: Outbox,
    events: Arc<Mutex<VecDeque<Event>>>,
    process: Option<NotifyProcess>,
    start_at: Option<Instant>,
    restart_count: u32,
    finish_by: Option<Instant>,
}

impl Sending {
    fn new(settings: NotifySettings, events: Arc<Mutex<VecDeque<Event>>>) -> Self {
        let plugins = settings.notifiers.iter().map(|notifier| notifier.plugin.clone());
        Self {
            outbox: Outbox::new(plugins),
            task: Task {
                plugins: settings.plugins,
                call_timeout_secs: settings.call_timeout_secs.min(CALL_SECS_MAX),
                kind: TaskKind::Notify {
                    notifiers: settings.notifiers,
                    checks: true,
                },
                holds_before_writing: false,
                call_board: None,
            },
            folder: settings.folder,
            secrets: settings.secrets,
            events,
            process: None,
            start_at: Some(Instant::now()),
            restart_count: 0,
            finish_by: None,
        }
    }

    fn run(&mut self, orders: &Receiver<Order>) {
        loop {
            self.start_if_due();
            self.hand_out();
            if self.is_over() {
                return;
            }
            let said = self
                .process
                .as_ref()
                .map_or_else(crossbeam_channel::never, NotifyProcess::said);
            select! {
                recv(orders) -> order => match order {
                    Ok(Order::Tell { notifier, notification }) => self.outbox.add(notifier, *notification),
                    Ok(Order::FinishBy(until)) => self.hurry(until),
                    // The run came to nothing, and nobody waits for answers.
                    Err(_) => return,
                },
                recv(said) -> said => self.hear(said.unwrap_or(Said::EventsEnded)),
                default(self.wait()) => self.look_for_silence(),
            }
        }
    }

    fn start_if_due(&mut self) {
        if self.start_at.is_none_or(|at| Instant::now() < at) {
            return;
        }
        self.start_at = None;
        match NotifyProcess::start(&self.task, &self.folder) {
            Ok(process) => {
                if self.finish_by.is_some() {
                    process.command(&Command::Hurry);
                }
                self.process = Some(process);
            }
            Err(error) => self.lose(error.into()),
        }
    }

    fn hand_out(&mut self) {
        let Some(process) = &self.process else {
            return;
        };
        while let Some((notifier, notification)) = self.outbox.send_next() {
            let notification = Box::new(notification);
            process.command(&Command::Notify {
                notifier,
                notification,
            });
        }
    }

    fn is_over(&self) -> bool {
        self.finish_by.is_some_and(|until| {
            let has_no_worker = self.process.is_none() && self.start_at.is_none();
            self.outbox.is_empty() || has_no_worker || Instant::now() >= until
        })
    }

    fn hurry(&mut self, until: Instant) {
        self.finish_by = Some(until);
        if let Some(process) = &self.process {
            process.command(&Command::Hurry);
        }
        if self.start_at.is_some() {
            self.start_at = Some(Instant::now());
        }
    }

    fn hear(&mut self, said: Said) {
        match said {
            Said::Event(event) => {
                if let Some(failure) = self.process.as_mut().and_then(|process| process.note(&event)) {
                    self.lose(self.secrets.scrub_all(failure));
                } else {
                    self.take_note(*event);
                }
            }
            Said::Output(line) => {
                let line = self.secrets.scrub(&line).into_owned();
                if let Some(process) = &mut self.process {
                    process.note_output(&line);
                }
                self.say("info", format!("printed: {line}"));
            }
            Said::EventsEnded => {
                if let Some(process) = &mut self.process {
                    let failure = process.judge();
                    self.lose(self.secrets.scrub_all(failure));
                }
            }
        }
    }

    /// Keys are compared as they came: a word of them may be a secret elsewhere.
    fn take_note(&mut self, event: Event) {
        match &event {
            Event::Delivered { notifier, key, .. } => self.outbox.answer(*notifier, key, Ok(())),
            Event::NotDelivered {
                notifier,
                key,
                failure,
                ..
            } => {
                let failure = self.secrets.scrub_all((**failure).clone());
                self.outbox.answer(*notifier, key, Err(failure));
            }
            Event::Found { .. } | Event::Log { .. } => {}
            _ => return,
        }
        self.keep(self.secrets.scrub_all(event));
    }

    fn look_for_silence(&mut self) {
        if let Some(process) = &mut self.process
            && process.silence() >= SILENCE_MAX
        {
            let failure = process.silent();
            self.lose(failure);
        }
    }

    /// The worker is gone, or could not be started: another one takes its place, if there have not been too many.
    fn lose(&mut self, failure: Failure) {
        // It is killed where it still lives.
        self.process = None;
        self.outbox.lost(&failure);
        let what = format!("{} [{}]", failure.error.message, failure.error.code);
        if self.restart_count >= RESTARTS_MAX {
            self.say("error", format!("nothing more can be told: {what}"));
            self.outbox.give_up(&failure);
            return;
        }
        self.say("warn", format!("another worker tells what is left: {what}"));
        let pause = RESTART_PAUSE.saturating_mul(1 << self.restart_count);
        self.start_at = Some(Instant::now() + pause.mul_f64(fastrand::f64()));
        self.restart_count += 1;
        if let TaskKind::Notify { checks, .. } = &mut self.task.kind {
            *checks = false;
        }
    }

    fn wait(&self) -> Duration {
        let now = Instant::now();
        let silence = self
            .process
            .as_ref()
            .map(|process| SILENCE_MAX.saturating_sub(process.silence()));
        let times = [self.start_at, self.finish_by].map(|time| time.map(|at| at.duration_since(now)));
        let waits = times.into_iter().chain([silence]).flatten();
        waits.min().unwrap_or(SILENCE_MAX)
    }

    fn say(&self, level: &str, message: String) {
        self.keep(Event::Log {
            plugin: "notifiers".to_owned(),
            level: level.to_owned(),
            message,
        });
    }

    fn keep(&self, event: Event) {
        let mut events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        if events.len() < EVENTS_MAX {
            events.push_back(event);
        }
    }

    /// Ends the worker, and answers what is left. Its last words may take what remains of the time.
    fn end(&mut self) -> Leftovers {
        if let Some(process) = self.process.take() {
            let until = match self.finish_by {
                Some(until) if self.outbox.is_empty() => until,
                // It had its time, or nobody waits.
                _ => Instant::now(),
            };
            process.end(until);
        }
        std::mem::take(&mut self.outbox).end()
    }
}
