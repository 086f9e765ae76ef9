//! One call: counted, then forwarded and answered as the script says.
//!
//! A caller that goes away is no fault: what was forwarded is carried out all the same, as the service does. Neighbours: `serve` hands
//! calls over, `messages` knows what they say.

use std::future::poll_fn;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use bytes::Bytes;
use gcloud_sdk::prost::Message as _;
use gcloud_sdk::tonic::Code;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use tokio::sync::watch;

use super::Shared;
use super::divide::divided;
use super::frames::{Frames, framed, send};
use super::messages::{Divided, Request, document_count, least_reads, note_applied, reads};
use super::script::{Answer, End, Failure, Method, Which};
use super::serve::{Fate, Gone, Upstream};

/// So many turns of the other tasks bring to the socket what was sent on a stream.
const TURNS_TO_FLUSH: u32 = 64;

/// A call that is under way.
pub(super) struct Call {
    shared: Arc<Shared>,
    upstream: Arc<Upstream>,
    fate: Arc<watch::Sender<Fate>>,
    respond: SendResponse<Bytes>,
}

/// A whole answer of the emulator.
pub(super) struct Answered {
    /// The messages, of which a failed call has none.
    pub(super) messages: Vec<Bytes>,
    /// The headers that have the status.
    pub(super) status: HeaderMap,
}

impl Answered {
    pub(super) fn is_ok(&self) -> bool {
        is_ok(&self.status)
    }
}

/// Counts down when a call has ended, however it did.
struct UnderWay(Arc<Shared>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.ended();
    }
}

impl Call {
    pub(super) fn new(
        shared: &Arc<Shared>,
        upstream: &Arc<Upstream>,
        fate: &Arc<watch::Sender<Fate>>,
        respond: SendResponse<Bytes>,
    ) -> Self {
        Self {
            shared: Arc::clone(shared),
            upstream: Arc::clone(upstream),
            fate: Arc::clone(fate),
            respond,
        }
    }

    pub(super) async fn answer(mut self, request: http::Request<RecvStream>) {
        let (head, body) = request.into_parts();
        let Ok(message) = Frames::of(body).next().await else {
            return;
        };
        let request = Request::read(Method::of_path(head.uri.path()), message.unwrap_or_default());
        let answer = self.shared.arrived(&request);
        let _under_way = UnderWay(Arc::clone(&self.shared));
        let outcome = match &answer {
            Answer::Forward => self.forward(&head, &request).await,
            Answer::Delay(delay) => {
                tokio::time::sleep(*delay).await;
                self.forward(&head, &request).await
            }
            Answer::Refuse(end) => self.end(&request, end, None).await,
            Answer::Lose(end) => self.lose(&head, &request, end).await,
            Answer::CutAfter(documents, end) => self.relay(&head, &request, Some((*documents, end))).await,
            Answer::FailWrites(failing) => self.fail_writes(&head, &request, failing).await,
            Answer::Divide => self.divide(&head, &request).await,
        };
        // The caller has gone; there is nobody to tell.
        drop(outcome);
    }

    async fn forward(&mut self, head: &Parts, request: &Request) -> Result<(), h2::Error> {
        if !request.is_write() {
            return self.relay(head, request, None).await;
        }
        // What was carried out is counted even if the caller does not wait for the answer.
        let Ok(answered) = self.whole(head, head.uri.path(), request).await else {
            return self.end(request, &Code::Unavailable.into(), None).await;
        };
        match answered.messages.first() {
            Some(message) if answered.is_ok() => self.unary(message).await,
            _ => self.pass(answered.status),
        }
    }

    /// Forwards the call and passes the answer back, up to `limit` documents if there is one.
    async fn relay(
        &mut self,
        head: &Parts,
        request: &Request,
        limit: Option<(u64, &End)>,
    ) -> Result<(), h2::Error> {
        let gone = End::from(Code::Unavailable);
        let Ok(response) = self.upstream.send(head, head.uri.path(), &request.message).await else {
            return self.end(request, &gone, None).await;
        };
        let (parts, body) = response.into_parts();
        if body.is_end_stream() {
            self.respond
                .send_response(Response::from_parts(parts, ()), true)?;
            return Ok(());
        }
        let mut open = self
            .respond
            .send_response(Response::from_parts(parts, ()), false)?;
        let mut frames = Frames::of(body);
        let (mut documents, mut read) = (0, 0);
        loop {
            let message = match frames.next().await {
                Ok(Some(message)) => message,
                Ok(None) => break,
                Err(_) => return self.end(request, &gone, Some(open)).await,
            };
            documents += document_count(request.method, &message);
            if let Some((limit, end)) = limit
                && documents > limit
            {
                return self.end(request, end, Some(open)).await;
            }
            read += self.count(request, &message);
            send(&mut open, framed(&message)).await?;
        }
        if let Some((_, end)) = limit {
            return self.end(request, end, Some(open)).await;
        }
        let Ok(trailers) = frames.trailers().await else {
            return self.end(request, &gone, Some(open)).await;
        };
        self.count_least(request, read, &trailers);
        open.send_trailers(trailers)
    }

    async fn lose(&mut self, head: &Parts, request: &Request, end: &End) -> Result<(), h2::Error> {
        if self.whole(head, head.uri.path(), request).await.is_err() {
            return self.end(request, &Code::Unavailable.into(), None).await;
        }
        self.end(request, end, None).await
    }

