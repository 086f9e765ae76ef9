//! `whimbrel verify JOB --watch`: compares again and again, one line for each comparison, for systems that are in use.
//!
//! A comparison that could not be made is told and the next one is tried. Neighbour: [`super`] makes each of them.

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
use crate::events::{Comparison, VerificationResult};
use crate::report::figures::{count, counted, printable, seconds};
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
    /// Collections that are equal.
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
    /// Why it could not be made.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<Error>,
}

/// Compares until a signal ends it, or until both sides are equal.
pub(super) fn watch(global: &Global, args: &VerifyArgs) -> Exit {
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
    !pass.errors.is_empty() && pass.errors.iter().all(|error| error.kind == ErrorKind::Config)
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
    let results = &compared.report.summary.verification;
    let sum = |of: fn(&VerificationResult) -> u64| results.iter().map(of).sum();
    let is = |wanted: Comparison| {
        results
            .iter()
            .filter(|result| result.comparison == wanted)
            .count() as u64
    };
    Pass {
        number,
        at: moment(Utc::now()),
        outcome: compared.report.outcome,
        equal_count: is(Comparison::Equal),
        different_count: is(Comparison::Different),
        mismatch_count: sum(|result| result.mismatch_count),
        changed_since_count: sum(|result| result.changed_since_count),
        compared_count: sum(|result| result.compared_count),
        seconds,
        errors: compared
            .report
            .errors
            .iter()
            .map(|failure| failure.error.clone())
            .collect(),
    }
}

/// `2026-11-21 18:49:02 UTC: 3 collections equal, 1 different (12 records), 2 records changed since; 1,000 records compared in 1.2 s`.
fn line(pass: &Pass) -> String {
    if !pass.errors.is_empty() {
        let why = render(&pass.errors);
        let first = why.lines().next().unwrap_or(pass.outcome);
        return format!("{}: not compared: {}\n", pass.at, printable(first));
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
        "; {} compared in {}\n",
        counted(pass.compared_count, "record"),
        seconds(pass.seconds)
    ));
    text
}
