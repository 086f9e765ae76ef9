//! One run of the job: claims, manifest, its lanes side by side, the end. All that is here is gone when it is killed.
//!
//! The order of calls is that of the pipeline. Neighbours: `part` drives a lane, `world` is what outlives a run.

use std::ops::Range;

use whimbrel_plugin_api::sink::{LaneClaim, LaneId, LaneState};
use whimbrel_plugin_api::{Cursor, Error, Partition};

use super::network::{Answer, CallId, Request};
use super::part::{Part, Went};
use super::systems::{Kind, ProcessId, Record, Violation};
use super::world::{Protocol, World};
use crate::checkpoint::{Lane, Manifest, ManifestCollection, run_lane};

/// Where a run stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    ClaimRun,
    ClaimAll,
    CommitManifest,
    Copy,
    CommitEnd,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum End {
    Done,
    Fenced,
    Killed,
    Failed(String),
}

/// See the module.
pub(super) struct Process {
    pub(super) id: ProcessId,
    /// Whether it goes on with the copy that there is, or begins one.
    resumes: bool,
    run_id: String,
    step: Step,
    /// Whether it begins a copy, in place of one that had these parts.
    begins: bool,
    old: Vec<Cursor>,
    manifest: Manifest,
    run: Part,
    parts: Vec<Part>,
    /// Lanes that are being claimed.
    claimed: Vec<Lane>,
    call: Option<CallId>,
    pub(super) is_stopped: bool,
    pub(super) end: Option<End>,
}

/// The lane of a part of the one collection.
pub(super) fn part_lane(descriptor: &Cursor) -> LaneId {
    LaneId {
        collection: "records".to_owned(),
        partition: descriptor.clone(),
        ..the_run_lane()
    }
}

/// The lane of the runs themselves.
pub(super) fn the_run_lane() -> LaneId {
    run_lane("job", "source")
}

/// The parts of a copy.
pub(super) fn parts(manifest: &Manifest) -> Vec<Cursor> {
    let collections = manifest.collections.iter();
    let parts = collections.flat_map(|collection| &collection.partitions);
    parts.map(|part| part.descriptor.clone()).collect()
}

impl Process {
    pub(super) fn new(id: ProcessId, resumes: bool) -> Self {
        Self {
            id,
            resumes,
            run_id: format!("run-{id}"),
            step: Step::ClaimRun,
            begins: false,
            old: Vec::new(),
            manifest: Manifest::default(),
            run: Part::of_run(Lane::new(the_run_lane(), "")),
            parts: Vec::new(),
            claimed: Vec::new(),
            call: None,
            is_stopped: false,
            end: None,
        }
    }

    pub(super) fn is_live(&self) -> bool {
        self.end.is_none()
    }

    /// Does one thing; `false` if nothing can be done before somebody else does something.
    pub(super) fn step(&mut self, world: &mut World) -> Result<bool, Violation> {
        match self.step {
            Step::ClaimRun | Step::ClaimAll => self.claim(world),
            Step::CommitManifest | Step::CommitEnd if self.run.is_finished() => {
                match self.step {
                    Step::CommitManifest => self.step = Step::Copy,
                    _ => self.ends(End::Done, world),
                }
                Ok(true)
            }
            Step::CommitManifest | Step::CommitEnd => {
                let went = self.run.step(self.id, world)?;
                self.went(went, None, world)
            }
            Step::Copy => self.copy(world),
        }
    }

