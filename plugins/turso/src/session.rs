//! A session that writes, whatever is behind it: a file (`local`) or a server (`remote`).
//!
//! `sink` keeps what both have in common: targets, plans and the order of calls.

use rusqlite::types::Value;
use whimbrel_plugin_api::sink::{Committed, LaneClaim, LaneState};
use whimbrel_plugin_api::{Batch, Receipt, Result};

use crate::database::{Database, Statement};
use crate::lane::{Advance, Fence, Lanes};
use crate::prepare::Plan;
use crate::write_plan::WritePlan;

/// Makes a plan of what it finds in a database.
pub(crate) type MakePlan<'plan> = dyn Fn(&dyn Database) -> Result<Plan> + 'plan;

/// One writing session.
pub(crate) trait Session: Send {
    /// What can be asked outside of transactions.
    fn database(&self) -> &dyn Database;

    /// Plans and, unless there is a blocker, does what the plan says, in one transaction.
    fn apply(&mut self, make: &MakePlan<'_>) -> Result<Plan>;

    /// Carries statements out in one transaction; answers how many rows each has changed.
    fn run(&mut self, doing: &str, statements: &[Statement]) -> Result<Vec<u64>>;

    /// Whether a transaction is open.
    fn is_open(&self) -> bool;

    /// Grants all of the claims, or none.
    fn take_over(&mut self, lanes: &Lanes, claims: &[LaneClaim]) -> Result<Vec<LaneState>>;

    /// Opens a transaction. `run.fenced`, now or at a later call, if its lane is not as `fence` says.
    fn begin(&mut self, fence: Option<&Fence>) -> Result<()>;

    /// Accepts a batch. After an error the transaction is gone, unless its scope says otherwise.
    fn write(&mut self, plan: &mut WritePlan, batch: &Batch) -> Result<Receipt>;

    /// Removes records in the open transaction: `sql` with each of the `keys` in turn. Answers how many there were. After an
    /// error the transaction is gone.
    fn remove(&mut self, sql: &str, keys: Vec<Vec<Value>>) -> Result<u64>;

    /// Makes the transaction durable, as commit number `seq`, together with what `advance` does to the lane: both or neither.
    fn commit(&mut self, advance: Option<&Advance>, seq: u64) -> Result<Committed>;

    /// Undoes the open transaction, if there is one.
    fn abort(&mut self) -> Result<()>;

    /// Lets go of lanes, where it matters who holds them.
    fn release(&mut self, statements: &[Statement]) -> Result<()> {
        let _: &[Statement] = statements;
        Ok(())
    }

    /// The end of a successful run.
    fn finalize(&mut self) -> Result<()>;
}
