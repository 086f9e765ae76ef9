//! Lanes under faults: schedules of kills, stops, take-overs, lost and late answers, drawn from a seed, thousands of them.
//!
//! The runs use the [`Lane`](super::Lane) of production, the sink follows the rules of
//! [`LaneState`](whimbrel_plugin_api::sink::LaneState). The seed is printed; `WHIMBREL_SEED` sets it. Of a schedule that fails, the
//! shortest beginning that does is printed. In `simulation/`: `world` (schedule and judgement), `process` and `part` (a run),
//! `network`, `systems` (sink, host, source), `mutant` (faults of the lane that must be noticed).

mod mutant;
mod network;
mod part;
mod process;
mod systems;
mod world;

pub(super) use mutant::Mutant;

use systems::{Kind, Violation};
use world::{Plan, Protocol, Tally, play};

/// Schedules that the lane of production goes through each time, unless `WHIMBREL_SCHEDULES` sets another number.
const SCHEDULES: u64 = 5_000;
/// Schedules within which each mutant must be noticed.
const SCHEDULES_OF_MUTANT: u64 = 2_000;
/// Lines of a trace that are shown, the last ones.
const TRACE_LINES_MAX: usize = 80;

/// From `WHIMBREL_SEED`, or another one each time.
fn first_seed() -> u64 {
    let seed = given("WHIMBREL_SEED").unwrap_or_else(|| fastrand::u64(..));
    println!("WHIMBREL_SEED={seed}");
    seed
}

fn given(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

/// The seeds of schedules: the first one is the given one itself, so that a failure is repeated at once.
fn seeds(count: u64) -> impl Iterator<Item = u64> {
    let first = first_seed();
    (0..count).map(move |number| first.wrapping_add(number))
}

/// The shortest beginning of the schedule that shows a violation, for people.
fn explained(seed: u64, plan: Plan) -> String {
    let shortened = (0..=200).find_map(|steps| {
        let plan = Plan {
            storm_steps_max: Some(steps),
            traces: true,
            ..plan
        };
        play(seed, plan).err()
    });
    let Some((violation, trace)) = shortened else {
        return format!("WHIMBREL_SEED={seed}: no violation when it is played again");
    };
    let left_out = trace.len().saturating_sub(TRACE_LINES_MAX);
    let lines = trace[left_out..].join("\n  ");
    let Violation { kind, what } = violation;
    format!("WHIMBREL_SEED={seed}: {kind:?}: {what}\n  ({left_out} lines before)\n  {lines}")
}

/// The first violation among the schedules that is of one of the kinds, with its seed; or the other kinds that were seen.
fn first_violation(plan: Plan, expected: &[Kind]) -> Result<(u64, Violation), Vec<Kind>> {
    let mut others = Vec::new();
    for seed in seeds(SCHEDULES_OF_MUTANT) {
        match play(seed, plan) {
            Err((violation, _)) if expected.contains(&violation.kind) => return Ok((seed, violation)),
            Err((violation, _)) => others.push(violation.kind),
            Ok(_) => {}
        }
    }
    Err(others)
}

/// A fault has consequences, which some schedules show before the fault itself; it must be seen as what it is all the same.
#[track_caller]
fn is_noticed_as(plan: Plan, expected: &[Kind]) {
    match first_violation(plan, expected) {
        Ok((seed, violation)) => println!("noticed with seed {seed}: {}", violation.what),
        Err(others) => panic!("{plan:?} is not noticed as {expected:?}, but as {others:?}"),
    }
}

fn mutant(mutant: Mutant) -> Plan {
    Plan {
        mutant: Some(mutant),
        ..Plan::default()
    }
}

fn driver(protocol: Protocol) -> Plan {
    Plan {
        protocol,
        ..Plan::default()
    }
}

#[test]
fn every_record_is_written_or_refused_once_whatever_befalls_the_runs() {
    let plan = Plan::default();
    let mut sum = Tally::default();
    let count = given("WHIMBREL_SCHEDULES").unwrap_or(SCHEDULES);
    for seed in seeds(count) {
        match play(seed, plan) {
            Err(_) => panic!("{}", explained(seed, plan)),
            Ok(tally) => sum = sum.plus(tally),
        }
    }
    // A storm in which nothing happens would show nothing.
    println!("{sum:?}");
    let counts = [
        sum.done,
        sum.fenced,
        sum.killed,
        sum.reclaims,
        sum.late,
        sum.copies,
        sum.refused,
    ];
    assert!(counts.iter().all(|number| *number > count / 10), "{sum:?}");
}

#[test]
fn a_seed_gives_the_same_schedule_again() {
    let plan = mutant(Mutant::CursorEarly);
    let (seed, violation) = first_violation(plan, &[Kind::Lost]).unwrap();
    let (again, _) = play(seed, plan).unwrap_err();
    assert_eq!(again, violation);
    assert!(explained(seed, plan).contains("Lost"));
}

#[test]
fn a_dropped_guard_is_noticed() {
    is_noticed_as(mutant(Mutant::GuardDropped), &[Kind::Twice]);
}

#[test]
fn a_commit_before_refused_records_are_durable_is_noticed() {
    is_noticed_as(mutant(Mutant::RefusedLate), &[Kind::Lost]);
}

#[test]
fn host_state_saved_before_the_commit_is_noticed() {
    is_noticed_as(mutant(Mutant::SavedFirst), &[Kind::HostAhead]);
}

#[test]
fn a_blind_resend_is_noticed() {
    is_noticed_as(mutant(Mutant::BlindResend), &[Kind::FencedWithoutCause]);
}

#[test]
fn a_commit_without_epoch_is_noticed() {
    is_noticed_as(mutant(Mutant::EpochUnchecked), &[Kind::FencedWrote]);
}

#[test]
fn a_claim_that_takes_a_lane_back_is_noticed() {
    is_noticed_as(mutant(Mutant::ReclaimUnheld), &[Kind::FencedTookBack]);
}

#[test]
fn a_cursor_saved_early_is_noticed() {
    is_noticed_as(mutant(Mutant::CursorEarly), &[Kind::Lost]);
}

#[test]
fn lanes_claimed_without_the_lane_of_the_run_are_noticed() {
    is_noticed_as(
        driver(Protocol::LanesAlone),
        &[Kind::FencedWrote, Kind::FencedTookBack, Kind::Twice],
    );
}

#[test]
fn a_copy_begun_without_holding_the_lane_of_the_run_is_noticed() {
    is_noticed_as(
        driver(Protocol::BeginsUnheld),
        &[Kind::FencedTookBack, Kind::FencedWrote],
    );
}

#[test]
fn lanes_of_an_older_copy_that_are_left_are_noticed() {
    is_noticed_as(driver(Protocol::OldLanesLeft), &[Kind::FencedWrote]);
}

#[test]
fn refused_records_that_count_by_number_alone_are_noticed() {
    is_noticed_as(driver(Protocol::RefusedPlainly), &[Kind::Twice]);
}
