//! One writing session: batches become writes, which go in requests; what has become of them is known when they are flushed.
//!
//! There are no transactions over several requests here: `begin` and `commit` only bound what is judged together, and what was
//! carried out before an `abort` stays. Writing the same records again leaves the same documents. Neighbours: `flight` sends, `request`
//! gathers, `policy` says how a document is written.

use std::collections::HashMap;
use std::sync::Arc;

use gcloud_sdk::google::firestore::v1::Document;
use whimbrel_plugin_api::runtime::Runtime;
use whimbrel_plugin_api::services::LogLevel;
use whimbrel_plugin_api::source::RejectedRecord;
use whimbrel_plugin_api::{
    Batch, ConflictPolicy, Error, ErrorKind, ErrorScope, Receipt, RecordType, Result, Services,
};

use super::flight::Flight;
use super::labels::Labels;
use super::limits;
use super::policy::Policy;
use super::request::{Gatherer, Item, Request, Version};
use super::version::can_be_version;
use crate::client::Client;
use crate::config::{OnMissing, Writing};
use crate::error::RowFault;
use crate::path::Root;
use crate::value::{Encoder, Place};

/// What an emulator takes in one request, with room to its own limit of 4 MiB.
const EMULATOR_BYTES_MAX: usize = 3_670_016;
/// What the service takes in one request, with room to its limit of 10 MiB.
const SERVICE_BYTES_MAX: usize = 9 * 1024 * 1024;
/// Records between two looks at whether the host has cancelled.
const CANCEL_EVERY: usize = 256;

/// Where a collection goes, as it was prepared.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub(crate) place: Place,
    /// The types that each field was prepared for: more than one after a change of schema.
    pub(crate) fields: HashMap<String, Vec<RecordType>>,
    /// The field that tells newer records from older ones.
    pub(crate) version: Option<Arc<str>>,
}

/// See the module.
pub(crate) struct Writer {
    client: Client,
    services: Services,
    on_missing: OnMissing,
    gatherer: Gatherer,
    flight: Flight,
    open: Option<Open>,
    /// Whether requests may be under way that belong to nothing any more.
    has_stragglers: bool,
    sent: u64,
    request_count: u64,
}

#[derive(Default)]
struct Open {
    /// Records written since its start, the rejected among them.
    record_count: u64,
    /// Records that are not judged yet.
    deferred: u64,
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
        Self {
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
        (self.sent, self.request_count)
    }

    /// # Errors
    /// `plugin.cancelled` while requests of an earlier transaction are under way.
    pub(crate) fn begin(&mut self) -> Result<()> {
        if self.open.is_some() {
            return Err(Error::internal("a transaction is open already").with_scope(ErrorScope::Write));
        }
        self.clear_stragglers()?;
        self.open = Some(Open::default());
        Ok(())
    }

