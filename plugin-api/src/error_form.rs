//! An error as a message: what crosses the boundary and what JSON shows.
//!
//! It always has the severity, for those who read it without the rule that [`crate::error`] has. `ABI.md` specifies it.

use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind, ErrorScope, ErrorSeverity};

/// The form in which an error crosses the boundary and is kept: with its severity, for those who read it without the rule.
#[derive(Serialize, Deserialize)]
pub(crate) struct ErrorForm {
    kind: ErrorKind,
    code: String,
    message: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    help: Option<String>,
    #[serde(default)]
    scope: ErrorScope,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    severity: Option<ErrorSeverity>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    retry_after_ms: Option<u64>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pauses: bool,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    rows: Vec<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    place: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    causes: Vec<String>,
}

impl From<Error> for ErrorForm {
    fn from(error: Error) -> Self {
        Self {
            severity: Some(error.severity()),
            kind: error.kind,
            code: error.code,
            message: error.message,
            help: error.help,
            scope: error.scope,
            retry_after_ms: error.retry_after_ms,
            pauses: error.pauses,
            rows: error.rows,
            place: error.place,
            causes: error.causes,
        }
    }
}

impl From<ErrorForm> for Error {
    fn from(form: ErrorForm) -> Self {
        let by_rule = ErrorSeverity::of(form.kind, form.pauses);
        Self {
            kind: form.kind,
            code: form.code,
            message: form.message,
            help: form.help,
            scope: form.scope,
            retry_after_ms: form.retry_after_ms,
            pauses: form.pauses,
            rows: form.rows,
            place: form.place,
            causes: form.causes,
            own_severity: form.severity.filter(|severity| *severity != by_rule),
        }
    }
}
