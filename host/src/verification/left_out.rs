//! Records that the sink has refused and the run has borne: both sides are compared without them. Of those that never came to the sink,
//! since the source or a transform refused them, only the number is known.
//!
//! Known by the digest of their key, or of the whole record where there is no key. Neighbours: [`crate::pipeline`] notes
//! them at the commit that leaves them out, `side` passes over them.

use std::collections::HashMap;

use whimbrel_plugin_api::{Batch, Collection};

use super::digest::{Plan, Rows, Work};
use super::side::Digest;

/// Records of one collection that are known by their digests, 24 octets each; further ones are found to be missing.
const LEFT_OUT_MAX: usize = 1_000_000;

/// The refused records of one collection.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LeftOut {
    digests: HashMap<Digest, u64>,
    count: u64,
    unseen_count: u64,
}

impl LeftOut {
    /// Adds a record of which no digest is known: the source could not read it, or a transform refused it.
    pub fn add_unseen(&mut self) {
        self.unseen_count += 1;
    }

    /// Takes such a one back.
    pub fn remove_unseen(&mut self) {
        self.unseen_count = self.unseen_count.saturating_sub(1);
    }

    /// Those of which no digest is known.
    pub fn unseen_count(&self) -> u64 {
        self.unseen_count
    }

    /// Adds a record.
    pub fn add(&mut self, digest: Digest) {
        self.count += 1;
        let has_room = self.digests.len() < LEFT_OUT_MAX;
        if let Some(count) = self.digests.get_mut(&digest) {
            *count += 1;
        } else if has_room {
            self.digests.insert(digest, 1);
        }
    }

    /// Records in all that are known by their digests.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.digests.is_empty()
    }

    /// The digests by which they are known, in no order.
    pub(super) fn keys(&self) -> impl Iterator<Item = u128> {
        self.digests.keys().map(|digest| u128::from_be_bytes(*digest))
    }

    /// How often a record with this digest was refused.
    pub(super) fn times(&self, key: u128) -> u64 {
        self.digests.get(&key.to_be_bytes()).copied().unwrap_or(0)
    }

    /// Whether a record with this key was refused.
    pub(super) fn has(&self, digest: &Digest) -> bool {
        self.digests.contains_key(digest)
    }

    /// Takes away one of the records that are alike; false if there is none left.
    pub(super) fn take(&mut self, digest: &Digest) -> bool {
        match self.digests.get_mut(digest) {
            Some(count) if *count > 0 => {
                *count -= 1;
                true
            }
            _ => false,
        }
    }
}

/// The digests by which `rows` of a batch are known in a comparison of `collection`. A record whose key has no form is
/// left out of the answer: nobody could compare it either.
pub fn digests(collection: &Collection, batch: &Batch, rows: impl IntoIterator<Item = u64>) -> Vec<Digest> {
    let plan = Plan::new(&collection.schema, &collection.key, &collection.losses);
    let (columns, mut work) = (Rows::new(&plan, batch), Work::default());
    let in_batch = |row: u64| {
        usize::try_from(row)
            .ok()
            .filter(|row| *row < batch.record_count())
    };
    let digest = |row: usize| Some(columns.key(row, &mut work).ok()?.to_be_bytes());
    rows.into_iter().filter_map(in_batch).filter_map(digest).collect()
}
