//! What a plugin says of itself without running: the manifest, kept as plain octets in the library file.
//!
//! [`embed`] lays it out at compile time, `export_plugin!` places it in a static that the linker keeps, and a host
//! reads it from the file before it loads anything. Layout: [`MAGIC`], length of the JSON as little-endian `u32`, JSON,
//! zero padding.

use semver::Version;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// The version of this API, `major.minor.patch`. While the major is 0, a change of minor breaks.
pub const API_VERSION: &str = if cfg!(whimbrel_made_up = "older") {
    "0.1.0"
} else if cfg!(whimbrel_made_up = "newer") {
    "0.1.3"
} else if cfg!(whimbrel_made_up = "major") {
    "2.1.0"
} else {
    env!("CARGO_PKG_VERSION")
};

/// The least host version that understands what this API version hands over.
pub const HOST_VERSION_MIN: &str = "0.1.0";

/// What the octets begin with.
pub const MAGIC: [u8; 16] = *b"whimbrel-plugin\x01";

/// The symbol under which the octets are found.
pub const MANIFEST_SYMBOL: &str = "WHIMBREL_PLUGIN_MANIFEST";

/// The symbol of the loader's header, looked up only after every check of the file.
pub const HEADER_SYMBOL: &str = "WHIMBREL_PLUGIN_HEADER";

/// Room for the manifest in the library, octets.
pub const MANIFEST_BYTES_MAX: usize = 4_096;

/// What a plugin can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Reads a system.
    Source,
    /// Writes a system.
    Sink,
    /// Changes records on the way.
    Transform,
    /// Tells people.
    Notifier,
}

impl Role {
    /// Every role.
    pub const ALL: [Self; 4] = [Self::Source, Self::Sink, Self::Transform, Self::Notifier];

    /// Its name in messages and JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Source => "source",
            Self::Sink => "sink",
            Self::Transform => "transform",
            Self::Notifier => "notifier",
        }
    }

    /// Its number at the boundary.
    pub const fn number(self) -> u32 {
        match self {
            Self::Source => 1,
            Self::Sink => 2,
            Self::Transform => 3,
            Self::Notifier => 4,
        }
    }
}

impl std::fmt::Display for Role {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// The manifest as the host reads it. Unknown members are ignored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// The plugin's name, as jobs write it.
    pub name: String,
    /// Its own version.
    pub version: Version,
    /// One line for people.
    #[serde(default)]
    pub description: String,
    /// SPDX licence expression.
    #[serde(default)]
    pub licence: String,
    /// The plugin API that it was built with.
    pub api_version: Version,
    /// The least host version that it needs.
    pub host_version_min: Version,
    /// The roles that it offers; roles that this host does not know are left out.
    #[serde(deserialize_with = "known_roles")]
    pub roles: Vec<Role>,
}

fn known_roles<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> std::result::Result<Vec<Role>, D::Error> {
    let names = Vec::<String>::deserialize(deserializer)?;
    Ok(Role::ALL
        .into_iter()
        .filter(|role| names.iter().any(|name| name == role.name()))
        .collect())
}

impl Manifest {
    /// Reads the embedded octets.
    ///
    /// # Errors
    /// `plugin.bad_manifest` if they are cut short, lack the magic or hold no valid JSON.
    pub fn parse(octets: &[u8]) -> Result<Self> {
        let bad = |what: &str| {
            Error::config(
                "plugin.bad_manifest",
                format!("the plugin's manifest is damaged: {what}"),
            )
        };
        let rest = octets
            .strip_prefix(&MAGIC)
            .ok_or_else(|| bad("it does not begin as a manifest does"))?;
        let (length, rest) = rest
            .split_first_chunk::<4>()
            .ok_or_else(|| bad("it is cut short"))?;
        let length = u32::from_le_bytes(*length) as usize;
        let json = rest.get(..length).ok_or_else(|| bad("it is cut short"))?;
        serde_json::from_slice(json).map_err(|error| bad("its JSON does not parse").with_cause(&error))
    }

    /// Whether a plugin of this manifest can run under an API of version `host_api`: same major, and the same minor
    /// while the major is 0. Newer and older additions are both fine.
    pub fn is_compatible(&self, host_api: &Version) -> bool {
        self.api_version.major == host_api.major
            && (host_api.major > 0 || self.api_version.minor == host_api.minor)
    }
}

