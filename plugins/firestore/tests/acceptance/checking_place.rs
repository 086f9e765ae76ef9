//! A project behind a layer, and both roles opened on it to be checked.
//! Not here: any expectation.

use std::sync::Arc;

use whimbrel_firestore::WhimbrelPlugin;
use whimbrel_plugin_api::abi::Validation;
use whimbrel_plugin_api::abi::root_module::local;
use whimbrel_plugin_api::abi::source::ForeignSource;
use whimbrel_plugin_api::check::{Finding, FindingLevel};
use whimbrel_plugin_api::serde_json::{Value as Json, json};
use whimbrel_plugin_api::services::{HostServices, LogLevel};
use whimbrel_plugin_api::{Error, Sink as _, Source as _};

use crate::emulator::Emulator;
use crate::grpc_layer::Layer;

/// A host that listens to nothing.
pub struct Nobody;

impl HostServices for Nobody {
    fn log(&self, _: LogLevel, _: &str) {}

    fn progress(&self, _: &str, _: u64, _: Option<u64>) {}

    fn acquire(&self, _: &str, _: u64) -> bool {
        true
    }
}

/// A role of the plugin.
#[derive(Debug, Clone, Copy)]
pub enum Role {
    Source,
    Sink,
}

/// A project of its own. Its layer ends before the emulator is let go.
pub struct Place {
    pub layer: Layer,
    pub emulator: Emulator,
    pub project: String,
}

impl Place {
    pub fn new() -> Option<Self> {
        let emulator = Emulator::shared()?;
        Some(Self {
            layer: Layer::before(emulator.host()),
            project: emulator.project("checking"),
            emulator,
        })
    }

    /// A source with these settings.
    pub fn source(&self, mut settings: Json) -> ForeignSource {
        settings["project"] = json!(self.project);
        settings["host"] = json!(self.layer.host());
        local::<WhimbrelPlugin>()
            .open_source(&settings, Arc::new(Nobody), Validation::Full)
            .unwrap()
    }

    /// The findings of a role with these settings.
    pub fn check(&self, role: Role, mut settings: Json) -> Vec<Finding> {
        settings["project"] = json!(self.project);
        settings["host"] = json!(self.layer.host());
        check(role, &settings).unwrap()
    }
}

/// The findings of a role with these settings and no others.
pub fn check(role: Role, settings: &Json) -> Result<Vec<Finding>, Error> {
    let plugin = local::<WhimbrelPlugin>();
    match role {
        Role::Source => plugin
            .open_source(settings, Arc::new(Nobody), Validation::Full)?
            .check(),
        Role::Sink => plugin
            .open_sink(settings, Arc::new(Nobody), Validation::Full)?
            .check(),
    }
}

/// The codes of what stops a run.
pub fn blockers(findings: &[Finding]) -> Vec<&str> {
    findings
        .iter()
        .filter(|finding| finding.level == FindingLevel::Blocker)
        .map(|finding| finding.code.as_str())
        .collect()
}

/// All codes.
pub fn codes(findings: &[Finding]) -> Vec<&str> {
    findings.iter().map(|finding| finding.code.as_str()).collect()
}
