//! A notifier's target as the checks use it: open, send, and compare what arrived with what was sent.
//! Neighbour: `notifier_checks`, which uses it.

use std::sync::Arc;

use super::notifier::{Delivered, NotifierCase};
use super::reading::QuietHost;
use super::report::{Checked, ensure, fail};
use crate::abi::notifier::ForeignNotifier;
use crate::abi::root_module::ForeignPlugin;
use crate::capability::NotifierCapabilities;
use crate::error::{Error, ErrorKind, ErrorScope};
use crate::notifier::{Notification, NotificationReceipt, Notifier as _, Severity};

/// One target of the case, and what the plugin declares.
#[derive(Clone)]
pub(super) struct Target {
    pub(super) plugin: ForeignPlugin,
    pub(super) case: NotifierCase,
    pub(super) capabilities: NotifierCapabilities,
    name: String,
}

impl Target {
    pub(super) fn new(
        plugin: ForeignPlugin,
        case: NotifierCase,
        capabilities: NotifierCapabilities,
        name: &str,
    ) -> Self {
        Self {
            plugin,
            case,
            capabilities,
            name: name.to_owned(),
        }
    }

    pub(super) fn open(&self) -> Checked<ForeignNotifier> {
        let config = (self.case.target)(&self.name);
        Ok(self.plugin.open_notifier(&config, Arc::new(QuietHost))?)
    }

    /// Takes the service away, or gives it back. False if the case cannot.
    pub(super) fn set_outage(&self, out: bool) -> bool {
        self.case
            .outage
            .as_ref()
            .map(|outage| outage(&self.name, out))
            .is_some()
    }

    /// What has arrived so far.
    pub(super) fn delivered(&self) -> Vec<Delivered> {
        (self.case.delivered)(&self.name)
    }

    /// Exactly `sent` has arrived, in this order.
    pub(super) fn ensure_delivered(&self, sent: &[Notification]) -> Checked {
        let delivered = self.delivered();
        ensure(delivered.len() == sent.len(), || {
            format!("{} were sent and {} arrived", sent.len(), delivered.len())
        })?;
        for (number, (sent, delivered)) in sent.iter().zip(&delivered).enumerate() {
            if let Some(part) = differing(sent, delivered) {
                return fail(format!(
                    "number {number} arrived with another {part} than it was sent with"
                ));
            }
        }
        Ok(())
    }
}

/// A notification that is like no other: `key` stands in each of its texts.
pub(super) fn told(key: &str) -> Notification {
    Notification {
        dedupe_key: format!("suite/{key}"),
        event: "completed".to_owned(),
        severity: Severity::Info,
        title: format!("title of {key}"),
        body: format!("first line of {key}\nsecond line: größer, 鳥, 🐦"),
        facts: [
            ("job".to_owned(), format!("job of {key}")),
            ("records".to_owned(), "42".to_owned()),
        ]
        .into(),
        at: "2024-02-29T23:59:59.999999Z".to_owned(),
    }
}

/// Sends what must be delivered.
pub(super) fn deliver(
    notifier: &mut ForeignNotifier,
    notification: &Notification,
) -> Checked<NotificationReceipt> {
    Ok(notifier.send(notification)?)
}

/// A refusal must say that it is about this notification and leave the notifier open.
pub(super) fn is_honest_refusal(error: &Error, what: &str) -> Checked {
    ensure(error.kind == ErrorKind::InvalidData, || {
        format!(
            "{what} is refused with an error of kind {} ({}), not invalid_data: {error}",
            error.kind.name(),
            error.code
        )
    })?;
    ensure(error.scope != ErrorScope::Session, || {
        format!("{what} is refused with scope session, which ends the notifier")
    })
}

/// The first part that differs. Control characters are no part of a text here: a service may take them away or escape them.
fn differing(sent: &Notification, delivered: &Delivered) -> Option<&'static str> {
    let differs = |sent: &str, shown: &Option<String>| {
        shown
            .as_ref()
            .is_some_and(|shown| visible(sent) != visible(shown))
    };
    let facts_differ = || {
        let facts = delivered.facts.as_ref()?;
        let shown = facts.iter().map(|(name, value)| (visible(name), visible(value)));
        let wanted = sent
            .facts
            .iter()
            .map(|(name, value)| (visible(name), visible(value)));
        Some(!shown.eq(wanted))
    };
    if differs(&sent.dedupe_key, &delivered.dedupe_key) {
        Some("dedupe key")
    } else if differs(&sent.event, &delivered.event) {
        Some("event")
    } else if delivered.severity.is_some_and(|shown| shown != sent.severity) {
        Some("severity")
    } else if differs(&sent.title, &delivered.title) {
        Some("title")
    } else if differs(&sent.body, &delivered.body) {
        Some("body")
    } else if differs(&sent.at, &delivered.at) {
        Some("time")
    } else if facts_differ() == Some(true) {
        Some("set of facts")
    } else {
        None
    }
}

fn visible(text: &str) -> String {
    text.chars().filter(|letter| !letter.is_control()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_that_a_service_keeps_is_compared() {
        let sent = told("a");
        assert_eq!(differing(&sent, &sent.clone().into()), None);
        assert_eq!(differing(&sent, &Delivered::default()), None);
        let mut shown = Delivered::from(sent.clone());
        shown.body = Some(sent.body.replace('\n', ""));
        assert_eq!(differing(&sent, &shown), None);
        let other = Delivered::from(Notification {
            severity: Severity::Error,
            ..told("b")
        });
        let parts: Vec<_> = [
            Delivered {
                dedupe_key: other.dedupe_key.clone(),
                ..Delivered::default()
            },
            Delivered {
                event: Some("failed".to_owned()),
                ..Delivered::default()
            },
            Delivered {
                severity: other.severity,
                ..Delivered::default()
            },
            Delivered {
                title: other.title.clone(),
                ..Delivered::default()
            },
            Delivered {
                body: other.body.clone(),
                ..Delivered::default()
            },
            Delivered {
                facts: other.facts.clone(),
                ..Delivered::default()
            },
            Delivered {
                at: Some(String::new()),
                ..Delivered::default()
            },
        ]
        .iter()
        .map(|shown| differing(&sent, shown))
        .collect();
        assert!(parts.iter().all(Option::is_some), "{parts:?}");
    }
}
