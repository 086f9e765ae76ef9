//! Pairs that do not fit in memory, divided into files by ranges of their keys.
//!
//! A file is written once, read as often as needed, checked when it is read, and gone with its owner. A record in it has 40
//! octets: both digests and its place.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};

use whimbrel_plugin_api::Error;

use super::fault::{fault, torn};
use super::table::SidePlace;
use crate::verification::digest::Pair;
use crate::workspace::open_private;

/// A record.
const RECORD_BYTES: usize = 16 + 16 + 8;
/// Records that are read at one time: 64 KiB.
const RECORDS_AT_ONCE: usize = 1_638;

/// A file that is being written.
pub(super) struct SpillWriter {
    spill: Spill,
    file: File,
    hasher: blake3::Hasher,
    octets: Vec<u8>,
    octets_max: usize,
}

/// A file that was written.
pub(super) struct Spill {
    path: PathBuf,
    record_count: u64,
    hash: [u8; 32],
}

impl SpillWriter {
    /// A new file at `path`, with a buffer of at most `buffer_bytes` octets.
    pub(super) fn create(path: &Path, buffer_bytes: usize) -> Result<Self, Error> {
        let file = open_private(path, false).map_err(|error| fault(path, &error))?;
        let octets_max = buffer_bytes.max(RECORD_BYTES);
        Ok(Self {
            spill: Spill {
                path: path.to_owned(),
                record_count: 0,
                hash: [0; 32],
            },
            file,
            hasher: blake3::Hasher::new(),
            octets: Vec::with_capacity(octets_max),
            octets_max,
        })
    }

    pub(super) fn add(&mut self, pair: Pair, place: SidePlace) -> Result<(), Error> {
        if self.octets.len() + RECORD_BYTES > self.octets_max {
            self.flush()?;
        }
        self.octets.extend_from_slice(&pair.key.to_be_bytes());
        self.octets.extend_from_slice(&pair.record.to_be_bytes());
        self.octets.extend_from_slice(&place.to_octets());
        self.spill.record_count += 1;
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Error> {
        self.hasher.update(&self.octets);
        let written = self.file.write_all(&self.octets);
        written.map_err(|error| fault(&self.spill.path, &error))?;
        self.octets.clear();
        Ok(())
    }

    pub(super) fn finish(mut self) -> Result<Spill, Error> {
        self.flush()?;
        self.spill.hash = *self.hasher.finalize().as_bytes();
        Ok(self.spill)
    }
}

impl Spill {
    pub(super) fn record_count(&self) -> u64 {
        self.record_count
    }

    /// Gives each record to `each`, until that says false. What was given is to be believed only when this returns.
    pub(super) fn scan(
        &self,
        each: &mut dyn FnMut(Pair, SidePlace) -> Result<bool, Error>,
    ) -> Result<(), Error> {
        let failed = |error| fault(&self.path, &error);
        let mut file = File::open(&self.path).map_err(failed)?;
        let mut hasher = blake3::Hasher::new();
        let mut octets = Vec::new();
        let mut left = self.record_count;
        while left > 0 {
            let count = left.min(RECORDS_AT_ONCE as u64);
            octets.resize(count as usize * RECORD_BYTES, 0);
            file.read_exact(&mut octets).map_err(failed)?;
            hasher.update(&octets);
            for record in octets.as_chunks::<RECORD_BYTES>().0 {
                let (pair, place) = parts_of(record);
                if !each(pair, place)? {
                    return Ok(());
                }
            }
            left -= count;
        }
        if *hasher.finalize().as_bytes() != self.hash {
            return Err(torn(&self.path, "a record is damaged"));
        }
        Ok(())
    }
}

fn parts_of(record: &[u8; RECORD_BYTES]) -> (Pair, SidePlace) {
    let (digests, place) = record.as_chunks::<16>();
    let pair = Pair {
        key: u128::from_be_bytes(digests[0]),
        record: u128::from_be_bytes(digests[1]),
    };
    let place = place.first_chunk().expect("a record ends with 8 octets");
    (pair, SidePlace::from_octets(*place))
}

impl Drop for Spill {
    /// One that cannot be removed goes with its folder.
    fn drop(&mut self) {
        drop(fs::remove_file(&self.path));
    }
}

#[cfg(test)]
mod tests {
    use super::super::difference::Place;
    use super::super::fault::is_torn;
    use super::*;

    #[test]
    fn records_are_read_as_they_were_written_or_refused_and_the_file_goes_with_its_owner() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("spill");
        let mut writer = SpillWriter::create(&path, 100).unwrap();
        let records: Vec<(Pair, SidePlace)> = (0..5_000_u64)
            .map(|number| {
                let pair = Pair {
                    key: u128::from(number) << 77,
                    record: u128::MAX - u128::from(number),
                };
                let place = Place {
                    file: number as usize % 3,
                    position: number,
                };
                (pair, SidePlace::new(number % 2 == 1, place).unwrap())
            })
            .collect();
        for (pair, place) in &records {
            writer.add(*pair, *place).unwrap();
        }
        let spill = writer.finish().unwrap();
        let read = |take: usize| {
            let mut found = Vec::new();
            let outcome = spill.scan(&mut |pair, place| {
                found.push((pair, place));
                Ok(found.len() < take)
            });
            outcome.map(|()| found)
        };
        assert_eq!(read(usize::MAX).unwrap(), records);
        assert_eq!(read(7).unwrap(), records[..7]);
        let whole = fs::read(&path).unwrap();
        for at in [0, 17, 39, whole.len() - 1] {
            let mut octets = whole.clone();
            octets[at] ^= 1;
            fs::write(&path, octets).unwrap();
            assert!(is_torn(&read(usize::MAX).unwrap_err()), "octet {at}");
        }
        fs::write(&path, &whole[1..]).unwrap();
        assert!(is_torn(&read(usize::MAX).unwrap_err()));
        drop(spill);
        assert!(!path.exists());
    }
}
