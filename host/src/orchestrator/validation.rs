//! Opens both sides and validates, before a run and before the tasks that only look.
//! Also decides whether records that an earlier run has staged stand in for the source.

use std::sync::Arc;

use whimbrel_plugin_api::Error;

use super::context::TaskContext;
use super::ending::{Ended, failed, list_planned, unverified};
use super::in_place;
use crate::config::{OrphanPolicy, Staging};
use crate::events::{CostEstimate, Failure, Outcome, Phase, PhaseOutcome, SinkCostEstimate};
use crate::loader::observe::{OpenedSink, OpenedSource};
use crate::phases::pre_validation::{self, Look, Validated};
use crate::phases::staged::{self, Stages};
use crate::phases::{references, rules, sink_references};
use crate::pipeline::staging::StageManifest;
use crate::plan::cost::{self, RunShape, Units};
use crate::plan::guarantee::{Sides, guarantees};
use crate::plan::sink_cost::{self, Asked};
use crate::plan::{PlannedCollection, Spent, made_from};

/// What validation hands on: both sides, opened, and the plan with what it took.
pub(super) struct Ready {
    pub(super) source: OpenedSource,
    pub(super) sink: OpenedSink,
    pub(super) collections: Vec<PlannedCollection>,
    pub(super) taken: Taken,
}

/// What finding out has taken of a source that bills its reading.
#[derive(Default)]
pub(super) struct Taken {
    spent: Spent,
    searched: Units,
}

impl Taken {
    /// What a run takes. With `tried`, what a plan has read by way of trial, also what the plan has.
    pub(super) fn estimate(
        &self,
        context: &TaskContext,
        collections: &[PlannedCollection],
        tried: Option<&Units>,
    ) -> Option<CostEstimate> {
        cost::estimate(
            &context.job,
            shape(context),
            collections,
            &self.spent,
            &self.searched,
            tried,
        )
    }
}

fn shape(context: &TaskContext) -> RunShape<'_> {
    RunShape {
        skip_phases: &context.options.skip_phases,
        dry_run: context.options.dry_run,
        is_resumed: context.options.resume.is_some(),
    }
}

/// What a run takes of the sink.
fn sink_estimate(context: &TaskContext, validated: &Validated, is_plan: bool) -> Option<SinkCostEstimate> {
    let is_wanted = context.job.import.on_orphan != OrphanPolicy::Skip;
    let searched = sink_references::readings(&validated.collections, is_wanted, &validated.references);
    let parts_max = match context.plugins.source_capabilities.partitions {
        true => context.job.limits.partitions_parallel.into(),
        false => 1,
    };
    let asked = Asked {
        costs: &validated.sink_costs,
        looks_up: context.plugins.reading_back().lookup,
        parts_max,
        searched: &searched,
        is_plan,
    };
    sink_cost::estimate(&context.job, shape(context), &validated.collections, &asked)
}

/// A stage that an earlier run of the job has left and that holds what this one would read.
pub(super) fn reusable_stage(context: &mut TaskContext) -> Result<Option<Arc<StageManifest>>, Ended> {
    let found = if context.job.staging == Staging::Disk {
        let folder = Stages::of(&context.options.staging_folder).extracted;
        let wanted = made_from(
            &context.job,
            &context.plugins.source_lasting,
            &context.plugins.source_version,
        );
        let there = StageManifest::read(&folder);
        let is_one = there.is_some();
        let found = there.filter(|manifest| manifest.made_from == wanted && !context.options.reads_anew);
        if is_one && found.is_none() && has_committed(context) {
            // Reading anew would take the place of the only records with which the run can be gone on with.
            return Err(refused(context, staged::other_stage()));
        }
        found
    } else {
        None
    };
    if found.is_none() && context.skips(Phase::Extraction) && !context.skips(Phase::Import) {
        let error = Error::config(
            "run.nothing_staged",
            "extraction is skipped, and no earlier run has left what it would have read",
        )
        .with_help("run once with `--staging disk` and without `--skip-phases extraction`");
        return Err(refused(context, error));
    }
    Ok(found.map(Arc::new))
}

/// Whether the run goes on with one of which this host has seen commits.
pub(super) fn has_committed(context: &TaskContext) -> bool {
    let resume = context.options.resume.as_ref();
    resume.is_some_and(|resume| resume.known_seqs.values().any(|of| !of.is_empty()))
}

/// The run ends here because of `error`.
pub(super) fn refused(context: &mut TaskContext, error: Error) -> Ended {
    Box::new(Outcome::Refused {
        summary: std::mem::take(&mut context.summary),
        failures: vec![error.into()],
    })
}

/// How much is looked at.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Depth {
    /// What both sides say of themselves.
    Systems,
    /// All that a run looks at: also the records of the source that point to others.
    Run,
    /// The same, for a plan of it.
    Plan,
}

