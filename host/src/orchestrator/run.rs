//! A run: validates, copies, verifies, tidies up. A straight line over the phases; each failure ends in one outcome.
//! What comes after what is decided here and nowhere else. Neighbour: `look` has the tasks that copy nothing.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use whimbrel_plugin_api::Error;
use whimbrel_plugin_api::capability::Loss;
use whimbrel_plugin_api::collection::FieldLoss;

use super::context::TaskContext;
use crate::config::{Staging, VerificationLevel};
use crate::control::Cause;
use crate::events::{CollectionResult, Failure, Outcome, Phase, PhaseOutcome, RunSummary, StagedFacts};
use crate::loader::observe::{OpenedSink, OpenedSource};
use crate::phases::copying::{From, Into, Scene};
use crate::phases::pre_validation::{Look, Validated};
use crate::phases::staged::{self, Stages};
use crate::phases::{copying, post_migration, pre_validation, verification};
use crate::pipeline::staging::StageManifest;
use crate::pipeline::{Counters, Outcomes};
use crate::plan::{PlannedCollection, made_from};

/// What a phase answers if the task ends there.
pub(super) type Ended = Box<Outcome>;

/// Runs the job.
pub fn run(mut context: TaskContext) -> Outcome {
    match run_phases(&mut context) {
        Ok(outcome) | Err(outcome) => with_memory(*outcome),
    }
}

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

fn run_phases(context: &mut TaskContext) -> Result<Ended, Ended> {
    if context.skips(Phase::Transformation) {
        context.job.transforms.clear();
        for rule in context.job.collections.iter_mut().flatten() {
            rule.transforms.clear();
        }
    }
    let staged = reusable_stage(context)?;
    let Ready {
        mut source,
        sink,
        mut collections,
    } = validate(context, staged.as_ref())?;
    wait_for_gate(context)?;
    let outcomes = Arc::new(Outcomes::new(context.job.import.max_errors));
    let mut verified_from = copy_phases(context, &mut source, sink, &collections, staged, &outcomes)?;
    follow_growth(&mut collections, &outcomes);
    for (result, planned) in context.summary.collections.iter_mut().zip(&collections) {
        result.losses.clone_from(&planned.sink.losses);
    }
    let outcome = if skips_verification(context) {
        context.end(Phase::Verification, PhaseOutcome::Skipped, 0.0, 0);
        Box::new(Outcome::Done {
            summary: RunSummary::default(),
        })
    } else {
        let from = verified_from.as_mut().unwrap_or(&mut source);
        verify_phase(context, from, &collections)?
    };
    let differs = matches!(*outcome, Outcome::Differences { .. });
    tidy_up(context, differs);
    // The phases that came since are part of the summary in either case.
    let summary = std::mem::take(&mut context.summary);
    Ok(Box::new(if differs {
        Outcome::Differences { summary }
    } else {
        Outcome::Done { summary }
    }))
}

fn skips_verification(context: &TaskContext) -> bool {
    context.options.dry_run
        || context.skips(Phase::Verification)
        || context.job.verification == VerificationLevel::None
}

/// Between looking and writing somebody may have to do something first.
fn wait_for_gate(context: &mut TaskContext) -> Result<(), Ended> {
    let Some(gate) = context.gate.take() else {
        return Ok(());
    };
    // A gate that closes without opening means that the task is to end.
    if gate.recv().is_ok() {
        return Ok(());
    }
    context.stop.ask();
    Err(failed(context, Error::cancelled().into()))
}

/// Removes what only a failed run would need.
fn tidy_up(context: &mut TaskContext, differs: bool) {
    if context.skips(Phase::PostMigration) {
        context.end(Phase::PostMigration, PhaseOutcome::Skipped, 0.0, 0);
        return;
    }
    let clock = context.begin(Phase::PostMigration);
    let mut outcome = PhaseOutcome::Done;
    let keeps = differs || context.options.dry_run || context.skips(Phase::Import);
    if context.job.staging == Staging::Disk
        && !keeps
        && let Err(error) = Stages::of(&context.options.staging_folder).remove()
    {
        context.emitter.emit(&crate::events::Event::Log {
            plugin: "staging".to_owned(),
            level: "warn".to_owned(),
            message: format!("staged records could not be removed: {error}"),
        });
        outcome = PhaseOutcome::Failed;
    }
    context.end(Phase::PostMigration, outcome, clock.elapsed().as_secs_f64(), 0);
}

