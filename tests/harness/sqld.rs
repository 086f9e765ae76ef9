//! A real libSQL server (`sqld`) on a free loopback port, in a folder of its own, with tokens if wanted.
//!
//! For the tests of any crate, included by path: the standard library is all it needs. [`Tools`] are the programs, which
//! `cargo x services` installs; [`Sqld`] is the process, ended when dropped. [`Sqld::hashes`] and [`Tools::hashes`] ask npm
//! `@libsql/client`, not whimbrel, what a server or a file holds; [`Sqld::sql`] speaks the plain JSON interface.

#![allow(
    dead_code,
    reason = "included by several tests, of which none needs all of it"
)]

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// How long the server may take from its start to its first answer, on a loaded machine.
const START_LIMIT: Duration = Duration::from_secs(60);
/// How long an answer may take: longer than another writer may hold the database.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);
/// How often a server that is starting is asked whether it is ready; it has no other way to say so.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);
/// Ports below those that the system hands out by itself, and others than PostgreSQL servers and emulators have.
const PORTS: std::ops::Range<u16> = 8_000..14_000;
/// A server whose port another process was quicker to take is started again, so often in all.
const STARTS_MAX: u32 = 5;

/// The programs from outside.
#[derive(Clone)]
pub struct Tools {
    sqld: PathBuf,
    node: PathBuf,
    modules: PathBuf,
}

/// The programs, from `WHIMBREL_SQLD`, `WHIMBREL_NODE` and `WHIMBREL_NODE_MODULES`; `None` is said loudly, and fails where
/// `WHIMBREL_REQUIRE` wants them.
pub fn tools() -> Option<Tools> {
    let place = |name: &str| {
        std::env::var_os(name)
            .map(PathBuf::from)
            .filter(|path| !path.as_os_str().is_empty())
    };
    let found = place("WHIMBREL_SQLD")
        .zip(place("WHIMBREL_NODE"))
        .zip(place("WHIMBREL_NODE_MODULES"));
    if found.is_none() {
        let required = std::env::var("WHIMBREL_REQUIRE").unwrap_or_default();
        let is_required = required
            .split(',')
            .any(|name| matches!(name.trim(), "all" | "sqld" | "node"));
        assert!(
            !is_required,
            "sqld is required and missing: run the tests as `cargo x test`, which installs it"
        );
        eprintln!("NOT TESTED: there is no sqld; `cargo x test` installs it");
    }
    found.map(|((sqld, node), modules)| Tools { sqld, node, modules })
}

impl Tools {
    /// Counts and hashes of `tables`, or of all if none is named, in a server or a file (`file:` and a path).
    pub fn hashes(&self, url: &str, token: &str, tables: &[&str]) -> BTreeMap<String, TableHash> {
        let text = self.script(include_str!("libsql_hash.mjs"), url, token, tables);
        let line = |line: &str| {
            let mut parts = line.rsplitn(3, '\t');
            let hash = parts.next().unwrap_or_default().to_owned();
            let record_count = parts
                .next()
                .and_then(|count| count.parse().ok())
                .expect("a count");
            (
                parts.next().unwrap_or_default().to_owned(),
                TableHash { record_count, hash },
            )
        };
        text.lines().map(line).collect()
    }

    /// What `script` prints of a database.
    pub fn script(&self, script: &str, url: &str, token: &str, arguments: &[&str]) -> String {
        let mut node = Command::new(&self.node);
        node.env("WHIMBREL_NODE_MODULES", &self.modules)
            .env("LIBSQL_URL", url)
            .env("LIBSQL_TOKEN", token);
        run(&mut node, script, arguments)
    }

    /// The keys and tokens of a new server.
    pub fn tokens(&self) -> Tokens {
        let text = run(
            &mut Command::new(&self.node),
            include_str!("libsql_keys.mjs"),
            &[],
        );
        let mut lines = text.lines().map(str::to_owned);
        let mut next = || lines.next().expect("the script prints four lines");
        Tokens {
            key: next(),
            full: next(),
            read_only: next(),
            expired: next(),
        }
    }
}

