//! Empties collections in the sink, once nobody can go on with a copy into it.
//!
//! What the lanes of a job say holds no longer without its records. So all of them begin anew before the first record goes: whoever still
//! writes is fenced off, and a run that would go on finds nothing to go on with. What is killed in between leaves records
//! without lanes, which the next copy writes over or the next clearing removes; never lanes without their records. Neighbours:
//! `lanes` has those of a copy, [`crate::checkpoint`] their rules.

use std::collections::{BTreeSet, HashSet};

use whimbrel_plugin_api::Cursor;
use whimbrel_plugin_api::sink::{ClearReport, ClearRequest, LaneClaim, LaneId};

use super::lanes::{lanes_of, one};
use super::{repairing, replaying};
use crate::checkpoint::{Lane, Manifest, run_lane};
use crate::config::Job;
use crate::crash_site;
use crate::events::Failure;
use crate::loader::observe::OpenedSink;
use crate::plan::PlannedCollection;

/// What a clearing works with.
pub struct Clearing<'a> {
    /// The job.
    pub job: &'a Job,
    /// This run, in whose name the lanes begin.
    pub run_id: &'a str,
    /// Whether the sink keeps the checkpoints of its lanes.
    pub keeps_lanes: bool,
}

/// Has a sink that cannot be cleared, or not now, say so while the lanes still stand.
///
/// # Errors
/// What the sink brings.
pub fn look(sink: &mut OpenedSink) -> Result<(), Failure> {
    sink.clear(&ClearRequest::default()).map(drop)
}

/// Removes all records of the collections called `names` in the sink, in this order. `collections` are those of the plan.
///
/// # Errors
/// `run.fenced`, `run.lane_held`, and what the sink brings.
pub fn run(
    clearing: &Clearing<'_>,
    collections: &[PlannedCollection],
    names: Vec<String>,
    sink: &mut OpenedSink,
) -> Result<ClearReport, Failure> {
    if clearing.keeps_lanes {
        begin_lanes_anew(clearing, collections, sink)?;
    }
    crash_site::reach("lanes_emptied");
    let report = sink.clear(&ClearRequest { collections: names })?;
    crash_site::reach("cleared");
    if clearing.keeps_lanes {
        // Who has taken lanes over may have left a note of itself in the sink.
        sink.finalize()?;
    }
    Ok(report)
}

/// Has the run's lane, those of the copy that it tells of, and those of repairs and replays begin anew.
fn begin_lanes_anew(
    clearing: &Clearing<'_>,
    collections: &[PlannedCollection],
    sink: &mut OpenedSink,
) -> Result<(), Failure> {
    let job = clearing.job;
    let mut lane = Lane::new(run_lane(&job.name, &job.source.plugin), "");
    let state = one(sink.take_over(&[lane.claim()])?)?;
    lane.claimed(state)?;
    crash_site::reach("run_lane_held");
    // What cannot be read names no lanes; nobody can go on with it either.
    let manifest = Manifest::of_cursor(&lane.state().cursor).unwrap_or_default();
    let mut claims = vec![lane.claim_anew(clearing.run_id)];
    claims.extend(
        further_lanes(job, collections, manifest.as_ref()).map(|lane| LaneClaim {
            lane,
            begun_by: clearing.run_id.to_owned(),
            held: None,
        }),
    );
    // All of them or none: the run's lane is claimed as it is held.
    let states = sink.take_over(&claims)?;
    Ok(lane.renewed(one(states)?)?)
}

/// All lanes of the job but the run's own, as far as they are known, each once.
fn further_lanes(
    job: &Job,
    collections: &[PlannedCollection],
    manifest: Option<&Manifest>,
) -> impl Iterator<Item = LaneId> {
    let mut sources: BTreeSet<&str> = collections
        .iter()
        .map(|planned| planned.source.name.as_str())
        .collect();
    let copied = manifest.iter().flat_map(|manifest| &manifest.collections);
    sources.extend(copied.map(|of| of.source.as_str()));
    let mut lanes = manifest.map_or_else(Vec::new, |manifest| lanes_of(job, manifest));
    for source in sources {
        for partition in [repairing::PARTITION, replaying::PARTITION] {
            lanes.push(LaneId {
                job: job.name.clone(),
                source: job.source.plugin.clone(),
                collection: source.to_owned(),
                partition: Cursor(partition.to_vec()),
            });
        }
    }
    let mut seen = HashSet::new();
    lanes.into_iter().filter(move |lane| seen.insert(lane.clone()))
}

#[cfg(test)]
mod tests;
