//! What is remembered of the runs of a job that matters to a comparison: the records that its newest copy has refused and that are
//! still kept as refused, which a comparison passes over, as the run's own did. Neighbours: [`crate::cli::refused_before`] finds those of a chain of runs, `rejected` shows them to people.

use whimbrel_plugin_api::Error;

use crate::cli::refused_before::refused_before;
use crate::cli::remembered::Remembered;
use crate::cli::resumable::{durable, newest_copy};
use crate::events::RefusedBefore;
use crate::workspace::Workspace;

/// Runs among which one that wrote is looked for; the others were dry.
const RUNS_LOOKED_AT_MAX: u32 = 1_000;

/// The run that last wrote to the sink of `job`, with the moment of its end: what was read of the sink before says nothing any more.
///
/// # Errors
/// What is wrong with the state.
pub(super) fn written_last(workspace: &Workspace, job: &str) -> Result<Option<String>, Error> {
    let remembered = Remembered::at(workspace.clone())?;
    let runs = remembered.runs(Some(job), None, RUNS_LOOKED_AT_MAX)?;
    let last = runs.into_iter().find(|run| run.is_exclusive);
    Ok(last.map(|run| format!("{} {:?}", run.id, run.ended_at)))
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
        one.digest.is_some() && seq.is_none_or(|seq| one.seq <= *seq)
    });
    for one in &mut refused {
        // The worker needs to know which ones, not why.
        one.code.clear();
        one.message.clear();
    }
    Ok(refused)
}
