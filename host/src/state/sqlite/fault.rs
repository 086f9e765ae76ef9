//! What can go wrong with the file, as errors with codes.
//! The numbers are SQLite's primary result codes (sqlite.org/rescode.html).

use std::path::Path;

use whimbrel_plugin_api::{Error, ErrorKind};

use crate::state::run_id::RunId;
use crate::workspace;

const PERM: i32 = 3;
const BUSY: i32 = 5;
const LOCKED: i32 = 6;
const READONLY: i32 = 8;
const IOERR: i32 = 10;
const CORRUPT: i32 = 11;
const FULL: i32 = 13;
const CANTOPEN: i32 = 14;
const AUTH: i32 = 23;
const NOTADB: i32 = 26;
/// An extended code: the file is shorter than its header says.
const IOERR_SHORT_READ: i32 = 522;

/// Why a call failed, before the file is named.
#[derive(Debug)]
pub(super) enum Trouble {
    /// SQLite or sqlx says so.
    Sql(sqlx::Error),
    /// The file is not what it was, with the reason.
    Damaged(String),
    /// The file is a database of something else.
    Foreign,
    /// The file was written by a newer program.
    Newer {
        /// The version of its schema.
        found: i64,
        /// The newest that is known here.
        known: i64,
    },
    /// The run is no longer this process's.
    Fenced(RunId),
}

impl From<sqlx::Error> for Trouble {
    fn from(error: sqlx::Error) -> Self {
        Self::Sql(error)
    }
}

impl Trouble {
    /// The error for the file at `path`.
    pub(super) fn into_error(self, path: &Path) -> Error {
        let shown = path.display();
        match self {
            Self::Sql(error) => of_sqlx(path, &error),
            Self::Damaged(reason) => {
                let mut error = damaged(path);
                error.causes.push(reason);
                error
            }
            Self::Foreign => Error::new(
                ErrorKind::Integrity,
                "state.foreign",
                format!("`{shown}` is a database, but not one of whimbrel's state"),
            )
            .with_help("name another working folder with `--working-dir`, or move the file away"),
            Self::Newer { found, known } => Error::new(
                ErrorKind::Unsupported,
                "state.newer",
                format!("`{shown}` has schema version {found}, this program knows versions up to {known}"),
            )
            .with_help(
                "use the newer whimbrel that wrote it, or name another working folder with `--working-dir`",
            ),
            Self::Fenced(run) => Error::new(
                ErrorKind::Integrity,
                "run.fenced",
                format!("run `{run}` no longer counts as running: it was taken for lost, or ended elsewhere"),
            )
            .with_help("`whimbrel runs` lists the run that took its place"),
        }
    }
}

fn damaged(path: &Path) -> Error {
    Error::new(
        ErrorKind::Integrity,
        "state.damaged",
        format!("the state in `{}` is damaged", path.display()),
    )
    .with_help(
        "nothing was changed in it; put a copy back, or move it away together with `state.db-wal` and `state.db-shm`, which gives up the \
         history of runs and their rejected records; then `whimbrel run JOB --resume` goes on with an unfinished copy by what the \
         sink keeps of it, and `whimbrel run JOB` begins anew",
    )
}

fn of_sqlx(path: &Path, error: &sqlx::Error) -> Error {
    let shown = path.display();
    let code = match error {
        sqlx::Error::Database(database) => database.code().and_then(|code| code.parse::<i32>().ok()),
        // A value of another kind than was written: the file was changed by something else.
        sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) => Some(CORRUPT),
        _ => None,
    };
    if code == Some(IOERR_SHORT_READ) {
        return damaged(path).with_cause(error);
    }
    let told = match code.map(|code| code & 0xff) {
        Some(CORRUPT | NOTADB) => damaged(path),
        Some(FULL) => workspace::fault(path, &std::io::ErrorKind::StorageFull.into()),
        Some(PERM | READONLY | CANTOPEN | AUTH) => {
            workspace::fault(path, &std::io::ErrorKind::PermissionDenied.into())
        }
        Some(BUSY | LOCKED) => Error::new(
            ErrorKind::Unavailable,
            "state.busy",
            format!("`{shown}` is being written by another process for too long"),
        )
        .with_help("look for a program that holds the file open, such as a database browser"),
        Some(IOERR) => Error::new(
            ErrorKind::Unavailable,
            "state.io",
            format!("`{shown}` could not be read or written"),
        )
        .with_help("look at the disk under the working folder"),
        _ => Error::new(
            ErrorKind::Internal,
            "state.internal",
            format!("the state in `{shown}` answered with an unexpected error"),
        ),
    };
    told.with_cause(error)
}
