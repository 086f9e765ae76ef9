//! The one error type of the plugin API: what went wrong, for whom, and what may be done about it.
//!
//! An [`Error`] crosses the boundary as a message (see `ABI.md`), so it holds no foreign types; the causes
//! are kept as a chain of texts. Neighbours: every trait of this crate returns it; the host wraps it with the
//! place in the job file.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::error_form::ErrorForm;

/// The result of every call of the plugin API.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The class of an error, from which the host derives retry, severity and exit code.
///
/// Crosses the boundary as its number, so that a kind that the receiver does not know becomes
/// [`ErrorKind::Internal`] and nothing breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(from = "u32", into = "u32")]
#[repr(u32)]
pub enum ErrorKind {
    /// The configuration is wrong; changing it is the remedy.
    Config = 1,
    /// Credentials are missing or refused.
    Unauthenticated = 2,
    /// Credentials are accepted, the right is missing.
    Permission = 3,
    /// A file, table or collection does not exist.
    NotFound = 4,
    /// It exists already and may not.
    Exists = 5,
    /// The system cannot be reached now.
    Unavailable = 6,
    /// A deadline passed.
    Timeout = 7,
    /// The system asks to slow down.
    RateLimited = 8,
    /// The host cancelled the call.
    Cancelled = 9,
    /// A record cannot be read or stored as it is.
    InvalidData = 10,
    /// What is stored contradicts itself: a checksum, a constraint, a fence.
    Integrity = 11,
    /// The plugin does not offer this.
    Unsupported = 12,
    /// A defect of the plugin or the host.
    Internal = 13,
}

impl ErrorKind {
    /// The stable name, as it stands in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Config => "config",
            Self::Unauthenticated => "unauthenticated",
            Self::Permission => "permission",
            Self::NotFound => "not_found",
            Self::Exists => "exists",
            Self::Unavailable => "unavailable",
            Self::Timeout => "timeout",
            Self::RateLimited => "rate_limited",
            Self::Cancelled => "cancelled",
            Self::InvalidData => "invalid_data",
            Self::Integrity => "integrity",
            Self::Unsupported => "unsupported",
            Self::Internal => "internal",
        }
    }

    /// Whether the same call may succeed later without a change by a person.
    pub const fn is_transient(self) -> bool {
        matches!(self, Self::Unavailable | Self::Timeout | Self::RateLimited)
    }
}

impl From<u32> for ErrorKind {
    fn from(number: u32) -> Self {
        match number {
            1 => Self::Config,
            2 => Self::Unauthenticated,
            3 => Self::Permission,
            4 => Self::NotFound,
            5 => Self::Exists,
            6 => Self::Unavailable,
            7 => Self::Timeout,
            8 => Self::RateLimited,
            9 => Self::Cancelled,
            10 => Self::InvalidData,
            11 => Self::Integrity,
            12 => Self::Unsupported,
            _ => Self::Internal,
        }
    }
}

impl From<ErrorKind> for u32 {
    fn from(kind: ErrorKind) -> Self {
        kind as Self
    }
}

/// How much an error has spoilt, and so what the host must repeat.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorScope {
    /// Only the rows named in [`Error::rows`]; the rest of the batch could be written without them.
    Rows,
    /// This write only; the transaction stands as it was before it.
    Write,
    /// The open transaction is gone.
    Transaction,
    /// The whole opened object is unusable; it must be closed and opened again.
    #[default]
    #[serde(other)]
    Session,
}

/// How much an error matters to those who answer for a run. It follows from what the error is, by [`Error::severity`], unless whoever
/// raised it knows better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorSeverity {
    /// Nothing is wrong: somebody asked for it, or it passes by itself.
    Low,
    /// It may pass, or it is about single records.
    Medium,
    /// It does not pass before somebody has acted.
    High,
    /// What is stored, or the program itself, is not as it should be: somebody has to look before anything else is believed. A severity
    /// that the receiver does not know is read as this one.
    #[serde(other)]
    Critical,
}

