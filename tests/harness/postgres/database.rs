//! Databases of the tests, each new and empty, and psql that asks them.
//!
//! Neighbours: `../postgres.rs` has the servers, `pgbouncer` another way to the same databases.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use super::process::{PASSWORD, PORTER, SUPERUSER};

/// Where a server or a pooler listens.
#[derive(Debug, Clone)]
pub struct Endpoint {
    psql: PathBuf,
    port: u16,
}

impl Endpoint {
    /// A server at `port` of this machine, asked with the program `psql`.
    pub fn new(psql: PathBuf, port: u16) -> Self {
        Self { psql, port }
    }

    /// Its port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Another way to the same databases, for example through a proxy.
    pub fn at_port(&self, port: u16) -> Self {
        Self { port, ..self.clone() }
    }

    /// The URL of a database for the superuser, who needs no password.
    pub fn url(&self, database: &str) -> String {
        format!("postgres://{SUPERUSER}@127.0.0.1:{}/{database}", self.port)
    }

    /// The URL of a database for [`PORTER`], with the password.
    pub fn password_url(&self, database: &str) -> String {
        format!(
            "postgres://{PORTER}:{}@127.0.0.1:{}/{database}",
            escaped(PASSWORD),
            self.port
        )
    }

    /// Carries out statements, each a transaction of its own, until one fails; what they answer, a line a row with `|`
    /// between its columns, or what the server said.
    pub fn try_sql(&self, database: &str, statements: &str) -> Result<String, String> {
        let mut child = self
            .psql(database)
            .args(["-v", "ON_ERROR_STOP=1", "-f", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("psql starts");
        let mut input = child.stdin.take().expect("the input is a pipe");
        let text = statements.to_owned();
        // Beside the reading below: psql answers while it reads.
        let writer = std::thread::spawn(move || drop(input.write_all(text.as_bytes())));
        let output = child.wait_with_output().expect("psql ends");
        writer.join().expect("the writer does not panic");
        if output.status.success() {
            let text = String::from_utf8(output.stdout).expect("the answer is UTF-8");
            Ok(text.strip_suffix('\n').unwrap_or(&text).to_owned())
        } else {
            Err(String::from_utf8_lossy(&output.stderr).into_owned())
        }
    }

    /// [`Endpoint::try_sql`] of statements that must not fail.
    pub fn sql(&self, database: &str, statements: &str) -> String {
        self.try_sql(database, statements)
            .unwrap_or_else(|said| panic!("psql: {said}"))
    }

    /// psql on a database, for a session that stays open or for `\copy`.
    pub fn psql(&self, database: &str) -> Command {
        let mut psql = Command::new(&self.psql);
        psql.args(["-XAtq", "-h", "127.0.0.1", "-U", SUPERUSER, "-d", database, "-p"])
            .arg(self.port.to_string())
            .env("PGCLIENTENCODING", "UTF8");
        psql
    }

    /// A new empty database, owned by [`PORTER`].
    pub fn database(&self) -> Database {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        // The id of the process tells `cargo x` which databases were left behind.
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("test_{}_{number}", std::process::id());
        self.sql("postgres", &format!("CREATE DATABASE {name} OWNER {PORTER}"));
        Database {
            endpoint: self.clone(),
            name,
        }
    }
}

/// A database that is dropped with this, whoever is connected to it.
pub struct Database {
    endpoint: Endpoint,
    name: String,
}

impl Database {
    /// Its name, which needs no quotes.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its server.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Its URL for the superuser.
    pub fn url(&self) -> String {
        self.endpoint.url(&self.name)
    }

    /// Its URL for [`PORTER`], who owns it.
    pub fn password_url(&self) -> String {
        self.endpoint.password_url(&self.name)
    }

    /// [`Endpoint::sql`] in this database.
    pub fn sql(&self, statements: &str) -> String {
        self.endpoint.sql(&self.name, statements)
    }

    /// [`Endpoint::try_sql`] in this database.
    pub fn try_sql(&self, statements: &str) -> Result<String, String> {
        self.endpoint.try_sql(&self.name, statements)
    }

    /// What a query answers, a list of values for each row; no value may be a control letter.
    pub fn rows(&self, query: &str) -> Vec<Vec<String>> {
        let output = self
            .endpoint
            .psql(&self.name)
            .args(["-F", "\u{1f}", "-R", "\u{1e}", "-P", "null=\\N", "-c", query])
            .stdin(Stdio::null())
            .output()
            .expect("psql starts");
        assert!(
            output.status.success(),
            "psql: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        let text = String::from_utf8(output.stdout).expect("the answer is UTF-8");
        let text = text.strip_suffix('\n').unwrap_or(&text);
        let row = |row: &str| row.split('\u{1f}').map(str::to_owned).collect();
        text.split('\u{1e}')
            .filter(|_| !text.is_empty())
            .map(row)
            .collect()
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        // A server that the test has stopped for good takes its databases along.
        let statement = format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name);
        drop(self.endpoint.try_sql("postgres", &statement));
    }
}

/// A text as a part of a URL.
pub fn escaped(text: &str) -> String {
    let letter = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(letter).collect()
}
