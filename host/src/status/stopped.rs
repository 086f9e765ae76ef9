//! The last files of a run that was killed: what was seen of it, put together again from its last status, and its end.
//!
//! For whoever ended it from outside. A run that somebody watches writes its own; see `run_files`.

use std::path::Path;

use chrono::{SubsecRound as _, Utc};
use whimbrel_plugin_api::{Error, ErrorKind};

use super::file_set::FileSet;
use super::run_checkpoint::RunCheckpoint;
use super::run_state::{Moment, RunState};
use super::run_status::RunStatus;
use crate::events::{Failure, RunSummary};
use crate::report::{FinalReport, PluginUsed, TaskReport};
use crate::state::PluginVersion;
use crate::workspace::RunFolder;

/// Writes status, checkpoint and reports of a run that was cancelled for `failure`. Nothing is done for one that is watched or has
/// written its end.
///
/// # Errors
/// `status.unreadable`, `workspace.disk_full`, `workspace.unwritable`.
pub fn write_stopped(
    folder: &RunFolder,
    failure: &Failure,
    plugins: &[PluginVersion],
    exit_code: u8,
) -> Result<(), Error> {
    // A run that was killed before its first status has no files.
    if folder.is_watched() || !folder.status().exists() {
        return Ok(());
    }
    let status = RunStatus::read(folder)?;
    if status.ended_at.is_some() {
        return Ok(());
    }
    let now = Utc::now().trunc_subsecs(3);
    let unseen_secs = (now - status.updated_at).num_milliseconds().max(0) as f64 / 1_000.0;
    let moment = Moment {
        at: now,
        elapsed_secs: status.elapsed_secs + unseen_secs,
    };
    let mut report = TaskReport {
        command: status.command.clone(),
        job: status.job.clone(),
        outcome: "cancelled",
        exit_code,
        plugins: plugins.iter().map(used).collect(),
        errors: vec![failure.clone()],
        keeps_stored: Vec::new(),
        summary: RunSummary::default(),
    };
    let mut state = RunState::new(
        &status.run_id,
        Path::new(&status.job_file),
        status.pid,
        Moment {
            at: status.started_at,
            elapsed_secs: 0.0,
        },
    );
    state.checkpoint = checkpoint(folder)?;
    state.status = status;
    state.complete(&mut report, moment);
    state.end(&report, moment);
    // The log lacks what happened after its last line.
    let final_report = FinalReport::new(state.facts(false), &report);
    FileSet::create(folder.clone())?.end(&state.status(moment), &state.checkpoint(moment), final_report)
}

fn used(plugin: &PluginVersion) -> PluginUsed {
    PluginUsed {
        role: plugin.role,
        name: plugin.name.clone(),
        version: plugin.version.clone(),
        lacks_lanes: false,
    }
}

fn checkpoint(folder: &RunFolder) -> Result<RunCheckpoint, Error> {
    let path = folder.checkpoint();
    let unreadable = |cause: &dyn std::error::Error| {
        let message = format!("`{}` is not the checkpoint of a run", path.display());
        Error::new(ErrorKind::Integrity, "status.unreadable", message).with_cause(cause)
    };
    let text = std::fs::read(&path).map_err(|error| unreadable(&error))?;
    serde_json::from_slice(&text).map_err(|error| unreadable(&error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::{Event, Phase};
    use crate::status::RunFiles;
    use crate::workspace::Workspace;
    use serde_json::Value;

    fn json(path: &Path) -> Value {
        serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
    }

    #[test]
    fn the_files_of_a_killed_run_tell_its_end_and_what_was_seen_of_it() {
        let folder = tempfile::tempdir().unwrap();
        let workspace = Workspace::of_job(&folder.path().join("job.yaml"), None);
        let mut files = RunFiles::create(&workspace, "r-1", Path::new("job.yaml")).unwrap();
        let run = files.folder().clone();
        let events = [
            Event::Started {
                run_id: "r-1".into(),
                command: "run".into(),
                job: "nightly".into(),
                mode: "full".into(),
                started_by: "ann@mail".into(),
            },
            Event::PhaseStarted { phase: Phase::Import },
            Event::Progress {
                collection: "c".into(),
                read_count: 20,
                written_count: 10,
                rejected_count: 1,
                read_bytes: 7,
            },
            // Urgent, so that all of it is in the status at once.
            Event::PhaseStarted {
                phase: Phase::Extraction,
            },
        ];
        for event in &events {
            files.observe(event).unwrap();
        }
        let failure = Failure::from(Error::new(ErrorKind::Cancelled, "run.stopped", "x"));
        write_stopped(&run, &failure, &[], 137).unwrap();
        assert_eq!(json(&run.status())["state"], "running", "it is watched");
        while json(&run.status())["totals"]["written_count"] != 10 {
            std::thread::yield_now();
        }
        drop(files);
        write_stopped(&run, &failure, &[], 137).unwrap();
        let status = json(&run.status());
        assert_eq!(
            (&status["state"], &status["exit_code"], &status["phase"]),
            (&"cancelled".into(), &137.into(), &Value::Null)
        );
        assert_eq!(status["errors"][0]["code"], "run.stopped");
        assert_eq!(status["collections"][0]["state"], "incomplete");
        assert!(status["ended_at"].is_string());
        let report = json(&run.final_report());
        assert_eq!(
            (&report["outcome"], &report["job"]),
            (&"cancelled".into(), &"nightly".into())
        );
        assert_eq!(report["collections"][0]["written_count"], 10);
        assert_eq!(json(&run.checkpoint())["run_id"], "r-1");
        assert!(run.html_report().exists() && !run.reserve().exists());
        let ended_at = status["ended_at"].clone();
        write_stopped(&run, &failure, &[], 1).unwrap();
        assert_eq!(json(&run.status())["ended_at"], ended_at, "it has its end");
    }
}
