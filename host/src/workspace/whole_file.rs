//! Files that a reader finds either as they were or as they are, never in between, whatever ends the process.
//!
//! Written beside their place, synced, renamed, and the folder synced. Only their owner may read them.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;

/// Owner alone reads and writes.
const FILE_MODE: u32 = 0o600;

/// Opens a file for writing that only its owner may read; emptied, or to be added to if `append`.
///
/// # Errors
/// Those of opening.
pub fn open_private(path: &Path, append: bool) -> io::Result<File> {
    OpenOptions::new()
        .create(true)
        .write(true)
        .append(append)
        .truncate(!append)
        .mode(FILE_MODE)
        .open(path)
}

/// Marks a file as in use by this process, for as long as it is open.
///
/// # Errors
/// Those of locking; `WouldBlock` if another process has it.
pub fn lock(file: &File) -> io::Result<()> {
    Ok(rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive)?)
}

/// Whether a process has marked the file at `path` as in use, as far as this user may look. A process that was killed has not.
pub fn is_locked(path: &Path) -> bool {
    look_for_lock(path).unwrap_or(false)
}

/// Whether a process has marked the file at `path` as in use; nobody has if there is no such file.
///
/// # Errors
/// Those of opening, such as that this user may not: it is then not known.
pub fn look_for_lock(path: &Path) -> io::Result<bool> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
            ) =>
        {
            return Ok(false);
        }
        Err(error) => return Err(error),
    };
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockShared) {
        Ok(()) => Ok(false),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(true),
        Err(error) => Err(error.into()),
    }
}

/// Writes `content` to `path`, whole and durable when this returns.
///
/// One writer per path at a time: what is half written stands under one name beside it.
///
/// # Errors
/// Those of writing, syncing and renaming; the former content is then still there.
pub fn write_whole(path: &Path, content: &[u8]) -> io::Result<()> {
    put(path, content, true)?;
    sync_folder(path)
}

/// Writes several files of one folder, each whole; durable together when this returns.
///
/// # Errors
/// As [`write_whole`]; files before the failing one are in their places.
pub fn write_all_whole(files: &[(PathBuf, Vec<u8>)]) -> io::Result<()> {
    for (path, content) in files {
        put(path, content, false)?;
    }
    // One sync for thousands of small files in place of one each.
    match files.first() {
        Some((path, _)) => Ok(rustix::fs::syncfs(File::open(folder_of(path))?)?),
        None => Ok(()),
    }
}

fn put(path: &Path, content: &[u8], sync: bool) -> io::Result<()> {
    let beside = beside(path)?;
    let written = open_private(&beside, false).and_then(|mut file| {
        file.write_all(content)?;
        if sync { file.sync_all() } else { Ok(()) }
    });
    written.and_then(|()| fs::rename(&beside, path)).inspect_err(|_| {
        // It takes up room that the next attempt may need; if it cannot go, that attempt overwrites it.
        drop(fs::remove_file(&beside));
    })
}

/// The name under which the new content is written first.
fn beside(path: &Path) -> io::Result<PathBuf> {
    let name = path
        .file_name()
        .ok_or_else(|| io::Error::from(io::ErrorKind::InvalidFilename))?;
    let mut hidden = std::ffi::OsString::from(".");
    hidden.push(name);
    hidden.push(".new");
    Ok(path.with_file_name(hidden))
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(folder_of(path))?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;
    use std::sync::atomic::{AtomicBool, Ordering};

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_reader_never_sees_half_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.json");
        let sizes = [300_000, 1, 70_000, 3];
        write_whole(&path, &[0]).unwrap();
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for round in 0..100_u8 {
                    write_whole(&path, &vec![round; sizes[usize::from(round) % 4]]).unwrap();
                }
                done.store(true, Ordering::SeqCst);
            });
            while !done.load(Ordering::SeqCst) {
                let seen = fs::read(&path).unwrap();
                assert!(sizes.contains(&seen.len()), "{} octets", seen.len());
                assert!(seen.windows(2).all(|two| two[0] == two[1]));
            }
        });
        assert_eq!(fs::read(&path).unwrap(), [99; 3]);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(names(folder.path()), ["a.json"]);
    }

    #[test]
    fn a_failed_write_leaves_the_former_content_and_no_litter() {
        let folder = tempfile::tempdir().unwrap();
        // A folder in the file's place lets everything succeed but the rename.
        let path = folder.path().join("a.json");
        fs::create_dir(&path).unwrap();
        write_whole(&path, b"new").unwrap_err();
        assert_eq!(names(folder.path()), ["a.json"]);
        assert!(path.is_dir());
    }

    #[test]
    fn a_lock_that_cannot_be_looked_at_is_told_from_none() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        assert!(!look_for_lock(&path).unwrap(), "there is no file");
        assert!(
            !look_for_lock(&folder.path().join("lock/below")).unwrap(),
            "there is no folder"
        );
        let held = open_private(&path, true).unwrap();
        assert!(!look_for_lock(&path).unwrap(), "nobody has marked it");
        lock(&held).unwrap();
        assert!(look_for_lock(&path).unwrap());
        drop(held);
        assert!(!look_for_lock(&path).unwrap());
        // A link to itself leads nowhere, whoever asks.
        let around = folder.path().join("around");
        std::os::unix::fs::symlink(&around, &around).unwrap();
        look_for_lock(&around).unwrap_err();
        assert!(!is_locked(&around));
    }

    #[test]
    fn several_files_are_written_together() {
        let folder = tempfile::tempdir().unwrap();
        let files: Vec<(PathBuf, Vec<u8>)> = (0..20_u8)
            .map(|number| (folder.path().join(format!("{number}.json")), vec![number]))
            .collect();
        write_all_whole(&files).unwrap();
        for (path, content) in &files {
            assert_eq!(&fs::read(path).unwrap(), content);
        }
        assert_eq!(names(folder.path()).len(), 20);
    }
}
