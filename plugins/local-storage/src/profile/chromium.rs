//! Local storage as Chromium keeps it: one LevelDB for all origins of a profile.
//!
//! A key is `_`, the name of the origin, a zero, and the storage key, which like each value begins with an octet that says
//! how it is encoded. The name of an origin within a page of another site has that site behind it, after `/^0`.
//! Beside them stand `VERSION` and, for each origin, `META:` and `METAACCESS:`.

use std::path::Path;

use whimbrel_plugin_api::{Result, Services};

use super::copy::{self, Files, Wanted};
use super::integrity::{self, Damage, Ending};
use super::text::{ExportText, units_of_utf16};
use super::{leveldb, shown};
use crate::config::LocalStorageConfig;
use crate::error;

/// The layout that is read; there has been no other.
const VERSION: &[u8] = b"1";

/// What was seen beside the entries.
#[derive(Debug, Default)]
pub struct Read {
    /// Keys that are none of local storage.
    pub other_keys: usize,
    /// Whether the last write is there in part.
    pub is_unfinished: bool,
}

/// Reads all origins.
pub fn read(
    folder: &Path,
    config: &LocalStorageConfig,
    services: &Services,
    text: &mut ExportText<'_>,
) -> Result<Read> {
    let (files, ending) = copied(folder, config, services)?;
    let mut seen = Read {
        is_unfinished: ending == Ending::Unfinished,
        ..Read::default()
    };
    let mut is_local_storage = false;
    leveldb::for_each(folder, files, |key, value| {
        if text.entry_count.is_multiple_of(CANCEL_CHECK_ENTRIES) {
            services.check_cancelled()?;
        }
        match part_of(key) {
            Part::Entry { origin, key } => {
                let decoded = decode(key).zip(decode(value));
                let (key, value) = decoded.ok_or_else(|| error::unknown_encoding(folder, origin))?;
                text.origin(origin);
                text.entry(&key, &value)?;
                is_local_storage = true;
            }
            Part::Version if value != VERSION => {
                return Err(error::unknown_version(folder, &String::from_utf8_lossy(value)));
            }
            Part::Version | Part::About => is_local_storage = true,
            Part::Other => seen.other_keys += 1,
        }
        Ok(())
    })?;
    if !is_local_storage && seen.other_keys > 0 {
        return Err(error::no_local_storage(&shown(folder)));
    }
    Ok(seen)
}

/// How often the host is asked whether to go on.
const CANCEL_CHECK_ENTRIES: usize = 4_096;

/// A copy of the database that is whole.
fn copied(folder: &Path, config: &LocalStorageConfig, services: &Services) -> Result<(Files, Ending)> {
    let wanted = Wanted {
        folder,
        is_wanted: &|name| {
            name == "CURRENT"
                || name.starts_with("MANIFEST-")
                || [".log", ".ldb", ".sst"].iter().any(|end| name.ends_with(end))
        },
        may_grow: &|name| name.ends_with(".log"),
        size_bytes_max: config.size_bytes_max,
    };
    copy::until_settled(&config.path, services, |is_last| {
        let Some(files) = copy::attempt(wanted)? else {
            return Ok(None);
        };
        match integrity::check(&files) {
            Ok(ending) if ending == Ending::Whole || is_last && ending == Ending::Unfinished => {
                Ok(Some((files, ending)))
            }
            // The browser may be about to write the rest.
            Ok(_) if !is_last => Ok(None),
            Ok(_) => Err(error::corrupted(
                folder,
                "the manifest",
                "ends in the middle of a record",
            )),
            Err(Damage::Corrupted { file, what }) => {
                Err(error::corrupted(folder, &format!("`{file}`"), what))
            }
            Err(Damage::Compression { file, kind }) => Err(error::unknown_compression(
                &folder.join(file),
                &format!("a block has the compression {kind}"),
                "0 (none), 1 (snappy)",
            )),
            Err(Damage::Order) => Err(error::no_local_storage(&shown(folder))),
        }
    })
}

/// What a key of the database belongs to.
#[derive(Debug, PartialEq, Eq)]
enum Part<'a> {
    Entry {
        origin: &'a str,
        key: &'a [u8],
    },
    Version,
    /// When an origin was used, and how much it holds.
    About,
    Other,
}

fn part_of(key: &[u8]) -> Part<'_> {
    if key == b"VERSION" {
        return Part::Version;
    }
    if key.starts_with(b"META:") || key.starts_with(b"METAACCESS:") {
        return Part::About;
    }
    let entry = key.strip_prefix(b"_").and_then(|rest| {
        let end = rest.iter().position(|octet| *octet == 0)?;
        let origin = std::str::from_utf8(&rest[..end]).ok()?;
        Some((origin, &rest[end + 1..]))
    });
    match entry {
        Some((origin, key)) => Part::Entry { origin, key },
        None => Part::Other,
    }
}

/// The UTF-16 units of a key or value; `None` if its encoding is not known, or half a unit is missing.
fn decode(encoded: &[u8]) -> Option<Vec<u16>> {
    match encoded.split_first()? {
        (0, units) => units_of_utf16(units),
        (1, latin) => Some(latin.iter().map(|octet| u16::from(*octet)).collect()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_told_apart() {
        let entry = |origin, key| Part::Entry { origin, key };
        for (key, part) in [
            (&b"VERSION"[..], Part::Version),
            (b"META:http://a", Part::About),
            (b"METAACCESS:http://a", Part::About),
            (b"_http://a\0\x01k", entry("http://a", b"\x01k")),
            (b"_http://a\0\x00k\0\0\0", entry("http://a", b"\x00k\0\0\0")),
            (
                b"_http://b/^0http://a\0\x01",
                entry("http://b/^0http://a", b"\x01"),
            ),
            (b"_http://a", Part::Other),
            (b"_\xff\0k", Part::Other),
            (b"namespace-1", Part::Other),
            (b"", Part::Other),
        ] {
            assert_eq!(part_of(key), part, "{key:?}");
        }
    }

    #[test]
    fn both_encodings_are_decoded_and_others_are_not() {
        assert_eq!(decode(b"\x01\xe9\0"), Some(vec![0xE9, 0]));
        assert_eq!(decode(b"\x00\x3D\xD8"), Some(vec![0xD83D]));
        assert_eq!((decode(b"\x01"), decode(b"\x00")), (Some(vec![]), Some(vec![])));
        assert_eq!(
            (decode(b""), decode(b"\x00a"), decode(b"\x02a")),
            (None, None, None)
        );
    }
}
