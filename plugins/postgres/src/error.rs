//! Errors of the database as errors of the plugin: SQLSTATE to kind, code, scope and a message without values.
//!
//! What PostgreSQL writes into messages and details may be values of records, so our own sentences are made from the
//! SQLSTATE (`sqlstates`) and the names that come with it. Its own words are kept as a cause only where they speak of the
//! server, of rights or of names. `connecting` judges what fails before there is a connection.

mod connecting;
mod sqlstates;
#[cfg(test)]
mod tests;

use sqlx::postgres::{PgDatabaseError, PgSeverity};
use whimbrel_plugin_api::{Error, ErrorKind, ErrorScope};

use crate::address::Address;
use sqlstates::Meaning;

/// The code of a connection that ended before its time.
pub(crate) const CONNECTION_LOST: &str = "postgres.connection_lost";

/// What went wrong on a connection, with what the database says of the place.
#[derive(Debug, Clone)]
pub(crate) struct Fault {
    /// As it crosses the boundary.
    pub(crate) error: Error,
    /// Five characters, if the database said anything.
    pub(crate) sqlstate: Option<String>,
    /// The constraint concerned.
    pub(crate) constraint: Option<String>,
    /// The column concerned.
    pub(crate) column: Option<String>,
    /// Of a failed COPY in: the row at fault, from 0, in the order in which rows were sent.
    pub(crate) copy_row: Option<u64>,
}

impl Fault {
    /// A fault that the database did not report.
    pub(crate) fn of_error(error: Error) -> Self {
        Self {
            error,
            sqlstate: None,
            constraint: None,
            column: None,
            copy_row: None,
        }
    }

    /// What the driver reports of a call on an open connection.
    pub(crate) fn of(error: sqlx::Error) -> Self {
        match reported(&error) {
            Some(reported) => Self::of_reported(reported, None),
            None => Self::of_error(unreported(&error)),
        }
    }

    /// The same of a COPY into the table called `relation`, which the server repeats before it says which row it was.
    pub(crate) fn of_copy(error: sqlx::Error, relation: Option<&str>) -> Self {
        match reported(&error) {
            Some(reported) => Self::of_reported(reported, relation),
            None => Self::of_error(unreported(&error)),
        }
    }

    fn of_reported(reported: &PgDatabaseError, relation: Option<&str>) -> Self {
        let place = reported
            .r#where()
            .and_then(|context| copy_place(context, relation));
        let (copy_row, copied_column) = place.map_or((None, None), |(row, column)| (Some(row), column));
        let mut fault = Self {
            error: Error::internal(""),
            sqlstate: Some(reported.code().to_owned()),
            constraint: reported.constraint().map(str::to_owned),
            column: reported.column().map(str::to_owned).or(copied_column),
            copy_row,
        };
        fault.error = meant(reported, &fault);
        fault
    }
}

/// Why the database refused a record, from the SQLSTATE and the names that come with it: code and sentence.
pub(crate) fn refusal(
    sqlstate: &str,
    constraint: Option<&str>,
    column: Option<&str>,
) -> (&'static str, String) {
    let Meaning { code, message, .. } = sqlstates::meaning(sqlstate);
    let names = [("constraint", constraint), ("column", column)];
    (code, with_names(message, &names))
}

/// What the driver reports of an attempt to connect to `address`.
pub(crate) fn of_connecting(error: &sqlx::Error, address: &Address) -> Error {
    connecting::error(error, address)
}

impl From<Fault> for Error {
    fn from(fault: Fault) -> Self {
        fault.error
    }
}

/// What the database said, if it is the database that speaks.
fn reported(error: &sqlx::Error) -> Option<&PgDatabaseError> {
    error
        .as_database_error()
        .and_then(|error| error.try_downcast_ref::<PgDatabaseError>())
}

/// What a report of the database means.
fn meant(reported: &PgDatabaseError, fault: &Fault) -> Error {
    let Meaning {
        kind,
        code,
        scope,
        message,
        help,
        pauses,
    } = sqlstates::meaning(reported.code());
    let names = [
        ("constraint", fault.constraint.as_deref()),
        ("column", fault.column.as_deref()),
        ("table", reported.table()),
    ];
    let message = with_names(message, &names);
    let is_fatal = !matches!(reported.severity(), PgSeverity::Error);
    let scope = if is_fatal { ErrorScope::Session } else { scope };
    let mut error = Error::new(kind, code, message).with_scope(scope);
    if let Some(help) = help {
        error = error.with_help(help);
    }
    if pauses {
        error = error.with_pause();
    }
    error
        .causes
        .push(if sqlstates::is_free_of_values(reported.code()) {
            format!("{} (SQLSTATE {})", reported.message(), reported.code())
        } else {
            format!("SQLSTATE {}", reported.code())
        });
    error
}

fn with_names(message: &str, names: &[(&str, Option<&str>)]) -> String {
    let names = names
        .iter()
        .filter_map(|(what, name)| name.map(|name| format!("{what} `{name}`")));
    match names.collect::<Vec<_>>().join(", ") {
        names if names.is_empty() => message.to_owned(),
        names => format!("{message} ({names})"),
    }
}

/// What went wrong on an open connection without a word of the database.
fn unreported(error: &sqlx::Error) -> Error {
    match error {
        sqlx::Error::Io(_) | sqlx::Error::Tls(_) => Error::new(
            ErrorKind::Unavailable,
            CONNECTION_LOST,
            "the connection to the database was lost",
        )
        .with_cause(error),
        sqlx::Error::Decode(_) | sqlx::Error::ColumnDecode { .. } => Error::new(
            ErrorKind::InvalidData,
            "postgres.not_utf8",
            "the database sent a text that is not UTF-8",
        )
        .with_help("see what its encoding is: `SHOW server_encoding`"),
        _ => Error::new(
            ErrorKind::Internal,
            "postgres.protocol",
            "the database answered something else than was asked",
        )
        .with_cause(error),
    }
}

/// Row and column from the context of a COPY error, such as `COPY t, line 3, column c`.
///
/// The words are in the language of the server, so only the numbers and the commas count. A table may be called
/// anything, so its name is taken away first if it is known; else the last number behind a comma counts.
fn copy_place(context: &str, relation: Option<&str>) -> Option<(u64, Option<String>)> {
    let start = context
        .find("COPY ")
        .filter(|at| *at == 0 || context[..*at].ends_with('\n'))?;
    let rest = &context[start + "COPY ".len()..];
    let rest = match relation {
        // Some languages put the name into quotes or behind other words, but none puts digits before it.
        Some(name) => &rest[rest.find(name)? + name.len()..],
        None => {
            let line = rest.lines().next()?;
            let is_place = |at: &usize| line[*at..].bytes().any(|octet| octet.is_ascii_digit());
            let comma = line.rmatch_indices(", ").map(|(at, _)| at).find(is_place)?;
            &line[comma..]
        }
    };
    let from = rest.find(|letter: char| letter.is_ascii_digit())?;
    let digits = rest[from..]
        .find(|letter: char| !letter.is_ascii_digit())
        .map_or(rest.len(), |at| from + at);
    let row: u64 = rest[from..digits].parse().ok()?;
    let column = rest[digits..].strip_prefix(", ").and_then(|rest| {
        let (_, name) = rest.split_once(' ')?;
        let name = name.lines().next()?;
        // The text formats show the value behind the name.
        Some(name.split(": \"").next().unwrap_or(name).to_owned())
    });
    Some((row.checked_sub(1)?, column.filter(|name| !name.is_empty())))
}
