//! The connection: a channel to the service over TLS, or to an emulator in plain text.
//!
//! Nothing is connected before the first request, and a lost connection is made anew by the next one, so a dead port is
//! an answer to a request (`UNAVAILABLE`) and not to opening. As whom is asked is in `credentials`.

use std::sync::Arc;
use std::time::Duration;

use gcloud_sdk::google::firestore::admin::v1::firestore_admin_client::FirestoreAdminClient;
use gcloud_sdk::google::firestore::v1::firestore_client::FirestoreClient;
use gcloud_sdk::tonic::transport::{Channel, ClientTlsConfig, Endpoint};
use gcloud_sdk::{GoogleAuthHeaders, GoogleAuthMiddleware, HeaderMap};
use whimbrel_plugin_api::{Error, Result};

use crate::config::FirestoreConfig;
use crate::path::Root;

/// The generated clients over a channel of ours.
#[derive(Clone)]
pub(super) struct Service {
    /// Documents.
    pub(super) documents: FirestoreClient<GoogleAuthMiddleware>,
    /// The database as a whole; only what it is is asked.
    pub(super) admin: FirestoreAdminClient<GoogleAuthMiddleware>,
}

/// The service itself.
const SERVICE_URL: &str = "https://firestore.googleapis.com";
/// Who asks, for the service's logs.
const USER_AGENT: &str = concat!("whimbrel/", env!("CARGO_PKG_VERSION"));
/// The largest message that is read or sent. tonic reads 4 MiB unless told otherwise; a document of 1 MiB with its name and
/// types, many times over, fits here.
const MESSAGE_BYTES_MAX: usize = 64 * 1024 * 1024;
/// How much one answer may send ahead of its reader: enough to keep a wide connection busy over 100 ms.
const STREAM_WINDOW_BYTES: u32 = 2 * 1024 * 1024;
/// How much all answers of a connection may send ahead of their readers: more than all of them together, since a connection
/// that is full with answers which nobody reads yet would hold up all others.
const CONNECTION_WINDOW_BYTES: u32 = 256 * 1024 * 1024;
/// Requests are as large as 10 MB: larger frames mean fewer of them. The smallest that HTTP/2 allows is 16 KiB.
const FRAME_BYTES_MAX: u32 = 256 * 1024;
/// How often a connection is asked whether it still lives, at most and at least. The service does not like it more often.
const PING_INTERVAL_MAX: Duration = Duration::from_secs(30);
const PING_INTERVAL_MIN: Duration = Duration::from_secs(1);

/// A client for the database at `root`.
///
/// # Errors
/// `firestore.bad_host` for what is no `host:port`, `firestore.client` if the client cannot be built.
pub(super) fn service(
    config: &FirestoreConfig,
    root: &Root,
    headers: Arc<GoogleAuthHeaders>,
) -> Result<Service> {
    let defect =
        |what: &dyn std::error::Error| Error::internal("the client could not be built").with_cause(what);
    let host = config.host()?;
    let channel = connect(config, host.as_deref())?;
    let mut middleware = GoogleAuthMiddleware::new(channel, headers, Some(root.database().to_owned()))
        .map_err(|error| defect(&error))?;
    let mut additional = HeaderMap::new();
    let routing = routing(root).parse().map_err(|error| defect(&error))?;
    additional.insert("x-goog-request-params", routing);
    if host.is_some() {
        // An emulator takes this for the owner, to whom no rules apply.
        let owner = "Bearer owner".parse().map_err(|error| defect(&error))?;
        additional.insert("authorization", owner);
    }
    middleware.set_additional_headers(additional);
    middleware
        .append_user_agent(USER_AGENT.to_owned())
        .map_err(|error| defect(&error))?;
    Ok(Service {
        admin: FirestoreAdminClient::new(middleware.clone()),
        documents: FirestoreClient::new(middleware)
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX),
    })
}

fn connect(config: &FirestoreConfig, host: Option<&str>) -> Result<Channel> {
    let url = host.map_or_else(|| SERVICE_URL.to_owned(), |host| format!("http://{host}"));
    let request_timeout = config.request_timeout();
    // A connection that nobody answers on is noticed before the request on it runs out of time.
    let ping_interval = (request_timeout / 2).clamp(PING_INTERVAL_MIN, PING_INTERVAL_MAX);
    let endpoint = Endpoint::from_shared(url)
        .map_err(|error| Error::internal("the address could not be read").with_cause(&error))?
        .connect_timeout(config.connect_timeout())
        .tcp_nodelay(true)
        .http2_keep_alive_interval(ping_interval)
        .keep_alive_timeout(ping_interval / 2)
        // An emulator closes connections that are asked while nothing is under way.
        .keep_alive_while_idle(host.is_none())
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_frame_size(FRAME_BYTES_MAX);
    let endpoint = if host.is_none() {
        endpoint
            .tls_config(ClientTlsConfig::new().with_webpki_roots())
            .map_err(|error| Error::internal("TLS could not be set up").with_cause(&error))?
    } else {
        endpoint
    };
    Ok(endpoint.connect_lazy())
}

/// What the service finds the place of a database by: `project_id=p&database_id=d`, percent-encoded.
fn routing(root: &Root) -> String {
    let mut parts = root.database().split('/').skip(1).step_by(2).map(|part| {
        // Names hold nothing else that has a meaning here.
        part.replace('(', "%28").replace(')', "%29").replace(':', "%3A")
    });
    let project = parts.next().unwrap_or_default();
    let database = parts.next().unwrap_or_default();
    format!("project_id={project}&database_id={database}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_says_where_its_database_is() {
        assert_eq!(
            routing(&Root::new("example.com:p-1", "(default)")),
            "project_id=example.com%3Ap-1&database_id=%28default%29"
        );
    }
}
