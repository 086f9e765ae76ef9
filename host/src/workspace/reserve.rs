//! Room on the disk that is kept from the start, so that the last files can be written when there is no other left.
//!
//! A file whose blocks are real: the file system has given them away already. Deleting it makes them free.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use rustix::fs::FallocateFlags;
use rustix::io::Errno;

use super::open_private;

/// A file that only takes up room.
#[derive(Debug)]
pub struct Reserve {
    path: PathBuf,
    file: File,
    bytes: u64,
}

impl Reserve {
    /// Takes `bytes` of room at `path`.
    ///
    /// # Errors
    /// Those of making the file; a full disk among them.
    pub fn create(path: &Path, bytes: u64) -> io::Result<Self> {
        let file = open_private(path, false)?;
        let mut reserve = Self {
            path: path.to_owned(),
            file,
            bytes: 0,
        };
        match reserve.grow(bytes) {
            Ok(()) => Ok(reserve),
            Err(error) => {
                drop(reserve.release());
                Err(error)
            }
        }
    }

    /// Takes more room if it has less than `bytes`.
    ///
    /// # Errors
    /// Those of the file system; what it had it keeps.
    pub fn grow(&mut self, bytes: u64) -> io::Result<()> {
        if bytes <= self.bytes {
            return Ok(());
        }
        match rustix::fs::fallocate(
            &self.file,
            FallocateFlags::empty(),
            self.bytes,
            bytes - self.bytes,
        ) {
            Ok(()) => {}
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => self.fill(bytes - self.bytes)?,
            Err(error) => return Err(error.into()),
        }
        self.bytes = bytes;
        Ok(())
    }

    /// For file systems that cannot give blocks away unwritten. Octets that no file system can compress.
    fn fill(&mut self, bytes: u64) -> io::Result<()> {
        let mut stream = blake3::Hasher::new()
            .update(&self.bytes.to_le_bytes())
            .finalize_xof();
        let mut piece = [0; 8_192];
        let mut left = bytes as usize;
        while left > 0 {
            let length = left.min(piece.len());
            stream.fill(&mut piece[..length]);
            self.file.write_all(&piece[..length])?;
            left -= length;
        }
        self.file.sync_data()
    }

    /// Makes the room free.
    ///
    /// # Errors
    /// Those of emptying and deleting the file.
    pub fn release(self) -> io::Result<()> {
        // Emptied first: on some file systems a full disk refuses to delete but not to cut.
        self.file.set_len(0)?;
        fs::remove_file(&self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt as _;

    #[test]
    fn its_blocks_are_real() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("reserve");
        let mut reserve = Reserve::create(&path, 100_000).unwrap();
        reserve.grow(300_000).unwrap();
        reserve.grow(10).unwrap();
        let made = fs::metadata(&path).unwrap();
        assert!(made.blocks() * 512 >= 300_000, "{} blocks", made.blocks());
        reserve.release().unwrap();
        assert!(!path.exists());
    }

    #[test]
    fn filling_takes_as_much_room() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("reserve");
        let mut reserve = Reserve {
            file: open_private(&path, false).unwrap(),
            path: path.clone(),
            bytes: 0,
        };
        reserve.fill(20_001).unwrap();
        let made = fs::metadata(&path).unwrap();
        assert_eq!(made.len(), 20_001);
        assert!(made.blocks() * 512 >= 20_001);
    }
}