    fn copy(&mut self, world: &mut World) -> Result<bool, Violation> {
        let mut open: Vec<usize> = (0..self.parts.len())
            .filter(|part| !self.parts[*part].is_finished())
            .collect();
        if open.is_empty() {
            self.run.to_commit = Some((self.run.lane.state().cursor.clone(), true));
            self.step = Step::CommitEnd;
            return Ok(true);
        }
        world.random.shuffle(&mut open);
        for part in open {
            let went = self.parts[part].step(self.id, world)?;
            if self.went(went, Some(part), world)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn went(&mut self, went: Went, part: Option<usize>, world: &mut World) -> Result<bool, Violation> {
        let part = part.map_or(&self.run, |part| &self.parts[part]);
        match went {
            Went::On => Ok(true),
            Went::Nowhere => Ok(false),
            Went::Failed(code) => {
                self.ends(End::Failed(code), world);
                Ok(true)
            }
            Went::Fenced => {
                let lane = part.lane.id().clone();
                self.is_fenced(&lane, world)?;
                Ok(true)
            }
        }
    }

    fn ends(&mut self, end: End, world: &mut World) {
        world.note(|| format!("process {} ends: {end:?}", self.id));
        match end {
            End::Done => world.tally.done += 1,
            End::Fenced => world.tally.fenced += 1,
            End::Killed => world.tally.killed += 1,
            End::Failed(_) => world.tally.failed += 1,
        }
        self.end = Some(end);
    }

    pub(super) fn kill(&mut self, world: &mut World) {
        self.ends(End::Killed, world);
    }

    /// Has it been told so truly?
    fn is_fenced(&mut self, lane: &LaneId, world: &mut World) -> Result<(), Violation> {
        if world.sink.holds(lane, self.id) {
            let what = format!(
                "process {} is told that it is fenced off, and holds the lane",
                self.id
            );
            return Err(Violation::new(Kind::FencedWithoutCause, what));
        }
        self.ends(End::Fenced, world);
        Ok(())
    }

    /// The claims of the step: the run's own lane, those of its parts, and those that an older copy has left.
    fn claims(&mut self, world: &World) -> Vec<LaneClaim> {
        let plan = world.plan;
        if self.step == Step::ClaimRun {
            return vec![self.run.lane.claim()];
        }
        let begun_by = &self.manifest.begun_by;
        let own = match (self.begins, plan.protocol) {
            (true, Protocol::BeginsUnheld) => Some(Lane::new(the_run_lane(), begun_by.clone()).claim()),
            (true, _) => Some(self.run.lane.claim_anew(begun_by.clone())),
            (false, Protocol::LanesAlone) => None,
            (false, _) => Some(self.run.lane.claim()),
        };
        let wanted = parts(&self.manifest);
        let lane = |part: &Cursor| {
            let mut lane = Lane::new(part_lane(part), begun_by.clone());
            lane.mutant = plan.mutant;
            lane
        };
        self.claimed = wanted.iter().map(lane).collect();
        let unwanted = self.old.iter().filter(|part| !wanted.contains(part));
        let unwanted = unwanted.map(|part| Lane::new(part_lane(part), "").claim());
        let leaves_old = plan.protocol == Protocol::OldLanesLeft;
        let claimed = self.claimed.iter().map(Lane::claim);
        own.into_iter()
            .chain(claimed)
            .chain(unwanted.filter(|_| !leaves_old))
            .collect()
    }

    fn claim(&mut self, world: &mut World) -> Result<bool, Violation> {
        let Some(call) = self.call else {
            let claims = self.claims(world);
            self.call = Some(world.send(Request::TakeOver(self.id, claims))?);
            return Ok(true);
        };
        let Some(answer) = world.network.answer(call) else {
            return Ok(false);
        };
        self.call = None;
        match answer {
            Answer::Granted(states) => {
                world.sink.knows(self.id, &states)?;
                let own = states
                    .first()
                    .filter(|state| state.lane == the_run_lane())
                    .cloned();
                let others = states
                    .into_iter()
                    .filter(|state| state.lane != the_run_lane())
                    .collect();
                if let Err(error) = self.granted(own, others, world) {
                    self.ends(End::Failed(error.code.to_string()), world);
                }
            }
            Answer::Refused(_) => {
                // The other lanes of the call were not held before, so that it is this one.
                self.is_fenced(&the_run_lane(), world)?;
            }
            // It is claimed again.
            _ => {}
        }
        Ok(true)
    }

    fn granted(
        &mut self,
        own: Option<LaneState>,
        others: Vec<LaneState>,
        world: &mut World,
    ) -> Result<(), Error> {
        if self.step == Step::ClaimRun {
            let own = own.ok_or_else(|| Error::internal("no lane is granted"))?;
            let found = Manifest::of_cursor(&own.cursor)?;
            let is_done = own.done;
            self.run.lane.claimed(own)?;
            self.step = Step::ClaimAll;
            match found {
                Some(_) if self.resumes && is_done => self.ends(End::Done, world),
                Some(manifest) if self.resumes => self.manifest = manifest,
                found => {
                    self.begins = true;
                    self.old = found.as_ref().map(parts).unwrap_or_default();
                    self.manifest = divided(&self.run_id, world);
                }
            }
            return Ok(());
        }
        if let Some(own) = own {
            self.run.lane.renewed(own)?;
        }
        for (mut lane, state) in std::mem::take(&mut self.claimed).into_iter().zip(others) {
            world.host.found(&state);
            lane.claimed(state)?;
            let bounds = &lane.id().partition.0;
            let range: Range<Record> = bounds[0]..bounds[1];
            self.parts.push(Part::new(lane, range));
        }
        self.step = Step::Copy;
        if self.begins {
            self.run.to_commit = Some((self.manifest.to_cursor()?, false));
            self.step = Step::CommitManifest;
        }
        Ok(())
    }
}

/// A copy in a number of parts that is drawn.
fn divided(run_id: &str, world: &mut World) -> Manifest {
    let count = world.record_count;
    let step = count.div_ceil(world.random.u8(1..=3)).max(1);
    let part = |from: Record| Partition {
        descriptor: Cursor(vec![from, count.min(from + step)]),
        label: format!("{from}.."),
        estimate: Default::default(),
    };
    Manifest {
        run_id: run_id.to_owned(),
        begun_by: run_id.to_owned(),
        collections: vec![ManifestCollection {
            source: "records".to_owned(),
            partitions: (0..count).step_by(step.into()).map(part).collect(),
            ..ManifestCollection::default()
        }],
        ..Manifest::default()
    }
}
