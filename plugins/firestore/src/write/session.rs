//! One writing session: batches become writes, which are kept until the commit, or go in requests at once.
//!
//! Kept ones leave nothing when they are aborted, unless some went ahead of their commit. Those that go at once (`guarantee:
//! idempotent`) are judged when they are flushed; what was carried out before an `abort` stays, and writing the same records again
//! leaves the same documents. Neighbours: `incoming` makes documents of batches, `kept` keeps them, `flight`
//! sends, `request` gathers, `policy` says how a document is written, `lanes` has the checkpoints.

use gcloud_sdk::google::firestore::v1::Document;
use whimbrel_plugin_api::runtime::Runtime;
use whimbrel_plugin_api::services::LogLevel;
use whimbrel_plugin_api::sink::{Checkpoint, Committed, LaneClaim, LaneId, LaneState};
use whimbrel_plugin_api::source::RejectedRecord;
use whimbrel_plugin_api::{Batch, ConflictPolicy, Error, ErrorScope, Receipt, Result, Services};

use super::flight::Flight;
use super::incoming::{Incoming, Target};
use super::kept::{Coming, Kept, Offered, Refusals};
use super::labels::Labels;
use super::lanes::{Lanes, Limits};
use super::policy::Policy;
use super::request::{Gatherer, Item, Request};
use super::sending::{Sending, Way};
use crate::client::Client;
use crate::config::{Guarantee, OnMissing, Writing};
use crate::error::RowFault;

/// What an emulator takes in one request, with room to its own limit of 4 MiB.
const EMULATOR_BYTES_MAX: usize = 3_670_016;
/// What the service takes in one request, with room to its limit of 10 MiB.
const SERVICE_BYTES_MAX: usize = 9 * 1024 * 1024;
/// Records between two looks at whether the host has cancelled.
const CANCEL_EVERY: usize = 256;
/// Octets that are sent before a commit is asked for: the host keeps their records until then.
const SENT_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Octets that the lane's document may take of a request before a commit is asked for: names, a cursor, extensions.
const LANE_BYTES: usize = 16 * 1024;

/// See the module.
pub(crate) struct Writer {
    pub(super) client: Client,
    pub(super) services: Services,
    on_missing: OnMissing,
    guarantee: Guarantee,
    limits: Limits,
    pub(super) lanes: Lanes,
    gatherer: Gatherer,
    pub(super) flight: Flight,
    pub(super) open: Option<Open>,
    /// What the service has refused of the last transaction, and its lane: written again, it is left out.
    refused: Option<(LaneId, Refusals)>,
    /// Whether requests may be under way that belong to nothing any more.
    has_stragglers: bool,
    sent: u64,
    request_count: u64,
}

pub(super) struct Open {
    pub(super) lane: LaneId,
    /// Its records until the commit; `None` if they are sent at once.
    pub(super) kept: Option<Kept>,
    /// Whether documents may be there that the run has written before.
    pub(super) is_doubtful: bool,
    /// How its records are sent, once there are any.
    pub(super) sent: Option<Way>,
    /// Records written since its start, the rejected among them.
    record_count: u64,
    /// Records that are not judged yet.
    deferred: u64,
    /// Octets of the requests that were launched.
    sent_bytes: usize,
    /// Why it cannot go on.
    failed: Option<Error>,
}

impl Writer {
    pub(crate) fn new(client: Client, services: Services, writing: &Writing) -> Self {
        let bytes_max = match writing.bytes_max {
            Some(bytes) => usize::try_from(bytes).unwrap_or(usize::MAX),
            None if client.is_emulator() => EMULATOR_BYTES_MAX,
            None => SERVICE_BYTES_MAX,
        };
        let writes_max = usize::try_from(writing.writes_max).unwrap_or(usize::MAX);
        let limits = Limits {
            writes_max,
            bytes_max,
        };
        let sending = match writing.guarantee {
            Guarantee::ExactlyOnce => Sending::Nothing,
            Guarantee::Idempotent => Sending::Unnoted,
        };
        Self {
            guarantee: writing.guarantee,
            limits,
            lanes: Lanes::new(client.clone(), limits, sending),
            refused: None,
            gatherer: Gatherer::new(writes_max, bytes_max),
            flight: Flight::new(client.clone(), writing.request, writing.in_flight_max),
            on_missing: writing.on_missing,
            client,
            services,
            open: None,
            has_stragglers: false,
            sent: 0,
            request_count: 0,
        }
    }

    pub(crate) fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// Writes that were sent, and the requests that carried them.
    pub(crate) fn totals(&self) -> (u64, u64) {
        (self.sent, self.request_count + self.lanes.request_count)
    }

    /// Takes lanes over, all or none.
    ///
    /// # Errors
    /// `run.fenced`; what reading and writing bring.
    pub(crate) fn take_over(&mut self, claims: &[LaneClaim]) -> Result<Vec<LaneState>> {
        let Self { lanes, services, .. } = self;
        Runtime::get()?.block_on(services, lanes.take_over(claims))
    }