    /// Takes a batch. Records that can be sent are deferred, the others are rejected at once.
    ///
    /// # Errors
    /// Of scope write if the batch does not fit what was prepared, without effect; of scope transaction or session what sending
    /// brings, now or since the call before.
    pub(crate) fn write(
        &mut self,
        collection: &str,
        target: &Target,
        batch: &Batch,
        policy: ConflictPolicy,
    ) -> Result<Receipt> {
        let first = self.going_on()?.record_count;
        let policy = Policy::new(policy, self.on_missing)?;
        fits(collection, target, batch)?;
        let version = version_field(collection, target, batch, policy)?;
        let encoder = Encoder::new(batch, &target.place, self.client.root())
            .map_err(|error| error.with_scope(ErrorScope::Write))?;
        let mut receipt = Receipt::default();
        let mut labels = None;
        for row in 0..batch.record_count() {
            if row % CANCEL_EVERY == 0 {
                self.services.check_cancelled()?;
            }
            let number = first + row as u64;
            let made = make(&encoder, self.client.root(), row).map_err(|(path, fault)| {
                let labels = labels.get_or_insert_with(|| Labels::new(target, batch));
                labels.rejected(path, row, fault)
            });
            let (path, document) = match made {
                Ok(made) => made,
                Err(rejected) => {
                    receipt.rejected.push(rejected);
                    continue;
                }
            };
            let version = version.as_ref().map(|field| Version {
                field: Arc::clone(field),
                value: document.fields.get(&**field).cloned(),
            });
            let item = Item::new(number, path, policy, version);
            if let Some(full) = self.gatherer.add(item, policy.write(document)) {
                self.launch(full)?;
            }
            receipt.deferred += 1;
        }
        if let Some(open) = &mut self.open {
            open.record_count += batch.record_count() as u64;
            open.deferred += receipt.deferred;
        }
        Ok(receipt)
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

    /// Ends the transaction; everything that was written is durable already.
    ///
    /// # Errors
    /// If something failed since, or was not judged yet.
    pub(crate) fn commit(&mut self) -> Result<()> {
        if self.going_on()?.deferred > 0 {
            return Err(Error::internal("`commit` came before `flush`"));
        }
        self.services.check_cancelled()?;
        self.open = None;
        Ok(())
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
    fn going_on(&mut self) -> Result<&mut Open> {
        match &mut self.open {
            None => Err(Error::internal("no transaction is open").with_scope(ErrorScope::Transaction)),
            Some(Open {
                failed: Some(error), ..
            }) => Err(error.clone()),
            Some(open) => Ok(open),
        }
    }

    fn launch(&mut self, request: Request) -> Result<()> {
        let Self { flight, services, .. } = self;
        let outcome = Runtime::get()?.block_on(services, flight.launch(request));
        self.keep(outcome)
    }

    fn finish(&mut self) -> Result<()> {
        if let Some(request) = self.gatherer.take() {
            self.launch(request)?;
        }
        let Self { flight, services, .. } = self;
        let outcome = Runtime::get()?.block_on(services, flight.land());
        self.keep(outcome)
    }

    /// After an error nothing more goes into the transaction.
    fn keep(&mut self, outcome: Result<()>) -> Result<()> {
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

/// The document of a row, with its path.
///
/// # Errors
/// Why there is none, with the path if that much is known.
fn make(
    encoder: &Encoder,
    root: &Root,
    row: usize,
) -> Result<(String, Document), (Option<String>, RowFault)> {
    let path = encoder.path(row).map_err(|fault| (None, fault))?;
    let checked = encoder
        .fields(row)
        .and_then(|fields| limits::check(&path, &fields).map(|()| fields));
    match checked {
        Ok(fields) => {
            let document = Document {
                name: root.document(&path),
                fields,
                ..Document::default()
            };
            Ok((path, document))
        }
        Err(fault) => Err((Some(path), fault)),
    }
}

fn fits(collection: &str, target: &Target, batch: &Batch) -> Result<()> {
    for field in &batch.schema.fields {
        let Some(types) = target.fields.get(&field.name) else {
            return Err(refusal(
                "firestore.unknown_field",
                format!("`{collection}` was not prepared for the field `{}`", field.name),
            ));
        };
        if !types.contains(&field.record_type) {
            return Err(refusal(
                "firestore.changed_field",
                format!(
                    "the field `{}` of `{collection}` is `{}`, it was prepared for `{}`",
                    field.name, field.record_type, types[0]
                ),
            ));
        }
    }
    Ok(())
}

/// The version field, if the policy asks for one.
fn version_field(
    collection: &str,
    target: &Target,
    batch: &Batch,
    policy: Policy,
) -> Result<Option<Arc<str>>> {
    if !policy.compares_versions() {
        return Ok(None);
    }
    let field = target.version.as_ref().and_then(|name| {
        let field = batch.schema.fields.iter().find(|field| field.name == **name)?;
        Some((name, field))
    });
    match field {
        None => Err(refusal(
            "firestore.no_version_field",
            format!("`{collection}` has no version field"),
        )
        .with_help("name the field that tells newer records from older ones")),
        Some((_, field)) if !can_be_version(&field.record_type) || limits::is_reserved(&field.name) => Err(refusal(
            "firestore.bad_version_field",
            format!(
                "the values of the version field `{}` of `{collection}`, of type `{}`, cannot be compared as Firestore stores them",
                field.name, field.record_type
            ),
        )
        .with_help("name a field with integers, timestamps, dates or texts")),
        Some((name, _)) => Ok(Some(Arc::clone(name))),
    }
}

fn refusal(code: &'static str, message: String) -> Error {
    Error::new(ErrorKind::InvalidData, code, message).with_scope(ErrorScope::Write)
}