/// Tokens of a server that asks for them.
#[derive(Debug, Clone)]
pub struct Tokens {
    key: String,
    /// May do everything.
    pub full: String,
    /// May only read.
    pub read_only: String,
    /// Was valid yesterday.
    pub expired: String,
}

/// What `@libsql/client` says of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableHash {
    /// How many records.
    pub record_count: u64,
    /// Over all of them, in an order of their own.
    pub hash: String,
}

/// A server.
pub struct Sqld {
    tools: Tools,
    child: Child,
    folder: PathBuf,
    address: SocketAddr,
    admin: Option<SocketAddr>,
    /// Its tokens, if it asks for them.
    pub tokens: Option<Tokens>,
}

impl Sqld {
    /// A server that lets everybody in.
    pub fn start(tools: &Tools) -> Self {
        Self::start_with(tools, None, &[])
    }

    /// A server that also tells what it has counted, at [`Sqld::admin`].
    pub fn start_with_admin(tools: &Tools, tokens: Option<Tokens>) -> Self {
        Self::start_somewhere(tools, tokens, &[], true)
    }

    /// A server that asks for a token.
    pub fn start_with_tokens(tools: &Tools) -> Self {
        let tokens = tools.tokens();
        Self::start_with(tools, Some(tokens), &[])
    }

    /// A server with further arguments.
    pub fn start_with(tools: &Tools, tokens: Option<Tokens>, arguments: &[&str]) -> Self {
        Self::start_somewhere(tools, tokens, arguments, false)
    }

    fn start_somewhere(tools: &Tools, tokens: Option<Tokens>, arguments: &[&str], has_admin: bool) -> Self {
        let mut said = String::new();
        for _ in 0..STARTS_MAX {
            let admin = has_admin.then(free_address);
            match Self::try_start(tools, tokens.clone(), arguments, admin) {
                Ok(server) => return server,
                Err(log) => said = log,
            }
        }
        panic!("sqld does not start: {said}");
    }

    /// A server at a port that was free a moment ago; if it ends, what it said.
    fn try_start(
        tools: &Tools,
        tokens: Option<Tokens>,
        arguments: &[&str],
        admin: Option<SocketAddr>,
    ) -> Result<Self, String> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("whimbrel-sqld-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("the temporary folder can be written");
        let mut command = Command::new(&tools.sqld);
        let address = free_address();
        command
            .current_dir(&folder)
            .args(["--no-welcome", "-d", "data", "--http-listen-addr"])
            .arg(address.to_string())
            .args(arguments)
            .args(
                admin
                    .iter()
                    .flat_map(|admin| ["--admin-listen-addr".to_owned(), admin.to_string()]),
            )
            .stdin(Stdio::null())
            .stdout(log(&folder))
            .stderr(log(&folder));
        if let Some(tokens) = &tokens {
            std::fs::write(folder.join("jwt.pub"), &tokens.key).expect("the folder can be written");
            command.args(["--auth-jwt-key-file", "jwt.pub"]);
        }
        let mut server = Self {
            tools: tools.clone(),
            child: command.spawn().expect("sqld starts"),
            folder,
            address,
            admin,
            tokens,
        };
        server.wait()?;
        Ok(server)
    }

