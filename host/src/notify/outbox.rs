//! Notifications on their way: for each notifier in order, one at a time, kept until it is answered.
//!
//! Pure and in memory: what is left at the end is handed out with its reason. An outbox that outlives the process would
//! stand in this place. Neighbour: the supervisor, which carries what is next to a worker and brings the answers.

use std::collections::VecDeque;

use serde::Serialize;
use whimbrel_plugin_api::manifest::Role;
use whimbrel_plugin_api::notifier::Notification;
use whimbrel_plugin_api::{Error, ErrorKind};

use crate::events::Failure;

/// Notifications that may wait for one notifier. A run makes some dozens; ten times as many come from days of an outage.
pub const WAITING_MAX: usize = 1_000;
/// Notifications that are kept although they could not be delivered, of all notifiers together.
pub const UNDELIVERED_MAX: usize = 1_000;
/// A notifier whose calls have ended the worker so often is no longer called, so that the others are.
const LOSSES_MAX: u32 = 2;

/// All notifications that wait.
#[derive(Debug, Default)]
pub struct Outbox {
    queues: Vec<Queue>,
    /// Whether one notification is sent at a time, of all notifiers: then it is known whose call ends the worker.
    is_careful: bool,
    leftovers: Leftovers,
}

#[derive(Debug)]
struct Queue {
    plugin: String,
    waiting: VecDeque<Notification>,
    /// Whether the first of them is with the worker.
    is_sent: bool,
    losses: u32,
    given_up: Option<Failure>,
}

/// What could not be delivered.
#[derive(Debug, Default, Serialize)]
pub struct Leftovers {
    /// With their reasons, in the order in which that was known.
    pub undelivered: Vec<Undelivered>,
    /// Those that were not even kept, because there were too many.
    pub dropped_count: u64,
}

/// A notification that could not be delivered to one notifier.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Undelivered {
    /// The place of the notifier in the job, from 0.
    pub notifier: usize,
    /// Its plugin.
    pub plugin: String,
    /// Why.
    pub failure: Failure,
    /// What was to be told.
    pub notification: Notification,
}

impl Outbox {
    /// For notifiers of these plugins, in the order of the job.
    pub fn new(plugins: impl IntoIterator<Item = String>) -> Self {
        let queue = |plugin| Queue {
            plugin,
            waiting: VecDeque::new(),
            is_sent: false,
            losses: 0,
            given_up: None,
        };
        Self {
            queues: plugins.into_iter().map(queue).collect(),
            is_careful: false,
            leftovers: Leftovers::default(),
        }
    }

    /// Adds what `notifier` is to tell. If too much waits there, the least urgent goes, the oldest of these first.
    pub fn add(&mut self, notifier: usize, notification: Notification) {
        let Some(queue) = self.queues.get_mut(notifier) else {
            return;
        };
        queue.waiting.push_back(notification);
        if queue.given_up.is_some() {
            self.leave(notifier);
        } else if queue.waiting.len() > WAITING_MAX {
            let sent = usize::from(queue.is_sent);
            let least = (sent..queue.waiting.len()).min_by_key(|index| queue.waiting[*index].severity);
            queue.waiting.remove(least.unwrap_or(sent));
            self.leftovers.dropped_count += 1;
        }
    }

    /// The next one that can be sent, and to whom; from then on it is with the worker.
    pub fn send_next(&mut self) -> Option<(usize, Notification)> {
        if self.is_careful && self.queues.iter().any(|queue| queue.is_sent) {
            return None;
        }
        let (notifier, queue) = self
            .queues
            .iter_mut()
            .enumerate()
            .find(|(_, queue)| !queue.is_sent && !queue.waiting.is_empty())?;
        queue.is_sent = true;
        Some((notifier, queue.waiting.front()?.clone()))
    }

    /// The worker has answered: delivered, or why not. Answers of what is not with it count for nothing.
    pub fn answer(&mut self, notifier: usize, key: &str, answer: Result<(), Failure>) {
        let Some(queue) = self.queues.get_mut(notifier).filter(|queue| queue.is_sent) else {
            return;
        };
        if queue.waiting.front().is_none_or(|first| first.dedupe_key != key) {
            return;
        }
        queue.is_sent = false;
        if let Some(notification) = queue.waiting.pop_front()
            && let Err(failure) = answer
        {
            let plugin = queue.plugin.clone();
            self.keep(Undelivered {
                notifier,
                plugin,
                failure,
                notification,
            });
        }
    }

    /// The worker is lost: what was with it is sent again. A notifier whose calls have ended it too often is given up.
    pub fn lost(&mut self, failure: &Failure) {
        let sent: Vec<usize> = (0..self.queues.len())
            .filter(|notifier| std::mem::take(&mut self.queues[*notifier].is_sent))
            .collect();
        let called = failure
            .plugin
            .as_ref()
            .filter(|_| failure.role == Some(Role::Notifier));
        match (sent.as_slice(), called) {
            ([notifier], Some(plugin)) if self.queues[*notifier].plugin == *plugin => {
                self.blame(*notifier, failure);
            }
            ([_, _, ..], Some(_)) => self.is_careful = true,
            _ => {}
        }
    }

    fn blame(&mut self, notifier: usize, failure: &Failure) {
        let queue = &mut self.queues[notifier];
        queue.losses += 1;
        if queue.losses >= LOSSES_MAX {
            queue.given_up = Some(failure.clone());
            self.is_careful = false;
            self.leave(notifier);
        }
    }

    /// Nothing more can be delivered.
    pub fn give_up(&mut self, failure: &Failure) {
        for notifier in 0..self.queues.len() {
            let queue = &mut self.queues[notifier];
            queue.is_sent = false;
            queue.given_up.get_or_insert_with(|| failure.clone());
            self.leave(notifier);
        }
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.queues.iter().all(|queue| queue.waiting.is_empty())
    }

