//! Extraction, transformation and import, overlapped: prepares the sink, copies, adds constraints, ends the sessions.
//! Neighbour: [`crate::pipeline`] moves the batches.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use whimbrel_plugin_api::capability::{SinkCapabilities, SourceCapabilities};
use whimbrel_plugin_api::partition::PartitionsRequest;
use whimbrel_plugin_api::sink::PrepareRequest;
use whimbrel_plugin_api::source::BatchBounds;

use crate::config::Job;
use crate::control::Cause;
use crate::control::Stop;
use crate::events::{Emitter, Event, Failure, Phase};
use crate::loader::observe::{OpenedSink, OpenedSource, Opener};
use crate::pipeline::copy::Settings;
use crate::pipeline::writer::WriterContext;
use crate::pipeline::{CopyTask, Counters, copy};
use crate::plan::{PlannedCollection, blockers};

/// Sessions that are opened at most, whatever the sink allows: two cores gain nothing from more.
const SESSIONS_MAX: usize = 4;
/// Part of the memory budget that may wait in links; the rest is for plugins and the program itself.
const LINK_SHARE: u64 = 4;

/// Both sides with what they can do.
pub struct Sides<'a> {
    /// The source.
    pub source: &'a mut OpenedSource,
    /// Its capabilities.
    pub source_capabilities: &'a SourceCapabilities,
    /// The first session of the sink.
    pub sink: OpenedSink,
    /// Its capabilities.
    pub sink_capabilities: &'a SinkCapabilities,
    /// Opens further sessions.
    pub sink_opener: &'a Opener,
}

/// What a copy reports to.
pub struct Watch<'a> {
    /// Where events go.
    pub emitter: &'a Emitter,
    /// What passed.
    pub counters: &'a Arc<Counters>,
    /// Ends everything.
    pub stop: &'a Stop,
    /// Rejected records.
    pub writers: &'a WriterContext,
}

/// Copies all planned collections.
///
/// # Errors
/// The first failure. That somebody asked for an end is none: the stop's cause says so.
pub fn run(
    job: &Job,
    collections: &[PlannedCollection],
    sides: Sides<'_>,
    watch: &Watch<'_>,
) -> Result<(), Failure> {
    let Sides {
        source,
        source_capabilities,
        mut sink,
        sink_capabilities,
        sink_opener,
    } = sides;
    let report = sink
        .prepare(&PrepareRequest {
            collections: collections.iter().map(|planned| planned.sink.clone()).collect(),
            dry: false,
        })
        .map_err(|failure| failure.in_phase(Phase::Import))?;
    if let Some(blocker) = blockers(&report.findings).next() {
        let error = whimbrel_plugin_api::Error::config(&blocker.code, &blocker.message);
        return Err(Failure::from(error).in_phase(Phase::Import));
    }
    let snapshot = source
        .open_snapshot()
        .map_err(|failure| failure.in_phase(Phase::Extraction))?;
    let copied = copy_all(
        job,
        collections,
        source,
        source_capabilities,
        sink,
        sink_capabilities,
        sink_opener,
        snapshot.clone(),
        watch,
    );
    if let Some(snapshot) = snapshot {
        // A token that cannot be let go costs the source room, not the run its result.
        if let Err(failure) = source.close_snapshot(&snapshot) {
            watch.emitter.emit(&Event::Log {
                plugin: failure.plugin.clone().unwrap_or_default(),
                level: "warn".to_owned(),
                message: failure.error.message,
            });
        }
    }
    copied
}

#[expect(
    clippy::too_many_arguments,
    reason = "the parts of `Sides`, taken apart since the sink moves"
)]
fn copy_all(
    job: &Job,
    collections: &[PlannedCollection],
    source: &mut OpenedSource,
    source_capabilities: &SourceCapabilities,
    sink: OpenedSink,
    sink_capabilities: &SinkCapabilities,
    sink_opener: &Opener,
    snapshot: Option<String>,
    watch: &Watch<'_>,
) -> Result<(), Failure> {
    let tasks = tasks(
        job,
        collections,
        source,
        source_capabilities,
        snapshot.as_deref(),
        watch.counters,
    )
    .map_err(|failure| failure.in_phase(Phase::Extraction))?;
    let mut sinks = vec![sink];
    let sessions = match sink_capabilities.sessions_max {
        0 => SESSIONS_MAX,
        max => SESSIONS_MAX.min(max as usize),
    };
    while sinks.len() < sessions.min(tasks.len()) {
        let session = sink_opener
            .open_sink(&job.sink.config)
            .map_err(|failure| failure.in_phase(Phase::Import))?;
        sinks.push(session);
    }
    let settings = Settings {
        job: job.name.clone(),
        source_fingerprint: job.source.plugin.clone(),
        snapshot,
        readers: readers(job, source_capabilities),
        budget_bytes: u64::from(job.limits.memory_mb) * 1024 * 1024 / LINK_SHARE,
        batch: BatchBounds {
            records_max: job.limits.batch_records as usize,
            ..BatchBounds::default()
        },
    };
    copy(source, &mut sinks, &tasks, &settings, watch.writers);
    match watch.stop.cause() {
        Some(Cause::Failed(failure)) => return Err(*failure),
        Some(Cause::Asked) => {}
        None => {
            for sink in &mut sinks[..1] {
                for finding in sink
                    .add_constraints()
                    .map_err(|failure| failure.in_phase(Phase::Import))?
                {
                    watch.emitter.emit(&Event::Found {
                        role: Some(whimbrel_plugin_api::manifest::Role::Sink),
                        finding,
                    });
                }
            }
            for sink in &mut sinks {
                sink.finalize()
                    .map_err(|failure| failure.in_phase(Phase::Import))?;
            }
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
fn tasks(
    job: &Job,
    collections: &[PlannedCollection],
    source: &mut OpenedSource,
    capabilities: &SourceCapabilities,
    snapshot: Option<&str>,
    counters: &Counters,
) -> Result<Vec<CopyTask>, Failure> {
    let mut tasks = Vec::new();
    for (index, planned) in collections.iter().enumerate() {
        let partitions = if capabilities.partitions {
            source.partitions(&PartitionsRequest {
                collection: planned.source.name.clone(),
                snapshot: snapshot.map(str::to_owned),
                wanted: job.limits.partitions_parallel,
            })?
        } else {
            vec![whimbrel_plugin_api::Partition::whole()]
        };
        counters
            .of(index)
            .partitions_total
            .store(partitions.len() as u64, Ordering::Relaxed);
        let schema = Arc::new(planned.source.schema.clone());
        tasks.extend(partitions.into_iter().map(|partition| CopyTask {
            schema: Arc::clone(&schema),
            collection: index,
            source_name: planned.source.name.clone(),
            sink_name: planned.sink.name.clone(),
            partition,
            policy: planned.policy,
        }));
    }
    Ok(tasks)
}
