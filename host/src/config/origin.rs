//! What a value of a job comes from: nothing, a file, a variable, a flag.
//!
//! The order in which one wins over the other is in `layers.rs`. Neighbour: `spans.rs`, which keeps it for each value.

use std::fmt;
use std::path::PathBuf;

use serde::Serialize;

use super::spans::Place;

/// One thing that values come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Layer {
    /// A job file or a settings file, as it was named.
    File(PathBuf),
    /// A variable of the process.
    Variable(String),
    /// A variable that a plugin asks for.
    PluginVariable(String),
    /// A flag, such as `--batch-size`.
    Flag(String),
}

/// What the value of one key comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Origin {
    /// Nothing sets it.
    Default,
    /// A job file or a settings file.
    File {
        /// The file, as it was named.
        path: PathBuf,
        /// Where the value stands.
        #[serde(flatten)]
        place: Place,
    },
    /// A variable of the process.
    Variable {
        /// Its name.
        name: String,
    },
    /// A variable that a plugin asks for.
    PluginVariable {
        /// Its name.
        name: String,
    },
    /// A flag.
    Flag {
        /// Its name, such as `--batch-size`.
        name: String,
    },
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { path, place } => write!(f, "{}:{place}", path.display()),
            Self::Variable { name } => write!(f, "variable {name}"),
            Self::PluginVariable { name } => write!(f, "variable {name} (asked for by the plugin)"),
            Self::Flag { name } => write!(f, "flag {name}"),
        }
    }
}
