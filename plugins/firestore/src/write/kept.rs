//! Records that are kept until their commit: nothing of them is sent before it.
//!
//! What is there already decides about some of them, as the policy says: that is looked at when they come, and the write has the
//! condition that it still is so. What the service has refused before is rejected when it comes again. Neighbours: `stored` and
//! `policy` decide, `lane_commit` sends.

use std::collections::HashMap;
use std::ops::Range;

use gcloud_sdk::google::firestore::v1::{Document, Write};
use gcloud_sdk::prost::Message as _;
use whimbrel_plugin_api::{Error, Result};

use super::digest::Digest;
use super::lanes::Limits;
use super::look::{is_same, look};
use super::policy::{self, Meaning, Policy, Rule};
use super::request::{Item, Version};
use super::stored::{Choice, NAME_PATH, choose};
use super::version;
use crate::client::Client;
use crate::error::RowFault;
use crate::read::field_path;

/// Documents of one look.
pub(super) const LOOKS_PER_REQUEST: usize = 500;

/// A record that comes.
#[derive(Debug)]
pub(super) struct Coming {
    /// Its row in the write.
    pub(super) row: usize,
    pub(super) path: String,
    pub(super) document: Document,
    pub(super) version: Option<Version>,
}

/// What has become of the records of a write.
#[derive(Debug, Default)]
pub(super) struct Offered {
    pub(super) accepted: u64,
    pub(super) skipped: u64,
    pub(super) rejected: Vec<(usize, String, RowFault)>,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Kept {
    entries: Vec<Entry>,
    bytes: usize,
    /// The last record of each document.
    last: HashMap<String, usize>,
    /// Whether documents may be there that an earlier attempt at this commit has written.
    is_doubtful: bool,
    /// Whether records were decided about as if there were none.
    is_certain: bool,
    /// Records that the service has refused, by their digests: before, and at this commit.
    refused: Refusals,
    /// How many are refused at this commit, and why the first of them is.
    refused_now: Option<(usize, RowFault)>,
}

/// Why records were refused, by their digests.
pub(super) type Refusals = HashMap<Vec<u8>, RowFault>;

#[derive(Debug)]
struct Entry {
    /// The write: once here, and a second time only while it is sent.
    encoded: Vec<u8>,
    version: Option<Version>,
    /// Whether the document is gone with it.
    is_removal: bool,
}

impl Entry {
    /// Octets in a request.
    fn bytes(&self) -> usize {
        self.encoded.len() + Limits::WRITE_OVERHEAD_BYTES
    }

    fn write(&self) -> Result<Write> {
        Write::decode(&self.encoded[..])
            .map_err(|error| Error::internal("a write cannot be made anew").with_cause(&error))
    }
}

/// What becomes of a record.
enum Fate {
    Write(Write),
    /// It takes the place of an earlier one of the same transaction.
    Replace(usize, Document),
    Skip,
    /// The document is the record's own, from an earlier attempt.
    Ours,
    Reject(RowFault),
}

impl Kept {
    /// `refused`: what the service has refused at an earlier attempt.
    pub(super) fn new(is_doubtful: bool, refused: Refusals) -> Self {
        Self {
            is_doubtful,
            refused,
            ..Self::default()
        }
    }

    /// What the service has refused by now.
    pub(super) fn into_refused(self) -> Refusals {
        self.refused
    }

    /// Whether the service has refused some at this commit.
    pub(super) fn has_refused(&self) -> bool {
        self.refused_now.is_some()
    }

    /// How many the service has refused at this commit, and why the first of them.
    pub(super) fn refused_now(&self) -> Option<&(usize, RowFault)> {
        self.refused_now.as_ref()
    }

    /// Whether a record was taken for that of others although it may be the run's own, as the lane is now known.
    pub(super) fn is_misjudged(&self, is_doubtful: bool) -> bool {
        self.is_certain && is_doubtful
    }

