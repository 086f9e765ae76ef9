//! The sink role: one writing session.
//!
//! How documents are written is in `write`; what each collection must look like before that, too, and where checkpoints are kept.

use std::collections::HashMap;

use whimbrel_plugin_api::capability::{Atomicity, SinkCapabilities, TypeMapping};
use whimbrel_plugin_api::runtime::Runtime;
use whimbrel_plugin_api::services::LogLevel;
use whimbrel_plugin_api::sink::{
    AlterRequest, Checkpoint, ClearReport, ClearRequest, Committed, LaneClaim, LaneId, LaneState, OpenSink,
    PrepareReport, PrepareRequest, Receipt, Sink,
};
use whimbrel_plugin_api::{
    Batch, Collection, ConflictPolicy, Error, ErrorKind, ErrorScope, Finding, Result, Services, Source,
};

use crate::client::Client;
use crate::config::{FirestoreConfig, Guarantee};
use crate::source::FirestoreSource;
use crate::write::{self, Depth, Target, Writer};
use crate::{check, value};

/// A database that is written.
pub struct FirestoreSink {
    config: FirestoreConfig,
    services: Services,
    client: Client,
    writer: Writer,
    targets: HashMap<String, Target>,
}

impl OpenSink for FirestoreSink {
    type Config = FirestoreConfig;

    fn open(config: FirestoreConfig, services: Services) -> Result<Self> {
        let client = Runtime::get()?.block_on(&services, Client::open(&config, &services))?;
        Ok(Self {
            writer: Writer::new(client.clone(), services.clone(), &config.writing),
            config,
            services,
            client,
            targets: HashMap::new(),
        })
    }

    fn capabilities() -> SinkCapabilities {
        SinkCapabilities {
            // With `guarantee: idempotent` it is less, which `prepare` tells by a finding: the config is not known here.
            atomicity: Atomicity::Conditional,
            upsert: true,
            policies: write::offered(),
            sessions_max: 0,
            lanes: true,
            undo: false,
            read_back: true,
            remove: true,
            presence: true,
            fields_max: 0,
        }
    }

    fn type_mappings() -> Vec<TypeMapping> {
        value::type_table()
    }
}

impl FirestoreSink {
    fn target(&self, collection: &str) -> Result<&Target> {
        self.targets.get(collection).ok_or_else(|| {
            Error::new(
                ErrorKind::Internal,
                "firestore.not_prepared",
                format!("`{collection}` was not prepared"),
            )
            .with_scope(ErrorScope::Write)
        })
    }

    /// What is to be known of a config that promises less than the capabilities do. The host goes by the end of the code.
    fn lowered(&self) -> Option<Finding> {
        let is_lowered = self.config.writing.guarantee == Guarantee::Idempotent;
        is_lowered.then(|| {
            Finding::info(
                "firestore.idempotent",
                "`writing.guarantee` is `idempotent`: checkpoints are written after their records, so that after a crash some \
                 records are written again, as the same documents",
            )
            .with_help("leave `writing.guarantee` out to write each record with its checkpoint")
        })
    }

    fn refuse_in_transaction(&self, call: &str) -> Result<()> {
        if self.writer.is_open() {
            let message = format!("`{call}` was called with a transaction open");
            return Err(Error::internal(message).with_scope(ErrorScope::Write));
        }
        Ok(())
    }

    /// Looks at collections and, unless `is_dry` or something is in the way, makes room for them.
    fn make_room(
        &mut self,
        collections: &[Collection],
        before: Option<&Target>,
        depth: Depth,
        is_dry: bool,
    ) -> Result<PrepareReport> {
        let (client, services) = (&self.client, &self.services);
        let call = write::Call {
            client,
            services,
            config: &self.config,
            depth,
            before,
        };
        let plan = Runtime::get()?.block_on(services, async {
            let plan = write::prepare(&call, collections).await?;
            if !is_dry && !plan.is_blocked() {
                plan.carry_out(client).await?;
            }
            Ok(plan)
        })?;
        if !is_dry && !plan.is_blocked() {
            self.targets.extend(plan.targets);
        }
        Ok(plan.report)
    }
}

impl Sink for FirestoreSink {
    fn check(&mut self) -> Result<Vec<Finding>> {
        let (client, config, services) = (&self.client, &self.config, &self.services);
        Runtime::get()?.block_on(services, check::sink(client, config, services))
    }

    fn prepare(&mut self, request: &PrepareRequest) -> Result<PrepareReport> {
        for collection in &request.collections {
            collection.schema.validate()?;
        }
        self.refuse_in_transaction("prepare")?;
        let depth = match (request.again, request.dry) {
            (true, _) => Depth::Nothing,
            (false, true) => Depth::Counted,
            (false, false) => Depth::Needed,
        };
        let mut report = self.make_room(&request.collections, None, depth, request.dry)?;
        report.findings.extend(self.lowered());
        Ok(report)
    }

    fn alter(&mut self, request: &AlterRequest) -> Result<PrepareReport> {
        self.refuse_in_transaction("alter")?;
        request.new.validate()?;
        let before = self.target(&request.collection)?.clone();
        let mut collection =
            Collection::new(&request.collection, request.new.clone()).with_key(before.place.key.clone());
        collection.cursor_fields = before.version.iter().map(ToString::to_string).collect();
        // A document has room for any field, so that nothing ever overflows.
        let collections = std::slice::from_ref(&collection);
        self.make_room(collections, Some(&before), Depth::Needed, false)
    }

    fn take_over(&mut self, claims: &[LaneClaim]) -> Result<Vec<LaneState>> {
        self.refuse_in_transaction("take_over")?;
        self.writer.take_over(claims)
    }

    fn begin(&mut self, lane: &LaneId) -> Result<()> {
        self.writer.begin(lane)
    }

    fn write(&mut self, collection: &str, batch: &Batch, policy: ConflictPolicy) -> Result<Receipt> {
        let target = self.targets.get(collection);
        match target {
            Some(target) => self.writer.write(collection, target, batch, policy),
            None => self.target(collection).map(|_| Receipt::default()),
        }
    }

    fn flush(&mut self) -> Result<Receipt> {
        self.writer.flush()
    }

    fn remove(&mut self, collection: &str, keys: &Batch) -> Result<u64> {
        match self.targets.get(collection) {
            Some(target) => self.writer.remove(target, keys),
            None => self.target(collection).map(|_| 0),
        }
    }

    fn commit(&mut self, checkpoint: &Checkpoint) -> Result<Committed> {
        self.writer.commit(checkpoint)
    }

    fn abort(&mut self) -> Result<()> {
        self.writer.abort();
        Ok(())
    }

    fn finalize(&mut self) -> Result<()> {
        self.refuse_in_transaction("finalize")?;
        let (sent, request_count) = self.writer.totals();
        self.services.log(
            LogLevel::Info,
            format!("document writes: {sent}, requests: {request_count}"),
        );
        Ok(())
    }

    fn clear(&mut self, request: &ClearRequest) -> Result<ClearReport> {
        self.refuse_in_transaction("clear")?;
        let mut writer = Writer::new(self.client.clone(), self.services.clone(), &self.config.writing);
        let (client, services) = (&self.client, &self.services);
        let clearing = write::clear(client, services, &mut writer, &request.collections);
        let removed = Runtime::get()?.block_on(services, clearing)?;
        Ok(ClearReport { removed })
    }

    fn reader(&mut self) -> Result<Box<dyn Source>> {
        Ok(Box::new(FirestoreSource::over(
            self.client.clone(),
            self.config.clone(),
            self.services.clone(),
        )))
    }
}
