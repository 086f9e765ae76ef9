//! How the daemon of a settings file is found, whatever that file says by now: a mark that it holds beside the file while it lives, in
//! which its working folder is named.
//!
//! Where nothing can be written beside the file, the mark is in the user's own folder for state. Neighbour: `presence`, what is in
//! the working folder.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use whimbrel_plugin_api::{Error, ErrorKind};

use super::presence::{LOCK_FILE, Seen, seen};
use crate::config::{Variables, daemon_folder};
use crate::workspace::{Workspace, fault, file_names, lock, look_for_lock, open_private};

/// Digits of the digest of a path, which name a mark that is not beside its file.
const DIGEST_CHARS: usize = 32;
/// Ends the path in a mark, so that one that is half written is told from a whole one.
const MARK_END: u8 = 0;
/// Who only looks whether a lock is held holds it for a moment, so that one that is busy is tried so often.
const LOCK_TRIES: u32 = 5;
/// Between two looks at what another process does.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);
/// A daemon that comes up or ends may have one of its locks and not the other for so long.
const SETTLE_MAX: Duration = Duration::from_secs(2);

/// A daemon that lives.
#[derive(Debug, Clone, PartialEq)]
pub struct Living {
    /// Its working folder.
    pub folder: PathBuf,
    /// What it says of itself.
    pub seen: Seen,
}

/// The daemon of the settings file at `settings`, which may be wrong, changed or gone by now.
///
/// # Errors
/// `schedule.hidden` if it cannot be looked whether there is one, `schedule.silent` if there is one that says nothing; if there is
/// none to be seen, also what keeps the settings file from being read.
pub fn find(settings: &Path, variables: &Variables) -> Result<Option<Living>, Vec<Error>> {
    let begun = Instant::now();
    loop {
        match look(settings, variables)? {
            Found::Living(living) => return Ok(Some(*living)),
            Found::Nobody => return Ok(None),
            Found::Silent(folder) if begun.elapsed() >= SETTLE_MAX => return Err(vec![silent(&folder)]),
            Found::Silent(_) => std::thread::sleep(LOOK_INTERVAL),
        }
    }
}

enum Found {
    Nobody,
    Living(Box<Living>),
    /// Somebody is there and says nothing that can be read.
    Silent(PathBuf),
}

fn look(settings: &Path, variables: &Variables) -> Result<Found, Vec<Error>> {
    let mut cannot_see = None;
    for mark in marks(settings) {
        match look_for_lock(&mark) {
            Ok(true) => return Ok(of_folder(folder_in(&mark).unwrap_or(mark))),
            Ok(false) => {}
            Err(error) => cannot_see = cannot_see.or(Some(hidden(&mark, &error))),
        }
    }
    // One that could leave no mark is found by its folder, as long as the settings name that.
    let folder = match daemon_folder(settings, variables) {
        Ok(folder) => folder,
        Err(faults) => return Err(cannot_see.map_or(faults, |error| vec![error])),
    };
    let path = folder.join(LOCK_FILE);
    match (look_for_lock(&path), cannot_see) {
        (Ok(true), _) => Ok(of_folder(folder)),
        (Err(error), _) => Err(vec![hidden(&path, &error)]),
        (Ok(false), Some(error)) => Err(vec![error]),
        (Ok(false), None) => Ok(Found::Nobody),
    }
}

fn of_folder(folder: PathBuf) -> Found {
    match seen(&folder) {
        Some(seen) => Found::Living(Box::new(Living { folder, seen })),
        None => Found::Silent(folder),
    }
}

/// The mark of a daemon, which holds it while this lives.
pub(super) struct Mark {
    _file: Option<File>,
}

impl Mark {
    /// Says where the daemon of `settings` is: in `folder`. Where no mark can be left, it is found by its folder alone.
    ///
    /// # Errors
    /// `schedule.daemon_running` if another daemon of these settings lives, `schedule.hidden` if that cannot be seen;
    /// `workspace.*` if there is a place that cannot be written to.
    pub(super) fn leave(settings: &Path, folder: &Path) -> Result<Self, Error> {
        let marks = marks(settings);
        for mark in &marks {
            if look_for_lock(mark).map_err(|error| hidden(mark, &error))? {
                return Err(daemon_running(&folder_in(mark).unwrap_or_else(|| mark.clone())));
            }
        }
        for mark in marks {
            // A folder that is not for this user to write to has no marks of this user's daemons either.
            let folder_of_mark = Workspace::of_job(settings, mark.parent());
            if folder_of_mark.create().is_err() {
                continue;
            }
            let Ok(file) = open_private(&mark, true) else {
                continue;
            };
            return match hold(&file) {
                Ok(true) => {
                    write(&file, folder).map_err(|error| fault(&mark, &error))?;
                    Ok(Self { _file: Some(file) })
                }
                Ok(false) => Err(daemon_running(&folder_in(&mark).unwrap_or(mark))),
                Err(error) => Err(fault(&mark, &error)),
            };
        }
        Ok(Self { _file: None })
    }
}

