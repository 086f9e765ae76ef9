//! What the database answers, as errors of the plugin API.
//!
//! Two ways out: [`RowFault`] for what concerns one record and leaves the transaction as it was, [`error`] for the rest.
//! The database's own texts name columns and never values, but a trigger may say anything, so they are kept as causes
//! only where the code shows that no trigger spoke.

use rusqlite::ErrorCode;
use rusqlite::ffi;
use whimbrel_plugin_api::{Error, ErrorKind, ErrorScope};

/// Why one record was not stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RowFault {
    pub(crate) code: String,
    pub(crate) message: String,
}

impl RowFault {
    pub(crate) fn new(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            code: code.into(),
            message: message.into(),
        }
    }

    /// The fault of one record, if that is what the error is.
    pub(crate) fn of(error: &rusqlite::Error) -> Option<Self> {
        let rusqlite::Error::SqliteFailure(code, text) = error else {
            return None;
        };
        // "NOT NULL constraint failed: todos.title": what stands behind the colon names table and column.
        let place = text
            .as_deref()
            .and_then(|text| text.split_once(": "))
            .map_or(String::new(), |(_, place)| format!(" (`{place}`)"));
        let (code, message) = match (code.code, code.extended_code) {
            (_, ffi::SQLITE_CONSTRAINT_PRIMARYKEY | ffi::SQLITE_CONSTRAINT_ROWID) => (
                "turso.exists",
                "a record with this key is there already".to_owned(),
            ),
            (_, ffi::SQLITE_CONSTRAINT_UNIQUE) => (
                "turso.unique",
                format!("another record has the same value where values must be unique{place}"),
            ),
            (_, ffi::SQLITE_CONSTRAINT_NOTNULL) => {
                ("turso.null_in_required", format!("a column takes no null{place}"))
            }
            (_, ffi::SQLITE_CONSTRAINT_CHECK) => (
                "turso.check_failed",
                "a check of the table refuses the record".to_owned(),
            ),
            (_, ffi::SQLITE_CONSTRAINT_TRIGGER) => (
                "turso.trigger_refused",
                "a trigger of the table refuses the record".to_owned(),
            ),
            (ErrorCode::ConstraintViolation, _) => (
                "turso.constraint",
                "a constraint of the table refuses the record".to_owned(),
            ),
            (ErrorCode::TypeMismatch, _) => (
                "turso.wrong_type",
                "a column does not take values of this type".to_owned(),
            ),
            (ErrorCode::TooBig, _) => (
                "turso.too_large",
                "the record is larger than the database can hold".to_owned(),
            ),
            _ => return None,
        };
        Some(Self::new(code, message))
    }
}

/// The error of a call on the database as a whole; `doing` completes "could not ..".
pub(crate) fn error(error: &rusqlite::Error, doing: &str) -> Error {
    let rusqlite::Error::SqliteFailure(code, _) = error else {
        return Error::new(ErrorKind::Internal, "turso.client", format!("could not {doing}"))
            .with_cause(error);
    };
    let make = |kind, code, what: &str| Error::new(kind, code, format!("could not {doing}: {what}"));
    let made = match code.code {
        ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked => make(
            ErrorKind::Unavailable,
            "turso.busy",
            "another process holds the database",
        )
        .with_help("let the other process end, or raise `busy_timeout_ms`"),
        ErrorCode::DiskFull => make(
            ErrorKind::Unavailable,
            "turso.disk_full",
            "there is no room left on the disk",
        )
        .with_help("make room, then the run goes on")
        .with_pause(),
        ErrorCode::ReadOnly | ErrorCode::PermissionDenied | ErrorCode::AuthorizationForStatementDenied => {
            make(
                ErrorKind::Permission,
                "turso.read_only",
                "the database may not be written",
            )
        }
        ErrorCode::CannotOpen => make(
            ErrorKind::NotFound,
            "turso.cannot_open",
            "the file cannot be opened",
        ),
        ErrorCode::NotADatabase => make(
            ErrorKind::InvalidData,
            "turso.not_a_database",
            "the file is no database",
        ),
        ErrorCode::DatabaseCorrupt => make(
            ErrorKind::Integrity,
            "turso.corrupt",
            "the database file is damaged",
        ),
        ErrorCode::SystemIoFailure => make(
            ErrorKind::Unavailable,
            "turso.io",
            "the file cannot be read or written",
        ),
        ErrorCode::OperationInterrupted => Error::cancelled(),
        ErrorCode::SchemaChanged => make(
            ErrorKind::Integrity,
            "turso.schema_changed",
            "a table was changed meanwhile",
        ),
        _ => make(
            ErrorKind::Internal,
            "turso.client",
            "the database refuses the statement",
        )
        .with_cause(error),
    };
    made.with_scope(ErrorScope::Session)
}

/// Adds what was being done to an error of the database.
pub(crate) trait Doing<T> {
    /// `doing` completes "could not ..".
    fn doing(self, doing: &str) -> whimbrel_plugin_api::Result<T>;
}

impl<T> Doing<T> for rusqlite::Result<T> {
    fn doing(self, doing: &str) -> whimbrel_plugin_api::Result<T> {
        self.map_err(|cause| error(&cause, doing))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(code: i32, text: &str) -> rusqlite::Error {
        rusqlite::Error::SqliteFailure(ffi::Error::new(code), Some(text.to_owned()))
    }

    #[test]
    fn only_faults_of_a_record_are_faults_of_a_record() {
        let fault = RowFault::of(&failure(
            ffi::SQLITE_CONSTRAINT_NOTNULL,
            "NOT NULL constraint failed: t.a",
        ))
        .unwrap();
        assert_eq!(
            fault,
            RowFault::new("turso.null_in_required", "a column takes no null (`t.a`)")
        );
        let trigger = RowFault::of(&failure(ffi::SQLITE_CONSTRAINT_TRIGGER, "refused: secret")).unwrap();
        assert!(!trigger.message.contains("secret"));
        for code in [
            ffi::SQLITE_BUSY,
            ffi::SQLITE_FULL,
            ffi::SQLITE_IOERR,
            ffi::SQLITE_CORRUPT,
        ] {
            assert_eq!(RowFault::of(&failure(code, "")), None);
        }
    }

    #[test]
    fn what_may_pass_is_told_from_what_stays() {
        assert!(error(&failure(ffi::SQLITE_BUSY, ""), "begin").kind.is_transient());
        let full = error(&failure(ffi::SQLITE_FULL, ""), "begin");
        assert!(full.kind.is_transient() && full.pauses);
        assert!(
            !error(&failure(ffi::SQLITE_CORRUPT, ""), "begin")
                .kind
                .is_transient()
        );
    }
}
