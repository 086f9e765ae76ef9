//! What outlives a run, the schedule of what befalls runs, and what must be true in the end.
//!
//! Everything is drawn from one seed. A storm of faults comes first; then it is calm, whoever was stopped goes on, and runs are
//! started until one has finished the copy.

use std::collections::BTreeSet;

use super::mutant::Mutant;
use super::network::{CallId, Network, Request, described};
use super::process::{Process, part_lane, parts, the_run_lane};
use super::systems::{Host, Kind, Record, Sink, Violation};
use crate::checkpoint::Manifest;

/// Steps of a storm at most.
const STORM_STEPS_MAX: u32 = 160;
/// Steps after which it counts as stuck: a calm copy takes less than a hundred.
const CALM_STEPS_MAX: u32 = 5_000;
/// Runs that are there at a time.
const LIVE_MAX: usize = 3;

/// What the driver of a run can be made to do wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Protocol {
    /// Nothing.
    #[default]
    Sound,
    /// It claims the lanes of its partitions without holding on to the run's own lane.
    LanesAlone,
    /// It begins a copy without holding on to the run's own lane.
    BeginsUnheld,
    /// It begins a copy and leaves the lanes of the one before as they are.
    OldLanesLeft,
    /// Refused records count once their lane has reached the number, whichever run kept them.
    RefusedPlainly,
}

/// What is simulated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Plan {
    pub(super) mutant: Option<Mutant>,
    pub(super) protocol: Protocol,
    /// Steps of the storm at most, to find a short schedule.
    pub(super) storm_steps_max: Option<u32>,
    pub(super) traces: bool,
}

/// How often things happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Tally {
    pub(super) done: u64,
    pub(super) fenced: u64,
    pub(super) killed: u64,
    pub(super) failed: u64,
    pub(super) reclaims: u64,
    pub(super) late: u64,
    pub(super) copies: u64,
    pub(super) refused: u64,
}

impl Tally {
    /// Both together.
    pub(super) fn plus(self, other: Self) -> Self {
        Self {
            done: self.done + other.done,
            fenced: self.fenced + other.fenced,
            killed: self.killed + other.killed,
            failed: self.failed + other.failed,
            reclaims: self.reclaims + other.reclaims,
            late: self.late + other.late,
            copies: self.copies + other.copies,
            refused: self.refused + other.refused,
        }
    }
}

/// See the module.
pub(super) struct World {
    pub(super) plan: Plan,
    pub(super) random: fastrand::Rng,
    pub(super) sink: Sink,
    pub(super) host: Host,
    pub(super) network: Network,
    pub(super) record_count: Record,
    /// Records that the sink refuses, and those that it refuses now and then.
    poison: BTreeSet<Record>,
    fickle: BTreeSet<Record>,
    pub(super) tally: Tally,
    pub(super) trace: Vec<String>,
}

impl World {
    fn new(seed: u64, plan: Plan) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let record_count = random.u8(1..=12);
        let some = |random: &mut fastrand::Rng, one_in: u32| -> BTreeSet<Record> {
            (0..record_count).filter(|_| random.u32(0..one_in) == 0).collect()
        };
        Self {
            plan,
            record_count,
            poison: some(&mut random, 6),
            fickle: some(&mut random, 8),
            network: Network::new([0, 10, 30, 60][random.usize(0..4)]),
            random,
            sink: Sink::default(),
            host: Host::default(),
            tally: Tally::default(),
            trace: Vec::new(),
        }
    }

    /// Adds a line to the trace, if there is one.
    pub(super) fn note(&mut self, line: impl FnOnce() -> String) {
        if self.plan.traces {
            self.trace.push(line());
        }
    }

    /// Sends a request to the sink.
    pub(super) fn send(&mut self, request: Request) -> Result<CallId, Violation> {
        let text = self.plan.traces.then(|| described(&request));
        let (id, fate) = self.network.send(&mut self.sink, &mut self.random, request)?;
        self.note(|| format!("{} ({fate})", text.unwrap_or_default()));
        Ok(id)
    }

    /// Whether the sink refuses the record this time.
    pub(super) fn refuses(&mut self, record: Record) -> bool {
        self.poison.contains(&record) || (self.fickle.contains(&record) && self.random.bool())
    }

    fn arrive(&mut self) -> Result<bool, Violation> {
        let count = self.network.on_their_way();
        if count == 0 {
            return Ok(false);
        }
        let number = self.random.usize(0..count);
        let text = self.network.arrive(&mut self.sink, number)?;
        self.tally.late += 1;
        self.note(|| text);
        Ok(true)
    }

    /// Whether the last copy was finished.
    fn is_copied(&self) -> bool {
        self.sink.lane(&the_run_lane()).is_some_and(|lane| lane.done)
    }

    /// What must be true of the last copy once nothing more can happen.
    fn judge(&mut self) -> Result<(), Violation> {
        let lost = |what: String| Err(Violation::new(Kind::Lost, what));
        let run = self.sink.lane(&the_run_lane()).cloned().unwrap_or_default();
        let manifest = match Manifest::of_cursor(&run.cursor) {
            Ok(Some(manifest)) => manifest,
            _ => return lost("the manifest of the copy is gone".to_owned()),
        };
        let copy = &manifest.begun_by;
        let lanes: Vec<_> = parts(&manifest).iter().map(part_lane).collect();
        let mut record_count = 0;
        for id in &lanes {
            let Some(lane) = self
                .sink
                .lane(id)
                .filter(|lane| lane.done && lane.begun_by == *copy)
            else {
                return Err(Violation::new(
                    Kind::Unfinished,
                    format!("lane {:?} is not done", id.partition.0),
                ));
            };
            if let Some(seq) = (1..=lane.seq).find(|seq| self.sink.made(id, copy, *seq).is_none()) {
                return Err(Violation::new(
                    Kind::Unfinished,
                    format!("there is no commit {seq}"),
                ));
            }
            record_count += lane.record_count;
        }
        let mut written = 0;
        for record in 0..self.record_count {
            let plainly = self.plan.protocol == Protocol::RefusedPlainly;
            let refused = self.host.refused_count(&self.sink, &lanes, copy, record, plainly);
            let count = self.sink.count(copy, record);
            written += u64::from(count);
            self.tally.refused += u64::from(refused);
            match count + refused {
                1 => {}
                0 => {
                    return lost(format!(
                        "record {record} is neither written nor refused in {copy}"
                    ));
                }
                _ => {
                    let what = format!(
                        "record {record} is written {count} times and refused {refused} times in {copy}"
                    );
                    return Err(Violation::new(Kind::Twice, what));
                }
            }
        }
        let is_sound = (self.plan.mutant, self.plan.protocol) == (None, Protocol::Sound);
        if is_sound && self.tally.failed > 0 {
            return Err(Violation::new(
                Kind::Stuck,
                "a run was refused what had to be possible",
            ));
        }
        if written != record_count {
            let what = format!("the lanes count {record_count} records, {written} are there");
            return Err(Violation::new(Kind::Unfinished, what));
        }
        Ok(())
    }
}

