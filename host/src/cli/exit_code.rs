//! The exit codes, and the one place that picks them.
//! Not here: the outcomes themselves (`events`) and their wording (`report`).

use std::process::ExitCode;

use whimbrel_plugin_api::{Error, ErrorKind};

use crate::events::{Failure, Outcome};
use crate::supervisor::{Ended, Supervised};

/// How the program ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// 0: done, and what was compared is equal.
    Done,
    /// 1: failed.
    Failed,
    /// 2: the job or the arguments are wrong, or the plan is refused; nothing was written.
    Config,
    /// 3: the environment is at fault: a system that cannot be reached, does not answer or asks to come later, a right that is
    /// missing.
    Environment,
    /// 4: verification found differences: of records or schema, records of the sink that have lost what they point to, broken
    /// rules.
    Differences,
    /// 5: verification could not be made, or nothing is known to differ but some records changed meanwhile, so that it cannot be
    /// said whether they are equal.
    Unverified,
    /// 7: another run has taken over.
    Fenced,
    /// 128 + n: ended by signal n.
    Signal(i32),
}

impl Exit {
    /// Its number.
    pub fn number(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Config => 2,
            Self::Environment => 3,
            Self::Differences => 4,
            Self::Unverified => 5,
            Self::Fenced => 7,
            Self::Signal(signal) => u8::try_from(128 + signal).unwrap_or(u8::MAX),
        }
    }

    /// The one with this number, as a run that has ended left it.
    pub fn of_number(number: u8) -> Self {
        let known = [
            Self::Done,
            Self::Config,
            Self::Environment,
            Self::Differences,
            Self::Unverified,
            Self::Fenced,
        ];
        match number {
            129.. => Self::Signal(i32::from(number) - 128),
            _ => known
                .into_iter()
                .find(|exit| exit.number() == number)
                .unwrap_or(Self::Failed),
        }
    }

    /// The code for a task that was not begun because of `faults`.
    pub fn of_refusal(faults: &[Error]) -> Self {
        let is_of_daemon = |fault: &Error| fault.code.starts_with("schedule.");
        // A daemon that takes its time was asked; nothing is wrong with what it was asked for.
        if let [fault] = faults
            && is_of_daemon(fault)
            && fault.kind == ErrorKind::Timeout
        {
            return Self::Failed;
        }
        let is_of_environment = |fault: &Error| {
            fault.code == "host.worker_start"
                || fault.code == "run.already_running"
                || fault.code == "verification.already_running"
                || fault.code.starts_with("state.")
                || fault.code.starts_with("workspace.")
                || is_of_daemon(fault)
                    && matches!(
                        fault.kind,
                        ErrorKind::Unavailable | ErrorKind::Permission | ErrorKind::Exists
                    )
        };
        if !faults.is_empty() && faults.iter().all(is_of_environment) {
            Self::Environment
        } else {
            Self::Config
        }
    }

    /// The code for a task's end.
    pub fn of(supervised: &Supervised) -> Self {
        if let Some(trouble) = &supervised.trouble {
            return match trouble.code.as_str() {
                "run.fenced" => Self::Fenced,
                _ => Self::of_failure(&trouble.clone().into()).or_environment(),
            };
        }
        match (&supervised.ended, supervised.signal) {
            (Ended::Outcome(outcome), signal) => match (&**outcome, signal) {
                (Outcome::Done { .. }, _) => Self::Done,
                (Outcome::Differences { .. }, _) => Self::Differences,
                (Outcome::Cancelled { .. }, Some(signal)) => Self::Signal(signal),
                (Outcome::Cancelled { .. }, None) => Self::Failed,
                (Outcome::Unverified { .. }, _) => Self::Unverified,
                (Outcome::Refused { failures, .. }, _) => Self::of_blockers(failures),
                (Outcome::Failed { failure, .. }, _) => Self::of_failure(failure),
            },
            (Ended::Config(_), _) => Self::Config,
            (Ended::Lost(_), Some(signal)) => Self::Signal(signal),
            (Ended::Lost(_), None) => Self::Failed,
        }
    }

    /// A plan is refused for what is wrong with it, or for the state of the systems alone.
    fn of_blockers(failures: &[Failure]) -> Self {
        let is_of_environment = |failure: &Failure| Self::of_failure(failure) == Self::Environment;
        if !failures.is_empty() && failures.iter().all(is_of_environment) {
            Self::Environment
        } else {
            Self::Config
        }
    }

    /// What keeps the host from taking note of a run is the environment's fault, unless it says more.
    fn or_environment(self) -> Self {
        match self {
            Self::Failed => Self::Environment,
            other => other,
        }
    }

    fn of_failure(failure: &Failure) -> Self {
        if failure.error.code == "run.fenced" {
            return Self::Fenced;
        }
        // Whatever keeps a run from going on with a copy: nothing was written, and somebody has to decide.
        // Not so if that is one collection alone, while others were copied.
        if failure.error.code.starts_with("resume.") && failure.error.code != "resume.snapshot_ended" {
            return Self::Config;
        }
        match failure.error.kind {
            ErrorKind::Config => Self::Config,
            ErrorKind::Unauthenticated | ErrorKind::Permission | ErrorKind::Unavailable => Self::Environment,
            ErrorKind::Timeout | ErrorKind::RateLimited if !is_of_host(&failure.error.code) => {
                Self::Environment
            }
            _ => Self::Failed,
        }
    }
}

