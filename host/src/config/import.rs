//! The part of a job that says how records are written: conflicts, new fields, orphans, transactions and their repetition.
//!
//! As in `job.rs`, the doc comments here are the reference and become the JSON Schema. Neighbour: `conduct.rs`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use whimbrel_plugin_api::ConflictPolicy;

/// How records are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Import {
    /// What happens to a record whose key the sink already has.
    pub on_conflict: ConflictPolicy,
    /// What happens to a field that turns up after the collection was planned.
    pub on_new_field: NewFieldPolicy,
    /// What happens if records point to others that the source does not have; they are looked for before anything is
    /// written.
    pub on_orphan: OrphanPolicy,
    /// Rejected records that a run bears; with one more it fails.
    #[schemars(range(min = 0, max = 1_000_000_000_000_u64))]
    pub max_errors: u64,
    /// Whether the other collections go on when one fails; the run fails at its end.
    pub continue_on_error: bool,
    /// Records per write to the sink. Unless it is set, a sink that judges records together later gets batches as they were
    /// read.
    #[schemars(range(min = 1, max = 65_536))]
    pub batch_size: u32,
    /// Batches of one partition that may wait for the sink.
    #[schemars(range(min = 1, max = 64))]
    pub concurrent_batches: u32,
    /// Records after which a transaction is committed, once it is a second old.
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub checkpoint_interval: u64,
    /// Times that a transaction is tried again after an error that may pass.
    #[schemars(range(min = 0, max = 100))]
    pub max_retries: u32,
    /// Milliseconds before the first of these tries; doubled for each further one, up to a minute.
    #[schemars(range(min = 0, max = 60_000))]
    pub retry_delay_ms: u64,
    /// Milliseconds that a transaction may stay open; a call that takes longer is cancelled.
    #[schemars(range(min = 100, max = 86_400_000))]
    pub transaction_timeout_ms: u64,
    /// Milliseconds that a run waits for somebody's repair of the sink (its disk is full, it takes no writes, it has no
    /// connection left) before it fails; 0 means that it does not wait.
    #[schemars(range(min = 0, max = 86_400_000))]
    pub pause_max_ms: u64,
}

impl Default for Import {
    fn default() -> Self {
        Self {
            on_conflict: ConflictPolicy::default(),
            on_new_field: NewFieldPolicy::default(),
            on_orphan: OrphanPolicy::default(),
            max_errors: 0,
            continue_on_error: false,
            batch_size: 100,
            concurrent_batches: 3,
            checkpoint_interval: 1_000,
            max_retries: 5,
            retry_delay_ms: 1_000,
            transaction_timeout_ms: 30_000,
            pause_max_ms: 1_800_000,
        }
    }
}

/// What happens to a field that turns up after the collection was planned.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum NewFieldPolicy {
    /// The run fails and names it.
    #[default]
    Fail,
    /// The sink gets a column for it.
    Evolve,
    /// It is kept in the sink's column for what columns cannot hold.
    Overflow,
}

/// What happens if records point to others that the source does not have.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OrphanPolicy {
    /// They are counted and listed, and the run goes on.
    #[default]
    Report,
    /// The run does not begin, and they are listed.
    Fail,
    /// Nobody looks for them, which spares the source a second reading of the fields in question.
    Skip,
}
