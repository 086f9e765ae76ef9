//! The one object from which both the text and the JSON of a task are made.
//! Its serialised form is what `--json` prints, so a member once given stays.

use serde::Serialize;
use whimbrel_plugin_api::Error;
use whimbrel_plugin_api::manifest::Role;

use crate::config::{Job, keeps_stored};
use crate::events::{Failure, Outcome, RunSummary};

/// How a task ended, as far as a report cares.
#[derive(Debug, Clone, Copy)]
pub enum Ending<'a> {
    /// The worker said so itself.
    Outcome(&'a Outcome),
    /// The worker was lost.
    Lost(&'a Failure),
    /// The host refused to go on, before anything was written.
    Refused(&'a [Error]),
}

/// A task that has ended.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TaskReport {
    /// `run`, `dry-run`, `check`, `verify` and so on.
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
    /// The collections of the sink, of those that were compared, whose own records go before the source's by the job.
    #[serde(skip)]
    pub keeps_stored: Vec<String>,
    /// What was done.
    #[serde(flatten)]
    pub summary: RunSummary,
}

/// A plugin that took part.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PluginUsed {
    /// As what.
    pub role: Role,
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Whether it is a sink that says of itself that it keeps no lanes, so that nothing can be gone on with.
    #[serde(skip)]
    pub lacks_lanes: bool,
}

impl TaskReport {
    /// Puts together what is known. The data of rejected records stays behind: it belongs to their store.
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
            Ending::Refused(errors) => (
                "refused",
                errors.iter().cloned().map(Failure::from).collect(),
                RunSummary::default(),
            ),
        };
        let keeps = |source: &str, sink: &str| keeps_stored(job.policy_of(source, sink));
        let compared = summary.verification.iter();
        let mut report = Self {
            keeps_stored: compared
                .filter(|result| keeps(&result.source, &result.sink))
                .map(|result| result.sink.clone())
                .collect(),
            command: command.to_owned(),
            job: job.name.clone(),
            outcome,
            exit_code,
            plugins,
            errors,
            summary,
        };
        report.leave_data_behind();
        report
    }

    /// Whether the task moves records, or does all but write them.
    pub fn is_run(&self) -> bool {
        self.copies() || self.command == "dry-run"
    }

    /// Whether the task copies a job, from its beginning or from where an earlier run was.
    pub fn copies(&self) -> bool {
        matches!(self.command.as_str(), "run" | "resume")
    }

    fn leave_data_behind(&mut self) {
        for (_, record) in &mut self.summary.rejected {
            record.data = None;
        }
    }

    /// Adds why the host itself asked the worker to end: that is a failure and no wish of a person.
    pub fn add_fault(&mut self, failure: Failure) {
        if self.outcome == "cancelled" {
            self.outcome = "failed";
        }
        if !self.errors.contains(&failure) {
            self.errors.insert(0, failure);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::fixtures;

    #[test]
    fn data_of_rejected_records_is_in_no_report() {
        let outcome = fixtures::outcome_with_rejected_data("planted-value");
        let report = TaskReport::new("run", &fixtures::job(), Vec::new(), Ending::Outcome(&outcome), 1);
        let text = serde_json::to_string(&report).unwrap();
        assert!(text.contains("sink.not_null"), "{text}");
        assert!(!text.contains("planted-value"), "{text}");
    }

    #[test]
    fn an_end_that_the_host_asked_for_is_a_failure() {
        let outcome = Outcome::Cancelled {
            summary: RunSummary::default(),
        };
        let mut report = TaskReport::new("run", &fixtures::job(), Vec::new(), Ending::Outcome(&outcome), 3);
        let fault = Failure::from(Error::config("a.b", "x"));
        report.add_fault(fault.clone());
        report.add_fault(fault.clone());
        assert_eq!((report.outcome, report.errors), ("failed", vec![fault]));
    }
}
