//! What a task carries from phase to phase.
//! Not here: what a phase keeps for itself.

use std::time::Instant;

use whimbrel_plugin_api::capability::{SinkCapabilities, SourceCapabilities};

use crate::config::Job;
use crate::control::Stop;
use crate::events::{Emitter, Event, Phase, PhaseOutcome, PhaseReport, RunSummary};
use crate::loader::observe::Opener;

/// Both loaded plugins with what they say of themselves.
pub struct Opened {
    /// Opens the source.
    pub source: Opener,
    /// What the source can do.
    pub source_capabilities: SourceCapabilities,
    /// Opens sessions of the sink.
    pub sink: Opener,
    /// What the sink can do.
    pub sink_capabilities: SinkCapabilities,
}

/// The task at hand.
pub struct TaskContext {
    /// The job.
    pub job: Job,
    /// The plugins.
    pub plugins: Opened,
    /// Where events go.
    pub emitter: Emitter,
    /// Ends everything.
    pub stop: Stop,
    /// When the worker started.
    pub started: Instant,
    /// What was done so far.
    pub summary: RunSummary,
}

impl TaskContext {
    /// Announces that `phase` begins and returns its clock.
    pub fn begin(&self, phase: Phase) -> Instant {
        self.emitter.emit(&Event::PhaseStarted { phase });
        Instant::now()
    }

    /// Announces how `phase` ended after `seconds`.
    pub fn end(&mut self, phase: Phase, outcome: PhaseOutcome, seconds: f64, record_count: u64) {
        let report = PhaseReport {
            phase,
            outcome,
            seconds,
            record_count,
        };
        self.emitter.emit(&Event::PhaseEnded(report.clone()));
        self.summary.phases.push(report);
    }
}
