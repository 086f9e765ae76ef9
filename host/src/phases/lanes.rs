//! Holds the lanes of a copy: looks what the sink keeps of an earlier one, decides whether that is gone on with, and claims them all.
//!
//! The run's own lane is claimed first and held in every later claim, so that of two runs that come at once one gets all lanes, and a run
//! that lost them is fenced off everywhere. Neighbours: [`crate::checkpoint`] has the rules, `copying` uses the lanes.

mod anew;
mod holder;
mod refusals;

use std::collections::{BTreeSet, HashMap};

use whimbrel_plugin_api::sink::{LaneClaim, LaneId, LaneState};
use whimbrel_plugin_api::{Cursor, Error, Finding, Partition};

use self::refusals::{changed, emptied, no_lanes, nothing_in_sink, other_stage, sink_behind, superseded};
use super::copying::Scene;
use crate::checkpoint::{
    LANE_FORMAT, Lane, LaneCounts, Manifest, ManifestCollection, ResumeOptions, lane_snapshots, run_lane,
};
use crate::config::Job;
use crate::crash_site;
use crate::events::{Event, Failure};
use crate::pipeline::{CopyTask, Counters, NO_COMMIT, ReachedLane};
use crate::plan::PlannedCollection;

pub(super) use self::anew::judge_collections;
pub(super) use self::holder::{Holder, one};

/// Ends the descriptor of a partition in the name of its lane in a second pass.
const SECOND_PASS_MARK: &[u8] = b"/second-pass";

/// What a run does with the copy that the sink knows of.
pub(super) enum Course {
    /// The sink keeps no lanes: every copy begins at its start.
    NoLanes,
    /// A new copy begins. `old` are the lanes of the one before.
    Anew {
        lane: Box<Lane>,
        old: Vec<LaneId>,
        run_id: String,
    },
    /// The earlier copy is gone on with, but for the collections that are copied `anew` from their start.
    GoOn {
        lane: Box<Lane>,
        manifest: Box<Manifest>,
        anew: BTreeSet<String>,
    },
}

impl Course {
    /// The parts of a collection, if the earlier copy has divided it.
    pub(super) fn partitions(&self, source: &str) -> Option<Vec<Partition>> {
        let Self::GoOn { manifest, anew, .. } = self else {
            return None;
        };
        if anew.contains(source) {
            return None;
        }
        let of = manifest.collections.iter().find(|of| of.source == source)?;
        Some(of.partitions.clone())
    }
}

/// The run's lane, once all others are claimed.
pub(super) struct RunLane(Option<Lane>);

/// The lane of a part that goes to no sink that keeps lanes, such as a stage: held from the beginning, at its start.
pub(super) fn unkept(scene: &Scene<'_>, collection: &str, partition: &Partition) -> Result<Lane, Error> {
    let id = lane_id(scene.job, collection, partition, false);
    let mut lane = Lane::new(id.clone(), scene.facts.run_id);
    lane.claimed(LaneState::unknown(id))?;
    Ok(lane)
}

