//! The job: what one YAML file asks for, as the rest of the host reads it once references are resolved.
//!
//! The doc comments here are the reference: they become the JSON Schema that validates job files and that editors
//! read. The same form crosses to worker processes as JSON. Neighbours: `load.rs` makes a [`Job`], `validate.rs`
//! lists what is wrong with one.

use std::collections::BTreeMap;
use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use whimbrel_plugin_api::ConflictPolicy;

use super::conduct::{Hooks, Limits, Monitor, NotifierJob, Rollback};
use super::import::Import;

/// Collections that one job may name.
const COLLECTIONS_MAX: usize = 10_000;

/// Fields of one key; databases stop at 16 to 32.
const KEY_FIELDS_MAX: usize = 32;

/// References of one collection.
const REFERENCES_MAX: usize = 1_000;

/// Characters of a collection's or a field's name; a path of the deepest Firestore collection has room.
const NAME_CHARS_MAX: usize = 6_144;

/// Patterns of one list.
const PATTERNS_MAX: usize = 1_000;

/// Parameters of one job.
const PARAMETERS_MAX: usize = 1_000;

/// Characters of a parameter's pattern.
const PATTERN_CHARS_MAX: usize = 1_000;

/// Rules of one job.
const RULES_MAX: usize = 1_000;

/// Characters of a rule's statement.
const STATEMENT_CHARS_MAX: usize = 100_000;

/// Transforms or notifiers of one list.
const PLUGINS_MAX: usize = 100;

/// One migration: where records come from, where they go, and how carefully.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Job {
    /// The job's name in reports, checkpoints and file names: 1 to 100 letters, digits, dots, underscores and
    /// hyphens, the first one a letter, a digit or an underscore.
    #[schemars(regex(pattern = r"^[A-Za-z0-9_][A-Za-z0-9._-]{0,99}$"))]
    pub name: String,
    /// Values that differ from run to run: given by `--set NAME=VALUE`, used as `${param:NAME}` in any text.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "parameters_schema")]
    pub parameters: BTreeMap<String, Parameter>,
    /// The system that is read.
    pub source: Connector,
    /// The system that is written.
    pub sink: Connector,
    /// The collections to move. Left out: all that the source has, under their own names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Vec<CollectionJob>", length(min = 1, max = COLLECTIONS_MAX))]
    pub collections: Option<Vec<CollectionJob>>,
    /// Patterns of source collections to move: `*` stands for any characters, `?` for one. Left out: all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "patterns_schema")]
    pub include: Vec<String>,
    /// Patterns of source collections to leave out, even if `include` has them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "patterns_schema")]
    pub exclude: Vec<String>,
    /// What changes the records of every collection on their way, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = PLUGINS_MAX))]
    pub transforms: Vec<TransformJob>,
    /// Which records are moved.
    #[serde(default)]
    pub mode: Mode,
    /// Records of each collection that mode `test` moves.
    #[serde(default = "sample_records")]
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub sample_records: u64,
    /// How both sides are compared after the import.
    #[serde(default)]
    pub verification: VerificationLevel,
    /// What must hold of records before the first write, after the last one, or both.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = RULES_MAX))]
    pub rules: Vec<RuleJob>,
    /// How certificates are made.
    #[serde(default, skip_serializing_if = "CertificateJob::is_empty")]
    pub certificate: CertificateJob,
    /// Where records wait between the phases.
    #[serde(default)]
    pub staging: Staging,
    /// How records are written.
    #[serde(default)]
    pub import: Import,
    /// What a run may take up.
    #[serde(default)]
    pub limits: Limits,
    /// What is done before and after a run.
    #[serde(default, skip_serializing_if = "Hooks::is_empty")]
    pub hooks: Hooks,
    /// Who is told.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = PLUGINS_MAX))]
    pub notifiers: Vec<NotifierJob>,
    /// How a rollback is made.
    #[serde(default)]
    pub rollback: Rollback,
    /// How a run is watched.
    #[serde(default)]
    pub monitor: Monitor,
}

