//! Which run can be gone on with, among those that are remembered, and what is known of its copy.
//!
//! A copy is made by a chain of runs: one that begins it, and those that go on with it. Of each job the newest one counts; what came
//! before was begun anew since. How far a copy has got is known to the sink alone: what is here is held against it.

use std::collections::HashSet;

use whimbrel_plugin_api::{Error, Finding};

use super::kept_flags::KeptFlags;
use super::remembered::Remembered;
use crate::state::{Durable, Hold, Refusal, RunFilter, RunId, RunRecord, RunState, StateStore, now};
use crate::status::{PartitionCheckpoint, RunCheckpoint};
use crate::workspace::Workspace;

/// Runs that are looked at, the newest first; older ones are named by whoever means them.
const LOOKED_AT_MAX: u32 = 1_000;
/// Runs of one copy: each one was ended early.
const CHAIN_MAX: u32 = 10_000;

/// Which run somebody means.
#[derive(Default)]
pub struct Wanted<'a> {
    /// The one whose id begins so.
    pub run: Option<&'a str>,
    /// The newest one for which this holds.
    pub of_job: Option<&'a dyn Fn(&RunRecord) -> bool>,
    /// Even one whose process lives and says nothing.
    pub takes_over: bool,
}

/// The runs of the copy that is meant, the oldest first; the last one is gone on with. `None` if no run of the job is known.
///
/// # Errors
/// `run.none`, `run.unknown` and so on; `resume.no_copy`, `resume.nothing_to_do`, `run.already_running`.
pub fn choose(remembered: &Remembered, wanted: &Wanted<'_>) -> Result<Option<Vec<RunRecord>>, Error> {
    if let Some(run) = wanted.run {
        let run = remembered.run(Some(run))?;
        if !run.is_copy() {
            return Err(no_copy(&run));
        }
        let chain = chain(remembered, &run)?;
        let last = chain.last().unwrap_or(&run);
        judge(last, wanted.takes_over)?;
        not_cleared_since(remembered, last)?;
        return Ok(Some(chain));
    }
    let mut newest = newest_of_each_job(remembered)?;
    let last = match wanted.of_job {
        Some(is_of_job) => {
            newest.retain(is_of_job);
            match newest.into_iter().next() {
                Some(last) => last,
                None => return Ok(None),
            }
        }
        None => newest_that_goes_on(remembered, newest, wanted.takes_over)?,
    };
    judge(&last, wanted.takes_over)?;
    chain(remembered, &last).map(Some)
}

fn newest_that_goes_on(
    remembered: &Remembered,
    newest: Vec<RunRecord>,
    takes_over: bool,
) -> Result<RunRecord, Error> {
    let goes_on = newest.iter().find(|run| judge(run, takes_over).is_ok());
    let runs = newest.iter().find(|run| run.state == RunState::Running);
    match (goes_on.or(runs), newest.is_empty()) {
        (Some(run), _) => Ok(run.clone()),
        (None, true) => Err(remembered.none()),
        (None, false) => {
            let message = format!(
                "no run in `{}` ended early: there is nothing to resume",
                remembered.workspace.root().display()
            );
            Err(Error::config("resume.nothing_to_do", message)
                .with_help("`whimbrel runs` lists what is there"))
        }
    }
}

/// The runs of the newest copy of `job`, the oldest first; empty if none is known.
///
/// # Errors
/// What is wrong with the state.
pub fn newest_copy(remembered: &Remembered, job: &str) -> Result<Vec<RunRecord>, Error> {
    let runs = remembered.runs(Some(job), None, LOOKED_AT_MAX)?;
    match runs.iter().find(|run| counts(run)) {
        Some(newest) if !newest.has_cleared() => chain(remembered, newest),
        _ => Ok(Vec::new()),
    }
}

/// Of each job the newest run that copied or might have, or that has removed what was copied; the newest first.
fn newest_of_each_job(remembered: &Remembered) -> Result<Vec<RunRecord>, Error> {
    let mut seen = HashSet::new();
    let mut runs = remembered.runs(None, None, LOOKED_AT_MAX)?;
    runs.retain(|run| counts(run) && seen.insert(run.job.name.clone()));
    Ok(runs)
}

/// What decides whether something of a job can be gone on with.
fn counts(run: &RunRecord) -> bool {
    has_begun(run) || run.has_cleared()
}

/// One that was refused has changed nothing: what was before it still holds.
fn has_begun(run: &RunRecord) -> bool {
    run.is_copy() && run.state != RunState::Refused
}