impl ErrorSeverity {
    /// Its name in messages and JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::Critical => "critical",
        }
    }

    /// The rule: what kind of error it is, and whether the system waits for a repair.
    pub(crate) const fn of(kind: ErrorKind, pauses: bool) -> Self {
        match kind {
            ErrorKind::Integrity | ErrorKind::Internal => Self::Critical,
            _ if pauses => Self::High,
            ErrorKind::RateLimited | ErrorKind::Cancelled => Self::Low,
            ErrorKind::Unavailable | ErrorKind::Timeout | ErrorKind::InvalidData => Self::Medium,
            _ => Self::High,
        }
    }
}

/// An error of a plugin call. `message` follows STYLE: lower case, no final stop, objects in backticks, no
/// record values and no secrets.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(from = "ErrorForm", into = "ErrorForm")]
pub struct Error {
    /// The class.
    pub kind: ErrorKind,
    /// A stable dotted name, such as `turso.table_missing`.
    pub code: String,
    /// One sentence for a person.
    pub message: String,
    /// What the person can do, if known.
    pub help: Option<String>,
    /// How much is spoilt.
    pub scope: ErrorScope,
    /// How long to wait before trying again, in milliseconds, if the system said so.
    pub retry_after_ms: Option<u64>,
    /// Whether the system waits for somebody's repair (its disk is full, it takes no writes, it has no connection left) after
    /// which the same call may succeed: the host pauses and probes in place of spending its tries.
    pub pauses: bool,
    /// Row indexes of the batch at fault; empty if unknown.
    pub rows: Vec<u64>,
    /// Where in the configuration or the input, such as `config.url` or `export.json:3:14`.
    pub place: Option<String>,
    /// The causes, nearest first.
    pub causes: Vec<String>,
    /// How much it matters, if that is not what follows from the rest; see [`Error::severity`].
    pub own_severity: Option<ErrorSeverity>,
}

