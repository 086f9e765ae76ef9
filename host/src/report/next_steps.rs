//! What to do now: after a success, and for each phase that failed, by the kind of its cause.
//!
//! The whole table is here. A kind or a phase without advice does not compile.

use serde::Serialize;
use whimbrel_plugin_api::ErrorKind;

use super::TaskReport;
use super::verdict::has_changed_since;
use crate::events::{CHANGED_SINCE, MismatchKind, Phase, RuleState};

/// One thing to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NextStep {
    /// What, for a person.
    pub text: String,
    /// How, for a terminal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
}

/// What to do about a phase that failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FailedPhase {
    /// Which one.
    pub phase: Phase,
    /// The kind of the cause.
    pub kind: &'static str,
    /// The code of the cause, if an error was the cause.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// What removes the cause.
    pub remedy: &'static str,
    /// What is in the sink now, and how to go on.
    pub then: &'static str,
}

/// What removes a cause of `kind` that showed in `phase`.
pub const fn remedy(phase: Phase, kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::Config => of_config(phase),
        ErrorKind::Unauthenticated => {
            "renew the credentials that the job names; a token may have expired during the run"
        }
        ErrorKind::Permission => of_permission(phase),
        ErrorKind::NotFound => of_not_found(phase),
        ErrorKind::Exists => {
            "empty the target, name another one, or choose a conflict policy other than `fail`"
        }
        ErrorKind::Unavailable => match phase {
            Phase::PostMigration => {
                "look whether the system is up and the disk has room; then carry out the hook"
            }
            _ => "look whether the system is up, can be reached from here, and has room on its disk",
        },
        ErrorKind::Timeout => {
            "look for locks and load on the system; if it is only slow, raise `limits.call_timeout_secs`"
        }
        ErrorKind::RateLimited => {
            "wait, ask for a higher quota, or lower `limits.collections_parallel` and `limits.partitions_parallel`"
        }
        ErrorKind::Cancelled => "nothing is broken: the run was asked to end",
        ErrorKind::InvalidData => of_invalid_data(phase),
        ErrorKind::Integrity => of_integrity(phase),
        ErrorKind::Unsupported => {
            "choose another way in the job: the connector does not offer this one (`whimbrel plugin info` lists what it offers)"
        }
        ErrorKind::Internal => {
            "this is a defect: keep the folder of the run, and report it with `migration-log.json` and the plugin's version"
        }
    }
}

const fn of_config(phase: Phase) -> &'static str {
    match phase {
        Phase::PreValidation | Phase::Verification => "correct the job at the place that the error names",
        Phase::Extraction => "correct the source's settings in the job",
        Phase::Transformation => "correct the settings of the transform that the error names",
        Phase::Import => "correct the sink's settings or the conflict policy in the job",
        Phase::PostMigration => "correct the hook's settings in the job",
    }
}

const fn of_permission(phase: Phase) -> &'static str {
    match phase {
        Phase::PreValidation => "grant the account the right to what the error names",
        Phase::Extraction | Phase::Verification => "grant the account the right to read what the error names",
        Phase::Import => "grant the account the right to write what the error names",
        Phase::Transformation | Phase::PostMigration => {
            "grant the user of this host the right to what the error names"
        }
    }
}

const fn of_not_found(phase: Phase) -> &'static str {
    match phase {
        Phase::PreValidation => "look whether what the error names is there, or take it out of the job",
        Phase::Extraction => "look up how the source spells the name, or take the collection out of the job",
        Phase::Transformation => "look whether the field or file that the transform names is there",
        Phase::Import | Phase::Verification => {
            "look whether somebody dropped or renamed the collection in the sink during the run"
        }
        Phase::PostMigration => "look whether the hook's command or file is there",
    }
}

const fn of_invalid_data(phase: Phase) -> &'static str {
    match phase {
        Phase::PreValidation => "correct the input at the place that the error names",
        Phase::Extraction | Phase::Import => {
            "look at the rejected records; correct them in the source, convert them with a transform, or raise `import.max_errors`"
        }
        Phase::Transformation => {
            "look at the rejected records and change the transform so that it takes their values"
        }
        Phase::Verification => "look at the record that could not be read back, and at what its column holds",
        Phase::PostMigration => "correct the file that the hook was to change",
    }
}

