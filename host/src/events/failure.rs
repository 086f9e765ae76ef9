//! An error as it travels in events: with the plugin's call that brought it and the phase in which it did.
//! Not here: the error itself, which is the plugin API's.

use serde::{Deserialize, Serialize};
use whimbrel_plugin_api::Error;
use whimbrel_plugin_api::manifest::Role;

use super::Phase;

/// An error with the plugin call that brought it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Failure {
    /// What went wrong.
    #[serde(flatten)]
    pub error: Error,
    /// The plugin, if one was called.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plugin: Option<String>,
    /// Its role.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,
    /// The call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub call: Option<String>,
    /// The phase.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<Phase>,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self {
            error,
            plugin: None,
            role: None,
            call: None,
            phase: None,
        }
    }
}

impl Failure {
    /// Names the phase, if none is named yet.
    #[must_use]
    pub fn in_phase(mut self, phase: Phase) -> Self {
        self.phase.get_or_insert(phase);
        self
    }

    /// Names the plugin's call, if none is named yet.
    #[must_use]
    pub fn at_call(mut self, plugin: &str, role: Role, call: &str) -> Self {
        if self.plugin.is_none() {
            self.plugin = Some(plugin.to_owned());
            self.role = Some(role);
            self.call = Some(call.to_owned());
        }
        self
    }
}
