//! Twenty-five SIGKILLs of each sink's runs, at moments drawn by chance, each followed by a resume that may be killed as well.
//!
//! The seed is printed and can be given as `WHIMBREL_SEED`; `WHIMBREL_KILLS` asks for more kills of each sink.

use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::targets::{LibsqlFile, LibsqlServer, Postgres, Target, ThroughLayer};
use super::{assert_whole, stage_for};
use crate::kills::Random;
use crate::postgres_job::report_of;
use crate::program::Stage;
use crate::running::{Running, children, wait_until};

/// Kills of each sink in a run of the suite.
const KILLS: u64 = 25;
/// A copy is so often broken off, at most, before it is let go to its end.
const KILLS_OF_A_COPY: u64 = 6;

fn kills() -> u64 {
    let given = std::env::var("WHIMBREL_KILLS").ok();
    given.and_then(|text| text.parse().ok()).unwrap_or(KILLS)
}

/// How long a run takes that nobody disturbs.
struct Pace {
    to_first_commit: Duration,
    from_first_commit: Duration,
}

impl Pace {
    fn of(target: &mut dyn Target) -> Self {
        target.reset();
        let stage = stage_for(target);
        let started = Instant::now();
        let mut running = Running::start(&stage, &[]);
        running.until_named("committed");
        let to_first_commit = started.elapsed();
        running.finish().expect(0);
        Self {
            to_first_commit,
            from_first_commit: started.elapsed() - to_first_commit,
        }
    }
}

/// What was killed.
#[derive(PartialEq)]
enum Killed {
    /// A program that had not begun its run.
    Program,
    Run,
}

/// Kills a run and its worker after a time by chance, unless it has ended before.
fn kill_in_mid_run(stage: &Stage, command: &str, pace: &Pace, random: &mut Random) -> Option<Killed> {
    let arguments: &[&str] = match command {
        "run" => &["run", "job.yaml", "--events", "json"],
        _ => &["resume", "--events", "json"],
    };
    let started = Instant::now();
    let mut running = Running::spawn(stage.command(arguments), stage.path("stderr.txt"));
    let mut time_left = pace.to_first_commit;
    // Most of a run is its start, so the first half of the draws waits for the first commit.
    if random.below(2) == 0 {
        let is_commit = |event: &Value| event["event"] == "committed" || event["event"] == "finished";
        if !running.seek(is_commit) {
            // The one before was killed when all was done.
            return None;
        }
        time_left = pace.from_first_commit;
    }
    let wait = Duration::from_micros(random.below(time_left.as_micros() as u64));
    let workers = children(running.pid());
    let until = started.elapsed() + wait;
    while started.elapsed() < until {
        std::thread::yield_now();
    }
    if running.has_ended() {
        return None;
    }
    let workers = if workers.is_empty() {
        children(running.pid())
    } else {
        workers
    };
    running.kill();
    for worker in workers {
        // It may have gone with its supervisor.
        let killed = kill_process(worker, Signal::KILL);
        assert!(matches!(killed, Ok(()) | Err(Errno::SRCH)), "{killed:?}");
        wait_for(worker);
    }
    // The first thing that a run says is that it has started.
    let has_started = !running.events.is_empty() || running.seek(|_| true);
    Some(if has_started { Killed::Run } else { Killed::Program })
}

/// A run that was killed before it was written down anywhere is begun anew.
fn next_command(stage: &Stage) -> &'static str {
    let runs = stage.run(&["runs", "--json"]);
    if runs.out.contains("\"id\"") {
        "resume"
    } else {
        "run"
    }
}

fn wait_for(worker: Pid) {
    wait_until("the worker is gone", || !crate::running::is_alive(worker));
}

fn killed_at_random(target: &mut dyn Target, test: u64) {
    let mut random = Random::of_test(test);
    let pace = Pace::of(target);
    let (mut left, mut copies, mut killed_runs) = (kills(), 0, 0);
    while left > 0 {
        target.reset();
        let stage = stage_for(target);
        let mut command = "run";
        for _ in 0..KILLS_OF_A_COPY.min(left) {
            let Some(killed) = kill_in_mid_run(&stage, command, &pace, &mut random) else {
                break;
            };
            left -= 1;
            killed_runs += u64::from(killed == Killed::Run);
            command = next_command(&stage);
        }
        copies += 1;
        let when = format!("copy {copies}");
        let answer = match next_command(&stage) {
            "run" => stage.run(&["run", "job.yaml", "--json"]),
            _ => stage.run(&["resume", "--json"]),
        };
        if answer.out.contains("resume.nothing_to_do") {
            // The last one was not killed, or too late.
            target.assert_written_once(&when);
        } else {
            assert_whole(target, &report_of(answer, 0), &when);
        }
    }
    println!(
        "{} kills in {copies} copies, {killed_runs} of them after the run had started",
        kills()
    );
}

#[test]
fn k1_killed_at_random_postgres_is_whole_after_resume() {
    if let Some(mut target) = Postgres::new() {
        killed_at_random(&mut target, 11);
    }
}

#[test]
fn k1_killed_at_random_a_libsql_file_is_whole_after_resume() {
    killed_at_random(&mut LibsqlFile::new(), 12);
}

#[test]
fn k1_killed_at_random_a_libsql_server_is_whole_after_resume() {
    if let Some(mut target) = LibsqlServer::new() {
        killed_at_random(&mut target, 13);
    }
}

#[test]
fn k1_killed_at_random_firestore_is_whole_after_resume() {
    if let Some(mut target) = ThroughLayer::new() {
        killed_at_random(&mut target, 14);
    }
}
