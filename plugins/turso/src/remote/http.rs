//! Carries requests to the server and answers back: TLS, token, time-outs, cancellation, and what a failure means.
//!
//! A request runs on a thread of its own, so that the caller can leave it when the host cancels; connections are
//! reused. Neither token nor URL appears in an error.

use std::io;
use std::path::Path;
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

use prost::bytes::Bytes;
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::{Agent, Timeout};
use whimbrel_plugin_api::{Error, ErrorKind, Result, Services};

use super::fault::Failure;
use crate::config::{AuthToken, Server, TursoConfig};

/// The longest answer that is read. The server's own limit is 10 MB unless its operator raised it.
const RESPONSE_BYTES_MAX: u64 = 256 * 1024 * 1024;
/// How long a pause between two looks at whether the host has cancelled is.
const CANCEL_INTERVAL: Duration = Duration::from_millis(50);
/// How long a last request, which undoes what was begun, may take once the host has cancelled.
const PARTING_TIMEOUT: Duration = Duration::from_secs(2);

/// The way to one server.
#[derive(Clone)]
pub(super) struct Http {
    agent: Agent,
    server: Server,
    token: Option<AuthToken>,
    services: Services,
    timeout: Duration,
}

impl Http {
    /// A way to the server that the config names. Nothing is sent yet.
    pub(super) fn new(config: &TursoConfig, server: &Server, services: &Services) -> Result<Self> {
        let roots = match &config.tls.ca_file {
            Some(path) => authorities(path)?,
            None => RootCerts::WebPki,
        };
        let timeout = Duration::from_millis(config.request_timeout_ms.into());
        let mut settings = Agent::config_builder()
            .http_status_as_error(false)
            // A redirected request would take the token along.
            .max_redirects(0)
            .max_redirects_will_error(false)
            .no_delay(true)
            .timeout_connect(Some(Duration::from_millis(config.connect_timeout_ms.into())))
            .timeout_global(Some(timeout))
            .tls_config(TlsConfig::builder().root_certs(roots).build())
            .user_agent(concat!("whimbrel-turso/", env!("CARGO_PKG_VERSION")));
        if server.is_loopback {
            settings = settings.proxy(None);
        }
        Ok(Self {
            agent: settings.build().new_agent(),
            server: server.clone(),
            token: config.auth_token.clone(),
            services: services.clone(),
            timeout,
        })
    }

    /// Host and port, for messages.
    pub(super) fn server_name(&self) -> &str {
        &self.server.name
    }

    /// The beginning of the server's URLs.
    pub(super) fn base(&self) -> &str {
        &self.server.base
    }

    /// The host, as the plugin sees it.
    pub(super) fn services(&self) -> &Services {
        &self.services
    }

    /// Sends `body` to `path` below `base`, and waits until there is an answer or the host cancels.
    pub(super) fn post(&self, base: &str, path: &str, body: Vec<u8>) -> Result<Bytes, Failure> {
        self.services.check_cancelled().map_err(Failure::before)?;
        self.send(base, path, Some(body), self.timeout, true)
    }

    /// As [`Self::post`], also after the host has cancelled, but not for long.
    pub(super) fn post_parting(&self, base: &str, path: &str, body: Vec<u8>) -> Result<Bytes, Failure> {
        self.send(base, path, Some(body), PARTING_TIMEOUT.min(self.timeout), false)
    }

    /// Asks for `path`.
    pub(super) fn get(&self, path: &str) -> Result<Bytes, Failure> {
        self.services.check_cancelled().map_err(Failure::before)?;
        self.send(&self.server.base, path, None, self.timeout, true)
    }