/// All runs of one schedule.
struct Runs {
    runs: Vec<Process>,
}

impl Runs {
    fn start(&mut self, resumes: bool, world: &mut World) {
        let id = self.runs.len();
        world.note(|| {
            format!(
                "process {id} starts, {}",
                if resumes { "resuming" } else { "anew" }
            )
        });
        world.tally.copies += u64::from(!resumes);
        self.runs.push(Process::new(id, resumes));
    }

    /// Those that are there, stopped or not.
    fn live(&self, is_stopped: bool) -> Vec<usize> {
        let runs = self.runs.iter().enumerate();
        let live = runs.filter(|(_, run)| run.is_live() && run.is_stopped == is_stopped);
        live.map(|(number, _)| number).collect()
    }

    fn step_one(&mut self, world: &mut World) -> Result<bool, Violation> {
        let mut live = self.live(false);
        world.random.shuffle(&mut live);
        for number in live {
            if self.runs[number].step(world)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn storm(&mut self, world: &mut World) -> Result<(), Violation> {
        let awake = self.live(false);
        let asleep = self.live(true);
        let one_of = |of: &[usize], world: &mut World| of[world.random.usize(0..of.len())];
        match world.random.u32(0..100) {
            0..2 if !awake.is_empty() => {
                let number = one_of(&awake, world);
                self.runs[number].kill(world);
            }
            2..6 if !awake.is_empty() => {
                let number = one_of(&awake, world);
                self.runs[number].is_stopped = true;
                world.note(|| format!("process {number} is stopped"));
            }
            6..10 if !asleep.is_empty() => {
                let number = one_of(&asleep, world);
                self.runs[number].is_stopped = false;
                world.note(|| format!("process {number} goes on"));
            }
            10..13 if awake.len() + asleep.len() < LIVE_MAX => {
                let resumes = world.random.u32(0..4) > 0;
                self.start(resumes, world);
            }
            13..20 => drop(world.arrive()?),
            _ if awake.is_empty() => self.start(true, world),
            _ => {
                let _: bool = self.step_one(world)? || world.arrive()?;
            }
        }
        Ok(())
    }

    /// Until nothing more can happen and a copy is finished.
    fn calm(&mut self, world: &mut World) -> Result<(), Violation> {
        for _ in 0..CALM_STEPS_MAX {
            let is_first = world.random.u32(0..4) == 0;
            if (is_first && world.arrive()?) || self.step_one(world)? || world.arrive()? {
                continue;
            }
            if !self.live(false).is_empty() {
                break;
            }
            if world.is_copied() {
                return Ok(());
            }
            self.start(true, world);
        }
        Err(Violation::new(Kind::Stuck, "nothing goes on"))
    }
}

/// Plays the schedule of `seed`.
///
/// # Errors
/// What must not be, with the trace if the plan has one.
pub(super) fn play(seed: u64, plan: Plan) -> Result<Tally, (Violation, Vec<String>)> {
    let mut world = World::new(seed, plan);
    let result = play_in(&mut world);
    match result {
        Ok(()) => Ok(world.tally),
        Err(violation) => Err((violation, world.trace)),
    }
}

fn play_in(world: &mut World) -> Result<(), Violation> {
    let mut runs = Runs { runs: Vec::new() };
    runs.start(false, world);
    let drawn = world.random.u32(10..=STORM_STEPS_MAX);
    for _ in 0..drawn.min(world.plan.storm_steps_max.unwrap_or(drawn)) {
        runs.storm(world)?;
    }
    world.network.faults = 0;
    world.note(|| "it is calm".to_owned());
    // Some of those that were stopped go on at once, the others when all is done.
    for wakes_all in [false, true] {
        for number in runs.live(true) {
            if wakes_all || world.random.bool() {
                runs.runs[number].is_stopped = false;
                world.note(|| format!("process {number} goes on"));
            }
        }
        runs.calm(world)?;
    }
    world.judge()
}
