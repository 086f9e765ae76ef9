//! A profile of Firefox that is kept with the sources, and files of older and damaged kinds made here.
//!
//! The fixture was made by `fixtures/make.py`, so no Firefox is needed.

use std::path::{Path, PathBuf};

use rusqlite::Connection;
use serde_json::{Value as Json, json};
use whimbrel_plugin_api::ErrorKind;

use crate::browser::Told;
use crate::harness::{everything, lines, try_open};
use crate::profile::{Folder, codes, compare, config, error, findings, told};

const FIRST: &str = "http://127.0.0.1:8741";
const SECOND: &str = "http://127.0.0.1:8742";
const FRAMED: &str = "http://localhost:8743^partitionKey=%28http%2C127.0.0.1%29";

/// What the pages said, but for one key: half of a surrogate pair before another character is written by Firefox itself
/// as if both were a pair, so that its file holds another key.
fn told_and_stored() -> std::collections::BTreeMap<String, Told> {
    let mut told = told("firefox");
    let first = told.get_mut(FIRST).unwrap();
    let value = first.entries.remove(&[0xDC26, 0x3A, 0x31][..]).unwrap();
    first.entries.insert("\u{1983A}1".encode_utf16().collect(), value);
    first.json = first.json.replace("\\udc26:1", "\u{1983A}1");
    told
}

fn origin_folder(profile: &Folder, origin: &str) -> PathBuf {
    let name = match origin {
        FIRST => "http+++127.0.0.1+8741",
        SECOND => "http+++127.0.0.1+8742",
        _ => "http+++localhost+8743^partitionKey=%28http%2C127.0.0.1%29",
    };
    profile.join("storage/default").join(name)
}

#[test]
fn a_profile_is_found_from_each_of_its_folders_and_read_as_its_pages_said() {
    let folder = Folder::of("firefox");
    let told = told_and_stored();
    assert_eq!(told.keys().collect::<Vec<_>>(), [FIRST, SECOND, FRAMED]);
    let before = folder.content();
    for below in ["", "storage", "storage/default"] {
        for format in ["auto", "firefox"] {
            let config = json!({"path": folder.join(below), "format": format});
            assert_eq!(compare(&config, &told), Ok(()), "{below:?} as {format}");
        }
    }
    for (origin, told) in &told {
        let told = [(origin.clone(), told.clone())].into();
        let place = origin_folder(&folder, origin);
        for path in [place.clone(), place.join("ls"), place.join("ls/data.sqlite")] {
            assert_eq!(compare(&config(&path), &told), Ok(()), "{}", path.display());
        }
        assert_eq!(
            compare(&json!({"path": folder.path(), "origin": origin}), &told),
            Ok(())
        );
    }
    let missing = error(&json!({"path": folder.path(), "origin": "http://localhost:8743"}));
    assert_eq!(
        missing.message,
        format!(
            "the profile has no origin `http://localhost:8743` (origins: `{FIRST}`, `{SECOND}`, `{FRAMED}`)"
        )
    );
    assert!(folder.content() == before, "the profile was written to");
}

#[test]
fn a_file_under_another_name_is_known_by_its_content() {
    let folder = Folder::of("firefox");
    let copy = folder.join("kept.db");
    std::fs::rename(origin_folder(&folder, SECOND).join("ls/data.sqlite"), &copy).unwrap();
    let mut told = told("firefox");
    told.retain(|origin, _| origin == SECOND);
    assert_eq!(compare(&config(&copy), &told), Ok(()));
}

/// A database in the folder of an origin, made by these statements.
fn database(folder: &Folder, statements: &str) -> (PathBuf, Connection) {
    let ls = folder.join("storage/default/https+++old.example+8080^userContextId=3/ls");
    std::fs::create_dir_all(&ls).unwrap();
    let path = ls.join("data.sqlite");
    let connection = Connection::open(&path).unwrap();
    connection.execute_batch(statements).unwrap();
    (path, connection)
}

