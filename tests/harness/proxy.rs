//! A TCP proxy on this machine that spoils connections by script: slow, cut, silent, or not there.
//!
//! For the tests of any crate, included by path: the standard library is all it needs. [`Proxy::set`] changes how all connections
//! are carried from now on, [`Proxy::plan`] queues faults that happen once each, to the first connection that gets there. It
//! counts octets only; what they mean is for a further [`When`].

#![allow(
    dead_code,
    unused_imports,
    reason = "included by several tests, of which none needs all of it"
)]

use std::collections::VecDeque;
use std::io::{ErrorKind, Read as _, Result, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How often a connection with nothing to carry looks whether it is still wanted.
const LOOK_INTERVAL: Duration = Duration::from_millis(10);
/// The most that is carried at once.
const CHUNK_BYTES: usize = 64 * 1024;
/// A slow line carries what it may in this many parts a second.
const PARTS_PER_SECOND: u64 = 20;

/// Which way octets go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From the client to the server.
    Up,
    /// From the server to the client.
    Down,
}

/// How connections are carried, each way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Line {
    /// How long everything waits before it is carried on.
    pub latency: Duration,
    /// The most that each connection carries up in a second.
    pub up_bytes_per_second: Option<u64>,
    /// The most that each connection carries down in a second.
    pub down_bytes_per_second: Option<u64>,
    /// Nothing is carried and nothing is closed.
    pub is_dead: bool,
    /// New connections are refused.
    pub refuses: bool,
}

/// When a fault happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// When one connection has carried so many octets and is given one more.
    Carried(Direction, u64),
}

/// What happens then, to that connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// It is closed on both sides; the side that was sending gets a reset.
    Reset,
    /// It carries nothing more and stays open.
    BlackHole,
}

/// A fault that happens once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    /// When.
    pub when: When,
    /// What.
    pub effect: Effect,
}

/// A running proxy; it and its connections end when it is dropped.
pub struct Proxy {
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
}

struct Shared {
    server: SocketAddr,
    address: SocketAddr,
    line: Mutex<Line>,
    faults: Mutex<VecDeque<Fault>>,
    accepted_count: AtomicU64,
    fault_count: AtomicU64,
    /// Connections of an older generation are cut.
    generation: AtomicU64,
    up_bytes: AtomicU64,
    down_bytes: AtomicU64,
    has_ended: AtomicBool,
}

/// What both directions of a connection know of it.
#[derive(Default)]
struct Connection {
    generation: u64,
    has_ended: AtomicBool,
    is_dead: AtomicBool,
}

impl Proxy {
    /// A proxy in front of `server` that spoils nothing yet.
    pub fn to(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a loopback port is free");
        let shared = Arc::new(Shared {
            server,
            address: listener.local_addr().expect("a bound socket has an address"),
            line: Mutex::default(),
            faults: Mutex::default(),
            accepted_count: AtomicU64::new(0),
            fault_count: AtomicU64::new(0),
            generation: AtomicU64::new(0),
            up_bytes: AtomicU64::new(0),
            down_bytes: AtomicU64::new(0),
            has_ended: AtomicBool::new(false),
        });
        let acceptor = {
            let shared = Arc::clone(&shared);
            std::thread::spawn(move || accept(&shared, listener))
        };
        Self {
            shared,
            acceptor: Some(acceptor),
        }
    }

    /// A proxy in front of a port on this machine.
    pub fn to_port(port: u16) -> Self {
        Self::to(SocketAddr::from(([127, 0, 0, 1], port)))
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.shared.address
    }

    /// Its port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.shared.address.port()
    }

    /// Carries all connections so from now on, also those that are open.
    pub fn set(&self, line: Line) {
        *locked(&self.shared.line) = line;
    }

    /// Queues a fault behind those that have not happened yet.
    pub fn plan(&self, when: When, effect: Effect) {
        locked(&self.shared.faults).push_back(Fault { when, effect });
    }

    /// Closes all connections that are open.
    pub fn cut_all(&self) {
        self.shared.generation.fetch_add(1, Ordering::SeqCst);
    }

    /// How many connections have come.
    pub fn accepted_count(&self) -> u64 {
        self.shared.accepted_count.load(Ordering::SeqCst)
    }

    /// How many of the faults that were queued have happened.
    pub fn fault_count(&self) -> u64 {
        self.shared.fault_count.load(Ordering::SeqCst)
    }

    /// How many octets all connections have carried.
    pub fn carried_bytes(&self, direction: Direction) -> u64 {
        self.shared.carried(direction).load(Ordering::SeqCst)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.has_ended.store(true, Ordering::SeqCst);
        if let Some(acceptor) = self.acceptor.take() {
            // Its panic is none of the test's.
            drop(acceptor.join());
        }
    }
}

impl Shared {
    fn carried(&self, direction: Direction) -> &AtomicU64 {
        match direction {
            Direction::Up => &self.up_bytes,
            Direction::Down => &self.down_bytes,
        }
    }

    /// Takes the first fault that happens before a connection has carried `until` octets: how many it still carries of
    /// them, and what happens then.
    fn fault(&self, direction: Direction, carried: u64, until: u64) -> Option<(u64, Effect)> {
        let mut faults = locked(&self.faults);
        let at = faults.iter().position(|fault| match fault.when {
            When::Carried(way, bytes) => way == direction && bytes < until,
        })?;
        let fault = faults.remove(at)?;
        self.fault_count.fetch_add(1, Ordering::SeqCst);
        let When::Carried(_, bytes) = fault.when;
        Some((bytes.saturating_sub(carried), fault.effect))
    }
}

