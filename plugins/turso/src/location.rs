//! What the `url` of a config names: a file, or a server and how it is spoken to.
//!
//! The text itself is never repeated in a message, since somebody may have put a token there. Neighbour: `config`.

use std::net::IpAddr;
use std::path::PathBuf;

use ureq::http::Uri;
use whimbrel_plugin_api::{Error, Result};

/// Where the database is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Location {
    /// A file.
    File(PathBuf),
    /// A server.
    Server(Server),
}

/// A server, as far as its URL tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Server {
    /// `https://host:port/path` or the same with `http`, without a slash at the end.
    pub(crate) base: String,
    /// Host and port, for messages.
    pub(crate) name: String,
    pub(crate) is_loopback: bool,
}

impl Location {
    /// What `url` names.
    pub(crate) fn of(url: &str, allow_plain_http: bool) -> Result<Self> {
        let path = match url.split_once(':') {
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("file") => decoded(authority_removed(rest)?)?,
            Some((scheme, rest)) if rest.starts_with("//") => {
                return Server::of(scheme, rest, allow_plain_http).map(Self::Server);
            }
            _ => url.to_owned(),
        };
        if path.is_empty() || path == ":memory:" || path.contains('\0') {
            return Err(bad_url("`url` names no file"));
        }
        let path = PathBuf::from(path);
        // The library reads every name that begins with `file:` as a URL once more.
        Ok(Self::File(if path.starts_with(".") || path.is_absolute() {
            path
        } else {
            PathBuf::from(".").join(path)
        }))
    }
}

impl Server {
    fn of(scheme: &str, rest: &str, allow_plain_http: bool) -> Result<Self> {
        let scheme = match scheme.to_ascii_lowercase().as_str() {
            "libsql" | "https" => "https",
            "http" => "http",
            _ => {
                return Err(bad_url(
                    "`url` has a scheme that is not known (valid: `file:`, `libsql:`, `https:`, `http:`, or a plain path)",
                ));
            }
        };
        let uri: Uri = format!("{scheme}:{rest}")
            .parse()
            .map_err(|_| bad_url("`url` is no URL of a server"))?;
        let (Some(host), Some(authority)) = (uri.host().filter(|host| !host.is_empty()), uri.authority())
        else {
            return Err(bad_url("`url` names no server"));
        };
        if authority.as_str().contains('@') {
            return Err(bad_url(
                "`url` holds a name or a password, which does not belong there",
            ));
        }
        if uri.query().is_some() || rest.contains('#') {
            return Err(bad_url("`url` has parameters, which are not supported"));
        }
        let is_loopback = is_loopback(host);
        if scheme == "http" && !is_loopback && !allow_plain_http {
            let message =
                "`url` is `http:` to another machine, where others can read the token and the records";
            return Err(Error::config("turso.plain_http", message)
                .with_help("use `libsql:` or `https:`, or set `allow_plain_http: true`")
                .with_place("config.url"));
        }
        Ok(Self {
            base: format!("{scheme}://{authority}{}", uri.path().trim_end_matches('/')),
            name: authority.to_string(),
            is_loopback,
        })
    }
}

fn is_loopback(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost")
        || address
            .parse::<IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

fn bad_url(message: &str) -> Error {
    Error::config("turso.bad_url", message)
        .with_help(
            "use `file:` and a path, such as `file:app.db`, or `libsql://` and a host, with the token in `auth_token`",
        )
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
            assert_eq!(
                Location::of(url, false).unwrap(),
                Location::File(wanted.into()),
                "{url}"
            );
        }
    }

    #[test]
    fn servers_are_spoken_to_over_tls_unless_they_are_here() {
        for (url, base) in [
            ("libsql://a-b.turso.io", "https://a-b.turso.io"),
            ("LIBSQL://db.example.org:8443/", "https://db.example.org:8443"),
            ("https://example.org/db/one/", "https://example.org/db/one"),
            ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
            ("http://localhost", "http://localhost"),
            ("http://[::1]:80", "http://[::1]:80"),
        ] {
            let Location::Server(server) = Location::of(url, false).unwrap() else {
                panic!("{url} is no server")
            };
            assert_eq!(server.base, base, "{url}");
        }
        let error = Location::of("http://db.example.org", false).unwrap_err();
        assert_eq!(
            (error.code.as_str(), error.place.as_deref()),
            ("turso.plain_http", Some("config.url"))
        );
        assert_eq!(
            Location::of("http://127.0.0.1.example.org", false)
                .unwrap_err()
                .code,
            "turso.plain_http"
        );
        assert!(Location::of("http://db.example.org", true).is_ok());
    }

    #[test]
    fn what_names_nothing_is_refused_without_repeating_it() {
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
            "wss://geheim",
            "libsql://",
            "libsql:///db",
            "libsql://a b",
            "libsql://user:geheim@host",
            "libsql://host?authToken=geheim",
            "libsql://host#geheim",
        ] {
            let error = Location::of(url, false).unwrap_err();
            assert_eq!(error.code, "turso.bad_url", "{url}");
            assert!(!format!("{error:?}").contains("geheim"), "{error:?}");
        }
    }
}
