//! A run's notifications: notifiers are asked what they take before it, told while it goes on, and given a little time
//! after it.
//!
//! Nothing of this changes how a run ends: what cannot be told is a warning, and kept in the run's folder. Neighbours:
//! `notify` makes the notifications, `supervisor` has them sent.

use std::path::{Path, PathBuf};
use std::time::Instant;

use chrono::Utc;
use serde::Serialize;
use whimbrel_plugin_api::manifest::Role;
use whimbrel_plugin_api::{Error, Finding};

use super::plugin_info::describe_files;
use super::tasks::{Executed, Follower, Prepared, refuse, uses, warn};
use super::{Exit, Global};
use crate::config::{LoadedJob, Secrets, plugin_config};
use crate::events::{Event, Failure, FoundBy};
use crate::notify::{Filter, Leftovers, Moment, Notices};
use crate::report::figures::printable;
use crate::report::{PluginUsed, TaskReport};
use crate::supervisor::{Ended, Messenger, NOTIFICATION_DRAIN, NotifySettings, PluginFile, Supervised};
use crate::workspace::{RunFolder, fault, write_whole};

/// Version of the form of the file of undelivered notifications.
const FORMAT: u32 = 1;
/// What notifiers found that is kept for the report.
const FINDINGS_MAX: usize = 100;

/// Asks the notifiers of the job what they take, completes their configs and compares them. Answers what they said.
///
/// # Errors
/// The exit code, once everything has been said: a wrong config, a library that cannot be loaded, a signal.
pub fn configure(global: &Global, title: &str, prepared: &mut Prepared) -> Result<Vec<Event>, Exit> {
    let files = notifier_files(&prepared.plugins);
    if files.is_empty() {
        return Ok(Vec::new());
    }
    let described =
        describe_files(files).map_err(|failure| refuse_failure(global, title, &prepared.loaded, failure))?;
    if let Some(signal) = described.signal {
        return Err(Exit::Signal(signal));
    }
    let known = prepared.loaded.findings.len();
    let mut faults = Vec::new();
    for event in &described.events {
        let Event::PluginLoaded {
            name, description, ..
        } = event
        else {
            continue;
        };
        for place in places(&prepared.loaded, name) {
            faults.extend(plugin_config::complete(
                &description.config_schema,
                &mut prepared.loaded,
                &format!("{place}/config"),
                &prepared.variables,
            ));
        }
    }
    if !faults.is_empty() {
        return Err(refuse(global, title, Some(&prepared.loaded), &faults));
    }
    say(global, &prepared.loaded.findings[known..]);
    Ok(described.events)
}

fn notifier_files(plugins: &[PluginFile]) -> Vec<PluginFile> {
    let is_notifier = |file: &&PluginFile| file.role == Role::Notifier;
    plugins.iter().filter(is_notifier).cloned().collect()
}

/// Where the job names the notifier plugin called `name`.
fn places(loaded: &LoadedJob, name: &str) -> Vec<String> {
    uses(&loaded.job)
        .into_iter()
        .filter(|(role, plugin, _)| *role == Role::Notifier && *plugin == name)
        .map(|(_, _, place)| place)
        .collect()
}

fn refuse_failure(global: &Global, title: &str, loaded: &LoadedJob, failure: Failure) -> Exit {
    let place = failure
        .plugin
        .as_deref()
        .and_then(|name| places(loaded, name).into_iter().next());
    let error = match place {
        Some(place) => failure.error.with_place(loaded.place(&format!("{place}/plugin"))),
        None => failure.error,
    };
    refuse(global, title, Some(loaded), &[error])
}

/// The notifications of one run.
pub struct Notifying {
    messenger: Messenger,
    notices: Notices,
    filters: Vec<Filter>,
    began: Instant,
    /// Whether it was the last event is known once the worker is.
    last: Option<Event>,
    findings: Vec<FoundBy>,
    plugins: Vec<PluginUsed>,
    file: PathBuf,
    run_id: String,
    secrets: Secrets,
}

/// The file of undelivered notifications.
#[derive(Serialize)]
struct UndeliveredFile<'a> {
    format: u32,
    run_id: &'a str,
    #[serde(flatten)]
    left: &'a Leftovers,
}

