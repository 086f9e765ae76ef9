//! The entries of a LevelDB, from a copy of its files in memory.
//!
//! Reading a LevelDB means to open it, which writes (its log goes into a table, files are removed): all of that happens
//! to the copy. The library passes over damage, so `integrity` has looked before.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use rusty_leveldb::{DB, LdbIterator as _, Options, Status};
use whimbrel_plugin_api::{Error, Result};

use super::copy::Files;
use crate::error;

/// The name of the database in memory.
const FOLDER: &str = "leveldb";

/// Calls `each` with every key that is there and its value, in the order of the keys.
pub fn for_each(path: &Path, files: Files, mut each: impl FnMut(&[u8], &[u8]) -> Result<()>) -> Result<()> {
    // The library is not made for hostile files, and asserts what it takes for granted.
    let read = catch_unwind(AssertUnwindSafe(|| read(files, &mut each)));
    match read {
        Ok(Ok(())) => Ok(()),
        Ok(Err(Failure::Own(error))) => Err(error),
        Ok(Err(Failure::Library(status))) => Err(error::corrupted_leveldb(path).with_cause(&status)),
        Err(_) => Err(error::corrupted_leveldb(path)),
    }
}

enum Failure {
    Own(Error),
    Library(Status),
}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        Self::Library(status)
    }
}

fn read(files: Files, each: &mut impl FnMut(&[u8], &[u8]) -> Result<()>) -> Result<(), Failure> {
    let options = Options {
        create_if_missing: false,
        ..rusty_leveldb::in_memory()
    };
    for (name, content) in files {
        let path = Path::new(FOLDER).join(name);
        let mut file = options.env.open_writable_file(&path)?;
        file.write_all(&content).map_err(Status::from)?;
    }
    let mut database = DB::open(FOLDER, options)?;
    let mut entries = database.new_iter()?;
    while entries.advance() {
        if let Some((key, value)) = entries.current() {
            each(&key, &value).map_err(Failure::Own)?;
        }
    }
    Ok(())
}
