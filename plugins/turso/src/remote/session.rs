//! The session that writes to a server.
//!
//! A transaction is open on the server from its first batch to its commit, which the host is asked to make soon. How it
//! survives being taken away is told in `transaction`; how an unknown outcome becomes a known one, in `guard`.

use std::time::Duration;

use prost::bytes::Bytes;
use rusqlite::types::Value;
use whimbrel_plugin_api::sink::{Committed, LaneClaim, LaneState};
use whimbrel_plugin_api::{Batch, Error, ErrorScope, LogLevel, Receipt, Result, Services};

use super::database::RemoteDatabase;
use super::fault::{Failure, sql_error};
use super::guard::Guard;
use super::hrana::{Condition, Step, statement};
use super::http::Http;
use super::lanes::Doubtful;
use super::merge;
use super::pieces::Writing;
use super::removing::Removing;
use super::retry::Attempts;
use super::stream::Stream;
use super::transaction::{Closing, Setback, Transaction, plain};
use crate::config::{Server, TursoConfig};
use crate::database::{Database, Statement, integer};
use crate::lane::{Advance, Fence, Lanes};
use crate::prepare::Plan;
use crate::record_values::{KeyNames, Values};
use crate::session::{MakePlan, Session};
use crate::write_plan::WritePlan;

/// How long the outcome of a commit is asked for: longer than another writer may keep the server busy.
const RESOLVE_PATIENCE: Duration = Duration::from_secs(15);
/// What removing the row is called in messages.
const REMOVE_GUARD: &str = "remove a row of `_whimbrel_guard`";
/// How often a plan is made again because the tables were changed between looking and making.
const PLANS_MAX: u32 = 3;

/// The session.
pub(crate) struct RemoteSession {
    pub(super) http: Http,
    database: RemoteDatabase,
    /// How long other writers are waited for.
    pub(super) patience: Duration,
    /// The row on the server, once it was made.
    guard: Option<Guard>,
    /// Of the last transaction. No two have the same: the row tells by it which one was committed.
    number: i64,
    open: Option<Transaction>,
    /// A take-over of which nobody knows whether it was committed.
    pub(super) doubtful: Option<Doubtful>,
    /// Whether the run has ended well, so that the row on the server may go with the session.
    is_finalized: bool,
}

impl RemoteSession {
    /// A session. Nothing is sent yet.
    pub(crate) fn open(config: &TursoConfig, server: &Server, services: &Services) -> Result<Self> {
        let http = Http::new(config, server, services)?;
        Ok(Self {
            database: RemoteDatabase::over(http.clone()),
            http,
            patience: Duration::from_millis(config.busy_timeout_ms.into()),
            guard: None,
            number: 0,
            open: None,
            doubtful: None,
            is_finalized: false,
        })
    }

    /// The row on the server, made on first use.
    pub(super) fn guard(&mut self) -> Result<Guard> {
        if let Some(guard) = &self.guard {
            return Ok(guard.clone());
        }
        let guard = Guard::new();
        // Again makes the same row.
        self.run("make the table `_whimbrel_guard`", &guard.make())?;
        self.guard = Some(guard.clone());
        Ok(guard)
    }

    /// Statements as one transaction, in one request.
    fn transact(&self, doing: &str, statements: &[Statement]) -> Result<Vec<u64>, Failure> {
        let mut all = vec![plain("PRAGMA foreign_keys = OFF"), plain("BEGIN IMMEDIATE")];
        all.extend(statements.iter().map(|Statement { sql, values }| {
            statement(
                &sql.clone().into_bytes().into(),
                values.iter().map(Into::into),
                false,
            )
        }));
        all.push(plain("COMMIT"));
        let commit = all.len() - 1;
        let mut steps: Vec<Step> = all
            .into_iter()
            .enumerate()
            .map(|(number, statement)| Step {
                condition: number.checked_sub(1).map(Condition::ok),
                statement,
            })
            .collect();
        steps.push(Step {
            condition: Some(Condition::not_ok(commit).and(Condition::in_transaction())),
            statement: plain("ROLLBACK"),
        });
        let answer = Stream::new(&self.http).last_batch(steps)?;
        if let Some(error) = (0..=commit).find_map(|step| answer.error(step)) {
            return Err(Failure::before(sql_error(error, doing)));
        }
        let changed: Option<Vec<u64>> = (2..commit).map(|step| answer.changed(step)).collect();
        match (changed, answer.changed(commit)) {
            (Some(changed), Some(_)) => Ok(changed),
            _ => Err(Failure::before(Error::internal(
                "the server left a statement out",
            ))),
        }
    }

