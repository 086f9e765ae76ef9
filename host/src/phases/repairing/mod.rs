//! Heals what a comparison has found: records that are missing or differ are read again from the source and written to the sink, those
//! that only the sink has are removed.
//!
//! Each collection has a lane of its own for this. What is healed is what the source has now, not what it had when it was compared; a
//! repair that was killed is begun again by comparing. Neighbours: `orchestrator::repair` compares before and after,
//! `phases::rewriting` has the transactions.

mod at_fault;
mod healing;
mod in_source;
mod keeping;
mod removing;
mod sending;
#[cfg(test)]
mod tests;
mod told;

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};
use whimbrel_plugin_api::ConflictPolicy;
use whimbrel_plugin_api::capability::{SinkCapabilities, SourceCapabilities};

use crate::config::{Job, keeps_stored};
use crate::control::Stop;
use crate::events::{Failure, Mismatch, MismatchKind, RepairResult, VerificationResult};
use crate::loader::observe::{OpenedSink, OpenedSource};
use crate::plan::{PlannedCollection, policy_name};
use crate::transform::Transforms;
use at_fault::AtFault;
pub use at_fault::{Listed, listed};
use healing::{Care, Healing};
pub(super) use sending::PARTITION;
pub use told::Told;

/// Records that could not be healed and are listed with the reason, for each collection.
const LEFT_SHOWN_MAX: usize = 50;
/// So often records are tried again that the sink has refused, while others could be healed: they may refer to these.
const ROUNDS_MAX: usize = 20;

/// So many records are removed also where they are most of a collection: it is a small one.
const FEW_RECORDS: u64 = 10;
/// The folder beside the lists of differences that keeps the records themselves.
const KEPT_FOLDER: &str = "records";
/// So a difference begins that says of a collection that the sink does not have it at all.
const NO_COLLECTION: &str = "the sink has no collection";

/// So much of a collection may be changed; of more nobody was asked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Agreed {
    /// Records that are copied again.
    pub copied_count: u64,
    /// Records that only the sink has, and that are removed.
    pub removed_count: u64,
}

/// What a repair has done, and what ended it before its end, if anything did.
pub struct Repaired {
    /// By collection.
    pub results: Vec<RepairResult>,
    /// What either side has brought that is not about a single record. What was healed until then stays so.
    pub failure: Option<Failure>,
}

/// What a repair works with.
pub struct Repair<'a> {
    /// The job.
    pub job: &'a Job,
    /// The job as it is written, which says what happens to records that the sink has.
    pub intended: &'a Job,
    /// This run.
    pub run_id: &'a str,
    /// The loaded transforms.
    pub transforms: &'a Transforms,
    /// Ends everything.
    pub stop: &'a Stop,
    /// Tells how far it is.
    pub told: Told<'a>,
    /// What the source can do.
    pub source_can: &'a SourceCapabilities,
    /// What the sink can do.
    pub sink_can: &'a SinkCapabilities,
    /// What the sink can do when it is read.
    pub sink_reads: &'a SourceCapabilities,
    /// The folder in which the comparison has listed the differences.
    pub results_folder: &'a Path,
    /// Whether a collection may be emptied, or most of it removed.
    pub removes_most: bool,
    /// What was agreed to, by the collection's name in the sink; none if all was.
    pub agreed: Option<&'a BTreeMap<String, Agreed>>,
}

/// Heals the collections that differ by `results`: parents before children are copied, children before parents removed. `sink` is
/// prepared.
pub fn run(
    repair: &Repair<'_>,
    collections: &[PlannedCollection],
    results: &[VerificationResult],
    source: &mut OpenedSource,
    sink: &mut OpenedSink,
) -> Repaired {
    let mut all = Vec::new();
    let healed = heal(repair, collections, results, source, sink, &mut all);
    Repaired {
        results: all.into_iter().map(Healing::end).collect(),
        failure: healed.err(),
    }
}