fn accept(shared: &Arc<Shared>, listener: TcpListener) {
    let mut listener = Some(listener);
    while !shared.has_ended.load(Ordering::SeqCst) {
        let refuses = locked(&shared.line).refuses;
        match (&listener, refuses) {
            (Some(_), true) => listener = None,
            (None, false) => listener = TcpListener::bind(shared.address).ok(),
            _ => {}
        }
        let client = listener.as_ref().and_then(|listener| {
            listener.set_nonblocking(true).ok()?;
            listener.accept().ok()
        });
        match client {
            Some((client, _)) => {
                shared.accepted_count.fetch_add(1, Ordering::SeqCst);
                // A server that is not there is seen by the client as a connection that ends at once.
                drop(join(shared, client));
            }
            None => std::thread::park_timeout(LOOK_INTERVAL),
        }
    }
}

fn join(shared: &Arc<Shared>, client: TcpStream) -> Result<()> {
    client.set_nonblocking(false)?;
    let server = TcpStream::connect(shared.server)?;
    for stream in [&client, &server] {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(LOOK_INTERVAL))?;
        stream.set_write_timeout(Some(LOOK_INTERVAL))?;
    }
    let connection = Arc::new(Connection {
        generation: shared.generation.load(Ordering::SeqCst),
        ..Connection::default()
    });
    let (client, server) = (Arc::new(client), Arc::new(server));
    for (direction, from, to) in [
        (Direction::Up, &client, &server),
        (Direction::Down, &server, &client),
    ] {
        let carrier = Carrier {
            shared: Arc::clone(shared),
            connection: Arc::clone(&connection),
            direction,
            from: Arc::clone(from),
            to: Arc::clone(to),
            carried: 0,
        };
        std::thread::spawn(move || carrier.run());
    }
    Ok(())
}

/// One direction of one connection.
struct Carrier {
    shared: Arc<Shared>,
    connection: Arc<Connection>,
    direction: Direction,
    from: Arc<TcpStream>,
    to: Arc<TcpStream>,
    carried: u64,
}

impl Carrier {
    fn run(mut self) {
        let mut chunk = vec![0; CHUNK_BYTES];
        while !self.is_over() {
            // An error is a side that has gone.
            match self.step(&mut chunk) {
                Ok(true) => {}
                Ok(false) => {
                    drop(self.to.shutdown(std::net::Shutdown::Write));
                    return;
                }
                Err(_) => self.connection.has_ended.store(true, Ordering::SeqCst),
            }
        }
    }

    fn is_over(&self) -> bool {
        self.connection.has_ended.load(Ordering::SeqCst)
            || self.shared.has_ended.load(Ordering::SeqCst)
            || self.shared.generation.load(Ordering::SeqCst) != self.connection.generation
    }

    /// Carries what there is; whether more may come.
    fn step(&mut self, chunk: &mut [u8]) -> Result<bool> {
        let line = *locked(&self.shared.line);
        if line.is_dead || self.connection.is_dead.load(Ordering::SeqCst) {
            std::thread::park_timeout(LOOK_INTERVAL);
            return Ok(true);
        }
        let rate = match self.direction {
            Direction::Up => line.up_bytes_per_second,
            Direction::Down => line.down_bytes_per_second,
        };
        let part = rate.map_or(chunk.len(), |rate| {
            usize::try_from((rate / PARTS_PER_SECOND).max(1)).unwrap_or(usize::MAX)
        });
        let part = part.min(chunk.len());
        // Looked at and left there: a connection that is closed with octets unread is reset.
        let there = match self.from.peek(&mut chunk[..part]) {
            Ok(0) => return Ok(false),
            Ok(there) => there as u64,
            Err(error) if is_timeout(error.kind()) => return Ok(true),
            Err(error) => return Err(error),
        };
        let fault = self
            .shared
            .fault(self.direction, self.carried, self.carried + there);
        let count = fault.map_or(there, |(count, _)| count);
        let passing = &mut chunk[..usize::try_from(count).unwrap_or(0)];
        (&*self.from).read_exact(passing)?;
        self.wait(line.latency);
        self.pass(passing)?;
        self.carried += count;
        self.shared
            .carried(self.direction)
            .fetch_add(count, Ordering::SeqCst);
        if let Some(rate) = rate {
            self.wait(Duration::from_secs_f64(count as f64 / rate as f64));
        }
        match fault {
            Some((_, Effect::Reset)) => self.connection.has_ended.store(true, Ordering::SeqCst),
            Some((_, Effect::BlackHole)) => self.connection.is_dead.store(true, Ordering::SeqCst),
            None => {}
        }
        Ok(true)
    }

    /// Writes all of it, unless the connection ends meanwhile.
    fn pass(&self, mut octets: &[u8]) -> Result<()> {
        while !octets.is_empty() && !self.is_over() {
            match (&*self.to).write(octets) {
                Ok(count) => octets = &octets[count..],
                Err(error) if is_timeout(error.kind()) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// The time itself is what is wanted here: this is what a slow line is.
    fn wait(&self, time: Duration) {
        let until = Instant::now() + time;
        while let Some(left) = until
            .checked_duration_since(Instant::now())
            .filter(|left| !left.is_zero())
        {
            if self.is_over() {
                return;
            }
            std::thread::park_timeout(left.min(LOOK_INTERVAL));
        }
    }
}

fn is_timeout(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted
    )
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A carrier that panicked has left nothing half done in there.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
