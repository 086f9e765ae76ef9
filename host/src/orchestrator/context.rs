//! What a task carries from phase to phase.
//! Not here: what a phase keeps for itself.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use crossbeam_channel::Receiver;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use whimbrel_plugin_api::capability::{SinkCapabilities, SourceCapabilities};
use whimbrel_plugin_api::manifest::Role;

use crate::barrier::Barrier;
use crate::checkpoint::ResumeOptions;
use crate::config::Job;
use crate::control::Stop;
use crate::events::{Emitter, Event, Phase, PhaseOutcome, PhaseReport, RefusedBefore, RunSummary};
use crate::loader::observe::{CallLog, Opener};
use crate::phases::repairing::Agreed;
use crate::phases::replaying::ReplayOptions;
use crate::pipeline::breaker::Breaker;
use crate::pipeline::budget::Budget;
use crate::pipeline::pause::Pause;
use crate::transform::Transforms;

/// What a run is told besides its job.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RunOptions {
    /// The run, for what is kept of it.
    pub run_id: String,
    /// Phases that are left out.
    pub skip_phases: Vec<Phase>,
    /// Read and transform, but write nothing.
    pub dry_run: bool,
    /// Where staged records of this job are kept, an absolute path.
    pub staging_folder: PathBuf,
    /// Staged records of an earlier run are not used.
    pub reads_anew: bool,
    /// Where records are listed that point to nothing, an absolute path; none if they are not to be.
    pub orphans_file: Option<PathBuf>,
    /// Whether somebody has said how many records a write has; else a sink that defers its judgement gets whole batches.
    pub sizes_writes: bool,
    /// What the copy depends on, by name, as digests without secrets.
    pub made_from: BTreeMap<String, String>,
    /// The config of the source as it is written, with references in the place of secrets: part of what the copy depends on, but for
    /// what the plugin says of its settings.
    pub source_written: serde_json::Value,
    /// The copy that is gone on with; none if the run begins one.
    pub resume: Option<ResumeOptions>,
    /// Rejected records of an earlier run that are sent again; only for a replay.
    pub replay: Option<ReplayOptions>,
    /// How both sides are compared.
    pub verify: VerifyOptions,
}

/// What a verification is told besides the job.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct VerifyOptions {
    /// Where a comprehensive comparison keeps what it needs to go on after a kill, an absolute path.
    pub work_folder: PathBuf,
    /// The folder in which differences are listed, a file for each collection, an absolute path.
    pub results_folder: PathBuf,
    /// Whether the values of differing fields are listed and reported.
    pub shows_values: bool,
    /// Whether only the sink is read, for its digests: nothing is compared.
    pub is_of_sink_alone: bool,
    /// Only these collections, in their names in the source; empty means all that the job verifies.
    pub collections: Vec<String>,
    /// Records that the runs of the copy have refused; a run knows its own.
    pub refused: Vec<RefusedBefore>,
    /// Where the differences that a repair begins with are listed, an absolute path; none if nothing is repaired.
    pub before_repair_folder: Option<PathBuf>,
    /// Whether a repair may empty a collection, or remove most of it.
    pub removes_most: bool,
    /// How much of each collection, by its name in the sink, a repair may change at most; none if there is no bound.
    pub agreed: Option<BTreeMap<String, Agreed>>,
}

/// The loaded plugins with what they say of themselves.
pub struct Opened {
    /// Opens the source.
    pub source: Opener,
    /// What the source can do.
    pub source_capabilities: SourceCapabilities,
    /// Opens sessions of the sink.
    pub sink: Opener,
    /// What the sink can do.
    pub sink_capabilities: SinkCapabilities,
    /// The transforms.
    pub transforms: Transforms,
    /// Name and version of the source, for what is made from it.
    pub source_version: String,
    /// What the source's config says of which records there are.
    pub source_lasting: Map<String, Value>,
}

impl Opened {
    /// What the sink can do when it is read, as far as its plugin says: what holds for its source role.
    pub fn reading_back(&self) -> SourceCapabilities {
        let described = self.sink.describe(Role::Source).ok();
        described
            .and_then(|described| described.source)
            .unwrap_or_default()
    }
}

/// The task at hand.
pub struct TaskContext {
    /// The job.
    pub job: Job,
    /// What else it is told.
    pub options: RunOptions,
    /// Whether both sides are one and the same place.
    pub is_in_place: bool,
    /// Says when writing may begin; none if nobody is waited for.
    pub gate: Option<Receiver<()>>,
    /// Where everybody waits until what was said is durable in the state.
    pub barrier: Barrier,
    /// What all records on their way draw on.
    pub budget: Budget,
    /// Where calls are announced.
    pub calls: Arc<CallLog>,
    /// The plugins.
    pub plugins: Opened,
    /// Where events go.
    pub emitter: Emitter,
    /// Ends everything.
    pub stop: Stop,
    /// Where everybody waits for a repair.
    pub pause: Arc<Pause>,
    /// Ends the run when too many of its last records are refused.
    pub breaker: Arc<Breaker>,
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

    /// Whether the run leaves `phase` out.
    pub fn skips(&self, phase: Phase) -> bool {
        self.options.skip_phases.contains(&phase)
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
