//! The errors of this plugin that have more than one user, each with its stable code.
//!
//! Messages name files and fields, never values.

use std::io;
use std::path::Path;

use whimbrel_plugin_api::{Error, ErrorKind};

/// What an operating system's refusal means to a person; `doing` is a verb with its object's role, such as `read`.
pub(crate) fn io_error(doing: &str, path: &Path, error: &io::Error) -> Error {
    let path = path.display();
    let (kind, code, why, help) = match error.kind() {
        io::ErrorKind::NotFound => (
            ErrorKind::NotFound,
            "files.not_found",
            "it does not exist",
            "check `path`",
        ),
        io::ErrorKind::PermissionDenied => (
            ErrorKind::Permission,
            "files.no_permission",
            "this user has no right to",
            "give the user that runs whimbrel the right, or choose another `path`",
        ),
        io::ErrorKind::ReadOnlyFilesystem => (
            ErrorKind::Permission,
            "files.read_only",
            "the file system is read-only",
            "choose another `path`",
        ),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => (
            ErrorKind::Unavailable,
            "files.disk_full",
            "the disk is full",
            "make room, then run again",
        ),
        io::ErrorKind::NotADirectory => (
            ErrorKind::Config,
            "files.not_a_folder",
            "a part of the path is a file",
            "name a folder in `path`",
        ),
        io::ErrorKind::IsADirectory => (
            ErrorKind::Config,
            "files.not_a_file",
            "it is a folder",
            "name a file in `path`",
        ),
        _ => (
            ErrorKind::Unavailable,
            "files.io",
            "the operating system refused",
            "see the cause, then run again",
        ),
    };
    Error::new(kind, code, format!("cannot {doing} `{path}`: {why}"))
        .with_help(help)
        .with_cause(error)
}

/// What went wrong in reading a file that may be compressed.
pub(crate) fn read_error(path: &Path, is_zstd: bool, error: &io::Error) -> Error {
    // Errors of the decoder carry no number of the operating system.
    if !is_zstd || error.raw_os_error().is_some() {
        return io_error("read", path, error);
    }
    let (code, what) = if error.kind() == io::ErrorKind::UnexpectedEof {
        ("files.zstd_truncated", "it ends in the middle of a zstd frame")
    } else {
        ("files.zstd_corrupt", "its zstd data are damaged")
    };
    Error::new(
        ErrorKind::Integrity,
        code,
        format!("cannot read `{}`: {what}", path.display()),
    )
    .with_help("fetch or make the file again; what was read before this place was good")
    .with_cause(error)
}

/// The file is not the one that was looked at before.
pub(crate) fn changed(path: &Path) -> Error {
    Error::new(
        ErrorKind::Integrity,
        "files.changed",
        format!(
            "`{}` was changed since it was looked at: its length or time of change differs",
            path.display()
        ),
    )
    .with_help("start a new run; nothing can be resumed from a file that has changed")
}

/// Nothing of that name.
pub(crate) fn no_collection(name: &str, path: &Path) -> Error {
    Error::not_found(
        "files.no_collection",
        format!("there is no collection `{name}` in `{}`", path.display()),
    )
}
