//! What can go wrong on the way to a server and there, and what may be done about it.
//!
//! [`Failure`] is of a whole request, [`sql_error`] of one statement. The server's texts name columns and never values, but a
//! trigger may say anything, so a text is believed only as far as it names a column of the table in question.

use rusqlite::ffi;
use whimbrel_plugin_api::{Error, ErrorKind, ErrorScope};

use super::hrana::SqlError;
use crate::database::TOO_LARGE;
use crate::error::RowFault;
use crate::write_plan::WritePlan;

/// Octets of an error page that are looked at.
const PAGE_BYTES_MAX: usize = 2_048;

/// A request that failed.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) error: Error,
    /// Whether the server may have carried the request out.
    pub(super) may_be_done: bool,
}

impl Failure {
    /// Nothing has reached the server, or the server has refused all of it.
    pub(super) fn before(error: Error) -> Self {
        Self {
            error,
            may_be_done: false,
        }
    }

    /// The answer is missing.
    pub(super) fn unknown(error: Error) -> Self {
        Self {
            error,
            may_be_done: true,
        }
    }

    /// What an HTTP status means.
    pub(super) fn of_status(server: &str, status: u16, page: &[u8], retry_after_ms: Option<u64>) -> Self {
        let page = String::from_utf8_lossy(&page[..page.len().min(PAGE_BYTES_MAX)]).to_ascii_lowercase();
        let make = |kind, code, what: &str| Error::new(kind, code, format!("the server `{server}` {what}"));
        let mut error = match status {
            401 if page.contains("expired") => make(
                ErrorKind::Unauthenticated,
                "turso.token_expired",
                "says that the token has expired",
            )
            .with_help("get a new token and put it into `auth_token`"),
            401 => make(
                ErrorKind::Unauthenticated,
                "turso.unauthenticated",
                "does not accept the token, or misses one",
            )
            .with_help("put a valid token into `auth_token`"),
            403 => make(
                ErrorKind::Permission,
                "turso.forbidden",
                "does not allow this with the token",
            )
            .with_help("use a token with the right to write"),
            404 => make(
                ErrorKind::NotFound,
                "turso.no_database",
                "has no such database, or does not speak our protocol",
            )
            .with_help("correct `url`; the server must speak Hrana 3 with Protobuf over HTTP"),
            400 if page.contains("baton") || page.contains("stream") => make(
                ErrorKind::Unavailable,
                "turso.stream_lost",
                "has forgotten the transaction",
            ),
            408 | 504 => make(ErrorKind::Timeout, "turso.timeout", "gave up waiting"),
            429 => make(ErrorKind::RateLimited, "turso.rate_limited", "asks to slow down"),
            500.. => make(
                ErrorKind::Unavailable,
                "turso.server_error",
                &format!("failed with status {status}"),
            ),
            _ => make(
                ErrorKind::Unsupported,
                "turso.not_libsql",
                &format!("does not answer as a libSQL server does (status {status})"),
            )
            .with_help("correct `url`; the server must speak Hrana 3 with Protobuf over HTTP"),
        };
        error.retry_after_ms = retry_after_ms;
        Self {
            error,
            may_be_done: status >= 500 || status == 408,
        }
    }

    /// An answer that is none.
    pub(super) fn unreadable(server: &str) -> Self {
        let message = format!("the answer of the server `{server}` is not that of a libSQL server");
        Self::unknown(
            Error::new(ErrorKind::Unsupported, "turso.not_libsql", message)
                .with_help("correct `url`; the server must speak Hrana 3 with Protobuf over HTTP"),
        )
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        failure.error
    }
}

