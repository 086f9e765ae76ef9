//! What a test is told: calls, document reads as the service bills them, writes sent and applied.
//!
//! Reads are those of answers that the layer got, also if it then lost them, since the service bills what it did; but not of
//! documents behind a cut.
//! Rules of counting: <https://cloud.google.com/firestore/pricing>. Neighbour: `messages` reads requests and answers.

use std::collections::BTreeMap;

use super::messages::Request;
use super::script::Method;

/// What has been counted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts {
    /// Calls by method, whatever became of them.
    pub calls: BTreeMap<Method, u64>,
    /// Document reads by method.
    pub reads_by_method: BTreeMap<Method, u64>,
    /// Statuses that the script made, by name; those of single writes too.
    pub failures: BTreeMap<&'static str, u64>,
    /// How often a write of each document came, by its full name.
    pub sent: BTreeMap<String, u64>,
    /// How often a write of each document was carried out, by its full name.
    pub applied: BTreeMap<String, u64>,
    /// The documents of each request that writes, as paths, in the order of their arrival.
    pub write_requests: Vec<Vec<String>>,
    /// Octets of the largest request.
    pub request_bytes_max: usize,
    /// Writes of the largest request.
    pub request_writes_max: usize,
    /// The most calls that were under way at the same time.
    pub in_flight_max: usize,
    /// Calls that came earlier than the last status of their method had asked for.
    pub early: u64,
    /// Connections taken.
    pub connections: u64,
}

impl Counts {
    /// Calls of a method.
    pub fn calls(&self, method: Method) -> u64 {
        self.calls.get(&method).copied().unwrap_or_default()
    }

    /// Document reads of all methods.
    pub fn reads(&self) -> u64 {
        self.reads_by_method.values().sum()
    }

    /// How often a write of the document at `path` came.
    pub fn sent(&self, path: &str) -> u64 {
        times(&self.sent, path)
    }

    /// How often a write of the document at `path` was carried out.
    pub fn applied(&self, path: &str) -> u64 {
        times(&self.applied, path)
    }

    /// How many documents below `collection`, such as `users`, were written, and how often the one that was written most often.
    pub fn applied_below(&self, collection: &str) -> (usize, u64) {
        extent(&self.applied, collection)
    }

    /// How many documents below `collection` were sent, and how often the one that was sent most often.
    pub fn sent_below(&self, collection: &str) -> (usize, u64) {
        extent(&self.sent, collection)
    }

    pub(super) fn arrived(&mut self, request: &Request, in_flight: usize) {
        *self.calls.entry(request.method).or_default() += 1;
        self.request_bytes_max = self.request_bytes_max.max(request.bytes);
        self.in_flight_max = self.in_flight_max.max(in_flight);
        if request.is_write() {
            self.request_writes_max = self.request_writes_max.max(request.names.len());
            for name in &request.names {
                *self.sent.entry(name.clone()).or_default() += 1;
            }
            let paths = request.names.iter().map(|name| path_of(name).to_owned());
            self.write_requests.push(paths.collect());
        }
    }

    pub(super) fn read(&mut self, method: Method, reads: u64) {
        *self.reads_by_method.entry(method).or_default() += reads;
    }

    pub(super) fn applied_one(&mut self, name: &str) {
        *self.applied.entry(name.to_owned()).or_default() += 1;
    }
}

/// What follows the database in a document's name.
pub(super) fn path_of(name: &str) -> &str {
    name.split_once("/documents/").map_or(name, |(_, path)| path)
}

fn times(counted: &BTreeMap<String, u64>, path: &str) -> u64 {
    let of_path = counted.iter().filter(|(name, _)| path_of(name) == path);
    of_path.map(|(_, times)| times).sum()
}

fn extent(counted: &BTreeMap<String, u64>, collection: &str) -> (usize, u64) {
    let prefix = format!("{collection}/");
    let below = counted
        .iter()
        .filter(|(name, _)| path_of(name).starts_with(&prefix));
    below.fold((0, 0), |(count, most), (_, times)| (count + 1, most.max(*times)))
}
