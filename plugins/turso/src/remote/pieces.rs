//! The records of a batch as statements for the server: many in one, and one by one where a record may be refused.
//!
//! A statement of many records fails as a whole if one of them is refused. Then it and what follows is sent once more, a
//! statement per record, so that only the refused ones are missing. Neighbour: `merge`, for records that depend on what is
//! stored.

use std::collections::{HashMap, VecDeque};

use prost::Message as _;
use prost::bytes::Bytes;
use rusqlite::types::ValueRef;
use whimbrel_plugin_api::{ConflictPolicy, Error, ErrorKind, Receipt};

use super::fault::{row_fault, sql_error};
use super::guard::Guard;
use super::hrana::{Condition, SqlStatement, Step, Value};
use super::http::Http;
use super::transaction::{Setback, Transaction, chained, count_within, lost};
use crate::encode::Scratch;
use crate::error::RowFault;
use crate::record_values::{Values, rest_value};
use crate::write_plan::WritePlan;

/// Values of one statement. A server allows 32,766. Records of 15 values a second: 19,000 with 400, 28,000 with 2,000, and
/// no more with 16,000.
const STATEMENT_VALUES_MAX: usize = 2_000;
/// Octets of one statement, unless a single record is larger.
const STATEMENT_BYTES_MAX: usize = 256 * 1024;

/// A statement and the rows that it writes.
#[derive(Debug)]
pub(super) struct Piece {
    pub(super) rows: Vec<usize>,
    pub(super) statement: Bytes,
}

/// Records on their way into a transaction.
pub(super) struct Writing<'batch> {
    pub(super) plan: &'batch WritePlan,
    pub(super) values: &'batch Values,
    queue: VecDeque<Piece>,
    /// Whether every statement is of one record and depends on no other.
    is_apart: bool,
    pub(super) receipt: Receipt,
    pub(super) refused: Vec<(usize, RowFault)>,
    /// Statements by their number of records.
    sql: HashMap<usize, Bytes>,
}

impl<'batch> Writing<'batch> {
    /// All records of a batch, new as far as the table is concerned.
    pub(super) fn new(plan: &'batch WritePlan, values: &'batch Values, record_count: usize) -> Self {
        let mut writing = Self::of_pieces(plan, values, Vec::new());
        // Triggers may drop a record, which only shows where it is alone.
        writing.is_apart = plan.has_triggers;
        let together = match plan.has_triggers {
            true => 1,
            false => (STATEMENT_VALUES_MAX / plan.value_count().max(1)).max(1),
        };
        let mut rows = Vec::new();
        let mut encoded = Vec::new();
        let mut bytes = 0;
        for row in 0..record_count {
            match new_record(plan, values, row) {
                Ok(record) => {
                    let length: usize = record.iter().map(Value::encoded_len).sum();
                    if rows.len() == together || (bytes + length > STATEMENT_BYTES_MAX && !rows.is_empty()) {
                        writing.push(std::mem::take(&mut rows), std::mem::take(&mut encoded));
                        bytes = 0;
                    }
                    rows.push(row);
                    encoded.extend(record);
                    bytes += length;
                }
                Err(fault) => writing.refused.push((row, fault)),
            }
        }
        if !rows.is_empty() {
            writing.push(rows, encoded);
        }
        writing
    }

    /// Statements that were made elsewhere, each of one record.
    pub(super) fn of_pieces(plan: &'batch WritePlan, values: &'batch Values, pieces: Vec<Piece>) -> Self {
        Self {
            plan,
            values,
            queue: pieces.into(),
            is_apart: true,
            receipt: Receipt::default(),
            refused: Vec::new(),
            sql: HashMap::new(),
        }
    }

    fn push(&mut self, rows: Vec<usize>, values: Vec<Value>) {
        let count = rows.len();
        let plan = self.plan;
        let sql = self
            .sql
            .entry(count)
            .or_insert_with(|| plan.insert_statement(count).into());
        let statement = encoded(sql, values);
        self.queue.push_back(Piece { rows, statement });
    }

