//! A file of credentials: the key of a service account, or what else Google's tools write as application default credentials.
//!
//! Nothing of its content ever stands in an error.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use gcloud_sdk::google_cloud_auth::build_errors;
use gcloud_sdk::google_cloud_auth::credentials::service_account::AccessSpecifier;
use gcloud_sdk::google_cloud_auth::credentials::{
    Credentials, external_account, impersonated, service_account, user_account,
};
use serde_json::Value;
use whimbrel_plugin_api::{Error, ErrorKind, Result};

/// What a token is for: Firestore and nothing else.
const SCOPE: &str = "https://www.googleapis.com/auth/datastore";
/// A key file has some 2 KiB; whatever is much larger is another file.
const BYTES_MAX: u64 = 1024 * 1024;

/// What a file holds.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) credentials: Credentials,
    /// The project that the file names.
    pub(super) project: Option<String>,
    /// Whether tokens are signed here, without asking anybody.
    pub(super) signs: bool,
}

/// Reads the file at `path`.
///
/// # Errors
/// `firestore.no_key_file` if it is not there, `firestore.loose_key_file` if others may read it, `firestore.bad_key_file` if it holds no
/// credentials.
pub(super) fn read(path: &Path) -> Result<Found> {
    let json = content(path)?;
    let kind = json.get("type").and_then(Value::as_str).unwrap_or_default();
    let signs = kind == "service_account";
    let project = json.get("project_id").and_then(Value::as_str).map(str::to_owned);
    let credentials = match kind {
        "service_account" => service_account::Builder::new(json)
            .with_access_specifier(AccessSpecifier::from_scopes([SCOPE]))
            .build(),
        // The scopes of these are given where they are made.
        "authorized_user" => user_account::Builder::new(json).build(),
        "impersonated_service_account" => impersonated::Builder::new(json).build(),
        "external_account" => external_account::Builder::new(json).build(),
        _ => return Err(bad(path, "is no key of a service account")),
    };
    Ok(Found {
        credentials: credentials.map_err(|error| incomplete(path, &error))?,
        project,
        signs,
    })
}

/// A file that cannot be used, `why` completes its name.
pub(super) fn bad(path: &Path, why: &str) -> Error {
    Error::config("firestore.bad_key_file", format!("`{}` {why}", path.display())).with_help(
        "make a key: `gcloud iam service-accounts keys create FILE --iam-account ACCOUNT`; the file of an OAuth client \
         or of a web app is another thing",
    )
}

/// The cause is not kept: it may quote the file.
fn incomplete(path: &Path, error: &build_errors::Error) -> Error {
    if error.is_missing_field() || error.is_parsing() {
        bad(
            path,
            "lacks a part of the credentials, or has one of the wrong type",
        )
    } else {
        bad(path, "holds credentials of a kind that cannot be used here")
    }
}

fn content(path: &Path) -> Result<Value> {
    let unreadable = |error: &std::io::Error| {
        let (kind, code) = match error.kind() {
            // The job names it, so that the job is wrong.
            std::io::ErrorKind::NotFound => (ErrorKind::Config, "firestore.no_key_file"),
            std::io::ErrorKind::PermissionDenied => (ErrorKind::Permission, "firestore.bad_key_file"),
            _ => (ErrorKind::Unavailable, "firestore.bad_key_file"),
        };
        Error::new(kind, code, format!("`{}` cannot be read", path.display())).with_cause(error)
    };
    // Opening a pipe would wait for whoever writes into it.
    let data = std::fs::metadata(path).map_err(|error| unreadable(&error))?;
    if !data.is_file() || data.len() > BYTES_MAX {
        return Err(bad(path, "is no key file"));
    }
    let file = File::open(path).map_err(|error| unreadable(&error))?;
    let data = file.metadata().map_err(|error| unreadable(&error))?;
    let mut text = Vec::new();
    file.take(BYTES_MAX)
        .read_to_end(&mut text)
        .map_err(|error| unreadable(&error))?;
    let json: Value = serde_json::from_slice(&text).map_err(|_| bad(path, "is not JSON"))?;
    // That of an external account says where to ask and holds no secret.
    if json.get("type").and_then(Value::as_str) != Some("external_account") {
        refuse_loose(path, &data)?;
    }
    Ok(json)
}

#[cfg(unix)]
fn refuse_loose(path: &Path, data: &std::fs::Metadata) -> Result<()> {
    use std::os::unix::fs::MetadataExt as _;

    if data.mode() & 0o077 == 0 {
        return Ok(());
    }
    Err(Error::config(
        "firestore.loose_key_file",
        format!("`{}` may be read or written by others", path.display()),
    )
    .with_help(format!("take their rights away: `chmod 600 {}`", path.display())))
}

#[cfg(not(unix))]
fn refuse_loose(_: &Path, _: &std::fs::Metadata) -> Result<()> {
    Ok(())
}
