//! Messages on the wire: five octets of length before each, in HTTP/2 data of any size.
//!
//! Not here: what messages mean (`messages`).

use std::future::poll_fn;

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use h2::{RecvStream, SendStream};
use http::HeaderMap;

/// A flag for compression, of which none is offered, and the length.
const PREFIX_BYTES: usize = 5;

/// A message with its prefix.
pub(super) fn framed(message: &[u8]) -> Bytes {
    let mut frame = BytesMut::with_capacity(PREFIX_BYTES + message.len());
    frame.put_u8(0);
    frame.put_u32(u32::try_from(message.len()).expect("a message of a test is below 4 GiB"));
    frame.put_slice(message);
    frame.freeze()
}

/// Messages as they come.
pub(super) struct Frames {
    stream: RecvStream,
    buffer: BytesMut,
}

impl Frames {
    pub(super) fn of(stream: RecvStream) -> Self {
        Self {
            stream,
            buffer: BytesMut::new(),
        }
    }

    /// The next message, without its prefix.
    ///
    /// # Errors
    /// The connection's, or the stream's reset.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, h2::Error> {
        loop {
            if let Some(message) = self.take() {
                return Ok(Some(message));
            }
            let Some(data) = self.stream.data().await else {
                assert!(self.buffer.is_empty(), "a message ends early");
                return Ok(None);
            };
            let data = data?;
            self.stream.flow_control().release_capacity(data.len())?;
            self.buffer.extend_from_slice(&data);
        }
    }

    /// What follows the last message.
    ///
    /// # Errors
    /// As [`Frames::next`].
    pub(super) async fn trailers(&mut self) -> Result<HeaderMap, h2::Error> {
        Ok(self.stream.trailers().await?.unwrap_or_default())
    }

    fn take(&mut self) -> Option<Bytes> {
        let mut prefix = self.buffer.get(..PREFIX_BYTES)?;
        assert_eq!(prefix.get_u8(), 0, "the layer reads no compressed messages");
        let end = PREFIX_BYTES + prefix.get_u32() as usize;
        if self.buffer.len() < end {
            return None;
        }
        let mut frame = self.buffer.split_to(end);
        frame.advance(PREFIX_BYTES);
        Some(frame.freeze())
    }
}

/// Sends data as fast as the receiver takes it.
///
/// # Errors
/// If the receiver does not want it any more.
pub(super) async fn send(stream: &mut SendStream<Bytes>, mut data: Bytes) -> Result<(), h2::Error> {
    while !data.is_empty() {
        stream.reserve_capacity(data.len());
        let Some(capacity) = poll_fn(|context| stream.poll_capacity(context)).await else {
            // The stream has ended; what made it end is an error of the next call.
            return stream.send_data(Bytes::new(), false);
        };
        let part = data.split_to(capacity?.min(data.len()));
        stream.send_data(part, false)?;
    }
    Ok(())
}
