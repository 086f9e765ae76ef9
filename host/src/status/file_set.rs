//! The files of one run as they are written, with what happens when there is no more room: the reserve is let go, the
//! log ends, and everything else goes on.
//!
//! Every answer is the first thing that went wrong, even if the second attempt did well: the run must end.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use serde::Serialize;
use whimbrel_plugin_api::Error;

use super::run_checkpoint::RunCheckpoint;
use super::run_status::RunStatus;
use crate::events::{ReferenceResult, RepairResult, RuleResult, RunSummary, VerificationResult};
use crate::report::{FinalReport, executive_summary, html};
use crate::workspace::{
    Reserve, RunFolder, fault, file_names, is_disk_full, lock, open_private, write_all_whole, write_whole,
};

/// Room that is kept in any case, octets: the last status, checkpoint, short report and page of a run of some hundred
/// collections, and what a database in the same folder needs to end its own work.
const RESERVE_BYTES_MIN: u64 = 1024 * 1024;
/// The last status and checkpoint stand beside the former ones until they take their place, and so do the reports.
const RESERVE_FACTOR: u64 = 4;

/// The files of one run.
#[derive(Debug)]
pub struct FileSet {
    folder: RunFolder,
    /// Open and locked as long as the run is watched.
    log: File,
    log_has_ended: bool,
    log_bytes: u64,
    reserve: Option<Reserve>,
    status_bytes: u64,
    checkpoint_bytes: u64,
    fault_told: bool,
}

impl FileSet {
    /// Opens the log and takes the reserve.
    ///
    /// # Errors
    /// `workspace.disk_full` or `workspace.unwritable`.
    pub fn create(folder: RunFolder) -> Result<Self, Error> {
        let path = folder.log();
        let log = open_private(&path, true)
            .and_then(|log| lock(&log).map(|()| log))
            .map_err(|error| fault(&path, &error))?;
        let path = folder.reserve();
        let reserve = Reserve::create(&path, RESERVE_BYTES_MIN).map_err(|error| fault(&path, &error))?;
        Ok(Self {
            folder,
            log,
            log_has_ended: false,
            log_bytes: 0,
            reserve: Some(reserve),
            status_bytes: 0,
            checkpoint_bytes: 0,
            fault_told: false,
        })
    }

    /// Whether nothing went wrong before; asked after something did.
    pub fn is_first_fault(&mut self) -> bool {
        !std::mem::replace(&mut self.fault_told, true)
    }

    /// Whether the log was written to this moment.
    pub fn log_is_whole(&self) -> bool {
        !self.log_has_ended
    }

    /// Adds whole lines to the log. After a fault the log has ended, at a whole line.
    ///
    /// # Errors
    /// The fault that ends the log.
    pub fn append_log(&mut self, lines: &[u8]) -> Result<(), Error> {
        if self.log_has_ended || lines.is_empty() {
            return Ok(());
        }
        if let Err(error) = self.log.write_all(lines) {
            // What was written of the last line, if anything, would be no JSON.
            let cut = self.log.set_len(self.log_bytes);
            self.log_has_ended = true;
            if is_disk_full(&error) {
                self.release();
            }
            let error = fault(&self.folder.log(), &error);
            return Err(match cut {
                Ok(()) => error,
                Err(cut) => error.with_cause(&cut),
            });
        }
        self.log_bytes += lines.len() as u64;
        Ok(())
    }

    /// Writes the status.
    ///
    /// # Errors
    /// What went wrong first; with a full disk it is written all the same, from the reserve.
    pub fn write_status(&mut self, status: &RunStatus) -> Result<(), Error> {
        let text = json(status)?;
        self.status_bytes = text.len() as u64;
        self.write(&self.folder.status(), &text)?;
        self.keep_reserve()
    }

    /// Writes the checkpoint.
    ///
    /// # Errors
    /// As [`FileSet::write_status`].
    pub fn write_checkpoint(&mut self, checkpoint: &RunCheckpoint) -> Result<(), Error> {
        let text = json(&checkpoint.signed()?)?;
        self.checkpoint_bytes = text.len() as u64;
        self.write(&self.folder.checkpoint(), &text)?;
        self.keep_reserve()
    }

    fn write(&mut self, path: &Path, content: &[u8]) -> Result<(), Error> {
        let Err(error) = write_whole(path, content) else {
            return Ok(());
        };
        let first = fault(path, &error);
        if is_disk_full(&error) && self.release() {
            // The answer stays the first fault: a second one would say the same.
            drop(write_whole(path, content));
        }
        Err(first)
    }

    /// Lets the reserve go; whether there was one.
    fn release(&mut self) -> bool {
        // A reserve that cannot be deleted was emptied before, which is what counts.
        self.reserve.take().map(Reserve::release).is_some()
    }

    fn keep_reserve(&mut self) -> Result<(), Error> {
        let Some(reserve) = &mut self.reserve else {
            return Ok(());
        };
        let needed = RESERVE_BYTES_MIN + RESERVE_FACTOR * (self.status_bytes + self.checkpoint_bytes);
        reserve
            .grow(needed)
            .map_err(|error| fault(&self.folder.reserve(), &error))
    }