/// The runs that can be gone on with by their ids, as lists of runs show it.
///
/// # Errors
/// What is wrong with the state.
pub fn all(remembered: &Remembered) -> Result<HashSet<RunId>, Error> {
    let newest = newest_of_each_job(remembered)?.into_iter();
    Ok(newest
        .filter(RunRecord::can_be_resumed)
        .map(|run| run.id)
        .collect())
}

/// The newest run that goes on with `run`, if there is one.
///
/// # Errors
/// What is wrong with the state.
pub fn next(remembered: &Remembered, run: &RunRecord) -> Result<Option<RunId>, Error> {
    let goes_on = |other: &RunRecord| other.origin.resumes.as_deref() == Some(run.id.as_str());
    let chain = chain(remembered, run)?;
    Ok(chain.into_iter().rev().find(goes_on).map(|run| run.id))
}

/// The runs of the copy of `run`, the oldest first, without those that were refused.
///
/// # Errors
/// What is wrong with the state.
pub fn chain(remembered: &Remembered, run: &RunRecord) -> Result<Vec<RunRecord>, Error> {
    let mut chain = remembered.select(&RunFilter {
        chain: Some(run.chain().to_owned()),
        limit: CHAIN_MAX,
        ..RunFilter::default()
    })?;
    chain.retain(|known| has_begun(known) || known.id == run.id && run.state == RunState::Refused);
    if chain.iter().any(has_begun) {
        chain.retain(has_begun);
    }
    chain.reverse();
    Ok(chain)
}

fn judge(run: &RunRecord, takes_over: bool) -> Result<(), Error> {
    let job = run.job.path.display();
    let (why, help) = match run.state {
        RunState::Running if !takes_over || run.hold(now()) != Hold::Stale => {
            return Err(Refusal::AlreadyRunning(Box::new(run.clone())).into());
        }
        _ if run.has_cleared() => (
            "has removed from the sink what was copied before: there is nothing to resume",
            format!("`whimbrel run {job}` copies the job anew"),
        ),
        RunState::Done => (
            "is done: there is nothing to resume",
            format!(
                "`whimbrel run {job}` copies the job anew, `whimbrel verify {job}` compares both sides again"
            ),
        ),
        RunState::Refused => (
            "was refused before it wrote anything: there is nothing to resume",
            format!(
                "remove the cause, which `whimbrel status {}` names, then `whimbrel run {job}`",
                run.id
            ),
        ),
        _ => return Ok(()),
    };
    let message = format!("run `{}` of job `{}` {why}", run.id, run.job.name);
    Err(Error::config("resume.nothing_to_do", message).with_help(help))
}

/// Whether what a run has copied was left in the sink. Of a clearing that came to no good end only the sink knows what it has done.
fn not_cleared_since(remembered: &Remembered, run: &RunRecord) -> Result<(), Error> {
    let runs = remembered.runs(Some(&run.job.name), None, LOOKED_AT_MAX)?;
    let mut later = runs.iter().take_while(|other| other.id != run.id);
    match later.find(|other| other.has_cleared() && other.state == RunState::Done) {
        None => Ok(()),
        Some(clearing) => {
            let message = format!(
                "run `{}` of job `{}` cannot be gone on with: run `{}` has cleared the sink since",
                run.id, run.job.name, clearing.id
            );
            let help = format!("`whimbrel run {}` copies the job anew", run.job.path.display());
            Err(Error::config("resume.nothing_to_do", message).with_help(help))
        }
    }
}

fn no_copy(run: &RunRecord) -> Error {
    let message = format!("run `{}` is a `{}`, which cannot be resumed", run.id, run.command);
    Error::config("resume.no_copy", message).with_help(
        "only `whimbrel run` and `whimbrel resume` copy what can be gone on with; give the command again",
    )
}

/// The command that goes on with `run`, as it is typed in the current folder.
pub fn command(workspace: &Workspace, run: &RunId) -> String {
    let root = workspace.root();
    let beside = Workspace::of_job("job.yaml".as_ref(), None);
    let is_here = std::path::absolute(beside.root()).ok() == std::path::absolute(root).ok();
    match is_here {
        true => format!("whimbrel resume {run}"),
        false => format!(
            "whimbrel resume {run} --working-dir {}",
            crate::report::quoted(&root.display().to_string())
        ),
    }
}

/// Says of a run that begins anew which earlier one could be gone on with.
///
/// # Errors
/// What is wrong with the state.
pub fn unfinished(
    store: &dyn StateStore,
    workspace: &Workspace,
    job: &str,
) -> Result<Option<Finding>, Error> {
    let runs = store.runs(&RunFilter {
        job: Some(job.to_owned()),
        limit: LOOKED_AT_MAX,
        ..RunFilter::default()
    })?;
    let newest = runs.into_iter().find(counts);
    Ok(newest.filter(RunRecord::can_be_resumed).map(|run| {
        let state = run.state_now().name();
        let message = format!(
            "run `{}` of this job ended early ({state}) and could be resumed; this one begins anew",
            run.id
        );
        let help = format!("`{}` goes on with it", command(workspace, &run.id));
        Finding::warning("run.unfinished", message).with_help(help)
    }))
}

