//! Copies the planned collections: opens streams in order, runs readers and writers side by side, waits for all.
//! Neighbours: `reader` and `writer` are the two ends, `link` what joins them.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, unbounded};
use whimbrel_plugin_api::sink::LaneId;
use whimbrel_plugin_api::source::{BatchBounds, ReadRequest};
use whimbrel_plugin_api::{ConflictPolicy, Partition, Schema};

use super::budget::Budget;
use super::link::link;
use super::reader;
use super::writer::{self, Lane, WriterContext};
use crate::events::{Failure, Phase};
use crate::loader::observe::{OpenedSink, OpenedSource, OpenedStream};

/// How often progress is announced.
const TICK: Duration = Duration::from_millis(100);

/// One partition to copy.
#[derive(Debug, Clone)]
pub struct CopyTask {
    /// The collection's number in the plan.
    pub collection: usize,
    /// In the source.
    pub source_name: String,
    /// In the sink.
    pub sink_name: String,
    /// The schema that the sink was prepared for.
    pub schema: Arc<Schema>,
    /// The part.
    pub partition: Partition,
    /// What happens to records that the sink has already.
    pub policy: ConflictPolicy,
}

/// What a copy needs besides its tasks.
pub struct Settings {
    /// The job's name.
    pub job: String,
    /// What identifies the source.
    pub source_fingerprint: String,
    /// The snapshot that is read.
    pub snapshot: Option<String>,
    /// Streams that may be read at the same time.
    pub readers: usize,
    /// Octets that may wait in links.
    pub budget_bytes: u64,
    /// Bounds of a batch.
    pub batch: BatchBounds,
}

/// Copies `tasks` from `source` through one writer per session of `sinks`. Ends with the first failure, which is kept in
/// the context's `stop`; sessions are given back in either case.
pub fn copy(
    source: &mut OpenedSource,
    sinks: &mut [OpenedSink],
    tasks: &[CopyTask],
    settings: &Settings,
    context: &WriterContext,
) {
    let budget = Budget::new(settings.budget_bytes);
    let (finished, wait_finished) = crossbeam_channel::bounded::<()>(0);
    std::thread::scope(|scope| {
        scope.spawn(move || {
            // Ends when the copy ends, since then the other half is dropped.
            while wait_finished.recv_timeout(TICK) == Err(crossbeam_channel::RecvTimeoutError::Timeout) {
                context.counters.announce(&context.emitter);
            }
        });
        copy_scoped(scope, source, sinks, tasks, settings, context, &budget);
        drop(finished);
    });
    context.counters.announce(&context.emitter);
}

struct ReadJob {
    stream: OpenedStream,
    schema: Arc<Schema>,
    link: Sender<super::link::LinkItem>,
    collection: usize,
}

fn copy_scoped<'scope>(
    scope: &'scope std::thread::Scope<'scope, '_>,
    source: &mut OpenedSource,
    sinks: &'scope mut [OpenedSink],
    tasks: &[CopyTask],
    settings: &Settings,
    context: &'scope WriterContext,
    budget: &Budget,
) {
    let mut lane_senders = Vec::new();
    let mut writers = Vec::new();
    for sink in sinks {
        let (sender, receiver) = unbounded::<Lane>();
        lane_senders.push(sender);
        writers.push(scope.spawn(move || {
            if let Err(failure) = writer::write(sink, &receiver, context) {
                context.stop.fail(failure);
            }
        }));
    }
    // A rendezvous: the next stream is opened only when a reader is free to read it.
    let (jobs, waiting) = crossbeam_channel::bounded::<ReadJob>(0);
    let readers: Vec<_> = (0..settings.readers.clamp(1, tasks.len().max(1)))
        .map(|_| {
            let (waiting, budget) = (waiting.clone(), budget.clone());
            scope.spawn(move || read_jobs(&waiting, context, &budget))
        })
        .collect();
    drop(waiting);
    for (number, task) in tasks.iter().enumerate() {
        if context.stop.is_raised()
            || !start(
                source,
                task,
                settings,
                context,
                &jobs,
                &lane_senders[number % lane_senders.len()],
            )
        {
            break;
        }
    }
    drop(jobs);
    // A reader or writer that panics is a defect of the host; the scope passes it on.
    for reader in readers {
        if let Err(panic) = reader.join() {
            std::panic::resume_unwind(panic);
        }
    }
    drop(lane_senders);
    for writer in writers {
        if let Err(panic) = writer.join() {
            std::panic::resume_unwind(panic);
        }
    }
}

/// Opens the stream of one task and hands it over; false if the run ends.
fn start(
    source: &mut OpenedSource,
    task: &CopyTask,
    settings: &Settings,
    context: &WriterContext,
    jobs: &Sender<ReadJob>,
    lanes: &Sender<Lane>,
) -> bool {
    let request = ReadRequest {
        collection: task.source_name.clone(),
        partition: Some(task.partition.clone()),
        snapshot: settings.snapshot.clone(),
        batch: settings.batch,
        ..ReadRequest::default()
    };
    let stream = match source.read(&request) {
        Ok(stream) => stream,
        Err(failure) => {
            context.stop.fail(failure.in_phase(Phase::Extraction));
            return false;
        }
    };
    let (sender, receiver) = link();
    let lane = Lane {
        id: LaneId {
            job: settings.job.clone(),
            source: settings.source_fingerprint.clone(),
            collection: task.source_name.clone(),
            partition: task.partition.descriptor.clone(),
        },
        collection: task.collection,
        source_name: task.source_name.clone(),
        sink_name: task.sink_name.clone(),
        policy: task.policy,
        link: receiver,
    };
    let mut job = ReadJob {
        stream,
        schema: Arc::clone(&task.schema),
        link: sender,
        collection: task.collection,
    };
    if lanes.send(lane).is_err() {
        return false;
    }
    loop {
        match jobs.send_timeout(job, TICK) {
            Ok(()) => return true,
            Err(crossbeam_channel::SendTimeoutError::Disconnected(_)) => return false,
            Err(crossbeam_channel::SendTimeoutError::Timeout(back)) => {
                if context.stop.is_raised() {
                    return false;
                }
                job = back;
            }
        }
    }
}

fn read_jobs(waiting: &Receiver<ReadJob>, context: &WriterContext, budget: &Budget) {
    for job in waiting {
        let counters = context.counters.of(job.collection);
        let outcome: Result<(), Failure> = reader::read(
            job.stream,
            &job.schema,
            &job.link,
            counters,
            budget,
            &context.stop,
        );
        if let Err(failure) = outcome {
            context.stop.fail(failure);
        }
        if context.stop.is_raised() {
            // Orders the flag before the closing of the link, which the writer takes for the end of its reader.
            std::sync::atomic::fence(Ordering::SeqCst);
            return;
        }
    }
}
