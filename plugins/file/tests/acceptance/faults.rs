//! Faults of the world outside: rights, links, devices, limits, lines that were cut off, foreign content.
//! Each is an error or a finding with a code, and what was in the file stays.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::process::Command;

use whimbrel_plugin_api::serde_json::json;
use whimbrel_plugin_api::{ErrorKind, ErrorScope, FindingLevel, Notification, Notifier as _};

use crate::harness::{delivered, keys, open, open_at, send, told};

fn found(path: &Path) -> Vec<(FindingLevel, String)> {
    let findings = open_at(path).check().unwrap();
    findings
        .into_iter()
        .map(|found| (found.level, found.code))
        .collect()
}

fn blocker(code: &str) -> Vec<(FindingLevel, String)> {
    vec![(FindingLevel::Blocker, code.to_owned())]
}

fn warning(code: &str) -> Vec<(FindingLevel, String)> {
    vec![(FindingLevel::Warning, code.to_owned())]
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
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

#[test]
fn a_new_file_has_the_permissions_that_were_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    // What is asked for goes before the umask; no other test here counts on one.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    for (readers, wanted) in [("owner", 0o600), ("group", 0o640), ("everyone", 0o644)] {
        let path = folder.path().join(readers);
        let mut notifier = open(&json!({ "path": path, "readable_by": readers })).unwrap();
        send(&mut notifier, "a").unwrap();
        assert_eq!(mode(&path), wanted, "{readers}");
        assert!(notifier.check().unwrap().is_empty(), "{readers}");
    }
}

#[test]
fn wide_permissions_of_a_file_are_a_warning_and_stay() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a");
    fs::write(&path, "").unwrap();
    set_mode(&path, 0o644);
    assert_eq!(found(&path), warning("file.permissions_wide"));
    send(&mut open_at(&path), "a").unwrap();
    assert_eq!(mode(&path), 0o644);
    set_mode(&path, 0o400);
    set_mode(&path, 0o600);
    assert_eq!(found(&path), []);
}

#[test]
fn missing_rights_are_found_before_and_told_after() {
    let folder = tempfile::tempdir().unwrap();
    set_mode(folder.path(), 0o755);
    let (inside, file) = (folder.path().join("new"), folder.path().join("old"));
    fs::write(&file, "").unwrap();
    set_mode(&file, 0o600);
    as_nobody(|| {
        for path in [&inside, &file] {
            assert_eq!(
                found(path)[0],
                blocker("file.no_permission")[0],
                "{}",
                path.display()
            );
            let error = send(&mut open_at(path), "a").unwrap_err();
            assert_eq!(
                (error.code.as_str(), error.kind, error.scope),
                ("file.no_permission", ErrorKind::Permission, ErrorScope::Write)
            );
            assert!(error.help.is_some());
        }
    });
    assert!(!inside.exists());
    assert_eq!(fs::read(&file).unwrap(), b"");
}

#[test]
fn a_link_is_refused_wherever_it_leads() {
    let folder = tempfile::tempdir().unwrap();
    let (link, precious) = (folder.path().join("link"), folder.path().join("precious"));
    fs::write(&precious, "precious").unwrap();
    for target in [&precious, &folder.path().join("missing")] {
        symlink(target, &link).unwrap();
        assert_eq!(found(&link), blocker("file.is_a_link"));
        let error = send(&mut open_at(&link), "a").unwrap_err();
        assert_eq!(
            (error.code.as_str(), error.kind),
            ("file.is_a_link", ErrorKind::Config)
        );
        fs::remove_file(&link).unwrap();
    }
    assert_eq!(fs::read(&precious).unwrap(), b"precious");
    assert!(!folder.path().join("missing").exists());
    // A link on the way is the operator's.
    symlink(folder.path(), &link).unwrap();
    send(&mut open_at(&link.join("b")), "a").unwrap();
    assert_eq!(keys(&folder.path().join("b")), ["a"]);
}

