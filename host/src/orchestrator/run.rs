//! The three tasks: run, check, verify. Straight lines over the phases; each failure ends in one outcome.
//! What comes after what is decided here and nowhere else.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::context::TaskContext;
use crate::config::VerificationLevel;
use crate::control::Cause;
use crate::events::{CollectionResult, Failure, Outcome, Phase, PhaseOutcome, RunSummary};
use crate::loader::observe::{OpenedSink, OpenedSource};
use crate::phases::copying::{Sides, Watch};
use crate::phases::pre_validation::Validated;
use crate::phases::{copying, post_migration, pre_validation, verification};
use crate::pipeline::Counters;
use crate::pipeline::writer::WriterContext;
use crate::plan::PlannedCollection;

/// What a phase answers if the task ends there.
type Ended = Box<Outcome>;

/// Runs the job: validates, copies, verifies.
pub fn run(mut context: TaskContext) -> Outcome {
    match run_phases(&mut context) {
        Ok(outcome) | Err(outcome) => with_memory(*outcome),
    }
}

/// Only looks: both plugins, both systems, the plan.
pub fn check(mut context: TaskContext) -> Outcome {
    let outcome = match validate(&mut context) {
        Ok((_, validated)) => {
            list_planned(&mut context.summary, &validated.collections);
            Outcome::Done {
                summary: context.summary,
            }
        }
        Err(outcome) => *outcome,
    };
    with_memory(outcome)
}

/// Only compares, at the job's level or `standard` if the job says `none`.
pub fn verify(mut context: TaskContext) -> Outcome {
    if context.job.verification == VerificationLevel::None {
        context.job.verification = VerificationLevel::Standard;
    }
    let attempt = validate_for_verification(&mut context).and_then(|(mut source, collections)| {
        list_planned(&mut context.summary, &collections);
        verify_phase(&mut context, &mut source, &collections)
    });
    match attempt {
        Ok(outcome) | Err(outcome) => with_memory(*outcome),
    }
}

