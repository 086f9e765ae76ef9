//! PostgreSQL as processes: a cluster copied from a template, started as a user that is not root, found again by its folder.
//!
//! Neighbours: `../postgres.rs` gives tests servers and databases, `cargo x` starts those that all tests share; both include
//! this file by path, so the standard library is all it needs. The servers refuse to run as root: then they run as `nobody`.

#![allow(
    dead_code,
    unused_imports,
    reason = "included by the tests and by `cargo x`, of which neither needs all of it"
)]

#[path = "small_disk.rs"]
mod small_disk;

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io::{Error, Result, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

pub use self::small_disk::SmallDisk;

/// Who may do everything, from this machine, without a password.
pub const SUPERUSER: &str = "postgres";
/// Who has to give [`PASSWORD`] (scram) and owns the databases of the tests, but nothing else.
pub const PORTER: &str = "porter";
/// Has letters that a URL and a connection string must escape.
pub const PASSWORD: &str = "hush/4711 & 'quiet'";

/// How long a server may take from its start until it lets connections in, on a loaded machine.
const START_LIMIT: Duration = Duration::from_secs(60);
/// How long a server may take to stop, with a checkpoint to write.
const STOP_LIMIT: Duration = Duration::from_secs(60);
/// How often a server that starts or stops is looked at; it has no other way to say so.
const LOOK_INTERVAL: Duration = Duration::from_millis(10);
/// `nobody` and its group, on every Linux.
const NOBODY: u32 = 65_534;
/// Ports below those that the system hands out by itself, so that a server that restarts finds its port free.
const PORTS: std::ops::Range<u16> = 20_000..32_000;

const INITDB_ARGUMENTS: &[&str] = &[
    "--username=postgres",
    "--auth=trust",
    "--encoding=UTF8",
    "--locale=C",
    "--no-sync",
    // Small segments make a copy of the cluster small.
    "--wal-segsize=1",
];
const HBA: &str = "host all porter 127.0.0.1/32 scram-sha-256\n\
                   host all all 127.0.0.1/32 trust\n\
                   host replication all 127.0.0.1/32 trust\n";
const SETTINGS: &[&str] = &[
    "listen_addresses=127.0.0.1",
    // The path of a socket may be longer than a socket may be named.
    "unix_socket_directories=",
    "fsync=off",
    "full_page_writes=off",
    "wal_level=logical",
    "max_connections=200",
    "max_prepared_transactions=20",
    "max_wal_size=1GB",
    "password_encryption=scram-sha-256",
    "log_line_prefix=%m [%p] %u@%d ",
];

/// Whether this process is root.
pub fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|entry| entry.uid() == 0)
}

/// A program as a user that servers accept; `death` is the signal that it gets when the thread that started it ends.
pub fn as_server_user(program: &Path, death: Option<&str>) -> Command {
    let mut command = Command::new("setpriv");
    if is_root() {
        command.args([
            &format!("--reuid={NOBODY}"),
            &format!("--regid={NOBODY}"),
            "--clear-groups",
        ]);
    }
    if let Some(signal) = death {
        command.arg(format!("--pdeathsig={signal}"));
    }
    command
        .arg("--")
        .arg(program)
        .current_dir("/")
        .stdin(Stdio::null());
    command
}

/// A new folder in the temporary one that belongs to the servers' user, named after `name`.
pub fn make_folder(name: &str) -> Result<PathBuf> {
    let folder = std::env::temp_dir().join(name);
    std::fs::create_dir(&folder)?;
    give(&folder, 0o700)?;
    Ok(folder)
}

/// A folder for one use by this process, removed by the next process that asks for one if this one cannot.
pub fn make_own_folder(kind: &str) -> Result<PathBuf> {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let prefix = format!("whimbrel-{kind}-");
    sweep(&prefix);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    make_folder(&format!("{prefix}{}-{number}", std::process::id()))
}

/// Removes what processes left that are no more.
fn sweep(prefix: &str) {
    let entries = std::fs::read_dir(std::env::temp_dir())
        .into_iter()
        .flatten()
        .flatten();
    for entry in entries {
        let name = entry.file_name();
        let process = name.to_str().and_then(|name| name.strip_prefix(prefix));
        let id = process.and_then(|rest| rest.split('-').next()?.parse::<u32>().ok());
        if id.is_some_and(|id| !Path::new("/proc").join(id.to_string()).exists()) {
            drop(std::fs::remove_dir_all(entry.path()));
        }
    }
}

