//! The sink role: one writing session, one transaction at a time.
//!
//! What is made and compared is in `prepare`, how records get there in `write`, what follows the load in `constraints`. The
//! checkpoint of a lane is in `lanes`: it is granted over a connection of its own, and moves on in the transaction of its
//! records.

use std::sync::Arc;

use whimbrel_plugin_api::services::LogLevel;
use whimbrel_plugin_api::sink::{
    AlterRequest, Checkpoint, ClearReport, ClearRequest, Committed, LaneClaim, LaneId, LaneState,
    PrepareReport, PrepareRequest,
};
use whimbrel_plugin_api::{
    Atomicity, Batch, Collection, ConflictPolicy, Error, ErrorKind, ErrorScope, Finding, OpenSink,
    OpenSource as _, Receipt, Result, Services, Sink, SinkCapabilities, Source, TypeMapping,
};

use crate::client::Client;
use crate::config::{Absent, PostgresConfig};
use crate::connection::Connection;
use crate::constraints::{self, Targets};
use crate::error::CONNECTION_LOST;
use crate::lanes::TakeOver;
use crate::prepare::{self, COLUMNS_MAX, Growth, Settings, Wish};
use crate::source::PostgresSource;
use crate::type_mapping::type_mappings;
use crate::write::Writer;
use crate::{check, clear};

/// A database that is written.
pub struct PostgresSink {
    client: Client,
    writer: Writer,
    is_open: bool,
    /// As prepared, for their references.
    collections: Vec<Collection>,
    targets: Targets,
    /// Whether it has taken lanes over.
    takes_over: bool,
    /// Whether this session is the one that ends the run.
    has_added_constraints: bool,
}

impl OpenSink for PostgresSink {
    type Config = PostgresConfig;

    fn open(config: PostgresConfig, services: Services) -> Result<Self> {
        let client = Client::new(config, services)?;
        Ok(Self {
            writer: Writer::new(client.clone(), client.config().type_settings()),
            client,
            is_open: false,
            collections: Vec::new(),
            targets: Targets::new(),
            takes_over: false,
            has_added_constraints: false,
        })
    }

    fn capabilities() -> SinkCapabilities {
        SinkCapabilities {
            atomicity: Atomicity::Transactional,
            upsert: true,
            policies: vec![
                ConflictPolicy::Overwrite,
                ConflictPolicy::Skip,
                ConflictPolicy::Merge,
                ConflictPolicy::KeepNewest,
                ConflictPolicy::KeepOldest,
                ConflictPolicy::Fail,
                ConflictPolicy::Append,
            ],
            sessions_max: 0,
            lanes: true,
            undo: false,
            read_back: true,
            remove: true,
            presence: true,
            fields_max: COLUMNS_MAX as u32,
        }
    }

    fn type_mappings() -> Vec<TypeMapping> {
        type_mappings()
    }
}

impl PostgresSink {
    fn settings(&self) -> Settings {
        let config = self.client.config();
        Settings {
            default_schema: config.schema.clone(),
            state_schema: config.state_schema.clone(),
            creates_schemas: config.create_schemas,
            keeps_absent: config.absent == Absent::Keep,
            types: config.type_settings(),
        }
    }

    /// Does something over a connection of its own, which is closed afterwards.
    fn once<T>(&self, work: impl AsyncFnOnce(&mut Connection) -> Result<T>) -> Result<T> {
        self.client.block_on(async {
            let mut connection = self.client.connect().await?;
            let outcome = work(&mut connection).await;
            connection.close().await;
            outcome
        })
    }

    fn refuse_in_transaction(&self, call: &str) -> Result<()> {
        if self.is_open {
            let message = format!("`{call}` was called with a transaction open");
            return Err(Error::internal(message).with_scope(ErrorScope::Write));
        }
        Ok(())
    }
}

impl Sink for PostgresSink {
    fn check(&mut self) -> Result<Vec<Finding>> {
        self.client
            .block_on(async { Ok(check::check_sink(&self.client).await) })
    }

    fn prepare(&mut self, request: &PrepareRequest) -> Result<PrepareReport> {
        for collection in &request.collections {
            collection.schema.validate()?;
        }
        self.refuse_in_transaction("prepare")?;
        let settings = self.settings();
        let wish = Wish {
            collections: &request.collections,
            growth: Growth::Refused,
            before: None,
            is_dry: request.dry,
        };
        let plan = self.once(async |connection| prepare::prepare(connection, &settings, &wish).await)?;
        if !request.dry && !plan.is_blocked() {
            self.collections.clone_from(&request.collections);
            self.targets = plan
                .targets
                .into_iter()
                .map(|(name, target)| (name, Arc::new(target)))
                .collect();
        }
        Ok(plan.report)
    }