fn with_memory(mut outcome: Outcome) -> Outcome {
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

fn run_phases(context: &mut TaskContext) -> Result<Ended, Ended> {
    let (mut source, validated) = validate(context)?;
    let collections = validated.collections;
    copy_phase(context, &mut source, validated.sink, &collections)?;
    let outcome = if context.job.verification == VerificationLevel::None {
        context.end(Phase::Verification, PhaseOutcome::Skipped, 0.0, 0);
        Box::new(Outcome::Done {
            summary: RunSummary::default(),
        })
    } else {
        verify_phase(context, &mut source, &collections)?
    };
    context.end(Phase::PostMigration, PhaseOutcome::Done, 0.0, 0);
    // The phases that came since are part of the summary in either case.
    Ok(Box::new(match *outcome {
        Outcome::Differences { .. } => Outcome::Differences {
            summary: std::mem::take(&mut context.summary),
        },
        _ => Outcome::Done {
            summary: std::mem::take(&mut context.summary),
        },
    }))
}

fn failed(context: &mut TaskContext, failure: Failure) -> Ended {
    let summary = std::mem::take(&mut context.summary);
    Box::new(match context.stop.cause() {
        Some(Cause::Asked) => Outcome::Cancelled { summary },
        Some(Cause::Failed(_)) | None => Outcome::Failed { summary, failure },
    })
}

/// What validation hands on: the facts, and the session that it opened.
struct Ready {
    collections: Vec<PlannedCollection>,
    sink: OpenedSink,
}

/// Opens both sides and finds out what can be found without writing.
fn look(context: &TaskContext) -> Result<(OpenedSource, OpenedSink, Validated), Failure> {
    let mut source = context.plugins.source.open_source(&context.job.source.config)?;
    let mut sink = context.plugins.sink.open_sink(&context.job.sink.config)?;
    let capabilities = &context.plugins.sink_capabilities;
    let validated = pre_validation::run(
        &context.job,
        &mut source,
        &mut sink,
        capabilities,
        &context.emitter,
    )?;
    Ok((source, sink, validated))
}

fn validate(context: &mut TaskContext) -> Result<(OpenedSource, Ready), Ended> {
    let clock = context.begin(Phase::PreValidation);
    let attempt = look(context);
    let seconds = clock.elapsed().as_secs_f64();
    match attempt {
        Err(failure) => {
            context.end(Phase::PreValidation, PhaseOutcome::Failed, seconds, 0);
            Err(failed(context, failure.in_phase(Phase::PreValidation)))
        }
        Ok((
            source,
            sink,
            Validated {
                collections,
                ddl,
                blockers,
            },
        )) => {
            context.summary.ddl = ddl;
            if blockers.is_empty() {
                context.end(Phase::PreValidation, PhaseOutcome::Done, seconds, 0);
                return Ok((source, Ready { collections, sink }));
            }
            context.end(Phase::PreValidation, PhaseOutcome::Failed, seconds, 0);
            Err(Box::new(Outcome::Refused {
                summary: std::mem::take(&mut context.summary),
                failures: blockers,
            }))
        }
    }
}

/// As [`validate`], but what stands in the way of writing does not matter.
fn validate_for_verification(
    context: &mut TaskContext,
) -> Result<(OpenedSource, Vec<PlannedCollection>), Ended> {
    let clock = context.begin(Phase::PreValidation);
    let attempt = look(context);
    let seconds = clock.elapsed().as_secs_f64();
    match attempt {
        Err(failure) => {
            context.end(Phase::PreValidation, PhaseOutcome::Failed, seconds, 0);
            Err(unverified(context, failure.in_phase(Phase::PreValidation)))
        }
        Ok((_, _, validated)) if validated.collections.is_empty() => {
            context.end(Phase::PreValidation, PhaseOutcome::Failed, seconds, 0);
            Err(Box::new(Outcome::Refused {
                summary: std::mem::take(&mut context.summary),
                failures: validated.blockers,
            }))
        }
        Ok((source, _, validated)) => {
            context.end(Phase::PreValidation, PhaseOutcome::Done, seconds, 0);
            Ok((source, validated.collections))
        }
    }
}

fn copy_phase(
    context: &mut TaskContext,
    source: &mut OpenedSource,
    sink: OpenedSink,
    collections: &[PlannedCollection],
) -> Result<(), Ended> {
    for phase in [Phase::Extraction, Phase::Transformation] {
        context.begin(phase);
    }
    let clock = context.begin(Phase::Import);
    let names = collections
        .iter()
        .map(|planned| planned.source.name.clone())
        .collect();
    let counters = Counters::new(names, context.started);
    let writers = WriterContext {
        counters: Arc::clone(&counters),
        emitter: context.emitter.clone(),
        stop: context.stop.clone(),
        errors_max: context.job.import.max_errors,
        rejected_total: Arc::new(AtomicU64::new(0)),
        rejected_first: Arc::new(Mutex::new(Vec::new())),
    };
    let watch = Watch {
        emitter: &context.emitter,
        counters: &counters,
        stop: &context.stop,
        writers: &writers,
    };
    let sides = Sides {
        source,
        source_capabilities: &context.plugins.source_capabilities,
        sink,
        sink_capabilities: &context.plugins.sink_capabilities,
        sink_opener: &context.plugins.sink,
    };
    let copied = copying::run(&context.job, collections, sides, &watch);
    let seconds = clock.elapsed().as_secs_f64();
    list_copied(&mut context.summary, collections, &counters);
    context.summary.rejected_count = writers.rejected_total.load(Ordering::SeqCst);
    context.summary.rejected = std::mem::take(
        &mut *writers
            .rejected_first
            .lock()
            .unwrap_or_else(PoisonError::into_inner),
    );
    context.summary.first_commit_ms = counters.first_commit_ms();
    let outcome = if copied.is_ok() {
        PhaseOutcome::Done
    } else {
        PhaseOutcome::Failed
    };
    let moved = if copied.is_ok() {
        PhaseOutcome::Skipped
    } else {
        PhaseOutcome::Failed
    };
    context.end(Phase::Extraction, outcome, seconds, counters.read_total());
    context.end(Phase::Transformation, moved, 0.0, 0);
    context.end(Phase::Import, outcome, seconds, counters.written_total());
    match copied {
        Err(failure) => Err(failed(context, failure)),
        Ok(()) if context.stop.is_raised() => Err(Box::new(Outcome::Cancelled {
            summary: std::mem::take(&mut context.summary),
        })),
        Ok(()) => Ok(()),
    }
}

fn verify_phase(
    context: &mut TaskContext,
    source: &mut OpenedSource,
    collections: &[PlannedCollection],
) -> Result<Ended, Ended> {
    let clock = context.begin(Phase::Verification);
    let attempt = context
        .plugins
        .sink
        .open_sink(&context.job.sink.config)
        .and_then(|mut sink| {
            verification::run(
                collections,
                source,
                &mut sink,
                context.job.verification,
                &context.emitter,
                &context.stop,
            )
        });
    let seconds = clock.elapsed().as_secs_f64();
    match attempt {
        Err(failure) => {
            context.end(Phase::Verification, PhaseOutcome::Failed, seconds, 0);
            Err(unverified(context, failure.in_phase(Phase::Verification)))
        }
        Ok(results) => {
            let compared = results.iter().map(|result| result.compared_count).sum();
            let equal = verification::all_equal(&results);
            context.summary.verification = results;
            let outcome = if equal {
                PhaseOutcome::Done
            } else {
                PhaseOutcome::Failed
            };
            context.end(Phase::Verification, outcome, seconds, compared);
            let summary = context.summary.clone();
            Ok(Box::new(if equal {
                Outcome::Done { summary }
            } else {
                Outcome::Differences { summary }
            }))
        }
    }
}

fn unverified(context: &mut TaskContext, failure: Failure) -> Ended {
    let summary = std::mem::take(&mut context.summary);
    Box::new(match context.stop.cause() {
        Some(Cause::Asked) => Outcome::Cancelled { summary },
        Some(Cause::Failed(_)) | None => Outcome::Unverified { summary, failure },
    })
}

fn list_planned(summary: &mut RunSummary, collections: &[PlannedCollection]) {
    summary.collections = collections
        .iter()
        .map(|planned| CollectionResult {
            source: planned.source.name.clone(),
            sink: planned.sink.name.clone(),
            key: planned.sink.key.clone(),
            estimate: planned.source.estimate.record_count,
            losses: planned.sink.losses.clone(),
            ..CollectionResult::default()
        })
        .collect();
}

fn list_copied(summary: &mut RunSummary, collections: &[PlannedCollection], counters: &Counters) {
    list_planned(summary, collections);
    for (index, result) in summary.collections.iter_mut().enumerate() {
        let counted = counters.of(index);
        result.read_count = counted.read.load(Ordering::Relaxed);
        result.written_count = counted.written.load(Ordering::Relaxed);
        result.skipped_count = counted.skipped.load(Ordering::Relaxed);
        result.rejected_count = counted.rejected.load(Ordering::Relaxed);
        result.read_bytes = counted.bytes.load(Ordering::Relaxed);
        result.complete = counted.is_complete();
    }
}