    /// Writes what is left when the run has ended: the reports, then the last checkpoint and status. A reader who
    /// finds the end in the status finds everything else.
    ///
    /// # Errors
    /// `workspace.disk_full` if the short forms were written, and what kept even those from it otherwise.
    pub fn end(
        mut self,
        status: &RunStatus,
        checkpoint: &RunCheckpoint,
        report: FinalReport,
    ) -> Result<(), Error> {
        if !self.log_has_ended
            && let Err(error) = self.log.sync_all()
        {
            return Err(self.end_short(status, checkpoint, report, &fault(&self.folder.log(), &error)));
        }
        let written = if self.fault_told {
            Err(None)
        } else {
            self.write_reports(&report)
                .and_then(|()| put(&self.folder.checkpoint(), &json(&checkpoint.signed()?)?))
                .and_then(|()| put(&self.folder.status(), &json(status)?))
                .map_err(Some)
        };
        match written {
            Ok(()) => {
                self.release();
                Ok(())
            }
            Err(None) => {
                self.release();
                self.put_short(status, checkpoint, report)
            }
            Err(Some(first)) => Err(self.end_short(status, checkpoint, report, &first)),
        }
    }

    fn end_short(
        &mut self,
        status: &RunStatus,
        checkpoint: &RunCheckpoint,
        report: FinalReport,
        first: &Error,
    ) -> Error {
        self.release();
        match self.put_short(status, checkpoint, report) {
            Ok(()) => first.clone(),
            Err(second) => second,
        }
    }

    fn write_reports(&self, report: &FinalReport) -> Result<(), Error> {
        let results = &report.task.summary.verification;
        let folder = self.folder.verification_results();
        let names = file_names(results.iter().map(|result| result.source.as_str()));
        let files: Vec<(PathBuf, Vec<u8>)> = results
            .iter()
            .zip(names)
            .map(|(result, name)| {
                let content = json(&ResultFile::new(result, &report.task.summary))?;
                Ok((folder.join(format!("{name}.json")), content))
            })
            .collect::<Result<_, Error>>()?;
        write_all_whole(&files).map_err(|error| fault(&folder, &error))?;
        put(&self.folder.final_report(), &json(report)?)?;
        put(
            &self.folder.executive_summary(),
            executive_summary(report).as_bytes(),
        )?;
        put(&self.folder.html_report(), html(report).as_bytes())
    }

    /// What matters most first, for the room may not last.
    fn put_short(
        &self,
        status: &RunStatus,
        checkpoint: &RunCheckpoint,
        report: FinalReport,
    ) -> Result<(), Error> {
        put(&self.folder.status(), &json(status)?)?;
        put(&self.folder.checkpoint(), &json(&checkpoint.signed()?)?)?;
        let report = report.shortened();
        put(&self.folder.final_report(), &json(&report)?)?;
        put(
            &self.folder.executive_summary(),
            executive_summary(&report).as_bytes(),
        )?;
        put(&self.folder.html_report(), html(&report).as_bytes())
    }
}

/// What the file of one collection holds: its comparison, and what else was found of it.
#[derive(Serialize)]
struct ResultFile<'a> {
    #[serde(flatten)]
    result: &'a VerificationResult,
    /// References of its records within the sink.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    sink_references: Vec<&'a ReferenceResult>,
    /// Rules about it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    rules: Vec<&'a RuleResult>,
    /// What a repair has done.
    #[serde(skip_serializing_if = "Option::is_none")]
    repaired: Option<&'a RepairResult>,
}

impl<'a> ResultFile<'a> {
    fn new(result: &'a VerificationResult, summary: &'a RunSummary) -> Self {
        let is_of_sink = |reference: &&ReferenceResult| reference.collection == result.sink;
        // A rule names the collection as its own side does.
        let is_about = |rule: &&RuleResult| {
            let name = rule.collection.as_ref();
            name.is_some_and(|name| *name == result.source || *name == result.sink)
        };
        let is_same =
            |repair: &&RepairResult| (&repair.source, &repair.sink) == (&result.source, &result.sink);
        Self {
            result,
            sink_references: summary.sink_references.iter().filter(is_of_sink).collect(),
            rules: summary.rules.iter().filter(is_about).collect(),
            repaired: summary.repaired.iter().find(is_same),
        }
    }
}

fn put(path: &Path, content: &[u8]) -> Result<(), Error> {
    write_whole(path, content).map_err(|error| fault(path, &error))
}

fn json<T: Serialize>(value: &T) -> Result<Vec<u8>, Error> {
    let mut text = serde_json::to_vec_pretty(value)
        .map_err(io::Error::from)
        .map_err(|error| {
            Error::internal("a file of the run could not be written as JSON").with_cause(&error)
        })?;
    text.push(b'\n');
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace::{DISK_FULL, Workspace};

    fn file_set(folder: &Path) -> FileSet {
        let workspace = Workspace::of_job(&folder.join("job.yaml"), None);
        FileSet::create(workspace.create_run("r-1").unwrap()).unwrap()
    }

    #[test]
    fn a_device_without_room_ends_the_log_and_frees_the_reserve() {
        let folder = tempfile::tempdir().unwrap();
        let mut files = file_set(folder.path());
        files.append_log(b"{}\n").unwrap();
        files.log = File::options().append(true).open("/dev/full").unwrap();
        assert_eq!(files.append_log(b"{}\n").unwrap_err().code, DISK_FULL);
        assert!(!files.log_is_whole());
        assert!(!files.folder.reserve().exists());
        files.append_log(b"{}\n").unwrap();
        assert_eq!(std::fs::read(files.folder.log()).unwrap(), b"{}\n");
    }

    #[test]
    fn the_reserve_grows_with_what_the_end_will_need() {
        let folder = tempfile::tempdir().unwrap();
        let mut files = file_set(folder.path());
        let length = |files: &FileSet| std::fs::metadata(files.folder.reserve()).unwrap().len();
        assert_eq!(length(&files), RESERVE_BYTES_MIN);
        files.status_bytes = 3_000_000;
        files.keep_reserve().unwrap();
        assert!(length(&files) > 12_000_000);
    }
}