const CURRENT: &str = "
    PRAGMA user_version = 80;
    CREATE TABLE database(origin TEXT NOT NULL, usage INTEGER NOT NULL DEFAULT 0);
    CREATE TABLE data(key TEXT PRIMARY KEY, utf16_length INTEGER NOT NULL, conversion_type INTEGER NOT NULL,
        compression_type INTEGER NOT NULL, last_access_time INTEGER NOT NULL DEFAULT 0, value BLOB NOT NULL);";

fn read(path: &Path) -> Vec<String> {
    let collections = everything(&mut *try_open(&config(path)).unwrap());
    collections
        .values()
        .flat_map(|read| lines(&read.records))
        .collect()
}

#[test]
fn older_layouts_are_read() {
    let packed = snap::raw::Encoder::new()
        .compress_vec("long ago ".repeat(8).as_bytes())
        .unwrap();
    for (version, columns, length) in [
        (
            16,
            "compressed INTEGER NOT NULL DEFAULT 0, lastAccessTime INTEGER NOT NULL DEFAULT 0",
            None,
        ),
        (
            48,
            "utf16Length INTEGER NOT NULL DEFAULT 0, compressed INTEGER NOT NULL DEFAULT 0, lastAccessTime INTEGER NOT NULL DEFAULT 0",
            Some("utf16Length"),
        ),
    ] {
        let folder = Folder::empty();
        let (_, connection) = database(
            &folder,
            &format!(
                "PRAGMA user_version = {version};
                 CREATE TABLE database(origin TEXT NOT NULL, last_vacuum_time INTEGER NOT NULL DEFAULT 0);
                 CREATE TABLE data(key TEXT PRIMARY KEY, value TEXT NOT NULL, {columns});
                 INSERT INTO data(key, value) VALUES ('theme', 'dunkelgrün');"
            ),
        );
        connection
            .execute(
                "INSERT INTO data(key, value, compressed) VALUES ('packed', ?1, 1)",
                [&packed],
            )
            .unwrap();
        if let Some(length) = length {
            connection
                .execute_batch(&format!(
                    "UPDATE data SET {length} = 10 WHERE key = 'theme'; UPDATE data SET {length} = 72 WHERE key = 'packed';"
                ))
                .unwrap();
        }
        drop(connection);
        // The table of the origin is empty, as before its first use, so the folder's name tells it.
        let origin = "https://old.example:8080^userContextId=3";
        assert_eq!(
            read(folder.path()),
            [
                format!(
                    "_key=\"packed\" _origin=\"{origin}\" value_json=null value_text={:?}",
                    "long ago ".repeat(8)
                ),
                format!("_key=\"theme\" _origin=\"{origin}\" value_json=null value_text=\"dunkelgrün\""),
            ],
            "{version}"
        );
    }
}

#[test]
fn what_stands_in_the_log_of_pages_counts() {
    let folder = Folder::empty();
    let (path, connection) = database(&folder, CURRENT);
    connection
        .execute_batch(
            "PRAGMA journal_mode = WAL; PRAGMA wal_autocheckpoint = 0;
             INSERT INTO database(origin) VALUES ('https://a');
             INSERT INTO data VALUES ('k', 1, 1, 0, 0, CAST('v' AS BLOB));",
        )
        .unwrap();
    assert!(path.with_file_name("data.sqlite-wal").metadata().unwrap().len() > 0);
    let before = folder.content();
    assert_eq!(
        read(folder.path()),
        ["_key=\"k\" _origin=\"https://a\" value_json=null value_text=\"v\""]
    );
    assert!(folder.content() == before, "the profile was written to");
    drop(connection);
}

#[test]
fn a_transaction_that_a_crash_interrupted_is_undone() {
    let folder = Folder::empty();
    let (path, connection) = database(&folder, CURRENT);
    connection
        .execute_batch(
            "PRAGMA journal_mode = DELETE; PRAGMA cache_size = 2; PRAGMA cache_spill = 1;
             INSERT INTO database(origin) VALUES ('https://a');
             INSERT INTO data VALUES ('k', 1, 1, 0, 0, CAST('v' AS BLOB));
             BEGIN;
             UPDATE data SET value = CAST('w' AS BLOB);
             WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2000)
             INSERT INTO data SELECT 'n' || i, 100, 1, 0, 0, CAST(printf('%0100d', i) AS BLOB) FROM n;",
        )
        .unwrap();
    let journal = path.with_file_name("data.sqlite-journal");
    assert!(
        journal.metadata().unwrap().len() > 0,
        "nothing of the transaction is on the disk"
    );
    let before = folder.content();
    assert_eq!(
        read(folder.path()),
        ["_key=\"k\" _origin=\"https://a\" value_json=null value_text=\"v\""]
    );
    assert!(folder.content() == before, "the profile was written to");
    drop(connection);
}

