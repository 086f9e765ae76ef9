//! The table `_whimbrel_lane`: what is durable of each lane, written in the transaction of its records.
//!
//! The statements and the rows, for files and servers alike; `local` and `remote` carry them out. What a claim makes of what
//! is stored is the contract's own rule, [`LaneState::taken_over`]. Copies into tables of another prefix have lanes of their own.

use std::collections::HashMap;

use rusqlite::types::{Value, ValueRef};
use whimbrel_plugin_api::sink::{Checkpoint, LaneClaim, LaneId, LaneState};
use whimbrel_plugin_api::{Cursor, Error, ErrorKind, Result};

use crate::database::{Cells, Statement, flag, integer, text};

/// The table's name.
pub(crate) const TABLE: &str = "_whimbrel_lane";

/// What makes the table.
const DDL: &str = "CREATE TABLE IF NOT EXISTS \"_whimbrel_lane\" (\"table_prefix\" TEXT NOT NULL, \"job\" TEXT NOT NULL, \
    \"source\" TEXT NOT NULL, \"collection\" TEXT NOT NULL, \"partition\" BLOB NOT NULL, \"begun_by\" TEXT NOT NULL, \
    \"epoch\" INTEGER NOT NULL, \"seq\" INTEGER NOT NULL, \"cursor\" BLOB NOT NULL, \"done\" INTEGER NOT NULL, \
    \"record_count\" INTEGER NOT NULL, \"extensions\" TEXT NOT NULL, \"holder\" TEXT NOT NULL, \
    \"updated_at\" INTEGER NOT NULL, \
    PRIMARY KEY (\"table_prefix\", \"job\", \"source\", \"collection\", \"partition\"))";

/// Names one lane; its values are the first five of every statement.
macro_rules! the_lane {
    () => {
        "\"table_prefix\" = ?1 AND \"job\" = ?2 AND \"source\" = ?3 AND \"collection\" = ?4 AND \"partition\" = ?5"
    };
}

const READ: &str = concat!(
    "SELECT \"begun_by\", \"epoch\", \"seq\", \"cursor\", \"done\", \"record_count\", \"extensions\", \"holder\" \
     FROM \"_whimbrel_lane\" WHERE ",
    the_lane!()
);
const WRITE: &str = "INSERT OR REPLACE INTO \"_whimbrel_lane\" \
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, unixepoch())";
/// A row that no constraint lets in, unless the lane is as it should be.
const CHECK: &str = concat!(
    "INSERT INTO \"_whimbrel_lane\" (\"table_prefix\") SELECT NULL WHERE NOT EXISTS (SELECT 1 FROM \"_whimbrel_lane\" WHERE ",
    the_lane!(),
    " AND \"epoch\" = ?6 AND (?7 IS NULL OR \"seq\" = ?7))"
);
const ADVANCE: &str = concat!(
    "UPDATE \"_whimbrel_lane\" SET \"seq\" = \"seq\" + 1, \"cursor\" = ?8, \"done\" = ?9, \
     \"record_count\" = \"record_count\" + ?10, \"extensions\" = ?11, \"updated_at\" = unixepoch() WHERE ",
    the_lane!(),
    " AND \"epoch\" = ?6 AND \"seq\" = ?7"
);
const RELEASE: &str = concat!(
    "UPDATE \"_whimbrel_lane\" SET \"holder\" = '' WHERE ",
    the_lane!(),
    " AND \"epoch\" = ?6"
);

/// The lanes of the tables with one prefix.
#[derive(Debug, Clone)]
pub(crate) struct Lanes {
    pub(crate) table_prefix: String,
}

/// A lane as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stored {
    pub(crate) state: LaneState,
    /// The process that took it over, as `process` writes it; empty on servers, and once that process has ended its work.
    pub(crate) holder: String,
}

/// What a transaction relies on: that its lane was not taken over.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Fence {
    /// The name, the epoch, and the seq if that is known.
    values: Vec<Value>,
}

/// What a commit does to its lane.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Advance {
    pub(crate) fence: Fence,
    /// Changes one row, or none if the lane is not as the fence says.
    pub(crate) update: Statement,
}

impl Lanes {
    /// Makes the table.
    pub(crate) fn make(&self) -> Statement {
        Statement::plain(DDL)
    }

    /// Asks for a lane; the row is read by [`Stored::of_row`].
    pub(crate) fn read(&self, lane: &LaneId) -> Statement {
        statement(READ, self.name(lane))
    }

    /// Puts a lane where [`Self::read`] finds it.
    pub(crate) fn write(&self, state: &LaneState, holder: &str) -> Result<Statement> {
        let mut values = self.name(&state.lane);
        values.extend([
            Value::Text(state.begun_by.clone()),
            number(state.epoch)?,
            number(state.seq)?,
            Value::Blob(state.cursor.0.clone()),
            Value::Integer(state.done.into()),
            number(state.record_count)?,
            extensions_text(&state.extensions)?,
            Value::Text(holder.to_owned()),
        ]);
        Ok(statement(WRITE, values))
    }