/// Looks what the sink keeps, and decides.
///
/// # Errors
/// `resume.no_lanes`, `resume.nothing_in_sink`, `resume.superseded`, `resume.other_stage`, `resume.changed`, and what the sink brings.
pub(super) fn look(
    scene: &Scene<'_>,
    collections: &[PlannedCollection],
    keeps_lanes: bool,
    holder: &mut Holder<'_>,
) -> Result<Course, Failure> {
    let resume = scene.facts.resume;
    if !keeps_lanes {
        return match resume {
            // A worker that takes the place of a lost one repeats what it can.
            Some(_) => Err(no_lanes().into()),
            None => Ok(Course::NoLanes),
        };
    }
    let mut lane = Lane::new(run_lane(&scene.job.name, &scene.job.source.plugin), "");
    let state = one(holder.take_over(scene, &[lane.claim()])?)?;
    lane.claimed(state)?;
    crash_site::reach("run_lane_claimed");
    let earlier = match Manifest::of_cursor(&lane.state().cursor) {
        Ok(earlier) => earlier,
        // What cannot be read cannot be gone on with; a new copy takes its place.
        Err(_) if resume.is_none() => None,
        Err(error) => return Err(error.into()),
    };
    let lane = Box::new(lane);
    let Some(resume) = resume else {
        let old = earlier
            .as_ref()
            .map_or_else(Vec::new, |of| lanes_of(scene.job, of));
        let run_id = scene.facts.run_id.to_owned();
        return Ok(Course::Anew { lane, old, run_id });
    };
    let has_committed = resume.known_seqs.values().any(|of| !of.is_empty());
    match earlier {
        Some(manifest) if resume.resumes.is_empty() || manifest.run_id == resume.resumes => {
            let manifest = Box::new(manifest);
            let now = manifest_of(
                scene,
                collections,
                &HashMap::new(),
                (&manifest.run_id, &manifest.begun_by),
            );
            // Where the lanes are done, nothing is read any more, from wherever it would be.
            if manifest.stage != now.stage && !lane.state().done {
                return Err(other_stage(&manifest.stage, &now.stage).into());
            }
            let differences = manifest.differences(&now);
            if !differences.is_empty() && !resume.accepts_changes {
                return Err(changed(&differences).into());
            }
            let anew = BTreeSet::new();
            Ok(Course::GoOn { lane, manifest, anew })
        }
        None if resume.resumes.is_empty() => Err(nothing_in_sink().into()),
        None if has_committed => Err(emptied(&resume.resumes).into()),
        _ if has_committed => Err(superseded(&resume.resumes).into()),
        earlier => {
            // It ended before it claimed anything.
            let old = earlier
                .as_ref()
                .map_or_else(Vec::new, |of| lanes_of(scene.job, of));
            let run_id = resume.resumes.clone();
            Ok(Course::Anew { lane, old, run_id })
        }
    }
}

/// Claims the lanes of all tasks; those whose lane is done are taken out, and `counters` know of their records.
///
/// # Errors
/// `run.fenced`, `run.lane_held`, `resume.sink_behind`, and what the sink brings.
pub(super) fn claim(
    scene: &Scene<'_>,
    collections: &[PlannedCollection],
    course: Course,
    holder: &mut Holder<'_>,
    (tasks, again): (&mut Vec<CopyTask>, &mut Vec<CopyTask>),
    counters: &Counters,
) -> Result<RunLane, Failure> {
    let (mut lane, old, run_id, begun_by, earlier, anew) = match course {
        Course::NoLanes => {
            for task in tasks.iter_mut().chain(again.iter_mut()) {
                let id = lane_of(scene, task);
                let mut machine = Lane::new(id.clone(), scene.facts.run_id);
                machine.claimed(LaneState::unknown(id))?;
                task.machine = machine;
            }
            return Ok(RunLane(None));
        }
        // Lanes of a run that the new copy goes back to may be left from before another copy, so they begin under a name of their own.
        Course::Anew { lane, old, run_id } => {
            let begun_by = scene.facts.run_id.to_owned();
            (lane, old, run_id, begun_by, None, BTreeSet::new())
        }
        Course::GoOn { lane, manifest, anew } => {
            let (run_id, begun_by) = (manifest.run_id.clone(), manifest.begun_by.clone());
            let old = lanes_of(scene.job, &manifest);
            (lane, old, run_id, begun_by, Some(manifest), anew)
        }
    };
    // A name that no earlier worker has had, not even one of this run.
    let begun_anew_by = format!("{}/{}", scene.facts.run_id, lane.state().epoch);
    let own_name = |source: &str| -> String {
        if anew.contains(source) {
            return begun_anew_by.clone();
        }
        let of = earlier.iter().flat_map(|earlier| &earlier.collections);
        let of = of.filter(|of| of.source == source);
        of.map(|of| of.begun_by.clone()).next().unwrap_or_default()
    };
    let claims_run = match &earlier {
        Some(_) => lane.claim(),
        None => lane.claim_anew(&begun_by),
    };
    let mut claims = vec![claims_run];
    let mut wanted = BTreeSet::new();
    for task in tasks.iter_mut().chain(again.iter_mut()) {
        let own_name = own_name(&task.source_name);
        let name = if own_name.is_empty() { &begun_by } else { &own_name };
        task.machine = Lane::new(lane_of(scene, task), name);
        wanted.insert(key_of(task.machine.id()));
        claims.push(task.machine.claim());
    }
    // Lanes that are not written any more are fenced off as well.
    let unwanted = old.into_iter().filter(|id| !wanted.contains(&key_of(id)));
    claims.extend(unwanted.map(|lane| LaneClaim {
        lane,
        ..LaneClaim::default()
    }));
    let mut states = holder.take_over(scene, &claims)?.into_iter();
    lane.renewed(one(states.next().into_iter().collect())?)?;
    for task in tasks.iter_mut().chain(again.iter_mut()) {
        task.machine.claimed(one(states.next().into_iter().collect())?)?;
    }
    let mut now = manifest_of(scene, collections, &partitions_of(tasks), (&run_id, &begun_by));
    for of in &mut now.collections {
        of.begun_by = own_name(&of.source);
    }
    if let Some(earlier) = &earlier {
        anew::keep_written_by(earlier, &anew, collections, &mut now);
    }
    let is_new = earlier.as_ref().is_none_or(|earlier| {
        (&earlier.made_from, &earlier.collections) != (&now.made_from, &now.collections)
    });
    if is_new {
        holder.commit(scene, &mut lane, now.to_cursor()?, false)?;
        crash_site::reach("manifest_committed");
    }
    crash_site::reach("lanes_claimed");
    tell_and_check(scene, (tasks, again), counters, earlier.is_some(), &anew)?;
    tasks.retain(|task| !task.machine.state().done);
    again.retain(|task| !task.machine.state().done);
    Ok(RunLane(Some(*lane)))
}

