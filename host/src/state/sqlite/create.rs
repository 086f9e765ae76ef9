//! A new file: made whole under another name and put in its place in one step, so that no process ever finds half of
//! one, and of several that make it at once one wins.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags};
use sqlx::sqlite::SqliteJournalMode;
use sqlx::{ConnectOptions as _, Connection as _};
use whimbrel_plugin_api::Error;

use super::fault::Trouble;
use super::{options, schema};
use crate::workspace;

/// File systems of the network, by the numbers that statfs(2) gives: NFS, SMB (three), AFS, Coda, 9P, FUSE, Ceph.
/// FUSE may be local as well, which costs speed only.
const NETWORK_FILE_SYSTEMS: [u32; 9] = [
    0x0000_6969,
    0x0000_517b,
    0xfe53_4d42,
    0xff53_4d42,
    0x5346_414f,
    0x7375_7245,
    0x0102_1997,
    0x6573_5546,
    0x00c3_6400,
];

/// Makes the file at `path`, unless another process was faster.
///
/// # Errors
/// As [`super::SqliteStore::open`].
pub(super) async fn create(path: &Path) -> Result<(), Error> {
    let beside = beside(path);
    let made = fill(path, &beside).await;
    let placed = match made {
        Ok(()) => place(&beside, path).map_err(|error| workspace::fault(path, &error)),
        Err(error) => Err(error),
    };
    for left in [
        beside.clone(),
        with_ending(&beside, "-wal"),
        with_ending(&beside, "-shm"),
        with_ending(&beside, "-journal"),
    ] {
        // Most are not there, and what is left behind is in nobody's way.
        drop(fs::remove_file(left));
    }
    placed
}

fn beside(path: &Path) -> PathBuf {
    let mut name = OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(format!(".{}-{:08x}", std::process::id(), fastrand::u32(..)));
    path.with_file_name(name)
}

/// The name of a companion of the file at `path`.
pub(super) fn with_ending(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

async fn fill(path: &Path, beside: &Path) -> Result<(), Error> {
    let fault = |error: io::Error| workspace::fault(path, &error);
    // Made first, so that it is never readable by others; SQLite gives its companions the same rights.
    drop(workspace::open_private(beside, false).map_err(fault)?);
    let journal = if is_on_network(beside) {
        SqliteJournalMode::Delete
    } else {
        SqliteJournalMode::Wal
    };
    let written = async || -> Result<(), Trouble> {
        let mut connection = options(beside).journal_mode(journal).connect().await?;
        schema::begin(&mut connection).await?;
        schema::bring_up_to_date(&mut connection).await?;
        Ok(connection.close().await?)
    };
    written().await.map_err(|trouble| trouble.into_error(path))?;
    File::open(beside).and_then(|file| file.sync_all()).map_err(fault)
}

/// A link does not replace what is there; where there are no links, a rename that is told not to.
fn place(beside: &Path, path: &Path) -> io::Result<()> {
    let placed = fs::hard_link(beside, path).or_else(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(rustix::fs::renameat_with(
            CWD,
            beside,
            CWD,
            path,
            RenameFlags::NOREPLACE,
        )?),
    });
    match placed {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}

fn is_on_network(path: &Path) -> bool {
    let kind = rustix::fs::statfs(path).map(|system| system.f_type);
    kind.is_ok_and(|kind| {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "the kernel's numbers have 32 bits"
        )]
        let kind = kind as u32;
        NETWORK_FILE_SYSTEMS.contains(&kind)
    })
}