    /// # Errors
    /// `plugin.cancelled` while requests of an earlier transaction are under way; what reading the lane brings.
    pub(crate) fn begin(&mut self, lane: &LaneId) -> Result<()> {
        if self.open.is_some() {
            return Err(Error::internal("a transaction is open already").with_scope(ErrorScope::Write));
        }
        self.clear_stragglers()?;
        let Self { lanes, services, .. } = self;
        Runtime::get()?.block_on(services, lanes.learn(lane))?;
        let refused = self.refused.as_ref().filter(|(refused, _)| refused == lane);
        let refused = refused.map(|(_, refused)| refused.clone()).unwrap_or_default();
        let is_kept = self.guarantee == Guarantee::ExactlyOnce;
        let is_doubtful = self.lanes.is_doubtful(lane);
        self.open = Some(Open {
            lane: lane.clone(),
            kept: is_kept.then(|| Kept::new(is_doubtful, refused)),
            is_doubtful,
            sent: is_kept.then_some(Way::WithCheckpoint),
            record_count: 0,
            deferred: 0,
            sent_bytes: 0,
            failed: None,
        });
        Ok(())
    }

    /// Takes a batch. Records that cannot be stored are rejected; the others are kept and judged at once, or sent and deferred.
    ///
    /// # Errors
    /// Of scope write if the batch does not fit what was prepared, without effect; of scope transaction or session what looking and
    /// sending bring, now or since the call before.
    pub(crate) fn write(
        &mut self,
        collection: &str,
        target: &Target,
        batch: &Batch,
        policy: ConflictPolicy,
    ) -> Result<Receipt> {
        let open = self.going_on()?;
        let (first, is_kept) = (open.record_count, open.kept.is_some());
        let policy = Policy::new(policy, self.on_missing)?;
        let root = self.client.root().clone();
        let incoming = Incoming::new(collection, target, batch, policy, &root)?;
        if !is_kept {
            self.note_sending(policy)?;
        }
        let labels = Labels::new(target, batch);
        let (mut receipt, mut coming) = (Receipt::default(), Vec::new());
        for row in 0..batch.record_count() {
            if row % CANCEL_EVERY == 0 {
                self.services.check_cancelled()?;
            }
            match incoming.record(row) {
                Err((path, fault)) => receipt.rejected.push(labels.rejected(path, row, fault)),
                Ok(record) if is_kept => coming.push(record),
                Ok(record) => {
                    self.send(first + row as u64, record, policy)?;
                    receipt.deferred += 1;
                }
            }
        }
        if is_kept {
            let offered = self.keep(policy, coming, &mut receipt.commit_due)?;
            receipt.accepted = offered.accepted;
            receipt.skipped = offered.skipped;
            let refused = offered.rejected.into_iter();
            receipt
                .rejected
                .extend(refused.map(|(row, path, fault)| labels.rejected(Some(path), row, fault)));
        }
        if let Some(open) = &mut self.open {
            open.record_count += batch.record_count() as u64;
            open.deferred += receipt.deferred;
            receipt.commit_due |= open.sent_bytes >= SENT_BYTES_MAX;
        }
        Ok(receipt)
    }

    /// Keeps records until the commit. `is_due` if the next write of this size might not fit into one request with them.
    fn keep(&mut self, policy: Policy, coming: Vec<Coming>, is_due: &mut bool) -> Result<Offered> {
        let Self {
            client,
            services,
            limits,
            open,
            ..
        } = self;
        let Some(kept) = open.as_mut().and_then(|open| open.kept.as_mut()) else {
            return Err(Error::internal("nothing is kept in this transaction"));
        };
        let (count, bytes) = (kept.len(), kept.bytes());
        let offering = kept.offer(client, policy, coming);
        let outcome = Runtime::get()?.block_on(services, offering);
        let (count, bytes) = (2 * kept.len() - count, 2 * kept.bytes() - bytes.min(kept.bytes()));
        // The lane's document is one of the writes.
        *is_due = count >= limits.writes_max || bytes + LANE_BYTES > limits.bytes_max;
        self.stopping_at(outcome)
    }

    /// Gathers a record for the next request, which goes as soon as it is full.
    fn send(&mut self, number: u64, record: Coming, policy: Policy) -> Result<()> {
        let mut item = Item::new(number, record.path, policy, record.version);
        item.is_doubtful = self.open.as_ref().is_some_and(|open| open.is_doubtful);
        match self.gatherer.add(item, policy.write(record.document)) {
            Some(full) => self.launch(full),
            None => Ok(()),
        }
    }

    /// Sends what is left, and waits until it is known what has become of every record.
    ///
    /// # Errors
    /// Of scope transaction or session what sending brings.
    pub(crate) fn flush(&mut self) -> Result<Receipt> {
        self.going_on()?;
        self.finish()?;
        let judged = self.flight.take_judged();
        self.sent += judged.sent;
        self.request_count += judged.request_count;
        let deferred = self
            .open
            .as_mut()
            .map_or(0, |open| std::mem::take(&mut open.deferred));
        let rejected = judged.rejected.len() as u64;
        if judged.accepted + rejected != deferred {
            return Err(Error::internal(format!(
                "of {deferred} writes, {} are known to be done and {rejected} to be rejected",
                judged.accepted
            )));
        }
        Ok(Receipt {
            accepted: judged.accepted,
            skipped: judged.skipped,
            rejected: judged.rejected,
            ..Receipt::default()
        })
    }

