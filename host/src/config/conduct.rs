//! The parts of a job that say how a run is conducted: limits, hooks, notifiers, rollback, monitoring.
//!
//! As in `job.rs`, the doc comments here are the reference and become the JSON Schema. Nothing here says what is
//! moved. Each default stands in a `Default` with its unit in its name.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use whimbrel_plugin_api::notifier::Severity;

use super::job::KeysOnly;

/// What a run may take up.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
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
    /// Sessions of the sink that are open at the same time, at most.
    #[schemars(range(min = 1, max = 1_000))]
    pub connection_pool_size: u32,
    /// Seconds that one call of a plugin may last before it is cancelled, not counting the time for which it waits to keep to a
    /// rate.
    #[schemars(range(min = 1, max = 86_400))]
    pub call_timeout_secs: u32,
    /// Records that a source puts into one batch, unless their size ends it sooner.
    #[schemars(range(min = 1, max = 65_536))]
    pub batch_records: u32,
    /// Part of a service's quota that plugins use whose configs do not say it.
    #[schemars(range(min = 0.01, max = 1.0))]
    pub quota_safety: f64,
    /// Milliseconds between two looks at the memory and the calls of a run.
    #[schemars(range(min = 100, max = 86_400_000))]
    pub health_check_interval_ms: u64,
    /// Times that the process which holds the plugins is started again in a run after a signal has ended it, where the sink
    /// keeps how far the run has come.
    #[schemars(range(min = 0, max = 10))]
    pub worker_restarts: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory_mb: 512,
            collections_parallel: 3,
            partitions_parallel: 2,
            connection_pool_size: 10,
            call_timeout_secs: 300,
            batch_records: 8_192,
            quota_safety: 0.8,
            health_check_interval_ms: 30_000,
            worker_restarts: 3,
        }
    }
}

/// What is done before and after a run. A hook that fails before a run ends it; later ones are reported.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Hooks {
    /// Before anything is written.
    #[schemars(length(max = 100))]
    pub before: Vec<Hook>,
    /// After a run that is complete and verified.
    #[schemars(length(max = 100))]
    pub after_success: Vec<Hook>,
    /// After any other end.
    #[schemars(length(max = 100))]
    pub after_failure: Vec<Hook>,
}

impl Hooks {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.before.is_empty() && self.after_success.is_empty() && self.after_failure.is_empty()
    }
}

/// One thing to do: a program to start, or variables to write into a file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Hook {
    /// Starts a program and waits for it. It finds the run in variables that begin with `WHIMBREL_`.
    Command(CommandHook),
    /// Writes variables into a file of `NAME=value` lines; other lines stay as they are.
    EnvFile(EnvFileHook),
}

/// A program to start.
#[derive(Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CommandHook {
    /// The program and its arguments; no shell reads them.
    #[schemars(length(min = 1, max = 1_000))]
    pub run: Vec<String>,
    /// Seconds that it may last.
    #[serde(default = "hook_timeout_secs")]
    #[schemars(range(min = 1, max = 86_400))]
    pub timeout_secs: u32,
}

/// Arguments may hold secrets.
impl fmt::Debug for CommandHook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CommandHook")
            .field("program", &self.run.first())
            .field("timeout_secs", &self.timeout_secs)
            .finish_non_exhaustive()
    }
}

const fn hook_timeout_secs() -> u32 {
    60
}

/// Variables to write into a file.
#[derive(Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EnvFileHook {
    /// The file. A relative path starts at the folder of the job file.
    pub path: PathBuf,
    /// Names and values.
    pub set: BTreeMap<String, String>,
}

/// Values may be secrets.
impl fmt::Debug for EnvFileHook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EnvFileHook")
            .field("path", &self.path)
            .field("set", &self.set.keys())
            .finish()
    }
}

/// A plugin that tells people, and when it does.
#[derive(Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NotifierJob {
    /// The name of the plugin, as `whimbrel plugin list` shows it.
    #[schemars(regex(pattern = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$"))]
    pub plugin: String,
    /// The plugin's own settings. Relative paths start at the folder of the job file.
    #[serde(default)]
    pub config: Map<String, Value>,
    /// The events that are told. Left out: `started`, `paused`, `resumed`, `completed` and `failed`.
    #[serde(default = "told_events")]
    pub events: Vec<ToldEvent>,
    /// The least severity that is told.
    #[serde(default)]
    #[schemars(schema_with = "severity_schema")]
    pub min_severity: Severity,
}

