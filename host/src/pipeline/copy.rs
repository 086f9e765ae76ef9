//! Copies the planned collections: opens streams in order, runs readers and writers side by side, waits for all.
//! Neighbours: `reader` and `writer` are the two ends, `link` what joins them.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, unbounded};
use whimbrel_plugin_api::source::{BatchBounds, ReadRequest};
use whimbrel_plugin_api::{Collection, ConflictPolicy, Partition};

use super::budget::Budget;
use super::dispatch::{Dispatch, Next};
use super::held_back::HeldBack;
use super::link::{LinkItem, link};
use super::reader;
use super::reconnect::{OpenAnew, ReadingContext, ReconnectingStream, SharedSource};
use super::transformer::{Work, transform};
use super::writer::{self, WriterContext};
use crate::checkpoint::{Lane, LaneCounts};
use crate::config::{NewFieldPolicy, TransformJob};
use crate::events::{Failure, Phase};
use crate::loader::observe::{OpenedSink, OpenedSource};
use crate::transform::Transforms;
use crate::verification::tap::{Tap, Taps};

/// How often progress is announced, and whoever waits looks whether the run ends.
const TICK: Duration = Duration::from_millis(100);

/// One partition to copy.
#[derive(Debug, Clone)]
pub struct CopyTask {
    /// The collection's number in the plan.
    pub collection: usize,
    /// In the source.
    pub source_name: String,
    /// As the sink was prepared to hold it.
    pub into: Arc<Collection>,
    /// As the source has it; the schema is the one that everything after was prepared for.
    pub from: Arc<Collection>,
    /// What changes its records on the way.
    pub transforms: Arc<[TransformJob]>,
    /// At most so many records.
    pub limit: Option<u64>,
    /// The part.
    pub partition: Partition,
    /// What is durable of it, and under which epoch it is held.
    pub machine: Lane,
    /// What happens to records that the sink has already.
    pub policy: ConflictPolicy,
    /// Numbers of the collections that must be complete before.
    pub waits_for: Arc<[usize]>,
    /// Fields that this pass leaves to another one, or that it is about.
    pub held_back: HeldBack,
}

/// What a copy needs besides its tasks.
pub struct Settings {
    /// The snapshot that is read.
    pub snapshot: Option<String>,
    /// Streams that may be read at the same time.
    pub readers: usize,
    /// Collections that may be under way at the same time.
    pub collections_parallel: usize,
    /// The loaded transforms.
    pub transforms: Transforms,
    /// What happens to a field that is new.
    pub on_new_field: NewFieldPolicy,
    /// Octets that may wait in links.
    pub budget: Budget,
    /// Batches that may wait in one link.
    pub link_batches: usize,
    /// Bounds of a batch.
    pub batch: BatchBounds,
    /// Opens the source once more when it is spoilt; none for what the host itself reads from.
    pub open_source: Option<Arc<OpenAnew<'static>>>,
    /// How streams are taken up again.
    pub reading: ReadingContext,
    /// Makes digests of what is copied; none if nobody wants them.
    pub taps: Option<Taps>,
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
    let (finished, wait_finished) = crossbeam_channel::bounded::<()>(0);
    std::thread::scope(|scope| {
        scope.spawn(move || {
            // Ends when the copy ends, since then the other half is dropped.
            while wait_finished.recv_timeout(TICK) == Err(crossbeam_channel::RecvTimeoutError::Timeout) {
                context.counters.announce(&context.emitter);
            }
        });
        let shared = SharedSource::new(source, settings.open_source.as_deref());
        std::thread::scope(|scope| copy_scoped(scope, &shared, sinks, tasks, settings, context));
        drop(finished);
    });
    context.counters.announce(&context.emitter);
}

struct ReadJob<'a, 's> {
    stream: ReconnectingStream<'a, 's>,
    task: &'a CopyTask,
    link: Sender<LinkItem>,
}