    /// One try after the other, until the transaction stands where `step` leaves it.
    fn persist<T>(
        &mut self,
        mut step: impl FnMut(&mut Transaction, &Http, &Guard) -> Result<T, Setback>,
    ) -> Result<T> {
        let guard = self.guard()?;
        let Some(mut transaction) = self.open.take() else {
            return Err(lost_for_good(Error::internal("no transaction is open")));
        };
        let mut attempts = Attempts::new(self.patience);
        loop {
            match step(&mut transaction, &self.http, &guard) {
                Ok(done) => {
                    self.open = Some(transaction);
                    return Ok(done);
                }
                Err(setback) => self.prepare_again(&mut transaction, setback, &mut attempts)?,
            }
        }
    }

    /// Waits until `transaction` may be tried again.
    ///
    /// # Errors
    /// Why it is gone for good.
    pub(super) fn prepare_again(
        &self,
        transaction: &mut Transaction,
        setback: Setback,
        attempts: &mut Attempts,
    ) -> Result<()> {
        let error = match setback {
            Setback::Fenced => Error::fenced(),
            Setback::Fatal(error) => lost_for_good(error),
            Setback::Lost(error) => {
                transaction.drop_stream();
                let paused = attempts.pause(self.http.services(), error.clone());
                match (transaction.can_repeat(), paused) {
                    (true, Ok(())) => {
                        self.say_again(&error);
                        return Ok(());
                    }
                    (true, Err(error)) => lost_for_good(error),
                    (false, _) => lost_for_good(error),
                }
            }
        };
        transaction.abort();
        Err(error)
    }

    fn say_again(&self, error: &Error) {
        let message = format!(
            "the transaction is written once more: {} ({})",
            error.message, error.code
        );
        self.http.services().log(LogLevel::Warn, message);
    }

    /// Whether transaction `number` was committed after all; `None` if the server does not say.
    pub(super) fn resolve(&mut self, guard: &Guard, number: i64) -> Option<bool> {
        let mut attempts = Attempts::new(RESOLVE_PATIENCE);
        loop {
            let steps = vec![
                Step {
                    condition: None,
                    statement: plain("BEGIN IMMEDIATE"),
                },
                guard.raise(Condition::ok(0)),
                guard.ask(Condition::ok(1)),
                Step {
                    condition: Some(Condition::ok(2)),
                    statement: plain("COMMIT"),
                },
            ];
            let error = match Stream::new(&self.http).last_batch(steps) {
                Ok(answer) => match (answer.changed(3), (0..4).find_map(|step| answer.error(step))) {
                    (_, Some(error)) => sql_error(error, "ask for the outcome of a commit"),
                    (None, None) => return None,
                    (Some(_), None) => {
                        let row = answer.steps.results.get(&2)?.rows.first()?;
                        let (fence, committed) = (integer(row, 0).ok()?, integer(row, 1).ok()?);
                        self.guard.as_mut()?.fence = fence;
                        return Some(committed == number);
                    }
                },
                Err(failure) => failure.error,
            };
            if attempts.pause(self.http.services(), error).is_err() {
                return None;
            }
        }
    }

    /// One try to commit.
    pub(super) fn try_commit(
        &mut self,
        transaction: &mut Transaction,
        advance: Option<&Advance>,
    ) -> Result<Outcome, Setback> {
        let guard = self.guard().map_err(Setback::of)?;
        transaction.catch_up(&self.http, &guard)?;
        match transaction.send_commit(&self.http, &guard, advance) {
            Ok(Closing::Committed) => Ok(Outcome::Committed),
            Ok(Closing::NotCommitted(setback)) => Err(setback),
            Err(failure) if failure.may_be_done => match self.resolve(&guard, transaction.number) {
                Some(true) => Ok(Outcome::Committed),
                Some(false) => Err(Setback::Lost(failure.error)),
                None => Ok(Outcome::Unknown),
            },
            Err(failure) => Err(Setback::of(failure.error)),
        }
    }

    pub(super) fn next_transaction(&mut self, fence: Option<&Fence>) -> Transaction {
        self.number += 1;
        Transaction::new(self.number, fence.cloned())
    }
}

/// What is known of a commit.
pub(super) enum Outcome {
    Committed,
    Unknown,
}

impl Session for RemoteSession {
    fn database(&self) -> &dyn Database {
        &self.database
    }

    fn apply(&mut self, make: &MakePlan<'_>) -> Result<Plan> {
        let mut plans = 1;
        let mut attempts = Attempts::new(self.patience);
        loop {
            let plan = make(&self.database)?;
            let statements = plan.statements();
            if plan.is_blocked() || statements.is_empty() {
                return Ok(plan);
            }
            match self.transact("make a table", &statements) {
                Ok(_) => return Ok(plan),
                Err(failure) if failure.error.kind.is_transient() => {
                    attempts.pause(self.http.services(), failure.error)?;
                }
                // Somebody else may have made the table between looking and making: look again.
                Err(failure) if plans == PLANS_MAX => return Err(failure.error),
                Err(_) => plans += 1,
            }
        }
    }

