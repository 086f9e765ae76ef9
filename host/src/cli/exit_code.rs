//! The exit codes, and the one place that picks them.
//! Not here: the outcomes themselves (`events`) and their wording (`report`).

use std::process::ExitCode;

use whimbrel_plugin_api::ErrorKind;

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
    /// 3: the environment is at fault: a system that cannot be reached, a right that is missing.
    Environment,
    /// 4: verification found differences.
    Differences,
    /// 5: verification could not be made.
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

    /// The code for a task's end.
    pub fn of(supervised: &Supervised) -> Self {
        match (&supervised.ended, supervised.signal) {
            (Ended::Outcome(outcome), signal) => match (&**outcome, signal) {
                (Outcome::Done { .. }, _) => Self::Done,
                (Outcome::Differences { .. }, _) => Self::Differences,
                (Outcome::Cancelled { .. }, Some(signal)) => Self::Signal(signal),
                (Outcome::Cancelled { .. }, None) => Self::Failed,
                (Outcome::Unverified { .. }, _) => Self::Unverified,
                (Outcome::Refused { .. }, _) => Self::Config,
                (Outcome::Failed { failure, .. }, _) => Self::of_failure(failure),
            },
            (Ended::Config(_), _) => Self::Config,
            (Ended::Lost(_), Some(signal)) => Self::Signal(signal),
            (Ended::Lost(_), None) => Self::Failed,
        }
    }

    fn of_failure(failure: &Failure) -> Self {
        if failure.error.code == "run.fenced" {
            return Self::Fenced;
        }
        match failure.error.kind {
            ErrorKind::Config => Self::Config,
            ErrorKind::Unauthenticated | ErrorKind::Permission | ErrorKind::Unavailable => Self::Environment,
            _ => Self::Failed,
        }
    }
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
    use whimbrel_plugin_api::Error;

    fn exit(outcome: Outcome) -> u8 {
        Exit::of(&Supervised {
            ended: Ended::Outcome(Box::new(outcome)),
            signal: None,
        })
        .number()
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
        assert_eq!(exit(failed(ErrorKind::Permission, "a.b")), 3);
        assert_eq!(exit(Outcome::Differences { summary: summary() }), 4);
        assert_eq!(exit(failed(ErrorKind::Integrity, "run.fenced")), 7);
        assert_eq!(Exit::Signal(15).number(), 143);
    }
}
