//! Moves the planned collections: divides them, opens sessions, runs the pipeline, ends the sessions.
//!
//! Used with the sink itself, where extraction, transformation and import overlap, and with nothing at all for a dry run.
//! Neighbours: [`crate::pipeline`] moves the batches, `staged` does the same phase by phase.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use whimbrel_plugin_api::capability::{Atomicity, SinkCapabilities, SourceCapabilities};
use whimbrel_plugin_api::partition::PartitionsRequest;
use whimbrel_plugin_api::source::BatchBounds;

use super::lanes::{self, Course, Holder, RunLane};
use super::second_pass;
use super::sessions::{Sessions, say_few_sessions, sessions_max};
use crate::barrier::Barrier;
use crate::checkpoint::ResumeOptions;
use crate::config::{Job, NewFieldPolicy};
use crate::control::{Cause, Stop};
use crate::crash_site;
use crate::events::{Emitter, Event, Failure, Phase};
use crate::loader::observe::{CallLog, OpenedSink, OpenedSource, Opener};
use crate::pipeline::breaker::Breaker;
use crate::pipeline::budget::Budget;
use crate::pipeline::concurrency::Concurrency;
use crate::pipeline::copy::Settings;
use crate::pipeline::pause::Pause;
use crate::pipeline::reconnect::{OpenAnew, ReadingContext};
use crate::pipeline::staging::Discard;
use crate::pipeline::writer::{Reopen, WriterContext};
use crate::pipeline::{CopyTask, Counters, HeldBack, Outcomes, TransactionRules, copy};
use crate::plan::PlannedCollection;
use crate::transform::Transforms;
use crate::verification::tap::Taps;

/// Records of a batch for a sink whose transaction is one request: the known ones take 500 writes in one.
const CONDITIONAL_RECORDS_MAX: usize = 400;
/// Octets of such a batch; encoded, records are larger than their columns, and the least that is known to be taken is 3.5 MiB.
const CONDITIONAL_BYTES_MAX: usize = 2 * 1024 * 1024;

/// What all copies of a run have in common.
pub struct Scene<'a> {
    /// The job.
    pub job: &'a Job,
    /// Where events go.
    pub emitter: &'a Emitter,
    /// Ends everything.
    pub stop: &'a Stop,
    /// Rejected records and failed collections.
    pub outcomes: &'a Arc<Outcomes>,
    /// The loaded transforms.
    pub transforms: &'a Transforms,
    /// What all links draw on.
    pub budget: &'a Budget,
    /// Where calls are announced.
    pub calls: &'a Arc<CallLog>,
    /// Where everybody waits for a repair.
    pub pause: &'a Arc<Pause>,
    /// Passed before a commit that relies on what was told.
    pub barrier: &'a Barrier,
    /// Ends the run when too many of its last records are refused.
    pub breaker: &'a Arc<Breaker>,
    /// Makes digests of what goes into the sink; none if nobody wants them.
    pub taps: Option<&'a Taps>,
    /// What is told of the run besides its job.
    pub facts: RunFacts<'a>,
}

/// What is told of a run besides its job.
#[derive(Clone, Copy)]
pub struct RunFacts<'a> {
    /// The run.
    pub run_id: &'a str,
    /// What the copy depends on, by name.
    pub made_from: &'a BTreeMap<String, String>,
    /// The copy that is gone on with; none if the run begins one.
    pub resume: Option<&'a ResumeOptions>,
    /// Whether somebody has said how many records a write has.
    pub sizes_writes: bool,
    /// The id of the stage that the records come from; empty if they come from the source at once.
    pub stage: &'a str,
}

/// A source with what it can do.
pub struct From<'a> {
    /// The source.
    pub source: &'a mut OpenedSource,
    /// Its capabilities.
    pub capabilities: &'a SourceCapabilities,
    /// Opens it once more when it is spoilt; none for what the host itself reads from.
    pub reopen: Option<Arc<OpenAnew<'static>>>,
}

/// A sink with what it can do.
pub struct Into<'a> {
    /// The first session.
    pub sink: OpenedSink,
    /// Its capabilities.
    pub capabilities: &'a SinkCapabilities,
    /// Opens further sessions.
    pub opener: &'a Opener,
}

