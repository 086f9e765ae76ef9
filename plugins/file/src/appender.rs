//! Appends lines to the file so that any number of processes may do so at once.
//!
//! The file itself carries the lock. Under it the appender first reads what others have written since, so that a key that
//! any of them has delivered is known; then it appends, syncs, and lets go. The file is opened for each line, so a
//! file that was moved or removed, by us or by a tool, is simply begun anew.

use std::fs::{File, Metadata, TryLockError};
use std::io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags};
use whimbrel_plugin_api::{Error, LogLevel, Result, Services};

use crate::config::NotifierConfig;
use crate::error::{io_error, locked, not_a_file};
use crate::line::{LINE_BYTES_MAX, key_of};
use crate::rotation::{old_file, rotate};
use crate::seen::{Place, Seen};

/// How long the lock may take. A line is written in milliseconds, so whoever holds it longer is stuck.
const LOCK_TIMEOUT: Duration = Duration::from_secs(5);
/// First and longest time between two tries to get the lock.
const LOCK_WAIT_MIN: Duration = Duration::from_millis(1);
const LOCK_WAIT_MAX: Duration = Duration::from_millis(50);
/// Octets at the end of the file and of the old ones before it that are searched for keys: any line fits.
const TAIL_BYTES: u64 = LINE_BYTES_MAX as u64;

/// Writes to one file.
pub(crate) struct Appender {
    config: NotifierConfig,
    services: Services,
    seen: Seen,
    known: Option<Known>,
    cannot_rotate: bool,
}

/// Up to where the file's keys are known.
struct Known {
    device: u64,
    inode: u64,
    end: u64,
}

impl Appender {
    /// Opens nothing yet.
    pub(crate) fn new(config: NotifierConfig, services: Services) -> Self {
        Self {
            config,
            services,
            seen: Seen::default(),
            known: None,
            cannot_rotate: false,
        }
    }

    /// Appends `line`, which ends in a line break, unless a line with `key` is there.
    ///
    /// # Errors
    /// Those of [`crate::error`], after which nothing of the line is in the file; `plugin.cancelled`.
    pub(crate) fn append(&mut self, key: &str, line: &[u8]) -> Result<Place> {
        let deadline = Instant::now() + LOCK_TIMEOUT;
        loop {
            let (file, metadata) = self.open_locked(deadline)?;
            self.catch_up(&file, &metadata)
                .map_err(|error| io_error("read", &self.config.path, &error))?;
            if let Some(place) = self.seen.place_of(key) {
                return Ok(place);
            }
            let length = metadata.len();
            if length > 0 && length + line.len() as u64 > self.config.size_bytes_max() && self.rotated() {
                continue;
            }
            let start = write_line(&file, length, line)
                .map_err(|error| io_error("write", &self.config.path, &error))?;
            let place = Place {
                inode: metadata.ino(),
                start,
            };
            self.seen.note(key, place);
            self.known = Some(Known {
                device: metadata.dev(),
                inode: metadata.ino(),
                end: start + line.len() as u64,
            });
            return Ok(place);
        }
    }

    /// The file, made if it is missing, with its lock, and still the one at the path.
    fn open_locked(&self, deadline: Instant) -> Result<(File, Metadata)> {
        let path = &self.config.path;
        let mut wait = LOCK_WAIT_MIN;
        loop {
            let file = open_or_create(path, self.config.readable_by.mode())
                .map_err(|error| io_error("open", path, &error))?;
            let metadata = file.metadata().map_err(|error| io_error("open", path, &error))?;
            if !metadata.is_file() {
                return Err(not_a_file(path));
            }
            match file.try_lock() {
                // Whoever held the lock before may have moved the file away; and it has grown since it was opened.
                Ok(()) if is_at(path, &metadata) => {
                    let metadata = file.metadata().map_err(|error| io_error("open", path, &error))?;
                    return Ok((file, metadata));
                }
                Ok(()) | Err(TryLockError::WouldBlock) => {}
                Err(TryLockError::Error(error)) => return Err(io_error("lock", path, &error)),
            }
            drop(file);
            if Instant::now() >= deadline {
                return Err(locked(path, LOCK_TIMEOUT.as_secs()));
            }
            if self.services.cancel_token().wait(wait) {
                return Err(Error::cancelled());
            }
            wait = (wait * 2).min(LOCK_WAIT_MAX);
        }
    }