/// The error of a statement; `doing` completes "could not ..".
pub(super) fn sql_error(error: &SqlError, doing: &str) -> Error {
    let make = |kind, code, what: &str| Error::new(kind, code, format!("could not {doing}: {what}"));
    match error.code.as_deref().unwrap_or_default() {
        "TRANSACTION_TIMEOUT" | "TRANSACTION_BUSY" | "STREAM_EXPIRED" => make(
            ErrorKind::Unavailable,
            "turso.transaction_lost",
            "the server has taken the transaction away",
        ),
        "RESPONSE_TOO_LARGE" => make(
            ErrorKind::InvalidData,
            TOO_LARGE,
            "the answer is larger than the server allows",
        ),
        "BLOCKED" => make(ErrorKind::Permission, "turso.blocked", "the database is blocked")
            .with_help("look at the database's plan and quotas"),
        code => match sqlite_code(code) {
            Some(number) => {
                let failure = rusqlite::Error::SqliteFailure(ffi::Error::new(number), None);
                crate::error::error(&failure, doing)
            }
            // The texts of these name parts of the statement, which has no values in it.
            None => make(
                ErrorKind::Internal,
                "turso.client",
                "the server refuses the statement",
            )
            .with_cause(&std::io::Error::other(error.message.clone())),
        },
    }
    .with_scope(ErrorScope::Session)
}

/// Whether a constraint has refused the statement.
pub(super) fn is_constraint(error: &SqlError) -> bool {
    let number = error.code.as_deref().and_then(sqlite_code);
    number.is_some_and(|number| number & 0xff == ffi::SQLITE_CONSTRAINT)
}

/// The fault of one record, if that is what the error is.
pub(super) fn row_fault(error: &SqlError, plan: &WritePlan) -> Option<RowFault> {
    let code = error.code.as_deref()?;
    if code == "ARGS_INVALID" && error.message.ends_with("string or blob too big") {
        return RowFault::of(&rusqlite::Error::SqliteFailure(
            ffi::Error::new(ffi::SQLITE_TOOBIG),
            None,
        ));
    }
    let mut number = sqlite_code(code)?;
    let text = error
        .message
        .strip_prefix("SQLite error: ")
        .unwrap_or(&error.message);
    let mut place = None;
    if number & 0xff == ffi::SQLITE_CONSTRAINT {
        // The server tells the kind of constraint in the text only.
        if let Some(columns) = text.strip_prefix("UNIQUE constraint failed: ") {
            number = match plan.is_key(columns) {
                true => ffi::SQLITE_CONSTRAINT_PRIMARYKEY,
                false => ffi::SQLITE_CONSTRAINT_UNIQUE,
            };
            place = Some(columns);
        } else if let Some(columns) = text.strip_prefix("NOT NULL constraint failed: ") {
            number = ffi::SQLITE_CONSTRAINT_NOTNULL;
            place = Some(columns);
        } else if text.starts_with("CHECK constraint failed") {
            number = ffi::SQLITE_CONSTRAINT_CHECK;
        } else if plan.has_triggers && number == ffi::SQLITE_CONSTRAINT {
            number = ffi::SQLITE_CONSTRAINT_TRIGGER;
        }
    }
    let named = place.filter(|place| plan.names_columns(place));
    let text = named.map(|place| format!("constraint failed: {place}"));
    RowFault::of(&rusqlite::Error::SqliteFailure(ffi::Error::new(number), text))
}

