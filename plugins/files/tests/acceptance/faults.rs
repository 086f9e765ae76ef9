//! Faults of the world outside: rights, full disks, files where folders should be, files that lie.
//! Each is an error or a finding with a code, never a wrong record.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use whimbrel_plugin_api::acceptance::{Record, Value};
use whimbrel_plugin_api::serde_json::json;
use whimbrel_plugin_api::sink::PrepareRequest;
use whimbrel_plugin_api::{
    Batch, Collection, CollectionsRequest, ConflictPolicy, ErrorKind, ErrorScope, Field, Finding,
    FindingLevel, RecordType, Schema, Sink as _, Source as _,
};

use crate::harness::{batch_of, begin, commit, load, open_sink, open_source, prepare, read, source, write};

fn texts() -> Collection {
    Collection::new("a", Schema::new(vec![Field::new("text", RecordType::Text)]))
}

fn some(count: usize) -> Batch {
    let record = Record::from([("text".to_owned(), Value::text("x".repeat(100)))]);
    batch_of(&texts().schema, &vec![record; count])
}

fn blocker(findings: &[Finding]) -> &str {
    let blocker = findings
        .iter()
        .find(|finding| finding.level == FindingLevel::Blocker);
    blocker.map_or("none", |finding| finding.code.as_str())
}

/// Runs `what` as a user whom permissions stop, which root is not.
fn as_nobody(what: impl FnOnce() + Send) {
    std::thread::scope(|scope| {
        let run = scope.spawn(|| {
            if rustix::process::geteuid().is_root() {
                // Of this thread alone.
                rustix::thread::set_thread_uid(rustix::process::Uid::from_raw(65_534)).unwrap();
            }
            what();
        });
        run.join().unwrap();
    });
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn missing_rights_are_found_before_anything_is_touched() {
    let folder = tempfile::tempdir().unwrap();
    set_mode(folder.path(), 0o755);
    let closed = folder.path().join("closed");
    fs::create_dir(&closed).unwrap();
    fs::write(closed.join("a.ndjson"), "{}\n").unwrap();
    fs::write(folder.path().join("b.ndjson"), "{}\n").unwrap();
    set_mode(&folder.path().join("b.ndjson"), 0o000);
    set_mode(&closed, 0o500);
    as_nobody(|| {
        let mut sink = open_sink(&json!({ "path": closed })).unwrap();
        assert_eq!(blocker(&sink.check().unwrap()), "files.no_permission");
        let mut sink = open_sink(&json!({ "path": folder.path().join("new") })).unwrap();
        assert_eq!(blocker(&sink.check().unwrap()), "files.no_permission");
        let request = PrepareRequest {
            collections: vec![texts()],
            dry: false,
            ..PrepareRequest::default()
        };
        let error = sink.prepare(&request).unwrap_err();
        assert_eq!(
            (error.code.as_str(), error.kind),
            ("files.no_permission", ErrorKind::Permission)
        );
        assert_eq!(blocker(&source(&closed).check().unwrap()), "files.no_permission");
        let error = source(&folder.path().join("b.ndjson"))
            .collections(&CollectionsRequest::named("b"))
            .unwrap_err();
        assert_eq!(error.code, "files.no_permission");
        assert!(error.message.contains("b.ndjson") && error.help.is_some());
    });
    set_mode(&closed, 0o700);
    assert!(!folder.path().join("new").exists());
}

#[test]
fn a_file_where_a_folder_should_be_is_a_blocker() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "precious").unwrap();
    for path in [&file, &file.join("below")] {
        let mut sink = open_sink(&json!({ "path": path })).unwrap();
        assert_eq!(
            blocker(&sink.check().unwrap()),
            "files.not_a_folder",
            "{}",
            path.display()
        );
    }
    let mut sink = open_sink(&json!({ "path": file })).unwrap();
    assert_eq!(
        blocker(&prepare(&mut sink, &[texts()]).findings),
        "files.not_a_folder"
    );
    assert_eq!(fs::read(&file).unwrap(), b"precious");
}

#[test]
fn a_full_disk_loses_the_transaction_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let config = json!({ "path": folder.path() });
    let mut sink = open_sink(&config).unwrap();
    prepare(&mut sink, &[texts()]);
    let partial = folder.path().join("a.ndjson.partial");
    fs::remove_file(&partial).unwrap();
    symlink("/dev/full", &partial).unwrap();
    begin(&mut sink);
    let error = sink
        .write("a", &some(10_000), ConflictPolicy::Append)
        .unwrap_err();
    assert_eq!(
        (error.code.as_str(), error.kind, error.scope),
        ("files.disk_full", ErrorKind::Unavailable, ErrorScope::Transaction)
    );
    // Room was made.
    fs::remove_file(&partial).unwrap();
    drop(sink);
    let mut sink = open_sink(&config).unwrap();
    begin(&mut sink);
    write(&mut sink, "a", &some(5));
    commit(&mut sink);
    sink.finalize().unwrap();
    assert_eq!(read(&mut source(folder.path()), "a").unwrap().records().len(), 5);
}