    /// Sends what is left, as far as one request goes; true once nothing is left.
    pub(super) fn advance(
        &mut self,
        transaction: &mut Transaction,
        http: &Http,
        guard: &Guard,
    ) -> Result<bool, Setback> {
        if self.queue.is_empty() {
            return Ok(true);
        }
        transaction.catch_up(http, guard)?;
        let count = count_within(self.queue.iter().map(|piece| piece.statement.len()));
        let statements: Vec<Bytes> = self
            .queue
            .iter()
            .take(count)
            .map(|piece| piece.statement.clone())
            .collect();
        let is_apart = self.is_apart;
        let (answer, first) = transaction.send(http, guard, |first| match is_apart {
            true => apart(first, statements),
            false => chained(first, statements.into_iter()),
        })?;
        let refused_before = self.refused.len();
        let mut sent: VecDeque<Piece> = self.queue.drain(..count).collect();
        let mut step = first;
        while let Some(piece) = sent.pop_front() {
            if let Some(changed) = answer.changed(step) {
                self.accept(transaction, piece, changed);
            } else if let Some(error) = answer.error(step) {
                match (row_fault(error, self.plan), piece.rows.as_slice()) {
                    (Some(fault), [row]) => self.refused.push((*row, fault)),
                    (Some(_), _) => {
                        sent.push_front(piece);
                        break;
                    }
                    (None, _) => {
                        let error = sql_error(error, "write a batch");
                        transaction.drop_stream();
                        return Err(Setback::of(error));
                    }
                }
            } else {
                // Left out, since one before it was refused or the transaction is gone.
                sent.push_front(piece);
                break;
            }
            step += 1;
        }
        let is_refused = self.refused.len() > refused_before || answer.error(step).is_some();
        for piece in sent.into_iter().rev() {
            self.queue.push_front(piece);
        }
        if answer.is_autocommit {
            transaction.drop_stream();
            return Err(match is_refused {
                true => Setback::Fatal(Error::new(
                    ErrorKind::Integrity,
                    "turso.transaction_lost",
                    "a trigger of the table undid the whole transaction",
                )),
                false => lost(),
            });
        }
        if is_refused && !self.is_apart {
            self.take_apart();
        }
        Ok(self.queue.is_empty())
    }

    fn accept(&mut self, transaction: &mut Transaction, piece: Piece, changed: u64) {
        let count = piece.rows.len() as u64;
        if let ([row], 0) = (piece.rows.as_slice(), changed)
            && self.plan.policy != ConflictPolicy::Skip
            && !self.plan.may_change_nothing
        {
            let message = "a trigger of the table dropped the record";
            self.refused
                .push((*row, RowFault::new("turso.trigger_refused", message)));
            return;
        }
        self.receipt.accepted += count;
        if self.plan.policy == ConflictPolicy::Skip {
            self.receipt.skipped += count.saturating_sub(changed);
        }
        transaction.keep(piece.statement);
    }

    /// Makes a statement per record of all that is left.
    fn take_apart(&mut self) {
        self.is_apart = true;
        for piece in std::mem::take(&mut self.queue) {
            for row in piece.rows {
                match new_record(self.plan, self.values, row) {
                    Ok(record) => self.push(vec![row], record),
                    Err(fault) => self.refused.push((row, fault)),
                }
            }
        }
    }
}

/// Steps that depend only on the transaction's being as it should.
fn apart(first: usize, statements: Vec<Bytes>) -> Vec<Step> {
    let step = |statement| Step {
        condition: Some(Condition::ok(first - 1).and(Condition::in_transaction())),
        statement,
    };
    statements.into_iter().map(step).collect()
}

/// The values of a record for the statement that makes new ones.
pub(super) fn new_record(plan: &WritePlan, values: &Values, row: usize) -> Result<Vec<Value>, RowFault> {
    values.check_key(plan, row)?;
    let mut scratch = Scratch::default();
    let mut record = Vec::with_capacity(plan.value_count());
    for (place, encoder) in values.encoders.iter().enumerate() {
        let value = values.value(encoder, row, plan.columns[place].0, &mut scratch)?;
        record.push(Value::of(value));
    }
    if plan.has_rest {
        for index in &plan.rest {
            values.check_present(row, *index)?;
        }
        let mut rest = Vec::new();
        values.rest.write(row, &values.presence, &mut rest)?;
        record.push(Value::of(rest_value(&rest)));
    }
    Ok(record)
}

/// The values of a record's key.
pub(super) fn key_of(plan: &WritePlan, values: &Values, row: usize) -> Result<Vec<Value>, RowFault> {
    let mut scratch = Scratch::default();
    let mut key = Vec::with_capacity(plan.key.len());
    for place in &plan.key {
        let value: ValueRef<'_> = values.encoders[*place].value(row, &mut scratch)?;
        key.push(Value::of(value));
    }
    Ok(key)
}

/// A statement in its encoded form.
pub(super) fn encoded(sql: &Bytes, values: Vec<Value>) -> Bytes {
    let statement = SqlStatement {
        sql: sql.clone(),
        values,
        want_rows: Some(false),
    };
    statement.encode_to_vec().into()
}
