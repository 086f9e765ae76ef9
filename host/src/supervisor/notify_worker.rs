//! The working half of notifications: opens the notifiers of a job and sends what comes, each in a thread of its own.
//!
//! What fails for now is tried again with the same key; what fails for good, or too often, is answered as not delivered.
//! A call that hangs is ended as in every worker. Neighbour: `notifying`, which sends and keeps what is not answered.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crossbeam_channel::Receiver;
use serde_json::{Map, Value};
use whimbrel_plugin_api::check::FindingLevel;
use whimbrel_plugin_api::manifest::Role;
use whimbrel_plugin_api::notifier::{Notification, NotificationReceipt};
use whimbrel_plugin_api::{ErrorScope, Finding};

use super::protocol::Command;
use crate::control::Stop;
use crate::events::{Emitter, Event, Failure};
use crate::loader::observe::{OpenedNotifier, Opener};

/// Tries of one notification.
const TRIES_MAX: u32 = 10;
/// After so long no further try of a notification begins; what waits behind it is perhaps more welcome.
const TRYING_MAX: Duration = Duration::from_secs(300);
/// The pause before the second try is at most so long, before the third twice as long, and so on.
const PAUSE_FIRST: Duration = Duration::from_millis(200);
/// No pause is longer by itself.
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// A service that asks for a longer pause than this is asked earlier.
const PAUSE_ASKED_MAX: Duration = Duration::from_secs(120);
/// A pause once the run is over: a few more tries fit into the time that is left.
const PAUSE_HURRIED: Duration = Duration::from_secs(1);
/// When the commands have ended, calls that are running have so long to return.
const END_GRACE: Duration = Duration::from_secs(5);

/// One notifier of a job, and what it needs to send.
pub(super) struct NotifierSending {
    number: usize,
    opener: Opener,
    config: Map<String, Value>,
    emitter: Emitter,
    random: fastrand::Rng,
    opened: Option<OpenedNotifier>,
    stop: Stop,
    hurry: Stop,
}

/// Sends what `commands` say until they end, which they do when the supervisor has heard all answers or is gone.
pub(super) fn send_all(jobs: Vec<NotifierSending>, checks: bool, commands: &Receiver<Command>) {
    let (stop, hurry) = (Stop::default(), Stop::default());
    // Nothing is ever said on it: it closes when the last thread has ended.
    let (running, ended) = crossbeam_channel::bounded::<()>(0);
    let mut waiting = BTreeMap::new();
    for mut job in jobs {
        let (sender, receiver) = crossbeam_channel::unbounded();
        waiting.insert(job.number, sender);
        (job.stop, job.hurry) = (stop.clone(), hurry.clone());
        let running = running.clone();
        std::thread::spawn(move || {
            job.run(&receiver, checks);
            drop((job, running));
        });
    }
    drop(running);
    while let Ok(command) = commands.recv() {
        match command {
            Command::Notify {
                notifier,
                notification,
            } => {
                if let Some(sender) = waiting.get(&notifier) {
                    // A thread that is gone took the process with it.
                    drop(sender.send(notification));
                }
            }
            Command::Hurry => hurry.ask(),
            Command::Cancel => break,
            Command::Proceed { .. } | Command::Passed { .. } => {}
        }
    }
    stop.ask();
    hurry.ask();
    drop(waiting);
    // A call that does not return in time ends with the process.
    ended.recv_timeout(END_GRACE).unwrap_or_default();
}

impl NotifierSending {
    /// The notifier at place `number` of the job, not opened yet.
    pub(super) fn new(number: usize, opener: Opener, config: Map<String, Value>, emitter: Emitter) -> Self {
        Self {
            number,
            opener,
            config,
            emitter,
            random: fastrand::Rng::new(),
            opened: None,
            stop: Stop::default(),
            hurry: Stop::default(),
        }
    }

    fn run(&mut self, waiting: &Receiver<Box<Notification>>, checks: bool) {
        if checks {
            self.check();
        }
        for notification in waiting {
            self.deliver(&notification);
        }
    }

    /// Says what would stop a message. It stops no run, so nothing is graver than a warning.
    fn check(&mut self) {
        let findings = match self.with_opened(OpenedNotifier::check) {
            Ok(findings) => findings,
            Err(failure) => {
                let mut finding = Finding::warning(failure.error.code, failure.error.message);
                finding.help = failure.error.help;
                vec![finding]
            }
        };
        for mut finding in findings {
            finding.level = finding.level.min(FindingLevel::Warning);
            finding.message = format!("`{}`: {}", self.opener.name(), finding.message);
            self.emitter.emit(&Event::Found {
                role: Some(Role::Notifier),
                finding,
            });
        }
    }

