//! Real PostgreSQL servers, of the oldest and the newest release that we support, and databases in them.
//!
//! For the tests of any crate, included by path: the standard library is all it needs. [`Server::shared`] is the one that all
//! tests of a run use, each in a [`Database`] of its own, which is dropped with its guard; `cargo x test` starts it.
//! [`Server::own`] is for tests that stop, kill or fill a server, or need other settings; it ends with the thread that
//! started it. [`PgBouncer`] stands in front of either. What is asked here, `psql` asks, not whimbrel.

#![allow(
    dead_code,
    unused_imports,
    reason = "included by several tests, of which none needs all of it"
)]

#[path = "postgres/database.rs"]
mod database;
#[path = "postgres/pgbouncer.rs"]
mod pgbouncer;
#[path = "postgres/process.rs"]
mod process;

use std::path::PathBuf;
use std::process::Child;

pub use database::{Database, Endpoint, escaped};
pub use pgbouncer::{PgBouncer, PoolMode};
use process::{Launch, SmallDisk};
pub use process::{PASSWORD, PORTER, SUPERUSER};

/// A release of the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// Debian's.
    V15,
    /// The newest.
    V18,
}

impl Version {
    /// Both.
    pub const ALL: [Self; 2] = [Self::V15, Self::V18];

    /// The name in `WHIMBREL_REQUIRE`.
    pub fn name(self) -> &'static str {
        match self {
            Self::V15 => "postgres15",
            Self::V18 => "postgres18",
        }
    }

    fn variable(self, suffix: &str) -> Option<String> {
        let name = format!("WHIMBREL_{}{suffix}", self.name().to_uppercase());
        std::env::var(name).ok().filter(|value| !value.is_empty())
    }

    /// Says that a server is missing, or fails where it is required.
    fn is_missing(self) {
        let name = self.name();
        assert!(
            !is_required(name),
            "{name} is required and missing: run the tests as `cargo x test`, which starts it"
        );
        eprintln!("NOT TESTED: there is no {name}; `cargo x test` installs and starts it");
    }
}

/// Whether `WHIMBREL_REQUIRE` wants a service.
fn is_required(name: &str) -> bool {
    let required = std::env::var("WHIMBREL_REQUIRE").unwrap_or_default();
    required
        .split(',')
        .any(|word| matches!(word.trim(), "all") || word.trim() == name)
}

/// The shared servers that there are; a missing one is said loudly.
pub fn servers() -> Vec<Server> {
    Version::ALL.into_iter().filter_map(Server::shared).collect()
}

/// A running server: the shared one, or one of the test's own.
pub struct Server {
    version: Version,
    endpoint: Endpoint,
    own: Option<Own>,
}

struct Own {
    bin: PathBuf,
    folder: PathBuf,
    launch: Launch,
    child: Option<Child>,
}

impl Server {
    /// The server of this version that all tests use; `None` is said loudly, and fails where it is required.
    pub fn shared(version: Version) -> Option<Self> {
        let port = version
            .variable("_URL")
            .and_then(|url| url.rsplit(':').next()?.split('/').next()?.parse().ok());
        let Some((port, psql)) = port.zip(psql()) else {
            version.is_missing();
            return None;
        };
        Some(Self {
            version,
            endpoint: Endpoint::new(psql, port),
            own: None,
        })
    }

    /// A server for this test alone, with further settings (`name`, `value`).
    pub fn own(version: Version, settings: &[(&str, &str)]) -> Option<Self> {
        Self::own_with_files(version, settings, &[])
    }

    /// [`Server::own`] with files in its folder of data, for example `server.key`, or a `pg_hba.conf` in place of ours.
    pub fn own_with_files(
        version: Version,
        settings: &[(&str, &str)],
        files: &[(&str, &str)],
    ) -> Option<Self> {
        Self::launch(version, settings, files, None)
    }

    /// [`Server::own`] with a tablespace `small` on a disk of so many MiB, which is empty again after a restart. It takes
    /// root; `None` is said loudly, and fails where `WHIMBREL_REQUIRE` names `mount`.
    pub fn own_with_small_disk(version: Version, settings: &[(&str, &str)], size_mib: u32) -> Option<Self> {
        if !SmallDisk::can_be_had() {
            assert!(
                !is_required("mount"),
                "a mount namespace is required and cannot be made here: run the tests as root"
            );
            eprintln!("NOT TESTED: `unshare --mount` is not permitted here; run the tests as root");
            return None;
        }
        let server = Self::launch(version, settings, &[], Some(size_mib))?;
        let folder = server.own_ref().folder.join("small");
        server.sql(&format!(
            "CREATE TABLESPACE small LOCATION '{}'",
            folder.display()
        ));
        Some(server)
    }

