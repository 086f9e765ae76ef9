//! Which collections there are, with fields, types and counts.
//!
//! One query over all documents, ordered by name and without a kind, finds also what is below missing documents, and sees
//! every value on its way (`everything`). Collections that are asked for by name are looked through alone (`named`).
//! `survey` keeps what was seen of one collection: `tally` of its fields, `bounds` places to divide at; `ancestors` knows
//! which parents are missing, `shape` makes schemas, `catalog` answers, `growth` finds the fields that a sample did not have.

mod ancestors;
mod bounds;
mod catalog;
mod everything;
mod growth;
mod named;
#[cfg(test)]
mod on_emulator;
mod shape;
mod survey;
mod tally;

use std::cell::Cell;
use std::sync::Arc;

use gcloud_sdk::prost_types::Timestamp;
use whimbrel_plugin_api::{CollectionsRequest, Result, Schema, Services};

pub(crate) use catalog::announce;
pub(crate) use growth::grow;

use crate::client::Client;
use crate::config::FirestoreConfig;
use crate::path::Pattern;
use crate::read::{Documents, Scan, Scope};

/// Documents between two looks at the canceller, and two lines of progress.
const TICK_DOCUMENTS: u64 = 1_000;

/// A collection that was found.
#[derive(Debug, Clone)]
pub(crate) struct Discovered {
    pub(crate) pattern: Pattern,
    /// Its key fields come first. Without fields if only names were wanted.
    pub(crate) schema: Arc<Schema>,
    pub(crate) key: Vec<String>,
    /// Documents, if they were counted.
    pub(crate) record_count: Option<u64>,
    /// Whether the count is of its documents alone, and not of all that its query meets.
    pub(crate) is_count_exact: bool,
    /// Octets of the documents, about, if they were all looked at.
    pub(crate) size_bytes: Option<u64>,
    /// Documents whose parent is missing, if they and their parents were all looked at.
    pub(crate) orphan_count: Option<u64>,
    /// Paths of documents that divide it into parts of equal size, in order; empty if it is not known well enough.
    pub(crate) bounds: Vec<String>,
    /// Document reads that this took. Those of a look at everything that belong to no collection are the first one's; those for
    /// names that are not there are nobody's.
    pub(crate) reads: u64,
    /// Document reads of reading all of it once.
    pub(crate) read_units: u64,
    /// Whether some of it was seen as of a later instant than was asked for, since that one could no longer be read: then counts are no
    /// counts of one instant.
    pub(crate) has_moved: bool,
    /// Document reads of counting it; 0 if its query may find others too, so that it cannot be counted.
    pub(crate) count_units: u64,
}

/// Looks at the database as of `read_time`. See [`CollectionsRequest`] for what is asked.
///
/// Without names, all collections are found, at the price of one read per document, and described whether or not schemas are
/// wanted; groups are not among them, since each of their documents is in a collection of the answer already. Names that have
/// no document, or can have none, are left out. Parents come before children.
///
/// # Errors
/// `firestore.too_many_fields` and `firestore.reserved_field` for what cannot be described, if schemas are wanted (else such a
/// collection has none); `firestore.too_many_collections`; what reading brings.
pub(crate) async fn discover(
    client: &Client,
    config: &FirestoreConfig,
    services: &Services,
    request: &CollectionsRequest,
    read_time: Timestamp,
) -> Result<Vec<Discovered>> {
    let look = Look {
        client,
        config,
        services,
        read_time: Cell::new(read_time),
        schemas: request.schemas,
    };
    if request.names.is_empty() {
        everything::look(&look).await
    } else {
        named::look(&look, &request.names).await
    }
}

/// What does not change within one call.
struct Look<'call> {
    client: &'call Client,
    config: &'call FirestoreConfig,
    services: &'call Services,
    /// The instant that was asked for, or the one at which the look has gone on after that.
    read_time: Cell<Timestamp>,
    schemas: bool,
}

impl Look<'_> {
    fn open(&self, scope: Scope, fields: Option<Vec<String>>, limit: Option<u64>) -> Documents {
        let scan = Scan {
            scope,
            from: None,
            to: None,
            after: None,
            fields,
            limit,
            read_time: Some(self.read_time.get()),
            page_documents_max: self.config.page_documents_max,
        };
        Documents::open_kept(self.client, self.config, scan, self.services)
    }

    /// Goes on as of the instant at which `documents`, read to their end, had to be read; whether that is another one.
    fn follow(&self, documents: &Documents) -> bool {
        let before = self.read_time.get();
        let read_time = documents.read_time().unwrap_or(before);
        self.read_time.set(read_time);
        read_time != before
    }
}

/// Tells the program how far a long look is, and ends it when it should.
struct Watch<'call> {
    services: &'call Services,
    looked_at: u64,
}

impl<'call> Watch<'call> {
    fn new(services: &'call Services) -> Self {
        Self {
            services,
            looked_at: 0,
        }
    }

    /// One more document.
    fn tick(&mut self) -> Result<()> {
        self.looked_at += 1;
        if self.looked_at.is_multiple_of(TICK_DOCUMENTS) {
            self.services.check_cancelled()?;
            self.tell(None);
        }
        Ok(())
    }

    /// That was all. Of a short look there was nothing to tell.
    fn end(&self) {
        if self.looked_at >= TICK_DOCUMENTS {
            self.tell(Some(self.looked_at));
        }
    }

    fn tell(&self, total: Option<u64>) {
        self.services
            .progress("documents looked at", self.looked_at, total);
    }
}