    /// The end: what still waits has had its time.
    pub fn end(mut self) -> Leftovers {
        let failure = Error::new(
            ErrorKind::Timeout,
            "notify.no_time",
            "the run ended before the notification was delivered",
        );
        self.give_up(&failure.into());
        self.leftovers
    }

    fn leave(&mut self, notifier: usize) {
        let queue = &mut self.queues[notifier];
        let Some(failure) = queue.given_up.clone() else {
            return;
        };
        let plugin = queue.plugin.clone();
        for notification in std::mem::take(&mut queue.waiting) {
            self.keep(Undelivered {
                notifier,
                plugin: plugin.clone(),
                failure: failure.clone(),
                notification,
            });
        }
    }

    fn keep(&mut self, undelivered: Undelivered) {
        if self.leftovers.undelivered.len() < UNDELIVERED_MAX {
            self.leftovers.undelivered.push(undelivered);
        } else {
            self.leftovers.dropped_count += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use whimbrel_plugin_api::notifier::Severity;

    use super::*;

    fn told(key: &str) -> Notification {
        Notification {
            dedupe_key: key.to_owned(),
            ..Notification::default()
        }
    }

    fn outbox(plugins: &[&str]) -> Outbox {
        Outbox::new(plugins.iter().map(|plugin| (*plugin).to_owned()))
    }

    fn next(outbox: &mut Outbox) -> Option<(usize, String)> {
        outbox
            .send_next()
            .map(|(notifier, notification)| (notifier, notification.dedupe_key))
    }

    fn failure(plugin: Option<&str>) -> Failure {
        let failure = Failure::from(Error::internal("x"));
        match plugin {
            Some(plugin) => failure.at_call(plugin, Role::Notifier, "send"),
            None => failure,
        }
    }

    fn keys(leftovers: &Leftovers) -> Vec<(usize, &str)> {
        leftovers
            .undelivered
            .iter()
            .map(|one| (one.notifier, one.notification.dedupe_key.as_str()))
            .collect()
    }

    #[test]
    fn each_notifier_gets_one_at_a_time_in_order() {
        let mut outbox = outbox(&["a", "b"]);
        for (notifier, key) in [(0, "1"), (0, "2"), (1, "1")] {
            outbox.add(notifier, told(key));
        }
        assert_eq!(next(&mut outbox), Some((0, "1".to_owned())));
        assert_eq!(next(&mut outbox), Some((1, "1".to_owned())));
        assert_eq!(next(&mut outbox), None);
        outbox.answer(0, "2", Ok(()));
        assert_eq!(next(&mut outbox), None, "that was not with the worker");
        outbox.answer(0, "1", Ok(()));
        assert_eq!(next(&mut outbox), Some((0, "2".to_owned())));
        outbox.answer(0, "2", Err(failure(None)));
        outbox.answer(1, "1", Ok(()));
        assert!(outbox.is_empty());
        assert_eq!(keys(&outbox.end()), [(0, "2")]);
    }

    #[test]
    fn what_was_with_a_lost_worker_is_sent_again_and_only_the_culprit_is_given_up() {
        let mut outbox = outbox(&["good", "bad"]);
        for key in ["1", "2"] {
            outbox.add(0, told(key));
            outbox.add(1, told(key));
        }
        assert_eq!(next(&mut outbox), Some((0, "1".to_owned())));
        assert_eq!(next(&mut outbox), Some((1, "1".to_owned())));
        // Which of the two it was nobody knows, whatever call began last.
        outbox.lost(&failure(Some("good")));
        for key in ["1", "2"] {
            assert_eq!(next(&mut outbox), Some((0, key.to_owned())));
            assert_eq!(next(&mut outbox), None, "one at a time");
            outbox.answer(0, key, Ok(()));
        }
        for _ in 0..2 {
            assert_eq!(next(&mut outbox), Some((1, "1".to_owned())));
            outbox.lost(&failure(None));
            assert_eq!(next(&mut outbox), Some((1, "1".to_owned())));
            outbox.lost(&failure(Some("bad")));
        }
        outbox.add(0, told("3"));
        outbox.add(1, told("3"));
        assert_eq!(next(&mut outbox), Some((0, "3".to_owned())));
        assert_eq!(next(&mut outbox), None);
        let left = outbox.end();
        assert_eq!(keys(&left), [(1, "1"), (1, "2"), (1, "3"), (0, "3")]);
        assert_eq!(left.undelivered[0].failure.plugin.as_deref(), Some("bad"));
        assert_eq!(left.undelivered[3].failure.error.code, "notify.no_time");
    }

    #[test]
    fn too_many_cost_the_least_urgent_and_never_the_one_on_its_way() {
        let mut outbox = outbox(&["a"]);
        outbox.add(0, told("first"));
        outbox.send_next().unwrap();
        let grave = Notification {
            severity: Severity::Error,
            ..told("grave")
        };
        outbox.add(0, grave);
        for number in 0..WAITING_MAX {
            outbox.add(0, told(&number.to_string()));
        }
        let left = outbox.end();
        assert_eq!(left.dropped_count, 2);
        assert_eq!(left.undelivered.len(), WAITING_MAX);
        assert_eq!(keys(&left)[..3], [(0, "first"), (0, "grave"), (0, "2")]);
    }

    #[test]
    fn what_is_kept_has_a_limit() {
        let mut outbox = outbox(&["a"]);
        outbox.give_up(&failure(None));
        for number in 0..UNDELIVERED_MAX + 3 {
            outbox.add(0, told(&number.to_string()));
        }
        let left = outbox.end();
        assert_eq!((left.undelivered.len(), left.dropped_count), (UNDELIVERED_MAX, 3));
    }
}