    /// That the lane still has this epoch.
    pub(crate) fn fence(&self, lane: &LaneId, epoch: u64) -> Result<Fence> {
        let mut values = self.name(lane);
        values.extend([number(epoch)?, Value::Null]);
        Ok(Fence { values })
    }

    /// Makes the checkpoint durable, if the lane has its epoch and seq.
    pub(crate) fn advance(&self, checkpoint: &Checkpoint) -> Result<Advance> {
        let mut values = self.name(&checkpoint.lane);
        values.extend([number(checkpoint.epoch)?, number(checkpoint.seq)?]);
        let fence = Fence {
            values: values.clone(),
        };
        values.extend([
            Value::Blob(checkpoint.cursor.0.clone()),
            Value::Integer(checkpoint.done.into()),
            number(checkpoint.record_count)?,
            extensions_text(&checkpoint.extensions)?,
        ]);
        Ok(Advance {
            fence,
            update: statement(ADVANCE, values),
        })
    }

    /// Lets go of a lane that this epoch has held.
    pub(crate) fn release(&self, lane: &LaneId, epoch: u64) -> Result<Statement> {
        let mut values = self.name(lane);
        values.push(number(epoch)?);
        Ok(statement(RELEASE, values))
    }

    fn name(&self, lane: &LaneId) -> Vec<Value> {
        vec![
            Value::Text(self.table_prefix.clone()),
            Value::Text(lane.job.clone()),
            Value::Text(lane.source.clone()),
            Value::Text(lane.collection.clone()),
            Value::Blob(lane.partition.0.clone()),
        ]
    }
}

impl Fence {
    /// Fails, by a constraint, unless the lane is as it should be.
    pub(crate) fn check(&self) -> Statement {
        statement(CHECK, self.values.clone())
    }
}

impl Stored {
    /// The row that [`Lanes::read`] finds.
    ///
    /// # Errors
    /// `turso.bad_lane` if somebody else has changed it to what this plugin never writes.
    pub(crate) fn of_row(lane: &LaneId, row: &dyn Cells) -> Result<Self> {
        let unsigned = |column| {
            let number = integer(row, column).map_err(|_| bad_lane())?;
            u64::try_from(number).map_err(|_| bad_lane())
        };
        let text = |column| text(row, column).map_err(|_| bad_lane());
        let ValueRef::Blob(cursor) = row.cell(3)? else {
            return Err(bad_lane());
        };
        Ok(Self {
            state: LaneState {
                lane: lane.clone(),
                begun_by: text(0)?,
                epoch: unsigned(1)?,
                seq: unsigned(2)?,
                cursor: Cursor(cursor.to_vec()),
                done: flag(row, 4).map_err(|_| bad_lane())?,
                record_count: unsigned(5)?,
                extensions: serde_json::from_str(&text(6)?).map_err(|_| bad_lane())?,
            },
            holder: text(7)?,
        })
    }
}

/// What the lanes are once all claims are granted, given what is stored of each.
///
/// # Errors
/// `run.fenced` if one of them is not.
pub(crate) fn granted(stored: Vec<Option<Stored>>, claims: &[LaneClaim]) -> Result<Vec<LaneState>> {
    // A lane that is claimed twice is so one after the other.
    let mut now: HashMap<&LaneId, LaneState> = HashMap::new();
    let mut states = Vec::with_capacity(claims.len());
    for (claim, stored) in claims.iter().zip(stored) {
        let stored = now
            .get(&claim.lane)
            .cloned()
            .or(stored.map(|stored| stored.state));
        let state = LaneState::taken_over(stored.as_ref(), claim)?;
        now.insert(&claim.lane, state.clone());
        states.push(state);
    }
    Ok(states)
}

fn statement(sql: &str, values: Vec<Value>) -> Statement {
    Statement {
        sql: sql.to_owned(),
        values,
    }
}

fn number(number: u64) -> Result<Value> {
    i64::try_from(number)
        .map(Value::Integer)
        .map_err(|_| Error::internal("a number of a checkpoint is larger than the database can hold"))
}

fn extensions_text(extensions: &std::collections::BTreeMap<String, String>) -> Result<Value> {
    serde_json::to_string(extensions)
        .map(Value::Text)
        .map_err(|error| Error::internal("a checkpoint could not be written").with_cause(&error))
}

fn bad_lane() -> Error {
    Error::new(
        ErrorKind::Integrity,
        "turso.bad_lane",
        "a row of the table `_whimbrel_lane` is none that was written by this plugin",
    )
    .with_help("restore the table, or remove it and start the job anew with `whimbrel run`")
}
