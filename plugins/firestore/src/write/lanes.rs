//! The lanes of a session: which of them it holds, as far as is known, and how they are taken over.
//!
//! The documents are the truth; what is kept here saves reading them before each commit, and a condition on the document finds out
//! where it is out of date. Neighbours: `lane_document` knows their form, `lane_commit` commits, `sending` notes what is sent before.

use std::collections::{HashMap, HashSet};

use gcloud_sdk::google::firestore::v1::{CommitRequest, Document, Write};
use gcloud_sdk::prost::Message as _;
use gcloud_sdk::prost_types::Timestamp;
use gcloud_sdk::tonic::Status;
use whimbrel_plugin_api::sink::{LaneClaim, LaneId, LaneState};
use whimbrel_plugin_api::{Cursor, Result};

use super::lane_document::{self, Change, Stored};
use super::look::look;
use super::sending::Sending;
use crate::client::Client;
use crate::error::{Class, Fault};

/// Documents of one request that reads: far below what a request may be, with names of a hundred octets.
const LOOKS_PER_REQUEST: usize = 300;

/// What one request takes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) writes_max: usize,
    pub(super) bytes_max: usize,
}

impl Limits {
    /// Octets in front of a write: a tag and its length.
    pub(super) const WRITE_OVERHEAD_BYTES: usize = 6;

    /// Octets of some writes in a request.
    pub(super) fn bytes(writes: &[Write]) -> usize {
        let size = |write: &Write| write.encoded_len() + Self::WRITE_OVERHEAD_BYTES;
        writes.iter().map(size).sum()
    }
}

/// See the module.
pub(crate) struct Lanes {
    pub(super) client: Client,
    pub(super) limits: Limits,
    /// What a lane that starts anew says.
    pub(super) sending: Sending,
    /// Octets of the records of a request, by what the service has refused as too large.
    pub(super) records_bytes_max: usize,
    /// As they were last seen, without their cursors.
    pub(super) known: HashMap<LaneId, Stored>,
    /// Requests that carried commits.
    pub(super) request_count: u64,
}

/// A lane that a call is granted.
struct Granted {
    lane: LaneId,
    stored: Stored,
    /// What makes it so; the lane's document is the first.
    writes: Vec<Write>,
}

impl Lanes {
    pub(super) fn new(client: Client, limits: Limits, sending: Sending) -> Self {
        Self {
            client,
            limits,
            sending,
            records_bytes_max: usize::MAX,
            known: HashMap::new(),
            request_count: 0,
        }
    }

    /// Takes lanes over, all of them or none; see [`whimbrel_plugin_api::Sink::take_over`].
    ///
    /// # Errors
    /// `run.fenced`; `firestore.bad_checkpoint`; what reading and writing bring.
    pub(crate) async fn take_over(&mut self, claims: &[LaneClaim]) -> Result<Vec<LaneState>> {
        // A lost answer is no loss: who finds its own name there has the lane.
        let holder = format!("{:032x}", fastrand::u128(..));
        let mut attempts = self.client.attempts();
        loop {
            match self.try_take_over(claims, &holder).await? {
                Ok(states) => return Ok(states),
                Err(fault) if fault.is_unmet_condition() => attempts.after(fault.contended()).await?,
                Err(fault) => {
                    if fault.class == Class::RateLimited {
                        self.client.writes().slow_down(fault.retry_after);
                    }
                    attempts.after(fault).await?;
                }
            }
        }
    }

