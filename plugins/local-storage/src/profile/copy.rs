//! A copy of a browser's files that belongs together, although the browser may be writing them meanwhile.
//!
//! The files are listed, read and listed again; unless both lists agree, all of it is done once more, some times. Nothing
//! is written or locked at the browser's side. The copy is held in memory: what is private leaves no trace on a disk.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{ErrorKind, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::Duration;

use whimbrel_plugin_api::{LogLevel, Result, Services};

use crate::error;

/// How often files are copied before the browser is said to be too busy. LevelDB rewrites its files for some
/// milliseconds at a time, so two or three would do.
const ATTEMPTS_MAX: u32 = 8;
/// The pause after the first attempt; it doubles with each, to 1.3 seconds in all.
const PAUSE_FIRST: Duration = Duration::from_millis(10);

/// The content of each file, by name.
pub type Files = BTreeMap<String, Vec<u8>>;

/// Which files of a folder are copied.
#[derive(Clone, Copy)]
pub struct Wanted<'a> {
    pub folder: &'a Path,
    /// Whether a file of this name is copied.
    pub is_wanted: &'a dyn Fn(&str) -> bool,
    /// Whether a file of this name is only ever added to, so that its beginning stays as it is.
    pub may_grow: &'a dyn Fn(&str) -> bool,
    /// Octets of all files together.
    pub size_bytes_max: u64,
}

/// What tells that a file was touched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Mark {
    inode: u64,
    size: u64,
    modified: (i64, i64),
}

/// Calls `attempt` until it has a result. It is told whether this is the last time.
pub fn until_settled<T>(
    path: &str,
    services: &Services,
    mut attempt: impl FnMut(bool) -> Result<Option<T>>,
) -> Result<T> {
    for number in 1..=ATTEMPTS_MAX {
        services.check_cancelled()?;
        let is_last = number == ATTEMPTS_MAX;
        if let Some(result) = attempt(is_last)? {
            return Ok(result);
        }
        if !is_last {
            services.log(
                LogLevel::Debug,
                format!("the files changed while they were copied, attempt {number} of {ATTEMPTS_MAX}"),
            );
            // Wakes at once if the call is cancelled, which the next attempt sees.
            services.cancel_token().wait(PAUSE_FIRST * 2_u32.pow(number - 1));
        }
    }
    Err(error::busy(path))
}

/// Copies the files once; `None` if they changed meanwhile.
pub fn attempt(wanted: Wanted<'_>) -> Result<Option<Files>> {
    attempt_between(wanted, || {})
}

/// `between` runs after the files are listed and before they are read.
fn attempt_between(wanted: Wanted<'_>, between: impl FnOnce()) -> Result<Option<Files>> {
    let Some(before) = list(wanted)? else {
        return Ok(None);
    };
    if before.values().map(|mark| mark.size).sum::<u64>() > wanted.size_bytes_max {
        return Err(error::too_large(
            &wanted.folder.display().to_string(),
            wanted.size_bytes_max,
        ));
    }
    between();
    let mut files = Files::new();
    for (name, mark) in &before {
        let path = wanted.folder.join(name);
        let mut content = Vec::with_capacity(mark.size as usize);
        let read = File::open(&path).and_then(|file| file.take(mark.size).read_to_end(&mut content));
        match read {
            Ok(size) if size as u64 == mark.size => files.insert(name.clone(), content),
            Ok(_) => return Ok(None),
            Err(cause) if cause.kind() == ErrorKind::NotFound => return Ok(None),
            Err(cause) => return Err(error::unreadable(&path.display().to_string(), &cause)),
        };
    }
    let agrees = |after: &BTreeMap<String, Mark>| {
        after.len() == before.len()
            && before.iter().zip(after).all(|((name, old), (after, new))| {
                let has_grown = (wanted.may_grow)(name) && old.inode == new.inode && old.size <= new.size;
                name == after && (old == new || has_grown)
            })
    };
    Ok(list(wanted)?.filter(agrees).map(|_| files))
}

/// The files that are there; `None` if one vanished while they were looked at.
fn list(wanted: Wanted<'_>) -> Result<Option<BTreeMap<String, Mark>>> {
    let unreadable = |cause: std::io::Error| error::unreadable(&wanted.folder.display().to_string(), &cause);
    let mut marks = BTreeMap::new();
    for entry in std::fs::read_dir(wanted.folder).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        let Some(name) = entry.file_name().to_str().map(str::to_owned) else {
            continue;
        };
        if !(wanted.is_wanted)(&name) {
            continue;
        }
        let metadata = match std::fs::metadata(entry.path()) {
            Ok(metadata) => metadata,
            Err(cause) if cause.kind() == ErrorKind::NotFound => return Ok(None),
            Err(cause) => return Err(error::unreadable(&entry.path().display().to_string(), &cause)),
        };
        // A pipe would block.
        if metadata.is_file() {
            let mark = Mark {
                inode: metadata.ino(),
                size: metadata.len(),
                modified: (metadata.mtime(), metadata.mtime_nsec()),
            };
            marks.insert(name, mark);
        }
    }
    Ok(Some(marks))
}

