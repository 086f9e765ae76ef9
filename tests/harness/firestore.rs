//! Google's Firestore emulator, projects in it, and clients that are not whimbrel.
//!
//! For the tests of any crate, included by path: the standard library is all it needs. [`Emulator::shared`] is the one that
//! all tests of a run use, each in projects of its own; `cargo x test` starts it. [`Emulator::own`] is for tests that stop, kill
//! or restart one; it ends with the thread that started it. Documents are written and looked at over the plain REST interface,
//! or by npm `@google-cloud/firestore` ([`Node`]).

#![allow(
    dead_code,
    unused_imports,
    reason = "included by several tests, of which none needs all of it"
)]

#[path = "firestore/node.rs"]
mod node;
#[path = "firestore/process.rs"]
mod process;
#[path = "firestore/rest.rs"]
mod rest;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Child;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

pub use node::Node;
use process::Launch;
pub use rest::{document_name, encoded_path};

/// A project id has 30 characters at most, of which this many are left for what a test calls it.
const PREFIX_LENGTH_MAX: usize = 12;

/// A running emulator: the shared one, or one of the test's own.
pub struct Emulator {
    host: String,
    address: SocketAddr,
    own: Option<Own>,
    projects: Mutex<Vec<String>>,
}

struct Own {
    folder: PathBuf,
    launch: Launch,
    child: Option<Child>,
}

impl Emulator {
    /// The emulator that all tests use; `None` is said loudly, and fails where `WHIMBREL_REQUIRE` names `firestore`.
    pub fn shared() -> Option<Self> {
        let Some(address) = variable("WHIMBREL_FIRESTORE_EMULATOR").and_then(|host| host.parse().ok()) else {
            is_missing();
            return None;
        };
        Some(Self::at(address, None))
    }

    /// An emulator for this test alone, which ends with it.
    pub fn own() -> Option<Self> {
        let programs = variable("WHIMBREL_JAVA").zip(variable("WHIMBREL_FIRESTORE_JAR"));
        let Some((java, jar)) = programs else {
            is_missing();
            return None;
        };
        let launch = Launch {
            java: java.into(),
            jar: jar.into(),
            port: process::free_port().expect("a port is free"),
            ends_with_starter: true,
        };
        let own = Own {
            folder: process::make_own_folder().expect("the temporary folder can be written"),
            launch,
            child: None,
        };
        let mut emulator = Self::at(process::address(own.launch.port), Some(own));
        emulator.start();
        Some(emulator)
    }

    fn at(address: SocketAddr, own: Option<Own>) -> Self {
        Self {
            host: address.to_string(),
            address,
            own,
            projects: Mutex::default(),
        }
    }

    /// Where it listens, as `127.0.0.1:8080`: for `host` in the configuration of the plugin.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The id of a new empty project, emptied again when this [`Emulator`] is dropped. `prefix` tells whose it is: lower case
    /// letters, digits and hyphens, the first a letter.
    pub fn project(&self, prefix: &str) -> String {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let is_allowed = |letter: char| matches!(letter, 'a'..='z' | '0'..='9' | '-');
        assert!(
            prefix.starts_with(|letter: char| letter.is_ascii_lowercase())
                && prefix.chars().all(is_allowed)
                && prefix.len() <= PREFIX_LENGTH_MAX,
            "`{prefix}` cannot begin the id of a project"
        );
        // The shared emulator outlives this process, and its id comes again: the time makes it new.
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |now| now.as_secs());
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let process = base36(u64::from(std::process::id()));
        let project = format!("{prefix}-{}{process}-{}", base36(now), base36(u64::from(number)));
        assert!(
            (6..=30).contains(&project.len()),
            "`{project}` has a wrong length"
        );
        let mut projects = self.projects.lock().expect("no thread panicked with it");
        projects.push(project.clone());
        project
    }

    /// What it has said.
    pub fn log(&self) -> String {
        process::log(&self.own_ref().folder)
    }

    fn own_ref(&self) -> &Own {
        self.own
            .as_ref()
            .expect("only a test's own emulator may be looked into")
    }

    fn own_mut(&mut self) -> &mut Own {
        self.own
            .as_mut()
            .expect("only a test's own emulator may be changed")
    }

    /// Starts it again, empty and on the same port.
    pub fn start(&mut self) {
        let own = self.own_mut();
        assert!(own.child.is_none(), "it runs already");
        let child = process::start(&own.folder, &own.launch).expect("the emulator starts");
        own.child = Some(child);
    }

    /// Asks it to end, which it does within a second or so, and waits for that. All that it held is lost.
    pub fn stop(&mut self) {
        self.end("TERM");
    }

    /// Ends it at once, as a loss of power would. All that it held is lost.
    pub fn kill(&mut self) {
        self.end("KILL");
    }

    /// [`Emulator::kill`] and [`Emulator::start`].
    pub fn restart(&mut self) {
        self.kill();
        self.start();
    }

    /// Sends it a signal: `STOP` makes it deaf, `CONT` lets it go on.
    pub fn signal(&self, signal: &str) {
        let id = self.own_ref().child.as_ref().map(Child::id);
        process::send(signal, id.expect("it runs")).expect("signals can be sent");
    }

    fn end(&mut self, signal: &str) {
        if let Some(mut child) = self.own_mut().child.take() {
            process::send(signal, child.id()).expect("signals can be sent");
            child.wait().expect("a child can be waited for");
        }
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        match &mut self.own {
            Some(own) => {
                if let Some(mut child) = own.child.take() {
                    // By its own id, which nobody else has while it was not waited for.
                    drop(child.kill());
                    drop(child.wait());
                }
                drop(std::fs::remove_dir_all(&own.folder));
            }
            None => {
                let projects = self.projects.get_mut().map(std::mem::take).unwrap_or_default();
                for project in projects {
                    // What cannot be removed hinders nobody and goes with the emulator.
                    drop(self.try_clear(&project));
                }
            }
        }
    }
}

/// Says that there is no emulator, or fails where one is required.
fn is_missing() {
    assert!(
        !is_required("firestore") && !is_required("java"),
        "firestore is required and missing: run the tests as `cargo x test`, which starts it"
    );
    eprintln!(
        "NOT TESTED: there is no Firestore emulator; `cargo x services` says how to get it and starts it"
    );
}

/// Whether `WHIMBREL_REQUIRE` wants a service.
fn is_required(name: &str) -> bool {
    let required = std::env::var("WHIMBREL_REQUIRE").unwrap_or_default();
    required
        .split(',')
        .any(|word| matches!(word.trim(), "all") || word.trim() == name)
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

fn base36(mut number: u64) -> String {
    let mut digits = Vec::new();
    loop {
        let digit = u32::try_from(number % 36).unwrap_or(0);
        digits.extend(char::from_digit(digit, 36));
        number /= 36;
        if number == 0 {
            return digits.iter().rev().collect();
        }
    }
}
