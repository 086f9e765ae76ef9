//! Several processes on one file: lines never mix, keys are told once, rotation loses nothing, a lock is waited for.
//! The other processes are this very test, started again with a path in its environment.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use whimbrel_plugin_api::acceptance::Delivered;
use whimbrel_plugin_api::serde_json::json;
use whimbrel_plugin_api::{ErrorKind, Notification, Notifier as _};

use crate::harness::{delivered_in_all, keys, open, open_at, send, told};

/// Tells a process that a test starts which file it writes, and its own name.
const FILE: &str = "WHIMBREL_FILE_TEST_PATH";
const NAME: &str = "WHIMBREL_FILE_TEST_NAME";

const PROCESSES: usize = 4;
const EACH: usize = 60;

/// Bodies of many lengths, up to 40 KB: longer than what a file system writes at once.
fn of_length(key: &str, number: usize) -> Notification {
    Notification {
        body: "é".repeat(number * 331),
        ..told(key)
    }
}

/// This very test in other processes, which all write the same file.
fn start(test: &str, path: &Path) -> Vec<Child> {
    let one = |number: usize| {
        Command::new(std::env::current_exe().unwrap())
            .args(["--exact", test])
            .env(FILE, path)
            .env(NAME, number.to_string())
            .stdout(Stdio::null())
            .spawn()
            .unwrap()
    };
    (0..PROCESSES).map(one).collect()
}

#[test]
fn lines_of_several_processes_stay_whole_and_rotation_loses_none() {
    let write = |path: &Path, name: &str| {
        let mut notifier = open(&json!({ "path": path, "size_mb_max": 1, "keep": 99 })).unwrap();
        for number in 0..EACH {
            notifier
                .send(&of_length(&format!("{name}.{number}"), number))
                .unwrap();
            // Told by every process, to appear once.
            notifier
                .send(&of_length(&format!("same {number}"), number))
                .unwrap();
        }
    };
    if let Some(path) = std::env::var_os(FILE) {
        return write(Path::new(&path), &std::env::var(NAME).unwrap());
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a");
    let test = "sharing::lines_of_several_processes_stay_whole_and_rotation_loses_none";
    for mut child in start(test, &path) {
        assert!(child.wait().unwrap().success());
    }
    let key = |one: Delivered| one.dedupe_key.unwrap();
    let mut found: Vec<String> = delivered_in_all(&path).into_iter().map(key).collect();
    found.sort();
    let mut wanted: Vec<String> = (0..EACH).map(|number| format!("same {number}")).collect();
    wanted.extend((0..PROCESSES).flat_map(|name| (0..EACH).map(move |number| format!("{name}.{number}"))));
    wanted.sort();
    assert_eq!(found, wanted);
    let files = fs::read_dir(folder.path()).unwrap().count();
    assert!(files > 3, "{files} files: nothing was rotated");
}

#[test]
fn a_killed_process_leaves_lines_that_others_can_go_on_from() {
    if let Some(path) = std::env::var_os(FILE) {
        let mut notifier = open_at(Path::new(&path));
        for number in 0.. {
            let key = format!("{}.{number}", std::env::var(NAME).unwrap());
            notifier.send(&of_length(&key, number % 90)).unwrap();
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a");
    let test = "sharing::a_killed_process_leaves_lines_that_others_can_go_on_from";
    let mut children = start(test, &path);
    let length = || fs::metadata(&path).map_or(0, |metadata| metadata.len());
    for mut child in children.drain(..) {
        // Each is killed after some more has been written, wherever it is then.
        let before = length();
        while length() < before + 300_000 {
            assert!(child.try_wait().unwrap().is_none(), "a process ended early");
            std::thread::yield_now();
        }
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let mut notifier = open_at(&path);
    send(&mut notifier, "after").unwrap();
    let text = fs::read(&path).unwrap();
    let torn = text
        .split(|octet| *octet == b'\n')
        .filter(|line| {
            !line.is_empty() && whimbrel_plugin_api::serde_json::from_slice::<Notification>(line).is_err()
        })
        .count();
    // A kill can cut off one line of its process at most.
    assert!(torn <= PROCESSES, "{torn} lines are torn");
    assert!(text.ends_with(b"\n"));
}

#[test]
fn a_lock_that_is_let_go_is_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a");
    fs::write(&path, "").unwrap();
    let holder = fs::File::options().append(true).open(&path).unwrap();
    holder.lock().unwrap();
    let mut notifier = open_at(&path);
    let writer = std::thread::spawn(move || send(&mut notifier, "a"));
    assert!(!writer.is_finished());
    drop(holder);
    writer.join().unwrap().unwrap();
    assert_eq!(keys(&path), ["a"]);
}

#[test]
fn a_lock_that_is_held_for_ever_is_an_error_that_passes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a");
    fs::write(&path, "").unwrap();
    let holder = fs::File::options().append(true).open(&path).unwrap();
    holder.lock().unwrap();
    let mut notifier = open_at(&path);
    let error = send(&mut notifier, "a").unwrap_err();
    assert_eq!(
        (error.code.as_str(), error.kind),
        ("file.locked", ErrorKind::Unavailable)
    );
    drop(holder);
    send(&mut notifier, "a").unwrap();
    assert_eq!(keys(&path), ["a"]);
}
