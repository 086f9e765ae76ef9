//! What a run is told that goes on where another one was broken off, besides its job.
//!
//! Where that is, the sink's own lanes say; what is here keeps the run from going on by mistake.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::events::RefusedBefore;

/// See the module.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ResumeOptions {
    /// The run that is gone on with; empty if the sink alone knows.
    pub resumes: String,
    /// Go on though the job, the source or a plugin is not as it was.
    pub accepts_changes: bool,
    /// Go on from the sink's cursor though this host has seen a later one: the sink was restored.
    pub accepts_sink_cursor: bool,
    /// How many commits of each partition this host has seen, by collection of the source and label of the partition.
    pub known_seqs: BTreeMap<String, BTreeMap<String, u64>>,
    /// Records that earlier runs of the copy have refused.
    pub refused: Vec<RefusedBefore>,
}
