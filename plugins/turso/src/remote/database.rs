//! What a server is asked, statement by statement, outside of transactions: nothing is held between two questions.
//!
//! Questions change nothing, so they are asked again when an answer is lost. Pages are as large as the server's answers may
//! be: their size follows from that of the records seen so far.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use prost::bytes::Bytes;
use rusqlite::types::{Value, ValueRef};
use whimbrel_plugin_api::{Error, Result, Services};

use super::fault::sql_error;
use super::hrana::{Condition, Row, Step, statement};
use super::http::Http;
use super::retry::Attempts;
use super::stream::{Answer, Stream};
use crate::config::{Server, TursoConfig};
use crate::database::{Cells, Database, EachRow, TOO_LARGE};

/// Says whether the server speaks our protocol.
const VERSION: &str = "/v3-protobuf";
/// Octets that an answer should have: well below the 10 MB that a server allows unless it was told otherwise.
const ANSWER_BYTES: usize = 4 * 1024 * 1024;
/// Records of the first page, when their size is not known yet.
const PAGE_RECORDS_FIRST: usize = 500;
/// Questions of one request.
const QUESTIONS_MAX: usize = 100;

/// A server, as far as it is asked.
pub(crate) struct RemoteDatabase {
    http: Http,
    page_records: AtomicUsize,
}

impl RemoteDatabase {
    /// A way to the server. Nothing is sent yet.
    pub(crate) fn open(config: &TursoConfig, server: &Server, services: &Services) -> Result<Self> {
        Ok(Self::over(Http::new(config, server, services)?))
    }

    pub(super) fn over(http: Http) -> Self {
        Self {
            http,
            page_records: AtomicUsize::new(PAGE_RECORDS_FIRST),
        }
    }

    /// Whether the server can be reached, speaks our protocol and lets us write; nothing is changed.
    pub(crate) fn check_writable(&self) -> Result<()> {
        self.http.get(VERSION)?;
        // Read-only tokens are refused at the third statement, which would change nothing even if it were carried out.
        let steps = [
            "BEGIN IMMEDIATE",
            "SELECT count(*) FROM sqlite_master",
            "DROP TABLE IF EXISTS \"_whimbrel_never_made\"",
            "ROLLBACK",
        ];
        let steps = steps.into_iter().enumerate().map(|(number, sql)| Step {
            condition: match number {
                0 => None,
                3 => Some(Condition::ok(0)),
                _ => Some(Condition::ok(number - 1)),
            },
            statement: statement(&Bytes::from_static(sql.as_bytes()), [], false),
        });
        let answer = Stream::new(&self.http).last_batch(steps.collect())?;
        match (0..4).find_map(|step| answer.error(step)) {
            Some(error) => Err(sql_error(error, "lock the database")),
            None => Ok(()),
        }
    }

    /// Asks `sql` with each of the values, in one request.
    fn ask(&self, sql: &Bytes, values: &[Vec<Value>]) -> Result<Answer> {
        let mut attempts = Attempts::new(Duration::ZERO);
        loop {
            let steps = values.iter().map(|values| Step {
                condition: None,
                statement: statement(sql, values.iter().map(ValueRef::from), true),
            });
            match Stream::new(&self.http).last_batch(steps.collect()) {
                Ok(answer) => return Ok(answer),
                Err(failure) => attempts.pause(self.http.services(), failure.error)?,
            }
        }
    }

    /// Learns from an answer how many records the next page should have.
    fn learn(&self, record_count: usize, bytes: usize) {
        let Some(per_record) = bytes.checked_div(record_count) else {
            return;
        };
        // Not much more at once: what comes may be larger than what was seen. Single rows tell little.
        let known = self.page_records.load(Ordering::Relaxed);
        let next = (ANSWER_BYTES / per_record.max(1)).min(known.max(record_count.saturating_mul(4)));
        self.page_records.store(next.max(1), Ordering::Relaxed);
    }
}

impl Database for RemoteDatabase {
    fn query_each(
        &self,
        doing: &str,
        sql: &str,
        values: &[Vec<Value>],
        each: &mut EachRow<'_>,
    ) -> Result<()> {
        let sql = Bytes::copy_from_slice(sql.as_bytes());
        let mut first = 0;
        let mut together = QUESTIONS_MAX;
        while first < values.len() {
            let asked = &values[first..values.len().min(first + together)];
            let outcome = self.ask(&sql, asked).and_then(|answer| {
                match (0..asked.len()).find_map(|step| answer.error(step)) {
                    Some(error) => Err(sql_error(error, doing)),
                    None => Ok(answer),
                }
            });
            let mut answer = match outcome {
                Ok(answer) => answer,
                Err(error) if error.code == TOO_LARGE && asked.len() > 1 => {
                    together = asked.len() / 2;
                    continue;
                }
                Err(error) => {
                    if error.code == TOO_LARGE {
                        let page = self.page_records.load(Ordering::Relaxed);
                        self.page_records.store((page / 2).max(1), Ordering::Relaxed);
                    }
                    return Err(error);
                }
            };
            for number in 0..asked.len() {
                let result = u32::try_from(number)
                    .ok()
                    .and_then(|step| answer.steps.results.remove(&step));
                let result = result.ok_or_else(|| Error::internal("the server left a question out"))?;
                if values.len() == 1 {
                    self.learn(result.rows.len(), answer.bytes);
                }
                for row in &result.rows {
                    if let ControlFlow::Break(()) = each(first + number, row)? {
                        return Ok(());
                    }
                }
            }
            first += asked.len();
        }
        Ok(())
    }

    fn columns(&self, doing: &str, sql: &str) -> Result<Vec<String>> {
        let answer = self.ask(&Bytes::copy_from_slice(sql.as_bytes()), &[Vec::new()])?;
        match (answer.error(0), answer.steps.results.get(&0)) {
            (Some(error), _) => Err(sql_error(error, doing)),
            (None, Some(result)) => {
                let names = result.columns.iter().map(|column| column.name.clone());
                Ok(names.map(Option::unwrap_or_default).collect())
            }
            (None, None) => Err(Error::internal("the server left a question out")),
        }
    }

    fn page_records_max(&self) -> usize {
        self.page_records.load(Ordering::Relaxed)
    }
}

impl Cells for Row {
    fn cell(&self, column: usize) -> Result<ValueRef<'_>> {
        let value = self.values.get(column);
        value
            .map(super::hrana::Value::as_ref)
            .ok_or_else(|| Error::internal("the server's answer lacks a column"))
    }
}
