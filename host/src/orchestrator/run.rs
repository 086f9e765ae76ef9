//! A run: validates, copies, verifies, tidies up. A straight line over the phases; what comes after what is decided here and
//! nowhere else. Neighbours: `validation` and `copy_phases` are its parts, `look` has the tasks that copy nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

use whimbrel_plugin_api::Error;

use super::context::TaskContext;
use super::copy_phases::{copy_phases, follow_growth};
use super::ending::{Ended, failed, unverified, with_memory};
use super::validation::{Depth, Ready, reusable_stage, validate};
use crate::config::{Staging, VerificationLevel};
use crate::crash_site;
use crate::events::{Outcome, Phase, PhaseOutcome, RunSummary};
use crate::loader::observe::OpenedSource;
use crate::phases::staged::Stages;
use crate::phases::verification;
use crate::pipeline::Outcomes;
use crate::plan::PlannedCollection;
use crate::verification::LeftOut;

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
        verify_phase(context, from, &collections, &outcomes.left_out())?
    };
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
) -> Result<Ended, Ended> {
    let clock = context.begin(Phase::Verification);
    let counted = counted(context, collections);
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
                left_out,
                &counted,
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