/// A value that differs from run to run.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Parameter {
    /// What it is, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub description: Option<String>,
    /// Its value if none is given: text, a number, true or false. Left out: a value must be given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "default_schema")]
    pub default: Option<Value>,
    /// A regular expression that the whole value must match.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", length(min = 1, max = PATTERN_CHARS_MAX))]
    pub pattern: Option<String>,
}

/// A plugin and its settings, or the name of an environment that has both.
#[derive(Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Connector {
    /// The name of the plugin, as `whimbrel plugin list` shows it; or write `environment`.
    #[schemars(regex(pattern = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$"))]
    pub plugin: String,
    /// In place of `plugin`: an environment of the settings file, which has the plugin and its settings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", length(min = 1, max = 100))]
    pub environment: Option<String>,
    /// The plugin's own settings, as `whimbrel plugin info` describes them; laid over those of the environment.
    /// Relative paths start at the folder of the job file.
    #[serde(default)]
    pub config: Map<String, Value>,
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connector")
            .field("plugin", &self.plugin)
            .field("environment", &self.environment)
            .field("config", &KeysOnly(&self.config))
            .finish()
    }
}

/// A plugin's config as `Debug` shows it: its keys, since every value may be a secret.
pub(crate) struct KeysOnly<'a>(pub(crate) &'a Map<String, Value>);

impl fmt::Debug for KeysOnly<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
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
    /// Its fields that point to records of other collections, besides those that the source knows of.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = REFERENCES_MAX))]
    pub references: Vec<ReferenceJob>,
    /// The field whose higher value is newer, for `keep-newest` and `keep-oldest`; as it is called after the transforms.
    /// Left out: the one that the source announces, if it is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", length(min = 1, max = NAME_CHARS_MAX))]
    pub version: Option<String>,
    /// What changes its records on their way, after the transforms of the job.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = PLUGINS_MAX))]
    pub transforms: Vec<TransformJob>,
    /// How it is verified. Left out: as `verification` of the job says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "VerificationLevel")]
    pub verification: Option<VerificationLevel>,
}

impl CollectionJob {
    /// All of the collection called `source`, under its own name.
    pub fn whole(source: &str) -> Self {
        Self {
            source: source.to_owned(),
            sink: None,
            key: None,
            on_conflict: None,
            references: Vec::new(),
            version: None,
            transforms: Vec::new(),
            verification: None,
        }
    }

    /// Its name in the sink.
    pub fn sink_name(&self) -> &str {
        self.sink.as_deref().unwrap_or(&self.source)
    }

    /// What happens to a record whose key the sink already has.
    pub fn conflict_policy(&self, import: &Import) -> ConflictPolicy {
        self.on_conflict.unwrap_or(import.on_conflict)
    }
}

/// Fields that point to records of another collection; all names as the source spells them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReferenceJob {
    /// The fields that point.
    #[schemars(schema_with = "key_schema")]
    pub fields: Vec<String>,
    /// The collection pointed to.
    #[schemars(length(min = 1, max = NAME_CHARS_MAX))]
    pub collection: String,
    /// Its fields, in the order of `fields`. Left out: its key.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "key_schema")]
    pub to_fields: Vec<String>,
}

/// Something that must hold of records: a statement in the language of one side that selects those which break it, or a
/// transform that judges them.
#[derive(Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RuleJob {
    /// Its name in reports.
    #[schemars(length(min = 1, max = 100))]
    pub name: String,
    /// Before the first write, after the last one, or both.
    #[serde(default)]
    pub when: RuleWhen,
    /// Of which side the records are. Left out: of the source before, of the sink after.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "RuleSide")]
    pub side: Option<RuleSide>,
    /// A statement that selects the records which break the rule, in the language of the side's system. Each record that it
    /// selects is one that breaks the rule, and is called by its first column in reports: select the key first. It may
    /// only read, and cannot have parameters. With `when: both` and without `side` it is asked of both systems.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", length(min = 1, max = STATEMENT_CHARS_MAX))]
    pub sql: Option<String>,
    /// In place of `sql`: the collection, by its name in the source, whose records a transform judges. Of the source they are
    /// judged as they are read, before the job's transforms; of the sink as they are read back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", length(min = 1, max = NAME_CHARS_MAX))]
    pub collection: Option<String>,
    /// The transform's plugin: it says of each record whether it keeps the rule, breaks it, or is not concerned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", regex(pattern = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$"))]
    pub plugin: Option<String>,
    /// The transform's settings.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub config: Map<String, Value>,
}

