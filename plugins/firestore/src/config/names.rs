//! What may be the name of a project, of a database, and the address of an emulator.
//!
//! Names stand in paths and headers, so only letters that cannot change their meaning pass; whether there is such a project is
//! for the service to say.

use whimbrel_plugin_api::{Error, Result};

/// The database that every project had first.
const DEFAULT_DATABASE: &str = "(default)";
/// The longest name of a database. A project's may be 30, and the organisation's domain before it is about as long as can be.
const DATABASE_CHARS_MAX: usize = 63;
const PROJECT_CHARS_MAX: usize = 300;

/// A project's id, such as `my-project` or `example.com:my-project`.
pub(super) fn project(id: &str) -> Result<String> {
    let is_good = (1..=PROJECT_CHARS_MAX).contains(&id.len())
        && id
            .chars()
            .all(|letter| letter.is_ascii_alphanumeric() || "-_.:".contains(letter));
    if is_good {
        return Ok(id.to_owned());
    }
    Err(Error::config(
        "firestore.bad_project",
        "a project is named by its id, which is letters, digits and `-`",
    )
    .with_help("`gcloud projects list` tells the ids; neither a project's title nor a path with `/` is one")
    .with_place("config.project"))
}

/// A database's id: `(default)`, or lower-case letters, digits and `-`.
pub(super) fn database(id: &str) -> Result<&str> {
    let is_word = |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit();
    let is_good = (1..=DATABASE_CHARS_MAX).contains(&id.len())
        && id.starts_with(|letter: char| letter.is_ascii_lowercase())
        && id.ends_with(is_word)
        && id.chars().all(|letter| is_word(letter) || letter == '-');
    if id == DEFAULT_DATABASE || is_good {
        return Ok(id);
    }
    Err(Error::config(
        "firestore.bad_database",
        "a database is named `(default)`, or with lower-case letters, digits and `-` within",
    )
    .with_help("`gcloud firestore databases list` tells the names; the part after `/databases/` belongs here")
    .with_place("config.database"))
}

/// An emulator's `host:port` as `key` has it, if need be after `http://`.
pub(super) fn host(key: &str, text: &str) -> Result<String> {
    let without = match key {
        "host" => "leave `host` out",
        _ => "unset `FIRESTORE_EMULATOR_HOST`, or say `fallback_host: null`",
    };
    let bad = |why: &str| {
        Error::config("firestore.bad_host", format!("`{key}` {why}"))
            .with_help(format!(
                "an emulator is named like `127.0.0.1:8080` or `[::1]:8080`; for the service itself {without}"
            ))
            .with_place(format!("config.{key}"))
    };
    if text.starts_with("https://") {
        return Err(bad("asks for TLS, which an emulator does not speak"));
    }
    let address = text.strip_prefix("http://").unwrap_or(text);
    let address = address.strip_suffix('/').unwrap_or(address);
    let (name, port) = address.rsplit_once(':').ok_or_else(|| bad("has no port"))?;
    if !port.parse::<u16>().is_ok_and(|port| port > 0) || port.starts_with('+') {
        return Err(bad("has no port between 1 and 65535"));
    }
    let inner = name.strip_prefix('[').and_then(|name| name.strip_suffix(']'));
    let is_good = match inner {
        Some(inner) => inner.parse::<std::net::Ipv6Addr>().is_ok(),
        None => {
            !name.is_empty()
                && name
                    .chars()
                    .all(|letter| letter.is_ascii_alphanumeric() || "-_.".contains(letter))
        }
    };
    if is_good {
        Ok(address.to_owned())
    } else {
        Err(bad("is no name or address of a machine"))
    }
}

/// Whether `host`, as [`host()`] gives it, is this machine.
pub(crate) fn is_this_machine(host: &str) -> bool {
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    let name = name.trim_start_matches('[').trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost")
        || name
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback() || address.is_unspecified())
}
