//! Records that wait on disk between the phases, with `staging: disk`.
//!
//! A stage is a folder of Arrow IPC files, one per partition, with a manifest that is written last. It is filled as a
//! sink and read as a source, so that the same copy runs between systems and stages. Neighbours: `manifest` is what a
//! stage says of itself, `stage_sink` fills one, `stage_source` reads one, `discard` is where a dry run ends.

mod discard;
mod manifest;
mod stage_sink;
mod stage_source;

pub use discard::Discard;
pub use manifest::{StageManifest, StagedCollection, StagedPartition};
pub use stage_sink::{Stage, StageSink};
pub use stage_source::StageSource;