pub(super) fn failed(context: &mut TaskContext, failure: Failure) -> Ended {
    let summary = std::mem::take(&mut context.summary);
    Box::new(match context.stop.cause() {
        Some(Cause::Asked) => Outcome::Cancelled { summary },
        Some(Cause::Failed(_)) | None => Outcome::Failed { summary, failure },
    })
}

fn unverified(context: &mut TaskContext, failure: Failure) -> Ended {
    let summary = std::mem::take(&mut context.summary);
    Box::new(match context.stop.cause() {
        Some(Cause::Asked) => Outcome::Cancelled { summary },
        Some(Cause::Failed(_)) | None => Outcome::Unverified { summary, failure },
    })
}

// ---------------------------------------------------------------- looking

/// What validation hands on: both sides, opened, and the plan.
pub(super) struct Ready {
    pub(super) source: OpenedSource,
    pub(super) sink: OpenedSink,
    pub(super) collections: Vec<PlannedCollection>,
}

/// A stage that an earlier run of the job has left and that holds what this one would read.
fn reusable_stage(context: &mut TaskContext) -> Result<Option<Arc<StageManifest>>, Ended> {
    let found = if context.job.staging == Staging::Disk {
        let folder = Stages::of(&context.options.staging_folder).extracted;
        let wanted = made_from(&context.job, &context.plugins.source_version);
        StageManifest::read(&folder)
            .filter(|manifest| manifest.made_from == wanted && !context.options.reads_anew)
    } else {
        None
    };
    if found.is_none() && context.skips(Phase::Extraction) && !context.skips(Phase::Import) {
        let error = Error::config(
            "run.nothing_staged",
            "extraction is skipped, and no earlier run has left what it would have read",
        )
        .with_help("run once with `--staging disk` and without `--skip-phases extraction`");
        return Err(Box::new(Outcome::Refused {
            summary: std::mem::take(&mut context.summary),
            failures: vec![error.into()],
        }));
    }
    Ok(found.map(Arc::new))
}

/// Opens both sides and finds out what can be found without writing.
fn look(
    context: &TaskContext,
    staged: Option<&Arc<StageManifest>>,
) -> Result<(OpenedSource, OpenedSink, Validated), Failure> {
    let mut source = match staged {
        // The source itself is not even opened: reading it may cost money.
        Some(manifest) => staged::open(
            &Stages::of(&context.options.staging_folder).extracted,
            manifest,
            &context.calls,
        ),
        None => context.plugins.source.open_source(&context.job.source.config)?,
    };
    let mut sink = context.plugins.sink.open_sink(&context.job.sink.config)?;
    let look = Look {
        job: &context.job,
        sink_capabilities: &context.plugins.sink_capabilities,
        transforms: &context.plugins.transforms,
        emitter: &context.emitter,
        checks: !context.skips(Phase::PreValidation),
        staging_folder: &context.options.staging_folder,
    };
    let validated = pre_validation::run(&look, &mut source, &mut sink)?;
    Ok((source, sink, validated))
}

