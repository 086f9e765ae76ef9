//! A database file: what it is asked over one connection, and the session that writes it.
//!
//! `begin` is `BEGIN IMMEDIATE`, `commit` is `COMMIT`, and everything between is gone if neither `commit` nor the process
//! gets that far. How records are put into tables is in `write`; connections are made by `client`. A lane is not taken over from
//! another `process` that lives: nothing here could end what it has open.

use std::ops::ControlFlow;
use std::path::Path;

use rusqlite::types::{Value, ValueRef};
use rusqlite::{Connection, ErrorCode, Row, params_from_iter};
use whimbrel_plugin_api::sink::{Committed, LaneClaim, LaneState};
use whimbrel_plugin_api::{
    Batch, Error, ErrorKind, ErrorScope, Finding, LogLevel, Receipt, Result, Services,
};

use crate::database::{self, Cells, Database, EachRow, Statement, text};
use crate::error::Doing as _;
use crate::lane::{self, Advance, Fence, Lanes, Stored};
use crate::prepare::Plan;
use crate::process::Process;
use crate::schema;
use crate::session::{MakePlan, Session};
use crate::write_plan::WritePlan;

/// Records between two looks at whether the host has cancelled.
const CANCEL_EVERY: usize = 1_024;

impl Database for Connection {
    fn query_each(
        &self,
        doing: &str,
        sql: &str,
        values: &[Vec<Value>],
        each: &mut EachRow<'_>,
    ) -> Result<()> {
        let mut statement = self.prepare_cached(sql).doing(doing)?;
        for (number, values) in values.iter().enumerate() {
            let mut rows = statement.query(params_from_iter(values)).doing(doing)?;
            while let Some(row) = rows.next().doing(doing)? {
                if let ControlFlow::Break(()) = each(number, row)? {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    fn columns(&self, doing: &str, sql: &str) -> Result<Vec<String>> {
        let statement = self.prepare(sql).doing(doing)?;
        let names = statement.column_names().into_iter();
        Ok(names.map(str::to_owned).collect())
    }

    fn hold_still(&self) -> Result<()> {
        self.execute_batch("BEGIN").doing("begin to read")
    }
}

impl Cells for Row<'_> {
    fn cell(&self, column: usize) -> Result<ValueRef<'_>> {
        self.get_ref(column).doing("read a row")
    }
}

/// The session that writes a file.
pub(crate) struct LocalSession {
    connection: Connection,
    services: Services,
}

impl LocalSession {
    pub(crate) fn new(connection: Connection, services: Services) -> Self {
        Self { connection, services }
    }
}

impl LocalSession {
    /// Carries claims out in the open transaction.
    fn grant(&self, lanes: &Lanes, claims: &[LaneClaim], this: &Process) -> Result<Vec<LaneState>> {
        let doing = "take the lanes over";
        execute(&self.connection, doing, &[lanes.make()])?;
        let states = grantable(&self.connection, lanes, claims, this)?;
        let holder = this.to_text();
        let rows: Result<Vec<Statement>> = states.iter().map(|state| lanes.write(state, &holder)).collect();
        execute(&self.connection, doing, &rows?)?;
        Ok(states)
    }
}

impl Session for LocalSession {
    fn database(&self) -> &dyn Database {
        &self.connection
    }

    /// Plans with the lock held, since the file may have changed meanwhile.
    fn apply(&mut self, make: &MakePlan<'_>) -> Result<Plan> {
        begin(&self.connection)?;
        let outcome = make(&self.connection).and_then(|plan| {
            if !plan.is_blocked() {
                execute(&self.connection, "make a table", &plan.statements())?;
                self.connection.execute_batch("COMMIT").doing("commit")?;
            }
            Ok(plan)
        });
        roll_back(&self.connection)?;
        outcome
    }

    fn run(&mut self, doing: &str, statements: &[Statement]) -> Result<Vec<u64>> {
        begin(&self.connection)?;
        let outcome = execute(&self.connection, doing, statements).and_then(|changed| {
            self.connection.execute_batch("COMMIT").doing("commit")?;
            Ok(changed)
        });
        roll_back(&self.connection)?;
        outcome
    }

    fn is_open(&self) -> bool {
        !self.connection.is_autocommit()
    }

    fn take_over(&mut self, lanes: &Lanes, claims: &[LaneClaim]) -> Result<Vec<LaneState>> {
        let this = Process::this();
        // Before the lock is waited for, which a process that was stopped may never give back.
        if schema::holder_of(&self.connection, lane::TABLE)?.is_some() {
            grantable(&self.connection, lanes, claims, &this)?;
        }
        begin(&self.connection)?;
        let outcome = self.grant(lanes, claims, &this).and_then(|states| {
            self.connection.execute_batch("COMMIT").doing("commit")?;
            Ok(states)
        });
        roll_back(&self.connection)?;
        outcome
    }

    fn begin(&mut self, fence: Option<&Fence>) -> Result<()> {
        begin(&self.connection).map_err(|error| error.with_scope(ErrorScope::Transaction))?;
        let outcome = fence.map_or(Ok(()), |fence| check(&self.connection, fence));
        if outcome.is_err() {
            roll_back(&self.connection)?;
        }
        outcome
    }

    fn write(&mut self, plan: &mut WritePlan, batch: &Batch) -> Result<Receipt> {
        plan.write(&self.connection, &self.services, batch)
            .map_err(|error| {
                // Part of the batch may stand already, so the transaction goes as a whole.
                let undone = roll_back(&self.connection);
                error.with_scope(if undone.is_ok() {
                    ErrorScope::Transaction
                } else {
                    ErrorScope::Session
                })
            })
    }

    fn remove(&mut self, sql: &str, keys: Vec<Vec<Value>>) -> Result<u64> {
        let removed = delete(&self.connection, &self.services, sql, keys);
        removed.map_err(|error| {
            let undone = roll_back(&self.connection);
            error.with_scope(match undone {
                Ok(()) => ErrorScope::Transaction,
                Err(_) => ErrorScope::Session,
            })
        })
    }

    fn commit(&mut self, advance: Option<&Advance>, seq: u64) -> Result<Committed> {
        if let Some(advance) = advance {
            let statement = std::slice::from_ref(&advance.update);
            match execute(&self.connection, "move the lane on", statement) {
                Ok(changed) if changed == [1] => {}
                outcome => {
                    roll_back(&self.connection)?;
                    return outcome
                        .map(|_| Committed::Fenced)
                        .map_err(|error| error.with_scope(ErrorScope::Transaction));
                }
            }
        }
        match self.connection.execute_batch("COMMIT").doing("commit") {
            Ok(()) => Ok(Committed::Committed { seq }),
            Err(error) => {
                roll_back(&self.connection)?;
                if error.code == "turso.io" {
                    // Frames may have reached the disk before the failure: only the file itself can say.
                    return Ok(Committed::Unknown);
                }
                Err(error.with_scope(ErrorScope::Transaction))
            }
        }
    }

    fn abort(&mut self) -> Result<()> {
        roll_back(&self.connection)
    }

    fn release(&mut self, statements: &[Statement]) -> Result<()> {
        self.run("let go of the lanes", statements).map(drop)
    }

    fn finalize(&mut self) -> Result<()> {
        self.connection
            .execute_batch("PRAGMA optimize")
            .doing("refresh the statistics")?;
        let is_busy: bool = self
            .connection
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
}

fn begin(connection: &Connection) -> Result<()> {
    connection
        .execute_batch("BEGIN IMMEDIATE")
        .doing("begin a transaction")
        .map_err(|error| with_holder(connection, error))
}

/// Says, where that is known, which process it is that holds the database.
fn with_holder(connection: &Connection, mut error: Error) -> Error {
    let ask = "SELECT DISTINCT \"holder\" FROM \"_whimbrel_lane\" WHERE \"holder\" <> ''";
    if error.code == "turso.busy"
        && let Ok(holders) = database::rows(connection, "ask who holds the lanes", ask, &[], |row| {
            text(row, 0)
        })
    {
        let this = Process::this();
        let mut others = holders.iter().filter_map(|holder| Process::of_text(holder));
        if let Some(other) = others.find(|other| other.lives_beside(&this)) {
            error.message.push_str(&format!("; {other} copies into it"));
        }
    }
    error
}

/// What the lanes are once all claims are granted.
///
/// # Errors
/// `run.fenced`; else `run.lane_held` if another process that lives writes one of them.
fn grantable(
    connection: &Connection,
    lanes: &Lanes,
    claims: &[LaneClaim],
    this: &Process,
) -> Result<Vec<LaneState>> {
    let mut all_stored = Vec::with_capacity(claims.len());
    let mut other = None;
    for claim in claims {
        let Statement { sql, values } = lanes.read(&claim.lane);
        let stored = database::first(connection, "read the lanes", &sql, &values, |row| {
            Stored::of_row(&claim.lane, row)
        })?;
        // An epoch that is still held says that nobody else has taken the lane over.
        if let (Some(stored), None, None) = (&stored, &claim.held, &other) {
            other = Process::of_text(&stored.holder).filter(|holder| holder.lives_beside(this));
        }
        all_stored.push(stored);
    }
    let states = lane::granted(all_stored, claims)?;
    match other {
        Some(other) => Err(Error::lane_held(other)),
        None => Ok(states),
    }
}

/// Fails unless the lane of the open transaction is as it should be.
fn check(connection: &Connection, fence: &Fence) -> Result<()> {
    let Statement { sql, values } = fence.check();
    let checked = connection
        .prepare_cached(&sql)
        .and_then(|mut statement| statement.execute(params_from_iter(values)));
    match checked {
        Err(error) if error.sqlite_error_code() == Some(ErrorCode::ConstraintViolation) => {
            Err(Error::fenced())
        }
        outcome => outcome
            .map(drop)
            .doing("look at the lane")
            .map_err(|error| error.with_scope(ErrorScope::Transaction)),
    }
}

fn execute(connection: &Connection, doing: &str, statements: &[Statement]) -> Result<Vec<u64>> {
    let mut changed = Vec::with_capacity(statements.len());
    for Statement { sql, values } in statements {
        let mut statement = connection.prepare_cached(sql).doing(doing)?;
        changed.push(statement.execute(params_from_iter(values)).doing(doing)? as u64);
    }
    Ok(changed)
}

/// Runs a statement that removes one record with each of the keys.
fn delete(connection: &Connection, services: &Services, sql: &str, keys: Vec<Vec<Value>>) -> Result<u64> {
    let doing = "remove records";
    let mut statement = connection.prepare_cached(sql).doing(doing)?;
    let mut removed = 0;
    for (number, key) in keys.into_iter().enumerate() {
        if number.is_multiple_of(CANCEL_EVERY) {
            services.check_cancelled()?;
        }
        removed += statement.execute(params_from_iter(key)).doing(doing)? as u64;
        if connection.is_autocommit() {
            let message = "a trigger of the table undid the whole transaction";
            return Err(Error::new(
                ErrorKind::Integrity,
                "turso.transaction_lost",
                message,
            ));
        }
    }
    Ok(removed)
}

/// Undoes the open transaction, if there is one.
fn roll_back(connection: &Connection) -> Result<()> {
    if connection.is_autocommit() {
        return Ok(());
    }
    connection.execute_batch("ROLLBACK").doing("undo the transaction")
}

/// What is in the way of writing the file: nothing is changed, but the lock is taken for a moment.
pub(crate) fn check_writable(connection: &Connection) -> Result<()> {
    connection
        .query_row("SELECT count(*) FROM sqlite_master", [], |_| Ok(()))
        .doing("read the database")?;
    connection
        .execute_batch("BEGIN IMMEDIATE; ROLLBACK")
        .doing("lock the database")
        .map_err(|error| with_holder(connection, error))
}

/// Why a file cannot be made there.
pub(crate) fn check_folder(path: &Path) -> Option<Finding> {
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

/// The database file for reading; it must exist.
pub(crate) fn missing_file(path: &Path) -> Option<Error> {
    if path.exists() {
        return None;
    }
    let message = format!("the database file `{}` does not exist", path.display());
    Some(Error::not_found("turso.file_missing", message).with_help("correct `url`"))
}
