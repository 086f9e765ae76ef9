//! The notifier role: people are told of something.
//!
//! The host keeps an outbox and calls until a receipt comes, so the same notification may arrive more than once and
//! carries a key by which the second can be recognised.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::check::Finding;
use crate::config::Config;
use crate::error::Result;
use crate::services::Services;

/// How a notifier comes into being.
pub trait OpenNotifier: Notifier + Sized + 'static {
    /// Its part of the job file.
    type Config: Config;

    /// Makes one; may connect, must not send.
    fn open(config: Self::Config, services: Services) -> Result<Self>;
}

/// People are told.
pub trait Notifier: Send {
    /// Looks for anything that would stop a message: reachability, credentials. Sends nothing.
    fn check(&mut self) -> Result<Vec<Finding>> {
        Ok(Vec::new())
    }

    /// Sends one notification. `Ok` means that the service has taken it; transient errors are tried again later.
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

/// One thing to tell.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Notification {
    /// The same for every try of the same message.
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
    /// The service's own id of the message, if it gives one.
    pub id: Option<String>,
}