    /// Learns the keys that were written since the last time, by whomever.
    fn catch_up(&mut self, file: &File, metadata: &Metadata) -> io::Result<()> {
        let length = metadata.len();
        let tail = length.saturating_sub(TAIL_BYTES);
        let (from, is_line_start) = match &self.known {
            Some(known)
                if (known.device, known.inode) == (metadata.dev(), metadata.ino()) && known.end <= length =>
            {
                (known.end.max(tail), known.end >= tail)
            }
            _ => {
                self.read_old_files(TAIL_BYTES - length.min(TAIL_BYTES))?;
                (tail, tail == 0)
            }
        };
        let end = read_keys(file, from..length, is_line_start, |key, start| {
            let inode = metadata.ino();
            self.seen.note(&key, Place { inode, start });
        })?;
        self.known = Some(Known {
            device: metadata.dev(),
            inode: metadata.ino(),
            end,
        });
        Ok(())
    }

    /// Learns the keys in the last `octets` of the old files, down to the one that was the file when it was last written
    /// here: others may have moved several away since.
    fn read_old_files(&mut self, mut octets: u64) -> io::Result<()> {
        let mut found = Vec::new();
        for number in 1..=self.config.keep {
            let path = old_file(&self.config.path, number);
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
            let Ok(file) = rustix::fs::open(&path, flags, Mode::empty()).map(File::from) else {
                break;
            };
            let metadata = file.metadata()?;
            if !metadata.is_file() || octets == 0 {
                break;
            }
            let from = metadata.len().saturating_sub(octets);
            octets -= metadata.len() - from;
            let is_known = self
                .known
                .as_ref()
                .is_some_and(|known| (known.device, known.inode) == (metadata.dev(), metadata.ino()));
            found.push((file, metadata, from));
            if is_known {
                break;
            }
        }
        for (file, metadata, from) in found.into_iter().rev() {
            read_keys(&file, from..metadata.len(), from == 0, |key, start| {
                let inode = metadata.ino();
                self.seen.note(&key, Place { inode, start });
            })?;
        }
        Ok(())
    }

    /// Moves the file away. If that is not possible, the file grows on: better too long than untold.
    fn rotated(&mut self) -> bool {
        if self.cannot_rotate {
            return false;
        }
        let path = &self.config.path;
        let outcome = rotate(path, self.config.keep).and_then(|()| sync_folder(path));
        if let Err(error) = &outcome {
            self.cannot_rotate = true;
            let path = path.display();
            let text = format!("`{path}` cannot be renamed and grows beyond `size_mb_max`: {error}");
            self.services.log(LogLevel::Warn, text);
        }
        outcome.is_ok()
    }
}

/// Whether the file at `path` is this one.
fn is_at(path: &Path, metadata: &Metadata) -> bool {
    path.symlink_metadata()
        .is_ok_and(|there| (there.dev(), there.ino()) == (metadata.dev(), metadata.ino()))
}

/// Opens the file, never through a link and never waiting for the other end of a pipe.
fn open_or_create(path: &Path, mode: u32) -> io::Result<File> {
    let flags = OFlags::RDWR
        | OFlags::APPEND
        | OFlags::NOFOLLOW
        | OFlags::CLOEXEC
        | OFlags::NONBLOCK
        | OFlags::NOCTTY;
    let mode = Mode::from_raw_mode(mode);
    loop {
        match rustix::fs::open(path, flags, Mode::empty()) {
            Err(rustix::io::Errno::NOENT) => {}
            opened => return Ok(opened?.into()),
        }
        match rustix::fs::open(path, flags | OFlags::CREATE | OFlags::EXCL, mode) {
            // Another process was quicker.
            Err(rustix::io::Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
            Ok(file) => {
                // What was asked for goes before the umask.
                rustix::fs::fchmod(&file, mode)?;
                sync_folder(path)?;
                return Ok(file.into());
            }
        }
    }
}

/// Makes new names durable.
fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(folder_of(path))?.sync_all()
}

/// The folder of the file.
pub(crate) fn folder_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
        _ => PathBuf::from("."),
    }
}

