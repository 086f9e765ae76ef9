//! Connections: those that come, each with one of its own to the emulator, and what ends them.
//!
//! A connection that is silent is not looked at any more, so that nothing of it is acknowledged either, as on a line that was cut
//! somewhere else. Neighbour: `call` answers what comes on a connection.

use std::net::TcpListener;
use std::sync::Arc;

use bytes::Bytes;
use h2::RecvStream;
use h2::client::SendRequest;
use http::request::Parts;
use http::{Request, Response, Uri, Version};
use tokio::net::TcpStream;
use tokio::sync::{Mutex, watch};

use super::Shared;
use super::call::Call;
use super::frames::{framed, send};

/// What a stream may carry unread, octets: more than the largest request.
const STREAM_WINDOW_BYTES: u32 = 16 << 20;
/// What a connection may carry unread, octets.
const CONNECTION_WINDOW_BYTES: u32 = 64 << 20;

/// What the layer does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Life {
    Open,
    Stopped,
    Ended,
}

/// What becomes of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    Alive,
    Silent,
    Closed,
}

/// The layer's thread.
pub(super) fn run(shared: Arc<Shared>, listener: TcpListener) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(live(shared, listener));
}

async fn live(shared: Arc<Shared>, first: TcpListener) {
    let mut life = shared.life.subscribe();
    let mut first = Some(first);
    loop {
        let now = *life.borrow_and_update();
        match now {
            Life::Ended => return,
            Life::Stopped => {
                shared.is_listening(false);
                changed(&mut life).await;
            }
            Life::Open => {
                let listener = first
                    .take()
                    .unwrap_or_else(|| TcpListener::bind(shared.address).expect("the port is still free"));
                listen(&shared, listener, &mut life).await;
                shared.all_connections(Fate::Closed);
            }
        }
    }
}

/// Takes connections until the layer is to do something else.
async fn listen(shared: &Arc<Shared>, listener: TcpListener, life: &mut watch::Receiver<Life>) {
    listener
        .set_nonblocking(true)
        .expect("a socket can be non-blocking");
    let listener = tokio::net::TcpListener::from_std(listener).expect("within a runtime");
    shared.is_listening(true);
    loop {
        tokio::select! {
            biased;
            () = changed(life) => return,
            accepted = listener.accept() => {
                let (socket, _) = accepted.expect("a listening socket takes connections");
                tokio::spawn(connection(Arc::clone(shared), socket));
            }
        }
    }
}

async fn changed<T>(receiver: &mut watch::Receiver<T>) {
    receiver.changed().await.expect("the sender lives as long");
}

async fn connection(shared: Arc<Shared>, socket: TcpStream) {
    let fate = shared.connected();
    let mut fates = fate.subscribe();
    // What is small must not wait until what was sent before is acknowledged.
    if socket.set_nodelay(true).is_err() {
        return;
    }
    let handshake = h2::server::Builder::new()
        .initial_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .handshake::<_, Bytes>(socket);
    let upstream = Arc::new(Upstream::to(&shared.emulator));
    // A client that goes away is no fault of the layer.
    let Ok(mut connection) = handshake.await else {
        return;
    };
    loop {
        let now = *fates.borrow_and_update();
        match now {
            Fate::Closed => return,
            Fate::Silent => {
                changed(&mut fates).await;
                continue;
            }
            Fate::Alive => {}
        }
        tokio::select! {
            biased;
            () = changed(&mut fates) => {}
            accepted = connection.accept() => {
                let Some(Ok((request, respond))) = accepted else {
                    return;
                };
                let call = Call::new(&shared, &upstream, &fate, respond);
                tokio::spawn(call.answer(request));
            }
        }
    }
}

/// A connection to the emulator, made when it is needed, and again when it broke.
pub(super) struct Upstream {
    emulator: String,
    sender: Mutex<Option<SendRequest<Bytes>>>,
}

/// The emulator does not answer.
pub(super) struct Gone;

impl From<h2::Error> for Gone {
    fn from(_: h2::Error) -> Self {
        Self
    }
}

impl From<std::io::Error> for Gone {
    fn from(_: std::io::Error) -> Self {
        Self
    }
}

impl Upstream {
    fn to(emulator: &str) -> Self {
        Self {
            emulator: emulator.to_owned(),
            sender: Mutex::default(),
        }
    }

    /// Sends one message to `path`, with the headers of `head`.
    pub(super) async fn send(
        &self,
        head: &Parts,
        path: &str,
        message: &Bytes,
    ) -> Result<Response<RecvStream>, Gone> {
        let mut request = Request::new(());
        *request.method_mut() = head.method.clone();
        *request.version_mut() = Version::HTTP_2;
        *request.headers_mut() = head.headers.clone();
        let uri = format!("http://{}{path}", self.emulator);
        *request.uri_mut() = uri.parse::<Uri>().map_err(|_| Gone)?;
        let mut sender = self.sender().await?;
        let (response, mut stream) = sender.send_request(request, false)?;
        send(&mut stream, framed(message)).await?;
        stream.send_data(Bytes::new(), true)?;
        Ok(response.await?)
    }

    async fn sender(&self) -> Result<SendRequest<Bytes>, Gone> {
        let mut sender = self.sender.lock().await;
        if let Some(old) = sender.take()
            && let Ok(ready) = old.ready().await
        {
            *sender = Some(ready.clone());
            return Ok(ready);
        }
        let socket = TcpStream::connect(&self.emulator).await?;
        socket.set_nodelay(true)?;
        let (new, connection) = h2::client::Builder::new()
            .initial_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .handshake::<_, Bytes>(socket)
            .await?;
        tokio::spawn(async move {
            // How it ended is told to each of its calls.
            drop(connection.await);
        });
        let ready = new.ready().await?;
        *sender = Some(ready.clone());
        Ok(ready)
    }
}