impl fmt::Debug for NotifierJob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NotifierJob")
            .field("plugin", &self.plugin)
            .field("config", &KeysOnly(&self.config))
            .field("events", &self.events)
            .field("min_severity", &self.min_severity)
            .finish()
    }
}

fn told_events() -> Vec<ToldEvent> {
    vec![
        ToldEvent::Started,
        ToldEvent::Paused,
        ToldEvent::Resumed,
        ToldEvent::Completed,
        ToldEvent::Failed,
    ]
}

fn severity_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({ "type": "string", "enum": ["info", "warning", "error", "critical"] })
}

/// The events that people can be told of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ToldEvent {
    /// A run has started.
    Started,
    /// How far a run is.
    Progress,
    /// A phase begins.
    PhaseChanged,
    /// A record was rejected, or something else went wrong.
    ErrorAdded,
    /// A run waits for somebody's repair.
    Paused,
    /// The repair has come, and the run goes on.
    Resumed,
    /// A run is complete.
    Completed,
    /// A run has failed.
    Failed,
    /// A rollback has started.
    RollbackStarted,
    /// A rollback is complete.
    RollbackCompleted,
}

impl ToldEvent {
    /// Its name in notifications and job files.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Started => "started",
            Self::Progress => "progress",
            Self::PhaseChanged => "phase_changed",
            Self::ErrorAdded => "error_added",
            Self::Paused => "paused",
            Self::Resumed => "resumed",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::RollbackStarted => "rollback_started",
            Self::RollbackCompleted => "rollback_completed",
        }
    }
}

/// How a rollback is made.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Rollback {
    /// Whether a run keeps what a rollback needs.
    pub enabled: bool,
    /// Records per write of a rollback.
    #[schemars(range(min = 1, max = 65_536))]
    pub batch_size: u32,
    /// Times that a write of a rollback is tried again.
    #[schemars(range(min = 0, max = 100))]
    pub max_retries: u32,
    /// Milliseconds that a rollback may last.
    #[schemars(range(min = 100, max = 86_400_000))]
    pub timeout_ms: u64,
    /// Milliseconds between two looks at whether a rollback is safe to go on.
    #[schemars(range(min = 100, max = 86_400_000))]
    pub safety_interval_ms: u64,
    /// Records that are looked at to see whether a rollback has worked.
    #[schemars(range(min = 0, max = 1_000_000_000))]
    pub validation_sample: u64,
    /// Part of failed records above which a run is rolled back at once.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub emergency_threshold: f64,
    /// Whether a backup is checked before it is needed.
    pub backup_validation: bool,
    /// Whether a person must agree.
    pub require_confirmation: bool,
    /// Whether a person has agreed.
    pub confirmed: bool,
}

impl Default for Rollback {
    fn default() -> Self {
        Self {
            enabled: true,
            batch_size: 50,
            max_retries: 3,
            timeout_ms: 300_000,
            safety_interval_ms: 30_000,
            validation_sample: 100,
            emergency_threshold: 0.1,
            backup_validation: true,
            require_confirmation: true,
            confirmed: false,
        }
    }
}

/// How a run is watched.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Monitor {
    /// Records that are looked at for each measurement.
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub sample_size: u64,
    /// Milliseconds between two measurements.
    #[schemars(range(min = 100, max = 86_400_000))]
    pub health_interval_ms: u64,
    /// Values above which somebody is told.
    pub alert_thresholds: AlertThresholds,
}

impl Default for Monitor {
    fn default() -> Self {
        Self {
            sample_size: 100,
            health_interval_ms: 30_000,
            alert_thresholds: AlertThresholds::default(),
        }
    }
}

/// Values above which (for `integrity`: below which) a warning or an error is raised: `[warning, error]`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AlertThresholds {
    /// Time of an answer, milliseconds.
    pub response_ms: [u64; 2],
    /// Part of records that fail.
    pub error_rate: [f64; 2],
    /// Resident memory, MiB.
    pub memory_mb: [u64; 2],
    /// Part of records that are whole.
    pub integrity: [f64; 2],
}

impl Default for AlertThresholds {
    fn default() -> Self {
        Self {
            response_ms: [1_000, 3_000],
            error_rate: [0.01, 0.05],
            memory_mb: [512, 1_024],
            integrity: [0.95, 0.9],
        }
    }
}
