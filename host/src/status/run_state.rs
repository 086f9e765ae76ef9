//! What is known of a run, folded from its events: status, checkpoint, and how it went over time.
//!
//! Pure: the moment of each event is handed in. [`super::RunFiles`] holds it and writes what it says;
//! `run_pace` and `run_end` are its other parts.

use std::collections::{HashMap, VecDeque};
use std::path::Path;

use chrono::{DateTime, Utc};
use whimbrel_plugin_api::Finding;
use whimbrel_plugin_api::manifest::Role;

use super::run_checkpoint::{PartitionCheckpoint, RunCheckpoint};
use super::run_status::{
    CollectionState, CollectionStatus, FORMAT, LastRetry, PausedStatus, RUNNING, RunStatus, Totals,
};
use crate::events::{Event, FoundBy, Phase, PhaseReport, RunSummary, VerificationResult};
use crate::report::{FailedCollection, HookResult, NOTES_MAX, PhaseSpan, Series, thousandths};

/// A moment by both clocks.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Moment {
    /// The time of day.
    pub at: DateTime<Utc>,
    /// Seconds since the start, by a clock that nobody sets.
    pub elapsed_secs: f64,
}

/// Whether an event should be in the status at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Urgency {
    /// Something turned.
    AtOnce,
    /// With the next status.
    Soon,
}

/// What is known of a run.
#[derive(Debug)]
pub struct RunState {
    pub(super) status: RunStatus,
    pub(super) checkpoint: RunCheckpoint,
    commit_count: u64,
    places: HashMap<String, usize>,
    pub(super) series: Series,
    pub(super) written_of_late: VecDeque<(f64, u64)>,
    pub(super) findings: Vec<FoundBy>,
    pub(super) hooks: Vec<HookResult>,
    pub(super) failed_collections: Vec<FailedCollection>,
    pub(super) has_finished: bool,
}

impl RunState {
    /// A run that begins now, watched by the process `pid`.
    pub fn new(run_id: &str, job_file: &Path, pid: u32, now: Moment) -> Self {
        Self {
            status: RunStatus {
                format: FORMAT,
                run_id: run_id.to_owned(),
                command: String::new(),
                job: String::new(),
                job_file: job_file.display().to_string(),
                mode: String::new(),
                started_by: String::new(),
                state: RUNNING.to_owned(),
                pid,
                started_at: now.at,
                updated_at: now.at,
                ended_at: None,
                elapsed_secs: 0.0,
                phase: None,
                phases: Vec::new(),
                totals: Totals::default(),
                collections: Vec::new(),
                retry_count: 0,
                last_retry: None,
                paused: None,
                memory_bytes: None,
                errors: Vec::new(),
                exit_code: None,
            },
            checkpoint: RunCheckpoint::new(run_id, now.at),
            commit_count: 0,
            places: HashMap::new(),
            series: Series::default(),
            written_of_late: VecDeque::new(),
            findings: Vec::new(),
            hooks: Vec::new(),
            failed_collections: Vec::new(),
            has_finished: false,
        }
    }

    /// What earlier runs of the copy have made durable is as `before` says.
    pub fn go_on_from(&mut self, before: RunCheckpoint) {
        self.checkpoint.begun_by = before.begun_by;
        self.checkpoint.record_count = before.record_count;
        self.checkpoint.collections = before.collections;
    }