const fn of_integrity(phase: Phase) -> &'static str {
    match phase {
        Phase::PreValidation | Phase::Extraction => {
            "look for damage in what the error names: it contradicts itself; restore it or leave it out"
        }
        Phase::Transformation => "give each record one key: the transform made two the same, or lost a key",
        Phase::Import => {
            "look at the constraint that the error names, and whether another run or application writes the same target"
        }
        Phase::Verification => {
            "look at the differences listed: an application that still writes, a record changed by hand, or a lossy type"
        }
        Phase::PostMigration => "look at what the hook found to contradict itself",
    }
}

/// What is in the sink after `phase` failed, and how to go on.
pub const fn then(phase: Phase) -> &'static str {
    match phase {
        Phase::PreValidation => "nothing was written; look again, then start the job",
        Phase::Extraction | Phase::Transformation | Phase::Import => {
            "what was committed stays in the sink, whole transactions only; resume the run after the repair"
        }
        Phase::Verification => "the records are in the sink; compare again, nothing need be copied",
        Phase::PostMigration => "the records are in the sink; carry out by hand what did not happen",
    }
}

/// The same in a few words, for a list.
const fn again(phase: Phase, resumes: bool) -> &'static str {
    match phase {
        Phase::PreValidation => "look again",
        Phase::Extraction | Phase::Transformation | Phase::Import if resumes => "go on with the run",
        Phase::Extraction | Phase::Transformation | Phase::Import => "start the job again",
        Phase::Verification => "compare again",
        Phase::PostMigration => "carry out by hand what did not happen",
    }
}

/// The phases that failed, with what to do; those of one cause are one entry.
pub fn failed_phases(report: &TaskReport) -> Vec<FailedPhase> {
    let mut failed: Vec<FailedPhase> = Vec::new();
    for failure in &report.errors {
        let phase = failure.phase.unwrap_or_else(|| phase_that_ended(report));
        let entry = FailedPhase {
            phase,
            kind: failure.error.kind.name(),
            code: Some(failure.error.code.clone()),
            remedy: match failure.error.code.as_str() {
                CHANGED_SINCE => "see to it that nobody writes to the source for a while",
                _ => remedy(phase, failure.error.kind),
            },
            then: then(phase),
        };
        if !failed.contains(&entry) {
            failed.push(entry);
        }
    }
    if report.outcome == "differences" {
        failed.push(FailedPhase {
            phase: Phase::Verification,
            kind: ErrorKind::Integrity.name(),
            code: None,
            remedy: remedy(Phase::Verification, ErrorKind::Integrity),
            then: then(Phase::Verification),
        });
    }
    failed
}

/// Where a failure belongs that names no phase: the last phase that did not do what it had to, else the last one.
fn phase_that_ended(report: &TaskReport) -> Phase {
    let phases = &report.summary.phases;
    phases
        .iter()
        .rfind(|phase| phase.outcome == crate::events::PhaseOutcome::Failed)
        .or(phases.last())
        .map_or(Phase::PreValidation, |phase| phase.phase)
}

/// What to do after a task that ended as `report` says; `job` is the job file, `run_id` the run.
pub fn next_steps(report: &TaskReport, job_file: &str, run_id: &str) -> Vec<NextStep> {
    let job = quoted(job_file);
    let command = |name: &str| Some(format!("whimbrel {name} {job}"));
    let step = |text: &str, command: Option<String>| NextStep {
        text: text.to_owned(),
        command,
    };
    let resume = format!("whimbrel resume {}{}", quoted(run_id), place(report, job_file));
    let resumes = can_be_resumed(report);
    let mut steps = Vec::new();
    if resumes {
        let text = match report.outcome {
            "cancelled" => "what was committed stays in the sink; go on with the run when it suits",
            _ => "once the cause is removed, go on with the run where the sink has it",
        };
        steps.push(step(text, Some(resume.clone())));
    }
    if report.summary.rejected_count > 0 {
        steps.push(step(
            "look at the rejected records, which are kept with their reasons",
            Some(format!("whimbrel rejected list {}", quoted(run_id))),
        ));
    }
    steps.extend(after_differences(report, &|flags| {
        Some(format!("whimbrel verify {job} {flags}"))
    }));
    let failed = failed_phases(report);
    for failed in &failed {
        steps.push(step(
            &format!(
                "{}: {}; then {}",
                failed.phase.name(),
                failed.remedy,
                again(failed.phase, resumes)
            ),
            match failed.phase {
                Phase::PreValidation => command("check"),
                Phase::Verification => command("verify"),
                Phase::PostMigration => None,
                _ if resumes => Some(resume.clone()),
                _ => command("run"),
            },
        ));
    }
    match (report.outcome, report.command.as_str()) {
        ("done", "check" | "dry-run") => steps.push(step("start the job", command("run"))),
        ("done", "verify") => steps.push(step(
            "keep this report as the proof that both sides were equal",
            None,
        )),
        ("done", _) => steps.extend(after_success(report, &command)),
        ("cancelled", _) if !resumes => steps.push(step(
            "what was committed stays in the sink; start the job again when it suits",
            command("run"),
        )),
        _ if failed.is_empty() && report.outcome != "cancelled" => {
            steps.push(step("look for the cause in `migration-log.json`", None))
        }
        _ => {}
    }
    steps
}