/// Opens both sides and finds out what can be found without writing.
fn look(
    context: &TaskContext,
    staged: Option<&Arc<StageManifest>>,
    depth: Depth,
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
        resumes: context.options.resume.is_some(),
        only: context.options.replay.as_ref().map(|replay| {
            let records = replay.records.iter();
            records.map(|record| record.collection.clone()).collect()
        }),
    };
    let mut validated = pre_validation::run(&look, &mut source, &mut sink)?;
    if context.is_in_place {
        let finding = in_place::finding(&validated.collections);
        pre_validation::note(
            &context.job,
            &context.emitter,
            None,
            finding.as_slice(),
            &mut validated,
        );
    }
    if depth != Depth::Systems && look.checks && validated.blockers.is_empty() {
        look_at_references(context, &mut source, &mut validated)?;
        look_at_rules(context, &mut validated)?;
    }
    Ok((source, sink, validated))
}

/// Looks for records that point to nothing. The snapshot stays open for the copy, unless there will be none.
fn look_at_references(
    context: &TaskContext,
    source: &mut OpenedSource,
    validated: &mut Validated,
) -> Result<(), Failure> {
    let search = references::Search {
        job: &context.job,
        transforms: &context.plugins.transforms,
        emitter: &context.emitter,
        stop: &context.stop,
        file: context.options.orphans_file.as_deref(),
    };
    let searched = references::run(&search, &validated.collections, source)?;
    validated.references = searched.references;
    validated.orphans_listed = searched.is_listed;
    validated.searched = searched.units;
    pre_validation::note(
        &context.job,
        &context.emitter,
        None,
        &searched.findings,
        validated,
    );
    Ok(())
}

/// Looks at the rules that must hold before anything is written.
fn look_at_rules(context: &TaskContext, validated: &mut Validated) -> Result<(), Failure> {
    if context.job.rules.is_empty() {
        return Ok(());
    }
    let scene = rules_scene(context, &validated.collections);
    let before = rules::before(&scene, context.options.resume.is_some())?;
    validated.rules = before.results;
    pre_validation::note(&context.job, &context.emitter, None, &before.findings, validated);
    Ok(())
}

/// What the rules are looked at with.
pub(super) fn rules_scene<'a>(
    context: &'a TaskContext,
    collections: &'a [PlannedCollection],
) -> rules::Scene<'a> {
    rules::Scene {
        job: &context.job,
        source: &context.plugins.source,
        source_can: &context.plugins.source_capabilities,
        sink: &context.plugins.sink,
        sink_can: context.plugins.reading_back(),
        transforms: &context.plugins.transforms,
        collections,
        stop: &context.stop,
    }
}

pub(super) fn validate(
    context: &mut TaskContext,
    staged: Option<&Arc<StageManifest>>,
    depth: Depth,
) -> Result<Ready, Ended> {
    let clock = context.begin(Phase::PreValidation);
    let attempt = look(context, staged, depth);
    let seconds = clock.elapsed().as_secs_f64();
    match attempt {
        Err(failure) => {
            context.end(Phase::PreValidation, PhaseOutcome::Failed, seconds, 0);
            Err(failed(context, failure.in_phase(Phase::PreValidation)))
        }
        Ok((source, sink, validated)) => {
            if depth != Depth::Systems {
                context.summary.sink_cost = sink_estimate(context, &validated, depth == Depth::Plan);
            }
            context.summary.ddl = validated.ddl;
            if depth != Depth::Systems {
                let sides = Sides {
                    source: &context.plugins.source_capabilities,
                    sink: &context.plugins.sink_capabilities,
                    is_staged: context.job.staging == Staging::Disk,
                };
                context.summary.guarantees = guarantees(&validated.collections, sides, &validated.findings);
            }
            context.summary.findings = validated.findings;
            context.summary.references = validated.references;
            context.summary.rules = validated.rules;
            let taken = Taken {
                spent: validated.spent,
                searched: validated.searched,
            };
            let nothing = Units::new();
            let tried = (depth == Depth::Plan).then_some(&nothing);
            if depth != Depth::Systems {
                context.summary.cost = taken.estimate(context, &validated.collections, tried);
            }
            let mut blockers = validated.blockers;
            // Of a run that is gone on with, nobody knows how much is left.
            if context.options.resume.is_none() {
                let summary = &context.summary;
                let of_source = summary.cost.as_ref().and_then(cost::beyond);
                let of_sink = summary.sink_cost.as_ref().and_then(sink_cost::beyond);
                blockers.extend(of_source.into_iter().chain(of_sink).map(Failure::from));
            }
            if validated.orphans_listed
                && let Some(file) = &context.options.orphans_file
            {
                context.summary.orphans_file =
                    file.file_name().map(|name| name.to_string_lossy().into_owned());
            }
            if blockers.is_empty() {
                context.end(Phase::PreValidation, PhaseOutcome::Done, seconds, 0);
                return Ok(Ready {
                    source,
                    sink,
                    collections: validated.collections,
                    taken,
                });
            }
            list_planned(&mut context.summary, &validated.collections);
            context.end(Phase::PreValidation, PhaseOutcome::Failed, seconds, 0);
            Err(Box::new(Outcome::Refused {
                summary: std::mem::take(&mut context.summary),
                failures: blockers,
            }))
        }
    }
}

/// As [`validate`], but what stands in the way of writing does not matter.
pub(super) fn validate_for_verification(
    context: &mut TaskContext,
) -> Result<(OpenedSource, Vec<PlannedCollection>), Ended> {
    let clock = context.begin(Phase::PreValidation);
    let attempt = look(context, None, Depth::Systems);
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
