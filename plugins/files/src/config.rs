//! What a job writes under `config` for the two roles. The doc comments become the tables of the README.
//! Neighbour: `lib.rs` hands them to the roles.

use std::collections::BTreeMap;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use whimbrel_plugin_api::{Error, Result};

/// The source role.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SourceConfig {
    /// A folder, each file of which is a collection (`orders.ndjson`, `.jsonl` or `.json`, each also with `.zst`
    /// behind it, is `orders`), or one file.
    #[schemars(extend("x-whimbrel-exchange" = true, "x-whimbrel-place" = true))]
    pub path: PathBuf,
    /// How the files are laid out.
    #[serde(default)]
    pub format: SourceFormat,
    /// How many records are looked at before the fields and their types are fixed: `full` is all of them, in a pass of
    /// its own; `{ sample: N }` is the first N. A later record with a new field is for the job's `import.on_new_field`; one
    /// whose values do not fit ends the run. Files with a schema file beside them need neither.
    #[serde(default)]
    pub inference: Inference,
    /// The key of each collection, as a list of fields by collection; goes before the key of a schema file.
    #[serde(default)]
    pub key: BTreeMap<String, Vec<String>>,
    /// Octets of the longest record; a longer one is rejected.
    #[serde(default = "line_bytes_max")]
    #[schemars(range(min = 1024, max = 1_073_741_824))]
    pub line_bytes_max: usize,
    /// Most fields that are told apart. A file whose records have more names between them is read as one `json` field
    /// called `document`.
    #[serde(default = "fields_max")]
    #[schemars(range(min = 1, max = 100_000))]
    pub fields_max: usize,
}

/// 256 MiB: a batch must fit into memory, and 16 times the largest document of any system that we know.
const fn line_bytes_max() -> usize {
    256 * 1024 * 1024
}

/// Below the 1,600 columns of Postgres, and far above what people design.
const fn fields_max() -> usize {
    1_000
}

impl SourceConfig {
    /// All defaults for `path`.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            format: SourceFormat::default(),
            inference: Inference::default(),
            key: BTreeMap::new(),
            line_bytes_max: line_bytes_max(),
            fields_max: fields_max(),
        }
    }

    /// Checks what the JSON Schema says of numbers, for hosts that do not.
    pub(crate) fn validate(&self) -> Result<()> {
        let refuse = |key: &str, range: &str| {
            Err(Error::config(
                "config.invalid",
                format!("`{key}` is out of range (valid: {range})"),
            )
            .with_place(format!("config.{key}")))
        };
        if !(1024..=1 << 30).contains(&self.line_bytes_max) {
            return refuse("line_bytes_max", "1024 to 1073741824");
        }
        if !(1..=100_000).contains(&self.fields_max) {
            return refuse("fields_max", "1 to 100000");
        }
        if self.inference == Inference::Sample(0) {
            return refuse("inference.sample", "1 or more");
        }
        Ok(())
    }
}

/// How a file that is read is laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SourceFormat {
    /// `.ndjson` and `.jsonl` have a record on each line; any other file is looked into.
    #[default]
    Auto,
    /// A record on each line.
    Ndjson,
    /// An array of records, or values one after the other, over any number of lines.
    Json,
}

/// How much is looked at before types are fixed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Inference {
    /// The whole file is read once before, so that every record fits.
    #[default]
    Full,
    /// Only so many records are read before; a later one may have new fields, and if it does not fit, the run ends.
    Sample(#[schemars(range(min = 1))] u64),
}

/// The sink role.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SinkConfig {
    /// The folder; made if it is missing. Each collection becomes a data file and a schema file in it.
    #[schemars(extend("x-whimbrel-exchange" = true, "x-whimbrel-place" = true))]
    pub path: PathBuf,
    /// How the data files are laid out.
    #[serde(default)]
    pub format: SinkFormat,
    /// How they are compressed.
    #[serde(default)]
    pub compression: Compression,
    /// Level of compression.
    #[serde(default = "level")]
    #[schemars(range(min = 1, max = 19))]
    pub level: i32,
    /// What happens to a collection that the folder has already.
    #[serde(default)]
    pub existing: Existing,
}

/// zstd's own default.
const fn level() -> i32 {
    3
}

impl SinkConfig {
    /// All defaults for `path`.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            format: SinkFormat::default(),
            compression: Compression::default(),
            level: level(),
            existing: Existing::default(),
        }
    }

    /// Checks what the JSON Schema says of numbers, for hosts that do not.
    pub(crate) fn validate(&self) -> Result<()> {
        if (1..=19).contains(&self.level) {
            return Ok(());
        }
        Err(
            Error::config("config.invalid", "`level` is out of range (valid: 1 to 19)")
                .with_place("config.level"),
        )
    }
}

/// How a file that is written is laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SinkFormat {
    /// A record on each line; the file ends in `.ndjson`.
    #[default]
    Ndjson,
    /// An array with a record on each line; the file ends in `.json`.
    Json,
}

/// How a file that is written is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Compression {
    /// Not at all.
    #[default]
    None,
    /// With zstd and its checksums; the file also ends in `.zst`.
    Zstd,
}

/// What happens to a collection that is there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Existing {
    /// The run is refused if it holds records.
    #[default]
    Refuse,
    /// The new file takes its place when the run has succeeded.
    Replace,
}
