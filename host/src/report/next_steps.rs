//! What to do now: after a success, and for each phase that failed, by the kind of its cause.
//!
//! A command is advised only if it writes no more than the one that was given. Neighbour: `remedies`, the table of causes.

use serde::Serialize;
use whimbrel_plugin_api::ErrorKind;

use super::TaskReport;
use super::remedies::{remedy, then, then_anew};
use super::verdict::has_changed_since;
use crate::events::{CHANGED_SINCE, MismatchKind, Phase, RuleState};

/// The lists of differences, beside a report.
pub const RESULTS_FOLDER: &str = "verification-results";

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

/// The same in a few words, for a list.
fn again(phase: Phase, report: &TaskReport) -> &'static str {
    match phase {
        Phase::PreValidation => "look again",
        Phase::Extraction | Phase::Transformation | Phase::Import if can_be_resumed(report) => {
            "go on with the run"
        }
        Phase::Extraction | Phase::Transformation | Phase::Import if report.copies() => "start the job again",
        Phase::Extraction | Phase::Transformation | Phase::Import => "give the command again",
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
            then: if can_be_resumed(report) {
                then(phase)
            } else {
                then_anew(phase)
            },
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

/// What to do after a task that ended as `report` says, for who reads it beside the report; `job` is the job file, `run_id` the run.
pub fn next_steps(report: &TaskReport, job_file: &str, run_id: &str) -> Vec<NextStep> {
    next_steps_with(report, job_file, run_id, RESULTS_FOLDER)
}

/// As [`next_steps`], for who finds the lists of differences in `results_folder`.
pub fn next_steps_with(
    report: &TaskReport,
    job_file: &str,
    run_id: &str,
    results_folder: &str,
) -> Vec<NextStep> {
    let job = quoted(job_file);
    let command = |name: &str| of_job(report, name, &job);
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
    steps.extend(after_differences(report, results_folder, &|flags| {
        of_job(report, "verify", &format!("{job} {flags}"))
    }));
    let failed = failed_phases(report);
    for failed in &failed {
        let text = format!(
            "{}: {}; then {}",
            failed.phase.name(),
            failed.remedy,
            again(failed.phase, report)
        );
        let command = match failed.phase {
            Phase::PreValidation => command("check"),
            Phase::Verification => command("verify"),
            Phase::PostMigration => None,
            _ if resumes => Some(resume.clone()),
            _ => same_command(report, &job),
        };
        steps.push(step(&text, command));
    }
    match (report.outcome, report.command.as_str()) {
        ("done", "check" | "dry-run") => steps.push(step("start the job", command("run"))),
        ("done", "verify") => steps.push(step(
            "keep this report as the proof that both sides were equal",
            None,
        )),
        ("done", _) => steps.extend(after_success(report, &command)),
        ("cancelled", _) if !resumes => steps.push(step(after_request(report), same_command(report, &job))),
        _ if failed.is_empty() && report.outcome != "cancelled" => {
            steps.push(step("look for the cause in `migration-log.json`", None))
        }
        _ => {}
    }
    steps
}

fn step(text: &str, command: Option<String>) -> NextStep {
    NextStep {
        text: text.to_owned(),
        command,
    }
}

/// Whether files took the place of one side: the job's own sides are not those of the task.
fn is_exchange(report: &TaskReport) -> bool {
    matches!(report.command.as_str(), "export" | "import")
}

/// The command `name` with its arguments, none if it would be about other sides than the task was.
fn of_job(report: &TaskReport, name: &str, arguments: &str) -> Option<String> {
    (!is_exchange(report)).then(|| format!("whimbrel {name} {arguments}"))
}

/// The command that was given, once more; none if its arguments are not known here. It must never write what that would not have.
fn same_command(report: &TaskReport, job: &str) -> Option<String> {
    let words = match report.command.as_str() {
        "run" | "resume" => format!("run {job}"),
        "dry-run" => format!("run {job} --dry-run"),
        "repair" => format!("verify {job} --repair"),
        name @ ("check" | "plan" | "verify" | "stats" | "clear") => format!("{name} {job}"),
        _ => return None,
    };
    Some(format!("whimbrel {words}"))
}

/// What is left by a task that was asked to end and cannot be gone on with, and how to have it done.
fn after_request(report: &TaskReport) -> &'static str {
    match report.command.as_str() {
        "run" | "resume" => "what was committed stays in the sink; start the job again when it suits",
        "repair" => "what was healed stays in the sink; repair again when it suits",
        "clear" => "what was removed from the sink is gone; clear it again when it suits",
        "export" | "import" => "what was written stays; give the command again when it suits",
        _ => "nothing was written; give the command again when it suits",
    }
}

