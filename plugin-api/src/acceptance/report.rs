//! How a suite runs its checks and what comes out: one named [`Outcome`] each.
//!
//! Every check runs on a thread of its own with a deadline, so that a plugin that hangs fails its check instead of
//! stopping the tests. The thread of a check that hangs is left behind.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use crate::error::Error;

/// How long one check may take.
const CHECK_TIMEOUT: Duration = Duration::from_secs(120);

/// How a check ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The plugin keeps this part of the contract.
    Pass,
    /// The plugin does not offer what is checked: a documented lack.
    Skip(String),
    /// The plugin breaks the contract.
    Fail(String),
}

/// One check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// Its stable name, such as `resume_continues_after_each_batch`.
    pub name: String,
    /// How it ended.
    pub outcome: Outcome,
}

/// What a suite found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// The checks, in the order in which they ran.
    pub checks: Vec<Check>,
}

impl Report {
    /// Panics with the whole report if any check failed.
    ///
    /// # Panics
    /// If a check failed.
    #[track_caller]
    pub fn assert(&self) {
        assert!(self.failed().is_empty(), "the plugin breaks its contract\n{self}");
    }

    /// Names of the checks that failed.
    pub fn failed(&self) -> Vec<&str> {
        self.names(|outcome| matches!(outcome, Outcome::Fail(_)))
    }

    /// Names of the checks that were skipped.
    pub fn skipped(&self) -> Vec<&str> {
        self.names(|outcome| matches!(outcome, Outcome::Skip(_)))
    }

    /// How the check called `name` ended.
    pub fn outcome(&self, name: &str) -> Option<&Outcome> {
        self.checks
            .iter()
            .find(|check| check.name == name)
            .map(|check| &check.outcome)
    }

    fn names(&self, wanted: impl Fn(&Outcome) -> bool) -> Vec<&str> {
        self.checks
            .iter()
            .filter(|check| wanted(&check.outcome))
            .map(|check| check.name.as_str())
            .collect()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for check in &self.checks {
            match &check.outcome {
                Outcome::Pass => writeln!(f, "pass  {}", check.name)?,
                Outcome::Skip(reason) => writeln!(f, "skip  {}: {reason}", check.name)?,
                Outcome::Fail(reason) => writeln!(f, "FAIL  {}: {reason}", check.name)?,
            }
        }
        Ok(())
    }
}

/// Why a check did not pass.
#[derive(Debug)]
pub(crate) enum Stop {
    /// The plugin lacks it.
    Skip(String),
    /// The plugin breaks it.
    Fail(String),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        let place = error
            .place
            .as_deref()
            .map(|place| format!(" at {place}"))
            .unwrap_or_default();
        let causes: String = error
            .causes
            .iter()
            .map(|cause| format!(", since {cause}"))
            .collect();
        Self::Fail(format!("{error} ({}{place}){causes}", error.code))
    }
}

/// The outcome of a check's body.
pub(crate) type Checked<T = ()> = Result<T, Stop>;

/// Ends a check as failed.
pub(crate) fn fail<T>(reason: impl Into<String>) -> Checked<T> {
    Err(Stop::Fail(reason.into()))
}

/// Ends a check as skipped.
pub(crate) fn skip<T>(reason: impl Into<String>) -> Checked<T> {
    Err(Stop::Skip(reason.into()))
}

/// Fails with `reason` unless `truth`.
pub(crate) fn ensure(truth: bool, reason: impl FnOnce() -> String) -> Checked {
    if truth { Ok(()) } else { fail(reason()) }
}

/// Skips unless `capability` is declared.
pub(crate) fn needs(capability: bool, name: &str) -> Checked {
    if capability {
        Ok(())
    } else {
        skip(format!("the plugin does not declare `{name}`"))
    }
}

impl Report {
    /// Runs one check and keeps its outcome.
    pub(crate) fn run(&mut self, name: impl Into<String>, body: impl FnOnce() -> Checked + Send + 'static) {
        let name = name.into();
        let (done, outcome) = channel();
        let started = std::thread::Builder::new().name(name.clone()).spawn(move || {
            let checked = catch_unwind(AssertUnwindSafe(body));
            // Nobody listens once the deadline has passed.
            drop(done.send(checked));
        });
        let outcome = match started {
            Err(error) => Outcome::Fail(format!("no thread could be started: {error}")),
            Ok(_) => match outcome.recv_timeout(CHECK_TIMEOUT) {
                Ok(Ok(Ok(()))) => Outcome::Pass,
                Ok(Ok(Err(Stop::Skip(reason)))) => Outcome::Skip(reason),
                Ok(Ok(Err(Stop::Fail(reason)))) => Outcome::Fail(reason),
                Ok(Err(_)) => Outcome::Fail("the check itself panicked".to_owned()),
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                    Outcome::Fail(format!("no end within {} s", CHECK_TIMEOUT.as_secs()))
                }
            },
        };
        self.checks.push(Check { name, outcome });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_way_to_end_is_told_apart() {
        let mut report = Report::default();
        report.run("a", || Ok(()));
        report.run("b", || needs(false, "resume"));
        report.run("c", || ensure(1 > 2, || "one is not more than two".to_owned()));
        report.run("d", || Err(Error::unsupported("x").into()));
        assert_eq!(report.skipped(), ["b"]);
        assert_eq!(report.failed(), ["c", "d"]);
        let text = report.to_string();
        assert!(
            text.starts_with("pass  a\nskip  b: the plugin does not declare `resume`\nFAIL  c: one"),
            "{text}"
        );
    }
}
