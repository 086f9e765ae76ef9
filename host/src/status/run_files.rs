//! Follows a run in the files of its folder: status, checkpoint and log on the way, the reports after the end.
//!
//! The caller's thread only takes notes. A second thread writes, whatever comes last, at least each second: a slow disk
//! makes files late and never the run slow. What goes wrong there is told by the next [`RunFiles::observe`].

use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use chrono::{SubsecRound as _, Utc};
use whimbrel_plugin_api::Error;

use super::RunCheckpoint;
use super::file_set::FileSet;
use super::log_line::{event_line, left_out_line, output_line};
use super::run_state::{Moment, RunState, Urgency};
use crate::events::{Event, Failure};
use crate::report::{FinalReport, TaskReport};
use crate::workspace::{RunFolder, Workspace};

/// The status is written so often; a little below the second that readers may count on.
const STATUS_INTERVAL: Duration = Duration::from_millis(800);
/// Octets of lines that may wait for a slow disk; what comes then is counted and left out.
const LOG_WAITING_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Follows one run.
#[derive(Debug)]
pub struct RunFiles {
    shared: Arc<Shared>,
    writer: Option<JoinHandle<FileSet>>,
    folder: RunFolder,
    started: Instant,
    fault: Option<Error>,
}

#[derive(Debug)]
struct Shared {
    notes: Mutex<Notes>,
    wake: Condvar,
}

/// What the two threads share.
#[derive(Debug)]
struct Notes {
    state: RunState,
    log: Vec<u8>,
    log_seq: u64,
    left_out: u64,
    urgent: bool,
    ending: bool,
    fault: Option<Error>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Notes> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn now(started: Instant) -> Moment {
    Moment {
        at: Utc::now().trunc_subsecs(3),
        elapsed_secs: started.elapsed().as_secs_f64(),
    }
}

impl RunFiles {
    /// Makes the folder of the run called `run_id`, points `latest` to it, and writes its first status.
    ///
    /// # Errors
    /// `workspace.disk_full`, `workspace.unwritable`, or `workspace.run_id`: the run should not begin.
    pub fn create(workspace: &Workspace, run_id: &str, job_file: &Path) -> Result<Self, Error> {
        Self::create_after(workspace, run_id, job_file, None)
    }

    /// As [`RunFiles::create`], for a run that goes on where what is durable is as `before` says.
    ///
    /// # Errors
    /// As [`RunFiles::create`].
    pub fn create_after(
        workspace: &Workspace,
        run_id: &str,
        job_file: &Path,
        before: Option<RunCheckpoint>,
    ) -> Result<Self, Error> {
        let folder = workspace.create_run(run_id)?;
        let started = Instant::now();
        let moment = now(started);
        let mut state = RunState::new(run_id, job_file, std::process::id(), moment);
        if let Some(before) = before {
            state.go_on_from(before);
        }
        let mut files = FileSet::create(folder.clone())?;
        files.write_status(&state.status(moment))?;
        files.write_checkpoint(&state.checkpoint(moment))?;
        let shared = Arc::new(Shared {
            notes: Mutex::new(Notes {
                state,
                log: Vec::new(),
                log_seq: 0,
                left_out: 0,
                urgent: false,
                ending: false,
                fault: None,
            }),
            wake: Condvar::new(),
        });
        let theirs = Arc::clone(&shared);
        let writer = std::thread::Builder::new()
            .name("run-files".to_owned())
            .spawn(move || write_until_the_end(&theirs, files, started))
            .map_err(|error| Error::internal("no thread could be started").with_cause(&error))?;
        Ok(Self {
            shared,
            writer: Some(writer),
            folder,
            started,
            fault: None,
        })
    }

    /// The folder of the run.
    pub fn folder(&self) -> &RunFolder {
        &self.folder
    }

    /// Takes note of an event. Never waits for a disk.
    ///
    /// # Errors
    /// Once, when the folder can no longer be written: `workspace.disk_full` or `workspace.unwritable`. The run should
    /// then end in good order; notes are taken as before.
    pub fn observe(&mut self, event: &Event) -> Result<(), Error> {
        let moment = now(self.started);
        let mut notes = self.shared.lock();
        notes.log(|seq| event_line(seq, moment.at, event));
        notes.urgent |= notes.state.observe(event, moment) == Urgency::AtOnce;
        let fault = notes.fault.take();
        drop(notes);
        self.tell(fault)
    }

    /// Takes note of a line that a plugin printed. What is wrong with the folder is told by the next event.
    pub fn plugin_output(&mut self, line: &str) {
        let moment = now(self.started);
        self.shared.lock().log(|seq| output_line(seq, moment.at, line));
        self.shared.wake.notify_one();
    }

    fn tell(&mut self, fault: Option<Error>) -> Result<(), Error> {
        self.shared.wake.notify_one();
        match fault {
            Some(fault) => {
                self.fault = Some(fault.clone());
                Err(fault)
            }
            None => Ok(()),
        }
    }

    /// Why the folder can no longer be written, once [`RunFiles::observe`] has said so.
    pub fn fault(&self) -> Option<&Error> {
        self.fault.as_ref()
    }

    /// Gives `report` what is known here and not there: what a lost worker could not say, and the fault for which the
    /// run was asked to end.
    pub fn complete(&self, report: &mut TaskReport) {
        self.shared.lock().state.complete(report, now(self.started));
        if let Some(fault) = &self.fault {
            report.add_fault(Failure::from(fault.clone()));
        }
    }