#[cfg(test)]
mod tests {
    use std::fs::{remove_file, rename, write};
    use std::io::Write as _;

    use super::*;

    /// What it is, and what is done to the folder.
    type Change = (&'static str, fn(&Path));

    fn wanted(folder: &Path) -> Wanted<'_> {
        Wanted {
            folder,
            is_wanted: &|name| name != "LOCK",
            may_grow: &|name| name.ends_with(".log"),
            size_bytes_max: 100,
        }
    }

    fn append(path: &Path, text: &str) {
        let mut file = std::fs::OpenOptions::new().append(true).open(path).unwrap();
        file.write_all(text.as_bytes()).unwrap();
    }

    #[test]
    fn files_that_stay_are_copied_and_a_log_may_grow_meanwhile() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        write(path("1.ldb"), "table").unwrap();
        write(path("2.log"), "first").unwrap();
        write(path("LOCK"), "").unwrap();
        let files = attempt_between(wanted(folder.path()), || append(&path("2.log"), " second"))
            .unwrap()
            .unwrap();
        let expected = [("1.ldb", "table"), ("2.log", "first")];
        assert_eq!(
            files,
            expected
                .map(|(name, text)| (name.to_owned(), text.as_bytes().to_vec()))
                .into()
        );
    }

    #[test]
    fn each_change_of_another_kind_spoils_the_attempt() {
        let changes: [Change; 6] = [
            ("a table is added", |folder| {
                write(folder.join("3.ldb"), "x").unwrap()
            }),
            ("a table is removed", |folder| {
                remove_file(folder.join("1.ldb")).unwrap()
            }),
            ("a table grows", |folder| append(&folder.join("1.ldb"), "x")),
            ("a log is cut", |folder| {
                write(folder.join("2.log"), "fi").unwrap()
            }),
            ("a log is replaced", |folder| {
                write(folder.join("LOCK"), "longer than first").unwrap();
                rename(folder.join("LOCK"), folder.join("2.log")).unwrap();
            }),
            ("a table is renamed", |folder| {
                rename(folder.join("1.ldb"), folder.join("4.ldb")).unwrap();
            }),
        ];
        for (what, change) in changes {
            let folder = tempfile::tempdir().unwrap();
            write(folder.path().join("1.ldb"), "table").unwrap();
            write(folder.path().join("2.log"), "first").unwrap();
            let copied = attempt_between(wanted(folder.path()), || change(folder.path())).unwrap();
            assert_eq!(copied, None, "{what}");
        }
    }

    #[test]
    fn attempts_end_with_the_first_that_holds_or_after_some() {
        let services = Services::detached();
        let folder = tempfile::tempdir().unwrap();
        write(folder.path().join("1.ldb"), "table").unwrap();
        for (changes, holds) in [(0, true), (3, true), (ATTEMPTS_MAX, false)] {
            let (mut attempts, mut lasts) = (0, 0);
            let settled = until_settled("the profile", &services, |is_last| {
                attempts += 1;
                lasts += u32::from(is_last);
                let change = || append(&folder.path().join("1.ldb"), "x");
                if attempts <= changes {
                    attempt_between(wanted(folder.path()), change)
                } else {
                    attempt(wanted(folder.path()))
                }
            });
            if holds {
                assert!(settled.is_ok());
                assert_eq!((attempts, lasts), (changes + 1, 0));
            } else {
                let error = settled.unwrap_err();
                assert_eq!(error.code, "local_storage.busy");
                assert_eq!(
                    error.message,
                    "the files in `the profile` changed each time while they were copied"
                );
                assert_eq!((attempts, lasts), (ATTEMPTS_MAX, 1));
            }
        }
    }

    #[test]
    fn waiting_ends_when_the_call_is_cancelled() {
        let services = Services::detached();
        services.cancel_token().cancel();
        let cancelled = until_settled::<()>("x", &services, |_| panic!("nothing is copied")).unwrap_err();
        assert_eq!(cancelled.kind, whimbrel_plugin_api::ErrorKind::Cancelled);
    }

    #[test]
    fn more_than_the_limit_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path().join("1.ldb"), [0; 60]).unwrap();
        assert!(attempt(wanted(folder.path())).unwrap().is_some());
        write(folder.path().join("2.ldb"), [0; 41]).unwrap();
        let error = attempt(wanted(folder.path())).unwrap_err();
        assert_eq!(error.code, "local_storage.file_too_large");
    }
}