/// Where one pass of records goes and how its writing is told.
pub struct Pass<'a> {
    /// What is counted.
    pub counters: &'a Arc<Counters>,
    /// The phase that failures of its writers belong to.
    pub phase: Phase,
    /// Whether its commits are those of the run.
    pub announces_commits: bool,
    /// Whether its sink can undo a transaction.
    pub is_transactional: bool,
    /// Whether its sink keeps the checkpoints of its lanes.
    pub keeps_lanes: bool,
    /// Whether a transaction of its sink is one guarded request, so that batches must be small: there is no cursor within one.
    pub is_conditional: bool,
    /// How a spoilt session is replaced.
    pub reopen: Option<Arc<Reopen>>,
    /// Makes digests of each record, of which this is the only or the first pass.
    pub taps: Option<&'a Taps>,
}

/// Copies all planned collections into the sink.
///
/// # Errors
/// The first failure. That somebody asked for an end is none: the stop's cause says so.
pub fn into_sink(
    scene: &Scene<'_>,
    collections: &[PlannedCollection],
    from: From<'_>,
    into: Into<'_>,
    counters: &Arc<Counters>,
) -> Result<(), Failure> {
    let Into {
        mut sink,
        capabilities,
        opener,
    } = into;
    let sessions = Sessions {
        opener: opener.clone(),
        config: scene.job.sink.config.clone(),
        collections: collections.iter().map(|planned| planned.sink.clone()).collect(),
        outcomes: Arc::clone(scene.outcomes),
    };
    scene
        .pause
        .around(|| sessions.prepare(&mut sink))
        .map_err(|failure| failure.in_phase(Phase::Import))?;
    crash_site::reach("prepared");
    let (further, count) = (sessions.clone(), sessions_max(scene.job, capabilities));
    let pass = Pass {
        taps: scene.taps,
        ..import_pass(counters, capabilities, Arc::new(move || sessions.open()))
    };
    let reopen = {
        let further = further.clone();
        move || further.open()
    };
    let in_import = |failure: Failure| failure.in_phase(Phase::Import);
    let mut holder = Holder {
        sink: &mut sink,
        reopen: &reopen,
    };
    let mut course = lanes::look(scene, collections, capabilities.lanes, &mut holder).map_err(in_import)?;
    lanes::judge_collections(scene, collections, capabilities, &mut course, &mut holder)
        .map_err(in_import)?;
    let mut sinks = vec![sink];
    with_snapshot(scene, from, |from, snapshot| {
        let mut tasks = tasks(
            scene,
            collections,
            from,
            snapshot.as_deref(),
            counters,
            Some(&course),
        )
        .map_err(|failure| failure.in_phase(Phase::Extraction))?;
        tell_taps(scene, &tasks);
        let mut again = second_pass::divide(&mut tasks, collections, capabilities);
        let mut holder = Holder {
            sink: &mut sinks[0],
            reopen: &reopen,
        };
        let both = (&mut tasks, &mut again);
        let run_lane =
            lanes::claim(scene, collections, course, &mut holder, both, counters).map_err(in_import)?;
        open_further(scene, &further, &mut sinks, count.min(tasks.len()))?;
        if again.is_empty() {
            move_records(scene, from, snapshot.clone(), &mut sinks, &tasks, &pass)?;
        } else {
            let outcomes = Arc::new(scene.outcomes.first_of_two());
            let first = Scene {
                outcomes: &outcomes,
                ..*scene
            };
            move_records(&first, from, snapshot.clone(), &mut sinks, &tasks, &pass)?;
        }
        if !scene.stop.is_raised() {
            second_pass::run(scene, from, snapshot, &mut sinks, &again, &pass)?;
        }
        if scene.stop.is_raised() {
            return Ok(());
        }
        finish(scene, &mut sinks, &reopen, run_lane).map_err(in_import)
    })
}

/// Says which parts must be read to their end by this run, so that digests are those of all records.
fn tell_taps(scene: &Scene<'_>, tasks: &[CopyTask]) {
    if let Some(taps) = scene.taps {
        for of_one in tasks.chunk_by(|one, next| one.collection == next.collection) {
            taps.divided(of_one[0].collection, of_one.iter().map(|task| &task.partition));
        }
    }
}

/// How records are written into the sink itself.
fn import_pass<'a>(
    counters: &'a Arc<Counters>,
    capabilities: &SinkCapabilities,
    reopen: Arc<Reopen>,
) -> Pass<'a> {
    Pass {
        counters,
        phase: Phase::Import,
        announces_commits: true,
        is_transactional: matches!(
            capabilities.atomicity,
            Atomicity::Transactional | Atomicity::Conditional
        ),
        keeps_lanes: capabilities.lanes,
        is_conditional: capabilities.atomicity == Atomicity::Conditional,
        reopen: Some(reopen),
        taps: None,
    }
}

