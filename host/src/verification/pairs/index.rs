//! The index beside a file of pairs: one entry a batch, with the place of its records, the cursor before them, and a checksum.
//!
//! An entry is: the position of the first record and the number of records (8 octets each), the length of the cursor (4;
//! all bits set if there is none), the checksum of the batch's octets (16), the cursor, and a check of the entry (16). All
//! numbers are big-endian. The check covers the check before it, so that no entry can be lost, added or moved unseen.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use whimbrel_plugin_api::{Cursor, Error};

use super::fault::{fault, torn};

/// 128 bits of BLAKE3.
pub(super) type Check = [u8; 16];

/// What stands before the cursor of an entry.
const HEAD_BYTES: usize = 8 + 8 + 4 + 16;
/// The length that says that there is no cursor.
const NO_CURSOR: u32 = u32::MAX;
/// Cursors are small; a larger length is that of a damaged entry, and must not be reserved in memory.
const CURSOR_BYTES_MAX: usize = 1 << 24;

/// The checksum of some octets.
pub(super) fn check_of(octets: &[u8]) -> Check {
    head_of(&blake3::hash(octets))
}

fn head_of(hash: &blake3::Hash) -> Check {
    *hash.as_bytes().first_chunk().expect("a hash has 32 octets")
}

/// What the first entry's check covers in place of one before it: the format and its version.
pub(super) fn first_link() -> Check {
    check_of(b"whimbrel pairs 1")
}

/// Where the index of the file of pairs at `path` is.
pub(super) fn index_of(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".index");
    PathBuf::from(name)
}

/// One batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    /// The position of its first record.
    pub(super) first: u64,
    /// Its records, at least one.
    pub(super) record_count: u64,
    /// Of the octets of its pairs.
    pub(super) checksum: Check,
    /// The cursor before it, if that is known.
    pub(super) cursor: Option<Cursor>,
}

impl Entry {
    /// Appends its octets to `out`; answers its check, which the next one covers.
    pub(super) fn encode(&self, link: &Check, out: &mut Vec<u8>) -> Check {
        let begun = out.len();
        // One that could not be read back is as good as none.
        let cursor = self.cursor.as_ref().map(|cursor| cursor.0.as_slice());
        let cursor = cursor.filter(|octets| octets.len() <= CURSOR_BYTES_MAX);
        let length = cursor.map_or(NO_CURSOR, |octets| octets.len() as u32);
        out.extend_from_slice(&self.first.to_be_bytes());
        out.extend_from_slice(&self.record_count.to_be_bytes());
        out.extend_from_slice(&length.to_be_bytes());
        out.extend_from_slice(&self.checksum);
        out.extend_from_slice(cursor.unwrap_or_default());
        let check = linked(link, &out[begun..]);
        out.extend_from_slice(&check);
        check
    }
}

fn linked(link: &Check, entry: &[u8]) -> Check {
    let mut hasher = blake3::Hasher::new();
    hasher.update(link).update(entry);
    head_of(&hasher.finalize())
}

/// A place between two entries, from which the further ones are read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mark {
    /// The position of the next record.
    pub(super) first: u64,
    /// Where the next entry begins in the index.
    pub(super) offset: u64,
    /// The check of the entry before.
    pub(super) link: Check,
}

impl Mark {
    /// Before the first entry.
    pub(super) fn start() -> Self {
        Self {
            first: 0,
            offset: 0,
            link: first_link(),
        }
    }
}

/// Reads entries, in order.
pub(super) struct Entries {
    path: PathBuf,
    file: BufReader<File>,
    mark: Mark,
    octets: Vec<u8>,
}

impl Entries {
    /// Those of the index at `path` from `mark` on.
    pub(super) fn open(path: &Path, mark: Mark) -> Result<Self, Error> {
        let open = || -> io::Result<_> {
            let mut file = File::open(path)?;
            file.seek(SeekFrom::Start(mark.offset))?;
            Ok(BufReader::new(file))
        };
        Ok(Self {
            file: open().map_err(|error| fault(path, &error))?,
            path: path.to_owned(),
            mark,
            octets: Vec::new(),
        })
    }

    /// Where it is.
    pub(super) fn mark(&self) -> Mark {
        self.mark
    }

    /// The next entry; `None` at the end of the file.
    ///
    /// # Errors
    /// `verification.work_torn` if the entry is not what was written.
    pub(super) fn next(&mut self) -> Result<Option<Entry>, Error> {
        let is_end = self.file.fill_buf().map(<[u8]>::is_empty);
        if is_end.map_err(|error| fault(&self.path, &error))? {
            return Ok(None);
        }
        self.octets.resize(HEAD_BYTES, 0);
        self.fill(0)?;
        let length = u32::from_be_bytes(self.part(16));
        let cursor_bytes = if length == NO_CURSOR { 0 } else { length as usize };
        if cursor_bytes > CURSOR_BYTES_MAX {
            return Err(torn(&self.path, "an entry is damaged"));
        }
        self.octets
            .resize(HEAD_BYTES + cursor_bytes + size_of::<Check>(), 0);
        self.fill(HEAD_BYTES)?;
        let (entry, check) = self.octets.split_at(HEAD_BYTES + cursor_bytes);
        let link = linked(&self.mark.link, entry);
        if check != link {
            return Err(torn(&self.path, "an entry is damaged"));
        }
        let entry = Entry {
            first: u64::from_be_bytes(self.part(0)),
            record_count: u64::from_be_bytes(self.part(8)),
            checksum: self.part(20),
            cursor: (length != NO_CURSOR).then(|| Cursor(entry[HEAD_BYTES..].to_vec())),
        };
        self.mark = Mark {
            first: entry.first + entry.record_count,
            offset: self.mark.offset + self.octets.len() as u64,
            link,
        };
        Ok(Some(entry))
    }

    fn fill(&mut self, from: usize) -> Result<(), Error> {
        self.file
            .read_exact(&mut self.octets[from..])
            .map_err(|error| fault(&self.path, &error))
    }

    fn part<const N: usize>(&self, at: usize) -> [u8; N] {
        *self.octets[at..].first_chunk().expect("the head was read")
    }
}
