//! A profile of Chromium that is kept with the sources: found from each of its folders, read as its pages said, left as it
//! was; and each kind of damage is seen.
//!
//! Its database has a table, a log, overwritten and deleted keys. `live_browser` reads one that is being written.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use rusty_leveldb::{DB, Options};
use serde_json::{Value as Json, json};
use whimbrel_local_storage::WhimbrelPlugin;
use whimbrel_plugin_api::abi::root_module::local;
use whimbrel_plugin_api::acceptance::{self, ExpectedCollection, SourceCase};
use whimbrel_plugin_api::{ErrorKind, FindingLevel};

use crate::harness::{everything, try_open};
use crate::profile::{Folder, codes, compare, config, error, findings, told};

const LEVELDB: &str = "Default/Local Storage/leveldb";
const FIRST: &str = "http://127.0.0.1:8741";
const SECOND: &str = "http://127.0.0.1:8742";
const FRAMED: &str = "http://localhost:8743/^0http://127.0.0.1";

#[test]
fn a_profile_is_found_from_each_of_its_folders_and_read_as_its_pages_said() {
    let folder = Folder::of("chromium");
    let told = told("chromium");
    assert_eq!(told.keys().collect::<Vec<_>>(), [FIRST, SECOND, FRAMED]);
    let before = folder.content();
    for below in ["", "Default", "Default/Local Storage", LEVELDB] {
        for format in ["auto", "chromium"] {
            let config = json!({"path": folder.join(below), "format": format});
            assert_eq!(compare(&config, &told), Ok(()), "{below:?} as {format}");
            let told: Vec<_> = findings(&config)
                .into_iter()
                .map(|finding| (finding.level, finding.code))
                .collect();
            let lone = (FindingLevel::Warning, "local_storage.lone_surrogate".to_owned());
            assert!(
                !told.is_empty() && told.iter().all(|finding| *finding == lone),
                "{told:?}"
            );
        }
    }
    assert!(folder.content() == before, "the profile was written to");
}

#[test]
fn deleted_keys_are_absent_and_overwritten_ones_have_their_last_value() {
    let folder = Folder::of("chromium");
    let collections = everything(&mut *try_open(&json!({"path": folder.path(), "origin": FIRST})).unwrap());
    // 90 were written in a first run of the browser, 30 of them again in the second; then all beyond 30 and every third
    // were deleted.
    let ids: Vec<_> = collections["item"]
        .records
        .iter()
        .map(|record| record["id"].clone())
        .collect();
    assert_eq!(ids.len(), 20, "{ids:?}");
    let log = std::fs::read(folder.join(LEVELDB).join("000004.log")).unwrap();
    assert!(
        log.windows(7).any(|window| window == b"deleted"),
        "the fixture has no deleted key"
    );
    let keys: Vec<_> = collections["_values"]
        .records
        .iter()
        .map(|record| &record["_key"])
        .collect();
    assert!(!format!("{keys:?}").contains("deleted"));
}

#[test]
fn origins_can_be_chosen_and_one_that_is_not_there_lists_those_that_are() {
    let folder = Folder::of("chromium");
    let mut told = told("chromium");
    let path = folder.path();
    let config = json!({"path": path, "origins": [FIRST, FRAMED]});
    told.remove(SECOND);
    assert_eq!(compare(&config, &told), Ok(()));
    told.remove(FIRST);
    assert_eq!(compare(&json!({"path": path, "origin": FRAMED}), &told), Ok(()));

    let missing = error(&json!({"path": path, "origins": [FIRST, "http://localhost:8743"]}));
    assert_eq!(
        (missing.kind, missing.code.as_str()),
        (ErrorKind::NotFound, "local_storage.origin_missing")
    );
    assert_eq!(
        missing.message,
        format!(
            "the profile has no origin `http://localhost:8743` (origins: `{FIRST}`, `{SECOND}`, `{FRAMED}`)"
        )
    );
    let both = try_open(&json!({"path": path, "origin": FIRST, "origins": [SECOND]}))
        .err()
        .unwrap();
    assert_eq!(
        (both.kind, both.code.as_str()),
        (ErrorKind::Config, "local_storage.bad_config")
    );
}

