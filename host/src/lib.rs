//! The whimbrel host: loads plugins, moves records between them, and says what happened.
//!
//! A program more than a library: `main.rs` calls [`cli::main`]. `ARCHITECTURE.md` has the map of the modules and
//! the rules between them.

pub mod barrier;
mod canonical_json;
pub mod certificate;
pub mod checkpoint;
pub mod cli;
pub mod config;
pub mod control;
pub mod crash_site;
pub mod events;
pub mod loader;
pub mod notify;
pub mod orchestrator;
pub mod phases;
pub mod pipeline;
pub mod plan;
pub mod report;
pub mod scheduler;
pub mod state;
pub mod status;
pub mod supervisor;
pub mod transform;
pub mod verification;
pub mod workspace;