/// The number of a code such as `SQLITE_BUSY`.
fn sqlite_code(code: &str) -> Option<i32> {
    const CODES: [(&str, i32); 17] = [
        ("SQLITE_CONSTRAINT_PRIMARYKEY", ffi::SQLITE_CONSTRAINT_PRIMARYKEY),
        ("SQLITE_CONSTRAINT_ROWID", ffi::SQLITE_CONSTRAINT_ROWID),
        ("SQLITE_CONSTRAINT_UNIQUE", ffi::SQLITE_CONSTRAINT_UNIQUE),
        ("SQLITE_CONSTRAINT_NOTNULL", ffi::SQLITE_CONSTRAINT_NOTNULL),
        ("SQLITE_CONSTRAINT_CHECK", ffi::SQLITE_CONSTRAINT_CHECK),
        ("SQLITE_CONSTRAINT_TRIGGER", ffi::SQLITE_CONSTRAINT_TRIGGER),
        ("SQLITE_CONSTRAINT", ffi::SQLITE_CONSTRAINT),
        ("SQLITE_MISMATCH", ffi::SQLITE_MISMATCH),
        ("SQLITE_TOOBIG", ffi::SQLITE_TOOBIG),
        ("SQLITE_BUSY", ffi::SQLITE_BUSY),
        ("SQLITE_LOCKED", ffi::SQLITE_LOCKED),
        ("SQLITE_FULL", ffi::SQLITE_FULL),
        ("SQLITE_READONLY", ffi::SQLITE_READONLY),
        ("SQLITE_IOERR", ffi::SQLITE_IOERR),
        ("SQLITE_CORRUPT", ffi::SQLITE_CORRUPT),
        ("SQLITE_INTERRUPT", ffi::SQLITE_BUSY),
        ("SQLITE_AUTH", ffi::SQLITE_AUTH),
    ];
    let found = CODES.iter().find(|(name, _)| {
        let rest = code.strip_prefix(name);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('_'))
    });
    found.map(|(_, number)| *number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_have_codes_and_say_whether_to_try_again() {
        for (status, page, code, kind, is_transient, may_be_done) in [
            (
                401,
                "`The JWT has expired`",
                "turso.token_expired",
                ErrorKind::Unauthenticated,
                false,
                false,
            ),
            (
                401,
                "Unauthorized",
                "turso.unauthenticated",
                ErrorKind::Unauthenticated,
                false,
                false,
            ),
            (403, "", "turso.forbidden", ErrorKind::Permission, false, false),
            (
                404,
                "Namespace `x` doesn't exist",
                "turso.no_database",
                ErrorKind::NotFound,
                false,
                false,
            ),
            (
                400,
                "Received an invalid baton",
                "turso.stream_lost",
                ErrorKind::Unavailable,
                true,
                false,
            ),
            (
                400,
                "nonsense",
                "turso.not_libsql",
                ErrorKind::Unsupported,
                false,
                false,
            ),
            (302, "", "turso.not_libsql", ErrorKind::Unsupported, false, false),
            (429, "", "turso.rate_limited", ErrorKind::RateLimited, true, false),
            (502, "", "turso.server_error", ErrorKind::Unavailable, true, true),
            (504, "", "turso.timeout", ErrorKind::Timeout, true, true),
        ] {
            let failure = Failure::of_status("db.example.org", status, page.as_bytes(), Some(7));
            assert_eq!(
                (failure.error.code.as_str(), failure.error.kind),
                (code, kind),
                "{status}"
            );
            assert_eq!(failure.error.kind.is_transient(), is_transient, "{status}");
            assert_eq!(
                (failure.may_be_done, failure.error.retry_after_ms),
                (may_be_done, Some(7)),
                "{status}"
            );
        }
    }

    #[test]
    fn codes_are_known_with_and_without_their_extension() {
        assert_eq!(sqlite_code("SQLITE_BUSY"), Some(ffi::SQLITE_BUSY));
        assert_eq!(sqlite_code("SQLITE_BUSY_SNAPSHOT"), Some(ffi::SQLITE_BUSY));
        assert_eq!(
            sqlite_code("SQLITE_CONSTRAINT_UNIQUE"),
            Some(ffi::SQLITE_CONSTRAINT_UNIQUE)
        );
        assert_eq!(
            sqlite_code("SQLITE_CONSTRAINT_VTAB"),
            Some(ffi::SQLITE_CONSTRAINT)
        );
        assert_eq!(sqlite_code("SQLITE_BUSYBODY"), None);
        assert_eq!(sqlite_code("SQL_PARSE_ERROR"), None);
    }
}
