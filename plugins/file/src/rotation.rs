//! Old files: `PATH.1` is the youngest, `PATH.keep` the oldest. Called with the lock of the file held.
//! Neighbour: `appender`, which decides when.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

/// The old file of that number.
pub(crate) fn old_file(path: &Path, number: u32) -> PathBuf {
    let mut name = OsString::from(path.as_os_str());
    name.push(format!(".{number}"));
    name.into()
}

/// Makes room for a new file: each old one takes the next number, and the file itself becomes `PATH.1`. The oldest is
/// removed only if all numbers are taken, so that a rotation that was cut off loses nothing.
pub(crate) fn rotate(path: &Path, keep: u32) -> io::Result<()> {
    let is_free = |number: &u32| {
        let old = old_file(path, *number).symlink_metadata();
        matches!(old, Err(error) if error.kind() == io::ErrorKind::NotFound)
    };
    // Renaming onto the last number removes what had it.
    let last = (1..=keep).find(is_free).unwrap_or(keep);
    for number in (1..last).rev() {
        std::fs::rename(old_file(path, number), old_file(path, number + 1))?;
    }
    std::fs::rename(path, old_file(path, 1))
}

#[cfg(test)]
mod tests {
    use std::fs::{read_to_string, write};

    use super::*;

    fn content(path: &Path) -> Vec<Option<String>> {
        let old = (1..=4).map(|number| read_to_string(old_file(path, number)).ok());
        std::iter::once(read_to_string(path).ok()).chain(old).collect()
    }

    #[test]
    fn the_oldest_goes_and_the_others_move_up() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        for round in 0..5 {
            write(&path, round.to_string()).unwrap();
            rotate(&path, 3).unwrap();
        }
        let text = |text: &str| Some(text.to_owned());
        assert_eq!(content(&path), [None, text("4"), text("3"), text("2"), None]);
    }

    #[test]
    fn a_gap_is_filled_and_nothing_removed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        write(&path, "new").unwrap();
        write(old_file(&path, 1), "1").unwrap();
        write(old_file(&path, 3), "3").unwrap();
        rotate(&path, 3).unwrap();
        let text = |text: &str| Some(text.to_owned());
        assert_eq!(content(&path), [None, text("new"), text("1"), text("3"), None]);
    }

    #[test]
    fn what_is_in_the_way_is_an_error_and_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        write(&path, "new").unwrap();
        std::fs::create_dir(old_file(&path, 1)).unwrap();
        rotate(&path, 1).unwrap_err();
        assert_eq!(read_to_string(&path).unwrap(), "new");
    }
}
