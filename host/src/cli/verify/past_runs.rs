//! What is remembered of the runs of a job that matters to a comparison: the records that its newest copy has refused and that are
//! still kept as refused, which a comparison passes over, as the run's own did. Neighbours: [`crate::cli::refused_before`] finds those of a chain of runs, `rejected` shows them to people.

use whimbrel_plugin_api::Error;

use crate::cli::refused_before::refused_before;
use crate::cli::remembered::Remembered;
use crate::cli::resumable::{durable, newest_copy};
use crate::events::RefusedBefore;
use crate::state::{RunId, RunState};
use crate::workspace::Workspace;

/// Runs among which one that wrote is looked for; the others were dry.
const RUNS_LOOKED_AT_MAX: u32 = 1_000;

/// The run that last wrote to the sink of `job`, with the moment of its end: what was read of the sink before says nothing any more.
/// Runs of the copy that run `own_copy` began do not count.
///
/// # Errors
/// What is wrong with the state.
pub(super) fn written_last(
    workspace: &Workspace,
    job: &str,
    own_copy: Option<&str>,
) -> Result<Option<String>, Error> {
    let remembered = Remembered::at(workspace.clone())?;
    let runs = remembered.runs(Some(job), None, RUNS_LOOKED_AT_MAX)?;
    let last = runs
        .into_iter()
        .find(|run| run.is_exclusive && own_copy != Some(run.chain()));
    Ok(last.map(|run| match run.state {
        // It still writes: what is read meanwhile is never gone on with, however it ends.
        RunState::Running => format!("{} {}", run.id, RunId::new()),
        _ => format!("{} {:?}", run.id, run.ended_at),
    }))
}

/// Those that the commits of the copy have left out; none if no run of the job is known here.
///
/// # Errors
/// What is wrong with the state.
pub(super) fn refused(workspace: &Workspace, job: &str) -> Result<Vec<RefusedBefore>, Error> {
    let remembered = Remembered::at(workspace.clone())?;
    let chain = newest_copy(&remembered, job)?;
    if chain.is_empty() {
        return Ok(Vec::new());
    }
    let store = remembered.store()?;
    let mut refused = refused_before(store, &chain)?;
    let made = durable(store, workspace, &chain)?.seqs();
    refused.retain(|one| {
        // Kept before a commit that was never made, it is missing like the others of that commit.
        let seq = made.get(&one.collection).and_then(|of| of.get(&one.partition));
        seq.is_none_or(|seq| one.seq <= *seq)
    });
    for one in &mut refused {
        // The worker needs to know which ones, not why.
        one.code.clear();
        one.message.clear();
    }
    Ok(refused)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::remembered::fixtures;
    use crate::state::{CLEAR, NewRun, Process, RunEnd, RunRecord};
    use chrono::TimeDelta;

    /// Begins a run of the job of `first`, `hours` after it.
    fn begin(
        remembered: &Remembered,
        first: &RunRecord,
        hours: i64,
        command: &str,
        holder: Process,
    ) -> RunId {
        let started_at = first.started_at + TimeDelta::hours(hours);
        let id = RunId::at(started_at, 0xfed);
        let new = NewRun {
            started_at,
            holder,
            ..NewRun::of_this_process(id.clone(), first.job.clone(), command, "full", "/f".into(), true)
        };
        remembered.store().unwrap().begin_run(&new).unwrap();
        id
    }

    #[test]
    fn whoever_has_written_last_is_told_apart_and_who_still_writes_from_itself() {
        let (folder, ids) = fixtures::folder(&["a", "b"]);
        let remembered = fixtures::open(&folder);
        let first = remembered.run(Some(ids[0].as_str())).unwrap();
        let last = |own_copy| written_last(&remembered.workspace, "a", own_copy).unwrap();
        let by_first = last(None);
        assert!(by_first.as_ref().unwrap().starts_with(ids[0].as_str()));
        assert_eq!(last(None), by_first, "its process is gone, nobody writes");
        assert_eq!(last(Some(ids[0].as_str())), None, "its own runs are not others");
        for (hours, command) in [(1, CLEAR), (2, "repair"), (3, "replay"), (4, "import")] {
            let before = (last(None), last(Some(ids[0].as_str())));
            let id = begin(&remembered, &first, hours, command, first.holder.clone());
            let begun = (last(None), last(Some(ids[0].as_str())));
            assert_ne!(begun.0, before.0, "{command}");
            assert_ne!(begun.1, before.1, "{command}");
            assert_eq!(begun.0, begun.1, "{command}");
            let end = RunEnd::new(RunState::Done, 0, None);
            remembered.store().unwrap().end_run(&id, &end).unwrap();
            assert_ne!(last(None), begun.0, "{command}");
            assert_eq!(last(None), last(None), "{command}");
        }
        begin(&remembered, &first, 5, CLEAR, Process::this());
        assert_ne!(last(None), last(None), "it goes on");
        assert_eq!(written_last(&remembered.workspace, "c", None).unwrap(), None);
    }
}
