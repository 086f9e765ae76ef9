//! The program that runs here, as a file to start once more, whatever stands in its place by now: an upgrade replaces the file, and a
//! worker must be of the same build as the process that speaks with it.
//!
//! Not here: which program a schedule starts, which may well be the new one (`scheduler`).

use std::fs::{Metadata, metadata};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// The running program itself, even if its file has been deleted; Linux has it.
const RUNNING: &str = "/proc/self/exe";

/// A file that is the running program: by its name as long as it has one, so that it is listed under that.
///
/// # Errors
/// Those of the system, which then does not say what runs here.
pub fn this_program() -> io::Result<PathBuf> {
    Ok(still_there(std::env::current_exe()?, Path::new(RUNNING)))
}

/// `named`, unless another file has its place or none, while `running` is there.
fn still_there(named: PathBuf, running: &Path) -> PathBuf {
    let which = |file: Metadata| (file.dev(), file.ino());
    match metadata(running).map(which) {
        Ok(running_file) if metadata(&named).map(which).ok() != Some(running_file) => running.to_owned(),
        _ => named,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{hard_link, rename, write};

    #[test]
    fn the_program_goes_by_its_name_until_another_one_has_it() {
        assert_eq!(this_program().unwrap(), std::env::current_exe().unwrap());
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let (named, running) = (path("program"), path("running"));
        write(&named, "old").unwrap();
        hard_link(&named, &running).unwrap();
        assert_eq!(still_there(named.clone(), &running), named);
        assert_eq!(still_there(path("program (deleted)"), &running), running);
        write(path("new"), "new").unwrap();
        rename(path("new"), &named).unwrap();
        assert_eq!(still_there(named.clone(), &running), running, "it was replaced");
        assert_eq!(still_there(named.clone(), &path("no proc")), named);
    }
}
