//! Everything observable, as one enum in one ordered stream.
//!
//! The worker writes events, one JSON object a line; the supervisor reads them, and progress, summary and `--json` are
//! made from them alone. Readers never steer. Neighbours: [`crate::supervisor`] carries the stream, [`crate::status`]
//! and [`crate::report`] read it.

mod cost;
mod emitter;
mod failure;
mod outcome;
mod refused;
#[cfg(test)]
mod scrubbing;
mod snapshots;
mod verification;

pub use cost::{CollectionCost, CostEstimate, SinkCollectionCost, SinkCostEstimate};
pub use emitter::Emitter;
pub use failure::Failure;
pub use outcome::{
    ClearedCollection, CollectionGuarantee, CollectionResult, CollectionStats, FoundBy, Guarantee,
    MeasuredRate, Orphan, Outcome, ReferenceResult, ReferenceState, RunSummary, StagedFacts,
};
pub use refused::{RefusedAgain, RefusedBefore};
pub use snapshots::SnapshotsRead;
pub use verification::{
    CHANGED_SINCE, CertificateNote, CollectionDigests, Comparison, FieldValues, LossCount, Mismatch,
    MismatchKind, PartitionDigest, PlaceDigest, ReadLatency, RepairResult, RuleMoment, RuleResult, RuleState,
    VerificationResult,
};

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use whimbrel_plugin_api::export::Description;
use whimbrel_plugin_api::manifest::Role;
use whimbrel_plugin_api::source::RejectedRecord;
use whimbrel_plugin_api::{Cursor, Finding};

/// The six phases of a run, in their order. Extraction, transformation and import overlap.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Everything that can be found out without writing.
    PreValidation,
    /// Reading the source.
    Extraction,
    /// Changing records on the way.
    Transformation,
    /// Writing the sink.
    Import,
    /// Comparing both sides.
    Verification,
    /// Tidying up.
    PostMigration,
}

impl Phase {
    /// Its name in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::PreValidation => "pre_validation",
            Self::Extraction => "extraction",
            Self::Transformation => "transformation",
            Self::Import => "import",
            Self::Verification => "verification",
            Self::PostMigration => "post_migration",
        }
    }
}

/// How a phase ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PhaseOutcome {
    /// It did all that it had to.
    Done,
    /// There was nothing to do, or the job says not to.
    Skipped,
    /// It did not.
    Failed,
}

