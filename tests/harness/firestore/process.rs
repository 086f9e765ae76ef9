//! Google's Firestore emulator as a process: started in a folder that says where it listens, and found again by that folder.
//!
//! Neighbours: `../firestore.rs` gives tests emulators and projects, `cargo x` starts the one that all tests share; both include
//! this file by path, so the standard library is all it needs. All that an emulator holds is in its memory, for an hour also
//! what was removed.

#![allow(
    dead_code,
    reason = "included by the tests and by `cargo x`, of which neither needs all of it"
)]

#[path = "http.rs"]
mod http;

use std::io::{Error, Result};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

pub use self::http::request;

/// How long a JVM may take from its start to its first answer: 2 seconds alone, 15 beside a build.
const START_LIMIT: Duration = Duration::from_secs(90);
/// How long it may take to end.
const STOP_LIMIT: Duration = Duration::from_secs(30);
/// How often an emulator that starts or stops is looked at; it has no other way to say so.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);
/// Ports below those that the system hands out by itself, so that an emulator that restarts finds its port free; and others
/// than the PostgreSQL servers have.
const PORTS: std::ops::Range<u16> = 14_000..20_000;
/// What all tests of a run write, with what they remove: an emulator keeps old versions for an hour, and one whose memory is full
/// takes no connections any more. 50,000 documents with a copy of them take up about 1 GiB.
const MEMORY: &str = "-Xmx4g";
const MAIN_CLASS: &str = "com.google.cloud.datastore.emulator.firestore.CloudFirestore";
/// In its folder: the id of its process and its port, a line each.
const STATE_FILE: &str = "emulator.pid";
const LOG_FILE: &str = "log";

/// What an emulator is started with.
#[derive(Debug, Clone)]
pub struct Launch {
    /// Java 17 or newer.
    pub java: PathBuf,
    /// The emulator.
    pub jar: PathBuf,
    /// Where it listens on 127.0.0.1.
    pub port: u16,
    /// Whether it is killed when the thread that started it ends.
    pub ends_with_starter: bool,
}

/// An emulator that lives.
#[derive(Debug, Clone, Copy)]
pub struct Running {
    /// The id of its process.
    pub id: u32,
    /// Where it listens on 127.0.0.1.
    pub port: u16,
}

impl Running {
    /// The memory that it takes up, in KiB.
    pub fn memory_kib(self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id)).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        line.and_then(|line| line.split_whitespace().next()?.parse().ok())
            .unwrap_or(0)
    }

    /// Whether it answers.
    pub fn is_ready(self) -> bool {
        is_ready(self.port)
    }
}

/// Starts an emulator whose state and log are in `folder`, waits until it answers, and warms it up.
pub fn start(folder: &Path, launch: &Launch) -> Result<Child> {
    let log = folder.join(LOG_FILE);
    let file = std::fs::OpenOptions::new().create(true).append(true).open(&log)?;
    let mut command = if launch.ends_with_starter {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig=KILL", "--"]).arg(&launch.java);
        command
    } else {
        let mut command = Command::new(&launch.java);
        // What a terminal sends to `cargo x` is not meant for it.
        command.process_group(0);
        command
    };
    command
        .args(["-Duser.language=en", MEMORY, "-cp"])
        .arg(&launch.jar)
        .args([MAIN_CLASS, "--host=127.0.0.1"])
        .arg(format!("--port={}", launch.port))
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(file.try_clone()?)
        .stderr(file);
    let mut child = command.spawn()?;
    std::fs::write(
        folder.join(STATE_FILE),
        format!("{}\n{}\n", child.id(), launch.port),
    )?;
    let deadline = Instant::now() + START_LIMIT;
    while !is_ready(launch.port) {
        if child.try_wait()?.is_some() || Instant::now() > deadline {
            drop(child.kill());
            drop(child.wait());
            let said = std::fs::read_to_string(&log).unwrap_or_default();
            return Err(Error::other(format!("the emulator does not start: {said}")));
        }
        std::thread::park_timeout(LOOK_INTERVAL);
    }
    // The answer may have come from another process that was quicker to take the port.
    if child.try_wait()?.is_some() {
        return Err(Error::other("the emulator ended, another process has its port"));
    }
    warm_up(launch.port)?;
    Ok(child)
}

