//! What can go wrong with the working folder, as errors with codes.
//! A full disk has a code of its own, since it ends a run in good order.

use std::io;
use std::path::Path;

use whimbrel_plugin_api::{Error, ErrorKind};

/// The code for a disk without room.
pub const DISK_FULL: &str = "workspace.disk_full";
/// The code for every other reason.
pub const UNWRITABLE: &str = "workspace.unwritable";

/// Whether there is no more room, on the disk or in the user's quota.
pub fn is_disk_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}

/// The error for a file or folder at `path` that could not be written.
pub fn fault(path: &Path, error: &io::Error) -> Error {
    let shown = path.display();
    let fault = if is_disk_full(error) {
        Error::new(
            ErrorKind::Unavailable,
            DISK_FULL,
            format!("there is no room left for `{shown}`"),
        )
        .with_help(
            "make room, or name a folder on another disk with `--working-dir`; then start the job again",
        )
    } else {
        let kind = match error.kind() {
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => ErrorKind::Permission,
            _ => ErrorKind::Unavailable,
        };
        Error::new(kind, UNWRITABLE, format!("`{shown}` cannot be written"))
            .with_help("name a folder that you may write with `--working-dir`")
    };
    fault.with_cause(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_told_from_a_missing_right() {
        let full = io::Error::from_raw_os_error(rustix::io::Errno::NOSPC.raw_os_error());
        let quota = io::Error::from_raw_os_error(rustix::io::Errno::DQUOT.raw_os_error());
        let right = io::Error::from_raw_os_error(rustix::io::Errno::ACCESS.raw_os_error());
        let path = Path::new("a/b");
        assert_eq!(fault(path, &full).code, DISK_FULL);
        assert_eq!(fault(path, &quota).code, DISK_FULL);
        assert_eq!(fault(path, &right).code, UNWRITABLE);
        assert_eq!(fault(path, &right).kind, ErrorKind::Permission);
    }
}
