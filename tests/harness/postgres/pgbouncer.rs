//! pgbouncer in front of a server: what stands before most hosted PostgreSQL, and keeps no state of a session.
//!
//! It refuses start-up parameters that it does not know, as its own default is, so a client that sends `extra_float_digits`
//! is refused.

use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use super::process::{self, PASSWORD, PORTER, SUPERUSER};
use super::{Endpoint, is_required};

/// How long it may take to listen.
const START_LIMIT: Duration = Duration::from_secs(30);
const LOOK_INTERVAL: Duration = Duration::from_millis(10);
/// Fewer than a run has connections, so that clients do share them.
const POOL_SIZE: u32 = 4;

/// When a connection to the server goes to another client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PoolMode {
    /// When the client goes.
    Session,
    /// After each transaction.
    Transaction,
    /// After each statement: transactions of several are refused.
    Statement,
}

/// A running pooler, ended when dropped.
pub struct PgBouncer {
    child: Child,
    folder: PathBuf,
    endpoint: Endpoint,
}

impl PgBouncer {
    /// A pooler whose databases are those of the server, under the same names; `None` is said loudly.
    pub fn in_front_of(server: &Endpoint, mode: PoolMode) -> Option<Self> {
        let program = std::env::var_os("WHIMBREL_PGBOUNCER").map(PathBuf::from);
        let Some(program) = program else {
            assert!(
                !is_required("pgbouncer"),
                "pgbouncer is required and missing: run the tests as `cargo x test`, which installs it"
            );
            eprintln!("NOT TESTED: there is no pgbouncer; `cargo x test` installs it");
            return None;
        };
        let folder = process::make_own_folder("pgbouncer").expect("the temporary folder can be written");
        let port = process::free_port().expect("a port is free");
        let mode = match mode {
            PoolMode::Session => "session",
            PoolMode::Transaction => "transaction",
            PoolMode::Statement => "statement",
        };
        let place = folder.display();
        let settings = format!(
            "[databases]\n* = host=127.0.0.1 port={}\n[pgbouncer]\nlisten_addr=127.0.0.1\nlisten_port={port}\n\
             unix_socket_dir=\nauth_type=trust\nauth_file={place}/users\npool_mode={mode}\n\
             default_pool_size={POOL_SIZE}\nmax_client_conn=200\nlogfile={place}/log\n",
            server.port()
        );
        let users = format!("\"{SUPERUSER}\" \"\"\n\"{PORTER}\" \"{PASSWORD}\"\n");
        for (name, text) in [("ini", &settings), ("users", &users)] {
            process::put_file(&folder.join(name), text).expect("the folder can be written");
        }
        let child = process::as_server_user(&program, Some("TERM"))
            .arg("-q")
            .arg(folder.join("ini"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("pgbouncer starts");
        let mut pooler = Self {
            child,
            folder,
            endpoint: server.at_port(port),
        };
        pooler.wait();
        Some(pooler)
    }

    fn wait(&mut self) {
        let deadline = Instant::now() + START_LIMIT;
        while TcpStream::connect(("127.0.0.1", self.endpoint.port())).is_err() {
            let ended = self.child.try_wait().expect("a child can be asked");
            assert!(
                ended.is_none() && Instant::now() < deadline,
                "pgbouncer does not start: {}",
                std::fs::read_to_string(self.folder.join("log")).unwrap_or_default()
            );
            std::thread::park_timeout(LOOK_INTERVAL);
        }
    }

    /// Where it listens.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }
}

impl Drop for PgBouncer {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
        drop(std::fs::remove_dir_all(&self.folder));
    }
}
