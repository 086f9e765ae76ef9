//! What a verification has found: differences, digests, rules, and what was repaired.
//!
//! Part of a task's outcome. Not here: how both sides are compared ([`crate::verification`]) and the wording (`report`).

use serde::{Deserialize, Serialize};
use whimbrel_plugin_api::capability::Loss;
use whimbrel_plugin_api::manifest::Role;

use super::SnapshotsRead;
use crate::config::VerificationLevel;

/// The code of a task that found nothing to differ, and some records of which it cannot be said.
pub const CHANGED_SINCE: &str = "verification.changed_since";

/// How a comparison ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Comparison {
    /// Nothing differs.
    Equal,
    /// Something does.
    Different,
    /// Nothing is known to differ, but of some records it cannot be said: they changed meanwhile, or the source could not deliver
    /// them and no copy has left them out.
    Undecided,
}

/// How many records a declared loss has touched.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LossCount {
    /// The field, as the sink calls it.
    pub field: String,
    /// The loss.
    pub loss: Loss,
    /// Records of the source whose value of the field it changes.
    pub record_count: u64,
}

/// Digests of one collection at up to three places. `docs/digest.md` says how they are made.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CollectionDigests {
    /// The fields whose values make a record's digest, in their order.
    pub fields: Vec<String>,
    /// Of these, the key; empty if a record is known by all of its fields.
    pub key: Vec<String>,
    /// Records as the source gave them, before transforms and declared losses; fields and key are those of the source.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub extracted: Option<PlaceDigest>,
    /// Records as they were to be in the sink, declared losses taken into account.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub transformed: Option<PlaceDigest>,
    /// Records as they were read back from the sink, declared losses taken into account.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub read_back: Option<PlaceDigest>,
    /// The snapshots of the source at which its records were read for them; left out unless there were several.
    #[serde(skip_serializing_if = "SnapshotsRead::are_no_several")]
    pub snapshots: SnapshotsRead,
}

/// The digest of a collection at one place. Does not depend on the order of records, nor on how they were divided.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PlaceDigest {
    /// Records.
    pub record_count: u64,
    /// The sum of their digests modulo 2^128, 32 hexadecimal digits.
    pub sum: String,
    /// The digests joined by exclusive or, 32 hexadecimal digits.
    pub xor: String,
    /// BLAKE3 over all buckets, 64 hexadecimal digits.
    pub root: String,
    /// The parts that were read, with their own sums.
    pub partitions: Vec<PartitionDigest>,
}

/// The digest of one part of a collection.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PartitionDigest {
    /// What the reader calls the part.
    pub partition: String,
    /// Records.
    pub record_count: u64,
    /// As of a place.
    pub sum: String,
    /// As of a place.
    pub xor: String,
}

/// How long single records take to be read back from the sink by their keys, milliseconds.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ReadLatency {
    /// Records that were read, one after the other.
    pub sample_count: u64,
    /// Half of them took no longer.
    pub p50_ms: f64,
    /// 95 of 100 took no longer.
    pub p95_ms: f64,
    /// 99 of 100 took no longer.
    pub p99_ms: f64,
}

/// When a rule is looked at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RuleMoment {
    /// Before anything is written.
    Before,
    /// When everything is written.
    #[default]
    After,
}

/// What became of a rule.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RuleState {
    /// No record breaks it.
    Held,
    /// Some do.
    Broken,
    /// It could not be looked at.
    #[default]
    Unchecked,
}

/// A rule that a job asks for, and what was found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RuleResult {
    /// Its name in the job.
    pub name: String,
    /// When.
    pub moment: RuleMoment,
    /// Of which side the records are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,
    /// The collection, if it is about one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub collection: Option<String>,
    /// What became of it.
    pub state: RuleState,
    /// Why it could not be looked at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Records looked at, if that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub record_count: Option<u64>,
    /// Records that break it.
    pub violation_count: u64,
    /// The keys of the first of them (20 at most), as text.
    pub violations: Vec<String>,
}

/// What `verify --repair` has done to one collection.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RepairResult {
    /// In the source.
    pub source: String,
    /// In the sink.
    pub sink: String,
    /// Records copied again.
    pub copied_count: u64,
    /// Records that only the sink had, removed.
    pub removed_count: u64,
    /// Records that could not be healed, with the reason (50 at most).
    pub left: Vec<(String, String)>,
}