impl Error {
    /// An error of `kind` with its stable `code` and `message`.
    pub fn new(kind: ErrorKind, code: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            kind,
            code: code.into(),
            message: message.into(),
            help: None,
            scope: ErrorScope::Session,
            retry_after_ms: None,
            pauses: false,
            rows: Vec::new(),
            place: None,
            causes: Vec::new(),
            own_severity: None,
        }
    }

    /// [`ErrorKind::Config`].
    pub fn config(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Config, code, message)
    }

    /// [`ErrorKind::InvalidData`].
    pub fn invalid_data(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(ErrorKind::InvalidData, code, message)
    }

    /// [`ErrorKind::NotFound`].
    pub fn not_found(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(ErrorKind::NotFound, code, message)
    }

    /// [`ErrorKind::NotFound`] with code `source.no_collection`: there is no collection called `name`.
    pub fn no_collection(name: &str) -> Self {
        Self::not_found("source.no_collection", format!("there is no collection `{name}`"))
    }

    /// [`ErrorKind::Internal`] with code `plugin.internal`: a defect, not a circumstance.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Internal, "plugin.internal", message)
    }

    /// [`ErrorKind::Unsupported`] for `call`, with code `plugin.unsupported`.
    pub fn unsupported(call: &str) -> Self {
        Self::new(
            ErrorKind::Unsupported,
            "plugin.unsupported",
            format!("the plugin does not offer `{call}`"),
        )
        .with_scope(ErrorScope::Write)
    }

    /// [`ErrorKind::Cancelled`] with code `plugin.cancelled`.
    pub fn cancelled() -> Self {
        Self::new(
            ErrorKind::Cancelled,
            "plugin.cancelled",
            "the host cancelled the call",
        )
    }

    /// [`ErrorKind::Integrity`] with code `run.fenced`: another run holds the lane. The object is of no more use.
    pub fn fenced() -> Self {
        Self::new(
            ErrorKind::Integrity,
            "run.fenced",
            "another run has taken over; nothing further is written by this one",
        )
        .with_severity(ErrorSeverity::High)
    }

    /// [`ErrorKind::Exists`] with code `run.lane_held`: `holder` lives and cannot be fenced off.
    pub fn lane_held(holder: impl fmt::Display) -> Self {
        Self::new(
            ErrorKind::Exists,
            "run.lane_held",
            format!("{holder} still writes this and cannot be fenced off"),
        )
        .with_help("end that process, or wait for its end")
    }

    /// Adds what a person can do.
    #[must_use]
    pub fn with_help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// Says how much is spoilt.
    #[must_use]
    pub fn with_scope(mut self, scope: ErrorScope) -> Self {
        self.scope = scope;
        self
    }

    /// Says that the system waits for somebody's repair; see [`Error::pauses`].
    #[must_use]
    pub fn with_pause(mut self) -> Self {
        self.pauses = true;
        self
    }

    /// Says how much it matters, where that is not what [`Error::severity`] makes of the rest.
    #[must_use]
    pub fn with_severity(mut self, severity: ErrorSeverity) -> Self {
        self.own_severity = Some(severity);
        self
    }

    /// How much it matters. Critical: integrity, internal. High: what waits for somebody's repair, and every kind that is not named
    /// here. Medium: unavailable, timeout, invalid data. Low: rate limited, cancelled.
    pub fn severity(&self) -> ErrorSeverity {
        self.own_severity
            .unwrap_or(ErrorSeverity::of(self.kind, self.pauses))
    }

    /// Names the rows at fault (indexes into the batch) and narrows the scope to them.
    #[must_use]
    pub fn with_rows(mut self, rows: Vec<u64>) -> Self {
        self.rows = rows;
        self.scope = ErrorScope::Rows;
        self
    }

    /// Names the place in configuration or input.
    #[must_use]
    pub fn with_place(mut self, place: impl Into<String>) -> Self {
        self.place = Some(place.into());
        self
    }

    /// Says how long to wait before the next try.
    #[must_use]
    pub fn with_retry_after_ms(mut self, millis: u64) -> Self {
        self.retry_after_ms = Some(millis);
        self
    }

    /// Keeps `cause` and everything below it in the chain.
    #[must_use]
    pub fn with_cause(mut self, cause: &dyn std::error::Error) -> Self {
        let mut next = Some(cause);
        while let Some(cause) = next {
            self.causes.push(cause.to_string());
            next = cause.source();
        }
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

impl From<arrow_schema::ArrowError> for Error {
    fn from(error: arrow_schema::ArrowError) -> Self {
        Self::internal("an Arrow array could not be built").with_cause(&error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_kind_and_scope_of_a_newer_plugin_are_read_as_the_safest() {
        let error: Error =
            serde_json::from_str(r#"{"kind":99,"code":"x.y","message":"m","scope":"galaxy","new_key":1}"#)
                .unwrap();
        assert_eq!(error.kind, ErrorKind::Internal);
        assert_eq!(error.scope, ErrorScope::Session);
    }

    #[test]
    fn every_field_survives_the_message_form() {
        let error = Error::config("a.b", "bad `x`")
            .with_help("fix it")
            .with_rows(vec![1, 9])
            .with_place("config.x")
            .with_retry_after_ms(5)
            .with_pause()
            .with_cause(&std::io::Error::other("disk"))
            .with_severity(ErrorSeverity::Low);
        let text = serde_json::to_string(&error).unwrap();
        assert_eq!(serde_json::from_str::<Error>(&text).unwrap(), error);
    }

    #[test]
    fn the_severity_follows_from_the_kind_unless_somebody_knows_better() {
        use ErrorSeverity::{Critical, High, Low, Medium};
        for (number, wanted) in (1..=14).zip([
            High, High, High, High, High, Medium, Medium, Low, Low, Medium, Critical, High, Critical,
            Critical,
        ]) {
            let error = Error::new(ErrorKind::from(number), "a.b", "x");
            assert_eq!(error.severity(), wanted, "{:?}", error.kind);
            let text = serde_json::to_value(&error).unwrap();
            assert_eq!(text["severity"], wanted.name());
            assert_eq!(serde_json::from_value::<Error>(text).unwrap(), error);
        }
        let full = Error::new(ErrorKind::Unavailable, "a.b", "x").with_pause();
        assert_eq!(full.severity(), High);
        assert_eq!(full.with_severity(Critical).severity(), Critical);
        // As a plugin sends it that knows nothing of severities, and as one of another time does.
        let read = |severity: &str| {
            let text = format!(r#"{{"kind":8,"code":"x.y","message":"m"{severity}}}"#);
            serde_json::from_str::<Error>(&text).unwrap().severity()
        };
        assert_eq!(read(""), Low);
        assert_eq!(read(r#","severity":"medium""#), Medium);
        assert_eq!(read(r#","severity":"apocalyptic""#), Critical);
    }
}
