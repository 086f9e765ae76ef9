//! The config of the source: which file or profile, in which form, and what to do with text that is not valid Unicode.
//!
//! Doc comments here are the README's table.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use whimbrel_plugin_api::{Error, Result};

/// 256 MiB: fifty times what browsers grant one origin, and the file is held in memory.
const SIZE_BYTES_MAX: u64 = 256 * 1024 * 1024;
/// Arrow's text columns count octets with 31 bits.
const SIZE_BYTES_LIMIT: u64 = 2_147_483_647;
/// Room is left below the 1,600 columns of PostgreSQL and the 2,000 of SQLite.
const FIELDS_MAX: usize = 1_000;

/// What is read, and how.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LocalStorageConfig {
    /// The export file, or a folder of a browser: a profile, what holds it, or a part of it that holds local storage.
    pub path: String,
    /// The form of the file, or the browser.
    #[serde(default)]
    pub format: Format,
    /// Only this origin, spelled exactly as in the file or profile. Only for forms that name origins.
    #[serde(default)]
    pub origin: Option<String>,
    /// Only these origins, in place of `origin`.
    #[serde(default)]
    pub origins: Vec<String>,
    /// What happens to half of a surrogate pair, which is not valid Unicode, in a key or a value.
    #[serde(default)]
    pub lone_surrogates: LoneSurrogates,
    /// Whether collections may have names that differ only in case.
    #[serde(default)]
    pub collection_names: CollectionNames,
    /// A larger file or profile is refused. Octets; what is read is held in memory.
    #[serde(default = "size_bytes_max")]
    #[schemars(range(min = 1, max = 2_147_483_647))]
    pub size_bytes_max: u64,
    /// A collection whose records have more field names in all keeps each record whole, as JSON, in `_value`.
    #[serde(default = "fields_max")]
    #[schemars(range(min = 1))]
    pub fields_max: usize,
}

/// How an export is laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// Told by the content.
    #[default]
    Auto,
    /// `{key: value}`.
    Flat,
    /// `{origin: {key: value}}`.
    PerOrigin,
    /// `[[key, value]]` or `[{"key": key, "value": value}]`.
    Pairs,
    /// What Playwright's `storageState()` writes.
    StorageState,
    /// A profile of Chromium, or of a browser made from it.
    Chromium,
    /// A profile of Firefox, or one `data.sqlite` of it.
    Firefox,
}

impl Format {
    /// Its name in configs and messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Flat => "flat",
            Self::PerOrigin => "per-origin",
            Self::Pairs => "pairs",
            Self::StorageState => "storage-state",
            Self::Chromium => "chromium",
            Self::Firefox => "firefox",
        }
    }

    /// Whether it is a browser's profile.
    pub fn is_profile(self) -> bool {
        matches!(self, Self::Chromium | Self::Firefox)
    }
}

/// What happens to half of a surrogate pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LoneSurrogates {
    /// The record is rejected.
    #[default]
    Reject,
    /// It becomes U+FFFD, a declared loss.
    Replace,
}

/// How collections are named.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CollectionNames {
    /// As in the keys.
    Exact,
    /// Of names that differ only in case, the later in sorted order get `_2`, `_3` and so on.
    #[default]
    Distinct,
}

const fn size_bytes_max() -> u64 {
    SIZE_BYTES_MAX
}

const fn fields_max() -> usize {
    FIELDS_MAX
}

impl LocalStorageConfig {
    /// The origins that are asked for; none if all are.
    pub(crate) fn wanted_origins(&self) -> impl Iterator<Item = &str> {
        self.origin.iter().chain(&self.origins).map(String::as_str)
    }

    /// Whether entries of this origin are read.
    pub(crate) fn wants(&self, origin: &str) -> bool {
        let mut wanted = self.wanted_origins().peekable();
        wanted.peek().is_none() || wanted.any(|wanted| wanted == origin)
    }

    /// Refuses what the schema cannot express or the host did not look at.
    pub(crate) fn validate(&self) -> Result<()> {
        let refuse = |key: &str, what: &str| {
            Err(
                Error::config("local_storage.bad_config", format!("`{key}` {what}"))
                    .with_place(format!("config.{key}")),
            )
        };
        if self.path.is_empty() {
            return refuse("path", "is empty");
        }
        if self.origin.is_some() && !self.origins.is_empty() {
            return refuse("origins", "cannot stand beside `origin`");
        }
        if !(1..=SIZE_BYTES_LIMIT).contains(&self.size_bytes_max) {
            return refuse(
                "size_bytes_max",
                &format!("is out of range (valid: 1 to {SIZE_BYTES_LIMIT})"),
            );
        }
        if self.fields_max == 0 {
            return refuse("fields_max", "is 0 (valid: 1 or more)");
        }
        Ok(())
    }
}

#[cfg(test)]
impl LocalStorageConfig {
    /// All defaults.
    pub(crate) fn of_path(path: &str) -> Self {
        Self {
            path: path.to_owned(),
            format: Format::Auto,
            origin: None,
            origins: Vec::new(),
            lone_surrogates: LoneSurrogates::Reject,
            collection_names: CollectionNames::Distinct,
            size_bytes_max: SIZE_BYTES_MAX,
            fields_max: FIELDS_MAX,
        }
    }
}
