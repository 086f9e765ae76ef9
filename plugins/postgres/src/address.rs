//! A database: host, port, name, user and password, and the URL that says so.
//!
//! Parsed here rather than by the driver, which fills what is missing from variables such as `PGPASSWORD`, passes over
//! parameters that it does not know, and repeats the text of what it does not understand. Neighbour: `config`.

use std::net::IpAddr;

use whimbrel_plugin_api::{Error, Result};

use crate::config::{Pooler, Secret, TlsMode};

/// The port on which PostgreSQL listens unless told otherwise.
pub(crate) const DEFAULT_PORT: u16 = 5432;

/// Parameters that concern other programs and change nothing here.
const IGNORED: [&str; 5] = ["connection_limit", "pool_timeout", "schema", "supa", "workaround"];

/// A database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Address {
    /// A host without brackets, or the folder of a socket, which begins with a slash.
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) database: String,
    pub(crate) user: String,
    pub(crate) password: Option<Secret>,
    /// What the URL asks of TLS.
    pub(crate) tls_mode: Option<TlsMode>,
    /// What the address tells of a pooler.
    pub(crate) pooler: Pooler,
    pub(crate) is_supabase: bool,
}

impl Address {
    /// The database of a URL, which stands at `place`.
    pub(crate) fn of_url(url: &str, place: &str) -> Result<Self> {
        Self::parsed(url.trim()).map_err(|message| {
            Error::config("postgres.bad_url", message)
                .with_help(
                    "write `postgres://user:password@host:port/database`, special characters of names and passwords as \
                     `%40` for `@`, `%2F` for `/` and the like",
                )
                .with_place(place)
        })
    }

    /// Host and port, for messages.
    pub(crate) fn name(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    /// Whether it is a socket of this machine.
    pub(crate) fn is_socket(&self) -> bool {
        self.host.starts_with('/')
    }

    /// Whether what is sent there cannot leave this machine.
    pub(crate) fn is_local(&self) -> bool {
        self.is_socket()
            || self.host.eq_ignore_ascii_case("localhost")
            || self
                .host
                .parse::<IpAddr>()
                .is_ok_and(|address| address.is_loopback())
    }

    fn parsed(url: &str) -> Result<Self, String> {
        let (scheme, rest) = url
            .split_once("://")
            .ok_or("the URL does not begin with `postgres://`")?;
        match scheme {
            "postgres" | "postgresql" => {}
            "http" | "https" if rest.contains(".supabase.") => {
                return Err("the URL is that of Supabase's HTTP interface, not of the database".to_owned());
            }
            _ => return Err("the URL does not begin with `postgres://`".to_owned()),
        }
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, database) = rest.split_once('/').unwrap_or((rest, ""));
        let (login, hosts) = authority.rsplit_once('@').unwrap_or(("", authority));
        let (user, password) = match login.split_once(':') {
            Some((user, password)) => (user, Some(password)),
            None => (login, None),
        };
        let (host, port) = host_and_port(hosts)?;
        let mut address = Self {
            host: decoded(host, "host")?,
            port: port.unwrap_or(DEFAULT_PORT),
            database: decoded(database, "name of the database")?,
            user: decoded(user, "user")?,
            password: match password {
                Some(password) => Some(Secret::new(decoded(password, "password")?)),
                None => None,
            },
            tls_mode: None,
            pooler: Pooler::Auto,
            is_supabase: false,
        };
        let mut wants_binding = false;
        for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
            address.take_parameter(parameter, &mut wants_binding)?;
        }
        // The driver does not bind passwords to the TLS connection; to know who answers is worth more.
        if wants_binding {
            address.tls_mode = Some(TlsMode::VerifyFull);
        }
        address.completed()
    }

    fn take_parameter(&mut self, parameter: &str, wants_binding: &mut bool) -> Result<(), String> {
        let (key, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        let text = decoded(value, key)?;
        match key {
            "sslmode" => {
                self.tls_mode = Some(match text.as_str() {
                    "disable" => TlsMode::Disable,
                    "allow" | "prefer" => TlsMode::Prefer,
                    "require" => TlsMode::Require,
                    "verify-ca" => TlsMode::VerifyCa,
                    "verify-full" => TlsMode::VerifyFull,
                    _ => {
                        return Err(
                            "`sslmode` in the URL is not known (valid: disable, prefer, require, verify-ca, \
                             verify-full)"
                                .to_owned(),
                        );
                    }
                });
            }
            "channel_binding" => *wants_binding = text == "require",
            "pgbouncer" if text == "true" => self.pooler = Pooler::Transaction,
            "host" => self.host = text,
            "port" => self.port = text.parse().map_err(|_| "`port` in the URL is no port")?,
            "dbname" => self.database = text,
            "user" => self.user = text,
            "password" => self.password = Some(Secret::new(text)),
            "sslrootcert" | "sslcert" | "sslkey" => {
                return Err(format!(
                    "the URL has the parameter `{key}`: name the file in `tls.ca_file`, `tls.client_cert_file` or \
                     `tls.client_key_file`"
                ));
            }
            "application_name" => {
                return Err(
                    "the URL has the parameter `application_name`: there is a key of that name".to_owned(),
                );
            }
            "connect_timeout" => {
                return Err(
                    "the URL has the parameter `connect_timeout`: use `connect_timeout_ms`".to_owned(),
                );
            }
            _ if IGNORED.contains(&key) || key == "pgbouncer" => {}
            _ => {
                return Err("the URL has a parameter that is not known (valid: sslmode, channel_binding, host, port, \
                     dbname, user, password, pgbouncer)"
                    .to_owned());
            }
        }
        Ok(())
    }

    fn completed(mut self) -> Result<Self, String> {
        if self.host.is_empty() {
            return Err("the URL names no host".to_owned());
        }
        if self.user.is_empty() {
            return Err("the URL names no user".to_owned());
        }
        if self.database.is_empty() {
            return Err("the URL names no database".to_owned());
        }
        let is_placeholder = |text: &str| text.starts_with('[') && text.ends_with(']');
        if self
            .password
            .as_ref()
            .is_some_and(|password| is_placeholder(password.reveal()))
        {
            return Err("the password of the URL is a placeholder in square brackets".to_owned());
        }
        let host = self.host.to_ascii_lowercase();
        self.is_supabase = [".supabase.co", ".supabase.com"]
            .iter()
            .any(|end| host.ends_with(end));
        if host.ends_with(".pooler.supabase.com") && self.port == crate::supabase::TRANSACTION_PORT {
            self.pooler = Pooler::Transaction;
        }
        Ok(self)
    }
}

