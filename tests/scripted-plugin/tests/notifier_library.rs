//! The notifier role of the built library, loaded as a host loads it: errors, panics, hangs and crashes in its calls.
//!
//! The other roles are tried by runs of the program (`tests/suite/boundary.rs`). What ends a process happens in a process
//! of its own: this very test, started again.

#![expect(clippy::unwrap_used, reason = "a test ends at its first surprise")]

use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, Stdio};
use std::sync::Arc;

use libloading::os::unix::Library;
use serde_json::{Value as Json, json};
use whimbrel_plugin_api::abi::ForeignPlugin;
use whimbrel_plugin_api::abi::notifier::ForeignNotifier;
use whimbrel_plugin_api::abi::version::plugin_from_symbol;
use whimbrel_plugin_api::manifest::{HEADER_SYMBOL, Role};
use whimbrel_plugin_api::services::HostServices;
use whimbrel_plugin_api::{ErrorKind, ErrorScope, LogLevel, Notification, Notifier as _, Result};

struct Host;

impl HostServices for Host {
    fn log(&self, _: LogLevel, _: &str) {}
    fn progress(&self, _: &str, _: u64, _: Option<u64>) {}
    fn acquire(&self, _: &str, _: u64) -> bool {
        true
    }
}

/// The library that Cargo has built beside this test.
fn library() -> ForeignPlugin {
    let path = std::env::current_exe()
        .unwrap()
        .with_file_name("libwhimbrel_scripted.so");
    #[expect(unsafe_code, reason = "loading a library runs its code")]
    // SAFETY: the library is ours, the symbol is the one that its export macro has written, and it is never unloaded.
    unsafe {
        let library = Library::new(path).unwrap();
        let symbol = library
            .get::<*const ()>(HEADER_SYMBOL.as_bytes())
            .unwrap()
            .as_raw_ptr();
        std::mem::forget(library);
        plugin_from_symbol(symbol.cast_const().cast()).unwrap()
    }
}

fn open(config: Json) -> Result<ForeignNotifier> {
    library().open_notifier(&config, Arc::new(Host))
}

fn scripted(store: &str, call: &str, how: &str) -> Json {
    json!({ "store": store, "misbehave": [{ "call": call, "how": how }] })
}

fn told(key: &str) -> Notification {
    Notification {
        dedupe_key: key.to_owned(),
        title: "title".to_owned(),
        body: "größer\n\0\u{1b}".to_owned(),
        facts: [("a".to_owned(), "b".to_owned())].into(),
        ..Notification::default()
    }
}

#[test]
fn a_notification_crosses_whole() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notified.ndjson");
    let described = library().describe(Role::Notifier).unwrap();
    assert!(described.notifier.unwrap().dedupes);
    let mut notifier = open(json!({ "store": "whole", "notified_path": path })).unwrap();
    assert!(notifier.check().unwrap().is_empty());
    for key in ["a", "b", "a"] {
        assert_eq!(notifier.send(&told(key)).unwrap().id.as_deref(), Some(key));
    }
    let text = std::fs::read_to_string(&path).unwrap();
    let read: Vec<Notification> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(read, [told("a"), told("b")]);
}

#[test]
fn a_panic_is_an_error_with_call_and_place_and_poisons_the_object() {
    let error = open(scripted("panic", "open", "panic")).err().unwrap();
    assert_eq!(error.code, "plugin.panic");
    for call in ["check", "send"] {
        let mut notifier = open(scripted("panic", call, "panic")).unwrap();
        let error = match call {
            "check" => notifier.check().unwrap_err(),
            _ => notifier.send(&told("a")).unwrap_err(),
        };
        assert_eq!(error.code, "plugin.panic");
        assert!(
            error.message.contains(&format!("panicked in `{call}`")),
            "{}",
            error.message
        );
        assert!(error.place.unwrap().contains("script.rs:"));
        assert_eq!(notifier.send(&told("b")).unwrap_err().code, "plugin.poisoned");
    }
    // A panic while it is closed is nobody's.
    drop(open(scripted("panic", "close", "panic")).unwrap());
}

#[test]
fn an_error_keeps_what_it_says_and_the_next_call_works() {
    let mut notifier = open(scripted("error", "send", "transient_error")).unwrap();
    let error = notifier.send(&told("a")).unwrap_err();
    assert_eq!(
        (error.code.as_str(), error.kind, error.scope, error.retry_after_ms),
        (
            "scripted.unavailable",
            ErrorKind::Unavailable,
            ErrorScope::Transaction,
            Some(1)
        )
    );
    notifier.send(&told("a")).unwrap();
}

#[test]
fn a_hanging_call_ends_when_it_is_cancelled() {
    for call in ["check", "send"] {
        let mut notifier = open(scripted("hang", call, "hang")).unwrap();
        let canceller = notifier.canceller();
        let calling = std::thread::spawn(move || match call {
            "check" => notifier.check().map(drop),
            _ => notifier.send(&told("a")).map(drop),
        });
        canceller.cancel();
        assert_eq!(
            calling.join().unwrap().unwrap_err().kind,
            ErrorKind::Cancelled,
            "{call}"
        );
    }
}

/// Tells a process that a test starts what goes wrong in it: call and way.
const WRONG: &str = "WHIMBREL_NOTIFIER_TEST_WRONG";

#[test]
fn a_crash_in_a_call_is_seen_from_outside() {
    if let Ok(wrong) = std::env::var(WRONG) {
        let (call, how) = wrong.split_once(' ').unwrap();
        let mut notifier = open(scripted("crash", call, how)).unwrap();
        drop(notifier.check());
        drop(notifier.send(&told("a")));
        panic!("the process lives on");
    }
    for (how, signal) in [
        ("segfault", 11),
        ("abort", 6),
        ("stack_overflow", 6),
        ("exit0", 0),
    ] {
        for call in ["check", "send"] {
            let status = Command::new(std::env::current_exe().unwrap())
                .args(["--exact", "a_crash_in_a_call_is_seen_from_outside"])
                .env(WRONG, format!("{call} {how}"))
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status()
                .unwrap();
            match signal {
                0 => assert_eq!(status.code(), Some(0), "{how} in {call}"),
                signal => assert_eq!(status.signal(), Some(signal), "{how} in {call}: {status}"),
            }
        }
    }
}
