//! What the tests of writing share: a database of their own, sessions through the boundary, and what became of records.
//! Not here: any expectation.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use whimbrel_plugin_api::abi::Validation;
use whimbrel_plugin_api::abi::root_module::local;
use whimbrel_plugin_api::abi::sink::ForeignSink;
use whimbrel_plugin_api::acceptance::records::batch;
use whimbrel_plugin_api::acceptance::{Record, Value};
use whimbrel_plugin_api::record_type::{Field, Schema};
use whimbrel_plugin_api::serde_json::{Value as Json, json};
use whimbrel_plugin_api::services::{HostServices, LogLevel};
use whimbrel_plugin_api::sink::{Checkpoint, Committed, LaneId, PrepareRequest};
use whimbrel_plugin_api::{Batch, Collection, ConflictPolicy, FindingLevel, Receipt, Sink as _};
use whimbrel_postgres::WhimbrelPlugin;

use crate::postgres::{Database, Server, servers};

struct Quiet;

impl HostServices for Quiet {
    fn log(&self, _: LogLevel, _: &str) {}
    fn progress(&self, _: &str, _: u64, _: Option<u64>) {}
    fn acquire(&self, _: &str, _: u64) -> bool {
        true
    }
}

/// A database that goes with the test.
pub struct Place {
    pub database: Rc<Database>,
    pub config: Json,
}

/// Runs a test in a new database of each server, as its superuser.
pub fn each(test: impl Fn(&Place)) {
    for server in servers() {
        test(&Place::new(&server));
    }
}

impl Place {
    pub fn new(server: &Server) -> Self {
        let database = Rc::new(server.database());
        let config = json!({ "url": format!("{}?sslmode=disable", database.url()) });
        Self { database, config }
    }

    /// The same database for its owner, who is no superuser.
    pub fn as_porter(&self) -> Self {
        self.at(&format!("{}?sslmode=disable", self.database.password_url()))
    }

    /// The same database by another way.
    pub fn at(&self, url: &str) -> Self {
        Self {
            database: Rc::clone(&self.database),
            config: json!({ "url": url }),
        }
    }

    pub fn execute(&self, sql: &str) {
        self.database.sql(sql);
    }

    /// What a query answers, a line a row with `|` between its columns; null is `-`.
    pub fn lines(&self, query: &str) -> Vec<String> {
        let rows = self.database.rows(query).into_iter();
        rows.map(|row| row.join("|").replace("\\N", "-")).collect()
    }

    pub fn sink(&self) -> ForeignSink {
        local::<WhimbrelPlugin>()
            .open_sink(&self.config, Arc::new(Quiet), Validation::Full)
            .unwrap()
    }

    /// A session that may write the collections.
    pub fn prepared(&self, collections: &[&Collection]) -> ForeignSink {
        let mut sink = self.sink();
        let request = PrepareRequest {
            collections: collections
                .iter()
                .map(|collection| (*collection).clone())
                .collect(),
            dry: false,
            ..PrepareRequest::default()
        };
        let report = sink.prepare(&request).unwrap();
        let mut findings = report.findings.into_iter();
        assert_eq!(
            findings.find(|finding| finding.level == FindingLevel::Blocker),
            None
        );
        sink
    }

    /// One transaction of one session with these writes.
    pub fn write(&self, collection: &Collection, writes: &[Vec<Record>], policy: ConflictPolicy) -> Fate {
        let mut sink = self.prepared(&[collection]);
        let fate = transact(&mut sink, collection, writes, policy);
        sink.finalize().unwrap();
        fate
    }
}

/// What became of the records of a transaction.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Fate {
    pub accepted: u64,
    pub skipped: u64,
    /// By number in the transaction: code, and the record's name.
    pub rejected: BTreeMap<u64, (String, String)>,
}

impl Fate {
    pub fn codes(&self) -> Vec<(u64, &str)> {
        let rejected = self.rejected.iter();
        rejected.map(|(row, (code, _))| (*row, code.as_str())).collect()
    }

    fn add(&mut self, receipt: &Receipt, first: u64) {
        self.accepted += receipt.accepted;
        self.skipped += receipt.skipped;
        for rejected in &receipt.rejected {
            let fate = (rejected.code.clone(), rejected.record.clone());
            let number = first + rejected.row.unwrap();
            assert_eq!(self.rejected.insert(number, fate), None, "rejected twice");
        }
    }
}

/// Begins, writes, flushes and commits.
pub fn transact(
    sink: &mut ForeignSink,
    collection: &Collection,
    writes: &[Vec<Record>],
    policy: ConflictPolicy,
) -> Fate {
    sink.begin(&LaneId::default()).unwrap();
    let fate = written(sink, collection, writes, policy);
    assert_eq!(
        sink.commit(&Checkpoint::default()).unwrap(),
        Committed::Committed { seq: 1 }
    );
    fate
}

/// Writes and flushes in the open transaction, which must be empty.
pub fn written(
    sink: &mut ForeignSink,
    collection: &Collection,
    writes: &[Vec<Record>],
    policy: ConflictPolicy,
) -> Fate {
    let mut fate = Fate::default();
    let (mut count, mut deferred) = (0, 0);
    for records in writes {
        let receipt = sink
            .write(&collection.name, &batch_of(collection, records), policy)
            .unwrap();
        let record_count = records.len() as u64;
        assert_eq!(
            receipt.accepted + receipt.deferred + receipt.rejected.len() as u64,
            record_count
        );
        fate.add(&receipt, count);
        count += record_count;
        deferred += receipt.deferred;
    }
    let receipt = sink.flush().unwrap();
    assert_eq!(receipt.accepted + receipt.rejected.len() as u64, deferred);
    fate.add(&receipt, 0);
    fate
}

pub fn batch_of(collection: &Collection, records: &[Record]) -> Batch {
    batch(&Arc::new(collection.schema.clone()), records).unwrap()
}

/// A collection whose key is its first field.
pub fn keyed(name: &str, fields: Vec<Field>) -> Collection {
    let key = fields[0].name.clone();
    Collection::new(name, Schema::new(fields)).with_key([key])
}

pub fn record<const N: usize>(values: [(&str, Value); N]) -> Record {
    values
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
}

pub fn int(number: i64) -> Value {
    Value::Int(number)
}

pub fn text(text: &str) -> Value {
    Value::text(text)
}