#[test]
fn a_full_disk_in_the_commit_is_no_commit() {
    let folder = tempfile::tempdir().unwrap();
    let config = json!({ "path": folder.path() });
    let mut sink = open_sink(&config).unwrap();
    prepare(&mut sink, &[texts()]);
    let partial = folder.path().join("a.ndjson.partial");
    fs::remove_file(&partial).unwrap();
    symlink("/dev/full", &partial).unwrap();
    begin(&mut sink);
    // Little enough to stay in memory until the commit.
    write(&mut sink, "a", &some(5));
    assert_eq!(
        sink.commit(&Default::default()).unwrap_err().code,
        "files.disk_full"
    );
    fs::remove_file(&partial).unwrap();
    drop(sink);
    let mut sink = open_sink(&config).unwrap();
    begin(&mut sink);
    write(&mut sink, "a", &some(3));
    commit(&mut sink);
    sink.finalize().unwrap();
    assert_eq!(read(&mut source(folder.path()), "a").unwrap().records().len(), 3);
}

#[test]
fn committed_octets_that_are_gone_are_an_error_and_never_a_gap() {
    let folder = tempfile::tempdir().unwrap();
    let config = json!({ "path": folder.path() });
    let mut sink = open_sink(&config).unwrap();
    prepare(&mut sink, &[texts()]);
    begin(&mut sink);
    write(&mut sink, "a", &some(50));
    commit(&mut sink);
    drop(sink);
    fs::write(folder.path().join("a.ndjson.partial"), "").unwrap();
    let mut sink = open_sink(&config).unwrap();
    begin(&mut sink);
    let error = sink.write("a", &some(1), ConflictPolicy::Append).unwrap_err();
    assert_eq!(
        (error.code.as_str(), error.kind),
        ("files.load_damaged", ErrorKind::Integrity)
    );
    sink.abort().unwrap();
    assert_eq!(sink.finalize().unwrap_err().code, "files.load_damaged");
    assert!(!folder.path().join("a.ndjson").exists());
}

#[test]
fn two_files_for_one_collection_are_refused_with_both_names() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("a.ndjson"), "{}\n").unwrap();
    fs::write(folder.path().join("a.json"), "[]").unwrap();
    let mut source = source(folder.path());
    assert_eq!(blocker(&source.check().unwrap()), "files.collection_twice");
    let error = source.collections(&CollectionsRequest::default()).unwrap_err();
    assert_eq!(
        (error.code.as_str(), error.kind),
        ("files.collection_twice", ErrorKind::Config)
    );
    assert!(
        error.message.contains("a.ndjson`") && error.message.contains("a.json`"),
        "{}",
        error.message
    );
}

#[test]
fn a_damaged_schema_file_is_refused_and_a_foreign_one_is_data() {
    let folder = tempfile::tempdir().unwrap();
    load(&json!({ "path": folder.path() }), &texts(), &[some(1)]);
    let path = folder.path().join("a.schema.json");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, &text[..text.len() / 2]).unwrap();
    let error = source(folder.path())
        .collections(&CollectionsRequest::default())
        .unwrap_err();
    assert_eq!(
        (error.code.as_str(), error.kind),
        ("files.bad_schema_file", ErrorKind::Integrity)
    );
    fs::write(&path, "{\"$schema\":\"x\"}").unwrap();
    let names: Vec<_> = source(folder.path())
        .collections(&CollectionsRequest::default())
        .unwrap()
        .into_iter()
        .map(|it| it.name)
        .collect();
    assert_eq!(names, ["a", "a.schema"]);
}

#[test]
fn configs_with_unknown_or_wrong_keys_are_refused() {
    for config in [
        json!({}),
        json!({ "path": "x", "fromat": "json" }),
        json!({ "path": "x", "existing": "append" }),
    ] {
        assert_eq!(
            open_sink(&config).err().unwrap().kind,
            ErrorKind::Config,
            "{config}"
        );
    }
    for config in [json!({ "path": 1 }), json!({ "path": "x", "key": { "a": "id" } })] {
        assert_eq!(
            open_source(&config).err().unwrap().kind,
            ErrorKind::Config,
            "{config}"
        );
    }
}