#[test]
fn an_empty_file_is_an_origin_without_entries() {
    let folder = Folder::empty();
    let ls = folder.join("storage/default/https+++a/ls");
    std::fs::create_dir_all(&ls).unwrap();
    std::fs::write(ls.join("data.sqlite"), "").unwrap();
    for path in [folder.path(), &ls.join("data.sqlite")] {
        assert_eq!(codes(&findings(&config(path))), ["local_storage.empty"]);
        assert!(read(path).is_empty());
    }
}

#[test]
fn what_cannot_be_read_is_refused_by_name() {
    let insert = |row: &str| {
        format!("{CURRENT} INSERT INTO database(origin) VALUES ('https://a'); INSERT INTO data VALUES {row};")
    };
    for (statements, kind, code) in [
        (
            insert("('k', 1, 1, 2, 0, x'76')"),
            ErrorKind::Unsupported,
            "unknown_compression",
        ),
        (
            insert("('k', 1, 2, 0, 0, x'76')"),
            ErrorKind::Unsupported,
            "unknown_conversion",
        ),
        (
            insert("('k', 1, 0, 0, 0, x'760076')"),
            ErrorKind::Integrity,
            "corrupted",
        ),
        (
            insert("('k', 1, 1, 0, 0, x'ff')"),
            ErrorKind::Integrity,
            "corrupted",
        ),
        (
            insert("('k', 2, 1, 0, 0, x'76')"),
            ErrorKind::Integrity,
            "corrupted",
        ),
        (
            insert("('k', 1, 1, 1, 0, x'ffffffff0f00')"),
            ErrorKind::Integrity,
            "corrupted",
        ),
        (
            insert("('k', 1, 1, 1, 0, x'76')"),
            ErrorKind::Integrity,
            "corrupted",
        ),
        (
            format!("{CURRENT} PRAGMA user_version = 96;"),
            ErrorKind::Unsupported,
            "unknown_version",
        ),
        (
            "CREATE TABLE other(a);".to_owned(),
            ErrorKind::NotFound,
            "no_local_storage",
        ),
    ] {
        let folder = Folder::empty();
        drop(database(&folder, &statements));
        let error = error(&config(folder.path()));
        assert_eq!(
            (error.kind, error.code),
            (kind, format!("local_storage.{code}")),
            "{statements}"
        );
    }
}

#[test]
fn damaged_files_are_refused() {
    let profile = Folder::of("firefox");
    let path = origin_folder(&profile, FIRST).join("ls/data.sqlite");
    let whole = std::fs::read(&path).unwrap();
    let mut broken_page = whole.clone();
    broken_page[whole.len() / 2..].fill(0xAA);
    let mut no_magic = whole.clone();
    no_magic[..16].fill(b'x');
    for (what, content) in [
        ("cut", &whole[..whole.len() / 2]),
        ("cut in the header", &whole[..50]),
        ("overwritten", &broken_page),
        ("not a database", &no_magic),
    ] {
        std::fs::write(&path, content).unwrap();
        for path in [profile.path(), &path] {
            let error = error(&config(path));
            assert_eq!(
                (error.kind, error.code.as_str()),
                (ErrorKind::Integrity, "local_storage.corrupted"),
                "{what}"
            );
        }
    }
}

#[test]
fn a_profile_without_local_storage_is_said_to_be_one() {
    let folder = Folder::empty();
    std::fs::write(folder.join("prefs.js"), "").unwrap();
    let code = |config: &Json| error(config).code;
    assert_eq!(code(&config(folder.path())), "local_storage.no_local_storage");
    assert_eq!(
        code(&json!({"path": folder.path(), "format": "chromium"})),
        "local_storage.no_profile"
    );
}
