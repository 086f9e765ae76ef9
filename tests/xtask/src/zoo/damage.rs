//! Copies of a good plugin library with one thing broken each.
//!
//! The octets are found by what they say, not by parsing: the manifest by its magic, the symbol by its name, the header by
//! its magic.

use crate::step::{Failure, Outcome};

/// What a manifest begins with (`whimbrel_plugin_api::manifest::MAGIC`).
const MANIFEST_MAGIC: &[u8] = b"whimbrel-plugin\x01";
/// What the loader's header begins with.
const HEADER_MAGIC: &[u8] = b"abi stable library for Rust";
/// The symbol of the loader's header, as the string table holds it.
const HEADER_SYMBOL: &[u8] = b"\0WHIMBREL_PLUGIN_HEADER\0";
/// Where an ELF file names its machine, and two of them.
const MACHINE_AT: usize = 18;
const X86_64: u8 = 62;
const AARCH64: u8 = 183;

/// Members with their octets, from those of a good library.
pub fn members(whole: &[u8]) -> Outcome<Vec<(&'static str, Vec<u8>)>> {
    Ok(vec![
        ("truncated", whole[..whole.len() / 2].to_vec()),
        ("cut-in-tables", whole[..whole.len() - 100].to_vec()),
        ("empty", Vec::new()),
        (
            "text",
            b"This is a text file that was named like a library.\n".to_vec(),
        ),
        ("elf-head", whole[..64].to_vec()),
        (
            "wrong-machine",
            with(
                whole,
                MACHINE_AT,
                if whole[MACHINE_AT] == X86_64 {
                    AARCH64
                } else {
                    X86_64
                },
            ),
        ),
        ("wrong-width", with(whole, 4, 1)),
        (
            "damaged-manifest",
            with(whole, manifest_at(whole)? + MANIFEST_MAGIC.len() + 4, b'?'),
        ),
        (
            "endless-manifest",
            with(whole, manifest_at(whole)? + MANIFEST_MAGIC.len() + 3, 0xff),
        ),
        ("wrong-major", edited(whole, "\"api_version\":\"", "2.1.0")?),
        ("wrong-minor", edited(whole, "\"api_version\":\"", "0.9.0")?),
        (
            "needs-newer-host",
            edited(whole, "\"host_version_min\":\"", "99.0.0")?,
        ),
        ("missing-header", renamed(whole)?),
        ("damaged-header", damaged_header(whole)?),
    ])
}

fn with(whole: &[u8], at: usize, octet: u8) -> Vec<u8> {
    let mut octets = whole.to_vec();
    octets[at] = octet;
    octets
}

fn find(whole: &[u8], wanted: &[u8]) -> Outcome<usize> {
    let found = whole.windows(wanted.len()).position(|octets| octets == wanted);
    found.ok_or_else(|| {
        Failure::new(format!(
            "the library does not hold {:?}",
            String::from_utf8_lossy(wanted)
        ))
    })
}

fn manifest_at(whole: &[u8]) -> Outcome<usize> {
    // The code that reads manifests holds the magic too; a manifest's JSON follows 4 octets later.
    let start = find(whole, b"{\"name\":\"scripted")?;
    let at = start.checked_sub(MANIFEST_MAGIC.len() + 4);
    at.filter(|at| whole[*at..].starts_with(MANIFEST_MAGIC))
        .ok_or_else(|| Failure::new("the library has no manifest"))
}

/// The library with the text after `member` replaced, up to the closing quote, in its manifest.
fn edited(whole: &[u8], member: &str, text: &str) -> Outcome<Vec<u8>> {
    let at = manifest_at(whole)? + MANIFEST_MAGIC.len();
    let mut length = [0; 4];
    length.copy_from_slice(&whole[at..at + 4]);
    let (json_at, length) = (at + 4, u32::from_le_bytes(length) as usize);
    let json = String::from_utf8_lossy(&whole[json_at..json_at + length]).into_owned();
    let (before, rest) = json
        .split_once(member)
        .ok_or_else(|| Failure::new(format!("the manifest lacks {member}")))?;
    let (_, after) = rest
        .split_once('"')
        .ok_or_else(|| Failure::new("the manifest is not closed"))?;
    let json = format!("{before}{member}{text}\"{after}");
    let mut octets = whole.to_vec();
    octets[at..at + 4].copy_from_slice(&(json.len() as u32).to_le_bytes());
    // Room for longer texts is there: the manifest is padded with zeros.
    octets[json_at..json_at + length].fill(0);
    octets[json_at..json_at + json.len()].copy_from_slice(json.as_bytes());
    Ok(octets)
}

/// Nothing but the header is wrong, so the host finds out only when it loads it: under a name of its own.
fn damaged_header(whole: &[u8]) -> Outcome<Vec<u8>> {
    let octets = edited(whole, "\"name\":\"", "damaged-header")?;
    Ok(with(&octets, find(whole, HEADER_MAGIC)?, b'?'))
}

/// The library with the header's symbol under another name, wherever it is named.
fn renamed(whole: &[u8]) -> Outcome<Vec<u8>> {
    let mut octets = whole.to_vec();
    let mut from = 0;
    find(whole, HEADER_SYMBOL)?;
    while let Ok(at) = find(&octets[from..], HEADER_SYMBOL) {
        octets[from + at + 1] = b'X';
        from += at + 1;
    }
    Ok(octets)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn library(json: &str) -> Vec<u8> {
        let mut octets = b"\x7fELF-begin".to_vec();
        octets.extend(MANIFEST_MAGIC);
        octets.extend((json.len() as u32).to_le_bytes());
        octets.extend(json.as_bytes());
        octets.extend([0; 64]);
        octets
    }

    #[test]
    fn a_longer_text_moves_what_follows_and_changes_the_length() {
        let whole = library(r#"{"name":"scripted-debug","host_version_min":"0.1.0","roles":[]}"#);
        let changed = edited(&whole, "\"host_version_min\":\"", "99.0.0").unwrap();
        assert_eq!(changed, {
            let mut expected = library(r#"{"name":"scripted-debug","host_version_min":"99.0.0","roles":[]}"#);
            expected.truncate(whole.len());
            expected
        });
    }
}
