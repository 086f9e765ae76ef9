//! Grants lanes: ends what older holders have open, moves each lane to its next epoch, and says what is durable there.
//!
//! All of it is one message to the server, from BEGIN to COMMIT, so that who asks can stop or vanish at any moment and
//! leaves nobody waiting. The rules are those of `LaneState::taken_over`. A lost answer is asked for again under the same
//! token, and what was granted under it is not granted twice. Neighbour: `lanes` has the table.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher as _, RandomState};

use whimbrel_plugin_api::sink::{LaneClaim, LaneState};
use whimbrel_plugin_api::{Cursor, Error, Result};

use super::texts::{bytes, bytes_of, damaged, extensions_of, kept, number_of, text_of};
use super::{FENCED, HELD, LaneKey, Standing, ddl, standing, table};
use crate::connection::{Connection, Row};
use crate::error::Fault;
use crate::names::{literal, quote};
use crate::prepare::take_turns;

/// Columns that a lane keeps if it goes on, and that begin anew with another run.
const KEPT_COLUMNS: [&str; 6] = ["begun_by", "seq", "cursor", "done", "record_count", "extensions"];

/// A wish for lanes.
pub(crate) struct TakeOver<'claims> {
    state_schema: String,
    /// How long to wait for others, in milliseconds.
    limit_ms: u32,
    claims: &'claims [LaneClaim],
    keys: Vec<LaneKey>,
    /// What no other wish has.
    token: String,
}

impl<'claims> TakeOver<'claims> {
    /// # Errors
    /// That a lane is claimed twice.
    pub(crate) fn new(state_schema: &str, limit_ms: u32, claims: &'claims [LaneClaim]) -> Result<Self> {
        let keys: Vec<LaneKey> = claims
            .iter()
            .map(|claim| LaneKey::new(state_schema, &claim.lane))
            .collect();
        let distinct: HashSet<[u8; 32]> = keys.iter().map(|key| key.digest).collect();
        if distinct.len() < keys.len() {
            return Err(Error::internal(
                "`take_over` was called with a lane that is claimed twice",
            ));
        }
        let random = || RandomState::new().hash_one(std::process::id());
        Ok(Self {
            state_schema: state_schema.to_owned(),
            limit_ms,
            claims,
            keys,
            token: format!("{:016x}{:016x}", random(), random()),
        })
    }

    /// Takes the lanes over, or none of them.
    ///
    /// # Errors
    /// `run.fenced`, `run.lane_held`, and what the database reports.
    pub(crate) async fn carry_out(&self, connection: &mut Connection) -> Result<Vec<LaneState>> {
        let mut found = standing(connection, &self.state_schema).await?;
        if !found.exists {
            found = self.make(connection).await?;
        }
        let statements = format!(
            "SET LOCAL lock_timeout = {}; DO {}; {}",
            self.limit_ms,
            literal(&self.body(found.is_utf8)),
            self.states_query()
        );
        match connection.transaction(&statements).await {
            Ok(rows) => self.states(rows),
            Err(fault) => Err(self.refused(connection, fault).await),
        }
    }

    /// Makes the table. Another run may be making it as well.
    async fn make(&self, connection: &mut Connection) -> Result<Standing> {
        connection.begin("ISOLATION LEVEL READ COMMITTED").await?;
        take_turns(connection).await?;
        let found = standing(connection, &self.state_schema).await?;
        if !found.exists {
            for statement in ddl(&self.state_schema, found.has_schema) {
                connection.run(&statement).await?;
            }
        }
        connection.run("COMMIT").await?;
        Ok(found)
    }

    async fn refused(&self, connection: &mut Connection, fault: Fault) -> Error {
        match fault.sqlstate.as_deref() {
            Some(FENCED) => Error::fenced(),
            Some(HELD) => {
                // Should this fail as well, the first error says more.
                drop(connection.run("ROLLBACK").await);
                self.name_holder(connection).await.unwrap_or(fault.error)
            }
            _ => fault.error,
        }
    }

