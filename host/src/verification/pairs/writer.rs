//! Writes a file of pairs by appending: durable up to a mark, cut off there when it is gone on with.
//!
//! Neighbours: `file` says what is in it and reads it, `index` is what vouches for it.

use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, BufWriter, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use whimbrel_plugin_api::{Cursor, Error};

use super::fault::{fault, torn};
use super::file::{BUFFER_BYTES, Batches, PAIR_BYTES, PairFile};
use super::index::{Check, Entry, Mark, check_of, index_of};
use crate::verification::digest::Pair;
use crate::workspace::{make_folder, open_private};

/// Owner alone.
const FILE_MODE: u32 = 0o600;

/// How far a file is durable.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PairMark {
    /// Records.
    pub record_count: u64,
    /// Batches of them.
    pub batch_count: u64,
}

/// Appends pairs. After an error nothing more can be appended: what is behind the last mark is of no use.
pub struct PairWriter {
    path: PathBuf,
    pairs: BufWriter<File>,
    index: BufWriter<File>,
    mark: PairMark,
    link: Check,
    /// Of one batch, and of its entry.
    octets: Vec<u8>,
    /// Whether the names of both files are durable.
    is_named: bool,
}

impl PairWriter {
    /// An empty file at `path`; what was there is gone. Readable by its owner alone, as is its folder if that has to be made.
    ///
    /// # Errors
    /// `verification.work_file`; `workspace.disk_full`, as everywhere here.
    pub fn create(path: &Path) -> Result<Self, Error> {
        make_folder(folder_of(path))?;
        let emptied = |path: &Path| -> Result<BufWriter<File>, Error> {
            let file = open_private(path, false).and_then(|file| {
                // One that was there before may have been for others, too.
                file.set_permissions(Permissions::from_mode(FILE_MODE))?;
                Ok(file)
            });
            let file = file.map_err(|error| fault(path, &error))?;
            Ok(BufWriter::with_capacity(BUFFER_BYTES, file))
        };
        Ok(Self {
            path: path.to_owned(),
            pairs: emptied(path)?,
            index: emptied(&index_of(path))?,
            mark: PairMark::default(),
            link: Mark::start().link,
            octets: Vec::new(),
            is_named: false,
        })
    }

    /// The file at `path`, cut off behind `mark`. All of it is read and checked.
    ///
    /// # Errors
    /// `verification.work_file`; `verification.work_torn` if it is shorter than that or its octets are not what was written.
    pub fn resume(path: &Path, mark: PairMark) -> Result<Self, Error> {
        Self::resume_with(path, mark, &mut |_| {})
    }

    /// As [`PairWriter::resume`]; `each` is given the pairs that are kept, in order.
    ///
    /// # Errors
    /// As [`PairWriter::resume`].
    pub fn resume_with(path: &Path, mark: PairMark, each: &mut dyn FnMut(Pair)) -> Result<Self, Error> {
        let mut batches = Batches::open(path, Mark::start())?;
        for _ in 0..mark.batch_count {
            let Some(batch) = batches.next()? else {
                return Err(torn(&index_of(path), "it ends too early"));
            };
            batch.pairs().for_each(&mut *each);
        }
        let Mark { first, offset, link } = batches.mark();
        if first != mark.record_count {
            return Err(torn(&index_of(path), "it tells of other records"));
        }
        let cut = |path: &Path, bytes: u64| -> Result<BufWriter<File>, Error> {
            let open = || -> io::Result<File> {
                let mut file = OpenOptions::new().write(true).open(path)?;
                file.set_len(bytes)?;
                file.seek(SeekFrom::End(0))?;
                Ok(file)
            };
            let file = open().map_err(|error| fault(path, &error))?;
            Ok(BufWriter::with_capacity(BUFFER_BYTES, file))
        };
        Ok(Self {
            path: path.to_owned(),
            pairs: cut(path, first * PAIR_BYTES as u64)?,
            index: cut(&index_of(path), offset)?,
            mark,
            link,
            octets: Vec::new(),
            is_named: true,
        })
    }

    /// Appends a batch that is read again from `cursor` on, if that is known. Nothing is noted of one without pairs.
    ///
    /// # Errors
    /// `verification.work_file`.
    pub fn append(&mut self, cursor: Option<&Cursor>, pairs: &[Pair]) -> Result<(), Error> {
        if pairs.is_empty() {
            return Ok(());
        }
        self.octets.clear();
        self.octets.reserve(pairs.len() * PAIR_BYTES);
        for pair in pairs {
            self.octets.extend_from_slice(&pair_octets(*pair));
        }
        let entry = Entry {
            first: self.mark.record_count,
            record_count: pairs.len() as u64,
            checksum: check_of(&self.octets),
            cursor: cursor.cloned(),
        };
        let written = self.pairs.write_all(&self.octets);
        written.map_err(|error| fault(&self.path, &error))?;
        self.octets.clear();
        self.link = entry.encode(&self.link, &mut self.octets);
        let written = self.index.write_all(&self.octets);
        written.map_err(|error| fault(&index_of(&self.path), &error))?;
        self.mark.record_count += entry.record_count;
        self.mark.batch_count += 1;
        Ok(())
    }

    /// Records and batches so far, whether they are durable or not.
    pub fn written(&self) -> PairMark {
        self.mark
    }

    /// Makes durable what was appended, and says how far it is.
    ///
    /// # Errors
    /// `verification.work_file`.
    pub fn sync(&mut self) -> Result<PairMark, Error> {
        let sync = |file: &mut BufWriter<File>| {
            file.flush()?;
            file.get_ref().sync_data()
        };
        sync(&mut self.pairs).map_err(|error| fault(&self.path, &error))?;
        sync(&mut self.index).map_err(|error| fault(&index_of(&self.path), &error))?;
        if !self.is_named {
            let folder = folder_of(&self.path);
            let synced = File::open(folder).and_then(|folder| folder.sync_all());
            synced.map_err(|error| fault(folder, &error))?;
            self.is_named = true;
        }
        Ok(self.mark)
    }

    /// Ends the writing without making it durable, for a file that is made anew if the process is killed.
    ///
    /// # Errors
    /// `verification.work_file`.
    pub fn close(mut self) -> Result<(), Error> {
        let flushed = self.pairs.flush();
        flushed.map_err(|error| fault(&self.path, &error))?;
        let flushed = self.index.flush();
        flushed.map_err(|error| fault(&index_of(&self.path), &error))
    }

    /// Syncs and opens it for reading.
    ///
    /// # Errors
    /// `verification.work_file`.
    pub fn finish(mut self) -> Result<PairFile, Error> {
        self.sync()?;
        PairFile::open(&self.path)
    }
}

fn pair_octets(pair: Pair) -> [u8; PAIR_BYTES] {
    let mut octets = [0; PAIR_BYTES];
    let (key, record) = octets.split_at_mut(PAIR_BYTES / 2);
    key.copy_from_slice(&pair.key.to_be_bytes());
    record.copy_from_slice(&pair.record.to_be_bytes());
    octets
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}