    fn launch(
        version: Version,
        settings: &[(&str, &str)],
        files: &[(&str, &str)],
        disk_mib: Option<u32>,
    ) -> Option<Self> {
        let Some((bin, psql)) = version.variable("").map(PathBuf::from).zip(psql()) else {
            version.is_missing();
            return None;
        };
        let template = process::template(&bin).expect("a cluster can be made");
        let folder = process::make_own_folder("postgres").expect("the temporary folder can be written");
        let data = folder.join("data");
        process::copy(&template, &data).expect("a cluster can be copied");
        for (name, text) in files {
            process::put_file(&data.join(name), text).expect("the folder can be written");
        }
        let disk = disk_mib.map(|size_mib| {
            let folder = folder.join("small");
            std::fs::create_dir(&folder).expect("the folder can be written");
            process::give(&folder, 0o700).expect("the folder is ours");
            SmallDisk { folder, size_mib }
        });
        let port = process::free_port().expect("a port is free");
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let mut server = Self {
            version,
            endpoint: Endpoint::new(psql, port),
            own: Some(Own {
                bin,
                folder,
                launch: Launch {
                    port,
                    settings: settings.iter().map(owned).collect(),
                    death: Some("QUIT"),
                    disk,
                },
                child: None,
            }),
        };
        server.start();
        Some(server)
    }

    /// Its release.
    pub fn version(&self) -> Version {
        self.version
    }

    /// Where it listens.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// A new empty database in it.
    pub fn database(&self) -> Database {
        self.endpoint.database()
    }

    /// [`Endpoint::sql`] in its database `postgres`, for what concerns the whole server.
    pub fn sql(&self, statements: &str) -> String {
        self.endpoint.sql("postgres", statements)
    }

    /// Its folder of data.
    pub fn data(&self) -> PathBuf {
        self.own_ref().folder.join("data")
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.own_ref().folder.join("log")).unwrap_or_default()
    }

    fn own_ref(&self) -> &Own {
        self.own
            .as_ref()
            .expect("only a test's own server may be looked into")
    }

    fn own_mut(&mut self) -> &mut Own {
        self.own
            .as_mut()
            .expect("only a test's own server may be changed")
    }

    /// Starts it again, on the same port and with what it had.
    pub fn start(&mut self) {
        let own = self.own_mut();
        assert!(own.child.is_none(), "it runs already");
        let (data, log) = (own.folder.join("data"), own.folder.join("log"));
        let child = process::start(&own.bin, &data, &log, &own.launch);
        own.child = Some(child.expect("PostgreSQL starts"));
    }

    /// Ends all connections and stops it, so that its data are whole.
    pub fn stop_fast(&mut self) {
        self.end("INT");
    }

    /// Ends it with all its processes at once, as a loss of power would, though what it wrote is kept.
    pub fn kill(&mut self) {
        let id = self.own_ref().child.as_ref().map_or(0, Child::id);
        process::kill_all(id).expect("signals can be sent");
        self.reap();
    }

    /// [`Server::stop_fast`] and [`Server::start`].
    pub fn restart(&mut self) {
        self.stop_fast();
        self.start();
    }

    /// Sends a signal to it and all its processes: `STOP` makes it deaf, `CONT` lets it go on.
    pub fn signal(&self, signal: &str) {
        let id = self.own_ref().child.as_ref().map_or(0, Child::id);
        let mut ids = process::children(id);
        ids.insert(0, id);
        process::send(signal, &ids).expect("signals can be sent");
    }

    fn end(&mut self, signal: &str) {
        process::stop(&self.data(), signal).expect("PostgreSQL stops");
        self.reap();
    }

    fn reap(&mut self) {
        if let Some(mut child) = self.own_mut().child.take() {
            child.wait().expect("a child can be waited for");
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let Some(own) = &mut self.own else {
            return;
        };
        let data = own.folder.join("data");
        if let Some(mut child) = own.child.take() {
            // A server that was stopped with a signal must go on to be able to end.
            drop(process::send("CONT", &[child.id()]));
            drop(process::send("QUIT", &[child.id()]));
            drop(child.wait());
        }
        process::remove_shared_memory(&data);
        drop(std::fs::remove_dir_all(&own.folder));
    }
}

fn psql() -> Option<PathBuf> {
    std::env::var_os("WHIMBREL_PSQL").map(PathBuf::from)
}
