//! Opens what the config names, a file or a server, with the settings that each kind of work needs.
//!
//! Nothing here knows of collections. The numbers were measured with 500,000 records with random text keys
//! (`host/decisions/0003-libsql-client.md`); `benches/import.rs` measures the whole plugin.

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};
use whimbrel_plugin_api::{Error, ErrorKind, Finding, Result, Services};

use crate::config::{Location, Synchronous, TursoConfig};
use crate::database::Database;
use crate::error::Doing as _;
use crate::local::{self, LocalSession};
use crate::remote::{self, RemoteDatabase, RemoteSession};
use crate::session::Session;
use crate::sink::finding;

/// Page cache of a writing connection, in KiB. With the default 2 MiB the index pages of random keys are read and
/// written again and again: 8.4 s against 4.7 s with a large cache. More than 32 MiB brings nothing (3.4 s against 3.3 s
/// with the checkpoints below).
const CACHE_KIB: u32 = 32 * 1024;
/// Pages in the write-ahead log before they go to the file itself: 64 MiB. A page that changes often is then moved
/// once: 3.4 s against 4.7 s with the default 1,000, both with a cache of 64 MiB.
const CHECKPOINT_PAGES: u32 = 16_000;
/// Prepared statements that a connection keeps: one per collection and policy, and some for merging.
const STATEMENTS_MAX: usize = 64;

/// What `config` names, with everything about it that can be seen without going there.
pub(crate) fn locate(config: &TursoConfig) -> Result<Location> {
    let location = config.location()?;
    if let (Location::Server(_), Some(path)) = (&location, &config.tls.ca_file) {
        remote::authorities(path)?;
    }
    Ok(location)
}

/// What is read; it must be there.
pub(crate) fn reader(
    config: &TursoConfig,
    location: &Location,
    services: &Services,
) -> Result<Box<dyn Database>> {
    Ok(match location {
        Location::File(path) => match local::missing_file(path) {
            Some(error) => return Err(error),
            None => Box::new(open(config, path, Access::Read)?),
        },
        Location::Server(server) => Box::new(RemoteDatabase::open(config, server, services)?),
    })
}

/// What is looked at before it is written; `None` if there is no file yet.
pub(crate) fn checker(
    config: &TursoConfig,
    location: &Location,
    services: &Services,
) -> Result<Option<Box<dyn Database>>> {
    Ok(match location {
        Location::File(path) if path.exists() => Some(Box::new(open(config, path, Access::Check)?)),
        Location::File(_) => None,
        Location::Server(server) => Some(Box::new(RemoteDatabase::open(config, server, services)?)),
    })
}

/// What is written.
pub(crate) fn writer(
    config: &TursoConfig,
    location: &Location,
    services: &Services,
) -> Result<Box<dyn Session>> {
    Ok(match location {
        Location::File(path) => {
            let connection = open(config, path, Access::Write)?;
            Box::new(LocalSession::new(connection, services.clone()))
        }
        Location::Server(server) => Box::new(RemoteSession::open(config, server, services)?),
    })
}

/// What is in the way of writing.
pub(crate) fn check_writable(
    config: &TursoConfig,
    location: &Location,
    services: &Services,
) -> Result<Vec<Finding>> {
    let outcome = match location {
        Location::File(path) if path.exists() => {
            open(config, path, Access::Check).and_then(|connection| local::check_writable(&connection))
        }
        Location::File(path) => return Ok(local::check_folder(path).into_iter().collect()),
        Location::Server(server) => {
            RemoteDatabase::open(config, server, services).and_then(|database| database.check_writable())
        }
    };
    Ok(outcome.err().map(finding).into_iter().collect())
}

/// What a connection to a file is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Access {
    /// Reading only; the file must exist.
    Read,
    /// Looking, with the right to lock; the file must exist.
    Check,
    /// Writing; the file is made if it does not exist.
    Write,
}

/// Opens the file. It is first touched here or by the first statement.
fn open(config: &TursoConfig, path: &Path, access: Access) -> Result<Connection> {
    let flags = match access {
        Access::Read => OpenFlags::SQLITE_OPEN_READ_ONLY,
        Access::Check => OpenFlags::SQLITE_OPEN_READ_WRITE,
        Access::Write => OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE,
    };
    let connection = Connection::open_with_flags(path, flags | OpenFlags::SQLITE_OPEN_NO_MUTEX)
        .doing("open the database")?;
    let timeout = Duration::from_millis(config.busy_timeout_ms.into());
    connection.busy_timeout(timeout).doing("open the database")?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS_MAX);
    // What a file brings along (views, triggers, expressions in its schema) gets no functions beyond the plain ones.
    connection
        .execute_batch("PRAGMA trusted_schema = OFF")
        .doing("open the database")?;
    if access == Access::Write {
        prepare_for_writing(config, &connection)?;
    }
    Ok(connection)
}

fn prepare_for_writing(config: &TursoConfig, connection: &Connection) -> Result<()> {
    let mode: String = connection
        .query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))
        .doing("switch the database to write-ahead logging")?;
    if !mode.eq_ignore_ascii_case("wal") {
        return Err(Error::new(
            ErrorKind::Unsupported,
            "turso.no_wal",
            "the database cannot be switched to write-ahead logging",
        )
        .with_help("keep the file on a local disk"));
    }
    let synchronous = match config.synchronous {
        Synchronous::Full => "FULL",
        Synchronous::Normal => "NORMAL",
    };
    // Foreign keys are looked at once after the load: until then a parent may come later than its child.
    connection
        .execute_batch(&format!(
            "PRAGMA synchronous = {synchronous}; PRAGMA foreign_keys = OFF; PRAGMA cache_size = -{CACHE_KIB}; \
             PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}"
        ))
        .doing("set up the connection")
}