#[test]
fn what_is_no_file_is_refused_without_waiting_for_it() {
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("pipe");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &pipe,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o600),
        0,
    )
    .unwrap();
    for path in [pipe.as_path(), Path::new("/dev/null"), Path::new("/dev/full")] {
        assert_eq!(
            found(path)[0],
            blocker("file.not_a_file")[0],
            "{}",
            path.display()
        );
        let error = send(&mut open_at(path), "a").unwrap_err();
        assert_eq!(
            (error.code.as_str(), error.kind),
            ("file.not_a_file", ErrorKind::Config)
        );
    }
    let error = send(&mut open_at(folder.path()), "a").unwrap_err();
    assert_eq!(error.code, "file.is_a_folder");
}

#[test]
fn foreign_content_is_a_warning_and_stays() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("job.yaml");
    fs::write(&path, "name: job\nlast: line").unwrap();
    set_mode(&path, 0o600);
    assert_eq!(found(&path), warning("file.foreign_content"));
    send(&mut open_at(&path), "a").unwrap();
    let text = fs::read_to_string(&path).unwrap();
    assert!(
        text.starts_with("name: job\nlast: line\n{\"dedupe_key\":\"a\""),
        "{text}"
    );
    assert_eq!(found(&path), []);
}

#[test]
fn a_line_that_was_cut_off_is_told_again_and_spoils_no_other() {
    let folder = tempfile::tempdir().unwrap();
    for format in ["ndjson", "text"] {
        let path = folder.path().join(format);
        let config = json!({ "path": path, "format": format });
        send(&mut open(&config).unwrap(), "a").unwrap();
        send(&mut open(&config).unwrap(), "b").unwrap();
        let whole = fs::read_to_string(&path).unwrap();
        // As a process leaves it that is killed while it writes.
        let torn = &whole[..whole.len() - 3];
        fs::write(&path, torn).unwrap();
        let mut notifier = open(&config).unwrap();
        send(&mut notifier, "b").unwrap();
        let text = fs::read_to_string(&path).unwrap();
        let b = &whole[whole.find('\n').unwrap() + 1..];
        assert_eq!(text, format!("{torn}\n{b}"), "{format}");
    }
}

#[test]
fn too_long_a_notification_is_refused_and_the_next_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a");
    let mut notifier = open_at(&path);
    let long = Notification {
        body: "x".repeat(9 * 1024 * 1024),
        ..told("long")
    };
    let error = notifier.send(&long).unwrap_err();
    assert_eq!(
        (error.code.as_str(), error.kind, error.scope),
        ("file.too_long", ErrorKind::InvalidData, ErrorScope::Write)
    );
    send(&mut notifier, "a").unwrap();
    assert_eq!(keys(&path), ["a"]);
}

#[test]
fn a_removed_file_is_begun_anew() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a");
    let mut notifier = open_at(&path);
    send(&mut notifier, "a").unwrap();
    fs::remove_file(&path).unwrap();
    send(&mut notifier, "b").unwrap();
    // As a tool does that copies a log and empties it.
    fs::write(&path, "").unwrap();
    send(&mut notifier, "c").unwrap();
    assert_eq!(keys(&path), ["c"]);
}

/// Set in the process that a test starts with a limit.
const LIMITED: &str = "WHIMBREL_FILE_TEST_LIMITED";

#[test]
fn a_write_that_stops_half_way_leaves_the_file_as_it_was() {
    if let Some(path) = std::env::var_os(LIMITED) {
        let mut notifier = open_at(Path::new(&path));
        let long = Notification {
            body: "x".repeat(10_000),
            ..told("long")
        };
        let error = notifier.send(&long).unwrap_err();
        assert_eq!(
            (error.code.as_str(), error.kind),
            ("file.size_limit", ErrorKind::Unavailable)
        );
        send(&mut notifier, "short").unwrap();
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a");
    send(&mut open_at(&path), "before").unwrap();
    // No file of this process may be longer than 8 blocks; the signal that would end it is ignored.
    let answer = Command::new("sh")
        .args(["-c", "trap '' XFSZ; ulimit -f 8; exec \"$0\" \"$@\""])
        .arg(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "faults::a_write_that_stops_half_way_leaves_the_file_as_it_was",
        ])
        .env(LIMITED, &path)
        .output()
        .unwrap();
    assert!(
        answer.status.success(),
        "{}",
        String::from_utf8_lossy(&answer.stdout)
    );
    assert_eq!(keys(&path), ["before", "short"]);
    assert_eq!(delivered(&path).len(), 2);
}