    async fn try_take_over(
        &mut self,
        claims: &[LaneClaim],
        holder: &str,
    ) -> Result<Result<Vec<LaneState>, Fault>> {
        let lanes: Vec<&LaneId> = claims.iter().map(|claim| &claim.lane).collect();
        let mut stored = self.read(&lanes).await?;
        if let Err(fault) = self.read_cursors(claims, holder, &mut stored).await? {
            return Ok(Err(fault));
        }
        let mut granted = Vec::new();
        let mut states = Vec::with_capacity(claims.len());
        for claim in claims {
            let before = stored.get(&claim.lane);
            if let Some(own) = before.filter(|before| before.holder == holder) {
                states.push(own.state.clone());
                // Its time is that of the document, or comes with the answer to the request below.
                self.known.insert(claim.lane.clone(), without_cursor(own.clone()));
                continue;
            }
            let grant = self.grant(before, claim, holder)?;
            states.push(grant.stored.state.clone());
            stored.insert(claim.lane.clone(), grant.stored.clone());
            granted.push(grant);
        }
        if let Err(fault) = self.store(granted).await {
            return Ok(Err(fault));
        }
        Ok(Ok(states))
    }

    fn grant(&self, before: Option<&Stored>, claim: &LaneClaim, holder: &str) -> Result<Granted> {
        let state = LaneState::taken_over(before.map(|before| &before.state), claim)?;
        let going_on = before.filter(|before| goes_on(before, claim));
        let begun_epoch = going_on.map_or(state.epoch, |before| before.begun_epoch);
        let sending = going_on.map_or_else(|| self.sending.clone(), Stored::sending_taken_over);
        let change = Change {
            before,
            holder,
            begun_epoch,
            sending: &sending,
            after: &state,
        };
        let root = self.client.root();
        let (writes, stored) = match going_on {
            Some(before) => {
                let stored = Stored {
                    holder: holder.to_owned(),
                    sending: sending.clone(),
                    ..before.clone()
                };
                (vec![change.epoch(root)], stored)
            }
            None => {
                let (writes, pages) = change.whole(root)?;
                let stored = Stored {
                    state: LaneState::default(),
                    ahead: lane_document::Ahead::default(),
                    sending: sending.clone(),
                    pages,
                    begun_epoch,
                    holder: holder.to_owned(),
                    update_time: Timestamp::default(),
                };
                (writes, stored)
            }
        };
        Ok(Granted {
            lane: claim.lane.clone(),
            stored: Stored { state, ..stored },
            writes,
        })
    }

    /// Writes what was granted, in as few requests as it takes; one where it fits.
    async fn store(&mut self, granted: Vec<Granted>) -> Result<(), Fault> {
        let mut group: Vec<Granted> = Vec::new();
        let (mut count, mut bytes) = (0, 0);
        for grant in granted {
            let size = Limits::bytes(&grant.writes);
            let is_full =
                count + grant.writes.len() > self.limits.writes_max || bytes + size > self.limits.bytes_max;
            if is_full && !group.is_empty() {
                self.store_group(std::mem::take(&mut group)).await?;
                (count, bytes) = (0, 0);
            }
            count += grant.writes.len();
            bytes += size;
            group.push(grant);
        }
        match group.is_empty() {
            true => Ok(()),
            false => self.store_group(group).await,
        }
    }

    async fn store_group(&mut self, group: Vec<Granted>) -> Result<(), Fault> {
        let mut writes = Vec::new();
        let mut places = Vec::with_capacity(group.len());
        for grant in group {
            self.known.remove(&grant.lane);
            places.push((writes.len(), grant.stored));
            writes.extend(grant.writes);
        }
        let times = self.send(writes).await?;
        for (place, stored) in places {
            let Some(Some(update_time)) = times.get(place).copied() else {
                return Err(no_time().into());
            };
            let stored = Stored {
                update_time,
                ..without_cursor(stored)
            };
            self.known.insert(stored.state.lane.clone(), stored);
        }
        Ok(())
    }

    /// Gets to know a lane that another session has taken over.
    pub(crate) async fn learn(&mut self, lane: &LaneId) -> Result<()> {
        if !self.known.contains_key(lane) {
            self.look_again(lane).await?;
        }
        Ok(())
    }

    /// Whether documents may be there that were written for the lane since its checkpoint.
    pub(crate) fn is_doubtful(&self, lane: &LaneId) -> bool {
        self.known.get(lane).is_some_and(Stored::is_doubtful)
    }

