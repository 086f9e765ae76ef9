//! What the tests of writing share: a project behind a layer that counts and spoils, sessions through the boundary, and what became of
//! records. Not here: any expectation.

use std::collections::BTreeMap;
use std::sync::Arc;

use whimbrel_firestore::WhimbrelPlugin;
use whimbrel_plugin_api::abi::Validation;
use whimbrel_plugin_api::abi::root_module::local;
use whimbrel_plugin_api::abi::sink::ForeignSink;
use whimbrel_plugin_api::acceptance::records::batch;
use whimbrel_plugin_api::acceptance::{Record, Value};
use whimbrel_plugin_api::record_type::{Field, Schema};
use whimbrel_plugin_api::serde_json::{self, Value as Json, json};
use whimbrel_plugin_api::services::{HostServices, LogLevel};
use whimbrel_plugin_api::sink::{
    Checkpoint, Committed, LaneClaim, LaneId, LaneState, PrepareReport, PrepareRequest,
};
use whimbrel_plugin_api::{Batch, Collection, ConflictPolicy, Cursor, FindingLevel, Receipt, Sink as _};

use crate::emulator::{Emulator, document_name};
use crate::grpc_layer::{Layer, Method};

/// `writing` with records that are sent as they come, by either kind of request.
pub fn idempotent() -> [Json; 2] {
    ["batch_write", "commit"].map(|request| json!({ "guarantee": "idempotent", "request": request }))
}

/// All ways to write.
pub fn ways() -> [Json; 3] {
    let [batch_write, commit] = idempotent();
    [json!({ "guarantee": "exactly_once" }), batch_write, commit]
}

/// `writing` with one thing more.
pub fn with(mut writing: Json, key: &str, value: Json) -> Json {
    writing[key] = value;
    writing
}

struct Quiet;

impl HostServices for Quiet {
    fn log(&self, _: LogLevel, _: &str) {}
    fn progress(&self, _: &str, _: u64, _: Option<u64>) {}
    fn acquire(&self, _: &str, _: u64) -> bool {
        true
    }
}

/// A project of its own. Its layer ends before the emulator is let go.
pub struct Place {
    pub layer: Layer,
    pub emulator: Emulator,
    pub project: String,
    /// `writing` of the configuration.
    pub writing: Json,
    /// `retries_max` of the configuration.
    pub retries_max: u32,
    /// `request_timeout_ms` of the configuration.
    pub request_timeout_ms: u32,
}

/// Runs a test in all ways to write, each in a new project.
pub fn each(test: impl Fn(&Place)) {
    each_of(ways(), test);
}

/// Runs a test with records that are sent as they come, by either kind of request, each in a new project.
pub fn each_idempotent(test: impl Fn(&Place)) {
    each_of(idempotent(), test);
}

fn each_of(ways: impl IntoIterator<Item = Json>, test: impl Fn(&Place)) {
    for writing in ways {
        let Some(place) = Place::new(writing) else {
            return;
        };
        test(&place);
    }
}

impl Place {
    /// With these settings of `writing`.
    pub fn new(writing: Json) -> Option<Self> {
        let emulator = Emulator::shared()?;
        Some(Self {
            layer: Layer::before(emulator.host()),
            project: emulator.project("writing"),
            emulator,
            writing,
            retries_max: 5,
            request_timeout_ms: 60_000,
        })
    }

    /// How records are written, for messages.
    pub fn way(&self) -> String {
        self.writing.to_string()
    }

    /// The method that carries records.
    pub fn method(&self) -> Method {
        match self.writing["guarantee"].as_str() {
            Some("idempotent") if self.writing["request"] != "commit" => Method::BatchWrite,
            _ => Method::Commit,
        }
    }

    /// The requests that wrote anything but whimbrel's own documents.
    pub fn requests(&self) -> Vec<Vec<String>> {
        let requests = self.layer.counts().write_requests.into_iter();
        let others = |path: &String| !path.starts_with("_whimbrel/");
        requests.filter(|paths| paths.iter().any(others)).collect()
    }

    pub fn config(&self) -> Json {
        json!({
            "project": self.project,
            "host": self.layer.host(),
            "retries_max": self.retries_max,
            "request_timeout_ms": self.request_timeout_ms,
            "writing": self.writing,
        })
    }

