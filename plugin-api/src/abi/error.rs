//! How requests, replies and errors cross: as JSON messages of the types that this crate defines.
//!
//! Control calls are few, so their cost does not matter, and JSON can grow in both directions: members that the
//! receiver does not know are ignored, members that are missing have defaults. Records never cross this way.

use abi_stable::StableAbi;
use abi_stable::std_types::{RResult, RVec};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{Error, Result};

/// A message lent for the duration of one call.
#[repr(C)]
#[derive(StableAbi, Clone, Copy)]
pub struct Request {
    data: *const u8,
    length: usize,
}

/// The answer to a control call: a message, or an [`Error`] as a message.
pub type Reply = RResult<RVec<u8>, RVec<u8>>;

impl Request {
    /// Lends `octets`.
    pub(crate) fn lend(octets: &[u8]) -> Self {
        Self {
            data: octets.as_ptr(),
            length: octets.len(),
        }
    }

    /// The octets, for the duration of the call that brought them.
    fn octets(&self) -> &[u8] {
        if self.data.is_null() || self.length == 0 {
            return &[];
        }
        // SAFETY: the caller of the boundary owns `length` octets at `data` and keeps them until the call returns
        // (ABI.md, "Ownership"); the borrow of `self` does not outlive the call.
        unsafe { std::slice::from_raw_parts(self.data, self.length) }
    }

    /// Reads the message.
    pub(crate) fn read<T: DeserializeOwned>(&self) -> Result<T> {
        decode(self.octets())
    }
}

/// Writes a message.
pub(crate) fn encode<T: Serialize + ?Sized>(message: &T) -> Result<Vec<u8>> {
    serde_json::to_vec(message)
        .map_err(|error| Error::internal("a message could not be written").with_cause(&error))
}

/// Reads a message.
pub(crate) fn decode<T: DeserializeOwned>(octets: &[u8]) -> Result<T> {
    serde_json::from_slice(octets).map_err(|error| {
        Error::internal("a message of the other side could not be read")
            .with_help("host and plugin were built with plugin APIs that differ more than their versions say")
            .with_cause(&error)
    })
}

/// Turns an outcome into a reply.
pub(crate) fn reply<T: Serialize>(outcome: Result<T>) -> Reply {
    match outcome.and_then(|message| encode(&message)) {
        Ok(octets) => RResult::ROk(octets.into()),
        Err(error) => RResult::RErr(encode_error(&error)),
    }
}

/// An error as a message. What cannot be written is replaced by a fixed one.
pub(crate) fn encode_error(error: &Error) -> RVec<u8> {
    encode(error)
        .unwrap_or_else(|_| {
            br#"{"kind":13,"code":"plugin.internal","message":"an error could not be written"}"#.to_vec()
        })
        .into()
}

/// The error of a message.
pub(crate) fn decode_error(octets: &[u8]) -> Error {
    decode(octets).unwrap_or_else(|error| error)
}

/// Reads a reply.
pub(crate) fn read_reply<T: DeserializeOwned>(reply: Reply) -> Result<T> {
    match reply {
        RResult::ROk(octets) => decode(&octets),
        RResult::RErr(octets) => Err(decode_error(&octets)),
    }
}
