//! A repair: compares, heals what differs, and compares once more. A straight line over phases that others have, too.
//! Neighbours: `look` only compares, [`crate::phases::repairing`] does the healing.

use whimbrel_plugin_api::capability::Atomicity;
use whimbrel_plugin_api::sink::PrepareRequest;
use whimbrel_plugin_api::{ConflictPolicy, Error, ErrorKind};

use super::comparison;
use super::context::TaskContext;
use super::ending::{Ended, failed, list_planned, with_memory};
use super::run::verify_phase;
use super::validation::{Depth, Ready, validate};
use crate::config::VerificationLevel;
use crate::control::Cause;
use crate::events::{Failure, Outcome, Phase, PhaseOutcome, RepairResult};
use crate::loader::observe::{OpenedSink, OpenedSource};
use crate::phases::repairing::{self, Repair};
use crate::plan::{PlannedCollection, blockers};

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
    as_repairs_want_it(context);
    let Ready {
        mut source,
        mut sink,
        collections,
        ..
    } = validate(context, None, Depth::Systems)?;
    let mut collections = comparison::chosen(context, collections)?;
    for planned in &mut collections {
        if planned.verification != VerificationLevel::None {
            planned.verification = VerificationLevel::Comprehensive;
        }
    }
    list_planned(&mut context.summary, &collections);
    let left_out = comparison::left_out(context, &collections);
    let results_folder = context.options.verify.results_folder.clone();
    if let Some(before) = context.options.verify.before_repair_folder.clone() {
        context.options.verify.results_folder = before;
    }
    let first = verify_phase(context, &mut source, &collections, &left_out, None)?;
    if !matches!(*first, Outcome::Differences { .. }) {
        return Ok(first);
    }
    // What was read at one instant must not be healed, or compared, as it was then.
    drop(source);
    let opened = context.plugins.source.open_source(&context.job.source.config);
    let mut source = opened.map_err(|failure| failed(context, failure.in_phase(Phase::Import)))?;
    heal_phase(context, &collections, &mut source, &mut sink)?;
    drop(sink);
    context.options.verify.results_folder = results_folder;
    verify_phase(context, &mut source, &collections, &left_out, None)
}

/// Every record is compared, and what the sink has is replaced, whatever the job says of a copy.
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

fn heal_phase(
    context: &mut TaskContext,
    collections: &[PlannedCollection],
    source: &mut OpenedSource,
    sink: &mut OpenedSink,
) -> Result<(), Ended> {
    let clock = context.begin(Phase::Import);
    let attempt = heal(context, collections, source, sink);
    let outcome = match attempt {
        Ok(_) => PhaseOutcome::Done,
        Err(_) => PhaseOutcome::Failed,
    };
    let of_all = attempt.iter().flatten();
    let count = of_all.map(|one| one.copied_count + one.removed_count).sum();
    context.end(Phase::Import, outcome, clock.elapsed().as_secs_f64(), count);
    match attempt {
        Err(failure) => return Err(failed(context, failure.in_phase(Phase::Import))),
        Ok(repaired) => context.summary.repaired = repaired,
    }
    match context.stop.cause() {
        None => Ok(()),
        Some(Cause::Asked) => Err(failed(context, Error::cancelled().into())),
        Some(Cause::Failed(failure)) => Err(failed(context, *failure)),
    }
}

fn heal(
    context: &TaskContext,
    collections: &[PlannedCollection],
    source: &mut OpenedSource,
    sink: &mut OpenedSink,
) -> Result<Vec<RepairResult>, Failure> {
    let report = sink.prepare(&PrepareRequest {
        collections: collections.iter().map(|planned| planned.sink.clone()).collect(),
        dry: false,
    })?;
    if let Some(blocker) = blockers(&report.findings).next() {
        return Err(Error::config(&blocker.code, &blocker.message).into());
    }
    let repair = Repair {
        job: &context.job,
        run_id: &context.options.run_id,
        transforms: &context.plugins.transforms,
        stop: &context.stop,
        source_can: &context.plugins.source_capabilities,
        sink_can: &context.plugins.sink_capabilities,
        sink_reads: &context.plugins.reading_back(),
        results_folder: &context.options.verify.results_folder,
        removes_most: context.options.verify.removes_most,
    };
    repairing::run(&repair, collections, &context.summary.verification, source, sink)
}

fn cannot_repair(plugin: &str) -> Error {
    Error::new(
        ErrorKind::Config,
        "verification.sink_cannot",
        format!("the sink `{plugin}` writes collections as a whole and replaces no records"),
    )
    .with_help("run the job again")
}
