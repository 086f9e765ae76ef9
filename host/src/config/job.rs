//! The job: what one YAML file asks for, as the rest of the host reads it.
//!
//! The doc comments here are the reference: they become the JSON Schema that validates job files and that editors
//! read. The same form crosses to worker processes as JSON. Neighbours: `load.rs` makes a [`Job`], `validate.rs`
//! lists what is wrong with one.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use whimbrel_plugin_api::ConflictPolicy;

/// Collections that one job may name.
const COLLECTIONS_MAX: usize = 10_000;

/// Fields of one key; databases stop at 16 to 32.
const KEY_FIELDS_MAX: usize = 32;

/// Characters of a collection's or a field's name; a path of the deepest Firestore collection has room.
const NAME_CHARS_MAX: usize = 6_144;

/// One migration: where records come from, where they go, and how carefully.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Job {
    /// The job's name in reports, checkpoints and file names: 1 to 100 letters, digits, dots, underscores and
    /// hyphens, the first one a letter, a digit or an underscore.
    #[schemars(regex(pattern = r"^[A-Za-z0-9_][A-Za-z0-9._-]{0,99}$"))]
    pub name: String,
    /// The system that is read.
    pub source: Connector,
    /// The system that is written.
    pub sink: Connector,
    /// The collections to move. Left out: all that the source has, under their own names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Vec<CollectionJob>", length(min = 1, max = COLLECTIONS_MAX))]
    pub collections: Option<Vec<CollectionJob>>,
    /// Which records are moved.
    #[serde(default)]
    pub mode: Mode,
    /// How both sides are compared after the import.
    #[serde(default)]
    pub verification: VerificationLevel,
    /// How records are written.
    #[serde(default)]
    pub import: Import,
    /// What a run may take up.
    #[serde(default)]
    pub limits: Limits,
}

/// A plugin and its settings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Connector {
    /// The name of the plugin, as `whimbrel plugin list` shows it.
    #[schemars(regex(pattern = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$"))]
    pub plugin: String,
    /// The plugin's own settings, as `whimbrel plugin info` describes them. Relative paths start at the folder of
    /// the job file.
    #[serde(default)]
    pub config: Map<String, Value>,
}

/// One collection of a job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CollectionJob {
    /// Its name in the source, exactly as the source spells it.
    #[schemars(length(min = 1, max = NAME_CHARS_MAX))]
    pub source: String,
    /// Its name in the sink. Left out: the same as in the source.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", length(min = 1, max = NAME_CHARS_MAX))]
    pub sink: Option<String>,
    /// The fields that tell its records apart, in order. Left out: the key that the source announces.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "key_schema")]
    pub key: Option<Vec<String>>,
    /// What happens to a record whose key the sink already has. Left out: as `import.on_conflict` says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "ConflictPolicy")]
    pub on_conflict: Option<ConflictPolicy>,
}

impl CollectionJob {
    /// Its name in the sink.
    pub fn sink_name(&self) -> &str {
        self.sink.as_deref().unwrap_or(&self.source)
    }

    /// What happens to a record whose key the sink already has.
    pub fn conflict_policy(&self, import: &Import) -> ConflictPolicy {
        self.on_conflict.unwrap_or(import.on_conflict)
    }
}

fn key_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({
        "type": "array",
        "items": { "type": "string", "minLength": 1, "maxLength": NAME_CHARS_MAX },
        "minItems": 1,
        "maxItems": KEY_FIELDS_MAX,
        "uniqueItems": true,
    })
}

/// Which records a run moves.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// All of them.
    #[default]
    Full,
}

/// How both sides are compared after the import.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum VerificationLevel {
    /// Not at all.
    None,
    /// The number of records of each collection.
    Basic,
    /// Counts, and the records themselves: all of small collections, samples of large ones.
    #[default]
    Standard,
}

/// How records are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Import {
    /// What happens to a record whose key the sink already has.
    pub on_conflict: ConflictPolicy,
    /// Rejected records that a run bears; with one more it fails.
    #[schemars(range(min = 0, max = 1_000_000_000_000_u64))]
    pub max_errors: u64,
}

/// What a run may take up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Memory for records on their way, MiB; reading waits while it is spent.
    #[schemars(range(min = 16, max = 1_048_576))]
    pub memory_mb: u32,
    /// Collections that are moved at the same time.
    #[schemars(range(min = 1, max = 64))]
    pub collections_parallel: u32,
    /// Partitions of one collection that are moved at the same time.
    #[schemars(range(min = 1, max = 64))]
    pub partitions_parallel: u32,
    /// Seconds that one call of a plugin may last before it is cancelled.
    #[schemars(range(min = 1, max = 86_400))]
    pub call_timeout_secs: u32,
    /// Records that a source puts into one batch, unless their size ends it sooner.
    #[schemars(range(min = 1, max = 65_536))]
    pub batch_records: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory_mb: 512,
            collections_parallel: 3,
            partitions_parallel: 2,
            call_timeout_secs: 300,
            batch_records: 8_192,
        }
    }
}

impl Job {
    /// The JSON Schema of a job file.
    pub fn schema() -> Value {
        schemars::schema_for!(Self).to_value()
    }
}
