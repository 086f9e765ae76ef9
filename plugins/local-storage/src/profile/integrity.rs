//! Whether the files of a LevelDB are whole, by their own checksums.
//!
//! The library that reads them (`leveldb`) passes over damaged parts without a word, which would lose entries or bring
//! deleted ones back. So the chain is followed here first: CURRENT, the manifest, the tables that it names, and the logs.
//! Formats: LevelDB's `doc/log_format.md` and `doc/table_format.md`.

use std::collections::BTreeMap;

use super::copy::Files;

/// The only order in which the databases of local storage keep their keys.
const COMPARATOR: &[u8] = b"leveldb.BytewiseComparator";
/// A log is written in blocks of so many octets.
const BLOCK_BYTES: usize = 32 * 1024;
/// Checksum, length and type of each part of a record.
const HEADER_BYTES: usize = 7;
/// The end of a table: two handles, padded, and the magic number.
const FOOTER_BYTES: usize = 48;
const TABLE_MAGIC: [u8; 8] = 0xdb47_7524_8b80_fb57_u64.to_le_bytes();
/// After each block of a table: its compression and its checksum.
const TRAILER_BYTES: usize = 5;

/// What is wrong.
#[derive(Debug, PartialEq, Eq)]
pub enum Damage {
    /// A file is missing or not as it was written.
    Corrupted { file: String, what: &'static str },
    /// A block is compressed in a way that LevelDB did not have.
    Compression { file: String, kind: u8 },
    /// A LevelDB of another kind.
    Order,
}

/// How far the writer had come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    Whole,
    /// The last write to a log is there in part, so it does not count.
    Unfinished,
    /// The same of the manifest, without which the tables mean nothing.
    ManifestUnfinished,
}

/// Checks everything that counts. Files that a crash has left behind do not.
pub fn check(files: &Files) -> Result<Ending, Damage> {
    let current = files
        .get("CURRENT")
        .ok_or_else(|| corrupted("CURRENT", "is missing"))?;
    let name = std::str::from_utf8(current)
        .ok()
        .and_then(|text| text.strip_suffix('\n'))
        .filter(|name| name.starts_with("MANIFEST-"))
        .ok_or_else(|| corrupted("CURRENT", "names no manifest"))?;
    let manifest = files.get(name).ok_or_else(|| corrupted(name, "is missing"))?;
    let mut version = Version::default();
    let mut is_understood = true;
    let end = read_log(manifest, |record| {
        is_understood &= version.apply(record).is_some()
    });
    match end {
        LogEnd::Unfinished => return Ok(Ending::ManifestUnfinished),
        LogEnd::Whole if is_understood => {}
        _ => return Err(corrupted(name, "is damaged")),
    }
    if version
        .comparator
        .as_deref()
        .is_some_and(|order| order != COMPARATOR)
    {
        return Err(Damage::Order);
    }
    for (number, size) in &version.tables {
        let names = [format!("{number:06}.ldb"), format!("{number:06}.sst")];
        let found = names
            .iter()
            .find_map(|name| files.get(name).map(|table| (name, table)));
        let (name, table) = found.ok_or_else(|| corrupted(&names[0], "is missing"))?;
        if table.len() as u64 != *size {
            return Err(corrupted(name, "has not the size that the manifest says"));
        }
        check_table(name, table)?;
    }
    let mut ending = Ending::Whole;
    for (name, log) in files {
        let number = name
            .strip_suffix(".log")
            .and_then(|stem| stem.parse::<u64>().ok());
        if !number.is_some_and(|number| number >= version.log || number == version.log_before) {
            continue;
        }
        match read_log(log, |_| {}) {
            LogEnd::Whole => {}
            LogEnd::Unfinished => ending = Ending::Unfinished,
            LogEnd::Damaged => return Err(corrupted(name, "is damaged")),
        }
    }
    Ok(ending)
}

