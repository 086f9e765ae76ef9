//! Lanes on a server: taken over in a transaction that reads all of them, then writes all of them.
//!
//! Three requests, the commit among them, unless the lanes are so many that they do not fit. A writer that has a transaction open
//! commits it first, or the server takes it away after its five seconds; then the writer's epoch is one of the past.

use prost::bytes::Bytes;
use rusqlite::types::ValueRef;
use whimbrel_plugin_api::sink::{LaneClaim, LaneState};
use whimbrel_plugin_api::{Error, ErrorKind, ErrorScope, Result};

use super::fault::sql_error;
use super::guard::Guard;
use super::hrana::{Row, statement};
use super::http::Http;
use super::retry::Attempts;
use super::session::{Outcome, RemoteSession};
use super::stream::Answer;
use super::transaction::{Setback, Transaction, chained, count_within, encoded, lost};
use crate::database::Statement;
use crate::lane::{self, Lanes, Stored};

/// Nobody's name: on a server it does not matter who holds a lane, since everybody can be fenced off.
const HOLDER: &str = "";

/// A take-over of which nobody knows whether it was committed.
pub(super) struct Doubtful {
    number: i64,
    /// What the lanes are, if it was.
    states: Vec<LaneState>,
}

impl RemoteSession {
    /// Grants all of the claims, or none.
    pub(super) fn take_lanes_over(&mut self, lanes: &Lanes, claims: &[LaneClaim]) -> Result<Vec<LaneState>> {
        let claims = self.settle(claims)?;
        let mut attempts = Attempts::new(self.patience);
        loop {
            // What was read in an earlier try may be different now.
            let mut transaction = self.next_transaction(None);
            match self.try_take_over(&mut transaction, lanes, &claims) {
                Ok(Some(states)) => return Ok(states),
                Ok(None) => return Err(take_over_unknown()),
                Err(setback) => self.prepare_again(&mut transaction, setback, &mut attempts)?,
            }
        }
    }

    /// What became of a take-over whose outcome was not known: claims of an epoch before it are claims of that epoch.
    fn settle(&mut self, claims: &[LaneClaim]) -> Result<Vec<LaneClaim>> {
        let mut claims = claims.to_vec();
        let Some(doubtful) = self.doubtful.take() else {
            return Ok(claims);
        };
        let guard = self.guard()?;
        match self.resolve(&guard, doubtful.number) {
            Some(true) => {
                for claim in &mut claims {
                    let taken = doubtful.states.iter().find(|state| state.lane == claim.lane);
                    if let (Some(held), Some(taken)) = (&mut claim.held, taken)
                        && held.checked_add(1) == Some(taken.epoch)
                    {
                        *held = taken.epoch;
                    }
                }
                Ok(claims)
            }
            Some(false) => Ok(claims),
            None => {
                self.doubtful = Some(doubtful);
                Err(take_over_unknown())
            }
        }
    }

    /// One try to take lanes over; `None` if nobody knows whether it was one.
    fn try_take_over(
        &mut self,
        transaction: &mut Transaction,
        lanes: &Lanes,
        claims: &[LaneClaim],
    ) -> Result<Option<Vec<LaneState>>, Setback> {
        let guard = self.guard().map_err(Setback::of)?;
        let states = grant(transaction, &self.http, &guard, lanes, claims)?;
        match self.try_commit(transaction, None)? {
            Outcome::Committed => Ok(Some(states)),
            Outcome::Unknown => {
                let number = transaction.number;
                self.doubtful = Some(Doubtful { number, states });
                Ok(None)
            }
        }
    }
}

fn take_over_unknown() -> Error {
    Error::new(
        ErrorKind::Unavailable,
        "turso.take_over_unknown",
        "it is not known whether the lanes were taken over",
    )
    .with_help("look at the server and the way to it, then resume")
    .with_scope(ErrorScope::Write)
}

/// Grants the claims in `transaction`, which is new; they hold once it is committed.
fn grant(
    transaction: &mut Transaction,
    http: &Http,
    guard: &Guard,
    lanes: &Lanes,
    claims: &[LaneClaim],
) -> Result<Vec<LaneState>, Setback> {
    let stored = read(transaction, http, guard, lanes, claims)?;
    let states = lane::granted(stored, claims).map_err(setback)?;
    let rows: Result<Vec<Bytes>, Error> = states
        .iter()
        .map(|state| lanes.write(state, HOLDER).map(|row| encoded(&row)))
        .collect();
    let rows = rows.map_err(Setback::Fatal)?;
    let mut rest = rows.as_slice();
    while !rest.is_empty() {
        let (now, later) = rest.split_at(count_within(rest.iter().map(Bytes::len)));
        rest = later;
        send(transaction, http, guard, now)?;
    }
    Ok(states)
}

fn setback(error: Error) -> Setback {
    match error.code == Error::fenced().code {
        true => Setback::Fenced,
        false => Setback::Fatal(error),
    }
}

fn read(
    transaction: &mut Transaction,
    http: &Http,
    guard: &Guard,
    lanes: &Lanes,
    claims: &[LaneClaim],
) -> Result<Vec<Option<Stored>>, Setback> {
    let mut statements = vec![encoded(&lanes.make())];
    statements.extend(claims.iter().map(|claim| {
        let Statement { sql, values } = lanes.read(&claim.lane);
        statement(&sql.into(), values.iter().map(ValueRef::from), true)
    }));
    let mut answers = Vec::with_capacity(statements.len());
    while answers.len() < statements.len() {
        let rest = &statements[answers.len()..];
        let count = count_within(rest.iter().map(Bytes::len));
        let (answer, first) = send(transaction, http, guard, &rest[..count])?;
        for step in first..first + count {
            answers.push(answer.rows(step).ok_or_else(lost)?.first().cloned());
        }
    }
    // The first answer is that to the statement that makes the table.
    let stored = |(claim, row): (&LaneClaim, Option<Row>)| {
        let row = row.map(|row| Stored::of_row(&claim.lane, &row)).transpose();
        row.map_err(Setback::Fatal)
    };
    claims
        .iter()
        .zip(answers.into_iter().skip(1))
        .map(stored)
        .collect()
}

/// Sends statements that all have to be carried out; the number of the first of them.
fn send(
    transaction: &mut Transaction,
    http: &Http,
    guard: &Guard,
    statements: &[Bytes],
) -> Result<(Answer, usize), Setback> {
    let (answer, first) =
        transaction.send(http, guard, |first| chained(first, statements.iter().cloned()))?;
    transaction.count(statements);
    let steps = first..first + statements.len();
    if let Some(error) = steps.clone().find_map(|step| answer.error(step)) {
        return Err(Setback::of(sql_error(error, "take the lanes over")));
    }
    match steps.last().map(|step| answer.changed(step)) {
        Some(None) => Err(lost()),
        _ => Ok((answer, first)),
    }
}
