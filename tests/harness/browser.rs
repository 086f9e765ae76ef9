//! A real Chromium, headless, with a fresh profile: pages fill their `localStorage` and say what is in it.
//!
//! For the tests of any crate, included by path: the standard library is all it needs. A [`Site`] is one origin, which
//! serves `page.html` and `page.js`; [`Chromium`] is the process; [`fill`] does the whole of it with two origins and a
//! frame. Reading the profile is left to the tests. Who does not use all of it says `#[expect(dead_code)]` where it is included.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long a page may take from the start of the browser to its last word. A cold start on a loaded machine takes
/// half a minute.
pub const PAGE_LIMIT: Duration = Duration::from_secs(120);
/// How long Chromium may take to end when asked to.
const STOP_LIMIT: Duration = Duration::from_secs(30);
/// How often something without an event of its own is looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

/// The program, from `WHIMBREL_CHROMIUM` or the path; `None` is said loudly, and fails where `WHIMBREL_REQUIRE` wants it.
pub fn chromium() -> Option<PathBuf> {
    if let Some(program) = std::env::var_os("WHIMBREL_CHROMIUM") {
        return Some(program.into());
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path)
        .map(|folder| folder.join("chromium"))
        .find(|program| program.is_file());
    if found.is_none() {
        let required = std::env::var("WHIMBREL_REQUIRE").unwrap_or_default();
        let is_required = required
            .split(',')
            .any(|name| matches!(name.trim(), "all" | "chromium"));
        assert!(
            !is_required,
            "chromium is required and missing: set WHIMBREL_CHROMIUM, or install it as `cargo x test` does"
        );
        eprintln!("NOT TESTED: there is no chromium; `cargo x test` installs it");
    }
    found
}

/// What a page says of its own `localStorage`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// `JSON.stringify(localStorage)`.
    pub json: String,
    /// Every key and value as UTF-16 units, halves of surrogate pairs and all.
    pub entries: BTreeMap<Vec<u16>, Vec<u16>>,
}

/// One origin on a port of its own, served until dropped.
pub struct Site {
    /// As browsers name it, `http://127.0.0.1:40123`.
    pub origin: String,
    address: SocketAddr,
    posts: Receiver<(String, String)>,
    is_stopped: Arc<AtomicBool>,
    server: Option<JoinHandle<()>>,
}

impl Site {
    /// Serves on a free port. `host` is `127.0.0.1` or `localhost`, which browsers take for two sites.
    pub fn start(host: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a loopback port is free");
        let address = listener.local_addr().expect("a bound socket has an address");
        let (sender, posts) = channel();
        let is_stopped = Arc::new(AtomicBool::new(false));
        let stop = Arc::clone(&is_stopped);
        let server = std::thread::spawn(move || {
            for connection in listener.incoming() {
                if stop.load(Ordering::SeqCst) {
                    break;
                }
                let sender = sender.clone();
                // A browser opens connections ahead that it never uses, so each has a thread.
                std::thread::spawn(move || connection.and_then(|connection| answer(connection, &sender)));
            }
        });
        Self {
            origin: format!("http://{host}:{}", address.port()),
            address,
            posts,
            is_stopped,
            server: Some(server),
        }
    }

    /// The page that fills the storage with `set` (of `page.js`), and goes to `next` afterwards.
    pub fn page(&self, set: &str, frame: Option<&str>, next: Option<&str>) -> String {
        let mut address = format!("{}/page.html?set={set}", self.origin);
        for (name, value) in [("frame", frame), ("next", next)] {
            if let Some(value) = value {
                address.push_str(&format!("&{name}={}", escaped(value)));
            }
        }
        address
    }