fn copy_scoped<'scope>(
    scope: &'scope std::thread::Scope<'scope, '_>,
    source: &'scope SharedSource<'_>,
    sinks: &'scope mut [OpenedSink],
    tasks: &'scope [CopyTask],
    settings: &'scope Settings,
    context: &'scope WriterContext,
) {
    let mut lane_senders = Vec::new();
    let mut writers = Vec::new();
    for sink in sinks {
        let (sender, receiver) = unbounded::<writer::Lane>();
        lane_senders.push(sender);
        writers.push(scope.spawn(move || {
            if let Err(failure) = writer::write(sink, &receiver, &settings.budget, context) {
                context.stop.fail(failure);
            }
        }));
    }
    // A rendezvous: the next stream is opened only when a reader is free to read it.
    let (jobs, waiting) = crossbeam_channel::bounded::<ReadJob<'scope, '_>>(0);
    let readers: Vec<_> = (0..settings.readers.clamp(1, tasks.len().max(1)))
        .map(|_| {
            let waiting = waiting.clone();
            scope.spawn(move || read_jobs(&waiting, settings, context))
        })
        .collect();
    drop(waiting);
    let mut dispatch = Dispatch::new(tasks, settings.collections_parallel, context);
    let mut number = 0;
    while !context.stop.is_raised() {
        let ended = context.counters.ended();
        let task = match dispatch.next() {
            Next::Task(task) => task,
            Next::Wait => {
                // What else may change it, a failure or an end of the run, is seen after a tick.
                context.counters.wait_for_end(ended, TICK);
                continue;
            }
            Next::Done => break,
        };
        let lanes = &lane_senders[number % lane_senders.len()];
        number += 1;
        if !start(source, task, settings, context, &jobs, lanes) {
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
fn start<'a, 's>(
    source: &'a SharedSource<'s>,
    task: &'a CopyTask,
    settings: &'a Settings,
    context: &WriterContext,
    jobs: &Sender<ReadJob<'a, 's>>,
    lanes: &Sender<writer::Lane>,
) -> bool {
    let request = ReadRequest {
        collection: task.source_name.clone(),
        partition: Some(task.partition.clone()),
        snapshot: settings.snapshot.clone(),
        cursor: task.machine.state().cursor.clone(),
        limit: task.limit.map(|limit| {
            let counts = LaneCounts::of(&task.machine.state().extensions);
            limit.saturating_sub(counts.read)
        }),
        batch: settings.batch,
        ..ReadRequest::default()
    };
    let opened = ReconnectingStream::open(source, request, &settings.reading);
    let stream = match opened {
        Ok(stream) => stream,
        Err(failure) => return fail(task, context, failure.in_phase(Phase::Extraction)),
    };
    let (sender, receiver) = link(settings.link_batches);
    let lane = writer::Lane {
        machine: task.machine.clone(),
        collection: task.collection,
        source_name: task.source_name.clone(),
        partition: task.partition.label.clone(),
        into: Arc::clone(&task.into),
        policy: task.policy,
        held_back: task.held_back.clone(),
        link: receiver,
    };
    let mut job = ReadJob {
        stream,
        task,
        link: sender,
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

/// A collection has failed before or in its reading: ends the run, or only the collection. False if the run ends.
fn fail(task: &CopyTask, context: &WriterContext, failure: Failure) -> bool {
    if context.continues_on_error {
        context
            .outcomes
            .fail(&context.emitter, task.collection, &task.source_name, failure);
        context.counters.something_ended();
        return true;
    }
    context.stop.fail(failure);
    false
}

fn read_jobs(waiting: &Receiver<ReadJob<'_, '_>>, settings: &Settings, context: &WriterContext) {
    for job in waiting {
        let task = job.task;
        if let Err(failure) = move_one(job, settings, context) {
            fail(task, context, failure);
        }
        if context.stop.is_raised() {
            // Orders the flag before the closing of the link, which the writer takes for the end of its reader.
            std::sync::atomic::fence(Ordering::SeqCst);
            return;
        }
    }
}

/// Reads one partition, through its transforms if there are any, into the link of its writer.
fn move_one(job: ReadJob<'_, '_>, settings: &Settings, context: &WriterContext) -> Result<(), Failure> {
    let ReadJob {
        stream,
        task,
        link: to,
    } = job;
    let counters = context.counters.of(task.collection);
    let planned = &task.from.schema;
    let from_cursor = &task.machine.state().cursor;
    // The writer takes the closing of its link for an end, so a failure must be known before that.
    let known = |outcome: Result<(), Failure>, to: Sender<LinkItem>| {
        if let Err(failure) = &outcome {
            fail(task, context, failure.clone());
        }
        drop(to);
        outcome
    };
    let (tap, transformer_tap) = taps_of(task, settings);
    let read_into = |to: &Sender<LinkItem>| {
        reader::read(
            stream,
            from_cursor.clone(),
            reader::Planned {
                collection: &task.from.name,
                schema: planned,
            },
            settings.on_new_field,
            to,
            counters,
            &settings.budget,
            tap,
            &context.stop,
        )
    };
    if task.transforms.is_empty() {
        return known(read_into(&to), to);
    }
    let (between, from) = link(settings.link_batches);
    let work = Work {
        transforms: &settings.transforms,
        jobs: &task.transforms,
        collection: &task.from,
        counters,
        from: from_cursor,
        stop: &context.stop,
    };
    std::thread::scope(|scope| {
        let transformer = scope.spawn(|| {
            let outcome = transform(&work, &from, &to, transformer_tap);
            drop(from);
            outcome
        });
        let read = read_into(&between);
        if let Err(failure) = &read {
            fail(task, context, failure.clone());
        }
        drop(between);
        let transformed = match transformer.join() {
            Ok(outcome) => outcome,
            Err(panic) => std::panic::resume_unwind(panic),
        };
        known(read.and(transformed), to.clone())
    })
}

/// What makes digests of the records that are read, and of those that come out of transforms.
fn taps_of(task: &CopyTask, settings: &Settings) -> (Option<Tap>, Option<Tap>) {
    let tapping = settings.taps.as_ref().and_then(|taps| {
        let from = &task.machine.state().cursor;
        taps.open(task.collection, &task.partition, from)
    });
    tapping.map_or((None, None), |tapping| {
        (Some(tapping.reading), tapping.transforming)
    })
}

#[cfg(test)]
mod tests;
