//! How tasks end before their time, and what their summaries list. No phase is run here.
//! Neighbours: `run` and `look`, whose straight lines end in one of these.

use std::sync::atomic::Ordering;

use super::context::TaskContext;
use crate::control::Cause;
use crate::events::{CollectionResult, Failure, Outcome, RunSummary};
use crate::phases::{post_migration, pre_validation};
use crate::pipeline::{Counters, Outcomes};
use crate::plan::PlannedCollection;

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
            estimate: pre_validation::expected(planned),
            estimate_bytes: planned.source.estimate.size_bytes,
            losses: planned.sink.losses.clone(),
            ..CollectionResult::default()
        })
        .collect();
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
        if !counters.is_staging() {
            result.written_count = counted.written.load(Ordering::Relaxed);
            result.complete = counted.is_complete();
        }
    }
    (summary.rejected_count, summary.rejected) = outcomes.rejected();
    summary.first_commit_ms = counters.first_commit_ms();
}
