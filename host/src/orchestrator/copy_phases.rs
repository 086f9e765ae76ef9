//! Extraction, transformation and import: overlapped in memory, or one after the other over staged files.
//! Each of the three is announced with its outcome, its time and its records, whatever becomes of it.

use std::sync::Arc;

use whimbrel_plugin_api::capability::Loss;
use whimbrel_plugin_api::collection::FieldLoss;

use super::context::TaskContext;
use super::ending::{Ended, failed, list_copied, list_planned, say_snapshots};
use super::validation::{has_committed, refused};
use crate::config::Staging;
use crate::events::{Failure, Outcome, Phase, PhaseOutcome, StagedFacts};
use crate::loader::observe::{OpenedSink, OpenedSource};
use crate::phases::copying::{self, From, Into, RunFacts, Scene};
use crate::phases::staged::{self, Stages};
use crate::pipeline::reconnect::OpenAnew;
use crate::pipeline::staging::StageManifest;
use crate::pipeline::{Counters, Outcomes};
use crate::plan::{PlannedCollection, made_from};
use crate::verification::tap::Taps;

/// Extraction, transformation and import. Answers the staged records, if verification is to compare with these. `taps` see what goes
/// into the sink at once; what is staged they do not see.
pub(super) fn copy_phases(
    context: &mut TaskContext,
    source: &mut OpenedSource,
    sink: OpenedSink,
    collections: &[PlannedCollection],
    staged: Option<Arc<StageManifest>>,
    outcomes: &Arc<Outcomes>,
    taps: Option<&Taps>,
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
        overlapped_copy(context, source, sink, collections, outcomes, taps).map(|()| None)
    }
}

/// Takes fields that turned up on the way into the plan, so that they are compared as well. Records that were written
/// before such a field had a place are null in it, not absent.
pub(super) fn follow_growth(collections: &mut [PlannedCollection], outcomes: &Outcomes) {
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
        pause: &context.pause,
        barrier: &context.barrier,
        breaker: &context.breaker,
        taps: None,
        facts: RunFacts {
            run_id: &context.options.run_id,
            made_from: &context.options.made_from,
            resume: context.options.resume.as_ref(),
            sizes_writes: context.options.sizes_writes,
            stage: "",
        },
    }
}

/// The source may be spoilt by a failure that passes.
fn reopen_source(context: &TaskContext) -> Arc<OpenAnew<'static>> {
    let (opener, config) = (context.plugins.source.clone(), context.job.source.config.clone());
    Arc::new(move || opener.open_source(&config))
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
    taps: Option<&Taps>,
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
    let scene = Scene {
        taps,
        ..scene(context, outcomes)
    };
    let from = From {
        source,
        capabilities: &context.plugins.source_capabilities,
        reopen: Some(reopen_source(context)),
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
    say_snapshots(context);
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
            staged::restore(&manifest, None, &read, outcomes);
            skipped(context, Phase::Extraction, manifest.record_count());
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
    let changed = transform(context, collections, &manifest, &stages, outcomes)?;
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
        reopen: None,
    };
    let mut scene = scene(context, outcomes);
    scene.facts.stage = changed.as_ref().map_or(&manifest.id, |(changed, _)| &changed.id);
    let copied = copying::into_sink(&scene, &planned, from, into, &written)
        .and_then(|()| outcomes.failure().map_or(Ok(()), Err));
    written.follow(&read, transformed.as_deref());
    list_copied(&mut context.summary, collections, &written, outcomes);
    say_snapshots(context);
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

/// An earlier run has done `phase`, with so many records.
fn skipped(context: &mut TaskContext, phase: Phase, record_count: u64) {
    context.end(phase, PhaseOutcome::Skipped, 0.0, record_count);
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
        made_from: made_from(
            &context.job,
            &context.plugins.source_lasting,
            &context.plugins.source_version,
        ),
        ..StageManifest::default()
    };
    let from = From {
        source,
        capabilities: &context.plugins.source_capabilities,
        reopen: Some(reopen_source(context)),
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
    extracted: &Arc<StageManifest>,
    stages: &Stages,
    outcomes: &Arc<Outcomes>,
) -> Result<Option<Changed>, Ended> {
    if collections.iter().all(|planned| planned.transforms.is_empty()) {
        context.end(Phase::Transformation, PhaseOutcome::Skipped, 0.0, 0);
        return Ok(None);
    }
    let changed = counters(context, collections, true);
    let made_from = staged::transformed_from(extracted, collections);
    // A run that goes on with a copy writes on the batches that were written in part, which transforms need not make once more.
    // One that begins has them made by the plugins of now.
    let resumes = context.options.resume.is_some();
    match StageManifest::read(&stages.transformed).filter(|_| resumes) {
        Some(kept) if kept.made_from == made_from => {
            staged::restore(&kept, Some(extracted), &changed, outcomes);
            skipped(context, Phase::Transformation, kept.record_count());
            return Ok(Some((Arc::new(kept), changed)));
        }
        Some(_) if has_committed(context) => return Err(refused(context, staged::other_stage())),
        Some(_) | None => {}
    }
    let clock = context.begin(Phase::Transformation);
    let manifest = StageManifest {
        made_from,
        ..StageManifest::default()
    };
    let stage = staged::open(&stages.extracted, extracted, &context.calls);
    let scene = scene(context, outcomes);
    let attempt = staged::transform(
        &scene,
        collections,
        stage,
        &stages.transformed,
        manifest,
        &changed,
    );
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