impl Notifying {
    /// Starts sending for a run of `prepared`, whose configs were completed by what was `described`; `None` if the job
    /// has no notifiers.
    ///
    /// # Errors
    /// If not even a thread can be started.
    pub fn start(
        prepared: &Prepared,
        run: &RunFolder,
        run_id: &str,
        described: &[Event],
    ) -> Result<Option<Self>, Error> {
        let loaded = &prepared.loaded;
        if loaded.job.notifiers.is_empty() {
            return Ok(None);
        }
        let folder = match loaded.folder.as_os_str().is_empty() {
            true => PathBuf::from("."),
            false => loaded.folder.clone(),
        };
        let report = absolute(&run.html_report());
        Ok(Some(Self {
            messenger: Messenger::start(NotifySettings {
                notifiers: loaded.job.notifiers.clone(),
                plugins: notifier_files(&prepared.plugins),
                folder,
                call_timeout_secs: loaded.job.limits.call_timeout_secs.into(),
                secrets: loaded.secrets.clone(),
            })?,
            notices: Notices::new(Some(report.display().to_string())),
            filters: loaded.job.notifiers.iter().map(Filter::new).collect(),
            began: Instant::now(),
            last: None,
            plugins: described.iter().filter_map(used).collect(),
            findings: Vec::new(),
            file: run.undelivered_notifications(),
            run_id: run_id.to_owned(),
            secrets: loaded.secrets.clone(),
        }))
    }

    fn now(&self) -> Moment {
        Moment {
            at: Utc::now(),
            elapsed: self.began.elapsed(),
        }
    }

    fn note(&mut self, event: &Event) {
        let now = self.now();
        let told = self.notices.observe(event, now);
        self.tell(told);
    }

    fn note_loss(&mut self, failures: Vec<Failure>) {
        let now = self.now();
        let failures = self.secrets.scrub_all(failures);
        let told = self.notices.lost(&failures, now);
        self.tell(told);
    }

    fn tell(&mut self, notifications: Vec<whimbrel_plugin_api::Notification>) {
        for notification in notifications {
            for (notifier, filter) in self.filters.iter().enumerate() {
                if filter.wants(&notification) {
                    self.messenger.tell(notifier, notification.clone());
                }
            }
        }
    }

    /// The run came to nothing, which has been said: that is told too.
    pub fn abandon(mut self, global: &Global, supervised: Option<&Supervised>) {
        match supervised {
            Some(supervised) => self.note_end(supervised),
            None => {
                let error = Error::config("run.refused", "the run could not be begun");
                self.note_loss(vec![error.into()]);
            }
        }
        self.settle(global);
    }

    /// Tells how the run ended, waits a little for what is on its way, and puts what could not be told into `report`.
    /// `keep` takes note of events.
    pub fn finish(
        mut self,
        global: &Global,
        executed: &mut Executed,
        report: &mut TaskReport,
        mut keep: impl FnMut(&Event),
    ) {
        self.note_end(&executed.supervised);
        report.plugins.append(&mut self.plugins);
        let (findings, events) = self.settle(global);
        for event in &events {
            executed.events.add(event);
            keep(event);
        }
        // What a lost worker could not say is completed from events, which have these too.
        if matches!(executed.supervised.ended, Ended::Outcome(_)) {
            report.summary.findings.extend(findings);
        }
    }

    fn note_end(&mut self, supervised: &Supervised) {
        let last = self.last.take();
        match (&supervised.trouble, &supervised.ended, last) {
            // The worker says that it was cancelled; people want to know why.
            (Some(trouble), _, _) => self.note_loss(vec![trouble.clone().into()]),
            (None, Ended::Config(faults), _) => {
                self.note_loss(faults.iter().cloned().map(Failure::from).collect());
            }
            (None, Ended::Lost(failure), _) => self.note_loss(vec![(**failure).clone()]),
            (None, Ended::Outcome(_), Some(last)) => self.note(&last),
            (None, Ended::Outcome(outcome), None) => {
                let outcome = Box::new(self.secrets.scrub_all((**outcome).clone()));
                self.note(&Event::Finished { outcome });
            }
        }
    }

    /// What notifiers found, what could not be told, and the events of both.
    fn settle(self, global: &Global) -> (Vec<FoundBy>, Vec<Event>) {
        let (left, mut events) = self.messenger.finish(NOTIFICATION_DRAIN);
        let mut findings = self.findings;
        findings.extend(events.iter().filter_map(found));
        let mut warnings = warnings(&left, &self.file);
        if !left.undelivered.is_empty()
            && let Err(error) = write(&self.file, &self.run_id, &left, &self.secrets)
        {
            warnings.push(Finding::warning(error.code, error.message));
        }
        say(global, &warnings);
        for finding in warnings {
            let role = Some(Role::Notifier);
            findings.push(FoundBy {
                role,
                finding: finding.clone(),
            });
            events.push(Event::Found { role, finding });
        }
        (findings, events)
    }
}

impl Follower for Notifying {
    fn follow(&mut self, event: &Event) -> Result<(), Error> {
        match event {
            Event::Finished { .. } => self.last = Some(event.clone()),
            event => self.note(event),
        }
        Ok(())
    }

