//! The plugin's part of the job file, and the path that its `url` means.
//!
//! The doc comments of the fields are the table in the README. Neighbour: `client`, which opens the file.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use whimbrel_plugin_api::{Error, Result};

/// How long to wait for a lock of another process unless the job says otherwise, in milliseconds.
const BUSY_TIMEOUT_MS: u32 = 5_000;

/// Where the database is and how it is written.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TursoConfig {
    /// The database file: `file:` and a path, or a plain path. In a `file:` URL `%20` and the like are decoded. The sink
    /// creates a file that does not exist.
    pub url: String,
    /// Stands before the name of every table: the sink adds it, the source reads only tables that have it and takes
    /// it away.
    #[serde(default)]
    pub table_prefix: String,
    /// How long to wait while another process holds the database, in milliseconds.
    #[serde(default = "busy_timeout_ms")]
    #[schemars(range(max = 600_000))]
    pub busy_timeout_ms: u32,
    /// When a commit of the sink counts as durable.
    #[serde(default)]
    pub synchronous: Synchronous,
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

const fn busy_timeout_ms() -> u32 {
    BUSY_TIMEOUT_MS
}

impl TursoConfig {
    /// The file that `url` names.
    ///
    /// # Errors
    /// `turso.remote_unsupported` for a URL of a server, `turso.bad_url` for any other text that names no file. The text
    /// itself is not repeated, since it may hold a token.
    pub fn path(&self) -> Result<PathBuf> {
        let path = match self.url.split_once(':') {
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("file") => decoded(authority_removed(rest)?)?,
            Some((scheme, rest)) if rest.starts_with("//") => return Err(not_a_file(scheme)),
            _ => self.url.clone(),
        };
        if path.is_empty() || path == ":memory:" || path.contains('\0') {
            return Err(bad_url("`url` names no file"));
        }
        let path = PathBuf::from(path);
        // The library reads every name that begins with `file:` as a URL once more.
        Ok(if path.starts_with(".") || path.is_absolute() {
            path
        } else {
            PathBuf::from(".").join(path)
        })
    }
}

fn not_a_file(scheme: &str) -> Error {
    if ["libsql", "http", "https", "ws", "wss"]
        .iter()
        .any(|remote| scheme.eq_ignore_ascii_case(remote))
    {
        Error::config(
            "turso.remote_unsupported",
            format!(
                "`url` names a server (`{}:`), and this version reaches local files only",
                scheme.to_lowercase()
            ),
        )
        .with_help("use `file:` and a path; remote databases come with a later version")
        .with_place("config.url")
    } else {
        bad_url("`url` has a scheme that is not known (valid: `file:`, or a plain path)")
    }
}

fn bad_url(message: &str) -> Error {
    Error::config("turso.bad_url", message)
        .with_help("use `file:` and a path, such as `file:app.db`")
        .with_place("config.url")
}

/// `//host/path` without its host, which may only be this one.
fn authority_removed(rest: &str) -> Result<&str> {
    let Some(rest) = rest.strip_prefix("//") else {
        return Ok(rest);
    };
    match rest.find('/') {
        Some(slash) if slash == 0 || rest[..slash].eq_ignore_ascii_case("localhost") => Ok(&rest[slash..]),
        _ => Err(bad_url(
            "`url` is a `file:` URL with a host (valid: none, or `localhost`)",
        )),
    }
}

/// Decodes `%20` and the like; parameters and fragments are refused.
fn decoded(path: &str) -> Result<String> {
    let mut octets = Vec::with_capacity(path.len());
    let mut rest = path.bytes();
    while let Some(octet) = rest.next() {
        octets.push(match octet {
            b'?' | b'#' => return Err(bad_url("`url` has parameters, which are not supported")),
            b'%' => {
                let mut digit = || rest.next().and_then(|digit| (digit as char).to_digit(16));
                match (digit(), digit()) {
                    (Some(high), Some(low)) => (high * 16 + low) as u8,
                    _ => {
                        return Err(bad_url(
                            "`url` has a `%` without two hexadecimal digits behind it",
                        ));
                    }
                }
            }
            octet => octet,
        });
    }
    String::from_utf8(octets).map_err(|_| bad_url("`url` is not UTF-8 once it is decoded"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(url: &str) -> Result<PathBuf> {
        let config: TursoConfig = serde_json::from_value(serde_json::json!({ "url": url })).unwrap();
        config.path()
    }

    #[test]
    fn urls_and_paths_name_the_same_file() {
        for (url, wanted) in [
            ("file:app.db", "./app.db"),
            ("FILE:app.db", "./app.db"),
            ("app.db", "./app.db"),
            ("./app.db", "./app.db"),
            ("file:/tmp/app.db", "/tmp/app.db"),
            ("file:///tmp/my%20app.db", "/tmp/my app.db"),
            ("file://localhost/tmp/app.db", "/tmp/app.db"),
            ("file:file:x", "./file:x"),
            ("/tmp/100%.db", "/tmp/100%.db"),
            ("a:b.db", "./a:b.db"),
        ] {
            assert_eq!(path(url).unwrap(), PathBuf::from(wanted), "{url}");
        }
    }

    #[test]
    fn servers_are_refused_without_repeating_the_url() {
        for url in [
            "libsql://a-b.turso.io?authToken=geheim",
            "https://x/geheim",
            "http://x/geheim",
            "WSS://geheim",
        ] {
            let error = path(url).unwrap_err();
            assert_eq!(
                (error.code.as_str(), error.place.as_deref()),
                ("turso.remote_unsupported", Some("config.url"))
            );
            assert!(!format!("{error:?}").contains("geheim"), "{error:?}");
        }
    }

    #[test]
    fn what_names_no_file_is_refused() {
        for url in [
            "",
            ":memory:",
            "file:",
            "file:a?mode=ro",
            "file:a%zz",
            "file://host/a",
            "ftp://x/a",
            "file:a%00",
            "file:%ff",
        ] {
            assert_eq!(path(url).unwrap_err().code, "turso.bad_url", "{url}");
        }
    }

    #[test]
    fn unknown_keys_are_refused() {
        let json = serde_json::json!({ "url": "a.db", "urll": 1 });
        assert_eq!(
            whimbrel_plugin_api::config::parse::<TursoConfig>(json)
                .unwrap_err()
                .code,
            "config.invalid"
        );
    }
}
