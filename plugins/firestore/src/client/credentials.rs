//! As whom the service is asked: nobody (an emulator), a key file, or the application default credentials.
//!
//! The default ones are the file that `gcloud auth application-default login` writes, then the metadata server of a machine
//! of Google Cloud. Tokens are made and renewed by google-cloud-auth; what is wrong with a file is said on opening, what is
//! wrong with a token endpoint by the first request. `key_file` reads files, `metadata` asks for the project.

mod key_file;
mod metadata;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use gcloud_sdk::GoogleAuthHeaders;
use gcloud_sdk::error::ErrorKind as SdkErrorKind;
use gcloud_sdk::google_cloud_auth::credentials::{anonymous, mds};
use gcloud_sdk::google_cloud_auth::errors::CredentialsError;
use gcloud_sdk::tonic::Status;
use whimbrel_plugin_api::{Error, ErrorKind, Result};

use crate::config::FirestoreConfig;
use crate::error::Fault;

/// The longest that the metadata server is waited for: it answers at once where there is one, and elsewhere nobody does.
const METADATA_WAIT_MAX: Duration = Duration::from_secs(5);

/// Headers that say who asks, and the project that the credentials name.
#[derive(Debug)]
pub(super) struct Identity {
    pub(super) headers: Arc<GoogleAuthHeaders>,
    pub(super) project: Option<String>,
}

/// Where the default credentials are looked for.
struct Surroundings {
    /// The folder of the person who runs this.
    home: Option<PathBuf>,
    /// The metadata server; `None` for the usual one.
    metadata_url: Option<String>,
}

/// Finds the credentials for `config`.
///
/// # Errors
/// `firestore.no_credentials`, `firestore.no_key_file`, `firestore.loose_key_file`, `firestore.bad_key_file`, `firestore.no_token`;
/// `firestore.bad_host`, `firestore.two_places`.
pub(super) async fn find(config: &FirestoreConfig) -> Result<Identity> {
    let surroundings = Surroundings {
        home: std::env::var_os("HOME").map(PathBuf::from),
        metadata_url: None,
    };
    find_in(config, surroundings).await
}

async fn find_in(config: &FirestoreConfig, surroundings: Surroundings) -> Result<Identity> {
    use_ring();
    if config.host()?.is_some() {
        return Ok(Identity {
            headers: Arc::new(anonymous::Builder::new().build().into()),
            project: None,
        });
    }
    if let Some(path) = &config.credentials_file {
        return of_file(path, config)
            .await
            .map_err(|error| error.with_place("config.credentials_file"));
    }
    let default_file = surroundings
        .home
        .map(|home| home.join(".config/gcloud/application_default_credentials.json"));
    match default_file {
        Some(path) if path.exists() => of_file(&path, config).await,
        _ => of_metadata_server(config, surroundings.metadata_url).await,
    }
}

/// The process may hold two implementations of cryptography, so rustls asks which one is meant; also keys sign with it.
fn use_ring() {
    // An error says that somebody has chosen already, which is as good.
    drop(rustls::crypto::ring::default_provider().install_default());
}

async fn of_file(path: &std::path::Path, config: &FirestoreConfig) -> Result<Identity> {
    let found = key_file::read(path)?;
    let headers = Arc::new(GoogleAuthHeaders::from(found.credentials));
    let first = first_token(&headers, config.connect_timeout()).await;
    match first {
        Err(NoToken::Refused(_)) if found.signs => {
            Err(key_file::bad(path, "holds a private key that cannot be used"))
        }
        Err(NoToken::Refused(error)) if !error.is_transient() => {
            Err(Fault::from(Status::from_error(Box::new(error))).into())
        }
        // Whoever gives tokens may be back for the first request, which says so if not.
        Ok(()) | Err(_) => Ok(Identity {
            headers,
            project: found.project,
        }),
    }
}

async fn of_metadata_server(config: &FirestoreConfig, url: Option<String>) -> Result<Identity> {
    let mut builder = mds::Builder::default();
    if let Some(url) = &url {
        builder = builder.with_endpoint(url);
    }
    let missing = || {
        Error::new(
            ErrorKind::Unauthenticated,
            "firestore.no_credentials",
            "no credentials are given, and none are found on this machine",
        )
        .with_help(
            "name a key file as `credentials_file` (or in `GOOGLE_APPLICATION_CREDENTIALS`), or run `gcloud auth \
             application-default login`, or run on a machine of Google Cloud with a service account; for an emulator say \
             `host` (or set `FIRESTORE_EMULATOR_HOST`)",
        )
        .with_place("config.credentials_file")
    };
    let credentials = builder.build().map_err(|error| missing().with_cause(&error))?;
    let headers = Arc::new(GoogleAuthHeaders::from(credentials));
    let wait_max = config.connect_timeout().min(METADATA_WAIT_MAX);
    match first_token(&headers, wait_max).await {
        Ok(()) => Ok(Identity {
            headers,
            project: match config.project {
                Some(_) => None,
                None => metadata::project(url, wait_max).await,
            },
        }),
        Err(NoToken::Refused(error)) => Err(missing().with_cause(&error)),
        Err(NoToken::Silent) => Err(missing()),
    }
}

/// Why there is no token.
enum NoToken {
    /// Somebody said why.
    Refused(CredentialsError),
    /// Nobody answered in time.
    Silent,
}

/// Waits for the first token, so that what is wrong is known before anything else begins.
async fn first_token(headers: &Arc<GoogleAuthHeaders>, wait_max: Duration) -> Result<(), NoToken> {
    let asked = Arc::clone(headers);
    // A task of its own: google-cloud-auth panics where the machine has no certificates at all.
    let asking = tokio::spawn(async move { asked.headers().await.map(|_| ()) });
    match tokio::time::timeout(wait_max, asking).await {
        Ok(Ok(Ok(()))) => Ok(()),
        Ok(Ok(Err(error))) => Err(NoToken::Refused(match error.into_kind() {
            SdkErrorKind::Credentials(error) => error,
            other => CredentialsError::from_msg(false, format!("{other:?}")),
        })),
        Ok(Err(panicked)) => Err(NoToken::Refused(CredentialsError::from_source(false, panicked))),
        Err(_) => Err(NoToken::Silent),
    }
}

#[cfg(test)]
mod tests;