    /// Takes note of an event.
    pub fn observe(&mut self, event: &Event, now: Moment) -> Urgency {
        match event {
            Event::Started {
                command,
                job,
                mode,
                started_by,
                ..
            } => {
                self.status.command.clone_from(command);
                self.status.job.clone_from(job);
                self.status.mode.clone_from(mode);
                self.status.started_by.clone_from(started_by);
                self.checkpoint.job.clone_from(job);
            }
            Event::PhaseStarted { phase } => self.begin(*phase, now),
            Event::PhaseEnded(report) => self.end_phase(report, now),
            Event::CollectionFailed { collection, failure } => {
                self.collection(collection).state = CollectionState::Failed;
                self.status.errors.push((**failure).clone());
                self.failed_collections.push(FailedCollection {
                    collection: collection.clone(),
                    failure: (**failure).clone(),
                });
            }
            Event::Paused {
                role,
                code,
                message,
                help,
                since,
            } => {
                self.status.paused = Some(PausedStatus {
                    role: *role,
                    code: code.clone(),
                    message: message.clone(),
                    help: help.clone(),
                    since: since.clone(),
                });
            }
            Event::Resumed { .. } => self.status.paused = None,
            Event::Finished { outcome } => self.finished(outcome.summary()),
            other => {
                self.count(other, now);
                return Urgency::Soon;
            }
        }
        Urgency::AtOnce
    }

    /// Events that change numbers only.
    fn count(&mut self, event: &Event, now: Moment) {
        match event {
            Event::CollectionPlanned {
                source,
                sink,
                record_count,
            } => {
                let planned = CollectionStatus::waiting(source, sink, *record_count);
                *self.collection(source) = planned;
            }
            Event::Progress { .. } => self.progressed(event),
            Event::Committed { .. } => self.committed(event, now),
            Event::LaneTaken { .. } => self.found_durable(event, now),
            Event::BegunAnew { collection } => self.checkpoint.forget(collection),
            Event::Retrying {
                role,
                collection,
                attempt,
                code,
                message,
                ..
            } => {
                // The number is that of transactions.
                self.status.retry_count += u64::from(*role != Some(Role::Source));
                self.status.last_retry = Some(LastRetry {
                    collection: collection.clone(),
                    attempt: *attempt,
                    code: code.clone(),
                    message: message.clone(),
                    at: now.at,
                });
            }
            Event::VerificationProgress {
                collection,
                record_count,
            } => self.collection(collection).verified_count = *record_count,
            Event::Health { memory_bytes, .. } => self.status.memory_bytes = Some(*memory_bytes),
            Event::Heartbeat { memory_bytes } if *memory_bytes > 0 => {
                self.status.memory_bytes = Some(*memory_bytes)
            }
            Event::Found { role, finding } => self.found(*role, finding),
            Event::HookEnded { hook, ok, message } if self.hooks.len() < NOTES_MAX => {
                self.hooks.push(HookResult {
                    hook: hook.clone(),
                    ok: *ok,
                    message: message.clone(),
                })
            }
            _ => {}
        }
    }

    fn progressed(&mut self, event: &Event) {
        let Event::Progress {
            collection,
            read_count,
            written_count,
            rejected_count,
            read_bytes,
        } = event
        else {
            return;
        };
        let status = self.collection(collection);
        status.read_count = *read_count;
        status.written_count = *written_count;
        status.rejected_count = *rejected_count;
        status.read_bytes = *read_bytes;
        if status.state == CollectionState::Waiting {
            status.state = CollectionState::Copying;
        }
    }

    fn committed(&mut self, event: &Event, now: Moment) {
        let Event::Committed {
            collection,
            partition,
            seq,
            cursor,
            record_count,
            done,
        } = event
        else {
            return;
        };
        let committed = PartitionCheckpoint {
            seq: *seq,
            cursor: cursor.clone(),
            record_count: *record_count,
            done: *done,
            committed_at: now.at,
        };
        self.checkpoint.commit(collection, partition, committed);
        self.commit_count += 1;
    }

    /// The sink says what earlier runs of the copy have made durable.
    fn found_durable(&mut self, event: &Event, now: Moment) {
        let Event::LaneTaken {
            collection,
            partition,
            seq,
            cursor,
            record_count,
            done,
        } = event
        else {
            return;
        };
        let found = PartitionCheckpoint {
            seq: *seq,
            cursor: cursor.clone(),
            record_count: *record_count,
            done: *done,
            committed_at: now.at,
        };
        if *seq > 0 {
            self.checkpoint.find(collection, partition, found);
            self.commit_count += 1;
        }
    }