impl RunLane {
    /// All records of the copy are durable.
    ///
    /// # Errors
    /// `run.fenced`, and what the sink brings.
    pub(super) fn done(mut self, scene: &Scene<'_>, holder: &mut Holder<'_>) -> Result<(), Failure> {
        if let Some(lane) = &mut self.0
            && !lane.state().done
        {
            let cursor = lane.state().cursor.clone();
            holder.commit(scene, lane, cursor, true)?;
        }
        crash_site::reach("run_lane_done");
        Ok(())
    }
}

/// Says where each lane stands, and holds that against what this host has seen.
fn tell_and_check(
    scene: &Scene<'_>,
    (tasks, again): (&[CopyTask], &[CopyTask]),
    counters: &Counters,
    goes_on: bool,
    anew: &BTreeSet<String>,
) -> Result<(), Failure> {
    anew::tell(scene, anew);
    let nothing = ResumeOptions::default();
    let resume = scene.facts.resume.filter(|_| goes_on).unwrap_or(&nothing);
    // Of those that were refused on the way into a stage, the stage itself has told.
    let refused = resume.refused.iter().filter(|one| one.seq != NO_COMMIT);
    let refused: Vec<_> = refused.cloned().collect();
    let (first, second) = match again.is_empty() {
        true => (None, None),
        // What both passes have refused is one record.
        false => (
            Some(scene.outcomes.first_of_two()),
            Some(scene.outcomes.second_of_two()),
        ),
    };
    for task in tasks.iter().chain(again) {
        let is_again = task.held_back.is_second_pass();
        let state = task.machine.state();
        let known = resume.known_seqs.get(&task.source_name);
        // What was seen of those that are begun anew counts no more.
        let known = known.filter(|_| !anew.contains(&task.source_name));
        let known = known.and_then(|of| of.get(&task.partition.label)).copied();
        if known.is_some_and(|known| known > state.seq) && !resume.accepts_sink_cursor {
            return Err(sink_behind(task, state.seq, known.unwrap_or_default()).into());
        }
        scene.emitter.emit(&Event::LaneTaken {
            collection: task.source_name.clone(),
            partition: task.partition.label.clone(),
            seq: state.seq,
            cursor: state.cursor.clone(),
            // Records of a second pass are those of the first.
            record_count: if is_again { 0 } else { state.record_count },
            done: state.done,
        });
        let own = counters.of(task.collection);
        own.restore_snapshots(&lane_snapshots(&state.extensions));
        if !is_again {
            own.restore(LaneCounts::of(&state.extensions), state.record_count, state.done);
        }
        let reached = ReachedLane {
            collection: &task.source_name,
            partition: &task.partition.label,
            seq: state.seq,
        };
        let of_pass = if is_again { &second } else { &first };
        let outcomes = of_pass.as_ref().unwrap_or(scene.outcomes);
        outcomes.restore_refused(task.collection, &reached, &refused);
    }
    // What earlier runs have refused for commits that were never made is void from here on.
    scene.barrier.pass(scene.emitter, scene.stop)?;
    let is_under_way = |task: &CopyTask| !task.machine.state().done && task.machine.state().seq > 0;
    if tasks.iter().chain(again).any(is_under_way) {
        scene.emitter.emit(&Event::Found {
            role: None,
            finding: Finding::info(
                "resume.later_records",
                "what is still to be read is read as it is now, not as it was when the copy began, unless the source still has that; \
                 collections that were read at several snapshots of it are named in the report",
            ),
        });
    }
    Ok(())
}

