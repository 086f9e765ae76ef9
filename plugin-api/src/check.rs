//! What a plugin finds out before a run: one [`Finding`] each, of which a blocker stops the run.
//! Not here: errors, which say that a check itself could not be made.

use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind};

/// How grave a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FindingLevel {
    /// Good to know.
    Info,
    /// The run can go on; somebody should look.
    Warning,
    /// The run cannot start.
    #[serde(other)]
    Blocker,
}

/// One thing found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// How grave.
    pub level: FindingLevel,
    /// A stable dotted name.
    pub code: String,
    /// One sentence.
    pub message: String,
    /// What can be done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
    /// The collection concerned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub collection: Option<String>,
    /// The class of the error behind it, if there is one: what cannot be reached is not a wrong config.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<ErrorKind>,
    /// Where in the configuration, such as `config.url`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<String>,
}

impl Finding {
    /// An error that stops the run.
    pub fn of_error(error: &Error) -> Self {
        Self {
            help: error.help.clone(),
            kind: Some(error.kind),
            place: error.place.clone(),
            ..Self::new(FindingLevel::Blocker, &error.code, &error.message)
        }
    }

    /// Something good to know.
    pub fn info(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(FindingLevel::Info, code, message)
    }

    /// Something to look at.
    pub fn warning(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(FindingLevel::Warning, code, message)
    }

    /// Something that stops the run.
    pub fn blocker(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(FindingLevel::Blocker, code, message)
    }

    fn new(level: FindingLevel, code: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            level,
            code: code.into(),
            message: message.into(),
            help: None,
            collection: None,
            kind: None,
            place: None,
        }
    }

    /// Adds what can be done.
    #[must_use]
    pub fn with_help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// Names the collection.
    #[must_use]
    pub fn with_collection(mut self, collection: impl Into<String>) -> Self {
        self.collection = Some(collection.into());
        self
    }
}
