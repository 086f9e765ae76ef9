//! One run of a job at a time: who may begin, and who is told why not.
//! What is held is a row of the store and a living process, not a lock file that a crash leaves behind.

use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use whimbrel_plugin_api::{Error, ErrorKind};

use super::moment::now;
use super::process::{Liveness, Process};
use super::run::{HEARTBEAT_LOST, Hold, NewRun, RunEnd, RunRecord, RunState};
use super::run_id::RunId;
use super::store::{RunFilter, StateStore};

/// The exit code of a run that a defect let go of.
const EXIT_ABANDONED: u8 = 1;

/// Before a holder is replaced it is watched so long for a sign of life, which a run gives each five seconds: a clock that somebody has
/// set must not look like silence.
const LAST_WATCH: Duration = Duration::from_secs(6);
/// How often it is looked at in that time.
const WATCH_INTERVAL: Duration = Duration::from_millis(100);
/// Runs of one job that are written down as running: one, as a rule, and those that were killed since.
const RUNNING_MAX: u32 = 1_000;

/// Why a run may not begin.
#[derive(Debug)]
pub enum Refusal {
    /// Another run of the job goes on.
    AlreadyRunning(Box<RunRecord>),
    /// The store cannot be asked.
    State(Error),
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self::State(error)
    }
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::AlreadyRunning(holder) => already_running(&holder, now()),
            Refusal::State(error) => error,
        }
    }
}

fn already_running(run: &RunRecord, now: DateTime<Utc>) -> Error {
    let message = format!(
        "job `{}` is already running: run `{}` of process {} on `{}`, started by `{}` at {}",
        run.job.name,
        run.id,
        run.holder.pid,
        run.holder.host,
        run.started_by,
        run.started_at.format("%Y-%m-%d %H:%M:%S UTC"),
    );
    let silent_secs = run.silence(now).num_seconds();
    let help = match (run.holder.liveness(), &run.worker) {
        (Liveness::Unknown, _) => format!(
            "its process cannot be looked at from here; it counts as lost {} s after its last sign of life, which \
             was {silent_secs} s ago",
            HEARTBEAT_LOST.num_seconds()
        ),
        _ if run.hold(now) == Hold::Stale => format!(
            "its process is there and has given no sign of life for {silent_secs} s, so it is stopped or hangs; end it with \
             `whimbrel stop {} --emergency`, or take its place with `--take-over`",
            run.id
        ),
        (Liveness::Dead, Some(worker)) => format!(
            "that process has ended, its worker (process {}) still commits what is open; try again in a moment",
            worker.pid
        ),
        _ => format!(
            "wait for its end, which `whimbrel status {0} --watch` does, or end it with `whimbrel stop {0}`",
            run.id
        ),
    };
    Error::new(ErrorKind::Exists, "run.already_running", message).with_help(help)
}

/// Lets `run` begin, if no other one of its job goes on. One that takes over replaces a holder that is silent, and is silent still
/// after it was watched for a moment.
///
/// # Errors
/// Who holds the job, or what is wrong with the store.
pub fn open_run(store: &Arc<dyn StateStore>, run: &NewRun) -> Result<RunGuard, Refusal> {
    open_run_after(store, run, LAST_WATCH)
}

fn open_run_after(store: &Arc<dyn StateStore>, run: &NewRun, watch: Duration) -> Result<RunGuard, Refusal> {
    if run.takes_over
        && let Some(living) = sign_of_life(store.as_ref(), run, watch)?
    {
        return Err(Refusal::AlreadyRunning(Box::new(living)));
    }
    store.begin_run(run)?;
    Ok(RunGuard {
        store: Arc::clone(store),
        id: run.id.clone(),
        has_ended: false,
    })
}

/// A holder that `run` would replace and that gives a sign of life within `watch`, whatever the clocks say.
fn sign_of_life(store: &dyn StateStore, run: &NewRun, watch: Duration) -> Result<Option<RunRecord>, Error> {
    let until = Instant::now() + watch;
    let silent = stale_holders(store, run)?;
    let mut still = silent.clone();
    while !still.is_empty() && Instant::now() < until {
        std::thread::sleep(WATCH_INTERVAL);
        still = stale_holders(store, run)?;
        let beats = |now: &&RunRecord| {
            let before = silent.iter().find(|before| before.id == now.id);
            before.is_none_or(|before| before.heartbeat_at != now.heartbeat_at)
        };
        if let Some(living) = still.iter().find(beats) {
            return Ok(Some(living.clone()));
        }
    }
    Ok(None)
}

fn stale_holders(store: &dyn StateStore, run: &NewRun) -> Result<Vec<RunRecord>, Error> {
    let mut running = store.runs(&RunFilter {
        job: Some(run.job.name.clone()),
        state: Some(RunState::Running),
        limit: RUNNING_MAX,
        ..RunFilter::default()
    })?;
    running.retain(|other| other.is_exclusive && other.hold(run.started_at) == Hold::Stale);
    Ok(running)
}

