//! The variables that are honoured: one table, from which the documentation is made, and a snapshot of their values.
//!
//! What a value must be is said by the JSON Schema of the key that it sets. Neighbour: `layers.rs` lays them over the
//! files. Not here: variables that plugins ask for in their own schemas (`plugin_config.rs`).

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};

/// One variable of the table.
#[derive(Debug, Clone, Copy)]
pub struct Variable {
    /// Its names; if several are set, they must agree.
    pub names: &'static [&'static str],
    /// What it sets.
    pub sets: Sets,
    /// What that does.
    pub effect: &'static str,
}

/// What a variable sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sets {
    /// The value at a pointer into the job; the text is read as the schema there asks.
    Value(&'static str),
    /// The mapping at a pointer into the job, written as JSON; keys that it leaves out stay.
    Json(&'static str),
    /// Whether there is a verification.
    Verification,
    /// The folder of a job's runs.
    WorkingDir,
    /// The settings file.
    Settings,
}

const fn value(names: &'static [&'static str], pointer: &'static str, effect: &'static str) -> Variable {
    Variable {
        names,
        sets: Sets::Value(pointer),
        effect,
    }
}

/// All of them, in the order of the documentation.
pub const VARIABLES: [Variable; 26] = [
    Variable {
        names: &["WHIMBREL_SETTINGS"],
        sets: Sets::Settings,
        effect: "The settings file, in place of `whimbrel.yaml` beside the job file.",
    },
    Variable {
        names: &["MIGRATION_WORKING_DIR"],
        sets: Sets::WorkingDir,
        effect: "The folder in which runs keep their status, logs, reports and state.",
    },
    value(
        &["MIGRATION_BATCH_SIZE"],
        "/import/batch_size",
        "Records per write to the sink.",
    ),
    value(
        &["MIGRATION_MAX_RETRIES"],
        "/import/max_retries",
        "Times that a transaction, or the reading of a partition, is tried again after an error that may pass.",
    ),
    value(
        &["MIGRATION_RETRY_DELAY", "MIGRATION_RETRY_DELAY_BASE"],
        "/import/retry_delay_ms",
        "Milliseconds before the first of these tries.",
    ),
    Variable {
        names: &["MIGRATION_VALIDATION_ENABLED"],
        sets: Sets::Verification,
        effect: "`false`: both sides are not compared after the import. `true`: they are, at level `standard` if the job says `none`.",
    },
    value(
        &["MIGRATION_TRANSACTION_TIMEOUT"],
        "/import/transaction_timeout_ms",
        "Milliseconds that a transaction may stay open.",
    ),
    value(
        &["MIGRATION_CONCURRENT_BATCHES"],
        "/import/concurrent_batches",
        "Batches of one partition that may wait for the sink.",
    ),
    value(
        &["MIGRATION_CHECKPOINT_INTERVAL"],
        "/import/checkpoint_interval",
        "Records after which a transaction is committed, once it is as old as `checkpoint_interval_ms`.",
    ),
    value(
        &["MIGRATION_ROLLBACK_ENABLED"],
        "/rollback/enabled",
        "Whether a run keeps what a rollback needs.",
    ),
    value(
        &["MIGRATION_HEALTH_CHECK_INTERVAL"],
        "/limits/health_check_interval_ms",
        "Milliseconds between two looks at the memory and the calls of a run.",
    ),
    value(
        &["MIGRATION_MEMORY_THRESHOLD", "MIGRATION_MEMORY_THRESHOLD_MB"],
        "/limits/memory_mb",
        "MiB of memory for records on their way.",
    ),
    value(
        &[
            "MIGRATION_QUOTA_SAFETY",
            "MIGRATION_FIRESTORE_QUOTA_SAFETY_FACTOR",
        ],
        "/limits/quota_safety",
        "Part of a service's quota that plugins use whose configs do not say it.",
    ),
    value(
        &["MIGRATION_CONNECTION_POOL_SIZE"],
        "/limits/connection_pool_size",
        "Sessions of the sink that are open at the same time, at most.",
    ),
    value(
        &["MONITOR_SAMPLE_SIZE"],
        "/monitor/sample_size",
        "Records that are looked at for each measurement.",
    ),
    value(
        &["MONITOR_HEALTH_INTERVAL"],
        "/monitor/health_interval_ms",
        "Milliseconds between two measurements.",
    ),
    Variable {
        names: &["MONITOR_ALERT_THRESHOLDS"],
        sets: Sets::Json("/monitor/alert_thresholds"),
        effect: "Values above which somebody is told, such as `{\"error_rate\": [0.01, 0.05]}`; keys that are left out stay.",
    },
    value(
        &["ROLLBACK_BATCH_SIZE"],
        "/rollback/batch_size",
        "Records per write of a rollback.",
    ),
    value(
        &["ROLLBACK_MAX_RETRIES"],
        "/rollback/max_retries",
        "Times that a write of a rollback is tried again.",
    ),
    value(
        &["ROLLBACK_TIMEOUT"],
        "/rollback/timeout_ms",
        "Milliseconds that a rollback may last.",
    ),
    value(
        &["ROLLBACK_SAFETY_INTERVAL"],
        "/rollback/safety_interval_ms",
        "Milliseconds between two looks at whether a rollback is safe to go on.",
    ),
    value(
        &["ROLLBACK_VALIDATION_SAMPLE"],
        "/rollback/validation_sample",
        "Records that are looked at to see whether a rollback has worked.",
    ),
    value(
        &["ROLLBACK_EMERGENCY_THRESHOLD"],
        "/rollback/emergency_threshold",
        "Part of failed records above which a run is rolled back at once.",
    ),
    value(
        &["ROLLBACK_BACKUP_VALIDATION"],
        "/rollback/backup_validation",
        "Whether a backup is checked before it is needed.",
    ),
    value(
        &["ROLLBACK_REQUIRE_CONFIRMATION"],
        "/rollback/require_confirmation",
        "Whether a person must agree to a rollback.",
    ),
    value(
        &["ROLLBACK_CONFIRMED"],
        "/rollback/confirmed",
        "Whether a person has agreed.",
    ),
];