#[test]
fn halves_of_surrogate_pairs_are_replaced_as_a_declared_loss() {
    let folder = Folder::of("chromium");
    let config = json!({"path": folder.path(), "lone_surrogates": "replace", "origin": FIRST});
    let collections = everything(&mut *try_open(&config).unwrap());
    assert!(collections.values().all(|read| read.rejected.is_empty()));
    let entries: usize = collections.values().map(|read| read.records.len()).sum();
    assert_eq!(entries, told("chromium")[FIRST].entries.len());
    let losses: Vec<String> = collections["_values"]
        .collection
        .losses
        .iter()
        .map(|loss| format!("{} {}", loss.field, loss.loss.name()))
        .collect();
    let declared = ["_origin", "_key", "value_json", "value_text"]
        .map(|field| format!("{field} lone_surrogate_replaced"));
    assert_eq!(losses, declared);
}

#[test]
fn the_suite_of_the_api_passes_on_a_profile() {
    let folder = Folder::of("chromium");
    let case = SourceCase::new(json!({"path": folder.path(), "origin": SECOND}))
        .with(ExpectedCollection::new("_values", 1).with_key(["_origin", "_key"]))
        .with(ExpectedCollection::new("item", 1).with_key(["_origin", "_key", "_id"]))
        .with(ExpectedCollection::new("note", 40).with_key(["_origin", "_key", "_id"]))
        .with_bad_config(json!({"path": folder.path(), "format": "safari"}))
        .with_unreachable(json!({"path": "/no/such/profile"}));
    acceptance::source::run(local::<WhimbrelPlugin>(), case).assert();
}

// ---------------------------------------------------------------- folders that are no profile

#[test]
fn folders_without_local_storage_are_told_apart() {
    let folder = Folder::empty();
    let path = folder.path();
    let refused = |config: &Json| {
        let error = error(config);
        (
            error.kind,
            error.code.trim_start_matches("local_storage.").to_owned(),
        )
    };
    let no_profile = (ErrorKind::Config, "no_profile".to_owned());
    assert_eq!(refused(&config(path)), no_profile);
    std::fs::write(folder.join("Preferences"), "{}").unwrap();
    let nothing = (ErrorKind::NotFound, "no_local_storage".to_owned());
    assert_eq!(refused(&config(path)), nothing);
    assert_eq!(refused(&json!({"path": path, "format": "firefox"})), no_profile);
    assert_eq!(
        refused(&json!({"path": folder.join("Preferences"), "format": "chromium"})),
        no_profile
    );

    let profile = Folder::of("chromium");
    assert_eq!(
        refused(&json!({"path": profile.path(), "format": "firefox"})),
        no_profile
    );
    std::fs::create_dir(profile.join("Profile 2")).unwrap();
    std::fs::rename(
        profile.join("Default/Local Storage"),
        profile.join("Profile 2/Local Storage"),
    )
    .unwrap();
    assert_eq!(compare(&config(profile.path()), &told("chromium")), Ok(()));
    std::fs::create_dir_all(profile.join(LEVELDB)).unwrap();
    std::fs::write(profile.join(LEVELDB).join("CURRENT"), "").unwrap();
    let several = error(&config(profile.path()));
    assert_eq!(several.code, "local_storage.several_profiles");
    assert!(
        several
            .message
            .ends_with("holds several profiles (`Default`, `Profile 2`)"),
        "{}",
        several.message
    );
}

/// A LevelDB with these entries, in files.
fn write_leveldb(folder: &Path, entries: &[(&[u8], &[u8])]) {
    let options = rusty_leveldb::in_memory();
    let env = std::rc::Rc::clone(&options.env);
    let mut database = DB::open("db", options).unwrap();
    for (key, value) in entries {
        database.put(key, value).unwrap();
    }
    database.flush().unwrap();
    std::fs::create_dir_all(folder).unwrap();
    for name in env.children(Path::new("db")).unwrap() {
        let path = Path::new("db").join(&name);
        let mut content = Vec::new();
        env.open_sequential_file(&path)
            .unwrap()
            .read_to_end(&mut content)
            .unwrap();
        std::fs::write(folder.join(name), content).unwrap();
    }
}