fn heal<'a>(
    repair: &'a Repair<'a>,
    collections: &'a [PlannedCollection],
    results: &[VerificationResult],
    source: &mut OpenedSource,
    sink: &mut OpenedSink,
    all: &mut Vec<Healing<'a>>,
) -> Result<(), Failure> {
    for planned in collections {
        let of_collection = |result: &&VerificationResult| {
            result.source == planned.source.name && result.sink == planned.sink.name
        };
        let found = results.iter().find(of_collection);
        if let Some(found) = found.filter(|found| found.mismatch_count > 0) {
            all.push(begin(repair, planned, found)?);
        }
    }
    // All of it is kept before the first record is changed: one that goes may take along what is said of another one.
    for healing in all.iter_mut() {
        healing.keep(sink)?;
    }
    if repair.stop.is_raised() {
        return Ok(());
    }
    for round in 0..ROUNDS_MAX {
        let healed = |all: &[Healing<'_>]| -> u64 { all.iter().map(Healing::healed).sum() };
        let before = healed(all);
        for healing in all.iter_mut().filter(|healing| round == 0 || healing.has_left()) {
            healing.copy(source, sink)?;
        }
        for healing in all.iter_mut().rev() {
            healing.remove(source, sink)?;
        }
        let is_done = !all.iter().any(Healing::has_left) || healed(all) == before;
        if is_done || repair.stop.is_raised() {
            break;
        }
    }
    Ok(())
}

/// What can be said of a collection before its records are looked at.
fn begin<'a>(
    repair: &'a Repair<'a>,
    planned: &'a PlannedCollection,
    found: &VerificationResult,
) -> Result<Healing<'a>, Failure> {
    let mut result = RepairResult {
        source: planned.source.name.clone(),
        sink: planned.sink.name.clone(),
        ..RepairResult::default()
    };
    let of_schema = |one: &&Mismatch| one.kind == MismatchKind::Schema;
    let mut schema = found.mismatches.iter().filter(of_schema).peekable();
    if schema.peek().is_some() {
        result
            .left
            .extend(schema.map(|one| left_for_schema(planned, one)));
        return Ok(Healing::of_none(repair, planned, result));
    }
    let leave_all = |mut result: RepairResult, why: String| {
        result.left.push((planned.source.name.clone(), why));
        Ok(Healing::of_none(repair, planned, result))
    };
    if planned.sink.key.is_empty() {
        let why = "its records have no key by which single ones could be found";
        return leave_all(result, why.to_owned());
    }
    let Some(file) = &found.mismatches_file else {
        return leave_all(result, "its differences are not listed one by one".to_owned());
    };
    let path = repair.results_folder.join(file);
    let listed = listed(&path)?;
    let intended = repair
        .intended
        .policy_of(&planned.source.name, &planned.sink.name);
    let copies_missing_only = keeps_stored(intended);
    let to_copy = listed.to_copy(copies_missing_only);
    let agreed = repair
        .agreed
        .map(|agreed| agreed.get(&planned.sink.name).copied().unwrap_or_default());
    if let Some(agreed) = agreed.filter(|agreed| to_copy > agreed.copied_count) {
        let copied_count = agreed.copied_count;
        let why = format!(
            "by now {to_copy} records are missing or differ, and {copied_count} were agreed to; repair again"
        );
        return leave_all(result, why);
    }
    if copies_missing_only && listed.other_count > 0 {
        let what = format!("records that differ: {}", listed.other_count);
        result.left.push((what, kept_by_policy(intended)));
    }
    let at_fault = AtFault::at(&path, &planned.sink)?;
    let care = Care {
        policy: written_by(intended, repair.sink_can),
        copies_missing_only,
        stays: why_extra_stays(repair, planned, found, listed.extra_count, intended, agreed),
        kept: repair.results_folder.join(KEPT_FOLDER).join(file),
    };
    Ok(Healing::of(repair, planned, result, at_fault, care))
}

/// What is left of a collection that the sink does not hold as it was planned.
fn left_for_schema(planned: &PlannedCollection, mismatch: &Mismatch) -> (String, String) {
    if mismatch.record.starts_with(NO_COLLECTION) {
        let why = "the sink lacks it as a whole: `whimbrel run` makes and fills it";
        return (mismatch.record.clone(), why.to_owned());
    }
    let mut why = mismatch.record.clone();
    if !mismatch.fields.is_empty() {
        why.push_str(&format!(": `{}`", mismatch.fields.join("`, `")));
    }
    (planned.source.name.clone(), why)
}

/// By which policy records are written. Fields that the application has beside the planned ones stay where the job merges; what has
/// come into the sink since it was compared stays where the job keeps what the sink has.
fn written_by(intended: ConflictPolicy, sink_can: &SinkCapabilities) -> ConflictPolicy {
    let careful = match intended {
        ConflictPolicy::Merge => ConflictPolicy::Merge,
        // Only what is missing is written.
        policy if keeps_stored(policy) => ConflictPolicy::Skip,
        _ => ConflictPolicy::Overwrite,
    };
    match sink_can.policies.contains(&careful) {
        true => careful,
        false => ConflictPolicy::Overwrite,
    }
}

fn kept_by_policy(policy: ConflictPolicy) -> String {
    format!(
        "the job keeps what the sink has (`on_conflict: {}`); with `overwrite` or `merge` a repair brings it in line with the source",
        policy_name(policy)
    )
}

/// Why what only the sink has is not removed from a collection, if it is not.
fn why_extra_stays(
    repair: &Repair<'_>,
    planned: &PlannedCollection,
    found: &VerificationResult,
    extra_count: u64,
    intended: ConflictPolicy,
    agreed: Option<Agreed>,
) -> Option<String> {
    if !repair.sink_can.remove {
        return Some("the sink removes no single records".to_owned());
    }
    if keeps_stored(intended) {
        return Some(kept_by_policy(intended));
    }
    if planned.source.hides_records {
        let why = "the source hides records from whoever reads it, and these may be among them";
        return Some(why.to_owned());
    }
    if let Some(agreed) = agreed.filter(|agreed| extra_count > agreed.removed_count) {
        let removed_count = agreed.removed_count;
        return Some(format!(
            "by now {extra_count} would be removed, and {removed_count} were agreed to; repair again"
        ));
    }
    if found.source_unreadable_count > 0 {
        return Some(format!(
            "the source has {} records that cannot be read or that a transform refuses, and these may be among them",
            found.source_unreadable_count
        ));
    }
    if repair.removes_most {
        return None;
    }
    if found.source_count == 0 {
        return Some("the source has no records; if that is right, `--remove-most` removes them".to_owned());
    }
    let is_most = extra_count > FEW_RECORDS && extra_count > found.sink_count / 2;
    is_most.then(|| {
        format!(
            "they are more than half of the {} records that the sink has; if that is right, `--remove-most` removes them",
            found.sink_count
        )
    })
}