    /// Waits for a page of this site to tell what it holds.
    pub fn told(&self) -> Told {
        let post = |wanted: &str| {
            let (what, body) = self
                .posts
                .recv_timeout(PAGE_LIMIT)
                .unwrap_or_else(|_| panic!("no page of {} told its {wanted} in time", self.origin));
            assert_eq!(what, wanted, "the page said: {body}");
            body
        };
        let units = post("units");
        Told {
            json: post("json"),
            entries: units.lines().map(entry).collect(),
        }
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.is_stopped.store(true, Ordering::SeqCst);
        // Wakes the server, which waits for a connection.
        drop(TcpStream::connect(self.address));
        if let Some(server) = self.server.take() {
            drop(server.join());
        }
    }
}

/// Key and value of one entry, as a page writes them.
pub fn entry(line: &str) -> (Vec<u16>, Vec<u16>) {
    let units = |hex: &str| {
        hex.as_bytes()
            .chunks(4)
            .map(|digits| {
                let digits = std::str::from_utf8(digits).expect("hexadecimal digits are ASCII");
                u16::from_str_radix(digits, 16).expect("a page writes hexadecimal digits")
            })
            .collect()
    };
    let (key, value) = line.split_once(' ').expect("a line has a key and a value");
    (units(key), units(value))
}

/// For a value in the query of an address.
fn escaped(text: &str) -> String {
    let escape = |octet: u8| match octet {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' => char::from(octet).to_string(),
        _ => format!("%{octet:02X}"),
    };
    text.bytes().map(escape).collect()
}

/// One request, one answer.
fn answer(connection: TcpStream, posts: &Sender<(String, String)>) -> std::io::Result<()> {
    let mut reader = BufReader::new(connection.try_clone()?);
    let mut request = String::new();
    reader.read_line(&mut request)?;
    let mut size = 0;
    loop {
        let mut header = String::new();
        if reader.read_line(&mut header)? == 0 || header.trim().is_empty() {
            break;
        }
        if let Some((name, value)) = header.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            size = value.trim().parse().map_err(std::io::Error::other)?;
        }
    }
    let path = request.split([' ', '?']).nth(1).unwrap_or_default();
    let (status, kind, body) = match path {
        "/page.html" => ("200 OK", "text/html", include_str!("page.html")),
        "/page.js" => ("200 OK", "text/javascript", include_str!("page.js")),
        _ => match path.strip_prefix("/told/") {
            Some(what) => {
                let mut told = vec![0; size];
                reader.read_exact(&mut told)?;
                let told = String::from_utf8(told).map_err(std::io::Error::other)?;
                posts
                    .send((what.to_owned(), told))
                    .map_err(std::io::Error::other)?;
                ("200 OK", "text/plain", "")
            }
            None => ("404 Not Found", "text/plain", ""),
        },
    };
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}; charset=utf-8\r\nContent-Length: {}\r\n\
         Cache-Control: no-store\r\nConnection: close\r\n\r\n",
        body.len()
    );
    let mut connection = connection;
    connection.write_all(head.as_bytes())?;
    connection.write_all(body.as_bytes())
}

/// A running Chromium; killed when dropped.
pub struct Chromium {
    process: Child,
    user_data: PathBuf,
}