fn corrupted(file: &str, what: &'static str) -> Damage {
    Damage::Corrupted {
        file: file.to_owned(),
        what,
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LogEnd {
    Whole,
    Unfinished,
    Damaged,
}

/// Reads the records of a log, or of a manifest, which is one.
fn read_log(log: &[u8], mut each: impl FnMut(&[u8])) -> LogEnd {
    const FULL: u8 = 1;
    const FIRST: u8 = 2;
    const MIDDLE: u8 = 3;
    const LAST: u8 = 4;
    let mut record: Option<Vec<u8>> = None;
    let mut at = 0;
    loop {
        let left = BLOCK_BYTES - at % BLOCK_BYTES;
        if left < HEADER_BYTES {
            at += left;
        }
        let Some(rest) = log.get(at..).filter(|rest| !rest.is_empty()) else {
            return match record {
                Some(_) => LogEnd::Unfinished,
                None => LogEnd::Whole,
            };
        };
        // Room that was made ahead, or a file system's way to end after a loss of power.
        if rest.iter().all(|octet| *octet == 0) {
            return LogEnd::Unfinished;
        }
        let Some((header, rest)) = rest.split_first_chunk::<HEADER_BYTES>() else {
            return LogEnd::Unfinished;
        };
        let [c0, c1, c2, c3, l0, l1, kind] = *header;
        let size = usize::from(u16::from_le_bytes([l0, l1]));
        if HEADER_BYTES + size > BLOCK_BYTES - at % BLOCK_BYTES {
            return LogEnd::Damaged;
        }
        let Some(part) = rest.get(..size) else {
            return LogEnd::Unfinished;
        };
        let checksum = crc32c::crc32c_append(crc32c::crc32c(&[kind]), part);
        if checksum != unmasked(u32::from_le_bytes([c0, c1, c2, c3])) {
            return LogEnd::Damaged;
        }
        at += HEADER_BYTES + size;
        match (kind, &mut record) {
            (FULL, None) => each(part),
            (FIRST, None) => record = Some(part.to_vec()),
            (MIDDLE, Some(record)) => record.extend(part),
            (LAST, Some(begun)) => {
                begun.extend(part);
                each(begun);
                record = None;
            }
            _ => return LogEnd::Damaged,
        }
    }
}

/// Checksums are stored so that a checksum of data that holds checksums is not a special one.
fn unmasked(stored: u32) -> u32 {
    stored.wrapping_sub(0xa282_ead8).rotate_left(15)
}

/// What a manifest says in the end.
#[derive(Debug, Default)]
struct Version {
    comparator: Option<Vec<u8>>,
    /// The oldest log that counts.
    log: u64,
    /// One more that counts, in databases of old.
    log_before: u64,
    /// The sizes of the tables, by number.
    tables: BTreeMap<u64, u64>,
}

impl Version {
    /// Applies one edit; `None` if it cannot be understood.
    fn apply(&mut self, edit: &[u8]) -> Option<()> {
        let mut rest = Octets(edit);
        while !rest.0.is_empty() {
            match rest.number()? {
                1 => self.comparator = Some(rest.slice()?.to_vec()),
                2 => self.log = rest.number()?,
                9 => self.log_before = rest.number()?,
                // The next number of a file; the last of a write.
                3 | 4 => {
                    rest.number()?;
                }
                // Where a compaction goes on.
                5 => {
                    rest.number()?;
                    rest.slice()?;
                }
                6 => {
                    rest.number()?;
                    self.tables.remove(&rest.number()?);
                }
                7 => {
                    rest.number()?;
                    let number = rest.number()?;
                    self.tables.insert(number, rest.number()?);
                    rest.slice()?;
                    rest.slice()?;
                }
                _ => return None,
            }
        }
        Some(())
    }
}

/// Reads LevelDB's numbers of variable length.
struct Octets<'a>(&'a [u8]);

impl<'a> Octets<'a> {
    fn number(&mut self) -> Option<u64> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let (octet, rest) = self.0.split_first()?;
            self.0 = rest;
            number |= u64::from(octet & 0x7F) << shift;
            if octet & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }

    fn size(&mut self) -> Option<usize> {
        self.number()?.try_into().ok()
    }

    fn take(&mut self, size: usize) -> Option<&'a [u8]> {
        let (part, rest) = self.0.split_at_checked(size)?;
        self.0 = rest;
        Some(part)
    }

    fn slice(&mut self) -> Option<&'a [u8]> {
        let size = self.size()?;
        self.take(size)
    }
}

fn check_table(name: &str, table: &[u8]) -> Result<(), Damage> {
    let damaged = || corrupted(name, "is damaged");
    let footer = table.last_chunk::<FOOTER_BYTES>().ok_or_else(damaged)?;
    if !footer.ends_with(&TABLE_MAGIC) {
        return Err(damaged());
    }
    let mut handles = Octets(footer);
    for _ in ["of filters", "of the data"] {
        let index = block(name, table, &mut handles)?;
        for handle in values(&index).ok_or_else(damaged)? {
            checked(name, table, &mut Octets(handle))?;
        }
    }
    Ok(())
}

/// The compression and the content of a block whose checksum is right.
fn checked<'a>(name: &str, table: &'a [u8], handle: &mut Octets<'_>) -> Result<(u8, &'a [u8]), Damage> {
    let damaged = || corrupted(name, "is damaged");
    let (at, size) = handle.size().zip(handle.size()).ok_or_else(damaged)?;
    let mut rest = Octets(table.get(at..).ok_or_else(damaged)?);
    let content = rest.take(size).ok_or_else(damaged)?;
    let [kind, stored @ ..] = rest.0.first_chunk::<TRAILER_BYTES>().ok_or_else(damaged)?;
    let checksum = crc32c::crc32c_append(crc32c::crc32c(content), &[*kind]);
    if checksum != unmasked(u32::from_le_bytes(*stored)) {
        return Err(damaged());
    }
    if *kind > 1 {
        return Err(Damage::Compression {
            file: name.to_owned(),
            kind: *kind,
        });
    }
    Ok((*kind, content))
}

fn block(name: &str, table: &[u8], handle: &mut Octets<'_>) -> Result<Vec<u8>, Damage> {
    match checked(name, table, handle)? {
        (0, content) => Ok(content.to_vec()),
        (_, packed) => snap::raw::Decoder::new()
            .decompress_vec(packed)
            .map_err(|_| corrupted(name, "is damaged")),
    }
}

/// The values of a block: entries, each with how much of its key it shares, then the places of restarts and their count.
fn values(block: &[u8]) -> Option<Vec<&[u8]>> {
    let (rest, count) = block.split_last_chunk::<4>()?;
    let restarts = usize::try_from(u32::from_le_bytes(*count)).ok()?.checked_mul(4)?;
    let mut entries = Octets(&rest[..rest.len().checked_sub(restarts)?]);
    let mut values = Vec::new();
    while !entries.0.is_empty() {
        entries.number()?;
        let (key, value) = (entries.size()?, entries.size()?);
        entries.take(key)?;
        values.push(entries.take(value)?);
    }
    Some(values)
}
