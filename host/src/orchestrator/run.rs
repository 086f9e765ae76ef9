//! A run: validates, copies, verifies, tidies up. A straight line over the phases; what comes after what is decided here and
//! nowhere else. Neighbours: `validation` and `copy_phases` are its parts, `look` has the tasks that copy nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

use whimbrel_plugin_api::Error;
use whimbrel_plugin_api::manifest::Role;

use super::context::TaskContext;
use super::copy_phases::{copy_phases, follow_growth};
use super::ending::{Ended, failed, unverified, with_memory};
use super::validation::{Depth, Ready, reusable_stage, rules_scene, validate};
use crate::config::{OrphanPolicy, Staging, VerificationLevel};
use crate::crash_site;
use crate::events::{Event, Failure, FoundBy, Outcome, Phase, PhaseOutcome, RuleMoment, RunSummary};
use crate::loader::observe::OpenedSource;
use crate::phases::rules;
use crate::phases::staged::Stages;
use crate::phases::verification::{self, Verified};
use crate::pipeline::Outcomes;
use crate::plan::PlannedCollection;
use crate::verification::LeftOut;
use crate::verification::judgement::{Judgement, judge};
use crate::verification::tap::{TAP_FOLDER, Tappable, Taps};
use crate::workspace::fault;

/// Octets that digests of records which may differ take in memory at one time.
const DIGEST_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Runs the job.
pub fn run(mut context: TaskContext) -> Outcome {
    match run_phases(&mut context) {
        Ok(outcome) | Err(outcome) => with_memory(*outcome),
    }
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
        ..
    } = validate(context, staged.as_ref(), Depth::Run)?;
    crash_site::reach("validated");
    wait_for_gate(context)?;
    let outcomes = Arc::new(Outcomes::new(context.job.import.max_errors));
    let taps = taps(context, &collections);
    let mut verified_from = copy_phases(
        context,
        &mut source,
        sink,
        &collections,
        staged,
        &outcomes,
        taps.as_ref(),
    )?;
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
        forget_comparison(context)?;
        verify_phase(context, from, &collections, &outcomes.left_out(), taps.as_ref())?
    };
    drop(taps);
    let differs = matches!(*outcome, Outcome::Differences { .. });
    crash_site::reach("verified");
    tidy_up(context, differs);
    crash_site::reach("tidied_up");
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
        // Rules are looked at even where nothing is compared.
        || (context.job.verification == VerificationLevel::None && !rules::has_later_rules(&context.job))
}

/// What makes the digests of the source while it is copied, for the collections of which every record will be compared. Not of
/// staged records: verification reads these again where they are staged, which costs the source nothing.
fn taps(context: &TaskContext, collections: &[PlannedCollection]) -> Option<Taps> {
    let folder = &context.options.verify.work_folder;
    let skips_copy = context.skips(Phase::Extraction) || context.skips(Phase::Import);
    if skips_verification(context)
        || skips_copy
        || context.job.staging == Staging::Disk
        || !folder.is_absolute()
    {
        return None;
    }
    let wanted: Vec<Tappable<'_>> = collections
        .iter()
        .enumerate()
        .filter(|(_, planned)| planned.verification == VerificationLevel::Comprehensive)
        .map(|(collection, planned)| Tappable {
            collection,
            source: &planned.source,
            sink: &planned.sink,
            is_transformed: !planned.transforms.is_empty(),
        })
        .collect();
    if wanted.is_empty() {
        return None;
    }
    let can_resume = context.plugins.source_capabilities.resume;
    Some(Taps::new(folder, can_resume, wanted, &context.emitter))
}