    pub fn sink(&self) -> ForeignSink {
        local::<WhimbrelPlugin>()
            .open_sink(&self.config(), Arc::new(Quiet), Validation::Full)
            .unwrap()
    }

    /// Prepares with a session of its own.
    pub fn prepare(&self, collections: &[Collection], dry: bool) -> PrepareReport {
        let request = PrepareRequest {
            collections: collections.to_vec(),
            dry,
            ..PrepareRequest::default()
        };
        self.sink().prepare(&request).unwrap()
    }

    /// A session that may write the collections.
    pub fn prepared(&self, collections: &[&Collection]) -> ForeignSink {
        let mut sink = self.sink();
        let request = PrepareRequest {
            collections: collections.iter().copied().cloned().collect(),
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
        self.layer.reset_counts();
        let fate = transact(&mut sink, collection, writes, policy);
        sink.finalize().unwrap();
        fate
    }

    /// Puts documents there by another client: paths with fields as the REST interface has them.
    pub fn put(&self, documents: &[(&str, Json)]) {
        let writes = documents.iter().map(|(path, fields)| {
            json!({ "update": { "name": document_name(&self.project, path), "fields": fields } })
        });
        let writes: Vec<Json> = writes.collect();
        self.emulator.commit(&self.project, &json!(writes).to_string());
    }

    /// The fields of a document as the REST interface has them; `None` if it is not there.
    pub fn fields(&self, path: &str) -> Option<Json> {
        let document = self.emulator.get(&self.project, path)?;
        let document: Json = serde_json::from_str(&document).unwrap();
        Some(document.get("fields").cloned().unwrap_or(json!({})))
    }

    /// All documents of the collections with this id, wherever they are: path and fields.
    pub fn documents(&self, collection: &str) -> BTreeMap<String, Json> {
        let query = json!({ "from": [{ "collectionId": collection, "allDescendants": true }] });
        let answer = self.emulator.run_query(&self.project, &query.to_string());
        let answer: Json = serde_json::from_str(&answer).unwrap();
        let prefix = document_name(&self.project, "");
        let found = answer.as_array().unwrap().iter().filter_map(|item| {
            let document = item.get("document")?;
            let name = document["name"].as_str().unwrap();
            let fields = document.get("fields").cloned().unwrap_or(json!({}));
            Some((name.strip_prefix(&prefix).unwrap().to_owned(), fields))
        });
        found.collect()
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

    pub fn add(&mut self, receipt: &Receipt, first: u64) {
        self.accepted += receipt.accepted;
        self.skipped += receipt.skipped;
        for rejected in &receipt.rejected {
            let fate = (rejected.code.clone(), rejected.record.clone());
            let number = first + rejected.row.unwrap();
            assert_eq!(self.rejected.insert(number, fate), None, "rejected twice");
        }
    }
}

/// A claim of a lane as it is.
pub fn claim(lane: &LaneId) -> LaneClaim {
    LaneClaim {
        lane: lane.clone(),
        ..LaneClaim::default()
    }
}

/// Takes one lane over.
pub fn taken(sink: &mut ForeignSink, lane: &LaneId) -> LaneState {
    sink.take_over(&[claim(lane)]).unwrap().remove(0)
}

/// The checkpoint that follows `state`.
pub fn next(state: &LaneState, record_count: u64) -> Checkpoint {
    Checkpoint {
        lane: state.lane.clone(),
        epoch: state.epoch,
        seq: state.seq,
        cursor: Cursor(format!("after {}", state.seq + 1).into_bytes()),
        record_count,
        ..Checkpoint::default()
    }
}

/// Takes over, begins, writes, flushes and commits.
pub fn transact(
    sink: &mut ForeignSink,
    collection: &Collection,
    writes: &[Vec<Record>],
    policy: ConflictPolicy,
) -> Fate {
    let state = taken(sink, &LaneId::default());
    sink.begin(&state.lane).unwrap();
    let fate = written(sink, collection, writes, policy);
    assert_eq!(
        sink.commit(&next(&state, fate.accepted)).unwrap(),
        Committed::Committed { seq: state.seq + 1 }
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
        fate.add(&receipt, count);
        count += records.len() as u64;
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