    async fn fail_writes(
        &mut self,
        head: &Parts,
        request: &Request,
        failing: &[(Which, Failure)],
    ) -> Result<(), h2::Error> {
        let divided = Divided::of(request, failing);
        let mut message = None;
        if let Some(forwarded) = &divided.forwarded {
            let Ok(answered) = self.whole(head, head.uri.path(), forwarded).await else {
                return self.end(request, &Code::Unavailable.into(), None).await;
            };
            if !answered.is_ok() {
                return self.pass(answered.status);
            }
            message = answered.messages.first().cloned();
        }
        for (_, failure) in failing.iter().filter(|(which, _)| request.has(which)) {
            self.shared.failing(request.method, failure);
        }
        self.unary(&divided.whole(message.as_ref())).await
    }

    async fn divide(&mut self, head: &Parts, request: &Request) -> Result<(), h2::Error> {
        match divided(&self.upstream, head, request).await {
            Ok(Ok(message)) => {
                self.count_least(request, 0, &ok());
                self.unary(&message).await
            }
            Ok(Err(end)) => self.end(request, &end, None).await,
            Err(Gone) => self.end(request, &Code::Unavailable.into(), None).await,
        }
    }

    /// Forwards a request and takes the whole answer, which is counted.
    async fn whole(&self, head: &Parts, path: &str, request: &Request) -> Result<Answered, Gone> {
        let answered = whole(&self.upstream, head, path, &request.message).await?;
        let mut read = 0;
        for message in &answered.messages {
            read += self.count(request, message);
        }
        self.count_least(request, read, &answered.status);
        Ok(answered)
    }

    fn count(&self, request: &Request, message: &Bytes) -> u64 {
        let read = reads(request.method, message);
        self.shared.count(|counts| {
            counts.read(request.method, read);
            note_applied(request, message, counts);
        });
        read
    }

    /// A call that was carried out costs something even if it found nothing.
    fn count_least(&self, request: &Request, read: u64, status: &HeaderMap) {
        let least = least_reads(request.method);
        if is_ok(status) && read < least {
            self.shared
                .count(|counts| counts.read(request.method, least - read));
        }
    }

    async fn unary(&mut self, message: &Bytes) -> Result<(), h2::Error> {
        let mut open = self.respond.send_response(response(HeaderMap::new()), false)?;
        send(&mut open, framed(message)).await?;
        open.send_trailers(ok())
    }

    fn pass(&mut self, status: HeaderMap) -> Result<(), h2::Error> {
        self.respond.send_response(response(status), true).map(drop)
    }

    /// Ends the call, whose answer has begun if `open`.
    async fn end(
        &mut self,
        request: &Request,
        end: &End,
        open: Option<SendStream<Bytes>>,
    ) -> Result<(), h2::Error> {
        match end {
            End::Status(failure) => {
                self.shared.failing(request.method, failure);
                match open {
                    Some(mut open) => open.send_trailers(status(failure))?,
                    None => self.pass(status(failure))?,
                }
            }
            End::Reset => {
                flush().await;
                match open {
                    Some(mut open) => open.send_reset(Reason::INTERNAL_ERROR),
                    None => self.respond.send_reset(Reason::INTERNAL_ERROR),
                }
            }
            End::Closed => {
                flush().await;
                self.fate.send_replace(Fate::Closed);
            }
            End::SilentConnection => {
                flush().await;
                self.fate.send_replace(Fate::Silent);
            }
            End::Silence => {
                match open {
                    Some(mut open) => poll_fn(|context| open.poll_reset(context)).await?,
                    None => poll_fn(|context| self.respond.poll_reset(context)).await?,
                };
            }
            End::Stopped => {
                flush().await;
                self.shared.stop();
            }
        }
        Ok(())
    }
}

/// Forwards one message and takes the whole answer.
pub(super) async fn whole(
    upstream: &Upstream,
    head: &Parts,
    path: &str,
    message: &Bytes,
) -> Result<Answered, Gone> {
    let (parts, body) = upstream.send(head, path, message).await?.into_parts();
    let mut answered = Answered {
        messages: Vec::new(),
        status: parts.headers,
    };
    if !body.is_end_stream() {
        let mut frames = Frames::of(body);
        while let Some(message) = frames.next().await? {
            answered.messages.push(message);
        }
        answered.status = frames.trailers().await?;
    }
    Ok(answered)
}

/// Lets the connection's task write what was sent: h2 has no other way to wait for that.
async fn flush() {
    for _ in 0..TURNS_TO_FLUSH {
        tokio::task::yield_now().await;
    }
}

fn is_ok(status: &HeaderMap) -> bool {
    status.get("grpc-status").is_some_and(|code| code == "0")
}

fn response(headers: HeaderMap) -> Response<()> {
    let mut response = Response::new(());
    *response.status_mut() = StatusCode::OK;
    *response.headers_mut() = headers;
    response
        .headers_mut()
        .insert("content-type", HeaderValue::from_static("application/grpc"));
    response
}

fn ok() -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert("grpc-status", HeaderValue::from_static("0"));
    headers
}

fn status(failure: &Failure) -> HeaderMap {
    let value = |text: String| HeaderValue::try_from(text).expect("plain text");
    let mut headers = HeaderMap::new();
    headers.insert("grpc-status", HeaderValue::from(failure.code()));
    headers.insert("grpc-message", value(escaped(&failure.message())));
    if failure.delay().is_some() {
        let details = STANDARD_NO_PAD.encode(failure.status().encode_to_vec());
        headers.insert("grpc-status-details-bin", value(details));
    }
    headers
}

/// A message as a header has it: percent-encoded but for what is plain.
/// Source: <https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>.
fn escaped(message: &str) -> String {
    let mut escaped = String::with_capacity(message.len());
    for octet in message.bytes() {
        match octet {
            b'%' | ..b' ' | b'\x7f'.. => escaped.push_str(&format!("%{octet:02X}")),
            plain => escaped.push(char::from(plain)),
        }
    }
    escaped
}