/// The variables of the process at one moment.
#[derive(Clone, Default)]
pub struct Variables(BTreeMap<OsString, OsString>);

impl Variables {
    /// Those of this process.
    pub fn of_process() -> Self {
        Self(std::env::vars_os().collect())
    }

    /// None at all.
    pub fn none() -> Self {
        Self::default()
    }

    /// The same with one more.
    #[must_use]
    pub fn with(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.0.insert(name.into(), value.into());
        self
    }

    /// The value of the variable called `name`.
    pub fn get(&self, name: &str) -> Option<&OsStr> {
        self.0.get(OsStr::new(name)).map(OsString::as_os_str)
    }

    /// The value of the variable called `name`, unless it is empty, which counts as not set.
    pub(crate) fn filled(&self, name: &str) -> Option<&OsStr> {
        self.get(name).filter(|value| !value.is_empty())
    }

    /// Names that begin with one of the prefixes of [`VARIABLES`] and are none of them.
    pub(crate) fn unknown(&self) -> impl Iterator<Item = &str> {
        self.0.keys().filter_map(|name| name.to_str()).filter(|name| {
            ["MIGRATION_", "MONITOR_", "ROLLBACK_"]
                .iter()
                .any(|prefix| name.starts_with(prefix))
                && !known_names().any(|known| known == *name)
        })
    }
}

/// All names of [`VARIABLES`].
pub(crate) fn known_names() -> impl Iterator<Item = &'static str> {
    VARIABLES
        .iter()
        .flat_map(|variable| variable.names.iter().copied())
}

/// Values may be secrets.
impl std::fmt::Debug for Variables {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}
