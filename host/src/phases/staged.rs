//! Extraction and transformation of a staged run, each into a folder of files, one after the other.
//!
//! What extraction has read stays until the run succeeds, so that an import that is repeated does not read the source
//! again. Neighbours: `copying` moves the records, [`crate::pipeline::staging`] keeps them.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use whimbrel_plugin_api::capability::SourceCapabilities;
use whimbrel_plugin_api::{Collection, Error};

use super::copying::{From, Pass, Scene, move_records, tasks, with_snapshot};
use crate::events::{Failure, Phase};
use crate::loader::observe::{CallLog, OpenedSink, OpenedSource};
use crate::pipeline::staging::{Stage, StageManifest, StageSource};
use crate::pipeline::{CopyTask, Counters, Outcomes};
use crate::plan::PlannedCollection;

/// Sessions that fill a stage: each core has one to encode for.
const SESSIONS: usize = 2;

/// The stages of one job.
#[derive(Debug, Clone)]
pub struct Stages {
    /// What the source gave.
    pub extracted: PathBuf,
    /// What transforms made of it.
    pub transformed: PathBuf,
}

impl Stages {
    /// The stages under `folder`.
    pub fn of(folder: &Path) -> Self {
        Self {
            extracted: folder.join("extracted"),
            transformed: folder.join("transformed"),
        }
    }

    /// Removes both.
    ///
    /// # Errors
    /// What the system says, if there was something to remove.
    pub fn remove(&self) -> std::io::Result<()> {
        for folder in [&self.extracted, &self.transformed] {
            match std::fs::remove_dir_all(folder) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
                Ok(()) | Err(_) => {}
            }
        }
        // The folder of the job goes as well if nothing else is in it.
        if let Some(parent) = self.extracted.parent() {
            drop(std::fs::remove_dir(parent));
        }
        Ok(())
    }
}

/// What is staged is not what the run would make that goes on with it, and making that would be the end of it.
pub fn other_stage() -> Error {
    Error::config(
        "resume.other_stage",
        "what the earlier run has staged and written in part was made from something else than this run's job says",
    )
    .with_help("undo the change and resume again, or begin anew with `whimbrel run`")
}

/// A complete stage, opened as a source.
pub fn open(folder: &Path, manifest: &Arc<StageManifest>, calls: &Arc<CallLog>) -> OpenedSource {
    OpenedSource::of_host(
        "staging",
        Box::new(StageSource::new(folder, Arc::clone(manifest))),
        calls,
    )
}

/// What a stage can do as a source.
pub fn capabilities() -> SourceCapabilities {
    SourceCapabilities {
        partitions: true,
        resume: true,
        ..SourceCapabilities::default()
    }
}

/// Reads all planned collections from the source into the stage `folder`; `None` if somebody asked for an end.
///
/// # Errors
/// The first failure.
pub fn extract(
    scene: &Scene<'_>,
    collections: &[PlannedCollection],
    from: From<'_>,
    folder: &Path,
    manifest: StageManifest,
    counters: &Arc<Counters>,
) -> Result<Option<StageManifest>, Failure> {
    let plain: Vec<PlannedCollection> = collections
        .iter()
        .map(|planned| PlannedCollection {
            transforms: Arc::default(),
            ..planned.clone()
        })
        .collect();
    let as_read = |planned: &PlannedCollection| planned.source.clone();
    fill(
        scene,
        &plain,
        from,
        folder,
        manifest,
        counters,
        Phase::Extraction,
        &as_read,
    )
}

/// Transforms all planned collections from one stage into another; `None` if somebody asked for an end.
///
/// # Errors
/// The first failure.
pub fn transform(
    scene: &Scene<'_>,
    collections: &[PlannedCollection],
    mut stage: OpenedSource,
    folder: &Path,
    manifest: StageManifest,
    counters: &Arc<Counters>,
) -> Result<Option<StageManifest>, Failure> {
    let unlimited: Vec<PlannedCollection> = collections
        .iter()
        .map(|planned| PlannedCollection {
            limit: None,
            ..planned.clone()
        })
        .collect();
    let from = From {
        source: &mut stage,
        capabilities: &capabilities(),
        reopen: None,
    };
    fill(
        scene,
        &unlimited,
        from,
        folder,
        manifest,
        counters,
        Phase::Transformation,
        &as_transformed,
    )
}

/// The digest of everything that decides what is in a transformed stage: what was extracted, and what becomes of it.
pub fn transformed_from(extracted: &StageManifest, collections: &[PlannedCollection]) -> String {
    let planned: Vec<_> = collections
        .iter()
        .map(|planned| {
            let schema = &planned.sink.schema;
            // Not what is only estimated of a collection: a stage knows better than the source did.
            let made = (
                &planned.sink.name,
                &schema.fields,
                schema.presence,
                &planned.sink.key,
            );
            (&planned.source.name, made, &planned.transforms[..])
        })
        .collect();
    let facts = serde_json::json!([extracted.id, planned]);
    blake3::hash(facts.to_string().as_bytes()).to_hex().to_string()
}

