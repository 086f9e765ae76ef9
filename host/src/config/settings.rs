//! The settings file: named environments, defaults for jobs, and the folder of their runs.
//!
//! `whimbrel.yaml` beside the job file, unless a flag or a variable names another. Its faults are said like those of a
//! job file. Neighbour: `load.rs` lays the job over it.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use super::job::Job;
use super::overrides::Overrides;
use super::variables::{Sets, VARIABLES, Variables};

/// The file that is looked for beside the job file.
pub const SETTINGS_FILE: &str = "whimbrel.yaml";

/// Schedules of one settings file.
const SCHEDULES_MAX: usize = 1_000;

/// A hundred years.
const LOG_DAYS_MAX: u32 = 36_500;

/// The keys of a job that `defaults` may set; the others belong to one job alone.
const DEFAULTS: [&str; 12] = [
    "mode",
    "sample_records",
    "include",
    "exclude",
    "verification",
    "staging",
    "import",
    "limits",
    "hooks",
    "notifiers",
    "rollback",
    "monitor",
];

/// The settings file that is meant, and whether it must exist.
pub(crate) fn file(job: &Path, overrides: &Overrides, variables: &Variables) -> Option<(PathBuf, bool)> {
    if let Some(path) = &overrides.settings {
        return Some((path.clone(), true));
    }
    let named = VARIABLES
        .iter()
        .filter(|variable| variable.sets == Sets::Settings)
        .flat_map(|variable| variable.names)
        .find_map(|name| variables.filled(name));
    if let Some(path) = named {
        return Some((path.into(), true));
    }
    let beside = job.with_file_name(SETTINGS_FILE);
    (beside != job).then_some((beside, false))
}

/// The JSON Schema of one schedule.
fn schedule_schema() -> Value {
    json!({
        "description": "When a job is run.",
        "type": "object",
        "properties": {
            "name": {
                "description": "Its name in messages and in the names of log files.",
                "type": "string",
                "pattern": r"^[A-Za-z0-9_][A-Za-z0-9._-]{0,99}$",
            },
            "job": {
                "description": "The job file; a relative path starts at the folder of the settings file.",
                "type": "string",
                "minLength": 1,
                "maxLength": 4_096,
            },
            "cron": {
                "description": "Minute, hour, day of the month, month and day of the week, as cron reads them.",
                "type": "string",
                "minLength": 1,
                "maxLength": 200,
            },
            "time_zone": {
                "description": "The time zone of `cron` by its name in the tz database. Left out: UTC.",
                "type": "string",
                "minLength": 1,
                "maxLength": 100,
            },
        },
        "required": ["name", "job", "cron"],
        "additionalProperties": false,
    })
}

/// The JSON Schema of a settings file.
pub fn schema() -> Value {
    let job = Job::schema();
    let of_job = |key: &str| job.pointer(&format!("/properties/{key}")).cloned();
    let defaults: Map<String, Value> = DEFAULTS
        .iter()
        .filter_map(|key| Some(((*key).to_owned(), of_job(key)?)))
        .collect();
    let mut plugin = job
        .pointer("/$defs/Connector/properties/plugin")
        .cloned()
        .unwrap_or_default();
    plugin["description"] = "The name of the plugin, as `whimbrel plugin list` shows it.".into();
    let mut definitions = job.get("$defs").cloned().unwrap_or_else(|| json!({}));
    definitions["Environment"] = json!({
        "description": "A plugin and its settings, under a name.",
        "type": "object",
        "properties": {
            "plugin": plugin,
            "config": {
                "description": "The plugin's own settings; a job may set further ones. Relative paths start at the \
                                folder of the job file.",
                "type": "object",
                "additionalProperties": true,
            },
        },
        "required": ["plugin"],
        "additionalProperties": false,
    });
    definitions["Schedule"] = schedule_schema();
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Settings",
        "description": "What several jobs have in common.",
        "type": "object",
        "properties": {
            "environments": {
                "description": "Named connections, to which jobs refer by `source: { environment: NAME }` and flags \
                                by `--source NAME` and `--sink NAME`.",
                "type": "object",
                "propertyNames": { "pattern": r"^[A-Za-z0-9_][A-Za-z0-9._-]{0,99}$" },
                "additionalProperties": { "$ref": "#/$defs/Environment" },
            },
            "defaults": {
                "description": "Values for the keys that a job leaves out; lists are taken as a whole.",
                "type": "object",
                "properties": defaults,
                "additionalProperties": false,
            },
            "schedules": {
                "description": "When `whimbrel daemon` runs which job.",
                "type": "array",
                "items": { "$ref": "#/$defs/Schedule" },
                "maxItems": SCHEDULES_MAX,
            },
            "log_days": {
                "description": "Days for which `whimbrel daemon` keeps what its runs have printed. Left out: 90.",
                "type": "integer",
                "minimum": 1,
                "maximum": LOG_DAYS_MAX,
            },
            "working_dir": {
                "description": "The folder in which runs keep their status, logs, reports and state; a relative path \
                                starts at the folder of the settings file. Left out: `.whimbrel` beside the job file.",
                "type": "string",
                "minLength": 1,
            },
        },
        "additionalProperties": false,
        "$defs": definitions,
    })
}