impl Chromium {
    /// Starts it with the profile (made if it is not there) and opens `address`. What it prints goes nowhere.
    pub fn start(program: &Path, user_data: &Path, address: &str) -> Self {
        let process = Command::new(program)
            .arg(format!("--user-data-dir={}", user_data.display()))
            .args([
                "--headless=new",
                // Tests run as root in containers, where its own sandbox cannot start.
                "--no-sandbox",
                "--disable-gpu",
                "--no-first-run",
                "--disable-background-networking",
                "--disable-component-update",
                "--disable-sync",
                "--disable-default-apps",
                "--disable-extensions",
                "--disable-crash-reporter",
                "--password-store=basic",
                "--proxy-server=direct://",
                "--remote-debugging-port=0",
            ])
            .arg(address)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("`{}` cannot be started: {error}", program.display()));
        Self {
            process,
            user_data: user_data.to_owned(),
        }
    }

    /// Asks it to end, so that it writes what it holds in memory, and waits until it has.
    ///
    /// By its debugging protocol: to a signal it answers by ending at once.
    pub fn stop(mut self) {
        let file = self.user_data.join("DevToolsActivePort");
        let mut place = String::new();
        wait_for("chromium to say where it listens", STOP_LIMIT, || {
            place = std::fs::read_to_string(&file).unwrap_or_default();
            place.lines().count() == 2
        });
        let (port, path) = place.split_once('\n').expect("two lines were counted");
        let address = format!("127.0.0.1:{port}");
        let mut connection = TcpStream::connect(&address).expect("chromium listens");
        let handshake = format!(
            "GET {path} HTTP/1.1\r\nHost: {address}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
        );
        let command = br#"{"id":1,"method":"Browser.close"}"#;
        let size = u8::try_from(command.len()).expect("the command is short");
        // One final text frame with a mask of zeros (RFC 6455, section 5.2).
        let frame = [&[0x81, 0x80 | size, 0, 0, 0, 0], &command[..]].concat();
        connection
            .write_all(handshake.as_bytes())
            .expect("chromium takes the handshake");
        // What comes before the answer to the handshake is lost.
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            let mut octet = [0];
            connection
                .read_exact(&mut octet)
                .expect("chromium answers the handshake");
            answer.extend(octet);
        }
        connection.write_all(&frame).expect("chromium takes the command");
        let process = &mut self.process;
        wait_for("chromium to end", STOP_LIMIT, || {
            process.try_wait().expect("a child can be waited for").is_some()
        });
    }

    /// Ends it as a crash would.
    pub fn kill(self) {
        drop(self);
    }
}

impl Drop for Chromium {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
        // A browser that is killed leaves a folder with a socket among the temporary files, to which this link points.
        let socket = std::fs::read_link(self.user_data.join("SingletonSocket"));
        let folder = socket.ok().and_then(|socket| socket.parent().map(Path::to_owned));
        let is_its = |folder: &PathBuf| {
            let name = folder.file_name().unwrap_or_default().to_string_lossy();
            name.starts_with("org.chromium.")
        };
        if let Some(folder) = folder.filter(is_its) {
            drop(std::fs::remove_dir_all(folder));
        }
    }
}

/// Looks again and again until `is_so`, which is called once more at the end of the time.
pub fn wait_for(what: &str, limit: Duration, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + limit;
    while !is_so() {
        assert!(Instant::now() < end, "waited {limit:?} in vain for {what}");
        std::thread::park_timeout(LOOK_INTERVAL);
    }
}

/// A profile with two origins and a partition of a third, and the browser that still has it open.
pub struct Filled {
    /// The browser; data may not be on the disk before it ends.
    pub browser: Chromium,
    /// For each name in the profile, what its page told. A frame of another site has the name of that site's partition.
    pub told: BTreeMap<String, Told>,
    /// The origins of the two pages, in the order in which they were opened.
    pub origins: [String; 2],
}

/// Fills `user_data` with the set `first` of `page.js`, in another origin `second`, and `framed` in a frame of a third.
pub fn fill(program: &Path, user_data: &Path, first: &str) -> Filled {
    let sites = [
        Site::start("127.0.0.1"),
        Site::start("127.0.0.1"),
        Site::start("localhost"),
    ];
    let frame = sites[2].page("framed", None, None);
    let next = sites[1].page("second", None, None);
    let browser = Chromium::start(
        program,
        user_data,
        &sites[0].page(first, Some(&frame), Some(&next)),
    );
    // The site at the top is named without its port (`schemeful site`).
    let names = [
        sites[0].origin.clone(),
        sites[1].origin.clone(),
        format!("{}/^0http://127.0.0.1", sites[2].origin),
    ];
    let told = [2, 0, 1].map(|site: usize| (names[site].clone(), sites[site].told()));
    let [first, second, _] = names;
    Filled {
        browser,
        told: told.into(),
        origins: [first, second],
    }
}