/// `host:port`, of which the host may be an IPv6 address in brackets.
pub(crate) fn host_and_port(text: &str) -> Result<(&str, Option<u16>), String> {
    if text.contains(',') {
        return Err("the URL names several hosts, of which one is possible".to_owned());
    }
    let (host, port) = match text.strip_prefix('[').and_then(|text| text.split_once(']')) {
        Some((host, rest)) => (host, rest.strip_prefix(':')),
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    let port = match port {
        None | Some("") => None,
        Some(port) => match port.parse() {
            Ok(0) | Err(_) => return Err("the port of the URL is no number from 1 to 65535".to_owned()),
            Ok(port) => Some(port),
        },
    };
    Ok((host, port))
}

/// `text` with its `%40` and the like decoded. `what` it is goes into messages, the text does not.
fn decoded(text: &str, what: &str) -> Result<String, String> {
    let mut octets = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let digit = |index: usize| after.get(index).and_then(|digit| char::from(*digit).to_digit(16));
        match (first, digit(0), digit(1)) {
            (b'%', Some(high), Some(low)) => {
                octets.push(u8::try_from(high * 16 + low).unwrap_or(b'?'));
                rest = &after[2..];
            }
            (b'%', ..) => {
                return Err(format!(
                    "the {what} in the URL has a `%` without two digits behind it"
                ));
            }
            _ => {
                octets.push(first);
                rest = after;
            }
        }
    }
    match String::from_utf8(octets) {
        Ok(text) if !text.contains('\0') => Ok(text),
        _ => Err(format!("the {what} in the URL is no text")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_of_a_url_is_read() {
        let address = Address::of_url(
            "postgresql://me%40x:p%2Fw%3A@db.example.org:6000/my%20db?sslmode=require",
            "p",
        )
        .unwrap();
        assert_eq!((address.host.as_str(), address.port), ("db.example.org", 6000));
        assert_eq!(
            (address.user.as_str(), address.database.as_str()),
            ("me@x", "my db")
        );
        assert_eq!(address.password.unwrap().reveal(), "p/w:");
        assert_eq!(address.tls_mode, Some(TlsMode::Require));
        let address = Address::of_url("postgres://me:a@b@[::1]/db", "p").unwrap();
        assert_eq!(
            (address.name().as_str(), address.is_local()),
            ("[::1]:5432", true)
        );
        assert_eq!(address.password.unwrap().reveal(), "a@b");
        let address = Address::of_url("postgres://me@/db?host=/run/postgresql&port=5433", "p").unwrap();
        assert!(address.is_socket() && address.is_local());
        let address = Address::of_url("postgres://me@%2Frun%2Fpostgresql/db", "p").unwrap();
        assert_eq!(address.host, "/run/postgresql");
        let address = Address::of_url(
            "postgres://me@h.example.org/db?sslmode=require&channel_binding=require",
            "p",
        )
        .unwrap();
        assert_eq!(address.tls_mode, Some(TlsMode::VerifyFull));
    }

    #[test]
    fn what_is_no_url_is_refused_and_not_repeated() {
        for bad in [
            "",
            "hunter2",
            "mysql://me:hunter2@h/db",
            "postgres://me:hunter2@/db",
            "postgres://:hunter2@h/db",
            "postgres://me:hunter2@h",
            "postgres://me:hunter2@h:0/db",
            "postgres://me:hunter2@h:99999/db",
            "postgres://me:hunter2%@h/db",
            "postgres://me:hunter2@a,b/db",
            "postgres://me:hunter2@h/db?sslmode=hunter2",
            "postgres://me:hunter2@h/db?options=hunter2",
            "postgres://me:hunter2@h/db?sslkey=hunter2",
            "postgres://me:[hunter2]@h/db",
            "postgres://me:hunter2%00@h/db",
            "https://hunter2.supabase.co",
            "postgres://me:hun/ter2@h/db?connect_timeout=1",
        ] {
            let error = Address::of_url(bad, "config.url").unwrap_err();
            assert_eq!(
                (error.code.as_str(), error.place.as_deref()),
                ("postgres.bad_url", Some("config.url")),
                "{bad}"
            );
            assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
        }
    }
}