/// The right to a run. Let go of without an end, the run counts as failed.
pub struct RunGuard {
    store: Arc<dyn StateStore>,
    id: RunId,
    has_ended: bool,
}

impl RunGuard {
    /// The run.
    pub fn id(&self) -> &RunId {
        &self.id
    }

    /// Where it is remembered.
    pub fn store(&self) -> &Arc<dyn StateStore> {
        &self.store
    }

    /// Notes the process with number `pid`, which works for this one and may outlive it for a moment.
    ///
    /// # Errors
    /// As [`StateStore::note_worker`].
    pub fn note_worker(&self, pid: u32) -> Result<(), Error> {
        self.store.note_worker(&self.id, &Process::of(pid))
    }

    /// Ends the run; may be tried again.
    ///
    /// # Errors
    /// As [`StateStore::end_run`].
    pub fn end(&mut self, end: &RunEnd) -> Result<(), Error> {
        let ended = self.store.end_run(&self.id, end);
        self.has_ended = ended.is_ok();
        ended
    }
}

impl Drop for RunGuard {
    fn drop(&mut self) {
        if !self.has_ended {
            let error = Error::new(
                ErrorKind::Internal,
                "run.abandoned",
                "the run was let go of without an end",
            );
            let end = RunEnd::new(RunState::Failed, EXIT_ABANDONED, Some(&error));
            // Nobody is left to be told; once this process has ended, the run is seen to have crashed.
            drop(self.store.end_run(&self.id, &end));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::fixtures::{Place, Sleeper, new_run, open, run};
    use crate::state::{NewRun, News, RunFilter, RunId};
    use std::io::BufRead as _;
    use std::process::{Command, Stdio};
    use std::sync::Barrier;

    /// Names the store for [`one_process_of_the_race`].
    const RACE_STORE: &str = "WHIMBREL_TEST_RACE_STORE";

    fn refused(refusal: Result<RunGuard, Refusal>) -> (RunRecord, Error) {
        match refusal {
            Err(Refusal::AlreadyRunning(holder)) => {
                ((*holder).clone(), Refusal::AlreadyRunning(holder).into())
            }
            Err(Refusal::State(error)) => panic!("the store failed: {error:?}"),
            Ok(_) => panic!("two runs of a job began"),
        }
    }

    fn held_by(process: Process) -> NewRun {
        NewRun {
            holder: process,
            ..new_run("a")
        }
    }

    #[test]
    fn a_second_run_is_told_who_holds_the_job() {
        let place = Place::new();
        let store = place.open();
        let first = new_run("a");
        let guard = open_run(&store, &first).unwrap();
        let other = open(&place.path());
        let (holder, error) = refused(open_run(&other, &new_run("a")));
        assert_eq!(&holder.id, guard.id());
        assert_eq!(error.code, "run.already_running");
        for part in [
            first.id.as_str(),
            &format!("process {}", std::process::id()),
            &first.started_by,
            &first.started_at.format("%Y-%m-%d %H:%M:%S UTC").to_string(),
        ] {
            assert!(error.message.contains(part), "{part} in {}", error.message);
        }
        drop(open_run(&other, &new_run("b")).unwrap());
        let look = NewRun {
            is_exclusive: false,
            ..new_run("a")
        };
        drop(open_run(&other, &look).unwrap());
        drop(guard);
        drop(open_run(&other, &new_run("a")).unwrap());
    }

    #[test]
    fn of_twenty_threads_that_also_make_the_store_one_wins() {
        let place = Place::new();
        let (path, barrier) = (place.path(), Barrier::new(20));
        let begun: Vec<Result<RunGuard, Refusal>> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..20)
                .map(|_| {
                    scope.spawn(|| {
                        barrier.wait();
                        let store = open(&path);
                        open_run(&store, &new_run("a"))
                    })
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let (winners, losers): (Vec<_>, Vec<_>) = begun.into_iter().partition(Result::is_ok);
        assert_eq!((winners.len(), losers.len()), (1, 19));
        let winner = winners[0].as_ref().unwrap().id().clone();
        for loser in losers {
            assert_eq!(refused(loser).0.id, winner);
        }
        assert_eq!(
            std::fs::read_dir(path.parent().unwrap()).unwrap().count(),
            3,
            "file, log and shared memory"
        );
    }

    #[test]
    fn of_twenty_processes_one_wins() {
        let place = Place::new();
        let name = "one_process_of_the_race";
        let module = module_path!().split_once("::").unwrap().1;
        let mut children: Vec<_> = (0..20)
            .map(|_| {
                Command::new(std::env::current_exe().unwrap())
                    .args(["--exact", "--nocapture", &format!("{module}::{name}")])
                    .env(RACE_STORE, place.path())
                    // Holds its run until this end of the pipe is closed.
                    .stdin(Stdio::piped())
                    .stdout(Stdio::piped())
                    .stderr(Stdio::null())
                    .spawn()
                    .unwrap()
            })
            .collect();
        let mut outputs: Vec<_> = children
            .iter_mut()
            .map(|child| std::io::BufReader::new(child.stdout.take().unwrap()).lines())
            .collect();
        let mut said = Vec::new();
        for lines in &mut outputs {
            said.extend(lines.map_while(Result::ok).find_map(|line| {
                let (_, said) = line.split_once("race: ")?;
                Some(said.to_owned())
            }));
        }
        said.sort();
        let mut wanted = vec!["run.already_running".to_owned(); 19];
        wanted.insert(0, "begun".to_owned());
        assert_eq!(said, wanted);
        for mut child in children {
            drop(child.stdin.take());
            child.wait().unwrap();
        }
    }

    /// Does nothing unless [`of_twenty_processes_one_wins`] started it.
    #[test]
    fn one_process_of_the_race() {
        let Some(path) = std::env::var_os(RACE_STORE) else {
            return;
        };
        let store = open(path.as_ref());
        let begun = open_run(&store, &new_run("a"));
        match &begun {
            Ok(_) => println!("race: begun"),
            Err(Refusal::AlreadyRunning(_)) => println!("race: run.already_running"),
            Err(Refusal::State(error)) => println!("race: {error:?}"),
        }
        drop(std::io::stdin().read_line(&mut String::new()));
    }

    #[test]
    fn a_run_whose_process_was_killed_has_crashed_and_lets_the_next_one_in() {
        let place = Place::new();
        let store = place.open();
        let holder = Sleeper::start();
        let lost = held_by(holder.process());
        std::mem::forget(open_run(&store, &lost).unwrap());
        assert_eq!(refused(open_run(&store, &new_run("a"))).0.id, lost.id);
        drop(holder);
        assert_eq!(
            run(&store, &lost.id).state,
            RunState::Running,
            "nobody wrote it down yet"
        );
        assert_eq!(run(&store, &lost.id).state_now(), RunState::Crashed);
        let next = open_run(&store, &new_run("a")).unwrap();
        let crashed = run(&store, &lost.id);
        assert_eq!(
            (crashed.state, crashed.ended_at, crashed.exit_code),
            (RunState::Crashed, None, None)
        );
        assert_eq!(run(&store, next.id()).state_now(), RunState::Running);
    }

    #[test]
    fn a_reused_process_number_does_not_hold_a_run() {
        let place = Place::new();
        let store = place.open();
        let this = Process::this();
        let earlier = Process {
            started_ticks: this.started_ticks - 1,
            ..this
        };
        std::mem::forget(open_run(&store, &held_by(earlier)).unwrap());
        drop(open_run(&store, &new_run("a")).unwrap());
    }

    #[test]
    fn a_worker_that_outlives_its_supervisor_holds_the_run() {
        let place = Place::new();
        let store = place.open();
        let this = Process::this();
        let dead = Process {
            started_ticks: this.started_ticks - 1,
            ..this
        };
        let worker = Sleeper::start();
        let guard = open_run(&store, &held_by(dead)).unwrap();
        guard.note_worker(worker.process().pid).unwrap();
        std::mem::forget(guard);
        let (_, error) = refused(open_run(&store, &new_run("a")));
        let named = format!("its worker (process {})", worker.process().pid);
        assert!(error.help.as_ref().unwrap().contains(&named), "{error:?}");
        drop(worker);
        drop(open_run(&store, &new_run("a")).unwrap());
    }

    #[test]
    fn a_run_of_another_host_counts_as_lost_a_minute_after_its_last_sign_of_life() {
        let place = Place::new();
        let store = place.open();
        let elsewhere = Process {
            host: "elsewhere".to_owned(),
            boot: "other pid:[1]".to_owned(),
            ..Process::this()
        };
        let held = held_by(elsewhere);
        let guard = open_run(&store, &held).unwrap();
        let (_, error) = refused(open_run(&store, &new_run("a")));
        assert!(error.message.contains("on `elsewhere`"), "{}", error.message);
        assert!(error.help.as_ref().unwrap().contains("60 s"), "{error:?}");
        let beat = |seconds| News {
            events: Vec::new(),
            rejected: Vec::new(),
            counts: crate::state::Counts::default(),
            plugins: Vec::new(),
            heartbeat_at: Utc::now() - chrono::TimeDelta::seconds(seconds),
        };
        store.record(&held.id, &beat(58)).unwrap();
        refused(open_run(&store, &new_run("a")));
        store.record(&held.id, &beat(62)).unwrap();
        let next = open_run(&store, &new_run("a")).unwrap();
        // It was not lost after all, and learns that it must end.
        assert_eq!(store.record(&held.id, &beat(0)).unwrap_err().code, "run.fenced");
        let mut guard = guard;
        let end = RunEnd::new(RunState::Done, 0, None);
        assert_eq!(guard.end(&end).unwrap_err().code, "run.fenced");
        assert_eq!(run(&store, &held.id).state, RunState::Crashed);
        drop(next);
    }

    /// A run of this job that a living process holds, whose last sign of life was `silent_secs` ago.
    fn held_and_silent(store: &Arc<dyn StateStore>, holder: &Sleeper, silent_secs: i64) -> NewRun {
        let held = held_by(holder.process());
        std::mem::forget(open_run(store, &held).unwrap());
        beat(store, &held.id, silent_secs).unwrap();
        held
    }

    fn beat(store: &Arc<dyn StateStore>, run: &RunId, ago_secs: i64) -> Result<(), Error> {
        let news = News {
            events: Vec::new(),
            rejected: Vec::new(),
            counts: crate::state::Counts::default(),
            plugins: Vec::new(),
            heartbeat_at: Utc::now() - chrono::TimeDelta::seconds(ago_secs),
        };
        store.record(run, &news)
    }

    fn taking_over() -> NewRun {
        NewRun {
            takes_over: true,
            ..new_run("a")
        }
    }

    #[test]
    fn a_silent_holder_that_lives_is_replaced_by_one_that_asks_for_it() {
        let place = Place::new();
        let store = place.open();
        let holder = Sleeper::start();
        let held = held_and_silent(&store, &holder, 75);
        let (_, error) = refused(open_run(&store, &new_run("a")));
        let help = error.help.unwrap();
        for part in [
            "no sign of life for 75 s",
            &format!("whimbrel stop {} --emergency", held.id),
            "--take-over",
        ] {
            assert!(help.contains(part), "{part} in {help}");
        }
        assert_eq!(run(&store, &held.id).state_now(), RunState::Running);
        let next = open_run_after(&store, &taking_over(), Duration::ZERO).unwrap();
        let replaced = run(&store, &held.id);
        assert_eq!((replaced.state, replaced.ended_at), (RunState::Crashed, None));
        let failure = replaced.failure.unwrap();
        assert_eq!(failure.code, "run.fenced");
        assert!(
            failure.message.contains(next.id().as_str()),
            "{}",
            failure.message
        );
        assert_eq!(
            beat(&store, &held.id, 0).unwrap_err().code,
            "run.fenced",
            "it woke up"
        );
        assert_eq!(run(&store, next.id()).state_now(), RunState::Running);
    }

    #[test]
    fn a_holder_that_gives_signs_of_life_is_not_replaced() {
        let place = Place::new();
        let store = place.open();
        let holder = Sleeper::start();
        let held = held_and_silent(&store, &holder, 55);
        let refusal = open_run_after(&store, &taking_over(), Duration::ZERO);
        assert_eq!(refused(refusal).0.id, held.id);
    }

    #[test]
    fn t1_a_clock_that_was_set_forward_does_not_make_a_holder_silent() {
        let place = Place::new();
        let store = place.open();
        let holder = Sleeper::start();
        let held = held_and_silent(&store, &holder, 3_600);
        let theirs = place.open();
        // Once the holder's clock is right again, and once by a clock that stays wrong.
        for ago_secs in [0, 3_590] {
            beat(&store, &held.id, 3_600).unwrap();
            let refusal = std::thread::scope(|scope| {
                let waiting = scope.spawn(|| open_run_after(&store, &taking_over(), Duration::from_secs(60)));
                while !waiting.is_finished() {
                    beat(&theirs, &held.id, ago_secs).unwrap();
                    // One that never rests would keep the other from the store until its time for that is up.
                    std::thread::park_timeout(Duration::from_millis(2));
                }
                waiting.join().unwrap()
            });
            assert_eq!(refused(refusal).0.id, held.id);
            assert_eq!(run(&store, &held.id).state_now(), RunState::Running);
        }
    }

    #[test]
    fn a_run_let_go_of_without_an_end_has_failed() {
        let place = Place::new();
        let store = place.open();
        let guard = open_run(&store, &new_run("a")).unwrap();
        let id: RunId = guard.id().clone();
        drop(guard);
        let ended = run(&store, &id);
        assert_eq!((ended.state, ended.exit_code), (RunState::Failed, Some(1)));
        assert_eq!(ended.failure.unwrap().code, "run.abandoned");
        assert!(ended.ended_at.is_some());
        let all = RunFilter {
            limit: 10,
            ..RunFilter::default()
        };
        assert_eq!(store.runs(&all).unwrap().len(), 1);
    }
}