/// What is known to be durable of the copy of `chain`: by the events in the state, and by the files of the runs' folders.
///
/// # Errors
/// What is wrong with the state. A file that cannot be read says nothing: the state and the sink know better.
pub fn durable(
    store: &dyn StateStore,
    workspace: &Workspace,
    chain: &[RunRecord],
) -> Result<RunCheckpoint, Error> {
    let mut known = RunCheckpoint::new("", now());
    for run in chain {
        if KeptFlags::of_json(&run.overrides)?.accepts_sink_cursor {
            // The sink was restored before that run: what was seen until then is not there any more.
            known = RunCheckpoint::new("", now());
        }
        let anew = store.begun_anew(&run.id)?;
        anew.iter().for_each(|collection| known.forget(collection));
        for part in store.durable(&run.id)? {
            add(&mut known, part);
        }
        let file = workspace.run(run.id.as_str()).map(|folder| folder.checkpoint());
        if let Ok(mut file) = file.and_then(|path| RunCheckpoint::read(&path))
            && file.run_id == run.id.as_str()
        {
            // It may have been written before they were begun anew.
            anew.iter().for_each(|collection| file.forget(collection));
            known.merge(file);
        }
    }
    Ok(known)
}

/// Commits come in the order of their numbers; one that is known already adds nothing.
fn add(known: &mut RunCheckpoint, part: Durable) {
    let before = known.collections.get(&part.collection);
    let is_known = before
        .and_then(|partitions| partitions.get(&part.partition))
        .is_some_and(|before| before.seq >= part.seq);
    if !is_known {
        let now = PartitionCheckpoint {
            seq: part.seq,
            cursor: part.cursor,
            record_count: part.record_count,
            done: part.done,
            committed_at: part.at,
        };
        known.commit(&part.collection, &part.partition, now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::remembered::fixtures;
    use crate::events::Event;
    use crate::state::{CLEAR, Counts, EventRecord, JobSeen, NewRun, News, Process, RunEnd, RunOrigin};
    use chrono::TimeDelta;
    use tempfile::TempDir;
    use whimbrel_plugin_api::Cursor;

    fn end(remembered: &Remembered, run: &RunId, state: RunState) {
        let end = RunEnd::new(state, 1, None);
        remembered.store().unwrap().end_run(run, &end).unwrap();
    }

    /// Begins a run of job `a` that goes on with `before`, `hours` after the first one, and has `overrides`.
    fn goes_on(remembered: &Remembered, before: &RunRecord, hours: i64, overrides: &str) -> RunRecord {
        let started_at = before.started_at + TimeDelta::hours(hours);
        let id = RunId::at(started_at, 0xdef);
        let run = NewRun {
            started_at,
            holder: before.holder.clone(),
            origin: RunOrigin {
                resumes: Some(before.id.to_string()),
                begun_by: Some(before.chain().to_owned()),
            },
            overrides: overrides.to_owned(),
            ..NewRun::of_this_process(
                id.clone(),
                JobSeen { ..before.job.clone() },
                "resume",
                "full",
                "/f".into(),
                true,
            )
        };
        remembered.store().unwrap().begin_run(&run).unwrap();
        remembered.run(Some(id.as_str())).unwrap()
    }

    fn committed(remembered: &Remembered, run: &RunId, seq: u64, record_count: u64) {
        let event = Event::Committed {
            collection: "c".into(),
            partition: "whole".into(),
            seq,
            cursor: Cursor::start(),
            record_count,
            done: false,
        };
        let news = News {
            events: vec![EventRecord {
                seq,
                at: now(),
                kind: "committed".into(),
                body: serde_json::to_string(&event).unwrap(),
            }],
            rejected: Vec::new(),
            counts: Counts::default(),
            plugins: Vec::new(),
            heartbeat_at: now(),
        };
        remembered.store().unwrap().record(run, &news).unwrap();
    }

    fn newest(remembered: &Remembered) -> Result<String, String> {
        chosen(remembered, &Wanted::default())
    }

    fn chosen(remembered: &Remembered, wanted: &Wanted<'_>) -> Result<String, String> {
        let chain = choose(remembered, wanted).map_err(|error| error.code)?;
        let chain = chain.ok_or_else(|| "no run of the job".to_owned())?;
        Ok(chain.last().unwrap().id.to_string())
    }

    #[test]
    fn the_newest_run_that_ended_early_is_meant() {
        let (folder, ids) = fixtures::folder(&["a", "b", "a", "b"]);
        let remembered = fixtures::open(&folder);
        let id = |index: usize| Ok(ids[index].to_string());
        assert_eq!(newest(&remembered), id(3), "its process is gone");
        end(&remembered, &ids[3], RunState::Done);
        assert_eq!(newest(&remembered), id(2), "of the other job");
        end(&remembered, &ids[2], RunState::Refused);
        assert_eq!(newest(&remembered), id(0), "what was refused has changed nothing");
        let of_b = |run: &RunRecord| run.job.name == "b";
        let of_c = |run: &RunRecord| run.job.name == "c";
        let wanted = |of_job| Wanted {
            of_job: Some(of_job),
            ..Wanted::default()
        };
        assert_eq!(
            chosen(&remembered, &wanted(&of_b)),
            Err("resume.nothing_to_do".to_owned())
        );
        assert_eq!(
            chosen(&remembered, &wanted(&of_c)),
            Err("no run of the job".to_owned())
        );
    }

    #[test]
    fn every_end_but_a_good_one_can_be_resumed() {
        for (state, is_resumed) in [
            (RunState::Failed, true),
            (RunState::Cancelled, true),
            (RunState::Crashed, true),
            (RunState::Differences, true),
            (RunState::Unverified, true),
            (RunState::Done, false),
            (RunState::Refused, false),
        ] {
            let (folder, ids) = fixtures::folder(&["a"]);
            let remembered = fixtures::open(&folder);
            end(&remembered, &ids[0], state);
            let run = Some(ids[0].as_str());
            let wanted = Wanted {
                run,
                ..Wanted::default()
            };
            let code = if is_resumed {
                Ok(ids[0].to_string())
            } else {
                Err("resume.nothing_to_do".to_owned())
            };
            assert_eq!(chosen(&remembered, &wanted), code, "{}", state.name());
            assert_eq!(all(&remembered).unwrap().len(), usize::from(is_resumed));
        }
    }

    /// Begins a clearing of the job of `run`, `hours` after it, held by `holder`.
    fn clears(remembered: &Remembered, run: &RunRecord, hours: i64, holder: Process) -> RunId {
        let started_at = run.started_at + TimeDelta::hours(hours);
        let id = RunId::at(started_at, 0xc1e);
        let new = NewRun {
            started_at,
            holder,
            ..NewRun::of_this_process(id.clone(), run.job.clone(), CLEAR, "full", "/f".into(), true)
        };
        remembered.store().unwrap().begin_run(&new).unwrap();
        id
    }

    #[test]
    fn nothing_from_before_a_clearing_is_gone_on_with_unless_that_was_refused() {
        for (state, goes_on) in [
            (Some(RunState::Done), false),
            (Some(RunState::Failed), false),
            (Some(RunState::Cancelled), false),
            (None, false),
            (Some(RunState::Refused), true),
        ] {
            let (folder, ids) = fixtures::folder(&["a"]);
            let remembered = fixtures::open(&folder);
            let run = remembered.run(Some(ids[0].as_str())).unwrap();
            let clearing = clears(&remembered, &run, 1, run.holder.clone());
            if let Some(state) = state {
                end(&remembered, &clearing, state);
            }
            let of_a = |run: &RunRecord| run.job.name == "a";
            let wanted = Wanted {
                of_job: Some(&of_a),
                ..Wanted::default()
            };
            let meant = match goes_on {
                true => Ok(ids[0].to_string()),
                false => Err("resume.nothing_to_do".to_owned()),
            };
            assert_eq!(newest(&remembered), meant, "{state:?}");
            assert_eq!(chosen(&remembered, &wanted), meant, "{state:?}");
            assert_eq!(all(&remembered).unwrap().contains(&ids[0]), goes_on, "{state:?}");
            let unfinished = unfinished(remembered.store().unwrap(), &remembered.workspace, "a").unwrap();
            assert_eq!(unfinished.is_some(), goes_on, "{state:?}");
            let copy = newest_copy(&remembered, "a").unwrap();
            assert_eq!(copy.len(), usize::from(goes_on), "{state:?}");
            let named = Wanted {
                run: Some(ids[0].as_str()),
                ..Wanted::default()
            };
            // Where it ended badly, the sink knows.
            let meant = match state {
                Some(RunState::Done) => Err("resume.nothing_to_do".to_owned()),
                _ => Ok(ids[0].to_string()),
            };
            assert_eq!(chosen(&remembered, &named), meant, "{state:?}");
            // What was begun since is gone on with as ever.
            let next = RunId::at(run.started_at + TimeDelta::hours(2), 0xabc);
            let new = NewRun {
                started_at: run.started_at + TimeDelta::hours(2),
                holder: run.holder.clone(),
                ..NewRun::of_this_process(next.clone(), run.job.clone(), "run", "full", "/f".into(), true)
            };
            remembered.store().unwrap().begin_run(&new).unwrap();
            assert_eq!(newest(&remembered), Ok(next.to_string()), "{state:?}");
        }
    }

    #[test]
    fn a_clearing_that_goes_on_holds_the_job_and_is_no_copy() {
        let (folder, ids) = fixtures::folder(&["a"]);
        let remembered = fixtures::open(&folder);
        let run = remembered.run(Some(ids[0].as_str())).unwrap();
        let clearing = clears(&remembered, &run, 1, Process::this());
        assert_eq!(newest(&remembered), Err("run.already_running".to_owned()));
        let named = Wanted {
            run: Some(clearing.as_str()),
            ..Wanted::default()
        };
        assert_eq!(chosen(&remembered, &named), Err("resume.no_copy".to_owned()));
    }

    /// A crashed run with two that go on with it, of which the last one was refused.
    fn chain_of_three() -> (TempDir, Remembered, Vec<RunRecord>) {
        let (folder, ids) = fixtures::folder(&["a"]);
        let remembered = fixtures::open(&folder);
        let first = remembered.run(Some(ids[0].as_str())).unwrap();
        committed(&remembered, &first.id, 3, 30);
        let second = goes_on(&remembered, &first, 1, "{}");
        committed(&remembered, &second.id, 4, 10);
        let third = goes_on(&remembered, &second, 2, "{}");
        end(&remembered, &third.id, RunState::Refused);
        (folder, remembered, vec![first, second, third])
    }

    #[test]
    fn any_run_of_a_copy_stands_for_its_newest_one() {
        let (_folder, remembered, runs) = chain_of_three();
        for run in &runs {
            let wanted = Wanted {
                run: Some(run.id.as_str()),
                ..Wanted::default()
            };
            assert_eq!(chosen(&remembered, &wanted), Ok(runs[1].id.to_string()));
        }
        assert_eq!(next(&remembered, &runs[0]).unwrap().as_ref(), Some(&runs[1].id));
        assert_eq!(
            next(&remembered, &runs[1]).unwrap(),
            None,
            "what was refused went on with nothing"
        );
    }

    #[test]
    fn what_is_durable_is_added_up_over_the_copy() {
        let (_folder, remembered, runs) = chain_of_three();
        let store = remembered.store().unwrap();
        let whole = |chain: &[RunRecord]| {
            let known = durable(store, &remembered.workspace, chain).unwrap();
            let part = &known.collections["c"]["whole"];
            (part.seq, part.record_count, known.record_count)
        };
        assert_eq!(whole(&runs[..1]), (3, 30, 30));
        assert_eq!(whole(&runs), (4, 40, 40));
        // A file that was written after the last event.
        let folder = remembered.workspace.create_run(runs[1].id.as_str()).unwrap();
        let mut file = durable(store, &remembered.workspace, &runs).unwrap();
        file.run_id = runs[1].id.to_string();
        let part = file.collections.get_mut("c").unwrap().get_mut("whole").unwrap();
        (part.seq, part.record_count) = (6, 60);
        let octets = serde_json::to_vec(&file.signed().unwrap()).unwrap();
        std::fs::write(folder.checkpoint(), &octets).unwrap();
        assert_eq!(whole(&runs), (6, 60, 60));
        std::fs::write(folder.checkpoint(), &octets[..octets.len() - 9]).unwrap();
        assert_eq!(whole(&runs), (4, 40, 40), "a file that was cut says nothing");
    }

    #[test]
    fn after_a_restored_sink_was_accepted_what_was_seen_before_counts_no_more() {
        let (_folder, remembered, runs) = chain_of_three();
        let accepting = goes_on(&remembered, &runs[1], 3, r#"{"accepts_sink_cursor":true}"#);
        let store = remembered.store().unwrap();
        let chain = [&runs[..2], std::slice::from_ref(&accepting)].concat();
        let known = durable(store, &remembered.workspace, &chain).unwrap();
        assert!(known.collections.is_empty(), "{known:?}");
        committed(&remembered, &accepting.id, 2, 5);
        let known = durable(store, &remembered.workspace, &chain).unwrap();
        assert_eq!(known.seqs()["c"]["whole"], 2);
    }
}
