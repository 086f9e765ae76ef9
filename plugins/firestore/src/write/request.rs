//! Writes on their way into one request: gathered up to what the service takes at once, one of each document.
//!
//! Beside the writes themselves their encoded form is kept, which says how large they are, and from which those that have to be
//! sent again are made: most never are, so nothing else is copied. Neighbours: `flight` says when a request goes, `send` carries it
//! out.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};
use std::ops::Range;
use std::sync::Arc;

use gcloud_sdk::google::firestore::v1::{Value, Write};
use gcloud_sdk::prost::Message;
use whimbrel_plugin_api::{Error, Result};

use super::policy::Policy;

/// Octets of a request beside its writes: the name of the database, and room for what a proxy adds.
const REQUEST_OVERHEAD_BYTES: usize = 1_024;
/// Octets in front of a write: a tag and its length.
const WRITE_OVERHEAD_BYTES: usize = 6;

/// Octets of a piece of encoded writes; a larger write has one of its own.
const PIECE_BYTES: usize = 64 * 1024;

/// The version of a record, where the higher or the lower one wins.
#[derive(Debug, Clone)]
pub(super) struct Version {
    pub(super) field: Arc<str>,
    pub(super) value: Option<Value>,
}

/// A record on its way.
#[derive(Debug)]
pub(super) struct Item {
    /// Its number in the transaction.
    pub(super) number: u64,
    pub(super) path: String,
    pub(super) policy: Policy,
    pub(super) version: Option<Version>,
    /// Whether an attempt was made whose outcome is not known.
    pub(super) is_doubtful: bool,
    /// Where its write is in the encoded form: a piece, and octets in it.
    place: (usize, Range<usize>),
}

impl Item {
    pub(super) fn new(number: u64, path: String, policy: Policy, version: Option<Version>) -> Self {
        Self {
            number,
            path,
            policy,
            version,
            is_doubtful: false,
            place: (0, 0..0),
        }
    }
}

/// Writes that are sent at once.
#[derive(Debug, Default)]
pub(super) struct Request {
    pub(super) items: Vec<Item>,
    /// The writes of the items, in their order.
    pub(super) writes: Vec<Write>,
    pub(super) encoded: Encoded,
    /// The documents of the items.
    pub(super) keys: HashSet<u64>,
}

/// The writes of a request, one behind another in pieces that never move: those of large documents would be copied each time, and
/// leave holes behind.
#[derive(Debug, Default)]
pub(super) struct Encoded {
    pieces: Vec<Vec<u8>>,
    bytes: usize,
}

impl Encoded {
    /// Octets of all of them.
    pub(super) fn len(&self) -> usize {
        self.bytes
    }

    /// Adds a write of so many octets; answers its place.
    fn add(&mut self, write: &Write, bytes: usize) -> (usize, Range<usize>) {
        let has_room = |piece: &Vec<u8>| piece.capacity() - piece.len() >= bytes;
        if !self.pieces.last().is_some_and(has_room) {
            self.pieces.push(Vec::with_capacity(bytes.max(PIECE_BYTES)));
        }
        let index = self.pieces.len() - 1;
        let piece = &mut self.pieces[index];
        let start = piece.len();
        write.encode_raw(piece);
        self.bytes += bytes;
        (index, start..piece.len())
    }

    /// The write of an item.
    ///
    /// # Errors
    /// `plugin.internal` if it is the item of another request.
    pub(super) fn write(&self, item: &Item) -> Result<Write> {
        let (index, place) = item.place.clone();
        let piece = self.pieces.get(index).and_then(|piece| piece.get(place));
        Write::decode(piece.unwrap_or_default())
            .map_err(|error| Error::internal("a write cannot be made anew").with_cause(&error))
    }
}

/// Gathers writes into requests.
#[derive(Debug)]
pub(super) struct Gatherer {
    writes_max: usize,
    bytes_max: usize,
    names: RandomState,
    request: Request,
}

impl Gatherer {
    /// `bytes_max` bounds the whole request; a larger write travels alone.
    pub(super) fn new(writes_max: usize, bytes_max: usize) -> Self {
        Self {
            writes_max,
            bytes_max: bytes_max.saturating_sub(REQUEST_OVERHEAD_BYTES),
            names: RandomState::new(),
            request: Request::default(),
        }
    }

    /// Adds a write. Answers the request that it does not fit into, which is to be sent before any that follows.
    pub(super) fn add(&mut self, mut item: Item, write: Write) -> Option<Request> {
        let size = write.encoded_len();
        let key = self.names.hash_one(&item.path);
        let bytes = self.bytes() + size + WRITE_OVERHEAD_BYTES;
        let has_room = self.request.items.len() < self.writes_max && bytes <= self.bytes_max;
        let full = if self.request.items.is_empty() || (has_room && !self.request.keys.contains(&key)) {
            None
        } else {
            self.take()
        };
        item.place = self.request.encoded.add(&write, size);
        self.request.items.push(item);
        self.request.writes.push(write);
        self.request.keys.insert(key);
        full
    }

    /// The request so far, if there is anything in it.
    pub(super) fn take(&mut self) -> Option<Request> {
        (!self.request.items.is_empty()).then(|| std::mem::take(&mut self.request))
    }

    /// Forgets the request so far.
    pub(super) fn clear(&mut self) {
        self.request = Request::default();
    }

    fn bytes(&self) -> usize {
        self.request.encoded.len() + self.request.items.len() * WRITE_OVERHEAD_BYTES
    }
}

#[cfg(test)]
mod tests {
    use gcloud_sdk::google::firestore::v1::write::Operation;

    use super::*;

    fn add(gatherer: &mut Gatherer, path: &str) -> Option<Vec<String>> {
        let write = Write {
            operation: Some(Operation::Delete(path.to_owned())),
            ..Write::default()
        };
        let item = Item::new(0, path.to_owned(), Policy::DELETE, None);
        gatherer.add(item, write).map(paths)
    }

    fn paths(request: Request) -> Vec<String> {
        let decoded: Vec<Write> = request
            .items
            .iter()
            .map(|item| request.encoded.write(item).unwrap())
            .collect();
        assert_eq!(decoded, request.writes);
        request.items.into_iter().map(|item| item.path).collect()
    }

    #[test]
    fn a_request_ends_at_its_count_its_size_and_the_second_write_of_a_document() {
        let mut gatherer = Gatherer::new(3, 100_000);
        for path in ["a/1", "a/2", "a/3"] {
            assert_eq!(add(&mut gatherer, path), None);
        }
        assert_eq!(add(&mut gatherer, "a/4").unwrap(), ["a/1", "a/2", "a/3"]);
        assert_eq!(add(&mut gatherer, "a/5"), None);
        assert_eq!(add(&mut gatherer, "a/4").unwrap(), ["a/4", "a/5"]);
        assert_eq!(paths(gatherer.take().unwrap()), ["a/4"]);
        assert!(gatherer.take().is_none());

        let long = |number: u32| format!("a/{number}{}", "x".repeat(1_000));
        let mut gatherer = Gatherer::new(500, REQUEST_OVERHEAD_BYTES + 3_100);
        for number in 0..3 {
            assert_eq!(add(&mut gatherer, &long(number)), None);
        }
        assert_eq!(add(&mut gatherer, &long(3)).unwrap().len(), 3);
        let huge = "x".repeat(5_000);
        assert_eq!(add(&mut gatherer, &huge).unwrap(), [long(3)]);
        assert_eq!(add(&mut gatherer, "a/1").unwrap(), [huge]);
    }
}
