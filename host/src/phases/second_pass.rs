//! The second pass of an import: sets the fields that the first one has left null, since they close a circle of references.
//!
//! It reads the collections in question once more, under the same snapshot. Each record is counted once: what the first pass
//! has counted and told is not counted and told again. Neighbour: `copying` makes the first pass.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use whimbrel_plugin_api::Partition;
use whimbrel_plugin_api::capability::SinkCapabilities;

use super::copying::{From, Pass, Scene, move_records};
use crate::events::{Event, Failure, Phase};
use crate::loader::observe::OpenedSink;
use crate::pipeline::{CopyTask, Counters, HeldBack};
use crate::plan::{PlannedCollection, second_pass_policy};

/// Makes `tasks` wait for what they must, and leave out what closes a circle; answers the tasks of a second pass.
pub(super) fn divide(
    tasks: &mut [CopyTask],
    collections: &[PlannedCollection],
    sink: &SinkCapabilities,
) -> Vec<CopyTask> {
    let numbers: HashMap<&str, usize> = collections
        .iter()
        .map(|planned| planned.sink.name.as_str())
        .zip(0..)
        .collect();
    let mut again = Vec::new();
    for task in tasks {
        let planned = &collections[task.collection];
        let parents = planned.waits_for.iter();
        task.waits_for = parents
            .filter_map(|name| numbers.get(name.as_str()).copied())
            .collect();
        if planned.held_back.is_empty() {
            continue;
        }
        let fields: Arc<[String]> = planned.held_back.clone().into();
        // Its lane has commits of its own, so what it refuses must not be held against those of the first pass.
        let partition = Partition {
            label: format!("{}, second pass", task.partition.label),
            ..task.partition.clone()
        };
        again.push(CopyTask {
            partition,
            held_back: HeldBack::Set(Arc::clone(&fields)),
            policy: second_pass_policy(sink).unwrap_or(task.policy),
            waits_for: Arc::default(),
            ..task.clone()
        });
        task.held_back = HeldBack::Null(fields);
    }
    again
}

/// Carries out the tasks of a second pass.
///
/// # Errors
/// The first failure; the collections in question count as incomplete then.
pub(super) fn run(
    scene: &Scene<'_>,
    from: &mut From<'_>,
    snapshot: Option<String>,
    sinks: &mut [OpenedSink],
    tasks: &[CopyTask],
    first: &Pass<'_>,
) -> Result<(), Failure> {
    if tasks.is_empty() {
        return Ok(());
    }
    let mut partitions: HashMap<usize, u64> = HashMap::new();
    for task in tasks {
        *partitions.entry(task.collection).or_default() += 1;
    }
    let counters = Counters::silent(first.counters.len());
    for (collection, count) in &partitions {
        counters
            .of(*collection)
            .partitions_total
            .store(*count, Ordering::Relaxed);
        first
            .counters
            .of(*collection)
            .partitions_done
            .fetch_sub(1, Ordering::Relaxed);
    }
    let mut names: Vec<&str> = tasks.iter().map(|task| task.source_name.as_str()).collect();
    names.dedup();
    scene.emitter.emit(&Event::Log {
        plugin: "references".to_owned(),
        level: "info".to_owned(),
        message: format!(
            "second pass: setting the fields that close a circle of references in `{}`",
            names.join("`, `")
        ),
    });
    let outcomes = Arc::new(scene.outcomes.second_of_two());
    let second = Scene {
        outcomes: &outcomes,
        ..*scene
    };
    let pass = Pass {
        counters: &counters,
        phase: Phase::Import,
        announces_commits: false,
        is_transactional: first.is_transactional,
        keeps_lanes: first.keeps_lanes,
        is_conditional: first.is_conditional,
        reopen: first.reopen.clone(),
        // The first pass has shown them whole records.
        taps: None,
    };
    let moved = move_records(&second, from, snapshot, sinks, tasks, &pass);
    for collection in partitions.keys() {
        let (total, own) = (first.counters.of(*collection), counters.of(*collection));
        total.restore_snapshots(&own.snapshots());
        let rejected = own.rejected.load(Ordering::Relaxed);
        total.rejected.fetch_add(rejected, Ordering::Relaxed);
        total.written.fetch_sub(
            rejected.min(total.written.load(Ordering::Relaxed)),
            Ordering::Relaxed,
        );
        if own.is_complete() {
            total.partitions_done.fetch_add(1, Ordering::Relaxed);
        }
    }
    moved?;
    match outcomes.too_many(0) {
        Some(error) => Err(Failure::from(error).in_phase(Phase::Import)),
        None => Ok(()),
    }
}