/// Whether whimbrel itself has given up a call, which says more of the plugin than of its system.
fn is_of_host(code: &str) -> bool {
    code.starts_with("plugin.") || code.starts_with("run.")
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        exit.number().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::RunSummary;

    fn exit(outcome: Outcome) -> u8 {
        Exit::of(&Supervised {
            ended: Ended::Outcome(Box::new(outcome)),
            signal: None,
            trouble: None,
        })
        .number()
    }

    #[test]
    fn a_daemon_that_takes_its_time_has_failed_and_one_that_is_out_of_reach_is_the_environment() {
        let refused = |kind, code: &str| Exit::of_refusal(&[Error::new(kind, code, "x")]).number();
        for code in [
            "schedule.still_ending",
            "schedule.no_answer",
            "schedule.not_started",
        ] {
            assert_eq!(refused(ErrorKind::Timeout, code), 1, "{code}");
        }
        assert_eq!(refused(ErrorKind::Unavailable, "schedule.not_started"), 3);
        assert_eq!(refused(ErrorKind::Permission, "schedule.not_signalled"), 3);
        assert_eq!(refused(ErrorKind::Exists, "schedule.daemon_running"), 3);
        assert_eq!(refused(ErrorKind::NotFound, "schedule.no_daemon"), 2);
        assert_eq!(refused(ErrorKind::Config, "schedule.moved"), 2);
        assert_eq!(refused(ErrorKind::Exists, "config.duplicate"), 2);
    }

    #[test]
    fn each_outcome_has_the_documented_code() {
        let summary = RunSummary::default;
        let failed = |kind, code: &str| Outcome::Failed {
            summary: summary(),
            failure: Error::new(kind, code, "x").into(),
        };
        assert_eq!(exit(Outcome::Done { summary: summary() }), 0);
        assert_eq!(exit(failed(ErrorKind::Internal, "plugin.panic")), 1);
        assert_eq!(exit(failed(ErrorKind::Config, "a.b")), 2);
        assert_eq!(
            exit(Outcome::Refused {
                summary: summary(),
                failures: vec![]
            }),
            2
        );
        for kind in [
            ErrorKind::Permission,
            ErrorKind::Unavailable,
            ErrorKind::Timeout,
            ErrorKind::RateLimited,
        ] {
            assert_eq!(exit(failed(kind, "a.b")), 3);
        }
        assert_eq!(exit(failed(ErrorKind::Timeout, "plugin.hang")), 1);
        assert_eq!(exit(failed(ErrorKind::Timeout, "run.transaction_timeout")), 1);
        assert_eq!(exit(Outcome::Differences { summary: summary() }), 4);
        let unsure = Error::new(ErrorKind::Integrity, crate::events::CHANGED_SINCE, "x");
        assert_eq!(
            exit(Outcome::Unverified {
                summary: summary(),
                failure: unsure.into()
            }),
            5
        );
        assert_eq!(exit(failed(ErrorKind::Integrity, "run.fenced")), 7);
        assert_eq!(exit(failed(ErrorKind::Integrity, "resume.damaged")), 2);
        assert_eq!(Exit::Signal(15).number(), 143);
        for number in [0, 1, 2, 3, 4, 5, 7, 130, 143] {
            assert_eq!(Exit::of_number(number).number(), number);
        }
        assert_eq!(Exit::of_number(99), Exit::Failed);
    }
}