    /// Sends one notification, again and again if need be, and answers.
    fn deliver(&mut self, notification: &Notification) {
        let (plugin, key) = (self.opener.name().to_owned(), notification.dedupe_key.clone());
        let answer = match self.try_all(notification) {
            Ok(receipt) => Event::Delivered {
                notifier: self.number,
                plugin,
                key,
                receipt: receipt.id,
            },
            Err(failure) => Event::NotDelivered {
                notifier: self.number,
                plugin,
                key,
                failure: Box::new(failure),
            },
        };
        self.emitter.emit(&answer);
    }

    fn try_all(&mut self, notification: &Notification) -> Result<NotificationReceipt, Failure> {
        let begun = Instant::now();
        let mut tries = 1;
        loop {
            let failure = match self.with_opened(|opened| opened.send(notification)) {
                Ok(receipt) => return Ok(receipt),
                Err(failure) => failure,
            };
            let is_last = tries >= TRIES_MAX || begun.elapsed() >= TRYING_MAX;
            if !failure.error.kind.is_transient() || is_last {
                return Err(failure);
            }
            let asked = failure.error.retry_after_ms.map(Duration::from_millis);
            let pause = pause_before(tries, asked, &mut self.random);
            if self.pause(pause) {
                return Err(failure);
            }
            tries += 1;
        }
    }

    /// Waits; whether everything should end.
    fn pause(&self, pause: Duration) -> bool {
        if self.hurry.wait(pause) {
            self.stop.wait(pause.min(PAUSE_HURRIED))
        } else {
            self.stop.is_raised()
        }
    }

    /// Calls the notifier, opened anew if it is not open. One that an error has spoilt is closed.
    fn with_opened<R>(
        &mut self,
        call: impl FnOnce(&mut OpenedNotifier) -> Result<R, Failure>,
    ) -> Result<R, Failure> {
        let mut opened = match self.opened.take() {
            Some(opened) => opened,
            None => self.opener.open_notifier(&self.config)?,
        };
        let answer = call(&mut opened);
        let is_spoilt = matches!(&answer, Err(failure) if failure.error.scope == ErrorScope::Session);
        if !is_spoilt {
            self.opened = Some(opened);
        }
        answer
    }
}

/// The pause after try `tries`: anything up to a limit that doubles with each, so that those who failed together do not
/// come back together; never less than the service asks for.
fn pause_before(tries: u32, asked: Option<Duration>, random: &mut fastrand::Rng) -> Duration {
    let limit = PAUSE_FIRST
        .saturating_mul(1_u32.checked_shl(tries.saturating_sub(1)).unwrap_or(u32::MAX))
        .min(PAUSE_MAX);
    let pause = limit.mul_f64(random.f64());
    pause.max(asked.unwrap_or_default().min(PAUSE_ASKED_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_up_to_a_limit_and_differ() {
        let seed = fastrand::u64(..);
        println!("seed {seed}");
        let mut random = fastrand::Rng::with_seed(seed);
        for (tries, limit_ms) in [
            (1, 200),
            (2, 400),
            (5, 3_200),
            (9, 30_000),
            (33, 30_000),
            (500, 30_000),
        ] {
            let pauses: Vec<Duration> = (0..200).map(|_| pause_before(tries, None, &mut random)).collect();
            let limit = Duration::from_millis(limit_ms);
            assert!(pauses.iter().all(|pause| *pause <= limit), "{tries}: {pauses:?}");
            assert!(
                pauses.iter().any(|pause| *pause > limit / 2),
                "{tries}: {pauses:?}"
            );
            assert!(
                pauses.iter().any(|pause| *pause < limit / 2),
                "{tries}: {pauses:?}"
            );
        }
    }

    #[test]
    fn a_service_may_ask_for_a_longer_pause_but_not_for_ever() {
        let mut random = fastrand::Rng::with_seed(7);
        let asked = |ms, random: &mut _| pause_before(1, Some(Duration::from_millis(ms)), random);
        assert_eq!(asked(5_000, &mut random), Duration::from_secs(5));
        assert_eq!(asked(u64::MAX, &mut random), PAUSE_ASKED_MAX);
        assert!(asked(0, &mut random) <= PAUSE_FIRST);
    }
}