/// Writes a file that the server can read and nobody else.
pub fn put_file(path: &Path, text: &str) -> Result<()> {
    std::fs::write(path, text)?;
    give(path, 0o600)
}

/// Hands a file or folder to the servers' user.
pub fn give(path: &Path, mode: u32) -> Result<()> {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))?;
    if is_root() {
        std::os::unix::fs::chown(path, Some(NOBODY), Some(NOBODY))?;
    }
    Ok(())
}

/// A cluster that nobody has used, kept for all later runs; `bin` is the folder of the programs.
pub fn template(bin: &Path) -> Result<PathBuf> {
    let version = first_line(as_server_user(&bin.join("postgres"), None).arg("--version"))?;
    let mut recipe = DefaultHasher::new();
    (bin, version, INITDB_ARGUMENTS, HBA, PASSWORD, is_root()).hash(&mut recipe);
    let name = format!("whimbrel-postgres-template-{:016x}", recipe.finish());
    let finished = std::env::temp_dir().join(&name);
    if finished.join("PG_VERSION").is_file() {
        return Ok(finished);
    }
    // Made beside it and renamed, so that a half made one is never used and two makers do not meet.
    let folder = make_own_folder("postgres-making")?;
    run(as_server_user(&bin.join("initdb"), None)
        .args(INITDB_ARGUMENTS)
        .arg("-D")
        .arg(&folder))?;
    put_file(&folder.join("pg_hba.conf"), HBA)?;
    let role = format!(
        "CREATE ROLE {PORTER} LOGIN PASSWORD '{}'\n",
        PASSWORD.replace('\'', "''")
    );
    let mut single = as_server_user(&bin.join("postgres"), Some("QUIT"));
    single
        .args(["--single", "-c", "fsync=off", "-D"])
        .arg(&folder)
        .arg("postgres");
    run_with_input(&mut single, &role)?;
    match std::fs::rename(&folder, &finished) {
        Ok(()) => {}
        Err(_) if finished.join("PG_VERSION").is_file() => std::fs::remove_dir_all(&folder)?,
        Err(error) => return Err(error),
    }
    Ok(finished)
}

/// Copies a template to `data`, which must not be there.
pub fn copy(template: &Path, data: &Path) -> Result<()> {
    run(Command::new("cp")
        .args(["-a", "--reflink=auto", "--"])
        .arg(template)
        .arg(data))
}

/// What a server is started with beside its folders.
#[derive(Debug, Clone, Default)]
pub struct Launch {
    /// Where it listens.
    pub port: u16,
    /// Settings, over ours.
    pub settings: Vec<(String, String)>,
    /// The signal that it gets when the thread that started it ends; none, and it stays.
    pub death: Option<&'static str>,
    /// A disk of its own.
    pub disk: Option<SmallDisk>,
}

/// Starts a server on `data` and waits until it lets connections in. What it says goes to `log`.
pub fn start(bin: &Path, data: &Path, log: &Path, launch: &Launch) -> Result<Child> {
    let mut command = as_server_user(&bin.join("postgres"), launch.death);
    command.arg("-D").arg(data).arg("-p").arg(launch.port.to_string());
    for setting in SETTINGS {
        command.arg("-c").arg(setting);
    }
    for (name, value) in &launch.settings {
        command.arg("-c").arg(format!("{name}={value}"));
    }
    if let Some(disk) = &launch.disk {
        command = disk.before(&command);
    }
    let file = std::fs::OpenOptions::new().create(true).append(true).open(log)?;
    command.stdout(file.try_clone()?).stderr(file);
    let mut child = command.spawn()?;
    let deadline = Instant::now() + START_LIMIT;
    loop {
        // The lock file may be an older server's until the new one has put its own id into it.
        if running(data).is_some_and(|running| running.id == child.id() && running.is_ready) {
            return Ok(child);
        }
        if child.try_wait()?.is_some() || Instant::now() > deadline {
            drop(child.kill());
            drop(child.wait());
            let said = std::fs::read_to_string(log).unwrap_or_default();
            return Err(Error::other(format!("PostgreSQL does not start: {said}")));
        }
        std::thread::park_timeout(LOOK_INTERVAL);
    }
}