    /// Takes out a record that the service does not take.
    ///
    /// # Errors
    /// `error` if it is a removal, which is nothing that could be rejected.
    pub(super) fn refuse(&mut self, index: usize, error: Error) -> Result<()> {
        if index >= self.entries.len() || self.entries[index].is_removal {
            return Err(error);
        }
        let write = self.entries[index].write()?;
        let entry = self.entries.remove(index);
        self.bytes = self.bytes.saturating_sub(entry.bytes());
        let fault = policy::refused(&error);
        self.refused_now.get_or_insert_with(|| (0, fault.clone())).0 += 1;
        self.refused.insert(Digest::of(&write), fault);
        Ok(())
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Octets of all writes in requests.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Decides about the records of a write, and keeps those that are to be written.
    ///
    /// # Errors
    /// What looking brings; then some may be kept.
    pub(super) async fn offer(
        &mut self,
        client: &Client,
        policy: Policy,
        coming: Vec<Coming>,
    ) -> Result<Offered> {
        let mut offered = Offered::default();
        let mut rest = coming.into_iter();
        loop {
            let some: Vec<Coming> = rest.by_ref().take(LOOKS_PER_REQUEST).collect();
            if some.is_empty() {
                return Ok(offered);
            }
            let stored = self.look_at(client, policy, &some).await?;
            for one in some {
                let stored = stored.get(&client.root().document(&one.path));
                let (row, path) = (one.row, one.path.clone());
                match self.take(policy, one, stored) {
                    Ok(is_skipped) => {
                        offered.accepted += 1;
                        offered.skipped += u64::from(is_skipped);
                    }
                    Err(fault) => offered.rejected.push((row, path, fault)),
                }
            }
        }
    }

    /// The documents that decide about the records.
    async fn look_at(
        &self,
        client: &Client,
        policy: Policy,
        coming: &[Coming],
    ) -> Result<HashMap<String, Document>> {
        let mut stored = HashMap::new();
        if !policy.depends_on_stored() {
            return Ok(stored);
        }
        let unknown = coming.iter().filter(|one| !self.last.contains_key(&one.path));
        let names: Vec<String> = unknown.map(|one| client.root().document(&one.path)).collect();
        let mask = match &coming[0].version {
            // Whether a document is ours shows in all of it.
            _ if policy.makes_only() && self.is_doubtful => None,
            Some(version) => Some(vec![field_path(&version.field)]),
            None => Some(vec![NAME_PATH.to_owned()]),
        };
        if !names.is_empty() {
            look(client, names, mask, |document| {
                stored.insert(document.name.clone(), document);
            })
            .await?;
        }
        Ok(stored)
    }

    /// Keeps a record unless it is decided otherwise. Answers whether it is left out as the policy wants it.
    fn take(&mut self, policy: Policy, coming: Coming, stored: Option<&Document>) -> Result<bool, RowFault> {
        let Coming {
            path,
            document,
            version,
            ..
        } = coming;
        if self.is_removed(&path) {
            // Whatever was there is not any more when this comes to be written.
            if policy.needs_document {
                return Err(policy::missing());
            }
            let write = Policy::REPLACE.write(document);
            self.known_good(&write)?;
            self.keep(path, &write, version, false);
            return Ok(false);
        }
        let fate = self.decide(policy, &path, document, version.as_ref(), stored);
        let is_left_out = matches!(fate, Fate::Skip | Fate::Reject(_));
        self.is_certain |= is_left_out && stored.is_some() && !self.is_doubtful;
        match fate {
            Fate::Reject(fault) => Err(fault),
            Fate::Skip => Ok(true),
            Fate::Ours => Ok(false),
            Fate::Write(write) => {
                self.known_good(&write)?;
                self.keep(path, &write, version, false);
                Ok(false)
            }
            Fate::Replace(index, document) => {
                // What it wants of the document that is there stays.
                let earlier = self.entries[index].write().ok();
                let write = Write {
                    current_document: earlier.and_then(|write| write.current_document),
                    ..policy.write(document)
                };
                self.known_good(&write)?;
                let entry = &mut self.entries[index];
                let encoded = write.encode_to_vec();
                self.bytes = self.bytes + encoded.len() - entry.encoded.len();
                *entry = Entry {
                    encoded,
                    version,
                    is_removal: false,
                };
                Ok(false)
            }
        }
    }

    /// # Errors
    /// Why the service has refused it before.
    fn known_good(&self, write: &Write) -> Result<(), RowFault> {
        if self.refused.is_empty() {
            return Ok(());
        }
        self.refused.get(&Digest::of(write)).cloned().map_or(Ok(()), Err)
    }

    /// Whether a write of the document is kept.
    pub(super) fn has_entry(&self, path: &str) -> bool {
        self.last.contains_key(path)
    }

    /// Whether the last write of the document removes it.
    pub(super) fn is_removed(&self, path: &str) -> bool {
        let last = self.last.get(path).and_then(|index| self.entries.get(*index));
        last.is_some_and(|entry| entry.is_removal)
    }

    /// Keeps a write that removes a document.
    pub(super) fn keep_removal(&mut self, path: String, write: &Write) {
        self.keep(path, write, None, true);
    }

    fn keep(&mut self, path: String, write: &Write, version: Option<Version>, is_removal: bool) {
        let entry = Entry {
            encoded: write.encode_to_vec(),
            version,
            is_removal,
        };
        self.bytes += entry.bytes();
        self.last.insert(path, self.entries.len());
        self.entries.push(entry);
    }

    fn decide(
        &self,
        policy: Policy,
        path: &str,
        document: Document,
        version: Option<&Version>,
        stored: Option<&Document>,
    ) -> Fate {
        let earlier = self.last.get(path);
        match policy.rule {
            Rule::Create { .. } => match (earlier, stored) {
                (None, None) => Fate::Write(policy.write(document)),
                (None, Some(stored)) if self.is_doubtful && is_same(&document.fields, &stored.fields) => {
                    Fate::Ours
                }
                _ => match policy.existing() {
                    Meaning::Rejected(fault) => Fate::Reject(fault),
                    _ => Fate::Skip,
                },
            },
            Rule::Newest | Rule::Oldest => match (version, earlier) {
                (Some(version), Some(index)) => self.against_earlier(policy, *index, version, document),
                (Some(version), None) => {
                    let mut item = Item::new(0, path.to_owned(), policy, None);
                    item.is_doubtful = self.is_doubtful;
                    match choose(&item, version, stored) {
                        Choice::Write(condition) => Fate::Write(Write {
                            current_document: Some(policy::condition(condition)),
                            ..policy.write(document)
                        }),
                        Choice::Skip => Fate::Skip,
                        Choice::Ours => Fate::Ours,
                        Choice::Reject(fault) => Fate::Reject(fault),
                    }
                }
                (None, _) => Fate::Write(policy.write(document)),
            },
            Rule::Replace | Rule::Merge | Rule::Delete
                if policy.needs_document && earlier.is_none() && stored.is_none() =>
            {
                Fate::Reject(policy::missing())
            }
            Rule::Replace | Rule::Merge | Rule::Delete => Fate::Write(policy.write(document)),
        }
    }

    /// Of two records of one document in the same transaction, the one that wins is written.
    fn against_earlier(&self, policy: Policy, index: usize, version: &Version, document: Document) -> Fate {
        let earlier = self.entries[index].version.as_ref();
        let held = earlier.and_then(|version| version.value.as_ref());
        match version::wins(policy.rule, version.value.as_ref(), held) {
            Some(true) => Fate::Replace(index, document),
            Some(false) => Fate::Skip,
            None => Fate::Reject(policy::not_comparable(&version.field)),
        }
    }

    /// Up to which write a request goes that begins at `start`: as many as fit.
    pub(super) fn fitting(&self, start: usize, writes_max: usize, bytes_max: usize) -> usize {
        let mut bytes = 0;
        let fits = |entry: &&Entry| {
            bytes += entry.bytes();
            bytes <= bytes_max
        };
        let rest = self.entries[start..].iter().take(writes_max);
        start + rest.take_while(fits).count()
    }

    /// Octets of a range in a request.
    pub(super) fn bytes_of(&self, range: Range<usize>) -> usize {
        let entries = self.entries.get(range).unwrap_or_default();
        entries.iter().map(Entry::bytes).sum()
    }

    /// The writes of a range.
    ///
    /// # Errors
    /// `plugin.internal`, which is a defect.
    pub(super) fn writes(&self, range: Range<usize>) -> impl Iterator<Item = Result<Write>> {
        let entries = self.entries.get(range).unwrap_or_default().iter();
        entries.map(Entry::write)
    }
}
