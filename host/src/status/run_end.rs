//! The end of a run in its state: what a lost worker could not say, the last status, and the facts for the reports.
//! A part of [`RunState`]; nothing here reads an event.

use super::run_state::{Moment, RunState};
use super::run_status::{CollectionState, CollectionStatus};
use crate::events::{CollectionResult, PhaseOutcome, PhaseReport};
use crate::report::{RunFacts, TaskReport, thousandths};

impl RunState {
    /// Gives `report` what a worker could not say that was lost: phases, collections and counts as far as they were seen.
    pub fn complete(&self, report: &mut TaskReport, now: Moment) {
        if self.has_finished {
            return;
        }
        let summary = &mut report.summary;
        if summary.phases.is_empty() {
            let status = self.status(now);
            summary.phases = status
                .phases
                .iter()
                .map(|span| PhaseReport {
                    phase: span.phase,
                    outcome: span.outcome.unwrap_or(PhaseOutcome::Failed),
                    seconds: span.seconds,
                    record_count: span.record_count,
                })
                .collect();
        }
        if summary.collections.is_empty() {
            summary.collections = self.status.collections.iter().map(as_result).collect();
            summary.rejected_count = self.sums().rejected_count;
        }
        if summary.findings.is_empty() {
            summary.findings.clone_from(&self.findings);
        }
        let peak = self
            .series
            .samples()
            .iter()
            .map(|sample| sample.memory_bytes)
            .max();
        summary.memory_peak_bytes = summary.memory_peak_bytes.max(peak.unwrap_or(0));
    }

    /// Ends the run as `report` says.
    pub fn end(&mut self, report: &TaskReport, now: Moment) {
        let totals = self.sums();
        self.sample(&totals, now);
        for span in self
            .status
            .phases
            .iter_mut()
            .filter(|span| span.outcome.is_none())
        {
            span.seconds = thousandths((now.elapsed_secs - span.started_secs).max(0.0));
        }
        for collection in &mut self.status.collections {
            if matches!(
                collection.state,
                CollectionState::Waiting | CollectionState::Copying
            ) {
                collection.state = CollectionState::Incomplete;
            }
        }
        report.outcome.clone_into(&mut self.status.state);
        self.status.exit_code = Some(report.exit_code);
        for failure in &report.errors {
            if !self.status.errors.contains(failure) {
                self.status.errors.push(failure.clone());
            }
        }
        self.status.phase = None;
        self.status.paused = None;
        self.status.updated_at = now.at;
        self.status.ended_at = Some(now.at);
        self.status.elapsed_secs = thousandths(now.elapsed_secs);
        if self.status.command.is_empty() {
            self.status.command.clone_from(&report.command);
        }
        if self.status.job.is_empty() {
            self.status.job.clone_from(&report.job);
            self.checkpoint.job.clone_from(&report.job);
        }
    }

    /// What a final report needs besides the task's own, after [`RunState::end`].
    pub fn facts(&self, log_complete: bool) -> RunFacts {
        let status = &self.status;
        RunFacts {
            run_id: status.run_id.clone(),
            job_file: status.job_file.clone(),
            mode: status.mode.clone(),
            started_by: status.started_by.clone(),
            started_at: status.started_at,
            ended_at: status.ended_at.unwrap_or(status.updated_at),
            elapsed_secs: status.elapsed_secs,
            timeline: status.phases.clone(),
            series: self.series.clone(),
            retry_count: status.retry_count,
            failed_collections: self.failed_collections.clone(),
            hooks: self.hooks.clone(),
            log_complete,
        }
    }
}

fn as_result(status: &CollectionStatus) -> CollectionResult {
    CollectionResult {
        source: status.source.clone(),
        sink: status.sink.clone(),
        estimate: status.expected_count,
        read_count: status.read_count,
        written_count: status.written_count,
        rejected_count: status.rejected_count,
        read_bytes: status.read_bytes,
        complete: status.state == CollectionState::Complete,
        ..CollectionResult::default()
    }
}