/// Marks a file as in use by this process, unless another one has it.
///
/// # Errors
/// Those of locking.
pub(super) fn hold(file: &File) -> io::Result<bool> {
    for _ in 1..LOCK_TRIES {
        match lock(file) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => std::thread::sleep(LOOK_INTERVAL),
            other => return other.map(|()| true),
        }
    }
    match lock(file) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
        other => other.map(|()| true),
    }
}

/// The error for a second daemon, where the first one has its place in `folder`.
pub fn daemon_running(folder: &Path) -> Error {
    let who = seen(folder).map_or_else(
        || "another daemon".to_owned(),
        |seen| {
            let process = &seen.process;
            format!("another daemon, process {} on `{}`,", process.pid, process.host)
        },
    );
    let text = format!("{who} runs in `{}`", folder.display());
    Error::new(ErrorKind::Exists, "schedule.daemon_running", text).with_help(
        "end it by `whimbrel daemon stop`, or have it read its files again by `whimbrel daemon reload`",
    )
}

/// Where the daemon of `settings` leaves its mark, the best place first.
fn marks(settings: &Path) -> Vec<PathBuf> {
    let path = std::path::absolute(settings).unwrap_or_else(|_| settings.to_owned());
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let name = file_names([&*name]).remove(0);
    let beside = Workspace::of_job(&path, None);
    let mut marks = vec![beside.root().join(format!("daemon-of-{name}"))];
    if let Some(state) = state_home() {
        let digest = blake3::hash(path.as_os_str().as_bytes()).to_hex();
        marks.push(state.join("whimbrel/daemons").join(&digest[..DIGEST_CHARS]));
    }
    marks
}

/// `XDG_STATE_HOME`, or `~/.local/state`.
fn state_home() -> Option<PathBuf> {
    let named = |name: &str| {
        let value = std::env::var_os(name).map(PathBuf::from);
        value.filter(|path| path.is_absolute())
    };
    named("XDG_STATE_HOME").or_else(|| named("HOME").map(|home| home.join(".local/state")))
}

fn write(mut file: &File, folder: &Path) -> io::Result<()> {
    let mut content = folder.as_os_str().as_bytes().to_vec();
    content.push(MARK_END);
    file.set_len(0)?;
    file.write_all(&content)
}

/// The folder that a mark names, once it is written.
fn folder_in(mark: &Path) -> Option<PathBuf> {
    let mut content = std::fs::read(mark).ok()?;
    let end = content.pop()?;
    (end == MARK_END).then(|| OsString::from_vec(content).into())
}

fn hidden(path: &Path, error: &io::Error) -> Error {
    let text = format!(
        "`{}` cannot be looked at, so it is not known whether a daemon runs",
        path.display()
    );
    Error::new(ErrorKind::Permission, "schedule.hidden", text)
        .with_help("ask as the user who runs the daemon, or as root")
        .with_cause(error)
}

fn silent(folder: &Path) -> Error {
    let text = format!(
        "a daemon runs, and `{}` does not say what it does",
        folder.display()
    );
    Error::new(ErrorKind::Unavailable, "schedule.silent", text)
        .with_help("it is coming up, ending, or of another build; try again, or end its process")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_names_its_folder_once_it_is_whole_and_is_that_of_one_file() {
        let folder = tempfile::tempdir().unwrap();
        let settings = folder.path().join("shop.yaml");
        let mark = marks(&settings).remove(0);
        assert_eq!(mark, folder.path().join(".whimbrel/daemon-of-shop.yaml"));
        assert_ne!(marks(&folder.path().join("other.yaml")), marks(&settings));

        let working = folder.path().join("w");
        let held = Mark::leave(&settings, &working).unwrap();
        assert_eq!(folder_in(&mark), Some(working.clone()));
        let second = Mark::leave(&settings, &folder.path().join("elsewhere"));
        let error = second.err().unwrap();
        assert_eq!(error.code, "schedule.daemon_running");
        assert!(error.message.contains(&working.display().to_string()), "{error}");
        drop(held);
        Mark::leave(&settings, &working).unwrap();

        for half in ["", "/srv/"] {
            std::fs::write(&mark, half).unwrap();
            assert_eq!(folder_in(&mark), None, "{half:?}");
        }
    }

    #[test]
    fn who_only_looks_keeps_nobody_from_a_lock() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let file = open_private(&path, true).unwrap();
        let other = File::open(&path).unwrap();
        rustix::fs::flock(&other, rustix::fs::FlockOperation::NonBlockingLockShared).unwrap();
        std::thread::scope(|scope| {
            let held = scope.spawn(|| hold(&file).unwrap());
            drop(other);
            assert!(held.join().unwrap());
        });
        assert!(!hold(&File::open(&path).unwrap()).unwrap());
    }
}