    fn run(&mut self, doing: &str, statements: &[Statement]) -> Result<Vec<u64>> {
        let mut attempts = Attempts::new(self.patience);
        loop {
            match self.transact(doing, statements) {
                Ok(changed) => return Ok(changed),
                Err(failure) => attempts.pause(self.http.services(), failure.error)?,
            }
        }
    }

    fn is_open(&self) -> bool {
        self.open.is_some()
    }

    fn take_over(&mut self, lanes: &Lanes, claims: &[LaneClaim]) -> Result<Vec<LaneState>> {
        self.take_lanes_over(lanes, claims)
    }

    fn begin(&mut self, fence: Option<&Fence>) -> Result<()> {
        self.open = Some(self.next_transaction(fence));
        Ok(())
    }

    fn write(&mut self, plan: &mut WritePlan, batch: &Batch) -> Result<Receipt> {
        let plan = &*plan;
        let values = Values::new(plan, batch)?;
        let count = batch.record_count();
        let writing = if values.looks_first(plan) {
            self.persist(|transaction, http, guard| {
                merge::write(plan, &values, count, transaction, http, guard)
            })?
        } else {
            let mut writing = Writing::new(plan, &values, count);
            self.persist(|transaction, http, guard| {
                while !writing.advance(transaction, http, guard)? {}
                Ok(())
            })?;
            writing
        };
        let (mut receipt, mut refused) = (writing.receipt, writing.refused);
        refused.sort_by_key(|(row, _)| *row);
        if !refused.is_empty() {
            let names = KeyNames::new(plan, batch);
            let rejected = refused.into_iter().map(|(row, fault)| names.rejected(row, fault));
            receipt.rejected = rejected.collect();
        }
        receipt.commit_due = self.open.as_ref().is_some_and(Transaction::is_due);
        Ok(receipt)
    }

    fn remove(&mut self, sql: &str, keys: Vec<Vec<Value>>) -> Result<u64> {
        let sql = Bytes::copy_from_slice(sql.as_bytes());
        let one = |key: &Vec<Value>| statement(&sql, key.iter().map(Into::into), false);
        let mut removing = Removing::new(keys.iter().map(one).collect());
        self.persist(|transaction, http, guard| {
            while !removing.advance(transaction, http, guard)? {}
            Ok(())
        })?;
        Ok(removing.removed)
    }

    fn commit(&mut self, advance: Option<&Advance>, seq: u64) -> Result<Committed> {
        let Some(mut transaction) = self.open.take() else {
            return Err(lost_for_good(Error::internal("no transaction is open")));
        };
        match advance {
            Some(advance) => transaction.rely_on(&advance.fence),
            None if transaction.is_empty() => {
                transaction.abort();
                return Ok(Committed::Committed { seq });
            }
            None => {}
        }
        let mut attempts = Attempts::new(self.patience);
        loop {
            match self.try_commit(&mut transaction, advance) {
                Ok(Outcome::Committed) => return Ok(Committed::Committed { seq }),
                Ok(Outcome::Unknown) => return Ok(Committed::Unknown),
                Err(Setback::Fenced) => {
                    transaction.abort();
                    return Ok(Committed::Fenced);
                }
                Err(setback) => self.prepare_again(&mut transaction, setback, &mut attempts)?,
            }
        }
    }

    fn abort(&mut self) -> Result<()> {
        if let Some(mut transaction) = self.open.take() {
            transaction.abort();
        }
        Ok(())
    }

    fn finalize(&mut self) -> Result<()> {
        self.is_finalized = true;
        self.doubtful = None;
        if let Some(guard) = self.guard.take()
            && let Err(error) = self.run(REMOVE_GUARD, &[guard.remove()])
        {
            let message = format!(
                "a row of `_whimbrel_guard` is left, which does no harm: {}",
                error.message
            );
            self.http.services().log(LogLevel::Warn, message);
        }
        Ok(())
    }
}

impl Drop for RemoteSession {
    fn drop(&mut self) {
        // What is committed after the end of the run, so that its end is durable, makes the row once more.
        if let (true, Some(guard)) = (self.is_finalized, self.guard.take()) {
            drop(self.transact(REMOVE_GUARD, &[guard.remove()]));
        }
    }
}

fn lost_for_good(error: Error) -> Error {
    error.with_scope(ErrorScope::Transaction)
}