/// What to do about differences, the list first.
fn after_differences(report: &TaskReport, verify: &dyn Fn(&str) -> Option<String>) -> Vec<NextStep> {
    let summary = &report.summary;
    let step = |text: String, command: Option<String>| NextStep { text, command };
    let mut steps = Vec::new();
    let files: Vec<&str> = summary
        .verification
        .iter()
        .filter_map(|result| result.mismatches_file.as_deref())
        .collect();
    match files.as_slice() {
        [] => {}
        [only] => steps.push(step(
            format!("read the list of all differences: `verification-results/{only}`"),
            None,
        )),
        several => steps.push(step(
            format!(
                "read the lists of all differences: {} files `verification-results/*.ndjson`",
                several.len()
            ),
            None,
        )),
    }
    if report.outcome != "differences" && !has_changed_since(report) {
        return steps;
    }
    let listed = || summary.verification.iter().flat_map(|result| &result.mismatches);
    let has_values = listed().any(|mismatch| !mismatch.values.is_empty());
    if !has_values && listed().any(|mismatch| mismatch.kind == MismatchKind::Different) {
        steps.push(step(
            "see the values of the fields that differ, if you may".to_owned(),
            verify("--verification-level comprehensive --show-values"),
        ));
    }
    let can_be_repaired =
        |kind: MismatchKind| !matches!(kind, MismatchKind::Schema | MismatchKind::ChangedSince);
    let lost: u64 = summary
        .sink_references
        .iter()
        .map(|reference| reference.sink_only_count)
        .sum();
    if lost > 0 {
        steps.push(step(
            "look which records the sink has refused or lost: others point to them".to_owned(),
            None,
        ));
    }
    if listed().any(|mismatch| mismatch.kind == MismatchKind::Schema) {
        steps.push(step(
            "give the sink the fields, types and keys that were planned".to_owned(),
            None,
        ));
    }
    if summary.rules.iter().any(|rule| rule.state == RuleState::Broken) {
        steps.push(step(
            "correct the records that break the rules, or the rules".to_owned(),
            None,
        ));
    }
    if listed().any(|mismatch| can_be_repaired(mismatch.kind)) || lost > 0 {
        steps.push(step(
            "copy again what differs, and compare once more".to_owned(),
            verify("--repair"),
        ));
    }
    steps
}

/// Whether the run copied and ended early, so that another one can go on with it.
fn can_be_resumed(report: &TaskReport) -> bool {
    let ended_early = matches!(report.outcome, "failed" | "cancelled" | "crashed");
    // Its own refusal to go on says what to do instead.
    let is_refusal = |failure: &crate::events::Failure| failure.error.code.starts_with("resume.");
    let lacks_lanes = report.plugins.iter().any(|plugin| plugin.lacks_lanes);
    report.copies() && ended_early && !lacks_lanes && !report.errors.iter().any(is_refusal)
}

/// Where runs of a job file are remembered that is not in the current folder.
fn place(report: &TaskReport, job_file: &str) -> String {
    let folder = std::path::Path::new(job_file).parent();
    let is_here = folder.is_none_or(|folder| folder.as_os_str().is_empty() || folder.as_os_str() == ".");
    match is_here || report.job.is_empty() {
        true => String::new(),
        false => format!(" --job {}", quoted(job_file)),
    }
}

fn after_success(report: &TaskReport, command: &dyn Fn(&str) -> Option<String>) -> Vec<NextStep> {
    let step = |text: &str, command: Option<String>| NextStep {
        text: text.to_owned(),
        command,
    };
    let mut steps = Vec::new();
    if report.summary.verification.is_empty() {
        steps.push(step(
            "compare both sides: this run was not verified",
            command("verify"),
        ));
    }
    if report
        .summary
        .collections
        .iter()
        .any(|collection| !collection.losses.is_empty())
    {
        steps.push(step(
            "read the declared losses and agree that the application can live with them",
            None,
        ));
    }
    steps.push(step("keep this report with the papers of the change", None));
    steps.push(step(
        "verify once more before the switch, if the source was written to since",
        command("verify"),
    ));
    steps.push(step("point the application to the new system and watch it", None));
    steps.push(step(
        "keep the old data, read only, for the time that your rules ask for; then remove it",
        None,
    ));
    steps
}

