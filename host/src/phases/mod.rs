//! The phases of a run, one file each; the middle three overlap and share one.
//!
//! A phase does its part and answers; [`crate::orchestrator`] decides what comes next.

pub mod asking;
pub mod clearing;
pub mod copying;
mod lanes;
pub mod post_migration;
pub mod pre_validation;
pub mod references;
pub mod repairing;
pub mod replaying;
mod rewriting;
pub mod rules;
mod second_pass;
mod sessions;
mod sink_checks;
pub mod sink_references;
pub mod staged;
pub mod verification;
