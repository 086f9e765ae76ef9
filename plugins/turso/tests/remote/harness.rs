//! What the tests share: a server with its config, sessions through the boundary, a host that keeps what is logged.
//! Not here: any expectation.

use std::sync::{Arc, Mutex};

use whimbrel_plugin_api::abi::root_module::local;
use whimbrel_plugin_api::abi::sink::ForeignSink;
use whimbrel_plugin_api::abi::{Validation, source::ForeignSource};
use whimbrel_plugin_api::acceptance::records::{batch, records};
use whimbrel_plugin_api::acceptance::{Record, Value};
use whimbrel_plugin_api::record_type::{Field, RecordType, Schema};
use whimbrel_plugin_api::serde_json::{Value as Json, json};
use whimbrel_plugin_api::services::{HostServices, LogLevel};
use whimbrel_plugin_api::sink::{Checkpoint, Committed, LaneId, PrepareRequest};
use whimbrel_plugin_api::{
    Batch, Collection, ConflictPolicy, FindingLevel, Item, ReadRequest, Receipt, RejectedRecord, Result,
    Sink as _, Source,
};
use whimbrel_turso::WhimbrelPlugin;

use crate::sqld::Sqld;

/// A host that keeps warnings.
#[derive(Default)]
pub struct Host(Mutex<Vec<String>>);

impl Host {
    pub fn warnings(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }

    /// How often a transaction was written once more.
    pub fn retry_count(&self) -> usize {
        let is_retry = |line: &&String| line.contains("once more");
        self.warnings().iter().filter(is_retry).count()
    }
}

impl HostServices for Host {
    fn log(&self, level: LogLevel, message: &str) {
        if level <= LogLevel::Warn {
            self.0.lock().unwrap().push(message.to_owned());
        }
    }
    fn progress(&self, _: &str, _: u64, _: Option<u64>) {}
    fn acquire(&self, _: &str, _: u64) -> bool {
        true
    }
}

/// The config that reaches a server by `url`.
pub fn config(server: &Sqld, url: &str) -> Json {
    match &server.tokens {
        Some(tokens) => json!({ "url": url, "auth_token": tokens.full }),
        None => json!({ "url": url }),
    }
}

pub fn open_sink(config: &Json) -> (ForeignSink, Arc<Host>) {
    let host = Arc::new(Host::default());
    let services: Arc<dyn HostServices> = Arc::clone(&host) as _;
    let sink = local::<WhimbrelPlugin>().open_sink(config, services, Validation::Full);
    (sink.unwrap(), host)
}

pub fn open_source(config: &Json) -> ForeignSource {
    local::<WhimbrelPlugin>()
        .open_source(config, Arc::new(Host::default()), Validation::Full)
        .unwrap()
}

pub fn prepared(sink: &mut ForeignSink, collections: &[Collection]) {
    let request = PrepareRequest {
        collections: collections.to_vec(),
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
    sink.write(&collection.name, &batch_of(collection, records), policy)
        .unwrap()
}

/// One transaction.
pub fn write_all(
    sink: &mut ForeignSink,
    collection: &Collection,
    records: &[Record],
    policy: ConflictPolicy,
) -> Receipt {
    sink.begin(&LaneId::default()).unwrap();
    let receipt = write(sink, collection, records, policy);
    assert_eq!(commit(sink), Committed::Committed { seq: 1 });
    receipt
}

pub fn commit(sink: &mut ForeignSink) -> Committed {
    sink.commit(&Checkpoint::default()).unwrap()
}

pub fn batch_of(collection: &Collection, records: &[Record]) -> Batch {
    batch(&Arc::new(collection.schema.clone()), records).unwrap()
}

pub fn read(source: &mut dyn Source, request: &ReadRequest) -> Result<(Vec<Record>, Vec<RejectedRecord>)> {
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
    [
        ("id".to_owned(), Value::Int(id)),
        ("title".to_owned(), Value::text(title)),
        ("done".to_owned(), Value::Null),
    ]
    .into()
}

/// Records `from` to `to`, without the last.
pub fn numbered(from: i64, to: i64) -> Vec<Record> {
    (from..to).map(|id| todo(id, &format!("number {id}"))).collect()
}

pub fn sorted(mut records: Vec<Record>) -> Vec<Record> {
    records.sort();
    records
}

/// Rows and codes of the rejected records.
pub fn rejected(receipt: &Receipt) -> Vec<(u64, &str)> {
    receipt
        .rejected
        .iter()
        .map(|rejected| (rejected.row.unwrap(), rejected.code.as_str()))
        .collect()
}