    /// Makes the checkpoint durable, and with it all records that are kept. Ends the transaction, unless it fails.
    ///
    /// # Errors
    /// If something failed since, or was not judged yet; what certainly kept it from being durable.
    pub(crate) fn commit(&mut self, checkpoint: &Checkpoint) -> Result<Committed> {
        let open = self.going_on()?;
        if open.deferred > 0 {
            return Err(Error::internal("`commit` came before `flush`"));
        }
        if open.lane != checkpoint.lane {
            return Err(Error::internal(
                "the checkpoint is not one of the lane that was begun",
            ));
        }
        self.services.check_cancelled()?;
        let runtime = Runtime::get()?;
        // From here on the transaction ends or has failed: never is a checkpoint sent without its records.
        let kept = self.open.as_mut().and_then(|open| open.kept.take());
        let way = self.open.as_ref().and_then(|open| open.sent);
        let mut kept = kept.unwrap_or_default();
        let Self { lanes, services, .. } = self;
        let ended = runtime.block_on(services, lanes.commit(checkpoint, &mut kept, way));
        if let Some((count, RowFault { code, message })) = kept.refused_now() {
            let first = format!("{code}: {message}");
            self.services.log(
                LogLevel::Info,
                format!("{count} records of a commit are to be left out: {first}"),
            );
        }
        let count = kept.len() as u64;
        self.refused = Some((checkpoint.lane.clone(), kept.into_refused()));
        let outcome = self.stopping_at(ended)?;
        if let Committed::Committed { .. } = outcome {
            self.sent += count;
            self.refused = None;
        }
        self.open = None;
        Ok(outcome)
    }

    /// Sends nothing further. What was sent stays.
    pub(crate) fn abort(&mut self) {
        if self.open.take().is_none() {
            return;
        }
        self.gatherer.clear();
        self.flight.stop();
        self.has_stragglers = true;
        if let Err(error) = self.clear_stragglers() {
            // The host is ending the run; whoever begins again waits then.
            self.services.log(
                LogLevel::Debug,
                format!("requests are still under way: {}", error.message),
            );
        }
    }

    /// Removes documents, in any order; answers how many.
    pub(super) async fn delete(&mut self, path: String, number: u64) -> Result<()> {
        let document = Document {
            name: self.client.root().document(&path),
            ..Document::default()
        };
        let item = Item::new(number, path, Policy::DELETE, None);
        match self.gatherer.add(item, Policy::DELETE.write(document)) {
            Some(full) => self.flight.launch(full).await,
            None => Ok(()),
        }
    }

    /// Waits for all removals. Answers how many there were, and the first that was refused.
    pub(super) async fn deleted(&mut self) -> Result<(u64, Option<RejectedRecord>)> {
        if let Some(request) = self.gatherer.take() {
            self.flight.launch(request).await?;
        }
        self.flight.land().await?;
        let judged = self.flight.take_judged();
        Ok((judged.accepted, judged.rejected.into_iter().next()))
    }

    /// The open transaction, unless something has failed in it.
    pub(super) fn going_on(&mut self) -> Result<&mut Open> {
        match &mut self.open {
            None => Err(Error::internal("no transaction is open").with_scope(ErrorScope::Transaction)),
            Some(Open {
                failed: Some(error), ..
            }) => Err(error.clone()),
            Some(open) => Ok(open),
        }
    }

    fn launch(&mut self, request: Request) -> Result<()> {
        if let Some(open) = &mut self.open {
            open.sent_bytes += request.encoded.len();
        }
        let Self { flight, services, .. } = self;
        let outcome = Runtime::get()?.block_on(services, flight.launch(request));
        self.stopping_at(outcome)
    }

    pub(super) fn finish(&mut self) -> Result<()> {
        if let Some(request) = self.gatherer.take() {
            self.launch(request)?;
        }
        let Self { flight, services, .. } = self;
        let outcome = Runtime::get()?.block_on(services, flight.land());
        self.stopping_at(outcome)
    }

    /// After an error nothing more goes into the transaction.
    pub(super) fn stopping_at<T>(&mut self, outcome: Result<T>) -> Result<T> {
        outcome.map_err(|error| {
            let error = match error.scope {
                ErrorScope::Session => error,
                _ => error.with_scope(ErrorScope::Transaction),
            };
            if let Some(open) = &mut self.open {
                open.failed = Some(error.clone());
            }
            error
        })
    }

    fn clear_stragglers(&mut self) -> Result<()> {
        if self.has_stragglers {
            let Self { flight, services, .. } = self;
            Runtime::get()?.block_on(services, async {
                flight.clear().await;
                Ok(())
            })?;
            self.has_stragglers = false;
        }
        Ok(())
    }
}