#[test]
fn databases_of_another_kind_or_age_are_refused() {
    let entry = |key: &'static [u8], value: &'static [u8]| [(&b"VERSION"[..], &b"1"[..]), (key, value)];
    for (entries, code) in [
        (&[(&b"VERSION"[..], &b"2"[..])][..], "unknown_version"),
        (&[(&b"namespace-x"[..], &b""[..])], "no_local_storage"),
        (&entry(b"_http://a\0\x02k", b"\x01v"), "unknown_encoding"),
        (&entry(b"_http://a\0\x01k", b"\x07v"), "unknown_encoding"),
        (&entry(b"_http://a\0\x01k", b""), "unknown_encoding"),
        (&entry(b"_http://a\0\x01k", b"\x00abc"), "unknown_encoding"),
    ] {
        let folder = Folder::empty();
        write_leveldb(folder.path(), entries);
        let error = error(&config(folder.path()));
        assert_eq!(error.code, format!("local_storage.{code}"), "{entries:?}");
        assert!(!error.message.contains('\0'));
    }
    // Keys of another kind beside local storage are counted, and an empty one is no error.
    let folder = Folder::empty();
    write_leveldb(
        folder.path(),
        &[
            (b"VERSION", b"1"),
            (b"x", b""),
            (b"_http://a\0\x01k", b"\x00\xe9\x65"),
        ],
    );
    assert_eq!(
        codes(&findings(&config(folder.path()))),
        ["local_storage.not_read"]
    );
    let folder = Folder::empty();
    write_leveldb(folder.path(), &[(b"VERSION", b"1")]);
    assert_eq!(codes(&findings(&config(folder.path()))), ["local_storage.empty"]);
    assert_eq!(
        everything(&mut *try_open(&config(folder.path())).unwrap()).len(),
        0
    );
}

#[test]
fn many_entries_over_many_tables_are_merged() {
    let folder = Folder::empty();
    let options = Options {
        write_buffer_size: 4_096,
        ..rusty_leveldb::in_memory()
    };
    let env = std::rc::Rc::clone(&options.env);
    let mut database = DB::open("db", options).unwrap();
    database.put(b"VERSION", b"1").unwrap();
    let mut expected = BTreeMap::new();
    for round in 0..4_u32 {
        for id in 0..500_u32 {
            let key = format!("_http://a\0\u{1}k{id:04}");
            if (id + round).is_multiple_of(5) {
                database.delete(key.as_bytes()).unwrap();
                expected.remove(&id);
            } else {
                let value = format!("\u{1}{{\"round\":{round},\"id\":{id}}}");
                database.put(key.as_bytes(), value.as_bytes()).unwrap();
                expected.insert(id, value[1..].to_owned());
            }
        }
    }
    database.flush().unwrap();
    let mut tables = 0;
    for name in env.children(Path::new("db")).unwrap() {
        let mut content = Vec::new();
        let mut file = env.open_sequential_file(&Path::new("db").join(&name)).unwrap();
        file.read_to_end(&mut content).unwrap();
        tables += usize::from(name.extension().is_some_and(|end| end == "ldb"));
        std::fs::write(folder.join(name.to_str().unwrap()), content).unwrap();
    }
    assert!(tables > 1, "there are {tables} tables");
    let collections = everything(&mut *try_open(&config(folder.path())).unwrap());
    let found: BTreeMap<u32, String> = collections["_values"]
        .records
        .iter()
        .map(|record| {
            let text = |field: &str| match &record[field] {
                whimbrel_plugin_api::acceptance::records::Value::Text(text) => text.clone(),
                other => panic!("{other:?}"),
            };
            (text("_key")[1..].parse().unwrap(), text("value_json"))
        })
        .collect();
    assert_eq!(found, expected);
}

// ---------------------------------------------------------------- damage