/// Appends `line` to a file of `length` octets and syncs it; returns where it begins. After an error the file is as it was.
fn write_line(file: &File, length: u64, line: &[u8]) -> io::Result<u64> {
    let mut start = length;
    let mut ended = Vec::new();
    let mut octets = line;
    if length > 0 {
        let mut last = [0];
        file.read_exact_at(&mut last, length - 1)?;
        if last != *b"\n" {
            // A process was killed while it wrote, or somebody's text lacks its end: that line stays what it is.
            ended.push(b'\n');
            ended.extend_from_slice(line);
            octets = &ended;
            start += 1;
        }
    }
    let mut writer = file;
    // One system call, unless the disk is full.
    match writer.write_all(octets).and_then(|()| file.sync_data()) {
        Ok(()) => Ok(start),
        Err(error) => {
            // If this fails too, the next line begins behind a line break all the same.
            drop(file.set_len(length));
            Err(error)
        }
    }
}

/// Hands over the keys of the whole lines in `range`, each with the octet where its line begins, and returns where the
/// last whole line ends. Unless the range begins with a line, what is before its first line break is left out.
pub(crate) fn read_keys(
    file: &File,
    range: std::ops::Range<u64>,
    is_line_start: bool,
    mut note: impl FnMut(String, u64),
) -> io::Result<u64> {
    let mut reading = file;
    reading.seek(SeekFrom::Start(range.start))?;
    let mut lines = BufReader::new(reading.take(range.end.saturating_sub(range.start)));
    let (mut start, mut is_whole) = (range.start, is_line_start);
    let mut line = Vec::new();
    loop {
        line.clear();
        let length = lines.read_until(b'\n', &mut line)? as u64;
        let Some(inside) = line.strip_suffix(b"\n") else {
            return Ok(start);
        };
        if is_whole && let Some(key) = key_of(inside) {
            note(key, start);
        }
        is_whole = true;
        start += length;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn temporary(content: &[u8]) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        std::fs::write(&path, content).unwrap();
        (folder, path)
    }

    #[test]
    fn a_full_disk_is_an_error_with_its_code() {
        let full = File::options().read(true).write(true).open("/dev/full").unwrap();
        let error = write_line(&full, 0, b"line\n").unwrap_err();
        let error = io_error("write", Path::new("a"), &error);
        assert_eq!(error.code, "file.disk_full");
        assert!(error.kind.is_transient());
    }

    #[test]
    fn a_file_that_was_moved_away_or_replaced_is_not_the_one_at_the_path() {
        let (folder, path) = temporary(b"");
        let metadata = open_or_create(&path, 0o600).unwrap().metadata().unwrap();
        assert!(is_at(&path, &metadata));
        std::fs::rename(&path, folder.path().join("b")).unwrap();
        assert!(!is_at(&path, &metadata));
        std::fs::write(&path, "").unwrap();
        assert!(!is_at(&path, &metadata));
    }

    #[test]
    fn a_line_without_end_is_ended_first() {
        let (_folder, path) = temporary(b"cut o");
        let file = open_or_create(&path, 0o600).unwrap();
        assert_eq!(write_line(&file, 5, b"line\n").unwrap(), 6);
        assert_eq!(std::fs::read(&path).unwrap(), b"cut o\nline\n");
    }

    #[test]
    fn keys_are_read_from_whole_lines_only() {
        let json = |key: &str| format!("{{\"dedupe_key\":\"{key}\"}}\n");
        let text = [json("a"), "foreign\n".to_owned(), json("b"), json("c")].concat();
        let (_folder, path) = temporary(text.trim_end().as_bytes());
        let file = File::open(&path).unwrap();
        let keys = |from: u64, is_line_start: bool| {
            let mut keys = Vec::new();
            let end = read_keys(
                &file,
                from..file.metadata().unwrap().len(),
                is_line_start,
                |key, start| {
                    keys.push((key, start));
                },
            );
            (keys, end.unwrap())
        };
        let b = json("a").len() as u64 + 8;
        let c = b + json("b").len() as u64;
        assert_eq!(keys(0, true), (vec![("a".to_owned(), 0), ("b".to_owned(), b)], c));
        assert_eq!(keys(3, false), (vec![("b".to_owned(), b)], c));
        assert_eq!(keys(b, true), (vec![("b".to_owned(), b)], c));
        assert_eq!(keys(b, false), (vec![], c));
    }
}
