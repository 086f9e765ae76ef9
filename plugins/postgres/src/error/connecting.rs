//! Why no connection came about: nobody there, another certificate, a wrong password, a pooler that knows no such project.
//!
//! The driver hands on errors of TLS as texts only, so a few of their words are looked for.

use std::io;

use whimbrel_plugin_api::{Error, ErrorKind};

use super::{meant, reported};
use crate::address::Address;
use crate::error::Fault;

/// The error of an attempt to connect to `address`.
pub(super) fn error(error: &sqlx::Error, address: &Address) -> Error {
    let name = address.name();
    let made = match (reported(error), error) {
        (Some(said), _) => refused(said, address),
        (None, sqlx::Error::Tls(_)) => tls(&chain(error), address),
        (None, sqlx::Error::Io(cause)) if cause.kind() == io::ErrorKind::InvalidData => {
            tls(&chain(error), address)
        }
        (None, sqlx::Error::Io(cause)) => unreachable(cause, address),
        (None, sqlx::Error::Configuration(_)) => {
            Error::config("postgres.tls_file", "a certificate or key of `tls` is not usable")
                .with_place("config.tls")
        }
        (None, _) => {
            let message = format!(
                "what answers at `{name}` does not speak as PostgreSQL does, or asks for an unknown login"
            );
            Error::new(ErrorKind::Unavailable, "postgres.not_postgres", message)
                .with_help("see whether host and port are those of the database")
        }
    };
    if made.causes.is_empty() {
        made.with_cause(error)
    } else {
        made
    }
}

fn refused(said: &sqlx::postgres::PgDatabaseError, address: &Address) -> Error {
    let words = said.message().to_ascii_lowercase();
    let mut error = meant(
        said,
        &Fault {
            sqlstate: Some(said.code().to_owned()),
            ..Fault::of_error(Error::internal(""))
        },
    );
    // Poolers have no SQLSTATE of their own for what they refuse, and speak English.
    if words.contains("max client")
        || words.contains("maxclients")
        || words.contains("no more connections allowed")
    {
        error = Error::new(
            ErrorKind::Unavailable,
            "postgres.too_many_connections",
            format!("the pooler at `{}` takes no further connection", address.name()),
        )
        .with_help("end other connections, or raise the limit of the pooler")
        .with_pause();
    } else if words.contains("tenant or user not found") {
        error = Error::new(
            ErrorKind::NotFound,
            "postgres.no_project",
            format!("the pooler at `{}` knows no such project", address.name()),
        )
        .with_help(
            "compare `project_ref` and `pooler_host` with what the project's page shows under Connect",
        );
    } else if words.contains("no such database") {
        error = Error::new(
            ErrorKind::NotFound,
            "postgres.no_database",
            "there is no such database",
        );
    } else if words.contains("password authentication failed") {
        error.kind = ErrorKind::Unauthenticated;
        "postgres.wrong_password".clone_into(&mut error.code);
        "the database refuses the password".clone_into(&mut error.message);
    }
    match error.code.as_str() {
        "postgres.wrong_password" | "postgres.refused_login" => {
            error.message = format!(
                "{} of user `{}` at `{}`",
                error.message,
                address.user,
                address.name()
            );
        }
        "postgres.no_database" => {
            error.message = format!(
                "there is no database `{}` at `{}`",
                address.database,
                address.name()
            );
            error.help =
                Some("correct the name in the config, or make the database (`CREATE DATABASE`)".to_owned());
        }
        _ => {}
    }
    error
}

fn unreachable(cause: &io::Error, address: &Address) -> Error {
    let name = address.name();
    let unavailable = |code: &str, message: String| Error::new(ErrorKind::Unavailable, code, message);
    let direct_help = "the direct address of a Supabase project needs IPv6: give `pooler_host` and `mode: session`; a project that \
                       was paused must be restored first";
    let is_direct = address.is_supabase && address.host.starts_with("db.");
    let error = match cause.kind() {
        io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound => {
            unavailable("postgres.unreachable", format!("nobody listens at `{name}`"))
                .with_help("see whether the server runs, and whether host and port are right")
        }
        io::ErrorKind::PermissionDenied => Error::new(
            ErrorKind::Permission,
            "postgres.unreachable",
            format!("`{name}` may not be connected to"),
        ),
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => {
            unavailable(
                "postgres.connection_lost",
                format!("`{name}` closed the connection before it was open"),
            )
            .with_help("see whether host and port are those of the database, and what the server's log says")
        }
        _ if cause.to_string().contains("lookup address") => unavailable(
            "postgres.unknown_host",
            format!("there is no host `{}`", address.host),
        )
        .with_help("see whether the name is right and can be looked up from here"),
        _ => unavailable("postgres.unreachable", format!("`{name}` cannot be reached")),
    };
    match is_direct {
        true => error.with_help(direct_help),
        false => error,
    }
}

fn tls(words: &str, address: &Address) -> Error {
    let name = address.name();
    let failed = |code: &str, message: String| Error::new(ErrorKind::Unauthenticated, code, message);
    if words.contains("does not support TLS") {
        return failed("postgres.tls_refused", format!("`{name}` offers no TLS"))
            .with_help("have TLS turned on at the server; `tls.mode: disable` sends the password and the records in clear");
    }
    if words.contains("not valid for") {
        return failed(
            "postgres.tls_host",
            format!("the certificate of `{name}` is for another host"),
        )
        .with_help("use the host that the certificate names, or `tls.mode: verify-ca`");
    }
    if words.contains("UnknownIssuer") || words.contains("BadSignature") {
        let help = if address.is_supabase {
            "download the certificate under Database in the project's settings and name the file in `tls.ca_file`"
        } else {
            "name the file of the authority's certificate in `tls.ca_file`"
        };
        return failed(
            "postgres.tls_authority",
            format!("the certificate of `{name}` is of an authority that is not known"),
        )
        .with_help(help);
    }
    if words.contains("expired") || words.contains("NotValidYet") || words.contains("not valid yet") {
        return failed(
            "postgres.tls_expired",
            format!("the time of the certificate of `{name}` is over or has not begun"),
        );
    }
    if words.contains("fatal alert") {
        return failed(
            "postgres.tls_certificate",
            format!("`{name}` does not accept our certificate, or asks for one"),
        )
        .with_help("see `tls.client_cert_file` and `tls.client_key_file`");
    }
    failed(
        "postgres.tls",
        format!("no TLS connection with `{name}` came about"),
    )
}

/// The texts of an error and of everything below it.
fn chain(error: &sqlx::Error) -> String {
    let mut words = String::new();
    let mut next: Option<&dyn std::error::Error> = Some(error);
    while let Some(error) = next {
        words.push_str(&error.to_string());
        words.push('\n');
        next = error.source();
    }
    words
}
