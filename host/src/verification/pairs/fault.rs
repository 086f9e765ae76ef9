//! What can go wrong with files of digests, as errors with codes.
//! A full disk is told in the words of the working folder, since it is the same disk.

use std::io;
use std::path::Path;

use whimbrel_plugin_api::{Error, ErrorKind};

use crate::workspace;

/// The code for a file that cannot be read or written.
const WORK_FILE: &str = "verification.work_file";
/// The code for a file that is not what was written.
const WORK_TORN: &str = "verification.work_torn";

/// The error for a file or folder at `path` that could not be read or written; one that is
/// gone, or ends in mid-record, is a torn file.
pub(in crate::verification) fn fault(path: &Path, error: &io::Error) -> Error {
    let shown = path.display();
    match error.kind() {
        _ if workspace::is_disk_full(error) => workspace::fault(path, error),
        io::ErrorKind::UnexpectedEof => torn(path, "it ends too early"),
        io::ErrorKind::NotFound => torn(path, "it is gone"),
        kind => {
            let kind = match kind {
                io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => ErrorKind::Permission,
                _ => ErrorKind::Unavailable,
            };
            Error::new(
                kind,
                WORK_FILE,
                format!("the work file `{shown}` of the verification cannot be read or written"),
            )
            .with_help("see that the disk is sound and that nobody removes the file, then verify again")
            .with_cause(error)
        }
    }
}

/// The error for a file at `path` that is not what was written to it.
pub(in crate::verification) fn torn(path: &Path, how: &str) -> Error {
    Error::new(
        ErrorKind::Integrity,
        WORK_TORN,
        format!(
            "the work file `{}` of the verification is not as it was written: {how}",
            path.display()
        ),
    )
    .with_help("see that the disk is sound and that nobody else writes there, then verify again")
}

/// Whether `error` says so.
pub(in crate::verification) fn is_torn(error: &Error) -> bool {
    error.code == WORK_TORN
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_a_torn_file_and_a_missing_right_are_told_apart() {
        let path = Path::new("a/b.pairs");
        let full = io::Error::from_raw_os_error(rustix::io::Errno::NOSPC.raw_os_error());
        assert_eq!(fault(path, &full).code, workspace::DISK_FULL);
        let early = fault(path, &io::Error::from(io::ErrorKind::UnexpectedEof));
        assert!(
            is_torn(&early) && early.message.contains("`a/b.pairs`"),
            "{early}"
        );
        assert!(is_torn(&fault(path, &io::Error::from(io::ErrorKind::NotFound))));
        let right = fault(path, &io::Error::from(io::ErrorKind::PermissionDenied));
        assert_eq!(
            (right.code.as_str(), right.kind),
            (WORK_FILE, ErrorKind::Permission)
        );
    }
}
