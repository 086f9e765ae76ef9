//! A repair: compares, heals what differs, and compares once more. A straight line over phases that others have, too.
//! Neighbours: `look` only compares, [`crate::phases::repairing`] does the healing.

use std::path::{Path, PathBuf};

use whimbrel_plugin_api::capability::Atomicity;
use whimbrel_plugin_api::sink::PrepareRequest;
use whimbrel_plugin_api::{ConflictPolicy, Error, ErrorKind};

use super::comparison;
use super::context::TaskContext;
use super::ending::{Ended, failed, list_planned, with_memory};
use super::run::verify_phase;
use super::validation::{Depth, Ready, validate};
use crate::config::{Job, VerificationLevel};
use crate::control::Cause;
use crate::events::{Failure, Outcome, Phase, PhaseOutcome, RuleMoment, VerificationResult};
use crate::loader::observe::{OpenedSink, OpenedSource};
use crate::phases::repairing::{self, Repair, Repaired, Told};
use crate::plan::{PlannedCollection, blockers};
use crate::workspace::{fault, make_folder};

/// Heals what differs. The outcome is that of the comparison that follows.
pub fn repair(mut context: TaskContext) -> Outcome {
    match repair_all(&mut context) {
        Ok(outcome) | Err(outcome) => with_memory(*outcome),
    }
}

fn repair_all(context: &mut TaskContext) -> Result<Ended, Ended> {
    if context.plugins.sink_capabilities.atomicity == Atomicity::Append {
        let failure = cannot_repair(&context.job.sink.plugin);
        return Err(failed(context, failure.into()));
    }
    let intended = context.job.clone();
    as_repairs_want_it(context);
    let Ready {
        mut source,
        mut sink,
        collections,
        ..
    } = validate(context, None, Depth::Systems)?;
    let mut collections = comparison::chosen(context, collections)?;
    for planned in &mut collections {
        // What counts as a difference is decided by what the job says.
        planned.policy = intended.policy_of(&planned.source.name, &planned.sink.name);
        if planned.verification != VerificationLevel::None {
            planned.verification = VerificationLevel::Comprehensive;
        }
    }
    list_planned(&mut context.summary, &collections);
    let left_out = comparison::left_out(context, &collections);
    let first = verify_phase(context, &mut source, &collections, &left_out, None)?;
    if !matches!(*first, Outcome::Differences { .. }) {
        return Ok(first);
    }
    let before = lists_before(context)?;
    // What was read at one instant must not be healed, or compared, as it was then.
    drop(source);
    let opened = context.plugins.source.open_source(&context.job.source.config);
    let mut source = opened.map_err(|failure| failed(context, failure.in_phase(Phase::Import)))?;
    // From here on the sink is not what it was: what the first comparison has found is in its lists alone.
    let found = take_found(context);
    let sides = (&mut source, &mut sink);
    heal_phase(context, &intended, &collections, (&before, &found), sides)?;
    drop(sink);
    verify_phase(context, &mut source, &collections, &left_out, None)
}

/// Every record is compared, and the plan is that of a copy which replaces what the sink has, whatever the job says of one.
fn as_repairs_want_it(context: &mut TaskContext) {
    let job = &mut context.job;
    if job.verification == VerificationLevel::None {
        job.verification = VerificationLevel::Comprehensive;
    }
    job.import.on_conflict = ConflictPolicy::Overwrite;
    for rule in job.collections.iter_mut().flatten() {
        rule.on_conflict = None;
    }
}

/// Moves the lists of the comparison to where those of before a repair are, and answers where that is.
fn lists_before(context: &mut TaskContext) -> Result<PathBuf, Ended> {
    let verify = &context.options.verify;
    let results = verify.results_folder.clone();
    let before = verify
        .before_repair_folder
        .clone()
        .unwrap_or_else(|| results.clone());
    let moved = || -> Result<(), Error> {
        make_folder(&before)?;
        let all = context.summary.verification.iter();
        for file in all.filter_map(|result| result.mismatches_file.as_ref()) {
            let to = before.join(file);
            std::fs::rename(results.join(file), &to).map_err(|error| fault(&to, &error))?;
        }
        Ok(())
    };
    let moved = moved();
    match moved {
        Ok(()) => Ok(before),
        Err(error) => Err(failed(context, Failure::from(error).in_phase(Phase::Import))),
    }
}

fn take_found(context: &mut TaskContext) -> Vec<VerificationResult> {
    let summary = &mut context.summary;
    summary.sink_references.clear();
    summary.rules.retain(|rule| rule.moment == RuleMoment::Before);
    std::mem::take(&mut summary.verification)
}

fn heal_phase(
    context: &mut TaskContext,
    intended: &Job,
    collections: &[PlannedCollection],
    listed: (&Path, &[VerificationResult]),
    sides: (&mut OpenedSource, &mut OpenedSink),
) -> Result<(), Ended> {
    let clock = context.begin(Phase::Import);
    let Repaired { results, failure } = heal(context, intended, collections, listed, sides);
    let outcome = match failure {
        None => PhaseOutcome::Done,
        Some(_) => PhaseOutcome::Failed,
    };
    let healed = results.iter().map(|one| one.copied_count + one.removed_count);
    let count = healed.sum();
    context.end(Phase::Import, outcome, clock.elapsed().as_secs_f64(), count);
    context.summary.repaired = results;
    if let Some(failure) = failure {
        return Err(failed(context, failure.in_phase(Phase::Import)));
    }
    match context.stop.cause() {
        None => Ok(()),
        Some(Cause::Asked) => Err(failed(context, Error::cancelled().into())),
        Some(Cause::Failed(failure)) => Err(failed(context, *failure)),
    }
}

fn heal(
    context: &TaskContext,
    intended: &Job,
    collections: &[PlannedCollection],
    (results_folder, found): (&Path, &[VerificationResult]),
    (source, sink): (&mut OpenedSource, &mut OpenedSink),
) -> Repaired {
    if let Err(failure) = prepare(collections, sink) {
        return Repaired {
            results: Vec::new(),
            failure: Some(failure),
        };
    }
    let repair = Repair {
        job: &context.job,
        intended,
        run_id: &context.options.run_id,
        transforms: &context.plugins.transforms,
        stop: &context.stop,
        told: Told::to(&context.emitter),
        source_can: &context.plugins.source_capabilities,
        sink_can: &context.plugins.sink_capabilities,
        sink_reads: &context.plugins.reading_back(),
        results_folder,
        removes_most: context.options.verify.removes_most,
        agreed: context.options.verify.agreed.as_ref(),
    };
    repairing::run(&repair, collections, found, source, sink)
}

fn prepare(collections: &[PlannedCollection], sink: &mut OpenedSink) -> Result<(), Failure> {
    let report = sink.prepare(&PrepareRequest {
        collections: collections.iter().map(|planned| planned.sink.clone()).collect(),
        dry: false,
        ..PrepareRequest::default()
    })?;
    match blockers(&report.findings).next() {
        Some(blocker) => Err(Error::config(&blocker.code, &blocker.message).into()),
        None => Ok(()),
    }
}

fn cannot_repair(plugin: &str) -> Error {
    Error::new(
        ErrorKind::Config,
        "verification.sink_cannot",
        format!("the sink `{plugin}` writes collections as a whole and replaces no records"),
    )
    .with_help("run the job again")
}
