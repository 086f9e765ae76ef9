//! The one object from which both the text and the JSON of a task are made.
//! Its serialised form is what `--json` prints, so a member once given stays.

use serde::Serialize;
use whimbrel_plugin_api::manifest::Role;

use crate::config::Job;
use crate::events::{Failure, Outcome, RunSummary};

/// How a task ended, as far as a report cares.
#[derive(Debug, Clone, Copy)]
pub enum Ending<'a> {
    /// The worker said so itself.
    Outcome(&'a Outcome),
    /// The worker was lost.
    Lost(&'a Failure),
}

/// A task that has ended.
#[derive(Debug, Clone, Serialize)]
pub struct TaskReport {
    /// `run`, `check` or `verify`.
    pub command: String,
    /// The job.
    pub job: String,
    /// `done`, `differences`, `unverified`, `refused`, `failed`, `cancelled` or `crashed`.
    pub outcome: &'static str,
    /// The exit code of the program.
    pub exit_code: u8,
    /// The plugins that took part.
    pub plugins: Vec<PluginUsed>,
    /// What went wrong, gravest first.
    pub errors: Vec<Failure>,
    /// What was done.
    #[serde(flatten)]
    pub summary: RunSummary,
}

/// A plugin that took part.
#[derive(Debug, Clone, Serialize)]
pub struct PluginUsed {
    /// As what.
    pub role: Role,
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
}

impl TaskReport {
    /// Puts together what is known.
    pub fn new(
        command: &str,
        job: &Job,
        plugins: Vec<PluginUsed>,
        ending: Ending<'_>,
        exit_code: u8,
    ) -> Self {
        let (outcome, errors, summary) = match ending {
            Ending::Outcome(Outcome::Done { summary }) => ("done", Vec::new(), summary.clone()),
            Ending::Outcome(Outcome::Differences { summary }) => ("differences", Vec::new(), summary.clone()),
            Ending::Outcome(Outcome::Unverified { summary, failure }) => {
                ("unverified", vec![failure.clone()], summary.clone())
            }
            Ending::Outcome(Outcome::Refused { summary, failures }) => {
                ("refused", failures.clone(), summary.clone())
            }
            Ending::Outcome(Outcome::Failed { summary, failure }) => {
                ("failed", vec![failure.clone()], summary.clone())
            }
            Ending::Outcome(Outcome::Cancelled { summary }) => ("cancelled", Vec::new(), summary.clone()),
            Ending::Lost(failure) => ("crashed", vec![failure.clone()], RunSummary::default()),
        };
        Self {
            command: command.to_owned(),
            job: job.name.clone(),
            outcome,
            exit_code,
            plugins,
            errors,
            summary,
        }
    }
}
