//! `whimbrel verify JOB --watch`: compares again and again, one line for each comparison, for systems that are in use.
//!
//! A comparison that could not be made is told and the next one is tried. With `--json` every line is an object, also one that was
//! refused. Neighbour: [`super`] makes each of them.

use std::time::{Duration, Instant};

use chrono::Utc;
use crossbeam_channel::{Receiver, RecvTimeoutError};
use serde::Serialize;
use whimbrel_plugin_api::{Error, ErrorKind};

use super::{Compared, VerifyArgs, compare};
use crate::cli::output::{print, print_line};
use crate::cli::remembered::moment;
use crate::cli::tasks::refuse;
use crate::cli::{Exit, Global};
use crate::config::render;
use crate::events::{CHANGED_SINCE, Comparison, VerificationResult};
use crate::report::figures::{count, counted, printable, seconds};
use crate::report::is_sure_to_be_equal;
use crate::supervisor::catch_signals;
use crate::workspace::VerificationFolder;

/// The command, in reports.
const TITLE: &str = "verify";

/// What one comparison has come to.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct Pass {
    /// From 1.
    number: u64,
    /// When it ended.
    at: String,
    /// `done`, `differences`, `unverified`, `failed` and so on.
    outcome: &'static str,
    /// Collections that are equal; one of which records were changed meanwhile, or could not be read, is not known to be.
    equal_count: u64,
    /// Collections of which records differ.
    different_count: u64,
    /// Records that differ.
    mismatch_count: u64,
    /// Records that were changed meanwhile.
    changed_since_count: u64,
    /// Records that were compared.
    compared_count: u64,
    /// How long it took.
    seconds: f64,
    /// Why it could not be made, or why it does not say that both sides are equal.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<Error>,
    /// Whether something was compared.
    #[serde(skip)]
    is_made: bool,
}

/// Compares until a signal ends it, or until both sides are equal.
pub(super) fn watch(global: &Global, args: &VerifyArgs) -> Exit {
    let global = &Global {
        json_lines: true,
        ..global.clone()
    };
    // Caught in between, too: while a comparison goes on its supervisor catches them as well.
    let (sender, signals) = crossbeam_channel::unbounded();
    let handle = match catch_signals(move |signal| sender.send(signal).is_ok()) {
        Ok(handle) => handle,
        Err(error) => return refuse(global, TITLE, None, &[error]),
    };
    let exit = passes(global, args, &signals);
    handle.close();
    exit
}

fn passes(global: &Global, args: &VerifyArgs, signals: &Receiver<i32>) -> Exit {
    // Only the newest one is kept: they may go on for months.
    let mut newest: Option<VerificationFolder> = None;
    for number in 1.. {
        let clock = Instant::now();
        let compared = match compare(global, args, TITLE, newest.as_ref()) {
            Ok(compared) => compared,
            // The job itself is wrong, or somebody else compares it; that has been said.
            Err(exit) if number == 1 || exit == Exit::Config => return exit,
            Err(_) => match wait(signals, args.interval) {
                Some(exit) => return exit,
                None => continue,
            },
        };
        let exit = compared.exit;
        newest = Some(compared.folder.clone());
        let pass = pass(number, &compared, clock.elapsed().as_secs_f64());
        if global.json {
            print_line(&serde_json::to_value(&pass).unwrap_or_default());
        } else {
            print(&line(&pass));
        }
        match exit {
            Exit::Signal(_) => return exit,
            Exit::Done if args.until_equal => return exit,
            _ if is_of_job(&pass) => return exit,
            _ => {}
        }
        if let Some(exit) = wait(signals, args.interval) {
            return exit;
        }
    }
    Exit::Done
}

/// Whether it was not made for what is wrong with the job, which does not mend itself. A system may be away for a while.
fn is_of_job(pass: &Pass) -> bool {
    let is_of_job = |error: &Error| error.kind == ErrorKind::Config;
    !pass.is_made && !pass.errors.is_empty() && pass.errors.iter().all(is_of_job)
}

/// Waits between two comparisons; the code if a signal came.
fn wait(signals: &Receiver<i32>, interval_secs: u64) -> Option<Exit> {
    match signals.recv_timeout(Duration::from_secs(interval_secs)) {
        Ok(signal) => Some(Exit::Signal(signal)),
        Err(RecvTimeoutError::Timeout) => None,
        Err(RecvTimeoutError::Disconnected) => Some(Exit::Failed),
    }
}

fn pass(number: u64, compared: &Compared, seconds: f64) -> Pass {
    let report = &compared.report;
    let results = &report.summary.verification;
    let sum = |of: fn(&VerificationResult) -> u64| results.iter().map(of).sum();
    let those =
        |is: fn(&VerificationResult) -> bool| results.iter().filter(|result| is(result)).count() as u64;
    Pass {
        number,
        at: moment(Utc::now()),
        outcome: report.outcome,
        equal_count: those(is_sure_to_be_equal),
        different_count: those(|result| result.comparison == Comparison::Different),
        mismatch_count: sum(|result| result.mismatch_count),
        changed_since_count: sum(|result| result.changed_since_count),
        compared_count: sum(|result| result.compared_count),
        seconds,
        errors: report
            .errors
            .iter()
            .map(|failure| failure.error.clone())
            .collect(),
        is_made: !results.is_empty() && !matches!(report.outcome, "failed" | "refused" | "crashed"),
    }
}