/// The emulator of a folder, if the process that it names lives and works there.
pub fn running(folder: &Path) -> Option<Running> {
    let text = std::fs::read_to_string(folder.join(STATE_FILE)).ok()?;
    let mut lines = text.lines();
    let id = lines.next()?.parse().ok()?;
    let port = lines.next()?.parse().ok()?;
    let works_in = std::fs::read_link(format!("/proc/{id}/cwd")).ok()?;
    // Another process that got the same id later does not work in this folder.
    (works_in == std::fs::canonicalize(folder).ok()?).then_some(Running { id, port })
}

/// Kills the emulator of a folder, if one lives, and waits until it has gone. It has nothing to save.
pub fn stop(folder: &Path) -> Result<()> {
    let Some(emulator) = running(folder) else {
        return Ok(());
    };
    send("KILL", emulator.id)?;
    let deadline = Instant::now() + STOP_LIMIT;
    while running(folder).is_some_and(|now| now.id == emulator.id) {
        if Instant::now() > deadline {
            return Err(Error::other(format!("process {} does not end", emulator.id)));
        }
        std::thread::park_timeout(LOOK_INTERVAL);
    }
    Ok(())
}

/// What the emulator of a folder has said.
pub fn log(folder: &Path) -> String {
    std::fs::read_to_string(folder.join(LOG_FILE)).unwrap_or_default()
}

/// Sends a signal by name; a process that has gone is none of its business.
pub fn send(signal: &str, id: u32) -> Result<()> {
    Command::new("kill")
        .arg(format!("-{signal}"))
        .arg(id.to_string())
        .stderr(Stdio::null())
        .status()
        .map(drop)
}

/// A folder for one use by this process, in the temporary one. What processes left that are no more, goes.
pub fn make_own_folder() -> Result<PathBuf> {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    const PREFIX: &str = "whimbrel-firestore-";
    let entries = std::fs::read_dir(std::env::temp_dir())?.flatten();
    for entry in entries {
        let name = entry.file_name();
        let process = name.to_str().and_then(|name| name.strip_prefix(PREFIX));
        let id = process.and_then(|rest| rest.split('-').next()?.parse::<u32>().ok());
        if id.is_some_and(|id| !Path::new("/proc").join(id.to_string()).exists()) {
            // Its emulator ended with its test; if it did not, it ends here.
            drop(stop(&entry.path()));
            drop(std::fs::remove_dir_all(entry.path()));
        }
    }
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let folder = std::env::temp_dir().join(format!("{PREFIX}{}-{number}", std::process::id()));
    std::fs::create_dir(&folder)?;
    Ok(folder)
}

/// A port on this machine that nobody listens on and that the system gives nobody by itself.
pub fn free_port() -> Result<u16> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let count = u32::from(PORTS.end - PORTS.start);
    for _ in 0..count {
        // Far apart for processes with neighbouring ids, which nextest starts at the same time.
        let step = NEXT.fetch_add(1, Ordering::Relaxed);
        let offset = std::process::id().wrapping_mul(7_919).wrapping_add(step) % count;
        let port = PORTS.start + u16::try_from(offset).map_err(Error::other)?;
        if TcpListener::bind(address(port)).is_ok() {
            return Ok(port);
        }
    }
    Err(Error::other("no port is free"))
}

/// A port of this machine.
pub fn address(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

fn is_ready(port: u16) -> bool {
    request(address(port), "GET", "/", "").is_ok_and(|(status, body)| status == 200 && body.trim() == "Ok")
}

/// The first commit takes a second or more, the next ones milliseconds.
fn warm_up(port: u16) -> Result<()> {
    let database = "projects/whimbrel-warm-up/databases/(default)";
    let path = format!("/v1/{database}/documents:commit");
    let body = format!(r#"{{"writes":[{{"update":{{"name":"{database}/documents/warm/up"}}}}]}}"#);
    match request(address(port), "POST", &path, &body)? {
        (200, _) => Ok(()),
        (status, said) => Err(Error::other(format!(
            "the emulator answers {status} to a first commit: {said}"
        ))),
    }
}
