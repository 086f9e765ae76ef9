//! The notifier, whose service is a list in this process and, if the config names one, a file.
//!
//! Tests read the list with [`notified`] and take the service away with [`set_outage`].

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::sync::{Mutex, MutexGuard, PoisonError};

use whimbrel_plugin_api::{
    Error, ErrorKind, ErrorScope, Finding, Notification, NotificationReceipt, Notifier, NotifierCapabilities,
    OpenNotifier, Result, Services, Severity,
};

use crate::config::{Call, How, ScriptedConfig};
use crate::script::Script;

/// Octets of title and body that the service takes.
const TEXT_BYTES_MAX: usize = 100_000;

static SERVICES: Mutex<BTreeMap<String, Service>> = Mutex::new(BTreeMap::new());

#[derive(Default)]
struct Service {
    is_away: bool,
    keys: BTreeSet<String>,
    notifications: Vec<Notification>,
}

fn services() -> MutexGuard<'static, BTreeMap<String, Service>> {
    SERVICES.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What the service called `store` has taken in this process, oldest first.
pub fn notified(store: &str) -> Vec<Notification> {
    let services = services();
    services
        .get(store)
        .map(|service| service.notifications.clone())
        .unwrap_or_default()
}

/// Takes the service called `store` away, or gives it back.
pub fn set_outage(store: &str, is_away: bool) {
    services().entry(store.to_owned()).or_default().is_away = is_away;
}

/// The notifier role.
pub struct ScriptedNotifier {
    script: Script,
    late: Vec<Notification>,
}

impl OpenNotifier for ScriptedNotifier {
    type Config = ScriptedConfig;

    fn capabilities() -> NotifierCapabilities {
        NotifierCapabilities {
            dedupes: true,
            text_bytes_max: TEXT_BYTES_MAX as u64,
        }
    }

    fn open(config: ScriptedConfig, services: Services) -> Result<Self> {
        let script = Script::new(config, services);
        script.play(Call::Open)?;
        Ok(Self {
            script,
            late: Vec::new(),
        })
    }
}

impl Drop for ScriptedNotifier {
    fn drop(&mut self) {
        for notification in std::mem::take(&mut self.late) {
            // There is nobody to hand an error to, here and below.
            drop(self.deliver(&notification, false));
        }
        drop(self.script.act(Call::Close));
    }
}

impl Notifier for ScriptedNotifier {
    fn check(&mut self) -> Result<Vec<Finding>> {
        if self.script.play(Call::Check)? == Some(How::SendInCheck) {
            self.deliver(&Notification::default(), false)?;
        }
        Ok(Vec::new())
    }

    fn send(&mut self, notification: &Notification) -> Result<NotificationReceipt> {
        let how = self.script.play(Call::Send)?;
        if notification.title.len() + notification.body.len() > TEXT_BYTES_MAX {
            return Err(Error::invalid_data("scripted.too_long", "the text is too long")
                .with_scope(ErrorScope::Write));
        }
        let mut sent = notification.clone();
        let receipt = NotificationReceipt {
            id: Some(notification.dedupe_key.clone()),
        };
        match how {
            Some(How::LoseNotification) => return Ok(receipt),
            Some(How::DeliverAtClose) => {
                self.late.push(sent);
                return Ok(receipt);
            }
            Some(How::PanicOnEmpty) => assert!(!sent.title.is_empty(), "scripted panic on an empty title"),
            Some(How::SplitLines) => {
                for line in notification.body.split(['\n', '\r']) {
                    sent.body = line.to_owned();
                    self.deliver(&sent, true)?;
                }
                return Ok(receipt);
            }
            Some(How::CutText) => sent.body = sent.body.chars().take(20).collect(),
            Some(How::WrongSeverity) => sent.severity = Severity::Info,
            Some(How::LoseFacts) => sent.facts.clear(),
            Some(How::RefuseForGood) if sent.body.contains('\0') => {
                return Err(Error::internal("the script refuses this text"));
            }
            Some(How::SendInOutage) => set_outage(&self.script.config.store, false),
            _ => {}
        }
        self.deliver(&sent, how == Some(How::ForgetKeys))?;
        Ok(receipt)
    }
}

impl ScriptedNotifier {
    fn deliver(&self, notification: &Notification, forgets_keys: bool) -> Result<()> {
        let config = &self.script.config;
        let mut services = services();
        let service = services.entry(config.store.clone()).or_default();
        if service.is_away {
            return Err(
                Error::new(ErrorKind::Unavailable, "scripted.outage", "the service is away")
                    .with_scope(ErrorScope::Write),
            );
        }
        let key = &notification.dedupe_key;
        let is_new = key.is_empty() || service.keys.insert(key.clone());
        if !is_new && !forgets_keys {
            return Ok(());
        }
        if let Some(path) = &config.notified_path {
            let io = |error: &dyn std::error::Error| {
                Error::internal("the file of notifications cannot be written").with_cause(error)
            };
            let mut line = serde_json::to_vec(notification).map_err(|error| io(&error))?;
            line.push(b'\n');
            let file = std::fs::File::options().create(true).append(true).open(path);
            file.and_then(|mut file| file.write_all(&line))
                .map_err(|error| io(&error))?;
        }
        service.notifications.push(notification.clone());
        Ok(())
    }
}
