//! The sink role: one writing connection, one transaction at a time.
//!
//! `begin` is `BEGIN IMMEDIATE`, `commit` is `COMMIT`, and everything between is gone if neither `commit` nor the process
//! gets that far. What is made and compared is in `prepare`, how records are put into tables is in `write`.
//! A lane has no checkpoint here yet: each begins anew.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;

use rusqlite::Connection;
use whimbrel_plugin_api::record_type::Schema;
use whimbrel_plugin_api::sink::{Checkpoint, Committed, LaneId, PrepareReport, PrepareRequest};
use whimbrel_plugin_api::{
    Atomicity, Batch, ConflictPolicy, Error, ErrorKind, ErrorScope, Finding, LogLevel, OpenSink, Receipt,
    Result, Services, Sink, SinkCapabilities, Source, TypeMapping,
};

use crate::client::{self, Access};
use crate::config::TursoConfig;
use crate::error::Doing as _;
use crate::names::quote;
use crate::prepare::{self, COLUMNS_MAX};
use crate::source::TursoSource;
use crate::type_mapping::type_mappings;
use crate::write_plan::{Target, WritePlan};

/// A libSQL file that is written.
pub struct TursoSink {
    config: TursoConfig,
    path: PathBuf,
    services: Services,
    connection: Option<Connection>,
    targets: HashMap<String, Target>,
    /// The plan of each collection's last batch, with the schema that it was made for.
    plans: HashMap<String, (Arc<Schema>, WritePlan)>,
    /// Tables that were written, for the look at their foreign keys.
    written: HashSet<String>,
}

impl OpenSink for TursoSink {
    type Config = TursoConfig;

    fn open(config: TursoConfig, services: Services) -> Result<Self> {
        Ok(Self {
            path: config.path()?,
            config,
            services,
            connection: None,
            targets: HashMap::new(),
            plans: HashMap::new(),
            written: HashSet::new(),
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
            // A database file has one writer at a time.
            sessions_max: 1,
            lanes: false,
            undo: false,
            read_back: true,
            presence: false,
            fields_max: COLUMNS_MAX as u32,
        }
    }

    fn type_mappings() -> Vec<TypeMapping> {
        type_mappings()
    }
}

impl TursoSink {
    /// The writing connection, made on first use.
    fn connect(&mut self) -> Result<&Connection> {
        if self.connection.is_none() {
            self.connection = Some(client::open(&self.config, &self.path, Access::Write)?);
        }
        self.connection
            .as_ref()
            .ok_or_else(|| Error::internal("the connection is gone"))
    }

    /// The connection with an open transaction.
    fn in_transaction(&self) -> Result<&Connection> {
        self.connection
            .as_ref()
            .filter(|connection| !connection.is_autocommit())
            .ok_or_else(|| {
                Error::new(
                    ErrorKind::Internal,
                    "turso.no_transaction",
                    "no transaction is open",
                )
                .with_scope(ErrorScope::Transaction)
            })
    }

    fn plan(&self, request: &PrepareRequest) -> Result<prepare::Plan> {
        match &self.connection {
            Some(connection) => prepare::plan(Some(connection), &self.config.table_prefix, request),
            None if self.path.exists() => {
                let connection = client::open(&self.config, &self.path, Access::Check)?;
                prepare::plan(Some(&connection), &self.config.table_prefix, request)
            }
            None => prepare::plan(None, &self.config.table_prefix, request),
        }
    }

    /// Plans once more with the lock held, since the file may have changed, and does it.
    fn apply(&mut self, request: &PrepareRequest) -> Result<prepare::Plan> {
        let prefix = self.config.table_prefix.clone();
        let connection = self.connect()?;
        connection
            .execute_batch("BEGIN IMMEDIATE")
            .doing("begin a transaction")?;
        let outcome = prepare::plan(Some(connection), &prefix, request).and_then(|plan| {
            if !plan.is_blocked() {
                prepare::apply(connection, &plan)?;
                connection.execute_batch("COMMIT").doing("commit")?;
            }
            Ok(plan)
        });
        roll_back(connection)?;
        outcome
    }
}

impl Sink for TursoSink {
    fn check(&mut self) -> Result<Vec<Finding>> {
        if !self.path.exists() {
            return Ok(check_folder(&self.path).into_iter().collect());
        }
        let outcome = client::open(&self.config, &self.path, Access::Check).and_then(|connection| {
            connection
                .query_row("SELECT count(*) FROM sqlite_master", [], |_| Ok(()))
                .doing("read the database")?;
            connection
                .execute_batch("BEGIN IMMEDIATE; ROLLBACK")
                .doing("lock the database")
        });
        Ok(outcome.err().map(finding).into_iter().collect())
    }

    fn prepare(&mut self, request: &PrepareRequest) -> Result<PrepareReport> {
        for collection in &request.collections {
            collection.schema.validate()?;
        }
        let mut plan = self.plan(request)?;
        if request.dry || plan.is_blocked() {
            return Ok(plan.report);
        }
        if !plan.is_done() {
            plan = self.apply(request)?;
        }
        if !plan.is_blocked() {
            self.plans.clear();
            self.targets = plan.targets.into_iter().collect();
        }
        Ok(plan.report)
    }

