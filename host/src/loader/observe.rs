//! Opens roles of loaded plugins so that every call of them is announced, timed and attributed.
//!
//! Also what the host offers to plugins: their log becomes events. Neighbours: `calls` keeps the calls in flight,
//! `opened` holds the opened objects.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value};
use whimbrel_plugin_api::abi::Validation;
use whimbrel_plugin_api::manifest::Role;
use whimbrel_plugin_api::services::HostServices;
use whimbrel_plugin_api::{LogLevel, Result};

pub use super::calls::{CallLog, InFlight};
use super::calls::{CallSite, Waiting};
use super::library::LoadedPlugin;
pub use super::opened::{OpenedNotifier, OpenedSink, OpenedSource, OpenedStream, OpenedTransform};
use crate::events::{Emitter, Event, Failure};

/// What the host offers to one opened object: its log becomes events, its waits are none of the time of its calls.
struct PluginServices {
    plugin: Arc<str>,
    emitter: Emitter,
    waiting: Waiting,
}

impl HostServices for PluginServices {
    fn log(&self, level: LogLevel, message: &str) {
        self.emitter.emit(&Event::Log {
            plugin: self.plugin.to_string(),
            level: match level {
                LogLevel::Error => "error",
                LogLevel::Warn => "warn",
                LogLevel::Info => "info",
                LogLevel::Debug => "debug",
            }
            .to_owned(),
            message: message.to_owned(),
        });
    }

    fn progress(&self, what: &str, done: u64, total: Option<u64>) {
        let total = total.map_or_else(String::new, |total| format!(" of {total}"));
        self.log(LogLevel::Debug, &format!("{what}: {done}{total}"));
    }

    fn acquire(&self, _: &str, _: u64) -> bool {
        // No quota is configured, so every permit is free.
        true
    }

    fn waits(&self, time: Duration) {
        self.waiting.announce(time);
    }
}

/// Opens roles of one loaded plugin.
#[derive(Clone)]
pub struct Opener {
    loaded: Arc<LoadedPlugin>,
    log: Arc<CallLog>,
    validation: Validation,
}

impl Opener {
    /// Objects opened with this announce their calls in `log`.
    pub fn new(loaded: LoadedPlugin, log: Arc<CallLog>) -> Self {
        Self {
            loaded: Arc::new(loaded),
            log,
            // No plugin is locked yet, so every text and offset is looked at.
            validation: Validation::Full,
        }
    }

    /// The plugin's name.
    pub fn name(&self) -> &str {
        &self.loaded.manifest.name
    }

    /// The plugin's version.
    pub fn version(&self) -> &semver::Version {
        &self.loaded.manifest.version
    }

    fn site(&self, role: Role) -> CallSite {
        CallSite {
            log: Arc::clone(&self.log),
            plugin: self.name().into(),
            role,
            canceller: None,
            timed_out: Arc::default(),
            waiting: Waiting::default(),
        }
    }

    fn services(&self, site: &CallSite) -> Arc<PluginServices> {
        Arc::new(PluginServices {
            plugin: self.name().into(),
            emitter: self.log.emitter.clone(),
            waiting: site.waiting.clone(),
        })
    }

    /// Config schema, capabilities and type mappings of a role.
    pub fn describe(&self, role: Role) -> Result<whimbrel_plugin_api::export::Description, Failure> {
        self.site(role)
            .run("describe", || self.loaded.plugin.describe(role))
    }

    /// Opens the source role.
    pub fn open_source(&self, config: &Map<String, Value>) -> Result<OpenedSource, Failure> {
        let mut site = self.site(Role::Source);
        let services = self.services(&site);
        let source = site.run("open", || {
            self.loaded
                .plugin
                .open_source(&Value::Object(config.clone()), services, self.validation)
        })?;
        site.canceller = Some(source.canceller());
        Ok(OpenedSource {
            source: Box::new(source),
            site,
            snapshot: None,
        })
    }

    /// Opens a session of the sink role.
    pub fn open_sink(&self, config: &Map<String, Value>) -> Result<OpenedSink, Failure> {
        let mut site = self.site(Role::Sink);
        let services = self.services(&site);
        let sink = site.run("open", || {
            self.loaded
                .plugin
                .open_sink(&Value::Object(config.clone()), services, self.validation)
        })?;
        site.canceller = Some(sink.canceller());
        Ok(OpenedSink {
            sink: Box::new(sink),
            site,
        })
    }

    /// Opens the transform role.
    pub fn open_transform(&self, config: &Map<String, Value>) -> Result<OpenedTransform, Failure> {
        let mut site = self.site(Role::Transform);
        let services = self.services(&site);
        let transform = site.run("open", || {
            self.loaded
                .plugin
                .open_transform(&Value::Object(config.clone()), services, self.validation)
        })?;
        site.canceller = Some(transform.canceller());
        Ok(OpenedTransform {
            transform: Box::new(transform),
            site,
        })
    }

    /// Opens the notifier role.
    pub fn open_notifier(&self, config: &Map<String, Value>) -> Result<OpenedNotifier, Failure> {
        let mut site = self.site(Role::Notifier);
        let services = self.services(&site);
        let notifier = site.run("open", || {
            self.loaded
                .plugin
                .open_notifier(&Value::Object(config.clone()), services)
        })?;
        site.canceller = Some(notifier.canceller());
        Ok(OpenedNotifier {
            notifier: Box::new(notifier),
            site,
        })
    }
}
