//! The notifier role: people are told of something.
//!
//! The host keeps an outbox and calls until a receipt comes, so the same notification may arrive more than once and
//! carries a key by which the second can be recognised. Texts are plain and may hold anything: they come from job files,
//! systems and their errors, so it is the notifier that escapes what its service would take for markup or commands.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::capability::NotifierCapabilities;
use crate::check::Finding;
use crate::config::Config;
use crate::error::Result;
use crate::services::Services;

/// How a notifier comes into being.
pub trait OpenNotifier: Notifier + Sized + 'static {
    /// Its part of the job file.
    type Config: Config;

    /// What it can do; asked without opening it, must not do I/O. By default nothing beyond [`Notifier::send`].
    fn capabilities() -> NotifierCapabilities {
        NotifierCapabilities::default()
    }

    /// Makes one; may connect, must not send. Called once for each object; several may be open on one target, in one
    /// process or in many.
    ///
    /// # Errors
    /// Kind config, with the path of the key as its place, if the config is wrong.
    fn open(config: Self::Config, services: Services) -> Result<Self>;
}

/// People are told. Calls of one object never overlap, but may come from different threads.
pub trait Notifier: Send {
    /// Looks for anything that would stop a message: reachability, credentials. Sends nothing and changes nothing.
    /// May be called at any time and any number of times.
    fn check(&mut self) -> Result<Vec<Finding>> {
        Ok(Vec::new())
    }

    /// Sends one notification. `Ok` means that the service has taken it for good.
    ///
    /// Any text may be empty, very long or full of control characters: it is delivered, as one notification, or refused
    /// with kind invalid data, which the host does not try again. Errors of transient kinds are tried again later with the same key,
    /// so a notifier that [dedupes](NotifierCapabilities::dedupes) answers a key that it has delivered with `Ok` and
    /// delivers nothing; keys that are empty are never repetitions. An error leaves the object usable unless its scope is
    /// `session`. After the object was cancelled, a call ends soon, with `plugin.cancelled` and nothing delivered, or as usual.
    ///
    /// # Errors
    /// Why the service has not taken it.
    fn send(&mut self, notification: &Notification) -> Result<NotificationReceipt>;
}

/// How urgent a notification is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Good to know.
    #[default]
    Info,
    /// Somebody should look.
    Warning,
    /// Something failed.
    Error,
    /// Somebody must act now.
    #[serde(other)]
    Critical,
}

impl Severity {
    /// Every severity, the least urgent first.
    pub const ALL: [Self; 4] = [Self::Info, Self::Warning, Self::Error, Self::Critical];

    /// Its name in messages and JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Error => "error",
            Self::Critical => "critical",
        }
    }
}

/// One thing to tell.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Notification {
    /// The same for every try of the same message; empty if a repetition need not be recognised.
    pub dedupe_key: String,
    /// The event, such as `completed`.
    pub event: String,
    /// How urgent.
    pub severity: Severity,
    /// One line.
    pub title: String,
    /// More lines, plain text.
    pub body: String,
    /// Facts by name: job, run, counts.
    pub facts: BTreeMap<String, String>,
    /// When it happened, RFC 3339.
    pub at: String,
}

/// The service has taken a notification.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NotificationReceipt {
    /// The service's own id of the message, if it gives one. That of the first for a repetition that was recognised.
    pub id: Option<String>,
}
