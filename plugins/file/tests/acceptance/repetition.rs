//! What is told twice: keys over restarts, over rotation, over formats; and the old files of a rotation.
//! Not here: several processes at once (`sharing.rs`).

use std::fs;
use std::path::{Path, PathBuf};

use whimbrel_plugin_api::serde_json::json;
use whimbrel_plugin_api::{Notification, Notifier as _};

use crate::harness::{Host, keys, open, open_at, plugin, send, told};

fn old(path: &Path, number: u32) -> PathBuf {
    format!("{}.{number}", path.display()).into()
}

/// A notification of about 300 KB, so that four of them are over the smallest limit.
fn large(key: &str) -> Notification {
    Notification {
        body: "x".repeat(300_000),
        ..told(key)
    }
}

#[test]
fn a_receipt_is_the_same_for_a_repetition_and_finds_the_line_after_rotation() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a");
    let config = json!({ "path": path, "size_mb_max": 1 });
    let mut notifier = open(&config).unwrap();
    let first = notifier.send(&large("a")).unwrap();
    for key in ["b", "c", "d"] {
        notifier.send(&large(key)).unwrap();
    }
    assert_eq!(keys(&path), ["d"]);
    assert_eq!(keys(&old(&path, 1)), ["a", "b", "c"]);
    assert_eq!(notifier.send(&large("a")).unwrap(), first);
    // A new process finds both in the old file.
    let mut other = open(&config).unwrap();
    assert_eq!(other.send(&large("a")).unwrap(), first);
    let third = other.send(&large("c")).unwrap().id.unwrap();
    let (inode, start) = third.split_once(':').unwrap();
    use std::os::unix::fs::MetadataExt as _;
    assert_eq!(inode, fs::metadata(old(&path, 1)).unwrap().ino().to_string());
    let text = fs::read_to_string(old(&path, 1)).unwrap();
    assert!(text[start.parse().unwrap()..].starts_with("{\"dedupe_key\":\"c\""));
    assert_eq!(keys(&path), ["d"]);
}

#[test]
fn only_so_many_old_files_are_kept() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a");
    let mut notifier = open(&json!({ "path": path, "size_mb_max": 1, "keep": 2 })).unwrap();
    for number in 0..12 {
        notifier.send(&large(&number.to_string())).unwrap();
    }
    assert_eq!(keys(&path), ["9", "10", "11"]);
    assert_eq!(keys(&old(&path, 1)), ["6", "7", "8"]);
    assert_eq!(keys(&old(&path, 2)), ["3", "4", "5"]);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 3);
}

#[test]
fn a_file_that_cannot_be_moved_grows_on_and_the_log_says_so_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a");
    fs::create_dir(old(&path, 1)).unwrap();
    let host = std::sync::Arc::new(Host::default());
    let config = json!({ "path": path, "size_mb_max": 1, "keep": 1 });
    let mut notifier = plugin().open_notifier(&config, host.clone()).unwrap();
    for key in ["a", "b", "c", "d", "e"] {
        notifier.send(&large(key)).unwrap();
    }
    assert_eq!(keys(&path), ["a", "b", "c", "d", "e"]);
    let log = host.0.lock().unwrap();
    assert_eq!(log.len(), 1, "{log:?}");
    assert!(
        log[0].starts_with("Warn ") && log[0].contains("size_mb_max"),
        "{log:?}"
    );
}

#[test]
fn keys_are_known_whatever_the_format_was_that_wrote_them() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a");
    for (format, key) in [("ndjson", "a"), ("text", "b"), ("ndjson", "b"), ("text", "a")] {
        send(
            &mut open(&json!({ "path": path, "format": format })).unwrap(),
            key,
        )
        .unwrap();
    }
    assert_eq!(keys(&path), ["a", "b"]);
}

#[test]
fn a_key_that_another_notifier_wrote_since_is_known() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a");
    let (mut first, mut second) = (open_at(&path), open_at(&path));
    send(&mut first, "a").unwrap();
    send(&mut second, "b").unwrap();
    send(&mut first, "b").unwrap();
    send(&mut second, "a").unwrap();
    assert_eq!(keys(&path), ["a", "b"]);
}

#[test]
fn a_path_without_folder_is_in_the_working_folder() {
    let folder = tempfile::tempdir().unwrap();
    // Each test is a process of its own under nextest; under the plain runner no other test uses a relative path.
    std::env::set_current_dir(folder.path()).unwrap();
    let mut notifier = open_at(Path::new("notifications.ndjson"));
    assert!(notifier.check().unwrap().is_empty());
    send(&mut notifier, "a").unwrap();
    assert_eq!(keys(&folder.path().join("notifications.ndjson")), ["a"]);
}
