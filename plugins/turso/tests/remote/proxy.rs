//! A proxy before a server that loses, holds or delays what a test tells it to: HTTP requests with their answers.
//!
//! Every request that holds a given text is counted and handed to the test's rule. Connections are kept alive, as with
//! the server itself.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};

/// What becomes of a request.
pub enum Fate {
    /// It is carried out and answered.
    Pass,
    /// It is carried out, and its answer is lost with the connection.
    LoseAnswer,
    /// It is lost with the connection.
    LoseRequest,
    /// The connection is lost at once, and the request is carried out when the test says so; then the other end hears
    /// of it.
    Delay(Receiver<()>, Sender<()>),
    /// Answered with this status and no more.
    Answer(u16),
}

/// Decides on a request by its number, from 0, among those that hold the text.
pub type Rule = Box<dyn FnMut(usize) -> Fate + Send>;

struct Watch {
    text: &'static [u8],
    seen: usize,
    rule: Rule,
}

/// The proxy; it ends with the process.
pub struct Proxy {
    address: SocketAddr,
    watch: Arc<Mutex<Watch>>,
}

impl Proxy {
    /// Stands before `server`; requests whose body holds `text` go by the rule.
    pub fn start(server: SocketAddr, text: &'static str, rule: Rule) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let watch = Arc::new(Mutex::new(Watch {
            text: text.as_bytes(),
            seen: 0,
            rule,
        }));
        let shared = Arc::clone(&watch);
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let watch = Arc::clone(&shared);
                // A connection that is lost ends its thread, whichever side has lost it.
                std::thread::spawn(move || drop(serve(client, server, &watch)));
            }
        });
        Self { address, watch }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// How many requests held the text.
    pub fn seen(&self) -> usize {
        self.watch.lock().unwrap().seen
    }
}

fn serve(mut client: TcpStream, server: SocketAddr, watch: &Mutex<Watch>) -> std::io::Result<()> {
    let mut upstream = TcpStream::connect(server)?;
    for socket in [&client, &upstream] {
        socket.set_nodelay(true)?;
    }
    loop {
        let request = message(&mut client)?;
        match fate(&request, watch) {
            Fate::Pass => {
                upstream.write_all(&request)?;
                let answer = message(&mut upstream)?;
                client.write_all(&answer)?;
            }
            Fate::LoseAnswer => {
                upstream.write_all(&request)?;
                message(&mut upstream)?;
                return Ok(());
            }
            Fate::LoseRequest => return Ok(()),
            Fate::Delay(go, done) => {
                drop(client);
                go.recv().map_err(std::io::Error::other)?;
                upstream.write_all(&request)?;
                message(&mut upstream)?;
                return done.send(()).map_err(std::io::Error::other);
            }
            Fate::Answer(status) => {
                let answer = format!("HTTP/1.1 {status} No\r\nRetry-After: 0\r\nContent-Length: 0\r\n\r\n");
                client.write_all(answer.as_bytes())?;
            }
        }
    }
}

fn fate(request: &[u8], watch: &Mutex<Watch>) -> Fate {
    let mut watch = watch.lock().unwrap();
    if !request
        .windows(watch.text.len())
        .any(|window| window == watch.text)
    {
        return Fate::Pass;
    }
    let number = watch.seen;
    watch.seen += 1;
    (watch.rule)(number)
}

/// A message with its body, which has a length.
fn message(from: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let mut message = Vec::new();
    let mut octet = [0];
    while !message.ends_with(b"\r\n\r\n") {
        from.read_exact(&mut octet)?;
        message.push(octet[0]);
    }
    let head = String::from_utf8_lossy(&message).to_ascii_lowercase();
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length:"))
        .and_then(|length| length.trim().parse().ok())
        .unwrap_or(0);
    let start = message.len();
    message.resize(start + length, 0);
    from.read_exact(&mut message[start..])?;
    Ok(message)
}

/// A delayed request: what the rule returns, what lets it go, what says that it has arrived.
pub fn delayed() -> (Fate, Sender<()>, Receiver<()>) {
    let (go, wait) = channel();
    let (done, arrived) = channel();
    (Fate::Delay(wait, done), go, arrived)
}
