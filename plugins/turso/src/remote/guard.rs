//! The row by which a session and the server agree on what was committed: table `_whimbrel_guard`.
//!
//! Every transaction writes its number into the session's row and checks it, by a constraint, at the start of every further
//! request and before `COMMIT`. So a statement that comes outside of its transaction stops what follows it, and after a
//! lost answer the row says whether the transaction was committed. Asking raises the fence: a request that is still on
//! its way then finds another fence and stops at its check.

use std::hash::{BuildHasher as _, RandomState};

use prost::bytes::Bytes;
use rusqlite::types::{Value, ValueRef};

use super::hrana::{Condition, Step, statement};
use crate::database::Statement;

/// What makes the table.
const DDL: &str = "CREATE TABLE IF NOT EXISTS \"_whimbrel_guard\" (\"session\" TEXT NOT NULL PRIMARY KEY, \
    \"fence\" INTEGER NOT NULL, \"committed\" INTEGER NOT NULL, \"changed_at\" INTEGER NOT NULL)";
/// Rows of sessions that did not end well are kept so long, in seconds: no run pauses for a month.
const ROW_AGE_MAX_SECS: i64 = 30 * 24 * 3_600;

/// A session's row, as this side knows it.
#[derive(Debug, Clone)]
pub(super) struct Guard {
    session: String,
    pub(super) fence: i64,
}

impl Guard {
    /// A row that no other session has.
    pub(super) fn new() -> Self {
        let part = || RandomState::new().hash_one(std::process::id());
        Self {
            session: format!("{:016x}{:016x}", part(), part()),
            fence: 0,
        }
    }

    /// Makes the table and the row.
    pub(super) fn make(&self) -> Vec<Statement> {
        let old = format!(
            "DELETE FROM \"_whimbrel_guard\" WHERE \"changed_at\" < unixepoch() - {ROW_AGE_MAX_SECS}"
        );
        let row = "INSERT INTO \"_whimbrel_guard\" VALUES (?1, 0, 0, unixepoch()) ON CONFLICT (\"session\") DO NOTHING";
        vec![Statement::plain(DDL), Statement::plain(old), self.statement(row)]
    }

    /// Marks transaction `number` as the one that is committed, should it be.
    pub(super) fn mark(&self, number: i64, condition: Condition) -> Step {
        let sql = "UPDATE \"_whimbrel_guard\" SET \"committed\" = ?1, \"changed_at\" = unixepoch() \
             WHERE \"session\" = ?2 AND \"fence\" = ?3";
        self.step(sql, number, condition)
    }

    /// Fails unless transaction `number` is open and nobody has raised the fence.
    pub(super) fn check(&self, number: i64, condition: Condition) -> Step {
        let sql = "INSERT INTO \"_whimbrel_guard\" SELECT NULL, 0, 0, 0 WHERE NOT EXISTS (SELECT 1 FROM \"_whimbrel_guard\" \
             WHERE \"committed\" = ?1 AND \"session\" = ?2 AND \"fence\" = ?3)";
        self.step(sql, number, condition)
    }

    /// Raises the fence.
    pub(super) fn raise(&self, condition: Condition) -> Step {
        let sql = "UPDATE \"_whimbrel_guard\" SET \"fence\" = \"fence\" + 1 WHERE \"session\" = ?1";
        Step {
            condition: Some(condition),
            statement: statement(&Bytes::from_static(sql.as_bytes()), [self.name()], false),
        }
    }

    /// Asks for the fence and the last transaction that was committed.
    pub(super) fn ask(&self, condition: Condition) -> Step {
        let sql = "SELECT \"fence\", \"committed\" FROM \"_whimbrel_guard\" WHERE \"session\" = ?1";
        Step {
            condition: Some(condition),
            statement: statement(&Bytes::from_static(sql.as_bytes()), [self.name()], true),
        }
    }

    /// Removes the row.
    pub(super) fn remove(&self) -> Statement {
        let sql = "DELETE FROM \"_whimbrel_guard\" WHERE \"session\" = ?1";
        self.statement(sql)
    }

    fn statement(&self, sql: &str) -> Statement {
        Statement {
            sql: sql.to_owned(),
            values: vec![Value::Text(self.session.clone())],
        }
    }

    fn name(&self) -> ValueRef<'_> {
        ValueRef::Text(self.session.as_bytes())
    }

    fn step(&self, sql: &'static str, number: i64, condition: Condition) -> Step {
        let values = [
            ValueRef::Integer(number),
            self.name(),
            ValueRef::Integer(self.fence),
        ];
        Step {
            condition: Some(condition),
            statement: statement(&Bytes::from_static(sql.as_bytes()), values, false),
        }
    }
}
