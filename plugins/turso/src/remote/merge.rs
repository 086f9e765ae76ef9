//! Records whose statements depend on what is stored: those that change only some fields, or a part of the rest column.
//!
//! The stored records are asked for within the transaction, so nobody can change them before they are written. Records of
//! one key are written in their order, the later ones after the earlier were asked for again.

use std::collections::HashSet;

use prost::Message as _;
use prost::bytes::Bytes;
use rusqlite::types::ValueRef;

use super::fault::sql_error;
use super::guard::Guard;
use super::hrana::{Condition, SqlStatement, Step, Value};
use super::http::Http;
use super::pieces::{Piece, Writing, encoded, key_of, new_record};
use super::transaction::{Setback, Transaction, lost};
use crate::encode::Scratch;
use crate::error::RowFault;
use crate::record_values::{Values, rest_value};
use crate::write_plan::WritePlan;

/// Records that are asked for together. Their rests come back in one answer.
const ROUND_RECORDS_MAX: usize = 500;

/// Records of one round, no key twice, with their keys.
struct Round {
    rows: Vec<(usize, Vec<Value>)>,
    next: usize,
}

/// What is stored under a key: nothing, or the rest of a record.
type Stored = Option<Option<String>>;

/// Writes all records of a batch.
pub(super) fn write<'batch>(
    plan: &'batch WritePlan,
    values: &'batch Values,
    record_count: usize,
    transaction: &mut Transaction,
    http: &Http,
    guard: &Guard,
) -> Result<Writing<'batch>, Setback> {
    let mut done = Writing::of_pieces(plan, values, Vec::new());
    let mut row = 0;
    while row < record_count {
        let round = round(plan, values, row, record_count, &mut done.refused);
        row = round.next;
        if round.rows.is_empty() {
            continue;
        }
        let stored = ask(plan, &round, transaction, http, guard)?;
        let mut pieces = Vec::with_capacity(round.rows.len());
        for ((row, key), stored) in round.rows.into_iter().zip(stored) {
            match piece(plan, values, row, key, stored) {
                Ok(statement) => pieces.push(Piece {
                    rows: vec![row],
                    statement,
                }),
                Err(fault) => done.refused.push((row, fault)),
            }
        }
        let mut writing = Writing::of_pieces(plan, values, pieces);
        while !writing.advance(transaction, http, guard)? {}
        done.receipt.accepted += writing.receipt.accepted;
        done.refused.append(&mut writing.refused);
    }
    Ok(done)
}

fn round(
    plan: &WritePlan,
    values: &Values,
    from: usize,
    to: usize,
    refused: &mut Vec<(usize, RowFault)>,
) -> Round {
    let mut seen = HashSet::new();
    let mut rows = Vec::new();
    for row in from..to {
        let key = values
            .check_key(plan, row)
            .and_then(|()| key_of(plan, values, row));
        match key {
            Ok(key) => {
                let octets: Vec<u8> = key
                    .iter()
                    .flat_map(Value::encode_length_delimited_to_vec)
                    .collect();
                if rows.len() == ROUND_RECORDS_MAX || !seen.insert(octets) {
                    return Round { rows, next: row };
                }
                rows.push((row, key));
            }
            Err(fault) => refused.push((row, fault)),
        }
    }
    Round { rows, next: to }
}

/// What is stored under the keys of a round.
fn ask(
    plan: &WritePlan,
    round: &Round,
    transaction: &mut Transaction,
    http: &Http,
    guard: &Guard,
) -> Result<Vec<Stored>, Setback> {
    let sql = Bytes::from(plan.stored_statement());
    let (answer, first) = transaction.send(http, guard, |first| {
        let step = |(_, key): &(usize, Vec<Value>)| {
            let statement = SqlStatement {
                sql: sql.clone(),
                values: key.clone(),
                want_rows: Some(true),
            };
            Step {
                condition: Some(Condition::ok(first - 1).and(Condition::in_transaction())),
                statement: statement.encode_to_vec().into(),
            }
        };
        round.rows.iter().map(step).collect()
    })?;
    transaction.depends_on_reading();
    let mut stored = Vec::with_capacity(round.rows.len());
    for step in first..first + round.rows.len() {
        if let Some(error) = answer.error(step) {
            return Err(Setback::of(sql_error(error, "look at stored records")));
        }
        let result = u32::try_from(step)
            .ok()
            .and_then(|step| answer.steps.results.get(&step));
        let Some(result) = result else {
            return Err(lost());
        };
        stored.push(
            result
                .rows
                .first()
                .map(|row| match row.values.first().map(Value::as_ref) {
                    Some(ValueRef::Text(text)) => Some(String::from_utf8_lossy(text).into_owned()),
                    _ => None,
                }),
        );
    }
    Ok(stored)
}

/// The statement for a record, of what is stored and what comes.
fn piece(
    plan: &WritePlan,
    values: &Values,
    row: usize,
    key: Vec<Value>,
    stored: Stored,
) -> Result<Bytes, RowFault> {
    let Some(stored_rest) = stored else {
        return Ok(encoded(
            &plan.insert.clone().into(),
            new_record(plan, values, row)?,
        ));
    };
    let brought = values.brought(plan, row);
    let mut scratch = Scratch::default();
    let mut record = Vec::with_capacity(brought.len() + key.len() + 1);
    for place in &brought {
        let value = values.value(
            &values.encoders[*place],
            row,
            plan.columns[*place].0,
            &mut scratch,
        )?;
        record.push(Value::of(value));
    }
    if plan.has_rest {
        let mut rest = Vec::new();
        values.rest.write(row, &values.presence, &mut rest)?;
        let merged = values.merged_rest(plan, row, stored_rest.as_deref(), &rest)?;
        record.push(Value::of(rest_value(merged.as_bytes())));
    }
    record.extend(key);
    Ok(encoded(&plan.update_statement(&brought).into(), record))
}