/// As one word for a shell.
pub fn quoted(text: &str) -> String {
    let is_plain = |char: char| char.is_ascii_alphanumeric() || "._-/+:@%".contains(char);
    if !text.is_empty() && text.chars().all(is_plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::fixtures;
    use std::collections::HashSet;

    #[test]
    fn each_phase_has_advice_for_each_kind() {
        let kinds: Vec<ErrorKind> = (1..=13).map(ErrorKind::from).collect();
        assert_eq!(
            kinds.iter().map(|kind| kind.name()).collect::<HashSet<_>>().len(),
            13
        );
        for phase in [
            Phase::PreValidation,
            Phase::Extraction,
            Phase::Transformation,
            Phase::Import,
            Phase::Verification,
            Phase::PostMigration,
        ] {
            let remedies: Vec<&str> = kinds.iter().map(|kind| remedy(phase, *kind)).collect();
            for text in remedies.iter().chain(&[then(phase)]) {
                assert!(text.len() > 20 && !text.ends_with('.'), "{text}");
            }
            let distinct: HashSet<&&str> = remedies.iter().collect();
            assert_eq!(
                distinct.len(),
                kinds.len(),
                "{phase:?}: one text serves two kinds"
            );
        }
    }

    #[test]
    fn every_end_says_what_to_do() {
        for report in fixtures::every_end() {
            let steps = next_steps(&report, "job.yaml", "r-1");
            assert!(!steps.is_empty(), "{} {}", report.command, report.outcome);
        }
    }

    #[test]
    fn a_failing_copy_is_repaired_and_gone_on_with() {
        let report = fixtures::failed();
        let steps = next_steps(&report, "my job.yaml", "r-1");
        let texts: Vec<&str> = steps.iter().map(|step| step.text.as_str()).collect();
        assert!(texts[1].contains("rejected records"), "{texts:?}");
        assert!(texts[2].starts_with("import: "), "{texts:?}");
        let commands: Vec<Option<&str>> = steps.iter().map(|step| step.command.as_deref()).collect();
        assert_eq!(
            commands[..3],
            [
                Some("whimbrel resume r-1"),
                Some("whimbrel rejected list r-1"),
                Some("whimbrel resume r-1")
            ]
        );
    }

    #[test]
    fn whoever_ended_early_is_told_first_how_to_go_on() {
        for (command, outcome, resumes) in [
            ("run", "failed", true),
            ("run", "cancelled", true),
            ("run", "crashed", true),
            ("resume", "crashed", true),
            ("run", "refused", false),
            ("run", "done", false),
            ("dry-run", "cancelled", false),
            ("import", "crashed", false),
        ] {
            let report = fixtures::bare(command, outcome);
            let first = next_steps(&report, "jobs/a.yaml", "r-1")
                .remove(0)
                .command
                .unwrap_or_default();
            let wanted = "whimbrel resume r-1 --job jobs/a.yaml";
            assert_eq!(first == wanted, resumes, "{command} {outcome}: {first}");
        }
        let mut unkept = fixtures::bare("run", "failed");
        for plugin in &mut unkept.plugins {
            plugin.lacks_lanes = plugin.role == whimbrel_plugin_api::manifest::Role::Sink;
        }
        assert!(unkept.plugins.iter().any(|plugin| plugin.lacks_lanes));
        assert!(!can_be_resumed(&unkept));
        let mut refused = fixtures::bare("resume", "failed");
        let error = whimbrel_plugin_api::Error::config("resume.changed", "x");
        refused.errors.push(error.into());
        let steps = next_steps(&refused, "a.yaml", "r-1");
        let resumes = |step: &NextStep| step.command.as_deref() == Some("whimbrel resume r-1");
        assert!(!steps.iter().any(resumes), "{steps:?}");
    }

    #[test]
    fn commands_can_be_pasted_into_a_shell() {
        assert_eq!(quoted("a/job-1.yaml"), "a/job-1.yaml");
        assert_eq!(quoted("it's; rm -rf /"), r"'it'\''s; rm -rf /'");
        assert_eq!(quoted(""), "''");
    }
}