    fn take_events(&mut self) -> Vec<Event> {
        let events = self.messenger.take_events();
        let room = FINDINGS_MAX.saturating_sub(self.findings.len());
        self.findings.extend(events.iter().filter_map(found).take(room));
        events
    }
}

fn used(event: &Event) -> Option<PluginUsed> {
    match event {
        Event::PluginLoaded {
            role, name, version, ..
        } => Some(PluginUsed {
            role: *role,
            name: name.clone(),
            version: version.clone(),
            lacks_lanes: false,
        }),
        _ => None,
    }
}

fn found(event: &Event) -> Option<FoundBy> {
    match event {
        Event::Found { role, finding } => Some(FoundBy {
            role: *role,
            finding: finding.clone(),
        }),
        _ => None,
    }
}

/// Unless standard output holds all that is said.
fn say(global: &Global, findings: &[Finding]) {
    if !global.json {
        findings.iter().for_each(warn);
    }
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

/// What is said of `left`.
fn warnings(left: &Leftovers, file: &Path) -> Vec<Finding> {
    let mut warnings = Vec::new();
    let noun = |count: u64| {
        if count == 1 {
            "notification was"
        } else {
            "notifications were"
        }
    };
    if let Some(first) = left.undelivered.first() {
        let count = left.undelivered.len() as u64;
        let mut plugins: Vec<String> = left
            .undelivered
            .iter()
            .map(|one| format!("`{}`", one.plugin))
            .collect();
        plugins.sort();
        plugins.dedup();
        let error = &first.failure.error;
        let message = format!(
            "{count} {} not delivered by {}; the first because: {} [{}]",
            noun(count),
            plugins.join(", "),
            printable(&error.message),
            error.code
        );
        let help = format!("what was not told is in `{}`", file.display());
        warnings.push(Finding::warning("notify.undelivered", message).with_help(help));
    }
    if left.dropped_count > 0 {
        let message = format!(
            "{} {} left out, since too many waited",
            left.dropped_count,
            noun(left.dropped_count)
        );
        warnings.push(Finding::warning("notify.dropped", message));
    }
    warnings
}

fn write(path: &Path, run_id: &str, left: &Leftovers, secrets: &Secrets) -> Result<(), Error> {
    let content = UndeliveredFile {
        format: FORMAT,
        run_id,
        left,
    };
    let text = serde_json::to_value(&content).and_then(|mut value| {
        secrets.scrub_value(&mut value);
        serde_json::to_vec_pretty(&value)
    });
    let text =
        text.map_err(|_| Error::internal("what could not be told could not be written as JSON either"))?;
    write_whole(path, &text).map_err(|error| fault(path, &error))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use serde_json::Value;
    use whimbrel_plugin_api::Notification;

    use super::*;
    use crate::notify::Undelivered;

    fn left() -> Leftovers {
        let undelivered = |notifier, plugin: &str| Undelivered {
            notifier,
            plugin: plugin.to_owned(),
            failure: Error::internal("refused for s3cr3t-token").into(),
            notification: Notification {
                dedupe_key: "r/completed/1".to_owned(),
                body: "with s3cr3t-token in it".to_owned(),
                ..Notification::default()
            },
        };
        Leftovers {
            undelivered: vec![undelivered(1, "b"), undelivered(0, "a"), undelivered(2, "b")],
            dropped_count: 1,
        }
    }

    #[test]
    fn what_could_not_be_told_is_said_once_with_its_place() {
        assert_eq!(warnings(&Leftovers::default(), Path::new("x")), []);
        let said = warnings(&left(), Path::new("r/undelivered-notifications.json"));
        assert_eq!(
            said[0].message,
            "3 notifications were not delivered by `a`, `b`; the first because: refused for s3cr3t-token [plugin.internal]"
        );
        assert!(
            said[0]
                .help
                .as_deref()
                .unwrap()
                .contains("`r/undelivered-notifications.json`")
        );
        assert_eq!(
            said[1].message,
            "1 notification was left out, since too many waited"
        );
    }

    #[test]
    fn the_file_is_for_its_owner_and_holds_no_secret() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("u.json");
        let secrets = Secrets::default();
        secrets.add("s3cr3t-token");
        write(&path, "r-1", &left(), &secrets).unwrap();
        assert_eq!(
            std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(!text.contains("s3cr3t-token"), "{text}");
        let value: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(
            (value["format"].as_u64(), value["run_id"].as_str()),
            (Some(1), Some("r-1"))
        );
        assert_eq!(
            value["undelivered"][0]["notification"]["dedupe_key"],
            "r/completed/1"
        );
        assert_eq!(value["dropped_count"], 1);
    }
}
