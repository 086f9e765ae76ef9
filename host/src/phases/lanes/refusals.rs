//! Why a run cannot go on with an earlier one, each with what a person can do.
//! Those of a whole run are of kind config: nothing was written into the sink.

use whimbrel_plugin_api::{Error, ErrorKind};

use crate::checkpoint::Difference;
use crate::pipeline::CopyTask;

pub(super) fn no_lanes() -> Error {
    Error::config(
        "resume.no_lanes",
        "this sink keeps no checkpoints, so nobody knows where the earlier run has ended",
    )
    .with_help("begin anew with `whimbrel run`")
}

pub(super) fn nothing_in_sink() -> Error {
    Error::config(
        "resume.nothing_in_sink",
        "neither the state nor the sink knows of an earlier run of this job",
    )
    .with_help("begin with `whimbrel run`; look whether job and sink are the ones that were meant")
}

pub(super) fn emptied(resumes: &str) -> Error {
    Error::config(
        "resume.nothing_in_sink",
        format!(
            "the sink keeps nothing of run `{resumes}` any more: it was cleared, or restored to a time before that run"
        ),
    )
    .with_help("begin anew with `whimbrel run`; `whimbrel runs` shows whether it was cleared from here")
}

pub(super) fn superseded(resumes: &str) -> Error {
    Error::config(
        "resume.superseded",
        format!("the sink no longer has the checkpoints of run `{resumes}`: another copy was begun, or the sink was restored"),
    )
    .with_help("resume the newest run of the job, or begin anew with `whimbrel run`")
}

pub(super) fn sink_behind(task: &CopyTask, has: u64, known: u64) -> Error {
    Error::config(
        "resume.sink_behind",
        format!(
            "the sink says that {has} commits of `{}` ({}) are durable, this host has seen {known}: the sink was restored to an \
             earlier state",
            task.source_name, task.partition.label
        ),
    )
    .with_help("give `--accept-sink-cursor` to go on from where the sink is, or begin anew with `whimbrel run`")
}

/// Of one collection, while the others go on.
pub(super) fn snapshot_ended(source: &str, sink: &str) -> Error {
    Error::new(
        ErrorKind::Integrity,
        "resume.snapshot_ended",
        format!(
            "`{source}` was copied in part and cannot be gone on with: the source reads it within one snapshot only, which has ended, \
             and its records would be in `{sink}` twice if it were copied again from its start"
        ),
    )
    .with_help(format!(
        "empty `{sink}` in the sink and resume again, which copies it from its start; nothing has to be emptied where the job has named \
         a key (`key: [..]`) from the start on, `on_conflict` goes by it, and neither was changed"
    ))
}

/// The lanes say how far the records of one stage were written, and this run has those of another one, or of none.
pub(super) fn other_stage(was: &str, is: &str) -> Error {
    let from = |stage: &str| match stage {
        "" => "at once from the source",
        _ => "from what is staged",
    };
    let message = match (was, is) {
        ("", _) | (_, "") => format!(
            "the earlier run has taken its records {}, and this one would take them {}",
            from(was),
            from(is)
        ),
        _ => "what the earlier run had staged and written in part is not what is staged now".to_owned(),
    };
    Error::config("resume.other_stage", message).with_help(
        "begin anew with `whimbrel run`; if only `staging` has changed, change it back and resume again",
    )
}

pub(super) fn changed(differences: &[Difference]) -> Error {
    let word = |text: &str| match text {
        "" => "not there".to_owned(),
        text => format!("`{}`", text.get(..40).unwrap_or(text)),
    };
    let said: Vec<String> = differences
        .iter()
        .map(|of| format!("{} was {} and is {}", of.what, word(&of.before), word(&of.now)))
        .collect();
    Error::config(
        "resume.changed",
        format!(
            "what the earlier run was made from has changed: {}",
            said.join("; ")
        ),
    )
    .with_help(
        "undo the change, give `--accept-changes` to go on all the same, or begin anew with `whimbrel run`",
    )
}
