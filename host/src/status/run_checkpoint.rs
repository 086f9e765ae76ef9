//! What `migration-checkpoint.json` says: what is durable in the sink, by collection and partition.
//!
//! For people. The sink's own record is the truth, and a resumed run asks the sink.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use whimbrel_plugin_api::Cursor;

use super::run_status::FORMAT;

/// Said in the file itself, since people edit files.
const NOTE: &str = "for people: the sink keeps the checkpoint that a resumed run uses";

/// What is durable in the sink.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunCheckpoint {
    /// The version of this form.
    pub format: u32,
    /// What this is not.
    pub note: String,
    /// The run.
    pub run_id: String,
    /// The job.
    pub job: String,
    /// When all of this was true.
    pub updated_at: DateTime<Utc>,
    /// Records that this run made durable.
    pub record_count: u64,
    /// By collection of the source, then by partition.
    pub collections: BTreeMap<String, BTreeMap<String, PartitionCheckpoint>>,
}

/// What is durable of one partition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionCheckpoint {
    /// The sink's own count of commits.
    pub seq: u64,
    /// Where the source goes on, as hexadecimal digits.
    pub cursor: Cursor,
    /// Records that this run made durable.
    pub record_count: u64,
    /// Whether the partition is complete.
    pub done: bool,
    /// When the last transaction became durable.
    pub committed_at: DateTime<Utc>,
}

impl RunCheckpoint {
    /// Nothing is durable yet.
    pub fn new(run_id: &str, at: DateTime<Utc>) -> Self {
        Self {
            format: FORMAT,
            note: NOTE.to_owned(),
            run_id: run_id.to_owned(),
            job: String::new(),
            updated_at: at,
            record_count: 0,
            collections: BTreeMap::new(),
        }
    }

    /// Takes note of a commit.
    pub fn commit(&mut self, collection: &str, partition: &str, mut now: PartitionCheckpoint) {
        self.record_count += now.record_count;
        let partitions = match self.collections.get_mut(collection) {
            Some(partitions) => partitions,
            None => self.collections.entry(collection.to_owned()).or_default(),
        };
        match partitions.get_mut(partition) {
            Some(before) => {
                now.record_count += before.record_count;
                *before = now;
            }
            None => {
                partitions.insert(partition.to_owned(), now);
            }
        }
    }
}
