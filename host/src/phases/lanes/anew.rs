//! Collections of an earlier copy whose parts and cursors held within its snapshot only, which has ended.
//!
//! Those that are complete stay as they are. Another one is copied again from its start where that writes nothing twice: nothing was
//! written yet, its records go by their key, or somebody has emptied it in the sink. Else it is refused, and the others go on.
//! Neighbours: the rest of `lanes`, and [`crate::plan::guarantee`], which announces it.

use std::collections::BTreeSet;

use whimbrel_plugin_api::capability::SinkCapabilities;
use whimbrel_plugin_api::collection::CollectionsRequest;
use whimbrel_plugin_api::sink::{LaneClaim, LaneState};
use whimbrel_plugin_api::source::{Item, ReadRequest};
use whimbrel_plugin_api::{ErrorKind, Finding};

use super::refusals::snapshot_ended;
use super::{Course, Holder, lanes_of_one, one};
use crate::checkpoint::{Lane, Manifest, ManifestCollection};
use crate::events::{Event, Failure, Phase};
use crate::loader::observe::OpenedSink;
use crate::phases::copying::Scene;
use crate::plan::PlannedCollection;
use crate::plan::guarantee::can_repeat;

/// Decides about each such collection of a copy that is gone on with: those that are begun anew are noted in `course`, and one that is
/// refused has failed.
///
/// # Errors
/// `run.fenced`, and what the sink brings.
pub(in crate::phases) fn judge_collections(
    scene: &Scene<'_>,
    collections: &[PlannedCollection],
    sink: &SinkCapabilities,
    course: &mut Course,
    holder: &mut Holder<'_>,
) -> Result<(), Failure> {
    let Course::GoOn { lane, manifest, anew } = course else {
        return Ok(());
    };
    // The batches of a stage are there again, in the same order.
    if !scene.facts.stage.is_empty() {
        return Ok(());
    }
    for (index, planned) in collections.iter().enumerate() {
        let name = &planned.source.name;
        let earlier = manifest.collections.iter().find(|of| of.source == *name);
        let Some(earlier) = earlier.filter(|_| planned.source.within_snapshot) else {
            continue;
        };
        // Whoever still writes is fenced off first, so that what is empty stays so.
        let written = written(scene, lane, manifest, earlier, holder)?;
        let may_begin = match written {
            Written::All => continue,
            Written::Nothing => true,
            Written::InPart => can_repeat(planned, sink) || is_empty(scene, planned, sink, holder)?,
        };
        if may_begin {
            anew.insert(name.clone());
            continue;
        }
        let failure = Failure::from(snapshot_ended(name, &planned.sink.name)).in_phase(Phase::Import);
        scene.outcomes.fail(scene.emitter, index, name, failure);
    }
    Ok(())
}

/// Says which collections are begun anew.
pub(super) fn tell(scene: &Scene<'_>, anew: &BTreeSet<String>) {
    for collection in anew {
        scene.emitter.emit(&Event::BegunAnew {
            collection: collection.clone(),
        });
        let message = format!(
            "`{collection}` is copied again from its start, since the source reads it within one snapshot only"
        );
        scene.emitter.emit(&Event::Found {
            role: None,
            finding: Finding::info("resume.begun_anew", message).with_collection(collection),
        });
    }
}

/// How much of a collection is durable.
enum Written {
    Nothing,
    InPart,
    All,
}

fn written(
    scene: &Scene<'_>,
    lane: &mut Lane,
    manifest: &Manifest,
    earlier: &ManifestCollection,
    holder: &mut Holder<'_>,
) -> Result<Written, Failure> {
    // Taken over as they are, and all of them or none: the run's lane is claimed as it is held.
    let mut claims = vec![lane.claim()];
    let lanes = lanes_of_one(scene.job, earlier).into_iter();
    claims.extend(lanes.map(|lane| LaneClaim {
        lane,
        ..LaneClaim::default()
    }));
    let mut states = holder.take_over(scene, &claims)?.into_iter();
    lane.renewed(one(states.next().into_iter().collect())?)?;
    // One that another copy has begun since says nothing of this one.
    let is_of_copy = |state: &LaneState| state.begun_by == manifest.begun_by(earlier);
    let states: Vec<LaneState> = states.collect();
    let is_done = |state: &LaneState| is_of_copy(state) && state.done;
    let has_written = |state: &LaneState| is_of_copy(state) && state.seq > 0;
    Ok(
        match (states.iter().all(is_done), states.iter().any(has_written)) {
            (true, _) if !states.is_empty() => Written::All,
            (_, true) => Written::InPart,
            (_, false) => Written::Nothing,
        },
    )
}

/// Whether the collection is known to have no record in the sink.
fn is_empty(
    scene: &Scene<'_>,
    planned: &PlannedCollection,
    sink: &SinkCapabilities,
    holder: &mut Holder<'_>,
) -> Result<bool, Failure> {
    if !sink.read_back {
        return Ok(false);
    }
    let looked = holder.persist(scene, |sink| holds_nothing(sink, &planned.sink.name));
    match looked {
        // What cannot be looked at is not known to be empty.
        Err(failure) if failure.error.kind == ErrorKind::Unsupported => Ok(false),
        outcome => outcome,
    }
}

fn holds_nothing(sink: &mut OpenedSink, name: &str) -> Result<bool, Failure> {
    let mut reader = sink.reader()?;
    let described = reader.collections(&CollectionsRequest::named(name))?;
    if described.iter().any(|collection| collection.hides_records) {
        return Ok(false);
    }
    let mut stream = reader.read(&ReadRequest {
        limit: Some(1),
        ..ReadRequest::all(name)
    })?;
    loop {
        match stream.next_item()? {
            Item::Batch(batch) if batch.record_count() > 0 => return Ok(false),
            Item::Rejected(_) => return Ok(false),
            Item::End => return Ok(true),
            _ => {}
        }
    }
}
