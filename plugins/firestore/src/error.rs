//! Statuses of the service as errors of the plugin: kind, code, scope and a message without values.
//!
//! What may pass by itself is told from what will not; `client` decides on retries by [`Class`]. The service's own texts name
//! documents and fields; those that may quote a value are kept without what stands in quotes. `details` reads what a
//! status carries beside its text. Neighbour: `client`.

mod details;

use std::time::Duration;

use gcloud_sdk::google_cloud_auth::errors::CredentialsError;
use gcloud_sdk::tonic::{Code, Status};
use whimbrel_plugin_api::{Error, ErrorKind, ErrorScope};

/// The longest that a request of the service to wait is followed: it asks for seconds, a defect may ask for years.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(60 * 60);
/// As much of a text of the service as is kept. An address in it, such as that of a missing index, fits.
const CAUSE_CHARS_MAX: usize = 2_000;

/// What the service answers where it no longer has what was there at the instant that a request names: without point-in-time
/// recovery; with it, which keeps whole minutes beyond an hour; and in earlier years. All with `FAILED_PRECONDITION`.
const TOO_OLD: [&str; 3] = [
    "The requested 'read_time' is too old",
    "The requested 'read_time' is not a whole minute",
    "The requested snapshot version is too old",
];

/// The code of an error that says: an instant can no longer be read.
pub(crate) const SNAPSHOT_EXPIRED: &str = "firestore.snapshot_expired";
/// What to do then. The setting is one that may change before a run is gone on with.
pub(crate) const SNAPSHOT_EXPIRED_HELP: &str = "to read the rest as it is now, set `on_snapshot_expiry: continue` in the config \
    of the source and go on with `whimbrel resume`; to have all of it as of one instant, begin anew with `whimbrel run`, with \
    `point_in_time_recovery: true` if the database has that";

/// The code of a message that is beyond a limit of the service or of gRPC.
pub(crate) const TOO_LARGE: &str = "firestore.too_large";

/// What may be done about a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Class {
    /// The same request may succeed later: no connection, a restart, a deadline.
    Transient,
    /// The service asks to slow down.
    RateLimited,
    /// Somebody else was at the same documents: try again at once, a few times.
    Contention,
    /// It will fail again.
    Permanent,
}

/// A request that failed.
#[derive(Debug, Clone)]
pub(crate) struct Fault {
    /// What the service, or the transport, answered.
    pub(crate) status: Status,
    /// What may be done about it.
    pub(crate) class: Class,
    /// How long the service asks to wait.
    pub(crate) retry_after: Option<Duration>,
}

impl Fault {
    /// Somebody else was at the same document: a reason to try again.
    pub(crate) fn contended(self) -> Self {
        Self {
            class: Class::Contention,
            ..self
        }
    }

    /// Whether the request may have been carried out although it failed.
    pub(crate) fn is_doubtful(&self) -> bool {
        self.class == Class::Transient && credentials_error(&self.status).is_none()
    }

    /// Whether the service no longer has what was there at the instant that the request named, and nothing else: not where the
    /// database is younger than the instant, since it is another one than was read before.
    pub(crate) fn is_snapshot_lost(&self) -> bool {
        is_too_old(&self.status)
    }

    /// Whether a condition on a document did not hold, so that certainly nothing was carried out.
    pub(crate) fn is_unmet_condition(&self) -> bool {
        self.class == Class::Permanent
            && matches!(
                self.status.code(),
                Code::FailedPrecondition | Code::AlreadyExists | Code::NotFound
            )
    }
}

/// A record that cannot be read or stored as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RowFault {
    /// The stable code.
    pub(crate) code: &'static str,
    /// The reason, without values.
    pub(crate) message: String,
}

impl RowFault {
    pub(crate) fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
        }
    }
}

impl From<Status> for Fault {
    fn from(status: Status) -> Self {
        let class = match (credentials_error(&status), status.code()) {
            (Some(error), _) if error.is_transient() => Class::Transient,
            (Some(_), _) => Class::Permanent,
            _ if is_too_large(&status) => Class::Permanent,
            (None, Code::ResourceExhausted) if details::is_spent_for_the_day(&status) => Class::Permanent,
            (None, Code::ResourceExhausted) => Class::RateLimited,
            (None, Code::Aborted) => Class::Contention,
            (
                None,
                Code::Unavailable | Code::DeadlineExceeded | Code::Internal | Code::Unknown | Code::Cancelled,
            ) => Class::Transient,
            (None, _) => Class::Permanent,
        };
        let retry_after = details::retry_after(&status).map(|asked| asked.min(RETRY_AFTER_MAX));
        Self {
            status,
            class,
            retry_after,
        }
    }
}

