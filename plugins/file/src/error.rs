//! The errors of this plugin that have more than one user, each with its stable code.
//!
//! Each is about one notification; the notifier can be used again. Messages name files, never what is written.

use std::io;
use std::path::Path;

use whimbrel_plugin_api::{Error, ErrorKind, ErrorScope};

/// What an operating system's refusal means to a person; `doing` is a verb, such as `write`.
pub(crate) fn io_error(doing: &str, path: &Path, error: &io::Error) -> Error {
    let (kind, code, why, help) = meaning(error);
    Error::new(kind, code, format!("cannot {doing} `{}`: {why}", path.display()))
        .with_help(help)
        .with_scope(ErrorScope::Write)
        .with_cause(error)
}

/// Kind, code, reason and remedy.
fn meaning(error: &io::Error) -> (ErrorKind, &'static str, &'static str, &'static str) {
    // What opening without following links answers to one; the standard library has no stable name for it.
    if error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error()) {
        return (
            ErrorKind::Config,
            "file.is_a_link",
            "it is a symbolic link",
            "name the file itself in `path`: a link could lead the notifications to any file",
        );
    }
    match error.kind() {
        io::ErrorKind::NotFound => (
            ErrorKind::NotFound,
            "file.no_folder",
            "its folder does not exist",
            "make the folder, or correct `path`",
        ),
        io::ErrorKind::PermissionDenied => (
            ErrorKind::Permission,
            "file.no_permission",
            "this user has no right to",
            "give the user that runs whimbrel the right, or choose another `path`",
        ),
        io::ErrorKind::ReadOnlyFilesystem => (
            ErrorKind::Permission,
            "file.read_only",
            "the file system is read-only",
            "choose another `path`",
        ),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => (
            ErrorKind::Unavailable,
            "file.disk_full",
            "the disk is full",
            "make room; the notification is sent again",
        ),
        io::ErrorKind::FileTooLarge => (
            ErrorKind::Unavailable,
            "file.size_limit",
            "the file system, or a limit of this user, refuses a file of this size",
            "lower `size_mb_max`, or raise the limit",
        ),
        io::ErrorKind::NotADirectory => (
            ErrorKind::Config,
            "file.not_a_folder",
            "a part of the path is a file",
            "correct `path`",
        ),
        io::ErrorKind::IsADirectory => (
            ErrorKind::Config,
            "file.is_a_folder",
            "it is a folder",
            "name a file in `path`",
        ),
        _ => (
            ErrorKind::Unavailable,
            "file.io",
            "the operating system refused",
            "see the cause",
        ),
    }
}

/// A device, a pipe or a socket.
pub(crate) fn not_a_file(path: &Path) -> Error {
    Error::config(
        "file.not_a_file",
        format!("cannot write `{}`: it is no regular file", path.display()),
    )
    .with_help("name a regular file in `path`")
    .with_scope(ErrorScope::Write)
}

/// Another process holds the lock.
pub(crate) fn locked(path: &Path, seconds: u64) -> Error {
    Error::new(
        ErrorKind::Unavailable,
        "file.locked",
        format!(
            "cannot write `{}`: another process has held its lock for {seconds} s",
            path.display()
        ),
    )
    .with_help("see which process holds it (`lslocks`)")
    .with_scope(ErrorScope::Write)
}

/// More octets than a line may have.
pub(crate) fn too_long(length: usize, limit: usize) -> Error {
    Error::invalid_data(
        "file.too_long",
        format!("the notification takes {length} octets as a line (valid: up to {limit})"),
    )
    .with_scope(ErrorScope::Write)
}
