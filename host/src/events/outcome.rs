//! How a worker's task ended, with all that summary and `--json` say of it.
//!
//! Not here: exit codes (`cli::exit_code` makes them from this) and the wording (`report`).

use serde::{Deserialize, Serialize};
use whimbrel_plugin_api::Finding;
use whimbrel_plugin_api::collection::FieldLoss;
use whimbrel_plugin_api::manifest::Role;
use whimbrel_plugin_api::source::RejectedRecord;

use super::verification::{CertificateNote, RepairResult, RuleResult, VerificationResult};
use super::{CostEstimate, Failure, PhaseReport, SinkCostEstimate, SnapshotsRead};

/// How a worker's task ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Outcome {
    /// Everything was done, and what was compared is equal.
    Done {
        /// What was done.
        summary: RunSummary,
    },
    /// Both sides differ.
    Differences {
        /// What was done and found.
        summary: RunSummary,
    },
    /// The run itself is complete, but the comparison could not be made.
    Unverified {
        /// What was done.
        summary: RunSummary,
        /// Why not.
        failure: Failure,
    },
    /// The run was not begun, since something stands in the way.
    Refused {
        /// What was found out.
        summary: RunSummary,
        /// What stands in the way.
        failures: Vec<Failure>,
    },
    /// It failed.
    Failed {
        /// What was done until then.
        summary: RunSummary,
        /// Why.
        failure: Failure,
    },
    /// It ended because somebody asked for it.
    Cancelled {
        /// What was done until then.
        summary: RunSummary,
    },
}

impl Outcome {
    /// What was done.
    pub fn summary(&self) -> &RunSummary {
        match self {
            Self::Done { summary }
            | Self::Differences { summary }
            | Self::Unverified { summary, .. }
            | Self::Refused { summary, .. }
            | Self::Failed { summary, .. }
            | Self::Cancelled { summary } => summary,
        }
    }
}

/// What a run, a check or a verification has done.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RunSummary {
    /// The phases that were entered, in order.
    pub phases: Vec<PhaseReport>,
    /// The collections, in the order of the plan.
    pub collections: Vec<CollectionResult>,
    /// Rejected records in all.
    pub rejected_count: u64,
    /// The first of them (50 at most), by collection.
    pub rejected: Vec<(String, RejectedRecord)>,
    /// What was compared.
    pub verification: Vec<VerificationResult>,
    /// The references between the collections, with the records that point to nothing.
    pub references: Vec<ReferenceResult>,
    /// The file of the run's folder that lists all of these, if there are any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub orphans_file: Option<String>,
    /// What is promised of each collection if the run is interrupted, in the order of the plan.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub guarantees: Vec<CollectionGuarantee>,
    /// Statements that a dry preparation would run.
    pub ddl: Vec<String>,
    /// Peak resident memory of the worker, octets.
    pub memory_peak_bytes: u64,
    /// From the start of the worker to the first durable record, milliseconds.
    pub first_commit_ms: Option<u64>,
    /// What both sides and the host had to say before the run.
    pub findings: Vec<FoundBy>,
    /// Records that waited on disk.
    pub staged: Option<StagedFacts>,
    /// How fast the source was read by way of trial.
    pub rate: Option<MeasuredRate>,
    /// What reading the source costs, as it was estimated before the copy, if the source bills it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cost: Option<CostEstimate>,
    /// What asking the sink costs, as it was estimated before the copy, if the sink bills it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sink_cost: Option<SinkCostEstimate>,
    /// Counts of both sides, for `stats`.
    pub stats: Vec<CollectionStats>,
    /// What was removed, for `clear`.
    pub cleared: Vec<ClearedCollection>,
    /// The job's rules, before and after.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<RuleResult>,
    /// References within the sink, with the records that point to nothing there.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub sink_references: Vec<ReferenceResult>,
    /// What a repair has done.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub repaired: Vec<RepairResult>,
    /// What became of the certificate; set by whoever writes it, after the task.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate: Option<CertificateNote>,
}

/// How often a record takes effect in the sink if the run is interrupted and gone on with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Guarantee {
    /// Once: each is written once.
    ExactlyOnce,
    /// Once in effect: what is written again changes nothing.
    Idempotent,
    /// At most once: nothing is written again, and what was interrupted is begun anew where the target was emptied.
    AtMostOnce,
    /// At least once: what is written again may be there twice.
    AtLeastOnce,
}

