//! Local storage as Firefox keeps it: one SQLite file for each origin, `storage/default/ORIGIN/ls/data.sqlite`.
//!
//! A value is UTF-8 or, where it cannot be, UTF-16 (`conversion_type`), and may be compressed (`compression_type`). The file
//! and its journal are copied into a private folder, since opening a database may write to it; the folder is
//! removed with the connection.

use std::fs::{OpenOptions, Permissions};
use std::io::Write as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use rusqlite::types::ValueRef;
use rusqlite::{Connection, OpenFlags, Row};
use whimbrel_plugin_api::{Result, Services};

use super::copy::{self, Wanted};
use super::search::DATABASE;
use super::shown;
use super::text::{ExportText, units_of_utf8, units_of_utf16};
use crate::config::LocalStorageConfig;
use crate::error;

/// Firefox keeps its schema's version in the upper bits of `user_version`; this is the newest that is known.
const SCHEMA_MAX: i64 = 5;

/// Reads the origin of one file.
pub fn read(
    path: &Path,
    config: &LocalStorageConfig,
    services: &Services,
    text: &mut ExportText<'_>,
) -> Result<()> {
    let copy = Copy::take(path, config, services)?;
    let failed = |cause: rusqlite::Error| error::corrupted_sqlite(path).with_cause(&cause);
    let connection = copy.open().map_err(failed)?;
    let health: String = connection
        .query_row("PRAGMA quick_check(1)", [], |row| row.get(0))
        .map_err(failed)?;
    if health != "ok" {
        return Err(error::corrupted_sqlite(path));
    }
    let Some(layout) = Layout::of(&connection, path)? else {
        // What a browser leaves that ended before its first write.
        text.origin(&origin_of_folder(path));
        return Ok(());
    };
    let stored = connection.query_row("SELECT origin FROM database", [], |row| row.get(0));
    let origin = match stored {
        Ok(origin) => origin,
        Err(rusqlite::Error::QueryReturnedNoRows) => origin_of_folder(path),
        Err(cause) => return Err(failed(cause)),
    };
    text.origin(&origin);
    let mut statement = connection.prepare(&layout.query()).map_err(failed)?;
    let mut rows = statement.query([]).map_err(failed)?;
    while let Some(row) = rows.next().map_err(failed)? {
        if text.entry_count.is_multiple_of(CANCEL_CHECK_ENTRIES) {
            services.check_cancelled()?;
        }
        let (key, value) = entry(row, path)?;
        text.entry(&key, &value)?;
    }
    Ok(())
}

/// How often the host is asked whether to go on.
const CANCEL_CHECK_ENTRIES: usize = 4_096;

/// A private copy of a database.
struct Copy {
    folder: tempfile::TempDir,
}

impl Copy {
    /// Copies the file with what SQLite would read beside it: a log of pages, or of what to undo.
    fn take(path: &Path, config: &LocalStorageConfig, services: &Services) -> Result<Self> {
        let name = path.file_name().unwrap_or(DATABASE.as_ref()).to_string_lossy();
        let ending = |file: &str| {
            let rest = file.strip_prefix(name.as_ref())?;
            ["", "-wal", "-journal"].into_iter().find(|end| *end == rest)
        };
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let wanted = Wanted {
            folder: parent.unwrap_or(Path::new(".")),
            is_wanted: &|file| ending(file).is_some(),
            may_grow: &|_| false,
            size_bytes_max: config.size_bytes_max,
        };
        let files = copy::until_settled(&config.path, services, |_| copy::attempt(wanted))?;
        let folder = tempfile::Builder::new()
            .prefix("whimbrel-local-storage-")
            .permissions(Permissions::from_mode(0o700))
            .tempdir()
            .map_err(|cause| error::no_copy(&cause))?;
        for (file, content) in &files {
            let name = format!("{DATABASE}{}", ending(file).unwrap_or_default());
            let written = OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(folder.path().join(name))
                .and_then(|mut file| file.write_all(content));
            written.map_err(|cause| error::no_copy(&cause))?;
        }
        Ok(Self { folder })
    }

