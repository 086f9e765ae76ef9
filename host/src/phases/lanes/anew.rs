//! Collections of an earlier copy whose parts and cursors held within its snapshot only, which has ended.
//!
//! Those that are complete stay as they are. Another one is copied again from its start where that writes nothing twice: nothing was
//! written yet, its records go by their key as those of the part did, or somebody has emptied it in the sink. Else it is refused, and the
//! others go on.
//! Neighbours: the rest of `lanes`, and [`crate::plan::guarantee`], which announces it.

use std::collections::{BTreeMap, BTreeSet};

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
        if matches!(written, Written::All) {
            continue;
        }
        let now = written_by(planned, scene.facts.made_from);
        let may_begin = writes_nothing_twice(&written, earlier, &now, can_repeat(planned, sink));
        if may_begin || is_empty(scene, planned, sink, holder)? {
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

/// Digest of what decides whether the records of a collection, copied again, replace those of an earlier part: the policy, the key and
/// its types. Where transforms may change what is in the key, all rules of the job count.
pub(super) fn written_by(planned: &PlannedCollection, made_from: &BTreeMap<String, String>) -> String {
    let of_key = |name: &String| {
        planned
            .sink
            .schema
            .fields
            .iter()
            .find(|field| field.name == *name)
    };
    let types: Vec<_> = planned.sink.key.iter().map(of_key).collect();
    let types: Vec<_> = types
        .into_iter()
        .map(|field| field.map(|field| &field.record_type))
        .collect();
    let rules = RULES.map(|part| made_from.get(part).filter(|_| !planned.transforms.is_empty()));
    let facts = serde_json::json!([planned.sink.key, types, planned.policy, rules]);
    blake3::hash(facts.to_string().as_bytes()).to_hex().to_string()
}

/// The parts of `made_from` that say what transforms do.
const RULES: [&str; 3] = ["collections", "transforms", "transform plugins"];

/// Of collections that are not begun anew, the manifest goes on to say by what their part was written, and nothing if they go on
/// in another way.
pub(super) fn keep_written_by(
    earlier: &Manifest,
    anew: &BTreeSet<String>,
    collections: &[PlannedCollection],
    now: &mut Manifest,
) {
    for (planned, of) in collections.iter().zip(&mut now.collections) {
        let before = earlier
            .collections
            .iter()
            .find(|before| before.source == of.source);
        let Some(before) = before.filter(|_| !anew.contains(&of.source)) else {
            continue;
        };
        if before.written_by == of.written_by {
            continue;
        }
        // Of those that hold within a snapshot nothing more is written: they are complete or were refused.
        of.written_by = match planned.source.within_snapshot {
            true => before.written_by.clone(),
            false => String::new(),
        };
    }
}

/// Whether a collection that is not complete may be begun anew whatever the sink has of it: nothing was written yet, or it is
/// replaced. Of one that was begun anew already, an earlier part may be there beside what its lanes tell of; that was seen to then,
/// for records as they were written then.
fn writes_nothing_twice(
    written: &Written,
    earlier: &ManifestCollection,
    now: &str,
    can_repeat: bool,
) -> bool {
    let is_as_before = earlier.written_by == now;
    match written {
        Written::All => false,
        Written::Nothing => earlier.begun_by.is_empty() || is_as_before,
        Written::InPart => is_as_before && can_repeat,
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use whimbrel_plugin_api::{Collection, ConflictPolicy, Field, RecordType, Schema};

    use super::*;
    use crate::config::{TransformJob, VerificationLevel};

    fn planned(key: &str) -> PlannedCollection {
        let fields = ["a", "b"].map(|name| Field::new(name, RecordType::Text));
        let mut source = Collection::new("log", Schema::new(fields.into())).with_key([key]);
        source.within_snapshot = true;
        PlannedCollection {
            sink: source.clone(),
            source,
            transforms: Arc::default(),
            policy: ConflictPolicy::Overwrite,
            verification: VerificationLevel::Standard,
            limit: None,
            waits_for: Vec::new(),
            held_back: Vec::new(),
            left_out: Vec::new(),
        }
    }

    fn rules(text: &str) -> BTreeMap<String, String> {
        BTreeMap::from([("collections".to_owned(), text.to_owned())])
    }

    fn earlier(written_by: &str, begun_by: &str) -> ManifestCollection {
        ManifestCollection {
            source: "log".to_owned(),
            written_by: written_by.to_owned(),
            begun_by: begun_by.to_owned(),
            ..ManifestCollection::default()
        }
    }

    #[test]
    fn key_its_type_policy_and_what_may_change_it_decide() {
        let before = written_by(&planned("a"), &rules("1"));
        assert_eq!(written_by(&planned("a"), &rules("2")), before);
        assert_ne!(written_by(&planned("b"), &rules("1")), before);
        let mut other = planned("a");
        other.policy = ConflictPolicy::Skip;
        assert_ne!(written_by(&other, &rules("1")), before);
        let with_type = |number: usize| {
            let mut fields = ["a", "b"].map(|name| Field::new(name, RecordType::Text));
            fields[number].record_type = RecordType::Bytes;
            let mut planned = planned("a");
            planned.sink.schema = Schema::new(fields.into());
            written_by(&planned, &rules("1"))
        };
        assert_ne!(with_type(0), before);
        assert_eq!(with_type(1), before);
        let mut changed = planned("a");
        changed.transforms = Arc::new([TransformJob {
            plugin: "x".to_owned(),
            config: serde_json::Map::new(),
        }]);
        let with_transform = written_by(&changed, &rules("1"));
        assert_ne!(with_transform, before);
        assert_ne!(written_by(&changed, &rules("2")), with_transform);
    }

    #[test]
    fn a_part_is_written_over_only_by_what_it_was_written_by() {
        let may = |written, by: &str, begun_by: &str, can_repeat| {
            writes_nothing_twice(&written, &earlier(by, begun_by), "now", can_repeat)
        };
        assert!(may(Written::InPart, "now", "", true));
        assert!(!may(Written::InPart, "now", "", false));
        // Another one, and that of an older program, which nobody knows.
        assert!(!may(Written::InPart, "other", "", true));
        assert!(!may(Written::InPart, "", "", true));
        for by in ["now", "other", ""] {
            assert!(may(Written::Nothing, by, "", false), "{by}");
        }
        // Begun anew over an earlier part of which the new lanes tell nothing.
        assert!(may(Written::Nothing, "now", "r/1", false));
        assert!(!may(Written::Nothing, "other", "r/1", true));
        assert!(!may(Written::Nothing, "", "r/1", true));
    }

    #[test]
    fn the_manifest_keeps_by_what_a_part_was_written() {
        let kept = |before: &str, anew: &[&str], within_snapshot: bool| {
            let mut planned = planned("a");
            planned.source.within_snapshot = within_snapshot;
            let of = |by: &str| Manifest {
                collections: vec![earlier(by, "")],
                ..Manifest::default()
            };
            let anew = anew.iter().map(|name| (*name).to_owned()).collect();
            let mut now = of("now");
            keep_written_by(&of(before), &anew, &[planned], &mut now);
            now.collections.remove(0).written_by
        };
        assert_eq!(kept("other", &[], true), "other");
        assert_eq!(kept("", &[], true), "");
        assert_eq!(kept("other", &["log"], true), "now");
        // Its part is gone on with, and is of both ways then.
        assert_eq!(kept("other", &[], false), "");
        assert_eq!(kept("now", &[], false), "now");
    }
}
