//! The suite of the notifier role: what every notifier's tests run. See the [module page](super) for how.
//!
//! Here are the case and the list of checks. What was delivered is read back by a hook of the plugin's own tests, so that
//! a receipt alone proves nothing.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde_json::Value as Json;

use super::notifier_checks as checks;
use super::notifier_life_checks as life;
use super::notifier_target::Target;
use super::reading::QuietHost;
use super::report::{Checked, Report, ensure, skip};
use super::source::{describes_config_and_types, honest, refuses};
use crate::abi::root_module::ForeignPlugin;
use crate::check::FindingLevel;
use crate::error::ErrorKind;
use crate::manifest::Role;
use crate::notifier::{Notification, Notifier as _, Severity};

/// A notification as the service shows it; `None` for what the service does not keep.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Delivered {
    /// [`Notification::dedupe_key`].
    pub dedupe_key: Option<String>,
    /// [`Notification::event`].
    pub event: Option<String>,
    /// [`Notification::severity`].
    pub severity: Option<Severity>,
    /// [`Notification::title`].
    pub title: Option<String>,
    /// [`Notification::body`].
    pub body: Option<String>,
    /// [`Notification::facts`].
    pub facts: Option<BTreeMap<String, String>>,
    /// [`Notification::at`].
    pub at: Option<String>,
}

impl From<Notification> for Delivered {
    fn from(notification: Notification) -> Self {
        Self {
            dedupe_key: Some(notification.dedupe_key),
            event: Some(notification.event),
            severity: Some(notification.severity),
            title: Some(notification.title),
            body: Some(notification.body),
            facts: Some(notification.facts),
            at: Some(notification.at),
        }
    }
}

/// Gives the config of a target by its name.
pub type TargetConfig = Arc<dyn Fn(&str) -> Json + Send + Sync>;
/// Reads what arrived at a target, oldest first.
pub type ReadDelivered = Arc<dyn Fn(&str) -> Vec<Delivered> + Send + Sync>;
/// Makes a target unusable (`true`) and usable again (`false`).
pub type Outage = Arc<dyn Fn(&str, bool) + Send + Sync>;

/// A notifier with as many targets as the suite needs, and a way to see what arrived there.
#[derive(Clone)]
pub struct NotifierCase {
    /// The config of a target. Each name that it is given stands for one target, where nothing has arrived at first; the
    /// same name must give the same config.
    pub target: TargetConfig,
    /// What arrived at the target of that name. Waits for what the service has taken and not yet shown.
    pub delivered: ReadDelivered,
    /// Takes the service of a target away while the notifier is open, and gives it back.
    pub outage: Option<Outage>,
    /// The config of a target at which `send` blocks until it is cancelled.
    pub blocking: Option<Json>,
    /// Configs that must be refused with kind config, over and above those that the suite makes up. The place of the
    /// error must begin with `config`.
    pub bad_configs: Vec<Json>,
    /// Configs of services that cannot be reached or used: `open` fails, or `check` finds a blocker.
    pub unreachable: Vec<Json>,
}

impl fmt::Debug for NotifierCase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NotifierCase").finish_non_exhaustive()
    }
}

impl NotifierCase {
    /// A notifier whose targets are made by `target` and read by `delivered`.
    pub fn new(
        target: impl Fn(&str) -> Json + Send + Sync + 'static,
        delivered: impl Fn(&str) -> Vec<Delivered> + Send + Sync + 'static,
    ) -> Self {
        Self {
            target: Arc::new(target),
            delivered: Arc::new(delivered),
            outage: None,
            blocking: None,
            bad_configs: Vec::new(),
            unreachable: Vec::new(),
        }
    }

    /// Sets [`Self::outage`].
    #[must_use]
    pub fn with_outage(mut self, outage: impl Fn(&str, bool) + Send + Sync + 'static) -> Self {
        self.outage = Some(Arc::new(outage));
        self
    }

    /// Sets [`Self::blocking`].
    #[must_use]
    pub fn with_blocking(mut self, config: Json) -> Self {
        self.blocking = Some(config);
        self
    }

    /// Adds to [`Self::bad_configs`].
    #[must_use]
    pub fn with_bad_config(mut self, config: Json) -> Self {
        self.bad_configs.push(config);
        self
    }

    /// Adds to [`Self::unreachable`].
    #[must_use]
    pub fn with_unreachable(mut self, config: Json) -> Self {
        self.unreachable.push(config);
        self
    }
}

type NotifierCheck = fn(&Target) -> Checked;