    /// Opens it for writing too, since what a crash has left must be undone before anything can be read.
    fn open(&self) -> rusqlite::Result<Connection> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(self.folder.path().join(DATABASE), flags)?;
        // What a file brings along (views, triggers, expressions in its schema) gets no functions beyond the plain ones.
        connection.execute_batch("PRAGMA trusted_schema = OFF")?;
        Ok(connection)
    }
}

/// The columns of the table `data`, which Firefox has changed over time.
struct Layout {
    columns: Vec<String>,
}

impl Layout {
    /// `None` if the database has no tables at all.
    fn of(connection: &Connection, path: &Path) -> Result<Option<Self>> {
        let failed = |cause: rusqlite::Error| error::corrupted_sqlite(path).with_cause(&cause);
        let number = |sql: &str| {
            connection
                .query_row(sql, [], |row| row.get::<_, i64>(0))
                .map_err(failed)
        };
        if number("SELECT count(*) FROM sqlite_schema")? == 0 {
            return Ok(None);
        }
        let version = number("PRAGMA user_version")?;
        if version >> 4 > SCHEMA_MAX {
            return Err(error::unknown_version(path, &(version >> 4).to_string()));
        }
        let mut statement = connection
            .prepare("SELECT name FROM pragma_table_info('data')")
            .map_err(failed)?;
        let columns = statement
            .query_map([], |row| row.get(0))
            .and_then(Iterator::collect::<rusqlite::Result<Vec<String>>>)
            .map_err(failed)?;
        let layout = Self { columns };
        let has_origin =
            number("SELECT count(*) FROM pragma_table_info('database') WHERE name = 'origin'")? == 1;
        if has_origin && layout.has("key") && layout.has("value") {
            Ok(Some(layout))
        } else {
            Err(error::no_local_storage(&shown(path)))
        }
    }

    fn has(&self, name: &str) -> bool {
        self.columns.iter().any(|column| column == name)
    }

    /// Key, value, conversion, compression and length of each entry. Before version 4 text was stored as text; the length
    /// came with version 2 or 3, under another name at first.
    fn query(&self) -> String {
        let first = |names: &[&'static str], otherwise| {
            names
                .iter()
                .copied()
                .find(|name| self.has(name))
                .unwrap_or(otherwise)
        };
        let conversion = first(&["conversion_type"], "1");
        let compression = first(&["compression_type", "compressed"], "0");
        let length = first(&["utf16_length", "utf16Length"], "NULL");
        format!("SELECT key, value, {conversion}, {compression}, {length} FROM data ORDER BY key")
    }
}

/// The UTF-16 units of a key and its value.
fn entry(row: &Row<'_>, path: &Path) -> Result<(Vec<u16>, Vec<u16>)> {
    let failed = |cause: rusqlite::Error| error::corrupted_sqlite(path).with_cause(&cause);
    let corrupted = || error::corrupted_sqlite(path);
    let key = octets(row.get_ref(0).map_err(failed)?).and_then(units_of_utf8);
    let stored = octets(row.get_ref(1).map_err(failed)?).ok_or_else(corrupted)?;
    let (conversion, compression): (i64, i64) = (row.get(2).map_err(failed)?, row.get(3).map_err(failed)?);
    let length: Option<i64> = row.get(4).map_err(failed)?;
    let unpacked;
    let octets = match compression {
        0 => stored,
        1 => {
            unpacked = unpack(stored).ok_or_else(corrupted)?;
            &unpacked[..]
        }
        other => {
            let found = format!("a value has the compression type {other}");
            return Err(error::unknown_compression(path, &found, "0 (none), 1 (snappy)"));
        }
    };
    let value = match conversion {
        0 => units_of_utf16(octets),
        1 => units_of_utf8(octets),
        other => return Err(error::unknown_conversion(path, other)),
    };
    let (key, value) = key.zip(value).ok_or_else(corrupted)?;
    if length.is_some_and(|length| usize::try_from(length) != Ok(value.len())) {
        return Err(corrupted());
    }
    Ok((key, value))
}

