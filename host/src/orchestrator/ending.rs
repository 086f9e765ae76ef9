//! How tasks end before their time, and what their summaries list. No phase is run here.
//! Neighbours: `run` and `look`, whose straight lines end in one of these.

use std::sync::atomic::Ordering;

use super::context::TaskContext;
use crate::control::Cause;
use crate::events::{CollectionResult, Event, Failure, FoundBy, Outcome, RunSummary, SnapshotsRead};
use crate::phases::post_migration;
use crate::pipeline::{Counters, Outcomes};
use crate::plan::PlannedCollection;
use crate::report::several_snapshots;

/// What a phase answers if the task ends there.
pub(super) type Ended = Box<Outcome>;

pub(super) fn with_memory(mut outcome: Outcome) -> Outcome {
    let peak = post_migration::memory_peak_bytes();
    match &mut outcome {
        Outcome::Done { summary }
        | Outcome::Differences { summary }
        | Outcome::Unverified { summary, .. }
        | Outcome::Refused { summary, .. }
        | Outcome::Failed { summary, .. }
        | Outcome::Cancelled { summary } => summary.memory_peak_bytes = peak,
    }
    outcome
}

pub(super) fn failed(context: &mut TaskContext, failure: Failure) -> Ended {
    let summary = std::mem::take(&mut context.summary);
    Box::new(match context.stop.cause() {
        Some(Cause::Asked) => Outcome::Cancelled { summary },
        Some(Cause::Failed(_)) | None => Outcome::Failed { summary, failure },
    })
}

pub(super) fn unverified(context: &mut TaskContext, failure: Failure) -> Ended {
    let summary = std::mem::take(&mut context.summary);
    Box::new(match context.stop.cause() {
        Some(Cause::Asked) => Outcome::Cancelled { summary },
        Some(Cause::Failed(_)) | None => Outcome::Unverified { summary, failure },
    })
}

pub(super) fn list_planned(summary: &mut RunSummary, collections: &[PlannedCollection]) {
    summary.collections = collections
        .iter()
        .map(|planned| CollectionResult {
            source: planned.source.name.clone(),
            sink: planned.sink.name.clone(),
            key: planned.sink.key.clone(),
            estimate: planned.expected_count(),
            estimate_bytes: planned.source.estimate.size_bytes,
            losses: planned.sink.losses.clone(),
            ..CollectionResult::default()
        })
        .collect();
}

/// Says of the collections that were listed, and are copied, which of them are of no single moment of the source.
pub(super) fn say_snapshots(context: &mut TaskContext) {
    if let Some(finding) = several_snapshots(&context.summary) {
        context.emitter.emit(&Event::Found {
            role: None,
            finding: finding.clone(),
        });
        context.summary.findings.push(FoundBy { role: None, finding });
    }
}

pub(super) fn list_copied(
    summary: &mut RunSummary,
    collections: &[PlannedCollection],
    counters: &Counters,
    outcomes: &Outcomes,
) {
    list_planned(summary, collections);
    for (index, result) in summary.collections.iter_mut().enumerate() {
        let counted = counters.of(index);
        result.read_count = counted.read.load(Ordering::Relaxed);
        result.transformed_count = counted.transformed.load(Ordering::Relaxed);
        result.filtered_count = counted.filtered.load(Ordering::Relaxed);
        result.skipped_count = counted.skipped.load(Ordering::Relaxed);
        result.rejected_count = counted.rejected.load(Ordering::Relaxed);
        result.read_bytes = counted.bytes.load(Ordering::Relaxed);
        result.snapshots = counted.snapshots();
        if !counters.is_staging() {
            result.written_count = counted.written.load(Ordering::Relaxed);
            result.complete = counted.is_complete();
        }
    }
    let mut all = SnapshotsRead::default();
    summary
        .collections
        .iter()
        .for_each(|result| all.merge(&result.snapshots));
    if !all.are_several() {
        // That everything is of one moment is what is expected.
        summary
            .collections
            .iter_mut()
            .for_each(|result| result.snapshots = SnapshotsRead::default());
    }
    (summary.rejected_count, summary.rejected) = outcomes.rejected();
    summary.first_commit_ms = counters.first_commit_ms();
}
