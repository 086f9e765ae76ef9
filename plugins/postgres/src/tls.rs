//! What is asked of TLS: the mode that holds, and the files of authorities, certificates and keys.
//!
//! The files are read here, so that a fault names the file and its key in the config, and so that the driver looks at
//! no variable instead.

use std::path::Path;

use sqlx::postgres::{PgConnectOptions, PgSslMode};
use whimbrel_plugin_api::{Error, ErrorKind, Result};

use crate::address::Address;
use crate::config::{Tls, TlsMode};

/// The mode that holds: the job's, else the URL's, else the strictest, but none on this machine.
pub(crate) fn mode(tls: &Tls, address: &Address) -> TlsMode {
    let has_files = tls.ca_file.is_some() || tls.client_cert_file.is_some();
    tls.mode
        .or(address.tls_mode)
        .unwrap_or(if address.is_local() && !has_files {
            TlsMode::Disable
        } else {
            TlsMode::VerifyFull
        })
}

/// Chooses what encrypts. The driver asks rustls for the one of the library, and rustls guesses only if one was compiled in;
/// another plugin of the same build may bring a second one.
fn provide_cryptography() {
    // An error says that one was chosen before.
    drop(rustls::crypto::ring::default_provider().install_default());
}

/// `options` with what the config asks of TLS.
pub(crate) fn apply(options: PgConnectOptions, tls: &Tls, address: &Address) -> Result<PgConnectOptions> {
    let mode = mode(tls, address);
    if address.is_socket() && !matches!(mode, TlsMode::Disable | TlsMode::Prefer) {
        return Err(
            Error::config("postgres.tls_on_socket", "sockets of this machine have no TLS")
                .with_help("leave `tls` out, or name the server by `localhost`")
                .with_place("config.tls"),
        );
    }
    if mode == TlsMode::VerifyCa && tls.ca_file.is_none() {
        let message = "`verify-ca` without `tls.ca_file` believes the certificate of any host in the world";
        return Err(Error::config("postgres.incomplete", message)
            .with_help("name the file of the authority's certificate in `tls.ca_file`, or use `verify-full`")
            .with_place("config.tls.mode"));
    }
    refuse_variables(tls, mode)?;
    provide_cryptography();
    let mut options = options.ssl_mode(match mode {
        TlsMode::Disable => PgSslMode::Disable,
        TlsMode::Prefer if address.is_socket() => PgSslMode::Disable,
        TlsMode::Prefer => PgSslMode::Prefer,
        TlsMode::Require => PgSslMode::Require,
        TlsMode::VerifyCa => PgSslMode::VerifyCa,
        TlsMode::VerifyFull => PgSslMode::VerifyFull,
    });
    if let Some(path) = &tls.ca_file {
        options = options.ssl_root_cert_from_pem(pem(path, "ca_file", "CERTIFICATE")?);
    }
    match (&tls.client_cert_file, &tls.client_key_file) {
        (None, None) => {}
        (Some(certificate), Some(key)) => {
            refuse_readable(key)?;
            options = options
                .ssl_client_cert_from_pem(pem(certificate, "client_cert_file", "CERTIFICATE")?)
                .ssl_client_key_from_pem(pem(key, "client_key_file", "PRIVATE KEY")?);
        }
        (there, _) => {
            let (missing, other) = if there.is_some() {
                ("client_key_file", "client_cert_file")
            } else {
                ("client_cert_file", "client_key_file")
            };
            return Err(Error::config(
                "postgres.incomplete",
                format!("`tls.{missing}` is missing, which belongs to `tls.{other}`"),
            )
            .with_place(format!("config.tls.{other}")));
        }
    }
    Ok(options)
}

/// The driver takes these variables where the config is silent, for the source and for the sink alike.
fn refuse_variables(tls: &Tls, mode: TlsMode) -> Result<()> {
    let verifies = matches!(mode, TlsMode::VerifyCa | TlsMode::VerifyFull);
    let has_certificate = tls.client_cert_file.is_some();
    let uses_tls = mode != TlsMode::Disable;
    for (name, counts, instead) in [
        (
            "PGOPTIONS",
            true,
            "set what is needed for the user in the database",
        ),
        (
            "PGSSLROOTCERT",
            verifies && tls.ca_file.is_none(),
            "use `tls.ca_file`",
        ),
        (
            "PGSSLCERT",
            uses_tls && !has_certificate,
            "use `tls.client_cert_file`",
        ),
        (
            "PGSSLKEY",
            uses_tls && !has_certificate,
            "use `tls.client_key_file`",
        ),
    ] {
        if counts && std::env::var_os(name).is_some() {
            return Err(Error::config(
                "postgres.variable",
                format!("the variable `{name}` is set, which would hold for every database"),
            )
            .with_help(format!("start whimbrel without it and {instead}"))
            .with_place("config"));
        }
    }
    Ok(())
}

fn pem(path: &Path, key: &str, label: &str) -> Result<Vec<u8>> {
    let place = format!("config.tls.{key}");
    let text = std::fs::read(path).map_err(|error| {
        let kind = match error.kind() {
            std::io::ErrorKind::NotFound => ErrorKind::NotFound,
            std::io::ErrorKind::PermissionDenied => ErrorKind::Permission,
            _ => ErrorKind::Unavailable,
        };
        Error::new(kind, "postgres.tls_file", format!("`tls.{key}` cannot be read"))
            .with_place(place.clone())
            .with_cause(&error)
    })?;
    let is_pem = String::from_utf8_lossy(&text).lines().any(|line| {
        line.trim_end()
            .strip_suffix("-----")
            .is_some_and(|line| line.starts_with("-----BEGIN ") && line.ends_with(label))
    });
    if is_pem {
        Ok(text)
    } else {
        Err(Error::config(
            "postgres.tls_file",
            format!("`tls.{key}` holds no `{label}` in PEM"),
        )
        .with_place(place))
    }
}

#[cfg(unix)]
fn refuse_readable(path: &Path) -> Result<()> {
    use std::os::unix::fs::MetadataExt as _;

    let Ok(data) = std::fs::metadata(path) else {
        // Reading it says why.
        return Ok(());
    };
    // As PostgreSQL's own programs have it: a key of root may be readable to a group of programs.
    let forbidden = if data.uid() == 0 { 0o037 } else { 0o077 };
    if data.mode() & forbidden == 0 {
        return Ok(());
    }
    Err(Error::config(
        "postgres.key_readable",
        "`tls.client_key_file` may be read by others",
    )
    .with_help("take the rights of others away: `chmod 600`")
    .with_place("config.tls.client_key_file"))
}

#[cfg(not(unix))]
fn refuse_readable(_: &Path) -> Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests;
