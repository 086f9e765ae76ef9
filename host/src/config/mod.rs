//! The job file: reading it, saying everything that is wrong with it, and the [`Job`] that comes of it.
//!
//! `load_job` gives the job with the place of every value, or all faults at once, each with line, column, what is
//! valid and a stable code. `plugin_config::validate` does the same for the plugins' own settings once their schemas
//! are known. `render` writes errors for a terminal. Nothing here opens a plugin or a system.

mod fault;
#[cfg(test)]
mod fixtures;
mod job;
mod load;
mod nearest;
pub mod plugin_config;
mod render;
mod rules;
mod scalar;
mod schema;
mod spans;
mod syntax;
mod tree;
mod union;
mod validate;
mod yaml;

pub use job::{CollectionJob, Connector, Import, Job, Limits, Mode, VerificationLevel};
pub use load::{FILE_BYTES_MAX, LoadedJob, load_job};
pub use render::render;
pub use spans::{Place, Spans};