    fn send(
        &self,
        base: &str,
        path: &str,
        body: Option<Vec<u8>>,
        timeout: Duration,
        may_be_cancelled: bool,
    ) -> Result<Bytes, Failure> {
        let (answer, answered) = sync_channel(1);
        let (http, url) = (self.clone(), format!("{base}{path}"));
        let started = std::thread::Builder::new()
            .name("whimbrel-turso-http".to_owned())
            .spawn(move || {
                // Whoever asked may be gone; then nobody wants the answer.
                drop(answer.send(http.exchange(&url, body.as_deref(), timeout)));
            });
        if let Err(cause) = started {
            let message = "no thread could be started for a request";
            let error = Error::new(ErrorKind::Unavailable, "turso.no_thread", message).with_cause(&cause);
            return Err(Failure::before(error));
        }
        // The client's own time-out comes first; this one is for a client that hangs.
        let deadline = Instant::now() + timeout + PARTING_TIMEOUT;
        loop {
            match answered.recv_timeout(CANCEL_INTERVAL) {
                Ok(outcome) => return outcome,
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(Failure::unknown(Error::internal(
                        "a request ended without an outcome",
                    )));
                }
                Err(RecvTimeoutError::Timeout)
                    if may_be_cancelled && self.services.cancel_token().is_cancelled() =>
                {
                    return Err(Failure::unknown(Error::cancelled()));
                }
                Err(RecvTimeoutError::Timeout) if Instant::now() > deadline => {
                    return Err(Failure::unknown(self.timed_out()));
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }

    fn exchange(&self, url: &str, body: Option<&[u8]>, timeout: Duration) -> Result<Bytes, Failure> {
        let authorization = self
            .token
            .as_ref()
            .map(|token| format!("Bearer {}", token.reveal()));
        let outcome = match body {
            Some(body) => {
                let mut request = self.agent.post(url).content_type("application/x-protobuf");
                if let Some(authorization) = &authorization {
                    request = request.header("Authorization", authorization);
                }
                request.config().timeout_global(Some(timeout)).build().send(body)
            }
            None => {
                let mut request = self.agent.get(url);
                if let Some(authorization) = &authorization {
                    request = request.header("Authorization", authorization);
                }
                request.config().timeout_global(Some(timeout)).build().call()
            }
        };
        let mut response = outcome.map_err(|error| self.failure(&error))?;
        let status = response.status().as_u16();
        let retry_after_ms = response
            .headers()
            .get("retry-after")
            .and_then(|value| value.to_str().ok()?.parse::<u64>().ok())
            .map(|seconds| seconds.saturating_mul(1_000));
        let content = response
            .body_mut()
            .with_config()
            .limit(RESPONSE_BYTES_MAX)
            .read_to_vec();
        let content = content.map_err(|error| self.failure(&error))?;
        if (200..300).contains(&status) {
            return Ok(content.into());
        }
        Err(Failure::of_status(
            self.server_name(),
            status,
            &content,
            retry_after_ms,
        ))
    }

    fn timed_out(&self) -> Error {
        let message = format!("the server `{}` did not answer in time", self.server.name);
        Error::new(ErrorKind::Timeout, "turso.timeout", message)
            .with_help("look at the server's load, or raise `request_timeout_ms`")
    }

    /// What a failure below HTTP means. Those while connecting are certain to have changed nothing.
    fn failure(&self, error: &ureq::Error) -> Failure {
        let name = &self.server.name;
        let make = |kind, code, what: &str| Error::new(kind, code, format!("the server `{name}` {what}"));
        let unreachable = |what: &str| {
            make(ErrorKind::Unavailable, "turso.unreachable", what)
                .with_help("correct `url`, or start the server")
                .with_place("config.url")
        };
        let tls = || {
            make(
                ErrorKind::Unauthenticated,
                "turso.tls",
                "does not prove by a trusted certificate who it is",
            )
            .with_help("correct `url`, or name the server's certificate authority in `tls.ca_file`")
            .with_cause(error)
        };
        match error {
            ureq::Error::HostNotFound => {
                Failure::before(unreachable("is not known: its name has no address"))
            }
            ureq::Error::Timeout(Timeout::Connect | Timeout::Resolve) => Failure::before(
                make(
                    ErrorKind::Timeout,
                    "turso.timeout",
                    "does not accept a connection in time",
                )
                .with_help("correct `url`, or raise `connect_timeout_ms`"),
            ),
            ureq::Error::Timeout(_) => Failure::unknown(self.timed_out()),
            ureq::Error::ConnectionFailed => Failure::before(unreachable("cannot be reached")),
            ureq::Error::Tls(_) | ureq::Error::Rustls(_) => Failure::before(tls()),
            ureq::Error::Io(cause) if cause.kind() == io::ErrorKind::ConnectionRefused => {
                Failure::before(unreachable("refuses the connection"))
            }
            ureq::Error::Io(cause)
                if matches!(
                    cause.kind(),
                    io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable
                ) =>
            {
                Failure::before(unreachable("cannot be reached"))
            }
            // The standard library has no kind for this.
            ureq::Error::Io(cause) if cause.to_string().starts_with("failed to lookup address") => {
                Failure::before(unreachable("is not known: its name has no address"))
            }
            // This is how the TLS layer says that it does not like what it sees.
            ureq::Error::Io(cause) if cause.kind() == io::ErrorKind::InvalidData => Failure::before(tls()),
            ureq::Error::Io(cause) if cause.kind() == io::ErrorKind::TimedOut => {
                Failure::unknown(self.timed_out())
            }
            ureq::Error::Protocol(_) => Failure::unknown(
                make(
                    ErrorKind::Unavailable,
                    "turso.not_libsql",
                    "does not answer as an HTTP server does",
                )
                .with_help("correct `url`"),
            ),
            other => Failure::unknown(
                make(
                    ErrorKind::Unavailable,
                    "turso.connection_lost",
                    "was lost while it was spoken to",
                )
                .with_cause(other),
            ),
        }
    }
}

/// The certificates of a file.
pub(crate) fn authorities(path: &Path) -> Result<RootCerts> {
    let bad = |what: &str| {
        Error::config(
            "turso.bad_ca_file",
            format!("the file `{}` {what}", path.display()),
        )
        .with_help("name a file with certificates in PEM form")
        .with_place("config.tls.ca_file")
    };
    let text = std::fs::read(path).map_err(|cause| bad("cannot be read").with_cause(&cause))?;
    let mut certificates: Vec<Certificate<'static>> = Vec::new();
    for item in parse_pem(&text) {
        match item.map_err(|_| bad("is not in PEM form"))? {
            PemItem::Certificate(certificate) => certificates.push(certificate),
            _ => return Err(bad("holds something that is no certificate")),
        }
    }
    if certificates.is_empty() {
        return Err(bad("holds no certificate"));
    }
    Ok(RootCerts::new_with_certs(&certificates))
}