impl Guarantee {
    /// In words.
    pub const fn word(self) -> &'static str {
        match self {
            Self::ExactlyOnce => "exactly once",
            Self::Idempotent => "once in effect",
            Self::AtMostOnce => "at most once",
            Self::AtLeastOnce => "at least once",
        }
    }
}

/// What is promised of one collection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CollectionGuarantee {
    /// In the source.
    pub collection: String,
    /// What.
    pub guarantee: Guarantee,
    /// Why, in one sentence.
    pub reason: String,
}

/// What is known of a reference before anything is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReferenceState {
    /// All records were looked at.
    Searched,
    /// The source sees to it that every record pointed to is there.
    Guaranteed,
    /// Nobody looked.
    #[default]
    Skipped,
}

/// A reference between two collections that are copied. Fields have the names that they have after the transforms. Of a
/// reference within the sink, collections have their names there.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ReferenceResult {
    /// The collection whose records point, in the source.
    pub collection: String,
    /// Its fields that point.
    pub fields: Vec<String>,
    /// The collection pointed to, in the source.
    pub parent: String,
    /// The fields pointed to.
    pub to_fields: Vec<String>,
    /// Whether it was looked at.
    pub state: ReferenceState,
    /// Why not, if it was not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Records looked at.
    pub record_count: u64,
    /// Of these, those that point to nothing.
    pub orphan_count: u64,
    /// The different keys that they point to.
    pub missing_key_count: u64,
    /// Whether that is their number, and not the least that it can be.
    pub missing_keys_counted: bool,
    /// Of a reference within the sink: orphans there that the source does not have.
    #[serde(skip_serializing_if = "is_zero")]
    pub sink_only_count: u64,
    /// The first of them (20 at most).
    pub orphans: Vec<Orphan>,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// A record that points to nothing. Keys only.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Orphan {
    /// The record's key as text.
    pub record: String,
    /// The key that is missing, as text.
    pub missing: String,
}

/// A finding and who made it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FoundBy {
    /// The role, or none for the host itself.
    pub role: Option<Role>,
    /// What was found.
    #[serde(flatten)]
    pub finding: Finding,
}

/// Records that waited on disk between the phases.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct StagedFacts {
    /// The run that read them from the source.
    pub run_id: String,
    /// When it had read them all, RFC 3339.
    pub at: String,
    /// How many.
    pub record_count: u64,
    /// Whether an earlier run had read them, so that this one did not read the source.
    pub reused: bool,
}

/// How fast records were read and transformed by way of trial.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MeasuredRate {
    /// The collection that was tried.
    pub collection: String,
    /// Records read.
    pub record_count: u64,
    /// Octets of them.
    pub size_bytes: u64,
    /// Wall time in seconds.
    pub seconds: f64,
}

/// The records of one collection on both sides.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CollectionStats {
    /// In the source.
    pub source: String,
    /// In the sink.
    pub sink: String,
    /// Records there; `None` if the sink has no such collection.
    pub source_count: Option<u64>,
    /// Records there; `None` if the sink has no such collection.
    pub sink_count: Option<u64>,
    /// Whether both numbers are the same.
    pub in_step: bool,
}

/// A collection of the sink that was emptied.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ClearedCollection {
    /// In the sink.
    pub collection: String,
    /// Records removed, if the sink has counted.
    pub removed_count: Option<u64>,
}

/// One collection of a run.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct CollectionResult {
    /// In the source.
    pub source: String,
    /// In the sink.
    pub sink: String,
    /// Its key.
    pub key: Vec<String>,
    /// Records that the source announced.
    pub estimate: Option<u64>,
    /// Octets that the source announced.
    pub estimate_bytes: Option<u64>,
    /// Records read.
    pub read_count: u64,
    /// Records that the sink has taken and made durable.
    pub written_count: u64,
    /// Of these, left as they were by policy.
    pub skipped_count: u64,
    /// Records that came out of the transforms, if there are any.
    pub transformed_count: u64,
    /// Records that transforms left out on purpose.
    pub filtered_count: u64,
    /// Records refused by either side.
    pub rejected_count: u64,
    /// Octets read.
    pub read_bytes: u64,
    /// Whether every partition was read to its end and committed.
    pub complete: bool,
    /// What its mappings lose.
    pub losses: Vec<FieldLoss>,
    /// The snapshots of the source at which its records were read, in this run and in those that it has gone on with; left out unless
    /// the collections of the copy were read at several.
    #[serde(skip_serializing_if = "SnapshotsRead::is_empty")]
    pub snapshots: SnapshotsRead,
}