/// What the lock file of a server says.
#[derive(Debug, Clone, Copy)]
pub struct Running {
    /// The id of its process.
    pub id: u32,
    /// Where it listens.
    pub port: u16,
    /// Whether it lets connections in.
    pub is_ready: bool,
}

/// The server that runs on `data`, if a living process has the id that its lock file names.
pub fn running(data: &Path) -> Option<Running> {
    let text = std::fs::read_to_string(data.join("postmaster.pid")).ok()?;
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let id = lines.first()?.parse().ok()?;
    let folder = std::fs::read_link(Path::new("/proc").join(format!("{id}/cwd"))).ok()?;
    // A server works in its folder of data; another process that got the same id later does not.
    (folder == std::fs::canonicalize(data).ok()?).then_some(Running {
        id,
        port: lines.get(3)?.parse().ok()?,
        is_ready: lines.get(7).is_some_and(|state| *state == "ready"),
    })
}

/// Stops the server on `data`, if one runs there, and waits until it has gone: `INT` ends its connections, `QUIT` does
/// not even write what is in memory.
pub fn stop(data: &Path, signal: &str) -> Result<()> {
    let Some(server) = running(data) else {
        return Ok(());
    };
    send(signal, &[server.id])?;
    let deadline = Instant::now() + STOP_LIMIT;
    while running(data).is_some_and(|now| now.id == server.id) {
        if Instant::now() > deadline {
            return Err(Error::other(format!("PostgreSQL {} does not stop", server.id)));
        }
        std::thread::park_timeout(LOOK_INTERVAL);
    }
    Ok(())
}

/// The ids of the processes that process `parent` started.
pub fn children(parent: u32) -> Vec<u32> {
    let file = format!("/proc/{parent}/task/{parent}/children");
    let text = std::fs::read_to_string(file).unwrap_or_default();
    text.split_whitespace().filter_map(|id| id.parse().ok()).collect()
}

/// Kills a process and all that it started, and waits until they have gone.
pub fn kill_all(parent: u32) -> Result<()> {
    // One that is stopped starts no further ones.
    send("STOP", &[parent])?;
    let mut ids = children(parent);
    ids.push(parent);
    send("KILL", &ids)?;
    let deadline = Instant::now() + STOP_LIMIT;
    // Those that wait to be collected have let go of everything, of their folder as well.
    while ids
        .iter()
        .any(|id| std::fs::read_link(format!("/proc/{id}/cwd")).is_ok())
    {
        if Instant::now() > deadline {
            return Err(Error::other(format!("processes {ids:?} do not end")));
        }
        std::thread::park_timeout(LOOK_INTERVAL);
    }
    Ok(())
}

/// Sends a signal by name; a process that has gone is none of its business.
pub fn send(signal: &str, ids: &[u32]) -> Result<()> {
    let ids = ids.iter().map(u32::to_string);
    Command::new("kill")
        .arg(format!("-{signal}"))
        .args(ids)
        .stderr(Stdio::null())
        .status()
        .map(drop)
}

/// The shared memory that a killed server left, from its lock file; a server that restarts removes it itself.
pub fn remove_shared_memory(data: &Path) {
    let text = std::fs::read_to_string(data.join("postmaster.pid")).unwrap_or_default();
    let id = text
        .lines()
        .nth(6)
        .and_then(|line| line.split_whitespace().nth(1));
    if let Some(id) = id {
        let removed = Command::new("ipcrm")
            .args(["-m", id])
            .stderr(Stdio::null())
            .status();
        drop(removed);
    }
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
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return Ok(port);
        }
    }
    Err(Error::other("no port is free"))
}

/// Runs a program that must end well.
pub fn run(command: &mut Command) -> Result<()> {
    run_with_input(command, "")
}

fn run_with_input(command: &mut Command, input: &str) -> Result<()> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()?;
    if let Some(mut pipe) = child.stdin.take() {
        // A program that does not read its input may have ended already; its status says how.
        drop(pipe.write_all(input.as_bytes()));
    }
    let output = child.wait_with_output()?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    Err(Error::other(format!("{command:?}: {}: {said}", output.status)))
}

/// The first line that a program prints.
pub fn first_line(command: &mut Command) -> Result<String> {
    let output = command.stderr(Stdio::null()).output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    match text.lines().next() {
        Some(line) if output.status.success() => Ok(line.trim().to_owned()),
        _ => Err(Error::other(format!("{command:?}: {}", output.status))),
    }
}