/// Takes over what was counted when the stage `kept` was filled from the stage `before`, as if it were filled now.
pub fn restore(
    kept: &StageManifest,
    before: Option<&StageManifest>,
    counters: &Counters,
    outcomes: &Outcomes,
) {
    let add = |to: &AtomicU64, count: u64| to.fetch_add(count, Ordering::Relaxed);
    for (index, staged) in kept.collections.iter().enumerate().take(counters.len()) {
        let own = counters.of(index);
        let count = staged.record_count();
        if before.is_some() {
            add(&own.transformed, count);
            add(&own.filtered, staged.filtered_count);
        } else {
            add(&own.read, count);
        }
        add(&own.rejected, staged.rejected_count);
        own.restore_snapshots(&staged.snapshots);
        outcomes.restore_unseen(index, staged.rejected_count);
    }
    // A manifest tells of all records that did not come as far as its stage.
    let (counted, shown) = before.map_or((0, 0), |before| (before.rejected_count, before.rejected.len()));
    outcomes.restore(
        kept.rejected_count.saturating_sub(counted),
        kept.rejected.get(shown..).unwrap_or_default(),
    );
}

/// The collections of a plan as a transformed stage has them: read under their old names, in their new form.
pub fn after_transformation(collections: &[PlannedCollection]) -> Vec<PlannedCollection> {
    collections
        .iter()
        .map(|planned| PlannedCollection {
            source: as_transformed(planned),
            transforms: Arc::default(),
            limit: None,
            ..planned.clone()
        })
        .collect()
}

fn as_transformed(planned: &PlannedCollection) -> Collection {
    Collection {
        name: planned.source.name.clone(),
        ..planned.sink.clone()
    }
}

#[expect(clippy::too_many_arguments, reason = "the two callers differ in each of them")]
fn fill(
    scene: &Scene<'_>,
    collections: &[PlannedCollection],
    from: From<'_>,
    folder: &Path,
    manifest: StageManifest,
    counters: &Arc<Counters>,
    phase: Phase,
    form: &dyn Fn(&PlannedCollection) -> Collection,
) -> Result<Option<StageManifest>, Failure> {
    let in_phase = |failure: Failure| failure.in_phase(phase);
    with_snapshot(scene, from, |from, snapshot| {
        let tasks = tasks(scene, collections, from, snapshot.as_deref(), counters, None).map_err(in_phase)?;
        let stage = Stage::create(folder, with_partitions(collections, &tasks, form))
            .map_err(|error| in_phase(error.into()))?;
        let mut sinks: Vec<OpenedSink> = (0..SESSIONS)
            .map(|_| OpenedSink::of_host("staging", Box::new(stage.session()), scene.calls))
            .collect();
        let pass = Pass {
            counters,
            phase,
            announces_commits: false,
            is_transactional: false,
            keeps_lanes: false,
            is_conditional: false,
            reopen: None,
            taps: None,
        };
        move_records(scene, from, snapshot, &mut sinks, &tasks, &pass)?;
        if scene.stop.is_raised() {
            return Ok(None);
        }
        if let Some(failure) = scene.outcomes.failure() {
            // A stage that lacks a collection would be taken for whole by the next run.
            return Err(in_phase(failure));
        }
        for index in 0..collections.len() {
            let counted = counters.of(index);
            let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
            stage.leave_out(index, of(&counted.filtered), of(&counted.rejected));
            stage.read_at(index, counted.snapshots());
        }
        let (rejected_count, rejected) = scene.outcomes.rejected();
        let manifest = StageManifest {
            id: StageManifest::new_id(scene.facts.run_id),
            run_id: scene.facts.run_id.to_owned(),
            rejected_count,
            rejected,
            at: chrono::Utc::now().to_rfc3339_opts(chrono::SecondsFormat::Secs, true),
            ..manifest
        };
        stage
            .complete(manifest)
            .map(Some)
            .map_err(|error: Error| in_phase(error.into()))
    })
}

fn with_partitions(
    collections: &[PlannedCollection],
    tasks: &[CopyTask],
    form: &dyn Fn(&PlannedCollection) -> Collection,
) -> Vec<(Collection, Vec<(whimbrel_plugin_api::Cursor, String)>)> {
    collections
        .iter()
        .enumerate()
        .map(|(index, planned)| {
            let partitions = tasks
                .iter()
                .filter(|task| task.collection == index)
                .map(|task| (task.partition.descriptor.clone(), task.partition.label.clone()))
                .collect();
            (form(planned), partitions)
        })
        .collect()
}