/// A phase that has ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PhaseReport {
    /// Which one.
    pub phase: Phase,
    /// How it ended.
    pub outcome: PhaseOutcome,
    /// Wall time in seconds, from its first to its last action.
    pub seconds: f64,
    /// Records that passed.
    pub record_count: u64,
}

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// The task begins; said by the supervisor, before any other.
    Started {
        /// The run.
        run_id: String,
        /// `run`, `check`, `verify` and so on.
        command: String,
        /// The job.
        job: String,
        /// `full` or `test`.
        mode: String,
        /// Who started it: user and host.
        started_by: String,
    },
    /// A library was loaded and says what it is.
    PluginLoaded {
        /// The role that it was loaded for.
        role: Role,
        /// Its name.
        name: String,
        /// Its version.
        version: String,
        /// Its config schema, capabilities and type mappings.
        description: Box<Description>,
    },
    /// A phase begins.
    PhaseStarted {
        /// Which one.
        phase: Phase,
    },
    /// A phase has ended.
    PhaseEnded(PhaseReport),
    /// Something was found before the run.
    Found {
        /// The role that found it, or none for the host itself.
        role: Option<Role>,
        /// What.
        finding: Finding,
    },
    /// A collection will be copied.
    CollectionPlanned {
        /// In the source.
        source: String,
        /// In the sink.
        sink: String,
        /// Records expected, if known.
        record_count: Option<u64>,
    },
    /// How far a collection is.
    Progress {
        /// In the source.
        collection: String,
        /// Records read.
        read_count: u64,
        /// Records durable in the sink.
        written_count: u64,
        /// Records refused by either side.
        rejected_count: u64,
        /// Octets read.
        read_bytes: u64,
    },
    /// A transaction is durable in the sink.
    Committed {
        /// In the source.
        collection: String,
        /// The partition, as a person reads it.
        partition: String,
        /// The sink's own count of commits of the lane.
        seq: u64,
        /// Where the source goes on.
        cursor: Cursor,
        /// Records of this transaction.
        record_count: u64,
        /// Whether the partition is complete.
        done: bool,
    },
    /// A transaction, or the reading of a partition, failed and is tried again.
    Retrying {
        /// The source if it is the reading; else it is a transaction.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        role: Option<Role>,
        /// In the source.
        collection: String,
        /// Which try this will be, from 1.
        attempt: u32,
        /// Milliseconds before it.
        delay_ms: u64,
        /// The code of the error.
        code: String,
        /// The error.
        message: String,
    },
    /// Somebody has to repair a system; the run waits for that and probes now and then.
    Paused {
        /// The role that needs it, or none for the host itself.
        role: Option<Role>,
        /// The code of the error.
        code: String,
        /// The error.
        message: String,
        /// What to do.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        help: Option<String>,
        /// When the pause began, RFC 3339.
        since: String,
    },
    /// A probe has succeeded; the run goes on.
    Resumed {
        /// How long it was paused, milliseconds.
        paused_ms: u64,
    },
    /// A collection has failed and the others go on.
    CollectionFailed {
        /// In the source.
        collection: String,
        /// Why.
        failure: Box<Failure>,
    },
    /// A look at the worker itself.
    Health {
        /// Resident memory, octets.
        memory_bytes: u64,
        /// Octets of records that wait in links.
        waiting_bytes: u64,
    },
    /// A hook has ended; said by the supervisor.
    HookEnded {
        /// What it was, without its values.
        hook: String,
        /// Whether it did what it should.
        ok: bool,
        /// What it said of itself.
        message: String,
    },
    /// The first record is durable in the sink.
    FirstCommit {
        /// Milliseconds since the worker started.
        elapsed_ms: u64,
    },
    /// A record was refused.
    Rejected {
        /// In the source.
        collection: String,
        /// Which one and why.
        record: RejectedRecord,
        /// The phase that refused it.
        #[serde(default = "import")]
        stage: Phase,
        /// The partition, as a person reads it.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        partition: String,
        /// The commit of the lane that leaves it out, if that is made; 0 if it belongs to none.
        #[serde(default, skip_serializing_if = "is_zero")]
        seq: u64,
        /// By what a comparison knows it, in hexadecimal digits; none unless the sink refused it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        digest: Option<String>,
    },
    /// A lane is held from now on, or a transaction of it was repeated with another judgement: records that were refused for a later commit of it than this will be met again.
    LaneTaken {
        /// In the source.
        collection: String,
        /// The partition, as a person reads it.
        partition: String,
        /// The commits of the lane so far.
        seq: u64,
        /// Where the source goes on.
        cursor: Cursor,
        /// Records of all those commits.
        record_count: u64,
        /// Whether the partition is complete.
        done: bool,
    },
    /// A collection is copied again from its start by a run that goes on: what was durable of it before counts no more, and records of
    /// it that were refused will be met again.
    BegunAnew {
        /// In the source.
        collection: String,
    },
    /// Rejected records of an earlier run were sent again, and what the sink took of them is durable.
    Replayed {
        /// The numbers of those that were taken.
        taken: Vec<u64>,
        /// Those that were not.
        refused: Vec<RefusedAgain>,
        /// Those that the sink has taken of replays which were broken off before anybody was told, by the run that refused them.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        known: BTreeMap<String, Vec<u64>>,
    },
    /// The worker waits until all events before this one are durable in the state; for the supervisor alone.
    Barrier {
        /// The number that the answer names.
        number: u64,
    },
    /// The process that held the plugins was ended by a signal and another one goes on where the sink has got to; said by the supervisor.
    WorkerRestarted {
        /// Which restart of this run, from 1.
        attempt: u32,
        /// The code of what ended it.
        code: String,
        /// What ended it.
        message: String,
        /// Milliseconds before the next one is started.
        delay_ms: u64,
    },
    /// How far a comparison is.
    VerificationProgress {
        /// In the source.
        collection: String,
        /// Records looked at on both sides.
        record_count: u64,
    },
    /// How far the search for records is that point to nothing.
    OrphanSearch {
        /// In the source.
        collection: String,
        /// Records looked at in this reading of it.
        record_count: u64,
    },
    /// A call into a plugin begins.
    CallStarted {
        /// Tells calls apart.
        call_id: u64,
        /// The plugin.
        plugin: String,
        /// The role.
        role: Role,
        /// The call.
        call: String,
    },
    /// A call into a plugin has returned.
    CallEnded {
        /// Which one.
        call_id: u64,
    },
    /// A line of a plugin's log.
    Log {
        /// The plugin.
        plugin: String,
        /// `error`, `warn`, `info` or `debug`.
        level: String,
        /// The line.
        message: String,
    },
    /// A notifier has delivered a notification.
    Delivered {
        /// Its place in the job, from 0.
        notifier: usize,
        /// Its plugin.
        plugin: String,
        /// The key of the notification.
        key: String,
        /// What the service calls the message.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        receipt: Option<String>,
    },
    /// A notification could not be delivered and is not tried again.
    NotDelivered {
        /// The place of the notifier in the job, from 0.
        notifier: usize,
        /// Its plugin.
        plugin: String,
        /// The key of the notification.
        key: String,
        /// Why.
        failure: Box<Failure>,
    },
    /// The worker is alive.
    Heartbeat {
        /// Resident memory, octets.
        #[serde(default)]
        memory_bytes: u64,
    },
    /// The last event of every worker that ends by itself.
    Finished {
        /// How it ended.
        outcome: Box<Outcome>,
    },
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

const fn import() -> Phase {
    Phase::Import
}
