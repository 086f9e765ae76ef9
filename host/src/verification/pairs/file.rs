//! A finished file of pairs: read from its start; and where the batch of a record is.
//!
//! The file itself is nothing but pairs, the digest of the key before that of the record, 16 octets each, big-endian. What
//! it holds is only believed where its `index` vouches for it: a flipped bit is refused and never taken for a difference.
//! Neighbour: `writer` makes it.

use std::fs::{self, File};
use std::io::{self, BufReader, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use whimbrel_plugin_api::{Cursor, Error};

use super::fault::{fault, torn};
use super::index::{Entries, Entry, Mark, check_of, index_of};
use crate::verification::digest::Pair;

/// A pair on disk.
pub(super) const PAIR_BYTES: usize = 32;
/// Files are written and read in steps of this size, if batches are smaller.
pub(super) const BUFFER_BYTES: usize = 64 * 1024;
/// Places between entries of the index that a file remembers, 32 octets each; further ones are looked up from there.
const MARKS_MAX: usize = 1_024;

/// Where a batch is in a file, and where it is read again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchPlace {
    /// The position of its first record in the file, from 0.
    pub first: u64,
    /// Its records.
    pub record_count: u64,
    /// The cursor before its first record; none if the reader cannot go on in mid-part.
    pub cursor: Option<Cursor>,
}

/// A finished file. Reading it takes constant memory; it is open only while it is read.
#[derive(Debug)]
pub struct PairFile {
    path: PathBuf,
    record_count: u64,
    /// Before the first batch, and before every so many further ones.
    marks: Vec<Mark>,
}

impl PairFile {
    /// The file at `path`. Its index is read and checked; the pairs are when they are read.
    ///
    /// # Errors
    /// `verification.work_file`, `verification.work_torn`.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let mut entries = Entries::open(&index_of(path), Mark::start())?;
        let mut marks = vec![entries.mark()];
        let (mut batch_count, mut apart) = (0_u64, 1_u64);
        while entries.next()?.is_some() {
            batch_count += 1;
            if batch_count.is_multiple_of(apart) {
                marks.push(entries.mark());
            }
            if marks.len() > MARKS_MAX {
                let mut number = 0_usize;
                marks.retain(|_| {
                    number += 1;
                    number % 2 == 1
                });
                apart *= 2;
            }
        }
        let record_count = entries.mark().first;
        let length = fs::metadata(path).map_err(|error| fault(path, &error))?.len();
        if length != record_count * PAIR_BYTES as u64 {
            return Err(torn(path, "its length is not that of its records"));
        }
        Ok(Self {
            path: path.to_owned(),
            record_count,
            marks,
        })
    }

    /// Records.
    pub fn record_count(&self) -> u64 {
        self.record_count
    }

    /// Gives each pair with its position to `each`, in order.
    ///
    /// # Errors
    /// `verification.work_file`, `verification.work_torn`, and what `each` brings.
    pub fn scan(&self, each: &mut dyn FnMut(u64, Pair) -> Result<(), Error>) -> Result<(), Error> {
        self.scan_while(&mut |position, pair| each(position, pair).map(|()| true))
    }

    /// As [`PairFile::scan`], until `each` says false.
    ///
    /// # Errors
    /// As [`PairFile::scan`].
    pub fn scan_while(&self, each: &mut dyn FnMut(u64, Pair) -> Result<bool, Error>) -> Result<(), Error> {
        let mut batches = Batches::open(&self.path, Mark::start())?;
        while let Some(batch) = batches.next()? {
            for (position, pair) in (batch.entry.first..).zip(batch.pairs()) {
                if !each(position, pair)? {
                    return Ok(());
                }
            }
        }
        if batches.mark().first != self.record_count {
            return Err(torn(&self.path, "its records are not those that it had"));
        }
        Ok(())
    }

    /// The batch that holds the record at `position`.
    ///
    /// # Errors
    /// `verification.work_file`, `verification.work_torn`; `internal` if there is no such record.
    pub fn batch_of(&self, position: u64) -> Result<BatchPlace, Error> {
        let mut entries = Entries::open(&index_of(&self.path), self.before(position))?;
        while let Some(entry) = entries.next()? {
            if position < entry.first + entry.record_count {
                return Ok(BatchPlace {
                    first: entry.first,
                    record_count: entry.record_count,
                    cursor: entry.cursor,
                });
            }
        }
        Err(no_record(position))
    }

    /// The last known place before `position`.
    fn before(&self, position: u64) -> Mark {
        let number = self.marks.partition_point(|mark| mark.first <= position);
        self.marks[number.saturating_sub(1)]
    }
}

fn no_record(position: u64) -> Error {
    Error::internal(format!("no record {position} in a file of pairs"))
}

fn to_pair(octets: &[u8; PAIR_BYTES]) -> Pair {
    let (halves, _) = octets.as_chunks();
    Pair {
        key: u128::from_be_bytes(halves[0]),
        record: u128::from_be_bytes(halves[1]),
    }
}

/// Reads batches and checks them before anything is done with them.
pub(super) struct Batches {
    path: PathBuf,
    pairs: BufReader<File>,
    entries: Entries,
    octets: Vec<u8>,
}

pub(super) struct ReadBatch<'a> {
    entry: Entry,
    octets: &'a [u8],
}

impl ReadBatch<'_> {
    pub(super) fn pairs(&self) -> impl Iterator<Item = Pair> {
        self.octets.as_chunks().0.iter().map(to_pair)
    }
}

impl Batches {
    pub(super) fn open(path: &Path, mark: Mark) -> Result<Self, Error> {
        let open = || -> io::Result<_> {
            let mut file = File::open(path)?;
            file.seek(SeekFrom::Start(mark.first * PAIR_BYTES as u64))?;
            Ok(BufReader::with_capacity(BUFFER_BYTES, file))
        };
        Ok(Self {
            pairs: open().map_err(|error| fault(path, &error))?,
            entries: Entries::open(&index_of(path), mark)?,
            path: path.to_owned(),
            octets: Vec::new(),
        })
    }

    pub(super) fn next(&mut self) -> Result<Option<ReadBatch<'_>>, Error> {
        let Some(entry) = self.entries.next()? else {
            return Ok(None);
        };
        self.read(entry).map(Some)
    }

    /// Behind the batches so far.
    pub(super) fn mark(&self) -> Mark {
        self.entries.mark()
    }

    fn read(&mut self, entry: Entry) -> Result<ReadBatch<'_>, Error> {
        // It was in memory when it was written, as records.
        let bytes = usize::try_from(entry.record_count).map(|count| count * PAIR_BYTES);
        let bytes = bytes.map_err(|_| torn(&self.path, "a batch is too large"))?;
        self.octets.resize(bytes, 0);
        let read = self.pairs.read_exact(&mut self.octets);
        read.map_err(|error| fault(&self.path, &error))?;
        if check_of(&self.octets) != entry.checksum {
            return Err(torn(&self.path, "a batch is damaged"));
        }
        Ok(ReadBatch {
            entry,
            octets: &self.octets,
        })
    }
}

#[cfg(test)]
mod tests;