    fn found(&mut self, role: Option<Role>, finding: &Finding) {
        if self.findings.len() < NOTES_MAX {
            self.findings.push(FoundBy {
                role,
                finding: finding.clone(),
            });
        }
    }

    fn collection(&mut self, name: &str) -> &mut CollectionStatus {
        let place = match self.places.get(name) {
            Some(place) => *place,
            None => {
                let place = self.status.collections.len();
                self.places.insert(name.to_owned(), place);
                self.status
                    .collections
                    .push(CollectionStatus::waiting(name, name, None));
                place
            }
        };
        &mut self.status.collections[place]
    }

    fn begin(&mut self, phase: Phase, now: Moment) {
        if !self.status.phases.iter().any(|span| span.phase == phase) {
            self.status.phases.push(PhaseSpan {
                phase,
                outcome: None,
                started_secs: thousandths(now.elapsed_secs),
                seconds: 0.0,
                record_count: 0,
            });
        }
        self.set_phase();
    }

    fn end_phase(&mut self, report: &PhaseReport, now: Moment) {
        let begun = (now.elapsed_secs - report.seconds).max(0.0);
        let span = match self
            .status
            .phases
            .iter_mut()
            .find(|span| span.phase == report.phase)
        {
            Some(span) => span,
            None => {
                // One that was never begun, such as one that the job leaves out.
                self.status.phases.push(PhaseSpan {
                    phase: report.phase,
                    outcome: None,
                    started_secs: thousandths(begun),
                    seconds: 0.0,
                    record_count: 0,
                });
                let last = self.status.phases.len() - 1;
                &mut self.status.phases[last]
            }
        };
        span.outcome = Some(report.outcome);
        span.seconds = report.seconds;
        span.record_count = report.record_count;
        self.set_phase();
    }

    fn set_phase(&mut self) {
        self.status.phases.sort_by_key(|span| span.phase);
        let going_on = self.status.phases.iter().filter(|span| span.outcome.is_none());
        self.status.phase = going_on.map(|span| span.phase).max();
    }

    /// The worker's own counts are exact where progress was rounded to seconds.
    fn finished(&mut self, summary: &RunSummary) {
        for result in &summary.collections {
            let status = self.collection(&result.source);
            status.sink.clone_from(&result.sink);
            status.expected_count = status.expected_count.or(result.estimate);
            status.read_count = result.read_count;
            status.written_count = result.written_count;
            status.rejected_count = result.rejected_count;
            status.read_bytes = result.read_bytes;
            if status.state != CollectionState::Failed {
                status.state = if result.complete {
                    CollectionState::Complete
                } else {
                    CollectionState::Incomplete
                };
            }
        }
        self.compared(&summary.verification);
        self.has_finished = true;
    }

    fn compared(&mut self, results: &[VerificationResult]) {
        for result in results {
            let status = self.collection(&result.source);
            status.verified_count = result.compared_count;
            status.comparison = Some(result.comparison);
        }
    }

    /// The status, true now.
    pub fn status(&self, now: Moment) -> RunStatus {
        let mut status = self.status.clone();
        if status.ended_at.is_none() {
            status.updated_at = now.at;
            status.elapsed_secs = thousandths(now.elapsed_secs);
            for span in status.phases.iter_mut().filter(|span| span.outcome.is_none()) {
                span.seconds = thousandths((now.elapsed_secs - span.started_secs).max(0.0));
            }
        }
        status.totals = self.totals();
        status
    }

    /// The checkpoint, true now.
    pub fn checkpoint(&self, now: Moment) -> RunCheckpoint {
        RunCheckpoint {
            updated_at: self.status.ended_at.unwrap_or(now.at),
            ..self.checkpoint.clone()
        }
    }

    /// Commits seen so far: the checkpoint is another one when this is.
    pub fn commit_count(&self) -> u64 {
        self.commit_count
    }
}

#[cfg(test)]
mod tests;