/// Lays out a manifest at compile time. Used by `export_plugin!`.
#[doc(hidden)]
pub const fn embed(
    name: &str,
    version: &str,
    description: &str,
    licence: &str,
    roles: &[&str],
) -> [u8; MANIFEST_BYTES_MAX] {
    check_name(name);
    let mut writer = Writer {
        octets: [0; MANIFEST_BYTES_MAX],
        at: MAGIC.len() + 4,
    };
    writer.member("{\"name\":\"", name);
    writer.member("\",\"version\":\"", version);
    writer.member("\",\"description\":\"", description);
    writer.member("\",\"licence\":\"", licence);
    writer.member("\",\"api_version\":\"", API_VERSION);
    writer.member("\",\"host_version_min\":\"", HOST_VERSION_MIN);
    writer.raw("\",\"roles\":[");
    let mut index = 0;
    while index < roles.len() {
        writer.raw(if index == 0 { "\"" } else { ",\"" });
        writer.raw(roles[index]);
        writer.raw("\"");
        index += 1;
    }
    writer.raw("]}");
    let length = (writer.at - MAGIC.len() - 4) as u32;
    let mut at = 0;
    while at < MAGIC.len() {
        writer.octets[at] = MAGIC[at];
        at += 1;
    }
    let length = length.to_le_bytes();
    let mut digit = 0;
    while digit < 4 {
        writer.octets[MAGIC.len() + digit] = length[digit];
        digit += 1;
    }
    writer.octets
}

struct Writer {
    octets: [u8; MANIFEST_BYTES_MAX],
    at: usize,
}

impl Writer {
    const fn raw(&mut self, text: &str) {
        let text = text.as_bytes();
        let mut index = 0;
        while index < text.len() {
            assert!(
                self.at < MANIFEST_BYTES_MAX,
                "the manifest is longer than 4,096 octets"
            );
            self.octets[self.at] = text[index];
            self.at += 1;
            index += 1;
        }
    }

    const fn member(&mut self, opening: &str, value: &str) {
        self.raw(opening);
        let octets = value.as_bytes();
        let mut index = 0;
        while index < octets.len() {
            self.escaped(octets[index]);
            index += 1;
        }
    }

    /// One octet of a JSON string. A description in `Cargo.toml` may have quotes and several lines.
    const fn escaped(&mut self, octet: u8) {
        match octet {
            b'"' => self.raw("\\\""),
            b'\\' => self.raw("\\\\"),
            0..b' ' => self.raw(" "),
            _ => {
                assert!(
                    self.at < MANIFEST_BYTES_MAX,
                    "the manifest is longer than 4,096 octets"
                );
                self.octets[self.at] = octet;
                self.at += 1;
            }
        }
    }
}

/// The name is part of the library's file name and of job files: lower-case letters, digits and hyphens.
const fn check_name(name: &str) {
    let octets = name.as_bytes();
    assert!(
        !octets.is_empty() && octets.len() <= 64,
        "a plugin's name has 1 to 64 characters"
    );
    let mut index = 0;
    while index < octets.len() {
        assert!(
            octets[index].is_ascii_lowercase() || octets[index].is_ascii_digit() || octets[index] == b'-',
            "a plugin's name holds lower-case letters, digits and hyphens only"
        );
        index += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_embedded_is_what_is_read() {
        let octets = embed(
            "local-storage",
            "1.2.3",
            "reads \"ü\"\\\nand more",
            "MIT",
            &["source", "sink"],
        );
        let manifest = Manifest::parse(&octets).unwrap();
        assert_eq!(manifest.name, "local-storage");
        assert_eq!(manifest.description, "reads \"ü\"\\ and more");
        assert_eq!(manifest.roles, [Role::Source, Role::Sink]);
        assert_eq!(manifest.api_version.to_string(), API_VERSION);
    }

    #[test]
    fn damaged_octets_are_refused_at_every_length() {
        let octets = embed("a", "1.0.0", "", "", &[]);
        let length = MAGIC.len() + 4 + u32::from_le_bytes(octets[16..20].try_into().unwrap()) as usize;
        for cut in 0..length {
            assert_eq!(
                Manifest::parse(&octets[..cut]).unwrap_err().code,
                "plugin.bad_manifest"
            );
        }
        Manifest::parse(&octets[..length]).unwrap();
    }

    #[test]
    fn minors_break_only_while_the_major_is_zero() {
        let with_api = |api: &str| Manifest {
            api_version: api.parse().unwrap(),
            ..Manifest::parse(&embed("a", "1.0.0", "", "", &[])).unwrap()
        };
        let host = |text: &str| text.parse::<Version>().unwrap();
        assert!(with_api("0.1.0").is_compatible(&host("0.1.7")));
        assert!(with_api("0.1.9").is_compatible(&host("0.1.7")));
        assert!(!with_api("0.2.0").is_compatible(&host("0.1.7")));
        assert!(with_api("1.4.0").is_compatible(&host("1.2.0")));
        assert!(!with_api("2.1.0").is_compatible(&host("1.4.0")));
    }
}