    /// Ends the run's files: the last status, and all reports.
    ///
    /// # Errors
    /// What went wrong and was not told before: `workspace.disk_full` if only the short forms of the reports had room,
    /// `workspace.unwritable` if they could not be written at all. The run itself is not touched by that.
    pub fn finish(mut self, report: &TaskReport) -> Result<RunFolder, Error> {
        let mut files = self
            .stop_writer()
            .ok_or_else(|| Error::internal("the thread that writes the files of the run was lost"))?;
        let moment = now(self.started);
        let mut notes = self.shared.lock();
        notes.state.end(report, moment);
        let untold = notes.fault.take();
        notes.log_what_was_left_out(moment);
        let rest = std::mem::take(&mut notes.log);
        let logged = files.append_log(&rest);
        let status = notes.state.status(moment);
        let checkpoint = notes.state.checkpoint(moment);
        let log_complete = notes.left_out == 0 && files.log_is_whole();
        let final_report = FinalReport::new(notes.state.facts(log_complete), report);
        drop(notes);
        let ended = files.end(&status, &checkpoint, final_report);
        // What came first explains what came later.
        match untold.map_or(Ok(()), Err).and(logged).and(ended) {
            Ok(()) => Ok(self.folder.clone()),
            Err(fault) => Err(fault),
        }
    }

    fn stop_writer(&mut self) -> Option<FileSet> {
        self.shared.lock().ending = true;
        self.shared.wake.notify_one();
        self.writer.take()?.join().ok()
    }
}

impl Drop for RunFiles {
    /// Without [`RunFiles::finish`] the status stays what it was, as after a kill.
    fn drop(&mut self) {
        drop(self.stop_writer());
    }
}

impl Notes {
    fn log(&mut self, line: impl FnOnce(u64) -> Option<Vec<u8>>) {
        if self.log.len() >= LOG_WAITING_BYTES_MAX {
            self.left_out += 1;
            return;
        }
        if let Some(line) = line(self.log_seq + 1) {
            self.log_seq += 1;
            self.log.extend_from_slice(&line);
        }
    }

    fn log_what_was_left_out(&mut self, moment: Moment) {
        if self.left_out > 0 {
            self.log_seq += 1;
            let line = left_out_line(self.log_seq, moment.at, self.left_out);
            self.log.extend(line.unwrap_or_default());
        }
    }
}

fn write_until_the_end(shared: &Shared, mut files: FileSet, started: Instant) -> FileSet {
    let mut due = Instant::now() + STATUS_INTERVAL;
    let mut commits_written = 0;
    loop {
        let mut notes = shared.lock();
        while notes.log.is_empty() && !notes.urgent && !notes.ending && Instant::now() < due {
            let wait = due.saturating_duration_since(Instant::now());
            notes = shared
                .wake
                .wait_timeout(notes, wait)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
        if notes.ending {
            return files;
        }
        let lines = std::mem::take(&mut notes.log);
        let mut status = None;
        let mut checkpoint = None;
        let is_due = Instant::now() >= due;
        if is_due || notes.urgent {
            let moment = now(started);
            notes.state.tick(moment);
            due = Instant::now() + STATUS_INTERVAL;
            notes.urgent = false;
            status = Some(notes.state.status(moment));
            if notes.state.commit_count() != commits_written {
                commits_written = notes.state.commit_count();
                checkpoint = Some(notes.state.checkpoint(moment));
            }
        }
        drop(notes);
        let mut results = vec![files.append_log(&lines)];
        results.extend(status.map(|status| files.write_status(&status)));
        results.extend(checkpoint.map(|checkpoint| files.write_checkpoint(&checkpoint)));
        if let Some(fault) = results.into_iter().find_map(Result::err)
            && files.is_first_fault()
        {
            shared.lock().fault = Some(fault);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_that_does_not_answer_costs_lines_and_no_time() {
        let folder = tempfile::tempdir().unwrap();
        let workspace = Workspace::of_job(&folder.path().join("job.yaml"), None);
        let mut files = RunFiles::create(&workspace, "r-1", Path::new("job.yaml")).unwrap();
        // The writer hangs in a write, as it were.
        let set = files.stop_writer().unwrap();
        let line = "x".repeat(3_000);
        for _ in 0..10_000 {
            files.plugin_output(&line);
        }
        let left_out = files.shared.lock().left_out;
        assert!(left_out > 1_000, "{left_out}");
        assert!(files.shared.lock().log.len() < LOG_WAITING_BYTES_MAX + 10_000);
        // It answers again.
        files.writer = Some(std::thread::spawn(move || set));
        let report = crate::report::fixtures::done();
        let run = files.finish(&report).unwrap();
        let log = std::fs::read_to_string(run.log()).unwrap();
        let last = log.lines().last().unwrap();
        assert!(
            last.contains(&format!("\"event\":\"lines_left_out\",\"count\":{left_out}"))
                || last.contains(&format!("\"count\":{left_out},\"event\":\"lines_left_out\"")),
            "{last}"
        );
        let report = std::fs::read_to_string(run.final_report()).unwrap();
        assert!(report.contains("\"log_complete\": false"));
    }
}