/// Removes what an earlier comparison has left if something was written since: what it has read of the sink is not what is there
/// now.
fn forget_comparison(context: &mut TaskContext) -> Result<(), Ended> {
    let folder = context.options.verify.work_folder.clone();
    if context.summary.first_commit_ms.is_none() || !folder.is_dir() {
        return Ok(());
    }
    let forget = || -> std::io::Result<()> {
        for entry in std::fs::read_dir(&folder)? {
            let entry = entry?;
            if entry.file_name() == TAP_FOLDER {
                continue;
            }
            if entry.file_type()?.is_dir() {
                std::fs::remove_dir_all(entry.path())?;
            } else {
                std::fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    };
    forget().map_err(|error| {
        let failure = Failure::from(fault(&folder, &error));
        unverified(context, failure.in_phase(Phase::Verification))
    })
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
        context.emitter.emit(&Event::Log {
            plugin: "staging".to_owned(),
            level: "warn".to_owned(),
            message: format!("staged records could not be removed: {error}"),
        });
        outcome = PhaseOutcome::Failed;
    }
    context.end(Phase::PostMigration, outcome, clock.elapsed().as_secs_f64(), 0);
}

/// How many records the copy has read of each collection that it has read to its end.
fn counted(context: &TaskContext, collections: &[PlannedCollection]) -> BTreeMap<usize, u64> {
    let copied = context.summary.collections.iter().zip(collections).enumerate();
    copied
        .filter(|(_, (result, planned))| result.complete && result.source == planned.source.name)
        .map(|(index, (result, _))| (index, result.read_count))
        .collect()
}

pub(super) fn verify_phase(
    context: &mut TaskContext,
    source: &mut OpenedSource,
    collections: &[PlannedCollection],
    left_out: &BTreeMap<usize, LeftOut>,
    taps: Option<&Taps>,
) -> Result<Ended, Ended> {
    let clock = context.begin(Phase::Verification);
    let counted = counted(context, collections);
    let options = &context.options.verify;
    let scene = verification::Scene {
        collections,
        transforms: &context.plugins.transforms,
        left_out,
        counted: &counted,
        taps,
        emitter: &context.emitter,
        stop: &context.stop,
        work_folder: options.work_folder.clone(),
        results_folder: options.results_folder.clone(),
        shows_values: options.shows_values,
        is_of_sink_alone: options.is_of_sink_alone,
        partitions_parallel: context.job.limits.partitions_parallel,
        memory_bytes_max: DIGEST_BYTES_MAX,
        source_can: context.plugins.source_capabilities.clone(),
        sink_can: context.plugins.reading_back(),
        known_references: &context.summary.references,
        searches_orphans: context.job.import.on_orphan != OrphanPolicy::Skip,
    };
    let attempt = context
        .plugins
        .sink
        .open_sink(&context.job.sink.config)
        .and_then(|mut sink| verification::run(&scene, source, &mut sink))
        .and_then(|verified| Ok((verified, rules::after(&rules_scene(context, collections))?)));
    let seconds = clock.elapsed().as_secs_f64();
    match attempt {
        Err(failure) => {
            context.end(Phase::Verification, PhaseOutcome::Failed, seconds, 0);
            Err(unverified(context, failure.in_phase(Phase::Verification)))
        }
        Ok((verified, rules)) => {
            // A repair comes here again.
            context
                .summary
                .rules
                .retain(|rule| rule.moment == RuleMoment::Before);
            context.summary.rules.extend(rules);
            let compared = verified.results.iter().map(|result| result.compared_count).sum();
            take_verified(context, verified);
            let summary = &context.summary;
            let judgement = judge(&summary.verification, &summary.sink_references, &summary.rules);
            let outcome = match judgement {
                Judgement::Equal => PhaseOutcome::Done,
                Judgement::Different | Judgement::Unsure(_) => PhaseOutcome::Failed,
            };
            context.end(Phase::Verification, outcome, seconds, compared);
            let summary = context.summary.clone();
            match judgement {
                Judgement::Equal => Ok(Box::new(Outcome::Done { summary })),
                Judgement::Different => Ok(Box::new(Outcome::Differences { summary })),
                Judgement::Unsure(error) => Err(unverified(
                    context,
                    Failure::from(error).in_phase(Phase::Verification),
                )),
            }
        }
    }
}

/// Takes what a verification has found into the summary.
fn take_verified(context: &mut TaskContext, verified: Verified) {
    context.summary.verification = verified.results;
    context.summary.sink_references = verified.sink_references;
    for finding in verified.findings {
        let role = Some(Role::Sink);
        context.emitter.emit(&Event::Found {
            role,
            finding: finding.clone(),
        });
        context.summary.findings.push(FoundBy { role, finding });
    }
}