impl From<Fault> for Error {
    fn from(fault: Fault) -> Self {
        let status = &fault.status;
        let described = describe(status);
        let mut error = Self::new(described.kind, described.code, described.message)
            // A request that failed has spoilt nothing: the connection is made anew by the next one.
            .with_scope(if fault.class == Class::Permanent {
                ErrorScope::Session
            } else {
                ErrorScope::Write
            });
        if let Some(help) = described.help {
            error = error.with_help(help);
        }
        if described.pauses {
            error = error.with_pause();
        }
        if let Some(asked) = fault.retry_after {
            error = error.with_retry_after_ms(u64::try_from(asked.as_millis()).unwrap_or(u64::MAX));
        }
        error.causes = causes(status);
        error
    }
}

/// What a status is called, and what can be done.
struct Described {
    kind: ErrorKind,
    code: &'static str,
    message: &'static str,
    help: Option<String>,
    pauses: bool,
}

impl Described {
    const fn new(kind: ErrorKind, code: &'static str, message: &'static str) -> Self {
        Self {
            kind,
            code,
            message,
            help: None,
            pauses: false,
        }
    }

    fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

fn describe(status: &Status) -> Described {
    use ErrorKind as Kind;
    if let Some(error) = credentials_error(status) {
        return no_token(error);
    }
    if is_too_large(status) {
        return Described::new(
            Kind::InvalidData,
            TOO_LARGE,
            "a request or an answer is larger than may be sent",
        )
        .help("send less at once: lower `writing.bytes_max` or `writing.writes_max`");
    }
    match status.code() {
        Code::Unauthenticated => Described::new(
            Kind::Unauthenticated,
            "firestore.unauthenticated",
            "the service does not accept the credentials",
        )
        .help("look whether the key still exists and whether the clock of this machine is right"),
        Code::PermissionDenied => permission_denied(status),
        Code::NotFound => not_found(status),
        Code::AlreadyExists => Described::new(Kind::Exists, "firestore.exists", "a document is there already"),
        Code::FailedPrecondition => failed_precondition(status),
        Code::ResourceExhausted => resource_exhausted(status),
        Code::InvalidArgument => Described::new(
            Kind::InvalidData,
            "firestore.invalid_request",
            "the service refuses the request as it is",
        ),
        Code::OutOfRange => {
            Described::new(Kind::InvalidData, "firestore.out_of_range", "the service calls something out of range")
        }
        Code::DeadlineExceeded => Described::new(
            Kind::Timeout,
            "firestore.timeout",
            "the service did not answer in time",
        )
        .help("raise `request_timeout_ms` if the requests are large or the network is slow"),
        Code::Unavailable => Described::new(
            Kind::Unavailable,
            "firestore.unavailable",
            "the service cannot be reached",
        )
        .help("look whether the network lets this machine reach the service, or whether the emulator of `host` runs"),
        Code::Aborted => Described::new(
            Kind::Unavailable,
            "firestore.contention",
            "somebody else changes the same documents",
        ),
        Code::Unimplemented => Described::new(
            Kind::Unsupported,
            "firestore.unimplemented",
            "what answers does not offer this request",
        )
        .help("look whether `host` is the address of a Firestore emulator"),
        Code::DataLoss => Described::new(Kind::Integrity, "firestore.data_loss", "the service has lost data"),
        _ => Described::new(
            Kind::Unavailable,
            "firestore.service_error",
            "the service failed to do what was asked",
        ),
    }
}

fn no_token(error: &CredentialsError) -> Described {
    let kind = if error.is_transient() {
        ErrorKind::Unavailable
    } else {
        ErrorKind::Unauthenticated
    };
    Described::new(kind, "firestore.no_token", "no access token is given for the credentials")
        .help("look whether the credentials are still valid; `gcloud auth application-default login` makes new ones for a person")
}

fn permission_denied(status: &Status) -> Described {
    if details::reason(status).as_deref() == Some("SERVICE_DISABLED") {
        return Described::new(
            ErrorKind::Permission,
            "firestore.service_disabled",
            "the Firestore API is not enabled in the project",
        )
        .help("enable it: `gcloud services enable firestore.googleapis.com`, then wait some minutes");
    }
    Described::new(
        ErrorKind::Permission,
        "firestore.permission_denied",
        "the credentials have no right to this, or the project is another one",
    )
    .help("look at `project`; give the account the role `roles/datastore.viewer` to read and `roles/datastore.user` to write")
}

fn not_found(status: &Status) -> Described {
    let text = status.message().to_lowercase();
    let text = text.strip_prefix("the ").unwrap_or(&text);
    // Texts about documents name project and database too, but do not begin with them.
    if text.starts_with("database ") || text.starts_with("project ") {
        return Described::new(
            ErrorKind::NotFound,
            "firestore.no_database",
            "the project has no such database",
        )
        .help("look at `project` and `database`; `gcloud firestore databases list` tells those there are");
    }
    Described::new(
        ErrorKind::NotFound,
        "firestore.not_found",
        "a document is not there",
    )
}

fn failed_precondition(status: &Status) -> Described {
    let text = status.message().to_lowercase();
    if text.contains("datastore mode") {
        return Described::new(
            ErrorKind::Unsupported,
            "firestore.datastore_mode",
            "the database is in Datastore mode, which speaks another language",
        )
        .help("name a database in native mode as `database`");
    }
    if text.contains("index") {
        let address = details::address(status.message()).map_or_else(
            || "make the index that the cause names".to_owned(),
            |address| format!("make the index: {address}"),
        );
        return Described::new(
            ErrorKind::NotFound,
            "firestore.index_missing",
            "the database lacks an index that the query needs",
        )
        .help(address);
    }
    if is_too_old(status) {
        return snapshot_expired();
    }
    Described::new(
        ErrorKind::Integrity,
        "firestore.precondition_failed",
        "a document is not as it was expected to be",
    )
}

fn snapshot_expired() -> Described {
    Described::new(
        ErrorKind::Integrity,
        SNAPSHOT_EXPIRED,
        "the service can no longer read the database as it was at the fixed time",
    )
    .help(SNAPSHOT_EXPIRED_HELP)
}

fn resource_exhausted(status: &Status) -> Described {
    let is_quota = details::is_spent_for_the_day(status)
        || (details::retry_after(status).is_none()
            && status.message().to_lowercase().contains("quota exceeded"));
    if !is_quota {
        return Described::new(
            ErrorKind::RateLimited,
            "firestore.rate_limited",
            "the service asks to slow down",
        )
        .help("give `quota.reads_per_second` or `quota.writes_per_second`, so that the pace is kept from the beginning");
    }
    // Waiting for midnight in California helps, and so does a person who raises the quota.
    Described {
        pauses: true,
        ..Described::new(
            ErrorKind::Unavailable,
            "firestore.quota_spent",
            "the project has spent its quota",
        )
        .help("enable billing or raise the quota, then the run goes on; quotas of a day begin anew at midnight Pacific time")
    }
}

fn is_too_old(status: &Status) -> bool {
    status.code() == Code::FailedPrecondition && TOO_OLD.iter().any(|text| status.message().starts_with(text))
}

/// Whether a message is beyond a limit, which several codes say: gRPC's own (either side), and the service's.
fn is_too_large(status: &Status) -> bool {
    let text = status.message();
    let of_grpc = [
        "message length too large",
        "exceeds maximum size",
        "larger than max",
    ];
    let of_service = [
        "payload size exceeds",
        // Counts what is written into indexes as well, which a client cannot know.
        "Transaction too big",
        "writes allowed per request",
    ];
    match status.code() {
        Code::OutOfRange | Code::ResourceExhausted => of_grpc.iter().any(|part| text.contains(part)),
        Code::InvalidArgument => of_service.iter().any(|part| text.contains(part)),
        _ => false,
    }
}

/// The fault of the credentials, if the request was never sent because of them.
fn credentials_error(status: &Status) -> Option<&CredentialsError> {
    let mut next = std::error::Error::source(status);
    while let Some(cause) = next {
        if let Some(error) = cause.downcast_ref() {
            return Some(error);
        }
        next = cause.source();
    }
    None
}

/// The service's text, and what the transport says below it.
fn causes(status: &Status) -> Vec<String> {
    let text = status.message();
    let may_quote_values = matches!(
        status.code(),
        Code::InvalidArgument | Code::OutOfRange | Code::Internal | Code::Unknown
    );
    let text = if may_quote_values {
        details::without_quoted(text)
    } else {
        text.to_owned()
    };
    let mut causes = vec![format!("{:?}: {text}", status.code())];
    let mut next = std::error::Error::source(status);
    while let Some(cause) = next {
        causes.push(cause.to_string());
        next = cause.source();
    }
    causes.dedup();
    for cause in &mut causes {
        if let Some((end, _)) = cause.char_indices().nth(CAUSE_CHARS_MAX) {
            cause.truncate(end);
        }
    }
    causes
}

#[cfg(test)]
mod tests;