    fn wait(&mut self) -> Result<(), String> {
        let deadline = Instant::now() + START_LIMIT;
        loop {
            let is_ready = matches!(request(self.address, "GET", "/health", &[], ""), Ok((200, _)));
            // Without it, the answer came from another process that was quicker to take the port.
            let lives = self.child.try_wait().expect("a child can be asked").is_none();
            if is_ready && lives {
                return Ok(());
            }
            if !lives || Instant::now() > deadline {
                return Err(std::fs::read_to_string(self.folder.join("log")).unwrap_or_default());
            }
            std::thread::park_timeout(LOOK_INTERVAL);
        }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where it tells what it has counted.
    pub fn admin(&self) -> SocketAddr {
        self.admin.expect("it was started with that")
    }

    /// Its URL.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Carries statements out over the plain JSON interface, as one stream that is then closed; the answer as text.
    /// Statements must not need escaping in JSON.
    pub fn sql(&self, statements: &[&str]) -> String {
        let mut requests: Vec<String> = statements
            .iter()
            .map(|sql| format!(r#"{{"type":"execute","stmt":{{"sql":"{sql}"}}}}"#))
            .collect();
        requests.push(r#"{"type":"close"}"#.to_owned());
        self.pipeline(None, &requests.join(",")).1
    }

    /// Sends requests to a stream of the JSON interface; its next baton, if it stays open, and the answer as text.
    pub fn pipeline(&self, baton: Option<&str>, requests: &str) -> (Option<String>, String) {
        let baton = baton.map_or("null".to_owned(), |baton| format!("\"{baton}\""));
        let body = format!(r#"{{"baton":{baton},"requests":[{requests}]}}"#);
        let authorization = self
            .tokens
            .as_ref()
            .map(|tokens| format!("Bearer {}", tokens.full));
        let headers: Vec<(&str, &str)> = authorization
            .iter()
            .map(|value| ("Authorization", value.as_str()))
            .collect();
        let (status, answer) =
            request(self.address, "POST", "/v2/pipeline", &headers, &body).expect("the server answers");
        assert_eq!(status, 200, "{answer}");
        let baton = answer
            .split_once("\"baton\":\"")
            .and_then(|(_, rest)| rest.split_once('"'));
        (baton.map(|(baton, _)| baton.to_owned()), answer)
    }

    /// Counts and hashes of `tables`, or of all if none is named, as `@libsql/client` reads them.
    pub fn hashes(&self, tables: &[&str]) -> BTreeMap<String, TableHash> {
        self.tools.hashes(&self.url(), self.full_token(), tables)
    }

    /// The token that may do everything; empty if the server asks for none.
    pub fn full_token(&self) -> &str {
        self.tokens.as_ref().map_or("", |tokens| tokens.full.as_str())
    }
}

impl Drop for Sqld {
    fn drop(&mut self) {
        // By its own id, which nobody else has while it was not waited for.
        drop(self.child.kill());
        drop(self.child.wait());
        drop(std::fs::remove_dir_all(&self.folder));
    }
}

/// An address on this machine that nobody listens on and whose port the system gives nobody by itself.
pub fn free_address() -> SocketAddr {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let count = u32::from(PORTS.end - PORTS.start);
    let addresses = (0..count).map(|_| {
        // Far apart for processes with neighbouring ids, which nextest starts at the same time.
        let step = NEXT.fetch_add(1, Ordering::Relaxed);
        let offset = std::process::id().wrapping_mul(7_919).wrapping_add(step) % count;
        let offset = u16::try_from(offset).expect("it is within the ports");
        SocketAddr::from((Ipv4Addr::LOCALHOST, PORTS.start + offset))
    });
    addresses
        .into_iter()
        .find(|address| TcpListener::bind(address).is_ok())
        .expect("a port is free")
}

/// What a script prints that is given to node on its standard input.
fn run(node: &mut Command, script: &str, arguments: &[&str]) -> String {
    let mut child = node
        .args(["--input-type=module", "-"])
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("node starts");
    // Shorter than a pipe holds, so this does not wait for the script.
    let input = child
        .stdin
        .take()
        .expect("the input is a pipe")
        .write_all(script.as_bytes());
    input.expect("node reads its script");
    let output = child.wait_with_output().expect("node ends");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).expect("names and tokens are UTF-8")
}

fn log(folder: &Path) -> Stdio {
    let file = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(folder.join("log"));
    file.map_or_else(|_| Stdio::null(), Stdio::from)
}

/// One HTTP request over a connection of its own: the status and the body.
pub fn request(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> std::io::Result<(u16, String)> {
    let mut connection = TcpStream::connect_timeout(&address, ANSWER_LIMIT)?;
    connection.set_read_timeout(Some(ANSWER_LIMIT))?;
    connection.set_nodelay(true)?;
    let headers: String = headers
        .iter()
        .map(|(name, value)| format!("{name}: {value}\r\n"))
        .collect();
    // As a whole: what is written in parts is sent in parts, each of which may wait for the one before.
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n{headers}Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    connection.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    connection.read_to_end(&mut answer)?;
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok());
    let content = answer.split_once("\r\n\r\n").map_or("", |(_, content)| content);
    let status = status.ok_or_else(|| std::io::Error::other("no HTTP answer"))?;
    Ok((status, content.to_owned()))
}
