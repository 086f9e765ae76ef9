//! A session that writes, whatever is behind it: a file (`local`) or a server (`remote`).
//!
//! `sink` keeps what both have in common: targets, plans and the order of calls.

use whimbrel_plugin_api::sink::Committed;
use whimbrel_plugin_api::{Batch, Receipt, Result};

use crate::database::{Database, Statement};
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

    /// Opens a transaction.
    fn begin(&mut self) -> Result<()>;

    /// Accepts a batch. After an error the transaction is gone, unless its scope says otherwise.
    fn write(&mut self, plan: &mut WritePlan, batch: &Batch) -> Result<Receipt>;

    /// Makes the transaction durable, as commit number `seq`.
    fn commit(&mut self, seq: u64) -> Result<Committed>;

    /// Undoes the open transaction, if there is one.
    fn abort(&mut self) -> Result<()>;

    /// The end of a successful run.
    fn finalize(&mut self) -> Result<()>;
}