/// What became of the certificate of a comprehensive comparison.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CertificateNote {
    /// Its file in the folder of the run or verification, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// Whether somebody vouches for it.
    pub is_signed: bool,
    /// Why there is none, or why it is not signed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// The comparison of one collection.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct VerificationResult {
    /// In the source.
    pub source: String,
    /// In the sink.
    pub sink: String,
    /// How it ended.
    pub comparison: Comparison,
    /// Records counted in the source.
    pub source_count: u64,
    /// Records of the source that it could not deliver or that a transform refused. What the sink has of them looks like records
    /// that only the sink has.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub source_unreadable_count: u64,
    /// Of these, the ones that no copy has left out, so that nobody knows whether the sink is right to lack them.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub source_unchecked_count: u64,
    /// Records counted in the sink.
    pub sink_count: u64,
    /// Records of the sink that could not be read as what they are to be, so that they are in no digest of it.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub sink_unreadable_count: u64,
    /// Records whose every field was compared.
    pub compared_count: u64,
    /// Records that were passed over, since the sink has refused them.
    #[serde(default)]
    pub left_out_count: u64,
    /// Whether these were all of them.
    pub every_record: bool,
    /// Records of the source that share their key with another one.
    pub duplicate_key_count: u64,
    /// Whether their numbers say nothing, since only some of the records of the source that share a key were counted.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_count_open: bool,
    /// Differences found.
    pub mismatch_count: u64,
    /// The first of them (50 at most).
    pub mismatches: Vec<Mismatch>,
    /// Wall time in seconds.
    pub seconds: f64,
    /// How much was compared.
    #[serde(default)]
    pub level: VerificationLevel,
    /// Records that were changed meanwhile, so that it cannot be said whether they arrived.
    #[serde(default)]
    pub changed_since_count: u64,
    /// Records that differed at first and were alike a moment later: somebody has written to the sink while it was compared. There are
    /// no digests of the sink then.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub settled_count: u64,
    /// How many records the declared losses have touched; only of losses that touched some.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub losses: Vec<LossCount>,
    /// Records with at least one such value; equal but for that.
    #[serde(default)]
    pub equal_after_loss_count: u64,
    /// The file of the results folder that lists all differences, if there are any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mismatches_file: Option<String>,
    /// The digests, if every record was compared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digests: Option<CollectionDigests>,
    /// How fast the sink is read by key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency: Option<ReadLatency>,
}

impl VerificationResult {
    /// Notes that the source could not deliver `unreadable` records, or a transform refused them, of which a copy has left out
    /// `explained`.
    pub fn note_source_unreadable(&mut self, unreadable: u64, explained: u64) {
        self.source_unreadable_count = unreadable;
        self.source_unchecked_count = unreadable.saturating_sub(explained);
    }

    /// Says how it ended, when everything is counted.
    pub fn conclude(&mut self) {
        self.comparison = if self.mismatch_count > 0 {
            Comparison::Different
        } else if self.changed_since_count > 0 || self.source_unchecked_count > 0 {
            Comparison::Undecided
        } else {
            Comparison::Equal
        };
    }

    /// Of a collection that is about to be compared.
    pub fn begun(source: &str, sink: &str, level: VerificationLevel) -> Self {
        Self {
            source: source.to_owned(),
            sink: sink.to_owned(),
            comparison: Comparison::Equal,
            source_count: 0,
            source_unreadable_count: 0,
            source_unchecked_count: 0,
            sink_count: 0,
            sink_unreadable_count: 0,
            compared_count: 0,
            left_out_count: 0,
            every_record: false,
            duplicate_key_count: 0,
            is_count_open: false,
            mismatch_count: 0,
            mismatches: Vec::new(),
            seconds: 0.0,
            level,
            changed_since_count: 0,
            settled_count: 0,
            losses: Vec::new(),
            equal_after_loss_count: 0,
            mismatches_file: None,
            digests: None,
            latency: None,
        }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for it so")]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// What kind of difference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MismatchKind {
    /// The sink lacks the collection, or fields of it.
    Schema,
    /// The numbers of records differ.
    Count,
    /// The sink lacks the record.
    Missing,
    /// The sink has a record that the source does not have.
    Extra,
    /// A field differs.
    Different,
    /// The sink's record cannot be read as its type.
    Unreadable,
    /// The source's record was changed after it was compared; it is neither equal nor different.
    ChangedSince,
}

/// The values of one field on both sides, as text; `None` if a side has no such record or field.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FieldValues {
    /// The field, as the sink calls it.
    pub field: String,
    /// In the source, after its transforms.
    pub source: Option<String>,
    /// In the sink.
    pub sink: Option<String>,
}

/// One difference. Names and keys only, and values if somebody has asked for them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mismatch {
    /// What kind.
    pub kind: MismatchKind,
    /// The record's key as text, or what the difference is about.
    pub record: String,
    /// The fields that differ, if known.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fields: Vec<String>,
    /// Their values, if these were asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<FieldValues>,
}