    /// The lane as it is stored now; `None` if nobody has ever taken it over.
    pub(super) async fn look_again(&mut self, lane: &LaneId) -> Result<Option<Stored>> {
        self.known.remove(lane);
        let stored = self.read(&[lane]).await?.remove(lane).map(without_cursor);
        if let Some(stored) = &stored {
            self.known.insert(lane.clone(), stored.clone());
        }
        Ok(stored)
    }

    async fn read(&self, lanes: &[&LaneId]) -> Result<HashMap<LaneId, Stored>> {
        let root = self.client.root();
        let names: HashMap<String, &LaneId> = lanes
            .iter()
            .map(|lane| (root.document(&lane_document::path(lane)), *lane))
            .collect();
        let mut stored = HashMap::with_capacity(names.len());
        for document in self.documents(names.keys().cloned().collect()).await? {
            if let Some(lane) = names.get(&document.name) {
                stored.insert((*lane).clone(), lane_document::read(lane, document)?);
            }
        }
        Ok(stored)
    }

    /// Puts the cursors together that are in pages, of those lanes that go on.
    async fn read_cursors(
        &self,
        claims: &[LaneClaim],
        holder: &str,
        stored: &mut HashMap<LaneId, Stored>,
    ) -> Result<Result<(), Fault>> {
        let root = self.client.root();
        let mut seen = HashSet::new();
        for claim in claims {
            let Some(lane) = stored.get_mut(&claim.lane) else {
                continue;
            };
            let is_wanted = goes_on(lane, claim) || lane.holder == holder;
            if lane.pages.count == 0 || !is_wanted || !seen.insert(&claim.lane) {
                continue;
            }
            let paths = lane_document::page_paths(&claim.lane, &lane.pages);
            let names: Vec<String> = paths.iter().map(|path| root.document(path)).collect();
            let mut pages: HashMap<String, Document> = HashMap::with_capacity(names.len());
            for document in self.documents(names.clone()).await? {
                pages.insert(document.name.clone(), document);
            }
            let mut cursor = Vec::new();
            for name in &names {
                let page = pages.remove(name);
                match page.and_then(|page| lane_document::read_page(&lane.pages, page)) {
                    Some(octets) => cursor.extend(octets),
                    // Somebody has committed in between.
                    None => {
                        return Ok(Err(
                            Status::aborted("a checkpoint changes while it is read").into()
                        ));
                    }
                }
            }
            lane.state.cursor = Cursor(cursor);
        }
        Ok(Ok(()))
    }

    async fn documents(&self, names: Vec<String>) -> Result<Vec<Document>> {
        let mut documents = Vec::with_capacity(names.len());
        for some in names.chunks(LOOKS_PER_REQUEST) {
            look(&self.client, some.to_vec(), None, |document| {
                documents.push(document)
            })
            .await?;
        }
        Ok(documents)
    }

    /// One attempt to write all of these, or none. Answers when each was written.
    pub(super) async fn send(&mut self, writes: Vec<Write>) -> Result<Vec<Option<Timestamp>>, Fault> {
        let count = u32::try_from(writes.len()).unwrap_or(u32::MAX);
        self.client.writes().take(count).await;
        self.request_count += 1;
        let request = CommitRequest {
            database: self.client.root().database().to_owned(),
            writes,
            ..CommitRequest::default()
        };
        let answer = self.client.commit(request).await?;
        self.client.writes().succeeded(count);
        Ok(answer
            .write_results
            .into_iter()
            .map(|result| result.update_time)
            .collect())
    }
}

/// Whether the lane stays as it is but for its epoch.
fn goes_on(stored: &Stored, claim: &LaneClaim) -> bool {
    claim.begun_by.is_empty() || stored.state.begun_by == claim.begun_by
}

/// Cursors may be long, and only those who take a lane over want them.
pub(super) fn without_cursor(mut stored: Stored) -> Stored {
    stored.state.cursor = Cursor::start();
    stored
}

/// Without the time of a write there is no guard for the next one.
pub(super) fn no_time() -> Status {
    Status::internal("the answer does not say when a checkpoint was written")
}
