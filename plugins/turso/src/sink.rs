//! The sink role: one writing session, one transaction at a time.
//!
//! What is made and compared is in `prepare`, how transactions are carried out in `local` and `remote`. What is kept of a lane
//! is in `lane`, and goes into the transaction of its records.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use whimbrel_plugin_api::record_type::Schema;
use whimbrel_plugin_api::sink::{
    AlterRequest, Checkpoint, ClearReport, ClearRequest, Committed, LaneClaim, LaneId, LaneState,
    PrepareReport, PrepareRequest,
};
use whimbrel_plugin_api::{
    Atomicity, Batch, Collection, ConflictPolicy, Error, ErrorKind, ErrorScope, Finding, LogLevel, OpenSink,
    Receipt, Result, Services, Sink, SinkCapabilities, Source, TypeMapping,
};

use crate::catalog;
use crate::client;
use crate::config::{Absent, Location, TursoConfig};
use crate::database::{self, Statement};
use crate::held_lanes::HeldLanes;
use crate::lane::Lanes;
use crate::names::quote;
use crate::prepare::{self, COLUMNS_MAX, Growth, Plan, Settings};
use crate::removal;
use crate::session::Session;
use crate::source::TursoSource;
use crate::type_mapping::type_mappings;
use crate::write_plan::{Target, WritePlan};

/// A libSQL database that is written.
pub struct TursoSink {
    config: TursoConfig,
    location: Location,
    services: Services,
    session: Option<Box<dyn Session>>,
    targets: HashMap<String, Target>,
    /// The plan of each collection's last batch, with the schema that it was made for.
    plans: HashMap<String, (Arc<Schema>, WritePlan)>,
    /// Tables that were written, for the look at their foreign keys.
    written: HashSet<String>,
    lanes: HeldLanes,
}

impl OpenSink for TursoSink {
    type Config = TursoConfig;

    fn open(config: TursoConfig, services: Services) -> Result<Self> {
        Ok(Self {
            location: client::locate(&config)?,
            config,
            services,
            session: None,
            targets: HashMap::new(),
            plans: HashMap::new(),
            written: HashSet::new(),
            lanes: HeldLanes::default(),
        })
    }

