//! What the tests share: a file of their own, sessions through the boundary, and records by hand.
//! Not here: any expectation.

use std::path::PathBuf;
use std::sync::Arc;

use tempfile::TempDir;
use whimbrel_plugin_api::abi::root_module::local;
use whimbrel_plugin_api::abi::sink::ForeignSink;
use whimbrel_plugin_api::abi::{Validation, source::ForeignSource};
use whimbrel_plugin_api::acceptance::records::{batch, records};
use whimbrel_plugin_api::acceptance::{Record, Value};
use whimbrel_plugin_api::record_type::{Field, RecordType, Schema};
use whimbrel_plugin_api::serde_json::{Value as Json, json};
use whimbrel_plugin_api::services::{HostServices, LogLevel};
use whimbrel_plugin_api::sink::{Checkpoint, Committed, LaneId, PrepareReport, PrepareRequest};
use whimbrel_plugin_api::{
    Batch, Collection, CollectionsRequest, ConflictPolicy, FindingLevel, Item, ReadRequest, Receipt,
    RejectedRecord, Result, Sink as _, Source,
};
use whimbrel_turso::WhimbrelPlugin;

pub struct Quiet;

impl HostServices for Quiet {
    fn log(&self, _: LogLevel, _: &str) {}
    fn progress(&self, _: &str, _: u64, _: Option<u64>) {}
    fn acquire(&self, _: &str, _: u64) -> bool {
        true
    }
}

/// A database file that goes with the test.
pub struct File {
    _folder: TempDir,
    pub path: PathBuf,
    pub config: Json,
}

impl File {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("app.db");
        Self {
            config: json!({ "url": path.to_str().unwrap(), "busy_timeout_ms": 50 }),
            _folder: folder,
            path,
        }
    }

    pub fn with(mut self, key: &str, value: &str) -> Self {
        self.config[key] = json!(value);
        self
    }

    pub fn sink(&self) -> ForeignSink {
        local::<WhimbrelPlugin>()
            .open_sink(&self.config, Arc::new(Quiet), Validation::Full)
            .unwrap()
    }

    pub fn source(&self) -> ForeignSource {
        local::<WhimbrelPlugin>()
            .open_source(&self.config, Arc::new(Quiet), Validation::Full)
            .unwrap()
    }

    /// The file as any other program sees it.
    pub fn sql(&self) -> rusqlite::Connection {
        rusqlite::Connection::open(&self.path).unwrap()
    }

    pub fn execute(&self, sql: &str) {
        self.sql().execute_batch(sql).unwrap();
    }

    pub fn one<T: rusqlite::types::FromSql>(&self, sql: &str) -> T {
        self.sql().query_row(sql, [], |row| row.get(0)).unwrap()
    }

    /// A whole run: prepare, write in one transaction, finalize.
    pub fn write(&self, collection: &Collection, records: &[Record], policy: ConflictPolicy) -> Receipt {
        let mut sink = self.sink();
        prepared(&mut sink, collection);
        let receipt = write(&mut sink, collection, records, policy);
        sink.finalize().unwrap();
        receipt
    }

    /// What `prepare` answers, and whether it is the same with `dry`.
    pub fn prepare(&self, collections: &[Collection]) -> PrepareReport {
        let request = |dry| PrepareRequest {
            collections: collections.to_vec(),
            dry,
            ..PrepareRequest::default()
        };
        let dry = self.sink().prepare(&request(true)).unwrap();
        let wet = self.sink().prepare(&request(false)).unwrap();
        assert_eq!(dry, wet, "with and without `dry`");
        wet
    }

    /// Codes of the blockers that `prepare` finds.
    pub fn blockers(&self, collection: &Collection) -> Vec<String> {
        let before = self.path.exists().then(|| std::fs::read(&self.path).unwrap());
        let findings = self.prepare(std::slice::from_ref(collection)).findings;
        let blockers: Vec<_> = findings
            .into_iter()
            .filter(|finding| finding.level == FindingLevel::Blocker)
            .collect();
        assert!(
            blockers
                .iter()
                .all(|finding| finding.help.is_some() && finding.collection.is_some())
        );
        if !blockers.is_empty() {
            let after = self.path.exists().then(|| std::fs::read(&self.path).unwrap());
            assert!(before == after, "a blocked `prepare` changes the file");
        }
        blockers.into_iter().map(|finding| finding.code).collect()
    }

    /// What the source says of its collections.
    pub fn collections(&self) -> Vec<Collection> {
        let request = CollectionsRequest {
            names: Vec::new(),
            schemas: true,
        };
        self.source().collections(&request).unwrap()
    }

    /// All records of a collection, in no order.
    pub fn read(&self, collection: &str) -> Vec<Record> {
        let (records, rejected) = self.read_with(&ReadRequest::all(collection));
        assert_eq!(rejected, []);
        records
    }

    pub fn read_with(&self, request: &ReadRequest) -> (Vec<Record>, Vec<RejectedRecord>) {
        read_from(&mut self.source(), request).unwrap()
    }
}

pub fn read_from(
    source: &mut dyn Source,
    request: &ReadRequest,
) -> Result<(Vec<Record>, Vec<RejectedRecord>)> {
    let mut stream = source.read(request)?;
    let (mut found, mut rejected) = (Vec::new(), Vec::new());
    loop {
        match stream.next()? {
            Item::Batch(batch) => found.extend(records(&batch)),
            Item::Rejected(more) => rejected.extend(more),
            Item::End => return Ok((found, rejected)),
            _ => {}
        }
    }
}

pub fn prepared(sink: &mut ForeignSink, collection: &Collection) {
    let request = PrepareRequest {
        collections: vec![collection.clone()],
        dry: false,
        ..PrepareRequest::default()
    };
    let report = sink.prepare(&request).unwrap();
    let blocker = report
        .findings
        .into_iter()
        .find(|finding| finding.level == FindingLevel::Blocker);
    assert_eq!(blocker, None);
}

pub fn write(
    sink: &mut ForeignSink,
    collection: &Collection,
    records: &[Record],
    policy: ConflictPolicy,
) -> Receipt {
    sink.begin(&LaneId::default()).unwrap();
    let receipt = sink
        .write(&collection.name, &batch_of(collection, records), policy)
        .unwrap();
    assert_eq!(
        sink.commit(&Checkpoint::default()).unwrap(),
        Committed::Committed { seq: 1 }
    );
    receipt
}

pub fn batch_of(collection: &Collection, records: &[Record]) -> Batch {
    batch(&Arc::new(collection.schema.clone()), records).unwrap()
}

/// `todos`: id (key), title, done.
pub fn todos() -> Collection {
    let fields = vec![
        Field::required("id", RecordType::INT64),
        Field::required("title", RecordType::Text),
        Field::new("done", RecordType::Bool),
    ];
    Collection::new("todos", Schema::new(fields)).with_key(["id"])
}

pub fn todo(id: i64, title: &str) -> Record {
    record([
        ("id", Value::Int(id)),
        ("title", Value::text(title)),
        ("done", Value::Null),
    ])
}

pub fn record<const N: usize>(values: [(&str, Value); N]) -> Record {
    values
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
}

pub fn sorted(mut records: Vec<Record>) -> Vec<Record> {
    records.sort();
    records
}

/// Codes and rows of the rejected records.
pub fn rejected(receipt: &Receipt) -> Vec<(u64, &str)> {
    receipt
        .rejected
        .iter()
        .map(|rejected| (rejected.row.unwrap(), rejected.code.as_str()))
        .collect()
}