/// The lane of a task: each pass over a partition has one of its own.
fn lane_of(scene: &Scene<'_>, task: &CopyTask) -> LaneId {
    lane_id(
        scene.job,
        &task.source_name,
        &task.partition,
        task.held_back.is_second_pass(),
    )
}

fn lane_id(job: &Job, collection: &str, partition: &Partition, is_second_pass: bool) -> LaneId {
    let mut descriptor = partition.descriptor.clone();
    if is_second_pass {
        descriptor.0.extend_from_slice(SECOND_PASS_MARK);
    }
    LaneId {
        job: job.name.clone(),
        source: job.source.plugin.clone(),
        collection: collection.to_owned(),
        partition: descriptor,
    }
}

fn key_of(id: &LaneId) -> (String, Cursor) {
    (id.collection.clone(), id.partition.clone())
}

/// All lanes of a copy but the run's own.
pub(super) fn lanes_of(job: &Job, manifest: &Manifest) -> Vec<LaneId> {
    let lanes = manifest.collections.iter();
    lanes.flat_map(|of| lanes_of_one(job, of)).collect()
}

fn lanes_of_one(job: &Job, of: &ManifestCollection) -> Vec<LaneId> {
    let mut lanes = Vec::new();
    for partition in &of.partitions {
        lanes.push(lane_id(job, &of.source, partition, false));
        if of.has_second_pass {
            lanes.push(lane_id(job, &of.source, partition, true));
        }
    }
    lanes
}

fn partitions_of(tasks: &[CopyTask]) -> HashMap<usize, Vec<Partition>> {
    let mut partitions: HashMap<usize, Vec<Partition>> = HashMap::new();
    for task in tasks {
        partitions
            .entry(task.collection)
            .or_default()
            .push(task.partition.clone());
    }
    partitions
}

/// What this run would leave in the sink.
fn manifest_of(
    scene: &Scene<'_>,
    collections: &[PlannedCollection],
    partitions: &HashMap<usize, Vec<Partition>>,
    (run_id, begun_by): (&str, &str),
) -> Manifest {
    let described = collections
        .iter()
        .enumerate()
        .map(|(index, planned)| ManifestCollection {
            source: planned.source.name.clone(),
            sink: planned.sink.name.clone(),
            schema: schema_digest(planned),
            partitions: partitions.get(&index).cloned().unwrap_or_default(),
            has_second_pass: !planned.held_back.is_empty(),
            written_by: anew::written_by(planned, scene.facts.made_from),
            begun_by: String::new(),
        });
    Manifest {
        format: LANE_FORMAT,
        run_id: run_id.to_owned(),
        begun_by: begun_by.to_owned(),
        begun_at: chrono::Utc::now().to_rfc3339_opts(chrono::SecondsFormat::Secs, true),
        made_from: scene.facts.made_from.clone(),
        stage: scene.facts.stage.to_owned(),
        collections: described.collect(),
    }
}

/// What the sink was prepared for, and what happens to records that it has already.
fn schema_digest(planned: &PlannedCollection) -> String {
    let facts = serde_json::json!([
        planned.sink.schema.fields,
        planned.sink.schema.presence,
        planned.sink.key,
        planned.policy,
    ]);
    blake3::hash(facts.to_string().as_bytes()).to_hex().to_string()
}
