//! The table `lane` in the schema of whimbrel's own: what is durable of each partition, and which run may go on there.
//!
//! A lane's row is changed in the transaction that writes its records, so that both become durable or neither; the
//! condition of that change is the fence. A row is found by a digest of the lane's name, which may be longer than a key
//! of an index. Each writing transaction holds an advisory lock for its lane, by which who takes over finds those that
//! are still open. Neighbours: `take_over` grants lanes, `texts` writes their parts, `write` sends what is made here with
//! its COMMIT.

mod take_over;
mod texts;

use sha2::{Digest as _, Sha256};
use whimbrel_plugin_api::Result;
use whimbrel_plugin_api::sink::{Checkpoint, LaneId};

use crate::connection::Connection;
use crate::error::Fault;
use crate::memory;
use crate::names::{TableName, literal};
use texts::{bytes, extensions_text};

pub(crate) use self::take_over::TakeOver;

/// The table's name within the schema of whimbrel's own.
const TABLE: &str = "lane";
/// What is raised where a lane is not the caller's; the class is none of PostgreSQL's.
const FENCED: &str = "WH001";
/// What is raised where somebody else's transaction cannot be ended.
const HELD: &str = "WH002";
/// What a division by zero is reported as.
const DIVISION: &str = "22012";

/// The table's full name.
pub(crate) fn table(state_schema: &str) -> TableName {
    TableName {
        schema: state_schema.to_owned(),
        name: TABLE.to_owned(),
    }
}

/// Statements that make the table, and its schema if that is missing too.
fn ddl(state_schema: &str, has_schema: bool) -> Vec<String> {
    let table = table(state_schema).sql();
    let mut ddl = match has_schema {
        true => Vec::new(),
        false => memory::schema_ddl(state_schema),
    };
    // A row is changed with every commit: with room left in its block it is changed in place.
    ddl.push(format!(
        "CREATE TABLE IF NOT EXISTS {table} (\n  digest bytea PRIMARY KEY,\n  job text NOT NULL,\n  source text NOT NULL,\n  \
         collection text NOT NULL,\n  partition bytea NOT NULL,\n  begun_by text NOT NULL,\n  epoch bigint NOT NULL,\n  \
         seq bigint NOT NULL,\n  cursor bytea NOT NULL,\n  done boolean NOT NULL,\n  record_count bigint NOT NULL,\n  \
         extensions text NOT NULL,\n  claim text NOT NULL,\n  backend integer NOT NULL,\n  \
         updated_at timestamp with time zone NOT NULL\n) WITH (fillfactor = 50)"
    ));
    ddl.push(format!("REVOKE ALL ON TABLE {table} FROM PUBLIC"));
    ddl
}

/// What there is of the table, and what whoever connects may do there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Standing {
    pub(crate) has_schema: bool,
    pub(crate) exists: bool,
    /// Rights on the table alone.
    pub(crate) may_change: bool,
    /// Whether the database can hold every text.
    is_utf8: bool,
}

/// Looks for the table.
pub(crate) async fn standing(connection: &mut Connection, state_schema: &str) -> Result<Standing, Fault> {
    let sql = format!(
        "SELECT n.oid IS NOT NULL, c.oid IS NOT NULL, has_table_privilege(c.oid, 'SELECT') AND has_table_privilege(c.oid, 'INSERT') \
         AND has_table_privilege(c.oid, 'UPDATE'), getdatabaseencoding() = 'UTF8' FROM (SELECT 1) AS one \
         LEFT JOIN pg_catalog.pg_namespace n ON n.nspname = {} \
         LEFT JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = {}",
        literal(state_schema),
        literal(TABLE)
    );
    let row = connection
        .rows(&sql)
        .await?
        .into_iter()
        .next()
        .unwrap_or_default();
    let is = |index: usize| row.get(index).is_some_and(|text| text.as_deref() == Some("t"));
    Ok(Standing {
        has_schema: is(0),
        exists: is(1),
        may_change: is(2),
        is_utf8: is(3),
    })
}

/// How a lane is found: its row by a digest, the transactions that write it by the key of an advisory lock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LaneKey {
    digest: [u8; 32],
    lock: i64,
}

impl LaneKey {
    /// Of a lane that is kept in this schema: two schemas of one database know nothing of each other.
    pub(crate) fn new(state_schema: &str, lane: &LaneId) -> Self {
        let parts = [
            lane.job.as_bytes(),
            lane.source.as_bytes(),
            lane.collection.as_bytes(),
            &lane.partition.0,
        ];
        let digest = digest(&parts);
        let of_lock = digest_of_lock(state_schema, &digest);
        let mut first = [0; 8];
        first.copy_from_slice(&of_lock[..8]);
        Self {
            digest,
            lock: i64::from_be_bytes(first),
        }
    }

    /// The statement by which a transaction can be found as one of this lane, until its end. Nobody asks for the lock
    /// otherwise than shared, so it never waits.
    pub(crate) fn hold_statement(&self) -> String {
        format!("SELECT pg_catalog.pg_advisory_xact_lock_shared({});", self.lock)
    }

    /// The digest as it stands in statements.
    fn row(&self) -> String {
        bytes(&self.digest)
    }
}

/// Each part with its length before it, so that no two names run together.
fn digest(parts: &[&[u8]]) -> [u8; 32] {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hash.finalize().into()
}

fn digest_of_lock(state_schema: &str, lane: &[u8]) -> [u8; 32] {
    digest(&[state_schema.as_bytes(), lane])
}

/// The statement that moves a lane on to `checkpoint`, in the transaction of its records. It fails with what
/// [`is_fenced`] knows unless the lane has the checkpoint's epoch and number.
///
/// A host that takes nothing over says epoch 0. It is let through unless the lane has been taken over by somebody
/// else, or this session has taken over others: `takes_over`.
pub(crate) fn guard_statement(state_schema: &str, checkpoint: &Checkpoint, takes_over: bool) -> String {
    let (table, row) = (
        table(state_schema).sql(),
        LaneKey::new(state_schema, &checkpoint.lane).row(),
    );
    if checkpoint.epoch == 0 && !takes_over {
        let body = format!(
            "BEGIN IF EXISTS (SELECT FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
             WHERE n.nspname = {} AND c.relname = {} AND has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT')) \
             THEN IF EXISTS (SELECT FROM {table} WHERE digest = {row}) THEN RAISE SQLSTATE '{FENCED}'; END IF; END IF; END",
            literal(state_schema),
            literal(TABLE)
        );
        return format!("DO {};", literal(&body));
    }
    format!(
        "WITH moved AS (UPDATE {table} SET seq = seq + 1, cursor = {}, done = {}, record_count = record_count + {}, extensions = {}, \
         backend = pg_backend_pid(), updated_at = clock_timestamp() WHERE digest = {row} AND epoch = {} AND seq = {} RETURNING 1) \
         SELECT 1 / count(*) FROM moved;",
        bytes(&checkpoint.cursor.0),
        checkpoint.done,
        checkpoint.record_count,
        literal(&extensions_text(&checkpoint.extensions)),
        checkpoint.epoch,
        checkpoint.seq
    )
}

/// Whether the statement of [`guard_statement`] failed because the lane is another run's.
pub(crate) fn is_fenced(fault: &Fault) -> bool {
    matches!(fault.sqlstate.as_deref(), Some(FENCED | DIVISION))
}