pub(super) fn validate(
    context: &mut TaskContext,
    staged: Option<&Arc<StageManifest>>,
) -> Result<Ready, Ended> {
    let clock = context.begin(Phase::PreValidation);
    let attempt = look(context, staged);
    let seconds = clock.elapsed().as_secs_f64();
    match attempt {
        Err(failure) => {
            context.end(Phase::PreValidation, PhaseOutcome::Failed, seconds, 0);
            Err(failed(context, failure.in_phase(Phase::PreValidation)))
        }
        Ok((source, sink, validated)) => {
            context.summary.ddl = validated.ddl;
            context.summary.findings = validated.findings;
            if validated.blockers.is_empty() {
                context.end(Phase::PreValidation, PhaseOutcome::Done, seconds, 0);
                return Ok(Ready {
                    source,
                    sink,
                    collections: validated.collections,
                });
            }
            list_planned(&mut context.summary, &validated.collections);
            context.end(Phase::PreValidation, PhaseOutcome::Failed, seconds, 0);
            Err(Box::new(Outcome::Refused {
                summary: std::mem::take(&mut context.summary),
                failures: validated.blockers,
            }))
        }
    }
}

/// As [`validate`], but what stands in the way of writing does not matter.
pub(super) fn validate_for_verification(
    context: &mut TaskContext,
) -> Result<(OpenedSource, Vec<PlannedCollection>), Ended> {
    let clock = context.begin(Phase::PreValidation);
    let attempt = look(context, None);
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

// ---------------------------------------------------------------- copying

/// Extraction, transformation and import. Answers the staged records, if verification is to compare with these.
fn copy_phases(
    context: &mut TaskContext,
    source: &mut OpenedSource,
    sink: OpenedSink,
    collections: &[PlannedCollection],
    staged: Option<Arc<StageManifest>>,
    outcomes: &Arc<Outcomes>,
) -> Result<Option<OpenedSource>, Ended> {
    if context.skips(Phase::Extraction) && context.skips(Phase::Import) {
        for phase in [Phase::Extraction, Phase::Transformation, Phase::Import] {
            context.end(phase, PhaseOutcome::Skipped, 0.0, 0);
        }
        list_planned(&mut context.summary, collections);
        return Ok(None);
    }
    if context.job.staging == Staging::Disk && !context.options.dry_run {
        staged_copy(context, source, sink, collections, staged, outcomes)
    } else {
        overlapped_copy(context, source, sink, collections, outcomes).map(|()| None)
    }
}

/// Takes fields that turned up on the way into the plan, so that they are compared as well. Records that were written
/// before such a field had a place are null in it, not absent.
fn follow_growth(collections: &mut [PlannedCollection], outcomes: &Outcomes) {
    for (index, grown) in outcomes.grown() {
        let Some(planned) = collections.get_mut(index) else {
            continue;
        };
        for field in &grown.schema.fields {
            let loss = FieldLoss {
                field: field.name.clone(),
                loss: Loss::AbsentToNull,
            };
            if planned.sink.schema.index_of(&field.name).is_none() && !planned.sink.losses.contains(&loss) {
                planned.sink.losses.push(loss);
            }
        }
        planned.sink.schema = grown.schema;
        for loss in grown.losses {
            if !planned.sink.losses.contains(&loss) {
                planned.sink.losses.push(loss);
            }
        }
    }
}

fn scene<'a>(context: &'a TaskContext, outcomes: &'a Arc<Outcomes>) -> Scene<'a> {
    Scene {
        job: &context.job,
        emitter: &context.emitter,
        stop: &context.stop,
        outcomes,
        transforms: &context.plugins.transforms,
        budget: &context.budget,
        calls: &context.calls,
    }
}

fn counters(context: &TaskContext, collections: &[PlannedCollection], is_staging: bool) -> Arc<Counters> {
    let names = collections
        .iter()
        .map(|planned| planned.source.name.clone())
        .collect();
    if is_staging {
        Counters::staging(names, context.started)
    } else {
        Counters::new(names, context.started)
    }
}

fn overlapped_copy(
    context: &mut TaskContext,
    source: &mut OpenedSource,
    sink: OpenedSink,
    collections: &[PlannedCollection],
    outcomes: &Arc<Outcomes>,
) -> Result<(), Ended> {
    let transforms = collections.iter().any(|planned| !planned.transforms.is_empty());
    let writes = !context.options.dry_run && !context.skips(Phase::Import);
    let clock = context.begin(Phase::Extraction);
    if transforms {
        context.begin(Phase::Transformation);
    }
    if writes {
        context.begin(Phase::Import);
    }
    let counters = counters(context, collections, !writes);
    let scene = scene(context, outcomes);
    let from = From {
        source,
        capabilities: &context.plugins.source_capabilities,
    };
    let copied = if writes {
        let into = Into {
            sink,
            capabilities: &context.plugins.sink_capabilities,
            opener: &context.plugins.sink,
        };
        copying::into_sink(&scene, collections, from, into, &counters)
    } else {
        copying::into_nothing(&scene, collections, from, &counters)
    };
    let copied = copied.and_then(|()| outcomes.failure().map_or(Ok(()), Err));
    let seconds = clock.elapsed().as_secs_f64();
    list_copied(&mut context.summary, collections, &counters, outcomes);
    let ended = |ran: bool| match (&copied, ran) {
        (_, false) => PhaseOutcome::Skipped,
        (Ok(()), true) => PhaseOutcome::Done,
        (Err(_), true) => PhaseOutcome::Failed,
    };
    let (extraction, transformation, import) = (ended(true), ended(transforms), ended(writes));
    context.end(Phase::Extraction, extraction, seconds, counters.read_total());
    context.end(
        Phase::Transformation,
        transformation,
        counters.transform_seconds(),
        counters.transformed_total(),
    );
    let (import_seconds, written) = if writes {
        (seconds, counters.written_total())
    } else {
        (0.0, 0)
    };
    context.end(Phase::Import, import, import_seconds, written);
    end_of_copy(context, copied)
}

fn end_of_copy(context: &mut TaskContext, copied: Result<(), Failure>) -> Result<(), Ended> {
    match copied {
        Err(failure) => Err(failed(context, failure)),
        Ok(()) if context.stop.is_raised() => Err(Box::new(Outcome::Cancelled {
            summary: std::mem::take(&mut context.summary),
        })),
        Ok(()) => Ok(()),
    }
}

/// The three phases one after the other, over files.
fn staged_copy(
    context: &mut TaskContext,
    source: &mut OpenedSource,
    sink: OpenedSink,
    collections: &[PlannedCollection],
    staged: Option<Arc<StageManifest>>,
    outcomes: &Arc<Outcomes>,
) -> Result<Option<OpenedSource>, Ended> {
    let stages = Stages::of(&context.options.staging_folder);
    let reused = staged.is_some();
    let read = counters(context, collections, true);
    let manifest = match staged {
        Some(manifest) => {
            for (index, staged) in manifest.collections.iter().enumerate() {
                let count = staged
                    .partitions
                    .iter()
                    .map(|partition| partition.record_count)
                    .sum();
                if index < collections.len() {
                    read.of(index).read.store(count, Ordering::Relaxed);
                }
            }
            outcomes.restore(manifest.rejected_count, &manifest.rejected);
            context.end(
                Phase::Extraction,
                PhaseOutcome::Skipped,
                0.0,
                manifest.record_count(),
            );
            manifest
        }
        None => Arc::new(extract(context, source, collections, &stages, &read, outcomes)?),
    };
    context.summary.staged = Some(StagedFacts {
        run_id: manifest.run_id.clone(),
        at: manifest.at.clone(),
        record_count: manifest.record_count(),
        reused,
    });
    let open = |context: &TaskContext| staged::open(&stages.extracted, &manifest, &context.calls);
    let changed = transform(context, collections, open(context), &stages, outcomes)?;
    let transformed = changed.as_ref().map(|(_, counters)| Arc::clone(counters));
    let mut stage = match &changed {
        Some((manifest, _)) => staged::open(&stages.transformed, manifest, &context.calls),
        None => open(context),
    };
    if context.skips(Phase::Import) {
        list_copied(&mut context.summary, collections, &read, outcomes);
        context.end(Phase::Import, PhaseOutcome::Skipped, 0.0, 0);
        return Ok(Some(open(context)));
    }
    let clock = context.begin(Phase::Import);
    let written = counters(context, collections, false);
    let planned = if changed.is_some() {
        staged::after_transformation(collections)
    } else {
        unlimited(collections)
    };
    let into = Into {
        sink,
        capabilities: &context.plugins.sink_capabilities,
        opener: &context.plugins.sink,
    };
    let from = From {
        source: &mut stage,
        capabilities: &staged::capabilities(),
    };
    let copied = copying::into_sink(&scene(context, outcomes), &planned, from, into, &written)
        .and_then(|()| outcomes.failure().map_or(Ok(()), Err));
    written.follow(&read, transformed.as_deref());
    list_copied(&mut context.summary, collections, &written, outcomes);
    let outcome = outcome_of(&copied);
    context.end(
        Phase::Import,
        outcome,
        clock.elapsed().as_secs_f64(),
        written.written_total(),
    );
    end_of_copy(context, copied)?;
    Ok(Some(open(context)))
}

/// What is staged has been cut to the sample already.
fn unlimited(collections: &[PlannedCollection]) -> Vec<PlannedCollection> {
    collections
        .iter()
        .map(|planned| PlannedCollection {
            limit: None,
            ..planned.clone()
        })
        .collect()
}

fn outcome_of<T>(attempt: &Result<T, Failure>) -> PhaseOutcome {
    if attempt.is_ok() {
        PhaseOutcome::Done
    } else {
        PhaseOutcome::Failed
    }
}

fn extract(
    context: &mut TaskContext,
    source: &mut OpenedSource,
    collections: &[PlannedCollection],
    stages: &Stages,
    read: &Arc<Counters>,
    outcomes: &Arc<Outcomes>,
) -> Result<StageManifest, Ended> {
    let clock = context.begin(Phase::Extraction);
    let manifest = StageManifest {
        made_from: made_from(&context.job, &context.plugins.source_version),
        run_id: context.options.run_id.clone(),
        ..StageManifest::default()
    };
    let from = From {
        source,
        capabilities: &context.plugins.source_capabilities,
    };
    let scene = scene(context, outcomes);
    let attempt = staged::extract(&scene, collections, from, &stages.extracted, manifest, read);
    list_copied(&mut context.summary, collections, read, outcomes);
    let outcome = outcome_of(&attempt);
    context.end(
        Phase::Extraction,
        outcome,
        clock.elapsed().as_secs_f64(),
        read.read_total(),
    );
    settled(context, attempt)
}

type Changed = (Arc<StageManifest>, Arc<Counters>);

fn transform(
    context: &mut TaskContext,
    collections: &[PlannedCollection],
    stage: OpenedSource,
    stages: &Stages,
    outcomes: &Arc<Outcomes>,
) -> Result<Option<Changed>, Ended> {
    if collections.iter().all(|planned| planned.transforms.is_empty()) {
        context.end(Phase::Transformation, PhaseOutcome::Skipped, 0.0, 0);
        return Ok(None);
    }
    let clock = context.begin(Phase::Transformation);
    let changed = counters(context, collections, true);
    let scene = scene(context, outcomes);
    let attempt = staged::transform(&scene, collections, stage, &stages.transformed, &changed);
    let outcome = outcome_of(&attempt);
    context.end(
        Phase::Transformation,
        outcome,
        clock.elapsed().as_secs_f64(),
        changed.transformed_total(),
    );
    let manifest = settled(context, attempt)?;
    Ok(Some((Arc::new(manifest), changed)))
}

/// A stage that is not there was interrupted by somebody's wish.
fn settled(
    context: &mut TaskContext,
    attempt: Result<Option<StageManifest>, Failure>,
) -> Result<StageManifest, Ended> {
    match attempt {
        Ok(Some(manifest)) => Ok(manifest),
        Ok(None) => Err(Box::new(Outcome::Cancelled {
            summary: std::mem::take(&mut context.summary),
        })),
        Err(failure) => Err(failed(context, failure)),
    }
}

// ---------------------------------------------------------------- comparing

pub(super) fn verify_phase(
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
                &context.plugins.transforms,
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

// ---------------------------------------------------------------- summing up

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

fn list_copied(
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
