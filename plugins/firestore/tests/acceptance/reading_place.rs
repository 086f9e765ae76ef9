//! What the tests of reading share: a project behind a layer that counts and spoils, sources over it, and what a stream gave.
//! Not here: any expectation.

use std::sync::{Arc, Mutex};

use whimbrel_firestore::WhimbrelPlugin;
use whimbrel_plugin_api::abi::Validation;
use whimbrel_plugin_api::abi::root_module::local;
use whimbrel_plugin_api::abi::source::ForeignSource;
use whimbrel_plugin_api::acceptance::Record;
use whimbrel_plugin_api::acceptance::records::records;
use whimbrel_plugin_api::serde_json::{Value as Json, json};
use whimbrel_plugin_api::services::{HostServices, LogLevel};
use whimbrel_plugin_api::source::BatchBounds;
use whimbrel_plugin_api::{
    Batch, Cursor, Item, ReadRequest, RecordStream, RejectedRecord, Result, Schema, Source as _,
};

use crate::emulator::{Emulator, document_name};
use crate::grpc_layer::Layer;

/// Writes of one commit.
const WRITES_MAX: usize = 500;

/// A host that keeps the lines of its log.
#[derive(Default)]
pub struct Listener(pub Mutex<Vec<(LogLevel, String)>>);

impl Listener {
    /// Lines of at least this importance.
    pub fn lines(&self, level: LogLevel) -> Vec<String> {
        let lines = self.0.lock().unwrap();
        let lines = lines.iter().filter(|(of, _)| *of <= level);
        lines.map(|(_, line)| line.clone()).collect()
    }
}

impl HostServices for Listener {
    fn log(&self, level: LogLevel, line: &str) {
        self.0.lock().unwrap().push((level, line.to_owned()));
    }

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
    pub listener: Arc<Listener>,
}

impl Place {
    pub fn new() -> Option<Self> {
        let emulator = Emulator::shared()?;
        Some(Self {
            layer: Layer::before(emulator.host()),
            project: emulator.project("reading"),
            emulator,
            listener: Arc::default(),
        })
    }

    /// The configuration of a source, with more settings.
    pub fn config(&self, mut settings: Json) -> Json {
        settings["project"] = json!(self.project);
        settings["host"] = json!(self.layer.host());
        settings
    }

    pub fn source(&self, settings: Json) -> ForeignSource {
        let host = Arc::clone(&self.listener);
        local::<WhimbrelPlugin>()
            .open_source(&self.config(settings), host, Validation::Full)
            .unwrap()
    }

    /// Writes documents, each with its own fields, without asking whimbrel or the layer. The instant of the last commit.
    pub fn put(&self, documents: impl IntoIterator<Item = (String, Json)>) -> String {
        let writes: Vec<Json> = documents
            .into_iter()
            .map(|(path, fields)| {
                json!({ "update": { "name": document_name(&self.project, &path), "fields": fields } })
            })
            .collect();
        let mut answer = String::new();
        for some in writes.chunks(WRITES_MAX) {
            answer = self.emulator.commit(&self.project, &json!(some).to_string());
        }
        let answer: Json = answer.parse().unwrap();
        answer["commitTime"].as_str().unwrap().to_owned()
    }

    /// Writes documents with the one field `n`, their number.
    pub fn put_numbered(&self, paths: impl IntoIterator<Item = String>) -> String {
        let numbered = paths.into_iter().enumerate();
        self.put(
            numbered.map(|(number, path)| (path, json!({ "n": { "integerValue": number.to_string() } }))),
        )
    }

    /// Everything that `request` gives, from a source opened for it.
    pub fn read(&self, settings: Json, request: &ReadRequest) -> Result<Reading> {
        read_to_end(self.source(settings).read(request)?)
    }
}

/// What a stream delivered.
#[derive(Default)]
pub struct Reading {
    pub schemas: Vec<Arc<Schema>>,
    pub batches: Vec<Batch>,
    pub records: Vec<Record>,
    pub rejected: Vec<RejectedRecord>,
    /// The last cursor, of a batch or a heartbeat.
    pub cursor: Cursor,
}

impl Reading {
    /// The ids of the documents, in the order in which they came.
    pub fn ids(&self) -> Vec<String> {
        self.texts("__id__")
    }

    pub fn texts(&self, field: &str) -> Vec<String> {
        let text = |record: &Record| match &record[field] {
            whimbrel_plugin_api::acceptance::Value::Text(text) => text.clone(),
            other => panic!("`{field}` is {other:?}"),
        };
        self.records.iter().map(text).collect()
    }

    /// The instants of the batches, each once, in order.
    pub fn snapshots(&self) -> Vec<String> {
        let mut snapshots: Vec<String> = self
            .batches
            .iter()
            .map(|batch| batch.facts.snapshot.clone().unwrap())
            .collect();
        snapshots.dedup();
        snapshots
    }
}

/// Reads to the end.
pub fn read_to_end(mut stream: Box<dyn RecordStream>) -> Result<Reading> {
    let mut reading = Reading::default();
    while read_item(&mut *stream, &mut reading)? {}
    Ok(reading)
}

/// Reads one item; `false` at the end.
pub fn read_item(stream: &mut dyn RecordStream, reading: &mut Reading) -> Result<bool> {
    match stream.next()? {
        Item::Schema(schema) => reading.schemas.push(schema),
        Item::Batch(batch) => {
            reading.records.extend(records(&batch));
            reading.cursor = batch.facts.cursor.clone();
            reading.batches.push(batch);
        }
        Item::Rejected(rejected) => reading.rejected.extend(rejected),
        Item::Heartbeat { cursor } => reading.cursor = cursor,
        Item::End => return Ok(false),
        other => panic!("an unexpected item: {other:?}"),
    }
    Ok(true)
}

/// A request in batches of so many records.
pub fn in_batches(collection: &str, records_max: usize) -> ReadRequest {
    ReadRequest {
        batch: BatchBounds {
            records_max,
            ..BatchBounds::default()
        },
        ..ReadRequest::all(collection)
    }
}

/// `users/000`, `users/001` and so on.
pub fn numbered(collection: &str, count: usize) -> Vec<String> {
    (0..count)
        .map(|number| format!("{collection}/{number:05}"))
        .collect()
}