/// What to do about differences, the list first.
fn after_differences(
    report: &TaskReport,
    folder: &str,
    verify: &dyn Fn(&str) -> Option<String>,
) -> Vec<NextStep> {
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
            format!("read the list of all differences: `{folder}/{only}`"),
            None,
        )),
        several => steps.push(step(
            format!(
                "read the lists of all differences: {} files `{folder}/*.ndjson`",
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
    let mut of_records = summary.verification.iter().flat_map(|result| {
        let keeps = report.keeps_stored.contains(&result.sink);
        result
            .mismatches
            .iter()
            .map(move |mismatch| (keeps, mismatch.kind))
    });
    // What a repair does not touch it is not advised for.
    let can_be_repaired = of_records.clone().any(|(keeps, kind)| match kind {
        MismatchKind::Schema | MismatchKind::ChangedSince => false,
        MismatchKind::Missing | MismatchKind::Count => true,
        _ => !keeps,
    });
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
    if of_records.any(|(keeps, kind)| keeps && matches!(kind, MismatchKind::Different | MismatchKind::Extra))
    {
        steps.push(step(
            "look which side is right where the job keeps what the sink has (`on_conflict`): a repair leaves those records as they are"
                .to_owned(),
            None,
        ));
    }
    if can_be_repaired || lost > 0 {
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
    let mut steps = Vec::new();
    if report.summary.verification.is_empty() && !is_exchange(report) {
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
    if is_exchange(report) {
        return steps;
    }
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
    use crate::config::VerificationLevel;
    use crate::events::{Mismatch, VerificationResult};
    use crate::report::fixtures;

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

    /// Every command that may be advised after `command` ended so, with a failure in each phase and differences.
    fn advised(command: &str, outcome: &'static str) -> Vec<String> {
        let mut report = fixtures::bare(command, outcome);
        report.summary.verification = fixtures::differences().summary.verification;
        for phase in [
            Phase::PreValidation,
            Phase::Extraction,
            Phase::Transformation,
            Phase::Import,
            Phase::Verification,
            Phase::PostMigration,
        ] {
            let error = whimbrel_plugin_api::Error::new(ErrorKind::Unavailable, "x.y", "z");
            let failure = crate::events::Failure::from(error).in_phase(phase);
            report.errors.push(failure);
        }
        let steps = next_steps(&report, "a.yaml", "r-1");
        steps.into_iter().filter_map(|step| step.command).collect()
    }

    #[test]
    fn no_command_is_advised_that_would_write_what_the_given_one_would_not() {
        for outcome in [
            "failed",
            "cancelled",
            "crashed",
            "refused",
            "differences",
            "unverified",
            "done",
        ] {
            for command in ["export", "import"] {
                assert_eq!(advised(command, outcome), [""; 0], "{command} {outcome}");
            }
            for command in ["check", "plan", "verify", "stats", "clear", "repair"] {
                let commands = advised(command, outcome);
                let copies = |command: &String| command.starts_with("whimbrel run");
                let wanted = command == "check" && outcome == "done";
                assert_eq!(
                    commands.iter().any(copies),
                    wanted,
                    "{command} {outcome}: {commands:?}"
                );
            }
            if outcome != "done" {
                for command in advised("dry-run", outcome) {
                    let is_dry = !command.starts_with("whimbrel run") || command.ends_with(" --dry-run");
                    assert!(is_dry || command.contains("--repair"), "{outcome}: {command}");
                }
            }
        }
    }

    #[test]
    fn what_was_asked_to_end_is_given_again_as_it_was() {
        for (command, text, wanted) in [
            ("check", "nothing was written", Some("whimbrel check a.yaml")),
            ("verify", "nothing was written", Some("whimbrel verify a.yaml")),
            ("stats", "nothing was written", Some("whimbrel stats a.yaml")),
            (
                "dry-run",
                "nothing was written",
                Some("whimbrel run a.yaml --dry-run"),
            ),
            (
                "repair",
                "what was healed stays",
                Some("whimbrel verify a.yaml --repair"),
            ),
            ("clear", "what was removed", Some("whimbrel clear a.yaml")),
            ("export", "what was written stays", None),
            ("import", "what was written stays", None),
        ] {
            let report = fixtures::bare(command, "cancelled");
            let steps = next_steps(&report, "a.yaml", "r-1");
            let [only] = steps.as_slice() else {
                panic!("{command}: {steps:?}");
            };
            assert!(only.text.starts_with(text), "{command}: {}", only.text);
            assert_eq!(only.command.as_deref(), wanted, "{command}");
        }
    }

    #[test]
    fn a_failed_export_is_given_again_and_not_resumed() {
        let mut report = fixtures::bare("export", "failed");
        report.errors = fixtures::failed().errors;
        let failed = failed_phases(&report);
        assert!(failed[0].then.contains("give the command again"), "{failed:?}");
        let steps = next_steps(&report, "a.yaml", "r-1");
        assert!(
            steps[0].text.ends_with("then give the command again"),
            "{steps:?}"
        );
        assert_eq!(steps[0].command, None);
    }

    #[test]
    fn a_repair_is_advised_only_where_it_would_do_something() {
        let mut report = fixtures::bare("verify", "differences");
        let mut result = VerificationResult::begun("a", "b", VerificationLevel::Comprehensive);
        let mismatch = |kind| Mismatch {
            kind,
            record: "id=1".to_owned(),
            fields: Vec::new(),
            values: Vec::new(),
        };
        result.mismatch_count = 1;
        report.summary.verification = vec![result];
        for (kind, is_advised, is_advised_if_kept) in [
            (MismatchKind::Missing, true, true),
            (MismatchKind::Different, true, false),
            (MismatchKind::Extra, true, false),
            (MismatchKind::Schema, false, false),
        ] {
            report.summary.verification[0].mismatches = vec![mismatch(kind)];
            for (keeps_stored, expected) in [
                (Vec::new(), is_advised),
                (vec!["b".to_owned()], is_advised_if_kept),
            ] {
                report.keeps_stored = keeps_stored;
                let steps = next_steps(&report, "a.yaml", "r-1");
                let repairs =
                    |step: &NextStep| step.command.as_deref().is_some_and(|it| it.contains("--repair"));
                assert_eq!(steps.iter().any(repairs), expected, "{kind:?} {steps:?}");
            }
        }
    }

    #[test]
    fn commands_can_be_pasted_into_a_shell() {
        assert_eq!(quoted("a/job-1.yaml"), "a/job-1.yaml");
        assert_eq!(quoted("it's; rm -rf /"), r"'it'\''s; rm -rf /'");
        assert_eq!(quoted(""), "''");
    }
}
