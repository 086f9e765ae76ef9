//! The job file and what is laid under and over it: settings file, variables, flags; references and secrets.
//!
//! `load_job` gives the job with the origin of every value, or all faults at once, each with line, column, what is
//! valid and a stable code. `plugin_config::complete` does the same for the plugins' own settings once their schemas
//! are known. `render` writes errors for a terminal. Nothing here opens a plugin or a system.

mod coercion;
mod conduct;
#[cfg(test)]
mod documentation;
mod editor_schema;
mod environments;
mod fault;
#[cfg(test)]
mod fixtures;
mod import;
mod job;
mod layers;
mod load;
mod nearest;
mod origin;
#[cfg(test)]
mod overlaid;
mod overrides;
mod parameters;
mod patterns;
pub mod plugin_config;
mod policies;
mod record_rules;
mod references;
mod render;
mod resolution;
mod rules;
mod same_place;
mod scalar;
mod schedules;
mod schema;
mod secret_file;
mod secret_forms;
mod secret_leaves;
mod secrets;
mod settings;
mod spans;
mod syntax;
mod system;
mod tree;
mod union;
mod validate;
mod variables;
mod yaml;

pub use conduct::{
    AlertThresholds, CommandHook, EnvFileHook, Hook, Hooks, Limits, Monitor, NotifierJob, Rollback, ToldEvent,
};
pub use editor_schema::{job_file_schema, settings_file_schema};
pub use import::{BreakerPolicy, Import, NewFieldPolicy, OrphanPolicy};
pub use job::{
    CertificateJob, CollectionJob, Connector, Job, Mode, Parameter, ReferenceJob, RuleJob, RuleSide,
    RuleWhen, Staging, TransformJob, VerificationLevel,
};
pub use load::{FILE_BYTES_MAX, LoadedJob, check_job, load_job};
pub use origin::Origin;
pub use overrides::{KeyFlag, Overrides, Said};
pub use patterns::{Pattern, Patterns};
pub use policies::keeps_stored;
pub use render::render;
pub use same_place::{Side, is_same_place};
pub use schedules::{Schedule, Schedules, daemon_folder, load_schedules};
pub use secret_file::read_named as read_secret_file;
pub use secrets::{MASK, SECRET_CHARS_MIN, Secrets};
pub use settings::SETTINGS_FILE;
pub use spans::{Place, Spans};
pub use system::{lasting, short_digest, source_as_written, system_named};
pub use variables::{Sets, VARIABLES, Variable, Variables};
