//! The part of a job that says how records are written: conflicts, new fields, orphans, transactions and their repetition.
//!
//! As in `job.rs`, the doc comments here are the reference and become the JSON Schema. Neighbour: `conduct.rs`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use whimbrel_plugin_api::ConflictPolicy;

/// How records are written.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
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
    /// The part of rejected records that ends a run early, with its state kept. `max_errors` holds besides; what is exceeded
    /// first counts.
    pub breaker: BreakerPolicy,
    /// Whether records may be added to a target that holds some already although its sink knows neither keys nor how far an
    /// earlier run came, so that records may be there twice afterwards.
    pub allow_duplicates: bool,
    /// Whether the other collections go on when one fails; the run fails at its end.
    pub continue_on_error: bool,
    /// Records per write to the sink. Unless it is set, a sink that judges records together later gets batches as they were
    /// read.
    #[schemars(range(min = 1, max = 65_536))]
    pub batch_size: u32,
    /// Batches of one partition that may wait for the sink.
    #[schemars(range(min = 1, max = 64))]
    pub concurrent_batches: u32,
    /// Whether the sink keeps how far the copy is, together with the records, if it can. Without, nothing of that is left in the sink,
    /// and a run that is interrupted begins anew.
    pub checkpoints: bool,
    /// Records after which a transaction is committed, once it is as old as `checkpoint_interval_ms`.
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub checkpoint_interval: u64,
    /// Milliseconds before which a transaction is not committed for the number of its records alone.
    #[schemars(range(min = 0, max = 3_600_000))]
    pub checkpoint_interval_ms: u64,
    /// Times that a transaction, or the reading of a partition, is tried again after an error that may pass; counted anew after
    /// each success.
    #[schemars(range(min = 0, max = 100))]
    pub max_retries: u32,
    /// Milliseconds before the first of these tries; doubled for each further one, up to a minute.
    #[schemars(range(min = 0, max = 60_000))]
    pub retry_delay_ms: u64,
    /// Milliseconds that a transaction may stay open; a call that takes longer is cancelled, not counting the time for which a
    /// plugin waits to keep to a rate.
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
            breaker: BreakerPolicy::default(),
            allow_duplicates: false,
            continue_on_error: false,
            batch_size: 100,
            concurrent_batches: 3,
            checkpoints: true,
            checkpoint_interval: 1_000,
            checkpoint_interval_ms: 1_000,
            max_retries: 5,
            retry_delay_ms: 1_000,
            transaction_timeout_ms: 30_000,
            pause_max_ms: 1_800_000,
        }
    }
}

/// When too large a part of the records is rejected.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct BreakerPolicy {
    /// The part of the records that may be rejected, by either side or on the way; with more the run ends. 1 means that none
    /// is too large.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub rate: f64,
    /// Records before which no part is too large, since a few say little.
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub records_min: u64,
    /// The last so many records are looked at.
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub window: u64,
}

impl Default for BreakerPolicy {
    fn default() -> Self {
        Self {
            rate: 0.1,
            records_min: 50,
            window: 1_000,
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
