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
#[cfg(test)]
mod tests;

use std::path::Path;

use whimbrel_plugin_api::capability::{SinkCapabilities, SourceCapabilities};

use crate::config::Job;
use crate::control::Stop;
use crate::events::{Failure, MismatchKind, RepairResult, VerificationResult};
use crate::loader::observe::{OpenedSink, OpenedSource};
use crate::plan::PlannedCollection;
use crate::transform::Transforms;
use at_fault::AtFault;
use healing::Healing;

/// Records that could not be healed and are listed with the reason, for each collection.
const LEFT_SHOWN_MAX: usize = 50;
/// So often records are tried again that the sink has refused, while others could be healed: they may refer to these.
const ROUNDS_MAX: usize = 20;

/// So many records are removed also where they are most of a collection: it is a small one.
const FEW_RECORDS: u64 = 10;
/// The folder beside the lists of differences that keeps the records themselves.
const KEPT_FOLDER: &str = "records";

/// What a repair works with.
pub struct Repair<'a> {
    /// The job.
    pub job: &'a Job,
    /// This run.
    pub run_id: &'a str,
    /// The loaded transforms.
    pub transforms: &'a Transforms,
    /// Ends everything.
    pub stop: &'a Stop,
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
}

/// Heals the collections that differ by `results`: parents before children are copied, children before parents removed. `sink` is
/// prepared.
///
/// # Errors
/// What either side brings that is not about a single record; what was healed until then stays so.
pub fn run(
    repair: &Repair<'_>,
    collections: &[PlannedCollection],
    results: &[VerificationResult],
    source: &mut OpenedSource,
    sink: &mut OpenedSink,
) -> Result<Vec<RepairResult>, Failure> {
    let mut all = Vec::new();
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
    for healing in &mut all {
        healing.keep(sink)?;
    }
    if repair.stop.is_raised() {
        return Ok(all.into_iter().map(Healing::end).collect());
    }
    for round in 0..ROUNDS_MAX {
        let healed = |all: &[Healing<'_>]| -> u64 { all.iter().map(Healing::healed).sum() };
        let before = healed(&all);
        for healing in all.iter_mut().filter(|healing| round == 0 || healing.has_left()) {
            healing.copy(source, sink)?;
        }
        for healing in all.iter_mut().rev() {
            healing.remove(source, sink)?;
        }
        let is_done = !all.iter().any(Healing::has_left) || healed(&all) == before;
        if is_done || repair.stop.is_raised() {
            break;
        }
    }
    Ok(all.into_iter().map(Healing::end).collect())
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
    let mut leave = |what: &str, why: &str| result.left.push((what.to_owned(), why.to_owned()));
    let is_schema = |kind: MismatchKind| kind == MismatchKind::Schema;
    if let Some(schema) = found.mismatches.iter().find(|one| is_schema(one.kind)) {
        leave(
            &schema.record,
            "the sink lacks it as a whole: `whimbrel run` makes and fills it",
        );
        return Ok(Healing::of_none(repair, planned, result));
    }
    if planned.sink.key.is_empty() {
        leave(
            &planned.source.name,
            "its records have no key by which single ones could be found",
        );
        return Ok(Healing::of_none(repair, planned, result));
    }
    let Some(file) = &found.mismatches_file else {
        leave(&planned.source.name, "its differences are not listed one by one");
        return Ok(Healing::of_none(repair, planned, result));
    };
    let mut at_fault = AtFault::at(&repair.results_folder.join(file), &planned.sink)?;
    let extra_count = at_fault.count(MismatchKind::Extra)?;
    let stays = why_extra_stays(repair, found, extra_count);
    let kept = repair.results_folder.join(KEPT_FOLDER).join(file);
    Ok(Healing::of(repair, planned, result, at_fault, stays, kept))
}

/// Why what only the sink has is not removed from a collection, if it is not.
fn why_extra_stays(repair: &Repair<'_>, found: &VerificationResult, extra_count: u64) -> Option<String> {
    if !repair.sink_can.remove {
        return Some("the sink removes no single records".to_owned());
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