/// Opens sessions until there are `count` of them.
fn open_further(
    scene: &Scene<'_>,
    further: &Sessions,
    sinks: &mut Vec<OpenedSink>,
    count: usize,
) -> Result<(), Failure> {
    while sinks.len() < count {
        match further.open() {
            Ok(session) => sinks.push(session),
            // Those that are open suffice, though they take longer.
            Err(failure) if failure.error.pauses => {
                say_few_sessions(scene, sinks.len(), &failure);
                break;
            }
            Err(failure) => return Err(failure.in_phase(Phase::Import)),
        }
    }
    Ok(())
}

/// What comes when all records are written; the copy counts as complete if none of its collections has failed.
fn finish(
    scene: &Scene<'_>,
    sinks: &mut [OpenedSink],
    reopen: &Reopen,
    run_lane: RunLane,
) -> Result<(), Failure> {
    crash_site::reach("copied");
    add_constraints(scene, sinks)?;
    crash_site::reach("constraints_added");
    if let Some(sink) = sinks.first_mut().filter(|_| scene.outcomes.failure().is_none()) {
        run_lane.done(scene, &mut Holder { sink, reopen })?;
    }
    for sink in sinks {
        scene.pause.around(|| sink.finalize())?;
    }
    crash_site::reach("finalized");
    Ok(())
}

/// Reads and transforms all planned collections, and writes nothing.
///
/// # Errors
/// The first failure.
pub fn into_nothing(
    scene: &Scene<'_>,
    collections: &[PlannedCollection],
    from: From<'_>,
    counters: &Arc<Counters>,
) -> Result<(), Failure> {
    let pass = Pass {
        counters,
        phase: Phase::Transformation,
        announces_commits: false,
        is_transactional: false,
        keeps_lanes: false,
        is_conditional: false,
        reopen: None,
        taps: None,
    };
    let mut sinks = vec![OpenedSink::of_host("nothing", Box::new(Discard), scene.calls)];
    with_snapshot(scene, from, |from, snapshot| {
        let tasks = tasks(scene, collections, from, snapshot.as_deref(), counters, None)
            .map_err(|failure| failure.in_phase(Phase::Extraction))?;
        move_records(scene, from, snapshot, &mut sinks, &tasks, &pass)
    })
}

/// Runs `body` under one snapshot of the source, if it offers them, and lets it go afterwards.
pub(super) fn with_snapshot<'a, T>(
    scene: &Scene<'_>,
    mut from: From<'a>,
    body: impl FnOnce(&mut From<'a>, Option<String>) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let snapshot = from
        .source
        .open_snapshot()
        .map_err(|failure| failure.in_phase(Phase::Extraction))?;
    let outcome = body(&mut from, snapshot.clone());
    if let Some(snapshot) = snapshot {
        // A token that cannot be let go costs the source room, not the run its result.
        if let Err(failure) = from.source.close_snapshot(&snapshot) {
            scene.emitter.emit(&Event::Log {
                plugin: failure.plugin.clone().unwrap_or_default(),
                level: "warn".to_owned(),
                message: failure.error.message,
            });
        }
    }
    outcome
}