    fn capabilities() -> SinkCapabilities {
        SinkCapabilities {
            atomicity: Atomicity::Transactional,
            upsert: true,
            policies: vec![
                ConflictPolicy::Overwrite,
                ConflictPolicy::Skip,
                ConflictPolicy::Fail,
                ConflictPolicy::Merge,
                ConflictPolicy::Append,
            ],
            // A database has one writer at a time, near or far.
            sessions_max: 1,
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

impl TursoSink {
    /// The writing session, made on first use.
    fn session(&mut self) -> Result<&mut dyn Session> {
        if self.session.is_none() {
            self.session = Some(client::writer(&self.config, &self.location, &self.services)?);
        }
        match &mut self.session {
            Some(session) => Ok(&mut **session),
            None => Err(Error::internal("the session is gone")),
        }
    }

    fn is_open(&self) -> bool {
        self.session.as_ref().is_some_and(|session| session.is_open())
    }

    fn settings(&self) -> Settings {
        Settings {
            table_prefix: self.config.table_prefix.clone(),
            keeps_absent: self.config.absent == Absent::Keep,
        }
    }

    /// The lanes of these tables.
    fn lane_table(&self) -> Lanes {
        Lanes {
            table_prefix: self.config.table_prefix.clone(),
        }
    }

    /// Lets go of the lanes that it has taken over, or of those that are done: the process may live on without them.
    fn release(&mut self, only_done: bool) -> Result<()> {
        let statements = self.lanes.release(&self.lane_table(), only_done)?;
        match &mut self.session {
            Some(session) if !statements.is_empty() => session.release(&statements),
            _ => Ok(()),
        }
    }

    /// Looks without making a database that is not there.
    fn plan(&self, request: &PrepareRequest) -> Result<Plan> {
        let settings = self.settings();
        match &self.session {
            Some(session) => prepare::plan(Some(session.database()), &settings, request),
            None => {
                let database = client::checker(&self.config, &self.location, &self.services)?;
                prepare::plan(database.as_deref(), &settings, request)
            }
        }
    }

    fn target(&self, collection: &str) -> Result<&Target> {
        self.targets.get(collection).ok_or_else(|| {
            Error::new(
                ErrorKind::Internal,
                "turso.not_prepared",
                format!("`{collection}` was not prepared"),
            )
            .with_scope(ErrorScope::Write)
        })
    }

    fn refuse_in_transaction(&self, call: &str) -> Result<()> {
        if self.is_open() {
            let message = format!("`{call}` was called with a transaction open");
            return Err(Error::internal(message).with_scope(ErrorScope::Write));
        }
        Ok(())
    }
}

impl Sink for TursoSink {
    fn check(&mut self) -> Result<Vec<Finding>> {
        client::check_writable(&self.config, &self.location, &self.services)
    }

    fn prepare(&mut self, request: &PrepareRequest) -> Result<PrepareReport> {
        for collection in &request.collections {
            collection.schema.validate()?;
        }
        let mut plan = self.plan(request)?;
        if request.dry || plan.is_blocked() {
            return Ok(plan.report);
        }
        if !plan.statements().is_empty() {
            let settings = self.settings();
            let make = |database: &dyn database::Database| prepare::plan(Some(database), &settings, request);
            plan = self.session()?.apply(&make)?;
        }
        if !plan.is_blocked() {
            self.plans.clear();
            self.targets = plan.targets.into_iter().collect();
        }
        Ok(plan.report)
    }

    fn alter(&mut self, request: &AlterRequest) -> Result<PrepareReport> {
        self.refuse_in_transaction("alter")?;
        request.new.validate()?;
        let old = self.target(&request.collection)?.clone();
        let collection = Collection::new(&request.collection, request.new.clone()).with_key(old.key.clone());
        let growth = if request.overflow {
            Growth::Rest
        } else {
            Growth::Columns
        };
        let settings = self.settings();
        let make = |database: &dyn database::Database| {
            prepare::plan_change(database, &settings, &collection, growth, &old)
        };
        let session = self.session()?;
        let mut plan = make(session.database())?;
        if !plan.is_blocked() && !plan.statements().is_empty() {
            plan = session.apply(&make)?;
        }
        if !plan.is_blocked() {
            self.plans.remove(&request.collection);
            self.targets.extend(plan.targets);
        }
        Ok(plan.report)
    }

    fn take_over(&mut self, claims: &[LaneClaim]) -> Result<Vec<LaneState>> {
        self.refuse_in_transaction("take_over")?;
        if claims.is_empty() {
            return Ok(Vec::new());
        }
        let lanes = self.lane_table();
        let states = self.session()?.take_over(&lanes, claims)?;
        self.lanes.granted(&states);
        Ok(states)
    }

    fn begin(&mut self, lane: &LaneId) -> Result<()> {
        if self.is_open() {
            return Err(Error::internal("a transaction is open already").with_scope(ErrorScope::Write));
        }
        let fence = self.lanes.fence(&self.lane_table(), lane)?;
        self.session()?.begin(fence.as_ref())
    }

    fn write(&mut self, collection: &str, batch: &Batch, policy: ConflictPolicy) -> Result<Receipt> {
        if !self.is_open() {
            return Err(no_transaction());
        }
        let target = self.target(collection)?;
        let is_planned = self.plans.get(collection).is_some_and(|(schema, plan)| {
            plan.policy == policy && (Arc::ptr_eq(schema, &batch.schema) || *schema == batch.schema)
        });
        let table = (!self.written.contains(&target.table)).then(|| target.table.clone());
        if !is_planned {
            let plan = WritePlan::new(collection, target, &batch.schema, policy)?;
            self.plans
                .insert(collection.to_owned(), (Arc::clone(&batch.schema), plan));
        }
        self.written.extend(table);
        let (Some(session), Some((_, plan))) = (&mut self.session, self.plans.get_mut(collection)) else {
            return Err(Error::internal("the session or the plan is gone"));
        };
        session.write(plan, batch)
    }

    fn remove(&mut self, collection: &str, keys: &Batch) -> Result<u64> {
        if !self.is_open() {
            return Err(no_transaction());
        }
        let (sql, keys) = removal::statement(self.target(collection)?, keys)?;
        self.session()?.remove(&sql, keys)
    }

    fn commit(&mut self, checkpoint: &Checkpoint) -> Result<Committed> {
        if !self.is_open() {
            return Err(no_transaction());
        }
        // A host that takes nothing over says epoch 0, and nothing is kept of its lanes.
        let advance = match checkpoint.epoch {
            0 if self.lanes.is_empty() => None,
            _ => Some(self.lane_table().advance(checkpoint)?),
        };
        let seq = checkpoint.seq.saturating_add(1);
        let outcome = self.session()?.commit(advance.as_ref(), seq)?;
        self.lanes.answered(checkpoint, outcome);
        Ok(outcome)
    }

    fn abort(&mut self) -> Result<()> {
        self.session.as_mut().map_or(Ok(()), |session| session.abort())
    }

    fn add_constraints(&mut self) -> Result<Vec<Finding>> {
        let Some(session) = &self.session else {
            return Ok(Vec::new());
        };
        let mut tables: Vec<&String> = self.written.iter().collect();
        tables.sort();
        let mut findings = Vec::new();
        for table in tables {
            let sql = "SELECT count(*) FROM pragma_foreign_key_check(?1)";
            let values = [table.clone().into()];
            let count = database::count(session.database(), "look at the foreign keys", sql, &values)?;
            if count > 0 {
                findings.push(
                    Finding::warning("turso.orphans", format!("{count} records of the table {} point to records that are not there", quote(table)))
                        .with_help("foreign keys are not enforced while loading: migrate the parents, or remove the records"),
                );
            }
        }
        Ok(findings)
    }

    fn finalize(&mut self) -> Result<()> {
        if let Err(error) = self.release(false) {
            let message = format!(
                "this process still counts as the one that writes: {}",
                error.message
            );
            self.services.log(LogLevel::Warn, message);
        }
        self.session.as_mut().map_or(Ok(()), |session| session.finalize())
    }

    fn clear(&mut self, request: &ClearRequest) -> Result<ClearReport> {
        self.refuse_in_transaction("clear")?;
        let prefix = self.config.table_prefix.clone();
        let session = self.session()?;
        let mut statements = Vec::with_capacity(request.collections.len());
        for collection in &request.collections {
            let table = catalog::table_of(session.database(), &prefix, collection)?
                .ok_or_else(|| Error::no_collection(collection).with_scope(ErrorScope::Write))?;
            statements.push(Statement::plain(format!("DELETE FROM {}", quote(&table))));
        }
        let removed = session.run("empty the tables", &statements)?;
        Ok(ClearReport {
            removed: removed.into_iter().map(Some).collect(),
        })
    }

    fn reader(&mut self) -> Result<Box<dyn Source>> {
        Ok(Box::new(TursoSource::new(
            self.config.clone(),
            self.services.clone(),
        )?))
    }
}

impl Drop for TursoSink {
    fn drop(&mut self) {
        // What is open is undone; a process that does not end in good order is found to be gone.
        if !std::thread::panicking() && !self.is_open() {
            drop(self.release(true));
        }
    }
}

fn no_transaction() -> Error {
    Error::new(
        ErrorKind::Internal,
        "turso.no_transaction",
        "no transaction is open",
    )
    .with_scope(ErrorScope::Transaction)
}

/// An error that stops a run, as a finding.
pub(crate) fn finding(error: Error) -> Finding {
    Finding::of_error(&error)
}