    /// The error that says who has one of the lanes.
    async fn name_holder(&self, connection: &mut Connection) -> Result<Error, Fault> {
        let sql = format!(
            "SELECT k.pid, a.usename, current_user FROM pg_catalog.pg_locks k \
             LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid = k.pid WHERE {} ORDER BY k.pid LIMIT 1",
            self.holders(&format!("ARRAY[{}]::bigint[]", self.locks()))
        );
        let row = connection
            .rows(&sql)
            .await?
            .into_iter()
            .next()
            .unwrap_or_default();
        let mut texts = row.into_iter();
        let mut text = || texts.next().flatten();
        let (Some(pid), user) = (text(), text()) else {
            return Ok(Error::lane_held("another session of the database"));
        };
        let whose = user.map_or_else(String::new, |user| format!(" of user `{user}`"));
        let us = text().unwrap_or_default();
        Ok(
            Error::lane_held(format!("the server process {pid}{whose}")).with_help(format!(
                "end it with `SELECT pg_terminate_backend({pid})`, or let whimbrel do so: `GRANT pg_signal_backend TO {}`",
                quote(&us)
            )),
        )
    }

    /// Who has a transaction open for one of these locks; of `pg_locks k`.
    fn holders(&self, locks: &str) -> String {
        format!(
            "k.locktype = 'advisory' AND k.objsubid = 1 AND k.mode = 'ShareLock' AND k.pid <> pg_backend_pid() \
             AND k.database = (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = current_database()) \
             AND ((k.classid::bigint << 32) | k.objid::bigint) = ANY ({locks})"
        )
    }

    fn locks(&self) -> String {
        let locks: Vec<String> = self.keys.iter().map(|key| key.lock.to_string()).collect();
        locks.join(", ")
    }

    /// What the server does in between. A claim of an epoch that is no longer there must not end the transactions of those
    /// who have it now, so it is looked at first; whether it still is there is sure when the row is ours.
    fn body(&self, is_utf8: bool) -> String {
        let table = table(&self.state_schema).sql();
        let token = literal(&self.token);
        format!(
            "#variable_conflict use_column
DECLARE
  whimbrel_locks bigint[] := ARRAY[{locks}]::bigint[];
  whimbrel_until timestamptz := clock_timestamp() + interval '{limit} milliseconds';
  whimbrel_pid integer;
  whimbrel_lost bigint;
BEGIN
  {look}
  LOOP
    FOR whimbrel_pid IN SELECT DISTINCT k.pid FROM pg_catalog.pg_locks k WHERE {holders} LOOP
      BEGIN
        PERFORM pg_catalog.pg_terminate_backend(whimbrel_pid);
      EXCEPTION WHEN insufficient_privilege THEN
        NULL;
      END;
    END LOOP;
    EXIT WHEN NOT FOUND;
    IF clock_timestamp() > whimbrel_until THEN RAISE SQLSTATE '{HELD}'; END IF;
    PERFORM pg_catalog.pg_sleep(0.005);
  END LOOP;
  WITH claimed (digest, job, source, collection, partition, begun_by, held) AS (VALUES {claims}),
  moved AS (
    INSERT INTO {table} AS l (digest, job, source, collection, partition, begun_by, epoch, seq, cursor, done, record_count,
      extensions, claim, backend, updated_at)
    SELECT digest, job, source, collection, partition, begun_by, 1, 0, ''::bytea, false, 0, '{{}}', {token}, pg_backend_pid(),
      clock_timestamp() FROM claimed ORDER BY digest
    ON CONFLICT (digest) DO UPDATE SET {kept}, epoch = l.epoch + 1, claim = excluded.claim, backend = excluded.backend,
      updated_at = excluded.updated_at WHERE l.claim <> excluded.claim
    RETURNING l.digest, l.epoch)
  SELECT count(*) INTO whimbrel_lost FROM moved m JOIN claimed c ON c.digest = m.digest WHERE c.held <> m.epoch - 1;
  IF whimbrel_lost > 0 THEN RAISE SQLSTATE '{FENCED}'; END IF;
END",
            locks = self.locks(),
            limit = self.limit_ms,
            look = self.look(&table),
            holders = self.holders("whimbrel_locks"),
            claims = self.claimed(is_utf8),
            kept = kept_columns(),
        )
    }

