//! Where the documents of a stream come from: a scan, or a lookup.
//!
//! Neighbours: `stream`, which makes records of them; `scan` and `lookup`, which fetch them.

use std::time::Instant;

use gcloud_sdk::google::firestore::v1::Document;
use gcloud_sdk::prost_types::Timestamp;
use whimbrel_plugin_api::{Result, Services};

use crate::client::Client;

use super::lookup::Lookup;
use super::scan::{Documents, Scan};
use super::snapshot::AsOf;

/// Documents, one after another.
pub(super) enum Course {
    Scan(Box<Scanning>),
    Lookup(Box<Lookup>),
}

/// A scan, and what is needed to go on where a limit ended it.
pub(super) struct Scanning {
    documents: Documents,
    scan: Scan,
    as_of: AsOf,
    /// Documents that came.
    count: u64,
}

impl Course {
    /// `documents` are those of `scan`, read as of `as_of`.
    pub(super) fn scan(documents: Documents, scan: Scan, as_of: AsOf) -> Self {
        Self::Scan(Box::new(Scanning {
            documents,
            scan,
            as_of,
            count: 0,
        }))
    }

    pub(super) fn lookup(lookup: Lookup) -> Self {
        Self::Lookup(Box::new(lookup))
    }

    pub(super) fn is_scan(&self) -> bool {
        matches!(self, Self::Scan(_))
    }

    /// The next document with its path; `None` at the end.
    pub(super) async fn next(&mut self) -> Result<Option<(String, Document)>> {
        match self {
            Self::Lookup(lookup) => lookup.next().await,
            Self::Scan(scanning) => {
                let next = scanning.documents.next().await?;
                scanning.count += u64::from(next.is_some());
                Ok(next)
            }
        }
    }

    /// Goes on for `limit` further documents behind the path `after`; `false` if it was not a limit that ended it.
    pub(super) fn go_on(
        &mut self,
        client: &Client,
        services: &Services,
        after: Option<&str>,
        limit: Option<u64>,
    ) -> bool {
        let Self::Scan(scanning) = self else { return false };
        if scanning.scan.limit != Some(scanning.count) {
            return false;
        }
        scanning.count = 0;
        scanning.scan.after = after.map(str::to_owned);
        scanning.scan.limit = limit;
        if let Some(read_time) = scanning.documents.read_time() {
            scanning.as_of.go_on_at(read_time, Instant::now());
        }
        scanning.documents =
            Documents::open_as_of(client, scanning.scan.clone(), services, scanning.as_of.clone());
        true
    }

    /// As of when the last documents were read.
    pub(super) fn read_time(&self) -> Option<Timestamp> {
        match self {
            Self::Scan(scanning) => scanning.documents.read_time(),
            Self::Lookup(lookup) => lookup.read_time(),
        }
    }
}
