//! A replay: rejected records of an earlier run are sent again. A straight line: look at both sides, prepare the sink, send.
//! Neighbours: `run` copies whole collections, [`crate::phases::replaying`] does the sending.

use whimbrel_plugin_api::capability::Atomicity;
use whimbrel_plugin_api::sink::PrepareRequest;
use whimbrel_plugin_api::{Error, ErrorKind};

use super::context::TaskContext;
use super::ending::{Ended, failed, with_memory};
use super::validation::{Depth, Ready, validate};
use crate::control::Cause;
use crate::events::{Failure, Outcome, Phase, PhaseOutcome};
use crate::loader::observe::OpenedSink;
use crate::phases::replaying::{self, Replay, ReplayOptions, Replayed};
use crate::plan::{PlannedCollection, blockers};

/// Sends the records again.
pub fn replay(mut context: TaskContext) -> Outcome {
    match replay_all(&mut context) {
        Ok(outcome) | Err(outcome) => with_memory(*outcome),
    }
}

fn replay_all(context: &mut TaskContext) -> Result<Ended, Ended> {
    if context.plugins.sink_capabilities.atomicity == Atomicity::Append {
        let failure = cannot_add(&context.job.sink.plugin);
        return Err(failed(context, failure.into()));
    }
    let Ready {
        mut sink,
        collections,
        ..
    } = validate(context, None, Depth::Systems)?;
    let options = context.options.replay.take().unwrap_or_default();
    let clock = context.begin(Phase::Import);
    let attempt = send(context, &options, &collections, &mut sink);
    let outcome = match attempt {
        Ok(_) => PhaseOutcome::Done,
        Err(_) => PhaseOutcome::Failed,
    };
    let count = attempt.as_ref().map_or(0, |replayed| replayed.taken);
    context.end(Phase::Import, outcome, clock.elapsed().as_secs_f64(), count);
    match attempt {
        Err(failure) => Err(failed(context, failure.in_phase(Phase::Import))),
        Ok(replayed) => {
            context.summary.rejected_count = replayed.refused;
            let summary = std::mem::take(&mut context.summary);
            Ok(Box::new(match context.stop.cause() {
                Some(Cause::Asked) => Outcome::Cancelled { summary },
                Some(Cause::Failed(failure)) => Outcome::Failed {
                    summary,
                    failure: *failure,
                },
                None => Outcome::Done { summary },
            }))
        }
    }
}

fn send(
    context: &TaskContext,
    options: &ReplayOptions,
    collections: &[PlannedCollection],
    sink: &mut OpenedSink,
) -> Result<Replayed, Failure> {
    // None of the records may be of a collection that the job still copies.
    if !collections.is_empty() {
        let report = sink.prepare(&PrepareRequest {
            collections: collections.iter().map(|planned| planned.sink.clone()).collect(),
            dry: false,
            ..PrepareRequest::default()
        })?;
        if let Some(blocker) = blockers(&report.findings).next() {
            return Err(Error::config(&blocker.code, &blocker.message).into());
        }
    }
    let replay = Replay {
        job: &context.job,
        options,
        transforms: &context.plugins.transforms,
        emitter: &context.emitter,
        stop: &context.stop,
        barrier: &context.barrier,
    };
    replaying::run(&replay, collections, sink)
}

fn cannot_add(plugin: &str) -> Error {
    Error::new(
        ErrorKind::Config,
        "rejected.sink_cannot",
        format!("the sink `{plugin}` writes collections as a whole and takes no further records"),
    )
    .with_help("mend the source or the job, and run the job again")
}
