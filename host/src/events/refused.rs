//! Rejected records as they pass between processes: those of earlier runs, and those that were sent again in vain.
//! Not here: their data, which is the state's, and their first refusal, which is an event of its own.

use serde::{Deserialize, Serialize};

/// A record that an earlier run of the copy has refused; it counts if its commit was made.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RefusedBefore {
    /// In the source.
    pub collection: String,
    /// The label of its partition.
    pub partition: String,
    /// The commit that leaves it out; 0 if it was refused on the way into a stage.
    pub seq: u64,
    /// Its key as text, or its place in the input.
    pub record: String,
    /// The stable code of the reason.
    pub code: String,
    /// The reason.
    pub message: String,
    /// By what a comparison knows it, in hexadecimal digits; none if the source refused it.
    pub digest: Option<String>,
}

/// A record that was sent again and refused once more.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RefusedAgain {
    /// Its number among those of its run.
    pub number: u64,
    /// The stable code of the reason.
    pub code: String,
    /// The reason, without values.
    pub message: String,
}