    fn begin(&mut self, _: &LaneId) -> Result<()> {
        let connection = self.connect()?;
        if !connection.is_autocommit() {
            return Err(Error::internal("a transaction is open already").with_scope(ErrorScope::Write));
        }
        connection
            .execute_batch("BEGIN IMMEDIATE")
            .doing("begin a transaction")
            .map_err(|error| error.with_scope(ErrorScope::Transaction))
    }

    fn write(&mut self, collection: &str, batch: &Batch, policy: ConflictPolicy) -> Result<Receipt> {
        self.in_transaction()?;
        let target = self.targets.get(collection).ok_or_else(|| {
            Error::new(
                ErrorKind::Internal,
                "turso.not_prepared",
                format!("`{collection}` was not prepared"),
            )
            .with_scope(ErrorScope::Write)
        })?;
        let is_planned = self.plans.get(collection).is_some_and(|(schema, plan)| {
            plan.policy == policy && (Arc::ptr_eq(schema, &batch.schema) || *schema == batch.schema)
        });
        if !is_planned {
            let plan = WritePlan::new(collection, target, &batch.schema, policy)?;
            self.plans
                .insert(collection.to_owned(), (Arc::clone(&batch.schema), plan));
        }
        if !self.written.contains(&target.table) {
            self.written.insert(target.table.clone());
        }
        let connection = self
            .connection
            .as_ref()
            .ok_or_else(|| Error::internal("the connection is gone"))?;
        let (_, plan) = self
            .plans
            .get_mut(collection)
            .ok_or_else(|| Error::internal("the plan is gone"))?;
        plan.write(connection, &self.services, batch).map_err(|error| {
            // Part of the batch may stand already, so the transaction goes as a whole.
            let undone = roll_back(connection);
            error.with_scope(if undone.is_ok() {
                ErrorScope::Transaction
            } else {
                ErrorScope::Session
            })
        })
    }

    fn commit(&mut self, checkpoint: &Checkpoint) -> Result<Committed> {
        let connection = self.in_transaction()?;
        match connection.execute_batch("COMMIT").doing("commit") {
            Ok(()) => Ok(Committed::Committed {
                seq: checkpoint.seq + 1,
            }),
            Err(error) => {
                roll_back(connection)?;
                if error.code == "turso.io" {
                    // Frames may have reached the disk before the failure: only the file itself can say.
                    return Ok(Committed::Unknown);
                }
                Err(error.with_scope(ErrorScope::Transaction))
            }
        }
    }

    fn abort(&mut self) -> Result<()> {
        self.connection.as_ref().map_or(Ok(()), roll_back)
    }

    fn add_constraints(&mut self) -> Result<Vec<Finding>> {
        let Some(connection) = &self.connection else {
            return Ok(Vec::new());
        };
        let mut tables: Vec<&String> = self.written.iter().collect();
        tables.sort();
        let mut findings = Vec::new();
        for table in tables {
            let count = connection
                .query_row(
                    "SELECT count(*) FROM pragma_foreign_key_check(?1)",
                    [table],
                    |row| row.get::<_, u64>(0),
                )
                .doing("look at the foreign keys")?;
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
        let Some(connection) = &self.connection else {
            return Ok(());
        };
        connection
            .execute_batch("PRAGMA optimize")
            .doing("refresh the statistics")?;
        let is_busy: bool = connection
            .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))
            .doing("move the write-ahead log into the file")?;
        if is_busy {
            self.services.log(
                LogLevel::Warn,
                "another process reads the database, so its last changes are still in the file that ends in `-wal`: copy both",
            );
        }
        Ok(())
    }

    fn reader(&mut self) -> Result<Box<dyn Source>> {
        Ok(Box::new(TursoSource::new(
            self.config.clone(),
            self.services.clone(),
        )?))
    }
}

/// Undoes the open transaction, if there is one.
fn roll_back(connection: &Connection) -> Result<()> {
    if connection.is_autocommit() {
        return Ok(());
    }
    connection.execute_batch("ROLLBACK").doing("undo the transaction")
}

/// Why a file cannot be made there.
fn check_folder(path: &std::path::Path) -> Option<Finding> {
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
        .unwrap_or_else(|| ".".as_ref());
    let name = folder.display();
    if !folder.is_dir() {
        let finding = Finding::blocker(
            "turso.folder_missing",
            format!("the folder `{name}` of the database does not exist"),
        );
        return Some(finding.with_help("make it, or correct `url`"));
    }
    let rights = rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK;
    rustix::fs::access(folder, rights).err().map(|_| {
        Finding::blocker(
            "turso.read_only",
            format!("the folder `{name}` of the database may not be written"),
        )
        .with_help("change its rights, or correct `url`")
    })
}

/// An error that stops a run, as a finding.
pub(crate) fn finding(error: Error) -> Finding {
    let finding = Finding::blocker(error.code, error.message);
    match error.help {
        Some(help) => finding.with_help(help),
        None => finding,
    }
}