#[test]
fn a_changed_octet_is_refused_or_changes_nothing() {
    let folder = Folder::of("chromium");
    let told = told("chromium");
    let database = folder.join(LEVELDB);
    let mut refused = 0;
    for (name, step) in [
        ("CURRENT", 1),
        ("MANIFEST-000001", 1),
        ("000003.ldb", 331),
        ("000004.log", 53),
    ] {
        let path = database.join(name);
        let whole = std::fs::read(&path).unwrap();
        for at in (0..whole.len()).step_by(step) {
            let mut damaged = whole.clone();
            damaged[at] ^= 1 << (at % 8);
            std::fs::write(&path, damaged).unwrap();
            match try_open(&config(&database)).unwrap().check() {
                Ok(found) if found[0].level == FindingLevel::Blocker => {
                    let expected = ["local_storage.corrupted", "local_storage.unknown_compression"];
                    assert!(
                        expected.contains(&found[0].code.as_str()),
                        "{name} at {at}: {}",
                        found[0].code
                    );
                    refused += 1;
                }
                found => {
                    let noted = found
                        .unwrap()
                        .iter()
                        .any(|finding| finding.code == "local_storage.unfinished_write");
                    let compared = compare(&config(&database), &told);
                    assert!(noted || compared.is_ok(), "{name} at {at}: {compared:?}");
                }
            }
        }
        std::fs::write(&path, whole).unwrap();
    }
    assert!(refused > 500, "only {refused} were refused");
    assert_eq!(compare(&config(&database), &told), Ok(()));
}

#[test]
fn files_that_are_cut_or_missing_are_refused_and_an_unfinished_write_is_told() {
    let told = told("chromium");
    for (name, keep) in [
        ("CURRENT", Some(0)),
        ("CURRENT", Some(9)),
        ("MANIFEST-000001", None),
        ("MANIFEST-000001", Some(100)),
        ("MANIFEST-000001", Some(0)),
        ("000003.ldb", None),
        ("000003.ldb", Some(0)),
        ("000003.ldb", Some(40_000)),
    ] {
        let folder = Folder::of("chromium");
        let path = folder.join(LEVELDB).join(name);
        let whole = std::fs::read(&path).unwrap();
        match keep {
            Some(size) => std::fs::write(&path, &whole[..size]).unwrap(),
            None => std::fs::remove_file(&path).unwrap(),
        }
        let error = error(&config(&folder.join(LEVELDB)));
        assert_eq!(
            (error.kind, error.code.as_str()),
            (ErrorKind::Integrity, "local_storage.corrupted"),
            "{name} {keep:?}"
        );
    }
    // The last write of a browser that was stopped in the middle of it does not count, neither here nor there.
    let folder = Folder::of("chromium");
    let path = folder.join(LEVELDB).join("000004.log");
    let whole = std::fs::read(&path).unwrap();
    let config = config(folder.path());
    std::fs::write(&path, &whole[..whole.len() - 3]).unwrap();
    assert!(codes(&findings(&config)).contains(&"local_storage.unfinished_write"));
    assert!(compare(&config, &told).is_err());
    // Zeros behind the last write are room made ahead.
    std::fs::write(&path, [&whole[..], &[0; 5_000]].concat()).unwrap();
    assert!(codes(&findings(&config)).contains(&"local_storage.unfinished_write"));
    assert_eq!(compare(&config, &told), Ok(()));
}

#[test]
fn tables_that_a_crash_left_behind_do_not_count() {
    let folder = Folder::of("chromium");
    for name in ["000099.ldb", "000001.log"] {
        std::fs::write(folder.join(LEVELDB).join(name), "half of a tab").unwrap();
    }
    assert_eq!(compare(&config(folder.path()), &told("chromium")), Ok(()));
}

#[test]
fn files_that_change_meanwhile_give_what_the_pages_said_or_an_error() {
    const READS: usize = 10;
    let folder = Folder::of("chromium");
    let database = folder.join(LEVELDB);
    let told = told("chromium");
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let table = std::fs::read(database.join("000003.ldb")).unwrap();
            while !is_over.load(Ordering::SeqCst) {
                // As a compaction does: a table comes, and takes the place of another.
                std::fs::write(database.join("000099.ldb"), &table).unwrap();
                std::fs::rename(database.join("000099.ldb"), database.join("000003.ldb")).unwrap();
            }
        });
        for _ in 0..READS {
            if let Err(failure) = compare(&config(folder.path()), &told) {
                let is_right =
                    failure.contains("changed each time") || failure.contains("`000003.ldb` is missing");
                assert!(is_right, "{failure}");
            }
        }
        is_over.store(true, Ordering::SeqCst);
    });
    assert_eq!(compare(&config(folder.path()), &told), Ok(()));
}