/// Runs the pipeline over `tasks`.
pub(super) fn move_records(
    scene: &Scene<'_>,
    from: &mut From<'_>,
    snapshot: Option<String>,
    sinks: &mut [OpenedSink],
    tasks: &[CopyTask],
    pass: &Pass<'_>,
) -> Result<(), Failure> {
    let (job, import) = (scene.job, &scene.job.import);
    let settings = Settings {
        snapshot,
        readers: readers(job, from.capabilities),
        collections_parallel: job.limits.collections_parallel as usize,
        transforms: scene.transforms.clone(),
        budget: scene.budget.clone(),
        open_source: from.reopen.clone(),
        reading: ReadingContext {
            can_resume: from.capabilities.resume,
            retries_max: import.max_retries,
            retry_delay: Duration::from_millis(import.retry_delay_ms),
            emitter: scene.emitter.clone(),
            stop: scene.stop.clone(),
            pause: Arc::clone(scene.pause),
        },
        on_new_field: import.on_new_field,
        link_batches: import.concurrent_batches as usize,
        batch: batch_bounds(job, pass),
        taps: pass.taps.cloned(),
    };
    let context = WriterContext {
        counters: Arc::clone(pass.counters),
        emitter: scene.emitter.clone(),
        stop: scene.stop.clone(),
        phase: pass.phase,
        announces_commits: pass.announces_commits,
        rules: TransactionRules {
            batch_records: if pass.phase == Phase::Import {
                import.batch_size as usize
            } else {
                usize::MAX
            },
            widens: !scene.facts.sizes_writes,
            commit_records: import.checkpoint_interval,
            commit_age: Duration::from_millis(import.checkpoint_interval_ms),
            timeout: Duration::from_millis(import.transaction_timeout_ms),
            retries_max: import.max_retries,
            retry_delay: Duration::from_millis(import.retry_delay_ms),
            is_transactional: pass.is_transactional,
            keeps_lanes: pass.keeps_lanes,
        },
        overflows: import.on_new_field == NewFieldPolicy::Overflow,
        continues_on_error: import.continue_on_error,
        outcomes: Arc::clone(scene.outcomes),
        pause: Arc::clone(scene.pause),
        barrier: scene.barrier.clone(),
        breaker: Arc::clone(scene.breaker),
        concurrency: Concurrency::new(sinks.len(), &job.sink.plugin, scene.emitter),
        reopen: pass.reopen.clone(),
    };
    copy(from.source, sinks, tasks, &settings, &context);
    match scene.stop.cause() {
        Some(Cause::Failed(failure)) => Err(*failure),
        Some(Cause::Asked) | None => Ok(()),
    }
}

fn batch_bounds(job: &Job, pass: &Pass<'_>) -> BatchBounds {
    let asked = BatchBounds {
        records_max: job.limits.batch_records as usize,
        ..BatchBounds::default()
    };
    if pass.is_conditional {
        BatchBounds {
            records_max: asked.records_max.min(CONDITIONAL_RECORDS_MAX),
            bytes_max: asked.bytes_max.min(CONDITIONAL_BYTES_MAX),
        }
    } else {
        asked
    }
}

/// What slows loading down comes when all is loaded.
fn add_constraints(scene: &Scene<'_>, sinks: &mut [OpenedSink]) -> Result<(), Failure> {
    if let Some(first) = sinks.first_mut() {
        let added = scene.pause.around(|| first.add_constraints());
        for finding in added? {
            scene.emitter.emit(&Event::Found {
                role: Some(whimbrel_plugin_api::manifest::Role::Sink),
                finding,
            });
        }
    }
    Ok(())
}

fn readers(job: &Job, capabilities: &SourceCapabilities) -> usize {
    let wanted = (job.limits.collections_parallel.max(1) * job.limits.partitions_parallel.max(1)) as usize;
    match capabilities.streams_max {
        0 => wanted,
        max => wanted.min(max as usize),
    }
}

/// Divides each collection, and lists the parts so that several collections are under way at once.
pub(super) fn tasks(
    scene: &Scene<'_>,
    collections: &[PlannedCollection],
    from: &mut From<'_>,
    snapshot: Option<&str>,
    counters: &Counters,
    course: Option<&Course>,
) -> Result<Vec<CopyTask>, Failure> {
    let mut tasks = Vec::new();
    for (index, planned) in collections.iter().enumerate() {
        // A sample is taken from the collection as a whole: parts would each add their own.
        let earlier = course.and_then(|course| course.partitions(&planned.source.name));
        let partitions = if let Some(earlier) = earlier {
            earlier
        } else if from.capabilities.partitions && planned.limit.is_none() {
            from.source.partitions(&PartitionsRequest {
                collection: planned.source.name.clone(),
                snapshot: snapshot.map(str::to_owned),
                wanted: scene.job.limits.partitions_parallel,
            })?
        } else {
            vec![whimbrel_plugin_api::Partition::whole()]
        };
        counters
            .of(index)
            .partitions_total
            .store(partitions.len() as u64, Ordering::Relaxed);
        let (source, sink) = (Arc::new(planned.source.clone()), Arc::new(planned.sink.clone()));
        for partition in partitions {
            tasks.push(CopyTask {
                from: Arc::clone(&source),
                transforms: Arc::clone(&planned.transforms),
                limit: planned.limit,
                collection: index,
                source_name: planned.source.name.clone(),
                into: Arc::clone(&sink),
                machine: lanes::unkept(scene, &planned.source.name, &partition)?,
                partition,
                policy: planned.policy,
                waits_for: Arc::default(),
                held_back: HeldBack::Nothing,
            });
        }
    }
    Ok(tasks)
}
