//! What is durable in the sink, and how a run that was broken off goes on from there.
//!
//! No I/O: the rules alone. `lane` is the state of one lane between host and sink, `manifest` what a run leaves in the sink so that a
//! later one can take it up. Neighbours: [`crate::pipeline`] carries the rules out, the simulation in the tests does so with faults.

mod lane;
mod lane_counts;
mod manifest;
mod resume;
#[cfg(test)]
mod simulation;

pub use lane::{Answer, Lane, Reclaimed};
pub use lane_counts::{LaneCounts, lane_snapshots, snapshots_extension};
pub use manifest::{Difference, LANE_FORMAT, Manifest, ManifestCollection, RUN_LANE_LABEL, run_lane};
pub use resume::ResumeOptions;