    /// Ends a claim of an epoch that the lane does not have.
    fn look(&self, table: &str) -> String {
        let believed = |(claim, key): (&LaneClaim, &LaneKey)| {
            let held = claim.held?;
            Some(format!("({}, {held}::numeric)", key.row()))
        };
        let believed: Vec<String> = self.claims.iter().zip(&self.keys).filter_map(believed).collect();
        if believed.is_empty() {
            return String::new();
        }
        format!(
            "IF EXISTS (SELECT FROM (VALUES {}) AS c (digest, held) LEFT JOIN {table} l ON l.digest = c.digest \
             WHERE c.held <> coalesce(l.epoch, 0) AND l.claim IS DISTINCT FROM {}) THEN RAISE SQLSTATE '{FENCED}'; END IF;",
            believed.join(", "),
            literal(&self.token)
        )
    }

    /// The claims as rows.
    fn claimed(&self, is_utf8: bool) -> String {
        let row = |(claim, key): (&LaneClaim, &LaneKey)| {
            let text = |text: &str| literal(&kept(text, is_utf8));
            let held = claim
                .held
                .map_or_else(|| "NULL".to_owned(), |held| held.to_string());
            format!(
                "({}, {}, {}, {}, {}, {}, {held}::numeric)",
                key.row(),
                text(&claim.lane.job),
                text(&claim.lane.source),
                text(&claim.lane.collection),
                bytes(&claim.lane.partition.0),
                text(&claim.begun_by),
            )
        };
        let rows: Vec<String> = self.claims.iter().zip(&self.keys).map(row).collect();
        rows.join(", ")
    }

    fn states_query(&self) -> String {
        let rows: Vec<String> = self.keys.iter().map(LaneKey::row).collect();
        format!(
            "SELECT digest, begun_by, epoch, seq, cursor, done, record_count, extensions FROM {} WHERE digest IN ({});",
            table(&self.state_schema).sql(),
            rows.join(", ")
        )
    }

    /// The answer, in the order of the claims.
    fn states(&self, rows: Vec<Row>) -> Result<Vec<LaneState>> {
        let mut found = HashMap::with_capacity(rows.len());
        for row in rows {
            let (digest, state) = state_of(row)?;
            found.insert(digest, state);
        }
        let state = |(claim, key): (&LaneClaim, &LaneKey)| {
            let state = found.remove(key.digest.as_slice()).ok_or_else(damaged)?;
            Ok(LaneState {
                lane: claim.lane.clone(),
                ..state
            })
        };
        self.claims.iter().zip(&self.keys).map(state).collect()
    }
}

/// Each column as it was if the lane goes on, else as that of a new one.
fn kept_columns() -> String {
    let kept = |column: &str| {
        format!(
            "{column} = CASE WHEN excluded.begun_by = '' OR excluded.begun_by = l.begun_by THEN l.{column} ELSE excluded.{column} END"
        )
    };
    KEPT_COLUMNS.map(kept).join(", ")
}

/// A row of the answer: its digest, and the state without the lane's name.
fn state_of(row: Row) -> Result<(Vec<u8>, LaneState)> {
    let texts: Option<Vec<String>> = row.into_iter().collect();
    let texts = texts.unwrap_or_default();
    let [
        digest,
        begun_by,
        epoch,
        seq,
        cursor,
        done,
        record_count,
        extensions,
    ] = texts.as_slice()
    else {
        return Err(damaged());
    };
    let state = LaneState {
        begun_by: text_of(begun_by)?,
        epoch: number_of(epoch)?,
        seq: number_of(seq)?,
        cursor: Cursor(bytes_of(cursor)?),
        done: done == "t",
        record_count: number_of(record_count)?,
        extensions: extensions_of(extensions)?,
        ..LaneState::default()
    };
    Ok((bytes_of(digest)?, state))
}
