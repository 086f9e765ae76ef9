//! An independently readable part of a collection.
//!
//! The descriptor belongs to the source; the host stores it, compares it and hands it back.

use serde::{Deserialize, Serialize};

use crate::collection::Estimate;
use crate::cursor::Cursor;

/// One part. All parts of a collection together hold each record once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Partition {
    /// Opaque octets of the source; the same octets mean the same records in a later process.
    pub descriptor: Cursor,
    /// How a person reads it, such as `id 1..5000`; the whole collection is `all`.
    pub label: String,
    /// How much it holds.
    #[serde(default)]
    pub estimate: Estimate,
}

impl Partition {
    /// The one part of a collection that is not divided.
    pub fn whole() -> Self {
        Self {
            descriptor: Cursor::start(),
            label: "all".to_owned(),
            estimate: Estimate::default(),
        }
    }
}

/// What is to be divided.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionsRequest {
    /// The collection.
    pub collection: String,
    /// The snapshot to divide, from [`crate::source::Source::open_snapshot`].
    #[serde(default)]
    pub snapshot: Option<String>,
    /// How many parts are wanted; more or fewer may be answered.
    pub wanted: u32,
}