impl fmt::Debug for RuleJob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RuleJob")
            .field("name", &self.name)
            .field("when", &self.when)
            .field("side", &self.side)
            .field("collection", &self.collection)
            .field("plugin", &self.plugin)
            .field("config", &KeysOnly(&self.config))
            .finish_non_exhaustive()
    }
}

/// When a rule is looked at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RuleWhen {
    /// Before the first write: a run that breaks it does not begin.
    Before,
    /// After the last write: a run that breaks it ends as different.
    #[default]
    After,
    /// At both moments.
    Both,
}

/// A side of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RuleSide {
    /// The system that is read.
    Source,
    /// The system that is written.
    Sink,
}

/// How certificates are made.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CertificateJob {
    /// The file with the secret key that signs them; made by `whimbrel certificate key`. Left out: they are not signed.
    /// A relative path starts at the folder of the job file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", length(min = 1, max = 4_096))]
    pub sign_with: Option<String>,
    /// The file with the password of the key of `sign_with`, which nobody else may read. Left out: the password is in the variable
    /// `WHIMBREL_CERTIFICATE_PASSWORD`, if the key has one. A relative path starts at the folder of the job file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", length(min = 1, max = 4_096))]
    pub password_from: Option<String>,
}

impl CertificateJob {
    /// Whether nothing is said.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// A plugin that changes records, and its settings.
#[derive(Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TransformJob {
    /// The name of the plugin, as `whimbrel plugin list` shows it.
    #[schemars(regex(pattern = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$"))]
    pub plugin: String,
    /// The plugin's own settings.
    #[serde(default)]
    pub config: Map<String, Value>,
}

impl fmt::Debug for TransformJob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TransformJob")
            .field("plugin", &self.plugin)
            .field("config", &KeysOnly(&self.config))
            .finish()
    }
}

const fn sample_records() -> u64 {
    100
}

fn patterns_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({
        "type": "array",
        "items": { "type": "string", "minLength": 1, "maxLength": NAME_CHARS_MAX },
        "maxItems": PATTERNS_MAX,
    })
}

fn parameters_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
    let parameter = generator.subschema_for::<Parameter>();
    schemars::json_schema!({
        "type": "object",
        "propertyNames": { "pattern": r"^[A-Za-z_][A-Za-z0-9_-]{0,99}$" },
        "additionalProperties": parameter,
        "maxProperties": PARAMETERS_MAX,
    })
}

fn default_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({ "type": ["string", "number", "boolean"] })
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
    /// A sample of each collection, to try a job out.
    Test,
}

/// Where records wait between extraction, transformation and import.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Staging {
    /// In memory: the three phases overlap.
    #[default]
    Memory,
    /// In files of the workspace: the three phases run one after the other, and an import that is repeated does not
    /// read the source again.
    Disk,
}

/// How both sides are compared after the import.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum VerificationLevel {
    /// Not at all.
    None,
    /// The number of records of each collection, ten of its records, and what the sink says of its fields and keys.
    Basic,
    /// Counts, and the records themselves: all of small collections, samples of large ones.
    #[default]
    Standard,
    /// Every field of every record, with digests that a certificate can be made of.
    Comprehensive,
}

impl Job {
    /// The JSON Schema of a job file.
    pub fn schema() -> Value {
        schemars::schema_for!(Self).to_value()
    }
}