    fn alter(&mut self, request: &AlterRequest) -> Result<PrepareReport> {
        self.refuse_in_transaction("alter")?;
        request.new.validate()?;
        let old = self
            .targets
            .get(&request.collection)
            .cloned()
            .ok_or_else(|| not_prepared(&request.collection))?;
        let mut collection =
            Collection::new(&request.collection, request.new.clone()).with_key(old.key.clone());
        collection.cursor_fields = old.version.iter().cloned().collect();
        let settings = self.settings();
        let wish = Wish {
            collections: std::slice::from_ref(&collection),
            growth: if request.overflow {
                Growth::Rest
            } else {
                Growth::Columns
            },
            before: Some(&old),
            is_dry: false,
        };
        let plan = self.once(async |connection| prepare::prepare(connection, &settings, &wish).await)?;
        if !plan.is_blocked() {
            self.targets.extend(
                plan.targets
                    .into_iter()
                    .map(|(name, target)| (name, Arc::new(target))),
            );
        }
        Ok(plan.report)
    }

    fn take_over(&mut self, claims: &[LaneClaim]) -> Result<Vec<LaneState>> {
        self.refuse_in_transaction("take_over")?;
        if claims.is_empty() {
            return Ok(Vec::new());
        }
        let config = self.client.config();
        let wish = TakeOver::new(&config.state_schema, config.lock_limit_ms(), claims)?;
        let granted = match self.once(async |connection| wish.carry_out(connection).await) {
            // What was granted is known, if the answer alone was lost.
            Err(error) if error.code == CONNECTION_LOST => {
                self.once(async |connection| wish.carry_out(connection).await)
            }
            outcome => outcome,
        };
        self.takes_over |= granted.is_ok();
        granted
    }

    fn begin(&mut self, lane: &LaneId) -> Result<()> {
        if self.is_open {
            return Err(Error::internal("a transaction is open already").with_scope(ErrorScope::Write));
        }
        self.writer.begin(lane)?;
        self.is_open = true;
        Ok(())
    }

    fn write(&mut self, collection: &str, batch: &Batch, policy: ConflictPolicy) -> Result<Receipt> {
        let target = self
            .targets
            .get(collection)
            .ok_or_else(|| not_prepared(collection))?;
        if batch.record_count() == 0 {
            return Ok(Receipt::default());
        }
        self.writer.write(collection, target, batch, policy)
    }

    fn flush(&mut self) -> Result<Receipt> {
        self.writer.flush()
    }

    fn remove(&mut self, collection: &str, keys: &Batch) -> Result<u64> {
        let target = self
            .targets
            .get(collection)
            .ok_or_else(|| not_prepared(collection))?;
        self.writer.remove(collection, target, keys)
    }

    fn commit(&mut self, checkpoint: &Checkpoint) -> Result<Committed> {
        self.is_open = false;
        self.writer.commit(checkpoint, self.takes_over)
    }

    fn abort(&mut self) -> Result<()> {
        self.is_open = false;
        self.writer.abort();
        Ok(())
    }

    fn add_constraints(&mut self) -> Result<Vec<Finding>> {
        self.refuse_in_transaction("add_constraints")?;
        self.has_added_constraints = true;
        if self.targets.is_empty() {
            return Ok(Vec::new());
        }
        let (collections, targets) = (&self.collections, &self.targets);
        self.once(async |connection| constraints::add(connection, collections, targets).await)
    }

    fn finalize(&mut self) -> Result<()> {
        self.refuse_in_transaction("finalize")?;
        if !self.has_added_constraints || self.targets.is_empty() {
            return Ok(());
        }
        let targets = &self.targets;
        let refused = self.once(async |connection| constraints::analyze(connection, targets).await)?;
        for fault in refused {
            let message = format!("statistics were not refreshed: {}", fault.error.message);
            self.client.services().log(LogLevel::Warn, message);
        }
        Ok(())
    }

    fn clear(&mut self, request: &ClearRequest) -> Result<ClearReport> {
        self.refuse_in_transaction("clear")?;
        let schema = &self.client.config().schema;
        let removed =
            self.once(async |connection| clear::clear(connection, schema, &request.collections).await)?;
        Ok(ClearReport { removed })
    }

    fn reader(&mut self) -> Result<Box<dyn Source>> {
        let (config, services) = (self.client.config().clone(), self.client.services().clone());
        Ok(Box::new(PostgresSource::open(config, services)?))
    }
}

fn not_prepared(collection: &str) -> Error {
    Error::new(
        ErrorKind::Internal,
        "postgres.not_prepared",
        format!("`{collection}` was not prepared"),
    )
    .with_scope(ErrorScope::Write)
}
