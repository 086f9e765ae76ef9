//! The plugin's part of the job file. The doc comments of the fields are the table in the README.
//!
//! What `url` means is in `location`; `client` opens it.

use std::fmt;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use whimbrel_plugin_api::Result;

pub(crate) use crate::location::{Location, Server};

/// How long to wait for a lock of another process unless the job says otherwise, in milliseconds.
const BUSY_TIMEOUT_MS: u32 = 5_000;
/// How long a server may take to accept a connection, in milliseconds.
const CONNECT_TIMEOUT_MS: u32 = 10_000;
/// How long a server may take to answer, in milliseconds: several times the 5 s for which another writer may hold it.
const REQUEST_TIMEOUT_MS: u32 = 60_000;

/// Where the database is and how it is written.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TursoConfig {
    /// The database. A file: `file:` and a path, or a plain path; in a `file:` URL `%20` and the like are decoded, and
    /// the sink creates a file that does not exist. A server: `libsql://host`, `https://host`, or `http://host` (see
    /// `allow_plain_http`), with a port or a path if need be. Left out: what `TURSO_DATABASE_URL` says.
    #[schemars(extend("x-whimbrel-env" = "TURSO_DATABASE_URL", "x-whimbrel-place" = true))]
    pub url: String,
    /// The token for a server, a JWT. Left out: what `TURSO_AUTH_TOKEN` says; a server may ask for none.
    #[serde(default)]
    #[schemars(extend("x-whimbrel-env" = "TURSO_AUTH_TOKEN", "writeOnly" = true))]
    pub auth_token: Option<AuthToken>,
    /// How the server proves who it is.
    #[serde(default)]
    pub tls: Tls,
    /// Whether `http://` may be used for servers on other machines, where everybody on the way reads the token and the
    /// records. Servers on this machine need no permission.
    #[serde(default)]
    pub allow_plain_http: bool,
    /// Stands before the name of every table: the sink adds it, the source reads only tables that have it and takes
    /// it away.
    #[serde(default)]
    #[schemars(extend("x-whimbrel-place" = true))]
    pub table_prefix: String,
    /// What becomes of fields that a record does not have, as far as the source tells them from null.
    #[serde(default)]
    pub absent: Absent,
    /// How long to wait while another process holds the database, in milliseconds.
    #[serde(default = "busy_timeout_ms")]
    #[schemars(range(max = 600_000))]
    pub busy_timeout_ms: u32,
    /// How long a server may take to accept a connection, in milliseconds.
    #[serde(default = "connect_timeout_ms")]
    #[schemars(range(min = 1, max = 600_000))]
    pub connect_timeout_ms: u32,
    /// How long a server may take to answer a request, in milliseconds.
    #[serde(default = "request_timeout_ms")]
    #[schemars(range(min = 1, max = 3_600_000))]
    pub request_timeout_ms: u32,
    /// When a commit of the sink to a file counts as durable; a server decides for itself.
    #[serde(default)]
    pub synchronous: Synchronous,
}

/// How a server proves who it is.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// A file of PEM certificates: the server must prove itself by one of these authorities, and no longer by the public
    /// ones.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
}

/// When a commit counts as durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Synchronous {
    /// once the disk has it: a power failure loses no commit.
    #[default]
    Full,
    /// once the operating system has it: a power failure may lose the last commits, though never part of one.
    Normal,
}

/// What becomes of fields that a record does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Absent {
    /// they are listed in `_whimbrel_rest`, a column that new tables get for this if the source tells absent from null.
    #[default]
    Keep,
    /// they become null, and no table gets a column for it.
    Null,
}

/// A token. Never shown.
#[derive(Clone, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct AuthToken(String);

impl AuthToken {
    /// The token itself, for the one header that needs it.
    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for AuthToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<secret>")
    }
}

impl TursoConfig {
    /// What `url` names.
    ///
    /// # Errors
    /// `turso.bad_url` for a text that names neither a file nor a server, `turso.plain_http` for an unprotected one that was not
    /// allowed. The text itself is not repeated, since it may hold a token.
    pub(crate) fn location(&self) -> Result<Location> {
        Location::of(&self.url, self.allow_plain_http)
    }
}

const fn busy_timeout_ms() -> u32 {
    BUSY_TIMEOUT_MS
}

const fn connect_timeout_ms() -> u32 {
    CONNECT_TIMEOUT_MS
}

const fn request_timeout_ms() -> u32 {
    REQUEST_TIMEOUT_MS
}

#[cfg(test)]
mod tests {
    use super::*;
    use whimbrel_plugin_api::config::parse;

    #[test]
    fn unknown_keys_are_refused() {
        for json in [
            serde_json::json!({ "url": "a.db", "urll": 1 }),
            serde_json::json!({ "url": "a.db", "tls": { "verify": false } }),
        ] {
            assert_eq!(parse::<TursoConfig>(json).unwrap_err().code, "config.invalid");
        }
    }

    #[test]
    fn the_token_is_not_shown() {
        let json = serde_json::json!({ "url": "libsql://db.example.org", "auth_token": "geheim" });
        let config = parse::<TursoConfig>(json).unwrap();
        assert_eq!(config.auth_token.as_ref().unwrap().reveal(), "geheim");
        assert!(!format!("{config:?}").contains("geheim"));
    }
}
