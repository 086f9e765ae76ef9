//! Verification: reads both sides once more and compares them, collection by collection.
//!
//! The sink is read back over a session of its own, after the writing ones have ended.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use whimbrel_plugin_api::capability::{Loss, SourceCapabilities};
use whimbrel_plugin_api::collection::FieldLoss;
use whimbrel_plugin_api::sink::PrepareRequest;
use whimbrel_plugin_api::{Collection, ConflictPolicy, Field, Finding};

use super::sink_checks::SinkChecks;
use crate::config::VerificationLevel;
use crate::control::Stop;
use crate::events::{Emitter, Event, Failure, Phase, ReferenceResult, VerificationResult};
use crate::loader::observe::{OpenedSink, OpenedSource};
use crate::plan::{PlannedCollection, take_losses};
use crate::transform::Transforms;
use crate::verification::full::{self, FullSettings};
use crate::verification::tap::Taps;
use crate::verification::{Comparable, LeftOut, compare};
use crate::workspace::file_names;

/// What is compared, and how.
pub struct Scene<'a> {
    /// The collections, each at its own level.
    pub collections: &'a [PlannedCollection],
    /// The loaded transforms.
    pub transforms: &'a Transforms,
    /// The records that a run has left out, by the number of their collection.
    pub left_out: &'a BTreeMap<usize, LeftOut>,
    /// How many records of the source were just read, by collection, where that is known.
    pub counted: &'a BTreeMap<usize, u64>,
    /// What has made digests while a copy has just read the source; none if nothing was copied.
    pub taps: Option<&'a Taps>,
    /// Where events go.
    pub emitter: &'a Emitter,
    /// Ends everything.
    pub stop: &'a Stop,
    /// Where comprehensive comparisons keep what they need to go on; a folder for each collection.
    pub work_folder: PathBuf,
    /// Where differences are listed; a file for each collection.
    pub results_folder: PathBuf,
    /// Whether values are listed too.
    pub shows_values: bool,
    /// Whether only the sink is read, for its digests and its schema: nothing is compared.
    pub is_of_sink_alone: bool,
    /// Parts of a collection that are read at the same time.
    pub partitions_parallel: u32,
    /// Octets that digests may take in memory.
    pub memory_bytes_max: usize,
    /// What the source can do.
    pub source_can: SourceCapabilities,
    /// What the sink can do when it is read.
    pub sink_can: SourceCapabilities,
    /// What was found of the references in the source before anything was written, if that was looked for.
    pub known_references: &'a [ReferenceResult],
    /// Whether the job wants records to be looked for that point to nothing.
    pub searches_orphans: bool,
}

/// What was found.
#[derive(Debug, Default)]
pub struct Verified {
    /// The comparisons.
    pub results: Vec<VerificationResult>,
    /// The references within the sink.
    pub sink_references: Vec<ReferenceResult>,
    /// Hints about the sink.
    pub findings: Vec<Finding>,
}

/// Compares all collections.
///
/// # Errors
/// The first comparison that could not be made.
pub fn run(scene: &Scene<'_>, source: &mut OpenedSource, sink: &mut OpenedSink) -> Result<Verified, Failure> {
    let mut attempt = || -> Result<Verified, Failure> {
        let mut reader = sink.reader()?;
        let mut checks = SinkChecks::begin(scene, sink, &mut reader)?;
        let mut results = Vec::with_capacity(scene.collections.len());
        let none = LeftOut::default();
        // A collection of the source may go into several of the sink.
        let files = file_names(scene.collections.iter().map(|planned| planned.sink.name.as_str()));
        for (index, planned) in scene.collections.iter().enumerate() {
            if planned.verification == VerificationLevel::None {
                continue;
            }
            let both = Comparable {
                source: &planned.source,
                sink: &planned.sink,
                transforms: scene.transforms,
                jobs: &planned.transforms,
                sample: planned.limit,
                counted: scene.counted.get(&index).copied(),
                left_out: scene.left_out.get(&index).unwrap_or(&none),
                // What is merged into records of the sink leaves their own fields to them.
                names_others: planned.policy != ConflictPolicy::Merge,
            };
            let mut follow = |fields| with_new_fields(sink, &planned.sink, fields);
            let seen = AtomicU64::new(0);
            let progress = |records: u64| {
                let record_count = seen.fetch_add(records, Ordering::Relaxed) + records;
                scene.emitter.emit(&Event::VerificationProgress {
                    collection: planned.source.name.clone(),
                    record_count,
                });
            };
            let compared = if planned.verification == VerificationLevel::Comprehensive {
                let settings = FullSettings {
                    work_folder: &scene.work_folder.join(&files[index]),
                    results_file: &scene.results_folder.join(format!("{}.ndjson", files[index])),
                    shows_values: scene.shows_values,
                    partitions_parallel: scene.partitions_parallel,
                    source_can: scene.source_can.clone(),
                    sink_can: scene.sink_can.clone(),
                    memory_bytes_max: scene.memory_bytes_max,
                };
                if scene.is_of_sink_alone {
                    let read = full::read_back(&mut reader, &both, &settings, scene.stop, &progress);
                    results.push(checks.add_to(index, read, &mut reader, &files[index])?);
                    continue;
                }
                full::compare(
                    source,
                    &mut reader,
                    &both,
                    scene.taps.and_then(|taps| taps.take(index, both.counted)),
                    &settings,
                    &mut follow,
                    scene.stop,
                    &progress,
                )
            } else {
                compare(
                    source,
                    &mut reader,
                    &both,
                    planned.verification,
                    &mut follow,
                    scene.stop,
                    &mut |records| progress(records),
                )
            };
            let file = format!("{}.ndjson", files[index]);
            results.push(checks.add_to(index, compared, &mut reader, &file)?);
        }
        checks.end(source, &mut reader, results)
    };
    attempt().map_err(|failure| failure.in_phase(Phase::Verification))
}

/// The collection with fields that turned up after it was planned, and with what the sink loses of them. Records that came
/// before such a field had a place are null in it, not absent.
fn with_new_fields(
    sink: &mut OpenedSink,
    planned: &Collection,
    fields: Vec<Field>,
) -> Result<Collection, Failure> {
    let mut grown = planned.clone();
    for field in fields {
        grown.losses.push(FieldLoss {
            field: field.name.clone(),
            loss: Loss::AbsentToNull,
        });
        grown.schema.fields.push(field);
    }
    let report = sink.prepare(&PrepareRequest {
        collections: vec![grown.clone()],
        dry: true,
        again: true,
    })?;
    for prepared in &report.collections {
        take_losses(&mut grown, prepared);
    }
    Ok(grown)
}