const NOTIFIER_CHECKS: [(&str, NotifierCheck); 17] = [
    (
        "check_finds_no_blocker_and_sends_nothing",
        checks::check_sends_nothing,
    ),
    ("open_and_close_send_nothing", checks::open_and_close_send_nothing),
    (
        "each_notification_is_delivered_once",
        checks::each_is_delivered_once,
    ),
    ("every_severity_is_delivered", checks::every_severity_is_delivered),
    (
        "same_key_again_is_as_declared",
        checks::same_key_again_is_as_declared,
    ),
    (
        "same_key_after_reopening_is_as_declared",
        checks::same_key_after_reopening,
    ),
    (
        "other_key_is_another_notification",
        checks::other_key_is_another_notification,
    ),
    ("empty_key_is_no_repetition", checks::empty_key_is_no_repetition),
    ("empty_texts_are_fine", checks::empty_texts_are_fine),
    (
        "hostile_texts_stay_one_notification",
        checks::hostile_texts_stay_one_notification,
    ),
    (
        "long_texts_are_whole_or_refused",
        checks::long_texts_are_whole_or_refused,
    ),
    ("cancelled_notifier_ends_soon", life::cancelled_notifier_ends_soon),
    ("cancel_ends_a_blocked_send", life::cancel_ends_a_blocked_send),
    (
        "an_outage_is_an_error_and_passes",
        life::an_outage_is_an_error_and_passes,
    ),
    ("notifiers_run_side_by_side", life::notifiers_run_side_by_side),
    (
        "same_key_side_by_side_is_as_declared",
        life::same_key_side_by_side,
    ),
    ("check_after_send_is_fine", checks::check_after_send_is_fine),
];

/// Runs every check of the notifier role.
pub fn run(plugin: ForeignPlugin, case: NotifierCase) -> Report {
    let mut report = Report::default();
    report.run("describes_itself", move || describes_itself(plugin));
    let capabilities = plugin
        .describe(Role::Notifier)
        .ok()
        .and_then(|description| description.notifier)
        .unwrap_or_default();
    for (name, check) in NOTIFIER_CHECKS {
        let target = Target::new(plugin, case.clone(), capabilities.clone(), name);
        report.run(name, move || check(&target));
    }
    let of = case.clone();
    report.run("bad_config_is_refused", move || {
        bad_config_is_refused(plugin, &of)
    });
    report.run("unreachable_service_is_found", move || {
        unreachable_service_is_found(plugin, &case)
    });
    report
}

fn describes_itself(plugin: ForeignPlugin) -> Checked {
    let description = plugin.describe(Role::Notifier)?;
    ensure(description.notifier.is_some(), || {
        "the description has no capabilities of a notifier".to_owned()
    })?;
    describes_config_and_types(&description)
}

fn bad_config_is_refused(plugin: ForeignPlugin, case: &NotifierCase) -> Checked {
    let open = |config: &Json| plugin.open_notifier(config, Arc::new(QuietHost)).map(drop);
    refuses(&(case.target)("bad_config"), &case.bad_configs, open)?;
    for config in &case.bad_configs {
        let place = open(config)
            .err()
            .and_then(|error| error.place)
            .unwrap_or_default();
        ensure(place.starts_with("config"), || {
            format!(
                "the error of the config `{config}` has the place `{place}`, which is no path of a config"
            )
        })?;
    }
    Ok(())
}

fn unreachable_service_is_found(plugin: ForeignPlugin, case: &NotifierCase) -> Checked {
    if case.unreachable.is_empty() {
        return skip("the case names no config of a service that cannot be reached");
    }
    for config in &case.unreachable {
        let mut notifier = match plugin.open_notifier(config, Arc::new(QuietHost)) {
            Err(error) => {
                honest(config, &error)?;
                continue;
            }
            Ok(notifier) => notifier,
        };
        match notifier.check() {
            Err(error) => honest(config, &error)?,
            Ok(findings) => ensure(
                findings
                    .iter()
                    .any(|finding| finding.level == FindingLevel::Blocker),
                || format!("`check` finds no blocker with the config `{config}`"),
            )?,
        }
        match notifier.send(&Notification::default()) {
            Ok(_) => ensure(false, || format!("`send` succeeds with the config `{config}`"))?,
            Err(error) => ensure(error.kind != ErrorKind::Internal, || {
                format!("`send` gives an internal error with the config `{config}`: {error}")
            })?,
        }
    }
    Ok(())
}
