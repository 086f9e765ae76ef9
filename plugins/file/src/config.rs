//! What a job writes under `config`. The doc comments become the table of the README.
//! Neighbour: `notifier`, which is opened with it.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use whimbrel_plugin_api::{Error, Result};

/// Megabytes of the setting, in octets.
const MB: u64 = 1_000_000;

/// Octets of the longest file name of the usual file systems.
const NAME_BYTES_MAX: usize = 255;

/// The notifier role.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NotifierConfig {
    /// The file; relative to the folder of the job. It is made with the first notification, its folder must be there. It
    /// must not be a symbolic link.
    pub path: PathBuf,
    /// How a notification is written.
    #[serde(default)]
    pub format: Format,
    /// Who may read the file, beside the user that runs whimbrel; nobody else may write it.
    #[serde(default)]
    pub readable_by: Readers,
    /// Megabytes after which a new file is begun and the old one is kept as `PATH.1`.
    #[serde(default = "size_mb_max")]
    #[schemars(range(min = 1, max = 100_000))]
    pub size_mb_max: u64,
    /// How many old files are kept, `PATH.1` being the youngest; those before them are removed.
    #[serde(default = "keep")]
    #[schemars(range(min = 1, max = 99))]
    pub keep: u32,
}

/// Some ten thousand notifications.
const fn size_mb_max() -> u64 {
    10
}

/// Enough to look back, and 40 MB in all.
const fn keep() -> u32 {
    3
}

impl NotifierConfig {
    /// All defaults for `path`.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            format: Format::default(),
            readable_by: Readers::default(),
            size_mb_max: size_mb_max(),
            keep: keep(),
        }
    }

    /// Checks what the JSON Schema says of numbers, for hosts that do not, and that the path can be a file's.
    ///
    /// # Errors
    /// `config.invalid`; its place is the key.
    pub(crate) fn validate(&self) -> Result<()> {
        let refuse = |key: &str, message: String| {
            Err(Error::config("config.invalid", message).with_place(format!("config.{key}")))
        };
        if !(1..=100_000).contains(&self.size_mb_max) {
            return refuse(
                "size_mb_max",
                "`size_mb_max` is out of range (valid: 1 to 100000)".into(),
            );
        }
        if !(1..=99).contains(&self.keep) {
            return refuse("keep", "`keep` is out of range (valid: 1 to 99)".into());
        }
        let octets = self.path.as_os_str().as_bytes();
        let name = match self.path.components().next_back() {
            Some(Component::Normal(name)) if !octets.ends_with(b"/") => name,
            _ => OsStr::new(""),
        };
        if name.is_empty() {
            return refuse(
                "path",
                "`path` names no file (valid: a path that ends in a file's name)".into(),
            );
        }
        if octets.contains(&0) {
            return refuse(
                "path",
                "`path` has a NUL character, which no path can have".into(),
            );
        }
        let longest = NAME_BYTES_MAX - format!(".{}", self.keep).len();
        if name.len() > longest {
            return refuse(
                "path",
                format!(
                    "the file name of `path` is too long (valid: up to {longest} octets, which leaves room for the number of an old file)"
                ),
            );
        }
        Ok(())
    }

    /// Octets after which a new file is begun.
    pub(crate) fn size_bytes_max(&self) -> u64 {
        self.size_mb_max * MB
    }
}

/// How a notification is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// A JSON object a line.
    #[default]
    Ndjson,
    /// A line of fields with tabs between them, for reading and for `cut`.
    Text,
}

/// Who may read the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Readers {
    /// Nobody else; permissions 0600.
    #[default]
    Owner,
    /// Also the group of the file; permissions 0640.
    Group,
    /// All users of the machine; permissions 0644.
    Everyone,
}

impl Readers {
    /// The permissions of the file.
    pub(crate) const fn mode(self) -> u32 {
        match self {
            Self::Owner => 0o600,
            Self::Group => 0o640,
            Self::Everyone => 0o644,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn place(change: impl FnOnce(&mut NotifierConfig)) -> String {
        let mut config = NotifierConfig::new("folder/notifications.ndjson");
        change(&mut config);
        config.validate().unwrap_err().place.unwrap()
    }

    #[test]
    fn what_cannot_be_is_refused_with_its_key() {
        for path in [
            "",
            "/",
            "folder/",
            "folder/..",
            "..",
            ".",
            "a\0b",
            &"x".repeat(254),
        ] {
            assert_eq!(
                place(|config| config.path = path.into()),
                "config.path",
                "{path:?}"
            );
        }
        for size_mb_max in [0, 100_001] {
            assert_eq!(
                place(|config| config.size_mb_max = size_mb_max),
                "config.size_mb_max"
            );
        }
        for keep in [0, 100] {
            assert_eq!(place(|config| config.keep = keep), "config.keep");
        }
        for path in ["a", "../a", "/var/log/a b", &"x".repeat(253)] {
            NotifierConfig::new(path).validate().unwrap();
        }
    }
}