/// Text and blobs alike; SQLite keeps text that is not valid UTF-8 as it is.
fn octets(value: ValueRef<'_>) -> Option<&[u8]> {
    match value {
        ValueRef::Text(octets) | ValueRef::Blob(octets) => Some(octets),
        ValueRef::Null | ValueRef::Integer(_) | ValueRef::Real(_) => None,
    }
}

/// A value may say of itself that it is large, and Firefox holds no origin beyond some MiB.
const UNPACKED_BYTES_MAX: usize = 256 * 1024 * 1024;

fn unpack(packed: &[u8]) -> Option<Vec<u8>> {
    let size = snap::raw::decompress_len(packed).ok()?;
    if size > UNPACKED_BYTES_MAX {
        return None;
    }
    snap::raw::Decoder::new().decompress_vec(packed).ok()
}

/// The origin by the name of its folder, in which `:` and `/` stand as `+`, and what follows `^` as it is.
fn origin_of_folder(database: &Path) -> String {
    let folder = database.ancestors().nth(2).and_then(Path::file_name);
    let name = folder.unwrap_or_default().to_string_lossy();
    let (origin, attributes) = name.find('^').map_or((name.as_ref(), ""), |at| name.split_at(at));
    let decoded = match origin.split_once("+++") {
        // `file:///a/b`: all of it is a path.
        Some(("file", path)) => format!(
            "file://{}",
            format!("+{}", path.trim_start_matches('+')).replace('+', "/")
        ),
        Some((scheme, host)) => format!("{scheme}://{}", host.replace('+', ":")),
        None => origin.replacen('+', ":", 1),
    };
    format!("{decoded}{attributes}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_copy_is_private_and_removed() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["kept.db", "kept.db-wal", "kept.db-shm", "other"] {
            std::fs::write(folder.path().join(name), "x").unwrap();
        }
        let path = folder.path().join("kept.db");
        let config = LocalStorageConfig::of_path("x");
        let copy = Copy::take(&path, &config, &Services::detached()).unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        let place = copy.folder.path().to_owned();
        assert_eq!(mode(&place), 0o700);
        let mut files: Vec<_> = std::fs::read_dir(&place)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .map(|path| (path.file_name().unwrap().to_owned(), mode(&path)))
            .collect();
        files.sort();
        assert_eq!(
            files,
            ["data.sqlite", "data.sqlite-wal"].map(|name| (name.into(), 0o600))
        );
        drop(copy);
        assert!(!place.exists());
    }

    #[test]
    fn names_of_folders_are_decoded() {
        for (folder, origin) in [
            ("http+++127.0.0.1+8741", "http://127.0.0.1:8741"),
            ("https+++example.org", "https://example.org"),
            (
                "https+++example.org^userContextId=2",
                "https://example.org^userContextId=2",
            ),
            (
                "http+++localhost+8743^partitionKey=%28http%2C127.0.0.1%29",
                "http://localhost:8743^partitionKey=%28http%2C127.0.0.1%29",
            ),
            ("http+++[++1]+8080", "http://[::1]:8080"),
            ("about+home", "about:home"),
            (
                "moz-extension+++0a-1b^userContextId=4294967295",
                "moz-extension://0a-1b^userContextId=4294967295",
            ),
            ("file++++home+a+page.html", "file:///home/a/page.html"),
        ] {
            let path = Path::new("/profile/storage/default")
                .join(folder)
                .join("ls/data.sqlite");
            assert_eq!(origin_of_folder(&path), origin);
        }
    }
}