/// `2026-11-21 18:49:02 UTC: 3 collections equal, 1 different (12 differences), 2 records changed since; 1,000 records compared in 1.2 s`.
fn line(pass: &Pass) -> String {
    // That records were changed meanwhile is among the figures.
    let told = |error: &&Error| !pass.is_made || error.code != CHANGED_SINCE;
    let first = pass.errors.iter().find(told).map(|error| {
        let why = render(std::slice::from_ref(error));
        printable(why.lines().next().unwrap_or_default())
    });
    if !pass.is_made {
        let why = first.unwrap_or_else(|| pass.outcome.to_owned());
        return format!("{}: not compared: {why}\n", pass.at);
    }
    let mut text = format!("{}: {} equal", pass.at, counted(pass.equal_count, "collection"));
    if pass.different_count > 0 {
        text.push_str(&format!(
            ", {} different ({})",
            count(pass.different_count),
            counted(pass.mismatch_count, "difference")
        ));
    }
    if pass.changed_since_count > 0 {
        let changed = counted(pass.changed_since_count, "record");
        text.push_str(&format!(", {changed} changed since"));
    }
    text.push_str(&format!(
        "; {} compared in {}",
        counted(pass.compared_count, "record"),
        seconds(pass.seconds)
    ));
    if let Some(why) = first {
        text.push_str(&format!("; {why}"));
    }
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::VerificationLevel;
    use crate::report::fixtures;
    use crate::workspace::Workspace;

    fn told(outcome: &'static str, results: &[(Comparison, u64, u64)], errors: &[Error]) -> (Pass, String) {
        let folder = tempfile::tempdir().unwrap();
        let workspace = Workspace::of_job(&folder.path().join("job.yaml"), None);
        let mut report = fixtures::bare("verify", outcome);
        report.errors = errors.iter().cloned().map(Into::into).collect();
        let begun = VerificationResult::begun("a", "b", VerificationLevel::Standard);
        let result =
            |(comparison, mismatch_count, changed_since_count): &(Comparison, u64, u64)| VerificationResult {
                comparison: *comparison,
                mismatch_count: *mismatch_count,
                changed_since_count: *changed_since_count,
                compared_count: 1_000,
                ..begun.clone()
            };
        report.summary.verification = results.iter().map(result).collect();
        let compared = Compared {
            report,
            exit: Exit::Done,
            folder: workspace.create_verification("v-1").unwrap(),
        };
        let mut pass = pass(1, &compared, 1.25);
        pass.at = "T".to_owned();
        let text = line(&pass);
        (pass, text)
    }

    #[test]
    fn a_comparison_with_records_that_changed_meanwhile_tells_its_figures() {
        let changed = Error::new(
            ErrorKind::Integrity,
            CHANGED_SINCE,
            "3 records of `a` were changed",
        );
        let results = [(Comparison::Equal, 0, 3), (Comparison::Equal, 0, 0)];
        let (pass, text) = told("unverified", &results, &[changed]);
        assert_eq!(
            text,
            "T: 1 collection equal, 3 records changed since; 2,000 records compared in 1.25 s\n"
        );
        assert_eq!((pass.equal_count, pass.compared_count), (1, 2_000));
        let results = [(Comparison::Different, 12, 0), (Comparison::Equal, 0, 0)];
        assert_eq!(
            told("differences", &results, &[]).1,
            "T: 1 collection equal, 1 different (12 differences); 2,000 records compared in 1.25 s\n"
        );
    }

    #[test]
    fn what_went_wrong_besides_stands_after_the_figures() {
        let lost = Error::config("workspace.unwritable", "the report cannot be kept");
        let (pass, text) = told("done", &[(Comparison::Equal, 0, 0)], &[lost]);
        assert_eq!(
            text,
            "T: 1 collection equal; 1,000 records compared in 1.25 s; the report cannot be kept\n"
        );
        assert!(!is_of_job(&pass), "it was made");
    }

    #[test]
    fn only_what_was_not_compared_is_said_not_to_be() {
        let away = Error::new(ErrorKind::Unavailable, "x.y", "the source is away");
        let wrong = Error::config("x.y", "the table is not there");
        for (outcome, results, error, wanted) in [
            (
                "unverified",
                0,
                Some(&away),
                "T: not compared: the source is away\n",
            ),
            ("failed", 1, Some(&away), "T: not compared: the source is away\n"),
            (
                "refused",
                0,
                Some(&wrong),
                "T: not compared: the table is not there\n",
            ),
            ("cancelled", 0, None, "T: not compared: cancelled\n"),
        ] {
            let results = vec![(Comparison::Equal, 0, 0); results];
            let errors: Vec<Error> = error.into_iter().cloned().collect();
            let (pass, text) = told(outcome, &results, &errors);
            assert_eq!(text, wanted);
            assert_eq!(is_of_job(&pass), outcome == "refused");
        }
    }
}
